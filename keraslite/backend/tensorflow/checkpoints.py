"""Checkpoints of `tf.train.Checkpoint`: the objects in them, and the values of their variables."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VALUE = "VARIABLE_VALUE"


@dataclass
class SavedObject:
    """An object in a checkpoint.

    Args:
        children: the objects in its attributes, by the names of these.
        key: where the checkpoint has its value, if it is a variable.
    """

    children: dict[str, int] = field(default_factory=dict)
    key: str | None = None


class Checkpoint:
    """A checkpoint: `objects`, of which the first is the root, and the values of variables.

    Args:
        prefix: the path without `.index` and `.data-00000-of-00001`.

    Raises:
        ValueError: it cannot be read, or is not of `tf.train.Checkpoint`.
    """

    def __init__(self, prefix: str):
        self._prefix = prefix
        self._reader = self._read(tf.train.load_checkpoint, prefix)
        self._shapes = self._reader.get_variable_to_shape_map()
        if _GRAPH not in self._shapes:
            raise ValueError(
                f"{prefix} is a checkpoint without objects (of TensorFlow 1), expected one of "
                "tf.train.Checkpoint or of model.save_weights() of tf.keras."
            )
        graph = TrackableObjectGraph()
        self._read(graph.ParseFromString, self._read(self._reader.get_tensor, _GRAPH))
        self.objects = [
            SavedObject(
                {child.local_name: child.node_id for child in node.children},
                next((a.checkpoint_key for a in node.attributes if a.name == _VALUE), None),
            )
            for node in graph.nodes
        ]
        ids = {i for x in self.objects for i in x.children.values()}
        if not self.objects or (ids and not 0 <= min(ids) <= max(ids) < len(self.objects)):
            raise ValueError(f"{prefix} is damaged: its objects name others that are not there.")

    def _read(self, function: Any, *args: Any) -> Any:
        try:
            return function(*args)
        except Exception as error:  # of many classes, protobuf's among them
            said = " ".join(str(error).split())[:300]
            raise ValueError(f"{self._prefix} cannot be read: it is damaged ({said}).") from error

    def shape(self, key: str) -> tuple[int, ...] | None:
        """Return the shape of a value; None where there is none."""
        shape = self._shapes.get(key)
        return None if shape is None else tuple(shape)

    def value(self, key: str) -> np.ndarray:
        """Read a value."""
        return self._read(self._reader.get_tensor, key)


def latest(folder: str) -> str | None:
    """Return the prefix of the latest checkpoint in a folder; None if it has none."""
    return tf.train.latest_checkpoint(folder)
