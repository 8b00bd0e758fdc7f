"""Pictures of segmentation: masks in colors, and the points and boxes they were asked for by."""

from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from hub.detection.pictures import color_of
from hub.preprocessing.image_inputs import open_image, to_rgb
from keraslite.visualization import draw_segmentation_masks

_POINT_COLORS = {1: (40, 200, 60), 0: (230, 30, 40)}  # on the object, and beside it


def label_map(masks: Any) -> np.ndarray:
    """Return the number of the smallest mask at each pixel, (height, width) of ints; -1 for none.

    Args:
        masks: (masks, height, width) of bool.

    >>> label_map(np.array([[[1, 0, 0]], [[1, 1, 0]]], bool)).tolist()
    [[0, 1, -1]]
    """
    masks = np.asarray(masks, bool)
    out = np.full(masks.shape[1:], -1, "int32")
    areas = np.count_nonzero(masks, axis=(1, 2))
    for number in np.argsort(-areas, kind="stable"):
        out[masks[number]] = number
    return out


def draw_masks(picture: Any, masks: Any, alpha: float = 0.5, outlines: bool = True) -> Image.Image:
    """Return a copy of a picture with masks drawn over it, each in a color, small ones on top.

    Args:
        picture: a path, a Pillow image or an array.
        masks: (masks, height, width) of bool, of the size of the picture.
        alpha: the opacity of the colors, from 0 to 1.
        outlines: whether the edges of the masks are white.

    Raises:
        ValueError: the masks are of another size.

    >>> mask = np.zeros((1, 4, 6), bool)
    >>> mask[0, 1:3] = True
    >>> image = draw_masks(np.zeros((4, 6, 3), "uint8"), mask, outlines=False)
    >>> image.getpixel((0, 0)), image.getpixel((3, 1))
    ((0, 0, 0), (115, 12, 37))
    """
    image = to_rgb(open_image(picture))
    masks = np.asarray(masks, bool)
    if masks.ndim != 3 or masks.shape[1:] != (image.height, image.width):
        raise ValueError(
            f"masks must be (masks, {image.height}, {image.width}), for a picture of that height "
            f"and width, got the shape {masks.shape}."
        )
    labels = label_map(masks)
    colors = {number: color_of(number) for number in range(len(masks))}
    drawn = draw_segmentation_masks(
        np.asarray(image)[None], labels[None], color_mapping=colors, alpha=alpha,
        data_format="channels_last",
    )[0]  # fmt: skip
    if outlines:
        is_edge = np.zeros(labels.shape, bool)
        is_edge[1:] |= labels[1:] != labels[:-1]
        is_edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
        drawn[is_edge] = 255
    return Image.fromarray(drawn)


def draw_prompts(image: Image.Image, points: Any, labels: Any, boxes: Any) -> None:
    """Draw points and boxes on a picture: green points on the object, and red ones beside it.

    Args:
        image: the picture, which is changed.
        points: (..., 2), x and y in pixels, or None.
        labels: (...), of which others than 1 and 0 are left out, or None.
        boxes: (boxes, 4), "xyxy" in pixels, or None; each in the color of its mask.

    >>> image = Image.new("RGB", (100, 100))
    >>> draw_prompts(image, [[50, 50]], [1], None)
    >>> image.getpixel((50, 50))
    (40, 200, 60)
    """
    draw = ImageDraw.Draw(image)
    side = (image.width + image.height) / 2
    width, radius = max(round(side / 200), 2), max(side / 120, 3)
    for number, box in enumerate([] if boxes is None else np.asarray(boxes).tolist()):
        draw.rectangle(box, outline=color_of(number), width=width)
    if points is not None:
        rows = zip(np.reshape(points, (-1, 2)).tolist(), np.ravel(labels).tolist(), strict=True)
        for (x, y), label in rows:
            if label in _POINT_COLORS:
                corners = (x - radius, y - radius, x + radius, y + radius)
                draw.ellipse(corners, _POINT_COLORS[label], "white", max(width // 2, 1))
