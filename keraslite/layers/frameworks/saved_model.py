"""TFSMLayer: a SavedModel of TensorFlow as a layer."""

import os
from typing import Any

from keraslite.layers.base.functions import is_safe, unsafe_error
from keraslite.layers.frameworks.tensorflow_functions import TensorFlowFunctions
from keraslite.registry import custom_object_scope, deserialize_keras_object
from keraslite.typing import Tensor


class TFSMLayer(TensorFlowFunctions):
    """A function of a SavedModel as a layer, on every backend.

    The variables that the function uses are the layer's weights, and are trained as it is. Nothing
    else of the saved object is left. A model that holds the layer needs the folder when it is
    loaded again. Off the tensorflow backend TensorFlow computes outputs and gradients with the
    values of the weights: about a millisecond more for a call.

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
        NotImplementedError: off the tensorflow backend, in a call, the function draws random
            numbers whose state is hidden.

    Source: Keras 3, `keras.layers.TFSMLayer`, which is for the tensorflow backend alone.

    >>> import tempfile, tensorflow as tf
    >>> module = tf.Module()
    >>> module.w = tf.Variable(2.0)
    >>> spec = tf.TensorSpec((None,), "float32")
    >>> module.serve = tf.function(lambda x: x * module.w, input_signature=[spec])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tf.saved_model.save(module, folder)
    ...     layer = TFSMLayer(folder)  # on any backend
    >>> ops.convert_to_numpy(layer(np.ones(2, "float32"))).tolist(), len(layer.trainable_weights)
    ([2.0, 2.0], 1)
    """

    def __init__(
        self, filepath: str | os.PathLike, call_endpoint: str = "serve",
        call_training_endpoint: str | None = None, trainable: bool = True,
        name: str | None = None, dtype: Any = None,
    ):  # fmt: skip
        super().__init__(trainable=trainable, name=name, dtype=dtype)
        from keraslite.backend.tensorflow import functions as saved_model

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
        variables = saved_model.variables_of(functions)
        self.share_variables(variables, [v.name.replace("/", "_") for v in variables])
        self.built = True

    def call(self, inputs: Tensor, training: bool = False, **kwargs: Any) -> Any:
        """Run the function of the SavedModel."""
        in_training = bool(training and self.call_training_endpoint)
        function = self.call_training_endpoint_fn if in_training else self.call_endpoint_fn
        return self.run_function(function, in_training, (inputs,), kwargs)

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
