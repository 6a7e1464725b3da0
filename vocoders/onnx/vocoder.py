"""OnnxVocoder: an exported model, run by ONNX Runtime. Does not import torch."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vocoders.config import bind
from vocoders.errors import CheckpointError, reason
from vocoders.facts import Facts
from vocoders.inference.base import BaseVocoder
from vocoders.inference.synthesis import Precision, Synthesis
from vocoders.inference.windows import WindowedSynthesis
from vocoders.inputs import Values, fill_constants
from vocoders.onnx.session import open_session

VERSION = "2"  # of the graph's interface and metadata, see graph.py and export.py

# Frames at once, which set the memory needed; more without state, where each chunk computes its context.
_CHUNK_FRAMES = 128
_CHUNK_FRAMES_WITHOUT_STATE = 512

_DTYPES = {"tensor(double)": np.float64, "tensor(int64)": np.int64}


class OnnxVocoder(BaseVocoder):
    """Model that ``vocoders export`` wrote, run by ONNX Runtime; see ``BaseVocoder``.

    Attributes:
        device: "cpu" or "cuda".
        opset: version of the ONNX operators.
    """

    backend = "onnx"

    def __init__(self, path: Path, name: str = "", device: str = "cpu") -> None:
        """Open an exported model.

        Args:
            path: model.onnx.
            name: the name given to ``load``.
            device: "cpu", "cuda" or "cuda:N".

        Raises:
            CheckpointError: for a file that is no exported model.
            VocoderError: when it cannot run here.
        """
        self.name = name or str(path)
        self._device = device
        self._path = path.absolute()
        self.precision: Precision = "float32"
        self._session = open_session(path, device)
        try:
            header = self._session.get_modelmeta().custom_metadata_map
        except UnicodeDecodeError as error:
            raise CheckpointError(f"the metadata of {path} is damaged ({error})") from None
        if header.get("format") != "vocoders":
            raise CheckpointError(
                f"{path} is an ONNX model, but none that 'vocoders export' wrote: its metadata lacks format 'vocoders'"
            )
        if "target" in header:
            raise CheckpointError(
                f"{path} was exported for {header['target']}; export it without --target to run it here"
            )
        if header.get("version") != VERSION:
            raise CheckpointError(
                f"{path} has format version {header.get('version')}, this release reads version {VERSION}; "
                f"export the checkpoint again with this release"
            )
        try:
            parsed = {key: json.loads(header[key]) for key in Facts.model_fields if key in header}
            self.facts = bind(Facts, parsed, "the metadata")
            self.opset = int(header["opset"])
        except (LookupError, TypeError, ValueError, RecursionError) as error:
            raise CheckpointError(f"the metadata of {path} is damaged ({type(error).__name__}: {error})") from None
        self._inputs = {value.name: _DTYPES.get(value.type, np.float32) for value in self._session.get_inputs()}
        self._outputs = [value.name for value in self._session.get_outputs()]
        lacking = {"mel", *(item.name for item in self.facts.inputs)} - self._inputs.keys()
        lacking |= {"audio", *map("used_{}".format, self.facts.estimated)} - set(self._outputs)
        if lacking:
            raise CheckpointError(f"{path} is damaged: its graph has no '{min(lacking)}'")
        self._states = [name.removeprefix("next_") for name in self._outputs if name.startswith("next_")]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy as the file, because sessions cannot be."""
        return type(self), (self._path, self.name, self._device)

    @property
    def device(self) -> str:
        """Device of the session."""
        return self._device

    @property
    def chunk_frames(self) -> int | None:
        lookahead = self.facts.lookahead_with(())
        if lookahead is None:
            return None
        return max(_CHUNK_FRAMES, lookahead + 1) if self._states else _CHUNK_FRAMES_WITHOUT_STATE

    def start(self, seeds: Sequence[int], given: Collection[str] = (), constants: Values | None = None) -> Synthesis:
        kind = OnnxSynthesis if self._states else RecomputingSynthesis
        return kind(self, seeds, given, constants)

    def run(self, mel: np.ndarray, values: Values) -> tuple[np.ndarray, Values]:
        estimated = self.facts.estimated
        audio, *used = self._run({"mel": mel, **values}, ["audio", *map("used_{}".format, estimated)])
        return audio, dict(zip(estimated, used, strict=True))

    def advance(self, mel: np.ndarray, values: Values, state: Values, last: bool) -> tuple[np.ndarray, Values]:
        """Run a graph with state for the next frames; return the final audio (batch, channels, samples) and state."""
        inputs = {"mel": mel, **values, **state, "last": np.array([int(last)])}
        audio, *following = self._run(inputs, ["audio", *(f"next_{name}" for name in self._states)])
        return audio, dict(zip(self._states, following, strict=True))

    def _run(self, inputs: Values, outputs: list[str]) -> list[np.ndarray]:
        feed = {name: value.astype(self._inputs.get(name, value.dtype), copy=False) for name, value in inputs.items()}
        try:
            return self._session.run(outputs, feed)
        except Exception as error:  # onnxruntime's errors have no common base
            raise CheckpointError(f"{self.name} cannot be run ({reason(error)})") from None


