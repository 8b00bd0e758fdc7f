"""The errors of numpy."""

import numpy as np

from keraslite.backend.errors import mistake

_NO_LOOP = np._core._exceptions.UFuncTypeError  # no kernel for these dtypes; it has no public name
_OWN = (np.exceptions.AxisError, np.linalg.LinAlgError, _NO_LOOP)
_ABOUT_DTYPES = ("dtype", "data type", "of type", "not supported for", "must be integers")


def explain(error: Exception) -> type[Exception] | None:
    """Return TypeError, IndexError or ValueError for a mistake in the arguments, else None."""
    return TypeError if isinstance(error, _NO_LOOP) else mistake(error, _OWN, _ABOUT_DTYPES)
