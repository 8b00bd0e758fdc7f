"""Configs of Keras 2 and tf.keras as those of Keras 3: what was renamed, what is gone, as data.

Facts: tf_keras 2.21 and older releases of Keras write these configs into HDF5 files.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from keraslite import ops, registry
from keraslite.registry import register_keras_serializable
from keraslite.saving.legacy_graph import upgrade_graph
from keraslite.typing import Tensor


@register_keras_serializable("keras2")
def hard_sigmoid(x: Tensor) -> Tensor:
    """The hard sigmoid of Keras 2, `clip(0.2 x + 0.5, 0, 1)`; that of Keras 3 has the slope 1/6.

    Args:
        x: a tensor.

    >>> print(ops.convert_to_numpy(hard_sigmoid([-3.0, 1.0])))
    [0.  0.7]
    """
    return ops.clip(ops.add(ops.multiply(x, 0.2), 0.5), 0.0, 1.0)


# -- the table ------------------------------------------------------------------------------------

# Classes by their names of now.
CLASSES = {
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
    "DenseV1": "Dense",
    "GRUV1": "GRU",
    "GRUV2": "GRU",
    "HuberLoss": "Huber",
    "LSTMV1": "LSTM",
    "LSTMV2": "LSTM",
    "LogcoshError": "LogCoshError",
    "Logcosh": "LogCosh",
    "MeanSquaredErrorV2": "MeanSquaredError",
    "Model": "Functional",
    "NormalizationV1": "Normalization",
    "PolicyV1": "Policy",
    "SpatialDropout": "SpatialDropout1D",
}
# What is written in the place of a class: (class, arguments beside its own).
INSTEAD: dict[str, tuple[str, dict[str, Any]]] = {
    "ThresholdedReLU": ("ReLU", {"max_value": None}),
    "LossScaleOptimizerV3": ("LossScaleOptimizer", {}),
}

# Arguments: a new name, or the values with which an argument that is gone says nothing.
Rules = Mapping[str, str | tuple]
ANY: tuple = ()
_RECURRENT: Rules = {
    "time_major": (False, None), "implementation": ANY, "input_length": ANY, "input_dim": ANY,
    "enable_caching_device": ANY,
}  # fmt: skip
_CELL: Rules = {"implementation": ANY, "enable_caching_device": ANY}
_GROUPS: Rules = {"groups": (1, None)}
_OF_KERNEL: Rules = {f"kernel_{x}": ANY for x in ("initializer", "regularizer", "constraint")}
_SEPARABLE: Rules = {**_GROUPS, **_OF_KERNEL}
_RANDOM: Rules = {"rng_type": ANY, "force_generator": ANY}
_SPATIAL: Rules = {"noise_shape": (None,), "trainable": ANY}
_LOOKUP: Rules = {"vocabulary_size": ANY, "has_static_table": ANY, "max_values": (None,)}
# Those of a class.
ARGUMENTS: dict[str, Rules] = {
    "BatchNormalization": {
        "renorm": (False, None), "renorm_clipping": ANY, "renorm_momentum": ANY, "fused": ANY,
        "virtual_batch_size": (None,), "adjustment": (None,),
    },
    "Conv1DTranspose": _GROUPS, "Conv2DTranspose": _GROUPS, "Conv3DTranspose": _GROUPS,
    "ConvLSTM1D": {"unroll": ANY, **_RECURRENT}, "ConvLSTM2D": {"unroll": ANY, **_RECURRENT},
    "ConvLSTM3D": {"unroll": ANY, **_RECURRENT}, "Dense": {"input_dim": ANY},
    "DepthwiseConv1D": {"groups": ANY, "filters": ANY},
    "DepthwiseConv2D": {"groups": ANY, "filters": ANY},
    "Embedding": {"input_length": ANY, "dropout": (0, None)},
    "GRU": _RECURRENT, "GRUCell": _CELL,
    "InputLayer": {
        "batch_input_shape": "batch_shape", "ragged": (False, None), "type_spec": (None,),
    },
    "IntegerLookup": _LOOKUP,
    "LSTM": _RECURRENT, "LSTMCell": _CELL,
    "LeakyReLU": {"alpha": "negative_slope"},
    "MultiHeadAttention": {
        "query_shape": ANY, "key_shape": ANY, "value_shape": ANY, "softmax_robust_masking": ANY,
    },
    "RNN": _RECURRENT, "SimpleRNN": _RECURRENT, "SimpleRNNCell": _CELL,
    "RandomBrightness": _RANDOM, "RandomContrast": _RANDOM, "RandomCrop": _RANDOM,
    "RandomFlip": _RANDOM, "RandomRotation": _RANDOM, "RandomTranslation": _RANDOM,
    "RandomZoom": _RANDOM,
    "Nadam": {"decay": ANY},  # of its momentum, not of the rate
    "ReLU": {"theta": "threshold"},
    "SeparableConv1D": _SEPARABLE, "SeparableConv2D": _SEPARABLE,
    "SpatialDropout1D": _SPATIAL, "SpatialDropout2D": _SPATIAL, "SpatialDropout3D": _SPATIAL,
    "StringLookup": _LOOKUP, "TextVectorization": {"vocabulary_size": ANY},
    "LossScaleOptimizer": {"dynamic": (True,)},
}  # fmt: skip
# Classes whose `dtype` was that of their outputs, integers, and is that of their inputs now.
OF_OUTPUTS = ("Discretization",)
# Arguments of all objects of a module.
OF_MODULE: dict[str, Rules] = {
    "keras.layers": {"batch_input_shape": ANY, "input_spec": ANY, "dynamic": ANY},
    "keras.initializers": {"dtype": ANY, "partition_info": ANY},
    "keras.optimizers": {
        "lr": "learning_rate", "jit_compile": ANY, "is_legacy_optimizer": ANY,
        "schedule_decay": ANY,
    },
    "keras.losses": {"fn": ANY},
}  # fmt: skip
# Values of arguments, by the argument.
VALUES: dict[str, dict[str | None, Any]] = {
    "activation": {"softmax_v2": "softmax", "hard_sigmoid": "keras2>hard_sigmoid"},
    "recurrent_activation": {"hard_sigmoid": "keras2>hard_sigmoid"},
    "distribution": {"normal": "truncated_normal"},  # of VarianceScaling
    "reduction": {"auto": "sum_over_batch_size"},
    "epsilon": {None: 1e-7},  # of optimizers
    "beta_initializer": {"zero": "zeros", "one": "ones"},
    "gamma_initializer": {"zero": "zeros", "one": "ones"},
}
_ACTIVATIONS = ("activation", "recurrent_activation")  # of a user's classes too
# Names of losses and metrics.
NAMES = {
    "logcosh": "log_cosh",
    "cosine_proximity": "cosine_similarity",
    "cosine": "cosine_similarity",
    "kullback_leibler_divergence": "kl_divergence",
    "KLD": "kld",
}
# The module of an argument's value, by the last word of the argument's name.
_MODULE_OF = {
    "initializer": "keras.initializers", "regularizer": "keras.regularizers",
    "constraint": "keras.constraints", "activation": "keras.layers", "optimizer":
    "keras.optimizers", "rate": "keras.optimizers.schedules", "dtype": "keras",
}  # fmt: skip
_MODELS = ("Functional", "Sequential")


# -- the walk -------------------------------------------------------------------------------------


def upgrade_config(config: Any, module: str = "keras.layers") -> Any:
    """Return the config of an object of Keras 2 in the form of Keras 3.

    Args:
        config: {"class_name", "config"} as Keras 2 writes it; what has Keras 3's form stays.
        module: the module of the object: keras.layers for models too.

    Raises:
        ValueError: it uses what Keras 3 has no counterpart of; says what.

    Example:
        >>> upgrade_config({"class_name": "LeakyReLU", "config": {"alpha": 0.5}})["config"]
        {'negative_slope': 0.5}
    """
    if not isinstance(config, dict) or "class_name" not in config or "config" not in config:
        raise ValueError(f"an object must be described by its class and config, got {config!r:.80}")
    written, arguments = config["class_name"], config["config"]
    if str(config.get("module")).startswith("keras.src.ops."):  # which Keras 2 has not
        return config
    name, registered = _registered(written, config.get("registered_name"))
    if registered is None:
        name = CLASSES.get(name, name)
        name, more = INSTEAD.get(name, (name, {}))
    else:
        more = {}
    if name == "Policy" or module == "keras":
        name, module = {"Policy": "DTypePolicy"}.get(name, name), "keras"
    if name == "Sequential" and isinstance(arguments, list):  # of the first releases of Keras 2
        arguments = {"name": None, "layers": arguments}
    if not isinstance(arguments, dict):
        raise ValueError(f"the config of {written} must have arguments, got {arguments!r:.80}")
    if registered is None and name == "Functional" and "layers" in arguments:
        arguments = upgrade_graph(arguments, upgrade_config)
    elif registered is None and name == "Sequential":
        layers = [upgrade_config(x) for x in _with_input(arguments["layers"])]
        arguments = {k: _upgraded(k, v) for k, v in arguments.items() if k != "layers"}
        arguments["layers"] = layers
    else:
        arguments = _arguments(name, module, arguments, registered is not None) | more
    if registered is None and name == "Lambda":
        arguments = _lambda(arguments)
    entry = {
        "module": None if registered else "keras.models" if name in _MODELS else module,
        "class_name": name,
        "config": arguments,
        "registered_name": registered,
    }
    return entry | {k: v for k, v in config.items() if k in ("name", "build_config")}


def _registered(written: Any, full: Any) -> tuple[str, str | None]:
    """Return the name of a class, and the one that it was registered under if it is a user's."""
    if not isinstance(written, str):
        raise ValueError(f"the name of a class must be a text, got {written!r:.80}")
    package, _, own = written.rpartition(">")
    for name in (full, written, own):
        if isinstance(name, str) and registry.get_registered_object(name) is not None:
            return name, name
    # tf_keras writes its own optimizers as "Custom>Adam".
    return (own, None) if package in ("", "Custom") else (written, written)


