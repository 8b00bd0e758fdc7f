"""Dtype policies: the dtype in which a layer keeps its variables and the one it computes in."""

from keraslite.dtype_policies.policy import (
    QUANTIZATION_MODES,
    AWQDTypePolicy,
    DTypePolicy,
    FloatDTypePolicy,
    GPTQDTypePolicy,
    Int4DTypePolicy,
    QuantizedDTypePolicy,
    QuantizedFloat8DTypePolicy,
    check_quantization_mode,
    deserialize,
    dtype_policy,
    dtype_policy_scope,
    get,
    serialize,
    set_dtype_policy,
)
from keraslite.dtype_policies.policy_map import DTypePolicyMap, PolicyAtPath

__all__ = [
    "QUANTIZATION_MODES", "AWQDTypePolicy", "DTypePolicy", "DTypePolicyMap", "FloatDTypePolicy",
    "GPTQDTypePolicy", "Int4DTypePolicy", "PolicyAtPath", "QuantizedDTypePolicy",
    "QuantizedFloat8DTypePolicy", "check_quantization_mode", "deserialize", "dtype_policy",
    "dtype_policy_scope", "get", "serialize", "set_dtype_policy",
]  # fmt: skip
