"""Models written as presets of KerasHub: it opens them, and answers as ours do."""

import contextlib
import functools
import io
import json

import kerashub_opens
import numpy as np
import pytest
import sentencepiece
from backends import BACKENDS
from compare import assert_close
from keras_process import run_with_keras

import hub
import keraslite as keras
from hub.cli import main
from hub.convert.kerashub import convert_kerashub
from hub.convert.kerashub_families import BACKBONES
from hub.presets import resolve
from hub.tokenizers.charsmap import compose_charsmap, read_charsmap, write_charsmap
from hub.tokenizers.sentencepiece import SentencePieceModel, parse_model, write_model
from keraslite.saving import H5Tensors

SIZES = {
    "vocabulary_size": 170, "num_layers": 2, "num_heads": 3, "hidden_dim": 12,
    "intermediate_dim": 20, "max_sequence_length": 24,
}  # fmt: skip
_T5 = {k: v for k, v in SIZES.items() if k != "max_sequence_length"}
_ELECTRA = {"vocab_size": 170, **{k: v for k, v in SIZES.items() if k != "vocabulary_size"}}
_TANH = {"activation": "gelu_new"}
_WHISPER = {
    **_T5, "vocabulary_size": 267 + 1501, "max_encoder_sequence_length": 100,
    "max_decoder_sequence_length": 24,
}  # fmt: skip
# Name -> the prefix of the classes, arguments of the backbone, the task and its arguments.
MODELS = {
    "bert": ("Bert", {**SIZES, **_TANH, "num_segments": 3}, None),
    "bert-no-pooler": ("Bert", {**SIZES, **_TANH, "pooler": False}, None),
    "bert-classes": ("Bert", {**SIZES, **_TANH}, ("TextClassifier", {"num_classes": 4})),
    "bert-vectors": ("Bert", {**SIZES, **_TANH, "pooler": False}, ("TextEmbedder", {})),
    "roberta": ("Roberta", SIZES, None),
    "roberta-classes": (
        "Roberta", SIZES, ("TextClassifier", {"num_classes": 3, "activation": "softmax"}),
    ),
    "roberta-masks": ("Roberta", SIZES, ("MaskedLM", {})),
    "xlm-roberta": ("XLMRoberta", SIZES, ("MaskedLM", {})),
    "bert-masks": ("Bert", SIZES, ("MaskedLM", {})),
    "distilbert-masks": ("DistilBert", SIZES, ("MaskedLM", {})),
    "albert-masks": ("Albert", {**SIZES, "embedding_dim": 8}, ("MaskedLM", {})),
    "xlm-roberta-vectors": ("XLMRoberta", SIZES, ("TextEmbedder", {"pooling": "cls"})),
    "distilbert": ("DistilBert", SIZES, ("TextClassifier", {"num_classes": 2})),
    "albert": (
        "Albert",
        {**SIZES, "num_layers": 4, "embedding_dim": 8, "num_groups": 2,
         "num_inner_repetitions": 2},
        ("TextClassifier", {"num_classes": 4}),
    ),
    "albert-wide": ("Albert", {**SIZES, "embedding_dim": 12}, None),
    "electra": ("Electra", {**_ELECTRA, **_TANH, "embedding_dim": 8}, None),
    "electra-wide": ("Electra", {**_ELECTRA, **_TANH, "embedding_dim": 12}, None),
    "gpt2": ("GPT2", SIZES, ("CausalLM", {})),
    "opt": ("OPT", SIZES, ("CausalLM", {})),
    "t5": ("T5", {**_T5, "key_value_dim": 5}, ("Seq2SeqLM", {})),
    "t5-gated": (
        "T5", {**_T5, **_TANH, "use_gated_activation": True}, ("Seq2SeqLM", {"tied": False}),
    ),
    "whisper": ("Whisper", _WHISPER, ("SpeechToText", {"generation_config": {"is_multilingual": True}})),
}  # fmt: skip
# Those that KerasHub computes a little differently, which a warning says.
INEXACT = {"bert-masks": 3e-2, "distilbert-masks": 1e-3, "albert-masks": 1e-3}
# Those that are written from other backends than torch, which has the least to compile.
ELSEWHERE = {
    "roberta-classes": "jax", "t5": "jax", "gpt2": "tensorflow", "bert": "tensorflow",
    "electra": "numpy",
}  # fmt: skip
TEXTS = ["the movie was good!", "bad film", "An AMÁZING movie  wàs ``not'' bad…", "café 中文"]
WORDS = ["the", "movie", "was", "good", "bad", "an", "amazing", "film", "##s", "!", ".", "not"]


