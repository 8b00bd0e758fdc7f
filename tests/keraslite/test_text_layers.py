"""Layers of texts, categories and bins, against the installed Keras on TensorFlow."""

import pickle
from functools import cache

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import torch
from compare import assert_close, to_numpy

import keraslite
from keraslite import layers, ops
from keraslite.layers.preprocessing.texts import distinct_rows

TEXTS = [
    "The quick brown-fox, jumps!", "über den  Zaun\tund\nwieder", "the the THE fox", "", "  ",
    "日本語 の テキスト", "a.b,c d'e", "fox fox und", "É é",
]  # fmt: skip
WORDS = [["a", "b", "zz"], ["b", "", "a"], ["a", "é", "[UNK]"]]
IDS = np.array([[5, 7, 900], [7, 7, -3], [2**40, 5, 0]])
FLOATS = np.random.default_rng(0).normal(size=(300, 2)).astype("float32")
IDF = [0.5, 1.5, 2.5]

VOCABULARY = {"vocabulary": ["a", "b", "é"]}
INTS = {"vocabulary": [5, 7, 2**40]}
# (layer, arguments, data for `adapt`, inputs)
CASES = [
    ("StringLookup", VOCABULARY, None, WORDS),
    ("StringLookup", VOCABULARY | {"num_oov_indices": 3, "mask_token": ""}, None, WORDS),
    ("StringLookup", VOCABULARY | {"num_oov_indices": 3, "salt": (3, 4)}, None, WORDS),
    ("StringLookup", {"vocabulary": ["", "[UNK]", "b"], "mask_token": ""}, None, WORDS),
    ("StringLookup", VOCABULARY | {"output_mode": "one_hot"}, None, WORDS),
    ("StringLookup", VOCABULARY | {"output_mode": "one_hot"}, None, [["a"], ["q"]]),
    ("StringLookup", VOCABULARY | {"output_mode": "multi_hot", "mask_token": ""}, None, WORDS),
    ("StringLookup", VOCABULARY | {"output_mode": "count", "pad_to_max_tokens": True,
                                   "max_tokens": 7}, None, WORDS),
    ("StringLookup", VOCABULARY | {"output_mode": "tf_idf", "idf_weights": IDF}, None, WORDS),
    ("StringLookup", VOCABULARY | {"output_mode": "tf-idf", "idf_weights": IDF, "max_tokens": 6,
                                   "pad_to_max_tokens": True}, None, WORDS),
    ("StringLookup", VOCABULARY | {"output_mode": "binary"}, None, ["a", "b"]),
    ("StringLookup", {}, WORDS, WORDS),
    ("StringLookup", {"max_tokens": 3, "mask_token": "a"}, WORDS, ["a", "b", "c"]),
    ("StringLookup", {"output_mode": "tf_idf", "num_oov_indices": 2}, WORDS, WORDS),
    ("StringLookup", {"output_mode": "tf_idf"}, ["a", "b", "a"], [["a", "b"]]),
    ("StringLookup", VOCABULARY | {"invert": True, "mask_token": ""}, None, [[0, 1, 2], [3, 4, 9]]),
    ("IntegerLookup", INTS, None, IDS),
    ("IntegerLookup", INTS | {"num_oov_indices": 4, "mask_token": 0}, None, IDS),
    ("IntegerLookup", INTS | {"num_oov_indices": 4, "oov_method": "farmhash"}, None, IDS),
    ("IntegerLookup", INTS | {"num_oov_indices": 4, "oov_method": "farmhash", "salt": 9}, None,
     IDS),
    ("IntegerLookup", {"vocabulary": [5, 7, 900], "output_mode": "count"}, None, IDS),
    ("IntegerLookup", {"output_mode": "tf_idf", "mask_token": 7}, IDS, IDS),
    ("IntegerLookup", {"max_tokens": 4}, IDS, IDS),
    ("IntegerLookup", {"vocabulary": [5, 7], "invert": True}, None, [[0, 1, 2, 5, -1]]),
    ("TextVectorization", {}, TEXTS, TEXTS),
    ("TextVectorization", {"output_sequence_length": 3, "max_tokens": 9}, TEXTS, TEXTS),
    ("TextVectorization", {"ngrams": 2, "standardize": "lower"}, TEXTS, TEXTS),
    ("TextVectorization", {"ngrams": (1, 3), "output_mode": "count"}, TEXTS, TEXTS),
    ("TextVectorization", {"split": "character", "standardize": "strip_punctuation"}, TEXTS, TEXTS),
    ("TextVectorization", {"split": "character", "ngrams": 2, "output_mode": "multi_hot",
                           "max_tokens": 30}, TEXTS, TEXTS),
    ("TextVectorization", {"split": None, "standardize": None}, WORDS, WORDS),
    ("TextVectorization", {"split": None, "output_sequence_length": 2}, WORDS, WORDS),
    ("TextVectorization", {"split": None, "ngrams": 2}, WORDS, WORDS),
    ("TextVectorization", {"split": None, "output_mode": "tf_idf"}, WORDS, WORDS),
    ("TextVectorization", {"output_mode": "tf_idf"}, TEXTS, TEXTS),
    ("TextVectorization", {"output_mode": "tf_idf", "max_tokens": 40, "pad_to_max_tokens": True},
     TEXTS, TEXTS),
    ("TextVectorization", {"vocabulary": ["fox", "über"]}, None, [["fox über"], ["x\0y fox"]]),
    ("TextVectorization", {"vocabulary": ["fox"], "idf_weights": [2.0], "output_mode": "tf_idf"},
     None, TEXTS),
    ("Hashing", {"num_bins": 7}, None, WORDS),
    ("Hashing", {"num_bins": 7, "mask_value": "a", "salt": 3}, None, WORDS),
    ("Hashing", {"num_bins": 7, "salt": [1, -2]}, None, ["x" * n for n in range(70)]),
    ("Hashing", {"num_bins": 1000003}, None, ["é" * n for n in range(0, 150, 3)]),
    ("Hashing", {"num_bins": 7, "mask_value": 5, "output_mode": "multi_hot"}, None, IDS),
    ("Hashing", {"num_bins": 7, "output_mode": "count"}, None, FLOATS[:9] * 9),
    ("Hashing", {"num_bins": 5, "output_mode": "one_hot"}, None, [["a"], ["b"]]),
    ("HashedCrossing", {"num_bins": 11}, None, (["a", "b", "a"], np.array([3, -4, 2**40]))),
    ("HashedCrossing", {"num_bins": 5, "output_mode": "one_hot"}, None,
     ([["a"], ["b"]], [["c"], ["d"]], np.array([[1], [2]]))),
    ("Discretization", {"bin_boundaries": [-1.0, 0.0, 0.5]}, None, FLOATS[:9]),
    ("Discretization", {"bin_boundaries": [-1.0, 0.0], "output_mode": "one_hot"}, None, FLOATS[:3]),
    ("Discretization", {"bin_boundaries": [-1.0, 0.0], "output_mode": "count"}, None, FLOATS[:3]),
    ("Discretization", {"num_bins": 4}, FLOATS, FLOATS[:9]),
    ("Discretization", {"num_bins": 5, "epsilon": 0.1, "output_mode": "multi_hot"}, FLOATS,
     FLOATS[:9]),
    ("CategoryEncoding", {"num_tokens": 4}, None, [[0, 1], [3, 3]]),
    ("CategoryEncoding", {"num_tokens": 4, "output_mode": "count"}, None, [0, 1, 3, 3]),
    ("CategoryEncoding", {"num_tokens": 4, "output_mode": "one_hot"}, None, [[0], [3]]),
]  # fmt: skip


