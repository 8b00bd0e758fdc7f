"""`.h5` files that the installed Keras writes, loaded by order, by name and by path, or refused."""

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

import keraslite
from keraslite.saving import H5Tensors, load_legacy_weights

# The installed Keras on TensorFlow.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept")
SHAPE = (6, 6, 3)


def build(k, *, units=4, prefix="", frozen=False, extra=False):
    """The same model in either Keras: a block inside, layers without weights, a branch."""
    block = k.Sequential(
        [k.Input((6, 6, 5)), k.layers.DepthwiseConv2D(3, name="depthwise"),
         k.layers.BatchNormalization(name="inner_bn")], name=prefix + "block",
    )  # fmt: skip
    image = k.Input(SHAPE)
    x = k.layers.Conv2D(5, 1, name=prefix + "conv")(image)
    x = k.layers.BatchNormalization(name=prefix + "bn")(x)
    x = k.layers.Dropout(0.5, name="dropout")(x)
    x = block(k.layers.Activation("relu")(x))
    pooled = k.layers.GlobalAveragePooling2D()(x)
    x = k.layers.SeparableConv2D(5, 3, name=prefix + "separable")(x)
    x = k.layers.Add()([k.layers.GlobalMaxPooling2D()(x), pooled])
    if extra:
        x = k.layers.Dense(5, name="extra")(x)
    x = k.layers.Dense(units, name=prefix + "dense")(x)
    model = k.Model(image, x, name="model")
    block.trainable = not frozen
    return model


def randomize(model, seed=0):
    rng = np.random.default_rng(seed)
    model.set_weights([rng.uniform(0.1, 1, w.shape).astype("float32") for w in model.weights])
    return model


def save(model, path, group=None):
    with h5py.File(path, "w") as file:
        target = file if group is None else file.create_group(group)
        legacy_h5_format.save_weights_to_hdf5_group(target, model)


@pytest.fixture(scope="module")
def theirs():
    return randomize(build(keras))


@pytest.fixture
def path(theirs, tmp_path):
    save(theirs, tmp_path / "weights.h5")
    return tmp_path / "weights.h5"


def assert_equal(ours, theirs):
    for a, b in zip(ours.layers, theirs.layers, strict=True):
        for v, w in zip(a.get_weights(), b.get_weights(), strict=True):
            assert np.array_equal(v, w), a.name


def assert_unchanged(model, match, path, **arguments):
    before = [np.array(w) for w in model.get_weights()]
    with pytest.raises(ValueError, match=match) as error:
        load_legacy_weights(model, path, **arguments)
    assert "weights.h5" in str(error.value) and "\n" not in str(error.value)
    assert all(map(np.array_equal, before, model.get_weights()))


def test_layers_are_matched_in_order(backend, theirs, path):
    ours = build(keraslite, prefix="other_")
    load_legacy_weights(ours, path)
    assert_equal(ours, theirs)
    x = np.random.default_rng(1).normal(size=(2, *SHAPE)).astype("float32")
    expected = theirs.predict(x, verbose=0)
    np.testing.assert_allclose(ours.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6)


def test_a_model_that_has_been_used(backend, theirs, path):
    ours = randomize(build(keraslite), 3)
    ours.predict(np.ones((2, *SHAPE), "float32"), verbose=0)
    load_legacy_weights(ours, path)
    assert_equal(ours, theirs)


@pytest.mark.parametrize("frozen", [False, True])
def test_frozen_layers_have_the_order_of_keras(tmp_path, frozen):
    theirs = randomize(build(keras, frozen=frozen))
    save(theirs, tmp_path / "weights.h5")
    ours = build(keraslite, frozen=frozen)
    load_legacy_weights(ours, tmp_path / "weights.h5")
    assert_equal(ours, theirs)


def test_long_lists_are_split(theirs, tmp_path, monkeypatch):
    monkeypatch.setattr(legacy_h5_format, "HDF5_OBJECT_HEADER_LIMIT", 64)
    save(theirs, tmp_path / "weights.h5")
    with h5py.File(tmp_path / "weights.h5") as file:
        assert {"layer_names0", "layer_names1"} <= set(file.attrs)
    ours = build(keraslite)
    load_legacy_weights(ours, tmp_path / "weights.h5")
    assert_equal(ours, theirs)


def test_names_of_keras_2(theirs, path):
    """`conv/kernel:0` for weights, slashes in names of layers, names as bytes."""
    with h5py.File(path, "r+") as file:
        names = legacy_h5_format.load_attributes_from_hdf5_group(file, "layer_names")
        for name in names:
            file.move(name, f"part/{name}")
            group = file[f"part/{name}"]
            weights = legacy_h5_format.load_attributes_from_hdf5_group(group, "weight_names")
            for weight in weights:
                group.move(weight, f"{weight}:0")
            group.attrs["weight_names"] = np.array([f"{weight}:0" for weight in weights], "S")
        file.attrs["layer_names"] = np.array([f"part/{name}" for name in names], "S")
        del file["top_level_model_weights"]
    ours = build(keraslite)
    load_legacy_weights(ours, path)
    assert_equal(ours, theirs)


def test_a_file_of_a_whole_model(theirs, tmp_path):
    theirs.save(tmp_path / "weights.h5")
    ours = build(keraslite)
    load_legacy_weights(ours, tmp_path / "weights.h5")
    assert_equal(ours, theirs)


