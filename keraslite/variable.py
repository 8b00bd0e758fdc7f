"""Variable: lazy, autocasting state of layers, optimizers and metrics; and scopes that redirect it.

A variable is made on first read. A loader that assigns first never pays for initialisation: the
assigned array waits as it is (a view of a memory map, say) and becomes a tensor when it is read.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from keraslite import backend as backends
from keraslite import dtypes, tree
from keraslite.naming import path_of
from keraslite.scopes import scopes, state_lock

_initializer_of_name: list[Callable] = []


def set_initializers(get: Callable[[str], Callable]) -> None:
    """Say how a name becomes an initializer; `initializers`, which needs variables, does."""
    _initializer_of_name.append(get)


class Variable:
    """A named tensor that can be assigned, trained and moved between backends.

    Args:
        initializer: a function of (shape, dtype), the name of an initializer, or the initial value.
        shape: the shape, where the initializer is a function or a name.
        dtype: a dtype name; the value's own, or floatx.
        trainable: whether optimizers change it.
        autocast: whether reading it inside a layer gives the layer's compute dtype.
        aggregation: how replicas of it are combined; kept for Keras code.
        name: a name; its path is made of the names of the layers around it.

    >>> v = Variable([1.0, 2.0], name="v")
    >>> _ = v.assign_add([1.0, 1.0]); print(v.numpy())
    [2. 3.]
    """

    def __init__(
        self,
        initializer: Any,
        shape: tuple | None = None,
        dtype: Any = None,
        trainable: bool = True,
        autocast: bool = True,
        aggregation: str = "none",
        synchronization: str = "auto",
        name: str | None = None,
    ):
        self.name = name or "variable"
        self.path = path_of(self.name)
        self._trainable = self.made_trainable = trainable
        self.autocast = autocast
        self.aggregation, self.synchronization = aggregation, synchronization
        self.regularizer: Any = None
        self.constraint: Any = None
        self.overwrite_with_gradient = False
        self.backend = backends.backend()
        self._raw: Any = None
        self._device = scopes.device
        self._pending: Any = None  # an assigned value that has not become a tensor yet
        if isinstance(initializer, str):
            initializer = _initializer_of_name[-1](initializer)
        if callable(initializer):
            if shape is None:
                raise ValueError(f"Variable {self.name!r}: an initializer needs a shape.")
            self._initializer: Callable | None = initializer
            self.storage_dtype = dtypes.standardize(dtype)
        else:
            self._initializer = None
            value = backends.to_numpy(initializer)
            name = dtypes.standardize(dtype or value.dtype)
            self._pending = np.array(value, dtypes.to_numpy(name))
            self.storage_dtype, shape = name, value.shape
        self._shape = tuple(int(d) for d in shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape."""
        return self._shape

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self._shape)

    @property
    def trainable(self) -> bool:
        """Whether optimizers change it."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        if self._raw is not None:
            self._module.set_trainable(self._raw, self._trainable)

    @property
    def dtype(self) -> str:
        """The dtype that a read gives: the compute dtype inside an autocasting layer."""
        target = scopes.autocast
        if target is not None and self.autocast and dtypes.is_float(self.storage_dtype):
            return target
        return self.storage_dtype

    # Whether arrays outside may share the storage: a compiled step must not reuse its memory then.
    _lent = False
    _taken = False  # whether a compiled step has the storage

    @property
    def _module(self) -> Any:
        return backends.load(self.backend)

    @property
    def _kl_raw(self) -> Any:
        """The backend's own variable, materialized if need be."""
        raw = self._raw
        return self._materialize() if raw is None else raw

    def materialize(self) -> None:
        """Make the tensor now and not when it is first read.

        >>> Variable(1.0).materialize()
        """
        if self._raw is None:
            self._materialize()

    def _materialize(self) -> Any:
        with state_lock:  # another thread makes it, or runs a step that took it
            if self._raw is not None:
                return self._raw
            if self._taken:
                raise RuntimeError(
                    f"Variable {self.path!r} was read by the compiled function that it was given "
                    "to, outside of its scope."
                )
            module, value = self._module, self._pending
            if value is None:
                value = self._initial()
            array = value.take() if isinstance(value, Pending) else value
            with module.device_scope(self._device) if self._device else nullcontext():
                tensor = module.new_value(array, module.canonical(self.storage_dtype))
                raw = module.new_variable(tensor, self.trainable, self.path)
            self._raw, self._pending = raw, None
            if isinstance(value, Pending):
                value.done()
            return self._raw

    def take(self) -> Any:
        """Give the storage away, to a step that overwrites its memory and then calls `put`.

        Call it with `state_lock` held: other threads that read the variable wait for that. What
        somebody holds is copied, so that a value read before stays whole.

        >>> v = Variable(1.0)
        >>> with state_lock:
        ...     v.put(v.take())
        """
        held = [self._kl_raw]
        self._raw, self._taken = None, True
        if self._lent or sys.getrefcount(held[0]) > 2:  # the list, and the argument
            held[0] = self._module.duplicate(held[0])
        return held[0]

    def put(self, raw: Any) -> None:
        """Set the storage, of which nobody else has a part.

        >>> v = Variable(1.0)
        >>> v.put(v.take())
        """
        self._raw, self._lent, self._taken = raw, False, False

    def share(self, raw: Any) -> None:
        """Take for the storage one that an object of the framework has as well.

        Args:
            raw: the storage of a variable of this shape, such as the parameter of a torch module.

        >>> v = Variable(1.0)
        >>> v.share(ops.convert_to_tensor(2.0))
        >>> float(v)
        2.0
        """
        self._raw, self._pending, self._lent = raw, None, True

    def _initial(self) -> np.ndarray:
        # Computed by numpy for every backend: the same numbers everywhere, and outside any trace.
        outer = scopes.backend, scopes.state
        scopes.backend, scopes.state = "numpy", None
        try:
            value = backends.to_numpy(self._initializer(self._shape, dtype=self.storage_dtype))
        finally:
            scopes.backend, scopes.state = outer
        if tuple(value.shape) != self._shape:
            raise ValueError(
                f"The initializer of {self.path!r} gave shape {value.shape}, "
                f"expected {self._shape}."
            )
        return value.astype(dtypes.to_numpy(self.storage_dtype), copy=False)

    @property
    def value(self) -> Any:
        """The tensor: from the innermost scope that has one, cast if an autocast scope says so."""
        scope = scopes.state
        value = scope.get(self) if scope is not None else None
        if value is None:
            raw = self._raw
            value = self._module.read(self._materialize() if raw is None else raw)
        if self.autocast:
            target = scopes.autocast
            if (
                target is not None
                and target != self.storage_dtype
                and dtypes.is_float(self.storage_dtype)
            ):
                return self._module.cast(value, target)
        return value

    _kl_value = value

    def assign(self, value: Any) -> Any:
        """Set the value; in a StatelessScope, only there."""
        scope = scopes.state
        if isinstance(value, Variable):
            value = value.value
        if scope is None and self._raw is None and isinstance(value, np.ndarray | Pending):
            self.check_shape(value.shape)
            pending = value
            if isinstance(value, np.ndarray):
                # A tensor takes an array's memory over; the caller's must not change with it.
                pending = np.array(value, dtypes.to_numpy(self.storage_dtype))
            with state_lock:
                if self._raw is None:
                    self._pending = pending
                    return value
        if isinstance(value, Pending):
            value = value.take()
        module = self._module
        name = backends.of(value)
        if name is not None and name != self.backend:
            value = backends.to_backend(value, self.backend)
        value = module.convert(value, module.canonical(self.storage_dtype))
        self.check_shape(value.shape)
        if scope is not None and scope.assign(self, value):
            return value
        if self._raw is None:
            self._materialize()
        self._raw, self._lent = module.assign(self._raw, value), True
        return value

    def check_shape(self, shape: Any) -> None:
        """Raise a ValueError unless a value of this shape can be assigned."""
        if tuple(shape) != self._shape:
            raise ValueError(
                f"The value of variable {self.path!r} must have shape {self._shape}, "
                f"got a value of shape {tuple(shape)}."
            )

    def assign_add(self, value: Any) -> Any:
        """Add to the value."""
        live = scopes.state is None
        if live and (type(value) is int or backends.OF.get(type(value)) == self.backend):
            self._raw = self._module.assign_add(self._kl_raw, value)
            return self._raw
        return self.assign(self.uncast_value() + self._converted(value))

    def assign_sub(self, value: Any) -> Any:
        """Subtract from the value."""
        return self.assign(self.uncast_value() - self._converted(value))

    def _converted(self, value: Any) -> Any:
        return self._module.convert(
            getattr(value, "_kl_value", value), self._module.canonical(self.storage_dtype)
        )

    def uncast_value(self) -> Any:
        """Return the value in the dtype that it is stored in, whatever an autocast scope says."""
        outer, scopes.autocast = scopes.autocast, None
        try:
            return self.value
        finally:
            scopes.autocast = outer

    def numpy(self) -> np.ndarray:
        """The value as a numpy array."""
        pending = self._pending
        if self._raw is None and isinstance(pending, np.ndarray) and scopes.state is None:
            return pending.copy()
        return np.array(self._module.to_numpy(self.uncast_value()))  # never the live memory

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.numpy() if dtype is None else self.numpy().astype(dtype)

    # How the frameworks' own functions and operators take a variable: by its value, so that
    # gradients are recorded. Without these they would copy what `__array__` gives.
    __array_priority__ = 1000

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        args, kwargs = tree.map_structure(
            lambda x: x.numpy() if isinstance(x, Variable) else x, (args, kwargs)
        )
        return func(*args, **kwargs)

    def __jax_array__(self) -> Any:
        return self.value

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> Any:
        value = self._module.convert(self.value)
        if dtype is not None and value.dtype != dtype:
            raise ValueError(f"{self!r} is {self.dtype}, not {dtype.name}: cast it first.")
        return value

    # By these a tf.GradientTape takes it for the tf.Variable inside it.
    _should_act_as_resource_variable = True

    @property
    def handle(self) -> Any:
        """The resource of the variable on TensorFlow; other backends have none."""
        return self._kl_raw.handle

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree.map_structure(
            lambda x: getattr(x, "_kl_value", x), (args, kwargs or {})
        )
        return func(*args, **kwargs)

    def to_backend(self, name: str) -> None:
        """Move to another backend, in place; a variable that was never read stays unmade."""
        if name == self.backend:
            return
        if self._raw is not None:
            module = backends.load(name)
            value = backends.to_backend(self._module.read(self._raw), name)
            value = module.new_value(value, module.canonical(self.storage_dtype))
            if not module.FUNCTIONAL:  # it will be written in place, and others may hold it
                value = module.copy(value)
            self._raw, self._lent = module.new_variable(value, self.trainable, self.path), True
        self.backend, self._device = name, None

    __hash__ = object.__hash__  # by identity, though `==` compares values

    def __repr__(self) -> str:
        return f"<Variable path={self.path}, shape={self._shape}, dtype={self.storage_dtype}>"

    def __getitem__(self, key: Any) -> Any:
        return self.value[key]

    def __getattr__(self, name: str) -> Any:
        # What a tensor can do: .T, .sum(), .reshape() ... ; private names are never forwarded.
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.value, name)

    if TYPE_CHECKING:  # the operators that `_forward_operators` sets

        def __add__(self, other: Any) -> Any: ...
        def __radd__(self, other: Any) -> Any: ...
        def __sub__(self, other: Any) -> Any: ...
        def __rsub__(self, other: Any) -> Any: ...
        def __mul__(self, other: Any) -> Any: ...
        def __rmul__(self, other: Any) -> Any: ...
        def __truediv__(self, other: Any) -> Any: ...
        def __rtruediv__(self, other: Any) -> Any: ...
        def __floordiv__(self, other: Any) -> Any: ...
        def __mod__(self, other: Any) -> Any: ...
        def __pow__(self, other: Any) -> Any: ...
        def __rpow__(self, other: Any) -> Any: ...
        def __matmul__(self, other: Any) -> Any: ...
        def __rmatmul__(self, other: Any) -> Any: ...
        def __lt__(self, other: Any) -> Any: ...
        def __le__(self, other: Any) -> Any: ...
        def __gt__(self, other: Any) -> Any: ...
        def __ge__(self, other: Any) -> Any: ...
        def __neg__(self) -> Any: ...
        def __abs__(self) -> Any: ...
        def __len__(self) -> int: ...
        def __iter__(self) -> Iterator[Any]: ...
        def __float__(self) -> float: ...
        def __int__(self) -> int: ...


