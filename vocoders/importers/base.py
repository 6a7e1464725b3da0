"""The contract of importers; rename and fold weights, build the generator."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError, few, reason
from vocoders.f0_estimator import BaseF0Estimator, build_f0_estimator
from vocoders.generators import build_generator
from vocoders.generators.base import Generator

Weights = dict[str, Tensor]
Settings = dict[str, Any]

FILE_NAME = "!file name"
"""Key of the checkpoint's name, which ``Importer.convert`` finds in each configuration."""

# where projects keep a generator's weights, from outside in, and the name of that part in training
_PLACES = ("state_dict", "model", "generator_state_dict", "generator", "model_g")
_PARTS = ("generator.", "model_g.")
_WRAPPERS = re.compile(r"(?<![^.])(?:module|_orig_mod)\.")  # from several GPUs and torch.compile


class Imported(NamedTuple):
    """A model of another project, in this package's terms.

    Attributes:
        generator: a key of ``GENERATORS``.
        config: keys and values of its ``config_type``.
        mel_config: the mel config it was trained on.
        weights: ``state_dict`` of the generator, "standardize.mean" and "standardize.scale" optional.
        f0_estimator: of a model that estimates F0, the argument of ``build_f0_estimator`` and the ``state_dict``.
        unit: of the mel that the statistics in a file describe, in that of ``mel_config``.
        lag: samples by which this package's generator lags the recording. Most projects train frame t on the samples
            from t * hop_length on, whatever the padding.
    """

    generator: str
    config: dict[str, Any]
    mel_config: MelConfig
    weights: Weights
    f0_estimator: tuple[dict[str, Any], Weights] | None = None
    unit: float = 1.0
    lag: int = 0


@dataclass(frozen=True)
class Importer:
    """Reader of a family of checkpoints.

    Attributes:
        name: name in ``vocoders import``.
        description: project and needed files, in one line.
        convert: makes an ``Imported`` from configuration, weights and the stated mel config, if any; may raise KeyError
            for a missing key.
        recognizes: whether a configuration is of this family.
        checkpoints: names of checkpoints, with ``*``; preferred kind first.
        harmless: keys of the configuration without effect on the result, with ``*``; "a.b" is b in a. Any other key
            that ``convert`` does not read is refused.
        configs: names of the configuration beside the checkpoint.
        needs_config: whether it must exist; else it may be empty.
        standardizes: whether a configuration means standardised mels, with statistics in their own file.
        archive: names of configuration and weights in a tar archive.
        prefix: of the keys that are read from a .safetensors which holds much else; never downloaded unless named.
        stored_config: key of the configuration, as YAML, in checkpoints without a configuration beside them.
        mel_configs: of published models whose configuration lacks it, by repository name without owner.
    """

    name: str
    description: str
    convert: Callable[[Settings, Weights, MelConfig | None], Imported]
    recognizes: Callable[[Settings], bool]
    checkpoints: tuple[str, ...]
    harmless: str = ""
    configs: tuple[str, ...] = ("config.json", "config.yml", "config.yaml")
    needs_config: bool = True
    standardizes: Callable[[Settings], bool] = lambda _: False
    archive: tuple[str, str] | None = None
    prefix: str = ""
    stored_config: str = ""
    mel_configs: Mapping[str, MelConfig] = field(default_factory=dict)

    def read(self, settings: Settings, content: Any, stated: MelConfig | None, checkpoint: Path) -> Imported:
        """Convert a checkpoint from ``read_config`` and ``read_weights``; ``stated``: mel config of the user or the
        repository.

        Raises:
            VocoderError: when configuration or checkpoint are not of the family.
        """
        config, weights = (
            Noting({**settings, FILE_NAME: checkpoint.name}, {FILE_NAME}),
            find_weights(content, checkpoint),
        )
        try:
            imported = self.convert(config, weights, stated)
        except VocoderError:
            raise
        except KeyError as error:
            raise VocoderError(f"the configuration or {checkpoint} lacks {error}, which {self.name} has") from None
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise VocoderError(
                f"the configuration or {checkpoint} is not what {self.name} writes ({reason(error)})"
            ) from None
        if unknown := [key for key in config.unread() if not self._is_harmless(key)]:
            raise VocoderError(
                f"the configuration has {few(unknown)}, which the importer of {self.name} does not know; give --config "
                f"a copy of it without what does not change the sound"
            )
        return imported

    def _is_harmless(self, key: str) -> bool:
        level = key.count(".")  # which "*" does not cross
        return any(known.count(".") == level and fnmatchcase(key, known) for known in self.harmless.split())


