"""TextClassifier: classes of texts, or of pairs of texts."""

from collections.abc import Mapping
from typing import Any

import numpy as np

import keraslite as keras
from hub.blocks.transformer import bert_initializer
from hub.families import Family, family_of
from hub.tasks.classes import check_classes, class_arguments, dropout_key, label_config
from hub.tasks.text.text_task import TextTask
from keraslite import layers


class TextClassifier(TextTask):
    """A backbone with a dense layer over its pooled output, or two over its first token.

    Which of both, the family says: BERT and ALBERT have a pooler of their own.

    Args:
        backbone: a text backbone.
        num_classes: the number of classes.
        preprocessor: what turns texts into inputs.
        activation: of the outputs; they are logits by default.
        dropout: before the dense layer.

    >>> from hub import BertBackbone
    >>> model = TextClassifier(BertBackbone(9, 1, 2, hidden_dim=8, intermediate_dim=8), 3)
    >>> ids = np.ones((2, 4), "int32")
    >>> model.predict({"token_ids": ids, "segment_ids": ids, "padding_mask": ids}, verbose=0).shape
    (2, 3)
    """

    task = "TextClassifier"
    family_aliases = ("Classifier",)
    pipeline = "text-classification"
    transformers_class = "AutoModelForSequenceClassification"
    adapter_type = "SEQ_CLS"

    def __init__(
        self,
        backbone: Any,
        num_classes: int,
        preprocessor: Any = None,
        activation: Any = None,
        dropout: float = 0.1,
        **kwargs: Any,
    ):
        super().__init__(backbone, preprocessor, **kwargs)
        if num_classes < 1:
            raise ValueError(f"num_classes must be positive, got {num_classes}.")
        self.num_classes = num_classes
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
        self.head = layers.Dense(
            num_classes, kernel_initializer=bert_initializer(), activation=activation,
            dtype=self.dtype_policy, name="logits",
        )  # fmt: skip
        self.head.build((None, width))
        self.built = True

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

    def _defaults(self) -> dict[str, Any]:
        logits = self.activation is None or self.activation is keras.activations.linear
        return {
            "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=logits),
            "metrics": [keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        }

    @classmethod
    def checkpoint_arguments(cls, files: Any, config: dict) -> dict[str, Any]:
        return class_arguments(config, cls.task)

    def check_head(self, weights: Any, head: Any) -> None:
        check_classes(weights, head, self.num_classes)

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
        names = label_config(self)["id2label"]
        labels = [names.get(str(i)) for i in range(self.num_classes)]
        if None in labels:
            raise ValueError(
                f"id2label of the config must name 0 to {len(labels) - 1}, has {names}"
            )
        logits = np.asarray(self.predict(inputs, verbose=0), "float32")
        problem_type = getattr(self.backbone, "source_config", {}).get("problem_type")
        return [
            {"label": labels[int(row.argmax())], "scores": {
                label: round(float(p), 6) for label, p in zip(labels, row, strict=True)
            }}
            for row in probabilities(logits, problem_type)
        ]  # fmt: skip

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the task."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "activation": keras.activations.serialize(self.activation),
            "dropout": self.dropout.rate,
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
