"""State in the attributes of layers: variables, sublayers, metrics, and the paths of weights.

Nothing is registered: these functions look at a layer's attributes, in the order in which they
were set, and into lists, tuples and dicts there.

A path is made of names that last: of attributes, with the indices and keys of lists and dicts in
them (`encoder/blocks/0/attention/query/kernel`), and of layers where a model holds a graph or a
sequence (`dense_1/kernel`). It depends neither on the names of private attributes of this package
nor on how many layers the process made before.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from keraslite.naming import free_name, is_automatic_name, to_snake_case
from keraslite.random import SeedGenerator
from keraslite.variable import Variable


class LayerList(list):
    """The layers of a model in an attribute whose name is not part of the weights' paths."""


# The names of variables that are no weights: states of random numbers, and of stateful recurrent
# layers, which belong to one batch size and are not saved.
_OF_A_BATCH = "rnn_state"
RANDOM_STATE = "seed_generator_state"  # the name of the state of a random generator
_NO_WEIGHTS = (RANDOM_STATE, _OF_A_BATCH)

# Attributes that hold no state, whatever stands in them.
_NOT_STATE = {"built", "backend", "dtype_policy", "input_spec", "activity_regularizer",
              "training", "_buffers", "name", "_name", "autocast", "_kl_init", "_kl_config",
              "_kl_added", "_kl_build_shapes", "_backward_hooks", "_backward_pre_hooks",
              "_forward_hooks", "_forward_hooks_always_called", "_forward_hooks_with_kwargs",
              "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_load_state_dict_post_hooks",
              "_load_state_dict_pre_hooks", "_state_dict_hooks",
              "_state_dict_pre_hooks"}  # fmt: skip
_STATE, _SEQUENCE, _MAPPING, _OTHER = "state", "sequence", "mapping", "other"
# Values of these types are passed over at once: a large model has thousands.
_others: set[type] = {type(None), bool, int, float, str}
_roles: dict[type, str] = {}
_metric_types: dict[type, bool] = {}


def attribute_state(layer: Any) -> Iterator[tuple[str, Any]]:
    """Yield the variables, layers, metrics and seed generators in attributes, with their places.

    A place is an attribute's name, followed by the indices and keys of what it holds.
    """
    # Every predict_on_batch comes here for each layer, which has forty attributes.
    attributes = list(layer.__dict__.items())
    for key, value in [
        x for x in attributes if type(x[1]) not in _others and x[0] not in _NOT_STATE
    ]:
        role = _roles.get(type(value)) or _role(value)
        if role is _OTHER or key.startswith("_kl_"):
            continue
        if role is _STATE:
            yield key, value
        elif value:  # a torch.nn.Module has a dozen empty dicts
            yield from _within(key, value, role)


def own_state(layer: Any) -> list[tuple[str, Any]]:
    """Return (name, value) of the state in attributes, by the names that stand in paths.

    A public attribute's name stands as it is and a private one's without leading underscores;
    what is in a `LayerList` goes by `path_names`. Names that clash are numbered.
    """
    entries = list(attribute_state(layer))
    listed = [x for v in layer.__dict__.values() if type(v) is LayerList for x in v]
    if not listed and not any(key.startswith("_") for key, _ in entries):
        return entries
    names = dict(zip(map(id, listed), path_names(listed), strict=True))
    taken = set(names.values())
    attributes = dict.fromkeys(k.partition("/")[0] for k, v in entries if id(v) not in names)
    renamed: dict[str, str] = {}
    for attribute in sorted(attributes, key=lambda a: a.startswith("_")):  # the public ones first
        renamed[attribute] = free_name(attribute.lstrip("_") or "state", taken)
        taken.add(renamed[attribute])

    def name_of(key: str, value: Any) -> str:
        attribute, slash, rest = key.partition("/")
        return names.get(id(value)) or renamed[attribute] + slash + rest

    return [(name_of(key, value), value) for key, value in entries]


def path_names(layers: list[Any]) -> list[str]:
    """Return what layers of one model are called in paths.

    Automatic names count up for the process, so they are numbered anew, in the order of the
    layers; other names stand as they are, and are numbered only where two are equal.
    """
    taken: set[str] = set()
    names = {}
    prefixes = {cls: to_snake_case(cls.__name__) for cls in {type(x) for x in layers}}
    automatic = {id(x): is_automatic_name(x.name, prefixes[type(x)]) for x in layers}
    for layer in sorted(layers, key=lambda x: automatic[id(x)]):
        name = prefixes[type(layer)] if automatic[id(layer)] else layer.name
        names[id(layer)] = free_name(name, taken)
        taken.add(names[id(layer)])
    return [names[id(layer)] for layer in layers]


