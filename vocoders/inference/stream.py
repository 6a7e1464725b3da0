"""Stream: synthesis of an utterance while its frames arrive, equal to that of the whole. Does not import torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from typing import Any

import numpy as np

from vocoders.dsp.arrays import Array, as_numpy, kind_of
from vocoders.errors import VocoderError
from vocoders.inference.checks import check_lookahead, check_seed, prepare_f0, prepare_mel
from vocoders.inference.nearsighted import NearsightedSynthesis
from vocoders.inference.synthesis import Backend, Synthesis

_END = object()


class Stream:
    """One utterance, synthesised while its frames arrive.

    What ``push`` and ``finish`` return, joined, is what ``voc(mel, f0, seed)`` returns for the whole mel, to rounding,
    unless the stream is to look less far ahead than the model needs. Memory does not grow with the length. A stream
    belongs to one thread at a time; different streams of a vocoder may run in different threads.

    An exported model of an earlier release, or one whose graph keeps no state, computes the ``lookahead`` frames before
    and after a push again; pushes of fewer frames than that waste time.

    Attributes:
        lookahead: frames that must follow a frame, at most, before all of its audio is final.
    """

    def __init__(
        self, vocoder: Backend, seed: int | None = None, given_f0: bool = False, lookahead: int | None = None
    ) -> None:
        """Open a stream.

        Args:
            vocoder: a ``Vocoder`` or an ``OnnxVocoder``.
            seed: seed of the noise, 0 to 2^63 - 1; 0 when not given.
            given_f0: whether each push brings its F0. When not, F0 is estimated from the mel where the model needs it,
                for which more frames must follow.
            lookahead: frames to look ahead at most. Where that is less than the model needs, the audio is no longer
                that of the whole mel: see ``nearsighted.py``.

        Raises:
            VocoderError: when the model cannot stream, or needs F0 that is neither given nor estimated; and for a bad
                seed or lookahead.
        """
        if vocoder.receptive_field is None:
            raise VocoderError(
                "this model cannot stream: it normalises over the whole utterance, so that the first sample depends on "
                "the last frame; synthesise the whole mel, or use a model with framewise_norm"
            )
        self.mel_config = vocoder.mel_config
        self.given_f0 = given_f0
        self.lookahead: int = vocoder.receptive_field + (0 if given_f0 else vocoder.f0_receptive_field)
        self._synthesis: Synthesis | None  # None when the stream is over
        if lookahead is None or check_lookahead(lookahead) >= self.lookahead:
            self._synthesis = vocoder.start([check_seed(seed)], given_f0)
        else:
            self.lookahead = int(lookahead)
            self._synthesis = NearsightedSynthesis(vocoder, [check_seed(seed)], given_f0, lookahead)
        self._kind: Callable[[np.ndarray], Any] = kind_of(None)  # of the last mel

    def push(self, mel: Array, f0: Any = None) -> Array:
        """Take the next frames and return the audio that is final now, perhaps none.

        Args:
            mel: log-mel (n_mels, frames), numpy or torch, of at least one frame, in ``mel_config``.
            f0: Hz per frame, 0 = unvoiced, (frames,), numpy or torch; needed in every push of a stream that was opened
                with ``given_f0``, refused in others.

        Returns:
            float32 (samples,), of the kind and on the device of the mel.

        Raises:
            VocoderError: for a mel or an F0 that does not fit, which leaves the stream as it was; and for a stream that
                is over.
        """
        values = prepare_mel(as_numpy(mel), self.mel_config, self.mel_config).values
        if values.ndim != 2:
            raise VocoderError(f"a stream takes mels of (n_mels, frames), this one is {values.shape}")
        if self.given_f0 != (f0 is not None):
            raise VocoderError(
                "f0 must come with every push of a stream or with none: open the stream with given_f0=True to give it, "
                "without to have it estimated"
            )
        track = None if f0 is None else prepare_f0(as_numpy(f0), 1, values.shape[1], self.mel_config)
        self._kind = kind_of(mel)
        return self._advance(values, track, last=False)

    def finish(self) -> Any:
        """End the stream and return the rest of the audio, of the kind of the last mel.

        Raises:
            VocoderError: when no frame was pushed, or the stream is over already.
        """
        if self._synthesis and self._synthesis.frames == 0:
            raise VocoderError("the stream ended before its first frame")
        f0 = np.empty((1, 1, 0), np.float32) if self.given_f0 else None
        return self._advance(np.empty((self.mel_config.n_mels, 0), np.float32), f0, last=True)

    def pieces(self, mel_chunks: Iterable[Array], f0_chunks: Iterable[Any] | None = None) -> Iterator[Array]:
        """Push all chunks, finish, and yield the audio as it becomes final, without empty pieces."""
        tracks = repeat(None) if f0_chunks is None else iter(f0_chunks)
        for mel in mel_chunks:
            if (f0 := next(tracks, _END)) is _END:
                raise VocoderError("there are fewer chunks of f0 than of the mel")
            audio = self.push(mel, f0)
            if len(audio):
                yield audio
        if f0_chunks is not None and next(tracks, _END) is not _END:
            raise VocoderError("there are more chunks of f0 than of the mel")
        if len(audio := self.finish()):
            yield audio

    def _advance(self, mel: np.ndarray, f0: np.ndarray | None, last: bool) -> Any:
        synthesis, self._synthesis = self._synthesis, None  # after an error the stream is over as well
        if synthesis is None:
            raise VocoderError("this stream is over; another utterance needs another stream")
        audio = synthesis.advance(mel[None], f0, last)[0]
        if not last:
            self._synthesis = synthesis
        return self._kind(audio)
