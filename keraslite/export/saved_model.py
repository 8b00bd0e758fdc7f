"""Models as SavedModels: the endpoint `serve`, and a signature of named inputs and outputs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keraslite.export.archive import ExportArchive
from keraslite.export.concrete import copied_to, named_outputs, predict_call
from keraslite.export.signature import Signature

_METADATA = "assets.extra/metadata.json"  # the folder that TensorFlow leaves to others


def prepare(
    model: Any, signature: Signature, metadata: dict[str, str], options: Any = None,
    is_static: Any = None, jax2tf_kwargs: Any = None,
) -> Callable[[Path], None]:  # fmt: skip
    """Return what writes a model as a SavedModel into a folder.

    After `tf.saved_model.load` its `serve` is called as the model was; the signature
    "serving_default" takes the inputs by name and returns a dict of the outputs.

    Args:
        model: a built model, on any backend.
        signature: its inputs.
        metadata: what is written beside.
        options: a `tf.saved_model.SaveOptions`.
        is_static: of Keras's JAX backend, without effect.
        jax2tf_kwargs: likewise.
    """
    from keraslite.backend.tensorflow import export

    copied = copied_to(model, "tensorflow")
    call = predict_call(copied, signature)
    archive = ExportArchive()
    archive.track(copied)
    serve = archive.add_endpoint(
        "serve", lambda *args: call(signature.flatten(args)), signature.arguments
    )
    specs = [(spec.name, spec.shape, spec.dtype) for spec in signature.specs]
    named = export.concrete_function(
        lambda inputs: named_outputs(copied, serve(*signature.pack(inputs))), specs
    )
    write = archive.writer(options, {"serving_default": named})

    def write_all(folder: Path) -> None:
        write(folder)
        path = folder / _METADATA
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(metadata, indent=1), encoding="utf-8")

    return write_all
