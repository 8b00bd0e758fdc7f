"""TorchModuleWrapper: a module of torch as a layer."""

from collections.abc import Iterator
from typing import Any

from keraslite import backend as backends
from keraslite.layers.base.functions import is_safe, unsafe_error
from keraslite.layers.base.layer import Layer
from keraslite.registry import custom_object_scope, deserialize_keras_object
from keraslite.symbolic import KerasTensor
from keraslite.variable import Variable, in_stateless_scope


class TorchModuleWrapper(Layer):
    """A `torch.nn.Module` as a layer, on the torch backend.

    A module that becomes an attribute of a layer or a model is wrapped by itself.

    The module's parameters are the layer's weights: both have the same memory, whoever trains
    them. Its buffers are weights that are not trained (Keras keeps them in files alone), so that
    `stateless_call` returns their new values. Calls that do not say `training=False` run the module
    in train mode. Random numbers inside are torch's own. With a policy such as "mixed_bfloat16" it
    runs under `torch.autocast`.

    Args:
        module: the module; a lazy one must have been called on data.
        name: a name.
        output_shape: the shape of the outputs, with the batch axis; found by a run of the module
            without data if None.

    Raises:
        ValueError: a lazy module has no parameters yet.
        NotImplementedError: the backend is not torch.

    Source: Keras 3, `keras.layers.TorchModuleWrapper`.

    >>> import torch
    >>> with use_backend("torch"):
    ...     layer = TorchModuleWrapper(torch.nn.Linear(3, 2))
    ...     outputs = layer(np.ones((4, 3), "float32"))
    >>> tuple(outputs.shape), [w.name for w in layer.trainable_weights]
    ((4, 2), ['weight', 'bias'])
    """

    _kl_framework = "torch"

    def __init__(
        self, module: Any, name: str | None = None, output_shape: Any = None, **kwargs: Any
    ):
        super().__init__(name=name, **kwargs)
        from keraslite.backend.torch import wrapped

        # Past `__setattr__`, which makes such a layer of a module.
        self.__dict__["module"] = wrapped.prepared(module)
        self.output_shape = output_shape
        self._kl_places = wrapped.places_of(self.module)
        self._kl_weights: dict[str, Variable] = {}
        for name, (held, key) in self._kl_places.items():
            tensor = held[key]
            variable = self.add_weight(
                tuple(tensor.shape), dtype=tensor.dtype, autocast=False, name=name,
                trainable=tensor.requires_grad and not wrapped.is_buffer(tensor),
            )  # fmt: skip
            variable.share(tensor)
            self._kl_weights[name] = variable
        self.built = True

    def parameters(self, recurse: bool = True) -> Iterator[Any]:
        """Return the parameters of the module.

        Args:
            recurse: whether those of modules inside it are among them.
        """
        from keraslite.backend.torch import wrapped

        return wrapped.parameters_of(self.module, recurse)

    def call(self, *args: Any, training: bool = True, **kwargs: Any) -> Any:
        """Run the module."""
        from keraslite.backend.torch import wrapped

        policy, live = self.dtype_policy, not in_stateless_scope()
        mixed = policy.compute_dtype != policy.variable_dtype
        outputs, updated = wrapped.run(
            self.module, self._kl_places, {name: v.value for name, v in self._kl_weights.items()},
            live, args, kwargs, training, policy.compute_dtype if mixed else None,
        )  # fmt: skip
        for name, value in updated.items():
            self._kl_weights[name].assign(value)
        return outputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape that the constructor was given, else that of a run without data."""
        if self.output_shape is None:
            return super().compute_output_shape(input_shape)
        return self.output_shape

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """The symbolic outputs."""
        if self.output_shape is None:
            return super().compute_output_spec(*args, **kwargs)
        return KerasTensor(tuple(self.output_shape), self.compute_dtype)

    def save_own_variables(self, store: dict[str, Any]) -> None:
        """Put the module's `state_dict` into a mapping, as arrays."""
        from keraslite.backend.torch import wrapped

        for name, tensor in wrapped.state_of(self.module).items():
            store[name] = backends.to_numpy(tensor)

    def load_own_variables(self, store: dict[str, Any]) -> None:
        """Take the module's `state_dict` from a mapping of arrays."""
        from keraslite.backend.torch import wrapped

        names = {key.decode() if isinstance(key, bytes) else key: key for key in store}
        wrapped.load_state(self.module, {name: store[key] for name, key in names.items()})

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the layer again; the module as a pickle in base64."""
        from keraslite.backend.torch import wrapped

        own = {"module": wrapped.pickled(self.module), "output_shape": self.output_shape}
        return super().get_config() | own

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None, safe_mode: bool | None = None
    ) -> "TorchModuleWrapper":
        """The layer of a config.

        Args:
            config: what `get_config` gave.
            custom_objects: classes and functions by name, beside the registered ones.
            safe_mode: False lets the pickle of the module run; None asks what is set around.

        Raises:
            ValueError: the config has a pickle, which is not to run.
        """
        config = dict(config)
        if isinstance(config.get("module"), str):
            if is_safe(safe_mode):
                raise unsafe_error(
                    "a `torch.nn.Module` as a pickle for `torch.load()`",
                    "make the module by code, and load its weights",
                )
            from keraslite.backend.torch import wrapped

            config["module"] = wrapped.unpickled(config["module"])
        with custom_object_scope(custom_objects):
            return cls(**{k: deserialize_keras_object(v) for k, v in config.items()})


Layer._kl_wrapped_module = TorchModuleWrapper
