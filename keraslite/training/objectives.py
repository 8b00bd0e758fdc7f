"""What `compile` was given, applied to nested outputs: losses, and metrics by output."""

from typing import Any

import numpy as np

from keraslite import losses, metrics, ops, tree
from keraslite.naming import to_snake_case

# Bare names that mean the binary, the categorical or the sparse kind, by the shapes.
_ACCURACIES = dict.fromkeys(
    ("accuracy", "acc"), ("BinaryAccuracy", "CategoricalAccuracy", "SparseCategoricalAccuracy")
)
_CROSSENTROPIES = dict.fromkeys(
    ("crossentropy", "ce"),
    ("binary_crossentropy", "categorical_crossentropy", "sparse_categorical_crossentropy"),
)


def per_output(given: Any, y_pred: Any, names: list[str], what: str) -> list[Any]:
    """One entry an output, from what was given once, as a list, or by output name."""
    outputs = tree.flatten(y_pred)
    if isinstance(given, dict):
        unknown = sorted(set(given) - set(names))
        if unknown:
            raise ValueError(f"{what} names {unknown}, but the outputs are {names}.")
        return [given.get(n) for n in names]
    if len(outputs) == 1:
        return [given]
    if isinstance(given, list | tuple):
        if len(given) != len(outputs):
            raise ValueError(f"{what} has {len(given)} entries for {len(outputs)} outputs.")
        return list(given)
    return [given] * len(outputs)


def output_names(y_pred: Any) -> list[str]:
    """The names of the outputs: the keys of a dict, else numbered."""
    if isinstance(y_pred, dict):
        return sorted(y_pred)
    return [f"output_{i}" for i in range(len(tree.flatten(y_pred)))]


def by_shapes(kinds: tuple[str, str, str], y_true: Any, y_pred: Any) -> str:
    """Which of three kinds, binary, categorical or sparse, suits these targets and outputs."""
    binary, categorical, sparse = kinds
    if y_pred.shape[-1] == 1:
        return binary
    if len(y_true.shape) < len(y_pred.shape) or y_true.shape[-1] == 1:
        return sparse
    return categorical


def make_metric(identifier: Any, y_true: Any, y_pred: Any) -> Any:
    """A metric from a name, a function or a metric; bare names are resolved by the shapes."""
    if isinstance(identifier, str) and identifier.lower() in _ACCURACIES:
        kinds = _ACCURACIES[identifier.lower()]
        return getattr(metrics, by_shapes(kinds, y_true, y_pred))(name=identifier)
    found = metrics.get(identifier)
    if not hasattr(found, "update_state"):
        found = metrics.MeanMetricWrapper(found, name=_name_of(found))
    if isinstance(identifier, str):  # in the logs under the name that was asked for
        found.name = identifier
    return found


def make_loss(identifier: Any, y_true: Any, y_pred: Any) -> Any:
    """A loss from a name, a function or a loss; None for an output without one."""
    if isinstance(identifier, str) and identifier.lower() in _CROSSENTROPIES:
        identifier = by_shapes(_CROSSENTROPIES[identifier.lower()], y_true, y_pred)
    found = losses.get(identifier)
    if found is None or isinstance(found, losses.Loss):
        return found
    return losses.LossFunctionWrapper(found, name=_name_of(found))


def _compared(loss: Any, target: Any, output: Any, weight: Any) -> Any:
    """The loss; where it fails, the error says for which shapes."""
    try:
        return loss(target, output, sample_weight=weight)
    except (ValueError, TypeError, RuntimeError) as error:
        shapes = [getattr(x, "shape", None) for x in (target, output)]
        if None in shapes or (weight is None and shapes[0] == shapes[1]):
            raise
        told = f" and weights of shape {tuple(weight.shape)}" if hasattr(weight, "shape") else ""
        raise ValueError(
            f"The loss {loss.name!r} was given targets of shape {tuple(shapes[0])}, outputs of "
            f"shape {tuple(shapes[1])}{told}: {error}"
        ) from error


def _name_of(function: Any) -> str:
    return to_snake_case(getattr(function, "__name__", type(function).__name__))


def unlike(names: list[tuple[str, str, bool]]) -> list[str]:
    """Names in logs, each once: a second one of a weighted metric says so, others are numbered.

    Args:
        names: (the output's prefix, the metric's name, whether it is weighted) of each.

    >>> unlike([("", "acc", False), ("", "acc", True), ("", "acc", False)])
    ['acc', 'weighted_acc', 'acc_1']
    """
    counts: dict[str, int] = {}
    found = []
    for prefix, name, weighted in names:
        full = prefix + name
        if full in counts and weighted:
            full = f"{prefix}weighted_{name}"
        count = counts.get(full, 0)
        counts[full] = count + 1
        found.append(f"{full}_{count}" if count else full)
    return found


