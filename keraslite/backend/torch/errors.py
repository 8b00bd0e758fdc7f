"""The errors of torch, which are plain RuntimeErrors: their messages tell them apart."""

import torch

from keraslite.backend.errors import mistake

_OWN = (torch.linalg.LinAlgError,)
_ABOUT_DTYPES = (
    "dtype", "data type", "scalar type", "implemented for", "of type", "not supported for",
    "does not support complex", "must be integers", "bool tensor",
)  # fmt: skip


def explain(error: Exception) -> type[Exception] | None:
    """Return TypeError, IndexError or ValueError for a mistake in the arguments, else None."""
    return mistake(error, _OWN, _ABOUT_DTYPES)
