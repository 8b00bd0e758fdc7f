"""FlaxLayer: a module of flax as a layer."""

from collections.abc import Callable
from typing import Any

from keraslite.layers.base.functions import read_function, write_function
from keraslite.layers.frameworks.jax_function import JaxLayer
from keraslite.registry import deserialize_keras_object, safe_mode, serialize_keras_object


class FlaxLayer(JaxLayer):
    """A module of flax, of linen or of nnx, as a layer on every backend, as `JaxLayer` is.

    The method that is called takes `inputs`, and perhaps `training`. What linen keeps beside the
    collection "params", and nnx beside `nnx.Param`, are weights that are not trained. A linen
    module gets a key for "dropout" in training.

    An nnx module comes with its parameters; the layer has copies of them, and the module itself
    does not change. In training its streams of random numbers follow the layer's seed, and it is in
    train mode where the method does not take `training`.

    Args:
        module: an instance of `flax.linen.Module` or `flax.nnx.Module`.
        method: the method: bound, its name, or a function of the module and the inputs;
            `__call__` if None.
        variables: values instead of those that the module is initialized with: collections as
            `module.init` of linen returns them, or nested dicts as those of an `nnx.State`.
        kwargs: those of `JaxLayer` (`seed`) and of every layer.

    Source: Keras 3, `keras.layers.FlaxLayer`, which takes modules of linen alone.

    >>> import flax.linen
    >>> layer = FlaxLayer(flax.linen.Dense(2))  # on any backend
    >>> outputs = layer(np.ones((4, 3), "float32"))
    >>> tuple(outputs.shape), sorted(layer.params["params"]), len(layer.trainable_weights)
    ((4, 2), ['bias', 'kernel'], 2)
    """

    def __init__(
        self, module: Any, method: Callable | str | None = None, variables: Any = None,
        **kwargs: Any,
    ):  # fmt: skip
        from keraslite.backend.jax import flax_modules

        self.module = module
        self.method = getattr(module, method) if isinstance(method, str) else method
        if flax_modules.is_nnx(module):
            call, params, state = flax_modules.nnx_functions(module, self.method, variables)
            super().__init__(call, params=params, state=state, **kwargs)
        else:
            call, init = flax_modules.linen_functions(module, self.method)
            params, state = flax_modules.split(variables)
            super().__init__(call, init, params, state, **kwargs)

    def _get_init_rng(self) -> Any:
        """Return the keys of `module.init`."""
        return {"params": self._get_init_seed(), "dropout": self._get_init_seed()}

    def _get_call_rng(self, training: bool) -> Any:
        """Return the keys of a call: for dropout, in training."""
        return {"dropout": self._get_call_seed()} if training else {}

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the layer again; the module must have a `get_config`."""
        config = super().get_config()
        del config["call_fn"], config["init_fn"]  # they come from the module
        method = self.method
        if getattr(method, "__self__", None) is self.module and method is not None:
            method = method.__name__
        elif callable(method):
            method = write_function(method)
        return config | {"module": serialize_keras_object(self.module), "method": method}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "FlaxLayer":
        """The layer of a config; the class of the module must be registered.

        Args:
            config: what `get_config` gave.

        Raises:
            ValueError: a class or function is not registered, or is bytecode.
        """
        config = dict(config)
        module = config["module"] = deserialize_keras_object(config["module"])
        method = config.get("method")
        if isinstance(method, dict) or (isinstance(method, str) and not hasattr(module, method)):
            config["method"] = read_function(method, safe_mode.get(), cls.__name__)
        return cls(**{k: deserialize_keras_object(v) for k, v in config.items()})
