"""ObjectDetector: training, evaluation and prediction with pictures, files and presets."""

import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from yolo_reference import random_yolo

import hub
import keraslite as keras
from hub.detection.decoding import decode_detections
from hub.detection.metrics import MeanAveragePrecision

NAMES = ["disc", "square"]


def pictures(count=6, size=64):
    """Pictures of a bright disc or square on noise, and the boxes in pixels."""
    rng = np.random.default_rng(0)
    out = []
    for i in range(count):
        pixels = rng.integers(0, 80, (size, size + 8 * (i % 2), 3), "uint8")
        picture, label = Image.fromarray(pixels), i % 2
        x, y = rng.integers(4, size - 36, 2)
        box = (int(x), int(y), int(x) + 28, int(y) + 28)
        draw = ImageDraw.Draw(picture)
        (draw.ellipse if label == 0 else draw.rectangle)(box, (250, 240, 40 + 200 * label))
        out.append((picture, {"boxes": [box], "labels": [label]}))
    return out


@pytest.fixture
def on_torch():
    """The backend of tests whose subject is the same on all."""
    with keras.use_backend("torch"):
        yield


@pytest.fixture
def yolo(tmp_path):
    """A data.yaml of training and validation pictures."""
    for i, (picture, objects) in enumerate(pictures(8)):
        part = "val" if i >= 6 else "train"
        for name in ("images", "labels"):
            (tmp_path / name / part).mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / "images" / part / f"{i}.png")
        x1, y1, x2, y2 = objects["boxes"][0]
        w, h = picture.size
        row = ((x1 + x2) / 2 / w, (y1 + y2) / 2 / h, (x2 - x1) / w, (y2 - y1) / h)
        line = " ".join(map(str, (objects["labels"][0], *row)))
        (tmp_path / "labels" / part / f"{i}.txt").write_text(line)
    text = "train: images/train\nval: images/val\nnames: [disc, square]\n"
    (tmp_path / "data.yaml").write_text(text)
    return tmp_path / "data.yaml"


def detector(preprocessor=True, labels=NAMES, **options):
    keras.utils.set_random_seed(0)
    backbone = hub.YOLOV8Backbone((8, 16, 16, 16), (1, 1, 1, 1))
    ready = hub.DetectionPreprocessor(64) if preprocessor else None
    return hub.YOLOV8Detector(backbone, preprocessor=ready, labels=labels, fpn_depth=1, **options)


def arrays():
    """Ready images and their boxes as arrays, of which one image has none and one an ignored one."""
    rng = np.random.default_rng(1)
    images = rng.random((4, 64, 96, 3), "float32")
    boxes = np.array(
        [[[4, 4, 40, 44], [50, 8, 90, 60]], [[10, 20, 30, 60], [0, 0, 0, 0]], [[0, 0, 0, 0]] * 2,
         [[30, 10, 70, 50], [0, 0, 20, 20]]], "float32",
    )  # fmt: skip
    return images, {"boxes": boxes, "labels": np.array([[0, 1], [1, -1], [-1, -1], [0, -2]])}


@pytest.fixture(scope="module")
def first_losses():
    """The losses of 20 steps, of each backend that was asked for."""
    kept = {}

    def of(name):
        if name not in kept:
            with keras.use_backend(name):
                model = detector(preprocessor=False)
                model.compile(keras.optimizers.AdamW(1e-4))
                kept[name] = [model.train_on_batch(*arrays(), return_dict=True) for _ in range(20)]
        return kept[name]

    return of


def test_losses_are_the_same_on_all_backends(trains, first_losses):
    ours, expected = first_losses(trains), first_losses("torch")
    assert list(ours[0]) == ["loss", "box_loss", "class_loss", "dfl_loss"]
    for name in ours[0]:
        values, others = ([logs[name] for logs in rows] for rows in (ours, expected))
        np.testing.assert_allclose(values, others, rtol=1e-4, atol=1e-5)
    assert ours[-1]["loss"] < ours[0]["loss"]
    np.testing.assert_allclose(ours[0]["loss"], sum(list(ours[0].values())[1:]), rtol=1e-5)


