"""ImageClassifier: classes of images."""

import copy
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from hub.families import family_of
from hub.models.inputs import check_not_none
from hub.preprocessing.image_inputs import RowImage, list_images, open_image
from hub.preprocessing.labeled_images import as_labeled, is_labeled
from hub.tasks.classes import encode_labels, label_config
from hub.tasks.classifier import Classifier
from hub.tasks.image.image_task import ImageTask
from hub.tasks.image.mistakes import plot_mistakes, worst_mistakes
from hub.tasks.image.rates import decay_rates, keep_average, kept_rates
from hub.tasks.image.recipe import (
    ReadyPicture,
    Recipe,
    SeededBatches,
    augmenting_arrays,
    augmenting_images,
    is_sparse,
    mixing,
    repeated,
    soft_loss,
)
from keraslite import layers, ops, tree, visualization
from keraslite.training.data import Mapped, adapt
from keraslite.training.loops import prepare


class ImageClassifier(Classifier, ImageTask):
    """A backbone with a dense layer over its features, averaged or of its first token.

    Args:
        backbone: an image backbone.
        num_classes: the number of classes; where it is None that of `labels`, or of the names among
            the first labels of `fit`, and 2 until then.
        preprocessor: a `hub.ImagePreprocessor`; None if inputs are ready arrays.
        activation: of the outputs; None for logits.
        dropout: before the dense layer.
        labels: the names of the classes; those of the checkpoint, or of `fit`, by default.

    >>> from hub import ResNetBackbone
    >>> backbone = ResNetBackbone((4, 8, 8, 8), (1, 1, 1, 1), "basic_block", input_conv_filters=4)
    >>> model = ImageClassifier(backbone, 3)
    >>> model.predict(np.ones((2, 32, 32, 3), "float32"), verbose=0).shape
    (2, 3)
    """

    task = "ImageClassifier"
    pipeline = "image-classification"
    transformers_class = "AutoModelForImageClassification"
    head_options = ("dropout", "dropout_key")
    command_options = {
        "--top-k": {"type": int, "default": 5, "help": "the number of classes of each image"}
    }

    def __init__(
        self,
        backbone: Any,
        num_classes: int | None = None,
        preprocessor: Any = None,
        activation: Any = "softmax",
        dropout: float = 0.0,
        labels: Sequence[str] | None = None,
        **kwargs: Any,
    ):
        super().__init__(backbone, preprocessor, **kwargs)
        self.dropout = layers.Dropout(dropout, dtype=self.dtype_policy)
        self.head_dist = None
        self.set_classes(num_classes, labels, activation)
        self.built = True

    @classmethod
    def keeps_head(cls, checkpoint: Any, arguments: Mapping[str, Any]) -> bool:
        """Return whether the classes of a checkpoint are as many as the caller asked for.

        Args:
            checkpoint: the checkpoint.
            arguments: those of the task that the caller gave.
        """
        labels = arguments.get("labels")
        asked = arguments.get("num_classes", None if labels is None else len(labels))
        stated = cls.checkpoint_arguments(checkpoint.files, checkpoint.config)["num_classes"]
        return asked is None or stated is None or asked == stated

    def new_head(self) -> layers.Dense:
        """Return the dense layer of the classes, built; a distilled DeiT has a second one."""
        if getattr(self.backbone, "use_distillation_token", False):
            self.head_dist = self._dense("distillation_logits", None)
            return self._dense("logits", None)
        return self._dense("logits", self.activation)

    def _dense(self, name: str, activation: Any) -> layers.Dense:
        head = layers.Dense(
            self.num_classes, activation=activation, dtype=self.dtype_policy, name=name
        )
        head.build((None, self.backbone.pooled_dim))
        return head

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return the scores of a batch of ready images."""
        features = self.backbone(inputs, training=training)
        if self.head_dist is None:
            return self.head(self.dropout(self.backbone.pool(features), training=training))
        scores = self.head(self.dropout(features[:, 0], training=training))
        distilled = self.head_dist(self.dropout(features[:, 1], training=training))
        return self.activation((scores + distilled) / 2)

    def fit(
        self, x: Any = None, y: Any = None, *, augment: Any = None, mixup: float = 0.0,
        cutmix: float = 0.0, warmup_epochs: float | None = None,
        early_stopping: int | None = None, ema: float | None = None,
        layer_decay: float | None = None, repeats: int = 1, **kwargs: Any,
    ) -> Any:  # fmt: skip
        """Train on images and their labels, or on a folder that has a folder for each class.

        What is random follows from the seed and the number of the epoch, and is the same on every
        backend. Validation data are neither augmented nor mixed.

        Args:
            x: images, as for `predict`; a `hub.ImageFolder`, or the path of a folder, whose folders
                are named as the classes; a data set whose rows are an image and its label: of
                Hugging Face, of torch, or a list of pairs; or data as for `Model.fit`. The names
                of folders and labels are those of the classes where the checkpoint has none, and
                are kept in the config.
            y: labels, one an image: class numbers or names; none for what has them.
            augment: what happens to each picture before it is normalised. "auto": a random resized
                crop, a flip and RandAugment (`hub.preprocessing.image_augment.AutoAugment`). A
                layer or `Pipeline` of keraslite for pixels from 0 to 255, which runs on NumPy. A
                function of a Pillow image, and of `seed` where it has such an argument. Without a
                preprocessor a layer gets the batches, a function each array. None for nothing.
            mixup: the parameter of the Beta distribution by which pairs of images are averaged,
                such as 0.2; 0 for none.
            cutmix: that by which rectangles are taken from other images, up to 1; 0 for none. Where
                both are given, one of them is drawn for each batch. Labels are soft then: the loss
                is the crossentropy with them, and the metrics of training compare with the class
                that has the larger part.
            warmup_epochs: over how many epochs, perhaps a fraction, the learning rate rises from 0
                to that of the optimizer, before it falls by a cosine to 0. The optimizer has its
                own rate back afterwards. None leaves the rate alone.
            early_stopping: after how many epochs without a better `val_loss` training ends. The
                weights of the best epoch are put back. None for no end.
            ema: the momentum of a moving average of the weights, such as 0.999, which is validated,
                and kept at the end; None for none. The optimizer keeps the average from then on, as
                one that is made with `use_ema=True`.
            layer_decay: the learning rate of each stage of the backbone as a share of that of the
                next, such as 0.75; the head has the optimizer's. The optimizer becomes one of
                several rates, and stays it. None for one rate.
            repeats: how often each image stands in a batch, each time augmented anew; it is read
                once. A batch has `batch_size / repeats` different images.
            kwargs: as for `Model.fit`, and `on_error` "raise" or "skip" for images that cannot be
                read. `validation_split` holds back that part of each class of a folder, which the
                `transform` of an `ImageFolder` leaves alone.

        Raises:
            ValueError: a label or a folder is no class, an image cannot be read, a class of a
                folder has too few images, or an argument has a value that it cannot have.
        """
        check_not_none(x)
        recipe = Recipe(
            augment, mixup, cutmix, warmup_epochs, early_stopping, ema, layer_decay, repeats
        ).checked()
        has_validation = kwargs.get("validation_split") or kwargs.get("validation_data") is not None
        if early_stopping is not None and not has_validation:
            raise ValueError("early_stopping needs validation_data or validation_split.")
        if not self.compiled:
            self.compile()
        if ema is not None:
            keep_average(self.optimizer, ema)
        if layer_decay is not None:
            self.optimizer = decay_rates(self.optimizer, self._stages(), layer_decay)
        if is_labeled(x):
            if y is not None or kwargs.get("sample_weight") is not None:
                raise ValueError("x has the labels: y and sample_weight must be None.")
            kwargs, y = self._folder_arguments(x, recipe, **kwargs), None
            x = kwargs.pop("x")
        elif recipe.augment is not None or recipe.mixes:
            kwargs, y = self._data_arguments(x, y, recipe, **kwargs), None
            x = kwargs.pop("x")
        if own := recipe.callbacks():
            kwargs["callbacks"] = [*own, *tree.flatten(kwargs.get("callbacks") or [])]
        with kept_rates(self.optimizer) if recipe.warmup_epochs is not None else nullcontext():
            return super().fit(x, y, **kwargs)

    def _stages(self) -> list[list[Any]]:
        """Return the weights of the stages of the backbone, and of what lies behind them."""
        stages = self.backbone.stage_weights()
        earlier = {w.path for stage in stages for w in stage}
        return [*stages, [w for w in self.weights if w.path not in earlier]]

    def _folder_arguments(
        self, x: Any, recipe: Recipe, batch_size: int | None = None, shuffle: bool = True,
        on_error: str = "raise", validation_split: float = 0.0, validation_data: Any = None,
        validation_batch_size: int | None = None, **kwargs: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """Return the arguments of `fit` on ready data for those on a folder."""
        folder = as_labeled(x, on_error)
        self.learn_names(folder.class_names)
        if validation_split:
            if validation_data is not None:
                raise ValueError("Give validation_split or validation_data, not both.")
            folder, validation_data = folder.split(validation_split)
            validation_data.transform = None
        if is_labeled(validation_data):
            held_out = as_labeled(validation_data, on_error)
            validation_data = self.folder_data(held_out, validation_batch_size or batch_size)
        if recipe.augment is None or self.preprocessor is None:
            data = self.folder_data(folder, batch_size, shuffle)
        else:
            folder = copy.copy(folder)
            folder.transform = ReadyPicture(
                recipe.augment, self.preprocessor, folder.transform, recipe.repeats
            )
            different = recipe.images_in(batch_size)
            data = self.folder_data(folder, different, shuffle, prepare=np.asarray)
            if recipe.repeats > 1:
                data = Mapped(data, _flat_repeats, pure=True)
        data = self._mixed(data, recipe)
        return {**kwargs, "x": data, "validation_data": validation_data}

    def _data_arguments(
        self, x: Any, y: Any, recipe: Recipe, batch_size: int | None = None, shuffle: bool = True,
        on_error: str = "raise", validation_split: float = 0.0, validation_data: Any = None,
        sample_weight: Any = None, validation_batch_size: int | None = None, **kwargs: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """Return the arguments of `fit` on augmented and mixed data for those on images."""
        self.learn_names(self.distinct_names(y))
        if on_error == "skip":
            x, y, sample_weight = self.readable(x, y, sample_weight, "x")
        columns = self._columns(x, y)
        data = adapt(*columns, sample_weight, recipe.images_in(batch_size), shuffle)
        ready = self._transform(True)
        if validation_split:
            if validation_data is not None:
                raise ValueError("Give validation_split or validation_data, not both.")
            data, validation_data = data.split(validation_split)
            validation_data = Mapped(validation_data, ready) if ready else validation_data
        if recipe.augment is not None:
            data = SeededBatches(data, self._augmenting(recipe))
        elif ready:
            data = Mapped(data, ready, pure=True)
        return {
            **kwargs, "x": self._mixed(data, recipe), "on_error": on_error,
            "validation_data": validation_data,
            "validation_batch_size": validation_batch_size or batch_size,
        }  # fmt: skip

    def _augmenting(self, recipe: Recipe) -> Any:
        """Return the function from a batch of images to one of augmented inputs."""
        if self.preprocessor is None:
            change = augmenting_arrays(recipe.augment)
        else:
            change = augmenting_images(recipe.augment, self.preprocessor)

        def batch(x: Any, y: Any, sample_weight: Any, seed: int) -> tuple:
            x, y, sample_weight = (repeated(v, recipe.repeats) for v in (x, y, sample_weight))
            return change(x, seed), self._encoded(y), sample_weight

        return batch

    def _mixed(self, data: Any, recipe: Recipe) -> Any:
        """Return data of ready inputs, mixed where the recipe says so."""
        if not recipe.mixes:
            return data
        if not (is_sparse(self.loss) or type(self.loss) is type(soft_loss(self.loss))):
            raise ValueError(
                "mixup and cutmix give soft labels: the loss must be a sparse or a plain "
                f"categorical crossentropy, got {self.loss!r}."
            )
        if self.compile_arguments.get("loss_weights") is not None:
            raise ValueError("mixup and cutmix are for a loss without loss_weights.")
        # Losses and metrics are made for class numbers, before soft labels come.
        prepare(self, data.first())
        change = mixing(recipe.mixup, recipe.cutmix, self.num_classes)

        def batch(x: Any, y: Any, sample_weight: Any, seed: int) -> tuple:
            return (*change(x, y, seed), sample_weight)

        return SeededBatches(data, batch)

    def _has_soft(self, y: Any) -> bool:
        """Return whether labels are soft, where the loss takes class numbers."""
        shape = getattr(y, "shape", ())
        return len(shape) == 2 and shape[-1] == self.num_classes > 1 and is_sparse(self.loss)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None,
        training: bool = True,
    ) -> Any:  # fmt: skip
        """Return the loss of a batch; that of soft labels, where the task's own is sparse.

        Args:
            x: the inputs.
            y: class numbers, or soft labels (images, classes).
            y_pred: the outputs.
            sample_weight: weights of the images.
            training: whether the call trains.
        """
        if not self._has_soft(y):
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        loss = soft_loss(self.loss)(y, y_pred, sample_weight)
        return sum((ops.cast(ops.sum(v), "float32") for v in self.losses), loss)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict:
        """Update the metrics; of soft labels with the class that has the largest part.

        Args:
            x: the inputs.
            y: class numbers, or soft labels.
            y_pred: the outputs.
            sample_weight: weights of the images.
        """
        y = ops.argmax(y, axis=-1) if self._has_soft(y) else y
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def classify(
        self,
        images: Any,
        top_k: int | None = None,
        batch_size: int | None = None,
        verbose: int = 0,
    ) -> Any:
        """Return the likeliest labels of each image and their probabilities.

        Args:
            images: an image, or images or a folder as for `predict`.
            top_k: the number of labels of an image; None for the best alone.
            batch_size: the number of images of a batch.
            verbose: 1 shows a progress bar.

        Returns:
            A dict of `label` and `score` for each image, with `top_k` a list of them, the best
            first; of a single image not in a list.
        """
        scores = self._probabilities(images, batch_size, verbose)
        answers = self.label_scores(scores, top_k)
        several = isinstance(images, list | tuple) or getattr(images, "ndim", 0) == 4
        single = not several and not is_labeled(images)
        return answers[0] if single else answers

    def _probabilities(
        self, images: Any, batch_size: int | None = None, verbose: int = 0
    ) -> np.ndarray:
        scores = np.asarray(self.predict(images, batch_size, verbose), "float32")
        if not self._gives_logits():
            return scores
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        return scores / scores.sum(-1, keepdims=True)

    def _with_labels(self, x: Any, y: Any) -> tuple[list[Any], np.ndarray]:
        """Return images and their class numbers, of a folder or of two columns."""
        if is_labeled(x):
            folder = as_labeled(x)
            x, y = folder.paths, folder.labels
            if folder.on_error == "skip":
                x, y, _ = self.readable(x, y, None, "x")
        images = list_images(x)
        numbers = np.asarray(encode_labels(y, self.labels)).reshape(-1)
        if numbers.dtype.kind not in "iu" or len(numbers) != len(images):
            raise ValueError(f"y must be a label for each of {len(images)} images.")
        return images, numbers

    def mistakes(
        self, x: Any, y: Any = None, count: int = 12, batch_size: int | None = None
    ) -> list[dict[str, Any]]:
        """Return the worst mistakes: the wrong answers whose true class got the least probability.

        Args:
            x: images, or a folder as for `fit`.
            y: their labels; none for a folder.
            count: how many at most.
            batch_size: the number of images of a batch.

        Returns:
            A dict of `image`, `row`, `label`, `predicted`, `score` (of the predicted class) and
            `label_score` (of the true one) for each, the worst first.
        """
        images, numbers = self._with_labels(x, y)
        rows = worst_mistakes(self._probabilities(images, batch_size), numbers, self.labels, count)
        shown = [images[row["row"]] for row in rows]
        shown = [open_image(x) if isinstance(x, RowImage) else x for x in shown]
        return [{"image": x, **row} for x, row in zip(shown, rows, strict=True)]

    def plot_mistakes(
        self, x: Any, y: Any = None, count: int = 12, path: Any = None,
        batch_size: int | None = None,
    ) -> Any:  # fmt: skip
        """Draw the worst mistakes, each with its class and what it was taken for.

        Args:
            x: as for `mistakes`.
            y: as for `mistakes`.
            count: how many at most.
            path: of a file to write instead.
            batch_size: the number of images of a batch.

        Returns:
            A figure of matplotlib, where it is not written.

        Raises:
            ValueError: there is no mistake.
            ImportError: matplotlib is not installed.
        """
        images, numbers = self._with_labels(x, y)
        rows = worst_mistakes(self._probabilities(images, batch_size), numbers, self.labels, count)
        return plot_mistakes(rows, images, path)

    def plot_confusion_matrix(
        self, x: Any, y: Any = None, normalize: bool = False, path: Any = None,
        batch_size: int | None = None,
    ) -> Any:  # fmt: skip
        """Draw how often each class was taken for each other.

        Args:
            x: as for `mistakes`.
            y: as for `mistakes`.
            normalize: whether rows are shares of the true class rather than counts.
            path: of a file to write instead.
            batch_size: the number of images of a batch.

        Returns:
            A figure of matplotlib, where it is not written.

        Raises:
            ImportError: matplotlib is not installed.
        """
        images, numbers = self._with_labels(x, y)
        scores = self._probabilities(images, batch_size)
        return visualization.plot_confusion_matrix(numbers, scores, self.labels, normalize, path)

    def config_json(self) -> dict[str, Any]:
        """Return the keys of config.json that name the classes."""
        if family_of(self.backbone.family).library != "timm":
            return label_config(self)
        source = getattr(self.backbone, "source_config", {})
        pretrained = {**source.get("pretrained_cfg", {}), "num_classes": self.num_classes}
        return {
            "num_classes": self.num_classes, "label_names": self.labels,
            "num_features": self.backbone.hidden_dim, "pretrained_cfg": pretrained,
        }  # fmt: skip

    def answers(self, inputs: list[str], options: Any) -> list[dict[str, Any]]:
        """Return the likeliest labels of each image, with their scores."""
        best = self.classify(list_images(inputs), top_k=options.top_k)
        return [{"label": row[0]["label"], "top_k": row} for row in best]


def _flat_repeats(x: Any, y: Any, sample_weight: Any) -> tuple:
    """Return a batch whose inputs are (images, repeats, ...) as (images * repeats, ...)."""
    return x.reshape(-1, *x.shape[2:]), repeated(y, x.shape[1]), sample_weight
