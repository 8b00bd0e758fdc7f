"""PRIMITIVES for ops/nn.py on numpy."""

from typing import Any

TABLE: dict[str, Any] = {}
