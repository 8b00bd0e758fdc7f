"""Names of older Keras code: preprocessing, legacy configs and optimizers; against Keras."""

import json

import keras
import numpy as np
import pytest
from compare import assert_close

import keraslite
from keraslite import (
    initializers,
    layers,
    losses,
    models,
    optimizers,
    preprocessing,
    quantizers,
    regularizers,
    utils,
)

RNG = np.random.default_rng(0)


def test_preprocessing_has_the_functions_of_utils():
    assert preprocessing.image.load_img is utils.load_img
    assert preprocessing.sequence.pad_sequences is utils.pad_sequences
    assert preprocessing.text_dataset_from_directory is utils.text_dataset_from_directory


@pytest.mark.parametrize("shape", [(7, 12, 3), (2, 12, 7, 3), (3, 6, 9)])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_smart_resize_is_that_of_keras(shape, interpolation):
    x = RNG.uniform(0, 255, shape).astype("float32")
    size, data_format = (4, 6), "channels_first" if shape[0] == 3 else "channels_last"
    ours, theirs = (
        lib.preprocessing.image.smart_resize(x, size, interpolation, data_format)
        for lib in (keraslite, keras)
    )
    assert type(ours) is np.ndarray and ours.dtype == theirs.dtype
    assert_close(ours, theirs, atol=1e-3)


def test_smart_resize_of_tensors(backend):
    x = keraslite.ops.convert_to_tensor(RNG.integers(0, 256, (5, 8, 1), "uint8"))
    resized = utils.images.smart_resize(x, (2, 4))
    assert keraslite.backend.of(resized) == keraslite.backend.of(x)
    assert_close(resized, keraslite.ops.image.resize(x[:4], (2, 4)), atol=1)
    assert keraslite.backend.standardize_dtype(resized.dtype) == "uint8"
    with pytest.raises(TypeError, match="unexpected arguments: \\['antialias'\\]"):
        utils.images.smart_resize(x, (2, 4), antialias=True)
    with pytest.raises(ValueError, match="size must be"):
        utils.images.smart_resize(x, (2, 4, 1))


def test_smart_resize_of_pictures_of_unknown_sizes():
    tf = pytest.importorskip("tensorflow")
    pictures = [RNG.uniform(0, 255, shape).astype("float32") for shape in ((5, 9, 1), (8, 3, 1))]
    spec = tf.TensorSpec((None, None, 1))
    data = tf.data.Dataset.from_generator(lambda: iter(pictures), output_signature=spec)
    for x, resized in zip(pictures, data.map(lambda x: utils.images.smart_resize(x, (4, 6)))):
        assert_close(resized.numpy(), utils.images.smart_resize(x, (4, 6)), atol=1e-3)


OBJECTS = [
    lambda lib: lib.layers.Dense(3, activation="relu", kernel_regularizer=lib.regularizers.L2(0.5)),
    lambda lib: lib.layers.Flatten(name="relu"), lambda lib: lib.regularizers.L1L2(0.5, 0.1),
    lambda lib: lib.initializers.HeNormal(seed=3), lambda lib: lib.optimizers.SGD(0.5),
    lambda lib: lib.layers.MultiHeadAttention(2, 3, name="heads"),
]  # fmt: skip


@pytest.mark.parametrize("make", OBJECTS, ids=lambda make: type(make(keraslite)).__name__)
def test_legacy_configs_are_those_of_keras_and_are_read(make):
    ours, theirs = (
        json.loads(json.dumps(lib.utils.legacy.serialize_keras_object(make(lib))))
        for lib in (keraslite, keras)
    )
    assert _without_names(ours) == _without_names(theirs)
    known = {**vars(layers), **vars(initializers), **vars(optimizers), **vars(regularizers)}
    again, expected = utils.legacy.deserialize_keras_object(theirs, known), make(keraslite)
    assert type(again) is type(expected)
    assert _without_names(again.get_config()) == _without_names(expected.get_config())


def _without_names(config):
    """Leave out automatic names, and modules, which neither form is read by."""
    if not isinstance(config, dict):
        return config
    return {k: _without_names(v) for k, v in config.items() if k not in ("name", "module")}


class Scaled:
    def __init__(self, by, function=None, name="relu"):
        self.by, self.function, self.name = by, function, name

    def get_config(self):
        return {"by": self.by, "function": self.function, "name": self.name}


def halved(x):
    return x / 2


def test_legacy_configs_of_objects_of_ones_own():
    """Objects inside objects, functions by name, and a name that is that of a function."""
    read, write = utils.legacy.deserialize_keras_object, utils.legacy.serialize_keras_object
    nested = Scaled(Scaled(2, name="inner"), halved, name="halved")
    config = write(nested)
    assert config == keras.utils.legacy.serialize_keras_object(nested)
    own = {"Scaled": Scaled, "halved": halved}
    for again in (read(config, own), read(config, {}, own)):
        assert again.function is halved and again.name == "halved" and again.by.by == 2
    with utils.custom_object_scope(own):
        assert read(write(nested), {}).by.name == "inner"
    assert read(None) is None and write(None) is None and read(halved) is halved
    assert write(halved) == "halved" and read("halved", own) is halved
    assert isinstance(read("Flatten", vars(layers)), layers.Flatten)
    for identifier, message in (
        ("Other", "Unknown loss 'Other'"), ({"class_name": "Other"}, "must be a dict of"),
        ({"class_name": "Other", "config": {}}, "custom_objects"), (3, "must be a dict of"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            read(identifier, vars(losses), printable_module_name="loss")
    with pytest.raises(ValueError, match=r"no get_config\(\)"):
        write(3)


def test_layers_are_read_and_nothing_else():
    assert layers.deserialize(layers.serialize(layers.Dense(2, name="a"))).name == "a"
    with pytest.raises(ValueError, match="must be that of a layer"):
        layers.deserialize(losses.serialize(losses.Huber()))


@pytest.mark.parametrize("name", optimizers.legacy.__all__)
def test_legacy_optimizers_say_what_to_use(name):
    for lib in (keraslite, keras):
        with pytest.raises(ImportError, match="Keras 3"):
            getattr(lib.optimizers.legacy, name)(0.1)


def test_arguments_of_copies_and_quantizers():
    with keraslite.use_backend("numpy"):
        shared = layers.Dense(2, name="shared")
        first, second = (models.Sequential([layers.Input((2,)), shared]) for _ in range(2))
        cache = {}
        copies = [models.clone_model(model, cache=cache) for model in (first, second)]
    assert copies[0].layers[0] is copies[1].layers[0] is not shared
    with pytest.raises(TypeError, match="unexpected arguments"):
        models.clone_model(first, caches=cache)
    assert quantizers.get("AbsMaxQuantizer", axis=1).axis == (1,)
    assert quantizers.get(quantizers.AbsMaxQuantizer, axis=0).axis == (0,)
    with pytest.raises(ValueError, match="are for the name of a class"):
        quantizers.get("abs_max", axis=1)
