"""Model: a layer that can be compiled, fitted, saved and shown."""

import re
import warnings
from collections import Counter
from typing import Any, Self

from keraslite import quantizers
from keraslite.layers.base.building import (
    map_shapes,
    restore_build_state,
    set_build_shapes,
    shapes_in,
)
from keraslite.layers.base.layer import Layer
from keraslite.layers.base.quantized import Quantized
from keraslite.optimizers import Optimizer
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
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The model of a config; a graph's config makes a functional model."""
        if public_class(cls) is Model and {"layers", "input_layers"} <= set(config):
            from keraslite.models.functional import Functional

            return Functional.from_config(config)
        return super().from_config(config)

    @property
    def layers(self) -> list[Layer]:
        """The layers directly inside."""
        return [layer for _, layer in self.own_layers()]

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
            if all(layer.built for layer in self.flatten_layers()):
                return
        shapes = shapes_in(config)
        symbols = (map_shapes(lambda s: KerasTensor(s, self.compute_dtype), s)
                   for s in shapes.values())  # fmt: skip
        self(*symbols)
        set_build_shapes(self, shapes)
        restore_build_state(self, config)

    def quantize(
        self, mode: str | None = None, config: Any = None, filters: Any = None, **kwargs: Any
    ) -> None:
        """Keep the large weights of the layers inside in int8: Dense, EinsumDense, Embedding.

        They are not trained from then on; an optimizer that has begun starts anew.

        Args:
            mode: "int8".
            config: a `quantizers.Int8QuantizationConfig`, to choose the quantizers.
            filters: which layers: a regular expression to be found in the name, a list of them,
                or a function of the layer; all by default.
            kwargs: `type_check=False` takes subclasses of these layers too.

        Raises:
            ValueError: a layer is not built yet or quantized already; nothing was changed.

        Example:
            >>> model = Sequential([layers.Input((4,)), layers.Dense(8, name="first")])
            >>> model.quantize("int8", filters="first")
            >>> [w.dtype for w in model.weights]
            ['float32', 'int8', 'float32']
        """
        check = kwargs.pop("type_check", True)
        if kwargs:
            raise ValueError(f"quantize() does not know the arguments {sorted(kwargs)}.")
        config, chosen = quantizers.resolve(mode, config), []
        below = self.flatten_layers()
        uses = Counter(id(v) for layer in below for _, v in layer.own_variables())
        for layer in below:
            if isinstance(layer, Quantized) and _chosen(layer, filters):
                try:
                    layer.check_quantizable(config.mode, check, config)
                    if any(uses[id(getattr(layer, name))] > 1 for name in layer.large_weights()):
                        raise NotImplementedError(f"Layer {layer.name!r} shares its weight.")
                except NotImplementedError as error:
                    warnings.warn(f"{error} It is left as it is.", stacklevel=2)
                else:
                    chosen.append(layer)
        anew = {
            name: type(held).from_config(held.get_config())
            for name, held in self.__dict__.items()
            if isinstance(held, Optimizer) and held.built and chosen
        }
        for layer in chosen:
            layer.quantize(config.mode, check, config)
        self.__dict__.update(anew)
        if not chosen:
            warnings.warn(f"Model {self.name!r} has no layer to quantize here.", stacklevel=2)

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


def _chosen(layer: Layer, filters: Any) -> bool:
    if filters is None:
        return True
    if callable(filters):
        return bool(filters(layer))
    filters = [filters] if isinstance(filters, str) else filters
    if not isinstance(filters, list | tuple):
        raise ValueError(
            "`filters` must be a regular expression, a list of them or a function of a layer. "
            f"Received: {filters!r}"
        )
    return any(re.search(pattern, layer.name) for pattern in filters)


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
