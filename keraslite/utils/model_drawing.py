"""A model as a picture: `plot_model` by matplotlib, `model_to_dot` for Graphviz."""

import html
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from keraslite import tree
from keraslite.layers.input_layer import InputLayer
from keraslite.symbolic import KerasTensor, Node
from keraslite.utils.figures import finish, new_figure

_LINE, _LETTER = 0.17, 0.075  # the height of a line of text and the width of a letter, in inches
_GAP = 0.35  # between boxes
_TITLE, _BODY, _FROZEN, _EDGE = "#1f2937", "#ffffff", "#fee2e2", "#6b7280"


@dataclass
class Box:
    """A layer or an operation of a picture.

    Args:
        title: its name.
        lines: what is told of it.
        models: the names of the nested models that it is in, the outer one first.
        frozen: whether it is told to be not trainable.
    """

    title: str
    lines: list[str]
    models: tuple[str, ...] = ()
    frozen: bool = False


@dataclass
class Drawing:
    """The boxes of a model by their keys, and the edges between keys."""

    boxes: dict[int, Box] = field(default_factory=dict)
    edges: dict[tuple[int, int], None] = field(default_factory=dict)


def draw_model(model: Any, expand_nested: bool = False, **show: bool) -> Drawing:
    """Return the boxes and edges of a model; one box for a model without a graph.

    Args:
        model: a built model.
        expand_nested: whether the layers of models inside it are boxes of their own.
        show: `show_shapes`, `show_dtype`, `show_layer_names`, `show_layer_activations`,
            `show_trainable`.

    Raises:
        ValueError: the model is not built.

    >>> model = models.Sequential([layers.Input((2,)), layers.Dense(3), layers.ReLU()])
    >>> drawing = draw_model(model)
    >>> [box.title for box in drawing.boxes.values()], len(drawing.edges)
    (['Dense', 'ReLU'], 1)
    """
    if not model.built:
        raise ValueError(
            f"The model {model.name!r} is not built yet: call build(), or the model on a batch."
        )
    drawing = Drawing()
    if _has_graph(model):
        _add(drawing, model, (), expand_nested, show)
    else:
        drawing.boxes[id(model)] = _box(model, None, (), show)
    return drawing


def _has_graph(operation: Any) -> bool:
    return getattr(operation, "is_functional", False)


def _key(node: Node) -> int:
    """Return the key of the box of a call: one a layer, and one a call of an op."""
    return id(node.operation) if hasattr(node.operation, "note_call") else id(node)


def _add(
    drawing: Drawing, model: Any, models: tuple[str, ...], expand: bool, show: dict[str, bool]
) -> None:
    """Add the boxes of a model's calls and the edges between them."""
    nodes = model.graph_nodes()
    for node in nodes:
        if expand and _has_graph(node.operation):
            _add(drawing, node.operation, (*models, node.operation.name), expand, show)
        elif _key(node) not in drawing.boxes:
            drawing.boxes[_key(node)] = _box(node.operation, node, models, show)
    for node in nodes:
        for place, tensor in enumerate(node.inputs):
            for source in _sources(tensor, drawing, expand):
                for target in _targets(node, place, drawing, expand):
                    drawing.edges[source, target] = None


def _sources(tensor: KerasTensor, drawing: Drawing, expand: bool) -> Iterator[int]:
    """Yield the box that makes a tensor, inside a nested model where these are expanded."""
    node = tensor.node
    if node is None:
        return
    if expand and _has_graph(node.operation):
        yield from _sources(node.operation.outputs[tensor.index], drawing, expand)
    elif _key(node) in drawing.boxes:
        yield _key(node)


def _targets(node: Node, place: int, drawing: Drawing, expand: bool) -> Iterator[int]:
    """Yield the boxes that read an input of a call."""
    inner = node.operation
    if not (expand and _has_graph(inner)):
        yield _key(node)
        return
    tensor = inner.inputs[place]
    if tensor.node is not None and _key(tensor.node) in drawing.boxes:
        yield _key(tensor.node)
        return
    for reader in inner.graph_nodes():  # the input of a Sequential is no box
        for number, read in enumerate(reader.inputs):
            if read is tensor:
                yield from _targets(reader, number, drawing, expand)


