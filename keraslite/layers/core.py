"""Core layers: dense projections, embeddings, masks, and functions as layers."""

import base64
import inspect
import marshal
import math
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keraslite import activations, initializers, masking, ops, registry
from keraslite.layers.builtin import BuiltIn, LoRA
from keraslite.layers.input_spec import InputSpec
from keraslite.layers.layer import Layer


def _positive(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise ValueError(
            f"Received an invalid value for `{name}`, expected a positive integer. "
            f"Received: {name}={value}"
        )


def _linear(x: Any, kernel: Any, bias: Any, activation: Any) -> Any:
    """A projection whose activation runs in the same kernel where there is one for it."""
    if activation is None or activation is activations.linear:
        return ops.linear(x, kernel, bias)
    if activation is activations.relu:
        return ops.linear(x, kernel, bias, "relu")
    if activation is activations.gelu:
        return ops.linear(x, kernel, bias, "gelu")
    return activation(ops.linear(x, kernel, bias))


class Dense(LoRA):
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
        quantization_config: kept for Keras code.

    >>> Dense(3)(np.ones((2, 4), "float32")).shape == (2, 3)
    True
    """

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
        _positive("units", units)
        self._keep(locals())
        self.input_spec, self.supports_masking = InputSpec(min_ndim=2), True

    def build(self, input_shape: Any) -> None:
        """Make kernel and bias."""
        self.kernel = self._weight("kernel", (input_shape[-1], self.units))
        self.bias = self._weight("bias", (self.units,)) if self.use_bias else None
        self.input_spec = InputSpec(min_ndim=2, axes={-1: input_shape[-1]})
        self._build_lora()

    def call(self, inputs: Any) -> Any:
        """Project the last axis."""
        bias = None if self.bias is None else self.bias.value
        return _linear(inputs, self._effective(), bias, self.activation)


class EinsumDense(LoRA):
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
        quantization_config: kept for Keras code.

    >>> layer = EinsumDense("abc,cd->abd", output_shape=(None, 3), bias_axes="d")
    >>> layer(np.ones((2, 5, 4), "float32")).shape == (2, 5, 3)
    True
    """

    _saves_activity = True
    _unsaved = ("gptq_unpacked_column_size",)

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
        self._keep(locals())
        self.partial_output_shape = output_shape

    def build(self, input_shape: Any) -> None:
        """Make kernel and bias."""
        shape, bias_shape, axes = _einsum_shapes(
            self.equation, self.bias_axes, tuple(input_shape), self.output_shape
        )
        initializer = self.kernel_initializer
        if isinstance(initializer, initializers.VarianceScaling) and None in (
            initializer.input_axes, initializer.output_axes,
        ):  # fmt: skip
            config = initializer.get_config() | axes | {"seed": initializer.seed}
            initializer = type(initializer).from_config(config)
        self.kernel = self._weight("kernel", shape, initializer=initializer)
        self.bias = None if bias_shape is None else self._weight("bias", bias_shape)
        self.input_spec = InputSpec(ndim=len(input_shape))
        self._contracted = _as_product(self.equation)
        self._build_lora()

    def call(self, inputs: Any) -> Any:
        """Evaluate the equation; as one matrix product where it is one."""
        kernel, bias = self._effective(), None if self.bias is None else self.bias.value
        n = self._contracted
        outer = tuple(kernel.shape)[n or 0 :]
        if n is None or (bias is not None and tuple(bias.shape) != outer):
            out = ops.einsum(self.equation, inputs, kernel)
            out = out if bias is None else ops.add(out, bias)
            return out if self.activation is None else self.activation(out)
        free = ops.shape(inputs)[:-n]
        if n > 1:
            inputs = ops.reshape(inputs, (*free, math.prod(inputs.shape[-n:])))
        if n > 1 or len(outer) > 1:
            kernel = ops.reshape(kernel, (-1, math.prod(outer)))
            bias = bias if bias is None else ops.reshape(bias, (-1,))
        out = _linear(inputs, kernel, bias, self.activation)
        return ops.reshape(out, (*free, *outer)) if len(outer) > 1 else out


def _as_product(equation: str) -> int | None:
    """How many trailing input axes an equation contracts, if it is a plain matrix product."""
    left, out = equation.replace(" ", "").split("->")
    x, kernel = left.split(",")
    if x.startswith("...") and out.startswith("..."):
        x, out = x[3:], out[3:]
    for i in range(len(x)):
        free, bound = x[:i], x[i:]
        if kernel.startswith(bound) and out == free + kernel[len(bound) :]:
            return len(bound)
    return None


def _einsum_shapes(
    equation: str, bias_axes: str | None, shape: tuple, partial: tuple
) -> tuple[tuple, tuple | None, dict]:
    """The shapes of kernel and bias, and which axes of the kernel are inputs and outputs."""
    try:
        left, out = equation.replace(" ", "").split("->")
        x, kernel = left.split(",")
    except ValueError:
        raise ValueError(_BAD_EQUATION.format(equation)) from None
    letters = [s.replace("...", "") for s in (x, kernel, out)]
    begins, ends = x.startswith("...") and out.startswith("..."), x.endswith("...")
    if not all(s.isalpha() for s in letters) or ("..." in x + out and not (begins or ends)):
        raise ValueError(_BAD_EQUATION.format(equation))
    x, kernel, out = letters
    elided = len(shape) - len(x)
    inputs = dict(zip(x, shape[elided:] if begins else shape, strict=False))
    # The partial shape leaves out the first axis, which is the batch or part of the ellipsis.
    known = partial if begins and elided else (shape[0], *partial)
    outputs = dict(zip(out, known, strict=False))
    for letter in x:
        if letter in outputs and outputs[letter] not in (None, inputs[letter]):
            raise ValueError(
                f"Input shape and output shape do not match at shared dimension '{letter}'. Input "
                f"shape is {inputs[letter]}, and output shape is {outputs[letter]}."
            )
    for letter in (*out, *kernel):
        if letter not in (kernel + x if letter in out else out + x):
            raise ValueError(
                f"Dimension '{letter}' has no match in the input spec '{x}', "
                f"the weight spec '{kernel}' or the output spec '{out}'."
            )
    sizes = inputs | {letter: size for letter, size in outputs.items() if size is not None}
    if any(sizes.get(letter) is None for letter in kernel):
        raise ValueError(f"The sizes of the weight '{kernel}' must be known, got {sizes}.")
    axes = {
        "input_axes": [i for i, c in enumerate(kernel) if c not in out],
        "output_axes": [i for i, c in enumerate(kernel) if c in out],
    }
    bias = None
    if bias_axes is not None:
        if not set(bias_axes) <= set(out):
            raise ValueError(f"Bias axes '{bias_axes}' are not part of the output spec '{out}'.")
        first = min(out.index(c) for c in bias_axes)
        bias = tuple(sizes[c] if c in bias_axes else 1 for c in out[first:])
        bias += (1,) * (elided if ends and not begins else 0)
    return tuple(sizes[c] for c in kernel), bias, axes


_BAD_EQUATION = (
    "Invalid einsum equation '{}'. Equations must be in the form "
    "[X],[Y]->[Z], ...[X],[Y]->...[Z], or [X]...,[Y]->[Z]...."
)


class Embedding(LoRA):
    """A table of vectors, looked up by index.

    Input shape (batch, ...) of integers, output shape (batch, ..., output_dim).

    Args:
        input_dim: the number of rows.
        output_dim: the size of a row.
        embeddings_initializer: of the table.
        embeddings_regularizer: a penalty on it.
        embeddings_constraint: a projection of it.
        mask_zero: whether index 0 is padding, which later layers skip.
        weights: the table's values.
        lora_rank: train a low-rank update in place of the table.
        lora_alpha: the update is scaled by `lora_alpha / lora_rank`.
        quantization_config: kept for Keras code.

    >>> Embedding(10, 4)(np.array([[1, 2, 3]])).shape == (1, 3, 4)
    True
    """

    _adapted = "embeddings"
    _saves_activity = True

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        weights: Any = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        quantization_config: Any = None,
        **kwargs: Any,
    ):
        _positive("input_dim", input_dim)
        _positive("output_dim", output_dim)
        kwargs.pop("input_length", None)  # Keras 2 had it
        given = {k: v for k, v in locals().items() if k != "weights"}
        self._keep(given)
        self.supports_masking, self.autocast = mask_zero, False
        if weights is not None:
            self.build()
            one = isinstance(weights, list) and len(weights) == 1
            self.set_weights(weights if one else [weights])

    def build(self, input_shape: Any = None) -> None:
        """Make the table."""
        if not self.built:
            self.embeddings = self._weight("embeddings", (self.input_dim, self.output_dim))
            self._build_lora()

    def call(self, inputs: Any) -> Any:
        """Look up."""
        if ops.dtype(inputs) not in ("int32", "int64"):
            inputs = ops.cast(inputs, "int32")
        return ops.cast(ops.take(self._effective(), inputs, axis=0), self.compute_dtype)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Which indices are not 0."""
        return ops.not_equal(inputs, 0) if self.mask_zero else None


class ReversibleEmbedding(Embedding):
    """An embedding that also goes back, from vectors to logits over the rows.

    Source: https://arxiv.org/abs/1608.05859

    Args:
        input_dim: the number of rows.
        output_dim: the size of a row.
        tie_weights: whether the way back uses the same table, transposed.
        embeddings_initializer: of the table.
        embeddings_regularizer: a penalty on it.
        embeddings_constraint: a projection of it.
        mask_zero: whether index 0 is padding, which later layers skip.
        reverse_dtype: the dtype of the way back; the layer's by default.
        logit_soft_cap: bounds the logits softly: `cap * tanh(logits / cap)`.

    >>> layer = ReversibleEmbedding(10, 4)
    >>> layer(layer(np.array([[1, 2]])), reverse=True).shape == (1, 2, 10)
    True
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        tie_weights: bool = True,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        reverse_dtype: str | None = None,
        logit_soft_cap: float | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            input_dim, output_dim, embeddings_initializer, embeddings_regularizer,
            embeddings_constraint, mask_zero, **kwargs,
        )  # fmt: skip
        self.tie_weights, self.reverse_dtype = tie_weights, reverse_dtype
        self.logit_soft_cap = logit_soft_cap
        self._kl_kept += ("tie_weights", "reverse_dtype", "logit_soft_cap")

    def build(self, input_shape: Any = None) -> None:
        """Make the table, and a second one if they are not tied."""
        super().build(input_shape)
        if not self.tie_weights:
            shape = (self.output_dim, self.input_dim)
            self.reverse_embeddings = self.add_weight(
                name="reverse_embeddings", shape=shape, initializer=self.embeddings_initializer
            )

    def call(self, inputs: Any, reverse: bool = False) -> Any:
        """Look up; or, in reverse, score every row.

        Args:
            inputs: indices, or vectors (batch, ..., output_dim).
            reverse: whether to go back.
        """
        if not reverse:
            out = super().call(inputs)
            if self.mask_zero:
                masking.set_mask(out, ops.not_equal(inputs, 0))
            return out
        dtype = self.reverse_dtype or self.compute_dtype
        table = ops.transpose(self._effective()) if self.tie_weights else self.reverse_embeddings
        logits = ops.matmul(ops.cast(inputs, dtype), ops.cast(table, dtype))
        cap = self.logit_soft_cap
        return logits if cap is None else ops.multiply(ops.tanh(logits / cap), cap)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """None: `call` sets the mask, on the way there alone."""
        return None


