"""Readers of annotated pictures: YOLO's data.yaml, COCO's JSON, Pascal VOC's XML.

Each returns `Annotations` without opening a picture. A line or an entry that is broken goes to
`Problems`, with its file and line.
"""

import glob
import json
import os
import warnings
import xml.parsers.expat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hub.preprocessing.image_folder import ENDINGS
from keraslite.utils.folders import files_below

IGNORED, PADDING = -2, -1  # labels of a crowd box, and of a row of no box
_SHOWN = 10  # messages in a warning
_PARTS = ("train", "val", "test")


class Annotations(NamedTuple):
    """Pictures and their boxes, as a file has them.

    Args:
        pictures: paths, or what `hub.preprocessing.image_inputs.open_image` takes.
        boxes: (boxes, 4), of all pictures one after the other.
        labels: (boxes,), class numbers.
        ignored: (boxes,), whether a box is a crowd or a difficult object.
        counts: (pictures,), how many boxes each has.
        place: a function from the number of a box to its place in words: a file and a line.
        bounding_box_format: of the boxes.
        class_names: the names of the classes; None if they have none.
    """

    pictures: Sequence[Any]
    boxes: np.ndarray
    labels: np.ndarray
    ignored: np.ndarray
    counts: np.ndarray
    place: Callable[[int], str]
    bounding_box_format: str
    class_names: list[str] | None


class Problems:
    """Faults of a data set: each an error at once, or all in one warning at the end.

    Args:
        on_error: "raise" or "skip".

    Raises:
        ValueError: on_error is neither.
    """

    def __init__(self, on_error: str):
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}.")
        self.on_error = on_error
        self.messages: list[str] = []

    def add(self, message: str, error: type[Exception] = ValueError) -> None:
        """Raise an error, or note it."""
        if self.on_error == "raise":
            raise error(message)
        self.messages.append(message)

    def warn(self) -> None:
        """Warn of all that was noted, and forget it."""
        if not self.messages:
            return
        rest = len(self.messages) - _SHOWN
        shown = self.messages[:_SHOWN] + ([f"and {rest} more."] if rest > 0 else [])
        self.messages = []
        warnings.warn("Left out of the data:\n  " + "\n  ".join(shown), stacklevel=4)


class Rows:
    """The boxes of a reader, one after the other, with their places."""

    def __init__(self) -> None:
        self.boxes: list[Sequence[float]] = []
        self.labels: list[int] = []
        self.ignored: list[bool] = []
        self.places: list[tuple[str, Any]] = []  # a file, and what is named after it

    def add(
        self, box: Sequence[float], label: int, place: tuple[str, Any], ignored: bool = False
    ) -> None:
        """Add a box."""
        self.boxes.append(box)
        self.labels.append(label)
        self.ignored.append(ignored)
        self.places.append(place)

    def annotations(
        self, pictures: Sequence[Any], counts: Sequence[int], word: str, box_format: str,
        class_names: list[str] | None,
    ) -> Annotations:  # fmt: skip
        """Return the boxes as arrays.

        Args:
            pictures: the pictures.
            counts: how many boxes each has.
            word: what stands between a file and a number in the name of a place, such as "line".
            box_format: the format of the boxes.
            class_names: the names of the classes.
        """
        places = self.places
        return Annotations(
            pictures, np.array(self.boxes, "float32").reshape(-1, 4),
            np.array(self.labels, "int64"), np.array(self.ignored, bool),
            np.array(counts, "int64"), lambda i: f"{places[i][0]}, {word} {places[i][1]}",
            box_format, class_names,
        )  # fmt: skip


# -- YOLO --------------------------------------------------------------------------------------


def yolo_parts(file: Any) -> list[str]:
    """Return the names of the parts of a YOLO data set; none where the argument is no such.

    Args:
        file: a data.yaml, or a folder that has one; or anything else.

    >>> yolo_parts({"images": []})
    []
    """
    if not isinstance(file, str | os.PathLike):
        return []
    path = Path(os.fspath(file))
    path = path / "data.yaml" if path.is_dir() else path
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        return []
    config = _read_yaml(path)
    return [part for part in _PARTS if config.get(part) is not None]


