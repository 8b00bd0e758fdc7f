"""Data sets whose rows are a picture and its label: of Hugging Face, of torch, and lists."""

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

import hub
import keraslite as keras

NAMES = ["daisy", "rose", "tulip"]
NUMBERS = [0, 1, 2] * 4


@pytest.fixture(autouse=True)
def on_torch():
    with keras.use_backend("torch"):
        yield


def pictures():
    """Noise of several sizes in the colour of its class."""
    rng = np.random.default_rng(0)
    images = []
    for i, number in enumerate(NUMBERS):
        pixels = rng.integers(0, 100, (12 + i, 16, 3), "uint8")
        pixels[..., number] += 150
        images.append(Image.fromarray(pixels))
    return images


def of_hugging_face(names=NAMES, labels=NUMBERS):
    label = datasets.ClassLabel(names=names) if names else datasets.Value("int64")
    features = datasets.Features({"picture": datasets.Image(), "label": label})
    return datasets.Dataset.from_dict({"picture": pictures(), "label": labels}, features)


class Torch(torch.utils.data.Dataset):
    """A data set as those of torchvision."""

    classes = NAMES

    def __init__(self):
        self.images, self.read = pictures(), []

    def __len__(self):
        return len(self.images)

    def __getitem__(self, row):
        self.read.append(row)
        return self.images[row], NUMBERS[row]


def pairs():
    return [(image, NAMES[number]) for image, number in zip(pictures(), NUMBERS, strict=True)]


def classifier(num_classes=None, **options):
    keras.utils.set_random_seed(0)
    backbone = hub.ResNetBackbone((4, 8, 8, 8), (1, 1, 1, 1), "basic_block", input_conv_filters=4)
    ready = hub.ImagePreprocessor("ViT", size=12)
    model = hub.ImageClassifier(backbone, num_classes, ready, **options)
    model.compile(keras.optimizers.SGD(0.1))
    return model


@pytest.mark.parametrize("make", [of_hugging_face, Torch, pairs])
def test_rows_are_trained_on_as_images_and_labels(make):
    """The same weights as from two columns, and everything else that a folder is taken for."""
    data, options = make(), {"epochs": 2, "batch_size": 4, "shuffle": False, "verbose": 0}
    ours, expected = classifier(labels=NAMES), classifier(labels=NAMES)
    ours.fit(data, **options)
    expected.fit(pictures(), np.array(NUMBERS), **options)
    for a, b in zip(ours.weights, expected.weights, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)
    scores = expected.predict(pictures(), verbose=0)
    np.testing.assert_allclose(ours.predict(data, verbose=0), scores, rtol=1e-4, atol=1e-5)
    wrong = classifier(labels=NAMES).mistakes(data, count=1)[0]
    assert NUMBERS[wrong["row"]] == NAMES.index(wrong["label"])
    assert np.array_equal(wrong["image"], pictures()[wrong["row"]])
    fresh = classifier()
    history = fresh.fit(
        data, validation_split=0.25, augment="auto", mixup=0.2, warmup_epochs=1, **options
    ).history
    assert fresh.labels == NAMES
    assert np.isfinite(history["val_loss"]).all()


def test_labels_without_names_are_class_numbers():
    data = of_hugging_face(names=None)
    model = classifier(3)
    model.fit(data, verbose=0)
    assert model.labels == ["LABEL_0", "LABEL_1", "LABEL_2"]
    with pytest.raises(ValueError, match=r"must be named as the classes.*got \[2\]"):
        classifier().fit(data, verbose=0)
    named = classifier(labels=NAMES)
    assert next(named.folder_data(data, 12).epoch(0))[1].tolist() == NUMBERS


def test_images_without_labels_are_predicted():
    model = classifier(3)
    expected = model.predict(pictures(), verbose=0)
    for data in (
        of_hugging_face().remove_columns("label"), of_hugging_face(labels=[-1] * 12),
    ):  # fmt: skip
        np.testing.assert_allclose(model.predict(data, verbose=0), expected, rtol=1e-5)
        assert len(model.classify(data)) == 12
        with pytest.raises(ValueError, match="must have a column of labels"):
            model.fit(data)


def test_labels_are_read_once_and_pictures_when_they_are_asked_for():
    data = Torch()
    model = classifier()
    model.fit(data, epochs=2, verbose=0)
    assert sorted(data.read[1:13]) == list(range(12))  # for the labels, after a look at the first
    data.targets, data.read = NUMBERS, []
    model.predict(data, verbose=0)
    assert max(np.bincount(data.read)) < 4


def test_bad_rows_are_named():
    broken = of_hugging_face().to_dict()
    broken["picture"][5] = {"bytes": b"no picture", "path": None}
    data = datasets.Dataset.from_dict(broken, of_hugging_face().features)
    with pytest.raises(ValueError, match="[Rr]ow 5"):
        classifier().fit(data, verbose=0)
    with pytest.warns(UserWarning, match="[Rr]ow 5.*left out"):
        classifier().fit(data, on_error="skip", verbose=0)
    with pytest.raises(ValueError, match="The label of row 1 must be a name or a class number"):
        classifier().fit([(pictures()[0], "a"), (pictures()[1], None)], verbose=0)
    with pytest.raises(ValueError, match=r"must be named as the classes.*got \['lily'\]"):
        classifier(labels=NAMES).fit([*pairs(), (pictures()[0], "lily")], verbose=0)
