"""Weights in int4, two in a byte, with a scale for each channel or for blocks of it.

A weight is kept as a matrix. With a scale for each channel it is about `int4 / scale`; blocks have
a zero point too, and it is about `(int4 - zero) * scale`. Inputs stay floats, unless the config
says otherwise.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from keraslite import backend as backends
from keraslite import dtype_policies, ops, quantizers
from keraslite.layers.base.modes.mode import Mode, frozen_linear, rounded, variable_options
from keraslite.layers.base.modes.packed_product import is_quicker, packed_linear


class Int4Layout(NamedTuple):
    """How a weight lies in the matrix that is packed."""

    shape: tuple[int, int]
    summed: int = 0  # the axis that is summed over, along which blocks lie
    packed: int = 1  # the axis along which two neighbours share a byte
    zero_dtype: str | None = "int8"  # of the zero points; None for that of the variables


class Int4(Mode):
    """Four bits a weight."""

    default_quantizer = None

    def variables(self, layer: Any, name: str) -> dict[str, dict[str, Any]]:
        layout, block = layer.int4_layout(name), block_size(layer)
        size, channels = layout.shape[layout.summed], layout.shape[1 - layout.summed]
        packed = list(layout.shape)
        packed[layout.packed] = (packed[layout.packed] + 1) // 2
        scales = (channels,)
        if block:
            groups = math.ceil(size / block)
            scales = (channels, groups) if layout.summed else (groups, channels)
        variables = {
            name: variable_options(tuple(packed), dtype="int8"),
            f"{name}_scale": variable_options(scales, "ones"),
        }
        if block:
            variables[f"{name}_zero"] = variable_options(scales, dtype=layout.zero_dtype)
            initializer = partial(_block_of, block)
            variables["g_idx"] = variable_options((size,), initializer, dtype="float32")
        return variables

    def values(self, layer: Any, name: str, weight: np.ndarray, config: Any) -> dict[str, Any]:
        layout, blocks = layer.int4_layout(name), config.blocks
        matrix, turned = weight.reshape(layout.shape), bool(layout.summed)
        values = {}
        with backends.backend_scope("numpy"):
            if blocks:
                matrix = matrix.T if turned else matrix
                made = quantizers.abs_max_quantize_grouped_with_zero_point(matrix, blocks)
                whole, scale, zero = (x.T if turned else x for x in made)
                values[f"{name}_zero"] = zero
            else:
                quantizer = config.weight_quantizer or quantizers.AbsMaxQuantizer(
                    axis=layout.summed, value_range=(-8, 7)
                )
                whole, scale = quantizer(matrix)
                scale = scale.squeeze(layout.summed)
            packed, _, _ = quantizers.pack_int4(whole, axis=layout.packed)
        return {name: packed, f"{name}_scale": scale} | values

    def weight(self, layer: Any, name: str) -> Any:
        return _floats(layer, name, *_parts(layer, name))

    def product(self, layer: Any, inputs: Any) -> Any:
        name, quantizer = layer.adapted_weight, layer.inputs_quantizer
        if quantizer is not None:
            inputs = rounded(inputs, quantizer, layer.summed_input_axes())
        kernel_of, parts = partial(_floats, layer, name), _parts(layer, name)
        return layer.multiply_frozen(inputs, kernel_of, parts, self.quick_product(layer, name))

    def quick_product(self, layer: Any, name: str) -> Any:
        """Return a function of inputs (..., inputs) and the parts of a weight that is a matrix."""
        layout, block = layer.int4_layout(name), block_size(layer)
        inputs, columns = layout.shape[layout.summed], layout.shape[1 - layout.summed]
        groups = math.ceil(inputs / block) if block else 1
        pairs, turned = layout.packed == layout.summed, bool(layout.summed)

        def product(x: Any, packed: Any, scale: Any, zero: Any = None) -> Any:
            if not is_quicker(x, inputs, groups, block, pairs):
                floats = _floats(layer, name, packed, scale, zero)
                kernel = ops.reshape(floats, layout.shape)
                return ops.linear(x, ops.transpose(kernel) if turned else kernel)
            if turned:
                packed, scale = ops.transpose(packed), ops.transpose(scale)
                zero = zero if zero is None else ops.transpose(zero)
            return packed_linear(x, packed, scale, zero, columns, summed=pairs)

        return product

    def scores(self, layer: Any, name: str, inputs: Any) -> Any:
        """Return the product of vectors and all rows of a table."""
        parts = _parts(layer, name)

        def kernel_of(*parts: Any) -> Any:
            table = _floats(layer, name, *parts)
            return ops.transpose(table) if layer.int4_layout(name).summed else table

        return frozen_linear(inputs, kernel_of, parts, self.quick_product(layer, name))

    def rows(self, layer: Any, name: str, indices: Any) -> Any:
        size = layer.weight_shape(name)[1]
        packed, *scales = (ops.take(part, indices, axis=0) for part in _parts(layer, name))
        values = ops.cast(quantizers.unpack_int4(packed, size, axis=-1), layer.compute_dtype)
        scale, *zeros = (_per_element(part, size, -1, block_size(layer)) for part in scales)
        if not zeros:
            return ops.divide(values, scale)
        return ops.multiply(ops.subtract(values, ops.cast(zeros[0], ops.dtype(values))), scale)


def block_size(layer: Any) -> int | None:
    """Return how many weights of a channel share a scale; None for all.

    Args:
        layer: a layer in int4: its config says it, else its dtype policy.
    """
    if isinstance(layer.quantization_config, quantizers.Int4QuantizationConfig):
        return layer.quantization_config.blocks
    policy = layer.own_policy
    size = policy.block_size if isinstance(policy, dtype_policies.Int4DTypePolicy) else -1
    return None if size == -1 else size


def _block_of(block: int, shape: tuple, dtype: Any = None) -> np.ndarray:
    """Return the block of each element, as files hold it."""
    return np.arange(shape[0]) // block


def _parts(layer: Any, name: str) -> tuple:
    """The tensors that a weight is made of."""
    names = (name, f"{name}_scale", f"{name}_zero")
    return tuple(layer.__dict__[n].value for n in names if n in layer.__dict__)


def _per_element(x: Any, size: int, axis: int, block: int | None) -> Any:
    """Return what blocks share for each of their elements; without blocks for all of an axis."""
    if block is None:
        return ops.expand_dims(x, axis)
    if ops.shape(x)[axis] == 1:
        return x
    spread = ops.repeat(x, block, axis=axis)
    return spread[:size] if axis == 0 else spread[..., :size]


def _floats(layer: Any, name: str, packed: Any, scale: Any, zero: Any = None) -> Any:
    """Return a weight in floats, in its own shape."""
    layout, block = layer.int4_layout(name), block_size(layer)
    size, axis, dtype = layout.shape[layout.summed], layout.summed, ops.dtype(scale)
    values = quantizers.unpack_int4(packed, layout.shape[layout.packed], axis=layout.packed)
    values, scale = ops.cast(values, dtype), _per_element(scale, size, axis, block)
    if zero is None:
        matrix = ops.divide(values, scale)
    else:
        zero = _per_element(ops.cast(zero, dtype), size, axis, block)
        matrix = ops.multiply(ops.subtract(values, zero), scale)
    return ops.reshape(matrix, layer.weight_shape(name))
