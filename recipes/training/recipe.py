"""Load a recipe: merge a model, its recordings and overrides into one ``Recipe``."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import soundfile
import yaml

from losses import LOSSES
from recipes.data.clips import find_sounds
from recipes.data.config import DataRecipe
from recipes.training.schema import Recipe
from vocoders.config import Config, bind
from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.generators import GENERATORS

FOLDER = Path(__file__).parents[1]
MODELS = {path.stem: path for path in sorted((FOLDER / "models").glob("*.yaml"))}
CORPORA = {path.parent.name: path for path in sorted((FOLDER / "corpora").glob("*/corpus.yaml"))}


class Corpus(Config):
    """Recordings of a recipe: a file corpus.yaml, or a folder.

    Attributes:
        rate: sample rate in Hz to train at. None: that of most recordings.
        data: the recipe's ``data``.
        models: changes to the model's recipe, by model name.
    """

    rate: int | None = None
    data: dict[str, Any]
    models: dict[str, dict[str, Any]] = {}


def load_recipe(
    model: str | Path, overrides: list[str] | None = None, data: str | None = None, mel_config: str | None = None
) -> Recipe:
    """Load the recipe of a model on some recordings.

    Args:
        model: a name in recipes/models, or a YAML file.
        overrides: texts "a.b=value", with the value in YAML.
        data: a name in recipes/corpora, or a folder of sound files. Default: as in the file.
        mel_config: name of the mel config. Default: the model's for the recordings' sample rate.

    Raises:
        VocoderError: when a file cannot be read, or the recipe does not fit the schema.
    """
    path = MODELS.get(str(model), Path(model))
    if not path.suffix and not path.exists():
        raise VocoderError(f"there is no model '{model}'; known: {', '.join(MODELS)}, or the path of a YAML file")
    values, rate = _read(path), None
    if data is not None:
        corpus = _corpus(data)
        changes = dict(corpus.models.get(path.stem, {}))
        rate = changes.pop("rate", corpus.rate)
        values = _merge(_merge(values, {"data": corpus.data}), changes)
        values.setdefault("name", f"{Path(data).expanduser().resolve().name}-{path.stem}")
    for override in overrides or []:
        _set(values, override)
    if not isinstance(values.get("data"), dict) or "dir" not in values["data"]:
        raise VocoderError(
            f"{path.name} names no recordings; add a corpus ({', '.join(CORPORA)}) or a folder of sound files: "
            f"python -m recipes.train {model} DIR"
        )
    values["mel_config"] = _mel_config(mel_config or values.get("mel_config"), rate, values["data"]["dir"])
    _complete_generator(values.get("generator"), values["mel_config"])
    recipe = bind(Recipe, values, str(path))
    check_losses(recipe)
    return recipe


def check_losses(recipe: Recipe) -> None:
    """Check that all losses of a recipe are known and one has a weight at the first step."""
    task_losses = loss_names(recipe)
    adversarial = ("adversarial", "feature_matching")
    known = [*task_losses, *(adversarial if recipe.discriminators else ())]
    for name, weight in recipe.losses.items():
        if name in adversarial and name not in known:
            if not weight:  # such as a base recipe's loss that is switched off
                continue
            raise VocoderError(
                f"loss '{name}' needs discriminators; name some in the recipe, or set losses.{name} to 0"
            )
        if name not in known:
            raise VocoderError(f"unknown loss '{name}'; this model can be trained with: {', '.join(known)}")
    weighted = [name for name, weight in recipe.weights.items() if weight]
    if not weighted:
        raise VocoderError(f"no loss of the recipe has a weight; known: {', '.join(known)}")
    if recipe.adversarial.first_step and not set(weighted) & set(task_losses):
        raise VocoderError(
            f"no loss has a weight before step {recipe.adversarial.first_step}, when the discriminators begin; known: "
            f"{', '.join(task_losses)}"
        )


def loss_names(recipe: Recipe) -> list[str]:
    """List the losses that a recipe can weight, except the adversarial ones."""
    if recipe.generator is None:
        return ["f0", "voicing"]
    if recipe.generator.name not in GENERATORS:
        raise VocoderError(f"unknown generator '{recipe.generator.name}'; known: {', '.join(GENERATORS)}")
    kind = GENERATORS[recipe.generator.name]
    terms = [term for loss in LOSSES.values() for term in loss.terms]
    return [*terms, *(f"{name}_mel" for name in kind.output_names if name != "audio"), *kind.own_loss_names]


def check_prepared(data: DataRecipe, corpus: str | None) -> None:
    """Refuse a corpus, by name or by its folder, whose lists are not written yet."""
    corpora = [corpus] if corpus in CORPORA else [name for name in CORPORA if _corpus(name).data["dir"] == data.dir]
    lists = [name for name in ("train.txt", "valid.txt") if name in (data.train, data.valid)]
    missing = [name for name in lists if not (Path(data.dir) / name).is_file()]
    if corpora and missing:
        raise VocoderError(
            f"the corpus {corpora[0]} has no {missing[0]} in {data.dir}; this writes it: python -m recipes.prepare "
            f"{corpora[0]} {data.dir}"
        )


def write_recipe(recipe: Recipe) -> str:
    """Return the YAML of a complete recipe, which ``load_recipe`` reads back."""
    values = recipe.model_dump(mode="json") | {"mel_config": recipe.mel_config.text}
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)


def _corpus(data: str) -> Corpus:
    """Load a corpus by name, or describe a folder, with train.txt and valid.txt if it has both."""
    if data in CORPORA:
        return bind(Corpus, _parse(CORPORA[data].read_text(encoding="utf-8"), str(CORPORA[data])), str(CORPORA[data]))
    folder = Path(data).expanduser()
    if not folder.is_dir():
        raise VocoderError(f"'{data}' is neither a corpus ({', '.join(CORPORA)}) nor a folder of sound files")
    lists = {name: f"{name}.txt" if (folder / f"{name}.txt").is_file() else None for name in ("train", "valid")}
    if list(lists.values()).count(None) == 1:
        raise VocoderError(f"{folder} has only one of train.txt and valid.txt; write the other one, or delete it")
    return Corpus(data={"dir": str(folder)} | lists)


def _mel_config(value: Any, rate: int | None, folder: str) -> Any:
    """Return the mel config of a recipe; of several by rate, the highest up to the recordings' rate."""
    if _by_rate(value):
        rate = rate or _rate_of(Path(folder).expanduser())
        value = value[max((known for known in value if known <= rate), default=min(value))]
    return MelConfig.parse(value).model_dump() if isinstance(value, str) else value


