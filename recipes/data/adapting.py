"""Draw mel configs for the training on approximated mels."""

from __future__ import annotations

from torch import Tensor

from recipes.data.smoothing import between
from vocoders.dsp.mel import MelConfig

_HOP = (0.005, 0.021)  # seconds
_WINDOW = (0.025, 0.085)  # seconds, at least two and at most six hops
_BANDS = (64, 128)
_FLOORS = (1e-5, 1e-7, 1e-10)


def random_mel_config(target: MelConfig, uniform: Tensor) -> MelConfig:
    """Draw a mel config at the rate of ``target`` by ``uniform`` (9,) in [0, 1).

    Hop, window and band are those of mel configs of 16 kHz and more.
    """
    u = [float(x) for x in uniform]
    rate = target.sample_rate
    hop = round(rate * between(_HOP, u[0]))
    longest = min(_WINDOW[1], 6 * hop / rate)
    window = 2 * round(rate * between((max(_WINDOW[0], 2 * hop / rate), longest), u[1]) / 2)
    narrow = u[3] < 0.5
    return MelConfig(
        sample_rate=rate,
        n_fft=max(window, 1024),
        hop_length=hop,
        win_length=window,
        n_mels=round(between(_BANDS, u[2])),
        fmin=0.0 if u[4] < 0.5 else between((20, 90), 2 * u[4] - 1),
        fmax=min(rate / 2, 7600 + 400 * (u[5] < 0.7) if narrow else rate / 2 * between((0.9, 1.0), u[5])),
        mel_scale="htk" if u[6] < 0.4 else "slaney",
        mel_norm="none" if u[7] < 0.4 else "slaney",
        power=2 if u[8] < 0.2 else 1,
        floor=_FLOORS[int(3 * u[7])],
    )
