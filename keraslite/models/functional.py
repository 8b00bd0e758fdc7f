"""Functional: a model made of a graph of layers and ops between symbolic tensors."""

from typing import Any

from keraslite import tree
from keraslite.layers.base.layer import Layer
from keraslite.layers.base.moving import new_layer
from keraslite.models.model import Model
from keraslite.ops.op import Op
from keraslite.registry import (
    deserialize_keras_object,
    public_class,
    serialize_keras_object,
)
from keraslite.symbolic import KerasTensor, graph


class Functional(Model):
    """A model from symbolic inputs to symbolic outputs; `Model(inputs, outputs)` makes one.

    Args:
        inputs: nested KerasTensors.
        outputs: nested KerasTensors that depend on them.
        name: a name.
    """

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any):
        super().__init__(name=name, **kwargs)
        for x in tree.flatten(inputs):
            if not isinstance(x, KerasTensor):
                raise ValueError(f"The inputs of a functional model are KerasTensors, got {x!r}.")
        self._kl_inputs, self._kl_outputs = inputs, outputs
        self._kl_nodes = graph(tree.flatten(inputs), tree.flatten(outputs))
        # Layers are found through this attribute, in the order in which they run.
        self._layers_in_order = list(
            {id(n.operation): n.operation for n in self._kl_nodes
             if isinstance(n.operation, Layer)}.values()
        )  # fmt: skip
        self._kl_input_layers = _names_of_inputs(tree.flatten(inputs))
        self.built = True

    @property
    def inputs(self) -> list[KerasTensor]:
        """The symbolic inputs, flat."""
        return tree.flatten(self._kl_inputs)

    @property
    def outputs(self) -> list[KerasTensor]:
        """The symbolic outputs, flat."""
        return tree.flatten(self._kl_outputs)

    @property
    def output_names(self) -> list[str]:
        """The names of the layers that give the outputs, by which losses may name them."""
        return [_name_of(x.node.operation) if x.node else x.name for x in self.outputs]

    @property
    def input(self) -> Any:
        """The symbolic inputs."""
        return self._kl_inputs

    @property
    def output(self) -> Any:
        """The symbolic outputs."""
        return self._kl_outputs

    @property
    def input_shape(self) -> Any:
        """The shapes of the inputs."""
        return tree.map_structure(lambda x: x.shape, self._kl_inputs)

    @property
    def output_shape(self) -> Any:
        """The shapes of the outputs."""
        return tree.map_structure(lambda x: x.shape, self._kl_outputs)

    @property
    def layers(self) -> list[Layer]:
        """The layers, inputs first."""
        return [*self._kl_input_layers, *self._layers_in_order]

    def set_backend(self, name: str) -> None:
        """Make the model one of another backend; its variables are moved by `to_backend`."""
        super().set_backend(name)
        _stay_functional(self)

    def __reduce__(self) -> tuple:
        _, args, state = super().__reduce__()
        # The calls first, in the order in which they run: whoever copies the state then finds what
        # a call refers to already copied, and a deep graph makes no deep recursion.
        first = {k: state[k] for k in ("_kl_inputs", "_kl_nodes") if k in state}
        return _rebuild_functional, args, first | state

    def build(self, input_shape: Any = None) -> None:
        """Nothing to do: the layers were built when the graph was drawn."""
        self.built = True

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Run the graph."""
        values = dict(zip(map(id, self.inputs), self._match(inputs), strict=True))

        def fill(x: Any) -> Any:
            return values[id(x)] if isinstance(x, KerasTensor) else x

        for node in self._kl_nodes:
            args, kwargs = tree.map_structure(fill, (node.args, node.kwargs))
            out = node.operation(*args, **kwargs)
            for symbol, value in zip(node.outputs, tree.flatten(out), strict=True):
                values[id(symbol)] = value
        return tree.map_structure(fill, self._kl_outputs)

    def _match(self, inputs: Any) -> list[Any]:
        """The given inputs in the order of the symbolic ones; dicts go by name."""
        symbols = self.inputs
        if isinstance(inputs, dict):
            if isinstance(self._kl_inputs, dict):
                missing = sorted(set(self._kl_inputs) - set(inputs))
                flat = [] if missing else tree.flatten({k: inputs[k] for k in self._kl_inputs})
            else:
                missing = [s.name for s in symbols if s.name not in inputs]
                flat = [] if missing else [inputs[s.name] for s in symbols]
            if missing:
                raise ValueError(
                    f"Model {self.name!r} misses the inputs {missing}; got {sorted(inputs)}."
                )
        else:
            flat = tree.flatten(inputs)
        if len(flat) != len(symbols):
            raise ValueError(f"Model {self.name!r} expects {len(symbols)} inputs, got {len(flat)}.")
        for x, symbol in zip(flat, symbols, strict=True):
            self._check(x, symbol)
        return flat

    def _check(self, x: Any, symbol: KerasTensor) -> None:
        shape = tuple(getattr(x, "shape", symbol.shape))
        fits = len(shape) == len(symbol.shape) and all(
            a == b or a is None or b is None for a, b in zip(shape, symbol.shape, strict=True)
        )
        if not fits:
            raise ValueError(
                f"Model {self.name!r} expects the input {symbol.name!r} to have shape "
                f"{symbol.shape}, got {shape}."
            )

    def get_config(self) -> dict[str, Any]:
        """The graph as data: layers, calls, inputs and outputs, in Keras's form."""
        if public_class(type(self)) is not Functional:
            return super().get_config()
        names: dict[int, str] = {}
        entries: dict[int, dict[str, Any]] = {}
        position: dict[int, tuple[str, int]] = {}
        counts: dict[str, int] = {}
        for layer, symbol in zip(self._kl_input_layers, self.inputs, strict=True):
            position[id(symbol)] = (layer.name, 0)
            entries[id(layer)] = {
                **serialize_keras_object(layer), "name": layer.name, "inbound_nodes": []
            }  # fmt: skip
        for node in self._kl_nodes:
            key = id(node.operation)
            if key not in entries:
                name = _unique(_name_of(node.operation), names.values())
                names[key] = name
                entries[key] = {**_entry(node.operation), "name": name, "inbound_nodes": []}
            name = entries[key]["name"]
            index = counts.get(name, 0)
            counts[name] = index + 1
            call = tree.map_structure(
                lambda x: _history(x, position), {"args": list(node.args), "kwargs": node.kwargs}
            )
            entries[key]["inbound_nodes"].append(_plain(call))
            for symbol in node.outputs:
                position[id(symbol)] = (name, index)

        def spot(x: KerasTensor) -> list[Any]:
            return [*position[id(x)], x.index]

        return {
            "name": self.name,
            "trainable": self.trainable,
            "layers": list(entries.values()),
            "input_layers": _map_tensors(spot, self._kl_inputs),
            "output_layers": _map_tensors(spot, self._kl_outputs),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Model":
        """The model of a config."""
        if "layers" not in config or "output_layers" not in config:
            return super().from_config(config)
        made: dict[tuple[str, int], list[KerasTensor]] = {}
        waiting: list[tuple[str, int, Any, dict]] = []
        for entry in config["layers"]:
            operation = _operation(entry)
            if not entry["inbound_nodes"]:
                made[entry["name"], 0] = [operation.output]
            for i, call in enumerate(entry["inbound_nodes"]):
                waiting.append((entry["name"], i, operation, call))
        while waiting:
            ready = [w for w in waiting if all(k in made for k in _needs(w[3]))]
            if not ready:
                raise ValueError(f"The graph cannot be closed: {[w[0] for w in waiting]} wait.")
            for item in ready:
                name, i, operation, call = item
                args, kwargs = _restore(call["args"], made), _restore(call["kwargs"], made)
                made[name, i] = tree.flatten(operation(*args, **kwargs))
                waiting.remove(item)

        def tensor(spot: Any) -> Any:
            if isinstance(spot, dict):
                return {k: tensor(v) for k, v in spot.items()}
            if len(spot) == 3 and isinstance(spot[0], str):
                return made[spot[0], spot[1]][spot[2]]
            return [tensor(s) for s in spot]

        model = Functional(
            tensor(config["input_layers"]), tensor(config["output_layers"]), name=config["name"]
        )
        if not config.get("trainable", True):
            model.trainable = False
        return model


def _names_of_inputs(symbols: list[KerasTensor]) -> list[Layer]:
    from keraslite.layers.input_layer import InputLayer

    layers = []
    for x in symbols:
        layer = x.node.operation if x.node is not None else None
        layers.append(layer if isinstance(layer, InputLayer) else InputLayer(input_tensor=x))
    return layers


def _name_of(operation: Any) -> str:
    return operation.name if isinstance(operation, Layer) else operation.op.name


def _unique(name: str, taken: Any) -> str:
    taken = set(taken)
    numbers = (f"{name}_{i}" for i in range(1, len(taken) + 2))
    return name if name not in taken else next(n for n in numbers if n not in taken)


def _entry(operation: Any) -> dict[str, Any]:
    if isinstance(operation, Layer):
        return serialize_keras_object(operation)
    row: Op = operation.op
    return {"module": "keras.ops", "class_name": row.name, "config": {}, "registered_name": None}


def _operation(entry: dict[str, Any]) -> Any:
    if entry["module"] == "keras.ops":
        from keraslite.ops.op import TABLE

        if entry["class_name"] not in TABLE:
            raise ValueError(f"Unknown op {entry['class_name']!r} in the config of a model.")
        return TABLE[entry["class_name"]].call
    return deserialize_keras_object({k: v for k, v in entry.items() if k != "inbound_nodes"})


def _history(x: Any, position: dict[int, tuple[str, int]]) -> Any:
    if not isinstance(x, KerasTensor):
        return x
    where = [*position[id(x)], x.index]
    inner = {"shape": list(x.shape), "dtype": x.dtype, "keras_history": where}
    return {"class_name": "__keras_tensor__", "config": inner}


def _plain(x: Any) -> Any:
    """The call's arguments as JSON: slices, tuples and ellipses keep their kind."""
    if isinstance(x, slice):
        return {"class_name": "__slice__",
                "config": {"start": x.start, "stop": x.stop, "step": x.step}}  # fmt: skip
    if x is Ellipsis:
        return {"class_name": "__ellipsis__", "config": {}}
    if isinstance(x, dict):
        return {k: _plain(v) for k, v in x.items()}
    if isinstance(x, tuple):
        return {"class_name": "__tuple__", "config": {"items": [_plain(v) for v in x]}}
    if isinstance(x, list):
        return [_plain(v) for v in x]
    return serialize_keras_object(x)


def _is(x: Any, kind: str) -> bool:
    return isinstance(x, dict) and x.get("class_name") == kind


def _needs(x: Any) -> list[tuple[str, int]]:
    if _is(x, "__keras_tensor__"):
        return [tuple(x["config"]["keras_history"][:2])]
    parts = x.values() if isinstance(x, dict) else x if isinstance(x, list) else ()
    return [k for v in parts for k in _needs(v)]


def _restore(x: Any, made: dict[tuple[str, int], list[KerasTensor]]) -> Any:
    if _is(x, "__keras_tensor__"):
        name, node, index = x["config"]["keras_history"]
        return made[name, node][index]
    if _is(x, "__slice__"):
        return slice(*(x["config"][k] for k in ("start", "stop", "step")))
    if _is(x, "__ellipsis__"):
        return Ellipsis
    if _is(x, "__tuple__"):
        return tuple(_restore(v, made) for v in x["config"]["items"])
    if _is(x, "__numpy__"):
        return deserialize_keras_object(x)
    if isinstance(x, dict):
        return {k: _restore(v, made) for k, v in x.items()}
    return [_restore(v, made) for v in x] if isinstance(x, list) else x


def _map_tensors(f: Any, x: Any) -> Any:
    if isinstance(x, KerasTensor):
        return f(x)
    if isinstance(x, dict):
        return {k: _map_tensors(f, v) for k, v in x.items()}
    return [_map_tensors(f, v) for v in x]


def _rebuild_functional(cls: type, backend: str) -> Model:
    model = new_layer(cls, backend)
    _stay_functional(model)
    return model


def _stay_functional(model: Model) -> None:
    """Give a graph whose class a user wrote Functional's methods, after its class was derived."""
    if not isinstance(model, Functional):
        model.__class__ = functional_subclass(type(model))


_subclasses: dict[type, type] = {}


def functional_subclass(cls: type) -> type:
    """`cls` with Functional's methods behind its own: for subclasses that give inputs, outputs."""
    if issubclass(cls, Functional):
        return cls
    if cls not in _subclasses:
        public = public_class(cls)
        bases = (public, Functional, *(b for b in cls.__bases__ if b is not public))
        body = {"__module__": public.__module__, "__qualname__": public.__qualname__,
                "_kl_public": public}  # fmt: skip
        _subclasses[cls] = type(public.__name__, bases, body)
    return _subclasses[cls]
