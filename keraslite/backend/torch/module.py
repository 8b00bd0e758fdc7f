"""What makes a layer a torch.nn.Module: parameters and submodules as torch sees them."""

from collections import OrderedDict
from typing import Any

import torch


class TorchLayer(torch.nn.Module):
    """The second base of every layer made under torch.

    `_parameters` and `_modules` are views of the layer's own variables and sublayers, so that
    torch.optim, state_dict, `.to(device)` and nesting inside a plain nn.Module work; nothing is
    stored twice, and a variable is made only when torch asks for it.
    """

    def _init_backend(self) -> None:
        state = self.__dict__
        for name in _HOOKS:
            state.setdefault(name, OrderedDict())
        state.setdefault("training", True)
        state.setdefault("_non_persistent_buffers_set", set())
        state.setdefault("_is_full_backward_hook", None)
        state.setdefault("_buffers", {})

    @property
    def _parameters(self) -> dict[str, torch.nn.Parameter]:
        return {name: v._kl_raw for name, v in self._own_variables() if v.shape is not None}

    @property
    def _modules(self) -> dict[str, torch.nn.Module]:
        return {
            name.replace("/", "."): layer
            for name, layer in self._own_layers()
            if isinstance(layer, torch.nn.Module)
        }

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


_HOOKS = (
    "_backward_pre_hooks", "_backward_hooks", "_forward_hooks", "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called", "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs",
    "_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)  # fmt: skip
