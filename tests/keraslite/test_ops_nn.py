"""Every op of ops/nn.py on every backend, against jax.nn, lax, plain definitions, and Keras."""

import inspect

import jax
import keras
import numpy as np
import pytest
from backends import TRAINABLE
from ops_tables.nn import (
    ACTIVATIONS,
    B6,
    BIAS,
    CLASSES,
    CUBE,
    KERAS,
    KEY,
    LABELS,
    LOGITS,
    PAIRS,
    ROWS,
    SEEN,
    VALUES,
    Q,
    X,
    floats,
    image,
    kernel,
)

import keraslite
from keraslite import ops, tree
from keraslite.ops import attention, nn

# ---- what the rows do not reach ----


def gradient(fn, backend, positions=0):
    """`ops.grad`, under JAX as one program rather than one an op."""
    return jax.jit(ops.grad(fn, positions)) if backend == "jax" else ops.grad(fn, positions)


def of(backend, *arrays):
    return [keraslite.to_backend(x, backend) if isinstance(x, np.ndarray) else x for x in arrays]


NAMES = {n for n, v in vars(nn).items() if callable(v) and n[0] != "_"} - {"ctc_decode"}


def test_signatures_are_keras():
    for name in NAMES:
        if not hasattr(keras.ops, name):
            ours = (
                "biased_conv",
                "grid_attention",
                "linear",
                "normalize_batch",
                "normalize_groups",
                "normalized_conv",
            )
            assert name in ours, f"{name} is neither Keras's nor ours"
            continue
        theirs = inspect.signature(getattr(keras.ops, name)).parameters.values()
        ours = inspect.signature(getattr(nn, name)).parameters.values()
        ours = [(p.name, p.default, p.kind) for p in ours]
        more = 2 if name == "dot_product_attention" else 0  # dropout_rate and seed
        assert ours[: len(ours) - more] == [(p.name, p.default, p.kind) for p in theirs], name


def test_every_op_has_rows():
    tested = {case.op for case in ROWS} | {"conv_transpose", "ctc_loss"}
    assert tested == NAMES


@pytest.mark.parametrize("op", sorted({op for op, *_ in KERAS}))
def test_values_are_keras(op, backend):
    for name, *args in KERAS:
        if name == op:
            theirs = getattr(keras.ops, op)(*args)
            ours = getattr(ops, op)(*of(backend, *args))
            for a, b in zip(tree.flatten(ours), tree.flatten(theirs), strict=True):
                np.testing.assert_allclose(
                    keraslite.backend.to_numpy(a), np.asarray(b), rtol=3e-5, atol=1e-5,
                    err_msg=f"{op} {args[2:]}",
                )  # fmt: skip


def test_ctc_loss_takes_float64(backend):
    target, output, *rest = KERAS[-1][1:]
    want = ops.convert_to_numpy(ops.ctc_loss(*of(backend, target, output, *rest)))
    got = ops.ctc_loss(*of(backend, target, np.float64(output), *rest))
    np.testing.assert_allclose(ops.convert_to_numpy(got), want, rtol=1e-5)
    assert backend == "jax" or ops.dtype(got) == "float64"  # jax has no float64 unless asked


@pytest.mark.parametrize("op", [None, "relu"])
def test_linear_with_a_vector_as_the_kernel(op, backend):
    x, kernel = np.float32([[1, 2], [-3, 1]]), np.float32([1, 2])
    got = ops.linear(*of(backend, x, kernel), activation=op)
    want = np.float32([5, -1 if op is None else 0])
    np.testing.assert_allclose(ops.convert_to_numpy(got), want)
    deep = ops.linear(*of(backend, np.stack([x, x]), kernel), activation=op)
    np.testing.assert_allclose(ops.convert_to_numpy(deep), np.stack([want, want]))


