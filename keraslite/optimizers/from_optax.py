"""OptaxOptimizer: a gradient transformation of optax in the place of an optimizer."""

from collections.abc import Sequence
from typing import Any

from keraslite import backend as backends
from keraslite import initializers, ops, registry
from keraslite.optimizers.optimizer import Optimizer
from keraslite.variable import Variable

_FRAMEWORK = "jax"


def is_optax(identifier: Any) -> bool:
    """Return whether an object is a gradient transformation, such as `optax.adam(1e-3)`.

    >>> is_optax("adam")
    False
    """
    return isinstance(identifier, tuple) and all(
        callable(getattr(identifier, name, None)) for name in ("init", "update")
    )


class OptaxOptimizer(Optimizer):
    """An optimizer made of a gradient transformation of optax; `compile` makes it of one.

    The state that optax keeps for the parameters lies in variables, which are saved with a model.
    The transformation itself is code, and is saved only as a registered function that makes it;
    else set `transformation` again on the loaded model's optimizer.

    Args:
        transformation: an `optax.GradientTransformation`, or a function that makes one; None for
            an optimizer of which only the state is known.
        learning_rate: a factor of what is added to the parameters: the learning rate of optax
            stands in the transformation.
        slots: [shape, dtype] of each array of the state, in a config.
        name: a name.

    Raises:
        ValueError: the parameters are of another backend than jax, or there is no transformation.

    Source: optax's `GradientTransformation`, https://optax.readthedocs.io.

    >>> import optax
    >>> with use_backend("jax"):
    ...     v = Variable([1.0])
    ...     OptaxOptimizer(optax.sgd(0.5)).apply([ops.convert_to_tensor([1.0])], [v])
    >>> v.numpy().tolist()
    [0.5]
    """

    def __init__(
        self, transformation: Any = None, learning_rate: float = 1.0,
        slots: Sequence[Any] | None = None, name: str | None = None,
    ):  # fmt: skip
        super().__init__(learning_rate, name=name)
        made = transformation is None or is_optax(transformation)
        self._make = None if made else transformation
        self.transformation = transformation if made else transformation()
        self._specs = slots
        self._slots: list[Variable] = []

    def build(self, variables: Sequence[Variable]) -> None:
        """Make variables of the state of the transformation."""
        if self.built:
            return
        super().build(variables)
        if self.backend != _FRAMEWORK:
            raise ValueError(
                f"{self.name!r} is of optax, which computes on {_FRAMEWORK}, and the parameters "
                f"are of {self.backend}: give one of keraslite's optimizers, or make the model "
                f"under `with keraslite.use_backend({_FRAMEWORK!r}):`."
            )
        values: list[Any] | None = None
        if self.transformation is not None:
            from keraslite.backend.jax import optax_steps

            parameters = [v.value for v in self._trainable_variables]
            values = optax_steps.initial_state(self.transformation, parameters)
        specs = self._specs if values is None else [(x.shape, ops.dtype(x)) for x in values]
        for i, (shape, dtype) in enumerate(specs or ()):
            slot = self.add_variable(shape, initializers.Zeros(), dtype, name=f"optax_{i}")
            if values is not None:
                slot.assign(values[i])
            self._slots.append(slot)

    def apply(
        self, grads: Sequence[Any], trainable_variables: Sequence[Variable] | None = None
    ) -> None:
        """Update the parameters; those that have no gradient get one of zeros."""
        variables = self.checked_variables(grads, trainable_variables)
        if self.transformation is None:
            raise ValueError(
                f"The transformation of {self.name!r} was not saved, as it is code. Set it before "
                "training goes on: model.optimizer.transformation = optax.adam(1e-3)."
            )
        from keraslite.backend.jax import optax_steps

        by_variable = {id(v): g for g, v in zip(grads, variables, strict=True)}
        parameters = [v.value for v in self._trainable_variables]
        gradients = [
            ops.zeros_like(p) if by_variable.get(id(v)) is None else by_variable[id(v)]
            for p, v in zip(parameters, self._trainable_variables, strict=True)
        ]
        changes, state = optax_steps.updates(
            self.transformation, gradients, [s.value for s in self._slots], parameters
        )
        for v, value, change in zip(self._trainable_variables, parameters, changes, strict=True):
            rate = ops.cast(self.learning_rate, v.storage_dtype)
            new = value + rate * ops.cast(change, v.storage_dtype)
            v.assign(new if v.constraint is None else v.constraint(new))
        for slot, new in zip(self._slots, state, strict=True):
            slot.assign(new)
        self._iterations.assign_add(1)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments; the transformation where a registered function makes it."""
        make = None if self._make is None else registry.serialize_keras_object(self._make)
        return {
            "transformation": make,
            "learning_rate": float(backends.to_numpy(self.learning_rate)),
            "slots": [[list(s.shape), s.dtype] for s in self._slots] or self._specs,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "OptaxOptimizer":
        """Return the optimizer of a config."""
        config = dict(config)
        if config.get("transformation") is not None:
            config["transformation"] = registry.deserialize_keras_object(
                config["transformation"], custom_objects
            )
        return cls(**config)
