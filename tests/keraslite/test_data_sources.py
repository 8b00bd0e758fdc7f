"""Data of each library in `fit`, `evaluate` and `predict`, on each backend."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse

import keraslite
from keraslite import layers, models, ops, utils
from keraslite.training.data import adapt
from keraslite.training.rows import SparseRows

X = np.linspace(-1, 1, 32, dtype="float32").reshape(16, 2)
Y = X.sum(1, keepdims=True)
SPARSE = np.where(np.arange(32).reshape(16, 2) % 3 == 0, X, 0)


class Pairs(utils.PyDataset):
    """The batches of a data set of ones own, made in processes too."""

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return X[4 * i : 4 * i + 4], Y[4 * i : 4 * i + 4]


def of_tables():
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    yield "pandas frame", pd.DataFrame(X), pd.DataFrame(Y)
    yield "pandas series", pd.DataFrame(X, columns=["a", "b"]), pd.Series(Y[:, 0])
    yield "pandas of its own dtypes", pd.DataFrame(X, dtype="Float32"), pd.Series(Y[:, 0], dtype="Float64")  # fmt: skip
    yield "polars frame", pl.DataFrame(X), pl.DataFrame(Y)
    yield "polars series", pl.DataFrame(X), pl.Series("y", Y[:, 0])
    yield "polars lazy frame", pl.LazyFrame(X), pl.LazyFrame(Y)
    table = pa.table({"a": X[:, 0], "b": X[:, 1]})
    yield "pyarrow table", table, pa.chunked_array([Y[:8, 0], Y[8:, 0]])
    yield "pyarrow record batch", table.to_batches()[0], pa.table({"y": Y[:, 0]})


def of_sparse():
    import jax.numpy as jnp
    import tensorflow as tf
    import torch
    from jax.experimental.sparse import BCOO

    for form in ("csr_matrix", "csc_array", "coo_array", "lil_matrix"):
        yield form, getattr(scipy.sparse, form)(SPARSE), Y
    yield "tf.SparseTensor", tf.sparse.from_dense(SPARSE), Y
    yield "sparse tensor of torch", torch.from_numpy(SPARSE).to_sparse(), Y
    yield "BCOO", BCOO.fromdense(jnp.array(SPARSE)), Y


def of_columns():
    import datasets

    rows = datasets.Dataset.from_dict({"x": X.tolist(), "y": Y.tolist()})
    for form in (None, "numpy", "torch", "jax", "tensorflow"):
        formatted = rows.with_format(form)
        yield f"columns of datasets, {form}", formatted["x"], formatted["y"]
        batch = formatted[:]
        yield f"batch of datasets, {form}", batch["x"], batch["y"]


def of_batches():
    import datasets
    import grain
    import tensorflow as tf
    import torch

    tensors = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    yield "DataLoader", torch.utils.data.DataLoader(tensors, batch_size=4)
    yield "tf.data", tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)
    source = grain.MapDataset.source(list(zip(X, Y, strict=True)))
    yield "grain.MapDataset", source.batch(4)
    yield "grain.IterDataset", source.to_iter_dataset().batch(4)
    rows = datasets.Dataset.from_dict({"x": X.tolist(), "y": Y.tolist()})
    yield "to_tf_dataset", rows.to_tf_dataset(batch_size=4, columns="x", label_cols="y")
    collate = lambda rows: tuple(torch.stack([r[k] for r in rows]) for k in "xy")  # noqa: E731
    loader = torch.utils.data.DataLoader(rows.with_format("torch"), 4, collate_fn=collate)
    yield "DataLoader of datasets", loader
    yield "PyDataset", Pairs()
    yield "PyDataset with threads", Pairs(workers=2)


def linear():
    model = models.Sequential([layers.Input((2,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def results(model, first, x, y=None):
    """What fitting, evaluating and predicting give."""
    model.set_weights(first)
    rows = {} if y is None else {"batch_size": 4}
    losses = []
    if keraslite.backend.load(model.backend).TRAINS:
        whole = {"shuffle": False} if rows else {}
        losses = model.fit(x, y, epochs=2, verbose=0, **rows, **whole).history["loss"]
    judged = model.evaluate(x, y, verbose=0, **rows)
    return [*losses, judged, *model.predict(x, verbose=0, **rows).ravel()]


def test_every_source_gives_the_same(backend):
    model = linear()
    first = model.get_weights()
    arrays, sparse = results(model, first, X, Y), results(model, first, SPARSE, Y)
    for name, x, y in [*of_tables(), *of_columns()]:
        np.testing.assert_allclose(results(model, first, x, y), arrays, 1e-4, 1e-6, err_msg=name)
    for name, x, y in of_sparse():
        np.testing.assert_allclose(results(model, first, x, y), sparse, 1e-4, 1e-6, err_msg=name)
    for name, x in of_batches():
        np.testing.assert_allclose(results(model, first, x), arrays, 1e-4, 1e-6, err_msg=name)


def test_models_of_named_inputs_take_tables_and_data_sets(backend):
    import datasets
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    a, b = layers.Input((1,), name="a"), layers.Input((1,), name="b")
    model = models.Model({"a": a, "b": b}, layers.Dense(1)(layers.Concatenate()([a, b])))
    wanted = model.predict({"a": X[:, :1], "b": X[:, 1:]}, verbose=0)
    columns = {"a": X[:, 0], "b": X[:, 1]}
    rows = datasets.Dataset.from_dict(columns)
    more = {**columns, "id": np.array(["u"] * 16)}  # of which the model takes what it names
    for x in (dict(pd.DataFrame(columns)), columns, pd.DataFrame(more), pl.DataFrame(more),
              pl.LazyFrame(more), pa.table(more), rows, rows.with_format("numpy"),
              rows.to_iterable_dataset().with_format("numpy").batch(5)):  # fmt: skip
        assert np.allclose(model.predict(x, batch_size=5, verbose=0), wanted, atol=1e-6)
    positional = models.Model([a, b], model({"a": a, "b": b}))
    assert np.allclose(positional.predict(pd.DataFrame(more), verbose=0), wanted, atol=1e-6)


def test_sparse_inputs_are_shuffled_weighted_and_split_like_dense_ones(trains):
    x = layers.Input((3,), sparse=True)
    model = models.Model(x, layers.Dense(1)(x))
    model.compile("sgd", "mse")
    first = model.get_weights()
    one_hot = ops.one_hot(np.arange(12) % 3, 3, sparse=True)
    histories = []
    for data in (one_hot, np.eye(3, dtype="float32")[np.arange(12) % 3]):
        model.set_weights(first)
        utils.set_random_seed(3)
        histories.append(
            model.fit(
                data,
                np.arange(12.0),
                batch_size=3,
                sample_weight=np.arange(12.0),
                verbose=0,
                validation_split=0.25,
            ).history
        )
    for key, values in histories[0].items():
        np.testing.assert_allclose(values, histories[1][key], rtol=1e-5)
    loss = model.train_on_batch(one_hot, np.arange(12.0))
    assert np.isfinite(loss)


def test_rows_of_sparse_data_of_any_rank():
    values = np.zeros((5, 2, 3), "float32")
    values[[0, 3, 3], [1, 0, 1], [2, 1, 0]] = [1, 2, 3]
    places = np.argwhere(values)[::-1]
    rows = SparseRows(places, values[tuple(places.T)], values.shape)
    assert len(rows) == 5
    for index in (slice(None), slice(1, 4), np.array([3, 0, 3, 4])):
        np.testing.assert_array_equal(rows.take(index), values[index])
    half = rows.part(slice(2, 5))
    assert isinstance(half, SparseRows)
    np.testing.assert_array_equal(half.take(np.array([2, 1])), values[[4, 3]])
    doubled = scipy.sparse.coo_array((np.ones(2), ([0, 0], [1, 1])), shape=(2, 2))
    assert next(adapt(doubled).epoch(0))[0].tolist() == [[0, 2], [0, 0]]  # elements of one place
    batches = adapt(iter([(scipy.sparse.csr_array(SPARSE[:2]), Y[:2])]))
    np.testing.assert_array_equal(next(batches.epoch(0))[0], SPARSE[:2])


def test_columns_of_data_sets_are_read_where_they_are_needed():
    import datasets

    read = []

    def note(batch):
        read.extend(batch["x"])
        return batch

    column = datasets.Dataset.from_dict({"x": list(range(10))}).with_transform(note)["x"]
    first, last = adapt(column, batch_size=4, shuffle=True, seed=1).split(0.3)
    assert read == []
    assert [b[0].tolist() for b in last.epoch(0)] == [[7, 8, 9]]
    assert read == [7, 8, 9]
    batches = [b[0].tolist() for b in first.epoch(0)]
    assert [len(b) for b in batches] == [4, 3]
    assert sorted(sum(batches, [])) == list(range(7))


def test_files_of_h5py_are_shuffled_as_arrays_are(trains, tmp_path):
    import h5py

    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["x"], file["y"] = X, Y
        model = linear()
        first, histories = model.get_weights(), []
        for x, y in ((X, Y), (file["x"], file["y"])):
            model.set_weights(first)
            utils.set_random_seed(3)
            history = model.fit(x, y, batch_size=5, epochs=2, validation_split=0.25, verbose=0)
            histories.append(history.history)
    for key, values in histories[0].items():
        np.testing.assert_allclose(values, histories[1][key], rtol=1e-6)


LOADER = """
import grain, numpy as np, keraslite as keras
class Rows:
    def __len__(self): return 4
    def __getitem__(self, i): return np.ones(2, "float32"), np.ones(1, "float32")
