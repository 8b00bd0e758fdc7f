"""Data sets of ours as those of tf.data."""

from typing import Any

import numpy as np
import tensorflow as tf


def tf_dataset(source: Any) -> tf.data.Dataset:
    """Return a data set of the elements of another one.

    Args:
        source: an iterable, with `cardinality()`. The sizes of axes are not part of the signature:
            they may differ from element to element.

    Raises:
        ValueError: there is no element.
    """
    first = next(iter(source.epoch(0)), None)
    if first is None:
        raise ValueError("The data set is empty: it must have at least one element.")
    ragged = tf.nest.map_structure(_is_ragged, first)
    signature = tf.nest.map_structure(_spec, first)

    def items() -> Any:
        for item in source:
            yield tf.nest.map_structure(_converted, item, ragged)

    made = tf.data.Dataset.from_generator(items, output_signature=signature)
    size = source.cardinality()
    made = made.apply(tf.data.experimental.assert_cardinality(size)) if size >= 0 else made
    for name in ("class_names", "file_paths"):
        if hasattr(source, name):
            setattr(made, name, getattr(source, name))
    made.keraslite_source = source  # which `fit` reads, by the numbers of epochs
    return made


def _is_ragged(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype == object and isinstance(x[0], np.ndarray)


def _spec(x: Any) -> tf.TypeSpec:
    if _is_ragged(x):
        inner = tf.as_dtype(x[0].dtype)
        return tf.RaggedTensorSpec((None, None, *x[0].shape[1:]), inner, ragged_rank=1)
    array = np.asarray(x)
    dtype = tf.string if array.dtype.kind in "OSU" else tf.as_dtype(array.dtype)
    return tf.TensorSpec((None,) * array.ndim, dtype)


def _converted(x: Any, ragged: bool) -> Any:
    if not ragged:
        return x
    return tf.RaggedTensor.from_row_lengths(tf.concat(list(x), 0), [len(row) for row in x])
