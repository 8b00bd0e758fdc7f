"""Presets of KerasHub, converted: the same answers on every backend, and in transformers."""

import json
import shutil

import h5py
import kerashub_presets as tiny
import numpy as np
import pytest
import torch
import transformers
from compare import assert_close
from safetensors.numpy import load_file

import hub
import keraslite as keras
from hub import tokenizers
from hub.convert.kerashub import convert_kerashub
from hub.families import family_of
from hub.presets import resolve

BACKBONES = [name for name, (_, _, task) in tiny.PRESETS.items() if task is None] + ["sharded"]
TASKS = [name for name, (_, _, task) in tiny.PRESETS.items() if task is not None]
# The masked-LM heads that transformers could not describe.
LEFT = ["Bert[masks]", "DistilBert[masks]", "Albert[masks]"]


@pytest.fixture(scope="session")
def converted(presets, tmp_path_factory):
    done, folder = {}, tmp_path_factory.mktemp("converted")

    def get(name):
        if name not in done:
            done[name] = convert_kerashub(resolve(presets / name), folder / name)
        return folder / name, done[name]

    return get


def answers(presets, name):
    """The batch, and what KerasHub made of it."""
    held = dict(np.load(presets / f"{name}.npz"))
    return (
        {k: v for k, v in held.items() if not k.startswith("out/")},
        {k.removeprefix("out/"): v for k, v in held.items() if k.startswith("out/")},
    )


def assert_close_at_tokens(ours, theirs, name="", batch=None):
    """Raise unless the values at tokens are close; those at padding do not matter."""
    ours = np.asarray(ours, "float32")
    assert np.isfinite(theirs).all()
    if batch is not None and ours.shape[:2] == batch.shape:
        ours, theirs = ours[batch > 0], theirs[batch > 0]
    assert_close(ours, theirs, rtol=2e-5, atol=2e-5, message=name)


def mask_of(batch, name):
    return batch.get("padding_mask", batch.get(f"{name.partition('_')[0]}_padding_mask"))


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_equal(backend, presets, converted, name):
    batch, expected = answers(presets, name)
    model = hub.Backbone.from_preset(converted(name)[0])
    out = model(batch)
    out = out if isinstance(out, dict) else {"output": out}
    if "output" in expected and "output" not in out:
        expected["sequence_output"] = expected.pop("output")
    if name.startswith("electra"):
        expected.pop("pooled_output")
    assert out.keys() == expected.keys()
    for key, value in expected.items():
        assert_close_at_tokens(
            keras.ops.convert_to_numpy(out[key]), value, key, mask_of(batch, key)
        )


@pytest.mark.parametrize("name", [t for t in TASKS if t not in LEFT])
def test_tasks_equal(backend, presets, converted, name):
    batch, expected = answers(presets, name)
    model = hub.load(converted(name)[0], preprocessor=None)
    assert model.new_weights == []
    assert type(model).task == tiny.PRESETS[name][2][0]
    assert_close_at_tokens(
        keras.ops.convert_to_numpy(model(batch)),
        expected["output"],
        name,
        mask_of(batch, "decoder"),
    )


@pytest.mark.parametrize("name", [*BACKBONES, *(t for t in TASKS if t not in LEFT)])
def test_transformers_opens_it(presets, converted, name):
    folder, rows = converted(name)
    batch, expected = answers(presets, name)
    stated = json.loads((folder / "config.json").read_text())["architectures"][0]
    theirs, info = getattr(transformers, stated).from_pretrained(folder, output_loading_info=True)
    if stated.endswith("RobertaModel"):  # KerasHub has no pooler there
        assert {n.partition(".")[0] for n in info.pop("missing_keys")} == {"pooler"}
    assert not any(info.values()), info
    features = torch.from_numpy(batch.pop("encoder_features", np.zeros((1, 1, 1), "float32")))
    ids = {k: torch.from_numpy(v).long() for k, v in batch.items()}
    given = {"input_ids": ids.get("token_ids"), "attention_mask": ids.get("padding_mask")}
    if "segment_ids" in ids:
        given["token_type_ids"] = ids["segment_ids"]
    if stated.startswith("T5"):
        given = {
            "input_ids": ids["encoder_token_ids"], "attention_mask": ids["encoder_padding_mask"],
            "decoder_input_ids": ids["decoder_token_ids"],
        }  # fmt: skip
    if stated.startswith("Whisper"):
        theirs = theirs.model
        given = {
            "input_features": features.transpose(1, 2),
            "decoder_input_ids": ids["decoder_token_ids"],
        }
    with torch.no_grad():
        out = theirs.eval()(**given, output_hidden_states=True)
    if "MaskedLM" in stated:
        logits = np.take_along_axis(out.logits.numpy(), batch["mask_positions"][..., None], 1)
        assert_close_at_tokens(logits, expected["output"])
    elif stated.endswith("ForSequenceClassification") or "[task]" in name or ",task" in name:
        assert_close_at_tokens(
            out.logits.numpy(), expected["output"], name, mask_of(batch, "decoder")
        )
    elif stated.startswith("Whisper"):
        value = expected["decoder_sequence_output"]
        assert_close_at_tokens(
            out.last_hidden_state.numpy(), value, name, batch["decoder_padding_mask"]
        )
    elif "logits" not in out:
        value = expected["sequence_output" if "sequence_output" in expected else "output"]
        assert_close_at_tokens(out.last_hidden_state.numpy(), value, name, mask_of(batch, ""))
    elif stated.startswith("T5"):
        value = expected["encoder_sequence_output"]
        assert_close_at_tokens(
            out.encoder_last_hidden_state.numpy(), value, "", batch["encoder_padding_mask"]
        )
    else:
        assert_close_at_tokens(
            out.hidden_states[-1].numpy(), expected["output"], name, batch["padding_mask"]
        )


