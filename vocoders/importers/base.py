"""What importers share: their interface, renaming and folding of weights, building of the generator."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.f0_estimator import BaseF0Estimator, build_f0_estimator
from vocoders.generators import build_generator
from vocoders.generators.base import Generator

Weights = dict[str, Tensor]
Settings = dict[str, Any]


class Imported(NamedTuple):
    """A model of another project, in the terms of this package.

    Attributes:
        generator: a key of ``GENERATORS``.
        config: keys and values of its ``config_type``.
        mel_config: the mel config it was trained on.
        weights: the ``state_dict`` of the generator; "standardize.mean" and "standardize.scale" may be absent.
        f0_estimator: of a model that estimates F0 itself, what ``build_f0_estimator`` takes, and the ``state_dict``.
    """

    generator: str
    config: dict[str, Any]
    mel_config: MelConfig
    weights: Weights
    f0_estimator: tuple[dict[str, Any], Weights] | None = None


@dataclass(frozen=True)
class Importer:
    """Reader of the checkpoints of one family of models.

    Attributes:
        name: name of the family in ``vocoders import``.
        description: the project and the files that are needed, in one line.
        convert: function that makes an ``Imported`` of the configuration, the content of the checkpoint, and the mel
            config that the user stated, if any. It may raise KeyError for a missing key.
        recognizes: function that tells whether a configuration is one of this family.
        checkpoints: names of its checkpoints, with ``*``; of several kinds of file the preferred one first.
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
    convert: Callable[[Settings, Any, MelConfig | None], Imported]
    recognizes: Callable[[Settings], bool]
    checkpoints: tuple[str, ...]
    configs: tuple[str, ...] = ("config.json", "config.yml", "config.yaml")
    needs_config: bool = True
    standardizes: Callable[[Settings], bool] = lambda _: False
    archive: tuple[str, str] | None = None
    mel_configs: Mapping[str, MelConfig] = field(default_factory=dict)

    def read(self, settings: Settings, content: Any, stated: MelConfig | None, checkpoint: Path) -> Imported:
        """Convert a checkpoint.

        Args:
            settings: its configuration, from ``read_config``.
            content: its content, from ``read_weights``.
            stated: the mel config that the user stated, or that of the published model of its name, or None.
            checkpoint: path of the checkpoint, for messages.

        Raises:
            VocoderError: when the configuration or the checkpoint is not what the family writes.
        """
        try:
            return self.convert(settings, content, stated)
        except VocoderError:
            raise
        except KeyError as error:
            raise VocoderError(f"the configuration or {checkpoint} lacks {error}, which {self.name} has") from None
        except (TypeError, ValueError, AttributeError) as error:
            raise VocoderError(
                f"the configuration or {checkpoint} is not what {self.name} writes ({str(error).splitlines()[0]})"
            ) from None


def build_imported(imported: Imported, statistics: Weights, checkpoint: Path) -> Generator:
    """Build the generator of an imported model, in evaluation mode and without gradients.

    Args:
        imported: the model.
        statistics: further weights, from ``read_stats``.
        checkpoint: path of the checkpoint, for messages.

    Raises:
        VocoderError: when the weights do not fit the configuration; the message lists the keys.
    """
    n_mels = imported.mel_config.n_mels
    with torch.device("meta"):  # the weights are read once and not copied into others
        generator = build_generator(imported.generator, imported.config, imported.mel_config)
    neutral = {"standardize.mean": torch.zeros(n_mels, 1), "standardize.scale": torch.ones(n_mels, 1)}
    neutral = {key: value for key, value in neutral.items() if key in generator.state_dict()}
    _fill(generator, neutral | imported.weights | statistics, checkpoint)
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
        raise VocoderError(f"{misfit}, it lacks: {', '.join(sorted(missing))}")
    if surplus := weights.keys() - expected.keys():
        raise VocoderError(f"{misfit}, it also holds: {', '.join(sorted(surplus))}")
    for key, value in expected.items():
        if weights[key].shape != value.shape:
            shapes = f"{tuple(weights[key].shape)} instead of {tuple(value.shape)}"
            raise VocoderError(f"{misfit}: {key} has the shape {shapes}")
    model.load_state_dict({key: value.float() for key, value in weights.items()}, assign=True)
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


def rename(weights: Weights, rules: list[tuple[str, Any]]) -> Weights:
    """Rename keys by regular expressions that are applied in turn; replacements are as for ``re.sub``."""
    renamed = {}
    for key, value in weights.items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    return renamed


def fold_weight_norm(weights: Mapping[str, Tensor]) -> Weights:
    """Fold weight norm, in PyTorch's old and new key style, into the weights.

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
    """Return what a value such as "!ref <sample_rate>" refers to, and any other as it is.

    Raises:
        KeyError: when the configuration has no such value.
    """
    match = re.fullmatch(r"!ref <(\w+)>", value) if isinstance(value, str) else None
    return config[match[1]] if match else value