def as_tensors(x):
    """Inputs as Keras takes them."""
    if isinstance(x, tuple):
        return tuple(map(tf.constant, x))
    return tf.constant(x) if isinstance(x, list) else x


@cache
def of_keras(number):
    """Keras's layer of a case, and what it gives."""
    name, kwargs, data, inputs = CASES[number]
    layer = getattr(keras.layers, name)(**kwargs)
    if data is not None:
        layer.adapt(data)
    outputs = layer(as_tensors(inputs))
    return layer, np.asarray(outputs)


def as_text(x):
    return [[v.decode() if isinstance(v, bytes) else v for v in row] for row in x.tolist()]


def plain(x):
    """An output as numbers, or as nested lists of str."""
    x = x if isinstance(x, np.ndarray) else to_numpy(x)
    return as_text(x) if x.dtype == object else x


def assert_same(ours, theirs):
    if isinstance(theirs, list):
        assert ours == theirs
    else:
        assert ours.shape == theirs.shape and ours.dtype.kind == theirs.dtype.kind
        assert_close(ours, theirs, 1e-6, 1e-6)


IDENTIFIERS = [f"{i}-{case[0]}" for i, case in enumerate(CASES)]


@pytest.mark.parametrize("number", range(len(CASES)), ids=IDENTIFIERS)
def test_outputs_vocabularies_and_configs(number, backend):
    name, kwargs, data, inputs = CASES[number]
    theirs, expected = of_keras(number)
    ours = getattr(layers, name)(**kwargs)
    if data is not None:
        ours.adapt(data)
    assert_same(plain(ours(inputs)), plain(expected))
    if name in ("StringLookup", "IntegerLookup", "TextVectorization"):
        assert ours.get_vocabulary() == list(theirs.get_vocabulary())
        assert ours.get_vocabulary(False) == list(theirs.get_vocabulary(False))
        assert ours.vocabulary_size() == theirs.vocabulary_size()
    if name == "Discretization":
        assert_close(np.array(ours.bin_boundaries), np.array(theirs.bin_boundaries), 1e-6)
    config, theirs_config = ours.get_config(), theirs.get_config()
    assert set(theirs_config) - set(config) <= {"vocabulary_dtype"}
    for key in set(theirs_config) - {"name", "dtype", "bin_boundaries"}:
        assert config[key] == theirs_config[key], key
    # Both ways: each is made by the other's config, where that says all.
    if data is None or name == "Discretization":
        assert_same(plain(type(ours).from_config(theirs_config)(inputs)), plain(expected))
        drop = {"sparse"} if name == "CategoryEncoding" else set()
        config = {k: v for k, v in config.items() if k not in drop}
        if name == "Discretization":
            config["dtype"] = "float32"
        if "Hash" in name:
            config["dtype"] = ours.dtype
            config.pop("trainable")
        again = getattr(keras.layers, name).from_config(config)
        assert_same(plain(np.asarray(again(as_tensors(inputs)))), plain(expected))


