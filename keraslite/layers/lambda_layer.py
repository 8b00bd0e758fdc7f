"""Lambda: a function as a layer."""

import inspect
from collections.abc import Callable
from typing import Any

from keraslite import registry
from keraslite.layers.base.config_layer import ConfigLayer
from keraslite.layers.base.functions import is_safe, read_function, write_function
from keraslite.typing import Tensor


class Lambda(ConfigLayer):
    """A function as a layer.

    A config of it holds a name, if the function has one and is registered, or else bytecode:
    reading that back is refused, because it would run whatever the config says.

    Args:
        function: takes the inputs, and `mask` and `training` if it names them.
        output_shape: the output shape without the batch axis; found by evaluation if None.
        mask: a mask of the outputs, or a function of (inputs, mask).
        arguments: keyword arguments for the function.

    >>> float(Lambda(lambda x: x * 2)(np.float32(2.0)))
    4.0
    """

    unsaved_arguments = ("function", "output_shape", "mask", "arguments")  # written below

    def __init__(
        self,
        function: Callable,
        output_shape: Any = None,
        mask: Any = None,
        arguments: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        arguments = arguments or {}
        self.set_arguments(locals())
        self.supports_masking = mask is not None

    def call(
        self, inputs: Tensor, mask: Tensor | None = None, training: bool | None = None
    ) -> Tensor:
        """Run the function."""
        try:
            names = inspect.signature(self.function).parameters
        except ValueError:  # some builtins have no signature
            names = {}
        optional = {"mask": mask, "training": training}
        extra = {name: value for name, value in optional.items() if name in names}
        return self.function(inputs, **self.arguments, **extra)

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Any:
        """The mask given to the constructor."""
        return self.mask(inputs, mask) if callable(self.mask) else self.mask

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the layer again."""
        config = super().get_config()
        config["function"] = write_function(self.function)
        for name in ("output_shape", "mask"):
            value = getattr(self, name)
            if value is not None:
                write = write_function if callable(value) else registry.serialize_keras_object
                config[name] = value if isinstance(value, tuple) else write(value)
        return config | {"arguments": registry.serialize_keras_object(self.arguments)}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None, safe_mode: bool | None = None
    ) -> "Lambda":
        """The layer of a config.

        Args:
            config: what `get_config` gave.
            custom_objects: functions by name, beside the registered ones.
            safe_mode: False lets bytecode in the config run; None asks `registry.safe_mode`.
        """
        safe = is_safe(safe_mode)
        config = dict(config)
        with registry.custom_object_scope(custom_objects or {}):
            for name in ("function", "output_shape", "mask"):
                if isinstance(config.get(name), dict | str):
                    config[name] = read_function(config[name], safe, "Lambda")
            return cls(**{k: registry.deserialize_keras_object(v) for k, v in config.items()})
