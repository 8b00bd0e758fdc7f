"""Graphs in configs of Keras 2: calls as nested lists, and operations of TensorFlow among them.

A call is `[[layer, call of it, output of that, arguments], ...]`, and `tf.nn.relu(x)` is a layer
`TFOpLambda` that names the function; its counterpart among the ops is called in its place.
"""

import inspect
from collections.abc import Callable
from itertools import accumulate
from typing import Any

from keraslite.naming import to_snake_case
from keraslite.ops.op import TABLE

_CONSTANT = "_CONSTANT_VALUE"
_RECURRENT = ("LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional", "ConvLSTM1D", "ConvLSTM2D",
              "ConvLSTM3D")  # fmt: skip

# -- operations of TensorFlow ---------------------------------------------------------------------

_SAME = {  # module of TensorFlow: functions that are called as ops are
    "math": """abs acos acosh asin asinh atan atanh ceil cos cosh erf exp expm1 floor log log1p
        negative reciprocal round rsqrt sigmoid sign sin sinh softplus sqrt square tan tanh
        is_nan is_inf is_finite logical_not""",
    "nn": "elu relu relu6 selu sigmoid silu softplus softsign tanh gelu",
    "": "stop_gradient identity zeros_like ones_like abs exp sqrt square",
    "compat.v1": "zeros_like ones_like",
    "keras.activations": "elu relu selu sigmoid softplus softsign tanh linear",
}
_BINARY = """
    add subtract multiply divide truediv:true_divide floordiv:floor_divide floormod:mod
    mod pow:power maximum minimum greater greater_equal less less_equal equal not_equal
    logical_and logical_or logical_xor divide_no_nan
"""
_REDUCTIONS = "mean sum max min prod all any std variance:var logsumexp"
_NUMPY_NAMES = {
    "acos": "arccos", "acosh": "arccosh", "asin": "arcsin", "asinh": "arcsinh",
    "atan": "arctan", "atanh": "arctanh", "is_nan": "isnan", "is_inf": "isinf",
    "is_finite": "isfinite",
}  # fmt: skip
_AXIS = {"axis": "axis"}


