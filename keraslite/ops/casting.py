"""Casts that stay in the range of a dtype, and the ranges."""

import math
from typing import Any

import ml_dtypes
import numpy as np

from keraslite import dtypes
from keraslite.ops.arithmetic import clip
from keraslite.ops.core import cast
from keraslite.ops.op import op


@op("same")
def saturate_cast(x: Any, dtype: Any) -> Any:
    """Change the dtype, with values brought into its range first.

    >>> convert_to_numpy(saturate_cast([-3.0, 300.0], "uint8")).tolist()
    [0, 255]
    """
    own, wanted = dtypes.standardize(x.dtype), dtypes.standardize(dtype)
    return cast(x if "bool" in (own, wanted) else clip(x, *_common_range(own, wanted)), dtype)


def limits(name: str, infinite: bool = False) -> tuple:
    """The least and the largest number of a dtype; of floats the infinities where asked for."""
    if dtypes.is_float(name):
        return (-math.inf, math.inf) if infinite else (-_LARGEST[name], _LARGEST[name])
    bits = int(name.lstrip("uint"))
    return (0, 2**bits - 1) if name[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


_LARGEST = {name: float(ml_dtypes.finfo(name).max) for name in dtypes.FLOATS}


def _common_range(own: str, wanted: str) -> tuple:
    """The range of both dtypes, its ends rounded towards zero to numbers of the first."""
    pairs = zip(limits(own), limits(wanted), (max, min), strict=True)
    ends = [choose(pair) for *pair, choose in pairs]
    kind = dtypes.to_numpy(own)
    if kind.kind not in "iu":
        rounded = [np.asarray(end, kind) for end in ends]
        ends = [
            float(r if abs(float(r)) <= abs(end) else np.nextafter(r, np.zeros((), kind)))
            for r, end in zip(rounded, ends, strict=True)
        ]
    return tuple(ends)


__all__ = ["saturate_cast"]
