"""LossScaleOptimizer: keeps float16 gradients in range by scaling the loss."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from keraslite import backend as backends
from keraslite import initializers, ops, registry
from keraslite.optimizers.optimizer import ARGUMENTS, Optimizer
from keraslite.variable import StatelessScope, Variable, in_stateless_scope


class LossScaleOptimizer(Optimizer):
    """An optimizer whose loss is multiplied by a scale, and its gradients divided.

    The scale doubles after `dynamic_growth_steps` steps with finite gradients; where they are not
    finite the step is left out and the scale halved.

    Args:
        inner_optimizer: the optimizer that makes the steps.
        initial_scale: the first scale.
        dynamic_growth_steps: after how many good steps the scale is doubled.
        name: a name.
    """

    def __init__(
        self,
        inner_optimizer: Optimizer,
        initial_scale: float = 2.0**15,
        dynamic_growth_steps: int = 2000,
        name: str | None = None,
        **kwargs: Any,
    ):
        if not kwargs.pop("dynamic", True):
            raise ValueError(
                "LossScaleOptimizer no longer supports `dynamic=False`. Instead, simply set "
                "`loss_scale_factor` directly on the `inner_optimizer`."
            )
        for key, default in ARGUMENTS.items():
            if kwargs.pop(key, default) != default:
                raise ValueError(
                    f"LossScaleOptimizer does not support `{key}`. Instead, set `{key}` on the "
                    "`inner_optimizer`."
                )
        if kwargs:
            raise ValueError(f"LossScaleOptimizer does not support arguments: {sorted(kwargs)}.")
        super().__init__(learning_rate=0.0, name=name)
        self.inner_optimizer = inner_optimizer
        self.initial_scale, self.dynamic_growth_steps = initial_scale, dynamic_growth_steps
        self.inner_optimizer.loss_scale_factor = None

    def build(self, variables: Sequence[Variable]) -> None:
        """Make the scale, the counter and the inner optimizer's slots."""
        if self.built:
            return
        super().build(variables)
        first = initializers.Constant(self.initial_scale)
        self.step_counter = self.add_variable((), dtype="int", name="step_counter")
        self.dynamic_scale = self.add_variable((), first, "float32", name="dynamic_scale")
        self.inner_optimizer.build(variables)

    @property
    def variables(self) -> list[Variable]:
        """Its own variables, then the inner optimizer's."""
        return self._variables + self.inner_optimizer.variables

    @property
    def iterations(self) -> Any:
        """The number of updates made so far."""
        return self.inner_optimizer.iterations

    @property
    def learning_rate(self) -> Any:
        """The inner optimizer's learning rate."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self.inner_optimizer.learning_rate = value

    def to_backend(self, name: str) -> None:
        """Move the state to another backend, values kept."""
        super().to_backend(name)
        self.inner_optimizer.to_backend(name)

    def apply(
        self, grads: Sequence[Any], trainable_variables: Sequence[Variable] | None = None
    ) -> None:
        """Update parameters from the gradients of the scaled loss, if those are finite."""
        if not self.built and trainable_variables is not None:
            self.build(list(trainable_variables))
        variables = self.checked_variables(grads, trainable_variables)
        module, live = backends.load(self.backend), not in_stateless_scope()
        with module.no_grad() if live else nullcontext():
            checks = [ops.all(ops.isfinite(g)) for g in grads if g is not None]
            finite = ops.all(ops.stack(checks))
            if (live and module.FUSED) or not module.TRAINS:
                # The one read from the device a step: what follows may then be done in place.
                self._finite(grads, variables) if bool(finite) else self._not_finite()
                return
            with StatelessScope() as good:
                self._finite(grads, variables)
            with StatelessScope() as bad:
                self._not_finite()
            for v, new in good.updates():
                left = bad.get(v)
                v.assign(ops.where(finite, new, v.value if left is None else left))

    def _finite(self, grads: Sequence[Any], variables: list[Variable]) -> None:
        scale = self.dynamic_scale.value
        unscaled = [
            g if g is None or v.overwrite_with_gradient else g / ops.cast(scale, ops.dtype(g))
            for g, v in zip(grads, variables, strict=True)
        ]
        count = self.step_counter.value + 1
        grown = ops.equal(count, self.dynamic_growth_steps)
        self.inner_optimizer.apply(unscaled, variables)
        self.step_counter.assign(ops.where(grown, ops.zeros_like(count), count))
        self.dynamic_scale.assign(ops.where(grown, scale * 2.0, scale))

    def _not_finite(self) -> None:
        self.step_counter.assign(0)
        self.dynamic_scale.assign(self.dynamic_scale.value * 0.5)

    def scale_loss(self, loss: Any) -> Any:
        """The loss times the scale, to be differentiated."""
        scale = self.dynamic_scale.value if self.built else self.initial_scale
        return ops.multiply(loss, scale)

    def finalize_variable_values(self, var_list: Sequence[Variable]) -> None:
        """Set parameters to their moving averages, at the end of training."""
        self.inner_optimizer.finalize_variable_values(var_list)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it."""
        return {
            "name": self.name,
            "inner_optimizer": registry.serialize_keras_object(self.inner_optimizer),
            "initial_scale": self.initial_scale,
            "dynamic_growth_steps": self.dynamic_growth_steps,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> "LossScaleOptimizer":
        """The optimizer of a config."""
        config = dict(config)
        inner = registry.deserialize_keras_object(config.pop("inner_optimizer"), custom_objects)
        return cls(inner, **config)
