"""Bounding boxes against the installed Keras: formats, geometry, overlap, deltas."""

import itertools

import keras
import numpy as np
import pytest
from compare import assert_close

import keraslite
from keraslite import ops
from keraslite.ops.bounding_boxes import FORMATS
from keraslite.utils import bounding_boxes

THEIRS = keras.utils.bounding_boxes
FORMATS_OF_KERAS = sorted(FORMATS.keys() - {"rel_center_yxhw"})  # which Keras does not have
HEIGHT, WIDTH = 12, 16
SHAPE = (HEIGHT, WIDTH, 3)
RNG = np.random.default_rng(0)


def corners(*shape: int) -> np.ndarray:
    """Random boxes with their corners in order, some of them outside the image."""
    points = np.sort(RNG.uniform(-4, 20, (*shape, 2, 2)), -2)
    return points.reshape(*shape, 4).astype("float32")


BOXES, MORE = corners(2, 5), corners(2, 3)


def test_every_format_is_converted_to_every_other(backend):
    boxes = ops.convert_to_tensor(BOXES)
    for source, target in itertools.product(FORMATS_OF_KERAS, repeat=2):
        got = bounding_boxes.convert_format(boxes, source, target.upper(), HEIGHT, WIDTH)
        want = THEIRS.convert_format(BOXES, source, target, HEIGHT, WIDTH)
        assert_close(got, want, message=f"{source} to {target}")
    there = bounding_boxes.convert_format(boxes, "xyxy", "rel_center_yxhw", HEIGHT, WIDTH)
    back = bounding_boxes.convert_format(there, "rel_center_yxhw", "xyxy", HEIGHT, WIDTH)
    assert_close(back, BOXES)


def test_a_format_is_converted_under_jit_with_sizes_as_tensors(backend):
    @ops.jit
    def convert(boxes, height, width):
        return bounding_boxes.convert_format(boxes, "xywh", "rel_yxyx", height, width)

    sizes = np.array([12.0, 24.0], "float32").reshape(2, 1, 1)
    got = convert(*map(ops.convert_to_tensor, (BOXES, sizes, 2 * sizes)))
    for i, height in enumerate((12, 24)):
        want = THEIRS.convert_format(BOXES[i], "xywh", "rel_yxyx", height, 2 * height)
        assert_close(got[i], want)


def test_labels_go_along_with_boxes(backend):
    labels = np.arange(10, dtype="int32").reshape(2, 5)
    given = {"boxes": BOXES, "labels": labels}
    got = bounding_boxes.convert_format(given, "xyxy", "xywh")
    assert given["boxes"] is BOXES
    assert got["labels"] is labels
    for name in ("xyxy", "rel_xyxy"):
        boxes = BOXES if name == "xyxy" else BOXES / 16
        got = bounding_boxes.clip_to_image_size(
            {"boxes": boxes, "labels": labels}, HEIGHT, WIDTH, name
        )
        want = THEIRS.clip_to_image_size(
            {"boxes": keras.ops.convert_to_tensor(boxes), "labels": labels}, HEIGHT, WIDTH, name
        )
        assert_close(got, {k: np.asarray(v) for k, v in want.items()})
    one_hot = np.ones((2, 5, 3), "float32")
    out = bounding_boxes.clip_to_image_size({"boxes": BOXES, "labels": one_hot}, 2, 2)["labels"]
    expected = bounding_boxes.clip_to_image_size({"boxes": BOXES, "labels": labels}, 2, 2)["labels"]
    hidden = keraslite.backend.to_numpy(expected) == -1
    assert hidden.any()
    np.testing.assert_array_equal(keraslite.backend.to_numpy(out)[..., 1] == -1, hidden)


