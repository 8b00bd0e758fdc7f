"""The losses and metrics of `compile`, applied to nested outputs."""

from typing import Any, NamedTuple

import numpy as np

from keraslite import losses, metrics, ops, tree
from keraslite.naming import to_snake_case
from keraslite.training.outputs import (
    by_output,
    output_names,
    targets_by_output,
    weights_by_output,
)

# Bare names that mean the binary, the categorical or the sparse kind, by the shapes.
_ACCURACIES = dict.fromkeys(
    ("accuracy", "acc"), ("BinaryAccuracy", "CategoricalAccuracy", "SparseCategoricalAccuracy")
)
_CROSSENTROPIES = dict.fromkeys(
    ("crossentropy", "ce"),
    ("binary_crossentropy", "categorical_crossentropy", "sparse_categorical_crossentropy"),
)


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
        return loss(_of_steps(loss, target, output), output, sample_weight=weight)
    except (ValueError, TypeError, RuntimeError) as error:
        shapes = [getattr(x, "shape", None) for x in (target, output)]
        if None in shapes or (weight is None and shapes[0] == shapes[1]):
            raise
        weights = f", weights of shape {tuple(weight.shape)}" if hasattr(weight, "shape") else ""
        raise ValueError(
            f"The loss {loss.name!r} got targets of shape {tuple(shapes[0])}, outputs of shape "
            f"{tuple(shapes[1])}{weights}: {error}"
        ) from error


def _of_steps(loss: Any, target: Any, output: Any) -> Any:
    """Return targets (batch, steps) as (batch, steps, 1) for outputs of that shape.

    The loss then has a value for each step, which masks and weights of steps fit; without the axis
    it would have their mean. A sum is left as Keras has it.
    """
    first, second = (len(getattr(x, "shape", ())) for x in (target, output))
    if (
        1 < first == second - 1
        and output.shape[-1] == 1
        and isinstance(loss, losses.LossFunctionWrapper)
        and loss.reduction not in ("sum", "none", None)
    ):
        return ops.expand_dims(target, -1)
    return target


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


class OutputLoss(NamedTuple):
    """A loss of one output.

    Args:
        output: which of the flat outputs.
        loss: the loss.
        weight: its factor in the total.
        tracker: the mean of its values over an epoch; None where there is one loss alone.
    """

    output: int
    loss: losses.Loss
    weight: float
    tracker: metrics.Mean | None


