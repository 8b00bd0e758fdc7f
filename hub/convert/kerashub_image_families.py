"""How KerasHub keeps the architectures of images that are ours too: configs and weights, as data.

Traps: layers are counted as Keras sorts a graph, by the distance from the outputs, so that the
convolution of a shortcut stands before the last convolution of its block; the layers of a ResNet
have no bias and an epsilon of 1e-5; a basic block of its variant "vd" has a convolution in the
shortcut that no other library has; of EfficientNet's blocks those called "v1" are timm's.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

from hub.convert.kerashub_families import BACKBONES, KerasHubFamily
from hub.models.applications.efficientnet import block_name

_DENSE = {"ImageClassifier": {"head": "task/layers/dense"}}


def _check(config: Mapping[str, Any], supported: Mapping[str, tuple]) -> None:
    """Raise ValueError if keys of a config have other values than the supported ones."""
    for key, values in supported.items():
        if config[key] not in values:
            words = " or ".join(map(repr, values))
            raise ValueError(f"config.json has {key}={config[key]!r}, supported is {words}.")


def _counted(every: Mapping[str, list[str]]) -> dict[str, str]:
    """Return our layer -> theirs: a class, and a number that the first layer lacks.

    Args:
        every: the class in KerasHub -> our layers in the order in which they are counted there.
    """
    return {
        name: f"layers/{theirs}{f'_{n}' if n else ''}"
        for theirs, names in every.items()
        for n, name in enumerate(names)
    }


# -- ViT and DeiT ---------------------------------------------------------------------------------

_VIT_NAMES = {
    "num_layers": "num_layers", "num_heads": "num_heads", "hidden_dim": "hidden_dim",
    "mlp_dim": "intermediate_dim", "dropout_rate": "dropout",
    "attention_dropout": "attention_dropout", "layer_norm_epsilon": "layer_norm_epsilon",
}  # fmt: skip
_DEIT_NAMES = {
    ours if ours == "intermediate_dim" else theirs: ours for theirs, ours in _VIT_NAMES.items()
}
_VIT_BIASES = ("use_mha_bias", "use_mlp_bias", "use_class_token", "use_patch_bias")
_DEIT_BIASES = ("use_mha_bias",)


def _read_vit(
    names: Mapping[str, str], biases: tuple[str, ...], is_distilled: bool, config: Mapping[str, Any]
) -> dict[str, Any]:
    _check(config, dict.fromkeys(biases, (True,)))
    shape, patch = config["image_shape"], config["patch_size"]
    is_square = len(shape) == 3 and shape[0] == shape[1] and len(patch) == 2
    if not is_square or None in shape or patch[0] != patch[1] or shape[0] % patch[0]:
        raise ValueError(
            f"config.json has image_shape={shape} and patch_size={patch}, expected (height, width, "
            "channels) of a square that such patches fill."
        )
    return {
        **{ours: config[theirs] for theirs, ours in names.items()},
        "image_size": shape[0], "num_channels": shape[2], "patch_size": patch[0],
        "use_distillation_token": is_distilled,
    }  # fmt: skip


def _write_vit(
    names: Mapping[str, str], biases: tuple[str, ...], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    size = arguments["image_size"]
    return {
        "image_shape": [size, size, arguments["num_channels"]],
        "patch_size": [arguments["patch_size"]] * 2,
        **{theirs: arguments[ours] for theirs, ours in names.items()},
        **dict.fromkeys(biases, True),
    }


def _vit_rows(name: str, embeddings: Mapping[str, str], parts: Mapping[str, str]) -> dict[str, str]:
    """Return rows: of the embeddings below their layer, and of a block below it."""
    block = f"layers/{name}_encoder/encoder_layers/{name}_encoder_block{{i}}"
    parts = {
        "attention_norm": "layer_norm_1", "output_norm": "layer_norm_2",
        "attention/query": "mha/query_dense", "attention/key": "mha/key_dense",
        "attention/value": "mha/value_dense", "attention/output_dense": "mha/output_dense", **parts,
    }  # fmt: skip
    return {
        **{ours: f"layers/{name}_{theirs}" for ours, theirs in embeddings.items()},
        **{f"blocks/{{i}}/{ours}": f"{block}/{theirs}" for ours, theirs in parts.items()},
        "final_norm": f"layers/{name}_encoder/layer_norm",
    }


_VIT_ROWS = _vit_rows(
    "vi_t",
    {
        "patch_embedding": "patching_and_embedding/patch_embedding",
        "class_token": "patching_and_embedding/vars/0",
        "position_embedding": "patching_and_embedding/position_embedding/vars/0",
    },
    {"intermediate": "mlp/dense_1", "output_dense": "mlp/dense_2"},
)
_DEIT_ROWS = _vit_rows(
    "dei_t",
    {
        "patch_embedding": "embeddings/patch_embedding", "class_token": "embeddings/vars/0",
        "distillation_token": "embeddings/vars/1", "position_embedding": "embeddings/vars/2",
    },
    {"intermediate": "mlp/dense", "output_dense": "output_layer/dense"},
)  # fmt: skip


# -- ResNet ---------------------------------------------------------------------------------------

_RESNET_NAMES = (
    "stackwise_num_filters", "stackwise_num_blocks", "use_pre_activation", "image_shape",
)  # fmt: skip


def _read_resnet(config: Mapping[str, Any]) -> dict[str, Any]:
    filters, blocks = config["input_conv_filters"], config["stackwise_num_blocks"]
    is_deep = len(filters) > 1
    newer = ("bottleneck_block_vd",) if is_deep else ()
    basic = () if config["use_pre_activation"] else ("basic_block",)
    _check(config, {
        "input_conv_kernel_sizes": ([3] * len(filters) if is_deep else [7],),
        "stackwise_num_strides": ([1] + [2] * (len(blocks) - 1),),
        "block_type": (*basic, "bottleneck_block", *newer),
        "use_pre_activation": (False,) if is_deep else (False, True),
    })  # fmt: skip
    if config["stackwise_num_filters"][0] != 64:
        raise ValueError(
            "A ResNet of KerasHub has 64 filters in its first stage, got stackwise_num_filters="
            f"{config['stackwise_num_filters']}."
        )
    return {
        **{key: config[key] for key in _RESNET_NAMES},
        "block_type": config["block_type"].removesuffix("_vd"),
        "pool_in_shortcut": config["block_type"].endswith("_vd"),
        "input_conv_filters": filters if is_deep else filters[0],
    }


def _write_resnet(arguments: Mapping[str, Any]) -> dict[str, Any]:
    filters = arguments["input_conv_filters"]
    is_deep = not isinstance(filters, int)
    filters = list(filters) if is_deep else [filters]
    values = {key: arguments[key] for key in _RESNET_NAMES}
    return {
        "input_conv_filters": filters,
        "input_conv_kernel_sizes": [3] * len(filters) if is_deep else [7],
        "stackwise_num_strides": [1] + [2] * (len(arguments["stackwise_num_blocks"]) - 1),
        "block_type": arguments["block_type"] + "_vd" * arguments["pool_in_shortcut"],
        **{k: list(v) if isinstance(v, tuple) else v for k, v in values.items()},
    }


def _resnet_rows(arguments: Mapping[str, Any]) -> dict[str, str]:
    is_v2, stem = arguments["use_pre_activation"], arguments["input_conv_filters"]
    is_basic = arguments["block_type"] == "basic_block"
    names = ["conv1"] if isinstance(stem, int) else [f"conv1_{i + 1}" for i in range(len(stem))]
    convolutions, norms = list(names), [] if is_v2 else list(names)
    for stage, blocks in enumerate(arguments["stackwise_num_blocks"]):
        for i in range(blocks):
            has_shortcut = i == 0 and not (is_basic and stage == 0)
            parts = ["1", *([] if is_basic else ["2"]), *(["0"] if has_shortcut else [])]
            parts += ["2" if is_basic else "3"]
            block = f"conv{stage + 2}_block{i + 1}"
            convolutions += [f"{block}_{part}" for part in parts]
            norms += [f"{block}_{part}" for part in (("preact", "1", "2") if is_v2 else parts)]
    norms += ["post"] if is_v2 else []
    return _counted(
        {"conv2d": [f"{name}_conv" for name in convolutions],
         "batch_normalization": [f"{name}_bn" for name in norms]}
    )  # fmt: skip


# -- EfficientNet ---------------------------------------------------------------------------------

# Their keys of stages -> ours.
_STAGES = {
    f"stackwise_{name}": f"stackwise_{name}"
    for name in ("kernel_sizes", "num_repeats", "output_filters", "expansion_ratios", "strides")
}
_EFFICIENT_NAMES = {
    **_STAGES, "dropout": "dropout", "depth_divisor": "depth_divisor", "activation": "activation",
    "cap_round_filter_decrease": "cap_round_filter_decrease", "input_shape": "image_shape",
    "batch_norm_momentum": "batch_norm_momentum", "batch_norm_epsilon": "batch_norm_epsilon",
}  # fmt: skip
# Their keys that repeat a number for each stage -> ours.
_REPEATED = {
    "stackwise_width_coefficients": "width_coefficient",
    "stackwise_depth_coefficients": "depth_coefficient",
    "stackwise_squeeze_and_excite_ratios": "squeeze_and_excite_ratio",
}
# What it must have else, of the keys that are no list.
_EFFICIENT_FIXED = {
    "include_stem_padding": True, "use_depth_divisor_as_min_depth": True,
    "stem_conv_padding": "valid", "projection_activation": None,
}  # fmt: skip


def _read_efficientnet(config: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {}
    for theirs, ours in _REPEATED.items():
        numbers[ours] = config[theirs][0] if isinstance(config[theirs], list) else None
        if type(numbers[ours]) not in (int, float) or not 0 < numbers[ours] < 100:
            raise ValueError(f"config.json has {theirs}={config[theirs]!r}, expected numbers.")
    stem = config["stackwise_input_filters"][0]
    arguments = {ours: config[theirs] for theirs, ours in _EFFICIENT_NAMES.items()} | numbers
    arguments |= {
        "input_conv_filters": stem, "padding": "symmetric", "symmetric_blocks": [],
        "stackwise_block_types": ["unfused"] * len(config["stackwise_strides"]),
    }  # fmt: skip
    written = _write_efficientnet(arguments)
    _check(config, {k: (v,) for k, v in written.items() if k != "min_depth"})
    return arguments


def _write_efficientnet(arguments: Mapping[str, Any]) -> dict[str, Any]:
    config = {theirs: arguments[ours] for theirs, ours in _EFFICIENT_NAMES.items()}
    config = {k: list(v) if isinstance(v, tuple) else v for k, v in config.items()}
    filters, stages = config["stackwise_output_filters"], len(config["stackwise_strides"])
    return {
        **config, **_EFFICIENT_FIXED, "min_depth": None,
        **{theirs: [arguments[ours]] * stages for theirs, ours in _REPEATED.items()},
        "stackwise_input_filters": [arguments["input_conv_filters"], *filters[:-1]],
        "stackwise_block_types": ["v1"] * stages, "stackwise_force_input_filters": [0] * stages,
    }  # fmt: skip


def _efficientnet_rows(arguments: Mapping[str, Any]) -> dict[str, str]:
    convolutions, norms, depthwise = ["stem_conv"], ["stem_bn"], []
    columns = (arguments["stackwise_num_repeats"], arguments["stackwise_expansion_ratios"])
    for stage, (repeats, ratio) in enumerate(zip(*columns, strict=True)):
        for i in range(math.ceil(arguments["depth_coefficient"] * repeats)):
            block, expand = block_name(stage, i), [] if ratio == 1 else ["expand_"]
            parts = [f"{part}conv" for part in expand] + ["se_reduce", "se_expand", "project_conv"]
            convolutions += [f"{block}{part}" for part in parts]
            norms += [f"{block}{part}bn" for part in (*expand, "", "project_")]
            depthwise.append(f"{block}dwconv")
    return _counted({
        "conv2d": [*convolutions, "top_conv"], "batch_normalization": [*norms, "top_bn"],
        "depthwise_conv2d": depthwise,
    })  # fmt: skip


# -- all ------------------------------------------------------------------------------------------

_VIT_TYPES = {
    "image_shape": list, "patch_size": list, "num_layers": int, "num_heads": int,
    "hidden_dim": int, "dropout_rate": float, "attention_dropout": float,
    "layer_norm_epsilon": float,
}  # fmt: skip
# KerasHub's class -> what it is.
IMAGE_BACKBONES = {
    "ViTBackbone": KerasHubFamily(
        "vit",
        {**_VIT_TYPES, "mlp_dim": int, **dict.fromkeys(_VIT_BIASES, bool)},
        _VIT_ROWS, "", read=partial(_read_vit, _VIT_NAMES, _VIT_BIASES, False),
        write=partial(_write_vit, _VIT_NAMES, _VIT_BIASES), others=("timm_vit",), heads=_DENSE,
        head_config={"pooling": "token", "intermediate_dim": None},
    ),
    "DeiTBackbone": KerasHubFamily(
        "deit", {**_VIT_TYPES, "intermediate_dim": int, **dict.fromkeys(_DEIT_BIASES, bool)},
        _DEIT_ROWS, "", read=partial(_read_vit, _DEIT_NAMES, _DEIT_BIASES, True),
        write=partial(_write_vit, _DEIT_NAMES, _DEIT_BIASES), others=("timm_deit_distilled",),
        heads=_DENSE,
        inexact={
            "ImageClassifier": "KerasHub's head is over the class token alone, this family has one "
            "over the token of the distillation too"
        },
    ),
    "ResNetBackbone": KerasHubFamily(
        "resnet",
        {"input_conv_filters": list, "input_conv_kernel_sizes": list,
         "stackwise_num_filters": list, "stackwise_num_blocks": list,
         "stackwise_num_strides": list, "block_type": str, "use_pre_activation": bool,
         "image_shape": list},
        _resnet_rows, "", read=_read_resnet, write=_write_resnet,
        others=("timm_resnet", "timm_resnetv2"), heads=_DENSE, head_config={"pooling": "avg"},
    ),
    "EfficientNetBackbone": KerasHubFamily(
        "timm_efficientnet",
        {**dict.fromkeys(_STAGES, list), **dict.fromkeys((*_REPEATED, *_EFFICIENT_FIXED), object),
         "stackwise_input_filters": list, "stackwise_block_types": object,
         "stackwise_force_input_filters": object, "min_depth": object, "dropout": float,
         "depth_divisor": int, "activation": str, "cap_round_filter_decrease": bool,
         "input_shape": list, "batch_norm_momentum": float, "batch_norm_epsilon": float},
        _efficientnet_rows, "", read=_read_efficientnet, write=_write_efficientnet,
        others=("efficientnet",), heads=_DENSE, head_config={"pooling": "avg"},
    ),
}  # fmt: skip
EVERY_BACKBONE = {**BACKBONES, **IMAGE_BACKBONES}
