"""Compute spectrograms, and distances of log-mels, spectra and mel-cepstra."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from losses import MultiResolutionSTFTLoss
from recipes.evaluation.metrics.signal import NAN, Signal
from vocoders.dsp.log_mel import LogMelSpectrogram
from vocoders.dsp.mel import MelConfig
from vocoders.dsp.stft import STFT


def spectrogram_db(audio: Tensor, hop_length: int) -> Tensor:
    """Compute STFT levels with 1024 bins: (..., samples) -> dB (..., 513, frames), at least -100."""
    return 20 * STFT(1024, hop_length)(audio).abs().clamp_min(1e-5).log10()


def log_mel_distance(reference: Signal, estimate: Signal, mel_config: MelConfig) -> float:
    """Compute the mean absolute difference of log-mels, as natural logarithms of magnitudes."""
    mel = LogMelSpectrogram(mel_config)
    logs = [mel_config.natural_log_magnitude(mel(torch.from_numpy(x.audio))) for x in (reference, estimate)]
    return float((logs[0] - logs[1]).abs().mean())


def stft_distance(reference: Signal, estimate: Signal) -> float:
    """Compute spectral convergence plus mean absolute log difference, averaged over three STFTs.

    The loss of Parallel WaveGAN (Yamamoto et al. 2020) with its resolutions in samples; BigVGAN's M-STFT.
    """
    return float(sum(MultiResolutionSTFTLoss()(torch.from_numpy(estimate.audio), torch.from_numpy(reference.audio))))


def mel_cepstral_distortion(reference: np.ndarray, estimate: np.ndarray, frames: np.ndarray) -> float:
    """Compute mel-cepstral distortion in dB: mean of 10 / ln 10 * sqrt(2 * sum of squared differences) (Kubichek 1993).

    Of two mel-cepstra (frames, order), over the frames selected by ``frames`` (frames,).
    """
    distance = 10 / np.log(10) * np.sqrt(2 * ((reference - estimate) ** 2).sum(1))
    return float(distance[frames].mean()) if frames.any() else NAN
