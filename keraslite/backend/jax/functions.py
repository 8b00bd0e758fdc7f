"""Functions of JAX inside layers: their parameters as pytrees, and keys for random numbers."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# What the bytecode of a lambda most often uses.
NAMES = {"jax": jax, "jnp": jnp}


def map_leaves(function: Callable, *structures: Any) -> Any:
    """Apply a function leaf by leaf; JAX knows classes of structures that others do not."""
    return jax.tree_util.tree_map(function, *structures)


def map_named(function: Callable, structure: Any) -> Any:
    """Apply a function to each leaf and its place: keys and indices, with slashes between."""

    def call(path: Any, leaf: Any) -> Any:
        return function(jax.tree_util.keystr(path, simple=True, separator="/"), leaf)

    return jax.tree_util.tree_map_with_path(call, structure)


def leaves(structure: Any) -> list[Any]:
    """Return the leaves of a structure, in JAX's order."""
    return jax.tree_util.tree_leaves(structure)


def is_array(value: Any) -> bool:
    """Whether a leaf holds numbers that a variable can hold; else it is a setting."""
    return isinstance(value, jax.Array | np.ndarray | np.generic)


def outside_traces() -> AbstractContextManager:
    """Return a context in which functions are computed, though a trace may be under way."""
    return jax.ensure_compile_time_eval()


def ones(shape: tuple, dtype: str) -> jax.Array:
    """Return an input of a shape and dtype, 1 in the place of unknown sizes."""
    return jnp.ones([1 if size is None else size for size in shape], dtype)


def key_of(seed: Any) -> jax.Array:
    """Return a pair of integers as a key of JAX's generator, in its raw form of two uint32."""
    return jnp.asarray(seed).astype("uint32")


def first_key(seed: int) -> jax.Array:
    """Return `jax.random.PRNGKey(seed)`."""
    return jax.random.PRNGKey(seed)
