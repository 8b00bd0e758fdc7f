"""GPTQ and AWQ: weights in few bits that are fitted to data.

The oracles are the papers' formulas and the parts of the installed Keras. Keras's own
`Model.quantize` is none: its hooks wrap `call`, and a layer in one of these modes runs
`quantized_call`, so that no data arrives and weights are rounded to their nearest neighbours. Its
GPTQ also takes the inverse of the Hessian where the paper has that inverse's Cholesky factor, which
with correlated inputs is no better than rounding.
"""

import json
from functools import cache

import keras
import numpy as np
import pytest
from keras.src.quantizers import awq as keras_awq
from keras.src.quantizers import gptq as keras_gptq
from keras.src.quantizers import gptq_core
from keras.src.quantizers.quantizers import GPTQQuantizer, compute_quantization_parameters
from layer_cases import assert_outputs_close, plain_config, random_weights, x
from quantization_cases import numpy_of

import keraslite
from keraslite import ops
from keraslite.models.calibration import token_windows
from keraslite.quantizers import AWQConfig, GPTQConfig
from keraslite.quantizers.awq import awq_quantize
from keraslite.quantizers.gptq import gptq_quantize, round_in_order
from keraslite.quantizers.zero_points import affine_parameters, affine_weights

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept")
RNG = np.random.default_rng(5)
WEIGHTS = np.float32(np.abs(RNG.normal(size=(6, 20))))
WEIGHTS[:, ::2] *= -1  # each group has both signs: see below
INPUTS = np.float32(RNG.normal(size=(40, 20)) @ (np.eye(20) + 0.5 * RNG.normal(size=(20, 20))))
PRODUCTS = INPUTS.T @ INPUTS / len(INPUTS)


# ---- the algorithms ----


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(
    "how", [(False, True, -1), (False, True, 8), (True, True, 8), (False, False, -1)]
)
def test_scales_and_zero_points_are_keras(bits, how):
    symmetric, per_channel, group_size = how
    expected = compute_quantization_parameters(
        WEIGHTS, bits=bits, symmetric=symmetric, per_channel=per_channel, group_size=group_size
    )
    ours = affine_parameters(WEIGHTS, bits, symmetric, per_channel, group_size)
    for a, b in zip(ours, expected, strict=False):
        np.testing.assert_allclose(a, np.asarray(b), rtol=1e-6)


def test_weights_of_one_sign_have_a_zero_point():
    """Keras's is negative there and wraps around, and the floats are lost."""
    weights = np.abs(WEIGHTS) + 3
    scale, zero = affine_parameters(weights, 4)
    integers = np.clip(np.round(weights / scale + zero), 0, 15)
    assert np.abs((integers - zero) * scale - weights).max() <= scale.max()


def cholesky_factor(damping=0.01):
    hessian = 2.0 * PRODUCTS.astype("float64")
    hessian += damping * np.diagonal(hessian).mean() * np.eye(len(hessian))
    return hessian, np.linalg.cholesky(np.linalg.inv(hessian)).T.astype("float32")


@pytest.mark.parametrize("group_size", [-1, 5, 8])
@pytest.mark.parametrize("symmetric", [False, True])
def test_rounding_in_order_is_keras_with_the_factor_of_the_paper(group_size, symmetric):
    _, factor = cholesky_factor()
    options = {"weight_bits": 4, "symmetric": symmetric, "group_size": group_size}
    quantizer = GPTQQuantizer(keras.quantizers.GPTQConfig(None, None, **options))
    expected = keras_gptq.gptq_quantize_matrix(
        keras.ops.convert_to_tensor(WEIGHTS), keras.ops.convert_to_tensor(factor),
        group_size=group_size, compute_scale_zero=quantizer.find_params,
    )  # fmt: skip
    ours = round_in_order(WEIGHTS, factor, 4, group_size, symmetric=symmetric)
    for a, b in zip(ours, expected, strict=False):
        np.testing.assert_allclose(a, np.asarray(b), rtol=1e-6)


