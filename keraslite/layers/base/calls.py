"""The parameters of a layer's `call`, and the context that outer calls pass to inner ones."""

import inspect
from functools import cache
from typing import Any


class CallContext:
    """The context that the outermost call passes to the layers inside it."""

    __slots__ = ("training",)

    def __init__(self, training: bool | None):
        self.training = training


class CallSpec:
    """The parameters of a class's `call`, inspected once.

    Args:
        call: the function.
        makes_masks: whether `compute_mask` may give a mask where no input has one.

    >>> spec = CallSpec(lambda self, x, mask=None, training=False: x, False)
    >>> spec.names, spec.training, spec.masks
    (['x', 'mask', 'training'], True, ['mask'])
    """

    def __init__(self, call: Any, makes_masks: bool):
        parameters = list(inspect.signature(call).parameters.values())[1:]
        by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self.names = [p.name for p in parameters if p.kind in by_position]
        names = {p.name for p in parameters}
        self.training = "training" in names
        self.training_default = next((p.default for p in parameters if p.name == "training"), None)
        self.masks = [n for n in names if n == "mask" or n.endswith("_mask")]
        self.makes_masks = makes_masks


@cache
def signature(function: Any) -> inspect.Signature:
    """Return the signature of a function, inspected once."""
    return inspect.signature(function)


def resolve_training(
    layer: Any, spec: CallSpec, args: tuple, kwargs: dict[str, Any], outer: CallContext | None
) -> bool | None:
    """Return whether a call trains: as it says, else as the outer call, else the default.

    `kwargs` is left with `training` exactly where `call` takes it and `args` does not hold it.
    """
    positional = spec.training and "training" in spec.names[: len(args)]
    training = kwargs.get("training") if spec.training else kwargs.pop("training", None)
    if training is None and positional:
        training = args[spec.names.index("training")]
    if training is None:
        training = outer.training if outer is not None else layer.__dict__.get("_kl_mode")
    if training is None and spec.training and isinstance(spec.training_default, bool):
        training = spec.training_default
    if spec.training and not positional:
        kwargs["training"] = bool(training)
    return training
