"""Functions of JAX as programs of StableHLO."""

from collections.abc import Callable, Sequence

import jax
from jax import export

from keraslite.backend.errors import UnsupportedOpsError


def serialized(
    function: Callable, specs: Sequence[tuple[tuple, str]], pack: Callable[[list], list],
    platforms: tuple[str, ...], vjp_order: int, max_sizes: dict[int, int],
) -> bytes:  # fmt: skip
    """Trace a function with symbolic sizes, and return the program.

    Free axes of one place in several inputs have sizes of their own; where that cannot be they
    have the same size.

    Args:
        function: the function.
        specs: (shape, dtype) of each input; None for free axes.
        pack: makes the arguments of the function of a list of inputs.
        platforms: what the program runs on.
        vjp_order: how often it can be differentiated.
        max_sizes: the largest size of free axes, by their place.

    Raises:
        UnsupportedOpsError: the function cannot be traced so.
    """
    failures: list[Exception] = []
    for is_shared in (False, True):
        if is_shared and len(specs) < 2:
            continue
        structs = _structs(specs, is_shared, max_sizes)
        try:
            program = export.export(jax.jit(function), platforms=platforms)(*pack(structs))
            return bytes(program.serialize(vjp_order=vjp_order))
        except Exception as error:  # whose class says little
            failures.append(error)
    error = failures[0]
    raise UnsupportedOpsError([], f"{type(error).__name__}: {error}") from error


def _structs(
    specs: Sequence[tuple[tuple, str]], is_shared: bool, max_sizes: dict[int, int]
) -> list[jax.ShapeDtypeStruct]:
    names = [
        [
            _name(i, axis, is_shared) if size is None else str(size)
            for axis, size in enumerate(shape)
        ]
        for i, (shape, _) in enumerate(specs)
    ]
    free = {name: axis for row in names for axis, name in enumerate(row) if not name.isdigit()}
    limits = [f"{name} <= {max_sizes[axis]}" for name, axis in free.items() if axis in max_sizes]
    scope = export.SymbolicScope(limits)
    return [
        jax.ShapeDtypeStruct(
            export.symbolic_shape(", ".join(row), scope=scope), jax.dtypes.canonicalize_dtype(dtype)
        )
        for row, (_, dtype) in zip(names, specs, strict=True)
    ]


def _name(i: int, axis: int, is_shared: bool) -> str:
    if axis == 0:
        return "batch"
    return f"size{axis}" if is_shared else f"size{i}_{axis}"
