"""The table behind `Model.summary()`: layers, output shapes, parameter counts."""

import shutil
import textwrap
from collections.abc import Iterable
from typing import Any

import numpy as np

from keraslite import dtypes
from keraslite.layers.base.building import build_shapes
from keraslite.layers.base.layer import Layer
from keraslite.symbolic import Node
from keraslite.utils.progress import readable_size


def summary_table(
    model: Any,
    line_length: int | None = None,
    expand_nested: bool = False,
    show_trainable: bool = False,
) -> str:
    """A model's layers as a table with lines around it.

    Args:
        model: a model, built or not.
        line_length: the width in characters.
        expand_nested: whether the layers inside layers have rows too.
        show_trainable: whether a column tells what is trained.

    Returns:
        The text: a title, the table, and the totals.

    Example:
        >>> model = models.Sequential([layers.Input((2,)), layers.Dense(3, name="head")], name="m")
        >>> print(summary_table(model, 48))
        Model: "m"
        ┏━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━┳━━━━━━━━━━┓
        ┃ Layer (type)      ┃ Output Shape  ┃  Param # ┃
        ┡━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━╇━━━━━━━━━━┩
        │ head (Dense)      │ (None, 3)     │        9 │
        └───────────────────┴───────────────┴──────────┘
         Total params: 9 (36.00 B)
         Trainable params: 9 (36.00 B)
         Non-trainable params: 0 (0.00 B)
    """
    nodes = _nodes(model)
    branches = _branches(nodes)
    heads = ["Layer (type)", "Output Shape", "Param #"] + ["Connected to"] * branches
    shares = [0.3, 0.26, 0.18, 0.26] if branches else [0.45, 0.35, 0.2]
    if show_trainable:
        heads, shares = [*heads, "Trainable"], [*(s * 0.9 for s in shares), 0.1]
    right, center = {"Param #"}, {"Trainable"}
    if line_length is None:
        wanted = (108 if branches else 88) + 12 * show_trainable
        line_length = min(wanted, shutil.get_terminal_size((wanted + 4, 24)).columns - 4)
    widths = _widths(shares, line_length, heads)

    rows = []
    for depth, operation, shape, inputs in _rows(model, nodes, expand_nested):
        cells = [_title(operation, depth), shape, _count(operation)]
        cells += [inputs] * branches
        rows.append([*cells, _trained(operation)] if show_trainable else cells)
    aligns = ["r" if h in right else "c" if h in center else "l" for h in heads]
    return "\n".join(
        [f'Model: "{model.name}"', *_box(heads, rows, widths, aligns), *_totals(model)]
    )


# -- what stands in the rows ----------------------------------------------------------------------


def _nodes(model: Any) -> list[Node]:
    """Return the calls of a model with a graph; none for others."""
    return model.graph_nodes() if hasattr(model, "graph_nodes") else []


def _branches(nodes: list[Node]) -> bool:
    """Whether the calls are not simply one after the other."""
    operations = [id(n.operation) for n in nodes if isinstance(n.operation, Layer)]
    if len(set(operations)) < len(operations):
        return True
    last = None
    for node in nodes:
        before = {id(x.node) for x in node.inputs}
        if last is not None and before != {last}:
            return True
        last = id(node)
    return False


def _rows(model: Any, nodes: list[Node], expand: bool) -> Iterable[tuple[int, Any, str, str]]:
    """(depth, operation, output shape, connections) of each row."""
    if not nodes:
        for layer in _children(model):
            yield from _nested(layer, 0, _output_shape(layer), "-", expand)
        return
    calls: dict[int, list[Node]] = {}
    for node in nodes:
        calls.setdefault(id(node.operation), []).append(node)
    number = {id(n): i for group in calls.values() for i, n in enumerate(group)}
    for group in calls.values():
        operation = group[0].operation
        sources = [
            f"{_name(x.node.operation)}[{number.get(id(x.node), 0)}][{x.index}]"
            for node in group for x in node.inputs if x.node is not None
        ]  # fmt: skip
        shapes = [_shape(x.shape) for x in group[-1].outputs]
        shape = shapes[0] if len(shapes) == 1 else f"[{', '.join(shapes)}]"
        yield from _nested(operation, 0, shape, ", ".join(sources) or "-", expand)


def _nested(
    operation: Any, depth: int, shape: str, inputs: str, expand: bool
) -> Iterable[tuple[int, Any, str, str]]:
    yield depth, operation, shape, inputs
    if expand and isinstance(operation, Layer) and hasattr(operation, "layers"):
        shapes = {
            id(n.operation): _shape(n.outputs[0].shape) for n in _nodes(operation) if n.outputs
        }
        for child in _children(operation):
            known = shapes.get(id(child)) or _output_shape(child)
            yield from _nested(child, depth + 1, known, "-", expand)


