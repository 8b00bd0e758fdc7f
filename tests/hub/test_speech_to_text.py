"""Speech to text against transformers: windows, recordings of several windows, languages, files."""

import gc
import json

import numpy as np
import pytest
import speech_checkpoints as tiny
import torch
import transformers
from checkpoints import cached
from compare import assert_close, to_numpy

import hub
import keraslite as keras
from hub.preprocessing.log_mel import LogMelReader
from hub.preprocessing.spec_augment import spec_augment
from hub.speech.rules import TimestampRules
from keraslite import ops

PLAIN = {"temperature": 0.0, "no_speech_threshold": None, "max_new_tokens": tiny.NEW}
THEIRS = {"temperature": 0.0, "max_new_tokens": tiny.NEW, "return_timestamps": True}
SOUND = tiny.sound(7.3)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return cached(tiny.make, tmp_path_factory)


@pytest.fixture(autouse=True)
def quiet():
    """transformers warns of each setting, by its logger."""
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity(before)


def ours(segments):
    return [(round(s.start, 2), round(s.end, 2), list(s.tokens)) for s in segments]


def theirs(model, features, **settings):
    """The segments of each recording by transformers, which leaves the start of the next in, and
    lets the last ones be after the recording."""
    with torch.no_grad():
        out = model.generate(features, return_segments=True, **{**THEIRS, **settings})
    begin, duration = model.generation_config.no_timestamps_token_id + 1, features.shape[-1] / 100
    recordings = []
    for recording in out["segments"]:
        segments = []
        for segment in recording:
            ids = segment["tokens"].tolist()
            ids = ids[:-1] if len(ids) > 1 and min(ids[-2:]) >= begin else ids
            start, end = (round(float(segment[name]), 2) for name in ("start", "end"))
            if end > start and any(i < begin for i in ids):
                segments.append((min(start, duration), min(end, duration), ids))
        recordings.append(segments)
    return recordings


# -- rules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("latest", [None, 2])
def test_rules_of_times_are_those_of_transformers(backend, latest):
    generator = np.random.default_rng(0)
    begin, end, size, width = 20, 15, 32, 3
    config = transformers.GenerationConfig(
        no_timestamps_token_id=begin - 1, eos_token_id=end, max_initial_timestamp_index=latest
    )
    rules = TimestampRules(begin, end, latest)
    histories = [[], [21], [21, 3], [21, 3, 24], [21, 3, 24, 24], [21, 3, 24, 24, 5], [20, 1, 31]]
    for history in histories:
        for scale in (0.1, 3.0):
            scores = (generator.normal(size=(4, size)) * scale).astype("float32")
            prompt = [[25, 25, 25]] * 4  # whose times do not count
            ids = np.array([[*row, *history] for row in prompt])
            processor = transformers.WhisperTimeStampLogitsProcessor(config, begin_index=width)
            expected = processor(torch.from_numpy(ids), torch.from_numpy(scores))
            padded = np.pad(ids, ((0, 0), (0, 4)), constant_values=30).astype("int32")
            written = np.arange(padded.shape[1])[None] < width + len(history)
            arguments = [ops.convert_to_tensor(x) for x in (scores, padded, written)]
            at = ops.convert_to_tensor(np.int32(width + len(history)))
            step = len(history) if not history else ops.convert_to_tensor(np.int32(len(history)))
            assert_close(rules(*arguments, at, step), expected.numpy(), atol=0, rtol=0)


