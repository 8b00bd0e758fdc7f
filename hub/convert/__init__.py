"""Checkpoints of other libraries' own layouts."""
