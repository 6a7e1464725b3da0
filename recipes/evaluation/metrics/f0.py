"""Measure errors of F0, voicing and periodicity."""

from __future__ import annotations

import numpy as np

from recipes.evaluation.metrics.signal import NAN, Signal


def f0_metrics(reference: np.ndarray, estimate: np.ndarray) -> dict[str, float]:
    """Compare F0 tracks of equal length, in Hz, 0 = unvoiced.

    Returns:
        voicing_error: share of frames voiced in only one track.
        voicing_f1: harmonic mean of precision and recall of "voiced".
        gross_error: share of the frames voiced in both with an F0 error above 20 %.
        f0_rmse_cents: root mean square F0 error of the others, in cents.
    """
    both = (reference > 0) & (estimate > 0)
    voiced = np.sum(reference > 0) + np.sum(estimate > 0)
    ratio = estimate[both] / reference[both]
    gross = np.abs(ratio - 1) > 0.2
    cents = 1200 * np.log2(ratio[~gross])
    return {
        "voicing_error": float(np.mean((reference > 0) != (estimate > 0))),
        "voicing_f1": float(2 * np.sum(both) / voiced) if voiced else NAN,
        "gross_error": float(np.mean(gross)) if len(gross) else NAN,
        "f0_rmse_cents": float(np.sqrt(np.mean(cents**2))) if len(cents) else NAN,
    }


def periodicity_error(reference: Signal, estimate: Signal) -> float:
    """Compute the RMS difference of the periodicities where the reference is loud.

    Not comparable with CARGAN's and BigVGAN's, which use their F0 estimator's confidence.
    """
    difference = (reference.periodicity - estimate.periodicity)[reference.loud]
    return float(np.sqrt(np.mean(difference**2))) if len(difference) else NAN
