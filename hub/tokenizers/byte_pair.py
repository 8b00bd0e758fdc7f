"""Byte-level byte-pair encoding, the tokenizer of GPT-2, RoBERTa and OPT.

Merges of pairs of bytes (Sennrich et al., 2015, arXiv:1508.07909; Radford et al., 2019): every
text can be encoded, and decoding is exact.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hub.presets import PresetFiles
from hub.tokenizers.library import build_byte_pair
from hub.tokenizers.tokenizer import DEFAULT_MAX_LENGTH, Tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Core


# The special tokens of tokenizers whose files leave them out, by model type, as in transformers.
DEFAULT_SPECIAL_TOKENS = {
    "gpt2": dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>"),
    "roberta": {
        "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>",
        "pad_token": "<pad>", "cls_token": "<s>", "mask_token": "<mask>",
    },
}  # fmt: skip


class BytePairTokenizer(Tokenizer):
    r"""The byte-level BPE tokenizer of GPT-2, RoBERTa and OPT checkpoints.

    Args:
        vocabulary: a dict from tokens to ids, or the path of a vocab.json.
        merges: the merges in order, each as "a b"; or the path of a merges.txt.
        add_prefix_space: whether to add a space before each text.
        special_tokens: the special tokens by their roles, such as {"eos_token": "<|endoftext|>"}.
            With "cls_token" and "sep_token" texts are enclosed by them, as in RoBERTa.
        add_bos_token: whether texts begin with the "bos_token", as in OPT.
        max_length: the default length to truncate to.

    Raises:
        ValueError: a merge is not a pair, or its result is not in the vocabulary.

    Example:
        >>> vocabulary = {"a": 0, "b": 1, "ab": 2, "\u0120": 3, "<|endoftext|>": 4}
        >>> ends = {"eos_token": "<|endoftext|>"}
        >>> tokenizer = BytePairTokenizer(vocabulary, ["a b"], special_tokens=ends)
        >>> [ids.tolist() for ids, _ in tokenizer.encode_batch(["ab ab", "ba<|endoftext|>"])]
        [[2, 3, 2], [1, 0, 4]]
    """

    model_types = ("BPE",)

    def __init__(
        self,
        vocabulary: Mapping[str, int] | str | os.PathLike,
        merges: Iterable[str] | str | os.PathLike,
        add_prefix_space: bool = False,
        special_tokens: Mapping[str, str] | None = None,
        add_bos_token: bool = False,
        max_length: int = DEFAULT_MAX_LENGTH,
    ) -> None:
        tokens = dict(special_tokens or {})
        core = build_byte_pair(*read_parts(vocabulary, merges), add_prefix_space)
        template = self._template(tokens, {"add_bos_token": add_bos_token})
        self._set_up(core, tokens, max_length, template)

    @classmethod
    def _vocabulary_files(cls, files: PresetFiles) -> tuple[str, ...]:
        return "vocab.json", "merges.txt"

    @classmethod
    def _missing_special_tokens(cls, files: PresetFiles, core: "Core") -> Mapping[str, str]:
        """Return those of the model's configs, and the defaults of its class in transformers.

        GPT-2 and RoBERTa were published without any in the tokenizer's files.
        """
        configs = [files.json(n) for n in ("generation_config.json", "config.json") if n in files]
        row = files.row or {}
        family = next((c["model_type"] for c in configs if c.get("model_type")), row.get("family"))
        defaults = DEFAULT_SPECIAL_TOKENS.get(family, {})
        tokens = {role: t for role, t in defaults.items() if core.token_to_id(t) is not None}
        for config in configs:
            for role in ("bos_token", "eos_token", "pad_token"):
                ids = config.get(f"{role}_id")
                first = ids[0] if isinstance(ids, list) and ids else ids
                if role not in tokens and isinstance(first, int) and first >= 0:
                    token = core.id_to_token(first)
                    if token is not None and is_special(core, token):
                        tokens[role] = token
        return tokens

    @classmethod
    def _build(cls, files: PresetFiles, config: Mapping, tokens: Mapping) -> "Core":
        merges = parse_merges(files.text("merges.txt").split("\n"))
        return build_byte_pair(
            files.json("vocab.json"), merges, bool(config.get("add_prefix_space", False))
        )

    @classmethod
    def _template(cls, tokens: Mapping[str, str], config: Mapping, files: Any = None) -> Any:
        if "cls_token" in tokens and "sep_token" in tokens:
            return (
                "cls_token $A sep_token",
                "cls_token $A sep_token sep_token $B sep_token",
            )
        if config.get("add_bos_token"):
            return "bos_token $A", "bos_token $A bos_token:1 $B:1"
        return None

    def _saved_config(self) -> dict[str, Any]:
        # The general class reads tokenizer.json unchanged, with its template of special tokens.
        return {"tokenizer_class": "PreTrainedTokenizerFast"}

    def _older_files(self) -> dict[str, str]:
        model = json.loads(self._core.to_str())["model"]
        merges = (m if isinstance(m, str) else " ".join(m) for m in model["merges"])
        return {
            "vocab.json": json.dumps(model["vocab"], ensure_ascii=False) + "\n",
            "merges.txt": "\n".join(["#version: 0.2", *merges, ""]),
        }


def is_special(core: "Core", token: str) -> bool:
    """Return whether a token of the vocabulary cannot come out of ordinary text.

    A config may name an ordinary token, which must not be cut out of texts.

    Args:
        core: the library's tokenizer.
        token: the token.
    """
    if any(added.content == token for added in core.get_added_tokens_decoder().values()):
        return True
    return core.encode(token, add_special_tokens=False).ids != [core.token_to_id(token)]


def read_parts(
    vocabulary: Mapping[str, int] | str | os.PathLike, merges: Iterable[str] | str | os.PathLike
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return the vocabulary and the merges, which may be paths of files.

    Args:
        vocabulary: a dict from tokens to ids, or the path of a vocab.json.
        merges: the merges, each as "a b", or the path of a merges.txt.
    """
    if isinstance(vocabulary, str | os.PathLike):
        vocabulary = json.loads(Path(vocabulary).read_text(encoding="utf-8"))
    if isinstance(merges, str | os.PathLike):
        merges = Path(merges).read_text(encoding="utf-8").split("\n")
    return dict(vocabulary), parse_merges(merges)


def parse_merges(lines: Iterable[str]) -> list[tuple[str, str]]:
    """Return the merges of a merges.txt, without its first line and empty ones.

    Args:
        lines: the lines, each "a b".

    Raises:
        ValueError: a line is not a pair.
    """
    merges = []
    for number, line in enumerate(lines, 1):
        line = line.rstrip("\r")
        if not line or line.startswith("#version"):
            continue
        pair = tuple(line.split(" "))
        if len(pair) != 2 or not all(pair):
            raise ValueError(f"line {number} of the merges must be 'a b', got {line!r:.60}")
        merges.append(pair)
    return merges
