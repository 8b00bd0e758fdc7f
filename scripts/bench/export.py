"""Benchmark compiled predictors, exports and foreign modules.

BERT-base (2 x 128 tokens) and ResNet50 with random weights through OpenVINO, in turns with OpenVINO
fed by hand; BERT-base in int8, in turns with our own float32 on torch; the export of BERT-base to
each format; and modules of torch, TensorFlow and JAX in models on another backend, forwards and
with the gradient, in turns with their bare calls.

    python scripts/bench/export.py [--only bert|resnet|int8|foreign|export ...] [--rounds 9]
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from common import in_process, interleaved, report

BASE = {"vocabulary_size": 30522, "num_layers": 12, "num_heads": 12, "hidden_dim": 768,
        "intermediate_dim": 3072}  # fmt: skip
ROWS, LENGTH = 2, 128
FORMATS = (
    "tf_saved_model", "onnx", "openvino", "litert", "tfjs", "torch", "executorch", "stablehlo",
)  # fmt: skip
ENDINGS = {"onnx": ".onnx", "openvino": ".xml", "litert": ".tflite", "torch": ".pt2",
           "executorch": ".pte", "stablehlo": ".stablehlo"}  # fmt: skip
# Largest sizes of free axes, by their place, for formats that must know them.
OPTIONS = {"executorch": {"max_sizes": {0: 8, 1: 512}}, "stablehlo": {"max_sizes": {1: 512}}}
WIDTH = 64  # of foreign modules
generator = np.random.default_rng(0)


def texts() -> dict[str, np.ndarray]:
    """A batch of token ids without padding."""
    ids = generator.integers(1000, 30000, (ROWS, LENGTH)).astype("int32")
    return {"token_ids": ids, "padding_mask": np.ones_like(ids), "segment_ids": np.zeros_like(ids)}


def bert(backend: str = "torch"):
    """Our BERT-base with random weights."""
    import hub
    import keraslite as keras

    keras.use_backend(backend)
    keras.utils.set_random_seed(0)
    return hub.TextClassifier(hub.BertBackbone(**BASE), 2)


def resnet(backend: str = "torch"):
    """Our ResNet50 with random weights."""
    import hub
    import keraslite as keras

    keras.use_backend(backend)
    keras.utils.set_random_seed(0)
    return hub.ImageClassifier(hub.ResNetBackbone(), 1000)


# -- OpenVINO -------------------------------------------------------------------------------------


def by_hand(model, x) -> Callable[[], np.ndarray]:
    """A call of OpenVINO's own, on the same network with the same hints."""
    import openvino as ov

    from keraslite.export.concrete import tensorflow_function
    from keraslite.export.openvino import converted_model
    from keraslite.export.signature import signature_of

    network = converted_model(tensorflow_function(model, signature_of(model)))
    compiled = ov.compile_model(
        network, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    )
    inputs = x if isinstance(x, dict) else [x]
    return lambda: compiled(inputs)[0]


