"""The ops of a graph as Keras's files name them: classes, with some arguments in their configs.

Keras writes `ops.sum(x, axis=1)` as the class `Sum` of `keras.src.ops.numpy`, which is made with
`axis` and called with `x`.
"""

import inspect
import re
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from keraslite import activations, tree
from keraslite.naming import to_snake_case
from keraslite.ops.op import TABLE
from keraslite.registry import deserialize_keras_object
from keraslite.symbolic import KerasTensor

# Of each module the classes, with the arguments that they are made with; the others are those of
# the call. The op has the class's name in snake case, unless another stands before it.
_CLASSES = {
    "core": """
        Cast(dtype) SaturateCast(dtype) Scatter(shape) ScatterUpdate(reduction) Slice(shape)
        SliceUpdate StopGradient Unstack(num axis)
    """,
    "einops": """
        Rearrange
    """,
    "image": """
        AffineTransform(interpolation fill_mode fill_value data_format)
        CropImages(top_cropping left_cropping bottom_cropping right_cropping target_height
            target_width data_format)
        ElasticTransform(alpha sigma interpolation fill_mode fill_value seed data_format)
        ExtractPatches(size strides dilation_rate padding data_format)
        GaussianBlur(kernel_size sigma data_format) HSVToRGB(data_format)
        MapCoordinates(order fill_mode fill_value)
        PadImages(top_padding left_padding bottom_padding right_padding target_height
            target_width data_format)
        PerspectiveTransform(interpolation fill_value data_format) RGBToGrayscale(data_format)
        RGBToHSV(data_format)
        Resize(size interpolation antialias crop_to_aspect_ratio pad_to_aspect_ratio
            fill_mode fill_value data_format)
        SSIM(max_val filter_size filter_sigma k1 k2 data_format)
        ScaleAndTranslate(spatial_dims method antialias) SobelEdges(data_format)
    """,
    "linalg": """
        Cholesky(upper) CholeskyInverse(upper) Det Eig Eigh Inv Lstsq(rcond) LuFactor
        MatrixRank(tol) Norm(ord axis keepdims) Pinv(rcond) Qr(mode)
        SVD(full_matrices compute_uv) Solve SolveTriangular(lower)
    """,
    "math": """
        cdist=CDist Erf Erfc Erfinv ExtractSequences(sequence_length sequence_stride) FFT FFT2
        IFFT2 IRFFT(fft_length)
        ISTFT(sequence_length sequence_stride fft_length length window center) InTopK(k) Logdet
        Logsumexp(axis keepdims) RFFT(fft_length) Rsqrt
        STFT(sequence_length sequence_stride fft_length window center)
        SegmentMax(num_segments sorted) SegmentMin(num_segments sorted)
        SegmentProd(num_segments sorted) SegmentSum(num_segments sorted) TopK(k sorted)
        ViewAsComplex ViewAsReal
    """,
    "nn": """
        _batch_normalization=BatchNorm(axis epsilon)
        AdaptiveAveragePool(output_size data_format) AdaptiveMaxPool(output_size data_format)
        AveragePool(pool_size strides padding data_format) BinaryCrossentropy(from_logits)
        CTCDecode(strategy beam_width top_paths merge_repeated mask_index) CTCLoss(mask_index)
        CategoricalCrossentropy(from_logits axis) Celu(alpha)
        Conv(strides padding data_format dilation_rate)
        ConvTranspose(strides padding output_padding data_format dilation_rate)
        DepthToSpace(block_size data_format)
        DepthwiseConv(strides padding data_format dilation_rate)
        DotProductAttention(is_causal flash_attention attn_logits_soft_cap) Elu(alpha)
        Fold(output_size kernel_size dilation padding stride) Gelu(approximate) Glu(axis)
        HardShrink(threshold) HardSigmoid HardSilu HardTanh
        layer_normalization=LayerNorm(axis epsilon rms_scaling) LeakyRelu(negative_slope)
        LogSigmoid LogSoftmax(axis) MaxPool(pool_size strides padding data_format)
        Moments(axes keepdims synchronized) MultiHot(num_classes axis dtype sparse)
        Normalize(axis order epsilon) OneHot(num_classes axis dtype sparse) PSNR(max_val) Polar
        rms_normalization=RMSNorm(axis epsilon) Relu Relu6 Selu
        SeparableConv(strides padding data_format dilation_rate) Sigmoid Silu
        SoftShrink(threshold) Softmax(axis) Softplus Softsign
        SpaceToDepth(block_size data_format) SparseCategoricalCrossentropy(from_logits axis)
        SparsePlus SparseSigmoid Sparsemax(axis) Squareplus(b) TanhShrink
        Threshold(threshold default_value) Unfold(kernel_size dilation padding stride)
    """,
    "numpy": """
        Abs Absolute Add All(axis keepdims) allclose=AllClose(rtol atol equal_nan)
        Amax(axis keepdims) Amin(axis keepdims) Angle Any(axis keepdims) Append(axis)
        Arange(dtype) Arccos Arccosh Arcsin Arcsinh Arctan Arctan2 Arctanh Argmax(axis keepdims)
        Argmin(axis keepdims) Argpartition(kth axis) Argsort(axis)
        ArraySplit(indices_or_sections axis) Average(axis) Bincount(weights minlength sparse)
        BitwiseAnd BitwiseInvert BitwiseLeftShift BitwiseNot BitwiseOr BitwiseRightShift
        BitwiseXor BroadcastTo(shape) Cbrt Ceil Clip(x_min x_max) Concatenate(axis) Conj
        Conjugate Copy Corrcoef Correlate(mode) Cos Cosh CountNonzero(axis)
        Cross(axisa axisb axisc axis) Cumprod(axis dtype) Cumsum(axis dtype) Deg2rad Diag(k)
        Diagflat(k) Diagonal(offset axis1 axis2) Diff(n axis) Digitize Divide DivideNoNan Dot
        Dsplit(indices_or_sections) Dstack Einsum(subscripts) EmptyLike(dtype) Equal Exp Exp2
        ExpandDims(axis) Expm1 Fabs Flip(axis) Fliplr Flipud Floor FloorDivide Fmax Fmin Fmod
        Full(shape dtype) FullLike(dtype) Gcd Geomspace(num endpoint dtype axis) GetItem Greater
        GreaterEqual Heaviside Histogram(bins range) Hsplit(indices_or_sections) Hstack Hypot I0
        Imag Inner isin=IsIn(assume_unique invert) Isclose(equal_nan) Isfinite Isinf Isnan
        Isneginf Isposinf Isreal Kron Lcm Ldexp LeftShift Less LessEqual
        Linspace(num endpoint retstep dtype axis) Log Log10 Log1p Log2 Logaddexp Logaddexp2
        LogicalAnd LogicalNot LogicalOr LogicalXor Logspace(num endpoint base dtype axis) Matmul
        Max(axis keepdims initial) Maximum Mean(axis keepdims) Median(axis keepdims)
        Meshgrid(indexing) Min(axis keepdims initial) Minimum Mod Moveaxis(source destination)
        Multiply NanToNum(nan posinf neginf) Nanargmax(axis keepdims) Nanargmin(axis keepdims)
        Nancumprod(axis dtype) Nancumsum(axis dtype) Nanmax(axis keepdims)
        Nanmean(axis keepdims) Nanmedian(axis keepdims) Nanmin(axis keepdims)
        Nanpercentile(axis method keepdims) Nanprod(axis keepdims)
        Nanquantile(axis method keepdims) Nanstd(axis keepdims) Nansum(axis keepdims)
        Nanvar(axis keepdims) Negative Nextafter Nonzero NotEqual OnesLike(dtype) Outer
        Pad(pad_width mode) Percentile(axis method keepdims) Power Prod(axis keepdims dtype)
        Ptp(axis keepdims) Quantile(axis method keepdims) Rad2deg Ravel Real Reciprocal
        Repeat(repeats axis) Reshape(newshape) RightShift Roll(shift axis) Rot90(k axes)
        Round(decimals) searchsorted=SearchSorted(side) Sign Signbit Sin Sinc Sinh Slogdet
        Sort(axis) Split(indices_or_sections axis) Sqrt Square Squeeze(axis) Stack(axis)
        Std(axis keepdims) Subtract Sum(axis keepdims) Swapaxes(axis1 axis2) Take(axis)
        TakeAlongAxis(axis) Tan Tanh Tensordot(axes) Tile(repeats) Trace(offset axis1 axis2)
        Transpose(axes) Trapezoid(x dx axis) Tril(k) Triu(k) TrueDivide Trunc
        Unique(sorted return_index return_inverse return_counts axis size fill_value)
        UnravelIndex(shape) Vander(N increasing) Var(axis keepdims) Vdot View(dtype)
        Vsplit(indices_or_sections) Vstack Where ZerosLike(dtype)
    """,
}
_MODULE = "keras.src.ops."
# A function of activations stands for this one.
_RELU = ("keras.src.activations.activations", "ReLU")
_RELU_ARGUMENTS = ("negative_slope", "max_value", "threshold")


