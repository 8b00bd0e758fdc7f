"""Every op of ops/signal.py on every backend, against jnp.fft, scipy and the installed Keras."""

import keras as oracle
import numpy as np
import pytest
from ops_tables.signal import OWN, SPECTRA, WAVE, Z

import keraslite
from keraslite import ops

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
