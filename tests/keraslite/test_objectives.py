"""Losses, metrics and weights over outputs of any form: what belongs where, against Keras."""

import copy
from collections import namedtuple
from functools import partial

import compare
import keras
import numpy as np
import pytest

import keraslite
from keraslite import losses, metrics, models, ops
from keraslite.training.outputs import by_output, targets_by_output, weights_by_output

assert_close = partial(compare.assert_close, rtol=1e-5, atol=1e-6)

RNG = np.random.default_rng(4)
ROWS = RNG.normal(size=(6, 3)).astype("float32")
STEPS = RNG.normal(size=(6, 4, 3)).astype("float32")
LABELS = np.array([0, 1, 2, 1, 1, 0])
STEP_LABELS = RNG.integers(0, 3, (6, 4))
BITS = (RNG.random((6, 4)) > 0.5).astype("int64")
ONE_HOT, STEP_ONE_HOT = (np.eye(3, dtype="float32")[x] for x in (LABELS, STEP_LABELS))
WEIGHTS = RNG.uniform(0.2, 2.0, 6).astype("float32")
STEP_WEIGHTS = RNG.uniform(0.2, 2.0, (6, 4)).astype("float32")
CLASSES = {0: 0.5, 1: 4.0, 2: 3.0}


def same(K, shape, *names):
    """A model that returns its input, once for each name; alone where there is none."""
    x = K.Input(shape)
    outputs = [K.layers.Identity(name=name)(x) for name in names]
    return K.Model(x, outputs if names else K.layers.Identity(name="only")(x))


def class_weights(labels):
    return np.vectorize(CLASSES.get)(labels).astype("float32")


SPARSE, CATEGORICAL, BINARY = (
    f"{name}Crossentropy" for name in ("SparseCategorical", "Categorical", "Binary")
)
# inputs, targets, loss, class numbers of the targets
LABELLED = {
    "labels": (ROWS, LABELS, SPARSE, LABELS),
    "labels with a last axis": (ROWS, LABELS[:, None], SPARSE, LABELS),
    "one-hot": (ROWS, ONE_HOT, CATEGORICAL, LABELS),
    "labels of steps": (STEPS, STEP_LABELS, SPARSE, STEP_LABELS),
    "labels of steps with a last axis": (STEPS, STEP_LABELS[..., None], SPARSE, STEP_LABELS),
    "one-hot steps": (STEPS, STEP_ONE_HOT, CATEGORICAL, STEP_LABELS),
    "bits": (ROWS[:, :1], BITS[:, 0], BINARY, BITS[:, 0]),
    "bits with a last axis": (ROWS[:, :1], BITS[:, :1], BINARY, BITS[:, 0]),
    "bits of steps": (STEPS[..., :1], BITS, BINARY, BITS),
    "images": (
        STEPS.reshape(6, 2, 2, 3), STEP_LABELS.reshape(6, 2, 2), SPARSE,
        STEP_LABELS.reshape(6, 2, 2),
    ),
}  # fmt: skip
GIVEN = {"none": None, "rows": WEIGHTS, "column": WEIGHTS[:, None], "steps": STEP_WEIGHTS}


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("name", LABELLED)
def test_class_weight_and_sample_weight_multiply_the_losses_of_their_samples(trains, name, given):
    x, y, loss, classes = LABELLED[name]
    weight = GIVEN[given]
    if given == "steps" and classes.ndim != 2:
        weight = STEP_WEIGHTS.reshape(classes.shape) if classes.ndim == 3 else WEIGHTS
    arguments = {"from_logits": True}
    target = y[..., None] if loss == BINARY and y.ndim < x.ndim else y
    values = getattr(keras.losses, loss)(**arguments, reduction="none")(target, x)
    values = np.array(values).reshape(classes.shape)
    full = np.ones_like(values)
    if weight is not None:
        part = weight[:, 0] if given == "column" else weight
        full = full * part.reshape(part.shape + (1,) * (values.ndim - part.ndim))
    model = same(keraslite, x.shape[1:])
    model.compile("sgd", getattr(losses, loss)(**arguments))
    assert_close(model.test_on_batch(x, y, weight), np.mean(values * full))
    weighed = np.mean(values * full * class_weights(classes))
    assert_close(model.train_on_batch(x, y, weight, class_weight=CLASSES), weighed)
    history = model.fit(
        x, y, sample_weight=weight, class_weight=CLASSES, batch_size=6, verbose=0
    )  # fmt: skip
    assert_close(history.history["loss"], [weighed])


@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights")
def test_class_weight_of_rows_is_that_of_keras(trains):
    for name in ("labels", "one-hot", "bits"):
        x, y, loss, _ = LABELLED[name]
        results = []
        for K in (keras, keraslite):
            model = same(K, x.shape[1:])
            model.compile("sgd", getattr(K.losses, loss)(from_logits=True), run_eagerly=True)
            results.append(model.train_on_batch(x, y, class_weight={0: 0.5, 1: 4.0}))
        assert_close(results[1], results[0])


