"""Which backend a value belongs to, which one is current, and how values move between them.

The requirements: no framework is imported before it is used; the type of a value chooses its
backend; numbers, lists and numpy arrays are literals that follow the first real tensor, else the
current backend; tensors of two frameworks never mix inside one operation.
"""

import json
import random
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from keraslite import config, dtypes
from keraslite.scopes import scopes

if TYPE_CHECKING:
    from keraslite.backend.interface import Backend

NAMES = ("jax", "torch", "tensorflow", "numpy")
_ROOTS = {"jax": "jax", "jaxlib": "jax", "torch": "torch", "tensorflow": "tensorflow"}

# The type table: class -> backend name. None marks what needs a second look: literals, variables,
# symbolic tensors. A class that is not here has not been met yet.
OF: dict[type, str | None] = dict.fromkeys(
    (type(None), bool, int, float, complex, str, list, tuple, dict, np.ndarray)
)
FLOATING: set[Any] = set()  # the native float and complex dtypes of the backends loaded so far
MODULES: dict[str, "Backend"] = {}
ON_LOAD: list[Any] = []  # called with (name, module) when a backend is loaded

_scoped: ContextVar[str | None] = ContextVar("keraslite_backend", default=None)
_default: str | None = None
# The last settings of the default, by whom: one that turns out to open a block is taken back.
_choices: list[tuple[Any, str]] = []
_choosing = threading.Lock()


def _choose(owner: Any, name: str | None) -> None:
    """Set the default of the process; None takes back what its owner set."""
    global _default
    with _choosing:
        if name is None:
            _choices[:] = [choice for choice in _choices if choice[0] is not owner]
        else:
            _choices[:] = [*_choices[-31:], (owner, name)]
        _default = _choices[-1][1] if _choices else None


def available() -> list[str]:
    """The backends whose framework is installed, looked up without importing it.

    >>> "numpy" in available()
    True
    """
    return [name for name in NAMES if find_spec(name) is not None]


def _check(name: str, source: str = "") -> str:
    if name not in NAMES:
        raise ValueError(f"Unknown backend {name!r}{source}. Expected one of {', '.join(NAMES)}.")
    if name not in MODULES and find_spec(name) is None:
        raise ImportError(
            f"The backend {name!r}{source} is not installed. Install it (pip install {name}), or "
            f"use one of the installed ones: {', '.join(available()) or 'none'}."
        )
    return name


def backend() -> str:
    """Return the name of the current backend.

    >>> backend() in ("jax", "torch", "tensorflow", "numpy")
    True
    """
    return scopes.backend or _outside_layers()


def _outside_layers() -> str:
    return _scoped.get() or _default or _first()


# What torch.compile takes as a constant: it cannot trace context variables.
_outside_layers._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _first() -> str:
    asked = config.backend_of_environment()
    if asked is not None:
        name, variable = asked
        _choose(None, _check(name, f" (by the environment variable {variable})"))
        return name
    name, installed = config.backend_of_config_file(), available()
    if name in installed:
        _choose(None, name)
        return name
    if not installed:
        raise ImportError("No backend is installed: pip install jax, torch or tensorflow.")
    _choose(None, installed[0])
    if name is not None:  # the file may be there for another library, or another environment
        reason = "is not installed" if name in NAMES else f"is none of {', '.join(NAMES)}"
        warnings.warn(
            f'{config.CONFIG_FILE} has "backend": {json.dumps(name)}, which {reason}: '
            f"{installed[0]!r} is used. Mend the file, or set KERASLITE_BACKEND={installed[0]}.",
            stacklevel=2,
        )
    return installed[0]


class use_backend:  # noqa: N801 - reads as a verb, as a call and in `with`
    """Make a backend the current one; as a context manager, only inside the block.

    A plain call sets the backend of the process (or of the enclosing block). A block holds for
    its own thread or async task alone.

    Args:
        name: "jax", "torch", "tensorflow" or "numpy".

    Raises:
        ValueError: the name is not a backend's.
        ImportError: its framework is not installed.

    >>> with use_backend("numpy"):
    ...     backend()
    'numpy'
    """

    def __init__(self, name: str):
        self._name = _check(name)
        self._scoped, self._inner = _scoped.get(), scopes.backend
        if self._inner is not None:  # inside the call of a layer
            scopes.backend = name
        elif self._scoped is not None:
            _scoped.set(name)
        else:
            _choose(self, name)

    def __enter__(self) -> str:
        if self._inner is not None:
            scopes.backend = self._inner
        elif self._scoped is not None:
            _scoped.set(self._scoped)
        else:
            _choose(self, None)
        self._block = backend_scope(self._name)
        return self._block.__enter__()

    def __exit__(self, *_: Any) -> None:
        self._block.__exit__()


