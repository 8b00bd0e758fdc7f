"""Models in programs of JAX: optax, flax's TrainState, transformations over devices."""

import subprocess
import sys

import jax
import numpy as np
import optax
import pytest
from backends import BACKENDS
from compare import assert_close

import keraslite as keras
from keraslite import layers

pytestmark = pytest.mark.skipif("jax" not in BACKENDS, reason="of jax alone")
X = np.random.default_rng(3).normal(size=(8, 3)).astype("float32")
Y = X[:, :1] * 2.0


@pytest.fixture(autouse=True)
def _on_jax():
    with keras.use_backend("jax"):
        yield


def network():
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((3,)), layers.Dense(4, "tanh"), layers.Dense(1)])


def values_of(variables):
    return [v.value for v in variables]


def loss_of(model, trained, x=X):
    out, _ = model.stateless_call(trained, values_of(model.non_trainable_variables), x)
    return jax.numpy.mean((out - Y) ** 2)


def by_optax(model, transformation, steps):
    """The losses of a loop of optax's own."""
    trained = values_of(model.trainable_variables)
    state, losses = transformation.init(trained), []
    for _ in range(steps):
        loss, gradients = jax.value_and_grad(lambda t: loss_of(model, t))(trained)
        changes, state = transformation.update(gradients, state, trained)
        trained = optax.apply_updates(trained, changes)
        losses.append(float(loss))
    return losses, trained


def chain():
    schedule = optax.exponential_decay(0.1, 2, 0.5)
    return optax.chain(optax.clip_by_global_norm(0.5), optax.adamw(schedule))


@keras.saving.register_keras_serializable("test_jax_programs")
def registered():
    return chain()


def fitted(optimizer, epochs=3):
    model = network()
    model.compile(optimizer, "mse")
    history = model.fit(X, Y, batch_size=8, epochs=epochs, shuffle=False, verbose=0)
    return model, history.history["loss"]


@pytest.mark.parametrize("make", [lambda: optax.adam(1e-2), chain])
def test_compile_takes_a_transformation_of_optax(make):
    model, losses = fitted(make())
    expected, trained = by_optax(network(), make(), 3)
    assert_close(losses, expected)
    assert_close(values_of(model.trainable_variables), trained, atol=1e-5)
    assert int(model.optimizer.iterations) == 3


def test_an_optimizer_of_optax_is_saved_with_its_state(tmp_path):
    expected, _ = by_optax(network(), chain(), 5)
    for optimizer in (chain(), keras.optimizers.OptaxOptimizer(registered)):
        model, _ = fitted(optimizer)
        model.save(tmp_path / "m.keras")
        loaded = keras.saving.load_model(tmp_path / "m.keras")
        if not callable(optimizer) and isinstance(optimizer, tuple):
            with pytest.raises(ValueError, match="optimizer.transformation = optax"):
                loaded.fit(X, Y, verbose=0)
            loaded.optimizer.transformation = chain()
        for m in (model, loaded):
            history = m.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0).history
            assert_close(history["loss"], expected[3:])


def test_an_optimizer_of_optax_says_where_it_computes():
    model, _ = fitted(optax.sgd(0.1), 1)
    with keras.use_backend("numpy"):
        other = network()
        optimizer = keras.optimizers.OptaxOptimizer(optax.sgd(0.1))
        with pytest.raises(ValueError, match="is of optax, which computes on jax"):
            optimizer.build(other.trainable_variables)
    values, slots = values_of(model.trainable_variables), values_of(model.optimizer.variables)
    new, _ = model.optimizer.stateless_apply(
        slots, [jax.numpy.ones_like(v) for v in values], values
    )
    assert_close(new, [v - 0.1 for v in values])


def test_a_train_state_of_flax_trains_a_model():
    from flax.training import train_state

    model = network()
    expected, _ = by_optax(network(), optax.adam(1e-2), 3)
    state = train_state.TrainState.create(
        apply_fn=lambda params, x: model.stateless_call(params, [], x)[0],
        params=values_of(model.trainable_variables), tx=optax.adam(1e-2),
    )  # fmt: skip

    @jax.jit
    def step(state):
        compute = jax.value_and_grad(lambda p: jax.numpy.mean((state.apply_fn(p, X) - Y) ** 2))
        loss, gradients = compute(state.params)
        return state.apply_gradients(grads=gradients), loss

    losses = []
    for _ in range(3):
        state, loss = step(state)
        losses.append(loss)
    assert_close(losses, expected)
    tree = model.get_state_tree()["trainable_variables"]  # by names, as flax has them
    state = train_state.TrainState.create(apply_fn=None, params=tree, tx=optax.sgd(0.1))
    new = state.apply_gradients(grads=tree).params
    model.set_state_tree({"trainable_variables": new})
    assert_close(model.get_state_tree()["trainable_variables"], new)
    assert_close(new, keras.tree.map_structure(lambda x: 0.9 * x, tree))


DEVICES = """
import numpy as np, jax, jax.numpy as jnp
from functools import partial
from jax.sharding import Mesh, PartitionSpec as P
import keraslite as keras
from keraslite import layers
keras.use_backend("jax")
assert len(jax.devices()) == 4
keras.utils.set_random_seed(1)
model = keras.Sequential([keras.Input((3,)), layers.Dense(4, "tanh"), layers.Dense(1)])
trained = [v.value for v in model.trainable_variables]
x = np.linspace(-1, 1, 24, dtype="float32").reshape(8, 3)
y = x.sum(1, keepdims=True)

def loss_of(trained, x, y):
    return jnp.mean((model.stateless_call(trained, [], x)[0] - y) ** 2)

loss, expected = jax.jit(jax.value_and_grad(loss_of))(trained, x, y)
parts = x.reshape(4, 2, 3), y.reshape(4, 2, 1)

def mean_gradients(trained, x, y):
    return jax.lax.pmean(jax.grad(loss_of)(trained, x, y), "i")

by_pmap = jax.pmap(mean_gradients, "i", in_axes=(None, 0, 0))(trained, *parts)
mesh = Mesh(np.array(jax.devices()), ("i",))
by_shard_map = jax.jit(jax.shard_map(
    mean_gradients, mesh=mesh, in_specs=(P(), P("i"), P("i")), out_specs=P(), check_vma=False,
))(trained, x, y)
each = jax.vmap(jax.grad(loss_of), (None, 0, 0))(trained, *parts)
for a, b, c, d in zip(expected, by_pmap, by_shard_map, each):
    for other in (b[0], b[3], c, d.mean(0)):
        np.testing.assert_allclose(a, other, rtol=1e-5, atol=1e-6)
print("equal")
"""


def test_gradients_of_a_model_are_the_same_over_four_devices():
    command = [sys.executable, "-c", "import os; os.environ['XLA_FLAGS'] = "
               "'--xla_force_host_platform_device_count=4'\n" + DEVICES]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "equal"
