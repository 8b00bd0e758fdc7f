"""Ops that numpy has under the same name: one definition each."""

from typing import Any

from keraslite.ops.op import op, primitive_only


@op("promote", tensors=2)
def add(x1: Any, x2: Any) -> Any:
    """Add elementwise."""
    return primitive_only("add")


@op("promote", tensors=2)
def subtract(x1: Any, x2: Any) -> Any:
    """Subtract elementwise."""
    return primitive_only("subtract")


@op("promote", tensors=2)
def multiply(x1: Any, x2: Any) -> Any:
    """Multiply elementwise."""
    return primitive_only("multiply")


@op("promote_float", tensors=2)
def divide(x1: Any, x2: Any) -> Any:
    """Divide elementwise; integers become floats."""
    return primitive_only("divide")


@op("promote", tensors=2)
def matmul(x1: Any, x2: Any) -> Any:
    """Matrix product."""
    return primitive_only("matmul")


@op("float")
def exp(x: Any) -> Any:
    """The exponential."""
    return primitive_only("exp")


@op("same")
def reshape(x: Any, newshape: Any) -> Any:
    """Change the shape."""
    return primitive_only("reshape")


@op("sequence")
def stack(x: Any, axis: int = 0) -> Any:
    """Join tensors along a new axis."""
    return primitive_only("stack")


@op("creation")
def zeros(shape: Any, dtype: Any = None) -> Any:
    """Zeros."""
    return primitive_only("zeros")


__all__ = ["add", "divide", "exp", "matmul", "multiply", "reshape", "stack", "subtract", "zeros"]
