"""Crossentropies on JAX."""

from typing import Any

import jax
from jax import nn

from keraslite.backend.jax.tensors import native
from keraslite.backend.primitives import primitive

TABLE: dict[str, Any] = {}


@primitive(TABLE)
def _one_hot(x: jax.Array, num_classes: int, axis: int, dtype: Any) -> jax.Array:
    x = x.astype("int32") if x.dtype.kind == "f" else x
    return nn.one_hot(x, num_classes, dtype=native(dtype), axis=axis)
