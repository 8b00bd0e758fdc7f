"""SentencePiece's unigram model against transformers and sentencepiece, as the families have it."""

import json

import pytest
import sentencepiece
import transformers
from tokenizer_texts import PAIRS, TEXTS

import hub
from hub.presets import resolve
from hub.tokenizers import UnigramTokenizer
from hub.tokenizers.sentencepiece import parse_model

T5 = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
KINDS = {
    "t5": ("T5Tokenizer", "spiece.model", T5, {}),
    "albert": (
        "AlbertTokenizer", "spiece.model",
        {"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1,
         "control_symbols": ["[CLS]", "[SEP]", "[MASK]"]}, {},
    ),
    "albert[cased]": (
        "AlbertTokenizer", "spiece.model",
        {"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1,
         "control_symbols": ["[CLS]", "[SEP]", "[MASK]"]},
        {"do_lower_case": False, "keep_accents": True},
    ),
    "xlm-roberta": (
        "XLMRobertaTokenizer", "sentencepiece.bpe.model",
        {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": -1}, {},
    ),
}  # fmt: skip
HARD = [*TEXTS.values(), "a <mask>b", "x</s>y", "<extra_id_0> the <extra_id_1>", " two  spaces "]


@pytest.fixture(scope="module", params=KINDS)
def checkpoint(request, tmp_path_factory):
    """A folder with a model that SentencePiece trained."""
    cls, name, options, config = KINDS[request.param]
    folder = tmp_path_factory.mktemp("unigram")
    (folder / "texts").write_text("\n".join([*TEXTS.values(), *PAIRS] * 3), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "texts"), model_prefix=str(folder / "m"), vocab_size=400,
        hard_vocab_limit=False, character_coverage=0.98, minloglevel=2, **options,
    )  # fmt: skip
    (folder / "m.model").rename(folder / name)
    (folder / "m.vocab").unlink()
    config = {"tokenizer_class": cls, "model_max_length": 64, **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    kind = request.param.partition("[")[0]
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    return folder


@pytest.fixture(scope="module")
def theirs(checkpoint):
    return transformers.AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)


