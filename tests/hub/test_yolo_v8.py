"""YOLOv8 against a reference in plain torch, and its files in the layouts they are published in."""

import json
import math
import sys
import types

import numpy as np
import pytest
import torch
import yolo_reference
from compare import assert_close
from safetensors.torch import load_file, save_file
from yolo_reference import YOLOv8, converted, kerascv_preset, random_yolo

import hub
import keraslite as keras
from hub.cli import main
from hub.convert.kerascv import convert_kerascv
from hub.families import family_of
from hub.models.yolo_v8 import SIZES, YOLOV8Head
from hub.presets import resolve
from hub.presets.build import find_checkpoint, load
from hub.presets.save import config_of, write_preset
from hub.presets.table import preset_row

# name -> channels, depth, classes, depth of the neck: all four channels differ where they may
TINY = {
    "narrow": ((8, 16, 24, 32), (1, 2, 1, 1), 3, 1),
    "deep": ((4, 8, 8, 16), (2, 1, 1, 2), 70, 2),
}
SIZE = {"narrow": (2, 64, 96), "deep": (1, 96, 32)}  # of the images: batch, height, width
COUNTS = {"n": 3_157_200, "s": 11_166_560, "m": 25_902_640, "l": 43_691_520, "x": 68_229_648}
PYRAMID = ("P3", "P4", "P5")


class Detector(keras.Model):
    """Backbone and head under the names of a task's attributes."""

    def __init__(self, backbone, num_classes, fpn_depth, **kwargs):
        super().__init__(dtype=backbone.dtype_policy)
        self.backbone = backbone
        self.head = YOLOV8Head(num_classes, fpn_depth, dtype=backbone.dtype_policy, **kwargs)
        self.head.build([backbone.pyramid_outputs[level].shape for level in PYRAMID])
        self.built = True

    def call(self, images, training=False):
        levels = self.backbone.pyramid_outputs
        features = keras.Model(self.backbone.inputs, [levels[level] for level in PYRAMID])
        return self.head(features(images, training=training), training=training)


def new_detector(channels, depth, classes, fpn_depth, **kwargs):
    return Detector(hub.YOLOV8Backbone(channels, depth), classes, fpn_depth, **kwargs)


def loaded(preset, detector=None, head=True, **kwargs):
    """Load backbone and head as a task does; without `head` the head stays new."""
    checkpoint = find_checkpoint(preset, lambda family: True)
    table = checkpoint.family.head("ObjectDetector").weights

    def assemble(backbone, weights):
        config = {"num_classes": 5, "fpn_depth": 1, **checkpoint.config, **(detector or {})}
        return Detector(backbone, config["num_classes"], config["fpn_depth"])

    return load(
        checkpoint, assemble, head=table if head else table.prefixed("", "-/"), new=("head",),
        **kwargs,
    )  # fmt: skip


def images_of(name):
    return np.random.default_rng(0).random((*SIZE[name], 3), "float32")


def channels_last(x):
    return x.permute(0, 2, 3, 1).numpy()


@pytest.fixture(scope="module", params=TINY)
def reference(request):
    """(name, reference, images, its features, its raw output)."""
    model, images = random_yolo(*TINY[request.param]), images_of(request.param)
    with torch.no_grad():
        inputs = torch.tensor(images).permute(0, 3, 1, 2)
        return request.param, model, images, model.features(inputs), model(inputs)


def write_config(folder, name):
    channels, depth, classes, fpn_depth = TINY[name]
    config = {
        "model_type": "yolo_v8", "stackwise_channels": channels, "stackwise_depth": depth,
        "num_classes": classes, "fpn_depth": fpn_depth, "architectures": ["YOLOV8Detector"],
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))


def test_maps_are_those_of_the_reference(backend, reference, tmp_path):
    _, oracle, images, features, expected = reference
    save_file(oracle.state_dict(), tmp_path / "yolo.safetensors")
    detector, new = loaded(tmp_path / "yolo.safetensors")
    assert new == []
    levels = detector.backbone.pyramid_outputs
    outputs = {**levels, **detector.head([levels[level] for level in PYRAMID])}
    assert list(outputs) == ["P2", *PYRAMID, "boxes", "classes"]
    out = keras.Model(detector.backbone.inputs, outputs).predict(images, verbose=0)
    theirs = {level: channels_last(x) for level, x in zip(levels, features, strict=True)}
    theirs |= {key: value.numpy() for key, value in expected.items()}
    for key, value in theirs.items():  # of `predict`, which folds normalizations
        assert_close(out[key], value, rtol=1e-4, share=1e-5, message=key)


