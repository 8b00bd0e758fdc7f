"""Recipes of training: what the arguments of `fit` do to the data, the optimizer and its rate."""

import math
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import keraslite as keras
from hub.preprocessing.image_augment import AutoAugment, LayerAugment, to_pixels
from hub.preprocessing.image_folder import DEFAULT_BATCH_SIZE, transformed
from hub.preprocessing.image_inputs import open_image, to_rgb
from hub.tasks.image.rates import recipe_callbacks
from keraslite.random import make_default_seed
from keraslite.training.data import Mapped
from keraslite.utils.data import map_ahead


class Recipe(NamedTuple):
    """The arguments of `fit` that make a recipe; each default changes nothing.

    Args:
        augment: "auto", a layer, or a function of a picture.
        mixup: the parameter of the Beta distribution of MixUp; 0 for none.
        cutmix: that of CutMix.
        warmup_epochs: how long the rate rises, before it falls to 0; None leaves it alone.
        early_stopping: how many epochs without a better `val_loss` are borne; None for no end.
        ema: the momentum of the moving average of the weights; None for none.
        layer_decay: the rate of a group of layers, as a share of that of the next; None for one
            rate.
        repeats: how often each image stands in a batch, augmented anew.
    """

    augment: Any = None
    mixup: float = 0.0
    cutmix: float = 0.0
    warmup_epochs: float | None = None
    early_stopping: int | None = None
    ema: float | None = None
    layer_decay: float | None = None
    repeats: int = 1

    @property
    def mixes(self) -> bool:
        """Whether images are mixed, and labels soft."""
        return bool(self.mixup or self.cutmix)

    def checked(self) -> "Recipe":
        """Return the recipe.

        Raises:
            ValueError: a value is none that the argument may have.
        """
        augment = self.augment
        if augment is not None and augment != "auto" and not callable(augment):
            raise ValueError(
                "augment must be 'auto', a layer, a function of a picture or None, got "
                f"{augment!r}."
            )
        _check("mixup", self.mixup, 0, math.inf, "a number from 0 (none) on")
        _check("cutmix", self.cutmix, 0, 1, "a number from 0 (none) to 1")
        if self.warmup_epochs is not None:
            _check("warmup_epochs", self.warmup_epochs, 0, math.inf, "a number from 0 on, or None")
        if self.ema is not None:
            _check("ema", self.ema, 0, 1, "a number from 0 to 1, such as 0.999, or None")
        patience = self.early_stopping
        if patience is not None and (type(patience) is not int or patience < 1):
            raise ValueError(f"early_stopping must be a positive int or None, got {patience!r}.")
        if self.layer_decay is not None:
            _check("layer_decay", self.layer_decay, 0, 1, "a number from 0 to 1, such as 0.75")
        if type(self.repeats) is not int or self.repeats < 1:
            raise ValueError(f"repeats must be a positive int, got {self.repeats!r}.")
        if self.repeats > 1 and augment is None:
            raise ValueError("repeats needs augment: the same image twice teaches nothing new.")
        return self

    def images_in(self, batch_size: int | None) -> int | None:
        """Return the number of different images of a batch.

        Args:
            batch_size: the size of a batch; None for the default.

        Raises:
            ValueError: `repeats` does not divide it.
        """
        if self.repeats == 1:
            return batch_size
        size = batch_size or DEFAULT_BATCH_SIZE
        if size % self.repeats:
            raise ValueError(
                f"batch_size must be a multiple of repeats={self.repeats}, got {size}."
            )
        return size // self.repeats

    def callbacks(self) -> list[Any]:
        """Return the callbacks of the recipe, which go before those of the caller."""
        return recipe_callbacks(self.warmup_epochs, self.early_stopping, self.ema)


def _check(name: str, value: Any, low: float, high: float, expected: str) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high or value == math.inf:
        raise ValueError(f"{name} must be {expected}, got {value!r}.")


# -- data --------------------------------------------------------------------------------------


class ReadyPicture:
    """A function from a picture and a seed to the augmented input of the model.

    Args:
        augment: as in a `Recipe`.
        preprocessor: a `hub.ImagePreprocessor`.
        before: a `transform` of an `ImageFolder` that comes first.
        repeats: how often the picture is augmented; where it is more than once, the inputs are
            stacked.

    Raises:
        ValueError: "auto" is asked for, and the preprocessor has no size of its own.
    """

    def __init__(
        self, augment: Any, preprocessor: Any, before: Callable | None = None, repeats: int = 1
    ):
        self.preprocessor, self.before, self.is_auto = preprocessor, before, augment == "auto"
        self.repeats = repeats
        if self.is_auto:
            size = preprocessor.image_size
            if None in size:
                raise ValueError(
                    "augment='auto' needs a preprocessor that makes images of one size, got one "
                    f"with the settings {preprocessor.settings}: give it a height and a width, or "
                    "augment=layer."
                )
            augment = AutoAugment(size, resample=preprocessor.settings["resample"])
        self.augment = _picture_function(augment)

    def __call__(self, picture: Any, seed: int) -> np.ndarray:
        picture = transformed(picture, self.before, seed)
        if self.repeats == 1:
            return self._input(picture, seed)
        return np.stack([self._input(picture, own) for own in seeds_of(seed, self.repeats)])

    def _input(self, picture: Any, seed: int) -> np.ndarray:
        if self.is_auto:
            picture = self.augment(to_rgb(open_image(picture)), seed=seed)
            return self.preprocessor.values(np.asarray(picture))
        return self.preprocessor.pixels(transformed(picture, self.augment, seed))


