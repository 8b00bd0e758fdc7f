"""From a batch to a compiled step: tensors of the backend, symbolic inputs, groups of batches."""

import inspect
import warnings
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import ops, tree
from keraslite.backend.compile_notice import announced
from keraslite.ops.transforms import threaded_jit
from keraslite.registry import public_class
from keraslite.scopes import scopes
from keraslite.symbolic import KerasTensor
from keraslite.training.stateless_steps import is_stateless, with_live_state
from keraslite.variable import Variable

_FOREIGN = "keraslite.layers.frameworks"


def compiled_step(model: Any, name: str, step: Callable, state: Callable) -> Callable:
    """Compile a model's step as its `compile` asked for.

    Args:
        model: the model.
        name: "train", "test" or "predict".
        step: a function of a batch, or of the state and a batch as in Keras on JAX.
        state: gives the variables that the step may assign.
    """
    module = backends.load(model.backend)
    eager = getattr(model, "run_eagerly", False)
    compile = False if eager else _compilation_of(model)
    if name == "train":
        module.check_training([v._kl_raw for v in model.trainable_variables])
    replays = name == "predict" and (model.replays_predict or _is_built_in(model))
    replays = replays and not module.COMPILES
    if replays and compile == "auto":
        compile = "record"
    if is_stateless(step):
        step = with_live_state(model, name, step)
    # Made here and not inside a trace, which TensorFlow would have to repeat.
    for variable in model.variables if name == "predict" else state():
        variable.materialize()
    if name != "predict":
        step = _with_values(module, step)
    if name == "predict":
        step = _predicting(step)
    if name != "train":
        step = _without_gradients(module, step)
    step.__name__ = f"{name}_step"  # in profiles, and where its compilation is announced
    repeat = 1 if name == "predict" else getattr(model, "steps_per_execution", 1)
    donate = name != "predict"  # it runs in several threads at once
    function = threaded_jit(module, step, state, compile=compile, repeat=repeat, donate=donate)
    by_default = module.COMPILES and not module.FUNCTIONAL  # JAX announces its own
    if (by_default and compile) or (module.COMPILES_PYTHON and compile is True):
        function = announced(function, f"{name}_step on {model.backend}")
    return _without_gradients(module, function) if compile == "record" else function


def _compilation_of(model: Any) -> Any:
    """Return whether to compile steps with XLA; warn once if a layer cannot be compiled."""
    asked = getattr(model, "jit_compile", "auto")
    if asked in (True, "xla"):
        refusing = [layer.name for layer in model.flatten_layers() if not layer.supports_jit]
        if refusing:
            warnings.warn(
                f"jit_compile={asked!r}: XLA cannot compile the layers {', '.join(refusing)}. The "
                f"steps of {model.name!r} run without it, as with jit_compile='auto'.",
                stacklevel=2,
            )
            asked = model.jit_compile = "auto"
    return asked


def _is_built_in(model: Any) -> bool:
    """Whether all of a model is this package's, so that its Python has no effects of its own."""
    return all(
        _is_of_package(public_class(type(layer)))
        and not any(
            isinstance(x, FunctionType) and not _is_of_package(x) for x in vars(layer).values()
        )
        for layer in model.flatten_layers()
    )


def _is_of_package(item: Any) -> bool:
    place = item.__module__ or ""
    # What the layers of frameworks hold is the user's.
    return place.startswith("keraslite.") and not place.startswith(_FOREIGN)


def _with_values(module: Any, step: Callable) -> Callable:
    """A step whose logs hold values where they held variables, as a metric's result may be one."""

    def call(data: Any) -> Any:
        logs = step(data)
        if isinstance(logs, dict):
            for name, value in logs.items():
                if isinstance(value, Variable):
                    logs[name] = module.copy(value.value)
        return logs

    return call


def _predicting(step: Callable) -> Callable:
    """A step during which models may fold normalizations into convolutions."""

    def call(data: Any) -> Any:
        outer, scopes.predicting = scopes.predicting, True
        try:
            return step(data)
        finally:
            scopes.predicting = outer

    return call


def _without_gradients(module: Any, step: Callable) -> Callable:
    """A step for which nothing is recorded: torch would keep a graph, and fuse less."""

    def call(data: Any) -> Any:
        with module.no_grad():
            return step(data)

    return call


def on_backend(structure: Any, backend: str) -> Any:
    """Make the array leaves of a structure tensors of a backend; text stays text.

    Where steps take and return all they need (JAX), arrays stay: the compiled step takes them
    over at a tenth of the cost.

    Args:
        structure: nested arrays, tensors and text.
        backend: the backend of the model.
    """
    module = backends.load(backend)

    def move(x: Any) -> Any:
        if x is None or isinstance(x, str | bytes):
            return x
        name = backends.of(x)
        if name == backend:
            return module.placed(x)
        if name is not None:
            return backends.to_backend(x, backend)
        if isinstance(x, np.ndarray) and x.dtype.kind in "OSU":
            return x
        if module.FUNCTIONAL and isinstance(x, np.ndarray):
            return x.astype("float32") if _double(x) else x
        return module.convert(x, module.canonical("float32") if _double(x) else None)

    return tree.map_structure(move, structure)


def batch_symbol(x: Any) -> Any:
    """Return a symbolic tensor for an array of a batch, with the batch axis left open.

    Args:
        x: the array; anything else is returned as it is.
    """
    if not hasattr(x, "shape") or not hasattr(x, "dtype"):
        return x
    shape = tuple(x.shape)
    return KerasTensor((None, *shape[1:]) if shape else (), ops.dtype(x))


def grouped(items: Iterator, size: int) -> Iterator[list]:
    """Yield lists of `size` batches of one shape; the last ones may be shorter.

    Args:
        items: batches.
        size: how many go into a list.
    """
    group: list[Any] = []
    for item in items:
        if group and _shapes(item) != _shapes(group[0]):
            yield from ([x] for x in group)
            group = []
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    yield from ([x] for x in group)


def logs_to_numbers(logs: Any) -> dict[str, Any]:
    """Return logs as Python numbers, and as arrays where a metric has many values.

    Args:
        logs: tensors by name, or None.
    """
    out = {}
    for key, value in (logs or {}).items():
        array = backends.to_numpy(value)
        out[key] = float(array) if array.ndim == 0 else array
    return out


def as_list(logs: dict[str, Any]) -> Any:
    """Return the values of logs as a list, or the loss alone where there is no more.

    Args:
        logs: numbers by name.
    """
    values = list(logs.values())
    return values[0] if len(values) == 1 else values


def row_count(x: Any) -> int | None:
    """Return the number of rows of a batch; None where no input has axes.

    Args:
        x: the inputs, nested.
    """
    for leaf in tree.flatten(x):
        if hasattr(leaf, "shape") and len(leaf.shape):
            return leaf.shape[0]
    return None


def takes_argument(function: Callable, name: str) -> bool:
    """Return whether a function takes an argument of a name.

    Args:
        function: the function.
        name: the argument's name.

    >>> takes_argument(lambda x, training: x, "training"), takes_argument(lambda x: x, "training")
    (True, False)
    """
    parameters = inspect.signature(function).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _shapes(batch: Any) -> list[Any]:
    return [getattr(x, "shape", None) for x in tree.flatten(batch)]


def _double(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype == np.float64
