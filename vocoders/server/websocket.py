"""One utterance over a WebSocket: mel frames in, audio out, both as they come."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.io.audio import to_pcm
from vocoders.server.requests import Limits, Refused, convert
from vocoders.server.scheduler import Utterance

log = logging.getLogger("uvicorn.error")

# Close codes of RFC 6455
_DONE, _UNSUITABLE, _TOO_SLOW, _TOO_MUCH, _DEFECT = 1000, 1007, 1008, 1009, 1011


class _End(Exception):
    """Why the conversation ends early."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


async def converse(websocket: WebSocket, utterance: Utterance, mel_config: MelConfig | None, limits: Limits) -> None:
    """From the handshake to the closing.

    The client sends binary messages of whole frames, little-endian float32 (frames, n_mels), and the text ``end``
    after the last. The server sends a text message first, JSON with ``sample_rate``, ``n_mels`` and ``lookahead``,
    then binary messages of little-endian 16-bit samples, and closes with code 1000 after the last. What goes wrong is
    said in a text message, JSON with ``detail``, and closed with another code.

    Raises Refused, before the handshake, for frames of another mel config ``mel_config``.
    """
    voice = utterance.voice
    convert(np.zeros((voice.mel_config.n_mels, 1), np.float32), mel_config, voice)
    await websocket.accept()
    hello = {
        "sample_rate": voice.mel_config.sample_rate,
        "n_mels": voice.mel_config.n_mels,
        "lookahead": voice.lookahead,
    }
    listening = asyncio.create_task(_listen(websocket, utterance, mel_config, limits))
    speaking = asyncio.create_task(_speak(websocket, utterance, hello, limits))
    try:
        done, _ = await asyncio.wait({listening, speaking}, timeout=limits.session, return_when=asyncio.FIRST_COMPLETED)
        await _stop(listening, speaking)
        if not done:
            raise _End(_TOO_SLOW, f"the stream took longer than {limits.session:g} s")
        first = speaking if speaking in done else listening  # listening never ends well, and speaking ends last
        first.result()
        await websocket.close(_DONE)
    except WebSocketDisconnect:
        pass
    except _End as end:
        await _close(websocket, end.code, str(end))
    except (VocoderError, Refused) as error:
        await _close(websocket, _UNSUITABLE, str(error))
    except Exception:
        log.exception("a stream failed")
        await _close(websocket, _DEFECT, "the synthesis failed; the server's log says more")
    finally:
        await _stop(listening, speaking)


async def _stop(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _listen(websocket: WebSocket, utterance: Utterance, mel_config: MelConfig | None, limits: Limits) -> None:
    """Frames until the client says that they end, then only whether it is still there."""
    voice = utterance.voice
    n_mels, frames, over = voice.mel_config.n_mels, 0, False
    while True:
        try:
            message = await asyncio.wait_for(websocket.receive(), None if over else limits.patience)
        except asyncio.TimeoutError:
            raise _End(_TOO_SLOW, f"no frames came for {limits.patience:g} s") from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1006))
        text, data = message.get("text"), message.get("bytes") or b""
        if over:
            raise _End(_UNSUITABLE, "the frames were over, with the message 'end'; another utterance is another stream")
        if text == "end":
            over = True
            utterance.end()
            continue
        if text is not None or len(data) % (4 * n_mels):
            raise _End(
                _UNSUITABLE,
                f"expected whole frames of {n_mels} float32 each, {4 * n_mels} bytes, or the text 'end'; "
                f"got {f'{len(data)} bytes' if text is None else f'the text {text[:40]!r}'}",
            )
        if not data:
            continue
        mel = np.frombuffer(data, "<f4").reshape(-1, n_mels).T
        frames += mel.shape[1]
        if voice.seconds(frames) > limits.seconds:
            raise _End(_TOO_MUCH, f"the stream is longer than {limits.seconds:g} s")
        utterance.feed(convert(mel, mel_config, voice))
        await utterance.caught_up()


async def _speak(websocket: WebSocket, utterance: Utterance, hello: dict[str, int | None], limits: Limits) -> None:
    try:
        await asyncio.wait_for(websocket.send_json(hello), limits.patience)
        async for audio in utterance.audio():
            await asyncio.wait_for(websocket.send_bytes(to_pcm(audio).tobytes()), limits.patience)
    except asyncio.TimeoutError:
        raise _End(_TOO_SLOW, f"the client took nothing for {limits.patience:g} s") from None


async def _close(websocket: WebSocket, code: int, sentence: str) -> None:
    """Say why, to a client that may have gone or stopped to listen."""

    async def say() -> None:
        await websocket.send_json({"detail": sentence})
        await websocket.close(code)

    with contextlib.suppress(WebSocketDisconnect, RuntimeError, asyncio.TimeoutError):
        await asyncio.wait_for(say(), 5)
