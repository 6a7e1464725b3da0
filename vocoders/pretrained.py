"""Find and load models by name: files, built-in models, repositories of the Hugging Face hub.

ONNX Runtime runs exported models, and built-in models in float32 on the CPU; torch runs checkpoints, and built-in
models otherwise. ``backend`` chooses for built-in models.
"""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal, overload

from vocoders.errors import MelWarning, VocoderError
from vocoders.extras import require

if TYPE_CHECKING:
    import torch

    from vocoders.dsp.mel import MelConfig
    from vocoders.inference.base import BaseVocoder
    from vocoders.inference.synthesis import BackendName, Precision
    from vocoders.inference.vocoder import Vocoder
    from vocoders.onnx.vocoder import OnnxVocoder

MODELS = Path(__file__).parent / "models"
DEFAULT_MODEL = "hnmask-22k"
_OTHER_NAMES = {"openvoices-22k": "hnmask-22k", "openvoices-24k": "hnmask-24k"}
_CHECKPOINT = "model.safetensors"  # in folders and repositories


@overload
def load(
    model: str | Path | None = None,
    device: str | torch.device = "cpu",
    precision: Precision = "float32",
    *,
    backend: Literal["torch"],
) -> Vocoder: ...
@overload
def load(
    model: str | Path | None = None,
    device: str | torch.device = "cpu",
    precision: Precision = "float32",
    *,
    backend: Literal["onnx"],
) -> OnnxVocoder: ...
@overload
def load(
    model: str | Path | None = None,
    device: str | torch.device = "cpu",
    precision: Precision = "float32",
    backend: BackendName | None = None,
    mel_config: MelConfig | str | None = None,
) -> BaseVocoder: ...
def load(
    model: str | Path | None = None,
    device: str | torch.device = "cpu",
    precision: Precision = "float32",
    backend: BackendName | None = None,
    mel_config: MelConfig | str | None = None,
) -> BaseVocoder:
    """Load a model, ready to use.

    Args:
        model: None for the default model; the name of a built-in model; the path of a checkpoint (.safetensors), or of
            a model.onnx from ``vocoders export``, which runs without torch; or "org/name", a repository of the Hugging
            Face hub, or "org/name/path", a file or folder in one, unless there is a local folder "org". A folder or
            repository holds model.safetensors, or a model
            of another project in ``vocoders.importers.IMPORTERS``, converted at its first load, as is the path of such
            a checkpoint.
        device: such as "cuda".
        precision: "bfloat16" is faster on processors that support it, and noisier; exported models run in float32.
        backend: "onnx" or "torch", for a built-in model. Default: "onnx" in float32 on the CPU, else "torch".
        mel_config: mel config of your mels, or its name; chooses the built-in model where ``model`` is None.

    Returns:
        A ``Vocoder``, or an ``OnnxVocoder`` where ONNX Runtime runs the model; with a ``mel_config`` that is not the
        model's, ``BaseVocoder.for_mel_config`` of it.

    Raises:
        VocoderError: for an unknown model, device, precision or backend, or missing torch.
        CheckpointError: for a file that cannot be read.
        MelMismatch: when the model cannot take mels of ``mel_config``.

    Warns:
        MelWarning: when mels of ``mel_config`` are approximated.
    """
    from vocoders.inference.checks import as_mel_config
    from vocoders.inference.synthesis import check_backend, check_precision

    if mel_config is not None:
        wanted = as_mel_config(mel_config)
        own = load(model_for(wanted) if model is None else model, device, precision, backend)
        vocoder = own.for_mel_config(wanted)
        if vocoder.approximation:
            warnings.warn(vocoder.approximation, MelWarning, stacklevel=2)
        return vocoder

    check_precision(precision)
    if backend is not None:
        check_backend(backend)
    device = str(device)
    name, path = find_pretrained(model, backend or _default_backend(device, precision))
    if path.suffix.lower() == ".onnx":
        if backend == "torch":
            raise VocoderError(f"{name} is an exported model, which only ONNX Runtime runs; load its checkpoint")
        if precision != "float32":
            raise VocoderError(f"{name} runs in float32; a checkpoint (.safetensors) can run in {precision}")
        from vocoders.onnx.vocoder import OnnxVocoder

        return OnnxVocoder(path, name, device)
    if backend == "onnx":
        raise VocoderError(
            f"{name} is a checkpoint, which only torch runs; 'vocoders export' makes an ONNX model of it"
        )
    require(f"running {name} on device '{device}' in {precision}", "torch", "torch", "safetensors")
    from vocoders.checkpoint import load_checkpoint
    from vocoders.inference.vocoder import Vocoder
    from vocoders.nn.fast import set_up_memory

    set_up_memory()
    return Vocoder(load_checkpoint(path), name, precision).to(device)


def start_loading(
    model: str | None = None, device: str = "cpu", precision: Precision = "float32", backend: BackendName | None = None
) -> None:
    """Begin to load a built-in ONNX model in the background, for the next ``load`` with the same arguments.

    Saves a tenth of a second beside a program's imports.
    """
    name = DEFAULT_MODEL if model is None else model
    if name in list_models() and (backend or _default_backend(device, precision)) == "onnx":
        from vocoders.onnx.session import start_session

        start_session(find_pretrained(name, "onnx")[1], device)


