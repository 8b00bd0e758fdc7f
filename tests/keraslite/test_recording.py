"""`jit(compile="record")`: what is replayed gives what Python gave."""

import numpy as np
import pytest
import torch

import keraslite as keras
from keraslite import layers, ops


def counted(fn):
    """`fn`, and a list that grows by one each time that Python runs it."""
    calls = []

    def call(*args):
        calls.append(1)
        return fn(*args)

    return call, calls


def test_a_step_with_a_cache_gives_the_same_on_every_backend(backend):
    dense, norm = layers.Dense(12), layers.LayerNormalization()
    for layer in (dense, norm):
        layer.build((None, 4))

    def step(state, scale):
        first, second, third = ops.split(dense(norm(state["x"])), 3, axis=-1)
        cache = ops.overwrite(state["cache"], (0, state["index"], 0), ops.stack([first], axis=1))
        best, places = ops.top_k(cache[:, :, 0], 2)
        x = ops.tanh(second + third * scale) + ops.sum(cache, axis=1) + best[:, :1]
        return {"x": x, "cache": cache, "index": state["index"] + 1, "places": places}

    fast = keras.jit(step, variables=[*dense.variables, *norm.variables], compile="record")
    rng = np.random.default_rng(0)
    start = rng.normal(size=(3, 4)).astype("float32")

    def begun():
        return {
            "x": ops.convert_to_tensor(start), "cache": ops.zeros((3, 6, 4)),
            "index": ops.convert_to_tensor(0, "int32"), "places": ops.zeros((3, 2), "int32"),
        }  # fmt: skip

    with keras.no_grad():
        state, expected = begun(), begun()
        for i in range(6):
            if i == 4:  # weights that were changed in place are those of the replay
                dense.kernel.assign(dense.kernel * 2.0)
            scale = ops.convert_to_tensor(np.float32(i))
            state, expected = fast(state, scale), step(expected, scale)
            for name, value in expected.items():
                np.testing.assert_allclose(
                    ops.convert_to_numpy(state[name]), ops.convert_to_numpy(value), 1e-5, 1e-6
                )


def test_packed_weights_follow_those_that_are_trained(monkeypatch):
    """A product of few rows has a packed copy of its weights until they are written to."""
    from keraslite.backend.torch.fast import packing, products

    monkeypatch.setitem(products.PRODUCTS, torch.float32, products.ONEDNN)
    with keras.use_backend("torch"), keras.no_grad():
        dense = layers.Dense(640)
        dense.build((None, 512))
        calls = []

        def step(x):
            calls.append(1)
            return ops.tanh(dense(x))

        fast = keras.jit(step, variables=dense.variables, compile="record")
        x = ops.convert_to_tensor(np.random.default_rng(0).normal(size=(4, 512)), "float32")
        for i in range(12):
            if i == 6:
                dense.kernel.assign(dense.kernel * 2.0)
            np.testing.assert_allclose(fast(x), step(x), rtol=1e-4, atol=1e-4)
        # Each second call is the expected one; the others ran until a recording held, twice.
        assert len(calls) == 12 + 3 + 3
        root = dense.kernel.value
        assert sorted(key[1] for key in packing._packs[root]) == [(640, 512)]
        packing._packs.clear()
        monkeypatch.setattr(packing, "_MAX_BYTES", 10)  # bytes: this layer has more
        plain = keras.jit(step, variables=dense.variables, compile="record")
        for _ in range(5):
            np.testing.assert_allclose(plain(x), step(x), rtol=1e-6, atol=1e-6)
        assert root not in packing._packs


@pytest.fixture
def on_torch():
    with keras.use_backend("torch"), torch.no_grad():
        yield


def replayed(fn, *args, times=5):
    """The results of several calls, and how many of them Python ran."""
    call, calls = counted(fn)
    fast = keras.jit(call, compile="record")
    return [fast(*args) for _ in range(times)], len(calls)


def test_python_is_left_out_from_the_fourth_call_on(on_torch):
    x = torch.arange(6.0).reshape(2, 3)
    outs, ran = replayed(lambda x: ops.exp(x) @ ops.transpose(x), x)
    assert ran == 3
    assert all(torch.equal(out, outs[0]) for out in outs)