def test_fit_reads_files_and_validates(yolo, on_torch):
    model = detector()
    history = model.fit(yolo, epochs=2, batch_size=3, warmup_epochs=1, ema=0.9, verbose=0).history
    assert {"loss", "box_loss", "class_loss", "dfl_loss", "val_loss", "val_mAP50"} <= set(history)
    assert np.isfinite(history["loss"]).all()
    logs = model.evaluate(yolo, verbose=0, return_dict=True)
    np.testing.assert_allclose(logs["loss"], history["val_loss"][-1], rtol=1e-4)
    np.testing.assert_allclose(logs["mAP"], history["val_mAP"][-1], atol=1e-6)
    assert {"mAP", "mAP50", "mAP_small", "recall_100"} <= set(logs)


def test_the_same_pictures_are_learned_from_on_all_backends(yolo):
    losses = {}
    for name in ("torch", "jax"):
        with keras.use_backend(name):
            model = detector()
            model.compile(keras.optimizers.SGD(1e-3))
            keras.utils.set_random_seed(4)
            losses[name] = model.fit(yolo, epochs=2, batch_size=3, verbose=0).history["loss"]
    # Batches of three small pictures make normalizations amplify rounding.
    np.testing.assert_allclose(losses["torch"], losses["jax"], rtol=1e-3)


@pytest.mark.parametrize("form", ["samples", "dict", "pair", "dataset"])
def test_forms_of_data(form):
    samples = [(p.resize((64, 64)), o) for p, o in pictures()]
    images = [p for p, _ in samples]
    boxes = {k: [o[k] for _, o in samples] for k in ("boxes", "labels")}
    data = {
        "samples": (samples,), "pair": (images, boxes),
        "dict": ({"images": images, "bounding_boxes": boxes},),
        "dataset": (hub.DetectionDataset.from_samples(samples, class_names=NAMES),),
    }[form]  # fmt: skip
    with keras.use_backend("torch"):
        model = detector()
        options = {"augment": None, "batch_size": 6, "shuffle": False, "verbose": 0}
        loss = model.fit(*data, **options).history["loss"][0]
        again = detector()
        again.compile()
        inputs, _ = again.preprocessor(images)
        targets = {k: np.array(v) for k, v in boxes.items()}
        expected = again.train_on_batch(inputs, targets, return_dict=True)["loss"]
        np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_boxes_of_another_format(on_torch):
    images, targets = arrays()
    relative = targets["boxes"] / np.array([96, 64, 96, 64], "float32")
    sizes = np.concatenate([relative[..., :2], relative[..., 2:] - relative[..., :2]], -1)
    logs = []
    for name, boxes in (("xyxy", targets["boxes"]), ("rel_xywh", sizes)):
        model = detector(preprocessor=False, bounding_box_format=name)
        model.compile(keras.optimizers.SGD(1e-3))
        y = {"boxes": boxes, "classes": targets["labels"]}
        logs.append(model.evaluate(images, y, verbose=0, return_dict=True)["loss"])
        outputs = model.predict(images, confidence=0.0, max_detections=5)
        assert outputs["boxes"].max() <= (1.01 if name == "rel_xywh" else 96)
    np.testing.assert_allclose(*logs, rtol=1e-5)


def test_evaluation_is_that_of_the_predictions(yolo):
    with keras.use_backend("torch"):
        model = detector()
        model.compile()
        logs = model.evaluate(yolo, verbose=0, return_dict=True)
        data = hub.DetectionDataset.from_yolo(yolo, "val")
        metric = MeanAveragePrecision()
        for picture, objects in data:
            inputs, places = model.preprocessor([picture])
            raw = model.predict_on_batch(inputs)
            found = decode_detections(raw, 64, 64, 0.001, multi_label=True)
            targets = {"boxes": places[0].to_input(objects["boxes"])[None]}
            metric.update_state({**targets, "labels": objects["labels"][None]}, found)
    for name, value in metric.result().items():
        np.testing.assert_allclose(logs[name], value, atol=1e-6)


