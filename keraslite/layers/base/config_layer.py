"""The base of the package's layers: arguments that become attributes and config."""

from typing import Any

from keraslite import activations, config, constraints, initializers, regularizers
from keraslite.layers.base.config import BASE_ARGUMENTS, Attribute, own_arguments
from keraslite.layers.base.layer import Layer
from keraslite.variable import Variable


def resolve_data_format(value: Any) -> str:
    """Return a data format, checked; the configured one for None."""
    value = str(value or config.image_data_format()).lower()
    if value not in ("channels_last", "channels_first"):
        raise ValueError(f"data_format must be channels_last or channels_first, got {value!r}.")
    return value


def to_sizes(value: Any, count: int, name: str, minimum: int = 1) -> tuple[int, ...]:
    """Return one number for all axes, or one an axis, as a tuple.

    Args:
        value: a number, or a sequence of them.
        count: the number of axes.
        name: the argument's name, for the error.
        minimum: the least allowed number.

    >>> to_sizes(3, 2, "pool_size")
    (3, 3)
    """
    try:
        values = (value,) * count if isinstance(value, int) else tuple(int(v) for v in value)
    except (TypeError, ValueError):
        values = ()
    if len(values) != count or min(values) < minimum:
        raise ValueError(
            f"The `{name}` argument must be a tuple of {count} integers >= {minimum}. "
            f"Received {name}={value}"
        )
    return values


def check_positive(name: str, value: Any) -> None:
    """Raise ValueError unless an argument is a positive integer."""
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise ValueError(
            f"Received an invalid value for `{name}`, expected a positive integer. "
            f"Received: {name}={value}"
        )


# How an argument is read, by the last word of its name.
_READ = {
    "initializer": initializers.get,
    "regularizer": regularizers.get,
    "constraint": constraints.get,
    "activation": activations.get,
}


class ConfigLayer(Layer):
    """A layer whose attributes, and whose config, are the arguments of its constructor."""

    unsaved_arguments: tuple[str, ...] = ()  # arguments that are no part of the config
    saves_activity_regularizer = False  # whether the config has one even if there is none

    def set_arguments(self, arguments: dict[str, Any]) -> None:
        """Run `Layer.__init__`, and make the other arguments attributes and config.

        Args:
            arguments: `locals()`, as the first thing in `__init__`.
        """
        base = {k: arguments[k] for k in BASE_ARGUMENTS if k in arguments}
        Layer.__init__(self, **base, **arguments.get("kwargs", {}))
        self.set_attributes(**own_arguments(arguments))
        self.built = type(self).build is Layer.build  # there is nothing to be made

    def set_attributes(self, **arguments: Any) -> None:
        """Make arguments attributes, read by their names, and part of the config.

        Args:
            arguments: such as `kernel_initializer="zeros"`, which becomes an initializer.
        """
        for name, value in arguments.items():
            read = _READ.get(name.rpartition("_")[2])
            read = resolve_data_format if name == "data_format" else read
            setattr(self, name, value if read is None else read(value))
        saved = [name for name in arguments if name not in self.unsaved_arguments]
        self._kl_config = self.__dict__.get("_kl_config", {}) | dict.fromkeys(saved, Attribute)

    def setup(self, **arguments: Any) -> None:
        """Take the arguments of a class made by `declare`."""
        self.set_arguments(arguments)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the layer again."""
        config = super().get_config()
        if self.saves_activity_regularizer:
            config.setdefault("activity_regularizer", None)
        return config

    def add_named_weight(
        self, name: str, shape: Any, prefix: str | None = None, **kwargs: Any
    ) -> Variable:
        """Make a weight with the initializer, regularizer and constraint that bear its name.

        Args:
            name: the weight's name.
            shape: its shape.
            prefix: the name that they bear, where it is another.
            kwargs: further arguments of `add_weight`, which come first.
        """
        options = {
            option: getattr(self, f"{prefix or name}_{option}", None)
            for option in ("initializer", "regularizer", "constraint")
        }
        return self.add_weight(name=name, shape=tuple(shape), **(options | kwargs))