class Identity(BuiltIn):
    """The inputs as they are.

    >>> float(Identity()(np.float32(2.0)))
    2.0
    """

    def __init__(self, **kwargs: Any):
        self._keep(locals())
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        """Give the inputs back."""
        return inputs


class Masking(BuiltIn):
    """Steps of a sequence that equal `mask_value` throughout are masked and set to zero.

    Args:
        mask_value: the value.

    >>> ops.convert_to_numpy(Masking(9.0)(np.array([[[9.0], [1.0]]]))).tolist()
    [[[0.0], [1.0]]]
    """

    def __init__(self, mask_value: Any = 0.0, **kwargs: Any):
        self._keep(locals())
        self.mask_value = registry.deserialize_keras_object(mask_value)
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        """Zero what is masked."""
        seen = ops.any(ops.not_equal(inputs, self.mask_value), axis=-1, keepdims=True)
        return ops.where(seen, inputs, 0)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Which steps differ from the value."""
        return ops.any(ops.not_equal(inputs, self.mask_value), axis=-1)


class Wrapper(BuiltIn):
    """The base of layers around another layer.

    Args:
        layer: the layer inside.
    """

    def __init__(self, layer: Layer, **kwargs: Any):
        if not isinstance(layer, Layer):
            raise ValueError(f"A {type(self).__name__} takes a layer, got {layer!r}.")
        self._keep(locals())

    def build(self, input_shape: Any = None) -> None:
        """Build the layer inside."""
        if not self.layer.built:
            self.layer.build(input_shape)


class Lambda(BuiltIn):
    """A function as a layer.

    A config of it holds a name, if the function has one and is registered, or else bytecode:
    reading that back is refused, because it would run whatever the config says.

    Args:
        function: takes the inputs, and `mask` and `training` if it names them.
        output_shape: the output shape without the batch axis; found by evaluation if None.
        mask: a mask of the outputs, or a function of (inputs, mask).
        arguments: keyword arguments for the function.

    >>> float(Lambda(lambda x: x * 2)(np.float32(2.0)))
    4.0
    """

    def __init__(
        self,
        function: Callable,
        output_shape: Any = None,
        mask: Any = None,
        arguments: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        arguments = arguments or {}
        self._keep(locals())
        self.supports_masking = mask is not None

    def call(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Any:
        """Run the function."""
        try:
            names = inspect.signature(self.function).parameters
        except ValueError:  # some builtins have no signature
            names = {}
        given = {"mask": mask, "training": training}
        extra = {name: value for name, value in given.items() if name in names}
        return self.function(inputs, **self.arguments, **extra)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """The mask given to the constructor."""
        return self.mask(inputs, mask) if callable(self.mask) else self.mask

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the layer again."""
        names, self._kl_kept = self._kl_kept, ()
        try:
            config = super().get_config()
        finally:
            self._kl_kept = names
        config["function"] = _write_function(self.function)
        for name in ("output_shape", "mask"):
            value = getattr(self, name)
            if value is not None:
                write = _write_function if callable(value) else registry.serialize_keras_object
                config[name] = value if isinstance(value, tuple) else write(value)
        return config | {"arguments": registry.serialize_keras_object(self.arguments)}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None, safe_mode: bool | None = None
    ) -> "Lambda":
        """The layer of a config.

        Args:
            config: what `get_config` gave.
            custom_objects: functions by name, beside the registered ones.
            safe_mode: False lets bytecode in the config run; None asks `registry.safe_mode`.
        """
        safe = registry.safe_mode.get() if safe_mode is None else safe_mode
        config = dict(config)
        with registry.custom_object_scope(custom_objects or {}):
            for name in ("function", "output_shape", "mask"):
                if isinstance(config.get(name), dict | str):
                    config[name] = _read_function(config[name], safe)
            return cls(**{k: registry.deserialize_keras_object(v) for k, v in config.items()})


