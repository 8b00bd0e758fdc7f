"""Convert a preset of YOLOv8 of KerasCV to a checkpoint that `from_preset` opens.

Traps: a layer is called by its class and a number, counted as Keras sorts a graph, by the distance
from the outputs, so that the branches of all levels alternate; the backbone of a detector is one
layer of it; the blocks of the neck on the way up have two bottlenecks whatever the config says; and
pixels are divided by 255 inside, which is the preprocessing of the new checkpoint.
"""

from pathlib import Path
from typing import Any

import keraslite as keras
from hub.convert.kerashub import Converted, is_kerashub
from hub.convert.kerashub_weights import FLOATS, KerasHubWeights, left_over
from hub.convert.safetensors import check_target
from hub.families import family_of
from hub.models.yolo_v8 import YOLOV8Head
from hub.presets import build, save
from hub.presets.files import PresetFiles, resolve
from hub.tasks.classes import check_num_classes
from hub.weights.loading import layer_storages, weight_variables
from hub.weights.reader import open_weights
from hub.weights.tables import name_tensors
from keraslite import layers
from keraslite.saving import Pending, replacing_folder

_BACKBONE, _DETECTOR = "YOLOV8Backbone", "YOLOV8Detector"
_LEVELS = ("p3", "p4", "p5")
_UPWARD_DEPTH = 2  # of the neck
# Our leaf -> its number among the variables of a layer.
_LEAVES = {"kernel": 0, "bias": 1, "gamma": 0, "beta": 1, "moving_mean": 2, "moving_variance": 3}
# A dense layer of ours is a convolution of single pixels there.
_CLASSES = {
    layers.Conv2D: "conv2d", layers.Dense: "conv2d",
    layers.BatchNormalization: "batch_normalization",
}  # fmt: skip


class _Detector(keras.Model):
    """A backbone and a head under the names of a task's attributes."""

    def __init__(self, backbone: Any, head: YOLOV8Head | None):
        super().__init__(dtype=backbone.dtype_policy)
        self.backbone, self.head = backbone, head
        self.built = True


def is_kerascv(source: PresetFiles) -> bool:
    """Return whether a preset was saved by KerasCV.

    Args:
        source: what `hub.presets.resolve` returned.
    """
    return is_kerashub(source) and (
        str(source.json("config.json")["registered_name"]).startswith("keras_cv.")
    )


def convert_kerascv(source: PresetFiles, target: Path) -> list[Converted]:
    """Write a YOLOv8 of KerasCV as a checkpoint under the names of its authors.

    Args:
        source: what `hub.presets.resolve` returned.
        target: a folder, made if need be; must hold no checkpoint.

    Returns:
        A row for every tensor.

    Raises:
        FileExistsError: the folder holds a checkpoint.
        ImportError: h5py is not installed.
        ValueError: the architecture is not supported, a file is damaged or refused, or the tensors
            do not fit; nothing was written then.
    """
    check_target(target)
    family = family_of("yolo_v8")
    arguments, head = _arguments(source)
    with KerasHubWeights(source) as tensors:
        if sum(arguments["stackwise_depth"]) > len(tensors):
            raise ValueError(
                f"config.json of {source.location} has stackwise_depth="
                f"{arguments['stackwise_depth']}, the weights beside it {len(tensors)} tensors."
            )
        model = _model(arguments, head)
        variables = weight_variables(model)
        plan = _plan(model)
        left_over(plan, tensors, {r"optimizer/.*": "the state of an optimizer"})
        wrong = [
            f"{name} {tensors.shape(name)} of {tensors.dtype(name)} for {path} {shape}"
            for path, (name,) in plan.items()
            if tensors.shape(name) not in (shape := tuple(variables[path].shape), (1, 1, *shape))
            or tensors.dtype(name) not in FLOATS
        ]
        if wrong:
            raise ValueError(f"A tensor has a wrong shape or dtype: {'; '.join(wrong[:8])}.")
        for path, (name,) in plan.items():
            shape = tuple(variables[path].shape)
            value = Pending(shape, lambda name=name, shape=shape: tensors[name].reshape(shape))
            variables[path].assign(value)
        table = family.task_weights("ObjectDetector", model.backbone)
        architecture = family.heads["ObjectDetector"].architecture if head else None
        config = save.config_of(family, model.backbone, architecture, head)
        with replacing_folder(target) as folder:
            save.write_preset(folder, model, table, config, None)
        written = open_weights(resolve(target))
        names = {m.path: m.tensor for m in name_tensors(layer_storages(model), table)}
        return [
            Converted(
                theirs, names[path], written.shape(names[path]), written.dtype(names[path]),
                "transposed" if path.endswith("kernel") else "as it is",
            )
            for path, (theirs,) in plan.items()
        ]  # fmt: skip


