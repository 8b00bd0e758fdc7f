"""Folders of pictures: read lazily, split by class, and what `fit` of a classifier makes of them."""

import threading
import tracemalloc
import weakref

import numpy as np
import pytest
from PIL import Image

import hub
import keraslite as keras

CLASSES = ("daisy", "rose", "tulip")


@pytest.fixture
def folder(tmp_path):
    """Five pictures a class, whose colour is that of the class."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        (tmp_path / name).mkdir()
        for i in range(5):
            pixels = rng.integers(0, 100, (12 + i, 16, 3), "uint8")
            pixels[..., number] += 150
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    return tmp_path


def classifier(num_classes=None, labels=None, **options):
    keras.utils.set_random_seed(0)
    backbone = hub.ResNetBackbone((4, 8, 8, 8), (1, 1, 1, 1), "basic_block", input_conv_filters=4)
    preprocessor = hub.ImagePreprocessor("ViT", size=12)
    return hub.ImageClassifier(backbone, num_classes, preprocessor, labels=labels, **options)


def test_pictures_are_read_when_they_are_asked_for(folder):
    data = hub.ImageFolder(folder)
    assert (len(data), data.class_names) == (15, list(CLASSES))
    (folder / "rose" / "0.png").write_bytes(b"no picture")  # nothing was read so far
    picture, name = data[0]
    assert (picture.size, picture.mode, name) == ((16, 12), "RGB", "daisy")
    with pytest.raises(ValueError, match=r"Pillow cannot read .*rose/0.png"):
        data[5]
    with pytest.raises(ValueError, match=r"rose/0.png"):
        list(data)
    skipping = hub.ImageFolder(folder, on_error="skip", transform=lambda p: p.resize((4, 6)))
    with pytest.warns(UserWarning, match=r"rose/0.png.*It is left out"):
        pairs = list(skipping)
    expected = ["daisy"] * 5 + ["rose"] * 4 + ["tulip"] * 5
    assert [name for _, name in pairs] == expected
    with pytest.warns(UserWarning, match=r"rose/0.png"):
        sizes = [len(y) for _, y in skipping.batches(4)]
    assert sizes == [4, 3, 4, 3]


def test_a_split_has_every_class_in_both_parts(folder):
    data = hub.ImageFolder(folder)
    for fraction, count in ((0.2, 1), (0.01, 1), (0.4, 2), (0.99, 4)):
        rest, held_out = data.split(fraction)
        assert [held_out.labels.count(name) for name in CLASSES] == [count] * 3
        assert sorted(rest.paths + held_out.paths) == data.paths
    assert data.split(0.2)[1].paths == data.split(0.2)[1].paths != data.split(0.2, seed=1)[1].paths
    for path in (folder / "rose").glob("[1-4].png"):
        path.unlink()
    with pytest.raises(ValueError, match=r"two pictures of each class, 'rose' has 1"):
        hub.ImageFolder(folder).split(0.2)
    with pytest.raises(ValueError, match="between 0 and 1"):
        data.split(1.0)


def draw(picture, seed):
    """A transform whose pixels show its seed."""
    return np.full((2, 2, 3), np.random.default_rng(seed).integers(0, 256, 3), "uint8")


def test_order_and_transforms_follow_from_seed_and_epoch(folder):
    threads = hub.ImageFolder(folder, draw).batches(4, shuffle=True, seed=3)
    first, second = (list(threads.epoch(number)) for number in (0, 1))
    assert [x.shape for x, _ in first] == [(4, 2, 2, 3)] * 3 + [(3, 2, 2, 3)]
    assert any((a != b).any() for (a, _), (b, _) in zip(first, second, strict=True))
    processes = hub.ImageFolder(folder, draw, processes=True, workers=1)
    for (a, y), (b, z) in zip(
        processes.batches(4, shuffle=True, seed=3).epoch(1), second, strict=True
    ):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(y, z)


def test_bad_folders_are_refused(folder, tmp_path):
    with pytest.raises(NotADirectoryError, match="no folder"):
        hub.ImageFolder(folder / "missing")
    with pytest.raises(ValueError, match="it has no folders"):
        hub.ImageFolder(folder / "rose")
    with pytest.raises(ValueError, match=r"none for \['cow'\]"):
        hub.ImageFolder(folder, class_names=["cow"])
    with pytest.raises(ValueError, match="on_error must be"):
        hub.ImageFolder(folder, on_error="ignore")
    with pytest.raises(ValueError, match=r"must have the same size.*0.png.*1.png"):
        next(iter(hub.ImageFolder(folder).batches(2)))
    with pytest.raises(ValueError, match="batch_size must be"):
        hub.ImageFolder(folder).batches(0)
    (folder / "violet").mkdir()
    with pytest.raises(ValueError, match=r"there are none for \['violet'\]"):
        hub.ImageFolder(folder)


def test_a_classifier_is_trained_on_a_folder(folder, trains, tmp_path):
    model = classifier()
    model.compile("adam")
    history = model.fit(folder, validation_split=0.2, epochs=2, batch_size=3, verbose=0)
    assert {"loss", "val_loss", "val_accuracy"} <= history.history.keys()
    assert model.labels == list(CLASSES)
    assert model.config_json()["id2label"] == {"0": "daisy", "1": "rose", "2": "tulip"}
    data = hub.ImageFolder(folder)
    size = {"batch_size": 3}  # of all batches, so that each step is compiled once
    scores = model.predict(data, verbose=0, **size)
    expected = model.predict(data.paths, verbose=0, **size)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)
    assert [row["label"] for row in model.classify(str(folder), **size)] == [
        CLASSES[i] for i in scores.argmax(-1)
    ]
    np.testing.assert_allclose(
        model.evaluate(folder, verbose=0, **size),
        model.evaluate(data.paths, data.labels, verbose=0, **size),
        rtol=1e-4,
    )  # fmt: skip


def test_held_out_pictures_are_not_transformed(folder):
    seen = []

    def note(picture):
        seen.append(picture.size)
        return picture

    with keras.use_backend("torch"):
        classifier().fit(hub.ImageFolder(folder, note), validation_split=0.4, verbose=0)
    assert len(seen) == 9  # of 15, 6 are held out


def note(picture):
    """A picture as it is: something to augment with."""
    return picture


class Reading(keras.callbacks.Callback):
    """Counts the pictures that are read, and those alive, and waits for the next epoch's."""

    def __init__(self, batch):
        super().__init__()
        self.batch, self.read, self.alive, self.most, self.memory = batch, 0, 0, 0, []
        self.changed = threading.Condition()

    def transform(self, picture):
        """Count a picture until nobody has it."""
        with self.changed:
            self.read, self.alive = self.read + 1, self.alive + 1
            self.most = max(self.most, self.alive)
            self.changed.notify_all()
        weakref.finalize(picture, self.drop)
        return picture

    def drop(self):
        self.alive -= 1

    def on_epoch_end(self, epoch, logs=None):
        self.memory.append(tracemalloc.get_traced_memory()[0])
        if epoch + 1 < self.params["epochs"]:
            wanted = 15 * (epoch + 1) + self.batch
            with self.changed:
                assert self.changed.wait_for(lambda: self.read >= wanted, timeout=60)


