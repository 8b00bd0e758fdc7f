"""ImageTask: a task that reads images."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from hub.families import Family
from hub.preprocessing.image import ImagePreprocessor
from hub.preprocessing.image_folder import DEFAULT_BATCH_SIZE
from hub.preprocessing.image_inputs import is_single_image, list_images, readable_images
from hub.preprocessing.labeled_images import as_labeled, is_labeled, without_labels
from hub.presets.files import PresetFiles
from hub.tasks.task import Task
from keraslite import ops
from keraslite.saving import replacing_folder
from keraslite.training.data import StreamData

_SHOWN_ERRORS = 5  # in a warning


class ImageTask(Task):
    """A task that reads images: paths, Pillow images and arrays of any sizes.

    With a preprocessor every input is an image that it resizes and normalises; without one inputs
    are ready arrays (batch, height, width, channels).
    """

    @classmethod
    def make_preprocessor(
        cls, files: PresetFiles, family: Family, backbone: Any, **options: Any
    ) -> Any:
        """Return the preprocessor of the images of a checkpoint.

        Args:
            files: of the checkpoint.
            family: of the backbone.
            backbone: the backbone.
            options: none.
        """
        return ImagePreprocessor.from_files(files)

    def save_to_preset(self, preset_dir: Any) -> None:
        """Write weights, config and the preparation of images as timm or transformers reads them.

        Args:
            preset_dir: a folder, made if need be; `from_preset(preset_dir)` reads it again.
        """
        with replacing_folder(preset_dir) as folder:
            own = self.preprocessor
            if own is not None and getattr(own, "processor", None) != "timm":
                own.save(folder)
            super().save_to_preset(folder)

    def fit(self, x: Any = None, y: Any = None, on_error: str = "raise", **kwargs: Any) -> Any:
        """Train on images, or on ready inputs.

        Args:
            x: images: paths, Pillow images or arrays; or data as for `Model.fit`.
            y: targets, one an image.
            on_error: "raise" for an error at the first image that cannot be read; "skip" to leave
                such images out, with one warning that names them. To find them, all files are
                opened before training.
            kwargs: as for `Model.fit`.

        Raises:
            ValueError: an image cannot be read, or none can.
        """
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}.")
        if on_error == "skip":
            weights = kwargs.get("sample_weight")
            x, y, kwargs["sample_weight"] = self.readable(x, y, weights, "x")
            held_out = kwargs.get("validation_data")
            if isinstance(held_out, tuple):
                held_out = (*held_out, None, None)[:3]
                kwargs["validation_data"] = self.readable(*held_out, "validation_data")
        return super().fit(x, y, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, batch_size: Any = None, **kwargs: Any) -> Any:
        """Return the loss and the metrics on what `fit` takes.

        Args:
            x: as for `fit`.
            y: as for `fit`.
            batch_size: the number of images of a batch.
            kwargs: as for `Model.evaluate`.
        """
        if is_labeled(x):
            x = self.folder_data(x, batch_size)
        return super().evaluate(x, y, batch_size=batch_size, **kwargs)

    def predict(self, x: Any, batch_size: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Return the outputs of images, or of those of a folder in the order of its paths.

        Args:
            x: as for `fit`; a folder may have its pictures without folders of classes.
            batch_size: the number of images of a batch.
            args: as for `Model.predict`.
            kwargs: as for `Model.predict`.
        """
        if is_labeled(x) and (paths := without_labels(x)):
            x = paths
        elif is_labeled(x):
            x = as_labeled(x)
            names = x.class_names or [str(i) for i in range(max(x.labels) + 1)]
            x = self.folder_data(x, batch_size, class_names=names)
        return super().predict(x, batch_size, *args, **kwargs)

    def folder_data(
        self, folder: Any, batch_size: int | None = None, shuffle: bool = False,
        class_names: Any = None, prepare: Any = None,
    ) -> StreamData:  # fmt: skip
        """Return the images of a folder as ready data, which workers read and prepare.

        Args:
            folder: a `hub.ImageFolder`, or a path.
            batch_size: images in a batch, 32 by default.
            shuffle: whether each epoch has an order of its own.
            class_names: the names of the classes; `labels` of the task by default.
            prepare: a function from a picture to an input of the model; the preprocessor by
                default.

        Raises:
            ValueError: there is no preprocessor, or a folder is no class.
        """
        if self.preprocessor is None:
            raise ValueError("A folder of images needs a preprocessor, which the task lacks.")
        names = class_names or self.labels  # type: ignore[attr-defined]
        batches = as_labeled(folder).batches(
            batch_size or DEFAULT_BATCH_SIZE, prepare or self.preprocessor.pixels, names, shuffle
        )
        return StreamData(batches)

    def readable(self, x: Any, y: Any, sample_weight: Any, name: str) -> tuple[Any, Any, Any]:
        """Leave out the rows whose images cannot be read, with a warning.

        Args:
            x: images.
            y: targets, or None.
            sample_weight: weights, or None.
            name: of the argument, for the warning.

        Raises:
            ValueError: none can be read.
        """
        if self.preprocessor is None or not is_images(x):
            return x, y, sample_weight
        images = list_images(x)
        readable, errors = readable_images(images)
        if not errors:
            return x, y, sample_weight
        shown = "\n  ".join(errors[:_SHOWN_ERRORS])
        message = f"{len(errors)} of the {len(images)} images of {name} cannot be read:\n  {shown}"
        if not readable:
            raise ValueError(message)
        warnings.warn(f"{message}\nThey are left out.", stacklevel=3)
        return (
            [images[i] for i in readable],
            *(
                rows if rows is None else [rows[i] for i in readable] if isinstance(rows, list)
                else np.asarray(rows)[readable]
                for rows in (y, sample_weight)
            ),
        )  # fmt: skip

    def _columns(self, x: Any, y: Any) -> tuple[Any, Any]:
        if self.preprocessor is None:
            first = x[0] if isinstance(x, list | tuple) and x else x
            if is_single_image(first):
                raise TypeError(
                    f"{type(self).__name__} has no preprocessor, so images must be arrays (batch, "
                    f"height, width, channels), got {type(first).__name__}: give it a "
                    "hub.ImagePreprocessor."
                )
            return x, y
        if x is None or isinstance(x, int | float | Mapping):  # list_images says what is expected
            return list_images(x), y
        if not is_images(x):
            return x, y
        rows = list_images(x)
        column = np.empty(len(rows), dtype=object)
        column[:] = rows
        return column, y

    def _transform(self, training: bool) -> Any:
        if self.preprocessor is None:
            return None

        def prepare(x: Any, y: Any, sample_weight: Any) -> tuple:
            shape = getattr(x, "shape", ())
            if len(shape) == 3 and shape[-1] in (3, 4):  # no batch of grey images is as narrow
                raise ValueError(
                    f"Data must yield batches of images, got one image of shape {tuple(shape)}: "
                    "batch the data, such as dataset.batch(32)."
                )
            return self.preprocessor(list(x)), y, sample_weight

        return prepare

    def workload(self, count: int) -> tuple[Any, int, str]:
        """Return a prediction of images, their number, and the unit.

        Args:
            count: the number of images.
        """
        pixels = np.random.default_rng(0).integers(0, 256, (count, 256, 256, 3), "uint8")
        return lambda: self.predict(list(pixels), verbose=0), count, "images"


def is_images(x: Any) -> bool:
    """Return whether an argument is one or several images, rather than a dataset.

    Args:
        x: the argument.

    >>> is_images(["a.jpg"]), is_images(iter([]))
    (True, False)
    """
    if is_single_image(x):
        return True
    if isinstance(x, list | tuple):
        return bool(x) and all(map(_is_image, x))
    is_array = x.dtype != object if isinstance(x, np.ndarray) else ops.is_tensor(x)
    return is_array and len(x.shape) in (2, 3, 4)


def _is_image(x: Any) -> bool:
    if is_single_image(x):
        return True
    return not isinstance(x, Mapping) and len(getattr(x, "shape", ())) in (2, 3)
