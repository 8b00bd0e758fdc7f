"""MultiOptimizer: one optimizer for some parameters, others for others."""

import re
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from typing import Any

from keraslite import registry
from keraslite.optimizers.loss_scale import LossScaleOptimizer
from keraslite.optimizers.optimizer import Optimizer
from keraslite.variable import Variable


def _check_inner(optimizer: Any) -> None:
    if not isinstance(optimizer, Optimizer):
        raise ValueError(f"optimizer must be a Keras Optimizer instance. Received: {optimizer}")
    if isinstance(optimizer, LossScaleOptimizer | MultiOptimizer):
        raise ValueError(
            f"optimizer cannot be {type(optimizer).__name__}: in a MultiOptimizer it has no place. "
            "Put the MultiOptimizer into a LossScaleOptimizer, or give it a loss_scale_factor."
        )


class OptimizerMap(MutableMapping[str, Optimizer]):
    """Patterns of the paths of parameters, and the optimizer of each.

    A path that is a key itself goes by that; else the keys are regular expressions, of which one
    may match the whole path. What none matches goes to the default.

    Args:
        default_optimizer: for parameters that no key matches.
        optimizer_map: a dict of the keys and their optimizers.

    >>> from keraslite import optimizers
    >>> chosen = OptimizerMap(optimizers.SGD(), {"encoder/.*": optimizers.Adam()})
    >>> type(chosen["encoder/dense/kernel"]).__name__, type(chosen["head/kernel"]).__name__
    ('Adam', 'SGD')
    """

    def __init__(
        self, default_optimizer: Optimizer, optimizer_map: dict[str, Optimizer] | None = None
    ):
        if not isinstance(default_optimizer, Optimizer):
            raise TypeError(
                "default_optimizer must be a Keras Optimizer instance. "
                f"Received: {default_optimizer}"
            )
        if optimizer_map is not None and not isinstance(optimizer_map, dict):
            raise TypeError(f"optimizer_map must be a dictionary. Received: {optimizer_map}")
        self.default_optimizer = default_optimizer
        self._optimizers: dict[str, Optimizer] = {}
        for key, optimizer in (optimizer_map or {}).items():
            self[key] = optimizer

    def __getitem__(self, key: str) -> Optimizer:
        if key in self._optimizers:
            return self._optimizers[key]
        matching = [pattern for pattern in self._optimizers if re.fullmatch(pattern, key)]
        if len(matching) > 1:
            raise ValueError(
                f"Multiple optimizers assigned to variable {key}: it matches {matching}."
            )
        return self._optimizers[matching[0]] if matching else self.default_optimizer

    def __setitem__(self, key: str, optimizer: Optimizer) -> None:
        if not isinstance(key, str):
            raise ValueError(f"key must be a string. Received: {key}")
        if key in self._optimizers:
            raise ValueError(
                f"'{key}' already exists in the OptimizerMap with value {self._optimizers[key]}. "
                "Please make sure to not use duplicated keys."
            )
        _check_inner(optimizer)
        self._optimizers[key] = optimizer

    def __delitem__(self, key: str) -> None:
        del self._optimizers[key]

    def __len__(self) -> int:
        return len(self._optimizers)

    def __iter__(self) -> Iterator[str]:
        return iter(self._optimizers)

    def __call__(self, variable: Variable) -> Optimizer:
        """Return the optimizer of a parameter."""
        return self[variable.path]

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it; an optimizer that stands twice is, again, named by its key.

        Keras makes two optimizers of it, whose slots are not those that were saved.
        """
        keys: dict[int, str] = {}
        configs: dict[str, Any] = {}
        for key, optimizer in self._optimizers.items():
            first = keys.setdefault(id(optimizer), key)
            configs[key] = registry.serialize_keras_object(optimizer) if first == key else first
        default = keys.get(id(self.default_optimizer))
        default = default or registry.serialize_keras_object(self.default_optimizer)
        return {"default_optimizer": default, "optimizer_map": configs}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "OptimizerMap":
        """The map of a config."""
        optimizers: dict[str, Optimizer] = {}

        def made(entry: Any) -> Optimizer:
            if isinstance(entry, str):
                return optimizers[entry]
            return registry.deserialize_keras_object(entry, custom_objects)

        for key, entry in config["optimizer_map"].items():
            optimizers[key] = made(entry)
        return cls(made(config["default_optimizer"]), optimizers)


class MultiOptimizer(Optimizer):
    """Several optimizers, each for parameters of its own.

    It has no learning rate: its `optimizers` have.

    Args:
        optimizer_map: an `OptimizerMap`, or a function from a parameter to its optimizer.
        loss_scale_factor: what the loss is multiplied by, and gradients divided, in the place of
            the optimizers' own.
        name: a name.

    >>> from keraslite import optimizers
    >>> both = MultiOptimizer(OptimizerMap(optimizers.SGD(0.1), {"b": optimizers.SGD(0.5)}))
    >>> a, b = Variable([1.0], name="a"), Variable([1.0], name="b")
    >>> both.apply([a.value, b.value], [a, b]); print(a.numpy(), b.numpy())
    [0.9] [0.5]
    """

    def __init__(
        self, optimizer_map: OptimizerMap | Callable[[Variable], Optimizer],
        loss_scale_factor: float | None = None, name: str | None = None,
    ):  # fmt: skip
        if not callable(optimizer_map):
            raise TypeError(
                "optimizer_map must be an OptimizerMap or a function of a variable, got "
                f"{optimizer_map!r}."
            )
        self.optimizer_map = optimizer_map
        self.optimizers: list[Optimizer] = []
        self._owners: dict[Variable, Optimizer] = {}
        self._undecayed_of_all: tuple[Any, Any] | None = None
        super().__init__(learning_rate=0.0, loss_scale_factor=loss_scale_factor, name=name)
        if isinstance(optimizer_map, OptimizerMap):
            for optimizer in (*optimizer_map.values(), optimizer_map.default_optimizer):
                self._include(optimizer)

    def _include(self, optimizer: Optimizer) -> None:
        _check_inner(optimizer)
        if all(optimizer is not o for o in self.optimizers):
            optimizer.loss_scale_factor = self.loss_scale_factor
            if self._undecayed_of_all is not None:
                optimizer.exclude_from_weight_decay(*self._undecayed_of_all)
            self.optimizers.append(optimizer)

    def build(self, variables: Sequence[Variable]) -> None:
        """Make the slots of the parameters, each by its optimizer."""
        if self.built:
            return
        variables = list(variables)
        for v in variables:
            self._owners[v] = self.optimizer_map(v)
            self._include(self._owners[v])
        super().build(variables)
        for optimizer in self.optimizers:
            own = [v for v in variables if self._owners[v] is optimizer]
            if own:
                optimizer.build(own)

    @property
    def variables(self) -> list[Variable]:
        """Its own variables, then those of each optimizer."""
        return self._variables + [v for o in self.optimizers for v in o.variables]

    @property
    def learning_rate(self) -> Any:
        """Raise an AttributeError, since each optimizer has a rate of its own."""
        raise AttributeError(
            "Learning rate cannot be accessed on a MultiOptimizer. Access the learning rate on "
            "the individual sub-optimizers instead: `.optimizers`."
        )

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        raise AttributeError(
            "Learning rate cannot be set on a MultiOptimizer. Set the learning rate on the "
            "individual sub-optimizers instead: `.optimizers`."
        )

    @property
    def loss_scale_factor(self) -> float | None:
        """The loss scale of this optimizer and of those in it."""
        return self.__dict__["loss_scale_factor"]

    @loss_scale_factor.setter
    def loss_scale_factor(self, value: float | None) -> None:
        self.__dict__["loss_scale_factor"] = value
        for optimizer in self.optimizers:
            optimizer.loss_scale_factor = value

    def to_backend(self, name: str) -> None:
        """Move the state to another backend, values kept."""
        super().to_backend(name)
        for optimizer in self.optimizers:
            optimizer.to_backend(name)

    def apply(
        self, grads: Sequence[Any], trainable_variables: Sequence[Variable] | None = None
    ) -> None:
        """Update parameters, each by its optimizer; arguments as for `Optimizer.apply`."""
        if len(grads) == 0:
            return
        variables = self.checked_variables(grads, trainable_variables)
        if any(g is None for g in grads):
            grads, variables = self.without_missing(grads, variables)
        for optimizer in self.optimizers:
            own = [
                (g, v) for g, v in zip(grads, variables, strict=True)
                if self._owners[v] is optimizer
            ]  # fmt: skip
            optimizer.apply([g for g, _ in own], [v for _, v in own])
        self._iterations.assign_add(1)

    def finalize_variable_values(self, var_list: Sequence[Variable]) -> None:
        """Set parameters to their moving averages, where their optimizer keeps such."""
        for optimizer in self.optimizers:
            own = [v for v in var_list if self._owners[v] is optimizer]
            if own:
                optimizer.finalize_variable_values(own)

    def exclude_from_weight_decay(
        self, var_list: Iterable[Variable] | None = None, var_names: Iterable[str] | None = None
    ) -> None:
        """Say which parameters no optimizer decays; arguments as for `Optimizer`."""
        self._undecayed_of_all = list(var_list or ()), list(var_names or ())
        for optimizer in self.optimizers:
            optimizer.exclude_from_weight_decay(*self._undecayed_of_all)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it."""
        return {
            "optimizer_map": registry.serialize_keras_object(self.optimizer_map),
            "loss_scale_factor": self.loss_scale_factor,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "MultiOptimizer":
        """The optimizer of a config."""
        config = dict(config)
        chosen = registry.deserialize_keras_object(config.pop("optimizer_map"), custom_objects)
        if isinstance(chosen, str):  # the name of a registered function
            with registry.custom_object_scope(custom_objects):
                chosen = registry.resolve(chosen)
        return cls(chosen, **config)
