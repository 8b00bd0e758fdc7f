"""Speech to text with bad input, and from the command line."""

import json

import numpy as np
import pytest
import soundfile
import speech_checkpoints as tiny
import torch
from checkpoints import cached

import hub
import keraslite as keras
from hub.cli.main import main
from hub.speech.special_tokens import complete_config


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return cached(tiny.make, tmp_path_factory)


@pytest.fixture(scope="module")
def multilingual(checkpoints):
    with keras.use_backend("torch"):
        return hub.SpeechToText.from_preset(checkpoints()[0])


@pytest.fixture(scope="module")
def english(checkpoints):
    with keras.use_backend("torch"):
        return hub.SpeechToText.from_preset(checkpoints("english")[0])


SOUND = tiny.sound(1.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"language": "xx"}, "language must be one of de, en, fr, got 'xx'"),
        ({"language": "spanish"}, "language must be one of de, en, fr, got 'spanish'"),
        ({"language": ["de", "en"]}, "language must be one of de, en, fr, got .'de', 'en'."),
        ({"task": "summarize"}, "task must be one of transcribe, translate, got 'summarize'"),
        ({"temperature": -1.0}, "temperature must be one or several of 0 or more"),
        ({"temperature": ()}, "temperature must be one or several of 0 or more"),
        ({"temperature": float("nan")}, "temperature must be one or several of 0 or more"),
        ({"clip_timestamps": "0,1"}, "must be starts and ends in seconds, in order, got '0,1'"),
        ({"clip_timestamps": [float("nan")]}, "must be starts and ends in seconds"),
        ({"clip_timestamps": [{"start": 0.0, "end": 1.0}]}, "must be starts and ends in seconds"),
        ({"initial_prompt": [99999]}, "must be token ids from 0 to .*, got .99999."),
        ({"initial_prompt": [-1]}, "A prompt that is no text must be token ids from 0"),
        ({"hotwords": ["fox", "dog"]}, "must be token ids from 0"),
        ({"suppress_tokens": [-1]}, "suppress_tokens must be token ids from 0 to .*, got .-1."),
        ({"begin_suppress_tokens": "-1"}, "begin_suppress_tokens must be token ids from 0"),
        ({"temperature": None}, "temperature must be one or several of 0 or more, got None"),
        ({"temperature": "0"}, "temperature must be one or several of 0 or more, got '0'"),
        ({"no_speech_threshold": "0.6"}, "no_speech_threshold must be a number or None, got '0.6'"),
        ({"length_penalty": None}, "length_penalty must be a number, got None"),
        ({"seed": "a"}, "seed must be an integer, got 'a'"),
        (
            {"word_timestamps": True, "hallucination_silence_threshold": "2"},
            "hallucination_silence_threshold must be a number of seconds or None, got '2'",
        ),
        ({"beam_size": 0}, "beam_size must be an integer, at least 1, got 0"),
        ({"best_of": 1.5}, "best_of must be an integer, at least 1, got 1.5"),
        ({"batch_size": 0}, "batch_size must be None or at least 1, got 0"),
        ({"max_new_tokens": 0}, "max_new_tokens must be an integer, at least 1, got 0"),
        ({"hallucination_silence_threshold": 1.0}, "needs word_timestamps=True"),
    ],
)
def test_settings_out_of_range_are_refused(multilingual, settings, message):
    with pytest.raises(ValueError, match=message):
        multilingual.transcribe(SOUND, **settings)


def test_other_settings_are_refused(multilingual):
    with pytest.raises(TypeError, match="no settings num_beams, top_k; .* repetition_penalty"):
        multilingual.transcribe(SOUND, top_k=3, num_beams=2)


def test_an_english_model_has_one_language_and_one_task(english):
    for settings in ({"task": "translate"}, {"language": "de"}):
        with pytest.raises(ValueError, match="must be"):
            english.transcribe(SOUND, **settings)
        with pytest.raises(ValueError, match="must be"):
            english.generate(SOUND, **settings)
    with pytest.raises(ValueError, match="for English alone"):
        english.detect_language(SOUND)
    assert english.transcribe(SOUND, "English", temperature=0.0).language == "en"


@pytest.mark.parametrize(
    "audio", [np.zeros(0, "float32"), np.full(16000, np.nan, "float32"), b"no file"]
)
def test_unreadable_recordings_are_refused(multilingual, audio):
    with pytest.raises(ValueError, match="audio"):
        multilingual.transcribe(audio)


