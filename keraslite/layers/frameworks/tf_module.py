"""TFModuleLayer: a module of TensorFlow as a layer."""

import inspect
from collections.abc import Callable
from typing import Any

from keraslite import dtypes, tree
from keraslite.layers.frameworks.tensorflow_functions import TensorFlowFunctions
from keraslite.random import SeedGenerator
from keraslite.registry import deserialize_keras_object, serialize_keras_object


class TFModuleLayer(TensorFlowFunctions):
    """A `tf.Module` as a layer, on every backend: one of Sonnet, say, or of one's own.

    The module's variables are the layer's weights. On the tensorflow backend both are the same
    memory; elsewhere the weights are variables of the backend, and TensorFlow computes outputs and
    gradients with their values: about a millisecond more for a call. Variables that are not trained
    (running means), and the states of `tf.random.Generator`s in the module's attributes, are
    weights that are not trained. A module that makes its variables when it is first called is
    called on ones when the layer is built.

    The method is told whether it trains by an argument `training` or `is_training`, if it has one.
    An argument `seed` gets two integers for `tf.random.stateless_uniform` and its like, other ones
    in each call that trains, and the same on every backend; None in calls that do not train.

    Args:
        module: the module.
        method: the name of the method that is called.
        seed: the seed of those integers.
        kwargs: those of every layer.

    Raises:
        TypeError: it is no `tf.Module`.
        NotImplementedError: off the tensorflow backend, in a call, the method draws random numbers
            whose state is hidden, as by `tf.nn.dropout`.

    >>> import tensorflow as tf
    >>> class Scale(tf.Module):
    ...     def __init__(self):
    ...         self.factor = tf.Variable([2.0, 3.0], name="factor")
    ...     def __call__(self, x):
    ...         return x * self.factor
    >>> layer = TFModuleLayer(Scale())  # on any backend
    >>> outputs = layer(np.ones((4, 2), "float32"))
    >>> tuple(outputs.shape), [w.name for w in layer.trainable_weights]
    ((4, 2), ['factor'])
    """

    def __init__(
        self, module: Any, method: str = "__call__", seed: int | None = None, **kwargs: Any
    ):
        super().__init__(**kwargs)
        from keraslite.backend.tensorflow import functions

        self.__dict__["module"], self.method = module, method
        variables = functions.variables_in(module)
        parameters = inspect.signature(self.function).parameters
        self._kl_training = [n for n in ("training", "is_training") if n in parameters]
        self.seed_generator = SeedGenerator(seed) if "seed" in parameters else None
        self.seed = seed
        if variables:
            self._share(variables)
            self.built = True

    def _share(self, variables: list[Any]) -> None:
        names = [v.name.partition(":")[0].replace("/", "_") for v in variables]
        self.share_variables(variables, names)

    @property
    def function(self) -> Callable:
        """The method of the module that is called."""
        return getattr(self.module, self.method)

    def _build(self, args: tuple, kwargs: dict) -> None:
        """Have the module make its variables, by a call on ones."""
        from keraslite.backend.tensorflow import functions

        def example(x: Any) -> Any:
            if not hasattr(x, "shape"):
                return x
            return functions.ones(tuple(x.shape), dtypes.standardize(x.dtype))

        with functions.outside_graphs():
            args, kwargs = tree.map_structure(example, (args, kwargs))
            kwargs = {name: x for name, x in kwargs.items() if name != "training"}
            self.function(*args, **self._settings(kwargs, False))
        self._share(functions.variables_in(self.module))
        super()._build(args, kwargs)

    def _settings(self, kwargs: dict, training: bool) -> dict:
        """Return the arguments by name, with what tells the method how it runs."""
        kwargs = {**kwargs, **dict.fromkeys(self._kl_training, training)}
        if self.seed_generator is not None:
            kwargs["seed"] = self.seed_generator.next() if training else None
        return kwargs

    def call(self, *args: Any, training: bool = False, **kwargs: Any) -> Any:
        """Run the method."""
        kwargs = self._settings(kwargs, training)
        return self.run_function(self.function, None, args, kwargs)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the layer again; the module must have a `get_config`."""
        return super().get_config() | {
            "module": serialize_keras_object(self.module), "method": self.method, "seed": self.seed
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "TFModuleLayer":
        """The layer of a config; the class of the module must be registered.

        Args:
            config: what `get_config` gave.
        """
        return cls(**{k: deserialize_keras_object(v) for k, v in config.items()})
