"""Files that tf.keras and Keras write in the format of Keras 2, opened by us, or refused."""

import fcntl
import inspect
import json
import os
import random
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import h5py
import legacy_models
import numpy as np
import pytest
from backends import TRAINABLE
from compare import assert_close, to_numpy
from hostile_files import save_legacy

import keraslite
from keraslite import layers, losses, metrics, models, optimizers, registry, saving
from keraslite.ops.op import TABLE
from keraslite.saving.legacy_config import upgrade_config
from keraslite.saving.legacy_graph import OPERATIONS

NAMES = [make.__name__ for make in legacy_models.MODELS]
SCRIPT = Path(legacy_models.__file__)
# On JAX a step of these takes seconds to compile; the other frameworks train them.
LONG_COMPILATIONS = {"texts", "translation", "cells"}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The files of the real tf.keras, written once for all processes that run tests."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    target = base / "legacy_models"
    with open(base / "legacy_models.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            partial = base / "legacy_models_partial"
            partial.mkdir()
            with keraslite.use_backend("numpy"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                legacy_models.plain(keraslite).save(partial / "plain_of_keraslite.h5")
            environment = os.environ | {"TF_USE_LEGACY_KERAS": "1", "CUDA_VISIBLE_DEVICES": ""}
            command = [sys.executable, str(SCRIPT), str(partial)]
            subprocess.run(command, check=True, env=environment, capture_output=True)
            partial.rename(target)
    return target


@saving.register_keras_serializable("mine")
class Scale(layers.Layer):
    def __init__(self, start=1.0, **kwargs):
        super().__init__(**kwargs)
        self.start = start

    def build(self, input_shape):
        start = keraslite.initializers.Constant(self.start)
        self.scale = self.add_weight(input_shape[-1:], start, name="scale")

    def call(self, x):
        return x * self.scale


def double_error(y_true, y_pred):
    return keraslite.ops.mean(keraslite.ops.abs(y_true - y_pred) * 2, -1)


def load(path, **kwargs):
    return saving.load_model(path, custom_objects={"double_error": double_error}, **kwargs)


def stored(path):
    """The inputs, targets, outputs and losses of tf.keras."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}

    def part(prefix):
        named = {k.partition("/")[2]: v for k, v in arrays.items() if k.startswith(f"{prefix}/")}
        values = [named[str(i)] for i in range(len(named))] if "0" in named else named
        return values[0] if isinstance(values, list) and len(values) == 1 else values

    return part("x"), part("y"), part("out"), arrays.get("losses")


def assert_same_outputs(model, x, expected):
    outputs = model.predict(x, verbose=0)
    if isinstance(expected, dict):
        assert outputs.keys() == expected.keys()
        outputs, expected = zip(*[(outputs[k], expected[k]) for k in expected], strict=True)
    assert_close(outputs, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:.*how the model was compiled")
def test_models_of_tf_keras(backend, folder, name):
    model = load(folder / f"{name}.h5")
    x, y, expected, steps = stored(folder / f"{name}.npz")
    assert_same_outputs(model, x, expected)
    if steps is None or backend == "numpy" or (backend == "jax" and name in LONG_COMPILATIONS):
        return
    model.run_eagerly = backend == "tensorflow"  # where a graph takes longer than two steps
    values = [model.train_on_batch(x, y, return_dict=True)["loss"] for _ in steps]
    assert_close(np.array([to_numpy(v) for v in values]), steps, rtol=1e-5)


@pytest.fixture
def on_numpy():
    with keraslite.use_backend("numpy"):
        yield


on_numpy_alone = pytest.mark.usefixtures("on_numpy")


@pytest.mark.filterwarnings("ignore:.*how the model was compiled")
@on_numpy_alone
def test_functions_of_tensorflow(folder):
    x, _, expected, _ = stored(folder / "functions.npz")
    outputs = load(folder / "functions.h5").predict(x, verbose=0)
    assert outputs.keys() == expected.keys() and len(outputs) > 70
    for name, value in expected.items():
        assert_close(outputs[name], value, rtol=1e-5, atol=1e-5, message=name)


def test_the_table_of_functions():
    for function, (op, renamed, defaults) in OPERATIONS.items():
        known = inspect.signature(TABLE[op].body).parameters
        assert {*renamed.values(), *defaults} <= set(known), function


@on_numpy_alone
def test_a_model_is_compiled_as_it_was(folder):
    model = load(folder / "texts.h5")
    arguments = model.compile_arguments
    assert isinstance(model.optimizer, optimizers.Adam) and model.optimizer.clipnorm == 1.0
    assert model.optimizer.get_config()["learning_rate"]["class_name"] == "ExponentialDecay"
    assert int(to_numpy(model.optimizer.iterations)) == 2
    assert arguments["loss"].get_config()["label_smoothing"] == pytest.approx(0.1)
    assert [m.name for m in arguments["metrics"]] == ["auc", "binary_accuracy"]
    assert [m.name for m in arguments["weighted_metrics"]] == ["acc"]
    model = load(folder / "operations.h5")
    assert [m.name for m in model.compile_arguments["metrics"][0]] == []
    assert [m.name for m in model.compile_arguments["metrics"][1]] == [
        "mae", "root_mean_squared_error",
    ]  # fmt: skip
    model = load(folder / "convnet.h5")
    rate = model.optimizer.get_config()["learning_rate"]
    assert rate["class_name"] == "InverseTimeDecay" and rate["config"]["decay_steps"] == 1
    assert not load(folder / "convnet.h5", compile=False).compiled
    with pytest.warns(UserWarning, match="preprocessing.h5 does not say how the model was"):
        assert not load(folder / "preprocessing.h5").compiled


@on_numpy_alone
def test_the_config_of_a_loaded_model_makes_it_again(folder):
    for name in ("operations", "nested", "cells"):
        model = load(folder / f"{name}.h5")
        again = models.model_from_json(model.to_json())
        again.set_weights(model.get_weights())
        x, _, expected, _ = stored(folder / f"{name}.npz")
        assert_same_outputs(again, x, expected)


# -- weights --------------------------------------------------------------------------------------


def emptied(path):
    """A model of a file, all of whose weights are zero."""
    model = load(path, compile=False)
    for weight in model.weights:
        weight.assign(np.zeros(weight.shape, weight.dtype))
    return model


@pytest.mark.parametrize("name", NAMES)
@on_numpy_alone
def test_files_of_weights(folder, name):
    x, _, expected, _ = stored(folder / f"{name}.npz")
    model = emptied(folder / f"{name}.h5")
    for kind in ("_weights.h5", ".h5", "_checkpoint"):  # the last is the prefix of a checkpoint
        for weight in model.weights:
            weight.assign(np.zeros(weight.shape, weight.dtype))
        model.load_weights(folder / f"{name}{kind}")
        assert_same_outputs(model, x, expected)


@on_numpy_alone
def test_the_variables_of_a_saved_model(folder):
    x, _, expected, _ = stored(folder / "options.npz")
    for part in ("saved_model", "saved_model/variables/variables"):
        model = emptied(folder / "options.h5")
        model.load_weights(folder / part)
        assert_same_outputs(model, x, expected)


@pytest.mark.parametrize("name", ["subclass.h5", "subclass_checkpoint"])
@on_numpy_alone
def test_weights_of_a_model_with_its_own_call(folder, name):
    x, _, expected, _ = stored(folder / "subclass.npz")
    model = legacy_models.subclass(keraslite)
    model.load_weights(folder / name)
    assert_same_outputs(model, x, expected)


@on_numpy_alone
def test_tf_keras_reads_the_weights_of_our_files(folder):
    x, _, answer, _ = stored(folder / "plain.npz")
    assert_same_outputs(legacy_models.plain(keraslite), x, answer)


def small(units=3, last="d"):
    return models.Sequential([
        layers.Input((4,)), layers.Dense(units, name="inner"), layers.Dense(2, name=last),
    ])  # fmt: skip


@on_numpy_alone
def test_weights_by_name(folder):
    path = folder / "options_weights.h5"
    with h5py.File(path) as file:
        name = next(n for n in file.attrs["layer_names"] if n.startswith("dense"))
        kernel = file[f"{name}/{name}/kernel:0"][()]
    model = models.Sequential([
        layers.Input((4,)), layers.Dense(6, name=name), layers.Dense(2, name="other"),
    ])  # fmt: skip
    before = to_numpy(model.layers[1].kernel.value)
    model.load_weights(path, by_name=True)
    assert np.array_equal(to_numpy(model.layers[0].kernel.value), kernel)
    assert np.array_equal(to_numpy(model.layers[1].kernel.value), before)
    with pytest.raises(ValueError, match="the model has 2 layers with weights, the file"):
        model.load_weights(path)
    wrong = models.Sequential([layers.Input((3,)), layers.Dense(6, name=name)])
    before = to_numpy(wrong.layers[0].kernel.value)
    with pytest.raises(ValueError, match=r"options_weights.h5 does not fit .*\(3, 6\).*\(4, 6\)"):
        wrong.load_weights(path, by_name=True)
    with pytest.warns(UserWarning, match=r"left as they are: .*\(3, 6\).*\(4, 6\)"):
        wrong.load_weights(path, by_name=True, skip_mismatch=True)
    assert np.array_equal(to_numpy(wrong.layers[0].kernel.value), before)
    assert to_numpy(wrong.layers[0].bias.value).any()
    plain = models.Sequential([layers.Input((4,)), layers.Dense(6, use_bias=False, name=name)])
    with pytest.warns(UserWarning, match=f"layer '{name}' has 1 weights, {name} in it 2"):
        plain.load_weights(path, by_name=True, skip_mismatch=True)
    with pytest.raises(ValueError, match="by_name=True is for the .h5 files"):
        plain.load_weights("x.safetensors", by_name=True)


@on_numpy_alone
def test_checkpoints_that_do_not_fit(folder, tmp_path):
    path = folder / "options_checkpoint"
    model = small()
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"does not fit the model.*has the shape \(4, 3\), layer"):
        model.load_weights(path)
    assert all(map(np.array_equal, before, model.get_weights()))
    with pytest.warns(UserWarning, match="weights that do not fit are left as they are"):
        model.load_weights(path, skip_mismatch=True)
    for end in (".index", ".data-00000-of-00001"):
        data = Path(f"{path}{end}").read_bytes()
        Path(f"{tmp_path}/c{end}").write_bytes(data)
    for end in (".index", ".data-00000-of-00001"):
        whole = Path(f"{tmp_path}/c{end}").read_bytes()
        Path(f"{tmp_path}/c{end}").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match="c cannot be read: it is damaged"):
            emptied(folder / "options.h5").load_weights(tmp_path / "c")
        Path(f"{tmp_path}/c{end}").write_bytes(whole)


# -- the optimizer --------------------------------------------------------------------------------


@on_numpy_alone
def test_an_optimizer_whose_state_does_not_fit_begins_anew(folder, tmp_path):
    path = tmp_path / "model.h5"
    shutil.copy(folder / "custom.h5", path)
    with h5py.File(path, "r+") as file:
        names = list(file["optimizer_weights"].attrs["weight_names"])
        file["optimizer_weights"].attrs["weight_names"] = names[:-1]
    with pytest.warns(UserWarning, match="state is not that of SGD here") as seen:
        model = load(path)
    assert len(seen) == 1 and int(to_numpy(model.optimizer.iterations)) == 0


@pytest.mark.skipif(not TRAINABLE, reason="trains models")
def test_the_other_optimizers_of_tf_keras_go_on(folder):
    new = set()  # those whose state begins anew
    name = "torch" if "torch" in TRAINABLE else TRAINABLE[0]  # which compiles nothing
    with keraslite.use_backend(name), np.load(folder / "optimizers.npz") as file:
        for name in set(file.files) - {"x", "y"}:
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                model = load(folder / f"{name}.h5")
            if seen:
                assert ["state is not that of" in str(w.message) for w in seen] == [True]
                new.add(name)
                continue
            assert int(to_numpy(model.optimizer.iterations)) == 2
            model.run_eagerly = True
            steps = [float(to_numpy(model.train_on_batch(file["x"], file["y"]))) for _ in range(3)]
            rtol = 2e-3 if name == "mixed_Adam" else 1e-5  # float16 has eleven bits
            assert_close(np.array(steps), file[name], rtol=rtol, message=name)
    assert new == {"legacy_Nadam"}  # whose momentum had another schedule


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept")
@on_numpy_alone
def test_files_of_keras_3(tmp_path):
    import keras

    inputs = keras.Input((6, 4))
    x = keras.ops.relu(keras.layers.Conv1D(4, 2)(inputs)) + 1.0
    inner = keras.Sequential([keras.Input((2, 4)), keras.layers.Dense(3)], name="inner")
    x = keras.ops.concatenate([inner(x[:, 1:3, :]), inner(x[:, 2:4])], axis=1)
    model = keras.Model(inputs, keras.ops.mean(x, axis=1, keepdims=True))
    model.compile(keras.optimizers.Adam(0.01), keras.losses.Huber(), ["mae"])
    model.optimizer.build(model.trainable_variables)
    state = [np.full(v.shape, 0.5 + i, v.dtype) for i, v in enumerate(model.optimizer.variables)]
    model.optimizer.set_weights(state)
    model.save(tmp_path / "model.h5")
    ours = load(tmp_path / "model.h5")
    data = np.random.default_rng(0).normal(size=(3, 6, 4)).astype("float32")
    assert_close(ours.predict(data, verbose=0), keras.ops.convert_to_numpy(model(data)))
    for variable, value in zip(ours.optimizer.variables, state, strict=True):
        assert np.array_equal(to_numpy(variable.value), value)
    assert ours.compile_arguments["metrics"] != []


# -- configs --------------------------------------------------------------------------------------

# Classes of tf.keras that neither Keras 3 nor we have.
MISSING = {
    "LocallyConnected1D", "LocallyConnected2D", "RandomHeight", "RandomWidth", "MeanRelativeError",
    "MeanTensor", "RadialConstraint",
}  # fmt: skip


@on_numpy_alone
def test_a_vocabulary_that_the_file_lacks_is_told(tmp_path):
    path = tmp_path / "m.h5"
    with keraslite.use_backend("numpy"):
        for layer in (layers.StringLookup(name="words"), layers.TextVectorization(name="words")):
            layer.adapt(np.array(["a", "b"], dtype=object))
            text = keraslite.Input((1,), dtype="string")
            save_legacy(path, models.Model(text, layers.Embedding(4, 2)(layer(text))))
            with pytest.warns(UserWarning, match="no vocabulary for words, since"):
                saving.load_model(path)


@on_numpy_alone
def test_all_classes_of_tf_keras_are_read(folder):
    missing = set()
    entries = json.loads((folder / "configs.json").read_text())
    for module, entry in entries:
        module = module.replace(".legacy", "")
        try:
            made = registry.deserialize_keras_object(upgrade_config(entry, f"keras.{module}"))
        except ValueError as error:
            missing.add((entry["class_name"], str(error).partition(" '")[0]))
        else:
            owner = keraslite
            for part in module.split("."):
                owner = getattr(owner, part)
            names = (
                entry["class_name"],
                "ReLU" if entry["class_name"] == "ThresholdedReLU" else "",
            )
            assert registry.public_class(type(made)).__name__ in names
            assert isinstance(made, getattr(owner, registry.public_class(type(made)).__name__))
    assert missing == {(name, "Unknown object") for name in MISSING}
    assert len(entries) > 190


@on_numpy_alone
def test_older_forms_of_configs():
    def made(cls, module="keras.layers", **config):
        entry = upgrade_config({"class_name": cls, "config": config}, module)
        return registry.deserialize_keras_object(entry)

    policy = {"class_name": "Policy", "config": {"name": "mixed_bfloat16"}}
    assert made("Dense", units=2, dtype=policy).compute_dtype == "bfloat16"
    scaling = {"scale": 2.0, "mode": "fan_in", "distribution": "normal", "dtype": "float32"}
    initializer = {"class_name": "VarianceScaling", "config": scaling}
    layer = made("Dense", units=2, kernel_initializer=initializer)
    assert layer.kernel_initializer.distribution == "truncated_normal"
    assert made("LSTMV2", units=2, implementation=1, time_major=False).units == 2
    with pytest.raises(ValueError, match="LSTM has time_major=True, which Keras 3 does not have"):
        made("LSTM", units=2, time_major=True)
    sgd = made("SGD", "keras.optimizers", lr=1, decay=0.0, momentum=0.5, nesterov=False)
    assert float(sgd.learning_rate.numpy()) == 1.0 and sgd.momentum == 0.5
    loss = made("MeanSquaredError", "keras.losses", reduction="auto", name="m")
    assert isinstance(loss, losses.MeanSquaredError) and loss.reduction == "sum_over_batch_size"
    assert isinstance(made("Hinge", "keras.metrics"), metrics.Hinge)


# -- what is refused ------------------------------------------------------------------------------


def changed(path, folder, change, name="custom", attribute="model_config"):
    """Write a file of tf.keras with another config."""
    shutil.copy(folder / f"{name}.h5", path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs[attribute])
        result = change(config)
        file.attrs[attribute] = result if isinstance(result, str) else json.dumps(config)
    return path


def set_layer(number, **changes):
    def change(config):
        layer = config["config"]["layers"][number]
        layer["config"].update(changes.pop("config", {}))
        layer.update(changes)

    return change


UNFIT = {
    "unknown class": (set_layer(1, class_name="Thing"), "Unknown object 'Thing'"),
    "module": (set_layer(1, class_name="system", module="os"), "Unknown object 'system'"),
    "of a package": (set_layer(1, class_name="yours>Thing"), "Unknown object 'yours>Thing'"),
    "huge": (set_layer(1, config={"units": 10**12}), "units=1000000000000, more than the"),
    "no JSON": (lambda c: "{", "its model_config is no JSON"),
    "a list": (lambda c: "[]", "must be a JSON object"),
    "deep": (lambda c: '{"config":' + "[" * 9999 + "]" * 9999 + "}", "its model_config is no JSON"),
    "nested": (lambda c: '{"config":' + "[" * 400 + "]" * 400 + "}", "cannot be read"),
    "cycle": (
        lambda c: c["config"]["layers"][1].update(inbound_nodes=[[["inner", 1, 0, {}]]]),
        "The graph has no order",
    ),
    "operation": (
        set_layer(1, class_name="TFOpLambda", config={"function": "io.read_file"}),
        "tf.io.read_file of TensorFlow has no counterpart",
    ),
    "node": (set_layer(1, class_name="TensorFlowOpLayer"), "a node of a TensorFlow graph"),
}


@pytest.mark.parametrize("name", UNFIT)
@on_numpy_alone
def test_configs_that_are_refused(folder, tmp_path, name):
    change, match = UNFIT[name]
    path = changed(tmp_path / "bad.h5", folder, change)
    with pytest.raises(ValueError, match=match) as error:
        load(path)
    assert "bad.h5" in str(error.value)


@pytest.mark.filterwarnings("ignore:A `Lambda` layer runs bytecode")
@on_numpy_alone
def test_a_lambda_runs_only_if_asked(folder):
    with pytest.raises(ValueError, match=r"lambda.h5.*arbitrary code.*safe_mode=False"):
        saving.load_model(folder / "lambda.h5", compile=False)
    model = saving.load_model(folder / "lambda.h5", compile=False, safe_mode=False)
    assert model.predict(np.ones((1, 2), "float32"), verbose=0).tolist() == [[3.0, 3.0]]


@on_numpy_alone
def test_a_loss_that_is_not_known(folder):
    with pytest.raises(ValueError, match="custom.h5.*double_error.*custom_objects.*compile=False"):
        saving.load_model(folder / "custom.h5")
    assert saving.load_model(folder / "custom.h5", compile=False).built


@on_numpy_alone
def test_damaged_files(folder, tmp_path):
    whole = (folder / "custom.h5").read_bytes()
    path = tmp_path / "bad.h5"
    for size in (0, 100, len(whole) // 2, len(whole) - 2000):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="bad.h5 cannot be read: it is damaged"):
            load(path)
    shutil.copy(folder / "custom_weights.h5", path)
    with pytest.raises(ValueError, match="bad.h5 has no config of a model.*load_weights"):
        load(path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.h5")
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        file["model_weights/x"] = h5py.ExternalLink("/etc/passwd", "x")
    with pytest.raises(ValueError, match=r"bad.h5 is refused: .* is an external link"):
        load(path)
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        file.create_dataset("huge", shape=(10**9, 10**3), dtype="float32", chunks=(1, 1))
    with pytest.raises(ValueError, match=r"bad.h5 is refused: huge .* is said to take"):
        load(path)


@pytest.mark.filterwarnings("ignore")
@on_numpy_alone
def test_configs_with_random_faults_are_errors_of_one_kind(folder, tmp_path):
    """Values exchanged at random places: a model, or a ValueError that names the file."""
    draw = random.Random(0)
    odd = [None, -1, 10**30, "x", [], {}, [["a", 0, 0]], {"class_name": "Dense", "config": {}}, 0.5]

    def places(x):
        pairs = x.items() if isinstance(x, dict) else enumerate(x) if isinstance(x, list) else ()
        for key, value in list(pairs):
            yield x, key
            yield from places(value)

    refused = []
    for name, attribute in (("nested", "model_config"), ("operations", "training_config")):
        for _ in range(40):

            def change(config):
                for _ in range(2):
                    owner, key = draw.choice(list(places(config)))
                    owner[key] = json.loads(json.dumps(draw.choice(odd)))

            path = changed(tmp_path / "odd.h5", folder, change, name, attribute)
            try:
                load(path)
            except ValueError as error:
                refused.append("odd.h5" in str(error))
    assert all(refused) and len(refused) > 40
