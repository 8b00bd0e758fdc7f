"""Images sampled at computed coordinates: affine, perspective and elastic transforms."""

from collections.abc import Callable
from typing import Any

from keraslite import backend as backends
from keraslite.ops import linalg
from keraslite.ops import numpy as k
from keraslite.ops.common import positions
from keraslite.ops.core import cast, shape
from keraslite.ops.image.filters import blur
from keraslite.ops.image.formats import as_batch, as_floats, check_choice
from keraslite.ops.image.resampling import FIXERS, sample
from keraslite.ops.noise import box_muller, seed_pair
from keraslite.ops.op import op
from keraslite.typing import Tensor

_ORDERS = {"nearest": 0, "bilinear": 1}


@op("same", tensors=2)
def map_coordinates(
    inputs: Tensor,
    coordinates: Tensor,
    order: int,
    fill_mode: str = "constant",
    fill_value: float = 0,
) -> Tensor:
    """Interpolate a tensor at coordinates.

    Args:
        inputs: a tensor.
        coordinates: (rank of the inputs, *shape of the result), in elements from the first one.
        order: 0 takes the nearest element, 1 interpolates linearly.
        fill_mode: the value beyond the ends: "constant", "nearest" (the last element), "wrap",
            "mirror" (about the centre of the last element) or "reflect" (about its edge).
        fill_value: the constant.

    >>> np.asarray(map_coordinates(np.float32([0.0, 10.0]), np.float32([[0.25, 0.5]]), 1)).tolist()
    [2.5, 5.0]
    """
    if order not in (0, 1):
        raise ValueError(f"order must be 0 or 1, got {order!r}.")
    check_choice("fill_mode", fill_mode, FIXERS)
    if len(coordinates.shape) < 2 or coordinates.shape[0] != len(inputs.shape):
        raise ValueError(
            f"coordinates of shape {tuple(coordinates.shape)} must be (rank of the inputs, ...) "
            f"with a rank of at least 2; the inputs have {len(inputs.shape)} axes."
        )
    x, back = as_floats(inputs)
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


def warp(
    x: Any, rows: Any, columns: Any, interpolation: str, fill_mode: str, fill_value: Any
) -> Any:
    """Sample a channels-last batch of floats at points.

    Args:
        x: (batch, height, width, channels).
        rows: (batch, height, width) of the result; where the points are, from the top.
        columns: likewise, from the left.
        interpolation: "nearest" or "bilinear".
        fill_mode: the value beyond the ends, as for `map_coordinates`.
        fill_value: the constant.
    """
    run = _warp_linear if interpolation == "bilinear" else _gathered
    return run(x, rows, columns, fill_mode, fill_value)


@op("same", tensors=3)
def _warp_linear(x: Any, rows: Any, columns: Any, fill_mode: str, fill_value: Any) -> Any:
    """Interpolate a batch at points; frameworks with a kernel for it answer."""
    return _gathered(x, rows, columns, fill_mode, fill_value, order=1)


def _gathered(
    x: Any, rows: Any, columns: Any, fill_mode: str, fill_value: Any, order: int = 0
) -> Any:
    """Take the pixels nearest to points, and interpolate between them if the order is 1."""
    batch, height, width, channels = shape(x)
    flat = k.reshape(x, (-1, channels))
    out = shape(rows)
    at = [k.reshape(v, (out[0], -1, 1)) for v in (rows, columns)]
    # Whole pixels are taken, by one index each: of an image, or of a place in the batch.
    first = k.reshape(positions(x, batch), (-1, 1, 1)) * (height * width)

    def gather(indices: list) -> Any:
        return k.take(flat, (first + indices[0] * width + indices[1])[..., 0], axis=0)

    values = sample(gather, at, (height, width), order, fill_mode, fill_value)
    return k.reshape(values, (batch, *out[1:], channels))


def _projected(x: Any, matrix: Any, interpolation: str, fill_mode: str, fill_value: Any) -> Any:
    """Sample a batch by (batch, 8) projective transforms from the result to the images."""

    def by_points(x: Any, matrix: Any) -> Any:
        return warp(x, *_points(x, matrix), interpolation, fill_mode, fill_value)

    if interpolation == "nearest":  # kernels differ in the pixel that they take at a tie
        return by_points(x, matrix)
    return _project_linear(x, matrix, fill_mode, fill_value, by_points)


@op("same", tensors=2)
def _project_linear(
    x: Any, matrix: Any, fill_mode: str, fill_value: Any, by_points: Callable
) -> Any:
    """Interpolate a batch by projective transforms; frameworks with a kernel for it answer.

    Args:
        x: (batch, height, width, channels) of floats.
        matrix: (batch or 1, 8) of float32.
        fill_mode: the value beyond the ends, as for `map_coordinates`.
        fill_value: the constant.
        by_points: the same as a function of `x` and `matrix`, for what a kernel cannot do.
    """
    return by_points(x, matrix)


def _points(x: Any, matrix: Any) -> tuple[Any, Any]:
    """Return the rows and columns of images where the pixels of the result come from."""
    height, width = shape(x)[1:3]
    column = cast(positions(x, width), "float32")
    row = k.expand_dims(cast(positions(x, height), "float32"), 1)
    a0, a1, a2, b0, b1, b2, c0, c1 = (k.reshape(matrix[:, i], (-1, 1, 1)) for i in range(8))
    below = c0 * column + c1 * row + 1.0
    columns = (a0 * column + a1 * row + a2) / below
    rows = (b0 * column + b1 * row + b2) / below
    return rows, columns