class _KerasOp(NamedTuple):
    """The class of an op in Keras."""

    op: str
    module: str
    name: str
    made_with: tuple[str, ...]


@cache
def _table() -> tuple[_KerasOp, ...]:
    rows = []
    for module, text in _CLASSES.items():
        for own, name, arguments in re.findall(r"(?:(\w+)=)?(\w+)(?:\(([^)]*)\))?", text):
            op = own or to_snake_case(name)
            rows.append(_KerasOp(op, _MODULE + module, name, tuple(arguments.split())))
    return tuple(rows)


@cache
def _by_op() -> dict[str, _KerasOp]:
    return {row.op: row for row in _table()}


@cache
def _by_class() -> dict[tuple[str, str], _KerasOp]:
    return {(row.module, row.name): row for row in _table()}


def keras_call(op: str, args: tuple, kwargs: dict[str, Any]) -> tuple[dict[str, Any], list] | None:
    """Return the call of an op as Keras writes it: what the class is, and what it is called with.

    Args:
        op: the name of the op.
        args: its arguments.
        kwargs: those by keyword.

    Returns:
        The module, class, config and registered name as a dict, and the arguments of the call;
        None if Keras has no class for it.

    >>> entry, args = keras_call("sum", ("x",), {"axis": 1})
    >>> entry["class_name"], entry["config"], args
    ('Sum', {'axis': 1, 'keepdims': False}, ['x'])
    """
    row = _by_op().get(op)
    if row is None:
        return None
    signature = inspect.signature(TABLE[op].body)
    bound = signature.bind(*args, **kwargs).arguments
    last = max((i for i, n in enumerate(signature.parameters) if n in bound), default=-1)
    config: dict[str, Any] = {}
    call: list[Any] = []
    for i, (name, parameter) in enumerate(signature.parameters.items()):
        value = bound.get(name, parameter.default)
        if name in row.made_with:
            config[name] = value
        elif parameter.kind is parameter.VAR_POSITIONAL:
            call += bound.get(name, ())
        elif parameter.kind is parameter.VAR_KEYWORD:
            if bound.get(name):
                return None
        elif i <= last:
            call.append(value)
    if any(isinstance(x, KerasTensor) for x in tree.flatten(config)):
        return None
    entry = {"module": row.module, "class_name": row.name, "config": config,
             "registered_name": row.name}  # fmt: skip
    return entry, call


