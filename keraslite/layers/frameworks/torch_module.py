"""TorchModuleWrapper: a module of torch as a layer."""

from collections.abc import Callable, Iterator
from typing import Any

from keraslite import backend as backends
from keraslite.backend.foreign import ForeignFunction
from keraslite.layers.base.functions import is_safe, unsafe_error
from keraslite.layers.base.layer import Layer
from keraslite.layers.frameworks.foreign import ForeignLayer
from keraslite.random import SeedGenerator, make_default_seed
from keraslite.registry import custom_object_scope, deserialize_keras_object
from keraslite.symbolic import KerasTensor
from keraslite.variable import Variable, in_stateless_scope


class TorchModuleWrapper(ForeignLayer):
    """A `torch.nn.Module` as a layer, on every backend.

    A module that becomes an attribute of a layer or a model on torch is wrapped by itself.

    The module's parameters are the layer's weights. On the torch backend both have the same memory,
    whoever trains them; elsewhere the weights are variables of the backend, and the module computes
    outputs and gradients with their values: about a millisecond more for a call. Its buffers are
    weights that are not trained (Keras keeps them in files alone), so that `stateless_call` returns
    their new values. Calls that do not say `training=False` run the module in train mode. With a
    policy such as "mixed_bfloat16" it runs under `torch.autocast`.

    Random numbers inside follow from the layer's seed, and are the same on all backends. On the
    torch backend that takes a `seed`: without one they are from torch's own generator there.

    Args:
        module: the module; a lazy one must have been called on data.
        name: a name.
        output_shape: the shape of the outputs, with the batch axis; found by a run of the module
            without data if None.
        kwargs: `seed`, that of its random numbers, and those of every layer.

    Raises:
        TypeError: it is no module.
        ValueError: a lazy module has no parameters yet.

    Source: Keras 3, `keras.layers.TorchModuleWrapper`, which is for the torch backend alone.

    >>> import torch
    >>> layer = TorchModuleWrapper(torch.nn.Linear(3, 2))  # on any backend
    >>> outputs = layer(np.ones((4, 3), "float32"))
    >>> tuple(outputs.shape), [w.name for w in layer.trainable_weights]
    ((4, 2), ['weight', 'bias'])
    """

    _kl_framework = "torch"

    def __init__(
        self, module: Any, name: str | None = None, output_shape: Any = None, **kwargs: Any
    ):
        seed = kwargs.pop("seed", None)
        super().__init__(name=name, **kwargs)
        from keraslite.backend.torch import wrapped

        # Past `__setattr__`, which makes such a layer of a module.
        self.__dict__["module"] = wrapped.prepared(module)
        self.output_shape, self.seed = output_shape, seed
        # Drawn on torch too, so that later layers have the same seeds on all backends.
        self._kl_seed = make_default_seed() if seed is None else seed
        self._kl_places = wrapped.places_of(self.module)
        self._kl_weights: dict[str, Variable] = {}
        self._kl_buffers: list[str] = []
        for name, (held, key) in self._kl_places.items():
            tensor = held[key]
            if wrapped.is_buffer(tensor):
                self._kl_buffers.append(name)
            trainable = tensor.requires_grad and not wrapped.is_buffer(tensor)
            self._kl_weights[name] = self.add_shared_weight(tensor, trainable, name)
        self._make_generator()
        self.built = True

    def _make_generator(self) -> None:
        """Have a seed generator wherever random numbers are not torch's own."""
        if not hasattr(self, "seed_generator") and not (self.at_home and self.seed is None):
            self.seed_generator = SeedGenerator(self._kl_seed)

    def storages(self) -> list[tuple[Variable, Any]]:
        """Return the weights, and the parameters and buffers of the module."""
        places = self._kl_places
        return [(v, places[name][0][places[name][1]]) for name, v in self._kl_weights.items()]

    def set_backend(self, name: str) -> None:
        """Make the layer one of another backend; on torch its weights are the module's own."""
        super().set_backend(name)
        with backends.backend_scope(name):
            self._make_generator()

    def parameters(self, recurse: bool = True) -> Iterator[Any]:
        """Return the parameters of the module; off the torch backend, not those that are trained.

        Args:
            recurse: whether those of modules inside it are among them.
        """
        from keraslite.backend.torch import wrapped

        return wrapped.parameters_of(self.module, recurse)

    def call(self, *args: Any, training: bool = True, **kwargs: Any) -> Any:
        """Run the module."""
        from keraslite.backend.torch import wrapped

        policy = self.dtype_policy
        mixed = policy.compute_dtype != policy.variable_dtype
        compute = policy.compute_dtype if mixed else None
        draws = training and not (self.at_home and self.seed is None)
        seed = self.seed_generator.next() if draws else None
        if not self.at_home:
            outputs, buffers = self.call_carried(
                lambda refill: self._described(refill, training, compute),
                list(self._kl_weights.values()), {"args": args, "kwargs": kwargs, "seed": seed},
                training, compute,
            )  # fmt: skip
            for name, value in zip(self._kl_buffers, buffers, strict=True):
                self._kl_weights[name].assign(value)
            return outputs
        values = {name: v.value for name, v in self._kl_weights.items()}
        with wrapped.seeded(seed):
            outputs, updated = wrapped.run(
                self.module, self._kl_places, values, not in_stateless_scope(), args, kwargs,
                training, compute,
            )  # fmt: skip
        for name, value in updated.items():
            self._kl_weights[name].assign(value)
        return outputs

    def _described(self, refill: Callable, training: bool, compute: str | None) -> ForeignFunction:
        """Describe a call of the module to the other backends."""
        from keraslite.backend.torch import wrapped

        def function(weights: list, inputs: list) -> tuple[Any, list]:
            call = refill(inputs)
            dtyped = {
                name: value.to(held[key].dtype)
                for (name, (held, key)), value in zip(self._kl_places.items(), weights, strict=True)
            }
            with wrapped.seeded(call["seed"]):
                outputs, updated = wrapped.run(
                    self.module, self._kl_places, dtyped, False, call["args"], call["kwargs"],
                    training, compute,
                )  # fmt: skip
            return outputs, [updated[name] for name in self._kl_buffers]

        trained = [v.made_trainable for v in self._kl_weights.values()]
        return wrapped.TorchFunction(function, trained)

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

        if not self.at_home:
            self.write_storages()
        for name, tensor in wrapped.state_of(self.module).items():
            store[name] = backends.to_numpy(tensor)

    def load_own_variables(self, store: dict[str, Any]) -> None:
        """Take the module's `state_dict` from a mapping of arrays."""
        from keraslite.backend.torch import wrapped

        names = {key.decode() if isinstance(key, bytes) else key: key for key in store}
        wrapped.load_state(self.module, {name: store[key] for name, key in names.items()})
        if not self.at_home:
            for variable, tensor in self.storages():
                variable.assign(backends.to_numpy(tensor))

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the layer again; the module as a pickle in base64."""
        from keraslite.backend.torch import wrapped

        if not self.at_home:
            self.write_storages()
        own = {"module": wrapped.pickled(self.module), "output_shape": self.output_shape}
        return super().get_config() | own | ({} if self.seed is None else {"seed": self.seed})

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
