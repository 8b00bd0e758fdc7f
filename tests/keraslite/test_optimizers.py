"""Optimizers and schedules against the installed Keras, over several steps."""

import copy
import inspect
import json
from functools import partial

import compare
import keras
import numpy as np
import pytest

from keraslite import backend as backends
from keraslite import constraints, grad, jit, ops, optimizers, use_backend
from keraslite.optimizers import schedules
from keraslite.variable import Variable

STEPS = 6
SHAPES = {"kernel": (4, 3), "bias": (3,), "scale": (), "deep": (2, 3, 4)}
RNG = np.random.default_rng(0)
FIRST = {k: RNG.normal(size=s).astype(np.float32) for k, s in SHAPES.items()}
GRADS = [
    {k: (RNG.normal(size=s) * 3).astype(np.float32) for k, s in SHAPES.items()}
    for _ in range(STEPS)
]
RATE = {"learning_rate": 0.05}

ROWS = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True, "epsilon": 1e-2}),
    ("Adam", {"beta_1": 0.0}),
    ("AdamW", {}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.5, "centered": True, "epsilon": 1e-3}),
    ("Adafactor", {}),
    ("Adafactor", {"relative_step": False, "clip_threshold": 0.5}),
    ("Adagrad", {}),
    ("Adadelta", {"learning_rate": 1.0}),
    ("Adamax", {}),
    ("Nadam", {}),
    ("Lamb", {}),
    ("Lion", {}),
    ("Muon", {}),
    ("Muon", {"nesterov": False, "rms_rate": None, "adam_lr_ratio": 0.5, "ns_steps": 3,
              "adam_weight_decay": 0.2, "weight_decay": None}),
    ("Ftrl", {"l1_regularization_strength": 0.01, "l2_regularization_strength": 0.01,
              "l2_shrinkage_regularization_strength": 0.02, "beta": 0.1}),
]  # fmt: skip
# What is around the formula; each with a fused formula and with one that is not.
AROUND = [
    (name, arguments)
    for name in ("SGD", "Adam", "Lamb")
    for arguments in (
        {"weight_decay": 0.1},
        {"clipnorm": 0.7},
        {"clipvalue": 0.5},
        {"global_clipnorm": 1.5},
        {"use_ema": True, "ema_momentum": 0.8},
        {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 2},
        {"gradient_accumulation_steps": 2},
        {"gradient_accumulation_steps": 3, "weight_decay": 0.1, "global_clipnorm": 1.0},
        {"loss_scale_factor": 8.0},
    )
]  # fmt: skip
TRAJECTORIES = [(n, RATE | a) for n, a in ROWS + AROUND]
IDS = [f"{n}-{'-'.join(k for k in a if k != 'learning_rate')}-{i}"
       for i, (n, a) in enumerate(TRAJECTORIES)]  # fmt: skip


assert_close = partial(compare.assert_close, rtol=1e-5, atol=1e-5)
_expected: dict = {}


def expected(name, arguments, excluded=()):
    """The parameters after each step, the state after the last, and the optimizer, by Keras."""
    key = json.dumps([name, arguments, excluded], default=str)
    if key not in _expected:
        made = getattr(keras.optimizers, name)(**arguments)
        variables = [keras.Variable(v, name=k) for k, v in FIRST.items()]
        made.exclude_from_weight_decay(var_names=list(excluded))
        made.build(variables)
        path = []
        for grads in GRADS:
            made.apply([keras.ops.convert_to_tensor(grads[k]) for k in SHAPES], variables)
            path.append([v.numpy() for v in variables])
        _expected[key] = path, [v.numpy() for v in made.variables], made
    return _expected[key]


def run(made, variables, fused=True):
    path = []
    for grads in GRADS:
        made.apply([ops.convert_to_tensor(grads[k].copy()) for k in SHAPES], variables)
        path.append([v.numpy().copy() for v in variables])
    return path


