"""Run-length encoding against pycocotools, and by hand."""

import re

import numpy as np
import pytest
from pycocotools import mask as coco

from hub.segmentation import rle

SIZES = [(1, 1), (1, 9), (9, 1), (7, 5), (64, 64), (65, 131), (200, 3)]
SHARES = [0.0, 0.02, 0.5, 0.98, 1.0]


def random_mask(size, share, seed=0):
    return np.random.default_rng(seed).random(size) < share


def blobs(size, seed=0):
    """Few and long runs, as real masks have."""
    y, x = np.mgrid[: size[0], : size[1]]
    rng = np.random.default_rng(seed)
    out = np.zeros(size, bool)
    for _ in range(4):
        cy, cx, r = rng.random(3) * (*size, min(size) / 2)
        out |= (y - cy) ** 2 + (x - cx) ** 2 < r**2
    return out


def theirs(mask):
    return coco.encode(np.asfortranarray(mask.astype("uint8")))


MASKS = [random_mask(size, share) for size in SIZES for share in SHARES]
MASKS += [blobs((120, 90)), blobs((480, 641), 1), blobs((1024, 700), 2)]


@pytest.mark.parametrize("mask", MASKS, ids=lambda m: f"{m.shape}-{m.mean():.2f}")
def test_masks_are_encoded_as_by_pycocotools(mask):
    expected = theirs(mask)
    ours = rle.encode(mask, compressed=True)
    assert ours["size"] == expected["size"]
    assert ours["counts"] == expected["counts"].decode()
    counts = rle.encode(mask)
    assert counts["counts"] == rle.decompress(ours["counts"]).tolist()
    assert all(type(n) is int for n in [*counts["size"], *counts["counts"]])  # for JSON
    again = coco.frPyObjects({**counts}, *mask.shape)
    assert again["counts"] == expected["counts"]
    for encoding in (ours, counts, {**expected}):
        np.testing.assert_array_equal(rle.decode(encoding), mask)
        assert rle.decode(encoding).dtype == bool
        assert rle.area(encoding) == coco.area(expected) == mask.sum()
        assert rle.bounding_box(encoding) == coco.toBbox(expected).tolist()


def test_masks_in_any_memory_order_and_dtype_are_encoded():
    mask = blobs((40, 60))
    expected = rle.encode(mask)
    for same in (np.asfortranarray(mask), mask[:, ::-1][:, ::-1], mask.astype("uint8") * 255,
                 mask.astype("float32"), np.repeat(mask, 2, 1)[:, ::2]):  # fmt: skip
        assert rle.encode(same) == expected


def test_a_batch_is_the_list_of_its_masks():
    masks = np.stack([random_mask((13, 7), share, 3) for share in (0, 0.4, 1, 1, 0.6, 0, 0)])
    assert rle.encode(masks) == [rle.encode(mask) for mask in masks]
    assert rle.encode(masks, compressed=True) == [rle.encode(m, compressed=True) for m in masks]
    np.testing.assert_array_equal(rle.decode(rle.encode(masks)), masks)
    assert rle.encode(masks[:0]) == []


@pytest.mark.parametrize("intersect", [False, True])
def test_merged_encodings_are_those_of_pycocotools(intersect):
    masks = [blobs((50, 31), seed) for seed in range(3)] + [random_mask((50, 31), 0.7)]
    for count in (1, 2, 4):
        merged = rle.merge([rle.encode(mask) for mask in masks[:count]], intersect)
        reduce = np.logical_and if intersect else np.logical_or
        np.testing.assert_array_equal(rle.decode(merged), reduce.reduce(masks[:count]))
        expected = coco.merge([theirs(mask) for mask in masks[:count]], intersect)
        assert rle.compress(merged["counts"]) == expected["counts"].decode()
    empty, full = np.zeros((4, 5)), np.ones((4, 5))
    encodings = [rle.encode(empty), rle.encode(full)]
    assert rle.merge(encodings, intersect) == encodings[not intersect]


def test_overlaps_are_those_of_pycocotools():
    masks = [blobs((50, 31), seed) for seed in range(5)] + [random_mask((50, 31), 0.3)]
    ours, expected = [rle.encode(m) for m in masks], [theirs(m) for m in masks]
    crowds = [False, True, False]
    np.testing.assert_allclose(
        rle.iou(ours[:3], ours[3:], crowds), coco.iou(expected[:3], expected[3:], crowds)
    )
    assert rle.iou([rle.encode(np.zeros((3, 3)))] * 2, [rle.encode(np.zeros((3, 3)))]).sum() == 0


def test_numbers_of_any_size_are_compressed():
    rng = np.random.default_rng(0)
    counts = (2.0 ** rng.uniform(0, 30, 500)).astype("int64")
    np.testing.assert_array_equal(rle.decompress(rle.compress(counts)), counts)
    assert rle.compress([]) == "" and rle.decompress(b"").tolist() == []


@pytest.mark.parametrize("encoding", [
    {"size": [2, 2], "counts": [1, 1]}, {"size": [2, 2], "counts": [5, -1]},
    {"size": [2, 2], "counts": "11"}, {"size": [2, 2], "counts": "1\x01"},
    {"size": [2, 2], "counts": "1T"}, {"size": [2, 2], "counts": "T" * 20 + "1"},
    {"size": [2, 2], "counts": "1é"},
])  # fmt: skip
def test_damaged_encodings_are_errors(encoding):
    with pytest.raises(ValueError, match=r"runs"):
        rle.decode(encoding)


def test_sizes_that_do_not_fit_are_errors():
    for shape in ((4,), (0, 4), (2, 3, 0)):
        with pytest.raises(ValueError, match=r"\(height, width\).*" + re.escape(str(shape))):
            rle.encode(np.zeros(shape))
    for call in (rle.decode, rle.merge):
        with pytest.raises(ValueError, match="one size"):
            call([rle.encode(np.zeros((2, 2))), rle.encode(np.zeros((1, 4)))])
        with pytest.raises(ValueError, match="one size"):
            call([])
