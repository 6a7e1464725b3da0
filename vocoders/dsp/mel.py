"""Define mel configs, by name and in full, and convert mels exactly between them. Does not import torch.

A mel of another mel config than the vocoder's becomes noise. So every checkpoint and .npz mel holds its complete mel
config, and a mel is converted exactly or not at all.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from vocoders.config import Config, FFTSize, Padding, Window, bind
from vocoders.dsp.arrays import Array
from vocoders.errors import MelMismatch, MelWarning, VocoderError, shorten

_CONVERTIBLE = ("log", "floor")  # fields that can be converted
_LONGEST_NAME = 1000  # characters, changes included
_NATURAL_LOGS_PER_UNIT = {"ln": 1.0, "log10": math.log(10.0)}


class MelConfig(Config):
    """Everything that decides the numbers of a log-mel-spectrogram.

    log_mel = log(max(filter_bank @ |STFT|^power, floor)), |STFT| = sqrt(re^2 + im^2 + epsilon), Hann window.

    Attributes:
        sample_rate: rate of the audio, Hz.
        n_fft: size of the Fourier transform, samples.
        hop_length: distance between frames, samples.
        win_length: window length, samples; centred in n_fft.
        n_mels: number of bands.
        fmin: lowest frequency of the filter bank, Hz.
        fmax: highest frequency of the filter bank, Hz.
        mel_scale: "slaney" or "htk".
        mel_norm: "slaney" for filters of unit area, "none" for height 1.
        power: 1 for magnitude, 2 for power.
        padding: padding of the audio, see ``vocoders.dsp.stft.STFT``.
        log: base of the logarithm, "ln" or "log10".
        floor: smallest value before the logarithm.
        epsilon: added to the power under the root.
        window: "hann", periodic, or "hann-symmetric", which ends in zero on both sides.
    """

    sample_rate: int = Field(gt=0, le=1_000_000, description="Hz")
    n_fft: FFTSize
    hop_length: int = Field(gt=0, description="samples between frames")
    win_length: int = Field(gt=0, description="samples; the window is centred in n_fft")
    n_mels: int = Field(gt=0, le=1024)
    fmin: float = Field(ge=0, description="Hz")
    fmax: float = Field(gt=0, description="Hz")
    mel_scale: Literal["slaney", "htk"] = "slaney"
    mel_norm: Literal["slaney", "none"] = Field("slaney", description="slaney: filters of unit area; none: of height 1")
    power: Literal[1, 2] = Field(1, description="1: magnitude, 2: power")
    padding: Padding = "same"
    log: Literal["ln", "log10"] = "ln"
    floor: float = Field(1e-5, gt=0, description="smallest value before the logarithm")
    epsilon: float = Field(0.0, ge=0, description="added to the power under the root")
    window: Window = Field("hann", description="hann: the periodic one")

    @model_validator(mode="after")
    def _consistent(self) -> MelConfig:
        if not self.hop_length <= self.win_length <= self.n_fft:
            raise ValueError(
                f"need hop_length <= win_length <= n_fft, got {self.hop_length}, {self.win_length}, {self.n_fft}"
            )
        if not self.fmin < self.fmax <= self.sample_rate / 2:
            raise ValueError(
                f"need fmin < fmax <= sample_rate / 2, got fmin {self.fmin:g}, fmax {self.fmax:g}, "
                f"sample_rate {self.sample_rate}"
            )
        return self

    def __repr__(self) -> str:
        return f"<MelConfig {self.text}>"

    @property
    def name(self) -> str:
        """Name of this mel config in MEL_CONFIGS, or "custom"."""
        return next((name for name, mel_config in MEL_CONFIGS.items() if mel_config == self), "custom")

    @property
    def text(self) -> str:
        """Text for ``parse``: the most similar name, and the fields that differ."""
        name = min(MEL_CONFIGS, key=lambda name: len(self.differences(MEL_CONFIGS[name])))
        changes = self.differences(MEL_CONFIGS[name]).items()
        return f"{name}:{','.join(f'{field}={own}' for field, (own, _) in changes)}".removesuffix(":")

    @property
    def log_floor(self) -> float:
        """Smallest value of such a mel."""
        return math.log(self.floor) if self.log == "ln" else math.log10(self.floor)

    @property
    def usual_lag(self) -> int:
        """Samples by which audio lags the recording if generators put frame t in the middle of hop t."""
        return self.hop_length // 2 if self.padding == "center" else 0

    def natural_log_magnitude(self, mel: Array) -> Array:
        """Convert a log-mel to the natural logarithm of the linear mel's magnitude."""
        return mel * (_NATURAL_LOGS_PER_UNIT[self.log] / self.power)

    def differences(self, other: MelConfig) -> dict[str, tuple[Any, Any]]:
        """Return the fields that differ, as {field: (own value, other's value)}."""
        pairs = {field: (getattr(self, field), getattr(other, field)) for field in MelConfig.model_fields}
        return {field: pair for field, pair in pairs.items() if pair[0] != pair[1]}

    def lasting_differences(self, other: MelConfig) -> dict[str, tuple[Any, Any]]:
        """Return the differences that no exact conversion undoes."""
        return {field: pair for field, pair in self.differences(other).items() if field not in _CONVERTIBLE}

    def converts_to(self, target: MelConfig) -> bool:
        """Whether mels of this mel config can be converted to ``target`` exactly."""
        return not self.lasting_differences(target)

    def fit(self, target: MelConfig) -> tuple[bool, bool, float]:
        """Rank how well mels of this config suit a model of ``target``; the largest value is the best.

        First come exact conversion, then the same sample rate and band, then the widest band, up to that of the mel or
        12 kHz: speech has little above.
        """
        alike = all(getattr(self, key) == getattr(target, key) for key in ("sample_rate", "fmin", "fmax"))
        return self.converts_to(target), alike, min(target.fmax, max(self.fmax, 12000.0))

    def check_convertible(self, target: MelConfig) -> None:
        """Check that mels of this mel config can be converted to ``target``.

        Raises:
            MelMismatch: naming the fields and values, when more than log base and floor differ.
        """
        if not self.converts_to(target):
            raise MelMismatch(
                f"a mel of mel config {self.name} cannot become one of {target.name} exactly, they differ in "
                f"{list_differences(self.lasting_differences(target))}; "
                f"compute the mel again from the audio, or use a model of its own mel config"
            )

    @classmethod
    def parse(cls, text: str) -> MelConfig:
        """Parse a key of ``MEL_CONFIGS``, with changes if any: "hifigan-22k:log=log10,floor=1e-10".

        Raises:
            VocoderError: for an unknown name, field or value.
        """
        name, _, changes = text.partition(":")
        if name not in MEL_CONFIGS or len(text) > _LONGEST_NAME:
            raise VocoderError(f"unknown mel config '{shorten(name)}'; known: {', '.join(MEL_CONFIGS)}")
        values = MEL_CONFIGS[name].model_dump()
        for change in filter(None, changes.split(",")):
            field, _, value = change.partition("=")
            values[field.strip()] = int(value) if value.strip() in ("1", "2") else value.strip()
        return bind(cls, values, f"mel config '{text}'")