def one_by_one(weights, hessian, bits):
    """The paper's equations: after each weight its input is removed from the Hessian."""
    weights = weights.astype("float64")
    scale, zero = (v.astype("float64") for v in affine_parameters(np.float32(weights), bits))
    integers = np.zeros_like(weights)
    for j in range(weights.shape[1]):
        inverse = np.linalg.inv(hessian[j:, j:])
        column = weights[:, j : j + 1]
        whole = np.clip(np.round(column / scale + zero), 0, 2**bits - 1)
        integers[:, j] = whole[:, 0]
        weights[:, j:] -= (column - (whole - zero) * scale) / inverse[0, 0] * inverse[0]
    return integers


def output_error(made, order=slice(None)):
    floats = affine_weights(
        made["integers"], np.float32(made["scale"]), made["zero"], made["g_idx"]
    )
    return np.linalg.norm((floats - WEIGHTS) @ INPUTS.T)


def test_gptq_is_that_of_the_paper():
    with keraslite.use_backend("numpy"):
        hessian, _ = cholesky_factor()
        made = gptq_quantize(WEIGHTS, PRODUCTS)
        np.testing.assert_array_equal(made["integers"], one_by_one(WEIGHTS, hessian, 4))
        assert made["g_idx"].tolist() == [0] * 20
        order = np.argsort(-np.diagonal(PRODUCTS))
        sorted_by_us = gptq_quantize(WEIGHTS[:, order], PRODUCTS[order][:, order], group_size=6)
        ordered = gptq_quantize(WEIGHTS, PRODUCTS, group_size=6, activation_order=True)
        np.testing.assert_array_equal(ordered["integers"][:, order], sorted_by_us["integers"])
        np.testing.assert_array_equal(ordered["g_idx"][order], sorted_by_us["g_idx"])
        scale, zero = affine_parameters(WEIGHTS, 4)
        nearest = {"integers": np.clip(np.round(WEIGHTS / scale + zero), 0, 15)}
        nearest |= {"scale": scale, "zero": zero, "g_idx": np.zeros(20)}
        assert output_error(made) < 0.7 * output_error(nearest)
        assert output_error(ordered) < output_error(made)
        wide = np.tile(WEIGHTS, (1, 10))  # more than are corrected at once, and dead inputs
        dead = gptq_quantize(wide, np.pad(PRODUCTS, (0, 180)), activation_order=True)
        assert dead["scale"].shape == (6, 1)
        np.testing.assert_array_equal(
            dead["integers"][:, 20:], np.clip(np.round(wide / scale + zero), 0, 15)[:, 20:]
        )
    with pytest.raises(ValueError, match="linearly dependent"):
        gptq_quantize(WEIGHTS, np.ones((20, 20), "float32"), damping=0.0)


@pytest.mark.parametrize("group_size", [-1, 5, 8, 128])
def test_awq_is_keras(group_size):
    magnitudes = np.abs(INPUTS).max(0) * np.linspace(0, 3, 20, dtype="float32")
    integers, *others = keras_awq.awq_quantize_matrix(
        keras.ops.convert_to_tensor(WEIGHTS), magnitudes, group_size=group_size
    )
    made = awq_quantize(WEIGHTS, magnitudes, group_size)
    np.testing.assert_array_equal(made["integers"], np.asarray(integers))
    for name, expected in zip(("scale", "zero", "awq_scales", "g_idx"), others, strict=True):
        np.testing.assert_allclose(made[name], np.asarray(expected), rtol=1e-5)


# ---- data ----


class Tokenizer:
    """Tokens that are the places of letters in the alphabet."""

    def tokenize(self, text):
        return np.array([ord(c) - ord("a") for c in text], "int32")


TEXTS = ["abcdefghijkl", "lkjaab", "gecabd"]


def test_pieces_of_texts_are_keras(monkeypatch):
    # Where its first piece begins depends on Python's random hashes.
    monkeypatch.setattr(gptq_core, "hash", lambda _: 0, raising=False)
    arrays = [Tokenizer().tokenize(text) for text in TEXTS]
    for samples, length in ((3, 5), (7, 2), (4, 20)):
        for dataset in (TEXTS, arrays, (text for text in TEXTS)):
            options = {"num_samples": samples, "sequence_length": length}
            ours = token_windows(GPTQConfig(dataset, Tokenizer(), **options))
            theirs = gptq_core.get_dataloader(Tokenizer(), length, arrays, samples)
            assert ours.dtype == theirs.dtype == "int32"
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("dataset", "error", "message"),
    [
        ("text", TypeError, "must be an iterable"),
        (3, TypeError, "must be an iterable"),
        ([], ValueError, "is empty"),
        (None, ValueError, "needs a dataset"),
        (["text"], ValueError, "needs a tokenizer"),
    ],
)
def test_bad_data_is_refused(dataset, error, message):
    with pytest.raises(error, match=message):
        token_windows(AWQConfig(dataset, None))


