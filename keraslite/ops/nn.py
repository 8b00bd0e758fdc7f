"""Ops of neural networks: one definition each."""

__all__: list[str] = []
