"""The trainer: numbers against Keras, equal curves on all backends, custom steps, bad input."""

import functools
import os
import signal
from contextlib import nullcontext
from functools import partial

import compare
import numpy as np
import pytest
from backends import TRAINABLE
from trainer_cases import BITS, CASES, LABELS, REAL, X, classifier, regressor

import keraslite
from keraslite import backend as backends
from keraslite import callbacks, layers, losses, metrics, models, ops, optimizers, random, utils

assert_close = partial(compare.assert_close, rtol=2e-5, atol=1e-6)


# -- the numbers of Keras -------------------------------------------------------------------------


@functools.cache
def keras_run(name):
    """What Keras gives for a case: first weights, history, evaluation, prediction, last weights."""
    import keras

    build, compiled, x, y, fit = CASES[name]
    keras.utils.set_random_seed(3)
    model = build(keras)
    first = model.get_weights()
    model.compile(**compiled(keras), run_eagerly=True)
    size = fit.get("batch_size", 16)
    fit = {"batch_size": size, "epochs": 2, "verbose": 0, "shuffle": False} | fit
    history = model.fit(x, y, **fit).history
    judged = model.evaluate(x, y, batch_size=size, verbose=0, return_dict=True)
    return first, history, judged, model.predict(x, batch_size=size, verbose=0), model.get_weights()


@pytest.mark.parametrize("name", CASES)
def test_fit_evaluate_and_predict_give_the_numbers_of_keras(trains, name):
    first, history, judged, predicted, last = keras_run(name)
    build, compiled, x, y, fit = CASES[name]
    model = build(keraslite)
    model.set_weights(first)
    model.compile(**compiled(keraslite))
    size = fit.get("batch_size", 16)
    fit = {"batch_size": size, "epochs": 2, "verbose": 0, "shuffle": False} | fit
    got = model.fit(x, y, **fit).history
    assert set(got) == set(history)
    for key, values in history.items():
        assert_close(got[key], values)
    result = model.evaluate(x, y, batch_size=size, verbose=0, return_dict=True)
    assert set(result) == set(judged)
    for key, value in judged.items():
        assert_close(result[key], value)
    out = model.predict(x, batch_size=size, verbose=0)
    for a, b in zip(ops_flatten(out), ops_flatten(predicted), strict=True):
        assert_close(a, b, atol=1e-5)
    for a, b in zip(model.get_weights(), last, strict=True):
        assert_close(a, b, rtol=1e-4, atol=1e-5)


def ops_flatten(x):
    return keraslite.tree.flatten(x)


@functools.cache
def keras_batches():
    import keras

    keras.utils.set_random_seed(3)
    model = classifier(keras)
    first = model.get_weights()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"],
                  run_eagerly=True)  # fmt: skip
    out = [model.train_on_batch(X[:8], LABELS[:8], class_weight={0: 2.0, 1: 0.5})]
    out.append(model.train_on_batch(X[8:16], LABELS[8:16], return_dict=True)["loss"])
    out.append(model.test_on_batch(X, LABELS))
    return first, out, model.predict_on_batch(X[:5])


def test_single_batches_give_the_numbers_of_keras(trains):
    first, out, predicted = keras_batches()
    model = classifier(keraslite)
    model.set_weights(first)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    assert_close(model.train_on_batch(X[:8], LABELS[:8], class_weight={0: 2.0, 1: 0.5}), out[0])
    got = model.train_on_batch(X[8:16], LABELS[8:16], return_dict=True)
    assert_close(got["loss"], out[1])
    assert_close(model.test_on_batch(X, LABELS), out[2])
    assert_close(model.predict_on_batch(X[:5]), predicted)


def test_evaluate_gives_a_list_in_the_order_of_the_names(trains):
    model = classifier(keraslite)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    values = model.evaluate(X[:64], LABELS[:64], verbose=0)
    assert model.metrics_names == ["loss", "accuracy"]
    again = model.evaluate(X[:64], LABELS[:64], verbose=0, return_dict=True)
    assert values == list(again.values())
    assert 0 <= values[1] <= 1 < values[0] + 1


# -- steps ----------------------------------------------------------------------------------------


def fitted(steps=1, epochs=2, rows=64, compiled=None, **fit):
    utils.set_random_seed(5)
    model = models.Sequential(
        [layers.Input((4,)), layers.Dense(8, "relu"), layers.Dropout(0.4), layers.Dense(3)]
    )
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"], steps_per_execution=steps, **(compiled or {}))
    fit = {"batch_size": 8, "verbose": 0, "epochs": epochs} | fit
    return model, model.fit(X[:rows], LABELS[:rows], **fit)


