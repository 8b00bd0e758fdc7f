"""How weights are stored: exact inverses for every kind, and the numbers of torch's own layers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import keraslite as keras
from hub.weights.loading import Exported, export, load_into
from hub.weights.storage import (
    AS_IS,
    CONV,
    CONV_TRANSPOSE,
    DENSE,
    DENSE_AS_CONV,
    DENSE_OR_CONV,
    DEPTHWISE,
    FLAT,
    Storage,
    einsum_dense,
)
from hub.weights.tables import WeightTable
from keraslite import layers

# A storage, and the numbers of axes that its weights have.
KINDS = {
    "as_is": (AS_IS, range(5)),
    "flat": (FLAT, range(1, 4)),
    "dense": (DENSE, [2]),
    "dense as conv": (DENSE_AS_CONV, [2]),
    "dense or conv": (DENSE_OR_CONV, [2]),
    "conv": (CONV, [3, 4, 5]),
    "depthwise": (DEPTHWISE, [3, 4, 5]),
    "conv_transpose": (CONV_TRANSPOSE, [3, 4, 5]),
    "heads of the outputs": (einsum_dense("abc,cde->abde"), [3]),
    "heads of the inputs": (einsum_dense("abcd,cde->abe"), [3]),
    "heads, outputs last": (Storage("inputs heads size -> inputs (heads size)"), [3]),
}
SIZES = st.integers(1, 5)


@st.composite
def weights(draw):
    """A storage, the shape of a weight, and of one of its parts."""
    storage, ranks = KINDS[draw(st.sampled_from(sorted(KINDS)))]
    shape = [draw(SIZES) for _ in range(draw(st.sampled_from(ranks)))]
    stored = len(storage.stored_shape(shape))
    parts = draw(st.integers(1, 3)) if stored else 1
    axis = draw(st.integers(0, stored - 1)) if parts > 1 else 0
    return storage, tuple(shape), parts, axis


@settings(max_examples=300, deadline=None)
@given(weights())
def test_each_direction_undoes_the_other(case):
    storage, shape, parts, axis = case
    storages = [storage.as_part(i, parts, axis) for i in range(parts)]
    stored = storages[0].stored_shape(shape)
    assert math.prod(stored) == parts * math.prod(shape)
    tensor = np.random.default_rng(0).permutation(math.prod(stored)).reshape(stored)
    ours = [x.from_checkpoint(tensor, shape) for x in storages]
    assert all(x.shape == shape and np.shares_memory(x, tensor) for x in ours)
    pieces = [x.to_checkpoint(y, stored) for x, y in zip(storages, ours, strict=True)]
    assert all(x.flags.c_contiguous for x in pieces)
    again = np.concatenate(pieces, axis) if parts > 1 else pieces[0]
    np.testing.assert_array_equal(again, tensor)
    weight = np.random.default_rng(1).permutation(math.prod(shape)).reshape(shape)
    whole = storage.to_checkpoint(weight)
    assert whole.shape == storage.stored_shape(shape)
    np.testing.assert_array_equal(storage.from_checkpoint(whole, shape), weight)
    # Also of what is not contiguous, as trained weights and some checkpoints are.
    turned = np.asfortranarray(weight)
    np.testing.assert_array_equal(storage.to_checkpoint(turned), whole)


@settings(max_examples=200, deadline=None)
@given(weights(), st.data())
def test_another_shape_is_refused_in_both_directions(case, data):
    storage, shape, *_ = case
    stored = storage.stored_shape(shape)
    other = tuple(data.draw(st.lists(SIZES, max_size=5)))
    if storage.fits(shape, other):
        assert math.prod(other) == math.prod(stored)
        assert other == stored or storage.pixel_optional
        return
    with pytest.raises(ValueError, match="expected"):
        storage.from_checkpoint(np.zeros(other), shape)
    with pytest.raises(ValueError, match="expected"):
        storage.to_checkpoint(np.zeros(shape), other)


@pytest.mark.parametrize("shape", [(3,), (3, 4, 5)])
def test_a_storage_of_another_number_of_axes(shape):
    with pytest.raises(ValueError, match="must be of another weight"):
        DENSE.stored_shape(shape)


@pytest.mark.parametrize("equation", ["abc,abcd->abd", "ab,bc->abc", "ab,b->a"])
def test_equations_that_no_dense_layer_computes(equation):
    assert einsum_dense(equation) is None


# -- against torch --------------------------------------------------------------------------------

IMAGE = np.random.default_rng(0).normal(size=(2, 7, 6, 4)).astype("float32")
LINE, VOLUME = IMAGE[:, :, 0], np.stack([IMAGE, IMAGE + 1], 3)
VECTORS = LINE[..., :3]
CONV_ARGS = {"kernel_size": 3, "padding": "valid"}
CASES = {
    "Conv1D": (layers.Conv1D(6, **CONV_ARGS), torch.nn.Conv1d(4, 6, 3), LINE),
    "Conv2D": (layers.Conv2D(6, (3, 2)), torch.nn.Conv2d(4, 6, (3, 2)), IMAGE),
    "grouped": (layers.Conv2D(6, 3, groups=2), torch.nn.Conv2d(4, 6, 3, groups=2), IMAGE),
    "Conv3D": (layers.Conv3D(6, (3, 2, 1)), torch.nn.Conv3d(4, 6, (3, 2, 1)), VOLUME),
    "DepthwiseConv1D": (
        layers.DepthwiseConv1D(3, depth_multiplier=2), torch.nn.Conv1d(4, 8, 3, groups=4), LINE
    ),
    "DepthwiseConv2D": (
        layers.DepthwiseConv2D((3, 2), depth_multiplier=2),
        torch.nn.Conv2d(4, 8, (3, 2), groups=4), IMAGE,
    ),
    "Conv1DTranspose": (
        layers.Conv1DTranspose(5, 3, strides=2), torch.nn.ConvTranspose1d(4, 5, 3, 2), LINE
    ),
    "Conv2DTranspose": (
        layers.Conv2DTranspose(5, (3, 2), strides=2), torch.nn.ConvTranspose2d(4, 5, (3, 2), 2),
        IMAGE,
    ),
    "Conv3DTranspose": (
        layers.Conv3DTranspose(5, (3, 2, 2)), torch.nn.ConvTranspose3d(4, 5, (3, 2, 2)), VOLUME
    ),
    "Dense": (layers.Dense(5), torch.nn.Linear(3, 5), VECTORS),
    "Embedding": (layers.Embedding(9, 5), torch.nn.Embedding(9, 5), np.array([[1, 8], [3, 0]])),
    "LayerNormalization": (
        layers.LayerNormalization(epsilon=1e-5), torch.nn.LayerNorm(3), VECTORS
    ),
    "GroupNormalization": (
        layers.GroupNormalization(2, epsilon=1e-5), torch.nn.GroupNorm(2, 4), IMAGE
    ),
    "BatchNormalization": (
        layers.BatchNormalization(epsilon=1e-5), torch.nn.BatchNorm2d(4), IMAGE
    ),
    "heads of the outputs": (
        layers.EinsumDense("abc,cde->abde", (None, 2, 5), bias_axes="de"),
        torch.nn.Sequential(torch.nn.Linear(3, 10), torch.nn.Unflatten(2, (2, 5))), VECTORS,
    ),
    "heads of the inputs": (
        layers.EinsumDense("abcd,cde->abe", (None, 5), bias_axes="e"),
        torch.nn.Sequential(torch.nn.Flatten(2), torch.nn.Linear(24, 5)), IMAGE,
    ),
}  # fmt: skip


def tensors_of(module):
    """The tensors of a torch module by the names "layer.weight"..., all of them drawn."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
        found[f"layer.{name.rpartition('.')[2]}"] = tensor.numpy().copy()
    return found


