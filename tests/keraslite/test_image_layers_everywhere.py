"""The image layers inside models, under jit, in tf.data, in worker processes, and in files."""

import pickle

import numpy as np
import pytest
import tensorflow as tf
import torch
from compare import assert_close, to_numpy
from image_cases import PICTURES, ROWS

import keraslite
from keraslite import layers, models, ops, random

SAMPLED = [
    "RandomFlip", "RandomRotation", "RandomCrop", "RandomColorJitter", "RandomErasing",
    "Equalization", "CutMix", "RandAugment",
]  # fmt: skip
FIRST = {row.layer: row for row in reversed(ROWS)}


def make(name, **kwargs):
    row = FIRST[name]
    seed = {"seed": 11} if row.draws else {}
    return getattr(layers, name)(**row.kwargs, **seed, **kwargs)


@pytest.mark.parametrize("name", SAMPLED)
def test_in_a_compiled_function(name, backend):
    """The same pictures as outside, from call to call."""
    layer = make(name)
    wanted = [to_numpy(layer(PICTURES)) for _ in range(2)]
    inner = make(name)
    state = [inner.generator.state] if "generator" in vars(inner) else []
    compiled = keraslite.jit(lambda x: inner(x, training=True), variables=state)
    got = [to_numpy(compiled(ops.convert_to_tensor(PICTURES))) for _ in range(2)]
    assert_close(got, wanted, 0, 0.5)


@pytest.mark.parametrize("name", [*SAMPLED, "AugMix"])
def test_tf_data_of_unknown_sizes_and_dicts(name):
    """A layer of torch maps a data set of dicts, whose batches have no size while it is traced."""
    with keraslite.use_backend("torch"):
        layer = make(name, bounding_box_format="xyxy")
        boxes = {"boxes": np.tile(np.float32([[1, 1, 6, 5]]), (4, 2, 1)), "labels": np.ones((4, 2))}
        data = {
            "images": PICTURES, "bounding_boxes": boxes, "labels": np.eye(4, dtype="float32"),
            "segmentation_masks": PICTURES[..., :1],
        }  # fmt: skip
        eager = layer(data)
        layer = make(name, bounding_box_format="xyxy")
        mapped, second = tf.data.Dataset.from_tensor_slices(data).batch(4).repeat(2).map(layer)
        if FIRST[name].draws:
            assert (second["images"].numpy() != mapped["images"].numpy()).any()
        for key in ("images", "labels", "segmentation_masks"):
            assert_close(mapped[key].numpy(), to_numpy(eager[key]), 0, 1.0)
        for key in ("boxes", "labels"):
            got, want = mapped["bounding_boxes"][key].numpy(), eager["bounding_boxes"][key]
            assert_close(got, to_numpy(want), 1e-4, 1e-3)


def test_in_a_model(backend):
    inputs = layers.Input((8, 10, 3))
    x = layers.RandAugment(seed=1)(inputs)
    x = layers.RandomFlip(seed=2)(x)
    x = layers.RandomCrop(6, 6, seed=3)(x)
    assert x.shape == (None, 6, 6, 3)
    model = models.Model(inputs, x)
    images = PICTURES.astype("float32")
    still = to_numpy(model.predict(images, verbose=0))
    assert_close(still, to_numpy(layers.CenterCrop(6, 6)(layers.Resizing(8, 10)(images))), 1, 300)
    assert still.shape == (4, 6, 6, 3)
    first, second = (to_numpy(model(images, training=True)) for _ in range(2))
    assert (first != second).any()
    again = models.Model.from_config(model.get_config())
    assert_close(to_numpy(again(images, training=True)), first)