# -- models ---------------------------------------------------------------------------------------


def tokenizer_of(prefix):
    """A tokenizer with a tiny vocabulary, of the class for a family."""
    letters = [chr(c) for c in range(33, 127)] + ["\u0120"]
    pairs = ["m o", "\u0120 mo", "g o", "a d", "\u0120 w"]
    tokens = [*letters, *(pair.replace(" ", "") for pair in pairs)]
    angles = ["<s>", "<pad>", "</s>", "<unk>", *tokens, "<mask>"]
    ends = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    if prefix in ("Bert", "DistilBert", "Electra"):
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "cafe", "An"]
        return hub.WordPieceTokenizer(words, lowercase=prefix != "DistilBert", max_length=20)
    if prefix in ("Roberta", "OPT"):
        special = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>",
                   "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>",
                   "mask_token": "<mask>"}  # fmt: skip
        if prefix == "OPT":
            special = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "</s>")
            special["pad_token"] = "<pad>"
        vocabulary = {token: i for i, token in enumerate(angles)}
        return hub.BytePairTokenizer(
            vocabulary, pairs, special_tokens=special, add_bos_token=prefix == "OPT", max_length=20
        )
    if prefix == "GPT2":
        vocabulary = {token: i for i, token in enumerate(["<|endoftext|>", *tokens])}
        return hub.BytePairTokenizer(vocabulary, pairs, special_tokens=ends, max_length=20)
    if prefix == "Whisper":
        from tokenizers.pre_tokenizers import ByteLevel

        words = [*sorted(ByteLevel.alphabet()), "th", "<|endoftext|>"]
        names = ("startoftranscript", "en", "de", "translate", "transcribe", "startoflm",
                 "startofprev", "nospeech", "notimestamps")  # fmt: skip
        added = {f"<|{name}|>": 258 + i for i, name in enumerate(names)}
        return hub.WhisperTokenizer({w: i for i, w in enumerate(words)}, ["t h"], added)
    scored = [(p, -2.0 - 0.1 * i) for i, p in enumerate(("▁", *"abcdefghilmnostuvwz!", "▁movie",
              "▁the", "▁film", "ood", "▁was", "ing"))]  # fmt: skip
    heads = {"T5": ["<pad>", "</s>", "<unk>"], "XLMRoberta": ["<unk>", "<s>", "</s>"],
             "Albert": ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]}[prefix]  # fmt: skip
    style = {"T5": "t5", "XLMRoberta": "xlm-roberta", "Albert": "albert"}[prefix]
    charsmap = write_charsmap({"…": "..."}) if prefix == "Albert" else nfkc_charsmap()
    return hub.UnigramTokenizer(
        [*((piece, 0.0) for piece in heads), *scored], style, heads.index("<unk>"), charsmap,
        max_length=20,
    )  # fmt: skip


