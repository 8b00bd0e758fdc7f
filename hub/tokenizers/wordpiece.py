"""WordPiece, the tokenizer of the BERT family."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hub.presets import PresetFiles
from hub.tokenizers.library import build_wordpiece, parse_vocabulary, vocabulary_ids
from hub.tokenizers.tokenizer import DEFAULT_MAX_LENGTH, Tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Core

# Keys of tokenizer_config.json -> attributes of the library's normalizer.
_NORMALIZER_KEYS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}


_SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


class WordPieceTokenizer(Tokenizer):
    """The WordPiece tokenizer of BERT checkpoints.

    Args:
        vocabulary: the tokens in the order of their ids, or a dict from tokens to ids, or the
            path of a vocab.txt.
        lowercase: whether to lower-case texts.
        strip_accents: whether to remove accents; None for the value of `lowercase`.
        tokenize_chinese_chars: whether each CJK character is a word.
        special_tokens: special tokens by their roles ("pad_token", "unk_token" ...), in place of
            [PAD], [UNK], [CLS], [SEP] and [MASK].
        max_length: the default length to truncate to.

    Raises:
        ValueError: the vocabulary lacks a special token.

    Example:
        >>> words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hub", "##s"]
        >>> tokenizer = WordPieceTokenizer(words)
        >>> tokenizer(["Hubs [MASK]", "hub"])["token_ids"].tolist()
        [[2, 5, 6, 4, 3], [2, 5, 3, 0, 0]]
    """

    model_types = ("WordPiece",)
    required = ("pad_token", "unk_token", "cls_token", "sep_token")

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
        self._set_up(core, tokens, max_length, self._template(tokens, {}))

    @classmethod
    def _default_special_tokens(cls, files: PresetFiles) -> Mapping[str, str]:
        return _SPECIAL_TOKENS

    @classmethod
    def _vocabulary_files(cls, files: PresetFiles) -> tuple[str, ...]:
        return ("vocab.txt",)

    @classmethod
    def _build(cls, files: PresetFiles, config: Mapping, tokens: Mapping) -> "Core":
        lowercase = config.get("do_lower_case")
        if lowercase is None:
            lowercase = (files.row or {}).get("lowercase", True)
        return build_wordpiece(
            parse_vocabulary(files.text("vocab.txt")),
            tokens["unk_token"],
            lowercase,
            config.get("strip_accents"),
            config.get("tokenize_chinese_chars", True),
        )

    @classmethod
    def _apply_config(cls, core: "Core", config: Mapping) -> None:
        for key, attribute in _NORMALIZER_KEYS.items():
            # null has a meaning for strip_accents only: the value of lowercase.
            explicit = key in config and (config[key] is not None or key == "strip_accents")
            if explicit and hasattr(core.normalizer, attribute):
                setattr(core.normalizer, attribute, config[key])

    @classmethod
    def _template(cls, tokens: Mapping[str, str], config: Mapping, files: Any = None) -> Any:
        return "cls_token $A sep_token", "cls_token $A sep_token $B:1 sep_token:1"

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments without the vocabulary, which `save` writes."""
        normalizer = self._core.normalizer
        return {
            "lowercase": getattr(normalizer, "lowercase", None),
            "strip_accents": getattr(normalizer, "strip_accents", None),
            "tokenize_chinese_chars": getattr(normalizer, "handle_chinese_chars", None),
            **super().get_config(),
        }

    def _saved_config(self) -> dict[str, Any]:
        config = self.get_config()
        if config["lowercase"] is None:
            return super()._saved_config()
        # With this class transformers builds its normalizer from these keys, not from the file.
        return {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": config["lowercase"],
            "strip_accents": config["strip_accents"],
            "tokenize_chinese_chars": config["tokenize_chinese_chars"],
        }

    def _older_files(self) -> dict[str, str]:
        return {"vocab.txt": "".join(f"{token}\n" for token in self.get_vocabulary())}
