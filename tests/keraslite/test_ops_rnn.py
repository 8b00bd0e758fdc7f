"""The recurrent layers of ops/rnn.py on every backend, against the layers of the installed Keras."""

import functools
import itertools

import keras as oracle
import numpy as np
import pytest
from backends import TRAINABLE

import keraslite
from keraslite import ops, tree

rng = np.random.default_rng(3)
BATCH, STEPS, FEATURES, UNITS = 3, 5, 4, 6


def floats(*shape):
    return (rng.normal(size=shape) * 0.6).astype("float32")


X = floats(BATCH, STEPS, FEATURES)
STATES = floats(BATCH, UNITS), floats(BATCH, UNITS)
MASK = np.array([[1, 1, 1, 1, 1], [0, 1, 0, 1, 0], [0, 0, 0, 0, 0]], bool)
GATES = {"lstm": 4, "gru": 3}


def weights(name, bias=True, reset_after=True):
    width = GATES[name] * UNITS
    shape = (2, width) if name == "gru" and reset_after else (width,)
    return [floats(FEATURES, width), floats(UNITS, width), floats(*shape) if bias else None]


def options(name):
    """(what the op takes, what Keras's layer takes) for each way to call a layer."""
    rows = [
        {}, {"reverse": True}, {"return_sequences": False}, {"unroll": True},
        {"reverse": True, "return_sequences": False}, {"activation": "relu"},
        {"recurrent_activation": "hard_sigmoid", "activation": "linear"},
    ]  # fmt: skip
    if name == "gru":
        rows += [{"reset_after": False}, {"reset_after": False, "reverse": True}]
    return [
        {**row, "bias": bias, "mask": mask}
        for row in rows
        for bias, mask in itertools.product((True, False), repeat=2)
        if bias or "activation" not in row
    ]


CASES = [(name, tuple(sorted(o.items()))) for name in GATES for o in options(name)]


@functools.cache
def case(name, given):
    """The arguments of a case, and what Keras's layer gives: outputs, states and gradients."""
    import tensorflow as tf

    options = dict(given)
    bias, mask = options.pop("bias"), options.pop("mask")
    own = weights(name, bias, options.get("reset_after", True))
    states = STATES[: 2 if name == "lstm" else 1]
    kwargs = {"go_backwards" if n == "reverse" else n: v for n, v in options.items()}
    kwargs = {"return_sequences": True, **kwargs}
    layer = getattr(oracle.layers, name.upper())(
        UNITS, use_bias=bias, return_state=True, use_cudnn=False, **kwargs
    )
    layer.build(X.shape)
    layer.set_weights([w for w in own if w is not None])
    mask = MASK if mask else None
    tensors = [tf.constant(v) for v in (X, *states)]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        out, *new = layer(tensors[0], initial_state=tensors[1:], mask=mask)
        total = tf.reduce_sum(out * _weights_of(out.shape)) + sum(tf.reduce_sum(s**2) for s in new)
    grads = tape.gradient(total, [*tensors, *(v.value for v in layer.weights)])
    out = out.numpy() if kwargs["return_sequences"] else out.numpy()[:, None]
    new, grads = ([x.numpy() for x in xs] for xs in (new, grads))
    return (X, *states, *own, mask), options, (out, new, grads)


def _weights_of(shape):
    return np.cos(np.arange(np.prod(shape)) + 1.0).reshape(shape).astype("float32")


def moved(args, backend):
    return [x if x is None else keraslite.to_backend(x, backend) for x in args]


@pytest.mark.parametrize(("name", "given"), CASES)
def test_as_the_layer_of_keras(name, given, backend):
    assert oracle.backend.backend() == "tensorflow"
    args, options, (want, states, _) = case(name, given)
    last, outs, new = ops.__dict__[name](*moved(args, backend), **options)
    assert isinstance(new, list)
    for got, wanted in zip([outs, last, *new], [want, want[:, -1], *states], strict=True):
        assert keraslite.backend.of(got) in (backend, None if backend == "numpy" else backend)
        np.testing.assert_allclose(ops.convert_to_numpy(got), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "given"), CASES)
