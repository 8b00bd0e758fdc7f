"""ResNet and ResNet V2 (He et al., 2015, arXiv:1512.03385; 2016, arXiv:1603.05027).

The networks of Keras, timm and transformers differ. Keras's V1 has biases and the stride in the
first convolution of a bottleneck; timm and transformers have no biases and the stride in the 3 x 3
convolution ("V1.5"). Keras's V2 has the stride in the last block of a stage, timm in the first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hub.models.applications.frame import activate, application, batch_norm
from keraslite import layers


@dataclass(frozen=True)
class Layout:
    """How the blocks of a ResNet are laid out.

    Attributes:
        filters: of the 3 x 3 convolutions of each stage.
        blocks: of each stage.
        bottleneck: whether a block is 1 x 1, 3 x 3, 1 x 1, rather than two 3 x 3 convolutions.
        pre_activation: whether normalisation and activation stand before the convolutions (V2).
        use_bias: whether convolutions that are not followed by a normalisation alone have biases.
        epsilon: of the normalisations.
        strided_first_conv: whether the stride is in the first convolution of a bottleneck.
        strided_last_block: whether the stride is in the last block of a stage.
        stem_filters: of the first convolution.
    """

    filters: Sequence[int] = (64, 128, 256, 512)
    blocks: Sequence[int] = (3, 4, 6, 3)
    bottleneck: bool = True
    pre_activation: bool = False
    use_bias: bool = False
    epsilon: float = 1e-5
    strided_first_conv: bool = False
    strided_last_block: bool = False
    stem_filters: int = 64


def features(x: Any, layout: Layout) -> dict[str, Any]:
    """Return the outputs of the stages, P2 to P5, the last of them normalised in V2.

    Args:
        x: images.
        layout: of the blocks.
    """
    v2 = layout.pre_activation
    x = layers.ZeroPadding2D(3, name="conv1_pad")(x)
    x = layers.Conv2D(
        layout.stem_filters, 7, strides=2, use_bias=layout.use_bias, name="conv1_conv"
    )(x)
    if not v2:
        x = _normalize(x, "conv1", layout)
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1_pool")(x)
    pyramid = {}
    for stage, (filters, count) in enumerate(zip(layout.filters, layout.blocks, strict=True)):
        # Keras's V2 halves the size at the end of the first three stages, the others at the start
        # of the last three.
        strided = count if layout.strided_last_block else 1
        halves = stage < len(layout.filters) - 1 if layout.strided_last_block else stage > 0
        for block in range(1, count + 1):
            stride = 2 if halves and block == strided else 1
            name = f"conv{stage + 2}_block{block}"
            x = (_block_v2 if v2 else _block_v1)(x, filters, stride, block == 1, name, layout)
        pyramid[f"P{stage + 2}"] = x
    if v2:
        pyramid[f"P{len(layout.filters) + 1}"] = _normalize(x, "post", layout)
    return pyramid


def _normalize(x: Any, name: str, layout: Layout) -> Any:
    return activate(batch_norm(x, f"{name}_bn", layout.epsilon), f"{name}_relu")


def _convolve(x: Any, filters: int, size: int, stride: int, name: str, **kwargs: Any) -> Any:
    """Convolve, padded on all sides alike where the stride is 2."""
    padding = "same"
    if size > 1 and stride > 1:
        x, padding = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x), "valid"
    return layers.Conv2D(filters, size, stride, padding, name=f"{name}_conv", **kwargs)(x)


def _block_v1(x: Any, filters: int, stride: int, first: bool, name: str, layout: Layout) -> Any:
    """Add the convolutions of a block to its input, or to a projection of it."""
    width = 4 * filters if layout.bottleneck else filters
    sizes = (1, 3, 1) if layout.bottleneck else (3, 3)
    strided = 1 if layout.bottleneck and not layout.strided_first_conv else 0
    shortcut, bias = x, layout.use_bias
    if first and (layout.bottleneck or stride > 1):
        shortcut = _convolve(x, width, 1, stride, f"{name}_0", use_bias=bias)
        shortcut = batch_norm(shortcut, f"{name}_0_bn", layout.epsilon)
    for i, size in enumerate(sizes):
        outputs = width if i == len(sizes) - 1 else filters
        part = f"{name}_{i + 1}"
        x = _convolve(x, outputs, size, stride if i == strided else 1, part, use_bias=bias)
        x = batch_norm(x, f"{part}_bn", layout.epsilon)
        if i < len(sizes) - 1:
            x = activate(x, f"{part}_relu")
    return activate(layers.Add(name=f"{name}_add")([shortcut, x]), f"{name}_out")


def _block_v2(x: Any, filters: int, stride: int, first: bool, name: str, layout: Layout) -> Any:
    """Add the convolutions of a normalised input to the input, or to a projection of it."""
    normalized, bias = _normalize(x, f"{name}_preact", layout), layout.use_bias
    if first:
        shortcut = _convolve(normalized, 4 * filters, 1, stride, f"{name}_0", use_bias=bias)
    else:
        shortcut = layers.MaxPooling2D(1, stride)(x) if stride > 1 else x
    x = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_1_conv")(normalized)
    x = _normalize(x, f"{name}_1", layout)
    x = layers.ZeroPadding2D(1, name=f"{name}_2_pad")(x)
    x = layers.Conv2D(filters, 3, stride, use_bias=False, name=f"{name}_2_conv")(x)
    x = _normalize(x, f"{name}_2", layout)
    x = layers.Conv2D(4 * filters, 1, use_bias=bias, name=f"{name}_3_conv")(x)
    return layers.Add(name=f"{name}_out")([shortcut, x])


# -- applications of Keras ------------------------------------------------------------------------

_DEPTHS = {"50": (3, 4, 6, 3), "101": (3, 4, 23, 3), "152": (3, 8, 36, 3)}


def _application(depth: str, version: str) -> Any:
    layout = Layout(
        blocks=_DEPTHS[depth], pre_activation=version == "V2", use_bias=True, epsilon=1.001e-5,
        strided_first_conv=True, strided_last_block=version == "V2",
    )  # fmt: skip
    return application(f"ResNet{depth}{version}", lambda x: features(x, layout)["P5"])


ResNet50, ResNet101, ResNet152 = (_application(depth, "") for depth in _DEPTHS)
ResNet50V2, ResNet101V2, ResNet152V2 = (_application(depth, "V2") for depth in _DEPTHS)
