"""Generators of the public implementations, each beside the same weights as a checkpoint of ours.

The weights are random; our importers convert them. ``PAIRS`` names them all.
"""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from recipes.benchmarks import public
from vocoders.checkpoint import Checkpoint
from vocoders.generators.nsf_hifigan import INITIAL_PHASES
from vocoders.importers import import_checkpoint

Generate = Callable[[Tensor, Tensor, Tensor], Tensor]  # (mel, f0, noise) -> audio (batch, 1, samples)
Pair = tuple[nn.Module, Generate, Checkpoint]
"""The public generator, how it is called, and the same weights as a checkpoint of ours."""


def hifigan(version: str, clones: Path, folder: Path) -> Pair:
    """Build HiFi-GAN of a version, v1 to v3."""
    config = clones / "hifi-gan" / f"config_{version}.json"
    (models,) = public.load_modules(clones / "hifi-gan", "models")
    generator = models.Generator(public.Settings(json.loads(config.read_text(encoding="utf-8"))))
    torch.save({"generator": generator.state_dict()}, folder / "g")
    ours = import_checkpoint("hifi-gan", folder / "g", config)
    _fold(generator)
    return generator, lambda mel, f0, noise: generator(mel), ours


def istftnet(clones: Path, folder: Path) -> Pair:
    """Build iSTFTNet V1-C8C8I."""
    clone = clones / "iSTFTNet-pytorch"
    (models,) = public.load_modules(clone, "models")
    settings: Any = public.Settings(json.loads((clone / "config_v1.json").read_text(encoding="utf-8")))
    generator = models.Generator(settings)
    nn.init.normal_(generator.conv_post.weight_g, std=1e-3)  # or exp(.) of random weights overflows
    torch.save({"generator": generator.state_dict()}, folder / "g")
    ours = import_checkpoint("istftnet", folder / "g", clone / "config_v1.json")
    _fold(generator)
    n_fft, hop = settings.gen_istft_n_fft, settings.gen_istft_hop_size
    window = torch.hann_window(n_fft)

    def generate(mel: Tensor, f0: Tensor, noise: Tensor) -> Tensor:
        spectrum, phase = generator(mel)  # the inverse is a class of its own there, with a fixed device
        audio = torch.istft(spectrum * torch.exp(phase * 1j), n_fft, hop, n_fft, window=window.to(mel.device))
        return audio.unsqueeze(1)

    return generator, generate, ours


def parallel_wavegan(clones: Path, folder: Path) -> Pair:
    """Build Parallel WaveGAN v1 for 24 kHz."""
    opponents = public.parallel_wavegan(clones, "parallel-wavegan", (4, 5, 3, 5))
    sizes = {
        "layers": 30,
        "stacks": 3,
        "kernel_size": 3,
        "residual_channels": 64,
        "gate_channels": 128,
        "skip_channels": 64,
        "aux_context_window": 2,
        "upsample_params": {"upsample_scales": [4, 5, 3, 5]},
    }
    mel = {"sampling_rate": 24000, "fft_size": 2048, "hop_size": 300, "win_length": 1200, "num_mels": 80}
    (folder / "config.yml").write_text(
        yaml.safe_dump(mel | {"fmin": 80, "fmax": 7600, "generator_params": sizes}), encoding="utf-8"
    )
    torch.save({"model": {"generator": opponents.generator.state_dict()}}, folder / "p.pkl")
    np.save(folder / "stats.npy", np.stack([np.zeros(80), np.ones(80)]))
    ours = import_checkpoint("parallel-wavegan", folder / "p.pkl", folder / "config.yml")
    _fold(opponents.generator)
    return opponents.generator, opponents.generate, ours


def wavehax(version: str, clones: Path, folder: Path) -> Pair:
    """Build a Wavehax by the name of its configuration."""
    generator, config = public.wavehax_generator(clones, version)
    torch.save({"model": {"generator": generator.state_dict()}}, folder / "w.pkl")
    np.save(folder / "stats.npy", np.stack([np.zeros(100), np.ones(100)]))
    ours = import_checkpoint("wavehax", folder / "w.pkl", config, None, "wavehax-24k")

    def generate(mel: Tensor, f0: Tensor, noise: Tensor) -> Tensor:
        """Replace the noise and the initial phase that it draws by ours."""
        with (
            mock.patch("torch.randn", return_value=noise),
            mock.patch("torch.rand", return_value=torch.zeros(1, 1, device=noise.device)),
        ):
            audio: Tensor = generator(mel, f0)[0]
            return audio

    return generator, generate, ours


def nsf_hifigan(mini_nsf: bool, clones: Path, folder: Path) -> Pair:
    """Build NSF-HiFiGAN of openvpi's sizes, with nine sines or, as ``mini_nsf``, with one."""
    sizes: dict[str, Any] = {"resblock": "1", "upsample_initial_channel": 512, "mini_nsf": mini_nsf, "noise_sigma": 0.0}
    sizes |= {"upsample_rates": [8, 8, 2, 2, 2], "upsample_kernel_sizes": [16, 16, 4, 4, 4]}
    sizes |= {"resblock_kernel_sizes": [3, 7, 11], "resblock_dilation_sizes": [[1, 3, 5]] * 3}
    sizes |= {"sampling_rate": 44100, "n_fft": 2048, "hop_size": 512, "win_size": 2048, "num_mels": 128}
    (folder / "config.json").write_text(json.dumps(sizes | {"fmin": 40, "fmax": 16000}), encoding="utf-8")
    (models,) = public.load_modules(clones / "SingingVocoders", "models.nsf_HiFigan.models")
    generator = models.Generator(public.Settings(sizes))
    torch.save({"generator": generator.state_dict()}, folder / "model.ckpt")
    ours = import_checkpoint("nsf-hifigan", folder / "model.ckpt")
    _fold(generator)

    def generate(mel: Tensor, f0: Tensor, noise: Tensor) -> Tensor:
        """Replace the noise and the initial phases that it draws by ours, see ``HarmonicSource``."""
        if mini_nsf:
            return generator(mel, f0.squeeze(1))
        weight = generator.m_source.l_linear.weight
        phases = torch.tensor(INITIAL_PHASES, device=mel.device).view(1, 1, -1)
        with (
            mock.patch("torch.randn_like", return_value=noise.transpose(1, 2) * (weight / weight.norm())),
            mock.patch("torch.rand", return_value=phases),
        ):
            return generator(mel, f0.squeeze(1))

    return generator, generate, ours


