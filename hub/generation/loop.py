"""The loops that generate text: one token after the other, with a cache of keys and values.

A prompt is padded on the left, so that every row's next token has the same position and a batch
gives what its rows would give one by one. A loop is made once for a shape and its settings, and
lengths are rounded up to a few: on JAX and TensorFlow it is compiled, on torch a step of it is
recorded and replayed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

import keraslite as keras
from hub.generation.sampling import Sampling, adjusted, chosen, one_of
from hub.preprocessing.text import BUCKETS
from keraslite import ops

_STEPS = 8  # tokens between two looks for the end of a text that only the host can see
_NEVER = -1.0e9


def room(length: int) -> int:
    """The number of positions that a compiled loop is made for.

    Args:
        length: how many are needed.

    >>> room(70), room(1100)
    (96, 1280)
    """
    return next((b for b in BUCKETS if b >= length), -(-length // 256) * 256)


@contextmanager
def inference(backend: str) -> Iterator[None]:
    """A block on a backend, without gradients.

    Args:
        backend: its name.

    >>> with inference("numpy"):
    ...     keras.backend.backend()
    'numpy'
    """
    with keras.use_backend(backend), keras.no_grad():
        yield


def state_of(network: Any) -> tuple[Any, list[Any]]:
    """What tells a network from itself with other weights, and its variables.

    Variables are told apart by their place in memory: who keeps the first has to keep the second.

    Args:
        network: a layer or model.

    >>> layer = keras.layers.Dense(2)
    >>> layer.build((None, 3))
    >>> before = state_of(layer)
    >>> layer.enable_lora(1)
    >>> before[0] == state_of(layer)[0]
    False
    """
    variables = network.variables
    return (network.backend, *map(id, variables)), variables


class Compiled:
    """Functions of networks, compiled when they are first called; called within `inference`.

    They are made anew where a network has got other variables: those of an adapter, or of int8.

    >>> from hub import AutoencoderKL
    >>> vae = AutoencoderKL(block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4)
    >>> with inference(vae.backend):
    ...     Compiled()(vae, vae.decode, np.zeros((1, 4, 4, 4), "float32")).shape[1:] == (8, 8, 3)
    True
    """

    def __init__(self) -> None:
        self._functions: dict[str, tuple[Any, Callable]] = {}

    def __call__(self, network: Any, function: Callable, *values: Any) -> Any:
        """What a function gives.

        Args:
            network: a layer or model.
            function: of tensors and the network, told from others by its name.
            values: its arguments: arrays or tensors.
        """
        state, variables = state_of(network)
        kept, compiled = self._functions.get(function.__name__, (None, function))
        if kept != state:
            compiled = keras.jit(function, variables)
            self._functions[function.__name__] = state, compiled
        return compiled(*map(ops.convert_to_tensor, values))


class Generator:
    """Runs a model's loops and keeps what was compiled.

    Args:
        model: a task with `start(inputs, rows, length)`, which gives a cache for rows, and
            `advance(token_ids, valid, cache, index)`, which gives the scores of the next token
            (rows, vocabulary), hidden states (rows, new tokens, width), and the new cache.
    """

    def __init__(self, model: Any):
        self.model = model
        self._network: Any = None
        self._functions: dict[Any, Any] = {}

    def __call__(
        self,
        prompt: np.ndarray,
        valid: np.ndarray,
        inputs: Any,
        how: Sampling,
        most: int,
        pad_id: int,
        seed: int = 0,
        steps: int | None = None,
        ended: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> Iterator[np.ndarray]:
        """Yield the new tokens so far (rows, texts, new tokens) after every few steps.

        Args:
            prompt: (rows, length) token ids, padded on the left.
            valid: (rows, length): where there are tokens.
            inputs: what the model's `start` takes beside, such as texts to encode.
            how: the settings.
            most: the most new tokens.
            pad_id: what stands behind the end of a text.
            seed: of the draws.
            steps: how many tokens are made before something is yielded; None for all.
            ended: says of new tokens (rows, new tokens) which rows are to end.
        """
        rows, width = prompt.shape
        many = how.num_beams if how.num_beams > 1 else how.num_return_sequences
        beams = how.num_beams > 1
        length = room(width + most)
        # Between two yields the caller's code runs: no context may stay open over them.
        with inference(self.model.backend):
            tokens = np.full((rows, length), pad_id, "int32")
            tokens[:, :width] = prompt
            there = np.ones((rows, length), bool)
            there[:, :width] = valid
            tokens, there = ops.convert_to_tensor(tokens), ops.convert_to_tensor(there)
            inputs = keras.tree.map_structure(ops.convert_to_tensor, inputs)
            kind = _Beams if beams else _Contrast if contrasts(how) else _Rows
            loop = kind(how, rows, pad_id)
            end = width + most
            seed = ops.convert_to_tensor(np.array([signed(seed), 0], "int32"))
            limit = ops.convert_to_tensor(np.int32(end))
            key = (how.without_lengths(), rows, width, length, pad_id)
            begin, go = self._functions_of(loop, key, width, many)
            state = begin(tokens, there, inputs, seed, limit)
            there = ops.repeat(there, many, axis=0) if many > 1 else there
        while True:
            with inference(self.model.backend):
                done = int(state["index"])
                finished = done >= end or bool(loop.finished(state))
                answers = loop.answers(state)[:, : how.num_return_sequences, width:done]
            if finished or (steps is not None and done > width):
                yield answers
            if finished:
                return
            with inference(self.model.backend):
                if ended is not None and not beams and done > width:
                    stop = ended(keras.ops.convert_to_numpy(state["tokens"])[:, width:done])
                    if (stop & ~keras.ops.convert_to_numpy(state["finished"])).any():
                        state["finished"] = ops.logical_or(state["finished"], stop)
                        continue
                until = min(end, done + (steps or (_STEPS if ended is not None else most)))
                state = go(state, there, seed, ops.convert_to_tensor(np.int32(until)), limit)

    def _functions_of(self, loop: Any, key: tuple, width: int, many: int) -> tuple:
        """What begins texts and what goes on with them, as the backend runs them best."""
        network, variables = state_of(self.model)
        if network != self._network:  # what was made for other weights would keep them
            self._network, self._functions = network, {}
        if key not in self._functions:
            step = keras.jit(partial(self._step, loop, width), variables, compile="record")
            self._functions[key] = (
                keras.jit(partial(self._begin, loop, width, many), variables, "xla"),
                keras.jit(partial(self._go, loop, step), variables, "xla"),
            )
        return self._functions[key]

    def _begin(
        self, loop: Any, width: int, many: int, tokens: Any, there: Any, inputs: Any, seed: Any,
        limit: Any,
    ) -> Any:  # fmt: skip
        """The state after the prompt and the first new token."""
        cache = self.model.start(inputs, *tokens.shape)
        logits, hidden, cache = self.model.advance(tokens[:, :width], there, cache, 0)
        if many > 1:
            logits, hidden, cache, tokens, there = keras.tree.map_structure(
                lambda x: ops.repeat(x, many, axis=0), (logits, hidden, cache, tokens, there)
            )
        state = {"tokens": tokens, "cache": cache, "index": width, **loop.start(tokens)}
        state = loop.begin(state, logits, hidden, there, seed, limit)
        return {**state, "index": ops.convert_to_tensor(state["index"], "int32")}

    def _go(
        self, loop: Any, step: Callable, state: Any, there: Any, seed: Any, until: Any, limit: Any
    ) -> Any:
        """The state at position `until`, or earlier where all texts have ended."""
        names = sorted(state)

        def unfinished(*values: Any) -> Any:
            now = dict(zip(names, values, strict=True))
            return ops.logical_and(now["index"] < until, ops.logical_not(loop.finished(now)))

        def body(*values: Any) -> tuple:
            now = step(dict(zip(names, values, strict=True)), there, seed, limit)
            return tuple(now[name] for name in names)

        values = ops.while_loop(unfinished, body, tuple(state[name] for name in names))
        return dict(zip(names, values, strict=True))

    def _step(self, loop: Any, width: int, state: Any, there: Any, seed: Any, limit: Any) -> Any:
        """The state after one more token."""
        return loop.body(self.model.advance, state, there, state["index"] - width, seed, limit)


def signed(seed: int) -> int:
    """A seed as an int32: of larger ones the last 32 bits.

    Args:
        seed: any integer.

    >>> signed(2**32 + 5), signed(2**31)
    (5, -2147483648)
    """
    return (int(seed) + 2**31) % 2**32 - 2**31


def _known(there: Any, index: Any) -> Any:
    places = ops.arange(there.shape[1], dtype="int32")
    return ops.logical_and(there, places[None] < index)


def _written(tokens: Any, index: Any, new: Any) -> Any:
    return ops.overwrite(tokens, (0, index), new[:, None])


class _Loop:
    """A way to choose tokens: what it keeps, and what it does at each position."""

    def __init__(self, how: Sampling, rows: int, pad_id: int):
        self.how, self.rows, self.pad_id = how, rows, pad_id

    def begin(
        self, state: dict, logits: Any, hidden: Any, there: Any, seed: Any, limit: Any
    ) -> dict[str, Any]:
        """The state after the prompt: the first new token is chosen."""
        return self.step(state, logits, there, 0, seed, limit)

    def body(
        self, advance: Callable, state: dict, there: Any, new: Any, seed: Any, limit: Any
    ) -> dict[str, Any]:
        """The state after one more token."""
        logits, _, cache = advance(state["last"], there, state["cache"], state["index"] - 1)
        return self.step({**state, "cache": cache}, logits, there, new, seed, limit)


class _Rows(_Loop):
    """One text a row: greedy search and sampling."""

    def start(self, tokens: Any) -> dict[str, Any]:
        return {"finished": ops.zeros((tokens.shape[0],), "bool")}

    def step(
        self, state: dict, logits: Any, there: Any, new: Any, seed: Any, limit: Any
    ) -> dict[str, Any]:
        index, tokens = state["index"], state["tokens"]
        scores = ops.cast(logits, "float32")
        known = _known(there, index)
        last = index + 1 >= limit
        scores = adjusted(scores, tokens, known, index, new, last, self.how)
        if self.how.do_sample:
            seed = ops.stack([seed[0], ops.cast(new, "int32")])
        following = chosen(scores, self.how, seed)
        following = ops.where(state["finished"], self.pad_id, following)
        finished = ops.logical_or(state["finished"], one_of(following, self.how.eos_token_id))
        return {
            "tokens": _written(tokens, index, following), "cache": state["cache"],
            "index": _next(index), "finished": finished, "last": following[:, None],
        }  # fmt: skip

    def finished(self, state: dict) -> Any:
        return ops.all(state["finished"])

    def answers(self, state: dict) -> np.ndarray:
        tokens = keras.ops.convert_to_numpy(state["tokens"])
        many = self.how.num_return_sequences
        return tokens.reshape(-1, many, tokens.shape[1])


class _Contrast(_Rows):
    """One text a row: a likely token whose hidden state is unlike those before it."""

    def begin(
        self, state: dict, logits: Any, hidden: Any, there: Any, seed: Any, limit: Any
    ) -> dict[str, Any]:
        shape = (hidden.shape[0], there.shape[1], hidden.shape[2])
        said = ops.overwrite(ops.zeros(shape, "float32"), (0, 0, 0), _unit(hidden))
        return {**state, "logits": logits, "said": said}

    def body(
        self, advance: Callable, state: dict, there: Any, new: Any, seed: Any, limit: Any
    ) -> dict[str, Any]:
        how, index, tokens = self.how, state["index"], state["tokens"]
        rows, many = tokens.shape[0], how.top_k
        known = _known(there, index)
        scores = ops.cast(state["logits"], "float32")
        scores = adjusted(scores, tokens, known, index, new, index + 1 >= limit, how)
        best, candidates = ops.top_k(ops.softmax(scores, axis=-1), many)
        candidates = ops.cast(candidates, "int32")
        cache, wide = keras.tree.map_structure(
            lambda x: ops.repeat(x, many, axis=0), (state["cache"], there)
        )
        words = ops.reshape(candidates, (-1, 1))
        logits, hidden, cache = advance(words, wide, cache, index)
        hidden = _unit(hidden)[:, 0]
        alike = ops.matmul(
            ops.reshape(hidden, (rows, many, -1)), ops.transpose(state["said"], (0, 2, 1))
        )
        alike = ops.max(ops.where(known[:, None], alike, -1.0), axis=-1)
        which = ops.argmax((1 - how.penalty_alpha) * best - how.penalty_alpha * alike, axis=-1)
        which = ops.cast(which, "int32")
        row = ops.arange(rows, dtype="int32") * many + which
        hidden, logits, cache = keras.tree.map_structure(
            lambda x: ops.take(x, row, axis=0), (hidden, logits, cache)
        )
        following = ops.take_along_axis(candidates, which[:, None], axis=1)[:, 0]
        following = ops.where(state["finished"], self.pad_id, following)
        finished = ops.logical_or(state["finished"], one_of(following, how.eos_token_id))
        return {
            "tokens": _written(tokens, index, following), "cache": cache, "index": _next(index),
            "finished": finished, "logits": logits,
            "said": ops.overwrite(state["said"], (0, index, 0), hidden[:, None]),
        }  # fmt: skip


def _unit(hidden: Any) -> Any:
    return ops.normalize(ops.cast(hidden, "float32"), axis=-1, order=2)


def contrasts(how: Sampling) -> bool:
    """Whether the settings ask for contrastive search.

    Args:
        how: the settings.
    """
    return how.penalty_alpha is not None and how.penalty_alpha > 0 and how.top_k > 1


class _Beams(_Loop):
    """The best few beginnings of each row, kept until enough of them have ended."""

    def __init__(self, how: Sampling, rows: int, pad_id: int):
        super().__init__(how, rows, pad_id)
        self.kept = max(2, 1 + len(how.eos_token_id)) * how.num_beams

    def start(self, tokens: Any) -> dict[str, Any]:
        rows, beams, length = self.rows, self.how.num_beams, tokens.shape[1]
        # At first all beams of a row are the same: only the first one counts.
        running = np.full((rows, beams), _NEVER, "float32")
        running[:, 0] = 0.0
        return {
            "running": ops.convert_to_tensor(running),
            "ended": ops.reshape(tokens, (rows, beams, length)),
            "scores": ops.full((rows, beams), _NEVER, "float32"),
            "has_ended": ops.zeros((rows, beams), "bool"),
            "open": ops.ones((rows, 1), "bool"),
            "stopped": ops.zeros((), "bool"),
        }

    def step(
        self, state: dict, logits: Any, there: Any, new: Any, seed: Any, limit: Any
    ) -> dict[str, Any]:
        how, rows, beams = self.how, self.rows, self.how.num_beams
        index, tokens = state["index"], state["tokens"]
        size, length = logits.shape[-1], tokens.shape[1]
        last = index + 1 >= limit
        scores = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
        scores = adjusted(scores, tokens, _known(there, index), index, new, last, how)
        scores = ops.reshape(scores, (rows, beams, size)) + state["running"][:, :, None]
        best, where = ops.top_k(ops.reshape(scores, (rows, beams * size)), self.kept)
        where = ops.cast(where, "int32")
        parent, following = where // size, where % size
        texts = _gathered(ops.reshape(tokens, (rows, beams, length)), parent)
        flat = ops.reshape(texts, (rows * self.kept, length))
        flat = _written(flat, index, ops.reshape(following, (-1,)))
        texts = ops.reshape(flat, (rows, self.kept, length))
        ends = ops.logical_or(one_of(following, how.eos_token_id), last)
        # What goes on: the best that have not ended.
        running, going = ops.top_k(best + ops.cast(ends, "float32") * _NEVER, beams)
        going = ops.cast(going, "int32")
        parents = ops.take_along_axis(parent, going, axis=1)
        row = ops.arange(rows, dtype="int32")[:, None] * beams
        source = ops.reshape(row + parents, (-1,))
        cache = keras.tree.map_structure(lambda x: ops.take(x, source, axis=0), state["cache"])
        tokens = ops.reshape(_gathered(texts, going), (rows * beams, length))
        # What has ended: only the best `beams` candidates may join.
        final = best / ops.power(ops.cast(new + 1, "float32"), how.length_penalty)
        full = ops.all(state["has_ended"], axis=-1, keepdims=True)
        joins = ops.logical_and(ends, ops.arange(self.kept, dtype="int32")[None] < beams)
        if how.early_stopping is True:
            final = final + ops.cast(full, "float32") * _NEVER
        final = final + ops.cast(ops.logical_not(state["open"]), "float32") * _NEVER
        final = final + ops.cast(ops.logical_not(joins), "float32") * _NEVER
        scores = ops.concatenate([state["scores"], final], axis=1)
        scores, best_ended = ops.top_k(scores, beams)
        best_ended = ops.cast(best_ended, "int32")
        ended = _gathered(ops.concatenate([state["ended"], texts], axis=1), best_ended)
        has_ended = ops.take_along_axis(
            ops.concatenate([state["has_ended"], joins], axis=1), best_ended, axis=1
        )
        # Whether a better one can still come.
        reach = new + 1
        if how.early_stopping == "never" and how.length_penalty > 0:
            reach = limit - (index - new)
        possible = running[:, :1] / ops.power(ops.cast(reach, "float32"), how.length_penalty)
        worst = ops.where(has_ended, ops.min(scores, axis=1, keepdims=True), _NEVER)
        better = ops.any(possible > worst, axis=-1, keepdims=True)
        opened = ops.logical_and(state["open"], better)
        goes = ops.logical_and(ops.any(opened), ops.logical_not(ops.all(ends)))
        if how.early_stopping is True:
            goes = ops.logical_and(goes, ops.logical_not(ops.all(has_ended)))
        return {
            "tokens": tokens, "cache": cache, "index": _next(index), "running": running,
            "ended": ended, "scores": scores, "has_ended": has_ended, "open": opened,
            "stopped": ops.logical_not(goes),
            "last": ops.reshape(ops.take_along_axis(following, going, axis=1), (-1, 1)),
        }  # fmt: skip

    def finished(self, state: dict) -> Any:
        return state["stopped"]

    def answers(self, state: dict) -> np.ndarray:
        return keras.ops.convert_to_numpy(state["ended"])


def _next(index: Any) -> Any:
    return index + 1 if isinstance(index, int) else ops.cast(index + 1, "int32")


def _gathered(texts: Any, which: Any) -> Any:
    return ops.take_along_axis(texts, which[:, :, None], axis=1)
