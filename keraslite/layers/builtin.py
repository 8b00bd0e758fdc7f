"""What the layers of the package share: arguments that become attributes and config, and LoRA."""

from typing import Any

from keraslite import activations, config, constraints, initializers, ops, registry, regularizers
from keraslite.layers.layer import Layer
from keraslite.variable import Variable

_BASE = ("activity_regularizer", "name", "dtype", "trainable")


def data_format(value: Any) -> str:
    """The data format that is meant; the configured one for None."""
    value = str(value or config.image_data_format()).lower()
    if value not in ("channels_last", "channels_first"):
        raise ValueError(f"data_format must be channels_last or channels_first, got {value!r}.")
    return value


def sizes(value: Any, count: int, name: str, least: int = 1) -> tuple[int, ...]:
    """One number for all axes, or one each, as a tuple."""
    try:
        values = (value,) * count if isinstance(value, int) else tuple(int(v) for v in value)
    except (TypeError, ValueError):
        values = ()
    if len(values) != count or min(values) < least:
        raise ValueError(
            f"The `{name}` argument must be a tuple of {count} integers >= {least}. "
            f"Received {name}={value}"
        )
    return values


# How an argument is read, by the last word of its name.
_READ = {
    "initializer": initializers.get,
    "regularizer": regularizers.get,
    "constraint": constraints.get,
    "activation": activations.get,
}


class BuiltIn(Layer):
    """A layer whose attributes, and whose config, are the arguments of its constructor."""

    _unsaved: tuple[str, ...] = ()  # arguments that are no part of the config
    _saves_activity = False  # whether the config has an activity_regularizer even if there is none

    def _keep(self, given: dict[str, Any]) -> None:
        """Run `Layer.__init__`, and keep its own arguments as attributes, read by their names.

        Args:
            given: `locals()` as the first thing in `__init__`.
        """
        given = {k: v for k, v in given.items() if k not in ("self", "__class__")}
        rest = given.pop("kwargs", {})
        Layer.__init__(self, **{k: given.pop(k) for k in _BASE if k in given}, **rest)
        for name, value in given.items():
            read = data_format if name == "data_format" else _READ.get(name.rpartition("_")[2])
            setattr(self, name, value if read is None else read(value))
        self._kl_kept = tuple(name for name in given if name not in self._unsaved)

    def _setup(self, **given: Any) -> None:  # what classes made by `declare` call
        self._keep(given)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the layer again."""
        config = super().get_config()
        if self._saves_activity:
            config.setdefault("activity_regularizer", None)
        return config | {name: _written(name, getattr(self, name)) for name in self._kl_kept}

    def _weight(self, name: str, shape: Any, prefix: str | None = None, **kwargs: Any) -> Variable:
        """A weight with the initializer, regularizer and constraint that bear its name."""
        given = {
            kind: getattr(self, f"{prefix or name}_{kind}", None)
            for kind in ("initializer", "regularizer", "constraint")
        }
        return self.add_weight(name=name, shape=tuple(shape), **(given | kwargs))


def _written(name: str, value: Any) -> Any:
    if name.rpartition("_")[2] == "activation":
        return activations.serialize(value)
    return value if isinstance(value, tuple) else registry.serialize_keras_object(value)


class LoRA(BuiltIn):
    """A layer with one large weight that can be frozen and trained through a low-rank update.

    Source: https://arxiv.org/abs/2106.09685
    """

    _adapted = "kernel"  # the attribute with the weight
    adapted = 0  # how many layers of this process were, or were quantized

    def _keep(self, given: dict[str, Any]) -> None:
        rank, alpha = (given.get("lora_rank"), given.get("lora_alpha"))
        rest = given.get("kwargs", {})  # the convolutions do not name these two
        rank, alpha = rest.pop("lora_rank", rank), rest.pop("lora_alpha", alpha)
        super()._keep(given)
        self._kl_kept = tuple(n for n in self._kl_kept if not n.startswith("lora_"))
        self.lora_rank, self.lora_alpha = rank, rank if alpha is None else alpha
        self.lora_enabled = False

    def _build_lora(self) -> None:
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
        weight, name = self.__dict__.get(self._adapted), f"lora_{self._adapted}"
        if weight is None or not self.built:
            raise ValueError("Cannot enable lora on a layer that isn't yet built.")
        if weight.constraint is not None:
            raise ValueError(f"Lora is incompatible with a constraint on the {self._adapted}.")
        if self.lora_enabled:
            raise ValueError("lora is already enabled. This can only be done once per layer.")
        shapes = {"a": (*weight.shape[:-1], rank), "b": (rank, weight.shape[-1])}
        for side, initializer in (("a", a_initializer), ("b", b_initializer)):
            new = self.add_weight(
                name=f"{name}_{side}", shape=shapes[side], initializer=initializer,
                dtype="float32", regularizer=weight.regularizer,
            )  # fmt: skip
            setattr(self, f"{name}_{side}", new)
        self._kl_was_trainable, weight.trainable = weight.trainable, False
        LoRA.adapted += 1
        self.lora_enabled, self.lora_rank = True, rank
        self.lora_alpha = rank if lora_alpha is None else lora_alpha

    def disable_lora(self, merge: bool = False) -> None:
        """Take the two small matrices away again; the weight is trained as it was before.

        Args:
            merge: whether their product is added to the weight first.

        Raises:
            ValueError: there are none, or the weight is kept in integers, which hold no sum.
        """
        if not self.lora_enabled:
            raise ValueError("lora is not enabled on this layer.")
        weight = self.__dict__[self._adapted]
        if merge and self.quantization_mode:
            raise ValueError("An update cannot be merged into a quantized weight.")
        if merge:
            weight.assign(self.effective_weight())
        for side in "ab":
            old = self.__dict__.pop(f"lora_{self._adapted}_{side}")
            self.__dict__["_kl_added"] = [v for v in self._kl_added if v is not old]
        weight.trainable = self.__dict__.pop("_kl_was_trainable")
        LoRA.adapted += 1
        self.lora_enabled, self.lora_rank, self.lora_alpha = False, None, None

    def effective_weight(self) -> Any:
        """The weight's value, with the update if there is one."""
        weight = self.__dict__[self._adapted].value
        if not self.lora_enabled:
            return weight
        return ops.cast(ops.add(weight, self._update()), ops.dtype(weight))

    def _update(self) -> Any:
        """What is added to the weight."""
        a, b = (getattr(self, f"lora_{self._adapted}_{side}") for side in "ab")
        return ops.matmul(a, b) * (self.lora_alpha / self.lora_rank)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the layer again."""
        extra = {"lora_rank": self.lora_rank, "lora_alpha": self.lora_alpha}
        return super().get_config() | (extra if self.lora_rank else {})
