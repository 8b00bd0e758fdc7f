"""Layers whose large weight can be kept in int8, with a scale for each output channel.

The weight is about `int8 / scale`. Inputs are quantized at each call, by the largest absolute
value along the axes that are summed over; the products of integers add up without rounding, and
the sum is divided by both scales. Gradients reach the inputs as if nothing had been rounded.
"""

from collections.abc import Iterator
from typing import Any

from keraslite import backend as backends
from keraslite import ops, quantizers, registry
from keraslite.dtype_policies import QuantizedDTypePolicy
from keraslite.layers.base.building import register_build_state
from keraslite.layers.base.layer import Layer
from keraslite.layers.base.lora import LoRA
from keraslite.layers.base.tracking import forget_variable
from keraslite.registry import public_class

_ABS_MAX = quantizers.AbsMaxQuantizer()


class Quantized(LoRA):
    """A layer with large weights that can be kept in int8."""

    def large_weights(self) -> tuple[str, ...]:
        """The weights that become int8."""
        return (self.adapted_weight,)

    def scale_axes(self, name: str) -> tuple[int, ...]:
        """Return the axes of a weight that share a scale."""
        raise NotImplementedError

    def scale_shape(self, name: str) -> tuple[int, ...]:
        """The shape in which a weight's scales are kept: one number for each output channel."""
        shape, reduced = self.__dict__[name].shape, self.scale_axes(name)
        return tuple(size for i, size in enumerate(shape) if i not in reduced)

    def stored_scale(self, name: str, scale: Any) -> Any:
        """Scales as a quantizer gives them, in the shape in which they are kept."""
        return scale.reshape(self.scale_shape(name))

    def broadcast_scale(self, name: str) -> Any:
        """The kept scales, in a shape that broadcasts with the weight."""
        return ops.expand_dims(getattr(self, f"{name}_scale").value, self.scale_axes(name))

    def add_large_weight(self, name: str, shape: tuple, **kwargs: Any) -> None:
        """Make a large weight; in int8, with scales beside it, where the policy says so."""
        quantized = self.quantization_mode is not None
        if quantized:
            kwargs = {"dtype": "int8", "initializer": "zeros", "trainable": False}
        setattr(self, name, self.add_named_weight(name, shape, **kwargs))
        if quantized:
            shape, name = self.scale_shape(name), f"{name}_scale"
            new = self.add_weight(shape=shape, initializer="ones", trainable=False, name=name)
            setattr(self, name, new)

    @property
    def inputs_quantizer(self) -> Any:
        """The quantizer of the inputs; None leaves them floats."""
        config = self.quantization_config
        return _ABS_MAX if config is None else config.activation_quantizer

    def quantize(
        self, mode: str | None = None, type_check: bool = True, config: Any = None
    ) -> None:
        """Keep the large weight in int8, from now on and in what is saved.

        Args:
            mode: "int8".
            type_check: whether classes derived from the package's are refused: their `call` may
                read the weight as floats.
            config: a `quantizers.Int8QuantizationConfig`, to choose the quantizers.

        Example:
            >>> layer = layers.Dense(2)
            >>> layer.build((None, 3))
            >>> layer.quantize("int8")
            >>> layer.kernel.dtype, layer.dtype_policy.name
            ('int8', 'int8_from_float32')
        """
        config = self.check_quantizable(mode, type_check, config)
        quantized = {}
        for name in self.large_weights():
            quantizer = config.weight_quantizer
            quantizer = quantizer or quantizers.AbsMaxQuantizer(axis=self.scale_axes(name))
            with backends.backend_scope("numpy"):
                quantized[name] = quantizer(self.__dict__[name].numpy())
        self.become_quantized(config)
        for name, (values, scale) in quantized.items():
            self.__dict__[name].assign(values)
            self.__dict__[f"{name}_scale"].assign(self.stored_scale(name, scale))

    def check_quantizable(self, mode: Any, type_check: bool = True, config: Any = None) -> Any:
        """The config that `quantize` would follow; an error if the layer cannot.

        Args:
            mode: as for `quantize`.
            type_check: as for `quantize`.
            config: as for `quantize`.
        """
        config = quantizers.resolve(mode, config)
        if not self.built:
            raise ValueError(
                f"Cannot quantize a layer that isn't yet built: {self.name!r}. Call it, or build "
                "it first."
            )
        if self.quantization_mode is not None:
            raise ValueError(
                f"Layer {self.name!r} is already quantized with "
                f"dtype_policy={self.dtype_policy.name!r}. Received: mode={config.mode}"
            )
        if type_check and not public_class(type(self)).__module__.startswith("keraslite."):
            Layer.quantize(self, config.mode)
        QuantizedDTypePolicy(config.mode, self.dtype_policy.name)  # refuses float16
        for name in self.large_weights():
            self.scale_axes(name)
        return config

    def become_quantized(self, config: Any) -> None:
        """Put empty int8 weights in the place of the float ones.

        Args:
            config: how the layer is quantized.
        """
        self.quantization_config = config
        self._kl_policy = QuantizedDTypePolicy(config.mode, self.dtype_policy.name)
        for name in self.large_weights():
            old = self.__dict__.pop(name)  # anew, so that its scales come next in order
            forget_variable(self, old)
            self.add_large_weight(name, old.shape)
            self.__dict__[name].path = old.path
            self.__dict__[f"{name}_scale"].path = f"{old.path}_scale"

    def effective_weight(self) -> Any:
        """The weight's value in floats, with the update if there is one."""
        if self.quantization_mode is None:
            return super().effective_weight()
        name = self.adapted_weight
        weight = ops.cast(self.__dict__[name].value, self.variable_dtype)
        weight = ops.divide(weight, self.broadcast_scale(name))
        return ops.add(weight, self.weight_update()) if self.lora_enabled else weight

    def finish_call(self, inputs: Any, out: Any, bias: Any = None, activation: Any = None) -> Any:
        """Return the output of a call from the product with int8: add update and bias, activate."""
        if self.lora_enabled:
            a, b = (getattr(self, f"lora_{self.adapted_weight}_{side}").value for side in "ab")
            part = ops.multiply(self.apply_update(inputs, a, b), self.lora_alpha / self.lora_rank)
            out = ops.cast(ops.add(out, part), self.compute_dtype)
        out = out if bias is None else ops.add(out, bias)
        return out if activation is None else activation(out)

    def apply_update(self, inputs: Any, a: Any, b: Any) -> Any:
        """The product with the two matrices of the update."""
        return ops.matmul(ops.matmul(inputs, a), b)


