"""Dtype policies: the dtype in which a layer keeps its variables and the one it computes in."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from keraslite import config, dtypes, registry
from keraslite.scopes import scopes

_MIXED = {"mixed_float16": "float16", "mixed_bfloat16": "bfloat16"}
QUANTIZATION_MODES = ("int8", "float8", "int4", "gptq", "awq")


def check_quantization_mode(mode: Any) -> None:
    """Refuse what is no quantization mode."""
    if mode not in QUANTIZATION_MODES:
        raise ValueError(
            f"Invalid quantization mode. Expected one of {QUANTIZATION_MODES}. "
            f"Received: mode={mode}"
        )


class DTypePolicy:
    """The variable dtype and compute dtype of a layer.

    Args:
        name: a float dtype for both, or "mixed_float16" / "mixed_bfloat16": float32 variables,
            half-precision computation. The global policy's by default.

    >>> DTypePolicy("mixed_bfloat16").compute_dtype
    'bfloat16'
    """

    def __init__(self, name: str | None = None):
        name = name or dtype_policy().name
        self.name = name if name in _MIXED else dtypes.standardize(name)
        self.compute_dtype = _MIXED.get(self.name, self.name)
        self.variable_dtype = "float32" if self.name in _MIXED else self.name
        self.quantization_mode = None

    def get_config(self) -> dict[str, Any]:
        """The policy's config."""
        return {"name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "DTypePolicy":
        """The policy of a config."""
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f'<{type(self).__name__} "{self.name}">'


class QuantizedDTypePolicy(DTypePolicy):
    """The policy of a layer whose large weight is quantized; the rest is as its source says.

    Args:
        mode: "int8", "int4" with a scale for each channel, or another of `QUANTIZATION_MODES`.
        source_name: the policy that it was made from; the global one by default.

    >>> QuantizedDTypePolicy("int8", "mixed_bfloat16").name
    'int8_from_mixed_bfloat16'
    """

    has_numbers = False  # whether its mode is one such as "int4/128"

    def __init__(self, mode: str, source_name: str | None = None):
        super().__init__(source_name)
        name = mode.partition("/")[0] if self.has_numbers else mode
        check_quantization_mode(name)
        if self.compute_dtype == "float16" and mode == "int8":
            raise ValueError(
                f"Quantization mode={mode!r} doesn't work well with compute_dtype='float16': use "
                "another dtype policy, such as 'mixed_bfloat16'."
            )
        self._source_name, self._full_mode, self.quantization_mode = self.name, mode, name
        self.name = f"{mode}_from_{self._source_name}"

    def get_config(self) -> dict[str, Any]:
        """The policy's config."""
        return {"mode": self._full_mode, "source_name": self._source_name}


class QuantizedFloat8DTypePolicy(QuantizedDTypePolicy):
    """The policy of a layer that rounds what it multiplies to float8 in training.

    Source: https://arxiv.org/abs/2209.05433

    Args:
        mode: "float8".
        source_name: the policy that it was made from; the global one by default.
        amax_history_length: the number of steps whose largest values give the scales.

    >>> QuantizedFloat8DTypePolicy("float8", "float32", 16).amax_history_length
    16
    """

    default_amax_history_length = 1024

    def __init__(self, mode: str, source_name: str | None = None, amax_history_length: int = 1024):
        super().__init__(mode, source_name)
        if not isinstance(amax_history_length, int):
            raise TypeError(
                "`amax_history_length` must be an integer. Received: "
                f"amax_history_length={amax_history_length}"
            )
        self.amax_history_length = amax_history_length

    def get_config(self) -> dict[str, Any]:
        """The policy's config."""
        return super().get_config() | {"amax_history_length": self.amax_history_length}

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) and (
            self.amax_history_length == getattr(other, "amax_history_length", None)
        )

    __hash__ = DTypePolicy.__hash__


class Int4DTypePolicy(QuantizedDTypePolicy):
    """The policy of a layer whose large weight is kept in int4, in blocks.

    Args:
        mode: "int4/<block_size>": the number of weights that share a scale and a zero point, or
            -1 for one scale a channel.
        source_name: the policy that it was made from; the global one by default.

    >>> Int4DTypePolicy("int4/64", "float32").block_size
    64
    """

    has_numbers = True

    def __init__(self, mode: str, source_name: str | None = None):
        (self.block_size,) = _numbers(mode, type(self), "int4", "block_size")
        super().__init__(mode, source_name)


class GPTQDTypePolicy(QuantizedDTypePolicy):
    """The policy of a layer whose large weight is quantized by GPTQ.

    Source: https://arxiv.org/abs/2210.17323

    Args:
        mode: "gptq/<weight_bits>/<group_size>": 2, 3, 4 or 8 bits; the number of weights that
            share a scale, or -1 for one scale a channel.
        source_name: the policy that it was made from; the global one by default.

    >>> policy = GPTQDTypePolicy("gptq/4/128", "float32")
    >>> policy.weight_bits, policy.group_size
    (4, 128)
    """

    has_numbers = True
    bits: tuple[int, ...] = (2, 3, 4, 8)

    def __init__(self, mode: str, source_name: str | None = None):
        name = "awq" if isinstance(self, AWQDTypePolicy) else "gptq"
        numbers = _numbers(mode, type(self), name, "weight_bits", "group_size")
        self.weight_bits, self.group_size = numbers
        if self.weight_bits not in self.bits:
            raise ValueError(
                f"Invalid weight_bits in mode. Supported values are {self.bits}, but got "
                f"{self.weight_bits} from '{mode}'."
            )
        super().__init__(mode, source_name)


