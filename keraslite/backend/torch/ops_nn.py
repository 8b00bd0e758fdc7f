"""PRIMITIVES for ops/nn.py on torch."""

from typing import Any

TABLE: dict[str, Any] = {}
