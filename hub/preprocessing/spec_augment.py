"""SpecAugment: masks over time and over bands of spectrograms, for training."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def spec_augment(
    features: Any,
    *,
    mask_time_prob: float = 0.05,
    mask_time_length: int = 10,
    mask_time_min_masks: int = 2,
    mask_feature_prob: float = 0.0,
    mask_feature_length: int = 10,
    mask_feature_min_masks: int = 0,
    lengths: Sequence[int] | None = None,
    seed: int | np.random.Generator = 0,
) -> np.ndarray:
    """Return spectrograms with spans of frames and of bands set to zero.

    Park et al., "SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition",
    2019. The names and their defaults are those of a config of transformers.

    Args:
        features: (batch, frames, mels); it is not changed.
        mask_time_prob: the part of the frames that are masked, if spans did not overlap; 0 for
            none.
        mask_time_length: the number of frames of a span.
        mask_time_min_masks: the least number of spans over frames.
        mask_feature_prob: the part of the bands that are masked; 0 for none.
        mask_feature_length: the number of bands of a span.
        mask_feature_min_masks: the least number of spans over bands.
        lengths: the number of frames of each spectrogram before its padding; all by default.
        seed: a number, which draws the same masks each time, or a generator, which goes on.

    Raises:
        ValueError: features have another shape, or a span is longer than its axis.

    >>> masked = spec_augment(np.ones((1, 100, 8)), mask_time_length=5, seed=1)
    >>> int((masked[0, :, 0] == 0).sum()), bool((masked == masked[..., :1]).all())
    (10, True)
    """
    out = np.array(features)
    if out.ndim != 3:
        raise ValueError(f"features must be (batch, frames, mels), got the shape {out.shape}.")
    batch, frames, mels = out.shape
    lengths = [frames] * batch if lengths is None else list(lengths)
    if len(lengths) != batch or not all(0 <= length <= frames for length in lengths):
        raise ValueError(
            f"lengths must be {batch} numbers of at most {frames} frames, got {lengths}."
        )
    generator = np.random.default_rng(seed)
    if mask_time_prob > 0:
        spans = (mask_time_prob, mask_time_length, mask_time_min_masks)
        out[_span_masks(generator, frames, lengths, *spans)] = 0
    if mask_feature_prob > 0:
        spans = (mask_feature_prob, mask_feature_length, mask_feature_min_masks)
        out.swapaxes(1, 2)[_span_masks(generator, mels, [mels] * batch, *spans)] = 0
    return out


def _span_masks(
    generator: np.random.Generator,
    size: int,
    lengths: Sequence[int],
    prob: float,
    span: int,
    min_masks: int,
) -> np.ndarray:
    """Return masks (batch, size) of spans that begin at random places of the first `length`."""
    if not 0 < span <= size:
        raise ValueError(f"A span must have from 1 to {size} frames or bands, got {span}.")
    mask = np.zeros((len(lengths), size), bool)
    rounding = generator.random()  # a fraction of a span is one with this probability
    for row, length in zip(mask, lengths, strict=True):
        places = max(length - span + 1, 0)
        count = max(int(prob * length / span + rounding), min_masks)
        count = min(count, size // span, places)
        for start in generator.choice(places, count, replace=False) if count else ():
            row[start : start + span] = True
    return mask
