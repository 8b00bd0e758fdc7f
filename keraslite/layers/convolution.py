"""Convolution layers: plain, depthwise, separable, transposed; in one to three dimensions."""

from typing import Any

from keraslite import activations, ops
from keraslite.declare import REQUIRED, declare
from keraslite.layers.activation import ELEMENTWISE
from keraslite.layers.base.config_layer import ConfigLayer, to_sizes
from keraslite.layers.base.input_spec import InputSpec
from keraslite.layers.base.known_dims import window_dims
from keraslite.layers.base.lora import AdaptedWeight, LoRA
from keraslite.typing import Shape, Tensor

_WORDS = ("valid", "same")


def _padding(value: Any, words: tuple[str, ...]) -> Any:
    if isinstance(value, list | tuple):
        return value
    if value.lower() not in words:
        raise ValueError(f"The `padding` argument must be one of {words}. Received: {value}")
    return value.lower()


class _Convolution(ConfigLayer):
    """The base of convolutions; subclasses differ in their kernels and in the operation."""

    _rank = 0
    saves_activity_regularizer = True

    def setup(self, **arguments: Any) -> None:
        rank = self._rank
        causal = ("causal",) if isinstance(self, _Plain) and rank == 1 else ()
        arguments["padding"] = _padding(arguments["padding"], (*_WORDS, *causal))
        for name in ("kernel_size", "strides", "dilation_rate"):
            arguments[name] = to_sizes(arguments[name], rank, name)
        for name in ("filters", "groups", "depth_multiplier"):
            if arguments.get(name) is not None and arguments[name] <= 0:
                raise ValueError(
                    f"Invalid value for argument `{name}`. Expected a strictly positive value. "
                    f"Received {name}={arguments[name]}."
                )
        strided = max(arguments["strides"]) > 1 and max(arguments["dilation_rate"]) > 1
        if strided and isinstance(self, _Plain | _Transposed):
            raise ValueError(
                "`strides > 1` not supported in conjunction with `dilation_rate > 1`. Received: "
                f"strides={arguments['strides']} and dilation_rate={arguments['dilation_rate']}"
            )
        self.set_arguments(arguments)
        self.rank, self.input_spec = rank, InputSpec(min_ndim=rank + 2)

    def build(self, input_shape: Shape) -> None:
        """Make the kernels and the bias."""
        axis = -1 if self.data_format == "channels_last" else 1
        channels = input_shape[axis]
        if channels is None:
            raise ValueError(f"The channels of the input must be known, got {input_shape}.")
        self.input_spec = InputSpec(min_ndim=self.rank + 2, axes={axis: channels})
        outputs = self._kernels(channels)
        self._channels = outputs
        self.bias = self.add_named_weight("bias", (outputs,)) if self.use_bias else None

    def call(self, inputs: Tensor) -> Tensor:
        """Convolve."""
        arguments = {
            "strides": self.strides, "padding": self.padding,
            "data_format": self.data_format, "dilation_rate": self.dilation_rate,
        }  # fmt: skip
        return self._convolve(inputs, arguments)

    def _finish(self, out: Tensor) -> Tensor:
        """Add the bias, and activate."""
        if self.bias is not None:
            bias = self.bias.value
            if self.data_format == "channels_first":
                bias = ops.reshape(bias, (-1, *(1,) * self.rank))
            out = ops.add(out, bias)
        return self._activate(out)

    def _activate(self, out: Tensor) -> Tensor:
        if self.activation is None or self.activation is activations.linear:
            return out
        return self.activation(out)

    def known_dims(self, dims: tuple) -> tuple | None:
        """The sizes of the output by arithmetic."""
        channels = getattr(self, "_channels", None)
        first = self.data_format == "channels_first"
        sizes = dims[2:] if first else dims[1:-1]
        plain = self.activation is None or self.activation in ELEMENTWISE
        called = type(self).call is _Convolution.call
        if channels is None or len(sizes) != self.rank or not (plain and called):
            return None
        out = window_dims(sizes, self.kernel_size, self.strides, self.padding, self.dilation_rate)
        if out is None:
            return None
        return (dims[0], channels, *out) if first else (dims[0], *out, channels)


