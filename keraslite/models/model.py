"""Model: a layer that can be compiled, fitted, saved and shown."""

from typing import Any

from keraslite.layers.layer import Layer
from keraslite.registry import public_class
from keraslite.symbolic import KerasTensor
from keraslite.training.trainer import Trainer


class Model(Trainer, Layer):
    """A network: functional as `Model(inputs, outputs)`, or a subclass that writes `call`.

    Args:
        inputs: nested KerasTensors, for a functional model.
        outputs: nested KerasTensors.
        name: a name.

    >>> class Twice(Model):
    ...     def call(self, x):
    ...         return x + x
    >>> ops.convert_to_numpy(Twice()([1.0])).tolist()
    [2.0]
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> "Model":
        functional = (len(args) == 2 and not isinstance(args[0], str)) or {
            "inputs", "outputs"
        } <= set(kwargs)  # fmt: skip
        if functional and public_class(cls) is Model:
            from keraslite.models.functional import Functional

            return Functional(*args, **kwargs)
        return super().__new__(cls, *args, **kwargs)

    def __init__(self, *args: Any, **kwargs: Any):
        if args or "inputs" in kwargs:
            # A subclass that calls super().__init__(inputs, outputs) becomes a functional model.
            from keraslite.models.functional import Functional, functional_subclass

            self.__class__ = functional_subclass(type(self))
            Functional.__init__(self, *args, **kwargs)
            return
        super().__init__(**kwargs)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Model":
        """The model of a config; a graph's config makes a functional model."""
        if public_class(cls) is Model and {"layers", "input_layers"} <= set(config):
            from keraslite.models.functional import Functional

            return Functional.from_config(config)
        return super().from_config(config)

    @property
    def layers(self) -> list[Layer]:
        """The layers directly inside."""
        return [layer for _, layer in self._own_layers()]

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """The layer of a name, or the one at an index."""
        if index is not None:
            return self.layers[index]
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise ValueError(
            f"Model {self.name!r} has no layer {name!r}. It has: {[x.name for x in self.layers]}."
        )

    def build_from_config(self, config: dict[str, Any] | None) -> None:
        """Build from what `get_build_config` gave: by `build`, else by a symbolic call."""
        if not config or self.built:
            return
        if type(self).build is not Layer.build:
            super().build_from_config(config)
            if all(layer.built for layer in self._flatten_layers()):
                return
        from keraslite.layers.layer import _map_shapes

        shapes = list(config.values())
        self(*[_map_shapes(lambda s: KerasTensor(s, self.compute_dtype), s) for s in shapes])
        self.__dict__["_kl_build_shapes"] = config

    def summary(
        self,
        line_length: int | None = None,
        print_fn: Any = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
        **kwargs: Any,
    ) -> None:
        """Print the layers, their output shapes and parameter counts as a table.

        Args:
            line_length: the width in characters.
            print_fn: what is called with the text; `print` by default.
            expand_nested: whether layers inside layers have rows too.
            show_trainable: whether a column tells what is trained.
        """
        from keraslite.utils.summary import summary_table

        (print_fn or print)(summary_table(self, line_length, expand_nested, show_trainable))

    def save(self, filepath: Any, overwrite: bool = True, **kwargs: Any) -> None:
        """Save config, weights and optimizer state in one file.

        Args:
            filepath: where to; `keraslite.saving.load_model` reads it on any backend.
            overwrite: whether an existing file is replaced.
        """
        from keraslite.saving.model_file import save_model

        save_model(self, filepath, overwrite)

    def save_weights(self, filepath: Any, overwrite: bool = True) -> None:
        """Save the weights as safetensors.

        Args:
            filepath: where to.
            overwrite: whether an existing file is replaced.
        """
        from keraslite.saving.model_file import save_weights

        save_weights(self, filepath, overwrite)

    def load_weights(self, filepath: Any, skip_mismatch: bool = False, **kwargs: Any) -> None:
        """Load weights saved by `save_weights`; a missing or unused tensor is an error.

        Args:
            filepath: the file.
            skip_mismatch: whether weights that do not fit are left as they are.
        """
        from keraslite.saving.model_file import load_weights

        load_weights(self, filepath, skip_mismatch)

    def to_json(self, **kwargs: Any) -> str:
        """The model's config as JSON; `models.model_from_json` reads it."""
        import json

        from keraslite.registry import serialize_keras_object

        return json.dumps(serialize_keras_object(self), **kwargs)


def clone_model(model: Model) -> Model:
    """A model of the same config with weights of its own.

    Args:
        model: the model.
    """
    return type(model).from_config(model.get_config())


def model_from_json(json_string: str, custom_objects: Any = None) -> Model:
    """The model that `Model.to_json` described, with fresh weights."""
    import json

    from keraslite.registry import deserialize_keras_object

    return deserialize_keras_object(json.loads(json_string), custom_objects)