@op("same", tensors=2)
def affine_transform(
    images: Tensor,
    transform: Tensor,
    interpolation: str = "bilinear",
    fill_mode: str = "constant",
    fill_value: float = 0,
    data_format: str | None = None,
) -> Tensor:
    """Apply a projective transform, which maps pixels of the result to points of the images.

    Args:
        images: (height, width, channels), or a batch of them.
        transform: (8,) or (batch, 8): [a0, a1, a2, b0, b1, b2, c0, c1] takes the pixel (x, y) of
            the result to ((a0 x + a1 y + a2) / n, (b0 x + b1 y + b2) / n) of the images, where n
            is c0 x + c1 y + 1.
        interpolation: "nearest" or "bilinear".
        fill_mode: the value beyond the ends, as for `map_coordinates`.
        fill_value: the constant.
        data_format: "channels_last" or "channels_first"; the configured one by default.

    >>> x = np.float32([[[1.0], [2.0], [3.0]]])
    >>> shift = np.float32([1, 0, 1, 0, 1, 0, 0, 0])
    >>> np.asarray(affine_transform(x, shift))[0, :, 0].tolist()
    [2.0, 3.0, 0.0]
    """
    check_choice("interpolation", interpolation, _ORDERS)
    check_choice("fill_mode", fill_mode, FIXERS)
    if len(transform.shape) not in (1, 2) or transform.shape[-1] != 8:
        raise ValueError(
            f"transform must be (8,) or (batch, 8), got a shape of {tuple(transform.shape)}."
        )
    x, undo = as_batch(images, data_format)
    x, back = as_floats(x)
    matrix = cast(transform, "float32")
    matrix = k.expand_dims(matrix, 0) if len(transform.shape) == 1 else matrix
    return undo(back(_projected(x, matrix, interpolation, fill_mode, fill_value)))


@op("same", tensors=3)
def perspective_transform(
    images: Tensor,
    start_points: Tensor,
    end_points: Tensor,
    interpolation: str = "bilinear",
    fill_value: float = 0,
    data_format: str | None = None,
) -> Tensor:
    """Warp images so that four points move to four others.

    Args:
        images: (height, width, channels), or a batch of them.
        start_points: (4, 2), or (batch, 4, 2): the points (x, y) in the images.
        end_points: the same points in the result, of the same shape.
        interpolation: "nearest" or "bilinear".
        fill_value: the value beyond the ends of the images.
        data_format: "channels_last" or "channels_first"; the configured one by default.

    >>> x = np.ones((4, 4, 1), "float32")
    >>> corners = np.float32([[0, 0], [3, 0], [0, 3], [3, 3]])
    >>> float(np.asarray(perspective_transform(x, corners, corners)).sum())
    16.0
    """
    check_choice("interpolation", interpolation, _ORDERS)
    for name, points in (("start_points", start_points), ("end_points", end_points)):
        if len(points.shape) not in (2, 3) or tuple(points.shape[-2:]) != (4, 2):
            raise ValueError(
                f"{name} must be (4, 2) or (batch, 4, 2), got a shape of {tuple(points.shape)}."
            )
    if len(start_points.shape) != len(end_points.shape):
        raise ValueError("start_points and end_points must have the same shape.")
    x, undo = as_batch(images, data_format)
    x, back = as_floats(x)
    start, end = (k.reshape(cast(p, "float32"), (-1, 4, 2)) for p in (start_points, end_points))
    matrix = homography(end, start)
    return undo(back(_projected(x, matrix, interpolation, "constant", fill_value)))


def homography(source: Any, target: Any) -> Any:
    """Return the projective transforms (batch, 8) that map four points to four others.

    Args:
        source: (batch, 4, 2), the points (x, y).
        target: the same, where they go.
    """
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
    images: Tensor,
    alpha: float = 20.0,
    sigma: float = 5.0,
    interpolation: str = "bilinear",
    fill_mode: str = "reflect",
    fill_value: float = 0.0,
    seed: Any = None,
    data_format: str | None = None,
) -> Tensor:
    """Distort images by smooth random displacements (Simard et al., 2003).

    The displacements are the same on every backend, and independent for rows and columns.

    Args:
        images: (height, width, channels), or a batch of them.
        alpha: the strength of the displacements, in pixels.
        sigma: the width of the Gaussian that smooths them, in pixels.
        interpolation: "nearest" or "bilinear".
        fill_mode: the value beyond the ends, as for `map_coordinates`.
        fill_value: the constant.
        seed: an int, a SeedGenerator or a seed tensor; None draws one.
        data_format: "channels_last" or "channels_first"; the configured one by default.

    >>> elastic_transform(np.ones((8, 8, 1), "float32"), seed=1).shape
    (8, 8, 1)
    """
    check_choice("interpolation", interpolation, _ORDERS)
    check_choice("fill_mode", fill_mode, FIXERS)
    x, undo = as_batch(images, data_format)
    x, back = as_floats(x)
    batch, height, width, _ = shape(x)
    module = backends.module_of(x)
    # An even number: both halves of the normal numbers' pairs are used.
    bits = module.random_bits(seed_pair(seed), 2 * batch * height * width, 24)
    noise = box_muller(cast(bits, "float32"))
    noise = k.moveaxis(k.reshape(noise, (2, batch, height, width)), 0, -1) * float(sigma)
    length = int(6 * sigma) | 1
    moved = blur(noise, (length, length), (sigma, sigma)) * float(alpha)
    rows = k.expand_dims(cast(positions(x, height), "float32"), 1) + moved[..., 1]
    columns = cast(positions(x, width), "float32") + moved[..., 0]
    return undo(back(warp(x, rows, columns, interpolation, fill_mode, fill_value)))


__all__ = ["affine_transform", "elastic_transform", "map_coordinates", "perspective_transform"]
