"""DenseNet, VGG, Xception, Inception and NASNet as timm has them, tiny where they can be."""

import json
import sys

import numpy as np
import pytest
import torch
from image_checkpoints import CLASSES, randomize
from safetensors.torch import load_file, save_file
from timm_oracle import import_timm

import hub
import keraslite as keras
from hub.families import family_of, timm_model_type
from hub.presets.build import arguments
from hub.weights.loading import layer_storages, weight_variables
from hub.weights.tables import name_tensors

XCEPTION = {
    "filters": ((4, 8), (12, 12), (16, 16), (20, 20), *(8 * [(20, 20, 20)]), (20, 24), (28, 32))
}
ALIGNED = {
    "stackwise_conv_filters": ((8, 8, 8), (12, 12, 12), (12, 12, 12), (12, 16, 16), (20, 20, 24)),
    "stackwise_num_strides": (2, 2, 1, 2, 1), "input_conv_filters": (4, 8),
}  # fmt: skip
# architecture -> (sizes of timm, arguments here)
TINY = {
    "densenet121": (
        {"growth_rate": 8, "block_config": (2, 3, 1, 2)},
        {"growth_rate": 8, "stackwise_num_repeats": (2, 3, 1, 2)},
    ),
    **{
        f"vgg{layers}": (
            {"filters": (8, 8, 16, 16, 32), "hidden": 12},
            {"stackwise_num_filters": (8, 8, 16, 16, 32), "pooling_hidden_dim": 12},
        )
        for layers in ("11", "13_bn")
    },
    "legacy_xception": (XCEPTION, {"stackwise_conv_filters": XCEPTION["filters"]}),
    "xception41": (ALIGNED, ALIGNED),
    "xception65p": (ALIGNED, ALIGNED),
    "inception_v3": ({}, {}),
    "inception_resnet_v2": ({"blocks": (1, 2, 2)}, {"stackwise_num_blocks": (1, 2, 2)}),
    "nasnetalarge": ({"stem_size": 6, "num_features": 192}, {"stem_filters": 6, "filters": 8}),
}
# The thousand layers of NASNet take long to compile.
ARCHITECTURES = [
    pytest.param(name, marks=pytest.mark.slow) if name == "nasnetalarge" else name for name in TINY
]
PUBLISHED = (
    [f"densenet{depth}" for depth in (121, 161, 169, 201)]
    + [f"vgg{depth}{end}" for depth in (11, 13, 16, 19) for end in ("", "_bn")]
    + [f"xception{depth}" for depth in ("41", "65", "71", "41p", "65p")]
    + ["legacy_xception", "inception_v3", "inception_resnet_v2", "nasnetalarge"]
)


def tiny_oracle(architecture):
    """Return a small network of timm with random weights, in evaluation."""
    timm, sizes = import_timm(), TINY[architecture][0]
    torch.manual_seed(0)
    if architecture.startswith("vgg"):
        return randomize(tiny_vgg(timm, architecture, **sizes))
    if architecture == "legacy_xception":
        return randomize(tiny_xception(timm, **sizes))
    if architecture.startswith("xception"):
        return randomize(tiny_aligned_xception(timm, architecture, **sizes))
    if architecture == "inception_resnet_v2":
        return randomize(tiny_inception_resnet(timm, **sizes))
    model = timm.create_model(architecture, num_classes=CLASSES, **sizes)
    if architecture in ("inception_v3", "nasnetalarge"):
        keep_features(model)
    return randomize(model)


def tiny_vgg(timm, architecture, filters, hidden):
    """Return a VGG with other filters, and with other widths of its large layers."""
    vgg = timm.models.vgg
    new = dict(zip((64, 128, 256, 512), filters, strict=False))
    rows = [new.get(row, row) for row in vgg.cfgs[architecture.partition("_")[0]]]
    last = max(i for i, row in enumerate(rows[:-1]) if row == "M")
    rows[last + 1 : -1] = [filters[-1]] * (len(rows) - last - 2)
    norm = torch.nn.BatchNorm2d if architecture.endswith("_bn") else None
    model = vgg.VGG(rows, num_classes=CLASSES, norm_layer=norm, mlp_ratio=1e-3)
    model.pre_logits = vgg.ConvMlp(filters[-1], hidden, 7, drop_rate=0.0)
    model.head, model.head_hidden_size = vgg.ClassifierHead(hidden, CLASSES), hidden
    return model


