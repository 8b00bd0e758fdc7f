"""Core layers: dense projections, masking, wrappers."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from keraslite import activations, initializers, ops, registry
from keraslite.layers.activation import ELEMENTWISE
from keraslite.layers.base.config_layer import ConfigLayer, check_positive
from keraslite.layers.base.input_spec import InputSpec
from keraslite.layers.base.layer import Layer
from keraslite.layers.base.lora import AdaptedWeight
from keraslite.layers.base.modes import frozen_linear, int8_linear
from keraslite.layers.base.quantized import Quantized
from keraslite.layers.equation import Equation, contracted_axes, einsum_shapes
from keraslite.typing import Shape, Tensor


def _linear(x: Any, kernel: Any, bias: Any, activation: Any) -> Any:
    """A projection whose activation runs in the same kernel where there is one for it."""
    if activation is None or activation is activations.linear:
        return ops.linear(x, kernel, bias)
    if activation is activations.relu:
        return ops.linear(x, kernel, bias, "relu")
    if activation is activations.gelu:
        return ops.linear(x, kernel, bias, "gelu")
    return activation(ops.linear(x, kernel, bias))


class Dense(Quantized):
    """`activation(inputs @ kernel + bias)`.

    Input shape (batch, ..., inputs), output shape (batch, ..., units).

    Args:
        units: the size of the outputs.
        activation: a name or function.
        use_bias: whether there is a bias.
        kernel_initializer: of the kernel, of shape (inputs, units).
        bias_initializer: of the bias, of shape (units,).
        kernel_regularizer: a penalty on the kernel.
        bias_regularizer: a penalty on the bias.
        activity_regularizer: a penalty on the outputs.
        kernel_constraint: a projection of the kernel.
        bias_constraint: a projection of the bias.
        lora_rank: train a low-rank update in place of the kernel.
        lora_alpha: the update is scaled by `lora_alpha / lora_rank`.
        quantization_config: how a layer of a quantized dtype policy came to be.

    >>> Dense(3)(np.ones((2, 4), "float32")).shape == (2, 3)
    True
    """

    kernel = AdaptedWeight()

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        quantization_config: Any = None,
        **kwargs: Any,
    ):
        check_positive("units", units)
        self.set_arguments(locals())
        self.input_spec, self.supports_masking = InputSpec(min_ndim=2), True

    def build(self, input_shape: Shape) -> None:
        """Make kernel and bias."""
        self.add_large_weight("kernel", (input_shape[-1], self.units))
        self.bias = self.add_named_weight("bias", (self.units,)) if self.use_bias else None
        self.input_spec = InputSpec(min_ndim=2, axes={-1: input_shape[-1]})
        self.build_lora()

    def call(self, inputs: Tensor) -> Tensor:
        """Project the last axis."""
        bias = None if self.bias is None else self.bias.value
        if (mode := self.weight_mode) is None:
            return _linear(inputs, self.effective_weight(), bias, self.activation)
        return self.finish_call(inputs, mode.product(self, inputs), bias, self.activation)

    def multiply(self, inputs: Any, weight: Any) -> Any:
        return ops.linear(inputs, weight)

    def multiply_frozen(
        self, inputs: Any, weight_of: Any, parts: tuple, product: Any = None
    ) -> Any:
        return frozen_linear(inputs, weight_of, parts, product)

    def int8_product(self, inputs: Any) -> Any:
        kernel, scale = self.base_weight.value, self.kernel_scale.value
        return int8_linear(inputs, kernel, scale, self.inputs_quantizer)

    def known_dims(self, dims: tuple) -> tuple | None:
        """The sizes of the output, which has `units` in the place of the last axis."""
        plain = self.activation is None or self.activation in ELEMENTWISE
        called = type(self).call is Dense.call
        return (*dims[:-1], self.units) if called and plain else None

    def scale_axes(self, name: str) -> tuple[int, ...]:
        return (0,)


class EinsumDense(Quantized):
    """`activation(einsum(equation, inputs, kernel) + bias)`.

    Args:
        equation: of the form "ab,bc->ac", "...ab,bc->...ac" or "ab...,bc->ac...".
        output_shape: the shape of the output without the batch axis and the axes of an ellipsis;
            None for the sizes that the input tells.
        activation: a name or function.
        bias_axes: the output axes, by letter, along which there is a bias.
        kernel_initializer: of the kernel, whose shape the equation gives.
        bias_initializer: of the bias.
        kernel_regularizer: a penalty on the kernel.
        bias_regularizer: a penalty on the bias.
        kernel_constraint: a projection of the kernel.
        bias_constraint: a projection of the bias.
        lora_rank: train a low-rank update in place of the kernel.
        lora_alpha: the update is scaled by `lora_alpha / lora_rank`.
        gptq_unpacked_column_size: kept for Keras code.
        quantization_config: how a layer of a quantized dtype policy came to be.

    >>> layer = EinsumDense("abc,cd->abd", output_shape=(None, 3), bias_axes="d")
    >>> layer(np.ones((2, 5, 4), "float32")).shape == (2, 5, 3)
    True
    """

    saves_activity_regularizer = True
    zero_point_name = "zero_point"
    unsaved_arguments = (*Quantized.unsaved_arguments, "gptq_unpacked_column_size")
    kernel = AdaptedWeight()

    def __init__(
        self,
        equation: str,
        output_shape: int | Sequence[int | None],
        activation: Any = None,
        bias_axes: str | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        gptq_unpacked_column_size: int | None = None,
        quantization_config: Any = None,
        **kwargs: Any,
    ):
        output_shape = (output_shape,) if isinstance(output_shape, int) else tuple(output_shape)
        self.set_arguments(locals())
        self.partial_output_shape = output_shape

    def build(self, input_shape: Shape) -> None:
        """Make kernel and bias."""
        shape, bias_shape, axes = einsum_shapes(
            self.equation, self.bias_axes, tuple(input_shape), self.output_shape
        )
        initializer = self.kernel_initializer
        if isinstance(initializer, initializers.VarianceScaling) and None in (
            initializer.input_axes, initializer.output_axes,
        ):  # fmt: skip
            config = initializer.get_config() | axes | {"seed": initializer.seed}
            initializer = type(initializer).from_config(config)
        self.input_spec = InputSpec(ndim=len(input_shape))
        self.add_large_weight("kernel", shape, initializer=initializer)
        self.bias = None if bias_shape is None else self.add_named_weight("bias", bias_shape)
        self._contracted = contracted_axes(self.equation)
        self.build_lora()

    def call(self, inputs: Tensor) -> Tensor:
        """Evaluate the equation; as one matrix product where it is one."""
        bias = None if self.bias is None else self.bias.value
        if (mode := self.weight_mode) is not None:
            return self.finish_call(inputs, mode.product(self, inputs), bias, self.activation)
        kernel, n = self.effective_weight(), self._contracted
        outer = tuple(kernel.shape)[n or 0 :]
        if n is None or (bias is not None and tuple(bias.shape) != outer):
            out = ops.einsum(self.equation, inputs, kernel)
            out = out if bias is None else ops.add(out, bias)
            return out if self.activation is None else self.activation(out)
        kernel = ops.reshape(kernel, (-1, math.prod(outer))) if n + len(outer) > 2 else kernel
        bias = ops.reshape(bias, (-1,)) if bias is not None and len(outer) > 1 else bias
        return self._by_rows(inputs, lambda x: _linear(x, kernel, bias, self.activation))

    def _by_rows(self, inputs: Any, product: Any) -> Any:
        """Apply a product of matrices to inputs that the kernel is summed with at their end."""
        n = self._contracted
        free, outer = ops.shape(inputs)[:-n], self.weight_shape("kernel")[n:]
        if n > 1:
            inputs = ops.reshape(inputs, (*free, math.prod(inputs.shape[-n:])))
        out = product(inputs)
        return ops.reshape(out, (*free, *outer)) if len(outer) > 1 else out

    def multiply(self, inputs: Any, weight: Any) -> Any:
        if self._contracted is None:
            return ops.einsum(self.equation, inputs, weight)
        kernel = ops.reshape(weight, (-1, math.prod(weight.shape[self._contracted :])))
        return self._by_rows(inputs, lambda x: ops.linear(x, kernel))

    def multiply_frozen(
        self, inputs: Any, weight_of: Any, parts: tuple, product: Any = None
    ) -> Any:
        if self._contracted is None:
            return self.multiply(inputs, weight_of(*parts))
        columns = math.prod(self.weight_shape("kernel")[self._contracted :])

        def kernel_of(*parts: Any) -> Any:
            return ops.reshape(weight_of(*parts), (-1, columns))

        return self._by_rows(inputs, lambda x: frozen_linear(x, kernel_of, parts, product))

    def int8_product(self, inputs: Any) -> Any:
        multiply = partial(int8_linear, quantizer=self.inputs_quantizer)
        kernel, scale = self.base_weight.value, self.kernel_scale.value
        return self._axes().apply(inputs, kernel, scale, multiply)

    def apply_update(self, inputs: Any, a: Any, b: Any) -> Any:
        if self._axes().low_rank:
            return ops.matmul(ops.einsum(self.equation, inputs, a), b)
        return ops.einsum(self.equation, inputs, ops.matmul(a, b))

    def _axes(self) -> Equation:
        axes = self.__dict__.get("_kl_axes")
        if axes is None:
            axes = self._kl_axes = Equation(self.equation, self.input_spec.ndim)
        return axes

    def scale_axes(self, name: str) -> tuple[int, ...]:
        return self._axes().reduced

    def scale_shape(self, name: str) -> tuple[int, ...]:
        shape = self.weight_shape("kernel")
        return tuple(1 if i < 0 else shape[i] for i in self._axes().places)

    def stored_scale(self, name: str, scale: Any) -> Any:
        outer = [i for i in self._axes().places if i >= 0]
        return super().stored_scale(name, scale.transpose((*self._axes().reduced, *outer)))

    def broadcast_scale(self, name: str) -> Any:
        outer, shape = [i for i in self._axes().places if i >= 0], self.weight_shape("kernel")
        scale = ops.reshape(self.kernel_scale.value, [shape[i] for i in outer])
        scale = ops.transpose(scale, [outer.index(i) for i in sorted(outer)])
        return ops.expand_dims(scale, self._axes().reduced)

    def matrix_shape(self, name: str) -> tuple[int, int]:
        if self._axes().shared:
            raise NotImplementedError(
                f"Layer {self.name!r}: the kernel of {self.equation!r} is no matrix, as it shares "
                "an axis with inputs and outputs."
            )
        return super().matrix_shape(name)

    def as_matrix(self, name: str, weight: Any) -> Any:
        return self._axes().matrix_of(weight)

    def from_matrix(self, name: str, matrix: Any) -> Any:
        return self._axes().kernel_of(matrix, self.weight_shape(name))

    def inputs_as_rows(self, inputs: Any) -> Any:
        return self._axes().rows_of(inputs, self.matrix_shape("kernel")[0])

    def summed_input_axes(self) -> tuple[int, ...]:
        return self._axes().summed_inputs

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the layer again."""
        size = self.gptq_unpacked_column_size
        if self.quantization_mode == "gptq" and self.built:
            size = self.matrix_shape("kernel")[1]
        return super().get_config() | ({"gptq_unpacked_column_size": size} if size else {})


