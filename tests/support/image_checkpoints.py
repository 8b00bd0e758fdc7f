"""Checkpoints of image classifiers, written by transformers and by timm, with random weights."""

import json
import math

import torch
import transformers
from safetensors.torch import save_file
from timm_oracle import import_timm
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.efficientnet.image_processing_pil_efficientnet import (
    EfficientNetImageProcessorPil,
)
from transformers.models.mobilenet_v2.image_processing_pil_mobilenet_v2 import (
    MobileNetV2ImageProcessorPil,
)
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

CLASSES = 5
_VIT = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip
_RESNET = {"embedding_size": 8, "hidden_sizes": [16, 32, 32, 64], "depths": [1, 2, 1, 1]}
_CONVNEXT = {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 2, 1, 1]}
_EFFICIENTNET = {
    "width_coefficient": 0.25, "depth_coefficient": 1.1, "out_channels": [16, 48, 96, 160],
    "in_channels": [32, 16, 48, 96], "kernel_sizes": [3, 3, 5, 3], "strides": [2, 1, 2, 1],
    "num_block_repeats": [1, 2, 1, 1], "expand_ratios": [1, 2, 3, 2], "hidden_dim": 320,
    "depthwise_padding": [5], "batch_norm_eps": 0.01,
}  # fmt: skip
_MOBILENET = {"depth_multiplier": 0.25, "image_size": 64}
_REGNET = {"embedding_size": 8, "hidden_sizes": [8, 20, 24, 48], "depths": [1, 2, 1, 1]}
# name -> (class of transformers, arguments of its config)
OF_TRANSFORMERS = {
    "resnet, basic": ("ResNetForImageClassification", {**_RESNET, "layer_type": "basic"}),
    "resnet, bottleneck": ("ResNetForImageClassification", _RESNET),
    "convnext": (
        "ConvNextForImageClassification",
        {**_CONVNEXT, "layer_norm_eps": 1e-3, "hidden_act": "relu"},
    ),
    "convnext, no scale": (
        "ConvNextForImageClassification", {**_CONVNEXT, "layer_scale_init_value": 0.0}
    ),
    "efficientnet": ("EfficientNetForImageClassification", _EFFICIENTNET),
    "regnet, x": (
        "RegNetForImageClassification",
        {**_REGNET, "groups_width": 8, "layer_type": "x"},
    ),
    "regnet, y": (
        "RegNetForImageClassification",
        {**_REGNET, "groups_width": 4, "downsample_in_first_stage": False},
    ),
    "vit": ("ViTForImageClassification", _VIT),
    "deit": ("DeiTForImageClassificationWithTeacher", _VIT),
    "mobilenet_v1": ("MobileNetV1ForImageClassification", _MOBILENET),
    "mobilenet_v1, symmetric padding": (
        "MobileNetV1ForImageClassification",
        {**_MOBILENET, "tf_padding": False, "layer_norm_eps": 1e-2, "depth_multiplier": 0.33},
    ),
    "mobilenet_v2": ("MobileNetV2ForImageClassification", _MOBILENET),
    "mobilenet_v2, other sizes": (
        "MobileNetV2ForImageClassification",
        {
            **_MOBILENET, "tf_padding": False, "layer_norm_eps": 1e-2, "expand_ratio": 3.0,
            "finegrained_output": False, "depth_multiplier": 0.3,
        },
    ),
}  # fmt: skip
OF_TIMM = (
    "resnet18", "resnetv2_50", "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224",
    "mobilenetv1_100h", "mobilenetv2_035", "mobilenetv3_small_050",
    "tf_mobilenetv3_small_minimal_100", "convnext_tiny", "convnext_atto", "efficientnet_b0",
    "tf_efficientnet_b1", "tf_efficientnetv2_b1",
    "regnetx_002", "regnety_002", "resnetrs50",
)  # fmt: skip


def randomize(model, gated=False):
    """Give a model weights whose features vary from image to image.

    An EfficientNet is `gated`: gates that jump from 0 to 1 would amplify rounding.
    """
    small = "MobileNet" in type(model).__name__ or "EfficientNet" in type(model).__name__
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in (*model.named_parameters(), *model.named_buffers()):
            is_scale = value.ndim == 1 and name.endswith("weight")  # zero in blocks of timm
            if name.endswith("running_var") or (is_scale and (gated or not small)):
                value.uniform_(0.5, 1.5)
            elif value.ndim == 4 and gated:
                gate = name.endswith(("se.conv_expand.weight", "squeeze_excite.expand.weight"))
                project = name.endswith(("conv_pwl.weight", "project_conv.weight"))
                gain = 0.1 if gate else 1.2 if project else 1.35
                value.normal_(std=gain * math.prod(value.shape[1:]) ** -0.5)
            elif value.ndim == 4 and small:  # at first their features vanish from layer to layer
                value.normal_(std=(2 / value[0].numel()) ** 0.5)
            elif value.ndim == 2 or (value.ndim < 2 and not name.endswith(("weight", "tracked"))):
                value.normal_(std=0.1)  # the heads of timm are zero
    return model.eval()


def transformers_checkpoint(folder, name):
    """Write a classifier of transformers with its image processor; return the model."""
    cls = getattr(transformers, OF_TRANSFORMERS[name][0])
    labels = {i: f"class {i}" for i in range(CLASSES)}
    config = cls.config_class(**OF_TRANSFORMERS[name][1], id2label=labels)
    model = randomize(cls(config), "efficientnet" in name)
    model.save_pretrained(folder)
    if "mobilenet" in name:
        processor = MobileNetV2ImageProcessorPil(
            size={"shortest_edge": 72}, crop_size={"height": 64, "width": 64}
        )
        processor.save_pretrained(folder)
    elif "efficientnet" in name:
        EfficientNetImageProcessorPil(size={"height": 75, "width": 75}).save_pretrained(folder)
    elif "resnet" in name or "convnext" in name or "regnet" in name:
        ConvNextImageProcessorPil(size={"shortest_edge": 64}).save_pretrained(folder)
    else:
        ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return model


def timm_checkpoint(folder, architecture):
    """Write a classifier in the layout of timm; return the model."""
    model = import_timm().create_model(architecture, num_classes=CLASSES)
    randomize(model, "efficientnet" in architecture)
    folder.mkdir()
    save_file(model.state_dict(), folder / "model.safetensors")
    size = 224 if "it_" in architecture else 64
    size = 75 if "efficientnet" in architecture else size  # odd, for the padding of strides
    config = {
        "architecture": architecture, "num_classes": CLASSES,
        "label_names": [f"class {i}" for i in range(CLASSES)],
        "pretrained_cfg": {
            "input_size": [3, size, size], "crop_pct": 0.9, "interpolation": "bicubic",
            "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
        },
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return model
