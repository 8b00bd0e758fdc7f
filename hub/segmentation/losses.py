"""Losses of masks that prompts ask for: focal loss, dice loss, and that of the predicted quality.

A prompt may be ambiguous: of several masks only the one with the lowest loss is trained. The focal
loss weighs 20 times as much as the dice loss, and the squared error of the predicted intersection
over union as much (Kirillov et al., "Segment Anything", 2023, appendix A).
"""

from typing import Any

from keraslite import ops

FOCAL_WEIGHT, DICE_WEIGHT, IOU_WEIGHT = 20.0, 1.0, 1.0


def mask_losses(
    masks: Any,
    logits: Any,
    predicted_iou: Any,
    sample_weight: Any = None,
    focal_weight: float = FOCAL_WEIGHT,
    dice_weight: float = DICE_WEIGHT,
    iou_weight: float = IOU_WEIGHT,
    supervise_all_iou: bool = False,
) -> dict[str, Any]:
    """Return the parts of the loss of predicted masks, whose sum is trained.

    Args:
        masks: (batch, sets, height, width), what is to be predicted: 0 and 1, or bool.
        logits: (batch, sets, masks, height, width).
        predicted_iou: (batch, sets, masks).
        sample_weight: (batch, sets); 0 for sets that fill a batch up. 1 by default.
        focal_weight: of the focal loss.
        dice_weight: of the dice loss.
        iou_weight: of the squared error of the predicted IoU.
        supervise_all_iou: whether the predicted IoU of all masks is trained, rather than that of
            the best one alone.

    Returns:
        A dict of "focal_loss", "dice_loss" and "iou_loss", numbers: weighted means over the sets.

    >>> masks = np.array([[[[1.0, 1.0], [0.0, 0.0]]]])
    >>> logits = np.stack([30 * (2 * masks - 1), 30 - 60 * masks], axis=2)
    >>> losses = mask_losses(masks, logits, np.array([[[0.5, 0.9]]]))
    >>> {name: round(float(x), 4) for name, x in losses.items()}
    {'focal_loss': 0.0, 'dice_loss': 0.0, 'iou_loss': 0.25}
    """
    masks, logits = _as_floats(masks, logits)
    masks = ops.expand_dims(masks, 2)
    predicted_iou = ops.cast(predicted_iou, "float32")
    focal, dice = focal_loss(masks, logits), dice_loss(masks, logits)
    error = ops.square(predicted_iou - mask_iou(masks, logits))
    # One of the masks of each set is trained: the choice has no gradient.
    best = ops.argmin(focal_weight * focal + dice_weight * dice, axis=-1)
    choice = ops.one_hot(best, logits.shape[2], dtype="float32")
    parts = {
        "focal_loss": focal_weight * ops.sum(focal * choice, axis=-1),
        "dice_loss": dice_weight * ops.sum(dice * choice, axis=-1),
        "iou_loss": iou_weight * (
            ops.mean(error, axis=-1) if supervise_all_iou else ops.sum(error * choice, axis=-1)
        ),
    }  # fmt: skip
    if sample_weight is None:
        return {name: ops.mean(part) for name, part in parts.items()}
    weight = ops.cast(sample_weight, "float32")
    total = ops.maximum(ops.sum(weight), 1e-6)
    return {name: ops.sum(part * weight) / total for name, part in parts.items()}


def focal_loss(masks: Any, logits: Any, alpha: float = 0.25, gamma: float = 2.0) -> Any:
    """Return the focal loss of each mask, mean over its pixels (Lin et al., 2017).

    It is computed from logits, unlike `keras.losses.BinaryFocalCrossentropy`, which cuts
    probabilities off: a pixel that is surely wrong would have no gradient.

    Args:
        masks: (..., height, width), 0 and 1.
        logits: (..., height, width).
        alpha: the weight of pixels of the mask; that of others is 1 - alpha.
        gamma: how much easy pixels are discounted.

    >>> float(focal_loss(np.ones((1, 1)), np.zeros((1, 1))))  # 0.25 * 0.5 ** 2 * log(2)
    0.0433...
    """
    masks, logits = _as_floats(masks, logits)
    chances = ops.sigmoid(logits)
    wrong = masks * (1 - chances) + (1 - masks) * chances
    weight = masks * alpha + (1 - masks) * (1 - alpha)
    entropy = ops.maximum(logits, 0) - logits * masks + ops.softplus(-ops.abs(logits))
    return ops.mean(weight * wrong**gamma * entropy, axis=(-2, -1))


def dice_loss(masks: Any, logits: Any) -> Any:
    """Return the dice loss of each mask, smoothed by one pixel (Milletari et al., 2016).

    A set whose mask is empty has a gradient too, which `keras.losses.Dice` has not.

    Args:
        masks: (..., height, width), 0 and 1.
        logits: (..., height, width).

    >>> float(dice_loss(np.ones((1, 2)), np.zeros((1, 2))))  # 1 - (2 + 1) / (3 + 1)
    0.25
    """
    masks, logits = _as_floats(masks, logits)
    chances = ops.sigmoid(logits)
    shared = ops.sum(masks * chances, axis=(-2, -1))
    sizes = ops.sum(masks, axis=(-2, -1)) + ops.sum(chances, axis=(-2, -1))
    return 1 - (2 * shared + 1) / (sizes + 1)


def mask_iou(masks: Any, logits: Any, threshold: float = 0.0) -> Any:
    """Return the intersection over union of predicted masks with others, without a gradient.

    Args:
        masks: (..., height, width), 0 and 1.
        logits: (..., height, width).
        threshold: of the logits.

    Returns:
        (...) of float32; 0 where both masks are empty.

    >>> float(mask_iou(np.array([[1.0, 1.0, 0.0]]), np.array([[2.0, -1.0, 1.0]])))
    0.3333...
    """
    masks, logits = _as_floats(masks, logits)
    predicted = ops.cast(logits > threshold, "float32")
    shared = ops.sum(masks * predicted, axis=(-2, -1))
    union = ops.sum(ops.maximum(masks, predicted), axis=(-2, -1))
    return ops.stop_gradient(shared / ops.maximum(union, 1.0))


def _as_floats(masks: Any, logits: Any) -> tuple[Any, Any]:
    """Return both as tensors of float32, in which losses are computed."""
    return tuple(ops.cast(ops.convert_to_tensor(x), "float32") for x in (masks, logits))
