"""Exported files: signatures and metadata, errors of formats, and failed exports."""

import errno
import json
import resource

import numpy as np
import pytest
from backends import BACKENDS, TRAINABLE
from export_cases import MODELS, can_open, inputs_of, model_on, opened

import keraslite as keras
from keraslite import layers as L
from keraslite import ops
from keraslite.export import formats
from keraslite.export.packages import required
from keraslite.export.signature import TensorSpec, signature_of

LIVE = BACKENDS[0]
needs = {
    format: pytest.mark.skipif(
        not can_open(format), reason=f"the packages that open {format} are not installed"
    )
    for format in formats.FORMATS
}


class Subclass(keras.Model):
    """A model without symbolic inputs."""

    def __init__(self):
        super().__init__()
        self.embedding, self.dense = L.Embedding(9, 4), L.Dense(2)

    def call(self, ids, weights):
        return self.dense(ops.sum(self.embedding(ids) * weights[..., None], 1))


def specs_of(model, input_signature=None):
    return signature_of(model, input_signature).specs


# -- the signature --------------------------------------------------------------------------------


def test_the_signature_of_functional_models(backend):
    attention = MODELS["attention"]()
    ids, positions = (TensorSpec(x, (None, None), "int32") for x in ("token_ids", "positions"))
    assert specs_of(attention) == [ids, positions]  # in the order in which the model has them
    signature = signature_of(attention)
    assert signature.pack([1, 2]) == [{"token_ids": 1, "positions": 2}]
    assert signature.pack({"positions": 2, "token_ids": 1}) == signature.pack([1, 2])
    assert signature.flatten([{"positions": 2, "token_ids": 1}]) == [1, 2]
    assert [x.shape for x in signature.examples()] == [(3, 5), (3, 5)]
    a, b = keras.Input((2,), name="b"), keras.Input((2,), batch_size=4, name="a")
    several = keras.Model([a, b], a + b)
    assert specs_of(several) == [
        TensorSpec("b", (None, 2), "float32"), TensorSpec("a", (4, 2), "float32"),
    ]  # fmt: skip
    assert signature_of(several).pack([1, 2]) == [[1, 2]]
    assert [x.shape for x in signature_of(several).examples()] == [(4, 2), (4, 2)]


def test_the_signature_of_a_model_without_a_graph(backend):
    model = Subclass()
    with pytest.raises(ValueError, match="is not built.*call it on data"):
        signature_of(model)
    model(np.ones((2, 3), "int32"), np.ones((2, 3), "float32"))
    assert specs_of(model) == [
        TensorSpec("ids", (None, 3), "int32"), TensorSpec("weights", (None, 3), "float32"),
    ]  # fmt: skip


def test_the_signature_that_is_given():
    with keras.use_backend("numpy"):
        model = model_on("mlp", "numpy")
        spec = keras.InputSpec("float32", (5, 4))
        assert specs_of(model, [spec]) == [TensorSpec("features", (5, 4), "float32")]
        assert specs_of(model, spec) == specs_of(model, [spec])
        free = [TensorSpec("features", (None, 4), "float32")]
        assert specs_of(model, [np.ones((2, 4), "float32")]) == free
        assert specs_of(model, [keras.KerasTensor((2, 4))]) == free
        named = keras.InputSpec("float32", (None, 4), name="x")
        assert specs_of(model, [named]) == [TensorSpec("x", (None, 4), "float32")]
        for wrong in (keras.InputSpec("float32"), keras.InputSpec("float32", ndim=2)):
            with pytest.raises(ValueError, match="'features'.*unknown rank: give"):
                signature_of(model, [wrong])
        with pytest.raises(ValueError, match="expected an InputSpec with shape and dtype"):
            signature_of(model, [keras.InputSpec(shape=(None, 4))])
        attention = model_on("attention", "numpy")
        two = [np.ones((2, 7), "int32")] * 2
        assert signature_of(attention, two).names == ["token_ids", "positions"]


# -- the live model -------------------------------------------------------------------------------


