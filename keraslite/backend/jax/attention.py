"""Attention by cuDNN's fused kernel."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import nn

from keraslite.backend.primitives import primitive

TABLE: dict[str, Any] = {}


@primitive(TABLE)
def _scores(query: jax.Array, key: jax.Array) -> jax.Array:
    return jnp.matmul(query, key, preferred_element_type=jnp.promote_types(query.dtype, "float32"))


@primitive(TABLE)
def _fused_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: Any,
    mask: Any,
    scale: Any,
    is_causal: bool,
) -> Any:
    # Only cuDNN's kernel is fused; jax's own form on other devices is not faster than the body.
    if query.dtype.itemsize != 2 or jax.default_backend() != "gpu" or value.shape != key.shape:
        return NotImplemented
    # cuDNN takes no bias or mask that is one row for all queries.
    bias, mask = (
        x if x is None else jnp.broadcast_to(x, (*x.shape[:2], query.shape[1], key.shape[1]))
        for x in (bias, mask)
    )
    return nn.dot_product_attention(
        query, key, value, bias, mask, scale=scale, is_causal=is_causal, implementation="cudnn"
    )
