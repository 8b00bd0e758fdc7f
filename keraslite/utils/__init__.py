"""Helpers under their Keras names: seeds, labels, data tuples, the progress bar."""

import gc
import random as python_random
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import naming
from keraslite.backend.freed_memory import release_freed_memory
from keraslite.config import (
    disable_interactive_logging,
    enable_interactive_logging,
    is_interactive_logging_enabled,
)
from keraslite.dtypes import standardize as standardize_dtype
from keraslite.random import forget_global_seed_generators
from keraslite.registry import (
    CustomObjectScope,
    custom_object_scope,
    deserialize_keras_object,
    get_custom_objects,
    get_registered_name,
    get_registered_object,
    register_keras_serializable,
    serialize_keras_object,
)
from keraslite.symbolic import KerasTensor, is_keras_tensor
from keraslite.utils import bounding_boxes, legacy
from keraslite.utils.audio_files import audio_dataset_from_directory
from keraslite.utils.config import Config
from keraslite.utils.data import (
    PyDataset,
    pack_x_y_sample_weight,
    pad_sequences,
    unpack_x_y_sample_weight,
)
from keraslite.utils.file_datasets import (
    image_dataset_from_directory,
    text_dataset_from_directory,
)
from keraslite.utils.files import get_file
from keraslite.utils.images import array_to_img, img_to_array, load_img, save_img
from keraslite.utils.model_drawing import model_to_dot, plot_model
from keraslite.utils.progress import Progbar
from keraslite.utils.splitting import split_dataset
from keraslite.utils.tables import line_length_for, text_table
from keraslite.utils.time_windows import timeseries_dataset_from_array


def set_random_seed(seed: int) -> None:
    """Fix the random numbers of Python, numpy, keraslite and the frameworks that are loaded.

    Args:
        seed: a non-negative int below 2**32.

    >>> set_random_seed(7); first = np.random.rand()
    >>> set_random_seed(7); first == np.random.rand()
    True
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"A seed is an int from 0 to 2**32 - 1, got {seed!r}.")
    python_random.seed(seed)
    forget_global_seed_generators()
    backends.seed_frameworks(seed)


def clear_session(free_memory: bool = True) -> None:
    """Start the automatic names and the global random numbers again.

    Args:
        free_memory: whether memory that the process keeps for its next arrays goes back to the
            system.

    >>> clear_session(); naming.auto_name("dense")
    'dense'
    """
    naming.reset_names()
    forget_global_seed_generators()
    if free_memory:
        gc.collect()
        release_freed_memory()


Sequence = PyDataset  # its name in older code
backends.clear_session = clear_session  # type: ignore[attr-defined]


def to_categorical(x: Any, num_classes: int | None = None) -> Any:
    """Class numbers as rows with a one in the place of the class.

    Args:
        x: integers; a last axis of size one is dropped.
        num_classes: how many classes there are; the largest number plus one by default.

    Returns:
        A float32 numpy array, or a tensor where a tensor was given.

    >>> to_categorical([0, 2])
    array([[1., 0., 0.],
           [0., 0., 1.]], dtype=float32)
    """
    name = backends.of(x)
    labels = backends.to_numpy(x).astype("int64")
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    count = int(labels.max()) + 1 if num_classes is None and labels.size else num_classes or 0
    if labels.size and (labels.min() < 0 or labels.max() >= count):
        raise ValueError(f"The labels go from {labels.min()} to {labels.max()}, not below {count}.")
    rows = np.eye(count, dtype="float32")[labels]
    return rows if name is None else backends.load(name).convert(rows)


def normalize(x: Any, axis: int = -1, order: int = 2) -> Any:
    """Vectors along an axis divided by their norm.

    Args:
        x: an array or tensor.
        axis: the axis.
        order: of the norm; 2 is the Euclidean one.

    >>> normalize(np.array([[3.0, 4.0]]))
    array([[0.6, 0.8]])
    """
    if backends.of(x) is not None:
        from keraslite import ops

        return ops.normalize(x, axis=axis, order=order)
    x = np.asarray(x)
    norm = np.atleast_1d(np.linalg.norm(x, order, axis))
    norm[norm == 0] = 1
    return x / np.expand_dims(norm, axis)


def get_source_inputs(tensor: Any) -> list[KerasTensor]:
    """Return the inputs that a symbolic tensor is computed from.

    Args:
        tensor: a KerasTensor.

    >>> x, y = layers.Input((2,)), layers.Input((2,))
    >>> [source is x for source in get_source_inputs(ops.relu(x))]
    [True]
    """
    sources, waiting, seen = [], [tensor], set()
    while waiting:
        x = waiting.pop()
        if id(x) in seen:
            continue
        seen.add(id(x))
        inputs = [] if x.node is None else x.node.inputs
        if inputs:
            waiting += reversed(inputs)
        else:
            sources.append(x)
    return sources


__all__ = [
    "Config", "CustomObjectScope", "KerasTensor", "Progbar", "PyDataset", "Sequence",
    "array_to_img", "audio_dataset_from_directory", "bounding_boxes", "clear_session",
    "custom_object_scope", "deserialize_keras_object", "disable_interactive_logging",
    "enable_interactive_logging", "get_custom_objects", "get_file", "get_registered_name",
    "get_registered_object", "get_source_inputs", "image_dataset_from_directory", "img_to_array",
    "is_interactive_logging_enabled", "is_keras_tensor", "legacy", "line_length_for", "load_img",
    "model_to_dot", "normalize", "pack_x_y_sample_weight", "pad_sequences", "plot_model",
    "register_keras_serializable", "save_img", "serialize_keras_object", "set_random_seed",
    "split_dataset", "standardize_dtype", "text_dataset_from_directory", "text_table",
    "timeseries_dataset_from_array", "to_categorical", "unpack_x_y_sample_weight",
]  # fmt: skip