def test_several_steps_in_one_execution_change_nothing(trains):
    one, first = fitted(rows=70)
    three, second = fitted(steps=3, rows=70)
    for key, values in first.history.items():
        assert_close(second.history[key], values)
    for a, b in zip(one.get_weights(), three.get_weights(), strict=True):
        assert_close(a, b, rtol=1e-4, atol=1e-5)
    seen = []
    three.fit(X, LABELS, batch_size=8, verbose=0, callbacks=[callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: seen.append(batch),
        on_train_batch_end=lambda batch, logs: seen.append(batch),
    )])  # fmt: skip
    # The last batch is shorter, so that it cannot run in one program with those before it.
    assert seen == [0, 2, 3, 5, 6, 6, 7, 7, 8, 8]


def test_eager_steps_give_the_numbers_of_compiled_ones(trains):
    _, compiled = fitted(rows=16, epochs=1)
    _, eager = fitted(rows=16, epochs=1, compiled={"run_eagerly": True})
    for key, values in compiled.history.items():
        assert_close(eager.history[key], values)


def losses_of(name, count, seed=11, moves=None):
    """The losses of single steps with dropout on a backend, which may change under way."""
    found = []
    with keraslite.use_backend(name):
        utils.set_random_seed(seed)
        x = layers.Input((4,))
        h = layers.Dropout(0.3)(layers.Dense(16, "gelu")(x))
        h = layers.LayerNormalization()(h)
        model = models.Model(x, layers.Dense(3)(layers.Dropout(0.2)(h)))
        model.compile(
            optimizers.AdamW(0.01, weight_decay=0.02),
            losses.SparseCategoricalCrossentropy(from_logits=True),
        )
    for step in range(count):
        if moves and step in moves:
            assert model.to_backend(moves[step]) is model
        rows = slice(step % 4 * 16, step % 4 * 16 + 16)
        found.append(model.train_on_batch(X[rows], LABELS[rows]))
    return found


@functools.cache
def twenty(name):
    return losses_of(name, 20)


def test_a_seed_gives_the_same_losses_everywhere(trains):
    assert_close(twenty(trains), twenty(TRAINABLE[0]), rtol=1e-4)
    assert len(set(twenty(trains))) == 20


@pytest.mark.parametrize("second", TRAINABLE)
@pytest.mark.parametrize("first", TRAINABLE)
def test_a_model_that_is_moved_trains_on_where_it_stood(first, second):
    moved = losses_of(first, 10, moves={5: second})
    assert_close(moved, twenty(first)[:10], rtol=1e-4)
    assert_close(moved, twenty(second)[:10], rtol=1e-4)


def test_a_moved_model_reports_its_backend_everywhere(trains):
    other = TRAINABLE[TRAINABLE.index(trains) - 1]
    model, _ = fitted(epochs=1)
    before = model.predict(X, verbose=0, batch_size=70)
    model.to_backend(other)
    assert {v.backend for v in model.variables} == {other}
    assert {v.backend for v in model.optimizer.variables} == {other}
    assert_close(model.predict(X, verbose=0, batch_size=70), before)
    model.to_backend("numpy")
    assert_close(model.predict(X, verbose=0), before)
    with pytest.raises(NotImplementedError, match="numpy backend has no gradients"):
        model.fit(X, LABELS, verbose=0)


# -- steps of one's own ---------------------------------------------------------------------------


