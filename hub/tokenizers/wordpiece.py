"""WordPiece, the tokenizer of the BERT family.

The work is done by the `tokenizers` library, in parallel and without the interpreter's lock. It
is imported when the first tokenizer is made, so that `import hub` stays light. Nothing in a
tokenizer changes after it is made, so threads may share it.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hub.presets import PresetFiles
from hub.tokenizers.batch import Encoding, batch_inputs, cut, pack
from hub.tokenizers.library import (
    add_special_tokens,
    build_wordpiece,
    parse_vocabulary,
    read_tokenizer,
    vocabulary_ids,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

DEFAULT_MAX_LENGTH = 512
_SANE_MAX_LENGTH = 1_000_000  # transformers writes 1e30 where nobody set a limit
_SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_OPTIONAL = {"mask_token"}
# Names in tokenizer_config.json, and the attribute of the library's normalizer that they set.
_NORMALIZER_KEYS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}


class WordPieceTokenizer:
    """Turns texts into ids the way a BERT checkpoint was trained.

    Args:
        vocabulary: the tokens in the order of their ids, or a dict from tokens to ids, or the
            path of a vocab.txt.
        lowercase: lower-case the text.
        strip_accents: remove accents; None means "as `lowercase` says".
        tokenize_chinese_chars: every CJK character is a word.
        special_tokens: other spellings than [PAD], [UNK], [CLS], [SEP], [MASK], under the names
            "pad_token", "unk_token" ...
        max_length: where texts are cut when a call does not say.

    Raises:
        ValueError: the vocabulary lacks a special token.

    Example:
        >>> words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hub", "##s"]
        >>> tokenizer = WordPieceTokenizer(words)
        >>> tokenizer(["Hubs [MASK]", "hub"])["token_ids"].tolist()
        [[2, 5, 6, 4, 3], [2, 5, 3, 0, 0]]
    """

    def __init__(
        self,
        vocabulary: Sequence[str] | Mapping[str, int] | str | os.PathLike,
        lowercase: bool = True,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool = True,
        special_tokens: Mapping[str, str] | None = None,
        max_length: int = DEFAULT_MAX_LENGTH,
    ) -> None:
        tokens = _SPECIAL_TOKENS | dict(special_tokens or {})
        ids = vocabulary_ids(vocabulary)
        core = build_wordpiece(
            ids, tokens["unk_token"], lowercase, strip_accents, tokenize_chinese_chars
        )
        self._adopt(core, tokens, max_length)

    @classmethod
    def from_files(cls, files: PresetFiles) -> "WordPieceTokenizer":
        """Makes the tokenizer of a checkpoint, from tokenizer.json or else from vocab.txt.

        What tokenizer_config.json states explicitly wins over tokenizer.json, as in transformers.
        Padding and truncation set in tokenizer.json are switched off: the caller decides.

        Args:
            files: what `hub.presets.resolve` returned.

        Raises:
            FileNotFoundError: there is neither file.
            ValueError: tokenizer.json is damaged or no WordPiece, or a special token is missing.
        """
        config = _optional_json(files, "tokenizer_config.json")
        spelled = _optional_json(files, "special_tokens_map.json") | config
        tokens = {
            role: _content(spelled.get(role)) or usual for role, usual in _SPECIAL_TOKENS.items()
        }
        if "tokenizer.json" in files:
            core = read_tokenizer(files, "WordPiece")
            for key, attribute in _NORMALIZER_KEYS.items():
                # null says something for strip_accents only: "as lowercase".
                stated = key in config and (config[key] is not None or key == "strip_accents")
                if stated and hasattr(core.normalizer, attribute):
                    setattr(core.normalizer, attribute, config[key])
        elif "vocab.txt" in files:
            lowercase = config.get("do_lower_case")
            if lowercase is None:
                lowercase = (files.row or {}).get("lowercase", True)
            core = build_wordpiece(
                parse_vocabulary(files.text("vocab.txt")),
                tokens["unk_token"],
                lowercase,
                config.get("strip_accents"),
                config.get("tokenize_chinese_chars", True),
            )
        else:
            raise FileNotFoundError(
                f"{files.location} has no tokenizer: neither tokenizer.json nor vocab.txt; "
                f"{files.listing()}"
            )
        limit = config.get("model_max_length")
        sane = isinstance(limit, int) and 0 < limit <= _SANE_MAX_LENGTH
        self = cls.__new__(cls)
        self._adopt(core, tokens, limit if sane else DEFAULT_MAX_LENGTH)
        return self

    def _adopt(self, core: "Tokenizer", tokens: dict[str, str], max_length: int) -> None:
        ids = {role: core.token_to_id(token) for role, token in tokens.items()}
        missing = [tokens[role] for role in ids if ids[role] is None and role not in _OPTIONAL]
        if missing:
            raise ValueError(
                f"the vocabulary of {core.get_vocab_size()} tokens lacks {', '.join(missing)}; "
                f"add them, or name the ones it has with special_tokens="
            )
        self._core = core
        self.special_tokens = {role: tokens[role] for role in ids if ids[role] is not None}
        self.max_length = max_length
        self.pad_token_id: int = ids["pad_token"]
        self.unk_token_id: int = ids["unk_token"]
        self.cls_token_id: int = ids["cls_token"]
        self.sep_token_id: int = ids["sep_token"]
        self.mask_token_id: int | None = ids["mask_token"]
        add_special_tokens(core, self.special_tokens)

    def __repr__(self) -> str:
        return f"<WordPieceTokenizer of {self.vocabulary_size()} tokens, {self.get_config()}>"

    # -- texts to ids -------------------------------------------------------------------------

    def __call__(
        self,
        texts: str | Iterable[str],
        pairs: str | Iterable[str] | None = None,
        sequence_length: int | None = None,
        padding: str = "longest",
        truncation: str | bool = "longest_first",
    ) -> dict[str, np.ndarray]:
        """Returns a padded batch: `token_ids`, `segment_ids` (int32) and `padding_mask` (bool).

        Args:
            texts: a batch of texts; a single one is a batch of one.
            pairs: the second text of each, for tasks on pairs.
            sequence_length: cut longer texts; default `max_length` of the tokenizer.
            padding: "longest" pads to the longest text of the batch, "max" to `sequence_length`.
            truncation: see `encode_batch`.

        Raises:
            TypeError: something is no string; says which.
            ValueError: an empty batch, or texts and pairs of different number.
        """
        if padding not in ("longest", "max"):
            raise ValueError(f"padding is 'longest' or 'max', got {padding!r}; see encode_batch")
        limit = self.max_length if sequence_length is None else sequence_length
        encodings = self.encode_batch(texts, pairs, limit, truncation)
        return self.pack(encodings, limit if padding == "max" else None)

    def encode_batch(
        self,
        texts: str | Iterable[str],
        pairs: str | Iterable[str] | None = None,
        max_length: int | None = None,
        truncation: str | bool = "longest_first",
    ) -> list[Encoding]:
        """Returns (ids, segment ids) of every text, special tokens included, not padded.

        Args:
            texts: a batch of texts; a single one is a batch of one.
            pairs: the second text of each, for tasks on pairs.
            max_length: the most ids a text may have; default `max_length` of the tokenizer.
            truncation: of a pair that is too long, cut the longer one until both are equal
                ("longest_first"), or one side only ("only_first", "only_second"); False cuts
                nothing.

        Raises:
            TypeError: something is no string; says which.
            ValueError: an empty batch, texts and pairs of different number, or no room for a text.

        Example:
            >>> words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b"]
            >>> [(ids, segments)] = WordPieceTokenizer(words).encode_batch("a a", "b")
            >>> ids.tolist(), segments.tolist()
            ([2, 4, 4, 3, 5, 3], [0, 0, 0, 0, 1, 1])
        """
        limit = self.max_length if max_length is None else max_length
        encodings = self._core.encode_batch_fast(batch_inputs(texts, pairs))
        return [cut(encoding, limit, truncation) for encoding in encodings]

    def pack(
        self,
        encodings: Sequence[Encoding],
        length: int | None = None,
        pad_to_multiple_of: int | None = None,
    ) -> dict[str, np.ndarray]:
        """Returns encodings as one padded batch, as `__call__` does.

        Args:
            encodings: what `encode_batch` returned, or a part of it.
            length: the length to pad to; default the longest one's.
            pad_to_multiple_of: round the length up, so that fewer shapes are compiled.

        Raises:
            ValueError: an empty batch, or an encoding longer than `length`.
        """
        return pack(encodings, self.pad_token_id, length, pad_to_multiple_of)

    def tokenize(self, text: str) -> list[str]:
        """Returns the pieces of a text, without [CLS] and [SEP]."""
        (text,) = batch_inputs(text)
        return self._core.encode(text, add_special_tokens=False).tokens

    def detokenize(self, ids: Iterable[int]) -> str:
        """Returns the text of one row of ids; special tokens and padding are left out."""
        return self._core.decode([int(i) for i in ids], skip_special_tokens=True)

    # -- the vocabulary -----------------------------------------------------------------------

    def special_ids(self) -> list[int]:
        """Returns the ids of the special tokens."""
        return [self.token_to_id(token) for token in self.special_tokens.values()]

    def vocabulary_size(self) -> int:
        """Returns the number of tokens."""
        return self._core.get_vocab_size()

    def get_vocabulary(self) -> list[str]:
        """Returns the tokens in the order of their ids; an id that no token has gives ""."""
        ids = self._core.get_vocab()
        tokens = [""] * (max(ids.values()) + 1)
        for token, i in ids.items():
            tokens[i] = token
        return tokens

    def token_to_id(self, token: str) -> int:
        """Returns the id of a token; ValueError if there is none such."""
        i = self._core.token_to_id(token)
        if i is None:
            raise ValueError(f"{token!r} is none of the {self.vocabulary_size()} tokens")
        return i

    def id_to_token(self, i: int) -> str:
        """Returns the token of an id; ValueError if there is none such."""
        token = self._core.id_to_token(int(i)) if i >= 0 else None
        if token is None:
            raise ValueError(f"{i} is the id of none of the {self.vocabulary_size()} tokens")
        return token

    # -- saving -------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor but for the vocabulary, which `save` writes."""
        normalizer = self._core.normalizer
        return {
            "lowercase": getattr(normalizer, "lowercase", None),
            "strip_accents": getattr(normalizer, "strip_accents", None),
            "tokenize_chinese_chars": getattr(normalizer, "handle_chinese_chars", None),
            "special_tokens": dict(self.special_tokens),
            "max_length": self.max_length,
        }

    def save(self, directory: str | os.PathLike) -> None:
        """Writes the files that transformers' AutoTokenizer and `from_files` open.

        Args:
            directory: an existing folder; gets tokenizer.json, vocab.txt, tokenizer_config.json
                and special_tokens_map.json.
        """
        folder, config = Path(directory), self.get_config()
        # transformers builds the usual normalizer itself unless it is told to take the file's.
        usual = config["lowercase"] is not None
        settings = {
            "do_lower_case": config["lowercase"],
            "strip_accents": config["strip_accents"],
            "tokenize_chinese_chars": config["tokenize_chinese_chars"],
        }
        tokenizer_config = {
            "tokenizer_class": "BertTokenizer" if usual else "PreTrainedTokenizerFast",
            "model_max_length": self.max_length,
            **(settings if usual else {}),
            **self.special_tokens,
        }
        _write(folder / "tokenizer.json", self._core.to_str(pretty=True))
        _write(folder / "vocab.txt", "".join(f"{token}\n" for token in self.get_vocabulary()))
        for name, value in (
            ("tokenizer_config.json", tokenizer_config),
            ("special_tokens_map.json", self.special_tokens),
        ):
            _write(folder / name, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _optional_json(files: PresetFiles, name: str) -> dict[str, Any]:
    return files.json(name) if name in files else {}


def _content(token: Any) -> str | None:
    """Returns the spelling of a special token, written as a string or as a record."""
    return token.get("content") if isinstance(token, dict) else token


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
