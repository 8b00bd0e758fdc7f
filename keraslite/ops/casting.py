"""Casts that stay in the range of a dtype."""

import numpy as np

from keraslite import dtypes
from keraslite.ops.arithmetic import clip
from keraslite.ops.core import cast
from keraslite.ops.op import op
from keraslite.typing import DType, Tensor


@op("same")
def saturate_cast(x: Tensor, dtype: DType) -> Tensor:
    """Change the dtype, with values brought into its range first.

    >>> convert_to_numpy(saturate_cast([-3.0, 300.0], "uint8")).tolist()
    [0, 255]
    """
    source, target = dtypes.standardize(x.dtype), dtypes.standardize(dtype)
    return cast(x if "bool" in (source, target) else clip(x, *_common_range(source, target)), dtype)


def _common_range(source: str, target: str) -> tuple:
    """The range of both dtypes, its ends rounded towards zero to numbers of the first."""
    (low, high), (target_low, target_high) = dtypes.limits(source), dtypes.limits(target)
    ends = [max(low, target_low), min(high, target_high)]
    if dtypes.is_float(source):
        dtype = dtypes.to_numpy(source)
        rounded = [np.asarray(end, dtype) for end in ends]
        ends = [
            float(r if abs(float(r)) <= abs(end) else np.nextafter(r, np.zeros((), dtype)))
            for r, end in zip(rounded, ends, strict=True)
        ]
    return tuple(ends)


__all__ = ["saturate_cast"]
