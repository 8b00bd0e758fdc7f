"""Byte-level BPE against transformers, as RoBERTa, GPT-2 and OPT have it."""

import json
import shutil

import pytest
from tokenizer_texts import PAIRS, TEXTS
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from hub.presets import resolve
from hub.tokenizers import BytePairTokenizer
from hub.tokenizers.byte_pair import parse_merges

ROBERTA = {
    "bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>",
    "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>",
}  # fmt: skip
END = "<|endoftext|>"
MASK = {"content": "<mask>", "lstrip": True, "rstrip": False, "__type": "AddedToken"}
KINDS = {
    "roberta[spaced mask]": (
        "RobertaTokenizer", {**ROBERTA, "mask_token": MASK}, ["<s>", "<pad>", "</s>", "<unk>"],
        ["<mask>"], {},
    ),
    "roberta": ("RobertaTokenizer", ROBERTA, ["<s>", "<pad>", "</s>", "<unk>"], ["<mask>"], {}),
    "gpt2": (
        "GPT2Tokenizer", {"bos_token": END, "eos_token": END, "unk_token": END}, [], [END], {},
    ),
    "spaced": (
        "GPT2Tokenizer", {"bos_token": END, "eos_token": END, "unk_token": END}, [], [END],
        {"add_prefix_space": True},
    ),
    "opt": (
        "GPT2Tokenizer",
        {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"},
        ["<s>", "<pad>", "</s>", "<unk>"], [], {"add_bos_token": True},
    ),
}  # fmt: skip
HARD = [*TEXTS.values(), "a<mask> b <mask>c", f"x{END}y {END}", " two  spaces", "x</s>y <s> <pad>z"]


@pytest.fixture(scope="module", params=KINDS)
def checkpoint(request, tmp_path_factory):
    """A folder with vocab.json, merges.txt and what says how they are used."""
    cls, special, first, last, config = KINDS[request.param]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        TEXTS.values(), trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet)
    )
    model = json.loads(core.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    folder = tmp_path_factory.mktemp(request.param)
    vocabulary = {token: i for i, token in enumerate([*first, *tokens, *last])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    config = {"tokenizer_class": cls, "model_max_length": 64, **special, **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    kind = "gpt2" if cls == "GPT2Tokenizer" else "roberta"
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    return folder


@pytest.fixture(scope="module")
def theirs(checkpoint):
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)


def assert_same(mine, other):
    got = mine.encode_batch(HARD, max_length=10_000)
    expected = other(HARD)["input_ids"]
    for text, (ids, _), want in zip(HARD, got, expected, strict=True):
        assert ids.tolist() == want, text
        assert mine.detokenize(ids) == other.decode(
            want, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
    for second in PAIRS:
        got = mine.encode_batch(HARD, [second] * len(HARD), max_length=10_000)
        expected = other(HARD, [second] * len(HARD))["input_ids"]
        assert [ids.tolist() for ids, _ in got] == expected, second


def test_from_vocabulary_and_merges(checkpoint, theirs):
    mine = BytePairTokenizer.from_files(resolve(checkpoint))
    assert mine.max_length == 64
    assert mine.eos_token_id == theirs.eos_token_id
    assert_same(mine, theirs)


def test_from_tokenizer_json(checkpoint, theirs, tmp_path):
    theirs.save_pretrained(tmp_path)
    assert_same(BytePairTokenizer.from_files(resolve(tmp_path)), theirs)


def test_constructor(checkpoint, theirs):
    config = json.loads((checkpoint / "tokenizer_config.json").read_text())
    options = {k: config[k] for k in ("add_prefix_space", "add_bos_token") if k in config}
    special = {k: v for k, v in config.items() if k in ROBERTA}
    if special.get("mask_token") == MASK:
        return  # a constructor takes spellings only
    mine = BytePairTokenizer(
        checkpoint / "vocab.json", checkpoint / "merges.txt", special_tokens=special, **options
    )
    assert_same(mine, theirs)


def test_saved_files_are_opened_by_transformers(checkpoint, theirs, tmp_path):
    import transformers

    mine = BytePairTokenizer.from_files(resolve(checkpoint))
    mine.save(tmp_path)
    other = transformers.AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert_same(mine, other)
    assert other.model_max_length == 64
    assert other.special_tokens_map.items() >= mine.special_tokens.items()
    again = BytePairTokenizer.from_files(resolve(tmp_path))
    assert again.get_config() == mine.get_config()
    assert_same(again, theirs)
    for name in ("vocab.json", "merges.txt"):
        assert (tmp_path / name).exists()
    (tmp_path / "tokenizer.json").unlink()
    assert BytePairTokenizer.from_files(resolve(tmp_path)).get_vocabulary() == mine.get_vocabulary()


def test_padding_without_a_token_for_it(checkpoint):
    mine = BytePairTokenizer.from_files(resolve(checkpoint))
    batch = mine(["the fox", "a"])
    assert batch["token_ids"].shape == batch["padding_mask"].shape
    padding = batch["token_ids"][~batch["padding_mask"]]
    assert set(padding.tolist()) == {mine.pad_token_id}


@pytest.mark.parametrize("line", ["a", "a b c", "a ", " b"])
def test_bad_merges(line):
    with pytest.raises(ValueError, match="line 2 of the merges"):
        parse_merges(["a b", line])


def test_missing_files(tmp_path):
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"neither tokenizer.json nor vocab.json and merg"):
        BytePairTokenizer.from_files(resolve(tmp_path))


@pytest.mark.parametrize("with_json", [False, True])
def test_special_tokens_that_only_the_config_has(checkpoint, theirs, tmp_path, with_json):
    """As GPT-2 and RoBERTa are published: the tokenizer's config says nothing of them."""
    special = json.loads((checkpoint / "tokenizer_config.json").read_text())
    if special.get("mask_token") == MASK or special.get("add_bos_token"):
        pytest.skip("published with a tokenizer_config.json")
    theirs.save_pretrained(tmp_path / "full")
    source = tmp_path / "full" if with_json else checkpoint
    folder = tmp_path / "bare"
    folder.mkdir()
    for name in ("tokenizer.json",) if with_json else ("vocab.json", "merges.txt"):
        shutil.copy(source / name, folder)
    short = {k: v for k, v in special.items() if k in ("tokenizer_class", "add_prefix_space")}
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 64, **short}))
    shutil.copy(checkpoint / "config.json", folder)
    mine = BytePairTokenizer.from_files(resolve(folder))
    expected = {role: special[role] for role in ROBERTA if role in special}
    assert mine.special_tokens == expected
    assert mine.eos_token_id == mine.token_to_id(expected["eos_token"])
    assert mine.pad_token_id == mine.token_to_id(expected.get("pad_token", END))
    assert_same(mine, theirs)


def test_special_tokens_by_their_ids_in_the_config(checkpoint, tmp_path):
    vocabulary = json.loads((checkpoint / "vocab.json").read_text()) | {"<stop>": 9999}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    shutil.copy(checkpoint / "merges.txt", tmp_path)
    ids = {"bos_token_id": 9999, "eos_token_id": vocabulary["a"]}  # the latter an ordinary token
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt_neo", **ids}))
    mine = BytePairTokenizer.from_files(resolve(tmp_path))
    assert mine.special_tokens == {"bos_token": "<stop>"}
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [9999, 1]}))
    mine = BytePairTokenizer.from_files(resolve(tmp_path))
    assert mine.special_tokens == {"bos_token": "<stop>", "eos_token": "<stop>"}
    assert mine.pad_token_id == 9999
    assert [ids.tolist() for ids, _ in mine.encode_batch(["a<stop>"])] == [[vocabulary["a"], 9999]]
