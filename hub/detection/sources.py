"""Pictures to look at, one after the other: files, folders, arrays, videos and cameras.

Videos and cameras are decoded by PyAV, which is imported when it is needed.
"""

import glob
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

import keraslite as keras
from hub.preprocessing.image_folder import ENDINGS
from hub.preprocessing.image_inputs import is_single_image, open_image, to_rgb
from keraslite.utils.folders import files_below

INSTALL = 'pip install "keraslite-hub[video]"'
VIDEO_ENDINGS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
_EXPECTED = (
    "pictures (paths, Pillow images, arrays of the shape (height, width, 3), or a list of these), "
    "a folder, a glob, a video, or a camera"
)
# System -> the format and the name of a camera, in FFmpeg's words.
_CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}")}


class SourcePicture(NamedTuple):
    """A picture and where it is from.

    Args:
        name: for files that are written of it, each only once.
        picture: in RGB.
        path: of its own file; None for frames and arrays.
    """

    name: str
    picture: Image.Image
    path: str | None


def read_pictures(source: Any, every: int = 1, on_error: str = "raise") -> Iterator[SourcePicture]:
    """Yield pictures one after the other; a picture is read when it is asked for.

    Args:
        source: a path, the bytes of a file, a Pillow image, an array or tensor (height, width, 3);
            several of these in a list, an iterator or an array of 4 axes; a folder with pictures
            and videos, also in folders below it; a glob such as "photos/**/*.jpg"; a video; or a
            camera by its number: 0, or "camera:0".
        every: the step between frames of a video or camera that are yielded.
        on_error: "raise" for an error at the first picture that cannot be read, or "skip" to leave
            such pictures out, with a warning that names each.

    Raises:
        FileNotFoundError: there is no such file, or nothing matches the glob.
        ImportError: PyAV is needed and not installed.
        TypeError: the source is of another type.
        ValueError: a picture cannot be read, or there is none.

    >>> pictures = read_pictures([np.zeros((4, 6, 3), "uint8")] * 2)
    >>> [(picture.name, picture.picture.size) for picture in pictures]
    [('picture_0.jpg', (6, 4)), ('picture_1.jpg', (6, 4))]
    """
    if not isinstance(every, int) or every < 1:
        raise ValueError(f"every must be an int of at least 1, got {every!r}.")
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}.")
    return _read(source, every, on_error)


def _read(source: Any, every: int, on_error: str) -> Iterator[SourcePicture]:
    names: set[str] = set()
    number = -1
    for number, item in enumerate(_items(source)):
        try:
            for name, picture, path in _open(item, number, every):
                yield SourcePicture(unused_name(name, names), picture, path)
        except (OSError, ValueError) as error:
            if on_error == "raise":
                raise
            warnings.warn(f"Left out: {error}", stacklevel=3)
    if number < 0:
        raise ValueError("There must be at least one picture, got none.")


def _camera_of(source: Any) -> int | None:
    """Return the number of a camera, or None for another source."""
    if isinstance(source, int | np.integer) and not isinstance(source, bool):
        return int(source)
    match = re.fullmatch(r"camera:(\d+)", source) if isinstance(source, str) else None
    return int(match[1]) if match else None


def _items(source: Any) -> Iterator[Any]:
    """Yield what holds one picture or one video, files by their paths."""
    if isinstance(source, str | os.PathLike) and _camera_of(source) is None:
        yield from _paths(os.fspath(source))
        return
    if is_single_image(source) or _camera_of(source) is not None:
        yield source
        return
    axes = getattr(source, "shape", None)
    if axes is not None and len(axes) in (2, 3):
        yield source
    elif isinstance(source, Iterable) and not isinstance(source, Mapping):
        for item in source:
            yield from _items(item)
    else:
        raise TypeError(f"The source must be {_EXPECTED}; got {type(source).__name__}.")