class Checkpoint(dict):
    """Arrays by name, as a reader of files gives them."""

    def shape(self, name):
        return self[name].shape

    def release(self, name):
        pass


def model_of(layer, x):
    """The layer, anew, in a model by the name `layer`."""

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.layer = type(layer).from_config(layer.get_config())

        def call(self, inputs):
            return self.layer(inputs)

    model = Model()
    model.layer.build(x.shape)
    return model


TABLE = WeightTable({"layer": "layer"})


@pytest.mark.parametrize("case", CASES)
def test_a_layer_of_torch(backend, case):
    layer, theirs, x = CASES[case]
    tensors = Checkpoint(tensors_of(theirs))
    model = model_of(layer, x)
    assert load_into(model, tensors, TABLE) == []
    channels_first = any(word in case for word in ("Conv", "grouped", "Group", "Batch"))
    y = torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)) if channels_first else x)
    expected = theirs.eval()(y).detach().numpy()
    expected = np.moveaxis(expected, 1, -1) if channels_first else expected
    ours = keras.ops.convert_to_numpy(model(x))
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)
    written = dict(export(model, TABLE))
    counted = {name for name in tensors if name.endswith("num_batches_tracked")}
    assert set(written) == set(tensors) - counted
    for name, array in written.items():
        np.testing.assert_array_equal(array, tensors[name])


