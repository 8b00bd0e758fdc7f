"""Quantizers: floats as integers of few bits and a scale; configs that choose them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import config, dtype_policies, dtypes, ops, registry
from keraslite.naming import to_snake_case


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


def fake_quant_with_min_max_vars(
    inputs: Any,
    min_vals: Any,
    max_vals: Any,
    num_bits: int = 8,
    narrow_range: bool = False,
    axis: int | None = None,
) -> Any:
    """Round numbers to those that integers of `num_bits` bits stand for in a range.

    The range is moved a little, so that zero is one of them. Gradients pass inside the range, and
    go to its bounds outside of it, so that these can be trained.

    Source: Jacob et al., 2018, https://arxiv.org/abs/1712.05877

    Args:
        inputs: a float tensor.
        min_vals: the lower bound of the range, a scalar, or (channels,) with an axis.
        max_vals: the upper bound, likewise.
        num_bits: the bits of the integers.
        narrow_range: whether the lowest integer is left out.
        axis: the axis of the channels; None for one range.

    Returns:
        A tensor like `inputs`.

    >>> print(fake_quant_with_min_max_vars([0.1, 0.24, 2.0], 0.0, 1.0, num_bits=2).round(3))
    [0.    0.333 1.   ]
    """
    lowest, largest = int(narrow_range), 2 ** int(num_bits) - 1
    x, low, high = map(ops.convert_to_tensor, (inputs, min_vals, max_vals))
    rank = len(x.shape)
    shape = [1] * rank
    if axis is not None:
        shape[axis] = -1

    def rounded(x: Any, low: Any, high: Any) -> tuple:
        wide, low_shape, high_shape = ops.cast(x, "float32"), low.shape, high.shape
        low, high = (ops.reshape(ops.cast(v, "float32"), shape) for v in (low, high))
        nothing = ops.logical_and(ops.equal(low, 0.0), ops.equal(high, 0.0))
        width = ops.where(nothing, 1.0, high - low)
        scale, inverse = width / (largest - lowest), (largest - lowest) / width
        zero = ops.round(ops.clip(lowest - low / scale, lowest, largest))
        low, high = (lowest - zero) * scale, (largest - zero) * scale
        steps = (ops.clip(wide, low, high) - low) * inverse
        out = ops.floor(steps - ops.floor(0.5 - low * inverse) + 0.5) * scale
        out = ops.cast(ops.where(nothing, 0.0, out), ops.dtype(x))
        below, above = ops.less(wide, low), ops.greater(wide, high)

        def gradient(upstream: Any) -> tuple:
            def of_bound(outside: Any, size: Any, like: Any) -> Any:
                axes = [i for i in range(rank) if axis is None or i != axis % rank]
                sums = ops.sum(ops.where(outside, upstream, 0.0), axis=axes)
                return ops.cast(ops.reshape(sums, size), ops.dtype(like))

            inside = ops.logical_not(ops.logical_or(below, above))
            return (
                ops.where(inside, upstream, 0.0),
                of_bound(below, low_shape, min_tensor),
                of_bound(above, high_shape, max_tensor),
            )

        return out, gradient

    min_tensor, max_tensor = low, high
    return ops.custom_gradient(rounded)(x, low, high)


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


@registry.register_keras_serializable("keras.quantizers")
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


class QuantizationConfig:
    """How a layer is quantized.

    Args:
        weight_quantizer: of its weight; the mode's own by default.
        activation_quantizer: of its inputs, at each call; None leaves them floats.
    """

    mode: str | None = None

    def __init__(self, weight_quantizer: Any = None, activation_quantizer: Any = None):
        self.weight_quantizer, self.activation_quantizer = weight_quantizer, activation_quantizer

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it."""
        return {
            "weight_quantizer": registry.serialize_keras_object(self.weight_quantizer),
            "activation_quantizer": registry.serialize_keras_object(self.activation_quantizer),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "QuantizationConfig":
        """What `get_config` described."""
        return cls(**{k: registry.deserialize_keras_object(v) for k, v in config.items()})


@registry.register_keras_serializable("keras.quantizers")
class Int8QuantizationConfig(QuantizationConfig):
    """Weights in int8 with a scale for each output channel, and by default the inputs too.

    Args:
        weight_quantizer: of the weight; by default the absolute maximum of each channel.
        activation_quantizer: of the inputs; None leaves them floats.

    >>> Int8QuantizationConfig(activation_quantizer=None).mode
    'int8'
    """

    mode = "int8"

    def __init__(self, weight_quantizer: Any = None, activation_quantizer: Any = "default"):
        default = isinstance(activation_quantizer, str) and activation_quantizer == "default"
        super().__init__(weight_quantizer, AbsMaxQuantizer() if default else activation_quantizer)
        if weight_quantizer is not None and weight_quantizer.output_dtype != "int8":
            raise ValueError(
                "Int8QuantizationConfig needs a weight_quantizer with output_dtype='int8'. "
                f"Received: output_dtype={weight_quantizer.output_dtype}"
            )


def resolve(mode: str | None, config: Any = None) -> QuantizationConfig:
    """Return the config of a mode or a config; both may be passed if they agree.

    >>> resolve("int8").mode
    'int8'
    """
    if isinstance(config, str):
        mode, config = config, None
    if config is None:
        dtype_policies.check_quantization_mode(mode)
        return Int8QuantizationConfig()
    if not isinstance(config, QuantizationConfig):
        raise ValueError(f"`config` must be a QuantizationConfig. Received: config={config!r}")
    if mode is not None and config.mode != mode:
        raise ValueError(
            f"Contradictory arguments: mode={mode!r}, but config.mode={config.mode!r}."
        )
    dtype_policies.check_quantization_mode(config.mode)
    return config


def quantize_and_dequantize(
    inputs: Any, scale: Any, quantized_dtype: str, compute_dtype: str
) -> Any:
    """Round `inputs` to a float8 dtype, and scale them back.

    Args:
        inputs: a float tensor.
        scale: `inputs / scale` is what the narrow dtype holds.
        quantized_dtype: "float8_e4m3fn" or "float8_e5m2".
        compute_dtype: the dtype of the result.

    >>> quantize_and_dequantize([1.0, 1.01], 1.0, "float8_e4m3fn", "float32").tolist()
    [1.0, 1.0]
    """
    largest = _largest(quantized_dtype)
    scale = ops.cast(scale, compute_dtype)
    x = ops.clip(ops.divide(ops.cast(inputs, compute_dtype), scale), -largest, largest)
    return ops.multiply(ops.cast(ops.cast(x, quantized_dtype), compute_dtype), scale)


def _largest(name: str) -> float:
    import ml_dtypes

    return float(ml_dtypes.finfo(dtypes.to_numpy(name)).max)


def compute_float8_scale(amax: Any, scale: Any, dtype_max: Any, margin: int = 0) -> Any:
    """Return the next scale of a float8 tensor: the last one where no value was finite.

    Args:
        amax: the largest absolute value seen.
        scale: the last scale.
        dtype_max: the largest value of the narrow dtype.
        margin: the bits left free above it.

    >>> float(compute_float8_scale(896.0, 1.0, 448.0))
    2.0
    """
    before = ops.reciprocal(scale)
    factor = ops.divide(ops.divide(dtype_max, amax), 2**margin)
    factor = ops.where(ops.greater(amax, 0.0), factor, before)
    return ops.reciprocal(ops.where(ops.isfinite(amax), factor, before))


def compute_float8_amax_history(x: Any, amax_history: Any) -> Any:
    """Add the largest absolute value to a history of them, in the place of the oldest.

    Args:
        x: a tensor.
        amax_history: a vector.

    >>> compute_float8_amax_history([-3.0], [1.0, 2.0]).tolist()
    [3.0, 1.0]
    """
    newest = ops.cast(ops.max(ops.abs(x)), ops.dtype(amax_history))
    rolled = ops.roll(amax_history, shift=-1)
    return ops.scatter_update(rolled, [[0]], ops.reshape(newest, (1,)))


_CLASSES = (Quantizer, AbsMaxQuantizer, QuantizationConfig, Int8QuantizationConfig)
_TABLE = {cls.__name__: cls for cls in _CLASSES}
_TABLE |= {to_snake_case(cls.__name__): cls for cls in _CLASSES}


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
    packed = ops.moveaxis(ops.cast(packed, "int32"), axis, 0)
    halves = [ops.bitwise_and(packed, 15), ops.bitwise_and(ops.right_shift(packed, 4), 15)]
    if dtype == "int8":
        halves = [ops.where(x > 7, x - 16, x) for x in halves]
    rows = ops.reshape(ops.stack(halves, axis=1), (-1, *packed.shape[1:]))[:orig_len]
    return ops.moveaxis(ops.cast(rows, dtype), 0, axis)


def serialize(initializer: Any) -> Any:
    """The config of a quantizer, whose parameter has the name that it has in Keras."""
    return registry.serialize_keras_object(initializer)


def deserialize(config: Any, custom_objects: Any = None) -> Any:
    """The quantizer of a config."""
    return registry.deserialize_keras_object(config, custom_objects)


def get(identifier: Any, **kwargs: Any) -> Any:
    """A quantizer from a name, a config, a class, a function, or None.

    Args:
        identifier: any of these.
        kwargs: arguments of the class.

    >>> get("abs_max_quantizer", axis=0).output_dtype
    'int8'
    """
    if kwargs:
        cls = _TABLE.get(identifier) if isinstance(identifier, str) else identifier
        if not isinstance(cls, type):
            raise ValueError(
                f"The arguments {sorted(kwargs)} are for the name of a class or a class, got "
                f"{identifier!r}."
            )
        return cls(**kwargs)
    return registry.get(identifier, _TABLE, "quantizer")
