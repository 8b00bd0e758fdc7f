"""Cases of the ops on images, by jax.image and Keras."""

import jax
import jax.numpy as jnp
import jax.scipy.ndimage as ndimage
import numpy as np
from ops_cases import row

rng = np.random.default_rng(0)
X = rng.uniform(0, 1, (2, 7, 6, 3)).astype("float32")
ONE = X[0]
BYTES = (X * 255).astype("uint8")
VOLUME = rng.uniform(0, 1, (2, 6, 5, 4, 2)).astype("float32")
FIRST = {"data_format": "channels_first"}


def resized(x, size, interpolation="bilinear", antialias=False, data_format="channels_last"):
    spatial = {"channels_last": (-3, -2), "channels_first": (-2, -1)}[data_format]
    shape = list(x.shape)
    for axis, n in zip(spatial, size, strict=True):
        shape[axis] = n
    if interpolation == "nearest":
        for axis, n in zip(spatial, size, strict=True):
            places = np.floor((np.arange(n) + 0.5) * x.shape[axis] / n).astype("int32")
            x = jnp.take(x, places, axis=axis)
        return x
    out = jax.image.resize(x.astype(jnp.promote_types(x.dtype, "float32")), shape, interpolation,
                           antialias=antialias)  # fmt: skip
    if jnp.issubdtype(x.dtype, jnp.integer):
        out = jnp.clip(jnp.round(out), 0, 255)
    return out.astype(x.dtype)


def first(x):
    return np.ascontiguousarray(np.moveaxis(x, -1, -3))


def moved(x, shape, scale, translation, dims, method, antialias=True):
    return jax.image.scale_and_translate(
        x, shape, dims, jnp.float32(scale), jnp.float32(translation), method, antialias
    )


AT = rng.uniform(-3, 9, (2, 4, 5)).astype("float32")
AT3 = rng.uniform(-3, 9, (3, 8)).astype("float32")


def mapped(x, at, order, fill_mode="constant", fill_value=0):
    return ndimage.map_coordinates(x, list(at), order, fill_mode, fill_value)


def projected(x, t, order, mode, cval):
    """The definition, channel by channel."""
    t = jnp.broadcast_to(t, (x.shape[0], 8)) if t.ndim == 1 else t
    y, c = jnp.meshgrid(jnp.arange(x.shape[1]), jnp.arange(x.shape[2]), indexing="ij")
    out = []
    for i in range(x.shape[0]):
        a0, a1, a2, b0, b1, b2, c0, c1 = (t[i, j] for j in range(8))
        n = c0 * c + c1 * y + 1
        at = [(b0 * c + b1 * y + b2) / n, (a0 * c + a1 * y + a2) / n]
        planes = [ndimage.map_coordinates(x[i, ..., k], at, order, mode, cval)
                  for k in range(x.shape[3])]  # fmt: skip
        out.append(jnp.stack(planes, -1))
    return jnp.stack(out)


def affine(x, t, interpolation="bilinear", fill_mode="constant", fill_value=0, data_format=None):
    single, front = x.ndim == 3, data_format == "channels_first"
    x = x[None] if single else x
    x = jnp.moveaxis(x, 1, -1) if front else x
    out = projected(x, t, int(interpolation == "bilinear"), fill_mode, fill_value)
    out = jnp.moveaxis(out, -1, 1) if front else out
    return out[0] if single else out


def patches(x, size, strides=None, dilation_rate=1, padding="valid", data_format=None):
    """By a convolution with an identity."""
    size = (size,) * (x.ndim - 2) if isinstance(size, int) else size
    strides = size if strides is None else strides
    strides = (strides,) * len(size) if isinstance(strides, int) else strides
    count = int(np.prod(size)) * x.shape[-1]
    kernel = jnp.eye(count, dtype=x.dtype).reshape(*size, x.shape[-1], count)
    letters = "DHW"[-len(size) :]
    return jax.lax.conv_general_dilated(
        x, kernel, strides, padding.upper(), rhs_dilation=(dilation_rate,) * len(size),
        dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"), precision="highest",
    )  # fmt: skip