def parameters():
    return [Variable(v.copy(), name=k) for k, v in FIRST.items()]


@pytest.mark.parametrize(("name", "arguments"), TRAJECTORIES, ids=IDS)
def test_trajectories(name, arguments, backend):
    ours, variables = getattr(optimizers, name)(**arguments), parameters()
    path, state, theirs = expected(name, arguments)
    for mine, other in zip(run(ours, variables), path, strict=True):
        for a, b in zip(mine, other, strict=True):
            assert_close(a, b)
    assert [v.path.partition("/")[2] for v in ours.variables] == [
        v.path.partition("/")[2] for v in theirs.variables
    ]
    for mine, other in zip(ours.variables, state, strict=True):
        assert mine.shape == other.shape
        assert_close(mine.numpy(), other)
    ours.finalize_variable_values(variables)
    if arguments.get("use_ema"):
        assert_close(variables[0].numpy(), ours.variable_averages[0].numpy())


@pytest.mark.parametrize(("name", "arguments"), TRAJECTORIES, ids=IDS)
def test_fused_and_pure_agree(name, arguments, monkeypatch):
    with use_backend("torch"):
        module = backends.load("torch")
        if getattr(optimizers, name).formula.name not in module.FUSED:
            return
        variables, pure_variables = parameters(), parameters()
        path = run(getattr(optimizers, name)(**arguments), variables)
        monkeypatch.setattr(module, "FUSED", {})
        pure = run(getattr(optimizers, name)(**arguments), pure_variables)
    for mine, other in zip(path, pure, strict=True):
        for a, b in zip(mine, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("rule", ["clipnorm", "global_clipnorm"])
def test_float64_is_clipped_in_float64(rule, backend):
    grads = [np.random.default_rng(n).normal(size=n) for n in (3, 4)]
    variables = [Variable(np.zeros(len(g)), dtype="float64") for g in grads]
    optimizers.SGD(1.0, **{rule: 0.1}).apply(
        [ops.convert_to_tensor(g, dtype="float64") for g in grads], variables
    )
    norms = [np.linalg.norm(g if rule == "clipnorm" else np.concatenate(grads)) for g in grads]
    rtol = 1e-6 if ops.dtype(variables[0].value) == "float32" else 1e-14  # JAX has 32 bits here
    for v, g, norm in zip(variables, grads, norms, strict=True):
        np.testing.assert_allclose(v.numpy(), -g * 0.1 / norm, rtol=rtol)


def test_fused_with_foreign_layouts():
    """Transposed parameters, expanded gradients, gradients of another dtype."""
    torch = pytest.importorskip("torch")
    with use_backend("torch"):
        for name in ("Adam", "SGD", "RMSprop"):
            arguments = {"momentum": 0.9} if name == "SGD" else {}
            plain, turned = Variable(np.ones((3, 4), np.float32)), Variable(np.zeros((3, 4)))
            turned.storage_dtype = "float32"
            turned._raw = torch.nn.Parameter(torch.ones(4, 3).t())
            for v in (plain, turned):
                made = getattr(optimizers, name)(0.1, gradient_accumulation_steps=2, **arguments)
                for i in range(4):
                    g = torch.arange(4.0, dtype=torch.float64)[None].expand(3, 4) * (i + 1)
                    made.apply([g if v is turned else g.float().contiguous()], [v])
            assert not turned._raw.is_contiguous()
            assert_close(turned.numpy(), plain.numpy())


def test_excluded_from_weight_decay(backend):
    arguments = RATE | {"weight_decay": 0.3}
    path, _, _ = expected("AdamW", arguments, ("bias", "scale"))
    ours, variables = optimizers.AdamW(**arguments), parameters()
    ours.exclude_from_weight_decay(var_names=["bias"], var_list=[variables[2]])
    for a, b in zip(run(ours, variables)[-1], path[-1], strict=True):
        assert_close(a, b)


def _mine_and_theirs(row):
    name, arguments = row
    return getattr(schedules, name)(**arguments), getattr(keras.optimizers.schedules, name)(
        **arguments
    )


SCHEDULES = [
    ("ExponentialDecay", {"initial_learning_rate": 0.1, "decay_steps": 4, "decay_rate": 0.5}),
    ("ExponentialDecay", {"initial_learning_rate": 0.1, "decay_steps": 4, "decay_rate": 0.5,
                          "staircase": True}),
    ("InverseTimeDecay", {"initial_learning_rate": 0.1, "decay_steps": 3, "decay_rate": 0.5}),
    ("InverseTimeDecay", {"initial_learning_rate": 0.1, "decay_steps": 3, "decay_rate": 0.5,
                          "staircase": True}),
    ("PiecewiseConstantDecay", {"boundaries": [3, 7], "values": [1.0, 0.5, 0.1]}),
    ("PolynomialDecay", {"initial_learning_rate": 0.1, "decay_steps": 6}),
    ("PolynomialDecay", {"initial_learning_rate": 0.1, "decay_steps": 6, "power": 2.0,
                         "cycle": True, "end_learning_rate": 0.01}),
    ("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 10, "alpha": 0.1}),
    ("CosineDecay", {"initial_learning_rate": 0.0, "decay_steps": 8, "warmup_target": 0.1,
                     "warmup_steps": 4}),
    ("CosineDecayRestarts", {"initial_learning_rate": 0.1, "first_decay_steps": 3}),
    ("CosineDecayRestarts", {"initial_learning_rate": 0.1, "first_decay_steps": 3, "t_mul": 1.0,
                             "m_mul": 0.5, "alpha": 0.2}),
]  # fmt: skip


@pytest.mark.parametrize("row", SCHEDULES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(SCHEDULES)])
def test_schedules(row, backend):
    ours, theirs = _mine_and_theirs(row)
    for step in (0, 1, 3, 4, 5, 8, 9, 12, 20):
        expected_rate = float(theirs(step))
        for given in (step, Variable(step, dtype="int32")):
            assert float(ours(given)) == pytest.approx(expected_rate, rel=2e-5, abs=1e-8)
    assert ours.get_config() == theirs.get_config()
    again = schedules.deserialize(schedules.serialize(ours))
    assert again.get_config() == ours.get_config()
    assert type(schedules.deserialize(keras.optimizers.schedules.serialize(theirs))) is type(ours)


@pytest.mark.parametrize("row", SCHEDULES[7:9], ids=["cosine", "warmup"])
def test_scheduled_trajectories(row, backend):
    ours, theirs = _mine_and_theirs(row)
    made = optimizers.Adam(ours)
    path, _, _ = expected("Adam", {"learning_rate": theirs})
    for a, b in zip(run(made, parameters())[-1], path[-1], strict=True):
        assert_close(a, b)
    assert made.get_config()["learning_rate"]["config"] == ours.get_config()
    again = optimizers.Adam.from_config(made.get_config())
    assert again.get_config() == made.get_config()
    with pytest.raises(TypeError, match="not settable"):
        made.learning_rate = 0.1


def test_learning_rate_can_be_changed(backend):
    for name in ("SGD", "Adam"):
        ours, theirs = getattr(optimizers, name)(0.1), getattr(keras.optimizers, name)(0.1)
        v, w = Variable([1.0]), keras.Variable([1.0])
        for rate in (None, 0.01, None):
            if rate:
                ours.learning_rate = theirs.learning_rate = rate
            ours.apply([ops.convert_to_tensor([0.5])], [v])
            theirs.apply([keras.ops.convert_to_tensor([0.5])], [w])
            assert_close(v.numpy(), w.numpy())
            assert float(ours.learning_rate) == pytest.approx(rate or float(theirs.learning_rate))
    ours.learning_rate = lambda: 0.5
    assert ours.learning_rate == 0.5
    assert len(ours.variables) == 3  # the step count and two slots
    ours.apply([ops.convert_to_tensor([0.5])])
    assert int(ours.iterations) == 4


NOT_KERAS = ("Optimizer", "OptaxOptimizer")  # without a class of that name, or abstract there


@pytest.mark.parametrize("name", [n for n in optimizers._CLASSES if n not in NOT_KERAS])
def test_configs(name):
    if name == "LossScaleOptimizer":
        ours = optimizers.LossScaleOptimizer(optimizers.SGD(name="i"), name="o")
        theirs = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(name="i"), name="o")
    elif name == "MultiOptimizer":
        ours, theirs = (
            o.MultiOptimizer(o.OptimizerMap(o.SGD(name="i"), {"a": o.SGD(name="j")}), name="o")
            for o in (optimizers, keras.optimizers)
        )
    else:
        ours = getattr(optimizers, name)(name="o")
        theirs = getattr(keras.optimizers, name)(name="o")
        parameters = inspect.signature(type(theirs)).parameters
        mine = inspect.signature(type(ours)).parameters
        assert list(mine) == list(parameters)
        assert [p.default for p in mine.values()] == [p.default for p in parameters.values()]
    assert ours.get_config() == theirs.get_config()
    again = optimizers.deserialize(optimizers.serialize(ours))
    assert again.get_config() == ours.get_config()
    assert type(optimizers.deserialize(keras.optimizers.serialize(theirs))) is type(ours)
    assert type(ours).__doc__


