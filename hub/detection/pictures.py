"""Pictures of detection: boxes with their names, curves, and the confusion matrix.

Curves and matrices need matplotlib: `pip install "keraslite-hub[plot]"`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hub.detection.metrics import Curves
from hub.preprocessing.image_inputs import open_image, to_rgb
from keraslite.utils.figures import finish, new_figure
from keraslite.visualization import plot_confusion_matrix

# Colors that can be told apart, also by neighbours in the list.
_COLORS = (
    (230, 25, 75), (60, 180, 75), (0, 130, 200), (245, 130, 48), (145, 30, 180), (70, 240, 240),
    (240, 50, 230), (210, 245, 60), (0, 128, 128), (255, 225, 25), (170, 110, 40), (128, 0, 0),
    (170, 255, 195), (0, 0, 128), (128, 128, 0), (250, 190, 212), (220, 190, 255), (255, 215, 180),
)  # fmt: skip
_MOST_NAMED = 20  # classes; with more of them a legend could not be read


def color_of(label: int) -> tuple[int, int, int]:
    """Return the color of a class, in RGB.

    Args:
        label: its number.

    >>> color_of(0)
    (230, 25, 75)
    """
    return _COLORS[label % len(_COLORS)]


def draw_detections(
    picture: Any,
    boxes: Any,
    labels: Any,
    texts: Sequence[str] | None = None,
    line_width: int | None = None,
    font_size: int | None = None,
) -> Image.Image:
    """Return a copy of a picture with boxes drawn on it, each with a text on a plate of its color.

    Args:
        picture: a path, a Pillow image or an array.
        boxes: (D, 4), "xyxy" in pixels; the first ones are drawn on top.
        labels: class numbers (D,), which say the colors.
        texts: one for each; an empty one is left out.
        line_width: in pixels; by the size of the picture by default.
        font_size: likewise.

    >>> image = draw_detections(np.zeros((40, 60, 3), "uint8"), [[10, 10, 50, 30]], [0])
    >>> image.getpixel((10, 20)), image.getpixel((30, 20))
    ((230, 25, 75), (0, 0, 0))
    """
    image = to_rgb(open_image(picture)).copy()
    width, height = image.size
    side = (width + height) / 2
    line_width = line_width or max(round(side / 200), 2)
    font = ImageFont.load_default(size=font_size or max(round(side / 40), 11))
    draw = ImageDraw.Draw(image)
    corners = np.asarray(boxes, "float64").reshape(-1, 4)
    corners = np.clip(np.rint(corners), 0, [width, height, width, height]).astype(int)
    texts = texts or [""] * len(corners)
    rows = list(zip(corners.tolist(), np.asarray(labels).tolist(), texts, strict=True))
    for (x1, y1, x2, y2), label, _ in reversed(rows):
        color = color_of(int(label))
        # The last pixel lies before the corner; an empty box is a line.
        right, bottom = max(x2 - 1, x1), max(y2 - 1, y1)
        draw.rectangle((x1, y1, right, bottom), outline=color, width=line_width)
    for (x1, y1, _, _), label, text in reversed(rows):  # over all lines
        if text:
            _draw_text(draw, text, (x1, y1), color_of(int(label)), font, line_width, image.size)
    return image


def _draw_text(
    draw: ImageDraw.ImageDraw,
    text: str,
    corner: tuple[int, int],
    color: tuple[int, int, int],
    font: Any,
    margin: int,
    size: tuple[int, int],
) -> None:
    """Draw a text above a corner, or below it where there is no room, on a plate of a color."""
    left, top, right, bottom = draw.textbbox((0, 0), text, font)
    # The same height for all texts, with and without tall letters.
    top, bottom = 0, max(bottom, draw.textbbox((0, 0), "Ág", font)[3])
    width, height = right - left + 2 * margin, bottom - top + 2 * margin
    x = max(min(corner[0], size[0] - width), 0)
    y = corner[1] - height if corner[1] >= height else corner[1]
    draw.rectangle((x, y, x + width - 1, y + height - 1), fill=color)
    # As bright as the eye sees it (ITU-R BT.601).
    ink = "black" if np.dot(color, (0.299, 0.587, 0.114)) > 140 else "white"
    draw.text((x + margin - left, y + margin - top), text, ink, font)


def plot_curves(
    curves: Curves, class_names: Mapping[int, str] | Sequence[str] | None = None, path: Any = None
) -> Any:
    """Draw precision over recall, and F1, precision and recall over the confidence.

    Args:
        curves: of `MeanAveragePrecision.curves`.
        class_names: by class number; the numbers by default.
        path: of a file to write instead.

    Returns:
        The figure, where it is not written.

    Raises:
        ImportError: matplotlib is not installed.

    >>> from hub.detection.metrics import MeanAveragePrecision
    >>> metric, box = MeanAveragePrecision(), np.array([[10.0, 10.0, 50.0, 50.0]])
    >>> y_true = {"boxes": box, "labels": np.array([0])}
    >>> metric.update_state([y_true], [{**y_true, "confidence": np.array([0.9])}])
    >>> figure = plot_curves(metric.curves(), ["cat"])
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['precision', 'F1', 'precision', 'recall']
    """
    figure = new_figure(12, 9, layout="tight")
    names = [_name_of(int(label), class_names) for label in curves.labels]
    panels = (
        ("recall", curves.recall_points, "precision", curves.precision_at_recall),
        ("confidence", curves.confidence, "F1", curves.f1),
        ("confidence", curves.confidence, "precision", curves.precision),
        ("confidence", curves.confidence, "recall", curves.recall),
    )
    for i, (x_name, x, y_name, values) in enumerate(panels):
        axes = figure.add_subplot(2, 2, i + 1)
        for label, name, y in zip(curves.labels.tolist(), names, values, strict=True):
            axes.plot(x, y, linewidth=1, color=np.divide(color_of(label), 255), label=name)
        if len(values):
            mean = values.mean(0)
            notes = {
                ("recall", "precision"): f"mean, mAP50 {mean.mean():.3f}",
                ("confidence", "F1"): f"mean, best {mean.max():.2f} at {x[mean.argmax()]:.2f}",
            }
            text = notes.get((x_name, y_name), "mean")
            axes.plot(x, mean, linewidth=3, color="black", label=text)
            handles = axes.get_legend_handles_labels()
            first = 0 if len(names) <= _MOST_NAMED else -1
            axes.legend(*(column[first:] for column in handles), fontsize=8)
        axes.set(xlabel=x_name, ylabel=y_name, xlim=(0, 1), ylim=(0, 1.02))
        axes.grid(alpha=0.3)
    return finish(figure, path, shown=False)


def plot_detection_confusion(
    matrix: Any,
    class_names: Mapping[int, str] | Sequence[str] | None = None,
    normalize: bool = False,
    path: Any = None,
) -> Any:
    """Draw how often each class was taken for each other, for the background, or seen in it.

    Args:
        matrix: (C + 1, C + 1), of `DetectionConfusionMatrix.result`.
        class_names: by class number; the numbers by default.
        normalize: whether rows are shares of the true class rather than counts.
        path: of a file to write instead.

    Returns:
        The figure, where it is not written.

    Raises:
        ImportError: matplotlib is not installed.

    >>> figure = plot_detection_confusion([[3, 1], [2, 0]], ["cat"])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['3', '1', '2', '0']
    """
    matrix = np.asarray(matrix)
    names = [_name_of(label, class_names) for label in range(len(matrix) - 1)]
    truth, answers = (
        np.repeat(numbers, matrix.reshape(-1))
        for numbers in np.indices(matrix.shape).reshape(2, -1)
    )
    return plot_confusion_matrix(truth, answers, [*names, "background"], normalize, path)


def _name_of(label: int, class_names: Mapping[int, str] | Sequence[str] | None) -> str:
    if isinstance(class_names, Mapping):
        return class_names.get(label, str(label))
    return str(label) if class_names is None or label >= len(class_names) else class_names[label]
