"""Functions of Haiku's modules as functions of parameters and state."""

import inspect
from collections.abc import Callable
from typing import Any

_TRAINING = ("training", "is_training")


def haiku_functions(function: Any) -> tuple[Callable, Callable]:
    """Return (call_fn, init_fn) of a function of Haiku, as `JaxLayer` takes them.

    Args:
        function: what `hk.transform` or `hk.transform_with_state` gave, or takes.
    """
    import haiku as hk

    if isinstance(function, hk.Transformed):
        function = hk.with_empty_state(function)
    elif not isinstance(function, hk.TransformedWithState):
        function = hk.transform_with_state(function)
    flags = [n for n in _TRAINING if n in inspect.signature(function.apply).parameters]

    def call(params: Any, state: Any, rng: Any, inputs: Any, training: bool) -> Any:
        settings = dict.fromkeys(flags, training)
        return function.apply(params or {}, state or {}, rng, inputs, **settings)

    def init(rng: Any, inputs: Any, training: bool) -> Any:
        return function.init(rng, inputs, **dict.fromkeys(flags, training))

    return call, init
