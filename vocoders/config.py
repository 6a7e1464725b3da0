"""Immutable, strictly checked configurations."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from vocoders.errors import VocoderError, shorten

T = TypeVar("T", bound=BaseModel)

_MOST_FAULTS = 5  # per message
_quoted = reprlib.Repr()  # of any size and depth
_quoted.maxstring = _quoted.maxother = 80


class Config(BaseModel):
    """Base of all configurations: frozen, no unknown keys, checked defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("must be odd")
    return value


# Bounds far above any useful model, against damaged or hostile checkpoint headers.
Channels = Annotated[int, Field(gt=0, le=16384)]
Count = Annotated[int, Field(gt=0, le=256)]
OddSize = Annotated[int, Field(gt=0, le=255), AfterValidator(_odd)]
FFTSize = Annotated[int, Field(gt=1, le=65536, multiple_of=2, description="samples")]

# STFT padding, see vocoders.dsp.stft.STFT.
Padding = Literal["same", "same-zeros", "center"]
Window = Literal["hann", "hann-symmetric"]


def bind(model: type[T], values: Any, what: str) -> T:
    """Validate ``values`` as a configuration; VocoderError names ``what``, the key, its value and the nearest key."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = error.errors()
        listed = [_explain(fault, model) for fault in faults[:_MOST_FAULTS]]
        more = f"; and {len(faults) - _MOST_FAULTS} more" if len(faults) > _MOST_FAULTS else ""
        raise VocoderError(f"{what}: {'; '.join(listed)}{more}") from None


def build(kinds: Mapping[str, Any], what: str, name: str, values: dict[str, Any] | Config, *rest: Any) -> Any:
    """Build a network by its name in a table such as GENERATORS.

    ``kinds`` are classes with a ``config_type``, ``what`` is an entry's name in messages, ``values`` its configuration
    or keys and values; ``rest`` goes to the class.
    """
    if name not in kinds:
        raise VocoderError(f"unknown {what} '{name}'; known: {', '.join(kinds)}")
    kind = kinds[name]
    try:
        return kind(bind(kind.config_type, values, f"{what} '{name}'"), *rest)
    except VocoderError:
        raise
    except ValueError as error:  # by a layer that the sizes do not fit
        raise VocoderError(f"{what} '{name}': {error}") from None


def _explain(error: Any, model: type[BaseModel]) -> str:
    path = [shorten(part) for part in error["loc"]]
    if error["type"] == "extra_forbidden":
        known = _fields_at(model, path[:-1])
        near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(known)}"
        return f"unknown key '{'.'.join(path)}' ({hint})"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        return f"key '{'.'.join(path)}' is missing"
    if not path:
        return message
    return f"'{'.'.join(path)}' = {_quoted.repr(error['input'])}: {message}"


def _fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    """Return the field names of the nested model at ``path``."""
    current: Any = model
    for part in path:
        field = getattr(current, "model_fields", {}).get(part)
        if field is None:  # inside a mapping or a union: no field
            continue
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        nested = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if nested:
            current = nested[0]
    return list(getattr(current, "model_fields", {}))
