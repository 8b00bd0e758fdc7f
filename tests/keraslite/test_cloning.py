"""Clones of models: other layers, other inputs, other calls."""

import numpy as np
import pytest
from compare import assert_close

import keraslite
from keraslite import backend as backends
from keraslite import layers, models, ops

X = np.random.default_rng(3).normal(size=(5, 4)).astype("float32")


def numbers(x):
    return keraslite.tree.map_structure(backends.to_numpy, x)


def functional():
    i = layers.Input((4,), name="rows")
    shared = layers.Dense(4, name="shared")
    x = ops.relu(shared(shared(i))) + 1.0
    return models.Model(i, layers.Dense(2, name="out")(x), name="graph")


def sequential():
    return models.Sequential(
        [layers.Input((4,), name="rows"), layers.Dense(4, name="first"), layers.Dense(2)]
    )


def again(layer):
    return layer.__class__.from_config(layer.get_config())


@pytest.mark.parametrize("make", [functional, sequential])
def test_a_clone_has_layers_and_weights_of_its_own(backend, make):
    model = make()
    for clone in (
        models.clone_model(model),
        models.clone_model(model, clone_function=again),
        models.clone_model(model, input_tensors=layers.Input((4,), name="new")),
        models.clone_model(model, recursive=True),
    ):
        assert type(clone) is type(model) and clone.name == model.name
        assert [x.name for x in clone.weights] == [x.name for x in model.weights]
        assert all(a is not b for a, b in zip(clone.layers, model.layers, strict=True))
        clone.set_weights(model.get_weights())
        assert_close(numbers(clone(X)), numbers(model(X)))
    names = [models.clone_model(model, input_tensors=t).inputs[0].name
             for t in (None, layers.Input((4,), name="new"), [layers.Input((4,), name="new")])
             if t is None or make is sequential or not isinstance(t, list)]  # fmt: skip
    assert names == ["rows", "new", "new"][: len(names)]


@pytest.mark.parametrize("make", [functional, sequential])
def test_clone_function_gives_the_layers_of_a_clone(backend, make):
    asked = []

    def wider(layer):
        asked.append(layer.name)
        return layers.Dense(7) if layer.name in ("shared", "first") else again(layer)

    model = make()
    if make is functional:  # the shared layer is called on its own outputs
        model = models.Model(model.input, model.get_layer("out")(model.get_layer("shared").output))
    clone = models.clone_model(model, clone_function=wider)
    assert len(asked) == 2 and clone.layers[-2].units == 7
    assert clone.weights[0].shape == (4, 7) and clone.output_shape == (None, 2)


def test_the_same_layers_may_be_called_in_another_way(backend):
    def call(layer, *args, **kwargs):
        y = layer(*args, **kwargs)
        called.append(layer.name)
        return ops.tanh(y) if isinstance(layer, layers.Dense) else y

    called = []
    model = functional()
    clone = models.clone_model(model, clone_function=lambda layer: layer, call_function=call)
    assert called == ["shared", "shared", "relu", "add", "out"]
    shared, out = model.get_layer("shared"), model.get_layer("out")
    assert clone.get_layer("shared") is shared
    want = ops.tanh(out(ops.relu(ops.tanh(shared(ops.tanh(shared(X))))) + 1.0))
    assert_close(numbers(clone(X)), numbers(want))


def test_what_a_call_was_given_is_the_same_in_a_clone(trains):
    i = layers.Input((4,))
    model = models.Model(i, layers.BatchNormalization()(i, training=False))
    clone = models.clone_model(model, clone_function=again)
    assert_close(numbers(clone(X, training=True)), numbers(model(X)))


def test_models_inside_are_cloned_layer_by_layer_where_that_is_asked(backend):
    def noted(layer):
        asked.append(type(layer).__name__)
        return again(layer)

    i = layers.Input((4,))
    inner = models.Model(i, layers.Dense(3)(sequential()(i)))
    for outer in (models.Sequential([i, inner]), models.Model(i, inner(i))):
        asked = []
        models.clone_model(outer, clone_function=noted)
        assert asked == ["Functional"]
        asked = []
        clone = models.clone_model(outer, clone_function=noted, recursive=True)
        assert asked == ["Dense"] * 3
        assert len(clone.weights) == 6
        clone.set_weights(outer.get_weights())
        assert_close(numbers(clone(X)), numbers(outer(X)))


def test_a_clone_is_compiled_as_the_model_is(trains):
    def loss(y, p):  # a function that is not registered has no config
        return ops.mean(ops.square(y - p), axis=-1)

    model = sequential()
    model.compile(
        keraslite.optimizers.SGD(0.25), loss, metrics=[keraslite.metrics.MeanAbsoluteError()]
    )
    model.fit(X, X[:, :2], verbose=0)
    clone = models.clone_model(model)
    assert clone.compiled and clone.optimizer is not model.optimizer
    assert float(clone.optimizer.learning_rate) == 0.25
    clone.set_weights(model.get_weights())
    got = clone.evaluate(X, X[:, :2], verbose=0)
    assert_close(got, model.evaluate(X, X[:, :2], verbose=0))
    assert not set(map(id, clone.metrics)) & set(map(id, model.metrics))
    assert not models.clone_model(sequential()).compiled


def test_arguments_that_a_model_cannot_take_are_refused(backend):
    class Own(models.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="`clone_function` and `input_tensors` are for"):
        models.clone_model(Own(), clone_function=again)
    with pytest.raises(ValueError, match="`call_function` is for functional models"):
        models.clone_model(sequential(), call_function=lambda layer, *args: layer(*args))
    with pytest.raises(ValueError, match="must be one KerasTensor"):
        models.clone_model(sequential(), input_tensors=[layers.Input((4,)), layers.Input((4,))])
    with pytest.raises(ValueError, match="must be KerasTensors in the form of"):
        models.clone_model(functional(), input_tensors=X)
    assert isinstance(models.clone_model(Own(name="own")), Own)
