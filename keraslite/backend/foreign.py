"""Functions of one framework, in the form in which the backends of the others call them.

The framework that a function is written for describes it by a subclass of `ForeignFunction`
(`torch/wrapped.py`, `jax/functions.py`, `tensorflow/functions.py`); `call_foreign` of every backend
(`carrier.py`) calls any of these, and gives their gradients.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from keraslite import dtypes

Spec = tuple[tuple, str]  # a shape, in which None is a size that is not known, and a dtype

NO_SECOND = (
    "The gradient of another framework's function has no gradient itself: for second derivatives, "
    "move the layer to the backend of its own framework."
)
# In the place of unknown sizes: what differs between two runs with these is unknown.
_SIZES = (48, 96)


class ForeignFunction:
    """A function of one framework: weights and inputs in, outputs and new weights out.

    It is pure. What the framework would write in place, such as running means, is a weight whose
    new value is a further result; random numbers follow from a seed among the inputs. So its
    gradient can compute it again. What crosses between frameworks is arrays.

    Args:
        function: takes two lists of the framework's tensors, weights and inputs; returns (outputs,
            nested; list of the new values of some weights).
        trained: for each weight, whether it has a gradient.
    """

    def __init__(self, function: Callable[[list, list], tuple[Any, list]], trained: list[bool]):
        self.function, self.trained = function, trained
        self._outlines: dict[tuple, list[Spec]] = {}
        # Of the outputs: (x,) for what is no tensor, None for a tensor; and how they are put
        # together again.
        self._others: list[tuple | None] = []
        self._rebuild: Callable[[list], Any] = list

    # -- what each framework answers ----------------------------------------------------------

    def forward(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """Return the outputs and then the new weights, for the weights and then the inputs."""
        raise NotImplementedError

    def vjp(self, arrays: list[np.ndarray], upstream: list[np.ndarray]) -> list[np.ndarray]:
        """Return the gradients by `sources`, for those by the outputs at `targets`."""
        raise NotImplementedError

    def infer(self, specs: list[Spec]) -> list[Spec]:
        """Return the shapes and dtypes of the results, all sizes being known."""
        raise NotImplementedError

    # -- what is the same for all -------------------------------------------------------------

    def outline(self, specs: list[Spec]) -> list[Spec]:
        """Return the shapes and dtypes of the results for those of weights and inputs."""
        key = tuple(specs)
        if key not in self._outlines:
            if all(None not in shape for shape, _ in specs):
                self._outlines[key] = self.infer(specs)
            else:
                first, second = (self.infer(_with_sizes(specs, size)) for size in _SIZES)
                self._outlines[key] = [
                    (tuple(a if a == b else None for a, b in zip(one, two, strict=True)), dtype)
                    for (one, dtype), (two, _) in zip(first, second, strict=True)
                ]
        return self._outlines[key]

    def sources(self, names: list[str]) -> list[int]:
        """Return which weights and inputs have gradients, by the names of their dtypes."""
        count = len(self.trained)
        return [
            i for i, name in enumerate(names)
            if dtypes.is_float(name) and (i >= count or self.trained[i])
        ]  # fmt: skip

    def targets(self, names: list[str]) -> list[int]:
        """Return which results gradients come from: the outputs of floats."""
        count = self._others.count(None)
        return [i for i, name in enumerate(names[:count]) if dtypes.is_float(name)]

    def note_outputs(
        self, leaves: list, is_tensor: Callable[[Any], bool], rebuild: Callable[[list], Any]
    ) -> list:
        """Keep the structure of outputs, and return the tensors among their leaves."""
        self._others = [None if is_tensor(x) else (x,) for x in leaves]
        self._rebuild = rebuild
        return [x for x in leaves if is_tensor(x)]

    def pack(self, results: list) -> tuple[Any, list]:
        """Return the outputs in their structure, and the new weights."""
        count = self._others.count(None)
        tensors = iter(results[:count])
        leaves = [next(tensors) if x is None else x[0] for x in self._others]
        return self._rebuild(leaves), list(results[count:])


def _with_sizes(specs: list[Spec], size: int) -> list[Spec]:
    return [(tuple(size if n is None else n for n in shape), dtype) for shape, dtype in specs]