@needs["tf_saved_model"]
def test_a_model_in_training_is_left_as_it_is(trains, tmp_path):
    model = keras.Sequential([keras.Input((3,)), L.Dense(2), L.Dropout(0.5), L.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"])
    x, y = np.ones((8, 3), "float32"), np.ones((8, 1), "float32")
    model.fit(x, y, verbose=0)
    optimizer, before = model.optimizer, model.get_weights()
    model.export(tmp_path / "m", verbose=False)
    assert model.backend == trains and model.optimizer is optimizer
    assert all(map(np.array_equal, before, model.get_weights()))
    model.fit(x, y, verbose=0)
    import tensorflow as tf

    loaded = tf.saved_model.load(str(tmp_path / "m"))
    # No optimizer, no metrics, no random state.
    assert [tuple(v.shape) for v in loaded.variables] == [w.shape for w in before]
    assert len(loaded.trainable_variables) == 4 and loaded.non_trainable_variables == []
    assert len(tf.train.list_variables(str(tmp_path / "m/variables/variables"))) == 5  # the graph


@needs["tf_saved_model"]
def test_the_endpoint_takes_what_the_model_does(tmp_path):
    import tensorflow as tf

    model, inputs = model_on("attention", LIVE), inputs_of("attention", 2)
    model.export(tmp_path / "m", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    outputs = loaded.serve({k: tf.constant(v) for k, v in inputs.items()})
    expected = model.predict(inputs, verbose=0)
    assert np.allclose(outputs["pooled"], expected["pooled"], atol=1e-5)
    assert set(loaded.signatures) == {"serve", "serving_default"}
    served = loaded.signatures["serving_default"]
    assert set(served.structured_input_signature[1]) == {"token_ids", "positions"}
    assert set(served.structured_outputs) == {"sequence", "pooled"}
    assert json.loads((tmp_path / "m/assets.extra/metadata.json").read_text())["name"] == model.name


@needs["torch"]
def test_a_layer_that_draws_when_it_predicts(tmp_path):
    class Noisy(L.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.seeds = keras.random.SeedGenerator(3)

        def call(self, x):
            return x + keras.random.normal(ops.shape(x), seed=self.seeds)

    with keras.use_backend(LIVE):
        x = keras.Input((3,), name="x")
        model = keras.Model(x, Noisy()(x))
        model.export(tmp_path / "m.pt2", "torch", verbose=False)
        first = model.predict(np.zeros((2, 3), "float32"), verbose=0)
    run = opened(tmp_path / "m.pt2", "torch")
    drawn = [run({"x": np.zeros((2, 3), "float32")}) for _ in range(2)]
    assert np.allclose(drawn[0], first, atol=1e-5)
    assert np.array_equal(*drawn)  # files have no random state


# -- what is inside -------------------------------------------------------------------------------


class Labelled(keras.Sequential):
    def export_metadata(self):
        return {"labels": "cat, dog", "license": "MIT"}


def test_metadata_is_inside(tmp_path):
    with keras.use_backend("numpy"):
        model = Labelled([keras.Input((2,), name="x"), L.Dense(2, name="y")], name="pets")
    for format, ending in (("onnx", ""), ("litert", ".tflite"), ("openvino", ".xml"),
                           ("tfjs", ""), ("torch", ".pt2")):  # fmt: skip
        if can_open(format):
            path = tmp_path / f"{format}{ending}"
            model.export(path, format, verbose=False)
            found = METADATA[format](str(path))
            assert (found["name"], found["labels"], found["license"]) == ("pets", "cat, dog", "MIT")


def _onnx_metadata(path):
    import onnxruntime

    return onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map


def _lite_metadata(path):
    with open(path, "rb") as file:
        data = file.read()
    start = data.index(b'{"name"')
    return json.loads(data[start : data.index(b"}", start) + 1])


def _openvino_metadata(path):
    info = required("openvino").Core().read_model(path).get_rt_info()["keraslite"]
    return {key: value.astype(str) for key, value in info.items()}


def _tfjs_metadata(path):
    with open(f"{path}/model.json") as file:
        return json.load(file)["userDefinedMetadata"]


def _torch_metadata(path):
    import torch

    extra = {"metadata.json": ""}
    torch.export.load(path, extra_files=extra)
    return json.loads(extra["metadata.json"])


METADATA = {
    "onnx": _onnx_metadata, "litert": _lite_metadata, "openvino": _openvino_metadata,
    "tfjs": _tfjs_metadata, "torch": _torch_metadata,
}  # fmt: skip


@needs["onnx"]
def test_the_version_of_the_operators(tmp_path):
    import onnx

    model_on("mlp", LIVE).export(tmp_path / "m", "onnx", verbose=False, opset_version=18)
    assert onnx.load(tmp_path / "m").opset_import[0].version == 18


@needs["litert"]
def test_weights_of_lite_models_in_eight_bits(tmp_path):
    import tensorflow as tf

    with keras.use_backend(LIVE):
        model = keras.Sequential([keras.Input((64,)), L.Dense(64, name="y")])
    model.export(tmp_path / "a.tflite", "litert", verbose=False)
    options = {"optimizations": [tf.lite.Optimize.DEFAULT]}
    model.export(tmp_path / "b.tflite", "litert", verbose=False, **options)
    sizes = [(tmp_path / f"{x}.tflite").stat().st_size for x in "ab"]
    assert sizes[1] < 0.5 * sizes[0]
    with pytest.raises(ValueError, match="does not know the argument 'optimisations'"):
        model.export(tmp_path / "c.tflite", "litert", verbose=False, optimisations=[])


@needs["stablehlo"]
def test_a_stablehlo_program_has_a_gradient(tmp_path):
    import jax

    model = model_on("mlp", LIVE)
    model.export(tmp_path / "m", "stablehlo", verbose=False, vjp_order=1, platforms=["cpu"])
    program = jax.export.deserialize(bytearray((tmp_path / "m").read_bytes()))
    gradient = jax.grad(lambda x: program.call(x)["value"].sum())(np.ones((2, 4), "float32"))
    assert gradient.shape == (2, 4) and np.abs(gradient).max() > 0


# -- what is refused ------------------------------------------------------------------------------


def test_wrong_names_and_places(tmp_path, capsys):
    model = model_on("mlp", LIVE)
    with pytest.raises(ValueError, match="Unknown format 'caffe'. Expected one of tf_saved_model"):
        model.export(tmp_path / "m", format="caffe")
    with pytest.raises(ValueError, match=r"'litert' must end with '.tflite', got 'm.lite'"):
        model.export(tmp_path / "m.lite", format="litert")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        model.export(tmp_path / "absent" / "m.pt2", format="torch")
    (tmp_path / "file").write_text("kept")
    with pytest.raises(NotADirectoryError, match="needs a folder, but there is a file"):
        model.export(tmp_path / "file")
    with pytest.raises(IsADirectoryError, match="needs a file, but there is a folder"):
        model.export(tmp_path, format="onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert capsys.readouterr().out == ""


def test_a_model_that_is_not_built(tmp_path):
    with pytest.raises(ValueError, match="is not built"):
        keras.Sequential([L.Dense(2)]).export(tmp_path / "m")
    with pytest.raises(ValueError, match="unknown rank"):
        model_on("mlp", LIVE).export(tmp_path / "m", input_signature=[keras.InputSpec("float32")])
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_is_missing(tmp_path, monkeypatch):
    absent = {"onnxscript", "openvino", "executorch"}
    find = formats.find_spec
    monkeypatch.setattr(formats, "find_spec", lambda x: None if x in absent else find(x))
    for format, ending in (("onnx", ""), ("openvino", ".xml"), ("executorch", ".pte")):
        with pytest.raises(ImportError, match=rf'pip install "keraslite-hub\[{format}\]"'):
            model_on("mlp", LIVE).export(tmp_path / f"m{ending}", format=format)
    absent.add("tensorflow")
    with pytest.raises(ImportError, match=r'pip install "keraslite-hub\[tensorflow\]"'):
        model_on("mlp", LIVE).export(tmp_path / "m")


class Factor(L.Layer):
    """A layer whose operation few formats have."""

    def call(self, x):
        return ops.cholesky(ops.matmul(x, ops.swapaxes(x, 1, 2)) + ops.eye(3))


@pytest.mark.parametrize(
    ("format", "ending", "text"),
    [
        pytest.param("onnx", "", "operation aten.linalg_cholesky_ex.*Try format 'tf_saved_model'",
                     marks=needs["onnx"]),
        pytest.param("litert", ".tflite", "operation Cholesky.*Try", marks=needs["litert"]),
        pytest.param("tfjs", "", "operation Cholesky.*Try", marks=needs["tfjs"]),
        pytest.param("openvino", ".xml", "operation Cholesky.*Try", marks=needs["openvino"]),
    ],
)  # fmt: skip
def test_an_operation_that_a_format_lacks(format, ending, text, tmp_path, capfd):
    with keras.use_backend(LIVE):
        x = keras.Input((3, 4))
        model = keras.Model(x, Factor()(x))
    with pytest.raises(NotImplementedError, match=f"Format '{format}' cannot hold.*{text}"):
        model.export(tmp_path / f"m{ending}", format=format, verbose=False)
    assert list(tmp_path.iterdir()) == []


def test_state_from_call_to_call_is_refused(tmp_path):
    with keras.use_backend("numpy"):
        x = keras.Input(batch_shape=(2, 3, 4))
        model = keras.Model(x, L.SimpleRNN(2, stateful=True)(x))
    with pytest.raises(NotImplementedError, match="keeps state from call to call"):
        model.export(tmp_path / "m.pt2", "torch")


@pytest.mark.skipif("torch" not in BACKENDS, reason="needs torch")
def test_a_module_of_torch_goes_to_torch_alone(tmp_path):
    import torch

    with keras.use_backend("torch"):
        x = keras.Input((3,), name="x")
        model = keras.Model(x, L.TorchModuleWrapper(torch.nn.Linear(3, 2))(x))
        data = np.ones((2, 3), "float32")
        model.export(tmp_path / "m.pt2", "torch", verbose=False)
        expected = model.predict(data, verbose=0)
    assert np.allclose(opened(tmp_path / "m.pt2", "torch")({"x": data}), expected, atol=1e-6)
    if can_open("tf_saved_model"):
        with pytest.raises(NotImplementedError):
            model.export(tmp_path / "m", verbose=False)


# -- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "name"),
    [pytest.param(*x, marks=needs[x[0]]) for x in (
        ("tf_saved_model", "m"), ("tfjs", "m"), ("onnx", "m"), ("litert", "m.tflite"),
        ("torch", "m.pt2"), ("openvino", "m.xml"), ("stablehlo", "m"),
    )],
)  # fmt: skip
def test_a_disk_without_room(format, name, tmp_path):
    with keras.use_backend(TRAINABLE[0]):
        model = keras.Sequential([keras.Input((100,)), L.Dense(1000)])
    older = model_on("mlp", LIVE)
    older.export(tmp_path / name, format, verbose=False)
    before = {x: x.read_bytes() for x in tmp_path.rglob("*") if x.is_file()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(OSError, match="what was there is unchanged") as error:
            model.export(tmp_path / name, format, verbose=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert error.value.errno in (errno.EFBIG, errno.EIO)
    assert {x: x.read_bytes() for x in tmp_path.rglob("*") if x.is_file()} == before


@needs["tfjs"]
def test_shards_of_weights(tmp_path):
    with keras.use_backend(LIVE):
        model = keras.Sequential([keras.Input((1100,), name="x"), L.Dense(1000, name="y")])
    model.export(tmp_path, "tfjs", verbose=False)
    sizes = {path.name: path.stat().st_size for path in tmp_path.glob("*.bin")}
    assert sizes["group1-shard1of2.bin"] == 4 * 1024 * 1024 and len(sizes) == 2
    x = np.random.default_rng(0).normal(size=(2, 1100)).astype("float32")
    outputs = opened(tmp_path, "tfjs")({"x": x})["y"]
    assert np.allclose(outputs, model.predict(x, verbose=0), atol=1e-4)
