"""BaseVocoder: the interface of a model for users. Does not import torch."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np

from vocoders.dsp.adaptation import adapter
from vocoders.dsp.analysis import analyze
from vocoders.dsp.arrays import AnyArray, Array, as_numpy, kind_of
from vocoders.dsp.mel import MelConfig, convert_mel
from vocoders.errors import MelWarning, VocoderError
from vocoders.inference.adapted import AdaptedSynthesis, adapted_facts, describe_approximation
from vocoders.inference.checks import as_mel_config, check_seed, prepare_audio, prepare_mel
from vocoders.inference.nearsighted import NearsightedSynthesis
from vocoders.inference.stream import Stream, check_streams
from vocoders.inference.synthesis import Backend, Synthesis
from vocoders.inputs import (
    F0,
    UNKNOWN,
    Values,
    accepted,
    check_given,
    check_names,
    check_value,
    constants_of,
    draw,
    fill_constants,
    required,
    signals_of,
)


class BaseVocoder(Backend):
    """Model that ``load`` returns: log-mel-spectrograms in, audio out; see ``__call__``."""

    def __repr__(self) -> str:
        kind = f"{type(self).__name__} {self.name}".rstrip()
        return f"<{kind}: {self.facts.summary}, {self.device}>"

    @property
    @abstractmethod
    def device(self) -> Any:
        """Device that it runs on."""

    @property
    def mel_config(self) -> MelConfig:
        """Mel config of the model's input."""
        return self.facts.mel_config

    @property
    def sample_rate(self) -> int:
        """Sample rate of the audio in Hz."""
        return self.facts.sample_rate

    @property
    def approximation(self) -> str | None:
        """Sentence on what of a mel is approximated for the model; None for exact input."""
        return None

    @property
    def training(self) -> dict[str, Any]:
        """Record of the training: recipe, steps, data, figures."""
        return self.facts.training

    @property
    def lag(self) -> int:
        """Delay of the audio against the recording of the mel, in samples."""
        usual = self.mel_config.usual_lag * self.facts.samples_per_frame // self.mel_config.hop_length
        return usual if self.facts.lag is None else self.facts.lag

    @property
    def lookahead(self) -> int | None:
        """Frames that must follow a frame before its audio is final, fewer with F0 given; None without streaming."""
        return self.facts.lookahead_with(())

    @overload
    def __call__(
        self,
        mel: Array,
        f0: AnyArray | None = None,
        seed: int | None = None,
        mel_config: MelConfig | str | None = None,
        **inputs: Any,
    ) -> Array: ...
    @overload
    def __call__(
        self,
        mel: Sequence[Array],
        f0: Sequence[AnyArray | None] | None = None,
        seed: int | None = None,
        mel_config: MelConfig | str | None = None,
        **inputs: Any,
    ) -> list[Array]: ...
    def __call__(
        self,
        mel: Any,
        f0: Any = None,
        seed: int | None = None,
        mel_config: MelConfig | str | None = None,
        **inputs: Any,
    ) -> Any:
        """Synthesise audio from a log-mel.

        Args:
            mel: (n_mels, frames) or (batch, n_mels, frames), numpy or torch, any float dtype, in ``mel_config``; or a
                list of (n_mels, frames) of any lengths.
            f0: Hz per frame, 0 = unvoiced: (frames,) or (batch, frames), or a list like ``mel``. Estimated by default;
                ignored by generators without F0.
            seed: seed of the noise, 0 to 2^63 - 1, 0 by default. Each item gets the noise that it gets alone.
            mel_config: mel config of ``mel``, or its name; the model's by default. Another one is converted exactly or
                approximated, see ``for_mel_config``; the audio then has its sample rate.
            inputs: other inputs of the model, see ``facts.inputs``: (channels, length) without axes of 1; batched or
                listed like ``mel``.

        Returns:
            float32 audio, nominally in [-1, 1], not clipped, of the kind and on the device of the mel: (samples,) or
            (batch, samples), or a list. With several channels (channels, samples) replaces (samples,).

        Raises:
            VocoderError: for an argument that does not fit.

        Warns:
            MelWarning: when the values look like those of another mel config, or the mel is approximated.
        """
        if mel_config is not None:
            return self._adapted(mel_config)(mel, f0, seed, **inputs)
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
        """Synthesise one log-mel in pieces, in constant memory.

        Args:
            mel: (n_mels, frames), as for ``__call__``, but not diagnosed.
            f0: (frames,).
            seed: seed of the noise.
            inputs: other inputs.

        Returns:
            An iterator of float32 (samples,) or (channels, samples), which join to ``voc(mel, f0, seed, **inputs)``.

        Raises:
            VocoderError: as for ``__call__``.
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
        """Synthesise log-mels of any lengths in few passes of the network.

        Args:
            mels: (n_mels, frames) each, not diagnosed.
            f0s: (frames,) each; None where F0 is to be estimated.
            seeds: one for each mel, 0 by default.
            inputs: other inputs, one value for each mel.

        Returns:
            float32 (samples,) or (channels, samples) each, as ``__call__`` gives to rounding.

        Raises:
            VocoderError: as for ``__call__``.
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
        mel_config: MelConfig | str | None = None,
        **inputs: Any,
    ) -> Iterator[Array]:
        """Synthesise audio while the frames arrive; see also ``open_stream``.

        Args:
            mel_chunks: (n_mels, frames) each, at least one frame.
            f0_chunks: F0 of each chunk, (frames,); estimated by default.
            seed: as for ``__call__``.
            lookahead: most frames to look ahead. Less than the model's ``lookahead`` gives audio sooner, but not quite
                the same.
            mel_config: as for ``__call__``.
            inputs: other inputs: chunks, or the value of an utterance-rate input.

        Returns:
            An iterator of non-empty float32 (samples,) or (channels, samples), of the kind of the chunks. With the
            model's ``lookahead`` they join to ``voc(mel, f0, seed, **inputs)``, to rounding.

        Raises:
            VocoderError: when the model cannot stream, no frame comes, or an argument does not fit.
        """
        if mel_config is not None:
            return self._adapted(mel_config).stream(mel_chunks, f0_chunks, seed, lookahead, **inputs)
        # Not a generator function, so that the call itself raises.
        check_streams(self.facts)
        named = {name: value for name, value in {"f0": f0_chunks, **inputs}.items() if value is not None}
        check_given(self.facts.inputs, self.facts.estimated, named)
        constants = constants_of(self.facts.inputs, named)
        chunks = {name: value for name, value in named.items() if name not in constants}
        return self.open_stream(seed, tuple(chunks), lookahead, **constants).pieces(mel_chunks, chunks)

    def open_stream(
        self, seed: int | None = None, given: Collection[str] = (), lookahead: int | None = None, **constants: Any
    ) -> Stream:
        """Open a stream to which the caller pushes the frames of one utterance.

        Args:
            seed: as for ``__call__``.
            given: names of optional inputs that each push brings, such as ``["f0"]``.
            lookahead: as for ``stream``.
            constants: utterance-rate inputs.

        Raises:
            VocoderError: when the model cannot stream, lacks an input, or an argument does not fit.
        """
        values = self.check_inputs(constants, 1, 0)
        return Stream(self, seed, given, lookahead, values)

    def for_mel_config(self, mel_config: MelConfig | str, model_rate: bool = False) -> BaseVocoder:
        """Return this model for mels of another mel config.

        Its methods are those of every vocoder; its audio has the sample rate and hop of that mel config. A mel that
        converts exactly, see ``convert``, gives the same audio as its conversion. Any other is approximated: a spectral
        envelope that has this mel is found, and gathered by the filters of the model's mel config.

        Args:
            mel_config: mel config, or its name.
            model_rate: audio keeps the model's sample rate.

        Returns:
            A vocoder with that ``mel_config``, and with ``approximation``, a sentence on what is approximated; this one
            for its own mel config.

        Raises:
            MelMismatch: when the model cannot take such mels.
            VocoderError: for an unknown mel config, or when a frame is no whole number of samples at the model's rate.
        """
        wanted = as_mel_config(mel_config)
        return self if wanted == self.mel_config else AdaptedVocoder(self, wanted, model_rate)

    def _adapted(self, mel_config: MelConfig | str) -> BaseVocoder:
        """Return the vocoder for a mel config; warn the caller of the public method when mels are approximated."""
        vocoder = self.for_mel_config(mel_config)
        if vocoder.approximation:
            warnings.warn(vocoder.approximation, MelWarning, stacklevel=3)
        return vocoder

    def start_nearsighted(
        self, seeds: Sequence[int], lookahead: int, given: Collection[str] = (), constants: Values | None = None
    ) -> Synthesis:
        return NearsightedSynthesis(self, seeds, lookahead, given, constants or {})

    def analyze(self, audio: Array, sample_rate: int, mel_config: MelConfig | str | None = None) -> Array:
        """Compute the log-mel of audio.

        Args:
            audio: floats in [-1, 1], (..., samples), numpy or torch.
            sample_rate: of the audio, Hz; resampled where the mel config has another.
            mel_config: of the result, or its name; the model's by default.

        Returns:
            float32 (..., n_mels, frames), of the kind and on the device of the audio.

        Raises:
            VocoderError: for audio that is not finite floats or shorter than one frame, a bad sample rate or mel
                config.
        """
        target = self.mel_config if mel_config is None else as_mel_config(mel_config)
        return kind_of(audio)(analyze(prepare_audio(as_numpy(audio), sample_rate, target), target))

    def estimate_f0(self, mel: Array) -> Array:
        """Estimate F0 from a log-mel, as synthesis does where F0 is not given.

        Args:
            mel: (n_mels, frames), numpy or torch.

        Returns:
            Hz for each frame, 0 = unvoiced: float32 (frames,), of the kind of the mel.

        Raises:
            VocoderError: when the model has no F0 estimator.
        """
        if F0.name not in self.facts.estimated:
            raise VocoderError(f"{self.name or 'the model'} has no F0 estimator; give it f0 of your own")
        return kind_of(mel)(self._estimate(self._check_single(self._prepare(mel))))

    def _estimate(self, mel: np.ndarray) -> np.ndarray:
        """Implement ``estimate_f0``: (n_mels, frames) -> (frames,), in pieces with the context that F0 depends on."""
        facts, f0 = self.facts, []
        for piece in self.pieces(mel.shape[1]):
            first = max(0, piece.start - facts.estimator_context)
            part = mel[None, :, first : piece.stop + facts.estimator_lookahead]
            values = fill_constants(facts.inputs, self.plain_inputs(1, part.shape[2]), 1)
            values |= draw(facts.inputs, values, 0, part.shape[2] * facts.samples_per_frame, [0])
            values[F0.name] = np.full((1, 1, part.shape[2]), UNKNOWN, np.float32)
            _, used = self.run(part, values)
            f0.append(used[F0.name][0, 0, piece.start - first : piece.stop - first])
        return np.concatenate(f0)

    def convert(self, mel: Array, source: MelConfig | str) -> Array:
        """Convert a log-mel to the mel config of the model.

        Args:
            mel: (..., n_mels, frames), numpy or torch.
            source: its mel config or name.

        Returns:
            The converted mel, of the same kind.

        Raises:
            MelMismatch: when it cannot be converted; it names each field that differs.
            VocoderError: for an unknown mel config.
        """
        return convert_mel(mel, as_mel_config(source), self.mel_config)

    def plain_inputs(self, batch: int, frames: int) -> dict[str, Any]:
        """Return trial values of the required inputs, F0 of 150 Hz and ones: (batch, channels, length) by name."""
        size = self.facts.samples_per_frame
        return {
            item.name: np.full((batch, item.channels, item.columns(frames, size)), 150 if item == F0 else 1, np.float32)
            for item in required(self.facts.inputs, self.facts.estimated)
        }

    def _synthesize_list(self, mels: Sequence[AnyArray], named: Mapping[str, Any], seed: int) -> list[Any]:
        values: list[np.ndarray] = []
        for mel in mels:  # before Python 3.12 a comprehension would be one more frame for stacklevel
            values.append(self._check_single(self._prepare(mel, stacklevel=4)))
        synthesize = self._batch if self.batching_pays else self._each
        audio = synthesize(values, self._values_of_list(named, values), [seed] * len(mels))
        return [kind_of(mel)(item) for mel, item in zip(mels, audio, strict=True)]

    def _prepare(self, mel: AnyArray, stacklevel: int = 3) -> np.ndarray:
        """Validate a mel; warn the caller of the public method when it looks like another mel config."""
        values, warning = prepare_mel(as_numpy(mel), self.mel_config)
        if warning:
            warnings.warn(str(warning), MelWarning, stacklevel=stacklevel)
        return values

    def _check_single(self, values: np.ndarray) -> np.ndarray:
        if values.ndim != 2:
            raise VocoderError(f"each mel must be (n_mels, frames), this one is {values.shape}")
        return values

    def check_inputs(self, named: Mapping[str, Any], batch: int, frames: int) -> Values:
        """Check inputs, as for ``__call__``, of mels of one length: (batch, channels, length) by name."""
        check_names(self.facts.inputs, named)
        values = {}
        for item in accepted(self.facts.inputs):
            if (value := named.get(item.name)) is not None:
                columns = item.columns(frames, self.facts.samples_per_frame)
                values[item.name] = check_value(item, as_numpy(value), batch, columns, self.mel_config)
        return values

    def _values_of_list(self, named: Mapping[str, Any], mels: Sequence[np.ndarray]) -> list[Values]:
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


