"""Write tokenizers as KerasHub keeps them: `tokenizer.json`, with the vocabulary beside it.

The tables are those by which such tokenizers are read. Traps: KerasHub's SentencePiece tokenizers
normalise texts by the file alone, so that what ALBERT does before becomes rules of the file;
XLM-RoBERTa's file has the ids of SentencePiece, not those of fairseq; the tokens for masked spans
of T5 are in no file.
"""

import base64
import json
import re
import shutil
import tempfile
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hub.convert.kerashub_records import record
from hub.convert.kerashub_tokenizers import ASSETS, TOKENIZERS, TokenizerFiles
from hub.speech.special_tokens import complete_config
from hub.tokenizers import UnigramTokenizer, WordPieceTokenizer
from hub.tokenizers.charsmap import compose_charsmap
from hub.tokenizers.sentencepiece import SentencePieceModel, write_model

_SPANS = re.compile(r"<extra_id_\d+>")
# Steps of the `tokenizers` library before a precompiled map -> what they make of a character.
_CLEANING: dict[str, Callable[[str], str]] = {
    "Lowercase": str.lower,
    "NFKD": lambda text: unicodedata.normalize("NFKD", text),
    "StripAccents": lambda text: "".join(c for c in text if unicodedata.category(c) != "Mn"),
}


def write_kerashub_tokenizer(
    tokenizer: Any, prefix: str, name: str, folder: Path, generation_config: Mapping | None = None
) -> dict[str, Any]:
    """Write the vocabulary of a tokenizer; return the content of KerasHub's tokenizer.json.

    Args:
        tokenizer: of `hub.tokenizers`.
        prefix: of the names of KerasHub's classes, such as "Bert".
        name: of the class of the tokenizer there.
        folder: of the preset.
        generation_config: of a speech model, which says whether it has languages.

    Raises:
        ValueError: KerasHub's class would split texts in another way.
    """
    table = TOKENIZERS[name]
    with tempfile.TemporaryDirectory() as saved:
        tokenizer.save(saved)
        core = json.loads(Path(saved, "tokenizer.json").read_text(encoding="utf-8"))
        stated = json.loads(Path(saved, "tokenizer_config.json").read_text(encoding="utf-8"))
        assets = folder / ASSETS
        assets.mkdir(parents=True, exist_ok=True)
        if isinstance(tokenizer, UnigramTokenizer):
            (theirs,) = table.files
            (assets / theirs).write_bytes(write_model(*_sentencepiece(core, tokenizer, name)))
        elif isinstance(tokenizer, WordPieceTokenizer):
            for theirs, ours in table.files.items():
                shutil.copyfile(Path(saved, ours), assets / theirs)
        else:
            _write_byte_pairs(core, table, assets)
    _check_special_tokens(tokenizer, table, name)
    config = {"config_file": "tokenizer.json", **table.written, **table.needed}
    for key, (ours, silent) in table.keys.items():
        value = _setting(core, stated, ours, silent)
        if key in table.always or value != silent:
            config[key] = value
    if table.added:
        config |= _whisper_tokens(tokenizer, generation_config or {})
    return record(prefix, name, config, "int32")


def _setting(core: Mapping, stated: Mapping, name: str, silent: Any) -> Any:
    """Return a setting of a tokenizer, by its name in tokenizer_config.json."""
    if name == "add_prefix_space":
        return bool((core["pre_tokenizer"] or {}).get(name))
    value = stated.get(name, silent)
    if name == "do_lower_case" and "do_lower_case" not in stated:
        raise ValueError(
            "KerasHub's WordPiece tokenizers normalise texts as BERT does, got "
            f"{core['normalizer']}."
        )
    if name == "strip_accents" and value is None:  # which follows the letters' case
        return stated["do_lower_case"]
    return value


def _check_special_tokens(tokenizer: Any, table: TokenizerFiles, name: str) -> None:
    """Raise ValueError if special tokens are not those of KerasHub's class, which are fixed."""
    expected = {
        role: token["content"] if isinstance(token, dict) else token
        for role, token in table.stated.items()
        if role.endswith("_token") and isinstance(token, str | dict)
    }
    own = tokenizer.special_tokens
    wrong = {role: own[role] for role, token in expected.items() if own.get(role, token) != token}
    if wrong:
        raise ValueError(f"The special tokens of a {name} of KerasHub are {expected}, got {wrong}.")


