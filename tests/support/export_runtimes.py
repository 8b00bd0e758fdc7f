"""Exported models opened by their own run times: each gives a function of inputs by name.

What it returns is a dict of outputs by name, or where the format has no names, what the model does.
"""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np


def _tf_saved_model(path):
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    signature = loaded.signatures["serving_default"]

    def run(inputs):
        outputs = signature(**{k: tf.constant(v) for k, v in inputs.items()})
        run.loaded = loaded  # its variables go with it
        return {k: v.numpy() for k, v in outputs.items()}

    return run


def _onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [x.name for x in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(None, inputs), strict=True))


def _openvino(path):
    import openvino as ov

    compiled = ov.Core().compile_model(path, "CPU")

    def run(inputs):
        outputs = compiled(inputs)
        return {port.get_any_name(): outputs[port] for port in compiled.outputs}

    return run


def _litert(path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path)

    def run(inputs):
        runner = interpreter.get_signature_runner("serving_default")
        return runner(**inputs)

    return run


def _torch(path):
    import torch

    module = torch.export.load(path).module()

    def run(inputs):
        outputs = module(*map(torch.from_numpy, inputs.values()))
        return torch.utils._pytree.tree_map(lambda x: x.detach().numpy(), outputs)

    return run


def _executorch(path):
    import torch
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(path).load_method("forward")
    return lambda inputs: [
        x.numpy() for x in method.execute([torch.from_numpy(x) for x in inputs.values()])
    ]


def _stablehlo(path):
    import jax

    program = jax.export.deserialize(bytearray(Path(path).read_bytes()))

    def run(inputs):
        spec = jax.tree_util.tree_unflatten(program.in_tree, range(len(inputs)))[0]
        values = list(inputs.values())
        arguments = [inputs] if isinstance(spec[0], dict) else [values] if isinstance(spec[0], list) else values
        return jax.tree_util.tree_map(np.asarray, program.call(*arguments))

    return run


def _read_tfjs(path):
    """The graph of a TF.js model as TensorFlow's own, with its weights."""
    model = json.loads((Path(path) / "model.json").read_text())
    constants = {}
    for group in model["weightsManifest"]:
        data, at = b"".join((Path(path) / p).read_bytes() for p in group["paths"]), 0
        for weight in group["weights"]:
            array = np.frombuffer(data, weight["dtype"], int(np.prod(weight["shape"])), at)
            constants[weight["name"]] = array.reshape(weight["shape"])
            at += array.nbytes
        assert at == len(data)
    return model, constants


def _tfjs(path):
    import tensorflow as tf
    from google.protobuf import json_format

    model, constants = _read_tfjs(path)
    graph = json_format.ParseDict(model["modelTopology"], tf.compat.v1.GraphDef())
    for node in graph.node:
        if node.op == "Const":
            wanted = tf.as_dtype(node.attr["dtype"].type).as_numpy_dtype
            value = tf.make_tensor_proto(constants[node.name].astype(wanted))
            node.attr["value"].tensor.CopyFrom(value)
    signature = model["signature"]

    def run(inputs):
        with tf.Graph().as_default() as built, tf.compat.v1.Session(graph=built) as session:
            tf.import_graph_def(graph, name="")
            feeds = {signature["inputs"][k]["name"]: v for k, v in inputs.items()}
            return session.run({k: v["name"] for k, v in signature["outputs"].items()}, feeds)

    return run


_SCRIPT = """
const tf = require('@tensorflow/tfjs'), fs = require('fs'), path = require('path');
const [folder, file] = process.argv.slice(2);
const request = JSON.parse(fs.readFileSync(file));
(async () => {
  await tf.setBackend('cpu');
  const json = JSON.parse(fs.readFileSync(path.join(folder, 'model.json')));
  const specs = json.weightsManifest.flatMap(group => group.weights);
  const parts = json.weightsManifest.flatMap(group => group.paths).map(p => fs.readFileSync(path.join(folder, p)));
  const data = Buffer.concat(parts);
  const model = await tf.loadGraphModel({load: async () => ({
    modelTopology: json.modelTopology, weightSpecs: specs, signature: json.signature, format: json.format,
    weightData: data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength)})});
  const names = Object.keys(json.signature.outputs), answers = [];
  for (const inputs of request) {
    const feeds = {};
    for (const [k, v] of Object.entries(inputs))
      feeds[json.signature.inputs[k].name] = tf.tensor(v.data, v.shape, v.dtype);
    let out = await model.executeAsync(feeds, names.map(n => json.signature.outputs[n].name));
    out = Array.isArray(out) ? out : [out];
    answers.push(Object.fromEntries(names.map((n, i) => [n, {shape: out[i].shape, data: Array.from(out[i].dataSync())}])));
  }
  console.log(JSON.stringify(answers));
})();
"""


def node_modules():
    """The folder of `node_modules` with TF.js, made by `make env` where npm is there; or None."""
    node = shutil.which("node")
    for folder in (Path(__file__).parents[2] / ".venv" / "node_modules", Path("/tmp/npmt/node_modules")):
        if node and (folder / "@tensorflow" / "tfjs").is_dir():
            return folder
    return None


def run_in_node(path, batches):
    """The outputs of a TF.js model in node, for each of several dicts of inputs."""
    request = [
        {k: {"data": v.ravel().tolist(), "shape": v.shape, "dtype": v.dtype.name}
         for k, v in inputs.items()} for inputs in batches
    ]  # fmt: skip
    file = Path(path) / "request.json"
    file.write_text(json.dumps(request))
    script = Path(path) / "run.js"
    script.write_text(_SCRIPT)
    done = subprocess.run(
        ["node", str(script), str(path), str(file)], capture_output=True, text=True,
        env={"NODE_PATH": str(node_modules()), "PATH": "/usr/bin:/bin"}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    answers = json.loads(done.stdout.splitlines()[-1])
    return [
        {k: np.array(v["data"], "float32").reshape(v["shape"]) for k, v in answer.items()}
        for answer in answers
    ]


RUN = {
    "tf_saved_model": _tf_saved_model,
    "onnx": _onnx,
    "openvino": _openvino,
    "litert": _litert,
    "tfjs": _tfjs,
    "torch": _torch,
    "stablehlo": _stablehlo,
    "executorch": _executorch,
}
