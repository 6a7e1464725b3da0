"""NISQA v2.0 (Mittag et al. 2021, Interspeech): predict listeners' opinion from a signal alone.

torchmetrics (extra ``nisqa``) downloads the weights (1 MB) once. They are CC BY-NC-SA 4.0: never train with them.
"""

from __future__ import annotations

import pickle

import torch

from recipes.evaluation.metrics import NAN, Signal
from vocoders.errors import VocoderError

WEIGHTS = "~/.torchmetrics/NISQA/nisqa.tar"  # torchmetrics' place
SECONDS = 0.5, 50.0  # the network takes at most 1300 windows, 40 ms apart, and at least about 0.5 s


def nisqa(signal: Signal) -> float:
    """Predict the mean opinion score, 1 to 5; NaN when the length is outside SECONDS."""
    from torchmetrics.functional.audio.nisqa import non_intrusive_speech_quality_assessment

    if not SECONDS[0] <= len(signal.audio) / signal.sample_rate <= SECONDS[1]:
        return NAN
    return float(non_intrusive_speech_quality_assessment(torch.from_numpy(signal.audio), signal.sample_rate)[0])


def require_nisqa() -> None:
    """Download the weights if they are missing."""
    try:
        nisqa(Signal(torch.zeros(16000).numpy(), 16000))
    except ImportError:
        raise VocoderError('NISQA needs torchmetrics, librosa and requests: pip install -e ".[nisqa]"') from None
    except OSError:  # includes errors of requests
        raise VocoderError(
            f"NISQA's weights are not at {WEIGHTS} and cannot be downloaded; put weights/nisqa.tar of "
            f"github.com/gabrielmittag/NISQA there"
        ) from None
    except (EOFError, KeyError, RuntimeError, pickle.UnpicklingError):  # also after a broken download
        raise VocoderError(f"{WEIGHTS} does not hold NISQA's weights; remove it, and it is downloaded again") from None
