"""Vocoder: the model of a checkpoint, run by torch."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from vocoders.checkpoint import Checkpoint, describe
from vocoders.dsp.harmonics import frame_phase
from vocoders.dsp.stft import float32_weights
from vocoders.errors import CheckpointError, VocoderError
from vocoders.f0_estimator import BaseF0Estimator
from vocoders.inference.base import BaseVocoder
from vocoders.inference.batching import Window, group_by_length, synthesize_group
from vocoders.inference.synthesis import Precision, Synthesis, check_finite, check_precision
from vocoders.inputs import F0, PHASE, Values, check_given, cut, draw, fill_constants
from vocoders.streaming.incremental import Incremental


class Vocoder(BaseVocoder):
    """Model of a checkpoint, run by torch; its methods are those of ``BaseVocoder``.

    Attributes:
        generator: the network.
        f0_estimator: in float64; None in checkpoints without one.
    """

    backend = "torch"

    @float32_weights()
    def __init__(self, checkpoint: Checkpoint, name: str = "", precision: Precision = "float32") -> None:
        """Make a vocoder on the device of the checkpoint's generator.

        Args:
            checkpoint: the model. Its generator is shared, its F0 estimator copied.
            name: the name given to ``load``.
            precision: of the generator; F0 and phase are always float64.

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
            # In float64: rounding that depends on the batch or chunk would add up in the phase.
            self.f0_estimator = copy.deepcopy(checkpoint.f0_estimator).eval().double()
        self.facts = describe(checkpoint)

    @property
    def device(self) -> torch.device:
        """Device of the generator."""
        return next(self.generator.parameters()).device

    @property
    def chunk_frames(self) -> int | None:
        if self.facts.lookahead is None:
            return None
        # A chunk should fit a CPU's cache; a GPU wants fewer kernel launches.
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

    def start(self, seeds: Sequence[int], given: Collection[str] = (), constants: Values | None = None) -> Synthesis:
        return TorchSynthesis(self, seeds, given, constants)

    def estimates(self, mel: Tensor) -> Tensor:
        """Estimate F0 in Hz, 0 = unvoiced: (batch, n_mels, frames) -> float32 (batch, 1, frames)."""
        assert self.f0_estimator is not None  # see ``facts.estimated``
        return self.f0_estimator.estimate(mel)

    @torch.inference_mode()
    def _estimate(self, mel: np.ndarray) -> np.ndarray:
        return self.estimates(to_device(mel, self.device)[None])[0, 0].numpy(force=True)

    def generate(self, mel: Tensor, **values: Tensor | None) -> Tensor:
        """Run the networks once.

        Args:
            mel: float32 (batch, n_mels, frames), on ``device``.
            values: inputs by name, (batch, channels, length). Missing F0 is estimated; a missing phase is 0.

        Returns:
            float32 (batch, channels, samples).
        """
        inputs = {item.name: values.get(item.name) for item in self.facts.inputs}
        inputs |= {name: self.estimates(mel) for name in self.facts.estimated if inputs[name] is None}
        with torch.autocast(mel.device.type, torch.bfloat16, self.precision == "bfloat16"):
            return self.generator.synthesize(mel, **inputs)

    @torch.inference_mode()
    def run(self, mel: np.ndarray, values: Values) -> tuple[np.ndarray, Values]:
        mels = torch.from_numpy(mel).to(self.device)
        inputs = {name: torch.from_numpy(value).to(self.device) for name, value in values.items()}
        used = {name: inputs[name] for name in self.facts.estimated}
        for name, value in used.items():
            if bool((value < 0).any()):
                inputs[name] = used[name] = torch.where(value < 0, self.estimates(mels), value)
        audio = self.generate(mels, **inputs)
        return audio.numpy(force=True), {name: value.numpy(force=True) for name, value in used.items()}

    def _batch(self, mels: Sequence[np.ndarray], values: Sequence[Values], seeds: Sequence[int]) -> list[np.ndarray]:
        audio: dict[int, np.ndarray] = {}
        lookahead, context = self.facts.lookahead, self.facts.context
        reach = None if lookahead is None or context is None else lookahead + context
        for group in group_by_length([mel.shape[1] for mel in mels], self.frames_at_once, reach):
            parts = [mels[i] for i in group], [values[i] for i in group], [seeds[i] for i in group]
            audio |= zip(group, self._each(*parts) if len(group) == 1 else self._group(*parts), strict=True)
        return [audio[index] for index in range(len(mels))]

    @torch.inference_mode()
    def _group(self, mels: Sequence[np.ndarray], values: Sequence[Values], seeds: Sequence[int]) -> list[np.ndarray]:
        """Synthesise utterances of similar lengths, shortest first, in one or two passes."""
        utterances = [_Utterance(self, *item) for item in zip(mels, values, seeds, strict=True)]

        def run(windows: list[Window]) -> np.ndarray:
            parts = [utterances[index].window(first, end) for index, first, end in windows]
            inputs = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
            return self.with_channels(check_finite(self.generate(**inputs).numpy(force=True)))

        facts, lengths = self.facts, [mel.shape[1] for mel in mels]
        return synthesize_group(lengths, facts.context or 0, facts.lookahead or 0, facts.samples_per_frame, run)