class Noting(Settings):
    """A configuration, or a mapping in it, that notes which keys are read."""

    def __init__(self, values: Settings, noted: set[str] | None = None) -> None:
        super().__init__({key: Noting(value) if type(value) is dict else value for key, value in values.items()})
        self.noted: set[str] = set() if noted is None else noted

    def __getitem__(self, key: str) -> Any:
        self.noted.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.noted.add(key)
        return super().get(key, default)

    def __or__(self, others: Settings) -> Noting:  # type: ignore[override]
        return Noting({**self, **others}, self.noted)

    def __ror__(self, defaults: Settings) -> Noting:  # type: ignore[override]
        return Noting({**defaults, **self}, self.noted)

    def unread(self) -> Iterator[str]:
        """Return the unread keys; "a.b" is b in a."""
        for key, value in self.items():
            if key not in self.noted:
                yield str(key)
            elif isinstance(value, Noting):
                yield from (f"{key}.{inner}" for inner in value.unread())


def part(config: Settings, key: str) -> Settings:
    """Return a mapping in a configuration.

    Raises:
        KeyError: when it is missing.
        VocoderError: when it is no mapping.
    """
    value = resolve(config[key], config)
    if not isinstance(value, dict):
        raise VocoderError(f"'{key}' of the configuration must hold keys and values, it is {value!s:.40}")
    return value


def check_only(config: Settings, what: str, **supported: Any) -> None:
    """Raise VocoderError where a key has another than the supported value, the default."""
    for key, only in supported.items():
        if (value := config.get(key, only)) != only:
            raise VocoderError(f"{what} with {key} {value!s:.40} is not supported, only {only}")


def find_weights(content: Any, checkpoint: Path) -> Weights:
    """Return a generator's weights, without prefixes, from wherever a training keeps them in a checkpoint.

    Raises:
        VocoderError: when there are none, or some are not plain tensors.
    """
    for place in _PLACES:
        if isinstance(content, Mapping) and isinstance(content.get(place), Mapping):
            content = content[place]
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        raise VocoderError(f"{checkpoint} holds no weights by name, but a {type(content).__name__}")
    weights = {_WRAPPERS.sub("", key): value for key, value in content.items()}
    for prefix in _PARTS:
        own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        weights = own or weights
    storages: dict[object, int] = {}
    claimed = 0
    for key, value in weights.items():
        if not isinstance(value, Tensor) or value.layout != torch.strided:
            raise VocoderError(f"{key} in {checkpoint} is no tensor as weights are, but a {type(value).__name__}")
        storage = value.untyped_storage()
        storages[storage.data_ptr() or key] = storage.nbytes()
        claimed += value.numel() * value.element_size()
    if claimed > 2 * sum(storages.values()):  # expanded: few bytes claim a large shape
        raise VocoderError(f"the weights in {checkpoint} claim {claimed} bytes, it holds {sum(storages.values())}")
    return weights


def build_imported(imported: Imported, statistics: tuple[Tensor, Tensor] | None, checkpoint: Path) -> Generator:
    """Build an imported generator, for evaluation, without gradients; ``statistics`` are from ``read_stats``.

    Raises:
        VocoderError: with the keys, when the weights do not fit the configuration.
    """
    n_mels = imported.mel_config.n_mels
    with torch.device("meta"):  # avoids a second copy of the weights
        generator = build_generator(imported.generator, imported.config, imported.mel_config)
    mean, scale = statistics or (torch.zeros(n_mels, 1), torch.ones(n_mels, 1))
    standardize = {"standardize.mean": mean * imported.unit, "standardize.scale": scale * imported.unit}
    if statistics is None:
        standardize = {k: v for k, v in standardize.items() if k in generator.state_dict()} | imported.weights
    _fill(generator, imported.weights | standardize, checkpoint)
    return generator


