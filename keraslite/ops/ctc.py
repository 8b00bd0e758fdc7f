"""Connectionist temporal classification (Graves et al., 2006): the loss, and decoding."""

import math
from typing import Any

import numpy as np

from keraslite import dtypes
from keraslite.ops import numpy as k
from keraslite.ops.activation import log_softmax
from keraslite.ops.common import positions
from keraslite.ops.control_flow import scan
from keraslite.ops.core import cast, dtype, shape
from keraslite.ops.math import logsumexp
from keraslite.ops.op import op
from keraslite.ops.precision import to_float32
from keraslite.ops.slicing import scatter_update
from keraslite.typing import Tensor


@op("float", tensors=4, keep=(0, 2, 3))
def ctc_loss(
    target: Tensor,
    output: Tensor,
    target_length: Tensor,
    output_length: Tensor,
    mask_index: int = 0,
) -> Tensor:
    """The negative log likelihood of label sequences over all alignments to frames.

    Args:
        target: (batch, labels) of class indices.
        output: (batch, frames, classes) of logits.
        target_length: how many labels of each row count.
        output_length: how many frames of each row count.
        mask_index: the class of the blank.

    >>> ctc_loss([[1]], np.zeros((1, 2, 2), "float32"), [1], [2]).shape == (1,)
    True
    """
    logits, _ = to_float32(output)
    logs = log_softmax(logits, -1)
    target, target_length, output_length = (
        cast(v, "int32") for v in (target, target_length, output_length)
    )
    return _ctc(target, logs, target_length, output_length, mask_index)


@op("same", tensors=4)
def _ctc(target: Any, logs: Any, target_length: Any, output_length: Any, blank: int) -> Any:
    """`ctc_loss` of log probabilities: the forward recursion over labels with blanks between."""
    never = -1e30  # finite, so that differences and gradients stay so
    batch, count = shape(target)
    blanks = k.full_like(target, blank)
    states = k.reshape(k.stack([blanks, target], axis=2), (batch, 2 * count))
    states = k.concatenate([states, blanks[:, :1]], axis=1)
    places = np.arange(2 * count + 1, dtype="int32")
    # A label may follow the one before it directly unless they are equal.
    before = k.pad(states[:, :-2], ((0, 0), (2, 0)), constant_values=-1)
    skips = k.logical_and(k.not_equal(states, before), (places % 2 == 1) & (places > 1))
    skips = k.logical_and(skips, k.not_equal(states, blank))
    emitted = k.take_along_axis(logs, k.expand_dims(states, 1), axis=2)

    def shifted(x: Any, by: int) -> Any:
        return k.pad(x, ((0, 0), (by, 0)), constant_values=never)[:, : 2 * count + 1]

    def step(scores: Any, inputs: Any) -> Any:
        now, time = inputs
        skipped = k.where(skips, shifted(scores, 2), never)
        paths = k.logaddexp(k.logaddexp(scores, shifted(scores, 1)), skipped) + now
        return k.where(k.expand_dims(time < output_length, 1), paths, scores), None

    scores = k.where(places < 2, emitted[:, 0], never)
    frames = k.moveaxis(emitted, 1, 0)[1:]
    times = k.add(k.zeros_like(frames[:, 0, 0], dtype="int32"), positions(logs, len(frames)) + 1)
    scores, _ = scan(step, scores, (frames, times))
    last = k.expand_dims(2 * target_length, 1)
    end = k.take_along_axis(scores, last, axis=1)
    label = k.take_along_axis(scores, k.maximum(last - 1, 0), axis=1)
    label = k.where(last > 0, label, never)
    return -k.squeeze(k.logaddexp(end, label), axis=1)