def _within(key: str, value: Any, role: str) -> Iterator[tuple[str, Any]]:
    """Yield the state in a list, tuple or dict."""
    for i, x in enumerate(value) if role is _SEQUENCE else value.items():
        inner = _roles.get(type(x)) or _role(x)
        if inner is _STATE:
            yield f"{key}/{i}", x
        elif inner is not _OTHER:
            yield from _within(f"{key}/{i}", x, inner)


def _role(value: Any) -> str:
    """Return whether values of a type are state, or may hold some."""
    cls = type(value)
    role = _roles.get(cls)
    if role is None:
        if issubclass(cls, Variable | Tracked | SeedGenerator) or _is_metric(value):
            role = _STATE
        elif issubclass(cls, list | tuple):
            role = _SEQUENCE
        else:
            role = _MAPPING if issubclass(cls, dict) else _OTHER
        _roles[cls] = role
        if role is _OTHER:
            _others.add(cls)
    return role


def _is_metric(value: Any) -> bool:
    cls = type(value)
    if cls not in _metric_types:
        names = "update_state", "reset_state", "result"
        _metric_types[cls] = all(hasattr(cls, name) for name in names)
    return _metric_types[cls]


class _Own(NamedTuple):
    """The variables, layers and metrics in the attributes of a layer, without their names."""

    layer: Any
    variables: list[Variable]
    layers: list[Any]
    metrics: list[Any]


def _own(layer: Any) -> _Own:
    variables: dict[int, Variable] = {}
    layers: dict[int, Any] = {}
    metrics = []
    for _, value in attribute_state(layer):
        if isinstance(value, Variable):
            variables[id(value)] = value
        elif isinstance(value, Tracked):
            layers[id(value)] = value
        elif isinstance(value, SeedGenerator):
            variables[id(value.state)] = value.state
        if _is_metric(value):
            metrics.append(value)
    for variable in layer.__dict__.get("_kl_added", ()):  # made, but perhaps in no attribute
        variables[id(variable)] = variable
    return _Own(layer, list(variables.values()), list(layers.values()), metrics)


def _own_weights(layer: Any) -> list[Variable]:
    """Return a layer's own variables as Keras stores them: without random states."""
    weights = [v for v in _own(layer).variables if v.name not in _NO_WEIGHTS]
    return sorted(weights, key=lambda v: not v.made_trainable)


def own_variables(layer: Any) -> list[tuple[str, Variable]]:
    """Return (name, variable) of a layer's own variables, without those of sublayers."""
    return _named_variables(layer, own_state(layer))


def _named_variables(layer: Any, state: list[tuple[str, Any]]) -> list[tuple[str, Variable]]:
    named: dict[int, tuple[str, Variable]] = {}
    for key, value in state:
        variable = value.state if isinstance(value, SeedGenerator) else value
        if isinstance(variable, Variable):
            name = key if variable is value else f"{key}/{variable.name}"
            named.setdefault(id(variable), (name, variable))
    for variable in layer.__dict__.get("_kl_added", ()):
        if id(variable) not in named:  # kept in no attribute
            name = free_name(variable.name, {name for name, _ in named.values()})
            named[id(variable)] = name, variable
    return list(named.values())


def forget_variable(layer: Any, variable: Variable) -> None:
    """Drop a variable that `add_weight` made; the caller removes the attribute."""
    layer.__dict__["_kl_added"] = [v for v in layer._kl_added if v is not variable]


def own_layers(layer: Any) -> list[tuple[str, Any]]:
    """Return (name, layer) of the layers directly inside a layer."""
    return _named_layers(own_state(layer))