def _write_function(function: Callable) -> Any:
    """A registered name, or a lambda's bytecode in the form that Keras uses."""
    if getattr(function, "__name__", None) != "<lambda>":
        return registry.serialize_keras_object(function)
    cells = function.__closure__
    return {
        "class_name": "__lambda__",
        "config": {
            "code": base64.encodebytes(marshal.dumps(function.__code__)).decode("ascii"),
            "defaults": function.__defaults__,
            "closure": cells and tuple(c.cell_contents for c in cells),
        },
    }


def _read_function(config: Any, safe: bool) -> Any:
    if isinstance(config, str):
        return registry.resolve(config)
    if config.get("class_name") == "function":  # as Keras writes a named one
        name = config["config"]
        return registry.resolve(name, config.get("module"), config.get("registered_name"))
    if config.get("class_name") != "__lambda__":
        return registry.deserialize_keras_object(config)
    if safe:
        raise ValueError(
            "This config holds a `Lambda` layer whose function is Python bytecode: loading it "
            "would let the file run arbitrary code. If you trust its source, pass "
            "safe_mode=False, or call keraslite.saving.enable_unsafe_deserialization(). Better: "
            "write a Layer, or register a named function."
        )
    inner = config["config"]
    code = marshal.loads(base64.decodebytes(inner["code"].encode("ascii")))
    defaults = inner["defaults"] and tuple(inner["defaults"])
    closure = inner["closure"] and tuple(types.CellType(v) for v in inner["closure"])
    names = {"keras": sys.modules["keraslite"], "ops": ops, "np": np}  # what lambdas mostly use
    return types.FunctionType(code, names, code.co_name, defaults, closure)
