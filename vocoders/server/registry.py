"""The models of a server, by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.inference.base import BaseVocoder
from vocoders.inference.synthesis import BackendName
from vocoders.inputs import F0, constants_of, signals_of
from vocoders.pretrained import DEFAULT_MODEL, load

_MOST_ADAPTED = 64  # mel configs remembered for a model

F0Use = Literal["estimated", "required", "not used"]


@dataclass(frozen=True)
class ServedModel:
    """A model and its name in the query parameter ``model``."""

    name: str
    vocoder: BaseVocoder
    _adapted: dict[tuple[MelConfig, bool], ServedModel] = field(default_factory=dict, repr=False, compare=False)

    @property
    def mel_config(self) -> MelConfig:
        return self.vocoder.mel_config

    @property
    def f0(self) -> F0Use:
        """How the model gets F0; "required" if it uses F0 and has no F0 estimator."""
        facts = self.vocoder.facts
        if F0 not in facts.inputs:
            return "not used"
        return "estimated" if F0.name in facts.estimated else "required"

    def seconds(self, frames: int) -> float:
        """Return the duration of ``frames`` frames in seconds."""
        return frames * self.vocoder.facts.samples_per_frame / self.vocoder.sample_rate

    def for_mel_config(self, mel_config: MelConfig, model_rate: bool = False) -> ServedModel:
        """Return the model for mels of a mel config, itself where they convert exactly; raise MelMismatch."""
        if mel_config.converts_to(self.mel_config):
            return self
        key = mel_config, model_rate
        if key not in self._adapted:
            if len(self._adapted) >= _MOST_ADAPTED:
                self._adapted.clear()
            self._adapted[key] = ServedModel(self.name, self.vocoder.for_mel_config(mel_config, model_rate))
        return self._adapted[key]

    def warm_up(self) -> None:
        """Synthesise quiet noise, because the first synthesis is slow.

        Raises:
            VocoderError: when the model cannot synthesise.
        """
        frames, config = 64, self.mel_config
        mel = np.random.default_rng(0).normal(config.log_floor / 2, 0.5, (config.n_mels, frames)).astype(np.float32)
        values = self.vocoder.plain_inputs(1, frames)
        self.vocoder.synthesize_batch([mel], **{name: [value] for name, value in values.items()})
        if self.vocoder.lookahead is not None:
            inputs = self.vocoder.facts.inputs
            stream = self.vocoder.open_stream(**constants_of(inputs, values))
            stream.push(mel, **signals_of(inputs, values))
            stream.finish()


def load_models(names: list[str], device: str = "cpu", backend: BackendName | None = None) -> dict[str, ServedModel]:
    """Load the models to serve by name, the default first; no ``names`` means the default model.

    A model in a file gets the file's stem as its name.

    Raises:
        VocoderError: when a model cannot be loaded, or two have one name.
    """
    models: dict[str, ServedModel] = {}
    for source in names or [DEFAULT_MODEL]:
        vocoder = load(source, device, backend=backend)
        name = Path(vocoder.name).name.removesuffix(".safetensors").removesuffix(".onnx")
        if name in models:
            raise VocoderError(f"two models have the name '{name}'; rename one of the files")
        models[name] = ServedModel(name, vocoder)
        models[name].warm_up()
    return models
