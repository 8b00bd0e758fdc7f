"""Pictures in files and folders against the installed Keras, and data sets that fit reads."""

import io
import threading

import keras
import numpy as np
import pytest
from compare import assert_close
from PIL import Image

import keraslite
from keraslite import layers, models, ops, utils
from keraslite.utils.file_datasets import FileDataset
from keraslite.utils.images import INTERPOLATIONS, resized

RNG = np.random.default_rng(0)
CLASSES = ("cat", "dog", "owl")


@pytest.fixture(autouse=True)
def own_form():
    """Data sets of our own form: with the backend tensorflow they would be those of tf.data."""
    with keraslite.use_backend("numpy"):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four pictures a class, of several sizes, some in a folder below, and files of other kinds."""
    root = tmp_path_factory.mktemp("pictures")
    for number, name in enumerate(CLASSES):
        (root / name / "more").mkdir(parents=True)
        for i in range(4):
            path = root / name / ("more" if i == 3 else "") / f"{i}.png"
            shape = (12 + number, 16 - i, 4 if i == 2 else 3)
            Image.fromarray(RNG.integers(0, 256, shape, "uint8")).save(path)
        (root / name / "notes.txt").write_text(f"a text about a {name} ü")
    (root / ".hidden").mkdir()
    return root


def arrays(dataset) -> list:
    """The batches of a data set of Keras, as tuples of arrays."""
    return [
        tuple(np.asarray(x) for x in (item if isinstance(item, tuple) else (item,)))
        for item in dataset
    ]


@pytest.mark.parametrize("mode", ["grayscale", "rgb", "rgba"])
def test_pictures_are_loaded_and_saved_as_by_keras(tmp_path, mode):
    pixels = RNG.integers(0, 256, (12, 16, 3), "uint8")
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for arguments in (
        {}, {"target_size": (7, 5), "interpolation": "lanczos"},
        {"target_size": (7, 5), "keep_aspect_ratio": True}, {"target_size": (12, 16)},
    ):  # fmt: skip
        got, want = (
            lib.utils.load_img(tmp_path / "a.png", mode, **arguments) for lib in (keraslite, keras)
        )
        assert got.mode == want.mode
        np.testing.assert_array_equal(np.asarray(got), np.asarray(want))
    for data_format in ("channels_last", "channels_first"):
        x = utils.img_to_array(got, data_format)
        np.testing.assert_array_equal(x, keras.utils.img_to_array(want, data_format))
        for scale in (True, False):
            image = utils.array_to_img(x, data_format, scale)
            theirs = keras.utils.array_to_img(x, data_format, scale)
            assert image.mode == theirs.mode
            np.testing.assert_array_equal(np.asarray(image), np.asarray(theirs))
    utils.save_img(tmp_path / "b.png", x, "channels_first", scale=False)
    with Image.open(tmp_path / "b.png") as saved:
        np.testing.assert_array_equal(np.asarray(saved), np.asarray(image))


def test_bad_pictures_are_refused(tmp_path):
    x = np.ones((2, 2, 4))
    with pytest.warns(UserWarning, match="no transparency"):
        utils.save_img(tmp_path / "a.jpg", x)
    assert utils.array_to_img(np.full((2, 2, 1), 300.0), scale=False).mode == "I"
    with pytest.raises(ValueError, match="1, 3 or 4 channels"):
        utils.array_to_img(x[..., :2])
    with pytest.raises(ValueError, match="rank 3"):
        utils.array_to_img(x[0])
    with pytest.raises(ValueError, match="color_mode must be"):
        utils.load_img(tmp_path / "a.jpg", "bgr")
    with pytest.raises(ValueError, match="interpolation must be"):
        utils.load_img(tmp_path / "a.jpg", target_size=(1, 1), interpolation="cubic")
    with pytest.raises(TypeError, match="path must be"):
        utils.load_img(3)
    file = io.BytesIO()
    utils.save_img(file, x[..., :3], file_format="png")
    assert utils.load_img(file).size == (2, 2)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_pictures_are_resized_as_by_the_op(interpolation):
    x = RNG.uniform(0, 255, (11, 17, 3)).astype("float32")
    for size in ((5, 7), (23, 30), (1, 17)):
        for crop, pad in ((False, False), (True, False), (False, True)):
            got = resized(x, size, interpolation, crop, pad)
            with keraslite.use_backend("numpy"):
                want = ops.image.resize(
                    x, size, interpolation, crop_to_aspect_ratio=crop, pad_to_aspect_ratio=pad
                )
            assert_close(got, want, atol=1e-3, message=f"{size} {crop} {pad}")


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"label_mode": "categorical", "interpolation": "bicubic", "color_mode": "grayscale"},
        {"label_mode": "binary", "class_names": ["owl", "cat"], "color_mode": "rgba"},
        {"label_mode": None, "crop_to_aspect_ratio": True, "batch_size": None},
        {"labels": [3, 1] * 6, "data_format": "channels_first", "interpolation": "nearest"},
        {"labels": None, "batch_size": 3, "validation_split": 0.3, "subset": "validation"},
    ],
    ids=lambda arguments: "-".join(arguments) or "defaults",
)
def test_a_folder_is_read_as_by_keras(folder, arguments):
    pytest.importorskip("tensorflow")
    arguments = {"image_size": (8, 10), "batch_size": 5, "shuffle": False, **arguments}
    ours, theirs = (
        lib.utils.image_dataset_from_directory(folder, verbose=False, **arguments)
        for lib in (keraslite, keras)
    )
    assert ours.class_names == theirs.class_names
    assert ours.file_paths == list(theirs.file_paths)
    got, want = arrays(ours), arrays(theirs)
    assert len(ours) == len(got)
    # TensorFlow makes a picture grey in its decoder, Pillow by rounded weights.
    assert_close(got, want, atol=1.5 if arguments.get("color_mode") == "grayscale" else 2e-3)
    assert {a[0].dtype for a in got} == {np.dtype("float32")}
    assert got[0][1:] == () or got[0][1].dtype == want[0][1].dtype


def test_files_are_shuffled_and_split_as_by_keras(folder):
    pytest.importorskip("tensorflow")
    arguments = {"seed": 3, "validation_split": 0.25, "subset": "both", "verbose": False}
    ours, theirs = (
        lib.utils.image_dataset_from_directory(folder, image_size=8, **arguments)
        for lib in (keraslite, keras)
    )
    for a, b in zip(ours, theirs, strict=True):
        assert a.file_paths == list(b.file_paths)
    texts = [
        lib.utils.text_dataset_from_directory(
            folder, shuffle=False, verbose=False, max_length=16, class_names=["owl", "dog"]
        )
        for lib in (keraslite, keras)
    ]
    (x, y), (want, labels) = next(iter(texts[0])), next(iter(texts[1]))
    assert x.tolist() == ["a text about a o", "a text about a d"]
    assert [t.decode()[:16] for t in want.numpy().tolist()] == x.tolist()
    assert_close(y, labels)


def test_epochs_have_orders_that_follow_from_the_seed(folder, capsys):
    data, again = (
        utils.image_dataset_from_directory(
            folder, image_size=4, seed=7, batch_size=12, verbose=verbose
        )
        for verbose in (True, False)
    )
    assert capsys.readouterr().out == "Found 12 files belonging to 3 classes.\n"
    first, second = (next(iter(data))[1].tolist() for _ in range(2))
    assert first != second
    assert sorted(first) == sorted(second)
    assert next(again.epoch(1))[1].tolist() == second
    halves = again.map(lambda x, y: (x / 2, y)).take(1).prefetch(2)
    assert len(halves) == 1
    ((x, _),) = halves.epoch(0)
    assert_close(x * 2, next(again.epoch(0))[0])
    before = threading.active_count()
    batches = data.epoch(0)
    next(batches)
    batches.close()  # the threads end with the epoch
    assert threading.active_count() == before


def test_few_files_are_read_ahead():
    loaded = []

    def load(path):
        loaded.append(path)
        return np.zeros(1)

    data = FileDataset([str(i) for i in range(200)], None, load, batch_size=4, workers=2)
    for number, _ in enumerate(data):
        assert len(loaded) <= 4 * (number + 1) + 2 * 4 + 2
    assert len(loaded) == 200


def test_fit_reads_a_folder_and_is_resumed_in_order(folder, tmp_path):
    data = utils.image_dataset_from_directory(
        folder, image_size=(4, 4), seed=1, batch_size=3, verbose=False
    )
    seen = []

    def note(x, y):
        seen.append(y.tolist())
        return x / 255, y

    def network():
        model = models.Sequential([layers.Input((4, 4, 3)), layers.Flatten(), layers.Dense(3)])
        model.compile("sgd", "mse")
        return model

    with keraslite.use_backend("torch" if "torch" in keraslite.backend.available() else "jax"):
        one_hot = data.map(note).map(lambda x, y: (x, np.eye(3, dtype="float32")[y]))
        network().fit(one_hot, epochs=3, verbose=0)
        expected = [y.tolist() for epoch in range(3) for _, y in data.epoch(epoch)]
        assert seen == expected
        seen.clear()
        network().fit(one_hot, epochs=3, initial_epoch=2, verbose=0)
        assert seen[-4:] == expected[-4:]  # after the batch that the model is built with


def test_bad_folders_are_refused(folder, tmp_path):
    def read(where=folder, **arguments):
        return utils.image_dataset_from_directory(where, verbose=False, **arguments)

    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ({"where": tmp_path}, "There is no file that ends in .bmp"),
        ({"label_mode": "binary"}, r"needs two classes, got \['cat', 'dog', 'owl'\]"),
        ({"class_names": ["cow"]}, r"there are none for \['cow'\]"),
        ({"labels": [1, 2]}, "got 2 labels for 12 files"),
        ({"labels": "folder"}, "labels must be"),
        ({"labels": [1] * 12, "class_names": ["a"]}, "class_names can be set"),
        ({"validation_split": 0.2}, "set together"),
        ({"validation_split": 0.2, "subset": "training"}, "seed must be set"),
        ({"validation_split": 2.0, "subset": "training"}, "between 0 and 1"),
        ({"validation_split": 0.01, "subset": "validation", "seed": 1}, "leaves one part empty"),
        ({"subset": "train", "validation_split": 0.1}, "subset must be"),
        ({"image_size": (1, 2, 3)}, "image_size must be"),
        ({"interpolation": "area"}, "interpolation must be one of"),
        ({"crop_to_aspect_ratio": True, "pad_to_aspect_ratio": True}, "At most one"),
    ):
        with pytest.raises(ValueError, match=message):
            read(**arguments)
    with pytest.raises(NotADirectoryError, match="no folder"):
        read(tmp_path / "missing")
    (tmp_path / "empty" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"broken.png cannot be read as a picture"):
        next(iter(read(tmp_path)))


@pytest.mark.parametrize("sizes", [(0.7, None), (None, 3), (0.5, 0.2), (4, None)])
@pytest.mark.parametrize("shuffle", [False, True])
def test_rows_are_split_as_by_keras(sizes, shuffle):
    pytest.importorskip("tensorflow")
    x, y = np.arange(20.0).reshape(10, 2), np.arange(10)
    for data in (x, (x, y)):
        parts = utils.split_dataset(data, *sizes, shuffle, seed=5)
        theirs = keras.utils.split_dataset(data, *sizes, shuffle, seed=5)
        for part, expected in zip(parts, theirs, strict=True):
            rows = list(expected.as_numpy_iterator())
            assert len(part) == part.cardinality() == len(rows)
            assert_close(list(part), rows)
    assert sum(len(batch[0]) for batch in parts[0].batch(3)) == len(parts[0])


def test_data_sets_are_split_without_being_read():
    class Squares:
        asked = []

        def __len__(self):
            return 5

        def __getitem__(self, index):
            self.asked.append(index)
            return index**2

    left, right = utils.split_dataset(Squares(), right_size=2)
    assert Squares.asked == []
    assert (list(left), list(right)) == ([0, 1, 4], [9, 16])
    assert [len(part) for part in utils.split_dataset(iter(range(4)), left_size=1)] == [1, 3]
    for arguments, message in (
        ({}, "must be set"), ({"left_size": 1.5}, "fraction between 0 and 1"),
        ({"left_size": 4, "right_size": 4}, "not be more than 5"),
        ({"left_size": 0.01}, "Both parts"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            utils.split_dataset(Squares(), **arguments)
    with pytest.raises(ValueError, match="same number of rows"):
        utils.split_dataset([np.ones(2), np.ones(3)], left_size=1)
    with pytest.raises(TypeError, match="must be an int or a float"):
        utils.split_dataset(np.ones(3), left_size="1")


@pytest.mark.parametrize(
    "arguments",
    [
        {}, {"sequence_stride": 2, "sampling_rate": 3, "batch_size": 3},
        {"start_index": 4, "end_index": 17}, {"batch_size": None, "sequence_stride": 5},
    ],
    ids=lambda arguments: "-".join(arguments) or "defaults",
)  # fmt: skip
def test_windows_over_time_are_those_of_keras(arguments):
    pytest.importorskip("tensorflow")
    steps, targets = np.arange(40.0).reshape(20, 2), np.arange(20)
    for y in (None, targets):
        ours, theirs = (
            lib.utils.timeseries_dataset_from_array(steps, y, 4, **arguments)
            for lib in (keraslite, keras)
        )
        got = arrays(ours)
        assert len(ours) == len(got)
        assert_close(got, arrays(theirs))
    data = utils.timeseries_dataset_from_array(steps, targets, 4, shuffle=True, seed=1)
    (_, first), (_, second) = next(iter(data)), next(iter(data))
    assert first.tolist() != second.tolist()
    assert sorted(first.tolist()) == list(range(17))
    for bad, message in (
        ({"sequence_length": 30}, "from 1 to 20"), ({"sampling_rate": 8}, "No window of 4 steps"),
        ({"start_index": 8, "end_index": 5}, "must be a range"), ({"sequence_stride": 0}, "from 1"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            utils.timeseries_dataset_from_array(steps, None, **{"sequence_length": 4, **bad})
