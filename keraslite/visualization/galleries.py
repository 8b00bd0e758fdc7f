"""Sheets of images, with titles, boxes or masks."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite.utils.figures import finish, new_figure
from keraslite.visualization.drawing import (
    as_images,
    draw_bounding_boxes,
    draw_segmentation_masks,
)


def image_sheet(
    images: Sequence[Any],
    titles: Sequence[str] | None = None,
    rows: int | None = None,
    cols: int | None = None,
    scale: float = 2.0,
    shown: bool = False,
    frameon: bool = True,
) -> Any:
    """Return a figure of images side by side.

    Args:
        images: arrays (height, width, 1, 3 or 4) in bytes, or Pillow images, of any sizes.
        titles: a text for each.
        rows: the number of rows; about that of columns by default.
        cols: the number of columns.
        scale: the width and height of an image in inches.
        shown: whether `matplotlib.pyplot.show` is to show the figure.
        frameon: whether the figure has a background.

    >>> len(image_sheet([np.zeros((4, 6, 3), "uint8")] * 3).axes)
    3
    """
    count = len(images)
    if cols is None:
        cols = math.ceil(math.sqrt(count)) if rows is None else math.ceil(count / rows)
    rows = rows or math.ceil(count / cols)
    figure = new_figure(cols * scale, rows * scale, shown, layout="tight", frameon=frameon)
    for i, image in enumerate(images[: rows * cols]):
        pixels = np.asarray(image)
        axes = figure.add_subplot(rows, cols, i + 1)
        grey = pixels.ndim == 2 or pixels.shape[-1] == 1
        axes.imshow(pixels.reshape(pixels.shape[:2]) if grey else pixels, **_GREY if grey else {})
        axes.axis("off")
        if titles is not None and titles[i]:
            axes.set_title(titles[i], fontsize=8)
    return figure


_GREY: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 255}


def _in_bytes(images: Any, value_range: Sequence[float], data_format: str | None) -> np.ndarray:
    """Return images from 0 to 255, channels last."""
    black, white = value_range
    pixels = (as_images(images, data_format).astype("float32") - black) * (255 / (white - black))
    return np.clip(pixels, 0, 255).astype("uint8")


def plot_image_gallery(
    images: Any,
    y_true: Any = None,
    y_pred: Any = None,
    label_map: Mapping[int, str] | None = None,
    rows: int | None = None,
    cols: int | None = None,
    value_range: Sequence[float] = (0, 255),
    scale: float = 2,
    path: Any = None,
    show: bool | None = None,
    transparent: bool = True,
    dpi: int = 60,
    legend_handles: Sequence | None = None,
    data_format: str | None = None,
) -> Any:
    """Show images side by side, with their labels and predictions.

    Args:
        images: (images, height, width, channels).
        y_true: class numbers, which titles name.
        y_pred: predicted class numbers.
        label_map: class numbers -> names.
        rows: the number of rows; about that of columns by default.
        cols: the number of columns.
        value_range: the values of black and white.
        scale: the width and height of an image in inches.
        path: of a file to write instead.
        show: whether the figure is shown; it is by default, unless it is written.
        transparent: whether the background of the file is transparent.
        dpi: of the file, in dots per inch.
        legend_handles: patches of matplotlib for a legend.
        data_format: "channels_last" or "channels_first"; the configured one by default.

    Returns:
        The figure, where it is neither written nor shown.

    Raises:
        ValueError: the images are no batch, labels have no names, or both `path` and `show` are
            set.
        ImportError: matplotlib is not installed.

    >>> images, names = np.ones((3, 4, 6, 3)), {0: "cat"}
    >>> figure = plot_image_gallery(images, [1, 0, 1], label_map=names, show=False)
    >>> [axes.get_title() for axes in figure.axes]
    ['Label: Unknown', 'Label: cat', 'Label: Unknown']
    """
    if path is not None and show:
        raise ValueError("Give path or show=True, not both.")
    if (y_true is not None or y_pred is not None) and label_map is None:
        raise ValueError("label_map must name the classes of y_true and y_pred.")
    pixels = _in_bytes(images, value_range, data_format)
    titles = [""] * len(pixels)
    for word, numbers in (("Label", y_true), ("Pred", y_pred)):
        if numbers is None:
            continue
        for i, number in enumerate(np.asarray(backends.to_numpy(numbers)).reshape(-1).tolist()):
            text = f"{word}: {(label_map or {}).get(number, 'Unknown')}"
            titles[i] = f"{titles[i]}  {text}".strip()
    shown = path is None if show is None else show
    figure = image_sheet(list(pixels), titles, rows, cols, scale, shown, frameon=False)
    if legend_handles is not None:
        figure.legend(handles=legend_handles, loc="lower center")
    return finish(
        figure, path, shown, pad_inches=0, bbox_inches="tight", transparent=transparent, dpi=dpi
    )


def plot_bounding_box_gallery(
    images: Any,
    bounding_box_format: str,
    y_true: Mapping[str, Any] | None = None,
    y_pred: Mapping[str, Any] | None = None,
    value_range: Sequence[float] = (0, 255),
    true_color: Sequence[int] = (0, 188, 212),
    pred_color: Sequence[int] = (255, 235, 59),
    line_thickness: int = 2,
    font_scale: float = 1.0,
    text_thickness: int | None = None,
    class_mapping: Mapping[int, str] | None = None,
    ground_truth_mapping: Mapping[int, str] | None = None,
    prediction_mapping: Mapping[int, str] | None = None,
    legend: bool = False,
    legend_handles: Sequence | None = None,
    rows: int | None = None,
    cols: int | None = None,
    data_format: str | None = None,
    **kwargs: Any,
) -> Any:
    """Show images side by side, with their true and predicted boxes.

    Args:
        images: (images, height, width, channels).
        bounding_box_format: the format of the boxes, as for `keras.utils.bounding_boxes`.
        y_true: a dict of boxes, as for `draw_bounding_boxes`.
        y_pred: likewise.
        value_range: the values of black and white.
        true_color: of true boxes, in RGB.
        pred_color: of predicted boxes.
        line_thickness: in pixels.
        font_scale: the size of the names of classes.
        text_thickness: of the strokes of letters; `line_thickness` by default.
        class_mapping: class numbers -> names.
        ground_truth_mapping: those of true boxes; `class_mapping` by default.
        prediction_mapping: those of predicted boxes; `class_mapping` by default.
        legend: whether a legend says which color is which.
        legend_handles: patches of matplotlib for another legend.
        rows: the number of rows.
        cols: the number of columns.
        data_format: "channels_last" or "channels_first"; the configured one by default.
        kwargs: as for `plot_image_gallery`.

    Returns:
        As `plot_image_gallery`.

    Raises:
        ValueError: the images are no batch, or both `legend` and `legend_handles` are set.
        ImportError: matplotlib is not installed.

    >>> boxes = {"boxes": np.array([[[2, 1, 5, 4]]]), "labels": np.array([[0]])}
    >>> figure = plot_bounding_box_gallery(np.zeros((1, 6, 7, 3)), "xyxy", boxes, show=False)
    >>> len(figure.axes)
    1
    """
    if legend and legend_handles:
        raise ValueError("Give legend or legend_handles, not both.")
    pixels = _in_bytes(images, value_range, data_format)
    parts = (
        ("Ground Truth", y_true, true_color, ground_truth_mapping or class_mapping),
        ("Prediction", y_pred, pred_color, prediction_mapping or class_mapping),
    )
    for _, boxes, color, names in parts:
        if boxes is not None:
            pixels = draw_bounding_boxes(
                pixels, boxes, bounding_box_format, names, color, line_thickness, text_thickness,
                font_scale, "channels_last",
            )  # fmt: skip
    if legend:
        new_figure(1, 1)  # its error, where matplotlib is missing
        from matplotlib.patches import Patch

        legend_handles = [
            Patch(color=np.array(color) / 255, label=label) for label, _, color, _ in parts
        ]
    return plot_image_gallery(
        pixels, legend_handles=legend_handles, rows=rows, cols=cols, data_format="channels_last",
        **kwargs,
    )  # fmt: skip


def plot_segmentation_mask_gallery(
    images: Any,
    num_classes: int,
    value_range: Sequence[float] = (0, 255),
    y_true: Any = None,
    y_pred: Any = None,
    color_mapping: Mapping[int, Sequence[int]] | None = None,
    blend: bool = True,
    alpha: float = 0.8,
    ignore_index: int = -1,
    data_format: str | None = None,
    **kwargs: Any,
) -> Any:
    """Show images in rows, each beside itself with its true and its predicted mask.

    Args:
        images: (images, height, width, channels).
        num_classes: the number of classes.
        value_range: the values of black and white.
        y_true: masks, as for `draw_segmentation_masks`.
        y_pred: likewise.
        color_mapping: class numbers -> colors in RGB.
        blend: whether images are seen through the masks.
        alpha: the opacity of the masks.
        ignore_index: a class number that is left out.
        data_format: "channels_last" or "channels_first"; the configured one by default.
        kwargs: as for `plot_image_gallery`.

    Returns:
        As `plot_image_gallery`.

    Raises:
        ValueError: the images are no batch, or the masks are of another size.
        ImportError: matplotlib is not installed.

    >>> masks = np.ones((2, 4, 6), "int32")
    >>> figure = plot_segmentation_mask_gallery(np.ones((2, 4, 6, 3)), 2, y_true=masks, show=False)
    >>> len(figure.axes)
    4
    """
    pixels = _in_bytes(images, value_range, data_format)
    columns = [pixels]
    for masks in (y_true, y_pred):
        if masks is None:
            continue
        masks = np.asarray(backends.to_numpy(masks)).astype("int32")
        if masks.ndim == 4 and masks.shape[-1] != 1:
            masks = masks[:, 0]  # channels first
        columns.append(
            draw_segmentation_masks(
                pixels, masks, num_classes, color_mapping, alpha, blend, ignore_index,
                "channels_last",
            )
        )  # fmt: skip
    sheet = np.stack(columns, 1).reshape(-1, *pixels.shape[1:])
    return plot_image_gallery(
        sheet, rows=len(pixels), cols=len(columns), data_format="channels_last", **kwargs
    )
