"""Vocoder: a generator, the estimator of its F0, and the mel config they speak."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, overload

import numpy as np
import torch
from torch import Tensor

from vocoders.checkpoint import Checkpoint
from vocoders.dsp.log_mel import analyze
from vocoders.dsp.mel import MelConfig, convert_mel
from vocoders.errors import CheckpointError, VocoderError
from vocoders.f0_estimator import F0Estimator
from vocoders.inference.checks import NEEDS_F0, check_f0, check_mel, warn_about_mel
from vocoders.inference.stream import Stream
from vocoders.inference.synthesis import Continuation

Precision = Literal["float32", "bfloat16"]


class Vocoder:
    """Turns log-mel-spectrograms into audio. Made by ``load``; see ``__call__``."""

    def __init__(self, checkpoint: Checkpoint, name: str = "", precision: Precision = "float32") -> None:
        if checkpoint.generator is None:
            raise CheckpointError(f"{name or 'the checkpoint'} holds no generator, only an F0 estimator")
        self.name = name
        self.precision: Precision = precision  # of the generator; F0 and phase are float64 always
        self.generator = checkpoint.generator.eval()
        # In float64: a rounding of F0 that hangs on the size of a batch or of a chunk would add up in the phase.
        self.f0_estimator = (
            copy.deepcopy(checkpoint.f0_estimator).eval().double() if checkpoint.f0_estimator is not None else None
        )
        self.mel_config: MelConfig = checkpoint.mel_config
        self.training = checkpoint.training
        # The C library of Linux gives large blocks back to the system when they are freed, and faulting them in again
        # for the next operation took up to half of the time. Freeing one of 32 MiB teaches it to keep what it has.
        torch.empty(2**25 - 2**16, dtype=torch.uint8)

    @property
    def sample_rate(self) -> int:
        return self.mel_config.sample_rate

    @property
    def device(self) -> torch.device:
        return next(self.generator.parameters()).device

    @property
    def chunk_frames(self) -> int | None:
        """Frames that long utterances are synthesised in at a time; None where only the whole will do."""
        if self.generator.receptive_field is None:
            return None
        # A GPU has no small cache to stay in, but waits for each of many launches.
        return self.generator.chunk_frames * (1 if self.device.type == "cpu" else 4)

    def to(self, device: str | torch.device) -> Vocoder:
        """Move to a device, such as "cuda". Raises VocoderError when it is not there."""
        try:
            target = torch.device(device)
            torch.zeros(1).to(target).cpu()
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).strip().split("\n")[0]
            raise VocoderError(f"device '{device}' cannot be used here ({reason}); 'cpu' always can") from None
        self.generator.to(target)
        if self.f0_estimator is not None:
            self.f0_estimator.to("cpu" if target.type == "mps" else target)  # mps has no float64
        return self

    @overload
    def __call__(self, mel: Tensor, f0: Any = None, seed: int | None = None) -> Tensor: ...
    @overload
    def __call__(self, mel: np.ndarray, f0: Any = None, seed: int | None = None) -> np.ndarray: ...
    @overload
    def __call__(self, mel: Sequence[Any], f0: Any = None, seed: int | None = None) -> list[Any]: ...
    def __call__(self, mel: Any, f0: Any = None, seed: int | None = None) -> Any:
        """Log-mel -> audio.

        Args:
            mel: (n_mels, frames) or (batch, n_mels, frames), numpy or torch, any float dtype, in the mel config
                ``mel_config``; or a list of (n_mels, frames) of any lengths.
            f0: in Hz per frame, 0 = unvoiced: (frames,) or (batch, frames), or a list like ``mel``. Estimated from
                the mel when not given; ignored by generators that do without.
            seed: of the noise; the same seed gives the same audio, and not giving one is the seed 0. Every item of a
                batch sounds as it does alone, to rounding.
        Returns: float32 audio, (samples,) or (batch, samples) with samples = frames * hop_length, of the kind and on
            the device of the mel; a list for a list. Nominally in [-1, 1], not clipped.
        Raises: VocoderError for a mel or an f0 that does not fit. Warns with MelWarning when the values look like
            another mel config's.
        """
        if isinstance(mel, (list, tuple)):
            if f0 is not None and len(f0) != len(mel):
                raise VocoderError(f"{len(mel)} mels, but {len(f0)} f0 tracks")
            return [self(item, None if f0 is None else f0[i], seed) for i, item in enumerate(mel)]
        values = self.check_mel(mel)
        warn_about_mel(_array(values), self.mel_config)
        single = values.dim() == 2
        batch = values[None] if single else values
        track = None
        if f0 is not None:
            checked = check_f0(_array(f0), batch.shape[0], batch.shape[2], self.mel_config)
            track = torch.from_numpy(checked).to(self.device)
        with torch.inference_mode():
            audio = Continuation(self, seed or 0)(batch.to(self.device), track, last=True)
        audio = audio[0] if single else audio
        if isinstance(mel, Tensor):
            return audio.to(mel.device).clone()  # outside inference mode: a tensor like any other
        return audio.cpu().numpy()

    def stream(self, mel_chunks: Iterable[Any], seed: int | None = None) -> Iterator[Any]:
        """Audio while the frames arrive, equal to that of the whole mel.

        Args:
            mel_chunks: log-mels (n_mels, frames), numpy or torch, one after the other, of one frame or more.
            seed: as for ``__call__``.
        Yields: float32 (samples,) of the kind of the chunks, never empty; joined, they are ``voc(mel, seed=seed)``
            to rounding. See ``Stream``, which takes frames by hand.
        Raises: VocoderError for a model that cannot stream, a chunk that does not fit, or no frame at all.
        """
        return Stream(self, seed).pieces(mel_chunks)  # no generator itself: what cannot be is said at once

    def analyze(self, audio: Any, mel_config: MelConfig | None = None) -> Any:
        """Audio (..., samples) -> float32 log-mel (..., n_mels, frames) of the same kind.

        Args:
            audio: floats in [-1, 1], numpy or torch, at the sample rate of the mel config.
            mel_config: the mel config; the model's when not given.
        Raises: VocoderError for audio that is not floating-point, not finite or shorter than one frame.
        """
        return analyze(audio, mel_config or self.mel_config)

    def convert(self, mel: Any, source: MelConfig) -> Any:
        """A mel of another mel config in this model's, of the same kind. Raises MelMismatch where it cannot be."""
        return convert_mel(mel, source, self.mel_config)

    def check_mel(self, mel: Any) -> Tensor:
        """The mel as float32, (n_mels, frames) or (batch, n_mels, frames), if it fits: raises VocoderError."""
        values = check_mel(_array(mel), self.mel_config)
        return mel.detach().float() if isinstance(mel, Tensor) else torch.from_numpy(values)

    @property
    def estimator(self) -> F0Estimator:
        """Raises VocoderError when the model has none."""
        if self.f0_estimator is None:
            raise VocoderError(NEEDS_F0)
        return self.f0_estimator


def _array(values: Any) -> np.ndarray:
    if isinstance(values, Tensor):
        return (values.float() if values.is_floating_point() else values).numpy(force=True)
    return np.asarray(values)
