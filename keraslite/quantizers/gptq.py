"""GPTQ: weights rounded one after the other, each to make good the errors of those before.

Source: https://arxiv.org/abs/2210.17323
"""

import numpy as np

from keraslite.quantizers.zero_points import affine_parameters, affine_quantize

_BLOCK = 128  # of inputs, whose errors reach the weights after them in one product


def gptq_quantize(
    weights: np.ndarray,
    products: np.ndarray,
    bits: int = 4,
    group_size: int = -1,
    per_channel: bool = True,
    symmetric: bool = False,
    activation_order: bool = False,
    damping: float = 0.01,
) -> dict[str, np.ndarray]:
    """Return integers for weights so that the outputs for given inputs change little.

    Args:
        weights: floats (outputs, inputs).
        products: the mean of the products of inputs with each other, (inputs, inputs).
        bits: the bits of the integers, which begin with 0.
        group_size: how many inputs share a scale; -1 for all.
        per_channel: whether each output has a scale, and not all together one.
        symmetric: whether zero is in the middle of the integers.
        activation_order: whether the inputs that vary most come first.
        damping: what is added to the diagonal, as a share of its mean.

    Returns:
        "integers", (outputs, inputs); "scale" and "zero", (outputs, groups); "g_idx", the group of
        each input.

    >>> made = gptq_quantize(np.array([[0.0, 1.5]], "float32"), np.eye(2), bits=2)
    >>> made["integers"].tolist(), made["scale"].tolist()
    ([[0.0, 3.0]], [[0.5]])
    """
    hessian = 2.0 * products.astype("float64")
    size, diagonal = len(hessian), np.diagonal(hessian)
    diagonal = np.where(diagonal == 0, 1.0, diagonal)  # of inputs that are always zero
    diagonal = diagonal + damping * diagonal.mean()
    np.fill_diagonal(hessian, diagonal)
    order = np.arange(size)
    if activation_order:
        order = np.argsort(-diagonal, kind="stable")
        weights, hessian = weights[:, order], hessian[order][:, order]
    try:
        factor = np.linalg.cholesky(np.linalg.inv(hessian)).T.astype("float32")
    except np.linalg.LinAlgError as error:
        raise ValueError(
            f"The inputs of a layer are linearly dependent, so that hessian_damping={damping} is "
            "too little. Take more, such as 0.01, or more samples."
        ) from error
    integers, scale, zero = round_in_order(
        weights, factor, bits, group_size, per_channel, symmetric
    )
    back = np.argsort(order)
    group = size if group_size == -1 else group_size
    groups = (np.arange(size) // group)[back].astype("float32")
    return {"integers": integers[:, back], "scale": scale, "zero": zero, "g_idx": groups}


def round_in_order(
    weights: np.ndarray,
    factor: np.ndarray,
    bits: int,
    group_size: int = -1,
    per_channel: bool = True,
    symmetric: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Round weights from the first input to the last, and correct those after each.

    Args:
        weights: floats (outputs, inputs).
        factor: the upper Cholesky factor of the inverse of the Hessian, (inputs, inputs).
        bits: the bits of the integers.
        group_size: how many inputs share a scale; -1 for all.
        per_channel: whether each output has a scale.
        symmetric: whether zero is in the middle of the integers.

    Returns:
        The integers as floats, (outputs, inputs), and the scales and zero points (outputs, groups).

    >>> round_in_order(np.array([[0.0, 1.4]], "float32"), np.eye(2), 2)[0].tolist()
    [[0.0, 3.0]]
    """
    weights, size = np.array(weights, "float32"), weights.shape[1]
    group = size if group_size == -1 else group_size
    integers = np.zeros_like(weights)
    scales, zeros = [], []
    for start in range(0, size, _BLOCK):
        end = min(start + _BLOCK, size)
        block = weights[:, start:end].copy()
        errors = np.zeros_like(block)
        for i, j in enumerate(range(start, end)):
            if j % group == 0:
                of_group = weights[:, j : j + group]
                scale, zero = affine_parameters(of_group, bits, symmetric, per_channel)
                scales.append(scale)
                zeros.append(zero)
            column = block[:, i : i + 1]
            whole = affine_quantize(column, scale, zero, bits)
            integers[:, j] = whole[:, 0]
            error = (column - (whole - zero) * scale) / factor[j, j]
            errors[:, i] = error[:, 0]
            block[:, i + 1 :] -= error * factor[j, j + 1 : end]
        weights[:, end:] -= errors @ factor[start:end, end:]
    return integers, np.concatenate(scales, axis=1), np.concatenate(zeros, axis=1)
