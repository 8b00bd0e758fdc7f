"""The applications of hub against the installed Keras's: structure of each, numbers of families."""

import contextlib
import importlib
import inspect
import re
from typing import NamedTuple

import h5py
import keras
import numpy as np
import pytest
from backends import BACKENDS
from compare import assert_close
from keras.src.legacy.saving import legacy_h5_format

import keraslite
from keraslite import layers


class Row(NamedTuple):
    """An application.

    Attributes:
        name: of its function.
        module: of hub, in which it is.
        size: the least height and width.
        numbers: whether its outputs are compared.
        slow: whether building it, or running it, takes seconds.
        channels_first: whether it can be built in that format.
        pixels: whether it takes pixels from 0 to 255.
        any_name: whether Keras builds it under any name.
        projection: the factor of random weights behind gates, so that features do not vanish.
        any_size: whether a classifier, and Keras's weights, take images of any size.
    """

    name: str
    module: str
    size: int = 32
    numbers: bool = False
    slow: bool = False
    channels_first: bool = True
    pixels: bool = False
    any_name: bool = True
    projection: float = 1.0
    any_size: bool = False


ROWS = [
    Row("ResNet50", "resnet", numbers=True),
    Row("ResNet101", "resnet", slow=True),
    Row("ResNet152", "resnet", slow=True),
    Row("ResNet50V2", "resnet", numbers=True),
    Row("ResNet101V2", "resnet", slow=True),
    Row("ResNet152V2", "resnet", slow=True),
    Row("VGG16", "vgg", numbers=True),
    Row("VGG19", "vgg"),
    Row("DenseNet121", "densenet", numbers=True, channels_first=False),
    Row("DenseNet169", "densenet", channels_first=False, slow=True),
    Row("DenseNet201", "densenet", channels_first=False, slow=True),
    Row("ConvNeXtTiny", "convnext", numbers=True, channels_first=False),
    *(
        Row(f"ConvNeXt{size}", "convnext", channels_first=False, slow=True)
        for size in ("Small", "Base", "Large", "XLarge")
    ),
    Row("Xception", "xception", 71, numbers=True),
    Row("InceptionV3", "inception_v3", 75, numbers=True),
    Row("InceptionResNetV2", "inception_resnet_v2", 75, numbers=True, slow=True),
    Row("NASNetMobile", "nasnet", numbers=True, slow=True, channels_first=False),
    Row("NASNetLarge", "nasnet", channels_first=False, slow=True),
    Row("EfficientNetB0", "efficientnet", numbers=True, pixels=True, projection=2.0),
    *(Row(f"EfficientNetB{i}", "efficientnet", slow=True) for i in range(1, 8)),
    Row("EfficientNetV2B0", "efficientnet_v2", numbers=True, pixels=True, any_name=False),
    *(
        Row(f"EfficientNetV2{size}", "efficientnet_v2", slow=True, any_name=False)
        for size in ("B1", "B2", "B3", "S", "M", "L")
    ),
    Row("MobileNet", "mobilenet", numbers=True),
    Row("MobileNetV2", "mobilenet_v2", numbers=True),
    Row("MobileNetV3Small", "mobilenet_v3", numbers=True, pixels=True, any_size=True),
    Row("MobileNetV3Large", "mobilenet_v3", pixels=True, any_size=True),
]


def rows(condition=lambda row: True):
    return [
        pytest.param(row, id=row.name, marks=[pytest.mark.slow] if row.slow else [])
        for row in ROWS if condition(row)
    ]  # fmt: skip


def ours(row):
    return getattr(importlib.import_module(f"hub.models.applications.{row.module}"), row.name)


def build(row, **arguments):
    """Return our model and Keras's, without weights, of images of the least size."""
    arguments = {"weights": None, "input_shape": (row.size, row.size, 3), **arguments}
    keras.utils.clear_session()
    keraslite.utils.clear_session()
    return ours(row)(**arguments), getattr(keras.applications, row.name)(**arguments)


