"""Functions of numpy arrays as nodes of a graph, such as that of a `tf.data.Dataset.map`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keraslite.backend.tensorflow.tensors import to_numpy


def host_call(function: Callable, args: Any, example: Any, shapes: Any) -> Any:
    """Add a node that runs a function of arrays wherever its graph runs.

    Args:
        function: takes arrays (strings as str) in the structure of `args` and returns arrays.
        args: tensors of the graph, nested; None stays None.
        example: what the function returns for some arrays: its structure and dtypes count.
        shapes: the static shape of each leaf of the example, in order.

    Returns:
        Tensors of the graph in the structure of the example.
    """
    flat = tf.nest.flatten(example)
    dtypes = [tf.as_dtype(tf.string if a.dtype.kind in "OSU" else a.dtype) for a in flat]

    def run(*values: Any) -> list[np.ndarray]:
        leaves = [to_numpy(v) for v in values]
        out = function(tf.nest.pack_sequence_as(args, leaves))
        pairs = zip(tf.nest.flatten(out), dtypes, strict=True)
        return [np.asarray(a, None if d == tf.string else d.as_numpy_dtype) for a, d in pairs]

    outputs = tf.py_function(run, tf.nest.flatten(args), dtypes)
    for tensor, shape in zip(outputs, shapes, strict=True):
        tensor.set_shape(shape)
    return tf.nest.pack_sequence_as(example, outputs)


def ragged_tensor(values: Any, lengths: Any) -> tf.RaggedTensor:
    """Make a tensor of rows of several lengths.

    Args:
        values: the elements of all rows, one after the other.
        lengths: the number of elements of each row.
    """
    return tf.RaggedTensor.from_row_lengths(values, lengths)
