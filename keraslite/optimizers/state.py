"""The state of an optimizer: step count, learning rate, slots; made, set and moved."""

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from keraslite import backend as backends
from keraslite import config, initializers, ops
from keraslite.optimizers.formulas import Formula
from keraslite.optimizers.schedules import LearningRateSchedule
from keraslite.registry import derived_class, public_class
from keraslite.variable import Variable


def _check_rate(value: float) -> None:
    if not value >= 0:
        raise ValueError(f"`learning_rate` must not be negative. Received: learning_rate={value}")


def _new(cls: type, backend: str) -> "OptimizerState":
    """Make an optimizer without running its constructor, for a copy's state to fill."""
    optimizer = cls.__new__(cls)
    optimizer._belong_to(backend)
    return optimizer


class OptimizerState:
    """The variables of an optimizer.

    It belongs to the backend that was current when it was made, and follows the parameters it is
    built for.

    Args:
        learning_rate: a float, a schedule, or a function without arguments.
        name: the name in the variables' paths.
    """

    formula: Formula | None = None
    use_ema = False
    gradient_accumulation_steps: int | None = None

    def __init__(self, learning_rate: Any, name: str):
        self.name, self.built = name, False
        self._belong_to(backends.backend())
        self._variables: list[Variable] = []
        self._trainable_variables: list[Variable] = []
        self.variable_indices: dict[Variable, int] = {}  # where a parameter stands
        self.slot_variables: dict[str, list[Variable | None]] = {}
        self.shared_variables: dict[str, Variable] = {}
        self.variable_averages: list[Variable | None] = []
        self.accumulators: list[Variable] = []
        self.step_scalars: dict[str, dict] | None = None  # of a step, by dtype
        self.fused_cache: dict[str, Any] = {}
        self._iterations = self._track(
            Variable(0, dtype="int", trainable=False, autocast=False, name="iteration")
        )
        if callable(learning_rate):
            self._learning_rate: Any = learning_rate
        elif isinstance(learning_rate, float):
            _check_rate(learning_rate)
            variable = Variable(
                learning_rate, dtype=config.floatx(), trainable=False, autocast=False,
                name="learning_rate",
            )  # fmt: skip
            self._learning_rate = self._track(variable)
        else:
            raise ValueError(
                "Argument `learning_rate` should be float, or an instance of "
                "LearningRateSchedule, or a callable (that takes in the current iteration value "
                "and returns the corresponding learning rate value). "
                f"Received instead: learning_rate={learning_rate}"
            )

    def _belong_to(self, backend: str) -> None:
        """Make it one of a backend, whose own class its class is derived from as well."""
        self.backend = backend
        base = backends.load(backend).OPTIMIZER_BASE
        object.__setattr__(self, "__class__", derived_class(type(self), base))

    def __reduce__(self) -> tuple:
        return _new, (public_class(type(self)), self.backend), self.__dict__.copy()

    def _track(self, variable: Variable, path: bool = True) -> Variable:
        if path:
            variable.path = f"{self.name}/{variable.name}"
        self._variables.append(variable)
        if self.__dict__.get("_has_slots"):  # added by a subclass
            self._tell_of_state()
        return variable

    def _tell_of_state(self) -> None:
        """Let the backend's class give new variables what was restored before they were made."""
        if hasattr(self, "_kl_state_added"):
            self._kl_state_added()

    @property
    def variables(self) -> list[Variable]:
        """Step count, learning rate, averages, accumulators, slots."""
        return self._variables[:]

    @property
    def step_count(self) -> Variable:
        """The number of steps made so far, those that only accumulate gradients among them."""
        return self._iterations

    @property
    def rate_source(self) -> Any:
        """The source of the learning rate: a variable, a schedule or a function."""
        return self._learning_rate

    def averaged_variables(
        self, variables: Sequence[Variable] | None = None
    ) -> list[tuple[Variable, Variable]]:
        """Return (parameter, moving average) of those that have one.

        Args:
            variables: what to put in the place of the parameters, in their order.
        """
        variables = self._trainable_variables if variables is None else variables
        pairs = zip(variables, self.variable_averages, strict=True)
        return [(v, average) for v, average in pairs if average is not None]

    @property
    def iterations(self) -> Any:
        """The number of updates made so far."""
        steps = self.gradient_accumulation_steps
        return ops.floor_divide(self._iterations, steps) if steps else self._iterations

    @property
    def learning_rate(self) -> Any:
        """The learning rate of the next step."""
        rate = self._learning_rate
        if isinstance(rate, Variable):
            return rate
        return rate(self.iterations) if isinstance(rate, LearningRateSchedule) else rate()

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        before = self._learning_rate
        if callable(value):
            self._learning_rate = value
            self._variables = [v for v in self._variables if v is not before]
        elif isinstance(before, Variable):
            if isinstance(value, int | float):
                _check_rate(value)
            before.assign(value)
        else:
            raise TypeError(
                "This optimizer was created with a `LearningRateSchedule` object as its "
                "`learning_rate` constructor argument, hence its learning rate is not settable. "
                "If you need the learning rate to be settable, you should instantiate the "
                "optimizer with a float `learning_rate` argument."
            )

    def build(self, variables: Sequence[Variable]) -> None:
        """Make the slots of the parameters.

        Args:
            variables: the parameters that will be trained.
        """
        if self.built:
            return
        variables = list(variables)
        if variables and variables[0].backend != self.backend:
            self.to_backend(variables[0].backend)
        self._trainable_variables = variables
        self.variable_indices = {v: i for i, v in enumerate(variables)}
        self.built = True
        if self.use_ema:
            self.variable_averages = self.add_optimizer_variables(variables, "average")
        if self.gradient_accumulation_steps:
            name = "gradient_accumulator"
            self.accumulators = [self.add_variable_from_reference(v, name) for v in variables]
        if self.formula is not None:
            self._add_slots(variables)
            dtype = variables[0].storage_dtype if variables else config.floatx()
            for name, value in self.formula.shared.items():
                variable = Variable(value, dtype=dtype, trainable=False, autocast=False)
                self.shared_variables[name] = self._track(variable, path=False)
        self._has_slots = True
        self._tell_of_state()

    def _add_slots(self, variables: list[Variable]) -> None:
        for group in self.formula.slots(self):
            self.slot_variables |= {slot: [] for slot in group}
            for v in variables:
                for slot in group:
                    self.slot_variables[slot].append(self._slot(slot, v))

    def _slot(self, slot: str, v: Variable) -> Variable | None:
        if v.overwrite_with_gradient or not self.formula.wants(self, slot, v):
            return None
        shape = self.formula.shapes.get(slot)
        if shape is None:
            argument = self.formula.initial.get(slot)
            if argument == "":
                variable = self.add_variable_from_reference(v, slot)
                variable.assign(ops.copy(v.value))
                return variable
            value = None if argument is None else getattr(self, argument)
            initializer = "zeros" if value is None else initializers.Constant(value)
            return self.add_variable_from_reference(v, slot, initializer)
        if len(v.shape) < 2:  # unused, but Keras has it among the optimizer's variables
            return self._track(Variable(0, trainable=False, autocast=False, name=v.name), False)
        return self.add_variable(shape(v.shape), dtype=v.storage_dtype, name=v.name)

    def add_variable(
        self,
        shape: Sequence[int],
        initializer: Any = "zeros",
        dtype: Any = None,
        aggregation: str = "none",
        layout: Any = None,
        name: str | None = None,
    ) -> Variable:
        """Add a variable to the optimizer's state; it is not trained."""
        with backends.backend_scope(self.backend):
            variable = Variable(
                initializers.get(initializer), shape=tuple(shape), dtype=dtype, trainable=False,
                autocast=False, aggregation=aggregation, name=name,
            )  # fmt: skip
        return self._track(variable)

    def add_variable_from_reference(
        self, reference_variable: Variable, name: str | None = None, initializer: Any = "zeros"
    ) -> Variable:
        """Add a variable of the shape and dtype of another.

        Args:
            reference_variable: a parameter.
            name: the end of its name; the beginning is the parameter's path.
            initializer: its first values.
        """
        path = reference_variable.path.replace("/", "_")
        return self.add_variable(
            reference_variable.shape,
            initializer,
            reference_variable.storage_dtype,
            name=f"{path}_{name or 'var'}",
        )

    def add_optimizer_variables(
        self, trainable_variables: Iterable[Variable], name: Any, initializer: Any = "zeros"
    ) -> Any:
        """Add a variable, or one for each of several names, for each parameter.

        Args:
            trainable_variables: the parameters.
            name: the end of the names, or a list of such.
            initializer: first values, or a list with one for each name.

        Returns:
            A list with one variable a parameter (None for parameters that are overwritten with
            their gradient); for several names, a tuple of such lists.
        """
        names = [name] if isinstance(name, str) else list(name)
        several = isinstance(initializer, list | tuple)
        initial = list(initializer) if several else [initializer] * len(names)
        if len(names) != len(initial):
            raise ValueError(
                "The number of provided names must match the number of provided initializers. "
                f"Received name='{name}', initializer='{initializer}'"
            )
        columns: tuple[list, ...] = tuple([] for _ in names)
        for v in trainable_variables:
            for column, end, first in zip(columns, names, initial, strict=True):
                skip = v.overwrite_with_gradient
                column.append(None if skip else self.add_variable_from_reference(v, end, first))
        return columns[0] if isinstance(name, str) else columns

    def _get_variable_index(self, variable: Variable) -> int:
        return self.variable_indices[variable]

    def to_backend(self, name: str) -> None:
        """Move the state to another backend, values kept."""
        self._belong_to(name)
        self.fused_cache = {}
        for variable in self._variables:
            variable.to_backend(name)

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set the values of `variables`."""
        if not self.built:
            raise ValueError(
                "You are calling `set_weights()` on an optimizer that has not yet been built. "
                "Please call `optimizer.build(trainable_variables)` to create the optimizer "
                "weights before calling `set_weights()`."
            )
        for variable, weight in zip(self.variables, weights, strict=True):
            variable.assign(weight)

    def save_own_variables(self, store: dict[str, Any]) -> None:
        """Write the values of `variables` into a mapping."""
        for i, variable in enumerate(self.variables):
            store[str(i)] = variable.numpy()

    def load_own_variables(self, store: dict[str, Any]) -> None:
        """Read the values of `variables` from a mapping; a wrong number is warned about."""
        if len(store.keys()) != len(self.variables):
            warnings.warn(
                f"Skipping variable loading for optimizer '{self.name}', because it has "
                f"{len(self.variables)} variables whereas the saved optimizer has "
                f"{len(store.keys())} variables.",
                stacklevel=2,
            )
            return
        for i, variable in enumerate(self.variables):
            variable.assign(store[str(i)])
