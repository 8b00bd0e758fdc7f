"""The contract of a backend: the names that the module of each framework defines.

`keraslite.backend.load(name)` returns such a module. Everything outside `keraslite/backend/` uses a
backend through these names alone; `tests/keraslite/test_backend_interface.py` holds all four to it.
A tensor is the framework's own, a dtype is a name such as "float32" unless a line says otherwise.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np

from keraslite.backend.foreign import ForeignFunction

Tensor = Any
Storage = Any  # what holds a variable: a tensor, or the framework's own variable


class Backend(Protocol):
    """The names of a backend's module."""

    # ---- tables and flags ----

    TYPES: tuple[type, ...]  # the classes of its dense tensors
    FLOATING: set  # its native float and complex dtypes
    NUMERIC: set  # these and its integers
    WIDER: dict[str, str]  # integers with few kernels, and the dtype that stands in for each
    PRIMITIVES: dict[str, Callable]  # op -> the function that runs it, in place of the op's body
    SCALARS: frozenset[str]  # ops whose primitive takes a Python number beside a tensor
    SCALARS_FIRST: frozenset[str]  # those that take it in front of the tensor too
    FUSED: dict[str, Callable]  # optimizer formula -> a whole step in place
    LAYER_BASE: type | None  # the class that layers are derived from as well
    OPTIMIZER_BASE: type | None  # likewise optimizers
    ABSTRACT: bool  # `abstract` computes no values
    COMPILES: bool  # `jit` compiles unless it is told not to, once for each shape
    COMPILES_FOREIGN: bool  # compiled programs can call functions of other frameworks
    COMPILES_OPS: bool  # every operation is compiled, once for each shape of its arguments
    COMPILES_PYTHON: bool  # Python may be compiled, where tensors have attributes and no identity
    FUNCTIONAL: bool  # a compiled step takes and returns variables; else it writes them in place
    LOOPS_IN_PYTHON: bool  # a loop of known length is a `for`, never traced as one
    PURE_GRADS: bool  # `value_and_grad` refuses assignments to variables from inside
    TRAINS: bool  # it has gradients

    # ---- tensors ----

    def accelerated(self) -> bool:
        """Return whether new tensors go to a GPU or TPU."""

    def device_scope(self, name: str) -> AbstractContextManager:
        """Return a context in which new tensors go to a device, such as "gpu:0".

        Raises:
            ValueError: there is no such device.
        """

    def allow_tensor_float_32(self, allowed: bool) -> None:
        """Let products of float32 on a GPU round their inputs to 10 bits, or not."""

    def canonical(self, name: str) -> str:
        """Return the dtype that stands for a dtype here."""

    def native(self, dtype: Any) -> Any:
        """Return the framework's dtype of a name."""

    def dtype_of(self, x: Tensor) -> str:
        """Return the name of a tensor's dtype."""

    def shape_of(self, x: Tensor) -> tuple:
        """Return the shape, with scalar tensors where a graph does not know a size."""

    def cast(self, x: Tensor, dtype: str) -> Tensor:
        """Change the dtype."""

    def convert(self, value: Any, dtype: str | None = None) -> Tensor:
        """Make a tensor of a tensor, a literal, or a list with tensors inside."""

    def number(self, value: float, like: Tensor) -> Tensor:
        """Make a scalar of a Python number, of the dtype and device of the tensor beside it."""

    def copy(self, x: Tensor) -> Tensor:
        """Return a tensor that writes in place to `x` do not change."""

    def detach(self, x: Tensor) -> Tensor:
        """Return the tensor without its gradient."""

    def placed(self, x: Tensor) -> Tensor:
        """Move a tensor to the device of new ones."""

    def take_rows(self, x: Tensor, index: np.ndarray) -> Tensor:
        """Return the rows at the places in an array of integers that are not negative."""

    def from_numpy(self, array: np.ndarray) -> Tensor:
        """Make a tensor of an array, over its memory where the framework can share it."""

    def from_dlpack(self, x: Any) -> Tensor:
        """Take another framework's tensor over without a copy."""

    def to_numpy(self, x: Tensor) -> np.ndarray:
        """Return the values as an array, without a copy where that is possible."""

    def random_bits(self, seed: Any, count: Any, high: int, start: Any = 0) -> Tensor:
        """Return the `high` top bits of `count` hashed positions from `start` on, as int32."""

    def is_sparse(self, x: Any) -> bool:
        """Return whether a value is one of its sparse tensors."""

    def is_traced(self, x: Any) -> bool:
        """Return whether a value is yet to be computed, and must not be read."""

    def is_compiling(self) -> bool:
        """Return whether the Python code that runs is read by a compiler, as by torch.compile."""

    def from_coo(self, indices: Tensor, values: Tensor, shape: tuple) -> Any:
        """Make a sparse tensor of (elements, rank) indices and their values."""

    def coo_parts(self, x: Any) -> tuple[Tensor, Tensor]:
        """Return the indices and values of a sparse tensor."""

    def densify(self, x: Any) -> Tensor:
        """Return the dense tensor of a sparse one."""

    # ---- variables ----

    def new_value(self, value: Any, dtype: str) -> Tensor:
        """Make the first value of a variable, outside any trace that is under way."""

    def new_variable(self, value: Tensor, trainable: bool, name: str) -> Storage:
        """Make the storage of a variable."""

    def read(self, raw: Storage) -> Tensor:
        """Return the value in a storage."""

    def assign(self, raw: Storage, value: Tensor) -> Storage:
        """Write a value, in place or not, and return the storage from then on."""

    def assign_add(self, raw: Storage, value: Tensor) -> Storage:
        """Add a value, in place or not, and return the storage from then on."""

    def duplicate(self, raw: Storage) -> Tensor:
        """Return the value in memory of its own, to be given away."""

    def watch(self, raw: Storage) -> Callable[[Storage], bool]:
        """Return whether a storage is this one, with the value of now, as a function of it."""

    def set_trainable(self, raw: Storage, trainable: bool) -> None:
        """Have gradients recorded for a storage, or not."""

    def set_seed(self, seed: int) -> None:
        """Seed the framework's own generators, which ours do not use."""

    def profile(self, folder: str) -> AbstractContextManager:
        """Return a context whose operations are profiled, into files for TensorBoard in a folder.

        Raises:
            NotImplementedError: there is no profiler.
        """

    def check_training(self, weights: list[Storage]) -> None:
        """Look at whether `fit` would train what was asked for.

        Args:
            weights: the storages of what it trains.

        Raises:
            NotImplementedError: it would not train, or under a strategy of the framework.
        """

    # ---- transformations ----

    def zeros(self, shape: tuple, dtype: str) -> Tensor:
        """Make zeros; inside `abstract` a tensor without data."""

    def abstract(self, fn: Callable, specs: list[tuple[tuple, str]]) -> Any:
        """Run `fn` on tensors without data of the given shapes and dtypes."""

    def jit(self, fn: Callable, donate: tuple[int, ...] = (), compile: Any = "auto") -> Callable:
        """Compile `fn`; its arguments at the places in `donate` may be overwritten."""

    def no_grad(self) -> AbstractContextManager:
        """Return a context in which nothing is recorded for gradients."""

    def value_and_grad(self, fn: Callable, argnums: Any, has_aux: bool) -> Callable:
        """Return a function that gives what `fn` gives and its gradients by some arguments."""

    def gradients_of(self, fn: Callable, raws: list) -> Any:
        """Return (what fn() -> (scalar, auxiliary) gives, the scalar's gradients by storages)."""

    def dense_gradient(self, gradient: Any) -> Any:
        """Return a gradient as a dense tensor: that of an embedding may be of another form."""

    def jvp(self, fn: Callable, primals: tuple, tangents: tuple) -> tuple:
        """Return ((value, auxiliary), tangent) of a function that gives such a pair."""

    def vjp(self, fn: Callable, primals: tuple) -> tuple:
        """Return ((value, auxiliary), pullback) of a function that gives such a pair."""

    def custom_gradient(self, fn: Callable) -> Callable:
        """Give a function its own gradient: `fn(*args)` returns the value and a function of it."""

    def call_foreign(self, function: ForeignFunction, tensors: list[Tensor]) -> list[Tensor]:
        """Call a function of another framework, with its gradients where there are any."""

    def checkpoint(self, fn: Callable) -> Callable:
        """Compute `fn` again for its gradient, instead of keeping what that needs."""

    def cond(self, pred: Any, true_fn: Callable, false_fn: Callable) -> Any:
        """Run one of two branches."""

    def while_loop(
        self, test: Callable, body: Callable, state: tuple, maximum_iterations: int | None
    ) -> Any:
        """Repeat `body` while `test` holds."""

    def scan(self, f: Callable, init: Any, xs: Any, length: int, reverse: bool, unroll: Any) -> Any:
        """Thread a carry along the leading axis and stack what each step gives."""

    def vmap(self, fn: Callable, in_axes: Any, out_axes: Any) -> Callable:
        """Map a function over a batch axis."""

    # ---- errors ----

    def explain(self, error: Exception) -> type[Exception] | None:
        """Return TypeError, IndexError or ValueError for a mistake in the arguments, else None."""
