"""Nested structures against Keras's own functions, and the blocks that name custom objects."""

import keras
import numpy as np
import pytest

import keraslite
from keraslite import registry, tree

STRUCTURES = [
    1, None, [], {"a": 1, "b": [2, (None, 3)]}, [{"b": 2, "a": 1}, (4,)], ((1, 2), [3, {"x": 4}]),
]  # fmt: skip
REPLACE = {
    "sums": lambda t: lambda x: sum(x) if isinstance(x, list) and x and None not in x else None,
    "numbers": lambda t: lambda x: -x if isinstance(x, int) else None,
    "no tuples": lambda t: lambda x: t.MAP_TO_NONE if isinstance(x, tuple) else None,
}


@pytest.mark.parametrize("structure", STRUCTURES, ids=repr)
def test_paths_and_traversal(structure):
    assert tree.flatten_with_path(structure) == keras.tree.flatten_with_path(structure)
    for replace in REPLACE.values():
        for top_down in (True, False):
            try:
                expected = keras.tree.traverse(replace(keras.tree), structure, top_down=top_down)
            except TypeError:  # a sum of what is no number
                continue
            assert tree.traverse(replace(tree), structure, top_down=top_down) == expected


@pytest.mark.parametrize("structure", [(2, None), {"a": (1, 2), "b": [(None, 3), [4]]}, [(1,), ()]])
def test_shapes_in_structures(structure):
    expected = keras.tree.map_shape_structure(lambda s: ("shape", *s), structure)
    assert tree.map_shape_structure(lambda s: ("shape", *s), structure) == expected


def test_same_paths():
    tree.assert_same_paths({"a": [1, (2,)]}, {"a": (3, [4])})
    for other in ({"a": [1]}, {"b": [1, (2,)]}, [1]):
        with pytest.raises(ValueError, match="paths"):
            tree.assert_same_paths({"a": [1, (2,)]}, other)


def test_scopes_of_custom_objects_and_safe_mode_as_in_keras():
    with registry.custom_object_scope(None), registry.custom_object_scope({"Own": keraslite.Model}):
        assert registry.resolve("Own") is keraslite.Model
    config = registry.serialize_keras_object({"a": [1]})
    assert registry.deserialize_keras_object(config, safe_mode=False) == {"a": [1]}


def test_remat_gives_the_same_gradient(trains):
    x = np.float32(2.0)
    assert float(keraslite.grad(keraslite.remat(lambda x: x**3))(x)) == 12.0


def test_parameters_have_the_names_that_they_have_in_keras():
    assert tree.map_shape_structure(func=len, structure=[(2, 3)]) == [2]
    assert tree.map_structure(lambda x: x + 1, [1, None], none_is_leaf=False) == [2, None]
    assert tree.pack_sequence_as(structure=[0, 0], flat_sequence=[1, 2]) == [1, 2]

    def without_ones(x):
        return tree.MAP_TO_NONE if x == 1 else None

    assert tree.traverse(func=without_ones, structure=[1, 2]) == [None, 2]
    nested = {"a": [1, (2, [3])]}
    assert tree.lists_to_tuples(nested) == keras.tree.lists_to_tuples(nested)
    tree.assert_same_structure([1], [2], check_types=None)
