"""Sampling settings, and the rules by which scores become the next token.

Names and meanings are those of a checkpoint's generation_config.json (transformers'
GenerationConfig). The functions are pure: from scores to scores or tokens.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import keraslite as keras
from keraslite import ops

_LOW = float("-inf")
# The samplers of KerasHub by their names, as settings.
SAMPLERS = {
    "greedy": {"do_sample": False, "num_beams": 1},
    "random": {"do_sample": True, "top_k": 0, "top_p": 1.0},
    "top_k": {"do_sample": True, "top_k": 5},
    "top_p": {"do_sample": True, "top_k": 0, "top_p": 0.1},
    "beam": {"do_sample": False, "num_beams": 5},
    "contrastive": {"do_sample": False, "penalty_alpha": 0.6, "top_k": 5},
}


def _is_count(least: int) -> tuple[Callable[[Any], bool], str]:
    """Return the test of an integer that is at least so much, and its name."""
    words = f"an integer, {least} or more" if least == 0 else f"an integer, at least {least}"
    return lambda value: isinstance(value, int | np.integer) and value >= least, words


# Setting -> what holds of its valid values, in code and in words.
_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(
        ("num_beams", "num_return_sequences", "max_length", "max_new_tokens"), _is_count(1)
    ),
    **dict.fromkeys(
        ("top_k", "no_repeat_ngram_size", "min_length", "min_new_tokens"), _is_count(0)
    ),
    "temperature": (lambda value: value > 0, "more than 0"),
    "repetition_penalty": (lambda value: value > 0, "more than 0"),
    "patience": (lambda value: value > 0, "more than 0"),
    "top_p": (lambda value: 0 < value <= 1, "more than 0 and at most 1"),
    "min_p": (lambda value: 0 <= value <= 1, "from 0 to 1"),
    "penalty_alpha": (lambda value: 0 <= value <= 1, "from 0 to 1"),
}


@dataclass(frozen=True)
class Sampling:
    """Settings of text generation.

    Attributes:
        do_sample: draw the next token, rather than take the likeliest.
        temperature: divides the scores before a draw.
        top_k: draw among so many of the likeliest; 0 for all. Of contrastive search, the
            candidates.
        top_p: draw among the likeliest whose probabilities reach this sum.
        min_p: draw among those with at least this part of the highest probability.
        num_beams: how many beginnings a beam search keeps.
        num_return_sequences: how many texts a prompt gives.
        length_penalty: of a beam search: scores are divided by the length to this power.
        early_stopping: of a beam search: True stops at `num_beams` finished texts, False where
            a better one is unlikely, "never" where none is possible.
        penalty_alpha: of contrastive search (Su et al., 2022, arXiv:2202.06417): the weight of
            the likeness to what was said; None for no such search.
        repetition_penalty: divides the scores of tokens that were there (Keskar et al., 2019,
            arXiv:1909.05858).
        no_repeat_ngram_size: no sequence of so many tokens comes twice; 0 for no such rule.
        min_length: no end before so many tokens, the prompt's included.
        min_new_tokens: no end before so many new tokens.
        max_length: the most tokens, the prompt's included.
        max_new_tokens: the most new tokens; wins over `max_length`.
        eos_token_id: the tokens that end a text: an id, or a list or array of them.
        suppress_tokens: tokens that never come.
        begin_suppress_tokens: tokens that do not come first.
        forced_bos_token_id: the token that comes after a first one that is no prompt.
        forced_eos_token_id: the token that comes last where the length runs out.
        patience: of a beam search: ended texts are collected up to `num_beams` times this (Kasai et
            al., 2022, arXiv:2204.05424).
        rules: further rules: hashable functions `(scores, tokens, is_written, index, step)` that
            return scores, of tensors as `adjust_scores` takes them. They are compiled.

    >>> Sampling().updated(top_k=3, do_sample=True).top_k
    3
    """

    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    min_p: float | None = None
    num_beams: int = 1
    num_return_sequences: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | str = False
    penalty_alpha: float | None = None
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    min_length: int = 0
    min_new_tokens: int = 0
    max_length: int | None = None
    max_new_tokens: int | None = None
    eos_token_id: tuple[int, ...] = ()
    suppress_tokens: tuple[int, ...] = ()
    begin_suppress_tokens: tuple[int, ...] = ()
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | None = None
    patience: float = 1.0
    rules: tuple[Callable[[Any, Any, Any, Any, Any], Any], ...] = ()

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Sampling":
        """Make the settings of a generation_config.json; other keys are left out.

        Args:
            config: its content.
        """
        names = {f.name for f in dataclasses.fields(cls)} - {"rules"}
        return cls().updated(**{k: v for k, v in config.items() if k in names and v is not None})

    def updated(self, **changes: Any) -> "Sampling":
        """Return the settings with some changed.

        Args:
            changes: names and values; a value of None leaves a setting as it is.

        Raises:
            TypeError: a name is no setting.
            ValueError: a value is out of range; names the range.
        """
        names = [f.name for f in dataclasses.fields(self)]
        unknown = sorted(set(changes) - set(names))
        if unknown:
            raise TypeError(f"Unknown settings {', '.join(unknown)}; expected one of {names}.")
        return dataclasses.replace(self, **{k: v for k, v in changes.items() if v is not None})

    def __post_init__(self) -> None:
        for name in ("eos_token_id", "suppress_tokens", "begin_suppress_tokens"):
            ids = np.ravel(() if getattr(self, name) is None else getattr(self, name))
            object.__setattr__(self, name, tuple(int(i) for i in ids))
        object.__setattr__(self, "rules", tuple(self.rules))
        for name, (is_valid, expected) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not is_valid(value):
                raise ValueError(f"{name} must be {expected}, got {value!r}.")
        if self.early_stopping not in (True, False, "never"):
            raise ValueError(
                f'early_stopping must be True, False or "never", got {self.early_stopping!r}.'
            )
        if self.num_beams > 1 and (self.do_sample or self.penalty_alpha is not None):
            raise ValueError(
                f"num_beams must be 1 with do_sample or penalty_alpha, got {self.num_beams}: beam "
                "search excludes both."
            )
        available = self.num_beams if self.num_beams > 1 else 1
        if self.num_return_sequences > available and not self.do_sample:
            raise ValueError(
                f"{self.num_return_sequences} texts a prompt need do_sample=True or as many beams; "
                f"num_beams is {self.num_beams}."
            )

    def compiled(self) -> "Sampling":
        """Return the settings without those that a compiled loop takes as values."""
        return dataclasses.replace(self, max_length=None, max_new_tokens=None, temperature=1.0)


def is_one_of(ids: Any, tokens: tuple[int, ...]) -> Any:
    """Return which ids are among some tokens, as booleans.

    Args:
        ids: a tensor of integers.
        tokens: the tokens.
    """
    result = ops.equal(ids, -1)
    for token in tokens:
        result = ops.logical_or(result, ops.equal(ids, token))
    return result


def _token_mask(tokens: tuple[int, ...], size: int) -> Any:
    """Return booleans (1, size), True at some tokens."""
    mask = np.zeros((1, size), bool)
    mask[0, [token for token in tokens if token < size]] = True
    return ops.convert_to_tensor(mask)


def _suppression(sampling: Sampling, size: int) -> np.ndarray:
    """Return what suppresses tokens (2, size): later ones, and the first."""
    biases = np.zeros((2, size), "float32")
    for first, tokens in ((0, sampling.suppress_tokens), (1, sampling.begin_suppress_tokens)):
        biases[first:, [token for token in tokens if token < size]] = _LOW
    return biases


def adjust_scores(
    scores: Any,
    tokens: Any,
    is_written: Any,
    index: Any,
    step: Any,
    is_last: Any,
    sampling: Sampling,
) -> Any:
    """Apply the rules that depend on the tokens so far to the scores.

    Args:
        scores: (rows, vocabulary) floats.
        tokens: (rows, length) of the tokens so far.
        is_written: (rows, length): which positions hold one.
        index: the position of the next token.
        step: the number of new tokens so far.
        is_last: whether the next token is the last one that there is room for.
        sampling: the settings.
    """
    size = scores.shape[-1]
    if sampling.repetition_penalty != 1.0:
        lower = ops.where(scores < 0, scores * sampling.repetition_penalty,
                          scores / sampling.repetition_penalty)  # fmt: skip
        scores = ops.where(_occurring(tokens, is_written, size), lower, scores)
    if sampling.no_repeat_ngram_size:
        scores = ops.where(_repeats(tokens, is_written, index, size, sampling), _LOW, scores)
    if (sampling.min_length or sampling.min_new_tokens) and sampling.eos_token_id:
        early = ops.logical_or(index < sampling.min_length, step < sampling.min_new_tokens)
        scores = ops.where(
            ops.logical_and(early, _token_mask(sampling.eos_token_id, size)), _LOW, scores
        )
    if sampling.suppress_tokens or sampling.begin_suppress_tokens:
        # Added: to choose between two values takes several times as long.
        biases = ops.convert_to_tensor(_suppression(sampling, size))
        scores = scores + ops.take(biases, ops.cast(ops.equal(step, 0), "int32"), axis=0)
    for token, holds in (
        (sampling.forced_bos_token_id, ops.equal(index, 1)),
        (sampling.forced_eos_token_id, is_last),
    ):  # fmt: skip
        if token is not None:
            forced = ops.where(_token_mask((token,), size), 0.0, _LOW)
            scores = ops.where(holds, forced, scores)
    for rule in sampling.rules:
        scores = rule(scores, tokens, is_written, index, step)
    return scores


def _occurring(tokens: Any, which: Any, size: int) -> Any:
    """Return which tokens of the vocabulary stand at some positions, as booleans (rows, size)."""
    rows = tokens.shape[0]
    row = ops.broadcast_to(ops.arange(rows, dtype="int32")[:, None], tokens.shape)
    at = ops.reshape(ops.stack([row, ops.cast(tokens, "int32")], -1), (-1, 2))
    hits = ops.reshape(ops.cast(which, "float32"), (-1,))
    return ops.scatter_update(ops.zeros((rows, size), "float32"), at, hits, reduction="max") > 0


def _repeats(tokens: Any, is_written: Any, index: Any, size: int, sampling: Sampling) -> Any:
    """Return which tokens would repeat an n-gram, as booleans (rows, vocabulary)."""
    n, length = sampling.no_repeat_ngram_size, tokens.shape[1]
    rows, positions = tokens.shape[0], length - n + 1
    if positions < 1:
        return ops.zeros((rows, size), "bool")
    # For each position: do the n - 1 tokens from there on equal the last n - 1?
    same = is_written[:, n - 1 : n - 1 + positions]
    for i in range(n - 1):
        where = ops.full((rows, 1), 0, "int32") + (index - (n - 1) + i)
        recent = ops.take_along_axis(tokens, ops.maximum(where, 0), axis=1)
        begins = ops.logical_and(
            ops.equal(tokens[:, i : i + positions], recent), is_written[:, i : i + positions]
        )
        same = ops.logical_and(same, begins)
    return _occurring(tokens[:, n - 1 : n - 1 + positions], same, size)


def filter_scores(scores: Any, sampling: Sampling, temperature: Any = None) -> Any:
    """Divide the scores by the temperature and set those of tokens not to be drawn to -inf.

    Args:
        scores: (rows, vocabulary) floats.
        sampling: the settings.
        temperature: a scalar; that of the settings where it is None.
    """
    scores = scores / (sampling.temperature if temperature is None else temperature)
    size = scores.shape[-1]
    if 0 < sampling.top_k < size:
        scores = ops.where(scores < ops.top_k(scores, sampling.top_k)[0][:, -1:], _LOW, scores)
    if sampling.top_p < 1.0:
        count = sampling.top_k if 0 < sampling.top_k < size else size
        best = ops.top_k(scores, count)[0]
        probabilities = ops.softmax(best, axis=-1)
        before = ops.cumsum(probabilities, axis=-1) - probabilities
        threshold = ops.where(before < sampling.top_p, best, float("inf"))
        scores = ops.where(scores < ops.min(threshold, axis=-1, keepdims=True), _LOW, scores)
    if sampling.min_p is not None:
        probabilities = ops.softmax(scores, axis=-1)
        lowest = sampling.min_p * ops.max(probabilities, axis=-1, keepdims=True)
        scores = ops.where(probabilities < lowest, _LOW, scores)
    return scores


def choose_tokens(scores: Any, sampling: Sampling, seed: Any, temperature: Any = None) -> Any:
    """Choose the next token of each row: (rows,) of int32.

    Args:
        scores: (rows, vocabulary), as `adjust_scores` gives them.
        sampling: the settings.
        seed: a pair of int32: the seed and the position; draws depend on nothing else.
        temperature: as for `filter_scores`.
    """
    if not sampling.do_sample:
        return ops.cast(ops.argmax(scores, axis=-1), "int32")
    scores = filter_scores(scores, sampling, temperature)
    return keras.random.categorical(scores, 1, seed=seed)[:, 0]
