"""BaseVocoder: the interface of a model for users, whatever backend runs it. Does not import torch."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np

from vocoders.dsp.analysis import analyze
from vocoders.dsp.arrays import AnyArray, Array, as_numpy, kind_of
from vocoders.dsp.mel import MelConfig, convert_mel
from vocoders.errors import MelWarning, VocoderError
from vocoders.inference.checks import as_mel_config, check_seed, prepare_audio, prepare_f0, prepare_mel
from vocoders.inference.stream import Stream
from vocoders.inference.synthesis import Backend


class BaseVocoder(Backend):
    """Model that turns log-mel-spectrograms into audio. ``load`` makes one; see ``__call__``."""

    @property
    def sample_rate(self) -> int:
        """Sample rate of the audio in Hz."""
        return self.mel_config.sample_rate

    @property
    def lag(self) -> int:
        """Samples by which the audio is later than the recording that a mel is of."""
        return self.mel_config.usual_lag if self.stated_lag is None else self.stated_lag

    @property
    def lookahead(self) -> int | None:
        """Frames that must follow a frame in a stream before its audio is final; None when the model cannot stream.

        A stream that is given its F0 needs fewer: see ``Stream.lookahead``.
        """
        return None if self.receptive_field is None else self.receptive_field + self.f0_receptive_field

    @overload
    def __call__(self, mel: Array, f0: AnyArray | None = None, seed: int | None = None) -> Array: ...
    @overload
    def __call__(
        self, mel: Sequence[Array], f0: Sequence[AnyArray | None] | None = None, seed: int | None = None
    ) -> list[Array]: ...
    def __call__(self, mel: Any, f0: Any = None, seed: int | None = None) -> Any:
        """Synthesise audio from a log-mel.

        Args:
            mel: (n_mels, frames) or (batch, n_mels, frames), numpy or torch, any float dtype, in the mel config
                ``mel_config``; or a list of (n_mels, frames) of any lengths.
            f0: Hz per frame, 0 = unvoiced: (frames,) or (batch, frames), or a list like ``mel``. Estimated from the
                mel when not given; ignored by generators that need none.
            seed: seed of the noise, 0 to 2^63 - 1; 0 when not given. The same seed gives the same audio, and every item
                of a batch or a list equals, to rounding, what it gives alone.

        Returns:
            float32 audio, nominally in [-1, 1], not clipped: (samples,) or (batch, samples) with
            samples = frames * hop_length, of the kind and on the device of the mel; a list for a list.

        Raises:
            VocoderError: for a mel, an F0 or a seed that does not fit.

        Warns:
            MelWarning: when the values look like those of another mel config.
        """
        seed = check_seed(seed)
        if isinstance(mel, (list, tuple)):
            return self._synthesize_list(mel, f0, seed)
        values = self._prepare(mel)
        batch = values if values.ndim == 3 else values[None]
        items, _, frames = batch.shape
        track = None if f0 is None else prepare_f0(as_numpy(f0), items, frames, self.mel_config)
        audio = self._whole(batch, track, [seed] * items)
        return kind_of(mel)(audio if values.ndim == 3 else audio[0])

    def synthesize(self, mel: AnyArray, f0: AnyArray | None = None, seed: int = 0) -> Iterator[np.ndarray]:
        """Synthesise the audio of one log-mel in pieces, in memory that does not grow with its length.

        Args:
            mel: (n_mels, frames), in the mel config ``mel_config``. It is not diagnosed: see ``prepare_mel``.
            f0: (frames,), as for ``__call__``.
            seed: as for ``__call__``.

        Returns:
            An iterator of float32 (samples,). Joined they are ``voc(mel, f0, seed)``. A model with ``chunk_frames``
            None gives one piece.

        Raises:
            VocoderError: for a mel, an F0 or a seed that does not fit.
        """
        seed = check_seed(seed)
        values = self._check_single(prepare_mel(as_numpy(mel), self.mel_config, self.mel_config).values)
        return self._pieces(values[None], self._track(f0, values), seed)

    def synthesize_batch(
        self,
        mels: Sequence[AnyArray],
        f0s: Sequence[AnyArray | None] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> list[np.ndarray]:
        """Synthesise several log-mels of any lengths in as few passes of the network as their lengths allow.

        Args:
            mels: (n_mels, frames) each, in the mel config ``mel_config``. They are not diagnosed: see ``prepare_mel``.
            f0s: (frames,) each, as for ``__call__``; None for those whose F0 is to be estimated.
            seeds: seed of the noise for each; 0 when not given.

        Returns:
            float32 (samples,) each, equal to ``voc(mel, f0, seed)`` to rounding.

        Raises:
            VocoderError: for a mel, an F0 or a seed that does not fit.
        """
        f0s = [None] * len(mels) if f0s is None else f0s
        seeds = [0] * len(mels) if seeds is None else [check_seed(seed) for seed in seeds]
        if not len(mels) == len(f0s) == len(seeds):
            raise VocoderError(f"{len(mels)} mels, but {len(f0s)} f0 tracks and {len(seeds)} seeds")
        checked = (prepare_mel(as_numpy(mel), self.mel_config, self.mel_config).values for mel in mels)
        values = [self._check_single(mel) for mel in checked]
        tracks = [self._track(f0, mel) for f0, mel in zip(f0s, values, strict=True)]
        return self._batch(values, tracks, seeds)

    def stream(
        self,
        mel_chunks: Iterable[Array],
        f0_chunks: Iterable[AnyArray] | None = None,
        seed: int | None = None,
        lookahead: int | None = None,
    ) -> Iterator[Array]:
        """Synthesise audio while the frames arrive, equal to that of the whole mel.

        With ``open_stream`` the caller pushes the frames instead.

        Args:
            mel_chunks: log-mels (n_mels, frames), numpy or torch, one after the other, of one frame or more.
            f0_chunks: F0 of each chunk, (frames,), as for ``__call__``; estimated from the mel when not given.
            seed: as for ``__call__``.
            lookahead: frames to look ahead at most, for audio that comes sooner than the model's ``lookahead`` allows,
                and is not quite the same; see ``Stream``.

        Returns:
            An iterator of float32 (samples,) of the kind of the chunks, none of them empty. Joined they are
            ``voc(mel, f0, seed)``, to rounding, unless ``lookahead`` is less than the model's.

        Raises:
            VocoderError: for a model that cannot stream, a chunk, a seed or a lookahead that does not fit, or no frame
                at all.
        """
        # Not a generator function itself, so that the call refuses a model that cannot stream.
        return self.open_stream(seed, f0_chunks is not None, lookahead).pieces(mel_chunks, f0_chunks)

    def open_stream(self, seed: int | None = None, given_f0: bool = False, lookahead: int | None = None) -> Stream:
        """Open a stream to which the frames of one utterance are pushed; see ``Stream``.

        Args:
            seed: as for ``__call__``.
            given_f0: whether each push brings its F0.
            lookahead: as for ``stream``.

        Raises:
            VocoderError: for a model that cannot stream, or that needs F0 that is neither given nor estimated, and for
                a bad seed or lookahead.
        """
        return Stream(self, seed, given_f0, lookahead)

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

    def _synthesize_list(self, mels: Sequence[AnyArray], f0s: Sequence[AnyArray | None] | None, seed: int) -> list[Any]:
        """Synthesise a list, for ``__call__``."""
        if f0s is not None and len(f0s) != len(mels):
            raise VocoderError(f"{len(mels)} mels, but {len(f0s)} f0 tracks")
        values: list[np.ndarray] = []
        for mel in mels:  # not a comprehension, which before Python 3.12 is a stack frame that stacklevel counts
            values.append(self._check_single(self._prepare(mel, stacklevel=4)))
        f0s = [None] * len(mels) if f0s is None else f0s
        tracks = [self._track(f0, mel) for f0, mel in zip(f0s, values, strict=True)]
        synthesize = self._batch if self.batching_pays else self._each
        audio = synthesize(values, tracks, [seed] * len(mels))
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

    def _track(self, f0: AnyArray | None, mel: np.ndarray) -> np.ndarray | None:
        """Validate the F0 of one mel, (n_mels, frames) -> (1, 1, frames)."""
        return None if f0 is None else prepare_f0(as_numpy(f0), 1, mel.shape[1], self.mel_config)

    def _batch(
        self, mels: Sequence[np.ndarray], f0s: Sequence[np.ndarray | None], seeds: Sequence[int]
    ) -> list[np.ndarray]:
        """Synthesise utterances, (n_mels, frames) and (1, 1, frames) each, in few passes where the backend can."""
        return self._each(mels, f0s, seeds)

    def _each(
        self, mels: Sequence[np.ndarray], f0s: Sequence[np.ndarray | None], seeds: Sequence[int]
    ) -> list[np.ndarray]:
        """Synthesise utterances as ``_batch`` does, one after the other."""
        return [self._whole(mel[None], f0, [seed])[0] for mel, f0, seed in zip(mels, f0s, seeds, strict=True)]

    def _whole(self, mel: np.ndarray, f0: np.ndarray | None, seeds: Sequence[int]) -> np.ndarray:
        """Synthesise a batch of one length, (batch, n_mels, frames) and (batch, 1, frames) -> (batch, samples)."""
        return self.start(seeds, given_f0=f0 is not None).advance(mel, f0, last=True)

    def _pieces(self, mel: np.ndarray, f0: np.ndarray | None, seed: int) -> Iterator[np.ndarray]:
        """Synthesise one utterance, (1, n_mels, frames) and (1, 1, frames), piece by piece."""
        synthesis, frames = self.start([seed], given_f0=f0 is not None), mel.shape[-1]
        for piece in self.pieces(frames):
            track = None if f0 is None else f0[..., piece]
            audio = synthesis.advance(mel[..., piece], track, last=piece.stop == frames)[0]
            if len(audio):
                yield audio