sampler = grain.samplers.SequentialSampler(4, grain.sharding.NoSharding())
loader = grain.DataLoader(data_source=Rows(), sampler=sampler, worker_count=1)
keras.use_backend("numpy")
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
try:
    model.predict(loader, verbose=0)
except RuntimeError as error:
    print(error)
"""


def test_workers_of_a_loader_of_grain_say_what_they_need():
    assert "call absl.flags.FLAGS.mark_as_parsed() before fit" in run(LOADER)


def test_texts_and_gaps_in_tables():
    import pandas as pd
    import polars as pl

    for texts in (pd.Series(["a", "b"]), pl.Series(["a", "b"]), pd.Series(["a", "b"], dtype=object),
                  pd.Series(["a", "b"]).astype("category")):  # fmt: skip
        assert list(next(adapt(texts).epoch(0))[0]) == ["a", "b"]
    mixed = pd.DataFrame({"a": pd.array([1, 2], "Int64"), "b": [True, False]})
    assert next(adapt(mixed).epoch(0))[0].tolist() == [[1, 1], [2, 0]]
    with pytest.raises(ValueError, match="must hold numbers or texts"):
        adapt(pd.Series([1, {}]))


PROCESSES = """
import os, numpy as np
from keraslite import utils
class Marked(utils.PyDataset):
    ended = 0
    def __len__(self):
        return 6
    def __getitem__(self, index):
        if index == 5 and self.ended == 2:
            raise OSError("row 5 cannot be read")
        return np.array([index, os.getpid(), self.ended, np.random.randint(2**30)])
