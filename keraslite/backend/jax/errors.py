"""The errors of JAX: it raises TypeErrors for shapes, and ValueErrors for some dtypes."""

from jax.interpreters import mlir

from keraslite.backend.errors import mistake

_OWN = (mlir.ir.MLIRError,)
_ABOUT_DTYPES = ("dtype", "data type", "of type", "must be integers")


def explain(error: Exception) -> type[Exception] | None:
    """Return TypeError, IndexError or ValueError for a mistake in the arguments, else None."""
    return mistake(error, _OWN, _ABOUT_DTYPES)
