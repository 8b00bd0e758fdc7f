"""Fourier transforms: one definition each.

Complex tensors go in and come out as pairs (real part, imaginary part), as in Keras. Half precision
is transformed in float32 and stays so.
"""

import math
from typing import Any

from keraslite import backend as backends
from keraslite.ops.common import as_tensor_like, positions
from keraslite.ops.core import cast, shape
from keraslite.ops.core import dtype as dtype_of
from keraslite.ops.math import extract_sequences
from keraslite.ops.numpy import (
    add,
    broadcast_to,
    divide,
    imag,
    multiply,
    ones_like,
    pad,
    real,
    reshape,
    square,
    stack,
    where,
)
from keraslite.ops.op import op, primitive_only
from keraslite.typing import Tensor

_FULL = ("float32", "float64")


@op("same")
def view_as_complex(x: Tensor) -> Tensor:
    """Complex numbers from their real and imaginary parts along the last axis.

    Args:
        x: floats of shape (..., 2).

    Raises:
        ValueError: the last axis is not of size 2.
        TypeError: `x` is not of float32 or float64.

    >>> convert_to_numpy(view_as_complex([[1.0, 2.0]])).tolist()
    [(1+2j)]
    """
    if len(x.shape) == 0 or x.shape[-1] not in (2, None):
        raise ValueError(f"the last axis must have size 2, the shape is {tuple(x.shape)}")
    return _complex(x[..., 0], x[..., 1])


@op("same")
def view_as_real(x: Tensor) -> Tensor:
    """The real and imaginary parts of complex numbers, along a new last axis.

    >>> convert_to_numpy(view_as_real([1 + 2j])).tolist()
    [[1.0, 2.0]]
    """
    return stack([real(x), imag(x)], axis=-1)


@op("promote", tensors=2)
def _complex(re: Any, im: Any) -> Any:
    """The complex numbers of two parts, both of float32 or of float64."""
    return primitive_only("_complex")


def _joined(x: Any) -> Any:
    """The complex tensor of a pair of parts."""
    if len(x) != 2:
        raise ValueError(f"x must be a pair (real, imaginary), got {len(x)} tensors")
    re, im = (_full(part) for part in x)
    if tuple(re.shape) != tuple(im.shape):
        raise ValueError(
            f"the parts must have one shape, got {tuple(re.shape)} and {tuple(im.shape)}"
        )
    return _complex(re, im)


def _full(x: Any) -> Any:
    """Floats in at least single precision."""
    name = dtype_of(x)
    if "float" not in name:
        raise TypeError(f"the dtype must be a float one, got {name}")
    return x if name in _FULL else cast(x, "float32")


def _parts(x: Any) -> tuple:
    return real(x), imag(x)


def _resized(x: Any, size: Any) -> Any:
    """The last axis cut, or padded with zeros, to a size."""
    length = shape(x)[-1]
    if isinstance(size, int) and size < 1:
        raise ValueError(f"the length of a transform must be positive, got {size}")
    if size is None or (isinstance(length, int) and length == size):
        return x
    missing = max(size - length, 0) if isinstance(length, int) else size
    if missing:
        x = pad(x, [(0, 0)] * (len(x.shape) - 1) + [(0, missing)])
    return x[..., :size]


@op("sequence")
def fft(x: Tensor) -> tuple:
    """The discrete Fourier transform along the last axis.

    Args:
        x: a pair of floats (real, imaginary) of the same shape.

    Returns:
        The pair of the real and the imaginary part.

    Raises:
        ValueError: `x` is no pair, or its parts differ in shape.
        TypeError: the parts are not floats.

    >>> [convert_to_numpy(part).tolist() for part in fft(([1.0, 2.0], [0.0, 1.0]))]
    [[3.0, -1.0], [1.0, -1.0]]
    """
    return _parts(_fft(_joined(x)))


@op("sequence")
def fft2(x: Tensor) -> tuple:
    """The discrete Fourier transform over the last two axes; as `fft` otherwise.

    >>> real, imag = fft2((np.ones((2, 2), "float32"), np.zeros((2, 2), "float32")))
    >>> convert_to_numpy(real).tolist()
    [[4.0, 0.0], [0.0, 0.0]]
    """
    return _parts(_fft2(_planar(x)))


