"""Scaled dot-product attention, in pieces where its logits would not fit."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import config
from keraslite.ops import numpy as k
from keraslite.ops.activation import softmax
from keraslite.ops.common import positions
from keraslite.ops.control_flow import scan
from keraslite.ops.core import cast, dtype, shape
from keraslite.ops.noise import seed_pair
from keraslite.ops.op import op
from keraslite.ops.precision import to_float32
from keraslite.ops.transforms import checkpoint
from keraslite.typing import Tensor

# Attention logits in memory at a time: on a CPU what fits its cache, 16 MiB of float32.
_CHUNK, _ACCELERATED = 2**22, 2**28
_BATCH = 8  # what an unknown batch is taken for


@op("promote_float", tensors=5, keep=(4,))
def dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor = None,
    mask: Tensor = None,
    scale: float | None = None,
    is_causal: bool = False,
    flash_attention: bool | None = None,
    attn_logits_soft_cap: float | None = None,
    dropout_rate: float = 0.0,
    seed: Any = None,
) -> Tensor:
    """`softmax(query @ key * scale + bias) @ value`, per head.

    Memory is linear in the lengths, with gradients too.

    A row in which everything is masked gives the mean of all values, on every backend (float16 on
    torch apart, whose range is too small: there it is as if nothing were masked).

    Args:
        query: (batch, queries, heads, size).
        key: (batch, keys, heads / groups, size).
        value: (batch, keys, heads / groups, value size).
        bias: added to the logits; broadcasts to (batch, heads, queries, keys).
        mask: what may be attended to; broadcasts likewise.
        scale: 1 / sqrt(size) by default.
        is_causal: whether a query sees only the keys at and before its own position.
        flash_attention: True insists on a fused kernel, False avoids it, None takes the best.
        attn_logits_soft_cap: bounds the logits softly: `cap * tanh(logits / cap)`.
        dropout_rate: the part of the weights that becomes zero; the rest is scaled up.
        seed: of the dropout: an int, a `keras.random.SeedGenerator` or a seed tensor; None draws
            one. Which weights become zero is the same on every backend.

    >>> x = np.ones((1, 2, 1, 4), "float32")
    >>> dot_product_attention(x, x, x).shape == (1, 2, 1, 4)
    True
    """
    _check_attention(query, key, value)
    if not 0 <= dropout_rate < 1:
        raise ValueError(
            f"dot_product_attention takes a dropout_rate from [0, 1), got {dropout_rate}."
        )
    seed = seed_pair(seed) if dropout_rate else None
    if flash_attention is None:
        flash_attention = config.is_flash_attention_enabled()
    fusible = flash_attention is not False and attn_logits_soft_cap is None and not dropout_rate
    out: Any = NotImplemented
    if fusible:
        out = _fused_attention(query, key, value, bias, mask, scale, is_causal)
    if out is not NotImplemented:
        return out
    if flash_attention:
        raise ValueError("There is no fused attention for these arguments: drop flash_attention.")
    dropout = (dropout_rate, seed) if dropout_rate else None
    cap = attn_logits_soft_cap
    return _attention(query, key, value, bias, mask, scale, is_causal, cap, dropout)


@op("promote_float", tensors=5)
def grid_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    row_bias: Tensor,
    column_bias: Tensor,
    scale: float | None = None,
) -> Tensor:
    """`dot_product_attention` to keys on a grid, with biases for their rows and their columns.

    The bias of a key is the sum of that of its row and that of its column. The sums of all queries
    and keys are never in memory at once: memory is linear in the lengths, with gradients too.

    Args:
        query: (batch, queries, heads, size).
        key: (batch, rows * columns, heads, size), row by row.
        value: (batch, rows * columns, heads, value size).
        row_bias: (batch, heads, queries, rows).
        column_bias: (batch, heads, queries, columns).
        scale: 1 / sqrt(size) by default.

    Source: decomposed relative positions, https://arxiv.org/abs/2112.01526

    >>> x, bias = np.ones((1, 6, 1, 4), "float32"), np.ones((1, 1, 6, 3), "float32")
    >>> grid_attention(x, x, x, bias[..., :2], bias).shape == (1, 6, 1, 4)
    True
    """
    _check_attention(query, key, value)
    rows, columns, keys = row_bias.shape[-1], column_bias.shape[-1], key.shape[1]
    if None not in (rows, columns, keys) and rows * columns != keys:
        raise ValueError(f"A grid of {rows} x {columns} does not have {keys} keys.")
    out = _fused_grid_attention(query, key, value, row_bias, column_bias, scale)
    if out is not NotImplemented:
        return out
    return _attention(
        query, key, value, None, None, scale, False, None, None, (row_bias, column_bias)
    )


@op("same", tensors=5)
def _fused_grid_attention(
    query: Any, key: Any, value: Any, row_bias: Any, column_bias: Any, scale: float | None
) -> Any:
    """`grid_attention` by kernels of the backend, or NotImplemented."""
    return NotImplemented


@op("same", tensors=5)
def _fused_attention(
    query: Any, key: Any, value: Any, bias: Any, mask: Any, scale: float | None, is_causal: bool
) -> Any:
    """`dot_product_attention` by one kernel of the backend, or NotImplemented."""
    return NotImplemented


def _check_attention(query: Any, key: Any, value: Any) -> None:
    """Refuse shapes that attention cannot take."""
    if not len(query.shape) == len(key.shape) == len(value.shape) == 4:
        raise ValueError(
            "dot_product_attention takes (batch, time, heads, size), got query "
            f"{tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)}."
        )
    if key.shape[2] != value.shape[2] or query.shape[2] % key.shape[2]:
        raise ValueError(
            f"{query.shape[2]} query heads do not share {key.shape[2]} key heads and "
            f"{value.shape[2]} value heads evenly."
        )


def _attention(
    query: Any, key: Any, value: Any, bias: Any, mask: Any, scale: Any, causal: bool, cap: Any,
    dropout: Any, grid: tuple = (None, None),
) -> Any:  # fmt: skip
    """Attention by matrix products; many queries in blocks, so that memory is linear in length."""
    batch, length, heads, size = shape(query)
    groups, keys = key.shape[2], shape(key)[1]
    scale = 1 / math.sqrt(size) if scale is None else scale
    # (batch, kv heads, groups * queries, size) against (batch, kv heads, size, keys)
    shared = heads // groups
    k_t, v_t = k.transpose(key, (0, 2, 3, 1)), k.transpose(value, (0, 2, 1, 3))

    def block(
        q: Any, start: Any, k_t: Any, v_t: Any, bias: Any, mask: Any, rows: Any, columns: Any
    ) -> Any:
        count = shape(q)[1]
        q = k.transpose(q, (0, 2, 1, 3))
        q = k.reshape(q, (batch, groups, shared * count, size)) if shared > 1 else q
        logits = _scores(q, k_t)
        logits = k.reshape(logits, (batch, heads, count, keys)) if shared > 1 else logits
        logits = logits * scale
        if cap is not None:
            logits = cap * k.tanh(logits / cap)
        if bias is not None:
            logits = logits + cast(bias, dtype(logits))
        if rows is not None:
            by_key = k.expand_dims(rows, -1) + k.expand_dims(columns, -2)
            logits = logits + k.reshape(cast(by_key, dtype(logits)), shape(logits))
        visible = mask if mask is None else cast(mask, "bool")
        if causal:
            at = positions(query, count) + start
            past = k.expand_dims(at, 1) >= positions(query, keys)
            visible = past if visible is None else k.logical_and(visible, past)
        if visible is not None:
            logits = k.where(visible, logits, -0.7 * float(np.finfo("float32").max))
        weights = cast(softmax(logits, -1), dtype(value))
        if dropout is not None:
            weights = _dropped(weights, start, (count, batch, heads, keys), *dropout)
        if shared > 1:
            weights = k.reshape(weights, (batch, groups, shared * count, keys))
        out = k.matmul(weights, v_t)
        if shared > 1:
            out = k.reshape(out, (batch, heads, count, value.shape[3]))
        return k.transpose(out, (0, 2, 1, 3))

    static = isinstance(length, int) and isinstance(keys, int)
    rows = batch if isinstance(batch, int) else _BATCH
    limit = _ACCELERATED if backends.accelerated(backends.of(query)) else _CHUNK
    step = max(1, limit // max(1, rows * heads * keys)) if static else length
    if not static or step >= length:
        return block(query, 0, k_t, v_t, bias, mask, *grid)
    return _in_blocks(block, step, query, (k_t, v_t), (bias, mask, *grid))


def _dropped(weights: Any, start: Any, sizes: tuple, rate: float, seed: Any) -> Any:
    """Weights (batch, heads, queries, keys) with a part set to zero, by the queries' positions."""
    module = backends.module_of(weights)
    count, *rest = sizes
    row = math.prod(rest)
    bits = module.random_bits(seed, count * row, 24, start * row)
    kept = k.transpose(k.reshape(bits, sizes), (1, 2, 0, 3)) >= round(rate * 2**24)
    return weights * cast(kept, dtype(weights)) * (1.0 / (1.0 - rate))


