"""MatrixOptimizer: one formula for matrices, and Adam for the other parameters."""

import re
from typing import Any

from keraslite.optimizers.optimizer import Optimizer
from keraslite.variable import Variable


class MatrixOptimizer(Optimizer):
    """The base of Muon: says which parameters Adam updates, and how these are decayed."""

    exclude_layers: Any
    exclude_embeddings: bool
    adam_weight_decay: float | None

    def validate(self) -> None:
        """Take no exclude_layers as an empty list."""
        self.exclude_layers = self.exclude_layers or []

    def uses_adam(self, variable: Variable) -> bool:
        """Whether Adam updates a parameter: no matrix, an embedding or an excluded one.

        Args:
            variable: the parameter.
        """
        if len(variable.shape) != 2:
            return True
        if self.exclude_embeddings and "embedding" in variable.path.lower():
            return True
        return any(re.search(pattern, variable.path) for pattern in self.exclude_layers)

    def decay_of(self, variable: Variable) -> float | None:
        """The weight decay of a parameter that is decayed."""
        return self.adam_weight_decay if self.uses_adam(variable) else self.weight_decay
