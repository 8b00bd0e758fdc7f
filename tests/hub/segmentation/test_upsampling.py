"""Upsampled masks against the image processor of transformers."""

import numpy as np
import pytest
import torch
from compare import assert_close
from transformers import SamConfig  # noqa: F401, which makes the module below importable
from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

from hub.preprocessing.segmentation import ImageGeometry
from hub.segmentation.upsampling import count_above, upsample_logits, upsample_masks

SIZES = [(1024, 1024), (480, 640), (33, 20), (1500, 1125), (100, 1333), (256, 255)]


def smooth_logits(count, side=256, seed=0):
    """Logits of blobs, which are what a segmenter predicts, from about -20 to 20."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    cy, cx, r = rng.random((3, count, 1, 1)) * side
    return (10 - 20 * ((y - cy) ** 2 + (x - cx) ** 2) / r**2).clip(-20, 20).astype("float32")


def logits_of(count, side=256):
    return np.concatenate(
        [
            smooth_logits(count, side),
            np.random.default_rng(0).normal(0, 5, (count, side, side)).astype("float32"),
        ]
    )


def theirs(low, geometry, **options):
    return SamImageProcessorPil().post_process_masks(
        [torch.from_numpy(low)[None]], [geometry.size], [geometry.resized], binarize=False,
        pad_size=dict(zip(("height", "width"), geometry.padded, strict=True)), **options,
    )[0][0].numpy()  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_logits_are_those_of_transformers(size):
    low, geometry = logits_of(2), ImageGeometry.of(size)
    expected = theirs(low, geometry)
    # The noise differs by up to 40 from pixel to pixel, where torch rounds places to 1e-5 of one.
    assert_close(upsample_logits(low[:2], geometry), expected[:2], atol=1e-4)
    assert_close(upsample_logits(low, geometry), expected, atol=3e-4)
    assert upsample_logits(low.reshape(2, 2, 256, 256), geometry).shape == (2, 2, *size)
    for threshold in (0.0, 1.5):
        masks = upsample_masks(low, geometry, threshold)
        assert masks.dtype == bool
        differ = masks != (expected > threshold)
        assert np.abs(expected[differ] - threshold).max(initial=0) < 3e-4
        assert differ.mean() < 1e-4


@pytest.mark.parametrize("size", SIZES)
def test_pixels_above_thresholds_are_counted(size):
    low, geometry = logits_of(2), ImageGeometry.of(size)
    expected = theirs(low, geometry)
    counts = count_above(low[None], geometry, -1.0, 0.0, 1.0, 30.0, -30.0)
    assert counts.shape == (1, 4, 5)
    for i, threshold in enumerate((-1.0, 0.0, 1.0, 30.0, -30.0)):
        assert np.abs(counts[0, :, i] - (expected > threshold).sum((1, 2))).max() <= 3
    exact = upsample_logits(low, geometry)
    assert np.abs(counts[0, :, 1] - (exact > 0).sum((1, 2))).max() <= 3


def test_values_at_a_threshold_are_not_above_it():
    geometry = ImageGeometry.of((40, 30), 64)
    low = np.zeros((2, 16, 16), "float32")
    low[1] = -0.5
    assert not upsample_masks(low, geometry).any()
    assert upsample_masks(low, geometry, -0.5)[0].all()
    assert count_above(low, geometry, 0.0, -0.5, -1.0).tolist() == [[0, 1200, 1200], [0, 0, 1200]]


def test_no_masks_and_other_shapes():
    geometry = ImageGeometry.of((40, 30), 64)
    none = np.zeros((0, 3, 16, 16), "float32")
    assert upsample_logits(none, geometry).shape == upsample_masks(none, geometry).shape
    assert upsample_masks(none, geometry).shape == (0, 3, 40, 30)
    assert count_above(none, geometry, 0.0).shape == (0, 3, 1)
    assert upsample_logits(np.ones((16, 16)), geometry).shape == (40, 30)
    with pytest.raises(ValueError, match="height, width"):
        upsample_masks(np.zeros(4), geometry)
