"""PRIMITIVES for ops/linalg.py on torch."""

from typing import Any

TABLE: dict[str, Any] = {}
