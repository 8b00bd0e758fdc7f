"""How layers are quantized: a class of options for each mode."""

from typing import Any, Self

from keraslite import dtype_policies, registry
from keraslite.quantizers.integers import AbsMaxQuantizer


class QuantizationConfig:
    """How a layer is quantized; a mode has a class of its own.

    Args:
        weight_quantizer: of its weight; the mode's own by default.
        activation_quantizer: of its inputs, at each call; None leaves them floats.
    """

    mode: str | None = None

    def __init__(self, weight_quantizer: Any = None, activation_quantizer: Any = None):
        self.weight_quantizer, self.activation_quantizer = weight_quantizer, activation_quantizer

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it."""
        return {
            "weight_quantizer": registry.serialize_keras_object(self.weight_quantizer),
            "activation_quantizer": registry.serialize_keras_object(self.activation_quantizer),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return the config that `get_config` wrote."""
        return cls(**{k: registry.deserialize_keras_object(v) for k, v in config.items()})

    def dtype_policy_string(self) -> str:
        """Return the mode as the name of a dtype policy begins with it, such as "int4/128"."""
        return str(self.mode)


class Int8QuantizationConfig(QuantizationConfig):
    """Weights in int8 with a scale for each output channel, and by default the inputs too.

    Args:
        weight_quantizer: of the weight; by default the absolute maximum of each channel.
        activation_quantizer: of the inputs; None leaves them floats.

    >>> Int8QuantizationConfig(activation_quantizer=None).mode
    'int8'
    """

    mode = "int8"

    def __init__(self, weight_quantizer: Any = None, activation_quantizer: Any = "default"):
        default = _is_default(activation_quantizer)
        super().__init__(weight_quantizer, AbsMaxQuantizer() if default else activation_quantizer)
        _check_output(self)


class Int4QuantizationConfig(QuantizationConfig):
    """Weights in int4, two in a byte, with scales; inputs stay floats by default.

    Args:
        weight_quantizer: of the weight, where there is one scale a channel; by default the
            absolute maximum of each.
        activation_quantizer: of the inputs; None, which is the default, leaves them floats.
        block_size: how many inputs of a channel share a scale and a zero point; None or -1 for
            one scale a channel and no zero point.

    Raises:
        ValueError: there are quantizers and blocks, or the weight's has another range.

    >>> Int4QuantizationConfig(block_size=32).dtype_policy_string()
    'int4/32'
    """

    mode = "int4"

    def __init__(
        self,
        weight_quantizer: Any = None,
        activation_quantizer: Any = "default",
        block_size: int | None = 128,
    ):
        default = _is_default(activation_quantizer)
        super().__init__(weight_quantizer, None if default else activation_quantizer)
        if block_size is not None and block_size != -1 and block_size <= 0:
            raise ValueError(
                f"block_size must be None, -1, or a positive integer. Received: {block_size}"
            )
        self.block_size = block_size
        if self.blocks and (self.weight_quantizer or self.activation_quantizer):
            raise ValueError(
                "Int4 quantization in blocks does not take quantizers: leave them out, or set "
                f"block_size=None for one scale a channel. Received: block_size={block_size}"
            )
        if weight_quantizer is not None and tuple(weight_quantizer.value_range) != (-8, 7):
            raise ValueError(
                "Int4QuantizationConfig needs a weight_quantizer with value_range=(-8, 7). "
                f"Received: value_range={weight_quantizer.value_range}"
            )
        _check_output(self)

    @property
    def blocks(self) -> int | None:
        """The size of a block; None for one scale a channel."""
        return None if self.block_size == -1 else self.block_size

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it."""
        return super().get_config() | {"block_size": self.block_size}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return the config that `get_config` wrote; without a block size there are no blocks."""
        return super().from_config({"block_size": None} | config)

    def dtype_policy_string(self) -> str:
        """Return the mode and the block size, as the name of a dtype policy begins with them."""
        return f"int4/{self.blocks or -1}"


class Float8QuantizationConfig(QuantizationConfig):
    """Training with products of float8: weights stay as they are, and are trained.

    Source: https://arxiv.org/abs/2209.05433

    >>> Float8QuantizationConfig().mode
    'float8'
    """

    mode = "float8"

    def __init__(self) -> None:
        super().__init__()

    def get_config(self) -> dict[str, Any]:
        """No arguments."""
        return {}


