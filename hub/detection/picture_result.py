"""PictureResult: the base of the results of detectors and segmenters for one picture."""

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from PIL import Image

from hub.preprocessing.image_inputs import open_image, to_rgb


class PictureResult(ABC):
    """The result of one picture, which can be drawn on it.

    Args:
        picture: a Pillow image or an array; read from `path` when it is needed by default.
        path: of the picture.
        size: the height and width of the picture; those of `picture` by default.
        name: the name of the picture in files; that of `path` by default.
    """

    def __init__(
        self,
        picture: Any = None,
        path: str | os.PathLike | None = None,
        size: tuple[int, int] | None = None,
        name: str | None = None,
    ):
        self.path = None if path is None else os.fspath(path)
        self.name = name or (os.path.basename(self.path) if self.path else "picture.jpg")
        self._picture, self._size = picture, size

    @property
    def picture(self) -> Image.Image:
        """The picture in RGB, read when it is asked for.

        Raises:
            ValueError: there is neither a picture nor a path.
        """
        source = self.path if self._picture is None else self._picture
        if source is None:
            raise ValueError(
                f"{self.name} has no pixels: make {type(self).__name__} with picture or path."
            )
        return to_rgb(open_image(source, self.name))

    @property
    def size(self) -> tuple[int, int]:
        """The height and width of the picture."""
        if self._size is None:
            self._size = self.picture.size[::-1]
        return self._size

    @abstractmethod
    def plot(self, *arguments: Any, **options: Any) -> Image.Image:
        """Return the picture with the result drawn on it."""

    def save(self, path: str | os.PathLike, **options: Any) -> str:
        """Write the picture with the result drawn on it, and return the path.

        Args:
            path: of the file, or a folder, in which it has the name of the picture.
            options: as for `plot`.

        Raises:
            ValueError: the path is that of the picture itself.
        """
        place = Path(path)
        if place.is_dir() or str(path).endswith(("/", os.sep)):
            place = place / self.name
        if self.path is not None and place.resolve() == Path(self.path).resolve():
            raise ValueError(f"{place} is the picture itself, which would be lost: name another.")
        place.parent.mkdir(parents=True, exist_ok=True)
        self.plot(**options).save(place)
        return str(place)

    def picture_facts(self) -> dict[str, Any]:
        """Return what JSON has of the picture: its name, path, height and width."""
        height, width = self.size
        return {"picture": self.name, "path": self.path, "height": height, "width": width}
