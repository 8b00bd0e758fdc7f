"""Quantizers: floats as integers of few bits and a scale; configs that choose them."""

from typing import Any

from keraslite import registry
from keraslite.naming import to_snake_case
from keraslite.quantizers.configs import (
    AWQConfig,
    Float8QuantizationConfig,
    GPTQConfig,
    Int4QuantizationConfig,
    Int8QuantizationConfig,
    QuantizationConfig,
    config_of_policy,
    default_config,
    resolve,
)
from keraslite.quantizers.float8 import (
    compute_float8_amax_history,
    compute_float8_scale,
    quantize_and_dequantize,
)
from keraslite.quantizers.integers import (
    AbsMaxQuantizer,
    Quantizer,
    abs_max_quantize,
    abs_max_quantize_grouped_with_zero_point,
    pack_int4,
    unpack_int4,
)
from keraslite.quantizers.simulated import fake_quant_with_min_max_vars

_CLASSES = (
    Quantizer, AbsMaxQuantizer, QuantizationConfig, Int8QuantizationConfig, Int4QuantizationConfig,
    Float8QuantizationConfig, GPTQConfig, AWQConfig,
)  # fmt: skip
_TABLE = {cls.__name__: cls for cls in _CLASSES}
_TABLE |= {to_snake_case(cls.__name__): cls for cls in _CLASSES}


def serialize(initializer: Any) -> Any:
    """The config of a quantizer, whose parameter has the name that it has in Keras."""
    return registry.serialize_keras_object(initializer)


def deserialize(config: Any, custom_objects: Any = None) -> Any:
    """The quantizer of a config."""
    return registry.deserialize_keras_object(config, custom_objects)


def get(identifier: Any, **kwargs: Any) -> Any:
    """A quantizer from a name, a config, a class, a function, or None.

    Args:
        identifier: any of these.
        kwargs: arguments of the class.

    >>> get("abs_max_quantizer", axis=0).output_dtype
    'int8'
    """
    if kwargs:
        cls = _TABLE.get(identifier) if isinstance(identifier, str) else identifier
        if not isinstance(cls, type):
            raise ValueError(
                f"The arguments {sorted(kwargs)} are for the name of a class or a class, got "
                f"{identifier!r}."
            )
        return cls(**kwargs)
    return registry.get(identifier, _TABLE, "quantizer")


__all__ = [
    "AWQConfig", "AbsMaxQuantizer", "Float8QuantizationConfig", "GPTQConfig",
    "Int4QuantizationConfig", "Int8QuantizationConfig", "QuantizationConfig", "Quantizer",
    "abs_max_quantize", "abs_max_quantize_grouped_with_zero_point", "compute_float8_amax_history",
    "compute_float8_scale", "config_of_policy", "default_config", "deserialize",
    "fake_quant_with_min_max_vars",
    "get", "pack_int4", "quantize_and_dequantize", "resolve", "serialize", "unpack_int4",
]  # fmt: skip
