"""Small models of each kind that is exported, their inputs, and the run times of the formats."""

import importlib.util
import json
from functools import cache
from pathlib import Path

import numpy as np
from backends import BACKENDS

import keraslite as keras
from keraslite import layers as L
from keraslite.export.formats import FORMATS

_PATH = Path(__file__).parents[2] / "examples" / "export_everywhere.py"
_SPEC = importlib.util.spec_from_file_location("export_everywhere", _PATH)
EXAMPLE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(EXAMPLE)


def _mlp():
    x = keras.Input((4,), name="features")
    h = L.Dropout(0.3)(L.Dense(8, activation="gelu")(x))
    # In an order that is not that of the alphabet.
    return keras.Model(
        x, {"value": L.Dense(1)(h), "scores": L.Dense(3, activation="softmax")(h)}
    )  # fmt: skip


def _convnet():
    return keras.Sequential([
        keras.Input((12, 12, 3), name="image"), L.Rescaling(1 / 2),
        L.Conv2D(6, 3, padding="same", activation="relu"),
        L.BatchNormalization(moving_mean_initializer="ones"), L.MaxPooling2D(),
        L.SeparableConv2D(8, 3), L.AveragePooling2D(2), L.Flatten(), L.Dense(5, name="classes"),
    ])  # fmt: skip


def _attention():
    ids = keras.Input((None,), dtype="int32", name="token_ids")
    positions = keras.Input((None,), dtype="int32", name="positions")
    h = L.Embedding(11, 8, mask_zero=True)(ids) + L.Embedding(32, 8)(positions)
    h = L.LayerNormalization()(h + L.MultiHeadAttention(2, 4)(h, h))
    outputs = {"sequence": h, "pooled": L.Dense(3)(L.GlobalAveragePooling1D()(h))}
    return keras.Model({"token_ids": ids, "positions": positions}, outputs)


def _lstm():
    return keras.Sequential([
        keras.Input((None, 4), name="series"), L.Masking(),
        L.LSTM(5, return_sequences=True, go_backwards=True), L.GRU(3), L.Dense(2, name="out"),
    ])  # fmt: skip


MODELS = {"mlp": _mlp, "convnet": _convnet, "attention": _attention, "lstm": _lstm}


@cache
def model_on(name, backend):
    """A model that lives on a backend: one of each, which no test changes."""
    with keras.use_backend(backend):
        return MODELS[name]()


def inputs_of(name, batch):
    """Inputs by name; sequences have another length in each batch."""
    rng, steps = np.random.default_rng(batch), batch + 4
    if name == "mlp":
        return {"features": rng.normal(size=(batch, 4)).astype("float32")}
    if name == "convnet":
        return {"image": rng.normal(size=(batch, 12, 12, 3)).astype("float32")}
    if name == "lstm":
        x = rng.normal(size=(batch, steps, 4)).astype("float32")
        x[:, -2:] = 0
        return {"series": x}
    ids = rng.integers(1, 11, (batch, steps)).astype("int32")
    ids[:, -2:] = 0
    return {"token_ids": ids, "positions": np.tile(np.arange(steps, dtype="int32"), (batch, 1))}


@cache
def predicted(name, backend, batch):
    """What a model predicts on its backend: a dict of the outputs."""
    model, inputs = model_on(name, backend), inputs_of(name, batch)
    out = model.predict(inputs if len(inputs) > 1 else next(iter(inputs.values())), verbose=0)
    return out if isinstance(out, dict) else {model.output_names[0]: out}


def can_open(format):
    """Whether a format can be written and opened here."""
    _, packages, _ = EXAMPLE.OPENERS[format]
    in_use = FORMATS[format].home in BACKENDS
    return in_use and all(importlib.util.find_spec(p) for p in packages)


def opened(path, format):
    """A function of inputs by name that runs an exported file: what the program returns."""
    if format == "tfjs" and EXAMPLE.node_modules() is None:
        return _graph_of_tfjs(path)
    return EXAMPLE.OPENERS[format][2](str(path))


def _graph_of_tfjs(path):
    """The graph of a TF.js model, read back and run by TensorFlow where there is no TF.js."""
    import tensorflow as tf
    from google.protobuf import json_format

    model = json.loads((path / "model.json").read_text())
    constants = {}
    for group in model["weightsManifest"]:
        data, at = b"".join((path / name).read_bytes() for name in group["paths"]), 0
        for weight in group["weights"]:
            array = np.frombuffer(data, weight["dtype"], int(np.prod(weight["shape"])), at)
            constants[weight["name"]] = array.reshape(weight["shape"])
            at += array.nbytes
        assert at == len(data)
    graph = json_format.ParseDict(model["modelTopology"], tf.compat.v1.GraphDef())
    for node in graph.node:
        if node.op == "Const":
            value = constants[node.name].astype(tf.as_dtype(node.attr["dtype"].type).name)
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    inputs, outputs = model["signature"]["inputs"], model["signature"]["outputs"]

    def run(values):
        with tf.Graph().as_default() as built, tf.compat.v1.Session(graph=built) as session:
            tf.import_graph_def(graph, name="")
            feeds = {inputs[name]["name"]: x for name, x in values.items()}
            return session.run({name: x["name"] for name, x in outputs.items()}, feeds)

    return run


def as_dict(outputs, names):
    """Outputs by name; those of programs without names are in the model's order."""
    if isinstance(outputs, dict):
        return outputs
    return dict(zip(names, outputs if isinstance(outputs, list) else [outputs], strict=True))
