"""The schema of a recipe, its loading, and overrides from the command line."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from recipes.data.config import DataRecipe
from recipes.data.segments import centered_on_hops
from vocoders.checkpoint import load_checkpoint
from vocoders.config import Config, bind
from vocoders.dsp.mel import MelConfig
from vocoders.dsp.stft import STFT
from vocoders.errors import VocoderError
from vocoders.f0_estimator import F0EstimatorConfig
from vocoders.pretrained import find_pretrained

CLONE = Path(__file__).parents[2]


class GeneratorRecipe(Config):
    """The generator to train."""

    name: str
    config: dict[str, Any] = {}
    f0_estimator: str | None = Field(None, description="model with the F0 estimator to save, as for vocoders.load")
    init: str | None = Field(None, description="model whose generator training starts from, as for vocoders.load")


class F0EstimatorRecipe(F0EstimatorConfig):
    """The F0 estimator to train."""

    init: str | None = Field(
        None, description="model whose F0 estimator training starts from, as for vocoders.load; bins may differ"
    )

    @property
    def config(self) -> F0EstimatorConfig:
        """The configuration of the network."""
        return F0EstimatorConfig(**self.model_dump(exclude={"init"}))


class OptimizerRecipe(Config):
    """An optimiser and the schedule of its learning rate."""

    kind: Literal["adamw", "radam"] = "adamw"
    lr: float = Field(gt=0)
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.98)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    warmup: int = Field(200, ge=0, description="steps of linear warm-up")
    schedule: Literal["cosine", "decay"] = Field(
        "cosine", description="cosine: half a cosine down to zero; decay: times `decay` every `decay_every` steps"
    )
    decay: float = Field(0.999, gt=0, le=1)
    decay_every: int = Field(1000, gt=0)
    clip: float | None = Field(1.0, gt=0, description="largest norm of the gradient; null: any")


class TrainRecipe(Config):
    """Length and batches of the training, and how often it logs, saves and validates."""

    steps: int = Field(gt=0)
    batch_size: int = Field(gt=0, description="items of one update, over all microbatches and ranks")
    accumulate: int = Field(1, gt=0, description="microbatches of each rank, for less memory")
    segment_frames: int = Field(gt=0)
    precision: Literal["float32", "bfloat16"] = "float32"
    ema: float = Field(0.999, ge=0, lt=1, description="decay of the moving average of the weights")
    estimated_f0: float = Field(
        0.5, ge=0, le=1, description="share of steps with F0 from the F0 estimator, not the labels"
    )
    energy_distance: bool = Field(False, description="compare distributions, with two draws of noise a step")
    repulsion: float = Field(
        1.0, ge=0, le=1, description="factor of the distance between the two draws; below 1 noise varies less"
    )
    seed: int = Field(0, ge=0, lt=2**32)
    threads: int | None = Field(None, gt=0, le=1024, description="CPU threads; default: all")
    log_every: int = Field(50, gt=0)
    save_every: int = Field(500, gt=0)
    validate_every: int = Field(2000, gt=0)


class AdversarialRecipe(Config):
    """Settings of the discriminators in training."""

    objective: Literal["lsgan", "hinge"] = "lsgan"
    weights: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {}, description="of each discriminator's part in the losses of both sides; default: 1"
    )
    start: int = Field(0, ge=0, description="first step that discriminators take part in")
    init: str | None = Field(
        None,
        description="file to start from: discriminators.safetensors of a run, do_* of jik876/hifi-gan, or "
        "bigvgan_discriminator_optimizer.pt of NVIDIA/BigVGAN; they then take part from step 0",
    )
    optimizer: OptimizerRecipe | None = Field(
        None, description="default: that of the generator; its schedule counts from `start`"
    )

    @property
    def first_step(self) -> int:
        """The first step that the discriminators take part in: 0 where they start from a file."""
        return 0 if self.init else self.start


class Recipe(Config):
    """One training run, of either ``generator`` or ``f0_estimator``."""

    name: str
    mel: MelConfig
    generator: GeneratorRecipe | None = None
    f0_estimator: F0EstimatorRecipe | None = None
    data: DataRecipe
    losses: dict[str, Annotated[float, Field(ge=0)]] = Field(
        {}, description="weights, 0 for none; with discriminators, adversarial: 1 and feature_matching: 2"
    )
    stft_resolutions: list[tuple[int, int, int]] = Field(
        [(512, 128, 512), (1024, 256, 1024), (2048, 512, 2048)],
        min_length=1,
        description="(n_fft, hop_length, win_length) of the losses spectral_convergence and log_magnitude",
    )
    full_band_mel: dict[str, Any] = Field(
        {}, description="what the loss full_band_mel changes in the mel config, beside fmax: {hop_length: 256}"
    )
    discriminators: dict[str, dict[str, Any]] = Field({}, description="name: configuration")
    adversarial: AdversarialRecipe = AdversarialRecipe()
    optimizer: OptimizerRecipe
    train: TrainRecipe

    @model_validator(mode="after")
    def _one_model(self) -> Recipe:
        if (self.generator is None) == (self.f0_estimator is None):
            raise ValueError("exactly one of 'generator' and 'f0_estimator' must be given")
        if self.f0_estimator is not None and self.data.mels:
            raise ValueError("an F0 estimator is trained on the recordings' own mels; leave data.mels out")
        if self.f0_estimator is not None and self.discriminators:
            raise ValueError("discriminators score the audio of a generator; an F0 estimator makes none")
        return self

    @field_validator("stft_resolutions")
    @classmethod
    def _transforms(cls, value: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
        for resolution in value:
            STFT(*resolution)  # raises a ValueError for sizes that do not fit
        return value

    @field_validator("discriminators", mode="before")
    @classmethod
    def _without_configuration(cls, value: Any) -> Any:
        """Convert a list of names, or names without a value, to default configurations."""
        if isinstance(value, list):
            value = dict.fromkeys(value)
        return {k: {} if v is None else v for k, v in value.items()} if isinstance(value, dict) else value

    @property
    def analysis_config(self) -> MelConfig:
        """The mel config with frames placed as the generator places them: mostly with "same" padding, not "center"."""
        return self.mel if self.lag == 0 else centered_on_hops(self.mel)

    @cached_property
    def lag(self) -> int | None:
        """That of the model that training starts from, see ``Checkpoint``."""
        init = self.generator and self.generator.init
        return load_checkpoint(find_pretrained(init)[1]).lag if init else None

    @property
    def full_band_mel_config(self) -> MelConfig:
        """The mel config of the loss full_band_mel, but for its fmax."""
        return bind(
            MelConfig, centered_on_hops(self.mel).model_dump() | self.full_band_mel, "full_band_mel of the recipe"
        )

    @property
    def optimizers(self) -> dict[str, OptimizerRecipe]:
        """The optimiser of the model and, where there are any, of the discriminators."""
        discriminators = {"discriminators": self.adversarial.optimizer or self.optimizer} if self.discriminators else {}
        return {"model": self.optimizer} | discriminators

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each loss; adversarial ones that the recipe does not state have HiFi-GAN's."""
        return ({"adversarial": 1.0, "feature_matching": 2.0} if self.discriminators else {}) | self.losses


