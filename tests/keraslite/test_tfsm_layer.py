"""TFSMLayer against TensorFlow's own gradients, and against the installed Keras on TensorFlow."""

import json
import re

import numpy as np
import pytest
from backends import BACKENDS
from compare import assert_close

import keraslite
from keraslite import layers, models, optimizers, saving

if "tensorflow" not in BACKENDS:
    pytest.skip("tensorflow is not among the backends", allow_module_level=True)

import keras
import tensorflow as tf

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 3)).astype("float32")
Y = RNG.normal(size=(6, 2)).astype("float32")
SPEC = tf.TensorSpec((None, 3), tf.float32)


class Centered(tf.Module):
    """A dense layer of what is above the mean of the inputs so far, which training moves."""

    def __init__(self):
        super().__init__()
        self.kernel = tf.Variable(np.linspace(-1, 1, 6).reshape(3, 2), dtype="float32", name="k/w")
        self.mean = tf.Variable([0.1, 0.2, 0.3], trainable=False, name="mean")
        self.steps = tf.Variable(0, trainable=False, name="steps")

    @tf.function(input_signature=[SPEC])
    def serve(self, x):
        return tf.matmul(x - self.mean, self.kernel)

    @tf.function(input_signature=[SPEC])
    def train(self, x):
        self.mean.assign(0.9 * self.mean + 0.1 * tf.reduce_mean(x, 0))
        self.steps.assign_add(1)
        return tf.matmul(x - self.mean, self.kernel)


@pytest.fixture(autouse=True)
def _on_tensorflow():
    with keraslite.use_backend("tensorflow"):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path, module = tmp_path_factory.mktemp("saved") / "model", Centered()
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
    return path


def by_tensorflow(module, steps):
    values = []
    for _ in range(steps):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((module.train(X) - Y) ** 2)
        module.kernel.assign_sub(0.1 * tape.gradient(loss, module.kernel))
        values.append(float(loss))
    return values


def both(folder):
    return layers.TFSMLayer(folder, call_training_endpoint="train", name="saved")


def test_it_is_what_it_is_in_keras(folder):
    ours = both(folder)
    theirs = keras.layers.TFSMLayer(str(folder), call_training_endpoint="train", name="saved")
    assert_close(ours(X), theirs(X))
    assert_close(ours(X, training=True), theirs(X, training=True))
    for kind in ("weights", "trainable_weights", "non_trainable_weights"):
        a, b = getattr(ours, kind), getattr(theirs, kind)
        assert [(v.name, v.shape, v.dtype) for v in a] == [(v.name, v.shape, v.dtype) for v in b]
    assert_close(ours.get_weights(), theirs.get_weights())
    config = {k: v for k, v in theirs.get_config().items() if k != "dtype"}
    assert {k: v for k, v in ours.get_config().items() if k != "dtype"} == config
    json.dumps(ours.get_config())
    signature = layers.TFSMLayer(folder, call_endpoint="serving_default")(X)
    assert_close(list(signature.values()), [both(folder)(X)])
    assert not layers.TFSMLayer(folder, trainable=False).trainable_weights


def test_it_trains_in_fit_as_by_tensorflow(folder):
    module, layer = Centered(), both(folder)
    model = models.Sequential([layers.Input((3,)), layer])
    assert model.output_shape == (None, 2)
    model.compile(optimizers.SGD(0.1), "mse")
    history = model.fit(X, Y, batch_size=6, epochs=3, shuffle=False, verbose=0).history
    assert_close(history["loss"], by_tensorflow(module, 3))
    assert_close(
        layer.get_weights(), [v.numpy() for v in (module.kernel, module.mean, module.steps)]
    )
    assert_close(model.predict(X, verbose=0), module.serve(X))


@pytest.mark.parametrize("compiled", [False, True])
def test_a_stateless_call_changes_nothing_and_gives_gradients(folder, compiled):
    module, layer = Centered(), both(folder)
    kept = layer.get_weights()
    values = [tf.constant(2 * v.numpy()) for v in layer.weights[:1]]
    others = [tf.constant(v.numpy() + 1) for v in layer.weights[1:]]

    def step(x, values, others):
        with tf.GradientTape() as tape:
            tape.watch([x, *values])
            outputs, new = layer.stateless_call(values, others, x, training=True)
            loss = tf.reduce_mean((outputs - Y) ** 2)
        return loss, new, tape.gradient(loss, [x, *values])

    step = tf.function(step) if compiled else step
    x = tf.constant(X)
    loss, new, grads = step(x, values, others)
    for variable, value in zip((module.kernel, module.mean, module.steps), [*values, *others]):
        variable.assign(value)
    with tf.GradientTape() as tape:
        tape.watch(x)
        wanted = tf.reduce_mean((module.train(x) - Y) ** 2)
    assert_close(loss, wanted)
    assert_close(grads, tape.gradient(wanted, [x, module.kernel]))
    assert_close(new, [module.mean.numpy(), module.steps.numpy()])
    assert_close(layer.get_weights(), kept, rtol=0, atol=0)


def test_files(folder, tmp_path):
    model = models.Sequential([layers.Input((3,)), both(folder)])
    model.layers[0].weights[0].assign(np.ones((3, 2)))
    wanted = model.predict(X, verbose=0)
    model.save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="arbitrary code"):
        saving.load_model(tmp_path / "m.keras")
    loaded = saving.load_model(tmp_path / "m.keras", safe_mode=False)
    assert_close(loaded.predict(X, verbose=0), wanted)
    with pytest.raises(ValueError, match="SavedModel"):
        layers.TFSMLayer.from_config(both(folder).get_config())
    model.save_weights(tmp_path / "w.safetensors")
    other = models.Sequential([layers.Input((3,)), both(folder)])
    other.load_weights(tmp_path / "w.safetensors")
    assert_close(other.predict(X, verbose=0), wanted)


def test_load_model_says_what_to_do_with_a_saved_model(folder):
    with pytest.raises(ValueError, match="is a SavedModel.*has functions.*load_weights") as error:
        saving.load_model(folder)
    advice = re.search(r"TFSMLayer\('(.+)', call_endpoint='(\w+)' or", str(error.value))
    module = Centered()
    assert_close(layers.TFSMLayer(*advice.groups())(X), module.serve(X))


def test_what_is_refused(folder):
    with pytest.raises(
        ValueError, match=r"'nothing' is neither .* `call_endpoint`.*serving_default"
    ):
        layers.TFSMLayer(folder, call_endpoint="nothing")
    with pytest.raises(ValueError, match="`call_training_endpoint`"):
        layers.TFSMLayer(folder, call_training_endpoint="nothing")
