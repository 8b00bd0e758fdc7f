"""Presets of KerasHub's image models: read, and written so that KerasHub answers as ours do."""

import json
import shutil

import kerashub_image_presets as tiny
import numpy as np
import pytest
import torch
import transformers
from backends import BACKENDS
from compare import assert_close
from keras_process import run_with_keras

import hub
import keraslite as keras
from hub.convert.kerashub import convert_kerashub
from hub.convert.kerashub_image_families import IMAGE_BACKBONES
from hub.presets import resolve

_VIT = {
    "num_layers": 2, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 12, "image_size": 16,
    "patch_size": 8,
}  # fmt: skip
_RESNET = {"stackwise_num_filters": (64, 8), "stackwise_num_blocks": (1, 2)}
_DEEP = {**_RESNET, "input_conv_filters": (4, 6, 64)}
_EFFICIENT = {
    "stackwise_output_filters": (16, 24), "stackwise_num_repeats": (1, 2),
    "stackwise_kernel_sizes": (3, 5), "stackwise_expansion_ratios": (1, 4),
    "stackwise_strides": (1, 2), "stackwise_block_types": ("unfused", "unfused"),
    "depth_coefficient": 1.2, "width_coefficient": 0.5, "padding": "symmetric",
}  # fmt: skip
# Name -> the prefix of the classes, arguments of the backbone, the preprocessor of a classifier or
# None, and the backend.
WRITTEN = {
    "vit": ("ViT", _VIT, None, "jax"),
    "vit-classes": ("ViT", _VIT, ("ViT", {"size": 16}), "torch"),
    "deit": ("DeiT", _VIT, None, "torch"),
    "resnet": ("ResNet", {**_RESNET, "block_type": "basic_block"}, None, "tensorflow"),
    "resnet-classes": (
        "ResNet", _RESNET, ("Bit", {"size": 32, "crop_size": 32, "resample": 2}), "torch"
    ),
    "resnet-v2": ("ResNet", {**_RESNET, "use_pre_activation": True}, None, "torch"),
    "resnet-deep": ("ResNet", {**_DEEP, "block_type": "basic_block"}, None, "torch"),
    "resnet-vd": ("ResNet", {**_DEEP, "pool_in_shortcut": True}, None, "torch"),
    "efficientnet": ("EfficientNet", _EFFICIENT, None, "torch"),
}  # fmt: skip
IN_TIMM = ("resnet-v2", "resnet-vd", "efficientnet")
LEVELS = 2.5  # of 256: both sides round to bytes where they resize, Pillow along each axis


def written_model(name):
    """A random model of ours."""
    prefix, sizes, images, _ = WRITTEN[name]
    if prefix == "DeiT":
        model = hub.ViTBackbone(**sizes, use_distillation_token=True)
    else:
        model = getattr(hub, f"{prefix}Backbone")(**sizes)
    if images is not None:
        preprocessor = hub.ImagePreprocessor(images[0], **images[1])
        model = hub.ImageClassifier(model, 3, preprocessor)
    weights = [keras.ops.convert_to_numpy(w) for w in model.weights]
    model.set_weights(list(tiny.scrambled(weights, np.random.default_rng(0))))
    return model


@pytest.fixture(scope="session")
def both(tmp_path_factory):
    """The folder of all presets, and our outputs by name."""
    folder, answers = tmp_path_factory.mktemp("kerashub-images"), {}
    (folder / "exported").mkdir()
    for name, (_, _, images, backend) in WRITTEN.items():
        with keras.use_backend(backend if backend in BACKENDS else BACKENDS[-1]):
            model = written_model(name)
            is_vit = WRITTEN[name][0] in ("ViT", "DeiT")
            batch = {"images": tiny.images((16, 16, 3) if is_vit else (48, 40, 3))}
            answers[name] = keras.ops.convert_to_numpy(model(batch["images"]))
            hub.export_to_kerashub(model, folder / "exported" / name)
            if images is not None:
                for key, size in tiny.sizes_of_pictures(model.preprocessor.image_size).items():
                    batch[key] = tiny.pictures(size)
        np.savez(folder / "exported" / f"{name}.batch.npz", **batch)
    assert "Skipping variable" not in run_with_keras(tiny.__file__, folder, backend="torch")
    return folder, answers