@pytest.mark.parametrize("op", ["conv_transpose", "ctc_loss"])
def test_gradients_of_written_forms(op, backend):
    """These have no oracle in jax: the backends agree with jax's, and that with differences."""
    if backend not in TRAINABLE:
        return
    rows = {
        "conv_transpose": (
            [image(2), kernel(3, 2, 6, 4)],
            [(2, "same"), (1, "valid", None, None, 2), (3, "valid"), (2, "same", 1)],
        ),
        "ctc_loss": ([KERAS[-1][2]], [()]),
    }
    tensors, settings = rows[op]
    for rest in settings:

        def loss(*xs, rest=rest):
            if op == "ctc_loss":
                target, _, *lengths = KERAS[-1][1:]
                out = ops.ctc_loss(target, *xs, *lengths)
            else:
                out = ops.conv_transpose(*xs, *rest)
            return ops.sum(ops.sin(out * 0.1))

        both = tuple(range(len(tensors)))
        got = gradient(loss, backend, both)(*of(backend, *tensors))
        want = gradient(loss, "jax", both)(*of("jax", *tensors)) if backend != "jax" else got
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(
                keraslite.backend.to_numpy(a), np.asarray(b), rtol=1e-3, atol=1e-5
            )
        if backend == "jax":
            step = [np.sin(np.arange(x.size)).reshape(x.shape).astype("float32") for x in tensors]
            there, here = (
                float(jax.jit(loss)(*of("jax", *(x + t * s for x, s in zip(tensors, step)))))
                for t in (1e-2, -1e-2)
            )
            slope = sum(float(np.vdot(g, s)) for g, s in zip(want, step, strict=True))
            assert abs((there - here) / 2e-2 - slope) < 2e-2 * max(1, abs(slope))


def test_kinks(backend):
    """The derivative where a piecewise function bends is the same on every backend."""
    if backend not in TRAINABLE:
        return
    want = {
        "relu": (0, [0.0]), "relu6": (0, [0.0, 6.0]), "leaky_relu": (0.2, [0.0]),
        "hard_tanh": (0, [-1.0, 1.0]), "hard_sigmoid": (0, [-3.0, 3.0]), "elu": (1, [0.0]),
        "selu": (1.7580993408473766, [0.0]), "hard_shrink": (0, [-0.5, 0.5]),
        "soft_shrink": (0, [-0.5, 0.5]), "softsign": (1, [0.0]),
    }  # fmt: skip
    for name, (slope, places) in want.items():
        x = keraslite.to_backend(np.array(places, "float32"), backend)
        got = gradient(lambda x, name=name: ops.sum(getattr(ops, name)(x)), backend)(x)
        np.testing.assert_allclose(keraslite.backend.to_numpy(got), slope, rtol=1e-6, err_msg=name)


def test_nan_is_not_hidden(backend):
    x = keraslite.to_backend(np.full((2, 4), np.nan, "float32"), backend)
    for name in {case.op for case in ACTIVATIONS} | {"normalize", "layer_normalization"}:
        args = (1.0, 0.0) if name == "threshold" else ()
        out = keraslite.backend.to_numpy(getattr(ops, name)(x, *args))
        assert np.isnan(out).all(), f"{name} made {out} of NaN"


def test_gradients_stay_finite(backend):
    if backend not in TRAINABLE:
        return
    zero = np.zeros((2, 3), "float32")
    huge = np.array([[1e4, -1e4, 0.0]], "float32")
    for fn, x in [
        (lambda x: ops.normalize(x), zero), (lambda x: ops.log_softmax(x), huge),
        (lambda x: ops.softplus(x) + ops.log_sigmoid(x), huge), (lambda x: ops.elu(x * 1e3), huge),
        (lambda x: ops.celu(x * 1e3), huge), (lambda x: ops.squareplus(x, 0.1), zero),
        (lambda x: ops.layer_normalization(x), zero), (lambda x: ops.rms_normalization(x), zero),
        (lambda x: ops.binary_crossentropy(ops.ones_like(x), x, from_logits=True), huge),
        (lambda x: ops.sparse_categorical_crossentropy(np.zeros(1, "int32"), x, True), huge),
    ]:  # fmt: skip
        got = gradient(lambda x, fn=fn: ops.sum(fn(x)), backend)(keraslite.to_backend(x, backend))
        assert np.isfinite(keraslite.backend.to_numpy(got)).all(), inspect.getsource(fn)


@pytest.mark.parametrize("current", ["jax", "numpy"])
def test_the_data_chooses(current, backend):
    """Ops that make constants inside make them for their argument's backend."""
    x, cube, q = of(backend, X, CUBE, Q)
    args = {
        "one_hot": (of(backend, LABELS)[0], 6), "multi_hot": (of(backend, LABELS)[0], 6),
        "sparsemax": (x,), "average_pool": (cube, 2, 1, "same"), "adaptive_max_pool": (cube, 2),
        "adaptive_average_pool": (cube, 2),
        "dot_product_attention": (q, q, q, None, None, 1.0, True),
        "sparse_categorical_crossentropy": (of(backend, CLASSES)[0], of(backend, LOGITS)[0]),
        "normalize_batch": (cube,), "moments": (cube, 0),
        "normalize_groups": (cube, None, None, 1),
    }  # fmt: skip
    if backend == "numpy":  # its arrays are literals elsewhere
        return
    with keraslite.use_backend(current):
        for name, given in args.items():
            out = tree.flatten(getattr(ops, name)(*given))[0]
            assert keraslite.backend.of(out) == backend, name


