"""Pickles read without running anything: a machine that knows a few opcodes and our own functions.

An instance of a class that is not known becomes a record of the class's name, its arguments and its
state: nothing is imported, and no code of the file or for its classes runs.
"""

from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NamedTuple

_KEYS = (str, int)  # of dicts; others, whose hash may take for ever, are left out


class BadFileError(ValueError):
    """The fault of a file, without its name."""


class Global(NamedTuple):
    """A class or function that a pickle names, as `module name`; it is never imported."""

    name: str


class Record:
    """An instance of a class that is not made.

    Args:
        name: of the class.
        arguments: that it was made with.
    """

    def __init__(self, name: str, arguments: tuple) -> None:
        self.name, self.arguments = name, arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def refuse_call(name: str, arguments: tuple) -> Any:
    """Refuse a name that a pickle calls and that nothing is known of.

    Args:
        name: `module name`.
        arguments: those of the call.

    Raises:
        BadFileError: always.
    """
    raise BadFileError(
        f"its pickle calls {'.'.join(name.split())!r:.80}, which arrays do not need: it is damaged "
        "or hostile, and nothing of it was run"
    )


class _Mark:
    """Where a list of arguments begins on the stack."""


class PickleMachine:
    """Runs the opcodes of a pickle over a stack of plain values and records.

    Args:
        calls: the functions that stand for what a pickle may call, by `module name`.
        call_other: gives the value of a call of any other name, of it and the arguments.
        refer: gives the value of a persistent id.
        most_steps: the largest number of opcodes.

    Example:
        >>> import io, pickle
        >>> PickleMachine({}).run(io.BytesIO(pickle.dumps({"x": [1, 2]})))
        {'x': [1, 2]}
    """

    def __init__(
        self,
        calls: Mapping[str, Callable],
        call_other: Callable[[str, tuple], Any] = refuse_call,
        refer: Callable[[Any], Any] | None = None,
        most_steps: float = float("inf"),
    ) -> None:
        self.calls, self.call_other, self.refer = calls, call_other, refer
        self.most_steps = most_steps
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, file: BinaryIO) -> Any:
        """Return the object that the pickle describes; the file then stands behind it.

        Args:
            file: opened for reading, where a pickle begins.

        Raises:
            BadFileError: the pickle is damaged, or does what is not allowed.
        """
        import pickletools  # which takes longer to load than most of the package

        self.stack, self.memo = [], {}
        at = steps = 0
        try:
            for opcode, argument, position in pickletools.genops(file):
                at, steps = position, steps + 1
                if opcode.name == "STOP":
                    return self.stack.pop()
                step = _STEPS.get(opcode.name)
                if step is None or steps > self.most_steps:
                    fault = "too many opcodes" if step else f"the opcode {opcode.name}"
                    raise BadFileError(f"its pickle has {fault}")
                step(self, argument)
        except BadFileError:
            raise
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as e:
            raise BadFileError(f"its pickle is damaged at byte {at} ({e!s:.80})") from e
        raise BadFileError("its pickle does not end")

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def since_mark(self) -> list:
        """Take the values above the last mark, and the mark."""
        values = []
        while not isinstance(value := self.stack.pop(), _Mark):
            values.append(value)
        return values[::-1]

    def take(self, count: int) -> list:
        """Take some values from the stack."""
        if len(self.stack) < count:
            raise ValueError("the stack is too short")
        values = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return values

    def memoize(self, index: int | None) -> None:
        """Note the last value under a number, or under the next one."""
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]

    def set_items(self, flat: list) -> None:
        """Set the items of the last value: keys and values in turns."""
        target = self.stack[-1]
        if isinstance(target, Record):  # of a subclass of dict
            return
        if type(target) is not dict or len(flat) % 2:
            raise ValueError("items are set on what is no dict")
        items = zip(flat[::2], flat[1::2], strict=True)
        target.update((key, value) for key, value in items if type(key) in _KEYS)

    def extend(self, values: list) -> None:
        """Append to the last value, a list or a set."""
        target = self.stack[-1]
        if type(target) is set:
            target.update(_set(values))
        elif type(target) is list:
            target.extend(values)
        elif not isinstance(target, Record):
            raise ValueError("values are appended to what is no list")

    def call(self, make: Callable[[str, tuple], Any]) -> None:
        """Call one of our functions, or say what another name is called with."""
        target, arguments = self.take(2)
        if type(arguments) is tuple and isinstance(target, Record) and hasattr(target, "called"):
            self.push(target.called(*arguments))
            return
        if type(target) is not Global or type(arguments) is not tuple:
            raise BadFileError("its pickle calls what is no class")
        known = self.calls.get(target.name)
        self.push(known(*arguments) if known else make(target.name, arguments))

    def build(self) -> None:
        """Give a record its state; that of a dict, such as _metadata, is of no use here."""
        (state,) = self.take(1)
        if isinstance(self.stack[-1], Record):
            self.stack[-1].__setstate__(state)

    def persistent(self) -> None:
        """Give the value of a persistent id."""
        if self.refer is None:
            raise BadFileError("its pickle refers to what is outside of it")
        self.push(self.refer(self.stack.pop()))


