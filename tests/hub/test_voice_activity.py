"""Voice activity: synthetic sound whose speech is known."""

from itertools import pairwise

import numpy as np
import pytest

from hub.speech.voice_activity import chunk_windows, detect_speech, find_speech, loudness

RATE = 16000


def noise(seconds: float, db: float, seed: int = 0) -> np.ndarray:
    samples = np.random.default_rng(seed).normal(size=round(seconds * RATE))
    return (samples * 10 ** (db / 20)).astype(np.float32)


def voice(seconds: float, db: float = -20.0) -> np.ndarray:
    """A buzz of 120 Hz with four syllables a second, as loud at its peaks as `db` says."""
    t = np.arange(round(seconds * RATE)) / RATE
    buzz = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 20))
    envelope = 0.1 + 0.9 * np.abs(np.sin(2 * np.pi * 2 * t))
    return (buzz * envelope * 10 ** (db / 20)).astype(np.float32)


def recording(parts: list[tuple[str, float]], floor: float, db: float = -20.0) -> np.ndarray:
    """Voice and silence in turns over a floor of noise."""
    sound = [
        voice(seconds, db) if name == "voice" else np.zeros(round(seconds * RATE), np.float32)
        for name, seconds in parts
    ]
    total = np.concatenate(sound)
    return total + noise(len(total) / RATE, floor)


PARTS = [
    ("silence", 2),
    ("voice", 3),
    ("silence", 1.5),
    ("voice", 2.5),
    ("silence", 6),
    ("voice", 4),
]
SPOKEN = [(2, 5), (6.5, 9), (15, 19)]


def test_loudness_of_a_sine():
    # A sine of amplitude a has the power a^2 / 2; a constant has none.
    sine = 0.1 * np.sin(2 * np.pi * 200 * np.arange(RATE) / RATE)
    levels = loudness(sine + 0.3)
    assert levels.shape == (100,)
    np.testing.assert_allclose(levels, 10 * np.log10(0.1**2 / 2), atol=1e-3)
    np.testing.assert_allclose(loudness(np.zeros(200)), [-100, -100], rtol=1e-6)
    assert loudness(np.zeros(0)).shape == (0,)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_a_frame_has_ten_milliseconds(rate):
    assert len(loudness(np.zeros(2 * rate, np.float32), rate)) == 200


@pytest.mark.parametrize("size", [1, 7, 160, 1000, 4321])
def test_blocks_give_what_the_whole_gives(size):
    sound = recording([("voice", 0.31)], -60)
    blocks = (sound[i : i + size] for i in range(0, len(sound), size))
    np.testing.assert_allclose(loudness(blocks), loudness(sound), rtol=1e-5)


@pytest.mark.parametrize("floor", [-200, -70, -50, -40])
@pytest.mark.parametrize("gain", [-30, 0])
def test_speech_is_found_whatever_the_loudness(floor, gain):
    sound = recording(PARTS, floor) * np.float32(10 ** (gain / 20))
    stretches = detect_speech(sound, padding=0.0)
    assert len(stretches) == len(SPOKEN)
    np.testing.assert_allclose(stretches, SPOKEN, atol=0.08)


def test_noise_that_grows_is_no_speech():
    sound = recording(PARTS, -200)
    growing = noise(len(sound) / RATE, 0) * np.logspace(-3, -2.5, len(sound), dtype=np.float32)
    np.testing.assert_allclose(detect_speech(sound + growing, padding=0.0), SPOKEN, atol=0.08)


def test_padding_stays_in_the_recording():
    stretches = detect_speech(recording([("voice", 1), ("silence", 2), ("voice", 1)], -60))
    assert stretches[0][0] == 0.0 and stretches[-1][1] == 4.0
    np.testing.assert_allclose([stretches[0][1], stretches[1][0]], [1.2, 2.8], atol=0.08)


def test_stretches_that_touch_by_padding_are_one():
    sound = recording([("voice", 1), ("silence", 0.5), ("voice", 1)], -60)
    assert len(detect_speech(sound, padding=0.1)) == 2
    assert len(detect_speech(sound, padding=0.3)) == 1