CASES = {
    "the input itself": lambda x: (x, x + 1),
    "twice the same": lambda x: (y := x * 2, y),
    "a view written to": lambda x: (y := x.clone(), y[0].add_(1))[0],
    "a constant": lambda x: (torch.tensor([1.0, 2.0]), x * torch.tensor(3.0)),
    "numbers written to": lambda x: torch.tensor([1.0, 2.0, 3.0]).add_(x[0]),
    "several": lambda x: torch.topk(x, 2),
    "a list": lambda x: x.split(1),
    "one of several": lambda x: torch.var_mean(x, dim=1)[1],
    "what is not used": lambda x: (x.exp(), x + 1)[1],
    "infinite": lambda x: x.masked_fill(x > 2, float("-inf")),
    "dtypes": lambda x: x.to(torch.float16).to(torch.int32),
    "nothing done": lambda x: x.contiguous().to(torch.float32),
    "views back and forth": lambda x: x.t().t().reshape(6).reshape(2, 3).expand(2, 3) * 2,
    "the same twice": lambda x: (x * 2 + 1) @ (x * 2 + 1).t(),
    "the same twice, one written to": lambda x: (x * 2, (x * 2).add_(1)),
    "before and after a write": lambda x: (y := x.clone()).sum() + y.add_(1).sum(),
    "a view around a write": lambda x: (y := x.clone(), y[0].sum(), y.add_(1), y[0].sum()),
    "constants": lambda x: x * torch.arange(3) + torch.zeros(()) - torch.full((3,), 2.0),
}


@pytest.mark.parametrize("name", CASES)
def test_operations(on_torch, name):
    outs, ran = replayed(CASES[name], torch.arange(6.0).reshape(2, 3))
    assert ran == 3
    for out in outs:
        for found, expected in zip(keras.tree.flatten(out), keras.tree.flatten(outs[0])):
            assert torch.equal(found, expected)
            assert found.dtype == expected.dtype


def operations(fn, *args):
    """The names of the operations that a replay of a function runs."""
    from keraslite.backend.torch.fast.recording import _Recorder
    from keraslite.backend.torch.fast.simplify import simplified

    with _Recorder() as recorder:
        result = fn(*args)
    steps, *_ = simplified(recorder.steps, list(args), [result])
    return [func._schema.name.removeprefix("aten::") for func, *_ in steps]


def test_what_need_not_run_again_does_not(on_torch):
    weight, x = torch.ones(4, 3), torch.ones(2, 3)
    assert operations(lambda x: x @ weight.t() + torch.arange(4) * 2, x) == ["mm", "add"]
    assert operations(lambda x: (x * 2).exp() + (x * 2).exp(), x) == ["mul", "exp", "add"]
    assert operations(lambda x: x.t().t().detach() + 1, x)[-1:] == ["add"]
    assert operations(lambda x: x.view(6).view(3, 2).view(2, 3) * 2, x).count("mul") == 1


def test_a_constant_that_is_returned_is_new_each_time(on_torch):
    fast = keras.jit(lambda x: (x + 1, torch.zeros(2)), compile="record")
    for _ in range(6):
        out = fast(torch.ones(2))[1]
        assert torch.equal(out, torch.zeros(2))
        out.add_(1)


def test_inputs_that_were_one_tensor_may_be_two(on_torch):
    fast = keras.jit(lambda x, y: x.view(4) * 2 + y.view(4), compile="record")
    x, y = torch.ones(2, 2), torch.full((2, 2), 5.0)
    for other in (x, x, x, x, y, x.clone(), x.view(2, 2)):
        assert torch.equal(fast(x, other), x.view(4) * 2 + other.view(4))


def test_weights_may_change_in_their_place_or_move(on_torch):
    weight = torch.nn.Parameter(torch.ones(3, 2), requires_grad=False)
    fast = keras.jit(lambda x: x @ weight.t(), compile="record")
    x = torch.ones(1, 2)
    for i in range(12):
        if i == 5:
            weight.mul_(3)
        if i == 8:
            weight.data = torch.full((3, 2), 7.0)
        assert torch.equal(fast(x), x @ weight.t())


