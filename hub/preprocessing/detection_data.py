"""DetectionDataset: pictures and the boxes of their objects, read when they are asked for."""

import functools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from hub.preprocessing.detection_augment import DetectionAugment
from hub.preprocessing.detection_batches import DetectionBatches, Objects
from hub.preprocessing.detection_formats import (
    Annotations,
    Problems,
    read_coco,
    read_voc,
    read_yolo,
)
from hub.preprocessing.detection_samples import checked_boxes, read_arrays, read_samples
from hub.preprocessing.image_inputs import is_read, open_image, outcome, to_rgb
from hub.preprocessing.letterbox import DetectionPreprocessor, clip_boxes
from keraslite.utils.data import map_ahead, permutation


class DetectionDataset:
    """Pictures and the boxes of their objects.

    Pictures are decoded when they are asked for, and not kept. `data[i]` is a picture, an array
    (height, width, 3) of uint8, and a dict of "boxes" (objects, 4), as "xyxy" in its pixels,
    "labels" (objects,), class numbers, and "ignored" (objects,), True for crowds and difficult
    objects. Boxes are cut off at the edges of their picture, and one of which nothing is left is
    left out.

    `from_yolo`, `from_coco`, `from_voc`, `from_arrays` and `from_samples` read the usual forms.
    With `on_error="raise"` the first box that is broken (not finite, without area, of a class or in
    a format that cannot be), or picture that is missing or cannot be read, is an error; with
    "skip" they are left out, with a warning that names them.

    Args:
        annotations: pictures and boxes, as `hub.preprocessing.detection_formats` reads them.
        problems: where broken boxes and missing pictures go.
        workers: the number of threads that read pictures; that of the processor cores, but not
            more than 8, by default.

    Attributes:
        class_names: the names of the classes.

    Raises:
        ValueError: a box is broken, or nothing is left.
        FileNotFoundError: a picture is missing.

    >>> data = DetectionDataset.from_arrays(
    ...     {"images": np.zeros((1, 8, 10, 3), "uint8"),
    ...      "bounding_boxes": {"boxes": [[[1, 2, 3, 4]]], "labels": [[0]]}},
    ...     bounding_box_format="xywh", class_names=["cat"])
    >>> picture, objects = data[0]
    >>> picture.shape, objects["boxes"].tolist(), objects["labels"].tolist()
    ((8, 10, 3), [[1.0, 2.0, 4.0, 6.0]], [0])
    """

    def __init__(self, annotations: Annotations, problems: Problems, workers: int | None = None):
        names = annotations.class_names
        if names is None:
            names = [str(i) for i in range(int(annotations.labels.max(initial=-1)) + 1)]
        self.class_names, self.on_error = list(names), problems.on_error
        self.workers = workers or min(os.cpu_count() or 1, 8)
        corners, kept = checked_boxes(annotations, len(names), problems)
        owners = np.repeat(np.arange(len(annotations.pictures)), annotations.counts)
        missing = np.zeros(len(annotations.pictures), bool)
        listed = annotations.pictures if isinstance(annotations.pictures, list) else []
        for i, picture in enumerate(listed):  # others are read when they are asked for
            if isinstance(picture, str | os.PathLike) and not os.path.isfile(picture):
                problems.add(f"There is no picture {picture}.", FileNotFoundError)
                missing[i] = True
        problems.warn()
        rows = np.flatnonzero(~missing)
        if not len(rows):
            raise ValueError("The data must have a picture, got none that can be read.")
        kept &= ~missing[owners]
        self._relative = annotations.bounding_box_format.lower().startswith("rel_")
        self._boxes, self._labels = corners[kept], annotations.labels[kept].astype("int32")
        self._ignored = annotations.ignored[kept]
        counts = np.bincount(owners[kept], minlength=len(missing))[rows]
        self._ends = np.concatenate([[0], np.cumsum(counts)])
        self._pictures = annotations.pictures
        if missing.any():
            self._pictures = [annotations.pictures[i] for i in rows]
        self._rows = np.arange(len(rows))  # those of this part of the data

    # -- the forms that are read --------------------------------------------------------------

    @classmethod
    def from_yolo(
        cls, file: Any, split: str = "train", on_error: str = "raise", workers: int | None = None
    ) -> "DetectionDataset":
        """Read a part of a YOLO data set.

        The label file of a picture lies beside it, or in the folder labels beside images. Each of
        its lines is a class number and x and y of the centre, width and height as fractions of the
        picture's, or a polygon; a picture without such a file has no objects.

        Args:
            file: a data.yaml with `names`, `train` and `val`, or the folder that has it.
            split: "train", "val" or "test".
            on_error: "raise" or "skip".
            workers: as for the class.

        Raises:
            ValueError: the file lacks something, or a line of a label file is broken.
        """
        problems = Problems(on_error)
        return cls(read_yolo(file, split, problems), problems, workers)

    @classmethod
    def from_coco(
        cls, file: Any, pictures: Any = None, on_error: str = "raise", workers: int | None = None
    ) -> "DetectionDataset":
        """Read the annotations of objects of COCO.

        Classes are the categories in the order of their ids; crowds are ignored boxes.

        Args:
            file: a JSON file.
            pictures: the folder of the pictures; one beside the file by default.
            on_error: "raise" or "skip".
            workers: as for the class.

        Raises:
            ValueError: the file is no such JSON, or an annotation is broken.
        """
        problems = Problems(on_error)
        return cls(read_coco(file, pictures, problems), problems, workers)

    @classmethod
    def from_voc(
        cls, folder: Any, split: str | None = None, class_names: Sequence[str] | None = None,
        on_error: str = "raise", workers: int | None = None,
    ) -> "DetectionDataset":  # fmt: skip
        """Read a folder of Pascal VOC.

        Its boxes count pixels from 1 on and name the last one; difficult objects are ignored boxes.

        Args:
            folder: with Annotations and JPEGImages.
            split: a list in ImageSets/Main, such as "train"; None for all annotations.
            class_names: the names of the classes in order; those of the objects, sorted, by
                default.
            on_error: "raise" or "skip".
            workers: as for the class.

        Raises:
            ValueError: there are no annotations, or one is broken.
        """
        problems = Problems(on_error)
        annotations = read_voc(folder, split, class_names, problems)
        return cls(annotations, problems, workers)

    @classmethod
    def from_arrays(
        cls, data: Mapping[str, Any], bounding_box_format: str,
        class_names: Sequence[str] | None = None, on_error: str = "raise",
        workers: int | None = None,
    ) -> "DetectionDataset":  # fmt: skip
        """Read a dict of arrays, in the form of Keras.

        Args:
            data: "images", as for `hub.ImagePreprocessor`, and "bounding_boxes", a dict of "boxes"
                (images, boxes, 4) and "labels", or "classes", (images, boxes); or lists with an
                array for each image. The label -1 stands for no box, and -2 for an ignored one.
            bounding_box_format: of the boxes, such as "xyxy" or "rel_center_xywh", as for
                `keras.utils.bounding_boxes.convert_format`.
            class_names: the names of the classes; their numbers by default.
            on_error: "raise" or "skip".
            workers: as for the class.

        Raises:
            ValueError: the dict has another form, or a box is broken.
        """
        problems = Problems(on_error)
        annotations = read_arrays(data, bounding_box_format, class_names)
        return cls(annotations, problems, workers)

    @classmethod
    def from_samples(
        cls, samples: Iterable, bounding_box_format: str = "xyxy",
        class_names: Sequence[str] | None = None, on_error: str = "raise",
        workers: int | None = None,
    ) -> "DetectionDataset":  # fmt: skip
        """Read samples, each an image and a dict of its boxes.

        They are read once for their boxes. Those of a data set with `__getitem__` and `__len__`,
        such as PyTorch's, are read again for their images; images of other iterables are kept.

        Args:
            samples: pairs of an image and a dict of "boxes" (boxes, 4) and "labels", or "classes",
                (boxes,); or dicts of "images" and "bounding_boxes"; or batches of either, as of
                tf.data and of a DataLoader.
            bounding_box_format: of the boxes.
            class_names: the names of the classes; their numbers by default.
            on_error: "raise" or "skip".
            workers: as for the class.

        Raises:
            ValueError: a sample has another form, or a box is broken.
        """
        problems = Problems(on_error)
        annotations = read_samples(samples, bounding_box_format, class_names)
        return cls(annotations, problems, workers)

    # -- samples ------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> tuple[np.ndarray, Objects]:
        picture = self.picture(index)
        return np.asarray(picture), self.objects(index, picture.height, picture.width)

    def __iter__(self) -> Iterator[tuple[np.ndarray, Objects]]:
        read = functools.partial(outcome, self.__getitem__)
        for result in map_ahead(read, range(len(self)), self.workers, 2 * self.workers):
            if is_read(result, self.on_error):
                yield result

    def picture(self, index: int) -> Image.Image:
        """Return a picture, in RGB.

        Args:
            index: its number.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: Pillow cannot read it.
        """
        return to_rgb(open_image(self.source(index), f"Picture {self._rows[index]}"))

    def source(self, index: int) -> Any:
        """Return what a picture is read from: its path, or the image that was given.

        Args:
            index: the number of the picture.
        """
        return self._pictures[self._rows[index]]

    def objects(self, index: int, height: int, width: int) -> Objects:
        """Return the "boxes", as "xyxy", the "labels" and which are "ignored" of a picture.

        Args:
            index: the number of the picture.
            height: of the picture in pixels, which the boxes come out in.
            width: likewise.
        """
        row = self._rows[index]
        rows = slice(self._ends[row], self._ends[row + 1])
        boxes = self._boxes[rows]
        if self._relative:
            boxes = boxes * np.array((width, height) * 2, "float32")
        boxes = clip_boxes(boxes, height, width)
        visible = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        objects = {"boxes": boxes, "labels": self._labels[rows], "ignored": self._ignored[rows]}
        return {name: values[visible] for name, values in objects.items()}

    def split(self, fraction: float, seed: int = 0) -> tuple["DetectionDataset", ...]:
        """Return two parts: the rest, and a fraction of the pictures.

        Args:
            fraction: of the second part; either part has one picture at least.
            seed: of the choice.

        Raises:
            ValueError: the fraction is not between 0 and 1, or there is one picture.
        """
        if not 0 < fraction < 1 or len(self) < 2:
            raise ValueError(
                f"fraction must be between 0 and 1 and of two pictures at least, got {fraction!r} "
                f"of {len(self)}."
            )
        order = permutation(len(self), seed, 0)
        count = min(max(round(fraction * len(self)), 1), len(self) - 1)
        return tuple(self._part(np.sort(rows)) for rows in (order[count:], order[:count]))

    def renumbered(self, class_names: Sequence[str]) -> "DetectionDataset":
        """Return the data with the class numbers that names have in another list.

        Args:
            class_names: names, those of the data among them.

        Raises:
            ValueError: a name of the data is missing.
        """
        if list(class_names) == self.class_names:
            return self
        if missing := sorted(set(self.class_names) - set(class_names)):
            raise ValueError(
                f"The classes of the data must be among {list(class_names)}, got {missing} as well."
            )
        numbers = np.array([list(class_names).index(name) for name in self.class_names], "int32")
        part = self._part(slice(None))
        part.class_names = list(class_names)
        part._labels = np.where(self._labels < 0, self._labels, numbers[self._labels])
        return part

    def _part(self, rows: Any) -> "DetectionDataset":
        part = DetectionDataset.__new__(DetectionDataset)
        part.__dict__.update(self.__dict__)
        part._rows = self._rows[rows]
        return part

    def batches(
        self,
        batch_size: int = 16,
        preprocessor: DetectionPreprocessor | None = None,
        augment: DetectionAugment | None = None,
        shuffle: bool = False,
        seed: int | None = None,
        closing_epoch: int | None = None,
        cache_megabytes: float = 256,
    ) -> "DetectionBatches":
        """Return the pictures and boxes in batches, which `fit` reads.

        Args:
            batch_size: pictures in a batch.
            preprocessor: of the detector; says the size of the inputs.
            augment: how pictures are changed and put together.
            shuffle: whether each epoch has an order of its own.
            seed: of the orders and of the augmentation; a new one by default.
            closing_epoch: the number of the epoch from which on pictures are no longer put
                together; None for none.
            cache_megabytes: how much of the resized pictures is kept for augmentation, which reads
                each several times an epoch.
        """
        return DetectionBatches(
            self, batch_size, preprocessor, augment, shuffle, seed, closing_epoch, cache_megabytes
        )


