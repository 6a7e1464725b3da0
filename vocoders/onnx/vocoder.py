"""OnnxVocoder: an exported model, run by ONNX Runtime. The surface of Vocoder, without torch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vocoders.config import bind
from vocoders.dsp.mel import MelConfig, convert_mel
from vocoders.dsp.noise import white_noise
from vocoders.errors import CheckpointError, VocoderError
from vocoders.inference.checks import (
    CANNOT_STREAM,
    NEEDS_F0,
    NOT_FINITE,
    STREAM_EMPTY,
    STREAM_OVER,
    check_f0,
    check_mel,
    warn_about_mel,
)

VERSION = "1"  # of the graph's inputs, outputs and metadata, see export.py

# Frames synthesised at once. What an utterance of any length needs in memory is set by this, not by its length.
_CHUNK_FRAMES = 512


class OnnxVocoder:
    """Turns log-mel-spectrograms into audio. Made by ``load`` from what ``vocoders export`` wrote; see ``__call__``.

    ``generator`` is its generator's name and configuration; ``receptive_field`` the generator's context in frames on
    each side, None for the whole utterance, ``f0_receptive_field`` that of the estimator.
    """

    def __init__(self, path: Path, name: str = "", device: str = "cpu") -> None:
        """Raises CheckpointError for a file that is no exported model, VocoderError where it cannot be run."""
        self.name = name or str(path)
        self.device = device
        self._session = _open(path, device)
        header = self._session.get_modelmeta().custom_metadata_map
        if header.get("format") != "vocoders":
            raise CheckpointError(
                f"{path} is an ONNX model, but none that 'vocoders export' wrote: its metadata lacks format 'vocoders'"
            )
        if header.get("version") != VERSION:
            raise CheckpointError(
                f"{path} has format version {header.get('version')}, this release reads version {VERSION}; "
                f"export the checkpoint again with this release"
            )
        try:
            self.mel_config = bind(MelConfig, json.loads(header["mel_spec"]), "mel_config")
            self.training: dict[str, Any] = dict(json.loads(header["training"]))
            self.generator: dict[str, Any] = dict(json.loads(header["generator"]))
            self.receptive_field: int | None = json.loads(header["receptive_field"])
            self.opset = int(header["opset"])
            self.f0_receptive_field = int(header.get("pitch_receptive_field", 0))
        except (LookupError, TypeError, ValueError, RecursionError) as error:
            raise CheckpointError(f"the metadata of {path} is damaged ({type(error).__name__}: {error})") from None
        self._inputs = {value.name for value in self._session.get_inputs()}
        self._outputs = [value.name for value in self._session.get_outputs()]

    @property
    def sample_rate(self) -> int:
        return self.mel_config.sample_rate

    @property
    def chunk_frames(self) -> int | None:
        """Frames that long utterances are synthesised in at a time; None where only the whole will do."""
        return None if self.receptive_field is None else _CHUNK_FRAMES

    @property
    def uses_f0(self) -> bool:
        return "f0" in self._inputs

    @property
    def uses_noise(self) -> bool:
        return "noise" in self._inputs

    @property
    def estimates_f0(self) -> bool:
        """Whether it reads F0 from the mel where none is given."""
        return "used_f0" in self._outputs

    def __call__(self, mel: Any, f0: Any = None, seed: int | None = None) -> Any:
        """Log-mel -> audio.

        Args:
            mel: (n_mels, frames) or (batch, n_mels, frames), any float dtype, in the mel config ``mel_config``; or a
                list of (n_mels, frames) of any lengths.
            f0: in Hz per frame, 0 = unvoiced: (frames,) or (batch, frames), or a list like ``mel``. Estimated from
                the mel when not given; ignored by generators that do without.
            seed: of the noise; the same seed gives the same audio, and not giving one is the seed 0. Every item of a
                batch sounds as it does alone, to rounding.
        Returns: numpy, float32 audio, (samples,) or (batch, samples) with samples = frames * hop_length; a list for a
            list. Nominally in [-1, 1], not clipped.
        Raises: VocoderError for a mel or an f0 that does not fit. Warns with MelWarning when the values look like
            another mel config's.
        """
        if isinstance(mel, (list, tuple)):
            if f0 is not None and len(f0) != len(mel):
                raise VocoderError(f"{len(mel)} mels, but {len(f0)} f0 tracks")
            return [self(item, None if f0 is None else f0[i], seed) for i, item in enumerate(mel)]
        values = self.check_mel(mel)
        warn_about_mel(values, self.mel_config)
        batch = values[None] if values.ndim == 2 else values
        items, _, frames = batch.shape
        track = None if f0 is None else check_f0(np.asarray(f0), items, frames, self.mel_config)
        continuation = Continuation(self, seed, items, track is not None)
        chunk = self.chunk_frames or frames
        pieces = []
        for begin in range(0, frames, chunk):
            here = slice(begin, begin + chunk)
            given = None if track is None else track[..., here]
            pieces.append(continuation(batch[..., here], given, last=begin + chunk >= frames))
        audio = np.concatenate(pieces, 1)
        return audio[0] if values.ndim == 2 else audio

    def stream(self, mel_chunks: Iterable[Any], seed: int | None = None) -> Iterator[np.ndarray]:
        """Audio while the frames arrive, equal to that of the whole mel; see ``Vocoder.stream``."""
        return OnnxStream(self, seed).pieces(mel_chunks)  # no generator itself: what cannot be is said at once

    def analyze(self, audio: Any, mel_config: MelConfig | None = None) -> Any:
        """Audio -> log-mel, as ``Vocoder.analyze``. It needs torch: raises VocoderError when that is not installed."""
        try:
            from vocoders.dsp.log_mel import analyze
        except ImportError as error:
            raise VocoderError(
                f"analysis of audio needs torch, which cannot be imported ({error}); without torch an exported model "
                f"turns mels into audio and nothing else"
            ) from None
        return analyze(audio, mel_config or self.mel_config)

    def convert(self, mel: Any, source: MelConfig) -> Any:
        """A mel of another mel config in this model's. Raises MelMismatch where it cannot be."""
        return convert_mel(mel, source, self.mel_config)

    def check_mel(self, mel: Any) -> np.ndarray:
        """The mel as float32, (n_mels, frames) or (batch, n_mels, frames), if it fits: raises VocoderError."""
        return check_mel(np.asarray(mel), self.mel_config)

    def run(
        self, mel: np.ndarray, f0: np.ndarray, noise: np.ndarray | None, phase: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The graph itself, its inputs as in export.py, where those it does not need are left out: audio and F0."""
        given = {"mel": mel, "f0": f0, "noise": noise, "phase": phase}
        found = self._session.run(None, {name: value for name, value in given.items() if name in self._inputs})
        return found[0], found[1] if self.estimates_f0 else f0


class OnnxStream:
    """One utterance, synthesised while its frames arrive: ``Stream`` for an exported model, without torch.

    Each push that gives audio computes its context, ``lookahead`` and the same again before it, anew: pushes of that
    many frames and more are the economical ones.
    """

    def __init__(self, vocoder: OnnxVocoder, seed: int | None = None) -> None:
        """Raises VocoderError when the model cannot stream."""
        if vocoder.receptive_field is None:
            raise VocoderError(CANNOT_STREAM)
        self.vocoder = vocoder
        self._continuation: Continuation | None = Continuation(vocoder, seed)  # None when it is over
        # Frames that must follow a frame before its audio is final.
        self.lookahead: int = vocoder.receptive_field + vocoder.f0_receptive_field

    def push(self, mel: Any) -> np.ndarray:
        """The next frames of the log-mel (n_mels, frames) -> the audio that is final now, (samples,), perhaps none.

        Raises: VocoderError for a mel that does not fit, after which the stream goes on as if it had not come, and
            for a stream that is over.
        """
        values = self.vocoder.check_mel(mel)
        if values.ndim != 2:
            raise VocoderError(f"a stream takes mels of (n_mels, frames), this one is {values.shape}")
        return self._advance(values, last=False)

    def finish(self) -> np.ndarray:
        """The rest of the audio; the stream is over.

        Raises VocoderError when no frame ever came, or the stream is over already.
        """
        if self._continuation and self._continuation.frames == 0:
            raise VocoderError(STREAM_EMPTY)
        return self._advance(np.empty((self.vocoder.mel_config.n_mels, 0), np.float32), last=True)

    def pieces(self, mel_chunks: Iterable[Any]) -> Iterator[np.ndarray]:
        """The audio of all that comes, as it becomes final, without empty pieces; the stream is over then."""
        for mel in mel_chunks:
            if len(audio := self.push(mel)):
                yield audio
        if len(audio := self.finish()):
            yield audio

    def _advance(self, mel: np.ndarray, last: bool) -> np.ndarray:
        continuation, self._continuation = self._continuation, None  # over, too, when something goes wrong
        if continuation is None:
            raise VocoderError(STREAM_OVER)
        audio = continuation(mel[None], last=last)[0]
        if not last:
            self._continuation = continuation
        return audio


class Continuation:
    """A batch of utterances, as far as synthesised: what they need to go on."""

    def __init__(self, vocoder: OnnxVocoder, seed: int | None, items: int = 1, given_f0: bool = False) -> None:
        """Raises VocoderError when the model needs F0 and has it neither given nor from an estimator."""
        if vocoder.uses_f0 and not vocoder.estimates_f0 and not given_f0:
            raise VocoderError(NEEDS_F0)
        self.vocoder = vocoder
        self.seed = seed or 0
        self.frames = 0  # that have come
        self._context = vocoder.receptive_field or 0  # a whole utterance comes at once and waits for nothing
        self._pitch_context = 0 if given_f0 else vocoder.f0_receptive_field
        self._mel = np.empty((items, vocoder.mel_config.n_mels, 0), np.float32)  # of the frames still needed
        self._f0 = np.empty((items, 1, 0), np.float32)  # likewise; negative where the estimate is not final
        self._phase = np.zeros((items, 1, 1))  # at the first of them, in cycles
        self._done = 0  # frames whose audio is out

    def __call__(self, mel: np.ndarray, f0: np.ndarray | None = None, last: bool = False) -> np.ndarray:
        """The next frames, with ``last`` the last ones -> float32 (items, samples): all audio that is final now.

        Args:
            mel: float32 (items, n_mels, frames), of any number of frames.
            f0: float32 (items, 1, frames) in every call, or never.
        Raises: VocoderError when the model gives what is not finite.
        """
        mel_config = self.vocoder.mel_config
        items = len(mel)
        self._mel = np.concatenate([self._mel, mel], 2)
        self._f0 = np.concatenate([self._f0, np.full_like(mel[:, :1], -1) if f0 is None else f0], 2)
        self.frames += mel.shape[2]
        known = self.frames - self._pitch_context  # frames whose F0 is final
        ready = self.frames if last else known - self._context
        if ready <= self._done:
            return np.empty((items, 0), np.float32)
        first = self.frames - self._mel.shape[2]
        noise = None
        if self.vocoder.uses_noise:
            drawn = white_noise(first * mel_config.hop_length, self.frames * mel_config.hop_length, self.seed)
            noise = np.tile(drawn, (items, 1, 1))
        audio, used = self.vocoder.run(self._mel, self._f0, noise, self._phase)
        audio = audio[:, 0, (self._done - first) * mel_config.hop_length : (ready - first) * mel_config.hop_length]
        if not np.isfinite(audio).all():
            raise VocoderError(NOT_FINITE)
        self._done = ready
        if not last:
            self._f0[..., : known - first] = used[..., : known - first]
            drop = max(0, min(ready - self._context, known - self._pitch_context) - first)
            cycles = self._f0[..., :drop].astype(np.float64) * mel_config.hop_length / mel_config.sample_rate
            self._phase = (self._phase + cycles.sum(2, keepdims=True)) % 1.0
            self._mel, self._f0 = self._mel[..., drop:], self._f0[..., drop:]
        return audio


def _open(path: Path, device: str) -> Any:
    """The session that runs a model."""
    try:
        import onnxruntime
    except ImportError as error:
        raise VocoderError(
            f"running {path} needs onnxruntime, which cannot be imported ({error}): pip install '.[export]' in the "
            f"clone"
        ) from None
    if not path.is_file():
        raise CheckpointError(f"there is no model {path}")
    kind, _, number = device.partition(":")
    provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}.get(kind)
    if provider not in onnxruntime.get_available_providers() or not (number or "0").isdecimal():
        raise VocoderError(
            f"device '{device}' cannot be used here for an exported model; this onnxruntime has "
            f"{', '.join(onnxruntime.get_available_providers())}, and 'cpu' always works ('cuda' needs onnxruntime-gpu)"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong is said by the exception
    threads = os.environ.get("OMP_NUM_THREADS", "")  # which torch heeds as well
    options.intra_op_num_threads = int(threads) if threads.isdecimal() else 0  # 0: a thread for each core
    choice = (provider, {"device_id": number or "0"}) if kind == "cuda" else provider
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[choice])
    except Exception as error:  # onnxruntime raises a class of its own for each status
        reason = str(error).split("\n")[0]
        raise CheckpointError(f"{path} is not a readable ONNX model, or cannot be run here ({reason})") from None
    if provider not in session.get_providers():  # it would fall back in silence
        raise VocoderError(f"device '{device}' cannot be used here: onnxruntime finds no CUDA that fits it")
    return session