def read_yolo(file: Any, split: str, problems: Problems) -> Annotations:
    """Read a part of a YOLO data set.

    Args:
        file: a data.yaml, or a folder that has one: `names` (a list, or a mapping from class
            numbers) or `nc`, and under the name of the part a folder of pictures, a text file of
            their paths, or a list of these, below `path` or the folder of the file.
        split: "train", "val" or another part.
        problems: where broken lines go.

    Raises:
        ValueError: the file lacks something, or a label file has a broken line.
    """
    path = Path(os.fspath(file))
    path = path / "data.yaml" if path.is_dir() else path
    config = _read_yaml(path)
    names = _yolo_names(config, path)
    if config.get(split) is None:
        parts = [part for part in _PARTS if config.get(part) is not None]
        raise ValueError(f"{path} has no part {split!r}, it has {parts}.")
    sources = config[split] if isinstance(config[split], list) else [config[split]]
    pictures = [p for source in sources for p in _yolo_pictures(source, config, path)]
    if not pictures:
        raise ValueError(f"{path}: there are no pictures in {split!r}, {config[split]!r}.")
    rows, counts, missing = Rows(), [], 0
    for picture in pictures:
        before, label_file = len(rows.boxes), label_path(picture)
        if not os.path.isfile(label_file):
            label_file = str(Path(picture).with_suffix(".txt"))
        is_labelled = os.path.isfile(label_file)  # a picture without objects has no such file
        missing += not is_labelled
        try:
            text = Path(label_file).read_text("utf-8-sig") if is_labelled else ""
        except UnicodeDecodeError as error:
            problems.add(f"{label_file} must be text in UTF-8: {error}")
            text = ""
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip():
                continue
            try:
                rows.add(*_yolo_line(line), (label_file, number))
            except ValueError as error:
                problems.add(f"{label_file}, line {number}: {error}")
        counts.append(len(rows.boxes) - before)
    if missing == len(pictures):
        raise ValueError(
            f"{path}: none of the {len(pictures)} pictures of {split!r} has a label file, such as "
            f"{label_path(pictures[0])}."
        )
    return rows.annotations(pictures, counts, "line", "rel_center_xywh", names)


def label_path(picture: str) -> str:
    """Return the path of the label file of a picture, in the folder labels beside that of images.

    >>> label_path("coco/images/train/1.jpg").replace(os.sep, "/")
    'coco/labels/train/1.txt'
    """
    folders = list(Path(picture).with_suffix(".txt").parts)
    places = [i for i, name in enumerate(folders[:-1]) if name == "images"]
    if places:
        folders[places[-1]] = "labels"
    return str(Path(*folders))


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError as error:
        raise ImportError("A data.yaml needs PyYAML: pip install pyyaml.") from error
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must have entries `train`, `val` and `names`.")
    return content


def _yolo_names(config: Mapping[str, Any], path: Path) -> list[str]:
    names, count = config.get("names"), config.get("nc")
    if names is None and isinstance(count, int):
        names = [str(i) for i in range(count)]
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list) or not names:
        raise ValueError(
            f"{path}: names must be a list, or a mapping of the numbers from 0 on, got {names!r}."
        )
    if count is not None and count != len(names):
        raise ValueError(f"{path}: nc must be the number of names, {len(names)}, got {count!r}.")
    return [str(name) for name in names]


def _yolo_pictures(source: Any, config: Mapping[str, Any], path: Path) -> list[str]:
    """Return the pictures of a folder, of a pattern, or of a text file of paths."""
    root = path.parent / str(config.get("path") or "")
    if not root.is_dir():  # a path of another machine
        root = path.parent
    # Exports name folders from that of their notebook, one too high.
    candidates = [root / str(source), root / str(source).removeprefix("../")]
    at = next((p for p in candidates if p.exists()), candidates[0])
    if at.is_dir():
        return list(files_below(str(at), ENDINGS, True))
    if at.suffix == ".txt" and at.is_file():
        lines = [line.strip() for line in at.read_text("utf-8").splitlines()]
        return [os.path.normpath(_listed(line, at.parent, root)) for line in lines if line]
    pictures = sorted(p for p in glob.glob(str(at), recursive=True) if p.lower().endswith(ENDINGS))
    if not pictures:
        raise ValueError(f"{path}: there is no folder or list of pictures {at}.")
    return pictures


