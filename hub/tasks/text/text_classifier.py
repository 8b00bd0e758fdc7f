"""TextClassifier: classes of texts, or of pairs of texts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import keraslite as keras
from hub.blocks.transformer import bert_initializer
from hub.families import Family, family_of
from hub.tasks.classes import (
    DEFAULT_CLASSES,
    check_classes,
    check_num_classes,
    class_arguments,
    distinct_labels,
    dropout_key,
    encode_labels,
    label_config,
)
from hub.tasks.text.text_task import TextTask
from keraslite import layers


class TextClassifier(TextTask):
    """A backbone with a dense layer over its pooled output, or two over its first token.

    Which of both, the family says: BERT and ALBERT have a pooler of their own.

    Args:
        backbone: a text backbone.
        num_classes: the number of classes; where it is None that of `labels`, or of the names among
            the first labels of `fit`, and 2 until then.
        preprocessor: what turns texts into inputs.
        activation: of the outputs; they are logits by default.
        dropout: before the dense layer.
        labels: the names of the classes; those of the checkpoint, or of `fit`, by default.

    Example:
        >>> import hub
        >>> model = hub.TextClassifier.from_preset("minilm_l6_en")  # doctest: +SKIP
        >>> model.fit(["Good.", "Not bad.", "Bad."], ["yes", "yes", "no"])  # doctest: +SKIP
        >>> model.classify("Very good.")["label"]  # doctest: +SKIP
        'yes'

        Without a checkpoint, on ready inputs:

        >>> import numpy as np
        >>> backbone = hub.BertBackbone(9, 1, 2, hidden_dim=8, intermediate_dim=8)
        >>> model = hub.TextClassifier(backbone, num_classes=3)
        >>> model.predict({"token_ids": np.ones((2, 4), "int32")}, verbose=0).shape
        (2, 3)
    """

    task = "TextClassifier"
    head_options = ("hidden_activation", "dropout_before_hidden", "dropout_key")
    family_aliases = ("Classifier",)
    pipeline = "text-classification"
    transformers_class = "AutoModelForSequenceClassification"
    adapter_type = "SEQ_CLS"

    def __init__(
        self,
        backbone: Any,
        num_classes: int | None = None,
        preprocessor: Any = None,
        activation: Any = None,
        dropout: float = 0.1,
        labels: Sequence[str] | None = None,
        **kwargs: Any,
    ):
        super().__init__(backbone, preprocessor, **kwargs)
        self.label_names = None if labels is None else [str(name) for name in labels]
        self._kl_takes_classes_of_data = num_classes is None and labels is None
        if num_classes is None:
            num_classes = len(self.label_names or ()) or DEFAULT_CLASSES
        self.num_classes = check_num_classes(num_classes)
        if self.label_names is not None and len(self.label_names) != self.num_classes:
            raise ValueError(
                f"labels must be {self.num_classes} names, as num_classes says, got {labels}."
            )
        self.activation = keras.activations.get(activation)
        self.dropout = layers.Dropout(dropout, dtype=self.dtype_policy)
        width, options = backbone.hidden_dim, _options(family_of(backbone.family))
        self.hidden = None
        if "hidden_activation" in options:
            self.hidden = layers.Dense(
                width, options["hidden_activation"], kernel_initializer=bert_initializer(),
                dtype=self.dtype_policy, name="hidden",
            )  # fmt: skip
            self.hidden.build((None, width))
        self._dropout_before_hidden = options.get("dropout_before_hidden", False)
        self.head = self._new_head()
        self.built = True

    def _new_head(self) -> layers.Dense:
        head = layers.Dense(
            self.num_classes, kernel_initializer=bert_initializer(), activation=self.activation,
            dtype=self.dtype_policy, name="logits",
        )  # fmt: skip
        head.build((None, self.backbone.hidden_dim))
        return head

    @property
    def labels(self) -> list[str]:
        """The names of the classes."""
        names = label_config(self)["id2label"]
        if set(names) != {str(i) for i in range(self.num_classes)}:
            raise ValueError(
                f"id2label of the config must name 0 to {self.num_classes - 1}, has {names}"
            )
        return [names[str(i)] for i in range(self.num_classes)]

    def fit(self, x: Any = None, y: Any = None, **kwargs: Any) -> Any:
        """Train on texts and their labels: class numbers, or names.

        Args:
            x: as for `TextTask.fit`.
            y: labels, one a text. Names are those of `labels`; where the checkpoint has none and
                `num_classes` was not given, the classes are the names in y.
            kwargs: as for `Model.fit`.

        Raises:
            ValueError: a label is missing, unknown, fractional or out of range, with its row.
        """
        names = distinct_labels(y)
        if names is not None and not self._is_named():
            self._take_names(names)
        return super().fit(x, y, **kwargs)

    def _is_named(self) -> bool:
        """Return whether the classes have names, of the caller or of the checkpoint."""
        default = [f"LABEL_{i}" for i in range(self.num_classes)]
        return self.label_names is not None or self.labels != default

    def _take_names(self, names: list[str]) -> None:
        """Take the names among the labels as those of the classes."""
        if set(names) <= set(self.labels):
            return
        if len(names) != self.num_classes:
            if not self._kl_takes_classes_of_data:
                raise ValueError(
                    f"The labels have {len(names)} names, {names}, but the task has "
                    f"{self.num_classes} classes. Give labels=[...] with all of them."
                )
            with keras.use_backend(self.backend):
                self.num_classes = check_num_classes(len(names))
                self.head = self._new_head()
        self.label_names = names
        self._kl_takes_classes_of_data = False

    def _columns(self, x: Any, y: Any) -> tuple[Any, Any]:
        return x, self._encoded(y)

    def _transform(self, training: bool) -> Any:
        prepare = super()._transform(training)
        if prepare is None:
            return None
        return lambda x, y, sample_weight: prepare(x, self._encoded(y), sample_weight)

    def _encoded(self, y: Any) -> Any:
        loss = self.loss if self.compiled else None
        sparse = isinstance(loss, keras.losses.SparseCategoricalCrossentropy)
        return encode_labels(y, self.labels, sparse)

    def classify(self, texts: Any, batch_size: int | None = None, verbose: int = 0) -> Any:
        """Return the likeliest label of each text and its probability.

        Args:
            texts: a text, or texts or pairs as for `predict`.
            batch_size: the most texts of a batch.
            verbose: 1 shows a progress bar.

        Returns:
            A list of dicts of `label` and `score`; a dict for a single text.
        """
        rows, labels = self._probabilities(texts, batch_size, verbose), self.labels
        answers = [{"label": labels[int(row.argmax())], "score": float(row.max())} for row in rows]
        return answers[0] if isinstance(texts, str) else answers

    def _probabilities(
        self, texts: Any, batch_size: int | None = None, verbose: int = 0
    ) -> np.ndarray:
        outputs = np.asarray(self.predict(texts, batch_size, verbose), "float32")
        if not self._gives_logits():
            return outputs
        return probabilities(
            outputs, getattr(self.backbone, "source_config", {}).get("problem_type")
        )

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return the logits of a batch."""
        outputs = self.backbone(inputs, training=training)
        if self.hidden is None:
            pooled = outputs["pooled_output"]
        else:
            first = outputs["sequence_output"][:, 0]
            first = self.dropout(first, training=training) if self._dropout_before_hidden else first
            pooled = self.hidden(first)
        return self.head(self.dropout(pooled, training=training))

    def _gives_logits(self) -> bool:
        return self.activation is None or self.activation is keras.activations.linear

    def _defaults(self) -> dict[str, Any]:
        return {
            "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=self._gives_logits()),
            "metrics": [keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        }

    @classmethod
    def checkpoint_arguments(cls, files: Any, config: dict) -> dict[str, Any]:
        return class_arguments(config, cls.task)

    def check_head(self, weights: Any, head: Any) -> None:
        check_classes(weights, head, self.num_classes)
        self._kl_takes_classes_of_data = False

    def config_json(self) -> dict[str, Any]:
        return {
            **label_config(self),
            dropout_key(self.backbone.family, self.task): self.dropout.rate,
            "problem_type": self._problem_type(),
        }

    def _problem_type(self) -> str:
        """Return the checkpoint's problem_type, if the number of classes is still the same."""
        source = getattr(self.backbone, "source_config", {})
        same = len(source.get("id2label") or ()) == self.num_classes
        return (source.get("problem_type") if same else None) or "single_label_classification"

    @classmethod
    def needs_all_layers(cls, family: Family) -> bool:
        """Return whether it is over the pooled output, which needs a pooler."""
        return "hidden_activation" not in _options(family)

    def answers(self, inputs: list[str], options: Any) -> list[dict[str, Any]]:
        """Return the likeliest label and the probabilities of each text."""
        labels = self.labels
        return [
            {"label": labels[int(row.argmax())], "scores": {
                label: round(float(p), 6) for label, p in zip(labels, row, strict=True)
            }}
            for row in self._probabilities(inputs)
        ]  # fmt: skip

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the task."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "activation": keras.activations.serialize(self.activation),
            "dropout": self.dropout.rate,
            "labels": self.label_names,
        }


def _options(family: Family) -> Mapping[str, Any]:
    """Return the options of a family's classifier.

    `hidden_activation` is that of the dense layer over the first token, `dropout_before_hidden`
    whether dropout stands before that layer; without them the classifier is over the pooled output.
    """
    head = family.head(TextClassifier.task)
    return {} if head is None else head.options


def probabilities(logits: np.ndarray, problem_type: str | None) -> np.ndarray:
    """Return the probabilities of logits, as transformers computes them.

    Args:
        logits: (texts, classes).
        problem_type: as in config.json.

    >>> probabilities(np.zeros((1, 2)), None)
    array([[0.5, 0.5]])
    """
    if problem_type == "regression":
        return logits
    if problem_type == "multi_label_classification" or logits.shape[-1] == 1:
        return 0.5 + 0.5 * np.tanh(logits / 2)
    scores = np.exp(logits - logits.max(-1, keepdims=True))
    return scores / scores.sum(-1, keepdims=True)