def _arguments(
    name: str, module: str, arguments: dict[str, Any], is_custom: bool
) -> dict[str, Any]:
    """Return the arguments of a class by their names of now, and without those that are gone."""
    rules: Rules = OF_MODULE.get(module, {})
    if is_custom:  # whose arguments are known to its author alone, but for those of all layers
        rules = rules if module == "keras.layers" else {}
    else:
        rules = {**rules, **ARGUMENTS.get(name, {})}
    takes_function = is_custom or name in ("MeanMetricWrapper", "LossFunctionWrapper")
    upgraded: dict[str, Any] = {}
    for key, value in arguments.items():
        rule = None if key == "fn" and takes_function else rules.get(key)
        if isinstance(rule, tuple):
            if rule and value not in rule:
                raise ValueError(f"{name} has {key}={value!r:.80}, which Keras 3 does not have")
            continue
        key = rule or key
        if key == "dtype" and name in OF_OUTPUTS and str(value).startswith("int"):
            continue
        if key == "axis" and isinstance(value, list) and len(value) == 1:
            value = value[0]
        renamed = VALUES.get(key, {}) if not is_custom or key in _ACTIVATIONS else {}
        if isinstance(value, str | None) and value in renamed:
            value = renamed[value]
        upgraded[key] = _upgraded(key, value)
    return _decayed(upgraded) if module == "keras.optimizers" and not is_custom else upgraded