# ---- models ----


def network(library):
    """A model of an embedding and two blocks, and what its config has to say of them.

    No kernel is square: Keras on TensorFlow adds (n, 1) to (n, n) as if it were a row.
    """
    Sequential, layers = library.Sequential, library.layers
    inputs = library.Input((None,), dtype="int32")
    embedding = layers.Embedding(12, 8)
    blocks = [
        Sequential([
            library.Input((None, 8)), layers.Dense(6, "relu", name="wide"),
            layers.EinsumDense("abc,cde->abde", (None, 2, 4), bias_axes="de", name="heads"),
            layers.EinsumDense("abde,def->abf", (None, 9), name="joined"),
        ]),
        Sequential([library.Input((None, 9)), layers.Dense(5, use_bias=False, name="last")]),
    ]  # fmt: skip
    outputs = blocks[1](blocks[0](embedding(inputs)))
    model = library.Model(inputs, layers.Dense(3, name="outside")(outputs))
    weights = random_weights([v.shape for v in model.weights])
    model.set_weights([w * (-1) ** np.indices(w.shape).sum(0) for w in weights])  # both signs
    return model, {"pre_block_layers": [embedding], "sequential_blocks": blocks}


NAMES = ("wide", "heads", "joined", "last")
DATA = {"num_samples": 8, "sequence_length": 4}


def named_layers(structure):
    return {layer.name: layer for b in structure["sequential_blocks"] for layer in b.layers}


def calibrated(config_class, **options):
    """Our model, after calibration."""
    model, structure = network(keraslite)
    config = config_class(
        TEXTS, Tokenizer(), **DATA, **options, quantization_layer_structure=structure
    )
    model.quantize(config=config)
    return model, named_layers(structure), config


def keras_layers(mode, config, made=keras_awq.AWQ, update="update_activation_magnitudes"):
    """Keras's layers, and its objects that saw the inputs of the layers of the first block."""
    model, structure = network(keras)
    windows = token_windows(config)
    inputs = np.concatenate([np.asarray(structure["pre_block_layers"][0](w)) for w in windows])
    layers = named_layers(structure)
    names = {"gptq": ("group_size",), "awq": ("group_size", "num_grid_points")}[mode]
    options = {"dataset": [], "tokenizer": None} | {n: getattr(config, n) for n in names}
    theirs = {"awq": keras.quantizers.AWQConfig, "gptq": keras.quantizers.GPTQConfig}
    objects, value = {}, keras.ops.convert_to_tensor(inputs)
    for name in NAMES[:3]:
        layer, given = layers[name], value
        value = layer(value)
        layer.quantize(mode, config=theirs[mode](**options))
        objects[name] = made(layer, layer.quantization_config)
        rows = keras.ops.reshape(given, (-1, objects[name].rows))
        getattr(objects[name], update)(rows)
    return model, layers, objects, inputs


AWQ_OPTIONS = {"num_grid_points": 5}


@cache
def keras_awq_says(group_size):
    """Of each layer of the first block: inputs, outputs, weights by name, and the policy's name."""
    config = AWQConfig(TEXTS, Tokenizer(), **DATA, **AWQ_OPTIONS, group_size=group_size)
    _, layers, objects, value = keras_layers("awq", config)
    found = {}
    for name, made in objects.items():
        made.quantize_layer()
        layer, given = layers[name], value
        value = np.asarray(layer(value))
        weights = [(v.path.rpartition("/")[2], np.array(v)) for v in layer.weights]
        found[name] = given, value, weights, layer.dtype_policy.name
    return found