def _listed(line: str, folder: Path, root: Path) -> str:
    """Return the path of a line: relative to the list if it begins with "./", else to the root."""
    return str((folder if line.startswith("./") else root) / line)


def _yolo_line(line: str) -> tuple[list[float], int]:
    """Return the box and the class of a line: a class and four numbers, or a polygon."""
    words = line.split()
    numbers = [float(word) for word in words]
    if len(numbers) >= 7 and len(numbers) % 2:
        x, y = numbers[1::2], numbers[2::2]
        box = [(min(x) + max(x)) / 2, (min(y) + max(y)) / 2, max(x) - min(x), max(y) - min(y)]
    elif len(numbers) == 5:
        box = numbers[1:]
    else:
        raise ValueError(
            "expected a class number and four numbers, x and y of the centre, width and height, "
            f"got {line.strip()!r}."
        )
    if not (0 <= numbers[0] < 2**31 and numbers[0].is_integer()):
        raise ValueError(f"the class must be a whole number from 0 on, got {words[0]!r}.")
    return box, int(numbers[0])


# -- COCO --------------------------------------------------------------------------------------


def read_coco(file: Any, pictures: Any, problems: Problems) -> Annotations:
    """Read a file of COCO's annotations of objects.

    The classes are the categories in the order of their ids; crowds are ignored boxes.

    Args:
        file: a JSON file.
        pictures: the folder of the pictures; one beside the file by default.
        problems: where entries go that name no picture or category.

    Raises:
        ValueError: the file is no such JSON.
        FileNotFoundError: there is no folder with the first picture.
    """
    path = Path(os.fspath(file))
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    lists = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in lists):
        raise ValueError(f"{path} must have the lists {', '.join(lists)} of COCO.")
    try:
        categories = sorted(content["categories"], key=lambda row: row["id"])
        numbers = {row["id"]: i for i, row in enumerate(categories)}
        images = {row["id"]: row["file_name"] for row in content["images"]}
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: each category must have an id, all of one type, and each image an id and a "
            f"file_name, got {error}."
        ) from error
    if not images:
        raise ValueError(f"{path} has no images.")
    folder = _coco_folder(path, pictures, list(images.values()))
    of_image: dict[Any, list[tuple]] = {i: [] for i in images}
    for place, row in enumerate(content["annotations"]):
        name = (str(path), row.get("id", f"number {place}") if isinstance(row, dict) else place)
        try:
            box = [float(v) for v in row["bbox"]]
            if len(box) != 4:
                raise ValueError(f"bbox must be four numbers, got {row['bbox']!r}.")
            for key, ids in (("category_id", numbers), ("image_id", of_image)):
                if row[key] not in ids:
                    raise ValueError(f"there is no {key} {row[key]!r}.")
            entry = (box, numbers[row["category_id"]], name, bool(row.get("iscrowd", 0)))
            of_image[row["image_id"]].append(entry)
        except KeyError as error:
            problems.add(f"{name[0]}, annotation {name[1]}: it has no {error.args[0]}.")
        except (TypeError, ValueError) as error:
            problems.add(f"{name[0]}, annotation {name[1]}: {error}")
    rows = Rows()
    for entries in of_image.values():
        for entry in entries:
            rows.add(*entry)
    paths = [str(folder / name) for name in images.values()]
    counts = [len(entries) for entries in of_image.values()]
    names = [str(row.get("name", row["id"])) for row in categories]
    return rows.annotations(paths, counts, "annotation", "xywh", names)


def _coco_folder(path: Path, pictures: Any, names: Sequence[str]) -> Path:
    if pictures is not None:
        return Path(os.fspath(pictures))
    part = path.stem.rpartition("_")[2]  # instances_train2017.json
    above = path.parent.parent
    candidates = [
        path.parent, path.parent / "images", above, above / part, above / "images",
        above / "images" / part,
    ]  # fmt: skip
    for folder in candidates:
        if any((folder / name).is_file() for name in names):
            return folder
    raise FileNotFoundError(
        f"There is no picture of {path}, such as {names[0]}, in {[str(c) for c in candidates]}: "
        "say where they are, by hub.DetectionDataset.from_coco(file, pictures=folder)."
    )


