"""Training with products of float8: what is multiplied is rounded, and the weight stays as it is.

Each tensor is divided by a scale before it is rounded, which follows the largest values of the last
steps. Scales and histories are "trained": their gradients are their next values.
"""

from typing import Any

import numpy as np

from keraslite import dtype_policies, dtypes, ops, quantizers
from keraslite.layers.base.modes.mode import Mode
from keraslite.scopes import scopes

_FORWARD, _BACKWARD = "float8_e4m3fn", "float8_e5m2"


class Float8(Mode):
    """Inputs and weight in e4m3 and gradients of outputs in e5m2."""

    keeps_floats = True
    default_quantizer = None

    def variables(self, layer: Any, name: str) -> dict[str, dict[str, Any]]:
        length = getattr(
            layer.own_policy, "amax_history_length",
            dtype_policies.QuantizedFloat8DTypePolicy.default_amax_history_length,
        )  # fmt: skip
        options = {"dtype": "float32", "autocast": False, "overwrite_with_gradient": True}
        variables = {}
        for tensor in ("inputs", name, "outputs_grad"):
            history = {"shape": (length,), "initializer": "zeros"}
            variables[f"{tensor}_scale"] = {"shape": (), "initializer": "ones"} | options
            variables[f"{tensor}_amax_history"] = history | options
        return variables

    def values(self, layer: Any, name: str, weight: np.ndarray, config: Any) -> dict[str, Any]:
        return {}

    def weight(self, layer: Any, name: str) -> Any:
        return layer.__dict__[name].value

    def product(self, layer: Any, inputs: Any) -> Any:
        name = layer.adapted_weight
        training = scopes.call is not None and bool(scopes.call.training)

        def state(tensor: str) -> tuple[Any, Any]:
            return tuple(
                layer.__dict__[f"{tensor}_{end}"].value for end in ("scale", "amax_history")
            )

        kernel = layer.__dict__[name].value
        inputs = _round_forward(inputs, *state("inputs"), training)
        kernel = _round_forward(kernel, *state(name), training)
        return _round_backward(layer.multiply(inputs, kernel), *state("outputs_grad"))

    def bias(self, layer: Any, bias: Any) -> Any:
        if layer.compute_dtype != "float32":
            return bias
        return ops.cast(ops.cast(bias, "bfloat16"), "float32")  # as kernels that add it do


def _next(x: Any, scale: Any, history: Any, dtype: str) -> tuple[Any, Any]:
    """Return the next scale, by the history before, and the next history of a tensor."""
    _, largest = dtypes.limits(dtype)
    scale = quantizers.compute_float8_scale(ops.max(history), scale, np.float32(largest))
    return scale, quantizers.compute_float8_amax_history(x, history)


def _round_forward(x: Any, scale: Any, history: Any, training: bool) -> Any:
    def run(x: Any, scale: Any, history: Any) -> tuple[Any, Any]:
        dtype = ops.dtype(x)
        state = _next(x, scale, history, _FORWARD) if training else (scale, history)
        out = quantizers.quantize_and_dequantize(x, scale, _FORWARD, dtype)
        return out, lambda upstream: (upstream, *state)

    return ops.custom_gradient(run)(x, scale, history)


def _round_backward(x: Any, scale: Any, history: Any) -> Any:
    def run(x: Any, scale: Any, history: Any) -> tuple[Any, Any]:
        dtype = ops.dtype(x)

        def gradient(upstream: Any) -> tuple:
            out = quantizers.quantize_and_dequantize(upstream, scale, _BACKWARD, dtype)
            return out, *_next(upstream, scale, history, _BACKWARD)

        return x, gradient

    return ops.custom_gradient(run)(x, scale, history)
