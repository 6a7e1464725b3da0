"""Run public implementations, networks and training steps, from the user's clones.

CLONES holds clones of these names, each needed for its own rows only: hifi-gan (jik876), wavehax (chomeyama),
ParallelWaveGAN (kan-bayashi), iSTFTNet-pytorch (rishikksh20), vocos (gemelo-ai), BigVGAN (NVIDIA), SingingVocoders
(openvpi), CosyVoice (FunAudioLLM), Amphion (open-mmlab), nnAudio (KinWaiCheuk). Amphion and wavehax need einops,
BigVGAN librosa.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import sys
import types
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
import yaml
from torch import Tensor, nn
from torch.nn.utils import parametrize

from losses import FullBandMelLoss
from vocoders.checkpoint import Checkpoint
from vocoders.dsp.mel import MelConfig
from vocoders.generators.nsf_hifigan import INITIAL_PHASES
from vocoders.importers import import_checkpoint

Generate = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(mel, f0 (batch, 1, frames), noise (batch, 1, samples)) -> audio (batch, 1, samples)."""

Scores = tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]
"""Scores and feature maps: scores of real, of fake, feature maps of real, of fake."""


class Public(NamedTuple):
    """A public generator with random weights.

    Attributes:
        generator: the network.
        generate: calls it.
        convert: writes its files into a folder; returns the same weights as our checkpoint.
        fold: removes its weight norm.
    """

    generator: Any
    generate: Generate
    convert: Callable[[Path], Checkpoint]
    fold: Callable[[], object]


class Discriminator(NamedTuple):
    """A public discriminator, and a function that calls it with (real, fake)."""

    module: nn.Module
    discriminate: Callable[[Tensor, Tensor], Scores]


class Settings(dict[str, Any]):
    """A dictionary with keys as attributes, as these projects pass configurations."""

    __getattr__ = dict.__getitem__

    @classmethod
    def of(cls, values: Any) -> Any:
        """Convert nested dictionaries."""
        return cls({k: cls.of(v) for k, v in values.items()}) if isinstance(values, dict) else values


def load_modules(clone: Path, *modules: str) -> list[Any]:
    """Import modules of a clone."""
    check_clone(clone)
    sys.path.insert(0, str(clone))
    for name in [name for name in sys.modules if name.partition(".")[0] in ("models", "utils", "env", "meldataset")]:
        del sys.modules[name]  # several clones share module names
    return [importlib.import_module(module) for module in modules]


def check_clone(clone: Path) -> None:
    """Check that a clone exists."""
    if not clone.is_dir():
        raise FileNotFoundError(f"no clone at {clone}")


def import_empty(package: str, folder: Path) -> types.ModuleType:
    """Import a package without its ``__init__`` and what that imports."""
    module = sys.modules[package] = types.ModuleType(package)
    module.__path__ = [str(folder)]
    return module


def hifigan(version: str, clones: Path) -> Public:
    """Build HiFi-GAN v1 to v3."""
    config = clones / "hifi-gan" / f"config_{version}.json"
    (models,) = load_modules(clones / "hifi-gan", "models")
    generator = models.Generator(Settings(json.loads(config.read_text(encoding="utf-8"))))

    def convert(folder: Path) -> Checkpoint:
        torch.save({"generator": generator.state_dict()}, folder / "g")
        return import_checkpoint("hifi-gan", folder / "g", config)

    return Public(generator, lambda mel, f0, noise: generator(mel), convert, generator.remove_weight_norm)


def istftnet(clones: Path) -> Public:
    """Build iSTFTNet V1-C8C8I."""
    clone = clones / "iSTFTNet-pytorch"
    (models,) = load_modules(clone, "models")
    settings: Any = Settings(json.loads((clone / "config_v1.json").read_text(encoding="utf-8")))
    generator = models.Generator(settings)
    nn.init.normal_(generator.conv_post.weight_g, std=1e-3)  # else exp(.) of random weights overflows
    n_fft, hop = settings.gen_istft_n_fft, settings.gen_istft_hop_size
    window = torch.hann_window(n_fft)

    def convert(folder: Path) -> Checkpoint:
        torch.save({"generator": generator.state_dict()}, folder / "g")
        return import_checkpoint("istftnet", folder / "g", clone / "config_v1.json")

    def generate(mel: Tensor, f0: Tensor, noise: Tensor) -> Tensor:
        spectrum, phase = generator(mel)  # their inverse STFT has a fixed device
        audio = torch.istft(spectrum * torch.exp(phase * 1j), n_fft, hop, n_fft, window=window.to(mel.device))
        return audio.unsqueeze(1)

    return Public(generator, generate, convert, generator.remove_weight_norm)


