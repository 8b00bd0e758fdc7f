"""Several optimizers in one: each for parameters of its own, with Keras's numbers."""

import copy

import keras
import numpy as np
import pytest
from compare import assert_close

from keraslite import layers, models, name_scope, ops, optimizers, saving, utils
from keraslite.variable import Variable

RNG = np.random.default_rng(5)
NAMES = ("encoder", "head", "other")
FIRST = {name: RNG.normal(size=(3, 2)).astype("float32") for name in NAMES}
GRADS = [{n: RNG.normal(size=(3, 2)).astype("float32") for n in NAMES} for _ in range(4)]


def chosen(lib, **arguments):
    """An optimizer for each parameter, of ours or of Keras."""
    o = lib.optimizers if hasattr(lib, "optimizers") else lib
    keys = {"encoder/.*": o.Adam(0.1), "head/kernel": o.SGD(0.5, momentum=0.9)}
    return o.MultiOptimizer(o.OptimizerMap(o.RMSprop(0.01), keys), **arguments)


def parameters():
    made = []
    for name in NAMES:
        with name_scope(name):
            made.append(Variable(FIRST[name], name="kernel"))
    return made


def theirs_after(**arguments):
    """The parameters of Keras after each step."""
    made, path = [], []
    for name in NAMES:
        with keras.name_scope(name):
            made.append(keras.Variable(FIRST[name], name="kernel"))
    optimizer = chosen(keras, **arguments)
    optimizer.build(made)
    for grads in GRADS:
        optimizer.apply([keras.ops.convert_to_tensor(grads[n]) for n in NAMES], made)
        path.append([np.array(v.numpy()) for v in made])
    return path


def tensors(grads):
    return [ops.convert_to_tensor(grads[n]) for n in NAMES]


@pytest.mark.parametrize("arguments", [{}, {"loss_scale_factor": 4.0}])
def test_each_optimizer_updates_its_own(backend, arguments):
    ours, variables = chosen(optimizers, **arguments), parameters()
    for grads, want in zip(GRADS, theirs_after(**arguments), strict=True):
        ours.apply(tensors(grads), variables)
        for v, value in zip(variables, want, strict=True):
            assert_close(v.numpy(), value)
    assert int(ours.iterations) == len(GRADS)
    assert [int(o.iterations) for o in ours.optimizers] == [len(GRADS)] * 3
    assert float(ours.scale_loss(2.0)) == 2.0 * arguments.get("loss_scale_factor", 1)


def test_the_stateless_form_gives_the_same(backend):
    ours, variables = chosen(optimizers), parameters()
    ours.build(variables)
    values = [v.value for v in variables]
    state = [v.value for v in ours.variables]
    for grads in GRADS:
        values, state = ours.stateless_apply(state, tensors(grads), values)
    for value, want in zip(values, theirs_after()[-1], strict=True):
        assert_close(ops.convert_to_numpy(value), want)
    np.testing.assert_array_equal(variables[0].numpy(), FIRST["encoder"])


def test_some_gradients_may_be_missing_or_left_out(backend):
    ours, variables = chosen(optimizers), parameters()
    ours.build(variables)
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        ours.apply([None, *tensors(GRADS[0])[1:]], variables)
    np.testing.assert_array_equal(variables[0].numpy(), FIRST["encoder"])
    assert (variables[1].numpy() != FIRST["head"]).all()
    ours.apply(tensors(GRADS[0])[:1], variables[:1])
    assert (variables[0].numpy() != FIRST["encoder"]).all()
    with pytest.raises(ValueError, match="Unknown variable"):
        ours.apply(tensors(GRADS[0])[:1], [Variable([1.0])])


def test_a_function_may_choose(backend):
    rates = {"encoder": optimizers.SGD(0.1), "head": optimizers.SGD(1.0)}
    ours = optimizers.MultiOptimizer(
        lambda v: rates.get(v.path.split("/")[0]) or optimizers.SGD(0.0)
    )
    variables = parameters()
    ours.apply(tensors(GRADS[0]), variables)
    for v, rate, name in zip(variables, (0.1, 1.0, 0.0), NAMES, strict=True):
        assert_close(v.numpy(), FIRST[name] - rate * GRADS[0][name])
    assert len(ours.optimizers) == 3


def test_averages_and_decay_belong_to_their_optimizer(backend):
    averaging = optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
    ours = optimizers.MultiOptimizer(
        optimizers.OptimizerMap(optimizers.SGD(0.1, weight_decay=0.5), {"encoder/.*": averaging})
    )
    variables = parameters()
    ours.exclude_from_weight_decay(var_list=[variables[1]])
    ours.apply(tensors(GRADS[0]), variables)
    ours.apply(tensors(GRADS[1]), variables)
    steps = [GRADS[i]["head"] for i in (0, 1)]
    assert_close(variables[1].numpy(), FIRST["head"] - 0.1 * sum(steps))
    decayed = (FIRST["other"] * 0.95 - 0.1 * GRADS[0]["other"]) * 0.95 - 0.1 * GRADS[1]["other"]
    assert_close(variables[2].numpy(), decayed)
    first = FIRST["encoder"] - 0.1 * GRADS[0]["encoder"]
    second = first - 0.1 * GRADS[1]["encoder"]
    assert_close(variables[0].numpy(), second)
    ours.finalize_variable_values(variables)
    assert_close(variables[0].numpy(), (first + second) / 2)
    assert_close(variables[2].numpy(), decayed)


