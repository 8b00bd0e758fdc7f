"""Optimizer: the state around a formula, and the steps around its application.

One path is pure: new values are worked out by ops and assigned, in a StatelessScope or not. Where
a backend has a fused form of the formula, live variables are updated by that, in place.
"""

import re
import warnings
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import Any

from keraslite import backend as backends
from keraslite import config, initializers, ops, registry
from keraslite.naming import auto_name, to_snake_case
from keraslite.optimizers.formulas import Formula
from keraslite.optimizers.schedules import BUILT_IN
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
_CLIPPING = ("clipnorm", "global_clipnorm", "clipvalue")


def _check(a: dict[str, Any]) -> None:
    """Refuse arguments that make no sense."""
    steps, frequency = a["gradient_accumulation_steps"], a["ema_overwrite_frequency"]
    if steps and not steps >= 2:
        raise ValueError(
            "`gradient_accumulation_steps` must be an integer >= 2. "
            f"Received: gradient_accumulation_steps={steps}"
        )
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
    if sum(a[c] is not None for c in _CLIPPING) > 1:
        raise ValueError(
            "Only one of `clipnorm`, `clipvalue` and `global_clipnorm` can be set. Received: "
            + ", ".join(f"{c}={a[c]}" for c in _CLIPPING)
        )


