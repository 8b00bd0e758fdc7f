"""The methods of our data sets, compared with those of tf.data; their forms for tf.data and grain."""

import wave

import numpy as np
import pytest
import tensorflow as tf

import keraslite
from keraslite import layers, models, utils
from keraslite.training.data import adapt
from keraslite.utils.pipeline import Dataset, Elements
from keraslite.utils.time_windows import Windows

PAIRS = [(np.float32(i), np.int32(i % 3)) for i in range(7)]


def listed(dataset):
    return [tf.nest.map_structure(lambda v: np.asarray(v).tolist(), x) for x in dataset]


@pytest.mark.parametrize(
    "build",
    [
        lambda d: d.map(lambda x, y: x * 2, num_parallel_calls=4).batch(3),
        lambda d: d.map(lambda x, y: (x + 1, y)).batch(3, drop_remainder=True),
        lambda d: d.take(3).concatenate(d.skip(5)),
        lambda d: d.take(-1).skip(2).repeat(2),
        lambda d: d.repeat().skip(5).take(8),
        lambda d: d.filter(lambda x, y: y == 1).batch(2),
        lambda d: d.batch(2).unbatch().cache().prefetch(2),
        lambda d: d.batch(2).rebatch(3),
        lambda d: d.enumerate(3).map(lambda i, pair: (i, pair[0])),
        lambda d: d.skip(-1),
        lambda d: d.apply(lambda x: x.take(2)).map(lambda x, y: {"x": x, "y": y}).batch(2),
    ],
)
def test_methods_give_what_those_of_tf_data_give(build):
    ours = build(Elements(PAIRS))
    theirs = build(tf.data.Dataset.from_tensor_slices(tuple(map(np.array, zip(*PAIRS)))))
    assert listed(ours) == listed(theirs) == listed(ours.as_numpy_iterator())
    known = ours.cardinality()
    assert known == int(theirs.cardinality()) or known < 0
    if known >= 0:
        assert len(ours) == len(listed(ours))


def test_data_sets_without_an_end_say_so():
    endless = Elements(PAIRS).repeat()
    assert endless.cardinality() == int(tf.data.Dataset.range(2).repeat().cardinality())
    with pytest.raises(TypeError, match="has no end"):
        len(endless)
    with pytest.raises(TypeError, match="known only when it was read"):
        len(Elements(PAIRS).filter(lambda x, y: True))
    assert adapt(endless.batch(2)).num_batches is None
    with pytest.raises(NotImplementedError, match="must implement epoch"):
        next(iter(Dataset()))


def test_orders_follow_from_seed_and_epoch():
    base = Elements(range(20))
    data, again = base.shuffle(8, seed=1), base.shuffle(8, seed=1)
    first, second = list(data), list(data)
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second
    assert [list(again), list(again)] == [first, second]
    assert first == list(again.epoch(0))
    assert max(v - i for i, v in enumerate(first)) < 8  # no element comes before its turn
    fixed = base.shuffle(20, seed=1, reshuffle_each_iteration=False)
    assert list(fixed) == list(fixed) != list(range(20))
    stream = adapt(data.batch(4))
    stream.seed = 5  # what BackupAndRestore does
    assert listed(x for x, *_ in stream.epoch(1)) == listed(base.shuffle(8, 5).batch(4).epoch(1))
    cached = data.cache()
    assert list(cached) == list(cached)


def test_windows_go_through_a_pipeline_into_fit(trains):
    steps = np.arange(12, dtype="float32")
    data = utils.timeseries_dataset_from_array(steps, steps[3:], 3, batch_size=4)
    data = data.map(lambda x, y: (x / 12, y / 12)).shuffle(3, seed=0).cache().prefetch(1)
    model = models.Sequential([layers.Input((3,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(data.repeat(), steps_per_epoch=3, epochs=2, verbose=0, validation_data=data.take(1))
    assert int(model.optimizer.iterations) == 6


@pytest.fixture
def folder(tmp_path):
    for name, length in (("bark", 3), ("meow", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.txt").write_text(f"a {name}")
        with wave.open(str(tmp_path / name / "0.wav"), "wb") as sound:
            sound.setparams((1, 2, 8000, 0, "NONE", ""))
            sound.writeframes(bytes(2 * length))
    return tmp_path


def test_the_form_follows_the_backend_and_the_format(folder):
    import grain

    arguments = {"batch_size": 2, "shuffle": False, "verbose": False}
    windows = np.arange(4, dtype="float32"), None, 2
    with keraslite.use_backend("torch"):
        ours = utils.text_dataset_from_directory(folder, **arguments)
        assert isinstance(ours, Dataset)
        assert isinstance(utils.timeseries_dataset_from_array(*windows), Windows)
        asked = ours.as_tf_dataset()
    with keraslite.use_backend("tensorflow"):
        texts = utils.text_dataset_from_directory(folder, **arguments)
        sounds = utils.audio_dataset_from_directory(folder, **arguments)
        ragged = utils.audio_dataset_from_directory(folder, ragged=True, **arguments)
        steps = utils.timeseries_dataset_from_array(*windows)
    for dataset in (asked, texts, sounds, ragged, steps):
        assert isinstance(dataset, tf.data.Dataset)
        assert int(dataset.cardinality()) == len(listed(dataset)) == 1
    assert adapt(steps).by_number  # `fit` reads the source, and can be resumed in order
    assert not adapt(steps.map(lambda x: x)).by_number
    assert texts.class_names == asked.class_names == ["bark", "meow"]
    assert listed(texts) == listed(asked) == [([b"a bark", b"a meow"], [0, 1])]
    assert next(iter(sounds))[0].shape == (2, 3, 1)
    assert next(iter(ragged))[0].row_lengths().numpy().tolist() == [3, 2]
    grains = utils.text_dataset_from_directory(folder, format="grain", **arguments)
    assert isinstance(grains, grain.IterDataset)
    assert (grains.class_names, len(grains)) == (["bark", "meow"], 1)
    assert listed(grains) == listed(ours)
    with pytest.raises(ValueError, match="format must be"):
        utils.timeseries_dataset_from_array(*windows, format="torch")
    with pytest.raises(ValueError, match="The data set is empty"):
        Elements([]).as_tf_dataset()


def test_a_data_set_of_grain_is_taken_up_in_the_middle():
    steps = np.arange(9)
    data = utils.timeseries_dataset_from_array(
        steps, None, 2, batch_size=2, shuffle=True, seed=3, format="grain"
    )
    first = iter(data)
    next(first)
    state, rest = first.get_state(), listed(first)
    again = iter(data)
    assert listed(iter(data.map(lambda x: x))) != rest
    again.set_state(state)
    assert listed(again) == rest