def bigvgan(clones: Path, folder: Path, fused: bool = False) -> Pair:
    """Build the base model of BigVGAN for 24 kHz; ``fused`` takes its own CUDA kernel, which nvcc compiles."""
    config = clones / "BigVGAN" / "configs" / "bigvgan_base_24khz_100band.json"
    (module,) = public.load_modules(clones / "BigVGAN", "bigvgan")
    more = {"use_cuda_kernel": True} if fused else {}
    generator = module.BigVGAN(public.Settings(json.loads(config.read_text(encoding="utf-8"))), **more)
    torch.save({"generator": generator.state_dict()}, folder / "b.pt")
    ours = import_checkpoint("bigvgan", folder / "b.pt", config)
    _fold(generator)
    return generator, lambda mel, f0, noise: generator(mel), ours


def hift(clones: Path, folder: Path) -> Pair:
    """Build HiFT of CosyVoice 2."""
    clone = clones / "CosyVoice"
    models, predictors = public.load_modules(clone, "cosyvoice.hifigan.generator", "cosyvoice.hifigan.f0_predictor")
    generator = models.HiFTGenerator(
        sampling_rate=24000,
        upsample_rates=[8, 5, 3],
        upsample_kernel_sizes=[16, 11, 7],
        source_resblock_kernel_sizes=[7, 7, 11],
        source_resblock_dilation_sizes=[[1, 3, 5]] * 3,
        f0_predictor=predictors.ConvRNNF0Predictor(),
    )
    torch.save(generator.state_dict(), folder / "hift.pt")
    ours = import_checkpoint("hift", folder / "hift.pt", clone / "examples/libritts/cosyvoice2/conf/cosyvoice2.yaml")
    for module in generator.modules():
        if torch.nn.utils.parametrize.is_parametrized(module, "weight"):
            torch.nn.utils.parametrize.remove_parametrizations(module, "weight")
    weight = generator.m_source.l_linear.weight.detach()

    def generate(mel: Tensor, f0: Tensor, noise: Tensor) -> Tensor:
        """Replace the noise of its sines by ours, which has the deviation of their sum."""
        draws = noise.transpose(1, 2) * (weight / weight.norm()).to(noise)  # (batch, samples, sines)
        with mock.patch("torch.randn_like", return_value=draws):
            sines, _, _ = generator.m_source.l_sin_gen(generator.f0_upsamp(f0).transpose(1, 2))
        source = generator.m_source.l_tanh(generator.m_source.l_linear(sines)).transpose(1, 2)
        return generator.decode(x=mel, s=source).unsqueeze(1)

    return generator, generate, ours


def vocos(clones: Path, folder: Path) -> Pair:
    """Build Vocos for 24 kHz, "same" padding, in which theirs has as many samples as ours."""
    backbone, head, config = public.vocos(clones)
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    model = nn.ModuleDict({"backbone": backbone, "head": head})
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    ours = import_checkpoint("vocos", folder / "pytorch_model.bin", folder / "config.yaml")
    return model, lambda mel, f0, noise: head(backbone(mel)).unsqueeze(1), ours


def _fold(generator: Any) -> None:
    with contextlib.redirect_stdout(io.StringIO()):  # some print this
        generator.remove_weight_norm()


FUSED = "BigVGAN base, 24 kHz, fused"
"""Its public side runs on a GPU alone, and only where CUDA can be compiled: measured where it is named."""

PAIRS: dict[str, Callable[[Path, Path], Pair]] = {
    "HiFi-GAN V1": lambda clones, folder: hifigan("v1", clones, folder),
    "HiFi-GAN V2": lambda clones, folder: hifigan("v2", clones, folder),
    "HiFi-GAN V3": lambda clones, folder: hifigan("v3", clones, folder),
    "iSTFTNet V1-C8C8I": istftnet,
    "Parallel WaveGAN v1, 24 kHz": parallel_wavegan,
    "NSF-HiFiGAN": lambda clones, folder: nsf_hifigan(False, clones, folder),
    "NSF-HiFiGAN mini": lambda clones, folder: nsf_hifigan(True, clones, folder),
    "BigVGAN base, 24 kHz": bigvgan,
    FUSED: lambda clones, folder: bigvgan(clones, folder, fused=True),
    "HiFT, CosyVoice 2": hift,
    "Wavehax v1": lambda clones, folder: wavehax("wavehax.v1", clones, folder),
    "Complex Wavehax v1": lambda clones, folder: wavehax("cwavehax.v1", clones, folder),
    "Complex Wavehax v2": lambda clones, folder: wavehax("cwavehax.v2", clones, folder),
    "Vocos": vocos,
}


def make(label: str, clones: Path, folder: Path) -> Pair:
    """Build a pair, with the same random weights in every process."""
    torch.manual_seed(0)
    warnings.simplefilter("ignore", FutureWarning)  # of the public code's weight norm
    return PAIRS[label](clones, folder)
