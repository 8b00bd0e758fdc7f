"""Data for the trainer: arrays, text, nested structures, streams, shuffles, reading ahead."""

import threading
import time
from itertools import chain, islice

import numpy as np
import pytest
from backends import TRAINABLE

import keraslite
from keraslite import backend as backends
from keraslite import layers, models, ops, utils
from keraslite.training import data as data_module
from keraslite.training.data import ArrayData, Continued, StreamData, adapt, prefetch

ROWS = np.arange(10, dtype="float32")


def xs(data, epoch=0):
    return [np.asarray(b[0]).tolist() for b in data.epoch(epoch)]


# -- arrays and lists -----------------------------------------------------------------------------


def test_batches_of_arrays_and_their_parts():
    data = adapt(ROWS, ROWS * 2, ROWS * 3, batch_size=4)
    assert (data.num_batches, data.rows) == (3, 10)
    batches = list(data.epoch(0))
    assert [len(b[0]) for b in batches] == [4, 4, 2]
    for x, y, weight in batches:
        assert np.array_equal(x * 2, y)
        assert np.array_equal(x * 3, weight)
    assert next(adapt(ROWS).epoch(0))[1:] == (None, None)


def test_nested_structures_come_back_in_their_form():
    x = {"a": ROWS, "b": (ROWS + 1, [ROWS + 2, {"c": ROWS + 3}])}
    batch, y, _ = next(adapt(x, [ROWS, ROWS], batch_size=3).epoch(0))
    assert list(batch) == ["a", "b"]
    assert isinstance(batch["b"], tuple)
    assert isinstance(batch["b"][1], list)
    assert batch["b"][1][1]["c"].tolist() == [3, 4, 5]
    assert [v.tolist() for v in y] == [[0, 1, 2], [0, 1, 2]]


@pytest.mark.parametrize(
    ("x", "want"),
    [
        ([1.0, 2.0, 3.0], np.array([1, 2], "float32")),
        ([[1, 2], [3, 4], [5, 6]], np.array([[1, 2], [3, 4]])),
        ([np.float32(1), np.float32(2), np.float32(3)], np.array([1, 2], "float32")),
        (ROWS.astype("float64"), np.array([0, 1], "float32")),
    ],
)
def test_lists_of_numbers_are_rows(x, want):
    got = next(adapt(x, batch_size=2).epoch(0))[0]
    assert np.array_equal(got, want)


def test_texts_and_pairs_of_texts_stay_as_they_are():
    texts = ["a", "b", "c"]
    batch = next(adapt(texts, [0, 1, 0], batch_size=2).epoch(0))
    assert batch[0] == ["a", "b"]
    assert batch[1].tolist() == [0, 1]
    pairs = [["a", "x"], ["b", "y"], ["c", "z"]]
    assert next(adapt(pairs, batch_size=2).epoch(0))[0] == [["a", "x"], ["b", "y"]]
    first = next(adapt({"one": texts, "two": ROWS[:3]}, batch_size=2).epoch(0))[0]
    assert first["one"] == ["a", "b"]
    shuffled = adapt(texts, ROWS[:3], batch_size=3, shuffle=True, seed=4)
    x, y, _ = next(shuffled.epoch(0))
    assert [texts[int(i)] for i in y] == x


def test_tables_of_pandas_become_arrays():
    class Table:  # what is used of pandas, which need not be installed
        def to_numpy(self):
            return np.stack([ROWS, ROWS], 1)

    assert next(adapt(Table(), batch_size=2).epoch(0))[0].shape == (2, 2)


def test_tensors_of_the_backend_are_cut_as_they_are(backend):
    x = ops.convert_to_tensor(ROWS)
    got = next(adapt(x, batch_size=4).epoch(0))[0]
    assert backends.of(got) == backends.of(x)
    assert backends.to_numpy(got).tolist() == [0, 1, 2, 3]
    x, y, _ = next(adapt(x, ROWS, batch_size=4, shuffle=True, seed=1).epoch(0))
    assert backends.to_numpy(x).tolist() == y.tolist()


def test_a_shuffle_depends_on_seed_and_epoch_alone():
    data = adapt(ROWS, batch_size=5, shuffle=True, seed=3)
    again = adapt(ROWS, batch_size=5, shuffle=True, seed=3)
    assert xs(data, 0) == xs(again, 0) != xs(data, 1) == xs(again, 1)
    assert sorted(chain(*xs(data, 7))) == ROWS.tolist()
    assert xs(adapt(ROWS, batch_size=5, shuffle=True, seed=4)) != xs(data)
    utils.set_random_seed(1)
    first = adapt(ROWS, shuffle=True).seed
    utils.set_random_seed(1)
    assert adapt(ROWS, shuffle=True).seed == first


