"""The cache of compiled functions: kept while a network's variables are the same."""

import copy
import gc
import pickle

import numpy as np
import pytest
from backends import BACKENDS

import keraslite as keras
from keraslite import layers, ops
from keraslite.training import CompiledFunctions, inference


def built_layer(units=2):
    layer = layers.Dense(units)
    layer.build((None, 3))
    return layer


class Counter:
    def __init__(self):
        self.count = 0

    def __call__(self, variables):
        self.count += 1
        return keras.jit(lambda x: x, variables)


def test_a_function_is_made_once(backend):
    layer, functions, make = built_layer(), CompiledFunctions(), Counter()
    first = functions.get(layer, "f", make)
    assert functions.get(layer, "f", make) is first
    assert functions.get(layer, "g", make) is not first
    assert make.count == 2
    assert len(functions) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.enable_lora(1),
        lambda layer: layer.quantize("int8"),
        lambda layer: layer.to_backend("numpy" if layer.backend != "numpy" else "torch"),
    ],
    ids=["lora", "int8", "backend"],
)
def test_other_variables_or_another_backend_drop_all(backend, change):
    layer, functions, make = built_layer(), CompiledFunctions(), Counter()
    for key in ("f", "g"):
        functions.get(layer, key, make)
    change(layer)
    functions.get(layer, "f", make)
    assert make.count == 3
    assert len(functions) == 1


def test_only_training_functions_depend_on_what_is_trained():
    layer, functions, make = built_layer(), CompiledFunctions(), Counter()
    for trainable in (True, False, True):
        layer.trainable = trainable
        functions.get(layer, "predict", make)
        functions.get(layer, "train", make, training=True)
    assert make.count == 3  # predict, and train twice


def test_the_last_used_are_kept():
    layer, functions, make = built_layer(), CompiledFunctions(maxsize=2), Counter()
    for key in ("a", "b", "a", "c", "a"):
        functions.get(layer, key, make)
    assert make.count == 3
    functions.get(layer, "b", make)
    assert make.count == 4


def test_another_network_with_variables_at_the_same_place():
    functions, make = CompiledFunctions(), Counter()
    for _ in range(3):
        functions.get(built_layer(), "f", lambda variables: make([]))
        gc.collect()
    assert make.count == 3


def test_copies_are_empty():
    layer, functions = built_layer(), CompiledFunctions(maxsize=3)
    functions.get(layer, "f", Counter())
    for other in (copy.deepcopy(functions), pickle.loads(pickle.dumps(functions))):
        assert len(other) == 0


def test_run_compiles_by_name(backend):
    layer, functions = built_layer(), CompiledFunctions()
    x = np.ones((2, 3), "float32")
    with inference(layer.backend):
        first = ops.convert_to_numpy(functions.run(layer, layer.call, x))
        layer.kernel.assign(layer.kernel.numpy() * 2)
        second = ops.convert_to_numpy(functions.run(layer, layer.call, x))
    assert len(functions) == 1
    np.testing.assert_allclose(second, 2 * first, rtol=1e-6)


@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "numpy"], indirect=True)
def test_adapters_and_freezing_are_seen_between_steps(backend):
    model = keras.Sequential([layers.Input((3,)), layers.Dense(2), layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = np.ones((4, 3), "float32"), np.ones((4, 1), "float32")
    model.train_on_batch(x, y)
    model.layers[-2].trainable = False
    frozen = model.layers[-2].kernel.numpy().copy()
    model.train_on_batch(x, y)
    np.testing.assert_array_equal(model.layers[-2].kernel.numpy(), frozen)
    before = model.predict(x, verbose=0)
    model.layers[-1].enable_lora(1)
    model.layers[-1].lora_kernel_b.assign(np.ones((1, 1), "float32"))
    after = model.predict(x, verbose=0)
    assert not np.allclose(before, after)
