"""Synthesis by torch of an utterance whose frames come in one or several calls."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vocoders.dsp.noise import white_noise
from vocoders.errors import VocoderError
from vocoders.inference.checks import NOT_FINITE
from vocoders.nn.streaming import Incremental

if TYPE_CHECKING:
    from vocoders.inference.vocoder import Vocoder


class Continuation:
    """A batch of utterances, as far as synthesised: what they need to go on."""

    def __init__(self, vocoder: Vocoder, seed: int) -> None:
        self.vocoder = vocoder
        self.seed = seed
        self.frames = 0  # that have come
        # Not of self: a cycle would keep memory for a while.
        self._network = Incremental(partial(_audio, vocoder), vocoder.generator)

    def __call__(self, mel: Tensor, f0: Tensor | None = None, last: bool = False) -> Tensor:
        """The next frames, with ``last`` the last ones -> float32 (batch, samples): all audio that is final now.

        Args:
            mel: float32 (batch, n_mels, frames), of any number of frames.
            f0: (batch, 1, frames), or None in every call: estimated where the generator needs it.
        Raises: VocoderError when the model needs f0 and has no estimator, or gives what is not finite.
        """
        generator, hop = self.vocoder.generator, self.vocoder.mel_config.hop_length
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
    with torch.autocast(mel.device.type, torch.bfloat16, vocoder.precision == "bfloat16"):
        return generator.synthesize(mel, f0, noise, None)
