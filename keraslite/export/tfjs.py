"""Models for TensorFlow.js: `model.json`, the graph, and shards of weights beside it."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keraslite.backend.errors import UnsupportedOpsError
from keraslite.export.concrete import tensorflow_function
from keraslite.export.limits import refusing
from keraslite.export.signature import Signature
from keraslite.export.tfjs_ops import OPS

_SHARD = 4 * 1024 * 1024  # bytes, which browsers keep
_DTYPES = {"b": "bool", "i": "int32", "u": "int32", "f": "float32", "V": "float32"}


def prepare(model: Any, signature: Signature, metadata: dict[str, str]) -> Callable[[Path], None]:
    """Return what writes a model as a graph model of TensorFlow.js into a folder.

    `tf.loadGraphModel` reads it; models with loops are run by `executeAsync`. It takes the inputs
    and returns the outputs by name.

    Args:
        model: a built model, on any backend.
        signature: its inputs.
        metadata: `userDefinedMetadata` of the model.

    Raises:
        NotImplementedError: TensorFlow.js lacks an operation of the model.
    """
    from keraslite.backend.tensorflow import export

    with refusing("tfjs", model):
        concrete = tensorflow_function(model, signature)
        frozen = export.frozen_graph(concrete.program)
        nodes, constants = _rewritten(frozen.graph["node"], dict(frozen.constants))
        nodes = _with_loop_variables(nodes)
        nodes = _needed(nodes, [name for name, _, _ in frozen.outputs.values()])
        missing = {node["op"] for node in nodes} - OPS
        if missing:
            raise UnsupportedOpsError(missing, "operations that TensorFlow.js has not")
    kept = [node["name"] for node in nodes if node["op"] == "Const"]
    arrays = {name: _narrowed(constants[name]) for name in kept}
    weights = [{"name": name, "shape": list(a.shape), "dtype": a.dtype.name}
               for name, a in arrays.items()]  # fmt: skip

    def write(folder: Path) -> None:
        data = b"".join(a.tobytes() for a in arrays.values())
        parts = [data[i : i + _SHARD] for i in range(0, len(data), _SHARD)]
        paths = [f"group1-shard{i}of{len(parts)}.bin" for i in range(1, len(parts) + 1)]
        for path, part in zip(paths, parts, strict=True):
            (folder / path).write_bytes(part)
        content = {
            "format": "graph-model",
            "generatedBy": metadata["producer"],
            "convertedBy": metadata["producer"],
            "signature": {
                "inputs": _entries(frozen.inputs), "outputs": _entries(frozen.outputs),
            },
            "userDefinedMetadata": metadata,
            "modelTopology": {**frozen.graph, "node": nodes},
            "weightsManifest": [{"paths": paths, "weights": weights}],
        }  # fmt: skip
        (folder / "model.json").write_text(json.dumps(content), encoding="utf-8")

    return write


def _entries(tensors: dict[str, tuple[str, list[int | None] | None, str]]) -> dict[str, Any]:
    """Return the inputs or outputs of a signature."""
    return {
        name: {
            "name": tensor,
            "dtype": f"DT_{_type_name(dtype)}",
            "tensorShape": _shape_entry(shape),
        }
        for name, (tensor, shape, dtype) in tensors.items()
    }


def _shape_entry(shape: list[int | None] | None) -> dict[str, Any]:
    if shape is None:
        return {"unknownRank": True}
    return {"dim": [{"size": str(-1 if n is None else n)} for n in shape]}


def _type_name(dtype: str) -> str:
    return {"float32": "FLOAT", "float64": "DOUBLE", "float16": "HALF"}.get(dtype, dtype.upper())


def _narrowed(array: np.ndarray) -> np.ndarray:
    """Return an array in a dtype that TensorFlow.js has."""
    target = np.dtype(_DTYPES[array.dtype.kind])
    if array.dtype == np.int64:
        array = array.clip(*(np.iinfo(np.int32).min, np.iinfo(np.int32).max))
    return np.ascontiguousarray(array.astype(target)).reshape(array.shape)


def _rewritten(nodes: list[dict], constants: dict[str, np.ndarray]) -> tuple[list[dict], dict]:
    """Express operations that TensorFlow.js has not by those that it has."""
    out: list[dict] = []
    for node in nodes:
        if node["op"] == "Erfc":  # 1 - erf(x)
            name, attributes = node["name"], node.get("attr", {})
            dtype = {"dtype": attributes["T"]}
            constants[f"{name}/one"] = np.float32(1)
            out += [
                {"name": f"{name}/one", "op": "Const", "attr": dtype},
                {"name": f"{name}/erf", "op": "Erf", "input": node["input"], "attr": attributes},
                {**node, "op": "Sub", "input": [f"{name}/one", f"{name}/erf"]},
            ]
        else:
            out.append(node)
    return out, constants


def _with_loop_variables(nodes: list[dict]) -> list[dict]:
    """Let what is constant in a loop go from step to step, since TensorFlow.js has no other way."""
    loops = [node["name"] for node in nodes if node["op"] == "LoopCond"]
    added, variables = [], {}
    for node in nodes:
        attributes = node.get("attr", {})
        if node["op"] == "Enter" and attributes.get("is_constant", {}).get("b"):
            name, of_type = node["name"], {"T": attributes["T"]}
            frame = base64.b64decode(attributes["frame_name"]["s"]).decode()
            loop = next(x for x in loops if x.startswith(f"{frame}/LoopCond"))
            attributes["is_constant"] = {"b": False}
            variables[name] = merge = f"{name}/merge"
            added += [
                {"name": merge, "op": "Merge", "input": [name, f"{name}/next"],
                 "attr": {**of_type, "N": {"i": "2"}}},
                {"name": f"{name}/switch", "op": "Switch", "input": [merge, loop], "attr": of_type},
                {"name": f"{name}/next", "op": "NextIteration", "input": [f"{name}/switch:1"],
                 "attr": of_type},
            ]  # fmt: skip
    for node in nodes:
        if "input" in node:
            node["input"] = [variables.get(x, x) for x in node["input"]]
    return nodes + added


def _needed(nodes: list[dict], outputs: list[str]) -> list[dict]:
    """Return the nodes on which outputs depend.

    What a node only waits for is left out, checks and ends of loops among them: nothing here has
    side effects. Constants alone say so in which loop they stand.
    """
    by_name = {node["name"]: node for node in nodes}
    needed: set[str] = set()
    stack = [_node_name(name) for name in outputs]
    while stack:
        name = stack.pop()
        if name in needed:
            continue
        needed.add(name)
        inputs = by_name[name].get("input", [])
        inputs = [x for x in inputs if not x.startswith("^")] or inputs
        by_name[name]["input"] = inputs
        stack += [_node_name(x) for x in inputs]
    return [node for node in nodes if node["name"] in needed or node["op"] == "Placeholder"]


def _node_name(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]
