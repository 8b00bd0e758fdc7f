"""Models: functional, sequential and subclassed."""

from keraslite.models.functional import Functional
from keraslite.models.model import Model, clone_model, model_from_json
from keraslite.models.sequential import Sequential