def int8_linear(x: Any, kernel: Any, scale: Any, quantizer: Any = _ABS_MAX) -> Any:
    """`x @ (kernel / scale)` for a kernel of int8, with the gradient of that for `x`.

    Args:
        x: floats (..., inputs).
        kernel: int8 (..., inputs, outputs).
        scale: (..., outputs), for each output.
        quantizer: what makes integers of `x`; None multiplies floats.

    >>> kernel = np.array([[127], [64]], "int8")
    >>> x, scale = np.array([[1.0, 4.0]], "float32"), np.array([127.0], "float32")
    >>> print(int8_linear(x, kernel, scale).round(2))
    [[3.02]]
    """
    if quantizer is None:
        return ops.divide(ops.matmul(x, ops.cast(kernel, ops.dtype(x))), scale)

    def run(x: Any, kernel: Any, scale: Any) -> tuple[Any, Any]:
        def gradient(upstream: Any) -> tuple[Any, None, None]:
            transposed = ops.swapaxes(ops.cast(kernel, ops.dtype(upstream)), -1, -2)
            return ops.matmul(ops.divide(upstream, scale), transposed), None, None

        values, factor = quantizer(x, axis=-1)
        sums = ops.cast(ops.matmul(values, kernel), ops.dtype(x))
        return ops.divide(sums, ops.multiply(factor, scale)), gradient

    return ops.custom_gradient(run)(x, kernel, scale)


def _configs_below(layer: Layer) -> dict[str, Any]:
    """Return how the layers inside a layer were quantized, by their paths."""
    below = _quantized_below(layer)
    return {p: x.quantization_config for p, x in below if x.quantization_mode is not None}


def _quantize_below(layer: Layer, configs: dict[str, Any]) -> None:
    """Give the layers that were quantized empty int8 weights again, for a file to fill."""
    for path, below in _quantized_below(layer):
        if path in configs and below.built and below.quantization_mode is None:
            config = registry.deserialize_keras_object(configs[path])
            below.become_quantized(config or quantizers.Int8QuantizationConfig())


def _quantized_below(layer: Layer, prefix: str = "") -> Iterator[tuple[str, "Quantized"]]:
    for name, child in layer.own_layers():
        if isinstance(child, Quantized):
            yield prefix + name, child
        yield from _quantized_below(child, f"{prefix}{name}/")


register_build_state("quantized", _configs_below, _quantize_below)
