"""BaseVocoder: the interface of a model for users, whatever backend runs it. Does not import torch."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np

from vocoders.dsp.analysis import analyze
from vocoders.dsp.arrays import AnyArray, Array, as_numpy, kind_of
from vocoders.dsp.mel import MelConfig, convert_mel
from vocoders.errors import MelWarning, VocoderError
from vocoders.inference.checks import as_mel_config, check_seed, prepare_audio, prepare_mel
from vocoders.inference.stream import Stream
from vocoders.inference.synthesis import Backend, Synthesis
from vocoders.inputs import (
    F0,
    Values,
    accepted,
    check_given,
    check_names,
    check_value,
    constants_of,
    required,
    signals_of,
)


class BaseVocoder(Backend):
    """Model that turns log-mel-spectrograms into audio. ``load`` makes one; see ``__call__``."""

    @property
    def mel_config(self) -> MelConfig:
        """The mel config of the mels it takes."""
        return self.facts.mel_config

    @property
    def sample_rate(self) -> int:
        """Sample rate of the audio in Hz."""
        return self.facts.sample_rate

    @property
    def training(self) -> dict[str, Any]:
        """How the model was made: the recipe, steps, data, figures."""
        return self.facts.training

    @property
    def lag(self) -> int:
        """Samples by which the audio is later than the recording that a mel is of."""
        return self.mel_config.usual_lag if self.facts.lag is None else self.facts.lag

    @property
    def lookahead(self) -> int | None:
        """Frames that must follow a frame in a stream before its audio is final; None when the model cannot stream.

        A stream that is given its F0 needs fewer: see ``Stream.lookahead``.
        """
        return self.facts.lookahead_with(())

    @overload
    def __call__(self, mel: Array, f0: AnyArray | None = None, seed: int | None = None, **inputs: Any) -> Array: ...
    @overload
    def __call__(
        self, mel: Sequence[Array], f0: Sequence[AnyArray | None] | None = None, seed: int | None = None, **inputs: Any
    ) -> list[Array]: ...
    def __call__(self, mel: Any, f0: Any = None, seed: int | None = None, **inputs: Any) -> Any:
        """Synthesise audio from a log-mel.

        Args:
            mel: (n_mels, frames) or (batch, n_mels, frames), numpy or torch, any float dtype, in the mel config
                ``mel_config``; or a list of (n_mels, frames) of any lengths.
            f0: Hz per frame, 0 = unvoiced: (frames,) or (batch, frames), or a list like ``mel``. Estimated from the
                mel when not given; ignored by generators that need none.
            seed: seed of the noise, 0 to 2^63 - 1; 0 when not given. The same seed gives the same audio, and every item
                of a batch or a list equals, to rounding, what it gives alone.
            inputs: other inputs of the model, see ``facts.inputs``: (channels, length), without the axis that is 1, and
                with a batch or in a list like ``mel``.

        Returns:
            float32 audio, nominally in [-1, 1], not clipped: (samples,) or (batch, samples), of the kind and on the
            device of the mel; a list for a list. Audio of several channels is (channels, samples) in place of
            (samples,).

        Raises:
            VocoderError: for a mel, an input or a seed that does not fit.

        Warns:
            MelWarning: when the values look like those of another mel config.
        """
        seed, named = check_seed(seed), {"f0": f0, **inputs}
        if isinstance(mel, (list, tuple)):
            return self._synthesize_list(mel, named, seed)
        mels = self._prepare(mel)
        batch = mels if mels.ndim == 3 else mels[None]
        audio = self._whole(batch, self.check_inputs(named, *batch.shape[::2]), [seed] * len(batch))
        return kind_of(mel)(audio if mels.ndim == 3 else audio[0])

    def synthesize(
        self, mel: AnyArray, f0: AnyArray | None = None, seed: int = 0, **inputs: Any
    ) -> Iterator[np.ndarray]:
        """Synthesise the audio of one log-mel in pieces, in memory that does not grow with its length.

        Args:
            mel: (n_mels, frames), in the mel config ``mel_config``. It is not diagnosed: see ``prepare_mel``.
            f0: (frames,), as for ``__call__``.
            seed: as for ``__call__``.
            inputs: as for ``__call__``.

        Returns:
            An iterator of float32 (samples,) or (channels, samples). Joined they are ``voc(mel, f0, seed, **inputs)``.
            A model with ``chunk_frames`` None gives one piece.

        Raises:
            VocoderError: for a mel, an input or a seed that does not fit.
        """
        seed = check_seed(seed)
        values = self._check_single(prepare_mel(as_numpy(mel), self.mel_config, self.mel_config).values)
        return self._pieces(values[None], self.check_inputs({"f0": f0, **inputs}, 1, values.shape[1]), seed)

    def synthesize_batch(
        self,
        mels: Sequence[AnyArray],
        f0s: Sequence[AnyArray | None] | None = None,
        seeds: Sequence[int] | None = None,
        **inputs: Sequence[Any],
    ) -> list[np.ndarray]:
        """Synthesise several log-mels of any lengths in as few passes of the network as their lengths allow.

        Args:
            mels: (n_mels, frames) each, in the mel config ``mel_config``. They are not diagnosed: see ``prepare_mel``.
            f0s: (frames,) each, as for ``__call__``; None for those whose F0 is to be estimated.
            seeds: seed of the noise for each; 0 when not given.
            inputs: other inputs of the model, one value for each mel.

        Returns:
            float32 (samples,) or (channels, samples) each, equal to ``voc(mel, f0, seed, **inputs)`` to rounding.

        Raises:
            VocoderError: for a mel, an input or a seed that does not fit.
        """
        seeds = [0] * len(mels) if seeds is None else [check_seed(seed) for seed in seeds]
        if len(mels) != len(seeds):
            raise VocoderError(f"{len(mels)} mels, but {len(seeds)} seeds")
        checked = (prepare_mel(as_numpy(mel), self.mel_config, self.mel_config).values for mel in mels)
        values = [self._check_single(mel) for mel in checked]
        return self._batch(values, self._values_of_list({"f0": f0s, **inputs}, values), seeds)

    def stream(
        self,
        mel_chunks: Iterable[Array],
        f0_chunks: Iterable[AnyArray] | None = None,
        seed: int | None = None,
        lookahead: int | None = None,
        **inputs: Any,
    ) -> Iterator[Array]:
        """Synthesise audio while the frames arrive, equal to that of the whole mel.

        With ``open_stream`` the caller pushes the frames instead.

        Args:
            mel_chunks: log-mels (n_mels, frames), numpy or torch, one after the other, of one frame or more.
            f0_chunks: F0 of each chunk, (frames,), as for ``__call__``; estimated from the mel when not given.
            seed: as for ``__call__``.
            lookahead: frames to look ahead at most, for audio that comes sooner than the model's ``lookahead`` allows,
                and is not quite the same; see ``Stream``.
            inputs: other inputs of the model: the value of an utterance-rate one, chunks of the others.

        Returns:
            An iterator of float32 (samples,) or (channels, samples) of the kind of the chunks, none of them empty.
            Joined they are ``voc(mel, f0, seed, **inputs)``, to rounding, unless ``lookahead`` is less than the
            model's.

        Raises:
            VocoderError: for a model that cannot stream, a chunk, a seed or a lookahead that does not fit, or no frame
                at all.
        """
        # Not a generator function itself, so that the call refuses a model that cannot stream.
        named = {name: value for name, value in {"f0": f0_chunks, **inputs}.items() if value is not None}
        check_given(self.facts.inputs, self.facts.estimated, named)
        constants = constants_of(self.facts.inputs, named)
        chunks = {name: value for name, value in named.items() if name not in constants}
        return self.open_stream(seed, tuple(chunks), lookahead, **constants).pieces(mel_chunks, chunks)

    def open_stream(
        self, seed: int | None = None, given: Collection[str] = (), lookahead: int | None = None, **constants: Any
    ) -> Stream:
        """Open a stream to which the frames of one utterance are pushed; see ``Stream``.

        Args:
            seed: as for ``__call__``.
            given: names of the inputs that each push brings although the model could do without, such as ``["f0"]``.
            lookahead: as for ``stream``.
            constants: utterance-rate inputs.

        Raises:
            VocoderError: for a model that cannot stream or lacks an input, and for a bad seed or lookahead.
        """
        values = self.check_inputs(constants, 1, 0)
        return Stream(self, seed, given, lookahead, values)

    def analyze(self, audio: Array, sample_rate: int, mel_config: MelConfig | str | None = None) -> Array:
        """Compute the log-mel of audio.

        Args:
            audio: floats in [-1, 1], (..., samples), numpy or torch.
            sample_rate: sample rate of the audio, Hz; resampled when it is not that of the mel config.
            mel_config: the mel config of the result, or its name, as ``MelConfig.parse`` takes it; the model's when
                not given.

        Returns:
            float32 (..., n_mels, frames), of the kind and on the device of the audio.

        Raises:
            VocoderError: for audio that does not hold floats, is not finite or is shorter than one frame, for a sample
                rate that is not a positive number, and for an unknown mel config.
        """
        target = self.mel_config if mel_config is None else as_mel_config(mel_config)
        return kind_of(audio)(analyze(prepare_audio(as_numpy(audio), sample_rate, target), target))

    def convert(self, mel: Array, source: MelConfig | str) -> Array:
        """Convert a log-mel to the mel config of the model.

        Args:
            mel: (..., n_mels, frames), numpy or torch.
            source: its mel config, or the name, as ``MelConfig.parse`` takes it.

        Returns:
            The converted mel, of the same kind.

        Raises:
            MelMismatch: when it cannot be converted; it names each field that differs.
            VocoderError: for an unknown mel config.
        """
        return convert_mel(mel, as_mel_config(source), self.mel_config)

    def plain_inputs(self, batch: int, frames: int) -> dict[str, Any]:
        """Return a value for each input that the model cannot do without, for trials: 150 Hz, and ones for all others.

        Args:
            batch: number of mels.
            frames: frames of each.

        Returns:
            float32 (batch, channels, length) by name.
        """
        size = self.facts.samples_per_frame
        return {
            item.name: np.full((batch, item.channels, item.columns(frames, size)), 150 if item == F0 else 1, np.float32)
            for item in required(self.facts.inputs, self.facts.estimated)
        }

    def _synthesize_list(self, mels: Sequence[AnyArray], named: Mapping[str, Any], seed: int) -> list[Any]:
        """Synthesise a list, for ``__call__``."""
        values: list[np.ndarray] = []
        for mel in mels:  # not a comprehension, which before Python 3.12 is a stack frame that stacklevel counts
            values.append(self._check_single(self._prepare(mel, stacklevel=4)))
        synthesize = self._batch if self.batching_pays else self._each
        audio = synthesize(values, self._values_of_list(named, values), [seed] * len(mels))
        return [kind_of(mel)(item) for mel, item in zip(mels, audio, strict=True)]

    def _prepare(self, mel: AnyArray, stacklevel: int = 3) -> np.ndarray:
        """Validate a mel, and warn the caller of the public method when it looks like one of another mel config."""
        values, warning = prepare_mel(as_numpy(mel), self.mel_config)
        if warning:
            warnings.warn(str(warning), MelWarning, stacklevel=stacklevel)
        return values

    def _check_single(self, values: np.ndarray) -> np.ndarray:
        if values.ndim != 2:
            raise VocoderError(f"each mel must be (n_mels, frames), this one is {values.shape}")
        return values

    def check_inputs(self, named: Mapping[str, Any], batch: int, frames: int) -> Values:
        """Check the inputs that a user gives for mels of one length.

        Args:
            named: their values, as for ``__call__``; None where one is not given.
            batch: number of mels.
            frames: frames of each.

        Returns:
            float32 (batch, channels, length) by name.

        Raises:
            VocoderError: for an unknown name, and a value that does not fit.
        """
        check_names(self.facts.inputs, named)
        values = {}
        for item in accepted(self.facts.inputs):
            if (value := named.get(item.name)) is not None:
                columns = item.columns(frames, self.facts.samples_per_frame)
                values[item.name] = check_value(item, as_numpy(value), batch, columns, self.mel_config)
        return values

    def _values_of_list(self, named: Mapping[str, Any], mels: Sequence[np.ndarray]) -> list[Values]:
        """Check the inputs that a user gives for a list of mels."""
        lists = {name: values for name, values in named.items() if values is not None}
        for name, values in lists.items():
            if len(values) != len(mels):
                raise VocoderError(f"{len(mels)} mels, but {len(values)} {name}")
        items = [{name: values[i] for name, values in lists.items()} for i in range(len(mels))]
        return [self.check_inputs(item, 1, mel.shape[1]) for item, mel in zip(items, mels, strict=True)]

    def _batch(self, mels: Sequence[np.ndarray], values: Sequence[Values], seeds: Sequence[int]) -> list[np.ndarray]:
        """Synthesise utterances, (n_mels, frames) each, in few passes where the backend can."""
        return self._each(mels, values, seeds)

    def _each(self, mels: Sequence[np.ndarray], values: Sequence[Values], seeds: Sequence[int]) -> list[np.ndarray]:
        """Synthesise utterances as ``_batch`` does, one after the other."""
        items = zip(mels, values, seeds, strict=True)
        return [self._whole(mel[None], given, [seed])[0] for mel, given, seed in items]

    def _whole(self, mel: np.ndarray, values: Values, seeds: Sequence[int]) -> np.ndarray:
        """Synthesise a batch of one length, (batch, n_mels, frames)."""
        return self._start(values, seeds).advance(mel, values, last=True)

    def _pieces(self, mel: np.ndarray, values: Values, seed: int) -> Iterator[np.ndarray]:
        """Synthesise one utterance, (1, n_mels, frames), piece by piece."""
        synthesis, frames = self._start(values, [seed]), mel.shape[-1]
        for piece in self.pieces(frames):
            signals = self.cut(values, piece.start, piece.stop)
            audio = synthesis.advance(mel[..., piece], signals, last=piece.stop == frames)[0]
            if audio.size:
                yield audio

    def _start(self, values: Values, seeds: Sequence[int]) -> Synthesis:
        inputs = self.facts.inputs
        return self.start(seeds, tuple(signals_of(inputs, values)), constants_of(inputs, values))