def _children(model: Any) -> list[Any]:
    return model.layers if hasattr(model, "layers") else [x for _, x in model.own_layers()]


def _output_shape(layer: Any) -> str:
    """What a layer gives, worked out from the shapes that it was built with."""
    shapes = build_shapes(layer)
    try:
        if getattr(layer, "is_functional", False):
            found = layer.output_shape
        elif layer.built and shapes:
            found = layer.compute_output_shape(*shapes.values())
        else:
            return "?"
    except Exception:  # a layer that wants more than shapes: the table says so and goes on
        return "?"
    flat = [found] if _is_shape(found) else list(_leaves(found))
    texts = [_shape(s) for s in flat]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def _is_shape(x: Any) -> bool:
    return isinstance(x, tuple) and all(d is None or isinstance(d, int) for d in x)


def _leaves(x: Any) -> Iterable[Any]:
    if _is_shape(x):
        yield x
    else:
        for part in x.values() if isinstance(x, dict) else x:
            yield from _leaves(part)


def _shape(shape: tuple) -> str:
    return f"({', '.join(map(str, shape))})"


def _name(operation: Any) -> str:
    return operation.name if isinstance(operation, Layer) else operation.op.name


def _title(operation: Any, depth: int) -> str:
    kind = type(operation).__name__ if isinstance(operation, Layer) else "op"
    return ("   " * depth + "└ " if depth else "") + f"{_name(operation)} ({kind})"


def _count(operation: Any) -> str:
    if not isinstance(operation, Layer):
        return "0"
    return f"{operation.count_params():,}" if operation.built else "0 (unbuilt)"


def _trained(operation: Any) -> str:
    if not isinstance(operation, Layer) or not operation.weights:
        return "-"
    return "Y" if operation.trainable else "N"


def _totals(model: Any) -> list[str]:
    optimizers = [o for o in getattr(model, "all_optimizers", list)() if o.built]
    slots = [v for o in optimizers for v in o.variables]
    trained, frozen = model.trainable_variables, model.non_trainable_weights
    lines = [("Total", [*trained, *frozen, *slots]), ("Trainable", trained)]
    lines += [("Non-trainable", frozen)] + ([("Optimizer", slots)] if optimizers else [])
    return [f" {name} params: {_size(variables)}" for name, variables in lines]


def _size(variables: list[Any]) -> str:
    counts = [int(np.prod(v.shape, dtype=np.int64)) for v in variables]
    sizes = [n * dtypes.to_numpy(v.dtype).itemsize for n, v in zip(counts, variables, strict=True)]
    return f"{sum(counts):,} ({readable_size(sum(sizes))})"


# -- how it is drawn ------------------------------------------------------------------------------


def _widths(shares: list[float], line_length: int, heads: list[str]) -> list[int]:
    """The widths of the columns' texts: each has a blank on both sides, and lines stand between."""
    room = line_length - 3 * len(shares) - 1
    if room < 6 * len(shares):
        raise ValueError(f"A line of {line_length} characters is too short for a summary.")
    ends = [round(room * sum(shares[: i + 1])) for i in range(len(shares))]
    widths = [end - begin for begin, end in zip([0, *ends], ends)]
    for i, head in enumerate(heads):  # no heading is broken where another column has room
        missing = len(head) - widths[i]
        if missing > 0 and widths[0] - missing >= len(heads[0]):
            widths[0], widths[i] = widths[0] - missing, len(head)
    return widths


def _box(
    heads: list[str], rows: list[list[str]], widths: list[int], aligns: list[str]
) -> Iterable[str]:
    def rule(left: str, line: str, cross: str, right: str) -> str:
        return left + cross.join(line * (w + 2) for w in widths) + right

    yield rule("┏", "━", "┳", "┓")
    yield from _cells(heads, widths, ["l" if a == "c" else a for a in aligns], "┃")
    yield rule("┡", "━", "╇", "┩")
    for i, row in enumerate(rows):
        if i:
            yield rule("├", "─", "┼", "┤")
        yield from _cells(row, widths, aligns, "│")
    yield rule("└", "─", "┴", "┘")


def _cells(texts: list[str], widths: list[int], aligns: list[str], line: str) -> Iterable[str]:
    put = {"l": str.ljust, "r": str.rjust, "c": str.center}
    columns = [_wrap(t, w) for t, w in zip(texts, widths, strict=True)]
    for i in range(max(map(len, columns))):
        parts = [
            put[a](c[i] if i < len(c) else "", w)
            for c, w, a in zip(columns, widths, aligns, strict=True)
        ]
        yield f"{line} " + f" {line} ".join(parts) + f" {line}"


def _wrap(text: str, width: int) -> list[str]:
    indent = " " * (len(text) - len(text.lstrip()))
    return textwrap.wrap(text.lstrip(), width, initial_indent=indent, subsequent_indent=indent)