def test_what_looks_at_values_is_never_replayed(on_torch):
    fast = keras.jit(lambda x: x + 1 if bool(x.sum() > 0) else x - 1, compile="record")
    for i in range(8):
        x = torch.full((2,), (-1.0) ** i)
        assert torch.equal(fast(x), x + 1 if i % 2 == 0 else x - 1)


def test_a_kind_of_call_is_its_shapes_types_layout_and_numbers(on_torch):
    call, calls = counted(lambda x, n: (x.reshape(-1) * n,))
    fast = keras.jit(call, compile="record")
    matrix = torch.arange(6.0).reshape(2, 3)
    kinds = [(matrix, 2), (matrix, 3), (matrix.t(), 2), (matrix.double(), 2), (matrix[:1], 2)]
    for _ in range(5):
        for x, n in kinds:
            assert torch.equal(fast(x, n)[0], x.reshape(-1) * n)
    assert len(calls) == 3 * len(kinds)


def test_with_gradients_it_runs_as_it_is():
    call, calls = counted(lambda x: x * x)
    with keras.use_backend("torch"):
        fast = keras.jit(call, compile="record")
        for _ in range(5):
            x = torch.tensor(3.0, requires_grad=True)
            fast(x).backward()
            assert float(x.grad) == 6.0
    assert len(calls) == 5


def test_numbers_of_python_that_are_written_to_are_made_anew(on_torch):
    def total(x):
        return torch.from_numpy(np.zeros(2, "float32")).add_(x)

    call, calls = counted(total)
    fast = keras.jit(call, compile="record")
    for i in range(6):
        assert torch.equal(fast(torch.full((2,), float(i))), torch.full((2,), float(i)))
    assert len(calls) == 3


def test_weights_that_are_written_to_are_replayed(on_torch):
    count = torch.nn.Parameter(torch.zeros(2), requires_grad=False)
    call, calls = counted(lambda x: count.add_(x) * 1)
    fast = keras.jit(call, compile="record")
    for i in range(6):
        assert torch.equal(fast(torch.ones(2)), torch.full((2,), float(i + 1)))
    assert len(calls) == 3


@pytest.mark.parametrize("read", [lambda x: x.tolist(), lambda x: x.numpy().copy(), float])
def test_values_read_by_other_ways(on_torch, read):
    fast = keras.jit(lambda x: x * torch.tensor(read(x.sum())), compile="record")
    for i in range(6):
        x = torch.full((2,), float(i))
        assert torch.equal(fast(x), x * 2 * i)


def test_draws_are_replayed(on_torch):
    def draw(seed):
        return keras.random.uniform((3,), seed=seed)

    fast, ran = counted(draw)
    jitted = keras.jit(fast, compile="record")
    for i in range(6):
        seed = torch.tensor([7, i], dtype=torch.int32)
        assert torch.equal(jitted(seed), draw(seed))
    assert len(ran) == 3


@pytest.fixture
def folding_model():
    """Convolutions with normalizations behind them, on torch, whose `predict` is replayed."""
    keras.utils.set_random_seed(0)
    with keras.use_backend("torch"):
        x = inputs = keras.Input((8, 8, 3))
        for _ in range(2):
            x = layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same")(x))
            x = layers.ReLU()(x)
        model = keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))
        model.compile("sgd", "mse")
        model.replays_predict = True
        yield model


def test_predict_is_replayed_with_folded_normalizations(folding_model, monkeypatch):
    from keraslite.backend.torch.fast import recording

    replays = []
    written = recording._written

    def kept(steps, inputs, results):
        names = [func._schema.name for func, *_ in steps]
        replay = written(steps, inputs, results)
        return lambda *tensors: replays.append(names) or replay(*tensors)

    monkeypatch.setattr(recording, "_written", kept)
    model, rng = folding_model, np.random.default_rng(0)
    x = rng.normal(size=(2, 8, 8, 3)).astype("float32")

    def expected():
        return ops.convert_to_numpy(model(x, training=False))

    for _ in range(5):
        np.testing.assert_allclose(model.predict_on_batch(x), expected(), 1e-5, 1e-5)
    assert len(replays) == 2
    assert replays[0].count("mkldnn::_convolution_pointwise") == 2
    assert not any("batch_norm" in name for name in replays[0])
    # What was folded belongs to the old weights: they are folded anew, and recorded again.
    model.train_on_batch(x, rng.normal(size=(2, 4)).astype("float32"))
    for _ in range(5):
        np.testing.assert_allclose(model.predict_on_batch(x), expected(), 1e-5, 1e-5)
    assert len(replays) == 4
    model.layers[1].kernel.assign(2 * model.layers[1].kernel)
    np.testing.assert_allclose(model.predict_on_batch(x), expected(), 1e-5, 1e-5)