def of_transformers(x: dict[str, np.ndarray]) -> Callable[[], np.ndarray]:
    """A call of transformers' BERT-base, which OpenVINO converts from torch."""
    import openvino as ov
    import torch
    import transformers

    torch.manual_seed(0)
    theirs = transformers.BertForSequenceClassification(transformers.BertConfig()).eval()
    ids = torch.from_numpy(x["token_ids"]).long()
    example = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    compiled = ov.compile_model(
        ov.convert_model(theirs, example_input=example), "CPU",
        {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"},
    )  # fmt: skip
    inputs = {name: value.numpy() for name, value in example.items()}
    return lambda: compiled(inputs)[0]


def through_openvino(name: str, model, x, others: dict[str, Callable], rounds: int) -> None:
    """`predict` of a compiled predictor, in turns with OpenVINO by hand and with our own."""
    start = time.perf_counter()
    fast = model.compiled_for("openvino")
    seconds = time.perf_counter() - start
    hand = by_hand(model, x)
    runs = {
        "hand": hand,
        "fast": lambda: fast.predict(x, batch_size=len(x), verbose=0),
        "ours": lambda: model.predict(x, batch_size=len(x), verbose=0),
        **others,
    }
    difference = float(np.abs(runs["fast"]() - runs["ours"]()).max())
    medians = interleaved(runs, rounds)
    milliseconds = {f"{key}_ms": round(1e3 * value, 2) for key, value in medians.items()}
    report(f"{name} through OpenVINO / OpenVINO by hand", medians["hand"] / medians["fast"],
           "x speed", ">= 0.98", difference=difference, made_s=round(seconds, 1),
           **milliseconds)  # fmt: skip
    report(f"{name} through OpenVINO / keraslite on torch", medians["ours"] / medians["fast"],
           "x speed")  # fmt: skip


# -- int8 -----------------------------------------------------------------------------------------


def vnni() -> list[str]:
    """The instructions of the CPU for products of int8."""
    info = Path("/proc/cpuinfo")
    flags = info.read_text() if info.exists() else ""
    names = ("avx_vnni", "avx512_vnni", "amx_int8", "avx512f", "avx2")
    return [name for name in names if name in flags.split()]


def in_int8(rounds: int) -> None:
    """BERT-base in int8 through onnxruntime, in turns with our own float32 on torch."""
    model, x = bert(), texts()
    start = time.perf_counter()
    fast = model.compiled_for("onnxruntime", precision="int8")
    seconds = time.perf_counter() - start
    runs = {
        "fast": lambda: fast.predict(x, verbose=0), "ours": lambda: model.predict(x, verbose=0),
    }  # fmt: skip
    many = [texts() for _ in range(16)]
    exact, rounded = (np.concatenate([each.predict(x, verbose=0) for x in many])
                      for each in (model, fast))  # fmt: skip
    medians = interleaved(runs, rounds)
    has_vnni = any("vnni" in name or "amx" in name for name in vnni())
    report("BERT-base int8 through onnxruntime / keraslite on torch in float32",
           medians["ours"] / medians["fast"], "x speed", ">= 2.5" if has_vnni else "",
           made_s=round(seconds, 1),
           same_class=float((exact.argmax(-1) == rounded.argmax(-1)).mean()),
           difference=float(np.abs(exact - rounded).max()), cpu=vnni())  # fmt: skip


# -- export ---------------------------------------------------------------------------------------


def export(format: str) -> None:
    """The export of BERT-base: seconds, and bytes of the files over those of the weights."""
    model = bert()
    weights = sum(v.numpy().nbytes for v in model.weights)
    import keraslite as keras

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model" + ENDINGS.get(format, ""))
        start = time.perf_counter()
        keras.Model.export(model, path, format=format, verbose=False, **OPTIONS.get(format, {}))
        seconds = time.perf_counter() - start
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    report(f"BERT-base as {format}", seconds, "s", "<= 60")
    report(f"BERT-base as {format}: files / weights", size / weights, "x size", "<= 1.2")


# -- foreign modules ------------------------------------------------------------------------------


def torch_mlp() -> tuple[Callable, Callable, Callable]:
    """A layer of a torch module, the bare call of arrays, and that with the gradient."""
    import torch

    import keraslite as keras

    torch.manual_seed(0)
    linear = torch.nn.Linear
    module = torch.nn.Sequential(linear(WIDTH, WIDTH), torch.nn.ReLU(), linear(WIDTH, 8))
    parameters = list(module.parameters())

    @torch.no_grad()
    def forward(x):
        return module(torch.from_numpy(x)).numpy()

    def gradient(x):
        total = module(torch.from_numpy(x)).sum()
        return [g.numpy() for g in torch.autograd.grad(total, parameters)]

    return lambda: keras.layers.TorchModuleWrapper(module), forward, gradient


def tensorflow_mlp() -> tuple[Callable, Callable, Callable]:
    """The same of a `tf.Module`, whose bare calls are compiled by `tf.function`."""
    import tensorflow as tf

    import keraslite as keras

    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            sizes = ((WIDTH, WIDTH), (WIDTH,), (WIDTH, 8), (8,))
            self.all = [tf.Variable(0.1 * generator.normal(size=s).astype("float32"))
                        for s in sizes]  # fmt: skip

        def __call__(self, x):
            w, b, v, c = self.all
            return tf.nn.relu(x @ w + b) @ v + c

    module = Module()
    compiled = tf.function(module.__call__)

    @tf.function
    def gradients(x):
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(module(x))
        return tape.gradient(total, module.all)

    return (
        lambda: keras.layers.TFModuleLayer(module),
        lambda x: compiled(tf.convert_to_tensor(x)).numpy(),
        lambda x: [g.numpy() for g in gradients(tf.convert_to_tensor(x))],
    )


def jax_mlp() -> tuple[Callable, Callable, Callable]:
    """The same of a function of JAX, whose bare calls are compiled by `jax.jit`."""
    import jax
    import jax.numpy as jnp

    import keraslite as keras

    sizes = {"w": (WIDTH, WIDTH), "b": (WIDTH,), "v": (WIDTH, 8), "c": (8,)}
    values = {name: 0.1 * generator.normal(size=s).astype("float32") for name, s in sizes.items()}

    def call(params, inputs):
        hidden = jax.nn.relu(inputs @ params["w"] + params["b"])
        return hidden @ params["v"] + params["c"]

    params = jax.tree.map(jnp.asarray, values)
    compiled = jax.jit(call)
    gradients = jax.jit(jax.grad(lambda params, x: call(params, x).sum()))
    return (
        lambda: keras.layers.JaxLayer(call, params=values),
        lambda x: np.asarray(compiled(params, x)),
        lambda x: [np.asarray(g) for g in gradients(params, x).values()],
    )


WORLDS = {"torch": torch_mlp, "tensorflow": tensorflow_mlp, "jax": jax_mlp}


def foreign(world: str, backend: str, rounds: int) -> None:
    """A module of a framework as a layer of another backend, in turns with its bare calls."""
    import keraslite as keras

    make, forward, gradient = WORLDS[world]()
    keras.use_backend(backend)
    inputs = keras.Input((WIDTH,))
    model = keras.Model(inputs, make()(inputs))
    weights = model.trainable_variables
    x = generator.normal(size=(32, WIDTH)).astype("float32")
    tensor = keras.ops.convert_to_tensor(x)
    call = keras.ops.jit(lambda x: model(x, training=False), model.variables, donate=False)
    slopes = keras.ops.jit(
        keras.grad(lambda x: keras.ops.sum(model(x, training=False)), variables=weights),
        model.variables, donate=False,
    )  # fmt: skip
    numpy = keras.ops.convert_to_numpy
    functions = {
        "bare": lambda: forward(x), "layer": lambda: numpy(call(tensor)),
        "bare_gradient": lambda: gradient(x),
        "layer_gradient": lambda: [numpy(g) for g in slopes(tensor)],
    }  # fmt: skip
    np.testing.assert_allclose(functions["layer"](), functions["bare"](), rtol=1e-5, atol=1e-5)
    repeats = 50
    runs = {
        name: lambda run=run: [run() for _ in range(repeats)] for name, run in functions.items()
    }
    medians = {name: 1e3 * s / repeats for name, s in interleaved(runs, rounds).items()}
    where = f"a {world} module in a compiled model on {backend}"
    report(f"{where}, over the bare call", medians["layer"] - medians["bare"], "ms", "<= 1.2",
           bare_ms=round(medians["bare"], 3))  # fmt: skip
    # Two calls: the module, and its gradient.
    report(f"{where}, with the gradient", medians["layer_gradient"] - medians["bare_gradient"],
           "ms", "<= 2.4", bare_ms=round(medians["bare_gradient"], 3))  # fmt: skip


def main() -> None:
    """Run everything, each figure in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="WHAT")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    script = [sys.argv[0], "--rounds", str(options.rounds), "--only"]
    parts = {
        "bert": [["bert"]],
        "resnet": [["resnet"]],
        "int8": [["int8"]],
        "foreign": [
            ["foreign", world, other] for world in WORLDS for other in WORLDS if other != world
        ],
        "export": [
            ["export", format]
            for format in FORMATS
            if format != "executorch" or find_spec("executorch")
        ],
    }
    what, *rest = options.only or [""]
    if what == "bert":
        x = texts()
        through_openvino("BERT-base", bert(), x, {"transformers": of_transformers(x)},
                         options.rounds)  # fmt: skip
    elif what == "resnet":
        x = generator.normal(size=(1, 224, 224, 3)).astype("float32")
        through_openvino("ResNet50", resnet(), x, {}, options.rounds)
    elif what == "int8":
        in_int8(options.rounds)
    elif what and rest:
        if what == "foreign":
            foreign(*rest, options.rounds)
        else:
            export(rest[0])
    else:
        for name in [what] if what else parts:
            for arguments in parts[name]:
                in_process([*script, *arguments])


if __name__ == "__main__":
    main()
