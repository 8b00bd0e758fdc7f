"""Recipes in `fit` of a classifier of images: augmentation, mixing, rates, averages, early stops."""

import numpy as np
import pytest
import timm_oracle
from PIL import Image

import hub
import keraslite as keras
from hub.preprocessing.image_augment import OPERATIONS, AutoAugment, random_resized_crop
from hub.tasks.image.recipe import Recipe, SeededBatches, mixing
from keraslite.training.data import ArrayData

CLASSES = ("blue", "green", "red")
# Ours -> timm's, by the names of its table of operations that grow stronger.
NAMES = {
    "auto_contrast": "AutoContrast", "equalize": "Equalize", "invert": "Invert",
    "posterize": "PosterizeIncreasing", "solarize": "SolarizeIncreasing",
    "solarize_add": "SolarizeAdd", "rotate": "Rotate", "color": "ColorIncreasing",
    "contrast": "ContrastIncreasing", "brightness": "BrightnessIncreasing",
    "sharpness": "SharpnessIncreasing", "shear_x": "ShearX", "shear_y": "ShearY",
    "translate_x": "TranslateXRel", "translate_y": "TranslateYRel",
}  # fmt: skip


@pytest.fixture(autouse=True)
def on_torch():
    """The backend of tests that are not run on each."""
    with keras.use_backend("torch"):
        yield


def pictures(count=12, size=16):
    """Noise in the colour of its class, and the class numbers."""
    rng = np.random.default_rng(0)
    images, labels = [], []
    for i in range(count):
        pixels = rng.integers(0, 100, (size + i % 3, size, 3), "uint8")
        pixels[..., i % 3] += 150
        images.append(Image.fromarray(pixels))
        labels.append(i % 3)
    return images, np.array(labels, "int32")


@pytest.fixture
def folder(tmp_path):
    images, labels = pictures(15)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        (tmp_path / CLASSES[label]).mkdir(exist_ok=True)
        image.save(tmp_path / CLASSES[label] / f"{i}.png")
    return tmp_path


def classifier(preprocessor=True, **options):
    keras.utils.set_random_seed(0)
    backbone = hub.ResNetBackbone((4, 8, 8, 8), (1, 1, 1, 1), "basic_block", input_conv_filters=4)
    ready = hub.ImagePreprocessor("ViT", size=12) if preprocessor else None
    return hub.ImageClassifier(backbone, 3, ready, **options)


def compiled(rate=0.1, optimizer=None, **options):
    model = classifier(**options)
    model.compile(optimizer or keras.optimizers.SGD(rate))
    return model


class Batches(keras.callbacks.Callback):
    """Notes the rate of each step."""

    def __init__(self):
        super().__init__()
        self.rates = []

    def on_train_batch_begin(self, batch, logs=None):
        self.rates.append(float(np.asarray(self.model.optimizer.learning_rate.numpy())))


def spied(model):
    """The batches that the train step of a model gets, which runs without being compiled."""
    seen, step = [], model.train_step

    def train_step(data):
        seen.append([np.asarray(keras.ops.convert_to_numpy(v)) for v in data[:2]])
        return step(data)

    model.train_step, model.run_eagerly = train_step, True
    return seen


def batches_of(name, *data, **options):
    """The batches of a training on a backend, whose data begin with one seed."""
    with keras.use_backend(name):
        model = compiled()
        seen = spied(model)
        keras.utils.set_random_seed(3)
        model.fit(*data, batch_size=8, verbose=0, **options)
    return seen


def test_the_operations_are_those_of_timm():
    timm_oracle.import_timm()
    from timm.data import auto_augment

    picture, level = pictures(1, 40)[0][0], 0.73
    picture = picture.resize((40, 30), Image.Resampling.BICUBIC)
    options = {"fillcolor": (124, 116, 104), "resample": Image.Resampling.BILINEAR}
    assert set(NAMES.values()) == set(auto_augment._RAND_INCREASING_TRANSFORMS)
    assert set(NAMES) == set(OPERATIONS)
    for name, theirs in NAMES.items():
        change, amount = OPERATIONS[name]
        to_argument = auto_augment.LEVEL_TO_ARG[theirs]
        results = []
        for _ in range(20):  # its signs are drawn
            arguments = to_argument(10 * level, {}) if to_argument else ()
            out = auto_augment.NAME_TO_OP[theirs](picture, *arguments, **options)
            results.append(np.asarray(out).tobytes())
        ours = {np.asarray(change(picture, amount(s * level))).tobytes() for s in (1, -1)}
        assert ours == set(results), name


