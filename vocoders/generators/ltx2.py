"""LTX-2's vocoder: a stereo HiFi-GAN; from version 2.3 on a stereo BigVGAN whose audio a second one extends in band.

Equal to LTX2Vocoder and LTX2VocoderWithBWE of diffusers (Apache 2.0), and to Lightricks/LTX-2. The mel is that of the
left channel, the input ``right`` that of the right one.
"""

from __future__ import annotations

import math
import warnings
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vocoders.config import Config, Count, FFTSize
from vocoders.dsp.mel import MelConfig, mel_filter_bank
from vocoders.dsp.stft import full_precision
from vocoders.errors import MelWarning, VocoderError
from vocoders.generators.base import Generator, check_upsampling
from vocoders.generators.bigvgan import BigVGANConfig, BigVGANTrunk
from vocoders.generators.hifigan import HiFiGANConfig, HiFiGANTrunk, sizes_for
from vocoders.inputs import Input
from vocoders.nn.alias_free import REACH
from vocoders.nn.layers import Conv1d

_OUTER_KERNEL = 7  # last convolution
_FLOOR = 1e-5  # of the magnitudes of the extension's mel
# Sinc with a Hann window, as torchaudio.functional.resample
_ZEROS = 7
_ROLLOFF = 0.99
_WINDOW = 6

_VERSION_2 = HiFiGANConfig(channels=1024, upsample_rates=(6, 5, 2, 2, 2), upsample_kernel_sizes=(16, 15, 8, 4, 4))
_VERSION_23 = BigVGANConfig(
    channels=1536,
    upsample_rates=(5, 2, 2, 2, 2, 2),
    upsample_kernel_sizes=(11, 4, 4, 4, 4, 4),
    output="clamp",
    output_bias=False,
)
_EXTENSION = BigVGANConfig(
    channels=512, upsample_rates=(6, 5, 2, 2, 2), upsample_kernel_sizes=(12, 11, 4, 4, 4), output_bias=False
)


class LTX2Config(Config):
    """Sizes of LTX-2's vocoder; the defaults are those of version 2.0."""

    network: HiFiGANConfig | BigVGANConfig = Field(_VERSION_2, description="a HiFi-GAN, or a BigVGAN")
    output: Literal["tanh", "clamp", "none"] = Field("tanh", description="of the network")
    extension: BigVGANConfig | None = Field(None, description="a BigVGAN on the mel of the network's audio")
    extension_n_fft: FFTSize = Field(512, description="of that mel, in samples")
    extension_hop_length: Count = Field(80, description="of that mel, in samples")
    sample_rate: int = Field(24000, gt=0, le=1_000_000, description="Hz of the audio")


class LTX2(Generator):
    """LTX-2's vocoder."""

    config_type = LTX2Config
    configs: ClassVar[dict[str, Config]] = {
        "2.0": LTX2Config(),
        "2.3": LTX2Config(network=_VERSION_23, output="clamp", extension=_EXTENSION, sample_rate=48000),
    }
    config: LTX2Config
    uses_weight_norm = True
    chunk_frames = 128

    @classmethod
    def config_for(cls, mel_config: MelConfig) -> LTX2Config:
        return LTX2Config(network=HiFiGANConfig(**sizes_for(mel_config)), sample_rate=mel_config.sample_rate)

    def __init__(self, config: LTX2Config, mel_config: MelConfig) -> None:
        super().__init__(config, mel_config)
        self.inputs = (Input(name="right", rate="frame", channels=mel_config.n_mels),)
        self.network = StereoNetwork(config.network, mel_config.n_mels)
        self.extension = None
        if config.extension is None:
            check_upsampling(config.network.upsample_rates, self.samples_per_frame)
            return
        samples = math.prod(config.network.upsample_rates)
        factor, rest = divmod(self.samples_per_frame, samples)
        hop = config.extension_hop_length
        if rest or samples % hop or math.prod(config.extension.upsample_rates) != hop * factor:
            raise VocoderError(
                f"network and extension do not fit: of a frame, {self.samples_per_frame} samples, the network gives "
                f"{samples}; of each {hop} of these the extension gives {math.prod(config.extension.upsample_rates)}"
            )
        rate = self.sample_rate // factor
        n_fft = config.extension_n_fft
        sizes = {"n_fft": n_fft, "win_length": n_fft, "hop_length": hop, "fmin": 0, "fmax": rate / 2}
        analysis = mel_config.model_copy(update={"sample_rate": rate, **sizes})
        self.extension = BandExtension(config.extension, analysis, factor)

    @property
    def sample_rate(self) -> int:
        return self.config.sample_rate

    @property
    def channels(self) -> int:
        return 2

    @property
    def context(self) -> int:
        first, last = 0, self.samples_per_frame - 1
        if self.extension is not None:
            first, last = self.extension.depends_on(first, last)
        return -self.network.depends_on(first, last)[0]

    def synthesize(self, mel: Tensor, right: Tensor) -> Tensor:
        audio = self.network(torch.cat([mel, right], 1)).float()
        if self.config.output != "none":
            audio = torch.tanh(audio) if self.config.output == "tanh" else audio.clamp(-1, 1)
        return audio if self.extension is None else self.extension(audio)