def _named_layers(state: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    named: dict[int, tuple[str, Any]] = {}
    for key, value in state:
        if isinstance(value, Tracked):
            named.setdefault(id(value), (key, value))
    return list(named.values())


@contextmanager
def held_structure(layer: Any) -> Iterator[dict[str, Any]]:
    """Look at the structure below a layer once within a `with` statement.

    Args:
        layer: the layer or model.

    Yields:
        What was seen of it; to be cleared where the structure changes after all.
    """
    attributes = layer.__dict__
    if "_kl_memory" in attributes:
        yield attributes["_kl_memory"]
        return
    memory = attributes["_kl_memory"] = {}
    try:
        yield memory
    finally:
        attributes.pop("_kl_memory", None)


def _remembered(layer: Any, key: str, compute: Callable[[], Any]) -> Any:
    """The result of `compute`; computed once while the structure is held."""
    memory = layer.__dict__.get("_kl_memory")
    if memory is None:
        return compute()
    if key not in memory:
        memory[key] = compute()
    return memory[key]


def _walk(layer: Any) -> list[_Own]:
    """Return the state of a layer and of all layers below it, each once, parents first."""

    def compute() -> list[_Own]:
        visited: dict[int, _Own] = {}

        def visit(layer: Any) -> None:
            if id(layer) not in visited:
                visited[id(layer)] = own = _own(layer)
                for child in own.layers:
                    visit(child)

        visit(layer)
        return list(visited.values())

    return _remembered(layer, "walk", compute)


def flatten_layers(layer: Any, include_self: bool = True) -> list[Any]:
    """Return a layer and all layers below it, each once, parents first.

    Args:
        layer: the layer.
        include_self: whether the layer itself is part of the list.
    """
    return [own.layer for own in _walk(layer) if include_self or own.layer is not layer]


def all_metrics(layer: Any) -> list[Any]:
    """Return the metrics of a layer and of all layers below it."""
    return _metrics(_walk(layer))


def _metrics(walk: list[_Own]) -> list[Any]:
    return list({id(m): m for own in walk for m in own.metrics}.values())


def all_variables(layer: Any) -> list[Variable]:
    """Return all variables below a layer: weights, random states, metrics."""
    walk = _walk(layer)
    variables = {id(v): v for own in walk for v in own.variables}
    variables |= {id(v): v for m in _metrics(walk) for v in m.variables}
    return list(variables.values())


def tracked_variables(layer: Any) -> list[tuple[Variable, bool]]:
    """Return (variable, whether it is trained now) of the weights and random states below a layer.

    The trainable ones of each layer come first, then those of the layers inside it.
    """
    owned: dict[int, tuple[Variable, tuple[Any, ...]]] = {}

    def visit(layer: Any, owners: tuple[Any, ...]) -> None:
        owners = (*owners, layer)
        own = _own(layer)
        for v in sorted(own.variables, key=lambda v: not v.made_trainable):
            owned.setdefault(id(v), (v, owners))
        for child in own.layers:
            visit(child, owners)

    def compute() -> list[tuple[Variable, tuple[Any, ...]]]:
        visit(layer, ())
        return list(owned.values())

    return [
        (v, v.trainable and all(x._kl_trainable for x in owners))
        for v, owners in _remembered(layer, "weights", compute)
    ]


class _Named(NamedTuple):
    """A variable by its path; the layer that has it, and its name there."""

    path: str
    variable: Variable
    layer: Any
    name: str


def _named(layer: Any) -> list[_Named]:
    named: dict[int, _Named] = {}
    taken: set[str] = set()

    def visit(layer: Any, prefix: str) -> None:
        state = own_state(layer)
        own = _named_variables(layer, state)
        for name, v in sorted(own, key=lambda item: not item[1].made_trainable):
            if id(v) not in named and v.name != _OF_A_BATCH:
                path = free_name(prefix + name, taken)  # a name with a slash may be another's path
                taken.add(path)
                named[id(v)] = _Named(path, v, layer, name)
        for name, child in _named_layers(state):
            visit(child, f"{prefix}{name}/")

    def compute() -> list[_Named]:
        visit(layer, "")
        return list(named.values())

    return _remembered(layer, "paths", compute)


def variable_paths(layer: Any) -> list[tuple[str, Variable]]:
    """Return (path below the layer, variable) of the weights and random states: the saved names."""
    return [(entry.path, entry.variable) for entry in _named(layer)]


def weight_owners(layer: Any) -> dict[str, tuple[Any, str]]:
    """Return path below the layer -> (the layer that has the weight, the weight's name there)."""
    return {
        path: (owner, name)
        for path, variable, owner, name in _named(layer)
        if variable.name not in _NO_WEIGHTS
    }


def named_weights(layer: Any) -> list[tuple[str, Variable]]:
    """Return (path below the layer, variable) of the weights alone."""
    return [(path, v) for path, v in variable_paths(layer) if v.name not in _NO_WEIGHTS]


def set_trainable(layer: Any, value: bool) -> None:
    """Set whether the variables of a layer and of all layers below it are trained."""
    for own in _walk(layer):
        own.layer.__dict__["_kl_trainable"] = bool(value)
        for v in own.variables:
            v.trainable = bool(value) and v.made_trainable


def set_weights(layer: Any, values: list[Any]) -> None:
    """Assign values to the weights in order, after all shapes were checked."""
    weights = layer.weights
    if len(weights) != len(values):
        raise ValueError(
            f"Layer {layer.name!r} has {len(weights)} weights, but {len(values)} were given."
        )
    for variable, value in zip(weights, values, strict=True):
        variable.check_shape(np.shape(value))
    for variable, value in zip(weights, values, strict=True):
        variable.assign(value)


class Tracked:
    """The state of a layer, as Keras names it: the base of `Layer`."""

    name: str
    built: bool

    def own_variables(self) -> list[tuple[str, Variable]]:
        """(name, variable) of the layer's own variables, without those of sublayers."""
        return own_variables(self)

    def own_layers(self) -> list[tuple[str, "Tracked"]]:
        """(name, layer) of the layers directly inside."""
        return own_layers(self)

    def flatten_layers(self, include_self: bool = True) -> list["Tracked"]:
        """This layer and all below it, each once, parents first."""
        return flatten_layers(self, include_self)

    @property
    def variables(self) -> list[Variable]:
        """All variables: weights, random states, metrics."""
        return all_variables(self)

    @property
    def metrics(self) -> list[Any]:
        """The metrics of this layer and those inside it."""
        return all_metrics(self)

    @property
    def metrics_variables(self) -> list[Variable]:
        """The variables of the metrics."""
        return [v for m in all_metrics(self) for v in m.variables]

    @property
    def weights(self) -> list[Variable]:
        """All variables but random states and metrics."""
        return [v for v, _ in tracked_variables(self) if v.name not in _NO_WEIGHTS]

    def named_weights(self) -> list[tuple[str, Variable]]:
        """(path below this layer, variable) of the weights: the names that are saved."""
        return named_weights(self)

    @property
    def trainable_variables(self) -> list[Variable]:
        """The variables that are trained."""
        return [v for v, trained in tracked_variables(self) if trained]

    @property
    def trainable_weights(self) -> list[Variable]:
        """The variables that are trained."""
        return self.trainable_variables

    @property
    def non_trainable_variables(self) -> list[Variable]:
        """The variables that are not trained, random states among them."""
        return [v for v, trained in tracked_variables(self) if not trained]

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The weights that are not trained."""
        return [v for v in self.non_trainable_variables if v.name not in _NO_WEIGHTS]

    @property
    def trainable(self) -> bool:
        """Whether the layer's variables are trained; setting it sets the layers inside too."""
        return self._kl_trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        set_trainable(self, value)

    def count_params(self) -> int:
        """The number of scalars in the weights."""
        if not self.built:
            raise ValueError(f"Layer {self.name!r} is not built yet: call it, or build it first.")
        return sum(int(np.prod(v.shape, dtype=np.int64)) for v in self.weights)

    def get_weights(self) -> list[np.ndarray]:
        """The weights as numpy arrays."""
        return [np.array(v.numpy()) for v in self.weights]  # live memory would go on changing

    def set_weights(self, weights: list[Any]) -> None:
        """Set the weights from a list in the order of `weights`."""
        set_weights(self, weights)

    def saved_variables(self) -> list[Variable]:
        """Return the layer's own weights in the order of files: those made to be trained first."""
        return _own_weights(self)

    def save_own_variables(self, store: dict[str, Any]) -> None:
        """Put the layer's own weights into a mapping, by number."""
        for i, variable in enumerate(self.saved_variables()):
            store[str(i)] = variable.numpy()

    def load_own_variables(self, store: dict[str, Any]) -> None:
        """Take the layer's own weights from a mapping, by number."""
        take = getattr(store, "pending", store.__getitem__)  # files give arrays away
        for i, variable in enumerate(self.saved_variables()):
            variable.assign(take(str(i)))