class backend_scope:  # noqa: N801 - `use_backend` as a block alone
    """A block with another current backend; other threads do not notice it.

    Args:
        name: the name of the backend.

    >>> with backend_scope("numpy"):
    ...     backend()
    'numpy'
    """

    def __init__(self, name: str):
        self._name = _check(name)

    def __enter__(self) -> str:
        self._outer = scopes.backend
        if self._outer is not None:  # inside the call of a layer
            scopes.backend = self._name
        else:
            self._token = _scoped.set(self._name)
        return self._name

    def __exit__(self, *_: Any) -> None:
        if self._outer is not None:
            scopes.backend = self._outer
        else:
            _scoped.reset(self._token)


def load(name: str) -> "Backend":
    """Return the module of a backend, imported on first use.

    Args:
        name: the backend's name.

    Raises:
        ImportError: its framework is not installed.
    """
    return MODULES.get(name) or _import(name)


def current() -> "Backend":
    """Return the module of the current backend."""
    return load(backend())


def module_of(value: Any) -> "Backend":
    """Return the module of a tensor's backend; for literals that of the current one."""
    return load(of(value) or backend())


def seed_frameworks(seed: int) -> None:
    """Seed the generators of numpy and of the imported frameworks, which ours do not use."""
    for name in NAMES:
        if name in sys.modules:
            load(name).set_seed(seed)


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Undo what imports in the block draw from Python's and numpy's generators."""
    states = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _import(name: str) -> "Backend":
    _check(name)
    # Plain imports: Dynamo can trace them, importlib.import_module it cannot.
    if name == "jax":
        with _generators_kept():
            from keraslite.backend import jax as module
    elif name == "torch":
        from keraslite.backend import torch as module
    elif name == "tensorflow":
        with _generators_kept():
            from keraslite.backend import tensorflow as module
    else:
        from keraslite.backend import numpy as module
    FLOATING.update(module.FLOATING)
    for cls in module.TYPES if name != "numpy" else ():
        OF[cls] = name
    MODULES[name] = module
    module.allow_tensor_float_32(_float_32["tensor"])
    for hook in ON_LOAD:
        hook(name, module)
    return module


def of(value: Any) -> str | None:
    """The backend that a value belongs to; None for literals and everything else."""
    cls = type(value)
    if cls in OF:
        return OF[cls]
    for base in cls.__mro__:
        name = _ROOTS.get(base.__module__.partition(".")[0])
        if name is None:
            continue
        module = load(name)
        if isinstance(value, module.TYPES) or module.is_sparse(value):
            OF[cls] = name
            return name
    OF[cls] = None
    return None


def refuse_to_mix(what: str, names: Any) -> None:
    """Raise the error for values of several frameworks in one operation."""
    first, second = sorted(set(names))[:2]
    raise TypeError(
        f"{what} was given tensors of two frameworks, {first} and {second}. "
        f"Move one first: keraslite.to_backend(x, {first!r})."
    )


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor of a framework, or a numpy array under the numpy backend.

    >>> is_tensor(1.0)
    False
    """
    return of(value) is not None or (isinstance(value, np.ndarray) and backend() == "numpy")


_float_32 = {"tensor": False}


def allow_tensor_float_32(allowed: bool = True) -> None:
    """Let GPUs round the inputs of float32 products to 10 bits, which is several times as fast.

    JAX and TensorFlow do so by themselves, torch in convolutions; here it is off on every backend
    until it is asked for, so that all give the same numbers.

    Args:
        allowed: whether they may, from now on and on every backend.

    >>> allow_tensor_float_32(False)
    """
    _float_32["tensor"] = allowed
    for module in MODULES.values():
        module.allow_tensor_float_32(allowed)


def accelerated(name: str | None = None) -> bool:
    """Whether a backend, the current one by default, puts new tensors on a GPU or TPU.

    >>> accelerated("numpy")
    False
    """
    return load(name or backend()).accelerated()


def compiles(name: str | None = None) -> bool:
    """Whether `jit` compiles for a backend, the current one by default, unless told otherwise.

    There every new shape costs a compilation, so that inputs are worth padding to a few shapes.

    >>> compiles("jax"), compiles("torch")
    (True, False)
    """
    return load(name or backend()).COMPILES


_DEVICE = re.compile(r"/?(?:device:)?([a-z]+(?::\d+)?)")


@contextmanager
def device(device_name: str) -> Iterator[None]:
    """Let new tensors and variables go to a device, inside a block.

    The block holds for its own thread, and for the current backend and those that were used
    before, where they have such a device.

    Args:
        device_name: "cpu", "gpu" or "tpu" with a number ("gpu:1"); 0 by default.

    Raises:
        ValueError: the current backend has no such device.

    >>> with device("cpu:0"):
    ...     outer = scopes.device
    >>> outer
    'cpu:0'
    """
    match = _DEVICE.fullmatch(device_name.lower()) if isinstance(device_name, str) else None
    if match is None:
        raise ValueError(
            f"device_name must be a string such as 'gpu:0' or 'cpu', got {device_name!r}."
        )
    name, outer = match[1].replace("cuda", "gpu"), scopes.device
    with ExitStack() as stack:
        stack.enter_context(current().device_scope(name))
        for other, module in list(MODULES.items()):
            if other != backend():
                with suppress(ValueError):
                    stack.enter_context(module.device_scope(name))
        scopes.device = name
        try:
            yield
        finally:
            scopes.device = outer