def test_a_split_takes_the_last_rows_and_shuffles_only_the_first():
    first, last = adapt(ROWS, ROWS, batch_size=4, shuffle=True, seed=1).split(0.3)
    assert xs(last) == [[7, 8, 9]]
    assert sorted(chain(*xs(first))) == [0, 1, 2, 3, 4, 5, 6]
    assert xs(first, 0) != xs(first, 1)
    with pytest.raises(ValueError, match="leaves one part empty"):
        adapt(ROWS).split(0.95)
    with pytest.raises(ValueError, match="give validation_data"):
        adapt(iter([ROWS])).split(0.5)


def test_a_transform_stays_with_both_parts():
    data = adapt(["a", "bb", "ccc", "d"], ROWS[:4], batch_size=2,
                 transform=lambda x, y, w: (np.array([len(t) for t in x]), y, w))  # fmt: skip
    first, last = data.split(0.5)
    assert next(first.epoch(0))[0].tolist() == [1, 2]
    assert next(last.epoch(0))[0].tolist() == [3, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((ROWS, ROWS[:9]), r"same number of rows, got \[9, 10\]"),
        ((ROWS[:0],), "empty"),
        ((None,), "no data"),
        (("text",), "list of strings"),
        ((iter([ROWS]), ROWS), "give y and sample_weight inside"),
        ((ROWS, None, None, 0), "batch_size must be a positive int, got 0"),
        ((ROWS, None, None, 2.5), "batch_size must be a positive int, got 2.5"),
        ((ROWS, None, None, -1), "batch_size must be a positive int, got -1"),
    ],
)
def test_bad_data_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        adapt(*arguments)


def test_tuples_are_packed_and_unpacked():
    for data in ((1,), (1, 2), (1, 2, 3)):
        assert utils.pack_x_y_sample_weight(*data) in (data, 1)
        assert utils.unpack_x_y_sample_weight(data) == (*data, None, None)[:3]
    assert utils.pack_x_y_sample_weight([1, 2]) == ([1, 2],)
    assert utils.unpack_x_y_sample_weight([1, 2]) == (1, 2, None)
    with pytest.raises(ValueError, match="4 parts"):
        utils.unpack_x_y_sample_weight((1, 2, 3, 4))


# -- streams --------------------------------------------------------------------------------------


def test_a_generator_goes_on_where_it_stood():
    source = ((ROWS[i : i + 2], ROWS[i : i + 2]) for i in range(0, 10, 2))
    data = Continued(adapt(source), 2)
    assert data.first()[0].tolist() == [0, 1]
    assert xs(data, 0) == [[0, 1], [2, 3]]
    assert xs(data, 1) == [[4, 5], [6, 7]]
    assert xs(data, 2) == [[8, 9]]
    assert xs(data, 3) == []


def test_steps_of_arrays_go_on_over_epochs_and_can_be_taken_up_anywhere():
    data = Continued(adapt(ROWS, batch_size=2), 3)
    assert data.num_batches == 3
    assert xs(data, 0) == [[0, 1], [2, 3], [4, 5]]
    assert xs(data, 1) == [[6, 7], [8, 9]]  # as in Keras, an epoch ends with the data
    assert xs(data, 2) == [[0, 1], [2, 3], [4, 5]]
    resumed = Continued(adapt(ROWS, batch_size=2), 3)
    assert xs(resumed, 1) == xs(Continued(adapt(ROWS, batch_size=2), 3), 1)
    shuffled = [Continued(adapt(ROWS, batch_size=2, shuffle=True, seed=5), 3) for _ in range(2)]
    through = [xs(shuffled[0], n) for n in range(4)]
    assert xs(shuffled[1], 2) == through[2]
    assert xs(shuffled[1], 3) == through[3]


class Sequence:
    """What keras.utils.PyDataset is to a trainer."""

    def __init__(self):
        self.ended = 0

    def __len__(self):
        return 3

    def __getitem__(self, i):
        return ROWS[2 * i : 2 * i + 2], ROWS[2 * i : 2 * i + 2]

    def on_epoch_end(self):
        self.ended += 1


def test_a_sequence_of_batches_is_read_anew_each_epoch():
    sequence = Sequence()
    data = adapt(sequence)
    assert data.num_batches == 3
    assert data.first()[0].tolist() == [0, 1]
    assert xs(data, 0) == xs(data, 1) == [[0, 1], [2, 3], [4, 5]]
    assert sequence.ended == 2


def test_a_function_gives_an_iterable_for_each_epoch():
    data = adapt(lambda: iter([ROWS[:2], ROWS[2:4]]))
    assert xs(data, 0) == xs(data, 1) == [[0, 1], [2, 3]]


