"""LoRA of convolutions: trained on every backend, and exchanged with PEFT both ways."""

import copy
import json

import numpy as np
import peft
import pytest
import torch
from checkpoints import cached
from compare import assert_close
from image_checkpoints import OF_TRANSFORMERS, timm_checkpoint, transformers_checkpoint
from safetensors.numpy import load_file, save_file

import hub
import keraslite as keras

RESNET = "resnet, bottleneck"
# PEFT's own way of asking a model.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def write(folder, name):
    make = transformers_checkpoint if name in OF_TRANSFORMERS else timm_checkpoint
    folder.mkdir()
    return make(folder / "checkpoint", name)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return cached(write, tmp_path_factory)


def loaded(folder):
    options = {"preprocessor": None, "activation": None}
    return hub.ImageClassifier.from_preset(folder / "checkpoint", **options)


def pixels(count=3, size=64):
    return np.random.default_rng(0).normal(size=(count, size, size, 3)).astype("float32")


def scores_of(model, images):
    with torch.no_grad():
        outputs = model(torch.tensor(images).permute(0, 3, 1, 2))
    return getattr(outputs, "logits", outputs).numpy()


def assert_same(actual, expected):
    assert_close(actual, expected, rtol=1e-4, share=2e-5)


def test_only_the_update_and_the_head_are_trained(trains, checkpoints, tmp_path):
    folder, oracle = checkpoints(RESNET)
    model, images = loaded(folder), pixels(8)
    before = {p: v.numpy() for p, v in model.named_weights() if p.startswith("backbone/")}
    scores = model.predict(images, verbose=0)
    labels = np.arange(8) % 5
    trainable = len(model.trainable_variables)
    adapted = model.enable_lora(2, alpha=4)
    assert len(adapted) == 20 and "backbone/conv3_block2_2_conv" in adapted
    assert_same(model.predict(images, verbose=0), scores)
    assert len(model.trainable_variables) == 2 * len(adapted) + 2
    model.compile(keras.optimizers.Adam(0.01))
    losses = model.fit(images, labels, epochs=5, verbose=0, batch_size=4).history["loss"]
    assert losses[-1] < losses[0]
    for path, variable in model.named_weights():
        if path in before:  # the averages of normalisations too
            np.testing.assert_array_equal(variable.numpy(), before[path], err_msg=path)
    expected = model.predict(images, verbose=0)
    assert np.abs(expected - scores).max() > 0.1
    model.save_adapter(tmp_path / "adapter")
    model.save(tmp_path / "model.keras")
    again = loaded(folder)
    again.load_adapter(tmp_path / "adapter")
    for other in (again, keras.saving.load_model(tmp_path / "model.keras")):
        assert_same(other.predict(images, verbose=0), expected)
    theirs = peft.PeftModel.from_pretrained(copy.deepcopy(oracle), tmp_path / "adapter").eval()
    assert_same(scores_of(theirs, images), expected)
    assert_same(scores_of(theirs.merge_and_unload(), images), expected)
    model.save_to_preset(tmp_path / "whole")
    whole = type(oracle).from_pretrained(tmp_path / "whole").eval()
    assert_same(scores_of(whole, images), expected)
    model.disable_lora(merge=True)
    assert_same(model.predict(images, verbose=0), expected)
    assert len(model.trainable_variables) == trainable
    again.disable_lora()
    again.head.set_weights(loaded(folder).head.get_weights())
    assert_same(again.predict(images, verbose=0), scores)
    with pytest.raises(ValueError, match="no adapter: call enable_lora"):
        again.disable_lora()


