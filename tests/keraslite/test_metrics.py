"""Metrics against the installed Keras: values, weights, masks, states, configs."""

import inspect

import keras
import numpy as np
import pytest
from compare import assert_close

from keraslite import (
    callbacks,
    jit,
    layers,
    masking,
    metrics,
    models,
    ops,
    to_backend,
    use_backend,
    utils,
)
from keraslite.metrics.confusion import confusion
from keraslite.variable import Variable

RNG = np.random.default_rng(0)
REAL = RNG.normal(size=(2, 8, 3)).astype(np.float32)
POSITIVE = RNG.uniform(0.1, 3.0, size=(2, 8, 3)).astype(np.float32)
SHARES = RNG.dirichlet(np.ones(3), size=(2, 8)).astype(np.float32)
LABELS = RNG.integers(0, 3, size=8)
ONE_HOT = np.eye(3, dtype=np.float32)[LABELS]
BITS = (RNG.random((8, 3)) > 0.5).astype(np.float32)
CHANCES = RNG.uniform(0.0, 1.0, size=(8, 3)).astype(np.float32)
CHANCES[0] = [0.0, 0.5, 1.0]
MASKS = RNG.integers(0, 3, size=(2, 4, 4))
WEIGHTS = np.array([1.0, 0.0, 2.0, 0.5, 1.0, 3.0, 0.25, 1.0], np.float32)
LOGITS = {"from_logits": True}
ONE, SCORE = BITS[:, 0], CHANCES[:, 0]

