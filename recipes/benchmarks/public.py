"""Networks and training steps of public implementations, from clones that the user made: none of their code is here.

CLONES is a folder with clones of these names, each of which is only needed for its own rows: hifi-gan (jik876), wavehax
(chomeyama), ParallelWaveGAN (kan-bayashi), iSTFTNet-pytorch (rishikksh20), vocos (gemelo-ai), BigVGAN (NVIDIA),
SingingVocoders (openvpi), CosyVoice (FunAudioLLM), Amphion (open-mmlab), nnAudio (KinWaiCheuk). Amphion and wavehax
need einops, BigVGAN librosa.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from torch import Tensor, nn

from vocoders.dsp.mel import MelConfig

Discriminate = Callable[[Tensor, Tensor], tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]]
"""(real, fake) -> scores of real, scores of fake, feature maps of real, feature maps of fake."""


class Opponents(NamedTuple):
    """A public generator and discriminator with a common interface.

    Attributes:
        generator: the generator.
        generate: function (mel, f0, noise) -> audio.
        discriminator: the discriminator.
        discriminate: function that calls it.
    """

    generator: nn.Module
    generate: Callable[[Tensor, Tensor, Tensor], Tensor]
    discriminator: nn.Module
    discriminate: Discriminate


class Settings(dict[str, Any]):
    """A dictionary whose keys are attributes as well, as these projects pass their configurations."""

    __getattr__ = dict.__getitem__

    @classmethod
    def of(cls, values: Any) -> Any:
        """Turn nested dictionaries into settings."""
        return cls({k: cls.of(v) for k, v in values.items()}) if isinstance(values, dict) else values


def load_modules(clone: Path, *modules: str) -> list[Any]:
    """Import modules of a clone.

    Raises:
        FileNotFoundError: when there is no clone.
    """
    if not clone.is_dir():
        raise FileNotFoundError(f"no clone at {clone}")
    sys.path.insert(0, str(clone))
    for name in [name for name in sys.modules if name.partition(".")[0] in ("models", "utils", "env", "meldataset")]:
        del sys.modules[name]  # several of the clones have modules of these names
    return [importlib.import_module(module) for module in modules]


def _pairwise(discriminator: nn.Module) -> Discriminate:
    """Call a discriminator that takes both signals in one call and returns lists of lists of feature maps."""

    def discriminate(real: Tensor, fake: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        scores_real, scores_fake, maps_real, maps_fake = discriminator(real, fake)
        return scores_real, scores_fake, [m for ms in maps_real for m in ms], [m for ms in maps_fake for m in ms]

    return discriminate


def _hifigan_generator(clones: Path) -> tuple[nn.Module, Any]:
    (models,) = load_modules(clones / "hifi-gan", "models")
    settings = Settings(json.loads((clones / "hifi-gan" / "config_v1.json").read_text(encoding="utf-8")))
    return models.Generator(settings), models


def hifigan(clones: Path, discriminator: str) -> Opponents:
    """Load HiFi-GAN V1 and its discriminators."""
    generator, models = _hifigan_generator(clones)
    kinds = {"multi-period": "MultiPeriodDiscriminator", "multi-scale": "MultiScaleDiscriminator"}
    modules = nn.ModuleList(getattr(models, kinds[name])() for name in discriminator.split("+"))

    def discriminate(real: Tensor, fake: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        outputs = [_pairwise(module)(real, fake) for module in modules]
        one, two, three, four = ([x for lists in column for x in lists] for column in zip(*outputs, strict=True))
        return one, two, three, four

    return Opponents(generator, lambda mel, f0, noise: generator(mel), modules, discriminate)


def amphion(clones: Path, discriminator: str) -> Opponents:
    """Load Amphion's discriminators, with hifi-gan's generator, of which Amphion's is a copy."""
    generator, _ = _hifigan_generator(clones)
    sys.path.append(str(clones / "nnAudio" / "Installation"))
    parts = "models.vocoders.gan.discriminator"
    cqt, stft = load_modules(clones / "Amphion", f"{parts}.mssbcqtd", f"{parts}.msstftd")
    model = {
        "mssbcqtd": {
            "hop_lengths": [512, 256, 256],
            "filters": 32,
            "max_filters": 1024,
            "filters_scale": 1,
            "dilations": [1, 2, 4],
            "in_channels": 1,
            "out_channels": 1,
            "n_octaves": [9, 9, 9],
            "bins_per_octaves": [24, 36, 48],
        },
        "msstftd": {"filters": 32},
    }
    settings = Settings.of({"model": model, "preprocess": {"sample_rate": 24000}})
    with contextlib.redirect_stdout(io.StringIO()):  # nnAudio reports its progress
        if discriminator == "multi-scale-stft":
            module = stft.MultiScaleSTFTDiscriminator(settings)
        else:
            module = cqt.MultiScaleSubbandCQTDiscriminator(settings)
    return Opponents(generator, lambda mel, f0, noise: generator(mel), module, _pairwise(module))


