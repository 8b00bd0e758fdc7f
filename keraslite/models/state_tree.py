"""The variables of a model as a tree: nested dicts by the names in their paths."""

from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import tree
from keraslite.variable import Variable

_FORMATS = {"backend_tensor": lambda v: v.value, "numpy_array": lambda v: v.numpy()}


def _groups(model: Any) -> dict[str, list[Variable]]:
    """Return a model's variables by what they are for."""
    return {
        "trainable_variables": model.trainable_variables,
        "non_trainable_variables": model.non_trainable_variables,
        "optimizer_variables": [] if model.optimizer is None else model.optimizer.variables,
        "metrics_variables": model.metrics_variables,
    }


def _by_path(variables: list[Variable]) -> dict[str, Variable]:
    """Return variables by path.

    Raises:
        ValueError: two have the same.
    """
    paths: dict[str, Variable] = {}
    for variable in variables:
        if variable.path in paths:
            raise ValueError(
                f"Two variables have the path {variable.path!r}: give the layers different names."
            )
        paths[variable.path] = variable
    return paths


def get_state_tree(model: Any, value_format: str) -> dict[str, Any]:
    """Return the values of a model's variables in nested dicts.

    Args:
        model: the model.
        value_format: "backend_tensor" or "numpy_array".

    Raises:
        ValueError: two variables have the same path, or there is no such format.
    """
    if value_format not in _FORMATS:
        raise ValueError(f"value_format must be one of {list(_FORMATS)}, got {value_format!r}.")
    state: dict[str, Any] = {}
    for group, variables in _groups(model).items():
        state[group] = {}
        for path, variable in _by_path(variables).items():
            *folders, name = path.split("/")
            place = state[group]
            for folder in folders:
                place = place.setdefault(folder, {})
            place[name] = _FORMATS[value_format](variable)
    return state


def set_state_tree(model: Any, state_tree: dict[str, Any]) -> None:
    """Assign the values of nested dicts to a model's variables.

    Args:
        model: the model.
        state_tree: what `get_state_tree` gave, or a part of it. An optimizer's variables are left
            out where the model has none, and those of metrics that were not used yet.

    Raises:
        ValueError: a name in it is of no variable, or a value has another shape; nothing was
            changed.
    """
    optional = {"metrics_variables"}
    if model.optimizer is None:
        optional.add("optimizer_variables")
    elif state_tree.get("optimizer_variables") and model.built:
        with backends.backend_scope(model.backend):
            model.optimizer.build(model.trainable_variables)
    groups, assignments = _groups(model), []
    for group, values in state_tree.items():
        if group not in groups:
            raise ValueError(f"A state tree has the keys {list(groups)}, got {group!r}.")
        variables = _by_path(groups[group])
        for names, value in tree.flatten_with_path(values):
            path = "/".join(map(str, names))
            if path not in variables:
                if group in optional:
                    continue
                raise ValueError(
                    f"{group} of model {model.name!r} have no {path!r}: {list(variables)}."
                )
            variables[path].check_shape(np.shape(value))
            assignments.append((variables[path], value))
    for variable, value in assignments:
        variable.assign(value)