class _Plain(_Convolution, LoRA):
    kernel = AdaptedWeight()

    def setup(self, **arguments: Any) -> None:
        super().setup(**arguments)
        if self.filters is not None and self.filters % self.groups:
            raise ValueError(
                "The number of filters must be evenly divisible by the number of groups. Received: "
                f"groups={self.groups}, filters={self.filters}."
            )

    def build(self, input_shape: Shape) -> None:
        """Make the kernel and the bias."""
        super().build(input_shape)
        self.build_lora()

    def _kernels(self, channels: int) -> int:
        if channels % self.groups:
            raise ValueError(
                "The number of input channels must be evenly divisible by the number of groups. "
                f"Received groups={self.groups}, but the input has {channels} channels."
            )
        shape = (*self.kernel_size, channels // self.groups, self.filters)
        self.kernel = self.add_named_weight("kernel", shape)
        return self.filters

    def _convolve(self, inputs: Any, arguments: dict[str, Any]) -> Any:
        if self.padding == "causal":  # as much as the kernel reaches, all of it before
            before = (self.dilation_rate[0] * (self.kernel_size[0] - 1), 0)
            first = self.data_format == "channels_first"
            pads = ((0, 0), (0, 0), before) if first else ((0, 0), before, (0, 0))
            inputs, arguments = ops.pad(inputs, pads), arguments | {"padding": "valid"}
        kernel = self.effective_weight()
        if self.bias is None:
            return self._activate(ops.conv(inputs, kernel, **arguments))
        fused = self.activation is activations.relu
        arguments |= {"activation": "relu" if fused else None}
        out = ops.biased_conv(inputs, kernel, self.bias.value, **arguments)
        return out if fused else self._activate(out)


class _Depthwise(_Convolution):
    def _kernels(self, channels: int) -> int:
        shape = (*self.kernel_size, channels, self.depth_multiplier)
        self.kernel = self.add_named_weight("kernel", shape, prefix="depthwise")
        return channels * self.depth_multiplier

    def _convolve(self, inputs: Any, arguments: dict[str, Any]) -> Any:
        return self._finish(ops.depthwise_conv(inputs, self.kernel.value, **arguments))


class _Separable(_Convolution):
    def _kernels(self, channels: int) -> int:
        shape = (*self.kernel_size, channels, self.depth_multiplier)
        self.depthwise_kernel = self.add_named_weight("depthwise_kernel", shape, prefix="depthwise")
        shape = (*(1,) * self.rank, channels * self.depth_multiplier, self.filters)
        self.pointwise_kernel = self.add_named_weight("pointwise_kernel", shape, prefix="pointwise")
        return self.filters

    def _convolve(self, inputs: Any, arguments: dict[str, Any]) -> Any:
        depthwise, pointwise = self.depthwise_kernel.value, self.pointwise_kernel.value
        out = ops.separable_conv(inputs, depthwise, pointwise, **arguments)
        return self._finish(out)


class _Transposed(_Convolution):
    def setup(self, **arguments: Any) -> None:
        extra = arguments["output_padding"]
        if extra is not None:
            extra = arguments["output_padding"] = to_sizes(extra, self._rank, "output_padding", 0)
            strides = to_sizes(arguments["strides"], self._rank, "strides")
            if any(e >= s for e, s in zip(extra, strides, strict=True)):
                raise ValueError(
                    "`output_padding` must be strictly less than `strides` in every dimension. "
                    f"Received: output_padding={extra}, strides={strides}"
                )
        super().setup(**arguments)

    def _kernels(self, channels: int) -> int:
        self.kernel = self.add_named_weight("kernel", (*self.kernel_size, self.filters, channels))
        return self.filters

    def known_dims(self, dims: tuple) -> tuple | None:
        """The call is looked at: the sizes are not those of `_Convolution`."""
        return None

    def _convolve(self, inputs: Any, arguments: dict[str, Any]) -> Any:
        out = ops.conv_transpose(
            inputs, self.kernel.value, output_padding=self.output_padding, **arguments
        )
        return self._finish(out)


# What an argument means; `_family` has their order.
_MEANING = {
    "filters": "the number of output channels.",
    "kernel_size": "the size of the window, one number or one an axis.",
    "strides": "the steps of the window.",
    "padding": '"valid", or "same" for outputs of the size of the inputs over the strides.',
    "output_padding": "the size added to the smallest possible output.",
    "depth_multiplier": "the outputs of each input channel.",
    "data_format": '"channels_last" or "channels_first"; the configured one by default.',
    "dilation_rate": "the distance between the taps of the kernel.",
    "groups": "the number of groups of channels that are convolved apart.",
    "activation": "a name or function.",
    "use_bias": "whether there is a bias.",
    "kernel_initializer": "of the kernel, of shape {kernel}.",
    "depthwise_initializer": "of the depthwise kernel, of shape (*kernel_size, channels, "
    "multiplier).",
    "pointwise_initializer": "of the pointwise kernel, of shape (1 ..., channels * multiplier, "
    "filters).",
    "bias_initializer": "of the bias.",
}


def _describe(name: str, kernel: str) -> str:
    target, _, option = name.partition("_")
    effect = {"regularizer": "a penalty on", "constraint": "a projection of"}.get(option)
    target = "outputs" if target == "activity" else target
    return _MEANING.get(name, f"{effect} the {target}.").format(kernel=kernel)


def _family(
    base: type, pattern: str, ranks: tuple[int, ...], text: str, kernel: str, kernels: tuple
) -> list[type]:
    """Return the classes of a convolution, one for each number of dimensions."""
    classes = []
    for rank in ranks:
        one = 1 if rank == 1 else (1,) * rank
        head: dict[str, Any] = {"kernel_size": REQUIRED, "strides": one, "padding": "valid"}
        if base is not _Depthwise:
            head = {"filters": REQUIRED, **head}
        rest: dict[str, Any] = {"data_format": None, "dilation_rate": one}
        if base is _Transposed:  # in three dimensions Keras has the two the other way round
            extra = {"output_padding": None, "data_format": None}
            rest = (extra if rank < 3 else dict(reversed(extra.items()))) | rest
        elif base is _Depthwise:
            rest = {"depth_multiplier": 1, **rest}
        elif base is _Separable:
            rest |= {"depth_multiplier": 1}
        else:
            rest |= {"groups": 1}
        parameters = head | rest | {"activation": None, "use_bias": True}
        parameters |= {f"{k}_initializer": "glorot_uniform" for k in kernels}
        parameters |= {"bias_initializer": "zeros"}
        parameters |= {f"{k}_regularizer": None for k in (*kernels, "bias", "activity")}
        parameters |= {f"{k}_constraint": None for k in (*kernels, "bias")}
        lines = "\n".join(f"        {n}: {_describe(n, kernel)}" for n in parameters)
        name = pattern.format(rank)
        call = f"{name}(2)" if base is _Depthwise else f"{name}(4, 2)"
        shape = ", ".join(["1", *["6"] * rank, "3"])
        side = "7" if base is _Transposed else "5"
        channels = "3" if base is _Depthwise else "4"
        out = ", ".join(["1", *[side] * rank, channels])
        doc = f"""{text.format(rank=rank)}

    Input shape (batch, {"space, " * rank}channels), likewise the output shape.

    Args:
{lines}

    >>> {call}(np.ones(({shape}), "float32")).shape == ({out})
    True
    """
        classes.append(declare(base, name, doc, {**parameters, "**kwargs": REQUIRED}, _rank=rank))
    return classes


Conv1D, Conv2D, Conv3D = _family(
    _Plain, "Conv{}D", (1, 2, 3), "A {rank}D convolution.",
    "(*kernel_size, channels / groups, filters)", ("kernel",),
)  # fmt: skip
DepthwiseConv1D, DepthwiseConv2D = _family(
    _Depthwise, "DepthwiseConv{}D", (1, 2),
    "A {rank}D convolution of every channel by itself. Source: https://arxiv.org/abs/1610.02357",
    "", ("depthwise",),
)  # fmt: skip
SeparableConv1D, SeparableConv2D = _family(
    _Separable, "SeparableConv{}D", (1, 2),
    "A {rank}D convolution of every channel by itself, then one over the channels. Source: "
    "https://arxiv.org/abs/1610.02357",
    "", ("depthwise", "pointwise"),
)  # fmt: skip
Conv1DTranspose, Conv2DTranspose, Conv3DTranspose = _family(
    _Transposed, "Conv{}DTranspose", (1, 2, 3),
    "The transposition of a {rank}D convolution, which enlarges. Source: "
    "https://arxiv.org/abs/1603.07285",
    "(*kernel_size, filters, channels)", ("kernel",),
)  # fmt: skip
