"""Gradients, jit, vmap and control flow: the same code on jax, torch and tensorflow."""

import numpy as np
import pytest
from backends import BACKENDS, TRAINABLE

import keraslite as keras
from keraslite import ops


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


def test_a_variable_first_read_inside_a_gradient_outlives_it(trainable):
    v = keras.Variable(np.float32([1.0, 2.0]))
    keras.grad(lambda x: ops.sum(x * v))(np.ones(2, "float32"))
    (gradient,) = keras.grad(lambda: ops.sum(v * v), variables=[v])()
    np.testing.assert_allclose(numpy(gradient), [2.0, 4.0])


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


def test_jit_reads_variables_that_are_not_listed(trainable):
    weight, total = (keras.Variable(x, trainable=False) for x in (1.0, 0.0))
    one = ops.ones(())

    def add(x):
        total.assign_add(x * weight)
        return x * weight

    for variables in (None, [total]):
        compiled = keras.jit(add if variables else lambda x: x * weight, variables)
        for value in (1.0, 2.0, 3.0):
            weight.assign(value)
            assert float(compiled(one)) == value
    assert float(total) == 6.0


def test_jit_names_variables_that_are_not_listed():
    with keras.use_backend("jax"):
        known, stranger = (keras.Variable(np.zeros(2, "float32"), name=n) for n in "ab")

        def f(x):
            known.assign(x)
            stranger.assign(x)

        with pytest.raises(RuntimeError, match=r"must list .* got also \['b'\]"):
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


# ---- forward and reverse mode, recomputation, associative scans ----


def _curve(x, y):
    return {"a": ops.sin(x) * y, "b": [ops.sum(x * x)]}


X, Y = (np.random.default_rng(i).normal(size=4).astype("float32") for i in (5, 6))
DX, DY = (np.random.default_rng(i).normal(size=4).astype("float32") for i in (7, 8))