@pytest.mark.parametrize("audio", [None, 5, {}, iter([None]), object()])
def test_other_things_are_no_recordings(multilingual, audio):
    for method in (multilingual.transcribe, multilingual.generate, multilingual.detect_language):
        if not (isinstance(audio, dict) and method == multilingual.generate):
            with pytest.raises((TypeError, ValueError), match="The audio (must|is empty)"):
                method(audio)
    with pytest.raises(TypeError, match="Audio 1 must be a path, .* got NoneType"):
        multilingual.transcribe([SOUND, None])


@pytest.mark.parametrize("dtype", ["int8", "bool"])
def test_dtypes_are_of_floats(checkpoints, dtype):
    with pytest.raises(ValueError, match=f"of floats, .* got '{dtype}': .* its quantize"):
        hub.SpeechToText.from_preset(checkpoints()[0], dtype=dtype)


def test_several_recordings_do_not_stream(multilingual):
    with pytest.raises(ValueError, match="one recording, got several"):
        multilingual.transcribe([SOUND, SOUND], stream=True)


def test_arrays_of_two_axes_are_channels_or_a_batch(multilingual):
    settings = {"language": "en", "temperature": 0.0, "max_new_tokens": 4}
    expected = multilingual.transcribe(SOUND, **settings)
    stereo = np.stack([SOUND, SOUND], axis=1)
    assert multilingual.transcribe(stereo, **settings) == expected
    for batch in (stereo.T, torch.from_numpy(stereo.T)):
        results = multilingual.transcribe(batch, **settings)
        assert [result.text for result in results] == [expected.text] * 2


def test_a_bad_recording_among_others_is_named(multilingual):
    with pytest.raises(ValueError, match="Audio 1 is empty"):
        multilingual.transcribe([SOUND, np.zeros(0, "float32")])


def test_a_moment_of_sound_is_no_error(multilingual):
    result = multilingual.transcribe(SOUND[:5], "en", temperature=0.0, max_new_tokens=4)
    assert result.duration == pytest.approx(5 / 16000)


def test_what_is_cut_off_is_told(multilingual, tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, tiny.sound(2.5), 16000)
    settings = {"language": "en", "max_new_tokens": 2}
    with pytest.warns(UserWarning, match=r"The audio \(.*a\.wav\) is longer than the 2 s that"):
        cut = multilingual.generate(path, **settings)
    assert cut == multilingual.generate(soundfile.read(path)[0][:32000], **settings)
    with pytest.warns(UserWarning, match="Audio 1 is longer .* to train on it, cut it and its"):
        multilingual.preprocessor([SOUND, tiny.sound(2.1)], ["a", "b"])
    assert len(multilingual.detect_language([path, SOUND])) == 2  # of the beginning, as it says
    with pytest.raises(ValueError, match="truncation must be True, False or 'warn', got 'cut'"):
        multilingual.preprocessor.audio(SOUND, truncation="cut")


def test_silence_has_the_language_of_the_model(english, multilingual):
    silence, settings = np.zeros(16000, "float32"), {"batch_size": np.int64(2), "temperature": 0.0}
    assert english.transcribe(silence, **settings).language == "en"
    assert multilingual.transcribe(silence, "german", **settings).language == "de"
    assert multilingual.transcribe(silence, **settings).language is None


def test_other_numbers_of_mels_are_refused(checkpoints, multilingual, tmp_path):
    folder, _ = checkpoints()
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    hub.WhisperAudioConverter(num_mels=128).save(tmp_path)
    with pytest.raises(ValueError, match="has 128 mels, but the model reads 80"):
        hub.SpeechToText.from_preset(tmp_path)
    with pytest.raises(ValueError, match="must be \\(batch, frames, 80\\)"):
        multilingual.generate(np.zeros((1, 200, 128), "float32"), language="en")


def test_pairs_and_columns_of_training_are_checked(multilingual):
    with pytest.raises(ValueError, match="2 recordings but 1 texts"):
        multilingual.fit([SOUND, SOUND], ["a"])
    with pytest.raises(ValueError, match="Expected the columns audio and text"):
        multilingual.fit({"audio": [SOUND], "words": ["a"]})
    with pytest.raises(ValueError, match="Text 1 must be a string, got None"):
        multilingual.fit([SOUND, SOUND], ["a", None])
    for method in (multilingual.fit, multilingual.evaluate, multilingual.predict):
        for recordings in ("a.wav", ["a.wav"], [SOUND], [["a.wav", "a"]]):
            with pytest.raises(ValueError, match="Recordings must have texts"):
                method(recordings)


