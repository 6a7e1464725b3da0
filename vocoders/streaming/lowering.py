"""Give an exported graph its state: what one run keeps for the next.

Each mark of a traced graph becomes ONNX operators that join kept and new columns. All kept values pass from run to run
in one tensor per type:

    state, state_f64            (batch, values); by default empty, (1, 0): the start of an utterance
    last                        int64 (1,): 1, the default, if the utterance ends with this run, else 0
    next_state, next_state_f64  state of the next run

The defaults make one run of a whole utterance. A stream's first run needs lookahead + 1 frames; then no signal is
empty, and the state has the same size after every run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from vocoders.errors import VocoderError
from vocoders.streaming.builder import STATES, Builder
from vocoders.streaming.marks import OPERATOR, Mark
from vocoders.streaming.states import KINDS
from vocoders.streaming.waiting import Extend, Fit, Wait

if TYPE_CHECKING:
    import onnx

LOWER: dict[str, Callable[..., None]] = {kind.__name__: kind.lower for kind in KINDS}
LOWER |= {"Wait": Wait.lower, "Extend": Extend.lower, "Fit": Fit.lower}
_ARITHMETIC = ("Add", "Cast", "Concat", "Div", "Max", "Min", "Mul", "Reshape", "Squeeze", "Sub", "Unsqueeze")


def add_state(model: onnx.ModelProto) -> None:
    """Replace the marks of a graph, in place.

    Raises VocoderError when the graph computes with the length of the mel, which in a stream is not that of the
    signals.
    """
    import onnx

    graph = model.graph
    signals = {value.name for value in graph.input if value.type.tensor_type.shape.dim[2].dim_param}
    marks = _marks(graph)
    build = Builder(graph, marks.values())
    for node in graph.node:
        mark = marks.get(node.output[0])
        if mark is None:
            build.nodes.append(node)
        else:
            LOWER[mark.kind](build, mark, node.output[0], *node.input)
    _localize(build, signals)
    for dtype, name in STATES.items():
        if build.kept[dtype]:
            build.node("Concat", *build.kept[dtype], *build.waited[dtype], axis=1, output=f"next_{name}")
            graph.input.append(onnx.helper.make_tensor_value_info(name, dtype, ["state_batch", f"{name}_values"]))
            graph.output.append(
                onnx.helper.make_tensor_value_info(f"next_{name}", dtype, ["batch", f"next_{name}_values"])
            )
            empty = np.zeros((1, 0), onnx.helper.tensor_dtype_to_np_dtype(dtype))
            graph.initializer.append(onnx.numpy_helper.from_array(empty, name))
    graph.input.append(onnx.helper.make_tensor_value_info(build.last, onnx.TensorProto.INT64, [1]))
    graph.initializer.append(onnx.numpy_helper.from_array(np.ones(1, np.int64), build.last))
    for value, length in zip(graph.output, ("final_samples", "final_frames"), strict=False):
        if not value.name.startswith("next_"):
            value.type.tensor_type.shape.dim[2].dim_param = length
    del graph.value_info[:]  # it holds lengths of whole utterances
    _prune(graph, [*build.first_nodes, *build.nodes])
    standard = [entry for entry in model.opset_import if not entry.domain]
    del model.opset_import[:]
    model.opset_import.extend(standard)  # drops the domain of the marks
    if any(_is_length(node, signals) for node in graph.node):
        raise VocoderError("its graph computes with the length of the whole utterance")


def _marks(graph: onnx.GraphProto) -> dict[str, Mark]:
    """Read the marks by their outputs, and save copies of long signals.

    A window moves before a Transpose, as ONNX Runtime fuses Transpose and Conv. A delay of a signal that has a window
    becomes part of that.
    """
    import onnx

    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    marks: dict[str, Mark] = {}
    transposed: dict[str, onnx.NodeProto] = {}
    windows: dict[tuple[str, int], str] = {}
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        graph.node.append(node)
        if node.op_type == "Transpose":
            transposed[node.output[0]] = node
        if node.op_type != OPERATOR:
            continue
        node = graph.node[-1]
        mark = Mark.read(node, types[node.output[0]])
        is_window = mark.kind == "Window" and not mark.mode
        before = transposed.get(node.input[0])
        if is_window and before is not None:
            perm = list(before.attribute[0].ints)
            mark, out = mark.before_transpose(perm), node.output[0]
            node.input[0], node.output[0] = before.input[0], f"{out}_before"
            graph.node.append(onnx.helper.make_node("Transpose", [f"{out}_before"], [out], perm=perm))
        place = node.input[0], mark.axis
        if is_window:
            windows[place] = node.output[0]
        elif mark.kind == "Delay" and place in windows and marks[windows[place]].right == mark.columns:
            window = marks[windows[place]]
            node.input[0] = windows[place]
            mark = mark._replace(kept=None, left=window.left, right=window.right)
        marks[node.output[0]] = mark
    return marks


def _localize(build: Builder, signals: set[str]) -> None:
    """Let each Reshape take the length of its input instead of the mel's."""
    import onnx

    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in build.graph.initializer}
    made = {output: node for node in build.nodes for output in node.output}
    lengths: set[str] = set()  # whatever depends on an input's length, except signals
    nodes, build.nodes = build.nodes, []
    for node in nodes:
        values = node.input[:1] if node.op_type == "Reshape" else node.input
        if _is_length(node, signals) or (node.op_type in _ARITHMETIC and lengths.intersection(values)):
            lengths.update(node.output)
        elif node.op_type == "Reshape" and node.input[1] in lengths and made[node.input[1]].op_type == "Concat":
            sizes = made[node.input[1]].input
            if sum(name in lengths for name in sizes) == 1:
                free = [
                    build.batch if name in constants and constants[name].tolist() == [-1] else name for name in sizes
                ]
                free = [build.constant([-1]) if name in lengths else name for name in free]
                node.input[1] = build.node("Concat", *free, output=f"{node.output[0]}_sizes", axis=0)
        build.nodes.append(node)


def _is_length(node: onnx.NodeProto, signals: set[str]) -> bool:
    """Whether a node returns an input's length."""
    if node.op_type != "Shape" or node.input[0] not in signals:
        return False
    return not any(attribute.name == "end" and attribute.i == 1 for attribute in node.attribute)


def _prune(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Set a graph's nodes, without nodes and constants that no output needs."""
    needed, kept = {value.name for value in graph.output}, []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    tensors = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(tensors)
