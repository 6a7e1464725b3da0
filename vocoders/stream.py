"""Synthesis of utterances that come in pieces, equal to that of the whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vocoders.errors import VocoderError
from vocoders.incremental import Incremental
from vocoders.inputs import CANNOT_STREAM, NOT_FINITE, STREAM_EMPTY, STREAM_OVER
from vocoders.noise import white_noise

if TYPE_CHECKING:
    from vocoders.vocoder import Vocoder


class Continuation:
    """A batch of utterances, as far as synthesised: what they need to go on."""

    def __init__(self, vocoder: Vocoder, seed: int) -> None:
        self.vocoder = vocoder
        self.seed = seed
        self.frames = 0  # that have come
        self._network = Incremental(partial(_audio, vocoder))  # not of self: a cycle would keep memory for a while

    def __call__(self, mel: Tensor, f0: Tensor | None = None, last: bool = False) -> Tensor:
        """The next frames, with ``last`` the last ones -> float32 (batch, samples): all audio that is final now.

        Args:
            mel: float32 (batch, n_mels, frames), of any number of frames.
            f0: (batch, 1, frames), or None in every call: estimated where the generator needs it.
        Raises: VocoderError when the model needs f0 and has no estimator, or gives what is not finite.
        """
        generator, hop = self.vocoder.generator, self.vocoder.mel_spec.hop_length
        batch, _, frames = mel.shape
        limit = self.vocoder.chunk_frames
        chunk = max(frames, 1) if limit is None or frames <= 2 * limit else limit
        audio = []
        for begin in range(0, max(frames, 1), chunk):
            count = min(chunk, frames - begin)
            noise = None
            if generator.uses_noise:
                drawn = white_noise(self.frames * hop, (self.frames + count) * hop, self.seed)
                noise = torch.from_numpy(drawn).to(mel.device).expand(batch, 1, -1)
            here = slice(begin, begin + count)
            audio.append(
                self._network(
                    mel[..., here], None if f0 is None else f0[..., here], noise, last=last and begin + count == frames
                )
            )
            self.frames += count
        joined = torch.cat(audio, -1).squeeze(1)
        if not torch.isfinite(joined).all():
            raise VocoderError(NOT_FINITE)
        return joined


def _audio(vocoder: Vocoder, mel: Tensor, f0: Tensor | None, noise: Tensor | None) -> Tensor:
    generator = vocoder.generator
    if generator.uses_f0 and f0 is None:
        f0 = vocoder.estimator.estimate(mel)
    with torch.autocast(mel.device.type, torch.bfloat16, vocoder.precision == "bf16"):
        return generator.synthesize(mel, f0, noise, None)


class Stream:
    """One utterance, synthesised while its frames arrive.

    What ``push`` and ``finish`` return, joined, is what ``voc(mel, seed=seed)`` returns for the whole mel, to rounding.
    Memory does not grow with the length. A stream belongs to one thread at a time; different streams of a vocoder may
    run in different ones.
    """

    def __init__(self, vocoder: Vocoder, seed: int | None = None) -> None:
        """Raises VocoderError when the model cannot stream."""
        generator = vocoder.generator
        context = generator.receptive_field
        if context is None:
            raise VocoderError(CANNOT_STREAM)
        self.vocoder = vocoder
        # Frames that must follow a frame, at most, before all of its audio is final.
        self.lookahead: int = context + (vocoder.estimator.receptive_field if generator.uses_f0 else 0)
        self._continuation: Continuation | None = Continuation(vocoder, seed or 0)  # None when it is over
        self._device: torch.device | None = None  # of the last mel; None for numpy

    def push(self, mel: Any) -> Any:
        """The next frames of the log-mel -> the audio that is final now, perhaps none.

        Args:
            mel: (n_mels, frames), numpy or torch, at least one frame, in the convention of the vocoder.
        Returns: float32 (samples,), of the kind and on the device of the mel.
        Raises: VocoderError for a mel that does not fit, after which the stream goes on as if it had not come, and
            for a stream that is over.
        """
        values = self.vocoder.check_mel(mel)
        if values.dim() != 2:
            raise VocoderError(f"a stream takes mels of (n_mels, frames), this one is {tuple(values.shape)}")
        self._device = mel.device if isinstance(mel, Tensor) else None
        return self._advance(values, last=False)

    def finish(self) -> Any:
        """The rest of the audio, of the kind of the last mel; the stream is over.

        Raises VocoderError when no frame ever came, or the stream is over already.
        """
        if self._continuation and self._continuation.frames == 0:
            raise VocoderError(STREAM_EMPTY)
        return self._advance(torch.empty(self.vocoder.mel_spec.n_mels, 0), last=True)

    def pieces(self, mel_chunks: Iterable[Any]) -> Iterator[Any]:
        """The audio of all that comes, as it becomes final, without empty pieces; the stream is over then."""
        for mel in mel_chunks:
            if len(audio := self.push(mel)):
                yield audio
        if len(audio := self.finish()):
            yield audio

    def _advance(self, mel: Tensor, last: bool) -> Any:
        continuation, self._continuation = self._continuation, None  # over, too, when something goes wrong
        if continuation is None:
            raise VocoderError(STREAM_OVER)
        with torch.inference_mode():
            audio = continuation(mel[None].to(self.vocoder.device), last=last)[0]
        if not last:
            self._continuation = continuation
        return audio.cpu().numpy() if self._device is None else audio.to(self._device).clone()