def tiny_xception(timm, filters):
    """Return an Xception with other filters."""
    model, nn = timm.create_model("legacy_xception", num_classes=CLASSES), torch.nn
    xception = sys.modules[type(model).__module__]
    channels, widths = 3, (*filters[0], *filters[-1])
    for i, width in enumerate(widths, 1):
        if i == 3:
            channels = filters[-2][-1]
        if i < 3:
            conv = nn.Conv2d(channels, width, 3, 2 if i == 1 else 1, bias=False)
        else:
            conv = xception.SeparableConv2d(channels, width, 3, padding=1)
        setattr(model, f"conv{i}", conv)
        setattr(model, f"bn{i}", nn.BatchNorm2d(width))
        channels = width
    channels = filters[0][-1]
    for i, row in enumerate(filters[1:-1], 1):
        block = xception.Block(
            channels, row[-1], len(row), 1 if len(row) == 3 else 2, i > 1, row[0] == row[-1]
        )
        setattr(model, f"block{i}", block)
        channels = row[-1]
    model.num_features = model.head_hidden_size = widths[-1]
    model.fc = nn.Linear(widths[-1], CLASSES)
    keep_features(model)
    return model


def tiny_aligned_xception(
    timm, architecture, stackwise_conv_filters, stackwise_num_strides, input_conv_filters
):
    """Return an Aligned Xception with other blocks."""
    channels, blocks = input_conv_filters[-1], []
    for filters, stride in zip(stackwise_conv_filters, stackwise_num_strides, strict=True):
        blocks.append({"in_chs": channels, "out_chs": filters, "stride": stride})
        channels = filters[-1]
    blocks[-1]["no_skip"] = True
    if not architecture.endswith("p"):
        blocks[-1]["start_with_relu"] = False
    model = timm.create_model(architecture, num_classes=CLASSES, block_cfg=blocks)
    first, second = input_conv_filters
    pre, nn = architecture.endswith("p"), torch.nn
    for layer, inputs, outputs in ((model.stem[0], 3, first), (model.stem[1], first, second)):
        stride = 2 if inputs == 3 else 1
        conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        if pre and stride == 1:
            model.stem[1] = conv
        else:
            layer.conv, layer.bn = conv, type(layer.bn)(outputs, eps=1e-3)
    keep_features(model)
    return model


def tiny_inception_resnet(timm, blocks):
    """Return an Inception-ResNet V2 with fewer blocks."""
    with torch.device("meta"):
        model = timm.create_model("inception_resnet_v2", num_classes=CLASSES)
    model.repeat, model.repeat_1 = model.repeat[: blocks[0]], model.repeat_1[: blocks[1]]
    model.repeat_2 = model.repeat_2[: blocks[2] - 1]  # the last block has a name of its own
    model.to_empty(device="cpu")
    keep_features(model)
    return model