def keras_op(entry: dict[str, Any]) -> Callable | None:
    """Return the function of the entry of an op in a config of Keras; None if it is of none.

    Args:
        entry: with module, class_name and config.

    Raises:
        ValueError: the op is unknown, or its config has other arguments than Keras writes.
    """
    place = entry.get("module"), entry.get("class_name")
    if place == _RELU:
        config = _config(entry, _RELU_ARGUMENTS)
        return lambda x: activations.relu(x, **config)
    if not isinstance(place[0], str) or not place[0].startswith(_MODULE):
        return None
    row = _by_class().get(place)
    if row is None:
        raise ValueError(f"Unknown op {place[1]!r:.60} of {place[0]!r:.60} in a model's config.")
    config = _config(entry, row.made_with)
    parameters = inspect.signature(TABLE[row.op].body).parameters.values()
    names = [p.name for p in parameters if p.name not in row.made_with]
    in_front = ()  # what stands before a variable number of arguments
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        in_front = [config.pop(p.name) for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD
                    and p.name in config]  # fmt: skip
        names = []

    def call(*args: Any, **kwargs: Any) -> Any:
        if row.op == "get_item" and isinstance(args[-1], list):
            args = (*args[:-1], tuple(args[-1]))  # JSON has no tuples
        if not names:
            return TABLE[row.op].call(*in_front, *args, **config, **kwargs)
        return TABLE[row.op].call(**dict(zip(names, args, strict=False)), **config, **kwargs)

    return call


def _config(entry: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    config = {k: v for k, v in entry["config"].items() if k in names or k not in ("name", "dtype")}
    unknown = sorted(set(config) - set(names))
    if unknown:
        raise ValueError(f"The op {entry['class_name']!r} takes no arguments {unknown!r:.200}.")
    return {k: deserialize_keras_object(v) for k, v in config.items()}