@op("same", tensors=2)
def ctc_decode(
    inputs: Tensor,
    sequence_lengths: Tensor,
    strategy: str = "greedy",
    beam_width: int = 100,
    top_paths: int = 1,
    merge_repeated: bool = True,
    mask_index: int | None = 0,
) -> tuple:
    """Decode frames of logits of a model trained with `ctc_loss` into label sequences.

    Args:
        inputs: (batch, frames, classes) of logits.
        sequence_lengths: (batch,): how many frames of each row count.
        strategy: "greedy" takes the best class of each frame; "beam_search" looks for the sequences
            with the largest probability over all their alignments.
        beam_width: how many sequences the beam search keeps.
        top_paths: how many of them it returns, the best first.
        merge_repeated: whether the greedy strategy merges a class repeated without a blank between;
            the beam search always does.
        mask_index: the class of the blank; None for the last one.

    Returns:
        The labels, int32 of shape (1 or top_paths, batch, frames), -1 behind the end; and minus the
        sum of the best logits, (batch, 1), or the log probabilities of the paths, (batch,
        top_paths), -inf where there are not so many.

    Raises:
        ValueError: an unknown strategy, or more paths than the beam is wide.

    Source: Graves et al., "Connectionist temporal classification", 2006; the prefix beam search of
    Hannun et al., "First-pass large vocabulary continuous speech recognition", 2014.

    >>> labels, _ = ctc_decode(np.eye(3, dtype="float32")[[[1, 1, 0, 2]]], [4])
    >>> convert_to_numpy(labels).tolist()
    [[[1, 2, -1, -1]]]
    """
    name = dtypes.result_type(dtype(inputs), "float32")
    inputs, lengths = cast(inputs, name), cast(sequence_lengths, "int32")
    classes = inputs.shape[-1]
    blank = (classes - 1 if mask_index is None else mask_index) % classes
    if strategy == "greedy":
        return _best_classes(inputs, lengths, merge_repeated, blank)
    if strategy != "beam_search":
        raise ValueError(f"strategy must be 'greedy' or 'beam_search', got {strategy!r}")
    if not 0 < top_paths <= beam_width:
        raise ValueError(f"top_paths={top_paths} must be between 1 and beam_width={beam_width}")
    return _beam_search(
        inputs - logsumexp(inputs, -1, keepdims=True), lengths, beam_width, top_paths, blank
    )