def _in_blocks(block: Callable, step: int, query: Any, constants: tuple, by_row: tuple) -> Any:
    """`block` over `step` queries at a time; gradients compute each again instead of keeping it.

    Args:
        block: a function of (queries, the first one's position, *constants, *by_row).
        step: how many queries at a time, fewer than there are.
        query: (batch, queries, heads, size).
        constants: arguments that are the same for each block.
        by_row: arguments that may have a row for each query, on the axis before the last; or None.
    """
    length = query.shape[1]
    count, rest = divmod(length, step)
    cut = [x is not None and len(x.shape) >= 2 and x.shape[-2] != 1 for x in by_row]

    def blocks(x: Any, axis: int) -> Any:
        x = x[(slice(None),) * axis + (slice(0, count * step),)] if rest else x
        sizes = shape(x)
        x = k.reshape(x, (*sizes[:axis], count, step, *sizes[axis + 1 :]))
        return k.moveaxis(x, axis, 0)

    def run(q: Any, start: Any, rows: list) -> Any:
        rows = iter(rows)
        chosen = [next(rows) if c else x for x, c in zip(by_row, cut, strict=True)]
        return checkpoint(block)(q, start, *constants, *chosen)

    rows = [x for x, c in zip(by_row, cut, strict=True) if c]
    starts = positions(query, count) * step
    xs = (blocks(query, 1), starts, [blocks(x, len(x.shape) - 2) for x in rows])
    _, outs = scan(lambda carry, x: (carry, run(*x)), starts[0], xs)
    outs = k.moveaxis(outs, 0, 1)
    sizes = shape(outs)
    outs = k.reshape(outs, (sizes[0], count * step, *sizes[3:]))
    if rest:
        left = run(query[:, -rest:], count * step, [x[..., -rest:, :] for x in rows])
        outs = k.concatenate([outs, left], axis=1)
    return outs


@op("same", tensors=2)
def _scores(query: Any, key: Any) -> Any:
    """A batched product, in at least float32."""
    return to_float32(k.matmul(query, key))[0]


__all__ = [
    "dot_product_attention", "grid_attention",
]  # fmt: skip
