"""Every op of ops/image/ on every backend, against jax.image, scipy's forms in jax, and Keras."""

import inspect

import jax
import keras
import numpy as np
import pytest
from backends import TRAINABLE
from ops_tables.image import AT, KERAS, ONE, POINTS, T, X, first, rng

import keraslite
from keraslite import ops
from keraslite.ops import image


def filtered(x, kernels):
    """Correlation of each channel with each kernel, zeros around."""
    kernel = np.tile(np.stack(kernels, -1)[:, :, None], (1, 1, 1, x.shape[-1]))
    out = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", feature_group_count=x.shape[-1], precision="highest",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip
    return np.asarray(out)


def test_filters_are_their_definitions(backend):
    """Keras's own filters differ between its backends, or ignore data_format where it is None."""
    (x,) = of(backend, X)
    across, down = (
        np.exp(-0.5 * (np.arange(n) - n // 2) ** 2 / sigma**2) for n, sigma in ((3, 1.0), (5, 2.0))
    )
    kernel = np.outer(down / down.sum(), across / across.sum()).astype("float32")
    blurred = image.gaussian_blur(x, (3, 5), (1.0, 2.0))
    np.testing.assert_allclose(
        keraslite.backend.to_numpy(blurred), filtered(X, [kernel]), rtol=1e-5, atol=1e-6
    )
    (planes,) = of(backend, first(X))
    blurred = image.gaussian_blur(planes, (3, 5), (1.0, 2.0), "channels_first")
    np.testing.assert_allclose(
        keraslite.backend.to_numpy(blurred), first(filtered(X, [kernel])), rtol=1e-5, atol=1e-6
    )
    sobel = np.float32([[-1, -2, -1], [0, 0, 0], [1, 2, 1]])
    expected = np.stack([filtered(X, [k]) for k in (sobel, sobel.T)], -1)
    edges = keraslite.backend.to_numpy(image.sobel_edges(x))
    np.testing.assert_allclose(edges, expected, rtol=1e-5, atol=1e-5)
    inside = np.asarray(keras.ops.image.sobel_edges(X, "channels_last"))[:, 1:-1, 1:-1]
    np.testing.assert_allclose(edges[:, 1:-1, 1:-1], inside, rtol=1e-4, atol=1e-5)
    edges = keraslite.backend.to_numpy(image.sobel_edges(planes, "channels_first"))
    np.testing.assert_allclose(edges, np.moveaxis(expected, 3, 1), rtol=1e-5, atol=1e-5)


def of(backend, *args):
    return [keraslite.to_backend(x, backend) if isinstance(x, np.ndarray) else x for x in args]


@pytest.mark.parametrize("op", sorted({op for op, *_ in KERAS}))
def test_values_are_keras(op, backend):
    for name, *args in KERAS:
        if name == op:
            theirs = np.asarray(getattr(keras.ops.image, op)(*args))
            ours = keraslite.backend.to_numpy(getattr(image, op)(*of(backend, *args)))
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(
                ours, theirs, rtol=1e-4, atol=2e-5, err_msg=f"{op} {args[1:]}"
            )


SLOPES = {}


@pytest.mark.parametrize("op", ["rgb_to_hsv", "hsv_to_rgb", "rgb_to_grayscale"])
def test_gradients_of_colours_are_the_same_everywhere(op, backend):
    """Hues have too many kinks for differences."""
    if backend not in TRAINABLE:
        return
    (x,) = of(backend, X)
    slope = ops.grad(lambda x: ops.sum(ops.square(getattr(image, op)(x))))(x)
    slope = keraslite.backend.to_numpy(slope)
    assert np.isfinite(slope).all()
    np.testing.assert_allclose(slope, SLOPES.setdefault(op, slope), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("op", ["gaussian_blur", "sobel_edges", "ssim"])
def test_gradients_agree(op, backend):
    """With central differences, in a direction of its own."""
    if backend not in TRAINABLE:
        return
    x = np.tile(X, (1, 2, 2, 1)) if op == "ssim" else X
    more = (np.tile(X**2, (1, 2, 2, 1)),) if op == "ssim" else ()

    def total(x):
        return ops.mean(ops.square(getattr(image, op)(x, *of(backend, *more))))

    slope = keraslite.backend.to_numpy(ops.grad(total)(*of(backend, x)))
    way = rng.normal(size=x.shape).astype("float32") * 1e-3
    ends = [float(total(*of(backend, x + sign * way))) for sign in (1, -1)]
    np.testing.assert_allclose((slope * way).sum(), (ends[0] - ends[1]) / 2, rtol=3e-2, atol=1e-7)


DISPLACED = {}


def test_elastic_transform(backend):
    """Equal everywhere; nothing moves without strength; a constant stays one."""
    (x,) = of(backend, X)
    for options in ({}, {"interpolation": "nearest", "fill_mode": "constant", "fill_value": 0.5}):
        found = keraslite.backend.to_numpy(
            image.elastic_transform(x, alpha=8.0, sigma=2.0, seed=3, **options)
        )
        assert found.shape == X.shape
        assert np.abs(found - X).max() > 0.05
        same = DISPLACED.setdefault(str(options), found)
        assert np.mean(np.abs(found - same) > 1e-4) < 0.01  # a nearest pixel may turn at a tie
    still = image.elastic_transform(x, alpha=0.0, sigma=2.0, seed=3)
    np.testing.assert_allclose(keraslite.backend.to_numpy(still), X, atol=1e-6)
    flat = image.elastic_transform(ops.ones_like(x), seed=3)
    np.testing.assert_allclose(keraslite.backend.to_numpy(flat), 1.0, atol=1e-5)
    (planes,) = of(backend, first(X))
    turned = image.elastic_transform(planes, 8.0, 2.0, seed=3, data_format="channels_first")
    np.testing.assert_allclose(
        keraslite.backend.to_numpy(turned), first(DISPLACED["{}"]), atol=1e-4
    )
    draws = [keraslite.backend.to_numpy(image.elastic_transform(x)) for _ in range(2)]
    assert not np.array_equal(*draws)


def test_colours_return(backend):
    (x,) = of(backend, X)
    there = image.hsv_to_rgb(image.rgb_to_hsv(x))
    np.testing.assert_allclose(keraslite.backend.to_numpy(there), X, atol=1e-6)


def test_compiled_is_eager(backend):
    x, transform = of(backend, X, T)
    for fn in (
        lambda x: image.resize(x, (5, 9), "bicubic", antialias=True),
        lambda x: image.affine_transform(x, transform, fill_mode="mirror"),
        lambda x: image.gaussian_blur(x, (3, 5), (1.0, 2.0)),
        lambda x: image.elastic_transform(x, 8.0, 2.0, seed=1),
        lambda x: image.extract_patches(x, 3, 2, padding="same"),
        image.rgb_to_hsv,
    ):
        eager, compiled = (keraslite.backend.to_numpy(f(x)) for f in (fn, ops.jit(fn)))
        np.testing.assert_allclose(compiled, eager, rtol=1e-4, atol=1e-4)


ERRORS = [
    (lambda: image.resize(X, (3, 3), "cubist"), "interpolation must be one of"),
    (lambda: image.resize(X, (3, 3, 3)), "size must be"),
    (lambda: image.resize(X[0, 0], (3, 3)), "images must have 3 dimensions"),
    (lambda: image.resize(X, (3, 3), crop_to_aspect_ratio=True, pad_to_aspect_ratio=True), "not both"),
    (lambda: image.resize(X, (3, 3), data_format="last"), "data_format must be channels_last or"),
    (lambda: image.map_coordinates(X, AT, 1), "rank of the inputs"),
    (lambda: image.map_coordinates(X[0, :, :, 0], AT, 3), "order must be"),
    (lambda: image.map_coordinates(X[0, :, :, 0], AT, 1, "grid"), "fill_mode must be one of"),
    (lambda: image.affine_transform(X, T[:, :6]), "transform must be"),
    (lambda: image.perspective_transform(X, POINTS[:3], POINTS[:3]), "start_points must be"),
    (lambda: image.crop_images(X, 1, 1), "Exactly two of top, bottom, target_height must"),
    (lambda: image.crop_images(X, 9, 0, 1, 0), "must leave some"),
    (lambda: image.pad_images(X, 1, 0, target_height=3, target_width=9), "bottom must not be negative, got -5"),
    (lambda: image.extract_patches(X, 9), "must fit"),
    (lambda: image.rgb_to_hsv(X[..., :2]), "must have 3 channels"),
    (lambda: image.sobel_edges(ONE), "must be a batch"),
    (lambda: image.scale_and_translate(X, (2, 2), [1.0], [0.0], (0,), "linear"), "must have the rank"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "said"), ERRORS)
def test_errors(call, said, backend):
    with pytest.raises(ValueError, match=said):
        call()


def test_signatures_are_keras():
    for name in image.__all__:
        theirs, ours = (
            [(p.name, p.default) for p in inspect.signature(f).parameters.values()]
            for f in (getattr(keras.ops.image, name), getattr(image, name))
        )
        assert ours == theirs, name


@pytest.mark.parametrize("size", [(0, 4), (4, -1)])
def test_resize_refuses_a_size_that_is_not_positive(size, backend):
    x = keraslite.to_backend(np.ones((1, 4, 4, 1), "float32"), backend)
    with pytest.raises(ValueError, match="positive"):
        ops.image.resize(x, size)
