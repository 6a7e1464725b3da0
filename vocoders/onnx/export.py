"""Export a model to ONNX, as one self-describing graph that runs without torch."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from vocoders.checkpoint import Checkpoint, describe
from vocoders.errors import CheckpointError, VocoderError
from vocoders.extras import require
from vocoders.files import write_file
from vocoders.generators.base import Generator
from vocoders.inputs import UNKNOWN, cut
from vocoders.onnx.graph import Graph, MelGraph, StatefulGraph
from vocoders.onnx.session import runtime
from vocoders.onnx.storage import Weights, fold_unsqueezes, store_weights
from vocoders.onnx.vocoder import VERSION
from vocoders.streaming.lowering import add_state

Target = Literal["vocoders", "sherpa-onnx"]

OPSET = 20  # the first with Gelu; ONNX Runtime 1.18 and later run it
LARGEST_DIFFERENCE = 1e-4  # from torch's audio, as a fraction of its peak
_LARGEST_CONSTANT = 4096  # numbers; larger constants are computed when the model is opened

_AXES = {  # by the rate of an input
    "frame": {0: "batch", 2: "frames"},
    "sample": {0: "batch", 2: "samples"},
    "utterance": {0: "batch"},
}


def export_onnx(checkpoint: Checkpoint, path: Path, target: Target = "vocoders", weights: Weights = "float32") -> float:
    """Export a generator to ONNX, with its F0 estimator where it needs F0.

    The file is written only when ONNX Runtime's audio equals torch's to LARGEST_DIFFERENCE before weights are rounded.

    Args:
        checkpoint: the model, on the CPU.
        path: file to write.
        target: "vocoders" for this package, "sherpa-onnx" for a graph with the mel as its only input.
        weights: stored type; "float16" rounds weights and halves their bytes.

    Returns:
        The largest difference from torch's audio, rounding included, as a fraction of its peak.

    Raises:
        CheckpointError: when the checkpoint holds no generator.
        VocoderError: when onnx or onnxscript are missing, the model does not suit the target, the audio differs or the
            file cannot be written.
    """
    if checkpoint.generator is None:
        raise CheckpointError("there is no generator to export, only an F0 estimator")
    require("export", "export", "onnx", "onnxscript")  # torch.onnx imports onnxscript
    import onnx

    graph, model = _export(checkpoint, target)
    store_weights(model, "float32")
    if target == "sherpa-onnx":
        model.ir_version = 9  # that of opset 20; the ONNX Runtime 1.17 of sherpa-onnx before 1.12.21 refuses later ones
    onnx.helper.set_model_props(model, metadata(checkpoint, target))
    onnx.checker.check_model(model, full_check=True)
    difference = _difference(graph, checkpoint.generator, model)
    if not difference <= LARGEST_DIFFERENCE:
        raise VocoderError(
            f"the exported model's audio differs from torch's by {difference:.1e} of its peak, more than "
            f"{LARGEST_DIFFERENCE:g}; this release of torch, onnxscript or onnxruntime does not fit, try another"
        )
    if weights != "float32":
        store_weights(model, weights)
        difference = _difference(graph, checkpoint.generator, model)
    write_file(path, model.SerializeToString())
    return difference


def _export(checkpoint: Checkpoint, target: Target) -> tuple[Graph | MelGraph, Any]:
    """Export a model, with state where its generator streams in ONNX."""
    assert checkpoint.generator is not None
    if target == "vocoders" and checkpoint.generator.lookahead is not None:
        try:
            graph = StatefulGraph(checkpoint)
            model = _to_onnx(graph)
            add_state(model)
            if _streams(graph, model):
                return graph, model
        except (VocoderError, torch.onnx.OnnxExporterError):
            pass  # without state, each push computes its context again
    plain = Graph(checkpoint) if target == "vocoders" else MelGraph(checkpoint)
    return plain, _to_onnx(plain)


def _to_onnx(graph: Graph | MelGraph) -> Any:
    import onnxscript

    inputs = graph.example(2, 5)
    given = graph.generator.inputs if isinstance(graph, Graph) else ()
    axes = (tuple(_AXES[item.rate] for item in given),) if given else ()
    with _silence():
        program = torch.onnx.export(
            graph,
            tuple(inputs.values()),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            dynamic_shapes=(_AXES["frame"], *axes),
            input_names=list(inputs),
            output_names=graph.output_names,
            optimize=False,  # done below, with a limit on stored constants
        )
        assert program is not None
        model = onnxscript.optimizer.optimize(program.model_proto, output_size_limit=_LARGEST_CONSTANT)
    fold_unsqueezes(model)
    for node in model.graph.node:
        del node.metadata_props[:]  # source code, which would be half of the file
    return model


def metadata(checkpoint: Checkpoint, target: Target = "vocoders") -> dict[str, str]:
    """Describe an exported model.

    Args:
        checkpoint: a model with a generator.
        target: as for ``export_onnx``.

    Returns:
        ``format``, ``version`` of the graph's interface, ``opset``, and each field of ``Facts`` in JSON; for
        sherpa-onnx also ``target`` and ``model_type``.
    """
    facts = describe(checkpoint).model_dump(mode="json")
    properties = {"format": "vocoders", "version": VERSION, "opset": str(OPSET)}
    properties |= {name: json.dumps(value) for name, value in facts.items()}
    if target == "sherpa-onnx":  # its "hifigan" is any vocoder from mel to audio
        properties |= {"target": target, "model_type": "hifigan"}
    return properties


@contextmanager
def _silence() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _session(model: Any) -> Any:
    onnxruntime = runtime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of inputs that have defaults
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _streams(graph: Any, model: Any) -> bool:
    """Whether a stream gives the audio of the whole."""
    try:
        return _difference_of_pieces(graph, model) <= LARGEST_DIFFERENCE
    except Exception:  # ONNX Runtime's errors have no common base
        return False


def _difference_of_pieces(graph: Any, model: Any) -> float:
    """Return the largest difference of a stream's audio from the whole, as a fraction of its peak."""
    session = _session(model)
    names = [value.name for value in session.get_outputs() if value.name not in graph.output_names[1:]]
    inputs, size, first = graph.generator.inputs, graph.generator.samples_per_frame, graph.lookahead + 1
    mel, *given = (value.numpy() for value in graph.example(2, first + 5).values())
    values = {item.name: value for item, value in zip(inputs, given, strict=True)}
    for name in graph.estimated:
        values[name][:] = UNKNOWN
    whole = session.run(["audio"], {"mel": mel, **values})[0]
    state: dict[str, np.ndarray] = {}
    audio = []
    for begin, end in ((0, first), (first, first + 1), (first + 1, first + 4), (first + 4, first + 5)):
        piece = {"mel": mel[..., begin:end], **cut(inputs, values, begin, end, size)}
        last = np.array([int(end == first + 5)])
        out, *following = session.run(names, piece | state | {"last": last})
        state = {name.removeprefix("next_"): value for name, value in zip(names[1:], following, strict=True)}
        audio.append(out)
    return float(np.abs(np.concatenate(audio, 2) - whole).max() / np.abs(whole).max())


def _difference(graph: Graph | MelGraph, generator: Generator, model: Any) -> float:
    """Return the largest difference of ONNX Runtime's audio from torch's, as a fraction of its peak."""
    session = _session(model)
    differences = []
    for size in ((1, 1), (2, 40)):
        inputs = graph.example(*size)
        with torch.inference_mode():
            expected = (generator(**inputs) if isinstance(graph, Graph) else graph(**inputs)[0]).numpy()
        audio = session.run(["audio"], {name: value.numpy() for name, value in inputs.items()})[0]
        differences.append(np.abs(audio - expected).max() / np.abs(expected).max())
    return float(max(differences))
