"""Stream: synthesis of an utterance while its frames arrive, equal to that of the whole. Does not import torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from vocoders.dsp.arrays import Array, as_numpy, kind_of
from vocoders.errors import VocoderError
from vocoders.facts import Facts
from vocoders.inference.checks import check_lookahead, check_seed, prepare_mel
from vocoders.inference.synthesis import Backend, Synthesis
from vocoders.inputs import Values, accepted, check_names, check_value, required

_END = object()


def check_streams(facts: Facts, given: Collection[str] = ()) -> int:
    """Return the lookahead of a stream with the inputs ``given``; refuse a model that cannot stream."""
    lookahead = facts.lookahead_with(given)
    if lookahead is None:
        raise VocoderError(
            "this model cannot stream: it normalises over the whole utterance, so that the first sample depends on "
            "the last frame, or has an operation that docs/streaming.md does not list; synthesise the whole mel"
        )
    return lookahead


class Stream:
    """Synthesise one utterance while its frames arrive, in constant memory.

    The audio of all calls joins to ``voc(mel, f0, seed, **inputs)``, to rounding, unless ``lookahead`` is less than the
    model needs. Different streams of a vocoder may run in different threads, one stream in one at a time. An exported
    model without state computes the context of each push again, so small pushes waste time.

    Attributes:
        given: names of the inputs that each push brings.
        lookahead: most frames that must follow a frame before its audio is final.
    """

    def __init__(
        self,
        vocoder: Backend,
        seed: int | None = None,
        given: Collection[str] = (),
        lookahead: int | None = None,
        constants: Values | None = None,
    ) -> None:
        """Open a stream.

        Args:
            vocoder: a ``Vocoder`` or an ``OnnxVocoder``.
            seed: as for ``BaseVocoder.__call__``.
            given: names of optional inputs that each push brings. Others are drawn, or estimated, which needs more
                lookahead.
            lookahead: as for ``BaseVocoder.stream``.
            constants: utterance-rate inputs, (1, channels, 1).

        Raises:
            VocoderError: as for ``BaseVocoder.open_stream``.
        """
        facts = vocoder.facts
        check_names(facts.inputs, given)
        needed = [item.name for item in required(facts.inputs, facts.estimated) if item.is_signal]
        self.given = [item.name for item in accepted(facts.inputs) if item.name in (*given, *needed)]
        self.lookahead = check_streams(facts, self.given)
        self.facts = facts
        self.mel_config = facts.mel_config
        self._synthesis: Synthesis | None  # None when the stream is over
        if lookahead is None or check_lookahead(lookahead) >= self.lookahead:
            self._synthesis = vocoder.start([check_seed(seed)], self.given, constants)
        else:
            self.lookahead = int(lookahead)
            self._synthesis = vocoder.start_nearsighted([check_seed(seed)], self.lookahead, self.given, constants)
        self._kind: Callable[[np.ndarray], Any] = kind_of(None)  # of the last mel

    def __repr__(self) -> str:
        given = f", given {', '.join(self.given)}" if self.given else ""
        return f"<Stream: {self.facts.summary}, lookahead {self.lookahead}{given}>"

    def push(self, mel: Array, f0: Any = None, **signals: Any) -> Array:
        """Take the next frames and return the audio that is final now, perhaps none.

        Args:
            mel: (n_mels, frames), at least one frame.
            f0: Hz per frame, 0 = unvoiced, (frames,); required with ``given=["f0"]``, else refused.
            signals: the other inputs in ``given``, for these frames.

        Returns:
            float32 (samples,) or (channels, samples), of the kind and on the device of the mel.

        Raises:
            VocoderError: for an argument that does not fit, which leaves the stream unchanged; and after its end.
        """
        mels = prepare_mel(as_numpy(mel), self.mel_config, self.mel_config).values
        if mels.ndim != 2:
            raise VocoderError(f"a stream takes mels of (n_mels, frames), this one is {mels.shape}")
        named = {name: value for name, value in {"f0": f0, **signals}.items() if value is not None}
        check_names(self.facts.inputs, named)
        values = {}
        for item in accepted(self.facts.inputs):
            if (item.name in named) != (item.name in self.given):
                raise VocoderError(
                    f"{item.name} must come with every push of a stream or with none: open the stream with "
                    f"given=['{item.name}'] to give it, without to have it estimated or drawn"
                )
            if item.name in named:
                columns = item.columns(mels.shape[1], self.facts.samples_per_frame)
                values[item.name] = check_value(item, as_numpy(named[item.name]), 1, columns, self.mel_config)
        self._kind = kind_of(mel)
        return self._advance(mels, values, last=False)

    def finish(self) -> Any:
        """End the stream and return the rest of the audio, of the kind of the last mel.

        Raises:
            VocoderError: when no frame was pushed, or the stream is over.
        """
        if self._synthesis and self._synthesis.frames == 0:
            raise VocoderError("the stream ended before its first frame")
        channels = {item.name: item.channels for item in accepted(self.facts.inputs)}
        values = {name: np.empty((1, channels[name], 0), np.float32) for name in self.given}
        return self._advance(np.empty((self.mel_config.n_mels, 0), np.float32), values, last=True)

    def pieces(self, mel_chunks: Iterable[Array], chunks: Mapping[str, Iterable[Any]] | None = None) -> Iterator[Array]:
        """Push all chunks, finish, and yield the non-empty audio."""
        signals = {name: iter(values) for name, values in (chunks or {}).items()}
        for mel in mel_chunks:
            values = {name: next(chunk, _END) for name, chunk in signals.items()}
            for name, value in values.items():
                if value is _END:
                    raise VocoderError(f"there are fewer chunks of {name} than of the mel")
            audio = self.push(mel, **values)
            if audio.shape[-1]:
                yield audio
        for name, chunk in signals.items():
            if next(chunk, _END) is not _END:
                raise VocoderError(f"there are more chunks of {name} than of the mel")
        audio = self.finish()
        if audio.shape[-1]:
            yield audio

    def _advance(self, mel: np.ndarray, values: Values, last: bool) -> Any:
        synthesis, self._synthesis = self._synthesis, None  # after an error the stream is over as well
        if synthesis is None:
            raise VocoderError("this stream is over; another utterance needs another stream")
        audio = synthesis.advance(mel[None], values, last)[0]
        if not last:
            self._synthesis = synthesis
        return self._kind(audio)