def plain(layer):
    """Return the numbers, flags and words of a layer's config: what its outputs depend on."""
    config = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in layer.get_config().items()
        if isinstance(value, str | int | float | tuple | list) and key not in ("dtype", "trainable")
    }
    if type(layer).__name__ in ("BatchNormalization", "Concatenate"):
        config["axis"] %= 4
    if type(layer).__name__ == "LayerNormalization":
        config["axis"] = np.atleast_1d(config["axis"]).tolist()
    if type(layer).__name__ == "Normalization":  # Keras writes them as float32
        for key in config.keys() & {"mean", "variance"}:
            config[key] = np.asarray(config[key], "float32").tolist()
    if type(layer).__name__ == "Sequential":
        config.pop("layers")  # compared one by one
    if np.prod(config.get("kernel_size", 0)) == 1:
        config.pop("padding")  # nothing is padded
    return config


def last_names(model):
    """Return the layer and the name of each weight, without the scopes that Keras has in NASNet.

    Weights without a name are numbered in Keras, and "variable" here.
    """
    return [
        [layer, re.sub(r"^variable_\d+$", "variable", name)]
        for layer, name in (weight.path.split("/")[-2:] for weight in model.weights)
    ]


def assert_same_layers(model, expected):
    assert [layer.name for layer in model.layers] == [layer.name for layer in expected.layers]
    for layer, theirs in zip(model.layers, expected.layers, strict=True):
        assert type(layer).__name__ == type(theirs).__name__, layer.name
        config, their_config = plain(layer), plain(theirs)
        shared = config.keys() & their_config.keys()
        assert {key: config[key] for key in shared} == {key: their_config[key] for key in shared}
        if type(layer).__name__ == "Sequential":
            assert_same_layers(layer, theirs)


def assert_same_structure(model, expected):
    assert_same_layers(model, expected)
    assert last_names(model) == last_names(expected)
    assert [tuple(w.shape) for w in model.weights] == [tuple(w.shape) for w in expected.weights]
    assert model.count_params() == expected.count_params()
    assert model.input_shape == expected.input_shape
    assert model.output_shape == expected.output_shape
    assert model.name == expected.name


@pytest.mark.parametrize("row", rows())
def test_structure(row):
    """On one backend: the graph does not depend on it."""
    with keraslite.use_backend(BACKENDS[0]):
        assert_same_structure(*build(row, classes=10))


# The larger networks of a family take the same arguments, and gigabytes.
@pytest.mark.parametrize("row", rows(lambda row: row.numbers))
@pytest.mark.slow
def test_structure_by_arguments(row):
    with keraslite.use_backend(BACKENDS[0]):
        if row.any_name:
            assert_same_structure(*build(row, input_shape=None, name="mine"))
        else:
            with pytest.raises(KeyError, match="mine"):
                getattr(keras.applications, row.name)(weights=None, name="mine")
            assert ours(row)(weights=None, name="mine").name == "mine"
        assert_same_structure(*build(row, include_top=False, input_shape=None))
        assert_same_structure(*build(row, include_top=False, pooling="avg", classes=3))
        pooled = ours(row)(include_top=False, weights=None, pooling="max")
        assert "GlobalMaxPooling2D" in {type(layer).__name__ for layer in pooled.layers}


@pytest.mark.parametrize("row", rows(lambda row: row.numbers))
def test_channels_first(row):
    with keraslite.use_backend(BACKENDS[0]):
        keras.config.set_image_data_format("channels_first")
        keraslite.config.set_image_data_format("channels_first")
        try:
            if row.channels_first:
                shape = (3, row.size, row.size)
                assert_same_structure(*build(row, classes=10, input_shape=shape))
                return
            with pytest.raises(ValueError, match="channels_first"):
                getattr(keras.applications, row.name)(weights=None)
            with pytest.raises(ValueError, match="must be 'channels_last'"):
                ours(row)(weights=None)
        finally:
            keras.config.set_image_data_format("channels_last")
            keraslite.config.set_image_data_format("channels_last")


