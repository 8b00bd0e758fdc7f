"""Weight tables: matching, strictness, shapes, both directions."""

import numpy as np
import pytest

from hub.weights.tables import (
    Exported,
    WeightTable,
    check_shapes,
    fits,
    from_checkpoint,
    link,
    to_checkpoint,
)

TABLE = WeightTable(
    {"blocks/{i}/dense": "layer.{i}.fc", "norm": "ln", "bias": "extra.bias"},
    ignore=(r"layer\.\d+\.buffer",),
    tied={"head.weight": "emb.weight"},
)
PATHS = ["blocks/0/dense/kernel", "blocks/0/dense/bias", "norm/gamma", "norm/beta", "bias"]
NAMES = ["layer.0.fc.weight", "layer.0.fc.bias", "ln.gamma", "ln.beta", "extra.bias"]


def test_paths_find_their_tensors():
    links, fresh = link(PATHS, [*NAMES, "layer.0.buffer", "head.weight"], TABLE)
    assert [(x.path, x.tensor, x.transposed) for x in links] == [
        (PATHS[0], NAMES[0], True), *((p, n, False) for p, n in zip(PATHS[1:], NAMES[1:]))
    ]  # fmt: skip
    assert fresh == []


def test_missing_and_unused_tensors_are_one_error():
    with pytest.raises(ValueError, match=r"(?s)layer\.0\.fc\.weight.*stranger"):
        link(PATHS, [*NAMES[1:], "stranger"], TABLE)


def test_a_part_may_be_absent_as_a_whole_but_not_by_halves():
    links, fresh = link(PATHS, NAMES[:2] + NAMES[4:], TABLE, optional=("norm",))
    assert (len(links), fresh) == (3, ["norm/gamma", "norm/beta"])
    with pytest.raises(ValueError, match=r"ln\.weight|ln\.bias"):
        link(PATHS, NAMES[:3] + NAMES[4:], TABLE, optional=("norm",))


def test_a_path_without_a_row_is_an_error():
    with pytest.raises(ValueError, match="no row for"):
        link(["other/kernel"], NAMES, TABLE)


@pytest.mark.parametrize(
    ("shape", "stored", "transposed", "good"),
    [
        ((3, 4), (4, 3), True, True),
        ((3, 4), (3, 4), True, False),
        ((6, 2, 4), (8, 6), True, True),
        ((2, 3, 8), (8, 6), True, True),
        ((2, 4), (8,), False, True),
        ((4, 3), (6, 2), False, False),
    ],
)
def test_shapes_fit_up_to_a_split_axis(shape, stored, transposed, good):
    assert fits(shape, stored, transposed) is good


def test_wrong_shapes_are_all_named():
    links, _ = link(PATHS, NAMES, TABLE)
    shapes = dict.fromkeys(PATHS, (2,)) | {PATHS[0]: (2, 3)}
    with pytest.raises(ValueError, match=r"2 tensors.*ln\.gamma.*ln\.beta"):
        check_shapes(links, shapes, {**dict.fromkeys(NAMES, (2,)), NAMES[0]: (3, 2),
                                     "ln.gamma": (3,), "ln.beta": (3,)}.__getitem__)  # fmt: skip


def test_export_is_the_inverse_of_import():
    array = np.arange(24, dtype="float32").reshape(8, 3)
    ours = from_checkpoint(array, True, (3, 2, 4))
    np.testing.assert_array_equal(to_checkpoint(ours, True), array)
    assert np.shares_memory(array, ours)

    class Held:
        def numpy(self):
            return ours

    out = Exported({"blocks/1/dense/kernel": Held()}, TABLE)
    assert list(out) == ["layer.1.fc.weight"]
    np.testing.assert_array_equal(out["layer.1.fc.weight"], array)