class Gan(models.Model):
    """Two networks with an optimizer each; as in the guides of Keras, but with one train_step."""

    def __init__(self):
        super().__init__()
        dense = layers.Dense
        self.generator = models.Sequential([layers.Input((3,)), dense(8, "relu"), dense(4)])
        self.judge = models.Sequential([layers.Input((4,)), dense(8, "relu"), dense(1)])
        self.seeds = random.SeedGenerator(1)

    def compile(self, d_optimizer, g_optimizer, loss_fn):
        super().compile()
        self.d_optimizer, self.g_optimizer, self.loss_fn = d_optimizer, g_optimizer, loss_fn
        self.d_metric, self.g_metric = metrics.Mean(name="d_loss"), metrics.Mean(name="g_loss")

    @property
    def metrics(self):
        return [self.d_metric, self.g_metric]

    def train_step(self, data):
        real = data[0] if isinstance(data, tuple) else data
        rows = ops.shape(real)[0]
        noise = random.normal((rows, 3), seed=self.seeds)
        truth = ops.concatenate([ops.ones((rows, 1)), ops.zeros((rows, 1))])

        def judged():
            both = ops.concatenate([real, ops.stop_gradient(self.generator(noise))])
            return self.loss_fn(truth, self.judge(both))

        variables = self.judge.trainable_variables
        d_loss, grads = keraslite.value_and_grad(judged, variables=variables)()
        self.d_optimizer.apply(grads, variables)

        def fooled():
            return self.loss_fn(ops.ones((rows, 1)), self.judge(self.generator(noise)))

        variables = self.generator.trainable_variables
        g_loss, grads = keraslite.value_and_grad(fooled, variables=variables)()
        self.g_optimizer.apply(grads, variables)
        self.d_metric.update_state(d_loss)
        self.g_metric.update_state(g_loss)
        return {m.name: m.result() for m in self.metrics}


@functools.cache
def gan_history(name):
    with keraslite.use_backend(name):
        utils.set_random_seed(2)
        gan = Gan()
        gan.compile(
            optimizers.Adam(0.01), optimizers.Adam(0.01),
            losses.BinaryCrossentropy(from_logits=True),
        )  # fmt: skip
        history = gan.fit(X[:64], epochs=3, verbose=0).history
        assert gan.d_optimizer.iterations.numpy() == 6
        return history


def test_one_train_step_with_two_optimizers_runs_everywhere(trains):
    history = gan_history(trains)
    assert set(history) == {"d_loss", "g_loss"}
    for key, values in gan_history(TRAINABLE[0]).items():
        assert_close(history[key], values, rtol=1e-4)


def test_a_custom_loss_and_metric_inside_a_step(trains):
    class Custom(models.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)
            self.tracker = metrics.Mean(name="mae")

        def call(self, x):
            return self.dense(x)

        def train_step(self, data):
            x, y = data

            def loss_of():
                out = self(x, training=True)
                return ops.mean(ops.square(y - out)), out

            variables = self.trainable_variables
            compute = keraslite.value_and_grad(loss_of, has_aux=True, variables=variables)
            (loss, out), grads = compute()
            self.optimizer.apply(grads, variables)
            self.tracker.update_state(ops.mean(ops.absolute(y - out)))
            return {"loss": loss, "mae": self.tracker.result()}

    model = Custom()
    model.compile(optimizers.SGD(0.1))
    history = model.fit(X, REAL, epochs=4, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert history["mae"][-1] < history["mae"][0]


def test_compute_loss_may_be_overridden(trains):
    class Twice(models.Sequential):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return 2.0 * ops.mean(ops.square(y - y_pred))

    model = Twice([layers.Input((4,)), layers.Dense(2)])
    model.compile("sgd", "mse")
    loss = model.evaluate(X, REAL, verbose=0)
    assert_close(loss, 2 * np.mean((model.predict(X, verbose=0) - REAL) ** 2))


def test_gradients_of_nested_arguments(trains):
    def f(params, scale):
        return ops.sum(params["w"] * params["parts"][0]) * scale + ops.sum(params["parts"][1])

    params = {"w": ops.convert_to_tensor([1.0, 2.0]),
              "parts": [ops.convert_to_tensor([3.0, 4.0]), ops.convert_to_tensor(5.0)]}  # fmt: skip
    value, grads = keraslite.value_and_grad(f)(params, 2.0)
    assert_close(value, 27.0)
    assert_close(grads["w"], [6.0, 8.0])
    assert_close(grads["parts"][0], [2.0, 4.0])
    assert_close(grads["parts"][1], 1.0)
    value, (grads, by_scale) = keraslite.value_and_grad(f, argnums=(0, 1))(params, 2.0)
    assert_close(by_scale, 11.0)


# -- the frameworks' own loops --------------------------------------------------------------------


def small():
    utils.set_random_seed(4)
    return models.Sequential(
        [layers.Input((4,)), layers.Dense(6, "relu"), layers.BatchNormalization(), layers.Dense(2)]
    )


def native_torch(model, steps):
    import torch

    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = torch.mean((model(X, training=True) - torch.from_numpy(REAL)) ** 2)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def native_jax(model, steps):
    import jax

    trained = [v.value for v in model.trainable_variables]
    kept = [v.value for v in model.non_trainable_variables]

    @jax.jit
    def step(trained, kept):
        def loss_of(trained):
            out, new = model.stateless_call(trained, kept, X, training=True)
            return jax.numpy.mean((out - REAL) ** 2), new

        (loss, new), grads = jax.value_and_grad(loss_of, has_aux=True)(trained)
        return loss, [w - 0.1 * g for w, g in zip(trained, grads, strict=True)], new

    found = []
    for _ in range(steps):
        loss, trained, kept = step(trained, kept)
        found.append(float(loss))
    for variables, values in ((model.trainable_variables, trained),
                              (model.non_trainable_variables, kept)):  # fmt: skip
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
    return found


def native_tensorflow(model, steps):
    import tensorflow as tf

    found = []
    for _ in range(steps):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(X, training=True) - REAL) ** 2)
        variables = model.trainable_variables
        grads = tape.gradient(loss, variables)
        for variable, grad in zip(variables, grads, strict=True):
            variable.assign_sub(0.1 * grad)
        found.append(float(loss))
    return found