def _table() -> dict[str, tuple[str, dict[str, str], dict[str, Any]]]:
    """Return for each function of TensorFlow (op, new names of arguments, other defaults)."""
    table: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {}
    for module, names in _SAME.items():
        for name in names.split():
            full = f"{module}.{name}" if module else name
            table[full] = (_NUMPY_NAMES.get(name, name), {}, {})
    for pair in _BINARY.split():
        name, _, op = pair.partition(":")
        table[f"math.{name}"] = table[f"__operators__.{name}"] = (op or name, {"y": "x2"}, {})
    for name, op in (("eq", "equal"), ("ne", "not_equal")):
        table[f"__operators__.{name}"] = (op, {"y": "x2", "other": "x2"}, {})
    for pair in _REDUCTIONS.split():
        name, _, op = pair.partition(":")
        table[f"math.reduce_{name}"] = (op or name, {"axis": "axis", "keepdims": "keepdims"}, {})
    return table | {
        "math.atan2": ("arctan2", {"x": "x2"}, {}),
        "compat.v1.floor_div": ("floor_divide", {"y": "x2"}, {}),
        "cast": ("cast", {"dtype": "dtype"}, {}),
        "clip_by_value": ("clip", {"clip_value_min": "x_min", "clip_value_max": "x_max"}, {}),
        "concat": ("concatenate", _AXIS, {}),
        "stack": ("stack", _AXIS, {}),
        "unstack": ("unstack", _AXIS | {"num": "num"}, {}),
        "expand_dims": ("expand_dims", _AXIS, {}),
        "squeeze": ("squeeze", _AXIS, {}),
        "compat.v1.squeeze": ("squeeze", _AXIS | {"squeeze_dims": "axis"}, {}),
        "reshape": ("reshape", {"shape": "newshape"}, {}),
        "transpose": ("transpose", {"perm": "axes"}, {}),
        "compat.v1.transpose": ("transpose", {"perm": "axes"}, {}),
        "tile": ("tile", {"multiples": "repeats"}, {}),
        "repeat": ("repeat", _AXIS | {"repeats": "repeats"}, {}),
        "reverse": ("flip", _AXIS, {}),
        "broadcast_to": ("broadcast_to", {"shape": "shape"}, {}),
        "where": ("where", {"x": "x1", "y": "x2"}, {}),
        "gather": ("take", _AXIS | {"indices": "indices"}, {"axis": 0}),
        "compat.v1.gather": ("take", _AXIS | {"indices": "indices"}, {"axis": 0}),
        "one_hot": ("one_hot", _AXIS | {"depth": "num_classes", "dtype": "dtype"}, {}),
        "pad": ("pad", {"paddings": "pad_width", "mode": "mode",
                        "constant_values": "constant_values"}, {}),
        "compat.v1.pad": ("pad", {"paddings": "pad_width", "mode": "mode",
                                  "constant_values": "constant_values"}, {}),
        "math.argmax": ("argmax", _AXIS, {"axis": 0}),
        "math.argmin": ("argmin", _AXIS, {"axis": 0}),
        "math.cumsum": ("cumsum", _AXIS, {"axis": 0}),
        "math.top_k": ("top_k", {"k": "k", "sorted": "sorted"}, {}),
        "math.l2_normalize": ("normalize", _AXIS | {"epsilon": "epsilon"}, {}),
        "nn.l2_normalize": ("normalize", _AXIS | {"epsilon": "epsilon"}, {}),
        "nn.gelu": ("gelu", {"approximate": "approximate"}, {"approximate": False}),
        "nn.leaky_relu": ("leaky_relu", {"alpha": "negative_slope"}, {}),
        "nn.softmax": ("softmax", _AXIS, {}),
        "nn.log_softmax": ("log_softmax", _AXIS, {}),
        "nn.bias_add": ("add", {"bias": "x2"}, {}),
        "tensordot": ("tensordot", {"b": "x2", "axes": "axes"}, {}),
        "linalg.matmul": ("matmul", {"b": "x2"}, {}),
        "split": ("split", _AXIS | {"num_or_size_splits": "indices_or_sections"}, {}),
        "image.resize": ("resize", {"size": "size", "method": "interpolation",
                                    "antialias": "antialias"}, {}),
        "__operators__.getitem": ("get_item", {"slice_spec": "key"}, {}),
    }  # fmt: skip


OPERATIONS = _table()
# Arguments that say nothing with these values.
_HARMLESS = {"name": (), "output_type": (), "validate_indices": (), "batch_dims": (0,),
             "batch_axis": (None,), "preserve_aspect_ratio": (False,)}  # fmt: skip


def _op_call(function: str, call: tuple[Any, dict[str, Any]]) -> tuple[str, list, dict[str, Any]]:
    """Return (op, arguments, keyword arguments) for the call of a function of TensorFlow."""
    if function not in OPERATIONS:
        raise ValueError(
            f"the operation tf.{function} of TensorFlow has no counterpart here; rebuild the "
            "model without it, and take the weights by load_weights()"
        )
    op, renamed, defaults = OPERATIONS[function]
    first, named = call
    kwargs: dict[str, Any] = dict(defaults)
    transposed = op == "matmul" and (named.get("transpose_a"), named.get("transpose_b"))
    for key, value in named.items():
        if key in renamed:
            if value is not None or op == "get_item":
                kwargs[renamed[key]] = value
            continue
        harmless = _HARMLESS.get(key, (None, False))
        of_matmul = op == "matmul" and key in ("transpose_a", "transpose_b")
        if harmless and value not in (None, False, *harmless) and not of_matmul:
            raise ValueError(f"tf.{function} has {key}={value!r:.60}, which is not supported")
    if transposed and any(transposed):
        a, b = ("...ji" if transposed[0] else "...ij"), ("...kj" if transposed[1] else "...jk")
        return "einsum", [f"{a},{b}->...ik", first, kwargs["x2"]], {}
    _CHANGES.get(op, lambda _: None)(kwargs)
    return op, [first], kwargs


