"""The torch.nn.Module side of a layer: its parameters and submodules as torch sees them."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch

from keraslite.backend.torch.sharding import share_by_parameters
from keraslite.backend.torch.tensors import dtype_of, native
from keraslite.backend.torch.tracing import HOOKED, in_transform


class TorchLayer(torch.nn.Module):
    """The second base of every layer made under torch.

    `_parameters` and `_modules` are views of the layer's own variables and sublayers, so that
    torch.optim, state_dict, `.to(device)` and nesting inside a plain nn.Module work; nothing is
    stored twice, and a variable is made only when torch asks for it. What lies in a list or a dict
    goes by a name without dots, `blocks_0`: torch takes a name apart at its dots.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if any(base.__name__ == "FSDPModule" for base in cls.__bases__):  # by `fully_shard`
            share_by_parameters(TorchLayer)

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
        elif isinstance(value, torch.Tensor) and isinstance(value, torch.nn.Parameter):
            # torch's own functions set them so; that it is a tensor is quicker to tell.
            variable = self.__dict__.get(name)
            if variable is None:
                variable = self._kl_named_variables().get(name)
            if hasattr(type(variable), "_kl_raw"):  # a Variable
                variable.check_shape(value.shape)
                _hold(variable, value)
                return
            value = self._kl_weight_over(name, value)
        object.__setattr__(self, name, value)

    def _kl_weight_over(self, name: str, value: torch.nn.Parameter) -> Any:
        """Return a new weight of the layer whose storage is a parameter."""
        variable = self.add_weight(
            tuple(value.shape), "zeros", dtype_of(value), value.requires_grad, name=name
        )
        variable.share(value)
        return variable

    def _kl_named_variables(self) -> dict[str, Any]:
        return _split(_without_slashes(self.own_variables()))[0]

    @property
    def _parameters(self) -> dict[str, torch.nn.Parameter]:
        return _live(self._kl_named_variables(), True)

    @property
    def _buffers(self) -> dict[str, torch.Tensor]:
        return _live(self._kl_named_variables(), False)

    @property
    def _modules(self) -> dict[str, torch.nn.Module]:
        layers, parts = _split(_without_slashes(self.own_layers()))
        for head, inside in _split(_without_slashes(self.own_variables()))[1].items():
            parts.setdefault(head, {}).update(inside)
        modules = {name: x for name, x in layers.items() if isinstance(x, torch.nn.Module)}
        for head, inside in parts.items():
            while head in modules:
                head += "_"
            modules[head] = _Part(inside)
        return modules

    def get_parameter(self, target: str) -> torch.nn.Parameter:
        """Return a parameter by its name in `named_parameters`."""
        return self._kl_tensor(target, "_parameters")

    def get_buffer(self, target: str) -> torch.Tensor:
        """Return a buffer by its name in `named_buffers`."""
        return self._kl_tensor(target, "_buffers")

    def _kl_tensor(self, target: str, group: str) -> Any:
        path, _, name = target.rpartition(".")
        tensors = getattr(self.get_submodule(path), group)
        if name not in tensors:
            raise AttributeError(f"{self.name!r} has no {target!r} in {group}.")
        return tensors[name]

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

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of all variables below.

        A step calls this, in which the variables are known: torch's own goes through all modules.

        Args:
            set_to_none: whether they are dropped, or else filled with zeros.
        """
        for variable in self.variables:
            grad = variable._kl_raw.grad
            if grad is None:
                continue
            if set_to_none:
                variable._kl_raw.grad = None
            else:
                grad.detach_().zero_()

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
        # State dicts were written under names with dots once: "blocks.0.kernel".
        for named in (self.own_layers(), self.own_variables()):
            for (path, _), name in zip(named, _without_slashes(named), strict=True):
                old = prefix + path.replace("/", ".")
                if "/" in path:
                    for key in [k for k in state_dict if k == old or k.startswith(f"{old}.")]:
                        state_dict[prefix + name + key[len(old) :]] = state_dict.pop(key)
        super()._load_from_state_dict(
            state_dict, prefix, metadata, strict, missing, unexpected, errors
        )

    def __getattr__(self, name: str) -> Any:
        # torch reads the parts of a parameter's name as attributes.
        value = None if name.startswith("_") else self._kl_inside(name)
        if value is None:
            return object.__getattribute__(self, name)  # with the error of a property, or Python's
        return value

    def _kl_inside(self, name: str) -> Any:
        """Return what lies in a graph, a list or a dict, by its name here; None if nothing does."""
        state = self.__dict__
        parts = name.split("_")
        starts = ["_".join(parts[:i]) for i in range(1, len(parts))]
        # Names in a graph are those of layers, or automatic ones, made of their classes'.
        in_graph = any(
            type(x).__name__.lower().startswith(parts[0]) or name.startswith(x.name)
            for x in state.get("_layers_in_order", ())
        )
        if (
            in_graph
            or any(s in state or f"_{s}" in state for s in starts)
            or any("." in v.name for v in state.get("_kl_added", ()))
        ):
            for inside in (self._modules, self._parameters, self._buffers):
                if name in inside:
                    return inside[name]
        return None


def _without_slashes(named: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return what has paths by names without slashes, in its order."""
    taken = {name for name, _ in named if "/" not in name}
    result: dict[str, Any] = {}
    for path, value in named:
        name = base = path.replace("/", "_")
        number = 0
        while name != path and name in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name)
        result[name] = value
    return result


def _split(named: dict[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return what has names without dots, and the rest by the part of its name before the dot."""
    own = {name: value for name, value in named.items() if "." not in name}
    parts: dict[str, dict[str, Any]] = {}
    for name, value in named.items() if len(own) < len(named) else ():
        head, dot, rest = name.partition(".")
        if dot:
            parts.setdefault(head, {})[rest] = value
    return own, parts


class _Part(torch.nn.Module):
    """A module of the variables and layers whose names share the part before a dot."""

    def __init__(self, named: dict[str, Any]):
        super().__init__()
        own, parts = _split(named)
        variables = {name: x for name, x in own.items() if not isinstance(x, torch.nn.Module)}
        modules = {name: x for name, x in own.items() if name not in variables}
        self.__dict__["_parameters"] = _live(variables, True)
        self.__dict__["_buffers"] = _live(variables, False)
        self.__dict__["_modules"] = modules | {head: _Part(x) for head, x in parts.items()}

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, metadata: Any, *args: Any, **kwargs: Any
    ) -> None:
        # Values are copied: a module of torch's may hold a tensor in several places.
        metadata = {**metadata, "assign_to_params_buffers": False}
        super()._load_from_state_dict(state_dict, prefix, metadata, *args, **kwargs)


def _live(variables: dict[str, Any], trainable: bool) -> "_Live":
    return _Live({name: v for name, v in variables.items() if bool(v.made_trainable) is trainable})


class _Live(dict):
    """Variables under their torch names; a tensor put in takes the place of the variable's own."""

    def __init__(self, variables: dict[str, Any]):
        self.variables = variables
        super().__init__({name: v._kl_raw for name, v in variables.items()})

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
