"""Metric: numbers gathered over batches in variables that are not trained."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import config, dtype_policies, dtypes, initializers, tree
from keraslite.backend import OF
from keraslite.losses.loss import tensor
from keraslite.naming import auto_name, to_snake_case
from keraslite.ops.promotion import choose_backend
from keraslite.variable import StatelessScope, Variable


class Metric:
    """The base of metrics. Subclasses add variables and write `update_state` and `result`.

    A metric belongs to the backend that was current when it was made; `to_backend` moves it.

    Args:
        dtype: the dtype of its results; floatx if None.
        name: a name; made from the class's where it is None.

    >>> class Count(Metric):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.seen = self.add_weight(initializer="zeros", name="seen")
    ...     def update_state(self, values):
    ...         self.seen.assign_add(len(values))
    ...     def result(self):
    ...         return self.seen.value
    >>> float(Count()([1.0, 2.0, 3.0]))
    3.0
    """

    _direction: str | None = None  # "up" where larger is better, "down" where smaller is

    def __init__(self, dtype: Any = None, name: str | None = None):
        self._variables: list[Variable] = []
        self._metrics: list[Metric] = []
        self.name = name or auto_name(to_snake_case(type(self).__name__))
        self._dtype = dtype_policies.get(dtype or config.floatx()).compute_dtype
        self.backend = backends.backend()

    @property
    def dtype(self) -> str:
        """The dtype of its results."""
        return self._dtype

    @property
    def variables(self) -> list[Variable]:
        """The state: its own variables, then those of metrics inside it.

        Those in attributes that are lists or dicts belong to it too.
        """
        own, inner = self._tracked()
        return own + [v for m in inner for v in m.variables]

    def _tracked(self) -> tuple[list[Variable], list["Metric"]]:
        """Return its own variables and the metrics directly inside, each once."""
        kept = {id(x): x for x in (*self._variables, *self._metrics)}
        for value in self.__dict__.values():
            if isinstance(value, list | tuple | dict):
                leaves = tree.flatten(value)
                kept |= {id(x): x for x in leaves if isinstance(x, Variable | Metric)}
        own = [x for x in kept.values() if isinstance(x, Variable)]
        return own, [x for x in kept.values() if isinstance(x, Metric)]

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Variable | Metric):
            self._check_super_called()
            store = self._variables if isinstance(value, Variable) else self._metrics
            if not any(value is x for x in store):
                store.append(value)
        object.__setattr__(self, name, value)

    def _check_super_called(self) -> None:
        if "_variables" not in self.__dict__:
            raise RuntimeError(
                "You forgot to call `super().__init__()` in the `__init__()` method. Go add it!"
            )

    def add_variable(
        self,
        shape: Sequence[int],
        initializer: Any = None,
        dtype: Any = None,
        aggregation: str = "sum",
        name: str | None = None,
    ) -> Variable:
        """Add a piece of state.

        Args:
            shape: its shape.
            initializer: its first values; zeros if None.
            dtype: its dtype; floatx if None.
            aggregation: kept for Keras code.
            name: a name for it.
        """
        self._check_super_called()
        with backends.backend_scope(self.backend):
            variable = Variable(
                initializers.get(initializer) or initializers.Zeros(),
                shape=tuple(shape),
                dtype=dtype,
                trainable=False,
                autocast=False,
                aggregation=aggregation,
                synchronization="on_read",
                name=name,
            )
        variable.path = f"{self.name.replace('/', '>')}/{variable.name}"
        self._variables.append(variable)
        return variable

    def add_weight(
        self,
        shape: Sequence[int] = (),
        initializer: Any = None,
        dtype: Any = None,
        name: str | None = None,
    ) -> Variable:
        """Add a piece of state; the arguments are `add_variable`'s."""
        return self.add_variable(shape, initializer, dtype, name=name)

    def to_backend(self, name: str) -> None:
        """Move the state to another backend, values kept."""
        self.backend = name
        own, inner = self._tracked()
        for part in (*own, *inner):
            part.to_backend(name)

    def to_tensors(self, *values: Any, dtype: Any = None) -> list[Any]:
        """Values as tensors of their one backend, or of this metric's if they are literals."""
        names = {OF.get(type(v)) or backends.of(getattr(v, "_kl_value", v)) for v in values}
        names.discard(None)
        backend = choose_backend(f"The metric {self.name!r}", names) if names else self.backend
        return [None if v is None else tensor(v, backend, dtype) for v in values]

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Take a batch into account."""
        raise NotImplementedError(f"{type(self).__name__} must implement update_state().")

    def result(self) -> Any:
        """The metric's value over what was seen since the last reset."""
        raise NotImplementedError(f"{type(self).__name__} must implement result().")

    def reset_state(self) -> None:
        """Forget what was seen."""
        for v in self.variables:
            v.assign(np.zeros(v.shape, dtypes.to_numpy(v.dtype)))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Take a batch into account and return the result so far."""
        self._check_super_called()
        self.update_state(*args, **kwargs)
        return self.result()

    def _scope(self, metric_variables: Sequence[Any]) -> StatelessScope:
        if len(metric_variables) != len(self.variables):
            raise ValueError(
                "Argument `metric_variables` must be a list of tensors corresponding 1:1 to "
                f"{type(self).__name__}().variables. Received list with length "
                f"{len(metric_variables)}, but expected {len(self.variables)} variables."
            )
        return StatelessScope(zip(self.variables, metric_variables, strict=True))

    def stateless_update_state(
        self, metric_variables: Sequence[Any], *args: Any, **kwargs: Any
    ) -> list[Any]:
        """The state after a batch, as a function of the state before."""
        with self._scope(metric_variables) as scope:
            self.update_state(*args, **kwargs)
        return [scope.get(v) for v in self.variables]

    def stateless_result(self, metric_variables: Sequence[Any]) -> Any:
        """The result for a state."""
        with self._scope(metric_variables):  # a variable must be read while the scope is open
            return tree.map_structure(lambda x: getattr(x, "_kl_value", x), self.result())

    def stateless_reset_state(self) -> list[Any]:
        """The state before anything was seen."""
        with StatelessScope() as scope:
            self.reset_state()
        return [scope.get(v) for v in self.variables]

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it."""
        return {"name": self.name, "dtype": self.dtype}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Metric":
        """The metric of a config."""
        return cls(**config)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"
