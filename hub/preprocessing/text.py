"""Preprocessing of texts: token ids, labels and weights, in numpy, without a framework."""

import copy
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

import keraslite as keras

# Lengths to which batches of texts are padded, so that few shapes are compiled.
BUCKETS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)

TEXT_KEYS = ({"text"}, {"text", "text_pair"})  # of texts and pairs given as a dict


def bucket(length: int, limit: int) -> int:
    """Return the smallest of `BUCKETS` that holds `length`, at most `limit`.

    >>> bucket(40, 512), bucket(500, 505)
    (48, 505)
    """
    return min(next((b for b in BUCKETS if b >= length), limit), limit)


def is_text(x: Any) -> bool:
    """Return whether a value is a text, a list of texts or of pairs, or a pair of lists of texts.

    >>> is_text(["a", "b"]), is_text((["a"], ["b"])), is_text([("a", "b")]), is_text([1])
    (True, True, True, False)
    """
    if isinstance(x, dict):  # as a row or a batch of data sets has it
        return set(x) in TEXT_KEYS and all(is_text(value) for value in x.values())
    return keras.backend.is_text(x)


def plain_texts(x: Any) -> Any:
    """Return tensors and arrays of strings as lists of str, other values as they are.

    >>> plain_texts((np.array(["a", "b"]), [b"c", "d"]))
    (['a', 'b'], ['c', 'd'])
    """
    if isinstance(x, dict):
        return {name: plain_texts(values) for name, values in x.items()}
    if isinstance(x, list | tuple):
        return type(x)(plain_texts(value) for value in x)
    if isinstance(x, str | bytes):
        return x.decode() if isinstance(x, bytes) else x
    if keras.backend.is_text(x):
        x = x if isinstance(x, np.ndarray) else keras.backend.to_numpy(x)
        return plain_texts(x.tolist())
    return x


def texts_and_pairs(x: Any) -> tuple[list[str], list[str] | None]:
    """Return first and second texts of a value of any form that `is_text` accepts.

    >>> texts_and_pairs([("a", "b"), ("c", "d")])
    (['a', 'c'], ['b', 'd'])
    """
    x = plain_texts(x)
    if isinstance(x, dict):
        x = x["text"] if len(x) == 1 else (x["text"], x["text_pair"])
    if isinstance(x, str):
        return [x], None
    if isinstance(x, tuple) and len(x) == 2 and not isinstance(x[0], str):
        return list(x[0]), list(x[1])
    if x and isinstance(x[0], list | tuple):
        invalid = [i for i, pair in enumerate(x) if not isinstance(pair, list | tuple) or
                 len(pair) != 2]  # fmt: skip
        if invalid:
            raise ValueError(f"Row {invalid[0]} must be a pair of texts, got {x[invalid[0]]!r}.")
        return [a for a, _ in x], [b for _, b in x]
    return list(x), None


