"""Recordings of every form to samples, against the loader of transformers, numpy and wave."""

import io
import itertools
import os
import sys
import tracemalloc
import wave

import ml_dtypes
import numpy as np
import pytest
import soundfile
from transformers.audio_utils import load_audio as transformers_load_audio

import keraslite as keras
from hub.preprocessing.audio import audio_duration, is_single_audio, load_audio, read_blocks

RANDOM = np.random.default_rng(0)
FORMATS = {
    "8 bits": ("wav", "PCM_U8"), "16 bits": ("wav", "PCM_16"), "24 bits": ("wav", "PCM_24"),
    "32 bits": ("wav", "PCM_32"), "float": ("wav", "FLOAT"), "double": ("wav", "DOUBLE"),
    "mu-law": ("wav", "ULAW"), "flac": ("flac", "PCM_16"), "ogg": ("ogg", "VORBIS"),
    "mp3": ("mp3", "MPEG_LAYER_III"), "aiff": ("aiff", "PCM_16"),
}  # fmt: skip


def sound(seconds=1.0, rate=16000, channels=1):
    """Tones in noise, (samples, channels)."""
    time = np.arange(round(seconds * rate)) / rate
    tones = np.sin(2 * np.pi * np.outer(time, np.arange(1, channels + 1) * 330))
    return 0.4 * tones + 0.05 * RANDOM.standard_normal(tones.shape)


def write(path, samples, rate=16000, subtype=None):
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("name", FORMATS)
def test_files_are_read_as_by_transformers(name, rate, channels, tmp_path):
    extension, subtype = FORMATS[name]
    path = write(tmp_path / f"a.{extension}", sound(0.7, rate, channels), rate, subtype)
    expected = transformers_load_audio(str(path), 16000, backend="soundfile")
    samples = load_audio(path)
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, expected, rtol=0, atol=1e-7)
    assert abs(samples).max() == pytest.approx(0.45, abs=0.15)  # of full scale
    np.testing.assert_array_equal(load_audio(path.read_bytes()), samples)
    with open(path, "rb") as file:
        np.testing.assert_array_equal(load_audio(file), samples)
        np.testing.assert_array_equal(load_audio(file), samples)
    assert audio_duration(path) == pytest.approx(0.7, abs=1e-4)