class OnnxSynthesis(Synthesis):
    """Synthesis of a batch of utterances by a graph with state (streaming/lowering.py)."""

    backend: OnnxVocoder

    def __init__(
        self, vocoder: OnnxVocoder, seeds: Sequence[int], given: Collection[str] = (), constants: Values | None = None
    ) -> None:
        super().__init__(vocoder, seeds, given, constants)
        self.constants = fill_constants(self.facts.inputs, self.constants, len(self.seeds))
        self._lookahead = self.facts.lookahead_with(self.given) or 0
        self._runs: list[_Run] = []  # the last one
        self._waiting: list[Values] = []  # before the first run

    def _advance(self, mel: np.ndarray, signals: Values, last: bool) -> np.ndarray:
        new = {"mel": mel, **signals, **self.unknown(mel.shape[2])}
        end = self.frames + mel.shape[2]
        if not self._runs:
            self._waiting.append(new)
            if not last and end <= self._lookahead:  # no audio is final yet
                return self.nothing()
            new = {name: np.concatenate([values[name] for values in self._waiting], 2) for name in new}
            self._waiting = []
        elif mel.shape[2] == 0:
            return self._finish() if last else self.nothing()
        mel = new.pop("mel")
        pieces, first, audio = self.backend.pieces(mel.shape[2]), end - mel.shape[2], []
        for piece in pieces:
            values = self.backend.cut(new, piece.start, piece.stop)
            values |= self.drawn_for_items(first + piece.start, first + piece.stop)
            audio.append(self._run(mel[..., piece], values | self.constants, last and piece is pieces[-1]))
        return audio[0] if len(audio) == 1 else np.concatenate(audio, 2)

    def _run(self, mel: np.ndarray, values: Values, last: bool) -> np.ndarray:
        """Run the graph for the next frames; return the final audio."""
        state = self._runs[0].following if self._runs else {}
        audio, following = self.backend.advance(mel, values, state, last)
        self._runs = [_Run(mel, values, state, following, audio.shape[2])]
        return audio

    def _finish(self) -> np.ndarray:
        """End without new frames: ONNX Runtime takes no empty signals, so the last run is repeated."""
        run = self._runs[0]
        audio, _ = self.backend.advance(run.mel, run.values, run.state, last=True)
        return audio[..., run.samples :]


class _Run(NamedTuple):
    """Inputs and result of a run."""

    mel: np.ndarray
    values: Values
    state: Values
    following: Values
    """The state for the next run."""
    samples: int
    """Length of the audio."""


class RecomputingSynthesis(WindowedSynthesis):
    """Synthesis of a batch of utterances by a graph without state: each run gets its context again."""

    def _advance(self, mel: np.ndarray, signals: Values, last: bool) -> np.ndarray:
        audio, pieces = [], self.backend.pieces(mel.shape[2])
        for piece in pieces:
            self._take(mel[..., piece], self.backend.cut(signals, piece.start, piece.stop))
            audio.append(self._synthesize(self.frames + piece.stop, last and piece is pieces[-1]))
        return audio[0] if len(audio) == 1 else np.concatenate(audio, 2)

    def _synthesize(self, come: int, last: bool) -> np.ndarray:
        """Return the audio that is final after ``come`` frames."""
        facts = self.facts
        estimates = any(name not in self.given for name in facts.estimated)
        known = come - facts.estimator_lookahead * estimates  # frames whose estimates are final
        ready = come if last else known - (facts.lookahead or 0)
        if ready <= self._done:
            return self.nothing()
        audio, used = self._run_window(come)
        start, stop = self._done - self._first, ready - self._first
        self._done = ready
        if not last:
            self._keep_estimates(used, 0, known - self._first)
            self._drop_before(min(ready - (facts.context or 0), known - facts.estimator_context * estimates))
        return audio[..., start * facts.samples_per_frame : stop * facts.samples_per_frame]
