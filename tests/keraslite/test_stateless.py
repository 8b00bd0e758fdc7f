"""The stateless API: a loop of pure functions gives the losses of `fit`, on each backend."""

import numpy as np
import pytest
from compare import assert_close

import keraslite as keras
from keraslite import layers, losses, metrics, ops, optimizers, utils

RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 4)).astype("float32")
LABELS = RNG.integers(0, 3, 16).astype("int32")
REAL = RNG.normal(size=(16, 2)).astype("float32")
EPOCHS = 2


def network():
    """Two outputs, random masks, moving statistics and a penalty."""
    utils.set_random_seed(7)
    x = keras.Input((4,))
    h = layers.Dense(6, "tanh", kernel_regularizer="l2")(x)
    h = layers.Dropout(0.3)(layers.BatchNormalization(momentum=0.8)(h))
    return keras.Model(x, {"a": layers.Dense(3, name="a")(h), "b": layers.Dense(2, name="b")(h)})


def compiled():
    model = network()
    rate = optimizers.schedules.ExponentialDecay(0.05, 2, 0.5)
    model.compile(
        optimizers.AdamW(rate, global_clipnorm=0.5, use_ema=True, ema_momentum=0.5),
        {"a": losses.SparseCategoricalCrossentropy(from_logits=True), "b": "mse"},
        loss_weights={"a": 1.0, "b": 0.5}, metrics={"a": "accuracy"},
    )  # fmt: skip
    return model


def tensors(structure):
    return keras.tree.map_structure(ops.convert_to_tensor, structure)


def values(variables):
    return [ops.copy(v.value) for v in variables]


def stateless_loop(model):
    """Train by functions of values alone; the logs of each step, and the state in the end."""
    optimizer, accuracy = model.optimizer, metrics.SparseCategoricalAccuracy()
    optimizer.build(model.trainable_variables)

    def step(state, measured, seen, x, y):
        def compute_loss(trained, others):
            out, others = model.stateless_call(trained, others, x, training=True)
            loss, new = model.stateless_compute_loss(trained, others, measured, x, y, out)
            return loss, (new, out)

        trained, others, slots = state
        compute = keras.value_and_grad(compute_loss, has_aux=True)
        (loss, ((_, others, new), out)), gradients = compute(trained, others)
        trained, slots = optimizer.stateless_apply(slots, gradients, trained)
        seen = accuracy.stateless_update_state(seen, y["a"], out["a"])
        return (trained, others, slots), new, seen, loss

    groups = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
    state = tuple(map(values, groups))
    data = tensors([X, {"a": LABELS, "b": REAL}])
    step, logs = keras.jit(step), []
    for _ in range(EPOCHS):
        # Here each batch is an epoch, whose metrics begin anew.
        measured, seen = values(model.metrics_variables), accuracy.stateless_reset_state()
        state, measured, seen, loss = step(state, measured, seen, *data)
        by_name = dict(zip([v.path for v in model.metrics_variables], measured, strict=True))
        logs.append((loss, by_name, accuracy.stateless_result(seen)))
    return logs, state


def test_a_loop_of_pure_functions_gives_what_fit_gives(trains):
    by_fit, model = compiled(), compiled()
    y = {"a": LABELS, "b": REAL}
    history = by_fit.fit(X, y, batch_size=16, epochs=EPOCHS, shuffle=False, verbose=0).history
    before = [v.numpy() for v in model.variables]
    logs, (trained, others, slots) = stateless_loop(model)
    for epoch, (loss, measured, accuracy) in enumerate(logs):
        assert_close(loss, history["loss"][epoch])
        assert_close(accuracy, history["a_accuracy"][epoch])
        assert_close(measured["a_loss/total"] / measured["a_loss/count"], history["a_loss"][epoch])
        assert_close(measured["b_loss/total"] / measured["b_loss/count"], history["b_loss"][epoch])
    assert_close([v.numpy() for v in model.variables], before, rtol=0, atol=0)
    # `fit` ends with the averages of the weights.
    averages = dict(zip(model.optimizer.variables, slots, strict=True))
    own = [averages[v] for _, v in model.optimizer.averaged_variables()]
    assert_close(own, [v.numpy() for v in by_fit.trainable_variables], atol=1e-5)
    assert_close(others, [v.numpy() for v in by_fit.non_trainable_variables], atol=1e-5)
    assert int(slots[0]) == EPOCHS


class Penalty(layers.Layer):
    def call(self, x):
        self.add_loss(0.1 * ops.mean(ops.square(x)))
        return x


def test_added_losses_and_penalties_come_with_a_call(trains):
    x = keras.Input((4,))
    h = layers.Dense(3, kernel_regularizer="l2", activity_regularizer="l1")(x)
    model = keras.Model(x, Penalty()(h))
    model.compile("sgd", "mse")
    trained, others = values(model.trainable_variables), values(model.non_trainable_variables)
    doubled = [2 * w for w in trained]
    out, _, extra = model.stateless_call(doubled, others, X, return_losses=True, training=True)
    target = np.zeros((16, 3), "float32")
    loss, (same, *_) = model.stateless_compute_loss(
        doubled, others, values(model.metrics_variables), X, target, out
    )
    kernel, outputs = ops.convert_to_numpy(doubled[0]), ops.convert_to_numpy(out)
    penalty, square = 0.01 * (kernel**2).sum(), (outputs**2).mean()
    total = ops.convert_to_numpy(sum(extra))
    assert_close(total, penalty + 0.1 * square + 0.01 * abs(outputs).sum() / 16)
    assert_close(loss, square + penalty)
    assert_close(same, doubled)
    assert_close(model.losses, [0.01 * ops.sum(ops.square(trained[0]))])


def test_the_numbers_of_values_must_be_the_models(backend):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    with pytest.raises(ValueError, match=r"compile\(\) before stateless_compute_loss"):
        model.stateless_compute_loss([], [], [])
    model.compile("sgd", "mse")
    own = [v.value for v in model.trainable_variables]
    y = np.zeros((16, 1), "float32")
    with pytest.raises(ValueError, match="trainable_variables must have a value .* 2 .*, got 1"):
        model.stateless_compute_loss(own[:1], [], [], X, y, y)
    with pytest.raises(ValueError, match="metrics_variables must have .* 2 .*, got 1"):
        model.stateless_compute_loss(own, [], own[:1], X, y, y)