# -- windows --------------------------------------------------------------------------------------


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("timestamps", [False, True])
def test_generated_ids_are_those_of_transformers(backend, checkpoints, beams, timestamps):
    folder, model = checkpoints()
    recordings = [tiny.sound(1.3, 1), tiny.sound(2.0, 2), tiny.sound(0.4, 3)]
    asr = hub.SpeechToText.from_preset(folder)
    features = asr.preprocessor.audio(recordings)
    with torch.no_grad():
        expected = model.generate(
            torch.from_numpy(features).transpose(1, 2), language="fr", task="translate",
            return_timestamps=timestamps, max_new_tokens=tiny.NEW, num_beams=beams,
            force_unique_generate_call=True,
        )  # fmt: skip
    out = asr.generate(
        recordings, language="french", task="translate", timestamps=timestamps,
        max_new_tokens=tiny.NEW, num_beams=beams, return_ids="ragged",
    )  # fmt: skip
    for ids, row in zip(out, expected.tolist(), strict=True):
        row = row[row.index(model.generation_config.decoder_start_token_id) :]
        assert ids.tolist() == row[: len(ids)]
        assert set(row[len(ids) :]) <= {model.generation_config.eos_token_id}
    single = [
        asr.generate(recording, language="fr", task="translate", max_new_tokens=5)
        for recording in recordings
    ]
    assert asr.generate(recordings, language="fr", task="translate", max_new_tokens=5) == single
    assert all(isinstance(text, str) for text in single)


def test_mean_log_probabilities_and_silence(backend, checkpoints):
    folder, model = checkpoints()
    asr = hub.SpeechToText.from_preset(folder)
    clip = tiny.sound(2.0, 5)
    result = asr.transcribe(clip, "en", **PLAIN)
    start = model.generation_config.decoder_start_token_id
    features = tiny.spectrogram(clip)
    with torch.no_grad():
        out = model.generate(
            features, language="en", task="transcribe", **THEIRS, output_scores=True,
            return_dict_in_generate=True, force_unique_generate_call=True,
        )  # fmt: skip
        first = model(features, decoder_input_ids=torch.tensor([[start]])).logits[0, 0]
    new = out.sequences[0, -len(out.scores) :]
    each = [torch.log_softmax(s[0], -1)[i].item() for s, i in zip(out.scores, new, strict=True)]
    ends = new.tolist().index(asr.special_tokens.end) if asr.special_tokens.end in new else len(new)
    assert_close(result.segments[0].avg_logprob, sum(each) / (ends + 1), rtol=2e-5)
    silence = torch.softmax(first, -1)[asr.special_tokens.no_speech].item()
    assert_close(result.segments[0].no_speech_prob, silence, rtol=2e-5)
    text = result.segments[0].text.strip()
    assert result.segments[0].compression_ratio > 0 and isinstance(text, str)


def test_languages_are_those_of_transformers(backend, checkpoints):
    folder, model = checkpoints()
    asr = hub.SpeechToText.from_preset(folder)
    recordings = [tiny.sound(2.0, seed) for seed in range(3)]
    features = torch.from_numpy(asr.preprocessor.audio(recordings)).transpose(1, 2)
    start = torch.full((3, 1), model.generation_config.decoder_start_token_id)
    ids = list(model.generation_config.lang_to_id.values())
    with torch.no_grad():
        logits = model(features, decoder_input_ids=start).logits[:, -1, ids]
        best = model.detect_language(features)
    rows = asr.detect_language(recordings)
    for row, expected, token in zip(rows, torch.softmax(logits, -1), best, strict=True):
        codes = [name.strip("<|>") for name in model.generation_config.lang_to_id]
        assert_close([row[code] for code in codes], expected.numpy(), rtol=2e-5)
        assert f"<|{next(iter(row))}|>" == asr.preprocessor.tokenizer.id_to_token(int(token))
    assert asr.detect_language(recordings[1]) == pytest.approx(rows[1], rel=1e-5)
    detected = asr.transcribe(recordings[0], **PLAIN)
    assert detected.language == next(iter(rows[0]))
    assert detected.language_probability == pytest.approx(rows[0][detected.language], rel=1e-4)
    assert ours(detected.segments) == ours(
        asr.transcribe(recordings[0], detected.language, **PLAIN).segments
    )


