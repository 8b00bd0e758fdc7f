"""Train a small model, export it to every format that is installed, and open each again.

    python examples/export_everywhere.py [--backend torch] [--folder exported]

The model finds out whether a sequence of tokens has more high numbers than low ones. Each file is
run by the program that it is made for, at two batch sizes and two lengths; the table shows how far
its answers are from those of the model. `OPENERS` shows how each format is opened.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import keraslite as keras

Arrays = dict[str, np.ndarray]
Run = Callable[[Arrays], Any]


def tensorflow(path: str) -> Run:
    """Open a SavedModel."""
    import tensorflow as tf

    loaded = tf.saved_model.load(path)

    def run(inputs: Arrays) -> Arrays:
        outputs = loaded.signatures["serving_default"](
            **{name: tf.constant(x) for name, x in inputs.items()}
        )
        return {name: x.numpy() for name, x in outputs.items()}

    return run


def onnxruntime(path: str) -> Run:
    """Open an ONNX file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(None, inputs), strict=True))


def openvino(path: str) -> Run:
    """Open OpenVINO's files."""
    import openvino as ov

    # By itself it takes bfloat16 where the processor has it.
    compiled = ov.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(inputs: Arrays) -> Arrays:
        outputs = compiled(inputs)
        return {port.get_any_name(): outputs[port] for port in compiled.outputs}

    return run


def litert(path: str) -> Run:
    """Open a LiteRT file."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path)
    return lambda inputs: interpreter.get_signature_runner("serving_default")(**inputs)


def torch(path: str) -> Run:
    """Open a program of torch.export; it takes the inputs in order."""
    import torch

    module = torch.export.load(path).module()

    def run(inputs: Arrays) -> Any:
        outputs = module(*(torch.from_numpy(x) for x in inputs.values()))
        return keras.tree.map_structure(lambda x: x.numpy(), outputs)

    return run


def executorch(path: str) -> Run:
    """Open a program of ExecuTorch."""
    import torch

    runtime = import_module("executorch.runtime")  # which comes without types
    method = runtime.Runtime.get().load_program(path).load_method("forward")
    return lambda inputs: [
        x.numpy() for x in method.execute([torch.from_numpy(x) for x in inputs.values()])
    ]


def jax(path: str) -> Run:
    """Open a program of jax.export; it is called as the model is."""
    import jax

    program = jax.export.deserialize(bytearray(Path(path).read_bytes()))
    (first, *_), _ = jax.tree.unflatten(program.in_tree, range(program.in_tree.num_leaves))

    def run(inputs: Arrays) -> Any:
        if isinstance(first, dict):
            arguments: list[Any] = [inputs]
        else:
            values = list(inputs.values())
            arguments = [values] if isinstance(first, list) else values
        return jax.tree.map(np.asarray, program.call(*arguments))

    return run


NODE = """
const tf = require('@tensorflow/tfjs'), fs = require('fs'), path = require('path');
const folder = process.argv[2], inputs = JSON.parse(fs.readFileSync(0));
const json = JSON.parse(fs.readFileSync(path.join(folder, 'model.json')));
const files = json.weightsManifest.flatMap(group => group.paths);
const data = Buffer.concat(files.map(name => fs.readFileSync(path.join(folder, name))));
const handler = {load: async () => ({
  modelTopology: json.modelTopology, signature: json.signature, format: json.format,
  weightSpecs: json.weightsManifest.flatMap(group => group.weights),
  weightData: data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength)})};
