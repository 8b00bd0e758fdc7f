"""Confusion matrices, counted and drawn."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite.utils.figures import finish, new_figure

_MOST_NUMBERED = 30  # classes; with more of them numbers could not be read


def confusion_matrix(y_true: Any, y_pred: Any, num_classes: int | None = None) -> np.ndarray:
    """Count how often each class was taken for each other.

    Args:
        y_true: class numbers (rows,).
        y_pred: predicted class numbers (rows,), or scores (rows, classes).
        num_classes: the number of classes; the largest number and one by default.

    Returns:
        (classes, classes) of counts: the true class is the row, the predicted one the column.

    Raises:
        ValueError: there are more predictions than labels or fewer, or a number is out of range.

    >>> confusion_matrix([0, 0, 1], [0, 1, 1])
    array([[1, 1],
           [0, 1]])
    """
    truth = np.asarray(backends.to_numpy(y_true)).reshape(-1).astype("int64")
    answers = np.asarray(backends.to_numpy(y_pred))
    answers = answers.argmax(-1) if answers.ndim == 2 and answers.shape[1] > 1 else answers
    answers = answers.reshape(-1).astype("int64")
    if len(truth) != len(answers):
        raise ValueError(
            f"There must be a prediction for each label, got {len(answers)} for {len(truth)}."
        )
    numbers = np.concatenate([truth, answers])
    count = int(numbers.max(initial=-1)) + 1 if num_classes is None else num_classes
    if numbers.size and (numbers.min() < 0 or numbers.max() >= count):
        raise ValueError(
            f"Class numbers must be from 0 to {count - 1}, got {numbers.min()} to {numbers.max()}."
        )
    return np.bincount(truth * count + answers, minlength=count**2).reshape(count, count)


def plot_confusion_matrix(
    y_true: Any,
    y_pred: Any,
    class_names: Sequence[str] | None = None,
    normalize: bool = False,
    path: Any = None,
) -> Any:
    """Draw how often each class was taken for each other.

    Args:
        y_true: class numbers (rows,).
        y_pred: predicted class numbers (rows,), or scores (rows, classes).
        class_names: the names of the classes; their numbers by default.
        normalize: whether rows are shares of the true class rather than counts.
        path: of a file to write instead.

    Returns:
        The figure, where it is not written.

    Raises:
        ValueError: as of `confusion_matrix`.
        ImportError: matplotlib is not installed.

    >>> figure = plot_confusion_matrix([0, 0, 1], [0, 1, 1], ["cat", "dog"])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['1', '1', '0', '1']
    """
    counts = confusion_matrix(y_true, y_pred, None if class_names is None else len(class_names))
    names = [str(i) for i in range(len(counts))] if class_names is None else list(class_names)
    table = counts / np.maximum(counts.sum(1, keepdims=True), 1) if normalize else counts
    side = min(2 + 0.45 * len(names), 16)
    figure = new_figure(side + 1, side, layout="tight")
    axes = figure.add_subplot()
    image = axes.imshow(table, cmap="Blues", vmin=0)
    figure.colorbar(image, ax=axes)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if len(names) <= _MOST_NUMBERED:
        for (row, column), value in np.ndenumerate(table):
            text = f"{value:.2f}" if normalize else str(value)
            color = "white" if value > table.max() / 2 else "black"
            axes.text(column, row, text, color=color, ha="center", va="center", fontsize=8)
    return finish(figure, path, shown=False)