@pytest.mark.parametrize("name", ["de", "german", "German", "<|de|>"])
def test_languages_have_codes_names_and_tokens(checkpoints, name):
    folder, model = checkpoints()
    with keras.use_backend("torch"):
        asr = hub.SpeechToText.from_preset(folder)
        clip = tiny.sound(3.0, 7)
        (expected,) = theirs(model, tiny.spectrogram(clip), language=name.lower())
        result = asr.transcribe(clip, name, **PLAIN)
        assert ours(result.segments) == expected
        assert (result.language, result.language_probability) == ("de", None)
        tokens = [
            asr.generate([clip[:32000]], language=language, task=task, return_ids="ragged")[0]
            for language in ("de", "fr")
            for task in ("transcribe", "translate")
        ]
        names = ["<|de|>", "<|fr|>", "<|transcribe|>", "<|translate|>"]
        ids = [asr.preprocessor.tokenizer.token_to_id(token) for token in names]
        prompts = [[ids[0], ids[2]], [ids[0], ids[3]], [ids[1], ids[2]], [ids[1], ids[3]]]
        assert [ids[1:3].tolist() for ids in tokens] == prompts


# -- several windows ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "num_mels", "settings", "of_theirs"),
    [
        ("multilingual", 80, {"language": "de"}, {"language": "de"}),
        ("english", 128, {}, {}),
        ("multilingual", 80, {}, {"task": "transcribe"}),  # of a detected language
        (
            "multilingual", 128, {"language": "French", "task": "translate"},
            {"language": "french", "task": "translate"},
        ),
        (
            "multilingual", 80, {"language": "de", "condition_on_previous_text": True},
            {"language": "de", "condition_on_prev_tokens": True},
        ),
        (
            "multilingual", 80, {"language": "fr", "task": "translate", "beam_size": 3},
            {"language": "fr", "task": "translate", "num_beams": 3, "early_stopping": True},
        ),
    ],
)  # fmt: skip
def test_segments_are_those_of_transformers(
    backend, checkpoints, kind, num_mels, settings, of_theirs
):
    folder, model = checkpoints(kind, num_mels)
    asr = hub.SpeechToText.from_preset(folder)
    (expected,) = theirs(model, tiny.spectrogram(SOUND, num_mels), **of_theirs)
    result = asr.transcribe(SOUND, **settings, **PLAIN)
    assert len(expected) > 4
    assert ours(result.segments) == expected
    assert [segment.id for segment in result.segments] == list(range(len(expected)))
    assert result.duration == pytest.approx(7.3)
    streamed = list(asr.transcribe(SOUND, **settings, **PLAIN, stream=True))
    assert streamed == list(result.segments)


def test_times_are_in_order_and_inside_of_what_was_heard(checkpoints):
    folder, _ = checkpoints()
    with keras.use_backend("torch"):
        asr = hub.SpeechToText.from_preset(folder)
        cases = [{}, {"clip_timestamps": [1.0, 2.5, 4.0, 4.7]}, {"batch_size": 2}]
        for seed, settings in enumerate([*cases, *({**c, "word_timestamps": True} for c in cases)]):
            sound = tiny.sound(5.3, seed)
            sound[40000:56000] = 0.0
            result = asr.transcribe(sound, "de", **settings, **PLAIN)
            assert result.segments
            times = [t for s in result.segments for t in (s.start, s.end)]
            assert times == sorted(times) and times[-1] <= 5.3
            words = [w for s in result.segments for w in s.words or ()]
            assert all(0 <= w.start <= w.end <= 5.3 for w in words)
            assert bool(words) == ("word_timestamps" in settings)
            if "clip_timestamps" in settings:
                assert not any(2.5 < t < 4.0 or t > 4.7 for t in times)


def test_live_input_is_read_as_its_windows_fill(checkpoints):
    folder, _ = checkpoints()
    sound = np.concatenate([tiny.sound(2.0, seed) for seed in range(12)])
    pulled = 0

    def microphone():
        nonlocal pulled
        for start in range(0, len(sound), 800):
            pulled = start + 800
            yield sound[start : start + 800]

    with keras.use_backend("torch"):
        asr = hub.SpeechToText.from_preset(folder)
        settings = {**PLAIN, "max_new_tokens": 4}
        held = []
        for segment in asr.transcribe(microphone(), "de", stream=True, **settings):
            # A window of 2 s, and a frame of 25 ms that is half after it, in blocks of 0.1 s.
            assert pulled / tiny.RATE <= min(segment.seek / 100 + 2.15, 24.0)
            held.append(segment)
        assert held[-1].seek > 2100
        # As a recording of which all is known but how loud its end is.
        whole = asr.transcribe(sound, "de", **settings).segments
        assert ours(held[:3]) == ours(whole[:3])
        with pytest.raises(ValueError, match="Live input is read window by window: leave batch"):
            asr.transcribe(microphone(), stream=True, batch_size=2)
        with pytest.raises(ValueError, match="The audio is empty"):
            list(asr.transcribe(iter(()), "de", stream=True))
        assert asr.transcribe((8000, microphone()), "de", **settings).duration == 48.0