class StereoNetwork(nn.Module):
    """HiFi-GAN or BigVGAN of the mels of two channels: (batch, 2 * n_mels, frames) -> (batch, 2, samples)."""

    def __init__(self, config: HiFiGANConfig | BigVGANConfig, n_mels: int) -> None:
        super().__init__()
        self.reach, bias = _OUTER_KERNEL // 2, True
        self.trunk: HiFiGANTrunk
        if isinstance(config, BigVGANConfig):
            self.trunk, bias = BigVGANTrunk(config, 2 * n_mels), config.output_bias
            self.reach += REACH
        else:
            self.trunk = HiFiGANTrunk(config, 2 * n_mels)
        self.conv_post = Conv1d(self.trunk.channels_out, 2, _OUTER_KERNEL, padding=_OUTER_KERNEL // 2, bias=bias)

    def forward(self, mels: Tensor) -> Tensor:
        return self.conv_post(self.trunk(mels))

    def depends_on(self, first: int, last: int) -> tuple[int, int]:
        """Return the mel frames that the samples ``first`` to ``last`` depend on."""
        return self.trunk.depends_on(first - self.reach, last + self.reach)


class BandExtension(nn.Module):
    """Audio (batch, 2, samples), resampled, plus what a network adds: (batch, 2, samples * factor)."""

    basis: Tensor
    mel_basis: Tensor
    sinc: Tensor

    def __init__(self, config: BigVGANConfig, analysis: MelConfig, factor: int) -> None:
        super().__init__()
        n_fft, self.hop_length, self.factor = analysis.n_fft, analysis.hop_length, factor
        with torch.device("cpu"):  # also for models on "meta"
            window = torch.hann_window(n_fft)
            waves = torch.fft.rfft(torch.eye(n_fft))  # (samples, bins)
            basis = torch.cat([waves.real, waves.imag], 1).T * window
            time = (torch.arange(2 * _ZEROS * factor + 1) / factor - _ZEROS) * _ROLLOFF
            taper = torch.cos(time.clamp(-_WINDOW, _WINDOW) * math.pi / _WINDOW / 2).square()
            sinc = torch.sinc(time) * taper * _ROLLOFF
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", MelWarning)  # a checkpoint brings its own filters
                filters = torch.from_numpy(mel_filter_bank(analysis)).float()
        self.register_buffer("basis", basis.unsqueeze(1))  # buffers: checkpoints hold them, rounded to bfloat16
        self.register_buffer("mel_basis", filters)
        self.register_buffer("sinc", sinc.expand(1, 1, -1).clone(), persistent=False)
        self.network = StereoNetwork(config, analysis.n_mels)

    def forward(self, audio: Tensor) -> Tensor:
        channels = audio.flatten(0, 1).unsqueeze(1)  # (batch * 2, 1, samples)
        added = self.network(self.mels(channels).unflatten(0, (-1, 2)).flatten(1, 2)).float()
        return (self.resample(channels).unflatten(0, (-1, 2)).squeeze(2) + added).clamp(-1, 1)

    def mels(self, audio: Tensor) -> Tensor:
        """Compute log-mels (batch, n_mels, frames) of audio (batch, 1, samples), from past samples alone."""
        with full_precision(audio):
            padded = F.pad(audio, (self.basis.shape[-1] - self.hop_length, 0))
            real, imaginary = F.conv1d(padded, self.basis, stride=self.hop_length).chunk(2, 1)
            magnitude = (real.square() + imaginary.square()).clamp_min(1e-20).sqrt()
            return (self.mel_basis @ magnitude).clamp_min(_FLOOR).log()

    def resample(self, audio: Tensor) -> Tensor:
        """Upsample audio (batch, 1, samples) by ``factor``."""
        padded = F.pad(audio, (_ZEROS, _ZEROS), mode="replicate")
        cut = 2 * _ZEROS * self.factor  # on the left, factor - 1 less on the right
        return F.conv_transpose1d(padded, self.sinc, None, self.factor, cut, self.factor - 1)

    def depends_on(self, first: int, last: int) -> tuple[int, int]:
        """Return the samples of its input that the samples ``first`` to ``last`` depend on."""
        start, end = self.network.depends_on(first, last)
        hop, size = self.hop_length, self.basis.shape[-1]
        return (
            min(first // self.factor - _ZEROS, (start + 1) * hop - size),
            max(last // self.factor + _ZEROS, (end + 1) * hop - 1),
        )