# class, arguments, targets, predictions
ROWS = [
    ("Accuracy", {}, LABELS, LABELS[::-1].copy()),
    ("Accuracy", {}, LABELS[:, None], LABELS[::-1, None].copy()),
    ("BinaryAccuracy", {}, BITS, CHANCES),
    ("BinaryAccuracy", {"threshold": 0.3}, ONE, CHANCES[:, :1]),
    ("CategoricalAccuracy", {}, ONE_HOT, SHARES[0]),
    ("SparseCategoricalAccuracy", {}, LABELS, SHARES[0]),
    ("SparseCategoricalAccuracy", {}, LABELS[:, None], SHARES[0]),
    ("TopKCategoricalAccuracy", {"k": 2}, ONE_HOT, SHARES[0]),
    ("SparseTopKCategoricalAccuracy", {"k": 2}, LABELS, SHARES[0]),
    ("SparseTopKCategoricalAccuracy", {"k": 1}, LABELS[:, None], SHARES[0]),
    (
        "SparseTopKCategoricalAccuracy",
        {"k": 2, "from_sorted_ids": True},
        LABELS,
        np.argsort(-SHARES[0], axis=-1).astype(np.int32),
    ),
    ("MeanSquaredError", {}, REAL[0], REAL[1]),
    ("RootMeanSquaredError", {}, REAL[0], REAL[1]),
    ("MeanAbsoluteError", {}, REAL[0], REAL[1]),
    ("MeanAbsolutePercentageError", {}, REAL[0], REAL[1]),
    ("MeanSquaredLogarithmicError", {}, POSITIVE[0], POSITIVE[1]),
    ("CosineSimilarity", {}, REAL[0], REAL[1]),
    ("LogCoshError", {}, REAL[0], REAL[1]),
    ("KLDivergence", {}, SHARES[0], SHARES[1]),
    ("Poisson", {}, POSITIVE[0], POSITIVE[1]),
    ("Hinge", {}, BITS, REAL[0]),
    ("SquaredHinge", {}, BITS, REAL[0]),
    ("CategoricalHinge", {}, ONE_HOT, REAL[0]),
    ("BinaryCrossentropy", {"label_smoothing": 0.1}, BITS, CHANCES),
    ("CategoricalCrossentropy", LOGITS, ONE_HOT, REAL[0]),
    ("SparseCategoricalCrossentropy", LOGITS, LABELS, REAL[0]),
    ("SparseCategoricalCrossentropy", LOGITS | {"ignore_class": 1}, LABELS, REAL[0]),
    ("PearsonCorrelation", {}, REAL[0], REAL[1]),
    ("ConcordanceCorrelation", {}, REAL[0], REAL[1]),
    ("TruePositives", {}, BITS, CHANCES),
    ("FalsePositives", {"thresholds": [0.2, 0.7]}, BITS, CHANCES),
    ("TrueNegatives", {"thresholds": 0.4}, BITS, CHANCES),
    ("FalseNegatives", {}, ONE, SCORE),
    ("Precision", {}, BITS, CHANCES),
    ("Precision", {"thresholds": [0.0, 0.5, 1.0]}, BITS, CHANCES),
    ("Precision", {"top_k": 2}, BITS, CHANCES),
    ("Precision", {"top_k": 2, "class_id": 1}, BITS, CHANCES),
    ("Recall", {}, ONE, SCORE),
    ("Recall", {"thresholds": [0.1, 0.6]}, ONE, CHANCES[:, :1]),
    ("Recall", {"class_id": 2}, BITS, CHANCES),
    ("SensitivityAtSpecificity", {"specificity": 0.4}, ONE, SCORE),
    ("SpecificityAtSensitivity", {"sensitivity": 0.4, "num_thresholds": 11}, ONE, SCORE),
    ("PrecisionAtRecall", {"recall": 0.6}, BITS, CHANCES),
    ("RecallAtPrecision", {"precision": 0.6, "class_id": 0}, BITS, CHANCES),
    ("RecallAtPrecision", {"precision": 0.3, "num_thresholds": 1}, ONE, SCORE),
    ("AUC", {}, ONE, SCORE),
    ("AUC", {"num_thresholds": 5}, BITS, CHANCES),
    ("AUC", {"curve": "PR"}, BITS, CHANCES),
    ("AUC", {"curve": "PR", "summation_method": "majoring"}, ONE, SCORE),
    ("AUC", {"curve": "pr", "summation_method": "minoring"}, ONE, SCORE),
    ("AUC", {"curve": "PRGAIN", "num_thresholds": 20}, BITS, CHANCES),
    ("AUC", {"thresholds": [0.1, 0.25, 0.7]}, BITS, CHANCES),
    ("AUC", LOGITS, ONE, REAL[0][:, 0]),
    ("AUC", {"multi_label": True}, BITS, CHANCES),
    ("AUC", {"multi_label": True, "num_labels": 3, "curve": "PR"}, BITS, CHANCES),
    ("AUC", {"multi_label": True, "label_weights": [0.2, 0.5, 1.0]}, BITS, CHANCES),
    ("AUC", {"multi_label": True, "thresholds": [0.3, 0.4]}, BITS, CHANCES),
    ("AUC", {"label_weights": [0.2, 0.5, 1.0]}, BITS, CHANCES),
    ("F1Score", {}, ONE_HOT, SHARES[0]),
    ("F1Score", {"average": "micro", "threshold": 0.5}, BITS, CHANCES),
    ("F1Score", {"average": "weighted"}, ONE_HOT, SHARES[0]),
    ("FBetaScore", {"average": "macro", "beta": 2.0}, ONE_HOT, SHARES[0]),
    ("R2Score", {}, REAL[0], REAL[1]),
    ("R2Score", {"class_aggregation": None}, REAL[0], REAL[0] + 0.1 * REAL[1]),
    ("R2Score", {"class_aggregation": "variance_weighted_average"}, REAL[0], REAL[1]),
    ("R2Score", {"num_regressors": 2}, REAL[0][:, :1], REAL[1][:, :1]),
]  # fmt: skip
# Integer state in Keras: weights are left out.
COUNTED = [
    ("IoU", {"num_classes": 3, "target_class_ids": [0, 2]}, MASKS[0], MASKS[1]),
    ("IoU", {"num_classes": 3, "target_class_ids": [1], "ignore_class": 2}, MASKS[0], MASKS[1]),
    ("MeanIoU", {"num_classes": 3}, MASKS[0], MASKS[1]),
    ("MeanIoU", {"num_classes": 5}, MASKS[0], MASKS[1]),
    ("MeanIoU", {"num_classes": 3, "sparse_y_pred": False}, LABELS, SHARES[0]),
    ("BinaryIoU", {"threshold": 0.3}, BITS, CHANCES),
    ("BinaryIoU", {"target_class_ids": [1]}, BITS, CHANCES),
    ("OneHotIoU", {"num_classes": 3, "target_class_ids": [0]}, ONE_HOT, SHARES[0]),
    ("OneHotMeanIoU", {"num_classes": 3}, ONE_HOT, SHARES[0]),
]
IDS = [f"{name}-{i}" for i, (name, *_) in enumerate(ROWS + COUNTED)]
PARAMETERS = ("name", "arguments", "y_true", "y_pred")
every_row = pytest.mark.parametrize(PARAMETERS, ROWS + COUNTED, ids=IDS)


