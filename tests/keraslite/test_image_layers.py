"""The image layers: against the installed Keras, across backends, on boxes, masks and labels."""

import keras
import numpy as np
import pytest
from backends import BACKENDS
from compare import assert_close, to_numpy
from image_cases import MOVES, PICTURES, ROWS
from layer_cases import plain_config

import keraslite
from keraslite import layers, ops, tree

SEED = (11, 0)


def make(row, **kwargs):
    """One of our layers, with a seed where it takes one."""
    seed = {"seed": 11} if row.draws else {}
    return getattr(layers, row.layer)(**row.kwargs, **seed, **kwargs)


def pictures(row):
    """The pictures of a row: integers, or floats from 0 to 1."""
    return PICTURES if row.share == 1 else (PICTURES * row.share).astype("float32")


def drawn(layer, images):
    """The transformation that a layer draws for pictures, and the same as arrays."""
    with keraslite.use_backend(layer.backend):
        t = layer.get_random_transformation(ops.convert_to_tensor(images), seed=SEED)
    return t, None if t is None else tree.map_structure(to_numpy, t)


@pytest.mark.parametrize("row", [r for r in ROWS if r.translate or not r.draws], ids=lambda r: r.id)
def test_pixels_as_keras(row, backend):
    images, layer = pictures(row)[: row.batch], make(row)
    theirs = getattr(keras.layers, row.layer)(**row.kwargs)
    if not row.draws:
        assert_close(layer(images), np.asarray(theirs(images)), 0, row.share)
        return
    t, values = drawn(layer, images)
    got = layer.transform_images(ops.convert_to_tensor(images), t)
    translated = row.translate(values, theirs, images.shape)
    want = np.asarray(theirs.transform_images(images.astype("float32"), translated))
    assert ops.dtype(got) == "float32"
    assert want.shape != images.shape or np.abs(want - images).max() > 5 * row.share
    assert_close(got, want, 0, row.share)


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r.id)
def test_the_same_pictures_and_numbers_on_every_backend(row):
    results = []
    for name in BACKENDS:
        with keraslite.use_backend(name):
            layer = make(row)
            _, values = drawn(layer, pictures(row))
            results.append((values, [to_numpy(layer(pictures(row))) for _ in range(3)]))
    (values, outputs), *others = results
    if row.draws:
        assert (outputs[0] != outputs[1]).any() or (outputs[0] != outputs[2]).any()
    for other, again in others:
        for name, value in (values or {}).items():
            if name in ("matrix", "rows", "columns", "noise"):  # sines, logarithms, solutions
                assert_close(other[name], value, 1e-5, 1e-5)
            else:
                tree.map_structure(np.testing.assert_array_equal, other[name], value)
        assert_close(again, outputs, 0, row.share / 4)


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r.id)
def test_config_as_keras(row):
    cls = getattr(layers, row.layer)
    kwargs = row.kwargs | {"name": "x", "bounding_box_format": "xyxy"}
    kwargs |= {"seed": 5} if row.draws else {}
    ours = plain_config(cls(**kwargs).get_config())
    theirs = plain_config(getattr(keras.layers, row.layer)(**kwargs).get_config())
    assert {k: ours[k] for k in theirs} == theirs
    assert plain_config(cls.from_config(ours).get_config()) == ours


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r.id)
def test_one_picture_channels_first_and_inference(row, backend):
    images, layer = pictures(row), make(row)
    moved = make(row, data_format="channels_first")
    batch = to_numpy(layer(images[:1]))
    assert_close(make(row)(images[0]), batch[0])
    first = to_numpy(moved(np.moveaxis(images[:1], -1, 1)))
    assert_close(np.moveaxis(first, 1, -1), batch, 1e-5, 1e-3)
    still = layer(images, training=False)
    assert ops.dtype(still) == ("uint8" if row.layer == "Resizing" else "float32")
    assert still.shape == layer.compute_output_shape(images.shape)
    if row.draws and row.layer != "RandomCrop":
        assert_close(still, images.astype("float32"))


