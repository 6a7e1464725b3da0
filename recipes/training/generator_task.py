"""Training of a generator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.parametrize import is_parametrized
from torch.utils.data import Dataset, default_collate

from losses import LOSSES, SpectralLoss, energy_distance
from recipes.data.clips import Clip, read_clip
from recipes.data.config import DataRecipe
from recipes.data.inputs import InputFiles, layout
from recipes.data.pitch import transpose_share
from recipes.data.predicted_mels import PredictedMels
from recipes.data.segments import at_rate, centered_on_hops
from recipes.data.smoothing import smooth_share
from recipes.evaluation.metrics import Signal, pesq_wide_band
from recipes.training.distributed import Draws
from recipes.training.schema import GeneratorRecipe, Recipe
from recipes.training.tasks import Batch, Example, Task, TaskOutput, Validation, load_f0_estimator
from vocoders.checkpoint import Checkpoint, load_checkpoint
from vocoders.dsp.mel import MelConfig, list_differences
from vocoders.errors import VocoderError
from vocoders.f0_estimator import BaseF0Estimator
from vocoders.generators import build_generator, generator_name
from vocoders.generators.base import Generator
from vocoders.inputs import F0, NOISE, PHASE, Input
from vocoders.pretrained import find_pretrained

MEASURED = ("mel", "multi_resolution_stft")  # measured in every validation
_EXAMPLES = 3  # recordings shown in TensorBoard


class GeneratorTask(Task):
    """Train a generator: spectral losses on its audio, and a mel loss on each other output.

    Loss names: the terms of ``LOSSES``, "<output>_mel" for each other output, and the generator's own. ``mels`` are
    predicted mels that replace the recordings' mels.
    """

    selection_metric = "mel"

    def __init__(self, recipe: Recipe, mels: PredictedMels | None = None) -> None:
        super().__init__(recipe)
        assert recipe.generator is not None
        self.mels = mels
        self.model: Generator = build_model(recipe.generator, recipe.mel_config)
        check_trainable(self.model, recipe.generator.name, recipe.data)
        self.channels, rate = self.model.channels, self.model.sample_rate
        self.audio_config = at_rate(recipe.analysis_config, rate)
        self.uses_f0 = F0 in self.model.inputs
        if recipe.data.inputs:
            folder, root, items = Path(recipe.data.inputs), Path(recipe.data.dir), further_inputs(self.model)
            self.inputs = InputFiles(folder, root, items, self.audio_config)
        if self.model.uses_weight_norm:
            for layer in list(self.model.modules()):
                if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d)):
                    weight_norm(layer)
        placed = at_rate(centered_on_hops(recipe.mel_config), rate)
        own = {"full_band_mel": at_rate(recipe.full_band_mel_config, rate)}
        self.spectral_losses: dict[str, SpectralLoss] = {
            name: kind.for_mel_config(own.get(name, placed), recipe.stft_resolutions) for name, kind in LOSSES.items()
        }
        # registered, to move with the task to its device
        self.loss_modules = nn.ModuleList(x for x in self.spectral_losses.values() if isinstance(x, nn.Module))
        self.output_losses = {f"{name}_mel": name for name in self.model.output_names if name != "audio"}
        self.f0_estimator: BaseF0Estimator | None = None
        if recipe.generator.f0_estimator:
            self.f0_estimator = load_f0_estimator(recipe.generator.f0_estimator, recipe.mel_config)

    def prepare(self, segments: Dataset[dict[str, Tensor]]) -> None:
        """Set the statistics of a new generator from 64 segments; an initial checkpoint keeps its own."""
        assert self.recipe.generator is not None
        if not self.recipe.generator.init:
            batch = default_collate([segments[i] for i in range(64)])
            self.model.set_statistics(self.mel({key: value.to(self._device) for key, value in batch.items()}))

    def forward(self, batch: Batch, draws: Draws) -> TaskOutput:
        audio, f0 = batch["audio"], batch["f0"]
        with torch.no_grad():
            mel = exact = self.mel(batch)
            shares = self.recipe.data.augmentation
            if shares.adapt and draws.chance(shares.adapt):
                mel = self.adapt(batch, draws)
            elif shares.smooth:
                mel = smooth_share(exact, shares, draws.rand(3))
            if self.f0_estimator is not None and draws.chance(self.recipe.train.estimated_f0):
                f0 = self.f0_estimator.estimate(mel)
            if draws.chance(shares.pitch):
                mel = transpose_share(mel, self.analyzed(audio), f0, shares, draws.rand(3), self.log_mel)
            phase = draws.rand(1, 1)
            noises = [draws.randn(1, audio.shape[-1]) for _ in range(2 if self.recipe.train.energy_distance else 1)]
        names = [item.name for item in self.model.inputs]
        given = [{"f0": f0, "noise": noise, "phase": phase} | self.further(batch) for noise in noises]
        outputs = self.model.outputs(mel, [{name: values[name] for name in names} for values in given])
        losses = self.own_losses(self.model, mel, exact, outputs, audio)
        for name in self.trained:
            losses |= self.compare(self.spectral_losses[name], outputs["audio"], audio)
        return TaskOutput(losses, outputs["audio"][0])

    @property
    def trained(self) -> list[str]:
        """Keys of the spectral losses with a weight."""
        return [key for key, loss in self.spectral_losses.items() if any(map(self.recipe.weights.get, loss.terms))]

    def further(self, values: Batch) -> dict[str, Tensor]:
        """Return the values of the further inputs, by the name of the input."""
        return {item.name: values[f"input {item.name}"].to(self._device) for item in further_inputs(self.model)}

    def own_losses(
        self, model: Generator, mel: Tensor, exact: Tensor, outputs: dict[str, list[Tensor]], audio: Tensor
    ) -> dict[str, Tensor]:
        """Compute the weighted losses of this architecture and of its other outputs."""
        weights = self.recipe.weights
        losses: dict[str, Tensor] = {}
        if any(map(weights.get, model.own_loss_names)):
            losses |= model.own_losses(mel, exact, outputs)
        for term, name in self.output_losses.items():
            if weights.get(term):
                losses[term] = self.compare(self.spectral_losses["mel"], outputs[name], audio)["mel"]
        return losses

    def compare(self, loss: SpectralLoss, estimates: list[Tensor], reference: Tensor) -> dict[str, Tensor]:
        """Compute the terms of a loss, as float32 scalars by name; with two draws of noise, their energy distance.

        ``estimates`` holds audio (batch, channels, samples) for each draw, ``reference`` is of the same shape.
        """
        first, *second = [audio.flatten(0, 1) for audio in estimates]
        reference = reference.flatten(0, 1)
        if second:
            values = energy_distance(loss, first, second[0], reference, self.recipe.train.repulsion)
        else:
            values = list(loss.distance(loss.transform(first), loss.transform(reference)))
        return dict(zip(loss.terms, values, strict=True))

    def validate(self, clips: list[Clip], model: nn.Module) -> Validation:
        """Synthesise whole recordings from their mels; measure the weighted losses, MEASURED and PESQ.

        The adversarial losses are not measured. F0 comes from the model's F0 estimator, or else from the labels.
        """
        assert isinstance(model, Generator)
        metrics: dict[str, list[float]] = {}
        examples: list[Example] = []
        for clip in clips:
            real, mel, inputs = self.read_example(clip)
            f0 = None
            if self.f0_estimator is not None:
                f0 = self.f0_estimator.estimate(mel)
            elif self.uses_f0:
                labels = self.label_frames(self.analyzed(real).cpu(), mel.shape[-1])
                f0 = torch.from_numpy(labels)[None, None].to(self._device)
            outputs = model.outputs(mel, [{"f0": f0} | inputs])
            terms: dict[str, Tensor] = {}
            for name in dict.fromkeys([*MEASURED, *self.trained]):
                terms |= self.compare(self.spectral_losses[name], outputs["audio"], real)
            terms |= self.own_losses(model, mel, mel, outputs, real)
            values = {term: float(value) for term, value in terms.items()}
            real, fake = (x[0].mean(0, keepdim=True).cpu() for x in (real, outputs["audio"][0]))
            signals = [Signal(x[0].numpy(), self.audio_config.sample_rate) for x in (real, fake)]
            values["pesq"] = pesq_wide_band(*signals)
            for name, value in values.items():
                if np.isfinite(value):  # PESQ is undefined without speech
                    metrics.setdefault(name, []).append(value)
            if len(examples) < _EXAMPLES:
                examples.append(Example(clip.path.stem, fake, real))
        return Validation({name: float(np.mean(values)) for name, values in metrics.items()}, examples)

    def read_example(self, clip: Clip) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Read a whole recording: audio (1, channels, samples), mel (1, n_mels, frames) and further inputs.

        The mel is the predicted one, if there is one.
        """
        audio = read_clip(clip, self.audio_config, self.channels)[None].to(self._device)
        if self.mels is None or clip not in self.mels:
            mel = self.analyze(audio)
            return audio, mel, self.read_inputs(clip, 0, mel.shape[-1])
        # With "center" padding, start at the second frame, centred one hop in: its samples begin there, or half a hop
        # earlier, see ``Recipe.analysis_config``.
        hop, centred = self.audio_config.hop_length, self.recipe.mel_config.padding == "center"
        mel = self.mels[clip][:, int(centred) :].to(self._device)
        early = hop // 2 if self.recipe.analysis_config.padding != "center" else 0
        audio = audio[..., hop - early if centred else 0 :]
        frames = min(mel.shape[1], audio.shape[-1] // hop)
        return audio[..., : frames * hop], mel[None, :, :frames], self.read_inputs(clip, int(centred), frames)

    def read_inputs(self, clip: Clip, first: int, frames: int) -> dict[str, Tensor]:
        """Read the further inputs of a recording, (1, channels, length) by name."""
        stored = self.inputs.read(clip, first, frames) if self.inputs is not None else {}
        return self.further({name: value[None] for name, value in stored.items()})

    def checkpoint(self, model: nn.Module) -> Checkpoint:
        """Build the checkpoint of ``model``, with weight norm folded into the weights."""
        assert isinstance(model, Generator)
        # Copy the folded weights into a new generator: remove_parametrizations would break copies that share the class.
        weights = {key: value.cpu() for key, value in model.state_dict().items() if "parametrizations" not in key}
        for name, layer in model.named_modules():
            if is_parametrized(layer):
                weights[f"{name}.weight"] = layer.weight.cpu()
        with torch.device("meta"):  # The meta device draws no initial weights, so the training's random state stays.
            folded = build_generator(generator_name(model), model.config.model_dump(), self.recipe.mel_config)
        folded.load_state_dict(weights, assign=True)
        return Checkpoint(self.recipe.mel_config, generator=folded, f0_estimator=self.f0_estimator, lag=self.recipe.lag)

    @property
    def _device(self) -> torch.device:
        return self.log_mel.filter_bank.device


def further_inputs(model: Generator) -> list[Input]:
    """Return the inputs that come from ``data.inputs``."""
    return [item for item in model.inputs if item not in (F0, NOISE, PHASE)]


def check_trainable(model: Generator, name: str, data: DataRecipe) -> None:
    """Refuse data that do not give what the generator takes."""
    mel_config = model.mel_config
    if model.samples_per_frame * mel_config.sample_rate != mel_config.hop_length * model.sample_rate:
        raise VocoderError(
            f"a frame of the mel is {mel_config.hop_length} samples at {mel_config.sample_rate} Hz; {name} makes "
            f"{model.samples_per_frame} at {model.sample_rate} Hz of it, which last another time"
        )
    augmentation = data.augmentation
    if model.channels > 1 and any((augmentation.tones, augmentation.voices, augmentation.reverb, augmentation.noise)):
        raise VocoderError(
            f"{name} makes {model.channels} channels, and tones, voices, reverb and noise are for one; set these keys "
            f"of data.augmentation to 0"
        )
    needed = further_inputs(model)
    if needed and not data.inputs:
        raise VocoderError(
            f"{name} also needs {layout(needed)}; name a folder that has NAME.npz with these arrays for each recording "
            f"NAME.wav: --set data.inputs=DIR"
        )
    if data.inputs and not needed:
        raise VocoderError(f"{name} takes nothing of data.inputs; leave it out: --set data.inputs=null")


def build_model(settings: GeneratorRecipe, mel_config: MelConfig) -> Generator:
    """Build a new generator, or load that of the model ``init``, whose configuration may be left out."""
    if not settings.init:
        return build_generator(settings.name, settings.config, mel_config)
    source = load_checkpoint(find_pretrained(settings.init)[1]).generator
    if source is None or generator_name(source) != settings.name:
        raise VocoderError(f"{settings.init} holds no generator '{settings.name}'")
    if source.mel_config != mel_config:
        listed = list_differences(source.mel_config.differences(mel_config))
        raise VocoderError(f"{settings.init} was made for another mel config than the recipe's: {listed}")
    if settings.config and build_generator(settings.name, settings.config, mel_config).config != source.config:
        raise VocoderError(f"{settings.init} has another configuration than the recipe; leave generator.config out")
    return source.requires_grad_(True)