@pytest.fixture
def same_names():
    """Automatic names begin again in both."""
    utils.clear_session(free_memory=False)
    keras.utils.clear_session(free_memory=False)


@every_row
@pytest.mark.usefixtures("same_names")
def test_values(name, arguments, y_true, y_pred, backend):
    """Two batches, the second weighed, then a reset."""
    ours, theirs = getattr(metrics, name)(**arguments), getattr(keras.metrics, name)(**arguments)
    assert_close(ours(ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)),
                 theirs(y_true, y_pred))  # fmt: skip
    if hasattr(ours, "total_cm"):
        weight = None
    else:
        weight = WEIGHTS
    half = slice(0, 6)
    pair = (y_true[half], y_pred[half], None if weight is None else weight[half])
    if len(y_true) >= 6:
        assert_close(ours(*pair), theirs(*pair))
    assert [v.shape for v in ours.variables] == [tuple(v.shape) for v in theirs.variables]
    assert [v.path for v in ours.variables] == [v.path for v in theirs.variables]
    for mine, other in zip(ours.variables, theirs.variables, strict=True):
        assert_close(mine.value, other.numpy())
    ours.reset_state()
    assert all(not v.numpy().any() for v in ours.variables)


_FIRST = {name: row for name, *row in reversed(ROWS + COUNTED)}
TRACED = [
    (name, *row)
    for name, row in _FIRST.items()
    if name in ("Accuracy", "MeanSquaredError", "Precision", "FalsePositives", "AUC", "F1Score",
                "RecallAtPrecision", "R2Score", "MeanIoU", "SparseTopKCategoricalAccuracy")
]  # fmt: skip


@pytest.mark.parametrize("traced_backend", ["jax", "tensorflow"])
@pytest.mark.parametrize(PARAMETERS, TRACED, ids=[row[0] for row in TRACED])
def test_stateless_and_compiled(name, arguments, y_true, y_pred, traced_backend):
    """A compiled update gives what an eager one gives."""
    with use_backend(traced_backend):
        check_compiled(name, arguments, y_true, y_pred)


def check_compiled(name, arguments, y_true, y_pred):
    eager, compiled = (getattr(metrics, name)(**arguments, name="m") for _ in range(2))
    y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
    for metric in (eager, compiled):
        metric.update_state(y_true, y_pred)
    state = [ops.convert_to_tensor(v.numpy()) for v in compiled.variables]
    update = jit(lambda s, t, p: compiled.stateless_update_state(s, t, p))
    state = update(state, y_true, y_pred)
    eager.update_state(y_true, y_pred)
    assert_close(compiled.stateless_result(state), ops.convert_to_numpy(eager.result()))
    for value, v in zip(state, eager.variables, strict=True):
        assert_close(value, v.numpy())
    assert all(not ops.convert_to_numpy(z).any() for z in compiled.stateless_reset_state())


@every_row
def test_configs(name, arguments, y_true, y_pred):
    ours = getattr(metrics, name)(**arguments, name="m")
    theirs = getattr(keras.metrics, name)(**arguments, name="m")
    mine, other = ours.get_config(), theirs.get_config()
    if name.endswith("IoU"):  # "int" is int64 for Keras on TensorFlow
        assert (mine.pop("dtype"), other.pop("dtype")) == ("int32", "int64")
    if other.get("label_weights") is not None:
        other["label_weights"] = mine["label_weights"]  # a tensor there
    assert {k: list(v) if isinstance(v, tuple) else v for k, v in mine.items()} == other
    again = metrics.deserialize(metrics.serialize(ours))
    assert again.get_config() == ours.get_config()
    assert type(metrics.deserialize(keras.metrics.serialize(theirs))) is type(ours)
    assert ours._direction == getattr(theirs, "_direction", None)
    parameters = list(inspect.signature(type(theirs)).parameters)
    assert list(inspect.signature(type(ours)).parameters) == parameters