@pytest.mark.parametrize("name", ["wav", "aiff", "mp3", "w64"])
def test_truncated_files_are_told_from_whole_ones(name, tmp_path):
    path = write(tmp_path / f"a.{name}", sound(4.0))
    data = path.read_bytes()
    assert len(load_audio(path)) == 64000
    if name == "mp3":  # with a tag before it, and one after
        data = b"ID3\4\0\0\0\0\7\x68" + bytes(1000) + data
        assert len(load_audio(data + bytes(10000) + b"APETAGEX" + bytes(24))) == 64000
    path.write_bytes(data[: len(data) // 2])
    with pytest.warns(UserWarning, match=r"a\.\w+\) is truncated .* 4.0 s, of which [12]\.\d s"):
        assert 16000 < len(load_audio(path)) < 33000


def test_streamed_headers_say_no_length():
    file = io.BytesIO()
    soundfile.write(file, sound(1.0), 16000, format="WAV", subtype="PCM_16")
    data = file.getvalue()
    at = data.index(b"data") + 4
    for size in (0xFFFFFFFF, 0x7FFFFFFF):
        assert len(load_audio(data[:at] + size.to_bytes(4, "little") + data[at + 4 :])) == 16000


@pytest.mark.parametrize("name", ["flac", "mp3"])
def test_damaged_files_are_refused(name, tmp_path):
    path = write(tmp_path / f"a.{name}", sound(8.0))
    data = bytearray(path.read_bytes())
    at = len(data) // 2
    data[at : at + 3000] = bytes(3000)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.\w+\) is damaged after [2345]\.\d s \(libsndfile: "):
        load_audio(path)


def test_sound_after_the_length_of_an_mp3_is_told(tmp_path):
    data = write(tmp_path / "a.mp3", sound(4.0)).read_bytes()
    with pytest.warns(UserWarning, match="bytes after the 4.0 s that were read: it is several"):
        assert len(load_audio(data + data)) == 64000
    path = tmp_path / "b.mp3"
    samples = np.concatenate([0.001 * sound(2.0), sound(4.0)])
    with soundfile.SoundFile(path, "w", 16000, 1, bitrate_mode="VARIABLE") as file:
        file.write(samples)
    data = path.read_bytes()
    assert len(load_audio(data)) == 96000
    frame = data.index(b"\xff\xf3", 4)  # after the one that states the length
    with pytest.warns(UserWarning, match="a variable rate that does not say its length"):
        assert len(load_audio(data[frame:])) < 90000


def test_raw_samples_of_a_pipe_come_as_they_are_written():
    reading, writing = os.pipe()
    with open(reading, "rb") as pipe, open(writing, "wb", buffering=0) as end:
        blocks = read_blocks(pipe, pcm="int16", block_seconds=0.1)
        for value in (1, 2):
            end.write(np.full(1600, value, "int16").tobytes())
            np.testing.assert_array_equal(next(blocks), np.full(1600, value / 32768, "float32"))
        end.write(b"\0")
        end.close()
        with pytest.raises(ValueError, match="whole samples of 2 bytes, got 1 bytes at the end"):
            next(blocks)


@pytest.mark.parametrize("bytes_per_sample", [1, 2, 3, 4])
def test_integers_in_files_have_the_scale_of_their_type(bytes_per_sample, tmp_path):
    """Files written by the standard library."""
    bits = 8 * bytes_per_sample
    values = RANDOM.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (500, 2))
    stored = values + 128 if bits == 8 else values  # unsigned
    data = b"".join(
        int(v).to_bytes(bytes_per_sample, "little", signed=bits > 8) for v in stored.flatten()
    )
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((2, bytes_per_sample, 16000, 0, "NONE", None))
        file.writeframes(data)
    expected = (values / 2 ** (bits - 1)).mean(axis=1)
    np.testing.assert_allclose(load_audio(str(tmp_path / "a.wav")), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_resampling_keeps_what_the_new_rate_can_carry(rate):
    time, new_time = np.arange(2 * rate) / rate, np.arange(32000) / 16000
    samples = load_audio((rate, np.sin(2 * np.pi * 1000 * time)))
    assert samples.shape == (32000,)
    middle = slice(1000, -1000)
    expected = np.sin(2 * np.pi * 1000 * new_time)
    np.testing.assert_allclose(samples[middle], expected[middle], rtol=0, atol=1e-4)
    if rate > 20000:  # above half of the new rate: it would come back as another tone
        aliased = load_audio((rate, np.sin(2 * np.pi * 9000 * time)))
        assert abs(aliased[middle]).max() < 1e-4


TYPES = {
    "int8": 2**7, "int16": 2**15, "int32": 2**31, "uint8": 2**7, "uint16": 2**15, "uint32": 2**31,
    ">i2": 2**15, "float16": 1, "float32": 1, "float64": 1, ">f4": 1,
}  # fmt: skip


@pytest.mark.parametrize("dtype", TYPES)
def test_arrays_are_scaled_by_their_type(dtype):
    scale = TYPES[dtype]
    wanted = np.array([-1, -0.5, 0, 0.25, 0.5])
    values = wanted * scale + (scale if np.dtype(dtype).kind == "u" else 0)
    np.testing.assert_array_equal(load_audio(values.astype(dtype)), wanted)


def test_bfloat16_and_lists():
    values = [-1.0, 0.0, 0.25]
    np.testing.assert_array_equal(load_audio(np.array(values, ml_dtypes.bfloat16)), values)
    np.testing.assert_array_equal(load_audio(values), values)
    np.testing.assert_array_equal(load_audio([values, values]), values)


def test_channels_are_the_shorter_axis():
    stereo = sound(0.1, channels=2).astype("float32")
    expected = stereo.mean(axis=1)
    for samples in (stereo, stereo.T, np.asfortranarray(stereo), stereo[:, :1], stereo[:, 0]):
        mono = stereo[:, 0] if samples.size < stereo.size else expected
        np.testing.assert_allclose(load_audio(samples), mono, rtol=0, atol=1e-7)
    np.testing.assert_allclose(load_audio((16000, stereo)), expected, rtol=0, atol=1e-7)


def test_rates_beside_arrays():
    samples = sound(0.5, 22050, 2)
    expected = load_audio((22050, samples))
    assert len(expected) == 8000
    np.testing.assert_array_equal(load_audio((samples, 22050)), expected)
    np.testing.assert_array_equal(load_audio((np.int64(22050), samples.T)), expected)
    np.testing.assert_array_equal(
        load_audio({"path": None, "array": samples, "sampling_rate": 22050}), expected
    )
    assert audio_duration((22050, samples)) == 0.5


def test_tensors(backend):
    samples = sound(0.2, channels=2).astype("float32")
    tensor = keras.ops.convert_to_tensor(samples)
    np.testing.assert_array_equal(load_audio(tensor), load_audio(samples))
    chunks = (tensor[i : i + 500] for i in range(0, len(samples), 500))
    np.testing.assert_array_equal(load_audio(chunks), load_audio(samples))


@pytest.mark.parametrize("rate", [16000, 44100])
def test_blocks_are_the_recording(rate, tmp_path):
    path = write(tmp_path / "a.wav", sound(7.3, rate, 2), rate)
    blocks = list(read_blocks(path, block_seconds=2.0))
    assert [len(b) for b in blocks] == [32000, 32000, 32000, 20800]
    expected = transformers_load_audio(str(path), 16000, backend="soundfile")
    np.testing.assert_allclose(np.concatenate(blocks), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("form", ["file", "array", "raw"])
def test_blocks_hold_a_part_of_the_recording(form, tmp_path):
    samples = np.tile((sound(1, 48000, 2) * 2**15).astype("int16"), (90, 1))
    source, settings = (48000, samples), {"block_seconds": 1}
    if form == "file":
        source = write(tmp_path / "a.flac", samples, 48000)
    elif form == "raw":
        source, settings = (48000, samples.tobytes()), {**settings, "pcm": "int16", "channels": 2}
    load_audio((8000, np.zeros(9)))  # imports
    tracemalloc.start()
    seconds = sum(len(block) for block in read_blocks(source, **settings)) / 16000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds == 90
    assert peak < 14e6  # the whole in floats has 35 MB


@pytest.mark.parametrize("size", [1, 160, 4001])
def test_live_chunks_are_the_recording(size):
    samples = (sound(0.5, 8000, 2) * 2**15).astype("int16")
    expected = load_audio((8000, samples))
    chunks = [samples[i : i + size] for i in range(0, len(samples), size)]
    if size == 1:  # the first chunk says which axis is that of time
        chunks = [samples[:100], np.zeros((0, 2), "int16"), *chunks[100:]]
    np.testing.assert_array_equal(load_audio((8000, iter(chunks))), expected)
    assert audio_duration((8000, iter(chunks))) is None


def test_live_input_has_no_end():
    endless = (np.full(1600, i, "float32") for i in itertools.count())
    first, second = itertools.islice(read_blocks(endless, block_seconds=0.25), 2)
    np.testing.assert_array_equal(first, np.repeat([0.0, 1, 2], [1600, 1600, 800]))
    np.testing.assert_array_equal(second, np.repeat([2.0, 3, 4], [800, 1600, 1600]))


@pytest.mark.parametrize("dtype", ["int16", ">i2", "uint8", "<f4"])
def test_raw_samples(dtype, tmp_path):
    scale = {"int16": 2**15 - 1, ">i2": 2**15 - 1, "uint8": 127, "<f4": 1}[dtype]
    samples = (sound(0.3, 8000, 2) * scale + (128 if dtype == "uint8" else 0)).astype(dtype)
    expected, data = load_audio((8000, samples)), samples.tobytes()
    settings = {"pcm": dtype, "channels": 2}
    np.testing.assert_array_equal(load_audio((8000, data), **settings), expected)
    (tmp_path / "a.raw").write_bytes(data)
    np.testing.assert_array_equal(load_audio((8000, tmp_path / "a.raw"), **settings), expected)
    np.testing.assert_array_equal(load_audio((8000, io.BytesIO(data)), **settings), expected)
    pieces = (data[i : i + 7] for i in range(0, len(data), 7))  # that end within a sample
    np.testing.assert_array_equal(load_audio((8000, pieces), **settings), expected)
    for source in (data, tmp_path / "a.raw"):
        assert audio_duration((8000, source), **settings) == pytest.approx(0.3)


def test_a_file_that_does_not_say_its_length(tmp_path):
    path = write(tmp_path / "a.flac", sound(0.5))
    header = bytearray(path.read_bytes())
    header[21] &= 0xF0  # the number of samples in STREAMINFO, 36 bits
    header[22:26] = bytes(4)
    with pytest.raises(ValueError, match="length in its header"):  # libsndfile cannot read on
        load_audio(bytes(header))
    assert audio_duration(bytes(header)) is None
    assert audio_duration(write(tmp_path / "empty.wav", np.zeros(0))) == 0


def test_a_pipe(tmp_path):
    class Pipe(io.RawIOBase):
        def __init__(self, data):
            self.data = io.BytesIO(data)

        def readable(self):
            return True

        def readinto(self, buffer):
            return self.data.readinto(buffer)

    path = write(tmp_path / "a.wav", sound(0.2))
    samples = load_audio(io.BufferedReader(Pipe(path.read_bytes())))
    np.testing.assert_array_equal(samples, load_audio(path))
    raw = soundfile.read(path, dtype="int16")[0].tobytes()
    np.testing.assert_array_equal(load_audio(io.BufferedReader(Pipe(raw)), pcm="int16"), samples)


def not_finite(value):
    samples = np.zeros(16000, "float32")
    samples[4000] = value
    return samples


BAD = {
    "no audio": (b"no audio at all", {}, "libsndfile reads .* with pcm: Format not recognised"),
    "m4a": (b"\0\0\0\x20ftypM4A ", {}, "one of m4a, mp4 or webm by `ffmpeg -i IN OUT.wav`"),
    "no bytes": (b"", {}, "is empty: it has no bytes"),
    "empty array": (np.zeros(0, "float32"), {}, "is empty"),
    "empty stereo": (np.zeros((0, 2), "float32"), {}, "is empty"),
    "empty stream": (iter([]), {}, "is empty"),
    "no raw samples": (b"", {"pcm": "int16"}, "is empty"),
    "NaN": (not_finite(np.nan), {}, r"NaN or infinite sample at 0\.250 s"),
    "infinite": ((32000, not_finite(np.inf)), {}, r"at 0\.125 s"),
    "too large": (np.full(9, 1e300), {}, "NaN or infinite"),
    "integers as floats": (np.full(9, -32768.0), {}, "floats from -1 to 1, got 32768: leave int"),
    "wide integers": (np.zeros(9, "int64"), {}, "8, 16 or 32 bits"),
    "complex": (np.zeros(9, "complex64"), {}, "floats from -1 to 1"),
    "booleans": (np.zeros(9, bool), {}, "floats from -1 to 1"),
    "square": (np.zeros((2, 2)), {}, "samples than channels"),
    "volume": (np.zeros((2, 3, 4)), {}, "samples than channels"),
    "too many channels": (np.zeros((100, 99)), {}, "samples than channels"),
    "scalar": (np.zeros(()), {}, "samples than channels"),
    "ragged": ([[0.1, 0.2], [0.1]], {}, "channels of the same length"),
    "other channels": (iter([np.zeros((9, 2)), np.zeros((9, 3))]), {}, "2 channels in every"),
    "deep chunk": (iter([np.zeros(9), np.zeros((2, 3, 4))]), {}, "samples than channels"),
    "numbers": (iter([0.1, 0.2]), {}, "samples than channels"),
    "rate": ((0, np.zeros(9)), {}, "must be a positive number"),
    "URL": ("https://example.org/a.wav", {}, "download it"),
    "half a sample": (b"abc", {"pcm": "int16"}, "whole samples of 2 bytes"),
    "pcm": (b"abcd", {"pcm": "U1"}, "must be a type of numpy's"),
    "pcm of ffmpeg": (b"abcd", {"pcm": "s16le"}, "got 's16le'"),
    "channels": (b"abcd", {"pcm": "int16", "channels": 0}, "channels must be from 1"),
    "text file": (io.StringIO("a"), {}, "binary mode"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_audio(case):
    source, settings, message = BAD[case]
    with pytest.raises(ValueError, match=message) as error:
        load_audio(source, name="Audio 3", **settings)
    assert case in ("rate", "channels") or case.startswith("pcm") or "Audio 3" in str(error.value)


def test_other_types():
    for source in (3, None, {"samples": np.zeros(9)}, iter([b"ab"]), (8000, "a.wav"), ["a", "b"]):
        with pytest.raises((TypeError, ValueError), match="The audio"):
            load_audio(source)
    with pytest.raises(TypeError, match="set pcm"):
        load_audio(iter([b"abcd"]))
    with pytest.raises(TypeError, match="bytes with pcm"):
        load_audio(np.zeros(9), pcm="int16")
    with pytest.raises(ValueError, match="block_seconds"):
        next(read_blocks(np.zeros(9), block_seconds=0))


def test_errors_name_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.wav"):
        load_audio(tmp_path / "missing.wav")
    with pytest.raises(ValueError, match="folder"):
        load_audio(tmp_path)
    (tmp_path / "a.wav").write_bytes(b"")
    (tmp_path / "a.raw").write_bytes(b"1234")
    (tmp_path / "empty.wav").write_bytes(b"")
    write(tmp_path / "empty.wav", np.zeros(0))
    write(tmp_path / "nan.wav", not_finite(np.nan), subtype="FLOAT")
    flac = write(tmp_path / "cut.flac", sound(3)).read_bytes()
    (tmp_path / "cut.flac").write_bytes(flac[: len(flac) // 2])
    for name in ("a.wav", "a.raw", "empty.wav", "nan.wav", "cut.flac"):
        with pytest.raises(ValueError, match=rf"Audio 1 \(.*{name}\)"):
            load_audio(tmp_path / name, name="Audio 1")


@pytest.mark.parametrize("library", ["soundfile", "soxr"])
def test_a_missing_library(library, tmp_path, monkeypatch):
    path = write(tmp_path / "a.wav", sound(0.1, 8000), 8000)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=r'pip install "keraslite-hub\[audio\]"'):
        load_audio(path)
    assert load_audio(np.zeros(16000)).shape == (16000,)  # needs neither


def test_single_recordings():
    single = ["a.wav", b"RIFF", io.BytesIO(), np.zeros(9), (8000, np.zeros(9)), [0.0, 0.1],
              (np.zeros((9, 2)), 8000), {"array": np.zeros(9), "sampling_rate": 8000},
              np.zeros((99, 2))]  # fmt: skip
    several = [["a.wav"], [np.zeros(9)], np.zeros((2, 99)), np.zeros((99, 33)), [], [(8000, np.zeros(9))], [[0.0, 0.1]],
               (np.zeros(9), np.zeros(9))]  # fmt: skip
    assert all(map(is_single_audio, single))
    assert not any(map(is_single_audio, several))