def assert_same(mine, other):
    got = mine.encode_batch(HARD, max_length=10_000)
    for text, (ids, _), want in zip(HARD, got, other(HARD)["input_ids"], strict=True):
        assert ids.tolist() == want, text
        assert mine.detokenize(ids) == other.decode(
            want, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
    for second in PAIRS:
        got = mine.encode_batch(HARD, [second] * len(HARD), max_length=10_000)
        expected = other(HARD, [second] * len(HARD))
        assert [ids.tolist() for ids, _ in got] == expected["input_ids"], second


def test_from_a_model_of_sentencepiece(checkpoint, theirs):
    mine = UnigramTokenizer.from_files(resolve(checkpoint))
    assert mine.max_length == 64
    assert mine.vocabulary_size() == len(theirs)
    assert (
        mine.special_tokens.items()
        >= {role: theirs.special_tokens_map[role] for role in mine.special_tokens}.items()
    )
    assert_same(mine, theirs)


def test_from_tokenizer_json(checkpoint, theirs, tmp_path):
    theirs.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    assert_same(UnigramTokenizer.from_files(resolve(tmp_path)), theirs)


def test_saved_files_are_opened_by_transformers(checkpoint, theirs, tmp_path):
    mine = UnigramTokenizer.from_files(resolve(checkpoint))
    mine.save(tmp_path)
    other = transformers.AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert other.model_max_length == 64
    assert_same(mine, other)
    again = UnigramTokenizer.from_files(resolve(tmp_path))
    assert again.get_config() == mine.get_config()
    assert_same(again, theirs)


def test_pieces_are_those_of_sentencepiece(checkpoint):
    (path,) = checkpoint.glob("*.model")
    model = parse_model(path.read_bytes())
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    count = processor.get_piece_size()
    assert model.unk_id == processor.unk_id()
    assert [piece for piece, _ in model.pieces] == [processor.id_to_piece(i) for i in range(count)]
    assert [score for _, score in model.pieces] == [processor.get_score(i) for i in range(count)]
    assert model.charsmap


def test_plain_texts_are_cut_as_sentencepiece_does(checkpoint):
    if json.loads((checkpoint / "config.json").read_text())["model_type"] != "t5":
        return
    path = checkpoint / "spiece.model"
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    mine = UnigramTokenizer.from_files(resolve(checkpoint))
    for name in ("plain", "accents", "digits", "scripts", "punctuation", "repeated", "cjk"):
        [(ids, _)] = mine.encode_batch(TEXTS[name], max_length=10_000)
        assert ids.tolist() == [*processor.encode(TEXTS[name]), processor.eos_id()], name


def test_damaged_models_are_refused(checkpoint, tmp_path):
    (path,) = checkpoint.glob("*.model")
    data = path.read_bytes()
    for bad in (b"", b"\xff" * 30, data[: len(data) // 2], b"\x0a\x7f" + data[:20], b"\x0a\x00"):
        with pytest.raises(ValueError, match="it "):
            parse_model(bad)
    (tmp_path / path.name).write_bytes(data[:100])
    (tmp_path / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    with pytest.raises(ValueError, match=rf"{path.name} of .* cannot be read"):
        UnigramTokenizer.from_files(resolve(tmp_path))


@pytest.fixture(scope="module", params=["bpe", "bpe[bytes]", "unigram[bytes]", "bpe[kept spaces]"])
def plain(request, tmp_path_factory):
    """A bare `.model` file and SentencePiece's own processor of it."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "texts").write_text("\n".join([*TEXTS.values(), *PAIRS] * 3), encoding="utf-8")
    kind, _, option = request.param.partition("[")
    spaces = {"remove_extra_whitespaces": False, "add_dummy_prefix": False}
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "texts"), model_prefix=str(folder / "m"), vocab_size=600,
        hard_vocab_limit=False, character_coverage=0.98, minloglevel=2, model_type=kind,
        byte_fallback=option == "bytes]", user_defined_symbols=["<user>"],
        **(spaces if option.startswith("kept") else {}),
    )  # fmt: skip
    path = folder / "m.model"
    return path, sentencepiece.SentencePieceProcessor(model_file=str(path))


def test_a_bare_model_is_sentencepiece(plain, tmp_path):
    path, processor = plain
    mine = hub.Tokenizer.from_preset(path)
    assert mine.vocabulary_size() == processor.get_piece_size()
    assert (mine.unk_token_id, mine.bos_token_id, mine.eos_token_id) == (0, 1, 2)
    # The `tokenizers` library normalises by grapheme, and breaks ties of a unigram otherwise.
    texts = [t for name, t in TEXTS.items() if name not in ("combining", "long word", "spaces")]
    for text in [*texts, "a<user>b", "two  spaces ", "\u6f22\U0001f600 z"]:
        [(ids, _)] = mine.encode_batch(text, max_length=10_000)
        assert ids.tolist() == processor.encode(text), text
        assert mine.detokenize(ids, skip_special_tokens=False) == processor.decode(
            ids.tolist()
        ).replace(" \u2047 ", "<unk>"), text
    mine.save(tmp_path)
    again = hub.Tokenizer.from_preset(tmp_path)
    assert type(again) is type(mine)
    assert again.special_tokens == mine.special_tokens
    [(ids, _)] = again.encode_batch(TEXTS["scripts"], max_length=10_000)
    assert ids.tolist() == processor.encode(TEXTS["scripts"])


@pytest.mark.parametrize("family", ["t5", "albert", "xlm-roberta"])
def test_families_with_a_bpe_model(family, tmp_path):
    cls, name, options, config = KINDS[family]
    (tmp_path / "texts").write_text("\n".join([*TEXTS.values(), *PAIRS] * 3), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "texts"), model_prefix=str(tmp_path / "m"), vocab_size=600,
        hard_vocab_limit=False, character_coverage=0.98, minloglevel=2, model_type="bpe",
        byte_fallback=True, **options,
    )  # fmt: skip
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "m.model"))
    (tmp_path / "m.model").rename(tmp_path / name)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    mine = UnigramTokenizer.from_files(resolve(tmp_path))
    for text in ("the quick brown fox", "the lazy dog \u6f22"):
        [(ids, _)] = mine.encode_batch(text)
        ids = [i for i in ids.tolist() if i not in mine.special_ids()]
        assert [mine.id_to_token(i) for i in ids] == processor.encode(text, out_type=str)
        assert mine.detokenize(ids) == text


def test_other_models_are_refused(tmp_path):
    (tmp_path / "texts").write_text("the quick brown fox jumps over the lazy dog\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "texts"), model_prefix=str(tmp_path / "m"), vocab_size=27,
        model_type="char", minloglevel=2, hard_vocab_limit=False,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"must be unigram \(1\) or BPE \(2\), got 4"):
        parse_model((tmp_path / "m.model").read_bytes())
    with pytest.raises(ValueError, match="style must be one of"):
        UnigramTokenizer([("<unk>", 0.0)], style="gpt")
