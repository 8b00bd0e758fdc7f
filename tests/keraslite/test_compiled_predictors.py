"""Model.compiled_for: what it takes and gives, changes of weights, precisions, errors."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import keraslite as keras
from keraslite import layers
from keraslite.export.compiled import CompiledPredictor
from keraslite.export.concrete import tensorflow_function
from keraslite.export.openvino import converted_model
from keraslite.export.packages import required
from keraslite.export.signature import signature_of

_rng = np.random.default_rng(0)
X = {"b": _rng.normal(size=(5, 3)).astype("float32"), "a": _rng.normal(size=(5, 4))}


def two_by_two():
    """A model of two named inputs and nested outputs, neither in the order of their names."""
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    first, second = layers.Dense(5, name="first")(a), layers.Dense(5)(b)
    total = layers.Add()([first, second])
    return keras.Model({"b": b, "a": a}, {"z": total, "c": [second, first]})


def assert_equal(got, expected):
    keras.tree.map_structure(
        lambda p, q: np.testing.assert_allclose(p, q, rtol=1e-5, atol=1e-5), got, expected
    )


def test_weights_that_change_are_noticed(backend):
    model = two_by_two()
    fast = model.compiled_for("openvino")

    def check(builds, **options):
        assert_equal(fast.predict(X, verbose=0, **options), model.predict(X, verbose=0))
        assert fast.builds == builds

    check(1, batch_size=2)
    check(1)
    bias = model.get_layer("first").bias
    bias.assign(np.ones(5, "float32"))
    check(2)
    bias.assign_add(np.ones(5, "float32"))
    check(3)
    if keras.backend.load(backend).TRAINS:
        model.compile("sgd", "mse")
        y = {"z": np.ones((5, 5)), "c": [np.ones((5, 5))] * 2}
        model.fit(X, y, epochs=1, verbose=0)
        check(4)
        model.train_on_batch(X, y)
        check(5)
        check(5)
    other = "numpy" if backend != "numpy" else "torch"
    model.to_backend(other)
    assert_equal(fast.predict(X, verbose=0), model.predict(X, verbose=0))


def test_a_write_into_one_row_of_a_tensorflow_variable_is_noticed():
    tf = pytest.importorskip("tensorflow")
    with keras.use_backend("tensorflow"):
        table = keras.Variable(np.zeros((4, 2), "float32"))
    raw = table.value if isinstance(table.value, tf.Variable) else table._kl_raw
    unchanged = keras.backend.load("tensorflow").watch(raw)
    assert unchanged(raw)
    raw.scatter_nd_update([[2]], [[1.0, 2.0]])
    assert not unchanged(raw)
    unchanged = keras.backend.load("tensorflow").watch(raw)  # from here on every read copies
    assert unchanged(raw)
    assert unchanged(raw)
    raw.scatter_nd_update([[2]], [[1.0, 3.0]])
    assert not unchanged(raw)


def test_onnxruntime_gives_the_same_names_and_nesting():
    with keras.use_backend("torch"):
        model = two_by_two()
        fast = model.compiled_for("onnxruntime")
        expected = model.predict(X, verbose=0)
        assert_equal(fast.predict(X, verbose=0), expected)
        assert_equal(fast(X), expected)
        assert_equal(fast.predict([X["b"], X["a"]], verbose=0), expected)
        assert_equal(fast.predict_on_batch(X), expected)


def test_texts_are_looked_up_before_the_network():
    with keras.use_backend("torch"):
        texts = keras.Input((), dtype="string")
        lookup = layers.TextVectorization(vocabulary=["good", "bad"], output_sequence_length=3)
        hidden = layers.Embedding(4, 3)(lookup(texts))
        model = keras.Model(texts, layers.Dense(2)(layers.Flatten()(hidden)))
        x = np.array(["good bad", "bad", "something good"])
        fast = model.compiled_for("openvino")
        assert_equal(fast.predict(x, verbose=0), model.predict(x, verbose=0))


def test_int8_chooses_what_float32_does():
    with keras.use_backend("torch"):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((16,)), layers.Dense(32, "relu"), layers.Dense(4)])
        x = _rng.normal(size=(64, 16)).astype("float32")
        best = model.predict(x, verbose=0).argmax(-1)
        fast = model.compiled_for("onnxruntime", precision="int8")
        got = fast.predict(x, verbose=0)
        assert (got.argmax(-1) == best).mean() > 0.8
        assert not np.allclose(got, model.predict(x, verbose=0), rtol=1e-6)  # it is no float32


def test_threads_run_it_at_once_and_leave_each_others_models_alone():
    with keras.use_backend("torch"):
        model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
        fast, results = model.compiled_for("openvino"), {}
        rows = [_rng.normal(size=(8, 4)).astype("float32") for _ in range(4)]
        expected = [model.predict(x, verbose=0) for x in rows]

        def work(i):
            results[i] = [fast.predict(rows[i], batch_size=2, verbose=0) for _ in range(5)]

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        with fast.scope():
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        for i in range(4):
            for got in results[i]:
                assert_equal(got, expected[i])


class OwnStep(keras.Model):
    def predict_step(self, data):
        return 2 * self(data[0])


def test_errors():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    with pytest.raises(ValueError, match=r"engine must be one of .* got 'tensorrt'"):
        model.compiled_for("tensorrt")
    with pytest.raises(ValueError, match=r"precision must be one of .* got 'int4'"):
        model.compiled_for("openvino", precision="int4")
    with pytest.raises(NotImplementedError, match="int8 runs on engine='onnxruntime'"):
        model.compiled_for("openvino", precision="int8")
    with pytest.raises(NotImplementedError, match="onnxruntime has no bfloat16"):
        model.compiled_for("onnxruntime", precision="bfloat16")
    with pytest.raises(ValueError, match="is not built"):
        keras.Sequential([layers.Dense(3)]).compiled_for("openvino")
    own = OwnStep(model.inputs, model.outputs)
    with pytest.raises(NotImplementedError, match="predict_step of its own"):
        own.compiled_for("openvino")


OF_OPENVINO = """
import os, threading
import keraslite as keras

