"""The worst mistakes of a classifier of images: which they are, and a sheet of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hub.preprocessing.image_inputs import open_image, to_rgb
from keraslite.utils.figures import finish
from keraslite.visualization.galleries import image_sheet

_EDGE = 256  # pixels of the longer edge in a sheet


def worst_mistakes(
    probabilities: np.ndarray, numbers: np.ndarray, labels: Sequence[str], count: int = 12
) -> list[dict[str, Any]]:
    """Return the rows whose true class got the least probability, of those that are wrong.

    Args:
        probabilities: (rows, classes).
        numbers: the true class numbers (rows,).
        labels: the names of the classes.
        count: how many at most.

    Returns:
        A dict of `row`, `label`, `predicted`, `score` (of the predicted class) and `label_score`
        (of the true one) for each, the worst first.

    >>> worst_mistakes(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]), ["cat", "dog"])
    [{'row': 1, 'label': 'dog', 'predicted': 'cat', 'score': 0.8, 'label_score': 0.2}]
    """
    answers = probabilities.argmax(-1)
    of_label = np.take_along_axis(probabilities, numbers[:, None], -1)[:, 0]
    wrong = np.flatnonzero(answers != numbers)
    wrong = wrong[np.argsort(of_label[wrong], kind="stable")][:count]
    return [
        {
            "row": int(row), "label": labels[numbers[row]], "predicted": labels[answers[row]],
            "score": float(probabilities[row, answers[row]]), "label_score": float(of_label[row]),
        }
        for row in wrong
    ]  # fmt: skip


def plot_mistakes(
    mistakes: Sequence[dict[str, Any]], images: Sequence[Any], path: Any = None
) -> Any:
    """Draw a sheet of mistakes: each image with its class and what it was taken for.

    Args:
        mistakes: what `worst_mistakes` returned.
        images: all images, as `open_image` takes them.
        path: of a file to write instead.

    Returns:
        The figure, where it is not written.

    Raises:
        ValueError: there is no mistake.
        ImportError: matplotlib is not installed.
    """
    if not mistakes:
        raise ValueError("There is no mistake to draw: every answer is right.")
    pictures, titles = [], []
    for mistake in mistakes:
        picture = to_rgb(open_image(images[mistake["row"]]))
        picture.thumbnail((_EDGE, _EDGE))
        pictures.append(picture)
        titles.append(
            f"{mistake['label']} ({mistake['label_score']:.0%})\n"
            f"taken for {mistake['predicted']} ({mistake['score']:.0%})"
        )
    return finish(image_sheet(pictures, titles, scale=2.4), path, shown=False)