def _slice_key(kwargs: dict[str, Any]) -> None:
    def part(x: Any) -> Any:
        if isinstance(x, dict) and {"start", "stop", "step"} <= set(x):
            config = {k: x[k] for k in ("start", "stop", "step")}
            return {"class_name": "__slice__", "config": config}
        if isinstance(x, dict) and x.get("class_name") == "__ellipsis__":
            return {"class_name": "__ellipsis__", "config": {}}
        return x

    key = kwargs["key"]
    if isinstance(key, list):
        config = {"items": [part(x) for x in key]}
        kwargs["key"] = {"class_name": "__tuple__", "config": config}
    else:
        kwargs["key"] = part(key)


def _split_sizes(kwargs: dict[str, Any]) -> None:
    sizes = kwargs["indices_or_sections"]
    if isinstance(sizes, list):
        kwargs["indices_or_sections"] = list(accumulate(sizes))[:-1]


def _lower_mode(kwargs: dict[str, Any]) -> None:
    kwargs["mode"] = str(kwargs.get("mode", "constant")).lower()
    if kwargs["mode"] != "constant" or not kwargs.get("constant_values"):
        kwargs.pop("constant_values", None)


def _root_epsilon(kwargs: dict[str, Any]) -> None:
    kwargs["epsilon"] = kwargs.get("epsilon", 1e-12) ** 0.5  # TensorFlow's is that of the square


_CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "get_item": _slice_key, "split": _split_sizes, "pad": _lower_mode, "normalize": _root_epsilon,
}  # fmt: skip


# -- graphs ---------------------------------------------------------------------------------------