def test_boxes_follow_their_image(backend):
    boxes = ops.convert_to_tensor(BOXES)
    assert_close(bounding_boxes.crop(boxes, 2, 3, 6, 7), THEIRS.crop(BOXES, 2, 3, 6, 7))
    assert_close(bounding_boxes.pad(boxes, 2, 3), THEIRS.pad(BOXES, 2, 3))
    assert bounding_boxes.crop(np.array([[1, 2, 3, 4]], "int32"), 1, 1, 4, 4).dtype == (
        ops.convert_to_tensor(np.zeros(1, "int32")).dtype
    )
    arguments = [
        np.array(values, "float32")
        for values in ([30, -75], [0.1, 0], [0, -0.2], [1, 1.3], [5, -10], [0, 7])
    ]
    want = THEIRS.affine_transform(
        BOXES, *map(keras.ops.convert_to_tensor, arguments), HEIGHT, WIDTH, 0.4, 0.6
    )
    got = bounding_boxes.affine_transform(boxes, *arguments, HEIGHT, WIDTH, 0.4, 0.6)
    assert_close(got, want, atol=1e-5)
    numbers = [float(values[1]) for values in arguments]
    got = bounding_boxes.affine_transform(boxes[1], *numbers, HEIGHT, WIDTH, 0.4, 0.6)
    assert_close(got, np.asarray(want)[1], atol=1e-5)
    # Another format gives the same boxes.
    other = bounding_boxes.convert_format(boxes, "xyxy", "center_yxhw")
    cropped = bounding_boxes.crop(other, 2, 3, 6, 7, bounding_box_format="center_yxhw")
    assert_close(
        bounding_boxes.convert_format(cropped, "center_yxhw", "xyxy"),
        THEIRS.crop(BOXES, 2, 3, 6, 7),
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("first", "second"), [(BOXES, MORE), (BOXES, MORE[0]), (BOXES[0], MORE), (BOXES[0], MORE[0])]
)
def test_overlap_is_that_of_keras(backend, first, second):
    for name in ("xyxy", "rel_yxyx"):
        got = bounding_boxes.compute_iou(first, second, name, image_shape=SHAPE)
        want = THEIRS.compute_iou(first, second, name, image_shape=SHAPE)
        assert_close(got, want)
    got = bounding_boxes.compute_iou(first, second - 12, "xyxy", use_masking=True, mask_val=-3)
    assert (keraslite.backend.to_numpy(got) == -3).any()
    if first.ndim == second.ndim:
        want = THEIRS.compute_iou(first, second - 12, "xyxy", use_masking=True, mask_val=-3)
        assert_close(got, want)
    assert_close(
        bounding_boxes.compute_ciou(first[..., :3, :], second, "xyxy"),
        THEIRS.compute_ciou(first[..., :3, :], second, "xyxy"),
        atol=1e-5,
    )


@pytest.mark.parametrize("encoding", ["center_xywh", "center_yxhw"])
@pytest.mark.parametrize("variance", [None, [0.1, 0.1, 0.2, 0.2]])
def test_deltas_are_those_of_keras(backend, encoding, variance):
    anchors = corners(5)
    arguments = ("xyxy", "rel_xywh", encoding, variance, SHAPE)
    boxes = THEIRS.convert_format(BOXES, "xyxy", "rel_xywh", HEIGHT, WIDTH)
    boxes = np.asarray(boxes)
    deltas = bounding_boxes.encode_box_to_deltas(anchors, boxes, *arguments)
    assert_close(deltas, THEIRS.encode_box_to_deltas(anchors, boxes, *arguments), atol=1e-5)
    back = bounding_boxes.decode_deltas_to_boxes(anchors, deltas, *arguments)
    assert_close(back, boxes, atol=1e-5)
    levels = bounding_boxes.decode_deltas_to_boxes({3: anchors}, {3: deltas}, *arguments)
    assert_close(levels[3], boxes, atol=1e-5)


def test_bad_boxes_are_refused():
    for call, message in (
        (lambda: bounding_boxes.convert_format(BOXES, "xyxy", "xxyy"), "must be one of.*'xxyy'"),
        (lambda: bounding_boxes.convert_format(BOXES, "xyxy", "rel_xyxy"), "height and width"),
        (lambda: bounding_boxes.convert_format(BOXES[..., :3], "xyxy", "xywh"), r"\(\.\.\., 4\)"),
        (lambda: bounding_boxes.clip_to_image_size({"boxes": BOXES}), "height and width"),
        (lambda: bounding_boxes.crop(BOXES, 0, 0, 1, 1, "rel_xyxy"), "must be in pixels"),
        (lambda: bounding_boxes.compute_iou(BOXES[0, 0], MORE, "xyxy"), "boxes1 must be"),
        (lambda: bounding_boxes.compute_iou(BOXES, MORE, "rel_xyxy"), "height and width"),
        (
            lambda: bounding_boxes.encode_box_to_deltas(BOXES, BOXES, "xyxy", "xyxy", "xywh"),
            "encoding_format must be",
        ),
        (
            lambda: bounding_boxes.decode_deltas_to_boxes(
                BOXES, BOXES, "xyxy", "xyxy", variance=[1.0]
            ),
            "four numbers",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def moved(boxes):
    boxes = bounding_boxes.affine_transform(boxes, 30.0, 0.1, 0.0, 1.2, 0.0, 5.0, HEIGHT, WIDTH)
    boxes = bounding_boxes.crop(bounding_boxes.pad(boxes, 1, 2), 1, 1, 8, 9)
    return bounding_boxes.convert_format(boxes, "xyxy", "rel_xywh", HEIGHT, WIDTH)


def test_boxes_go_through_models_and_data_sets(backend):
    x = keraslite.Input((5, 4))
    model = keraslite.Model(x, moved(x))
    assert_close(model(BOXES), moved(BOXES), atol=1e-5)
    if backend == "numpy":
        tf = pytest.importorskip("tensorflow")
        data = tf.data.Dataset.from_tensor_slices(BOXES).batch(2).map(moved)
        assert_close(next(iter(data)).numpy(), moved(BOXES), atol=1e-5)
