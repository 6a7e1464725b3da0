"""A model of another mel config made from the weights of a built-in model, to start training from.

Layers that see bands or bins get weights interpolated over frequency; all others keep theirs. The strength of the
projection is new.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recipes.training.recipe import load_recipe
from vocoders.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vocoders.cli.common import Parser
from vocoders.dsp.mel import MelConfig, bin_frequencies, mel_filter_bank, mel_frequencies
from vocoders.f0_estimator import build_f0_estimator, describe_f0_estimator
from vocoders.generators import build_generator
from vocoders.generators.hnmask import HNMask
from vocoders.pretrained import find_pretrained


def interpolation(source: np.ndarray, target: np.ndarray) -> Tensor:
    """Return the matrix (source, target) that interpolates from frequencies ``target`` to ``source``."""
    return torch.from_numpy(np.stack([np.interp(source, target, unit) for unit in np.eye(len(target))], 1)).float()


def band_matrix(source: MelConfig, target: MelConfig) -> tuple[Tensor, Tensor]:
    """Return matrix and offset from a mel of ``target`` to one of ``source``, both natural logs of magnitudes."""
    matrix = interpolation(mel_frequencies(source)[1:-1], mel_frequencies(target)[1:-1])
    gathered = [torch.from_numpy(np.log(mel_filter_bank(config).sum(1))).float() for config in (source, target)]
    return matrix, gathered[0] - matrix @ gathered[1] + np.log(source.win_length / target.win_length) / 2


def change_input(weight: Tensor, bias: Tensor, source: MelConfig, target: MelConfig) -> tuple[Tensor, Tensor]:
    """Make a first convolution over mel / 4 + 1, and perhaps more channels, take mels of ``target``."""
    matrix, offset = band_matrix(source, target)
    bands, rest = weight[:, : source.n_mels], weight[:, source.n_mels :]
    # source / 4 + 1 = matrix (target / 4 + 1) + offset / 4, as the matrix rows sum to one
    bias = bias + torch.einsum("obk,b->o", bands, offset) / 4
    return torch.cat([torch.einsum("obk,bt->otk", bands, matrix), rest], 1), bias


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = Parser(prog="python -m recipes.corpora.openvoices.warm_start", description=__doc__)
    parser.add_argument("recipe", type=Path, help="recipe of the generator to start")
    parser.add_argument("voice", help="model to take the weights of")
    parser.add_argument("out", type=Path, help="the checkpoint to write")
    options = parser.parse_args(arguments)
    recipe = load_recipe(options.recipe, ["name=warm-start", "data.dir=."])
    voice = load_checkpoint(find_pretrained(options.voice)[1])
    source, target = voice.mel_config, recipe.mel_config
    assert recipe.generator is not None
    assert voice.f0_estimator is not None
    assert isinstance(voice.generator, HNMask)
    generator = build_generator("hnmask", recipe.generator.config, target)
    assert isinstance(generator, HNMask)
    weights = {k: v for k, v in voice.generator.state_dict().items() if not k.startswith("strength.")}
    bins = interpolation(
        bin_frequencies(target, generator.config.n_fft), bin_frequencies(source, voice.generator.config.n_fft)
    )
    weights["backbone_input.weight"], weights["backbone_input.bias"] = change_input(
        weights["backbone_input.weight"], weights["backbone_input.bias"], source, target
    )
    for name in ("backbone_output.weight", "backbone_output.bias"):
        maps = weights[name].unflatten(0, (-1, generator.config.maps))
        weights[name] = torch.einsum("ts,sm...->tm...", bins, maps).flatten(0, 1)
    learned = voice.generator.envelope_offset - voice.generator._initial_offset()
    weights["envelope_offset"] = generator.envelope_offset + bins @ learned
    generator.load_state_dict(generator.state_dict() | weights)
    estimator = build_f0_estimator(describe_f0_estimator(voice.f0_estimator), target)
    weights = dict(voice.f0_estimator.state_dict())
    weights["input.weight"], weights["input.bias"] = change_input(
        weights["input.weight"], weights["input.bias"], source, target
    )
    estimator.load_state_dict(weights)
    save_checkpoint(Checkpoint(target, generator=generator, f0_estimator=estimator), options.out)
    print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
