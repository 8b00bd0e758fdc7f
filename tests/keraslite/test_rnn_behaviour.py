"""Recurrent layers: dropout, users' cells, graphs, precision, copies, and what is refused."""

import copy
import pickle

import keras as oracle
import numpy as np
import pytest
from layer_cases import assert_outputs_close
from rnn_cases import BATCH, MASK, STEPS, X, cells

import keraslite
from keraslite import layers, masking, ops, tree

ONES = np.ones((BATCH, STEPS, 3), "float32")


def run(function, layer):
    """The outputs of a function, compiled on JAX."""
    if keraslite.backend() == "jax":
        function = ops.jit(function, variables=layer.variables)
    return tree.map_structure(ops.convert_to_numpy, function())


def test_dropout_of_inputs_is_the_same_in_all_steps(backend):
    layer = layers.SimpleRNN(
        3, "linear", kernel_initializer="identity", recurrent_initializer="zeros", dropout=0.5,
        return_sequences=True, seed=1,
    )  # fmt: skip
    np.testing.assert_array_equal(run(lambda: layer(ONES), layer), ONES)
    first, second = (run(lambda: layer(ONES, training=True), layer) for _ in range(2))
    assert set(np.unique(first)) == set(np.unique(second)) == {0.0, 2.0}
    np.testing.assert_array_equal(first, np.repeat(first[:, :1], STEPS, 1))
    assert (first != second).any()


def test_dropout_of_the_state_is_the_same_in_all_steps(backend):
    layer = layers.SimpleRNN(
        8, "linear", kernel_initializer="zeros", recurrent_initializer="identity",
        recurrent_dropout=0.5, return_sequences=True, seed=1,
    )  # fmt: skip
    state = np.ones((BATCH, 8), "float32")
    layer.build(X.shape)
    out = run(lambda: layer(X, initial_state=[state], training=True), layer)
    kept = out[:, 0] > 0
    assert 0 < kept.mean() < 1
    np.testing.assert_array_equal(out, np.stack([2.0**t * kept for t in (1, 2, 3, 4)], 1))


@pytest.mark.parametrize(("name", "options"), [
    ("LSTM", {"dropout": 0.4}), ("LSTM", {"dropout": 0.4, "implementation": 1}),
    ("GRU", {"dropout": 0.4, "recurrent_dropout": 0.4, "reset_after": False}),
    ("ConvLSTM1D", {"dropout": 0.4, "recurrent_dropout": 0.4}),
], ids=["one mask", "a mask for each gate", "of both", "of both in convolutions"])  # fmt: skip
def test_dropout_draws_the_same_on_all_backends(name, options, backend):
    x = X[:, :, None] if name == "ConvLSTM1D" else X
    sizes = (8, 1) if name == "ConvLSTM1D" else (8,)
    with keraslite.use_backend("numpy"):
        reference = getattr(layers, name)(*sizes, **options, seed=3)
        wanted = [reference(x, training=True) for _ in range(2)]
    assert np.abs(wanted[0] - wanted[1]).max() > 1e-3
    layer = getattr(layers, name)(*sizes, **options, seed=3)
    layer.build(x.shape)
    layer.set_weights(reference.get_weights())
    for values in wanted:
        assert_outputs_close(run(lambda: layer(x, training=True), layer), values)


def test_each_gate_has_a_mask_of_its_own(backend):
    cell = layers.LSTMCell(1, dropout=0.5, implementation=1, seed=0)
    masks = cell.get_dropout_mask(ops.ones((1, 64)))
    assert len(masks) == 4 and len({ops.convert_to_numpy(m).tobytes() for m in masks}) == 4
    again = cell.get_dropout_mask(ops.ones((1, 64)))
    assert all(a is b for a, b in zip(masks, again, strict=True))
    cell.reset_dropout_mask()
    assert cell.get_dropout_mask(ops.ones((1, 64)))[0] is not masks[0]
    assert cell.get_recurrent_dropout_mask(ops.ones((1, 1))) is None
    single = layers.GRUCell(1, dropout=0.5).get_dropout_mask(ops.ones((1, 64)))
    assert set(np.unique(ops.convert_to_numpy(single))) == {0.0, 2.0}


def test_cells_in_a_stack_draw_their_masks_outside_the_loop(backend):
    def make():
        inner = [layers.GRUCell(4, dropout=0.5, seed=1),
                 layers.LSTMCell(4, dropout=0.5, recurrent_dropout=0.5, seed=2)]  # fmt: skip
        layer = layers.RNN(inner, return_state=True)
        layer.build(X.shape)
        return layer

    with keraslite.use_backend("numpy"):
        reference = make()
        wanted = reference(X, training=True)
    layer = make()
    layer.set_weights(reference.get_weights())
    assert_outputs_close(run(lambda: layer(X, training=True), layer), wanted)


class NoisyCell(layers.Layer):
    """A cell with a layer inside that draws anew in each step."""

    state_size = 6

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.noise = layers.Dropout(0.5, seed=5)

    def call(self, inputs, states):
        return states[0] + self.noise(inputs), [states[0] + self.noise(inputs)]