def random_weights(row, model, rng):
    """Return weights of a model of Keras with which outputs are about as large as inputs."""
    weights = []
    for variable in model.weights:
        shape, kind = variable.shape, variable.path.rpartition("/")[2]
        if "variance" in kind or "gamma" in kind:
            weights.append(rng.uniform(0.5, 1.5, shape))
        elif "kernel" in kind:
            depthwise = any(name in variable.path for name in ("depthwise", "dwconv", "conv_dw"))
            deviation = np.prod(shape[:2] if depthwise else shape[:-1]) ** -0.5
            if "se_expand" in variable.path or "squeeze_excite_conv_1" in variable.path:
                deviation *= 0.1  # gates that jump between 0 and 1 amplify rounding
            elif "project_conv" in variable.path:
                deviation *= row.projection
            weights.append(rng.normal(0, 2**0.5 * deviation, shape))
        else:
            weights.append(rng.normal(0, 0.1, shape))
    return weights


def images(row, rng):
    """Return a dark and a bright image."""
    x = rng.normal([[[[-2.0]]], [[[2.0]]]], 1.0, (2, row.size, row.size, 3))
    return (x * 32 + 128 if row.pixels else x).astype("float32")


@pytest.mark.parametrize("row", rows(lambda row: row.numbers))
def test_outputs(row, backend):
    model, expected = build(row, classes=10, classifier_activation=None)
    rng = np.random.default_rng(0)
    weights = random_weights(row, expected, rng)
    model.set_weights(weights)
    expected.set_weights(weights)
    for layer in expected.layers:
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()  # Keras's Normalization keeps its old statistics until then
    x = images(row, rng)
    outputs = expected.predict(x, verbose=0)
    # The images make a difference that is a hundred times the tolerance and more.
    assert np.ptp(outputs, axis=0).max() > 2e-3 * np.abs(outputs).max()
    # Sums in another order: the rounding of a hundred layers one after the other.
    assert_close(model.predict(x, verbose=0), outputs, rtol=1e-5, share=2e-5)


@pytest.mark.parametrize("row", rows())
def test_arguments(row):
    parameters = inspect.signature(getattr(keras.applications, row.name)).parameters.values()
    expected = [(parameter.name, parameter.default) for parameter in parameters]
    function = ours(row)
    parameters = inspect.signature(function).parameters.values()
    assert [(parameter.name, parameter.default) for parameter in parameters] == expected
    assert function.__name__ == row.name and row.name in function.__doc__


@pytest.mark.parametrize("row", rows(lambda row: row.numbers))
def test_bad_arguments(row):
    least = row.size
    cases = [
        ({"weights": "imagenets"}, "weights must be None, 'imagenet' or the path"),
        ({"weights": "imagenet", "classes": 10}, "classes must be 1000"),
        ({"input_shape": (least - 1, least, 3)}, f"at least {least} x {least}"),
        ({"input_shape": (least, least)}, "three numbers"),
        (
            {"weights": "imagenet", "classifier_activation": "relu"},
            "classifier_activation must be None or 'softmax'",
        ),
    ]
    if not row.any_size:
        cases += [
            ({"input_shape": (None, None, 3)}, "no None"),
            ({"weights": "imagenet", "input_shape": (least, least, 3)}, "input_shape must be"),
            (
                {"weights": "imagenet", "include_top": False, "input_shape": (least, least, 1)},
                "must have 3 channels",
            ),
        ]
    for arguments, message in cases:
        arguments = {"weights": None, **arguments}
        with pytest.raises(ValueError, match=message):
            ours(row)(**arguments)
        if "classifier_activation" in arguments:
            continue  # Keras says so only when the graph is built
        with pytest.raises(ValueError, match="."):  # in words of its own
            getattr(keras.applications, row.name)(**arguments)


