"""Beam search, with the rules of transformers for when it stops."""

from typing import Any

import numpy as np

import keraslite as keras
from hub.generation.sampling import Sampling, adjust_scores, is_one_of
from hub.generation.strategy import (
    LOWEST,
    Strategy,
    map_cache,
    next_index,
    write_tokens,
    written_positions,
)
from keraslite import ops


class BeamSearch(Strategy):
    """Keep the best few beams of each prompt until enough of them have ended.

    The state has running beams (`tokens`, `running` scores) and ended ones (`ended`, `scores`,
    `has_ended`); `open` tells the prompts whose ended beams can still get better.
    """

    def __init__(self, sampling: Sampling, rows: int, pad_id: int, with_scores: bool = False):
        super().__init__(sampling, rows, pad_id, with_scores)
        # So many candidates that, were all end tokens among them, `num_beams` others are left.
        self.num_candidates = max(2, 1 + len(sampling.eos_token_id)) * sampling.num_beams
        self.num_ended = max(1, round(sampling.num_beams * sampling.patience))

    def init_state(self, tokens: Any) -> dict[str, Any]:
        """Return what the strategy adds to the state before the first token."""
        rows, beams, length = self.rows, self.sampling.num_beams, tokens.shape[1]
        # At first all beams of a row are the same: only the first one counts.
        running = np.full((rows, beams), LOWEST, "float32")
        running[:, 0] = 0.0
        ended = ops.reshape(tokens, (rows, beams, length))[:, :1]
        return {
            "running": ops.convert_to_tensor(running),
            "ended": ops.repeat(ended, self.num_ended, axis=1),
            "scores": ops.full((rows, self.num_ended), LOWEST, "float32"),
            "has_ended": ops.zeros((rows, self.num_ended), "bool"),
            "open": ops.ones((rows, 1), "bool"),
            "stopped": ops.zeros((), "bool"),
        }

    def choose(
        self, state: dict, logits: Any, attention_mask: Any, step: Any, controls: dict
    ) -> dict[str, Any]:
        """Return the state with the next token of every beam."""
        sampling, rows, beams = self.sampling, self.rows, self.sampling.num_beams
        index, limit = state["index"], controls["limit"]
        best, parent, next_tokens, texts = self._candidates(
            state, logits, attention_mask, step, limit
        )
        ends = ops.logical_or(is_one_of(next_tokens, sampling.eos_token_id), index + 1 >= limit)
        # The running beams: the best candidates that have not ended.
        running, chosen = ops.top_k(best + _lowest_where(ends), beams)
        chosen = ops.cast(chosen, "int32")
        parents = ops.take_along_axis(parent, chosen, axis=1)
        row = ops.arange(rows, dtype="int32")[:, None] * beams
        source = ops.reshape(row + parents, (-1,))
        cache = map_cache(lambda x: ops.take(x, source, axis=0), state["cache"])
        shape = state["tokens"].shape
        tokens = ops.reshape(_gather_texts(texts, chosen), shape)
        ended, scores, has_ended = self._ended(state, best, ends, texts, step)
        is_open = self._is_open(state, running, scores, has_ended, step, limit)
        goes_on = ops.logical_and(ops.any(is_open), ops.logical_not(ops.all(ends)))
        if sampling.early_stopping is True:
            goes_on = ops.logical_and(goes_on, ops.logical_not(ops.all(has_ended)))
        return {
            "tokens": tokens, "cache": cache, "index": next_index(index), "running": running,
            "ended": ended, "scores": scores, "has_ended": has_ended, "open": is_open,
            "stopped": ops.logical_not(goes_on),
            "last": ops.reshape(ops.take_along_axis(next_tokens, chosen, axis=1), (-1, 1)),
        }  # fmt: skip

    def _candidates(
        self, state: dict, logits: Any, attention_mask: Any, step: Any, limit: Any
    ) -> tuple[Any, Any, Any, Any]:
        """Return scores, parent beams, next tokens and texts of the best candidates."""
        sampling, rows, beams = self.sampling, self.rows, self.sampling.num_beams
        index, tokens, count = state["index"], state["tokens"], self.num_candidates
        size, length = logits.shape[-1], tokens.shape[1]
        scores = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
        is_written = written_positions(attention_mask, index)
        is_last = index + 1 >= limit
        scores = adjust_scores(scores, tokens, is_written, index, step, is_last, sampling)
        scores = ops.reshape(scores, (rows, beams, size)) + state["running"][:, :, None]
        best, flat_index = ops.top_k(ops.reshape(scores, (rows, beams * size)), count)
        flat_index = ops.cast(flat_index, "int32")
        parent, next_tokens = flat_index // size, flat_index % size
        texts = _gather_texts(ops.reshape(tokens, (rows, beams, length)), parent)
        texts = ops.reshape(texts, (rows * count, length))
        texts = write_tokens(texts, index, ops.reshape(next_tokens, (-1,)))
        return best, parent, next_tokens, ops.reshape(texts, (rows, count, length))

    def _ended(
        self, state: dict, best: Any, ends: Any, texts: Any, step: Any
    ) -> tuple[Any, Any, Any]:
        """Return texts, scores and flags of the best ended beams, old and new."""
        sampling, beams = self.sampling, self.sampling.num_beams
        final = best / ops.power(ops.cast(step + 1, "float32"), sampling.length_penalty)
        is_full = ops.all(state["has_ended"], axis=-1, keepdims=True)
        # Only the best `beams` candidates may join.
        joins = ops.logical_and(ends, ops.arange(self.num_candidates, dtype="int32")[None] < beams)
        if sampling.early_stopping is True:
            final = final + _lowest_where(is_full)
        final = final + _lowest_where(ops.logical_not(state["open"]))
        final = final + _lowest_where(ops.logical_not(joins))
        scores = ops.concatenate([state["scores"], final], axis=1)
        scores, chosen = ops.top_k(scores, self.num_ended)
        chosen = ops.cast(chosen, "int32")
        ended = _gather_texts(ops.concatenate([state["ended"], texts], axis=1), chosen)
        has_ended = ops.take_along_axis(
            ops.concatenate([state["has_ended"], joins], axis=1), chosen, axis=1
        )
        return ended, scores, has_ended

    def _is_open(
        self, state: dict, running: Any, scores: Any, has_ended: Any, step: Any, limit: Any
    ) -> Any:
        """Return the prompts of which a running beam can still beat an ended one."""
        sampling, length = self.sampling, step + 1
        if sampling.early_stopping == "never" and sampling.length_penalty > 0:
            length = limit - (state["index"] - step)
        possible = running[:, :1] / ops.power(ops.cast(length, "float32"), sampling.length_penalty)
        worst = ops.where(has_ended, ops.min(scores, axis=1, keepdims=True), LOWEST)
        better = ops.any(possible > worst, axis=-1, keepdims=True)
        return ops.logical_and(state["open"], better)

    def finished(self, state: dict) -> Any:
        """Return whether the search has ended for all prompts."""
        return state["stopped"]

    def answers(self, state: dict) -> np.ndarray:
        """Return the tokens (prompts, beams, length), the best beam first."""
        return keras.ops.convert_to_numpy(state["ended"])

    def scores(self, state: dict) -> np.ndarray:
        """Return the scores (prompts, beams): log-probabilities over penalised lengths."""
        return keras.ops.convert_to_numpy(state["scores"])


def _lowest_where(condition: Any) -> Any:
    return ops.cast(condition, "float32") * LOWEST


def _gather_texts(texts: Any, which: Any) -> Any:
    return ops.take_along_axis(texts, which[:, :, None], axis=1)
