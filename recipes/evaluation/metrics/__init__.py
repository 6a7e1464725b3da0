"""Compare a synthesis with its recording.

Copy synthesis keeps time, so nothing is warped. An undefined metric, such as the F0 error of unvoiced audio, is NaN.
"""

from __future__ import annotations

from recipes.evaluation.metrics.f0 import f0_metrics, periodicity_error
from recipes.evaluation.metrics.level import level_difference, silence_level, treble_difference
from recipes.evaluation.metrics.noise import texture
from recipes.evaluation.metrics.perceptual import HAS_PESQ, pesq_wide_band, stoi
from recipes.evaluation.metrics.periodicity import band_periodicity
from recipes.evaluation.metrics.signal import NAN, Signal
from recipes.evaluation.metrics.spectral import log_mel_distance, mel_cepstral_distortion, stft_distance
from vocoders.dsp.mel import MelConfig

__all__ = [
    "HAS_PESQ",
    "NAN",
    "Signal",
    "band_periodicity",
    "compare",
    "f0_metrics",
    "level_difference",
    "log_mel_distance",
    "mel_cepstral_distortion",
    "periodicity_error",
    "pesq_wide_band",
    "silence_level",
    "stft_distance",
    "stoi",
    "texture",
    "treble_difference",
]


def compare(reference: Signal, estimate: Signal, mel_config: MelConfig) -> dict[str, float]:
    """Compute all metrics of a synthesis against its recording.

    Args:
        reference: the recording, at the rate of ``mel_config``.
        estimate: the synthesis, of equal length and rate.
        mel_config: the model's mel config.

    Returns:
        metric -> value; NaN if undefined.
    """
    return {
        "pesq": pesq_wide_band(reference, estimate),
        "stoi": stoi(reference, estimate),
        "log_mel_l1": log_mel_distance(reference, estimate, mel_config),
        "stft_distance": stft_distance(reference, estimate),
        "mcd_db": mel_cepstral_distortion(reference.cepstrum, estimate.cepstrum, reference.loud),
        **f0_metrics(reference.f0, estimate.f0),
        "periodicity_error": periodicity_error(reference, estimate),
        **band_periodicity(reference, estimate),
        "noise_texture": texture(reference, estimate, voiced=False),
        "voiced_texture": texture(reference, estimate, voiced=True),
        "level_db": level_difference(reference, estimate),
        "above_mel_db": treble_difference(reference, estimate, mel_config.fmax),
        "silence_dbfs": silence_level(reference, estimate),
    }
