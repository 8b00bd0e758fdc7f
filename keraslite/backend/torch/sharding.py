"""Support of `torch.distributed.fsdp.fully_shard` for layers."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch


def share_by_parameters(layer: type[torch.nn.Module]) -> None:
    """Let FSDP find the parameters of layers, where it would read the attribute: a variable.

    Args:
        layer: the base class of layers. Others are left as they are.
    """
    from torch.distributed.fsdp._fully_shard._fsdp_param import FSDPParam

    reset = FSDPParam.reset_sharded_param
    if getattr(reset, "_kl_wraps", None) is layer:
        return

    def reset_sharded_param(self: Any) -> None:
        place = self._module_info
        if isinstance(place.module, layer):
            named = {place.param_name: place.module.get_parameter(place.param_name)}
            self._module_info = replace(place, module=SimpleNamespace(**named))
        try:
            reset(self)
        finally:
            self._module_info = place

    reset_sharded_param._kl_wraps = layer  # type: ignore[attr-defined]
    FSDPParam.reset_sharded_param = reset_sharded_param
