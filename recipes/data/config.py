"""The ``data`` part of a recipe."""

from __future__ import annotations

from typing import Any

from pydantic import Field, PositiveFloat, field_validator, model_validator

from vocoders.config import Config


class DataRecipe(Config):
    """The recordings that a recipe trains and validates on, and the variation of segments."""

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
    speed: tuple[PositiveFloat, PositiveFloat] = Field(
        (1.0, 1.0), description="pitch and tempo are scaled by a factor of this range"
    )
    gain_db: tuple[float, float] = Field((0.0, 0.0), description="the level is changed by a gain of this range")
    f0_range: tuple[PositiveFloat, PositiveFloat] = Field(
        (71.0, 800.0), description="Hz, range of the F0 labels; a wider one, for singers, makes more errors"
    )
    mels: str | None = Field(None, description="folder of predicted mels named like the recordings, to fine-tune on")
    workers: int = Field(1, ge=0, description="processes that load segments; 0: the training process itself")

    @field_validator("speed", "gain_db", "f0_range")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError("a range starts with its smaller end")
        return value

    @field_validator("shards", mode="before")
    @classmethod
    def _one_pattern(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _shards_alone(self) -> DataRecipe:
        if self.shards and (self.train or self.mels):
            raise ValueError("'shards' take the place of 'train' and have no 'mels': set both to null")
        return self

    @model_validator(mode="after")
    def _mels_as_they_are(self) -> DataRecipe:
        if self.mels and (self.speed != (1.0, 1.0) or self.gain_db != (0.0, 0.0)):
            raise ValueError(
                f"with 'mels' the recordings cannot be changed: speed must be [1, 1] and gain_db [0, 0], got "
                f"{list(self.speed)} and {list(self.gain_db)}"
            )
        return self