def test_predict_of_other_models_runs_their_python(folding_model):
    """A model of the user's own may do in Python what it likes."""
    calls = []

    class Counting(layers.Layer):
        def call(self, x):
            calls.append(1)
            return x

    with keras.use_backend("torch"):
        x = keras.Input((3,))
        model = keras.Model(x, Counting()(x))
        calls.clear()
        for _ in range(5):
            model.predict_on_batch(np.ones((2, 3), "float32"))
    assert len(calls) == 5


@pytest.mark.parametrize("activation", ["relu", lambda x: ops.relu(x)])
def test_predict_of_built_in_layers_is_replayed(activation, monkeypatch):
    """The Python of a function of the user's may have effects: it runs at each batch."""
    from keraslite.backend.torch.fast import recording

    written, replays = recording._written, []

    def kept(*args):
        replay = written(*args)
        return lambda *tensors: replays.append(1) or replay(*tensors)

    monkeypatch.setattr(recording, "_written", kept)
    with keras.use_backend("torch"):
        stack = [layers.Input((3,)), layers.Dense(4, activation), layers.Dropout(0.5)]
        model = keras.Sequential([*stack, layers.Dense(2)])
        x = np.ones((2, 3), "float32")
        for _ in range(2):
            for _ in range(5):
                expected = ops.convert_to_numpy(model(x, training=False))
                np.testing.assert_allclose(model.predict_on_batch(x), expected, 1e-6, 1e-6)
            model.set_weights([2 * w for w in model.get_weights()])
    assert len(replays) == (0 if callable(activation) else 7)


def test_the_last_recordings_are_kept(monkeypatch):
    from keraslite.backend.torch.fast import recording

    monkeypatch.setattr(recording, "_MOST", 2)
    fn, calls = counted(lambda x: 2 * x)
    fast = recording.recorded(fn)
    runs = []
    with torch.no_grad():
        for size in (1, 2, 3, 3, 2, 1):
            calls.clear()
            for _ in range(4):
                np.testing.assert_array_equal(fast(torch.ones(size)).numpy(), [2.0] * size)
            runs.append(len(calls))
    assert runs == [3, 3, 3, 0, 0, 3]  # the third took the place of the first


def test_products_of_one_row_are_one(on_torch, monkeypatch):
    """A query, a key and a value are one product, and GELU a part of the product before it."""
    from keraslite.backend.torch.fast import recording

    written, names = recording._written, []

    def kept(steps, inputs, results):
        names.append([func._schema.name for func, *_ in steps])
        return written(steps, inputs, results)

    monkeypatch.setattr(recording, "_written", kept)
    product = torch.ops.mkldnn._linear_pointwise
    weights = [torch.nn.Parameter(torch.randn(n, 64), requires_grad=False) for n in (64, 64, 32)]
    bias = torch.nn.Parameter(torch.randn(64), requires_grad=False)

    def step(x):
        query, key, value = (
            product(x, w, b, "none", [], "") for w, b in zip(weights, (bias, None, None))
        )
        return query + key, torch.nn.functional.gelu(value, approximate="tanh"), key

    fast = keras.jit(step, compile="record")
    with torch.no_grad():
        for i in range(8):
            if i == 5:
                weights[1].mul_(2)
                bias.add_(1)
            x = torch.randn(1, 1, 64)
            for got, expected in zip(fast(x), step(x), strict=True):
                torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
        assert [n.count("mkldnn::_linear_pointwise") for n in names] == [2, 2]
        assert not any("aten::gelu" in n for n in names)
        many = torch.randn(3, 64)  # rows: they share no call, but weights are packed
        for _ in range(5):
            for got, expected in zip(fast(many), step(many), strict=True):
                torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
        assert names[-1].count("mkldnn::_linear_pointwise") == 3
