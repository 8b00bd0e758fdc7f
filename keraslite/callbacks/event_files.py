"""Event files, which TensorBoard reads: scalars, histograms, images and models by step.

They are written with the package `tensorboard` alone, which imports no framework for it.
"""

import io
import os
import time
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

_FILE_NUMBERS = count()  # of this process: two files of one second have different names
_SECONDS = 5.0  # between two writes of what is collected
_IMAGES = 3  # of a batch of images at most, as in TensorFlow


def require_tensorboard() -> None:
    """Raise an ImportError that tells what to install, where tensorboard is missing."""
    try:
        import tensorboard.summary.writer.record_writer  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "The callback TensorBoard writes its files with the package tensorboard, which is not "
            "installed: pip install tensorboard."
        ) from error


class EventFile:
    """A file of events for TensorBoard, which grows as they are added.

    Args:
        folder: of a run of TensorBoard; it is made with the first event.

    Attributes:
        path: the file.

    Raises:
        ImportError: tensorboard is not installed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     events = EventFile(folder)
    ...     events.scalar("loss", 0.5, step=1)
    ...     events.flush()
    ...     events.path.stat().st_size > 0
    True
    """

    def __init__(self, folder: Any):
        import platform  # which takes time

        require_tensorboard()
        host = platform.node()
        # TensorBoard reads the files of a folder in the order of their names.
        name = f"{int(time.time())}.{host}.{os.getpid()}.{next(_FILE_NUMBERS):06}"
        self.path = Path(folder, f"events.out.tfevents.{name}.v2")
        self._waiting: list[bytes] = []
        self._written = time.monotonic()
        self._add(file_version="brain.Event:2")

    def scalar(self, tag: str, value: Any, step: int) -> None:
        """Add a number, as float32.

        Args:
            tag: its name.
            value: the number.
            step: the step.
        """
        from tensorboard.plugins.scalar import metadata

        self._add_summary(tag, np.float32(value), step, metadata)

    def histogram(self, tag: str, values: np.ndarray, step: int) -> None:
        """Add how values are distributed, in 30 buckets of one width.

        Args:
            tag: its name.
            values: an array of any shape.
            step: the step.
        """
        from tensorboard.plugins.histogram import metadata

        self._add_summary(tag, _buckets(np.asarray(values, "float64")), step, metadata)

    def images(self, tag: str, images: np.ndarray, step: int) -> None:
        """Add the first images of a batch.

        Args:
            tag: its name.
            images: (images, height, width, channels) of 1, 3 or 4 channels; floats from 0 to 1,
                what is outside is cut off, or integers up to the largest of their dtype.
            step: the step.
        """
        from tensorboard.plugins.image import metadata

        pixels = _bytes_of(images)
        sizes = [str(n).encode() for n in (images.shape[2], images.shape[1])]
        strings = np.array(sizes + [_png(image) for image in pixels[:_IMAGES]], object)
        self._add_summary(tag, strings, step, metadata)

    def model(self, tag: str, config: str, step: int) -> None:
        """Add the config of a model, of which TensorBoard draws a graph of layers.

        Args:
            tag: its name.
            config: the JSON of `Model.to_json`.
            step: the step.
        """
        from tensorboard.plugins.graph import metadata

        name = metadata.PLUGIN_NAME_KERAS_MODEL
        self._add_summary(tag, np.array(config.encode(), object), step, plugin_name=name)

    def flush(self) -> None:
        """Write what was added."""
        from tensorboard.summary.writer.record_writer import RecordWriter

        if self._waiting:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab") as file:
                writer = RecordWriter(file)
                for event in self._waiting:
                    writer.write(event)
        self._waiting, self._written = [], time.monotonic()

    def _add_summary(
        self, tag: str, value: Any, step: int, metadata: Any = None, plugin_name: str = ""
    ) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
        from tensorboard.util.tensor_util import make_tensor_proto

        if metadata is not None:
            described = metadata.create_summary_metadata(display_name=None, description=None)
        else:  # content: the version of the plugin's data
            plugin = SummaryMetadata.PluginData(plugin_name=plugin_name, content=b"1")
            described = SummaryMetadata(plugin_data=plugin)
        summary = Summary()
        summary.value.add(tag=tag, metadata=described, tensor=make_tensor_proto(value))
        self._add(summary=summary, step=step)
        if time.monotonic() - self._written > _SECONDS:
            self.flush()

    def _add(self, **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._waiting.append(Event(wall_time=time.time(), **fields).SerializeToString())


def _buckets(values: np.ndarray, number: int = 30) -> np.ndarray:
    """Return (left edge, right edge, count) of each bucket; all in the last where all are equal."""
    values = values.ravel()
    if not values.size:
        return np.zeros((number, 3))
    low, high = values.min(), values.max()
    if not high > low or not np.isfinite(high - low):
        counts = np.zeros(number)
        counts[-1] = values.size
        return np.stack([np.full(number, low), np.full(number, high), counts], 1)
    edges = np.linspace(low, high, number + 1)
    places = np.minimum(((values - low) / ((high - low) / number)).astype(int), number - 1)
    return np.stack([edges[:-1], edges[1:], np.bincount(places, minlength=number)], 1)


def _bytes_of(images: np.ndarray) -> np.ndarray:
    """Return images as bytes, rounded as TensorFlow does."""
    if images.dtype.kind in "iu":
        images = images / np.iinfo(images.dtype).max
    return np.clip(np.nan_to_num(images) * 255.5, 0, 255).astype("uint8")


def _png(image: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "png")
    return file.getvalue()
