"""JaxLayer: a function of JAX as a layer."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from keraslite import dtypes, tree
from keraslite.backend.foreign import ForeignFunction
from keraslite.layers.base.functions import read_function, write_function
from keraslite.layers.frameworks.foreign import ForeignLayer
from keraslite.random import SeedGenerator, make_default_seed
from keraslite.registry import deserialize_keras_object, safe_mode
from keraslite.variable import Variable


class JaxLayer(ForeignLayer):
    """A function of JAX as a layer, on every backend.

    `call_fn` takes any of these arguments, by these names and in any order: `params`, the weights
    that are trained; `state`, those that are not; `rng`, a key for random numbers (in training;
    else None); `inputs`, an array or a structure of arrays, the one argument that it must have;
    `training`, a bool. It returns the outputs, and the new state as well if it takes one.

    `init_fn` takes `inputs` and perhaps `rng` and `training`, and returns the parameters, and the
    state as well if `call_fn` takes one. It is called when the layer is built, with ones of the
    shape and dtype of the inputs.

    Parameters and state are pytrees. Arrays and numbers in them become weights (floats of the
    layer's dtype), anything else stays as it is. The attributes `params` and `state` hold the same
    structures of variables.

    On the jax backend the function is called as it is. On the others JAX compiles it, and its
    gradient, for each shape; a call takes about a millisecond more, and the function must give the
    same results for the same arguments.

    Args:
        call_fn: the function.
        init_fn: makes the parameters and the state; not needed where they are given.
        params: the parameters, instead of those of `init_fn`.
        state: the state, instead of that of `init_fn`.
        seed: the seed of `rng`.
        native_serialization_platforms: kept for Keras code, which needs it on TensorFlow.
        kwargs: those of every layer.

    Raises:
        ValueError: a function takes other arguments, or there is nothing to make weights of.

    Source: Keras 3, `keras.layers.JaxLayer`, which is for jax and tensorflow.

    >>> import jax
    >>> def init(rng, inputs):
    ...     return {"w": jax.random.normal(rng, (inputs.shape[-1], 2))}
    >>> layer = JaxLayer(lambda params, inputs: inputs @ params["w"], init)  # on any backend
    >>> outputs = layer(np.ones((4, 3), "float32"))
    >>> tuple(outputs.shape), layer.params["w"].shape, len(layer.trainable_weights)
    ((4, 2), (3, 2), 1)
    """

    _kl_framework = "jax"
    _kl_dtypes: Any = "float32"  # of the inputs that it is built for

    def __init__(
        self, call_fn: Callable, init_fn: Callable | None = None, params: Any = None,
        state: Any = None, seed: int | None = None, native_serialization_platforms: Any = None,
        **kwargs: Any,
    ):  # fmt: skip
        super().__init__(**kwargs)
        self.call_fn, self.init_fn = call_fn, init_fn
        allowed = ("params", "state", "rng", "inputs", "training")
        self.call_fn_arguments = _arguments(call_fn, "call_fn", allowed)
        self.call_fn_has_params = "params" in self.call_fn_arguments
        self.call_fn_has_state = "state" in self.call_fn_arguments
        if init_fn is not None:
            self.init_fn_arguments = _arguments(init_fn, "init_fn", ("rng", "inputs", "training"))
        elif params is None and state is None and self._has_weights():
            raise ValueError(
                "`init_fn`, `params` and `state` cannot all be `None` when `call_fn` takes a "
                "`params` or a `state` argument."
            )
        self.params = self.state = None
        self._set_weights(params, state)
        self.seed_generator = SeedGenerator(seed) if "rng" in self.call_fn_arguments else None
        self.jax2tf_native_serialization_platforms = native_serialization_platforms
        self.built = params is not None or state is not None

    def _has_weights(self) -> bool:
        return self.call_fn_has_params or self.call_fn_has_state

    def _set_weights(self, params: Any, state: Any) -> None:
        """Make variables of parameters and state, in structures like theirs."""
        from keraslite.backend.jax import functions

        self.params = functions.map_named(partial(self._weight, "params"), params)
        self.state = functions.map_named(partial(self._weight, "state"), state)
        # They are found here too, where JAX alone knows the class of a structure.
        self.tracked_params = functions.leaves(self.params)
        self.tracked_state = functions.leaves(self.state)

    def _weight(self, part: str, place: str, value: Any) -> Any:
        """Make a variable of an array or a number; anything else is returned as it is."""
        from keraslite.backend.jax import functions

        if not functions.is_array(value) and not isinstance(value, bool | int | float):
            return value
        array = np.array(value)  # a copy: the caller may overwrite it
        dtype = dtypes.standardize(array.dtype if functions.is_array(value) else type(value))
        path = f"{part}/{place}".rstrip("/")
        variable = self.add_weight(
            array.shape, lambda shape, dtype=None: array, trainable=part == "params",
            dtype=None if dtypes.is_float(dtype) else dtype, name=path.rpartition("/")[2],
        )  # fmt: skip
        variable.path = f"{variable.path.removesuffix(variable.name)}{path}"
        return variable

    # -- random numbers, of which a subclass may make structures ------------------------------

    def _get_init_seed(self) -> Any:
        """Return a new key for `init_fn`."""
        from keraslite.backend.jax import functions

        return functions.first_key(make_default_seed())

    def _get_init_rng(self) -> Any:
        """Return the `rng` of `init_fn`: a key, or in a subclass a structure of keys."""
        return self._get_init_seed()

    def _get_call_seed(self) -> Any:
        """Return a new key for `call_fn`; off the jax backend the integers that it is made of."""
        from keraslite.backend.jax import functions

        seed = self.seed_generator.next()
        return functions.key_of(seed) if self.at_home else seed

    def _get_call_rng(self, training: bool) -> Any:
        """Return the `rng` of `call_fn`: a key in training, else None."""
        return self._get_call_seed() if training else None

    # -- building and calling -----------------------------------------------------------------

    def _build(self, args: tuple, kwargs: dict) -> None:
        """Build for inputs of these dtypes: a table of embeddings takes integers alone."""
        self._kl_dtypes = tree.map_structure(lambda x: dtypes.standardize(x.dtype), args[0])
        super()._build(args, kwargs)

    def get_build_config(self) -> dict[str, Any] | None:
        """The shapes that the layer was built with, and the dtypes where one is no float."""
        config = super().get_build_config()
        floats = all(map(dtypes.is_float, tree.flatten(self._kl_dtypes)))
        return config if floats or not config else {**config, "input_dtype": self._kl_dtypes}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Build from what `get_build_config` gave."""
        config = dict(config)
        self._kl_dtypes = config.pop("input_dtype", "float32")
        super().build_from_config(config)

    def build(self, input_shape: Any) -> None:
        """Make the weights by `init_fn`, where they were not given."""
        if self.params is not None or self.state is not None or not self._has_weights():
            return
        from keraslite.backend.jax import functions

        with functions.outside_traces():
            inputs = _map_shapes(functions.ones, input_shape, self._kl_dtypes)
            values = {"inputs": inputs, "training": True}
            if "rng" in self.init_fn_arguments:
                values["rng"] = self._get_init_rng()
            result = self.init_fn(*(values[name] for name in self.init_fn_arguments))
            self._set_weights(*(result if self.call_fn_has_state else (result, None)))

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Run the function, and assign the new state."""
        from keraslite.backend.jax import functions

        rng = self._get_call_rng(training) if "rng" in self.call_fn_arguments else None
        trained, others = (
            [v for v in part if isinstance(v, Variable)]
            for part in (self.tracked_params, self.tracked_state)
        )
        weights = [*trained, *others]
        if self.at_home:
            values = [v.value for v in weights]
            outputs, updated = self._run(values, inputs, rng, training)
        else:

            def describe(refill: Callable) -> ForeignFunction:
                def function(values: list, tensors: list) -> tuple[Any, list]:
                    call = refill(tensors)
                    rng = functions.map_leaves(functions.key_of, call["rng"])
                    return self._run(values, call["inputs"], rng, training)

                flags = [True] * len(trained) + [False] * len(others)
                return functions.JaxFunction(function, flags)

            call = {"inputs": inputs, "rng": rng}
            outputs, updated = self.call_carried(describe, weights, call, training)
        for variable, value in zip(others, updated, strict=False):
            variable.assign(value)
        return outputs

    def _run(self, values: list, inputs: Any, rng: Any, training: bool) -> tuple[Any, list]:
        """Run the function with values of the weights, and return the new ones of the state."""
        from keraslite.backend.jax import functions

        remaining = iter(values)

        def filled(structure: Any) -> Any:
            return functions.map_leaves(
                lambda v: next(remaining) if isinstance(v, Variable) else v, structure
            )

        arguments = {"params": filled(self.params), "state": filled(self.state)}
        arguments |= {"rng": rng, "inputs": inputs, "training": training}
        result = self.call_fn(*(arguments[name] for name in self.call_fn_arguments))
        if not self.call_fn_has_state:
            return result, []
        outputs, state = result
        updated: list[Any] = []
        functions.map_leaves(partial(_pair, updated), state, self.state)
        return outputs, updated

    # -- configs ------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the layer again: functions by name, no parameters."""
        return super().get_config() | {
            "call_fn": write_function(self.call_fn),
            "init_fn": self.init_fn and write_function(self.init_fn),
            "native_serialization_platforms": self.jax2tf_native_serialization_platforms,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "JaxLayer":
        """The layer of a config; functions are found by their registered names.

        Args:
            config: what `get_config` gave.

        Raises:
            ValueError: a function is not registered, or is bytecode, which is not to run.
        """
        config = dict(config)
        for name in ("call_fn", "init_fn"):
            if isinstance(config.get(name), str | dict):
                from keraslite.backend.jax import functions

                safe = safe_mode.get()
                config[name] = read_function(config[name], safe, cls.__name__, functions.NAMES)
        return cls(**{k: deserialize_keras_object(v) for k, v in config.items()})


def _arguments(function: Callable, name: str, allowed: tuple[str, ...]) -> list[str]:
    """Return the names of a function's arguments, which must be among those allowed."""
    names = list(inspect.signature(function).parameters)
    if "inputs" not in names:
        raise ValueError(f"Missing required argument in `{name}`: `inputs`. It has {names}.")
    for argument in names:
        if argument not in allowed:
            raise ValueError(
                f"Unsupported argument in `{name}`: `{argument}`, supported arguments are "
                f"`{'`, `'.join(allowed)}`."
            )
    return names


def _map_shapes(function: Callable, shape: Any, dtype: Any) -> Any:
    """Apply a function to each shape in a structure and its dtype, which may be that of all."""
    if isinstance(shape, dict):
        parts: Any = shape.items()
    elif all(size is None or isinstance(size, int) for size in shape):
        return function(shape, dtype)
    else:
        parts = enumerate(shape)
    one = isinstance(dtype, str)
    mapped = {k: _map_shapes(function, part, dtype if one else dtype[k]) for k, part in parts}
    return mapped if isinstance(shape, dict) else type(shape)(mapped.values())


def _pair(updated: list, value: Any, variable: Any) -> None:
    """Add the new value of a variable to a list; what is no variable must be as it was."""
    if isinstance(variable, Variable):
        updated.append(value)
    elif type(value) is not type(variable) or value != variable:
        raise ValueError(
            "Structure mismatch: the structure of the state returned by `call_fn` does not match "
            f"the structure of the state at initialization time: got {value!r} for {variable!r}."
        )
