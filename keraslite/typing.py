"""Names for the types in public signatures.

A tensor is of one of four frameworks, which are not imported before they are used, so that
`Tensor` cannot name their classes; shapes, dtypes and axes are checked.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

# A tensor of any backend, or what becomes one: a number, a list, a numpy array, a Variable, or a
# KerasTensor, which stands for the input or output of a model.
Tensor: TypeAlias = Any
# The sizes of the axes; None where a size is not known yet.
Shape: TypeAlias = Sequence[int | None]
# A dtype by its name ("float32"), a Python class (float), or as numpy has it (np.float32).
DType: TypeAlias = str | type | np.dtype[Any]
# One axis, several, or None for all of them; negative ones count from the end.
Axis: TypeAlias = int | Sequence[int] | None


def overridable(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method as it is; to type checkers, subclasses may give it other parameters.

    Args:
        method: such as `Model.call`.
    """
    return method