def list_differences(differences: dict[str, tuple[Any, Any]]) -> str:
    """Format ``MelConfig.differences``: "log ln against log10, floor 1e-05 against 1e-10"."""
    return ", ".join(f"{field} {own} against {other}" for field, (own, other) in differences.items())


def _mel_config(
    sample_rate: int, n_fft: int, hop: int, win: int, n_mels: int, band: tuple[float, float], **rest: Any
) -> MelConfig:
    return MelConfig(
        sample_rate=sample_rate,
        n_fft=n_fft,
        hop_length=hop,
        win_length=win,
        n_mels=n_mels,
        fmin=band[0],
        fmax=band[1],
        **rest,
    )


_ESPNET: dict[str, Any] = {"padding": "center", "log": "log10", "floor": 1e-10}

MEL_CONFIGS: dict[str, MelConfig] = {
    # jik876/hifi-gan meldataset.py; also Grad-TTS, BigVGAN 22k, and Matcha after undoing its (m + 5.536622) / 2.116101
    "hifigan-22k": _mel_config(22050, 1024, 256, 1024, 80, (0, 8000), epsilon=1e-9),
    # NVIDIA/tacotron2 layers.py; also ming024/FastSpeech2 audio/stft.py. coqui-ai/TTS utils/audio/processor.py is
    # "tacotron2-22k:floor=1e-8" with the audio settings of most of its recipes/ljspeech
    "tacotron2-22k": _mel_config(22050, 1024, 256, 1024, 80, (0, 8000), padding="center"),
    # speechbrain/speechbrain recipes/LibriTTS/vocoder/hifigan; at 22050 Hz its mels are "tacotron2-22k"
    "speechbrain-16k": _mel_config(16000, 1024, 256, 1024, 80, (0, 8000), padding="center"),
    # NVIDIA/NeMo examples/tts/conf/hifigan, with FilterbankFeatures of asr/parts/preprocessing/features.py
    "nemo-22k": _mel_config(22050, 1024, 256, 1024, 80, (0, 8000), padding="same-zeros", window="hann-symmetric"),
    "nemo-44k": _mel_config(44100, 2048, 512, 2048, 80, (0, 22050), padding="same-zeros", window="hann-symmetric"),
    # NVIDIA/BigVGAN configs; the 24 kHz one also Amphion. Its 22 kHz one of 8 kHz is "hifigan-22k"
    "bigvgan-22k": _mel_config(22050, 1024, 256, 1024, 80, (0, 11025), epsilon=1e-9),
    "bigvgan-24k": _mel_config(24000, 1024, 256, 1024, 100, (0, 12000), epsilon=1e-9),
    "bigvgan-44k": _mel_config(44100, 2048, 512, 2048, 128, (0, 22050), epsilon=1e-9),
    # openvpi/SingingVocoders utils/wav2mel.py, openvpi/DiffSinger modules/nsf_hifigan/nvSTFT.py. DiffSinger's acoustic
    # models with mel_base 10 are "openvpi-44k:log=log10"
    "openvpi-44k": _mel_config(44100, 2048, 512, 2048, 128, (40, 16000)),
    "bigvgan-44k-256": _mel_config(44100, 1024, 256, 1024, 128, (0, 22050), epsilon=1e-9),
    # RVC-Boss/GPT-SoVITS TTS_infer_pack/TTS.py, mel_fn_v4
    "gpt-sovits-32k": _mel_config(32000, 1280, 320, 1280, 100, (0, 16000), epsilon=1e-8),
    # gemelo-ai/vocos feature_extractors.py
    "vocos-24k": _mel_config(
        24000, 1024, 256, 1024, 100, (0, 12000), mel_scale="htk", mel_norm="none", padding="center", floor=1e-7
    ),
    # SWivid/F5-TTS src/f5_tts/model/modules.py, get_vocos_mel_spectrogram
    "f5-tts-24k": _mel_config(
        24000, 1024, 256, 1024, 100, (0, 12000), mel_scale="htk", mel_norm="none", padding="center"
    ),
    # kan-bayashi/ParallelWaveGAN bin/preprocess.py, egs/ljspeech. Also espnet/espnet, espnet2/tts/feats_extract/
    # log_mel_fbank.py with egs2/{jsut,libritts,vctk}/tts1/run.sh or egs2/ljspeech/tts1/run.sh, except that it keeps
    # each bin above 1e-5. The last of these is also that of transformers' FastSpeech2Conformer once its statistics are
    # undone
    "espnet-24k": _mel_config(24000, 2048, 300, 1200, 80, (80, 7600), **_ESPNET),
    "pwg-ljspeech-22k": _mel_config(22050, 1024, 256, 1024, 80, (80, 7600), **_ESPNET),
    # transformers feature_extraction_speecht5.py; also the defaults of espnet/espnet egs2/TEMPLATE/tts1/tts.sh
    "speecht5-16k": _mel_config(16000, 1024, 256, 1024, 80, (80, 7600), **_ESPNET),
    # haoheliu/AudioLDM audioldm/utils.py and audio/stft.py; also AudioLDM 2 and MusicLDM
    "audioldm-16k": _mel_config(16000, 1024, 160, 1024, 64, (0, 8000), padding="center"),
    # CleanMel configs
    "cleanmel-16k": _mel_config(16000, 512, 128, 512, 80, (0, 8000), power=2, padding="center"),
    # FunAudioLLM/CosyVoice examples/libritts/cosyvoice2/conf/cosyvoice2.yaml, with mel_spectrogram of Matcha-TTS; also
    # resemble-ai/chatterbox models/s3gen/utils/mel.py. CosyVoice 3 is "cosyvoice2-24k:fmax=12000", CosyVoice 1
    # "hifigan-22k"
    "cosyvoice2-24k": _mel_config(24000, 1920, 480, 1920, 80, (0, 8000), epsilon=1e-9),
    # chomeyama/wavehax extract_features.yaml
    "wavehax-24k": _mel_config(24000, 1024, 240, 1024, 100, (0, 8000), padding="same-zeros"),
}


