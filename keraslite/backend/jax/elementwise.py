"""Elementwise ops on JAX: arithmetic, comparisons, bits, exponentials, rounding."""

from typing import Any

import jax
import jax.numpy as jnp

from keraslite.backend.primitives import primitive

# jax.numpy's functions taken as they are.
_AS_THEY_ARE = """add subtract multiply divide power mod fmod floor_divide absolute negative sign
    square sqrt cbrt reciprocal maximum minimum fmax fmin gcd lcm hypot heaviside logaddexp
    logaddexp2 arctan2 exp exp2 expm1 log log2 log10 log1p sin cos tan arcsin arccos arctan sinh
    cosh tanh arcsinh arccosh arctanh sinc deg2rad rad2deg floor ceil trunc isnan isinf isfinite
    isposinf isneginf signbit real imag conjugate angle equal not_equal less less_equal greater
    greater_equal logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor
    bitwise_not where i0 nextafter"""
TABLE: dict[str, Any] = {name: getattr(jnp, name) for name in _AS_THEY_ARE.split()} | {
    "bitwise_left_shift": jnp.left_shift,
    "bitwise_right_shift": jnp.right_shift,
}


@primitive(TABLE)
def round_(x: jax.Array, decimals: int = 0) -> jax.Array:
    if decimals < 0 and not jnp.issubdtype(x.dtype, jnp.floating):
        return jnp.round(x.astype(jnp.float32), decimals).astype(x.dtype)
    return jnp.round(x, decimals)


@primitive(TABLE)
def clip(x: jax.Array, x_min: Any, x_max: Any) -> jax.Array:
    return jnp.clip(x, x_min, x_max)


@primitive(TABLE)
def nan_to_num(x: jax.Array, nan: float = 0.0, posinf: Any = None, neginf: Any = None) -> jax.Array:
    return jnp.nan_to_num(x, nan=nan, posinf=posinf, neginf=neginf)