(async () => {
  await tf.setBackend('cpu');
  const model = await tf.loadGraphModel(handler), feeds = {}, answer = {};
  for (const [name, x] of Object.entries(inputs))
    feeds[json.signature.inputs[name].name] = tf.tensor(x.data, x.shape, x.dtype);
  const names = Object.keys(json.signature.outputs);
  const out = await model.executeAsync(feeds, names.map(n => json.signature.outputs[n].name));
  [].concat(out).forEach((x, i) => answer[names[i]] = {shape: x.shape, data: [...x.dataSync()]});
  console.log(JSON.stringify(answer));
})();
"""


def node_modules() -> str | None:
    """The folder in which `npm install @tensorflow/tfjs` put TensorFlow.js, if it is there."""
    root = Path(__file__).parents[1]
    for folder in (os.environ.get("NODE_PATH", ""), root / ".venv/node_modules"):
        if shutil.which("node") and Path(folder, "@tensorflow/tfjs").is_dir():
            return str(folder)
    return None


def tfjs(path: str) -> Run:
    """Open a folder of TensorFlow.js, in node."""
    environment = {**os.environ, "NODE_PATH": node_modules() or ""}

    def run(inputs: Arrays) -> Arrays:
        request = {
            name: {"data": x.ravel().tolist(), "shape": x.shape, "dtype": x.dtype.name}
            for name, x in inputs.items()
        }
        done = subprocess.run(
            ["node", "-e", NODE, "node", path],
            input=json.dumps(request), capture_output=True, text=True, env=environment,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(done.stderr)
        answer = json.loads(done.stdout.splitlines()[-1])
        return {name: np.float32(x["data"]).reshape(x["shape"]) for name, x in answer.items()}

    return run


# format -> (the ending of its file, what it needs, how it is opened)
OPENERS: dict[str, tuple[str, list[str], Callable[[str], Run]]] = {
    "tf_saved_model": ("", ["tensorflow"], tensorflow),
    "onnx": (".onnx", ["torch", "onnxscript", "onnxruntime"], onnxruntime),
    "openvino": (".xml", ["tensorflow", "openvino"], openvino),
    "litert": (".tflite", ["tensorflow", "ai_edge_litert"], litert),
    "tfjs": ("_js", ["tensorflow"], tfjs),
    "torch": (".pt2", ["torch"], torch),
    "executorch": (".pte", ["torch", "executorch"], executorch),
    "stablehlo": (".bin", ["jax"], jax),
}


def trained_model() -> keras.Model:
    """A model of token ids of any length, trained for a second or two."""
    layers = keras.layers
    ids = keras.Input((None,), dtype="int32", name="token_ids")
    h = layers.Embedding(21, 16, mask_zero=True)(ids)
    h = layers.LayerNormalization()(h + layers.MultiHeadAttention(2, 8)(h, h))
    h = layers.GlobalAveragePooling1D()(h)
    model = keras.Model(ids, layers.Dense(2, activation="softmax", name="scores")(h))
    x, y = samples(512, 12)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=32, epochs=10, verbose=0)
    return model


def samples(count: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Token ids, with zeros for padding at the end, and whether most are above 10."""
    rng = np.random.default_rng(length)
    ids = rng.integers(1, 21, (count, length)).astype("int32")
    ids[np.arange(length) >= rng.integers(length // 2, length + 1, (count, 1))] = 0
    return ids, ((ids > 10).sum(1) > ((ids > 0) & (ids <= 10)).sum(1)).astype("int32")


def size_of(path: Path) -> int:
    """The bytes of a file, of the one beside it, or of a folder."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return sum(file.stat().st_size for file in path.parent.glob(path.stem + ".*"))


def main() -> None:
    """Train, export and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--backend", default="torch", help="the backend that the model lives on")
    parser.add_argument("--folder", help="where the files are kept; nowhere by default")
    arguments = parser.parse_args()
    keras.use_backend(arguments.backend)
    model = trained_model()
    x, y = samples(1000, 16)
    scores = model.evaluate(x, y, verbose=0, return_dict=True)
    print(f"trained on {arguments.backend}, accuracy {scores['accuracy']:.3f}\n")
    print(f"{'format':16}{'KB':>8}{'seconds':>9}   largest difference")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments.folder or temporary)
        folder.mkdir(exist_ok=True)
        for name, (ending, packages, opener) in OPENERS.items():
            missing = [package for package in packages if find_spec(package) is None]
            if name == "tfjs" and node_modules() is None:
                missing.append("node with @tensorflow/tfjs")
            if missing:
                print(f"{name:16}{'':17}   needs {', '.join(missing)}")
                continue
            started, path = time.time(), folder / f"{name}{ending}"
            model.export(path, name, verbose=False)
            seconds, run, differences = time.time() - started, opener(str(path)), []
            for batch in (1, 7):
                x, _ = samples(batch, 9 + batch)
                answer = run({"token_ids": x})
                if isinstance(answer, dict):
                    answer = answer["scores"]
                elif isinstance(answer, list):
                    answer = answer[0]
                differences.append(np.abs(answer - model.predict(x, verbose=0)).max())
            size = size_of(path) / 1024
            print(f"{name:16}{size:8.0f}{seconds:9.1f}   {max(differences):.1e}", flush=True)
            assert max(differences) < 1e-5, name


if __name__ == "__main__":
    main()