def test_jvp(trainable):
    value, tangent = keras.jvp(_curve, (X, Y), [DX, DY])
    np.testing.assert_allclose(numpy(value)["a"], np.sin(X) * Y, rtol=1e-5)
    want = np.cos(X) * Y * DX + np.sin(X) * DY
    np.testing.assert_allclose(numpy(tangent)["a"], want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(numpy(tangent)["b"][0], 2 * np.sum(X * DX), rtol=1e-5)
    out, tangent, aux = ops.linalg.jvp(
        lambda x: (x**2, {"seen": x, "n": None}), (3.0,), (2.0,), True
    )
    assert (float(out), float(tangent), float(aux["seen"]), aux["n"]) == (9.0, 12.0, 3.0, None)
    x = ops.convert_to_tensor(X)
    np.testing.assert_allclose(numpy(keras.jvp(lambda a, b: a * b, (x, x), (x, x))[1]), 2 * X**2)
    unrelated = keras.jvp(lambda a: ops.ones((2,)) * 3.0, (x,), (x,))[1]
    np.testing.assert_array_equal(numpy(unrelated), [0, 0])

    def loop(a):
        return ops.scan(lambda c, y: (keras.checkpoint(ops.sin)(c * y), None), a, x)[0]

    def product(a, b):
        return keras.jvp(loop, (a,), (b,))[1]

    np.testing.assert_allclose(
        numpy(product(x[0], x[1])), numpy(keras.grad(loop)(x[0])) * X[1], rtol=1e-4
    )
    compiled = keras.jit(product)(x[0], x[1])
    np.testing.assert_allclose(numpy(compiled), numpy(product(x[0], x[1])), rtol=1e-4)
    with pytest.raises(ValueError, match=r"\(4,\).*\(2,\)"):
        keras.jvp(ops.sin, (X,), (X[:2],))
    with pytest.raises(ValueError, match="structures differ"):
        keras.jvp(ops.sin, (X,), (X, X))


def test_vjp(trainable):
    value, pull = keras.vjp(_curve, X, Y)
    np.testing.assert_allclose(numpy(value)["a"], np.sin(X) * Y, rtol=1e-5)
    for scale in (1.0, 2.0):  # more than once
        gx, gy = numpy(pull({"a": DX * np.float32(scale), "b": [3.0]}))
        np.testing.assert_allclose(gx, scale * DX * np.cos(X) * Y + 6 * X, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(gy, scale * DX * np.sin(X), rtol=1e-5, atol=1e-6)
    out, pull, aux = ops.vjp(lambda x: (x**3, "three"), 2.0, has_aux=True)
    assert (float(out), float(pull(1.0)[0]), aux) == (8.0, 12.0, "three")
    gx, gy = keras.vjp(lambda x, y: x * 2.0, X, Y)[1](DX)
    np.testing.assert_allclose(numpy(gx), 2 * DX)
    np.testing.assert_array_equal(numpy(gy), np.zeros(4))


def test_both_modes_let_assignments_out(trainable):
    count = keras.Variable(0.0, trainable=False)

    def f(x):
        count.assign_add(1.0)
        return x * 2.0

    keras.jvp(f, (3.0,), (1.0,))
    keras.vjp(f, 3.0)
    assert float(count.numpy()) == 2.0


def test_jvp_of_a_gradient_is_a_product_with_the_hessian():
    for name in TRAINABLE:
        with keras.use_backend(name):
            gradient = keras.grad(lambda x: ops.sum(x**3))
            np.testing.assert_allclose(
                numpy(keras.jvp(gradient, (X,), (DX,))[1]), 6 * X * DX, rtol=1e-5
            )


class Layer:
    """A function that reads a variable and counts how often it runs, compiled or not."""

    def __init__(self, name):
        self.name, self.runs = name, 0
        self.w = keras.Variable(Y)

    def _count(self, x):
        self.runs += 1
        return x

    def __call__(self, x):
        if self.name == "jax":
            import jax

            jax.debug.callback(lambda: self._count(None))
        else:
            self._count(x)
        return ops.sin(ops.sin(x * self.w))

    def counted(self, run):
        self.runs = 0
        out = numpy(run())
        if self.name == "jax":
            import jax

            jax.effects_barrier()
        return out, self.runs


def test_checkpoint_computes_again_and_gives_the_same_gradient(trainable):
    f = Layer(trainable)
    saved = keras.checkpoint(f)
    by_argument = [keras.value_and_grad(lambda x, g=g: ops.sum(g(x))) for g in (f, saved)]
    by_variable = [
        keras.value_and_grad(lambda x, g=g: ops.sum(g(x)), variables=[f.w]) for g in (f, saved)
    ]
    for plain, again in (by_argument, by_variable):
        want, once = f.counted(lambda: plain(X))  # noqa: B023
        got, twice = f.counted(lambda: again(X))  # noqa: B023
        keras.tree.map_structure(np.testing.assert_allclose, got, want)
        assert (once, twice) == (1, 2)
        compiled = keras.jit(again, variables=[f.w])
        keras.tree.map_structure(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), numpy(compiled(X)), want
        )
    _, runs = f.counted(lambda: saved(X))
    assert runs == 1


def test_checkpoint_reaches_what_it_closes_over(trainable):
    def loss(x, saved):
        inner = keras.checkpoint if saved else lambda f: f
        scale = [x * 2.0]
        return ops.sum(inner(lambda y: ops.sin(y * scale[0]) * x)(x))

    want, got = (numpy(keras.grad(loss)(X, saved)) for saved in (False, True))
    np.testing.assert_allclose(got, want, rtol=1e-5)
    second = [
        numpy(keras.grad(lambda x, s=s: ops.sum(keras.grad(loss)(x, s) ** 2))(X))
        for s in (False, True)
    ]
    np.testing.assert_allclose(second[1], second[0], rtol=1e-4)


def test_checkpoint_of_nested_structures(trainable):
    @keras.checkpoint
    def f(pair, scale=1.0, flag=None):
        assert flag == "on"
        return {"out": pair["x"] * pair["y"] * scale, "n": None, "i": ops.cast(pair["x"], "int32")}

    x, y = ops.convert_to_tensor(X), ops.convert_to_tensor(Y)
    gradient = keras.grad(lambda x: ops.sum(f({"x": x, "y": y}, scale=x, flag="on")["out"]))
    np.testing.assert_allclose(numpy(gradient(x)), 2 * X * Y, rtol=1e-5)


def test_checkpoint_of_layers_that_assign(trainable):
    dropout, norm = keras.layers.Dropout(0.5, seed=1), keras.layers.BatchNormalization()
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    norm.build(x.shape)

    def block(x):
        return norm(dropout(x, training=True), training=True)

    def run(fn):
        dropout.seed_generator.state.assign([1, 0])
        norm.moving_mean.assign(np.zeros(4))
        compute = keras.value_and_grad(
            lambda x: ops.sum(ops.multiply(fn(fn(x)), x)), variables=[norm.gamma, norm.beta]
        )
        return numpy(compute(x)), dropout.seed_generator.state.numpy(), norm.moving_mean.numpy()

    want, got = run(block), run(keras.checkpoint(block))
    for a, b in zip(keras.tree.flatten(got), keras.tree.flatten(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert want[2].any()


def test_checkpoint_keeps_the_compute_dtype(trainable):
    dense = keras.layers.Dense(3, dtype="mixed_bfloat16")
    dense.build((2, 4))
    seen = []

    class Saved(keras.layers.Layer):
        def call(self, x):
            def inner(x):
                out = ops.matmul(x, v)
                seen.append(ops.dtype(out))
                return out

            return keras.checkpoint(inner)(x)

    layer = Saved(dtype="mixed_bfloat16")
    v = layer.add_weight(shape=(4, 3), initializer="ones")
    keras.value_and_grad(lambda: ops.sum(layer(np.ones((2, 4), "float32"))), variables=[v])()
    assert set(seen) == {"bfloat16"}


def test_checkpoint_runs_on_numpy_and_on_symbolic_tensors(backend):
    f = keras.checkpoint(lambda x: ops.sin(x) * 2.0)
    np.testing.assert_allclose(numpy(f(ops.convert_to_tensor(X))), 2 * np.sin(X), rtol=1e-6)
    assert f(keras.KerasTensor((None, 3))).shape == (None, 3)


def test_numpy_says_that_it_has_no_other_derivatives_either():
    with keras.use_backend("numpy"):
        for call in (lambda: keras.jvp(ops.sin, (X,), (X,)), lambda: keras.vjp(ops.sin, X)):
            with pytest.raises(NotImplementedError, match="has no gradients"):
                call()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8, 13])
@pytest.mark.parametrize("reverse", [False, True])
def test_associative_scan(size, reverse, backend):
    rng = np.random.default_rng(size)
    a, b = (rng.normal(size=(2, size, 3)).astype("float32") for _ in range(2))

    def f(first, second):  # the composition of x -> a x + b, which does not commute
        return {"a": first["a"] * second["a"], "b": first["b"] * second["a"] + second["b"]}

    got = numpy(ops.associative_scan(f, {"a": a, "b": b}, reverse=reverse, axis=-2))
    state, want = {"a": None}, {"a": np.zeros_like(a), "b": np.zeros_like(b)}
    for i in range(size)[:: -1 if reverse else 1]:
        now = {"a": a[:, i], "b": b[:, i]}
        state = now if state["a"] is None else f(state, now)
        want["a"][:, i], want["b"][:, i] = state["a"], state["b"]
    for key in "ab":
        np.testing.assert_allclose(got[key], want[key], rtol=1e-4, atol=1e-6)


def test_associative_scan_is_compiled_and_differentiated(trainable):
    x = np.arange(1, 7, dtype="float32") / 3

    def total(x):
        return ops.sum(ops.associative_scan(lambda a, b: a * b, x))

    got = numpy(keras.jit(keras.grad(total))(ops.convert_to_tensor(x)))
    want = [sum(np.prod(np.delete(x[: n + 1], i)) for n in range(i, 6)) for i in range(6)]
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_associative_scan_names_what_is_wrong(backend):
    x = ops.ones((3, 2))
    with pytest.raises(TypeError, match=r"associative_scan.*function"):
        ops.associative_scan("add", x)
    with pytest.raises(ValueError, match="one size along axis 1"):
        ops.associative_scan(lambda a, b: a, [x, ops.ones((3, 3))], axis=1)


def test_scan_over_an_unknown_length():
    import tensorflow as tf

    def run(xs):
        return ops.scan(lambda c, x: (c + x, c * x), 0.0, xs, reverse=True)

    compiled = tf.function(run, [tf.TensorSpec([None], "float32")], autograph=False)
    for size in (1, 4):
        xs = np.arange(size, dtype="float32") + 1
        for got, want in zip(compiled(xs), run(tf.constant(xs)), strict=True):
            np.testing.assert_allclose(got, want)


def test_xla_compiles_what_writes_at_a_place_that_is_known_late(backend):
    fast = ops.jit(lambda x, i, new: ops.overwrite(x, (i, 0), new), compile="xla")
    with keras.no_grad():
        for i in (0, 2, 5):  # a part that would reach beyond the end is moved inside
            at, expected = min(i, 2), np.zeros((3, 2), "float32")
            expected[at] = 7
            new = ops.convert_to_tensor(np.full((1, 2), 7, "float32"))
            out = fast(ops.zeros((3, 2)), ops.convert_to_tensor(np.int32(i)), new)
            np.testing.assert_array_equal(ops.convert_to_numpy(out), expected)


def test_variables_are_made_before_they_are_traced():
    """Made inside, TensorFlow would trace again."""
    with keras.use_backend("tensorflow"):
        layer, calls = keras.layers.Dense(2), []
        layer.build((None, 3))

        def call(x):
            calls.append(1)
            return layer(x)

        ops.jit(call, layer.variables)(ops.zeros((1, 3)))
    assert len(calls) == 1


def test_a_tf_function_does_not_rewrite_the_package():
    """By autograph, which took ten times as long as the rest of a small step."""
    if "tensorflow" not in BACKENDS:
        pytest.skip("tensorflow is not among the backends")
    from tensorflow.python.autograph.impl import conversion

    keras.backend.load("tensorflow")
    for function in (keras.losses.mean_squared_error, keras.Variable.assign, keras.grad):
        assert conversion.is_allowlisted(function)
    assert not conversion.is_allowlisted(test_a_tf_function_does_not_rewrite_the_package)
