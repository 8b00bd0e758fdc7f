"""Image ops: resampling, warps, crops and patches, colours and filters.

Images are (height, width, channels) or batches of them; channels_first is a transposition around.
What computes does so in float32 at least; the result has the images' dtype, and integers are
rounded and clipped to their range.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import config, dtypes
from keraslite.backend.windows import padding_pairs
from keraslite.ops import linalg
from keraslite.ops import numpy as k
from keraslite.ops.casting import saturate_cast
from keraslite.ops.common import _positions
from keraslite.ops.convolution import _sizes, depthwise_conv
from keraslite.ops.core import cast, convert_to_tensor, dtype, shape
from keraslite.ops.noise import box_muller, seed_pair
from keraslite.ops.op import op
from keraslite.ops.resampling import FIXERS, KERNELS, along, sample, weights

_ORDERS = {"nearest": 0, "bilinear": 1}


def _one_of(name: str, value: Any, allowed: Any) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {sorted(allowed)}, got {value!r}.")


def _floats(x: Any) -> tuple[Any, Callable]:
    """Images in float32 at least, and what brings a result back to their dtype."""
    name = dtype(x)
    if dtypes.is_float(name):
        wide = x if name in ("float32", "float64") else cast(x, "float32")
        return wide, lambda out: cast(out, name)
    return cast(x, "float32"), lambda out: saturate_cast(k.round(out), name)


def _batch(images: Any, data_format: str | None, rank: int = 4) -> tuple[Any, Callable]:
    """A batch of channels-last images, and what undoes that to a result of the same rank."""
    first, count = _is_first(data_format), len(images.shape)
    if count not in (rank - 1, rank):
        raise ValueError(
            f"images have {rank - 1} dimensions, or {rank} in a batch; got a shape of "
            f"{tuple(images.shape)}."
        )
    single = count == rank - 1
    images = k.expand_dims(images, 0) if single else images
    images = k.moveaxis(images, 1, -1) if first else images

    def undo(out: Any) -> Any:
        out = k.moveaxis(out, -1, 1) if first else out
        return k.squeeze(out, 0) if single else out

    return images, undo


def _is_first(data_format: str | None) -> bool:
    data_format = data_format or config.image_data_format()
    _one_of("data_format", data_format, ("channels_first", "channels_last"))
    return data_format == "channels_first"


# ---- resampling ----


@op("same")
def resize(
    images: Any,
    size: Sequence[int],
    interpolation: str = "bilinear",
    antialias: bool = False,
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    fill_mode: str = "constant",
    fill_value: float = 0.0,
    data_format: str | None = None,
) -> Any:
    """Images in another size; the centres of pixels stand at halves.

    Args:
        images: (height, width, channels), or a batch of them.
        size: (height, width) of the result.
        interpolation: "nearest", "bilinear", "bicubic" (of Keys, a = -1/2), "lanczos3", "lanczos5".
        antialias: whether the kernel is widened where the images shrink.
        crop_to_aspect_ratio: whether the images are cut first, around their middle, so that
            nothing is distorted.
        pad_to_aspect_ratio: whether they are padded first instead.
        fill_mode: "constant", what they are padded with.
        fill_value: the constant.
        data_format: "channels_last" or "channels_first"; the configured one by default.

    >>> np.asarray(resize(np.float32([[[0.0], [2.0]]]), (1, 4)))[0, :, 0].tolist()
    [0.0, 0.5, 1.5, 2.0]
    """
    _one_of("interpolation", interpolation, ("nearest", *_RESIZERS))
    _one_of("fill_mode", fill_mode, ("constant",))
    if len(tuple(size)) != 2:
        raise ValueError(f"size must be (height, width), got {size!r}.")
    if crop_to_aspect_ratio and pad_to_aspect_ratio:
        raise ValueError("Give one of crop_to_aspect_ratio and pad_to_aspect_ratio, not both.")
    x, undo = _batch(images, data_format)
    if crop_to_aspect_ratio or pad_to_aspect_ratio:
        x = _in_aspect(x, tuple(size), pad_to_aspect_ratio, fill_value)
    if interpolation == "nearest":
        for axis, after in enumerate(size, 1):
            before = shape(x)[axis]
            if before is not after:
                x = k.take(x, _nearest(x, before, after), axis=axis)
        return undo(x)
    x, back = _floats(x)
    for axis, after in enumerate(size, 1):
        before = shape(x)[axis]
        if before is not after:
            known = isinstance(before, int)
            scale = after / before if known else after / cast(before, "float32")
            x = along(x, axis, weights(x, before, after, scale, 0.0, interpolation, antialias))
    return undo(back(x))


_RESIZERS = ("bilinear", "bicubic", "lanczos3", "lanczos5")


def _nearest(x: Any, before: Any, after: int) -> Any:
    if isinstance(before, int):
        return np.minimum((np.arange(after) + 0.5) * (before / after), before - 1).astype("int32")
    at = (cast(_positions(x, after), "float32") + 0.5) * (cast(before, "float32") / after)
    return cast(k.floor(at), "int32")


def _in_aspect(x: Any, size: tuple, pads: bool, fill: float) -> Any:
    """Images cut or padded around their middle to the aspect of a size."""
    height, width = x.shape[1:3]
    if height is None or width is None:
        raise ValueError("Keeping the aspect ratio needs images whose size is known.")
    wanted = int(width * size[0] / size[1]), int(height * size[1] / size[0])
    if pads:
        # As much on either side, and along one axis alone.
        above, left = (max(int((w - n) / 2), 0) for w, n in zip(wanted, (height, width)))
        left = 0 if above else left
        return k.pad(x, ((0, 0), (above, above), (left, left), (0, 0)), constant_values=fill)
    rows, columns = (max(min(n, w), 1) for n, w in zip((height, width), wanted))
    top, left = int((height - rows) / 2), int((width - columns) / 2)
    return x[:, top : top + rows, left : left + columns]


@op("same", tensors=1)
def scale_and_translate(
    images: Any,
    output_shape: Sequence[int],
    scale: Any,
    translation: Any,
    spatial_dims: Sequence[int],
    method: str,
    antialias: bool = True,
) -> Any:
    """Tensors enlarged and moved along some of their axes; what comes from beyond is 0.

    Args:
        images: a tensor of any rank.
        output_shape: the shape of the result.
        scale: how much larger it becomes along each of `spatial_dims`.
        translation: how far it is moved, in pixels of the result.
        spatial_dims: the axes.
        method: "linear" ("bilinear", "trilinear", "triangle"), "cubic" ("bicubic", "tricubic"),
            "lanczos3" or "lanczos5".
        antialias: whether the kernel is widened where the images shrink.

    >>> x = np.float32([[1.0], [2.0]])
    >>> moved = scale_and_translate(x, (2, 1), [1.0], [1.0], (0,), "linear")
    >>> np.asarray(moved)[:, 0].tolist()
    [0.0, 1.0]
    """
    _one_of("method", method, KERNELS)
    if len(output_shape) != len(images.shape):
        raise ValueError(
            f"output_shape {tuple(output_shape)} has another rank than images of "
            f"{tuple(images.shape)}."
        )
    x, back = _floats(images)
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


# ---- warps ----


@op("same", tensors=2)
def map_coordinates(
    inputs: Any, coordinates: Any, order: int, fill_mode: str = "constant", fill_value: float = 0
) -> Any:
    """The values of a tensor at any coordinates.

    Args:
        inputs: a tensor.
        coordinates: (rank of the inputs, *shape of the result), in elements from the first one.
        order: 0 takes the nearest element, 1 interpolates linearly.
        fill_mode: what stands beyond the ends: "constant", "nearest" (the last element), "wrap",
            "mirror" (about the centre of the last element) or "reflect" (about its edge).
        fill_value: the constant.

    >>> np.asarray(map_coordinates(np.float32([0.0, 10.0]), np.float32([[0.25, 0.5]]), 1)).tolist()
    [2.5, 5.0]
    """
    if order not in (0, 1):
        raise ValueError(f"order must be 0 or 1, got {order!r}.")
    _one_of("fill_mode", fill_mode, FIXERS)
    if len(coordinates.shape) < 2 or coordinates.shape[0] != len(inputs.shape):
        raise ValueError(
            f"coordinates of shape {tuple(coordinates.shape)} must be (rank of the inputs, ...) "
            f"with a rank of at least 2; the inputs have {len(inputs.shape)} axes."
        )
    x, back = _floats(inputs)
    sizes = shape(x)
    flat = k.reshape(x, (-1,))
    at = cast(coordinates, "float32")

    def gather(indices: list) -> Any:
        place = indices[0]
        for index, size in zip(indices[1:], sizes[1:], strict=True):
            place = place * size + index
        return k.take(flat, place)

    where = [at[i] for i in range(len(sizes))]
    return back(sample(gather, where, sizes, order, fill_mode, fill_value))


def _warped(
    x: Any, rows: Any, columns: Any, interpolation: str, fill_mode: str, fill_value: Any
) -> Any:
    """A batch sampled at (batch, height, width) rows and columns of its own."""
    batch, height, width, channels = shape(x)
    flat = k.reshape(x, (batch, -1, channels))
    out = shape(rows)
    at = [k.reshape(v, (out[0], -1, 1)) for v in (rows, columns)]

    def gather(indices: list) -> Any:
        return k.take_along_axis(flat, indices[0] * width + indices[1], axis=1)

    found = sample(gather, at, (height, width), _ORDERS[interpolation], fill_mode, fill_value)
    return k.reshape(found, (batch, *out[1:], channels))


def _projected(x: Any, matrix: Any, interpolation: str, fill_mode: str, fill_value: Any) -> Any:
    """A batch sampled where (batch, 8) projective transforms take the pixels of the result."""
    height, width = shape(x)[1:3]
    column = cast(_positions(x, width), "float32")
    row = k.expand_dims(cast(_positions(x, height), "float32"), 1)
    a0, a1, a2, b0, b1, b2, c0, c1 = (k.reshape(matrix[:, i], (-1, 1, 1)) for i in range(8))
    below = c0 * column + c1 * row + 1.0
    columns = (a0 * column + a1 * row + a2) / below
    rows = (b0 * column + b1 * row + b2) / below
    return _warped(x, rows, columns, interpolation, fill_mode, fill_value)


@op("same", tensors=2)
def affine_transform(
    images: Any,
    transform: Any,
    interpolation: str = "bilinear",
    fill_mode: str = "constant",
    fill_value: float = 0,
    data_format: str | None = None,
) -> Any:
    """Images sampled where a transform takes the pixels of the result.

    Args:
        images: (height, width, channels), or a batch of them.
        transform: (8,) or (batch, 8): [a0, a1, a2, b0, b1, b2, c0, c1] takes the pixel (x, y) of
            the result to ((a0 x + a1 y + a2) / n, (b0 x + b1 y + b2) / n) of the images, where n
            is c0 x + c1 y + 1.
        interpolation: "nearest" or "bilinear".
        fill_mode: what stands beyond the ends, as for `map_coordinates`.
        fill_value: the constant.
        data_format: "channels_last" or "channels_first"; the configured one by default.

    >>> x = np.float32([[[1.0], [2.0], [3.0]]])
    >>> shift = np.float32([1, 0, 1, 0, 1, 0, 0, 0])
    >>> np.asarray(affine_transform(x, shift))[0, :, 0].tolist()
    [2.0, 3.0, 0.0]
    """
    _one_of("interpolation", interpolation, _ORDERS)
    _one_of("fill_mode", fill_mode, FIXERS)
    if len(transform.shape) not in (1, 2) or transform.shape[-1] != 8:
        raise ValueError(
            f"transform must be (8,) or (batch, 8), got a shape of {tuple(transform.shape)}."
        )
    x, undo = _batch(images, data_format)
    x, back = _floats(x)
    matrix = cast(transform, "float32")
    matrix = k.expand_dims(matrix, 0) if len(transform.shape) == 1 else matrix
    return undo(back(_projected(x, matrix, interpolation, fill_mode, fill_value)))


@op("same", tensors=3)
def perspective_transform(
    images: Any,
    start_points: Any,
    end_points: Any,
    interpolation: str = "bilinear",
    fill_value: float = 0,
    data_format: str | None = None,
) -> Any:
    """Images warped so that four points come to stand at four others.

    Args:
        images: (height, width, channels), or a batch of them.
        start_points: (4, 2), or (batch, 4, 2): the points (x, y) in the images.
        end_points: where they stand in the result, of the same shape.
        interpolation: "nearest" or "bilinear".
        fill_value: what stands beyond the ends of the images.
        data_format: "channels_last" or "channels_first"; the configured one by default.

    >>> x = np.ones((4, 4, 1), "float32")
    >>> corners = np.float32([[0, 0], [3, 0], [0, 3], [3, 3]])
    >>> float(np.asarray(perspective_transform(x, corners, corners)).sum())
    16.0
    """
    _one_of("interpolation", interpolation, _ORDERS)
    for name, points in (("start_points", start_points), ("end_points", end_points)):
        if len(points.shape) not in (2, 3) or tuple(points.shape[-2:]) != (4, 2):
            raise ValueError(
                f"{name} must be (4, 2) or (batch, 4, 2), got a shape of {tuple(points.shape)}."
            )
    if len(start_points.shape) != len(end_points.shape):
        raise ValueError("start_points and end_points must have the same shape.")
    x, undo = _batch(images, data_format)
    x, back = _floats(x)
    start, end = (k.reshape(cast(p, "float32"), (-1, 4, 2)) for p in (start_points, end_points))
    matrix = _homography(end, start)
    return undo(back(_projected(x, matrix, interpolation, "constant", fill_value)))


def _homography(source: Any, target: Any) -> Any:
    """The (batch, 8) projective transforms that take four points to four others."""
    x, y = source[..., 0], source[..., 1]
    zero, one = k.zeros_like(x), k.ones_like(x)
    lines, sides = [], []
    for i in range(2):
        to = target[..., i]
        ahead = [x, y, one, zero, zero, zero] if i == 0 else [zero, zero, zero, x, y, one]
        lines.append(k.stack([*ahead, -to * x, -to * y], axis=-1))
        sides.append(to)
    system, side = k.concatenate(lines, axis=1), k.concatenate(sides, axis=1)
    return linalg.solve(system, k.expand_dims(side, -1))[..., 0]


@op("same")
def elastic_transform(
    images: Any,
    alpha: float = 20.0,
    sigma: float = 5.0,
    interpolation: str = "bilinear",
    fill_mode: str = "reflect",
    fill_value: float = 0.0,
    seed: Any = None,
    data_format: str | None = None,
) -> Any:
    """Images pulled about by smooth random displacements (Simard et al., 2003).

    The displacements are the same on every backend, and independent for rows and columns.

    Args:
        images: (height, width, channels), or a batch of them.
        alpha: how strong they are.
        sigma: how smooth they are: the width of the Gaussian that blurs them, in pixels.
        interpolation: "nearest" or "bilinear".
        fill_mode: what stands beyond the ends, as for `map_coordinates`.
        fill_value: the constant.
        seed: an int, a SeedGenerator or a seed tensor; None draws one.
        data_format: "channels_last" or "channels_first"; the configured one by default.

    >>> elastic_transform(np.ones((8, 8, 1), "float32"), seed=1).shape
    (8, 8, 1)
    """
    _one_of("interpolation", interpolation, _ORDERS)
    _one_of("fill_mode", fill_mode, FIXERS)
    x, undo = _batch(images, data_format)
    x, back = _floats(x)
    batch, height, width, _ = shape(x)
    module = backends.load(backends.of(x) or backends.backend())
    # An even number: both halves of the normal numbers' pairs are used.
    bits = module.random_bits(seed_pair(seed), 2 * batch * height * width, 24)
    noise = box_muller(cast(bits, "float32"))
    noise = k.moveaxis(k.reshape(noise, (2, batch, height, width)), 0, -1) * float(sigma)
    length = int(6 * sigma) | 1
    moved = _blurred(noise, (length, length), (sigma, sigma)) * float(alpha)
    rows = k.expand_dims(cast(_positions(x, height), "float32"), 1) + moved[..., 1]
    columns = cast(_positions(x, width), "float32") + moved[..., 0]
    return undo(back(_warped(x, rows, columns, interpolation, fill_mode, fill_value)))


# ---- crops, pads, patches ----


def _margins(kind: str, size: Any, before: Any, after: Any, target: Any, sign: int) -> tuple:
    """(before, after) of an axis from two of three, for a crop (sign -1) or a pad (1)."""
    sides = ("top", "bottom") if kind == "height" else ("left", "right")
    names = (*sides, f"target_{kind}")
    given = [v is not None for v in (before, after, target)]
    if sum(given) != 2:
        raise ValueError(f"Give exactly two of {', '.join(names)}; got {sum(given)} of them.")
    if target is not None:
        if size is None:
            raise ValueError(f"{names[2]} needs images whose {kind} is known.")
        rest = sign * (target - size)
        before = rest - after if before is None else before
        after = rest - before if after is None else after
    for name, value in zip(names, (before, after)):
        if isinstance(value, int) and value < 0:
            raise ValueError(f"{name} would be {value}: the images have a {kind} of {size}.")
    left = size if size is None or sign > 0 else size - before - after
    if isinstance(left, int) and left < 0:
        raise ValueError(f"Cropping {before} and {after} leaves nothing of a {kind} of {size}.")
    return before, after


@op("same")
def crop_images(
    images: Any,
    top_cropping: int | None = None,
    left_cropping: int | None = None,
    bottom_cropping: int | None = None,
    right_cropping: int | None = None,
    target_height: int | None = None,
    target_width: int | None = None,
    data_format: str | None = None,
) -> Any:
    """Images without their margins: two of top, bottom and height say which, and likewise across.

    Args:
        images: (height, width, channels), or a batch of them.
        top_cropping: how many rows are cut above.
        left_cropping: how many columns are cut on the left.
        bottom_cropping: how many rows are cut below.
        right_cropping: how many columns are cut on the right.
        target_height: how many rows stay.
        target_width: how many columns stay.
        data_format: "channels_last" or "channels_first"; the configured one by default.

    >>> crop_images(np.ones((4, 5, 1)), 1, 1, target_height=2, target_width=3).shape
    (2, 3, 1)
    """
    x, undo = _batch(images, data_format)
    height, width = x.shape[1:3]
    top, bottom = _margins("height", height, top_cropping, bottom_cropping, target_height, -1)
    left, right = _margins("width", width, left_cropping, right_cropping, target_width, -1)
    return undo(x[:, top : -bottom or None, left : -right or None])


@op("same")
def pad_images(
    images: Any,
    top_padding: int | None = None,
    left_padding: int | None = None,
    bottom_padding: int | None = None,
    right_padding: int | None = None,
    target_height: int | None = None,
    target_width: int | None = None,
    data_format: str | None = None,
) -> Any:
    """Images with margins of zeros: two of top, bottom and height say which, and likewise across.

    Args:
        images: (height, width, channels), or a batch of them.
        top_padding: how many rows are added above.
        left_padding: how many columns are added on the left.
        bottom_padding: how many rows are added below.
        right_padding: how many columns are added on the right.
        target_height: how many rows there are then.
        target_width: how many columns there are then.
        data_format: "channels_last" or "channels_first"; the configured one by default.

    >>> pad_images(np.ones((4, 5, 1)), 1, 0, target_height=6, target_width=7).shape
    (6, 7, 1)
    """
    x, undo = _batch(images, data_format)
    height, width = x.shape[1:3]
    rows = _margins("height", height, top_padding, bottom_padding, target_height, 1)
    columns = _margins("width", width, left_padding, right_padding, target_width, 1)
    return undo(k.pad(x, ((0, 0), rows, columns, (0, 0))))


@op("same")
def extract_patches(
    images: Any,
    size: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
    dilation_rate: int | Sequence[int] = 1,
    padding: str = "valid",
    data_format: str | None = None,
) -> Any:
    """Patches of images, the pixels of each in a row as channels.

    Args:
        images: (height, width, channels), or a batch of them; with a `size` of three, volumes.
        size: (height, width) of a patch, or one number for both.
        strides: the steps from patch to patch; `size` by default.
        dilation_rate: the steps inside a patch.
        padding: "valid", or "same", which pads with zeros.
        data_format: "channels_last" or "channels_first"; the configured one by default.

    >>> extract_patches(np.ones((2, 9, 9, 3)), 3).shape
    (2, 3, 3, 27)
    """
    rank = 3 if not isinstance(size, int) and len(size) == 3 else 2
    return _patches(images, size, strides, dilation_rate, padding, data_format, rank)


@op("same")
def extract_patches_3d(
    volumes: Any,
    size: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
    dilation_rate: int | Sequence[int] = 1,
    padding: str = "valid",
    data_format: str | None = None,
) -> Any:
    """Patches of volumes, the voxels of each in a row as channels.

    Args:
        volumes: (depth, height, width, channels), or a batch of them.
        size: (depth, height, width) of a patch, or one number for all.
        strides: the steps from patch to patch; `size` by default.
        dilation_rate: the steps inside a patch.
        padding: "valid", or "same", which pads with zeros.
        data_format: "channels_last" or "channels_first"; the configured one by default.

    >>> extract_patches_3d(np.ones((2, 4, 4, 4, 3)), 2).shape
    (2, 2, 2, 2, 24)
    """
    return _patches(volumes, size, strides, dilation_rate, padding, data_format, 3)


def _patches(
    images: Any, size: Any, strides: Any, dilation: Any, padding: str, data_format: Any, rank: int
) -> Any:
    _one_of("padding", padding, ("valid", "same"))
    size = _sizes(size, rank, "size")
    strides = size if strides is None else _sizes(strides, rank, "strides")
    dilation = _sizes(dilation, rank, "dilation_rate")
    x, undo = _batch(images, data_format, rank + 2)
    if padding == "same":
        pairs = padding_pairs("same", shape(x)[1:-1], size, strides, dilation)
        x = k.pad(x, ((0, 0), *pairs, (0, 0)))
    batch, *spatial, channels = shape(x)
    counts = []
    for axis, (n, window, stride, step) in enumerate(zip(spatial, size, strides, dilation), 1):
        if isinstance(n, int) and n < (window - 1) * step + 1:
            raise ValueError(f"Patches of {size} do not fit into images of {tuple(images.shape)}.")
        count = (n - (window - 1) * step - 1) // stride + 1
        starts = k.expand_dims(_positions(x, count), 1) * stride
        places = k.reshape(k.add(starts, np.arange(window, dtype="int32") * step), (-1,))
        x = k.take(x, places, axis=axis)
        counts.append(count)
    split = [v for pair in zip(counts, size, strict=True) for v in pair]
    x = k.reshape(x, (batch, *split, channels))
    order = [0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2), 2 * rank + 1]
    x = k.transpose(x, order)
    return undo(k.reshape(x, (batch, *counts, math.prod(size) * channels)))


# ---- colours ----


def _channels(images: Any, name: str, data_format: str | None) -> tuple[Any, int]:
    """Images in floats, and the axis of their three channels."""
    if len(images.shape) not in (3, 4):
        raise ValueError(
            f"images have 3 dimensions, or 4 in a batch; got a shape of {tuple(images.shape)}."
        )
    axis = -3 if _is_first(data_format) else -1
    if images.shape[axis] not in (3, None):
        raise ValueError(f"{name} needs 3 channels on axis {axis}, got {tuple(images.shape)}.")
    return images, axis


@op("same")
def rgb_to_grayscale(images: Any, data_format: str | None = None) -> Any:
    """The brightness of images, 0.2989 red + 0.587 green + 0.114 blue, as their one channel.

    Args:
        images: (height, width, 3), or a batch of them.
        data_format: "channels_last" or "channels_first"; the configured one by default.

    >>> rgb_to_grayscale(np.ones((4, 5, 3))).shape
    (4, 5, 1)
    """
    images, axis = _channels(images, "rgb_to_grayscale", data_format)
    name = dtype(images)
    x = images if dtypes.is_float(name) else cast(images, "float32")
    shares = np.reshape(np.float32([0.2989, 0.5870, 0.1140]), (3,) + (1,) * (-axis - 1))
    return cast(k.sum(x * cast(shares, x.dtype), axis=axis, keepdims=True), name)


@op("float")
def rgb_to_hsv(images: Any, data_format: str | None = None) -> Any:
    """Hue, saturation and value of images, each from [0, 1].

    Args:
        images: (height, width, 3) of red, green and blue from [0, 1], or a batch of them.
        data_format: "channels_last" or "channels_first"; the configured one by default.

    >>> np.asarray(rgb_to_hsv(np.float32([[[0.0, 1.0, 0.0]]])))[0, 0, 1:].tolist()
    [1.0, 1.0]
    """
    images, axis = _channels(images, "rgb_to_hsv", data_format)
    red, green, blue = (k.take(images, i, axis=axis) for i in range(3))
    value = k.maximum(k.maximum(red, green), blue)
    spread = value - k.minimum(k.minimum(red, green), blue)
    grey = spread == 0
    safe = k.where(grey, k.ones_like(spread), spread)
    saturation = k.where(value > 0, spread / k.where(value > 0, value, k.ones_like(value)), 0.0)
    hue = k.where(
        red == value,
        (green - blue) / safe,
        k.where(green == value, (blue - red) / safe + 2.0, (red - green) / safe + 4.0),
    )
    hue = k.where(grey, 0.0, hue / 6.0)
    return k.stack([k.where(hue < 0, hue + 1.0, hue), saturation, value], axis=axis)


@op("float")
def hsv_to_rgb(images: Any, data_format: str | None = None) -> Any:
    """Red, green and blue of images, each from [0, 1]: what `rgb_to_hsv` undoes.

    Args:
        images: (height, width, 3) of hue, saturation and value from [0, 1], or a batch of them.
        data_format: "channels_last" or "channels_first"; the configured one by default.

    >>> np.asarray(hsv_to_rgb(np.float32([[[0.0, 1.0, 0.5]]])))[0, 0].tolist()
    [0.5, 0.0, 0.0]
    """
    images, axis = _channels(images, "hsv_to_rgb", data_format)
    hue, saturation, value = (k.take(images, i, axis=axis) for i in range(3))
    hue = k.mod(hue, 1.0) * 6.0
    shades = (
        k.clip(k.abs(hue - 3.0) - 1.0, 0.0, 1.0),
        k.clip(2.0 - k.abs(hue - 2.0), 0.0, 1.0),
        k.clip(2.0 - k.abs(hue - 4.0), 0.0, 1.0),
    )
    return k.stack([value * (1.0 - saturation + shade * saturation) for shade in shades], axis=axis)


# ---- filters ----


def _gaussian(like: Any, length: int, sigma: Any) -> Any:
    """The weights of a Gaussian filter, which sum to 1."""
    steps = (np.arange(length) - (length - 1) / 2).astype("float32")
    if isinstance(sigma, int | float | np.number):
        found = np.exp(-0.5 * (steps.astype("float64") / float(sigma)) ** 2)
        return (found / found.sum()).astype("float32")
    found = k.exp(-0.5 * k.square(steps / cast(sigma, "float32")))
    return found / k.sum(found)


def _blurred(x: Any, lengths: Sequence[int], sigmas: Any, padding: str = "same") -> Any:
    """A batch filtered across (first length and sigma) and down (the second)."""
    channels = x.shape[-1]
    for axis in (1, 0):
        line = _gaussian(x, lengths[1 - axis], sigmas[1 - axis])
        sizes = (1, -1, 1, 1) if axis else (-1, 1, 1, 1)
        kernel = k.broadcast_to(
            k.reshape(convert_to_tensor(line), sizes),
            (*((1, lengths[0]) if axis else (lengths[1], 1)), channels, 1),
        )
        x = depthwise_conv(x, cast(kernel, x.dtype), 1, padding, "channels_last")
    return x


@op("same")
def gaussian_blur(
    images: Any,
    kernel_size: Sequence[int] = (3, 3),
    sigma: Sequence[float] = (1.0, 1.0),
    data_format: str | None = None,
) -> Any:
    """Images blurred by a Gaussian filter; beyond their ends stand zeros.

    Args:
        images: (height, width, channels), or a batch of them.
        kernel_size: the sizes of the filter across and down.
        sigma: its widths across and down, in pixels.
        data_format: "channels_last" or "channels_first"; the configured one by default.

    >>> gaussian_blur(np.ones((4, 5, 1), "float32")).shape
    (4, 5, 1)
    """
    kernel_size = _sizes(kernel_size, 2, "kernel_size")
    sigma = (sigma, sigma) if isinstance(sigma, int | float) else sigma
    x, undo = _batch(images, data_format)
    x, back = _floats(x)
    return undo(back(_blurred(x, kernel_size, sigma)))


@op("same")
def sobel_edges(images: Any, data_format: str | None = None) -> Any:
    """How steeply images change down and across, by Sobel's filters, on a new last axis.

    Args:
        images: (batch, height, width, channels).
        data_format: "channels_last" or "channels_first"; the configured one by default.

    Returns:
        The shape of the images and (down, across) behind; beyond their ends stand zeros.

    >>> sobel_edges(np.ones((1, 4, 5, 2), "float32")).shape
    (1, 4, 5, 2, 2)
    """
    if len(images.shape) != 4:
        raise ValueError(f"sobel_edges takes batches of images, got {tuple(images.shape)}.")
    x, undo = _batch(images, data_format)
    x, back = _floats(x)
    down = np.float32([[-1, -2, -1], [0, 0, 0], [1, 2, 1]])
    channels = x.shape[-1]
    kernel = np.broadcast_to(np.stack([down, down.T], -1)[:, :, None], (3, 3, channels, 2))
    kernel = cast(convert_to_tensor(np.ascontiguousarray(kernel)), x.dtype)
    edges = depthwise_conv(x, kernel, 1, "same", "channels_last")
    edges = k.reshape(edges, (*shape(x), 2))
    return k.stack([undo(back(edges[..., i])) for i in range(2)], axis=-1)


@op("promote", tensors=2)
def ssim(
    image1: Any,
    image2: Any,
    max_val: float = 1.0,
    filter_size: int = 11,
    filter_sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
    data_format: str | None = None,
) -> Any:
    """The structural similarity of images, from -1 to 1 for equal ones (Wang et al., 2004).

    Args:
        image1: (height, width, channels), or a batch of them.
        image2: the images they are compared with, of the same shape.
        max_val: the largest value that a pixel can have.
        filter_size: the size of the Gaussian window.
        filter_sigma: its width, in pixels.
        k1: steadies the comparison of brightness.
        k2: steadies that of contrast.
        data_format: "channels_last" or "channels_first"; the configured one by default.

    Returns:
        One number an image.

    >>> x = np.linspace(0, 1, 768, dtype="float32").reshape(16, 16, 3)
    >>> print(f"{float(ssim(x, x)):.3f}")
    1.000
    """
    name = dtype(image1)
    (x, undo), (y, _) = (_batch(_floats(image)[0], data_format) for image in (image1, image2))
    del undo

    def mean(x: Any) -> Any:
        sizes, sigmas = (filter_size, filter_size), (filter_sigma, filter_sigma)
        return _blurred(x, sizes, sigmas, "valid")

    c1, c2 = (k1 * max_val) ** 2, (k2 * max_val) ** 2
    mean_x, mean_y = mean(x), mean(y)
    both, squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    together = mean(x * y) - both
    apart = mean(x * x + y * y) - squares
    found = (2.0 * both + c1) * (2.0 * together + c2) / ((squares + c1) * (apart + c2))
    out = k.mean(found, axis=(1, 2, 3))
    out = k.squeeze(out, 0) if len(image1.shape) == 3 else out
    return cast(out, name)


__all__ = [
    "affine_transform", "crop_images", "elastic_transform", "extract_patches",
    "extract_patches_3d", "gaussian_blur", "hsv_to_rgb", "map_coordinates", "pad_images",
    "perspective_transform", "resize", "rgb_to_grayscale", "rgb_to_hsv", "scale_and_translate",
    "sobel_edges", "ssim",
]  # fmt: skip