class GPTQConfig(QuantizationConfig):
    """Weights in few bits, each chosen so that it makes good the errors of those before it.

    The errors are those of a layer's outputs for the inputs that texts bring about. What serves
    for that alone is not saved: the texts, the tokenizer, and the order of the layers.

    Source: https://arxiv.org/abs/2210.17323

    Args:
        dataset: texts, or arrays of token ids.
        tokenizer: a function of a text that gives its token ids, or a dict with `token_ids`; or an
            object with a method `tokenize` that does.
        weight_bits: 2, 3, 4 or 8.
        num_samples: how many pieces of the texts are taken.
        per_channel: whether each channel has a scale, and not all together one.
        sequence_length: the number of tokens in a piece.
        hessian_damping: what is added to the diagonal, as a share of its mean.
        group_size: how many inputs of a channel share a scale; -1 for all.
        symmetric: whether zero is in the middle of the integers.
        activation_order: whether the inputs that vary most come first.
        quantization_layer_structure: a dict of "pre_block_layers", which make the inputs of the
            first block from token ids, and "sequential_blocks"; by default what the model's
            `get_quantization_layer_structure` returns.

    >>> GPTQConfig(None, None, group_size=64).dtype_policy_string()
    'gptq/4/64'
    """

    mode = "gptq"

    def __init__(
        self,
        dataset: Any,
        tokenizer: Any,
        *,
        weight_bits: int = 4,
        num_samples: int = 128,
        per_channel: bool = True,
        sequence_length: int = 512,
        hessian_damping: float = 0.01,
        group_size: int = 128,
        symmetric: bool = False,
        activation_order: bool = False,
        quantization_layer_structure: dict | None = None,
    ):
        super().__init__()
        if weight_bits not in (2, 3, 4, 8):
            raise ValueError(
                f"Unsupported weight_bits {weight_bits}. Supported values are 2, 3, 4, and 8."
            )
        if not 0 <= hessian_damping <= 1:
            raise ValueError(f"hessian_damping must be between 0 and 1, got {hessian_damping}.")
        _check_calibration(num_samples, sequence_length, group_size)
        self.dataset, self.tokenizer = dataset, tokenizer
        self.weight_bits, self.num_samples, self.per_channel = weight_bits, num_samples, per_channel
        self.sequence_length, self.hessian_damping = sequence_length, hessian_damping
        self.group_size, self.symmetric = group_size, symmetric
        self.activation_order = activation_order
        self.quantization_layer_structure = quantization_layer_structure

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it, without what serves for the calibration alone."""
        names = (
            "weight_bits", "num_samples", "per_channel", "sequence_length", "hessian_damping",
            "group_size", "symmetric", "activation_order",
        )  # fmt: skip
        return _without_data(self, names)

    def dtype_policy_string(self) -> str:
        """Return the mode, the bits and the group size, as a dtype policy's name begins."""
        return f"gptq/{self.weight_bits}/{self.group_size}"


class AWQConfig(QuantizationConfig):
    """Weights in four bits, those scaled up before that meet the largest inputs.

    Source: https://arxiv.org/abs/2306.00978

    Args:
        dataset: texts, or arrays of token ids.
        tokenizer: as of `GPTQConfig`.
        weight_bits: 4.
        num_samples: how many pieces of the texts are taken.
        sequence_length: the number of tokens in a piece.
        group_size: how many inputs of a channel share a scale; -1 for all.
        num_grid_points: how many strengths of the scaling are tried.
        quantization_layer_structure: as of `GPTQConfig`.

    >>> AWQConfig(None, None).dtype_policy_string()
    'awq/4/128'
    """

    mode = "awq"

    def __init__(
        self,
        dataset: Any,
        tokenizer: Any,
        *,
        weight_bits: int = 4,
        num_samples: int = 128,
        sequence_length: int = 512,
        group_size: int = 128,
        num_grid_points: int = 20,
        quantization_layer_structure: dict | None = None,
    ):
        super().__init__()
        if weight_bits != 4:
            raise ValueError(
                f"AWQ only supports 4-bit quantization. Received weight_bits={weight_bits}."
            )
        if num_grid_points <= 0:
            raise ValueError("num_grid_points must be a positive integer.")
        _check_calibration(num_samples, sequence_length, group_size)
        self.dataset, self.tokenizer = dataset, tokenizer
        self.weight_bits, self.num_samples = weight_bits, num_samples
        self.sequence_length, self.group_size = sequence_length, group_size
        self.num_grid_points = num_grid_points
        self.quantization_layer_structure = quantization_layer_structure

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it, without what serves for the calibration alone."""
        names = ("weight_bits", "num_samples", "sequence_length", "group_size", "num_grid_points")
        return _without_data(self, names)

    def dtype_policy_string(self) -> str:
        """Return the mode, the bits and the group size, as a dtype policy's name begins."""
        return f"awq/{self.weight_bits}/{self.group_size}"


