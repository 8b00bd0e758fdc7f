"""The base class of tokenizers: encoding of batches, decoding, special tokens, saving.

The `tokenizers` library does the work in parallel, without the interpreter's lock. It is imported
when the first tokenizer is made, to keep `import hub` fast. A tokenizer does not change after it is
made, so threads can share it.
"""

import json
import operator
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from hub.presets import PresetFiles, resolve
from hub.presets.files import PIPELINE, resolve_file
from hub.tokenizers.batch import Encoding, batch_inputs, pack, truncate, truncated_indices
from hub.tokenizers.detect import tokenizer_class
from hub.tokenizers.library import add_special_tokens, read_tokenizer
from keraslite.saving import replacing_folder

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Core

DEFAULT_MAX_LENGTH = 512
_LARGEST_MAX_LENGTH = 1_000_000  # transformers writes 1e30 for no limit
_FILES = ("special_tokens_map.json", "tokenizer.json", "tokenizer_config.json")
ROLES = (
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
)  # fmt: skip


class Tokenizer:
    """A tokenizer of a checkpoint; subclasses are for one model of the `tokenizers` library each.

    Attributes:
        model_types: the classes that the model can have in the `tokenizers` library.
        required: the roles of special tokens that the vocabulary must have.
        family: the model type of the checkpoint, where it is known.
    """

    model_types: tuple[str, ...]
    required: tuple[str, ...] = ()
    family: str | None = None

    @classmethod
    def from_preset(
        cls, preset: Any, *, revision: str | None = None, token: str | bool | None = None
    ) -> Self:
        """Return the tokenizer of a preset; of `hub.Tokenizer` the class that its files are for.

        Args:
            preset: as for models; or a single file: a tokenizer.json, a vocab.txt, or a `.model` of
                SentencePiece.
            revision: a branch, tag or commit of the repository.
            token: a token for the Hub.

        Raises:
            FileNotFoundError: the preset has no tokenizer.
            ValueError: the preset is unknown, or a file is damaged.

        >>> import hub
        >>> hub.Tokenizer.from_preset("minilm_l6_en").tokenize("A fox.")  # doctest: +SKIP
        ['a', 'fox', '.']
        """
        is_file = str(preset).endswith((".model", ".json", ".txt")) and not isinstance(
            preset, PresetFiles
        )
        if is_file:
            files, _ = resolve_file(preset, revision=revision, token=token)
        else:
            files = resolve(preset, revision=revision, token=token)
        if PIPELINE in files:
            files = files.folder("tokenizer")
        if cls is not Tokenizer:
            return cls.from_files(files)
        names = {sub.__name__: sub for sub in _subclasses(Tokenizer)}
        return names[tokenizer_class(files)].from_files(files)

    @classmethod
    def from_files(cls, files: PresetFiles) -> Self:
        """Return the tokenizer of a checkpoint, from tokenizer.json or from vocabulary files.

        tokenizer_config.json takes precedence over tokenizer.json, as in transformers. Padding and
        truncation of tokenizer.json are switched off: they are arguments of calls.

        Args:
            files: what `hub.presets.resolve` returned.

        Raises:
            FileNotFoundError: the checkpoint has no tokenizer.
            ValueError: a file is damaged or holds another model, or a special token is missing.
        """
        config = _optional_json(files, "tokenizer_config.json")
        special_tokens = _optional_json(files, "special_tokens_map.json") | config
        records = [r for role in ROLES if isinstance(r := special_tokens.get(role), dict)]
        spaces = {
            r.get("content"): {side: bool(r.get(side)) for side in ("lstrip", "rstrip")}
            for r in records
        }
        contents = {role: _content(special_tokens.get(role)) for role in ROLES}
        tokens = {
            **cls._default_special_tokens(files),
            **{role: token for role, token in contents.items() if token},
        }
        vocabulary_files = cls._vocabulary_files(files)
        if "tokenizer.json" in files:
            core = read_tokenizer(files, cls.model_types)
            cls._apply_config(core, config)
        elif all(name in files for name in vocabulary_files):
            core = cls._build(files, config, tokens)
        else:
            raise FileNotFoundError(
                f"{files.location} has no tokenizer: neither tokenizer.json nor "
                f"{' and '.join(vocabulary_files)}; {files.listing()}"
            )
        tokens = cls._missing_special_tokens(files, core) | tokens
        limit = config.get("model_max_length")
        has_limit = isinstance(limit, int) and 0 < limit <= _LARGEST_MAX_LENGTH
        self = cls.__new__(cls)
        self.family = _optional_json(files, "config.json").get("model_type") or (
            files.row or {}
        ).get("family")
        template = cls._template(tokens, config, files)
        self._set_up(core, tokens, limit if has_limit else DEFAULT_MAX_LENGTH, template, spaces)
        return self

    @classmethod
    def _default_special_tokens(cls, files: PresetFiles) -> Mapping[str, str]:
        """Return the default special tokens by their roles."""
        return {}

    @classmethod
    def _missing_special_tokens(cls, files: PresetFiles, core: "Core") -> Mapping[str, str]:
        """Return special tokens that the tokenizer's files leave out, by their roles."""
        return {}

    @classmethod
    def _vocabulary_files(cls, files: PresetFiles) -> tuple[str, ...]:
        """Return the files that replace a tokenizer.json."""
        raise NotImplementedError

    @classmethod
    def _build(cls, files: PresetFiles, config: Mapping, tokens: Mapping) -> "Core":
        """Return the library's tokenizer from the files that replace a tokenizer.json."""
        raise NotImplementedError

    @classmethod
    def _apply_config(cls, core: "Core", config: Mapping) -> None:
        """Apply the settings of tokenizer_config.json to the library's tokenizer."""

    @classmethod
    def _template(cls, tokens: Mapping[str, str], config: Mapping, files: Any = None) -> Any:
        """Return the templates of a text and a pair, with roles of special tokens, or None."""
        return None

    def _set_up(
        self, core: "Core", tokens: Mapping[str, str], max_length: int,
        template: tuple[str, str] | None, spaces: Mapping[str, dict] | None = None,
    ) -> None:  # fmt: skip
        """Set the library's tokenizer and the special tokens."""
        ids = {role: core.token_to_id(token) for role, token in tokens.items()}
        missing = [tokens[role] for role in self.required if role in ids and ids[role] is None]
        if missing:
            raise ValueError(
                f"the vocabulary of {core.get_vocab_size()} tokens lacks {', '.join(missing)}; "
                f"add them, or name the ones it has with special_tokens="
            )
        self._core = core
        self.special_tokens = {role: tokens[role] for role in ids if ids[role] is not None}
        self.max_length = max_length
        for role in ROLES:
            setattr(self, f"{role}_id", ids.get(role))
        # Padding is masked, so any id serves for a checkpoint without a padding token.
        candidates = (ids.get(role) for role in ("pad_token", "eos_token", "unk_token"))
        self.pad_token_id: int = next((i for i in candidates if i is not None), 0)
        add_special_tokens(core, self.special_tokens, template, spaces or {})

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.vocabulary_size()} tokens, {self.get_config()}>"

    # -- texts to ids -------------------------------------------------------------------------

    def __call__(
        self,
        texts: str | Iterable[str],
        pairs: str | Iterable[str] | None = None,
        sequence_length: int | None = None,
        padding: str = "longest",
        truncation: str | bool = "longest_first",
    ) -> dict[str, np.ndarray]:
        """Return a padded batch: `token_ids`, `segment_ids` (int32) and `padding_mask` (bool).

        Args:
            texts: a batch of texts; a single one is a batch of one.
            pairs: the second text of each, for tasks on pairs.
            sequence_length: the length to truncate to; `max_length` of the tokenizer by default.
            padding: "longest" pads to the longest text of the batch, "max" to `sequence_length`.
            truncation: see `encode_batch`.

        Raises:
            TypeError: an element is not a string.
            ValueError: the batch is empty, or texts and pairs differ in number.
        """
        if padding not in ("longest", "max"):
            raise ValueError(
                f"padding must be 'longest' or 'max', got {padding!r}; see encode_batch"
            )
        limit = self._limit(sequence_length)
        encodings = self.encode_batch(texts, pairs, limit, truncation)
        return self.pack(encodings, limit if padding == "max" else None)

    def _limit(self, length: int | None) -> int:
        """Return the maximum number of ids of a text."""
        if length is not None and length < 1:
            raise ValueError(f"the length to truncate to must be at least 1, got {length}")
        return self.max_length if length is None else length

    def encode_batch(
        self,
        texts: str | Iterable[str],
        pairs: str | Iterable[str] | None = None,
        max_length: int | None = None,
        truncation: str | bool = "longest_first",
        add_special_tokens: bool = True,
    ) -> list[Encoding]:
        """Return (ids, segment ids) of each text, with special tokens, without padding.

        Args:
            texts: a batch of texts; a single one is a batch of one.
            pairs: the second text of each, for tasks on pairs.
            max_length: the maximum number of ids of a text; that of the tokenizer by default.
            truncation: how to truncate a pair that is too long: the longer text until both are
                equal ("longest_first"), or one text only ("only_first", "only_second"); False to
                truncate nothing.
            add_special_tokens: whether to add the checkpoint's special tokens.

        Raises:
            TypeError: an element is not a string.
            ValueError: the batch is empty, texts and pairs differ in number, or `max_length` is too
                small.

        Example:
            >>> from hub.tokenizers import WordPieceTokenizer
            >>> words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b"]
            >>> [(ids, segments)] = WordPieceTokenizer(words).encode_batch("a a", "b")
            >>> ids.tolist(), segments.tolist()
            ([2, 4, 4, 3, 5, 3], [0, 0, 0, 0, 1, 1])
        """
        limit = self._limit(max_length)
        encodings = self._core.encode_batch_fast(
            batch_inputs(texts, pairs), add_special_tokens=add_special_tokens
        )
        return [truncate(encoding, limit, truncation) for encoding in encodings]

    def encode_spans(
        self, texts: str | Iterable[str], max_length: int | None = None
    ) -> list[Encoding]:
        """Return (ids, spans) of each text: start and end of each id's characters in the text.

        Args:
            texts: a batch of texts; a single one is a batch of one.
            max_length: the maximum number of ids of a text; that of the tokenizer by default.

        Raises:
            TypeError: an element is not a string.
            ValueError: the batch is empty, or `max_length` is too small.

        Example:
            >>> from hub.tokenizers import WordPieceTokenizer
            >>> words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "ab", "##c"]
            >>> [(ids, spans)] = WordPieceTokenizer(words).encode_spans("ab abc")
            >>> spans.tolist()
            [[-1, -1], [0, 2], [3, 5], [5, 6], [-1, -1]]
        """
        limit = self._limit(max_length)
        encoded = []
        for encoding in self._core.encode_batch(batch_inputs(texts)):
            spans = np.array(encoding.offsets, np.int32).reshape(-1, 2)
            spans[[i for i, source in enumerate(encoding.sequence_ids) if source is None]] = -1
            indices = truncated_indices(encoding, limit, "only_first")
            ids = np.array(encoding.ids, np.int32)
            encoded.append((ids, spans) if indices is None else (ids[indices], spans[indices]))
        return encoded

    def pack(
        self,
        encodings: Sequence[Encoding],
        length: int | None = None,
        pad_to_multiple_of: int | None = None,
    ) -> dict[str, np.ndarray]:
        """Return encodings as one padded batch, as `__call__` does.

        Args:
            encodings: what `encode_batch` returned, or a part of it.
            length: the length to pad to; that of the longest by default.
            pad_to_multiple_of: a number whose multiple the length is, so that fewer shapes are
                compiled.

        Raises:
            ValueError: the batch is empty, or an encoding is longer than `length`.
        """
        return pack(encodings, self.pad_token_id, length, pad_to_multiple_of)

    def tokenize(self, text: str) -> list[str]:
        """Return the tokens of a text, without special tokens."""
        (text,) = batch_inputs(text)
        return self._core.encode(text, add_special_tokens=False).tokens

    def detokenize(self, ids: Any, skip_special_tokens: bool = True) -> Any:
        """Return the text of a row of ids, or the texts of a batch.

        Args:
            ids: a list or array of ids; rows of them; or a dict with `token_ids`, as `__call__`
                returns it.
            skip_special_tokens: whether special tokens, padding among them, are left out.

        Returns:
            A string for a row, a list of strings for a batch.

        Raises:
            TypeError: the ids are no integers.

        >>> from hub.tokenizers import WordPieceTokenizer
        >>> tokenizer = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "fox", "##es"])
        >>> tokenizer.detokenize(tokenizer(["foxes", "fox"]))
        ['foxes', 'fox']
        >>> tokenizer.detokenize([2, 4, 3], skip_special_tokens=False)
        '[CLS] fox [SEP]'
        """
        if isinstance(ids, Mapping):
            rows, mask = ids["token_ids"], ids.get("padding_mask")
            if mask is None:
                mask = [np.ones(len(row), bool) for row in rows]
            rows = [np.asarray(row)[np.asarray(m, bool)] for row, m in zip(rows, mask, strict=True)]
            return [self.detokenize(row, skip_special_tokens) for row in rows]
        rows = list(ids)
        if rows and np.ndim(rows[0]) > 0:
            return [self.detokenize(row, skip_special_tokens) for row in rows]
        try:
            row = [operator.index(i) for i in rows]
        except TypeError as error:
            raise TypeError(
                f"ids must be integers, rows of them, or a dict with token_ids; got {ids!r:.80}"
            ) from error
        row = self._text_ids(row, skip_special_tokens)
        return self._core.decode(row, skip_special_tokens=skip_special_tokens)

    def _text_ids(self, row: list[int], skip_special_tokens: bool) -> list[int]:
        """Return the ids of a row that are decoded; the library leaves out special ones itself."""
        return row

    # -- the vocabulary -----------------------------------------------------------------------

    def special_ids(self) -> list[int]:
        """Return the ids of the special tokens."""
        return [self.token_to_id(token) for token in self.special_tokens.values()]

    def vocabulary_size(self) -> int:
        """Return the number of tokens."""
        return self._core.get_vocab_size()

    def get_vocabulary(self) -> list[str]:
        """Return the tokens in the order of their ids; "" for an id without a token."""
        ids = self._core.get_vocab()
        tokens = [""] * (max(ids.values()) + 1)
        for token, i in ids.items():
            tokens[i] = token
        return tokens

    def token_to_id(self, token: str) -> int:
        """Return the id of a token; raise ValueError if it is not in the vocabulary."""
        i = self._core.token_to_id(token)
        if i is None:
            raise ValueError(f"{token!r} is none of the {self.vocabulary_size()} tokens")
        return i

    def id_to_token(self, i: int) -> str:
        """Return the token of an id; raise ValueError if no token has it."""
        token = self._core.id_to_token(int(i)) if i >= 0 else None
        if token is None:
            raise ValueError(f"{i} is the id of none of the {self.vocabulary_size()} tokens")
        return token

    # -- saving -------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments without the vocabulary, which `save` writes."""
        return {"special_tokens": dict(self.special_tokens), "max_length": self.max_length}

    def _saved_config(self) -> dict[str, Any]:
        """Return the keys of tokenizer_config.json besides special tokens and maximum length."""
        return {"tokenizer_class": "PreTrainedTokenizerFast"}

    def _older_files(self) -> dict[str, str]:
        """Return the contents of the files for readers without tokenizer.json, by their names."""
        return {}

    def serialized(self) -> dict[str, Any]:
        """Return the whole tokenizer as an object of a model's config, its files inside."""
        name = type(self).__name__
        config = {"files": self.file_contents(), "family": self.family}
        return {"class_name": name, "config": config, "registered_name": f"hub>{name}"}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return the tokenizer of a model's config.

        Args:
            config: `files`: the texts of the files that `from_files` reads, by their names;
                `family`.

        Raises:
            ValueError: a file is not a file of a tokenizer.
        """
        unknown = sorted(set(config["files"]) - set(_FILES))
        if unknown:
            raise ValueError(f"The files of a tokenizer must be among {_FILES}, got {unknown}.")
        files = dict(config["files"])
        if config.get("family"):
            files["config.json"] = json.dumps({"model_type": config["family"]})
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                Path(folder, name).write_text(text, encoding="utf-8", newline="\n")
            return cls.from_files(resolve(Path(folder)))

    def file_contents(self) -> dict[str, str]:
        """Return the texts of the JSON files that `from_files` reads, by their names."""
        config = {
            **self._saved_config(), "model_max_length": self.max_length, **self.special_tokens,
        }  # fmt: skip
        texts = {"tokenizer.json": self._core.to_str(pretty=True)}
        for name, value in (
            ("tokenizer_config.json", config),
            ("special_tokens_map.json", self.special_tokens),
        ):
            texts[name] = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
        return texts

    def save(self, directory: str | os.PathLike) -> None:
        """Write the files that transformers' AutoTokenizer and `from_files` open.

        Args:
            directory: a folder, made if need be, for tokenizer.json, tokenizer_config.json,
                special_tokens_map.json, and the older files of the model type.
        """
        with replacing_folder(directory) as folder:
            for name, text in {**self.file_contents(), **self._older_files()}.items():
                (folder / name).write_text(text, encoding="utf-8", newline="\n")


def _subclasses(cls: type) -> Iterator[type]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _subclasses(sub)


def _optional_json(files: PresetFiles, name: str) -> dict[str, Any]:
    return files.json(name) if name in files else {}


def _content(token: Any) -> str | None:
    """Return the text of a special token, which is stored as a string or as a record."""
    return token.get("content") if isinstance(token, dict) else token