def wavehax_generator(clones: Path, version: str) -> tuple[nn.Module, Path]:
    """Load a Wavehax by the name of its configuration, such as wavehax.v1; returns the file of that as well."""
    clone = clones / "wavehax"
    (generators,) = load_modules(clone, "wavehax.generators.wavehax")
    config = clone / f"wavehax/bin/config/generator/{version}.yaml"
    settings = yaml.safe_load(config.read_text(encoding="utf-8"))
    kind = getattr(generators, settings.pop("_target_").rpartition(".")[2])
    return kind(**settings), config


def wavehax(clones: Path, discriminator: str) -> Opponents:
    """Load Wavehax v1 and UnivNet's discriminators."""
    generator, _ = wavehax_generator(clones, "wavehax.v1")
    clone = clones / "wavehax"
    (discriminators,) = load_modules(clone, "wavehax.discriminators.univnet")
    settings = yaml.safe_load((clone / "wavehax/bin/config/discriminator/univnet.yaml").read_text(encoding="utf-8"))
    whole = discriminators.MultiResolutionMultiPeriodDiscriminator(
        **{k: v for k, v in settings.items() if k != "_target_"}
    )
    part = {"multi-period": whole.mpd, "multi-resolution": whole.mrd}.get(discriminator, whole)

    def discriminate(real: Tensor, fake: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        scores_real, maps_real = part(real)
        scores_fake, maps_fake = part(fake)
        return scores_real, scores_fake, maps_real, maps_fake

    return Opponents(generator, lambda mel, f0, noise: generator(mel, f0)[0], part, discriminate)


def vocos(clones: Path) -> tuple[nn.Module, nn.Module, dict[str, Any]]:
    """Load backbone and head of Vocos with "same" padding; returns its configuration as well."""
    clone = clones / "vocos"
    if not clone.is_dir():
        raise FileNotFoundError(f"no clone at {clone}")
    package = types.ModuleType("vocos")  # its own __init__ imports analyses that are not needed here
    package.__path__ = [str(clone / "vocos")]
    sys.modules["vocos"] = package
    config = yaml.safe_load((clone / "configs" / "vocos.yaml").read_text(encoding="utf-8"))["model"]["init_args"]
    for part in ("feature_extractor", "head"):
        config[part]["init_args"]["padding"] = "same"
    backbone, head = (
        getattr(importlib.import_module(config[part]["class_path"].rpartition(".")[0]), kind)(
            **config[part]["init_args"]
        )
        for part, kind in (("backbone", "VocosBackbone"), ("head", "ISTFTHead"))
    )
    return backbone, head, config


def parallel_wavegan(clones: Path, discriminator: str, upsample_scales: tuple[int, ...] = (4, 4, 4, 4)) -> Opponents:
    """Load Parallel WaveGAN v1 and its discriminator."""
    clone = clones / "ParallelWaveGAN" / "parallel_wavegan"
    if not clone.is_dir():
        raise FileNotFoundError(f"no clone at {clone.parent}")
    # The packages' own __init__ import much that is not needed here; empty packages with the same path replace them.
    for name in ("", ".models", ".layers", ".utils"):
        package = types.ModuleType("parallel_wavegan" + name)
        package.__path__ = [str(clone.joinpath(*filter(None, name.split("."))))]
        sys.modules[package.__name__] = package
    root, utils, layers = (sys.modules["parallel_wavegan" + name] for name in ("", ".utils", ".layers"))
    root.__dict__.update(models=sys.modules["parallel_wavegan.models"])
    utils.__dict__.update(read_hdf5=None)
    blocks = importlib.import_module("parallel_wavegan.layers.residual_block")
    layers.__dict__.update(blocks.__dict__)
    layers.__dict__.update(upsample=importlib.import_module("parallel_wavegan.layers.upsample"))
    models = importlib.import_module("parallel_wavegan.models.parallel_wavegan")
    generator = models.ParallelWaveGANGenerator(
        aux_context_window=2, upsample_params={"upsample_scales": list(upsample_scales)}
    )
    discriminator_module = models.ParallelWaveGANDiscriminator()

    def discriminate(real: Tensor, fake: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        return [discriminator_module(real)], [discriminator_module(fake)], [], []

    def generate(mel: Tensor, f0: Tensor, noise: Tensor) -> Tensor:
        return generator(noise, nn.functional.pad(mel, (2, 2), mode="replicate"))

    return Opponents(generator, generate, discriminator_module, discriminate)


PUBLIC: dict[tuple[str, str], Callable[[Path, str], Opponents]] = {
    ("hifigan", "multi-period"): hifigan,
    ("hifigan", "multi-scale"): hifigan,
    ("hifigan", "multi-scale-stft"): amphion,
    ("hifigan", "multi-scale-subband-cqt"): amphion,
    ("hifigan", "multi-period+multi-scale"): hifigan,
    ("wavehax", "multi-period"): wavehax,
    ("wavehax", "multi-period+multi-resolution"): wavehax,
    ("wavehax", "multi-resolution"): wavehax,
    ("parallel-wavegan", "parallel-wavegan"): parallel_wavegan,
}


def public_step(
    opponents: Opponents, mel_config: MelConfig, lr: float
) -> Callable[[Tensor, Tensor, Tensor, Tensor], None]:
    """Make the training step of these projects: the discriminator scores both signals in each of the two updates.

    The mel loss is ours, because theirs do not run with today's torch and librosa.

    Args:
        opponents: generator and discriminator.
        mel_config: mel config of the mel loss.
        lr: learning rate of both.

    Returns:
        Function (mel, f0, noise, audio) that updates both once.
    """
    from losses import FullBandMelLoss

    mel_loss = FullBandMelLoss(mel_config).to(next(opponents.generator.parameters()).device)
    optimizers = [torch.optim.AdamW(module.parameters(), lr, (0.8, 0.99)) for module in opponents[::2]]

    def step(mel: Tensor, f0: Tensor, noise: Tensor, audio: Tensor) -> None:
        fake = opponents.generate(mel, f0, noise)
        real_scores, fake_scores, _, _ = opponents.discriminate(audio, fake.detach())
        loss = sum((1 - r).square().mean() + f.square().mean() for r, f in zip(real_scores, fake_scores, strict=True))
        optimizers[1].zero_grad()
        torch.as_tensor(loss).backward()
        optimizers[1].step()

        _, fake_scores, real_maps, fake_maps = opponents.discriminate(audio, fake)
        loss = sum((1 - f).square().mean() for f in fake_scores) + 45 * mel_loss(fake.squeeze(1), audio.squeeze(1))
        loss = loss + 2 * sum((f - r).abs().mean() for r, f in zip(real_maps, fake_maps, strict=True))
        optimizers[0].zero_grad()
        loss.backward()
        optimizers[0].step()

    return step