def test_get():
    for identifier in ("adam", "Adam", "rmsprop", "RMSprop", optimizers.Adam, optimizers.SGD()):
        assert isinstance(optimizers.get(identifier), optimizers.Optimizer)
    assert isinstance(optimizers.get({"class_name": "adam", "config": {}}), optimizers.Adam)
    assert optimizers.get(None) is None
    for identifier in ("nope", 3, abs):
        with pytest.raises(ValueError, match="optimizer"):
            optimizers.get(identifier)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optimizers.SGD(momentum=2.0), "momentum"),
        (lambda: optimizers.SGD(1), "learning_rate"),
        (lambda: optimizers.AdamW(weight_decay=None), "weight_decay"),
        (lambda: optimizers.Lion(beta_1=0.0), "beta_1"),
        (lambda: optimizers.Ftrl(learning_rate_power=1.0), "negative"),
        (lambda: optimizers.Ftrl(l1_regularization_strength=-1.0), "positive"),
        (lambda: optimizers.Adam(gradient_accumulation_steps=1), "gradient_accumulation_steps"),
        (lambda: optimizers.Adam(use_ema=True, ema_momentum=2.0), "ema_momentum"),
        (lambda: optimizers.Adam(use_ema=True, ema_overwrite_frequency=-1), "overwrite"),
        (lambda: optimizers.Adam(clipnorm=1.0, clipvalue=1.0), "Only one"),
        (lambda: optimizers.Adam(what=1), "not recognized"),
        (lambda: optimizers.LossScaleOptimizer(optimizers.SGD(), clipnorm=1.0), "clipnorm"),
        (lambda: schedules.CosineDecay(0.1, 0), "decay_steps"),
        (lambda: schedules.PiecewiseConstantDecay([1], [1.0]), "boundaries"),
        (lambda: optimizers.Adam().apply([1.0]), "built"),
        (lambda: optimizers.Adam().apply([None], [Variable(1.0)]), "No gradients"),
        (lambda: optimizers.Adam().stateless_apply([], [], []), "must be built"),
        (lambda: optimizers.Adam().set_weights([]), "not yet been built"),
        (lambda: optimizers.Adam(-1.0), "`learning_rate` must not be negative.*-1.0"),
        (lambda: optimizers.SGD(float("nan")), "`learning_rate` must not be negative.*nan"),
        (lambda: setattr(optimizers.SGD(), "learning_rate", -0.5), "must not be negative"),
        (lambda: optimizers.Adam(weight_decay=-0.1), "`weight_decay` must not be negative"),
        (lambda: optimizers.Adam(clipnorm=-1.0), "`clipnorm` must not be negative"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_missing_gradients_are_warned_about_once(backend):
    ours, variables = optimizers.Adam(0.1), [Variable([1.0], name="a"), Variable([1.0], name="b")]
    g = ops.convert_to_tensor([1.0])
    with pytest.warns(UserWarning, match=r"do not exist for variables \['b'\]"):
        ours.apply([g, None], variables)
    ours.apply([None, g], variables)
    assert variables[0].numpy() == pytest.approx(0.9)
    assert variables[1].numpy() == pytest.approx(1.0, abs=0.12)
    ours.apply([])
    assert int(ours.iterations) == 2
    with pytest.raises(ValueError, match="Unknown variable"):
        ours.apply([g], [Variable([1.0])])
    with pytest.raises(ValueError, match="one-to-one"):
        ours.apply([g])


def test_constraints_and_overwriting(backend):
    v, w = Variable([[3.0], [4.0]]), Variable([1.0])
    v.constraint, w.overwrite_with_gradient = constraints.UnitNorm(), True
    ours = optimizers.SGD(0.5, momentum=0.5)
    ours.apply_gradients([(np.zeros((2, 1), np.float32), v), (np.array([7.0], np.float32), w)])
    assert_close(v.numpy(), [[0.6], [0.8]])
    assert_close(w.numpy(), [7.0])
    assert len(ours.variables) == 3


@pytest.mark.parametrize("warmup", [0, 3])
def test_schedule_free_adamw(warmup, backend):
    # By the paper (Defazio et al., algorithm 1): z is fast, x the mean of its path, and y between.
    # The installed Keras reads z after it was changed where it runs on TensorFlow.
    ours = optimizers.ScheduleFreeAdamW(0.1, warmup_steps=warmup, epsilon=1e-3, weight_decay=0.1)
    variables = parameters()
    path = run(ours, variables)
    for i, name in enumerate(SHAPES):
        y = FIRST[name].astype("float64")
        z, x, v = y, y, np.zeros_like(y)
        for t, grads in enumerate(GRADS, 1):
            rate = 0.1 * (min(1.0, t / warmup) if warmup else 1.0)
            g, decayed = grads[name], y * (1 - 0.1 * 0.1)
            x = x + (decayed - y) / 0.9  # Keras decays y, and finds x from y and z
            v = 0.999 * v + 0.001 * g * g
            z = z - rate * g / (np.sqrt(v / (1 - 0.999**t)) + 1e-3)
            x = (1 - 1 / t) * x + z / t
            y = 0.1 * z + 0.9 * x
            assert_close(path[t - 1][i], y)
    assert [len(column) for column in ours.slot_variables.values()] == [4, 4]


def decaying(optimizers):
    return optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)


