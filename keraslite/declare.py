"""Public classes from rows of a table: a name, parameters with their defaults, and a docstring."""

import sys
from inspect import Parameter, Signature
from typing import Any

REQUIRED = Parameter.empty


def declare(base: type, name: str, doc: str, parameters: dict[str, Any], **attributes: Any) -> type:
    """Make a subclass whose `__init__` takes these parameters and hands them to `base.setup`.

    The class has a real signature, can be imported, pickled and subclassed.

    Args:
        base: the class it derives from, with a method `setup(**parameters)`.
        name: the class's name.
        doc: its docstring.
        parameters: the parameters in order, with their defaults (`REQUIRED` for none); a name
            that starts with ** takes the remaining keywords.
        attributes: further class attributes.

    >>> class Base:
    ...     def setup(self, rate):
    ...         self.rate = rate
    >>> declare(Base, "Half", "One half.", {"rate": 0.5})().rate
    0.5
    """
    kinds = [
        Parameter(p[2:], Parameter.VAR_KEYWORD)
        if p.startswith("**")
        else Parameter(p, Parameter.POSITIONAL_OR_KEYWORD, default=default)
        for p, default in parameters.items()
    ]
    bind = Signature(kinds).bind

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            bound = bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{name}.__init__(): {error}") from None
        bound.apply_defaults()
        self.setup(**bound.arguments)

    init.__name__, init.__qualname__ = "__init__", f"{name}.__init__"
    init.__signature__ = Signature([Parameter("self", Parameter.POSITIONAL_OR_KEYWORD), *kinds])
    module = sys._getframe(1).f_globals["__name__"]
    body = {"__init__": init, "__doc__": doc, "__module__": module, "__qualname__": name}
    return type(name, (base,), body | attributes)
