"""Compiled predictors: a model's `predict`, run by OpenVINO or onnxruntime."""

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import dtypes, tree
from keraslite.export.onnx_session import OnnxSession
from keraslite.export.openvino_session import OpenVINOSession
from keraslite.export.signature import Signature, TensorSpec, signature_of
from keraslite.scopes import scopes
from keraslite.training.trainer import Trainer
from keraslite.utils.data import unpack_x_y_sample_weight

# By engine: what checks a precision, and what makes a session of a model.
ENGINES: dict[str, type] = {"openvino": OpenVINOSession, "onnxruntime": OnnxSession}
PRECISIONS = ("float32", "bfloat16", "int8")


class CompiledPredictor:
    """A model's `predict` on another engine; `Model.compiled_for` makes one.

    It takes what `Model.predict` takes, in the same batches, and gives the same nested arrays.
    Where the weights of the model were changed since, by training, loading or assignment, the
    network is made anew at the next call, which takes as long as the first time.

    Args:
        model: a built model.
        engine: "openvino" or "onnxruntime".
        precision: "float32", "bfloat16" or "int8".
        input_signature: what the inputs are, as for `Model.export`.

    Attributes:
        model: the model.
        engine: as given.
        precision: as given.
        builds: how often a network was made.
    """

    def __init__(
        self, model: Any, engine: str, precision: str = "float32", input_signature: Any = None
    ):  # fmt: skip
        check_engine(engine, precision)
        _check_model(model)
        self.model, self.engine, self.precision = model, engine, precision
        self.builds = 0
        self._session = ENGINES[engine]
        self._signature = _signature(model, input_signature)
        self._networks: dict[tuple[str, ...], _Network] = {}  # by the names of the inputs
        self._lock = threading.RLock()
        self._watch = _Watch()
        self._network(self._signature)

    def __repr__(self) -> str:
        return f"<CompiledPredictor of {self.model.name!r}, {self.engine} {self.precision}>"

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the model's `predict` does, whose arguments it takes."""
        with self.scope():
            return self.model.predict(*args, **kwargs)

    def predict_on_batch(self, x: Any) -> Any:
        """Return the outputs for one batch, as numpy arrays.

        Args:
            x: as for the model's `predict_on_batch`.
        """
        with self.scope():
            return self.model.predict_on_batch(x)

    def __call__(self, x: Any) -> Any:
        """Return the outputs for one batch of ready inputs, as numpy arrays.

        Args:
            x: as the model is called with: arrays or tensors, nested.
        """
        return self.run_batch(tree.map_structure(np.asarray, x))

    @contextmanager
    def scope(self) -> Iterator["CompiledPredictor"]:
        """Have all methods of the model that call its `predict` run this network in a block.

        In this thread alone.

        >>> fast = models.Sequential([layers.Input((2,)), layers.Dense(1)]).compiled_for("openvino")
        >>> with fast.scope():
        ...     fast.model.predict(np.ones((3, 2)), verbose=0).shape
        (3, 1)
        """
        self.refresh()
        outer, scopes.predictor = scopes.predictor, self
        try:
            yield self
        finally:
            scopes.predictor = outer

    def refresh(self) -> bool:
        """Drop the networks if the weights of the model have changed; return whether they have."""
        with self._lock:
            if self._watch.is_current(self.model):
                return False
            self._networks.clear()
            return True

    def step(self, data: Any) -> Any:
        """Return the outputs for a batch, as the compiled predict step of the model does.

        Args:
            data: (x, y, sample_weight) or x.
        """
        return self.run_batch(unpack_x_y_sample_weight(data)[0])

    def run_batch(self, x: Any) -> Any:
        """Return the outputs for the inputs of a batch, as arrays.

        Args:
            x: nested arrays or tensors.

        Raises:
            ValueError: they are not nested as the inputs of the model are.
        """
        signature = _matching(self._signature, x, self.model.name)
        return self._network(signature).run(x)

    def _network(self, signature: Signature) -> "_Network":
        key = tuple(signature.names)
        network = self._networks.get(key)
        if network is not None:
            return network
        with self._lock:
            if key not in self._networks:
                if not self._networks:
                    self._watch.start(self.model)
                self._networks[key] = self._made(signature)
            return self._networks[key]

    def _made(self, signature: Signature) -> "_Network":
        self.builds += 1
        session = self._session.make(self.model, signature, self.precision)
        return _Network(session, signature)