def convert_mel(mel: Array, source: MelConfig, target: MelConfig) -> Array:
    """Convert a log-mel from one mel config to another, exactly.

    Only log base and floor can be converted. A lower floor does not restore what the source cut off.

    Args:
        mel: (..., n_mels, frames), numpy or torch.
        source: the mel config of ``mel``.
        target: the mel config of the result.

    Returns:
        The converted mel, or ``mel`` itself if both are equal.

    Raises:
        MelMismatch: when anything else differs.
    """
    source.check_convertible(target)
    if source == target:
        return mel
    # A ratio of logarithms: linear values would overflow and round.
    factor = _NATURAL_LOGS_PER_UNIT[source.log] / _NATURAL_LOGS_PER_UNIT[target.log]
    return (mel * factor).clip(target.log_floor)


def _hz_to_mel(hz: np.ndarray, scale: str) -> np.ndarray:
    if scale == "htk":  # O'Shaughnessy's formula, as in the HTK book
        return 2595.0 * np.log10(1.0 + hz / 700.0)
    # Slaney's Auditory Toolbox: linear to 1 kHz (15 on its scale), then 27 steps for every factor of 6.4
    above = 15.0 + 27.0 * np.log(np.maximum(hz, 1.0) / 1000.0) / np.log(6.4)
    return np.where(hz < 1000.0, hz * 3.0 / 200.0, above)