def test_training_follows_the_statistics_of_the_batch(tmp_path):
    """Outputs and moving statistics of one step in training are those of torch."""
    oracle, images = random_yolo(*TINY["narrow"]), images_of("narrow")
    save_file(oracle.state_dict(), tmp_path / "yolo.safetensors")
    with torch.no_grad(), keras.use_backend("torch"):
        detector, _ = loaded(tmp_path / "yolo.safetensors")
        expected = oracle.train()(torch.tensor(images).permute(0, 3, 1, 2))
        assert_close(detector(images, training=True), dict(expected), 1e-3, share=1e-4)
    first, statistics = detector.backbone.get_layer("stem_1_bn"), oracle.state_dict()
    assert_close(first.moving_mean, statistics["model.0.bn.running_mean"], 1e-4, 1e-5)
    # Keras moves towards the variance of the batch, torch towards its unbiased estimate.
    assert_close(first.moving_variance, statistics["model.0.bn.running_var"], 1e-2)


@pytest.mark.parametrize("size", SIZES)
def test_parameters_are_those_of_the_published_sizes(size):
    """The published numbers count the 16 constants of the distances, which we keep as none."""
    arguments = dict(SIZES[size])
    fpn_depth = arguments.pop("fpn_depth")
    with torch.device("meta"):
        theirs = YOLOv8(*arguments.values(), 80, fpn_depth)
    assert sum(value.numel() for value in theirs.parameters()) == COUNTS[size]
    with keras.use_backend("jax"):
        detector = new_detector(*arguments.values(), 80, fpn_depth)
    assert all(variable._raw is None for variable in detector.weights)
    trained = sum(math.prod(v.shape) for v in detector.trainable_weights)
    assert trained == COUNTS[size] - 16
    names = dict(zip("nsmlx", ("xs", "s", "m", "l", "xl"), strict=True))
    row = preset_row(f"yolo_v8_{names[size]}_coco")
    stated = {key: row["config"][key] for key in SIZES[size]}
    assert stated == {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in SIZES[size].items()
    }
    assert row["file"] == f"yolov8{size}.safetensors"
    assert row["license"] == "agpl-3.0"
    assert len(set(row["config"]["label_names"])) == row["config"]["num_classes"] == 80


def test_a_file_is_written_back_under_the_names_of_the_authors(reference, tmp_path):
    name, oracle, images, _, expected = reference
    save_file(converted(oracle.state_dict()), tmp_path / "model.safetensors")
    write_config(tmp_path, name)
    with keras.use_backend("torch"):
        detector, _ = loaded(tmp_path)
        family = family_of("yolo_v8")
        head = {"num_classes": TINY[name][2], "fpn_depth": TINY[name][3]}
        config = config_of(family, detector.backbone, "YOLOV8Detector", head)
        table = family.task_weights("ObjectDetector", detector.backbone)
        write_preset(tmp_path / "saved", detector, table, config, None)
        again, _ = loaded(tmp_path / "saved")
        assert_close(again(images), {k: v.numpy() for k, v in expected.items()}, 1e-4, share=1e-5)
    written = load_file(tmp_path / "saved" / "model.safetensors")
    lacking = oracle.load_state_dict(written, strict=False)
    assert not lacking.unexpected_keys
    others = [k for k in lacking.missing_keys if not k.endswith("num_batches_tracked")]
    assert others == ["model.22.dfl.conv.weight"]
    saved = json.loads((tmp_path / "saved" / "config.json").read_text())
    original = json.loads((tmp_path / "config.json").read_text())
    assert {key: saved[key] for key in original} == original


