"""Floats as integers of few bits and a scale, and integers of four bits in pairs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import config, dtypes, ops


def abs_max_quantize(
    inputs: Any,
    axis: int | Sequence[int],
    value_range: tuple[int, int] = (-127, 127),
    dtype: str = "int8",
    epsilon: float = config.epsilon(),
    to_numpy: bool = False,
) -> tuple[Any, Any]:
    """(integers, scale) with `inputs` about equal to `integers / scale`.

    Args:
        inputs: a float tensor.
        axis: the axes along which the largest absolute value sets the scale.
        value_range: the least and the largest integer.
        dtype: of the integers.
        epsilon: keeps the scale finite where all is zero.
        to_numpy: whether it is computed by numpy, in the host's memory.

    >>> values, scale = abs_max_quantize(np.array([[1.0, -2.0]], "float32"), axis=-1)
    >>> values.tolist(), scale.tolist()
    ([[64, -127]], [[63.5]])
    """
    if to_numpy:
        with backends.backend_scope("numpy"):
            values, scale = abs_max_quantize(
                backends.to_numpy(inputs), axis, value_range, dtype, epsilon
            )
        return ops.convert_to_tensor(values), ops.convert_to_tensor(scale)
    inputs = ops.convert_to_tensor(inputs)
    largest = ops.max(ops.abs(inputs), axis=axis, keepdims=True)
    scale = ops.cast(ops.divide(value_range[1], ops.add(largest, epsilon)), ops.dtype(inputs))
    whole = ops.round(ops.multiply(inputs, scale))
    if -value_range[0] < value_range[1]:  # else the scale keeps all inside
        whole = ops.clip(whole, *value_range)
    return ops.cast(whole, dtype), scale


def abs_max_quantize_grouped_with_zero_point(
    inputs: Any,
    block_size: int,
    value_range: tuple[int, int] = (-8, 7),
    dtype: str = "int8",
    epsilon: float = config.epsilon(),
    to_numpy: bool = False,
) -> tuple[Any, Any, Any]:
    """(integers, scale, zero point) with `inputs` about equal to `(integers - zero point) * scale`.

    Each column of a group of rows has a scale and a zero point of its own.

    Args:
        inputs: a float tensor (rows, columns).
        block_size: the rows of a group; the last one may have fewer.
        value_range: the least and the largest integer.
        dtype: of the integers.
        epsilon: keeps the scale finite where all is zero.
        to_numpy: whether it is computed by numpy, in the host's memory.

    Returns:
        The integers (rows, columns); the scales and the zero points of int8, (groups, columns).

    >>> values, scale, zero = abs_max_quantize_grouped_with_zero_point([[0.0], [1.5]], 2)
    >>> values.tolist(), print(scale.round(3)), zero.tolist()
    [[0.1]]
    ([[-8], [7]], None, [[-8]])
    """
    if to_numpy:
        with backends.backend_scope("numpy"):
            arrays = abs_max_quantize_grouped_with_zero_point(
                backends.to_numpy(inputs), block_size, value_range, dtype, epsilon
            )
        values, scale, zero = map(ops.convert_to_tensor, arrays)
        return values, scale, zero
    inputs = ops.convert_to_tensor(inputs)
    rows, columns = inputs.shape
    least, largest = value_range
    groups = -(-rows // block_size)
    padded = ops.pad(inputs, ((0, groups * block_size - rows), (0, 0)))
    blocks = ops.reshape(padded, (groups, block_size, columns))
    low, high = (f(blocks, axis=1, keepdims=True) for f in (ops.min, ops.max))
    scale = ops.divide(ops.add(ops.subtract(high, low), epsilon), largest - least)
    zero = ops.clip(ops.add(ops.round(ops.divide(-low, scale)), least), least, largest)
    whole = ops.clip(ops.add(ops.round(ops.divide(blocks, scale)), zero), least, largest)
    whole = ops.reshape(ops.cast(whole, dtype), (groups * block_size, columns))[:rows]
    return whole, ops.squeeze(scale, 1), ops.cast(ops.squeeze(zero, 1), "int8")


class Quantizer:
    """A function of a tensor and an axis that gives (quantized tensor, scale).

    Args:
        output_dtype: the dtype of the quantized tensor.
    """

    def __init__(self, output_dtype: str = "int8"):
        self.output_dtype = output_dtype

    def __call__(self, x: Any) -> Any:
        """The quantized tensor."""
        return x

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it."""
        raise NotImplementedError(f"{self} does not implement get_config()")

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Quantizer":
        """The quantizer of a config."""
        return cls(**config)


