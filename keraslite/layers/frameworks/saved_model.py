"""TFSMLayer: a SavedModel of TensorFlow as a layer."""

import os
from typing import Any

from keraslite.layers.base.functions import is_safe, unsafe_error
from keraslite.layers.base.layer import Layer
from keraslite.registry import custom_object_scope, deserialize_keras_object
from keraslite.scopes import scopes
from keraslite.typing import Tensor
from keraslite.variable import Variable, in_stateless_scope


class TFSMLayer(Layer):
    """A function of a SavedModel as a layer, on the tensorflow backend.

    The variables that the function uses are the layer's weights, and are trained as it is. Nothing
    else of the saved object is left. A model that holds the layer needs the folder when it is
    loaded again.

    Args:
        filepath: the folder of the SavedModel.
        call_endpoint: the name of the function: of an attribute, or of a signature such as
            "serving_default".
        call_training_endpoint: the name of the function that runs in training; the same if None.
        trainable: whether the weights are trained.
        name: a name.
        dtype: a dtype or policy.

    Raises:
        ValueError: the SavedModel has no function of that name.
        NotImplementedError: the backend is not tensorflow.

    Source: Keras 3, `keras.layers.TFSMLayer`.

    >>> import tempfile, tensorflow as tf
    >>> module = tf.Module()
    >>> module.w = tf.Variable(2.0)
    >>> spec = tf.TensorSpec((None,), "float32")
    >>> module.serve = tf.function(lambda x: x * module.w, input_signature=[spec])
    >>> with tempfile.TemporaryDirectory() as folder, use_backend("tensorflow"):
    ...     tf.saved_model.save(module, folder)
    ...     layer = TFSMLayer(folder)
    >>> layer(np.ones(2, "float32")).numpy().tolist(), len(layer.trainable_weights)
    ([2.0, 2.0], 1)
    """

    _kl_framework = "tensorflow"

    def __init__(
        self, filepath: str | os.PathLike, call_endpoint: str = "serve",
        call_training_endpoint: str | None = None, trainable: bool = True,
        name: str | None = None, dtype: Any = None,
    ):  # fmt: skip
        super().__init__(trainable=trainable, name=name, dtype=dtype)
        from keraslite.backend.tensorflow import saved_model

        self._reloaded_obj = loaded = saved_model.load(os.fspath(filepath))
        self.filepath = os.fspath(filepath)
        self.call_endpoint = call_endpoint
        self.call_training_endpoint = call_training_endpoint
        self.call_endpoint_fn = saved_model.endpoint(loaded, call_endpoint, "call_endpoint")
        functions = [self.call_endpoint_fn]
        if call_training_endpoint:
            self.call_training_endpoint_fn = saved_model.endpoint(
                loaded, call_training_endpoint, "call_training_endpoint"
            )
            functions.append(self.call_training_endpoint_fn)
        self._kl_weights = [self._shared(raw) for raw in saved_model.variables_of(functions)]
        self.built = True

    def _shared(self, raw: Any) -> Variable:
        """Make a weight of a variable of the SavedModel."""
        variable = self.add_weight(
            tuple(raw.shape), dtype=raw.dtype, trainable=raw.trainable, autocast=False,
            name=raw.name.replace("/", "_"),
        )  # fmt: skip
        variable.share(raw)
        return variable

    def call(self, inputs: Tensor, training: bool = False, **kwargs: Any) -> Any:
        """Run the function of the SavedModel."""
        in_training = training and self.call_training_endpoint
        function = self.call_training_endpoint_fn if in_training else self.call_endpoint_fn
        if scopes.abstract or not (in_stateless_scope() and self._kl_weights):
            return function(inputs, **kwargs)
        from keraslite.backend.tensorflow import saved_model

        variables = self._kl_weights
        outputs, updated = saved_model.run_with(
            function,
            [v._kl_raw for v in variables],
            [v.value for v in variables],
            (inputs,),
            kwargs,
        )
        for variable, value in zip(variables, updated, strict=True):
            variable.assign(value)
        return outputs

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the layer again, while the SavedModel is in its folder."""
        return super().get_config() | {
            "filepath": self.filepath,
            "call_endpoint": self.call_endpoint,
            "call_training_endpoint": self.call_training_endpoint,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None, safe_mode: bool | None = None
    ) -> "TFSMLayer":
        """The layer of a config.

        Args:
            config: what `get_config` gave.
            custom_objects: classes and functions by name, beside the registered ones.
            safe_mode: False lets the SavedModel be loaded; None asks what is set around.

        Raises:
            ValueError: SavedModels, whose graphs may do anything, are not to be loaded.
        """
        if is_safe(safe_mode):
            raise unsafe_error(
                "a `TFSMLayer`, which loads the graph of a SavedModel",
                "make the layer by code, and load its weights",
            )
        with custom_object_scope(custom_objects):
            return cls(**{k: deserialize_keras_object(v) for k, v in config.items()})