@pytest.mark.parametrize("overwrites", [None, 2])
@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop", "Nadam", "Lamb"])
def test_accumulated_steps_are_those_of_the_large_batch(name, overwrites, backend):
    around = {"use_ema": True, "ema_momentum": 0.6, "ema_overwrite_frequency": overwrites,
              "weight_decay": 0.1}  # fmt: skip
    ours = getattr(optimizers, name)(decaying(optimizers), gradient_accumulation_steps=2, **around)
    theirs = getattr(keras.optimizers, name)(decaying(keras.optimizers), **around)
    variables = parameters()
    others = [keras.Variable(v, name=k) for k, v in FIRST.items()]
    for first, second in zip(GRADS[::2], GRADS[1::2]):
        for grads in (first, second):
            ours.apply([ops.convert_to_tensor(grads[k].copy()) for k in SHAPES], variables)
        means = [keras.ops.convert_to_tensor((first[k] + second[k]) / 2) for k in SHAPES]
        theirs.apply(means, others)
        for a, b in zip(variables, others, strict=True):
            assert_close(a.numpy(), b.numpy())
        assert_close(ours.learning_rate, theirs.learning_rate)
    assert int(ours.iterations) == int(theirs.iterations) == len(GRADS) // 2
    ours.finalize_variable_values(variables)
    theirs.finalize_variable_values(others)
    for a, b in zip(variables, others, strict=True):
        assert_close(a.numpy(), b.numpy())


