"""The tokenizer of Whisper: GPT-2's byte pairs, with tokens of languages, tasks and times
(Radford et al., 2022, arXiv:2212.04356).

Traps of the published files: older ones lack the tokens of times, which follow `<|notimestamps|>`
in steps of 20 ms; those that have them do not call them special; added tokens may stand in
`added_tokens.json` alone.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

from hub.presets import PresetFiles
from hub.tokenizers.byte_pair import BytePairTokenizer, parse_merges, read_parts
from hub.tokenizers.library import add_added_tokens, build_byte_pair, set_template

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Core

_START, _END = "<|startoftranscript|>", "<|endoftext|>"
_PREVIOUS, _LAST = "<|startofprev|>", "<|notimestamps|>"
_TIMES = tuple(f"<|{0.02 * i:.2f}|>" for i in range(1501))
_TIME = re.compile(r"<\|\d+\.\d+\|>")
_ADDED, _NORMALIZER = "added_tokens.json", "normalizer.json"


class WhisperTokenizer(BytePairTokenizer):
    r"""The byte-level BPE tokenizer of Whisper checkpoints.

    Texts are enclosed by `<|startoftranscript|>` with `<|notimestamps|>`, and `<|endoftext|>`.

    Args:
        vocabulary: a dict from tokens to ids, or the path of a vocab.json.
        merges: the merges in order, each as "a b"; or the path of a merges.txt.
        added_tokens: a dict from the tokens of languages, tasks and times, of which times may be
            left out, to ids that follow those of the vocabulary; or the path of such a file.
        special_tokens: special tokens by their roles, in place of Whisper's.
        max_length: the default length to truncate to.

    Raises:
        ValueError: a merge is not a pair, the added tokens do not follow the vocabulary, or the
            tokens that enclose texts are missing.

    Example:
        >>> words = ["a", "b", "ab", "<|endoftext|>"]
        >>> added = {"<|startoftranscript|>": 4, "<|notimestamps|>": 5}
        >>> ids = {w: i for i, w in enumerate(words)}
        >>> tokenizer = WhisperTokenizer(ids, ["a b"], added)
        >>> [ids.tolist() for ids, _ in tokenizer.encode_batch(["abb", "<|0.04|>a"])]
        [[4, 5, 2, 1, 3], [4, 5, 8, 0, 3]]
        >>> tokenizer.detokenize([4, 6, 2, 8, 3])
        'ab'
        >>> tokenizer.detokenize([4, 6, 2, 8, 3], skip_special_tokens=False)
        '<|startoftranscript|><|0.00|>ab<|0.04|><|endoftext|>'
    """

    required = ("eos_token",)
    _normalizer: str | None = None

    def __init__(
        self,
        vocabulary: Mapping[str, int] | str | os.PathLike,
        merges: Iterable[str] | str | os.PathLike,
        added_tokens: Mapping[str, int] | str | os.PathLike | None = None,
        special_tokens: Mapping[str, str] | None = None,
        max_length: int = 448,
    ) -> None:
        if isinstance(added_tokens, str | os.PathLike):
            with open(added_tokens, encoding="utf-8") as file:
                added_tokens = json.load(file)
        core = _with_added(build_byte_pair(*read_parts(vocabulary, merges), False), added_tokens)
        tokens = {**self._default_special_tokens(None), **(special_tokens or {})}
        self._set_up(core, tokens, max_length, None)

    @classmethod
    def from_files(cls, files: PresetFiles) -> Self:
        """Return the tokenizer of a checkpoint, from tokenizer.json or from vocabulary files.

        Args:
            files: what `hub.presets.resolve` returned.

        Raises:
            FileNotFoundError: the checkpoint has no tokenizer.
            ValueError: a file is damaged or holds another model, or a special token is missing.
        """
        self = super().from_files(files)
        self._normalizer = files.text(_NORMALIZER) if _NORMALIZER in files else None
        return self

    @classmethod
    def _default_special_tokens(cls, files: Any) -> Mapping[str, str]:
        return dict.fromkeys(("bos_token", "eos_token", "unk_token"), _END)

    @classmethod
    def _build(cls, files: PresetFiles, config: Mapping, tokens: Mapping) -> "Core":
        merges = parse_merges(files.text("merges.txt").split("\n"))
        space = bool(config.get("add_prefix_space", False))
        core = build_byte_pair(files.json("vocab.json"), merges, space)
        return _with_added(core, files.json(_ADDED) if _ADDED in files else {})

    def _set_up(self, core: "Core", tokens: Mapping, max_length: int, *args: Any) -> None:
        # In files that have times, they are the only added tokens that are not special.
        times = {t: core.get_vocab_size() + i for i, t in enumerate(_TIMES)}
        if core.token_to_id(_LAST) == core.get_vocab_size() - 1:
            add_added_tokens(core, times, lambda token: False)
        super()._set_up(core, tokens, max_length, *args)
        enclosing = [_START, _LAST, tokens["eos_token"]]
        missing = [token for token in enclosing if core.token_to_id(token) is None]
        if missing:
            raise ValueError(f"the tokenizer of Whisper must have {missing}")
        set_template(core, enclosing[:2], enclosing[2:])
        self._time_ids = {i for t, i in core.get_vocab().items() if _TIME.fullmatch(t)}

    def detokenize(self, ids: Any, skip_special_tokens: bool = True) -> Any:
        """Return the text of a row of ids, or the texts of a batch.

        Args:
            ids: as for `Tokenizer.detokenize`.
            skip_special_tokens: whether special tokens, times, and a prompt from
                `<|startofprev|>` to `<|startoftranscript|>` are left out.
        """
        return super().detokenize(ids, skip_special_tokens)

    def _text_ids(self, row: list[int], skip_special_tokens: bool) -> list[int]:
        if not skip_special_tokens:
            return row
        previous, start = (self._core.token_to_id(token) for token in (_PREVIOUS, _START))
        if row and row[0] == previous:
            row = row[row.index(start) :] if start in row else []
        return [i for i in row if i not in self._time_ids]

    def _saved_config(self) -> dict[str, Any]:
        roles = set(self.special_tokens.values())
        added = sorted(self._core.get_added_tokens_decoder().items())
        special = [a.content for _, a in added if a.special and a.content not in roles]
        return {"tokenizer_class": "WhisperTokenizer", "additional_special_tokens": special}

    def _older_files(self) -> dict[str, str]:
        added = self._core.get_added_tokens_decoder().items()
        vocabulary = json.loads(self._core.to_str())["model"]["vocab"]
        ids = {token.content: i for i, token in sorted(added) if token.content not in vocabulary}
        files = {**super()._older_files(), _ADDED: json.dumps(ids, indent=2) + "\n"}
        return files if self._normalizer is None else {**files, _NORMALIZER: self._normalizer}


def _with_added(core: "Core", added_tokens: Mapping[str, int] | None) -> "Core":
    """Return a tokenizer with added tokens; all of them are special but times."""
    # GPT-2's vocabulary has the end of a text, which is special too.
    end = core.token_to_id(_END)
    ends = {} if end is None else {_END: end}
    add_added_tokens(core, ends | dict(added_tokens or {}), lambda t: not _TIME.fullmatch(t))
    return core
