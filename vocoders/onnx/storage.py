"""Store the weights of an exported model in the shapes of their use, and in fewer bytes.

Weights become constants of a smaller type and a cast, which ONNX Runtime does once, when it opens the model.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import onnx

Weights = Literal["float32", "float16"]

_STORED = "_stored"  # suffix of the names of stored weights
_SMALLEST = 256  # numbers; in smaller weights a cast would cost what it saves


def fold_unsqueezes(model: onnx.ModelProto) -> None:
    """Store weights with the axes that an Unsqueeze adds, in place, as ONNX Runtime's quantize_dynamic needs."""
    import onnx

    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        weight, axes = (tensors.get(name) for name in [*node.input, "", ""][:2])
        if node.op_type != "Unsqueeze" or weight is None or axes is None or uses[weight.name] > 1:
            graph.node.append(node)
            continue
        shape = tuple(onnx.numpy_helper.to_array(axes).tolist())
        values = np.expand_dims(onnx.numpy_helper.to_array(weight), shape)
        weight.CopyFrom(onnx.numpy_helper.from_array(values, node.output[0]))


def store_weights(model: onnx.ModelProto, weights: Weights) -> None:
    """Store the weights of a model in fewer bytes, in place.

    float64 weights that are exact in float32, as the F0 estimator's are, become float32 and are never rounded, because
    an error of F0 adds up in the phase. "float16" rounds the others to 11 bits.
    """
    import onnx

    casts = []
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        stored = _stored(values, weights)
        if values.size < _SMALLEST or stored.dtype == values.dtype or tensor.name.endswith(_STORED):
            continue
        name, original = tensor.name, tensor.data_type
        tensor.CopyFrom(onnx.numpy_helper.from_array(stored, f"{name}{_STORED}"))
        casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], to=original))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])


def _stored(values: np.ndarray, weights: Weights) -> np.ndarray:
    if values.dtype == np.float64:
        smaller = values.astype(np.float32)
        return smaller if np.array_equal(smaller, values) else values
    if values.dtype == np.float32 and weights == "float16" and np.abs(values).max(initial=0) < 65504:
        return values.astype(np.float16)
    return values
