"""The losses and metrics of `compile`, applied to nested outputs."""

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


def per_output(values: Any, y_pred: Any, names: list[str], what: str) -> list[Any]:
    """Return one value for each output, from a single one, a list, or a dict by output name."""
    outputs = tree.flatten(y_pred)
    if isinstance(values, dict):
        unknown = sorted(set(values) - set(names))
        if unknown:
            raise ValueError(f"{what} names {unknown}, but the outputs are {names}.")
        return [values.get(n) for n in names]
    if len(outputs) == 1:
        return [values]
    if isinstance(values, list | tuple):
        if len(values) != len(outputs):
            raise ValueError(f"{what} has {len(values)} entries for {len(outputs)} outputs.")
        return list(values)
    return [values] * len(outputs)


def output_names(y_pred: Any) -> list[str]:
    """Return the names of the outputs: the keys of a dict, else numbered."""
    if isinstance(y_pred, dict):
        return sorted(y_pred)
    return [f"output_{i}" for i in range(len(tree.flatten(y_pred)))]


def by_shapes(names: tuple[str, str, str], y_true: Any, y_pred: Any) -> str:
    """Return the binary, categorical or sparse name, as the targets and outputs require."""
    binary, categorical, sparse = names
    if y_pred.shape[-1] == 1:
        return binary
    if len(y_true.shape) < len(y_pred.shape) or y_true.shape[-1] == 1:
        return sparse
    return categorical


def make_metric(identifier: Any, y_true: Any, y_pred: Any) -> Any:
    """Return a metric from a name, a function or a metric; bare names go by the shapes."""
    if isinstance(identifier, str) and identifier.lower() in _ACCURACIES:
        name = by_shapes(_ACCURACIES[identifier.lower()], y_true, y_pred)
        return getattr(metrics, name)(name=identifier)
    metric = metrics.get(identifier)
    if not hasattr(metric, "update_state"):
        metric = metrics.MeanMetricWrapper(metric, name=_name_of(metric))
    if isinstance(identifier, str):  # in the logs under the name that was asked for
        metric.name = identifier
    return metric


def make_loss(identifier: Any, y_true: Any, y_pred: Any) -> Any:
    """Return a loss from a name, a function or a loss; None for an output without one."""
    if isinstance(identifier, str) and identifier.lower() in _CROSSENTROPIES:
        identifier = by_shapes(_CROSSENTROPIES[identifier.lower()], y_true, y_pred)
    loss = losses.get(identifier)
    if loss is None or isinstance(loss, losses.Loss):
        return loss
    return losses.LossFunctionWrapper(loss, name=_name_of(loss))


def _apply_loss(loss: Any, target: Any, output: Any, weight: Any) -> Any:
    """Return the loss; where it fails, the error names the shapes."""
    try:
        return loss(target, output, sample_weight=weight)
    except (ValueError, TypeError, RuntimeError) as error:
        shapes = [getattr(x, "shape", None) for x in (target, output)]
        if None in shapes or (weight is None and shapes[0] == shapes[1]):
            raise
        weights = f", weights of shape {tuple(weight.shape)}" if hasattr(weight, "shape") else ""
        raise ValueError(
            f"The loss {loss.name!r} got targets of shape {tuple(shapes[0])}, outputs of shape "
            f"{tuple(shapes[1])}{weights}: {error}"
        ) from error


def _name_of(function: Any) -> str:
    return to_snake_case(getattr(function, "__name__", type(function).__name__))


def unique_names(names: list[tuple[str, str, bool]]) -> list[str]:
    """Return names for logs, each once: a second weighted metric says so, others are numbered.

    Args:
        names: (the output's prefix, the metric's name, whether it is weighted) of each.

    >>> unique_names([("", "acc", False), ("", "acc", True), ("", "acc", False)])
    ['acc', 'weighted_acc', 'acc_1']
    """
    counts: dict[str, int] = {}
    unique = []
    for prefix, name, weighted in names:
        full = prefix + name
        if full in counts and weighted:
            full = f"{prefix}weighted_{name}"
        count = counts.get(full, 0)
        counts[full] = count + 1
        unique.append(f"{full}_{count}" if count else full)
    return unique


class Objectives:
    """The losses and metrics of a compiled model, made for its outputs at the first batch.

    Args:
        loss, loss_weights, metrics, weighted_metrics: the arguments of `compile`.
    """

    def __init__(self, loss: Any, loss_weights: Any, metrics: Any, weighted_metrics: Any):
        self.arguments = (loss, loss_weights, metrics, weighted_metrics)
        self.built = False
        self.losses: list[Any] = []
        self.weights: list[float] = []
        self.trackers: list[Any] = []  # of the single losses, where there are several; else Nones
        self.metrics: list[tuple[int, Any, bool]] = []  # (output, metric, whether weighted)
        self.names: list[str] = []
        self._num_classes: int | None = None  # where labels are class numbers

    def build(self, y_true: Any, y_pred: Any, names: list[str] | None = None) -> None:
        """Make the losses and metrics for outputs like these."""
        loss, loss_weights, plain, weighted = self.arguments
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
        for identifiers, is_weighted in ((plain, False), (weighted, True)):
            if identifiers is None:
                continue
            if not several and isinstance(identifiers, list | tuple):
                entries = [list(identifiers)]
            else:
                entries = per_output(identifiers, y_pred, names, "metrics")
            for i, entry in enumerate(entries):
                for item in tree.flatten(entry) if entry is not None else ():
                    metric = make_metric(item, targets[i], outputs[i])
                    self.metrics.append((i, metric, is_weighted))
        self.names = unique_names(
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
        """Remember the number of classes of the outputs, where labels are class numbers.

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
        """Return the weighted losses of the outputs, and track them one by one."""
        outputs, targets = tree.flatten(y_pred), self._targets(y_true, y_pred)
        weights = tree.flatten(sample_weight)
        weights = weights if len(weights) == len(outputs) else weights * len(outputs)
        values = []
        for i, (loss, target, output) in enumerate(zip(self.losses, targets, outputs, strict=True)):
            if loss is None:
                continue
            value = _apply_loss(loss, target, output, weights[i])
            if self.trackers[i] is not None:  # by rows: a shorter last batch counts for less
                rows = output.shape[0] if output.shape else None
                self.trackers[i].update_state(ops.stop_gradient(value), sample_weight=rows)
            values.append(value if self.weights[i] == 1.0 else value * self.weights[i])
        return values

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
        """Return the results of the metrics by name."""
        out = {t.name: t.result() for t in self.trackers if t is not None}
        for name, (_, metric, _) in zip(self.names, self.metrics, strict=True):
            result = metric.result()
            out |= result if isinstance(result, dict) else {name: result}
        return out

    def all_metrics(self) -> list[Any]:
        """Return the trackers of the losses and the metrics."""
        return [t for t in self.trackers if t is not None] + [m for _, m, _ in self.metrics]
