"""Benchmark compiled predictors, exports and foreign modules.

BERT-base (2 x 128 tokens) and ResNet50 with random weights through OpenVINO, in turns with OpenVINO
fed by hand; BERT-base in int8, in turns with our own float32 on torch; the export of BERT-base to
each format; and a torch module in a model on another backend, in turns with the bare module.

    python scripts/bench/export.py [--only bert|resnet|int8|foreign|export ...] [--rounds 9]
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
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
    """BERT-base in int8 on onnxruntime, in turns with our own float32 on torch."""
    model, x = bert(), texts()
    start = time.perf_counter()
    fast = model.compiled_for("onnxruntime", precision="int8")
    seconds = time.perf_counter() - start
    runs = {
        "fast": lambda: fast.predict(x, verbose=0), "ours": lambda: model.predict(x, verbose=0),
    }  # fmt: skip
    exact, rounded = runs["ours"](), runs["fast"]()
    medians = interleaved(runs, rounds)
    has_vnni = any("vnni" in name or "amx" in name for name in vnni())
    goal = ">= 2.5" if has_vnni else ""
    report("BERT-base int8 through onnxruntime / keraslite on torch in float32",
           medians["ours"] / medians["fast"], "x speed", goal, made_s=round(seconds, 1),
           same_class=float((exact.argmax(-1) == rounded.argmax(-1)).mean()),
           difference=float(np.abs(exact - rounded).max()), cpu=vnni())  # fmt: skip


# -- export ---------------------------------------------------------------------------------------


def export(format: str) -> None:
    """The export of BERT-base: seconds, and bytes of the files over those of the weights."""
    model = bert()
    weights = sum(v.numpy().nbytes for v in model.weights)
    options = {"max_sizes": {0: 8, 1: 512}} if format == "executorch" else {}
    import keraslite as keras

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model" + ENDINGS.get(format, ""))
        start = time.perf_counter()
        keras.Model.export(model, path, format=format, verbose=False, **options)
        seconds = time.perf_counter() - start
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    report(f"BERT-base as {format}", seconds, "s", "<= 60")
    report(f"BERT-base as {format}: files / weights", size / weights, "x size", "<= 1.2")


# -- foreign modules ------------------------------------------------------------------------------


def foreign(backend: str, rounds: int) -> None:
    """A torch module as a layer of another backend, in turns with the bare module."""
    import torch

    import keraslite as keras

    keras.use_backend(backend)
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 8))
    x = generator.normal(size=(32, 64)).astype("float32")
    inputs = keras.Input((64,))
    layer = keras.layers.TorchModuleWrapper(module)
    model = keras.Model(inputs, layer(inputs))
    tensor = keras.ops.convert_to_tensor(x)
    compiled = keras.ops.jit(lambda x: model(x, training=False), model.variables, donate=False)

    def bare():
        with torch.no_grad():
            return module(torch.from_numpy(x)).numpy()

    def layers():
        return keras.ops.convert_to_numpy(compiled(tensor))

    np.testing.assert_allclose(layers(), bare(), rtol=1e-5, atol=1e-5)
    repeats = 50
    runs = {
        "bare": lambda: [bare() for _ in range(repeats)],
        "layer": lambda: [layers() for _ in range(repeats)],
    }
    medians = interleaved(runs, rounds)
    report(f"a torch module in a compiled model on {backend}, over the bare call",
           1e3 * (medians["layer"] - medians["bare"]) / repeats, "ms", "<= 1.2",
           bare_ms=round(1e3 * medians["bare"] / repeats, 3))  # fmt: skip


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
        "foreign": [["foreign", "jax"], ["foreign", "tensorflow"]],
        "export": [["export", format] for format in FORMATS],
    }
    what, *rest = options.only or [""]
    if what == "bert":
        x = texts()
        through_openvino("BERT-base", bert(), x, {"transformers": of_transformers(x)},
                         options.rounds)  # fmt: skip
    elif what == "resnet":
        x = generator.normal(size=(1, 224, 224, 3)).astype("float32")
        through_openvino("ResNet50", resnet(), x, {}, options.rounds)
    elif what and rest:
        if what == "int8":
            in_int8(options.rounds)
        elif what == "foreign":
            foreign(rest[0], options.rounds)
        else:
            export(rest[0])
    else:
        for name in [what] if what else parts:
            for arguments in parts[name]:
                in_process([*script, *arguments])


if __name__ == "__main__":
    main()
