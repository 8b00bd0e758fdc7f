"""ENGINE: variables and control flow on numpy, which runs models but does not differentiate."""

import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np

from keraslite import tree
from keraslite.backend.numpy.tensors import native

__all__ = [
    "ABSTRACT", "COMPILES", "COMPILES_OPS", "COMPILES_PYTHON", "FUNCTIONAL", "FUSED", "LAYER_BASE",
    "LOOPS_IN_PYTHON", "OPTIMIZER_BASE", "PURE_GRADS", "TRAINS", "abstract", "assign", "assign_add",
    "check_training", "checkpoint", "cond", "custom_gradient", "dense_gradient", "duplicate",
    "gradients_of", "jit", "jvp",
    "new_variable", "no_grad", "profile", "read", "scan", "set_seed", "set_trainable",
    "value_and_grad", "vjp", "vmap", "watch", "while_loop", "zeros",
]  # fmt: skip

ABSTRACT = False
COMPILES = False
COMPILES_OPS = False
COMPILES_PYTHON = False
FUNCTIONAL = False
PURE_GRADS = False
LOOPS_IN_PYTHON = True  # a loop of known length is a `for`, never traced as one
TRAINS = False
FUSED: dict[str, Callable] = {}  # formulas of optimizers that have a form in place
no_grad = nullcontext  # gradients are asked for by a call, never recorded
LAYER_BASE = None
OPTIMIZER_BASE = None


def new_variable(value: np.ndarray, trainable: bool, name: str) -> np.ndarray:
    """Storage for a variable: the array itself."""
    return value


def read(raw: np.ndarray) -> np.ndarray:
    """The value of a variable."""
    return raw


def assign(raw: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The new storage."""
    return np.asarray(value)


def assign_add(raw: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The new storage."""
    return np.asarray(raw + value, raw.dtype)


def set_trainable(raw: Any, trainable: bool) -> None:
    """Nothing to do: numpy has no gradients."""


def zeros(shape: tuple, dtype: str) -> np.ndarray:
    """Zeros that take no memory."""
    return np.broadcast_to(np.zeros((), native(dtype)), shape)


def duplicate(raw: np.ndarray) -> np.ndarray:
    """The same values in memory of their own."""
    return raw.copy()


def watch(raw: np.ndarray) -> Callable[[Any], bool]:
    """Whether a storage is this one: no other value is ever written into an array."""
    this = weakref.ref(raw)
    return lambda now: this() is now


def dense_gradient(gradient: Any) -> Any:
    """The gradient itself: numpy makes none."""
    return gradient


def set_seed(seed: int) -> None:
    """Seed numpy's own generator, for code that uses it."""
    np.random.seed(seed)


def profile(folder: str) -> Any:
    """Raise NotImplementedError: NumPy has no profiler."""
    raise NotImplementedError("NumPy has no profiler: profile on jax, torch or tensorflow.")


def abstract(fn: Callable, specs: list[tuple[tuple, str]]) -> Any:
    """Run `fn` on zeros: numpy has no abstract values."""
    with np.errstate(all="ignore"):
        return fn(*(zeros(shape, dtype) for shape, dtype in specs))


def jit(fn: Callable, donate: tuple[int, ...] = (), compile: Any = "auto") -> Callable:
    """The function itself: numpy does not compile."""
    return fn


def value_and_grad(fn: Callable, argnums: Any, has_aux: bool) -> Callable:
    """Refuse: numpy has no gradients."""
    raise NotImplementedError(
        "The numpy backend has no gradients. Use jax, torch or tensorflow: "
        'keraslite.use_backend("jax"), or model.to_backend("jax").'
    )


def check_training(weights: list) -> None:
    """Refuse: numpy has no gradients."""
    value_and_grad(check_training, 0, False)


def gradients_of(fn: Callable, raws: list) -> Any:
    """Refuse: numpy has no gradients."""
    return value_and_grad(fn, 0, True)


def jvp(fn: Callable, primals: tuple, tangents: tuple) -> Any:
    """Refuse: numpy has no gradients."""
    return value_and_grad(fn, 0, True)


def vjp(fn: Callable, primals: tuple) -> Any:
    """Refuse: numpy has no gradients."""
    return value_and_grad(fn, 0, True)


def checkpoint(fn: Callable) -> Callable:
    """The function itself: numpy keeps nothing for gradients."""
    return fn


def custom_gradient(fn: Callable) -> Callable:
    """The value of a function that brings its own gradient."""
    return lambda *args: fn(*args)[0]


def cond(pred: Any, true_fn: Callable, false_fn: Callable) -> Any:
    """Run one of two branches."""
    return true_fn() if bool(pred) else false_fn()


def while_loop(test: Callable, body: Callable, state: tuple, maximum_iterations: int | None) -> Any:
    """Repeat `body` while `test` holds."""
    count = 0
    while bool(test(*state)) and (maximum_iterations is None or count < maximum_iterations):
        state = body(*state)
        state = tuple(state) if isinstance(state, list | tuple) else (state,)
        count += 1
    return state


def scan(f: Callable, init: Any, xs: Any, length: int, reverse: bool, unroll: Any) -> Any:
    """Thread a carry along the leading axis and stack what each step gives."""
    carry, ys = init, []
    for i in range(length - 1, -1, -1) if reverse else range(length):
        carry, y = f(carry, None if xs is None else tree.map_structure(lambda x, i=i: x[i], xs))
        ys.append(y)
    if not ys or ys[0] is None:
        return carry, None
    ys = ys[::-1] if reverse else ys
    return carry, tree.map_structure(lambda *column: np.stack(column), *ys)


def vmap(fn: Callable, in_axes: Any, out_axes: Any) -> Callable:
    """Map over a batch axis, one row after the other."""

    def call(*args: Any) -> Any:
        axes = in_axes if isinstance(in_axes, list | tuple) else [in_axes] * len(args)
        sizes = {
            np.shape(x)[a]
            for v, a in zip(args, axes, strict=True)
            if a is not None
            for x in tree.flatten(v)
        }
        if len(sizes) != 1:
            raise ValueError(f"vmap needs one size along the mapped axes, got {sorted(sizes)}.")
        rows = [
            fn(*(
                v if a is None
                else tree.map_structure(lambda x, a=a, i=i: np.take(x, i, axis=a), v)
                for v, a in zip(args, axes, strict=True)
            ))
            for i in range(sizes.pop())
        ]  # fmt: skip
        return tree.map_structure(lambda *column: np.stack(column, axis=out_axes), *rows)

    return call