@pytest.mark.parametrize(
    ("name", "targets", "heads"),
    [
        ("resnet, basic", ["convolution"], ["classifier"]),
        ("resnet18", ["conv2", "downsample.0"], ["fc"]),
        ("mobilenetv3_small_050", ["conv_pw", "conv_reduce", "conv_head"], None),
        ("convnext_atto", ["fc1", "downsample.1"], ["head"]),
        ("vit", ["q_proj", "o_proj", "fc2"], ["classifier"]),
    ],
)
def test_an_adapter_of_peft(backend, checkpoints, tmp_path, name, targets, heads):
    folder, oracle = checkpoints(name)
    config = peft.LoraConfig(r=3, lora_alpha=5, target_modules=targets, modules_to_save=heads)
    adapted = peft.get_peft_model(copy.deepcopy(oracle), config).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for key, parameter in adapted.named_parameters():
            if "lora_" in key or "modules_to_save" in key:  # PEFT begins without a change
                parameter.copy_(torch.randn_like(parameter) * 0.2)
    adapted.save_pretrained(tmp_path / "theirs")
    images = pixels(size=32 if name == "vit" else 64)
    expected = scores_of(adapted, images)
    assert np.abs(expected - scores_of(oracle, images)).max() > 1e-2 * np.abs(expected).max()
    model = loaded(folder)
    model.load_adapter(tmp_path / "theirs")
    assert_same(model.predict(images, verbose=0), expected)
    model.save_adapter(tmp_path / "ours")
    a, b = (load_file(tmp_path / n / "adapter_model.safetensors") for n in ("theirs", "ours"))
    assert set(a) <= set(b)
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)
    back = peft.PeftModel.from_pretrained(copy.deepcopy(oracle), tmp_path / "ours").eval()
    np.testing.assert_allclose(scores_of(back, images), expected, rtol=1e-5, atol=1e-5)


def test_an_adapter_of_older_transformers(checkpoints, tmp_path):
    """Whose modules have in memory the names that they have in the checkpoint."""
    folder, _ = checkpoints("deit")
    with keras.use_backend("numpy"):
        model, images = loaded(folder), pixels(size=32)
        model.enable_lora(2)
        random = np.random.default_rng(0)
        for variable in model.backbone.trainable_variables:
            variable.assign(random.normal(size=variable.shape))
        model.save_adapter(tmp_path)
        file = tmp_path / "adapter_model.safetensors"
        names = {
            ".layers.": ".encoder.layer.", ".q_proj": ".attention.query",
            ".v_proj": ".attention.value",
        }  # fmt: skip
        tensors = load_file(file)
        for new, old in names.items():
            tensors = {name.replace(new, old): value for name, value in tensors.items()}
        assert "base_model.model.deit.encoder.layer.1.attention.attention.query.lora_A.weight" in (
            tensors
        )
        save_file(tensors, file)
        again = loaded(folder)
        again.load_adapter(tmp_path)
        expected = model.predict(images, verbose=0)
        np.testing.assert_array_equal(again.predict(images, verbose=0), expected)


def test_modules_are_named_so_that_peft_finds_no_others(checkpoints, tmp_path):
    """`conv1` alone would be the first convolution too, and `0` a block."""
    with keras.use_backend("numpy"):
        model = loaded(checkpoints("resnet18")[0])
        model.enable_lora(1, targets=["conv2", "0", "conv2_block1_1_conv"])
        model.save_adapter(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    shortcuts = [f"layer{stage}.0.downsample.0" for stage in (2, 3, 4)]
    assert config["target_modules"] == ["conv2", "layer1.0.conv1", *shortcuts]


def test_convolutions_in_groups(checkpoints, tmp_path):
    folder, oracle = checkpoints("regnetx_002")
    with keras.use_backend("numpy"):
        model = loaded(folder)
        with pytest.raises(ValueError, match=r"in groups is not supported: leave \['backbone/sta"):
            model.enable_lora(2, targets=["stage2_block1_2_conv"])
        with pytest.raises(ValueError, match=r"No dense layer or convolution is named \['x'\]"):
            model.enable_lora(2, targets="x")
        with pytest.raises(ValueError, match="rank must be a positive integer, got 0"):
            model.enable_lora(0)
        assert all(model.enable_lora(2)) and not model.backbone.get_layer("stem_conv").groups > 1
        grouped = [x for x in model.backbone.layers if getattr(x, "groups", 1) > 1]
        assert grouped and not any(layer.lora_enabled for layer in grouped)
        config = peft.LoraConfig(r=7, target_modules=["s2.b1.conv2.conv"])
        with pytest.warns(UserWarning, match="Merging is not supported"):
            theirs = peft.get_peft_model(copy.deepcopy(oracle), config)
        theirs.save_pretrained(tmp_path)
        with pytest.raises(ValueError, match="in groups is not supported: leave"):
            loaded(folder).load_adapter(tmp_path)
