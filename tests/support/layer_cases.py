"""The table of layers: how each is made and called. test_layers.py runs it against Keras."""

import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from compare import assert_close, largest

from keraslite import tree


def random_weights(shapes):
    """Values with no zeros and ones in them, so that a bias or scale left out is noticed."""
    rng = np.random.default_rng(1)
    return [rng.uniform(0.3, 1.2, shape).astype("float32") for shape in shapes]


def plain_config(config):
    """A config without the modules that Keras notes, and with lists for tuples."""
    if isinstance(config, dict):
        return {
            k: plain_config(v) for k, v in config.items() if k not in ("module", "registered_name")
        }
    return [plain_config(v) for v in config] if isinstance(config, list | tuple) else config


def assert_outputs_close(ours, theirs, rtol=1e-5, atol=1e-6):
    """Raise unless what layers give is close: to a part of each number and of the largest, as sums
    cancel. None among ours is a gradient that is zero.
    """
    theirs = tree.flatten(theirs)
    ours = [
        np.zeros_like(b) if a is None else a
        for a, b in zip(tree.flatten(ours), theirs, strict=True)
    ]
    assert_close(ours, theirs, rtol, atol * largest(theirs, least=1.0))


def x(*shape, seed=0):
    """Normal numbers that depend on the shape and the seed alone."""
    rng = np.random.default_rng(zlib.crc32(repr((shape, seed)).encode()))
    return rng.standard_normal(shape).astype("float32")


def ids(*shape, high=6):
    rng = np.random.default_rng(zlib.crc32(repr((shape, high)).encode()))
    return rng.integers(0, high, shape).astype("int32")


def mask(*shape):
    """Booleans, True in front of every row."""
    rng = np.random.default_rng(zlib.crc32(repr(shape).encode()))
    found = rng.random(shape) > 0.4
    found[..., 0] = True
    return found


@dataclass
class Row:
    """A layer, the arguments that make it, and what it is called with."""

    layer: str
    inputs: tuple
    kwargs: dict[str, Any]
    call: dict[str, Any] = field(default_factory=dict)
    training: bool = True  # its training mode draws nothing, so it can be compared
    bfloat16: bool = True  # its output is in the compute dtype
    batch: bool = True  # the batch axis may be unknown
    rtol: float = 1e-5

    @property
    def id(self):
        parts = [f"{k}={v}" for k, v in (self.kwargs | self.call).items() if not np.ndim(v) > 1]
        return "-".join([self.layer, *parts]).replace(" ", "")


ROWS: list[Row] = []
_FLAGS = ("call", "training", "bfloat16", "batch", "rtol")


def row(layer, *inputs, **kwargs):
    flags = {k: kwargs.pop(k) for k in _FLAGS if k in kwargs}
    ROWS.append(Row(layer, inputs, kwargs, **flags))


# ---- core ----
row("Dense", x(2, 4), units=3)
row("Dense", x(2, 3, 4), units=3, activation="relu")
row("Dense", x(2, 4), units=3, activation="gelu", kernel_regularizer="l2")
row("Dense", x(2, 4), units=3, activation="tanh", use_bias=False, kernel_constraint="max_norm")
row("Dense", x(2, 4), units=3, lora_rank=2)  # Keras forgets lora_alpha here
row("EinsumDense", x(2, 4), equation="ab,bc->ac", output_shape=3, bias_axes="c")
row("EinsumDense", x(2, 5, 4), equation="abc,cd->abd", output_shape=(None, 3), bias_axes="d")
row("EinsumDense", x(2, 5, 4), equation="...x,xy->...y", output_shape=3, bias_axes="y",
    activation="relu")  # fmt: skip
row("EinsumDense", x(2, 5, 6), equation="abc,cde->abde", output_shape=(None, 2, 3), bias_axes="de")
row("EinsumDense", x(2, 5, 6), equation="abc,cde->abde", output_shape=(None, 2, 3), bias_axes="e")
row("EinsumDense", x(2, 5, 2, 3), equation="abcd,cde->abe", output_shape=(None, 4), bias_axes="e")
row("EinsumDense", x(2, 5, 4), equation="abc,bcd->abd", output_shape=(5, 3), bias_axes="bd")
row("EinsumDense", x(2, 4, 5), equation="ab...,bc->ac...", output_shape=3, bias_axes="c")
row("EinsumDense", x(2, 5, 4), equation="abc,cd->adb", output_shape=(3, None), lora_rank=2,
    lora_alpha=3.0)  # fmt: skip
