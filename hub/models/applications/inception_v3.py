"""Inception V3 (Szegedy et al., 2015, arXiv:1512.00567): convolutions side by side, concatenated.

The networks of Keras and timm differ: timm's normalisations have a scale, and its averages near the
borders of images count the zeros around them. What Inception-ResNet V2 has in common with Keras's
stands here as well.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import count
from typing import Any

from hub.families import Family, Head, register
from hub.models.applications.frame import (
    activate,
    application,
    batch_norm,
    channel_axis,
    unnamed_pool,
)
from hub.models.image_backbone import ImageBackbone, timm_arguments, timm_config
from hub.weights.tables import WeightTable
from keraslite import layers

Branch = Sequence[Any]  # of steps: (filters, kernel size), with a stride of 2, "average" or "max"


def convolve(
    x: Any, filters: int, size: Any, strides: int = 1, padding: str = "same",
    name: str | None = None, **kwargs: Any,
) -> Any:  # fmt: skip
    """Convolve, normalise without a scale, and activate.

    Args:
        x: images.
        filters: of the convolution.
        size: of its kernel.
        strides: of the convolution.
        padding: of the convolution.
        name: of the convolution, and the prefix of the other layers; numbers where it is None.
        kwargs: further arguments of the normalisation.
    """
    x = layers.Conv2D(filters, size, strides, padding, use_bias=False, name=name)(x)
    x = batch_norm(x, name and f"{name}_bn", **{"scale": False, **kwargs})
    return activate(x, name and f"{name}_ac")


def average(x: Any) -> Any:
    """Return the averages of 3 x 3 values, of those inside the image alone.

    Args:
        x: images.
    """
    return layers.AveragePooling2D(3, strides=1, padding="same")(x)


def stem(x: Any, convolve: Callable[..., Any] = convolve) -> Any:
    """Return features at a quarter of the image's size, before they are pooled for the branches.

    Args:
        x: images.
        convolve: a function as `convolve`.
    """
    x = convolve(x, 32, 3, 2, "valid")
    x = convolve(x, 32, 3, padding="valid")
    x = convolve(x, 64, 3)
    x = layers.MaxPooling2D(3, strides=2)(x)
    x = convolve(x, 80, 1, padding="valid")
    return convolve(x, 192, 3, padding="valid")


def run(
    x: Any,
    branch: Branch,
    convolve: Callable[..., Any] = convolve,
    average: Callable[[Any], Any] = average,
) -> Any:
    """Return the output of one branch.

    Args:
        x: images.
        branch: its steps.
        convolve: a function as `convolve`.
        average: a function as `average`.
    """
    for step in branch:
        if step == "average":
            x = average(x)
        elif step == "max":
            x = layers.MaxPooling2D(3, strides=2)(x)
        else:
            filters, size, *strides = step
            x = convolve(x, filters, size, *strides, padding="valid" if strides else "same")
    return x


def mixed(x: Any, branches: Iterable[Branch], name: str | None, **functions: Any) -> Any:
    """Concatenate the outputs of branches side by side.

    Args:
        x: images.
        branches: each a sequence of steps.
        name: of the concatenation.
        functions: those of `run`.
    """
    outputs = [run(x, branch, **functions) for branch in branches]
    return layers.Concatenate(channel_axis(), name=name)(outputs)


def _square(pooled: int) -> list[Branch]:
    return [
        [(64, 1)], [(48, 1), (64, 5)], [(64, 1), (96, 3), (96, 3)], ["average", (pooled, 1)],
    ]  # fmt: skip


def _factorized(inner: int) -> list[Branch]:
    """Return branches whose kernels of 7 x 7 are split in rows and columns."""
    row, column = (1, 7), (7, 1)
    return [
        [(192, 1)],
        [(inner, 1), (inner, row), (192, column)],
        [(inner, 1), (inner, column), (inner, row), (inner, column), (192, row)],
        ["average", (192, 1)],
    ]


_MIXED: list[list[Branch]] = [
    _square(32), _square(64), _square(64),
    [[(384, 3, 2)], [(64, 1), (96, 3), (96, 3, 2)], ["max"]],
    _factorized(128), _factorized(160), _factorized(160), _factorized(192),
    [[(192, 1), (320, 3, 2)], [(192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2)], ["max"]],
]  # fmt: skip


def features(
    x: Any, convolve: Callable[..., Any] = convolve, average: Callable[[Any], Any] = average
) -> dict[str, Any]:
    """Return the outputs of the last branches of each size, P2 to P5.

    Args:
        x: images.
        convolve: a function as `convolve`.
        average: a function as `average`.
    """
    functions = {"convolve": convolve, "average": average}
    pyramid = {"P2": stem(x, convolve)}
    x = layers.MaxPooling2D(3, strides=2)(pyramid["P2"])
    for i, branches in enumerate(_MIXED):
        if ["max"] in branches:
            pyramid[f"P{len(pyramid) + 2}"] = x
        x = mixed(x, branches, f"mixed{i}", **functions)
    for i in range(2):
        parts = [run(x, [(320, 1)], **functions)]
        for steps, name in (([(384, 1)], f"mixed9_{i}"), ([(448, 1), (384, 3)], None)):
            inner = run(x, steps, **functions)
            parts.append(mixed(inner, [[(384, (1, 3))], [(384, (3, 1))]], name, **functions))
        parts.append(run(x, ["average", (192, 1)], **functions))
        x = layers.Concatenate(channel_axis(), name=f"mixed{9 + i}")(parts)
    return {**pyramid, "P5": x}


# -- the application of Keras ---------------------------------------------------------------------

InceptionV3 = application(
    "InceptionV3", lambda x: features(x)["P5"], model_name="inception_v3", default_size=299,
    min_size=75, pooled=unnamed_pool,
)  # fmt: skip


# -- the backbone ---------------------------------------------------------------------------------


class InceptionV3Backbone(ImageBackbone):
    """Inception V3 without a classifier: images (batch, height, width, channels) to features.

    Args:
        epsilon: of the normalisations.
        count_padding: whether averages near the borders of images count the zeros around them, as
            in PyTorch.
        image_shape: of an image, of 75 x 75 pixels or more.

    >>> InceptionV3Backbone(image_shape=(75, 75, 3)).output_shape
    (None, 1, 1, 2048)
    """

    default_family = "timm_inception_v3"

    def __init__(
        self,
        epsilon: float = 1e-3,
        count_padding: bool = True,
        image_shape: Sequence[int | None] = (None, None, 3),
        **kwargs: Any,
    ):
        self.keep_config(locals())
        numbers = count(1)

        def numbered(*args: Any, **options: Any) -> Any:
            norm = {"scale": True, "epsilon": epsilon, "momentum": 0.9}
            return convolve(*args, name=f"conv{next(numbers)}", **options, **norm)

        averages = _average_with_zeros if count_padding else average
        super().__init__(lambda x: features(x, numbered, averages), image_shape, **kwargs)


def _average_with_zeros(x: Any) -> Any:
    return layers.AveragePooling2D(3, strides=1)(layers.ZeroPadding2D(1)(x))


# -- checkpoints ----------------------------------------------------------------------------------

_VARIANTS = {"inception_v3": {"epsilon": 1e-3, "count_padding": True}}
_STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
# The numbers of the convolutions of the branches of each group of blocks; those of a single one
# have none.
_BRANCHES: list[tuple[Sequence[str], dict[str, Sequence[str]]]] = [
    (
        ("5b", "5c", "5d"),
        {"branch1x1": "", "branch5x5": "12", "branch3x3dbl": "123", "branch_pool": ""},
    ),
    (("6a",), {"branch3x3": "", "branch3x3dbl": "123"}),
    (
        ("6b", "6c", "6d", "6e"),
        {"branch1x1": "", "branch7x7": "123", "branch7x7dbl": "12345", "branch_pool": ""},
    ),
    (("7a",), {"branch3x3": "12", "branch7x7x3": "1234"}),
    (
        ("7b", "7c"),
        {
            "branch1x1": "", "branch3x3": ("1", "2a", "2b"),
            "branch3x3dbl": ("1", "2", "3a", "3b"), "branch_pool": "",
        },
    ),
]  # fmt: skip


def _names() -> list[str]:
    """Return the names of all convolutions of timm in the order of ours."""
    names = list(_STEM)
    for blocks, branches in _BRANCHES:
        for block in blocks:
            for branch, numbers in branches.items():
                ends = [f"_{number}" for number in numbers] or [""]
                names += [f"Mixed_{block}.{branch}{end}" for end in ends]
    return names


_WEIGHTS = WeightTable(
    {
        ours: theirs
        for i, name in enumerate(_names(), 1)
        for ours, theirs in ((f"conv{i}", f"{name}.conv"), (f"conv{i}_bn", f"{name}.bn"))
    }
)
register(
    Family(
        "timm_inception_v3", InceptionV3Backbone, {}, _WEIGHTS, library="timm",
        read=partial(timm_arguments, _VARIANTS), write=partial(timm_config, _VARIANTS),
        other_heads=(r"fc\..*", r"AuxLogits\..*"),
        heads={"ImageClassifier": Head(weights=WeightTable({"head": "fc"}))},
    )
)  # fmt: skip