def test_unknown_sizes_in_a_graph():
    """On TensorFlow with unknown batch and space, as when a model is exported."""
    tf = pytest.importorskip("tensorflow")
    w, p = kernel(3, 3, 4, 6), kernel(2, 2, 4, 4)
    cases = [
        (lambda x: ops.conv(x, w, 2, "same"), image(2)),
        (lambda x: ops.conv(x, w, 2, "same", None, 2), image(2)),
        (lambda x: ops.conv(x, p[:, :, :2], 1, "same"), image(2)),
        (lambda x: ops.depthwise_conv(x, p, (2, 1), "same"), image(2)),
        (lambda x: ops.conv_transpose(x, p, 2, "same"), image(2)),
        (lambda x: ops.max_pool(x, 3, 2, "same"), image(2)),
        (lambda x: ops.average_pool(x, 3, 2, PAIRS), image(2)),
        (lambda x: ops.unfold(x, 2), image(2)),
        (lambda x: ops.normalize_batch(x)[0], image(3)),
        (lambda x: ops.dot_product_attention(x, x, x, is_causal=True), Q),
        (lambda x: ops.dot_product_attention(x, x[:, :, :2], x[:, :, :2]), Q),
    ]
    for fn, x in cases:
        fixed = 2 if x is Q else 1
        spec = [None] * (x.ndim - fixed) + list(x.shape[-fixed:])
        with keraslite.use_backend("tensorflow"):
            eager = fn(tf.constant(x))
            graph = tf.function(fn, input_signature=[tf.TensorSpec(spec, x.dtype)])
            np.testing.assert_allclose(graph(tf.constant(x)), eager, rtol=1e-5, atol=1e-5)


def test_windows_under_jit(backend):
    w = keraslite.to_backend(kernel(3, 3, 4, 6), backend)
    for fn in (
        lambda x: ops.conv(x, w, 2, "same"),
        lambda x: ops.max_pool(x, 3, 2, "same"),
        lambda x: ops.average_pool(x, 3, 2, "same"),
        lambda x: ops.conv_transpose(x, ops.transpose(w, (0, 1, 3, 2)), 2, "same"),
    ):
        x = keraslite.to_backend(image(2), backend)
        eager, compiled = (keraslite.backend.to_numpy(f(x)) for f in (fn, ops.jit(fn)))
        np.testing.assert_allclose(compiled, eager, rtol=1e-5, atol=1e-5)


DROPPED = {}


def test_attention_drops_the_same_weights_everywhere(backend, monkeypatch):
    """Also in pieces, compiled, and from a generator; the rest is scaled up."""
    q, key, values = of(backend, Q, KEY, np.tile(np.eye(7, dtype="float32")[:, None], (2, 1, 4, 1)))

    def attend(q, seed=3):
        return ops.dot_product_attention(q, key, values, dropout_rate=0.4, seed=seed)

    found = keraslite.backend.to_numpy(attend(q))  # the weights themselves
    full = keraslite.backend.to_numpy(ops.dot_product_attention(q, key, values))
    kept = found > 0
    assert 0.4 < kept.mean() < 0.8
    np.testing.assert_allclose(found, np.where(kept, full / 0.6, 0), rtol=1e-5)
    np.testing.assert_array_equal(kept, DROPPED.setdefault("kept", kept))
    np.testing.assert_allclose(keraslite.backend.to_numpy(ops.jit(attend)(q)), found, rtol=1e-5)
    generator = keraslite.random.SeedGenerator(3)
    first, second = (keraslite.backend.to_numpy(attend(q, generator)) for _ in range(2))
    np.testing.assert_array_equal(first, found)
    assert not np.array_equal(first, second)
    slope = None
    if backend in TRAINABLE:
        slope = keraslite.backend.to_numpy(ops.grad(lambda q: ops.sum(attend(q) ** 2))(q))
    monkeypatch.setattr(attention, "_CHUNK", 2 * 4 * 7 * 2)  # two queries at a time
    np.testing.assert_allclose(keraslite.backend.to_numpy(attend(q)), found, rtol=1e-5)
    if slope is not None:
        pieces = keraslite.backend.to_numpy(ops.grad(lambda q: ops.sum(attend(q) ** 2))(q))
        np.testing.assert_allclose(pieces, slope, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="dropout_rate from"):
        ops.dot_product_attention(q, key, values, dropout_rate=1.0, seed=1)