def test_class_weight_leaves_the_validation_and_unlisted_labels_alone(trains):
    model = same(keraslite, (3,))
    model.compile("sgd", losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1))
    labels = np.where(np.arange(6) < 2, -1, LABELS)
    plain = model.test_on_batch(ROWS, labels)
    assert_close(model.train_on_batch(ROWS, labels, class_weight={7: 5.0}), plain)
    history = model.fit(
        ROWS, LABELS, class_weight={0: 3.0}, validation_split=0.5, batch_size=6, verbose=0,
        shuffle=False,
    )  # fmt: skip
    assert_close(history.history["val_loss"], [model.test_on_batch(ROWS[3:], LABELS[3:])])


@pytest.mark.parametrize("form", [list, dict])
def test_class_weight_of_several_outputs_is_refused(trains, form):
    model = same(keraslite, (3,), "a", "b")
    model.compile("sgd", "mse")
    y = [ROWS, ROWS] if form is list else {"a": ROWS, "b": ROWS}
    for call in (partial(model.fit, verbose=0), model.train_on_batch):
        with pytest.raises(ValueError, match=r"class_weight must go with a single output, got 2"):
            call(ROWS, y, class_weight={0: 2.0})


def test_weights_of_rows_are_not_laid_along_the_steps(backend):
    values = ops.convert_to_tensor(np.ones((2, 2), "float32"))
    weight = np.array([1.0, 5.0])
    loss = losses.MeanAbsoluteError("none")
    out = loss(np.zeros((2, 2, 1)), ops.ones((2, 2, 1)), weight)
    assert ops.convert_to_numpy(out).tolist() == [[1, 1], [5, 5]]
    assert_close(metrics.Mean()(values, weight), 1.0)
    model = same(keraslite, (4, 3))
    model.compile("sgd", "mse", weighted_metrics=["mae"])
    got = model.evaluate(STEPS, np.zeros_like(STEPS), sample_weight=WEIGHTS, verbose=0)
    assert_close(got[0], np.mean(WEIGHTS[:, None] * np.mean(STEPS**2, -1)))
    assert_close(got[1], np.average(np.mean(np.abs(STEPS), (1, 2)), weights=WEIGHTS))


def test_a_mask_of_steps_and_weights_of_rows_go_together(backend):
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 1]] * 3, bool)
    for weight in (WEIGHTS, WEIGHTS[:, None], STEP_WEIGHTS):
        full = weight if weight.ndim == 2 else weight[:, None]
        ours, theirs = ops.convert_to_tensor(STEPS), keras.ops.convert_to_tensor(STEPS)
        keraslite.masking.set_mask(ours, ops.convert_to_tensor(mask))
        keras.src.backend.set_keras_mask(theirs, keras.ops.convert_to_tensor(mask))
        for reduction in ("sum", "sum_over_batch_size"):
            want = keras.losses.MeanSquaredError(reduction)(np.zeros_like(STEPS), theirs, full)
            got = losses.MeanSquaredError(reduction)(np.zeros_like(STEPS), ours, weight)
            assert_close(got, want)
        want = np.average(np.abs(STEPS).mean(-1), weights=full * mask)
        got = losses.MeanAbsoluteError("mean_with_sample_weight")(
            np.zeros_like(STEPS), ours, weight
        )
        assert_close(got, want)


FITTING = ["mse", "mae", "huber", "log_cosh", "binary_crossentropy", "poisson", "hinge",
           "kl_divergence", "cosine_similarity"]  # fmt: skip


@pytest.mark.parametrize("loss", FITTING)
@pytest.mark.parametrize(
    ("target", "output"), [((6, 3), (1,)), ((6, 1), (3,)), ((6,), (6,)), ((6, 2, 1), (3,))]
)
def test_targets_are_not_broadcast(backend, loss, target, output):
    model = same(keraslite, output)
    model.compile("sgd", loss)
    message = rf"targets of shape \({str(target)[1:-1]}\), outputs of shape \(6, {output[0]}\)"
    with pytest.raises(ValueError, match=message):
        model.test_on_batch(np.ones((6, *output), "float32"), np.ones(target, "float32"))


@pytest.mark.parametrize(
    ("weight", "shapes"),
    [((4,), r"\(6, 4\) or \(6,\), got \(4,\)"), ((6, 3), r"\(6, 4\) or \(6,\), got \(6, 3\)"),
     ((6, 4, 2), r"\(6, 4\) or \(6,\), got \(6, 4, 2\)")],
)  # fmt: skip
def test_weights_that_do_not_fit_are_refused_with_both_shapes(backend, weight, shapes):
    loss = losses.MeanSquaredError()
    with pytest.raises(ValueError, match=shapes):
        loss(STEPS, ops.convert_to_tensor(STEPS), np.ones(weight))


# -- nesting --------------------------------------------------------------------------------------

Point = namedtuple("Point", "u v")