row("Embedding", ids(2, 5), input_dim=6, output_dim=3)
row("Embedding", ids(2, 5), input_dim=6, output_dim=3, mask_zero=True, lora_rank=2)
row("ReversibleEmbedding", ids(2, 5), input_dim=6, output_dim=3)
row("ReversibleEmbedding", x(2, 5, 3), input_dim=6, output_dim=3, logit_soft_cap=2.0,
    call={"reverse": True})  # fmt: skip
row("ReversibleEmbedding", x(2, 5, 3), input_dim=6, output_dim=3, tie_weights=False,
    reverse_dtype="float32", call={"reverse": True}, bfloat16=False)  # fmt: skip
row("Identity", x(2, 4))
row("Masking", np.concatenate([x(2, 3, 4), np.zeros((2, 2, 4), "float32")], 1))
row("Masking", np.ones((2, 3, 4), "float32"), mask_value=1.0)

# ---- activation ----
row("Activation", x(2, 4), activation="relu")
row("Activation", x(2, 4), activation="softmax")
row("ReLU", x(2, 4))
row("ReLU", x(2, 4) * 4, max_value=3.0, negative_slope=0.1, threshold=0.5)
row("LeakyReLU", x(2, 4))
row("LeakyReLU", x(2, 4), negative_slope=0.1)
row("PReLU", x(2, 4, 3))
row("PReLU", x(2, 4, 4, 3), shared_axes=[1, 2], alpha_initializer="ones")
row("ELU", x(2, 4), alpha=0.5)
row("Softmax", x(2, 4))
row("Softmax", x(2, 3, 4), axis=[1, 2])
row("Softmax", x(2, 3, 4), axis=1)
row("Softmax", x(2, 4), call={"mask": mask(2, 4)})

# ---- normalization ----
row("LayerNormalization", x(2, 5, 4))
row("LayerNormalization", x(2, 5, 4), axis=[1, 2], epsilon=1e-5)
row("LayerNormalization", x(2, 5, 4), axis=1, center=False)
row("LayerNormalization", x(2, 5, 4), scale=False)
row("RMSNormalization", x(2, 5, 4))
row("RMSNormalization", x(2, 5, 4), axis=[1, 2])
row("UnitNormalization", x(2, 5, 4))
row("UnitNormalization", x(2, 5, 4), axis=[1, 2])
row("GroupNormalization", x(2, 3, 3, 6), groups=3)
row("GroupNormalization", x(2, 6, 5), groups=2, axis=1, scale=False)
row("GroupNormalization", x(2, 5, 4), groups=-1, center=False)
row("BatchNormalization", x(6, 4))
row("BatchNormalization", x(2, 5, 4, 3), momentum=0.7, epsilon=1e-4, scale=False)
row("BatchNormalization", x(2, 3, 5), axis=1, center=False)
row("BatchNormalization", x(2, 5, 4), call={"mask": mask(2, 5)})
row("BatchNormalization", x(6, 4), renorm=True, renorm_clipping={"rmax": 2.0, "dmax": 1.0})
row("BatchNormalization", x(6, 4), trainable=False)

# ---- regularization: training is random, and compared between backends elsewhere ----
row("Dropout", x(2, 4), rate=0.5, seed=3, training=False)
row("Dropout", x(2, 4), rate=0.0, noise_shape=[2, 1])
row("SpatialDropout1D", x(2, 5, 4), rate=0.5, training=False)
row("SpatialDropout2D", x(2, 3, 5, 4), rate=0.5, seed=1, training=False)
row("SpatialDropout3D", x(2, 3, 2, 2, 4), rate=0.5, data_format="channels_first", training=False)
row("GaussianDropout", x(2, 4), rate=0.5, training=False)
row("GaussianNoise", x(2, 4), stddev=0.5, training=False)
row("AlphaDropout", x(2, 4), rate=0.5, training=False)
row("ActivityRegularization", x(2, 4), l1=0.1, l2=0.2)

