"""MobileNetBackbone: networks of timm by name, its form, the layer before the classes, refusals."""

import json

import numpy as np
import pytest
import torch
import transformers
from backends import BACKENDS
from image_checkpoints import CLASSES, randomize, timm_checkpoint
from safetensors.torch import save_file
from timm_oracle import import_timm
from transformers.models.mobilenet_v2.image_processing_pil_mobilenet_v2 import (
    MobileNetV2ImageProcessorPil,
)

import hub
import keraslite as keras

V3 = "mobilenetv3_small_050"
FORM = {
    "stackwise_expansion": [[None], [48, 96]], "stackwise_num_filters": [[8], [16, 16]],
    "stackwise_kernel_size": [[3], [5, 5]], "stackwise_num_strides": [[1], [2, 1]],
    "stackwise_se_ratio": [[None], [0.25, 0.25]],
    "stackwise_activation": [["relu"], ["hard_swish", "hard_swish"]],
}  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mobilenet") / "checkpoint"
    timm_checkpoint(folder, V3)
    return folder


def preset(folder, **config):
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.slow
def test_networks_of_timm_have_their_layers(tmp_path):
    """Of every network, at its real size: names, shapes and epsilon, without any values."""
    names = import_timm().list_models(["mobilenetv[123]_*", "tf_mobilenetv3_*"])
    assert len(names) == 23
    for name in names:
        folder = preset(tmp_path, architecture=name, num_classes=CLASSES)
        with torch.device("meta"):
            theirs = import_timm().create_model(name, num_classes=CLASSES)
        with keras.use_backend(BACKENDS[0]):
            model = hub.load(folder, load_weights=False)
        model.save_to_preset(tmp_path / "saved")
        with open(tmp_path / "saved" / "model.safetensors", "rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        shapes = {k: v["shape"] for k, v in header.items() if k != "__metadata__"}
        tensors = {k: list(v.shape) for k, v in theirs.state_dict().items()}
        assert shapes == {k: v for k, v in tensors.items() if not k.endswith("tracked")}, name
        epsilons = {layer.eps for layer in theirs.modules() if hasattr(layer, "eps")}
        assert epsilons == {model.backbone.get_config()["epsilon"]}


def test_a_backbone_has_the_parameters_of_kerashub(small):
    """278,784 is the number that KerasHub states for it, without the layer behind pooling."""
    backbone = hub.MobileNetBackbone.from_preset(small)
    assert backbone.count_params() - backbone.hidden.count_params() == 278_784


def test_levels(backend):
    backbone = hub.MobileNetBackbone(**FORM, output_num_filters=24)
    levels = keras.Model(backbone.inputs, backbone.pyramid_outputs)
    x = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype("float32")
    outputs = levels(x)
    shapes = {name: tuple(value.shape[1:]) for name, value in outputs.items()}
    assert shapes == {"P1": (16, 16, 8), "P2": (8, 8, 24)}
    assert backbone.hidden_dim == 24
    again = hub.MobileNetBackbone.from_config(backbone.get_config())
    again.set_weights(backbone.get_weights())
    same = [keras.ops.convert_to_numpy(value) for value in (again(x), outputs["P2"])]
    np.testing.assert_allclose(*same, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "last"),
    [("mobilenetv3_large_150d", ["last", "last2"]), ("mobilenetv3_rw", ["last"])],
)
def test_scores_of_other_v3_networks_are_those_of_timm(backend, name, last, tmp_path):
    folder = tmp_path / "checkpoint"
    oracle = timm_checkpoint(folder, name)
    x = np.random.default_rng(0).normal([[[[-1.0]]], [[[1.0]]]], 1.0, (2, 75, 96, 3))
    inputs = torch.tensor(x, dtype=torch.float32).permute(0, 3, 1, 2)
    for layer in oracle.modules():
        if hasattr(layer, "running_var"):
            layer.momentum = 1.0
    with torch.no_grad():
        oracle.train()(inputs)  # averages of its own, or rounding would grow from layer to layer
        expected = oracle.eval()(inputs).numpy()
    save_file(oracle.state_dict(), folder / "model.safetensors")
    assert np.ptp(expected, axis=0).max() > 1e-2 * np.abs(expected).max()
    model = hub.ImageClassifier.from_preset(folder, activation=None, preprocessor=None)
    names = {layer.name for layer in model.backbone.layers}
    assert [n for n in ("last", "last2") if n in names] == last
    actual = model.predict(x.astype("float32"), verbose=0)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_forms_that_differ_are_refused():
    form = {**FORM, "stackwise_kernel_size": [[3], [5]]}
    with pytest.raises(ValueError, match="must have the same numbers of blocks"):
        hub.MobileNetBackbone(**form)


