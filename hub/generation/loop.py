"""The decoding loop: one token after the other, with a cache of keys and values.

A prompt is padded on the left, so that every row's next token has the same position and a batch
gives what its rows would give one by one. A loop is made once for a shape and its settings, and
lengths are rounded up to a few: on JAX and TensorFlow it is compiled, on torch a step of it is
recorded and replayed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import keraslite as keras
from hub.generation.beams import BeamSearch
from hub.generation.contrastive import ContrastiveSearch, is_contrastive
from hub.generation.sampling import Sampling
from hub.generation.strategy import OneByOne, Strategy, map_cache
from hub.preprocessing.text import BUCKETS
from keraslite import ops
from keraslite.training import CompiledFunctions, inference

_STOP_CHECK_INTERVAL = 8  # tokens between two checks of stop strings, which only the host can see


def cache_length(length: int) -> int:
    """Return the number of positions that a compiled loop is made for.

    Args:
        length: how many are needed.

    >>> cache_length(70), cache_length(1100)
    (96, 1280)
    """
    return next((b for b in BUCKETS if b >= length), -(-length // 256) * 256)


@dataclass(frozen=True)
class Generated:
    """The texts of a loop so far, with their scores and the cache.

    Attributes:
        tokens: the new tokens (rows, texts, new tokens).
        scores: (rows, texts): of a beam search what beams are ranked by, else the sums of the
            log-probabilities, or None without `with_scores`.
        cache: the model's cache.
    """

    tokens: np.ndarray
    scores: np.ndarray | None
    cache: Any


class Generator:
    """Runs the decoding loops of a model and keeps what was compiled.

    Args:
        model: a task with `init_cache(inputs, rows, length)`, which gives a cache for rows, and
            `decode_step(token_ids, attention_mask, cache, index)`, which gives the logits of the
            next token (rows, vocabulary), hidden states (rows, new tokens, width), and the new
            cache.
    """

    def __init__(self, model: Any):
        self.model = model
        self.functions = CompiledFunctions()

    def __call__(
        self,
        prompt: np.ndarray,
        attention_mask: np.ndarray,
        inputs: Any,
        sampling: Sampling,
        max_new_tokens: int,
        pad_id: int,
        seed: int = 0,
        interval: int | None = None,
        stops: Callable[[np.ndarray], np.ndarray] | None = None,
        with_scores: bool = False,
    ) -> Iterator[Generated]:
        """Yield what there is after every few steps.

        Args:
            prompt: (rows, length) token ids, padded on the left.
            attention_mask: (rows, length) of booleans: False where a prompt is padded.
            inputs: further inputs of the model's `init_cache`, such as texts to encode.
            sampling: the settings.
            max_new_tokens: the number of new tokens at which texts end at the latest.
            pad_id: the token after the end of a text.
            seed: the seed of the draws.
            interval: the number of tokens after which something is yielded; None for the end.
            stops: tells of new tokens (rows, new tokens) which rows have to end.
            with_scores: whether to sum up the log-probabilities of the tokens.
        """
        rows, width = prompt.shape
        uses_beams = sampling.num_beams > 1
        num_sequences = sampling.num_beams if uses_beams else sampling.num_return_sequences
        length, end = cache_length(width + max_new_tokens), width + max_new_tokens
        # Between two yields the caller's code runs: no context may stay open over them.
        with inference(self.model.backend):
            tokens = ops.convert_to_tensor(_extended(prompt, length, pad_id))
            mask = ops.convert_to_tensor(_extended(attention_mask, length, True))
            inputs = keras.tree.map_structure(ops.convert_to_tensor, inputs)
            strategy = _strategy_class(sampling)(sampling, rows, pad_id, with_scores)
            controls = {
                "seed": ops.convert_to_tensor(np.array([keras.random.signed(seed), 0], "int32")),
                "limit": ops.convert_to_tensor(np.int32(end)),
                "temperature": ops.convert_to_tensor(np.float32(sampling.temperature)),
            }
            key = (sampling.compiled(), rows, width, length, pad_id, with_scores)
            prefill, decode = self.functions.get(
                self.model, key, partial(self._compile, strategy, width, num_sequences)
            )
            state = prefill(tokens, mask, inputs, controls)
            mask = ops.repeat(mask, num_sequences, axis=0) if num_sequences > 1 else mask
        while True:
            with inference(self.model.backend):
                done = int(state["index"])
                finished = done >= end or bool(strategy.finished(state))
            if finished or (interval is not None and done > width):
                with inference(self.model.backend):
                    tokens, scores = strategy.answers(state), strategy.scores(state)
                count = sampling.num_return_sequences
                yield Generated(
                    tokens[:, :count, width:done],
                    None if scores is None else scores[:, :count],
                    state["cache"],
                )
            if finished:
                return
            with inference(self.model.backend):
                if stops is not None and not uses_beams and done > width:
                    stop = stops(keras.ops.convert_to_numpy(state["tokens"])[:, width:done])
                    if (stop & ~keras.ops.convert_to_numpy(state["finished"])).any():
                        state["finished"] = ops.logical_or(state["finished"], stop)
                        continue
                pause = interval or (max_new_tokens if stops is None else _STOP_CHECK_INTERVAL)
                until = ops.convert_to_tensor(np.int32(min(end, done + pause)))
                state = decode(state, mask, until, controls)

    def _compile(
        self, strategy: Strategy, width: int, num_sequences: int, variables: list
    ) -> tuple[Callable, Callable]:
        """Compile the prompt's pass and the loop, as runs best on the backend."""
        step = keras.jit(
            partial(self._step, strategy, width), variables, compile="record", donate=False
        )
        return (
            keras.jit(
                partial(self._prefill, strategy, width, num_sequences),
                variables,
                "xla",
                donate=False,
            ),
            keras.jit(partial(self._decode, strategy, step), variables, "xla", donate=False),
        )

    def _prefill(
        self, strategy: Any, width: int, num_sequences: int, tokens: Any, attention_mask: Any,
        inputs: Any, controls: Any,
    ) -> Any:  # fmt: skip
        """Return the state after the prompt and the first new token."""
        cache = self.model.init_cache(inputs, *tokens.shape)
        prompt = tokens[:, :width]
        logits, hidden, cache = self.model.decode_step(prompt, attention_mask, cache, 0)
        if num_sequences > 1:
            repeat = partial(ops.repeat, repeats=num_sequences, axis=0)
            cache = map_cache(repeat, cache)
            logits, hidden, tokens, attention_mask = map(
                repeat, (logits, hidden, tokens, attention_mask)
            )
        state = {"tokens": tokens, "cache": cache, "index": width, **strategy.init_state(tokens)}
        state = strategy.first_step(state, logits, hidden, attention_mask, controls)
        return {**state, "index": ops.convert_to_tensor(state["index"], "int32")}

    def _decode(
        self, strategy: Any, step: Callable, state: Any, attention_mask: Any, until: Any,
        controls: Any,
    ) -> Any:  # fmt: skip
        """Return the state at position `until`, or earlier where all texts have ended."""
        names = sorted(state)

        def is_unfinished(*values: Any) -> Any:
            current = dict(zip(names, values, strict=True))
            return ops.logical_and(
                current["index"] < until, ops.logical_not(strategy.finished(current))
            )

        def body(*values: Any) -> tuple:
            current = dict(zip(names, values, strict=True))
            following = step(current, attention_mask, controls)
            return tuple(following[name] for name in names)

        values = ops.while_loop(is_unfinished, body, tuple(state[name] for name in names))
        return dict(zip(names, values, strict=True))

    def _step(
        self, strategy: Any, width: int, state: Any, attention_mask: Any, controls: Any
    ) -> Any:
        """Return the state after one more token."""
        step = state["index"] - width
        return strategy.next_step(self.model.decode_step, state, attention_mask, step, controls)


def _strategy_class(sampling: Sampling) -> type[Strategy]:
    if sampling.num_beams > 1:
        return BeamSearch
    return ContrastiveSearch if is_contrastive(sampling) else OneByOne


def _extended(x: np.ndarray, length: int, fill: Any) -> np.ndarray:
    """Return rows (rows, width) extended to a length on the right."""
    return np.pad(x, ((0, 0), (0, length - x.shape[1])), constant_values=fill)