def parallel_wavegan_module(clones: Path) -> Any:
    """Import Parallel WaveGAN's networks without most of its package."""
    clone = clones / "ParallelWaveGAN" / "parallel_wavegan"
    check_clone(clone)
    root, models, layers, utils = (
        import_empty("parallel_wavegan" + name, clone.joinpath(*filter(None, name.split("."))))
        for name in ("", ".models", ".layers", ".utils")
    )
    root.__dict__.update(models=models)
    utils.__dict__.update(read_hdf5=None)
    layers.__dict__.update(importlib.import_module("parallel_wavegan.layers.residual_block").__dict__)
    layers.__dict__.update(upsample=importlib.import_module("parallel_wavegan.layers.upsample"))
    return importlib.import_module("parallel_wavegan.models.parallel_wavegan")


def parallel_wavegan(mel: dict[str, int], scales: tuple[int, ...], clones: Path) -> Public:
    """Build Parallel WaveGAN v1 for the hop that is the product of ``scales``."""
    upsampling: dict[str, Any] = {"upsample_scales": list(scales)}
    generator = parallel_wavegan_module(clones).ParallelWaveGANGenerator(
        aux_context_window=2, upsample_params=dict(upsampling)
    )

    def convert(folder: Path) -> Checkpoint:
        sizes: dict[str, Any] = {"layers": 30, "stacks": 3, "kernel_size": 3, "residual_channels": 64}
        sizes |= {"gate_channels": 128, "skip_channels": 64, "aux_context_window": 2, "upsample_params": upsampling}
        settings = {**mel, "num_mels": 80, "fmin": 80, "fmax": 7600, "generator_params": sizes}
        (folder / "config.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        torch.save({"model": {"generator": generator.state_dict()}}, folder / "p.pkl")
        np.save(folder / "stats.npy", np.stack([np.zeros(80), np.ones(80)]))
        return import_checkpoint("parallel-wavegan", folder / "p.pkl", folder / "config.yml")

    def generate(mel: Tensor, f0: Tensor, noise: Tensor) -> Tensor:
        return generator(noise, nn.functional.pad(mel, (2, 2), mode="replicate"))

    return Public(generator, generate, convert, generator.remove_weight_norm)


def wavehax(version: str, clones: Path) -> Public:
    """Build a Wavehax by configuration name, such as wavehax.v1."""
    clone = clones / "wavehax"
    (generators,) = load_modules(clone, "wavehax.generators.wavehax")
    config = clone / f"wavehax/bin/config/generator/{version}.yaml"
    settings = yaml.safe_load(config.read_text(encoding="utf-8"))
    generator = getattr(generators, settings.pop("_target_").rpartition(".")[2])(**settings)

    def convert(folder: Path) -> Checkpoint:
        torch.save({"model": {"generator": generator.state_dict()}}, folder / "w.pkl")
        np.save(folder / "stats.npy", np.stack([np.zeros(100), np.ones(100)]))
        return import_checkpoint("wavehax", folder / "w.pkl", config, None, "wavehax-24k")

    def generate(mel: Tensor, f0: Tensor, noise: Tensor) -> Tensor:
        """Replace its random noise and initial phase by ours."""
        phase = torch.zeros(1, 1, device=noise.device)
        with mock.patch("torch.randn", return_value=noise), mock.patch("torch.rand", return_value=phase):
            audio: Tensor = generator(mel, f0)[0]
            return audio

    return Public(generator, generate, convert, lambda: None)


def nsf_hifigan(mini_nsf: bool, clones: Path) -> Public:
    """Build openvpi's NSF-HiFiGAN, with nine sines or, if ``mini_nsf``, one."""
    sizes: dict[str, Any] = {"resblock": "1", "upsample_initial_channel": 512, "mini_nsf": mini_nsf, "noise_sigma": 0.0}
    sizes |= {"upsample_rates": [8, 8, 2, 2, 2], "upsample_kernel_sizes": [16, 16, 4, 4, 4]}
    sizes |= {"resblock_kernel_sizes": [3, 7, 11], "resblock_dilation_sizes": [[1, 3, 5]] * 3}
    sizes |= {"sampling_rate": 44100, "n_fft": 2048, "hop_size": 512, "win_size": 2048, "num_mels": 128}
    (models,) = load_modules(clones / "SingingVocoders", "models.nsf_HiFigan.models")
    generator = models.Generator(Settings(sizes))

    def convert(folder: Path) -> Checkpoint:
        (folder / "config.json").write_text(json.dumps(sizes | {"fmin": 40, "fmax": 16000}), encoding="utf-8")
        torch.save({"generator": generator.state_dict()}, folder / "model.ckpt")
        return import_checkpoint("nsf-hifigan", folder / "model.ckpt")

    def generate(mel: Tensor, f0: Tensor, noise: Tensor) -> Tensor:
        """Replace its random noise and initial phases by ours, see ``HarmonicSource``."""
        if mini_nsf:
            return generator(mel, f0.squeeze(1))
        weight = generator.m_source.l_linear.weight
        draws = noise.transpose(1, 2) * (weight / weight.norm())
        phases = torch.tensor(INITIAL_PHASES, device=mel.device).view(1, 1, -1)
        with mock.patch("torch.randn_like", return_value=draws), mock.patch("torch.rand", return_value=phases):
            return generator(mel, f0.squeeze(1))

    return Public(generator, generate, convert, generator.remove_weight_norm)


def bigvgan(clones: Path) -> Public:
    """Build the 24 kHz base model of BigVGAN."""
    config = clones / "BigVGAN" / "configs" / "bigvgan_base_24khz_100band.json"
    (module,) = load_modules(clones / "BigVGAN", "bigvgan")
    generator = module.BigVGAN(Settings(json.loads(config.read_text(encoding="utf-8"))))

    def convert(folder: Path) -> Checkpoint:
        torch.save({"generator": generator.state_dict()}, folder / "b.pt")
        return import_checkpoint("bigvgan", folder / "b.pt", config)

    return Public(generator, lambda mel, f0, noise: generator(mel), convert, generator.remove_weight_norm)


def hift(clones: Path) -> Public:
    """Build HiFT of CosyVoice 2."""
    clone = clones / "CosyVoice"
    models, predictors = load_modules(clone, "cosyvoice.hifigan.generator", "cosyvoice.hifigan.f0_predictor")
    generator = models.HiFTGenerator(
        sampling_rate=24000,
        upsample_rates=[8, 5, 3],
        upsample_kernel_sizes=[16, 11, 7],
        source_resblock_kernel_sizes=[7, 7, 11],
        source_resblock_dilation_sizes=[[1, 3, 5]] * 3,
        f0_predictor=predictors.ConvRNNF0Predictor(),
    )

    def convert(folder: Path) -> Checkpoint:
        torch.save(generator.state_dict(), folder / "hift.pt")
        config = clone / "examples/libritts/cosyvoice2/conf/cosyvoice2.yaml"
        return import_checkpoint("hift", folder / "hift.pt", config)

    def fold() -> None:
        for module in generator.modules():
            if parametrize.is_parametrized(module, "weight"):
                parametrize.remove_parametrizations(module, "weight")

    def generate(mel: Tensor, f0: Tensor, noise: Tensor) -> Tensor:
        """Replace the noise of its sines by ours, with the deviation of their sum."""
        weight = generator.m_source.l_linear.weight.detach()
        draws = noise.transpose(1, 2) * (weight / weight.norm()).to(noise)  # (batch, samples, sines)
        with mock.patch("torch.randn_like", return_value=draws):
            sines, _, _ = generator.m_source.l_sin_gen(generator.f0_upsamp(f0).transpose(1, 2))
        source = generator.m_source.l_tanh(generator.m_source.l_linear(sines)).transpose(1, 2)
        return generator.decode(x=mel, s=source).unsqueeze(1)

    return Public(generator, generate, convert, fold)


def vocos(clones: Path) -> Public:
    """Build Vocos for 24 kHz with "same" padding, which gives as many samples as ours."""
    clone = clones / "vocos"
    check_clone(clone)
    import_empty("vocos", clone / "vocos")
    settings = yaml.safe_load((clone / "configs" / "vocos.yaml").read_text(encoding="utf-8"))["model"]["init_args"]
    config = {part: settings[part] for part in ("feature_extractor", "backbone", "head")}
    for part in ("feature_extractor", "head"):
        config[part]["init_args"]["padding"] = "same"

    def build(part: str, kind: str) -> nn.Module:
        module = importlib.import_module(config[part]["class_path"].rpartition(".")[0])
        network: nn.Module = getattr(module, kind)(**config[part]["init_args"])
        return network

    backbone, head = build("backbone", "VocosBackbone"), build("head", "ISTFTHead")
    model = nn.ModuleDict({"backbone": backbone, "head": head})

    def convert(folder: Path) -> Checkpoint:
        (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        return import_checkpoint("vocos", folder / "pytorch_model.bin", folder / "config.yaml")

    return Public(model, lambda mel, f0, noise: head(backbone(mel)).unsqueeze(1), convert, lambda: None)


PAIRS: dict[str, Callable[[Path], Public]] = {
    "hifigan v1": partial(hifigan, "v1"),
    "hifigan v2": partial(hifigan, "v2"),
    "hifigan v3": partial(hifigan, "v3"),
    "istftnet v1-c8c8i": istftnet,
    "parallel-wavegan v1": partial(
        parallel_wavegan, {"sampling_rate": 22050, "fft_size": 1024, "hop_size": 256}, (4, 4, 4, 4)
    ),
    "parallel-wavegan v1-24k": partial(
        parallel_wavegan, {"sampling_rate": 24000, "fft_size": 2048, "hop_size": 300, "win_length": 1200}, (4, 5, 3, 5)
    ),
    "nsf-hifigan v1": partial(nsf_hifigan, False),
    "nsf-hifigan mini": partial(nsf_hifigan, True),
    "bigvgan base": bigvgan,
    "hift cosyvoice2": hift,
    "wavehax v1": partial(wavehax, "wavehax.v1"),
    "complex-wavehax v1": partial(wavehax, "cwavehax.v1"),
    "complex-wavehax v2": partial(wavehax, "cwavehax.v2"),
    "vocos v1": vocos,
}
"""By label in ``common.published``."""


def make_pair(label: str, clones: Path, folder: Path) -> tuple[nn.Module, Generate, Checkpoint]:
    """Build a public generator, its call, and our checkpoint of the same weights, always equal."""
    torch.manual_seed(0)
    warnings.simplefilter("ignore", FutureWarning)  # from the public code's weight norm
    public = PAIRS[label](clones)
    ours = public.convert(folder)
    with contextlib.redirect_stdout(io.StringIO()):  # some print this
        public.fold()
    return public.generator, public.generate, ours


def score_pairwise(module: nn.Module, real: Tensor, fake: Tensor) -> Scores:
    """Call a discriminator that takes both signals and returns nested lists of feature maps."""
    scores_real, scores_fake, maps_real, maps_fake = module(real, fake)
    return scores_real, scores_fake, [m for ms in maps_real for m in ms], [m for ms in maps_fake for m in ms]


def hifigan_discriminators(clones: Path, names: str) -> Discriminator:
    """Load one or both of HiFi-GAN's discriminators."""
    (models,) = load_modules(clones / "hifi-gan", "models")
    kinds = {"multi-period": "MultiPeriodDiscriminator", "multi-scale": "MultiScaleDiscriminator"}
    modules = nn.ModuleList(getattr(models, kinds[name])() for name in names.split("+"))

    def discriminate(real: Tensor, fake: Tensor) -> Scores:
        outputs = [score_pairwise(module, real, fake) for module in modules]
        one, two, three, four = ([x for lists in column for x in lists] for column in zip(*outputs, strict=True))
        return one, two, three, four

    return Discriminator(modules, discriminate)


def amphion_discriminator(clones: Path, name: str) -> Discriminator:
    """Load a discriminator of Amphion."""
    sys.path.append(str(clones / "nnAudio" / "Installation"))
    parts = "models.vocoders.gan.discriminator"
    cqt, stft = load_modules(clones / "Amphion", f"{parts}.mssbcqtd", f"{parts}.msstftd")
    bands: dict[str, Any] = {"hop_lengths": [512, 256, 256], "filters": 32, "max_filters": 1024, "filters_scale": 1}
    bands |= {"dilations": [1, 2, 4], "in_channels": 1, "out_channels": 1}
    bands |= {"n_octaves": [9, 9, 9], "bins_per_octaves": [24, 36, 48]}
    model = {"mssbcqtd": bands, "msstftd": {"filters": 32}}
    settings = Settings.of({"model": model, "preprocess": {"sample_rate": 24000}})
    is_stft = name == "multi-scale-stft"
    kind = stft.MultiScaleSTFTDiscriminator if is_stft else cqt.MultiScaleSubbandCQTDiscriminator
    with contextlib.redirect_stdout(io.StringIO()):  # nnAudio reports its progress
        module = kind(settings)
    return Discriminator(module, partial(score_pairwise, module))


def univnet_discriminators(clones: Path, names: str) -> Discriminator:
    """Load one or both of UnivNet's discriminators, from Wavehax."""
    clone = clones / "wavehax"
    (discriminators,) = load_modules(clone, "wavehax.discriminators.univnet")
    settings = yaml.safe_load((clone / "wavehax/bin/config/discriminator/univnet.yaml").read_text(encoding="utf-8"))
    settings.pop("_target_")
    whole = discriminators.MultiResolutionMultiPeriodDiscriminator(**settings)
    part = {"multi-period": whole.mpd, "multi-resolution": whole.mrd}.get(names, whole)

    def discriminate(real: Tensor, fake: Tensor) -> Scores:
        (scores_real, maps_real), (scores_fake, maps_fake) = part(real), part(fake)
        return scores_real, scores_fake, maps_real, maps_fake

    return Discriminator(part, discriminate)


def parallel_wavegan_discriminator(clones: Path, name: str) -> Discriminator:
    """Load the discriminator of Parallel WaveGAN."""
    module = parallel_wavegan_module(clones).ParallelWaveGANDiscriminator()
    return Discriminator(module, lambda real, fake: ([module(real)], [module(fake)], [], []))


DISCRIMINATORS: dict[tuple[str, str], Callable[[Path, str], Discriminator]] = {
    ("hifigan", "multi-period"): hifigan_discriminators,
    ("hifigan", "multi-scale"): hifigan_discriminators,
    ("hifigan", "multi-scale-stft"): amphion_discriminator,
    ("hifigan", "multi-scale-subband-cqt"): amphion_discriminator,
    ("hifigan", "multi-period+multi-scale"): hifigan_discriminators,
    ("wavehax", "multi-period"): univnet_discriminators,
    ("wavehax", "multi-period+multi-resolution"): univnet_discriminators,
    ("wavehax", "multi-resolution"): univnet_discriminators,
    ("parallel-wavegan", "parallel-wavegan"): parallel_wavegan_discriminator,
}
"""By generator."""


def public_step(
    public: Public, discriminator: Discriminator, mel_config: MelConfig, lr: float
) -> Callable[[Tensor, Tensor, Tensor, Tensor], None]:
    """Make these projects' training step: a function of (mel, f0, noise, audio) that updates both networks once.

    The discriminator scores both signals in each update. The mel loss is ours, as theirs fail with current torch and
    librosa.
    """
    mel_loss = FullBandMelLoss(mel_config).to(next(public.generator.parameters()).device)
    optimizers = [
        torch.optim.AdamW(module.parameters(), lr, (0.8, 0.99)) for module in (public.generator, discriminator.module)
    ]

    def step(mel: Tensor, f0: Tensor, noise: Tensor, audio: Tensor) -> None:
        fake = public.generate(mel, f0, noise)
        real_scores, fake_scores, _, _ = discriminator.discriminate(audio, fake.detach())
        loss = sum((1 - r).square().mean() + f.square().mean() for r, f in zip(real_scores, fake_scores, strict=True))
        optimizers[1].zero_grad()
        torch.as_tensor(loss).backward()
        optimizers[1].step()

        _, fake_scores, real_maps, fake_maps = discriminator.discriminate(audio, fake)
        loss = sum((1 - f).square().mean() for f in fake_scores) + 45 * mel_loss(fake.squeeze(1), audio.squeeze(1))
        loss = loss + 2 * sum((f - r).abs().mean() for r, f in zip(real_maps, fake_maps, strict=True))
        optimizers[0].zero_grad()
        loss.backward()
        optimizers[0].step()

    return step
