"""Backbones of images: weights of the published networks, and the levels, against the originals."""

import json

import numpy as np
import pytest
import torch
from image_checkpoints import randomize, transformers_checkpoint
from safetensors.torch import load_file, save_file
from timm_oracle import import_timm

import hub
import keraslite as keras
from hub.families import family_of, timm_model_type
from hub.presets.build import arguments
from hub.weights.loading import layer_storages, weight_variables
from hub.weights.tables import name_tensors

REGNETS = {
    "x": ("002", "004", "006", "008", "016", "032", "040", "064", "080", "120", "160", "320",
          "004_tv"),
    "y": ("002", "004", "006", "008", "016", "032", "040", "064", "080", "120", "160", "320",
          "640", "1280", "2560", "008_tv", "080_tv"),
}  # fmt: skip
RESNETS = ("18", "26", "34", "50", "101", "152", "200", "50c", "101c", "152c", "50s",
           "101s", "152s", "10t", "14t", "26t", "50t", "18d", "26d", "34d", "50d",
           "101d", "152d", "200d", "rs50", "rs101", "rs152", "rs200", "rs270",
           "rs350", "rs420", "v2_50", "v2_101", "v2_152")  # fmt: skip
PUBLISHED = [*(f"resnet{name}" for name in RESNETS)] + [
    f"regnet{kind}_{size}" for kind, sizes in REGNETS.items() for size in sizes
]


@pytest.mark.parametrize("architecture", PUBLISHED)
def test_weights_have_the_names_and_shapes_of_timm(architecture):
    with torch.device("meta"):
        theirs = import_timm().create_model(architecture).state_dict()
    family = family_of(timm_model_type(architecture))
    with keras.use_backend("jax"):
        backbone = family.backbone(**arguments(family, {"architecture": architecture}))
    weights = weight_variables(backbone)
    matches = name_tensors(layer_storages(backbone), family.table(backbone.get_config()))
    shapes = {m.tensor: m.storage.stored_shape(weights[m.path].shape) for m in matches}
    assert all(variable._raw is None for variable in backbone.weights)
    assert shapes == {
        name: tuple(value.shape)
        for name, value in theirs.items()
        if not name.startswith(("head.", "fc.")) and not name.endswith("num_batches_tracked")
    }


def assert_levels_equal(backbone, pixels, expected):
    """Compare the levels of a backbone, and their names, with features (N, C, H, W)."""
    levels = keras.Model(backbone.inputs, backbone.pyramid_outputs)(pixels)
    halvings = [round(np.log2(pixels.shape[1] / value.shape[2])) for value in expected]
    assert list(levels) == [f"P{n}" for n in halvings]
    for level, value in zip(levels.values(), expected, strict=True):
        value = value.permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(level), value, rtol=1e-4, atol=1e-5 * np.abs(value).max()
        )


def pixels_of(height, width):
    return np.random.default_rng(0).normal(size=(2, height, width, 3)).astype("float32")


@pytest.mark.parametrize("name", ["regnet, x", "regnet, y"])
def test_levels_of_a_regnet_are_the_hidden_states_of_transformers(backend, name, tmp_path):
    oracle = transformers_checkpoint(tmp_path / "checkpoint", name).base_model
    oracle.save_pretrained(tmp_path / "backbone")
    pixels = pixels_of(71, 86)
    with torch.no_grad():
        inputs = torch.tensor(pixels).permute(0, 3, 1, 2)
        expected = oracle(inputs, output_hidden_states=True).hidden_states[1:]
    for folder in ("checkpoint", "backbone"):
        assert_levels_equal(hub.RegNetBackbone.from_preset(tmp_path / folder), pixels, expected)


def test_a_new_regnet_is_saved_in_the_layout_of_transformers(tmp_path):
    with keras.use_backend("numpy"):
        backbone = hub.RegNetBackbone(
            (8, 16), (1, 2), group_width=4, se_ratio=0.0, image_shape=(16, 16, 3)
        )
        backbone.save_to_preset(tmp_path)
        again = hub.Backbone.from_preset(tmp_path)
        assert type(again) is hub.RegNetBackbone
        x = pixels_of(16, 16)
        np.testing.assert_allclose(again.predict(x), backbone.predict(x), rtol=1e-5)
        for change, message in (
            ({"se_ratio": 0.5}, r"se_ratio must be one of \(0, 0.25\)"),
            ({"epsilon": 1e-3}, "epsilon must be one of"),
        ):
            other = hub.RegNetBackbone.from_config({**backbone.get_config(), **change})
            with pytest.raises(ValueError, match=message):
                other.save_to_preset(tmp_path / "other")


