"""Grids, crops, boxes and filters of masks against transformers, SciPy and the authors' rules."""

import numpy as np
import pytest
import torch
from compare import assert_close
from scipy import ndimage
from transformers import SamConfig  # noqa: F401, which makes the module below importable
from transformers.models.sam import image_processing_pil_sam as theirs

import keraslite
from hub.preprocessing.segmentation import ImageGeometry
from hub.segmentation import boxes as box_functions
from hub.segmentation import filtering, grids, rle
from hub.segmentation.regions import connected_regions, remove_small_regions
from hub.segmentation.upsampling import upsample_logits

SIZES = [(480, 640), (640, 480), (333, 1001), (1024, 1024)]


def blobs(count, side, seed=0):
    """Logits of blobs of all sizes and slopes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    cy, cx, r = rng.random((3, count, 1, 1)) * side
    slope = rng.uniform(2, 60, (count, 1, 1))
    return (slope * (1 - ((y - cy) ** 2 + (x - cx) ** 2) / r**2)).clip(-25, 25).astype("float32")


def torch_masks(shape, share=0.3, seed=0):
    """Random rectangles, of which some are empty and some are all."""
    rng = np.random.default_rng(seed)
    masks = np.zeros(shape, bool)
    for mask in masks.reshape(-1, *shape[-2:])[1:]:
        y, x = np.sort(rng.integers(0, np.array(shape[-2:]) + 1, (2, 2)), axis=0).T
        mask[y[0] : y[1], x[0] : x[1]] = rng.random((y[1] - y[0], x[1] - x[0])) < share
    masks.reshape(-1, *shape[-2:])[-1] = True
    return masks


# -- grids ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 7, 32])
def test_grids_of_points_are_those_of_transformers(count):
    assert_close(grids.point_grid(count), theirs._build_point_grid(count))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("ratio", [0.0, 0.2, 512 / 1500])
def test_crops_are_those_of_transformers(size, ratio):
    boxes, layers = grids.crop_boxes(size, 3, ratio)
    expected, numbers = theirs._generate_per_layer_crops(3, ratio, size)
    np.testing.assert_array_equal(boxes, expected)
    np.testing.assert_array_equal(layers, numbers)
    # Every pixel lies in a crop of each layer.
    for layer in range(4):
        covered = np.zeros(size, bool)
        for left, top, right, bottom in boxes[layers == layer]:
            covered[top:bottom, left:right] = True
        assert covered.all()


@pytest.mark.parametrize("size", SIZES[:3])
def test_points_of_crops_are_those_of_transformers(size):
    ours = list(grids.crops(size, 8, 1, crop_n_points_downscale_factor=1))
    boxes, points, images, labels = theirs._generate_crop_boxes(
        np.zeros((3, *size), "uint8"), 1024, 1, 512 / 1500, 8, 1
    )
    assert len(ours) == len(boxes) == 5
    for i, crop in enumerate(ours):
        assert crop.size == images[i].shape[-2:]
        moved = ImageGeometry.of(crop.size).to_input(crop.points)
        assert_close(moved, np.asarray(points)[0, :, i], rtol=1e-6, atol=1e-4)
    fewer = list(grids.crops(size, 8, 2, crop_n_points_downscale_factor=2))
    assert [len(crop.points) for crop in fewer] == [64] + [16] * 4 + [4] * 16


@pytest.mark.parametrize(("options", "message"), [
    ({"points_per_side": 0}, "must have points"),
    ({"points_per_side": 4, "crop_n_layers": 3, "crop_n_points_downscale_factor": 2}, "4, 2, 1, 0"),
    ({"crop_n_layers": -1}, "crop_n_layers"), ({"crop_overlap_ratio": 1.0}, "crop_overlap_ratio"),
    ({"crop_n_points_downscale_factor": 0.5}, "at least 1, got 0.5"),
    ({"crop_n_layers": 5}, "too small for 5 layers"),
])  # fmt: skip
def test_grids_and_crops_that_cannot_be_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        list(grids.crops((20, 17), **options))


# -- boxes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 40, 30), (2, 3, 17, 64), (0, 4, 4), (3, 1, 1)])
def test_boxes_of_masks_are_those_of_transformers(shape):
    masks = torch_masks(shape) if shape[0] else np.zeros(shape, bool)
    expected = theirs._batched_mask_to_box(torch.from_numpy(masks)).numpy()
    np.testing.assert_array_equal(box_functions.mask_boxes(masks), expected)


@pytest.mark.parametrize("crop_box", [(0, 0, 640, 480), (0, 0, 300, 200), (100, 150, 640, 480)])
def test_boxes_at_the_edge_of_a_crop_are_those_of_transformers(crop_box):
    rng = np.random.default_rng(0)
    width, height = crop_box[2] - crop_box[0], crop_box[3] - crop_box[1]
    corners = rng.random((300, 2, 2)) ** 2
    corners[150:] = 1 - corners[150:]
    boxes = np.sort((corners * (width, height)).astype("int64"), 1).reshape(-1, 4)
    size = (480, 640)
    expected = theirs._is_box_near_crop_edge(
        torch.from_numpy(boxes), list(crop_box), [0, 0, size[1], size[0]]
    ).numpy()
    ours = box_functions.is_near_crop_edge(boxes, crop_box, size)
    np.testing.assert_array_equal(ours, expected)
    assert 0 < ours.sum() < 300 or crop_box == (0, 0, 640, 480)


def test_masks_points_and_boxes_are_moved_out_of_a_crop():
    masks, crop_box = torch_masks((3, 40, 30)), (5, 7, 35, 47)
    expected = theirs._pad_masks(torch.from_numpy(masks), list(crop_box), 60, 50).numpy()
    moved = box_functions.uncrop_masks(masks, crop_box, (60, 50))
    np.testing.assert_array_equal(moved, expected)
    boxes = box_functions.uncrop_boxes(box_functions.mask_boxes(masks[1:]), crop_box)
    np.testing.assert_array_equal(boxes, box_functions.mask_boxes(moved[1:]))
    assert box_functions.uncrop_points([[1, 2]], crop_box).tolist() == [[6, 9]]
    assert box_functions.uncrop_masks(masks, (0, 0, 30, 40), (40, 30)) is masks
    with pytest.raises(ValueError, match=r"40 x 30.*\(3, 30, 40\)"):
        box_functions.uncrop_masks(masks.transpose(0, 2, 1), crop_box, (60, 50))


# -- regions --------------------------------------------------------------------------------------


def painted(regions, shape):
    out = np.zeros(np.prod(shape), "int64")
    for start, length, label in zip(*regions[:3], strict=True):
        out[start : start + length] = label + 1
    return out.reshape(shape)


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.41, 0.6, 0.9, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 20), (20, 1), (37, 53), (128, 100)])
def test_regions_are_those_of_scipy(shape, share, connectivity):
    mask = np.random.default_rng(0).random(shape) < share
    regions = connected_regions(mask, connectivity)
    structure = np.ones((3, 3)) if connectivity == 8 else None
    labels, count = ndimage.label(mask, structure)
    ours = painted(regions, shape)
    assert len(regions.areas) == count == ours.max()
    # The same up to the order of the numbers.
    assert len(np.unique(np.stack([labels, ours]).reshape(2, -1), axis=1).T) == count + (
        not mask.all()
    )
    np.testing.assert_array_equal(regions.areas, np.bincount(ours.ravel(), minlength=1)[1:])


def test_a_spiral_is_one_region():
    mask = np.zeros((201, 201), bool)
    for i in range(0, 100, 2):
        mask[i, i : 201 - i] = mask[200 - i, i : 201 - i] = True
        mask[i : 201 - i, i] = mask[i : 201 - i, 200 - i] = True
        mask[i + 1, i] = False
        mask[i + 2, i + 1] = i < 98
    assert connected_regions(mask).areas.tolist() == [mask.sum()]
    assert len(connected_regions(mask, 4).areas) == ndimage.label(mask)[1]


def reference_removal(mask, area, mode):
    """The authors' rule, over SciPy's regions."""
    labels, count = ndimage.label(mask ^ (mode == "holes"), np.ones((3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    small = [i + 1 for i, size in enumerate(sizes) if size < area]
    if not small:
        return mask
    filled = [0, *small]
    if mode == "islands":
        filled = [i for i in range(count + 1) if i not in filled] or [int(sizes.argmax()) + 1]
    return np.isin(labels, filled)


@pytest.mark.parametrize("mode", ["holes", "islands"])
@pytest.mark.parametrize("area", [0, 1, 4, 30, 10_000])
@pytest.mark.parametrize("share", [0.3, 0.55, 0.8])
def test_small_regions_are_removed_as_the_authors_do(share, area, mode):
    mask = np.random.default_rng(1).random((60, 45)) < share
    before = mask.copy()
    ours, changed = remove_small_regions(mask, area, mode)
    np.testing.assert_array_equal(ours, reference_removal(mask, area, mode))
    assert changed == (ours != before).any()
    np.testing.assert_array_equal(mask, before)


def test_the_largest_island_stays():
    mask = np.zeros((6, 6), bool)
    mask[0, 0], mask[3:5, 3:5] = True, True
    ours, changed = remove_small_regions(mask, 100, "islands")
    assert changed and ours.sum() == 4 and not ours[0, 0]
    assert not remove_small_regions(ours, 100, "islands")[1]  # there is nothing else
    empty, changed = remove_small_regions(np.zeros((3, 3)), 5, "islands")
    assert not changed and not empty.any()
    with pytest.raises(ValueError, match="'both'"):
        remove_small_regions(mask, 1, "both")
    with pytest.raises(ValueError, match="connectivity 4 or 8"):
        connected_regions(mask, 6)


# -- filters --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_stability_scores_are_those_of_transformers(size):
    low, geometry = blobs(20, 256), ImageGeometry.of(size)
    for threshold, offset in ((0.0, 1), (0.5, 2)):
        full = torch.from_numpy(upsample_logits(low, geometry))
        expected = theirs._compute_stability_score(full, threshold, offset).numpy()
        ours = filtering.stability_scores(low, geometry, threshold, offset)
        assert_close(ours, np.nan_to_num(expected), atol=1e-5, rtol=1e-4)
    assert filtering.stability_scores(low[:1] * 0 - 9, geometry).tolist() == [0.0]


@pytest.mark.parametrize("crop_box", [(0, 0, 640, 480), (0, 0, 384, 300), (256, 100, 640, 480)])
def test_masks_are_filtered_as_by_transformers(crop_box):
    size, points_count = (480, 640), 30
    rng = np.random.default_rng(0)
    low = blobs(3 * points_count, 256).reshape(points_count, 3, 256, 256)
    quality = rng.uniform(0.5, 1, (points_count, 3)).astype("float32")
    crop = grids.Crop(crop_box, 0, rng.random((points_count, 2)) * 300)
    geometry = ImageGeometry.of(crop.size)
    full = torch.from_numpy(upsample_logits(low, geometry))
    rles, scores, boxes = theirs.SamImageProcessorPil().filter_masks(
        full, torch.from_numpy(quality), size, list(crop_box), 0.7, 0.8
    )
    ours = filtering.filter_masks(low, quality, crop, crop.points, geometry, size, 0.7, 0.8)
    assert 2 < len(ours.rles) < 80
    assert_close(ours.predicted_iou, scores.numpy(), rtol=0, atol=0)
    np.testing.assert_array_equal(ours.boxes, boxes.numpy())
    for a, b in zip(ours.rles, rles, strict=True):
        # A pixel may lie within rounding of the threshold.
        assert (rle.decode(a) != theirs._rle_to_mask(b)).sum() <= 2
    places = [np.flatnonzero(quality.ravel() == score)[0] // 3 for score in ours.predicted_iou]
    assert_close(ours.points, crop.points[places] + crop_box[:2], rtol=1e-6)
    assert ours.crop_boxes.tolist() == [list(crop_box)] * len(ours.rles)
    everything = filtering.filter_masks(
        low, -quality, crop, crop.points, geometry, crop.size, 0.0, 0.0
    ) if crop_box[:2] == (0, 0) else None  # fmt: skip
    assert everything is None or len(everything.rles) == 3 * points_count


def test_large_pictures_are_filtered_a_few_masks_at_a_time(monkeypatch):
    size = (480, 640)
    low = blobs(30, 64).reshape(10, 3, 64, 64)
    crop = grids.Crop((0, 0, 400, 300), 0, np.ones((10, 2)))
    arguments = (low, np.ones((10, 3)), crop, crop.points, ImageGeometry.of((300, 400)), size, 0, 0)
    expected = filtering.filter_masks(*arguments)
    monkeypatch.setattr(filtering, "_MOST_PIXELS", 2 * 480 * 640)
    ours = filtering.filter_masks(*arguments)
    assert ours.rles == expected.rles and len(ours.rles) > 3
    for a, b in zip(ours[1:], expected[1:], strict=True):
        np.testing.assert_array_equal(a, b)


def test_logits_of_every_backend_are_filtered(backend):
    crop = next(grids.crops((60, 80), 2))
    low, quality = blobs(12, 64).reshape(4, 3, 64, 64), np.ones((4, 3), "float32")
    rest = (crop, crop.points, ImageGeometry.of((60, 80)), (60, 80), 0.5, 0.5)
    expected = filtering.filter_masks(low, quality, *rest)
    tensor = keraslite.ops.convert_to_tensor
    ours = filtering.filter_masks(tensor(low), tensor(quality), *rest)
    assert ours.rles == expected.rles and len(ours.rles) > 2
    half = filtering.filter_masks(tensor(low.astype("float16")), tensor(quality), *rest)
    assert len(half.rles) == len(ours.rles)


def greedy(boxes, scores, threshold):
    """Non-maximum suppression, one pair after the other."""
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        for j in kept:
            a, b = boxes[i], boxes[j]
            width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
            height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
            union = sum((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)) - width * height
            if union and width * height / union > threshold:
                break
        else:
            kept.append(i)
    return kept


def candidates(count=60, seed=0):
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, 40, 50), bool)
    for mask in masks:
        y, x = np.sort(rng.integers(0, (40, 50), (2, 2)) // 6 * 6, axis=0).T
        mask[y[0] : y[1] + 3, x[0] : x[1] + 3] = True
        mask[rng.integers(0, 40), rng.integers(0, 50)] ^= True
    crops = np.array([[0, 0, 50, 40], [0, 0, 30, 25], [20, 15, 50, 40]])
    return filtering.Candidates(
        rle.encode(masks), box_functions.mask_boxes(masks), rng.random(count).astype("float32"),
        rng.random(count), rng.random((count, 2)), crops[rng.integers(0, 3, count)],
    )  # fmt: skip


def test_repeated_masks_are_suppressed_in_and_between_crops():
    masks = candidates()
    kept = greedy(masks.boxes.tolist(), masks.predicted_iou.tolist(), 0.6)
    ours = filtering.suppress_in_crop(masks, 0.6)
    assert 3 < len(kept) < 55 and ours.rles == [masks.rles[i] for i in kept]
    for a, b in zip(ours[1:], masks[1:], strict=True):
        np.testing.assert_array_equal(a, b[kept])

    areas = np.prod(masks.crop_boxes[:, 2:] - masks.crop_boxes[:, :2], axis=1)
    kept = greedy(masks.boxes.tolist(), (1 / areas).tolist(), 0.6)
    ours = filtering.suppress_between_crops(masks, 0.6)
    np.testing.assert_array_equal(ours.points, masks.points[kept])
    one = masks._replace(crop_boxes=masks.crop_boxes[:1].repeat(60, 0))
    assert filtering.suppress_between_crops(one, 0.6) is one


def test_masks_are_cleaned_and_changed_ones_give_way():
    masks = candidates()
    ours = filtering.clean_masks(masks, 5, 0.6)
    arrays, same = [], []
    for encoding in masks.rles:
        mask = reference_removal(rle.decode(encoding), 5, "holes")
        mask = reference_removal(mask, 5, "islands")
        arrays.append(mask)
        same.append(bool((mask == rle.decode(encoding)).all()))
    assert 0 < sum(same) < 60
    boxes = box_functions.mask_boxes(np.stack(arrays))
    kept = greedy(boxes.tolist(), same, 0.6)
    np.testing.assert_array_equal(rle.decode(ours.rles), np.stack(arrays)[kept])
    np.testing.assert_array_equal(ours.boxes, boxes[kept])


def test_no_masks_go_through_all_filters():
    crop = next(grids.crops((30, 40), 2))
    geometry = ImageGeometry.of((30, 40))
    low = np.full((4, 3, 64, 64), -5.0)
    none = filtering.filter_masks(low, np.zeros((4, 3)), crop, crop.points, geometry, (30, 40))
    for masks in (none, filtering.Candidates.concatenate([]),
                  filtering.Candidates.concatenate([none, none])):  # fmt: skip
        masks = filtering.suppress_between_crops(filtering.suppress_in_crop(masks))
        assert filtering.clean_masks(masks, 10).boxes.shape == (0, 4)
    with pytest.raises(ValueError, match=r"\(4, 3, 64, 64\), \(4, 2\)"):
        filtering.filter_masks(low, np.zeros((4, 2)), crop, crop.points, geometry, (30, 40))
