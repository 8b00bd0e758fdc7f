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
# What is computed from draws by sines, roots, logarithms or a system of equations.
ROUNDED = {
    "matrix", "rows", "columns", "noise", "rectangles", "mix_weight", "chain_mixing_weights",
    "weight_sample",
}  # fmt: skip
KEEP_DTYPE = ("Resizing", "ContrastLimitedAdaptiveHistogramEqualization")


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
        pairs = zip(tree.flatten_with_path(other), tree.flatten_with_path(values), strict=True)
        for (path, theirs), (_, ours) in pairs if values else ():
            if ROUNDED & set(path):
                assert_close(theirs, ours, 1e-5, 1e-5)
            else:
                np.testing.assert_array_equal(theirs, ours)
        assert_close(again, outputs, 0, row.share / (1 if row.layer in KEEP_DTYPE else 4))


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
    assert ops.dtype(still) == ("uint8" if row.layer in KEEP_DTYPE else "float32")
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
        for values in (mask,) if name == "RandAugment" else (picture, mask):
            rows, columns = np.nonzero(values[..., 0] > 127)
            edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(edges, moved[0], atol=1.0)


BOXES = ("RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom", "RandomPerspective",
         "Resizing", "CenterCrop")  # fmt: skip


@pytest.mark.parametrize(
    "row",
    [r for r in ROWS if r.layer in BOXES and (r.translate or not r.draws)],
    ids=lambda r: r.id,
)
def test_boxes_as_keras(row, backend):
    """To a pixel: Keras takes the edges of boxes for the centres of pixels when it turns them."""
    layer = make(row, bounding_box_format="xyxy")
    theirs = getattr(keras.layers, row.layer)(**row.kwargs, bounding_box_format="xyxy")
    boxes = np.tile(np.float32([[[2, 1, 7, 6], [0, 3, 4, 8]]]), (4, 1, 1))
    given = {"boxes": boxes, "labels": np.tile(np.int32([[3, 4]]), (4, 1))}
    if row.draws:
        t, values = drawn(layer, PICTURES)
        theirs_t = row.translate(values, theirs, PICTURES.shape)
    else:
        t = layer.get_random_transformation(PICTURES)
        theirs_t = theirs.get_random_transformation(PICTURES)
    ours = layer.transform_bounding_boxes(tree.map_structure(ops.convert_to_tensor, given), t)
    want = theirs.transform_bounding_boxes(dict(given), theirs_t)
    assert_close(ours["boxes"], np.asarray(want["boxes"]), 0, 1.01)


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
    boxes = {"boxes": np.zeros((4, 1, 4)), "labels": np.zeros((4, 1))}
    with pytest.raises(ValueError, match="format of the bounding boxes must be set"):
        layers.RandomFlip()({"images": PICTURES, "bounding_boxes": boxes})
    with pytest.raises(ValueError, match='must be a dict of "boxes" and "labels"'):
        layers.RandomFlip(bounding_box_format="xyxy")(
            {"images": PICTURES, "bounding_boxes": {"boxes": [[1, 2, 3, 4]]}}
        )
    layer = layers.RandomFlip(bounding_box_format="xyxy")
    for field, message in (
        ({"segmentation_masks": PICTURES[:, :4]}, r"size of the images .* got .*\(4, 4, 10, 3\)"),
        ({"segmentation_masks": PICTURES[..., 0]}, r"an axis of channels.* got .*\(4, 8, 10\)"),
        ({"labels": np.zeros(3)}, r'"labels" must have a row for each of 4 images.*\(3,\)'),
        (
            {"bounding_boxes": {**boxes, "boxes": np.zeros((3, 1, 4))}},
            r'"bounding_boxes" must have a row .*\(3, 1, 4\)',
        ),
    ):
        with pytest.raises(ValueError, match=message):
            layer({"images": PICTURES, **field})
    with pytest.raises(ValueError, match="must have 3 channels"):
        layers.RandomHue(0.1)(PICTURES[..., :1])
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


def test_mixing_mixes_labels_boxes_and_masks_alike(backend):
    labels = np.eye(4, dtype="float32")
    boxes = np.tile(np.float32([[[0, 0, 10, 8]]]), (4, 1, 1)) + np.zeros((4, 1, 1), "float32")
    flat = np.ones((4, 8, 10, 3), "float32") * np.float32([0, 1, 2, 3]).reshape(4, 1, 1, 1)
    data = {
        "images": flat,
        "labels": labels,
        "segmentation_masks": flat[..., :1],
        "bounding_boxes": {"boxes": boxes, "labels": np.int32([[5], [6], [7], [8]])},
    }
    for layer in (
        layers.MixUp(1.0, seed=5, bounding_box_format="xyxy"),
        layers.CutMix((1.0, 1.0), seed=5, bounding_box_format="xyxy"),
    ):
        out = tree.map_structure(to_numpy, layer(data))
        assert_close(out["labels"].sum(1), np.ones(4))
        assert ((out["labels"] > 0).sum(1) == 2).any()
        assert_close(out["images"][..., :1], out["segmentation_masks"])
        names, moved = out["bounding_boxes"]["labels"], out["bounding_boxes"]["boxes"]
        assert names[:, 0].tolist() == [5, 6, 7, 8]
        assert moved.shape == (4, 2, 4)
        for own in range(4):
            other = int(np.argmax(out["labels"][own] * (np.arange(4) != own)))
            if out["labels"][own, other] == 0:  # mixed with itself
                continue
            if isinstance(layer, layers.MixUp):
                mean = (out["labels"][own] * np.arange(4)).sum()
                assert_close(out["images"][own], np.full((8, 10, 3), mean), 1e-5, 1e-5)
                continue
            rows, columns = np.nonzero(out["images"][own, ..., 0] == other)
            if not len(rows):
                assert names[own, 1] == -1
                continue
            edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert moved[own, 1].tolist() == edges
            assert names[own, 1] == 5 + other
    with pytest.raises(ValueError, match="Labels must be"):
        layers.MixUp()({"images": flat, "labels": np.arange(4)})


def test_equalization_is_of_each_picture(backend):
    layer = layers.Equalization()
    together = to_numpy(layer(PICTURES))
    assert_close(together[2], to_numpy(layer(PICTURES[2])))


def test_elastic_displacements_are_those_of_the_op(backend):
    """With the noise of the layer, scipy finds the same pixels."""
    ndimage = pytest.importorskip("scipy.ndimage")
    layer = layers.RandomElasticTransform((1.0, 1.0), (0.6, 0.6), seed=11)
    t, values = drawn(layer, PICTURES)
    out = to_numpy(layer.transform_images(ops.convert_to_tensor(PICTURES), t))
    for i, picture in enumerate(PICTURES.astype("float32")):
        at = [values["rows"][i], values["columns"][i]]
        want = [ndimage.map_coordinates(picture[..., c], at, order=1, mode="reflect")
                for c in range(3)]  # fmt: skip
        assert_close(out[i], np.stack(want, -1), 1e-4, 0.01)
    # Smooth, and as wide as the noise blurred by scipy.
    sigma = 0.05 * 0.6 * 8
    noise = np.random.default_rng(0).standard_normal((1000, 10)) * sigma
    blurred = ndimage.gaussian_filter(noise, sigma, mode="constant", truncate=3) * 0.1 * 0.6 * 10
    shifts = values["columns"] - np.arange(10)
    assert 0.5 < shifts.std() / blurred.std() < 2