class Identity(ConfigLayer):
    """The inputs as they are.

    >>> float(Identity()(np.float32(2.0)))
    2.0
    """

    def __init__(self, **kwargs: Any):
        self.set_arguments(locals())
        self.supports_masking = True

    def call(self, inputs: Tensor) -> Tensor:
        """Return the inputs."""
        return inputs


class Masking(ConfigLayer):
    """Steps of a sequence that equal `mask_value` throughout are masked and set to zero.

    Args:
        mask_value: the value.

    >>> ops.convert_to_numpy(Masking(9.0)(np.array([[[9.0], [1.0]]]))).tolist()
    [[[0.0], [1.0]]]
    """

    def __init__(self, mask_value: Any = 0.0, **kwargs: Any):
        self.set_arguments(locals())
        self.mask_value = registry.deserialize_keras_object(mask_value)
        self.supports_masking = True

    def call(self, inputs: Tensor) -> Tensor:
        """Set masked steps to zero."""
        valid = ops.any(ops.not_equal(inputs, self.mask_value), axis=-1, keepdims=True)
        return ops.where(valid, inputs, 0)

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Any:
        """Which steps differ from the value."""
        return ops.any(ops.not_equal(inputs, self.mask_value), axis=-1)


class Wrapper(ConfigLayer):
    """The base of layers around another layer.

    Args:
        layer: the layer inside.
    """

    def __init__(self, layer: Layer, **kwargs: Any):
        if not isinstance(layer, Layer):
            raise ValueError(f"A {type(self).__name__} takes a layer, got {layer!r}.")
        self.set_arguments(locals())

    def build(self, input_shape: Any = None) -> None:
        """Build the layer inside."""
        if not self.layer.built:
            self.layer.build(input_shape)
