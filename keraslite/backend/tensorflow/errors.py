"""The errors of TensorFlow, whose kernels are looked up by dtype."""

import tensorflow as tf

from keraslite.backend.errors import mistake

_OWN = (tf.errors.InvalidArgumentError, tf.errors.NotFoundError, tf.errors.UnimplementedError)
_ABOUT_DTYPES = (
    "dtype", "data type", "allowed values", "of type", "not supported for",
    "Could not find device", "must be integers",
)  # fmt: skip


def explain(error: Exception) -> type[Exception] | None:
    """Return TypeError, IndexError or ValueError for a mistake in the arguments, else None."""
    return mistake(error, _OWN, _ABOUT_DTYPES)
