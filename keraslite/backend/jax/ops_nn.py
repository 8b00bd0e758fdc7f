"""PRIMITIVES for ops/nn.py on jax."""

from typing import Any

TABLE: dict[str, Any] = {}
