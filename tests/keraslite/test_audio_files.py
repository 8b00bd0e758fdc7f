"""Recordings: WAV files against libsndfile, data sets of them against Keras's."""

import sys

import keras
import numpy as np
import pytest
import soundfile
from compare import assert_close

import keraslite
from keraslite import layers, models, utils
from keraslite.utils.wav import read_wav

RNG = np.random.default_rng(0)
SOUND = RNG.uniform(-1, 1, (21, 2))


@pytest.mark.parametrize("container", ["WAV", "WAVEX"])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_samples_are_those_of_libsndfile(container, subtype, tmp_path):
    for channels in (1, 2):
        path = tmp_path / "a.wav"
        soundfile.write(path, SOUND[:, :channels], 11025, subtype, format=container)
        samples, rate = read_wav(path)
        expected, _ = soundfile.read(path, dtype="float32", always_2d=True)
        assert rate == 11025 and samples.dtype == np.float32
        assert_close(samples, expected, atol=1e-7)


def test_unusual_and_damaged_files(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, SOUND[:, 0], 8000, "PCM_16")
    content, (expected, _) = path.read_bytes(), read_wav(path)
    at = content.index(b"data")
    chunk = b"LIST\x03\0\0\0abc\0"  # of an odd size
    for changed, samples in (
        (content[:at] + chunk + content[at:], expected),
        (content[: at + 4] + b"\xff\xff\xff\xff" + content[at + 8 :], expected),  # from a pipe
        (content[:-3], expected[:-2]),
    ):
        path.write_bytes(changed)
        np.testing.assert_array_equal(read_wav(path)[0], samples)
    for changed, message in (
        (b"ID3 and more bytes", "no WAV file"),
        (content[:at], "damaged"),
        (content[:12] + content[at:], "damaged"),
        (content.replace(b"fmt \x10\0\0\0\x01", b"fmt \x10\0\0\0\x55"), "format 85 of 16 bits"),
    ):
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=message):
            read_wav(path)


@pytest.fixture(autouse=True)
def own_form():
    """Data sets of our own form: with the backend tensorflow they would be those of tf.data."""
    with keraslite.use_backend("numpy"):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five recordings a class, of several lengths, and a file of another kind."""
    root = tmp_path_factory.mktemp("sounds")
    for number, name in enumerate(("bark", "meow")):
        (root / name).mkdir()
        for i in range(5):
            sound = SOUND[: 5 + 3 * i + number]
            soundfile.write(root / name / f"{i}.wav", sound, 8000, "PCM_16")
        (root / name / "notes.txt").write_text("a text")
    return root


def arrays(data):
    batches = ((item if isinstance(item, tuple) else (item,)) for item in data)
    return [tuple(np.asarray(x) for x in batch) for batch in batches]


@pytest.mark.parametrize(
    "arguments",
    [
        {}, {"label_mode": "categorical", "batch_size": 3, "output_sequence_length": 10},
        {"label_mode": "binary", "class_names": ["meow", "bark"]}, {"labels": None},
        {"labels": [2, 1] * 5, "batch_size": None},
        {"validation_split": 0.3, "subset": "validation", "seed": 1},
    ],
    ids=lambda arguments: "-".join(arguments) or "defaults",
)  # fmt: skip
def test_batches_are_those_of_keras(folder, arguments):
    pytest.importorskip("tensorflow")
    ours, theirs = (
        arrays(
            lib.utils.audio_dataset_from_directory(
                folder, shuffle=False, verbose=False, **arguments
            )
        )
        for lib in (keraslite, keras)
    )
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert [x.dtype for x in a] == [x.dtype for x in b]
        assert_close(a, b, rtol=0, atol=0)


def test_rates_and_lengths(folder, tmp_path):
    read = utils.audio_dataset_from_directory
    ((batch, labels),) = read(folder, ragged=True, shuffle=False, verbose=False)
    assert [len(sound) for sound in batch] == [5, 8, 11, 14, 17, 6, 9, 12, 15, 18]
    assert labels.tolist() == [0] * 5 + [1] * 5 and batch[0].shape == (5, 2)
    training, held_out = read(
        folder, validation_split=0.3, subset="both", seed=1, batch_size=3, verbose=False
    )
    assert (len(training), len(held_out), training.class_names) == (3, 1, ["bark", "meow"])
    (tmp_path / "tones").mkdir()
    for rate in (8000, 16000):
        tone = np.sin(2 * np.pi * 440 * np.arange(rate // 4) / rate)
        soundfile.write(tmp_path / "tones" / f"{rate}.wav", tone, rate, "FLOAT")
    (x,) = read(
        tmp_path, labels=None, sampling_rate=16000, output_sequence_length=3900, verbose=False
    )
    assert x.shape == (2, 3900, 1)
    expected = np.sin(2 * np.pi * 440 * np.arange(3900) / 16000)
    assert_close(x[:, 300:3600, 0], np.stack([expected[300:3600]] * 2), atol=1e-3)


def test_a_model_is_trained_on_recordings(folder):
    data = utils.audio_dataset_from_directory(
        folder, output_sequence_length=16, batch_size=5, seed=1, verbose=False
    )
    utils.set_random_seed(1)
    with keraslite.use_backend("torch" if "torch" in keraslite.backend.available() else "jax"):
        model = models.Sequential([layers.Input((16, 2)), layers.Flatten(), layers.Dense(2)])
        model.compile("sgd", keraslite.losses.SparseCategoricalCrossentropy(from_logits=True))
        losses = model.fit(data, epochs=3, verbose=0).history["loss"]
    assert losses[2] < losses[0]


def test_bad_arguments(folder, tmp_path, monkeypatch):
    def read(where=folder, **arguments):
        return utils.audio_dataset_from_directory(where, verbose=False, **arguments)

    for arguments, message in (
        ({"ragged": True, "output_sequence_length": 3}, "At most one of ragged"),
        ({"sampling_rate": 8000.0}, "sampling_rate must be a positive int"),
        ({"output_sequence_length": 0}, "output_sequence_length must be a positive int"),
        ({"where": tmp_path}, "no file that ends in .wav"),
        ({"labels": "folder"}, "labels must be"),
    ):
        with pytest.raises(ValueError, match=message):
            read(**arguments)
    (tmp_path / "a").mkdir()
    for channels in (1, 2):
        soundfile.write(tmp_path / "a" / f"{channels}.wav", SOUND[:, :channels], 8000)
    with pytest.raises(ValueError, match=r"as many channels each, got \[1, 2\]"):
        next(iter(read(tmp_path)))
    monkeypatch.setitem(sys.modules, "soxr", None)
    with pytest.raises(ImportError, match="pip install soxr"):
        next(iter(read(sampling_rate=16000)))