@pytest.mark.parametrize("group_size", [-1, 4])
def test_awq_of_a_model_is_that_of_keras_parts(group_size, backend):
    model, layers, _ = calibrated(AWQConfig, group_size=group_size, **AWQ_OPTIONS)
    for name, (inputs, outputs, weights, policy) in keras_awq_says(group_size).items():
        ours = layers[name]
        assert [v.path.rpartition("/")[2] for v in ours.weights] == [n for n, _ in weights]
        for a, (_, b) in zip(ours.get_weights(), weights, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=1e-5)
        assert_outputs_close(ours(inputs), outputs, 1e-5)
        assert ours.dtype_policy.name == policy
    assert model.get_layer("outside").quantization_mode is None  # in no block
    assert layers["last"].quantization_mode == "awq"


@cache
def keras_gptq_layers():
    """The layers of the first block, their kernels and Hessians, and what goes in."""
    config = GPTQConfig(TEXTS, Tokenizer(), **DATA, group_size=4)
    update = "update_hessian_with_batch"
    _, layers, objects, inputs = keras_layers("gptq", config, keras_gptq.GPTQ, update)
    found = {}
    for name, made in objects.items():
        found[name] = layers[name], np.array(layers[name]._kernel), np.array(made.hessian)
        made.quantize_and_correct_layer()
    return found, inputs


def test_gptq_of_a_model(backend):
    _, layers, _ = calibrated(GPTQConfig, group_size=4)
    theirs, value = keras_gptq_layers()
    for name, (other, floats, hessian) in theirs.items():
        ours = layers[name]
        for a, b in zip(ours.weights, other.weights, strict=True):
            assert a.path.rpartition("/")[2] == b.path.rpartition("/")[2]
            assert (a.shape, a.dtype) == (tuple(b.shape), str(b.dtype))
        matrix = floats.reshape(len(hessian), -1).T
        expected = gptq_quantize(matrix, hessian / 2, group_size=4)
        np.testing.assert_array_equal(
            numpy_of(keraslite.quantizers.unpack_int4(
                ours.quantized_kernel, len(matrix), axis=0, dtype="uint8"
            )),
            expected["integers"],
        )  # fmt: skip
        # The same numbers in Keras's layer mean the same.
        other.set_weights(ours.get_weights())
        assert_outputs_close(ours(value), np.asarray(other(value)), 1e-5)
        value = np.asarray(other(value))
    assert ours.kernel.shape == floats.shape


@pytest.mark.parametrize("bits", [2, 8])
def test_other_bits_and_orders(bits):
    _, layers, _ = calibrated(GPTQConfig, weight_bits=bits, activation_order=True, symmetric=True)
    for name, shape in (("wide", (6, 8)), ("heads", (8, 6)), ("joined", (9, 8))):
        stored = layers[name].quantized_kernel
        assert (stored.shape, stored.dtype) == (shape, "uint8")
        assert stored.numpy().max() <= 2**bits - 1


MODES = {"gptq": GPTQConfig, "awq": AWQConfig}
each_mode = pytest.mark.parametrize("mode", MODES)


@each_mode
def test_files(mode, backend, tmp_path):
    model, layers, _ = calibrated(MODES[mode], group_size=4)
    tokens = np.array([[1, 2, 11], [0, 5, 3]], "int32")
    exact, _ = network(keraslite)
    after, before = numpy_of(model(tokens)), numpy_of(exact(tokens))
    assert 0 < np.abs(after - before).max() < 0.5 * np.abs(before).max()
    model.save(tmp_path / "m.keras")
    again = keraslite.saving.load_model(tmp_path / "m.keras")
    assert [(w.path, w.dtype) for w in again.weights] == [(w.path, w.dtype) for w in model.weights]
    assert_outputs_close(again(tokens), after, 1e-6)
    for name in ("wide", "heads"):
        config = json.loads(json.dumps(keraslite.layers.serialize(layers[name])))
        other, store = keras.layers.deserialize(config), {}
        layers[name].save_own_variables(store)
        other.load_own_variables(store)
        inputs = x(2, 3, 8 if name == "wide" else 6)
        assert_outputs_close(layers[name](inputs), np.asarray(other(inputs)), 1e-5)
        assert plain_config(layers[name].get_config()) == plain_config(other.get_config())
        # What Keras itself saves lacks the zero points, and Keras cannot load it either.
        fresh = keraslite.layers.deserialize(keras.layers.serialize(other))
        fresh.set_weights(other.get_weights())
        assert_outputs_close(fresh(inputs), np.asarray(other(inputs)), 1e-5)