def test_long_attention_in_pieces(backend, monkeypatch):
    args = of(backend, Q, KEY[:, :, :2], VALUES[:, :, :2])
    options = dict(zip(("bias", "mask"), of(backend, BIAS, SEEN)), is_causal=True,
                   flash_attention=False)  # fmt: skip
    whole = keraslite.backend.to_numpy(ops.dot_product_attention(*args, **options))
    monkeypatch.setattr(attention, "_CHUNK", 2 * 4 * 7 * 2)  # two queries at a time
    pieces = keraslite.backend.to_numpy(ops.dot_product_attention(*args, **options))
    np.testing.assert_allclose(pieces, whole, rtol=1e-6, atol=1e-6)


ERRORS = [
    (lambda: ops.conv(image(2), kernel(3, 3, 3, 6)), "does not fit 4 input channels"),
    (lambda: ops.conv(image(2), kernel(3, 3, 4, 6), padding="sane"), "padding must be"),
    (lambda: ops.conv(image(2), kernel(9, 9, 4, 6)), "do not fit into the input"),
    (lambda: ops.conv(image(2), kernel(3, 3, 4, 6), (1, 2, 3)), "strides must be"),
    (lambda: ops.conv(X, kernel(3, 3, 4, 6)), "3 to 5 dimensions"),
    (lambda: ops.conv(image(2), kernel(3, 3, 4, 6), data_format="last"), "data_format must be"),
    (lambda: ops.conv_transpose(image(2), kernel(3, 3, 6, 3)), "does not fit"),
    (lambda: ops.depthwise_conv(image(2), kernel(3, 3, 3, 1)), "needs 3 input channels"),
    (lambda: ops.max_pool(image(1), 20), "do not fit into the input"),
    (lambda: ops.glu(floats(2, 3)), "even"),
    (lambda: ops.multi_hot(LABELS), "needs num_classes"),
    (lambda: ops.multi_hot(LABELS, 3, sparse=True), "dense tensors only"),
    (lambda: ops.moments(X, 0, synchronized=True), "synchron"),
    (lambda: ops.binary_crossentropy(X, X[:, :3]), "same shape"),
    (lambda: ops.categorical_crossentropy(X[0], X), "same shape"),
    (lambda: ops.sparse_categorical_crossentropy(CLASSES[:2], LOGITS), "without the class axis"),
    (lambda: ops.normalize(X, order=0), "order must be an integer"),
    (lambda: ops.linear(X, floats(6, 2), None, "tanh"), "activation must be None, 'relu' or 'gelu'"),
    (lambda: ops.normalize_groups(CUBE, groups=2, activation="gelu"), "activation must be None or 'silu'"),
    (lambda: ops.dot_product_attention(X, X, X), "takes \\(batch, time, heads, size\\)"),
    (lambda: ops.dot_product_attention(Q, KEY[:, :, :3], VALUES[:, :, :3]), "evenly"),
    (lambda: ops.dot_product_attention(Q, KEY, KEY, flash_attention=True,
                                       attn_logits_soft_cap=1.0), "no fused attention"),
    (lambda: ops.layer_normalization(X, rms=True), "unexpected arguments"),
    (lambda: ops.depth_to_space(X, 2), "takes images"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), ERRORS)
def test_errors_say_what_is_wrong(call, message, backend):
    with pytest.raises((ValueError, TypeError, NotImplementedError), match=message):
        call()


# ---- the kernel of linear on torch ----


@pytest.fixture
def kernels(monkeypatch):
    torch = pytest.importorskip("torch")
    from keraslite.backend.torch.fast import linear as kernels

    monkeypatch.setattr(kernels, "_LEAST", 1)
    monkeypatch.setattr(kernels, "PRODUCTS", {})
    return torch, kernels


def _settled(kernels, torch, product):
    """Let a library run the products that it has on this processor."""
    from keraslite.backend.torch.fast.products import this_processor

    kernels.PRODUCTS[torch.float32] = product
    if "bfloat16" in this_processor()[1]:
        kernels.PRODUCTS[torch.bfloat16] = product


