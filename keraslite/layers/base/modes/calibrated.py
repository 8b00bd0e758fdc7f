"""Weights in few bits that were fitted to data, by GPTQ or AWQ.

The kernel is kept transposed, as integers (outputs, inputs) from zero on, with scales and zero
points (outputs, groups); of four bits two lie in a byte. Until the data was seen the weight is a
variable in floats, and calls hand their inputs to whoever looks at them.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import ops, quantizers
from keraslite.dtype_policies import GPTQDTypePolicy
from keraslite.layers.base.modes.mode import Mode, variable_options
from keraslite.layers.base.modes.packed_product import is_quicker, packed_linear
from keraslite.quantizers.awq import awq_quantize
from keraslite.quantizers.gptq import gptq_quantize
from keraslite.quantizers.zero_points import affine_weights


class Calibrated(Mode):
    """The base of both: integers, scales, zero points, and the group of each input."""

    needs_data = True
    default_quantizer = None

    def variables(self, layer: Any, name: str) -> dict[str, dict[str, Any]]:
        inputs, outputs = layer.matrix_shape(name)
        bits, group = _sizes(layer)
        scales = (outputs, 1 if group == -1 else math.ceil(inputs / group))
        rows = (outputs + 1) // 2 if bits == 4 else outputs
        return {
            f"quantized_{name}": variable_options((rows, inputs), dtype="uint8", name=name),
            f"{name}_scale": variable_options(scales, "ones"),
            f"{name}_zero": variable_options(scales, dtype="uint8", name=layer.zero_point_name),
            **self.more_variables(inputs),
            "g_idx": variable_options((inputs,), dtype="float32"),
        }

    def more_variables(self, inputs: int) -> dict[str, dict[str, Any]]:
        """Return what `variables` has besides."""
        return {}

    def values(self, layer: Any, name: str, weight: np.ndarray, config: Any) -> dict[str, Any]:
        return {}  # until there is data

    def new_statistic(self) -> Any:
        """Return what is called with a layer's inputs, (rows, inputs), and then is `seen`."""
        raise NotImplementedError

    def fit(self, matrix: np.ndarray, statistic: Any, config: Any) -> dict[str, np.ndarray]:
        """Return integers, "scale", "zero" and "g_idx" for a matrix (outputs, inputs).

        Args:
            matrix: the transposed kernel.
            statistic: what `new_statistic` made, after it saw the inputs.
            config: the config of the mode.
        """
        raise NotImplementedError

    def calibrated_values(
        self, layer: Any, name: str, weight: np.ndarray, statistic: Any
    ) -> dict[str, Any]:
        """Return the values of the variables, fitted to data.

        Args:
            layer: the layer.
            name: the weight.
            weight: its value in floats.
            statistic: of the inputs.
        """
        config = layer.quantization_config
        with backends.backend_scope("numpy"):
            matrix = layer.as_matrix(name, weight.astype("float32")).T
            fitted = self.fit(np.ascontiguousarray(matrix), statistic, config)
            integers = fitted.pop("integers").astype("uint8")
            if config.weight_bits == 4:
                integers, _, _ = quantizers.pack_int4(integers, axis=0, dtype="uint8")
        named = {"scale": f"{name}_scale", "zero": f"{name}_zero"}
        values = {named.get(key, key): value for key, value in fitted.items()}
        return {f"quantized_{name}": integers} | values

    def weight(self, layer: Any, name: str) -> Any:
        if name in layer.__dict__:  # not calibrated yet
            return layer.__dict__[name].value
        return self._floats(layer, name, *self._parts(layer, name))

    def product(self, layer: Any, inputs: Any) -> Any:
        name = layer.adapted_weight
        if name in layer.__dict__:
            if observe := layer.__dict__.get("_kl_observer"):
                observe(layer.inputs_as_rows(inputs))
            return layer.multiply(inputs, layer.__dict__[name].value)
        kernel_of = partial(self._floats, layer, name)
        product = self._quick_product(layer, name)
        return layer.multiply_frozen(inputs, kernel_of, self._parts(layer, name), product)

    def _quick_product(self, layer: Any, name: str) -> Any:
        """A function of rows of inputs and the parts; None where groups may lie scattered."""
        config, (bits, group) = layer.quantization_config, _sizes(layer)
        inputs, outputs = layer.matrix_shape(name)
        block = inputs if group == -1 else group
        groups = math.ceil(inputs / block)
        scattered = config is None or getattr(config, "activation_order", False)
        if bits != 4 or (scattered and groups > 1):
            return None

        def product(x: Any, packed: Any, scale: Any, zero: Any, *rest: Any) -> Any:
            if not is_quicker(x, inputs, groups, block):
                return ops.linear(x, self._matrix(layer, name, packed, scale, zero, *rest))
            *awq_scales, _ = rest
            x = ops.divide(x, awq_scales[0]) if awq_scales else x
            return packed_linear(x, *map(ops.transpose, (packed, scale, zero)), outputs)

        return product

    def _parts(self, layer: Any, name: str) -> tuple:
        return tuple(layer.__dict__[attribute].value for attribute in self.variables(layer, name))

    def _floats(self, layer: Any, name: str, *parts: Any) -> Any:
        return layer.from_matrix(name, self._matrix(layer, name, *parts))

    def _matrix(self, layer: Any, name: str, packed: Any, scale: Any, zero: Any, *rest: Any) -> Any:
        """The weight in floats, (inputs, outputs)."""
        *awq_scales, groups = rest
        if _sizes(layer)[0] == 4:
            outputs = layer.matrix_shape(name)[1]
            packed = quantizers.unpack_int4(packed, outputs, axis=0, dtype="uint8")
        matrix = affine_weights(packed, scale, zero, groups)
        return ops.transpose(ops.divide(matrix, awq_scales[0]) if awq_scales else matrix)


