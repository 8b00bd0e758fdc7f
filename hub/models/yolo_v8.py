"""YOLOv8 (Jocher et al., 2023): an anchor-free detector in one stage, at three strides.

The backbone is a CSPDarknet (Wang et al., 2020, arXiv:1911.11929) whose blocks keep the output of
every bottleneck ("C2f"), with pooling of growing windows at its end ("SPPF"). The neck aggregates
paths (Liu et al., 2018, arXiv:1803.01534): coarse features go down to fine ones and up again. Boxes
and classes have convolutions of their own; the four distances to the edges of a box are
distributions over 16 bins (Li et al., 2020, arXiv:2006.04388).

Traps of the published checkpoints: they have no config.json, so their sizes are read off the
tensors; strided convolutions are padded on all sides alike; the bottlenecks of the neck add no
shortcut; the pooling is padded with minus infinity, since activations may be negative.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import keraslite as keras
from hub.families import Family, Head, register
from hub.models.applications.frame import activate, batch_norm, padded_conv, require_channels_last
from hub.models.image_backbone import ImageBackbone
from hub.weights.storage import DENSE_AS_CONV
from hub.weights.tables import WeightTable
from keraslite import layers
from keraslite.dtype_policies import dtype_policy_scope

_EPSILON, _MOMENTUM = 1e-3, 0.97  # of the normalizations
_POOL = 5
_BINS = 16  # of the distance from a point to an edge of its box
_LEVELS = {"p3": 8, "p4": 16, "p5": 32}  # with their strides
_USUAL_SIZE, _USUAL_OBJECTS = 640, 5  # of an image, by which the biases of the classes begin
_MOST_SHARED = 100  # channels that a head has for more classes than the finest features have

# Published size -> arguments of the backbone, and the depth of the neck's blocks.
SIZES: dict[str, dict[str, Any]] = {
    name: {"stackwise_channels": channels, "stackwise_depth": depth, "fpn_depth": fpn_depth}
    for name, channels, depth, fpn_depth in (
        ("n", (32, 64, 128, 256), (1, 2, 2, 1), 1),
        ("s", (64, 128, 256, 512), (1, 2, 2, 1), 1),
        ("m", (96, 192, 384, 576), (2, 4, 4, 2), 2),
        ("l", (128, 256, 512, 512), (3, 6, 6, 3), 3),
        ("x", (160, 320, 640, 640), (3, 6, 6, 3), 3),
    )
}


class YOLOV8Backbone(ImageBackbone):
    """CSPDarknet of YOLOv8: images (batch, height, width, channels) to features.

    Args:
        stackwise_channels: the channels of each stage; the stem has half of the first.
        stackwise_depth: the bottlenecks of each stage.
        include_rescaling: whether pixels are from 0 to 255; else from 0 to 1.
        activation: behind every normalization.
        image_shape: of an image.

    Raises:
        ValueError: the two sequences differ in length, or `image_data_format` is not
            "channels_last".

    >>> model = YOLOV8Backbone((4, 8, 8, 8), (1, 1, 1, 1))
    >>> tuple(model(np.ones((1, 64, 64, 3), "float32")).shape), list(model.pyramid_outputs)
    ((1, 2, 2, 8), ['P2', 'P3', 'P4', 'P5'])
    """

    default_family = "yolo_v8"

    def __init__(
        self,
        stackwise_channels: tuple[int, ...],
        stackwise_depth: tuple[int, ...],
        include_rescaling: bool = False,
        activation: str = "swish",
        image_shape: Sequence[int | None] = (None, None, 3),
        **kwargs: Any,
    ):
        self.keep_config(locals())
        require_channels_last("YOLOV8Backbone")
        if len(stackwise_channels) != len(stackwise_depth):
            raise ValueError(
                "stackwise_channels and stackwise_depth must have a number for each stage, got "
                f"{stackwise_channels} and {stackwise_depth}."
            )

        def features(images: Any) -> dict[str, Any]:
            x = layers.Rescaling(1 / 255, name="rescaling")(images) if include_rescaling else images
            width, pyramid = stackwise_channels[0], {}
            x = _convolve(x, width // 2, 3, 2, "stem_1", activation)
            x = _convolve(x, width, 3, 2, "stem_2", activation)
            for i, (width, depth) in enumerate(
                zip(stackwise_channels, stackwise_depth, strict=True), 1
            ):
                if i > 1:
                    x = _convolve(x, width, 3, 2, f"stack{i}_downsample", activation)
                x = _c2f(x, width, depth, f"stack{i}_c2f", activation, adds=True)
                if i == len(stackwise_depth):
                    x = _pool_pyramid(x, "spp_fast", activation)
                pyramid[f"P{i + 1}"] = x
            return pyramid

        super().__init__(features, image_shape, **kwargs)


class YOLOV8Head(layers.Layer):
    """The neck and the heads of YOLOv8: features of three levels to boxes and classes as logits.

    Args:
        num_classes: the number of classes.
        fpn_depth: the bottlenecks of each block of the neck.
        box_channels: of the convolutions that predict boxes; a quarter of those of the finest
            level, and at least 64, by default.
        class_channels: of the convolutions that predict classes; those of the finest level by
            default, and at least the number of classes up to 100.
        activation: behind every normalization.

    Inputs: [P3, P4, P5], each (batch, height, width, channels) at an eighth, a sixteenth and a
    thirty-second of the size of the images. Output: a dict of `boxes` (batch, positions, 64), the
    logits of 16 bins of the distances from a position to the left, top, right and bottom edges,
    in strides; and `classes` (batch, positions, num_classes), logits. Positions are those of P3,
    P4 and P5, each row by row.

    Attributes:
        levels: the names of the levels of features that it reads.
        class_outputs: the paths of the layers that depend on the number of classes.

    >>> head = YOLOV8Head(3, fpn_depth=1)
    >>> out = head([np.ones((1, size, size, 8), "float32") for size in (8, 4, 2)])
    >>> tuple(out["boxes"].shape), tuple(out["classes"].shape)
    ((1, 84, 64), (1, 84, 3))
    """

    levels = ("P3", "P4", "P5")
    class_outputs = tuple(f"network/class_{level}_output" for level in _LEVELS)

    def __init__(
        self,
        num_classes: int,
        fpn_depth: int = 2,
        box_channels: int | None = None,
        class_channels: int | None = None,
        activation: str = "swish",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_classes, self.fpn_depth, self.activation = num_classes, fpn_depth, activation
        self.box_channels, self.class_channels = box_channels, class_channels

    def build(self, input_shape: Sequence[Any]) -> None:
        """Make the layers.

        Args:
            input_shape: of the three levels.
        """
        require_channels_last("YOLOV8Head")
        with dtype_policy_scope(self.dtype_policy):
            features = [
                keras.Input((None, None, shape[-1]), name=level)
                for level, shape in zip(_LEVELS, input_shape, strict=True)
            ]
            self.network = keras.Model(features, self._predict(features), name="network")
        self.built = True

    def _predict(self, features: list[Any]) -> dict[str, Any]:
        """Return the symbolic output for symbolic features."""
        finest = features[0].shape[-1]
        if self.box_channels is None:
            self.box_channels = max(4 * _BINS, finest // 4)
        if self.class_channels is None:
            self.class_channels = max(finest, min(self.num_classes, _MOST_SHARED))
        boxes, classes = [], []
        for (level, stride), x in zip(_LEVELS.items(), self._aggregate(*features), strict=True):
            expected = _USUAL_OBJECTS / self.num_classes / (_USUAL_SIZE / stride) ** 2
            boxes.append(self._branch(x, self.box_channels, 4 * _BINS, f"box_{level}", 1.0))
            classes.append(
                self._branch(
                    x, self.class_channels, self.num_classes, f"class_{level}", math.log(expected)
                )
            )
        outputs = {"boxes": boxes, "classes": classes}
        # Not in half precision, of which the loss needs more digits.
        options = {"axis": 1, "dtype": self.variable_dtype}
        return {name: layers.Concatenate(**options, name=name)(x) for name, x in outputs.items()}

    def _aggregate(self, p3: Any, p4: Any, p5: Any) -> tuple[Any, Any, Any]:
        """Return the features of each level with those of the others in them."""

        def join(coarse_or_fine: Any, own: Any, like: Any, name: str) -> Any:
            x = layers.Concatenate(name=f"{name}_concat")([coarse_or_fine, own])
            return _c2f(x, like.shape[-1], self.fpn_depth, name, self.activation)

        def up(x: Any, name: str) -> Any:
            return layers.UpSampling2D(2, name=name)(x)

        def down(x: Any, name: str) -> Any:
            return _convolve(x, x.shape[-1], 3, 2, name, self.activation)

        top_down = join(up(p5, "upsample_p5"), p4, p4, "top_down_p4")
        out3 = join(up(top_down, "upsample_p4"), p3, p3, "top_down_p3")
        out4 = join(down(out3, "downsample_p3"), top_down, p4, "bottom_up_p4")
        out5 = join(down(out4, "downsample_p4"), p5, p5, "bottom_up_p5")
        return out3, out4, out5

    def _branch(self, x: Any, channels: int, outputs: int, name: str, bias: float) -> Any:
        """Return (batch, positions, outputs) of one level."""
        for i in (1, 2):
            x = _convolve(x, channels, 3, 1, f"{name}_{i}", self.activation)
        x = layers.Reshape((-1, channels), name=f"{name}_reshape")(x)
        bias_initializer = keras.initializers.Constant(bias)
        return layers.Dense(outputs, bias_initializer=bias_initializer, name=f"{name}_output")(x)

    def call(self, features: Sequence[Any], training: bool | None = None) -> dict[str, Any]:
        """Return the logits of boxes and classes.

        Args:
            features: of P3, P4 and P5.
            training: whether normalizations use the statistics of the batch.

        Raises:
            ValueError: a level has not half the size of the one before it.
        """
        sizes = [tuple(x.shape[1:3]) for x in features]
        for fine, coarse in pairwise(sizes):
            pairs = zip(fine, coarse, strict=True)
            if any(None not in pair and pair[0] != 2 * pair[1] for pair in pairs):
                raise ValueError(
                    "Height and width of images must be multiples of 32: each level must have half "
                    f"the size of the one before it, got {sizes}."
                )
        return self.network(list(features), training=training)

    def compute_output_spec(
        self, features: Sequence[Any], training: bool | None = None
    ) -> dict[str, Any]:
        """Return the symbolic output for symbolic features."""
        sizes = [x.shape[1:3] for x in features]
        positions = None if any(None in size for size in sizes) else sum(map(math.prod, sizes))
        return {
            name: keras.KerasTensor((features[0].shape[0], positions, width), self.variable_dtype)
            for name, width in (("boxes", 4 * _BINS), ("classes", self.num_classes))
        }

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        names = ("num_classes", "fpn_depth", "box_channels", "class_channels", "activation")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _convolve(x: Any, filters: int, size: int, stride: int, name: str, activation: Any) -> Any:
    """Convolve, normalise and activate."""
    x = padded_conv(x, filters, size, stride, name, use_bias=False)
    x = batch_norm(x, f"{name}_bn", _EPSILON, momentum=_MOMENTUM)
    return activate(x, f"{name}_act", activation)


def _c2f(x: Any, filters: int, depth: int, name: str, activation: Any, adds: bool = False) -> Any:
    """Project, run one half through bottlenecks, and project all halves and their outputs.

    Args:
        x: features.
        filters: the channels of the output.
        depth: the number of bottlenecks.
        name: the prefix of the layers.
        activation: behind every normalization.
        adds: whether a bottleneck's input is added to its output.
    """
    half = filters // 2
    x = _convolve(x, 2 * half, 1, 1, f"{name}_pre", activation)
    parts, last = [x], x[..., half:]
    for i in range(depth):
        y = _convolve(last, half, 3, 1, f"{name}_{i}_1", activation)
        y = _convolve(y, half, 3, 1, f"{name}_{i}_2", activation)
        last = layers.Add(name=f"{name}_{i}_add")([last, y]) if adds else y
        parts.append(last)
    x = layers.Concatenate(name=f"{name}_parts")(parts)
    return _convolve(x, filters, 1, 1, f"{name}_output", activation)


def _pool_pyramid(x: Any, name: str, activation: Any) -> Any:
    """Join the maxima over windows of 5, 9 and 13, each of them pooled from the one before."""
    filters = x.shape[-1]
    parts = [_convolve(x, filters // 2, 1, 1, f"{name}_pre", activation)]
    for i in (1, 2, 3):
        pool = layers.MaxPooling2D(_POOL, strides=1, padding="same", name=f"{name}_pool{i}")
        parts.append(pool(parts[-1]))
    x = layers.Concatenate(name=f"{name}_parts")(parts)
    return _convolve(x, filters, 1, 1, f"{name}_output", activation)


# -- checkpoints ----------------------------------------------------------------------------------

_DETECT = "model.22"
_BRANCHES = {
    f"{ours}_{level}": f"{_DETECT}.{theirs}.{i}"
    for ours, theirs in (("box", "cv2"), ("class", "cv3"))
    for i, level in enumerate(_LEVELS)
}


def _conv_rows(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}_{part}": f"{theirs}.{part}" for part in ("conv", "bn")}


def _c2f_rows(ours: str, theirs: str) -> dict[str, str]:
    return {
        **_conv_rows(f"{ours}_pre", f"{theirs}.cv1"),
        **_conv_rows(f"{ours}_output", f"{theirs}.cv2"),
        **_conv_rows(f"{ours}_{{j}}_1", f"{theirs}.m.{{j}}.cv1"),
        **_conv_rows(f"{ours}_{{j}}_2", f"{theirs}.m.{{j}}.cv2"),
    }


def _backbone_rows() -> dict[str, str]:
    rows = _conv_rows("stem_1", "model.0") | _conv_rows("stem_2", "model.1")
    for i in (1, 2, 3, 4):
        rows |= _conv_rows(f"stack{i}_downsample", f"model.{2 * i - 1}") if i > 1 else {}
        rows |= _c2f_rows(f"stack{i}_c2f", f"model.{2 * i}")
    rows |= _conv_rows("spp_fast_pre", "model.9.cv1")
    return rows | _conv_rows("spp_fast_output", "model.9.cv2")


def _head_rows() -> dict[str, str]:
    rows = {
        **_c2f_rows("top_down_p4", "model.12"), **_c2f_rows("top_down_p3", "model.15"),
        **_conv_rows("downsample_p3", "model.16"), **_c2f_rows("bottom_up_p4", "model.18"),
        **_conv_rows("downsample_p4", "model.19"), **_c2f_rows("bottom_up_p5", "model.21"),
    }  # fmt: skip
    for ours, theirs in _BRANCHES.items():
        for n in (1, 2):
            rows |= _conv_rows(f"{ours}_{n}", f"{theirs}.{n - 1}")
        rows[f"{ours}_output"] = f"{theirs}.2"
    return {f"head/network/{ours}": theirs for ours, theirs in rows.items()}


# The names of the conversion to safetensors -> those of the authors.
_BLOCKS = {
    r"net\.b1": "model", r"net\.b2\.0": "model.2", r"net\.b2\.1": "model.3",
    r"net\.b2\.2": "model.4", r"net\.b3\.0": "model.5", r"net\.b3\.1": "model.6",
    r"net\.b4\.0": "model.7", r"net\.b4\.1": "model.8", r"net\.b5\.0": "model.9",
    r"fpn\.n1": "model.12", r"fpn\.n2": "model.15", r"fpn\.n3": "model.16",
    r"fpn\.n4": "model.18", r"fpn\.n5": "model.19", r"fpn\.n6": "model.21", "head": _DETECT,
}  # fmt: skip
_CONVERTED = {rf"^{theirs}\.": f"{authors}." for theirs, authors in _BLOCKS.items()} | {
    r"\.bottleneck\.": ".m."
}
_WEIGHTS = WeightTable(_backbone_rows(), renamed=_CONVERTED)
_HEAD_WEIGHTS = WeightTable(
    _head_rows(),
    ignore=(rf"{re.escape(_DETECT)}\.dfl\.conv\.weight",),  # the numbers 0 to 15
    storage={f"head/network/{name}_output/kernel": DENSE_AS_CONV for name in _BRANCHES},
    claims=(r"model\.(12|15|16|18|19|21)\..*", rf"{re.escape(_DETECT)}\.cv[23]\..*"),
)
_ARCHITECTURE = "YOLOV8Detector"


def _config_of_weights(weights: Any) -> dict[str, Any] | None:
    """Return the content of a config.json for a file of the authors' or its conversion.

    Args:
        weights: what `hub.weights.reader` opened.

    Returns:
        The sizes that follow from the shapes, and the names of the classes where the file has them;
        None for the tensors of another architecture.
    """
    weights.rename(_CONVERTED)

    def channels(name: str) -> int:
        return weights.shape(f"{name}.weight")[0]

    def depth(block: int) -> int:
        start = f"model.{block}.m."
        return len({name.split(".")[3] for name in weights if name.startswith(start)})

    ends = [f"model.{2 * i}.cv2.conv" for i in (1, 2, 3, 4)]
    if any(f"{name}.weight" not in weights for name in (*ends, "model.9.cv2.conv")):
        return None
    config: dict[str, Any] = {
        "model_type": "yolo_v8",
        "stackwise_channels": [channels(name) for name in ends],
        "stackwise_depth": [depth(2 * i) for i in (1, 2, 3, 4)],
    }
    if f"{_DETECT}.cv3.0.2.weight" not in weights:
        return config
    return config | {
        "architectures": [_ARCHITECTURE],
        "num_classes": channels(f"{_DETECT}.cv3.0.2"),
        "fpn_depth": depth(12),
        "box_channels": channels(f"{_DETECT}.cv2.0.0.conv"),
        "class_channels": channels(f"{_DETECT}.cv3.0.0.conv"),
        **_class_names(weights.files[0].metadata),
    }


def _class_names(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return `id2label` of what lies beside the tensors of a file; nothing without names."""
    names = json.loads(metadata.get("names", "{}"))
    return {"id2label": names} if names else {}


register(
    Family(
        "yolo_v8", YOLOV8Backbone,
        {
            name: name
            for name in ("stackwise_channels", "stackwise_depth", "include_rescaling", "activation")
        },
        _WEIGHTS, "YOLOV8Backbone", infer=_config_of_weights,
        other_heads=(r"model\.(1[0-9]|2[0-2])\..*",),
        heads={
            "ObjectDetector": Head(_ARCHITECTURE, _HEAD_WEIGHTS, options={"layer": YOLOV8Head})
        },
    )
)  # fmt: skip