@pytest.mark.parametrize("product", ["torch", "forward", "onednn"])
@pytest.mark.parametrize("layout", ["own", "transposed", "sliced"])
def test_linear_kernels_agree(kernels, product, layout):
    torch, kernels = kernels
    _settled(kernels, torch, product)
    w = {"own": lambda: kernel(24, 20), "transposed": lambda: kernel(20, 24).T,
         "sliced": lambda: kernel(24, 60)[:, 20:40]}[layout]()  # fmt: skip
    base = torch.from_numpy(w) if layout != "transposed" else torch.from_numpy(w.T).t()
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
        for shape in ((24,), (6, 24), (2, 3, 24), (0, 24)):
            for activation in (None, "relu", "gelu"):
                x = torch.from_numpy(kernel(*shape)).to(dtype).requires_grad_()
                k, b = base.to(dtype), torch.from_numpy(B6.repeat(4)[:20]).to(dtype)
                k, b = (v.detach().requires_grad_() for v in (k, b))
                wide = [v.detach().double().requires_grad_() for v in (x, k, b)]
                want = kernels.activate(torch.nn.functional.linear(wide[0], wide[1].t(), wide[2]),
                                        activation)  # fmt: skip
                with torch.no_grad():
                    inference = kernels.linear(x, k, b, activation)
                out = kernels.linear(x, k, b, activation)
                for got in (inference, out):
                    assert got.dtype == dtype
                    torch.testing.assert_close(got.double(), want, rtol=tolerance, atol=tolerance)
                # The gradient of a sum is an expanded scalar: a stride that oneDNN must not see.
                ours = torch.autograd.grad(out.sum(), [x, k, b])
                theirs = torch.autograd.grad(want.sum(), wide)
                for a, c, like in zip(ours, theirs, (x, k, b), strict=True):
                    torch.testing.assert_close(a.double(), c, rtol=tolerance, atol=4 * tolerance)
                    assert a.shape == like.shape


def test_linear_under_transforms(kernels):
    torch, kernels = kernels
    _settled(kernels, torch, "onednn")
    x, w, b = (torch.from_numpy(v) for v in (floats(6, 24), kernel(24, 20), kernel(20)))
    want = torch.nn.functional.linear(x, w.t(), b)

    def loss(x, w, b):
        return kernels.linear(x, w, b, "gelu").square().sum()

    eager = [v.clone().requires_grad_() for v in (x, w, b)]
    grads = torch.autograd.grad(loss(*eager), eager)
    for got in (
        torch.func.grad(loss, argnums=(0, 1, 2))(x, w, b),
        torch.func.jacrev(loss, argnums=(0, 1, 2))(x, w, b),
    ):
        torch.testing.assert_close(got, grads, rtol=1e-4, atol=1e-4)
    mapped = torch.func.vmap(lambda x: kernels.linear(x, w, b))(x[None].expand(3, 6, 24))
    torch.testing.assert_close(mapped[2], want)
    for fn in (lambda x: kernels.linear(x, w, b), lambda x: loss(x, *eager[1:])):
        compiled = torch.compile(fn, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x), fn(x))
        with torch.no_grad():
            torch.testing.assert_close(compiled(x), fn(x))
    fresh = [v.clone().requires_grad_() for v in (x, w, b)]
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    again = torch.autograd.grad(compiled(*fresh), fresh)
    torch.testing.assert_close(again, grads, rtol=1e-4, atol=1e-4)
    # The gradient of a gradient.
    (first,) = torch.autograd.grad(loss(*fresh), fresh[:1], create_graph=True)
    second = torch.autograd.grad(first.square().sum(), fresh[1])[0]
    plain = torch.func.grad(lambda w: torch.func.grad(lambda x: loss(x, w, b))(x).square().sum())(w)
    torch.testing.assert_close(second, plain, rtol=1e-3, atol=1e-2)


def test_the_processor_decides_who_runs_products():
    pytest.importorskip("torch")
    from keraslite.backend.torch.fast.products import processor, product_for

    full = {"mkl", "onednn", "avx2", "avx512f", "bfloat16"}
    for vendor, lacking, float32, bfloat16 in (
        ("AuthenticAMD", set(), "onednn", "forward"),
        ("AuthenticAMD", {"avx512f"}, "forward", "forward"),
        ("AuthenticAMD", {"avx2", "avx512f"}, "torch", "forward"),
        ("AuthenticAMD", {"mkl"}, "torch", "forward"),
        ("AuthenticAMD", {"bfloat16"}, "onednn", "torch"),
        ("AuthenticAMD", {"onednn"}, "torch", "torch"),
        ("GenuineIntel", set(), "torch", "forward"),
        ("", full, "torch", "torch"),
    ):
        capabilities = frozenset(full - lacking)
        assert product_for(vendor, capabilities, "float32") == float32
        assert product_for(vendor, capabilities, "bfloat16") == bfloat16
        assert product_for(vendor, capabilities, "float64") == "torch"
    two = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu avx2\n"
    assert processor(two * 2) == ("GenuineIntel", {"fpu", "avx2"})
    assert processor("") == ("", frozenset())