# ---- reshaping ----
row("Flatten", x(2, 3, 4))
row("Flatten", x(2, 3, 4, 5), data_format="channels_first")
row("Flatten", x(3))
row("Reshape", x(2, 3, 4), target_shape=(6, 2))
row("Reshape", x(2, 3, 4), target_shape=(-1, 2))
row("Permute", x(2, 3, 4, 5), dims=(3, 1, 2))
row("RepeatVector", x(2, 4), n=3)
row("ZeroPadding1D", x(2, 3, 4), padding=(1, 2))
row("ZeroPadding1D", x(2, 3, 4), padding=1, data_format="channels_first")
row("ZeroPadding2D", x(2, 3, 4, 2), padding=((1, 2), (0, 3)))
row("ZeroPadding2D", x(2, 3, 4, 2), padding=(1, 2), data_format="channels_first")
row("ZeroPadding3D", x(1, 2, 3, 4, 2), padding=1)
row("Cropping1D", x(2, 5, 4), cropping=(1, 2))
row("Cropping2D", x(2, 5, 6, 3), cropping=((1, 0), (2, 1)))
row("Cropping2D", x(2, 3, 5, 6), cropping=(1, 2), data_format="channels_first")
row("Cropping3D", x(1, 4, 5, 6, 2))
row("UpSampling1D", x(2, 3, 4), size=3)
row("UpSampling2D", x(2, 3, 4, 2), size=(2, 3))
row("UpSampling2D", x(2, 3, 4, 2), size=2, data_format="channels_first")
row("UpSampling2D", x(2, 3, 4, 2), size=2, interpolation="bilinear")
row(
    "UpSampling2D",
    x(2, 3, 4, 5),
    size=(3, 2),
    interpolation="bilinear",
    data_format="channels_first",
)
row("UpSampling3D", x(1, 2, 3, 4, 2), size=(1, 2, 2))

# ---- pooling ----
for kind in ("Max", "Average"):
    row(f"{kind}Pooling1D", x(2, 7, 3), pool_size=3)
    row(f"{kind}Pooling1D", x(2, 7, 3), pool_size=3, strides=2, padding="same")
    row(f"{kind}Pooling2D", x(2, 6, 7, 3), pool_size=2)
    row(f"{kind}Pooling2D", x(2, 6, 7, 3), pool_size=(3, 2), strides=(2, 1), padding="same")
    row(f"{kind}Pooling3D", x(1, 4, 5, 4, 2), pool_size=2)
    for rank in (1, 2, 3):
        shape = (2, *(4, 3, 2)[:rank], 3)
        row(f"Global{kind}Pooling{rank}D", x(*shape), keepdims=rank == 2)
    row(f"Global{kind}Pooling2D", x(2, 3, 4, 5), data_format="channels_first")
    row(f"Adaptive{kind}Pooling1D", x(2, 7, 3), output_size=3)
    row(f"Adaptive{kind}Pooling2D", x(2, 5, 6, 3), output_size=(2, 4))
    row(f"Adaptive{kind}Pooling3D", x(1, 4, 3, 2, 2), output_size=2)
row("GlobalAveragePooling1D", x(2, 5, 3), call={"mask": mask(2, 5)})

# ---- convolution ----
row("Conv1D", x(2, 8, 3), filters=4, kernel_size=3, activation="relu")
row("Conv1D", x(2, 8, 3), filters=4, kernel_size=3, padding="causal", dilation_rate=2)
row("Conv1D", x(2, 8, 4), filters=4, kernel_size=2, strides=2, padding="same", groups=2)
row("Conv2D", x(2, 7, 8, 3), filters=4, kernel_size=3, rtol=3e-5)
row("Conv2D", x(2, 7, 8, 3), filters=4, kernel_size=(3, 2), strides=(2, 1), padding="same",
    use_bias=False)  # fmt: skip
row("Conv2D", x(2, 7, 8, 4), filters=6, kernel_size=3, groups=2, dilation_rate=2,
    kernel_regularizer="l2")  # fmt: skip
row("Conv2D", x(2, 7, 8, 3), filters=4, kernel_size=2, lora_rank=2)
row("Conv3D", x(1, 4, 5, 4, 2), filters=3, kernel_size=2, strides=2)
row("DepthwiseConv1D", x(2, 8, 3), kernel_size=3, depth_multiplier=2)
row("DepthwiseConv2D", x(2, 7, 8, 3), kernel_size=3, padding="same", depth_multiplier=2,
    depthwise_constraint="non_neg")  # fmt: skip
row("DepthwiseConv2D", x(2, 7, 8, 3), kernel_size=3, strides=2, activation="relu")
row("SeparableConv1D", x(2, 8, 3), filters=4, kernel_size=3, depth_multiplier=2)
row("SeparableConv2D", x(2, 7, 8, 3), filters=4, kernel_size=3, padding="same")
row("Conv1DTranspose", x(2, 5, 3), filters=4, kernel_size=3, strides=2)
row("Conv2DTranspose", x(2, 4, 5, 3), filters=4, kernel_size=3, strides=2, padding="same")
row("Conv2DTranspose", x(2, 4, 5, 3), filters=4, kernel_size=3, strides=2, output_padding=1)
row("Conv3DTranspose", x(1, 2, 3, 2, 2), filters=3, kernel_size=2, strides=2)

# ---- merging ----
for name in ("Add", "Multiply", "Average", "Maximum", "Minimum"):
    row(name, [x(2, 3), x(2, 3, seed=1), x(2, 3, seed=2)])
    row(name, [x(2, 3, 4), x(2, 4)])
