"""The tokenizer of Whisper against transformers: special tokens, times, prompts, files."""

import json

import pytest
import transformers
from tokenizer_texts import TEXTS
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import hub

END, START, LAST = "<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"
SPECIAL = [
    START, "<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>",
    "<|startofprev|>", "<|nospeech|>", LAST,
]  # fmt: skip
TIMES = [f"<|{i / 50:.2f}|>" for i in range(1501)]
HARD = [*TEXTS.values(), f"x{END}y<|de|> {START}", " two  spaces", "<|0.02|> a<|30.00|>"]


@pytest.fixture(scope="module", params=["vocab.json", "tokenizer.json", "without times"])
def folder(request, tmp_path_factory):
    """The files of a tokenizer, in three ways that they are published in."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core.train_from_iterator(
        TEXTS.values(), trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet)
    )
    model = json.loads(core.to_str())["model"]
    tokens = [*sorted(model["vocab"], key=model["vocab"].get), END]
    added = [*SPECIAL, *(TIMES if request.param != "without times" else [])]
    first = tmp_path_factory.mktemp("first")
    (first / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
    ids = {t: len(tokens) + i for i, t in enumerate(added)}
    (first / "added_tokens.json").write_text(json.dumps(ids))
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    (first / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    config = {
        "tokenizer_class": "WhisperTokenizer", "model_max_length": 1024, "bos_token": END,
        "eos_token": END, "unk_token": END, "additional_special_tokens": [END, *SPECIAL],
    }  # fmt: skip
    (first / "tokenizer_config.json").write_text(json.dumps(config))
    (first / "normalizer.json").write_text('{"colour": "color"}')
    (first / "config.json").write_text(json.dumps({"model_type": "whisper"}))
    if request.param == "vocab.json":
        return first
    folder = tmp_path_factory.mktemp("tokenizer")
    transformers.WhisperTokenizer.from_pretrained(first).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "whisper"}))
    (folder / "normalizer.json").write_text('{"colour": "color"}')
    return folder


def assert_same(ours, theirs, texts=HARD):
    for text, (ids, _) in zip(texts, ours.encode_batch(texts, max_length=9999), strict=True):
        assert ids.tolist() == theirs(text)["input_ids"], text
        assert ours.detokenize(ids) == theirs.decode(ids, skip_special_tokens=True), text


def test_texts_are_those_of_transformers(folder):
    ours = hub.Tokenizer.from_preset(folder)
    assert type(ours) is hub.WhisperTokenizer
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    has_times = TIMES[0] in theirs.get_vocab()
    assert_same(ours, theirs, HARD if has_times else HARD[:-1])


def test_tokens_of_times_follow_the_others(folder):
    ours = hub.WhisperTokenizer.from_preset(folder)
    begin = ours.token_to_id(LAST) + 1
    assert [ours.token_to_id(t) for t in TIMES] == list(range(begin, begin + 1501))
    assert ours.vocabulary_size() == begin + 1501
    assert ours.eos_token_id == ours.token_to_id(END)


def test_decoding_leaves_out_times_and_the_text_before(folder):
    ours = hub.WhisperTokenizer.from_preset(folder)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    names = ["<|startofprev|>", "a", START, "<|en|>", "<|transcribe|>", "b", "<|nospeech|>", END]
    ids = [ours.token_to_id(name) for name in names]
    begin = ours.token_to_id(TIMES[0])
    ids[5:5], ids[-1:-1] = [begin], [begin + 51]
    assert ours.detokenize(ids) == theirs.decode(ids, skip_special_tokens=True) == "b"
    whole = "<|startofprev|>a<|startoftranscript|><|en|><|transcribe|><|0.00|>b<|nospeech|><|1.02|>"
    assert ours.detokenize(ids, skip_special_tokens=False) == whole + END
    unfinished = ids[:2]
    assert ours.detokenize(unfinished) == theirs.decode(unfinished, skip_special_tokens=True) == ""


def test_saved_files_are_opened_by_transformers(folder, tmp_path):
    ours = hub.WhisperTokenizer.from_preset(folder)
    ours.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert type(theirs).__name__ == "WhisperTokenizer"
    assert_same(ours, theirs)
    assert json.loads((tmp_path / "normalizer.json").read_text()) == {"colour": "color"}
    ids = [ours.token_to_id(t) for t in (START, TIMES[0], "a", TIMES[7], END)]
    assert theirs.decode(ids, decode_with_timestamps=True) == f"{START}<|0.00|>a<|0.14|>{END}"
    (tmp_path / "tokenizer.json").unlink()
    again = hub.WhisperTokenizer.from_preset(tmp_path)
    assert again.get_vocabulary() == ours.get_vocabulary()
    assert_same(again, theirs)


def test_added_tokens_must_follow_the_vocabulary():
    words = {"a": 0, END: 1}
    with pytest.raises(ValueError, match=r"'<\|startoftranscript\|>' should be 5, got 2"):
        hub.WhisperTokenizer(words, [], {START: 5, LAST: 6})
    with pytest.raises(ValueError, match=r"must have \['<\|notimestamps\|>'\]"):
        hub.WhisperTokenizer(words, [], {START: 2})
