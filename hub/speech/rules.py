"""The rules by which times stand in a transcript, as rules of scores inside a generation loop."""

from dataclasses import dataclass
from typing import Any

from keraslite import ops

_LOW = float("-inf")


@dataclass(frozen=True)
class TimestampRules:
    """Allow tokens of times where Whisper's authors do (Radford et al., 2022, arXiv:2212.04356).

    Times come in pairs, the end of a part and the start of the next; they do not decrease, and a
    part has a length; a transcript begins with one. A time comes wherever all of them together are
    likelier than any token of the text.

    Args:
        timestamp_begin: the token of the time 0; all from there on are times.
        end: the token that ends a text; all below are ordinary ones.
        max_initial_timestamp_index: the latest first time, in steps of 20 ms; None for any.

    >>> rules = TimestampRules(timestamp_begin=4, end=2)
    >>> scores = ops.convert_to_tensor(np.zeros((1, 7), "float32"))
    >>> tokens = ops.convert_to_tensor(np.array([[3, 0, 0]], "int32"))
    >>> written = ops.convert_to_tensor(np.array([[True, False, False]]))
    >>> ops.convert_to_numpy(rules(scores, tokens, written, 1, 0)).tolist()
    [[-inf, -inf, -inf, -inf, 0.0, 0.0, 0.0]]
    """

    timestamp_begin: int
    end: int
    max_initial_timestamp_index: int | None = None

    def __call__(self, scores: Any, tokens: Any, is_written: Any, index: Any, step: Any) -> Any:
        """Return scores, those of tokens that must not come next being -inf.

        Args:
            scores: (rows, vocabulary) floats.
            tokens: (rows, length) of the tokens so far.
            is_written: (rows, length): which positions hold one.
            index: the position of the next token.
            step: the number of new tokens so far.
        """
        begin = self.timestamp_begin
        position = ops.arange(tokens.shape[1], dtype="int32")[None]
        is_time = ops.logical_and(tokens >= begin, position >= index - step)
        is_time = ops.logical_and(is_time, position < index)
        after_time = ops.any(ops.logical_and(is_time, ops.equal(position, index - 1)), axis=1)
        # A first time counts as the second of a pair.
        time_before = ops.any(ops.logical_and(is_time, ops.equal(position, index - 2)), axis=1)
        second = ops.logical_or(time_before, step < 2)
        in_pair = ops.logical_and(after_time, ops.logical_not(second))[:, None]
        after_pair = ops.logical_and(after_time, second)[:, None]
        last = ops.max(ops.where(is_time, tokens, begin - 1), axis=1, keepdims=True)
        is_first = ops.equal(step, 0)

        times = scores[:, begin:]
        time = begin + ops.arange(times.shape[1], dtype="int32")[None]
        refused = ops.where(in_pair, time < last, time <= last)
        refused = ops.logical_or(refused, after_pair)
        if self.max_initial_timestamp_index is not None:
            late = time > begin + self.max_initial_timestamp_index
            refused = ops.logical_or(refused, ops.logical_and(is_first, late))
        times = ops.where(refused, _LOW, times)

        no_text = ops.logical_or(in_pair, is_first)
        text, other = scores[:, : self.end], scores[:, self.end : begin - 1]
        other = ops.where(is_first, _LOW, other)
        best_text = ops.where(no_text, _LOW, ops.max(text, axis=1, keepdims=True))
        best = ops.maximum(best_text, ops.max(other, axis=1, keepdims=True))
        # Without any time allowed their sum would not be a number.
        top = ops.max(times, axis=1, keepdims=True)
        top = ops.where(top > _LOW, top, 0.0)
        likelihood = ops.sum(ops.exp(times - top), axis=1, keepdims=True)
        times_are_likelier = ops.log(likelihood) + top > best
        text = ops.where(ops.logical_or(no_text, times_are_likelier), _LOW, text)
        other = ops.where(times_are_likelier, _LOW, other)
        no_timestamps = ops.full((scores.shape[0], 1), _LOW, scores.dtype)
        return ops.concatenate([text, other, no_timestamps, times], axis=1)
