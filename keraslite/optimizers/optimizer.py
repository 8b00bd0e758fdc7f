"""Optimizer: how parameters are updated from gradients."""

import re
import warnings
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import Any

from keraslite import backend as backends
from keraslite import ops, registry
from keraslite.naming import auto_name, to_snake_case
from keraslite.optimizers import step
from keraslite.optimizers.state import OptimizerState
from keraslite.variable import StatelessScope, Variable, in_stateless_scope

ARGUMENTS: dict[str, Any] = {
    "weight_decay": None,
    "clipnorm": None,
    "clipvalue": None,
    "global_clipnorm": None,
    "use_ema": False,
    "ema_momentum": 0.99,
    "ema_overwrite_frequency": None,
    "loss_scale_factor": None,
    "gradient_accumulation_steps": None,
}


def _check(a: dict[str, Any]) -> None:
    """Raise ValueError for invalid arguments."""
    steps, frequency = a["gradient_accumulation_steps"], a["ema_overwrite_frequency"]
    if steps and not steps >= 2:
        raise ValueError(
            "`gradient_accumulation_steps` must be an integer >= 2. "
            f"Received: gradient_accumulation_steps={steps}"
        )
    for name in ("weight_decay", *step.CLIPPING, "loss_scale_factor"):
        if a[name] is not None and not a[name] >= 0:
            raise ValueError(f"`{name}` must not be negative. Received: {name}={a[name]}")
    if a["use_ema"] and not 0 <= a["ema_momentum"] <= 1:
        raise ValueError(
            "`ema_momentum` must be in the range [0, 1]. "
            f"Received: ema_momentum={a['ema_momentum']}"
        )
    if a["use_ema"] and frequency and (not isinstance(frequency, int) or frequency < 1):
        raise ValueError(
            "`ema_overwrite_frequency` must be an integer >= 1 or None. "
            f"Received: ema_overwrite_frequency={frequency}"
        )
    if sum(a[c] is not None for c in step.CLIPPING) > 1:
        raise ValueError(
            "Only one of `clipnorm`, `clipvalue` and `global_clipnorm` can be set. Received: "
            + ", ".join(f"{c}={a[c]}" for c in step.CLIPPING)
        )