def test_overwriting_waits_for_the_accumulated_step(backend):
    first, one = np.array([1.0, 3.0], "float32"), np.ones(2, "float32")
    v, w = Variable(first), Variable(first)
    v.overwrite_with_gradient = True
    ours = optimizers.SGD(1.0, gradient_accumulation_steps=2)
    seen = []
    for size in (1, 2, 1):
        g = ops.convert_to_tensor(one * size)
        ours.apply([g, g], [v, w])
        seen.append([v.numpy().tolist(), w.numpy().tolist()])
    # By hand: the larger of the two gradients, and one minus their mean.
    assert seen == [[[1, 3], [1, 3]], [[2, 2], [-0.5, 1.5]], [[2, 2], [-0.5, 1.5]]]


@pytest.mark.parametrize("name", ["SGD", "Adam", "Nadam", "Adafactor"])
def test_stateless_and_compiled(name, backend):
    """The pure form, compiled where there is a compiler, walks the same path."""
    arguments = RATE | {"weight_decay": 0.1, "gradient_accumulation_steps": 2, "use_ema": True}
    path, _, _ = expected(name, arguments)
    ours, variables = getattr(optimizers, name)(**arguments), parameters()
    ours.build(variables)
    values = [ops.convert_to_tensor(v.numpy().copy()) for v in variables]
    state = [ops.convert_to_tensor(v.numpy().copy()) for v in ours.variables]
    step = jit(ours.stateless_apply)
    for grads, other in zip(GRADS, path, strict=True):
        values, state = step(state, [ops.convert_to_tensor(grads[k]) for k in SHAPES], values)
        for a, b in zip(values, other, strict=True):
            assert_close(ops.convert_to_numpy(a), b)
    assert int(ours.iterations) == 0
    assert_close(variables[0].numpy(), FIRST["kernel"])