@functools.cache
def nfkc_charsmap():
    """SentencePiece's normalisation to NFKC, as its trainer writes it."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 5), model_writer=out, vocab_size=40, minloglevel=2,
        hard_vocab_limit=False,
    )  # fmt: skip
    return parse_model(out.getvalue()).charsmap


def hub_model(charsmap):
    """A model of SentencePiece with a few pieces."""
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("▁", -1.0), ("a", -2.0)]
    return SentencePieceModel(pieces, 0, charsmap)


def preprocessor_of(task, tokenizer, prefix):
    if task == "SpeechToText":
        audio = hub.WhisperAudioConverter(max_audio_length=1)
        return hub.SpeechToTextPreprocessor(audio, tokenizer, 20)
    names = {"TextClassifier": "Text", "TextEmbedder": "Text"}
    return getattr(hub, f"{names.get(task, task)}Preprocessor")(tokenizer, 20)


def scrambled(model, seed=0):
    """A model without zeros or ones that hide a mistake."""
    generator = np.random.default_rng(seed)
    for _, variable in model.named_weights():
        noise = generator.normal(size=variable.shape) * 0.3
        variable.assign(np.asarray(variable.numpy(), "float32") + noise.astype("float32"))
    return model


def model_of(name):
    prefix, sizes, task = MODELS[name]
    model = getattr(hub, f"{prefix}Backbone")(**sizes)
    if task is not None:
        preprocessor = preprocessor_of(task[0], tokenizer_of(prefix), prefix)
        model = getattr(hub, task[0])(model, preprocessor=preprocessor, **task[1])
    return scrambled(model)


def inputs(name):
    """A batch with padding on the right; the names are those of both sides."""
    prefix, _, task = MODELS[name]
    generator = np.random.default_rng(0)
    mask = np.array([[1] * 7, [1] * 4 + [0] * 3, [1] + [0] * 6])
    ids = generator.integers(5, 170, (3, 7)).astype("int32")
    ids = np.where(mask, ids, 1 if "Roberta" in prefix else ids)
    if prefix == "T5":
        other = generator.integers(5, 170, (3, 5)).astype("int32")
        return {
            "encoder_token_ids": ids, "encoder_padding_mask": mask, "decoder_token_ids": other,
            "decoder_padding_mask": np.ones((3, 5), "int32"),
        }  # fmt: skip
    if prefix == "Whisper":
        features = generator.normal(size=(3, 100, 80)).astype("float32")
        return {
            "encoder_features": features, "decoder_token_ids": ids, "decoder_padding_mask": mask,
        }  # fmt: skip
    batch = {"token_ids": ids, "padding_mask": mask}
    if prefix in ("Bert", "Albert", "Electra"):
        batch["segment_ids"] = np.array([[0, 0, 0, 1, 1, 0, 1]] * 3, "int32")
    if task is not None and task[0] == "MaskedLM":
        batch["mask_positions"] = np.array([[0, 2], [3, 1], [0, 0]])
    return batch


def at_tokens(batch, name, values):
    """The values at tokens; those at padding do not matter."""
    mask = batch.get("padding_mask", batch.get(f"{name.partition('_')[0]}_padding_mask"))
    mask = batch.get("decoder_padding_mask") if mask is None else mask
    values = np.asarray(values, "float32")
    return values[mask > 0] if values.shape[:2] == mask.shape else values


def texts_of(name):
    """Texts of a model, with special tokens inside where KerasHub looks for them."""
    words = MODELS[name][0] in ("Bert", "DistilBert")
    return [*TEXTS, "bad [MASK] film[SEP]x"] if words else TEXTS


def ids_of(preprocessor, texts):
    """Token ids without special tokens."""
    plain = preprocessor.tokenizer.encode_batch(texts, None, 99, add_special_tokens=False)
    return [ids.tolist() for ids, _ in plain]


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """The folder of all presets, and our outputs by name."""
    folder, answers = tmp_path_factory.mktemp("exported"), {}
    for name in MODELS:
        backend = ELSEWHERE.get(name, "torch")
        with keras.use_backend(backend if backend in BACKENDS else BACKENDS[-1]):
            model = model_of(name)
            if name == "distilbert":
                model.enable_lora(2)
                scrambled(model, 1)
            warns = pytest.warns(UserWarning, match="will differ a little")
            with warns if name in INEXACT else contextlib.nullcontext():
                hub.export_to_kerashub(model, folder / name)
            if backend != "torch":
                model.to_backend("numpy")
        with keras.use_backend(model.backend):
            is_speech = getattr(model, "task", "") == "SpeechToText"
            out = (model.backbone if is_speech else model)(inputs(name))
            out = out if isinstance(out, dict) else {"output": out}
            answers[name] = {k: keras.ops.convert_to_numpy(v) for k, v in out.items()}
        np.savez(folder / f"{name}.batch.npz", **inputs(name))
        if MODELS[name][2] is not None:
            answers[name]["ids"] = ids_of(model.preprocessor, texts_of(name))
            answers[name]["preprocessor"] = model.preprocessor
            (folder / f"{name}.texts.json").write_text(json.dumps(texts_of(name)))
    said = run_with_keras(kerashub_opens.__file__, folder, backend="torch")
    assert "Skipping variable" not in said
    return folder, answers


# -- what KerasHub makes of them ------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_kerashub_answers_the_same(exported, name):
    folder, answers = exported
    theirs, ours, batch = dict(np.load(folder / f"{name}.out.npz")), answers[name], inputs(name)
    if "output" in theirs and "output" not in ours:
        theirs["sequence_output"] = theirs.pop("output")
    lacks = theirs.keys() - ours.keys()
    assert lacks <= {"pooled_output"}
    for key in theirs.keys() - lacks:
        a, b = at_tokens(batch, key, ours[key]), at_tokens(batch, key, theirs[key])
        assert np.isfinite(b).all()
        tolerance = INEXACT.get(name, 1e-5)
        assert_close(a, b, rtol=tolerance, atol=tolerance, message=key)
    for key in lacks:  # a pooler that ours lacks is an identity there
        expected = np.tanh(np.asarray(ours["sequence_output"])[:, 0])
        assert_close(theirs[key], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_kerashub_would_save_the_same(exported, name):
    folder, _ = exported
    differences = json.loads((folder / "again.json").read_text())[name]
    if name.startswith("t5"):  # whose preprocessor forgets the lengths that it reads
        differences = [d for d in differences if "coder_sequence_length only in ours" not in d]
    assert differences == []


@pytest.mark.parametrize("name", [name for name in MODELS if MODELS[name][2] is not None])
def test_token_ids_equal(exported, name):
    folder, answers = exported
    theirs = json.loads((folder / f"{name}.ids.json").read_text())
    assert theirs.pop("ids") == answers[name]["ids"]
    preprocessor = answers[name]["preprocessor"]
    if theirs:
        texts = texts_of(name)
        ours = preprocessor(texts, texts) if name.startswith("t5") else preprocessor(texts)
        ours = ours[0] if isinstance(ours, tuple) else ours
        for key, rows in theirs.items():
            for a, b, row in zip(ours[key], rows, range(len(rows)), strict=True):
                count = int(np.asarray(ours[key.replace("token_ids", "padding_mask")
                            .replace("segment_ids", "padding_mask")])[row].sum())  # fmt: skip
                assert np.asarray(a)[:count].astype(int).tolist() == b[:count], (key, row)


# -- what our reader makes of them ----------------------------------------------------------------


def test_what_is_read_is_written():
    assert {f"{prefix}Backbone" for prefix, _, _ in MODELS.values()} == set(BACKBONES)


@pytest.mark.parametrize("name", ["roberta", "gpt2", "t5-gated", "whisper", "albert"])
def test_our_reader_reads_them_back(exported, name, tmp_path):
    folder, answers = exported
    convert_kerashub(resolve(folder / name), tmp_path / "back")
    with keras.use_backend("numpy"):
        model = hub.load(tmp_path / "back")
        out = (model.backbone if name == "whisper" else model)(inputs(name))
        out = out if isinstance(out, dict) else {"output": out}
        for key, value in out.items():
            a, b = (at_tokens(inputs(name), key, v) for v in (value, answers[name][key]))
            assert_close(a, b, rtol=2e-5, atol=2e-5)
    if name == "gpt2":
        assert model.preprocessor.tokenizer(TEXTS[1])["token_ids"].tolist() == [
            answers[name]["ids"][1]
        ]


# -- SentencePiece's map of characters ------------------------------------------------------------


def test_maps_of_characters():
    """SentencePiece reads what we write as what it wrote, and with cleaning before it."""
    charsmap = nfkc_charsmap()
    rules = read_charsmap(charsmap)
    assert len(rules) > 200_000
    again = write_charsmap(rules)
    assert len(again) <= len(charsmap)
    small = write_charsmap({key: text for key, text in rules.items() if len(key) == 1})
    cleaned = compose_charsmap(str.lower, small, {"``": '"'})
    model = parse_model(write_model(hub_model(charsmap)))
    theirs, ours, plain, lower = (
        sentencepiece.SentencePieceProcessor(model_proto=write_model(model._replace(charsmap=c)))
        for c in (charsmap, again, small, cleaned)
    )
    generator = np.random.default_rng(0)
    blocks = np.array([0x20, 0x300, 0x1E00, 0x2000, 0x3000, 0xAC00, 0xF900, 0xFE00, 0x1D400])
    for _ in range(300):
        points = generator.choice(blocks, 12) + generator.integers(0, 0x180, 12)
        text = "".join(map(chr, points)) + "\uff21 №``"
        assert ours.Normalize(text) == theirs.Normalize(text)
        expected = plain.Normalize("".join(c.lower() for c in text).replace("``", '"'))
        assert lower.Normalize(text) == expected


@pytest.mark.parametrize("data", [b"\0", b"\4\0\0\0\1\1\1", b"\5\0\0\0" + b"x" * 40])
def test_a_damaged_map(data):
    with pytest.raises(ValueError, match="precompiled map of .* is damaged"):
        read_charsmap(data)


# -- weights, files and errors --------------------------------------------------------------------


@pytest.fixture
def on_numpy():
    with keras.use_backend("numpy"):
        yield


def tiny(prefix="Bert", **arguments):
    sizes = {**_ELECTRA, "embedding_dim": 12} if prefix == "Electra" else SIZES
    return getattr(hub, f"{prefix}Backbone")(**{**sizes, "num_layers": 1, **arguments})


def test_quantized_weights_become_floats(backend, tmp_path):
    model = scrambled(tiny(**_TANH))
    model.quantize("int8")
    hub.export_to_kerashub(model, tmp_path)
    with H5Tensors([tmp_path / "model.weights.h5"]) as tensors:
        assert {tensors.dtype(name) for name in tensors} == {"float32"}
        stored = tensors["layers/dense/vars/0"]
    expected = keras.ops.convert_to_numpy(model.pooler.float_weight("kernel"))
    np.testing.assert_array_equal(stored, expected)
    policy = json.loads((tmp_path / "config.json").read_text())["config"]["dtype"]
    assert policy["config"] == {"name": "float32"}


def test_bfloat16_stays(on_numpy, tmp_path):
    model = tiny(**_TANH, dtype="bfloat16", pooler=False)
    rows = hub.export_to_kerashub(model, tmp_path)
    assert {row.dtype for row in rows} == {"bfloat16"}
    with H5Tensors([tmp_path / "model.weights.h5"]) as tensors:
        assert {tensors.dtype(name) for name in tensors} == {"bfloat16"}
        stored = tensors["layers/reversible_embedding/vars/0"]
    np.testing.assert_array_equal(stored, np.asarray(model.token_embedding.embeddings))


def test_a_pooler_that_kerashub_lacks_is_left(on_numpy, tmp_path):
    rows = hub.export_to_kerashub(tiny("Roberta", pooler=True), tmp_path)
    assert [(row.ours, row.theirs) for row in rows if "pooler" in row.ours] == [
        ("pooler/kernel", ""), ("pooler/bias", ""),
    ]  # fmt: skip


def test_a_tokenizer_alone(on_numpy, tmp_path, exported):
    folder, answers = exported
    tokenizer = answers["albert"]["preprocessor"].tokenizer
    hub.export_to_kerashub(tokenizer, tmp_path)
    names = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert names == {"tokenizer.json", "assets/tokenizer/vocabulary.spm"}
    for name in names:
        assert (tmp_path / name).read_bytes() == (folder / "albert" / name).read_bytes()


def _after(change):
    """A BERT with a classifier whose preprocessor was changed."""
    model = hub.TextClassifier(tiny(**_TANH), 2)
    model.preprocessor = change(tokenizer_of("Bert"))
    return model


REFUSED = {
    "family": (
        lambda: hub.RegNetBackbone([8], [1], 8, image_shape=(8, 8, 3)), ValueError,
        "The model type of RegNetBackbone is 'regnet', which is not .* are: BertBackbone, Rob",
    ),
    "activation": (
        lambda: tiny(activation="relu"), ValueError, "has activation='relu', not 'gelu_new'",
    ),
    "epsilon": (
        lambda: tiny(**_TANH, layer_norm_epsilon=1e-6), ValueError, "layer_norm_epsilon=1e-06, no",
    ),
    "two arguments": (
        lambda: tiny("OPT", norm_first=False, layer_norm_epsilon=1e-3), ValueError,
        "layer_norm_epsilon=0.001, not 1e-05, norm_first=False, not True",
    ),
    "task": (
        lambda: hub.TokenClassifier(tiny(**_TANH), 3), ValueError,
        r"has no TokenClassifier of bert.*export_to_kerashub\(model.backbone.*'TextClassifier', 'Te",
    ),
    "truncation": (
        lambda: _after(lambda t: hub.TextPreprocessor(t, 20, "only_first")), ValueError,
        "cannot have truncate='only_first'",
    ),
    "special tokens": (
        lambda: _after(
            lambda t: hub.TextPreprocessor(
                hub.WordPieceTokenizer(
                    ["[PAD]", "[UNK]", "[S]", "[SEP]"], special_tokens={"cls_token": "[S]"}
                )
            )
        ),
        ValueError, r"special tokens of a BertTokenizer .* got \{'cls_token': '\[S\]'\}",
    ),
    "preprocessor": (
        lambda: _after(lambda t: t), ValueError,
        "KerasHub has a tokenizer, got WordPieceTokenizer. Set model.preprocessor = None",
    ),
    "family of a tokenizer": (
        lambda: hub.WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]"]), ValueError,
        "model type of the tokenizer is None",
    ),
    "a layer": (lambda: keras.layers.Dense(1), TypeError, "takes a backbone, a task, .* got Dense"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_kerashub_cannot_say_is_refused(on_numpy, name, tmp_path):
    make, error, match = REFUSED[name]
    with pytest.raises(error, match=match):
        hub.export_to_kerashub(make(), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_folder_with_a_checkpoint_is_kept(on_numpy, exported):
    folder, _ = exported
    before = (folder / "bert" / "model.weights.h5").read_bytes()
    with pytest.raises(FileExistsError, match="holds a checkpoint; give another folder"):
        hub.export_to_kerashub(tiny(**_TANH), folder / "bert")
    assert (folder / "bert" / "model.weights.h5").read_bytes() == before


def test_the_command(on_numpy, exported, capsys, tmp_path):
    folder, _ = exported
    for name, again in (("gpt2", ["task.json"]), ("electra", ["config.json"])):
        back, new = tmp_path / f"{name}-back", tmp_path / name
        convert_kerashub(resolve(folder / name), back)
        assert main(["convert", str(back), str(new), "--to", "kerashub"]) == 0
        assert capsys.readouterr().out.splitlines()[-1].endswith(f"0 left: {new}")
        for file in again:
            ours, first = (json.loads((f / file).read_text()) for f in (new, folder / name))
            ours["config"].pop("preprocessor", None), first["config"].pop("preprocessor", None)
            assert ours == first
        files = [f / "model.weights.h5" for f in (new, folder / name)]
        with H5Tensors(files[:1]) as a, H5Tensors(files[1:]) as b:
            assert set(a) == set(b)
            for key in a:
                np.testing.assert_array_equal(a[key], b[key])