@pytest.mark.parametrize(
    "recipe",
    [
        {}, {"mixup": 0.2}, {"augment": note, "repeats": 2}, {"class_weight": {0: 1, 1: 2, 2: 1}},
    ],
    ids=lambda recipe: "-".join(recipe),
)  # fmt: skip
def test_the_first_batch_is_read_while_an_epoch_ends_and_nothing_is_kept(folder, recipe):
    """The training waits at the end of an epoch until the next one has a batch, and goes on."""
    size = 2
    reading = Reading(size)
    with keras.use_backend("torch"):
        model = classifier()
        tracemalloc.start()
        try:
            model.fit(
                hub.ImageFolder(folder, reading.transform, workers=2), epochs=8, verbose=0,
                batch_size=size * recipe.get("repeats", 1), callbacks=[reading], **recipe,
            )  # fmt: skip
        finally:
            tracemalloc.stop()
    assert 8 * 15 <= reading.read <= 8 * 15 + 2 * size + 2  # the model is built with a batch
    assert reading.most <= 15 // 2  # the workers' and what waits to be prepared
    assert reading.memory[-1] - reading.memory[2] < 2**16


def test_a_resumed_training_sees_the_same_batches(folder, tmp_path):
    if "torch" not in keras.backend.available():
        pytest.skip("torch is not installed")

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                raise KeyboardInterrupt

    def train(*callbacks):
        model = classifier()
        model.compile(keras.optimizers.SGD(0.1))
        keras.utils.set_random_seed(1)
        return model.fit(
            folder, epochs=3, batch_size=4, verbose=0, callbacks=list(callbacks)
        ).history

    with keras.use_backend("torch"):
        whole = train()["loss"]
        with pytest.raises(KeyboardInterrupt):
            train(keras.callbacks.BackupAndRestore(tmp_path / "backup"), Stop())
        keras.utils.set_random_seed(2)
        rest = train(keras.callbacks.BackupAndRestore(tmp_path / "backup"))["loss"]
    np.testing.assert_allclose(rest[-2:], whole[-2:], rtol=1e-5)