@op("sequence")
def ifft2(x: Tensor) -> tuple:
    """The inverse of `fft2`.

    >>> real, imag = ifft2((np.ones((2, 2), "float32"), np.zeros((2, 2), "float32")))
    >>> convert_to_numpy(real).tolist()
    [[1.0, 0.0], [0.0, 0.0]]
    """
    return _parts(_ifft2(_planar(x)))


def _planar(x: Any) -> Any:
    z = _joined(x)
    if len(z.shape) < 2:
        raise ValueError(f"at least two axes are needed, the shape is {tuple(z.shape)}")
    return z


@op("same")
def rfft(x: Tensor, fft_length: int | None = None) -> tuple:
    """The first half of the Fourier transform of real numbers; the other half mirrors it.

    Args:
        x: floats; the last axis is transformed.
        fft_length: the size that the last axis is cut or padded with zeros to.

    Returns:
        The real and the imaginary part, each with `fft_length // 2 + 1` numbers on the last axis.

    Raises:
        TypeError: `x` is not of floats.

    >>> [convert_to_numpy(part).tolist() for part in rfft([1.0, 2.0, 3.0, 4.0])]
    [[10.0, -2.0, -2.0], [0.0, 2.0, 0.0]]
    """
    return _parts(_rfft(_resized(_full(x), fft_length)))