@keras.saving.register_keras_serializable("hub")
class TextPreprocessor:
    """A preprocessor from texts to the inputs of an encoder.

    Args:
        tokenizer: a tokenizer of `hub.tokenizers`.
        sequence_length: the maximum number of tokens; longer texts are truncated.
        truncate: how pairs are truncated: "longest_first", "only_first" or "only_second".

    Raises:
        ValueError: `sequence_length` is not a positive integer.

    >>> tokenizer = hub.WordPieceTokenizer("[PAD] [UNK] [CLS] [SEP] [MASK] fox ran".split())
    >>> hub.TextPreprocessor(tokenizer)(["fox ran", "fox"])["token_ids"][:, :4].tolist()
    [[2, 5, 6, 3], [2, 5, 3, 0]]
    """

    def __init__(self, tokenizer: Any, sequence_length: int = 512, truncate: str = "longest_first"):
        if not isinstance(sequence_length, int | np.integer) or sequence_length < 1:
            raise ValueError(
                f"sequence_length must be an integer, at least 1, got {sequence_length!r}."
            )
        self.tokenizer, self.sequence_length = tokenizer, sequence_length
        self.truncate = truncate
        self._to_full_length = False

    def padded_length(self, longest: int) -> int:
        """Return the length of a batch whose longest text has so many tokens."""
        return (
            self.sequence_length if self._to_full_length else bucket(longest, self.sequence_length)
        )

    def encode(self, x: Any) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return (token ids, segment ids) of each text.

        Args:
            x: texts in any form that `is_text` accepts.
        """
        texts, pairs = texts_and_pairs(x)
        return self.tokenizer.encode_batch(
            texts, pairs, max_length=self.sequence_length, truncation=self.truncate
        )

    def pack(self, encodings: Sequence, length: int | None = None) -> dict[str, np.ndarray]:
        """Return arrays (batch, length) of `token_ids`, `segment_ids` and `padding_mask`.

        Args:
            encodings: what `encode` returned.
            length: the length to pad to; the bucket of the longest text by default.
        """
        if length is None:
            length = self.padded_length(max(len(ids) for ids, _ in encodings))
        return self.tokenizer.pack(encodings, length=length)

    def __call__(self, x: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Return the inputs of a model for texts, with what it needs to train.

        Inside `tf.data.Dataset.map` texts and results are tensors of its graph: a batch of texts
        gives a batch as long as its longest text, a single text one row of `sequence_length`.

        Args:
            x: texts, also as arrays or tensors of strings.
            y: targets; None to predict.
            sample_weight: weights of the texts.
        """
        leaves = [v for v in keras.tree.flatten(x) if keras.backend.in_graph(v)]
        if leaves:
            return self._in_graph(x, y, sample_weight, single=leaves[0].shape.rank == 0)
        return self.prepare(plain_texts(x), plain_texts(y), sample_weight)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments, the whole tokenizer among them."""
        return {
            "tokenizer": self.tokenizer.serialized(), "sequence_length": self.sequence_length,
            "truncate": self.truncate,
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return the preprocessor of a config.

        Args:
            config: what `get_config` returned.
        """
        tokenizer = keras.saving.deserialize_keras_object(config["tokenizer"])
        return cls(**{**config, "tokenizer": tokenizer})

    def _in_graph(self, x: Any, y: Any, sample_weight: Any, single: bool) -> Any:
        """Return tensors of the graph that the arguments are tensors of."""
        args = [v for v in (x, y, sample_weight) if v is not None]
        worker = copy.copy(self)
        worker._to_full_length = single

        def prepare(values: list, worker: Any = worker) -> Any:
            if single:
                values = keras.tree.map_structure(lambda a: np.asarray(a)[None], values)
            out = worker(*values) if y is not None or sample_weight is None else worker(
                values[0], None, values[1]
            )  # fmt: skip
            return keras.tree.map_structure(lambda a: a[0], out) if single else out

        probe = copy.copy(worker)
        for name, value in vars(worker).items():
            if isinstance(value, np.random.Generator):  # the example draws from a copy
                setattr(probe, name, copy.deepcopy(value))
        example = keras.tree.map_structure(np.asarray, prepare(_examples(args), probe))
        rows = leaves[0] if (leaves := keras.tree.flatten(x)) and not single else None
        shapes = [
            a.shape if single else (rows.shape[0], *[None] * (a.ndim - 1))
            for a in keras.tree.flatten(example)
        ]
        return keras.backend.host_call(prepare, args, example, shapes)

    def prepare(self, x: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Return the inputs for texts, with y and sample_weight unless they are None.

        Args:
            x: texts.
            y: targets.
            sample_weight: weights of the texts.
        """
        inputs = self.pack(self.encode(x))
        if y is None:
            return inputs
        return (inputs, y) if sample_weight is None else (inputs, y, sample_weight)


def _examples(args: Any) -> Any:
    """Return arrays of one row for tensors: "a" for a text, else 0."""

    def example(tensor: Any) -> np.ndarray:
        shape = (1,) * len(tensor.shape)
        if keras.backend.is_text(tensor):
            return np.full(shape, "a", object)
        return np.zeros(shape, tensor.dtype.name)

    return keras.tree.map_structure(example, args)


@keras.saving.register_keras_serializable("hub")
class MaskedLMPreprocessor(TextPreprocessor):
    """A preprocessor from texts to inputs with masked tokens, and to the original tokens.

    Of the selected tokens 80 % become the mask, 10 % a random token, and 10 % stay (Devlin et al.,
    2018). The selection depends only on the seed and the number of batches before.

    Args:
        tokenizer: a tokenizer of `hub.tokenizers`.
        sequence_length: the maximum number of tokens of a sequence.
        mask_selection_rate: the fraction of the tokens to select.
        mask_selection_length: the maximum number of tokens to select in a sequence.
        seed: the seed of the selection.
        truncate: as for `TextPreprocessor`.

    >>> tokenizer = hub.WordPieceTokenizer("[PAD] [UNK] [CLS] [SEP] [MASK] fox ran".split())
    >>> inputs, labels, weights = hub.MaskedLMPreprocessor(tokenizer)(["fox ran", "fox"])
    >>> sorted(inputs), int(weights.sum())
    (['mask_positions', 'padding_mask', 'segment_ids', 'token_ids'], 2)
    """

    def __init__(
        self,
        tokenizer: Any,
        sequence_length: int = 512,
        mask_selection_rate: float = 0.15,
        mask_selection_length: int = 96,
        seed: int = 0,
        truncate: str = "longest_first",
    ):
        super().__init__(tokenizer, sequence_length, truncate)
        if tokenizer.mask_token_id is None:
            raise ValueError(
                "The tokenizer of a masked language model must have a mask token, got none."
            )
        self.mask_selection_rate = mask_selection_rate
        self.mask_selection_length = mask_selection_length
        self.seed = seed
        self._random = np.random.Generator(np.random.Philox(seed))

    def prepare(self, x: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Return (inputs with `mask_positions`, their original tokens, weights: 0 on padding).

        Args:
            x: texts, in the form that the class takes.
            y: targets, where the class takes any.
            sample_weight: weights of the texts.
        """
        inputs = self.pack(self.encode(x))
        ids, padding_mask = inputs["token_ids"], inputs["padding_mask"]
        is_special = np.isin(ids, list(self.tokenizer.special_ids()))
        candidates = padding_mask & ~is_special
        draws = np.where(candidates, self._random.random(ids.shape), 2.0)
        counts = candidates.sum(axis=1)
        num_selected = np.minimum(
            np.maximum(np.round(counts * self.mask_selection_rate), 1), counts
        ).astype(int)
        width = min(self.mask_selection_length, max(1, int(self.sequence_length / 5)), ids.shape[1])
        num_selected = np.minimum(num_selected, width)
        ranks = np.argsort(np.argsort(draws, axis=1, kind="stable"), axis=1)
        selected = ranks < num_selected[:, None]
        positions = np.zeros((len(ids), width), "int32")
        weights = np.zeros((len(ids), width), "float32")
        for row in range(len(ids)):
            indices = np.flatnonzero(selected[row])
            positions[row, : len(indices)], weights[row, : len(indices)] = indices, 1.0
        labels = np.take_along_axis(ids, positions.astype("int64"), axis=1)
        draw = self._random.random(ids.shape)
        random_ids = self._random.integers(0, self.tokenizer.vocabulary_size(), ids.shape)
        masked = np.where(draw < 0.8, self.tokenizer.mask_token_id, ids)
        masked = np.where(draw >= 0.9, random_ids, masked)
        inputs["token_ids"] = np.where(selected, masked, ids).astype("int32")
        inputs["mask_positions"] = positions
        return inputs, labels.astype("int32"), weights

    def get_config(self) -> dict[str, Any]:
        """Return the arguments, the whole tokenizer among them."""
        return {
            **super().get_config(), "mask_selection_rate": self.mask_selection_rate,
            "mask_selection_length": self.mask_selection_length, "seed": self.seed,
        }  # fmt: skip


@keras.saving.register_keras_serializable("hub")
class CausalLMPreprocessor(TextPreprocessor):
    """A preprocessor from texts, or prompts and responses, to inputs and next tokens.

    Texts end with the end token unless they are truncated, so that a model learns to stop.

    Args:
        tokenizer: a tokenizer of `hub.tokenizers`.
        sequence_length: the maximum number of tokens of a sequence.
        truncate: as for `TextPreprocessor`.

    >>> letters = hub.BytePairTokenizer({"<|endoftext|>": 0, "a": 1, "b": 2}, [])
    >>> inputs, labels, weights = hub.CausalLMPreprocessor(letters)(["abb"])
    >>> inputs["token_ids"][0, :4].tolist(), labels[0, :4].tolist()
    ([1, 2, 2, 0], [2, 2, 0, 0])
    """

    def columns(self, x: Any) -> Any:
        """Return prompts and responses as a dict of two lists; other inputs unchanged.

        Args:
            x: the argument of `fit`.

        Raises:
            ValueError: a dict lacks prompts or responses, or their numbers differ.
        """
        if isinstance(x, list | tuple) and len(x) and isinstance(x[0], dict):
            names = sorted({name for row in x for name in row})
            x = {name: [row.get(name) for row in x] for name in names}
        if not isinstance(x, dict) or "token_ids" in x:
            return x
        columns = {name.rstrip("s") + "s": values for name, values in x.items()}
        if set(columns) != {"prompts", "responses"}:
            raise ValueError(f"Expected prompts and responses, got {sorted(x)}.")
        prompts, responses = ([v] if isinstance(v, str) else list(v) for v in
                              (columns["prompts"], columns["responses"]))  # fmt: skip
        if len(prompts) != len(responses):
            raise ValueError(f"{len(prompts)} prompts but {len(responses)} responses.")
        return {"prompts": prompts, "responses": responses}

    def prompts(self, texts: Any) -> list[np.ndarray]:
        """Return the ids of texts to continue, without truncation.

        Args:
            texts: a text or a list of texts.
        """
        return [ids for ids, _ in self.tokenizer.encode_batch(texts, truncation=False)]

    def rows(self, x: Any) -> list[tuple[np.ndarray, int]]:
        """Return (ids, the number of ids of the prompt) of each text.

        Args:
            x: texts, or prompts and responses as `columns` returns them.
        """
        eos_token_id = self.tokenizer.eos_token_id
        end = [] if eos_token_id is None else [eos_token_id]
        if isinstance(x, dict):
            x = self.columns(x)
            prompts = self.prompts(x["prompts"])
            responses = self.tokenizer.encode_batch(
                x["responses"], truncation=False, add_special_tokens=False
            )
            rows = [
                (np.concatenate([prompt, response, end]).astype("int32"), len(prompt))
                for prompt, (response, _) in zip(prompts, responses, strict=True)
            ]
        else:
            rows = [(np.concatenate([ids, end]).astype("int32"), 0) for ids in self.prompts(x)]
        return [(ids[: self.sequence_length + 1], prompt_length) for ids, prompt_length in rows]

    def prepare(self, x: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Return (inputs, the next tokens, weights that are 0 on padding and prompts).

        Args:
            x: texts, in the form that the class takes.
            y: targets, where the class takes any.
            sample_weight: weights of the texts.
        """
        rows = self.rows(x)
        longest = max(len(ids) - 1 for ids, _ in rows)
        length = self.padded_length(max(longest, 1))
        ids = np.full((len(rows), length + 1), self.tokenizer.pad_token_id, "int32")
        weights = np.zeros((len(rows), length), "float32")
        padding_mask = np.zeros((len(rows), length), bool)
        for row, (tokens, prompt_length) in enumerate(rows):
            ids[row, : len(tokens)] = tokens
            padding_mask[row, : max(len(tokens) - 1, 1)] = True
            weights[row, max(prompt_length - 1, 0) : len(tokens) - 1] = 1.0
        if sample_weight is not None:
            weights = weights * np.asarray(sample_weight, "float32").reshape(-1, 1)
        return {"token_ids": ids[:, :-1], "padding_mask": padding_mask}, ids[:, 1:], weights


@keras.saving.register_keras_serializable("hub")
class Seq2SeqLMPreprocessor(TextPreprocessor):
    """A preprocessor from texts and answers to inputs of encoder and decoder, and to next tokens.

    Args:
        tokenizer: a tokenizer of `hub.tokenizers`.
        sequence_length: the maximum number of tokens of a text, and of an answer.
        truncate: as for `TextPreprocessor`.
        start_token_id: the first token of the decoder; the padding token by default.

    >>> tokenizer = hub.WordPieceTokenizer("[PAD] [UNK] [CLS] [SEP] [MASK] fox ran".split())
    >>> inputs, labels, weights = hub.Seq2SeqLMPreprocessor(tokenizer)(["fox"], ["ran"])
    >>> inputs["decoder_token_ids"][0, :4].tolist(), labels[0, :4].tolist()
    ([0, 2, 6, 3], [2, 6, 3, 0])
    """

    def __init__(
        self, tokenizer: Any, sequence_length: int = 512, truncate: str = "longest_first",
        start_token_id: int | None = None,
    ):  # fmt: skip
        super().__init__(tokenizer, sequence_length, truncate)
        self.start_token_id = tokenizer.pad_token_id if start_token_id is None else start_token_id

    def columns(self, x: Any, y: Any = None) -> tuple[Any, Any]:
        """Return texts and answers as a dict of two lists, and y; other inputs unchanged.

        Args:
            x: the argument x of `fit`.
            y: the argument y of `fit`.

        Raises:
            ValueError: a dict has other names, or the numbers of texts and answers differ.
        """
        if is_text(x) and is_text(y):
            x, y = {"encoder_text": x, "decoder_text": y}, None
        if isinstance(x, list | tuple) and len(x) and isinstance(x[0], dict):
            x = {name: [row[name] for row in x] for name in x[0]}
        if not isinstance(x, dict) or "encoder_token_ids" in x:
            return x, y
        names = {"prompts": "encoder_text", "responses": "decoder_text", "prompt": "encoder_text",
                 "response": "decoder_text"}  # fmt: skip
        columns = {names.get(name, name): values for name, values in x.items()}
        if set(columns) != {"encoder_text", "decoder_text"}:
            raise ValueError(
                "Expected encoder_text and decoder_text (or prompts and responses), got "
                f"{sorted(x)}."
            )
        columns = {k: [v] if isinstance(v, str) else list(v) for k, v in columns.items()}
        counts = [len(v) for v in columns.values()]
        if counts[0] != counts[1]:
            raise ValueError(f"{counts[0]} texts but {counts[1]} answers.")
        return columns, y

    def encoder_inputs(self, texts: Any) -> dict[str, np.ndarray]:
        """Return `token_ids` and `padding_mask` (batch, length) of texts.

        Args:
            texts: a text or a list of texts.
        """
        packed = self.pack(self.encode(texts))
        return {name: packed[name] for name in ("token_ids", "padding_mask")}

    def prepare(self, x: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Return (inputs of encoder and decoder, the next tokens, weights: 0 on padding).

        Args:
            x: texts, in the form that the class takes.
            y: targets, where the class takes any.
            sample_weight: weights of the texts.
        """
        x, _ = self.columns(x, y)
        encoder = self.encoder_inputs(x["encoder_text"])
        answers = self.encoder_inputs(x["decoder_text"])
        labels, padding_mask = answers["token_ids"], answers["padding_mask"]
        shifted = np.roll(labels, 1, axis=1)
        shifted[:, 0] = self.start_token_id
        weights = padding_mask.astype("float32")
        if sample_weight is not None:
            weights = weights * np.asarray(sample_weight, "float32").reshape(-1, 1)
        inputs = {
            "encoder_token_ids": encoder["token_ids"],
            "encoder_padding_mask": encoder["padding_mask"],
            "decoder_token_ids": shifted,
            "decoder_padding_mask": padding_mask,
        }
        return inputs, labels, weights

    def get_config(self) -> dict[str, Any]:
        """Return the arguments, the whole tokenizer among them."""
        return {**super().get_config(), "start_token_id": self.start_token_id}


@keras.saving.register_keras_serializable("hub")
class TokenClassifierPreprocessor(TextPreprocessor):
    """A preprocessor from words with labels to the inputs of an encoder, and to labels of tokens.

    The label of a word is that of its first token; its other tokens have the weight 0.

    Args:
        tokenizer: a tokenizer of `hub.tokenizers`.
        sequence_length: the maximum number of tokens; longer texts are truncated.
        truncate: as for `TextPreprocessor`.

    >>> tokenizer = hub.WordPieceTokenizer("[PAD] [UNK] [CLS] [SEP] [MASK] fox ran".split())
    >>> preprocessor = hub.TokenClassifierPreprocessor(tokenizer)
    >>> inputs, labels, weights = preprocessor([["fox", "ran"]], [[1, 2]])
    >>> labels[0, :4].tolist(), weights[0, :4].tolist()
    ([0, 1, 2, 0], [0.0, 1.0, 1.0, 0.0])
    """

    def encode_words(self, x: Any) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Return (token ids, spans, the index of each word's first token or -1) of each text.

        Args:
            x: texts, which are split at spaces, or lists of words.
        """
        rows = [text.split() if isinstance(text, str) else list(text) for text in x]
        encodings = self.tokenizer.encode_spans(
            [" ".join(words) for words in rows], self.sequence_length
        )
        encoded = []
        for words, (ids, spans) in zip(rows, encodings, strict=True):
            ends = np.cumsum([len(word) + 1 for word in words]) - 1
            # A token belongs to the word of its last character; its first may be a space.
            word = np.searchsorted(ends, spans[:, 1] - 1, side="right")
            word[spans[:, 1] <= spans[:, 0]] = -1
            first = np.full(len(words), -1)
            for i in range(len(ids) - 1, -1, -1):
                if 0 <= word[i] < len(words):
                    first[word[i]] = i
            encoded.append((ids, spans, first))
        return encoded

    def prepare(self, x: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Return the inputs; if y is not None with the labels and weights of tokens.

        Args:
            x: texts, in the form that the class takes.
            y: targets, where the class takes any.
            sample_weight: weights of the texts.
        """
        encodings = self.encode_words(x)
        inputs = self.pack([(ids, np.zeros_like(ids)) for ids, _, _ in encodings])
        if y is None:
            return inputs
        labels = np.zeros(inputs["token_ids"].shape, "int32")
        weights = np.zeros(labels.shape, "float32")
        for row, ((_, _, first), classes) in enumerate(zip(encodings, y, strict=True)):
            if len(first) != len(classes):
                raise ValueError(f"Text {row} has {len(first)} words but {len(classes)} labels.")
            positions = first[first >= 0]
            labels[row, positions] = np.asarray(classes, "int32")[first >= 0]
            weights[row, positions] = 1.0
        if sample_weight is not None:
            weights = weights * np.asarray(sample_weight, "float32").reshape(-1, 1)
        return inputs, labels, weights