def test_a_loop_in_the_framework_of_the_backend_gives_what_fit_gives(trains):
    loop = {"torch": native_torch, "jax": native_jax, "tensorflow": native_tensorflow}[trains]
    by_hand, by_fit = small(), small()
    found = loop(by_hand, 5)
    by_fit.compile(optimizers.SGD(0.1), "mse")
    history = by_fit.fit(X, REAL, batch_size=70, epochs=5, verbose=0, shuffle=False).history
    assert_close(found, history["loss"], rtol=1e-4)
    for a, b in zip(by_hand.get_weights(), by_fit.get_weights(), strict=True):
        assert_close(a, b, rtol=1e-4, atol=1e-5)


# -- mixed precision ------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains(trains, policy):
    utils.set_random_seed(1)
    model = models.Sequential([
        layers.Input((4,)), layers.Dense(16, "relu", dtype=policy),
        layers.LayerNormalization(dtype=policy), layers.Dense(3, dtype=policy),
        layers.Activation("softmax", dtype="float32"),
    ])  # fmt: skip
    loss = losses.SparseCategoricalCrossentropy()
    model.compile(optimizers.Adam(0.02), loss, metrics=["accuracy"])
    history = model.fit(X[:64], LABELS[:64], epochs=15, verbose=0, batch_size=16).history
    assert history["loss"][-1] < history["loss"][0] * 0.8
    assert {v.dtype for v in model.weights} == {"float32"}
    assert model.predict_on_batch(X).dtype == np.float32


