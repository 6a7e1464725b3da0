"""OnnxVocoder: an exported model, run by ONNX Runtime. Does not import torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field

from vocoders.config import Config, bind
from vocoders.dsp.mel import MelConfig
from vocoders.errors import CheckpointError, reason
from vocoders.inference.base import BaseVocoder
from vocoders.inference.synthesis import Precision, Synthesis
from vocoders.inference.windows import WindowedSynthesis
from vocoders.onnx.session import open_session

VERSION = "1"  # of the graph's inputs, outputs and metadata, see graph.py and export.py

# Frames synthesised at once. They, not the length of the utterance, set the memory that synthesis needs. A graph
# without state computes the context of each chunk again, so it takes more of them.
_CHUNK_FRAMES = 128
_CHUNK_FRAMES_WITHOUT_STATE = 512


class _Architecture(Config):
    name: str
    config: dict[str, Any]


class _Facts(Config):
    """Metadata of an exported model beside its mel config, see ``vocoders.onnx.export``."""

    training: dict[str, Any]
    generator: _Architecture
    receptive_field: int | None = Field(ge=0, le=1 << 20)
    opset: int
    parameters: dict[str, int] = {}
    pitch_receptive_field: int = Field(0, ge=0, le=1 << 20)
    lag: int | None = Field(None, ge=0, le=1 << 20)
    next_f0_share: float = Field(0.0, ge=0, le=1)


class OnnxVocoder(BaseVocoder):
    """Model that ``vocoders export`` wrote, run by ONNX Runtime. ``load`` makes one; see ``BaseVocoder``.

    Attributes:
        device: "cpu" or "cuda".
        opset: version of the ONNX operators.
        parameters: number of weights of the generator and of the F0 estimator, by name; empty where the file, written
            by an earlier release, does not say.
    """

    backend = "onnx"

    def __init__(self, path: Path, name: str = "", device: str = "cpu") -> None:
        """Open an exported model.

        Args:
            path: the model.onnx.
            name: the name given to ``load``.
            device: "cpu", "cuda" or "cuda:N".

        Raises:
            CheckpointError: for a file that is no exported model.
            VocoderError: when it cannot be run here.
        """
        self.name = name or str(path)
        self.device = device
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
            parsed = {key: json.loads(header[key]) for key in ("mel_config", *_Facts.model_fields) if key in header}
            self.mel_config = bind(MelConfig, parsed.pop("mel_config"), "mel_config")
            facts = bind(_Facts, parsed, "the rest")
        except (LookupError, TypeError, ValueError, RecursionError) as error:
            raise CheckpointError(f"the metadata of {path} is damaged ({type(error).__name__}: {error})") from None
        self.training = facts.training
        self.stated_lag = facts.lag
        self._architecture = facts.generator.name, facts.generator.config
        self._receptive_field = facts.receptive_field
        self.opset = facts.opset
        self.parameters = facts.parameters
        self._f0_receptive_field = facts.pitch_receptive_field
        self._next_f0_share = facts.next_f0_share
        self._inputs = {value.name for value in self._session.get_inputs()}
        self._outputs = [value.name for value in self._session.get_outputs()]
        if "mel" not in self._inputs or "audio" not in self._outputs:
            raise CheckpointError(f"{path} is damaged: its graph does not go from 'mel' to 'audio'")
        self._states = [name.removeprefix("next_") for name in self._outputs if name.startswith("next_")]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy it as its file, which is opened again: sessions of ONNX Runtime can do neither."""
        return type(self), (self._path, self.name, self.device)

    @property
    def architecture(self) -> tuple[str, dict[str, Any]]:
        return self._architecture

    @property
    def uses_f0(self) -> bool:
        return "f0" in self._inputs

    @property
    def uses_noise(self) -> bool:
        return "noise" in self._inputs

    @property
    def estimates_f0(self) -> bool:
        return "used_f0" in self._outputs

    @property
    def receptive_field(self) -> int | None:
        return self._receptive_field

    @property
    def f0_receptive_field(self) -> int:
        return self._f0_receptive_field

    @property
    def next_f0_share(self) -> float:
        return self._next_f0_share

    @property
    def chunk_frames(self) -> int | None:
        if self.receptive_field is None:
            return None
        if not self._states:
            return _CHUNK_FRAMES_WITHOUT_STATE
        return max(_CHUNK_FRAMES, self.receptive_field + self.f0_receptive_field + 1)

    def start(self, seeds: Sequence[int], given_f0: bool = False) -> Synthesis:
        kind = OnnxSynthesis if self._states else RecomputingSynthesis
        return kind(self, seeds, given_f0)

    def run(
        self, mel: np.ndarray, f0: np.ndarray, noise: np.ndarray | None, phase: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        inputs = {"mel": mel, "f0": f0, "noise": noise, "phase": phase}
        outputs = self._run(inputs, ["audio", "used_f0"] if self.estimates_f0 else ["audio"])
        return outputs[0], outputs[1] if self.estimates_f0 else f0

    def advance(
        self, mel: np.ndarray, f0: np.ndarray, noise: np.ndarray | None, state: dict[str, np.ndarray], last: bool
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Run a graph with state.

        Args:
            mel: the next frames, as for ``run``.
            f0: as for ``run``.
            noise: as for ``run``.
            state: of the previous run; empty before the first one.
            last: whether the utterances end here.

        Returns:
            The audio that is final now, (batch, 1, samples), and the state for the next run.
        """
        inputs = {"mel": mel, "f0": f0, "noise": noise, "phase": np.zeros((len(mel), 1, 1))}
        inputs |= state | {"last": np.array([int(last)])}
        audio, *following = self._run(inputs, ["audio", *(f"next_{name}" for name in self._states)])
        return audio, dict(zip(self._states, following, strict=True))

    def _run(self, inputs: dict[str, np.ndarray | None], outputs: list[str]) -> list[np.ndarray]:
        known = self._inputs | {*self._states, "last"}
        try:
            return self._session.run(outputs, {name: value for name, value in inputs.items() if name in known})
        except Exception as error:  # onnxruntime raises a class of its own for each status
            raise CheckpointError(f"{self.name} cannot be run ({reason(error)})") from None


class OnnxSynthesis(Synthesis):
    """Synthesis of a batch of utterances by ONNX Runtime; a state goes from run to run (streaming/lowering.py)."""

    def __init__(self, vocoder: OnnxVocoder, seeds: Sequence[int], given_f0: bool) -> None:
        super().__init__(vocoder, seeds, given_f0)
        self._vocoder = vocoder
        self._lookahead = (vocoder.receptive_field or 0) + (0 if given_f0 else vocoder.f0_receptive_field)
        self._runs: list[_Run] = []  # the last one
        self._mel = np.empty((len(self.seeds), vocoder.mel_config.n_mels, 0), np.float32)  # before the first run
        self._f0 = np.empty((len(self.seeds), 1, 0), np.float32)

    def _advance(self, mel: np.ndarray, f0: np.ndarray | None, last: bool) -> np.ndarray:
        f0 = np.full_like(mel[:, :1], -1) if f0 is None else f0
        end = self.frames + mel.shape[2]
        if not self._runs:
            mel, f0 = np.concatenate([self._mel, mel], 2), np.concatenate([self._f0, f0], 2)
            if not last and end <= self._lookahead:  # no audio is final yet
                self._mel, self._f0 = mel, f0
                return np.empty((len(mel), 0), np.float32)
        elif mel.shape[2] == 0:
            return self._finish() if last else np.empty((len(mel), 0), np.float32)
        pieces = self._vocoder.pieces(mel.shape[2])
        first = end - mel.shape[2]
        audio = [self._run(mel[..., p], f0[..., p], first + p.start, last and p is pieces[-1]) for p in pieces]
        return audio[0] if len(audio) == 1 else np.concatenate(audio, 1)

    def _run(self, mel: np.ndarray, f0: np.ndarray, first: int, last: bool) -> np.ndarray:
        """Run the graph for the frames from ``first`` on and return the audio that is final now."""
        noise = self.noise_of_items(first, first + mel.shape[2]) if self._vocoder.uses_noise else None
        state = self._runs[0].following if self._runs else {}
        audio, following = self._vocoder.advance(mel, f0, noise, state, last)
        self._runs = [_Run(mel, f0, noise, state, following, audio.shape[2])]
        return audio[:, 0]

    def _finish(self) -> np.ndarray:
        """End without new frames: operators of ONNX Runtime take no empty signals, so the last run is made again."""
        run = self._runs[0]
        audio, _ = self._vocoder.advance(run.mel, run.f0, run.noise, run.state, last=True)
        return audio[:, 0, run.samples :]


class _Run(NamedTuple):
    """A run of a graph with state: its inputs, and what came of it."""

    mel: np.ndarray
    f0: np.ndarray
    noise: np.ndarray | None
    state: dict[str, np.ndarray]
    following: dict[str, np.ndarray]
    """The state for the next run."""
    samples: int
    """Length of the audio."""


class RecomputingSynthesis(WindowedSynthesis):
    """Synthesis of a batch of utterances by a graph without state: each run gets all of its context again."""

    def __init__(self, vocoder: OnnxVocoder, seeds: Sequence[int], given_f0: bool) -> None:
        super().__init__(vocoder, seeds, given_f0)
        self._context = vocoder.receptive_field or 0  # None: the whole utterance comes at once
        self._f0_context = 0 if given_f0 else vocoder.f0_receptive_field

    def _advance(self, mel: np.ndarray, f0: np.ndarray | None, last: bool) -> np.ndarray:
        audio, pieces = [], self._backend.pieces(mel.shape[2])
        for piece in pieces:
            self._take(mel[..., piece], None if f0 is None else f0[..., piece])
            audio.append(self._synthesize(self.frames + piece.stop, last and piece is pieces[-1]))
        return audio[0] if len(audio) == 1 else np.concatenate(audio, 1)

    def _synthesize(self, come: int, last: bool) -> np.ndarray:
        """Return the audio that is final when ``come`` frames have come."""
        known = come - self._f0_context  # frames whose F0 is final
        ready = come if last else known - self._context
        if ready <= self._done:
            return np.empty((len(self._mel), 0), np.float32)
        audio, used = self._run_window(come)
        start, stop = self._done - self._first, ready - self._first
        self._done = ready
        if not last:
            self._f0[..., : known - self._first] = used[..., : known - self._first]
            self._drop_before(min(ready - self._context, known - self._f0_context))
        return audio[:, start * self.hop_length : stop * self.hop_length]