def _upgraded(key: str, value: Any) -> Any:
    """Return the value of an argument, with what stands inside it."""
    if isinstance(value, dict) and "class_name" in value:
        if value["class_name"] in ("__tuple__", "TensorShape") and "items" in value:
            return [_upgraded("", x) for x in value["items"] or ()]
        is_function = value["class_name"] == "function"
        if "config" in value and not is_function and not str(value["class_name"]).startswith("__"):
            module = _MODULE_OF.get(key.rpartition("_")[2])
            return upgrade_config(value, module or value.get("module") or "keras.layers")
        return value
    if isinstance(value, dict):
        return {k: _upgraded(k, v) for k, v in value.items()}
    return [_upgraded(key, x) for x in value] if isinstance(value, list) else value


def _decayed(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return an optimizer's arguments with the `decay` of Keras 2 as a schedule."""
    decay, rate = arguments.pop("decay", None), arguments.get("learning_rate")
    if isinstance(rate, int):
        rate = arguments["learning_rate"] = float(rate)
    if decay and isinstance(rate, float):
        arguments["learning_rate"] = {
            "module": "keras.optimizers.schedules", "class_name": "InverseTimeDecay",
            "config": {"initial_learning_rate": rate, "decay_steps": 1, "decay_rate": decay},
            "registered_name": None,
        }  # fmt: skip
    return arguments


def _with_input(layers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the layers of a Sequential with an input layer, where the first one says its shape."""
    first = layers[0] if layers else {}
    inner = first.get("config", {})
    shape = inner.get("batch_input_shape") if isinstance(inner, dict) else None
    if not shape or first["class_name"] == "InputLayer":
        return layers
    dtype = inner.get("dtype")
    config = {"batch_shape": shape, "dtype": dtype if isinstance(dtype, str) else "float32"}
    return [{"class_name": "InputLayer", "config": config}, *layers]


def _lambda(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a Lambda, its function in the form of Keras 3."""
    gone = ("module", "function_type")
    kept = {k: v for k, v in arguments.items() if k not in gone}
    for name in ("function", "output_shape", "mask"):
        value, form = kept.get(name), kept.pop(f"{name}_type", None)
        kept.pop(f"{name}_module", None)
        code = name == "function" or form == "lambda"
        if code and isinstance(value, list) and len(value) == 3:
            config = dict(zip(("code", "defaults", "closure"), value, strict=True))
            kept[name] = {"class_name": "__lambda__", "config": config}
    return kept


def of_keras_3(config: dict[str, Any]) -> dict[str, Any]:
    """Return the config of a model in a `.h5` file of Keras 3, which lacks modules, as in others.

    Args:
        config: as the file has it.
    """
    arguments = config["config"]
    layers = arguments.get("layers") if isinstance(arguments, dict) else None
    if isinstance(layers, list) and all("module" in x for x in layers):
        name, registered = _registered(config["class_name"], None)
        module = None if registered else "keras.models"
        return config | {"module": module, "class_name": name, "registered_name": registered}
    return upgrade_config(_with_marked_functions(config))


def _with_marked_functions(config: Any) -> Any:
    """Return a config with the activations of Keras 3 marked: some had other meanings before."""
    if isinstance(config, list):
        return [_with_marked_functions(x) for x in config]
    if not isinstance(config, dict):
        return config
    return {
        key: {"module": "keras.activations", "class_name": "function", "config": value,
              "registered_name": "function"}
        if key in _ACTIVATIONS and isinstance(value, str) else _with_marked_functions(value)
        for key, value in config.items()
    }  # fmt: skip


# -- compile --------------------------------------------------------------------------------------


def compile_arguments(
    config: dict[str, Any], output_names: list[str], read: Callable[[str, Any], Any]
) -> dict[str, Any]:
    """Return the arguments of `compile` out of a `training_config`.

    Args:
        config: what the file says.
        output_names: the names of the model's outputs.
        read: makes an object: a function of its module ("losses") and its name or config.
    """
    optimizer = upgrade_config(config["optimizer_config"], "keras.optimizers")
    arguments = {
        "optimizer": read("optimizers", optimizer),
        "loss": _each(config.get("loss"), lambda x: _objective("losses", x, read)),
        "loss_weights": config.get("loss_weights"),
    }
    for name in ("metrics", "weighted_metrics"):
        arguments[name] = _metrics(config.get(name), output_names, read)
    return arguments


def _each(value: Any, function: Callable[[Any], Any]) -> Any:
    """Apply a function to the names and configs in lists and dicts."""
    if value is None:
        return None
    if isinstance(value, list):
        return [_each(x, function) for x in value]
    if isinstance(value, dict) and "class_name" not in value:
        return {k: _each(v, function) for k, v in value.items()}
    return function(value)


def _objective(module: str, value: Any, read: Callable[[str, Any], Any]) -> Any:
    """Return a loss or metric of its name or config."""
    if isinstance(value, str):
        return read(module, NAMES.get(value, value))
    entry = upgrade_config(value, f"keras.{module}")
    function = entry["config"].get("fn")
    if isinstance(function, str):
        function = NAMES.get(function, function)
        entry["config"]["fn"] = function
        if entry["class_name"] == "LossFunctionWrapper":
            entry["config"]["fn"] = read(module, function)
    return read(module, entry)


def _metrics(value: Any, output_names: list[str], read: Callable[[str, Any], Any]) -> Any:
    """Return the metrics of a model: a list for one output, else a list or dict of lists."""
    several = len(output_names) > 1
    if isinstance(value, list) and not several:  # a list in a list
        value = [x for part in value for x in (part if isinstance(part, list) else [part])]

    def metric(x: Any, prefix: str = "") -> Any:
        if isinstance(x, str) and x.lower() in ("accuracy", "acc", "crossentropy", "ce"):
            return x  # by the shapes of targets and outputs
        if isinstance(x, dict) and prefix and isinstance(x.get("config"), dict):
            name = str(x["config"].get("name") or "")
            x = {**x, "config": x["config"] | {"name": name.removeprefix(prefix) or None}}
        return _objective("metrics", x, read)

    if isinstance(value, list) and several and len(value) == len(output_names):
        prefixes = [f"{name}_" for name in output_names]
        return [
            _without_none(_each(part, partial(metric, prefix=prefix)))
            for part, prefix in zip(value, prefixes, strict=True)
        ]
    return _without_none(_each(value, metric))


def _without_none(value: Any) -> Any:
    """Return lists without the places that hold no metric."""
    if isinstance(value, list):
        return [_without_none(x) for x in value if x is not None]
    return value