def test_objects_come_back_in_pixels_of_their_picture(backend):
    """Logits that say one box are found again in a picture of another size and aspect."""
    model = detector()
    raw = {"boxes": np.full((1, 84, 64), -20.0), "classes": np.full((1, 84, 2), -20.0)}
    raw["classes"][0, 27, 1] = 3.0  # row 3, column 3 of stride 8: the point (28, 28)
    for side, distance in enumerate((1, 2, 1, 2)):
        raw["boxes"][0, 27, 16 * side + distance] = 20.0
    model.predict_on_batch = lambda inputs: {k: v.astype("float32") for k, v in raw.items()}
    picture = Image.new("RGB", (128, 64))  # half the size in the input, 16 rows of border
    (result,) = model.predict(picture)
    # Distances in strides of 8 from (28, 28); the border is 16 rows, the scale a half.
    np.testing.assert_allclose(result.boxes, [[40, 0, 72, 56]], rtol=1e-4)
    assert (result.labels.tolist(), result[0].name) == ([1], "square")
    np.testing.assert_allclose(result.scores, [1 / (1 + np.exp(-3))], rtol=1e-5)
    assert model.predict(picture, confidence=0.97)[0].to_dict()["detections"] == []


def test_streams_give_one_result_after_the_other(tmp_path):
    for i, (picture, _) in enumerate(pictures(3)):
        picture.save(tmp_path / f"{i}.png")
    model = detector()
    stream = model.predict(tmp_path, stream=True, confidence=0.0, max_detections=2)
    assert next(stream).name == "0.png"
    assert [len(r) for r in stream] == [2, 2]
    listed = model.predict(tmp_path, confidence=0.0, max_detections=2)
    alone = [model.predict(r.path, confidence=0.0, max_detections=2)[0] for r in listed]
    for ours, expected in zip(listed, alone, strict=True):
        np.testing.assert_allclose(ours.boxes, expected.boxes, rtol=1e-4, atol=1e-3)


def test_it_is_saved_and_loaded(tmp_path, backend):
    model = detector(bounding_box_format="xywh")
    x = arrays()[0]
    expected = model(x)
    model.save(tmp_path / "model.keras")
    model.save_to_preset(tmp_path / "preset")
    for again in (
        keras.saving.load_model(tmp_path / "model.keras"),
        hub.ObjectDetector.from_preset(tmp_path / "preset", bounding_box_format="xywh"),
        hub.load(tmp_path / "preset"),
    ):
        assert again.labels == NAMES
        assert again.preprocessor.get_config() == model.preprocessor.get_config()
        for name, value in again(x).items():
            np.testing.assert_allclose(
                keras.ops.convert_to_numpy(value), keras.ops.convert_to_numpy(expected[name]),
                rtol=1e-5, atol=1e-5,
            )  # fmt: skip


def test_a_trained_detector_learns_other_classes(tmp_path):
    reference = random_yolo((8, 16, 16, 16), (1, 1, 1, 1), 5, 1)
    save_file(reference.state_dict(), tmp_path / "yolo.safetensors")
    with keras.use_backend("torch"):
        whole = hub.YOLOV8Detector.from_preset(tmp_path / "yolo.safetensors")
        assert (whole.num_classes, whole.new_weights) == (5, [])
        other = hub.YOLOV8Detector.from_preset(tmp_path / "yolo.safetensors", labels=NAMES)
        assert other.num_classes == 2
        assert len(other.new_weights) == 6  # kernel and bias of the last layer of each level
        x = torch.rand(1, 64, 64, 3)
        with torch.no_grad():
            torch.testing.assert_close(whole(x)["boxes"], other(x)["boxes"])
        fresh = hub.YOLOV8Detector.from_preset(
            tmp_path / "yolo.safetensors", num_classes=5, load_head=False
        )
        assert len(fresh.new_weights) > 60


def test_compile_arguments_are_saved(tmp_path):
    with keras.use_backend("torch"):
        model = detector(preprocessor=False)
        model.compile(keras.optimizers.SGD(0.1), box_loss="iou", classification_loss_weight=2.0)
        model.fit(*arrays(), verbose=0)
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        losses = [m.evaluate(*arrays(), verbose=0, return_dict=True) for m in (model, again)]
    assert losses[0] == losses[1]
    assert losses[0]["class_loss"] > 0


