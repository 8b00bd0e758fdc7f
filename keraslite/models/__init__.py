"""Models: functional, sequential and subclassed."""

from keraslite.models.cloning import clone_model
from keraslite.models.function import Function
from keraslite.models.model import Functional, Model, model_from_json
from keraslite.models.sequential import Sequential

__all__ = [
    "Function", "Functional", "Model", "Sequential", "clone_model", "model_from_json",
]  # fmt: skip