class Optimizer:
    """The base of optimizers: learning rate, step count, slots, and what happens around a step.

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

    _formula: Formula | None = None
    _own: tuple[str, ...] = ()  # the formula's own arguments

    def __init__(
        self, learning_rate: Any, weight_decay: float | None = None, clipnorm: float | None = None,
        clipvalue: float | None = None, global_clipnorm: float | None = None,
        use_ema: bool = False, ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None, loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None, name: str | None = None, **kwargs: Any,
    ):  # fmt: skip
        given = {k: v for k, v in locals().items() if k in ARGUMENTS}
        if kwargs.pop("decay", None) is not None:
            warnings.warn(
                "Argument `decay` is no longer supported and will be ignored.", stacklevel=2
            )
        if kwargs:
            raise ValueError(f"Argument(s) not recognized: {kwargs}")
        _check(given)
        self.__dict__.update(given)
        self.name = name or auto_name(to_snake_case(type(self).__name__))
        self.backend = backends.backend()
        self.built = False
        self._variables: list[Variable] = []
        self._trainable_variables: list[Variable] = []
        self._indices: dict[int, int] = {}
        self._slots: dict[str, list[Variable | None]] = {}
        self._shared: dict[str, Variable] = {}
        self._undecayed: tuple[set[int], re.Pattern | None] = (set(), None)
        self._warned = False
        self._hypers: dict[str, dict] | None = None  # during a step, the scalars for each dtype
        self._fused_cache: dict = {}
        self._iterations = self._track(
            Variable(0, dtype="int", trainable=False, autocast=False, name="iteration")
        )
        if callable(learning_rate):
            self._learning_rate = learning_rate
        elif isinstance(learning_rate, float):
            self._learning_rate = self._track(
                Variable(
                    learning_rate,
                    dtype=config.floatx(),
                    trainable=False,
                    autocast=False,
                    name="learning_rate",
                )
            )
        else:
            raise ValueError(
                "Argument `learning_rate` should be float, or an instance of "
                "LearningRateSchedule, or a callable (that takes in the current iteration value "
                "and returns the corresponding learning rate value). "
                f"Received instead: learning_rate={learning_rate}"
            )

    def _setup(self, learning_rate: Any, **arguments: Any) -> None:
        own = {k: arguments.pop(k) for k in self._own}
        Optimizer.__init__(self, learning_rate, **arguments.pop("kwargs", {}), **arguments)
        self.__dict__.update(own)
        if self._validate is not None:
            self._validate()

    _validate: Any = None

    # -- state --------------------------------------------------------------------------------

    def _track(self, variable: Variable, path: bool = True) -> Variable:
        if path:
            variable.path = f"{self.name}/{variable.name}"
        self._variables.append(variable)
        return variable

    @property
    def variables(self) -> list[Variable]:
        """Step count, learning rate, averages, accumulators, slots."""
        return self._variables[:]

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
        from keraslite.optimizers.schedules import LearningRateSchedule

        return rate(self._iterations) if isinstance(rate, LearningRateSchedule) else rate()

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        before = self._learning_rate
        if callable(value):
            self._learning_rate = value
            self._variables = [v for v in self._variables if v is not before]
        elif isinstance(before, Variable):
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
        self._indices = {id(v): i for i, v in enumerate(variables)}
        self.built = True
        if self.use_ema:
            self._averages = self.add_optimizer_variables(variables, "average")
        if self.gradient_accumulation_steps:
            self._accumulators = self.add_optimizer_variables(variables, "gradient_accumulator")
        if self._formula is not None:
            self._add_slots(variables)
            dtype = variables[0]._dtype if variables else config.floatx()
            for name, value in self._formula.shared.items():
                variable = Variable(value, dtype=dtype, trainable=False, autocast=False)
                self._shared[name] = self._track(variable, path=False)

    def _add_slots(self, variables: list[Variable]) -> None:
        initial = {
            slot: initializers.Constant(getattr(self, argument))
            for slot, argument in self._formula.initial.items()
        }
        for group in self._formula.slots(self):
            first = [initial.get(slot, "zeros") for slot in group]
            made = self.add_optimizer_variables(variables, list(group), first)
            self._slots |= dict(zip(group, made, strict=True))

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
        with backends.use_backend(self.backend):
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
            reference_variable._dtype,
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
        firsts = list(initializer) if several else [initializer] * len(names)
        if len(names) != len(firsts):
            raise ValueError(
                "The number of provided names must match the number of provided initializers. "
                f"Received name='{name}', initializer='{initializer}'"
            )
        made: tuple[list, ...] = tuple([] for _ in names)
        for v in trainable_variables:
            for column, end, first in zip(made, names, firsts, strict=True):
                skip = v.overwrite_with_gradient
                column.append(None if skip else self.add_variable_from_reference(v, end, first))
        return made[0] if isinstance(name, str) else made

    def _get_variable_index(self, variable: Variable) -> int:
        return self._indices[id(variable)]

    def to_backend(self, name: str) -> None:
        """Move the state to another backend, values kept."""
        self.backend = name
        self._fused_cache = {}
        for variable in self._variables:
            variable.to_backend(name)

    # -- a step -------------------------------------------------------------------------------

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
        variables = self._known(grads, trainable_variables)
        if any(g is None for g in grads):
            grads, variables = self._without_missing(grads, variables)
        if any(v.overwrite_with_gradient for v in variables):
            grads, variables = self._overwrite(grads, variables)
        live = not in_stateless_scope()
        with backends.load(self.backend).no_grad() if live else nullcontext():
            counted = bool(grads) and live and self._fused(grads, variables)
            if grads and not counted:
                self._pure(grads, variables)
            if self.use_ema:
                self._move_averages(counted)
            for v in variables:
                if v.constraint is not None:
                    v.assign(v.constraint(v.value))
            if not counted:
                self._iterations.assign_add(1)

    def _known(self, grads: Sequence[Any], variables: Sequence[Variable] | None) -> list[Variable]:
        """The parameters of a step, for which the optimizer was built."""
        if variables is not None:
            variables = list(variables)
            if not self.built:
                self.build(variables)
            for v in variables:
                if id(v) not in self._indices:
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

    def _without_missing(self, grads: Sequence[Any], variables: list) -> tuple[list, list]:
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
        kept = [(g, v) for g, v in zip(grads, variables, strict=True) if g is not None]
        return [g for g, _ in kept], [v for _, v in kept]

    def _overwrite(self, grads: Sequence[Any], variables: list) -> tuple[list, list]:
        """Set parameters whose gradient is their new value, and return the others."""
        kept = []
        for g, v in zip(grads, variables, strict=True):
            v.assign(g) if v.overwrite_with_gradient else kept.append((g, v))
        return [g for g, _ in kept], [v for _, v in kept]

    def _fused(self, grads: Sequence[Any], variables: list[Variable]) -> bool:
        """Have the backend make the whole step in place, the step count included, if it can."""
        if self._formula is None or type(self).update_step is not Optimizer.update_step:
            return False
        fused = backends.load(self.backend).FUSED.get(self._formula.name)
        if fused is None:
            return False
        at = [self._indices[id(v)] for v in variables]
        slots = {k: [column[i]._kl_raw for i in at] for k, column in self._slots.items()}
        steps = self.gradient_accumulation_steps
        hyper = {name: getattr(self, name) for name in self._own} | {
            "iterations": self._iterations._kl_raw,
            "learning_rate": self._rate_on_host,
            "weight_decay": self.weight_decay or 0.0,
            "decayed": self.weight_decay and [self._is_decayed(v) for v in variables],
            "clip": next(((c, getattr(self, c)) for c in _CLIPPING if getattr(self, c)), None),
            "scale": self.loss_scale_factor,
            "accumulation": steps,
            "accumulators": [self._accumulators[i]._kl_raw for i in at] if steps else None,
            "cache": self._fused_cache,
        }
        return fused([v._kl_raw for v in variables], grads, slots, hyper)

    def _rate_on_host(self, step: int) -> Any:
        """The learning rate without work on the device: a float, or a variable's storage."""
        rate = self._learning_rate
        if isinstance(rate, Variable):
            return rate._kl_raw
        if type(rate) not in BUILT_IN:
            return self.learning_rate
        token = backends.enter("numpy")
        try:
            return float(rate(step))
        finally:
            backends.leave(token)

    def _pure(self, grads: Sequence[Any], variables: list[Variable]) -> None:
        """Make the step by ops and assignments."""
        grads = [self._gradient(g, v) for g, v in zip(grads, variables, strict=True)]
        if self.loss_scale_factor is not None:
            grads = [g / self.loss_scale_factor for g in grads]
        steps = self.gradient_accumulation_steps
        if not steps:
            self._update(grads, variables)
            return
        # The update is always worked out, and kept where it is due: no branch to trace.
        due = ops.equal(ops.mod(self._iterations.value + 1, steps), 0)
        sums = [self._accumulators[self._indices[id(v)]] for v in variables]
        totals = [g + a.value for g, a in zip(grads, sums, strict=True)]
        with StatelessScope() as scope:
            self._update([t / steps for t in totals], variables)
        for v, new in scope.updates():
            v.assign(ops.where(due, new, v.value))
        for a, total in zip(sums, totals, strict=True):
            a.assign(ops.where(due, ops.zeros_like(total), total))

    def _gradient(self, g: Any, v: Variable) -> Any:
        """A gradient as a tensor of the parameter's dtype."""
        module = backends.load(self.backend)
        name = backends.of(getattr(g, "_kl_value", g))
        if name not in (None, self.backend):
            backends.refuse_to_mix("An optimizer", (name, self.backend))
        return module.convert(getattr(g, "_kl_value", g), module.canonical(v._dtype))

    def _update(self, grads: list, variables: list[Variable]) -> None:
        """Clip, decay and apply the formula."""
        grads = self._clip_gradients(grads)
        self._apply_weight_decay(variables)
        rate = self.learning_rate
        self._hypers = {}
        try:
            for g, v in zip(grads, variables, strict=True):
                self.update_step(g, v, rate)
        finally:
            self._hypers = None

    def update_step(self, gradient: Any, variable: Variable, learning_rate: Any) -> None:
        """Update one parameter and its slots.

        Args:
            gradient: its gradient.
            variable: the parameter.
            learning_rate: the learning rate, a scalar.
        """
        if self._formula is None:
            raise NotImplementedError(f"{type(self).__name__} must implement update_step().")
        i = self._indices[id(variable)]
        slots = {k: column[i] for k, column in self._slots.items()}
        new, kept = self._formula.step(
            variable.value,
            ops.cast(gradient, variable._dtype),
            {k: s.value for k, s in slots.items() if s is not None},
            self._hyper(variable._dtype, learning_rate),
        )
        variable.assign(new)
        for name, value in kept.items():
            slots[name].assign(value)

    def _hyper(self, dtype: str, learning_rate: Any) -> dict[str, Any]:
        """The formula's scalars for parameters of a dtype, worked out once a step."""
        hypers = {} if self._hypers is None else self._hypers
        if dtype not in hypers:
            # Half precision could hold neither the step nor one minus a power of beta.
            wide = "float64" if dtype == "float64" else "float32"
            if wide not in hypers:
                h = {name: getattr(self, name) for name in self._own}
                h["learning_rate"] = ops.cast(learning_rate, wide)
                h["step"] = ops.cast(self.iterations, wide) + 1
                h |= {name: ops.cast(v, wide) for name, v in self._shared.items()}
                h |= self._formula.prepare(h)
                for name, v in self._shared.items():
                    v.assign(h[name])
                hypers[wide] = h
            hypers[dtype] = {
                k: ops.cast(x, dtype) if backends.is_tensor(x) else x
                for k, x in hypers[wide].items()
            }
        return hypers[dtype]

    def _clip_gradients(self, grads: list) -> list:
        if self.clipnorm and self.clipnorm > 0:
            return [_scaled_to(g, [g], self.clipnorm) for g in grads]
        if self.global_clipnorm and self.global_clipnorm > 0:
            return _scaled_to_all(grads, self.global_clipnorm)
        if self.clipvalue and self.clipvalue > 0:
            return [ops.clip(g, -self.clipvalue, self.clipvalue) for g in grads]
        return grads
