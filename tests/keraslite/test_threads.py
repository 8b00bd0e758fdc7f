"""Threads: inference in several, cold and warm, and with one that trains beside them."""

import itertools

import compare
import numpy as np
import pytest
from backends import BACKENDS, TRAINABLE
from threads import Beside, in_threads

import keraslite
from keraslite import layers, ops

X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
Y = np.array([0, 1, 2, 0, 1, 2])
CALLS = {
    "predict": lambda model, x: model.predict(x, verbose=0),
    "predict_on_batch": lambda model, x: model.predict_on_batch(x),
    "call": lambda model, x: ops.convert_to_numpy(model(x)),
}


class Own(keraslite.Model):
    """A model that is built, with all inside it, when it is called first."""

    def __init__(self):
        super().__init__()
        self.first = layers.Dense(8, "relu", activity_regularizer="l2")
        self.dropout, self.second = layers.Dropout(0.5), layers.Dense(3, "softmax")

    def call(self, x, training=False):
        return self.second(self.dropout(self.first(x), training=training))


def make(kind):
    keraslite.utils.set_random_seed(5)
    if kind == "own":
        return Own()
    parts = [layers.Dense(8, "relu"), layers.BatchNormalization(), layers.Dense(3, "softmax")]
    return keraslite.Sequential(parts)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", ["own", "sequential"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_cold_and_warm_models_predict_in_threads(backend, kind, call):
    with keraslite.use_backend(backend):
        reference = make(kind)
        expected = CALLS[call](reference, X)
        for _ in range(3):
            model = make(kind)
            for _ in range(2):  # cold, then warm
                for out in in_threads(lambda _: CALLS[call](model, X)):  # noqa: B023
                    compare.assert_close(out, expected)
            assert len(model.weights) == len(reference.weights)


@pytest.mark.parametrize("kind", ["own", "sequential"])
@pytest.mark.parametrize("backend", TRAINABLE)
def test_threads_predict_beside_one_that_trains(backend, kind):
    with keraslite.use_backend(backend):
        model = make(kind)
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    names = itertools.cycle(CALLS)
    with Beside(lambda: model.fit(X, Y, verbose=0, batch_size=2)) as training:
        for _ in range(10):
            name = next(names)
            for out in in_threads(lambda _: CALLS[name](model, X)):  # noqa: B023
                compare.assert_close(out.sum(-1), np.ones(6), rtol=1e-5)
    assert training.calls
    assert int(model.optimizer.iterations.numpy()) == 3 * training.calls


@pytest.mark.parametrize("backend", TRAINABLE)
def test_a_value_read_before_a_train_step_stays_whole(backend):
    with keraslite.use_backend(backend):
        model = make("sequential")
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.train_on_batch(X, Y)
        value = model.weights[0].value
        model.train_on_batch(X, Y)
        assert np.isfinite(ops.convert_to_numpy(value)).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_threads_read_one_new_variable(backend):
    with keraslite.use_backend(backend):
        for _ in range(20):
            made = []
            v = keraslite.Variable(
                lambda shape, dtype: made.append(1) or np.ones(shape, dtype),  # noqa: B023
                shape=(3,), dtype="float32",
            )  # fmt: skip
            for out in in_threads(lambda _: v.numpy()):  # noqa: B023
                compare.assert_close(out, np.ones(3))
            assert len(made) == 1


def test_blocks_with_other_backends_leave_the_default_of_threads_alone():
    before = keraslite.backend()
    others = [name for name in BACKENDS if name != before] or [before]

    def enter(number):
        for i in range(300):
            with keraslite.use_backend(others[(number + i) % len(others)]) as name:
                assert keraslite.backend() == name

    in_threads(enter)
    assert keraslite.backend() == before


def test_names_and_derived_classes_are_made_once():
    class Plain(layers.Layer):
        def call(self, x):
            return x

    made = sum(in_threads(lambda _: [Plain() for _ in range(50)]), [])
    assert len({type(layer) for layer in made}) == 1
    assert len({layer.name for layer in made}) == 400
