"""PRIMITIVES for ops/linalg.py on tensorflow."""

from typing import Any

TABLE: dict[str, Any] = {}