def _paths(path: str) -> Iterator[str]:
    """Yield the files of a folder or of a glob, or the path itself."""
    endings = (*ENDINGS, *VIDEO_ENDINGS)
    if os.path.isdir(path):
        files = list(files_below(path, endings, follow_links=False))
        problem: type[Exception] = ValueError
    elif glob.has_magic(path) and not os.path.exists(path):
        files = sorted(glob.glob(path, recursive=True))
        files = [file for file in files if file.lower().endswith(endings)]
        problem = FileNotFoundError
    else:
        files, problem = [path], ValueError
    if not files:
        raise problem(
            f"{path} must hold pictures or videos, with names that end in one of "
            f"{', '.join(endings)}: there are none."
        )
    yield from files


def _open(item: Any, number: int, every: int) -> Iterator[tuple[str, Image.Image, str | None]]:
    """Yield the name, the pixels and the path of one picture, or of each frame of a video."""
    camera = _camera_of(item)
    path = str(item) if isinstance(item, str | os.PathLike) else None
    if camera is not None:
        yield from _frames(*_device(camera), f"Camera {camera}", f"camera_{camera}", every)
    elif path is not None and path.lower().endswith(VIDEO_ENDINGS):
        stem = os.path.splitext(os.path.basename(path))[0]
        yield from _frames(path, None, f"Video {path}", stem, every)
    else:
        if hasattr(item, "shape") and not isinstance(item, np.ndarray):
            item = keras.ops.convert_to_numpy(item)
        own = path or getattr(item, "filename", None) or getattr(item, "name", None)
        name = os.path.basename(own) if isinstance(own, str) else ""
        name = name or f"picture_{number}.jpg"
        name = name if name.lower().endswith(ENDINGS) else f"{name}.jpg"
        yield name, to_rgb(open_image(item, f"Picture {number}")), path


def unused_name(name: str, names: set[str]) -> str:
    """Return a name for a file, with a number where it is used already, and note it as used.

    Args:
        name: the name that is wished.
        names: those that are used, to which the result is added.

    >>> used = {"a.jpg"}
    >>> unused_name("a.jpg", used), sorted(used)
    ('a_1.jpg', ['a.jpg', 'a_1.jpg'])
    """
    stem, ending = os.path.splitext(name)
    count = 1
    while name in names:
        name = f"{stem}_{count}{ending}"
        count += 1
    names.add(name)
    return name


# -- videos and cameras -------------------------------------------------------------------------


def _device(camera: int) -> tuple[str, str]:
    """Return the file and the format of a camera."""
    if sys.platform not in _CAMERAS:
        raise ValueError(
            f"Cameras can be read on {' and '.join(_CAMERAS)}, got {sys.platform}: give an "
            "iterator of frames as the source instead."
        )
    format, file = _CAMERAS[sys.platform]
    return file.format(camera), format


def _frames(
    file: str, format: str | None, title: str, stem: str, every: int
) -> Iterator[tuple[str, Image.Image, None]]:
    """Yield the names and pixels of frames of a video or a camera, decoded one by one."""
    try:
        import av
    except ImportError as error:
        raise ImportError(f"Videos are decoded by PyAV, which is missing: {INSTALL}") from error
    count = 0
    try:
        with av.open(file, format=format) as container:
            if not container.streams.video:
                raise ValueError(f"{title} must have frames: it has no video stream.")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                if count % every == 0:
                    picture = frame.to_image()
                    if frame.rotation:  # as telephones store what was filmed upright
                        picture = picture.rotate(frame.rotation, expand=True)
                    yield f"{stem}_{count:06d}.jpg", picture, None
                count += 1
    except av.error.FFmpegError as error:
        if isinstance(error, FileNotFoundError):
            raise FileNotFoundError(f"{title}: there is no file {file}.") from None
        where = f"is damaged after frame {count}" if count else "cannot be opened"
        raise ValueError(f"{title} {where}: PyAV says {error}") from error