@pytest.mark.parametrize("row", rows(lambda row: row.numbers))
def test_input_tensor(row):
    """A graph that goes on from other layers is one model with them."""
    with keraslite.use_backend(BACKENDS[0]):
        image = layers.Input((row.size, row.size, 1))
        colours = layers.Conv2D(3, 1, name="colours")(image)
        model = ours(row)(
            weights=None, include_top=False, input_tensor=colours, pooling="avg",
            input_shape=(row.size, row.size, 3),
        )  # fmt: skip
        assert [layer.name for layer in model.layers[:2]] == [model.layers[0].name, "colours"]
        assert [tuple(x.shape) for x in model.inputs] == [(None, row.size, row.size, 1)]
        assert model.outputs[0].ndim == 2


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept")
def test_colours_for_the_weights_of_imagenet(tmp_path, monkeypatch):
    """EfficientNet divides them once more for Keras's weights alone."""
    row = next(row for row in ROWS if row.name == "EfficientNetB0")
    rng, path = np.random.default_rng(0), tmp_path / "published.h5"
    arguments = {"include_top": False, "pooling": "avg"}
    plain_model, published = build(row, **arguments)
    published.set_weights(random_weights(row, published, rng))
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, published)
    for place in ("keras.src.utils.file_utils.get_file", "keraslite.utils.get_file"):
        monkeypatch.setattr(place, lambda *names, **where: str(path))
    with keraslite.use_backend(BACKENDS[0]):
        model, expected = build(row, weights="imagenet", **arguments)
        assert_same_structure(model, expected)
        assert len(model.layers) == len(plain_model.layers) + 1
        x = images(row, rng)
        outputs = expected.predict(x, verbose=0)
        assert_close(model.predict(x, verbose=0), outputs, rtol=1e-5, share=2e-5)


@pytest.mark.parametrize(("channels", "include"), [(1, True), (3, False)])
def test_preprocessing_of_efficientnet_v2(channels, include):
    row = next(row for row in ROWS if row.name == "EfficientNetV2B0")
    with keraslite.use_backend(BACKENDS[0]):
        shape = (row.size, row.size, channels)
        arguments = {"input_shape": shape, "include_preprocessing": include}
        assert_same_structure(*build(row, **arguments))


def test_scaled_sums_are_rebuilt(backend):
    from hub.models.applications.inception_resnet_v2 import CustomScaleLayer

    layer = CustomScaleLayer(0.25, name="scale")
    again = keraslite.saving.deserialize_keras_object(
        keraslite.saving.serialize_keras_object(layer)
    )
    assert isinstance(again, CustomScaleLayer) and again.name == "scale"
    x, y = np.ones((2, 3), "float32"), np.full((2, 3), 4.0, "float32")
    assert_close(again([x, y]), np.full((2, 3), 2.0))


def test_scaled_channels_are_rebuilt(backend):
    from hub.models.applications.convnext import LayerScale

    layer = LayerScale(0.25, 3, name="scale")
    again = keraslite.saving.deserialize_keras_object(
        keraslite.saving.serialize_keras_object(layer)
    )
    assert isinstance(again, LayerScale) and again.name == "scale"
    assert_close(again(np.full((2, 3), 4.0, "float32")), np.ones((2, 3)))
    assert len(again.trainable_weights) == 1


def test_names_of_convnext_with_the_weights_of_imagenet():
    row = next(row for row in ROWS if row.name == "ConvNeXtTiny")
    with pytest.raises(ValueError, match="name must contain 'convnext_tiny'"):
        ours(row)(name="mine")


@pytest.mark.parametrize(("channels", "include"), [(1, True), (3, False)])
def test_preprocessing_of_convnext(channels, include):
    row = next(row for row in ROWS if row.name == "ConvNeXtTiny")
    with keraslite.use_backend(BACKENDS[0]):
        shape = (row.size, row.size, channels)
        assert_same_structure(*build(row, input_shape=shape, include_preprocessing=include))


MOBILE = {row.name: row for row in ROWS if row.name.startswith("MobileNet")}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("MobileNet", {"alpha": 0.3, "depth_multiplier": 2, "dropout": 0.5}),
        ("MobileNet", {"input_shape": (50, 71, 3), "include_top": False}),
        ("MobileNetV2", {"alpha": 0.35, "input_shape": (50, 71, 3)}),
        ("MobileNetV2", {"alpha": 1.3, "input_shape": None, "include_top": False}),
        *(
            (f"MobileNetV3{size}", arguments)
            for size in ("Small", "Large")
            for arguments in (
                {"minimalistic": True, "alpha": 0.5, "input_shape": (50, 71, 3)},
                {"alpha": 1.3, "dropout_rate": 0.0, "include_preprocessing": False},
                {"input_shape": None},
                {"minimalistic": True, "include_top": False, "pooling": "avg"},
            )
        ),
    ],
)
def test_variants_of_mobilenets(name, arguments):
    with keraslite.use_backend(BACKENDS[0]):
        assert_same_structure(*build(MOBILE[name], **arguments))


