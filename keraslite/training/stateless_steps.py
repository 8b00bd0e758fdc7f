"""Steps in the stateless form of Keras on JAX: `train_step(self, state, data)`.

The state is a tuple of lists of values: of the trainable and the other variables of the model, of
the optimizer's variables (in training) and of those of the metrics (not in prediction).
"""

import inspect
from collections.abc import Callable
from typing import Any


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