# -- Pascal VOC --------------------------------------------------------------------------------


def read_voc(
    folder: Any, split: str | None, class_names: Sequence[str] | None, problems: Problems
) -> Annotations:
    """Read a folder of Pascal VOC: Annotations/*.xml and JPEGImages.

    Its boxes count pixels from 1 on and name the last one; difficult objects are ignored boxes.

    Args:
        folder: the folder.
        split: a list in ImageSets/Main, such as "train"; None for all annotations.
        class_names: the names of the classes in order; those of the objects, sorted, by default.
        problems: where broken files and objects go.

    Raises:
        ValueError: there are no annotations.
    """
    root = Path(os.fspath(folder))
    files = sorted((root / "Annotations").glob("*.xml"))
    if split is not None:
        lines = (root / "ImageSets" / "Main" / f"{split}.txt").read_text("utf-8").splitlines()
        files = [root / "Annotations" / f"{line.split()[0]}.xml" for line in lines if line.strip()]
    if not files:
        raise ValueError(f"{root} must have files Annotations/*.xml.")
    pictures, annotated, counts = [], [], []
    for path in files:
        try:
            name, objects = _voc_file(path, problems)
        except (OSError, ValueError) as error:
            problems.add(str(error))
            continue
        pictures.append(str(root / "JPEGImages" / (name or f"{path.stem}.jpg")))
        annotated.append(objects)
    names = sorted({row[1] for objects in annotated for row in objects})
    names = names if class_names is None else list(class_names)
    numbers, rows = {name: i for i, name in enumerate(names)}, Rows()
    for objects in annotated:
        before = len(rows.boxes)
        for box, name, place, difficult in objects:
            if name in numbers:
                rows.add(box, numbers[name], place, difficult)
            else:
                problems.add(
                    f"{place[0]}, line {place[1]}: the class must be one of {names}, got {name!r}."
                )
        counts.append(len(rows.boxes) - before)
    return rows.annotations(pictures, counts, "line", "xyxy", names)


class _Element(NamedTuple):
    name: str
    line: int
    text: list[str]
    children: list["_Element"]

    def all(self, name: str) -> Iterator["_Element"]:
        return (child for child in self.children if child.name == name)

    def value(self, name: str, default: str | None = None) -> str:
        child = next(self.all(name), None)
        if child is not None:
            return "".join(child.text).strip()
        if default is None:
            raise ValueError(f"<{self.name}> has no <{name}>.")
        return default


def _read_xml(path: Path) -> _Element:
    """Return the elements of a file with their lines; entities are refused."""
    document = _Element("", 0, [], [])
    open_elements = [document]
    parser = xml.parsers.expat.ParserCreate()

    def start(name: str, attributes: Any) -> None:
        element = _Element(name, parser.CurrentLineNumber, [], [])
        open_elements[-1].children.append(element)
        open_elements.append(element)

    def refuse(*_: Any) -> None:
        raise ValueError(f"{path}, line {parser.CurrentLineNumber}: entities are not read.")

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda name: open_elements.pop()
    parser.CharacterDataHandler = lambda text: open_elements[-1].text.append(text)
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(path.read_bytes(), True)
    except xml.parsers.expat.ExpatError as error:
        message = xml.parsers.expat.ErrorString(error.code)
        raise ValueError(f"{path}, line {error.lineno}: no XML: {message}.") from error
    return document.children[0]


def _voc_file(path: Path, problems: Problems) -> tuple[str, list[tuple]]:
    """Return the name of a picture, and (box, class name, place, difficult) of its objects."""
    root = _read_xml(path)
    objects = []
    for element in root.all("object"):
        place = (str(path), element.line)
        try:
            corners = next(element.all("bndbox"), None)
            if corners is None:
                raise ValueError("<object> has no <bndbox>.")
            x1, y1, x2, y2 = (float(corners.value(k)) for k in ("xmin", "ymin", "xmax", "ymax"))
            row = ([x1 - 1, y1 - 1, x2, y2], element.value("name"), place)
            objects.append((*row, element.value("difficult", "0") == "1"))
        except ValueError as error:
            problems.add(f"{path}, line {element.line}: {error}")
    return os.path.basename(root.value("filename", "")), objects