def as_detection_data(
    x: Any,
    split: str = "train",
    bounding_box_format: str | None = None,
    class_names: Sequence[str] | None = None,
    on_error: str = "raise",
) -> DetectionDataset:
    """Return the detection data set that an argument stands for.

    Args:
        x: a `DetectionDataset`, a data.yaml or the folder of one, a JSON file of COCO, a folder of
            Pascal VOC, a dict of "images" and "bounding_boxes", or samples.
        split: of a data.yaml or a folder of Pascal VOC.
        bounding_box_format: of the boxes of a dict or of samples.
        class_names: the names of the classes, of what has none.
        on_error: as for `DetectionDataset`.

    Raises:
        TypeError: the argument is of another type.
        ValueError: a dict or samples come without a format of their boxes.
    """
    if isinstance(x, DetectionDataset):
        return x
    if isinstance(x, str | os.PathLike):
        return _from_path(os.fspath(x), split, class_names, on_error)
    if not isinstance(x, Iterable) and not hasattr(x, "__getitem__"):
        raise TypeError(
            "Detection data must be a hub.DetectionDataset, the path of a data.yaml, of a JSON "
            "file of COCO or of a folder of Pascal VOC, a dict of images and bounding_boxes, or "
            f"samples; got {type(x).__name__}."
        )
    if bounding_box_format is None:
        raise ValueError('The format of the boxes must be set, as bounding_box_format="xyxy".')
    if isinstance(x, Mapping):
        return DetectionDataset.from_arrays(x, bounding_box_format, class_names, on_error)
    return DetectionDataset.from_samples(x, bounding_box_format, class_names, on_error)


def _from_path(
    path: str, split: str, class_names: Sequence[str] | None, on_error: str
) -> DetectionDataset:
    if path.endswith((".yaml", ".yml")) or os.path.isfile(os.path.join(path, "data.yaml")):
        return DetectionDataset.from_yolo(path, split, on_error)
    if path.endswith(".json"):
        return DetectionDataset.from_coco(path, on_error=on_error)
    if not os.path.isdir(os.path.join(path, "Annotations")):
        raise ValueError(
            "Detection data must be a data.yaml, a JSON file of COCO, or a folder with a "
            f"data.yaml or with Annotations of Pascal VOC, got {path!r}."
        )
    has_list = os.path.isfile(os.path.join(path, "ImageSets", "Main", f"{split}.txt"))
    return DetectionDataset.from_voc(path, split if has_list else None, class_names, on_error)
