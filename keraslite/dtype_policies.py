"""Dtype policies: the dtype in which a layer keeps its variables and the one it computes in."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from keraslite import config, dtypes, registry
from keraslite.scopes import scopes

_MIXED = {"mixed_float16": "float16", "mixed_bfloat16": "bfloat16"}
QUANTIZATION_MODES = ("int8",)


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
        return isinstance(other, DTypePolicy) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f'<DTypePolicy "{self.name}">'


class QuantizedDTypePolicy(DTypePolicy):
    """The policy of a layer whose large weight is quantized; the rest is as its source says.

    Args:
        mode: "int8".
        source_name: the policy that it was made from; the global one by default.

    >>> QuantizedDTypePolicy("int8", "mixed_bfloat16").name
    'int8_from_mixed_bfloat16'
    """

    def __init__(self, mode: str, source_name: str | None = None):
        super().__init__(source_name or dtype_policy().name)
        check_quantization_mode(mode)
        if self.compute_dtype == "float16":
            raise ValueError(
                f"Quantization mode={mode!r} doesn't work well with compute_dtype='float16': use "
                "another dtype policy, such as 'mixed_bfloat16'."
            )
        self._source_name, self.quantization_mode = self.name, mode
        self.name = f"{mode}_from_{self._source_name}"

    def get_config(self) -> dict[str, Any]:
        """The policy's config."""
        return {"mode": self.quantization_mode, "source_name": self._source_name}

    def __repr__(self) -> str:
        return f'<QuantizedDTypePolicy "{self.name}">'


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
        config = identifier.get("config", identifier)
        return (QuantizedDTypePolicy if "mode" in config else DTypePolicy)(**config)
    name = identifier if isinstance(identifier, str) else dtypes.standardize(identifier)
    mode, quantized, source = name.partition("_from_")
    return QuantizedDTypePolicy(mode, source) if quantized else DTypePolicy(name)


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
