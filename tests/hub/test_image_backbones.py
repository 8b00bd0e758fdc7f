"""Backbones of images: weights of the published networks, and the levels, against the originals."""

import numpy as np
import pytest
import torch
from image_checkpoints import transformers_checkpoint
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
PUBLISHED = [f"regnet{kind}_{size}" for kind, sizes in REGNETS.items() for size in sizes]


@pytest.mark.parametrize("architecture", PUBLISHED)
def test_weights_have_the_names_and_shapes_of_timm(architecture):
    with torch.device("meta"):
        theirs = import_timm().create_model(architecture).state_dict()
    family = family_of(timm_model_type(architecture))
    with keras.use_backend("jax"):
        backbone = family.backbone(**arguments(family, {"architecture": architecture}))
    weights = weight_variables(backbone)
    matches = name_tensors(layer_storages(backbone, weights), family.table(backbone.get_config()))
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
