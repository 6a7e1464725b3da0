"""The interface of importers; renaming and folding of weights, building of the generator."""

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

# Where the projects keep the weights of a generator, from the outside inwards, and how a training calls its part
_PLACES = ("state_dict", "model", "generator_state_dict", "generator")
_PARTS = ("generator.", "model_g.")
_WRAPPERS = re.compile(r"(?<![^.])(?:module|_orig_mod)\.")  # of several GPUs, and of torch.compile


class Imported(NamedTuple):
    """A model of another project, in the terms of this package.

    Attributes:
        generator: a key of ``GENERATORS``.
        config: keys and values of its ``config_type``.
        mel_config: the mel config it was trained on.
        weights: the ``state_dict`` of the generator; "standardize.mean" and "standardize.scale" may be absent.
        f0_estimator: of a model that estimates F0 itself, what ``build_f0_estimator`` takes, and the ``state_dict``.
        levels: mean and scale that turn a mel of ``mel_config`` into one that the statistics in a file are of.
        lag: samples by which the audio of this package's generator is later than the recording that the mel is of. Most
            projects train on the samples from t * hop_length on for frame t, whatever the padding.
    """

    generator: str
    config: dict[str, Any]
    mel_config: MelConfig
    weights: Weights
    f0_estimator: tuple[dict[str, Any], Weights] | None = None
    levels: tuple[float, float] = (0.0, 1.0)
    lag: int = 0


@dataclass(frozen=True)
class Importer:
    """Reader of the checkpoints of one family of models.

    Attributes:
        name: name of the family in ``vocoders import``.
        description: the project and the files that are needed, in one line.
        convert: function that makes an ``Imported`` of the configuration, the weights in the checkpoint, and the mel
            config that the user stated, if any. It may raise KeyError for a missing key.
        recognizes: function that tells whether a configuration is one of this family.
        checkpoints: names of its checkpoints, with ``*``; of several kinds of file the preferred one first.
        harmless: keys of its configuration that do not change what comes out, with ``*``; "a.b" is b in a. Every other
            key that ``convert`` does not read is refused.
        configs: names of its configuration, which lies beside the checkpoint.
        needs_config: whether there must be one; without it the configuration is empty.
        standardizes: tells from the configuration whether the model was trained on mels of mean 0 and deviation 1, and
            their statistics are in a file of their own.
        archive: names of the configuration and the weights, where one tar archive holds both.
        mel_configs: of published models whose configuration does not state the mel config, by the name of their
            repository without its owner.
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
    mel_configs: Mapping[str, MelConfig] = field(default_factory=dict)

    def read(self, settings: Settings, content: Any, stated: MelConfig | None, checkpoint: Path) -> Imported:
        """Convert a checkpoint from ``read_config`` and ``read_weights``.

        ``stated`` is the mel config that the user stated, or that of the published model of its name, or None.

        Raises:
            VocoderError: when the configuration or the checkpoint is not what the family writes.
        """
        config, weights = Noting(settings), find_weights(content, checkpoint)
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
    """A configuration, or a mapping in it, that notes which of its keys are read."""

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
        """Return the keys that were not read; "a.b" is b in a."""
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
    """Raise VocoderError where a key has another value than the supported one, which is the default."""
    for key, only in supported.items():
        if (value := config.get(key, only)) != only:
            raise VocoderError(f"{what} with {key} {value!s:.40} is not supported, only {only}")


def find_weights(content: Any, checkpoint: Path) -> Weights:
    """Return the weights of the generator in a checkpoint, by their names in the generator's module.

    They may be the whole checkpoint, or lie where a training keeps them, with its prefixes.

    Raises:
        VocoderError: when there are none, or some are no plain tensors.
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
    if claimed > 2 * sum(storages.values()):  # expanded: some bytes become as many as the shape says
        raise VocoderError(f"the weights in {checkpoint} claim {claimed} bytes, it holds {sum(storages.values())}")
    return weights


def build_imported(imported: Imported, statistics: tuple[Tensor, Tensor] | None, checkpoint: Path) -> Generator:
    """Build the generator of an imported model, in evaluation mode and without gradients.

    ``statistics`` of the mels are those of ``read_stats``, None without a file; ``checkpoint`` is for messages.

    Raises:
        VocoderError: when the weights do not fit the configuration; the message lists the keys.
    """
    n_mels = imported.mel_config.n_mels
    with torch.device("meta"):  # the weights are read once and not copied into others
        generator = build_generator(imported.generator, imported.config, imported.mel_config)
    mean, scale = statistics or (torch.zeros(n_mels, 1), torch.ones(n_mels, 1))
    offset, unit = imported.levels
    standardize = {"standardize.mean": mean * unit + offset, "standardize.scale": scale * unit}
    if statistics is None:
        standardize = {k: v for k, v in standardize.items() if k in generator.state_dict()} | imported.weights
    _fill(generator, imported.weights | standardize, checkpoint)
    return generator


def build_imported_f0_estimator(imported: Imported, checkpoint: Path) -> BaseF0Estimator | None:
    """Build the F0 estimator of an imported model, if it has one, as ``build_imported`` does the generator."""
    if imported.f0_estimator is None:
        return None
    description, weights = imported.f0_estimator
    with torch.device("meta"):
        estimator = build_f0_estimator(description, imported.mel_config)
    _fill(estimator, weights, checkpoint)
    return estimator


def _fill(model: nn.Module, weights: Weights, checkpoint: Path) -> None:
    """Load the weights of a network on the "meta" device, once all are known to fit."""
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
    """Return ``mel_config``; for families whose configuration does not state it.

    Raises:
        VocoderError: when it is None.
    """
    if mel_config is None:
        raise VocoderError(
            "the configuration does not state the mel config of the model; give --mel-config to 'vocoders import'"
        )
    return mel_config


def resolved(settings: Settings, config: Settings) -> Settings:
    """Return a mapping in a configuration with what its values refer to, see ``resolve``."""
    return Noting({key: resolve(value, config) for key, value in settings.items()}, getattr(settings, "noted", None))


def rename(weights: Weights, rules: list[tuple[str, Any]]) -> Weights:
    """Rename keys by regular expressions that are applied in turn; replacements are as for ``re.sub``."""
    renamed = {}
    for key, value in weights.items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    return renamed


def fold_weight_norm(weights: Mapping[str, Tensor]) -> Weights:
    """Fold weight norm, in PyTorch's old and new keys, into the weights.

    weight = g v / |v|, with |v| over all axes but the first (Salimans & Kingma 2016, equation 2).
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
    """Return what a value such as "!ref <sample_rate>" refers to (KeyError without it), and any other as it is."""
    match = re.fullmatch(r"!ref <(\w+)>", value) if isinstance(value, str) else None
    return config[match[1]] if match else value
