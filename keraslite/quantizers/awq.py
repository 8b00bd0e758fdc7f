"""AWQ: weights that meet large inputs are scaled up before they are rounded.

Source: https://arxiv.org/abs/2306.00978
"""

import numpy as np

from keraslite.quantizers.zero_points import affine_parameters, affine_quantize

_BITS = 4


def awq_quantize(
    weights: np.ndarray, magnitudes: np.ndarray, group_size: int = -1, num_grid_points: int = 20
) -> dict[str, np.ndarray]:
    """Return integers of four bits for scaled weights.

    Each input's weights are multiplied by a power of its magnitude; of the powers from 0 to 1 the
    one is taken that changes the outputs least.

    Args:
        weights: floats (outputs, inputs).
        magnitudes: the largest absolute value of each input, (inputs,).
        group_size: how many inputs share a scale; -1 for all.
        num_grid_points: how many powers are tried besides 0.

    Returns:
        "integers", (outputs, inputs); "scale" and "zero", (outputs, groups); "awq_scales", what
        each input's weights were multiplied by, and "g_idx", its group, both (inputs,).

    >>> made = awq_quantize(np.array([[0.0, 1.5]], "float32"), np.ones(2, "float32"))
    >>> made["integers"].tolist(), made["awq_scales"].tolist()
    ([[0.0, 15.0]], [1.0, 1.0])
    """
    size = weights.shape[1]
    groups = np.arange(size) // (size if group_size == -1 else group_size)
    magnitudes = magnitudes.astype("float32")
    magnitudes = np.where(magnitudes < 1e-8, np.float32(1), magnitudes)
    best: tuple = (np.inf,)
    for i in range(num_grid_points + 1):
        factors = np.maximum(magnitudes ** np.float32(i / num_grid_points), np.float32(1e-4))
        factors = factors / np.maximum(np.sqrt(factors.max() * factors.min()), np.float32(1e-8))
        scaled = weights * factors
        scale, zero = affine_parameters(scaled, _BITS, group_size=group_size)
        each = groups if scale.shape[1] > 1 else np.zeros_like(groups)
        integers = affine_quantize(scaled, scale[:, each], zero[:, each], _BITS)
        rebuilt = (integers - zero[:, each]) * scale[:, each] / factors
        loss = np.mean(np.square(weights - rebuilt) * np.square(magnitudes))
        if loss < best[0]:
            best = loss, integers, scale, zero, factors
    _, integers, scale, zero, factors = best
    return {
        "integers": integers, "scale": scale, "zero": zero, "awq_scales": factors,
        "g_idx": groups.astype("float32"),
    }  # fmt: skip