def no_grad() -> Any:
    """A context in which torch records nothing for gradients; elsewhere nothing is recorded anyway.

    >>> with no_grad():
    ...     pass
    """
    return current().no_grad()


def to_numpy(value: Any) -> np.ndarray:
    """Any backend's tensor, a literal or a variable as a numpy array, without a copy if possible.

    >>> to_numpy([1, 2])
    array([1, 2], dtype=int32)
    """
    value = getattr(value, "_kl_value", value)
    name = of(value)
    if name is None:
        return dtypes.of_literal(value)
    module = load(name)
    return module.to_numpy(module.densify(value) if module.is_sparse(value) else value)


def is_text(value: Any) -> bool:
    """Whether a value is a text, a list or an array of texts, or a tensor of strings.

    Of lists, also nested ones, the first element counts. TensorFlow alone has tensors of strings.

    >>> is_text("a"), is_text([["a", "b"]]), is_text(np.array(["a"])), is_text([1])
    (True, True, True, False)
    """
    while isinstance(value, list | tuple) and value:
        value = value[0]
    if isinstance(value, np.ndarray) and value.dtype.kind in "SUO" and value.size:
        value = value.flat[0]
    if isinstance(value, str | bytes):
        return True
    return of(value) is not None and getattr(value.dtype, "name", None) == "string"


def in_graph(value: Any) -> bool:
    """Whether a value is a tensor of a TensorFlow graph that is being built, as in `tf.data`.

    >>> in_graph(1.0)
    False
    """
    return of(value) == "tensorflow" and not hasattr(value, "numpy")


def host_call(function: Any, args: Any, example: Any, shapes: Any) -> Any:
    """Call a function of numpy arrays on tensors of a graph (`in_graph`), each time that runs.

    Args:
        function: takes arrays, strings as str, in the structure of `args`, and returns arrays.
        args: tensors of the graph, nested.
        example: what the function returns for some arrays: its structure and dtypes count.
        shapes: the static shape of each leaf of the example, in order.
    """
    from keraslite.backend.tensorflow.host import host_call as call

    return call(function, args, example, shapes)


def has_ragged_tensors() -> bool:
    """Return whether the current backend has tensors of rows of several lengths."""
    return backend() == "tensorflow"


def ragged_tensor(values: Any, lengths: Any) -> Any:
    """Return rows of several lengths as TensorFlow's `RaggedTensor`, which other backends lack.

    Args:
        values: (elements,): a tensor of TensorFlow, or an array.
        lengths: (rows,) ints.
    """
    from keraslite.backend.tensorflow.host import ragged_tensor as make

    return make(values, lengths)


def has_tf_data() -> bool:
    """Return whether the data sets of the current backend's framework are those of tf.data."""
    return backend() == "tensorflow"


def tf_dataset(source: Any) -> Any:
    """Return a `tf.data.Dataset` of the elements of a data set.

    Args:
        source: has `epoch(number)`, `cardinality()`, and can be iterated over.

    Raises:
        ImportError: TensorFlow is not installed.
    """
    from keraslite.backend.tensorflow.datasets import tf_dataset as make

    return make(source)


def to_backend(value: Any, name: str) -> Any:
    """Move a tensor to another backend: by DLPack without a copy where both allow it, else numpy.

    Args:
        value: a tensor, literal or variable.
        name: the backend to move to.

    Raises:
        TypeError: a tensor of strings is to go to a framework that has none.

    >>> to_backend([1.0, 2.0], "numpy")
    array([1., 2.], dtype=float32)
    """
    value = getattr(value, "_kl_value", value)
    source = of(value)
    if source == name:
        return value
    target = load(_check(name))
    if source is None:
        return target.from_numpy(dtypes.of_literal(value))
    if is_text(value):  # DLPack ends the process on memory that holds pointers
        if name != "numpy":
            raise TypeError(
                f"{name} has no tensors of strings. Give the texts to a tokenizer or a "
                "preprocessor, or take them as an array of str: ops.convert_to_numpy(x)."
            )
        return to_numpy(value)
    if load(source).is_sparse(value):
        indices, values = (to_backend(x, name) for x in load(source).coo_parts(value))
        return target.from_coo(indices, values, tuple(value.shape))
    try:
        return target.from_dlpack(load(source).detach(value))
    except (TypeError, RuntimeError, ValueError, BufferError, AttributeError):
        # Layouts, devices or types that DLPack or one side's reader does not carry.
        return target.from_numpy(to_numpy(value))