def test_bad_input_is_refused(yolo):
    with keras.use_backend("torch"):
        model = detector()
        with pytest.raises(ValueError, match="confidence must be a number from 0 to 1"):
            model.predict("a.jpg", confidence=30)
        with pytest.raises(FileNotFoundError, match="no_such"):
            model.predict("no_such.jpg")
        with pytest.raises(ValueError, match="box_loss must be one of"):
            model.compile(box_loss="l2")
        with pytest.raises(ValueError, match="early_stopping needs validation"):
            model.fit(pictures(), early_stopping=3)
        others = hub.DetectionDataset.from_samples(pictures(), class_names=["cat", "disc"])
        with pytest.raises(ValueError, match=r"among \['disc', 'square'\], got \['cat'\]"):
            model.fit(others)
        (yolo.parent / "labels" / "train" / "0.txt").write_text("0 0.5 0.5 nan 0.1")
        with pytest.raises(ValueError, match=r"0\.txt, line 1"):
            model.fit(yolo, verbose=0)
        ready = detector(preprocessor=False)
        with pytest.raises(ValueError, match="multiples of the strides|multiples of 32"):
            ready.predict(np.zeros((1, 60, 64, 3), "float32"))
        ready.compile()
        with pytest.raises(ValueError, match='a dict of "boxes" and "labels"'):
            ready.fit(np.zeros((1, 64, 64, 3), "float32"), np.zeros(1), verbose=0)


def test_the_command_line_detects(tmp_path, capsys):
    from hub.cli import main

    with keras.use_backend("torch"):
        detector().save_to_preset(tmp_path / "preset")
        pictures(1)[0][0].save(tmp_path / "street.png")
        main([
            "run", "object-detection", str(tmp_path / "preset"), str(tmp_path / "street.png"),
            "--confidence", "0.0", "--out", str(tmp_path / "drawn"),
        ])  # fmt: skip
    answer = json.loads(capsys.readouterr().out)
    assert answer["detections"]
    assert (tmp_path / "drawn" / "street.png").exists()


def changed(**options):
    """The arrays of a batch with other boxes or labels."""
    images, targets = arrays()
    return images, {name: np.array(options.get(name, value)) for name, value in targets.items()}


BOXES, LABELS = (arrays()[1][name] for name in ("boxes", "labels"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"labels": np.where(LABELS == 1, 2, LABELS)},
            "from 0 to 1, or -1 for no box, got the label 2",
        ),
        ({"labels": LABELS + 0.5}, "Labels must be class numbers, got"),
        ({"labels": LABELS[:, :1]}, r"got \(4, 2, 4\) and \(4, 1\)"),
        ({"boxes": np.where(BOXES == 40, np.nan, BOXES)}, "must have finite numbers"),
        ({"boxes": BOXES[..., [2, 3, 0, 1]]}, "positive width and height"),
        ({"boxes": BOXES / 97}, "these seem to be parts of the image"),
        ({"boxes": BOXES + 200}, "must lie in their image of 64 x 96"),
    ],
)
def test_arrays_that_cannot_be_are_refused(options, message, on_torch):
    model = detector(preprocessor=False)
    model.compile()
    before = [w.numpy() for w in model.weights]
    with pytest.raises(ValueError, match=message):
        model.fit(*changed(**options), verbose=0)
    with pytest.raises(ValueError, match=message):
        model.train_on_batch(*changed(**options))
    assert all((w.numpy() == old).all() for w, old in zip(model.weights, before, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"augment": False}, "augment must be 'auto', a hub.DetectionAugment or None, got False"),
        ({"sample_weight": [1.0]}, r"without \['sample_weight'\]"),
        ({"class_weight": {0: 1.0}}, r"without \['class_weight'\]"),
        ({"validation_data": "no.yaml"}, "no.yaml"),
    ],
)
def test_arguments_of_fit_that_cannot_be(options, message, on_torch):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        detector().fit(pictures(), verbose=0, **options)


