"""Metrics of detection against pycocotools, batch by batch, and by hand."""

import contextlib
import io

import numpy as np
import pytest
from backends import BACKENDS
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import keraslite as keras
from hub.detection.metrics import (
    BoxCOCOMetrics,
    DetectionConfusionMatrix,
    MeanAveragePrecision,
)

NAMES = [
    "mAP", "mAP50", "mAP75", "mAP_small", "mAP_medium", "mAP_large", "recall_1", "recall_10",
    "recall_100", "recall_small", "recall_medium", "recall_large",
]  # fmt: skip


def random_pictures(seed, count=25, classes=4, objects=8, detections=30, crowds=0.0, ties=False):
    """Pictures of boxes of all sizes, with detections near them, elsewhere and twice."""
    generator = np.random.default_rng(seed)
    truths, answers = [], []

    def boxes_of(n):
        corner = generator.uniform(0, 400, (n, 2))
        size = np.exp(generator.uniform(np.log(8), np.log(240), (n, 2)))
        return np.concatenate([corner, corner + size], -1).astype("float32")

    for _ in range(count):
        n, m = generator.integers(0, objects + 1), generator.integers(0, detections + 1)
        boxes, labels = boxes_of(n), generator.integers(0, classes, n)
        found, found_labels = boxes_of(m), generator.integers(0, classes, m)
        for i in np.flatnonzero(generator.random(m) < 0.8) if n else ():
            j = generator.integers(n)
            shift = generator.normal(0, 0.06, 4) * np.tile(boxes[j, 2:] - boxes[j, :2], 2)
            found[i] = boxes[j] + shift * generator.choice([0, 1, 2])
            if generator.random() < 0.85:
                found_labels[i] = labels[j]
        scores = generator.random(m).astype("float32")
        truths.append({
            "boxes": boxes, "labels": labels, "ignored": generator.random(n) < crowds,
        })  # fmt: skip
        answers.append({
            "boxes": found, "labels": found_labels,
            "confidence": np.round(scores, 1) if ties else scores,
        })  # fmt: skip
    return truths, answers


def coco_tables(truths, answers, classes, max_detections=100):
    """Precision (T, R, C, A) and recall (T, C, A) of the most detections, and its twelve numbers."""
    annotations, results = [], []
    for i, (truth, answer) in enumerate(zip(truths, answers)):
        for j in range(len(truth["boxes"])):
            x1, y1, x2, y2 = truth["boxes"][j].astype("float64").tolist()
            annotations.append({
                "id": len(annotations) + 1, "image_id": i, "category_id": int(truth["labels"][j]),
                "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": int(truth["ignored"][j]),
                "area": float(truth["areas"][j]) if "areas" in truth else (x2 - x1) * (y2 - y1),
            })  # fmt: skip
        for j in range(len(answer["boxes"])):
            x1, y1, x2, y2 = answer["boxes"][j].astype("float64").tolist()
            results.append({
                "image_id": i, "category_id": int(answer["labels"][j]),
                "bbox": [x1, y1, x2 - x1, y2 - y1], "score": float(answer["confidence"][j]),
            })  # fmt: skip
    truth, answer = COCO(), None
    truth.dataset = {
        "info": {}, "annotations": annotations, "images": [{"id": i} for i in range(len(truths))],
        "categories": [{"id": i} for i in range(classes)],
    }  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        answer = truth.loadRes(results)
        evaluation = COCOeval(truth, answer, "bbox")
        evaluation.params.maxDets = [1, 10, max_detections]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][..., -1]
    return precision, evaluation.eval["recall"], evaluation.stats


CASES = {
    "plain": {},
    "crowds": {"crowds": 0.3, "objects": 12},
    "ties of scores": {"ties": True, "detections": 60},
    "many classes": {"classes": 40},
    "one class, many detections": {"classes": 1, "detections": 200, "count": 12},
    "few objects": {"objects": 1, "count": 6, "classes": 9, "detections": 9},
    "all crowds": {"crowds": 1.0},
}


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_pycocotools(name):
    options = CASES[name]
    truths, answers = random_pictures(len(name), **options)
    classes = options.get("classes", 4) + 1  # one is absent
    precision, recall, stats = coco_tables(truths, answers, classes)
    metric = MeanAveragePrecision()
    metric.update_state(truths, answers)
    values = metric.result()
    assert list(values) == NAMES
    np.testing.assert_allclose([values[key] for key in NAMES], stats, rtol=0, atol=1e-9)
    if name != "all crowds":
        assert 0.05 < values["mAP"] < 0.95  # the case is a case

    by_class = metric.result_by_class()
    has_objects = (precision[0, 0, :, 0] > -1).nonzero()[0]
    assert list(by_class) == has_objects.tolist()
    for label in has_objects:
        own = by_class[label]
        assert own["mAP"] == pytest.approx(precision[:, :, label, 0].mean(), abs=1e-9)
        assert own["mAP50"] == pytest.approx(precision[0, :, label, 0].mean(), abs=1e-9)
        for i, few in enumerate((1, 10, 100)):
            expected = recall[:, label, 0, i].mean()
            assert own[f"recall_{few}"] == pytest.approx(expected, abs=1e-9)
    curves = metric.curves()
    np.testing.assert_allclose(
        curves.precision_at_recall, precision[0, :, has_objects, 0], rtol=0, atol=1e-9
    )


