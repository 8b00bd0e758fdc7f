"""Weights in int8, with a scale for each output channel.

The weight is about `int8 / scale`. Inputs are quantized at each call, by the largest absolute
value along the axes that are summed over; the products of integers add up without rounding, and
the sum is divided by both scales. Gradients reach the inputs as if nothing had been rounded.
"""

from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import ops, quantizers
from keraslite.layers.base.modes.mode import Mode, variable_options

_ABS_MAX = quantizers.AbsMaxQuantizer()


class Int8(Mode):
    """One scale an output channel."""

    default_quantizer = _ABS_MAX

    def variables(self, layer: Any, name: str) -> dict[str, dict[str, Any]]:
        return {
            name: variable_options(layer.weight_shape(name), dtype="int8"),
            f"{name}_scale": variable_options(layer.scale_shape(name), "ones"),
        }

    def values(self, layer: Any, name: str, weight: np.ndarray, config: Any) -> dict[str, Any]:
        quantizer = config.weight_quantizer
        quantizer = quantizer or quantizers.AbsMaxQuantizer(axis=layer.scale_axes(name))
        with backends.backend_scope("numpy"):
            values, scale = quantizer(weight)
        return {name: values, f"{name}_scale": layer.stored_scale(name, scale)}

    def weight(self, layer: Any, name: str) -> Any:
        weight = ops.cast(layer.__dict__[name].value, layer.variable_dtype)
        return ops.divide(weight, layer.broadcast_scale(name))

    def product(self, layer: Any, inputs: Any) -> Any:
        return layer.int8_product(inputs)

    def rows(self, layer: Any, name: str, indices: Any) -> Any:
        rows = ops.cast(ops.take(layer.__dict__[name], indices, axis=0), layer.compute_dtype)
        scale = ops.take(layer.__dict__[f"{name}_scale"], indices, axis=0)
        return ops.divide(rows, ops.expand_dims(scale, -1))


def int8_linear(x: Any, kernel: Any, scale: Any, quantizer: Any = _ABS_MAX) -> Any:
    """`x @ (kernel / scale)` for a kernel of int8, with the gradient of that for `x`.

    Args:
        x: floats (..., inputs).
        kernel: int8 (..., inputs, outputs).
        scale: (..., outputs), for each output.
        quantizer: what makes integers of `x`; None multiplies floats.

    >>> kernel = np.array([[127], [64]], "int8")
    >>> x, scale = np.array([[1.0, 4.0]], "float32"), np.array([127.0], "float32")
    >>> print(int8_linear(x, kernel, scale).round(2))
    [[3.02]]
    """
    if quantizer is None:
        return ops.divide(ops.matmul(x, ops.cast(kernel, ops.dtype(x))), scale)

    def run(x: Any, kernel: Any, scale: Any) -> tuple[Any, Any]:
        def gradient(upstream: Any) -> tuple[Any, None, None]:
            transposed = ops.swapaxes(ops.cast(kernel, ops.dtype(upstream)), -1, -2)
            return ops.matmul(ops.divide(upstream, scale), transposed), None, None

        values, factor = quantizer(x, axis=-1)
        sums = ops.cast(ops.matmul(values, kernel), ops.dtype(x))
        return ops.divide(sums, ops.multiply(factor, scale)), gradient

    return ops.custom_gradient(run)(x, kernel, scale)
