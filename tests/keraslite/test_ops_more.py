"""unique, view, rearrange and ctc_decode on every backend, against numpy, einops' rules and Keras."""

import functools
import itertools

import jax
import keras as oracle
import numpy as np
import pytest
from ops_tables.views import ALL_OF_IT, CUBE, LINE, REPEATED, ROWS_OF, rng

import keraslite
from keraslite import ops

# ---- unique where the size depends on the values ----


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("x", [REPEATED, ROWS_OF, ROWS_OF.astype("float32"), LINE[:0].reshape(0, 2)],
                         ids=["elements", "rows", "floats", "nothing"])  # fmt: skip
def test_unique_without_a_size(x, axis, backend):
    if x.size == 0 and axis is not None:
        axis = 0
    want = np.unique(x, axis=axis, **ALL_OF_IT)
    t = keraslite.to_backend(x, backend)
    got = ops.unique(t, axis=axis, **ALL_OF_IT)
    for a, b in zip(got, want, strict=True):
        a = ops.convert_to_numpy(a)
        np.testing.assert_array_equal(a, b)
        assert a.shape == b.shape
    assert [ops.dtype(a) for a in got] == [x.dtype.name, "int32", "int32", "int32"]
    np.testing.assert_array_equal(ops.convert_to_numpy(ops.unique(t, axis=axis)), want[0])


def test_unique_takes_nans_for_different(backend):
    x = keraslite.to_backend(np.float32([np.nan, 1.0, np.nan, 1.0]), backend)
    values, counts = ops.unique(x, return_counts=True)
    np.testing.assert_array_equal(ops.convert_to_numpy(values), [1.0, np.nan, np.nan])
    assert ops.convert_to_numpy(counts).tolist() == [2, 1, 1]


def test_unique_of_symbolic_tensors(backend):
    x = keraslite.KerasTensor((None, 4, 3), "int32")
    specs = ops.unique(x, axis=-2, **ALL_OF_IT)
    assert [s.shape for s in specs] == [(None, None, 3), (None,), (4,), (None,)]
    assert ops.unique(x).shape == (None,)
    assert ops.unique(x, return_inverse=True)[1].shape == (None, 4, 3)


def test_unique_is_compiled_by_tensorflow_without_a_size():
    import tensorflow as tf

    run = tf.function(lambda x: ops.unique(x, axis=0, **ALL_OF_IT),
                      [tf.TensorSpec([None, None], "int32")], autograph=False)  # fmt: skip
    for got, want in zip(run(ROWS_OF), np.unique(ROWS_OF, axis=0, **ALL_OF_IT), strict=True):
        np.testing.assert_array_equal(got, want)


# ---- what is refused ----

_BAD = {
    "unique": ((REPEATED,), {"axis": 2}, "axis must be .* got 2"),
    "view": ((CUBE, "float64"), {}, "whole number"),
    "two arrows": ("rearrange", (CUBE, "b h w"), {}, "two sides"),
    "unreadable": ("rearrange", (CUBE, "b h w -> b [h w]"), {}, r"read at '\["),
    "twice": ("rearrange", (CUBE, "b b w -> b w"), {}, "'b' twice"),
    "one side": ("rearrange", (CUBE, "b h w -> b h"), {}, "'w' on one side"),
    "axes": ("rearrange", (CUBE, "b h -> h b"), {}, "has 2 axes"),
    "too few": ("rearrange", (CUBE, "b h w ... c -> b h w c ..."), {}, "has 4 axes"),
    "unknown": ("rearrange", (CUBE, "b (h p) w -> b h p w"), {}, "size of h or p"),
    "not divisible": ("rearrange", (CUBE, "b (h p) w -> b h p w"), {"p": 4}, "size 6, got 4"),
    "not the size": ("rearrange", (CUBE, "b h w -> h b w"), {"h": 5}, "size 6, got 5"),
    "not one": ("rearrange", (CUBE, "b 1 w -> b w"), {}, "size 6, got 1"),
    "no axis": ("rearrange", (CUBE, "b h w -> h b w"), {"z": 5}, "no axis z"),
    "split dots": ("rearrange", (CUBE, "(b ...) w -> b ... w"), {}, "splits"),
}


