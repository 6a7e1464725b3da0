"""Checkpoints of other projects at tiny sizes, and the audio of their public implementations.

All files hold configuration and state_dict as the project has them, random weights, input and output. Random numbers
drawn inside were replaced by stored ones.

published_golden.npz: jik876/hifi-gan, rishikksh20/iSTFTNet-pytorch, kan-bayashi/ParallelWaveGAN (its own generator and
its HiFi-GAN), chomeyama/wavehax (initial phase 0) and transformers' SpeechT5HifiGan.

published_golden_nsf.npz: openvpi/SingingVocoders, with its analysis. Initial phases are those of NSFHiFiGAN; the draw
of each of nine sines is n * weight / |weight|, with the stored noise n. F0 is 0 in frames 4 to 6.
"nsf-hifigan-fundamental" has three upsamplings and two residual convolutions in a block. "nsf-hifigan-harmonics" has
the configuration of 2022, without mini_nsf, noise_sigma and pc_aug.

published_golden_vocos.npz: gemelo-ai/vocos ("vocos-center") and wetdog/wavenext_pytorch (the others), each with its
analysis: "mel" is that of the noise "recording". In "vocos-same" the biases of three log magnitudes were raised by 5,
to clip magnitudes; some audio of "vocos-wavenext" is clipped. With "center" padding 12 frames of 24 samples become 11
hops.

published_golden_bigvgan.npz: NVIDIA/BigVGAN, with its analysis of noise. "bigvgan-v2": version 2 (snakebeta,
logarithms, clipping, which occurs, no last bias, fmax null); "bigvgan-snake": snake without logarithms, tanh, a last
bias; "bigvgan-2": blocks of kind 2. Alphas and betas, or their logarithms, are random.

published_golden_complex_wavehax.npz: as Wavehax in the first file.

published_golden_hifigans.npz: transformers' SpeechT5HifiGan with upsamplings like AudioLDM's ("audioldm");
speechbrain/speechbrain and idiap/coqui-ai-TTS by their ``inference``, the latter with mels of its AudioProcessor,
stored denormalised as logarithms of their ``spec_gain``-th part, in "coqui-2" clipped to [-4, 4]; "nemo": NVIDIA/NeMo
with mels of its FilterbankFeatures, last frame unmasked; "gpt-sovits": RVC-Boss/GPT-SoVITS without weight norm;
"amphion": open-mmlab/Amphion.

published_golden_hift.npz: FunAudioLLM/CosyVoice's HiFTGenerator with the sine generators of version 1 ("hift-1") and 2
("hift-2"), and its CausalHiFTGenerator ("hift-3"), at F0 of its predictor ("f0"), each with a frame below 10 Hz. The
normal draws of the nine sines are "noise" times the sines' weights in the linear layer over their norm, the uniform
ones of "hift-3" the same over the root of 12, plus 1/2. Initial phases are 0 in "hift-1" and random in the others,
where two runs agreed to the bit. Some audio, and some magnitudes of "hift-2", are clipped. "mel" is Matcha-TTS's of
"recording", "source" the signal after tanh, "config" YAML for HyperPyYAML.

published_golden_melgan.npz: MelGAN of kan-bayashi/ParallelWaveGAN, with the filter bank of versions up to 0.4.2
("multi-band-old") and after ("multi-band"), and its StyleMelGAN by ``inference``, whose columns of noise are the first
samples of "noise" in every six frames.

published_golden_degvoc.npz: Andong-Li-speech/DegVoC, with its analysis of noise. Ten frames of "center" padding become
nine hops.

published_golden_univnet.npz: maum-ai/univnet with eight channels in the kernel predictors, and transformers'
UnivNetModel. A frame's column of noise is its first samples of "noise".

published_golden_flow2gan.npz: k2-fsa/Flow2GAN with one and with four steps.

published_golden_ltx2.npz: the vocoder of Lightricks/LTX-2, and of diffusers, versions 2.0 and 2.3 ("extended").
"""

import io
import re
import tarfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.support import DATA
from vocoders.errors import VocoderError
from vocoders.importers import IMPORTERS, import_checkpoint