def test_compiled_over_variables(backend):
    path, _, _ = expected("Adam", RATE)
    ours, variables = optimizers.Adam(**RATE), parameters()
    ours.build(variables)
    step = jit(lambda grads: ours.apply(grads), variables=[*variables, *ours.variables])
    for grads, other in zip(GRADS, path, strict=True):
        step([ops.convert_to_tensor(grads[k]) for k in SHAPES])
        for v, b in zip(variables, other, strict=True):
            assert_close(v.numpy(), b)


def test_moving_between_backends(backend):
    """Steps on numpy, then on another backend, are as many steps on either."""
    for name, extra in (("Adam", {"use_ema": True}), ("Adafactor", {}), ("Nadam", {})):
        path, state, _ = expected(name, RATE | extra)
        with use_backend("numpy"):
            ours, variables = getattr(optimizers, name)(**RATE, **extra), parameters()
            for grads in GRADS[:3]:
                ours.apply([grads[k] for k in SHAPES], variables)
        for v in variables:
            v.to_backend(backend)
        ours.to_backend(backend)
        for grads in GRADS[3:]:
            ours.apply([ops.convert_to_tensor(grads[k]) for k in SHAPES], variables)
        for v, b in zip(variables, path[-1], strict=True):
            assert_close(v.numpy(), b)
        for v, b in zip(ours.variables, state, strict=True):
            assert_close(v.numpy(), b)
            assert v.backend == backend


