"""Functions of JAX inside layers: their parameters as pytrees, and keys for random numbers."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keraslite.backend.foreign import ForeignFunction, Spec
from keraslite.backend.jax.tensors import dtype_of, native

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


class JaxFunction(ForeignFunction):
    """A function of JAX for the backends of other frameworks; it is compiled."""

    def __init__(self, function: Callable[[list, list], tuple[Any, list]], trained: list[bool]):
        super().__init__(function, trained)
        self._forward, self._vjp = jax.jit(self._run), jax.jit(self._pullback)

    def _run(self, arrays: list[jax.Array]) -> list[jax.Array]:
        count = len(self.trained)
        outputs, updated = self.function(arrays[:count], arrays[count:])
        leaves, structure = jax.tree_util.tree_flatten(outputs)
        self.note_outputs(leaves, lambda _: True, structure.unflatten)
        return [*map(jnp.asarray, leaves), *updated]

    def _pullback(self, arrays: list[jax.Array], upstream: list[jax.Array]) -> list[jax.Array]:
        sources = self.sources([dtype_of(x) for x in arrays])

        def run(moving: list[jax.Array]) -> list[jax.Array]:
            values = list(arrays)
            for i, x in zip(sources, moving, strict=True):
                values[i] = x
            results = self._run(values)
            return [results[i] for i in self.targets([dtype_of(x) for x in results])]

        _, pullback = jax.vjp(run, [arrays[i] for i in sources])
        return pullback(upstream)[0]

    def forward(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """Run the compiled function."""
        return [np.asarray(x) for x in self._forward(list(arrays))]

    def vjp(self, arrays: list[np.ndarray], upstream: list[np.ndarray]) -> list[np.ndarray]:
        """Run the compiled gradient, which computes the function again."""
        return [np.asarray(x) for x in self._vjp(list(arrays), list(upstream))]

    def infer(self, specs: list[Spec]) -> list[Spec]:
        """Trace the function."""
        arrays = [jax.ShapeDtypeStruct(shape, native(name)) for shape, name in specs]
        return [(x.shape, dtype_of(x)) for x in jax.eval_shape(self._run, arrays)]
