"""Common code of the applications: pixels, predictions, shapes, arguments, sources of weights."""

import contextlib
import hashlib
import importlib
import json
import sys
from importlib import resources
from itertools import product
from unittest import mock

import h5py
import keras
import numpy as np
import pytest
from keras.src.applications import imagenet_utils
from keras.src.legacy.saving import legacy_h5_format

import keraslite
from hub.models.applications import frame
from hub.models.applications.resnet import ResNet50, ResNetBackbone

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept")
FORMATS = ("channels_last", "channels_first")
MODES = ("caffe", "tf", "torch")


def images(data_format, rank, dtype="float32"):
    shape = (4, 5, 3) if data_format == "channels_last" else (3, 4, 5)
    pixels = np.random.default_rng(0).integers(0, 256, (2,) * (rank - 3) + shape)
    return pixels.astype(dtype)


@contextlib.contextmanager
def using(data_format):
    """The format of images in both libraries."""
    before = keraslite.config.image_data_format()
    for k in (keras, keraslite):
        k.config.set_image_data_format(data_format)
    try:
        yield
    finally:
        for k in (keras, keraslite):
            k.config.set_image_data_format(before)


# -- pixels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint8"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("data_format", "rank"), [*product(FORMATS, (3, 4))])
def test_pixels_of_arrays(data_format, rank, mode, dtype):
    ours, theirs = (images(data_format, rank, dtype) for _ in range(2))
    expected = imagenet_utils.preprocess_input(theirs, data_format, mode)
    result = frame.preprocess_input(ours, data_format, mode)
    assert isinstance(result, np.ndarray) and result.dtype == expected.dtype
    tolerance = 2e-3 if dtype == "float16" else 1e-5
    np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)  # in place


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("data_format", "rank"), [*product(FORMATS, (3, 4))])
def test_pixels_of_tensors(backend, data_format, rank, mode, dtype):
    x = images(data_format, rank, dtype)
    tensor = keraslite.ops.convert_to_tensor(x)
    result = frame.preprocess_input(tensor, data_format, mode)
    assert keraslite.dtypes.standardize(result.dtype) == "float32"
    np.testing.assert_array_equal(keraslite.ops.convert_to_numpy(tensor), x)  # as it was
    expected = imagenet_utils.preprocess_input(x, data_format, mode)
    np.testing.assert_allclose(
        keraslite.ops.convert_to_numpy(result), expected, rtol=1e-5, atol=2e-5
    )


@pytest.mark.parametrize(("data_format", "mode"), [*product(FORMATS, MODES)])
def test_pixels_inside_a_model(backend, data_format, mode):
    x = images(data_format, 4)
    image = keraslite.Input(x.shape[1:])
    model = keraslite.Model(image, frame.preprocess_input(image, data_format, mode))
    expected = imagenet_utils.preprocess_input(x.copy(), data_format, mode)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-5, atol=2e-5)