def test_a_users_cell_draws_in_each_step(backend):
    ones = np.ones((BATCH, STEPS, 6), "float32")
    with keraslite.use_backend("numpy"):
        layer = layers.RNN(NoisyCell(), return_sequences=True)
        wanted = [layer(ones, training=True) for _ in range(2)]
        steps = np.diff(wanted[0], axis=1)
        assert (steps != steps[:, :1]).any()
    layer = layers.RNN(NoisyCell(), return_sequences=True)
    for values in wanted:
        np.testing.assert_allclose(run(lambda: layer(ones, training=True), layer), values)


def test_cells_run_by_themselves(backend):
    h = np.zeros((BATCH, 2), "float32")
    for cell, layer, states in (
        (layers.LSTMCell(2), layers.LSTM(2), [h, h]),
        (layers.GRUCell(2), layers.GRU(2), [h]),
        (layers.SimpleRNNCell(2), layers.SimpleRNN(2), h),
    ):
        layer.build(X.shape)
        cell.build(X[:, 0].shape)
        cell.set_weights(layer.get_weights())
        for t in range(STEPS):
            out, states = cell(X[:, t], states)
        assert isinstance(states, list) == (not isinstance(layer, layers.SimpleRNN))
        assert_outputs_close(out, layer(X))


def test_masks_go_on(backend):
    x = ops.convert_to_tensor(X.copy())  # the mask is of this tensor alone
    masking.set_mask(x, ops.convert_to_tensor(MASK))

    def masked(layer):
        return [masking.get_mask(y) is not None for y in tree.flatten(layer(x))]

    sequences = {"return_sequences": True}
    assert masked(layers.GRU(2)) == [False]
    assert masked(layers.LSTM(2, return_state=True, **sequences)) == [True, False, False]
    assert masked(layers.Bidirectional(layers.GRU(2, **sequences))) == [True]
    pair = layers.Bidirectional(layers.GRU(2, return_state=True, **sequences), merge_mode=None)
    assert masked(pair) == [True, True, False, False]
    assert masked(layers.TimeDistributed(layers.Dense(2))) == [True]


def test_mixed_precision(backend):
    exact = layers.LSTM(3, return_state=True)
    wanted = exact(X)
    for cls in (layers.LSTM, layers.Bidirectional):
        layer = layers.LSTM(3, return_state=True, dtype="mixed_bfloat16", unroll=True)
        layer = layers.Bidirectional(layer, dtype="mixed_bfloat16") if cls != layers.LSTM else layer
        layer.build(X.shape)
        layer.set_weights(exact.get_weights() * (1 if cls == layers.LSTM else 2))
        outputs = layer(X)
        assert {ops.dtype(y) for y in outputs} == {"bfloat16"}
        assert_outputs_close(ops.cast(outputs[0], "float32")[:, :3], wanted[0], 0.05, 0.02)
    assert {v.dtype for v in layer.weights} == {"float32"}


# -- frameworks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["LSTM", "RNN", "TimeDistributed", "ConvLSTM1D"])
def test_a_graph_of_tensorflow_need_not_know_the_sizes(name):
    tf = pytest.importorskip("tensorflow")
    make = {
        "LSTM": lambda: layers.Bidirectional(layers.LSTM(2, dropout=0.1)),
        "RNN": lambda: layers.RNN(cells(keraslite)["NestedCell"](), return_state=True),
        "TimeDistributed": lambda: layers.TimeDistributed(layers.BatchNormalization()),
        "ConvLSTM1D": lambda: layers.ConvLSTM1D(2, 2),
    }[name]
    x = X[..., None] if name == "ConvLSTM1D" else X
    with keraslite.use_backend("tensorflow"):
        layer = make()
        layer.build(x.shape)
        spec = tf.TensorSpec([None, None, *x.shape[2:]], "float32")
        graph = tf.function(lambda x: layer(x, training=False), [spec], autograph=False)
        assert_outputs_close(graph(x), layer(x))