def test_products_are_timed_only_where_that_is_asked_for(monkeypatch):
    torch = pytest.importorskip("torch")
    from keraslite.backend.torch.fast import products

    if "onednn" not in products.this_processor()[1]:
        pytest.skip("this torch has no oneDNN")
    assert 0.05 < products.measure() < 50
    monkeypatch.setattr(products, "measure", lambda: pytest.fail("timed"))
    assert products.choose_products() == products.choose_products()
    for asked in ("torch", "onednn"):
        assert products.choose_products(asked)[torch.float32] == asked
    for gain, product in ((1.0, "torch"), (1.1, "forward"), (2.0, "onednn")):
        monkeypatch.setattr(products, "measure", lambda gain=gain: gain)
        assert products.choose_products("measure")[torch.float32] == product
    with pytest.raises(ValueError, match=r"must be one of onednn, torch or measure, got 'mkl'"):
        products.choose_products("mkl")


def test_abstract_values_and_transforms_take_the_product_of_torch(kernels):
    torch, kernels = kernels
    _settled(kernels, torch, "onednn")
    from torch._subclasses.fake_tensor import FakeTensorMode

    x, w = torch.ones(4, 6), torch.ones(6, 5)
    with FakeTensorMode():
        assert kernels.linear(torch.ones(4, 6), torch.ones(6, 5)).shape == (4, 5)
    mapped = torch.func.vmap(lambda x: kernels.linear(x, w))(x[None])
    torch.testing.assert_close(mapped[0], x @ w)
    compiled = torch.compile(lambda x: kernels.linear(x, w), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), x @ w)
    assert kernels.linear(x.double(), w.double()).dtype == torch.float64


def test_torch_takes_channels_last_without_a_copy(monkeypatch):
    torch = pytest.importorskip("torch")
    from keraslite.backend.torch import convolution

    seen = []
    real = convolution.F.conv2d
    monkeypatch.setattr(convolution.F, "conv2d", lambda x, *a: seen.append(x) or real(x, *a))
    for x in (torch.from_numpy(image(2)), torch.from_numpy(image(1))):
        w = torch.from_numpy(kernel(*(3,) * (x.ndim - 2), 4, 8))
        out = ops.conv(x, w, padding="same")
        assert seen[-1].data_ptr() == x.data_ptr()
        assert out.is_contiguous()
    assert ops.max_pool(torch.from_numpy(image(2)), 2).is_contiguous()


@pytest.mark.parametrize("bias", [None, (2, 1, 1, 40), (1, 6, 20, 40)])
@pytest.mark.parametrize("key_heads", [6, 2])
def test_attention_in_blocks_agrees(monkeypatch, bias, key_heads):
    torch = pytest.importorskip("torch")
    from keraslite.backend.torch.fast import attention

    monkeypatch.setattr(attention, "PRODUCTS", {torch.float32: "onednn"})
    monkeypatch.setattr(attention, "_LEAST_SCORES", 1)
    monkeypatch.setattr(attention, "_LEAST_KEYS", 40)
    monkeypatch.setattr(attention, "_BLOCK", 280)  # scores: 7 of 20 rows at once
    q, k, v = (floats(2, n, h, 16) for n, h in ((20, 6), (40, key_heads), (40, key_heads)))
    inputs = [torch.from_numpy(x) for x in (q, k, v)]
    added = None if bias is None else torch.from_numpy(floats(*bias))
    blocks = []
    real = attention.attention
    monkeypatch.setattr(attention, "attention", lambda *a: blocks.append(1) or real(*a))
    with torch.no_grad():
        got = ops.dot_product_attention(*inputs, bias=added)
    assert blocks
    wide = [x.double().transpose(1, 2).requires_grad_() for x in inputs]
    want = torch.nn.functional.scaled_dot_product_attention(
        *wide, None if added is None else added.double(), enable_gqa=True
    ).transpose(1, 2)
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)
    ops.dot_product_attention(*(x.clone().requires_grad_() for x in inputs), bias=added)
    assert len(blocks) == 1  # gradients go through torch's own
