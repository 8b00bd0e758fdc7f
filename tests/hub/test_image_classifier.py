"""Classifiers of images, against transformers and timm."""

import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
import torch
import transformers
from backends import BACKENDS
from image_checkpoints import (
    CLASSES,
    OF_TIMM,
    OF_TRANSFORMERS,
    timm_checkpoint,
    transformers_checkpoint,
)
from PIL import Image
from safetensors.torch import load_file
from timm_oracle import import_timm

import hub
import keraslite as keras
from hub.cli import main
from hub.families import family_of, timm_model_type
from hub.weights.loading import layer_storages, weight_variables
from hub.weights.tables import name_tensors


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Return (folder, model of the oracle) of a name, each written once."""
    made = {}

    def get(name):
        if name not in made:
            folder = tmp_path_factory.mktemp("images") / "checkpoint"
            write = transformers_checkpoint if name in OF_TRANSFORMERS else timm_checkpoint
            made[name] = folder, write(folder, name)
        return made[name]

    return get


def pictures(count=3):
    random = np.random.default_rng(0)
    return [
        Image.fromarray(random.integers(0, 256, (70 + i, 91, 3), dtype=np.uint8))
        for i in range(count)
    ]


def scores_of(model, pixels):
    with torch.no_grad():
        outputs = model(torch.tensor(pixels).permute(0, 3, 1, 2))
    return getattr(outputs, "logits", outputs).numpy()


@pytest.mark.parametrize("name", [*OF_TRANSFORMERS, *OF_TIMM])
def test_scores_are_those_of_the_library_that_wrote_the_weights(backend, name, checkpoint):
    folder, oracle = checkpoint(name)
    model = hub.load(folder, activation=None)
    assert isinstance(model, hub.ImageClassifier)
    images = pictures()
    scores = model.predict(images, verbose=0)
    expected = scores_of(oracle, model.preprocessor(images))
    assert np.ptp(expected, axis=0).min() > 1e-3 * np.abs(expected).max(), (
        "images make no difference"
    )
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert model.labels == [f"class {i}" for i in range(CLASSES)]


@pytest.mark.parametrize("name", OF_TRANSFORMERS)
def test_transformers_opens_what_is_saved(name, checkpoint, tmp_path):
    folder, oracle = checkpoint(name)
    hub.load(folder).save_to_preset(tmp_path / "saved")
    theirs = getattr(transformers, OF_TRANSFORMERS[name][0]).from_pretrained(tmp_path / "saved")
    tensors = theirs.state_dict()
    for key, value in oracle.state_dict().items():
        if not key.endswith("num_batches_tracked"):  # counted by PyTorch alone
            np.testing.assert_array_equal(tensors[key], value, err_msg=key)
    pixels = hub.load(folder).preprocessor(pictures())
    # The rounding of PyTorch depends on where in memory weights begin.
    np.testing.assert_allclose(
        scores_of(theirs.eval(), pixels), scores_of(oracle, pixels), rtol=1e-5, atol=1e-6
    )
    again = hub.load(tmp_path / "saved")
    np.testing.assert_array_equal(again.preprocessor(pictures()), pixels)


@pytest.mark.parametrize("name", OF_TIMM)
def test_timm_opens_what_is_saved(name, checkpoint, tmp_path):
    folder, oracle = checkpoint(name)
    hub.load(folder).save_to_preset(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert (config["architecture"], config["num_classes"]) == (name, CLASSES)
    theirs = import_timm().create_model(name, num_classes=CLASSES).eval()
    tensors = load_file(tmp_path / "saved" / "model.safetensors")
    # Batches are counted by PyTorch alone.
    counts = {k: v for k, v in oracle.state_dict().items() if k.endswith("num_batches_tracked")}
    theirs.load_state_dict(tensors | counts)
    pixels = hub.load(folder).preprocessor(pictures())
    np.testing.assert_array_equal(scores_of(theirs, pixels), scores_of(oracle, pixels))


TIMM_FAMILIES = ("timm_convnext", "timm_convnext_small", "timm_efficientnet")
ARCHITECTURES = [(f, name) for f in TIMM_FAMILIES for name in family_of(f).read.args[0]]


@pytest.mark.slow
@pytest.mark.parametrize(("model_type", "name"), ARCHITECTURES)
def test_every_architecture_has_the_tensors_of_timm(model_type, name):
    """Their names and shapes, without values."""
    with torch.device("meta"):
        theirs = import_timm().create_model(name, num_classes=CLASSES)
    family, arguments = family_of(model_type), {"architecture": name}
    assert timm_model_type(name) == model_type
    with keras.use_backend(BACKENDS[0]):
        backbone = family.backbone(**family.read(arguments), image_shape=(32, 32, 3))
    config = backbone.get_config()
    assert family.write(config) == arguments
    weights = weight_variables(backbone)
    matches = name_tensors(layer_storages(backbone), family.table(config))
    shapes = {m.tensor: m.storage.stored_shape(weights[m.path].shape) for m in matches}
    heads = re.compile("|".join((*family.other_heads, ".*num_batches_tracked")))
    assert shapes == {
        name: tuple(value.shape)
        for name, value in theirs.state_dict().items() if not heads.fullmatch(name)
    }  # fmt: skip
    epsilons = {config[key] for key in config if key.endswith("epsilon")}
    assert {module.eps for module in theirs.modules() if hasattr(module, "eps")} == epsilons


@pytest.mark.parametrize("name", ["vit", "deit"])
def test_positions_are_interpolated_for_images_of_another_size(backend, name, checkpoint):
    folder, oracle = checkpoint(name)
    model = hub.ImageClassifier.from_preset(folder, activation=None)
    pixels = np.random.default_rng(0).normal(size=(2, 48, 40, 3)).astype("float32")
    with torch.no_grad():
        inputs = torch.tensor(pixels).permute(0, 3, 1, 2)
        expected = oracle(inputs, interpolate_pos_encoding=True).logits.numpy()
    scores = keras.ops.convert_to_numpy(model(pixels))
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


def test_images_that_no_patch_fits_into(backend, checkpoint):
    model = hub.ImageClassifier.from_preset(checkpoint("vit")[0], preprocessor=None)
    for shape in ((1, 7, 32, 3), (1, 32, 32, 1)):
        with pytest.raises(ValueError, match=f"with 8 pixels .* got {re.escape(str(shape))}"):
            model.predict(np.zeros(shape, "float32"), verbose=0)


def test_images_come_in_every_form(checkpoint, tmp_path):
    model = hub.ImageClassifier.from_preset(checkpoint("vit")[0])
    images = pictures(2)
    for i, image in enumerate(images):
        image.save(tmp_path / f"{i}.png")
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(expected.sum(-1), 1, rtol=1e-5)
    paths = [str(tmp_path / "0.png"), tmp_path / "1.png"]
    same_size = np.stack([np.asarray(images[0])] * 3)
    for x, rows in (
        (paths, [0, 1]),
        ([np.asarray(i) for i in images], [0, 1]),
        (paths[0], [0]),
        (images[1], [1]),
        (same_size, [0, 0, 0]),
        ([paths[1], images[0]], [1, 0]),
        (torch.tensor(same_size), [0, 0, 0]),
        (torch.tensor(same_size[0]), [0]),
        (tf.constant(same_size[0]), [0]),
        (jnp.asarray(same_size[0]), [0]),
        (tf.data.Dataset.from_tensors(same_size), [0, 0, 0]),
    ):
        np.testing.assert_allclose(model.predict(x, verbose=0), expected[rows], rtol=1e-5)
    batches = torch.utils.data.DataLoader(list(map(str, paths * 2)), batch_size=4)
    np.testing.assert_allclose(model.predict(batches, verbose=0), expected[[0, 1] * 2], rtol=1e-5)
    ready = model.preprocessor(images)
    model.preprocessor = None
    np.testing.assert_allclose(model.predict(ready, verbose=0), expected, rtol=1e-5)
    for x in (paths, paths[0], images):
        with pytest.raises(TypeError, match="has no preprocessor, so images must be arrays"):
            model.predict(x, verbose=0)


def test_what_is_no_image_is_named(checkpoint):
    model = hub.ImageClassifier.from_preset(checkpoint("vit")[0])
    single = tf.data.Dataset.from_tensor_slices(np.zeros((2, 9, 8, 3), "uint8"))
    for x, error, message in (
        (3, TypeError, "Expected images: paths, .*, got int"),
        (None, TypeError, "Expected images: paths, .*, got NoneType"),
        ({"a": 1}, TypeError, "Expected images: paths, .*, got dict"),
        (iter(pictures(1)), ValueError, r"must yield batches of images, got one .*\(70, 91, 3\)"),
        (single, ValueError, r"must yield batches of images, got one .*\(9, 8, 3\)"),
    ):
        with pytest.raises(error, match=message):
            model.predict(x, verbose=0)


def test_labels_are_given_with_their_scores(checkpoint):
    model = hub.load(checkpoint("vit")[0])
    images = pictures(2)
    scores = model.predict(images, verbose=0)
    best = model.classify(images)
    assert [row["label"] for row in best] == [f"class {i}" for i in scores.argmax(-1)]
    row = model.classify(images[1], top_k=2)
    best_scores = sorted(scores[1].tolist(), reverse=True)[:2]
    assert [answer["score"] for answer in row] == pytest.approx(best_scores, rel=1e-5)
    with pytest.raises(ValueError, match="top_k must be a positive integer or None, got 0"):
        model.classify(images, top_k=0)


def test_a_new_head_learns_names_of_classes(trains, checkpoint):
    random = np.random.default_rng(0)
    dark = [random.integers(0, 90, (40, 40, 3), dtype=np.uint8) for _ in range(12)]
    light = [random.integers(160, 256, (44, 36, 3), dtype=np.uint8) for _ in range(12)]
    model = hub.ImageClassifier.from_preset(checkpoint("vit")[0], load_head=False, num_classes=2)
    model.compile(optimizer=keras.optimizers.Adam(0.01))
    names = ["dark"] * 12 + ["light"] * 12
    history = model.fit(dark + light, names, epochs=12, batch_size=8, verbose=0).history
    assert history["loss"][-1] < history["loss"][0] / 2
    assert model.labels == ["dark", "light"]
    split = model.fit(light + dark, names[::-1], validation_split=0.25, epochs=1, verbose=0).history
    assert 0 <= split["val_accuracy"][0] <= 1
    assert [answer["label"] for answer in model.classify([dark[0], light[0]])] == ["dark", "light"]


@pytest.mark.parametrize("name", ["resnet, basic", "resnet18"])
@pytest.mark.parametrize("classes", [{"num_classes": 3}, {"labels": ["a", "b", "c"]}])
def test_another_number_of_classes_begins_a_new_head(name, classes, checkpoint):
    folder, _ = checkpoint(name)
    with keras.use_backend("torch"):
        model = hub.ImageClassifier.from_preset(folder, **classes)
        whole = hub.ImageClassifier.from_preset(folder, num_classes=CLASSES)
        assert model.predict(pictures(2), verbose=0).shape == (2, 3)
        assert model.labels == classes.get("labels", ["LABEL_0", "LABEL_1", "LABEL_2"])
        assert sorted(model.new_weights) == ["head/bias", "head/kernel"]
        assert whole.new_weights == []
        kept, read = (m.backbone.get_layer("conv1_conv").kernel for m in (model, whole))
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (kept, read)))


@pytest.mark.parametrize("named", [True, False])
def test_labels_are_smoothed(named, trains, checkpoint):
    model = hub.ImageClassifier.from_preset(checkpoint("vit")[0])
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.2)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    images, numbers = pictures(4), np.array([3, 0, 2, 3])
    labels = [model.labels[i] for i in numbers] if named else numbers
    scores = model.predict(images, verbose=0)
    smooth = np.eye(CLASSES)[numbers] * 0.8 + 0.2 / CLASSES
    expected = -(smooth * np.log(scores)).sum(-1).mean()
    before = model.evaluate(images, labels, verbose=0, return_dict=True)
    assert before["loss"] == pytest.approx(expected, rel=1e-5)
    assert before["accuracy"] == pytest.approx((scores.argmax(-1) == numbers).mean())
    loader = torch.utils.data.DataLoader(
        list(zip(images, labels, strict=True)), batch_size=4, collate_fn=lambda rows: (*zip(*rows),)
    )
    assert model.evaluate(loader, verbose=0) == pytest.approx(list(before.values()), rel=1e-5)
    weights = dict.fromkeys(range(CLASSES), 1.0)
    model.fit(images, labels, class_weight=weights, epochs=3, verbose=0)
    assert model.evaluate(images, labels, verbose=0)[0] < before["loss"]


def test_a_task_is_saved_whole(backend, checkpoint, tmp_path):
    model = hub.load(checkpoint("resnet, basic")[0])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    expected = model.predict(pictures(), verbose=0)
    np.testing.assert_allclose(again.predict(pictures(), verbose=0), expected, rtol=1e-5)
    assert again.labels == model.labels


def test_batch_normalisation_moves_its_statistics_unless_frozen(trains, checkpoint):
    folder, _ = checkpoint("resnet, basic")
    for frozen in (False, True):
        model = hub.ImageClassifier.from_preset(folder)
        model.backbone.trainable = not frozen
        layer = model.backbone.get_layer("conv1_bn")
        before = keras.ops.convert_to_numpy(layer.moving_mean)
        model.fit(pictures(4), [0, 1, 2, 3], epochs=1, verbose=0)
        moved = np.abs(keras.ops.convert_to_numpy(layer.moving_mean) - before).max()
        assert (moved == 0) == frozen


@pytest.mark.parametrize("name", ["resnet, basic", "convnext", "efficientnet"])
def test_a_backbone_is_loaded_alone(backend, name, checkpoint, tmp_path):
    """From a classifier, and from a checkpoint without one; levels are halved one by one."""
    folder, oracle = checkpoint(name)
    oracle.base_model.save_pretrained(tmp_path)
    pixels = np.random.default_rng(0).normal(size=(2, 64, 96, 3)).astype("float32")
    with torch.no_grad():
        outputs = oracle.base_model(torch.tensor(pixels).permute(0, 3, 1, 2))
    expected = outputs.last_hidden_state.permute(0, 2, 3, 1).numpy()
    for place in (folder, tmp_path):
        backbone = hub.Backbone.from_preset(place, image_shape=(64, 96, 3))
        levels = keras.Model(backbone.inputs, backbone.pyramid_outputs)(pixels)
        levels = {name: keras.ops.convert_to_numpy(level) for name, level in levels.items()}
        features = list(levels.values())[-1]
        np.testing.assert_allclose(
            features, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max()
        )
        for name, level in levels.items():
            scale = 2 ** int(name[1:])
            assert level.shape[1:3] == (64 // scale, 96 // scale)


def test_levels_of_a_backbone_are_outputs(backend, checkpoint):
    backbone = hub.ResNetBackbone.from_preset(checkpoint("resnet, bottleneck")[0])
    levels = keras.Model(backbone.inputs, backbone.pyramid_outputs)
    outputs = levels(np.ones((1, 64, 64, 3), "float32"))
    shapes = {name: tuple(value.shape[1:]) for name, value in outputs.items()}
    assert shapes == {
        "P2": (16, 16, 16), "P3": (8, 8, 32), "P4": (4, 4, 32), "P5": (2, 2, 64),
    }  # fmt: skip


def test_the_command_line_classifies_files(checkpoint, tmp_path, capsys):
    pictures(1)[0].save(tmp_path / "a.png")
    command = ["run", "image-classification", str(checkpoint("vit")[0]), str(tmp_path / "a.png")]
    assert main([*command, "--top-k", "2"]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(line["top_k"]) == 2
    assert line["label"] == line["top_k"][0]["label"]


def test_blocks_are_dropped_in_training_alone(backend):
    backbone = hub.ConvNeXtBackbone((4, 4, 4, 4), (1, 1, 1, 1), drop_path_rate=0.9)
    x = np.random.default_rng(0).normal(size=(8, 32, 32, 3)).astype("float32")
    for layer in backbone.layers:
        if layer.name.endswith("layer_scale"):
            layer.set_weights([np.ones(4, "float32")])
    plain, again, dropped = (
        keras.ops.convert_to_numpy(backbone(x, training=training))
        for training in (False, False, True)
    )
    np.testing.assert_array_equal(plain, again)
    assert np.abs(plain - dropped).max() > 0.1


def test_a_new_efficientnet_of_version_2_is_no_checkpoint_of_transformers(tmp_path):
    shape = {"stackwise_num_repeats": (1, 1), "stackwise_kernel_sizes": (3, 3)}
    shape |= {"stackwise_output_filters": (8, 16), "stackwise_expansion_ratios": (1, 4)}
    shape |= {"stackwise_strides": (1, 2), "stackwise_block_types": ("fused", "fused")}
    backbone = hub.EfficientNetBackbone(**shape)
    with pytest.raises(ValueError, match="without fused blocks"):
        backbone.save_to_preset(tmp_path / "saved")


def test_what_does_not_fit_is_refused(checkpoint, tmp_path):
    folder, _ = checkpoint("resnet, basic")
    with pytest.raises(ValueError, match="classifies into 5 classes, but num_classes=3"):
        hub.ImageClassifier.from_preset(folder, num_classes=3, load_head=True)
    config = json.loads((checkpoint("resnet18")[0] / "config.json").read_text())
    for change, message in (
        ({"architecture": "seresnet50"}, "seresnet50' of timm is not supported"),
        ({"model_args": {"stem_width": 32}}, "model_args {'stem_width': 32}"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ValueError, match=message):
            hub.load(tmp_path, load_weights=False)
    config = json.loads((checkpoint("convnext")[0] / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"patch_size": 2}))
    with pytest.raises(ValueError, match="patch_size"):
        hub.load(tmp_path, load_weights=False)
    config = json.loads((checkpoint("efficientnet")[0] / "config.json").read_text())
    for change, message in (
        ({"hidden_dim": 1280}, "hidden_dim must be 320"),
        ({"pooling_type": "max"}, "pooling_type='max'"),
        ({"out_channels": [32, 48, 96, 160], "strides": [1, 1, 2, 1]}, "must have other filters"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ValueError, match=message):
            hub.load(tmp_path, load_weights=False)
    with pytest.raises(ValueError, match="padding must be one of"):
        hub.EfficientNetBackbone(padding="valid")
    with pytest.raises(ValueError, match="block_type must be 'basic_block'"):
        hub.ResNetBackbone(block_type="basic")
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"bad\.png"):
        hub.load(folder).predict([tmp_path / "bad.png"], verbose=0)


def test_damaged_files_are_left_out(checkpoint, tmp_path):
    with keras.use_backend("torch"):
        model = hub.ImageClassifier.from_preset(
            checkpoint("vit")[0], num_classes=2, load_head=False
        )
        paths, labels = [], []
        for i, image in enumerate(pictures(6)):
            paths.append(tmp_path / f"{i}.png")
            labels.append(i % 2)
            image.save(paths[-1])
        paths[1].write_bytes(paths[1].read_bytes()[:500])
        paths[4].unlink()
        seen = []
        log = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: seen.append(batch)
        )
        with pytest.raises(ValueError, match="on_error must be"):
            model.fit(paths, labels, on_error="ignore")
        with pytest.warns(UserWarning, match="cannot be read") as warned:
            model.fit(
                paths, labels, batch_size=1, verbose=0, on_error="skip", callbacks=[log],
                sample_weight=np.ones(6), validation_data=(paths[:3], labels[:3]),
            )  # fmt: skip
        texts = [str(w.message) for w in warned]
        assert "2 of the 6 images of x" in texts[0] and "Pillow cannot read" in texts[0]
        assert str(paths[4]) in texts[0]
        assert "1 of the 3 images of validation_data" in texts[1]
        assert len(seen) == 4
        with pytest.raises((ValueError, FileNotFoundError), match=r"[14]\.png"):
            model.fit(paths, labels, batch_size=6, verbose=0)
        with pytest.raises(ValueError, match="1 of the 1 images of x"):
            model.fit(paths[4:5], labels[4:5], verbose=0, on_error="skip")
