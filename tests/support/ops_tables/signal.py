"""Cases of the Fourier transforms, by jnp.fft."""

import jax.numpy as jnp
import numpy as np
import scipy.signal
from ops_cases import row

rng = np.random.default_rng(4)


def floats(*shape):
    return rng.normal(size=shape).astype("float32")


def pair(*shape):
    return floats(*shape), floats(*shape)


def parts(z):
    return jnp.real(z), jnp.imag(z)


def of_pair(fn):
    """An oracle on pairs, from one on complex numbers."""

    def call(x, *args, **kwargs):
        out = fn(x[0] + 1j * x[1], *args, **kwargs)
        return parts(out) if jnp.iscomplexobj(out) else out

    return call


def rfft(x, fft_length=None):
    return parts(jnp.fft.rfft(x, fft_length))


def irfft(z, fft_length=None):
    return jnp.fft.irfft(z, fft_length)


def taper(window, size, whole):
    """The window of scipy in the middle of `whole` numbers."""
    values = (
        np.ones(whole) if window is None else
        scipy.signal.get_window(window, size) if isinstance(window, str) else window
    )  # fmt: skip
    before = (whole - len(values)) // 2
    return np.pad(values, (before, whole - len(values) - before))


def stft(x, size, stride, whole, window="hann", center=True):
    """Window by window."""
    if center:
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(whole // 2, whole // 2)], mode="reflect")
    starts = range(0, x.shape[-1] - whole + 1, stride)
    frames = jnp.stack([x[..., i : i + whole] for i in starts], -2)
    return parts(jnp.fft.rfft(frames * jnp.asarray(taper(window, size, whole), x.dtype)))


def istft(z, size, stride, whole, length=None, window="hann", center=True):
    """Each window added at its place, and over the squares added likewise."""
    frames = jnp.fft.irfft(z, whole)
    values = jnp.asarray(taper(window, size, whole), frames.dtype)
    total = whole + stride * (z.shape[-2] - 1)
    signal, squares = jnp.zeros((*z.shape[:-2], total), frames.dtype), jnp.zeros(total)
    for i in range(z.shape[-2]):
        at = slice(i * stride, i * stride + whole)
        signal = signal.at[..., at].add(frames[..., i, :] * values)
        squares = squares.at[at].add(values**2)
    signal = signal / jnp.where(squares > 1e-10, squares, 1)
    start = whole // 2 if center else 0
    return signal[..., start : total - start if length is None else start + length]


Z, WAVE = pair(2, 3, 8), floats(2, 50)
OWN = rng.uniform(0.5, 1.0, 9).astype("float32")
SPECTRA = pair(2, 6, 9)
LOOSE = {"atol": 1e-5}
ROWS = [
    row("view_as_complex", floats(2, 3, 2), oracle=lambda x: x[..., 0] + 1j * x[..., 1]),
    row("view_as_complex", floats(2), oracle=lambda x: x[0] + 1j * x[1], unknown=()),
    row("view_as_real", floats(2, 3) + 1j * floats(2, 3),
        oracle=lambda z: jnp.stack([z.real, z.imag], -1)),
    row("fft", Z, oracle=of_pair(jnp.fft.fft), grad=0, **LOOSE),
    row("fft", pair(7), oracle=of_pair(jnp.fft.fft), **LOOSE),
    row("fft2", Z, oracle=of_pair(jnp.fft.fft2), grad=0, **LOOSE),
    row("fft2", pair(5, 6), oracle=of_pair(jnp.fft.fft2), **LOOSE),
    row("fft2", [z[0] for z in Z], oracle=of_pair(jnp.fft.fft2), **LOOSE),
    row("ifft2", Z, oracle=of_pair(jnp.fft.ifft2), grad=0, **LOOSE),
    *(row("ifft2", part, oracle=of_pair(jnp.fft.ifft2), **LOOSE)
      for part in ([z[0] for z in Z], [z[:, :2] for z in Z])),
    *(row("rfft", WAVE, *n, oracle=rfft, grad=0, **LOOSE) for n in ((), (50,), (49,), (20,), (64,))),
    row("rfft", floats(9), oracle=rfft, grad=0, unknown=(), **LOOSE),
    *(row("irfft", Z, *n, oracle=of_pair(irfft), grad=0, **LOOSE)
      for n in ((), (14,), (13,), (9,), (20,), (21,))),
    *(row("stft", WAVE, *sizes, oracle=stft, grad=0, **LOOSE, **more)
      for sizes in ((16, 4, 16), (9, 5, 16), (7, 7, 15)) for more in ({}, {"center": False})),
    row("stft", WAVE[0], 16, 8, 16, "hamming", oracle=stft, unknown=(), **LOOSE),
    row("stft", WAVE, 16, 8, 18, None, oracle=stft, **LOOSE),
    row("stft", WAVE, 9, 4, 12, OWN, oracle=stft, unknown=(0,), jit=False, symbolic=False, **LOOSE),
    *(row("istft", SPECTRA, *sizes, oracle=of_pair(istft), grad=0, **LOOSE, **more)
      for sizes in ((16, 4, 16), (9, 5, 16), (9, 3, 16)) for more in ({}, {"center": False})),
    row("istft", SPECTRA, 16, 8, 16, 30, oracle=of_pair(istft), grad=0, **LOOSE),
    row("istft", SPECTRA, 16, 8, 16, window="hamming", oracle=of_pair(istft), **LOOSE),
    row("istft", SPECTRA, 12, 8, 17, window=None, oracle=of_pair(istft), **LOOSE),
]  # fmt: skip
