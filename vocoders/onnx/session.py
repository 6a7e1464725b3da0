"""Open sessions of ONNX Runtime, in the background too. Imports neither torch nor pydantic."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from vocoders.errors import CheckpointError, VocoderError
from vocoders.files import refuse_pointer
from vocoders.onnx.control_flow import check_control_flow

# Optimisations that gain nothing here and take up to half of the time to open a model; unknown names are ignored.
_IDLE_OPTIMISATIONS = """
    AttentionFusion BiasDropoutFusion BiasGeluFusion BiasSkipLayerNormFusion BiasSoftmaxFusion
    CommonSubexpressionElimination ConstantSharing ConvAddActivationFusion DoubleQDQPairsRemover
    DynamicQuantizeMatMulFusion EmbedLayerNormFusion EnsureUniqueDQForNodeUnit FastGeluFusion
    FreeDimensionOverrideTransformer FuseFp16InitializerToFp32NodeTransformer GatherToSliceFusion GeluFusionL1
    GeluFusionL2 GemmActivationFusion GroupQueryAttentionFusion GroupQueryAttentionPreNormFusion LayerNormFusionL1
    LayerNormFusionL2 Level1_RuleBasedTransformer Level2_RuleBasedTransformer MatMulActivationFusion MatMulAddFusion
    MatMulIntegerToFloatFusion MatMulNBitsFusion MatMulScaleFusion MatmulTransposeFusion NhwcTransformer
    QDQFinalCleanupTransformer QDQPropagationTransformer QDQS8ToU8Transformer QDQSelectorActionTransformer
    QuickGeluFusion ReshapeFusion SimplifiedLayerNormFusion SkipLayerNormFusion SliceConcatToSpaceToDepthFusion
    SwiGluFusion TransposeOptimizer TransposeOptimizer_CPUExecutionProvider WeightBiasQuantization WhereDummyDq
"""

_started: dict[tuple[Path, str], Future[Any]] = {}  # at most one


def runtime() -> Any:
    """Import onnxruntime with its telemetry off; it reads the environment when it loads."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def start_session(path: Path, device: str) -> None:
    """Begin to open a built-in model in a thread, for the next ``open_session`` with the same arguments.

    ONNX Runtime holds no Python lock meanwhile. ``open_session`` raises the errors.
    """
    future: Future[Any] = Future()

    def work() -> None:
        try:
            future.set_result(_open(path, device, trusted=True))
        except BaseException as error:
            future.set_exception(error)

    runtime()  # here, since an import in the thread would block those of this one
    _started.clear()
    _started[path, device] = future
    threading.Thread(target=work).start()


def open_session(path: Path, device: str) -> Any:
    """Open the ``InferenceSession`` of a model on "cpu", "cuda" or "cuda:N".

    Raises CheckpointError for a file that is no ONNX model, VocoderError for an unusable device.
    """
    started = _started.pop((path, device), None)
    return started.result() if started else _open(path, device)


def stated_threads() -> int:
    """Return the threads that OMP_NUM_THREADS states, which torch obeys; 0 if it states none."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return int(threads) if threads.isdecimal() else 0


def _open(path: Path, device: str, trusted: bool = False) -> Any:
    onnxruntime = runtime()
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder, not a model")
    if not path.is_file():
        raise CheckpointError(f"there is no model {path}")
    kind, _, number = device.partition(":")
    provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}.get(kind)
    if provider not in onnxruntime.get_available_providers() or not (number or "0").isdecimal():
        raise VocoderError(
            f"device '{device}' cannot be used here for an exported model; this onnxruntime has "
            f"{', '.join(onnxruntime.get_available_providers())}, and 'cpu' always works ('cuda' needs onnxruntime-gpu)"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # the exception says what is wrong
    options.enable_mem_pattern = False  # plans for each length would take half of all memory
    options.intra_op_num_threads = stated_threads()
    choice = (provider, {"device_id": number or "0"}) if kind == "cuda" else provider
    idle = _IDLE_OPTIMISATIONS.split() if kind == "cpu" else None
    if not trusted:
        check_control_flow(path)
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[choice], disabled_optimizers=idle)
    except Exception as error:  # onnxruntime's errors have no common base
        with path.open("rb") as damaged:
            refuse_pointer(damaged.read(64), str(path))
        reason = str(error).split("\n")[0]
        raise CheckpointError(f"{path} is not a readable ONNX model, or cannot be run here ({reason})") from None
    if provider not in session.get_providers():  # it falls back to the CPU silently
        raise VocoderError(f"device '{device}' cannot be used here: onnxruntime finds no CUDA that fits it")
    return session