def test_areas_of_objects_may_be_given():
    truths, answers = random_pictures(3)
    for truth in truths:
        truth["areas"] = np.linspace(100, 20000, len(truth["boxes"]))
    stats = coco_tables(truths, answers, 4)[2]
    values = MeanAveragePrecision()(truths, answers)
    np.testing.assert_allclose([values[key] for key in NAMES], stats, rtol=0, atol=1e-9)


@pytest.mark.parametrize("count", [20, 300])
def test_other_numbers_of_detections(count):
    truths, answers = random_pictures(5, count=6, classes=1, objects=30, detections=400)
    precision, recall, _ = coco_tables(truths, answers, 1, count)
    values = MeanAveragePrecision(max_detections=count)(truths, answers)
    assert values["mAP"] == pytest.approx(precision[..., 0].mean(), abs=1e-9)
    assert values[f"recall_{count}"] == pytest.approx(recall[:, :, 0, -1].mean(), abs=1e-9)


def padded(rows, convert, **fill):
    """A batch of rows of different lengths as arrays, filled up."""
    size = max(len(row["boxes"]) for row in rows) + 2
    batch = {}
    for key in rows[0]:
        values = np.full((len(rows), size, *rows[0][key].shape[1:]), fill.get(key, 0))
        values = values.astype("int32" if key == "labels" else "float32")
        for i, row in enumerate(rows):
            values[i, : len(row[key])] = row[key]
        batch[key] = convert(values)
    return batch


def test_batches_of_every_backend(backend):
    truths, answers = random_pictures(2, crowds=0.2)
    expected = MeanAveragePrecision()(truths, answers)
    metric = MeanAveragePrecision()
    for i in range(0, len(truths), 4):
        y_true = padded(truths[i : i + 4], keras.ops.convert_to_tensor, labels=-1, boxes=-1)
        y_pred = padded(answers[i : i + 4], keras.ops.convert_to_tensor, labels=-1, boxes=np.nan)
        assert metric.update_state(y_true, y_pred) is None
    assert metric.result() == expected
    metric.reset_state()
    assert set(metric.result().values()) == {-1.0}


@pytest.mark.skipif(len(BACKENDS) < 2, reason="needs two backends")
def test_backends_may_be_mixed():
    truths, answers = random_pictures(2)
    tensors = []
    for name, rows in zip(BACKENDS, (truths, answers)):
        with keras.use_backend(name):
            tensors.append(padded(rows, keras.ops.convert_to_tensor, labels=-1))
    assert MeanAveragePrecision()(*tensors) == MeanAveragePrecision()(truths, answers)


def test_the_number_of_detections_cuts_off_the_rest():
    truths, answers = random_pictures(4)
    expected = MeanAveragePrecision()(truths, answers)
    batch = padded(answers, np.asarray)
    batch["num_detections"] = np.array([len(row["boxes"]) for row in answers])
    assert MeanAveragePrecision()(truths, batch) == expected


@pytest.mark.parametrize("target", ["xywh", "center_xywh", "yxyx"])
def test_other_formats(target):
    truths, answers = random_pictures(6)
    expected = MeanAveragePrecision()(truths, answers)
    with keras.use_backend("numpy"):
        rows = [
            [
                {**row, "boxes": keras.utils.bounding_boxes.convert_format(
                    row["boxes"], "xyxy", target, dtype="float64")}
                for row in side
            ]
            for side in (truths, answers)
        ]  # fmt: skip
    assert MeanAveragePrecision(target)(*rows) == pytest.approx(expected, abs=1e-9)


def test_a_region_of_no_class_excuses_every_class():
    region = np.array([[0.0, 0, 100, 100], [200, 200, 240, 240]])
    inside = np.array([[200.0, 200, 240, 240], [10, 10, 40, 40], [50, 50, 90, 90]])
    y_pred = {"boxes": inside, "labels": np.array([1, 0, 1]), "confidence": [0.5, 0.9, 0.8]}
    excused = [{"boxes": region, "labels": np.array([-2, 1])}]
    of_class_0 = [{"boxes": region, "labels": np.array([0, 1]), "iscrowd": [1, 0]}]
    assert MeanAveragePrecision()(excused, [y_pred])["mAP"] == pytest.approx(1.0)
    assert MeanAveragePrecision()(of_class_0, [y_pred])["mAP"] == pytest.approx(0.5)


def test_what_is_kept_of_a_detection_is_small():
    truths, answers = random_pictures(7, count=8, detections=90)
    metric = MeanAveragePrecision()
    metric.update_state(truths, answers)
    kept = sum(records.nbytes for records in metric._records)
    assert kept == 24 * sum(len(row["boxes"]) for row in answers)


BOX = np.array([[10.0, 10, 50, 50]])
GOOD = {"boxes": BOX, "labels": np.array([0]), "confidence": np.array([0.5])}


@pytest.mark.parametrize(
    ("y_true", "y_pred", "message"),
    [
        ([GOOD, GOOD], [GOOD], "same pictures, got 2 and 1"),
        ([{"boxes": BOX}], [GOOD], "y_true of picture 0 must have 'labels'"),
        ([GOOD], [{"boxes": BOX, "labels": [0]}], "y_pred of picture 0 must have 'confidence'"),
        ([{**GOOD, "boxes": BOX[:, ::-1]}], [GOOD], "is bounding_box_format right"),
        ([GOOD], [{**GOOD, "boxes": BOX * np.nan}], "y_pred of picture 0 must be finite"),
        ([GOOD], [{**GOOD, "confidence": [np.nan]}], "confidences in y_pred of picture 0"),
        ([{**GOOD, "boxes": BOX[:, :3]}], [GOOD], r"must be \(1, 4\)"),
    ],
)
def test_bad_boxes(y_true, y_pred, message):
    with pytest.raises(ValueError, match=message):
        MeanAveragePrecision().update_state(y_true, y_pred)


def test_bad_arguments():
    with pytest.raises(ValueError, match="in pixels"):
        MeanAveragePrecision("rel_xyxy")
    with pytest.raises(ValueError, match="format of boxes"):
        MeanAveragePrecision("xyz")
    with pytest.raises(ValueError, match="max_detections"):
        MeanAveragePrecision(max_detections=5)
    with pytest.raises(TypeError, match="y_true must be a dict"):
        MeanAveragePrecision().update_state(np.zeros((1, 4)), [GOOD])
    with pytest.raises(ValueError, match="sample_weight"):
        MeanAveragePrecision().update_state([GOOD], [GOOD], sample_weight=np.ones(1))


def test_curves_count_detections_above_each_confidence():
    truths, answers = random_pictures(8, ties=True)
    metric = MeanAveragePrecision()
    metric.update_state(truths, answers)
    curves = metric.curves(points=11)
    for i in (0, 3, 7, 10):
        least = curves.confidence[i]
        fewer = [
            {key: value[row["confidence"] >= least] for key, value in row.items()}
            for row in answers
        ]
        cut = MeanAveragePrecision()
        cut.update_state(truths, fewer)
        recall = coco_tables(truths, fewer, 4)[1][0, curves.labels, 0, -1]
        np.testing.assert_allclose(curves.recall[:, i], recall, atol=1e-9)
        last = cut.curves(points=2).precision[:, 0]
        np.testing.assert_allclose(curves.precision[:, i], last, atol=1e-9)
    total = curves.precision + curves.recall
    np.testing.assert_allclose(curves.f1 * total, 2 * curves.precision * curves.recall, atol=1e-12)
    assert (np.diff(curves.recall, axis=1) <= 0).all()


def test_confusion_matrix_by_hand():
    boxes = np.array([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 90, 30]])
    truth = {"boxes": boxes, "labels": np.array([0, 1, 1, -2])}
    answer = {
        # right; again, thus wrong; of another class; too unsure; in the region; in the background
        "boxes": np.array([
            [0.0, 0, 10, 9], [0, 0, 10, 8], [20, 0, 30, 10], [40, 0, 50, 10], [65, 0, 75, 10],
            [200, 0, 210, 10],
        ]),
        "labels": np.array([0, 0, 0, 1, 1, 1]),
        "confidence": np.array([0.5, 0.9, 0.6, 0.2, 0.9, 0.9]),
    }  # fmt: skip
    metric = DetectionConfusionMatrix(2)
    metric.update_state([truth], [answer])
    expected = np.array([[1, 0, 0], [1, 0, 1], [1, 1, 0]])
    np.testing.assert_array_equal(metric.result(), expected)
    metric.update_state([truth], [answer])
    np.testing.assert_array_equal(metric.result(), 2 * expected)
    with pytest.raises(ValueError, match="from 0 to 0, got 1"):
        DetectionConfusionMatrix(1).update_state([truth], [answer])


def test_kerascv_names():
    truths, answers = random_pictures(9)
    expected = MeanAveragePrecision()(truths, answers)
    metric = BoxCOCOMetrics("xyxy", evaluate_freq=2)
    metric.update_state(truths[:12], answers[:12])
    assert set(metric.result().values()) == {0.0}
    metric.update_state(truths[12:], answers[12:])
    values = metric.result()
    assert values["MaP@[IoU=50]"] == expected["mAP50"]
    assert values["Recall@[max_detections=100]"] == expected["recall_100"]
    assert list(values.values()) == list(expected.values())


@pytest.mark.parametrize(
    "metric",
    [
        MeanAveragePrecision("xywh", max_detections=300),
        DetectionConfusionMatrix(3, confidence=0.5),
        BoxCOCOMetrics("xywh", 4),
        BoxCOCOMetrics("xywh", 4, name="val"),
    ],
)
def test_configs(metric):
    again = type(metric).from_config(metric.get_config())
    assert again.get_config() == metric.get_config()
    stored = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert (type(stored), stored.get_config()) == (type(metric), metric.get_config())