# -- the data that layers adapt to ----------------------------------------------------------------


class Reviews(torch.utils.data.Dataset):
    """Texts with labels, of which a loader makes batches."""

    def __len__(self):
        return len(TEXTS)

    def __getitem__(self, index):
        return TEXTS[index], index % 2


class Sequence(keras.utils.PyDataset):
    """Batches of texts with labels."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return np.array(TEXTS[3 * index : 3 * index + 3], object), np.zeros(3)


FORMS = {
    "list": lambda: TEXTS,
    "column": lambda: np.array(TEXTS)[:, None],
    "bytes": lambda: [text.encode() for text in TEXTS],
    "objects": lambda: np.array(TEXTS, object),
    "tensor": lambda: tf.constant(TEXTS),
    "pandas": lambda: pd.DataFrame({"text": TEXTS})["text"],
    "samples": lambda: tf.data.Dataset.from_tensor_slices(TEXTS),
    "tf.data": lambda: tf.data.Dataset.from_tensor_slices((TEXTS, range(9))).batch(4),
    "DataLoader": lambda: torch.utils.data.DataLoader(Reviews(), batch_size=4),
    "PyDataset": Sequence,
    "generator": lambda: (TEXTS[i : i + 2] for i in range(0, 9, 2)),
}


@pytest.mark.parametrize("form", FORMS)
def test_text_vectorization_adapts_to(form):
    theirs = keras.layers.TextVectorization(output_mode="tf_idf")
    theirs.adapt(TEXTS)
    with keraslite.use_backend("numpy"):
        ours = layers.TextVectorization(output_mode="tf_idf")
        ours.adapt(FORMS[form]())
        assert ours.get_vocabulary() == theirs.get_vocabulary()
        assert_close(ours(FORMS["tensor"]()), np.asarray(theirs(TEXTS)), 1e-6, 1e-6)
        ours = layers.TextVectorization()
        ours.adapt(FORMS[form](), steps=None)
        ours.adapt(iter([["new words"], ["never seen"]]), steps=1)  # what was learned is forgotten
        assert ours.get_vocabulary(include_special_tokens=False) == ["words", "new"]


@pytest.mark.parametrize(
    ("name", "kwargs", "batches"),
    [
        ("StringLookup", {"output_mode": "tf_idf"}, [["a", "b"], ["a", "c", "a"]]),
        ("StringLookup", {}, [np.array([["a", "b"], ["c", "a"]])]),
        ("IntegerLookup", {"output_mode": "tf_idf"}, [IDS, np.array([5, 5, 8])]),
        ("Discretization", {"num_bins": 3}, [FLOATS[:7], FLOATS[7:100], FLOATS[100:]]),
    ],
)
def test_state_by_batches(name, kwargs, batches):
    """Batches of one axis are one document, as in Keras."""
    theirs, ours = getattr(keras.layers, name)(**kwargs), getattr(layers, name)(**kwargs)
    theirs.adapt(iter(batches))
    for batch in batches:
        ours.update_state(batch)
    ours.finalize_state()
    if name == "Discretization":
        assert_close(np.array(ours.bin_boundaries), np.array(theirs.bin_boundaries), 1e-6)
        return
    assert ours.get_vocabulary() == list(theirs.get_vocabulary())
    if "output_mode" in kwargs:
        terms = np.array([theirs.get_vocabulary(False)])
        assert_close(to_numpy(ours(terms)), np.asarray(theirs(tf.constant(terms))), 1e-6)


# -- inside pipelines and models ------------------------------------------------------------------

MAPPED = [
    ("TextVectorization", {"vocabulary": ["fox", "the"], "output_sequence_length": 4}, TEXTS),
    ("TextVectorization", {"vocabulary": ["fox", "the"], "output_mode": "count"}, TEXTS),
    ("StringLookup", VOCABULARY | {"output_mode": "multi_hot"}, WORDS),
    ("StringLookup", VOCABULARY | {"invert": True}, [[1, 2], [3, 0]]),
    ("IntegerLookup", {"vocabulary": [5, 7], "num_oov_indices": 2}, IDS),
    ("Hashing", {"num_bins": 9, "output_mode": "one_hot"}, WORDS),
    ("Discretization", {"bin_boundaries": [0.0, 0.5], "output_mode": "count"}, FLOATS[:6]),
    ("CategoryEncoding", {"num_tokens": 4, "output_mode": "count"}, np.array([[0, 1], [3, 3]])),
]


@pytest.mark.parametrize(("name", "kwargs", "inputs"), MAPPED, ids=range(len(MAPPED)))
def test_in_tf_data(name, kwargs, inputs):
    """A layer of torch maps a data set of TensorFlow, whose batches have no known size."""
    with keraslite.use_backend("torch"):
        layer = getattr(layers, name)(**kwargs)
        expected = plain(layer(inputs))
    mapped = list(tf.data.Dataset.from_tensor_slices(inputs).batch(2).map(layer))
    assert_same(plain(np.concatenate([x.numpy() for x in mapped])), expected)


def test_hashed_crossing_in_tf_data_and_a_model(backend):
    layer = layers.HashedCrossing(7)
    pair = np.array(["a", "b", "c"]), np.array([1, 2, 3])
    expected = to_numpy(layer(pair))
    mapped = tf.data.Dataset.from_tensor_slices(pair).batch(2).map(lambda a, b: layer((a, b)))
    assert_close(np.concatenate([x.numpy() for x in mapped]), expected, 0)
    inputs = [keraslite.Input((), dtype="string", name="a"), keraslite.Input((), dtype="int32")]
    model = keraslite.Model(inputs, layers.CategoryEncoding(7, "one_hot")(layer(inputs)))
    got = model.predict(list(pair), verbose=0)
    assert_close(got, np.eye(7)[expected], 0)


def test_texts_train_a_model(trains, tmp_path):
    """Lists, arrays and data sets of texts go into fit, evaluate and predict, and into files."""
    texts, y = ["good film", "bad film", "so good", "so bad"] * 4, np.float32([1, 0, 1, 0] * 4)
    keraslite.utils.set_random_seed(0)
    vectorize = layers.TextVectorization(output_sequence_length=3)
    vectorize.adapt(texts)
    model = keraslite.Sequential([
        vectorize, layers.Embedding(vectorize.vocabulary_size(), 8, mask_zero=True),
        layers.GlobalAveragePooling1D(), layers.Dense(1, activation="sigmoid"),
    ])  # fmt: skip
    model.compile(keraslite.optimizers.Adam(0.1), "binary_crossentropy", metrics=["accuracy"])
    loss = model.fit(texts, y, epochs=8, verbose=0).history["loss"]
    assert loss[-1] < 0.5 * loss[0]
    assert model.input_shape == (None,) and model.inputs[0].dtype == "string"
    data_set = tf.data.Dataset.from_tensor_slices((texts, y)).batch(16)
    for data in ((np.array(texts), y), (data_set,)):
        assert model.evaluate(*data, batch_size=16 if len(data) > 1 else None, verbose=0)[1] == 1.0
    expected = model.predict(texts[:3], verbose=0)
    assert_close(to_numpy(model(texts[:3])), expected, 1e-5, 1e-6)
    model.save(tmp_path / "model.keras")
    loaded = keraslite.saving.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].get_vocabulary() == vectorize.get_vocabulary()
    assert_close(loaded.predict(np.array(texts[:3])[:, None], verbose=0), expected, 1e-5)
    assert_close(pickle.loads(pickle.dumps(model)).predict(texts[:3], verbose=0), expected, 1e-5)
    loaded.to_backend("numpy")
    assert_close(loaded.predict(texts[:3], verbose=0), expected, 1e-5, 1e-6)


def reads_texts(how):
    """A model of texts, another one around it, and one around that; each with what trains."""
    lookup = layers.StringLookup(vocabulary=["good", "bad"])
    text = keraslite.Input((2,), dtype="string")
    inner = keraslite.Model(text, layers.Embedding(3, 2, name="table")(lookup(text)), name="inner")
    if how == "sequence":
        return keraslite.Sequential(
            [keraslite.Input((2,), dtype="string"), inner, layers.Flatten(), layers.Dense(1)]
        )
    text, number = keraslite.Input((2,), dtype="string", name="t"), keraslite.Input((4,), name="n")
    x = layers.Add()([layers.Flatten()(inner(text)), number])
    middle = keraslite.Model([text, number], layers.Dense(1)(x), name="middle")
    if how == "graph":
        return middle
    text, number = keraslite.Input((2,), dtype="string", name="t"), keraslite.Input((4,), name="n")
    return keraslite.Model({"t": text, "n": number}, middle([text, number]) * 2.0)


@pytest.mark.parametrize("how", ["sequence", "graph", "nested"])
def test_models_of_texts_are_parts_of_models(trains, how, tmp_path):
    texts = np.array([["good", "bad"], ["bad", "bad"], ["none", "good"], ["good", "good"]], object)
    ids = np.array([[1, 2], [2, 2], [0, 1], [1, 1]])
    numbers = np.arange(16, dtype="float32").reshape(4, 4) / 16
    x = {"sequence": texts, "graph": [texts, numbers], "nested": {"t": texts, "n": numbers}}[how]
    model = reads_texts(how)
    table, kernel, bias = model.get_weights()

    def by_hand(table, kernel, bias):
        rows = table[ids].reshape(4, 4) + (0 if how == "sequence" else numbers)
        return (rows @ kernel + bias) * (2 if how == "nested" else 1)

    assert_close(model.predict(x, verbose=0), by_hand(table, kernel, bias), 1e-5)
    model.compile("sgd", "mse")
    losses = model.fit(x, np.ones((4, 1)), epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    expected = by_hand(*model.get_weights())
    assert_close(to_numpy(model(x)), expected, 1e-5)
    model.save(tmp_path / "model.keras")
    for other in (keraslite.saving.load_model(tmp_path / "model.keras"),
                  pickle.loads(pickle.dumps(model))):  # fmt: skip
        assert_close(other.predict(x, verbose=0), expected, 1e-5)
    assert [layer.name for layer in model.layers if isinstance(layer, keraslite.Model)] == [
        "middle" if how == "nested" else "inner"
    ]


def test_features_of_several_types_train_a_model(trains):
    """The inputs of a functional model by name: texts, integers and numbers."""
    inputs = {
        "city": keraslite.Input((1,), dtype="string"), "user": keraslite.Input((1,), dtype="int64"),
        "age": keraslite.Input((1,)),
    }  # fmt: skip
    city = layers.StringLookup(vocabulary=["Bonn", "Rome"], output_mode="one_hot")(inputs["city"])
    user = layers.Embedding(4, 2)(layers.Hashing(4)(inputs["user"]))
    age = layers.Discretization([30.0, 60.0], output_mode="one_hot")(inputs["age"])
    assert city.shape == (None, 3) and user.shape == (None, 1, 2) and age.shape == (None, 3)
    x = layers.Concatenate()([ops.cast(city, "float32"), layers.Flatten()(user), age])
    model = keraslite.Model(inputs, layers.Dense(1)(x))
    model.compile("sgd", "mse")
    data = {"city": ["Bonn", "Oslo", "Rome"], "user": np.array([1, 2, 3]),
            "age": np.float32([20, 40, 70])}  # fmt: skip
    history = model.fit(data, np.ones((3, 1)), epochs=3, verbose=0).history["loss"]
    assert history[-1] < history[0]
    again = keraslite.Model.from_config(model.get_config())
    again.set_weights(model.get_weights())
    assert_close(again.predict(data, verbose=0), model.predict(data, verbose=0), 1e-5)


def test_inside_a_compiled_function():
    with keraslite.use_backend("jax"):
        layer = layers.IntegerLookup(vocabulary=[5])
        with pytest.raises(TypeError, match="computes on the host"):
            keraslite.jit(layer)(ops.convert_to_tensor([5]))


# -- forms of texts, sparse and ragged tensors ----------------------------------------------------


def test_texts_in_other_encodings_and_forms(backend):
    lookup = layers.StringLookup(vocabulary=["é", "b"], encoding="latin-1")
    assert to_numpy(lookup([["é".encode("latin-1"), b"b"]])).tolist() == [[1, 2]]
    assert to_numpy(lookup("b")).tolist() == 2
    lookup = layers.StringLookup(vocabulary=["é", "b"])
    for x in ("é", "é".encode(), np.array("é"), tf.constant("é")):
        assert to_numpy(lookup(x)).shape == () and int(to_numpy(lookup(x))) == 1
    utf_16 = layers.TextVectorization(vocabulary=["é"], encoding="utf-16")
    assert to_numpy(utf_16(["É é".encode("utf-16")])).tolist() == [[1, 2]]
    assert to_numpy(layers.TextVectorization(vocabulary=["a"])("b a")).tolist() == [1, 2]


@keraslite.saving.register_keras_serializable("text")
def reverse(x):
    """Texts from right to left."""
    return np.array([text[::-1] for text in x.ravel()], object).reshape(x.shape)


@keraslite.saving.register_keras_serializable("text")
def at_commas(x):
    """The parts of texts."""
    return [text.split(",") for text in x]


def test_functions_that_standardize_and_split(backend):
    layer = layers.TextVectorization(standardize=reverse, split=at_commas)
    layer.adapt(["ab,c", "c"])
    assert layer.get_vocabulary() == ["", "[UNK]", "c", "ba"]
    assert to_numpy(layer(["c,ab,x"])).tolist() == [[1, 3, 2]]
    again = layers.TextVectorization.from_config(layer.get_config())
    assert again.standardize is reverse and again.split is at_commas
    ragged = layers.TextVectorization(split=tf.strings.split, standardize=tf.strings.upper)
    ragged.adapt(["a b", "b"])
    assert to_numpy(ragged(["b a"])).tolist() == [[2, 3]]


@pytest.mark.parametrize("mode", ["one_hot", "multi_hot", "count", "tf_idf"])
def test_sparse_outputs(mode, trains):
    kwargs = {"idf_weights": IDF} if mode == "tf_idf" else {}
    words = [["a"], ["zz"], ["é"]] if mode == "one_hot" else WORDS
    dense, sparse = (
        layers.StringLookup(**VOCABULARY, **kwargs, output_mode=mode, sparse=s)
        for s in (False, True)
    )
    outputs = sparse(words)
    assert keraslite.backend.load(trains).is_sparse(outputs)
    assert_close(ops.convert_to_numpy(outputs), to_numpy(dense(words)), 1e-6)


def test_ragged_and_sparse_tensors_of_tensorflow():
    with keraslite.use_backend("tensorflow"):
        kwargs = {"vocabulary": ["fox", "the"], "ragged": True}
        ours, theirs = layers.TextVectorization(**kwargs), keras.layers.TextVectorization(**kwargs)
        assert ours(TEXTS).to_list() == theirs(TEXTS).to_list()
        mapped = tf.data.Dataset.from_tensors(TEXTS).map(ours)
        assert next(iter(mapped)).to_list() == theirs(TEXTS).to_list()
        rows = tf.ragged.constant([["a", "b"], [], ["q"]])
        lookup = layers.StringLookup(**VOCABULARY)
        assert lookup(rows).to_list() == [[1, 2], [], [0]]
        assert tf.sparse.to_dense(lookup(rows.to_sparse()))[0].numpy().tolist() == [1, 2]
        counts = layers.StringLookup(**VOCABULARY, output_mode="count")(rows)
        assert counts.numpy().tolist() == [[0, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0]]
        sparse = tf.SparseTensor([[0, 0], [0, 3], [1, 1]], ["a", "b", "zz"], [2, 4])
        for mode in ("count", "multi_hot", "tf_idf"):
            kwargs = {"vocabulary": ["a", "b"], "output_mode": mode}
            kwargs |= {"idf_weights": [1.0, 2.0]} if mode == "tf_idf" else {}
            ours, theirs = layers.StringLookup(**kwargs), keras.layers.StringLookup(**kwargs)
            assert_close(ours(sparse), theirs(sparse).numpy(), 1e-6)
            mapped = tf.data.Dataset.from_tensors(sparse).map(ours)
            assert_close(next(iter(mapped)), theirs(sparse).numpy(), 1e-6)
        adapted = layers.StringLookup()
        adapted.adapt(rows)
        assert adapted.get_vocabulary() == ["[UNK]", "q", "b", "a"]
        assert layers.Hashing(5)(rows).to_list() == keras.layers.Hashing(5)(rows).to_list()


# -- vocabularies in files ------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["int", "multi_hot"])
def test_assets_both_ways(mode, tmp_path):
    theirs = keras.layers.TextVectorization(output_mode=mode)
    ours = layers.TextVectorization(output_mode=mode)
    theirs.adapt(TEXTS)
    theirs.save_assets(tmp_path)
    ours.load_assets(tmp_path)
    assert ours.get_vocabulary() == theirs.get_vocabulary()
    ours.save_assets(tmp_path)
    again = keras.layers.TextVectorization(output_mode=mode)
    again.load_assets(tmp_path)
    assert again.get_vocabulary() == theirs.get_vocabulary()


def test_vocabulary_files(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("a\nb\né\n", encoding="utf-8")
    layer = layers.StringLookup(vocabulary=str(path))
    assert layer.get_vocabulary() == ["[UNK]", "a", "b", "é"]
    assert layer.get_config()["vocabulary"] is None
    with pytest.raises(ValueError, match="is not read"):
        layers.StringLookup.from_config({"vocabulary": str(path)})
    with pytest.raises(ValueError, match="does not exist"):
        layers.StringLookup(vocabulary="nowhere.txt")
    path.write_text("3\n4", encoding="utf-8")
    assert layers.IntegerLookup(vocabulary=path).get_vocabulary() == [-1, 3, 4]


def test_weights_of_a_saved_vocabulary(tmp_path):
    model = keraslite.Sequential([keraslite.Input((), dtype="string"),
                                  layers.TextVectorization(output_mode="tf_idf")])  # fmt: skip
    model.layers[0].adapt(TEXTS)
    expected = model.predict(TEXTS, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keraslite.saving.load_model(tmp_path / "model.keras")
    assert_close(loaded.predict(TEXTS, verbose=0), expected, 1e-6)
    with pytest.raises(RuntimeError, match="cannot have 4 now"):
        loaded.layers[0].adapt(["a b c"])


ERRORS = [
    (lambda: layers.StringLookup(max_tokens=1), ValueError, "greater than 1"),
    (lambda: layers.StringLookup(pad_to_max_tokens=True), ValueError, "must be set"),
    (lambda: layers.StringLookup(num_oov_indices=-1), ValueError, "at least 0"),
    (lambda: layers.StringLookup(output_mode="two"), ValueError, "must be one of int, one_hot"),
    (lambda: layers.StringLookup(sparse=True), ValueError, "not 'int'"),
    (lambda: layers.StringLookup(invert=True, output_mode="count"), ValueError, "`invert` is true"),
    (lambda: layers.StringLookup(idf_weights=[1]), ValueError, "needs output_mode"),
    (lambda: layers.StringLookup(salt="x"), ValueError, "must be an integer or a pair"),
    (lambda: layers.IntegerLookup(salt=1), ValueError, "oov_method='farmhash'"),
    (lambda: layers.IntegerLookup(oov_method="x"), ValueError, "'floormod' or 'farmhash'"),
    (lambda: layers.IntegerLookup(vocabulary_dtype="int32"), ValueError, "must be 'int64'"),
    (lambda: layers.StringLookup(vocabulary=["a", "a"]), ValueError, r"repeated term: \['a'\]"),
    (lambda: layers.StringLookup(vocabulary=["a", "m"], mask_token="m"), ValueError, "at place 1"),
    (lambda: layers.StringLookup(vocabulary=["a", "b"], max_tokens=2), ValueError, "more than"),
    (lambda: layers.StringLookup(vocabulary=[]), ValueError, "is empty"),
    (lambda: layers.StringLookup(vocabulary=["a"]).adapt(["b"]), ValueError, "cannot adapt"),
    (lambda: layers.StringLookup(output_mode="count")(["a"]), RuntimeError, "no vocabulary yet"),
    (lambda: layers.StringLookup(vocabulary=["a"], num_oov_indices=0)(["b"]), ValueError,
     r"got \['b'\]"),
    (lambda: layers.StringLookup()(["a", None]), TypeError, "got NoneType"),
    (lambda: layers.StringLookup()([["a"], ["b", "c"]]), ValueError, "the same length"),
    (lambda: layers.IntegerLookup()(["a"]), TypeError, "takes integers"),
    (lambda: layers.StringLookup().adapt(3), TypeError, "got int"),
    (lambda: layers.TextVectorization(standardize="x"), ValueError, "`standardize` must be one of"),
    (lambda: layers.TextVectorization(split="x"), ValueError, "`split` must be one of"),
    (lambda: layers.TextVectorization(ngrams=[1]), ValueError, "`ngrams` must be"),
    (lambda: layers.TextVectorization(output_sequence_length=1.5), ValueError, "an int or None"),
    (lambda: layers.TextVectorization(ragged=True), ValueError, "needs the TensorFlow backend"),
    (lambda: layers.TextVectorization()([["a", "b"]]), ValueError, "split=None"),
    (lambda: layers.Hashing(0), ValueError, "must be positive"),
    (lambda: layers.Hashing(2, dtype="float32"), ValueError, "'int32' or 'int64'"),
    (lambda: layers.HashedCrossing(2)(["a"]), ValueError, "at least two inputs"),
    (lambda: layers.HashedCrossing(2)((["a"], ["a", "b"])), ValueError, "one shape"),
    (lambda: layers.HashedCrossing(2)((["a"], [0.5])), ValueError, "integers and texts"),
    (lambda: layers.Discretization(), ValueError, "must be set"),
    (lambda: layers.Discretization([1.0]).adapt(FLOATS), ValueError, "cannot adapt"),
    (lambda: layers.Discretization(num_bins=2)(FLOATS), ValueError, "no boundaries yet"),
    (lambda: layers.Discretization(num_bins=2).adapt([]), ValueError, "at least one number"),
    (lambda: layers.CategoryEncoding(), ValueError, "at least 1"),
    (lambda: layers.CategoryEncoding(2)([1], count_weights=[1]), ValueError, "needs output_mode"),
]  # fmt: skip


@pytest.mark.parametrize(("act", "error", "message"), ERRORS, ids=range(len(ERRORS)))
def test_refuses(act, error, message):
    with keraslite.use_backend("numpy"), pytest.raises(error, match=message):
        act()


def test_tokens_of_any_length_and_bytes():
    """Texts of random characters, some of them white space, and of tokens of many lengths."""
    rng = np.random.default_rng(0)
    alphabet = np.array(list("aB.é日\u00a0\u3000\x1f \t-'😀"))
    texts = ["".join(rng.choice(alphabet, n)) for n in rng.integers(0, 40, 60)]
    texts += ["x" * n + " " + "X" * (n + 1) for n in range(70)] + ["a" * 32 + "b", "a" * 33]
    theirs, ours = keras.layers.TextVectorization(), layers.TextVectorization()
    theirs.adapt(texts)
    with keraslite.use_backend("numpy"):
        ours.adapt(texts)
        assert ours.get_vocabulary() == theirs.get_vocabulary()
        assert_close(ours(texts), np.asarray(theirs(tf.constant(texts))), 0)


def test_rows_whose_hashes_are_alike():
    first = np.arange(500, dtype="uint64")
    golden = np.uint64(0x9E3779B97F4A7C15)  # of distinct_rows: these hashes are all 7
    second = np.uint64(7) - (first ^ (first >> np.uint64(29))) * golden
    columns = [np.tile(column, 2) for column in (first, second)]
    places, codes = distinct_rows(columns)
    assert len(places) == 500
    assert (columns[0][places][codes] == columns[0]).all()


def test_counts_with_weights(backend):
    theirs = keras.layers.CategoryEncoding(4, output_mode="count")
    ours = layers.CategoryEncoding(4, output_mode="count")
    x, weights = np.array([[0, 1], [3, 3]]), np.float32([[0.5, 0.25], [1, 2]])
    assert_close(to_numpy(ours(x, count_weights=weights)),
                 np.asarray(theirs(x, count_weights=weights)), 1e-6)  # fmt: skip
