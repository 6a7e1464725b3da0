"""Export to ONNX: a model as one self-describing graph from mel to audio, which runs without torch.

The graph is that of ``vocoders.onnx.graph``. The metadata makes the file as self-describing as a checkpoint; see
``metadata``.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vocoders.checkpoint import Checkpoint
from vocoders.errors import CheckpointError, VocoderError
from vocoders.files import atomic_write
from vocoders.generators import generator_name
from vocoders.generators.base import Generator
from vocoders.onnx.graph import Graph
from vocoders.onnx.vocoder import VERSION

OPSET = 20  # the first with Gelu; ONNX Runtime 1.18 and later run it
LARGEST_DIFFERENCE = 1e-4  # from torch's audio, as a fraction of its peak

_DYNAMIC_AXES = {
    "mel": {0: "batch", 2: "frames"},
    "f0": {0: "batch", 2: "frames"},
    "noise": {0: "batch", 2: "samples"},
    "phase": {0: "batch"},
}


def export_onnx(checkpoint: Checkpoint, path: Path) -> float:
    """Write the generator of a checkpoint as ONNX, with its F0 estimator where it needs F0.

    The file is written whole or not at all, and only when ONNX Runtime's audio from it equals torch's to
    LARGEST_DIFFERENCE of the peak.

    Args:
        checkpoint: the model, on the CPU.
        path: the file to write.

    Returns:
        The largest difference from torch's audio, as a fraction of its peak.

    Raises:
        CheckpointError: when the checkpoint holds no generator.
        VocoderError: when onnx, onnxscript or onnxruntime are not installed, the audio differs or the file cannot be
            written.
    """
    if checkpoint.generator is None:
        raise CheckpointError("there is no generator to export, only an F0 estimator")
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 (torch.onnx imports it)
    except ImportError as error:
        raise VocoderError(
            f"export needs {error.name}, which is not installed: pip install '.[export]' in the clone"
        ) from None

    graph = Graph(checkpoint)
    model = _to_onnx(graph)
    for node in model.graph.node:
        del node.metadata_props[:]  # the source code of each node, which would be half of the file
    onnx.helper.set_model_props(model, metadata(checkpoint))
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    difference = max(_difference(checkpoint.generator, session, graph.example(*size)) for size in ((1, 1), (2, 40)))
    if not difference <= LARGEST_DIFFERENCE:
        raise VocoderError(
            f"the exported model's audio differs from torch's by {difference:.1e} of its peak, more than "
            f"{LARGEST_DIFFERENCE:g}; this release of torch, onnxscript or onnxruntime does not fit, try another"
        )
    with atomic_write(path) as partial:
        partial.write_bytes(data)
    return difference


def _to_onnx(graph: Graph) -> Any:
    """Convert a module to an onnx.ModelProto."""
    inputs = graph.example(2, 5)
    with _silence():
        program = torch.onnx.export(
            graph,
            kwargs=inputs,
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            dynamic_shapes={name: _DYNAMIC_AXES[name] for name in inputs},
            input_names=list(inputs),
            output_names=["audio"] if graph.f0_estimator is None else ["audio", "used_f0"],
        )
    assert program is not None
    return program.model_proto


def metadata(checkpoint: Checkpoint) -> dict[str, str]:
    """Describe an exported model for its metadata.

    Args:
        checkpoint: the model; it holds a generator.

    Returns:
        ``format``, ``mel_spec``, ``generator``, ``pitch`` and ``training`` as in the header of a checkpoint (see
        checkpoint.py); ``version`` of the inputs, outputs and metadata; ``opset``; ``sample_rate`` in Hz; and, in
        frames on each side, ``receptive_field`` of the generator, "null" for the whole utterance, and
        ``pitch_receptive_field`` of the F0 estimator.
    """
    generator = checkpoint.generator
    assert generator is not None
    described = {"name": generator_name(generator), "config": generator.config.model_dump(mode="json")}
    properties = {
        "format": "vocoders",
        "version": VERSION,
        "mel_spec": checkpoint.mel_config.model_dump_json(),
        "generator": json.dumps(described),
        "training": json.dumps(checkpoint.training),
        "opset": str(OPSET),
        "sample_rate": str(checkpoint.mel_config.sample_rate),
        "receptive_field": json.dumps(generator.receptive_field),
    }
    if generator.uses_f0 and checkpoint.f0_estimator is not None:
        properties["pitch"] = checkpoint.f0_estimator.config.model_dump_json()
        properties["pitch_receptive_field"] = str(checkpoint.f0_estimator.receptive_field)
    return properties


@contextmanager
def _silence() -> Iterator[None]:
    """Suppress the warnings and log lines of the exporter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _difference(generator: Generator, session: Any, inputs: dict[str, Tensor]) -> float:
    """Return the largest difference of ONNX Runtime's audio from torch's, as a fraction of its peak."""
    with torch.inference_mode():
        reference = generator(**inputs).numpy()
    audio = session.run(["audio"], {name: value.numpy() for name, value in inputs.items()})[0]
    return float(np.abs(audio - reference).max() / np.abs(reference).max())