@op("sequence")
def irfft(x: Tensor, fft_length: int | None = None) -> Tensor:
    """Invert `rfft`: the real numbers of a half spectrum.

    Args:
        x: a pair of floats (real, imaginary) of the same shape.
        fft_length: the size of the last axis of the result; even and as small as can be by default.

    Raises:
        ValueError: `x` is no pair, or its parts differ in shape.
        TypeError: the parts are not floats.

    >>> convert_to_numpy(irfft(rfft([1.0, 2.0, 3.0]), 3)).round(3).tolist()
    [1.0, 2.0, 3.0]
    """
    z = _joined(x)
    size = 2 * (shape(z)[-1] - 1) if fft_length is None else fft_length
    return _irfft(_resized(z, size // 2 + 1), size)


@op("same")
def _fft(x: Any) -> Any:
    """The transform of complex numbers along the last axis."""
    return primitive_only("_fft")


@op("same")
def _fft2(x: Any) -> Any:
    """The transform of complex numbers over the last two axes."""
    return primitive_only("_fft2")


@op("same")
def _ifft2(x: Any) -> Any:
    """The inverse transform of complex numbers over the last two axes."""
    return primitive_only("_ifft2")


@op("same")
def _rfft(x: Any) -> Any:
    """The first half of the transform of real numbers."""
    return primitive_only("_rfft")


@op("same")
def _irfft(x: Any, size: int) -> Any:
    """The real numbers of that size whose transform begins with `x`, of size `size // 2 + 1`."""
    return primitive_only("_irfft")


_COSINES = {"hann": 0.5, "hamming": 0.54}  # c of the window c - (1 - c) cos


def _cosines(window: str, size: int) -> list[float]:
    """The numbers of a periodic window, in double precision."""
    if size == 1:
        return [1.0]
    c = _COSINES[window]
    return [c - (1 - c) * math.cos(2 * math.pi * i / size) for i in range(size)]


def _window(window: Any, sequence_length: int, fft_length: int, beside: Any) -> Any:
    """The window in the middle of `fft_length` numbers; None stands for ones."""
    if fft_length < sequence_length:
        raise ValueError(
            f"the fft_length {fft_length} is below the size of a sequence, {sequence_length}"
        )
    dtype = dtype_of(beside)
    if window is None:
        return ones_like(positions(beside, fft_length), dtype)
    if isinstance(window, str):
        if window not in _COSINES:
            raise ValueError(f"window must be 'hann', 'hamming' or a tensor, got {window!r}")
        module = backends.module_of(beside)
        window = module.convert(_cosines(window, sequence_length), dtype)
    window = cast(as_tensor_like(window, beside), dtype)
    if tuple(window.shape) != (sequence_length,):
        raise ValueError(
            f"the window's shape must be ({sequence_length},), it is {tuple(window.shape)}"
        )
    before = (fft_length - sequence_length) // 2
    return pad(window, [(before, fft_length - sequence_length - before)])


@op("same")
def stft(
    x: Tensor,
    sequence_length: int,
    sequence_stride: int,
    fft_length: int,
    window: Any = "hann",
    center: bool = True,
) -> tuple:
    """The Fourier transforms of overlapping windows of a signal.

    Args:
        x: (..., samples) of float32 or float64.
        sequence_length: the size of a window.
        sequence_stride: the samples from one window to the next.
        fft_length: the size of a transform; the window is centred in it.
        window: "hann", "hamming" (periodic), a tensor of shape (sequence_length,) or None for ones.
        center: whether `x` is reflected at both ends, so that window i is centred at
            `i * sequence_stride`; else it begins there.

    Returns:
        The real and the imaginary part, (..., windows, fft_length // 2 + 1).

    Raises:
        ValueError: the window does not fit, or `fft_length` is below `sequence_length`.
        TypeError: `x` is not of float32 or float64.

    >>> real, imag = stft([0.0, 1.0, 2.0, 3.0, 4.0], 3, 2, 3)
    >>> convert_to_numpy(real).tolist()
    [[0.75, -0.375], [3.75, -1.875], [5.25, -2.625]]
    """
    if dtype_of(x) not in _FULL:
        raise TypeError(f"the dtype must be float32 or float64, not {dtype_of(x)}")
    taper = _window(window, sequence_length, fft_length, x)
    if center:
        half = fft_length // 2
        x = pad(x, [(0, 0)] * (len(x.shape) - 1) + [(half, half)], mode="reflect")
    return _parts(_rfft(multiply(extract_sequences(x, fft_length, sequence_stride), taper)))


@op("sequence")
def istft(
    x: Tensor,
    sequence_length: int,
    sequence_stride: int,
    fft_length: int,
    length: int | None = None,
    window: Any = "hann",
    center: bool = True,
) -> Tensor:
    """Invert `stft` of the same arguments: the signal of its windows' spectra.

    The windows are added up and divided by what their squares add up to: the least-squares
    estimate. (Keras divides by the square of each window alone where `window` is None.)

    Args:
        x: a pair of floats (real, imaginary) of shape (..., windows, fft_length // 2 + 1).
        sequence_length: the size of a window.
        sequence_stride: the samples from one window to the next.
        fft_length: the size of a transform.
        length: how many samples are given back; all that there are by default.
        window: as for `stft`.
        center: as for `stft`.

    Raises:
        ValueError: `x` is no pair of (..., windows, numbers), or the window does not fit.
        TypeError: the parts are not floats.

    Source: Griffin and Lim, "Signal estimation from modified short-time Fourier transform", 1984.

    >>> x = [0.0, 1.0, 2.0, 3.0, 4.0]
    >>> convert_to_numpy(istft(stft(x, 3, 1, 3), 3, 1, 3)).round(3).tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0]
    """
    z = _planar(x)
    frames = _irfft(_resized(z, fft_length // 2 + 1), fft_length)
    taper = _window(window, sequence_length, fft_length, frames)
    count = shape(frames)[-2]
    squares = _added(broadcast_to(square(taper), (count, fft_length)), sequence_stride)
    signal = _added(multiply(frames, taper), sequence_stride)
    signal = divide(signal, where(squares > 1e-10, squares, 1))
    start = fft_length // 2 if center else 0
    total = fft_length + sequence_stride * (count - 1)
    return signal[..., start : start + length if length is not None else total - start]


def _added(frames: Any, stride: int) -> Any:
    """The sum of overlapping windows: (..., windows, size) to (..., samples)."""
    *batch, count, size = shape(frames)
    parts = -(-size // stride)  # of a window, each as long as the stride
    same = [(0, 0)] * len(batch)
    frames = pad(frames, [*same, (0, 0), (0, parts * stride - size)])
    frames = reshape(frames, (*batch, count, parts, stride))
    out = 0
    for i in range(parts):
        out = add(pad(frames[..., i, :], [*same, (i, parts - 1 - i), (0, 0)]), out)
    out = reshape(out, (*batch, (count + parts - 1) * stride))
    return out[..., : size + stride * (count - 1)]


__all__ = [
    "fft", "fft2", "ifft2", "irfft", "istft", "rfft", "stft", "view_as_complex", "view_as_real",
]  # fmt: skip