def test_the_format_of_the_config():
    with using("channels_first"):
        x = images("channels_first", 4)
        expected = imagenet_utils.preprocess_input(x.copy())
        np.testing.assert_allclose(frame.preprocess_input(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("arguments", [{"mode": "bgr"}, {"data_format": "first"}])
def test_pixels_of_an_unknown_mode(arguments):
    for f in (imagenet_utils.preprocess_input, frame.preprocess_input):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            f(images("channels_last", 4), **arguments)


# -- predictions ----------------------------------------------------------------------------------


@pytest.fixture
def classes(tmp_path, monkeypatch):
    """A list of classes that both libraries take for that of ImageNet."""
    index = {str(i): [f"n{i:08}", f"class_{i}"] for i in range(1000)}
    (tmp_path / "index.json").write_text(json.dumps(index))
    asked = []

    def get_file(fname=None, origin=None, **arguments):
        asked.append((origin, arguments))
        return str(tmp_path / "index.json")

    monkeypatch.setattr(keraslite.utils, "get_file", get_file)
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    monkeypatch.setattr(imagenet_utils, "CLASS_INDEX", None)
    return asked


def test_predictions(backend, classes):
    scores = np.random.default_rng(0).permutation(3000).reshape(3, 1000).astype("float32")
    for top in (1, 5, 1000):
        expected = imagenet_utils.decode_predictions(scores, top)
        assert frame.decode_predictions(scores, top) == expected
        assert frame.decode_predictions(keraslite.ops.convert_to_tensor(scores), top) == expected
    assert len(frame.decode_predictions(scores)[0]) == 5
    assert all(call == classes[0] for call in classes)  # address, folder and hash are Keras's


@pytest.mark.parametrize("shape", [(1000,), (2, 10), (1, 2, 1000)])
def test_predictions_of_other_shapes(shape):
    for f in (imagenet_utils.decode_predictions, frame.decode_predictions):
        with pytest.raises(ValueError, match="shape"):
            f(np.zeros(shape))


# -- arguments ------------------------------------------------------------------------------------

SHAPES = [
    None, (224, 224, 3), (3, 224, 224), (64, 64, 3), (3, 64, 64), (None, None, 3), (3, None, None),
    (None, 64, 3), (31, 64, 3), (64, 31, 3), (3, 31, 64), (64, 64), (64, 64, 64, 3), (64, 64, 1),
    (64, 64, 4), (4, 64, 64), [64, 64, 3],
]  # fmt: skip


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.filterwarnings("ignore:.*channels")
def test_shapes_of_images(shape, data_format):
    for fixed, weights in product((True, False), (None, "imagenet")):
        with using(data_format):
            try:
                expected = imagenet_utils.obtain_input_shape(
                    shape, 224, 32, data_format, fixed, weights
                )
            except ValueError:
                with pytest.raises(ValueError, match="input_shape must|Images must"):
                    frame.image_shape(shape, 224, 32, fixed, weights)
            else:
                assert frame.image_shape(shape, 224, 32, fixed, weights) == tuple(expected)


@pytest.mark.parametrize("data_format", FORMATS)
def test_unusual_channels_are_warned_of(data_format):
    shape = (64, 64, 4) if data_format == "channels_last" else (4, 64, 64)
    with using(data_format), pytest.warns(UserWarning, match="1 or 3 channels, got 4"):
        frame.image_shape(shape, 224, 32, fixed=True)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"weights": "absent.h5"}, "weights must be None, 'imagenet' or the path"),
        ({"weights": 3}, "weights must be None, 'imagenet' or the path"),
        ({"weights": None, "classes": 0}, "classes must be a positive integer, got 0"),
        ({"weights": "imagenet", "classes": 10}, "classes must be 1000 with weights='imagenet'"),
        ({"weights": None, "input_shape": (16, 16, 3)}, "at least 32 x 32"),
        ({"weights": None, "input_shape": (None, None, 3)}, "must have no None"),
        ({"weights": "imagenet", "input_shape": (64, 64, 3)}, r"must be \(224, 224, 3\)"),
        ({"weights": "imagenet", "include_top": False, "input_shape": (64, 64, 1)}, "3 channels"),
        (
            {"weights": "imagenet", "include_top": True, "classifier_activation": "relu"},
            "classifier_activation must be None or 'softmax'",
        ),
        ({"weights": None, "include_top": False, "pooling": "sum"}, "pooling must be"),
    ],
)
def test_arguments(arguments, match):
    with pytest.raises(ValueError, match=match):
        ResNet50(**arguments)
    if "pooling" not in arguments and arguments["weights"] != 3:
        # Keras takes an unknown pooling for None, and a number for an open file.
        argument = next(reversed(arguments)).replace("classes", "classes|units")  # Keras names it
        with pytest.raises(ValueError, match=argument.replace("input_shape", "input|Input")):
            keras.applications.ResNet50(**arguments)


# -- building -------------------------------------------------------------------------------------


def features(k):
    def call(x):
        x = k.layers.Conv2D(4, 3, name="conv")(x)
        return k.layers.BatchNormalization(name="bn")(x)

    return call


