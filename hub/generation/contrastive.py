"""Contrastive search (Su et al., 2022, arXiv:2202.06417)."""

from collections.abc import Callable
from typing import Any

from hub.generation.sampling import Sampling, adjust_scores
from hub.generation.strategy import (
    OneByOne,
    map_cache,
    next_index,
    write_tokens,
    written_positions,
)
from keraslite import ops


class ContrastiveSearch(OneByOne):
    """Choose a likely token whose hidden state is unlike those before it; one text a row."""

    def first_step(
        self, state: dict, logits: Any, hidden: Any, attention_mask: Any, controls: dict
    ) -> dict[str, Any]:
        """Return the state after the prompt: its scores and directions of hidden states."""
        shape = (hidden.shape[0], attention_mask.shape[1], hidden.shape[2])
        directions = ops.overwrite(ops.zeros(shape, "float32"), (0, 0, 0), _normalize(hidden))
        return {**state, "logits": logits, "directions": directions}

    def next_step(
        self, decode_step: Callable, state: dict, attention_mask: Any, step: Any, controls: dict
    ) -> dict[str, Any]:
        """Return the state after one more token."""
        sampling, index, tokens = self.sampling, state["index"], state["tokens"]
        rows, top_k, alpha = tokens.shape[0], sampling.top_k, sampling.penalty_alpha
        is_written = written_positions(attention_mask, index)
        scores = ops.cast(state["logits"], "float32")
        is_last = index + 1 >= controls["limit"]
        scores = adjust_scores(scores, tokens, is_written, index, step, is_last, sampling)
        probabilities, candidates = ops.top_k(ops.softmax(scores, axis=-1), top_k)
        candidates = ops.cast(candidates, "int32")
        cache = map_cache(lambda x: ops.repeat(x, top_k, axis=0), state["cache"])
        candidate_mask = ops.repeat(attention_mask, top_k, axis=0)
        logits, hidden, cache = decode_step(
            ops.reshape(candidates, (-1, 1)), candidate_mask, cache, index
        )
        direction = _normalize(hidden)[:, 0]
        similarity = ops.matmul(
            ops.reshape(direction, (rows, top_k, -1)),
            ops.transpose(state["directions"], (0, 2, 1)),
        )
        similarity = ops.max(ops.where(is_written[:, None], similarity, -1.0), axis=-1)
        best = ops.argmax((1 - alpha) * probabilities - alpha * similarity, axis=-1)
        best = ops.cast(best, "int32")
        row = ops.arange(rows, dtype="int32") * top_k + best
        direction, logits = (ops.take(x, row, axis=0) for x in (direction, logits))
        cache = map_cache(lambda x: ops.take(x, row, axis=0), cache)
        next_tokens = ops.take_along_axis(candidates, best[:, None], axis=1)[:, 0]
        next_tokens, finished = self.end_texts(state, next_tokens)
        return {
            "tokens": write_tokens(tokens, index, next_tokens), "cache": cache,
            "index": next_index(index), "finished": finished, "logits": logits,
            "directions": ops.overwrite(state["directions"], (0, index, 0), direction[:, None]),
        }  # fmt: skip


def _normalize(hidden: Any) -> Any:
    return ops.normalize(ops.cast(hidden, "float32"), axis=-1, order=2)


def is_contrastive(sampling: Sampling) -> bool:
    """Return whether the settings ask for contrastive search.

    Args:
        sampling: the settings.
    """
    return bool(sampling.penalty_alpha) and sampling.penalty_alpha > 0 and sampling.top_k > 1