def _box(operation: Any, node: Node | None, models: tuple[str, ...], show: dict[str, bool]) -> Box:
    """Return the box of a layer, or of an op."""
    is_layer = hasattr(operation, "note_call")
    kind = type(operation).__name__ if is_layer else getattr(operation, "__name__", "op")
    name = getattr(operation, "name", "")
    title = f"{name} ({kind})" if show.get("show_layer_names") and is_layer and name else kind
    lines = []
    activation = getattr(operation, "activation", None)
    if show.get("show_layer_activations") and activation is not None:
        text = getattr(activation, "name", None) or getattr(activation, "__name__", activation)
        lines.append(f"Activation: {text}")
    outputs = [] if node is None else node.outputs
    if show.get("show_shapes"):
        if not isinstance(operation, InputLayer):
            lines.append(f"Input shape: {_shapes([] if node is None else node.inputs)}")
        lines.append(f"Output shape: {_shapes(outputs)}")
    if show.get("show_dtype"):
        lines.append(f"Output dtype: {', '.join(x.dtype for x in outputs) or '?'}")
    frozen = False
    if show.get("show_trainable") and getattr(operation, "weights", None):
        frozen = not operation.trainable
        lines.append("Non-trainable" if frozen else "Trainable")
    return Box(title, lines, models, frozen)


def _shapes(tensors: list[KerasTensor]) -> str:
    return ", ".join(str(tuple(x.shape)) for x in tree.flatten(tensors)) or "?"


# -- Graphviz -------------------------------------------------------------------------------------


def model_to_dot(
    model: Any,
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = True,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: int = 200,
    subgraph: bool = False,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
    splines: str = "ortho",
    **kwargs: Any,
) -> Any:
    """Return a model as a graph of pydot, which Graphviz draws.

    Args:
        model: a built model.
        show_shapes: whether boxes tell shapes.
        show_dtype: whether they tell dtypes.
        show_layer_names: whether they tell the names of layers.
        rankdir: "TB" from top to bottom, or "LR" from left to right.
        expand_nested: whether the layers of models inside it are boxes of their own.
        dpi: dots per inch.
        subgraph: whether the result is a `pydot.Cluster`.
        show_layer_activations: whether boxes tell activations.
        show_trainable: whether they tell what is trained.
        splines: how Graphviz draws edges.
        kwargs: none.

    Returns:
        A `pydot.Dot`.

    Raises:
        ValueError: the model is not built, or an argument is unknown.
        ImportError: pydot is not installed.
    """
    _refuse(kwargs)
    drawing = draw_model(
        model, expand_nested, show_shapes=show_shapes, show_dtype=show_dtype,
        show_layer_names=show_layer_names, show_layer_activations=show_layer_activations,
        show_trainable=show_trainable,
    )  # fmt: skip
    try:
        import pydot
    except ImportError as error:
        raise ImportError(
            "You must install pydot (`pip install pydot`) for model_to_dot to work."
        ) from error
    if subgraph:
        graph = pydot.Cluster(model.name, label=model.name, style="dashed", labeljust="l")
    else:
        graph = pydot.Dot(rankdir=rankdir, concentrate=True, dpi=dpi, splines=splines)
    clusters: dict[tuple[str, ...], Any] = {(): graph}
    for key, box in drawing.boxes.items():
        for depth in range(1, len(box.models) + 1):
            path = box.models[:depth]
            if path not in clusters:
                cluster = pydot.Cluster("/".join(path), label=path[-1], style="dashed")
                clusters[path] = cluster
                clusters[path[:-1]].add_subgraph(cluster)
        clusters[box.models].add_node(pydot.Node(str(key), shape="plaintext", label=_table(box)))
    for source, target in drawing.edges:
        graph.add_edge(pydot.Edge(str(source), str(target), penwidth="2"))
    return graph


