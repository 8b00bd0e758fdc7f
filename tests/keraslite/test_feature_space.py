"""keras.utils.FeatureSpace: tables as vectors, against Keras's on TensorFlow."""

import json

import keras
import numpy as np
import pandas as pd
import pytest
from compare import assert_close

import keraslite
from keraslite import layers, models, ops, utils

RNG = np.random.default_rng(0)
ROWS = 70
TABLE = {
    "age": RNG.normal(40, 10, ROWS), "city": RNG.choice(["Rome", "Oslo", "Łódź", "Bern"], ROWS),
    "code": RNG.integers(0, 9, ROWS), "income": RNG.uniform(0, 9, ROWS),
    "size": RNG.uniform(0, 1, ROWS), "street": RNG.choice(["a", "b", "c"], ROWS),
    "zone": RNG.integers(0, 99, ROWS),
}  # fmt: skip
FEATURES = {
    "age": "float_normalized", "city": "string_categorical", "code": "integer_categorical",
    "income": "float_discretized", "size": "float", "street": "string_hashed",
    "zone": "integer_hashed",
}  # fmt: skip


def space(lib, **arguments):
    arguments = {"crosses": [("city", "code")], "crossing_dim": 5, "hashing_dim": 4, "num_discretization_bins": 3} | arguments  # fmt: skip
    return lib.utils.FeatureSpace(arguments.pop("features", FEATURES), **arguments)


def integers(lib):
    make = lib.utils.FeatureSpace
    return make(
        {
            "age": make.float_discretized(4, output_mode="int"), "size": make.float_rescaled(2, 1),
            "city": make.string_categorical(max_tokens=3, output_mode="int"),
            "code": make.integer_categorical(num_oov_indices=2, output_mode="int"),
            "street": make.string_hashed(3, output_mode="int"),
            "zone": make.integer_hashed(3, output_mode="int"),
        },
        output_mode="dict",
        crosses=[make.cross(("street", "zone"), 7, output_mode="int")],
    )  # fmt: skip


def _part(theirs):
    """The columns of the table that Keras's takes, which must not be more."""
    return {name: TABLE[name] for name in theirs.features}


@pytest.fixture(scope="module")
def expected():
    """The outputs of Keras's for the table, as one vector and as a dict, and its config."""
    pytest.importorskip("tensorflow")
    vector, numbers = space(keras), integers(keras)
    for theirs in (vector, numbers):
        theirs.adapt(_part(theirs))
    as_dict = {name: np.asarray(x) for name, x in numbers(_part(numbers)).items()}
    return np.asarray(vector(TABLE)), as_dict, json.loads(json.dumps(vector.get_config()))


def test_features_are_those_of_keras(expected, backend):
    ours, numbers = space(keraslite), integers(keraslite)
    assert numbers.get_inputs().keys() == numbers.features.keys()
    for made in (ours, numbers):
        made.adapt(TABLE)
    vectors = ours(TABLE)
    assert keraslite.backend.of(vectors) == (None if backend == "numpy" else backend)
    assert_close(vectors, expected[0], rtol=1e-4, atol=1e-5)
    encoded = numbers(TABLE)
    assert list(encoded) == list(expected[1])
    assert_close(encoded, expected[1])
    lists = {name: column.tolist() for name, column in TABLE.items()}
    assert_close(ours({**lists, "further": None}), vectors)


def test_a_single_row_gives_a_single_vector():
    row = {name: column[3] for name, column in TABLE.items()}
    with keraslite.use_backend("numpy"):
        for made in (space(keraslite), integers(keraslite)):
            made.adapt(TABLE)
            outputs, all_outputs = made(row), made(TABLE)
            if made.output_mode == "concat":
                outputs, all_outputs = {"all": outputs}, {"all": all_outputs}
            assert_close(outputs, {name: x[3] for name, x in all_outputs.items()})


def test_in_tf_data_and_from_it(expected, backend):
    tf = pytest.importorskip("tensorflow")
    rows = tf.data.Dataset.from_tensor_slices(TABLE)
    ours = space(keraslite)
    ours.adapt(rows)
    batches = [x.numpy() for x in rows.batch(32).map(ours)]
    assert_close(np.concatenate(batches), expected[0], rtol=1e-4, atol=1e-5)
    assert_close(next(iter(rows.map(ours))).numpy(), batches[0][0])
    assert_close(ours(next(iter(rows.batch(ROWS)))), expected[0], rtol=1e-4, atol=1e-5)