def test_gradients_as_the_layer_of_keras(name, given, backend):
    if backend not in TRAINABLE:
        return
    args, options, (want, _, grads) = case(name, given)
    where = [i for i, x in enumerate(args[:-1]) if x is not None]

    def total(*tensors):
        filled = moved(args, backend)
        for i, x in zip(where, tensors, strict=True):
            filled[i] = x
        _, outs, states = ops.__dict__[name](*filled, **options)
        weights = keraslite.to_backend(
            _weights_of(want.shape if outs.shape[1] > 1 else (BATCH, UNITS)), backend
        )
        weights = ops.reshape(weights, want.shape)
        return ops.sum(outs * weights) + sum(ops.sum(s * s) for s in states)

    got = ops.grad(total, tuple(range(len(where))))(*(moved(args, backend)[i] for i in where))
    for a, b in zip(got, grads, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(a), b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("masked", [False, True])
def test_symbolic_and_compiled(name, masked, backend):
    args = [X, *STATES[: 2 if name == "lstm" else 1], *weights(name), MASK if masked else None]
    layer = getattr(ops, name)
    specs = [
        x
        if x is None
        else keraslite.KerasTensor((None, *x.shape[1:]) if i < len(args) - 4 else x.shape, x.dtype)
        for i, x in enumerate(args)
    ]
    if masked:
        specs[-1] = keraslite.KerasTensor((None, STEPS), "bool")
    last, outs, states = layer(*specs)
    assert (last.shape, outs.shape) == ((None, UNITS), (None, STEPS, UNITS))
    assert {s.shape for s in states} == {(None, UNITS)}
    tensors = moved(args, backend)
    compiled = keraslite.jit(lambda *args: layer(*args))
    got, want = (tree.flatten(f(*tensors)) for f in (compiled, layer))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(
            ops.convert_to_numpy(a), ops.convert_to_numpy(b), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("name", GATES)
def test_a_graph_of_tensorflow_loops_and_knows_no_length(name):
    import tensorflow as tf

    args = [X, *STATES[: 2 if name == "lstm" else 1], *weights(name)]
    specs = [tf.TensorSpec([None, None, FEATURES], "float32")] + [
        tf.TensorSpec([None, UNITS] if i < len(args) - 4 else x.shape, "float32")
        for i, x in enumerate(args[1:])
    ]
    sizes = []
    for steps in (None, 5, 50):
        specs[0] = tf.TensorSpec([None, steps, FEATURES], "float32")
        run = tf.function(getattr(ops, name), specs, autograph=False).get_concrete_function()
        kinds = [o.type for o in run.graph.get_operations()]
        assert any("While" in kind for kind in kinds)
        sizes.append(len(kinds))
    assert sizes[1] == sizes[2]
    compiled = tf.function(getattr(ops, name), [tf.TensorSpec([None, None, FEATURES]), *specs[1:]],
                           autograph=False)  # fmt: skip
    got = compiled(*map(tf.constant, args))
    want = getattr(ops, name)(*map(tf.constant, args))
    for a, b in zip(tf.nest.flatten(got), tf.nest.flatten(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", GATES)
def test_torch_runs_its_fused_kernel(name, monkeypatch):
    torch = pytest.importorskip("torch")
    args = [torch.from_numpy(x) for x in (X, *STATES[: 2 if name == "lstm" else 1], *weights(name))]
    calls, real = [], getattr(torch, name)
    monkeypatch.setattr(torch, name, lambda *a: calls.append(1) or real(*a))
    layer = getattr(ops, name)
    fused = layer(*args)
    assert calls == [1]
    mask = torch.ones(BATCH, STEPS, dtype=torch.bool)
    for more in ({"mask": mask}, {"activation": "sigmoid"}, {"recurrent_activation": ops.sigmoid}):
        layer(*args, **more)
    assert calls == [1]
    scanned = layer(*args, mask=mask)
    torch.testing.assert_close(scanned, fused, rtol=1e-5, atol=1e-6)
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        outs = layer(*(x.to(dtype) for x in args))[1]
        assert outs.dtype == dtype
        torch.testing.assert_close(outs.float(), fused[1], rtol=0.1, atol=0.03)
    batches = torch.stack([args[0], args[0] * 2])
    mapped = torch.func.vmap(lambda x: layer(x, *args[1:])[1])(batches)
    torch.testing.assert_close(mapped[1], layer(batches[1], *args[1:])[1], rtol=1e-5, atol=1e-6)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(*args), fused)


_BAD = {
    "kernel": ("lstm", {3: floats(FEATURES, 3)}, r"kernel must be \(4, 24\)"),
    "recurrent_kernel": ("gru", {3: floats(2, 18)}, r"recurrent_kernel must be \(6, 18\)"),
    "bias": ("gru", {4: floats(18)}, r"bias must be \(2, 18\)"),
    "x": ("lstm", {0: X[0]}, r"\(batch, steps, features\)"),
    "state": ("lstm", {2: floats(BATCH, 2)}, r"\(batch, 6\)"),
}


@pytest.mark.parametrize(("name", "changed", "said"), _BAD.values(), ids=list(_BAD))
def test_errors(name, changed, said, backend):
    args = [X, *STATES[: 2 if name == "lstm" else 1], *weights(name)]
    for i, x in changed.items():
        args[i] = x
    with pytest.raises(ValueError, match=rf"ops\.{name}\(.*{said}"):
        getattr(ops, name)(*moved(args, backend))


def test_an_unknown_activation_is_named(backend):
    args = moved([X, *STATES, *weights("lstm")], backend)
    with pytest.raises(ValueError, match=r"ops\.lstm\(.*'tangens'"):
        ops.lstm(*args, activation="tangens")