def keep_features(model):
    """Give convolutions weights with which features neither vanish nor grow from layer to layer."""
    for value in model.parameters():
        if value.ndim == 4:
            torch.nn.init.kaiming_normal_(value, nonlinearity="relu")


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Return (folder, model of timm) of an architecture, whose name stands for tiny sizes here."""

    def write(architecture):
        variants = family_of(timm_model_type(architecture)).read.args[0]
        monkeypatch.setitem(
            variants, architecture, {**variants[architecture], **TINY[architecture][1]}
        )
        oracle, folder = tiny_oracle(architecture), tmp_path / "checkpoint"
        folder.mkdir()
        save_file(oracle.state_dict(), folder / "model.safetensors")
        config = {
            "architecture": architecture, "num_classes": CLASSES,
            "pretrained_cfg": {"input_size": [3, 75, 75], "crop_pct": 0.9},
        }  # fmt: skip
        (folder / "config.json").write_text(json.dumps(config))
        return folder, oracle

    return write


def images(height=75, width=75):
    """Return a dark and a bright image."""
    random = np.random.default_rng(0)
    return random.normal([[[[-1.0]]], [[[1.0]]]], 1.0, (2, height, width, 3)).astype("float32")


def shapes(architecture, backend, *sizes):
    """Return sizes of images: one, odd and even, where each takes long to compile.

    The features of VGG that are smaller than 7 x 7 are resized, so that it needs several.
    """
    several = backend in ("numpy", "torch") or architecture.startswith("vgg")
    return sizes if several and architecture != "nasnetalarge" else [(75, 96)]


@pytest.fixture
def on_torch():
    """One backend, where the scores on all of them are compared already."""
    with keras.use_backend("torch"):
        yield


def run(function, pixels):
    with torch.no_grad():
        return function(torch.tensor(pixels).permute(0, 3, 1, 2))


def assert_close(actual, expected):
    """Compare outputs, which must differ from image to image."""
    actual, expected = keras.ops.convert_to_numpy(actual), expected.numpy()
    assert np.ptp(expected, axis=0).max() > 1e-2 * np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_scores_and_vectors_are_those_of_timm(backend, architecture, tiny):
    folder, oracle = tiny(architecture)
    model = hub.ImageClassifier.from_preset(folder, activation=None, preprocessor=None)
    embedder = hub.ImageEmbedder.from_preset(folder, normalize=False, preprocessor=None)
    assert model.backbone.pooled_dim == oracle.head_hidden_size
    for shape in shapes(architecture, backend, (75, 75), (96, 118), (235, 270)):
        pixels = images(*shape)
        assert_close(model.predict(pixels, verbose=0), run(oracle, pixels))
        vectors = run(
            lambda x: oracle.forward_head(oracle.forward_features(x), pre_logits=True), pixels
        )
        assert_close(embedder.predict(pixels, verbose=0), vectors)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_levels_are_those_of_timm(on_torch, architecture, tiny):
    folder, oracle = tiny(architecture)
    backbone = hub.Backbone.from_preset(folder)
    for shape in shapes(architecture, "torch", (75, 75), (96, 118)):
        pixels = images(*shape)
        levels = keras.Model(backbone.inputs, backbone.pyramid_outputs)(pixels)
        expected = run(lambda x: oracle.forward_intermediates(x, intermediates_only=True), pixels)
        expected = expected[-len(levels) :]  # without the stem of some
        if architecture.endswith("p"):  # timm activates behind the last level
            expected[-1] = torch.relu(expected[-1])
        halvings = [round(np.log2(row["reduction"])) for row in oracle.feature_info]
        assert [f"P{n}" for n in halvings[-len(levels) :]] == list(levels)
        for level, value in zip(levels.values(), expected, strict=True):
            assert_close(level, value.permute(0, 2, 3, 1))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_timm_opens_what_is_saved(architecture, tiny, tmp_path):
    folder, oracle = tiny(architecture)
    with keras.use_backend("numpy"):
        hub.load(folder).save_to_preset(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert (config["architecture"], config["num_classes"]) == (architecture, CLASSES)
    tensors = load_file(tmp_path / "saved" / "model.safetensors")
    expected = oracle.state_dict()
    counts = {k: v for k, v in expected.items() if k.endswith("num_batches_tracked")}
    tiny_oracle(architecture).load_state_dict(tensors | counts)
    for name, value in tensors.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_backbone_is_rebuilt_from_its_config(on_torch, architecture, tiny, tmp_path):
    backbone = hub.Backbone.from_preset(tiny(architecture)[0])
    backbone.save(tmp_path / "model.keras")
    again, x = keras.saving.load_model(tmp_path / "model.keras"), images()
    for outputs in (lambda model: model(x), lambda model: model.pool(model(x))):
        expected = keras.ops.convert_to_numpy(outputs(backbone))
        # The rounding of PyTorch depends on where in memory weights begin.
        atol = 1e-6 * np.abs(expected).max()
        actual = keras.ops.convert_to_numpy(outputs(again))
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("architecture", PUBLISHED)
def test_weights_have_the_names_and_shapes_of_timm(architecture):
    with torch.device("meta"):
        theirs = import_timm().create_model(architecture)
    family = family_of(timm_model_type(architecture))
    with keras.use_backend("jax"):
        backbone = family.backbone(**arguments(family, {"architecture": architecture}))
    config = backbone.get_config()
    assert family.write(config) == {"architecture": architecture}
    weights = weight_variables(backbone)
    matches = name_tensors(layer_storages(backbone), family.table(config))
    shapes = {m.tensor: m.storage.stored_shape(weights[m.path].shape) for m in matches}
    assert all(variable._raw is None for variable in backbone.weights)
    classifier = theirs.default_cfg["classifier"] + "."
    assert shapes == {
        name: tuple(value.shape)
        for name, value in theirs.state_dict().items()
        if not name.startswith(classifier) and not name.endswith("num_batches_tracked")
    }
    epsilons = {module.eps for module in theirs.modules() if hasattr(module, "eps")}
    assert epsilons == ({config["epsilon"]} if epsilons else set())


def test_blocks_must_fit():
    with pytest.raises(ValueError, match="stackwise_pooling must have a truth value for each"):
        hub.XceptionBackbone([[4], [8], [8]], [True, True, True])
    with pytest.raises(ValueError, match=r"got \[8\] after \[4\]"):
        hub.XceptionBackbone([[4], [8], [8]], [True, False, False])
    with pytest.raises(ValueError, match=r"stackwise_num_strides must have a number for each row"):
        hub.AlignedXceptionBackbone([[4, 4, 4]], [2, 1])
    with pytest.raises(ValueError, match="stackwise_num_blocks must have three numbers"):
        hub.InceptionResNetV2Backbone((1, 0, 1))
    with pytest.raises(ValueError, match="filters must be a multiple of 4, got 6"):
        hub.NASNetBackbone(filters=6)