def upgrade_graph(
    config: dict[str, Any], upgrade: Callable[[dict[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    """Return the config of a functional model with its calls in the form of Keras 3.

    Args:
        config: the config.
        upgrade: upgrades the config of a layer.

    Raises:
        ValueError: it calls what has no counterpart; says what.
    """
    entries = config["layers"]
    # The layer of an op may have no name of its own.
    names = [entry.get("name") or entry["config"]["name"] for entry in entries]
    graph = _Graph(names)
    calls = [[graph.call(x) for x in entry.get("inbound_nodes") or ()] for entry in entries]
    ends = {key: graph.places(config[key]) for key in ("input_layers", "output_layers")}
    # A model inside counts its own calls from 1 in Keras 2, where 0 is that of its own making.
    first = {
        name: graph.last_call[name] - len(made) + 1
        for name, made in zip(names, calls, strict=True)
        if made and name in graph.last_call and not any("args" in call for call in made)
    }
    for place in graph.all_places:
        place[1] -= first.get(place[0], 0)
    layers = [
        _entry(name, entry, made, upgrade)
        for name, entry, made in zip(names, entries, calls, strict=True)
    ]
    kept = {k: v for k, v in config.items() if k in ("name", "trainable")}
    return kept | {"layers": layers} | ends


class _Graph:
    """Reads calls, and remembers the places of tensors in them.

    Args:
        names: those of the layers.
    """

    def __init__(self, names: list[str]):
        self._names = set(names)
        self.all_places: list[list] = []
        self.last_call: dict[str, int] = {}  # the highest number of a call of a layer

    def _is_place(self, x: Any) -> bool:
        return (
            isinstance(x, list)
            and len(x) in (3, 4)
            and isinstance(x[0], str)
            and x[0] in self._names
            and type(x[1]) is int
            and type(x[2]) is int
        )

    def _place(self, x: list) -> list:
        place = [x[0], x[1], x[2]]
        self.all_places.append(place)
        self.last_call[x[0]] = max(self.last_call.get(x[0], 0), x[1])
        return place

    def _tensor(self, x: list) -> dict[str, Any]:
        return {"class_name": "__keras_tensor__", "config": {"keras_history": self._place(x)}}

    def places(self, x: Any) -> Any:
        """Return the inputs or outputs; one in a list stands for itself."""
        if self._is_place(x):
            return self._place(x)
        if isinstance(x, dict):
            return {k: self.places(v) for k, v in x.items()}
        if not isinstance(x, list):
            raise ValueError(f"the inputs and outputs must be named by calls, got {x!r:.80}")
        return self.places(x[0]) if len(x) == 1 else [self.places(v) for v in x]

    def call(self, node: Any) -> dict[str, Any]:
        """Return a call as {"args", "kwargs"}, or as {"first", "others"} if it is of Keras 2."""
        if isinstance(node, dict) and {"args", "kwargs"} <= set(node):
            return node
        others: dict[str, Any] = {}
        first = self._first(node, others)
        return {"first": first, "others": {k: self._value(v) for k, v in others.items()}}

    def _first(self, x: Any, others: dict[str, Any]) -> Any:
        """Return the first argument; the others stand beside each tensor in it."""
        is_constant = isinstance(x, list) and len(x) in (3, 4) and x[0] == _CONSTANT
        if is_constant or self._is_place(x):
            if len(x) == 4:
                others.update(x[3])
            return x[2] if is_constant else self._tensor(x)
        if isinstance(x, list):
            return [self._first(v, others) for v in x]
        if isinstance(x, dict):
            return {k: self._first(v, others) for k, v in x.items()}
        raise ValueError(f"a call must name the tensors that it takes, got {x!r:.80}")

    def _value(self, x: Any) -> Any:
        if self._is_place(x) and len(x) == 3:
            return self._tensor(x)
        if isinstance(x, list):
            return [self._value(v) for v in x]
        return {k: self._value(v) for k, v in x.items()} if isinstance(x, dict) else x


def _entry(
    name: str, entry: dict[str, Any], calls: list[dict[str, Any]], upgrade: Callable
) -> dict[str, Any]:
    """Return a layer of the graph, or an op, with its calls."""
    cls, config = entry["class_name"], entry["config"]
    if cls in ("TFOpLambda", "SlicingOpLambda"):
        made = [_op_call(config["function"], (x["first"], x["others"])) for x in calls]
        nodes = [{"args": args, "kwargs": kwargs} for _, args, kwargs in made]
        return _op_entry(name, made[0][0], nodes)
    if cls == "TensorFlowOpLayer":
        raise ValueError(
            f"the layer {name!r} is a node of a TensorFlow graph, which has no counterpart here"
        )
    if calls and "args" in calls[0] and "trainable" not in config and "dtype" not in config:
        return _keras_3_op(name, cls, config, calls)
    upgraded = upgrade(entry)
    nodes = [x if "args" in x else _layer_call(upgraded["class_name"], x) for x in calls]
    return upgraded | {"name": name, "inbound_nodes": nodes}


def _op_entry(name: str, op: str, nodes: list[dict[str, Any]]) -> dict[str, Any]:
    return {"module": "keras.ops", "class_name": op, "config": {}, "registered_name": None,
            "name": name, "inbound_nodes": nodes}  # fmt: skip


def _keras_3_op(name: str, cls: str, config: dict, calls: list[dict]) -> dict[str, Any]:
    """Return an op that Keras 3 wrote: its class, and its options as config."""
    op = to_snake_case(cls)
    if op not in TABLE:
        raise ValueError(f"the operation {cls} of Keras 3 has no counterpart here")
    options = {k: v for k, v in config.items() if k != "name" and v is not None}
    known = inspect.signature(TABLE[op].body).parameters
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f"the operation {cls} has the unknown options {unknown}")
    nodes = []
    for call in calls:
        args, kwargs = list(call["args"]), options | call["kwargs"]
        if op == "get_item" and len(args) == 2 and isinstance(args[1], list):
            args[1] = {"class_name": "__tuple__", "config": {"items": args[1]}}
        nodes.append({"args": args, "kwargs": kwargs})
    return _op_entry(name, op, nodes)


def _layer_call(cls: str, call: dict[str, Any]) -> dict[str, Any]:
    """Return the call of a layer."""
    first = call["first"]
    if isinstance(first, list) and len(first) == 1:
        first = first[0]
    kwargs = {k: v for k, v in call["others"].items() if v is not None}
    if cls in _RECURRENT and isinstance(first, list):  # the states after the inputs
        first, *states = first
        kwargs["initial_state"] = states
    return {"args": [first], "kwargs": kwargs}
