"""The one cache of compiled functions: what was compiled for a network, until the network changes.

A compiled function holds the variables of the network that it closes over. An adapter, int8
weights or another backend give a network other variables, for which it has to be compiled again.
"""

import threading
import weakref
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from keraslite import backend as backends
from keraslite import ops
from keraslite.variable import Variable


@contextmanager
def inference(backend: str) -> Iterator[None]:
    """Run a block on a backend without recording gradients.

    Args:
        backend: the name of the backend.

    >>> with inference("numpy"):
    ...     keras.backend.backend()
    'numpy'
    """
    with backends.backend_scope(backend), backends.no_grad():
        yield


class CompiledFunctions:
    """A cache of the functions compiled for one network.

    All are dropped when the network has other variables or another backend. A copy of the cache,
    by `copy` or `pickle`, is empty.

    Args:
        maxsize: how many functions are kept, the last used ones; None for all.

    >>> layer = keras.layers.Dense(2)
    >>> layer.build((None, 3))
    >>> functions = CompiledFunctions()
    >>> double = functions.get(layer, "double", lambda variables: keras.jit(lambda x: 2 * x))
    >>> functions.get(layer, "double", lambda variables: None) is double
    True
    >>> layer.enable_lora(1)  # other variables: compiled again
    >>> functions.get(layer, "double", lambda variables: keras.jit(lambda x: 2 * x)) is double
    False
    """

    def __init__(self, maxsize: int | None = None):
        self._maxsize = maxsize
        self._backend = ""
        self._variables: list[weakref.ref] = []
        self._functions: dict[Hashable, Callable] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple:
        return CompiledFunctions, (self._maxsize,)

    def __len__(self) -> int:
        return len(self._functions)

    def clear(self) -> None:
        """Drop all functions."""
        self._functions.clear()

    def get(
        self,
        network: Any,
        key: Hashable,
        make: Callable[[list[Variable]], Callable],
        training: bool = False,
    ) -> Callable:
        """Return the function of a key, made where it is missing or out of date.

        Args:
            network: a built layer or model.
            key: what tells the function from the network's others.
            make: makes the function from the variables of the network.
            training: whether the function depends on which variables are trained.
        """
        variables = network.variables
        if training:
            key = key, frozenset(map(id, network.trainable_variables))
        with self._lock:
            function = self._current(network.backend, variables).get(key)
        made = make(variables) if function is None else function
        with self._lock:
            functions = self._current(network.backend, variables)
            # Another thread's where that was first; the last used stands last.
            function = functions[key] = functions.pop(key, None) or made
            if self._maxsize is not None and len(functions) > self._maxsize:
                del functions[next(iter(functions))]
        return function

    def _current(self, backend: str, variables: list[Variable]) -> dict[Hashable, Callable]:
        """The functions, after those of other variables or another backend were dropped."""
        if not self._is_compiled_for(backend, variables):
            self._functions = {}
            self._backend, self._variables = backend, [weakref.ref(v) for v in variables]
        return self._functions

    def run(self, network: Any, function: Callable, *values: Any) -> Any:
        """Call a function of tensors, compiled as `keraslite.jit` does; use within `inference`.

        Args:
            network: the layer or model that the function closes over.
            function: the function, which is told from others by its name.
            values: its arguments: arrays or tensors.

        >>> layer = keras.layers.Dense(2, kernel_initializer="ones")
        >>> layer.build((None, 3))
        >>> with inference(layer.backend):
        ...     out = CompiledFunctions().run(layer, layer.call, np.ones((1, 3), "float32"))
        >>> keras.ops.convert_to_numpy(out).tolist()
        [[3.0, 3.0]]
        """
        compiled = self.get(
            network, function.__name__, lambda held: ops.jit(function, held, donate=False)
        )
        return compiled(*map(ops.convert_to_tensor, values))

    def _is_compiled_for(self, backend: str, variables: list[Variable]) -> bool:
        return (
            backend == self._backend
            and len(variables) == len(self._variables)
            and all(ref() is v for ref, v in zip(self._variables, variables, strict=True))
        )
