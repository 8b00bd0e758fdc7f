"""Layers that detectors are trained with: `Mosaic`, `RandomAffine`, `RandomHSV`."""

import colorsys

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf
from backends import BACKENDS
from compare import assert_close, to_numpy
from image_cases import PICTURES
from layer_cases import plain_config

import keraslite
from keraslite import layers, ops, tree

BOXES = {
    "boxes": np.float32([[[0, 0, 10, 8], [2, 1, 6, 5]]] * 4),
    "labels": np.int32([[0, -2], [1, 11], [2, -2], [3, -1]]),
}
DATA = {
    "images": PICTURES, "bounding_boxes": BOXES, "labels": np.eye(4, dtype="float32"),
    "segmentation_masks": PICTURES[..., :1],
}  # fmt: skip
LAYERS = [
    ("Mosaic", {"offset": (0.2, 0.8)}),
    ("RandomAffine", {"degrees": 20.0, "translate": 0.2, "scale": 0.4, "shear": 10.0}),
    ("RandomAffine", {"fill_mode": "reflect", "interpolation": "nearest", "fill_value": 114.0}),
    ("RandomHSV", {"hue": 0.3}),
]
EACH = pytest.mark.parametrize(("name", "kwargs"), LAYERS, ids=str)


def make(name, kwargs, **more):
    return getattr(layers, name)(**kwargs, seed=7, **more)


@EACH
def test_the_same_on_every_backend_and_compiled(name, kwargs):
    results = []
    for backend in BACKENDS:
        with keraslite.use_backend(backend):
            layer = make(name, kwargs, bounding_box_format="xyxy")
            results.append([tree.map_structure(to_numpy, layer(DATA)) for _ in range(2)])
            inner = make(name, kwargs)
            state = [inner.generator.state]
            compiled = keraslite.jit(lambda x, inner=inner: inner(x, training=True), state)
            for out in results[-1]:
                assert_close(compiled(ops.convert_to_tensor(PICTURES)), out["images"], 0, 0.5)
    first, *others = results
    assert (first[0]["images"] != first[1]["images"]).any()
    for other in others:
        for (path, ours), (_, theirs) in zip(
            tree.flatten_with_path(first), tree.flatten_with_path(other), strict=True
        ):
            if path[-1] == "labels":
                np.testing.assert_allclose(theirs, ours, atol=1e-6)
            else:
                np.testing.assert_allclose(theirs, ours, atol=0.25, err_msg=str(path))


@EACH
def test_config_inference_and_channels_first(name, kwargs, backend):
    layer = make(name, kwargs, bounding_box_format="xyxy")
    config = plain_config(layer.get_config())
    assert plain_config(type(layer).from_config(config).get_config()) == config
    assert {k: config[k] for k in kwargs} == plain_config(kwargs)
    assert layer.compute_output_shape(PICTURES.shape) == PICTURES.shape
    still = tree.map_structure(to_numpy, layer(DATA, training=False))
    assert_close(still["images"], PICTURES.astype("float32"))
    assert_close(still["bounding_boxes"]["boxes"], BOXES["boxes"])
    moved = make(name, kwargs, data_format="channels_first")(np.moveaxis(PICTURES, -1, 1))
    assert_close(np.moveaxis(to_numpy(moved), 1, -1), make(name, kwargs)(PICTURES), 1e-5, 1e-3)
    assert make(name, kwargs)(PICTURES[0]).shape == PICTURES.shape[1:]


@EACH
def test_tf_data_of_unknown_sizes(name, kwargs):
    layer = make(name, kwargs, bounding_box_format="xyxy")
    want = tree.map_structure(to_numpy, layer(DATA))
    layer = make(name, kwargs, bounding_box_format="xyxy")
    got = next(iter(tf.data.Dataset.from_tensor_slices(DATA).batch(4).map(layer)))
    assert_close(got["images"].numpy(), want["images"], 0, 1.0)
    assert_close(
        got["bounding_boxes"]["boxes"].numpy(), want["bounding_boxes"]["boxes"], 1e-4, 1e-3
    )


def pasted(images, ids, center):
    """A mosaic by slices: each of four images touches the point with one of its corners."""
    height, width = images.shape[1:3]
    x, y = center
    canvas = np.zeros_like(images[0])
    canvas[:y, :x] = images[ids[0]][height - y :, width - x :]
    canvas[:y, x:] = images[ids[1]][height - y :, : width - x]
    canvas[y:, :x] = images[ids[2]][: height - y, width - x :]
    canvas[y:, x:] = images[ids[3]][: height - y, : width - x]
    return canvas


