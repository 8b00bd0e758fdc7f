"""Bounding boxes and segmentation masks drawn on batches of images, as arrays."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite.ops.bounding_boxes import convert_format
from keraslite.ops.layout import is_channels_first

_TEXT_HEIGHT = 22  # in pixels, at a font scale of 1
_MARGIN = 3


def as_images(images: Any, data_format: str | None) -> np.ndarray:
    """Return a batch of images as an array with the channels last.

    Raises:
        ValueError: they are no batch.
    """
    images = np.asarray(backends.to_numpy(images))
    if images.ndim != 4:
        raise ValueError(
            f"images must be a batch (images, height, width, channels), got {images.shape}."
        )
    return np.moveaxis(images, 1, -1) if is_channels_first(data_format) else images


def _to_uint8(images: np.ndarray) -> np.ndarray:
    """Return a copy in bytes; floats are from 0 to 1, or from 0 to 255 if any is above 1."""
    if images.dtype.kind == "f" and images.size:
        images = np.clip(images, 0, 1) * 255 if images.max() <= 1 else np.clip(images, 0, 255)
    return images.astype("uint8")


def _color_of(color: Sequence[int], channels: int) -> np.ndarray:
    """Return a color in as many channels: grey by its mean, and opaque."""
    if channels == 1:
        return np.array([sum(color) / 3], "uint8")
    return np.array([*color, 255][:channels], "uint8")


def draw_bounding_boxes(
    images: Any,
    bounding_boxes: Mapping[str, Any],
    bounding_box_format: str,
    class_mapping: Mapping[int, str] | None = None,
    color: Sequence[int] = (128, 128, 128),
    line_thickness: int = 2,
    text_thickness: int | None = 1,
    font_scale: float = 1.0,
    data_format: str | None = None,
) -> np.ndarray:
    """Draw bounding boxes, their classes and confidences on images.

    Args:
        images: (images, height, width, channels), bytes, or floats from 0 to 1 or from 0 to 255.
        bounding_boxes: a dict of "boxes" (images, boxes, 4), "labels" (images, boxes), -1 for
            boxes that are left out, and perhaps "confidences" (images, boxes).
        bounding_box_format: the format of the boxes, as for `keras.utils.bounding_boxes`.
        class_mapping: class numbers -> names; others get no text.
        color: of lines and texts, in RGB.
        line_thickness: in pixels.
        text_thickness: of the strokes of letters; `line_thickness` by default.
        font_scale: the size of the texts.
        data_format: "channels_last" or "channels_first"; the configured one by default.

    Returns:
        The images in bytes, of the same shape.

    Raises:
        ValueError: the images are no batch, or boxes or labels are missing.

    >>> boxes = {"boxes": np.array([[[2, 1, 5, 4]]]), "labels": np.array([[0]])}
    >>> image = draw_bounding_boxes(np.zeros((1, 6, 7, 1)), boxes, "xyxy", line_thickness=1)
    >>> (image[0, ..., 0] > 0).astype(int).tolist()[1:4]
    [[0, 0, 1, 1, 1, 1, 0], [0, 0, 1, 0, 0, 1, 0], [0, 0, 1, 0, 0, 1, 0]]
    """
    from PIL import Image, ImageDraw, ImageFont

    if not isinstance(bounding_boxes, Mapping):
        raise TypeError(f"bounding_boxes must be a dict, got {type(bounding_boxes).__name__}.")
    if missing := [key for key in ("boxes", "labels") if key not in bounding_boxes]:
        raise ValueError(f"bounding_boxes must have boxes and labels: {missing} are missing.")
    out = _to_uint8(as_images(images, data_format))
    height, width, channels = out.shape[1:]
    boxes, labels, confidences = (
        None if value is None else np.asarray(backends.to_numpy(value))
        for value in map(bounding_boxes.get, ("boxes", "labels", "confidences"))
    )
    with backends.backend_scope("numpy"):
        boxes = convert_format(boxes, bounding_box_format, "xyxy", height, width).astype("int32")
    names = class_mapping or {}
    text_thickness = text_thickness or line_thickness
    font = ImageFont.load_default(size=max(_TEXT_HEIGHT * font_scale, 1))
    # One stroke is drawn beyond the box, as many as are left inside.
    outside, inside = line_thickness // 2, line_thickness - line_thickness // 2
    for i, image in enumerate(out):
        ink = Image.new("L", (width, height))
        draw = ImageDraw.Draw(ink)
        for j, (x1, y1, x2, y2) in enumerate(boxes[i].tolist()):
            number = int(labels[i, j])
            if number == -1 or x2 < x1 or y2 < y1:
                continue
            corners = (x1 - outside, y1 - outside, x2 + outside, y2 + outside)
            draw.rectangle(corners, outline=255, width=outside + inside)
            if number not in names:
                continue
            text = names[number]
            if confidences is not None:
                text += f" | {confidences[i, j]:.2f}"
            above = y1 - outside - _MARGIN - _TEXT_HEIGHT * font_scale
            place = (x1, above) if above >= 0 else (x1 + _MARGIN, y1 + inside)
            draw.text(place, text, 255, font, stroke_width=(text_thickness - 1) // 2)
        image[np.asarray(ink) > 127] = _color_of(color, channels)
    return np.moveaxis(out, -1, 1) if is_channels_first(data_format) else out


def draw_segmentation_masks(
    images: Any,
    segmentation_masks: Any,
    num_classes: int | None = None,
    color_mapping: Mapping[int, Sequence[int]] | None = None,
    alpha: float = 0.8,
    blend: bool = True,
    ignore_index: int = -1,
    data_format: str | None = None,
) -> np.ndarray:
    """Draw segmentation masks on images, a color a class.

    Args:
        images: (images, height, width, channels), from 0 to 255.
        segmentation_masks: class numbers (images, height, width), or with an axis of channels of
            size 1.
        num_classes: the number of classes; the largest class number and one by default.
        color_mapping: class numbers -> colors in RGB; classes without one are left out.
        alpha: the opacity of the masks, from 0 to 1.
        blend: whether images are seen through the masks; else the masks cover them.
        ignore_index: a class number that is left out.
        data_format: "channels_last" or "channels_first"; the configured one by default.

    Returns:
        The images in bytes, of the same shape.

    Raises:
        ValueError: the images are no batch, or the masks are of another size.
        TypeError: the masks are no integers.

    >>> mask = np.array([[[0, 1]]])
    >>> draw_segmentation_masks(np.zeros((1, 1, 2, 3)), mask, color_mapping={1: (250, 0, 0)})
    array([[[[  0,   0,   0],
             [200,   0,   0]]]], dtype=uint8)
    """
    pixels = as_images(images, data_format).astype("float32")
    masks = np.asarray(backends.to_numpy(segmentation_masks))
    if masks.dtype.kind not in "iu":
        raise TypeError(f"segmentation_masks must be integers, got {masks.dtype}.")
    if masks.ndim == 4:
        masks = masks[:, 0] if is_channels_first(data_format) else masks[..., 0]
    if masks.shape != pixels.shape[:3]:
        raise ValueError(
            f"segmentation_masks must have the size of the images, {pixels.shape[:3]}, got "
            f"{masks.shape}."
        )
    count = int(masks.max(initial=-1)) + 1 if num_classes is None else num_classes
    colors = color_mapping or {i: _palette_color(i) for i in range(count)}
    covered = pixels.copy()
    for number, color in colors.items():
        if 0 <= number < count and number != ignore_index:
            covered[masks == number] = _color_of(color, pixels.shape[-1])
    out = pixels * (1 - alpha) + covered * alpha if blend else covered
    out = np.clip(out, 0, 255).astype("uint8")
    return np.moveaxis(out, -1, 1) if is_channels_first(data_format) else out


def _palette_color(number: int) -> list[int]:
    """Return the color that Keras gives a class."""
    return [number * prime % 255 for prime in (2**25 - 1, 2**15 - 1, 2**21 - 1)]
