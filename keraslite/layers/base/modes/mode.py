"""The interface of a quantization mode."""

from collections.abc import Callable
from typing import Any

import numpy as np

from keraslite import ops


class Mode:
    """How a layer keeps its large weights, and computes with them.

    A weight goes by the name of its attribute; the variables beside it have names made of that.
    """

    needs_data = False  # whether the values are found by `Model.quantize`, on data
    keeps_floats = False  # whether the weight itself stays, and is trained

    def variables(self, layer: Any, name: str) -> dict[str, dict[str, Any]]:
        """Return the arguments of `add_weight` by attributes, in the order of files.

        Args:
            layer: the layer, which knows the shape of the weight in floats.
            name: the weight.
        """
        raise NotImplementedError

    def values(self, layer: Any, name: str, weight: np.ndarray, config: Any) -> dict[str, Any]:
        """Return the values of the variables for a weight in floats; those that are missing stay.

        Args:
            layer: the layer.
            name: the weight.
            weight: its value.
            config: the `QuantizationConfig`.
        """
        raise NotImplementedError

    def weight(self, layer: Any, name: str) -> Any:
        """Return the weight in floats, in its own shape."""
        raise NotImplementedError

    def product(self, layer: Any, inputs: Any) -> Any:
        """Return the product of inputs and the layer's weight."""
        raise NotImplementedError

    def rows(self, layer: Any, name: str, indices: Any) -> Any:
        """Return rows of a table in floats."""
        raise NotImplementedError

    def bias(self, layer: Any, bias: Any) -> Any:
        """Return the bias as it is added to the product."""
        return bias


def variable_options(shape: tuple[int, ...], initializer: Any = "zeros", **options: Any) -> dict:
    """Return the arguments of `add_weight` for a variable that is not trained."""
    return {"shape": tuple(shape), "initializer": initializer, "trainable": False} | options


def frozen_linear(
    x: Any, kernel_of: Callable[..., Any], parts: tuple, product: Callable[..., Any] | None = None
) -> Any:
    """`x @ kernel` for a kernel made of parts that are not trained; it is made again for gradients.

    Args:
        x: floats (..., inputs).
        kernel_of: a function of the parts that gives floats (inputs, outputs).
        parts: tensors.
        product: a function of `x` and the parts that gives the product; None makes the kernel.

    >>> x, kernel = np.ones((1, 2), "float32"), np.ones((2, 3), "int8")
    >>> frozen_linear(x, lambda k: ops.cast(k, "float32"), (kernel,)).tolist()
    [[2.0, 2.0, 2.0]]
    """

    def run(x: Any, *parts: Any) -> tuple[Any, Any]:
        def gradient(upstream: Any) -> tuple:
            kernel = ops.transpose(kernel_of(*parts))
            return ops.matmul(upstream, kernel), *(None for _ in parts)

        out = ops.linear(x, kernel_of(*parts)) if product is None else product(x, *parts)
        return out, gradient

    return ops.custom_gradient(run)(x, *parts)


def rounded(x: Any, quantizer: Any, axes: tuple[int, ...]) -> Any:
    """Return `x` as a quantizer would keep it, in floats; gradients pass as if it were not rounded.

    Args:
        x: floats.
        quantizer: gives integers and the scale that `x` was multiplied with; None keeps `x`.
        axes: those that share a scale.
    """
    if quantizer is None:
        return x

    def run(x: Any) -> tuple[Any, Any]:
        values, scale = quantizer(x, axis=axes)
        return ops.divide(ops.cast(values, ops.dtype(x)), scale), lambda upstream: upstream

    return ops.custom_gradient(run)(x)
