"""HaikuLayer: a function of Haiku's modules as a layer."""

from typing import Any

from keraslite.layers.base.functions import read_function, write_function
from keraslite.layers.frameworks.jax_function import JaxLayer
from keraslite.registry import deserialize_keras_object, safe_mode


class HaikuLayer(JaxLayer):
    """A function that uses modules of Haiku, as a layer on every backend, as `JaxLayer` is.

    The function takes the inputs, an array or a structure of arrays, and perhaps `training` or
    `is_training`. Parameters are weights; what `hk.get_state` keeps (running means) are weights
    that are not trained. In training `hk.next_rng_key` gives keys that follow from the layer's
    seed.

    Args:
        function: the function, or what `hk.transform` or `hk.transform_with_state` made of it.
        params: the parameters, instead of those that it is initialized with.
        state: the state, likewise.
        kwargs: those of `JaxLayer` (`seed`) and of every layer.

    Raises:
        ImportError: Haiku is not installed.

    >>> import haiku as hk
    >>> layer = HaikuLayer(lambda x: hk.nets.MLP([4, 2])(x))  # on any backend
    >>> outputs = layer(np.ones((4, 3), "float32"))
    >>> tuple(outputs.shape), sorted(layer.params), len(layer.trainable_weights)
    ((4, 2), ['mlp/~/linear_0', 'mlp/~/linear_1'], 4)
    """

    def __init__(self, function: Any, params: Any = None, state: Any = None, **kwargs: Any):
        from keraslite.backend.jax import haiku_modules

        self.function = function
        call, init = haiku_modules.haiku_functions(function)
        super().__init__(call, init, params, {} if state is None and params else state, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the layer again: the function by its name, no parameters.

        Raises:
            TypeError: the layer was made of what `hk.transform` gave, which has no name.
        """
        if not callable(self.function):
            raise TypeError(
                f"{self.name}: what hk.transform gave cannot be saved. Give HaikuLayer the "
                "function itself, registered by keraslite.saving.register_keras_serializable()."
            )
        config = super().get_config()
        for name in ("call_fn", "init_fn", "native_serialization_platforms"):
            del config[name]  # they come from the function
        return config | {"function": write_function(self.function)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "HaikuLayer":
        """The layer of a config; the function must be registered.

        Args:
            config: what `get_config` gave.

        Raises:
            ValueError: the function is not registered, or is bytecode, which is not to run.
        """
        config = dict(config)
        if isinstance(config["function"], str | dict):
            config["function"] = read_function(config["function"], safe_mode.get(), cls.__name__)
        return cls(**{k: deserialize_keras_object(v) for k, v in config.items()})
