"""One utterance over a WebSocket: audio is sent while frames arrive."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Sequence

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.inference.checks import prepare_mel
from vocoders.inputs import accepted, constants_of, required
from vocoders.io.audio import to_pcm
from vocoders.server.requests import Limits
from vocoders.server.utterance import Utterance

MAX_MESSAGE = 2**20
"""Bytes of one WebSocket message."""

log = logging.getLogger("uvicorn.error")

# Close codes of RFC 6455, section 7.4.1
_NORMAL, _INVALID_DATA, _POLICY_VIOLATION, _TOO_BIG, _INTERNAL_ERROR = 1000, 1007, 1008, 1009, 1011


class _Close(Exception):
    """End of a stream: close code and reason."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class StreamSession:
    """Exchange of messages with one client, as docs/serving.md describes.

    ``mel_config`` is that of the frames. A frame is the mel, then each signal in ``inputs``; ``given`` names the
    optional ones. A text message with the utterance-rate inputs, if any, precedes the frames.
    """

    def __init__(
        self, websocket: WebSocket, utterance: Utterance, mel_config: MelConfig, given: Sequence[str], limits: Limits
    ) -> None:
        facts = utterance.model.vocoder.facts
        needed = [item.name for item in required(facts.inputs, facts.estimated)]
        self._facts = facts
        self._constants = [name for name in needed if name in constants_of(facts.inputs, dict.fromkeys(needed))]
        self._signals = [item for item in accepted(facts.inputs) if item.is_signal and item.name in (*given, *needed)]
        self._websocket = websocket
        self._utterance = utterance
        self._mel_config = mel_config
        self._limits = limits

    async def run(self) -> None:
        """Serve the client from handshake to close."""
        await self._websocket.accept()
        receiving = asyncio.create_task(self._receive_frames())
        sending = asyncio.create_task(self._send_audio())
        try:
            timeout = self._limits.session_timeout
            done, _ = await asyncio.wait({receiving, sending}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            await _cancel(receiving, sending)
            if not done:
                raise _Close(_POLICY_VIOLATION, f"the stream took longer than {timeout:g} s")
            # Receiving ends only by an exception; the result of sending comes first.
            (sending if sending in done else receiving).result()
            await self._websocket.close(_NORMAL)
        except WebSocketDisconnect:
            pass
        except _Close as close:
            await self._close(close.code, str(close))
        except VocoderError as error:
            await self._close(_INVALID_DATA, str(error))
        except Exception:
            log.exception("a stream failed")
            await self._close(_INTERNAL_ERROR, "the synthesis failed because of a defect of the server, see its log")
        finally:
            await _cancel(receiving, sending)

    async def _receive_frames(self) -> None:
        """Receive frames until ``end``, then wait for the disconnect."""
        limits, frames, ended = self._limits, 0, False
        while True:
            try:
                message = await asyncio.wait_for(self._websocket.receive(), None if ended else limits.timeout)
            except TimeoutError:
                raise _Close(_POLICY_VIOLATION, f"no frames came for {limits.timeout:g} s") from None
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1006))
            if ended:
                raise _Close(_INVALID_DATA, "a message came after 'end'; another utterance needs another stream")
            text, data = message.get("text"), message.get("bytes") or b""
            if text == "end":
                if not frames:
                    raise _Close(_INVALID_DATA, "the stream ended before its first frame")
                ended = True
                self._utterance.finish()
                continue
            if text is not None and not frames and text.lstrip().startswith("{"):
                self._take_constants(text)
                continue
            values = self._decode(text, data)
            if not len(values):
                continue
            frames += len(values)
            if self._utterance.model.seconds(frames) > limits.max_seconds:
                raise _Close(_TOO_BIG, f"the stream is longer than {limits.max_seconds:g} s")
            self._push(values)
            await self._utterance.wait_for_room()

    def _decode(self, text: str | None, data: bytes) -> np.ndarray:
        """Decode a message to frames (frames, values)."""
        if len(data) > MAX_MESSAGE:  # Ray Serve does not limit messages
            raise _Close(_TOO_BIG, f"the message has more than {MAX_MESSAGE} bytes; send fewer frames at once")
        size = self._facts.samples_per_frame
        count = self._facts.mel_config.n_mels + sum(item.channels * item.columns(1, size) for item in self._signals)
        if text is not None or len(data) % (4 * count):
            got = f"{len(data)} bytes" if text is None else f"the text {text[:40]!r}"
            raise _Close(
                _INVALID_DATA,
                f"expected whole frames of {count} float32 each, {4 * count} bytes, or the text 'end'; got {got}",
            )
        return np.frombuffer(data, "<f4").reshape(-1, count)

    def _push(self, values: np.ndarray) -> None:
        """Validate and convert frames, and push them."""
        if missing := [name for name in self._constants if name not in self._utterance.constants]:
            raise VocoderError(
                f"this model needs {missing[0]} before the first frame; send it as a text message, "
                f'{{"{missing[0]}": [...]}}'
            )
        target, begin, signals = self._facts.mel_config, self._facts.mel_config.n_mels, {}
        mel = prepare_mel(values[:, :begin].T, target, self._mel_config).values
        for item in self._signals:
            columns = item.columns(1, self._facts.samples_per_frame)
            block = values[:, begin : begin + item.channels * columns].reshape(len(values), item.channels, columns)
            begin += item.channels * columns
            signals[item.name] = block.swapaxes(0, 1).reshape(item.channels, -1)
        self._utterance.push(mel, self._utterance.model.vocoder.check_inputs(signals, 1, len(values)))

    def _take_constants(self, text: str) -> None:
        """Read the utterance-rate inputs of a message."""
        try:
            named = {name: np.array(value, np.float64) for name, value in json.loads(text).items()}
        except (ValueError, TypeError, OverflowError, RecursionError):
            raise VocoderError("expected a JSON object of lists of numbers, before the first frame") from None
        self._utterance.constants |= constants_of(
            self._facts.inputs, self._utterance.model.vocoder.check_inputs(named, 1, 0)
        )

    async def _send_audio(self) -> None:
        facts, timeout = self._facts, self._limits.timeout
        given = [item.name for item in self._signals]
        hello = {
            "sample_rate": facts.sample_rate,
            "channels": facts.channels,
            "n_mels": facts.mel_config.n_mels,
            "inputs": given,
            "lookahead": facts.lookahead_with(given),
        }
        if warning := self._utterance.model.vocoder.approximation:
            hello["warning"] = warning
        try:
            await asyncio.wait_for(self._websocket.send_json(hello), timeout)
            async for audio in self._utterance.audio():
                await asyncio.wait_for(self._websocket.send_bytes(to_pcm(audio).tobytes()), timeout)
        except TimeoutError:
            raise _Close(_POLICY_VIOLATION, f"the client took no audio for {timeout:g} s") from None

    async def _close(self, code: int, detail: str) -> None:
        """Close with a code and reason; the client may be gone."""

        async def send() -> None:
            await self._websocket.send_json({"detail": detail})
            await self._websocket.close(code)

        with contextlib.suppress(WebSocketDisconnect, RuntimeError, asyncio.TimeoutError):
            await asyncio.wait_for(send(), 5)


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
