"""NISQA v2.0 (Mittag et al. 2021, Interspeech): the opinion of listeners, predicted from a signal alone.

torchmetrics (extra ``nisqa``) has the network and downloads its weights (1 MB) once. They are CC BY-NC-SA 4.0: to
measure with, never to train with.
"""

from __future__ import annotations

import pickle

import torch

from recipes.evaluation.metrics import NAN, Signal
from vocoders.errors import VocoderError

WEIGHTS = "~/.torchmetrics/NISQA/nisqa.tar"  # where torchmetrics keeps them
SECONDS = 0.5, 50.0  # the network takes at most 1300 windows, 40 ms apart, and needs about half a second


def nisqa(signal: Signal) -> float:
    """Predict the mean opinion score of a signal, 1 to 5; NaN when its length lies outside SECONDS."""
    from torchmetrics.functional.audio.nisqa import non_intrusive_speech_quality_assessment

    if not SECONDS[0] <= len(signal.audio) / signal.sample_rate <= SECONDS[1]:
        return NAN
    return float(non_intrusive_speech_quality_assessment(torch.from_numpy(signal.audio), signal.sample_rate)[0])


def require_nisqa() -> None:
    """Download the weights where they are missing.

    Raises:
        VocoderError: when a package is missing, or the weights are and cannot be downloaded.
    """
    try:
        nisqa(Signal(torch.zeros(16000).numpy(), 16000))
    except ImportError:
        raise VocoderError('NISQA needs torchmetrics, librosa and requests: pip install -e ".[nisqa]"') from None
    except OSError:  # also those of requests
        raise VocoderError(
            f"NISQA's weights are not at {WEIGHTS} and cannot be downloaded; put weights/nisqa.tar of "
            f"github.com/gabrielmittag/NISQA there"
        ) from None
    except (EOFError, KeyError, RuntimeError, pickle.UnpicklingError):  # also what a failed download left behind
        raise VocoderError(f"{WEIGHTS} does not hold NISQA's weights; remove it, and it is downloaded again") from None
