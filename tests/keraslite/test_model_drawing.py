"""Pictures of models: what is drawn, where, and as Graphviz gets it."""

import sys

import keras
import numpy as np
import pytest

import keraslite
from keraslite import utils
from keraslite.utils.model_drawing import Drawing, depths, draw_model


def network(lib):
    """Two inputs, a nested model, a layer that is called twice and a long edge."""
    layers, models = lib.layers, lib.models
    inner = models.Sequential(
        [
            layers.Input((8,)),
            layers.Dense(4, activation="relu", name="small"),
            layers.Dropout(0.1, name="dropout"),
        ],
        name="inner",
    )
    first, second = layers.Input((8,), name="first"), layers.Input((8,), name="second")
    shared = layers.Dense(8, name="shared")
    x, y = inner(shared(first)), shared(second)
    y = layers.Dense(4, name="beside")(y)
    added = layers.Add(name="added")([x, y])
    both = layers.Concatenate(name="both")([lib.ops.relu(added), x])
    inner.layers[0].trainable = False
    return models.Model([first, second], layers.Dense(2, name="head")(both))


@pytest.fixture(scope="module")
def model():
    with keraslite.use_backend("numpy"):
        return network(keraslite)


def titles(drawing: Drawing) -> tuple[set, set]:
    boxes = drawing.boxes
    names = {key: box.title.partition(" ")[0] for key, box in boxes.items()}
    return set(names.values()), {(names[a], names[b]) for a, b in drawing.edges}


EDGES = {
    ("first", "shared"), ("second", "shared"), ("shared", "inner"), ("shared", "beside"),
    ("inner", "added"), ("beside", "added"), ("added", "relu"), ("relu", "both"),
    ("inner", "both"), ("both", "head"),
}  # fmt: skip


def test_calls_become_boxes_and_edges(model):
    boxes, edges = titles(draw_model(model, show_layer_names=True))
    assert edges == EDGES
    assert boxes == {name for edge in EDGES for name in edge}
    opened, edges = titles(draw_model(model, expand_nested=True, show_layer_names=True))
    assert opened == boxes - {"inner"} | {"small", "dropout"}
    assert {e for e in edges if {"small", "dropout"} & set(e)} == {
        ("shared", "small"), ("small", "dropout"), ("dropout", "added"), ("dropout", "both"),
    }  # fmt: skip


def test_boxes_tell_what_is_asked_for(model):
    show = {f"show_{name}": True for name in ("shapes", "dtype", "layer_activations", "trainable")}
    lines = {
        box.title: (box.lines, box.models, box.frozen)
        for box in draw_model(
            model, expand_nested=True, show_layer_names=True, **show
        ).boxes.values()
    }
    assert lines["small (Dense)"] == (
        ["Activation: relu", "Input shape: (None, 8)", "Output shape: (None, 4)",
         "Output dtype: float32", "Non-trainable"], ("inner",), True,
    )  # fmt: skip
    assert lines["first (InputLayer)"][0] == ["Output shape: (None, 8)", "Output dtype: float32"]
    assert lines["added (Add)"][0][0] == "Input shape: (None, 4), (None, 4)"


def test_boxes_stand_below_those_that_they_read(model):
    for rankdir, axis, sign in (("TB", 1, 1), ("LR", 0, 1)):
        figure = utils.plot_model(
            model, None, rankdir=rankdir, show_layer_names=True, show_shapes=True
        )
        axes = figure.axes[0]
        rectangles = axes.patches[::2]  # the frame of each box, before its title
        places = {
            text.get_text().partition(" ")[0]: text.get_position()
            for text in axes.texts if text.get_weight() == "bold"
        }  # fmt: skip
        assert places.keys() == {name for edge in EDGES for name in edge}
        for source, target in EDGES:
            assert sign * places[source][axis] < sign * places[target][axis]
        boxes = [
            (*r.get_xy(), r.get_x() + r.get_width(), r.get_y() + r.get_height()) for r in rectangles
        ]
        for i, (left, top, right, bottom) in enumerate(boxes):
            for x1, y1, x2, y2 in boxes[:i]:
                assert right <= x1 or x2 <= left or bottom <= y1 or y2 <= top


def test_pictures_are_written(model, tmp_path):
    for name, start in (
        ("a.png", b"\x89PNG"),
        ("b.svg", b"<?xml"),
        ("c.pdf", b"%PDF"),
        ("d", b"\x89PNG"),
    ):
        utils.plot_model(model, tmp_path / name, dpi=40)
        assert (tmp_path / name).read_bytes().startswith(start)
    layer = keraslite.layers.Dense(2)

    class Mine(keraslite.Model):
        def __init__(self):
            super().__init__()
            self.head = layer

        def call(self, x):
            return self.head(x)

    mine = Mine()
    with pytest.raises(ValueError, match="is not built yet"):
        utils.plot_model(mine, None)
    mine(np.ones((1, 3)))
    assert titles(draw_model(mine)) == ({"Mine"}, set())
    with pytest.raises(ValueError, match="rankdir must be"):
        utils.plot_model(model, None, rankdir="BT")
    with pytest.raises(ValueError, match="Unrecognized keyword arguments: .*layer_range"):
        utils.plot_model(model, None, layer_range=("a", "b"))


def test_circles_end():
    drawing = Drawing({1: None, 2: None}, {(1, 2): None, (2, 1): None, (2, 2): None})
    assert set(depths(drawing)) == {1, 2}


def test_a_missing_pydot_is_told(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydot", None)
    with pytest.raises(ImportError, match="You must install pydot"):
        utils.model_to_dot(model)


@pytest.mark.parametrize("expand", [False, True])
def test_graphviz_gets_the_graph_of_keras(model, expand):
    pytest.importorskip("pydot")

    def named(graph, lib):
        nodes = list(graph.get_nodes())
        for cluster in graph.get_subgraphs():
            nodes += cluster.get_nodes()
        edges = list(graph.get_edges())
        for cluster in graph.get_subgraphs():
            edges += cluster.get_edges()
        names = {}
        for node in nodes:
            key = node.get_name().strip('"')
            label = node.get_label() or ""
            name = label.partition("<b>")[2].partition("<")[0].partition(" ")[0]
            if name:
                names[key] = "relu" if name.startswith("relu") else name
        pairs = {
            (names.get(e.get_source().strip('"')), names.get(e.get_destination().strip('"')))
            for e in edges
        }
        return set(names.values()), pairs

    ours = named(utils.model_to_dot(model, expand_nested=expand, show_shapes=True), keraslite)
    theirs = named(keras.utils.model_to_dot(network(keras), expand_nested=expand), keras)
    assert ours == theirs
    cluster = utils.model_to_dot(model, subgraph=True)
    assert cluster.get_label() == model.name
