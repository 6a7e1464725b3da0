"""Vocoder: a generator, the estimator of its F0, and the mel convention they speak."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from vocoders.checkpoint import Checkpoint, load_checkpoint
from vocoders.errors import CheckpointError, VocoderError
from vocoders.mel import MelSpec, MelSpectrogram, convert_mel, suspicion
from vocoders.pitch import PitchEstimator
from vocoders.stream import Continuation, Stream

VOICES = Path(__file__).parent / "voices"
DEFAULT_VOICE = "openvoices-22k"


class MelWarning(UserWarning):
    """The values of a mel hardly come from the convention it is taken for."""


class Vocoder:
    """Turns log-mel-spectrograms into audio. Made by ``load``; see ``__call__``."""

    def __init__(self, checkpoint: Checkpoint, name: str = "") -> None:
        if checkpoint.generator is None:
            raise CheckpointError(f"{name or 'the checkpoint'} holds no generator, only a pitch estimator")
        self.name = name
        self.generator = checkpoint.generator.eval()
        # In float64: a rounding of F0 that hangs on the size of a batch or of a chunk would add up in the phase.
        self.pitch = copy.deepcopy(checkpoint.pitch).eval().double() if checkpoint.pitch is not None else None
        self.mel_spec: MelSpec = checkpoint.mel_spec
        self.training = checkpoint.training

    @property
    def sample_rate(self) -> int:
        return self.mel_spec.sample_rate

    @property
    def device(self) -> torch.device:
        return next(self.generator.parameters()).device

    def to(self, device: str | torch.device) -> Vocoder:
        """Move to a device, such as "cuda". Raises VocoderError when it is not there."""
        try:
            target = torch.device(device)
            torch.zeros(1).to(target).cpu()
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).strip().split("\n")[0]
            raise VocoderError(f"device '{device}' cannot be used here ({reason}); 'cpu' always can") from None
        self.generator.to(target)
        if self.pitch is not None:
            self.pitch.to("cpu" if target.type == "mps" else target)  # mps has no float64
        return self

    @overload
    def __call__(self, mel: Tensor, f0: Any = None, seed: int | None = None) -> Tensor: ...
    @overload
    def __call__(self, mel: np.ndarray, f0: Any = None, seed: int | None = None) -> np.ndarray: ...
    @overload
    def __call__(self, mel: Sequence[Any], f0: Any = None, seed: int | None = None) -> list[Any]: ...
    def __call__(self, mel: Any, f0: Any = None, seed: int | None = None) -> Any:
        """Log-mel -> audio.

        Args:
            mel: (n_mels, frames) or (batch, n_mels, frames), numpy or torch, any float dtype, in the convention
                ``mel_spec``; or a list of (n_mels, frames) of any lengths.
            f0: in Hz per frame, 0 = unvoiced: (frames,) or (batch, frames), or a list like ``mel``. Estimated from
                the mel when not given; ignored by generators that do without.
            seed: of the noise; the same seed gives the same audio, and not giving one is the seed 0. Every item of a
                batch sounds as it does alone, to rounding.
        Returns: float32 audio, (samples,) or (batch, samples) with samples = frames * hop_length, of the kind and on
            the device of the mel; a list for a list. Nominally in [-1, 1], not clipped.
        Raises: VocoderError for a mel or an f0 that does not fit. Warns with MelWarning when the values look like
            another convention's.
        """
        if isinstance(mel, (list, tuple)):
            if f0 is not None and len(f0) != len(mel):
                raise VocoderError(f"{len(mel)} mels, but {len(f0)} f0 tracks")
            return [self(item, None if f0 is None else f0[i], seed) for i, item in enumerate(mel)]
        values = self.check_mel(mel)
        doubt = suspicion(values.cpu().numpy(), self.mel_spec)
        if doubt:
            warnings.warn(doubt, MelWarning, stacklevel=2)
        single = values.dim() == 2
        batch = values[None] if single else values
        track = None if f0 is None else self._check_f0(f0, batch.shape[0], batch.shape[2])
        with torch.inference_mode():
            audio = Continuation(self, seed or 0)(batch.to(self.device), track, last=True)
        audio = audio[0] if single else audio
        if isinstance(mel, Tensor):
            return audio.to(mel.device).clone()  # outside inference mode: a tensor like any other
        return audio.cpu().numpy()

    def stream(self, mel_chunks: Iterable[Any], seed: int | None = None) -> Iterator[Any]:
        """Audio while the frames arrive, equal to that of the whole mel.

        Args:
            mel_chunks: log-mels (n_mels, frames), numpy or torch, one after the other, of one frame or more.
            seed: as for ``__call__``.
        Yields: float32 (samples,) of the kind of the chunks, never empty; joined, they are ``voc(mel, seed=seed)``
            to rounding. See ``Stream``, which takes frames by hand.
        Raises: VocoderError for a model that cannot stream, a chunk that does not fit, or no frame at all.
        """
        return Stream(self, seed).pieces(mel_chunks)  # no generator itself: what cannot be is said at once

    def analyze(self, audio: Any, spec: MelSpec | None = None) -> Any:
        """Audio (..., samples) -> float32 log-mel (..., n_mels, frames) of the same kind.

        Args:
            audio: floats in [-1, 1], numpy or torch, at the sample rate of the convention.
            spec: the convention; the model's when not given.
        Raises: VocoderError for audio that is not floating-point, not finite or shorter than one frame.
        """
        spec = spec or self.mel_spec
        values = audio.detach() if isinstance(audio, Tensor) else torch.from_numpy(_plain(np.asarray(audio)))
        if not values.is_floating_point():
            raise VocoderError(f"audio must hold floats in [-1, 1], this holds {audio.dtype}")
        if values.dim() == 0 or values.shape[-1] < spec.hop_length:
            raise VocoderError(
                f"the audio is shorter than one frame: {values.shape[-1] if values.dim() else 1} samples at "
                f"{spec.sample_rate} Hz, a frame has {spec.hop_length}"
            )
        if not torch.isfinite(values).all():
            raise VocoderError("the audio holds NaN or infinite samples")
        mel = MelSpectrogram(spec, torch.float64)(values.cpu()).float()
        return mel.to(values.device) if isinstance(audio, Tensor) else mel.numpy()

    def convert(self, mel: Any, source: MelSpec) -> Any:
        """A mel of another convention in this model's, of the same kind. Raises MelMismatch where it cannot be."""
        if isinstance(mel, Tensor):
            return convert_mel(mel, source, self.mel_spec)
        return convert_mel(torch.from_numpy(mel), source, self.mel_spec).numpy()

    def check_mel(self, mel: Any) -> Tensor:
        """The mel as float32, (n_mels, frames) or (batch, n_mels, frames), if it fits: raises VocoderError."""
        values = mel if isinstance(mel, Tensor) else torch.from_numpy(_plain(np.asarray(mel)))
        spec = self.mel_spec
        shape = tuple(values.shape)
        if not values.is_floating_point():
            raise VocoderError(f"a mel must hold floats, this one holds {str(mel.dtype).removeprefix('torch.')}")
        if len(shape) not in (2, 3):
            raise VocoderError(
                f"a mel must be (n_mels, frames) or (batch, n_mels, frames), this one is {len(shape)}-D: {shape}"
            )
        if shape[-1] == 0 or 0 in shape:
            raise VocoderError(f"the mel is empty: shape {shape}")
        if shape[-2] != spec.n_mels:
            hint = ""
            if shape[-1] == spec.n_mels:
                hint = (
                    f"; it looks transposed, (frames, n_mels): pass mel{'.T' if len(shape) == 2 else '.swapaxes(1, 2)'}"
                )
            raise VocoderError(
                f"the model expects {spec.n_mels} mels ({spec.name}), this mel has {shape[-2]}: shape {shape}{hint}"
            )
        values = values.detach().float()
        damaged = sum(int((~part.isfinite()).sum()) for part in values.split(4096, -1))  # in memory that does not grow
        if damaged:
            raise VocoderError(f"the mel holds {damaged} NaN or infinite values of {values.numel()}")
        return values

    def _check_f0(self, f0: Any, batch: int, frames: int) -> Tensor:
        """float32 (batch, 1, frames)."""
        values = f0.detach() if isinstance(f0, Tensor) else torch.from_numpy(_plain(np.asarray(f0)))
        if values.shape not in ((frames,), (batch, frames), (batch, 1, frames)) or values.numel() != batch * frames:
            raise VocoderError(
                f"f0 must hold one value a frame, {frames} for each of {batch} mels; it has shape {tuple(values.shape)}"
            )
        values = values.reshape(batch, 1, frames).float()
        low, high, limit = float(values.min()), float(values.max()), self.sample_rate / 2
        if not 0 <= low <= high <= limit:  # NaN compares false
            raise VocoderError(f"f0 must be in Hz, from 0 (unvoiced) to {limit:g}; it holds {low:g} to {high:g}")
        return values.to(self.device)

    @property
    def estimator(self) -> PitchEstimator:
        """Raises VocoderError when the model has none."""
        if self.pitch is None:
            raise VocoderError("this model needs f0 and has no estimator of its own; pass f0, in Hz per frame")
        return self.pitch


