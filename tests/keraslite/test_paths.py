"""Paths of variables: the names of the layers that are built or called around them."""

import keras
import numpy as np
import pytest

import keraslite
from keraslite import layers, models, saving

X = np.ones((2, 3), "float32")


def classes(api):
    """Return layers written over an API: the installed Keras's or ours."""

    class Inner(api.layers.Layer):
        def build(self, input_shape):
            self.v = self.add_weight(shape=(), name="v")

        def call(self, x):
            return x * self.v

    class Outer(api.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.inner = Inner(name="in")
            self.w = self.add_weight(shape=(), name="w")

        def call(self, x):
            return self.inner(x)

    class Block(api.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.first = Outer(name="first")

        def build(self, input_shape):
            self.second = Inner(name="second")
            self.second.build(input_shape)
            self.z = self.add_weight(shape=(), name="z")
            self.own = api.Variable(1.0, name="own")
            self.seeds = api.random.SeedGenerator(1, name="seeds")

        def call(self, x):
            return self.second(self.first(x))

    class Net(api.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = api.layers.Dense(2, name="dense")
            self.tail = api.Sequential([api.layers.Dense(3, name="last")], name="tail")

        def call(self, x):
            return self.tail(self.dense(x))

    return Outer, Block, Net


def outer(api):
    return classes(api)[0](name="out")


def block(api):
    return classes(api)[1](name="block")


def subclass(api):
    return classes(api)[2](name="net")


def functional(api):
    i = api.Input((3,))
    return api.Model(i, api.layers.Dense(2, name="d")(block(api)(i)), name="model")


def sequence(api):
    return api.Sequential([api.layers.Dense(2, name="d"), outer(api)], name="seq")


def sequence_of_known_shape(api):
    return api.Sequential([api.Input((3,)), api.layers.Dense(3, name="d"), outer(api)], name="seq")


def sequence_in_a_sequence(api):
    inner = sequence_of_known_shape(api)
    return api.Sequential([api.Input((3,)), inner, api.layers.Dense(2, name="d")], name="around")


def unbuilt_sequence_in_a_graph(api):
    i = api.Input((3,))
    return api.Model(i, sequence(api)(i))


def dense_with_lora(api):
    model = subclass(api)
    model(X)
    model.dense.enable_lora(2)
    return model


def below_a_scope(api):
    layer = block(api)
    with api.name_scope("scope"):
        layer(X)
    return layer


CASES = [outer, block, subclass, functional, sequence, sequence_of_known_shape,
         sequence_in_a_sequence, unbuilt_sequence_in_a_graph, dense_with_lora, below_a_scope]  # fmt: skip


@pytest.mark.parametrize("make", CASES)
def test_paths_are_those_of_keras(backend, make):
    ours, theirs = make(keraslite), make(keras)
    ours(X), theirs(X)
    assert [v.path for v in ours.variables] == [v.path for v in theirs.variables]


def test_a_layer_knows_its_path_once_it_is_built(backend):
    layer = block(keraslite)
    assert layer.path is None
    layer(X)
    assert [x.path for x in layer.flatten_layers()] == [
        "block", "block/first", "block/first/in", "block/second",
    ]  # fmt: skip


def test_a_scope_inside_a_call_stands_between_the_layers(backend):
    class Scoped(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = layers.Dense(2, name="dense", use_bias=False)

        def build(self, input_shape):
            with keraslite.name_scope("build"):
                self.v = self.add_weight(shape=(), name="v")

        def call(self, x):
            with keraslite.name_scope("call"):
                return self.dense(x)

    layer = Scoped(name="scoped")
    layer(X)
    assert [v.path for v in layer.weights] == ["scoped/build/v", "scoped/call/dense/kernel"]


def test_a_part_that_is_replaced_is_found_below_its_layer(backend):
    layer = outer(keraslite)
    layer(X)
    layer.inner = layers.Dense(1, name="new", use_bias=False)
    layer(X)
    assert [v.path for v in layer.weights] == ["out/w", "out/new/kernel"]


def test_a_call_that_fails_leaves_no_scope_open(backend):
    class Failing(layers.Layer):
        def call(self, x):
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        Failing()(X)
    assert outer(keraslite).w.path == "out/w"


def test_paths_do_not_change_what_files_call_the_weights(backend, tmp_path):
    model = subclass(keraslite)
    model(X)
    model.save_weights(tmp_path / "w.safetensors")
    names = list(saving.safetensors.open_safetensors(tmp_path / "w.safetensors"))
    assert sorted(names) == [
        "dense/bias", "dense/kernel", "tail/last/bias", "tail/last/kernel",
    ]  # fmt: skip
    assert isinstance(model, models.Model)