def test_loaders_of_the_frameworks_are_plain_iterables():
    import torch

    pairs = torch.utils.data.TensorDataset(torch.from_numpy(ROWS), torch.from_numpy(ROWS))
    data = adapt(torch.utils.data.DataLoader(pairs, batch_size=4))
    assert data.num_batches == 3
    assert xs(data, 0) == xs(data, 1) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]

    import tensorflow as tf

    data = adapt(tf.data.Dataset.from_tensor_slices((ROWS, ROWS)).batch(4))
    assert xs(data, 0) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert adapt(tf.data.Dataset.from_tensors(ROWS).repeat()).num_batches is None


@pytest.mark.parametrize("trains", TRAINABLE)
def test_every_kind_of_source_trains_alike(trains):
    import tensorflow as tf
    import torch

    x = np.linspace(-1, 1, 32, dtype="float32").reshape(16, 2)
    y = x.sum(1, keepdims=True)
    tensors = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))

    class Batches:
        def __len__(self):
            return 4

        def __getitem__(self, i):
            return x[4 * i : 4 * i + 4], y[4 * i : 4 * i + 4]

    def endless():
        while True:
            yield from (Batches()[i] for i in range(4))

    sources = {
        "arrays": ((x, y), {"batch_size": 4, "shuffle": False}),
        "lists": ((x.tolist(), y.tolist()), {"batch_size": 4, "shuffle": False}),
        "sequence": ((Batches(),), {}),
        "generator": ((endless(),), {"steps_per_epoch": 4}),
        "torch": ((torch.utils.data.DataLoader(tensors, batch_size=4),), {}),
        "tensorflow": ((tf.data.Dataset.from_tensor_slices((x, y)).batch(4),), {}),
    }
    found = {}
    with keraslite.use_backend(trains):
        model = models.Sequential([layers.Input((2,)), layers.Dense(1)])
        first = model.get_weights()
        model.compile("sgd", "mse")
        for name, (given, arguments) in sources.items():
            model.set_weights(first)
            history = model.fit(*given, epochs=2, verbose=0, **arguments).history
            found[name] = history["loss"]
        judged = model.evaluate(sources["torch"][0][0], verbose=0)
        assert np.isclose(judged, model.evaluate(x, y, verbose=0))
        out = model.predict(sources["tensorflow"][0][0], verbose=0)
        assert np.allclose(out, model.predict(x, verbose=0))
    for name, values in found.items():
        assert np.allclose(values, found["arrays"], rtol=1e-5), name


@pytest.mark.parametrize("trains", TRAINABLE)
def test_texts_reach_a_model_through_its_transform(trains):
    class Lengths(models.Sequential):
        def _transform(self, training):
            def step(x, y, weight):
                assert all(isinstance(t, str) for t in x)
                return np.array([[len(t), t.count("a")] for t in x], "float32"), y, weight

            return step

    texts, labels = ["a", "bb", "aaa", "bbbb"] * 4, [1, 0, 1, 0] * 4
    with keraslite.use_backend(trains):
        model = Lengths([layers.Input((2,)), layers.Dense(2, "softmax")])
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(texts, labels, epochs=2, validation_split=0.25, batch_size=4, verbose=0,
                  class_weight={0: 2.0})  # fmt: skip
        assert set(model.evaluate(texts, labels, return_dict=True, verbose=0)) == {
            "loss", "accuracy"
        }  # fmt: skip
        assert model.predict(texts, verbose=0).shape == (16, 2)
        assert model.predict_on_batch(texts[:3]).shape == (3, 2)


# -- reading ahead --------------------------------------------------------------------------------


def test_reading_ahead_keeps_the_order_and_passes_errors_on():
    assert list(prefetch(iter(range(100)))) == list(range(100))

    def broken():
        yield 1
        raise KeyError("in the source")

    items = prefetch(broken())
    assert next(items) == 1
    with pytest.raises(KeyError, match="in the source"):
        next(items)


def test_reading_ahead_overlaps_the_work_and_ends_its_thread():
    before = threading.active_count()
    begun = threading.Event()

    def source():
        for i in range(5):
            if i == 2:
                begun.set()  # made while the consumer still holds the first
            yield i

    items = prefetch(source())
    assert next(items) == 0
    assert begun.wait(10)
    items.close()
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        pass
    assert threading.active_count() == before


def test_the_thread_that_reads_ahead_knows_the_backend(backend):
    with keraslite.use_backend(backend):
        made = list(prefetch(ops.ones((1,)) for _ in range(1)))
    assert backends.of(made[0]) == (None if backend == "numpy" else backend)


