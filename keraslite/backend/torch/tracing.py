"""Ask whether tensors have values, and whether a torch.func transform is under way."""

from contextvars import ContextVar
from weakref import WeakSet

import torch

from keraslite.scopes import scopes

# While a call is recorded: (weight, version, address) of the weights whose values are part of it.
RECORDING: ContextVar[list[tuple] | None] = ContextVar("recording", default=None)
# The layers on which hooks of torch.nn.Module were registered.
HOOKED: WeakSet = WeakSet()
_CALLED = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def traced() -> bool:
    """Return whether values must not be read: there are none, or later calls have others."""
    return has_no_values() or RECORDING.get() is not None


def has_hooks() -> bool:
    """Return whether a layer has hooks, which a replay would pass by."""
    return bool(HOOKED) and any(getattr(layer, name) for layer in HOOKED for name in _CALLED)


def has_no_values() -> bool:
    """Return whether tensors stand for others here: of a compiled function, or of a shape alone."""
    return torch.compiler.is_compiling() or scopes.abstract


def check_axis(x: torch.Tensor, axis: int) -> None:
    """Raise IndexError where there is no such axis, which some kernels see only by values."""
    if scopes.abstract:
        x.size(axis)


def in_transform() -> bool:
    """Return whether a torch.func transform (grad, vmap) is under way; False while compiling."""
    return (
        not torch.compiler.is_compiling()
        and torch._C._functorch.peek_interpreter_stack() is not None
    )


def levels() -> list[str]:
    """Return the names of the torch.func transforms under way ("Grad", "Vmap", "Jvp")."""
    if not in_transform():
        return []
    return [level.key().name for level in torch._C._functorch.get_interpreter_stack()]


def is_variable(x: torch.Tensor) -> bool:
    """Whether a tensor is a variable of this process alone, outside transforms and traces."""
    if torch.compiler.is_compiling() or type(x) is not torch.nn.Parameter:
        return False
    return not in_transform() and not x.is_shared()