T = np.float32([[1.1, 0.2, -0.7, -0.1, 0.9, 1.3, 0, 0], [0.7, 0, 1.0, 0.1, 1.2, -2.0, 0.01, 0.02]])
RESIZE = [
    *(row("resize", X, size, kind, grad=0, oracle=resized, atol=1e-5)
      for kind in ("bilinear", "bicubic", "lanczos3", "lanczos5") for size in ((14, 4), (3, 6), (9, 13))),
    *(row("resize", X, size, kind, True, grad=0, oracle=resized, atol=1e-5)
      for kind in ("bilinear", "bicubic", "lanczos3") for size in ((3, 2), (9, 13))),
    *(row("resize", X, size, "nearest", grad=0, oracle=resized) for size in ((14, 4), (3, 6), (5, 13))),
    row("resize", ONE, (4, 9), oracle=resized, unknown=()), row("resize", X, (7, 6), oracle=resized),
    row("resize", first(X), (4, 9), oracle=resized, **FIRST),
    row("resize", first(ONE), (4, 9), "bicubic", oracle=resized, unknown=(), **FIRST),
    row("resize", BYTES, (5, 9), oracle=resized, wide=False),
    row("resize", BYTES, (5, 9), "bicubic", oracle=resized, wide=False),
    row("resize", BYTES, (5, 9), "nearest", oracle=resized, wide=False),
    row("resize", np.asarray(jnp.asarray(X, "bfloat16")), (5, 9), oracle=resized, wide=False),
    row("resize", X[:, :1, :1], (3, 3), oracle=resized),
]  # fmt: skip
ROWS = [
    *RESIZE,
    *(row("scale_and_translate", X, (2, 9, 5, 3), scale, shift, (1, 2), kind, anti, oracle=moved,
          grad=0, atol=1e-5)
      for kind, anti in (("linear", True), ("cubic", False), ("lanczos3", True), ("lanczos5", False))
      for scale, shift in (([1.5, 0.6], [0.3, -1.0]), ([1.0, 1.0], [2.0, 0.0]))),
    row("scale_and_translate", X, (2, 9, 5, 3), np.float32([1.5, 0.6]), np.float32([0.3, -1.0]),
        (1, 2), "linear", oracle=moved, symbolic=False, atol=1e-5),
    row("scale_and_translate", X[0, :, 0, 0], (3,), [0.5], [0.0], (0,), "bilinear", oracle=moved,
        unknown=()),
    *(row("map_coordinates", X[0, :, :, 0], AT, order, mode, 2.0, grad=0, oracle=mapped, unknown=())
      for order in (0, 1) for mode in ("constant", "nearest", "wrap", "mirror", "reflect")),
    row("map_coordinates", X[0, :, :, 0], AT, 1, "reflect", grad=1, oracle=mapped, unknown=()),
    row("map_coordinates", ONE, AT3, 1, oracle=mapped, unknown=()),
    row("map_coordinates", BYTES[0, :, :, 0], AT, 0, "nearest", oracle=mapped, unknown=()),
    # The nearest pixel to a coordinate at a tie is another one in float64.
    *(row("affine_transform", X, T, *options, grad=0, oracle=affine, unknown=(), atol=1e-5,
          wide="nearest" not in options[:1])
      for options in ((), ("nearest",), ("bilinear", "nearest"), ("bilinear", "reflect"),
                      ("bilinear", "wrap"), ("bilinear", "constant", 0.5))),
    row("affine_transform", X, T[0], oracle=affine, unknown=(), atol=1e-5),
    row("affine_transform", ONE, T[0], oracle=affine, unknown=(), atol=1e-5),
    row("affine_transform", first(X), T, oracle=affine, unknown=(), atol=1e-5, **FIRST),
    *(row("extract_patches", X, size, *rest, grad=0, oracle=patches)
      for size, *rest in ((2,), ((3, 2),), (3, 1), (3, (2, 1)), (2, 1, 2), (3, 2, 1, "same"),
                          (2, 3, 1, "same"))),
    row("extract_patches", VOLUME, (2, 1, 2), oracle=patches),
    *(row("extract_patches_3d", VOLUME, *args, grad=0, oracle=patches)
      for args in ((2,), ((2, 3, 1), 1), (2, 2, 1, "same"), (2, 1, 2))),
    *(row("crop_images", X, oracle=lambda x, **o: x[:, 1:5, 2:5], grad=0, graph=not any("target" in name for name in options), **options)
      for options in (
          {"top_cropping": 1, "left_cropping": 2, "bottom_cropping": 2, "right_cropping": 1},
          {"top_cropping": 1, "left_cropping": 2, "target_height": 4, "target_width": 3},
          {"bottom_cropping": 2, "right_cropping": 1, "target_height": 4, "target_width": 3})),
    row("crop_images", first(ONE), 1, 2, 0, 0, oracle=lambda x, *a, **o: x[:, 1:, 2:], unknown=(),
        **FIRST),
    *(row("pad_images", X, oracle=lambda x, **o: jnp.pad(x, ((0, 0), (1, 2), (3, 0), (0, 0))),
          grad=0, graph=not any("target" in name for name in options), **options)
      for options in (
          {"top_padding": 1, "left_padding": 3, "bottom_padding": 2, "right_padding": 0},
          {"top_padding": 1, "left_padding": 3, "target_height": 10, "target_width": 9},
          {"bottom_padding": 2, "right_padding": 0, "target_height": 10, "target_width": 9})),
    row("pad_images", first(ONE), 1, 2, 0, 1, unknown=(),
        oracle=lambda x, *a, **o: jnp.pad(x, ((0, 0), (1, 0), (2, 1))), **FIRST),
]  # fmt: skip