def test_keys_are_paths_or_patterns():
    adam, sgd, rest = optimizers.Adam(), optimizers.SGD(), optimizers.RMSprop()
    keys = optimizers.OptimizerMap(rest, {"encoder/.*": sgd})
    keys["encoder/layer_0/kernel"] = adam
    assert keys["encoder/layer_0/kernel"] is adam  # an exact key comes before patterns
    assert keys["encoder/layer_1/kernel"] is sgd
    assert keys["my/encoder/kernel"] is keys["encoder"] is rest
    keys[".*kernel"] = adam
    with pytest.raises(ValueError, match="Multiple optimizers assigned to variable encoder/kernel"):
        keys["encoder/kernel"]
    with pytest.raises(ValueError, match="already exists"):
        keys["encoder/.*"] = sgd
    del keys[".*kernel"]
    assert dict(keys) == {"encoder/.*": sgd, "encoder/layer_0/kernel": adam}


def test_bad_arguments_are_refused():
    sgd = optimizers.SGD()
    scaled, nested = optimizers.LossScaleOptimizer(sgd), chosen(optimizers)
    with pytest.raises(TypeError, match="default_optimizer must be"):
        optimizers.OptimizerMap("sgd")
    with pytest.raises(TypeError, match="optimizer_map must be a dictionary"):
        optimizers.OptimizerMap(sgd, [("a", sgd)])
    for key, optimizer in ((1, sgd), ("a", "sgd"), ("a", scaled), ("a", nested)):
        with pytest.raises(ValueError, match=r"must be a|cannot be"):
            optimizers.OptimizerMap(sgd, {key: optimizer})
    with pytest.raises(TypeError, match="an OptimizerMap or a function"):
        optimizers.MultiOptimizer({"a": sgd})
    with pytest.raises(ValueError, match="must be a Keras Optimizer"):
        optimizers.MultiOptimizer(lambda v: "sgd").build([Variable([1.0])])
    for act in (lambda: nested.learning_rate, lambda: setattr(nested, "learning_rate", 0.1)):
        with pytest.raises(AttributeError, match="individual sub-optimizers"):
            act()


# -- in models ------------------------------------------------------------------------------------

X = RNG.normal(size=(16, 3)).astype("float32")


@saving.register_keras_serializable("tests")
def by_layer(variable):
    return BY_LAYER["head" if "head" in variable.path else "rest"]


BY_LAYER = {}


def trained(optimizer, steps=3):
    utils.set_random_seed(3)
    model = models.Sequential(
        [layers.Input((3,)), layers.Dense(4, name="body"), layers.Dense(1, name="head")]
    )
    model.compile(optimizer, "mse")
    for _ in range(steps):
        model.train_on_batch(X, X[:, :1])
    return model


def shared():
    """An optimizer for two patterns, and another for the rest."""
    adam = optimizers.Adam(0.05)
    keys = {".*body/kernel": adam, ".*head/kernel": adam}
    return optimizers.MultiOptimizer(optimizers.OptimizerMap(optimizers.SGD(0.1), keys))


def test_a_model_goes_on_where_it_was_saved(trains, tmp_path):
    model = trained(shared())
    assert len(model.optimizer.optimizers) == 2
    model.save(tmp_path / "m.keras")
    loaded = saving.load_model(tmp_path / "m.keras")
    assert len(loaded.optimizer.optimizers) == 2
    assert [v.path for v in loaded.weights] == [v.path for v in model.weights]
    for m in (model, loaded):
        m.train_on_batch(X, X[:, :1])
    for a, b in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    for a, b in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_a_registered_function_comes_back(trains, tmp_path):
    BY_LAYER.update(head=optimizers.SGD(0.1), rest=optimizers.SGD(0.0))
    model = trained(optimizers.MultiOptimizer(by_layer))
    BY_LAYER.update(head=optimizers.SGD(0.1), rest=optimizers.SGD(0.0))
    again = optimizers.deserialize(optimizers.serialize(model.optimizer))
    other = trained(again)
    assert again.optimizers == [BY_LAYER["rest"], BY_LAYER["head"]]
    for a, b in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_configs_are_those_of_keras():
    ours, theirs = chosen(optimizers), chosen(keras)
    mine, other = ours.get_config(), theirs.get_config()
    assert mine.keys() == other.keys()
    assert mine["optimizer_map"]["class_name"] == other["optimizer_map"]["class_name"]
    mine, other = (c["optimizer_map"]["config"] for c in (mine, other))
    assert list(mine["optimizer_map"]) == list(other["optimizer_map"])
    again = optimizers.deserialize(keras.optimizers.serialize(theirs))
    assert [type(o).__name__ for o in again.optimizers] == ["Adam", "SGD", "RMSprop"]


def test_a_model_of_mixed_precision_trains(trains):
    utils.set_random_seed(3)
    dense = layers.Dense(4, dtype="mixed_float16", name="body")
    model = models.Sequential([layers.Input((3,)), dense, layers.Dense(1, name="head")])
    model.dtype_policy = "mixed_float16"
    model.compile(shared(), "mse")
    assert isinstance(model.optimizer, optimizers.LossScaleOptimizer)
    losses = [float(model.train_on_batch(X, X[:, :1])) for _ in range(30)]
    assert losses[-1] < losses[0] / 2


def test_a_copy_and_a_move_keep_the_state(trains):
    model = trained(shared())
    optimizer, variables = copy.deepcopy((model.optimizer, model.trainable_variables))
    grads = [np.ones(v.shape, "float32") for v in variables]
    for o, vs in ((model.optimizer, model.trainable_variables), (optimizer, variables)):
        o.apply([ops.convert_to_tensor(g) for g in grads], vs)
    for a, b in zip(model.trainable_variables, variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    model.to_backend("numpy")
    assert {v.backend for v in model.optimizer.variables} == {"numpy"}
    values = [v.numpy() for v in model.optimizer.variables]
    model.optimizer.set_weights([np.zeros_like(v) for v in values])
    assert not any(v.numpy().any() for v in model.optimizer.variables)
