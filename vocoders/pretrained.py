"""Models by name: files, built-in voices, repositories of the Hugging Face hub. Without torch until one needs it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, overload

from vocoders.errors import VocoderError

if TYPE_CHECKING:
    import torch

    from vocoders.inference.vocoder import Precision, Vocoder
    from vocoders.onnx.vocoder import OnnxVocoder

VOICES = Path(__file__).parent / "voices"
DEFAULT_VOICE = "openvoices-22k"


@overload
def load(model: None = None, device: str | torch.device = "cpu", precision: Precision = "float32") -> Vocoder: ...
@overload
def load(
    model: str | Path, device: str | torch.device = "cpu", precision: Precision = "float32"
) -> Vocoder | OnnxVocoder: ...
def load(
    model: str | Path | None = None, device: str | torch.device = "cpu", precision: Precision = "float32"
) -> Vocoder | OnnxVocoder:
    """A vocoder, ready to use.

    Args:
        model: None for the built-in voice; a built-in voice's name; the path of a checkpoint, or of the model.onnx that
            ``vocoders export`` made of one, which runs without torch; or "org/name", a repository of the Hugging Face
            hub that holds model.safetensors.
        device: where to run it.
        precision: "bfloat16" multiplies in bfloat16: faster on processors that can, and noisier. Not for model.onnx.
    Raises: VocoderError for an unknown model, CheckpointError for one that cannot be read.
    """
    name, path = find_pretrained(model)
    if path.suffix.lower() == ".onnx":
        from vocoders.onnx.vocoder import OnnxVocoder

        if precision != "float32":
            raise VocoderError(f"{name} runs in float32; a checkpoint (.safetensors) can run in {precision}")
        return OnnxVocoder(path, name, str(device))
    from vocoders.checkpoint import load_checkpoint
    from vocoders.inference.vocoder import Vocoder

    return Vocoder(load_checkpoint(path), name, precision).to(device)


def find_pretrained(model: str | Path | None = None) -> tuple[str, Path]:
    """The name and the file of a model, named as for ``load``."""
    name = str(model or DEFAULT_VOICE)
    voice = VOICES / f"{name}.safetensors"
    if voice.is_file():
        return name, voice
    if Path(name).exists() or name.endswith((".safetensors", ".onnx")):
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
