"""ImageTask: a task that reads images."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from hub.families import Family
from hub.preprocessing.image import ImagePreprocessor
from hub.preprocessing.image_inputs import list_images
from hub.presets.files import PresetFiles
from hub.tasks.task import Task
from keraslite.saving import replacing_folder


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
            if self.preprocessor is not None and self.preprocessor.processor != "timm":
                self.preprocessor.save(folder)
            super().save_to_preset(folder)

    def _columns(self, x: Any, y: Any) -> tuple[Any, Any]:
        if self.preprocessor is None or not is_images(x):
            return x, y
        rows = list_images(x)
        column = np.empty(len(rows), dtype=object)
        column[:] = rows
        return column, y

    def _transform(self, training: bool) -> Any:
        if self.preprocessor is None:
            return None

        def prepare(x: Any, y: Any, sample_weight: Any) -> tuple:
            return self.preprocessor(list(x)), y, sample_weight

        return prepare

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """Return the outputs for images or ready inputs.

        Args:
            x: images as for `hub.ImagePreprocessor`, or data as for `Model.predict`; ready arrays
                where there is no preprocessor.
            batch_size: the number of images of a batch.
            verbose: 0 silent, 1 a progress bar.
            steps: as for `Model.predict`.
            callbacks: as for `Model.predict`.
        """
        x, _ = self._columns(x, None)
        return super().predict(x, batch_size, verbose, steps, callbacks)

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
    if isinstance(x, str | os.PathLike | Image.Image):
        return True
    if isinstance(x, list | tuple):
        return bool(x) and all(map(_is_image, x))
    return isinstance(x, np.ndarray) and x.dtype != object and x.ndim in (2, 3, 4)


def _is_image(x: Any) -> bool:
    if isinstance(x, str | os.PathLike | Image.Image):
        return True
    return not isinstance(x, Mapping) and len(getattr(x, "shape", ())) in (2, 3)
