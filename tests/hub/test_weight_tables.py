"""Weight tables: matching, strictness, shapes, both directions."""

import numpy as np
import pytest

from hub.weights.loading import Exported
from hub.weights.storage import AS_IS, CONV, DENSE, FLAT
from hub.weights.tables import WeightTable, check_shapes, match_tensors, name_tensors

TABLE = WeightTable(
    {"blocks/{i}/dense": "layer.{i}.fc", "norm": "ln", "bias": "extra.bias"},
    ignore=(r"layer\.\d+\.buffer",),
    tied={"head.weight": "emb.weight"},
)
PATHS = ["blocks/0/dense/kernel", "blocks/0/dense/bias", "norm/gamma", "norm/beta", "bias"]
STORAGES = dict.fromkeys(PATHS, AS_IS) | {PATHS[0]: DENSE}
NAMES = ["layer.0.fc.weight", "layer.0.fc.bias", "ln.gamma", "ln.beta", "extra.bias"]


def test_paths_find_their_tensors():
    tensors = [*NAMES, "layer.0.buffer", "head.weight", "ln.num_batches_tracked"]
    matches, new = match_tensors(STORAGES, tensors, TABLE)
    assert matches == [
        (PATHS[0], NAMES[0], DENSE), *((p, n, AS_IS) for p, n in zip(PATHS[1:], NAMES[1:]))
    ]  # fmt: skip
    assert new == []


def test_missing_and_unused_tensors_are_one_error():
    with pytest.raises(ValueError, match=r"(?s)layer\.0\.fc\.weight.*stranger"):
        match_tensors(STORAGES, [*NAMES[1:], "stranger"], TABLE)


def test_a_part_may_be_absent_as_a_whole_but_not_by_halves():
    matches, new = match_tensors(STORAGES, NAMES[:2] + NAMES[4:], TABLE, optional=("norm",))
    assert (len(matches), new) == (3, ["norm/gamma", "norm/beta"])
    with pytest.raises(ValueError, match=r"ln\.weight|ln\.bias"):
        match_tensors(STORAGES, NAMES[:3] + NAMES[4:], TABLE, optional=("norm",))


def test_a_path_without_a_row_is_an_error():
    with pytest.raises(ValueError, match="no row for"):
        match_tensors({"other/kernel": DENSE}, NAMES, TABLE)


def test_a_table_says_how_a_row_is_stored():
    told = WeightTable(TABLE.rows, storage={"blocks/{i}/dense/kernel": CONV, "bias": FLAT})
    inner = told.prefixed("model/", "m.").joined(WeightTable({"head": "classifier"}))
    storages = {f"model/{path}": storage for path, storage in STORAGES.items()}
    matches = name_tensors({**storages, "head/kernel": DENSE}, inner)
    assert [match.storage for match in matches] == [CONV, AS_IS, AS_IS, AS_IS, FLAT, DENSE]
    assert matches[0].tensor == "m.layer.0.fc.weight"


def test_the_storage_of_an_unknown_layer_must_be_told():
    with pytest.raises(ValueError, match=r"must say how \['norm/gamma'\] is stored"):
        match_tensors({**STORAGES, "norm/gamma": None}, NAMES, TABLE)


@pytest.mark.parametrize("leaf", ["moving_mean", "moving_variance"])
def test_the_names_of_batch_statistics(leaf):
    theirs = {"moving_mean": "running_mean", "moving_variance": "running_var"}[leaf]
    assert TABLE.find(f"norm/{leaf}").names == (f"ln.{theirs}", f"ln.{leaf}")


def test_wrong_shapes_are_all_named():
    matches, _ = match_tensors(STORAGES, NAMES, TABLE)
    shapes = dict.fromkeys(PATHS, (2,)) | {PATHS[0]: (2, 3)}
    stored = {**dict.fromkeys(NAMES, (2,)), NAMES[0]: (3, 2), "ln.gamma": (3,), "ln.beta": (3,)}
    with pytest.raises(ValueError, match=r"2 tensors.*ln\.gamma \(3,\).*ln\.beta"):
        check_shapes(matches, shapes, stored.__getitem__)


def test_export_is_the_inverse_of_import():
    array = np.arange(24, dtype="float32").reshape(8, 3)
    ours = DENSE.from_checkpoint(array, (3, 8))
    assert np.shares_memory(array, ours)

    class Held:
        shape = (3, 8)

        def numpy(self):
            return ours

    path = "blocks/1/dense/kernel"
    tensors = Exported({path: Held()}, name_tensors({path: DENSE}, TABLE))
    assert list(tensors) == ["layer.1.fc.weight"]
    np.testing.assert_array_equal(tensors["layer.1.fc.weight"], array)