class AbsMaxQuantizer(Quantizer):
    """`abs_max_quantize` with its arguments.

    Args:
        axis: the axes, where a call gives none; the last one by default.
        value_range: the least and the largest integer.
        epsilon: keeps the scale finite where all is zero.
        output_dtype: the dtype of the integers.

    >>> AbsMaxQuantizer(axis=0)(np.array([[1.0], [-2.0]], "float32"))[0].tolist()
    [[64], [-127]]
    """

    def __init__(
        self,
        axis: int | Sequence[int] | None = None,
        value_range: tuple[int, int] = (-127, 127),
        epsilon: float = config.epsilon(),
        output_dtype: str = "int8",
    ):
        super().__init__(output_dtype)
        self.axis = (axis,) if isinstance(axis, int) else axis if axis is None else tuple(axis)
        self.value_range, self.epsilon = tuple(value_range), epsilon
        if output_dtype == "int8" and (value_range[0] < -128 or value_range[1] > 127):
            raise ValueError(
                "A quantizer with output_dtype='int8' needs a value_range within [-128, 127]. "
                f"Received: value_range={value_range}"
            )

    def __call__(
        self, x: Any, axis: int | Sequence[int] | None = None, to_numpy: bool = False
    ) -> tuple[Any, Any]:
        """(integers, scale).

        Args:
            x: a float tensor.
            axis: the axes of one scale.
            to_numpy: whether it is computed by numpy.
        """
        axis = self.axis if axis is None else axis
        return abs_max_quantize(
            x, -1 if axis is None else axis, self.value_range, self.output_dtype, self.epsilon,
            to_numpy,
        )  # fmt: skip

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it."""
        axis = {"axis": self.axis} if self.axis is not None else {}
        return axis | {
            "value_range": self.value_range, "epsilon": self.epsilon,
            "output_dtype": self.output_dtype,
        }  # fmt: skip


def _check_packing(arr: Any, dtype: str) -> None:
    if dtype not in ("int8", "uint8"):
        raise ValueError(f"Expected dtype to be 'int8' or 'uint8', but got '{dtype}'.")
    if dtypes.standardize(arr.dtype) != dtype:
        raise TypeError(f"Expected a tensor of {dtype}, got {dtypes.standardize(arr.dtype)}.")


def pack_int4(arr: Any, axis: int = 0, dtype: str = "int8") -> tuple[Any, tuple[int, ...], int]:
    """Pack integers of four bits in pairs into bytes.

    Args:
        arr: a tensor of int8 or uint8 with values of four bits.
        axis: the axis along which two neighbours share a byte, the first in its lower half.
        dtype: of `arr` and of the result.

    Returns:
        The bytes, their shape, and the size of the axis before.

    >>> packed, shape, size = pack_int4(np.array([-3, 2, 1], "int8"))
    >>> packed.tolist(), shape, size
    ([45, 1], (2,), 3)
    """
    _check_packing(arr, dtype)
    rows = np.moveaxis(backends.to_numpy(arr), axis, 0)
    size = rows.shape[0]
    rows = np.concatenate([rows, np.zeros((size % 2, *rows.shape[1:]), rows.dtype)])
    low, high = rows[::2].astype("uint8") & 15, rows[1::2].astype("uint8") & 15
    packed = np.moveaxis((low | high << 4).astype(dtype), 0, axis)
    return backends.module_of(arr).convert(np.ascontiguousarray(packed)), packed.shape, size


def unpack_int4(packed: Any, orig_len: int, axis: int = 0, dtype: str = "int8") -> Any:
    """Unpack what `pack_int4` packed.

    Args:
        packed: the bytes.
        orig_len: the size of the axis before.
        axis: the axis along which they were packed.
        dtype: of the bytes and of the result: int8 gives -8 to 7, uint8 0 to 15.

    >>> unpack_int4(np.array([45, 1], "int8"), 3).tolist()
    [-3, 2, 1]
    """
    _check_packing(packed, dtype)
    packed = ops.convert_to_tensor(packed)
    axis = axis % len(packed.shape)
    if dtype == "int8":  # shifts of signed integers keep the sign
        low = ops.right_shift(ops.left_shift(packed, 4), 4)
        high = ops.right_shift(packed, 4)
    else:
        low, high = ops.bitwise_and(packed, 15), ops.right_shift(packed, 4)
    shape = ops.shape(packed)
    pairs = ops.stack([low, high], axis=axis + 1)
    both = ops.reshape(pairs, (*shape[:axis], 2 * shape[axis], *shape[axis + 1 :]))
    return both if orig_len == 2 * shape[axis] else both[(slice(None),) * axis + (slice(orig_len),)]