def _forward_operators() -> None:
    comparisons = "eq ne lt le gt ge"
    for name in f"add sub mul truediv floordiv mod pow matmul and or xor {comparisons}".split():
        for dunder in (f"__{name}__", f"__r{name}__")[: 1 if name in comparisons else 2]:

            def call(self: Variable, other: Any, dunder: str = dunder) -> Any:
                if other is None:
                    return NotImplemented
                other = other.value if isinstance(other, Variable) else other
                if type(other) is np.ndarray:  # torch's operators take none on the left
                    other = self._module.convert(other)
                return getattr(self.value, dunder)(other)

            setattr(Variable, dunder, call)
    for dunder in ("__neg__", "__abs__", "__invert__", "__len__", "__iter__", "__float__",
                   "__int__", "__bool__"):  # fmt: skip
        setattr(Variable, dunder, lambda self, d=dunder: getattr(self.value, d)())


_forward_operators()
backends.OF[Variable] = None


class Pending:
    """A value to be taken when it is first needed, such as a tensor in a memory-mapped file.

    Args:
        shape: its shape.
        take: gives the array.
        done: called once the array has been used.
    """

    def __init__(
        self, shape: tuple, take: Callable[[], np.ndarray], done: Callable[[], None] | None = None
    ):
        self.shape, self.take, self.done = shape, take, done or (lambda: None)

    @classmethod
    def of(cls, array: np.ndarray) -> "Pending":
        """Return an array as a value whose memory the variable takes over.

        Args:
            array: the array, which nobody else has.

        >>> Pending.of(np.ones((2, 3))).shape
        (2, 3)
        """
        return cls(array.shape, lambda: array)