WAVEHAX_MEL = "hifigan-22k:sample_rate=2400,n_fft=96,hop_length=24,win_length=96,n_mels=8,fmax=1200"
COMPLEX_WAVEHAX_MEL = "hifigan-22k:sample_rate=2400,n_fft=96,hop_length=12,win_length=96,n_mels=8,fmax=1200"
SPEECHT5_MEL = "hifigan-22k:sample_rate=8000,n_fft=256,hop_length=24,win_length=256,n_mels=10,fmax=4000"
AUDIOLDM_MEL = "hifigan-22k:sample_rate=8000,n_fft=256,hop_length=40,win_length=256,n_mels=8,fmax=4000"
GPT_SOVITS_MEL = "hifigan-22k:sample_rate=8000,n_fft=64,hop_length=12,win_length=64,n_mels=4,fmax=4000"
FLOW2GAN_MEL = "vocos-24k:sample_rate=2400,n_fft=96,hop_length=24,win_length=96,n_mels=8,fmax=1200"
UNIVNET_MEL = "bigvgan-24k:sample_rate=2400,n_fft=96,hop_length=24,win_length=96,n_mels=8,fmax=1200"
PARTS = {  # part of the file: family, place of the weights in the checkpoint, --mel-config
    "hifi-gan-1": ("hifi-gan", ("generator",), None),
    "hifi-gan-2": ("hifi-gan", ("generator",), None),
    "istftnet": ("istftnet", ("generator",), None),
    "parallel-wavegan-3": ("parallel-wavegan", ("model", "generator"), None),
    "parallel-wavegan-5": ("parallel-wavegan", ("model", "generator"), None),
    "parallel-wavegan-hifigan-1": ("parallel-wavegan", ("model", "generator"), None),
    "parallel-wavegan-hifigan-2": ("parallel-wavegan", ("model", "generator"), None),
    "wavehax-0": ("wavehax", ("model", "generator"), WAVEHAX_MEL),
    "wavehax-1": ("wavehax", ("model", "generator"), WAVEHAX_MEL),
    "multi-stream-wavehax": ("wavehax", ("model", "generator"), WAVEHAX_MEL),
    "complex-wavehax": ("wavehax", ("model", "generator"), COMPLEX_WAVEHAX_MEL),
    "complex-wavehax-framewise": ("wavehax", ("model", "generator"), COMPLEX_WAVEHAX_MEL),
    "speecht5-hifigan": ("speecht5-hifigan", (), SPEECHT5_MEL),
    "nsf-hifigan-harmonics": ("nsf-hifigan", ("generator",), None),
    "nsf-hifigan-fundamental": ("nsf-hifigan", ("generator",), None),
    "vocos-center": ("vocos", (), None),
    "vocos-same": ("vocos", (), None),
    "vocos-wavenext": ("vocos", (), None),
    "bigvgan-v2": ("bigvgan", ("generator",), None),
    "bigvgan-snake": ("bigvgan", ("generator",), None),
    "bigvgan-2": ("bigvgan", ("generator",), None),
    "audioldm": ("speecht5-hifigan", (), AUDIOLDM_MEL),
    "speechbrain-1": ("speechbrain", (), None),
    "speechbrain-2": ("speechbrain", (), None),
    "coqui-1": ("coqui", ("model",), None),
    "coqui-2": ("coqui", ("model",), None),
    "hift-1": ("hift", (), None),
    "hift-2": ("hift", (), None),
    "hift-3": ("hift", (), None),
    "nemo": ("nemo", (), None),
    "gpt-sovits": ("gpt-sovits", (), GPT_SOVITS_MEL),
    "amphion": ("amphion", ("generator_state_dict",), None),
    "degvoc": ("degvoc", ("generator",), None),
    "univnet": ("univnet-maum", ("model_g",), None),
    "univnet-transformers": ("univnet", (), UNIVNET_MEL),
    "flow2gan-1-step": ("flow2gan", ("model",), FLOW2GAN_MEL),
    "flow2gan-4-step": ("flow2gan", ("model",), FLOW2GAN_MEL),
    "ltx2": ("ltx2-single-file", (), None),
    "ltx2-extended": ("ltx2-single-file", (), None),
    "ltx2-diffusers": ("ltx2", (), None),
    "ltx2-diffusers-extended": ("ltx2", (), None),
    "melgan": ("parallel-wavegan", ("model", "generator"), None),
    "melgan-multi-band": ("parallel-wavegan", ("model", "generator"), None),
    "melgan-multi-band-old": ("parallel-wavegan", ("model", "generator"), None),
    "style-melgan": ("parallel-wavegan", ("model", "generator"), None),
}
LONGER = {  # part: additional samples, half at each end
    "audioldm": 10,
    "speechbrain-1": 2 * 2 * 8,
    "speechbrain-2": 2 * 5 * 8,
    "coqui-1": 2 * 5 * 8,
    "coqui-2": 2 * 3 * 8,
    "nemo": 0,
    "gpt-sovits": 0,
    "amphion": 0,
}