def test_pictures_without_classes_are_predicted(folder):
    model = classifier(3)
    flat = folder / "rose"
    paths = sorted(flat.glob("*.png"))
    (flat / "notes.txt").write_text("no picture")
    np.testing.assert_array_equal(model.predict(flat, verbose=0), model.predict(paths, verbose=0))
    assert model.classify(str(flat)) == model.classify(paths)
    with pytest.raises(ValueError, match="must have a folder for each class"):
        model.fit(flat)


def test_classes_must_be_the_folders(folder):
    with keras.use_backend("torch"):
        wrong = classifier(labels=["daisy", "rose", "lily"])
        with pytest.raises(ValueError, match=r"must be named as the classes.*got \['tulip'\]"):
            wrong.fit(folder, verbose=0)
        with pytest.raises(ValueError, match="3 names.*has 2 classes"):
            classifier(2).fit(folder, verbose=0)
        with pytest.raises(ValueError, match="y and sample_weight must be None"):
            classifier().fit(folder, [0] * 15)
        with pytest.raises(ValueError, match="not both"):
            classifier().fit(folder, validation_split=0.2, validation_data=folder)
        reordered = classifier(labels=["tulip", "rose", "daisy"])
        data = reordered.folder_data(folder, 15)
        assert next(data.epoch(0))[1].tolist() == [2] * 5 + [1] * 5 + [0] * 5
        model = classifier()
        (folder / "rose" / "3.png").write_bytes(b"")
        with pytest.raises(ValueError, match="rose/3.png"):
            model.fit(folder, verbose=0)
        with pytest.warns(UserWarning, match="rose/3.png"):
            history = model.fit(folder, on_error="skip", validation_data=folder, verbose=0)
        assert np.isfinite(history.history["val_loss"]).all()


class Fixed(hub.ImageClassifier):
    """A classifier whose answer is the first class, less surely for brighter images."""

    def predict(self, x, *args, **kwargs):
        sums = [np.asarray(Image.open(path)).mean() / 512 for path in x]
        return np.array([[1 - s, s / 2, s / 2] for s in sums], "float32")


def test_the_worst_mistakes_are_shown(folder, tmp_path):
    (folder / "daisy" / "4.png").write_bytes(b"")
    for i, name in enumerate(("rose", "tulip", "rose")):
        Image.new("RGB", (300 + i, 200), (20 * i, 0, 0)).save(folder / name / f"dark{i}.png")
    with keras.use_backend("numpy"):
        backbone = hub.ResNetBackbone(
            (4, 8, 8, 8), (1, 1, 1, 1), "basic_block", input_conv_filters=4
        )
        model = Fixed(backbone, labels=CLASSES, preprocessor=hub.ImagePreprocessor("ViT", size=12))
        data = hub.ImageFolder(folder, on_error="skip")
        with pytest.warns(UserWarning, match=r"1 of the 18 images of x cannot be read"):
            worst = model.mistakes(data, count=3)
        names = [(row["image"].rpartition("/")[2], row["label"], row["predicted"]) for row in worst]
        assert names == [
            ("dark0.png", "rose", "daisy"), ("dark1.png", "tulip", "daisy"),
            ("dark2.png", "rose", "daisy"),
        ]  # fmt: skip
        assert worst[0]["score"] == 1.0
        rest = [
            i for i, path in enumerate(data.paths) if "4.png" not in path or "daisy" not in path
        ]
        x, y = ([values[i] for i in rest] for values in (data.paths, data.labels))
        assert model.mistakes(x, y, 3) == worst
        figure = model.plot_mistakes(x, y, count=3)
        assert figure.axes[0].get_title() == "rose (0%)\ntaken for daisy (100%)"
        assert np.asarray(figure.axes[0].images[0].get_array()).shape == (171, 256, 3)
        assert model.plot_confusion_matrix(x, y, path=tmp_path / "matrix.png") is None
        texts = [text.get_text() for text in model.plot_confusion_matrix(x, y).axes[0].texts]
        assert texts == ["4", "0", "0", "7", "0", "0", "6", "0", "0"]
        with pytest.raises(ValueError, match="every answer is right"):
            model.plot_mistakes(x[:2], y[:2])
        with pytest.raises(ValueError, match="a label for each of 2 images"):
            model.mistakes(x[:2], y)
