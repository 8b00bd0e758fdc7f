"""Prompts of segmenters: every nesting, and every mistake."""

import numpy as np
import pytest
from compare import assert_close

import keraslite
from hub.preprocessing.segmentation import ImageGeometry
from hub.segmentation.prompts import encode_mask, prepare_prompts, stack_prompts
from hub.segmentation.upsampling import upsample_masks

WIDE = ImageGeometry.of((300, 400))  # 2.56 times as large in the input
NAN = float("nan")


@pytest.mark.parametrize(("points", "labels", "expected", "numbers"), [
    ([10, 20], None, [[[10, 20]]], [[1]]), ([10, 20], 0, [[[10, 20]]], [[0]]),
    ((10.5, 20), [0], [[[10.5, 20]]], [[0]]),
    ([[10, 20], [30, 40]], [1, 0], [[[10, 20], [30, 40]]], [[1, 0]]),
    ([[10, 20], [30, 40]], [[1, 0]], [[[10, 20], [30, 40]]], [[1, 0]]),
    ([[[10, 20]], [[30, 40]]], [1, 0], [[[10, 20]], [[30, 40]]], [[1], [0]]),
    ([[[10, 20]], [[30, 40]]], [[True], [False]], [[[10, 20]], [[30, 40]]], [[1], [0]]),
    (np.array([[[10, 20]], [[0, 0]]]), np.array([[0], [1]]), [[[10, 20]], [[0, 0]]], [[0], [1]]),
    ([[400, 300], [0, 0]], 1, [[[400, 300], [0, 0]]], [[1, 1]]),
])  # fmt: skip
def test_points_of_any_nesting(points, labels, expected, numbers):
    prompts = prepare_prompts(WIDE, points, labels)
    assert_close(prompts.points, np.array(expected) * 2.56)
    assert prompts.labels.tolist() == numbers
    assert prompts.padding_mask is None and len(prompts) == len(expected)
    assert prompts.points.dtype == "float32" and prompts.labels.dtype == "int32"
    assert set(prompts.inputs()) == {"points", "labels"}


def test_sets_of_different_numbers_of_points_are_padded():
    prompts = prepare_prompts(WIDE, [[[10, 20]], [[30, 40], [50, 60]]], [[0], [1, 0]])
    assert prompts.labels.tolist() == [[0, -10], [1, 0]]
    assert prompts.padding_mask.tolist() == [[True, False], [True, True]]
    assert_close(prompts.points[0], [[25.6, 51.2], [0, 0]])
    second = prompts[1]
    assert len(second) == 1 and second.labels.tolist() == [[1, 0]]
    assert len(prompts[:]) == 2 and prompts[[True, False]].labels.tolist() == [[0, -10]]
    with_boxes = prepare_prompts(WIDE, [[], [[1, 2]]], [[], [0]], boxes=[[0, 0, 9, 9]] * 2)
    assert with_boxes.labels.tolist() == [[-10], [0]]
    assert with_boxes.padding_mask.tolist() == [[False], [True]]


def test_points_of_every_backend(backend):
    points = keraslite.ops.convert_to_tensor([[[10.0, 20.0]], [[30.0, 40.0]]])
    labels = keraslite.ops.convert_to_tensor([[1], [0]])
    boxes = keraslite.ops.convert_to_tensor([[1.0, 2.0, 3.0, 4.0]] * 2)
    masks = keraslite.ops.ones((2, 256, 256))
    ours = prepare_prompts(WIDE, points, labels, boxes, masks)
    plain = prepare_prompts(
        WIDE, [[[10, 20]], [[30, 40]]], [[1], [0]], [[1, 2, 3, 4]] * 2, np.ones((2, 256, 256))
    )
    for name, value in plain.inputs().items():
        np.testing.assert_array_equal(ours.inputs()[name], value)


def test_boxes_of_any_format():
    expected = np.array([[10, 20, 40, 60]]) * 2.56
    for boxes, name in (
        ([10, 20, 40, 60], "xyxy"), ([[10, 20, 30, 40]], "xywh"), ([[20, 10, 60, 40]], "yxyx"),
        ([[25, 40, 30, 40]], "center_xywh"), ([[10 / 400, 20 / 300, 0.1, 0.2]], "rel_xyxy"),
    ):  # fmt: skip
        prompts = prepare_prompts(WIDE, boxes=boxes, bounding_box_format=name)
        assert_close(prompts.boxes, expected, atol=1e-4, rtol=1e-5)
    cut = prepare_prompts(WIDE, boxes=[[-10, -1, 4000, 100]])
    assert_close(cut.boxes, [[0, 0, 1024, 256]])
    assert cut.inputs()["boxes"].shape == (1, 1, 1, 2, 2)
    assert_close(cut.inputs()["boxes"][0, 0, 0], [[0, 0], [1024, 256]])


def test_masks_of_pictures_and_logits():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 256, 256)).astype("float32")
    for same in (
        logits,
        logits[:, None],
        logits[..., None],
        list(logits),
        logits.astype("float64"),
    ):
        np.testing.assert_array_equal(prepare_prompts(WIDE, masks=same).masks, logits)
    assert len(prepare_prompts(WIDE, masks=logits[0])) == 1
    assert prepare_prompts(WIDE, masks=logits).inputs()["masks"].shape == (1, 2, 256, 256, 1)

    y, x = np.mgrid[:300, :400]
    mask = (y - 120) ** 2 + (x - 250) ** 2 < 80**2
    for same in (mask, mask[None], mask.astype("uint8") * 255, [mask]):
        low = prepare_prompts(WIDE, masks=same).masks
        np.testing.assert_array_equal(low, encode_mask(mask)[None])
    assert low.min() == -10 and low.max() == 10 and (low[0, 192:] == -10).all()
    again = upsample_masks(low[0], WIDE)  # back in the picture it is the same but at its edge
    assert (again & mask).sum() / (again | mask).sum() > 0.98