class GPTQ(Calibrated):
    """Integers chosen one after the other, each to make good the errors of those before."""

    def new_statistic(self) -> Any:
        return _Products()

    def fit(self, matrix: np.ndarray, statistic: Any, config: Any) -> dict[str, np.ndarray]:
        return gptq_quantize(
            matrix, statistic.mean(), config.weight_bits, config.group_size, config.per_channel,
            config.symmetric, config.activation_order, config.hessian_damping,
        )  # fmt: skip


class AWQ(Calibrated):
    """Integers of weights that were scaled up where inputs are large."""

    def more_variables(self, inputs: int) -> dict[str, dict[str, Any]]:
        return {"awq_scales": variable_options((inputs,), "ones")}

    def new_statistic(self) -> Any:
        return _Largest()

    def fit(self, matrix: np.ndarray, statistic: Any, config: Any) -> dict[str, np.ndarray]:
        return awq_quantize(matrix, statistic.value(), config.group_size, config.num_grid_points)


class _Products:
    """The mean over inputs of their products with each other."""

    def __init__(self) -> None:
        self._sum: Any = 0.0
        self._count, self.seen = 0, False

    def __call__(self, rows: Any) -> None:
        rows = ops.cast(rows, "float32")
        self._sum = ops.add(ops.matmul(ops.transpose(rows), rows), self._sum)
        self._count += int(ops.shape(rows)[0])
        self.seen = True

    def mean(self) -> np.ndarray:
        """The mean, (inputs, inputs)."""
        return backends.to_numpy(self._sum) / np.float32(self._count)


class _Largest:
    """The largest absolute value of each input."""

    def __init__(self) -> None:
        self._largest: Any = 0.0
        self.seen = False

    def __call__(self, rows: Any) -> None:
        rows = ops.abs(ops.cast(rows, "float32"))
        self._largest = ops.maximum(ops.max(rows, axis=0), self._largest)
        self.seen = True

    def value(self) -> np.ndarray:
        """The values, (inputs,)."""
        return backends.to_numpy(self._largest)


def _sizes(layer: Any) -> tuple[int, int]:
    """Return the bits and the group size of a layer: its config says them, else its policy."""
    config = layer.quantization_config
    if config is not None and config.mode in ("gptq", "awq"):
        return config.weight_bits, config.group_size
    policy = layer.own_policy
    if not isinstance(policy, GPTQDTypePolicy):
        raise ValueError(
            f"Layer {layer.name!r}: the bits and the group size of {policy.name!r} are not known. "
            "Use a dtype policy such as 'gptq/4/128_from_float32', or give a quantization_config."
        )
    return policy.weight_bits, policy.group_size


@contextmanager
def observed(observers: dict[Any, Callable[[Any], None]]) -> Iterator[None]:
    """A block in which layers hand the inputs of their calls over, as rows (rows, inputs).

    Args:
        observers: by layers that are not calibrated yet, what takes the rows.
    """
    for layer, observer in observers.items():
        layer.__dict__["_kl_observer"] = observer
    try:
        yield
    finally:
        for layer in observers:
            layer.__dict__.pop("_kl_observer", None)
