"""Layers that look texts up inside SavedModels, and ExportArchive, against TensorFlow and Keras."""

import numpy as np
import pytest
from backends import BACKENDS

import keraslite as keras
from keraslite import layers as L

if "tensorflow" not in BACKENDS:
    pytest.skip("tensorflow is not among the backends", allow_module_level=True)

import tensorflow as tf

TEXTS = ["The cat, sat!", "a DOG  sat", "", "Ünïcode cat", "the the mat."]
WORDS = ["cat", "oslo", "", "paris", "Ünïcode"]
NUMBERS = np.array([[3], [7], [-1], [900], [0]])


def text_layers():
    vectorize = {"standardize": "lower_and_strip_punctuation"}
    for options in (
        {}, {"output_sequence_length": 2}, {"split": "character", "standardize": "lower"},
        {"ngrams": 2, "output_mode": "multi_hot"}, {"output_mode": "tf_idf"},
        {"output_mode": "count", "max_tokens": 4, "pad_to_max_tokens": True},
        {"split": None, "standardize": None},
    ):  # fmt: skip
        layer = L.TextVectorization(**(vectorize | options))
        layer.adapt(TEXTS)
        yield layer


def word_layers():
    yield L.StringLookup(vocabulary=["paris", "oslo"])
    yield L.StringLookup(vocabulary=["paris", "oslo"], num_oov_indices=3, mask_token="")
    yield L.StringLookup(vocabulary=["paris", "oslo"], num_oov_indices=2, salt=[7, 9])
    yield L.StringLookup(vocabulary=["paris", "oslo"], output_mode="one_hot", mask_token="")
    yield L.Hashing(5)
    yield L.Hashing(5, mask_value="", salt=3)
    yield L.Hashing(4, output_mode="count")


def number_layers():
    yield L.IntegerLookup(vocabulary=[3, 900])
    yield L.IntegerLookup(vocabulary=[3, 900], num_oov_indices=3, mask_token=0)
    yield L.IntegerLookup(vocabulary=[3], num_oov_indices=4, oov_method="farmhash")
    yield L.Hashing(6)
    yield L.StringLookup(vocabulary=["paris", "oslo"], invert=True)
    yield L.CategoryEncoding(4, output_mode="one_hot")
    yield L.Discretization([0.0, 5.0, 100.0])


def test_layers_inside_a_saved_model(backend, tmp_path):
    text = keras.Input((1,), dtype="string", name="text")
    word = keras.Input((1,), dtype="string", name="word")
    number = keras.Input((1,), dtype="int64", name="number")
    outputs = {f"text{i}": layer(text) for i, layer in enumerate(text_layers())}
    outputs |= {f"word{i}": layer(word) for i, layer in enumerate(word_layers())}
    inside = keras.ops.clip(number, 0, 3)
    for i, layer in enumerate(number_layers()):
        outputs[f"number{i}"] = layer(inside if isinstance(layer, L.CategoryEncoding) else number)
    outputs["crossed"] = L.HashedCrossing(9)((word, number))
    model = keras.Model([text, word, number], outputs)
    model.export(tmp_path / "m", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    served = loaded.signatures["serving_default"]
    for rows in (slice(0, 5), slice(1, 3)):
        data = [np.array(x, object)[:, None][rows] for x in (TEXTS, WORDS)] + [NUMBERS[rows]]
        found = served(
            text=tf.constant(data[0]), word=tf.constant(data[1]), number=tf.constant(data[2])
        )
        for name, ours in model(data).items():
            value, array = found[name].numpy(), keras.ops.convert_to_numpy(ours)
            if value.dtype == object:
                value = np.vectorize(lambda x: x.decode())(value)
            if value.dtype.kind == "f":
                value, array = value.round(5), array.round(5)
            assert value.tolist() == array.tolist(), name


def test_layers_that_have_no_form_in_a_graph(tmp_path):
    with keras.use_backend("numpy"):
        text = keras.Input((1,), dtype="string", name="text")
        layer = L.TextVectorization(standardize=lambda x: x, name="own")
        layer.adapt(TEXTS)
        model = keras.Model(text, layer(text))
        with pytest.raises(NotImplementedError, match="'own'.*`standardize` is a function"):
            model.export(tmp_path / "m", verbose=False)
        model = keras.Model(text, L.StringLookup(vocabulary=["a"], name="places")(text))
        for format, name in (("onnx", "m"), ("litert", "m.tflite"), ("stablehlo", "m")):
            with pytest.raises(NotImplementedError, match="'places'.*export.*'tf_saved_model'"):
                model.export(tmp_path / name, format, verbose=False)
        strict = keras.Model(text, L.StringLookup(vocabulary=["a"], num_oov_indices=0)(text))
        strict.export(tmp_path / "strict", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "strict"))
    assert loaded.serve(tf.constant([["a"]])).numpy().tolist() == [[0]]
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be in the vocabulary"):
        loaded.serve(tf.constant([["b"]]))
    assert [path.name for path in tmp_path.iterdir()] == ["strict"]