def build_imported_f0_estimator(imported: Imported, checkpoint: Path) -> BaseF0Estimator | None:
    """Build the F0 estimator of an imported model, if any."""
    if imported.f0_estimator is None:
        return None
    description, weights = imported.f0_estimator
    with torch.device("meta"):
        estimator = build_f0_estimator(description, imported.mel_config)
    _fill(estimator, weights, checkpoint)
    return estimator


def _fill(model: nn.Module, weights: Weights, checkpoint: Path) -> None:
    """Load weights into a network on "meta", once all are known to fit."""
    expected = model.state_dict()
    misfit = f"{checkpoint} does not fit its configuration"
    if missing := expected.keys() - weights.keys():
        raise VocoderError(f"{misfit}, it lacks: {few(missing)}")
    if surplus := weights.keys() - expected.keys():
        raise VocoderError(f"{misfit}, it also holds: {few(surplus)}")
    for key, value in expected.items():
        if weights[key].shape != value.shape:
            shapes = f"{tuple(weights[key].shape)} instead of {tuple(value.shape)}"
            raise VocoderError(f"{misfit}: {key} has the shape {shapes}")
        if not weights[key].is_floating_point():
            raise VocoderError(f"{misfit}: {key} holds {weights[key].dtype}, not floats".replace("torch.", ""))
    weights = {key: value.float() for key, value in weights.items()}
    for key, value in weights.items():
        if not value.is_meta and not torch.isfinite(value).all():
            raise VocoderError(f"{checkpoint} is damaged, or its training failed: {key} is not finite everywhere")
    model.load_state_dict(weights, assign=True)
    model.eval().requires_grad_(False)


def require_mel_config(mel_config: MelConfig | None) -> MelConfig:
    """Return ``mel_config``; VocoderError if it is None, for families that do not state it."""
    if mel_config is None:
        raise VocoderError(
            "the configuration does not state the mel config of the model; give --mel-config to 'vocoders import'"
        )
    return mel_config


def resolved(settings: Settings, config: Settings) -> Settings:
    """Return a mapping with all references resolved, see ``resolve``."""
    return Noting({key: resolve(value, config) for key, value in settings.items()}, getattr(settings, "noted", None))


def rename(weights: Weights, rules: list[tuple[str, Any]]) -> Weights:
    """Rename keys by regular expressions in turn, with replacements as for ``re.sub``."""
    renamed = {}
    for key, value in weights.items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    return renamed


def fold_weight_norm(weights: Mapping[str, Tensor]) -> Weights:
    """Fold weight norm, with PyTorch's old and new keys, into the weights.

    weight = g v / |v|, |v| over all axes but the first (Salimans & Kingma 2016, equation 2).
    """
    folded = {}
    for key, value in weights.items():
        for magnitude, direction in (
            ("weight_g", "weight_v"),
            ("parametrizations.weight.original0", "parametrizations.weight.original1"),
        ):
            if key.endswith(magnitude):
                stem = key.removesuffix(magnitude)
                v = weights[stem + direction]
                norm = v.flatten(1).norm(dim=1).reshape(-1, *[1] * (v.dim() - 1))
                folded[f"{stem}weight"] = (value * v).div_(norm)  # in place: no third copy of a large layer
                break
            if key.endswith(direction):
                break
        else:
            folded[key] = value
    return folded


def resolve(value: Any, config: Settings) -> Any:
    """Return what "!ref <sample_rate>" refers to (KeyError without it), other values unchanged."""
    match = re.fullmatch(r"!ref <(\w+)>", value) if isinstance(value, str) else None
    return config[match[1]] if match else value