def tiny(**arguments):
    arguments = {
        "include_top": True, "weights": None, "input_tensor": None, "input_shape": None,
        "pooling": None, "classes": 1000, "classifier_activation": "softmax", "default_size": 8,
        "min_size": 4, "name": "tiny", **arguments,
    }  # fmt: skip
    return frame.assemble(features(keraslite), **arguments)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Models of the installed Keras with and without top, and the rows of their files."""
    models, rows = {}, {}
    for part in ("top", "no_top"):
        image = keras.Input((8, 8, 3))
        x = features(keras)(image)
        if part == "top":
            x = keras.layers.GlobalAveragePooling2D()(x)
            x = keras.layers.Dense(1000, "softmax", name="predictions")(x)
        models[part] = model = keras.Model(image, x)
        rng = np.random.default_rng(0)
        model.set_weights([rng.uniform(0.1, 1, w.shape).astype("float32") for w in model.weights])
        path = tmp_path_factory.mktemp("published") / f"tiny_{part}.h5"
        with h5py.File(path, "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, model)
        rows[part] = path.as_uri(), hashlib.md5(path.read_bytes()).hexdigest()
    return models, rows


@pytest.mark.parametrize("include_top", [True, False])
def test_published_weights(backend, published, tmp_path, monkeypatch, include_top):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    models, rows = published
    part = "top" if include_top else "no_top"
    ours = tiny(weights="imagenet", include_top=include_top, files=rows)
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    expected = models[part].predict(x, verbose=0)
    np.testing.assert_allclose(ours.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6)
    assert [p.name for p in (tmp_path / "models").iterdir()] == [f"tiny_{part}.h5"]
    # A file of the same, and one of ours.
    path = tmp_path / "models" / f"tiny_{part}.h5"
    again = tiny(weights=path, include_top=include_top)
    again.save_weights(tmp_path / "w.safetensors")
    last = tiny(weights=str(tmp_path / "w.safetensors"), include_top=include_top)
    for model in (again, last):
        assert all(map(np.array_equal, model.get_weights(), ours.get_weights()))


def test_a_name_in_the_cache_may_be_another(published, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    files = {"top": [*published[1]["top"], "renamed.h5"]}
    assert frame.fetch_weights(files, True) == tmp_path / "models" / "renamed.h5"


def test_weights_that_were_damaged_on_their_way(published, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    address, digest = published[1]["top"]
    with pytest.raises(ValueError, match="hash is"):
        tiny(weights="imagenet", files={"top": (address, digest[::-1])})
    with pytest.raises(OSError, match="absent.h5 cannot be downloaded"):
        tiny(weights="imagenet", files={"top": (address.replace("tiny_top", "absent"), digest)})
    with pytest.raises(ValueError, match="Keras has no weights for this application"):
        tiny(weights="imagenet", files="NoNetwork")


def test_building_on_a_tensor(backend):
    image = keraslite.Input((16, 16, 1))
    x = keraslite.layers.Conv2D(3, 1)(image)
    model = tiny(input_tensor=x, classes=5)
    assert model.inputs[0] is image and model.output_shape == (None, 5)
    assert model.predict(np.ones((2, 16, 16, 1), "float32"), verbose=0).shape == (2, 5)


@pytest.mark.parametrize(
    ("pooling", "shape"), [(None, (None, None, None, 4)), ("avg", (None, 4)), ("max", (None, 4))]
)
def test_features(pooling, shape):
    assert tiny(include_top=False, pooling=pooling).output_shape == shape


# -- where Keras's weights are --------------------------------------------------------------------

WIDTHS = {"MobileNet": (0.25, 0.5, 0.75, 1.0), "MobileNetV2": (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)}
SIZES = {"MobileNet": (128, 160, 192, 224), "MobileNetV2": (96, 128, 160, 192, 224)}


def variants():
    """(key, constructor, arguments) of all weights of the installed Keras."""
    for name in dir(keras.applications):
        if name in WIDTHS:
            for alpha, size in product(WIDTHS[name], SIZES[name]):
                arguments = {"alpha": alpha, "input_shape": (size, size, 3)}
                yield f"{name}_{alpha}_{size}", name, arguments
        elif name.startswith("MobileNetV3"):
            for alpha, minimalistic in ((0.75, False), (1.0, False), (1.0, True)):
                key = f"{name}_{alpha}" + ("_minimalistic" if minimalistic else "")
                arguments = {"alpha": alpha, "minimalistic": minimalistic}
                yield key, name, {**arguments, "input_shape": (224, 224, 3)}
        elif isinstance(getattr(keras.applications, name), type(variants)):
            yield name, name, {}


class Anything:
    """Stands for layers, tensors and models: the networks are not built to ask for addresses."""

    shape = (None, 64, 64, 64)

    def __init__(self, *args, **kwargs):
        pass

    def __call__(self, *args, **kwargs):
        return Anything()

    def __getattr__(self, name):
        return Anything()

    __add__ = __radd__ = __mul__ = __rmul__ = __truediv__ = __getitem__ = __call__


def asked_for(name, include_top, arguments):
    """Return [address, hash, name] of the file that a constructor of Keras downloads."""
    constructor = getattr(keras.applications, name)
    replaced = (
        "layers", "Functional", "Sequential", "operation_utils", "LayerScale", "StochasticDepth",
        "CustomScaleLayer",
    )  # fmt: skip
    modules = {
        sys.modules[constructor.__module__],
        importlib.import_module("keras.src.applications.resnet"),
    }
    with contextlib.ExitStack() as stack:
        for module in modules:
            patches = {name: Anything() for name in replaced}
            stack.enter_context(mock.patch.multiple(module, create=True, **patches))
        get_file = stack.enter_context(mock.patch("keras.src.utils.file_utils.get_file"))
        constructor(include_top=include_top, **arguments)
    ((fname, address), options) = get_file.call_args
    assert options["cache_subdir"] == "models" and get_file.call_count == 1
    return [address, options.get("file_hash"), fname]


def test_all_weights_of_keras_are_listed():
    text = resources.files("hub.models.applications").joinpath("weights.json").read_text()
    rows = json.loads(text)
    expected = {}
    for key, name, arguments in variants():
        expected[key] = {
            "top": asked_for(name, True, arguments), "no_top": asked_for(name, False, arguments)
        }  # fmt: skip
    assert len(expected) == 88
    for row in rows.values():
        for part in row.values():
            part += [part[0].rpartition("/")[2]] if len(part) == 2 else []
    assert rows == expected


@pytest.mark.parametrize(
    ("data_format", "shape"), [("channels_first", (None, None, 3)), ("channels_last", (3, 8))]
)
def test_channels_of_a_backbone_where_the_config_has_them(data_format, shape):
    with (
        using(data_format),
        pytest.raises(ValueError, match=f"as image_data_format is '{data_format}'"),
    ):
        ResNetBackbone((4, 8), (1, 1), "basic_block", input_conv_filters=4, image_shape=shape)