class AdaptedVocoder(BaseVocoder):
    """Model that takes mels of another mel config than its own; see ``BaseVocoder.for_mel_config``.

    Attributes:
        model: the vocoder of the model's own mel config.
    """

    def __init__(self, model: BaseVocoder, mel_config: MelConfig, model_rate: bool = False) -> None:
        """Make a vocoder for mels of ``mel_config``; see ``BaseVocoder.for_mel_config``."""
        self.model = model
        self.facts = adapted_facts(model.facts, mel_config, model_rate)
        self.name, self.precision, self.backend = model.name, model.precision, model.backend

    @property
    def device(self) -> Any:
        return self.model.device

    @property
    def approximation(self) -> str | None:
        own = self.model.mel_config
        return None if self.mel_config.converts_to(own) else describe_approximation(self.mel_config, own)

    @property
    def chunk_frames(self) -> int | None:
        frames = self.model.chunk_frames
        if frames is None:
            return None
        own, given = self.model.mel_config, self.mel_config
        return max(1, round(frames * own.hop_length * given.sample_rate / (own.sample_rate * given.hop_length)))

    @property
    def batching_pays(self) -> bool:
        return self.model.batching_pays

    def for_mel_config(self, mel_config: MelConfig | str, model_rate: bool = False) -> BaseVocoder:
        return self.model.for_mel_config(mel_config, model_rate)

    def start(self, seeds: Sequence[int], given: Collection[str] = (), constants: Values | None = None) -> Synthesis:
        return AdaptedSynthesis(self, self.model.start(seeds, given, constants), seeds, given, constants)

    def start_nearsighted(
        self, seeds: Sequence[int], lookahead: int, given: Collection[str] = (), constants: Values | None = None
    ) -> Synthesis:
        needed, own = self.facts.lookahead_with(given), self.model.facts.lookahead_with(given)
        assert needed is not None
        assert own is not None
        config, model = self.mel_config, self.model.mel_config
        ratio = config.hop_length * model.sample_rate / (config.sample_rate * model.hop_length)
        less = own - math.ceil((needed - lookahead) * ratio)
        if less < 1:
            least = needed - math.floor((own - 1) / ratio)
            raise VocoderError(f"for mels of {config.name} the lookahead must be {least} frames or more")
        inner = self.model.start_nearsighted(seeds, less, given, constants)
        return AdaptedSynthesis(self, inner, seeds, given, constants)

    def _estimate(self, mel: np.ndarray) -> np.ndarray:
        own, given = self.model.mel_config, self.mel_config
        f0 = self.model._estimate(adapter(given, own)(mel))
        return adapter(own, given).adapt_signal(f0[None, None], 0, mel.shape[1])[0, 0]

    def run(self, mel: np.ndarray, values: Values) -> tuple[np.ndarray, Values]:
        raise NotImplementedError("only the model itself runs its networks")