POINTS = np.float32([[0, 0], [5, 0], [0, 6], [5, 6]])
ENDS = POINTS + rng.uniform(-1, 1, (2, 4, 2)).astype("float32")
KERAS = [
    ("rgb_to_grayscale", X), ("rgb_to_grayscale", first(X), "channels_first"),
    ("rgb_to_grayscale", ONE),
    ("rgb_to_hsv", X), ("rgb_to_hsv", first(X), "channels_first"), ("rgb_to_hsv", np.round(X)),
    ("hsv_to_rgb", X), ("hsv_to_rgb", first(ONE), "channels_first"), ("hsv_to_rgb", np.round(X)),
    ("gaussian_blur", X, (3, 3), (1.0, 1.0), "channels_last"),
    ("gaussian_blur", ONE, (5, 5), (2.0, 2.0), "channels_last"),
    ("gaussian_blur", first(X), (5, 5), (1.5, 1.5), "channels_first"),
    ("ssim", np.tile(X, (1, 2, 2, 1)), np.tile(X**2, (1, 2, 2, 1))),
    ("ssim", np.tile(ONE, (2, 3, 1)), np.tile(ONE * 0.5, (2, 3, 1)), 2.0, 7, 1.0),
    ("ssim", first(np.tile(X, (1, 2, 2, 1))), first(np.tile(X**2, (1, 2, 2, 1))), 1.0, 11, 1.5,
     0.01, 0.03, "channels_first"),
    ("perspective_transform", X, np.tile(POINTS, (2, 1, 1)), ENDS),
    ("perspective_transform", ONE, POINTS, ENDS[0], "nearest", 0.5),
    ("perspective_transform", first(X), np.tile(POINTS, (2, 1, 1)), ENDS, "bilinear", 0,
     "channels_first"),
    ("resize", X, (9, 4), "bilinear", False, True), ("resize", X, (4, 9), "bilinear", False, True),
    ("resize", X, (9, 4), "bilinear", False, False, True),
    ("resize", X, (4, 9), "bilinear", False, False, True, "constant", 0.5),
    ("resize", ONE, (4, 9), "bilinear", False, False, True),
    ("resize", first(X), (9, 4), "bilinear", True, True, False, "constant", 0.0, "channels_first"),
]  # fmt: skip
