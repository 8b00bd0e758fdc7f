"""ObjectDetector: boxes and classes of the objects in images."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

import keraslite as keras
from hub.detection.anchors import anchor_points
from hub.detection.decoding import decode_detections
from hub.detection.losses import PARTS, check_losses, detection_losses
from hub.detection.results import Results
from hub.detection.sources import read_pictures, unused_name
from hub.families import family_of
from hub.preprocessing.detection_augment import DetectionAugment
from hub.preprocessing.detection_data import DetectionDataset, as_detection_data
from hub.preprocessing.detection_formats import yolo_parts
from hub.preprocessing.letterbox import DetectionPreprocessor
from hub.tasks.classes import class_arguments, label_config
from hub.tasks.classifier import Classifier
from hub.tasks.image.detector_arrays import (
    BATCH_SIZE,
    check_targets,
    in_format,
    is_ready,
    ready_data,
    with_targets,
)
from hub.tasks.image.detector_evaluation import DetectorEvaluation
from hub.tasks.image.image_task import ImageTask
from hub.tasks.image.rates import keep_average, kept_rates, recipe_callbacks
from hub.tasks.task import OUT_OPTION
from keraslite import ops, tree
from keraslite.training.data import StreamData

_SHOWN = ("loss", "mAP", "mAP50", "mAP75")  # of a validation, in the history


class ObjectDetector(Classifier, DetectorEvaluation, ImageTask):
    """A backbone, and a head that predicts boxes and their classes at every position.

    Args:
        backbone: an image backbone of a family of detectors, such as `hub.YOLOV8Backbone`.
        num_classes: the number of classes; where it is None that of `labels`, or of the data of
            `fit`, and 2 until then.
        bounding_box_format: of boxes in arrays, of `fit` and of `predict` without a preprocessor,
            as for `keras.utils.bounding_boxes`.
        preprocessor: a `hub.DetectionPreprocessor`; None if inputs are ready arrays.
        labels: the names of the classes; those of the checkpoint, or of the data, by default.
        fpn_depth: the bottlenecks of each block of the neck; that of the checkpoint by default.
        box_channels: of the convolutions that predict boxes, likewise.
        class_channels: of the convolutions that predict classes, likewise.

    >>> from hub import YOLOV8Backbone
    >>> backbone = YOLOV8Backbone((4, 8, 8, 8), (1, 1, 1, 1))
    >>> model = ObjectDetector(backbone, labels=["cat", "dog"], fpn_depth=1)
    >>> outputs = model(np.zeros((1, 64, 64, 3), "float32"))
    >>> {name: tuple(x.shape) for name, x in outputs.items()}
    {'boxes': (1, 84, 64), 'classes': (1, 84, 2)}
    """

    task = "ObjectDetector"
    pipeline = "object-detection"
    transformers_class = "AutoModelForObjectDetection"
    family_aliases = ("Detector",)
    head_options = ("layer",)
    command_options = {
        "--confidence": {"type": float, "default": 0.25, "help": "the least of a detected object"},
        "--iou": {"type": float, "default": 0.7, "help": "the most that two objects overlap"},
        "--out": OUT_OPTION,
    }
    may_be_new = ("head",)
    head_names = ("fpn_depth", "box_channels", "class_channels")

    def __init__(
        self,
        backbone: Any,
        num_classes: int | None = None,
        bounding_box_format: str = "xyxy",
        preprocessor: Any = None,
        labels: Sequence[str] | None = None,
        fpn_depth: int | None = None,
        box_channels: int | None = None,
        class_channels: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(backbone, preprocessor, **kwargs)
        self.bounding_box_format = bounding_box_format
        settings = zip(self.head_names, (fpn_depth, box_channels, class_channels), strict=True)
        self.head_arguments = {name: value for name, value in settings if value is not None}
        self.set_classes(num_classes, labels, None)
        self.built = True

    def new_head(self) -> Any:
        """Return the layer of the family that predicts boxes and classes, built."""
        layer = family_of(self.backbone.family).heads[self.task].options["layer"]
        head = layer(self.num_classes, **self.head_arguments, dtype=self.dtype_policy, name="head")
        levels = self.backbone.pyramid_outputs
        head.build([levels[name].shape for name in layer.levels])
        return head

    def call(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        """Return the logits of the distances ("boxes") and of the "classes" at all positions.

        Args:
            inputs: ready images (batch, height, width, 3), whose sides are multiples of 32.
            training: whether normalizations use the statistics of the batch.
        """
        features = self.backbone.pyramid(inputs)
        return self.head([features[name] for name in self.head.levels], training=training)

    # -- training -----------------------------------------------------------------------------

    def compile(
        self, optimizer: Any = "auto", box_loss: str = "ciou",
        classification_loss: str = "binary_crossentropy", box_loss_weight: float = 7.5,
        classification_loss_weight: float = 0.5, dfl_loss_weight: float = 1.5, **kwargs: Any,
    ) -> None:  # fmt: skip
        """Set optimizer and losses.

        Args:
            optimizer: as for `Model.compile`; by default AdamW with gradients of a norm of at most
                10, and a rate that falls with the number of classes.
            box_loss: "ciou" or "iou".
            classification_loss: "binary_crossentropy".
            box_loss_weight: of the loss of boxes.
            classification_loss_weight: of the loss of classes.
            dfl_loss_weight: of the distribution focal loss of distances.
            kwargs: as for `Model.compile`, but no loss and no metrics: `evaluate` has those of
                detection.

        Raises:
            ValueError: a loss has another name, or there are metrics.
        """
        for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
            if kwargs.pop(name, None) not in (None, "auto"):
                raise ValueError(
                    f"{name} must be None: detectors have box_loss and classification_loss, and "
                    "evaluate gives their mean average precision."
                )
        if optimizer == "auto":
            with keras.use_backend(self.backend):
                rate = 0.01 / (4 + self.num_classes)
                optimizer = keras.optimizers.AdamW(rate, weight_decay=5e-4, global_clipnorm=10.0)
                optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        losses = {
            "box_loss": box_loss, "classification_loss": classification_loss,
            "box_loss_weight": box_loss_weight,
            "classification_loss_weight": classification_loss_weight,
            "dfl_loss_weight": dfl_loss_weight,
        }  # fmt: skip
        check_losses(box_loss, classification_loss)
        super().compile(optimizer, **kwargs)
        self.__dict__["_kl_losses"] = losses
        with keras.use_backend(self.backend):
            self.loss_parts = [keras.metrics.Mean(name=name) for name in PARTS]

    def get_compile_config(self) -> dict[str, Any] | None:
        """Return the arguments of `compile`, as a config."""
        config = super().get_compile_config()
        if config is None:
            return None
        others = ("loss", "loss_weights", "metrics", "weighted_metrics")
        config = {k: v for k, v in config.items() if k not in others}
        return {**config, **self._kl_losses}

    def _defaults(self) -> dict[str, Any]:
        return {}

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None,
        training: bool = True,
    ) -> Any:  # fmt: skip
        """Return the loss of a batch, the sum of those of boxes, distances and classes.

        Args:
            x: images (batch, height, width, 3).
            y: a dict of "boxes" (batch, boxes, 4), "xyxy" in pixels of the images, and "labels"
                (batch, boxes): class numbers, -1 for a row of no box, -2 for an ignored
                region, and -3 - c for one of class c.
            y_pred: the outputs.
            sample_weight: none.
            training: whether the call trains.

        Raises:
            ValueError: there are sample weights.
        """
        if sample_weight is not None:
            raise ValueError("Detectors are trained without sample_weight: it must be None.")
        grid = anchor_points(*x.shape[1:3])
        losses = detection_losses(y_pred, y, *grid, **self._kl_losses)
        for metric in self.loss_parts:
            metric.update_state(ops.stop_gradient(losses[metric.name]))
        total = sum(losses.values())
        return sum([ops.cast(ops.sum(v), ops.dtype(total)) for v in self.losses], total)

    def fit(
        self, x: Any = None, y: Any = None, *, augment: Any = "auto",
        close_mosaic: int | None = None, warmup_epochs: float | None = None,
        early_stopping: int | None = None, ema: float | None = None, on_error: str = "raise",
        batch_size: int = BATCH_SIZE, shuffle: bool = True, validation_split: float = 0.0,
        validation_data: Any = None, epochs: int = 1, **kwargs: Any,
    ) -> Any:  # fmt: skip
        """Train on pictures and the boxes of their objects.

        What is random follows from the seed and the number of the epoch, and is the same on every
        backend. Validation data are not augmented; their mean average precision is in the history
        as `val_mAP` and `val_mAP50`.

        Args:
            x: the path of a data.yaml of YOLO, of a JSON file of COCO or of a folder of Pascal VOC;
                a `hub.DetectionDataset`; pictures, with their boxes in y; a dict of "images" and
                "bounding_boxes"; or pairs of a picture and a dict of its boxes. Without a
                preprocessor ready arrays, or data that yield ready batches.
            y: a dict of "boxes" and "labels" (or "classes"), for pictures or arrays in x.
            augment: "auto" is `hub.DetectionAugment()`: mosaics, shifts, sizes, colours and flips.
                One with other arguments, or None. Ready arrays are left alone.
            close_mosaic: for how many epochs at the end pictures are not put together; by default
                10, and not more than a fifth of the epochs.
            warmup_epochs: over how many epochs the learning rate rises from 0, before it falls by a
                cosine to 0; None leaves the rate alone.
            early_stopping: after how many epochs without a better `val_mAP` training ends, with the
                weights of the best one.
            ema: the momentum of a moving average of the weights, which is validated, and kept.
            on_error: "skip" to leave out broken annotations and pictures, with a warning.
            batch_size: pictures in a batch.
            shuffle: whether each epoch has an order of its own.
            validation_split: the part of the pictures that is held back for validation.
            validation_data: as x, or (x, y). The part "val" of a data.yaml by default.
            epochs: passes over the data.
            kwargs: as for `Model.fit`, without `sample_weight` and `class_weight`.

        Raises:
            ValueError: boxes or labels are not valid, with their file and line; or an argument has
                a value that is not valid.
        """
        if weights := [n for n in ("sample_weight", "class_weight") if kwargs.get(n) is not None]:
            raise ValueError(f"Detectors are trained without {weights}.")
        if not (augment is None or augment == "auto" or isinstance(augment, DetectionAugment)):
            raise ValueError(
                f"augment must be 'auto', a hub.DetectionAugment or None, got {augment!r}."
            )
        if validation_split and validation_data is not None:
            raise ValueError("Give validation_split or validation_data, not both.")
        if is_ready(x, self.preprocessor):
            data = ready_data(x, y, self.bounding_box_format, batch_size, shuffle)
            if validation_split:
                data, validation_data = data.split(validation_split)
        else:
            if kwargs.get("steps_per_epoch") is not None and not hasattr(x, "__len__"):
                raise ValueError(
                    "steps_per_epoch is for ready batches: the boxes of samples are read once, up "
                    "to their end."
                )
            dataset = self._dataset(x, y, "train", on_error)
            if validation_split:
                dataset, validation_data = dataset.split(validation_split)
            elif validation_data is None and "val" in yolo_parts(x):
                validation_data = x
            if not (validation_data is None or is_ready(validation_data, self.preprocessor)):
                # What is wrong with it is said before the training.
                pair = validation_data if isinstance(validation_data, tuple) else (validation_data,)
                validation_data = self._dataset(*(*pair, None)[:2], "val", on_error)
            augment = DetectionAugment() if augment == "auto" else augment
            closing = min(10, epochs // 5) if close_mosaic is None else close_mosaic
            data = StreamData(
                dataset.batches(
                    batch_size, self.preprocessor, augment, shuffle, closing_epoch=epochs - closing
                )
            )
        if early_stopping is not None and validation_data is None:
            raise ValueError("early_stopping needs validation_data or validation_split.")
        if not self.compiled:
            self.compile()
        if ema is not None:
            keep_average(self.optimizer, ema)
        callbacks = recipe_callbacks(warmup_epochs, early_stopping, ema, "val_mAP", "max")
        kwargs["callbacks"] = [*callbacks, *tree.flatten(kwargs.get("callbacks") or [])]
        with kept_rates(self.optimizer) if warmup_epochs is not None else nullcontext():
            return keras.Model.fit(
                self, data, epochs=epochs, batch_size=batch_size, validation_data=validation_data,
                **kwargs,
            )  # fmt: skip

    def _validate(self, *args: Any) -> dict[str, Any]:
        logs = super()._validate(*args)
        return {name: value for name, value in logs.items() if name.endswith(_SHOWN)}

    # -- data ---------------------------------------------------------------------------------

    def check_batch(self, batch: tuple) -> None:
        """Raise ValueError if the boxes of a batch cannot be right.

        Args:
            batch: (x, y, sample_weight).
        """
        super().check_batch(batch)
        if batch[1] is not None:
            check_targets(batch[1], self.num_classes)

    def train_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Run one step of training on one batch of ready arrays.

        Args:
            x: images (batch, height, width, 3).
            y: a dict of "boxes" in the `bounding_box_format`, and "labels" (or "classes").
            args: as for `Model.train_on_batch`.
            kwargs: as for `Model.train_on_batch`.
        """
        x, y, _ = with_targets(x, y, None, self.bounding_box_format)
        return super().train_on_batch(x, y, *args, **kwargs)

    def test_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Run one step of evaluation on one batch; the arguments are `train_on_batch`'s."""
        x, y, _ = with_targets(x, y, None, self.bounding_box_format)
        return super().test_on_batch(x, y, *args, **kwargs)

    def _dataset(self, x: Any, y: Any, part: str, on_error: str = "raise") -> DetectionDataset:
        """Return pictures and their boxes, the classes of which are those of the task."""
        if y is not None:
            x = {"images": x, "bounding_boxes": y}
        names = None if self._kl_takes_classes_of_data else self.labels
        data = as_detection_data(x, part, self.bounding_box_format, names, on_error)
        self.learn_names(list(data.class_names))
        return data.renumbered(self.labels)

    def _transform(self, training: bool) -> None:
        return None  # data are ready when they come to the loops

    def _columns(self, x: Any, y: Any) -> tuple[Any, Any]:
        return x, y

    def _detections(
        self, outputs: Any, shape: Any, confidence: float, **options: Any
    ) -> dict[str, np.ndarray]:
        """Return the detections in a batch of outputs, of inputs of some shape, as arrays."""
        with keras.use_backend("numpy"):  # for some boxes of few images the quickest
            arrays = tree.map_structure(ops.convert_to_numpy, outputs)
            return decode_detections(arrays, *shape[1:3], confidence, **options)

    # -- prediction ---------------------------------------------------------------------------

    def predict(
        self, x: Any, batch_size: int | None = None, verbose: str | int = 0,
        confidence: float = 0.25, iou: float = 0.7, max_detections: int = 300,
        class_agnostic: bool = False, stream: bool = False, every: int = 1, **kwargs: Any,
    ) -> Any:  # fmt: skip
        """Return the objects in pictures.

        Args:
            x: a picture: a path, a Pillow image or an array (height, width, 3) of pixels from 0 to
                255; a list of these; a folder, a pattern such as "*.jpg", a video, or
                "camera:0". Without a preprocessor ready arrays (batch, height, width, 3).
            batch_size: pictures of a batch; 8 by default, and 1 with `stream`.
            verbose: 1 shows a progress bar.
            confidence: detections must have a higher one, from 0 to 1.
            iou: the largest intersection over union of two objects of a class.
            max_detections: of a picture.
            class_agnostic: whether objects of different classes are compared too.
            stream: whether results come one by one, for videos and cameras, rather than in a list.
            every: of a video, each how many frames one is looked at.
            kwargs: as for `Model.predict`, without a preprocessor.

        Returns:
            A list, or a generator, of `hub.detection.results.Results`. Without a preprocessor a
            dict of "boxes" (batch, max_detections, 4) in the `bounding_box_format`, "confidence"
            and "labels" (batch, max_detections), best first and padded by -1, and "num_detections"
            (batch,).

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: a file cannot be read, with its name, or an argument has a value that is not
                valid.
        """
        for name, share in (("confidence", confidence), ("iou", iou)):
            if not isinstance(share, int | float) or not 0 <= share <= 1:
                raise ValueError(f"{name} must be a number from 0 to 1, got {share!r}.")
        for name, count in (("max_detections", max_detections), ("batch_size", batch_size)):
            if count is not None and (type(count) is not int or count < 1):
                raise ValueError(f"{name} must be a positive int, got {count!r}.")
        if kwargs and self.preprocessor is not None:
            expected = "confidence, iou, max_detections, class_agnostic, stream and every"
            raise TypeError(f"predict has no {sorted(kwargs)}: expected some of {expected}.")
        options = {
            "confidence": confidence, "iou": iou, "max_detections": max_detections,
            "class_agnostic": class_agnostic,
        }  # fmt: skip
        if self.preprocessor is None:
            if len(getattr(x, "shape", ())) != 4:
                raise TypeError(
                    "Without a preprocessor inputs must be an array (batch, height, width, 3), got "
                    f"{type(x).__name__}: give preprocessor=hub.DetectionPreprocessor()."
                )
            outputs = keras.Model.predict(self, x, batch_size, verbose, **kwargs)
            detections = self._detections(outputs, x.shape, **options)
            return in_format(detections, self.bounding_box_format, x.shape)
        results = self._results(x, batch_size or (1 if stream else 8), every, options)
        if stream:
            return results
        bar = keras.utils.Progbar(None, verbose=0 if verbose == 0 else 1, unit_name="picture")
        listed = []
        for result in results:
            listed.append(result)
            bar.update(len(listed))
        return listed

    def _results(
        self, x: Any, batch_size: int, every: int, options: dict[str, Any]
    ) -> Iterator[Results]:
        names = self.labels
        sources = read_pictures(x, every)
        while batch := list(islice(sources, batch_size)):
            inputs, places = self.preprocessor([source.picture for source in batch])
            detections = self._detections(self.predict_on_batch(inputs), inputs.shape, **options)
            for i, (source, place) in enumerate(zip(batch, places, strict=True)):
                rows = slice(int(detections["num_detections"][i]))
                yield Results(
                    place.to_picture(detections["boxes"][i, rows]),
                    detections["confidence"][i, rows], detections["labels"][i, rows], names,
                    None if source.path else source.picture, source.path,
                    (place.height, place.width), source.name,
                )  # fmt: skip

    def answers(self, inputs: list[str], options: Any) -> Iterator[dict[str, Any]]:
        """Return the objects of each picture, as `hub run` prints them.

        Args:
            inputs: files, folders, patterns or videos.
            options: `confidence`, `iou`, and `out`, a folder for the drawn pictures.
        """
        names: set[str] = set()
        for source in inputs:
            listed = []
            for result in self.predict(
                source, confidence=options.confidence, iou=options.iou, stream=True
            ):
                if options.out is not None:
                    result.save(options.out / unused_name(result.name, names))
                listed.append(result.to_dict())
            yield listed[0] if len(listed) == 1 else {"pictures": listed}

    # -- configs ------------------------------------------------------------------------------

    @classmethod
    def checkpoint_arguments(cls, files: Any, config: dict) -> dict[str, Any]:
        """Return the number of classes and the sizes of the head that a checkpoint says.

        Args:
            files: of the checkpoint.
            config: its config.json.
        """
        classes = class_arguments(config, cls.task)["num_classes"]
        return {"num_classes": classes, **{k: config[k] for k in cls.head_names if k in config}}

    @classmethod
    def kept_of_head(cls, table: Any, config: Any, arguments: Any) -> tuple[Any, tuple[str, ...]]:
        """Return the names of the head's weights, and paths of those of other classes.

        Args:
            table: the names of all.
            config: the config.json of the checkpoint.
            arguments: those of the task that the caller gave.
        """
        count = arguments.get("num_classes") or len(arguments.get("labels") or ())
        if not count or count == class_arguments(config, cls.task)["num_classes"]:
            return table, ()
        layer = family_of(config["model_type"]).heads[cls.task].options["layer"]
        others = tuple(f"head/{path}" for path in layer.class_outputs)
        absent = {path: f"-/{table.rows[path]}" for path in others}  # no tensor has such a name
        return replace(table, rows={**table.rows, **absent}, claims=()), others

    def check_head(self, weights: Any, head: Any) -> None:
        """Take the number of classes of the checkpoint as given.

        Args:
            weights: the checkpoint.
            head: the names of the head's weights.
        """
        self._kl_takes_classes_of_data = False

    @classmethod
    def make_preprocessor(cls, files: Any, family: Any, backbone: Any, **options: Any) -> Any:
        """Return the preprocessor of a checkpoint.

        Args:
            files: of the checkpoint.
            family: of the backbone.
            backbone: the backbone.
            options: none.
        """
        return DetectionPreprocessor.from_files(files)

    def export_answers(self) -> dict[str, Any]:
        """Return the names of the classes, and what the outputs are at which positions."""
        strides = [int(2 ** int(level.removeprefix("P"))) for level in self.head.levels]
        return {
            **super().export_answers(), "strides": strides,
            "boxes": "logits of the distances to the left, top, right and bottom edges in strides: "
            "of each the expected number of its bins, from 0 on",
        }  # fmt: skip

    def config_json(self) -> dict[str, Any]:
        """Return the keys of config.json that name the classes, and the sizes of the head."""
        return {**label_config(self), "num_classes": self.num_classes, **self._head_sizes()}

    def _head_sizes(self) -> dict[str, Any]:
        """Return the sizes of the head, those that followed from the number of classes too."""
        return {name: getattr(self.head, name) for name in self.head_names}

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the task."""
        return {
            **ImageTask.get_config(self), **self._head_sizes(), "num_classes": self.num_classes,
            "bounding_box_format": self.bounding_box_format, "labels": self.label_names,
        }  # fmt: skip
