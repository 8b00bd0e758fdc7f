"""The tokenizer of CLIP: byte-pair encoding of lower-case words (Radford et al., 2021,
arXiv:2103.00020).
"""

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from hub.presets import PresetFiles
from hub.tokenizers.byte_pair import BytePairTokenizer, parse_merges, read_parts
from hub.tokenizers.library import build_clip, clip_decoder

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Core

_START, _END = "<|startoftext|>", "<|endoftext|>"


class CLIPTokenizer(BytePairTokenizer):
    r"""The BPE tokenizer of CLIP checkpoints; texts are enclosed by a start and an end token.

    Args:
        vocabulary: a dict from tokens to ids, or the path of a vocab.json.
        merges: the merges in order, each as "a b</w>"; or the path of a merges.txt.
        special_tokens: special tokens by their roles, in place of CLIP's.
        max_length: the default length to truncate to.

    Example:
        >>> words = ["a", "b</w>", "ab</w>", "<|startoftext|>", "<|endoftext|>"]
        >>> tokenizer = CLIPTokenizer({w: i for i, w in enumerate(words)}, ["a b</w>"])
        >>> [ids.tolist() for ids, _ in tokenizer.encode_batch(["AB  ab"])]
        [[3, 2, 2, 4]]
    """

    required = ("bos_token", "eos_token")

    def __init__(
        self,
        vocabulary: Mapping[str, int] | str | os.PathLike,
        merges: Iterable[str] | str | os.PathLike,
        special_tokens: Mapping[str, str] | None = None,
        max_length: int = 77,
    ) -> None:
        tokens = {**self._default_special_tokens(None), **(special_tokens or {})}
        core = build_clip(*read_parts(vocabulary, merges))
        self._set_up(core, tokens, max_length, self._template(tokens, {}))

    @classmethod
    def _default_special_tokens(cls, files: Any) -> Mapping[str, str]:
        roles = ("eos_token", "unk_token", "pad_token")
        return {"bos_token": _START, **dict.fromkeys(roles, _END)}

    @classmethod
    def _build(cls, files: PresetFiles, config: Mapping, tokens: Mapping) -> "Core":
        merges = parse_merges(files.text("merges.txt").split("\n"))
        return build_clip(files.json("vocab.json"), merges)

    @classmethod
    def _apply_config(cls, core: "Core", config: Mapping) -> None:
        core.decoder = clip_decoder()

    @classmethod
    def _template(cls, tokens: Mapping[str, str], config: Mapping, files: Any = None) -> Any:
        return "bos_token $A eos_token", "bos_token $A eos_token bos_token $B eos_token"

    def _saved_config(self) -> dict[str, Any]:
        return {"tokenizer_class": "CLIPTokenizer"}
