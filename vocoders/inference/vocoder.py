"""Vocoder: the model of a checkpoint, run by torch."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vocoders.checkpoint import Checkpoint
from vocoders.dsp.harmonics import frame_phase
from vocoders.dsp.noise import white_noise
from vocoders.dsp.stft import float32_weights
from vocoders.errors import CheckpointError, VocoderError
from vocoders.f0_estimator import BaseF0Estimator
from vocoders.generators import generator_name
from vocoders.inference.base import BaseVocoder
from vocoders.inference.batching import Window, group_by_length, synthesize_group
from vocoders.inference.synthesis import Precision, Synthesis, check_finite, check_precision
from vocoders.streaming.incremental import Incremental


class Vocoder(BaseVocoder):
    """Model of a checkpoint, run by torch. ``load`` makes one; its methods are those of ``BaseVocoder``.

    Attributes:
        generator: the network.
        f0_estimator: the network that estimates F0 from the mel, in float64; None in checkpoints without one.
    """

    backend = "torch"

    @float32_weights()
    def __init__(self, checkpoint: Checkpoint, name: str = "", precision: Precision = "float32") -> None:
        """Make a vocoder of a checkpoint, on the device where its generator is.

        Args:
            checkpoint: the model. Its generator is used, not copied; its F0 estimator is copied.
            name: the name given to ``load``.
            precision: floating-point type in which the generator multiplies; F0 and phase are always computed in
                float64.

        Raises:
            CheckpointError: when the checkpoint holds no generator.
            VocoderError: for an unknown precision.
        """
        check_precision(precision)
        if checkpoint.generator is None:
            raise CheckpointError(f"{name or 'the checkpoint'} holds no generator, only an F0 estimator")
        self.name = name
        self.precision: Precision = precision
        self.generator = checkpoint.generator.eval()
        self.f0_estimator: BaseF0Estimator | None = None
        if checkpoint.f0_estimator is not None:
            # In float64: rounding that depends on the size of a batch or of a chunk would add up in the phase.
            self.f0_estimator = copy.deepcopy(checkpoint.f0_estimator).eval().double()
        self.mel_config = checkpoint.mel_config
        self.training = checkpoint.training
        self.stated_lag = checkpoint.lag

    @property
    def device(self) -> torch.device:
        """Device that the generator is on."""
        return next(self.generator.parameters()).device

    @property
    def architecture(self) -> tuple[str, dict[str, Any]]:
        return generator_name(self.generator), self.generator.config.model_dump(mode="json")

    @property
    def uses_f0(self) -> bool:
        return self.generator.uses_f0

    @property
    def uses_noise(self) -> bool:
        return self.generator.uses_noise

    @property
    def estimates_f0(self) -> bool:
        return self.uses_f0 and self.f0_estimator is not None

    @property
    def receptive_field(self) -> int | None:
        return self.generator.receptive_field

    @property
    def f0_receptive_field(self) -> int:
        return self.f0_estimator.receptive_field if self.uses_f0 and self.f0_estimator is not None else 0

    @property
    def next_f0_share(self) -> float:
        return self.generator.next_f0_share

    @property
    def chunk_frames(self) -> int | None:
        if self.receptive_field is None:
            return None
        # A CPU is faster while a chunk fits its cache; a GPU loses time at each launch of a kernel.
        return self.generator.chunk_frames * (1 if self.device.type == "cpu" else 4)

    @property
    def batching_pays(self) -> bool:
        """Whether the model is on a GPU, which one utterance leaves partly idle."""
        return self.device.type != "cpu"

    @float32_weights()
    def to(self, device: str | torch.device) -> Vocoder:
        """Move to a device, such as "cuda".

        Raises:
            VocoderError: when the device cannot be used.
        """
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

    def start(self, seeds: Sequence[int], given_f0: bool = False) -> Synthesis:
        return TorchSynthesis(self, seeds, given_f0)

    def estimate_f0(self, mel: Tensor) -> Tensor:
        """Estimate F0 from a log-mel (batch, n_mels, frames) -> float32 (batch, 1, frames) in Hz, 0 = unvoiced.

        Raises:
            VocoderError: when the model has no F0 estimator.
        """
        if self.f0_estimator is None:
            raise VocoderError("this model has no estimator of F0")
        return self.f0_estimator.estimate(mel)

    def generate(
        self, mel: Tensor, f0: Tensor | None = None, noise: Tensor | None = None, phase: Tensor | None = None
    ) -> Tensor:
        """Run the networks once, in the precision of the vocoder.

        Args:
            mel: float32 (batch, n_mels, frames), on ``device``.
            f0: (batch, 1, frames) in Hz, 0 = unvoiced; estimated where it is needed and not given.
            noise: (batch, 1, frames * hop_length), for generators that use noise.
            phase: phase of the first harmonic at the first sample, (batch, 1, 1), in cycles; 0 when not given.

        Returns:
            float32 (batch, 1, frames * hop_length).
        """
        if self.uses_f0 and f0 is None:
            f0 = self.estimate_f0(mel)
        with torch.autocast(mel.device.type, torch.bfloat16, self.precision == "bfloat16"):
            return self.generator.synthesize(mel, f0, noise, phase)

    @torch.inference_mode()
    def run(
        self, mel: np.ndarray, f0: np.ndarray, noise: np.ndarray | None, phase: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        mels, track, start = (torch.from_numpy(values).to(self.device) for values in (mel, f0, phase))
        if self.estimates_f0 and (f0 < 0).any():
            track = torch.where(track < 0, self.estimate_f0(mels), track)
        audio = self.generate(mels, track, None if noise is None else torch.from_numpy(noise).to(self.device), start)
        return audio.numpy(force=True), track.numpy(force=True)

    def _batch(
        self, mels: Sequence[np.ndarray], f0s: Sequence[np.ndarray | None], seeds: Sequence[int]
    ) -> list[np.ndarray]:
        audio: dict[int, np.ndarray] = {}
        for group in group_by_length([mel.shape[1] for mel in mels], self.frames_at_once, self.receptive_field):
            parts = [mels[i] for i in group], [f0s[i] for i in group], [seeds[i] for i in group]
            audio |= zip(group, self._each(*parts) if len(group) == 1 else self._group(*parts), strict=True)
        return [audio[index] for index in range(len(mels))]

    @torch.inference_mode()
    def _group(
        self, mels: Sequence[np.ndarray], f0s: Sequence[np.ndarray | None], seeds: Sequence[int]
    ) -> list[np.ndarray]:
        """Synthesise utterances of similar lengths, the shortest first, in one or two passes."""
        utterances = [_Utterance(self, *item) for item in zip(mels, f0s, seeds, strict=True)]

        def run(windows: list[Window]) -> np.ndarray:
            inputs = zip(*(utterances[index].window(first, end) for index, first, end in windows), strict=True)
            mel, *rest = (None if parts[0] is None else torch.cat(parts) for parts in inputs)
            assert mel is not None
            return check_finite(self.generate(mel, *rest)[:, 0].numpy(force=True))

        lengths = [mel.shape[1] for mel in mels]
        return synthesize_group(lengths, self.receptive_field or 0, self.mel_config.hop_length, run)


class TorchSynthesis(Synthesis):
    """Synthesis of a batch of utterances by torch."""

    def __init__(self, vocoder: Vocoder, seeds: Sequence[int], given_f0: bool) -> None:
        super().__init__(vocoder, seeds, given_f0)
        self._vocoder = vocoder
        self._network = Incremental(vocoder.generate, owner=vocoder.generator)

    @torch.inference_mode()
    def _advance(self, mel: np.ndarray, f0: np.ndarray | None, last: bool) -> np.ndarray:
        device, frames = self._vocoder.device, mel.shape[-1]
        mels = to_device(mel, device)
        track = None if f0 is None else to_device(f0, device)
        audio = []
        for piece in self._vocoder.pieces(frames):
            noise = None
            if self._vocoder.uses_noise:
                drawn = self.noise(self.frames + piece.start, self.frames + piece.stop)
                noise = to_device(drawn, device).expand(len(mel), 1, -1)
            piece_f0 = None if track is None else track[..., piece]
            audio.append(self._network(mels[..., piece], piece_f0, noise, last=last and piece.stop == frames))
        # Only now is the audio fetched: a GPU does not wait for the processor between the pieces.
        return torch.cat(audio, -1).squeeze(1).numpy(force=True)


class _Utterance:
    """Inputs of the generator for one utterance, (1, ..., frames or samples), on its device."""

    def __init__(self, vocoder: Vocoder, mel: np.ndarray, f0: np.ndarray | None, seed: int) -> None:
        vocoder.check_f0(given=f0 is not None)
        device, self.hop_length = vocoder.device, vocoder.mel_config.hop_length
        self.mel = to_device(mel, device)[None]
        self.f0: Tensor | None = None
        self.phase: Tensor | None = None
        self.noise: Tensor | None = None
        if vocoder.uses_f0:
            self.f0 = vocoder.estimate_f0(self.mel) if f0 is None else to_device(f0, device)
            self.phase = frame_phase(self.f0, vocoder.mel_config, vocoder.generator.next_f0_share)
        if vocoder.uses_noise:
            noise = white_noise(0, self.mel.shape[-1] * self.hop_length, seed)
            self.noise = to_device(noise, device)[None, None]

    def window(self, first: int, end: int) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """Return mel, F0, noise and phase for the frames ``first`` to ``end``."""
        return (
            self.mel[..., first:end],
            None if self.f0 is None else self.f0[..., first:end],
            None if self.noise is None else self.noise[..., first * self.hop_length : end * self.hop_length],
            None if self.phase is None else self.phase[..., first : first + 1],
        )


def to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """Return the values of an array on a device."""
    values = torch.from_numpy(array)
    if device.type == "cuda":  # from memory that is not pinned, the processor would wait for the copy
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)