def test_all_kinds_together():
    prompts = prepare_prompts(WIDE, [[1, 2]], [1], [0, 0, 9, 9], np.zeros((300, 400), bool))
    assert {k: v.shape for k, v in prompts.inputs().items()} == {
        "points": (1, 1, 1, 2), "labels": (1, 1, 1), "boxes": (1, 1, 1, 2, 2),
        "masks": (1, 1, 256, 256, 1),
    }  # fmt: skip


def test_batches_of_pictures_are_padded():
    tall = ImageGeometry.of((400, 200))
    rows = [
        prepare_prompts(WIDE, [[10, 20], [30, 40]], [1, 0], boxes=[0, 0, 50, 50]),
        prepare_prompts(tall, [[[1, 2]], [[3, 4]]], boxes=[[0, 0, 5, 5], [0, 0, 9, 9]]),
    ]
    inputs, counts = stack_prompts(rows)
    assert counts == [1, 2]
    assert inputs["labels"].tolist() == [[[1, 0], [1, 0]], [[1, -10], [1, -10]]]
    assert inputs["padding_mask"].tolist() == [[[True] * 2] * 2, [[True, False]] * 2]
    assert_close(inputs["points"][1, 1, 0], [3 * 2.56, 4 * 2.56])
    assert inputs["boxes"].shape == (2, 2, 1, 2, 2)
    np.testing.assert_array_equal(inputs["boxes"][0, 0], inputs["boxes"][0, 1])
    inputs, _ = stack_prompts([rows[0], rows[0]])
    assert "padding_mask" not in inputs
    with pytest.raises(ValueError, match=r"\['points', 'boxes'\], \['points'\]"):
        stack_prompts([rows[0], prepare_prompts(tall, [1, 2])])
    with pytest.raises(ValueError, match="same kinds"):
        stack_prompts([])


@pytest.mark.parametrize(("options", "message"), [
    ({}, "must be a prompt: points, boxes or masks; got none"),
    ({"labels": [1], "boxes": [0, 0, 1, 1]}, "labels without points"),
    ({"points": 5}, r"must be \[x, y\]"), ({"points": [[[[1, 2]]]]}, r"must be \[x, y\]"),
    ({"points": [1, 2, 3]}, r"\[x, y\] each, got the shape \(1, 3\)"),
    ({"points": [[1, 2], [3]]}, "must be numbers"), ({"points": [["a", 2]]}, "must be numbers"),
    ({"points": []}, "Every set must have a point"),
    ({"points": [[[1, 2]], []]}, r"sets of \[1, 0\] points"),
    ({"points": [401, 20]}, "x from 0 to 400 and y from 0 to 300.*x = 401, y = 20 in set 0"),
    ({"points": [[[1, 1]], [[1, -2]]]}, "y = -2 in set 1"),
    ({"points": [NAN, 2]}, "finite"), ({"points": [float("inf"), 2]}, "finite"),
    ({"points": [[1, 2], [3, 4]], "labels": [1]}, r"sets of \[2\] labels, got \[1\]"),
    ({"points": [[[1, 2]], [[3, 4]]], "labels": [[1]]}, r"\[1, 1\] labels, got \[1\]"),
    ({"points": [[[1, 2], [3, 4]], [[3, 4]]], "labels": [1, 0]}, r"\[2, 1\] labels, got \[1, 1\]"),
    ({"points": [1, 2], "labels": [2]}, r"must be 1.*or 0.*\[2.0\]"),
    ({"points": [1, 2], "labels": [-1]}, "must be 1"), ({"points": [1, 2], "labels": 3}, "got"),
    ({"points": [1, 2], "labels": ["x"]}, "labels must be numbers"),
    ({"boxes": [1, 2, 3]}, r"\(4,\) or \(sets, 4\), got the shape \(3,\)"),
    ({"boxes": []}, "boxes must be"), ({"boxes": [[[1, 2, 3, 4]]]}, r"\(1, 1, 4\)"),
    ({"boxes": [[0, 0, 1, 1], [9, 1, 5, 4]]}, r"width and a height.*\[9.0, 1.0, 5.0, 4.0\] in set 1"),
    ({"boxes": [5, 5, 5, 9]}, "width and a height"),
    ({"boxes": [5, 5, -1, 9], "bounding_box_format": "xywh"}, 'format "xywh"'),
    ({"boxes": [500, 0, 600, 9]}, "in the picture of 400 pixels in width and 300 in height"),
    ({"boxes": [0, 0, NAN, 9]}, "finite"),
    ({"boxes": [0, 0, 1, 9], "bounding_box_format": "abcd"}, "abcd"),
    ({"masks": np.zeros((400, 300), bool)}, r"\(300, 400\), got the shape \(400, 300\)"),
    ({"masks": np.zeros((300, 400))}, r"got \(300, 400\); give a mask of the picture as bool"),
    ({"masks": np.full((256, 256), NAN)}, "finite"),
    ({"masks": [np.zeros((256, 256)), np.zeros((2, 2))]}, "one size"),
    ({"points": [1, 2], "boxes": [[0, 0, 1, 1]] * 2}, "1 of points, 2 of boxes"),
])  # fmt: skip
def test_mistakes_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        prepare_prompts(WIDE, **options)
