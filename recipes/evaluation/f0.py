"""Measure F0 estimators: the pitch range of a model, and its F0 from disturbed mels."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch

from recipes.data.augmentation import at_level, level, reverberate, shape
from recipes.data.clips import Clip, read_clip
from recipes.data.f0_labels import F0_RANGE, f0_at, label_f0
from recipes.data.segments import centered_on_hops, frame_times
from recipes.data.smoothing import LEVELS, smooth_mel
from recipes.evaluation.metrics import f0_metrics
from recipes.evaluation.systems import System, load_named, reference_f0
from vocoders.checkpoint import Checkpoint, load_checkpoint
from vocoders.dsp.log_mel import LogMelSpectrogram
from vocoders.errors import MelWarning, VocoderError
from vocoders.inputs import F0
from vocoders.pretrained import find_pretrained

PITCHES = (55, 60, 70, 80, 100, 150, 200, 300, 400, 500, 600, 700, 800, 900, 1000, 1100, 1200, 1300, 1400)

Disturbance = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


def make_vowel(hz: float, sample_rate: int, seconds: float = 1.5) -> np.ndarray:
    """Make a vowel: harmonics of ``hz`` with two formants and a little noise, float32 (samples,)."""
    time = np.arange(int(sample_rate * seconds)) / sample_rate
    total = np.zeros_like(time)
    for k in range(1, int(sample_rate / 2 / hz)):
        f = k * hz
        gain = np.exp(-f / 2500) + np.exp(-(((f - 700) / 200) ** 2)) + 0.5 * np.exp(-(((f - 2300) / 300) ** 2))
        total += gain * np.sin(2 * np.pi * f * time + k * k)
    noise = np.random.default_rng(0).standard_normal(len(time))
    return (0.3 * total / np.abs(total).max() + 1e-3 * noise).astype(np.float32)


def _describe(track: np.ndarray | None, hz: float | None) -> tuple[str, str]:
    """Format the share of voiced frames, and their median's error from ``hz`` in cents."""
    if track is None:
        return "", ""
    voiced = track[track > 0]
    cents = f"{1200 * np.log2(np.median(voiced) / hz):+.0f}" if len(voiced) and hz else ""
    return f"{100 * len(voiced) / len(track):.0f} %", cents


