"""Call functions of other frameworks from JAX, with their gradients."""

from typing import Any

import jax
import numpy as np

from keraslite.backend.foreign import ForeignFunction
from keraslite.backend.jax.tensors import canonical, convert, dtype_of, native

__all__ = ["COMPILES_FOREIGN", "call_foreign"]

COMPILES_FOREIGN = True  # as callbacks of the compiled program


def call_foreign(function: ForeignFunction, tensors: list[jax.Array]) -> list[jax.Array]:
    """Call a function of another framework: at once, or as a callback of what is traced."""
    if not any(isinstance(x, jax.core.Tracer) for x in tensors):
        return [convert(x) for x in function.forward(*map(np.asarray, tensors))]
    names = [dtype_of(x) for x in tensors]
    outline = function.outline([(tuple(x.shape), n) for x, n in zip(tensors, names, strict=True)])
    outline = [(shape, canonical(name)) for shape, name in outline]
    sources = function.sources(names)
    targets = function.targets([name for _, name in outline])

    # JAX must not be called inside these: it may wait for the thread that they run in.
    def forward(tensors: list) -> list[np.ndarray]:
        return _cast(function.forward(*map(np.asarray, tensors)), [name for _, name in outline])

    def backward(tensors: list, upstream: list) -> list[np.ndarray]:
        gradients = function.vjp([*map(np.asarray, tensors)], [*map(np.asarray, upstream)])
        return _cast(gradients, [names[i] for i in sources])

    @jax.custom_vjp
    def call(tensors: list) -> list:
        specs = [jax.ShapeDtypeStruct(shape, native(name)) for shape, name in outline]
        return jax.pure_callback(forward, specs, tensors, vmap_method="sequential")

    def pullback(tensors: list, upstream: list) -> tuple:
        specs = [jax.ShapeDtypeStruct(tensors[i].shape, tensors[i].dtype) for i in sources]
        upstream = [upstream[i] for i in targets]
        found = jax.pure_callback(backward, specs, tensors, upstream, vmap_method="sequential")
        gradients: list[Any] = [None] * len(tensors)
        for i, gradient in zip(sources, found, strict=True):
            gradients[i] = gradient
        return (gradients,)

    call.defvjp(lambda tensors: (call(tensors), tensors), pullback)
    return call(tensors)


def _cast(arrays: list[np.ndarray], names: list[str]) -> list[np.ndarray]:
    return [np.asarray(x, native(name)) for x, name in zip(arrays, names, strict=True)]
