"""Parts of arrays, read and written, on numpy."""

from typing import Any

import numpy as np

from keraslite.backend.primitives import primitive, with_remainders

TABLE: dict[str, Any] = {}


@primitive(TABLE)
def get_item(x: np.ndarray, key: Any) -> np.ndarray:
    return x[key]


def _part(inputs: np.ndarray, start_indices: Any, shape: Any) -> tuple:
    """The slices of a part, moved inside where it would reach beyond the end, as in JAX."""
    inside = [min(max(int(i), 0), d - n)
              for i, d, n in zip(start_indices, inputs.shape, shape, strict=True)]  # fmt: skip
    if min(inside, default=0) < 0:
        raise ValueError(f"the shape {tuple(shape)} is larger than {inputs.shape}")
    return tuple(slice(i, i + n) for i, n in zip(inside, shape, strict=True))


@primitive(TABLE)
def slice_(inputs: np.ndarray, start_indices: Any, shape: Any) -> np.ndarray:
    if -1 in shape:
        shape = with_remainders(shape, start_indices, inputs.shape)
    return inputs[_part(inputs, start_indices, shape)]


@primitive(TABLE)
def slice_update(inputs: np.ndarray, start_indices: Any, updates: np.ndarray) -> np.ndarray:
    return overwrite(inputs.copy(), start_indices, updates)


@primitive(TABLE)
def overwrite(inputs: np.ndarray, start_indices: Any, updates: np.ndarray) -> np.ndarray:
    inputs[_part(inputs, start_indices, updates.shape)] = updates
    return inputs


@primitive(TABLE)
def scatter_update(
    inputs: np.ndarray, indices: np.ndarray, updates: np.ndarray, reduction: str | None = None
) -> np.ndarray:
    out, places = inputs.copy(), tuple(indices.T)
    reduce = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}
    if reduction is None:
        out[places] = updates
    else:
        reduce[reduction].at(out, places, updates.astype(inputs.dtype))
    return out