def test_a_model_of_mixed_float16_scales_its_loss(trains):
    keraslite.dtype_policies.set_dtype_policy("mixed_float16")
    try:
        model = regressor(keraslite)
        model.compile(optimizers.SGD(0.05), "mse")
    finally:
        keraslite.dtype_policies.set_dtype_policy(None)
    assert isinstance(model.optimizer, optimizers.LossScaleOptimizer)
    model.compile(model.optimizer, "mse")
    assert not isinstance(model.optimizer.inner_optimizer, optimizers.LossScaleOptimizer)
    history = model.fit(X[:64], REAL[:64], epochs=8, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert model.predict_on_batch(X).dtype == np.float16


# -- bad input, and ends --------------------------------------------------------------------------


def compiled(loss="sparse_categorical_crossentropy", **arguments):
    model = classifier(keraslite)
    model.compile(**{"optimizer": "sgd", "loss": loss} | arguments)
    return model


def test_a_nan_loss_names_the_step(trains):
    model = regressor(keraslite)
    model.compile(optimizers.SGD(0.01), "mse")
    bad = REAL.copy()
    bad[43] = np.nan
    with pytest.raises(FloatingPointError, match=r"NaN at epoch 1, step 5"):
        model.fit(X, bad, batch_size=8, epochs=2, shuffle=False, verbose=0)


@pytest.mark.parametrize("labels", [LABELS + 1, LABELS - 1])
def test_labels_out_of_range_are_named(trains, labels):
    with pytest.raises(ValueError, match=r"The labels go from -?\d to \d.*3 classes.*0 to 2"):
        compiled().fit(X, labels, verbose=0)


def test_labels_of_another_loss_are_not_checked(trains):
    model = compiled()
    model.fit(X, LABELS, verbose=0)
    model.compile("sgd", "mse")
    model.fit(X, ONE_MORE, verbose=0)


ONE_MORE = np.full((70, 3), 7.0, "float32")


def test_empty_data_is_refused(trains):
    with pytest.raises(ValueError, match="empty"):
        compiled().fit(X[:0], LABELS[:0], verbose=0)
    with pytest.raises(ValueError, match="empty"):
        compiled().fit(iter(()), verbose=0)
    with pytest.raises(ValueError, match="empty"):
        compiled().evaluate(iter(()), verbose=0)


def test_data_of_several_lengths_is_refused(trains):
    with pytest.raises(ValueError, match=r"same number of rows, got \[69, 70\]"):
        compiled().fit(X, LABELS[1:], verbose=0)


def test_unknown_names_list_the_known_ones(trains):
    with pytest.raises(ValueError, match=r"Unknown loss 'mesquare'.*mean_squared_error"):
        compiled(loss="mesquare").fit(X, LABELS, verbose=0)
    with pytest.raises(ValueError, match=r"Unknown metric 'akkuracy'.*Accuracy"):
        compiled(metrics=["akkuracy"]).fit(X, LABELS, verbose=0)
    with pytest.raises(ValueError, match=r"Unknown optimizer 'adamm'.*adam"):
        compiled(optimizer="adamm")
    model = models.Model(
        x := layers.Input((4,)), {"a": layers.Dense(1)(x), "b": layers.Dense(1)(x)}
    )
    model.compile("sgd", {"a": "mse", "c": "mse"})
    with pytest.raises(ValueError, match=r"loss names \['c'\].*\['a', 'b'\]"):
        model.fit(X, {"a": BITS, "b": BITS}, verbose=0)


def test_a_wrong_input_shape_names_the_model_and_the_shape(trains):
    with pytest.raises(ValueError, match=r"to have shape \(None, 4\), got \(None, 3\)"):
        compiled().fit(X[:, :3], LABELS, verbose=0)
    model = models.Model(x := layers.Input((4,), name="rows"), layers.Dense(1)(x))
    with pytest.raises(ValueError, match=r"'rows' to have shape \(None, 4\), got \(70, 3\)"):
        model(X[:, :3])


def test_targets_of_a_wrong_shape_are_named_with_the_outputs(trains):
    message = r"'mse' got targets of shape \(32, 3\), outputs of shape \(32, 2\)"
    model = regressor(keraslite)
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=message.replace("mse", "mean_squared_error")):
        model.fit(X, np.zeros((70, 3), "float32"), verbose=0)


def test_what_must_be_compiled_says_so(trains):
    model = classifier(keraslite)
    for method in ("fit", "evaluate", "train_on_batch", "test_on_batch"):
        with pytest.raises(ValueError, match=rf"compile\(\) before {method}"):
            getattr(model, method)(X, LABELS)
    model.compile("sgd")
    with pytest.raises(ValueError, match="There is no loss"):
        model.fit(X, LABELS, verbose=0)


@pytest.mark.skipif(len(TRAINABLE) < 2, reason="needs two frameworks")
def test_two_frameworks_in_one_operation_are_refused():
    with keraslite.use_backend(TRAINABLE[0]):
        a = ops.convert_to_tensor([1.0])
    with keraslite.use_backend(TRAINABLE[1]):
        b = ops.convert_to_tensor([1.0])
    with pytest.raises(TypeError, match=r"two frameworks.*to_backend"):
        ops.add(a, b)
    with keraslite.use_backend(TRAINABLE[0]):
        model = compiled()
    with keraslite.use_backend(TRAINABLE[1]):
        x = ops.convert_to_tensor(X)
    assert backends.of(model(x)) == TRAINABLE[0]  # at the boundary of a model they are moved
    model.fit(x, LABELS, verbose=0)


def interrupt(at):
    return callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: os.kill(os.getpid(), signal.SIGINT)
        if batch == at else None
    )  # fmt: skip


def test_ctrl_c_stops_after_a_whole_step_and_loses_nothing(trains):
    model, _ = fitted(epochs=1)
    seen = []
    stop = callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: seen.append(epoch),
        on_train_batch_end=lambda batch, logs: os.kill(os.getpid(), signal.SIGINT)
        if (seen[-1], batch) == (2, 3) else None,
    )  # fmt: skip
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X[:64], LABELS[:64], batch_size=8, epochs=5, verbose=0, callbacks=[stop])
    assert signal.getsignal(signal.SIGINT) is handler
    assert seen == [0, 1, 2]
    assert model.history.epoch == [0, 1]
    assert len(model.history.history["loss"]) == 2
    assert int(model.optimizer.iterations.numpy()) == 8 + 8 + 8 + 4
    assert np.isfinite(model.predict_on_batch(X)).all()
    model.fit(X[:64], LABELS[:64], batch_size=8, verbose=0)


