"""Modules of flax, of linen and of nnx, as functions of parameters and state."""

import inspect
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from keraslite.backend.jax.functions import key_of


def is_nnx(module: Any) -> bool:
    """Whether a module is one of nnx, which holds its parameters, and not of linen."""
    nnx = sys.modules.get("flax.nnx")  # which is imported where there is such a module
    return nnx is not None and isinstance(module, nnx.Module)


def takes_training(module: Any, method: Callable | None) -> bool:
    """Whether the method that a module is called by has an argument `training`."""
    return "training" in inspect.signature(method or module.__call__).parameters


# -- linen ----------------------------------------------------------------------------------------


def split(variables: dict[str, Any] | None) -> tuple[Any, Any]:
    """Return the variables of a linen module as those that are trained, and the others."""
    if variables is None:
        return None, None
    if "params" not in variables:
        return {}, variables
    return {"params": variables["params"]}, {k: v for k, v in variables.items() if k != "params"}


def linen_functions(module: Any, method: Callable | None) -> tuple[Callable, Callable]:
    """Return (call_fn, init_fn) of a linen module, as `JaxLayer` takes them.

    Args:
        module: the module.
        method: its bound method, or a function of it; `__call__` by default.
    """
    from flax.linen import DenyList

    mutable = DenyList(["params"])  # all but those that are trained

    def apply(params: Any, state: Any, rng: Any, inputs: Any, **kwargs: Any) -> Any:
        variables = {**(params or {}), **(state or {})}
        return module.apply(variables, inputs, rngs=rng, method=method, mutable=mutable, **kwargs)

    def init(rng: Any, inputs: Any, **kwargs: Any) -> Any:
        return split(module.init(rng, inputs, method=method, **kwargs))

    if takes_training(module, method):
        return (
            lambda params, state, rng, inputs, training: apply(
                params, state, rng, inputs, training=training
            ),
            lambda rng, inputs, training: init(rng, inputs, training=training),
        )
    return (
        lambda params, state, rng, inputs: apply(params, state, rng, inputs),
        lambda rng, inputs: init(rng, inputs),
    )


# -- nnx ------------------------------------------------------------------------------------------


def nnx_functions(
    module: Any, method: Callable | None, variables: Any
) -> tuple[Callable, Any, Any]:
    """Return (call_fn, params, state) of an nnx module, as `JaxLayer` takes them.

    The module itself is left as it is. In training its streams of random numbers begin anew from
    the key of each call. Where the method takes no `training`, the module is put into train or eval
    mode.

    Args:
        module: the module.
        method: its bound method, or a function of it; `__call__` by default.
        variables: an `nnx.State` or nested dicts of values that take the place of the module's.
    """
    from flax import nnx

    graph, trained, streams, others = nnx.split(module, nnx.Param, nnx.RngState, ...)
    if variables is not None:
        given = variables if isinstance(variables, dict) else nnx.to_pure_dict(variables)
        for part in (trained, others):
            nnx.replace_by_pure_dict(part, _common(given, nnx.to_pure_dict(part)))
    params, state = nnx.to_pure_dict(trained), nnx.to_pure_dict(others)
    bound = getattr(method, "__self__", None) is module
    name = "__call__" if method is None else method.__name__
    has_argument = takes_training(module, method)

    def state_of(template: Any, values: Any) -> Any:
        filled = jax.tree_util.tree_map(lambda x: x, template)  # a copy
        nnx.replace_by_pure_dict(filled, values or {})
        return filled

    def call(params: Any, state: Any, rng: Any, inputs: Any, training: bool) -> Any:
        parts = [state_of(trained, params), _restarted(streams, rng), state_of(others, state)]
        copy = nnx.merge(graph, *parts, copy=True)
        function = getattr(copy, name) if method is None or bound else method
        args = (inputs,) if method is None or bound else (copy, inputs)
        if has_argument:
            outputs = function(*args, training=training)
        else:
            copy.train() if training else copy.eval()
            outputs = function(*args)
        after = nnx.to_pure_dict(nnx.split(copy, nnx.Param, nnx.RngState, ...)[3])
        return outputs, _common(after, state or {})

    return call, params, state


def _common(values: dict[Any, Any], like: dict[Any, Any]) -> dict[Any, Any]:
    """Return the entries of nested dicts that are in other ones too."""
    return {
        key: _common(values[key], part) if isinstance(part, dict) else values[key]
        for key, part in like.items()
        if key in values
    }


def _restarted(streams: Any, rng: Any) -> Any:
    """Return the streams of random numbers of a module, from the key of a call if there is one."""
    if not rng:
        return streams
    key, number = jax.random.wrap_key_data(key_of(rng["dropout"])), iter(range(2**31))

    def restart(leaf: jax.Array) -> jax.Array:
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jnp.zeros_like(leaf)  # the count of draws
        own = jax.random.fold_in(key, next(number))
        return jax.random.split(own, leaf.shape) if leaf.shape else own

    return jax.tree_util.tree_map(restart, streams)