@pytest.fixture(scope="session")
def converted(both, tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted-images")
    for name in tiny.MADE:
        convert_kerashub(resolve(both[0] / "made" / name), folder / name)
    return folder


@pytest.mark.parametrize("name", [name for name in tiny.MADE if name not in IN_TIMM])
def test_converted_models_equal(backend, both, converted, name):
    _same_as_made(both, converted, name)


@pytest.mark.parametrize("name", IN_TIMM)
def test_converted_models_of_timm_equal(both, converted, name):
    with keras.use_backend(BACKENDS[-1]):
        _same_as_made(both, converted, name)


def _same_as_made(both, converted, name):
    """Raise unless a converted model answers as KerasHub's did."""
    theirs = np.load(both[0] / "made" / f"{name}.npz")
    _, _, task, converter = tiny.MADE[name]
    if task is None:
        model = hub.Backbone.from_preset(converted / name)
    else:
        more = {} if converter is not None else {"preprocessor": None}
        model = hub.ImageClassifier.from_preset(
            converted / name, activation=task.get("activation"), **more
        )
        assert model.new_weights == []
    out = keras.ops.convert_to_numpy(model(theirs["images"]))
    # Of the many layers of timm's the small values have the errors of the large ones.
    share = 1e-5 if name in IN_TIMM else 0.0
    assert_close(out, theirs["output"], rtol=1e-5, atol=1e-5, share=share)
    if converter is not None:
        assert_same_pixels(model.preprocessor, theirs)


def assert_same_pixels(preprocessor, theirs):
    """Raise unless a preprocessor makes of pictures what KerasHub made of them."""
    black, next_to = (preprocessor.values(np.full((1, 1, 3), v, "uint8")) for v in (0, 1))
    for key, size in tiny.sizes_of_pictures(preprocessor.image_size).items():
        ours = preprocessor(list(tiny.pictures(size)))
        levels = LEVELS if key == "larger_pictures" else 0.0
        step = next_to - black
        assert_close(ours / step, theirs[key] / step, rtol=1e-5, atol=levels, share=1e-5)


@pytest.mark.parametrize("name", ["vit-classes", "resnet-classes"])
def test_transformers_opens_it(both, converted, name):
    theirs = np.load(both[0] / "made" / f"{name}.npz")
    model = transformers.AutoModelForImageClassification.from_pretrained(converted / name).eval()
    with torch.no_grad():
        logits = model(torch.from_numpy(theirs["images"].transpose(0, 3, 1, 2).copy())).logits
    out = logits.softmax(-1) if name == "vit-classes" else logits
    assert_close(out.numpy(), theirs["output"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", WRITTEN)
def test_kerashub_answers_the_same(both, name):
    folder, answers = both[0] / "exported", both[1]
    theirs = np.load(folder / f"{name}.out.npz")["output"]
    assert_close(answers[name], theirs, rtol=1e-5, atol=1e-5)
    assert json.loads((folder / "again.json").read_text())[name] == []
    if WRITTEN[name][2] is not None:
        processor, settings = WRITTEN[name][2]
        names = ("larger_pictures", "ready_pictures")
        assert_same_pixels(
            hub.ImagePreprocessor(processor, **settings),
            {key: np.load(folder / f"{name}.{key}.npy") for key in names},
        )


def test_what_is_read_is_written():
    for rows in (WRITTEN, tiny.MADE):
        assert {f"{row[0]}Backbone" for row in rows.values()} == set(IMAGE_BACKBONES)


# -- what is refused ------------------------------------------------------------------------------

# What is changed in which file of which preset, and the error.
REFUSED = {
    "vit-classes": [
        ("config.json", {"use_mha_bias": False}, "use_mha_bias=False, supported is True"),
        ("config.json", {"image_shape": [16, 8, 3]}, "of a square that such patches fill"),
        ("config.json", {"image_shape": [16, 16, None]}, "of a square that such patches fill"),
        ("config.json", {"patch_size": [3, 3]}, "of a square that such patches fill"),
        ("config.json", {"patch_size": []}, "patch_size=.., expected a list of positive ints"),
        ("config.json", {"num_layers": 2000}, "2000 layers, the file"),
        ("image_converter.json", {"pad_to_aspect_ratio": True}, "pad_to_aspect_ratio=True"),
        ("image_converter.json", {"image_size": [16, 8]}, "supported are squares"),
        ("image_converter.json", {"interpolation": "lanczos5"}, "interpolation='lanczos5'"),
        ("task.json", {"activation": "sigmoid"}, "activation='sigmoid'"),
    ],
    "resnet": [
        ("config.json", {"stackwise_num_strides": [1, 1]}, "stackwise_num_strides=.1, 1"),
        ("config.json", {"input_conv_kernel_sizes": [3]}, "supported is .7."),
        ("config.json", {"input_conv_filters": [None]}, "expected a list of positive ints"),
        ("config.json", {"stackwise_num_filters": [8, 8]}, "64 filters in its first stage"),
        ("config.json", {"block_type": "basic_block_vd"}, "supported is 'basic_block' or"),
        ("config.json", {"use_pre_activation": True}, "supported is 'bottleneck_block'"),
        ("config.json", {"stackwise_num_blocks": [2, 2]}, "do not fit"),
    ],
    "efficientnet": [
        ("config.json", {"stackwise_block_types": ["fused"] * 7}, "stackwise_block_types=.'fused'"),
        ("config.json", {"stackwise_squeeze_and_excite_ratios": [0] * 7}, "expected numbers"),
        ("config.json", {"stackwise_width_coefficients": [1] * 6 + [2]}, "width_coefficients=.1"),
        ("config.json", {"projection_activation": "relu"}, "projection_activation='relu'"),
        ("config.json", {"stackwise_input_filters": [8] * 7}, "stackwise_input_filters=.8"),
        ("config.json", {"activation": "gelu"}, "timm has no architecture with"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "file", "change", "words"),
    [(name, *row) for name, rows in REFUSED.items() for row in rows],
)
def test_presets_are_refused(both, tmp_path, name, file, change, words):
    source = _changed(both, tmp_path, name, file, change)
    with pytest.raises(ValueError, match=words):
        convert_kerashub(resolve(source), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _changed(both, folder, name, file, change):
    """A copy of a preset whose config in a file is changed."""
    source = folder / "source"
    shutil.copytree(both[0] / "made" / name, source)
    record = json.loads((source / file).read_text())
    record["config"] |= change
    (source / file).write_text(json.dumps(record))
    return source


def test_another_head_is_left(both, tmp_path):
    source = _changed(both, tmp_path, "resnet-classes", "task.json", {"pooling": "max"})
    rows = convert_kerashub(resolve(source), tmp_path / "out")
    left = {row.theirs: row.note for row in rows if not row.ours}
    assert "pooling='max'" in left["task/layers/dense/vars/0"]
    with keras.use_backend("numpy"):
        assert isinstance(hub.load(tmp_path / "out"), hub.ResNetBackbone)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"num_layers": 1, "image_size": 18}, "patches fill"),
        ({"activation": "relu"}, "activation='relu', not 'gelu'"),
    ],
)
def test_models_are_refused(tmp_path, given, words):
    with keras.use_backend("numpy"), pytest.raises(ValueError, match=words):
        hub.export_to_kerashub(hub.ViTBackbone(**{**_VIT, **given}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_second_head_of_a_deit_is_refused(tmp_path):
    with keras.use_backend("numpy"):
        model = hub.ImageClassifier(hub.ViTBackbone(**_VIT, use_distillation_token=True), 2)
    with pytest.raises(ValueError, match="DeiTImageClassifier has no place for .'head_dist/kernel"):
        hub.export_to_kerashub(model, tmp_path / "out")


@pytest.mark.parametrize(
    "settings", [{"size": {"shortest_edge": 9}, "do_center_crop": False}, {"resample": 4}]
)
def test_preprocessors_are_refused(tmp_path, settings):
    preprocessor = hub.ImagePreprocessor("CLIP", **settings)
    with keras.use_backend("numpy"):
        model = hub.ImageClassifier(hub.ViTBackbone(**_VIT), 2, preprocessor)
    with pytest.raises(ValueError, match="cannot resize images"):
        hub.export_to_kerashub(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_margin_is_kept_with_a_warning(tmp_path):
    with keras.use_backend("numpy"):
        model = hub.ImageClassifier(hub.ViTBackbone(**_VIT), 2, hub.ImagePreprocessor("timm"))
        with pytest.warns(UserWarning, match="crops out of {'shortest_edge': 256}") as caught:
            hub.export_to_kerashub(model, tmp_path / "out")
        assert caught[0].filename == __file__
    config = json.loads((tmp_path / "out" / "image_converter.json").read_text())["config"]
    assert config["image_size"] == [224, 224] and config["crop_to_aspect_ratio"]