def _table(box: Box) -> str:
    """Return the label of a box as Graphviz reads tables."""
    head = f'<td bgcolor="{_TITLE}"><font color="white"><b>{html.escape(box.title)}</b></font></td>'
    color = _FROZEN if box.frozen else _BODY
    rows = [head, *(f'<td bgcolor="{color}">{html.escape(line)}</td>' for line in box.lines)]
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<<table border="0" cellborder="1" cellspacing="0" cellpadding="8">{body}</table>>'


def _refuse(kwargs: dict[str, Any]) -> None:
    if kwargs:
        raise ValueError(f"Unrecognized keyword arguments: {sorted(kwargs)}.")


# -- matplotlib -----------------------------------------------------------------------------------


def plot_model(
    model: Any,
    to_file: Any = "model.png",
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = False,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: int = 200,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
    splines: str = "ortho",
    **kwargs: Any,
) -> Any:
    """Write a picture of a model: its layers as boxes, from the inputs to the outputs.

    It is drawn by matplotlib; Graphviz is not needed.

    Args:
        model: a built model.
        to_file: the file, whose ending says its format: .png, .svg, .pdf, .jpg; .png by default.
            None returns the figure.
        show_shapes: whether boxes tell shapes.
        show_dtype: whether they tell dtypes.
        show_layer_names: whether they tell the names of layers.
        rankdir: "TB" from top to bottom, or "LR" from left to right.
        expand_nested: whether the layers of models inside it are boxes of their own.
        dpi: dots per inch.
        show_layer_activations: whether boxes tell activations.
        show_trainable: whether they tell what is trained.
        splines: kept for Keras code.
        kwargs: none.

    Returns:
        In a notebook the picture, which it displays; else None.

    Raises:
        ValueError: the model is not built, or an argument is unknown.
        ImportError: matplotlib is not installed.

    >>> model = models.Sequential([layers.Input((2,)), layers.Dense(3), layers.ReLU()])
    >>> figure = plot_model(model, None)
    >>> [text.get_text() for text in figure.axes[0].texts if text.get_text()]
    ['Dense', 'ReLU']
    """
    _refuse(kwargs)
    if rankdir not in ("TB", "LR"):
        raise ValueError(f"rankdir must be 'TB' or 'LR', got {rankdir!r}.")
    drawing = draw_model(
        model, expand_nested, show_shapes=show_shapes, show_dtype=show_dtype,
        show_layer_names=show_layer_names, show_layer_activations=show_layer_activations,
        show_trainable=show_trainable,
    )  # fmt: skip
    figure = _figure(drawing, rankdir == "LR")
    if to_file is None:
        return figure
    path = os.fspath(to_file)
    ending = os.path.splitext(path)[1][1:].lower() or "png"
    finish(figure, path, shown=False, dpi=dpi, format=ending)
    if "IPython" not in sys.modules or ending == "pdf":
        return None
    from IPython import display

    if ending == "svg":
        return display.SVG(filename=path)
    return display.Image(filename=path, format=ending)


def depths(drawing: Drawing) -> dict[int, int]:
    """Return the depth of each box: the edges on the longest way to it.

    Args:
        drawing: the boxes and edges.

    >>> depths(Drawing({1: None, 2: None, 3: None}, {(1, 2): None, (2, 3): None, (1, 3): None}))
    {1: 0, 2: 1, 3: 2}
    """
    level = dict.fromkeys(drawing.boxes, 0)
    for _ in drawing.boxes:  # a layer that is called twice may make a circle: it ends all the same
        changed = False
        for source, target in drawing.edges:
            if source != target and level[target] <= level[source] < len(level) - 1:
                level[target], changed = level[source] + 1, True
        if not changed:
            break
    return level


def _title(box: Box) -> str:
    return "/".join([*box.models, box.title])


def _size(box: Box | None) -> tuple[float, float]:
    """Return the width and height of a box in inches; None is an edge that passes by."""
    if box is None:
        return 0.1, 0.0
    letters = max(len(_title(box)) + 2, *map(len, box.lines or [""]))
    return letters * _LETTER + 0.2, (1 + len(box.lines)) * _LINE + 0.16