class TorchSynthesis(Synthesis):
    backend: Vocoder

    def __init__(
        self, vocoder: Vocoder, seeds: Sequence[int], given: Collection[str] = (), constants: Values | None = None
    ) -> None:
        super().__init__(vocoder, seeds, given, constants)
        held = {name: to_device(value, vocoder.device) for name, value in self.constants.items()}
        self._names = [item.name for item in self.facts.inputs if item.is_signal]

        def generate(mel: Tensor, *signals: Tensor | None) -> Tensor:
            return vocoder.generate(mel, **dict(zip(self._names, signals, strict=True)), **held)

        self._network = Incremental(generate, owner=vocoder.generator)

    @torch.inference_mode()
    def _advance(self, mel: np.ndarray, signals: Values, last: bool) -> np.ndarray:
        device, frames = self.backend.device, mel.shape[-1]
        mels = to_device(mel, device)
        values = {name: to_device(value, device) for name, value in signals.items()}
        audio = []
        for piece in self.backend.pieces(frames):
            drawn = self.drawn(self.frames + piece.start, self.frames + piece.stop)
            pieces = self.backend.cut(values, piece.start, piece.stop)
            pieces |= {name: to_device(value, device).expand(len(mel), -1, -1) for name, value in drawn.items()}
            end = last and piece.stop == frames
            audio.append(self._network(mels[..., piece], *map(pieces.get, self._names), last=end))
        # Fetched once, so that a GPU does not wait between the pieces.
        return torch.cat(audio, -1).numpy(force=True)


class _Utterance:
    """Inputs of the generator for one utterance, on its device."""

    def __init__(self, vocoder: Vocoder, mel: np.ndarray, values: Values, seed: int) -> None:
        facts, device = vocoder.facts, vocoder.device
        check_given(facts.inputs, facts.estimated, values)
        self.vocoder = vocoder
        self.mel = to_device(mel, device)[None]
        samples = mel.shape[1] * facts.samples_per_frame
        filled = fill_constants(facts.inputs, values, 1) | draw(facts.inputs, values, 0, samples, [seed])
        self.values = {name: to_device(value, device) for name, value in filled.items()}
        self.values |= {name: vocoder.estimates(self.mel) for name in facts.estimated if name not in values}
        self.phase: Tensor | None = None  # at the start of each frame
        if PHASE in facts.inputs:
            phase = frame_phase(self.values[F0.name], facts.mel_config, facts.next_f0_share)
            self.phase = phase + self.values[PHASE.name].to(phase.device)

    def window(self, first: int, end: int) -> dict[str, Tensor]:
        """Return mel and inputs of the frames ``first`` to ``end``."""
        facts = self.vocoder.facts
        values = cut(facts.inputs, self.values, first, end, facts.samples_per_frame)
        if self.phase is not None:
            values[PHASE.name] = self.phase[..., first : first + 1]
        return values | {"mel": self.mel[..., first:end]}


def to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """Copy an array to a device."""
    values = torch.from_numpy(array)
    if device.type == "cuda":  # unpinned memory would block the CPU
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)