def test_the_layer_before_the_classes_is_saved(backend, small, tmp_path):
    model = hub.load(small)
    assert model.backbone.hidden.units == 1024
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(again.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("cls", "change", "message"),
    [
        ("V1", {"min_depth": 16}, "min_depth=16, which is not supported"),
        ("V1", {"hidden_act": "relu"}, "hidden_act='relu', which is not supported"),
        ("V2", {"output_stride": 16}, "output_stride=16, which is not supported"),
        ("V2", {"first_layer_is_expansion": False}, "first_layer_is_expansion=False"),
        ("V2", {"layer_norm_eps": -1.0}, "layer_norm_eps=-1.0: expected a number of at least 0"),
    ],
)
def test_configs_of_transformers_that_are_not_supported(cls, change, message, tmp_path):
    config = getattr(transformers, f"MobileNet{cls}Config")(**change)
    config.architectures = [f"MobileNet{cls}ForImageClassification"]
    config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        hub.load(tmp_path, load_weights=False)


@pytest.mark.parametrize(
    ("version", "name", "repo"),
    [
        ("V1", "mobilenet_v1_075_tf_imagenet", "google/mobilenet_v1_0.75_192"),
        ("V2", "mobilenet_v2_035_tf_imagenet", "google/mobilenet_v2_0.35_96"),
    ],
)
def test_a_preset_of_1001_classes(version, name, repo, backend, hub_server, tmp_path):
    """In the form in which Google published it: background first, older names of files and keys."""
    cls = getattr(transformers, f"MobileNet{version}ForImageClassification")
    labels = {i: f"n{i}" if i else "background" for i in range(1001)}
    oracle = randomize(cls(cls.config_class(depth_multiplier=0.25, id2label=labels)))
    published, saved = tmp_path / "published", tmp_path / "saved"
    oracle.config.save_pretrained(published)
    torch.save(oracle.state_dict(), published / "pytorch_model.bin")
    size = {"size": {"shortest_edge": 72}, "crop_size": {"height": 64, "width": 64}}
    images = {
        "feature_extractor_type": f"MobileNet{version}FeatureExtractor", "resample": 2, **size,
        "do_center_crop": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
    }  # fmt: skip
    (published / "preprocessor_config.json").write_text(json.dumps(images))
    hub_server.publish(repo, published)
    model = hub.ImageClassifier.from_preset(name, activation=None)
    picture = np.random.default_rng(0).integers(0, 256, (90, 100, 3), dtype=np.uint8)
    prepare = MobileNetV2ImageProcessorPil(**size)
    with torch.no_grad():
        expected = oracle(**prepare(picture, return_tensors="pt")).logits.numpy()
    scores = model.predict([picture], verbose=0)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    best = oracle.config.id2label[int(expected.argmax())]
    assert model.classify(picture)["label"] == best and model.labels[0] == "background"
    model.save_to_preset(saved)
    theirs = cls.from_pretrained(saved)
    assert theirs.config.id2label == labels
    tensors = theirs.state_dict()
    for key, value in oracle.state_dict().items():
        if not key.endswith("num_batches_tracked"):  # counted by PyTorch alone
            np.testing.assert_array_equal(tensors[key], value, err_msg=key)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_networks_that_transformers_lacks_are_not_saved_as_such(version, tmp_path):
    config = getattr(transformers, f"MobileNet{version.upper()}Config")(depth_multiplier=0.25)
    config.save_pretrained(tmp_path)
    with keras.use_backend(BACKENDS[0]):
        backbone = hub.MobileNetBackbone.from_preset(tmp_path, load_weights=False)
        backbone.save_to_preset(tmp_path / "saved")
        saved = json.loads((tmp_path / "saved" / "config.json").read_text())
        assert saved["depth_multiplier"] == 0.25
        other = hub.MobileNetBackbone(
            **{**backbone.get_config(), "name": None, "input_num_filters": 16}
        )
        other.source_config = backbone.source_config  # from which it has its family
        with pytest.raises(ValueError, match="transformers has no MobileNet"):
            other.save_to_preset(tmp_path / "other")