def test_predictions_of_recordings_with_texts(multilingual):
    logits = multilingual.predict([(SOUND, "a"), (SOUND, "b")], verbose=0)
    inputs, _, _ = multilingual.preprocessor([SOUND, SOUND], ["a", "b"])
    np.testing.assert_allclose(logits, multilingual.predict(inputs, verbose=0), atol=1e-5)


def test_recordings_on_the_command_line(checkpoints, multilingual, tmp_path, capsys):
    folder, _ = checkpoints()
    path = str(tmp_path / "a.wav")
    soundfile.write(path, tiny.sound(3.0), 16000)
    words = ["run", "--backend", "torch", "automatic-speech-recognition", str(folder), path]
    assert main([*words, "--language", "de", "--task", "translate", "--word-timestamps"]) == 0
    printed = json.loads(capsys.readouterr().out)
    expected = multilingual.transcribe(path, "de", "translate", word_timestamps=True)
    assert printed == {"input": path, **json.loads(json.dumps(expected.to_dict()))}
    assert main([*words, "--language", "de", "--format", "srt"]) == 0
    assert capsys.readouterr().out == multilingual.transcribe(path, "de").to_string("srt")
    narrow = ["--max-line-width", "9", "--max-line-count", "1", "--progress"]
    assert main([*words, "--language", "de", "--format", "vtt", *narrow]) == 0
    captured = capsys.readouterr()
    timed = multilingual.transcribe(path, "de", word_timestamps=True)
    assert captured.out == timed.to_string("vtt", max_line_width=9, max_line_count=1)
    assert "3/3" in captured.err
    assert main([*words, "--language", "xx"]) == 1
    assert "language must be one of" in capsys.readouterr().err


def test_several_recordings_on_the_command_line(checkpoints, multilingual, tmp_path, capsys):
    folder, _ = checkpoints()
    paths = [str(tmp_path / name) for name in ("a.wav", "b.2.wav")]
    for i, path in enumerate(paths):
        soundfile.write(path, tiny.sound(2.0, i), 16000)
    words = ["run", "--backend", "torch", "--language", "de", "automatic-speech-recognition"]
    words += [str(folder), *paths]
    assert main([*words, "--format", "srt"]) == 1
    captured = capsys.readouterr()
    assert "srt of 2 recordings must be several files: name their folder by --output-dir" in (
        captured.err
    )
    assert not captured.out
    results = [multilingual.transcribe(path, "de") for path in paths]
    assert main([*words, "--format", "txt"]) == 0
    assert capsys.readouterr().out == "".join(result.to_string("txt") for result in results)
    out = tmp_path / "new" / "out"
    assert main([*words, "--format", "srt", "--output-dir", str(out)]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["text"] for line in printed] == [result.text for result in results]
    assert [line["files"] for line in printed] == [[f"{out}/a.srt"], [f"{out}/b.2.srt"]]
    for name, result in zip(("a", "b.2"), results, strict=True):
        assert (out / f"{name}.srt").read_text("utf-8") == result.to_string("srt")
    assert main([*words[:-1], "--output-dir", str(out)]) == 0  # of one, all formats
    assert {path.suffix for path in out.glob("a.*")} == {".srt", ".vtt", ".txt", ".tsv", ".json"}
    capsys.readouterr()
    assert main([*words, f"{out}/a.wav", "--output-dir", str(out)]) == 1
    assert "must have different names" in capsys.readouterr().err


def test_summaries_have_the_converter(multilingual, capsys):
    multilingual.summary()
    printed = capsys.readouterr().out
    assert "whisper_audio_converter" in printed
    assert f"Mels: 80, {multilingual.preprocessor.audio.max_audio_length} s" in printed


def test_progress_is_in_seconds(multilingual, capsys):
    multilingual.transcribe(tiny.sound(3.0), "en", temperature=0.0, verbose=1)
    assert "3/3" in capsys.readouterr().out


def test_a_vocabulary_may_lack_letters():
    """Those of small models made here; what it has is told from what it lacks."""
    words = ["a", "(", "Ġ", "Ġ(", "<|endoftext|>"]
    added = {"<|startoftranscript|>": 5, "<|nospeech|>": 6, "<|notimestamps|>": 7}
    tokenizer = hub.WhisperTokenizer({word: i for i, word in enumerate(words)}, ["Ġ ("], added)
    stated = complete_config({}, tokenizer)
    assert stated["suppress_tokens"] == [1, 3, 5, 6]
    assert stated["begin_suppress_tokens"] == [2, 4]
