"""Operation: a function of tensors with a name and a config, for symbolic tensors too."""

import inspect
from collections.abc import Callable
from typing import Any, Self

from keraslite import tree
from keraslite.naming import auto_name, to_snake_case
from keraslite.registry import deserialize_keras_object, serialize_keras_object
from keraslite.scopes import scopes
from keraslite.symbolic import KerasTensor, Node, infer, values_of

# What calls leave behind, which a copy has no part in.
_NOT_COPIED = ("_kl_first_call", "_kl_losses", "_kl_dropout_masks")


class first_call_property:  # noqa: N801 - used like `property`
    """A property of an operation's first symbolic call.

    An attribute of that name that somebody sets comes first.
    """

    def __init__(self, function: Callable[[Node], list[KerasTensor]]):
        self.function, self.__doc__ = function, function.__doc__

    def __get__(self, operation: Any, owner: type) -> Any:
        if operation is None:
            return self
        if operation.first_call is None:
            raise AttributeError(
                f"{operation.name!r} has no {self.function.__name__!r} yet: call it on symbolic "
                "tensors, such as an Input, first."
            )
        tensors = self.function(operation.first_call)
        return tensors[0] if len(tensors) == 1 else tensors


class Operation:
    """A function of tensors; subclasses write `call`, and may write `compute_output_spec`.

    Args:
        name: a name; made from the class's where it is None.

    Raises:
        ValueError: the name is no string, or has a slash.

    >>> class Scale(Operation):
    ...     def __init__(self, factor, name=None):
    ...         super().__init__(name=name)
    ...         self.factor = factor
    ...     def call(self, x):
    ...         return x * self.factor
    >>> Scale(2.0)(KerasTensor((None, 3))).shape
    (None, 3)
    >>> float(Scale(2.0)(ops.convert_to_tensor(3.0)))
    6.0
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        self = object.__new__(cls)
        self._kl_init = (args, kwargs)
        return self

    def __init__(self, name: str | None = None):
        if name is None:
            name = auto_name(to_snake_case(type(self).__name__))
        if not isinstance(name, str) or "/" in name:
            raise ValueError(f"name must be a string without a slash, got {name!r}.")
        self.name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not any(isinstance(x, KerasTensor) for x in tree.flatten((args, kwargs))):
            return self.call(*args, **kwargs)
        if scopes.value_of is not None:  # in a function that a symbolic call was given
            args, kwargs = values_of((args, kwargs))
            return self(*args, **kwargs)
        return self.symbolic_call(*args, **kwargs)

    # -- the graph that it was first called in --------------------------------------------------

    @property
    def first_call(self) -> Node | None:
        """The first call on symbolic tensors; None before it."""
        return self.__dict__.get("_kl_first_call")

    @first_call.setter
    def first_call(self, node: Node | None) -> None:
        self.__dict__["_kl_first_call"] = node

    def note_call(self, node: Node) -> None:
        """Take a symbolic call for the first one, if there was none yet.

        Args:
            node: the call.
        """
        if self.first_call is None:
            self.first_call = node

    @first_call_property
    def input(node: Node) -> list[KerasTensor]:  # noqa: N805
        """The symbolic tensor, or the list of them, that it was first called on."""
        return node.inputs

    @first_call_property
    def output(node: Node) -> list[KerasTensor]:  # noqa: N805
        """The symbolic tensor, or the list of them, that its first call gave."""
        return node.outputs

    def __getstate__(self) -> dict[str, Any]:
        # Without the graph, which a copy of an operation is not part of; a graph's copies tell.
        return {k: v for k, v in self.__dict__.items() if k not in _NOT_COPIED}

    # -- calls ----------------------------------------------------------------------------------

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """The operation's function; subclasses write it."""
        raise NotImplementedError(f"{type(self).__name__} does not implement call().")

    def symbolic_call(self, *args: Any, **kwargs: Any) -> Any:
        """Return the symbolic outputs for symbolic inputs, as a part of their graph."""
        outputs = self.compute_output_spec(*args, **kwargs)
        Node(self, args, kwargs, outputs)
        return outputs

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """The symbolic outputs for symbolic inputs, by abstract evaluation of `call`."""
        return infer(self.call, args, kwargs)

    def get_config(self) -> dict[str, Any]:
        """The arguments to make the operation again."""
        args, kwargs = self._kl_init
        init = inspect.signature(type(self).__init__)
        arguments = init.bind_partial(self, *args, **kwargs).arguments
        arguments |= arguments.pop("kwargs", {})
        config = {k: serialize_keras_object(v) for k, v in arguments.items() if k != "self"}
        return config | {"name": self.name} if "name" in init.parameters else config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The operation of a config."""
        return cls(**{k: deserialize_keras_object(v) for k, v in config.items()})