def measure_pitch(system: System, hz: float | None) -> tuple[object, ...]:
    """Measure copy synthesis of a vowel, or silence if ``hz`` is None; F0 by WORLD's Harvest, 45 to 1500 Hz."""
    import pyworld

    voc = system.voc
    audio = make_vowel(hz, voc.sample_rate) if hz else np.zeros(3 * voc.sample_rate // 2, np.float32)
    estimated = system.estimated_f0(audio)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MelWarning)  # a vowel alone gives an unusual mel
        synthesis = voc(voc.analyze(audio, voc.sample_rate))
    f0, _ = pyworld.harvest(synthesis.astype(np.float64), voc.sample_rate, 45.0, 1500.0)
    inside = slice(voc.sample_rate // 4, -voc.sample_rate // 4)
    own, reference = (10 * np.log10(max(np.mean(x[inside].astype(float) ** 2), 1e-12)) for x in (synthesis, audio))
    return (
        hz or "silence",
        *_describe(None if estimated is None else estimated[10:-10], hz),
        *_describe(f0[50:-50], hz),
        f"{own - reference:+.1f}" if hz else f"{own:.0f} dBFS",
    )


def print_pitches(model: str | None) -> None:
    """Print estimated F0, and F0 and level of the synthesis, of vowels from 55 to 1400 Hz and of silence."""
    system = System(load_named(model))
    rows = [measure_pitch(system, hz) for hz in (*PITCHES, None)]
    _print_table(("F0, Hz", "mel: voiced", "off, cents", "synthesis: voiced", "off, cents", "level, dB"), rows)


def _noisy(slope: float) -> Disturbance:
    """Make a disturbance: noise with a spectral slope, 10 dB below the recording."""

    def add(audio: np.ndarray, sample_rate: int, draw: np.random.Generator) -> np.ndarray:
        noise = shape(draw.standard_normal(len(audio)), slope, sample_rate)
        return audio + at_level(noise, level(audio) - 10)

    return add


DISTURBANCES: dict[str, Disturbance] = {
    "white noise, 10 dB below": _noisy(0.0),
    "pink noise, 10 dB below": _noisy(-0.5),
    "room of 0.5 s, 3 dB below": lambda audio, rate, draw: reverberate(audio, rate, 0.5, -3.0, draw),
    # The reversed recording acts as a second speaker.
    "second voice, 10 dB below": lambda audio, rate, draw: audio + at_level(audio[::-1], level(audio) - 10),
    "40 dB quieter": lambda audio, rate, draw: 0.01 * audio,
}


def disturb_mels(audio: np.ndarray, log_mel: LogMelSpectrogram, draw: np.random.Generator) -> dict[str, np.ndarray]:
    """Make the mels (n_mels, frames) of a recording (samples,): exact, smoothed and disturbed."""
    rate = log_mel.mel_config.sample_rate
    exact = log_mel(torch.from_numpy(audio)).numpy()
    mels = {"exact": exact} | {f"{name} smoothing": smooth_mel(exact, *values) for name, values in LEVELS.items()}
    return mels | {
        name: log_mel(torch.from_numpy(disturb(audio, rate, draw))).numpy() for name, disturb in DISTURBANCES.items()
    }


def measure_robustness(checkpoint: Checkpoint, clips: list[Clip]) -> dict[str, dict[str, float]]:
    """Compare F0 from each kind of mel with WORLD's F0 of the clean recordings, over all frames."""
    if checkpoint.f0_estimator is None:
        raise VocoderError("the model has no F0 estimator")
    estimator, mel_config = checkpoint.f0_estimator.double(), centered_on_hops(checkpoint.mel_config)
    log_mel, draw = LogMelSpectrogram(mel_config, torch.float64), np.random.default_rng(0)
    tracks: dict[str, list[np.ndarray]] = {}
    for clip in clips:
        audio = read_clip(clip, mel_config)[0].double().numpy()
        frames = len(audio) // mel_config.hop_length
        reference = f0_at(label_f0(audio, mel_config.sample_rate), frame_times(frames, mel_config))
        for name, mel in disturb_mels(audio, log_mel, draw).items():
            estimate = estimator.estimate(torch.from_numpy(mel)[None])[0, 0].numpy()
            tracks.setdefault(name, []).append(np.stack([reference, estimate]))
    return {name: f0_metrics(*np.concatenate(parts, axis=1)) for name, parts in tracks.items()}


@torch.no_grad()
def print_robustness(model: str | None, clips: list[Clip]) -> None:
    """Print the errors of F0 and voicing from exact, smoothed and disturbed mels."""
    rows: list[tuple[object, ...]] = []
    for name, metrics in measure_robustness(load_checkpoint(find_pretrained(model)[1]), clips).items():
        percents = (f"{100 * metrics[key]:.1f}" for key in ("voicing_error", "gross_error"))
        rows.append((name, *percents, f"{metrics['f0_rmse_cents']:.0f}"))
    _print_table(("mel", "voicing error, %", "gross F0 error, %", "F0 RMSE, cents"), rows)


SHIFTS = (-12, -5, 0, 5, 12)
_MOST_CENTS = 300.0  # of an error: larger ones are errors of octaves, perhaps WORLD's


def measure_shift(system: System, clips: list[Clip], semitones: int) -> tuple[float, float]:
    """Shift F0 of recordings against their mels; return the median and RMS difference of the audio's F0, in cents.

    Both are means over the clips, over frames where the given F0 and WORLD's of the audio are voiced.
    """
    voc, medians, deviations = system.voc, [], []
    searched = F0_RANGE[0] * 2 ** (min(SHIFTS) / 12), F0_RANGE[1] * 2 ** (max(SHIFTS) / 12)
    for clip in clips:
        audio = read_clip(clip, voc.mel_config)[0].numpy()
        mel = voc.analyze(audio, voc.sample_rate)
        given = (reference_f0(audio, voc, mel.shape[1]) * 2 ** (semitones / 12)).astype(np.float32)
        labels = label_f0(voc(mel, given), voc.sample_rate, searched)
        result = f0_at(labels, frame_times(mel.shape[1], voc.mel_config))
        voiced = (given > 0) & (result > 0)
        if voiced.any():
            cents = np.abs(1200 * np.log2(result[voiced] / given[voiced])).clip(max=_MOST_CENTS)
            medians.append(float(np.median(cents)))
            deviations.append(float(np.sqrt(np.mean(cents**2))))
    if not medians:
        raise VocoderError("no recording has voiced frames, so F0 cannot be shifted")
    return float(np.mean(medians)), float(np.mean(deviations))


def print_shifts(model: str | None, clips: list[Clip]) -> None:
    """Print how well the audio follows F0 that is shifted against the mel, for models that take F0."""
    system = System(load_named(model))
    if F0 in system.voc.facts.inputs:
        measured = ((shift, measure_shift(system, clips, shift)) for shift in SHIFTS)
        rows = [(shift, *(f"{cents:.0f}" for cents in pair)) for shift, pair in measured]
        _print_table(("F0 shifted, semitones", "median difference, cents", "RMS, cents"), rows)


def _print_table(titles: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    for cells in (titles, ("---",) * len(titles), *rows):
        print(f"| {' | '.join(map(str, cells))} |")
    print()