class StatelessScope:
    """A block in which reads and assignments of variables go to a mapping instead.

    Args:
        state_mapping: pairs of (variable, value).
        all_variables: whether assignments to variables outside the mapping are caught too.

    >>> v = Variable(1.0)
    >>> with StatelessScope([(v, ops.convert_to_tensor(5.0))]):
    ...     float(v.value)
    5.0
    """

    def __init__(self, state_mapping: Iterable[tuple[Variable, Any]] = ()):
        self._values: dict[int, Any] = {}
        self._variables: dict[int, Variable] = {}
        self.losses: list[Any] = []
        for variable, value in state_mapping:
            backend = backends.of(value)
            if backend is None:
                value = backends.load(variable.backend).convert(value)
            variable.check_shape(value.shape)
            self._values[id(variable)] = value
            self._variables[id(variable)] = variable
        self._initial_values = dict(self._values)

    def get(self, variable: Variable) -> Any:
        """The variable's value here or in an enclosing scope, or None."""
        value = self._values.get(id(variable))
        if value is None and self._outer is not None:
            return self._outer.get(variable)
        return value

    get_current_value = get

    def assign(self, variable: Variable, value: Any) -> bool:
        """Note an assignment."""
        self._values[id(variable)] = value
        self._variables[id(variable)] = variable
        return True

    def updates(self) -> list[tuple[Variable, Any]]:
        """The variables assigned in the block, with their new values."""
        return [
            (self._variables[i], v)
            for i, v in self._values.items()
            if self._initial_values.get(i) is not v
        ]

    def __enter__(self) -> "StatelessScope":
        self._outer, scopes.state = scopes.state, self
        return self

    def __exit__(self, *_: Any) -> None:
        scopes.state = self._outer

    _outer: "StatelessScope | None" = None


class SpecScope(StatelessScope):
    """A scope for shape inference: variables read as zeros and are not materialized."""

    def get(self, variable: Variable) -> Any:
        """Zeros of the variable's shape, abstract under the backend's abstract evaluation."""
        module = backends.load(variable.backend)
        return module.zeros(variable.shape, module.canonical(variable.storage_dtype))


def in_stateless_scope() -> bool:
    """Whether a StatelessScope is open here."""
    return scopes.state is not None


class AutocastScope:
    """A block in which float variables read as the given dtype.

    Args:
        dtype: a float dtype name, or None to switch autocasting off.
    """

    def __init__(self, dtype: str | None):
        self.dtype = dtype

    def __enter__(self) -> None:
        self._outer, scopes.autocast = scopes.autocast, self.dtype

    def __exit__(self, *_: Any) -> None:
        scopes.autocast = self._outer
