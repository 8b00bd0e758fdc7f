"""Products with weights of four bits that are never unpacked as a whole.

The two halves of the bytes are two matrices; each is multiplied by itself, and the results take
turns. Scales and zero points are applied to the sums of each group: for few rows of inputs that is
far less work than to make floats of all weights.
"""

from typing import Any

from keraslite import ops


def packed_linear(
    x: Any, packed: Any, scale: Any, zero: Any, columns: int, summed: bool = False
) -> Any:
    """`x @ weight` for a weight that is packed in pairs.

    Args:
        x: floats (..., inputs).
        packed: int8 or uint8, (inputs, columns / 2); with `summed` (inputs / 2, columns).
        scale: (groups, columns), for `(integer - zero) * scale`; or (columns,), for
            `integer / scale`.
        zero: (groups, columns); None without groups.
        columns: the number of outputs.
        summed: whether neighbours along the inputs share a byte, and not those along the outputs.

    >>> x, packed = np.array([[1.0, 2.0]], "float32"), np.array([[33], [67]], "int8")
    >>> packed_linear(x, packed, np.array([1.0, 0.5], "float32"), None, 2).tolist()
    [[7.0, 20.0]]
    """
    dtype, shape = ops.dtype(x), ops.shape(x)
    halves = [ops.cast(half, dtype) for half in _halves(packed)]
    groups = 1 if zero is None else ops.shape(scale)[0]
    x = ops.reshape(x, (-1, groups, shape[-1] // groups))
    x = x[:, 0] if groups == 1 else ops.transpose(x, (1, 0, 2))
    if groups > 1:
        halves = [ops.reshape(h, (groups, -1, ops.shape(h)[1])) for h in halves]
    if summed:
        inputs = shape[-1] // groups
        parts = [x[..., 0::2], x[..., 1::2]]
        halves[1] = halves[1][..., : inputs // 2, :]  # an odd number of inputs is filled up
        out = ops.add(ops.matmul(parts[0], halves[0]), ops.matmul(parts[1], halves[1]))
    else:
        pairs = ops.stack([ops.matmul(x, half) for half in halves], axis=-1)
        out = ops.reshape(pairs, (*ops.shape(pairs)[:-2], -1))[..., :columns]
    if zero is None:
        out = ops.divide(out, scale)
    else:
        zero, sums = ops.cast(zero, dtype), ops.sum(x, axis=-1, keepdims=True)
        if groups > 1:
            scale, zero = ops.expand_dims(scale, 1), ops.expand_dims(zero, 1)
        out = ops.multiply(ops.subtract(out, ops.multiply(sums, zero)), scale)
        out = ops.sum(out, axis=0) if groups > 1 else out
    return ops.reshape(out, (*shape[:-1], columns))


def _halves(packed: Any) -> tuple[Any, Any]:
    """The lower and the upper four bits: signed for int8, else from zero on."""
    if ops.dtype(packed) == "int8":
        low = ops.right_shift(ops.left_shift(packed, 4), 4)
    else:
        low = ops.bitwise_and(packed, 15)
    return low, ops.right_shift(packed, 4)


def is_quicker(x: Any, inputs: int, groups: int, block: int | None, pairs: bool = False) -> bool:
    """Return whether `packed_linear` can be used, and is less work than to unpack the weight.

    Args:
        x: the inputs (..., inputs).
        inputs: their number.
        groups: the number of groups.
        block: the inputs of a group; None without groups.
        pairs: whether neighbours along the inputs share a byte.
    """
    if block is None:
        return True
    rows = 1
    for size in x.shape[:-1]:
        if not isinstance(size, int):  # unknown in a graph
            return False
        rows *= size
    whole = groups == 1 or (inputs % block == 0 and not (pairs and block % 2))
    return whole and rows <= block
