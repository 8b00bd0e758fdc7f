"""Losses of masks against torch and the formulas, on all backends, with gradients."""

import numpy as np
import pytest
import torch
from compare import assert_close, to_numpy
from torch.nn import functional

import keraslite
from hub.segmentation.losses import dice_loss, focal_loss, mask_iou, mask_losses


def cases(batch=2, sets=3, masks=3, side=12, seed=0):
    rng = np.random.default_rng(seed)
    truth = (rng.random((batch, sets, side, side)) < 0.4).astype("float32")
    truth[0, 0] = 0  # an empty mask
    logits = rng.normal(0, 8, (batch, sets, masks, side, side)).astype("float32")
    logits[1, 1, 2] = 20 * truth[1, 1] - 10  # an almost perfect one
    return truth, logits, rng.random((batch, sets, masks)).astype("float32")


def reference(truth, logits, predicted, weight=None, every=False):
    """In float64 of torch: the loss of each mask, then that of the best one of each set."""
    truth = torch.as_tensor(truth, dtype=torch.float64)[:, :, None].expand_as(logits)
    p = logits.sigmoid()
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    p_t = torch.where(truth > 0, p, 1 - p)
    alpha = torch.where(truth > 0, 0.25, 0.75)
    focal = (alpha * (1 - p_t) ** 2 * entropy).flatten(3).mean(-1)
    shared, sizes = ((truth * p).flatten(3).sum(-1), (truth + p).flatten(3).sum(-1))
    dice = 1 - (2 * shared + 1) / (sizes + 1)
    hard = logits > 0
    union = ((truth > 0) | hard).flatten(3).sum(-1).clamp(min=1)
    error = (predicted - ((truth > 0) & hard).flatten(3).sum(-1) / union) ** 2
    best = (20 * focal + dice).argmin(-1, keepdim=True)
    parts = [x.gather(-1, best)[..., 0] for x in (20 * focal, dice, error)]
    parts[2] = error.mean(-1) if every else parts[2]
    weight = torch.ones(parts[0].shape) if weight is None else torch.as_tensor(weight)
    names = ("focal_loss", "dice_loss", "iou_loss")
    return {n: (x * weight).sum() / weight.sum() for n, x in zip(names, parts, strict=True)}


WEIGHT = np.array([[1, 0, 1], [0, 1, 1]], "float32")


@pytest.mark.parametrize(("weight", "every"), [(None, False), (WEIGHT, False), (WEIGHT, True)])
def test_losses_are_those_of_torch(backend, weight, every):
    truth, logits, predicted = cases()
    expected = reference(
        truth, torch.from_numpy(logits).double(), torch.from_numpy(predicted), weight, every
    )
    ours = mask_losses(
        keraslite.ops.convert_to_tensor(truth), keraslite.ops.convert_to_tensor(logits),
        keraslite.ops.convert_to_tensor(predicted), weight, supervise_all_iou=every,
    )  # fmt: skip
    assert list(ours) == list(expected)
    for name, value in expected.items():
        assert_close(ours[name], value.numpy(), message=name)
    bools = mask_losses(truth.astype(bool), logits, predicted, weight, supervise_all_iou=every)
    for name, value in ours.items():
        assert_close(bools[name], value)


def test_weights_of_the_parts_choose_the_best_mask(backend):
    truth, logits, predicted = cases()
    ours = mask_losses(truth, logits, predicted, focal_weight=0.0, dice_weight=2.0, iou_weight=0.5)
    lowest = to_numpy(dice_loss(truth[:, :, None], logits)).min(-1)
    assert float(ours["focal_loss"]) == 0
    assert_close(ours["dice_loss"], 2 * lowest.mean())


def test_gradients_are_those_of_torch(trains):
    truth, logits, predicted = cases()

    leaf = torch.from_numpy(logits).double().requires_grad_()
    quality = torch.from_numpy(predicted).double().requires_grad_()
    sum(reference(truth, leaf, quality, WEIGHT).values()).backward()

    variables = [keraslite.Variable(x) for x in (logits, predicted)]

    def loss():
        parts = mask_losses(truth, *(v.value for v in variables), WEIGHT)
        return sum(parts.values())

    _, gradients = keraslite.value_and_grad(loss, variables=variables)()
    for ours, theirs in zip(gradients, (leaf.grad, quality.grad), strict=True):
        assert_close(ours, theirs.numpy(), atol=1e-7, share=1e-5)
        assert np.abs(to_numpy(ours)).max() > 0
    # Masks that are not the best of their set, and sets without weight, have none.
    moved = (np.abs(to_numpy(gradients[0])).max((-2, -1)) > 0).sum(-1)
    assert moved.tolist() == WEIGHT.astype(int).tolist()


def test_pixels_that_are_surely_wrong_have_a_loss(backend):
    loss = focal_loss(np.ones((1, 1)), keraslite.ops.convert_to_tensor(np.float32([[-200.0]])))
    assert float(loss) == pytest.approx(0.25 * 200)
    assert float(focal_loss(np.ones((1, 1)), np.float32([[200.0]]))) == 0
    empty = mask_iou(np.zeros((2, 2)), keraslite.ops.convert_to_tensor(np.full((2, 2), -1.0)))
    assert float(empty) == 0