def test_training_with_augmentation(trains):
    model = models.Sequential([
        layers.RandomRotation(0.1, seed=1), layers.RandomBrightness(0.1, seed=2),
        layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(2),
    ])  # fmt: skip
    model.compile("sgd", "mse")
    history = model.fit(PICTURES.astype("float32"), np.ones((4, 2)), epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    states = [int(to_numpy(layer.generator.state.value)[1]) for layer in model.layers[:2]]
    assert states == [2, 2]  # one draw a step


class Pictures(torch.utils.data.Dataset):
    """Pictures that a layer changes, in the process that reads them."""

    def __init__(self, layer):
        self.layer = layer

    def __len__(self):
        return len(PICTURES)

    def __getitem__(self, index):
        return np.array(to_numpy(self.layer(PICTURES[0].astype("float32"))))


@pytest.mark.filterwarnings("ignore:.*fork")  # jax warns if another test has imported it
@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_worker_processes_draw_other_numbers(name):
    with keraslite.use_backend(name):
        data = Pictures(layers.RandomBrightness(0.4, seed=1))

    def epoch(seed):
        generator = torch.Generator().manual_seed(seed)
        loader = torch.utils.data.DataLoader(
            data, batch_size=1, num_workers=2, generator=generator, multiprocessing_context="fork"
        )
        return np.concatenate([x.numpy() for x in loader])

    first = epoch(1)
    assert len({x.tobytes() for x in first}) == 4  # no two workers draw alike
    assert (epoch(2) != first).all(axis=(1, 2, 3)).any()
    assert_close(epoch(1), first, 0, 0)


def test_copies_and_files_keep_the_place_in_the_stream(backend, tmp_path):
    layer = layers.RandAugment(seed=4)
    layer(PICTURES)
    again = pickle.loads(pickle.dumps(layer))
    want = to_numpy(layer(PICTURES))
    assert_close(to_numpy(again(PICTURES)), want)
    model = models.Sequential([layers.Input((8, 10, 3)), layers.RandomHue(0.5, seed=1)])
    model(PICTURES, training=True)
    model.save(tmp_path / "m.keras")
    loaded = keraslite.saving.load_model(tmp_path / "m.keras")
    want = to_numpy(model(PICTURES, training=True))
    assert_close(to_numpy(loaded(PICTURES, training=True)), want)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "mixed_bfloat16"])
def test_dtypes(dtype, backend):
    for name in ("RandomFlip", "RandomRotation", "RandomContrast", "RandAugment", "CenterCrop"):
        layer = make(name, dtype=dtype)
        out = layer(PICTURES, training=True)
        assert ops.dtype(out) == layer.compute_dtype
        values = to_numpy(ops.cast(out, "float32"))
        assert_close(values, to_numpy(make(name)(PICTURES, training=True)), 0.01, 1.0)


def test_a_layer_of_ones_own(backend):
    """A subclass as Keras documents it."""

    class Shift(layers.RandomFlip.__mro__[1]):
        def __init__(self, factor, seed=None, **kwargs):
            super().__init__(factor=factor, **kwargs)
            self.seed = seed
            self.generator = random.SeedGenerator(seed)

        def get_random_transformation(self, data, training=True, seed=None):
            images = data["images"] if isinstance(data, dict) else data
            seed = self.generator if seed is None else seed
            shape = (ops.shape(images)[0], 1, 1, 1)
            return {"by": random.uniform(shape, *self.factor, seed=seed)}

        def transform_images(self, images, transformation, training=True):
            images = ops.cast(images, self.compute_dtype)
            return ops.add(images, transformation["by"]) if training else images

        def transform_labels(self, labels, transformation, training=True):
            return ops.add(labels, ops.reshape(transformation["by"], (-1,)))

    layer = Shift(0.5, seed=3)
    assert layer.factor == (-0.5, 0.5)
    out = layer({"images": PICTURES, "labels": np.zeros(4, "float32")})
    moved = to_numpy(out["images"]) - PICTURES
    assert_close(moved[:, 0, 0, 0], to_numpy(out["labels"]), 1e-3, 1e-4)
    assert_close(layer(PICTURES[0], training=False), PICTURES[0].astype("float32"))


def test_a_pipeline_of_layers(backend):
    def row():
        return layers.Pipeline([
            layers.RandomFlip(seed=1), layers.RandomHue(0.5, seed=2), layers.Rescaling(1 / 255),
        ])  # fmt: skip

    pipeline = row()
    want = to_numpy(pipeline(PICTURES))
    assert want.max() <= 1
    again = layers.deserialize(layers.serialize(pipeline))
    assert [type(x) for x in again.layers] == [type(x) for x in pipeline.layers]
    assert_close(again(PICTURES), want)
    assert_close(pipeline(PICTURES, training=False), PICTURES / 255, 1e-5, 1e-6)
    (mapped,) = tf.data.Dataset.from_tensor_slices(PICTURES).batch(4).map(row())
    assert_close(mapped.numpy(), want, 0, 0.002)
    with pytest.raises(ValueError, match="must be a list of layers"):
        layers.Pipeline([abs])
