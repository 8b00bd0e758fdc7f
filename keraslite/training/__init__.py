"""One trainer over the engine's value_and_grad and jit, and the data that it takes."""

from keraslite.training.compiled import CompiledFunctions, inference

__all__ = ["CompiledFunctions", "inference"]
