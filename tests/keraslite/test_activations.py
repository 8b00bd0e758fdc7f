"""The activations namespace: names, arguments and values of Keras, configs, and errors."""

import inspect

import keras
import numpy as np
import pytest

import keraslite
from keraslite import activations, ops
from keraslite.saving import register_keras_serializable

X = np.linspace(-8, 8, 22, dtype="float32").reshape(2, 11).repeat(2, axis=1)
NAMES = [n for n in activations.__all__ if n not in ("get", "serialize", "deserialize")]


def values(fn, x, backend, *args, **kwargs):
    return keraslite.backend.to_numpy(fn(keraslite.to_backend(x, backend), *args, **kwargs))


def test_the_namespace_is_keras():
    theirs = {n for n in dir(keras.activations) if not n.startswith("_")}
    assert theirs == set(activations.__all__)
    for name in activations.__all__:
        ours, expected = getattr(activations, name), getattr(keras.activations, name)
        assert [(p.name, p.default) for p in inspect.signature(ours).parameters.values()] == [
            (p.name, p.default) for p in inspect.signature(expected).parameters.values()
        ], name


@pytest.mark.parametrize("name", NAMES)
def test_values(name, backend):
    if name == "sparsemax":  # Keras's rows do not sum to one where more than one value is left
        got = values(activations.sparsemax, X * 0.1, backend)
        np.testing.assert_allclose(got.sum(-1), 1, rtol=1e-5)
        return
    args = (1.0, 0.5) if name == "threshold" else ()
    got = values(activations.get(name), X, backend, *args)
    want = np.asarray(getattr(keras.activations, name)(keras.ops.convert_to_tensor(X), *args))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


RELUS = [
    {}, {"negative_slope": 0.1}, {"max_value": 6}, {"max_value": 2.5}, {"threshold": 1.5},
    {"threshold": -1.5}, {"negative_slope": 0.2, "threshold": 1.0},
    {"negative_slope": 0.2, "max_value": 3.0}, {"max_value": 3.0, "threshold": 1.0},
    {"negative_slope": 0.2, "max_value": 3.0, "threshold": -1.0},
]  # fmt: skip


@pytest.mark.parametrize("options", RELUS)
def test_relu_arguments(options, backend):
    got = values(activations.relu, X, backend, **options)
    want = np.asarray(keras.activations.relu(X, **options))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    half = keraslite.to_backend(X, backend)
    assert ops.dtype(activations.relu(ops.cast(half, "bfloat16"), **options)) == "bfloat16"


def test_variants(backend):
    np.testing.assert_allclose(
        values(activations.gelu, X, backend, approximate=True),
        keras.activations.gelu(X, approximate=True), rtol=1e-5, atol=1e-6,
    )  # fmt: skip
    assert values(activations.linear, X, backend) is not None
    assert activations.linear(X) is X
    assert activations.mish([0.0]) is not None
    assert activations.swish is activations.silu
    assert activations.hard_swish is activations.hard_silu


@pytest.mark.parametrize("name", NAMES)
def test_get_and_serialize(name):
    fn = getattr(activations, name)
    assert activations.get(name) is fn
    assert activations.get(fn) is fn
    # Aliases serialize as Keras has them: under the function's own name.
    assert activations.serialize(fn) == keras.activations.serialize(
        getattr(keras.activations, name)
    )
    assert activations.deserialize(activations.serialize(fn)) is fn


def test_custom_functions():
    @register_keras_serializable("tests")
    def cubed(x):
        return x * x * x

    def local(x):
        return x

    assert activations.get(None) is activations.linear
    assert activations.get(cubed) is cubed
    assert activations.serialize(cubed)["config"] == "tests>cubed"  # a config, as in Keras
    assert activations.deserialize("tests>cubed") is cubed
    config = {"module": "builtins", "class_name": "function", "config": "cubed",
              "registered_name": "tests>cubed"}  # fmt: skip
    assert activations.get(config) is cubed
    assert activations.deserialize("local", custom_objects={"local": local}) is local
    layer = keraslite.layers.LeakyReLU(0.1)
    again = activations.deserialize(activations.serialize(layer))
    assert type(again).__name__ == "LeakyReLU"
    assert again.negative_slope == pytest.approx(0.1)


def test_unknown_ones_are_refused():
    with pytest.raises(ValueError, match=r"Unknown activation 'rulu'.*relu"):
        activations.get("rulu")
    with pytest.raises(ValueError, match="Cannot read"):
        activations.get(3)
    with pytest.raises(ValueError, match="Unknown object"):
        activations.get({"class_name": "function", "config": "os.system"})
