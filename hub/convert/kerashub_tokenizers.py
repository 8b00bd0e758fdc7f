"""Tokenizers of KerasHub's presets: the same vocabularies under other names, with other defaults.

Traps: `tokenizer.json` is a Keras config there, not what the `tokenizers` library writes; accents
stay and letters keep their case unless the config says otherwise; the SentencePiece model of
XLM-RoBERTa counts its pieces from another number than the embedding does, as fairseq has it; of
Whisper's tokens beside the vocabulary some are not named, whose ids the others skip.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hub import tokenizers
from hub.families import family_of
from hub.presets.files import PresetFiles, resolve


@dataclass(frozen=True)
class TokenizerFiles:
    """What becomes of a tokenizer.

    Attributes:
        files: the name of a file of theirs -> ours.
        keys: a key of their config -> (ours in tokenizer_config.json, what silence means).
        stated: what tokenizer_config.json says beside.
        needed: keys of their config and the only value that is supported.
        added: keys of their config that hold tokens beside the vocabulary, with their ids.
        written: what their config says beside.
        always: keys of `keys` that their config has in any case.
    """

    files: Mapping[str, str]
    keys: Mapping[str, tuple[str, Any]]
    stated: Mapping[str, Any]
    needed: Mapping[str, Any] = field(default_factory=dict)
    added: tuple[str, ...] = ()
    written: Mapping[str, Any] = field(default_factory=dict)
    always: tuple[str, ...] = ()


_BRACKETS = {
    "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
}  # fmt: skip
_MASK = {"content": "<mask>", "lstrip": True, "normalized": False, "special": True}
_ANGLES = {
    "bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>",
    "pad_token": "<pad>", "unk_token": "<unk>", "mask_token": _MASK,
}  # fmt: skip
_END = "<|endoftext|>"
_WORDPIECE = TokenizerFiles(
    {"vocabulary.txt": "vocab.txt"},
    {
        "lowercase": ("do_lower_case", False), "strip_accents": ("strip_accents", False),
        "split_on_cjk": ("tokenize_chinese_chars", True), "oov_token": ("unk_token", "[UNK]"),
    },
    _BRACKETS, {"split": True, "suffix_indicator": "##"},
    written={
        **dict.fromkeys(("vocabulary", "sequence_length", "special_tokens")),
        "special_tokens_in_strings": True,  # as in ours
    },
    always=("lowercase", "strip_accents", "oov_token"),
)  # fmt: skip


def _byte_pair(*unsplittable: str, **stated: Any) -> TokenizerFiles:
    files = {"vocabulary.json": "vocab.json", "merges.txt": "merges.txt"}
    return TokenizerFiles(
        files, {"add_prefix_space": ("add_prefix_space", False)}, stated,
        written={"sequence_length": None, "unsplittable_tokens": list(unsplittable)},
        always=("add_prefix_space",),
    )  # fmt: skip


def _sentencepiece(name: str, **stated: Any) -> TokenizerFiles:
    ends = {"proto": None, "sequence_length": None, "add_bos": False, "add_eos": False}
    return TokenizerFiles({"vocabulary.spm": name}, {}, stated, written=ends)


# KerasHub's class -> its files.
TOKENIZERS = {
    "BertTokenizer": _WORDPIECE,
    "DistilBertTokenizer": _WORDPIECE,
    "ElectraTokenizer": _WORDPIECE,
    "RobertaTokenizer": _byte_pair("<s>", "<pad>", "</s>", "<mask>", **_ANGLES),
    "GPT2Tokenizer": _byte_pair(_END, bos_token=_END, eos_token=_END, unk_token=_END),
    "OPTTokenizer": _byte_pair(
        "</s>",
        "<pad>",
        bos_token="</s>",
        eos_token="</s>",
        unk_token="</s>",
        pad_token="<pad>",
        add_bos_token=True,
    ),
    # KerasHub cleans nothing before SentencePiece does.
    "AlbertTokenizer": _sentencepiece("spiece.model", do_lower_case=False, keep_accents=True),
    "T5Tokenizer": _sentencepiece("spiece.model"),
    "WhisperTokenizer": replace(
        _byte_pair(bos_token=_END, eos_token=_END, unk_token=_END, pad_token=_END),
        added=("special_tokens", "language_tokens"),
    ),
    "XLMRobertaTokenizer": _sentencepiece("sentencepiece.bpe.model", mask_token=_MASK),
}
# Of Whisper, after <|transcribe|>.
_BETWEEN = ("startoflm", "startofprev", "nospeech")
_CONFIG, ASSETS = "tokenizer.json", "assets/tokenizer"


def read_tokenizer(source: PresetFiles, expected: str, model_type: str, longest: int) -> Any:
    """The tokenizer of a preset of KerasHub, as ours; None where there is none.

    Args:
        source: the preset.
        expected: the class that its config must name.
        model_type: our name of the architecture.
        longest: where texts are cut if the preset does not say.

    Raises:
        ValueError: it is another one, is damaged, or is set to what is not supported.
        FileNotFoundError: a file is missing.
    """
    if _CONFIG not in source:
        return None
    record = source.json(_CONFIG)
    config, table = record.get("config"), TOKENIZERS[expected]
    if record.get("class_name") != expected or not isinstance(config, dict):
        raise ValueError(
            f"{_CONFIG} of {source.location} is a {record.get('class_name')!r}, expected a "
            f"{expected} of KerasHub"
        )
    for key, value in table.needed.items():
        if config.get(key, value) != value:
            raise ValueError(f"{_CONFIG} has {key}={config[key]!r}, supported is {value!r} only")
    stated = {ours: config.get(key, silent) for key, (ours, silent) in table.keys.items()}
    stated |= {**table.stated, "model_max_length": _length(source, longest)}
    with tempfile.TemporaryDirectory() as folder:
        for theirs, ours in table.files.items():
            shutil.copyfile(source.path(f"{ASSETS}/{theirs}"), Path(folder, ours))
        contents = {"tokenizer_config.json": stated, "config.json": {"model_type": model_type}}
        if table.added:
            vocabulary = json.loads(Path(folder, "vocab.json").read_text(encoding="utf-8"))
            contents["added_tokens.json"] = _added_tokens(config, table.added, len(vocabulary))
        for name, content in contents.items():
            Path(folder, name).write_text(json.dumps(content), encoding="utf-8")
        return getattr(tokenizers, family_of(model_type).tokenizer).from_files(
            resolve(Path(folder))
        )


def _added_tokens(config: Mapping[str, Any], keys: tuple[str, ...], size: int) -> dict[str, int]:
    """The tokens beside a vocabulary of some size, with names for the ids that have none."""
    added = {}
    for key in keys:
        tokens = config.get(key) or {}
        if not isinstance(tokens, dict) or not all(
            type(i) is int and 0 <= i < 2 * size + 4096 for i in tokens.values()
        ):
            raise ValueError(f"{_CONFIG} has {key}={tokens!r:.80}, expected ids of tokens")
        added |= tokens
    first, end = (added.get(f"<|{name}|>", 0) for name in ("transcribe", "notimestamps"))
    if end - first == len(_BETWEEN) + 1:  # as in all published vocabularies
        added = {f"<|{name}|>": first + 1 + i for i, name in enumerate(_BETWEEN)} | added
    unnamed = set(range(size, max(added.values(), default=0))) - set(added.values())
    return added | {f"<|unused_{i}|>": i for i in unnamed}


def write_tokenizer(source: PresetFiles, expected: str, tokenizer: Any, target: Path) -> None:
    """Writes what transformers opens, and a SentencePiece model beside.

    Args:
        source: the preset.
        expected: as for `read_tokenizer`.
        tokenizer: what `read_tokenizer` returned.
        target: a folder.
    """
    tokenizer.save(target)
    for theirs, ours in TOKENIZERS[expected].files.items():
        if ours.endswith(".model"):
            shutil.copyfile(source.path(f"{ASSETS}/{theirs}"), target / ours)


def _length(source: PresetFiles, longest: int) -> int:
    """The longest text, as the preset's preprocessor cuts it."""
    if "preprocessor.json" not in source:
        return longest
    config = source.json("preprocessor.json").get("config")
    said = config.get("sequence_length") if isinstance(config, dict) else None
    return min(said, longest) if type(said) is int and said > 0 else longest
