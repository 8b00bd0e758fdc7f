"""Whole models in `.h5` files of Keras 2, tf.keras and Keras 3: config, weights, optimizer."""

import json
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import losses, metrics, optimizers, registry
from keraslite.optimizers.formulas import nadam_momentum
from keraslite.registry import custom_object_scope
from keraslite.saving.h5_files import H5Tensors
from keraslite.saving.legacy_config import compile_arguments, of_keras_3, upgrade_config
from keraslite.saving.legacy_h5 import MisfitError, Pair, assign_arrays, fitting_pairs, misfit
from keraslite.variable import Variable

# What a config that somebody made up may raise on its way to a model.
_FAULTS = (AttributeError, ImportError, IndexError, KeyError, MemoryError, OverflowError,
           RecursionError, TypeError, ValueError, ZeroDivisionError)  # fmt: skip
# Arguments that are sizes of weights, so that the file holds at least as many numbers.
_SIZES = {"depth_multiplier", "filters", "input_dim", "key_dim", "num_heads", "output_dim", "units",
          "value_dim"}  # fmt: skip
_GET = {"optimizers": optimizers.get, "losses": losses.get, "metrics": metrics.get}
# Our slots, and what they are called by the optimizers of tf_keras, new and legacy.
_Slots = dict[str, tuple[str, ...]]
_MOMENTS: _Slots = {"momentum": ("m",), "velocity": ("v",), "velocity_hat": ("vhat",)}
SLOTS: dict[str, _Slots] = {
    "Adafactor": {"r": ("r",), "c": ("c",), "velocity": ("v",)},
    "Adadelta": {
        "accumulated_grad": ("accumulated_grad", "accum_grad"),
        "accumulated_delta_var": ("accumulated_delta_var", "accum_var"),
    },
    "Adagrad": {"accumulator": ("accumulator",)},
    "Adam": _MOMENTS,
    "AdamW": _MOMENTS,
    "Adamax": {"momentum": ("m",), "norm": ("u", "v")},
    "Ftrl": {"accumulator": ("accumulator",), "linear": ("linear",)},
    "Lion": {"momentum": ("m",)},
    "Nadam": _MOMENTS,
    "RMSprop": {
        "velocity": ("velocity", "rms"), "momentum": ("momentum",),
        "average_gradient": ("average_gradient", "mg"),
    },
    "SGD": {"momentum": ("m", "momentum")},
}  # fmt: skip
_STEPS = ("iteration", "iter", "iterations")
_MOST_MOMENTA = 10**6  # of Nadam, whose product is zero long before


def load_legacy_model(
    path: Path,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
    backend: str | None = None,
) -> Any:
    """Load a model that Keras saved as `.h5`: Keras 2, tf.keras, or Keras 3.

    Args:
        path: the file.
        custom_objects: classes and functions by name, beside the registered ones.
        compile: whether the model is compiled as it was, its optimizer's state included.
        safe_mode: whether a Lambda layer of bytecode is refused; False runs what the file says.
        backend: the backend to load on; the current one by default.

    Raises:
        ImportError: h5py is not installed.
        ValueError: the file is damaged, or names something that is not registered.
    """
    scope = backends.backend_scope(backend or backends.backend())
    with H5Tensors([path], exact=True) as tensors, scope, custom_object_scope(custom_objects):
        config = _json(path, tensors, "model_config")
        if config is None:
            raise ValueError(
                f"{path} has no config of a model. If it holds weights alone, make the model and "
                "call its load_weights()."
            )
        model = _make(path, config, tensors, safe_mode)
        try:
            pairs = fitting_pairs(model, tensors)
        except MisfitError as error:
            raise misfit(path, model, error) from None
        assign_arrays([(variable, tensors[name]) for variable, name in pairs])
        _warn_of_vocabularies(path, model)
        training = _json(path, tensors, "training_config") if compile else None
        if compile and training is None:
            warnings.warn(
                f"{path} does not say how the model was compiled: call compile() to train it.",
                stacklevel=3,
            )
        if training is not None:
            _compile(path, model, training)
            if tensors.strings("optimizer_weights", "weight_names"):
                _restore_optimizer(path, model.optimizer, tensors, pairs)
    return model


def _json(path: Path, tensors: H5Tensors, attribute: str) -> dict[str, Any] | None:
    """Return what the file says in JSON, None where it does not."""
    text = tensors.text("/", attribute)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: its {attribute} is no JSON ({error}).") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: its {attribute} must be a JSON object, got {value!r:.40}.")
    return value


def _check_sizes(config: Any, numbers: int) -> None:
    """Refuse a config of layers whose weights would be larger than all that the file holds."""
    pairs = config.items() if isinstance(config, dict) else ()
    for key, value in pairs:
        if key in _SIZES and isinstance(value, int) and value > max(numbers, 2**16):
            raise ValueError(
                f"a layer has {key}={value}, more than the {numbers} numbers that the file holds"
            )
    for value in config.values() if isinstance(config, dict) else config:
        if isinstance(value, dict | list):
            _check_sizes(value, numbers)


def _make(path: Path, config: dict[str, Any], tensors: H5Tensors, safe_mode: bool) -> Any:
    numbers = sum(math.prod(tensors.shape(name)) for name in tensors)
    token = registry.safe_mode.set(safe_mode and registry.safe_mode.get())
    try:
        _check_sizes(config, numbers)
        is_keras_3 = (tensors.text("/", "keras_version") or "2").startswith("3")
        config = of_keras_3(config) if is_keras_3 else upgrade_config(config)
        model = registry.deserialize_keras_object(config)
    except _FAULTS as error:
        raise ValueError(
            f"{path}: the config of its model cannot be read: {error!s:.1000}"
        ) from error
    finally:
        registry.safe_mode.reset(token)
    if not getattr(model, "built", False) or not hasattr(model, "layers"):
        raise ValueError(
            f"{path}: the saved {config.get('class_name')} does not say how it is built: make the "
            "model, build it, and call its load_weights()."
        )
    return model


