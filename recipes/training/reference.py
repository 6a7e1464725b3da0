"""Print the keys of a recipe: python -m recipes.training.reference"""

from __future__ import annotations

import json
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from recipes.training.schema import Recipe

HEAD = """# Keys of a recipe

`python -m recipes.train MODEL DATA --print` prints a complete recipe; `--set a.b=value` sets the key `a.b`.
[Training](training.md) explains how a recipe is made. This page is written by `python -m recipes.training.reference`.

| key | default | meaning |
|---|---|---|
"""


def reference() -> str:
    """Return the Markdown page of all keys."""
    return HEAD + "".join(f"| `{key}` | {default} | {meaning} |\n" for key, default, meaning in keys(Recipe))


def keys(model: type[BaseModel], prefix: str = "") -> list[tuple[str, str, str]]:
    """List key, default and meaning of all fields, nested models included."""
    found = []
    for name, field in model.model_fields.items():
        nested = next((x for x in (field.annotation, *get_args(field.annotation)) if _is_model(x)), None)
        meaning = (field.description or "").replace("|", "\\|")
        found.append((prefix + name, _default(field), meaning))
        if nested is not None and (prefix + name) not in ("mel_config", "adversarial.optimizer"):
            found += keys(nested, f"{prefix}{name}.")
    return found


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if isinstance(field.default, BaseModel):
        return ""
    return f"`{json.dumps(field.default)}`"


if __name__ == "__main__":
    print(reference(), end="")