class Objectives:
    """The losses and metrics of a compiled model, made for its outputs at the first batch.

    Args:
        loss, loss_weights, metrics, weighted_metrics: the arguments of `compile`.
    """

    def __init__(self, loss: Any, loss_weights: Any, metrics: Any, weighted_metrics: Any):
        self.arguments = (loss, loss_weights, metrics, weighted_metrics)
        self.has_loss = any(v is not None for v in tree.flatten(loss))
        self.built = False
        self.losses: list[OutputLoss] = []
        self.metrics: list[tuple[int, Any, bool]] = []  # (output, metric, whether weighted)
        self.names: list[str] = []  # of the metrics
        self.shapes: list[tuple] = []  # of the outputs
        self._output_names: list[str] = []
        self._num_classes: int | None = None  # where labels are class numbers

    def build(self, y_true: Any, y_pred: Any, names: list[str] | None = None) -> None:
        """Make the losses and metrics for outputs like these."""
        loss, loss_weights, plain, weighted = self.arguments
        outputs = tree.flatten(y_pred)
        if isinstance(y_pred, dict) or not names or len(names) != len(outputs):
            names = output_names(y_pred)
        self._output_names, self.shapes = names, [tuple(p.shape) for p in outputs]
        entries = [tree.flatten(x) for x in by_output(loss, y_pred, names, "loss")]
        used = [any(x is not None for x in entry) for entry in entries]
        targets = targets_by_output(y_true, y_pred, names, used)
        self.losses = self._make_losses(entries, loss_weights, targets, y_pred)
        several = len(outputs) > 1
        self.metrics = []
        for identifiers, is_weighted in ((plain, False), (weighted, True)):
            for i, entry in enumerate(by_output(identifiers or None, y_pred, names, "metrics")):
                for item in tree.flatten(entry) if entry is not None else ():
                    metric = make_metric(item, targets[i], outputs[i])
                    self.metrics.append((i, metric, is_weighted))
        self.names = unique_names(
            [(f"{names[i]}_" if several else "", m.name, w) for i, m, w in self.metrics]
        )
        self.built = True

    def _make_losses(
        self, entries: list[list], loss_weights: Any, targets: list, y_pred: Any
    ) -> list[OutputLoss]:
        outputs, names = tree.flatten(y_pred), self._output_names
        count = sum(map(len, entries))
        flat = tree.flatten(loss_weights)
        if (
            tree.is_nested(loss_weights)
            and not isinstance(loss_weights, dict)
            and len(flat) == count
        ):
            parts = iter(flat)
            factors = [[next(parts) for _ in entry] for entry in entries]
        else:
            given = by_output(loss_weights, y_pred, names, "loss_weights")
            factors = [tree.flatten(part) for part in given]
        rows = []
        for i, (entry, factor) in enumerate(zip(entries, factors, strict=True)):
            if len(factor) not in (1, len(entry)):
                raise ValueError(
                    f"loss_weights must have a number for each loss, got {len(factor)} for the "
                    f"{len(entry)} losses of the output {names[i]!r}."
                )
            factor = factor * len(entry) if len(factor) == 1 else factor
            for identifier, weight in zip(entry, factor, strict=True):
                loss = make_loss(identifier, targets[i], outputs[i])
                if loss is not None:
                    rows.append((i, loss, 1.0 if weight is None else float(weight)))
        labels = unique_names([("", f"{names[i]}_loss", False) for i, *_ in rows])
        several = len(rows) > 1
        return [
            OutputLoss(*row, metrics.Mean(name=label) if several else None)
            for row, label in zip(rows, labels, strict=True)
        ]

    def _split(self, y_true: Any, y_pred: Any, sample_weight: Any) -> tuple[list, list, list]:
        """Return the targets, the outputs and the weights, each in the order of the outputs."""
        outputs, names = tree.flatten(y_pred), self._output_names
        used = [False] * len(outputs)
        for row in self.losses:
            used[row.output] = True
        targets = targets_by_output(y_true, y_pred, names, used)
        return targets, outputs, weights_by_output(sample_weight, y_pred, names)

    def limit_labels(self, y_true: Any, y_pred: Any) -> None:
        """Remember the number of classes of the outputs, where labels are class numbers.

        Args:
            y_true: the targets of a batch.
            y_pred: its outputs, perhaps symbolic.
        """
        sparse = losses.sparse_categorical_crossentropy
        one = len(self.losses) == 1 and not tree.is_nested(y_true)
        if one and getattr(self.losses[0].loss, "fn", None) is sparse:
            self._num_classes = tree.flatten(y_pred)[0].shape[-1]

    def check_labels(self, y_true: Any) -> None:
        """Raise ValueError for class numbers that the outputs do not have.

        Args:
            y_true: the targets of a batch; only numpy arrays are looked at.
        """
        if self._num_classes is None or not isinstance(y_true, np.ndarray) or not y_true.size:
            return
        ignored = getattr(self.losses[0].loss, "ignore_class", None)
        labels = y_true if ignored is None else y_true[y_true != ignored]
        if labels.size and (labels.min() < 0 or labels.max() >= self._num_classes):
            raise ValueError(
                f"The labels go from {labels.min()} to {labels.max()}, but the model has "
                f"{self._num_classes} classes: labels must be from 0 to {self._num_classes - 1}."
            )

    def loss(self, y_true: Any, y_pred: Any, sample_weight: Any) -> list[Any]:
        """Return the weighted losses of the outputs, and track them one by one."""
        targets, outputs, weights = self._split(y_true, y_pred, sample_weight)
        values = []
        for i, loss, factor, tracker in self.losses:
            if targets[i] is None:
                raise ValueError(
                    f"The output {self._output_names[i]!r} has a loss, but y has no targets for it."
                )
            value = _apply_loss(loss, targets[i], outputs[i], weights[i])
            if tracker is not None:  # by rows: a shorter last batch counts for less
                rows = outputs[i].shape[0] if outputs[i].shape else None
                tracker.update_state(ops.stop_gradient(value), sample_weight=rows)
            values.append(value if factor == 1.0 else value * factor)
        return values

    def update(self, y_true: Any, y_pred: Any, sample_weight: Any) -> None:
        """Update the metrics."""
        if not self.metrics:
            return
        targets, outputs, weights = self._split(y_true, y_pred, sample_weight)
        for i, metric, is_weighted in self.metrics:
            if is_weighted:
                metric.update_state(targets[i], outputs[i], sample_weight=weights[i])
            else:
                metric.update_state(targets[i], outputs[i])

    def results(self) -> dict[str, Any]:
        """Return the results of the metrics by name."""
        out = {t.name: t.result() for t in self._trackers()}
        for name, (_, metric, _) in zip(self.names, self.metrics, strict=True):
            result = metric.result()
            out |= result if isinstance(result, dict) else {name: result}
        return out

    def all_metrics(self) -> list[Any]:
        """Return the trackers of the losses and the metrics."""
        return [*self._trackers(), *(m for _, m, _ in self.metrics)]

    def _trackers(self) -> list[Any]:
        return [row.tracker for row in self.losses if row.tracker is not None]
