"""PRIMITIVES for ops/linalg.py on jax."""

from typing import Any

TABLE: dict[str, Any] = {}
