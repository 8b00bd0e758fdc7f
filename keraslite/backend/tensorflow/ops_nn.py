"""PRIMITIVES for ops/nn.py on tensorflow."""

from typing import Any

TABLE: dict[str, Any] = {}
