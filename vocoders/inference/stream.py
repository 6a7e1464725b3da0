"""Synthesis of utterances that come in pieces, equal to that of the whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vocoders.errors import VocoderError
from vocoders.inference.checks import CANNOT_STREAM, STREAM_EMPTY, STREAM_OVER
from vocoders.inference.synthesis import Continuation

if TYPE_CHECKING:
    from vocoders.inference.vocoder import Vocoder


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
            mel: (n_mels, frames), numpy or torch, at least one frame, in the mel config of the vocoder.
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
        return self._advance(torch.empty(self.vocoder.mel_config.n_mels, 0), last=True)

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