def _write_byte_pairs(core: Mapping, table: TokenizerFiles, assets: Path) -> None:
    """Write the vocabulary and the merges of byte-level pairs."""
    steps = core["pre_tokenizer"] or {}
    if steps.get("type") != "ByteLevel" or core["normalizer"] is not None:
        raise ValueError(
            "KerasHub's byte-pair tokenizers of these models split texts as GPT-2 does, got "
            f"{steps} and {core['normalizer']}."
        )
    model = core["model"]
    vocabulary = dict(model["vocab"])
    if not table.added:  # which the config has
        vocabulary |= {token["content"]: token["id"] for token in core["added_tokens"]}
    ordered = dict(sorted(vocabulary.items(), key=lambda item: item[1]))
    merges = (m if isinstance(m, str) else " ".join(m) for m in model["merges"])
    files = {"vocab.json": json.dumps(ordered), "merges.txt": "".join(f"{m}\n" for m in merges)}
    for theirs, ours in table.files.items():
        (assets / theirs).write_text(files[ours], encoding="utf-8", newline="\n")


def _whisper_tokens(tokenizer: Any, generation_config: Mapping) -> dict[str, Any]:
    """Return the tokens beside Whisper's vocabulary, as KerasHub's config has them."""
    stated = complete_config(generation_config, tokenizer)
    names = ("startoftranscript", "translate", "transcribe", "endoftext", "notimestamps")
    special = {f"<|{name}|>": tokenizer.token_to_id(f"<|{name}|>") for name in names}
    languages = stated.get("lang_to_id") if stated.get("is_multilingual") else None
    return {
        "unsplittable_tokens": list(special), "special_tokens": special,
        "language_tokens": languages or None,
    }  # fmt: skip


# -- SentencePiece --------------------------------------------------------------------------------


def _sentencepiece(
    core: Mapping, tokenizer: UnigramTokenizer, name: str
) -> tuple[SentencePieceModel, set[str]]:
    """Return a model of SentencePiece, and its pieces that no text has."""
    model = core["model"]
    if model["type"] != "Unigram":
        raise ValueError(f"A {name} of KerasHub must be a unigram model, got {model['type']}.")
    pieces = [(piece, float(score)) for piece, score in model["vocab"]]
    while _SPANS.fullmatch(pieces[-1][0]):
        pieces.pop()
    unk_id = model["unk_id"]
    special = dict(tokenizer.special_tokens)
    if pieces[-1][0] == "<mask>" == special.get("mask_token"):  # as fairseq has it
        start, end = (special[role] for role in ("bos_token", "eos_token"))
        pieces = [pieces[unk_id], (start, 0.0), (end, 0.0), *pieces[4:-1]]
        unk_id = 0
    unknown = pieces[unk_id][0]
    control = set(special.values()) - {unknown}
    normal = frozenset(piece for piece, _ in pieces if piece not in control | {unknown})
    roles = ("bos_token", "eos_token", "pad_token")
    names = {piece for piece, _ in pieces}
    ids = {role: special[role] for role in roles if special.get(role) in names}
    proto = SentencePieceModel(
        pieces, unk_id, _charsmap(core["normalizer"], name), byte_fallback=model["byte_fallback"],
        normal=normal, special_tokens=ids,
    )  # fmt: skip
    return proto, control


def _charsmap(normalizer: Mapping | None, name: str) -> bytes:
    """Return the steps of a normalizer as the one map that SentencePiece has."""
    steps = [] if normalizer is None else normalizer.get("normalizers", [normalizer])
    charsmap, cleaning, replaced = b"", [], {}
    for step in steps:
        pattern = step.get("pattern", {})
        if step["type"] == "Precompiled":
            charsmap = base64.b64decode(step["precompiled_charsmap"])
        elif step["type"] in _CLEANING and not charsmap:
            cleaning.append(_CLEANING[step["type"]])
        elif "String" in pattern:
            replaced[pattern["String"]] = step["content"]
        elif step["type"] not in ("Replace", "Strip"):  # of spaces, which SentencePiece removes
            raise ValueError(f"A {name} of KerasHub cannot normalise texts by {step}.")

    def clean(character: str) -> str:
        for step in cleaning:
            character = step(character)
        return character

    return compose_charsmap(clean, charsmap, replaced) if cleaning or replaced else charsmap
