"""Non-maximum suppression against its sequential definition, written with loops."""

import functools

import numpy as np
import pytest
from compare import assert_close, to_numpy

import keraslite
from keraslite import ops
from keraslite.utils.bounding_boxes import convert_format, non_max_suppression

RNG = np.random.default_rng(0)


def iou(a, b) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0


def reference(boxes, candidates, threshold, size, agnostic, pre_top_k):
    """Return (score, box, label) of one image.

    Args:
        boxes: (boxes, 4) as "xyxy".
        candidates: (score, box, label) of each, in the order of ties.
        threshold: of the intersection over union.
        size: the largest number of boxes.
        agnostic: whether classes make no difference.
        pre_top_k: how many are compared.
    """
    kept = []
    for score, box, label in sorted(candidates, key=lambda x: -x[0])[:pre_top_k]:  # stable
        if len(kept) == size:
            break
        if all(
            (label != other and not agnostic) or iou(boxes[box], boxes[best]) <= threshold
            for _, best, other in kept
        ):
            kept.append((score, box, label))
    return kept


def assert_selected(out, boxes, scores, labels=None, boxes_xyxy=None, **options):
    """Raise unless a batch of detections is that of the reference."""
    settings = {
        "iou_threshold": 0.7, "score_threshold": 0.25, "max_output_size": 300,
        "class_agnostic": False, "multi_label": False, "pre_top_k": 1000, **options,
    }  # fmt: skip
    size = settings["max_output_size"]
    out = {name: to_numpy(x) for name, x in out.items()}
    assert {x.dtype.name for n, x in out.items() if n not in ("boxes", "confidence")} == {"int32"}
    for i, own in enumerate(boxes):
        candidates = []
        for box, row in enumerate(scores[i].tolist()):
            if not isinstance(row, list):
                pairs = [(row, 0 if labels is None else int(labels[i, box]))]
            elif settings["multi_label"]:
                pairs = [(score, label) for label, score in enumerate(row)]
            else:
                pairs = [(max(row), row.index(max(row)))]
            candidates += [(s, box, c) for s, c in pairs if s > settings["score_threshold"]]
        exact = np.asarray(own if boxes_xyxy is None else boxes_xyxy[i], "float64")
        kept = reference(
            exact, candidates, settings["iou_threshold"], size, settings["class_agnostic"],
            settings["pre_top_k"],
        )  # fmt: skip
        rest = [-1] * (size - len(kept))
        assert out["num_detections"][i] == len(kept)
        assert out["indices"][i].tolist() == [box for _, box, _ in kept] + rest
        assert out["labels"][i].tolist() == [label for _, _, label in kept] + rest
        assert_close(out["confidence"][i], [score for score, _, _ in kept] + rest)
        assert_close(out["boxes"][i], [own[box] for _, box, _ in kept] + [[-1] * 4] * len(rest))


def clusters(batch, count, classes, size=64.0, spread=2.0):
    """Boxes around a few objects, and scores with ties."""
    centers = RNG.uniform(0, size, (batch, 6, 4))
    chosen = RNG.integers(0, 6, (batch, count))
    boxes = np.take_along_axis(centers, chosen[..., None], 1)
    boxes = boxes + RNG.normal(0, spread, boxes.shape)
    boxes = np.concatenate([boxes[..., :2], boxes[..., :2] + np.abs(boxes[..., 2:])], -1)
    scores = RNG.integers(0, 40, (batch, count, classes)) / 40
    return boxes.astype("float32"), scores.astype("float32")


def on(function, *arrays):
    """Call a function of tensors, eagerly and under jit."""
    arrays = [ops.convert_to_tensor(x) for x in arrays]
    return [function(*arrays), ops.jit(function)(*arrays)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"class_agnostic": True, "iou_threshold": 0.3},
        {"iou_threshold": 0.5, "max_output_size": 7, "score_threshold": 0.6},
        {"multi_label": True, "pre_top_k": 50, "max_output_size": 20},
        {"pre_top_k": None, "iou_threshold": 0.2, "class_agnostic": True, "max_output_size": 400},
    ],
)
def test_selection_is_that_of_the_definition(backend, options):
    boxes, scores = clusters(2, 300, 3)
    scores[1, 5:] = 0  # nearly empty
    for out in on(lambda b, s: non_max_suppression(b, s, **options), boxes, scores):
        assert_selected(out, boxes, scores, **options)


