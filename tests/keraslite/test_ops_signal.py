"""Every op of ops/signal.py on every backend, against jnp.fft, scipy and the installed Keras."""

import jax.numpy as jnp
import keras as oracle
import numpy as np
import pytest
import scipy.signal
from backends import TRAINABLE
from ops_cases import (
    assert_gradient,
    assert_graph,
    assert_symbolic,
    assert_value,
    by_op,
    check,
    row,
)

import keraslite
from keraslite import ops

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
    row("ifft2", Z, oracle=of_pair(jnp.fft.ifft2), grad=0, **LOOSE),
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
ALL = by_op(ROWS)


@pytest.mark.parametrize("cases", ALL)
def test_value(cases, backend):
    check(assert_value, cases, backend)


@pytest.mark.parametrize("cases", by_op([c for c in ROWS if c.grad is not None]))
def test_gradient(cases, backend):
    if backend in TRAINABLE:
        check(assert_gradient, cases, backend, ".grad")


@pytest.mark.parametrize("cases", ALL)
def test_symbolic(cases, backend):
    check(assert_symbolic, [c for c in cases if c.symbolic], backend, ".symbolic")


@pytest.mark.parametrize("cases", ALL)
def test_graph_with_unknown_sizes(cases, backend):
    if backend == "tensorflow":
        check(assert_graph, [c for c in cases if c.jit], backend, ".graph")


SIZES = ((16, 4, 16), (12, 5, 16), (10, 3, 12))  # of odd size, TensorFlow has another hann window


def theirs(x):
    return keraslite.tree.map_structure(oracle.ops.convert_to_numpy, x)


def ours(x):
    return keraslite.tree.map_structure(ops.convert_to_numpy, x)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("window", ["hann", "hamming"])
@pytest.mark.parametrize("sizes", SIZES)
def test_as_the_installed_keras(sizes, window, center, backend):
    options = {"window": window, "center": center}
    x = keraslite.to_backend(WAVE, backend)
    got, want = ops.stft(x, *sizes, **options), theirs(oracle.ops.stft(WAVE, *sizes, **options))
    for a, b in zip(ours(got), want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    back = ours(ops.istft(got, *sizes, **options))
    wanted = theirs(oracle.ops.istft(want, *sizes, **options))
    assert back.shape == wanted.shape
    inside = slice(sizes[2], back.shape[-1] - sizes[2])  # where every sample is in whole windows
    np.testing.assert_allclose(back[:, inside], wanted[:, inside], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(back[:, inside], WAVE[:, inside], rtol=1e-4, atol=1e-4)


def test_one_number_at_a_time_comes_back(backend):
    x = keraslite.to_backend(WAVE, backend)
    np.testing.assert_allclose(ours(ops.istft(ops.stft(x, 1, 1, 1), 1, 1, 1)), WAVE, rtol=1e-6)


def test_half_precision_is_transformed_in_float32(backend):
    real, imag = ops.fft([ops.cast(keraslite.to_backend(x, backend), "float16") for x in Z])
    want = np.fft.fft(sum(np.float32(x.astype("float16")) * f for x, f in zip(Z, (1, 1j))))
    assert {ops.dtype(real), ops.dtype(imag)} == {"float32"}
    np.testing.assert_allclose(ours(real), want.real, rtol=1e-4, atol=1e-5)


_BAD = {
    "rfft": ((np.arange(4, dtype="int32"),), TypeError, "int32"),
    "fft": (((Z[0], Z[1][:, :2]),), ValueError, "must have one shape"),
    "fft2": (((Z[0][0, 0], Z[1][0, 0]),), ValueError, "two axes"),
    "irfft": (((Z[0],),), ValueError, "pair"),
    "view_as_complex": ((WAVE,), ValueError, "size 2"),
    "stft": ((WAVE, 16, 8, 12), ValueError, "fft_length 12"),
    "istft": ((SPECTRA, 16, 8, 16, None, "square"), ValueError, "'square'"),
}
_BAD_TOO = {
    "window of another size": ("stft", (WAVE, 16, 8, 16, OWN), ValueError, r"\(16,\)"),
    "integers": ("stft", (np.ones(40, "int32"), 8, 4, 8), TypeError, "float32 or float64"),
    "no such transform": ("fft", ((np.ones(3, "int32"), np.ones(3, "int32")),), TypeError, "int32"),
}


@pytest.mark.parametrize(
    ("name", "args", "kind", "said"),
    [(n, *rest) for n, rest in _BAD.items()] + list(_BAD_TOO.values()),
)
def test_errors(name, args, kind, said, backend):
    args = keraslite.tree.map_structure(
        lambda x: keraslite.to_backend(x, backend) if isinstance(x, np.ndarray) else x, args
    )
    with pytest.raises(kind, match=rf"ops\.{name}\(.*{said}"):
        getattr(ops, name)(*args)