def test_layers_are_matched_by_name(theirs, path):
    ours = randomize(build(keraslite, extra=True, units=7), 3)
    ours.get_layer("dense").name = "new_dense"
    before = dict(zip((w.path for w in ours.weights), ours.get_weights(), strict=True))
    load_legacy_weights(ours, path, by_name=True)
    for layer in ours.layers:
        names = [x.name for x in theirs.layers]
        if layer.name in names:
            for v, w in zip(layer.get_weights(), theirs.get_layer(layer.name).get_weights()):
                assert np.array_equal(v, w)
        else:
            assert all(np.array_equal(w.numpy(), before[w.path]) for w in layer.weights)
    assert {"extra", "new_dense"} <= {x.name for x in ours.layers}


def test_weights_of_the_model_itself(tmp_path):
    def scaled(k):
        class Scaled(k.Model):
            def __init__(self):
                super().__init__()
                self.dense = k.layers.Dense(2)
                self.scale = self.add_weight(shape=(2,), initializer="ones", name="scale")

            def call(self, x):
                return self.dense(x) * self.scale

        model = Scaled()
        model(np.ones((1, 3), "float32"))
        return model

    theirs, ours = randomize(scaled(keras)), scaled(keraslite)
    save(theirs, tmp_path / "weights.h5")
    load_legacy_weights(ours, tmp_path / "weights.h5")
    assert np.array_equal(ours.scale.numpy(), keras.ops.convert_to_numpy(theirs.scale))
    assert_equal(ours, theirs)


# -- files by paths -------------------------------------------------------------------------------


def plain(k):
    inner = k.Sequential([k.Input((4,)), k.layers.Dense(4), k.layers.Dense(4)])
    x = image = k.Input(SHAPE)
    for _ in range(2):
        x = k.layers.Dropout(0.5)(k.layers.Conv2D(4, 3, padding="same")(x))
        x = k.layers.BatchNormalization()(x)
    x = inner(k.layers.GlobalAveragePooling2D()(x))
    return k.Model(image, k.layers.Dense(2)(x))


def test_files_by_paths(backend, tmp_path):
    theirs = randomize(plain(keras))
    theirs.compile("adam", "mse")
    theirs.save_weights(tmp_path / "a.weights.h5")
    ours = plain(keraslite)
    load_legacy_weights(ours, tmp_path / "a.weights.h5")
    assert_equal(ours, theirs)


def test_files_by_paths_that_do_not_fit(tmp_path):
    randomize(plain(keras)).save_weights(tmp_path / "a.weights.h5")
    ours = build(keraslite)
    match = r"lacks .*layers/depthwise_conv2d/vars/0.* no place for .*layers/conv2d_1/vars/0"
    assert_unchanged(ours, match, tmp_path / "a.weights.h5")
    assert_unchanged(ours, "has no attribute layer_names", tmp_path / "a.weights.h5", by_name=True)


# -- what does not fit ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            {"units": 5},
            r"dense/kernel has the shape \(5, 5\), dense/dense/kernel the shape \(5, 4\)",
        ),
        ({"extra": True}, "the model has 6 layers with weights, the file 5"),
    ],
)
def test_models_that_do_not_fit(path, changes, match):
    assert_unchanged(randomize(build(keraslite, **changes), 3), match, path)


def test_a_layer_with_other_weights(path):
    with h5py.File(path, "r+") as file:
        file["conv"].attrs["weight_names"] = file["conv"].attrs["weight_names"][:1]
    for by_name in (False, True):
        match = "layer 'conv' has 2 weights, conv in it 1"
        assert_unchanged(build(keraslite), match, path, by_name=by_name)


BAD = {
    "weight": (lambda f: f["conv"].pop("conv/bias"), "it lists conv/conv/bias, which it does not"),
    "group": (lambda f: f.pop("conv"), "the model has 5 layers with weights, the file 4"),
    "no list": (lambda f: f.attrs.pop("layer_names"), "it lacks layers/"),
    "numbers": (lambda f: f.attrs.create("layer_names", [1, 2]), "must be a list of names"),
    "one text": (lambda f: f.attrs.create("layer_names", "conv"), "must be a list of names"),
    "link": (
        lambda f: f.__setitem__("x", h5py.ExternalLink("/etc/passwd", "x")), "an external link"
    ),
    "odd name": (lambda f: f.create_group("a b"), "the name 'a b' is none that Keras gives"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_files(path, name):
    change, match = BAD[name]
    with h5py.File(path, "r+") as file:
        change(file)
    assert_unchanged(build(keraslite), match, path)


def test_a_damaged_array_leaves_the_model_as_it_was(path):
    with h5py.File(path, "r+") as file:
        del file["dense/dense/bias"]
        file["dense"].create_dataset(
            "dense/bias", data=np.ones(4, "float32"), chunks=(4,), compression="gzip",
            fletcher32=True,
        )  # fmt: skip
    with h5py.File(path) as file:
        at = file["dense/dense/bias"].id.get_chunk_info(0).byte_offset
    data = bytearray(path.read_bytes())
    data[at + 5] ^= 8
    path.write_bytes(bytes(data))
    assert_unchanged(build(keraslite), "cannot be read: it is damaged", path)


@pytest.mark.parametrize("part", [0, 100, 0.5])
def test_truncated_files(path, part):
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data)) if part < 1 else part])
    assert_unchanged(build(keraslite), "cannot be read: it is damaged, or no HDF5 file", path)


def test_colons_are_for_keras_2_alone(path):
    with h5py.File(path, "r+") as file:
        file.create_group("a:0")
    with pytest.raises(ValueError, match="the name 'a:0' is none that Keras gives"):
        H5Tensors([path])
    with H5Tensors([path], exact=True) as tensors:
        assert tensors.strings("nothing", "weight_names") is None
