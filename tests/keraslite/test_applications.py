"""keraslite.applications: its modules and names against the installed Keras's, found when asked for."""

import importlib
import inspect
import json
import pickle
import subprocess
import sys

import keras
import numpy as np
import pytest

import keraslite

MODULES = sorted(
    name for name in dir(keras.applications) if inspect.ismodule(getattr(keras.applications, name))
    and getattr(keras.applications, name).__name__ == f"keras.applications.{name}"
)  # fmt: skip
HELPERS = {"decode_predictions", "preprocess_input"}


def public(module):
    return {n for n in dir(module) if callable(getattr(module, n)) and not n.startswith("_")}


def test_names():
    assert len(MODULES) == 17
    theirs = public(keras.applications) | set(MODULES)
    assert theirs == set(dir(keraslite.applications)) == set(keraslite.applications.__all__)
    assert len(theirs) == 40 + 17


@pytest.mark.parametrize("name", MODULES)
def test_modules(name):
    ours = importlib.import_module(f"keraslite.applications.{name}")
    assert ours is getattr(keraslite.applications, name)
    assert HELPERS <= set(dir(ours)) == set(ours.__all__)
    for member in public(getattr(keras.applications, name)):
        function, theirs = getattr(ours, member), getattr(getattr(keras.applications, name), member)
        expected = [(p.name, p.default) for p in inspect.signature(theirs).parameters.values()]
        assert [(p.name, p.default) for p in inspect.signature(function).parameters.values()] == (
            expected
        )
        if member not in HELPERS:
            assert function is getattr(keraslite.applications, member)
    with pytest.raises(AttributeError, match=f"'keraslite.applications.{name}' has no attribute"):
        ours.NoSuchNetwork


@pytest.mark.parametrize("name", [name for name in MODULES if name != "imagenet_utils"])
def test_pixels(name):
    x = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3)).astype("float32")
    ours = getattr(keraslite.applications, name).preprocess_input
    expected = getattr(keras.applications, name).preprocess_input(x.copy())
    np.testing.assert_allclose(ours(x.copy()), expected, rtol=1e-5, atol=1e-5)
    assert pickle.loads(pickle.dumps(ours)) is ours
    first = ours(x.transpose(0, 3, 1, 2).copy(), "channels_first")
    np.testing.assert_allclose(first.transpose(0, 2, 3, 1), expected, rtol=1e-5, atol=1e-5)


def test_hub_is_imported_when_a_network_is_asked_for():
    code = """
import json, sys
def count():
    return sum(module.partition(".")[0] == "hub" for module in sys.modules)
import keraslite as keras
import keraslite.applications.resnet50
from keraslite.applications import imagenet_utils
from keraslite.applications.resnet50 import preprocess_input
dir(keras.applications), dir(keras.applications.resnet), hasattr(keras.applications, "ResNet51")
before = count()
from keraslite.applications.resnet50 import ResNet50
print(json.dumps([before, count() > 0, keras.applications.ResNet50 is ResNet50]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [0, True, True]


def test_keras_code_as_it_stands(backend):
    from keraslite.applications.resnet50 import ResNet50, decode_predictions, preprocess_input

    model = ResNet50(weights=None, input_shape=(32, 32, 3), classes=7)
    x = preprocess_input(np.full((1, 32, 32, 3), 128.0, "float32"))
    assert model.predict(x, verbose=0).shape == (1, 7)
    assert model.get_layer("conv4_block6_out").output.shape == (None, 2, 2, 1024)
    with pytest.raises(ValueError, match="preds must have the shape"):
        decode_predictions(np.zeros((1, 7)))


def test_an_unknown_network():
    with pytest.raises(AttributeError, match="'keraslite.applications' has no attribute 'VGG11'"):
        keraslite.applications.VGG11