@pytest.mark.parametrize("kind", ["Mean", "Sum"])
def test_reductions(kind, backend):
    ours, theirs = getattr(metrics, kind)(), getattr(keras.metrics, kind)()
    batches = [
        (3.0, None), ([1.0, 5.0], None), ([1.0, 5.0], [0.0, 2.0]), (REAL, None),
        (REAL, [1.0, 0.5]), (REAL, WEIGHTS[None].repeat(2, 0)), (REAL, POSITIVE), (2, 0.5),
    ]  # fmt: skip
    for values, weight in batches:
        ours.update_state(values, weight)
        theirs.update_state(np.array(values), weight)
        assert_close(ours.result(), theirs.result())
    assert ours.get_config() == theirs.get_config() | {"name": ours.name}


def test_nothing_seen(backend):
    for name in ("Mean", "Accuracy", "Precision", "Recall", "AUC", "F1Score", "R2Score"):
        assert float(getattr(metrics, name)().result()) == 0.0
    auc, theirs = metrics.AUC(), keras.metrics.AUC()
    for target in (0.0, 1.0):  # one class alone
        y_true = np.full(8, target, np.float32)
        assert_close(auc(y_true, SCORE), theirs(y_true, SCORE))
        auc.reset_state()
        theirs.reset_state()
    zero = np.zeros(8, np.float32)
    for name in ("Precision", "AUC", "BinaryAccuracy"):
        assert float(getattr(metrics, name)()(ONE, SCORE, zero)) == 0.0


def test_constant_targets(backend):
    """Nothing to explain: infinite scores count as zero."""
    ours, theirs = metrics.R2Score(), keras.metrics.R2Score()
    y_true = np.ones((4, 2), np.float32)
    assert_close(ours(y_true, REAL[0][:4, :2]), theirs(y_true, REAL[0][:4, :2]))


def test_masks(backend):
    mask = [True, False] * 4
    y_pred = ops.convert_to_tensor(CHANCES)
    masking.set_mask(y_pred, ops.convert_to_tensor(mask))
    theirs_pred = keras.ops.convert_to_tensor(CHANCES)
    keras.src.backend.set_keras_mask(theirs_pred, keras.ops.convert_to_tensor(mask))
    for weight in (None, WEIGHTS):
        ours, theirs = metrics.BinaryAccuracy(), keras.metrics.BinaryAccuracy()
        assert_close(ours(BITS, y_pred, weight), theirs(BITS, theirs_pred, weight))


def test_moving_between_backends(backend):
    with use_backend("numpy"):
        metric = metrics.AUC()
        metric.update_state(ONE[:4], SCORE[:4])
    metric.to_backend(backend)
    metric.update_state(ops.convert_to_tensor(ONE[4:]), ops.convert_to_tensor(SCORE[4:]))
    assert {v.backend for v in metric.variables} == {backend}
    assert_close(metric.result(), keras.metrics.AUC()(ONE, SCORE))
    # Literals follow the metric, whatever backend is current.
    with use_backend("numpy"):
        metric.update_state(ONE, SCORE)
        assert to_backend(metric.result(), "numpy").dtype == np.float32


def test_confusion_of_even_and_listed_thresholds_agree(backend):
    thresholds = [0.0, 0.25, 0.5, 0.75, 1.0]
    given = ops.convert_to_tensor(BITS), ops.convert_to_tensor(CHANCES)
    for multi_label in (False, True):
        both = [
            confusion(*given, thresholds, multi_label=multi_label, even=even)
            for even in (False, True)
        ]
        for cell in both[0]:
            assert_close(both[0][cell], ops.convert_to_numpy(both[1][cell]))


def test_subclass_and_nested_metrics(backend):
    class Both(metrics.Metric):
        def __init__(self, name=None):
            super().__init__(name=name)
            self.mean = metrics.Mean()
            self.seen = self.add_weight(initializer="zeros", name="seen")

        def update_state(self, values):
            self.mean.update_state(values)
            self.seen.assign_add(1.0)

        def result(self):
            return {"mean": self.mean.result(), "seen": self.seen.value}

    both = Both()
    both.update_state([1.0, 3.0])
    assert {k: float(v) for k, v in both.result().items()} == {"mean": 2.0, "seen": 1.0}
    assert [v.name for v in both.variables] == ["seen", "total", "count"]
    both.reset_state()
    assert float(both.result()["seen"]) == 0.0
    assert both.name == "both" or both.name.startswith("both_")