class AWQDTypePolicy(GPTQDTypePolicy):
    """The policy of a layer whose large weight is quantized by AWQ.

    Source: https://arxiv.org/abs/2306.00978

    Args:
        mode: "awq/4/<group_size>": the number of weights that share a scale, or -1 for one scale
            a channel.
        source_name: the policy that it was made from; the global one by default.

    >>> AWQDTypePolicy("awq/4/128", "float32").quantization_mode
    'awq'
    """

    bits = (4,)


def _numbers(mode: str, cls: type, name: str, *fields: str) -> list[int]:
    """Read the numbers of a mode such as "gptq/4/128"; the last is a size, or -1."""
    form = "/".join([name, *(f"<{field}>" for field in fields)])
    first, *rest = mode.split("/")
    try:
        numbers = [int(part) for part in rest]
    except ValueError:
        numbers = []
    if first != name or len(numbers) != len(fields):
        raise ValueError(
            f"Invalid mode for {cls.__name__}. Expected format '{form}' with integers, but got "
            f"'{mode}'."
        )
    if numbers[-1] < -1 or numbers[-1] == 0:
        raise ValueError(
            f"Invalid {fields[-1]} in mode. Supported values are -1 (per-channel) or a positive "
            f"integer, but got {numbers[-1]} from '{mode}'."
        )
    return numbers


def _quantized(mode: str, source_name: str | None, **options: Any) -> QuantizedDTypePolicy:
    """Return the policy of a mode such as "int4/128"."""
    name, slash, _ = mode.partition("/")
    classes: dict[str, type[QuantizedDTypePolicy]] = {
        "float8": QuantizedFloat8DTypePolicy, "gptq": GPTQDTypePolicy, "awq": AWQDTypePolicy,
    }  # fmt: skip
    if slash:
        classes["int4"] = Int4DTypePolicy
    return classes.get(name, QuantizedDTypePolicy)(mode, source_name, **options)


FloatDTypePolicy = DTypePolicy  # what Keras calls it where it tells it from quantized ones

_policy: DTypePolicy | None = None


def dtype_policy() -> DTypePolicy:
    """The policy that layers take when they are given none.

    >>> dtype_policy().name
    'float32'
    """
    return scopes.dtype_policy or _policy or DTypePolicy(config.floatx())


@contextmanager
def dtype_policy_scope(policy: Any) -> Iterator[None]:
    """Set the policy of layers that are made in a block, in this thread, and are given none.

    Args:
        policy: a policy, its name or a dtype; None for the policy around the block.

    >>> with dtype_policy_scope("bfloat16"):
    ...     layers.Dense(1).compute_dtype
    'bfloat16'
    """
    before = scopes.dtype_policy
    scopes.dtype_policy = get(policy)
    try:
        yield
    finally:
        scopes.dtype_policy = before


def set_dtype_policy(policy: Any) -> None:
    """Set the policy that layers take when they are given none; None is that of `floatx`."""
    global _policy
    _policy = None if policy is None else get(policy)


def get(identifier: Any) -> DTypePolicy:
    """A policy from a name, a config, a dtype or None (the global policy).

    >>> get("bfloat16").variable_dtype
    'bfloat16'
    """
    if identifier is None:
        return dtype_policy()
    if isinstance(identifier, DTypePolicy):
        return identifier
    if isinstance(identifier, dict):
        if "class_name" in identifier:
            return deserialize(identifier)
        return _quantized(**identifier) if "mode" in identifier else DTypePolicy(**identifier)
    name = identifier if isinstance(identifier, str) else dtypes.standardize(identifier)
    mode, quantized, source = name.partition("_from_")
    if not quantized and name.startswith(QUANTIZATION_MODES) and name not in dtypes.ALL:
        raise ValueError(
            f"A quantized dtype policy names its source, such as 'int8_from_float32'. Received: "
            f"{name!r}"
        )
    return _quantized(mode, source) if quantized else DTypePolicy(name)


def serialize(dtype_policy: DTypePolicy) -> dict[str, Any]:
    """Return the config of a policy."""
    return registry.serialize_keras_object(dtype_policy)


def deserialize(config: dict[str, Any], custom_objects: Any = None) -> DTypePolicy:
    """Return the policy of a config.

    >>> deserialize(serialize(DTypePolicy("bfloat16"))).name
    'bfloat16'
    """
    return registry.deserialize_keras_object(config, custom_objects)


# Where Keras has them, too.
config.dtype_policy = dtype_policy  # type: ignore[attr-defined]
config.set_dtype_policy = set_dtype_policy  # type: ignore[attr-defined]
