"""Tiny random presets of KerasHub's image models, and those that we wrote; run in a process of its own.

python tests/support/kerashub_image_presets.py FOLDER

FOLDER/made gets a preset of each row of `MADE`, with inputs and outputs in `<name>.npz` beside it.
Those in FOLDER/exported are opened as `kerashub_opens` does.
"""

import sys
from pathlib import Path

import kerashub_opens
import numpy as np

_VIT = {
    "image_shape": (16, 16, 3), "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 8,
    "mlp_dim": 12, "layer_norm_epsilon": 1e-5,
}  # fmt: skip
_RESNET = {
    "input_conv_filters": [64], "input_conv_kernel_sizes": [7],
    "stackwise_num_filters": [64, 8], "stackwise_num_blocks": [1, 2],
    "stackwise_num_strides": [1, 2], "block_type": "basic_block",
}  # fmt: skip
_TIMM = {"stackwise_num_filters": [64, 128, 256, 512], "stackwise_num_strides": [1, 2, 2, 2]}
_B0 = {
    "stackwise_kernel_sizes": [3, 3, 5, 3, 5, 5, 3],
    "stackwise_num_repeats": [1, 2, 2, 3, 3, 4, 1],
    "stackwise_input_filters": [32, 16, 24, 40, 80, 112, 192],
    "stackwise_output_filters": [16, 24, 40, 80, 112, 192, 320],
    "stackwise_expansion_ratios": [1, 6, 6, 6, 6, 6, 6],
    "stackwise_strides": [1, 2, 2, 2, 1, 2, 1], "stackwise_block_types": ["v1"] * 7,
    "stackwise_width_coefficients": [1.0] * 7, "stackwise_depth_coefficients": [1.0] * 7,
    "stackwise_squeeze_and_excite_ratios": [0.25] * 7, "min_depth": None, "dropout": 0,
    "use_depth_divisor_as_min_depth": True, "cap_round_filter_decrease": True,
}  # fmt: skip
_CROPPED = {"image_size": (16, 16), "scale": 1 / 127.5, "offset": -1, "antialias": True}
_SQUEEZED = {
    "image_size": (32, 24), "scale": [0.01, 0.02, 0.03], "offset": [1, 2, 3], "antialias": True,
    "crop_to_aspect_ratio": False, "interpolation": "bicubic",
}  # fmt: skip
# Name -> the prefix of KerasHub's classes, arguments of the backbone, arguments of the classifier
# and of its converter, or None. Those of timm have the least sizes that timm has.
MADE = {
    "vit": ("ViT", _VIT, None, None),
    "vit-classes": ("ViT", _VIT, {"num_classes": 3, "activation": "softmax"}, _CROPPED),
    "deit": (
        "DeiT", {("intermediate_dim" if k == "mlp_dim" else k): v for k, v in _VIT.items()}, None,
        None,
    ),
    "resnet": ("ResNet", {**_RESNET, "stackwise_num_blocks": [2, 1]}, None, None),
    "resnet-classes": (
        "ResNet", {**_RESNET, "block_type": "bottleneck_block"}, {"num_classes": 3}, _SQUEEZED,
    ),
    "resnet-v2": (
        "ResNet",
        {**_RESNET, **_TIMM, "stackwise_num_blocks": [3, 4, 6, 3],
         "block_type": "bottleneck_block", "use_pre_activation": True},
        None, None,
    ),
    "resnet-vd": (
        "ResNet",
        {**_TIMM, "stackwise_num_blocks": [2, 2, 2, 2], "block_type": "bottleneck_block_vd",
         "input_conv_filters": [32, 32, 64], "input_conv_kernel_sizes": [3, 3, 3]},
        {"num_classes": 3}, None,
    ),
    "efficientnet": ("EfficientNet", _B0, {"num_classes": 3}, None),
}  # fmt: skip


def scrambled(arrays, generator):
    """Yield arrays without zeros or ones that hide a mistake, that keep values in range."""
    for array in arrays:
        scale = 0.3 if array.ndim < 2 else np.prod(array.shape[:-1]) ** -0.5
        yield (
            np.abs(array + generator.normal(size=array.shape) * scale)
            if array.ndim < 2
            else (generator.normal(size=array.shape) * scale)
        )


def sizes_of_pictures(size):
    """The sizes of pictures for a preprocessor: larger ones, and those that are not resized."""
    return {"larger_pictures": (40, 60), "ready_pictures": size}


def pictures(size):
    """Smooth pictures of bytes, so that ways to resize hardly differ."""
    axes = np.meshgrid(*(np.arange(n) for n in (2, *size, 3)), indexing="ij")
    return (127 + 60 * np.sin(sum(a / (3 + 7 * i) for i, a in enumerate(axes)))).astype("uint8")


def images(shape, count=2):
    """Ready inputs of a model."""
    sizes = [64 if n is None else n for n in shape]
    return np.random.default_rng(0).normal(size=(count, *sizes)).astype("float32")


def main(folder: Path) -> None:
    """Write all presets, and open ours."""
    import keras
    import keras_hub

    models, generator = keras_hub.models, np.random.default_rng(1)
    for name, (family, given, task, converter) in MADE.items():
        model = backbone = getattr(models, f"{family}Backbone")(**given)
        found = {"images": images(backbone.input.shape[1:])}
        if task is not None:
            preprocessor = None
            if converter is not None:
                made = getattr(keras_hub.layers, f"{family}ImageConverter")(**converter)
                preprocessor = getattr(models, f"{family}ImageClassifierPreprocessor")(made)
                for key, size in sizes_of_pictures(converter["image_size"]).items():
                    found[key] = np.asarray(preprocessor(pictures(size)))
            classifier = getattr(models, f"{family}ImageClassifier")
            model = classifier(backbone, preprocessor=preprocessor, **task)
        model.set_weights(list(scrambled(map(np.asarray, model.get_weights()), generator)))
        found["output"] = keras.ops.convert_to_numpy(model(found["images"]))
        model.save_to_preset(folder / "made" / name)
        np.savez(folder / "made" / f"{name}.npz", **found)
    kerashub_opens.main(folder / "exported")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
