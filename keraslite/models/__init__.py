"""Models: functional, sequential and subclassed."""

from keraslite.models.model import Functional, Model, clone_model, model_from_json
from keraslite.models.sequential import Sequential

__all__ = [
    "Functional", "Model", "Sequential", "clone_model", "model_from_json",
]  # fmt: skip