def _by_rate(value: Any) -> bool:
    """Whether a value maps sample rates in Hz to mel configs."""
    return isinstance(value, dict) and bool(value) and all(isinstance(key, int) for key in value)


def _rate_of(folder: Path) -> int:
    """Return the sample rate of most recordings in a folder, from at most a hundred."""
    paths = find_sounds(folder)
    rates: Counter[int] = Counter()
    for path in paths[:: max(1, len(paths) // 100)]:
        try:
            rates[soundfile.info(path).samplerate] += 1
        except soundfile.LibsndfileError:  # reported when training begins
            continue
    if not rates:
        raise VocoderError(f"none of the recordings of {folder} can be read, such as {paths[0]}")
    return rates.most_common(1)[0][0]


def _complete_generator(generator: Any, mel_config: Any) -> None:
    """Complete the configuration of a new generator from ``config_for``."""
    if not isinstance(generator, dict) or generator.get("init") or generator.get("name") not in GENERATORS:
        return
    given = generator.get("config") or {}
    try:
        fitting = GENERATORS[generator["name"]].config_for(bind(MelConfig, mel_config, "mel_config"))
    except VocoderError:  # no preset fits: ``given`` must be complete
        return
    if isinstance(given, dict):
        generator["config"] = fitting.model_dump(mode="json") | given


def _set(values: dict[str, Any], override: str) -> None:
    """Set a key of a recipe from the text "a.b=value"."""
    key, separator, text = override.partition("=")
    if not separator:
        raise VocoderError(f"--set takes KEY=VALUE, got '{override}'")
    *parents, last = key.split(".")
    place = values
    for parent in parents:
        if place.get(parent) is None:
            place[parent] = {}
        place = place[parent]
        if not isinstance(place, dict):
            raise VocoderError(f"--set {override}: '{parent}' holds a value, not further keys")
    place[last] = _parse(text, f"--set {override}")


def _read(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a file and merge it onto its base; ``above`` holds the files that include it."""
    real = Path(os.path.realpath(path))
    if real in above:
        raise VocoderError(f"the recipe {path} is its own base")
    try:
        values = _parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        included = f", the base of {above[-1]}" if above else ""
        raise VocoderError(f"cannot read the recipe {path}{included}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise VocoderError(f"{path} is not a recipe: it is not text") from None
    if not isinstance(values, dict):
        raise VocoderError(f"{path} is not a recipe: it must hold keys and values")
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise VocoderError(f"{path}: 'base' must be a model ({', '.join(MODELS)}) or a path, got {base!r}")
    return _merge(_read(MODELS.get(base, path.parent / base), (*above, real)), values)


def _parse(text: str, name: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise VocoderError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from None


def _merge(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """Merge nested mappings; any other value of ``top`` replaces that of ``base``."""
    merged = dict(base)
    for key, value in top.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict) and not _by_rate(merged[key])
        merged[key] = _merge(merged[key], value) if both else value
    return merged