def test_boxes_with_one_score_may_have_labels(backend):
    boxes, scores = clusters(2, 40, 1)
    labels = RNG.integers(0, 2, (2, 40)).astype("int32")
    scores = scores[..., 0]
    for out in on(lambda b, s, c: non_max_suppression(b, s, c, 0.4), boxes, scores, labels):
        assert_selected(out, boxes, scores, labels, iou_threshold=0.4)
    for out in on(lambda b, s: non_max_suppression(b, s, iou_threshold=0.4), boxes, scores):
        assert_selected(out, boxes, scores, iou_threshold=0.4)


def test_one_image_needs_no_batch_axis(backend):
    boxes, scores = clusters(1, 30, 2)
    whole = non_max_suppression(boxes, scores, iou_threshold=0.4)
    one = non_max_suppression(boxes[0], scores[0], iou_threshold=0.4)
    assert_close(one, {name: to_numpy(x)[0] for name, x in whole.items()}, rtol=0, atol=0)


def test_other_formats_give_the_same_boxes(backend):
    boxes, scores = clusters(1, 60, 2)
    for name in ("yxyx", "center_xywh", "rel_xywh"):
        other = to_numpy(convert_format(boxes, "xyxy", name, 96, 128))
        out = non_max_suppression(
            other, scores, bounding_box_format=name, image_shape=(96, 128, 3), max_output_size=50
        )
        assert_selected(out, other, scores, boxes_xyxy=boxes, max_output_size=50)


def test_an_overlap_of_just_the_threshold_is_kept_and_ties_go_to_the_first(backend):
    boxes = np.array([[[0, 0, 2, 2], [0, 0, 2, 1], [0, 0, 2, 2], [5, 5, 5, 5]]], "float32")
    scores = np.array([[0.5, 0.5, 0.5, 0.5]], "float32")
    for out in on(lambda b, s: non_max_suppression(b, s, iou_threshold=0.5), boxes, scores):
        assert to_numpy(out["indices"])[0, :4].tolist() == [0, 1, 3, -1]


def test_nothing_is_selected_without_candidates(backend):
    boxes, scores = clusters(2, 12, 3)
    scores[0] = 0.1
    scores[1] = np.nan
    for out in on(non_max_suppression, boxes, scores):
        assert to_numpy(out["num_detections"]).tolist() == [0, 0]
        assert (to_numpy(out["boxes"]) == -1).all()
        assert (to_numpy(out["indices"]) == -1).all()


def test_it_is_compiled_by_torch_and_traced_by_models():
    boxes, scores = clusters(2, 30, 2)
    with keraslite.use_backend("torch"):
        torch = pytest.importorskip("torch")
        select = functools.partial(non_max_suppression, max_output_size=9)
        for run in (torch.compile(select, backend="eager"), ops.jit(select, compile="record")):
            for _ in range(4):  # some are run as they are before they are compiled
                out = run(ops.convert_to_tensor(boxes), ops.convert_to_tensor(scores))
            assert_selected(out, boxes, scores, max_output_size=9)
    with keraslite.use_backend("jax"):
        inputs = keraslite.Input((30, 4)), keraslite.Input((30, 2))
        model = keraslite.Model(inputs, non_max_suppression(*inputs, max_output_size=9))
        assert_selected(model([boxes, scores]), boxes, scores, max_output_size=9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scores": np.zeros((2, 3))}, "scores must be"),
        ({"boxes": np.zeros((4,))}, "boxes must be"),
        ({"labels": np.zeros((1, 5), "int32")}, "one score each"),
        ({"max_output_size": 0}, "max_output_size must be positive, got 0"),
        ({"pre_top_k": 0}, "pre_top_k must be positive"),
        ({"bounding_box_format": "rel_xyxy"}, "height and width"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    boxes, scores = clusters(1, 5, 2)
    with pytest.raises(ValueError, match=message):
        non_max_suppression(**{"boxes": boxes, "scores": scores, **arguments})
