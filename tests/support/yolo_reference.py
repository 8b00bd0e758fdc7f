"""YOLOv8 in plain torch, from its published definition, and its files in both layouts.

A stage is a list entry under the number that the authors' files give it; joins and enlargements
have numbers too, but no weights.
"""

import json

import h5py
import torch
from torch import nn
from torch.nn import functional

BINS = 16
# The numbers of the backbone's stages with bottlenecks, and of the neck's with those that feed it.
STAGES = (2, 4, 6, 8)
# The parts of the conversion to safetensors, by the authors' numbers.
CONVERTED = {
    0: "net.b1.0", 1: "net.b1.1", 2: "net.b2.0", 3: "net.b2.1", 4: "net.b2.2", 5: "net.b3.0",
    6: "net.b3.1", 7: "net.b4.0", 8: "net.b4.1", 9: "net.b5.0", 12: "fpn.n1", 15: "fpn.n2",
    16: "fpn.n3", 18: "fpn.n4", 19: "fpn.n5", 21: "fpn.n6", 22: "head",
}  # fmt: skip


class Unit(nn.Module):
    """A convolution, a normalization and SiLU."""

    def __init__(self, inputs, outputs, size=1, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03)

    def forward(self, x):
        return functional.silu(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    """Two convolutions of 3 x 3, with or without a shortcut."""

    def __init__(self, channels, adds):
        super().__init__()
        self.cv1, self.cv2 = Unit(channels, channels, 3), Unit(channels, channels, 3)
        self.adds = adds

    def forward(self, x):
        y = self.cv2(self.cv1(x))
        return x + y if self.adds else y


class C2f(nn.Module):
    """Half of the channels goes through bottlenecks, all of whose outputs are joined."""

    def __init__(self, inputs, outputs, depth, adds):
        super().__init__()
        half = outputs // 2
        self.cv1 = Unit(inputs, 2 * half)
        self.cv2 = Unit((2 + depth) * half, outputs)
        self.m = nn.ModuleList(Bottleneck(half, adds) for _ in range(depth))

    def forward(self, x):
        first, last = torch.tensor_split(self.cv1(x), 2, dim=1)
        outputs = [first, last]
        for bottleneck in self.m:
            last = bottleneck(last)
            outputs.append(last)
        return self.cv2(torch.cat(outputs, 1))


class SPPF(nn.Module):
    """The features beside their maxima over windows of 5, 9 and 13."""

    def __init__(self, channels):
        super().__init__()
        self.cv1, self.cv2 = Unit(channels, channels // 2), Unit(2 * channels, channels)

    def forward(self, x):
        x = self.cv1(x)
        windows = [functional.max_pool2d(x, size, 1, size // 2) for size in (5, 9, 13)]
        return self.cv2(torch.cat([x, *windows], 1))


class Detect(nn.Module):
    """Branches for boxes (`cv2`) and classes (`cv3`) over three levels."""

    def __init__(self, channels, classes):
        super().__init__()
        box, own = max(64, channels[0] // 4), max(channels[0], min(classes, 100))

        def branch(inputs, width, outputs):
            return nn.Sequential(
                Unit(inputs, width, 3), Unit(width, width, 3), nn.Conv2d(width, outputs, 1)
            )

        self.cv2 = nn.ModuleList(branch(n, box, 4 * BINS) for n in channels)
        self.cv3 = nn.ModuleList(branch(n, own, classes) for n in channels)
        self.dfl = nn.Module()
        self.dfl.conv = nn.Conv2d(BINS, 1, 1, bias=False)
        self.dfl.conv.weight = nn.Parameter(
            torch.arange(float(BINS)).reshape(1, BINS, 1, 1), requires_grad=False
        )

    def forward(self, levels):
        def flat(branches):
            maps = [branch(x) for branch, x in zip(branches, levels, strict=True)]
            return torch.cat([x.flatten(2) for x in maps], 2).transpose(-1, -2)

        return {"boxes": flat(self.cv2), "classes": flat(self.cv3)}


class YOLOv8(nn.Module):
    """The whole detector: images (N, 3, H, W) to raw maps."""

    def __init__(self, channels, depth, classes, fpn_depth):
        super().__init__()
        a, b, c, d = channels
        parts = {0: Unit(3, a // 2, 3, 2), 1: Unit(a // 2, a, 3, 2)}
        for number, before, width, count in zip(STAGES, (a, a, b, c), channels, depth, strict=True):
            if number > 2:
                parts[number - 1] = Unit(before, width, 3, 2)
            parts[number] = C2f(width, width, count, adds=True)
        parts |= {
            9: SPPF(d), 12: C2f(d + c, c, fpn_depth, False), 15: C2f(c + b, b, fpn_depth, False),
            16: Unit(b, b, 3, 2), 18: C2f(b + c, c, fpn_depth, False), 19: Unit(c, c, 3, 2),
            21: C2f(c + d, d, fpn_depth, False), 22: Detect((b, c, d), classes),
        }  # fmt: skip
        self.model = nn.ModuleList(parts.get(i, nn.Identity()) for i in range(23))

    def features(self, x):
        """Return P2 to P5."""
        levels = []
        for i in range(10):
            x = self.model[i](x)
            levels += [x] if i in (2, 4, 6, 9) else []
        return levels

    def forward(self, x):
        p3, p4, p5 = self.features(x)[1:]
        layer = self.model
        top4 = layer[12](torch.cat([enlarged(p5), p4], 1))
        out3 = layer[15](torch.cat([enlarged(top4), p3], 1))
        out4 = layer[18](torch.cat([layer[16](out3), top4], 1))
        out5 = layer[21](torch.cat([layer[19](out4), p5], 1))
        return layer[22]([out3, out4, out5])


PARTS = (Unit, Bottleneck, C2f, SPPF, Detect)


def enlarged(x):
    return functional.interpolate(x, scale_factor=2, mode="nearest")


def random_yolo(channels, depth, classes, fpn_depth):
    """Return a reference with random weights, under which features neither vanish nor explode."""
    torch.manual_seed(0)
    model = YOLOv8(channels, depth, classes, fpn_depth).eval()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith(("running_var", "bn.weight")):
                value.uniform_(0.5, 1.5)
            elif name.endswith(("running_mean", "bias")):
                value.normal_(std=0.2)
            elif value.ndim == 4 and "dfl" not in name:
                value.normal_(std=1.5 * value[0].numel() ** -0.5)
    return model


def converted(tensors):
    """Return tensors of the authors' names under those of the conversion to safetensors."""
    renamed = {}
    for name, value in tensors.items():
        _, number, rest = name.split(".", 2)
        renamed[f"{CONVERTED[int(number)]}.{rest}".replace(".m.", ".bottleneck.")] = value
    return renamed


# -- KerasCV --------------------------------------------------------------------------------------


def _units(tensors, numbers):
    """Names of the convolutions of parts, in the order in which they run."""
    names = [name.removesuffix(".conv.weight") for name in tensors if name.endswith("conv.weight")]
    names = [name for name in names if int(name.split(".")[1]) in numbers]
    order = {"model": 0, "cv1": 0, "m": 1, "cv2": 2}  # within a block
    return sorted(names, key=lambda x: [order.get(p, int(p) if p.isdigit() else 0)
                                        for p in x.split(".")])  # fmt: skip


def kerascv_preset(folder, oracle, channels, depth, detector):
    """Write a preset as KerasCV 0.9 does: layers by class and number, as Keras sorts its graph."""
    tensors = {k: v.numpy() for k, v in oracle.state_dict().items()}
    classes, fpn_depth = len(tensors["model.22.cv3.0.2.bias"]), len(oracle.model[12].m)
    config = {
        "module": "keras_cv.models", "class_name": "YOLOV8Backbone",
        "registered_name": "keras_cv.models>YOLOV8Backbone",
        "config": {
            "name": "backbone", "trainable": True, "include_rescaling": True,
            "input_shape": [None, None, 3], "stackwise_channels": channels,
            "stackwise_depth": depth, "activation": "swish",
        },
    }  # fmt: skip
    groups = [("layers/functional/" if detector else "", _units(tensors, range(10)))]
    if detector:
        # of the heads a row of all levels after the other, classes first
        heads = [
            f"model.22.{branch}.{level}.{row}"
            for row in (0, 1, 2) for branch in ("cv3", "cv2") for level in (0, 1, 2)
        ]  # fmt: skip
        groups.append(("", [*_units(tensors, range(10, 22)), *heads]))
        config = {
            "module": "keras_cv.models", "class_name": "YOLOV8Detector",
            "registered_name": "keras_cv.models>YOLOV8Detector",
            "config": {
                "num_classes": classes, "bounding_box_format": "xyxy", "fpn_depth": fpn_depth,
                "backbone": config,
            },
        }  # fmt: skip
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    with h5py.File(folder / "model.weights.h5", "w") as file:
        for start, names in groups:
            counts = {"conv2d": 0, "batch_normalization": 0}
            for name in names:
                plain = f"{name}.weight" in tensors  # the last convolution of a branch
                conv = name if plain else f"{name}.conv"
                values = [tensors[f"{conv}.weight"].transpose(2, 3, 1, 0)]
                layers = {"conv2d": values + ([tensors[f"{conv}.bias"]] if plain else [])}
                if not plain:
                    leaves = ("weight", "bias", "running_mean", "running_var")
                    layers["batch_normalization"] = [tensors[f"{name}.bn.{x}"] for x in leaves]
                for layer, variables in layers.items():
                    number = f"_{counts[layer]}" if counts[layer] else ""
                    counts[layer] += 1
                    for i, value in enumerate(variables):
                        file[f"{start}layers/{layer}{number}/vars/{i}"] = value
