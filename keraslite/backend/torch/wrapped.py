"""Modules of torch inside layers: their state, calls with other values of it, and pickles."""

import base64
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules.lazy import LazyModuleMixin

from keraslite.backend.foreign import ForeignFunction, Spec
from keraslite.backend.torch.engine import abstract
from keraslite.backend.torch.tensors import default_device, dtype_of, from_numpy, native, to_numpy

# Held while modules run for other backends: these call from several threads, and whether a module
# is in train mode is a setting of the module.
_LOCK = threading.RLock()


def prepared(module: Any) -> torch.nn.Module:
    """Return a module on the device of new tensors, with all its parameters.

    Args:
        module: the module.

    Raises:
        TypeError: it is no module.
        ValueError: it is a lazy one that was not called yet.
    """
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {module!r}.")
    for part in module.modules():
        if isinstance(part, LazyModuleMixin) and part.has_uninitialized_params():
            raise ValueError(
                "LazyModules are not supported unless they are already initialized. Received "
                f"uninitialized LazyModule: module={part}. Call it on data first."
            )
    device = default_device()
    return module if device is None else module.to(device)


def places_of(module: torch.nn.Module) -> dict[str, tuple[dict, str]]:
    """Return where each parameter, and then each buffer, is kept: a dict and its key, by name."""
    places: dict[str, tuple[dict, str]] = {}
    for table in ("_parameters", "_buffers"):
        ids = set()
        for prefix, part in module.named_modules():
            held = getattr(part, table)
            for key, tensor in held.items():
                if tensor is not None and id(tensor) not in ids:
                    ids.add(id(tensor))
                    places[f"{prefix}.{key}" if prefix else key] = held, key
    return places


def parameters_of(module: torch.nn.Module, recurse: bool) -> Iterator[torch.nn.Parameter]:
    """Return the parameters of a module, and of those inside it where that is wanted."""
    return module.parameters(recurse=recurse)


def state_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the parameters and buffers that a module saves, by name."""
    return module.state_dict()


def is_buffer(tensor: torch.Tensor) -> bool:
    """Whether a tensor of a module is a buffer and no parameter."""
    return not isinstance(tensor, torch.nn.Parameter)


def run(
    module: torch.nn.Module, places: dict[str, tuple[dict, str]], values: dict[str, torch.Tensor],
    live: bool, args: tuple, kwargs: dict[str, Any], training: bool, compute: str | None,
) -> tuple[Any, dict[str, torch.Tensor]]:  # fmt: skip
    """Call a module with given values of its state.

    Args:
        module: the module.
        places: what `places_of` gave.
        values: tensors by name.
        live: whether these are the module's own, in which it may write.
        args: what it is called with.
        kwargs: likewise, by name.
        training: whether it runs in train mode.
        compute: the dtype to which torch.autocast casts, if any.

    Returns:
        (outputs, the new values of buffers that are other tensors than before).
    """
    module.train(training)
    buffers = [name for name, (held, key) in places.items() if is_buffer(held[key])]
    if not live:
        values = values | {name: values[name].clone() for name in buffers}
        with _autocast(values, compute):
            outputs = torch.func.functional_call(module, values, args, kwargs)
        return outputs, {name: values[name] for name in buffers}
    for name, (held, key) in places.items():
        if held[key] is not values[name]:  # replaced on one side, such as by `.to(device)`
            held[key] = values[name]
    with _autocast(values, compute):
        outputs = module(*args, **kwargs)
    replaced = {}
    for name in buffers:
        held, key = places[name]
        if held[key] is not values[name]:
            replaced[name], held[key] = held[key], values[name]
    return outputs, replaced


@contextmanager
def seeded(seed: torch.Tensor | None) -> Iterator[None]:
    """Let torch's generator begin from a pair of integers inside a block; None changes nothing."""
    if seed is None or isinstance(seed, FakeTensor):
        yield
        return
    first, second = (int(number) % 2**32 for number in seed.tolist())
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(first << 31 ^ second)
        yield


def _autocast(values: dict[str, torch.Tensor], compute: str | None) -> AbstractContextManager:
    if compute is None:
        return nullcontext()
    device = next((x.device.type for x in values.values()), "cpu")
    return torch.autocast(device, native(compute))


class TorchFunction(ForeignFunction):
    """A function of torch, such as the call of a module, for the backends of other frameworks."""

    def _run(self, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        pytree, count = torch.utils._pytree, len(self.trained)
        outputs, updated = self.function(tensors[:count], tensors[count:])
        leaves, structure = pytree.tree_flatten(outputs)
        is_tensor = lambda x: isinstance(x, torch.Tensor)  # noqa: E731
        rebuild: Callable = lambda leaves: pytree.tree_unflatten(leaves, structure)  # noqa: E731
        return [*self.note_outputs(leaves, is_tensor, rebuild), *updated]

    def _tensors(self, arrays: Any) -> list[torch.Tensor]:
        """Make tensors of arrays; a module may overwrite its inputs, which are another's memory."""
        count = len(self.trained)
        arrays = [*arrays[:count], *(np.array(x) for x in arrays[count:])]
        return [from_numpy(x) for x in arrays]

    def forward(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """Run the function."""
        with _LOCK, torch.no_grad():
            return [to_numpy(x) for x in self._run(self._tensors(arrays))]

    def vjp(self, arrays: list[np.ndarray], upstream: list[np.ndarray]) -> list[np.ndarray]:
        """Run the function again, and backwards."""
        with _LOCK, torch.enable_grad():
            tensors = self._tensors(arrays)
            moving = self.sources([dtype_of(x) for x in tensors])
            leaves = [tensors[i].requires_grad_() for i in moving]
            for i in moving:
                if i >= len(self.trained):
                    tensors[i] = tensors[i].clone()  # a leaf may not be overwritten
            results = self._run(tensors)
            targets = [results[i] for i in self.targets([dtype_of(x) for x in results])]
            pairs = [
                (x, from_numpy(g))
                for x, g in zip(targets, upstream, strict=True)
                if x.requires_grad
            ]
            if not pairs:
                return [np.zeros_like(arrays[i]) for i in moving]
            outputs, above = zip(*pairs, strict=True)
            found = torch.autograd.grad(outputs, leaves, above, allow_unused=True)
        zeros = [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, found)]
        return [to_numpy(x.to_dense() if x.is_sparse else x) for x in zeros]

    def infer(self, specs: list[Spec]) -> list[Spec]:
        """Run the function on tensors without data."""
        results = abstract(lambda *tensors: self._run(list(tensors)), specs)
        return [(tuple(x.shape), dtype_of(x)) for x in results]


def pickled(module: torch.nn.Module) -> str:
    """Return a module as text, as Keras writes it: a pickle in base64."""
    buffer = io.BytesIO()
    torch.save(module, buffer)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def unpickled(text: str) -> torch.nn.Module:
    """Return the module of a text; this runs whatever code the pickle asks for."""
    buffer = io.BytesIO(base64.b64decode(text.encode("ascii")))
    return torch.load(buffer, map_location=default_device(), weights_only=False)


def load_state(module: torch.nn.Module, arrays: dict[str, Any]) -> None:
    """Write arrays into the parameters and buffers, in place; the names must be the module's."""
    module.load_state_dict({name: torch.as_tensor(x) for name, x in arrays.items()})