def test_get():
    assert isinstance(metrics.get("mse"), metrics.MeanSquaredError)
    assert isinstance(metrics.get("top_k_categorical_accuracy"), metrics.TopKCategoricalAccuracy)
    assert isinstance(metrics.get("auc"), metrics.AUC)
    assert metrics.get(metrics.Mean).name.startswith("mean")
    assert metrics.get(abs) is abs
    assert metrics.get(None) is None
    wrapper = metrics.MeanMetricWrapper(metrics.binary_accuracy, name="b", threshold=0.3)
    again = metrics.deserialize(metrics.serialize(wrapper))
    assert again.get_config() == wrapper.get_config()
    assert again._fn is metrics.binary_accuracy


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: metrics.get("nope"), "Unknown metric 'nope'"),
        (lambda: metrics.Precision(thresholds=[2.0]), "Threshold"),
        (lambda: metrics.AUC(curve="x"), "AUC curve"),
        (lambda: metrics.AUC(summation_method="x"), "summation"),
        (lambda: metrics.AUC(num_thresholds=1), "num_thresholds"),
        (lambda: metrics.AUC(num_labels=2), "multi_label"),
        (lambda: metrics.AUC(multi_label=True)(ONE, SCORE), "rank 2"),
        (lambda: metrics.Precision(class_id=1)(ONE, SCORE), "class_id"),
        (lambda: metrics.F1Score(average="x"), "average"),
        (lambda: metrics.FBetaScore(beta=-1.0), "beta"),
        (lambda: metrics.F1Score(threshold=2.0), "threshold"),
        (lambda: metrics.F1Score()(ONE, SCORE), "2D"),
        (lambda: metrics.R2Score("x"), "class_aggregation"),
        (lambda: metrics.R2Score()(ONE, SCORE), "2D"),
        (lambda: metrics.RecallAtPrecision(2.0), "precision"),
        (lambda: metrics.IoU(2, [2]), "out of range"),
        (lambda: metrics.Mean().stateless_update_state([0.0], [1.0]), "metric_variables"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_forgotten_super():
    class Wrong(metrics.Metric):
        def __init__(self):
            self.total = self.add_weight(name="total")

    with pytest.raises(RuntimeError, match="super"):
        Wrong()


class Held(metrics.Metric):
    """State in lists and dicts, and a result that is a variable."""

    def __init__(self):
        super().__init__(name="held")
        self.inner = [metrics.Mean(name="mean")]
        self.named = {"sum": metrics.Sum(name="sum"), "more": (Variable(0.0, trainable=False),)}
        self.last = self.add_variable((), name="last")

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_pred = ops.cast(y_pred, "float32")
        self.inner[0].update_state(y_pred)
        self.named["sum"].update_state(y_pred)
        self.named["more"][0].assign(ops.max(y_pred))
        self.last.assign(ops.max(y_pred))

    def result(self):
        return self.last


def test_state_in_lists_and_dicts_is_tracked(backend):
    metric = Held()
    assert len(metric.variables) == 5  # last, the mean's two, the sum's, the one in a tuple
    metric.inner.append(metrics.Sum())
    assert len(metric.variables) == 6
    metric.update_state(None, ops.convert_to_tensor([1.0, 3.0]))
    assert float(metric.inner[0].result()) == 2.0
    metric.reset_state()
    assert float(metric.named["sum"].result()) == float(metric.named["more"][0].value) == 0.0
    state = metric.stateless_update_state(
        [v.value for v in metric.variables], None, ops.convert_to_tensor([1.0, 3.0])
    )
    assert float(metric.stateless_result(state)) == 3.0
    metric.to_backend("numpy")
    assert {v.backend for v in metric.variables} == {"numpy"}


@pytest.mark.parametrize("eager", [False, True])
def test_a_result_may_be_a_variable(trains, eager):
    x = np.arange(8, dtype="float32")[:, None]
    model = models.Sequential([layers.Input((1,)), layers.Identity()])
    model.compile("sgd", "mse", metrics=[Held()], run_eagerly=eager)
    seen = []
    tell = callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(logs.raw("held"))
    )
    model.fit(x, x, batch_size=4, shuffle=False, verbose=0, callbacks=[tell])
    assert [float(v) for v in seen] == [3.0, 7.0]  # each as it was after its batch
    assert model.evaluate(x, x, verbose=0, return_dict=True)["held"] == 7.0
