"""Assign losses, metrics, targets and weights, however nested, to the outputs of a model."""

from collections.abc import Sequence
from typing import Any

from keraslite import tree


def output_names(y_pred: Any) -> list[str]:
    """Return the names of the outputs: the keys of a dict, else numbered."""
    if isinstance(y_pred, dict) and not any(map(tree.is_nested, y_pred.values())):
        return sorted(y_pred)
    return [f"output_{i}" for i in range(len(tree.flatten(y_pred)))]


def by_output(values: Any, y_pred: Any, names: Sequence[str], what: str) -> list[Any]:
    """Return the part of values that belongs to each output; None where there is none.

    Args:
        values: one for all outputs, a list in their order, a dict by their names, or nested as
            they are. A list for one output belongs to it as a whole.
        y_pred: the outputs, nested.
        names: their names, in the order of the flat outputs.
        what: the name of the values, for errors.

    Raises:
        ValueError: the values name other outputs, or have another number.

    >>> by_output({"b": "mse"}, [0, 1], ["a", "b"], "loss")
    [None, 'mse']
    >>> by_output([["mse"], ["mae"]], [0, 1], ["a", "b"], "loss")
    [['mse'], ['mae']]
    """
    count = len(tree.flatten(y_pred))
    if not tree.is_nested(values):
        return [values] * count
    if isinstance(values, dict):
        if isinstance(y_pred, dict):
            _check_names(values, y_pred, what)
            return [
                part
                for key in sorted(y_pred)
                for part in _inside(values.get(key), y_pred[key], key, what)
            ]
        _check_names(values, names, what)
        return [values.get(name) for name in names]
    if count == 1:
        return [values]
    if not isinstance(y_pred, dict) and len(values) == len(y_pred):
        pairs = zip(values, y_pred, strict=True)
        return [part for v, y in pairs for part in _inside(v, y, what, what)]
    if len(values) != count:
        raise ValueError(f"{what} has {len(values)} entries for {count} outputs: {list(names)}.")
    return list(values)


def _inside(values: Any, y_pred: Any, key: str, what: str) -> list[Any]:
    if not tree.is_nested(y_pred):
        return [values]
    return by_output(values, y_pred, [f"{key}_{n}" for n in output_names(y_pred)], what)


def _check_names(values: dict, names: Any, what: str) -> None:
    unknown = sorted(set(values) - set(names))
    if unknown:
        raise ValueError(f"{what} names {unknown}, but the outputs are {sorted(names)}.")


def targets_by_output(
    y_true: Any, y_pred: Any, names: Sequence[str], used: Sequence[bool] = ()
) -> list[Any]:
    """Return the targets of each output.

    Args:
        y_true: the targets, nested; a dict may hold others that no output has.
        y_pred: the outputs, nested.
        names: their names.
        used: whether each output has a loss; a list may leave the targets of others out.
    """
    count = len(tree.flatten(y_pred))
    if not tree.is_nested(y_true):
        return [y_true] * count
    flat = tree.flatten(y_true)
    if count == 1:  # a loss of one's own may take a structure
        return flat if len(flat) == 1 else [y_true]
    if isinstance(y_true, dict):
        own = y_pred if isinstance(y_pred, dict) else names
        y_true = {key: y_true[key] for key in y_true if key in own} or y_true
    elif len(flat) == count:
        return flat
    elif len(flat) == sum(used):
        parts = iter(flat)
        return [next(parts) if x else None for x in used]
    return by_output(y_true, y_pred, names, "y")


def weights_by_output(sample_weight: Any, y_pred: Any, names: Sequence[str]) -> list[Any]:
    """Return the sample weights of each output; those of rows belong to all.

    Args:
        sample_weight: weights, nested, or one tensor for all outputs.
        y_pred: the outputs, nested.
        names: their names.
    """
    if tree.is_nested(sample_weight) and not isinstance(sample_weight, dict):
        flat = tree.flatten(sample_weight)
        if len(flat) == 1:
            sample_weight = flat[0]
        elif len(flat) == len(tree.flatten(y_pred)):
            return flat
    return by_output(sample_weight, y_pred, names, "sample_weight")
