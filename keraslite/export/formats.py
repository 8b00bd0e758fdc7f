"""The formats in which models are exported, and the export itself."""

import errno
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from keraslite.export import lite, onnx, openvino, saved_model, stablehlo, tfjs, torch_files
from keraslite.export.files import write_file, write_files, write_folder
from keraslite.export.limits import check_layers
from keraslite.export.signature import signature_of
from keraslite.utils.progress import message

_DISTRIBUTION = "keraslite-hub"


@dataclass(frozen=True)
class Format:
    """A format of exported models.

    Args:
        prepare: makes what is written, of (model, signature, metadata) and options.
        home: the backend to which a copy of the model goes.
        write: writes it: a file, a folder, or a file with others beside it.
        ending: how the name of the file must end; any where it is empty.
        packages: the modules that it needs beside the backend's.
        extra: the extra of this package that installs them.
        texts: whether it holds layers that look texts up.
    """

    prepare: Callable
    home: str
    write: Callable
    ending: str = ""
    packages: tuple[str, ...] = ()
    extra: str = ""
    texts: bool = False


FORMATS = {
    "tf_saved_model": Format(saved_model.prepare, "tensorflow", write_folder, texts=True),
    "onnx": Format(
        onnx.prepare, "torch", write_files, packages=("onnx", "onnxscript"), extra="onnx"
    ),
    "openvino": Format(
        openvino.prepare, "tensorflow", write_files, ".xml", ("openvino",), "openvino"
    ),
    "litert": Format(lite.prepare, "tensorflow", write_file, ".tflite"),
    "tfjs": Format(tfjs.prepare, "tensorflow", write_folder),
    "torch": Format(torch_files.prepare, "torch", write_file, ".pt2"),
    "executorch": Format(
        torch_files.prepare_executorch, "torch", write_file, ".pte", ("executorch",), "executorch"
    ),
    "stablehlo": Format(stablehlo.prepare, "jax", write_file),
}


def export_model(
    model: Any, filepath: Any, format: str = "tf_saved_model", verbose: bool | None = None,
    input_signature: Any = None, **options: Any,
) -> None:  # fmt: skip
    """Write a copy of a model in a format of another program; see `Model.export`.

    Args:
        model: a built model, on any backend.
        filepath: the file, or the folder.
        format: a name of `FORMATS`.
        verbose: whether a line says what was written; True by default.
        input_signature: what the inputs are, if not as the model was built.
        options: of the format.

    Raises:
        ValueError: there is no such format, the name has another ending, or the model is not built.
        ImportError: a package that the format needs is not installed.
        NotImplementedError: the format cannot hold a layer or an operation of the model.
        OSError: the file could not be written; what was there before is unchanged.
    """
    if format not in FORMATS:
        raise ValueError(f"Unknown format {format!r}. Expected one of {', '.join(FORMATS)}.")
    chosen, path = FORMATS[format], Path(filepath)
    if chosen.ending and path.suffix != chosen.ending:
        raise ValueError(
            f"A file of the format {format!r} must end with {chosen.ending!r}, got {path.name!r}."
        )
    _check_place(path, chosen.write is write_folder)
    _check_packages(format, chosen)
    signature = signature_of(model, input_signature)
    check_layers(format, model, chosen.texts, chosen.home)
    chosen.write(path, chosen.prepare(model, signature, metadata_of(model), **options))
    if verbose is None or verbose:
        inputs = ", ".join(f"{x.name}: {x.dtype} {x.shape}" for x in signature.specs)
        message(f"Saved artifact at '{filepath}' (format {format!r}). Inputs: {inputs}.")


def _check_place(path: Path, is_folder: bool) -> None:
    """Raise OSError where nothing can be written, before the model is traced."""
    if path.exists() and path.is_dir() != is_folder:
        error = NotADirectoryError if is_folder else IsADirectoryError
        code = errno.ENOTDIR if is_folder else errno.EISDIR
        what = "a folder, but there is a file" if is_folder else "a file, but there is a folder"
        raise error(code, f"the format needs {what}", str(path))
    if not is_folder and not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(path.parent))


def _check_packages(format: str, chosen: Format) -> None:
    for package, extra in (
        (chosen.home, chosen.home),
        *((p, chosen.extra) for p in chosen.packages),
    ):
        if find_spec(package) is None:
            raise ImportError(
                f"Format {format!r} needs the package {package!r}, which is not installed: "
                f'pip install "{_DISTRIBUTION}[{extra}]".'
            )


def metadata_of(model: Any) -> dict[str, str]:
    """Return what an exported file says of a model: its name, and what it tells itself.

    Args:
        model: a model; its `export_metadata()`, if it has one, returns texts by name.
    """
    from keraslite import __version__

    return {"name": model.name, "producer": f"keraslite {__version__}"} | model.export_metadata()
