"""The torch.nn.Module side of a layer: its parameters and submodules as torch sees them."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import torch

from keraslite.backend.torch.tensors import dtype_of, native
from keraslite.backend.torch.tracing import HOOKED, in_transform


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

    # Plain attributes: nn.Module's bookkeeping is not wanted.
    __delattr__ = object.__delattr__

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, torch.nn.Module) and not isinstance(value, TorchLayer):
            value = self._kl_wrapped_module(value)  # else nobody would train its parameters
        if isinstance(value, torch.Tensor) and isinstance(value, torch.nn.Parameter):  # fast first
            variable = self.__dict__.get(name)
            if hasattr(type(variable), "_kl_raw"):  # a Variable: torch's own functions set one so
                variable.check_shape(value.shape)
                _hold(variable, value)
                return
        object.__setattr__(self, name, value)

    @property
    def _parameters(self) -> dict[str, torch.nn.Parameter]:
        return _Live((k, v) for k, v in self.own_variables() if v.made_trainable)

    @property
    def _buffers(self) -> dict[str, torch.Tensor]:
        return _Live((k, v) for k, v in self.own_variables() if not v.made_trainable)

    @property
    def _modules(self) -> dict[str, torch.nn.Module]:
        return {
            name.replace("/", "."): layer
            for name, layer in self.own_layers()
            if isinstance(layer, torch.nn.Module)
        }

    def _apply(self, fn: Callable, recurse: bool = True) -> Any:
        """Apply a function such as that of `.to()` to all tensors; dtypes follow."""
        super()._apply(fn, recurse)
        for _, variable in self.own_variables():
            variable.storage_dtype = dtype_of(variable._kl_raw)
        compute = self.compute_dtype
        after = dtype_of(fn(torch.empty(0, dtype=native(compute))))
        if after != compute:
            self.dtype_policy = after
        return self

    def _kl_call_with_hooks(self, args: tuple, kwargs: dict) -> Any:
        """Call the layer as torch does: hooks, `forward`, hooks."""
        return torch.nn.Module.__call__(self, *args, **kwargs)

    def train(self, mode: bool = True) -> Any:
        """Say how calls run that do not say `training=` themselves."""
        self.__dict__["_kl_mode"] = mode
        return super().train(mode)

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, metadata: Any, strict: bool, missing: list,
        unexpected: list, errors: list,
    ) -> None:  # fmt: skip
        # torch takes a name up to its first dot for a module's; ours may have dots ("blocks.0").
        candidates: list[str] = []
        # Values are copied: an assigned tensor would end up in an attribute that nobody reads.
        metadata = {**metadata, "assign_to_params_buffers": False}
        super()._load_from_state_dict(
            state_dict, prefix, metadata, strict, missing, candidates, errors
        )
        inside = tuple(f"{prefix}{name}." for name in self._modules)
        tensors = {prefix + name for name in (*self._parameters, *self._buffers)}
        unexpected += [k for k in candidates if not k.startswith(inside) and k not in tensors]

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and "_layers_in_order" in self.__dict__:
            # torch reads the parts of a parameter's name as attributes.
            layer = self._modules.get(name)
            if layer is not None:
                return layer
        return object.__getattribute__(self, name)  # with the error of a property, or Python's own


class _Live(dict):
    """Variables under their torch names; a tensor put in takes the place of the variable's own."""

    def __init__(self, variables: Iterable[tuple[str, Any]]):
        self.variables = {name.replace("/", "."): v for name, v in variables}
        super().__init__({name: v._kl_raw for name, v in self.variables.items()})

    def __setitem__(self, name: str, value: torch.Tensor) -> None:
        _hold(self.variables[name], value)
        super().__setitem__(name, value)


def _hold(variable: Any, value: torch.Tensor) -> None:
    """Let a variable have a tensor for its storage: the same one, so that gradients reach it."""
    is_plain = type(value) is torch.Tensor and not value.requires_grad and not in_transform()
    variable.share(torch.nn.Parameter(value, requires_grad=False) if is_plain else value)
    variable.storage_dtype = dtype_of(value)


def _registering(name: str) -> Callable:
    """Return the method of torch.nn.Module that registers hooks, which calls then run."""
    register = getattr(torch.nn.Module, name)

    def method(self: TorchLayer, *args: Any, **kwargs: Any) -> Any:
        self.__dict__["_kl_hooked"] = True
        HOOKED.add(self)
        return register(self, *args, **kwargs)

    method.__doc__ = register.__doc__
    return method


for _name in (
    "register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook",
    "register_full_backward_pre_hook", "register_backward_hook",
):  # fmt: skip
    setattr(TorchLayer, _name, _registering(_name))

_HOOKS = (
    "_backward_pre_hooks", "_backward_hooks", "_forward_hooks", "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called", "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs",
    "_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)  # fmt: skip