def test_sizes_of_a_regnet_must_fit():
    with keras.use_backend("numpy"):
        with pytest.raises(ValueError, match="3 groups of group_width=4 must divide.*got 14"):
            hub.RegNetBackbone((8, 14), (1, 1), group_width=4)
        with pytest.raises(ValueError, match="must have a number for each stage"):
            hub.RegNetBackbone((8, 16), (1, 1, 1), group_width=4)


def tiny_resnet(architecture):
    sizes = {"channels": (8, 8, 16, 16), "layers": (1, 2, 1, 1), "stem_width": 4}
    return randomize(import_timm().create_model(architecture, num_classes=0, **sizes))


TINY_RESNET = {"stackwise_num_filters": (8, 8, 16, 16), "stackwise_num_blocks": (1, 2, 1, 1)}


@pytest.mark.parametrize(
    ("architecture", "stem"),
    [
        ("resnetrs50", (4, 4, 8)), ("resnet50c", (4, 4, 8)), ("resnet50d", (4, 4, 8)),
        ("resnet18d", (4, 4, 8)), ("resnet10t", (3, 4, 8)),
    ],
)  # fmt: skip
def test_levels_of_a_deep_stem_are_those_of_timm(backend, architecture, stem, tmp_path):
    """Of a size that is odd at every level, where the last row of a pooling is half outside."""
    oracle, pixels = tiny_resnet(architecture), pixels_of(71, 101)
    save_file(oracle.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": architecture}))
    with torch.no_grad():
        inputs = torch.tensor(pixels).permute(0, 3, 1, 2)
        expected = oracle.forward_intermediates(inputs, intermediates_only=True)[1:]
    backbone = hub.ResNetBackbone.from_preset(tmp_path, **TINY_RESNET, input_conv_filters=stem)
    assert_levels_equal(backbone, pixels, expected)


def test_a_new_resnet_is_saved_as_the_architecture_of_timm(tmp_path):
    d = {"input_conv_filters": [32, 32, 64], "pool_in_shortcut": True}
    t = {**d, "input_conv_filters": [24, 32, 64], "stackwise_num_blocks": (1, 1, 1, 1)}
    with keras.use_backend("jax"):
        for name, arguments in (
            ("resnetrs50", {**d, "use_strided_stem": True, "se_ratio": 0.25}),
            ("resnetv2_50", {"use_pre_activation": True}), ("resnet50d", d),
            ("resnet50s", {"input_conv_filters": [64, 64, 128]}), ("resnet14t", t),
        ):  # fmt: skip
            backbone = hub.ResNetBackbone(**arguments)
            hub.ResNetBackbone.from_config(backbone.get_config()).save_to_preset(tmp_path / name)
            config = json.loads((tmp_path / name / "config.json").read_text())
            assert config["architecture"] == name
            theirs = import_timm().create_model(name, num_classes=0)
            loaded = theirs.load_state_dict(
                load_file(tmp_path / name / "model.safetensors"), strict=False
            )
            assert not loaded.unexpected_keys
            assert all(key.endswith("num_batches_tracked") for key in loaded.missing_keys)
            for change in (
                {"epsilon": 1e-3}, {"stackwise_num_blocks": (1, 1, 1, 2)},
                {"downsample_in_last_block": True},
            ):  # fmt: skip
                other = hub.ResNetBackbone(**{**arguments, **change})
                with pytest.raises(ValueError, match="timm has no architecture"):
                    other.save_to_preset(tmp_path / "other")
        with pytest.raises(ValueError, match="use_pre_activation must be False with"):
            hub.ResNetBackbone(use_pre_activation=True, se_ratio=0.25)
        with pytest.raises(ValueError, match="use_strided_stem must be False.*got input_conv_fil"):
            hub.ResNetBackbone(use_strided_stem=True)


def test_the_class_of_a_model_loads_its_checkpoint(backend, tmp_path):
    """On torch and TensorFlow it is derived from the public one."""
    with keras.use_backend(backend):
        model = hub.RegNetBackbone(
            (8, 16), (1, 2), group_width=4, se_ratio=0.0, image_shape=(16, 16, 3)
        )
        model.save_to_preset(tmp_path)
        again = type(model).from_preset(tmp_path)
        np.testing.assert_array_equal(again.weights[0].numpy(), model.weights[0].numpy())
