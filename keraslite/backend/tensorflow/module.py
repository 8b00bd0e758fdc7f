"""Layers and optimizers as tf.train.Checkpoint sees them: it saves and restores their state."""

from typing import Any

import tensorflow as tf
from tensorflow.python.trackable.base import Trackable


class _Checkpointed(Trackable):
    """The base of objects whose `_kl_state` is part of a checkpoint.

    State is found by looking at the object: TensorFlow would have noted it where it was set.
    """

    def _kl_state(self) -> dict[str, Any]:
        """Return the variables and objects inside by name; subclasses write it."""
        raise NotImplementedError

    def _trackable_children(self, save_type: str = "checkpoint", **kwargs: Any) -> dict[str, Any]:
        return super()._trackable_children(save_type, **kwargs) | self._kl_state()

    def _lookup_dependency(self, name: str, cached_dependencies: Any = None) -> Any:
        return (cached_dependencies or self._kl_state()).get(name)

    def _kl_state_added(self) -> None:
        """Make new variables in the scope of a strategy, or with the values of a checkpoint.

        The checkpoint was restored before they were made; the strategy has them on its devices.
        """
        if tf.distribute.has_strategy():
            self._kl_state()
        if self.__dict__.get("_self_unconditional_deferred_dependencies"):
            for name, child in self._kl_state().items():
                self._handle_deferred_dependencies(name, child)


class _Variables(tf.Module):
    """The variables of a layer as attributes, which are what tf.Module looks at."""

    __slots__ = ("_layer",)
    name = "variables"

    def __init__(self, layer: Any) -> None:
        object.__setattr__(self, "_layer", layer)

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]  # what `vars` gives tf.Module
        return {name: variable._kl_raw for name, variable in self._layer.own_variables()}

    def __reduce__(self) -> tuple:
        return _Variables, (self._layer,)


class TensorFlowLayer(_Checkpointed, tf.Module):
    """The base of layers on TensorFlow."""

    def _init_backend(self) -> None:
        self.__dict__["_kl_variables"] = _Variables(self)

    # Plain attributes: tf.Module's bookkeeping is not wanted.
    __setattr__ = object.__setattr__
    __delattr__ = object.__delattr__

    def _kl_state(self) -> dict[str, Any]:
        """Return the layer's variables, the layers inside and the optimizer."""
        state: dict[str, Any] = dict(self.own_layers())
        state |= {name: v._kl_raw for name, v in self.own_variables()}
        optimizer = self.__dict__.get("optimizer")
        return state | {"optimizer": optimizer} if isinstance(optimizer, Trackable) else state

    @property
    def _default_save_signature(self) -> Any:
        """The function that `tf.saved_model.save` writes for a model: its outputs for inputs."""
        try:
            inputs = self.input  # type: ignore[attr-defined]  # of a functional model
        except AttributeError:
            symbolic = getattr(self, "symbolic_inputs", list)()
            if not symbolic:  # no model, or one of several arguments
                return None
            (inputs,) = symbolic

        def serve(inputs: Any) -> Any:
            return self(inputs, training=False)  # type: ignore[operator]

        def spec_of(x: Any, name: str | None = None) -> Any:
            if isinstance(x, dict):  # which names its values
                return {key: spec_of(value, key) for key, value in x.items()}
            if isinstance(x, list | tuple):
                return type(x)(map(spec_of, x))
            return tf.TensorSpec(x.shape, x.dtype, name)

        spec = spec_of(inputs)
        return tf.function(serve, input_signature=[spec], autograph=False)


class TensorFlowOptimizer(_Checkpointed):
    """The base of optimizers on TensorFlow."""

    def _kl_state(self) -> dict[str, Any]:
        """Return its variables, by number (their names have layers' in them), and those inside."""
        inner: dict[str, Any] = {}
        for name, value in self.__dict__.items():
            several = value if isinstance(value, list) else [value]
            for i, x in enumerate(several):
                if isinstance(x, TensorFlowOptimizer):
                    inner[f"{name}/{i}"] = x
        theirs = {id(v) for optimizer in inner.values() for v in optimizer.variables}
        own = [v for v in self.variables if id(v) not in theirs]
        return inner | {f"variables/{i}": v._kl_raw for i, v in enumerate(own)}
