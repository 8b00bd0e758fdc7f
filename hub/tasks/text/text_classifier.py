"""TextClassifier: classes of texts, or of pairs of texts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hub.blocks.transformer import bert_initializer
from hub.families import Family, family_of
from hub.tasks.classes import dropout_key, label_config
from hub.tasks.classifier import Classifier
from hub.tasks.text.text_task import TextTask
from keraslite import layers


class TextClassifier(Classifier, TextTask):
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
    head_options = ("hidden_activation", "dropout_before_hidden", "dropout", "dropout_key")
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
        self.set_classes(num_classes, labels, activation)
        self.built = True

    def new_head(self) -> layers.Dense:
        """Return the dense layer of the classes, built."""
        head = layers.Dense(
            self.num_classes, kernel_initializer=bert_initializer(), activation=self.activation,
            dtype=self.dtype_policy, name="logits",
        )  # fmt: skip
        head.build((None, self.backbone.hidden_dim))
        return head

    def classify(
        self,
        texts: Any,
        top_k: int | None = None,
        batch_size: int | None = None,
        verbose: int = 0,
    ) -> Any:
        """Return the likeliest labels of each text and their probabilities.

        Args:
            texts: a text, or texts or pairs as for `predict`.
            top_k: the number of labels of a text; None for the best alone.
            batch_size: the most texts of a batch.
            verbose: 1 shows a progress bar.

        Returns:
            A dict of `label` and `score` for each text, with `top_k` a list of them, the best
            first; of a single text not in a list.
        """
        answers = self.label_scores(self._probabilities(texts, batch_size, verbose), top_k)
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
        return self.scored_labels(self._probabilities(inputs))


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