def test_sparse_gradients():
    """Rows that a lookup touched, as torch and TensorFlow give them."""
    torch, tf = pytest.importorskip("torch"), pytest.importorskip("tensorflow")
    for name in ("torch", "tensorflow"):
        with use_backend(name):
            for made in (optimizers.Adam(0.1), optimizers.Lamb(0.1)):
                v = Variable(np.ones((4, 2), np.float32))
                if name == "torch":
                    rows = torch.nn.functional.embedding(
                        torch.tensor([0, 2, 2]), v._kl_raw, sparse=True
                    )
                    g = torch.autograd.grad(rows.sum(), [v._kl_raw])
                else:
                    with tf.GradientTape() as tape:
                        total = tf.reduce_sum(tf.gather(v._kl_raw, [0, 2, 2]))
                    g = tape.gradient(total, [v._kl_raw])
                made.apply(g, [v])
                assert (v.numpy()[[0, 2]] < 1).all()
                assert (v.numpy()[[1, 3]] == 1).all()


def test_optimizer_follows_the_parameters():
    ours = optimizers.Adam(0.1)
    with use_backend("numpy"):
        v = Variable([1.0])
    ours.apply([np.array([1.0], np.float32)], [v])
    assert {x.backend for x in ours.variables} == {"numpy"}


def test_two_frameworks_are_refused():
    torch = pytest.importorskip("torch")
    with use_backend("tensorflow"), pytest.raises(TypeError, match="two frameworks"):
        optimizers.SGD(0.1).apply([torch.ones(1)], [Variable([1.0])])


def test_saving(backend):
    ours, variables = optimizers.Adam(0.1), parameters()
    run(ours, variables)
    store: dict = {}
    ours.save_own_variables(store)
    again = optimizers.Adam(0.5)
    again.build(variables)
    again.load_own_variables({k: np.array(v) for k, v in store.items()})
    for a, b in zip(again.variables, ours.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    with pytest.warns(UserWarning, match="Skipping variable loading"):
        optimizers.SGD(0.1).load_own_variables(store)
    again.set_weights([np.zeros(v.shape, v.numpy().dtype) for v in again.variables])
    assert float(again.learning_rate) == 0.0


def test_custom_optimizer(backend):
    class Momentum(optimizers.Optimizer):
        def build(self, variables):
            super().build(variables)
            self.speeds = self.add_optimizer_variables(variables, "speed")

        def update_step(self, gradient, variable, learning_rate):
            speed = self.speeds[self._get_variable_index(variable)]
            self.assign(speed, speed * 0.9 - gradient * ops.cast(learning_rate, variable.dtype))
            self.assign_add(variable, speed)

    class Slower(optimizers.Adam):
        def __init__(self, **kwargs):
            super().__init__(learning_rate=0.001, **kwargs)

        def update_step(self, gradient, variable, learning_rate):
            super().update_step(gradient, variable, learning_rate * 50)

    for ours, name, arguments in (
        (Momentum(0.05), "SGD", {"momentum": 0.9}),
        (Momentum(0.05, gradient_accumulation_steps=2), "SGD",
         {"momentum": 0.9, "gradient_accumulation_steps": 2}),
        (Slower(), "Adam", {}),
    ):  # fmt: skip
        path, _, _ = expected(name, RATE | arguments)
        for a, b in zip(run(ours, parameters())[-1], path[-1], strict=True):
            assert_close(a, b)
    with pytest.raises(NotImplementedError, match="update_step"):
        optimizers.Optimizer(0.1).apply([1.0], [Variable(1.0)])


def test_half_precision_parameters(backend):
    """The bias corrections are worked out in float32, where Keras's vanish."""
    for name in ("Adam", "SGD", "RMSprop", "Adafactor", "Nadam"):
        v = Variable([1.0, 2.0], dtype="bfloat16")
        ours = getattr(optimizers, name)(0.1)
        for _ in range(3):
            ours.apply([ops.cast(ops.convert_to_tensor([1.0, -1.0]), "bfloat16")], [v])
        value = v.numpy().astype(np.float32)
        assert np.isfinite(value).all()
        assert value[0] < 1.0
        assert value[1] > 2.0
        assert v.numpy().dtype.name == "bfloat16"


def test_loss_scale(backend):
    """Grows after good steps, halves and skips after a bad one; values are Keras's."""
    make = {"initial_scale": 4.0, "dynamic_growth_steps": 2}
    ours = optimizers.LossScaleOptimizer(optimizers.Adam(0.1), **make)
    theirs = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.1), **make)
    v, w = Variable([1.0, 2.0]), keras.Variable([1.0, 2.0])
    assert float(ours.scale_loss(2.0)) == 8.0
    for g in ([1.0, 2.0], [0.5, 1.0], [np.inf, 0.0], [1.0, np.nan], [1.0, 1.0], [3.0, 1.0]):
        g = np.array(g, np.float32)
        ours.apply([ops.convert_to_tensor(g)], [v])
        theirs.apply([keras.ops.convert_to_tensor(g)], [w])
        assert_close(v.numpy(), w.numpy())
        for mine, other in zip(ours.variables, theirs.variables, strict=True):
            assert_close(mine.numpy(), other.numpy())
    assert float(ours.learning_rate) == pytest.approx(0.1)
    assert int(ours.iterations) == int(theirs.iterations) == 4
    state = [ops.convert_to_tensor(x.numpy()) for x in ours.variables]
    good = ops.convert_to_tensor([1.0, 1.0])
    values, state = jit(ours.stateless_apply)(state, [good], [v.value])
    theirs.apply([keras.ops.ones(2)], [w])
    assert_close(ops.convert_to_numpy(values[0]), w.numpy())