def _mel_to_hz(mel: np.ndarray, scale: str) -> np.ndarray:
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    return np.where(mel < 15.0, mel * 200.0 / 3.0, 1000.0 * 6.4 ** ((mel - 15.0) / 27.0))


def mel_frequencies(mel_config: MelConfig) -> np.ndarray:
    """Return the corners in Hz, float64 (n_mels + 2,); filter i rises from corner i to i + 1 and falls to i + 2."""
    low, high = _hz_to_mel(np.array([mel_config.fmin, mel_config.fmax]), mel_config.mel_scale)
    return _mel_to_hz(np.linspace(low, high, mel_config.n_mels + 2), mel_config.mel_scale)


def bin_frequencies(mel_config: MelConfig, n_fft: int) -> np.ndarray:
    """Return the frequencies of the bins of an STFT in Hz, float64 (n_fft // 2 + 1,)."""
    return np.linspace(0, mel_config.sample_rate / 2, n_fft // 2 + 1)


def mel_filters(mel_config: MelConfig, frequencies: np.ndarray) -> np.ndarray:
    """Return the triangular filters at any frequencies in Hz, float64 (n_mels, frequencies)."""
    corners = mel_frequencies(mel_config)
    distance = corners[:, None] - frequencies
    width = np.diff(corners)[:, None]
    bank = np.maximum(np.minimum(-distance[:-2] / width[:-1], distance[2:] / width[1:]), 0.0)
    if mel_config.mel_norm == "slaney":
        bank *= (2.0 / (corners[2:] - corners[:-2]))[:, None]
    return bank


def mel_filter_bank(mel_config: MelConfig) -> np.ndarray:
    """Return the triangular filters, float64 (n_mels, n_fft // 2 + 1), equal to librosa.filters.mel's.

    torchaudio's import is slow, and it rounds to float32.

    Warns:
        MelWarning: when a filter is narrower than the distance of the bins, and empty.
    """
    bank = mel_filters(mel_config, bin_frequencies(mel_config, mel_config.n_fft))
    if empty := int((bank.max(1) == 0).sum()):
        warnings.warn(
            f"{empty} of the {mel_config.n_mels} bands hold no bin of an FFT of {mel_config.n_fft} and are silent "
            f"always; take fewer bands or a larger FFT: "
            f"{mel_config.model_copy(update={'n_fft': 2 * mel_config.n_fft}).text}",
            MelWarning,
            stacklevel=2,
        )
    return bank
