"""Synthesis while the frames arrive, equal to that of the whole utterance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vocoders.errors import VocoderError
from vocoders.noise import white_noise
from vocoders.pitch import frame_phase

if TYPE_CHECKING:
    from vocoders.vocoder import Vocoder


class Stream:
    """One utterance, synthesised while its frames arrive.

    What ``push`` and ``finish`` return, joined, is what ``voc(mel, seed=seed)`` returns for the whole mel, to rounding.
    Memory does not grow with the length. One stream is one utterance and belongs to one thread at a time.
    """

    def __init__(self, vocoder: Vocoder, seed: int | None = None) -> None:
        """Raises VocoderError at once when the model cannot stream."""
        context = vocoder.generator.receptive_field
        if context is None:
            raise VocoderError(
                "this model cannot stream: it normalises over the whole utterance, so that the first sample depends on "
                "the last frame; synthesise whole utterances, or use one with framewise_norm"
            )
        self.vocoder = vocoder
        self.seed = seed or 0
        self._context = context
        self._pitch_context = 0
        if vocoder.generator.uses_f0:
            self._pitch_context = vocoder.estimator.receptive_field
        self._over = False
        self._numpy = True
        spec = vocoder.mel_spec
        self._mel = torch.empty(1, spec.n_mels, 0, device=vocoder.device)  # from frame _first on
        self._f0 = torch.empty(1, 1, 0, device=vocoder.device)  # from frame _first on
        self._phase = torch.zeros(1, 1, 1, dtype=torch.float64, device=vocoder.device)  # at frame _first
        self._first = 0
        self._done = 0  # frames whose audio is out

    @property
    def lookahead(self) -> int:
        """Frames that must follow a frame before its audio is final."""
        return self._context + self._pitch_context

    def push(self, mel: Any) -> Any:
        """The next frames of the log-mel -> the audio that is final now, perhaps none.

        Args:
            mel: (n_mels, frames), numpy or torch, at least one frame.
        Returns: float32 (samples,), of the kind and on the device of the mel.
        Raises: VocoderError for a mel that does not fit, after which the stream goes on as if it had not been given,
            and when the stream is over.
        """
        if self._over:
            raise VocoderError("this stream is finished; another utterance needs another stream")
        values = self.vocoder.check_mel(mel)
        if values.dim() != 2:
            raise VocoderError(f"a stream takes mels of (n_mels, frames), this one is {tuple(values.shape)}")
        self._numpy = not isinstance(mel, Tensor)
        self._mel = torch.cat([self._mel, values[None].to(self._mel.device)], -1)
        audio = self._advance(last=False)
        return audio.numpy(force=True) if self._numpy else audio.to(values.device).clone()

    def finish(self) -> Any:
        """The rest of the audio, of the kind of the last mel; the stream is over.

        Raises VocoderError when no frame was ever given.
        """
        if self._over:
            raise VocoderError("this stream is finished; another utterance needs another stream")
        if self._first + self._mel.shape[-1] == 0:
            raise VocoderError("the stream ended without a single frame")
        self._over = True
        audio = self._advance(last=True)
        return audio.numpy(force=True) if self._numpy else audio.clone()

    @torch.inference_mode()
    def _advance(self, last: bool) -> Tensor:
        """(samples,): the audio of all frames that have their context."""
        voc, hop = self.vocoder, self.vocoder.mel_spec.hop_length
        end = self._first + self._mel.shape[-1]
        if voc.generator.uses_f0:
            known = self._first + self._f0.shape[-1]
            until = end if last else max(known, end - self._pitch_context)
            if until > known:
                begin = max(self._first, known - self._pitch_context)
                found = voc.estimator.estimate(self._mel[..., begin - self._first :])
                self._f0 = torch.cat([self._f0, found[..., known - begin : until - begin]], -1)
        else:
            until = end
        ready = until if last else max(self._done, until - self._context)
        if ready == self._done:
            return self._mel.new_empty(0)
        begin = max(self._first, self._done - self._context)
        noise = phase = None
        if voc.generator.uses_noise:
            noise = torch.from_numpy(white_noise(begin * hop, until * hop, self.seed)).to(self._mel.device)[None, None]
        if voc.generator.uses_f0:
            phases = frame_phase(self._f0, voc.mel_spec) + self._phase
            phase = phases[..., begin - self._first : begin - self._first + 1]
        audio = voc.generator(
            self._mel[..., begin - self._first : until - self._first],
            f0=self._f0[..., begin - self._first :] if voc.generator.uses_f0 else None,
            noise=noise,
            phase=phase,
        )[0, 0, (self._done - begin) * hop : (ready - begin) * hop]
        if not torch.isfinite(audio).all():
            raise VocoderError(
                "the model's output is not finite: the mel's values are out of all range, or the model is damaged"
            )
        self._done = ready
        first = max(0, min(ready - self._context, until - self._pitch_context))
        if first > self._first:
            drop = first - self._first
            if voc.generator.uses_f0:
                self._phase = phases[..., drop : drop + 1].remainder(1.0)
                self._f0 = self._f0[..., drop:].clone()
            self._mel = self._mel[..., drop:].clone()
            self._first = first
        return audio