class _Watch:
    """Detects changes of the weights of a model since `start`."""

    def __init__(self) -> None:
        self._weights: list[tuple[Any, Callable]] = []
        # What the weights hang from: the attributes of layers, the lists and dicts in them.
        self._attributes: list[tuple[dict[str, Any], list[int]]] = []
        self._containers: list[tuple[Any, int]] = []

    def start(self, model: Any) -> None:
        """Note the weights and their values."""
        module = backends.load(model.backend)
        self._weights = [(weakref.ref(v), module.watch(v._kl_raw)) for v in model.weights]
        self._note_structure(model)

    def is_current(self, model: Any) -> bool:
        """Return whether nothing has changed, at some microseconds a layer."""
        same = all(list(map(id, held.values())) == ids for held, ids in self._attributes)
        if not (same and all(len(held) == count for held, count in self._containers)):
            held, weights = [ref() for ref, _ in self._weights], model.weights
            if len(held) != len(weights) or any(a is not b for a, b in zip(held, weights)):
                return False
            self._note_structure(model)  # other attributes were set
        return all(
            (v := ref()) is not None and unchanged(v._kl_raw) for ref, unchanged in self._weights
        )

    def _note_structure(self, model: Any) -> None:
        layers = model.flatten_layers()
        self._attributes = [(x.__dict__, list(map(id, x.__dict__.values()))) for x in layers]
        values = [v for x in layers for v in x.__dict__.values()]
        self._containers = [(v, len(v)) for v in values if isinstance(v, list | dict) and v]


class _Network:
    """A session with the nesting of what it takes and gives."""

    def __init__(self, session: Any, signature: Signature):
        self._session, self._signature = session, signature

    def run(self, x: Any) -> Any:
        values = self._session.run(_by_name(self._signature, x))
        return tree.map_structure(values.__getitem__, self._session.outputs)


def check_engine(engine: str, precision: str) -> None:
    """Raise an error if there is no such engine, or it cannot run a precision here.

    Args:
        engine: a name of `ENGINES`.
        precision: one of `PRECISIONS`.

    Raises:
        ValueError: there is no such engine or precision.
        ImportError: the engine is not installed.
        NotImplementedError: the engine or the processor has no such precision.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {sorted(ENGINES)}, got {engine!r}.")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {list(PRECISIONS)}, got {precision!r}.")
    ENGINES[engine].check(precision)


def _check_model(model: Any) -> None:
    if not model.built or not all(layer.built for layer in model.flatten_layers()):
        raise ValueError(
            f"Model {model.name!r} is not built: call it on data, or make it with an Input."
        )
    if type(model).predict_step is not Trainer.predict_step:
        raise NotImplementedError(
            f"{type(model).__name__} has a predict_step of its own, which an engine cannot run: a "
            "compiled predictor runs the model's call. Write call, or use Model.predict."
        )


def _signature(model: Any, input_signature: Any) -> Signature:
    """Return the inputs of a model; of one with a part on the host those behind that part."""
    between = model.preprocessed_inputs()
    if between is None:
        return signature_of(model, input_signature)
    names = iter(range(len(tree.flatten(between))))
    return Signature(
        [
            tree.map_structure(
                lambda x: TensorSpec(f"input_{next(names)}", (None, *x.shape[1:]), x.dtype), between
            )
        ]
    )


def _matching(signature: Signature, x: Any, name: str) -> Signature:
    """Return the part of a signature that inputs are for: some may be left out of a dict.

    What the signature does not name is added to it: an input that few calls have.
    """
    arguments = signature.arguments
    if isinstance(x, dict) and len(arguments) == 1 and isinstance(arguments[0], dict):
        if set(x) == set(arguments[0]):
            return signature
        known = arguments[0]
        return Signature([{key: known.get(key) or _spec_of(key, x[key]) for key in sorted(x)}])
    expected, got = len(signature.specs), len(tree.flatten(x))
    if expected != got:
        raise ValueError(
            f"Model {name!r} takes the inputs {signature.names}, got {got} of them: nest them as "
            "for `predict`."
        )
    return signature


def _spec_of(name: str, x: Any) -> TensorSpec:
    if tree.is_nested(x):
        raise ValueError(f"Input {name!r} must be an array, got {type(x).__name__}.")
    array = backends.to_numpy(x)
    return TensorSpec(name, (None,) * array.ndim, dtypes.standardize(array.dtype))


def _by_name(signature: Signature, x: Any) -> dict[str, np.ndarray]:
    """Return inputs by name, as contiguous arrays of the dtypes that a network takes."""
    argument = signature.arguments[0]
    if isinstance(argument, dict) and not isinstance(x, dict):
        x = dict(zip(argument, tree.flatten(x), strict=True))
    elif isinstance(x, dict) and not isinstance(argument, dict):
        x = [x[name] for name in signature.names]
    arrays = {}
    for spec, value in zip(signature.specs, signature.flatten([x]), strict=True):
        array = np.ascontiguousarray(backends.to_numpy(value), dtypes.to_numpy(spec.dtype))
        # A column of numbers may come without its last axis, as models take it too.
        arrays[spec.name] = array[..., None] if array.ndim == len(spec.shape) - 1 else array
    return arrays