def _ordered(pairs: Any = ()) -> dict:
    return {key: value for key, value in pairs if type(key) in _KEYS}


def _set(values: Any = ()) -> set:
    return {value for value in values if type(value) in _KEYS}


PLAIN_CALLS: dict[str, Callable] = {
    "collections OrderedDict": _ordered,
    **dict.fromkeys(("__builtin__ set", "builtins set"), _set),
}
_STEPS: dict[str, Callable[[PickleMachine, Any], Any]] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda m, x: None),
    **dict.fromkeys(
        ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BININT", "BININT1", "BININT2", "LONG1",
         "BINFLOAT", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"), lambda m, x: m.push(x)),
    "NONE": lambda m, x: m.push(None),
    "NEWTRUE": lambda m, x: m.push(True),
    "NEWFALSE": lambda m, x: m.push(False),
    "EMPTY_DICT": lambda m, x: m.push({}),
    "EMPTY_LIST": lambda m, x: m.push([]),
    "EMPTY_TUPLE": lambda m, x: m.push(()),
    "EMPTY_SET": lambda m, x: m.push(set()),
    "FROZENSET": lambda m, x: m.push(_set(m.since_mark())),
    "MARK": lambda m, x: m.push(_Mark()),
    "TUPLE": lambda m, x: m.push(tuple(m.since_mark())),
    "TUPLE1": lambda m, x: m.push(tuple(m.take(1))),
    "TUPLE2": lambda m, x: m.push(tuple(m.take(2))),
    "TUPLE3": lambda m, x: m.push(tuple(m.take(3))),
    "BINPUT": lambda m, x: m.memoize(x),
    "LONG_BINPUT": lambda m, x: m.memoize(x),
    "MEMOIZE": lambda m, x: m.memoize(None),
    "BINGET": lambda m, x: m.push(m.memo[x]),
    "LONG_BINGET": lambda m, x: m.push(m.memo[x]),
    "SETITEM": lambda m, x: m.set_items(m.take(2)),
    "SETITEMS": lambda m, x: m.set_items(m.since_mark()),
    "APPEND": lambda m, x: m.extend(m.take(1)),
    **dict.fromkeys(("APPENDS", "ADDITEMS"), lambda m, x: m.extend(m.since_mark())),
    "GLOBAL": lambda m, x: m.push(Global(x)),
    "STACK_GLOBAL": lambda m, x: m.push(Global(" ".join(m.take(2)))),
    "BINPERSID": lambda m, x: m.persistent(),
    "REDUCE": lambda m, x: m.call(m.call_other),
    "NEWOBJ": lambda m, x: m.call(Record),
    "BUILD": lambda m, x: m.build(),
}  # fmt: skip