def test_xla_of_tensorflow_has_gradients():
    tf = pytest.importorskip("tensorflow")
    with keraslite.use_backend("tensorflow"):
        layer = layers.RNN([layers.LSTMCell(2)])
        layer.build(X.shape)

        def gradients(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = tf.reduce_sum(layer(x))
            return tape.gradient(y, x)

        compiled = tf.function(gradients, jit_compile=True, autograph=False)
        assert_outputs_close(compiled(tf.constant(X)), gradients(tf.constant(X)))
        unrolled = layers.RNN([layers.LSTMCell(2)], unroll=True)
        graph = tf.function(unrolled, autograph=False).get_concrete_function(tf.constant(X))
        assert not any("While" in o.type for o in graph.graph.get_operations())


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_torch_runs_its_fused_kernel(name, monkeypatch):
    torch = pytest.importorskip("torch")
    calls, real = [], getattr(torch, name)
    monkeypatch.setattr(torch, name, lambda *a: calls.append(1) or real(*a))
    cls = getattr(layers, name.upper())
    with keraslite.use_backend("torch"):
        x, mask = torch.from_numpy(X), torch.ones(BATCH, STEPS, dtype=torch.bool)
        layer = layers.Bidirectional(cls(3))
        layer(x)
        assert calls == [1, 1]
        layer(x, mask=mask)
        alone = cls(3, recurrent_dropout=0.5)
        alone(x, training=True)
        cls(3, use_cudnn=False)(x)
        cls(3, "relu")(x)
        assert calls == [1, 1]
        alone(x)
        layers.RNN(getattr(layers, f"{name.upper()}Cell")(3))(x)
        cls(3, dropout=0.5)(x, training=True)
        assert calls == [1] * 5
        monkeypatch.undo()
        if name == "lstm":
            compiled = torch.compile(alone, fullgraph=True, backend="eager")
            torch.testing.assert_close(compiled(x), alone(x))


# -- copies and configs ---------------------------------------------------------------------------


def test_copies_and_moves_keep_the_numbers(backend, tmp_path):
    layer = layers.Bidirectional(layers.LSTM(2, return_sequences=True, stateful=True))
    model = keraslite.Sequential([keraslite.Input(batch_shape=X.shape), layer])
    wanted = ops.convert_to_numpy(model(X))
    model.save(tmp_path / "model.keras")
    layer.reset_state()
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert_outputs_close(other(X), wanted)
    again = keraslite.models.load_model(tmp_path / "model.keras")
    assert_outputs_close(again(X), wanted)
    assert_outputs_close(layer.to_backend("numpy")(X), wanted)


def test_a_wrapper_copies_users_cells_that_nobody_registered(backend):
    layer = layers.RNN(cells(keraslite)["NestedCell"](), return_sequences=True)
    layer.build(X.shape)
    both = layers.Bidirectional(layer, merge_mode="sum")
    kernels = np.ones((2, 3, 5), "float32") * [[[1.0]], [[2.0]]]
    both = layers.Bidirectional(layer, merge_mode=None, weights=list(kernels))
    forward, backward = both(X)
    assert type(both.backward_layer.cell).__name__ == "NestedCell"
    assert both.forward_layer.name == f"forward_{layer.name}"
    layer.set_weights([kernels[0]])
    assert_outputs_close(forward, layer(X))
    layer.set_weights([kernels[1]])
    assert_outputs_close(ops.flip(backward, 1), layer(ops.flip(ops.convert_to_tensor(X), 1)))


def test_weights_begin_as_keras_says(backend):
    for name in ("LSTM", "GRU"):
        ours, theirs = (getattr(lib.layers, name)(3) for lib in (keraslite, oracle))
        for layer in (ours, theirs):
            layer.build(X.shape)
        np.testing.assert_array_equal(ours.get_weights()[2], theirs.get_weights()[2])
        recurrent = ours.get_weights()[1]
        np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(3), atol=1e-5)
    plain = layers.ConvLSTM1D(2, 2, unit_forget_bias=False, bias_initializer="ones")
    plain.build((None, None, 5, 1))
    np.testing.assert_array_equal(plain.get_weights()[2], np.ones(8))


@pytest.mark.parametrize(("make", "message"), [
    (lambda: layers.LSTM(0), "`units`.*units=0"),
    (lambda: layers.LSTM(2, use_cudnn="yes"), "`use_cudnn` must be one of"),
    (lambda: layers.LSTM(2, "relu", use_cudnn=True)(X), "use_cudnn=True, but"),
    (lambda: layers.RNN(layers.Dense(2)), "has no `state_size`"),
    (lambda: layers.StackedRNNCells([3]), "has no `call`"),
    (lambda: layers.GRU(2, unroll=True)(keraslite.Input((None, 3))), "cannot be unrolled"),
    (lambda: layers.GRU(2, stateful=True)(keraslite.Input((4, 3))), "must know the batch size"),
    (lambda: layers.GRU(2)(X[0]), "rank 3"),
    (lambda: layers.Bidirectional(3), "`layer` must be a layer"),
    (lambda: layers.Bidirectional(layers.GRU(2), merge_mode="max"), "`merge_mode` must be one of"),
    (lambda: layers.Bidirectional(layers.GRU(2), backward_layer=layers.GRU(2)),
     "must differ in `go_backwards`"),
    (lambda: layers.Bidirectional(
        layers.GRU(2), backward_layer=layers.GRU(2, go_backwards=True, return_state=True)
    ), "the same `return_state`, got False and True"),
    (lambda: layers.TimeDistributed(layers.Dense(2))(X[0]), "rank 3 or more"),
    (lambda: layers.TimeDistributed(layers.Dense(2))(X, mask=MASK.T), "the batch and the steps"),
    (lambda: layers.ConvLSTM2D(2, 2, padding="causal"), '`padding` must be "valid" or "same"'),
    (lambda: layers.ConvLSTM2D(2, 2, strides=2, dilation_rate=2), "`strides` above 1"),
    (lambda: layers.ConvLSTM1D(2, 2)(keraslite.Input((3, None, 2))), "spatial sizes"),
])  # fmt: skip
def test_mistakes_are_told(make, message):
    with keraslite.use_backend("torch"), pytest.raises(ValueError, match=message):
        make()