def test_queries_keys_and_values_that_are_one_tensor(backend):
    theirs = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    x = np.random.default_rng(0).normal(size=(2, 5, 8)).astype("float32")
    tensors = Checkpoint({n: t.numpy().copy() for n, t in theirs.state_dict().items()})
    table = WeightTable(
        {
            **{f"attention/{name}_dense/{ours}": f"in_proj_{their}"
               for name in ("query", "key", "value")
               for ours, their in (("kernel", "weight"), ("bias", "bias"))},
            "attention/output_dense": "out_proj",
        },
        storage={
            f"attention/{name}_dense/{leaf}": storage.as_part(part, 3)
            for part, name in enumerate(("query", "key", "value"))
            for leaf, storage in (("kernel", einsum_dense("abc,cde->abde")), ("bias", FLAT))
        },
    )  # fmt: skip

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.attention = layers.MultiHeadAttention(2, 4)

    model = Model()
    model.attention.build(x.shape, x.shape)
    load_into(model, tensors, table)
    with torch.no_grad():
        expected = theirs(*[torch.from_numpy(x)] * 3)[0].numpy()
    ours = keras.ops.convert_to_numpy(model.attention(x, x))
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)
    written = dict(export(model, table))
    assert set(written) == set(tensors)
    for name, array in written.items():
        np.testing.assert_array_equal(array, tensors[name])


# -- shapes on the way out ------------------------------------------------------------------------


@pytest.fixture
def einsum_model():
    with keras.use_backend("numpy"):
        x = np.zeros((1, 2, 8), "float32")
        yield model_of(layers.EinsumDense("abc,cde->abde", (None, 3, 4), bias_axes="de"), x)


def test_what_was_read_is_written(einsum_model):
    generator = np.random.default_rng(0)
    shapes = {"layer.weight": (12, 8), "layer.bias": (12,)}
    tensors = Checkpoint({n: generator.normal(size=s).astype("float32") for n, s in shapes.items()})
    load_into(einsum_model, tensors, TABLE)
    for name, array in export(einsum_model, TABLE).items():
        np.testing.assert_array_equal(array, tensors[name])
    wrong = Checkpoint(tensors, **{"layer.weight": np.zeros((32, 3), "float32")})
    with pytest.raises(ValueError, match=r"layer\.weight \(32, 3\) .*expected \(12, 8\)"):
        load_into(einsum_model, wrong, TABLE)


def test_another_shape_than_was_read_is_not_written(einsum_model):
    tensors = Checkpoint({"layer.weight": np.zeros((12, 8)), "layer.bias": np.zeros(12)})
    load_into(einsum_model, tensors, TABLE)
    other = WeightTable({"layer": "layer"}, storage={"layer/kernel": AS_IS, "layer/bias": AS_IS})
    with pytest.raises(
        ValueError,
        match=r"(?s)layer\.weight \(12, 8\) .*expected \(8, 3, 4\).*layer\.bias .*\(3, 4\)",
    ):
        export(einsum_model, other)


def test_a_kernel_of_an_unknown_layer_needs_a_row():
    class Odd(keras.Model):
        def __init__(self):
            super().__init__()
            self.kernel = self.add_weight(shape=(2, 3), name="kernel")

    with keras.use_backend("numpy"):
        model = Odd()
        with pytest.raises(ValueError, match=r"how \['kernel'\] is stored"):
            export(model, WeightTable({"kernel": "weight"}))
        told = WeightTable({"kernel": "weight"}, storage={"kernel": DENSE})
        assert export(model, told)["weight"].shape == (3, 2)


def test_a_storage_of_no_row_is_refused():
    with pytest.raises(ValueError, match=r"\['other/kernel'\]"):
        WeightTable({"layer": "layer"}, storage={"other/kernel": DENSE})


def test_parts_of_a_tensor_are_written_together_or_not_at_all(einsum_model):
    half = einsum_dense("abc,cde->abde").as_part(0, 2)
    table = WeightTable({"layer": "layer"}, storage={"layer/kernel": half})
    with pytest.raises(ValueError, match=r"layer\.weight has the parts \[0\], expected 2"):
        export(einsum_model, table)
    assert isinstance(export(einsum_model, TABLE), Exported)
