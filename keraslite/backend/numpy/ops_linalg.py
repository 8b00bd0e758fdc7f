"""PRIMITIVES for ops/linalg.py on numpy."""

from typing import Any

TABLE: dict[str, Any] = {}