def load_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe.

    ``base: other.yaml`` includes another file, relative to this one or to the clone; in a list of them, later ones
    override earlier ones. ``mel`` may be the name of a mel config.

    Args:
        path: the YAML file.
        overrides: texts "a.b=value", with the value in YAML.

    Raises:
        VocoderError: when a file cannot be read, or does not fit the schema.
    """
    values = _read(path)
    for override in overrides or []:
        key, separator, text = override.partition("=")
        if not separator:
            raise VocoderError(f"--set takes KEY=VALUE, got '{override}'")
        *parents, last = key.split(".")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise VocoderError(f"--set {override}: '{parent}' holds a value, not further keys")
        place[last] = _parse(text, f"--set {override}")
    if isinstance(values.get("mel"), str):
        values["mel"] = MelConfig.parse(values["mel"]).model_dump()
    return bind(Recipe, values, str(path))


def _read(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a file and merge it onto its bases; ``above`` holds the files that include it."""
    if Path(os.path.realpath(path)) in above:
        raise VocoderError(f"the recipe {path} is its own base")
    try:
        values = _parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        included = f", a base of {above[-1]}" if above else ""
        raise VocoderError(f"cannot read the recipe {path}{included}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise VocoderError(f"{path} is not a recipe: it is not text") from None
    if not isinstance(values, dict):
        raise VocoderError(f"{path} is not a recipe: it must hold keys and values")
    bases = values.pop("base", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise VocoderError(f"{path}: 'base' must be the path of another recipe, or a list of paths, got {bases!r}")
    merged: dict[str, Any] = {}
    for base in bases:
        place = path.parent / base
        if not place.exists() and (CLONE / base).exists():
            place = CLONE / base
        merged = _merge(merged, _read(place, (*above, Path(os.path.realpath(path)))))
    return _merge(merged, values)


def _parse(text: str, name: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise VocoderError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from None


def _merge(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged
