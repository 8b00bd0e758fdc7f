"""What is under way around a call: a compilation, a recording, a torch.func transform."""

from contextvars import ContextVar

import torch

RECORDING: ContextVar[bool] = ContextVar("recording", default=False)


def traced() -> bool:
    """Whether tensors stand for those of later calls, so that their values must not be read."""
    return torch.compiler.is_compiling() or RECORDING.get()


def in_transform() -> bool:
    """Whether a torch.func transform (grad, vmap) is under way; never asked while compiling."""
    return (
        not torch.compiler.is_compiling()
        and torch._C._functorch.peek_interpreter_stack() is not None
    )


def levels() -> list[str]:
    """The torch.func transforms under way, by kind ("Grad", "Vmap", "Jvp"); none when compiling."""
    if not in_transform():
        return []
    return [level.key().name for level in torch._C._functorch.get_interpreter_stack()]