data = Marked(workers=2, use_multiprocessing=True)
for epoch in range(2):
    rows = np.stack(list(data))
    assert rows[:, 0].tolist() == list(range(6))
    assert os.getpid() not in rows[:, 1]
    assert set(rows[:, 2]) == {epoch}, "a change between epochs is seen"
    assert len(set(rows[:, 3])) > 2, "the workers draw other numbers"
    data.ended += 1
try:
    list(data)
except OSError as error:
    print(error)
"""


def test_processes_make_batches_and_see_what_an_epoch_changed():
    assert run(PROCESSES) == "row 5 cannot be read"


def run(script):
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_what_cannot_be_sent_to_a_process_is_told(monkeypatch):
    import multiprocessing

    class Local(Pairs):
        pass

    spawn = multiprocessing.get_context("spawn")
    monkeypatch.setattr(utils.data, "process_context", lambda: spawn)
    with pytest.raises(TypeError, match="Define its class in a module"):
        next(iter(Local(use_multiprocessing=True)))


SCRIPT = """
import sys
import numpy as np, pandas, polars, scipy.sparse, grain, datasets
x = np.ones((4, 2), "float32")
class Rows:
    def __len__(self): return 4
    def __getitem__(self, i): return x[i]
data = [
    x, x.tolist(), {"x": x}, pandas.DataFrame(x), polars.DataFrame(x), scipy.sparse.csr_array(x),
    (b for b in [x]), grain.MapDataset.source(Rows()).batch(2),
    datasets.Dataset.from_dict({"x": x.tolist()}).with_format("numpy"),
]
before = {m for m in ("jax", "torch", "tensorflow") if m in sys.modules}
import keraslite as k
k.use_backend("numpy")
i = k.Input((2,), name="x")
model = k.Model({"x": i}, k.layers.Dense(1)(i))
model.compile(None, "mse")
for d in data:
    assert model.predict(d, verbose=0).shape == (4, 1), d
print({m for m in ("jax", "torch", "tensorflow") if m in sys.modules} - before)
"""


def test_no_framework_is_imported_that_the_data_does_not_bring():
    assert run(SCRIPT) == "set()"
