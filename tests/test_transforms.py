"""Gradients, jit, vmap and control flow: the same code on jax, torch and tensorflow."""

import numpy as np
import pytest

import keraslite as keras
from keraslite import ops

TRAINABLE = ["jax", "torch", "tensorflow"]


@pytest.fixture(params=TRAINABLE)
def trainable(request):
    with keras.use_backend(request.param):
        yield request.param


def numpy(x):
    return keras.tree.map_structure(ops.convert_to_numpy, x)


def test_gradients_by_arguments(trainable):
    def f(a, b):
        return ops.sum(a["x"] * a["y"] ** 2 * b)

    a = {"x": np.array([1.0, 2.0], "float32"), "y": np.array([3.0, 4.0], "float32")}
    b = np.array([0.5, -1.0], "float32")
    value, grads = keras.value_and_grad(f)(a, b)
    np.testing.assert_allclose(numpy(value), 4.5 - 32)
    np.testing.assert_allclose(numpy(grads)["x"], [4.5, -16])
    np.testing.assert_allclose(numpy(grads)["y"], [3, -16])
    (_, by_b) = keras.grad(f, argnums=(0, 1))(a, b)
    np.testing.assert_allclose(numpy(by_b), [9, 32])
    grads, aux = keras.grad(lambda x: (x * x, {"seen": x + 1}), has_aux=True)(3.0)
    assert (float(grads), float(aux["seen"])) == (6.0, 4.0)


def test_second_derivatives(trainable):
    second = keras.grad(keras.grad(lambda x: x**4))
    np.testing.assert_allclose(float(second(2.0)), 48.0, rtol=1e-6)


def test_gradients_by_variables(trainable):
    v = keras.Variable(np.array([1.0, 2.0], "float32"))
    unused = keras.Variable(np.ones(3, "float32"))
    seen = keras.Variable(0, dtype="int32", trainable=False)

    def loss(scale):
        seen.assign_add(1)
        return ops.sum(v.value**3) * scale, ops.max(v.value)

    compute = keras.value_and_grad(loss, has_aux=True, variables=[v, unused])
    (value, aux), grads = compute(2.0)
    assert (float(value), float(aux)) == (18.0, 2.0)
    np.testing.assert_allclose(numpy(grads[0]), [6.0, 24.0])
    assert grads[1] is None or not numpy(grads[1]).any()
    assert int(seen.numpy()) == 1, "assignments inside get out"


def test_gradients_by_arguments_of_layers_that_assign():
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")

    def run():
        dropout, norm = keras.layers.Dropout(0.5, seed=1), keras.layers.BatchNormalization()

        def loss(x):
            return ops.sum(ops.square(norm(dropout(x, training=True), training=True)) * x)

        norm.build(x.shape)
        first, second = (numpy(keras.grad(loss)(x)) for _ in range(2))
        assert not np.allclose(first, second), "a mask for each call"
        return first, second, norm.moving_mean.numpy()

    found = {}
    for name in TRAINABLE:
        with keras.use_backend(name):
            found[name] = run()
    assert found["jax"][2].any(), "assignments inside get out"
    for name in TRAINABLE[1:]:
        for got, want in zip(found[name], found["jax"]):
            np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6)


def test_jit_threads_variables(trainable):
    total = keras.Variable(np.zeros(2, "float32"), trainable=False)

    def add(x):
        total.assign_add(x)
        return ops.sum(total.value)

    compiled = keras.jit(add, variables=[total])
    x = ops.ones((2,))
    assert [float(compiled(x)) for _ in range(3)] == [2.0, 4.0, 6.0]
    np.testing.assert_array_equal(total.numpy(), [3.0, 3.0])


def test_jit_names_variables_that_were_not_given():
    with keras.use_backend("jax"):
        known, stranger = (keras.Variable(np.zeros(2, "float32"), name=n) for n in "ab")

        def f(x):
            known.assign(x)
            stranger.assign(x)

        with pytest.raises(RuntimeError, match=r"not given: \['b'\]"):
            keras.jit(f, variables=[known])(ops.ones((2,)))


def test_stop_gradient(trainable):
    f = keras.grad(lambda x: keras.stop_gradient(x) * x + keras.stop_gradient({"a": x})["a"])
    assert float(f(3.0)) == 3.0


def test_custom_gradient(trainable):
    @keras.custom_gradient
    def clipped(x, y):
        return x * y, lambda upstream: (upstream * 10.0, upstream * y)

    gx, gy = keras.grad(lambda x, y: clipped(x, y) * 2.0, argnums=(0, 1))(3.0, 4.0)
    assert (float(gx), float(gy)) == (20.0, 8.0)


def test_vmap(backend):
    x = np.arange(6, dtype="float32").reshape(3, 2)
    w = np.array([1.0, 10.0], "float32")
    out = keras.vmap(lambda a, b: ops.sum(a * b), in_axes=(0, None))(x, w)
    np.testing.assert_allclose(numpy(out), x @ w)
    out = keras.vmap(lambda a: a * 2.0, in_axes=1, out_axes=0)(x)
    np.testing.assert_allclose(numpy(out), x.T * 2)


def test_vmap_of_a_gradient():
    for name in ("jax", "torch"):
        with keras.use_backend(name):
            out = keras.vmap(keras.grad(lambda x: x**3))(np.array([1.0, 2.0], "float32"))
            np.testing.assert_allclose(numpy(out), [3.0, 12.0])


def test_cond(backend):
    for flag in (True, False):
        out = keras.cond(
            ops.convert_to_tensor(flag), lambda: ops.ones((2,)), lambda: ops.zeros((2,))
        )
        np.testing.assert_array_equal(numpy(out), [flag] * 2)


def test_while_loop(backend):
    total, count = keras.while_loop(
        lambda total, count: count < 5, lambda total, count: (total + count, count + 1), (0, 0)
    )
    assert (int(total), int(count)) == (10, 5)
    assert int(keras.while_loop(lambda i: i < 100, lambda i: i + 1, 0, maximum_iterations=7)) == 7


@pytest.mark.parametrize("reverse", [False, True])
def test_scan(backend, reverse):
    xs = {"a": np.arange(4, dtype="float32"), "b": np.ones((4, 2), "float32")}

    def step(carry, x):
        carry = carry * 2.0 + x["a"]
        return carry, {"sum": carry + ops.sum(x["b"])}

    carry, ys = keras.scan(step, 1.0, xs, reverse=reverse)
    expected, c = [], 1.0
    for a in range(4) if not reverse else range(3, -1, -1):
        c = c * 2 + a
        expected.append(c + 2)
    assert float(carry) == c
    np.testing.assert_allclose(numpy(ys)["sum"], expected[::-1] if reverse else expected)
    carry, nothing = keras.scan(lambda c, _: (c + 1.0, None), 0.0, length=3)
    assert (float(carry), nothing) == (3.0, None)
    with pytest.raises(ValueError, match="one length"):
        keras.scan(step, 1.0, None)


def test_gradients_flow_through_loops():
    for name in TRAINABLE:
        with keras.use_backend(name):
            ones = np.ones(3, "float32")
            f = keras.grad(lambda w: keras.scan(lambda c, x: (c * w + x, c), 1.0, ones)[0])  # noqa: B023
            np.testing.assert_allclose(float(f(2.0)), 12 + 4 + 1, rtol=1e-6)


def test_numpy_says_that_it_has_no_gradients():
    with keras.use_backend("numpy"), pytest.raises(NotImplementedError, match="has no gradients"):
        keras.grad(lambda x: x)(1.0)