row("Subtract", [x(2, 3), x(2, 3, seed=1)])
row("Concatenate", [x(2, 3), x(2, 4)])
row("Concatenate", [x(2, 3, 4), x(2, 2, 4)], axis=1)
row("Dot", [x(2, 3), x(2, 3, seed=1)], axes=1)
row("Dot", [x(2, 3, 5), x(2, 4, 3)], axes=(1, 2), normalize=True)
row("Dot", [x(2, 3, 4, 5), x(2, 6, 5)], axes=-1)

# ---- attention ----
Q, V = x(2, 4, 8), x(2, 5, 8)
row("MultiHeadAttention", Q, V, num_heads=2, key_dim=3)
row("MultiHeadAttention", Q, x(2, 5, 6), num_heads=2, key_dim=3, value_dim=4, output_shape=7,
    use_bias=False)  # fmt: skip
row("MultiHeadAttention", Q, V, x(2, 5, 8, seed=1), num_heads=2, key_dim=3,
    call={"attention_mask": mask(2, 4, 5)})  # fmt: skip
row("MultiHeadAttention", Q, Q, num_heads=2, key_dim=3, call={"use_causal_mask": True})
row("MultiHeadAttention", Q, Q, num_heads=2, key_dim=3, sliding_window=2, use_gate=True)
row("MultiHeadAttention", Q, V, num_heads=2, key_dim=3,
    call={"return_attention_scores": True, "attention_mask": mask(4, 5)})  # fmt: skip
row("MultiHeadAttention", Q, V, num_heads=2, key_dim=3, dropout=0.5, seed=1, training=False)
row(
    "MultiHeadAttention",
    x(2, 3, 4, 8),
    x(2, 3, 5, 8),
    num_heads=2,
    key_dim=3,
    attention_axes=2,
)
row("MultiHeadAttention", x(2, 3, 4, 6), x(2, 2, 5, 6), num_heads=2, key_dim=3)
row("GroupQueryAttention", Q, V, head_dim=3, num_query_heads=4, num_key_value_heads=2)
row("GroupQueryAttention", Q, V, head_dim=3, num_query_heads=4, num_key_value_heads=2,
    use_gate=True, call={"return_attention_scores": True})  # fmt: skip
row("GroupQueryAttention", Q, Q, head_dim=3, num_query_heads=4, num_key_value_heads=2,
    sliding_window=2, use_bias=False, call={"use_causal_mask": True})  # fmt: skip
row("Attention", [Q, V])
row("Attention", [Q, V, x(2, 5, 8, seed=1)], use_scale=True,
    call={"return_attention_scores": True})  # fmt: skip
row("Attention", [Q, V], score_mode="concat", use_scale=True, call={"use_causal_mask": True})
row("AdditiveAttention", [Q, V])
row("AdditiveAttention", [Q, V], use_scale=False)

# ---- preprocessing ----
row("MelSpectrogram", x(2, 400), fft_length=64, sequence_stride=32, num_mel_bins=6)
row("MelSpectrogram", x(3, 300), fft_length=64, sequence_length=50, window="hamming",
    max_freq=3000, sampling_rate=8000, num_mel_bins=5, power_to_db=False, mag_exp=1.5)  # fmt: skip
row("STFTSpectrogram", x(2, 40, 3), frame_length=10, mode="psd", expand_dims=True)
row("STFTSpectrogram", x(2, 40, 2), frame_length=16, frame_step=5, padding="same", mode="stft",
    scaling="spectrum", periodic=True)  # fmt: skip
row("STFTSpectrogram", x(2, 40, 2), frame_length=12, fft_length=32, window=None, scaling=None,
    mode="magnitude")  # fmt: skip
row("STFTSpectrogram", x(2, 40, 1), frame_length=16, mode="imag", window="hamming")
row("Rescaling", ids(2, 3, 4, high=255), scale=1 / 255)
row("Rescaling", x(2, 3, 4), scale=[1.0, 2.0, 3.0, 4.0], offset=-1.0)
row("Normalization", x(2, 3, 4), mean=0.5, variance=2.0)
row("Normalization", x(2, 3, 4), mean=[1.0, 2.0, 3.0, 4.0], variance=[1.0, 2.0, 0.0, 4.0])
row("Normalization", x(2, 3, 4), axis=(1, -1), mean=[[1.0], [2.0], [3.0]],
    variance=[[4.0], [5.0], [6.0]], invert=True)  # fmt: skip
row("Normalization", ids(2, 3), axis=None, mean=3, variance=2)