class LayerOfPictures(LayerAugment):
    """A layer as a function of a picture, which gives an array of uint8."""

    def __call__(self, data: Any, seed: int) -> np.ndarray:
        return to_pixels(super().__call__(np.asarray(data), seed))


def _picture_function(augment: Any) -> Callable:
    return LayerOfPictures(augment) if isinstance(augment, keras.Layer) else augment


def repeated(values: Any, repeats: int) -> Any:
    """Return the rows of an array or a list, each several times in succession.

    Args:
        values: the array or list; None gives None.
        repeats: how often.

    >>> repeated([1, 2], 2).tolist()
    [1, 1, 2, 2]
    """
    if values is None or repeats == 1:
        return values
    if not isinstance(values, list | np.ndarray):
        values = keras.ops.convert_to_numpy(values)
    return np.repeat(values, repeats, axis=0)


def augmenting_images(augment: Any, preprocessor: Any) -> Callable:
    """Return a function from the images of a batch and a seed to the inputs of the model.

    Args:
        augment: as in a `Recipe`.
        preprocessor: a `hub.ImagePreprocessor`.
    """
    ready = ReadyPicture(augment, preprocessor)
    workers = min(os.cpu_count() or 1, 8)

    def one(row: tuple[Any, int]) -> np.ndarray:
        return ready(to_rgb(open_image(row[0])), row[1])

    def change(images: Any, seed: int) -> np.ndarray:
        rows = list(zip(images, seeds_of(seed, len(images)), strict=True))
        return np.stack(list(map_ahead(one, rows, workers, len(rows))))

    return change


def augmenting_arrays(augment: Any) -> Callable:
    """Return a function of a batch of ready arrays and a seed.

    Args:
        augment: a layer, which is called with batches, or a function of one array.

    Raises:
        ValueError: "auto" is asked for, whose strengths are those of pixels.
    """
    if isinstance(augment, str):
        raise ValueError(
            "augment='auto' changes pictures before they are normalised: it needs a preprocessor, "
            "which the task lacks. Give augment=layer for the values that the arrays have."
        )
    if isinstance(augment, keras.Layer):
        layer = LayerAugment(augment)
        return lambda arrays, seed: np.asarray(layer(keras.ops.convert_to_numpy(arrays), seed))

    def change(arrays: Any, seed: int) -> np.ndarray:
        rows = zip(keras.ops.convert_to_numpy(arrays), seeds_of(seed, len(arrays)), strict=True)
        return np.stack([np.asarray(transformed(x, augment, own)) for x, own in rows])

    return change


def mixing(mixup: float, cutmix: float, num_classes: int) -> Callable:
    """Return a function of ready images, labels and a seed that mixes them.

    Args:
        mixup: as in a `Recipe`.
        cutmix: likewise; where both are given, one of them is drawn for each batch.
        num_classes: the number of classes.
    """
    layers = []
    if mixup:
        layers.append(LayerAugment(keras.layers.MixUp(mixup, dtype="float32")))
    if cutmix:
        layers.append(LayerAugment(keras.layers.CutMix((cutmix, cutmix), dtype="float32")))

    def change(images: Any, labels: Any, seed: int) -> tuple[np.ndarray, np.ndarray]:
        images, labels = map(keras.ops.convert_to_numpy, (images, labels))
        if labels.ndim < 2 or labels.shape[-1] != num_classes:
            labels = np.eye(num_classes, dtype="float32")[labels.reshape(-1).astype(int)]
        layer = layers[seed % len(layers)]
        out = layer({"images": images, "labels": labels}, seed)
        return np.asarray(out["images"]), np.asarray(out["labels"])

    return change


def seeds_of(seed: int, count: int) -> list[int]:
    """Return seeds that follow from one.

    >>> seeds_of(1, 2) == seeds_of(1, 3)[:2]
    True
    """
    return [int(s) for s in np.random.SeedSequence(seed).generate_state(count)]


class SeededBatches(Mapped):
    """Data whose batches go through a function of (x, y, sample_weight) and a seed.

    The seed follows from that of the data, the number of the epoch and that of the batch.

    Args:
        data: the data.
        function: gives the new (x, y, sample_weight).
    """

    def __init__(self, data: Any, function: Callable):
        super().__init__(data, function, pure=True)
        self._own_seed = make_default_seed()  # of data without one

    def first(self) -> tuple:
        """Return a batch to build a model with."""
        return self.function(*self.data.first(), seed=0)

    def epoch(self, number: int) -> Iterator[tuple]:
        """Yield the batches of an epoch."""
        seed = self._own_seed if self.seed is None else self.seed
        for step, batch in enumerate(self.data.epoch(number)):
            sequence = np.random.SeedSequence((seed % 2**64, number, step))
            yield self.function(*batch, seed=int(sequence.generate_state(1)[0]))


# -- the loss ----------------------------------------------------------------------------------


def is_sparse(loss: Any) -> bool:
    """Return whether a loss takes class numbers.

    >>> is_sparse("sparse_categorical_crossentropy"), is_sparse("mse")
    (True, False)
    """
    sparse = keras.losses.SparseCategoricalCrossentropy
    return isinstance(loss, sparse) or isinstance(keras.losses.get(loss), sparse) or (
        getattr(keras.losses.get(loss), "__name__", "") == "sparse_categorical_crossentropy"
    )  # fmt: skip


def soft_loss(loss: Any) -> Any:
    """Return the crossentropy of soft labels that a sparse one is for class numbers.

    Args:
        loss: the sparse one.
    """
    options = loss.get_config() if isinstance(loss, keras.losses.Loss) else {}
    return keras.losses.CategoricalCrossentropy(
        from_logits=options.get("from_logits", False),
        reduction=options.get("reduction", "sum_over_batch_size"),
    )
