"""LoRA: a frozen weight that is trained through a low-rank update."""

from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import ops
from keraslite.layers.base.config_layer import ConfigLayer
from keraslite.layers.base.tracking import forget_variable
from keraslite.variable import Variable


class AdaptedWeight:
    """The attribute of a weight: the variable, or while there is an update the merged tensor."""

    def __set_name__(self, owner: type, name: str):
        self.name = name

    def __get__(self, layer: Any, owner: type) -> Any:
        if layer is None:
            return self
        if self.name not in layer.__dict__:
            if f"quantized_{self.name}" in layer.__dict__:
                return layer.effective_weight()
            raise AttributeError(f"{layer.name!r} has no {self.name!r} before it is built.")
        return layer.effective_weight() if layer.lora_enabled else layer.__dict__[self.name]

    def __set__(self, layer: Any, variable: Any) -> None:
        layer.__dict__[self.name] = variable


class LoRA(ConfigLayer):
    """A layer with one large weight that can be frozen and trained through a low-rank update.

    Source: https://arxiv.org/abs/2106.09685
    """

    adapted_weight = "kernel"  # its attribute, an `AdaptedWeight`

    unsaved_arguments = ("lora_rank", "lora_alpha")  # saved while there is an update

    def set_arguments(self, arguments: dict[str, Any]) -> None:
        """Take the arguments of the constructor; the two of an update wait for `build`."""
        kwargs = arguments.get("kwargs", {})  # the convolutions do not name the two
        options = {
            name: kwargs.pop(name, arguments.get(name)) for name in ("lora_rank", "lora_alpha")
        }
        super().set_arguments(arguments)
        rank, alpha = options["lora_rank"], options["lora_alpha"]
        self.lora_rank, self.lora_alpha = rank, rank if alpha is None else alpha
        self.lora_enabled = False

    def build_lora(self) -> None:
        """Adapt at once if the constructor was given a rank; the last line of `build`."""
        if self.lora_rank:
            self.built = True
            self.enable_lora(self.lora_rank, self.lora_alpha)

    def enable_lora(
        self,
        rank: int,
        lora_alpha: float | None = None,
        a_initializer: Any = "he_uniform",
        b_initializer: Any = "zeros",
    ) -> None:
        """Freeze the weight, and train the product of two small matrices that is added to it.

        Args:
            rank: the size that the two have in common.
            lora_alpha: the update is scaled by `lora_alpha / rank`; the rank by default.
            a_initializer: of the first matrix.
            b_initializer: of the second one; zeros, so that nothing changes at first.
        """
        weight, name = self.base_weight, f"lora_{self.adapted_weight}"
        if weight is None or not self.built:
            raise ValueError("Cannot enable lora on a layer that isn't yet built.")
        if weight.constraint is not None:
            raise ValueError(
                f"Lora is incompatible with a constraint on the {self.adapted_weight}."
            )
        if self.lora_enabled:
            raise ValueError("lora is already enabled. This can only be done once per layer.")
        shape = self.weight_shape(self.adapted_weight)
        shapes = {"a": (*shape[:-1], rank), "b": (rank, shape[-1])}
        for side, initializer in (("a", a_initializer), ("b", b_initializer)):
            new = self.add_weight(
                name=f"{name}_{side}", shape=shapes[side], initializer=initializer,
                dtype="float32", regularizer=weight.regularizer,
            )  # fmt: skip
            setattr(self, f"{name}_{side}", new)
        self._kl_was_trainable, weight.trainable = weight.trainable, False
        self.lora_enabled, self.lora_rank = True, rank
        self.lora_alpha = rank if lora_alpha is None else lora_alpha

    def disable_lora(self, merge: bool = False) -> None:
        """Remove the two small matrices; the weight is trained as it was before.

        Args:
            merge: whether their product is added to the weight first.

        Raises:
            ValueError: there are none, or the weight is kept in integers, which hold no sum.
        """
        if not self.lora_enabled:
            raise ValueError("lora is not enabled on this layer.")
        weight = self.base_weight
        if merge and self.quantization_mode:
            raise ValueError("An update cannot be merged into a quantized weight.")
        if merge:
            weight.assign(self.effective_weight())
        for side in "ab":
            forget_variable(self, self.__dict__.pop(f"lora_{self.adapted_weight}_{side}"))
        weight.trainable = self.__dict__.pop("_kl_was_trainable")
        self.lora_enabled, self.lora_rank, self.lora_alpha = False, None, None

    @property
    def base_weight(self) -> Any:
        """The variable of the weight, without the update; None before it is built."""
        return self.__dict__.get(self.adapted_weight)

    def weight_shape(self, name: str) -> tuple[int, ...]:
        """Return the shape that a large weight has in floats."""
        return self.__dict__[name].shape

    def effective_weight(self) -> Any:
        """The weight's value, with the update if there is one."""
        weight = self.__dict__[self.adapted_weight].value
        if not self.lora_enabled:
            return weight
        return ops.cast(ops.add(weight, self.weight_update()), ops.dtype(weight))

    def weight_update(self) -> Any:
        """Return the product of the two matrices, scaled: the change of the weight."""
        a, b = (getattr(self, f"lora_{self.adapted_weight}_{side}") for side in "ab")
        return ops.matmul(a, b) * (self.lora_alpha / self.lora_rank)

    def large_weights(self) -> tuple[str, ...]:
        """The weights that may be changed: by an update, or by quantization."""
        return (self.adapted_weight,)

    def large_variable(self, name: str) -> Variable:
        """Return the variable that stands for a large weight: itself, or its integers."""
        return self.__dict__[name]

    def float_weight(self, name: str) -> Any:
        """Return a large weight in floats, with the update if it has one.

        Args:
            name: one of `large_weights()`.
        """
        return self.effective_weight()

    def added_variables(self) -> list[Variable]:
        """Return the variables that are no weights of the layer as it was made: its updates."""
        updates = [f"lora_{self.adapted_weight}_{side}" for side in "ab"]
        return [self.__dict__[name] for name in updates if name in self.__dict__]

    def saved_variables(self) -> list[Variable]:
        """Return the variables that `load_own_variables` sets, in order."""
        omitted = {id(v) for v in self.added_variables()}
        return [v for _, v in self.own_variables() if id(v) not in omitted]

    def saved_values(self) -> list[Any]:
        """Return what `save_own_variables` saves of them: updates are added to the weight."""
        base = self.base_weight
        return [self.effective_weight() if v is base else v for v in self.saved_variables()]

    def save_own_variables(self, store: Any) -> None:
        """Put the layer's variables into a mapping by number, as Keras orders and merges them.

        Args:
            store: the mapping. Low-rank updates are added to the weight, and are not in it.
        """
        for i, value in enumerate(self.saved_values()):
            store[str(i)] = backends.to_numpy(getattr(value, "value", value))

    def load_own_variables(self, store: Any) -> None:
        """Take the layer's variables from a mapping by number; low-rank updates become zero.

        Args:
            store: what `save_own_variables` filled.

        Raises:
            ValueError: it has another number of values.
        """
        variables = self.saved_variables()
        if len(store.keys()) != len(variables):
            raise ValueError(
                f"Layer {self.name!r} has {len(variables)} variables to load, got "
                f"{len(store.keys())} values. Expected: {[v.name for v in variables]}"
            )
        for i, variable in enumerate(variables):
            variable.assign(np.asarray(store[str(i)]))
        for side in "ab" if self.lora_enabled else "":
            update = self.__dict__[f"lora_{self.adapted_weight}_{side}"]
            update.assign(np.zeros(update.shape, "float32"))

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the layer again."""
        extra = {"lora_rank": self.lora_rank, "lora_alpha": self.lora_alpha}
        return super().get_config() | (extra if self.lora_rank else {})