@pytest.mark.parametrize("key", ["model", "ema"])
def test_a_file_of_the_authors_is_a_pickled_module(key, tmp_path, monkeypatch):
    """In half precision, of classes of a package that is not there, with the names of classes."""
    oracle, images = random_yolo(*TINY["narrow"]).half(), images_of("narrow")
    oracle.names = {0: "disc", 1: "square", 2: "star"}
    package = types.ModuleType("authors_code")
    monkeypatch.setitem(sys.modules, "authors_code", package)
    for cls in (yolo_reference.YOLOv8, *yolo_reference.PARTS):
        setattr(package, cls.__name__, cls)
        monkeypatch.setattr(cls, "__module__", "authors_code")
    content = {"model": None, "ema": None, "optimizer": None, "epoch": -1, "train_args": {"lr0": 1}}
    torch.save({**content, key: oracle}, tmp_path / "best.pt")
    monkeypatch.undo()
    with keras.use_backend("torch"):
        detector, new = loaded(tmp_path / "best.pt")
        assert new == []
        assert detector.backbone.source_config["id2label"] == {
            "0": "disc", "1": "square", "2": "star",
        }  # fmt: skip
        with torch.no_grad():
            expected = oracle.float()(torch.tensor(images).permute(0, 3, 1, 2))
        assert_close(detector(images), dict(expected), 1e-4, share=1e-5)
        assert main(["convert", str(tmp_path / "best.pt"), str(tmp_path / "ours")]) == 0
        again, _ = loaded(tmp_path / "ours")
        assert again.backbone.source_config == detector.backbone.source_config
        assert_close(again.get_weights(), detector.get_weights(), 0, 0)
    assert "authors_code" not in sys.modules


def test_a_preset_is_one_file_of_a_repository_and_its_licence_is_said_once(tmp_path, hub_server):
    (tmp_path / "repo").mkdir()
    for file in ("yolov8n.safetensors", "yolov8s.safetensors"):
        save_file(converted(random_yolo(*TINY["narrow"]).state_dict()), tmp_path / "repo" / file)
    hub_server.publish("lmz/candle-yolo-v8", tmp_path / "repo")
    channels, depth, _, _ = TINY["narrow"]
    sizes = {"stackwise_channels": channels, "stackwise_depth": depth}
    with keras.use_backend("torch"):
        with pytest.warns(UserWarning, match=r"'yolo_v8_xs_coco' are published under AGPL-3\.0"):
            backbone = hub.Backbone.from_preset("yolo_v8_xs_coco", **sizes)
        again = hub.Backbone.from_preset("yolo_v8_xs_coco", **sizes)  # a warning is an error
        handle = "hf://lmz/candle-yolo-v8/yolov8s.safetensors"
        other = hub.Backbone.from_preset(handle)
        facts = hub.info(handle)
        assert (facts["model_type"], facts["files"]) == ("yolo_v8", ["model.safetensors"])
        tensors = random_yolo(*TINY["narrow"]).state_dict().values()
        assert facts["parameters"] == sum(x.numel() for x in tensors if x.is_floating_point())
        for x, y, z in zip(*(m.get_weights() for m in (backbone, again, other)), strict=True):
            np.testing.assert_array_equal(x, y)
            np.testing.assert_array_equal(x, z)
        with pytest.raises(
            FileNotFoundError, match=r"has no 'yolov8m\.safetensors'; it has: yolov8n"
        ):
            hub.Backbone.from_preset("yolo_v8_m_coco")


# -- presets of KerasCV ---------------------------------------------------------------------------

OF_KERASCV = ((8, 16, 24, 32), (1, 2, 1, 1), 3, 2)  # its neck has two bottlenecks on the way up


def test_a_detector_of_kerascv_is_converted(tmp_path, capsys):
    oracle, images = random_yolo(*OF_KERASCV), images_of("narrow")
    kerascv_preset(tmp_path / "theirs", oracle, *OF_KERASCV[:2], detector=True)
    with keras.use_backend("torch"):
        assert main(["convert", str(tmp_path / "theirs"), str(tmp_path / "ours")]) == 0
    out = capsys.readouterr().out
    assert "model.22.cv2.2.2.bias" in out
    assert "<- layers/functional/layers/conv2d/vars/0  (transposed)" in out
    written = load_file(tmp_path / "ours" / "model.safetensors")
    for name, value in oracle.state_dict().items():
        if not name.endswith(("num_batches_tracked", "dfl.conv.weight")):
            np.testing.assert_array_equal(written[name], value, err_msg=name)
    with torch.no_grad(), keras.use_backend("torch"):
        detector, _ = loaded(tmp_path / "ours")
        expected = oracle(torch.tensor(images).permute(0, 3, 1, 2))
        assert_close(detector(images), dict(expected), 1e-4, share=1e-5)


