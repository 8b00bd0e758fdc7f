"""Losses against the installed Keras: values, gradients, configs, weights, masks, reductions."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from compare import assert_close

from keraslite import grad, losses, masking, ops
from keraslite.losses.loss import REDUCTIONS, reduce_weighted_values

RNG = np.random.default_rng(0)
REAL = RNG.normal(size=(2, 4, 5)).astype(np.float32)
OTHER = RNG.normal(size=(4, 5)).astype(np.float32)
POSITIVE = RNG.uniform(0.1, 3.0, size=(2, 4, 5)).astype(np.float32)
SHARES = RNG.dirichlet(np.ones(5), size=(2, 4)).astype(np.float32)
ONE_HOT = np.eye(5, dtype=np.float32)[[0, 2, 4, 1]]
LABELS = np.array([0, 2, 4, 1], np.int32)
BITS = (RNG.random((4, 5)) > 0.5).astype(np.float32)
CHANCES = RNG.uniform(0.02, 0.98, size=(4, 5)).astype(np.float32)
SIGNS = BITS * 2 - 1
LOGITS = {"from_logits": True}
FRAMES = RNG.normal(size=(4, 7, 5)).astype(np.float32)
UNIT = RNG.normal(size=(4, 5)).astype(np.float32)
UNIT /= np.linalg.norm(UNIT, axis=1, keepdims=True)

# class, arguments, targets, predictions
ROWS = [
    ("MeanSquaredError", {}, REAL[0], REAL[1]),
    ("MeanAbsoluteError", {}, REAL[0], REAL[1]),
    ("MeanAbsolutePercentageError", {}, REAL[0], REAL[1]),
    ("MeanSquaredLogarithmicError", {}, POSITIVE[0], POSITIVE[1]),
    ("MeanSquaredError", {}, REAL[0][:, 0], REAL[1][:, :1]),
    ("MeanSquaredError", {}, REAL[0][:, :1], REAL[1][:, 0]),
    ("CosineSimilarity", {}, REAL[0], REAL[1]),
    ("CosineSimilarity", {"axis": 0}, REAL[0], REAL[1]),
    ("Huber", {}, REAL[0], REAL[1]),
    ("Huber", {"delta": 0.3}, REAL[0], REAL[1]),
    ("LogCosh", {}, REAL[0], REAL[1] * 20),
    ("Hinge", {}, SIGNS, REAL[1]),
    ("Hinge", {}, BITS, REAL[1]),
    ("SquaredHinge", {}, SIGNS, REAL[1]),
    ("SquaredHinge", {}, BITS, REAL[1]),
    ("CategoricalHinge", {}, ONE_HOT, REAL[1]),
    ("KLDivergence", {}, SHARES[0], SHARES[1]),
    ("Poisson", {}, POSITIVE[0], POSITIVE[1]),
    ("BinaryCrossentropy", {}, BITS, CHANCES),
    ("BinaryCrossentropy", LOGITS, BITS, REAL[1]),
    ("BinaryCrossentropy", LOGITS | {"label_smoothing": 0.2, "axis": 0}, BITS, REAL[1]),
    ("BinaryFocalCrossentropy", {}, BITS, CHANCES),
    ("BinaryFocalCrossentropy", LOGITS | {"label_smoothing": 0.1}, BITS, REAL[1]),
    (
        "BinaryFocalCrossentropy",
        {"apply_class_balancing": True, "alpha": 0.4, "gamma": 1.5},
        BITS,
        CHANCES,
    ),
    ("CategoricalCrossentropy", {}, ONE_HOT, SHARES[1]),
    ("CategoricalCrossentropy", LOGITS, ONE_HOT, REAL[1]),
    ("CategoricalCrossentropy", LOGITS | {"label_smoothing": 0.1}, ONE_HOT, REAL[1]),
    ("CategoricalFocalCrossentropy", {}, ONE_HOT, SHARES[1]),
    ("CategoricalFocalCrossentropy", LOGITS | {"label_smoothing": 0.1}, ONE_HOT, REAL[1]),
    ("SparseCategoricalCrossentropy", {}, LABELS, SHARES[1]),
    ("SparseCategoricalCrossentropy", LOGITS, LABELS, REAL[1]),
    ("SparseCategoricalCrossentropy", LOGITS, LABELS[:, None], REAL[1]),
    ("SparseCategoricalCrossentropy", LOGITS | {"ignore_class": 2}, LABELS, REAL[1]),
    (
        "SparseCategoricalCrossentropy",
        LOGITS | {"ignore_class": -1},
        np.array([[0, -1], [3, -1]]),
        REAL[1].reshape(2, 2, 5),
    ),
    ("CategoricalGeneralizedCrossEntropy", {"q": 0.3}, LABELS, SHARES[1]),
    ("CTC", {}, np.array([[1, 2, 0], [3, 3, 1], [2, 0, 0], [4, 1, 4]]), FRAMES),
    ("Circle", {}, np.array([0, 1, 1, 0]), UNIT),
    (
        "Circle",
        {"gamma": 8.0, "margin": 0.2, "remove_diagonal": False},
        np.array([0, 1, 1, 2]),
        UNIT,
    ),
    ("Dice", {}, BITS, CHANCES),
    ("Dice", {"axis": 1}, BITS, CHANCES),
    ("Tversky", {"alpha": 0.3, "beta": 0.7}, BITS, CHANCES),
]
IDS = [f"{name}-{i}" for i, (name, *_) in enumerate(ROWS)]
every_row = pytest.mark.parametrize(("name", "arguments", "y_true", "y_pred"), ROWS, ids=IDS)


@every_row
def test_values(name, arguments, y_true, y_pred, backend):
    weight = np.array([0.5, 2.0, 0.0, 1.0], np.float32)[: y_pred.shape[0]]
    for reduction in ("sum_over_batch_size", "none"):
        ours = getattr(losses, name)(**arguments, reduction=reduction)
        theirs = getattr(keras.losses, name)(**arguments, reduction=reduction)
        expected = theirs(y_true, y_pred)
        assert_close(ours(ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)), expected)
        assert_close(ours(y_true, y_pred), expected)
        if name != "Dice" and arguments.get("axis", -1) == -1:
            # Keras lays a vector along the last axis, where the losses have more than one.
            rows = weight[:, None] if y_pred.ndim > 2 and name != "CTC" else weight
            assert_close(ours(y_true, y_pred, weight), theirs(y_true, y_pred, rows))


@every_row
def test_gradients(name, arguments, y_true, y_pred, backend):
    if backend == "numpy":
        return  # it has none
    ours = getattr(losses, name)(**arguments)
    theirs = getattr(keras.losses, name)(**arguments)
    x = tf.convert_to_tensor(y_pred)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = theirs(y_true, x)
    got = grad(lambda p: ours(y_true, p))(ops.convert_to_tensor(y_pred))
    np.testing.assert_allclose(
        ops.convert_to_numpy(got), tape.gradient(value, x), rtol=2e-5, atol=1e-6
    )


@every_row
def test_configs(name, arguments, y_true, y_pred):
    ours = getattr(losses, name)(**arguments)
    theirs = getattr(keras.losses, name)(**arguments)
    config = ours.get_config()
    # Keras forgets these, so a loss made from its config is another loss.
    forgotten = {"Huber": {"delta"}, "CosineSimilarity": {"axis"}}.get(name, set())
    assert {k: v for k, v in config.items() if k not in forgotten} == theirs.get_config()
    again = losses.deserialize(losses.serialize(ours))
    assert again.get_config() == config
    assert again._fn_kwargs == ours._fn_kwargs
    assert type(losses.deserialize(keras.losses.serialize(theirs))) is type(ours)
    signature = list(inspect.signature(type(theirs)).parameters)
    assert list(inspect.signature(type(ours)).parameters) == signature


FUNCTIONS = [
    (losses.__dict__[name].function, name, arguments, y_true, y_pred)
    for name, arguments, y_true, y_pred in ROWS
]


@pytest.mark.parametrize(("function", "name", "arguments", "y_true", "y_pred"), FUNCTIONS, ids=IDS)
def test_functions(function, name, arguments, y_true, y_pred, backend):
    theirs = (
        getattr(keras.losses, function.__name__, None)
        or keras.losses.get({"class_name": name, "config": arguments}).fn
    )
    expected = theirs(keras.ops.convert_to_tensor(y_true), keras.ops.convert_to_tensor(y_pred),
                      **arguments)  # fmt: skip
    assert_close(function(y_true, ops.convert_to_tensor(y_pred), **arguments), expected)


WEIGHTS = [None, np.array([1.0, 0.0, 2.0, 0.5]), np.zeros(4), np.ones((4, 1)), 2.0]
MASKS = [None, [True, False, True, True], [False] * 4]


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_reductions(reduction, backend):
    for weight in WEIGHTS:
        for mask in MASKS:
            y_true, y_pred = REAL[0], keras.ops.convert_to_tensor(REAL[1])
            ours_pred = ops.convert_to_tensor(REAL[1])
            if mask is not None:
                keras.src.backend.set_keras_mask(y_pred, keras.ops.convert_to_tensor(mask))
                masking.set_mask(ours_pred, ops.convert_to_tensor(mask))
            ours = losses.MeanAbsoluteError(reduction)(y_true, ours_pred, weight)
            theirs = keras.losses.MeanAbsoluteError(reduction)(y_true, y_pred, weight)
            assert_close(ours, theirs)


def test_circle_takes_references(backend):
    labels, others = np.array([0, 1, 1, 0]), UNIT[::-1] * np.array([1, -1, 1, -1, 1], "float32")
    arguments = {"ref_labels": np.array([1, 1, 0, 0]), "ref_embeddings": others,
                 "remove_diagonal": False}  # fmt: skip
    ours = losses.circle(labels, ops.convert_to_tensor(UNIT), **arguments)
    assert_close(ours, keras.src.losses.losses.circle(labels, UNIT, **arguments))


def test_ctc_names_the_shapes(backend):
    with pytest.raises(ValueError, match=r"\(batch, frames, classes\), got \(4,\) and \(4, 5\)"):
        losses.CTC()(LABELS, ops.convert_to_tensor(REAL[1]))


def test_mask_and_ignored_class_together(backend):
    y_pred = ops.convert_to_tensor(REAL[1])
    masking.set_mask(y_pred, ops.convert_to_tensor([True, True, False, True]))
    theirs_pred = keras.ops.convert_to_tensor(REAL[1])
    keras.src.backend.set_keras_mask(
        theirs_pred, keras.ops.convert_to_tensor([True, True, False, True])
    )
    arguments = {"from_logits": True, "ignore_class": 2}
    ours = losses.SparseCategoricalCrossentropy(**arguments)(LABELS, y_pred)
    theirs = keras.losses.SparseCategoricalCrossentropy(**arguments)(LABELS, theirs_pred)
    assert_close(ours, theirs)


def test_empty_batch_and_scalars(backend):
    empty = ops.convert_to_tensor(np.zeros((0, 3), np.float32))
    for reduction in ("sum_over_batch_size", "sum", "mean_with_sample_weight"):
        assert ops.convert_to_numpy(losses.MeanSquaredError(reduction)(empty, empty)).sum() == 0
    assert float(reduce_weighted_values(ops.convert_to_tensor(3.0))) == 3.0


def test_bits_and_half_precision(backend):
    """Integer targets keep their values in half precision, unlike in Keras."""
    classes = 3000
    y_pred = np.zeros((1, classes), np.float32)
    y_pred[0, 2999] = 20.0
    loss = losses.SparseCategoricalCrossentropy(from_logits=True, dtype="bfloat16")
    assert float(ops.cast(loss(np.array([2999]), y_pred), "float32")) < 0.01
    half = losses.MeanSquaredError(dtype="float16")(REAL[0], REAL[1])
    assert ops.dtype(half) == "float16"
    assert_close(
        ops.cast(half, "float32"), keras.losses.MeanSquaredError()(REAL[0], REAL[1]), 5e-3, 5e-4
    )


def test_subclass_with_structures(backend):
    class Both(losses.Loss):
        def call(self, y_true, y_pred):
            return ops.abs(y_true["a"] - y_pred["a"]) + ops.abs(y_true["b"] - y_pred["b"])

    y_true = {"a": np.ones(3, np.float32), "b": np.zeros(3, np.float32)}
    y_pred = {"a": ops.convert_to_tensor([1.0, 2.0, 3.0]), "b": ops.convert_to_tensor([1.0] * 3)}
    assert float(Both()(y_true, y_pred)) == 2.0
    assert float(losses.LossFunctionWrapper(losses.huber, delta=2.0)([[0.0]], [[4.0]])) == 6.0


def test_get():
    assert losses.get("mse") is losses.get("MSE") is losses.mean_squared_error
    assert isinstance(losses.get("MeanSquaredError"), losses.MeanSquaredError)
    assert losses.get(None) is None
    assert losses.get(abs) is abs
    assert losses.get(losses.Huber)._fn_kwargs == {"delta": 1.0}
    for identifier in ("kld", "binary_crossentropy", "sparse_categorical_crossentropy", "log_cosh"):
        assert losses.get(identifier).__name__ == keras.losses.get(identifier).__name__
    wrapper = losses.LossFunctionWrapper(losses.huber, delta=2.0)
    again = losses.deserialize(losses.serialize(wrapper))
    assert again.fn is losses.huber
    assert again._fn_kwargs == {"delta": 2.0}
    assert losses.serialize(losses.huber) == "huber"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: losses.get("nope"), "Unknown loss 'nope'"),
        (lambda: losses.MeanSquaredError(reduction="x"), "reduction"),
        (lambda: losses.categorical_crossentropy(ONE_HOT, SHARES[0], axis=True), "axis"),
        (lambda: losses.categorical_generalized_cross_entropy(LABELS, SHARES[0], 1.0), "interval"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_one_class_is_warned_about():
    with pytest.warns(SyntaxWarning, match="num_classes"):
        losses.categorical_crossentropy(np.ones((2, 1)), np.ones((2, 1), np.float32))


def test_two_frameworks_are_refused():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="two frameworks"):
        losses.MeanSquaredError()(tf.ones((2, 2)), torch.ones(2, 2))