def golden(part: str) -> dict[str, np.ndarray]:
    for path in DATA.glob("published_golden*.npz"):
        with np.load(path) as stored:
            if names := [key for key in stored.files if key.startswith(f"{part}/")]:
                return {key.removeprefix(f"{part}/"): stored[key] for key in names}
    raise LookupError(f"no file holds {part}")


def hift_layout(generator: nn.Module, f0_estimator: nn.Module, blocks: int) -> dict[str, torch.Tensor]:
    """Rename weights of HiFT and its F0 estimator to CosyVoice's; ``blocks`` after each upsampling."""
    weights = {}
    for key, value in generator.state_dict().items():
        key = key.removeprefix("trunk.").replace("source.linear", "m_source.l_linear")
        key = re.sub(r"^resblocks\.(\d+)\.(\d+)", lambda m: f"resblocks.{blocks * int(m[1]) + int(m[2])}", key)
        weights[key] = value
    for key, value in f0_estimator.state_dict().items():
        key = re.sub(r"^convs\.(\d+)", lambda m: f"condnet.{2 * int(m[1])}", key).replace("output", "classifier")
        weights[f"f0_predictor.{key}"] = value
    return weights


def write(folder: Path, part: str, new_style: bool = False, drop: str = "", extra: str = "") -> dict[str, Any]:
    """Write a checkpoint as the public implementation does; return the arguments of import_checkpoint."""
    arrays = golden(part)
    family, place, mel_config = PARTS[part]
    weights = {k.removeprefix("weights/"): torch.from_numpy(v) for k, v in arrays.items() if k.startswith("weights/")}
    if new_style:
        styles = (("weight_g", "parametrizations.weight.original0"), ("weight_v", "parametrizations.weight.original1"))
        for old, new in styles:
            weights = {k.removesuffix(old) + new if k.endswith(old) else k: v for k, v in weights.items()}
    weights = {k: v for k, v in weights.items() if k != drop} | ({extra: torch.zeros(1)} if extra else {})
    content: dict[str, Any] = weights
    for key in reversed(place):
        content = {key: content, "steps": 7}
    checkpoint = folder / (f"{part}.pkl" if family == "flow2gan" else "checkpoint.pkl")
    torch.save(content, checkpoint)
    configs = IMPORTERS[family].configs
    name = "config.yml" if "config.yml" in configs or not configs else configs[0]
    (folder / name).write_text(str(arrays["config"]))  # JSON is YAML
    arguments: dict[str, Any] = {"family": family, "checkpoint": checkpoint, "mel_config": mel_config}
    if family == "ltx2-single-file":
        arguments["checkpoint"] = folder / "ltx-2.safetensors"
        save_file(weights, arguments["checkpoint"], {"config": str(arrays["config"])})
    if family == "nemo":
        write_tar(arguments["checkpoint"], {"./model_config.yaml": name, "./model_weights.ckpt": checkpoint.name})
    if "stats" in arrays:  # read from beside the checkpoint
        np.save(folder / "stats.npy", arrays["stats"])
    elif family == "wavehax":  # trained on normalised mels, as stored
        np.save(folder / "stats.npy", [np.zeros(8), np.ones(8)])
    return arguments


def refused(message: str, **arguments: Any) -> None:
    """Check that import_checkpoint refuses its arguments with one matching sentence."""
    with pytest.raises(VocoderError, match=message) as caught:
        import_checkpoint(**arguments)
    assert "\n" not in str(caught.value)


def write_tar(path: Path, members: dict[str, str], mode: Literal["w", "w:gz"] = "w") -> None:
    """Write a tar archive; ``members`` maps names in it to files beside it."""
    contents = {inside: (path.parent / outside).read_bytes() for inside, outside in members.items()}
    with tarfile.open(path, mode) as archive:
        for name, data in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
