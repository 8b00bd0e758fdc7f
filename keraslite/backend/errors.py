"""Classify the errors of frameworks; each backend names its own classes and phrases."""

from collections.abc import Iterable

# Errors that say something about the arguments, in every framework and in Python itself.
_PLAIN = (RuntimeError, ValueError, IndexError, TypeError, NotImplementedError)
# Words of TypeErrors that complain about shapes.
_ABOUT_SHAPES = (
    "shape", "broadcast", "axis", "axes", "dim", "size", "index", "out of range", "must match",
)  # fmt: skip


class UnsupportedOpsError(Exception):
    """A format has no form of some operations of a program that is to be exported.

    Args:
        ops: their names, as far as they are known.
        text: what the exporter said.
    """

    def __init__(self, ops: Iterable[str], text: str):
        super().__init__(text)
        self.ops = sorted(set(ops))


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or the name of its class where it has none.

    >>> first_line(ValueError())
    'ValueError'
    """
    return str(error).strip().partition("\n")[0] or type(error).__name__


def mistake(
    error: Exception, own: tuple[type, ...], about_dtypes: tuple[str, ...]
) -> type[Exception] | None:
    """Return the kind of mistake in the arguments that an error of a framework reports.

    Args:
        error: what the framework raised.
        own: its own classes of errors about arguments; others are passed on as they are.
        about_dtypes: phrases of its messages about dtypes that it has no kernel for.

    Returns:
        TypeError for dtypes, IndexError for indices and axes, ValueError for shapes and values;
        None where the error is not about the arguments.

    >>> mistake(RuntimeError("'add' not implemented for 'Half'"), (), ("implemented for",))
    <class 'TypeError'>
    """
    if type(error) not in _PLAIN and not isinstance(error, own):
        return None
    if isinstance(error, IndexError):
        return IndexError
    text = first_line(error)
    if any(phrase in text for phrase in about_dtypes):
        return TypeError
    about_shapes = any(word in text for word in _ABOUT_SHAPES)
    return TypeError if isinstance(error, TypeError) and not about_shapes else ValueError
