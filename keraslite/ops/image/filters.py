"""Filters over images: Gaussian blur, Sobel's edges, structural similarity."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keraslite.ops import numpy as k
from keraslite.ops.convolution import depthwise_conv
from keraslite.ops.core import cast, convert_to_tensor, dtype, shape
from keraslite.ops.image.formats import as_batch, as_floats
from keraslite.ops.layout import as_tuple
from keraslite.ops.op import op
from keraslite.typing import Tensor


def _gaussian(like: Any, length: int, sigma: Any) -> Any:
    """Return the weights of a Gaussian filter; they sum to 1."""
    steps = (np.arange(length) - (length - 1) / 2).astype("float32")
    if isinstance(sigma, int | float | np.number):
        window = np.exp(-0.5 * (steps.astype("float64") / float(sigma)) ** 2)
        return (window / window.sum()).astype("float32")
    window = k.exp(-0.5 * k.square(steps / cast(sigma, "float32")))
    return window / k.sum(window)


def blur(x: Tensor, lengths: Sequence[int], sigmas: Any, padding: str = "same") -> Any:
    """Blur a channels-last batch by a Gaussian filter.

    Args:
        x: (batch, height, width, channels) of floats.
        lengths: the sizes of the filter across and down.
        sigmas: its widths across and down, in pixels.
        padding: "same" or "valid".
    """
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
    images: Tensor,
    kernel_size: Sequence[int] = (3, 3),
    sigma: Sequence[float] = (1.0, 1.0),
    data_format: str | None = None,
) -> Tensor:
    """Blur images by a Gaussian filter; they are padded with zeros.

    Args:
        images: (height, width, channels), or a batch of them.
        kernel_size: the sizes of the filter across and down.
        sigma: its widths across and down, in pixels.
        data_format: "channels_last" or "channels_first"; the configured one by default.

    >>> gaussian_blur(np.ones((4, 5, 1), "float32")).shape
    (4, 5, 1)
    """
    kernel_size = as_tuple(kernel_size, 2, "kernel_size")
    sigma = (sigma, sigma) if isinstance(sigma, int | float) else sigma
    x, undo = as_batch(images, data_format)
    x, back = as_floats(x)
    return undo(back(blur(x, kernel_size, sigma)))


@op("same")
def sobel_edges(images: Tensor, data_format: str | None = None) -> Tensor:
    """Compute the vertical and horizontal gradients of images by Sobel filters.

    Args:
        images: (batch, height, width, channels).
        data_format: "channels_last" or "channels_first"; the configured one by default.

    Returns:
        A tensor of shape (*images.shape, 2): the vertical and the horizontal gradient. Images are
        padded with zeros.

    >>> sobel_edges(np.ones((1, 4, 5, 2), "float32")).shape
    (1, 4, 5, 2, 2)
    """
    if len(images.shape) != 4:
        raise ValueError(f"images must be a batch, got a shape of {tuple(images.shape)}.")
    x, undo = as_batch(images, data_format)
    x, back = as_floats(x)
    down = np.float32([[-1, -2, -1], [0, 0, 0], [1, 2, 1]])
    channels = x.shape[-1]
    kernel = np.broadcast_to(np.stack([down, down.T], -1)[:, :, None], (3, 3, channels, 2))
    kernel = cast(convert_to_tensor(np.ascontiguousarray(kernel)), x.dtype)
    edges = depthwise_conv(x, kernel, 1, "same", "channels_last")
    edges = k.reshape(edges, (*shape(x), 2))
    return k.stack([undo(back(edges[..., i])) for i in range(2)], axis=-1)


@op("promote", tensors=2)
def ssim(
    image1: Tensor,
    image2: Tensor,
    max_val: float = 1.0,
    filter_size: int = 11,
    filter_sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
    data_format: str | None = None,
) -> Tensor:
    """Compute the structural similarity of images: 1 for equal ones (Wang et al., 2004).

    Args:
        image1: (height, width, channels), or a batch of them.
        image2: the images they are compared with, of the same shape.
        max_val: the largest value that a pixel can have.
        filter_size: the size of the Gaussian window.
        filter_sigma: its width, in pixels.
        k1: the constant that stabilizes the comparison of means.
        k2: the constant that stabilizes the comparison of variances.
        data_format: "channels_last" or "channels_first"; the configured one by default.

    Returns:
        One number an image.

    >>> x = np.linspace(0, 1, 768, dtype="float32").reshape(16, 16, 3)
    >>> print(f"{float(ssim(x, x)):.3f}")
    1.000
    """
    name = dtype(image1)
    (x, undo), (y, _) = (as_batch(as_floats(image)[0], data_format) for image in (image1, image2))
    del undo

    def mean(x: Any) -> Any:
        sizes, sigmas = (filter_size, filter_size), (filter_sigma, filter_sigma)
        return blur(x, sizes, sigmas, "valid")

    c1, c2 = (k1 * max_val) ** 2, (k2 * max_val) ** 2
    mean_x, mean_y = mean(x), mean(y)
    both, squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    together = mean(x * y) - both
    apart = mean(x * x + y * y) - squares
    similarity = (2.0 * both + c1) * (2.0 * together + c2) / ((squares + c1) * (apart + c2))
    out = k.mean(similarity, axis=(1, 2, 3))
    out = k.squeeze(out, 0) if len(image1.shape) == 3 else out
    return cast(out, name)


__all__ = ["gaussian_blur", "sobel_edges", "ssim"]