def test_a_table_is_read_in_one_pass_of_any_form():
    with keraslite.use_backend("numpy"):
        ours = space(keraslite)
        ours.adapt(TABLE)
        vectors, frame = ours(TABLE), pd.DataFrame(TABLE)

        def batches():
            for start in range(0, ROWS, 32):
                rows = {name: column[start : start + 32] for name, column in TABLE.items()}
                yield (rows, start) if start else rows

        for data in (frame, batches(), list(batches())):
            again = space(keraslite)
            again.adapt(data)
            assert_close(again(frame), vectors)


def test_a_model_of_the_table_trains(trains):
    ours = space(keraslite, features={k: FEATURES[k] for k in ("age", "city", "code", "size")})
    ours.adapt(TABLE)
    outputs = layers.Dense(1)(ours.get_encoded_features())
    model = models.Model(ours.get_inputs(), outputs)
    model.compile("sgd", "mse")
    table = {name: TABLE[name] for name in ours.features}
    losses = model.fit(table, TABLE["size"], epochs=3, verbose=0).history["loss"]
    assert losses[2] < losses[0]
    assert_close(
        model.predict(table, verbose=0), ops.convert_to_numpy(model.layers[-1](ours(table))), 1e-4
    )


def test_configs_of_keras_are_read_and_files_on_any_backend(expected, backend, tmp_path):
    ours = utils.FeatureSpace.from_config(json.loads(json.dumps(expected[2])))
    ours.adapt(TABLE)
    assert_close(ours(TABLE), expected[0], rtol=1e-4, atol=1e-5)
    ours.save(tmp_path / "space.keras")
    other = "numpy" if backend != "numpy" else "torch"
    if other in (*keraslite.backend.available(), "numpy"):
        again = keraslite.saving.load_model(tmp_path / "space.keras", backend=other)
        assert_close(again(TABLE), ours(TABLE))
        assert again.backend == other


def test_layers_of_ones_own_and_what_goes_wrong():
    make = utils.FeatureSpace
    with keraslite.use_backend("numpy"):
        text = make.feature(
            "string", layers.TextVectorization(output_mode="tf_idf", max_tokens=4), "float"
        )
        known = make.feature("string", layers.StringLookup(vocabulary=["a", "b"]), "one_hot")
        bins = make.float_discretized(None, bin_boundaries=[0.5])
        ours = make({"text": text, "known": known, "bins": bins})
        with pytest.raises(ValueError, match="must learn from data"):
            ours.get_encoded_features()
        table = {"text": ["one two", "two"], "known": ["b", "z"], "bins": [0.0, 1.0]}
        ours.adapt(table)
        vectors = np.asarray(ours(table))
        assert vectors[:, :5].tolist() == [[1, 0, 0, 0, 1], [0, 1, 1, 0, 0]]
        assert_close(vectors[:, 5:], text.preprocessor(np.array(table["text"], object)))
        with pytest.raises(ValueError, match="must have a column 'text'"):
            ours({"known": ["a"]})
        with pytest.raises(ValueError, match="takes a dict of columns, got list"):
            ours([1])
        for arguments, message in (
            ({"features": {}}, "one feature at least"), ({"output_mode": "list"}, "output_mode"),
            ({"features": {"a": "double"}}, "must be one of"), ({"crossing_dim": 0}, "crossing_dim"),
            ({"crosses": [("city", "moon")]}, r"got \['moon'\]"),
        ):  # fmt: skip
            with pytest.raises(ValueError, match=message):
                space(keraslite, **arguments)
        with pytest.raises(ValueError, match="output_mode must be one of"):
            make.cross(("a", "b"), 3, "float")
        plain = make({"a": make.integer_hashed(3, output_mode="int")})
        with pytest.raises(ValueError, match="'a' is not encoded, it has the dtype 'int"):
            plain({"a": [1]})
        own = make({"a": make.feature("int32", layers.Rescaling(1.0), "one_hot")})
        with pytest.raises(ValueError, match="Rescaling gives is not known"):
            own({"a": [1]})
        for data, message in ((3, "got int"), ([[1], [2]], "got list")):
            with pytest.raises(TypeError, match=message):
                plain.adapt(data)
