"""Training and evaluation of `hub.ImageSegmenter`, on pictures with masks of their objects."""

from typing import Any

import keraslite as keras
from hub.segmentation.data import MaskBatches, MaskSample, as_mask_samples
from hub.segmentation.losses import (
    DICE_WEIGHT,
    FOCAL_WEIGHT,
    IOU_WEIGHT,
    mask_iou,
    mask_losses,
)
from keraslite import ops
from keraslite.training.data import StreamData

PARTS = ("focal_loss", "dice_loss", "iou_loss", "mean_iou")
BATCH_SIZE = 2


class SegmenterTraining:
    """The methods of `hub.ImageSegmenter` for training: `compile`, loss, `fit` and `evaluate`."""

    def compile(
        self: Any, optimizer: Any = "auto", focal_weight: float = FOCAL_WEIGHT,
        dice_weight: float = DICE_WEIGHT, iou_weight: float = IOU_WEIGHT, **kwargs: Any,
    ) -> None:  # fmt: skip
        """Set optimizer and the weights of the losses.

        Args:
            optimizer: as for `Model.compile`; AdamW with a learning rate of 1e-4 by default.
            focal_weight: of the focal loss.
            dice_weight: of the dice loss.
            iou_weight: of the squared error of the predicted quality.
            kwargs: as for `Model.compile`, but no loss and no metrics.

        Raises:
            ValueError: there is another loss, or there are metrics.
        """
        for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
            if kwargs.pop(name, None) not in (None, "auto"):
                raise ValueError(
                    f"{name} must be None: segmenters have focal, dice and IoU losses, whose "
                    "weights compile takes, and give their mean IoU."
                )
        with keras.use_backend(self.backend):
            if optimizer == "auto":
                optimizer = keras.optimizers.AdamW(1e-4, weight_decay=0.01)
                optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
            self.loss_parts = [keras.metrics.Mean(name=name) for name in PARTS]
        keras.Model.compile(self, optimizer, **kwargs)
        self.__dict__["_kl_losses"] = {
            "focal_weight": focal_weight, "dice_weight": dice_weight, "iou_weight": iou_weight,
        }  # fmt: skip

    def get_compile_config(self: Any) -> dict[str, Any] | None:
        """Return the arguments of `compile`, as a config."""
        config = keras.Model.get_compile_config(self)
        if config is None:
            return None
        others = ("loss", "loss_weights", "metrics", "weighted_metrics")
        return {**{k: v for k, v in config.items() if k not in others}, **self._kl_losses}

    def compute_loss(
        self: Any, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None,
        training: bool = True,
    ) -> Any:  # fmt: skip
        """Return the loss of a batch: that of the mask for clear prompts, and that of the best of
        those for ambiguous ones, half each.

        The authors train either by the number of prompts. Here both are, so that either can be
        asked for, and so are all predictions of the quality, by which the best mask is chosen.

        Args:
            x: the inputs.
            y: masks (batch, sets, mask size, mask size), 0 and 1.
            y_pred: the outputs.
            sample_weight: (batch, sets), 0 for sets that do not count.
            training: whether the call trains.
        """
        masks, quality = y_pred["masks"], y_pred["iou_pred"]
        clear, ambiguous = (
            mask_losses(
                y, masks[:, :, part], quality[:, :, part], sample_weight, **self._kl_losses,
                supervise_all_iou=True,
            )
            for part in (slice(0, 1), slice(1, None))
        )  # fmt: skip
        losses = {name: (clear[name] + ambiguous[name]) / 2 for name in clear}
        overlaps = mask_iou(ops.expand_dims(y, 2), masks[:, :, 1:])
        best = ops.one_hot(ops.argmax(quality[:, :, 1:], axis=-1), overlaps.shape[-1])
        overlaps = ops.sum(overlaps * ops.cast(best, overlaps.dtype), axis=-1)
        weight = ops.ones_like(overlaps) if sample_weight is None else sample_weight
        weight = ops.cast(weight, overlaps.dtype)
        mean = ops.sum(overlaps * weight) / ops.maximum(ops.sum(weight), 1e-6)
        for metric in self.loss_parts:
            metric.update_state(ops.stop_gradient({**losses, "mean_iou": mean}[metric.name]))
        own = [ops.cast(ops.sum(v), "float32") for v in self.losses]
        return sum(own, sum(losses.values()))

    def fit(
        self: Any, x: Any = None, y: Any = None, *, prompts: str = "mixed", most_objects: int = 8,
        train_encoder: bool = False, batch_size: int = BATCH_SIZE, shuffle: bool = True,
        validation_split: float = 0.0, validation_data: Any = None, epochs: int = 1, **kwargs: Any,
    ) -> Any:  # fmt: skip
        """Train the mask decoder on pictures with masks of their objects.

        The encoder is frozen and encodes each picture once: its embeddings, 4 megabytes each for
        images of 1024, are kept in memory meanwhile. Prompts that are not given are drawn from the
        masks; what is drawn follows from the seed and the number of the epoch.

        Args:
            x: pairs of a picture and a dict of its "masks", (height, width) or (objects, height,
                width) of bool, and perhaps of "points" and "labels", nested by objects, and "boxes"
                (objects, 4), in pixels of the picture; a dict of "images" and lists of these; or
                pictures.
            y: of pictures in x a list of their masks, or a dict of lists.
            prompts: what is drawn where there are none: "points", "boxes" or "mixed".
            most_objects: of a picture in a step.
            train_encoder: whether the encoder of images is trained too; embeddings are not kept
                then. With LoRA the adapter says what is trained.
            batch_size: pictures in a batch.
            shuffle: whether each epoch has an order of its own.
            validation_split: the part of the pictures, the last ones, that is held back.
            validation_data: as x, or (x, y).
            epochs: passes over the data.
            kwargs: as for `Model.fit`, without `sample_weight` and `class_weight`.

        Returns:
            The History, of losses and of `mean_iou`, that of the best mask by its own prediction.

        Raises:
            TypeError: data are of another form.
            ValueError: masks or prompts are not valid, or there is no preprocessor.
        """
        if weights := [n for n in ("sample_weight", "class_weight") if kwargs.get(n) is not None]:
            raise ValueError(f"Segmenters are trained without {weights}.")
        if validation_split and validation_data is not None:
            raise ValueError("Give validation_split or validation_data, not both.")
        if not 0 <= validation_split < 1:
            raise ValueError(f"validation_split must be from 0 to 1, got {validation_split!r}.")
        self.required_preprocessor()
        samples, held_out = as_mask_samples(x, y), []
        if validation_split:
            count = len(samples) - max(int(validation_split * len(samples)), 1)
            samples, held_out = samples[:count], samples[count:]
            if not samples:
                raise ValueError("validation_split leaves no picture to train on.")
        elif validation_data is not None:
            pair = validation_data if _is_pair(validation_data) else (validation_data,)
            held_out = as_mask_samples(*pair)
        if not any(getattr(layer, "lora_enabled", False) for layer in self.flatten_layers()):
            self.backbone.image_encoder.trainable = train_encoder
            self.backbone.prompt_encoder.trainable = False  # a batch has prompts of one kind
        if not self.compiled:
            self.compile()
        options = {"most_objects": most_objects, "batch_size": batch_size}
        data = self._batches(samples, prompts=prompts, shuffle=shuffle, **options)
        if held_out:
            held_out = self._batches(held_out, prompts="points", seed=0, **options)
        return keras.Model.fit(
            self, data, epochs=epochs, validation_data=held_out or None, **kwargs
        )

    def evaluate(
        self: Any, x: Any = None, y: Any = None, batch_size: int | None = None,
        prompts: str = "points", most_objects: int = 8, **kwargs: Any,
    ) -> Any:  # fmt: skip
        """Return the losses and the mean IoU on what `fit` takes, with the same prompts each time.

        Args:
            x: as for `fit`.
            y: as for `fit`.
            batch_size: pictures in a batch.
            prompts: as for `fit`.
            most_objects: as for `fit`.
            kwargs: as for `Model.evaluate`, without `sample_weight`.
        """
        if not isinstance(x, StreamData):
            self.required_preprocessor()
            x = self._batches(
                as_mask_samples(x, y), prompts=prompts, most_objects=most_objects, seed=0,
                batch_size=batch_size or BATCH_SIZE,
            )  # fmt: skip
        if not self.compiled:
            self.compile()
        kwargs.pop("sample_weight", None)
        return keras.Model.evaluate(self, x, **kwargs)

    def _batches(self: Any, samples: list[MaskSample], **options: Any) -> StreamData:
        """Return batches of embeddings, or of pictures where the encoder is trained."""
        embeddings = None
        if not self.backbone.image_encoder.trainable_variables:
            embeddings = [
                ops.convert_to_numpy(ops.cast(self.embed(s.picture).embedding[0], "float32"))
                for s in samples
            ]
        return StreamData(MaskBatches(samples, self.preprocessor, embeddings, **options))


def _is_pair(data: Any) -> bool:
    """Return whether validation data are (x, y), rather than x alone."""
    return isinstance(data, tuple) and len(data) == 2
