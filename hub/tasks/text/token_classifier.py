"""TokenClassifier: classes of words, such as names and parts of speech."""

from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np

import keraslite as keras
from hub.blocks.transformer import bert_initializer
from hub.preprocessing.text import TokenClassifierPreprocessor
from hub.tasks.classes import distinct_labels, encode_labels, label_config
from hub.tasks.classifier import Classifier
from hub.tasks.text.text_task import TextTask
from keraslite import layers


class TokenClassifier(Classifier, TextTask):
    """A backbone with a dense layer over every token.

    `fit` takes texts as lists of words (or strings, whose words are what spaces separate), and for
    each text a list of class numbers, or names out of `labels`, one a word. `predict` gives scores
    of words, `find_entities` the parts of a text that belong together.

    Args:
        backbone: a text backbone with a `sequence_output`.
        num_classes: the number of classes; where it is None that of `labels`, or of the names among
            the first labels of `fit`, and 2 until then.
        preprocessor: what turns texts into inputs.
        dropout: before the dense layer.
        labels: the names of the classes; those of the checkpoint, or of `fit`, by default.

    Example:
        >>> import hub
        >>> model = hub.TokenClassifier.from_preset("minilm_l6_en")  # doctest: +SKIP
        >>> model.fit([["Ada", "sings"]], [["B-PER", "O"]])  # doctest: +SKIP
        >>> model.predict(["Bob sings"])[0].shape  # doctest: +SKIP
        (2, 2)

        Without a checkpoint, on ready inputs:

        >>> import numpy as np
        >>> backbone = hub.BertBackbone(9, 1, 2, hidden_dim=8, intermediate_dim=8)
        >>> model = hub.TokenClassifier(backbone, num_classes=3)
        >>> model.predict({"token_ids": np.ones((2, 4), "int32")}, verbose=0).shape
        (2, 4, 3)
    """

    task = "TokenClassifier"
    head_options = ("dropout_key",)
    pipeline = "token-classification"
    transformers_class = "AutoModelForTokenClassification"
    adapter_type = "TOKEN_CLS"
    default_preprocessor = TokenClassifierPreprocessor

    def __init__(
        self,
        backbone: Any,
        num_classes: int | None = None,
        preprocessor: Any = None,
        dropout: float = 0.1,
        labels: Sequence[str] | None = None,
        **kwargs: Any,
    ):
        super().__init__(backbone, preprocessor, **kwargs)
        self.dropout = layers.Dropout(dropout, dtype=self.dtype_policy)
        self.set_classes(num_classes, labels, activation=None)
        self.built = True

    def new_head(self) -> layers.Dense:
        """Return the dense layer of the classes, built."""
        head = layers.Dense(
            self.num_classes, kernel_initializer=bert_initializer(), dtype=self.dtype_policy,
            name="logits",
        )  # fmt: skip
        head.build((None, None, self.backbone.hidden_dim))
        return head

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return logits (batch, length, classes)."""
        hidden = self.backbone(inputs, training=training)["sequence_output"]
        return self.head(self.dropout(hidden, training=training))

    def _defaults(self) -> dict[str, Any]:
        return {
            "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "weighted_metrics": [keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        }

    def config_json(self) -> dict[str, Any]:
        return label_config(self)

    def distinct_names(self, y: Any) -> list[str] | None:
        """Return the names among the labels of all words; None where they are numbers."""
        if not _is_ragged(y):
            return None
        return distinct_labels([label for row in y if row is not None for label in row])

    def _encoded(self, y: Any) -> Any:
        if not _is_ragged(y):
            return y
        rows = np.empty(len(y), object)  # of different lengths
        for i, row in enumerate(y):
            rows[i] = encode_labels(row, self.labels, place=f"text {i}, word")
        return rows

    def _scores(self, ids: list[np.ndarray], batch_size: int | None, verbose: Any) -> list:
        """Return logits (tokens, classes) of each text."""
        pairs = [(row, np.zeros_like(row)) for row in ids]
        rows = self._predict_encoded(pairs, batch_size, verbose, ragged=True)
        return [np.asarray(row, "float32") for row in rows]

    @overload
    def predict(
        self,
        x: Mapping[str, Any],
        batch_size: int | None = None,
        verbose: str | int = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> np.ndarray: ...

    @overload
    def predict(
        self,
        x: Sequence[Any] | str,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> list[np.ndarray]: ...

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """Return logits of words for texts, a list of arrays (words, classes); else an array.

        Words that were cut off have a row of NaN.

        Args:
            x: texts, as for `fit`; or ready inputs.
            batch_size: the most texts of a batch.
            verbose: 0 silent, 1 a progress bar.
            steps: as for `Model.predict`, for ready inputs.
            callbacks: as for `Model.predict`, for ready inputs.
        """
        if self.preprocessor is None or not self._takes(x):
            return super().predict(x, batch_size, verbose, steps, callbacks)
        encodings = self.preprocessor.encode_words([x] if isinstance(x, str) else x)
        scores = self._scores([ids for ids, _, _ in encodings], batch_size, verbose)
        return [
            np.where((first < 0)[:, None], np.float32(np.nan), logits[first])
            for logits, (_, _, first) in zip(scores, encodings, strict=True)
        ]

    def find_entities(
        self, texts: Any, batch_size: int | None = None, verbose: int = 0
    ) -> list[list[dict[str, Any]]]:
        """Return the parts of each text that belong to a class other than "O".

        Neighbouring tokens of one class are one part, unless one begins with "B-".

        Args:
            texts: a text or a list of texts.
            batch_size: the most texts of a batch.
            verbose: 1 shows a progress bar.

        Returns:
            For each text, dicts of `entity_group`, `score` (the mean probability), `word`,
            `start` and `end`, as the pipeline of transformers gives them.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        length = self.preprocessor.sequence_length
        encodings = self.preprocessor.tokenizer.encode_spans(texts, length)
        scores = self._scores([ids for ids, _ in encodings], batch_size, verbose)
        return [
            [_described(text, part) for part in _parts(logits, spans, self.labels)]
            for text, logits, (_, spans) in zip(texts, scores, encodings, strict=True)
        ]

    def answers(self, inputs: list[str], options: Any) -> list[dict[str, Any]]:
        """Return the entities of each text."""
        return [
            {"entities": [{**part, "score": round(part["score"], 6)} for part in parts]}
            for parts in self.find_entities(inputs)
        ]

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the task."""
        config = super().get_config()
        del config["activation"]  # scores are always logits
        return config


def _is_ragged(y: Any) -> bool:
    """Return whether labels are lists, one a text."""
    return isinstance(y, list | tuple) or (isinstance(y, np.ndarray) and y.dtype == object)


def _parts(logits: np.ndarray, spans: np.ndarray, labels: list[str]) -> list[dict[str, Any]]:
    """Return the runs of tokens of one class: its name, their probabilities and spans."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    probabilities = shifted / shifted.sum(-1, keepdims=True)
    parts: list[dict[str, Any]] = []
    for i, (start, end) in enumerate(spans):
        if end <= start:
            continue
        label = labels[int(probabilities[i].argmax())]
        begins, name = label.startswith("B-"), label[2:] if label[:2] in ("B-", "I-") else label
        if begins or not parts or parts[-1]["name"] != name:
            parts.append({"name": name, "scores": [], "start": int(start)})
        parts[-1]["scores"].append(float(probabilities[i].max()))
        parts[-1]["end"] = int(end)
    return [part for part in parts if part["name"] != "O"]


def _described(text: str, part: dict[str, Any]) -> dict[str, Any]:
    start, end = part["start"], part["end"]
    while text[start:end][:1].isspace():  # byte-level tokens hold the space before a word
        start += 1
    return {
        "entity_group": part["name"], "score": float(np.mean(part["scores"])),
        "word": text[start:end], "start": start, "end": end,
    }  # fmt: skip