class Asked(Exception):
    """A file is asked for; its arguments are the name, the address and the hash."""


@pytest.mark.parametrize(
    ("name", "arguments", "warns"),
    [
        ("MobileNet", {"alpha": 0.25, "input_shape": (160, 160, 3)}, False),
        ("MobileNet", {"alpha": 0.5, "input_shape": None, "include_top": False}, True),
        ("MobileNetV2", {"alpha": 1.4, "input_shape": None}, False),
        ("MobileNetV2", {"alpha": 0.35, "input_shape": (96, 96, 3), "include_top": False}, False),
        ("MobileNetV2", {"alpha": 1, "input_shape": (50, 71, 3), "include_top": False}, True),
        ("MobileNetV3Small", {"alpha": 0.75, "input_shape": (224, 224, 3)}, False),
        ("MobileNetV3Large", {"minimalistic": True, "input_shape": (224, 224, 3)}, False),
    ],
)
def test_weights_of_mobilenets(name, arguments, warns, monkeypatch):
    """Their file depends on the width, and on the size of images."""

    def get_file(*names, origin=None, cache_subdir=None, file_hash=None):
        origin = origin or names[1]
        raise Asked(names[0] if names else origin.rpartition("/")[2], origin, file_hash)

    for place in ("keras.src.utils.file_utils.get_file", "keraslite.utils.get_file"):
        monkeypatch.setattr(place, get_file)
    asked = []
    for constructor in (ours(MOBILE[name]), getattr(keras.applications, name)):
        expected = pytest.warns(UserWarning, match="224") if warns else contextlib.nullcontext()
        with expected, pytest.raises(Asked) as error, keraslite.use_backend(BACKENDS[0]):
            constructor(**arguments)
        asked.append(error.value.args)
    assert asked[0] == asked[1]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("MobileNet", {"alpha": 0.3}, "alpha must be one of"),
        ("MobileNet", {"depth_multiplier": 2}, "depth_multiplier must be 1"),
        ("MobileNetV2", {"alpha": 0.25}, "alpha must be one of"),
        ("MobileNetV3Small", {"alpha": 0.5}, "alpha must be one of"),
        ("MobileNetV3Large", {"alpha": 0.75, "minimalistic": True}, "alpha must be one of"),
    ],
)
def test_widths_without_weights_of_mobilenets(name, arguments, message):
    arguments = {"input_shape": (224, 224, 3), **arguments}
    with pytest.raises(ValueError, match=message):
        ours(MOBILE[name])(**arguments)
    with pytest.raises(ValueError, match="imagenet weights are being loaded"):
        getattr(keras.applications, name)(**arguments)


@pytest.mark.parametrize("name", ["MobileNetV2", "MobileNetV3Small"])
def test_input_tensors_of_mobilenets(name):
    """Their size names the network, or is checked where a shape is given too."""
    row = MOBILE[name]
    with keraslite.use_backend(BACKENDS[0]):
        keras.utils.clear_session()
        keraslite.utils.clear_session()
        arguments = {"weights": None, "classes": 3}
        model = ours(row)(input_tensor=layers.Input((96, 96, 3), name="image"), **arguments)
        theirs = keras.layers.Input((96, 96, 3), name="image")
        expected = getattr(keras.applications, name)(input_tensor=theirs, **arguments)
        assert_same_layers(model, expected)
        assert model.name == expected.name
        tensor, their_tensor = layers.Input((32, 32, 3)), keras.layers.Input((32, 32, 3))
        bad = [({"input_shape": (48, 48, 3)}, tensor, their_tensor, "must be of images of the")]
        bad += [({"input_shape": (32, 32, 3)}, np.ones(3), np.ones(3), "must be a KerasTensor")]
        if name == "MobileNetV3Small":
            small = layers.Input((16, 16, 3)), keras.layers.Input((16, 16, 3))
            bad += [({}, *small, "at least 32 x 32")]
        for arguments, tensor, their_tensor, message in bad:
            with pytest.raises(ValueError, match=message):
                ours(row)(input_tensor=tensor, weights=None, **arguments)
            with pytest.raises(ValueError, match="."):
                getattr(keras.applications, name)(
                    input_tensor=their_tensor, weights=None, **arguments
                )
