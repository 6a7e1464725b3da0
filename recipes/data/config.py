"""The ``data`` part of a recipe."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, PositiveFloat, field_validator, model_validator

from vocoders.config import Config


def _ordered(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError("a range starts with its smaller end")
    return limits


Share = Annotated[float, Field(ge=0, le=1)]
Range = Annotated[tuple[float, float], AfterValidator(_ordered)]
PositiveRange = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_ordered)]


class Augmentation(Config):
    """Degradations of the input, each for a share of the segments; labels stay clean."""

    tones: Share = Field(0.0, description="synthetic tones instead of recordings, for pitches that these lack")
    tones_hz: PositiveRange = Field((48.0, 1500.0), description="Hz, their F0")
    voices: Share = Field(0.0, description="a second, softer voice is added")
    voices_db: Range = Field((-25.0, -6.0), description="dB, its level above that of the first voice")
    reverb: Share = Field(0.0, description="reverberation is added, 0 to 20 dB below the recording")
    reverb_seconds: PositiveRange = Field((0.1, 0.8), description="time of a decay by 60 dB")
    noise: Share = Field(0.0, description="noise is added, from white to -12 dB an octave")
    noise_snr_db: Range = Field((10.0, 40.0), description="dB, level of the recording above the noise")
    smooth: Share = Field(0.0, description="the mel is smoothed as an acoustic model would")
    coefficients: PositiveRange = Field((0.2, 0.7), description="share of its cepstral coefficients that is kept")
    adapt: Share = Field(
        0.0, description="share of steps whose mels are approximated from mels of a random mel config, as for synthesis"
    )
    pitch: Share = Field(
        0.0, description="share of steps in which half of the mels have the harmonics of another F0, by resampling"
    )
    semitones: Range = Field((-12.0, 12.0), description="semitones of that F0 above the F0 of the recording")
    blur: Range = Field((0.0, 2.0), description="frames, standard deviation of its blur over time")


class DataRecipe(Config):
    """Recordings of a recipe, and the variation of segments."""

    dir: str = Field(description="folder of recordings; the lists are in it, and their paths relative to it")
    train: str | None = Field(None, description="list of sound files, one path a line; default: all not in valid")
    valid: str | None = Field(
        None, description="list to validate on; default: one file in a hundred, at most valid_clips; or the last shard"
    )
    shards: list[str] = Field(
        [], description="instead of train: tar files of recordings, paths or URLs, such as s3://bucket/{000..127}.tar"
    )
    shards_at_once: int = Field(
        1, gt=0, description="shards that a batch is drawn from, a multiple of all ranks' microbatches"
    )
    segments_per_shard: int = Field(4096, gt=0, description="segments drawn from a shard before the next one")
    valid_clips: int = Field(16, gt=0, description="most recordings that a validation synthesises")
    speed: PositiveRange = Field((1.0, 1.0), description="pitch and tempo are scaled by a factor of this range")
    gain_db: Range = Field((0.0, 0.0), description="the level is changed by a gain of this range")
    context: bool = Field(
        True,
        description="cut the mels of segments, at whole frames, from those of whole recordings; false: make them from "
        "the segment alone, as HiFi-GAN, BigVGAN and Vocos are trained",
    )
    f0_range: PositiveRange = Field(
        (71.0, 800.0), description="Hz, range of the F0 labels; a wider one, for singers, makes more errors"
    )
    augmentation: Augmentation = Field(Augmentation(), description="default: none")
    mels: str | None = Field(None, description="folder of predicted mels named like the recordings, to fine-tune on")
    inputs: str | None = Field(
        None,
        description="folder of NAME.npz named like the recordings, with what the generator takes beside mel, F0, noise "
        "and phase: arrays by name",
    )
    workers: int | None = Field(
        None,
        ge=0,
        description="processes that load segments; default: up to 4, no more than cores; 0: none but training's",
    )

    @field_validator("shards", mode="before")
    @classmethod
    def _one_pattern(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _shards_alone(self) -> DataRecipe:
        if self.shards and (self.train or self.mels or self.inputs):
            raise ValueError("'shards' take the place of 'train' and have no 'mels' or 'inputs': set them to null")
        return self

    @model_validator(mode="after")
    def _mels_as_they_are(self) -> DataRecipe:
        if self.mels and self.augmentation != Augmentation():
            raise ValueError("with 'mels' the recordings cannot be changed: leave augmentation out")
        if self.mels and (self.speed != (1.0, 1.0) or self.gain_db != (0.0, 0.0)):
            raise ValueError(
                f"with 'mels' the recordings cannot be changed: speed must be [1, 1] and gain_db [0, 0], got "
                f"{list(self.speed)} and {list(self.gain_db)}"
            )
        return self

    @model_validator(mode="after")
    def _inputs_in_time(self) -> DataRecipe:
        if self.inputs and (self.speed != (1.0, 1.0) or self.augmentation.tones):
            raise ValueError("'inputs' belong to the recordings as they are: set speed to [1, 1] and tones to 0")
        return self