def test_a_crop_has_an_area_and_an_aspect_of_the_range():
    grid = np.mgrid[:60, :90].astype("float32")  # a pixel tells where it was
    pixels = np.stack([grid[0], grid[1], 0 * grid[0]], -1).astype("uint8")
    rng, areas = np.random.default_rng(0), []
    for _ in range(200):
        crop = np.asarray(random_resized_crop(Image.fromarray(pixels), (8, 8), rng, resample=0))
        tall, wide = (np.ptp(crop[..., i].astype(int)) * 8 / 7 for i in range(2))
        assert 0.5 < (wide + 2) / (tall + 2) < 2
        areas.append(wide * tall / 5400)
    assert min(areas) < 0.15
    assert max(areas) > 0.75
    assert 0.35 < np.mean(areas) < 0.6
    thin = random_resized_crop(Image.new("RGB", (2, 90)), (8, 6), rng)
    assert thin.size == (6, 8)


def test_auto_is_the_same_picture_for_a_seed():
    picture, auto = pictures(1, 40)[0][0], AutoAugment((12, 12))
    first, second, third = (np.asarray(auto(picture, seed=s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (12, 12, 3)
    assert (first != third).any()


def test_training_pictures_alone_are_augmented(folder, trains):
    model, plain = compiled(), compiled()
    seen = spied(model)
    history = model.fit(
        folder, validation_split=0.4, augment="auto", epochs=2, batch_size=16, verbose=0
    ).history
    assert [x.shape for x, _ in seen] == [(9, 12, 12, 3)] * 2
    assert (seen[0][0] != seen[1][0]).any()
    _, held_out = hub.ImageFolder(folder).split(0.4)
    expected = model.evaluate(held_out, verbose=0, return_dict=True)["loss"]
    np.testing.assert_allclose(history["val_loss"][-1], expected, rtol=1e-4)
    images, labels = pictures()
    with_split = model.fit(
        images, labels, validation_split=0.25, augment="auto", verbose=0, shuffle=False
    ).history
    expected = model.evaluate(images[9:], labels[9:], verbose=0, return_dict=True)["loss"]
    np.testing.assert_allclose(with_split["val_loss"][-1], expected, rtol=1e-4)
    untouched = spied(plain)
    plain.fit(images, labels, verbose=0, shuffle=False)
    np.testing.assert_array_equal(untouched[0][0], plain.preprocessor(images))


@pytest.mark.parametrize("kind", ["auto", "layer", "function"])
def test_draws_follow_from_seed_and_epoch(folder, kind):
    def noise(picture, seed):
        return np.random.default_rng(seed).integers(0, 256, (12, 12, 3), "uint8")

    flip = keras.layers.Pipeline(
        [keras.layers.RandomFlip("horizontal", seed=1), keras.layers.RandomBrightness(0.5, seed=1)]
    )
    augment = {"auto": "auto", "layer": flip, "function": noise}[kind]
    for data in ((folder,), pictures()):
        first = batches_of("torch", *data, augment=augment, epochs=2)
        again = batches_of("torch", *data, augment=augment, epochs=2)
        for (x, y), (other_x, other_y) in zip(first, again, strict=True):
            np.testing.assert_array_equal(x, other_x)
            np.testing.assert_array_equal(y, other_y)
        assert (first[0][0] != first[2][0]).any()
        resumed = batches_of("torch", *data, augment=augment, epochs=2, initial_epoch=1)
        for (x, _), (expected, _) in zip(resumed, first[2:], strict=True):
            np.testing.assert_array_equal(x, expected)


def test_every_backend_gets_the_same_batches(folder):
    options = {"augment": keras.layers.RandomBrightness(0.5), "mixup": 0.2, "cutmix": 1.0}
    expected = batches_of("torch", folder, **options)
    for name in sorted({*keras.backend.available()} - {"torch", "numpy"}):
        for (x, y), (other_x, other_y) in zip(
            batches_of(name, folder, **options), expected, strict=True
        ):
            np.testing.assert_array_equal(x, other_x)
            np.testing.assert_array_equal(y, other_y)


def test_ready_arrays_are_augmented_in_batches():
    model = compiled(preprocessor=False)
    seen = spied(model)
    x, y = np.random.default_rng(0).random((4, 12, 12, 3), "float32"), np.array([0, 1, 2, 0])
    model.fit(x, y, augment=keras.layers.RandomFlip("horizontal"), shuffle=False, verbose=0)
    for row, original in zip(seen[0][0], x, strict=True):
        assert any(np.array_equal(row, form) for form in (original, original[:, ::-1]))
    model.fit(x, y, augment=lambda image: 0 * image, verbose=0)
    assert not seen[1][0].any()
    with pytest.raises(ValueError, match="needs a preprocessor"):
        model.fit(x, y, augment="auto", verbose=0)


def test_labels_are_mixed_as_images_are():
    """Images of one value, that of their class: the mean of an image says what its label is."""
    labels = np.arange(3).repeat(4)
    images = np.broadcast_to(np.eye(3)[labels][:, None, None], (12, 16, 16, 3)).astype("float32")
    for options, is_cut in (((0.4, 0.0), False), ((0.0, 1.0), True)):
        mixed, soft = mixing(*options, 3)(images, labels, seed=5)
        np.testing.assert_allclose(soft.sum(-1), 1, rtol=1e-5)
        assert ((soft > 0.01) & (soft < 0.99)).any()
        # A rectangle has whole pixels: up to one row and one column more or fewer.
        tolerance = 2 / 16 if is_cut else 1e-5
        np.testing.assert_allclose(mixed.mean((1, 2)), soft, atol=tolerance)
    both = mixing(0.4, 1.0, 3)
    cuts = [set(np.unique(both(images, labels, seed=s)[0])) == {0, 1} for s in range(4)]
    assert True in cuts
    assert False in cuts


@pytest.mark.parametrize("activation", ["softmax", None])
def test_the_loss_of_soft_labels_is_that_of_keras(backend, activation):
    import keras as reference

    model = classifier(activation=activation)
    model.compile("sgd", metrics=["accuracy"])
    soft = np.random.default_rng(0).dirichlet([1, 1, 1], 4).astype("float32")
    scores = np.random.default_rng(1).dirichlet([1, 1, 1], 4).astype("float32")
    loss = reference.losses.CategoricalCrossentropy(from_logits=activation is None)
    with keras.use_backend(backend):
        model.to_backend(backend)
        ours = model.compute_loss(None, *map(keras.ops.convert_to_tensor, (soft, scores)))
    np.testing.assert_allclose(float(ours), float(loss(soft, scores)), rtol=1e-5)
    hard = np.eye(3, dtype="float32")[[0, 2, 1, 1]]
    sparse = model.compute_loss(None, np.array([0, 2, 1, 1]), keras.ops.convert_to_tensor(scores))
    same = model.compute_loss(None, hard, keras.ops.convert_to_tensor(scores))
    np.testing.assert_allclose(float(sparse), float(same), rtol=1e-5)


@pytest.mark.parametrize("loss", ["auto", "sparse_categorical_crossentropy"])
def test_mixed_images_are_trained_on(folder, trains, loss):
    model = classifier()
    model.compile("sgd", loss, metrics=["accuracy"])
    options = {"batch_size": 4, "verbose": 0, "validation_split": 0.2}
    history = model.fit(folder, mixup=0.2, cutmix=1.0, augment="auto", epochs=2, **options).history
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= history.keys()
    assert np.isfinite(history["loss"]).all()
    images, labels = pictures()
    model.fit(images, labels, cutmix=0.5, class_weight={0: 2.0}, **options)
    plain = model.fit(images, labels, **options).history  # class numbers again
    assert 0 <= plain["accuracy"][0] <= 1


def test_the_rate_rises_falls_and_comes_back(trains):
    images, labels = pictures()
    model, notes = compiled(0.5), Batches()
    options = {"warmup_epochs": 1, "batch_size": 4, "epochs": 3, "verbose": 0}
    model.fit(images, labels, callbacks=[notes], **options)
    import keras as reference

    schedule = reference.optimizers.schedules.CosineDecay(0.0, 6, warmup_target=0.5, warmup_steps=3)
    expected = [float(schedule(step)) for step in range(9)]
    np.testing.assert_allclose(notes.rates, expected, rtol=1e-5, atol=1e-7)
    rate = float(np.asarray(model.optimizer.learning_rate.numpy()))
    assert rate == 0.5
    again = Batches()
    model.fit(images, labels, callbacks=again, initial_epoch=2, **options)
    np.testing.assert_allclose(again.rates, expected[6:], rtol=1e-5)


def test_a_rate_comes_back_after_an_error():
    class Fails(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise RuntimeError("stop")

    images, labels = pictures()
    model = compiled(0.5)
    with pytest.raises(RuntimeError, match="stop"):
        model.fit(images, labels, warmup_epochs=0.5, callbacks=[Fails()], verbose=0)
    assert float(np.asarray(model.optimizer.learning_rate.numpy())) == 0.5


def test_training_stops_early_with_the_best_weights():
    images, labels = pictures()
    model = compiled(0.5)
    history = model.fit(
        images, labels, validation_data=(images, (labels + 1) % 3), early_stopping=2, epochs=30,
        verbose=0,
    ).history  # fmt: skip
    losses = history["val_loss"]
    assert len(losses) == int(np.argmin(losses)) + 3 < 30
    value = model.evaluate(images, (labels + 1) % 3, verbose=0, return_dict=True)["loss"]
    np.testing.assert_allclose(value, min(losses), rtol=1e-4)


def test_averages_are_validated_and_kept(trains):
    images, labels = pictures()
    options = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0}

    class Average(keras.callbacks.Callback):
        """The average of the weights, computed here."""

        value = None

        def on_train_batch_end(self, batch, logs=None):
            now = [np.array(v.numpy()) for v in self.model.trainable_variables]
            old = now if self.value is None else self.value
            self.value = [0.9 * a + 0.1 * b for a, b in zip(old, now, strict=True)]

    model, average = compiled(), Average()
    history = model.fit(
        images, labels, ema=0.9, callbacks=[average], validation_data=(images, labels), **options
    ).history
    for variable, expected in zip(model.trainable_variables, average.value, strict=True):
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-4, atol=1e-6)
    value = model.evaluate(images, labels, verbose=0, return_dict=True)["loss"]
    np.testing.assert_allclose(value, history["val_loss"][-1], rtol=1e-4)
    with pytest.raises(ValueError, match="call compile anew"):
        model.fit(images, labels, ema=0.99, **options)


def test_bad_values_are_refused(folder):
    images, labels = pictures()
    model = compiled()
    bad = [
        ({"augment": "heavy"}, "augment must be 'auto', a layer"),
        ({"augment": 3}, "augment must be"),
        ({"mixup": -0.1}, "mixup must be a number from 0"),
        ({"mixup": True}, "mixup must be"),
        ({"cutmix": 2.0}, "cutmix must be a number from 0"),
        ({"ema": 1.5}, "ema must be a number from 0 to 1"),
        ({"warmup_epochs": -1}, "warmup_epochs must be"),
        ({"warmup_epochs": 1, "epochs": 1}, "warmup_epochs must be less than epochs, 1, got 1"),
        ({"early_stopping": 0, "validation_split": 0.5}, "early_stopping must be a positive int"),
        ({"early_stopping": 3}, "needs validation_data"),
    ]
    for options, message in bad:
        with pytest.raises(ValueError, match=message):
            model.fit(images, labels, verbose=0, **options)
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="categorical crossentropy, got 'mse'"):
        model.fit(images, labels, mixup=0.2, verbose=0)
    scheduled = compiled(optimizer=keras.optimizers.SGD(lambda: 0.1))
    with pytest.raises(ValueError, match="must be a number, got a schedule"):
        scheduled.fit(images, labels, warmup_epochs=1, epochs=2, verbose=0)
    of_no_size = hub.ImagePreprocessor("ViT", size={"shortest_edge": 12})
    model = classifier()
    model.preprocessor = of_no_size
    with pytest.raises(ValueError, match="makes images of one size"):
        model.fit(folder, augment="auto", verbose=0)


def test_a_recipe_is_off_by_default():
    recipe = Recipe().checked()
    assert not recipe.callbacks()
    assert not recipe.mixes
    data = SeededBatches(ArrayData(np.zeros((3, 1))), lambda x, y, w, seed: (x + seed, y, w))
    first, second = (list(data.epoch(1)) for _ in range(2))
    np.testing.assert_array_equal(first[0][0], second[0][0])


def changes(optimizer, images, labels, **options):
    """How much one step of training changes each weight."""
    model = compiled(optimizer=optimizer)
    before = {w.path: w.numpy() for w in model.trainable_weights}
    model.fit(images, labels, batch_size=len(images), shuffle=False, verbose=0, **options)
    return model, {w.path: w.numpy() - before[w.path] for w in model.trainable_weights}


def test_each_stage_has_its_rate(trains):
    images, labels = pictures(4)
    _, plain = changes(keras.optimizers.SGD(0.1), images, labels)
    model, decayed = changes(keras.optimizers.SGD(0.1), images, labels, layer_decay=0.5)
    stages = [{w.path for w in stage} for stage in model.backbone.stage_weights()]
    assert len(stages) == 4
    assert set().union(*stages) | {"logits/kernel", "logits/bias"} >= plain.keys()
    for path, change in plain.items():
        above = next((4 - i for i, stage in enumerate(stages) if path in stage), 0)
        np.testing.assert_allclose(decayed[path], change * 0.5**above, rtol=1e-3, atol=1e-6)
    model.fit(images, labels, layer_decay=0.5, warmup_epochs=0, epochs=2, verbose=0)
    with pytest.raises(ValueError, match="first training after compile"):
        model.fit(images, labels, layer_decay=0.7, verbose=0)


def test_stages_of_a_transformer_are_those_of_timm():
    timm_oracle.import_timm()
    import timm
    from timm.optim import param_groups_layer_decay

    theirs = timm.create_model(
        "vit_tiny_patch16_224", num_classes=3, depth=3, embed_dim=8, num_heads=2
    )
    expected: dict = {}
    for group in param_groups_layer_decay(theirs, weight_decay=0, layer_decay=0.5):
        count = sum(p.numel() for p in group["params"])
        expected[group["lr_scale"]] = expected.get(group["lr_scale"], 0) + count
    del expected[1.0]  # the head; timm has the last normalisation a stage below, BEiT with it
    expected[0.5] -= 2 * 8
    backbone = hub.ViTBackbone(num_layers=3, num_heads=2, hidden_dim=8, intermediate_dim=32)
    stages = backbone.stage_weights()
    sizes = [sum(int(np.prod(w.shape)) for w in stage) for stage in stages]
    assert {0.5 ** (len(stages) - i): size for i, size in enumerate(sizes)} == expected


def test_repeated_images_are_augmented_each(folder):
    images, labels = pictures()
    layer = keras.layers.RandomFlip(seed=1)
    model = compiled()
    seen = spied(model)
    options = {"augment": layer, "repeats": 3, "batch_size": 6, "verbose": 0, "shuffle": False}
    model.fit(images, labels, **options)
    assert [len(x) for x, _ in seen] == [6] * 6
    assert np.concatenate([y for _, y in seen]).tolist() == np.repeat(labels, 3).tolist()
    trios = np.concatenate([x for x, _ in seen]).reshape(12, 3, -1)
    assert any((trio != trio[0]).any() for trio in trios)
    for trio, image in zip(trios, images, strict=True):
        ready = model.preprocessor([image])[0]
        turned = [ready, ready[:, ::-1], ready[::-1], ready[::-1, ::-1]]
        for one in trio:
            assert any(np.abs(one - t.reshape(-1)).max() < 1e-5 for t in turned)
    of_folder = compiled()
    seen = spied(of_folder)
    of_folder.fit(folder, **options)
    assert [len(x) for x, _ in seen] == [6] * 7 + [3]
    assert all((y.reshape(-1, 3) == y[::3, None]).all() for _, y in seen)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer_decay": 1.5}, "layer_decay must be a number from 0 to 1"),
        ({"repeats": 0, "augment": "auto"}, "repeats must be a positive int"),
        ({"repeats": 2}, "repeats needs augment"),
        ({"repeats": 3, "augment": "auto", "batch_size": 4}, "must be a multiple of repeats=3"),
    ],
)
def test_decay_and_repeats_that_cannot_be(options, message):
    images, labels = pictures(4)
    with pytest.raises(ValueError, match=message):
        compiled().fit(images, labels, verbose=0, **options)


class Interrupt(keras.callbacks.Callback):
    """Ends a training as a crash would, when two epochs are saved."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


def test_a_recipe_goes_on_where_it_was_interrupted(folder, tmp_path_factory):
    backups = tmp_path_factory.mktemp("backups")
    recipe = {
        "augment": "auto", "mixup": 0.2, "warmup_epochs": 1, "ema": 0.9, "layer_decay": 0.7,
        "repeats": 2, "epochs": 4, "batch_size": 8, "verbose": 0, "validation_split": 0.2,
        "early_stopping": 9,
    }  # fmt: skip

    def trained(callbacks):
        model = compiled(optimizer=keras.optimizers.AdamW(0.01))
        keras.utils.set_random_seed(5)
        return model, model.fit(folder, callbacks=callbacks, **recipe).epoch

    whole, _ = trained([])
    with pytest.raises(KeyboardInterrupt):
        trained([keras.callbacks.BackupAndRestore(backups), Interrupt()])
    resumed, epochs = trained([keras.callbacks.BackupAndRestore(backups)])
    assert epochs == [2, 3]
    for ours, expected in zip(resumed.weights, whole.weights, strict=True):
        np.testing.assert_allclose(ours.numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)
