"""How each new token is chosen: greedy search and sampling, and what all strategies share."""

from collections.abc import Callable
from typing import Any

import numpy as np

import keraslite as keras
from hub.generation.sampling import Sampling, adjust_scores, choose_tokens, is_one_of
from keraslite import ops

LOWEST = -1.0e9  # a score that is never chosen, and finite so that sums of it stay ordered


class Strategy:
    """A way to choose tokens: the state that it keeps, and its update at each position.

    The state is a dict of tensors with `tokens` (rows, length), `cache`, `index` (the position of
    the next token) and what the strategy adds.

    Args:
        sampling: the settings.
        rows: the number of prompts.
        pad_id: the token after the end of a text.
        with_scores: whether to sum up the log-probabilities of the tokens of each text.
    """

    def __init__(self, sampling: Sampling, rows: int, pad_id: int, with_scores: bool = False):
        self.sampling, self.rows, self.pad_id = sampling, rows, pad_id
        self.with_scores = with_scores

    def first_step(
        self, state: dict, logits: Any, hidden: Any, attention_mask: Any, controls: dict
    ) -> dict[str, Any]:
        """Return the state after the prompt.

        Args:
            state: the state before.
            logits: (rows, vocabulary), of the token after the prompt.
            hidden: (rows, prompt length, width), hidden states of the prompt.
            attention_mask: (rows, length): False where a prompt is padded.
            controls: what changes without compiling again: `seed`, (seed, 0) of int32; `limit`, the
                position at which a text ends at the latest; `temperature`.
        """
        return self.choose(state, logits, attention_mask, 0, controls)

    def next_step(
        self, decode_step: Callable, state: dict, attention_mask: Any, step: Any, controls: dict
    ) -> dict[str, Any]:
        """Return the state after one more token.

        Args:
            decode_step: as of `hub.generation.loop.Generator`.
            state: the state before.
            attention_mask: as for `first_step`.
            step: the number of new tokens so far.
            controls: as for `first_step`.
        """
        position = state["index"] - 1
        logits, _, cache = decode_step(state["last"], attention_mask, state["cache"], position)
        return self.choose({**state, "cache": cache}, logits, attention_mask, step, controls)


class OneByOne(Strategy):
    """Greedy search and sampling: one text a row."""

    def init_state(self, tokens: Any) -> dict[str, Any]:
        """Return what the strategy adds to the state before the first token."""
        state = {"finished": ops.zeros((tokens.shape[0],), "bool")}
        if self.with_scores:
            state["scores"] = ops.zeros((tokens.shape[0],), "float32")
        return state

    def choose(
        self, state: dict, logits: Any, attention_mask: Any, step: Any, controls: dict
    ) -> dict[str, Any]:
        """Return the state with the next token."""
        index, tokens = state["index"], state["tokens"]
        scores = ops.cast(logits, "float32")
        is_written = written_positions(attention_mask, index)
        is_last = index + 1 >= controls["limit"]
        scores = adjust_scores(scores, tokens, is_written, index, step, is_last, self.sampling)
        seed = controls["seed"]
        if self.sampling.do_sample:
            seed = ops.stack([seed[0], ops.cast(step, "int32")])
        next_tokens = choose_tokens(scores, self.sampling, seed, controls["temperature"])
        kept = {}
        if self.with_scores:
            chosen = ops.log_softmax(scores, axis=-1)
            chosen = ops.take_along_axis(chosen, next_tokens[:, None], axis=1)[:, 0]
            kept["scores"] = state["scores"] + ops.where(state["finished"], 0.0, chosen)
        next_tokens, finished = self.end_texts(state, next_tokens)
        return {
            "tokens": write_tokens(tokens, index, next_tokens), "cache": state["cache"],
            "index": next_index(index), "finished": finished, "last": next_tokens[:, None], **kept,
        }  # fmt: skip

    def end_texts(self, state: dict, next_tokens: Any) -> tuple[Any, Any]:
        """Return the next tokens, padding where a text has ended, and which texts have ended."""
        next_tokens = ops.where(state["finished"], self.pad_id, next_tokens)
        ends = is_one_of(next_tokens, self.sampling.eos_token_id)
        return next_tokens, ops.logical_or(state["finished"], ends)

    def finished(self, state: dict) -> Any:
        """Return whether all texts have ended."""
        return ops.all(state["finished"])

    def answers(self, state: dict) -> np.ndarray:
        """Return the tokens (prompts, texts of each, length)."""
        tokens = keras.ops.convert_to_numpy(state["tokens"])
        return tokens.reshape(-1, self.sampling.num_return_sequences, tokens.shape[1])

    def scores(self, state: dict) -> np.ndarray | None:
        """Return the log-probabilities (prompts, texts of each); None where none are kept."""
        if not self.with_scores:
            return None
        scores = keras.ops.convert_to_numpy(state["scores"])
        return scores.reshape(-1, self.sampling.num_return_sequences)


def map_cache(function: Callable, cache: Any) -> Any:
    """Apply a function to the tensors of a cache that each text has for itself.

    Args:
        function: from a tensor (texts, ...) to a tensor.
        cache: nested tensors; in a dict those under `shared` are of a prompt, the same for all of
            its texts, and stay as they are.

    >>> map_cache(lambda x: 2 * x, {"own": 1, "shared": 1})
    {'own': 2, 'shared': 1}
    """
    if not isinstance(cache, dict) or "shared" not in cache:
        return keras.tree.map_structure(function, cache)
    own = {name: part for name, part in cache.items() if name != "shared"}
    return {**keras.tree.map_structure(function, own), "shared": cache["shared"]}


def written_positions(attention_mask: Any, index: Any) -> Any:
    """Return which positions hold a token, as booleans (rows, length).

    Args:
        attention_mask: (rows, length): False where a prompt is padded.
        index: the position of the next token.
    """
    positions = ops.arange(attention_mask.shape[1], dtype="int32")
    return ops.logical_and(attention_mask, positions[None] < index)


def write_tokens(tokens: Any, index: Any, next_tokens: Any) -> Any:
    """Write a token of each row (rows,) at a position of `tokens` (rows, length)."""
    return ops.overwrite(tokens, (0, index), next_tokens[:, None])


def next_index(index: Any) -> Any:
    """Return the position after an index, an int32 tensor where the index is one."""
    return index + 1 if isinstance(index, int) else ops.cast(index + 1, "int32")