@pytest.mark.parametrize("what", _BAD)
def test_errors(what, backend):
    name, args, kwargs, said = _BAD[what] if len(_BAD[what]) == 4 else (what, *_BAD[what])
    args = [keraslite.to_backend(x, backend) if isinstance(x, np.ndarray) else x for x in args]
    if backend == "jax" and name == "view":
        args[1], args[0] = "int32", ops.cast(args[0], "float16")  # no 64 bits there
    with pytest.raises(ValueError, match=rf"ops\.{name}\(.*{said}"):
        getattr(ops, name)(*args, **kwargs)


def test_slogdet_and_jvp_stand_where_keras_has_them():
    assert ops.numpy.slogdet is ops.linalg.slogdet is ops.slogdet
    assert ops.linalg.jvp is ops.jvp
    assert ops.nn.ctc_decode is ops.ctc_decode


# ---- ctc_decode ----

LOGITS = (rng.normal(size=(3, 5, 4)) * 2).astype("float32")
LENGTHS = np.array([5, 3, 1], "int32")


@functools.cache
def every_path(blank):
    """The sequences of each row and their log probabilities, the largest first, by enumeration."""
    found = []
    logs = np.asarray(jax.nn.log_softmax(LOGITS.astype("float64")))
    for frames, length in zip(logs, LENGTHS, strict=True):
        totals = {}
        for path in itertools.product(range(4), repeat=int(length)):
            merged = [c for i, c in enumerate(path) if i == 0 or c != path[i - 1]]
            labels = tuple(c for c in merged if c != blank)
            score = sum(frames[t, c] for t, c in enumerate(path))
            totals[labels] = np.logaddexp(totals.get(labels, -np.inf), score)
        found.append(sorted(totals.items(), key=lambda item: -item[1]))
    return found


@pytest.mark.parametrize("blank", [0, 2, -1, None])
def test_beam_search_finds_the_most_probable(blank, backend):
    args = [keraslite.to_backend(x, backend) for x in (LOGITS, LENGTHS)]

    def decode(logits, lengths):
        return ops.ctc_decode(logits, lengths, "beam_search", 400, 6, mask_index=blank)

    want = every_path(3 if blank in (-1, None) else blank)
    for run in (decode, keraslite.jit(decode)):
        labels, scores = map(ops.convert_to_numpy, run(*args))
        assert (labels.shape, labels.dtype, scores.dtype) == ((6, 3, 5), np.int32, np.float32)
        for i, paths in enumerate(want):
            assert len(paths) >= 6 or i == 2
            for j in range(6):
                expected, score = paths[j] if j < len(paths) else ((), -np.inf)
                padded = [*expected, *[-1] * (5 - len(expected))]
                assert labels[j, i].tolist() == padded
                np.testing.assert_allclose(scores[i, j], score, rtol=1e-5)


def test_a_narrow_beam_as_keras_on_tensorflow(backend):
    logits = (np.random.default_rng(1).normal(size=(4, 40, 20)) * 3).astype("float32")
    lengths = np.array([40, 33, 20, 7], "int32")
    options = {"strategy": "beam_search", "beam_width": 12, "top_paths": 3, "mask_index": 5}
    assert oracle.backend.backend() == "tensorflow"
    want = oracle.ops.ctc_decode(logits, lengths, **options)
    logits, lengths = (keraslite.to_backend(x, backend) for x in (logits, lengths))
    got = ops.ctc_decode(logits, lengths, **options)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(a), b.numpy(), rtol=1e-5)


@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize("blank", [0, 3])
def test_greedy_as_keras(merge, blank, backend):
    logits = np.repeat(LOGITS, 3, 1)
    lengths = LENGTHS * 3 - 1
    args = [keraslite.to_backend(x, backend) for x in (logits, lengths)]

    def decode(logits, lengths):
        return ops.ctc_decode(logits, lengths, merge_repeated=merge, mask_index=blank)

    want = oracle.ops.ctc_decode(logits, lengths, merge_repeated=merge, mask_index=blank)
    for run in (decode, keraslite.jit(decode)):
        got = run(*args)
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(ops.convert_to_numpy(a), b.numpy(), rtol=1e-5)
        assert ops.dtype(got[0]) == "int32"