def test_training_lowers_a_loss(backend):
    if backend == "numpy":
        return
    x = RNG.normal(size=(16, 3)).astype(np.float32)
    target = ops.convert_to_tensor(x @ np.array([[1.0], [-2.0], [0.5]], np.float32))
    kernel, x = Variable(np.zeros((3, 1), np.float32)), ops.convert_to_tensor(x)
    gradient = grad(
        lambda: ops.mean(ops.square(ops.matmul(x, kernel) - target)), variables=[kernel]
    )
    ours = optimizers.Adam(0.1)
    for _ in range(60):
        ours.apply(gradient(), [kernel])
    assert_close(kernel.numpy()[:, 0], [1.0, -2.0, 0.5], rtol=0.1, atol=0.1)


def test_a_copy_goes_on_by_itself(backend):
    ours, variables = optimizers.Adam(**RATE), parameters()
    for grads in GRADS[:3]:
        ours.apply([ops.convert_to_tensor(grads[k]) for k in SHAPES], variables)
    path, _, _ = expected("Adam", RATE)
    other, copies = copy.deepcopy((ours, variables))
    for grads in GRADS[3:]:
        other.apply([ops.convert_to_tensor(grads[k]) for k in SHAPES], copies)
    for v, unmoved, a, b in zip(copies, variables, path[-1], path[2], strict=True):
        assert_close(v.numpy(), a)
        assert_close(unmoved.numpy(), b)


def test_fused_steps_read_nothing_from_the_device(monkeypatch):
    torch = pytest.importorskip("torch")
    with use_backend("torch"):
        rate = schedules.CosineDecay(0.1, 10)
        for arguments in ({"learning_rate": 0.1}, {"learning_rate": rate, "clipnorm": 1.0}):
            for name in ("Adam", "SGD", "RMSprop"):
                ours, variables = getattr(optimizers, name)(**arguments), parameters()
                grads = [torch.ones(s) for s in SHAPES.values()]
                ours.apply(grads, variables)
                with monkeypatch.context() as patched:
                    for read in ("item", "__float__", "__int__", "__bool__", "tolist", "cpu"):
                        patched.setattr(torch.Tensor, read, None)
                    ours.apply(grads)
                assert int(ours.iterations) == 2