@pytest.mark.parametrize(("name", "kwargs"), MOVES, ids=str)
def test_a_box_stays_around_what_it_was_around(name, kwargs, backend):
    """A filled rectangle, its mask and its box come out at the same place."""
    side, x1, y1, x2, y2 = 64, 20, 24, 44, 36
    image = np.zeros((4, side, side, 1), "float32")
    image[:, y1:y2, x1:x2] = 255.0
    boxes = np.tile(np.float32([[[x1, y1, x2, y2], [0, 0, 0, 0]]]), (4, 1, 1))
    data = {
        "images": image,
        "bounding_boxes": {"boxes": boxes, "labels": np.tile(np.int32([[5, -1]]), (4, 1))},
        "segmentation_masks": image,
    }
    layer = getattr(layers, name)(**kwargs, bounding_box_format="xyxy")
    out = tree.map_structure(to_numpy, layer(data))
    assert (data["bounding_boxes"]["boxes"] == boxes).all()  # the call changes no argument
    assert (out["bounding_boxes"]["labels"][:, 1] == -1).all()
    assert set(np.unique(out["segmentation_masks"])) <= {0.0, 255.0}
    for picture, mask, moved in zip(
        out["images"], out["segmentation_masks"], out["bounding_boxes"]["boxes"], strict=True
    ):
        for values, slack in ((picture > 127, 1.0), (mask > 127, 1.0)):
            rows, columns = np.nonzero(values[..., 0])
            edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(edges, moved[0], atol=slack)


def test_the_number_of_boxes(backend):
    boxes = {"boxes": np.ones((2, 3, 4), "float32"), "labels": np.ones((2, 3), "int32")}
    for number in (2, 5):
        layer = layers.MaxNumBoundingBoxes(number, bounding_box_format="xyxy")
        data = {"images": PICTURES[:2], "bounding_boxes": boxes}
        out = layer(data)
        assert ops.dtype(out["images"]) == "uint8"
        want = [[1, 1, 1, -1, -1][:number]] * 2
        assert to_numpy(out["bounding_boxes"]["labels"]).tolist() == want
        shapes = tree.map_structure(lambda x: tuple(x.shape), out)
        given = tree.map_shape_structure(tuple, tree.map_structure(lambda x: x.shape, data))
        assert layer.compute_output_shape(given) == shapes


def test_formats_of_boxes_give_the_same_boxes(backend):
    boxes = np.float32([[[1, 2, 5, 7]]])
    labels = np.int32([[3]])
    images = PICTURES[:1].astype("float32")
    want = None
    for name in ("xyxy", "yxyx", "xywh", "center_xywh", "rel_xyxy", "rel_center_xywh"):
        given = keraslite.utils.bounding_boxes.convert_format(boxes, "xyxy", name, 8, 10)
        layer = layers.RandomRotation(0.1, seed=2, bounding_box_format=name)
        data = {"images": images, "bounding_boxes": {"boxes": given, "labels": labels}}
        out = layer(data)["bounding_boxes"]["boxes"]
        got = keraslite.utils.bounding_boxes.convert_format(out, name, "xyxy", 8, 10)
        want = to_numpy(got) if want is None else want
        assert_close(got, want, 1e-5, 1e-4)
    ragged = {"boxes": [[[1, 2, 5, 7]], []], "labels": [[3], []]}
    layer = layers.RandomFlip(seed=1, bounding_box_format="xyxy")
    out = layer({"images": PICTURES[:2], "bounding_boxes": ragged})["bounding_boxes"]
    assert to_numpy(out["labels"]).tolist() == [[3], [-1]]
    assert out["boxes"].shape == (2, 1, 4)


def test_errors_name_the_argument(backend):
    boxes = {"boxes": np.zeros((3, 1, 4)), "labels": np.zeros((3, 1))}
    with pytest.raises(ValueError, match="format of the bounding boxes must be set"):
        layers.RandomFlip()({"images": PICTURES, "bounding_boxes": boxes})
    with pytest.raises(ValueError, match='must be a dict of "boxes" and "labels"'):
        layers.RandomFlip(bounding_box_format="xyxy")(
            {"images": PICTURES, "bounding_boxes": {"boxes": [[1, 2, 3, 4]]}}
        )
    with pytest.raises(ValueError, match="height, width, channels"):
        layers.RandomFlip()(PICTURES[0, 0])
    with pytest.raises(ValueError, match="`factor` must be a number or a pair"):
        layers.RandomRotation(3.0)
    with pytest.raises(ValueError, match="`value_range` must be two different numbers"):
        layers.RandomBrightness(0.1, value_range=(1, 1))
    with pytest.raises(NotImplementedError, match="`fill_mode` must be one of"):
        layers.RandomZoom(0.1, fill_mode="mirror")
    with pytest.raises(ValueError, match="`mode` must be one of"):
        layers.RandomFlip("sideways")