@pytest.mark.parametrize("name", LEFT)
def test_heads_that_are_left_say_why(presets, converted, name):
    folder, rows = converted(name)
    left = [row for row in rows if not row.ours and "optimizer" not in row.theirs]
    assert {row.theirs.split("/")[2] for row in left} == {"masked_lm_head"}
    assert len(left) == 5
    assert all("epsilon" in row.note for row in left)
    with keras.use_backend("numpy"):
        batch, _ = answers(presets, name)
        batch.pop("mask_positions")
        assert hub.load(folder)(batch)["sequence_output"].shape == (3, 7, 12)


@pytest.mark.parametrize("name", [*BACKBONES, *TASKS])
def test_the_report_names_every_tensor(presets, converted, name):
    folder, rows = converted(name)
    there = set()
    for file, prefix in (("model", ""), ("task", "task/")):
        for path in (presets / name).glob(f"{file}*.weights.h5"):
            with h5py.File(path) as held:
                held.visititems(lambda at, item, prefix=prefix: there.add(prefix + at) if isinstance(item, h5py.Dataset) else None)  # fmt: skip
    named = [part for row in rows if row.theirs for part in row.theirs.split(" + ")]
    plain = {"/".join(part.lstrip("_") for part in at.split("/")) for at in there}
    assert sorted(named) == sorted(plain)
    here = load_file(folder / "model.safetensors")
    assert {row.ours: (row.shape, row.dtype) for row in rows if row.ours} == {
        key: (value.shape, str(value.dtype)) for key, value in here.items()
    }


def test_speech_is_transcribed_as_by_transformers(backend, converted):
    folder, _ = converted("speech")
    assert type(hub.load(folder)).task == "SpeechToText"
    asr = hub.SpeechToText.from_preset(folder)
    tokens = asr.special_tokens
    assert (tokens.start, tokens.end, tokens.previous) == (258, 257, 264)
    assert (tokens.no_speech, tokens.no_timestamps) == (265, 266)
    assert dict(tokens.languages) == {"en": 259, "de": 260}
    assert dict(tokens.tasks) == {"transcribe": 262, "translate": 261}
    assert asr.preprocessor.audio.max_audio_length == 1
    sound = np.random.default_rng(0).normal(0, 0.1, 16000).astype("float32")
    model = transformers.WhisperForConditionalGeneration.from_pretrained(folder).eval()
    extractor = transformers.WhisperFeatureExtractor.from_pretrained(folder)
    features = extractor(sound, sampling_rate=16000, return_tensors="pt").input_features
    for timestamps in (False, True):
        with torch.no_grad():
            expected = model.generate(
                features, language="de", task="translate", max_new_tokens=12,
                return_timestamps=timestamps, force_unique_generate_call=True,
            )  # fmt: skip
        (ids,) = asr.generate(
            [sound], language="de", task="translate", max_new_tokens=12, timestamps=timestamps,
            return_ids="ragged",
        )  # fmt: skip
        assert len(ids) > 6
        assert ids.tolist() == expected[0].tolist()[: len(ids)]
    result = asr.transcribe(np.tile(sound, 3), temperature=0.0, no_speech_threshold=None)
    assert result.language in ("en", "de") and result.segments


def test_bfloat16_stays(presets, converted):
    folder, rows = converted("bfloat16")
    assert {row.dtype for row in rows} == {"bfloat16"}
    with keras.use_backend("numpy"):
        model = hub.Backbone.from_preset(folder)
        table = keras.ops.convert_to_numpy(model.token_embedding.embeddings).astype("float32")
    np.testing.assert_array_equal(table, np.load(presets / "bfloat16.npy"))


# -- tokenizers -----------------------------------------------------------------------------------


def test_whisper_without_a_tokenizer_is_a_backbone(presets, tmp_path):
    for path in (presets / "speech").glob("*.*"):
        if path.name not in ("tokenizer.json", "audio_converter.json"):
            shutil.copy(path, tmp_path / path.name)
    convert_kerashub(resolve(tmp_path), tmp_path / "out")
    stated = json.loads((tmp_path / "out" / "config.json").read_text())
    assert stated["architectures"] == ["WhisperModel"]


WITH_TEXTS = [
    "bert", "distilbert", "electra", "roberta", "gpt2", "opt", "albert", "xlm-roberta", "t5",
    "whisper",
]  # fmt: skip


@pytest.mark.parametrize("name", WITH_TEXTS)
def test_tokenizers_equal(presets, converted, name):
    folder, _ = converted(name)
    expected = json.loads((presets / "texts.json").read_text())[name]
    texts = [*tiny.TEXTS, "café"]
    config = json.loads((folder / "config.json").read_text())
    ours = getattr(tokenizers, family_of(config["model_type"]).tokenizer).from_files(
        resolve(folder)
    )
    plain = ours.encode_batch(texts, None, 99, add_special_tokens=False)
    assert [ids.tolist() for ids, _ in plain] == expected
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert [theirs.encode(t, add_special_tokens=False) for t in texts] == expected
    assert [theirs.encode(t) for t in texts] == [
        ids.tolist() for ids, _ in ours.encode_batch(texts, None, 99)
    ]
    assert ours.max_length == (512 if name == "t5" else 24)