def test_freezing_takes_effect_without_compiling_again(trains):
    model = regressor(keraslite)
    model.compile(optimizers.SGD(0.1), "mse")
    model.layers[0].trainable = False
    before = model.get_weights()
    model.fit(X, REAL, verbose=0)
    after = model.get_weights()
    assert np.array_equal(before[0], after[0])
    assert not np.array_equal(before[2], after[2])


def test_weights_taken_before_training_do_not_change_with_it(trains):
    model = regressor(keraslite)
    model.compile(optimizers.SGD(0.1), "mse")
    before = model.get_weights()
    kept = [w.copy() for w in before]
    model.fit(X, REAL, verbose=0, epochs=2)
    for a, b in zip(before, kept, strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("source", ["numpy", *TRAINABLE])
@pytest.mark.parametrize("made", [False, True], ids=["unmade", "made"])
def test_what_a_variable_was_set_from_does_not_change_with_it(trains, source, made):
    """Frameworks write variables in place, share memory, or give it away: never the user's."""
    model = models.Sequential([layers.Input((4,)), layers.Dense(2, use_bias=False)])
    model.compile(optimizers.SGD(0.1), "mse")
    if made:
        model.predict_on_batch(X)
    with keraslite.use_backend(source):
        given = ops.convert_to_tensor(np.arange(8, dtype="float32").reshape(4, 2))
    want = backends.to_numpy(given).copy()
    model.layers[0].kernel.assign(given)
    model.fit(X[:64], REAL[:64], verbose=0)
    assert np.array_equal(backends.to_numpy(given), want)
    assert not np.array_equal(model.get_weights()[0], want)


def test_variables_set_from_one_another_train_apart(trains):
    class Pair(models.Model):
        def __init__(self):
            super().__init__()
            self.one, self.two = layers.Dense(2), layers.Dense(2)

        def call(self, x):
            return self.one(x) - 0.5 * self.two(x)

    model = Pair()
    model(X)
    for a, b in zip(model.one.weights, model.two.weights, strict=True):
        b.assign(a)
    model.compile(optimizers.SGD(0.1), "mse")
    model.fit(X[:64], REAL[:64], verbose=0)
    assert not np.allclose(model.one.get_weights()[0], model.two.get_weights()[0])


@pytest.mark.parametrize("second", TRAINABLE)
def test_tensors_taken_from_a_model_stay_when_it_moves(trains, second):
    model = regressor(keraslite)
    model.compile(optimizers.SGD(0.1), "mse")
    model.fit(X[:64], REAL[:64], verbose=0)
    if trains == second:
        return  # within a framework the value is the variable's own tensor
    held = model.layers[0].kernel.value
    want = backends.to_numpy(held).copy()
    model.to_backend(second)
    model.fit(X[:64], REAL[:64], verbose=0)
    assert np.array_equal(backends.to_numpy(held), want)


def test_shuffles_are_the_same_on_every_backend_and_new_each_epoch(backend):
    def orders():
        utils.set_random_seed(9)
        seen = []
        model = models.Sequential([layers.Input((1,)), layers.Dense(1)])
        model.compile("sgd", "mse")
        if backend == "numpy":
            model.predict_step = None
        data = keraslite.training.data.adapt(np.arange(8.0), None, batch_size=4, shuffle=True)
        for epoch in range(2):
            seen.append(np.concatenate([b[0] for b in data.epoch(epoch)]).astype(int).tolist())
        return seen

    first = orders()
    assert first == orders()
    assert first[0] != first[1]
    assert sorted(first[0]) == list(range(8))


def test_jit_takes_variables_and_gives_them_back(trains):
    counter = keraslite.Variable(0.0, name="counter")

    @functools.partial(keraslite.jit, variables=[counter])
    def add(x):
        counter.assign_add(ops.sum(x))
        return counter.value * 2.0

    assert backends.to_numpy(add(ops.convert_to_tensor([1.0, 2.0]))) == 6.0
    assert backends.to_numpy(add(ops.convert_to_tensor([1.0, 2.0]))) == 12.0
    assert float(counter.numpy()) == 6.0


def test_the_trainer_does_not_wait_for_the_device_at_each_step(trains, monkeypatch):
    model, _ = fitted(epochs=1)
    reads = []
    read = backends.to_numpy
    monkeypatch.setattr(backends, "to_numpy", lambda x: (reads.append(1), read(x))[1])
    model.fit(np.repeat(X, 8, 0), np.repeat(LABELS, 8), batch_size=8, verbose=1)
    assert len(reads) < 20  # 70 steps


# -- data that ends before its time ---------------------------------------------------------------


class Batches(callbacks.Callback):
    """The numbers of the batches of each epoch."""

    def on_train_begin(self, logs=None):
        self.epochs = []

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs.append([])

    def on_train_batch_end(self, batch, logs=None):
        self.epochs[-1].append(batch)


@pytest.mark.parametrize(
    ("steps", "epochs"),
    [(7, [5, 5]), (3, [3, 2, 3, 2]), (5, [5, 5]), (None, [5, 5])],
)
def test_an_epoch_ends_with_the_data_as_in_keras(trains, steps, epochs):
    model, seen = regressor(keraslite), Batches()
    model.compile("sgd", "mse")
    arguments = {"batch_size": 4, "epochs": len(epochs), "verbose": 0, "callbacks": [seen]}
    short = steps is not None and steps != 5
    with pytest.warns(UserWarning, match="ran out of data") if short else nullcontext():
        model.fit(X[:20], REAL[:20], steps_per_epoch=steps, **arguments)
    assert seen.epochs == [list(range(n)) for n in epochs]


def test_a_generator_at_its_end_ends_the_training(trains):
    model = regressor(keraslite)
    model.compile("sgd", "mse")
    source = ((X[i : i + 4], REAL[i : i + 4]) for i in range(0, 12, 4))
    with pytest.warns(UserWarning, match="training ends after 1 of 3 epochs"):
        history = model.fit(source, epochs=3, verbose=0)
    assert len(history.history["loss"]) == 1
    with pytest.raises(ValueError, match="must yield at least one batch"):
        model.fit(iter([]), verbose=0)


def test_a_callback_stops_prediction_and_evaluation(trains):
    def endless():
        while True:
            yield X[:4], REAL[:4]

    model = regressor(keraslite)
    model.compile("sgd", "mse")
    stop = callbacks.LambdaCallback(
        on_predict_batch_end=lambda batch, logs: setattr(model, "stop_predicting", batch == 2),
        on_test_batch_end=lambda batch, logs: setattr(model, "stop_evaluating", batch == 2),
    )
    assert model.predict(endless(), callbacks=[stop], verbose=0).shape == (12, 2)
    assert model.evaluate(endless(), callbacks=[stop], verbose=0) > 0
    assert model.predict(X, verbose=0).shape == (70, 2)  # the next call begins anew


def test_compute_loss_may_do_without_training(trains):
    class Own(models.Sequential):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            return ops.mean(ops.square(y - y_pred))

    model = Own([layers.Input((4,)), layers.Dense(2)])
    model.compile("sgd", "mse")
    model.fit(X, REAL, verbose=0)
    wanted = np.mean((model.predict(X, verbose=0) - REAL) ** 2)
    assert_close(model.evaluate(X, REAL, batch_size=70, verbose=0), wanted)


# -- steps as Keras has them on JAX ---------------------------------------------------------------


def stateless_model(**options):
    """The model of Keras's guide to custom train steps on JAX."""
    import jax

    class Own(models.Model):
        def compute_loss_and_updates(self, trained, others, x, y, training=False):
            y_pred, others = self.stateless_call(trained, others, x, training=training)
            return self.compute_loss(x, y, y_pred), (y_pred, others)

        def update_metrics(self, values, loss, y, y_pred):
            logs, new = {}, []
            for metric in self.metrics:
                own = values[len(new) : len(new) + len(metric.variables)]
                seen = (loss,) if metric.name == "loss" else (y, y_pred)
                own = metric.stateless_update_state(own, *seen)
                logs[metric.name] = metric.stateless_result(own)
                new += own
            return logs, new

        def train_step(self, state, data):
            trained, others, slots, measured = state
            x, y = data
            compute = jax.value_and_grad(self.compute_loss_and_updates, has_aux=True)
            (loss, (y_pred, others)), grads = compute(trained, others, x, y, training=True)
            trained, slots = self.optimizer.stateless_apply(slots, grads, trained)
            logs, measured = self.update_metrics(measured, loss, y, y_pred)
            return logs, (trained, others, slots, measured)

        def test_step(self, state, data):
            trained, others, measured = state
            x, y = data
            loss, (y_pred, others) = self.compute_loss_and_updates(trained, others, x, y)
            logs, measured = self.update_metrics(measured, loss, y, y_pred)
            return logs, (trained, others, measured)

        def predict_step(self, state, data):
            x, _, _ = utils.unpack_x_y_sample_weight(data)
            return self.stateless_call(*state, x, training=False)

    x = layers.Input((4,))
    h = layers.BatchNormalization()(layers.Dense(6, "tanh")(x))
    model = Own(x, layers.Dense(2)(h))
    model.compile(optimizers.Adam(0.05), "mse", **options)
    return model


@pytest.mark.parametrize("eager", [False, True])
def test_the_stateless_steps_of_jax_give_what_the_own_ones_give(eager):
    if "jax" not in TRAINABLE:
        pytest.skip("jax is not installed")
    with keraslite.use_backend("jax"):
        model = stateless_model(run_eagerly=eager)
        plain = models.Model(model.inputs[0], model.outputs[0])
        plain = models.Model.from_config(plain.get_config())
        plain.set_weights(model.get_weights())
        plain.compile(optimizers.Adam(0.05), "mse")
        arguments = {"batch_size": 10, "epochs": 2, "shuffle": False, "verbose": 0}
        got, want = (m.fit(X, REAL, **arguments).history["loss"] for m in (model, plain))
        assert_close(got[0], want[0])
        assert_close(got[1], want[1])
        for a, b in zip(model.get_weights(), plain.get_weights(), strict=True):
            assert_close(a, b, rtol=1e-4, atol=1e-5)
        assert int(model.optimizer.iterations.value) == 14
        judged = [m.evaluate(X, REAL, batch_size=70, verbose=0) for m in (model, plain)]
        assert_close(*judged)
        assert_close(model.predict(X, verbose=0), plain.predict(X, verbose=0))


# -- limits and counts ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": -1}, "epochs must be an int of at least 0, got -1"),
        ({"epochs": 1.5}, "epochs must be an int of at least 0, got 1.5"),
        ({"batch_size": 0}, "batch_size must be a positive int, got 0"),
        ({"batch_size": 2.5}, "batch_size must be a positive int, got 2.5"),
        ({"steps_per_epoch": 0}, "steps_per_epoch must be an int of at least 1, got 0"),
        ({"validation_freq": 0}, "validation_freq must be an int of at least 1, got 0"),
    ],
)
def test_counts_that_are_none_are_refused(arguments, message):
    with keraslite.use_backend("numpy"):  # before anything of the backend is needed
        model = regressor(keraslite)
        model.compile("sgd", "mse")
        with pytest.raises(ValueError, match=message):
            model.fit(X, REAL, verbose=0, **arguments)
        if "batch_size" in arguments:
            for call in (model.predict, model.evaluate):
                with pytest.raises(ValueError, match=message):
                    call(X, verbose=0, **arguments)