def _layout(drawing: Drawing, sideways: bool) -> tuple[dict, dict]:
    """Return the middle of each box in inches, and the points that each edge passes.

    Boxes of one depth are side by side, each below the middle of those that it reads (Sugiyama,
    Tagawa, Toda: "Methods for Visual Understanding of Hierarchical System Structures", 1981); an
    edge over several depths has a free place in each between.
    """
    level = depths(drawing)
    ranks: list[list[Any]] = [[] for _ in range(max(level.values(), default=-1) + 1)]
    parents: dict[Any, list[Any]] = {key: [] for key in drawing.boxes}
    for key in drawing.boxes:
        ranks[level[key]].append(key)
    passed: dict[tuple[int, int], list[Any]] = {}
    for source, target in drawing.edges:
        chain = [(source, target, depth) for depth in range(level[source] + 1, level[target])]
        for before, key in zip([source, *chain], chain):
            ranks[key[2]].append(key)
            parents[key] = [before]
        parents[target].append(chain[-1] if chain else source)
        passed[source, target] = chain
    places: dict[Any, tuple[float, float]] = {}
    along = 0.0
    for rank in ranks:
        sizes = {key: _size(drawing.boxes.get(key)) for key in rank}
        thickness = max(size[not sideways] for size in sizes.values())
        means = {}
        for key in rank:
            above = [places[parent][0] for parent in parents[key] if parent in places] or [0.0]
            means[key] = sum(above) / len(above)
        rank.sort(key=means.__getitem__)
        at = -sum(size[sideways] + _GAP for size in sizes.values()) / 2
        for key in rank:
            half = (sizes[key][sideways] + _GAP) / 2
            places[key] = (at + half, along + thickness / 2)
            at += 2 * half
        along += thickness + _GAP
    if sideways:
        places = {key: (y, x) for key, (x, y) in places.items()}
    routes = {edge: [places[key] for key in chain] for edge, chain in passed.items()}
    return {key: places[key] for key in drawing.boxes}, routes


def _figure(drawing: Drawing, sideways: bool) -> Any:
    """Return the figure of boxes and edges."""
    new_figure(1, 1)  # its error, where matplotlib is missing
    from matplotlib.patches import Rectangle

    places, routes = _layout(drawing, sideways)
    corners = {}  # left, top, width, height
    for key, (x, y) in places.items():
        width, height = _size(drawing.boxes[key])
        corners[key] = (x - width / 2, y - height / 2, width, height)
    rectangles = [*corners.values(), *((*point, 0, 0) for way in routes.values() for point in way)]
    left, top = (min(c[i] for c in rectangles) - _GAP for i in (0, 1))
    right, bottom = (max(c[i] + c[i + 2] for c in rectangles) + _GAP for i in (0, 1))
    figure = new_figure(right - left, bottom - top)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.axis("off")
    arrow = {"arrowstyle": "-|>", "color": _EDGE, "shrinkA": 0, "shrinkB": 0}
    for (source, target), way in routes.items():
        (x1, y1, w1, h1), (x2, y2, w2, h2) = corners[source], corners[target]
        start = (x1 + w1, y1 + h1 / 2) if sideways else (x1 + w1 / 2, y1 + h1)
        end = (x2, y2 + h2 / 2) if sideways else (x2 + w2 / 2, y2)
        points = [start, *way]
        axes.plot(*zip(*points, strict=True), color=_EDGE, linewidth=1)
        axes.annotate("", end, points[-1], arrowprops=arrow)
    for key, box in drawing.boxes.items():
        x, y, width, height = corners[key]
        color = _FROZEN if box.frozen else _BODY
        axes.add_patch(Rectangle((x, y), width, height, facecolor=color, edgecolor=_TITLE))
        axes.add_patch(Rectangle((x, y), width, _LINE + 0.08, facecolor=_TITLE))
        style = {"family": "monospace", "fontsize": 8, "va": "center", "ha": "center"}
        axes.text(x + width / 2, y + 0.125, _title(box), color="white", weight="bold", **style)
        for i, line in enumerate(box.lines):
            axes.text(x + width / 2, y + 0.2 + (i + 0.75) * _LINE, line, **style)
    return figure