def test_streams_hold_work_and_arrays_do_not():
    assert not ArrayData(ROWS).host_work
    assert StreamData(iter([ROWS])).host_work
    assert not Continued(ArrayData(ROWS), 1).host_work
    assert next(data_module.batches(ArrayData(ROWS, batch_size=4), 0, 1))[0].tolist() == [
        0, 1, 2, 3
    ]  # fmt: skip


class Rows(utils.PyDataset):
    """Batches of numbers, and who asked for them."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.calls, self.threads = [], set()

    @property
    def num_batches(self):
        return 6

    def __getitem__(self, index):
        self.threads.add(threading.get_ident())
        x = np.full((2, 3), index, "float32")
        return x, x[:, :1]

    def on_epoch_begin(self):
        self.calls.append("begin")

    def on_epoch_end(self):
        self.calls.append("end")


@pytest.mark.parametrize("workers", [1, 3])
def test_a_data_set_of_ones_own_trains(trains, workers):
    rows = Rows(workers=workers, max_queue_size=2)
    assert [int(x[0, 0]) for x, _ in rows] == list(range(6))
    model = models.Sequential([layers.Input((3,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    rows.calls.clear()
    history = model.fit(rows, epochs=2, verbose=0)
    assert len(history.history["loss"]) == 2
    assert int(model.optimizer.iterations) == 12
    assert rows.calls == ["begin", "end"] * 2
    assert model.predict(rows, verbose=0).shape == (12, 1)


def test_workers_make_batches_at_the_same_time():
    """Each waits for the other: one thread alone would never come to an end."""
    barrier = threading.Barrier(2, timeout=30)

    class Meeting(utils.PyDataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            barrier.wait()
            return index

    assert list(Meeting(workers=2)) == [0, 1, 2, 3]


def test_a_data_set_without_an_end_and_with_an_error():
    class Endless(utils.PyDataset):
        num_batches = None

        def __getitem__(self, index):
            if index == 5:
                raise OSError("row 5 cannot be read")
            return index

    for workers in (1, 2):
        assert list(islice(Endless(workers=workers), 3)) == [0, 1, 2]
        with pytest.raises(OSError, match="row 5"):
            list(Endless(workers=workers))
    with pytest.raises(NotImplementedError, match="num_batches or __len__"):
        list(utils.PyDataset())
    assert utils.Sequence is utils.PyDataset


class Numbered:
    """Epochs by number, which tell when their first batch was asked for."""

    def __init__(self, seed=1):
        self.seed, self.begun, self.ended = seed, {}, []

    def __len__(self):
        return 3

    def epoch(self, number):
        self.begun.setdefault(number, threading.Event()).set()
        try:
            for i in range(3):
                yield np.full((2, 1), 100.0 * self.seed + 10 * number + i), np.zeros((2, 1))
        finally:
            self.ended.append(number)


def linear(seen):
    class Watched(keraslite.models.Sequential):
        def check_batch(self, batch):
            seen.append(float(batch[0][0, 0]))
            super().check_batch(batch)

    model = Watched([keraslite.layers.Input((1,)), keraslite.layers.Dense(1)])
    model.compile(keraslite.optimizers.SGD(0.0), "mse")
    return model


def test_the_next_epoch_is_read_while_one_ends():
    data, seen, ready, threads = Numbered(), [], [], threading.active_count()

    class Wait(keraslite.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            following = data.begun.setdefault(epoch + 1, threading.Event())
            ready.append(epoch == 2 or following.wait(30))

    with keraslite.use_backend(TRAINABLE[0]):
        linear(seen).fit(data, epochs=3, verbose=0, callbacks=[Wait()])
    assert ready == [True] * 3
    assert seen == [100.0 + 10 * epoch + i for epoch in range(3) for i in range(3)]
    assert 3 not in data.ended  # nothing is read beyond the last epoch
    assert threading.active_count() == threads


def test_a_data_set_by_number_goes_on_where_training_is_resumed(tmp_path):
    class Stop(keraslite.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if len(seen) == 5:
                raise KeyboardInterrupt

    seen, threads = [], threading.active_count()
    with keraslite.use_backend(TRAINABLE[0]):
        backup = keraslite.callbacks.BackupAndRestore(tmp_path / "a", save_freq=1)
        with pytest.raises(KeyboardInterrupt):
            linear(seen).fit(Numbered(7), epochs=3, verbose=0, callbacks=[backup, Stop()])
        before, other = list(seen), Numbered(8)
        backup = keraslite.callbacks.BackupAndRestore(tmp_path / "a", save_freq=1)
        linear(seen).fit(other, epochs=3, verbose=0, callbacks=[backup])
    assert other.seed == 7
    rest = [700.0 + 10 * epoch + i for epoch in range(3) for i in range(3)]
    assert before == rest[:5]
    assert seen[5:] == rest[4:]  # the fifth batch was not yet counted
    assert threading.active_count() == threads