def test_a_mosaic_is_what_slices_make(backend):
    height, width = PICTURES.shape[1:3]
    layer = layers.Mosaic(offset=(0.0, 1.0), seed=3, bounding_box_format="xyxy")
    drawn = layer.get_random_transformation(ops.convert_to_tensor(PICTURES), seed=(3, 0))
    ids, centers = (to_numpy(drawn[key]) for key in ("pictures", "center"))
    assert ids[:, 0].tolist() == [0, 1, 2, 3]
    assert set(ids.ravel()) == {0, 1, 2, 3}
    out = tree.map_structure(to_numpy, layer({**DATA, "segmentation_masks": PICTURES}))
    boxes, names = out["bounding_boxes"]["boxes"], out["bounding_boxes"]["labels"]
    assert boxes.shape == (4, 8, 4)
    for row in range(4):
        x, y = centers[row]
        np.testing.assert_array_equal(out["images"][row], pasted(PICTURES, ids[row], (x, y)))
        np.testing.assert_array_equal(out["segmentation_masks"][row], out["images"][row])
        shares = np.array([x * y, (width - x) * y, x * (height - y), (width - x) * (height - y)])
        want = (shares[:, None] / (height * width) * np.eye(4)[ids[row]]).sum(0)
        assert_close(out["labels"][row], want, 1e-5, 1e-6)
        for place in range(4):
            shift = np.array([x - width * (1 - place % 2), y - height * (1 - place // 2)] * 2)
            for number in range(2):
                before = BOXES["boxes"][ids[row, place], number] + shift
                box = np.clip(before, 0, [width, height] * 2)
                area = np.prod(box[2:] - box[:2]) / np.prod(before[2:] - before[:2])
                name = BOXES["labels"][ids[row, place], number]
                np.testing.assert_allclose(boxes[row, 2 * place + number], box, atol=1e-4)
                assert names[row, 2 * place + number] == (name if area >= 0.1 else -1)
    assert -2 in names  # an ignored box is one of its own


def test_an_affine_layer_is_what_scipy_makes(backend):
    layer = layers.RandomAffine(
        degrees=40.0, translate=0.2, scale=(0.6, 1.5), shear=(-20.0, 20.0), fill_value=50.0, seed=3
    )
    drawn = layer.get_random_transformation(ops.convert_to_tensor(PICTURES), seed=(3, 0))
    values = tree.map_structure(to_numpy, drawn)
    out = to_numpy(layer(PICTURES))
    middle = (np.array(PICTURES.shape[1:3]) - 1) / 2
    for row, image in enumerate(PICTURES.astype("float64")):
        turn, (across, along) = np.radians(values["angle"][row]), np.radians(values["shear"][row])
        # In the order (y, x): counter-clockwise is from x to the top.
        rotation = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
        shear = [[1, np.tan(along)], [np.tan(across), 1]]
        back = np.linalg.inv(np.array(shear) @ rotation * values["scale"][row])
        offset = middle - back @ (middle + values["translations"][row][::-1])
        for channel in range(3):
            want = scipy.ndimage.affine_transform(
                image[..., channel], back, offset, order=1, mode="grid-constant", cval=50.0
            )
            np.testing.assert_allclose(out[row, ..., channel], want, atol=0.05)
    plain = layers.RandomAffine(degrees=(30, 30), translate=0, scale=0, fill_value=9.0)(PICTURES)
    turned = layers.RandomRotation([30 / 360] * 2, fill_mode="constant", fill_value=9.0)(PICTURES)
    assert_close(plain, turned, 1e-5, 1e-2)


def test_a_box_of_which_little_is_left_is_no_object(backend):
    boxes = {"boxes": np.float32([[[0, 0, 4, 4], [6, 2, 10, 4]]] * 4), "labels": np.ones((4, 2))}
    shift = {"translate": (0.5, 0.5), "scale": 0.0, "seed": 1}
    for min_area, want in ((0.0, [1, -1]), (0.9, [1, -1])):
        layer = layers.RandomAffine(**shift, min_area=min_area, bounding_box_format="xyxy")
        out = layer({"images": PICTURES, "bounding_boxes": boxes})["bounding_boxes"]
        assert to_numpy(out["labels"])[0].tolist() == want
        np.testing.assert_allclose(to_numpy(out["boxes"])[0, 0], [5, 4, 9, 8], atol=1e-4)
    boxes["boxes"][:, 0, 2:] = 9, 4  # the half of it is left
    for min_area, want in ((0.4, 1), (0.6, -1)):
        layer = layers.RandomAffine(**shift, min_area=min_area, bounding_box_format="xyxy")
        out = layer({"images": PICTURES, "bounding_boxes": boxes})["bounding_boxes"]
        assert to_numpy(out["labels"])[0, 0] == want


def test_hsv_is_what_colorsys_makes(backend):
    images = (PICTURES / 255).astype("float32")
    options = {"hue": 0.2, "saturation": 0.7, "value": 0.6, "value_range": (0, 1)}
    layer = layers.RandomHSV(**options, seed=3)
    drawn = layer.get_random_transformation(ops.convert_to_tensor(images), seed=(3, 0))
    factors = {k: to_numpy(v) for k, v in drawn.items()}
    out = to_numpy(layer(images))
    for row in range(4):
        for pixel, got in zip(images[row].reshape(-1, 3), out[row].reshape(-1, 3), strict=True):
            h, s, v = colorsys.rgb_to_hsv(*pixel.tolist())
            h = (h + factors["hue"][row]) % 1
            s, v = min(s * factors["saturation"][row], 1), min(v * factors["value"][row], 1)
            np.testing.assert_allclose(got, colorsys.hsv_to_rgb(h, s, v), atol=1e-5)
    wide = layers.RandomHSV(**{**options, "value_range": (-1, 1)}, seed=3)
    assert_close(to_numpy(wide(images * 2 - 1)), out * 2 - 1, 1e-4, 1e-4)


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("Mosaic", {"offset": (0.5, 1.5)}),
        ("Mosaic", {"min_area": 1.0}),
        ("RandomAffine", {"degrees": "a"}),
        ("RandomAffine", {"translate": 2.0}),
        ("RandomAffine", {"scale": 1.5}),
        ("RandomAffine", {"shear": 90.0}),
        ("RandomAffine", {"min_area": -0.1}),
        ("RandomHSV", {"value": 3.0}),
    ],
)
def test_errors_name_the_argument(name, kwargs):
    with pytest.raises(ValueError, match=f"`{next(iter(kwargs))}` must be a number"):
        getattr(layers, name)(**kwargs)
