"""The variables of a model as nested dicts."""

import numpy as np
import pytest
from compare import assert_close

import keraslite
from keraslite import layers, models

X = np.random.default_rng(3).normal(size=(6, 3)).astype("float32")


def trained(epochs=2):
    model = models.Sequential(
        [layers.Input((3,)), layers.Dense(2, name="out"), layers.BatchNormalization(name="norm")],
        name="m",
    )
    model.compile(keraslite.optimizers.Adam(name="adam"), "mse", metrics=["mae"])
    if epochs:
        model.fit(X, X[:, :2], epochs=epochs, verbose=0)
    return model


def test_a_state_tree_has_all_variables_by_their_paths(trains):
    model = trained()
    tree = model.get_state_tree("numpy_array")
    assert list(tree) == [
        "trainable_variables", "non_trainable_variables", "optimizer_variables",
        "metrics_variables",
    ]  # fmt: skip
    assert {k: sorted(v) for k, v in tree["trainable_variables"]["m"].items()} == {
        "out": ["bias", "kernel"], "norm": ["beta", "gamma"],
    }  # fmt: skip
    assert sorted(tree["non_trainable_variables"]["m"]["norm"]) == [
        "moving_mean", "moving_variance",
    ]  # fmt: skip
    assert "m_out_kernel_momentum" in tree["optimizer_variables"]["adam"]
    assert sorted(tree["metrics_variables"]) == ["loss", "mean_absolute_error"]
    kernel = tree["trainable_variables"]["m"]["out"]["kernel"]
    assert type(kernel) is np.ndarray
    assert_close(kernel, model.weights[0])
    native = model.get_state_tree()["trainable_variables"]["m"]["out"]["kernel"]
    assert keraslite.backend.of(native) == trains


@pytest.mark.parametrize("value_format", ["numpy_array", "backend_tensor"])
def test_training_goes_on_from_a_state_tree(trains, value_format):
    model = trained()
    tree = model.get_state_tree(value_format)
    tree = keraslite.tree.map_structure(lambda x: x + 0, tree)
    other = trained(epochs=0)  # whose optimizer is not built yet
    other.set_state_tree(tree)
    for a in (model, other):
        a.fit(X, X[:, :2], shuffle=False, verbose=0)
    assert_close(other.get_weights(), model.get_weights())
    assert_close(other.optimizer.iterations, model.optimizer.iterations)


def test_a_part_of_a_tree_is_enough_and_what_fits_nowhere_is_named(trains):
    model = trained()
    model.set_state_tree({"trainable_variables": {"m": {"out": {"bias": np.array([1.0, 2.0])}}}})
    assert_close(model.get_layer("out").bias, [1.0, 2.0])
    for wrong, message in (
        ({"trainable": {}}, "has the keys .*got 'trainable'"),
        ({"trainable_variables": {"m": {"in": np.zeros(2)}}}, "have no 'm/in'"),
        ({"trainable_variables": {"m": {"out": {"bias": np.zeros(3)}}}}, r"must have shape \(2,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            model.set_state_tree(wrong)
    with pytest.raises(ValueError, match="value_format must be one of"):
        model.get_state_tree("list")


def test_two_variables_of_one_path_are_refused(backend):
    i = layers.Input((3,))
    model = models.Model(i, layers.Dense(3, name="d")(layers.Dense(3, name="d")(i)))
    with pytest.raises(ValueError, match="Two variables have the path 'd/kernel'"):
        model.get_state_tree()