class Objectives:
    """The losses and metrics of a compiled model, made for its outputs at the first batch.

    Args:
        loss, loss_weights, metrics, weighted_metrics: what `compile` was given.
    """

    def __init__(self, loss: Any, loss_weights: Any, metrics: Any, weighted_metrics: Any):
        self.given = (loss, loss_weights, metrics, weighted_metrics)
        self.built = False
        self.losses: list[Any] = []
        self.weights: list[float] = []
        self.trackers: list[Any] = []  # of the single losses, where there are several; else Nones
        self.metrics: list[tuple[int, Any, bool]] = []  # (output, metric, whether weighted)
        self.names: list[str] = []
        self._num_classes: int | None = None  # where labels are class numbers

    def build(self, y_true: Any, y_pred: Any, names: list[str] | None = None) -> None:
        """Make the losses and metrics for outputs like these."""
        loss, loss_weights, plain, weighted = self.given
        names = output_names(y_pred) if isinstance(y_pred, dict) or not names else names
        outputs = tree.flatten(y_pred)
        targets = self._targets(y_true, y_pred)
        self.losses = [
            make_loss(x, t, p)
            for x, t, p in zip(per_output(loss, y_pred, names, "loss"), targets, outputs)
        ]
        weights = per_output(loss_weights, y_pred, names, "loss_weights")
        self.weights = [1.0 if w is None else float(w) for w in weights]
        several = len(outputs) > 1
        tracked = sum(x is not None for x in self.losses) > 1
        self.trackers = [
            metrics.Mean(name=f"{n}_loss") if tracked and x is not None else None
            for n, x in zip(names, self.losses, strict=True)
        ]
        self.metrics = []
        for given, is_weighted in ((plain, False), (weighted, True)):
            if given is None:
                continue
            if not several and isinstance(given, list | tuple):
                entries = [list(given)]
            else:
                entries = per_output(given, y_pred, names, "metrics")
            for i, entry in enumerate(entries):
                for item in tree.flatten(entry) if entry is not None else ():
                    metric = make_metric(item, targets[i], outputs[i])
                    self.metrics.append((i, metric, is_weighted))
        self.names = unlike(
            [(f"{names[i]}_" if several else "", m.name, w) for i, m, w in self.metrics]
        )
        self.built = True

    @staticmethod
    def _targets(y_true: Any, y_pred: Any) -> list[Any]:
        if isinstance(y_pred, dict) and isinstance(y_true, dict):
            return [y_true.get(k) for k in sorted(y_pred)]
        flat = tree.flatten(y_true)
        count = len(tree.flatten(y_pred))
        return flat if len(flat) == count else [y_true] * count

    def limit_labels(self, y_true: Any, y_pred: Any) -> None:
        """Take note of how many classes the outputs have, where labels are class numbers.

        Args:
            y_true: the targets of a batch.
            y_pred: its outputs, perhaps symbolic.
        """
        sparse = losses.sparse_categorical_crossentropy
        one = len(self.losses) == 1 and not tree.is_nested(y_true)
        if one and getattr(self.losses[0], "fn", None) is sparse:
            self._num_classes = tree.flatten(y_pred)[0].shape[-1]

    def check_labels(self, y_true: Any) -> None:
        """Raise ValueError for class numbers that the outputs do not have.

        Args:
            y_true: the targets of a batch; only numpy arrays are looked at.
        """
        if self._num_classes is None or not isinstance(y_true, np.ndarray) or not y_true.size:
            return
        ignored = getattr(self.losses[0], "ignore_class", None)
        labels = y_true if ignored is None else y_true[y_true != ignored]
        if labels.size and (labels.min() < 0 or labels.max() >= self._num_classes):
            raise ValueError(
                f"The labels go from {labels.min()} to {labels.max()}, but the model has "
                f"{self._num_classes} classes: labels must be from 0 to {self._num_classes - 1}."
            )

    def loss(self, y_true: Any, y_pred: Any, sample_weight: Any) -> list[Any]:
        """The weighted losses of the outputs; the single ones are tracked."""
        outputs, targets = tree.flatten(y_pred), self._targets(y_true, y_pred)
        weights = tree.flatten(sample_weight)
        weights = weights if len(weights) == len(outputs) else weights * len(outputs)
        found = []
        for i, (loss, target, output) in enumerate(zip(self.losses, targets, outputs, strict=True)):
            if loss is None:
                continue
            value = _compared(loss, target, output, weights[i])
            if self.trackers[i] is not None:  # by rows: a shorter last batch counts for less
                rows = output.shape[0] if output.shape else None
                self.trackers[i].update_state(ops.stop_gradient(value), sample_weight=rows)
            found.append(value if self.weights[i] == 1.0 else value * self.weights[i])
        return found

    def update(self, y_true: Any, y_pred: Any, sample_weight: Any) -> None:
        """Update the metrics."""
        outputs, targets = tree.flatten(y_pred), self._targets(y_true, y_pred)
        weights = tree.flatten(sample_weight)
        weights = weights if len(weights) == len(outputs) else weights * len(outputs)
        for i, metric, is_weighted in self.metrics:
            if is_weighted:
                metric.update_state(targets[i], outputs[i], sample_weight=weights[i])
            else:
                metric.update_state(targets[i], outputs[i])

    def results(self) -> dict[str, Any]:
        """The metrics by name."""
        out = {t.name: t.result() for t in self.trackers if t is not None}
        for name, (_, metric, _) in zip(self.names, self.metrics, strict=True):
            result = metric.result()
            out |= result if isinstance(result, dict) else {name: result}
        return out

    def all_metrics(self) -> list[Any]:
        """Trackers and metrics."""
        return [t for t in self.trackers if t is not None] + [m for _, m, _ in self.metrics]