def test_arguments_that_others_have_are_named(on_torch):
    model = detector()
    with pytest.raises(TypeError, match=r"no \['conf', 'imgsz'\]: expected some of confidence"):
        model.predict(pictures()[0][0], conf=0.5, imgsz=64)
    for options in ({"max_detections": 0}, {"batch_size": -1}):
        with pytest.raises(ValueError, match="must be a positive int"):
            model.predict(pictures()[0][0], **options)
    with pytest.raises(ValueError, match="metrics must be None"):
        model.compile(metrics=["accuracy"])
    with pytest.raises(ValueError, match="steps_per_epoch is for ready batches"):
        model.fit(iter(pictures()), steps_per_epoch=2)
    with pytest.raises(TypeError, match="inputs must be an array"):
        detector(preprocessor=False).predict(iter([]))


def test_the_rate_follows_from_the_classes_of_the_data(on_torch):
    samples = [(p, {**o, "labels": [i % 6]}) for i, (p, o) in enumerate(pictures())]
    model = detector(labels=None)
    model.fit(samples, augment=None, verbose=0)
    assert model.num_classes == 6
    np.testing.assert_allclose(float(model.optimizer.learning_rate.numpy()), 0.001, rtol=1e-5)


def test_a_crowd_excuses_its_own_class_alone(on_torch):
    picture, objects = pictures(1)[0]
    data = {"boxes": [*objects["boxes"], [0, 0, 60, 60]], "labels": [0, 1]}
    dataset = hub.DetectionDataset.from_samples([(picture, data)], class_names=NAMES)
    dataset._ignored[1] = True
    _, targets = next(iter(dataset.batches(1, hub.DetectionPreprocessor(64))))
    assert targets["labels"][0, :3].tolist() == [0, -4, -1]
    metric = MeanAveragePrecision()
    boxes = np.array([[data["boxes"][0], [2, 2, 30, 30]]], "float32")
    answers = {"boxes": boxes, "labels": np.array([[0, 0]])}
    metric.update_state(targets, {**answers, "confidence": np.array([[0.5, 0.9]])})
    assert metric.result()["mAP50"] < 0.6  # the second is wrong, and not in a crowd of its class


def test_other_classes_than_the_head_has_width_for(tmp_path, on_torch):
    detector(labels=["square"]).save_to_preset(tmp_path / "preset")
    many = hub.YOLOV8Detector.from_preset(tmp_path / "preset", num_classes=200)
    assert (many.num_classes, len(many.new_weights)) == (200, 6)
    many.save_to_preset(tmp_path / "many")
    assert hub.YOLOV8Detector.from_preset(tmp_path / "many").new_weights == []


def test_drawings_of_the_command_line_do_not_replace_each_other(tmp_path, capsys, on_torch):
    from hub.cli import main

    detector().save_to_preset(tmp_path / "preset")
    files = []
    for name in "ab":
        (tmp_path / name).mkdir()
        files.append(str(tmp_path / name / "1.png"))
        pictures(1)[0][0].save(files[-1])
    command = ["run", "object-detection", str(tmp_path / "preset"), *files]
    main([*command, "--out", str(tmp_path / "drawn")])
    assert {p.name for p in (tmp_path / "drawn").iterdir()} == {"1.png", "1_1.png"}
    (result,) = detector().predict(files[0])
    with pytest.raises(ValueError, match="is the picture itself"):
        result.save(tmp_path / "a")


def test_an_interrupted_training_with_averages_goes_on(yolo, tmp_path, on_torch):
    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def trained(callbacks):
        model = detector()
        model.compile(keras.optimizers.AdamW(0.001))
        keras.utils.set_random_seed(5)
        recipe = {"ema": 0.9, "early_stopping": 9, "epochs": 4, "batch_size": 3, "verbose": 0}
        return model.fit(yolo, callbacks=callbacks, **recipe)

    whole = trained([])
    with pytest.raises(KeyboardInterrupt):
        trained([keras.callbacks.BackupAndRestore(tmp_path / "backups"), Interrupt()])
    resumed = trained([keras.callbacks.BackupAndRestore(tmp_path / "backups")])
    assert resumed.epoch == [2, 3]
    for name in ("loss", "val_loss"):  # the best weights may be those of the first epoch
        np.testing.assert_allclose(resumed.history[name], whole.history[name][2:], rtol=1e-4)
