"""Recipes of training: what the arguments of `fit` do to the data, the optimizer and its rate."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

import keraslite as keras
from hub.preprocessing.image_augment import AutoAugment, LayerAugment, to_pixels
from hub.preprocessing.image_folder import transformed
from hub.preprocessing.image_inputs import open_image, to_rgb
from keraslite.optimizers.schedules import rate_on_host
from keraslite.random import make_default_seed
from keraslite.training.data import ArrayData, Mapped
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
    """

    augment: Any = None
    mixup: float = 0.0
    cutmix: float = 0.0
    warmup_epochs: float | None = None
    early_stopping: int | None = None
    ema: float | None = None

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
        return self

    def callbacks(self) -> list[Any]:
        """Return the callbacks of the recipe, which go before those of the caller."""
        stops, out = self.early_stopping is not None, []
        if self.warmup_epochs is not None:
            out.append(WarmUpCosine(self.warmup_epochs))
        if self.ema is not None:  # the weights that are validated are those that are kept
            out.append(keras.callbacks.SwapEMAWeights(swap_on_epoch=stops))
        if stops:
            out.append(
                keras.callbacks.EarlyStopping(
                    patience=self.early_stopping, restore_best_weights=True
                )
            )
        return out


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

    Raises:
        ValueError: "auto" is asked for, and the preprocessor has no size of its own.
    """

    def __init__(self, augment: Any, preprocessor: Any, before: Callable | None = None):
        self.preprocessor, self.before, self.is_auto = preprocessor, before, augment == "auto"
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
        super().__init__(data, function)
        self.by_number = data.by_number or isinstance(data, ArrayData)
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


# -- the optimizer -----------------------------------------------------------------------------


def plain_optimizers(optimizer: Any) -> list[Any]:
    """Return the optimizers that have a rate: those inside of one that scales or is several.

    Args:
        optimizer: the optimizer of a model.
    """
    inner = getattr(optimizer, "inner_optimizer", None)
    if inner is not None:
        return plain_optimizers(inner)
    return list(getattr(optimizer, "optimizers", None) or [optimizer])


@contextmanager
def kept_rates(optimizer: Any) -> Iterator[None]:
    """Give an optimizer its learning rate back at the end of a block.

    Args:
        optimizer: the optimizer of a model.

    Raises:
        ValueError: its rate is a schedule.
    """
    optimizers = plain_optimizers(optimizer)
    if any(callable(o.rate_source) for o in optimizers):
        raise ValueError(
            "warmup_epochs makes a schedule of the rate of the optimizer, which must be a number, "
            "got a schedule: leave one of them out."
        )
    rates = rates_of(optimizers)
    try:
        yield
    finally:
        for one, rate in zip(optimizers, rates, strict=True):
            one.learning_rate = rate


def rates_of(optimizers: Sequence[Any]) -> list[float]:
    """Return the rates of optimizers whose rate is a number.

    Args:
        optimizers: the optimizers.
    """
    return [float(keras.ops.convert_to_numpy(o.rate_source.value)) for o in optimizers]


def keep_average(optimizer: Any, momentum: float) -> None:
    """Let an optimizer keep a moving average of the weights.

    Args:
        optimizer: the optimizer of a model.
        momentum: of the average.

    Raises:
        ValueError: it has made its state without averages, or with others.
    """
    for one in plain_optimizers(optimizer):
        if one.built and (one.use_ema, one.ema_momentum) != (True, momentum):
            raise ValueError(
                f"ema={momentum} must be given to the first training after compile, since the "
                "optimizer makes its averages there: call compile anew."
            )
        one.use_ema, one.ema_momentum = True, momentum


class WarmUpCosine(keras.callbacks.Callback):
    """Lets the learning rate rise from 0 to that of the optimizer, and fall by a cosine to 0.

    Args:
        warmup_epochs: how long it rises.
    """

    def __init__(self, warmup_epochs: float):
        super().__init__()
        self.warmup_epochs = warmup_epochs
        self._schedules: list[tuple[Any, Any]] = []
        self._epoch = self._steps = 0

    def set_model(self, model: Any) -> None:
        """Take the model, and the rate of its optimizer, which a resumed training changes later."""
        super().set_model(model)
        optimizers = plain_optimizers(model.optimizer)
        self._schedules = list(zip(optimizers, rates_of(optimizers), strict=True))

    def on_train_begin(self, logs: Any = None) -> None:
        """Make the schedule."""
        epochs, steps = self.params["epochs"], self.params["steps"]
        if steps is None:
            raise ValueError(
                "warmup_epochs needs data whose number of batches is known: give steps_per_epoch."
            )
        if not self.warmup_epochs < epochs:
            raise ValueError(
                f"warmup_epochs must be less than epochs, {epochs}, got {self.warmup_epochs}."
            )
        self._steps, warm = steps, round(self.warmup_epochs * steps)
        cosine = keras.optimizers.schedules.CosineDecay
        self._schedules = [
            (optimizer, cosine(0.0, epochs * steps - warm, warmup_target=rate, warmup_steps=warm))
            for optimizer, rate in self._schedules
        ]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note the epoch."""
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Set the rate of the step."""
        for optimizer, schedule in self._schedules:
            optimizer.learning_rate = rate_on_host(schedule, self._epoch * self._steps + batch)


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
