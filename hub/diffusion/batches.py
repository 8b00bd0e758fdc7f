"""Batches of few sizes, so that another number of images needs no other compiled program."""

from typing import Any

import numpy as np

import keraslite as keras
from keraslite import ops


def is_compiled(backend: str, compiled: bool | str = "auto") -> bool:
    """Return whether the functions of a pipeline are compiled.

    Args:
        backend: the backend.
        compiled: as `jit_compile` of a pipeline.

    >>> is_compiled("jax"), is_compiled("jax", False), is_compiled("torch")
    (True, False, False)
    """
    return keras.backend.compiles(backend) if compiled == "auto" else bool(compiled)


def batch_sizes(count: int, backend: str, compiled: bool | str = "auto") -> list[int]:
    """Return the sizes of the batches in which a number of images is computed.

    A compiled program is for one size, and compiling takes longer than an image. On a CPU, which
    computes several images no sooner together than one by one, the size is 1; on an accelerator
    sizes are powers of two.

    Args:
        count: the number of images.
        backend: the backend.
        compiled: as `jit_compile` of a pipeline.

    >>> batch_sizes(3, "numpy"), batch_sizes(3, "jax")
    ([3], [1, 1, 1])
    """
    if not is_compiled(backend, compiled):
        return [count]
    if not keras.backend.accelerated(backend):
        return [1] * count
    bits = range(count.bit_length() - 1, -1, -1)
    return [1 << bit for bit in bits if count >> bit & 1]


def split_rows(values: Any, sizes: list[int]) -> list[Any]:
    """Return nested arrays of rows, cut into batches.

    Args:
        values: each with as many rows as all batches have, or several times as many, one set of
            rows after the other, as the contexts of a guided network are.
        sizes: of the batches.

    >>> split_rows({"x": np.arange(6)}, [2, 1])
    [{'x': array([0, 1, 3, 4])}, {'x': array([2, 5])}]
    """
    if len(sizes) == 1:
        return [values]
    count, ends = sum(sizes), np.cumsum(sizes)

    def batch(value: Any, rows: slice) -> np.ndarray:
        value = ops.convert_to_numpy(value)
        sets = value.reshape(-1, count, *value.shape[1:])[:, rows]
        return sets.reshape(-1, *value.shape[1:])

    return [
        keras.tree.map_structure(
            lambda value, rows=slice(end - size, end): batch(value, rows), values
        )
        for size, end in zip(sizes, ends, strict=True)
    ]


def join_rows(batches: list[Any]) -> Any:
    """Return tensors of the rows of all batches.

    Args:
        batches: tensors, nested alike.
    """
    if len(batches) == 1:
        return batches[0]
    return keras.tree.map_structure(
        lambda *parts: ops.convert_to_tensor(
            np.concatenate([ops.convert_to_numpy(part) for part in parts])
        ),
        *batches,
    )


def run_in_batches(functions: Any, network: Any, function: Any, rows: Any) -> Any:
    """Return the outputs of a compiled function for rows, computed in batches of few sizes.

    Args:
        functions: a `keraslite.training.CompiledFunctions`.
        network: the network of the function.
        function: takes a tensor, and returns nested ones with as many rows.
        rows: an array or a tensor.
    """
    batches = split_rows(rows, batch_sizes(len(rows), network.backend))
    return join_rows([functions.run(network, function, batch) for batch in batches])