# -- ExportArchive --------------------------------------------------------------------------------


def dropout_model():
    return keras.Sequential([keras.Input((3,)), L.Dense(4), L.Dropout(0.5), L.Dense(2)])


def test_endpoints_and_collections(backend, tmp_path, capsys):
    model, x = dropout_model(), np.ones((2, 3), "float32")
    archive = keras.export.ExportArchive()
    spec = [keras.InputSpec("float32", (None, 3))]
    archive.track_and_add_endpoint("serve", model, spec)
    archive.add_endpoint("sums", lambda a: tf.reduce_sum(a, 1), spec)
    archive.add_variable_collection("kernels", [model.weights[0], model.weights[2]])
    archive.write_out(tmp_path / "m")
    assert "* Endpoint 'sums'" in capsys.readouterr().out
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    assert set(loaded.signatures) == {"serve", "sums", "serving_default"}
    assert np.allclose(loaded.serve(x), model.predict(x, verbose=0), atol=1e-6)
    assert loaded.sums(x).numpy().tolist() == [3, 3]
    assert np.array_equal(loaded.kernels[1], model.weights[2].numpy())
    assert len(loaded.variables) == len(archive.variables) == 4
    assert len(archive.trainable_variables) == 4 and archive.non_trainable_variables == []


def test_what_tensorflow_brings(tmp_path):
    with keras.use_backend("tensorflow"):
        model = dropout_model()
    archive = keras.export.ExportArchive()
    model_fn = archive.track_and_add_endpoint("model", model, [tf.TensorSpec((None, 3))])
    keys, values = tf.constant(["a", "b"]), tf.constant([[1.0], [2.0]])[:, 0]
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), 0.0)
    archive.track(table)

    @tf.function
    def from_texts(x):
        return model_fn(table.lookup(x))

    with pytest.raises(ValueError, match="called at least once"):
        archive.add_endpoint("texts", from_texts)
    texts = tf.constant([["a", "b", "c"]])
    expected = from_texts(texts)
    archive.add_endpoint("texts", from_texts)
    archive.write_out(tmp_path / "m", verbose=False)
    assert np.allclose(tf.saved_model.load(str(tmp_path / "m")).texts(texts), expected)


def test_wrong_endpoints(tmp_path):
    with keras.use_backend("numpy"):
        model = dropout_model()
    archive, spec = keras.export.ExportArchive(), [keras.InputSpec("float32", (None, 3))]
    with pytest.raises(ValueError, match="No endpoints have been set yet"):
        archive.write_out(tmp_path / "m")
    with pytest.raises(ValueError, match="is not built"):
        archive.track(L.Dense(2))
    with pytest.raises(ValueError, match="trackable object of TensorFlow, got int"):
        archive.track(3)
    archive.add_endpoint("serve", model.call, spec)
    with pytest.raises(ValueError, match="'serve' is already taken"):
        archive.add_endpoint("serve", model.call, spec)
    with pytest.raises(ValueError, match="must be a list, a tuple or a set"):
        archive.add_variable_collection("v", model.weights[0])
    with pytest.raises(ValueError, match="must be variables"):
        archive.add_variable_collection("v", [1.0])
    with pytest.raises(TypeError, match="Unknown arguments: statics"):
        archive.add_endpoint("other", model.call, spec, statics=True)
    with pytest.raises(ValueError, match="the format 'saved_model' alone"):
        keras.export.ExportArchive("neptune_model")
    archive.add_endpoint("python", lambda x: tf.py_function(np.sin, [x], tf.float32), spec)
    with pytest.raises(NotImplementedError, match="'python' calls back into Python"):
        archive.write_out(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []
