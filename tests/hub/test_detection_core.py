"""Positions, assignment and losses of detection against loops written from the papers."""

import math

import numpy as np
import pytest
from compare import assert_close, to_numpy

import keraslite
from hub.detection.anchors import anchor_points, boxes_to_distances, distances_to_boxes
from hub.detection.assignment import Assignment, assign
from hub.detection.losses import detection_losses
from keraslite import ops

# -- the references, in float64 -------------------------------------------------------------------


def ciou(a, b) -> float:
    """Zheng et al., 2020: IoU, less the distance of centres and the difference of aspect ratios."""
    (wa, ha), (wb, hb) = ((x[2] - x[0], x[3] - x[1]) for x in (a, b))
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    iou = width * height / (wa * ha + wb * hb - width * height)
    diagonal = (max(a[2], b[2]) - min(a[0], b[0])) ** 2 + (max(a[3], b[3]) - min(a[1], b[1])) ** 2
    distance = (a[0] + a[2] - b[0] - b[2]) ** 2 / 4 + (a[1] + a[3] - b[1] - b[3]) ** 2 / 4
    v = 4 / math.pi**2 * (math.atan(wa / ha) - math.atan(wb / hb)) ** 2
    trade = v / (1 - iou + v) if v else 0.0
    return iou - distance / diagonal - trade * v


def decode(logits, points, strides):
    """(positions, 4 * bins) -> (positions, 4)."""
    boxes = []
    for row, (x, y), stride in zip(logits.astype("float64"), points, strides, strict=True):
        sides = []
        for side in row.reshape(4, -1):
            chances = np.exp(side - side.max())
            sides.append(stride * sum(n * p for n, p in enumerate(chances / chances.sum())))
        left, top, right, bottom = sides
        boxes.append([x - left, y - top, x + right, y + bottom])
    return np.array(boxes)


def contains(box, point) -> bool:
    return box[0] < point[0] < box[2] and box[1] < point[1] < box[3]


def reference_assignment(predicted, logits, boxes, labels, points, candidates=10):
    """Feng et al., 2021, of one image: (owner or None, score, whether ignored) of each position."""
    taken = {}  # (position, object) -> (alignment, overlap)
    for m, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        if label < 0:
            continue
        rows = []
        for n, point in enumerate(points):
            if contains(box, point):
                overlap = max(ciou(box, predicted[n]), 0.0)
                score = 1 / (1 + math.exp(-logits[n][label]))
                rows.append((score**0.5 * overlap**6, n, overlap))
        for alignment, n, overlap in sorted(rows, key=lambda row: -row[0])[:candidates]:
            taken[n, m] = (alignment, overlap)
    owner = {}
    for n, m in taken:
        if n not in owner or taken[n, m][1] > taken[n, owner[n]][1]:
            owner[n] = m
    result = []
    for n, point in enumerate(points):
        m = owner.get(n)
        if m is None:
            regions = (box for box, label in zip(boxes, labels, strict=True) if label == -2)
            result.append((None, 0.0, any(contains(box, point) for box in regions)))
            continue
        own = [taken[key] for key in taken if key[1] == m and owner[key[0]] == m]
        best, overlap = max(a for a, _ in own), max(o for _, o in own)
        result.append((m, taken[n, m][0] / best * overlap if best else 0.0, False))
    return result


def reference_losses(box_logits, class_logits, boxes, labels, assigned, points, strides):
    """The three sums over the batch, in torch, with each position's targets as they are assigned.

    Args:
        box_logits: (batch, positions, 4 * bins), a float64 tensor.
        class_logits: (batch, positions, classes), likewise.
        boxes: (batch, objects, 4).
        labels: (batch, objects).
        assigned: of each image, what `reference_assignment` gives.
        points: (positions, 2).
        strides: (positions,).
    """
    torch = pytest.importorskip("torch")
    box = distance = classes = torch.zeros((), dtype=torch.float64)
    total = max(sum(score for image in assigned for _, score, _ in image), 1.0)
    bins = box_logits.shape[-1] // 4
    for i, image in enumerate(assigned):
        for n, (m, score, ignored) in enumerate(image):
            target = torch.zeros(class_logits.shape[-1], dtype=torch.float64)
            if m is not None:
                target[labels[i][m]] = score
                chances = torch.softmax(box_logits[i, n].reshape(4, bins), -1)
                sides = (chances * torch.arange(bins)).sum(-1) * float(strides[n])
                x, y = map(float, points[n])
                own = torch.stack([x - sides[0], y - sides[1], x + sides[2], y + sides[3]])
                a, b = own, torch.tensor(boxes[i][m], dtype=torch.float64)
                inner = torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])
                shared = inner.clamp(min=0).prod()
                (wa, ha), (wb, hb) = a[2:] - a[:2], b[2:] - b[:2]
                iou = shared / (wa * ha + wb * hb - shared)
                outer = torch.maximum(a[2:], b[2:]) - torch.minimum(a[:2], b[:2])
                apart = ((a[:2] + a[2:] - b[:2] - b[2:]) / 2).square().sum()
                v = 4 / math.pi**2 * (torch.atan(wa / ha) - torch.atan(wb / hb)) ** 2
                whole = iou - apart / outer.square().sum() - v * v / (1 - iou + v)
                box = box + score * (1 - whole)
                ends = [x - b[0], y - b[1], b[2] - x, b[3] - y]
                for side, end in enumerate(ends):
                    d = min(max(float(end) / float(strides[n]), 0), bins - 1.01)
                    lower = math.floor(d)
                    own = torch.log(chances[side])
                    loss = -(own[lower] * (lower + 1 - d) + own[lower + 1] * (d - lower))
                    distance = distance + score * loss / 4
            if not ignored:
                p = torch.sigmoid(class_logits[i, n])
                classes = classes - (target * p.log() + (1 - target) * (1 - p).log()).sum()
    return {
        "box_loss": 7.5 * box / total,
        "class_loss": 0.5 * classes / total,
        "dfl_loss": 1.5 * distance / total,
    }


# -- cases ----------------------------------------------------------------------------------------


class Case:
    """Outputs near their targets, and the targets of a batch.

    Args:
        height: of the input.
        width: likewise.
        strides: of the levels.
        classes: the number of classes.
        bins: of a distance.
        labels: (batch, objects).
        seed: of the numbers.
    """

    def __init__(self, height, width, strides, classes, bins, labels, seed=0):
        rng = np.random.default_rng(seed)
        self.labels = np.array(labels, "int32")
        batch, objects = self.labels.shape
        size = np.array([width, height])
        start = rng.uniform(-4, 0.7 * size, (batch, objects, 2))
        end = start + rng.uniform(0.1, 0.7, (batch, objects, 2)) * size
        self.boxes = np.concatenate([start, end], -1).astype("float32")
        self.boxes[self.labels == -1] = -1
        self.points, self.strides = anchor_points(height, width, strides)
        near = self.boxes[:, rng.integers(0, max(objects, 1), len(self.points))]
        sides = np.concatenate([self.points - near[..., :2], near[..., 2:] - self.points], -1)
        sides = sides / self.strides[:, None] + rng.normal(0, 0.3, sides.shape)
        logits = -2 * np.abs(np.clip(sides, 0, bins - 1)[..., None] - np.arange(bins))
        logits = logits + rng.normal(0, 0.5, logits.shape)
        self.box_logits = logits.reshape(batch, -1, 4 * bins).astype("float32")
        self.class_logits = rng.normal(-1, 2, (batch, len(self.points), classes)).astype("float32")

    @property
    def grid(self):
        return self.points, self.strides

    @property
    def targets(self):
        return {"boxes": self.boxes, "labels": self.labels}

    def assigned(self):
        """Return the assignment of the reference, image by image."""
        return [
            reference_assignment(decode(b, *self.grid), c.astype("float64"), *own, self.points)
            for b, c, *own in zip(
                self.box_logits, self.class_logits, self.boxes.astype("float64"), self.labels,
                strict=True,
            )
        ]  # fmt: skip


_LABELS = [[0, 2, 1, 0], [1, 1, -1, -1], [-1] * 4, [-2, -1, 1, -2]]
CASES = {
    "mixed": Case(64, 96, (8, 16, 32), 3, 16, _LABELS),
    "crowded": Case(32, 32, (8, 16), 1, 8, [[0] * 12], seed=3),
    "nothing": Case(32, 64, (16,), 2, 8, [[-1], [-1]], seed=4),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def on(function, *arrays):
    """Call a function of tensors under jit; and eagerly, which compiles every op of JAX."""
    arrays = [ops.convert_to_tensor(x) for x in arrays]
    yield ops.jit(function)(*arrays)
    if len(arrays[0]) == len(_LABELS):
        yield function(*arrays)


# -- tests ----------------------------------------------------------------------------------------


def test_points_are_the_centres_of_the_cells_level_by_level():
    points, strides = anchor_points(64, 96)
    want = [
        (x * s + s / 2, y * s + s / 2, s)
        for s in (8, 16, 32)
        for y in range(64 // s)
        for x in range(96 // s)
    ]
    assert_close(np.column_stack([points, strides]), np.array(want), rtol=0, atol=0)
    assert points.dtype == strides.dtype == np.float32
    assert anchor_points(64, 96)[0] is points
    with pytest.raises(ValueError, match="multiples of the strides"):
        anchor_points(64, 100)


def test_distances_stand_for_boxes_and_back(backend):
    case = CASES["mixed"]
    want = np.stack([decode(b, *case.grid) for b in case.box_logits])
    for got in on(lambda x: distances_to_boxes(x, *case.grid), case.box_logits):
        assert_close(got, want, atol=1e-4)  # of up to a hundred pixels
    for got in on(lambda x: boxes_to_distances(x, *case.grid, 16), want.astype("float32")):
        for sides, box, (x, y), stride in zip(to_numpy(got)[0], want[0], *case.grid, strict=True):
            ends = np.array([x - box[0], y - box[1], box[2] - x, box[3] - y]) / stride
            assert_close(sides, np.clip(ends, 0, 14.99), atol=1e-5)
    outside = boxes_to_distances(np.float32([[[60, 60, 900, 61]]]), *anchor_points(16, 16, (16,)))
    assert_close(outside, [[[0, 0, 14.99, 53 / 16]]])


def test_positions_are_assigned_as_the_paper_defines(backend, case):
    want = case.assigned()
    predicted = np.stack([decode(b, *case.grid) for b in case.box_logits]).astype("float32")
    arrays = (predicted, case.class_logits, case.boxes, case.labels)
    for got in on(lambda *x: assign(*x, case.points), *arrays):
        got = Assignment(*map(to_numpy, got))
        for i, image in enumerate(want):
            assert got.is_foreground[i].tolist() == [m is not None for m, _, _ in image]
            assert got.boxes[i].tolist() == [m or 0 for m, _, _ in image]
            assert got.is_ignored[i].tolist() == [ignored for _, _, ignored in image]
            # The sixth power of an overlap has six times its rounding.
            assert_close(got.scores[i], [score for _, score, _ in image], rtol=6e-5)


def test_a_position_goes_to_the_box_that_it_overlaps_best(backend):
    points, _ = anchor_points(16, 16, (16,))
    predicted = np.float32([[[0, 0, 16, 16]]])
    boxes, labels = np.float32([[[0, 0, 16, 18], [0, 0, 16, 17]]]), np.array([[1, 0]])
    logits = np.float32([[[-3, 3]]])  # its class is rather that of the other box
    want = reference_assignment(predicted[0], logits[0], boxes[0], labels[0], points)
    assert want[0][0] == 1
    got = assign(predicted, logits, boxes, labels, points)
    assert to_numpy(got.boxes).tolist() == [[1]]
    assert_close(got.scores, [[want[0][1]]])


def test_cases_cover_what_may_happen():
    rows = [row for name in CASES for image in CASES[name].assigned() for row in image]
    assert sum(ignored for _, _, ignored in rows) > 5
    assert sum(m is not None for m, _, _ in rows) > 50


def losses_of(case, box_logits, class_logits, **options):
    outputs = {"boxes": box_logits, "classes": class_logits}
    return detection_losses(outputs, case.targets, *case.grid, **options)


def test_losses_are_those_of_the_papers(backend, case):
    torch = pytest.importorskip("torch")
    want = reference_losses(
        *(torch.from_numpy(x.astype("float64")) for x in (case.box_logits, case.class_logits)),
        case.boxes, case.labels, case.assigned(), *case.grid,
    )  # fmt: skip
    want = {name: x.item() for name, x in want.items()}
    for got in on(lambda *x: losses_of(case, *x), case.box_logits, case.class_logits):
        assert_close(got, want, rtol=3e-5)


def test_gradients_are_those_of_the_papers(trains, case):
    torch = pytest.importorskip("torch")
    leaves = [
        torch.from_numpy(x.astype("float64")).requires_grad_()
        for x in (case.box_logits, case.class_logits)
    ]
    sum(reference_losses(*leaves, case.boxes, case.labels, case.assigned(), *case.grid).values()
        ).backward()  # fmt: skip
    want = [np.zeros(x.shape) if x.grad is None else x.grad.numpy() for x in leaves]

    def total(box_logits, class_logits):
        return sum(losses_of(case, box_logits, class_logits).values())

    function = ops.jit(keraslite.value_and_grad(total, argnums=(0, 1)))
    got = function(*map(ops.convert_to_tensor, (case.box_logits, case.class_logits)))[1]
    for a, b in zip(got, want, strict=True):
        assert_close(a, b, rtol=3e-5, share=1e-5)


def test_a_loss_of_plain_overlap_and_other_weights(backend):
    case = CASES["mixed"]

    @ops.jit
    def run(*logits):
        weights = {"box_loss_weight": 15, "classification_loss_weight": 1, "dfl_loss_weight": 3}
        return [losses_of(case, *logits, **x) for x in ({"box_loss": "iou"}, {}, weights)]

    plain, usual, double = run(*map(ops.convert_to_tensor, (case.box_logits, case.class_logits)))
    assert_close(double, {name: 2 * float(x) for name, x in usual.items()})
    assert_close(plain["dfl_loss"], usual["dfl_loss"])
    assigned = case.assigned()
    total, loss = 0.0, 0.0
    for i, image in enumerate(assigned):
        boxes = decode(case.box_logits[i], *case.grid)
        for n, (m, score, _) in enumerate(image):
            if m is not None:
                a, b = boxes[n], case.boxes[i, m].astype("float64")
                inner = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0).prod()
                outer = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inner
                total, loss = total + score, loss + score * (1 - inner / outer)
    assert_close(plain["box_loss"], 7.5 * loss / total, rtol=3e-5)


def test_padding_may_be_missing_or_hold_anything(backend):
    case = CASES["mixed"]
    boxes = np.where(case.labels[..., None] == -1, np.nan, case.boxes)
    targets = [
        case.targets,
        {"boxes": boxes, "labels": case.labels},
        {"boxes": np.zeros((4, 0, 4)), "labels": np.zeros((4, 0), "int32")},
        {"boxes": np.zeros((4, 1, 4)), "labels": -np.ones((4, 1), "int32")},
    ]

    @ops.jit
    def run(*logits):
        outputs = dict(zip(("boxes", "classes"), logits, strict=True))
        return [detection_losses(outputs, x, *case.grid) for x in targets]

    usual, with_nan, nothing, padding = run(
        *map(ops.convert_to_tensor, (case.box_logits, case.class_logits))
    )
    assert_close(with_nan, usual)
    assert_close(nothing, padding)


def test_other_losses_are_refused():
    case = CASES["nothing"]
    with pytest.raises(ValueError, match=r"box_loss must be one of \['ciou', 'iou'\], got 'l1'"):
        losses_of(case, case.box_logits, case.class_logits, box_loss="l1")
    with pytest.raises(ValueError, match="classification_loss must be"):
        losses_of(case, case.box_logits, case.class_logits, classification_loss="mse")
