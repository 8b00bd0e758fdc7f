"""The table behind `Model.summary()`: layers, output shapes, parameter counts."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import dtypes, tree
from keraslite.layers.base.building import build_shapes
from keraslite.layers.base.layer import Layer
from keraslite.symbolic import KerasTensor, Node
from keraslite.utils.progress import readable_size
from keraslite.utils.tables import line_length_for, text_table


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
        line_length = line_length_for((108 if branches else 88) + 12 * show_trainable)

    rows = []
    for depth, operation, shape, inputs in _rows(model, nodes, expand_nested):
        cells = [_title(operation, depth), shape, _count(operation)]
        cells += [inputs] * branches
        rows.append([*cells, _trained(operation)] if show_trainable else cells)
    aligns = ["r" if h in right else "c" if h in center else "l" for h in heads]
    table = text_table(heads, rows, shares, aligns, line_length)
    return "\n".join([f'Model: "{model.name}"', table, *_totals(model)])


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
        shapes = _shapes_inside(model)
        for layer in _children(model):
            yield from _nested(layer, 0, shapes.get(id(layer)) or _output_shape(layer), "-", expand)
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
        yield from _nested(operation, 0, _node_shape(group[-1]), ", ".join(sources) or "-", expand)


def _nested(
    operation: Any, depth: int, shape: str, inputs: str, expand: bool
) -> Iterable[tuple[int, Any, str, str]]:
    yield depth, operation, shape, inputs
    if expand and isinstance(operation, Layer) and hasattr(operation, "layers"):
        shapes = _shapes_inside(operation)
        for child in _children(operation):
            known = shapes.get(id(child)) or _output_shape(child)
            yield from _nested(child, depth + 1, known, "-", expand)


def _children(model: Any) -> list[Any]:
    return model.layers if hasattr(model, "layers") else [x for _, x in model.own_layers()]


def _shapes_inside(model: Any) -> dict[int, str]:
    """Return the output shapes of the layers that a model calls, by their ids.

    A model without a graph is called on symbolic inputs, where it says on which.
    """
    nodes = [[node] for node in _nodes(model)] or _drawn(model)
    return {id(same[0].operation): _node_shape(*same) for same in nodes if same[0].outputs}


def _drawn(model: Any) -> list[tuple[Node, ...]]:
    """Return the calls inside of `call`, each for every symbolic input; none where it fails."""
    graphs = []
    for inputs in model.symbolic_inputs() if hasattr(model, "symbolic_inputs") else []:
        try:
            with backends.backend_scope(model.backend), backends.no_grad():
                outputs = model.call(inputs)
        except Exception:  # a `call` that needs values: the table says so and goes on
            return []
        nodes: dict[int, Node] = {}
        tensors = [x for x in tree.flatten(outputs) if isinstance(x, KerasTensor)]
        while tensors:
            node = tensors.pop().node
            if node is not None and id(node) not in nodes:
                nodes[id(node)] = node
                tensors.extend(node.inputs)
        graphs.append(list(nodes.values()))
    return list(zip(*graphs))


def _node_shape(*nodes: Node) -> str:
    """Return the output shapes of a call; what differs between several of it is None."""
    outputs = zip(*(node.outputs for node in nodes))
    shapes = [
        _shape(tuple(a[0] if len({*a}) == 1 else None for a in zip(*(x.shape for x in same))))
        for same in outputs
    ]
    return shapes[0] if len(shapes) == 1 else f"[{', '.join(shapes)}]"


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
