"""Images on torch."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from keraslite.backend.primitives import primitive

TABLE: dict[str, Any] = {}

_PADDING = {
    "constant": "zeros", "nearest": "border", "wrap": "border", "reflect": "reflection",
    "mirror": "reflection",
}  # fmt: skip


@primitive(TABLE)
def _warp_linear(
    x: Tensor, rows: Tensor, columns: Tensor, fill_mode: str, fill_value: Any
) -> Tensor:
    if fill_mode == "wrap":  # beyond the last pixel is the first one
        rows, columns = rows % x.shape[1], columns % x.shape[2]
        x = torch.cat([x, x[:, :1]], 1)
        x = torch.cat([x, x[:, :, :1]], 2)
    height, width = x.shape[1:3]
    mirror = fill_mode == "mirror"
    # The kernel counts from -1 to 1: to the centres of the last pixels, or to their edges.
    if mirror:
        at = columns * (2 / max(width - 1, 1)) - 1, rows * (2 / max(height - 1, 1)) - 1
    else:
        at = columns * (2 / width) + (1 / width - 1), rows * (2 / height) + (1 / height - 1)
    grid = torch.stack(at, -1).to(x.dtype).expand(x.shape[0], -1, -1, -1)
    shifted = fill_mode == "constant" and not (
        isinstance(fill_value, int | float) and not fill_value
    )
    x = x - fill_value if shifted else x
    out = grid_sample(x.permute(0, 3, 1, 2), grid, "bilinear", _PADDING[fill_mode], mirror)
    out = out.permute(0, 2, 3, 1)
    return out + fill_value if shifted else out


@primitive(TABLE)
def _resize_linear(x: Tensor, size: tuple, antialias: bool) -> Tensor:
    out = interpolate(x.permute(0, 3, 1, 2), tuple(size), mode="bilinear", antialias=antialias)
    return out.permute(0, 2, 3, 1)