def test_short_silences_and_short_sounds_do_not_count():
    levels = np.full(1000, -60.0)
    levels[200:300] = levels[320:400] = -20  # 0.2 s of silence between
    levels[700:704] = -20  # a click
    np.testing.assert_allclose(find_speech(levels, padding=0.0), [(1.98, 4.02)], atol=0.03)
    assert len(find_speech(levels, min_silence=0.05, padding=0.0)) == 2
    assert len(find_speech(levels, min_speech=0.02, padding=0.0)) == 2


def test_speech_begins_above_one_threshold_and_ends_below_another():
    levels = np.full(1000, -60.0)
    levels[300:400] = -55  # 5 dB above the noise
    levels[600:700], levels[700:800] = -30, -55
    np.testing.assert_allclose(find_speech(levels, padding=0.0), [(6.0, 8.0)], atol=0.03)
    assert len(find_speech(levels, begin_db=4.0)) == 2
    with pytest.raises(ValueError, match=r"end_db must be at most begin_db, got 9\.0 and 6\.0"):
        find_speech(levels, end_db=9.0)


def test_what_cannot_be_told_from_noise_is_kept():
    assert detect_speech(noise(5, -30)) == [(0.0, 5.0)]
    steady = np.sin(np.arange(3 * RATE, dtype=np.float32) * 0.3)
    assert detect_speech(steady) == [(0.0, 3.0)]


@pytest.mark.parametrize("sound", [np.zeros(0), np.zeros(RATE), noise(3, -90)])
def test_silence_has_no_speech(sound):
    assert detect_speech(sound) == []
    assert chunk_windows(detect_speech(sound)) == []


def test_one_channel_is_expected():
    with pytest.raises(ValueError, match=r"must have the shape \(samples,\), got \(2, 8\)"):
        detect_speech(np.zeros((2, 8)))


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ([], []),
        ([(1.0, 4.0)], [(1.0, 4.0)]),
        ([(0.0, 10.0), (12.0, 30.0), (30.5, 40.0)], [(0.0, 30.0), (30.5, 40.0)]),
        ([(5.0, 20.0), (21.0, 36.0)], [(5.0, 20.0), (21.0, 36.0)]),
        # Too long for a window: equal parts.
        ([(0.0, 75.0)], [(0.0, 25.0), (25.0, 50.0), (50.0, 75.0)]),
        ([(0.0, 40.0), (41.0, 45.0)], [(0.0, 20.0), (20.0, 45.0)]),
    ],
)
def test_windows_hold_speech(segments, expected):
    windows = chunk_windows(segments)
    np.testing.assert_allclose(np.reshape(windows, (-1, 2)), np.reshape(expected, (-1, 2)))


@pytest.mark.parametrize("seed", range(5))
def test_windows_are_short_enough_and_lose_nothing(seed):
    generator = np.random.default_rng(seed)
    times = np.cumsum(generator.exponential(8, size=40))
    segments = list(zip(times[::2], times[1::2], strict=True))
    levels = generator.normal(-30, 5, size=int(times[-1] * 100))
    for options in ({}, {"levels": levels}):
        windows = chunk_windows(segments, 10.0, **options)
        assert all(0 < end - start <= 10 + 1e-9 for start, end in windows)
        assert all(a[1] <= b[0] for a, b in pairwise(windows))
        for instant in np.concatenate([np.linspace(a, b, 20)[1:-1] for a, b in segments]):
            assert any(a <= instant <= b for a, b in windows)


def test_a_long_stretch_is_cut_where_it_is_quietest():
    levels = np.full(6000, -20.0)
    levels[2200:2220] = levels[4100:4120] = -35
    windows = chunk_windows([(0.0, 60.0)], 30.0, levels)
    cuts = [end for _, end in windows[:-1]]
    assert cuts == pytest.approx([22.1, 41.1], abs=0.11)


def test_windows_have_a_length():
    with pytest.raises(ValueError, match="max_seconds must be positive, got 0"):
        chunk_windows([(0.0, 1.0)], 0)
