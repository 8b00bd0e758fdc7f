"""Steps in the stateless form of Keras on JAX: `train_step(self, state, data)`, and the loss in it.

The state is a tuple of lists of values: of the trainable and the other variables of the model, of
the optimizer's variables (in training) and of those of the metrics (not in prediction).
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from keraslite.variable import StatelessScope


def is_stateless(step: Callable) -> bool:
    """Return whether a step takes the state and a batch, and not a batch alone.

    Args:
        step: a bound method.

    >>> is_stateless(lambda state, data: data), is_stateless(lambda data: data)
    (True, False)
    """
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(step).parameters.values()
    return sum(p.kind in positional and p.default is p.empty for p in parameters) == 2


def with_live_state(model: Any, mode: str, step: Callable) -> Callable:
    """Return a stateless step as a function of a batch that reads and assigns the variables.

    Args:
        model: the model.
        mode: "train", "test" or "predict".
        step: a function of (state, data) that returns (logs, new state); in prediction, (outputs,
            new values of the variables that are not trained).
    """

    def call(data: Any) -> Any:
        groups = [model.trainable_variables, model.non_trainable_variables]
        if mode == "train":
            groups.append(model.optimizer.variables)
        if mode != "predict":
            groups.append(model.metrics_variables)
        state = tuple([v.value for v in group] for group in groups)
        out, new = step(state, data)
        if mode == "predict":
            groups, new = groups[1:], (new,)
        for group, values in zip(groups, new, strict=True):
            for variable, value in zip(group, values, strict=True):
                variable.assign(value)
        return out

    return call


class StatelessLoss:
    """The loss of a model as a function of values: a base of `Trainer`."""

    _assert_compiled: Callable
    _build_objectives: Callable
    _compute_loss: Callable
    _kl_objectives: Any
    metrics_variables: Any

    def stateless_compute_loss(
        self, trainable_variables: Sequence[Any], non_trainable_variables: Sequence[Any],
        metrics_variables: Sequence[Any], x: Any = None, y: Any = None, y_pred: Any = None,
        sample_weight: Any = None, training: bool = True,
    ) -> tuple[Any, tuple[list[Any], ...]]:  # fmt: skip
        """Return `compute_loss` for given values of the variables, changing nothing.

        The penalties on variables are part of it. What layers add in a call is not: a
        `stateless_call` with `return_losses=True` returns it, and the penalties once more.

        Args:
            trainable_variables: values in the order of `trainable_variables`.
            non_trainable_variables: values in the order of `non_trainable_variables`.
            metrics_variables: values in the order of `metrics_variables`, perhaps without those of
                the metrics that the first call makes: those of `compile`, and of the single losses
                of several outputs.
            x: the inputs.
            y: the targets.
            y_pred: the outputs.
            sample_weight: weights of the rows.
            training: whether the call trains.

        Returns:
            (loss, (values of the trainable variables, of the others, of those of the metrics)).

        Raises:
            ValueError: there are more or fewer values than variables.
        """
        self._assert_compiled("stateless_compute_loss")
        self._build_objectives(y, y_pred)
        names = ("trainable_variables", "non_trainable_variables", "metrics_variables")
        groups = [getattr(self, name) for name in names]
        given = (trainable_variables, non_trainable_variables, metrics_variables)
        pairs: list[tuple] = []
        for name, variables, values in zip(names, groups, given, strict=True):
            if name == "metrics_variables" and len(values) == len(first := self._first_metrics()):
                variables = first
            if len(variables) != len(values):
                raise ValueError(
                    f"stateless_compute_loss: {name} must have a value for each of the model's "
                    f"{len(variables)} variables, got {len(values)}."
                )
            pairs += zip(variables, values, strict=True)
        with StatelessScope(pairs):
            loss = self._compute_loss(x, y, y_pred, sample_weight, training=training)
            return loss, tuple([v.uncast_value() for v in group] for group in groups)

    def _first_metrics(self) -> list[Any]:
        """Return the variables of the metrics that there are before the first batch."""
        made = {id(v) for m in self._kl_objectives.all_metrics() for v in m.variables}
        return [v for v in self.metrics_variables if id(v) not in made]
