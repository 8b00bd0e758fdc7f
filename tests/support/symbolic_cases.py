"""Calls with unknown sizes: ops and layers, whose symbolic results are compared with Keras's."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Sym:
    """The shape and dtype of a symbolic argument."""

    shape: tuple
    dtype: str = "float32"

    def __repr__(self):
        return str(self.shape).replace(" ", "")


@dataclass(frozen=True, eq=False)
class Call:
    """A row: an op, or a layer, and what it is called with.

    Args:
        name: the op's name in `ops`, or the layer's in `layers`.
        args: of the op, or of the call of the layer.
        kwargs: of the op, or of the layer's constructor.
    """

    name: str
    args: tuple
    kwargs: dict = field(default_factory=dict)

    @property
    def id(self):
        kwargs = "".join(f"-{k}={v}" for k, v in self.kwargs.items())
        return f"{self.name}-{'-'.join(map(repr, self.args))}{kwargs}".replace(" ", "")


def f(*shape):
    return Sym(shape)


def i(*shape):
    return Sym(shape, "int32")


def b(*shape):
    return Sym(shape, "bool")


def call(name, *args, **kwargs):
    return Call(name, args, kwargs)


# 120, 60 and 24 are sizes that stand for unknown ones in a probe.
OPS = [
    call("add", f(None, 3), f(2, None)), call("add", f(None, 3), f(2, 3)),
    call("add", f(None, 3), f(None, 1)), call("add", f(None, None), f(2, 3)),
    call("add", f(2, None), f(None, 3)), call("add", f(None, 3), f(120, 3)),
    call("multiply", f(None, 120), f(120, None)), call("maximum", f(None, 60), f(60)),
    call("maximum", f(None, 24), f(24, None)), call("where", b(None, 3), f(2, None), f(3)),
    call("logical_and", b(None, 3), b(2, None)), call("arctan2", f(None, 3), f(2, None)),
    call("matmul", f(None, 3), f(3, None)), call("matmul", f(None, None), f(3, 4)),
    call("matmul", f(None, 4, None), f(None, 4)), call("matmul", f(None, 2, None), f(None, None, 5)),
    call("dot", f(None, None), f(3, 4)), call("tensordot", f(None, 3, 4), f(None, 4, 5), axes=2),
    call("einsum", "bij,bjk->bik", f(None, None, 3), f(2, None, 4)),
    call("einsum", "ij,jk->ik", f(None, 3), f(None, 4)), call("outer", f(None), f(3)),
    call("kron", f(None, 2), f(3, None)), call("cross", f(None, 3), f(2, 3)),
    call("reshape", f(None, None), (3, 5)), call("reshape", f(None), (3, 5)),
    call("reshape", f(None, 3), (-1, 7)), call("reshape", f(None, None), (2, -1)),
    call("reshape", f(2, None, 3), (2, 4, 3)), call("reshape", f(None, 120), (-1, 60)),
    call("vstack", [f(None, 3), f(2, None)]), call("hstack", [f(None, 3), f(2, None)]),
    call("concatenate", [f(None, 3), f(2, None)], axis=0),
    call("concatenate", [f(None, 3), f(2, None)], axis=1),
    call("stack", [f(None, 3), f(2, None)]), call("stack", [f(None, 3), f(2, None)], axis=-1),
    call("unstack", f(None, 3), num=2), call("unstack", f(2, None)),
    call("unstack", f(2, None), num=3, axis=1), call("unstack", f(None, 3)),
    call("split", f(None, 6), 3, axis=1), call("split", f(None, 6), 3, axis=0),
    call("split", f(None, 6), [2, 4], axis=0), call("array_split", f(None, 6), 4, axis=1),
    call("conv", f(None, 8, 8, None), f(3, 3, 4, 5)), call("conv", f(2, None, 3), f(3, 3, None)),
    call("conv", f(None, None, None, 3), f(3, 3, 3, 5), padding="same", strides=2),
    call("conv", f(None, 8, 8, 3), f(3, 3, None, None)),
    call("conv", f(None, None, 8, None), f(3, 3, 4, 5), strides=2),
    call("conv_transpose", f(None, None, 8, None), f(3, 3, 5, 3), strides=2, padding="same"),
    call("depthwise_conv", f(None, 8, None, 3), f(3, 3, 3, 2)),
    call("separable_conv", f(None, 8, None, 3), f(3, 3, 3, 2), f(1, 1, 6, 4)),
    call("max_pool", f(None, None, 8, 3), 2, 2), call("average_pool", f(None, None, None), 3, 2),
    call("slice", f(None, 5), (0, 1), (3, 2)), call("slice", f(None, 5), (0, 1), (3, -1)),
    call("slice", f(None, 5), (0, 1), (-1, -1)), call("slice", f(5, 5), (1, 1), (-1, -1)),
    call("slice", f(5, 5), i(2), (2, 2)), call("slice", f(5, 5), i(2), (2, -1)),
    call("slice_update", f(None, 5), (0, 1), f(2, 2)), call("take", f(None, 5), i(None, 3), axis=0),
    call("take_along_axis", f(None, 5), i(None, 2), axis=1), call("sum", f(None, None), axis=1),
    call("mean", f(None, 3, None), axis=(0, 2), keepdims=True), call("cumsum", f(None, None)),
    call("median", f(None, 4), axis=1), call("transpose", f(None, 3, None)),
    call("squeeze", f(None, 1)), call("expand_dims", f(None, 3), (0, -1)),
    call("broadcast_to", f(None, None), (2, 4, 3)), call("broadcast_to", f(None, 3), (4, 3)),
    call("repeat", f(None, 3), 2, axis=0), call("repeat", f(None, 3), [1, 2, 3], axis=1),
    call("tile", f(None, None), (2, 1, 3)), call("pad", f(None, 3), ((1, 1), (0, 2))),
    call("diagonal", f(None, 3)), call("diag", f(None, 3)), call("diag", f(None)),
    call("meshgrid", f(None), f(3)), call("one_hot", i(None, None), 5, axis=1),
    call("top_k", f(None, None), 200), call("bincount", i(None, 3)), call("unique", i(None)),
    call("layer_normalization", f(None, 3), f(None), f(3)),
    call("rms_normalization", f(None, 3), f(3)), call("glu", f(None, 6)),
    call("ctc_loss", i(None, 3), f(None, 7, 5), i(None), i(None)),
    call("ctc_loss", i(2, 3), f(2, None, 5), i(2), i(2)),
    call("dot_product_attention", f(None, None, 2, 4), f(None, 6, 2, 4), f(None, None, 2, 4)),
    call("image.resize", f(None, None, None, 3), (4, 5)), call("stft", f(None), 200, 16, 256),
    call("image.resize", f(None, 8, 8, None), (4, 5)),
    call("image.extract_patches", f(None, None, 8, 3), 4),
    call("extract_sequences", f(None, None), 300, 2), call("rfft", f(None, None)),
    call("segment_sum", f(None, 2), i(None)), call("segment_max", f(5, None), i(5)),
    call("segment_sum", f(None, 2), i(5), num_segments=4),
    call("scatter_update", f(None, 4), i(3, 1), f(3, None)), call("cholesky", f(None, None, None)),
    call("solve", f(None, 3, 3), f(None, 3, None)), call("svd", f(None, 3, 4)),
    call("select", [b(None, 3), b(2, None)], [f(None, 3), f(2, None)], 0.0),
    call("average", f(None, 3), axis=0, weights=f(None)), call("linspace", f(None, 3), f(2, None), 5),
]  # fmt: skip

LAYERS = [
    call("Reshape", f(None, None), target_shape=(3, 5)), call("Dense", f(None, None, 3), units=4),
    call("Reshape", f(None, None, 5), target_shape=(-1, 15)),
    call("Reshape", f(2, None), target_shape=(3, 5)), call("Flatten", f(None, None, 3)),
    call("Add", [f(None, None, 4), f(None, 7, None)]), call("Add", [f(2, None), f(None, 3)]),
    call("Multiply", [f(None, None, 4), f(None, 1, 4)]), call("Permute", f(None, None, 3), dims=(2, 1)),
    call("Concatenate", [f(None, None, 4), f(None, 7, 4)]),
    call("Concatenate", [f(None, None, 4), f(None, 7, 4)], axis=1),
    call("Dot", [f(None, None, 4), f(None, 7, 4)], axes=2),
    call("Conv1D", f(None, None, 3), filters=4, kernel_size=3, strides=2),
    call("Conv2D", f(None, None, 8, 3), filters=4, kernel_size=3, padding="same"),
    call("Conv2DTranspose", f(None, None, 8, 3), filters=4, kernel_size=3, strides=2),
    call("MaxPooling2D", f(None, None, 9, 3)), call("GlobalAveragePooling2D", f(None, None, None, 3)),
    call("UpSampling2D", f(None, None, 8, 3)), call("ZeroPadding2D", f(None, None, 8, 3), padding=1),
    call("Cropping1D", f(None, None, 3), cropping=2), call("RepeatVector", f(None, 3), n=4),
    call("Embedding", i(None, None), input_dim=5, output_dim=3),
    call("LayerNormalization", f(None, None, 3)), call("BatchNormalization", f(2, None, 3)),
    call("MultiHeadAttention", f(None, None, 4), f(None, 6, 4), num_heads=2, key_dim=3),
    call("Attention", [f(None, None, 4), f(None, 6, 4)]),
    call("EinsumDense", f(None, None, 3), equation="abc,cd->abd", output_shape=(None, 4)),
    call("Softmax", f(None, None)), call("ReLU", f(None, None, None)),
    call("GroupNormalization", f(None, None, 6), groups=3),
]  # fmt: skip
