"""The schema of a recipe."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from recipes.data.config import DataRecipe
from recipes.data.segments import centered_on_hops
from vocoders.checkpoint import load_checkpoint
from vocoders.config import Config, bind
from vocoders.dsp.mel import MelConfig
from vocoders.dsp.stft import STFT
from vocoders.f0_estimator import F0EstimatorConfig
from vocoders.pretrained import find_pretrained


class GeneratorRecipe(Config):
    """The generator to train."""

    name: str = Field(description="architecture, a name that `vocoders list` prints")
    config: dict[str, Any] = Field(
        {}, description="sizes; what is left out is that of the published size that fits the hop"
    )
    f0_estimator: str | None = Field(
        None, description="model with the F0 estimator to train with and to save, as for `vocoders.load`"
    )
    init: str | None = Field(None, description="model whose generator training starts from, as for `vocoders.load`")


class F0EstimatorRecipe(F0EstimatorConfig):
    """The F0 estimator to train."""

    init: str | None = Field(
        None, description="model whose F0 estimator training starts from, as for `vocoders.load`; bins may differ"
    )

    @property
    def config(self) -> F0EstimatorConfig:
        """The configuration of the network."""
        return F0EstimatorConfig(**self.model_dump(exclude={"init"}))


class OptimizerRecipe(Config):
    """An optimiser and the schedule of its learning rate."""

    kind: Literal["adamw", "radam"] = Field("adamw", description="algorithm")
    lr: float = Field(gt=0, description="learning rate after the warm-up")
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        (0.9, 0.98), description="decay of the averages of the gradient and of its square"
    )
    eps: float = Field(1e-8, gt=0, description="added to the denominator")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay")
    warmup: int = Field(200, ge=0, description="steps of linear warm-up")
    schedule: Literal["cosine", "decay"] = Field(
        "cosine", description="cosine: half a cosine down to zero; decay: times `decay` every `decay_every` steps"
    )
    decay: float = Field(0.999, gt=0, le=1, description="factor of schedule `decay`")
    decay_every: Annotated[int, Field(gt=0)] | Literal["epoch"] = Field(
        1000, description="steps; epoch: recordings to train on / batch_size, counted when the run begins"
    )
    clip: float | None = Field(1.0, gt=0, description="largest norm of the gradient; null: any")


class TrainRecipe(Config):
    """Length and batches of the training, and how often it logs, saves and validates."""

    steps: int = Field(gt=0, description="updates of the whole run")
    batch_size: int = Field(gt=0, description="items of one update, over all microbatches and ranks")
    accumulate: int = Field(1, gt=0, description="microbatches of each rank, for less memory")
    segment_frames: int = Field(gt=0, description="mel frames of an item")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="bfloat16: autocast")
    ema: float = Field(0.999, ge=0, lt=1, description="decay of the moving average of the weights")
    estimated_f0: float = Field(
        0.5, ge=0, le=1, description="share of steps with F0 from the F0 estimator, not the labels"
    )
    energy_distance: bool = Field(False, description="compare distributions, with two draws of noise a step")
    repulsion: float = Field(
        1.0, ge=0, le=1, description="factor of the distance between the two draws; below 1 noise varies less"
    )
    seed: int = Field(0, ge=0, lt=2**32, description="of initial weights, segments and noise")
    threads: int | None = Field(None, gt=0, le=1024, description="CPU threads; default: all")
    log_every: int = Field(50, gt=0, description="steps")
    save_every: int = Field(500, gt=0, description="steps")
    validate_every: int = Field(2000, gt=0, description="steps")


class AdversarialRecipe(Config):
    """Settings of the discriminators in training."""

    objective: Literal["lsgan", "hinge"] = Field("lsgan", description="least squares or hinge loss")
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
        """First step of the discriminators: 0 if they start from a file."""
        return 0 if self.init else self.start


class Recipe(Config):
    """One training run, of either ``generator`` or ``f0_estimator``."""

    name: str = Field(description="the run is written to runs/NAME")
    mel_config: MelConfig = Field(
        description="name of a mel config, or one with changes (hifigan-22k:fmax=11025), or all fields; in a model's "
        "file a name for each sample rate, of which the highest up to the recordings' is taken"
    )
    generator: GeneratorRecipe | None = Field(None, description="the generator to train")
    f0_estimator: F0EstimatorRecipe | None = Field(None, description="the F0 estimator to train, instead")
    data: DataRecipe = Field(description="recordings")
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
    adversarial: AdversarialRecipe = Field(AdversarialRecipe(), description="training of the discriminators")
    optimizer: OptimizerRecipe = Field(description="optimiser of the model")
    train: TrainRecipe = Field(description="length and batches")

    @model_validator(mode="after")
    def _one_model(self) -> Recipe:
        if (self.generator is None) == (self.f0_estimator is None):
            raise ValueError("exactly one of 'generator' and 'f0_estimator' must be given")
        if self.f0_estimator is not None and self.data.mels:
            raise ValueError("an F0 estimator is trained on the recordings' own mels; leave data.mels out")
        if self.f0_estimator is not None and self.data.inputs:
            raise ValueError("an F0 estimator takes the mel alone; leave data.inputs out")
        if self.f0_estimator is not None and self.discriminators:
            raise ValueError("discriminators score the audio of a generator; an F0 estimator makes none")
        return self

    @field_validator("stft_resolutions")
    @classmethod
    def _transforms(cls, value: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
        for resolution in value:
            STFT(*resolution)  # raises a ValueError for wrong sizes
        return value

    @field_validator("discriminators", mode="before")
    @classmethod
    def _without_configuration(cls, value: Any) -> Any:
        """Give names without a value a default configuration."""
        if isinstance(value, list):
            value = dict.fromkeys(value)
        return {k: {} if v is None else v for k, v in value.items()} if isinstance(value, dict) else value

    @property
    def analysis_config(self) -> MelConfig:
        """Mel config with frames placed as the generator places them: "center" padding mostly becomes "same"."""
        return self.mel_config if self.lag == 0 else centered_on_hops(self.mel_config)

    @cached_property
    def lag(self) -> int | None:
        """The initial model's lag, see ``Checkpoint``."""
        init = self.generator and self.generator.init
        return load_checkpoint(find_pretrained(init)[1]).lag if init else None

    @property
    def full_band_mel_config(self) -> MelConfig:
        """Mel config of the loss full_band_mel, except its fmax."""
        values = centered_on_hops(self.mel_config).model_dump() | self.full_band_mel
        return bind(MelConfig, values, "full_band_mel of the recipe")

    @property
    def optimizers(self) -> dict[str, OptimizerRecipe]:
        """Optimisers of the model and, if there are any, the discriminators."""
        discriminators = {"discriminators": self.adversarial.optimizer or self.optimizer} if self.discriminators else {}
        return {"model": self.optimizer} | discriminators

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each loss; unstated adversarial weights are HiFi-GAN's."""
        return ({"adversarial": 1.0, "feature_matching": 2.0} if self.discriminators else {}) | self.losses