def test_silent_windows_are_left_out_as_by_transformers(backend, checkpoints):
    folder, model = checkpoints()
    asr = hub.SpeechToText.from_preset(folder)
    result = asr.transcribe(SOUND, "de", **PLAIN)
    levels = sorted({segment.no_speech_prob for segment in result.segments})
    threshold = float(np.mean(levels[len(levels) // 2 - 1 : len(levels) // 2 + 1]))
    limits = {"no_speech_threshold": threshold, "logprob_threshold": 0.0}
    (expected,) = theirs(model, tiny.spectrogram(SOUND), language="de", **limits)
    kept = asr.transcribe(SOUND, "de", **{**PLAIN, **limits}, compression_ratio_threshold=None)
    assert 0 < len(expected) < len(result.segments)
    assert ours(kept.segments) == expected


def test_recordings_of_different_lengths_give_what_each_gives(backend, checkpoints):
    folder, _ = checkpoints()
    asr = hub.SpeechToText.from_preset(folder)
    recordings = [tiny.sound(3.1, 1), tiny.sound(0.5, 2), tiny.sound(5.2, 3)]
    together = asr.transcribe(recordings, "en", **PLAIN)
    alone = [asr.transcribe(recording, "en", **PLAIN) for recording in recordings]
    assert [ours(r.segments) for r in together] == [ours(r.segments) for r in alone]
    assert [r.duration for r in together] == pytest.approx([3.1, 0.5, 5.2])


def test_stretches_of_speech_are_read_at_once(backend, checkpoints):
    folder, _ = checkpoints()
    asr = hub.SpeechToText.from_preset(folder)
    pause = np.zeros(tiny.RATE, "float32")
    parts = [tiny.sound(1.2, seed) for seed in range(3)]
    whole = np.concatenate([pause, parts[0], pause, parts[1], pause, parts[2], pause])
    result = asr.transcribe(whole, "en", batch_size=2, **PLAIN)
    starts = [1.0, 3.2, 5.4]
    for start in starts:  # each stretch has its window
        assert any(start - 0.3 < s.start < start + 1.2 for s in result.segments)
    assert [s.start for s in result.segments] == sorted(s.start for s in result.segments)
    assert list(asr.transcribe(whole, "en", batch_size=2, stream=True, **PLAIN)) == list(
        result.segments
    )
    assert asr.transcribe(pause, "en", batch_size=2, **PLAIN).segments == ()


def test_a_stream_says_what_is_known(checkpoints):
    with keras.use_backend("torch"):
        asr = hub.SpeechToText.from_preset(checkpoints()[0])
        expected = asr.transcribe(SOUND, **PLAIN)
        stream = asr.transcribe(SOUND, stream=True, **PLAIN)
        assert stream.language is None
        assert next(stream) == expected.segments[0]
        assert stream.duration == expected.duration
        assert stream.language == expected.language
        assert stream.language_probability == expected.language_probability > 0
        live = asr.transcribe(iter([SOUND]), stream=True, **PLAIN)
        assert len(list(live)) > 1
        assert (live.language, live.duration) == (expected.language, None)


def test_recordings_are_read_when_their_turn_comes(checkpoints, tmp_path):
    held = []

    def recording(seed):
        held.append(sum(type(x) is LogMelReader for x in gc.get_objects()))
        yield tiny.sound(1.0, seed)

    with keras.use_backend("torch"):
        asr = hub.SpeechToText.from_preset(checkpoints()[0])
        settings = {**PLAIN, "max_new_tokens": 2}
        with pytest.raises(FileNotFoundError, match="missing"):  # before the work on others
            asr.transcribe([recording(0), tmp_path / "missing.wav"], "en", **settings)
        assert not held
        results = asr.transcribe([*map(recording, range(9))], "en", batch_size=2, **settings)
        settings["batch_size"] = 1
        alone = [asr.transcribe(tiny.sound(1.0, i), "en", **settings) for i in range(9)]
    assert [ours(r.segments) for r in results] == [ours(r.segments) for r in alone]
    assert max(held) <= 4  # two, the next one, and the one before it


def test_clips_are_read_alone(checkpoints):
    folder, _ = checkpoints()
    with keras.use_backend("torch"):
        asr = hub.SpeechToText.from_preset(folder)
        result = asr.transcribe(SOUND, "en", clip_timestamps=[1.0, 2.0, 4.0], **PLAIN)
        assert {segment.seek for segment in result.segments} >= {100, 400}
        assert not any(200 <= segment.seek < 400 for segment in result.segments)
        frugal = asr.transcribe(SOUND, "en", suppress_tokens=[55], **PLAIN)
        assert ours(frugal.segments) != ours(asr.transcribe(SOUND, "en", **PLAIN).segments)
        with pytest.raises(ValueError, match="clip_timestamps must be starts and ends"):
            asr.transcribe(SOUND, "en", clip_timestamps=[2.0, 1.0])


def test_words_are_those_of_the_segments(backend, checkpoints):
    folder, _ = checkpoints()
    asr = hub.SpeechToText.from_preset(folder)
    result = asr.transcribe(SOUND, "de", word_timestamps=True, **PLAIN)
    assert len(result.segments) > 4
    # Without spaces a word may hold the letters of several segments.
    with_words = [segment for segment in result.segments if segment.words]
    assert len(with_words) > 2
    for segment in with_words:
        times = [t for word in segment.words for t in (word.start, word.end)]
        assert times == sorted(times)
        assert all(0 <= word.probability <= 1 for word in segment.words)
        assert "".join(word.word for word in segment.words).strip()
    settings = {"word_timestamps": True, **PLAIN}
    # Nothing of it is likely to be spoken.
    strict = asr.transcribe(SOUND, "de", hallucination_silence_threshold=0.01, **settings)
    assert len(strict.segments) < len(result.segments)


# -- temperatures ---------------------------------------------------------------------------------


def test_failed_texts_are_drawn_at_higher_temperatures(checkpoints):
    folder, _ = checkpoints()
    clip = tiny.sound(2.0, 4)
    draws = []
    for name in ("torch", "jax"):
        with keras.use_backend(name):
            asr = hub.SpeechToText.from_preset(folder)
            settings = {"max_new_tokens": tiny.NEW, "no_speech_threshold": None}
            never = asr.transcribe(clip, "en", logprob_threshold=-1e3, **settings)
            assert {segment.temperature for segment in never.segments} == {0.0}
            drawn = asr.transcribe(
                clip, "en", temperature=(0.0, 0.5, 0.9), logprob_threshold=1.0, best_of=3, seed=4,
                **settings,
            )  # fmt: skip
            assert {segment.temperature for segment in drawn.segments} == {0.9}
            draws.append(ours(drawn.segments))
            likely = asr.transcribe(
                clip, "en", temperature=(0.0, 0.5), compression_ratio_threshold=0.0, **settings
            )
            assert {segment.temperature for segment in likely.segments} == {0.5}
    assert draws[0] == draws[1]


def test_nothing_is_compiled_again_for_another_window(checkpoints):
    folder, _ = checkpoints()
    with keras.use_backend("jax"):
        asr = hub.SpeechToText.from_preset(folder)
        settings = {"best_of": 1, "logprob_threshold": 1.0, "max_new_tokens": tiny.NEW}
        asr.transcribe(SOUND, "en", temperature=(0.0, 0.4), **settings)
        functions = asr._kl_generator.functions
        assert len(functions) == 2  # the likeliest, and draws
        asr.transcribe(tiny.sound(4.2, 9), "de", temperature=(0.0, 0.2, 0.8), seed=3, **settings)
        assert len(functions) == 2
        prompt = "a b c"
        asr.transcribe(SOUND, "en", initial_prompt=prompt, temperature=0.0, **settings)
        asr.transcribe(SOUND, "en", hotwords=prompt + " d", temperature=0.0, **settings)
        assert len(functions) <= 4


def test_prompts_stand_before_windows(checkpoints):
    folder, model = checkpoints()
    with keras.use_backend("torch"):
        asr = hub.SpeechToText.from_preset(folder)
        clip = tiny.sound(2.0, 6)
        tokens = asr.special_tokens
        prompt = [tokens.previous, *asr._prompt_text("abc")]
        assert asr.preprocessor.tokenizer.detokenize(prompt[1:]) == " abc"
        (expected,) = theirs(
            model, tiny.spectrogram(clip), language="de", prompt_ids=torch.tensor(prompt)
        )
        expected = [segment for segment in expected if segment[2] != prompt[1:]]
        # transformers gives the prompt to every window.
        assert ours(asr.transcribe(clip, "de", hotwords="abc", **PLAIN).segments) == expected
        result = asr.transcribe(clip, "de", initial_prompt="abc", **PLAIN)
        first = [segment for segment in result.segments if segment.seek == 0]
        assert ours(first) == expected[: len(first)]
        plain = asr.transcribe(clip, "de", **PLAIN)
        assert ours(first) != ours(s for s in plain.segments if s.seek == 0)


# -- training -------------------------------------------------------------------------------------


def test_losses_are_those_of_transformers(backend, checkpoints):
    folder, model = checkpoints()
    asr = hub.SpeechToText.from_preset(folder)
    recordings, texts = [tiny.sound(1.0, 1), tiny.sound(2.0, 2)], ["ab", "cdefg"]
    asr.fit(list(zip(recordings, texts, strict=True)), language="de", epochs=0, verbose=0)
    inputs, labels, weights = asr.preprocessor(recordings, texts)
    prompt = asr.special_tokens.prompt("de", timestamps=False)
    assert inputs["decoder_token_ids"][0, :4].tolist() == list(prompt)
    assert weights.sum(1).tolist() == [4, 7]  # a space, the text, the end
    masked = np.where(weights > 0, labels, -100)
    with torch.no_grad():
        expected = model(
            torch.from_numpy(inputs["encoder_features"]).transpose(1, 2),
            decoder_input_ids=torch.from_numpy(inputs["decoder_token_ids"]).long(),
            labels=torch.from_numpy(masked).long(),
        )
    losses = -asr.score({"audio": recordings, "text": texts})
    assert_close(losses.sum() / weights.sum(), expected.loss.item(), rtol=2e-5)


@pytest.mark.parametrize("lora", [False, True])
def test_a_model_learns_texts(checkpoints, lora, tmp_path):
    folder, _ = checkpoints()
    with keras.use_backend("torch"):
        asr = hub.SpeechToText.from_preset(folder)
        if lora:
            assert asr.enable_lora(4)
        asr.compile(keras.optimizers.Adam(0.01))
        recordings, texts = [tiny.sound(1.0, 1), tiny.sound(2.0, 2)], ["ab", "cd"]
        history = asr.fit(recordings, texts, epochs=20, verbose=0, batch_size=2).history
        assert history["loss"][-1] < 0.7 * history["loss"][0]
        if lora:
            asr.save_adapter(tmp_path / "adapter")
            again = hub.SpeechToText.from_preset(folder)
            again.load_adapter(tmp_path / "adapter")
        else:
            asr.save(tmp_path / "model.keras")
            again = keras.saving.load_model(tmp_path / "model.keras")
        texts = asr.generate(recordings, language="en")
        assert again.generate(recordings, language="en") == texts


def test_word_error_rates_of_an_epoch_stand_in_the_history(checkpoints):
    folder, _ = checkpoints()
    with keras.use_backend("torch"):
        asr = hub.SpeechToText.from_preset(folder)
        asr.compile(keras.optimizers.Adam(0.001))
        recordings, texts = [tiny.sound(1.0, 1), tiny.sound(2.0, 2)], ["ab", "cd"]
        error_rate = hub.WordErrorRate(normalize=True)

        def measure(epoch, logs):
            error_rate.reset_state()
            results = asr.transcribe(recordings, "en", temperature=0.0)
            error_rate.update_state(texts, [result.text for result in results])
            logs["val_wer"] = float(error_rate.result())

        callback = keras.callbacks.LambdaCallback(on_epoch_end=measure)
        history = asr.fit(recordings, texts, epochs=2, callbacks=[callback], verbose=0).history
        assert len(history["val_wer"]) == len(history["loss"]) == 2
        assert history["val_wer"][-1] == float(error_rate.result()) > 0


def test_spectrograms_are_augmented_in_training(checkpoints):
    folder, _ = checkpoints()
    with keras.use_backend("torch"):
        asr = hub.SpeechToText.from_preset(folder)
        asr.preprocessor.augment = lambda features: spec_augment(features, mask_time_prob=0.5)
        inputs, *_ = asr.preprocessor([tiny.sound(2.0)], ["a"])
        assert (inputs["encoder_features"] == 0).all(-1).any()


# -- files ----------------------------------------------------------------------------------------


def test_transformers_opens_what_we_save(checkpoints, tmp_path):
    folder, model = checkpoints()
    with keras.use_backend("jax"):
        asr = hub.load(folder)
        assert type(asr) is hub.Whisper is hub.WhisperSpeechToText
        asr.save_to_preset(tmp_path / "saved")
        again = hub.SpeechToText.from_preset(tmp_path / "saved")
        assert ours(again.transcribe(SOUND, "de", **PLAIN).segments) == ours(
            asr.transcribe(SOUND, "de", **PLAIN).segments
        )
    other = transformers.WhisperForConditionalGeneration.from_pretrained(tmp_path / "saved")
    features = tiny.spectrogram(SOUND)
    assert theirs(other, features, language="de") == theirs(model, features, language="de")
    extractor = transformers.WhisperFeatureExtractor.from_pretrained(tmp_path / "saved")
    assert extractor.chunk_length == tiny.SECONDS
    stated = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    before = json.loads((folder / "generation_config.json").read_text())
    assert stated == before


def test_special_tokens_come_from_the_tokenizer_too(checkpoints, tmp_path):
    folder, _ = checkpoints()
    for file in folder.iterdir():
        if file.name != "generation_config.json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with keras.use_backend("numpy"):
        asr = hub.SpeechToText.from_preset(folder)
        english = hub.SpeechToText.from_preset(tmp_path)
        for name in ("start", "end", "no_timestamps", "previous"):
            assert getattr(english.special_tokens, name) == getattr(asr.special_tokens, name)
        assert english.generation_config["max_initial_timestamp_index"] == 50
        assert not english.special_tokens.is_multilingual
        quote = english.preprocessor.tokenizer.token_to_id('"')
        assert quote in english.generation_config["suppress_tokens"]


def test_ready_spectrograms_without_a_preprocessor(backend, checkpoints):
    folder, model = checkpoints()
    asr = hub.SpeechToText.from_preset(folder, preprocessor=None)
    features = tiny.spectrogram(tiny.sound(2.0, 3)).transpose(1, 2).numpy()
    out = asr.generate(features, language="en", max_new_tokens=6)
    assert out["token_ids"].shape[0] == 1
    with torch.no_grad():
        expected = model.generate(
            torch.from_numpy(features).transpose(1, 2), language="en", task="transcribe",
            max_new_tokens=6, force_unique_generate_call=True,
        )  # fmt: skip
    ids = out["token_ids"][0][out["padding_mask"][0]].tolist()
    assert ids == expected[0].tolist()[: len(ids)]
    prompt = np.array([asr.special_tokens.prompt("en", timestamps=False)])
    again = asr.generate(
        {"encoder_features": features, "decoder_token_ids": prompt}, max_new_tokens=6
    )
    assert to_numpy(again["token_ids"]).tolist() == to_numpy(out["token_ids"]).tolist()
    with pytest.raises(ValueError, match="no preprocessor to read recordings"):
        asr.transcribe(SOUND, "en")
