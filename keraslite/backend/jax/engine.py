"""ENGINE: variables, gradients, compilation and control flow on JAX."""

import warnings
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp

from keraslite.backend.jax.tensors import native

__all__ = [
    "ABSTRACT", "COMPILES", "COMPILES_OPS", "COMPILES_PYTHON", "FUNCTIONAL", "FUSED", "LAYER_BASE",
    "LOOPS_IN_PYTHON", "OPTIMIZER_BASE", "PURE_GRADS", "TRAINS", "abstract", "assign", "assign_add",
    "check_training", "checkpoint", "cond", "custom_gradient", "dense_gradient", "duplicate",
    "gradients_of", "jit", "jvp",
    "new_variable", "no_grad", "profile", "read", "scan", "set_seed", "set_trainable",
    "value_and_grad", "vjp", "vmap", "watch", "while_loop", "zeros",
]  # fmt: skip

ABSTRACT = True
COMPILES = True  # a function, once for each shape of its arguments
COMPILES_OPS = True
COMPILES_PYTHON = False
FUNCTIONAL = True  # a compiled step takes and returns the variables
PURE_GRADS = True
LOOPS_IN_PYTHON = False  # a loop of known length is a `for`, never traced as one
TRAINS = True
FUSED: dict[str, Callable] = {}  # formulas of optimizers that have a form in place
no_grad = nullcontext  # gradients are asked for by a call, never recorded
LAYER_BASE = None
OPTIMIZER_BASE = None


def new_variable(value: jax.Array, trainable: bool, name: str) -> jax.Array:
    """Storage for a variable: the array itself."""
    return value


def read(raw: jax.Array) -> jax.Array:
    """The value of a variable."""
    return raw


def assign(raw: jax.Array, value: jax.Array) -> jax.Array:
    """The new storage; a value still being traced must not get out of its trace."""
    if isinstance(value, jax.core.Tracer):
        raise RuntimeError(
            "A variable was assigned inside a traced function. Give the variables to "
            "keraslite.jit(fn, variables=...) or use a StatelessScope."
        )
    return value


def assign_add(raw: jax.Array, value: jax.Array) -> jax.Array:
    """The new storage."""
    return assign(raw, (raw + value).astype(raw.dtype))


def duplicate(raw: jax.Array) -> jax.Array:
    """The same values in memory of their own, to be donated."""
    return jnp.array(raw, copy=True)


def watch(raw: jax.Array) -> Callable[[Any], bool]:
    """Whether a storage is this one: no other value is ever written into an array."""
    this = weakref.ref(raw)
    return lambda now: this() is now


def dense_gradient(gradient: Any) -> Any:
    """The gradient itself: JAX's are dense."""
    return gradient


def set_seed(seed: int) -> None:
    """Nothing to do: JAX has no generators with a state."""


def profile(folder: str) -> Any:
    """JAX's own profiler."""
    return jax.profiler.trace(folder)


def check_training(weights: list) -> None:
    """Warn where several processes would each train a model of their own."""
    if jax.process_count() > 1:
        warnings.warn(
            f"fit does not average over the {jax.process_count()} processes of jax.distributed: "
            "each trains a model of its own. Write a loop over stateless_call with sharded arrays.",
            stacklevel=2,
        )


def set_trainable(raw: Any, trainable: bool) -> None:
    """Nothing to do: gradients are asked for by value."""


def zeros(shape: tuple, dtype: str) -> jax.Array:
    """Zeros; abstract inside `abstract`."""
    return jnp.zeros(shape, native(dtype))


def abstract(fn: Callable, specs: list[tuple[tuple, str]]) -> Any:
    """Run `fn` on arrays without data."""
    structs = [jax.ShapeDtypeStruct(shape, native(dtype)) for shape, dtype in specs]
    return jax.eval_shape(fn, *structs)


def jit(fn: Callable, donate: tuple[int, ...] = (), compile: Any = "auto") -> Callable:
    """Compile, giving the buffers of the donated arguments away."""
    return fn if compile in (False, "record") else jax.jit(fn, donate_argnums=donate)


def value_and_grad(fn: Callable, argnums: Any, has_aux: bool) -> Callable:
    """Differentiate with respect to arguments."""
    return jax.value_and_grad(fn, argnums=argnums, has_aux=has_aux, allow_int=True)


def gradients_of(fn: Callable, raws: list) -> Any:
    """JAX differentiates functions of values only; the caller threads the variables."""
    raise TypeError("JAX has no live variables: use value_and_grad over their values.")


custom_gradient = jax.custom_gradient
checkpoint = jax.checkpoint


def jvp(fn: Callable, primals: tuple, tangents: tuple) -> tuple:
    """((value, auxiliary part), tangent) of a function that gives such a pair."""
    value, tangent, aux = jax.jvp(fn, primals, tangents, has_aux=True)
    return (value, aux), tangent


def vjp(fn: Callable, primals: tuple) -> tuple:
    """((value, auxiliary part), pullback) of a function that gives such a pair."""
    value, pullback, aux = jax.vjp(fn, *primals, has_aux=True)
    return (value, aux), pullback


def cond(pred: Any, true_fn: Callable, false_fn: Callable) -> Any:
    """Run one of two branches."""
    return jax.lax.cond(pred, true_fn, false_fn)


def while_loop(test: Callable, body: Callable, state: tuple, maximum_iterations: int | None) -> Any:
    """Repeat `body` while `test` holds."""

    def step(carry: tuple) -> tuple:
        new = body(*carry[1])
        return carry[0] + 1, tuple(new) if isinstance(new, list | tuple) else (new,)

    def holds(carry: tuple) -> Any:
        going = jnp.asarray(test(*carry[1])).reshape(())
        return going if maximum_iterations is None else going & (carry[0] < maximum_iterations)

    return jax.lax.while_loop(holds, step, (jnp.int32(0), state))[1]


def scan(f: Callable, init: Any, xs: Any, length: int, reverse: bool, unroll: Any) -> Any:
    """Thread a carry along the leading axis and stack what each step gives."""
    if not isinstance(length, int):  # a symbol, in a program that is exported
        return _loop(f, init, xs, length, reverse)
    return jax.lax.scan(f, init, xs=xs, length=length, reverse=reverse, unroll=unroll)


def _loop(f: Callable, init: Any, xs: Any, length: Any, reverse: bool) -> Any:
    """`scan` over any number of steps, without a gradient."""
    take = lambda i: None if xs is None else jax.tree.map(lambda x: x[i], xs)  # noqa: E731
    carry, first = jax.eval_shape(f, init, take(0))
    stacked = jax.tree.map(lambda y: jnp.zeros((length, *y.shape), y.dtype), first)
    init = jax.tree.map(lambda x, y: jnp.asarray(x, y.dtype), init, carry)

    def step(k: Any, state: tuple) -> tuple:
        i = length - 1 - k if reverse else k
        carry, y = f(state[0], take(i))
        return carry, jax.tree.map(lambda all_, one: all_.at[i].set(one), state[1], y)

    return jax.lax.fori_loop(0, length, step, (init, stacked))


def vmap(fn: Callable, in_axes: Any, out_axes: Any) -> Callable:
    """Map over a batch axis."""
    return jax.vmap(fn, in_axes=in_axes, out_axes=out_axes)