def _plain(array: np.ndarray) -> np.ndarray:
    """The array in a form torch takes; numbers only."""
    if array.dtype.kind not in "fiub":
        raise VocoderError(f"expected an array of floats, got dtype {array.dtype}")
    if array.dtype.kind == "f":
        as_is = array.dtype == np.float32 and array.flags.writeable and min(array.strides, default=0) >= 0
        return array if as_is else np.array(array, dtype=np.float32)  # also big-endian and float16 files
    return np.ascontiguousarray(array).astype(np.int64)


def load(model: str | Path | None = None, device: str | torch.device = "cpu") -> Vocoder:
    """A vocoder, ready to use.

    Args:
        model: None for the built-in voice; a built-in voice's name; the path of a checkpoint; or "org/name", a
            repository of the Hugging Face hub that holds model.safetensors.
        device: where to run it.
    Raises: VocoderError for an unknown model, CheckpointError for one that cannot be read.
    """
    name, path = find_model(model)
    return Vocoder(load_checkpoint(path), name).to(device)


def find_model(model: str | Path | None = None) -> tuple[str, Path]:
    """The name and the checkpoint file of a model, named as for ``load``."""
    name = str(model or DEFAULT_VOICE)
    voice = VOICES / f"{name}.safetensors"
    if voice.is_file():
        return name, voice
    if Path(name).exists() or name.endswith(".safetensors"):
        return name, Path(name)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return name, _from_hub(name)
    raise VocoderError(
        f"unknown model '{name}': neither a file, nor a built-in voice ({', '.join(list_voices())}), "
        f"nor a repository 'org/name' of the Hugging Face hub"
    )


def list_voices() -> list[str]:
    """The names of the built-in voices."""
    return sorted(path.stem for path in VOICES.glob("*.safetensors"))


def _from_hub(name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        try:  # what is in the cache needs no network
            return Path(hf_hub_download(name, "model.safetensors", local_files_only=True))
        except LocalEntryNotFoundError:
            return Path(hf_hub_download(name, "model.safetensors"))
    except LocalEntryNotFoundError:
        raise VocoderError(
            f"'{name}' is no local file, not in the local cache, and the Hugging Face hub cannot be reached"
        ) from None
    except (HfHubHTTPError, HFValidationError) as error:
        raise VocoderError(
            f"cannot load '{name}' from the Hugging Face hub: {str(error).strip().splitlines()[0]}"
        ) from None
