"""The recipes of the repository equal those that were written out for every corpus (data/recipes.json)."""

import json
from typing import Any

import pytest

from recipes.training.recipe import CORPORA, MODELS, load_recipe
from recipes.training.schema import Recipe
from tests.support import DATA, ROOT
from vocoders.complexity import build_on_meta
from vocoders.generators import GENERATORS

WRITTEN: dict[str, dict[str, dict[str, Any]]] = json.loads((DATA / "recipes.json").read_text())
PAIRS = [(model, corpus) for model, corpora in WRITTEN.items() for corpus in corpora if corpus != "all"]
OPENVOICES = ROOT / "recipes" / "corpora" / "openvoices"

# What differs on purpose.
RENAMED = {("wavehax", "m4singer"): "wavehax-48k", ("wavehax", "opencpop"): "wavehax-48k"}
BY_FOLDER = {"f0-estimator-44k", "hnmask-44k"}  # take the folder of prepare_44k.py, not that of openvoices
EPOCHS = {"hifigan", "hifigan-ms-sb-cqt", "istftnet"}  # decay_every: epoch, which was a number


def compose(model: str, corpus: str) -> Recipe:
    own = OPENVOICES / f"{model}.yaml"
    return load_recipe(own if own.exists() else RENAMED.get((model, corpus), model), data=corpus)


def facts(recipe: Recipe) -> dict[str, Any]:
    """What a recipe resolves to, by key, without what is a default."""
    values = recipe.model_dump(mode="json", exclude_defaults=True) | {"mel_config": recipe.mel_config.text}
    generator = values.get("generator")
    if generator:
        config_type = GENERATORS[generator["name"]].config_type
        config = config_type(**generator.get("config", {}))
        generator["config"] = config.model_dump(mode="json", exclude_defaults=True)
    return flat({key: value for key, value in values.items() if key != "name"})


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{prefix}{key}.")
        elif value != {} or prefix == "discriminators.":
            found[prefix + key] = value
    return found


@pytest.mark.parametrize(("model", "corpus"), PAIRS)
def test_a_composed_recipe_is_the_written_one(model: str, corpus: str) -> None:
    expected = WRITTEN[model]["all"] | WRITTEN[model][corpus]
    found = facts(compose(model, corpus))
    if model in EPOCHS:
        assert found.pop("optimizer.decay_every") == "epoch"
        del expected["optimizer.decay_every"]
    if model in BY_FOLDER:
        found["data.dir"] = expected["data.dir"]
    assert found == expected


@pytest.mark.parametrize("corpus", CORPORA)
@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_composed_with_every_corpus(model: str, corpus: str) -> None:
    recipe = load_recipe(model, data=corpus)
    assert recipe.name == f"{corpus}-{model}"
    if recipe.generator is not None:
        build_on_meta(recipe.generator.name, recipe.generator.config, recipe.mel_config)


def test_the_table_has_every_model() -> None:
    own = {path.stem for path in OPENVOICES.glob("*.yaml") if path.stem != "corpus"}
    assert {model for model, _ in PAIRS} == set(MODELS) | own
