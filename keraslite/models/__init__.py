"""Models: functional, sequential and subclassed."""

from keraslite.models.cloning import clone_model
from keraslite.models.function import Function
from keraslite.models.model import Functional, Model, model_from_json
from keraslite.models.sequential import Sequential
from keraslite.saving.model_file import load_model, save_model

__all__ = [
    "Function", "Functional", "Model", "Sequential", "clone_model", "load_model",
    "model_from_json", "save_model",
]  # fmt: skip