def find_pretrained(model: str | Path | None = None, backend: BackendName = "torch") -> tuple[str, Path]:
    """Return the name and the file of a model, as for ``load``.

    Hub files are downloaded unless cached; a model of another project is converted.
    """
    name = DEFAULT_MODEL if model is None else _OTHER_NAMES.get(str(model), str(model))
    if name in list_models():
        return name, MODELS / f"{name}{'.onnx' if backend == 'onnx' else '.safetensors'}"
    if name and Path(name).is_dir():
        return name, _from_folder(Path(name))
    at_hub = re.fullmatch(r"[\w.-]+/[\w.-]+(/[\w.-]+)*", name)
    in_repository = at_hub is not None and at_hub[1] is not None
    if (name and Path(name).exists()) or (name.endswith((".safetensors", ".onnx")) and not in_repository):
        return name, _from_file(Path(name))
    if at_hub:
        folder = name.split("/")[0]
        if Path(folder).is_dir():  # mistyped path: do not ask the hub
            raise VocoderError(
                f"there is no file {name}; the Hugging Face hub is asked for a repository only where no folder "
                f"'{folder}' is here"
            )
        from vocoders.hub import refuse_unsupported

        refuse_unsupported(name)
        return name, _from_hub(name)
    raise VocoderError(
        f"unknown model '{name}': neither a file, nor a built-in model ({', '.join(list_models())}), "
        f"nor a repository 'org/name', or a file or folder 'org/name/path' in one, of the Hugging Face hub"
    )


def model_for(mel_config: MelConfig) -> str:
    """Return the built-in model that suits mels of a mel config best, see ``MelConfig.fit``."""
    return max(list_models(), key=lambda name: mel_config.fit(mel_config_of(name)))


def mel_config_of(name: str) -> MelConfig:
    """Return the mel config of a built-in model, without torch."""
    from vocoders.dsp.mel import MelConfig

    with (MODELS / f"{name}.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return MelConfig.model_validate_json(header["__metadata__"]["mel_config"])


def list_models() -> list[str]:
    """Return the names of the built-in models."""
    return sorted(path.stem for path in MODELS.glob("*.safetensors"))


def _default_backend(device: str, precision: Precision) -> BackendName:
    """Return the default backend of a built-in model."""
    return "onnx" if device.partition(":")[0] == "cpu" and precision == "float32" else "torch"


def _from_file(path: Path) -> Path:
    """Return a file, converted if foreign."""
    if path.suffix.lower() == ".onnx" or not path.is_file():
        return path
    require(f"the checkpoint {path}", "torch", "torch", "safetensors")
    from vocoders.checkpoint import is_foreign
    from vocoders.importers.recognition import convert, recognize_file

    return convert(recognize_file(path)) if is_foreign(path) else path


def _from_folder(folder: Path, repository: str | None = None) -> Path:
    """Return a folder's model.safetensors, or the conversion of a foreign model."""
    require(f"the model in {folder}", "torch", "torch", "safetensors")
    from vocoders.checkpoint import is_foreign
    from vocoders.importers.recognition import convert, recognize_folder

    own = folder / _CHECKPOINT
    return own if own.is_file() and not is_foreign(own) else convert(recognize_folder(folder), repository)


def _from_hub(name: str) -> Path:
    """Return the checkpoint of "org/name", or "org/name/path", a file or folder in it, from the cache if possible."""
    require(f"the model '{name}' of the Hugging Face hub", "torch", "torch", "safetensors", "huggingface_hub")
    from vocoders.hub import cached_folder, download
    from vocoders.importers.recognition import CONFIGURATIONS, file_patterns, holds_model

    if name.count("/") > 1:
        org, repository, path = name.split("/", 2)
        return _from_path_at_hub(f"{org}/{repository}", path)
    problem = None
    if folder := cached_folder(name):
        try:
            return _from_folder(folder, name)
        except VocoderError as error:
            problem = error  # perhaps another program cached some of its files
    try:
        folder = download(name, [pattern for config in CONFIGURATIONS for pattern in (config, f"*/{config}")])
        for patterns in file_patterns(folder):
            folder = download(name, [_CHECKPOINT, *patterns])
            if holds_model(folder) or (folder / _CHECKPOINT).is_file():
                break
    except VocoderError as error:
        raise problem or error from None
    return _from_folder(folder, name)


def _from_path_at_hub(repository: str, path: str) -> Path:
    """Return the checkpoint of a file or folder in a hub repository."""
    from vocoders.hub import cached_folder, download
    from vocoders.importers.recognition import CONFIGURATIONS

    folder = cached_folder(repository)
    if folder is None or not (folder / path).exists():
        beside = [(PurePosixPath(path).parent / config).as_posix() for config in CONFIGURATIONS]
        folder = download(repository, [path, f"{path}/*", *beside])
    if (folder / path).is_dir():
        return _from_folder(folder / path, repository)
    if (folder / path).is_file():
        return _from_file(folder / path)
    raise VocoderError(f"the repository {repository} of the Hugging Face hub holds no {path}")