def _warn_of_vocabularies(path: Path, model: Any) -> None:
    """Warn of layers whose learnt vocabulary Keras left out of the file."""
    lookups = [layer for layer in model.flatten_layers() if hasattr(layer, "set_vocabulary")]
    inner = {id(x) for layer in lookups for x in layer.flatten_layers(include_self=False)}
    empty = [x.name for x in lookups if id(x) not in inner and not x.get_vocabulary(False)]
    if empty:
        warnings.warn(
            f"{path} holds no vocabulary for {', '.join(empty)}, since Keras writes none into "
            ".h5 files: call set_vocabulary() or adapt() before the model is used, or save it in "
            "Keras as .keras.",
            stacklevel=4,
        )


def _compile(path: Path, model: Any, config: dict[str, Any]) -> None:
    def read(module: str, value: Any) -> Any:
        return _GET[module](value)

    try:
        names = model.output_names if hasattr(model, "output_names") else []
        arguments = compile_arguments(config, names, read)
        model.compile(**arguments)
        model.optimizer.build(model.trainable_variables)
    except _FAULTS as error:
        raise ValueError(
            f"{path}: the model cannot be compiled as it was: {error!s:.1000} Give what is "
            "missing in custom_objects, or load with compile=False."
        ) from error


# -- the state of the optimizer -------------------------------------------------------------------


def _restore_optimizer(path: Path, optimizer: Any, tensors: H5Tensors, pairs: list[Pair]) -> None:
    """Give an optimizer the state in the file; warn once where it has another one."""
    names = tensors.strings("optimizer_weights", "weight_names") or []
    # In Keras 2 the file has the state of the optimizer alone, not the scale of the loss.
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    places = _places(inner, names, pairs) or _in_order(optimizer, names)
    shapes = {
        name: tensors.shape(full)
        for name in places.values()
        if (full := f"optimizer_weights/{name}") in tensors
    }
    fits = bool(places) and all(
        shapes.get(name) == tuple(variable.shape) for variable, name in places.items()
    )
    if not fits:
        warnings.warn(
            f"{path}: the optimizer's state is not that of {type(inner).__name__} here, so "
            "that training begins with a new one.",
            stacklevel=4,
        )
        return
    assign_arrays([(v, tensors[f"optimizer_weights/{name}"]) for v, name in places.items()])
    product = inner.shared_variables.get("u_product")
    if product is not None and product not in places:  # of Nadam, which tf_keras does not save
        count = min(int(tensors[f"optimizer_weights/{places[inner.step_count]}"]), _MOST_MOMENTA)
        momenta = nadam_momentum(inner.beta_1, np.arange(1.0, count + 1.0))
        product.assign(np.prod(momenta).astype(product.dtype))


def _in_order(optimizer: Any, names: list[str]) -> dict[Variable, str]:
    """Return the names of an optimizer of Keras 3, which has its variables in the same order."""
    variables = optimizer.variables
    is_keras_3 = not any(name.endswith(":0") for name in names)
    return dict(zip(variables, names, strict=True)) if (
        is_keras_3 and len(names) == len(variables)
    ) else {}  # fmt: skip


def _places(optimizer: Any, names: list[str], pairs: list[Pair]) -> dict[Variable, str]:
    """Return the name of each variable's values in the file; nothing if one has none.

    They are `Adam/m/dense/kernel:0`, and by a legacy optimizer `Adam/dense/kernel/m:0`.
    """
    plain = {name.removesuffix(":0"): name for name in names}
    steps = [n for n in plain if n.rpartition("/")[2] in _STEPS]
    if len(steps) != 1 or not any(name.endswith(":0") for name in names):
        return {}
    slots_of = SLOTS.get(registry.public_class(type(optimizer)).__name__, {})
    weights = {id(v): _weight_name(name) for v, name in pairs}
    places = {optimizer.step_count: plain[steps[0]]}
    not_saved = {*optimizer.shared_variables.values(), optimizer.rate_source}
    for slot, column in optimizer.slot_variables.items():
        is_factor = slot in optimizer.formula.shapes  # for the columns and rows of matrices alone
        for variable, i in optimizer.variable_indices.items():
            state = column[i]
            if state is None or (is_factor and len(variable.shape) < 2):
                not_saved.add(state)
                continue
            weight = weights.get(id(variable), "")
            ends = [
                end
                for old in slots_of.get(slot, ())
                for end in (f"/{old}/{weight}", f"/{weight}/{old}")
            ]
            fitting = sorted((n for n in plain if f"/{n}".endswith(tuple(ends))), key=len)
            if not ends or not fitting:
                return {}
            places[state] = plain[fitting[0]]
    averaged = optimizer.averaged_variables() if optimizer.use_ema else ()
    for variable, average in averaged:
        name = plain.get(f"{optimizer.name}/average/{weights.get(id(variable), '')}")
        if name is None:
            return {}
        places[average] = name
    is_whole = set(places.values()) == set(names)  # a legacy Nadam has a schedule of its own
    return places if is_whole and {*places, *not_saved} >= set(optimizer.variables) else {}


def _weight_name(name: str) -> str:
    """Return the name of a weight in the model out of its name in the file.

    >>> _weight_name("model_weights/dense/dense/kernel:0")
    'dense/kernel'
    """
    return name.removeprefix("model_weights/").partition("/")[2].removesuffix(":0")