def test_a_backbone_of_kerascv_is_converted(tmp_path):
    oracle, images = random_yolo(*OF_KERASCV), images_of("narrow")
    folder = tmp_path / "theirs"
    kerascv_preset(folder, oracle, *OF_KERASCV[:2], detector=False)
    with torch.no_grad(), keras.use_backend("torch"):
        convert_kerascv(resolve(folder), tmp_path / "ours")
        backbone = hub.Backbone.from_preset(tmp_path / "ours")
        expected = oracle.features(torch.tensor(images).permute(0, 3, 1, 2))[-1]
        assert_close(backbone(images), channels_last(expected), 1e-4, share=1e-5)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c: c.update(class_name="RetinaNet"), "is a 'RetinaNet' of KerasCV"),
        (lambda c: c["config"].update(fpn_depth=3), "fpn_depth=3, which must be 2"),
        (lambda c: c["config"].update(num_classes="a"), "num_classes must be a positive integer"),
        (lambda c: c["config"].update(num_classes=4), r"wrong shape.*class_p3_output/kernel"),
        (lambda c: c["config"].update(backbone=3), "is a None of KerasCV"),
        (lambda c: c["config"]["backbone"]["config"].update(stackwise_depth=[1] * 4),
         "Unused in the preset"),
        (lambda c: c["config"]["backbone"]["config"].update(stackwise_depth=[1, 10**9, 1, 1]),
         "the weights beside it 327 tensors"),
        (lambda c: c["config"]["backbone"]["config"].update(stackwise_channels=["8"] * 4),
         "a list, each an integer of at least 1"),
    ],
)  # fmt: skip
def test_presets_of_kerascv_that_do_not_fit(tmp_path, change, match):
    folder = tmp_path / "theirs"
    kerascv_preset(folder, random_yolo(*OF_KERASCV), *OF_KERASCV[:2], detector=True)
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    with keras.use_backend("torch"), pytest.raises(ValueError, match=match):
        convert_kerascv(resolve(folder), tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_half_precision_is_kept_where_it_is_asked_for(tmp_path):
    oracle = random_yolo(*TINY["narrow"]).half()
    save_file(oracle.state_dict(), tmp_path / "model.safetensors")
    with keras.use_backend("torch"):
        detector, _ = loaded(tmp_path, dtype="float16")
        assert {v.dtype for v in detector.trainable_weights} == {"float16"}
        detector, _ = loaded(tmp_path, dtype="mixed_float16")
        out = detector(images_of("narrow"))
        assert {str(value.dtype) for value in out.values()} == {"torch.float32"}


def test_a_new_head_over_a_published_backbone(reference, tmp_path):
    name, oracle, _, features, _ = reference
    whole, alone = tmp_path / "whole.safetensors", tmp_path / "alone.safetensors"
    save_file(oracle.state_dict(), whole)
    save_file({k: v for k, v in oracle.state_dict().items() if int(k.split(".")[1]) < 10}, alone)
    with keras.use_backend("torch"):
        backbone = hub.Backbone.from_preset(whole)
        assert isinstance(backbone, hub.YOLOV8Backbone)
        assert_close(backbone(images_of(name)), channels_last(features[-1]), 1e-4, share=1e-5)
        for file, head in ((whole, False), (alone, True)):
            detector, new = loaded(file, {"num_classes": 5}, head)
            assert set(new) == {p for p, _ in detector.named_weights() if p.startswith("head/")}
        classes = detector.head.network.get_layer("class_p4_output")
        boxes = detector.head.network.get_layer("box_p4_output")
        assert_close(boxes.bias, np.ones(64, "float32"))
        prior = 5 / 5 / (640 / 16) ** 2  # five objects of five classes in an image of 640
        assert_close(classes.bias, np.full(5, math.log(prior), "float32"))


def test_tensors_that_do_not_fit_are_named(tmp_path):
    tensors = random_yolo(*TINY["narrow"]).state_dict()
    write_config(tmp_path, "narrow")
    file = tmp_path / "model.safetensors"
    with keras.use_backend("torch"):
        save_file({k: v for k, v in tensors.items() if k != "model.4.m.1.cv1.bn.bias"}, file)
        with pytest.raises(ValueError, match=r"Missing .*model\.4\.m\.1\.cv1\.bn\.bias"):
            hub.YOLOV8Backbone.from_preset(tmp_path)
        save_file({**tensors, "model.2.m.1.cv1.conv.weight": torch.zeros(1)}, file)
        with pytest.raises(ValueError, match=r"Unused .*model\.2\.m\.1\.cv1\.conv"):
            hub.YOLOV8Backbone.from_preset(tmp_path)
        save_file({**tensors, "model.12.m.1.cv1.conv.weight": torch.zeros(1)}, file)
        hub.YOLOV8Backbone.from_preset(tmp_path)
        with pytest.raises(ValueError, match=r"Unused .*model\.12\.m\.1\.cv1\.conv"):
            loaded(tmp_path)
        save_file({k: v for k, v in tensors.items() if "cv3.1.2" not in k}, file)
        with pytest.raises(ValueError, match=r"Missing .*model\.22\.cv3\.1\.2\.weight"):
            loaded(tmp_path)
        save_file({**tensors, "model.22.cv3.0.2.bias": torch.zeros(4)}, file)
        with pytest.raises(ValueError, match=r"model\.22\.cv3\.0\.2\.bias \(4,\).*expected \(3,\)"):
            loaded(tmp_path)
        (tmp_path / "config.json").write_text('{"model_type": "yolo_v8"}')
        with pytest.raises(ValueError, match="must have .'stackwise_channels', 'stackwise_depth'"):
            hub.YOLOV8Backbone.from_preset(tmp_path)


def test_weights_alone_say_their_sizes(tmp_path):
    tensors = random_yolo(*TINY["deep"]).state_dict()
    save_file(converted(tensors), tmp_path / "yolo.safetensors")
    config = find_checkpoint(tmp_path / "yolo.safetensors", lambda family: True).config
    channels, depth, classes, fpn_depth = TINY["deep"]
    assert config == {
        "model_type": "yolo_v8", "stackwise_channels": [*channels], "stackwise_depth": [*depth],
        "num_classes": classes, "fpn_depth": fpn_depth, "box_channels": 64, "class_channels": 70,
        "architectures": ["YOLOV8Detector"],
    }  # fmt: skip
    save_file({"x": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(FileNotFoundError, match=r"no 'config\.json'"):
        hub.Backbone.from_preset(tmp_path / "other.safetensors")


def test_arguments_must_fit():
    with keras.use_backend("torch"):
        with pytest.raises(ValueError, match="must have a number for each stage, got"):
            hub.YOLOV8Backbone((4, 8), (1, 1, 1))
        head = YOLOV8Head(3)
        with pytest.raises(ValueError, match=r"multiples of 32.*\(9, 8\), \(4, 4\)"):
            head([np.ones((1, h, w, 8), "float32") for h, w in ((9, 8), (4, 4), (2, 2))])
        copy = YOLOV8Head.from_config(YOLOV8Head(3, 1, class_channels=9).get_config())
        assert (copy.num_classes, copy.fpn_depth, copy.class_channels) == (3, 1, 9)
        keras.config.set_image_data_format("channels_first")
        try:
            with pytest.raises(ValueError, match="must be 'channels_last' for YOLOV8Backbone"):
                hub.YOLOV8Backbone((4, 8), (1, 1))
        finally:
            keras.config.set_image_data_format("channels_last")


def test_pixels_up_to_255_are_scaled():
    with keras.use_backend("torch"):
        arguments = ((4, 8, 8, 8), (1, 1, 1, 1))
        scaled = hub.YOLOV8Backbone(*arguments, include_rescaling=True)
        plain = hub.YOLOV8Backbone(*arguments)
        plain.set_weights(scaled.get_weights())
        images = images_of("narrow")
        assert_close(scaled(images * 255), plain(images), 1e-4)