forks = []
os.register_at_fork(before=lambda: forks.append(threading.current_thread().name))
keras.use_backend("numpy")
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
model.compiled_for("openvino").predict([[1.0, 2.0, 3.0, 4.0]], verbose=0)

from openvino_telemetry import Telemetry
Telemetry().sender.executor.shutdown()
assert not forks and not Telemetry().consent, forks
"""


def test_openvino_reports_nothing(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "CI"} | {"HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", OF_OPENVINO], env=environment, check=True)
    assert not list(tmp_path.glob("*intel*"))


def test_openvino_fuses_layer_normalization_and_gelu():
    with keras.use_backend("torch"):
        hidden = layers.Activation("gelu")(inputs := keras.Input((None, 8)))
        model = keras.Model(inputs, layers.LayerNormalization()(hidden))
    network = converted_model(tensorflow_function(model, signature_of(model)))
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = required("openvino").Core().compile_model(network, "CPU", hint)
    layer_types = [op.get_rt_info()["layerType"].astype(str) for op in
             compiled.get_runtime_model().get_ops()]  # fmt: skip
    assert sorted(set(layer_types) - {"Const"}) == ["Eltwise", "Input", "MVN", "Output"]
    assert layer_types.count("Eltwise") == 1  # GELU alone
    x = _rng.normal(size=(2, 3, 8)).astype("float32")
    assert_equal(model.compiled_for("openvino").predict(x, verbose=0), model.predict(x, verbose=0))


def test_bfloat16_runs_where_the_processor_has_it_and_nowhere_else():
    able = required("openvino").Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    if "BF16" not in able:
        with pytest.raises(NotImplementedError, match="no bfloat16 instructions"):
            model.compiled_for("openvino", precision="bfloat16")
        return
    x = np.ones((2, 4), "float32")
    fast = model.compiled_for("openvino", precision="bfloat16")
    np.testing.assert_allclose(
        fast.predict(x, verbose=0), model.predict(x, verbose=0), rtol=0.02, atol=0.02
    )


@pytest.mark.parametrize(
    ("package", "engine", "precision", "extra"),
    [
        ("openvino", "openvino", "float32", "openvino"),
        ("onnxruntime", "onnxruntime", "float32", "onnx"),
    ],
)
def test_a_missing_package_is_an_error_that_names_the_extra(
    package, engine, precision, extra, monkeypatch
):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    with pytest.raises(ImportError, match=rf"'{package}' is not installed.*\[{extra}\]"):
        CompiledPredictor(model, engine, precision)
