"""Images in other sizes: `resize`, and `scale_and_translate` along any axes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keraslite.ops import numpy as k
from keraslite.ops.common import positions
from keraslite.ops.core import cast, shape
from keraslite.ops.image.formats import as_batch, as_floats, check_choice
from keraslite.ops.image.resampling import KERNELS, along, weights
from keraslite.ops.op import op
from keraslite.typing import Tensor


@op("same")
def resize(
    images: Tensor,
    size: Sequence[int],
    interpolation: str = "bilinear",
    antialias: bool = False,
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    fill_mode: str = "constant",
    fill_value: float = 0.0,
    data_format: str | None = None,
) -> Tensor:
    """Resize images; the centres of pixels are at half-integer coordinates.

    Args:
        images: (height, width, channels), or a batch of them.
        size: (height, width) of the result.
        interpolation: "nearest", "bilinear", "bicubic" (of Keys, a = -1/2), "lanczos3", "lanczos5".
        antialias: whether the kernel is widened where the images shrink.
        crop_to_aspect_ratio: whether the images are cut first, around their middle, so that
            nothing is distorted.
        pad_to_aspect_ratio: whether they are padded first instead.
        fill_mode: "constant", the only padding.
        fill_value: the constant.
        data_format: "channels_last" or "channels_first"; the configured one by default.

    >>> np.asarray(resize(np.float32([[[0.0], [2.0]]]), (1, 4)))[0, :, 0].tolist()
    [0.0, 0.5, 1.5, 2.0]
    """
    check_choice("interpolation", interpolation, ("nearest", *_RESIZERS))
    check_choice("fill_mode", fill_mode, ("constant",))
    if len(tuple(size)) != 2:
        raise ValueError(f"size must be (height, width), got {size!r}.")
    if any(side < 1 for side in size):
        raise ValueError(f"size must be of positive integers, got {size!r}.")
    if crop_to_aspect_ratio and pad_to_aspect_ratio:
        raise ValueError(
            "At most one of crop_to_aspect_ratio and pad_to_aspect_ratio must be set, not both."
        )
    x, undo = as_batch(images, data_format)
    if crop_to_aspect_ratio or pad_to_aspect_ratio:
        x = in_aspect(x, tuple(size), pad_to_aspect_ratio, fill_value)
    if interpolation == "nearest":
        for axis, after in enumerate(size, 1):
            before = shape(x)[axis]
            if before is not after:
                x = k.take(x, _nearest(x, before, after), axis=axis)
        return undo(x)
    floats, back = as_floats(x)
    if interpolation == "bilinear" and floats is x:  # integers are rounded: a last digit counts
        return undo(_resize_linear(x, tuple(size), antialias))
    return undo(back(_resized(floats, size, interpolation, antialias)))


@op("same")
def _resize_linear(x: Any, size: tuple, antialias: bool) -> Any:
    """Resize a batch of floats by linear interpolation; frameworks with a kernel for it answer."""
    return _resized(x, size, "bilinear", antialias)


def _resized(x: Any, size: Sequence[int], interpolation: str, antialias: bool) -> Any:
    for axis, after in enumerate(size, 1):
        before = shape(x)[axis]
        if before is not after:
            is_known = isinstance(before, int)
            scale = after / before if is_known else after / cast(before, "float64")
            x = along(x, axis, weights(x, before, after, scale, 0.0, interpolation, antialias))
    return x


_RESIZERS = ("bilinear", "bicubic", "lanczos3", "lanczos5")


def _nearest(x: Any, before: Any, after: int) -> Any:
    if isinstance(before, int):
        return np.minimum((np.arange(after) + 0.5) * (before / after), before - 1).astype("int32")
    at = (cast(positions(x, after), "float32") + 0.5) * (cast(before, "float32") / after)
    return cast(k.floor(at), "int32")


def in_aspect(x: Any, size: tuple, pads: bool, fill: float) -> Any:
    """Images cut or padded around their middle to the aspect of a size."""
    height, width = shape(x)[1:3]
    if not pads and not (isinstance(height, int) and isinstance(width, int)):
        # A graph of TensorFlow that does not know the sizes: the same window, of tensors.
        rows, columns = (
            k.clip(side, 1, limit)
            for side, limit in (
                (width * size[0] // size[1], height), (height * size[1] // size[0], width)
            )
        )  # fmt: skip
        top, left = (height - rows) // 2, (width - columns) // 2
        return x[:, top : top + rows, left : left + columns]
    top, left, rows, columns = aspect_window(height, width, size, pads)
    if pads:
        return k.pad(x, ((0, 0), (-top, -top), (-left, -left), (0, 0)), constant_values=fill)
    return x[:, top : top + rows, left : left + columns]


def aspect_window(height: Any, width: Any, size: tuple, pads: bool) -> tuple[int, int, int, int]:
    """Return the window around the middle of an image that has the aspect of a size.

    Args:
        height: of the image.
        width: likewise.
        size: a height and a width, of the aspect.
        pads: whether the window reaches beyond the image, or the image beyond it.

    Returns:
        The top row and the left column, which are negative beyond the image, and the numbers of
        rows and columns.

    Raises:
        ValueError: the height or width is not known.

    >>> aspect_window(4, 8, (2, 2), pads=False), aspect_window(4, 8, (2, 2), pads=True)
    ((0, 2, 4, 4), (-2, 0, 8, 8))
    """
    if not isinstance(height, int) or not isinstance(width, int):
        raise ValueError("The size of the images must be known to keep their aspect ratio.")
    sizes = int(width * size[0] / size[1]), int(height * size[1] / size[0])
    if pads:
        # As much on either side, and along one axis alone.
        above, left = (max(int((w - n) / 2), 0) for w, n in zip(sizes, (height, width)))
        left = 0 if above else left
        return -above, -left, height + 2 * above, width + 2 * left
    rows, columns = (max(min(n, w), 1) for n, w in zip((height, width), sizes))
    return int((height - rows) / 2), int((width - columns) / 2), rows, columns


@op("same", tensors=1)
def scale_and_translate(
    images: Tensor,
    output_shape: Sequence[int],
    scale: Any,
    translation: Any,
    spatial_dims: Sequence[int],
    method: str,
    antialias: bool = True,
) -> Tensor:
    """Scale and translate tensors along some of their axes; values from beyond the ends are 0.

    Args:
        images: a tensor of any rank.
        output_shape: the shape of the result.
        scale: the scale factor along each of `spatial_dims`.
        translation: the translation along each of them, in pixels of the result.
        spatial_dims: the axes.
        method: "linear" ("bilinear", "trilinear", "triangle"), "cubic" ("bicubic", "tricubic"),
            "lanczos3" or "lanczos5".
        antialias: whether the kernel is widened where the images shrink.

    >>> x = np.float32([[1.0], [2.0]])
    >>> moved = scale_and_translate(x, (2, 1), [1.0], [1.0], (0,), "linear")
    >>> np.asarray(moved)[:, 0].tolist()
    [0.0, 1.0]
    """
    check_choice("method", method, KERNELS)
    if len(output_shape) != len(images.shape):
        raise ValueError(
            f"output_shape must have the rank of the images, got {tuple(output_shape)} for "
            f"{tuple(images.shape)}."
        )
    x, back = as_floats(images)
    for i, axis in enumerate(spatial_dims):
        axis %= len(images.shape)
        factor, moved = (
            float(v[i]) if isinstance(v, list | tuple | np.ndarray) else v[i]
            for v in (scale, translation)
        )
        before = shape(x)[axis]
        table = weights(x, before, output_shape[axis], factor, moved, method, antialias)
        x = along(x, axis, table)
    return back(x)


__all__ = ["resize", "scale_and_translate"]
