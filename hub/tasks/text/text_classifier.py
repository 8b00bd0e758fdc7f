"""TextClassifier: which of some classes a text, or a pair of texts, belongs to."""

from typing import Any

import keraslite as keras
from hub.blocks.transformer import bert_initializer
from hub.families import family_of
from hub.tasks.task import Task
from keraslite import layers


class TextClassifier(Task):
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
        width, between = backbone.hidden_dim, family_of(backbone.family).classifier
        self.hidden = None
        if between is not None:
            start, policy = bert_initializer(), self.dtype_policy
            self.hidden = layers.Dense(
                width, between[0], kernel_initializer=start, dtype=policy, name="hidden"
            )
            self.hidden.build((None, width))
        self._drops_first = between is not None and between[1]
        self.head = layers.Dense(
            num_classes, kernel_initializer=bert_initializer(), activation=activation,
            dtype=self.dtype_policy, name="logits",
        )  # fmt: skip
        self.head.build((None, width))
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """The logits of a batch."""
        outputs = self.backbone(inputs, training=training)
        if self.hidden is None:
            pooled = outputs["pooled_output"]
        else:
            first = outputs["sequence_output"][:, 0]
            first = self.dropout(first, training=training) if self._drops_first else first
            pooled = self.hidden(first)
        return self.head(self.dropout(pooled, training=training))

    def _defaults(self) -> dict[str, Any]:
        logits = self.activation is None or self.activation is keras.activations.linear
        return {
            "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=logits),
            "metrics": [keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        }

    @classmethod
    def _from_files(cls, files: Any, config: dict) -> dict[str, Any]:
        return classes_of(config)

    def _check_head(self, weights: Any, head: Any) -> None:
        check_classes(weights, head, self.num_classes)

    def _to_config(self) -> dict[str, Any]:
        return {
            **labels_of(self),
            family_of(self.backbone.family).head_dropout: self.dropout.rate,
            "problem_type": self._problem_type(),
        }

    def _problem_type(self) -> str:
        """What the checkpoint said, if its classes are still the same ones."""
        source = getattr(self.backbone, "source_config", {})
        same = len(source.get("id2label") or ()) == self.num_classes
        return (source.get("problem_type") if same else None) or "single_label_classification"

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the task again."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "activation": keras.activations.serialize(self.activation),
            "dropout": self.dropout.rate,
        }


def classes_of(config: dict) -> dict[str, Any]:
    """`num_classes` and `dropout` of a classifier, out of a config.json.

    Args:
        config: its content.
    """
    if config.get("id2label"):
        classes = len(config["id2label"])
    else:
        classes = int(config.get("num_labels") or 2)  # what transformers means by silence
    dropout = config.get(family_of(config["model_type"]).head_dropout)
    return {
        "num_classes": classes,
        "dropout": config.get("hidden_dropout_prob", 0.1) if dropout is None else dropout,
    }


def check_classes(weights: Any, head: Any, num_classes: int) -> None:
    """Raise ValueError if a checkpoint's head is for another number of classes.

    Args:
        weights: the checkpoint.
        head: the names of the head's weights.
        num_classes: how many there should be.
    """
    there = weights.shape(f"{head.rows['head']}.weight")[0]
    if there != num_classes:
        raise ValueError(
            f"The checkpoint classifies into {there} classes, but num_classes={num_classes} was "
            "asked for. Leave num_classes out to keep its head, or give load_head=False to begin "
            "a new one."
        )


def labels_of(task: Any) -> dict[str, Any]:
    """Keys of config.json that name the classes of a task.

    Args:
        task: a classifier; names that its checkpoint had stay, if their number is right.
    """
    names = getattr(task.backbone, "source_config", {}).get("id2label") or {}
    if len(names) != task.num_classes:
        names = {str(i): f"LABEL_{i}" for i in range(task.num_classes)}
    return {
        "id2label": names,
        "label2id": {label: int(i) for i, label in names.items()},
        "num_labels": task.num_classes,
    }


BertTextClassifier = TextClassifier.over("bert", "BertTextClassifier")
BertClassifier = BertTextClassifier
RobertaTextClassifier = TextClassifier.over("roberta", "RobertaTextClassifier")
XLMRobertaTextClassifier = TextClassifier.over("xlm-roberta", "XLMRobertaTextClassifier")
DistilBertTextClassifier = TextClassifier.over("distilbert", "DistilBertTextClassifier")
ElectraTextClassifier = TextClassifier.over("electra", "ElectraTextClassifier")
AlbertTextClassifier = TextClassifier.over("albert", "AlbertTextClassifier")
