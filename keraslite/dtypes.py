"""Data types by their names, and the one promotion lattice (JAX's, as Keras documents it)."""

import math
from typing import Any

import numpy as np

from keraslite import config

FLOATS = ("float8_e4m3fn", "float8_e5m2", "float16", "bfloat16", "float32", "float64")
INTS = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
COMPLEX = ("complex64", "complex128")
ALL = ("bool", *INTS, *FLOATS, *COMPLEX)
_NAMES = frozenset((*ALL, "string"))
# numpy's own dtypes: the attribute that gives their name takes it half a microsecond.
_OF_NUMPY = {np.dtype(n): n for n in ALL if not n.startswith(("bfloat16", "float8"))}

# What stands directly above each type. A trailing * marks the weak types of Python numbers.
_ABOVE = {
    "bool": ("int*",),
    "int*": ("uint8", "int8"),
    "uint8": ("uint16", "int16"),
    "uint16": ("uint32", "int32"),
    "uint32": ("uint64", "int64"),
    "uint64": ("float*",),
    "int8": ("int16",),
    "int16": ("int32",),
    "int32": ("int64",),
    "int64": ("float*",),
    "float*": ("float8_e4m3fn", "float8_e5m2", "bfloat16", "float16", "complex*"),
    "float8_e4m3fn": (),
    "float8_e5m2": (),
    "bfloat16": ("float32",),
    "float16": ("float32",),
    "float32": ("float64", "complex64"),
    "float64": ("complex128",),
    "complex*": ("complex64",),
    "complex64": ("complex128",),
    "complex128": (),
}
# The largest finite numbers; ml_dtypes.finfo has them too, but is slow to import.
_LARGEST = {
    "float8_e4m3fn": 448.0, "float8_e5m2": 57344.0, "float16": 65504.0,
    "bfloat16": (2 - 2**-7) * 2.0**127, "float32": (2 - 2**-23) * 2.0**127,
    "float64": (2 - 2**-52) * 2.0**1023,
}  # fmt: skip
_WEAK = {bool: "bool", int: "int*", float: "float*", complex: "complex*"}
_ALIASES = {"float": "float32", "int": "int32", "half": "float16", "double": "float64"}


def _reachable(name: str) -> frozenset[str]:
    return frozenset({name}).union(*(_reachable(up) for up in _ABOVE[name]))


def _pairs() -> dict[tuple[str, str], str | None]:
    """The least type above each pair: the lattice as one table."""
    above = {name: _reachable(name) for name in _ABOVE}
    table = {}
    for a in _ABOVE:
        for b in _ABOVE:
            common = above[a] & above[b]
            table[a, b] = next((n for n in _ABOVE if n in common and common <= above[n]), None)
    return table


_JOIN = _pairs()  # a plain table, which Dynamo traces; caches of functions it does not


def join(*names: str) -> str:
    """The least type above all of `names` in the lattice; weak names (`float*`) are allowed.

    >>> join("int8", "uint8"), join("float16", "bfloat16")
    ('int16', 'float32')
    """
    common = names[0]
    for name in names[1:]:
        if name != common:
            least = _JOIN.get((common, name))
            if least is None:
                raise TypeError(f"No common data type for {', '.join(names)}: cast one of them.")
            common = least
    return common


def strong(name: str) -> str:
    """A weak type's concrete one: int32, floatx, complex64."""
    if name == "float*":
        return config.floatx()
    return {"int*": "int32", "complex*": "complex64"}.get(name, name)


def weak(cls: type) -> str | None:
    """The weak name of a Python number's class, or None for any other class."""
    return _WEAK.get(cls)


def standardize(dtype: Any) -> str:
    """The standard name of a data type given as a name, a Python or numpy type, or a framework's.

    >>> standardize(np.float32), standardize(int), standardize(None)
    ('float32', 'int32', 'float32')
    """
    if dtype is None:
        return config.floatx()
    if isinstance(dtype, str):
        name = _ALIASES.get(dtype, dtype)
    elif isinstance(dtype, np.dtype):
        name = _OF_NUMPY.get(dtype) or dtype.name
    elif isinstance(dtype, type) and dtype in _WEAK:
        name = strong(_WEAK[dtype])
    else:
        name = getattr(dtype, "name", None) or str(dtype).rpartition(".")[2]
        if name not in ALL:
            name = np.dtype(dtype).name
    if name not in _NAMES:
        raise ValueError(f"Unknown data type {dtype!r}. Expected one of {', '.join(ALL)}.")
    return name


def result_type(*dtypes: Any) -> str:
    """The type of an operation on values of these types; Python classes count as weak.

    >>> result_type("int32", "float16"), result_type("bfloat16", float)
    ('float16', 'bfloat16')
    """
    if not dtypes:
        return config.floatx()
    names = [(isinstance(d, type) and _WEAK.get(d)) or standardize(d) for d in dtypes]
    return strong(join(*names))


def is_float(name: str) -> bool:
    """Whether the named type is a floating-point one."""
    return name in FLOATS


def is_int(name: str) -> bool:
    """Whether the named type is a signed or unsigned integer."""
    return name in INTS


def limits(name: str, infinite: bool = False) -> tuple:
    """The least and the largest number of a float or integer dtype.

    Args:
        name: the dtype's name.
        infinite: whether floats have the infinities as their limits.

    >>> limits("int8"), limits("float32", infinite=True)
    ((-128, 127), (-inf, inf))
    """
    if is_float(name):
        largest = math.inf if infinite else _LARGEST[name]
        return -largest, largest
    bits = int(name.lstrip("uint"))
    return (0, 2**bits - 1) if name[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def to_numpy(name: str) -> np.dtype:
    """The numpy dtype of a name; bfloat16 and float8 come from ml_dtypes."""
    if name == "bfloat16" or name.startswith("float8"):
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))
    return np.dtype(name)


_ARRAYS = (np.ndarray, np.generic)  # a tuple: Dynamo does not trace unions


def of_literal(value: Any) -> np.ndarray:
    """A number, list or array as a numpy array: Python floats become floatx, Python ints int32."""
    array = np.asarray(value)
    if isinstance(value, _ARRAYS):
        return array
    if array.dtype == np.float64 and not hasattr(value, "dtype"):
        return array.astype(to_numpy(config.floatx()))
    if array.dtype == np.int64 and not hasattr(value, "dtype"):
        narrow = array.astype(np.int32)
        return narrow if (narrow == array).all() else array
    if array.dtype == object:
        raise TypeError(f"Cannot make a tensor of {type(value).__name__}: {str(value)[:80]!r}.")
    return array