def test_what_is_given_finds_its_output():
    names = ["b", "a"]
    both = ["mse"], ["mae"]
    for values in (list(both), both, {"b": ["mse"], "a": ["mae"]}, Point(*both)):
        assert by_output(values, [0, 1], names, "loss") == [["mse"], ["mae"]]
    assert by_output("mse", [0, 1], names, "loss") == ["mse", "mse"]
    assert by_output(["mse"], 0, ["only"], "loss") == [["mse"]]
    assert by_output({"only": "mse"}, 0, ["only"], "loss") == ["mse"]
    assert by_output(["x", "y"], {"a": 0, "b": 1}, ["a", "b"], "loss") == ["x", "y"]
    nested = {"p": Point(0, 1), "q": 2}
    numbered = ["0", "1", "2"]
    assert by_output({"p": Point(1, 2), "q": 3}, nested, numbered, "loss") == [1, 2, 3]
    assert by_output({"q": 3}, nested, numbered, "loss") == [None, None, 3]
    # A dict of targets goes by the names of the outputs and not by the alphabet.
    assert targets_by_output({"a": 1, "b": 2}, [0, 0], names) == [2, 1]
    assert targets_by_output([5], [0, 0], names, [False, True]) == [None, 5]
    assert weights_by_output({"a": 1}, [0, 0], names) == [None, 1]
    assert weights_by_output(7, [0, 0], names) == [7, 7]
    with pytest.raises(ValueError, match="sample_weight has 2 entries for 3 outputs"):
        weights_by_output([1, 2], [0, 0, 0], ["a", "b", "c"])


TARGETS = [ROWS * 2, ROWS + 1]
# outputs, loss, loss_weights, metrics
NESTED = {
    "one loss in a list": ((), ["mse"], None, None),
    "a weight in a list": ((), ["mse"], [0.5], [["mae"]]),
    "a dict of one": ((), {"only": "mse"}, None, {"only": ["mae"]}),
    "lists of lists": (("a", "b"), [["mse"], ["mae"]], None, [["mae"], ["mse", "mae"]]),
    "a dict of lists": (("b", "a"), {"a": ["mse"], "b": ["mae"]}, None, {"a": ["mae"]}),
    "weights of a dict": (
        ("a", "b"), {"a": "mse", "b": "mae"}, {"a": 0.5, "b": 2.0}, {"a": "mae", "b": ["mse"]},
    ),
    "weights of lists": (("a", "b"), [["mse"], ["mae"]], [[0.5], [2.0]], None),
}  # fmt: skip


@pytest.mark.parametrize("name", NESTED)
def test_nested_losses_and_metrics_give_the_numbers_of_keras(trains, name):
    results = []
    for K in (keras, keraslite):
        # A copy for each: the installed Keras puts wrappers of its own into the lists.
        names, loss, factors, measured = copy.deepcopy(NESTED[name])
        y = TARGETS if names else TARGETS[0]
        model = same(K, (3,), *names)
        options = {"run_eagerly": True} if K is keras else {}
        model.compile("sgd", loss, factors, measured, **options)
        results.append(model.evaluate(ROWS, y, verbose=0, return_dict=True))
    assert set(results[1]) == set(results[0])
    for key, value in results[0].items():
        assert_close(results[1][key], value)


class Pair(models.Model):
    def call(self, x):
        return {"p": Point(x, x * 2), "q": x + 1}


def test_outputs_may_be_nested_and_named(trains):
    model = Pair()
    model.compile(
        "sgd", {"p": Point("mse", ["mae", "mse"]), "q": "mae"}, metrics={"p": Point(None, "mae")}
    )
    zero = np.zeros_like(ROWS)
    got = model.evaluate(ROWS, {"p": Point(zero, zero), "q": zero}, verbose=0, return_dict=True)
    square, size = np.mean(ROWS**2), np.mean(np.abs(ROWS))
    rest = np.mean(np.abs(ROWS + 1))
    assert_close(got["loss"], square + 2 * size + 4 * square + rest)
    assert_close(got["output_1_mae"], 2 * size)


def test_several_losses_of_one_output_add_up(trains):
    model = same(keraslite, (3,))
    model.compile("sgd", ["mse", "mae"], loss_weights=[1.0, 2.0])
    got = model.evaluate(ROWS, np.zeros_like(ROWS), verbose=0, return_dict=True)
    square, size = np.mean(ROWS**2), np.mean(np.abs(ROWS))
    assert_close([got["loss"], got["only_loss"], got["only_loss_1"]],
                 [square + 2 * size, square, size])  # fmt: skip


def test_targets_are_found_by_name_whatever_the_order_of_the_outputs(trains):
    model = same(keraslite, (3,), "b", "a")
    model.compile("sgd", {"a": "mse", "b": "mse"}, loss_weights={"a": 1.0, "b": 0.0})
    y = {"a": ROWS, "b": ROWS + 5}
    assert_close(model.evaluate(ROWS, y, verbose=0)[0], 0.0)
    weight = {"a": np.zeros(6, "float32"), "b": np.ones(6, "float32")}
    model.compile("sgd", "mse")
    assert_close(model.evaluate(ROWS, y, sample_weight=weight, verbose=0)[0], 25.0)
    with pytest.raises(ValueError, match="output 'b' has a loss, but y has no targets"):
        model.evaluate(ROWS, {"a": ROWS}, verbose=0)