def _best_classes(inputs: Any, lengths: Any, merge_repeated: bool, blank: int) -> tuple:
    frames = positions(inputs, shape(inputs)[1])
    counts = frames < k.expand_dims(lengths, 1)
    scores = -k.sum(k.where(counts, k.max(inputs, -1), 0), 1, keepdims=True)
    best = k.where(counts, cast(k.argmax(inputs, -1), "int32"), blank)
    if merge_repeated:
        before = k.pad(best[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
        best = k.where(k.equal(best, before), blank, best)
    empty = k.equal(best, blank)
    order = k.argsort(cast(empty, "int32"), -1)  # what is equal keeps its order
    labels = k.take_along_axis(k.where(empty, -1, best), order, -1)
    return k.expand_dims(labels, 0), scores


_NEVER = -1e30  # a log probability of 0 that stays finite in sums


def _beam_search(logs: Any, lengths: Any, width: int, top_paths: int, blank: int) -> tuple:
    """Beam search over label prefixes, by their total probability over alignments.

    The state of a beam: its labels, their number, a hash of them, and the log probabilities of the
    alignments that end in a blank and of those that do not; the best beam comes first. A beam that
    is not in use has _NEVER for both.
    """
    rows, steps, classes = shape(logs)
    frames = positions(logs, steps)
    beams = positions(logs, width)
    symbols = positions(logs, classes)
    slots = width * classes
    row_of = k.expand_dims(positions(logs, rows), 1) * (slots + 1)

    def of(values: Any, chosen: Any) -> Any:
        """The values of the chosen beams."""
        return k.take_along_axis(values, chosen, 1)

    def last_label(labels: Any, count: Any) -> Any:
        last = k.expand_dims(k.maximum(count - 1, 0), -1)
        return k.squeeze(k.take_along_axis(labels, last, -1), -1)

    def step(state: tuple, frame: tuple) -> tuple:
        labels, count, code, before, ends_blank, ends_label = state
        x, time = frame
        total = k.logaddexp(ends_blank, ends_label)
        used = total > _NEVER / 2
        last = last_label(labels, count)
        some = k.logical_and(count > 0, used)

        # A beam stays what it is by a blank, or by its last label once more.
        again = of(x, k.where(some, last, 0)) + ends_label
        stay_blank = total + x[:, blank : blank + 1]
        stay_label = k.where(some, again, _NEVER)

        # Or it grows by a label; its own last one only behind a blank.
        repeats = k.logical_and(k.equal(k.expand_dims(last, -1), symbols), k.expand_dims(some, -1))
        grown = k.where(repeats, k.expand_dims(ends_blank, -1), k.expand_dims(total, -1))
        grown = grown + k.expand_dims(x, 1)
        allowed = k.logical_and(k.not_equal(symbols, blank), k.expand_dims(used, -1))
        grown = k.reshape(k.where(allowed, grown, _NEVER), (rows, slots))

        # Where it becomes another beam, that one takes it over.
        parents = k.logical_and(
            k.equal(k.expand_dims(before, -1), k.expand_dims(code, 1)),
            k.equal(k.expand_dims(count, -1), k.expand_dims(count + 1, 1)),
        )
        parents = k.logical_and(parents, k.expand_dims(used, 1))
        parent = cast(k.argmax(cast(parents, "int32"), -1), "int32")
        same = k.equal(labels, k.take_along_axis(labels, k.expand_dims(parent, -1), 1))
        same = k.logical_or(same, frames >= k.expand_dims(count - 1, -1))
        is_extension = k.logical_and(k.logical_and(k.any(parents, -1), k.all(same, -1)), some)
        slot = parent * classes + last
        joined = k.logaddexp(stay_label, of(grown, k.where(is_extension, slot, 0)))
        stay_label = k.where(is_extension, joined, stay_label)
        spare = k.pad(grown, ((0, 0), (0, 1)))  # a slot for the beams that take nothing over
        taken = k.reshape(k.where(is_extension, slot, slots) + row_of, (-1, 1))
        nothing = k.full_like(k.reshape(stay_label, (-1,)), _NEVER)
        flat = scatter_update(k.reshape(spare, (-1,)), taken, nothing)
        grown = k.reshape(flat, (rows, slots + 1))[:, :slots]

        scores = k.concatenate([k.logaddexp(stay_blank, stay_label), grown], 1)
        best = k.argsort(-scores, 1)[:, :width]
        grows = best >= width
        place = k.maximum(best - width, 0)
        source = k.where(grows, place // classes, best)
        label = k.where(grows, place % classes, 0)
        count_now, code_now = of(count, source), of(code, source)
        written = k.logical_and(
            k.equal(frames, k.expand_dims(count_now, -1)), k.expand_dims(grows, -1)
        )
        old = k.take_along_axis(labels, k.expand_dims(source, -1), 1)
        new = (
            k.where(written, k.expand_dims(label, -1), old),
            count_now + cast(grows, "int32"),
            k.where(grows, k.bitwise_xor(code_now, label + 1) * 16777619, code_now),
            k.where(grows, code_now, of(before, source)),
            k.where(grows, _NEVER, of(stay_blank, source)),
            k.where(grows, of(grown, place), of(stay_label, source)),
        )
        going = k.expand_dims(time < lengths, 1)
        new = [
            k.where(k.expand_dims(going, -1) if i == 0 else going, *pair)
            for i, pair in enumerate(zip(new, state, strict=True))
        ]
        return tuple(new), None

    zeros = k.zeros_like(k.expand_dims(logs[:, 0, 0], 1) + cast(beams, dtype(logs)))
    none = cast(zeros, "int32")
    start = (
        k.expand_dims(none, -1) + k.zeros_like(frames) - 1,
        none,
        none,
        none - 1,
        k.where(k.equal(beams, 0), zeros, _NEVER),
        zeros + _NEVER,
    )
    state, _ = scan(step, start, (k.moveaxis(logs, 1, 0), frames))
    labels, _, _, _, ends_blank, ends_label = state
    scores = k.logaddexp(ends_blank, ends_label)[:, :top_paths]
    real = scores > _NEVER / 2
    labels = k.where(k.expand_dims(real, -1), labels[:, :top_paths], -1)
    return k.moveaxis(labels, 1, 0), k.where(real, scores, -math.inf)


__all__ = ["ctc_decode", "ctc_loss"]
