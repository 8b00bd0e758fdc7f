"""Common code of classifiers of texts and of images: classes, labels and scores."""

from collections.abc import Sequence
from typing import Any

import numpy as np

import keraslite as keras
from hub.tasks.classes import (
    DEFAULT_CLASSES,
    check_classes,
    check_num_classes,
    class_arguments,
    distinct_labels,
    encode_labels,
    label_config,
)
from keraslite import layers

# Losses that compare probabilities of all classes, such as with label smoothing.
_ONE_HOT_LOSSES = (
    keras.losses.CategoricalCrossentropy, keras.losses.CategoricalFocalCrossentropy,
    keras.losses.CategoricalHinge,
)  # fmt: skip
_ONE_HOT_FUNCTIONS = (
    keras.losses.categorical_crossentropy, keras.losses.categorical_focal_crossentropy,
    keras.losses.categorical_hinge,
)  # fmt: skip


class Classifier:
    """The part of a task that classifies: a base class beside that of its modality.

    A subclass calls `set_classes` in its constructor, and writes `new_head`. It stands before the
    task among the bases; mypy, which reads this class alone, does not know what `super()` is.

    Attributes:
        num_classes: the number of classes.
        label_names: the names of the classes, where the caller or `fit` gave them.
        activation: of the outputs.
        head: the dense layer of the classes.
    """

    def set_classes(
        self, num_classes: int | None, labels: Sequence[str] | None, activation: Any
    ) -> None:
        """Take the classes and make the head.

        Args:
            num_classes: their number; that of `labels`, or of the data, where it is None.
            labels: their names.
            activation: of the outputs.

        Raises:
            ValueError: the number is no positive integer, or not that of the names.
        """
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
        self.head = self.new_head()

    def new_head(self) -> layers.Dense:
        """Return the dense layer of the classes, built."""
        raise NotImplementedError

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
        """Train on inputs and their labels: class numbers, or names.

        Args:
            x: texts or images, as the task takes them, or ready inputs.
            y: labels, one an input; for a categorical crossentropy, as of label smoothing, they
                are made one-hot. Names are those of `labels`; where the checkpoint has none and
                `num_classes` was not given, the classes are the names in y.
            kwargs: as for `Model.fit`.

        Raises:
            ValueError: a label is missing, unknown, fractional or out of range, with its row.
        """
        self.learn_names(self.distinct_names(y))
        return super().fit(x, y, **kwargs)  # type: ignore[misc]

    def learn_names(self, names: list[str] | None) -> None:
        """Take names as those of the classes, where the task has none.

        Args:
            names: the names among the labels; None for labels that are numbers.
        """
        if names is not None and not self._is_named():
            self._take_names(names)

    def distinct_names(self, y: Any) -> list[str] | None:
        """Return the names among labels in sorted order; None where labels are no strings.

        Args:
            y: labels, as for `fit`.
        """
        return distinct_labels(y)

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
                self.head = self.new_head()
        self.label_names = names
        self._kl_takes_classes_of_data = False

    def _columns(self, x: Any, y: Any) -> tuple[Any, Any]:
        x, y = super()._columns(x, y)  # type: ignore[misc]
        return x, self._encoded(y)

    def _transform(self, training: bool) -> Any:
        prepare = super()._transform(training)  # type: ignore[misc]
        if prepare is None:
            return None
        return lambda x, y, sample_weight: prepare(x, self._encoded(y), sample_weight)

    def _encoded(self, y: Any) -> Any:
        if y is None:
            return None
        loss = self.loss if self.compiled else None
        if isinstance(loss, str):
            loss = keras.losses.get(loss)
        one_hot = loss in _ONE_HOT_FUNCTIONS or isinstance(loss, _ONE_HOT_LOSSES)
        sparse = isinstance(loss, keras.losses.SparseCategoricalCrossentropy)
        y = encode_labels(y, self.labels, sparse or one_hot)
        is_column = isinstance(y, np.ndarray) and y.dtype.kind in "iu" and y.size == len(y)
        if not (one_hot and is_column):
            return y
        return np.eye(self.num_classes, dtype="float32")[y.reshape(-1)]

    def label_scores(self, scores: np.ndarray, top_k: int | None) -> list[Any]:
        """Return the labels of each row of scores.

        Args:
            scores: (inputs, classes).
            top_k: the number of labels of an input; None for the best alone.

        Returns:
            A dict of `label` and `score` for each row, or a list of them, the best first.

        Raises:
            ValueError: `top_k` is no positive integer.
        """
        if top_k is not None and (not isinstance(top_k, int | np.integer) or top_k < 1):
            raise ValueError(f"top_k must be a positive integer or None, got {top_k!r}.")
        names = self.labels
        order = np.argsort(-scores, axis=-1, kind="stable")[:, : top_k or 1]
        answers = [
            [{"label": names[i], "score": float(row[i])} for i in best]
            for row, best in zip(scores, order, strict=True)
        ]
        return [best[0] for best in answers] if top_k is None else answers

    def scored_labels(self, scores: np.ndarray) -> list[dict[str, Any]]:
        """Return the likeliest label and all scores of each row, as `hub run` prints them.

        Args:
            scores: (inputs, classes).
        """
        names = self.labels
        return [
            {
                "label": names[int(row.argmax())],
                "scores": {name: round(float(p), 6) for name, p in zip(names, row, strict=True)},
            }
            for row in scores
        ]

    def _gives_logits(self) -> bool:
        return self.activation is None or self.activation is keras.activations.linear

    def export_answers(self) -> dict[str, Any]:
        """Return the names of the classes, and whether the outputs are logits."""
        return {"labels": self.labels, "logits": self._gives_logits()}

    def _defaults(self) -> dict[str, Any]:
        return {
            "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=self._gives_logits()),
            "metrics": [keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        }

    @classmethod
    def checkpoint_arguments(cls, files: Any, config: dict) -> dict[str, Any]:
        """Return the number of classes and the dropout that a checkpoint says.

        Args:
            files: of the checkpoint.
            config: its config.json.
        """
        return class_arguments(config, cls.task)  # type: ignore[attr-defined]

    def check_head(self, weights: Any, head: Any) -> None:
        """Raise ValueError if the checkpoint's head has another number of classes.

        Args:
            weights: the checkpoint.
            head: the names of the head's weights.
        """
        check_classes(weights, head, self.num_classes)
        self._kl_takes_classes_of_data = False

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the task."""
        return {
            **super().get_config(),  # type: ignore[misc]
            "num_classes": self.num_classes,
            "activation": keras.activations.serialize(self.activation),
            "dropout": self.dropout.rate,
            "labels": self.label_names,
        }