def test_ctc_decode_symbolic_and_in_a_graph(backend):
    logits = keraslite.KerasTensor((None, 5, 4), "float16")
    lengths = keraslite.KerasTensor((None,), "int64")
    labels, scores = ops.ctc_decode(logits, lengths)
    assert (labels.shape, scores.shape) == ((1, None, 5), (None, 1))
    assert (labels.dtype, scores.dtype) == ("int32", "float32")
    labels, scores = ops.ctc_decode(logits, lengths, "beam_search", 7, 2)
    assert (labels.shape, scores.shape, scores.dtype) == ((2, None, 5), (None, 2), "float32")
    if backend == "tensorflow":
        import tensorflow as tf

        specs = [tf.TensorSpec([None, None, 4]), tf.TensorSpec([None], "int32")]
        for strategy in ("greedy", "beam_search"):
            run = lambda x, n, s=strategy: ops.ctc_decode(x, n, s, 9)  # noqa: E731
            compiled = tf.function(run, specs, autograph=False)
            for a, b in zip(compiled(LOGITS, LENGTHS), run(LOGITS, LENGTHS), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-5)


def test_ctc_decode_names_what_is_wrong(backend):
    args = [keraslite.to_backend(x, backend) for x in (LOGITS, LENGTHS)]
    with pytest.raises(ValueError, match=r"ops\.ctc_decode\(.*'best'"):
        ops.ctc_decode(*args, strategy="best")
    with pytest.raises(ValueError, match=r"ops\.ctc_decode\(.*top_paths=3"):
        ops.ctc_decode(*args, strategy="beam_search", beam_width=2, top_paths=3)


# ---- torch.compile ----


def _layers(x):
    """Inputs, a state, weights and a mask, made of one vector."""
    w = ops.reshape(ops.tile(x, 3), (5, 12))
    return ops.reshape(x, (2, 5, 2)), ops.reshape(x[:6], (2, 3)), w, ops.reshape(x[:10], (2, 5)) > 0


def _lstm(x):
    x, h, w, _ = _layers(x)
    return ops.lstm(x, h, h, w[:2], w[2:])


def _gru(x):
    x, h, w, mask = _layers(x)
    return ops.gru(x, h, w[:2, :9], w[2:, :9], mask=mask)


def _decode(x, *options):
    return ops.ctc_decode(ops.reshape(x[:18], (2, 3, 3)), ops.cast(x[-2:] * 3, "int32"), *options)


COMPILED = {
    "stft": lambda x: ops.stft(x, 4, 2, 4),
    "istft": lambda x: ops.istft(ops.stft(x, 4, 2, 4, center=False), 4, 2, 4, center=False),
    "fft": lambda x: ops.fft((x, x)),
    "rearrange": lambda x: ops.rearrange(x, "(a b c) ... -> b ... (c a)", a=2, c=5),
    "unique": lambda x: ops.unique(ops.cast(x * 3, "int32"), size=3, return_counts=True),
    "unique of rows": lambda x: ops.unique(
        ops.reshape(ops.cast(x * 3, "int32"), (10, 2)), size=3, axis=0
    ),
    "view": lambda x: ops.view(x, "int32"),
    "view_as_complex": lambda x: ops.view_as_real(ops.view_as_complex(ops.reshape(x, (10, 2)))),
    "greedy": _decode,
    "beam search": lambda x: _decode(x, "beam_search", 5),
    "lstm": _lstm,
    "gru": _gru,
    "checkpoint": keraslite.checkpoint(lambda x: ops.sin(x) * 2.0),
    "associative_scan": lambda x: ops.associative_scan(lambda a, b: a * b, x),
}


@pytest.mark.parametrize("name", COMPILED)
def test_compiles_on_torch_without_graph_breaks(name):
    torch = pytest.importorskip("torch")
    x = torch.linspace(-1, 1, 20)
    with keraslite.use_backend("torch"):
        run = COMPILED[name]
        compiled = torch.compile(run, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(x), run(x), equal_nan=True)


@pytest.mark.parametrize("start", [[0, 1, 2], [1, 0, 0], [9, 9, 9]])
def test_overwrite_gives_what_slice_update_gives(backend, start):
    x = np.arange(24, dtype="float32").reshape(2, 3, 4)
    new = np.full((1, 2, 2), -1.0, "float64")
    expected = ops.convert_to_numpy(ops.slice_update(keraslite.to_backend(x, backend), start, new))
    given = keraslite.to_backend(x.copy(), backend)
    out = ops.overwrite(given, start, keraslite.to_backend(new, backend))
    assert ops.dtype(out) == "float32"
    np.testing.assert_array_equal(ops.convert_to_numpy(out), expected)
    if backend in ("torch", "numpy"):
        assert out is given