def _is_default(quantizer: Any) -> bool:
    return isinstance(quantizer, str) and quantizer == "default"


def _check_output(config: QuantizationConfig) -> None:
    quantizer = config.weight_quantizer
    if quantizer is not None and quantizer.output_dtype != "int8":
        raise ValueError(
            f"{type(config).__name__} needs a weight_quantizer with output_dtype='int8'. "
            f"Received: output_dtype={quantizer.output_dtype}"
        )


def _check_calibration(num_samples: int, sequence_length: int, group_size: int) -> None:
    for name, value in {"num_samples": num_samples, "sequence_length": sequence_length}.items():
        if value <= 0:
            raise ValueError(f"{name} must be a positive integer. Received: {name}={value}")
    if group_size < -1 or group_size == 0:
        raise ValueError(
            "Invalid group_size. Supported values are -1 (per-channel) or a positive integer, but "
            f"got {group_size}."
        )


def _without_data(config: Any, names: tuple[str, ...]) -> dict[str, Any]:
    nothing = ("dataset", "tokenizer", "quantization_layer_structure")
    return dict.fromkeys(nothing) | {name: getattr(config, name) for name in names}


_CALIBRATED: dict[str, type[QuantizationConfig]] = {"gptq": GPTQConfig, "awq": AWQConfig}
_BY_DEFAULT: dict[str, type[QuantizationConfig]] = {
    "int8": Int8QuantizationConfig,
    "int4": Int4QuantizationConfig,
    "float8": Float8QuantizationConfig,
}


def resolve(mode: str | None, config: Any = None) -> QuantizationConfig:
    """Return the config of a mode or a config; both may be passed if they agree.

    Args:
        mode: one of `dtype_policies.QUANTIZATION_MODES`.
        config: a config, or a mode.

    Raises:
        ValueError: there is no such mode, the two contradict each other, or the mode needs data.

    >>> resolve("int8").mode
    'int8'
    """
    if isinstance(config, str):
        mode, config = config, None
    if config is None:
        dtype_policies.check_quantization_mode(mode)
        if mode in _CALIBRATED:
            name = _CALIBRATED[mode].__name__
            raise ValueError(
                f"For {name.removesuffix('Config')}, you must pass a `{name}` object in the "
                "`config` argument: it says which texts the weights are to fit."
            )
        return _BY_DEFAULT[str(mode)]()
    if not isinstance(config, QuantizationConfig):
        raise ValueError(f"`config` must be a QuantizationConfig. Received: config={config!r}")
    if mode is not None and config.mode != mode:
        raise ValueError(
            f"Contradictory arguments: mode={mode!r}, but config.mode={config.mode!r}."
        )
    dtype_policies.check_quantization_mode(config.mode)
    needed = _CALIBRATED.get(str(config.mode), QuantizationConfig)
    if not isinstance(config, needed):
        raise ValueError(
            f"Mode {config.mode!r} needs a `config` of type `{needed.__name__}`. Received: "
            f"{type(config)}"
        )
    return config


def config_of_policy(policy: dtype_policies.DTypePolicy) -> QuantizationConfig | None:
    """Return how a layer is quantized by setting its dtype policy; None for the mode's default.

    >>> config_of_policy(dtype_policies.get("int4/64_from_float32")).block_size
    64
    """
    if policy.quantization_mode in _CALIBRATED:
        raise ValueError(
            f"A layer is not quantized by setting its dtype policy to {policy.name!r}: the weights "
            "are to fit data. Call quantize() of the model with a config that names the data."
        )
    if isinstance(policy, dtype_policies.Int4DTypePolicy):
        return Int4QuantizationConfig(block_size=policy.block_size)
    return None


def default_config(policy: dtype_policies.DTypePolicy) -> QuantizationConfig:
    """Return how the weights of a layer are quantized that was made with a dtype policy.

    >>> default_config(dtype_policies.get("int4_from_float32")).blocks is None
    True
    """
    mode = str(policy.quantization_mode)
    if mode == "int4":
        return Int4QuantizationConfig(block_size=getattr(policy, "block_size", None))
    if isinstance(policy, dtype_policies.GPTQDTypePolicy):
        sizes = {"weight_bits": policy.weight_bits, "group_size": policy.group_size}
        return (AWQConfig if mode == "awq" else GPTQConfig)(None, None, **sizes)
    return resolve(mode)