class Optimizer(OptimizerState):
    """The base of optimizers: learning rate, step count, slots, and the steps themselves.

    Subclasses write `build(variables)`, which adds slots, and
    `update_step(gradient, variable, learning_rate)`.

    Args:
        learning_rate: a float, a schedule, or a function without arguments.
        weight_decay: how much of a parameter is lost a step, times the learning rate.
        clipnorm: the largest norm of each gradient.
        clipvalue: the largest absolute value in gradients.
        global_clipnorm: the largest norm of all gradients together.
        use_ema: whether a moving average of the parameters is kept.
        ema_momentum: how slowly the average moves.
        ema_overwrite_frequency: after how many steps parameters are set to their averages; None
            leaves it to `finalize_variable_values`.
        loss_scale_factor: what the loss is multiplied by, and gradients divided.
        gradient_accumulation_steps: over how many steps gradients are averaged before an update.
        name: a name; made from the class's where it is None.

    >>> class Descent(Optimizer):
    ...     def update_step(self, gradient, variable, learning_rate):
    ...         self.assign_sub(variable, gradient * learning_rate)
    >>> v = Variable([1.0])
    >>> Descent(0.5).apply([ops.convert_to_tensor([1.0])], [v]); print(v.numpy())
    [0.5]
    """

    formula_arguments: tuple[str, ...] = ()  # the formula's own arguments

    def __init__(
        self, learning_rate: Any, weight_decay: float | None = None, clipnorm: float | None = None,
        clipvalue: float | None = None, global_clipnorm: float | None = None,
        use_ema: bool = False, ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None, loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None, name: str | None = None, **kwargs: Any,
    ):  # fmt: skip
        arguments = {k: v for k, v in locals().items() if k in ARGUMENTS}
        if kwargs.pop("decay", None) is not None:
            warnings.warn(
                "Argument `decay` is no longer supported and will be ignored.", stacklevel=2
            )
        if kwargs:
            raise ValueError(f"Argument(s) not recognized: {kwargs}")
        _check(arguments)
        self.__dict__.update(arguments)
        super().__init__(learning_rate, name or auto_name(to_snake_case(type(self).__name__)))
        self._undecayed: tuple[set[Variable], re.Pattern | None] = (set(), None)
        self._warned = False

    def setup(self, learning_rate: Any, **arguments: Any) -> None:
        """Take the arguments of a class made by `declare`; the formula's own become attributes."""
        own = {k: arguments.pop(k) for k in self.formula_arguments}
        Optimizer.__init__(self, learning_rate, **arguments.pop("kwargs", {}), **arguments)
        self.__dict__.update(own)
        if self.validate is not None:
            self.validate()

    validate: Any = None

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> Variable:
        """`apply` with pairs of a gradient and a parameter; returns the step count."""
        grads, variables = zip(*grads_and_vars, strict=True)
        self.apply(grads, variables)
        return self._iterations

    def apply(
        self, grads: Sequence[Any], trainable_variables: Sequence[Variable] | None = None
    ) -> None:
        """Update parameters.

        Args:
            grads: a gradient each; None for parameters that the loss does not depend on.
            trainable_variables: the parameters; those given to `build` if None.
        """
        if len(grads) == 0:
            return
        variables = self.checked_variables(grads, trainable_variables)
        if any(g is None for g in grads):
            grads, variables = self.without_missing(grads, variables)
        live = not in_stateless_scope()
        with backends.load(self.backend).no_grad() if live else nullcontext():
            if any(v.overwrite_with_gradient for v in variables):
                grads, variables = self._overwrite(grads, variables)
            counted = bool(grads) and live and step.fused(self, grads, variables)
            if grads and not counted:
                step.pure(self, grads, variables)
            if self.use_ema and grads:
                step.move_averages(self, counted)
            for v in variables:
                if v.constraint is not None:
                    v.assign(v.constraint(v.value))
            if not counted:
                self._iterations.assign_add(1)

    def checked_variables(
        self, grads: Sequence[Any], variables: Sequence[Variable] | None
    ) -> list[Variable]:
        """The parameters of a step, for which the optimizer was built."""
        if variables is not None:
            variables = list(variables)
            if not self.built:
                self.build(variables)
            for v in variables:
                if v not in self.variable_indices:
                    raise ValueError(
                        f"Unknown variable: {v}. This optimizer can only be called for the "
                        "variables it was originally built with. When working with a new set of "
                        "variables, you should recreate a new optimizer instance."
                    )
            return variables
        if not self.built:
            raise ValueError(
                "When passing `grads` without `variables`, the optimizer must already be built "
                "on a list of variables. Call `optimizer.build(trainable_variables)` first."
            )
        if len(grads) != len(self._trainable_variables):
            raise ValueError(
                "When passing `grads` as a list of gradient tensors, the gradients must match "
                f"`optimizer.variables` one-to-one. Received a list of {len(grads)} gradients, "
                f"but the optimizer is tracking {len(self._trainable_variables)} trainable "
                "variables."
            )
        return self._trainable_variables

    def without_missing(self, grads: Sequence[Any], variables: list) -> tuple[list, list]:
        """Return the gradients that are not None, and their parameters, with a warning.

        Args:
            grads: a gradient or None each.
            variables: the parameters.

        Raises:
            ValueError: all are None.
        """
        missing = [v.path for g, v in zip(grads, variables, strict=True) if g is None]
        if len(missing) == len(variables):
            raise ValueError("No gradients provided for any variable.")
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"Gradients do not exist for variables {missing} when minimizing the loss. If "
                "using `model.compile()`, did you forget to provide a `loss` argument?",
                stacklevel=3,
            )
        pairs = [(g, v) for g, v in zip(grads, variables, strict=True) if g is not None]
        return [g for g, _ in pairs], [v for _, v in pairs]

    def _overwrite(self, grads: Sequence[Any], variables: list) -> tuple[list, list]:
        """Set parameters whose gradient is their new value, and return the others.

        Of several gradients that are accumulated, the largest values are taken, as Keras does.
        """
        others, due = [], step.update_due(self, self._iterations.value)
        for g, v in zip(grads, variables, strict=True):
            if not v.overwrite_with_gradient:
                others.append((g, v))
            elif due is None:
                v.assign(g)
            else:
                accumulator = self.accumulators[self.variable_indices[v]]
                largest = ops.maximum(ops.cast(g, v.storage_dtype), accumulator.value)
                v.assign(ops.where(due, largest, v.value))
                accumulator.assign(ops.where(due, ops.zeros_like(largest), largest))
        return [g for g, _ in others], [v for _, v in others]

    def update_step(self, gradient: Any, variable: Variable, learning_rate: Any) -> None:
        """Update one parameter and its slots.

        Args:
            gradient: its gradient.
            variable: the parameter.
            learning_rate: the learning rate, a scalar.
        """
        if self.formula is None:
            raise NotImplementedError(f"{type(self).__name__} must implement update_step().")
        i = self.variable_indices[variable]
        slots = {k: column[i] for k, column in self.slot_variables.items() if column[i] is not None}
        new, state = self.formula.step(
            variable.value,
            ops.cast(gradient, variable.storage_dtype),
            {k: s.value for k, s in slots.items()},
            step.hyper(self, variable.storage_dtype, learning_rate),
        )
        variable.assign(new)
        for name, value in state.items():
            slots[name].assign(value)

    update_step.by_formula = True  # a subclass's own is not, and has no fused form

    def assign(self, variable: Variable, value: Any) -> None:
        """Set a variable."""
        variable.assign(value)

    def assign_add(self, variable: Variable, value: Any) -> None:
        """Add to a variable."""
        variable.assign_add(value)

    def assign_sub(self, variable: Variable, value: Any) -> None:
        """Subtract from a variable."""
        variable.assign_sub(value)

    def stateless_apply(
        self, optimizer_variables: Sequence[Any], grads: Sequence[Any],
        trainable_variables: Sequence[Any],
    ) -> tuple[list[Any], list[Any]]:  # fmt: skip
        """`apply` as a function of values.

        Args:
            optimizer_variables: the values of `variables`.
            grads: a gradient for each parameter.
            trainable_variables: the values of the parameters.

        Returns:
            The new values of the parameters and of `variables`.
        """
        if not self.built:
            raise ValueError(
                f"To call `stateless_apply`, {type(self).__name__} must be built (i.e. its "
                "variables must have been created). You can build it via "
                "`optimizer.build(trainable_variables)`."
            )
        state, parameters = self.variables, self._trainable_variables
        for name, values, own in (
            ("optimizer_variables", optimizer_variables, state),
            ("trainable_variables", trainable_variables, parameters),
        ):
            if len(values) != len(own):
                raise ValueError(
                    f"Argument `{name}` must be a list of tensors corresponding 1:1 to those of "
                    f"{type(self).__name__}(). Received list with length {len(values)}, but "
                    f"expected {len(own)} variables."
                )
        pairs = [*zip(parameters, trainable_variables), *zip(state, optimizer_variables)]
        with StatelessScope(pairs) as scope:
            self.apply(grads)
            return [scope.get(v) for v in parameters], [scope.get(v) for v in state]

    def scale_loss(self, loss: Any) -> Any:
        """The loss times `loss_scale_factor`, to be differentiated."""
        return loss if self.loss_scale_factor is None else loss * self.loss_scale_factor

    def finalize_variable_values(self, var_list: Sequence[Variable]) -> None:
        """Set parameters to their moving averages, at the end of training."""
        if not self.use_ema:
            return
        if len(var_list) != len(self.variable_averages):
            raise ValueError(
                f"The length of model variables ({len(var_list)}) to override does not match the "
                f"length of model variables stored in the optimizer "
                f"({len(self.variable_averages)}). "
                "Please check if the optimizer was called on your model."
            )
        for v, average in self.averaged_variables(var_list):
            v.assign(average.value)

    def exclude_from_weight_decay(
        self, var_list: Iterable[Variable] | None = None, var_names: Iterable[str] | None = None
    ) -> None:
        """Say which parameters are not decayed.

        Args:
            var_list: the parameters.
            var_names: texts; parameters in whose name one occurs are not decayed.
        """
        names = sorted(set(var_names or ()))
        pattern = re.compile("|".join(names)) if names else None
        self._undecayed = (set(var_list or ()), pattern)
        self.fused_cache = {}

    @property
    def undecayed(self) -> tuple[list[Variable], list[str]]:
        """The parameters that are not decayed, as `exclude_from_weight_decay` takes them."""
        variables, pattern = self._undecayed
        return list(variables), [pattern.pattern] if pattern else []

    def decay_of(self, variable: Variable) -> float | None:
        """The weight decay of a parameter that is decayed."""
        return self.weight_decay

    def is_decayed(self, variable: Variable) -> bool:
        excluded, pattern = self._undecayed
        return variable not in excluded and not (pattern and pattern.search(variable.name))

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it, with the current learning rate."""
        rate = self._learning_rate
        if isinstance(rate, Variable):
            rate = float(rate.numpy())
        else:
            rate = registry.serialize_keras_object(rate)
        names = (*ARGUMENTS, *self.formula_arguments)
        return {"name": self.name, "learning_rate": rate} | {n: getattr(self, n) for n in names}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Optimizer":
        """The optimizer of a config."""
        config = dict(config)
        rate = config.get("learning_rate")
        if isinstance(rate, dict):
            config["learning_rate"] = registry.deserialize_keras_object(rate, custom_objects)
        elif isinstance(rate, str):
            config["learning_rate"] = registry.resolve(rate)
        return cls(**config)
