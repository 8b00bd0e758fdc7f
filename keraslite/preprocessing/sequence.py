"""Sequences of one length, under the older name."""

from keraslite.utils.data import pad_sequences

__all__ = ["pad_sequences"]
