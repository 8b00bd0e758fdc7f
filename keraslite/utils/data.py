"""Batches as tuples of inputs, targets and sample weights; texts in them; work on the host."""

from collections.abc import Callable
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import tree


def unpack_x_y_sample_weight(data: Any) -> tuple[Any, Any, Any]:
    """Return (x, y, sample_weight) of a batch; missing parts are None.

    Args:
        data: x, (x,), (x, y) or (x, y, sample_weight).

    >>> unpack_x_y_sample_weight((1, 2))
    (1, 2, None)
    """
    if isinstance(data, list):
        data = tuple(data)
    if not isinstance(data, tuple):
        return data, None, None
    if not 1 <= len(data) <= 3:
        raise ValueError(
            f"Data must be (x,), (x, y) or (x, y, sample_weight), got {len(data)} parts."
        )
    return (*data, None, None)[:3]


def pack_x_y_sample_weight(x: Any, y: Any = None, sample_weight: Any = None) -> Any:
    """Return a batch of x, y and sample weights: the inverse of `unpack_x_y_sample_weight`.

    Args:
        x: the inputs.
        y: the targets.
        sample_weight: the weights of the rows.

    >>> pack_x_y_sample_weight(1, 2)
    (1, 2)
    """
    if y is None:
        return x if not isinstance(x, tuple | list) else (x,)
    return (x, y) if sample_weight is None else (x, y, sample_weight)


def decode_text(x: Any) -> Any:
    """Return tensors, arrays and lists of strings as numpy arrays of str; anything else unchanged.

    Args:
        x: a tensor, an array or a list; bytes in it are UTF-8.

    >>> decode_text(np.array([b"a", b"b"])).tolist()
    ['a', 'b']
    """
    name = backends.of(x)
    if name is not None and backends.load(name).dtype_of(x) == "string":
        x = backends.to_numpy(x)
    elif isinstance(x, list) and x and isinstance(x[0], bytes):
        x = np.array(x, object)
    if not isinstance(x, np.ndarray) or x.dtype.kind not in "SUO":
        return x
    if not x.size or not isinstance(x.flat[0], str | bytes):
        return x
    flat = [v.decode() if isinstance(v, bytes) else v for v in x.ravel().tolist()]
    decoded = np.empty(len(flat), object)
    decoded[:] = flat
    return decoded.reshape(x.shape)


def call_on_host(function: Callable, *args: Any) -> Any:
    """Return function(*args) for a function that needs the values of its arguments.

    Inside of a graph of TensorFlow, such as `Dataset.map`, it is called when the graph runs, with
    numpy arrays.

    Args:
        function: of numpy arrays, lists and numbers; returns nested numpy arrays.
        args: nested.

    >>> call_on_host(len, ["a", "b"])
    2
    """
    names = {backends.of(x) for x in tree.flatten(args)} - {None}
    module = backends.load(names.pop()) if len(names) == 1 else backends.current()
    return module.host_call(function, args)
