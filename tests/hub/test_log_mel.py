"""Log-mel spectrograms and their settings, against transformers and KerasHub."""

import itertools
import json
import tracemalloc

import keras_hub
import numpy as np
import pytest
import soundfile
from transformers import WhisperFeatureExtractor

import hub
import keraslite as keras
from hub.preprocessing.log_mel import LogMelReader, mel_filters
from hub.presets import resolve
from hub.speech.long_form import Frames

RANDOM = np.random.default_rng(0)


def speech(seconds):
    """Noise and harmonics that swell and fade, with pauses, float32 (samples,)."""
    time = np.arange(round(seconds * 16000)) / 16000
    pitch = 140 + 40 * np.sin(2 * np.pi * 0.7 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / 16000
    voice = sum(np.sin(k * phase) / k for k in range(1, 20))
    loudness = np.maximum(0, np.sin(2 * np.pi * 1.3 * time)) * (time % 5 < 4)
    noise = RANDOM.standard_normal(len(time))
    return (0.1 * voice * loudness + (0.02 * loudness + 1e-4) * noise).astype("float32")


def features_of(extractor, samples, **kwargs):
    settings = {"sampling_rate": extractor.sampling_rate, "return_tensors": "np", **kwargs}
    return extractor(samples, **settings)["input_features"].swapaxes(1, 2)


def theirs(extractor, samples, **kwargs):
    """(batch, frames, mels), by the code of transformers for numpy, which is in float64."""
    # By torch, in float32 and with a window that is off by 2e-7, they are off by up to 4e-5.
    extractor._torch_extract_fbank_features = extractor._np_extract_fbank_features
    return features_of(extractor, samples, **kwargs)


@pytest.mark.parametrize("num_mels", [80, 128, 40])
def test_filters_are_those_of_transformers(num_mels):
    expected = WhisperFeatureExtractor(num_mels).mel_filters
    np.testing.assert_allclose(mel_filters(num_mels), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("num_mels", [80, 128])
@pytest.mark.parametrize("seconds", [0.5, 29.9, 30, 41.23])
def test_features_are_those_of_transformers(num_mels, seconds):
    extractor = WhisperFeatureExtractor(num_mels)
    converter, samples = hub.WhisperAudioConverter(num_mels), speech(seconds)
    features = converter(samples)
    assert features.shape == (1, 3000, num_mels)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, theirs(extractor, samples), rtol=0, atol=2e-5)
    whole = converter(samples, padding="longest", truncation=False)
    expected = theirs(extractor, samples, padding="longest", truncation=False)
    np.testing.assert_allclose(whole, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("num_mels", [80, 128])
def test_features_are_those_of_torch_to_its_rounding(num_mels):
    extractor, samples = WhisperFeatureExtractor(num_mels), speech(30)
    features, by_torch = (
        hub.WhisperAudioConverter(num_mels)(samples),
        features_of(extractor, samples),
    )
    exact = theirs(extractor, samples)
    np.testing.assert_allclose(features, by_torch, rtol=0, atol=5e-5)
    assert abs(features - exact).max() < abs(by_torch - exact).max()


SOUNDS = {
    "silence": np.zeros(32000),
    "tone": np.sin(np.arange(32000) * 0.3),
    "click": np.eye(1, 32000, 5000)[0],
    "noise then silence": np.r_[RANDOM.standard_normal(16000), np.zeros(16000)],
    "constant": np.ones(32000),
    "quiet": RANDOM.standard_normal(32000) * 1e-6,
}  # fmt: skip


@pytest.mark.parametrize("name", SOUNDS)
def test_features_of_extremes(name):
    samples = SOUNDS[name].astype("float32")
    converter = hub.WhisperAudioConverter()
    features = converter(samples, padding="longest")[0]
    expected = theirs(WhisperFeatureExtractor(), samples, padding="longest")[0]
    np.testing.assert_allclose(features, expected, rtol=0, atol=2e-5)


def test_batches_of_different_lengths():
    rows = [speech(3), speech(31), speech(0.1)]
    converter, extractor = hub.WhisperAudioConverter(), WhisperFeatureExtractor()
    features = converter(rows)
    np.testing.assert_allclose(features, theirs(extractor, rows), rtol=0, atol=2e-5)
    for row, alone in zip(rows, features, strict=True):
        np.testing.assert_array_equal(converter(row)[0], alone)
    for truncation in (True, False):
        settings = {"padding": "longest", "truncation": truncation}
        expected = theirs(extractor, rows, **settings)
        np.testing.assert_allclose(converter(rows, **settings), expected, rtol=0, atol=2e-5)
    equal = np.stack([speech(1), speech(1)])
    np.testing.assert_allclose(converter(equal), theirs(extractor, equal), rtol=0, atol=2e-5)


@pytest.mark.parametrize("settings", [{}, {"num_mels": 128}, {"stride": 80, "max_audio_length": 5}])
def test_features_are_those_of_keras_hub(settings):
    samples = speech(4)
    expected = np.asarray(keras_hub.layers.WhisperAudioConverter(**settings)(samples))
    features = hub.WhisperAudioConverter(**settings)(samples)[0]
    np.testing.assert_allclose(features, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("size", [1, 159, 400, 16001])
@pytest.mark.parametrize("count", [201, 399, 400, 401, 640, 16000 * 3 + 77])
def test_blocks_give_the_features_of_the_whole(count, size):
    samples = speech(count / 16000)
    size = max(size, count // 500)  # not one by one of the long one
    reader = LogMelReader()
    for start in range(0, count, size):
        reader.append(samples[start : start + size])
    reader.close()
    assert (reader.num_samples, reader.num_frames) == (count, count // 160)
    features = reader.window(0, reader.num_frames)
    expected = theirs(WhisperFeatureExtractor(), samples, padding="longest")[0]
    np.testing.assert_allclose(features, expected, rtol=0, atol=2e-5)


def test_windows_have_the_range_of_the_whole_recording():
    """The loudest part comes last, and cuts off what is 8 decades below it at the start."""
    samples = np.concatenate([1e-4 * speech(40), speech(40)])
    reader = hub.WhisperAudioConverter().read(iter(np.array_split(samples, 7)))
    settings = {"padding": "longest", "truncation": False}
    whole = theirs(WhisperFeatureExtractor(), samples, **settings)[0]
    assert reader.num_frames == 8000
    for start, length in ((0, 3000), (2999, 3000), (4321, 17), (0, 8000), (7000, 1000), (3000, 0)):
        expected = whole[start : start + length]
        np.testing.assert_allclose(reader.window(start, length), expected, rtol=0, atol=2e-5)
    tail = reader.window(7990, 3000)
    np.testing.assert_array_equal(tail[:10], reader.window(7990, 10))
    assert not tail[10:].any()
    assert not reader.window(9000, 5).any()
    alone = hub.WhisperAudioConverter()(samples)[0]
    assert abs(alone - whole[:3000]).max() > 0.5


def test_windows_before_the_end():
    reader = hub.WhisperAudioConverter().reader()
    samples = speech(3)
    reader.append(samples[:32000])
    assert reader.num_frames == 199  # the next one needs 200 samples more
    first = reader.window(0, 199)
    expected = theirs(WhisperFeatureExtractor(), samples[:32000], padding="longest")[0, :199]
    np.testing.assert_allclose(first, expected, rtol=0, atol=2e-5)
    reader.append(samples[32000:])
    reader.close()
    padded = hub.WhisperAudioConverter()(samples)[0]
    np.testing.assert_allclose(reader.window(0, 3000), padded, rtol=0, atol=1e-6)


def test_a_long_recording_costs_its_frames():
    minutes, block = 10, speech(10)
    tracemalloc.start()
    reader = hub.WhisperAudioConverter(128).read(block for _ in range(6 * minutes))
    for start in range(0, reader.num_frames, 3000):
        reader.window(start, 3000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert reader.num_frames == 6000 * minutes
    assert peak < reader.num_frames * 128 * 4 + 16e6


def test_live_input_costs_the_frames_of_its_window():
    blocks, reader = itertools.repeat(speech(1), 300), hub.WhisperAudioConverter().reader()
    tracemalloc.start()
    frames = Frames(reader, blocks)
    for start in range(0, 27000, 2500):
        assert frames.read_to(start, start + 3000) >= start + 3000
        reader.window(start, 3000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * 3000 * 80 * 4 + 4e6 < 30000 * 80 * 4
    assert frames.read_to(27000, 10**9) == 30000 and reader.is_closed
    assert reader.window(27000, 3000).shape == (3000, 80)
    with pytest.raises(ValueError, match="Frames before 27000 were discarded, got start 26999"):
        reader.window(26999, 1)


def test_files_of_other_rates(tmp_path):
    samples = speech(2)
    soundfile.write(tmp_path / "a.wav", np.stack([samples] * 2, 1), 48000)
    converter = hub.WhisperAudioConverter()
    features = converter([tmp_path / "a.wav", str(tmp_path / "a.wav"), (8000, samples)])
    assert features.shape == (3, 3000, 80)
    np.testing.assert_array_equal(features[0], features[1])
    np.testing.assert_array_equal(converter(tmp_path / "a.wav")[0], features[0])


def test_tensors(backend):
    samples = speech(1)
    features = hub.WhisperAudioConverter()(keras.ops.convert_to_tensor(np.stack([samples] * 2)))
    np.testing.assert_array_equal(features[0], hub.WhisperAudioConverter()(samples)[0])


SETTINGS = {
    "as it is": {},
    "large": {"feature_size": 128},
    "other": {"feature_size": 20, "n_fft": 256, "hop_length": 100, "chunk_length": 2},
    "8000 Hz": {"sampling_rate": 8000, "n_fft": 200, "hop_length": 80, "feature_size": 16},
}


@pytest.mark.filterwarnings("ignore:At least one mel filter:UserWarning")
@pytest.mark.parametrize("said", SETTINGS)
@pytest.mark.parametrize("combined", [False, True])
def test_settings_of_files(said, combined, tmp_path):
    extractor, samples = WhisperFeatureExtractor(**SETTINGS[said]), speech(1.5)
    if combined:
        settings = {"processor_class": "WhisperProcessor", "feature_extractor": extractor.to_dict()}
        (tmp_path / "processor_config.json").write_text(json.dumps(settings))
    else:
        extractor.save_pretrained(tmp_path)
    converter = hub.AudioConverter.from_preset(tmp_path)
    assert type(converter) is hub.WhisperAudioConverter
    expected = theirs(extractor, samples)
    np.testing.assert_allclose(converter(samples), expected, rtol=0, atol=2e-5)
    (tmp_path / "saved").mkdir()
    converter.save(tmp_path / "saved")
    again = WhisperFeatureExtractor.from_pretrained(tmp_path / "saved")
    np.testing.assert_array_equal(theirs(again, samples), expected)
    loaded = hub.WhisperAudioConverter.from_files(resolve(tmp_path / "saved"))
    assert loaded.get_config() == converter.get_config()


def test_older_files(tmp_path):
    """The first files of the library hold the filters, too."""
    settings = {
        "chunk_length": 30, "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": 80, "hop_length": 160, "mel_filters": mel_filters(80).T.tolist(),
        "n_fft": 400, "n_samples": 480000, "nb_max_frames": 3000, "padding_side": "right",
        "padding_value": 0.0, "processor_class": "WhisperProcessor",
        "return_attention_mask": False, "sampling_rate": 16000,
    }  # fmt: skip
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    converter = hub.WhisperAudioConverter.from_preset(tmp_path)
    assert converter.get_config() == hub.WhisperAudioConverter().get_config()


def test_configs():
    converter = hub.WhisperAudioConverter(128, max_audio_length=10)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(converter))
    assert again.get_config() == converter.get_config()
    theirs = keras_hub.layers.WhisperAudioConverter(128, max_audio_length=10).get_config()
    assert converter.get_config().items() <= theirs.items()


BAD = {
    "mels": ({"num_mels": 0}, "num_mels must be a positive integer"),
    "rate": ({"sampling_rate": 16000.5}, "sampling_rate must be a positive integer"),
    "stride": ({"stride": 300}, "stride must be below half of num_fft_bins"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_settings(case):
    settings, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        hub.WhisperAudioConverter(**settings)


def test_bad_files(tmp_path):
    for settings, message in (
        ({"feature_extractor_type": "ClapFeatureExtractor"}, "got ClapFeatureExtractor"),
        ({"feature_extractor_type": "WhisperFeatureExtractor", "dither": 0.1}, "dither must be"),
        ({}, "got None"),
    ):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
        with pytest.raises(ValueError, match=message):
            hub.AudioConverter.from_preset(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="preprocessor_config.json"):
        hub.AudioConverter.from_preset(tmp_path)


def test_bad_audio():
    converter = hub.WhisperAudioConverter()
    with pytest.raises(ValueError, match="Audio 1 has a NaN"):
        converter([np.zeros(9), np.full(9, np.nan)])
    with pytest.raises(ValueError, match="at least one"):
        converter([])
    with pytest.raises(ValueError, match="padding must be"):
        converter(np.zeros(9), padding="none")
    with pytest.raises(ValueError, match="more than 200 samples, got 9"):
        converter(np.zeros(9), padding="longest")
    reader = converter.read(np.zeros(9))
    with pytest.raises(ValueError, match="closed reader"):
        reader.append(np.zeros(9, "float32"))
    with pytest.raises(ValueError, match="must not be negative"):
        reader.window(-1, 3)
    with pytest.raises(ValueError, match="the shape"):
        converter.reader().append(np.zeros((2, 9), "float32"))