def test_no_epochs_train_nothing(trains):
    model = regressor(keraslite)
    model.compile("sgd", "mse")
    assert model.fit(X, REAL, epochs=0, verbose=0).history == {}


def test_the_config_limits_epochs_and_steps(trains):
    model, seen = regressor(keraslite), Batches()
    model.compile("sgd", "mse")
    keraslite.config.set_max_epochs(2)
    keraslite.config.set_max_steps_per_epoch(3)
    try:
        with pytest.warns(UserWarning, match="Limiting (epochs to 2|steps_per_epoch to 3)"):
            model.fit(X, REAL, epochs=4, batch_size=7, verbose=0, callbacks=[seen])
        assert seen.epochs == [[0, 1, 2], [0, 1, 2]]
        with pytest.warns(UserWarning, match="Limiting steps_per_epoch to 3"):
            assert len(model.predict(X, batch_size=7, verbose=0)) == 21
        assert model.evaluate(X[:21], REAL[:21], batch_size=7, verbose=0) > 0  # within the limit
    finally:
        keraslite.config.set_max_epochs(None)
        keraslite.config.set_max_steps_per_epoch(None)
    with pytest.raises(ValueError, match="max_epochs must be a positive int or None, got 0"):
        keraslite.config.set_max_epochs(0)
