"""Bidirectional: a recurrent layer that reads a sequence forward, and one that reads it back."""

from collections.abc import Sequence
from typing import Any

from keraslite import ops, tree
from keraslite.layers.base.config_layer import ConfigLayer
from keraslite.layers.base.layer import Layer
from keraslite.layers.base.masks import accepts_mask
from keraslite.registry import custom_object_scope, public_class, serialize_keras_object
from keraslite.typing import Shape, Tensor

_MODES = ("sum", "mul", "ave", "concat", None)
_COMMON = ("stateful", "return_sequences", "return_state")


def _copy(layer: Layer, direction: str, **changes: Any) -> Any:
    """A layer of the same config with other weights, named after a direction."""
    name = f"{direction}_{layer.name.removeprefix(f'{direction}_')}"
    classes = {public_class(type(x)) for x in layer.flatten_layers()}
    with custom_object_scope({cls.__name__: cls for cls in classes}):  # users' cells, unregistered
        config = _unbuilt(layer.get_config()) | {"name": name} | changes
        return public_class(type(layer)).from_config(config)


def _unbuilt(config: Any) -> Any:
    """A config of layers that are not built yet."""
    if isinstance(config, dict):
        return {k: _unbuilt(v) for k, v in config.items() if k != "build_config"}
    return [_unbuilt(v) for v in config] if isinstance(config, list) else config


class Bidirectional(ConfigLayer):
    """Two recurrent layers: one reads a sequence forward, the other backward.

    Inputs (batch, steps, features). What the two give is merged; with `return_state` the last
    states of the first and of the second stand behind it.

    Args:
        layer: the forward layer: an RNN, LSTM ..., or one with its `go_backwards`,
            `return_sequences`, `return_state` and `stateful`. A copy of it is taken.
        merge_mode: "concat", "sum", "mul", "ave", or None for a pair of outputs.
        weights: arrays that the weights begin with, the forward layer's and the backward one's.
        backward_layer: the backward layer; by default a copy of the forward one.

    Raises:
        ValueError: the layers do not go together, or there is no such mode.

    >>> from keraslite.layers import LSTM
    >>> x = np.ones((2, 5, 3), "float32")
    >>> Bidirectional(LSTM(4, return_sequences=True))(x).shape == (2, 5, 8)
    True
    """

    def __init__(
        self,
        layer: Layer,
        merge_mode: str | None = "concat",
        weights: Sequence | None = None,
        backward_layer: Layer | None = None,
        **kwargs: Any,
    ):
        for name, value in (("layer", layer), ("backward_layer", backward_layer)):
            if not isinstance(value, Layer) and not (name == "backward_layer" and value is None):
                raise ValueError(f"Bidirectional: `{name}` must be a layer, got {value!r}.")
        if merge_mode not in _MODES:
            raise ValueError(f"Argument `merge_mode` must be one of {_MODES}, got {merge_mode!r}.")
        Layer.__init__(self, **kwargs)
        self.merge_mode, self._initial_weights = merge_mode, weights
        self.forward_layer = _copy(layer, "forward")
        if backward_layer is None:
            backward_layer = _copy(layer, "backward", go_backwards=True)
        self.backward_layer: Any = backward_layer
        self._check_layers()
        for inner in (self.forward_layer, self.backward_layer):
            if hasattr(layer, "use_cudnn"):
                inner.use_cudnn = layer.use_cudnn
            if hasattr(inner, "zero_output_for_mask"):  # else masked steps would be merged
                inner.zero_output_for_mask = inner.return_sequences
        self.stateful, self.return_state = layer.stateful, layer.return_state
        self.return_sequences = layer.return_sequences
        self.supports_masking, self.input_spec = True, layer.input_spec

    def _check_layers(self) -> None:
        forward, backward = self.forward_layer, self.backward_layer
        if forward.go_backwards == backward.go_backwards:
            raise ValueError(
                "The forward and the backward layer must differ in `go_backwards`, got "
                f"{forward.go_backwards} for both."
            )
        for name in _COMMON:
            values = getattr(forward, name), getattr(backward, name)
            if values[0] != values[1]:
                raise ValueError(
                    f"The forward and the backward layer must have the same `{name}`, got "
                    f"{values[0]} and {values[1]}."
                )

    def build(self, sequences_shape: Shape, initial_state_shape: Any = None) -> None:
        """Build both layers."""
        for layer in (self.forward_layer, self.backward_layer):
            if not layer.built:
                layer.build(sequences_shape)
        if self._initial_weights is not None:
            half = len(self._initial_weights) // 2
            self.forward_layer.set_weights(self._initial_weights[:half])
            self.backward_layer.set_weights(self._initial_weights[half:])
            self._initial_weights = None

    def call(
        self,
        sequences: Tensor,
        initial_state: Any = None,
        mask: Tensor | None = None,
        training: bool | None = None,
    ) -> Any:
        """Run both layers.

        Args:
            sequences: (batch, steps, ...).
            initial_state: a list of the states to begin with, of the forward layer and then of
                the backward one.
            mask: (batch, steps), False at the steps that are passed over.
            training: whether there is dropout.

        Returns:
            The merged outputs, or a pair of them without `merge_mode`; with `return_state` a tuple
            of these and the last states.
        """
        halves: tuple = (None, None)
        if initial_state is not None:
            half = len(initial_state) // 2
            halves = initial_state[:half], initial_state[half:]
        layers = self.forward_layer, self.backward_layer
        results = []
        for layer, state in zip(layers, halves, strict=True):
            options: dict[str, Any] = {"mask": mask} if accepts_mask(layer) else {}
            options |= {} if state is None else {"initial_state": state}
            results.append(layer(sequences, training=training, **options))
        outputs = [r[0] if self.return_state else r for r in results]
        forward, backward = (ops.cast(x, self.compute_dtype) for x in outputs)
        if self.return_sequences:
            backward = ops.flip(backward, axis=1)
        merged = self._merge(forward, backward)
        if not self.return_state:
            return merged
        states = [s for r in results for s in r[1:]]
        return (*merged, *states) if self.merge_mode is None else (merged, *states)

    def _merge(self, forward: Any, backward: Any) -> Any:
        if self.merge_mode is None:
            return forward, backward
        if self.merge_mode == "concat":
            return ops.concatenate([forward, backward], axis=-1)
        if self.merge_mode == "mul":
            return ops.multiply(forward, backward)
        total = ops.add(forward, backward)
        return total if self.merge_mode == "sum" else ops.divide(total, 2)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """The mask of the outputs of all steps; last outputs and states have none."""
        mask = tree.flatten(previous_mask)[0] if self.return_sequences else None
        masks = [mask] if self.merge_mode else [mask, mask]
        return masks[0] if len(masks) == 1 and not self.return_state else masks

    # -- states and configs -------------------------------------------------------------------

    @property
    def states(self) -> tuple | None:
        """The states of stateful layers, the forward one's and the backward one's."""
        if self.forward_layer.states and self.backward_layer.states:
            return (*self.forward_layer.states, *self.backward_layer.states)
        return None

    def reset_state(self) -> None:
        """Set the states of both layers to zero."""
        if not self.stateful:
            raise AttributeError(f"Layer {self.name!r} is not stateful and has no states to reset.")
        self.forward_layer.reset_state()
        self.backward_layer.reset_state()

    def reset_states(self) -> None:
        """The same as `reset_state`."""
        self.reset_state()

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the layer again."""
        return super().get_config() | {
            "merge_mode": self.merge_mode,
            "layer": serialize_keras_object(self.forward_layer),
            "backward_layer": serialize_keras_object(self.backward_layer),
        }