def _arguments(source: PresetFiles) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arguments of the backbone and of the head; none of the latter without one."""
    record = source.json("config.json")
    name, config, head = record.get("class_name"), record.get("config"), {}
    where = f"config.json of {source.location}"
    if name == _DETECTOR and isinstance(config, dict):
        classes, depth = check_num_classes(config.get("num_classes")), config.get("fpn_depth")
        if depth != _UPWARD_DEPTH:
            raise ValueError(
                f"{where} has fpn_depth={depth!r}, which must be {_UPWARD_DEPTH}: KerasCV's blocks "
                "on the way up have that depth, and ours one depth for all."
            )
        head = {"num_classes": classes, "fpn_depth": depth}
        inner = config.get("backbone")
        record = inner if isinstance(inner, dict) else {}
        name, config = record.get("class_name"), record.get("config")
    if name != _BACKBONE or not isinstance(config, dict):
        raise ValueError(
            f"{source.location} is a {name!r} of KerasCV, which is not converted. Supported: "
            f"{_BACKBONE}, and a {_DETECTOR} over it."
        )
    keys = ("stackwise_channels", "stackwise_depth", "activation")
    stated = {key: config[key] for key in keys if key in config}
    arguments = build.arguments(family_of("yolo_v8"), stated, where)
    if head:
        head["class_channels"] = max(head["num_classes"], arguments["stackwise_channels"][1])
    return arguments, head


def _model(arguments: dict[str, Any], head: dict[str, Any]) -> _Detector:
    """Return backbone and head, without weights."""
    backbone = family_of("yolo_v8").backbone(**arguments)
    if not head:
        return _Detector(backbone, None)
    new = YOLOV8Head(**head)
    new.build([backbone.pyramid_outputs[level.upper()].shape for level in _LEVELS])
    return _Detector(backbone, new)


def _plan(model: _Detector) -> dict[str, list[str]]:
    """Return our path -> the tensor."""
    inner = "" if model.head is None else "layers/functional/"
    plan = _numbered(model.backbone.layers_in_call_order(), "backbone/", inner)
    if model.head is None:
        return plan
    network = model.head.network
    neck = [x for x in network.layers_in_call_order() if not x.name.startswith(("box_", "class_"))]
    branches = [
        network.get_layer(f"{branch}_{level}_{part}")
        for parts in (("1_conv", "1_bn"), ("2_conv", "2_bn"), ("output",))
        for part in parts
        for branch in ("class", "box")
        for level in _LEVELS
    ]
    return plan | _numbered([*neck, *branches], "head/network/", "")


def _numbered(every: list[Any], ours: str, theirs: str) -> dict[str, list[str]]:
    """Return our path -> the tensor, of layers in the order in which they are counted."""
    plan, counts = {}, dict.fromkeys(_CLASSES.values(), 0)
    for layer in every:
        name = next((name for cls, name in _CLASSES.items() if isinstance(layer, cls)), None)
        if name is None:
            continue
        number, counts[name] = counts[name], counts[name] + 1
        place = f"{theirs}layers/{name}{f'_{number}' if number else ''}/vars"
        for leaf, _ in layer.own_variables():
            plan[f"{ours}{layer.name}/{leaf}"] = [f"{place}/{_LEAVES[leaf]}"]
    return plan
