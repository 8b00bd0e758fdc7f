"""Dtype policies and loss scaling under the names of older Keras code."""

from keraslite.dtype_policies import DTypePolicy, dtype_policy, set_dtype_policy
from keraslite.optimizers import LossScaleOptimizer

Policy = DTypePolicy
global_policy = dtype_policy
set_global_policy = set_dtype_policy

__all__ = [
    "DTypePolicy", "LossScaleOptimizer", "Policy", "dtype_policy", "global_policy",
    "set_dtype_policy", "set_global_policy",
]  # fmt: skip