@each_mode
def test_lora_over_calibrated_weights_trains(mode, trains, tmp_path):
    model, layers, _ = calibrated(MODES[mode], group_size=4)
    for layer in layers.values():
        layer.enable_lora(2)
    base = layers["wide"].quantized_kernel.numpy()
    tokens = np.arange(24, dtype="int32").reshape(8, 3) % 12
    model.compile(keraslite.optimizers.Adam(0.03), "mse")
    losses = model.fit(tokens, x(8, 3, 3), epochs=10, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0]
    np.testing.assert_array_equal(layers["wide"].quantized_kernel.numpy(), base)
    model.save(tmp_path / "m.keras", weights_format="safetensors")
    again = keraslite.saving.load_model(tmp_path / "m.keras")
    assert_outputs_close(again(tokens), numpy_of(model(tokens)), 1e-6)
    with pytest.raises(NotImplementedError, match="fitted to data"):  # for Keras to open
        model.save(tmp_path / "h5.keras")
    assert not (tmp_path / "h5.keras").exists()


def test_general_equations(backend):
    """Kernels whose inputs do not come first, and inputs that are summed alone."""
    layers = keraslite.layers
    for equation, shape, output_shape in (
        ("abc,dc->abd", (2, 3, 8), (None, 4)),
        ("abcd,edc->abe", (2, 3, 4, 2), (None, 5)),
        ("abc,cd->ad", (2, 3, 8), (4,)),
    ):
        layer = layers.EinsumDense(equation, output_shape)
        exact = numpy_of(layer(x(*shape)))
        config = AWQConfig([], None, group_size=-1)
        layer.quantize(config=config)
        statistic = layer.weight_mode.new_statistic()
        statistic(layer.inputs_as_rows(ops.convert_to_tensor(x(*shape))))
        layer.calibrate(statistic)
        assert layer.effective_weight().shape == layer.weight_shape("kernel")
        assert np.abs(numpy_of(layer(x(*shape))) - exact).max() < 0.3 * np.abs(exact).max()
    shared = layers.EinsumDense("abc,cbd->abd", (3, 2))
    shared(x(2, 3, 4))
    with pytest.raises(NotImplementedError, match="is no matrix"):
        shared.quantize(config=config)


def test_bad_calls_say_so():
    model, structure = network(keraslite)
    for mode, config_class in MODES.items():
        with pytest.raises(ValueError, match="you must pass"):
            model.quantize(mode)
        with pytest.raises(ValueError, match="valid quantization structure"):
            model.quantize(mode, config=config_class(TEXTS, Tokenizer()))
        empty = {"sequential_blocks": []}
        config = config_class(TEXTS, Tokenizer(), quantization_layer_structure=empty)
        with pytest.raises(ValueError, match="No sequential blocks"):
            model.quantize(mode, config=config)
        with pytest.raises(ValueError, match="not quantized by setting"):
            model.get_layer("outside").dtype_policy = f"{mode}/4/128_from_float32"
        for bad in ({"weight_bits": 5}, {"num_samples": 0}, {"group_size": 0}):
            for library in (keraslite.quantizers, keras.quantizers):
                with pytest.raises(ValueError, match=next(iter(bad)).replace("weight_", ".*")):
                    getattr(library, config_class.__name__)(None, None, **bad)
    assert {layer.quantization_mode for layer in model.flatten_layers()} == {None}


def test_a_model_may_say_its_structure_and_filters_choose():
    class Told(keraslite.Model):
        def get_quantization_layer_structure(self, mode=None):
            return structure if mode == "gptq" else None

    model, structure = network(keraslite)
    told = Told(model.inputs, model.outputs)
    told.quantize(config=GPTQConfig(TEXTS, Tokenizer(), **DATA), filters="wide|last")
    modes = {name: layer.quantization_mode for name, layer in named_layers(structure).items()}
    assert modes == {"wide": "gptq", "heads": None, "joined": None, "last": "gptq"}
