"""Schedulers against those of diffusers: timesteps, samples, noised images, configs."""

import inspect
import warnings

import numpy as np
import pytest
import torch
from compare import assert_close, largest

import keraslite as keras
from hub.diffusion.schedulers import SCHEDULERS, Scheduler
from keraslite import ops

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import diffusers

# What diffusers' own code says of numpy's newest rules.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*algorithm_type dpmsolver is deprecated:FutureWarning"),
]
RNG = np.random.default_rng(0)
SAMPLE, IMAGE = (RNG.normal(size=(2, 4, 6, 3)).astype("float32") for _ in range(2))
NOISE = RNG.normal(size=(1000, *SAMPLE.shape)).astype("float32")
PUBLISHED = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
TURNS = []
SPACINGS = ("leading", "linspace", "trailing")


def _cases():
    for name in SCHEDULERS:
        plain = {"clip_sample": False} if name in ("ddim", "ddpm") else {}
        plain |= {"skip_prk_steps": True} if name == "pndm" else {}
        spacings = SPACINGS if name != "lcm" else ("leading",)
        for spacing in spacings:
            for prediction_type in ("epsilon", "v_prediction"):
                offset = {"steps_offset": 1} if spacing == "leading" else {}
                options = {**PUBLISHED, **plain, "timestep_spacing": spacing, **offset}
                yield name, {**options, "prediction_type": prediction_type}
        if "use_karras_sigmas" in SCHEDULERS[name].defaults:
            yield name, {**PUBLISHED, **plain, "use_karras_sigmas": True}
        if "final_sigmas_type" in SCHEDULERS[name].defaults:
            yield name, {**PUBLISHED, "final_sigmas_type": "sigma_min"}
    for name in ("ddim", "ddpm", "dpm_solver", "unipc", "lcm"):
        skip = {"clip_sample": False} if name in ("ddim", "ddpm") else {}
        yield name, {**PUBLISHED, **skip, "prediction_type": "sample"}
        if name != "lcm":  # whose samples grow to 1e4 then
            yield name, {"beta_schedule": "squaredcos_cap_v2", **skip}
    yield "ddim", {"clip_sample_range": 0.5}
    yield "ddim", {**PUBLISHED, "set_alpha_to_one": False, "rescale_betas_zero_snr": True,
                   "prediction_type": "v_prediction", "timestep_spacing": "trailing",
                   "clip_sample": False}  # fmt: skip
    yield "ddpm", {"variance_type": "fixed_large", "beta_schedule": "linear"}
    yield "pndm", {"skip_prk_steps": True, "set_alpha_to_one": True}
    yield "dpm_solver", {**PUBLISHED, "lower_order_final": False, "final_sigmas_type": "sigma_min"}
    yield "dpm_solver", {**PUBLISHED, "euler_at_final": True, "solver_order": 1}
    yield "unipc", {**PUBLISHED, "solver_order": 1}
    yield "dpm_solver", {**PUBLISHED, "solver_type": "bh2"}
    for algorithm_type in ("dpmsolver++", "dpmsolver"):
        for solver_type, order in (("midpoint", 2), ("midpoint", 3), ("heun", 2), ("heun", 3)):
            for prediction_type in ("epsilon", "v_prediction", "sample"):
                yield "dpm_solver", {
                    **PUBLISHED, "solver_type": solver_type, "solver_order": order,
                    "algorithm_type": algorithm_type, "prediction_type": prediction_type,
                    "final_sigmas_type": "sigma_min",
                }  # fmt: skip


CASES = list(_cases())
IDS = [f"{n}-{i}" for i, (n, _) in enumerate(CASES)]


def theirs_of(name, options):
    cls = getattr(diffusers, SCHEDULERS[name].class_name)
    known = inspect.signature(cls.__init__).parameters
    return cls(**{k: v for k, v in options.items() if k in known})


def network(x, t, sin=np.sin):
    """Something that is not linear in its inputs."""
    return sin(1.3 * x + 0.001 * float(t)) * 0.7


@pytest.fixture(autouse=True)
def given_noise(monkeypatch):
    """The noise that diffusers draws is that of the table, in turn."""

    def drawn(shape, *args, **kwargs):
        return torch.from_numpy(NOISE[next(TURNS[-1])])

    for definition in SCHEDULERS.values():
        module = inspect.getmodule(getattr(diffusers, definition.class_name))
        if hasattr(module, "randn_tensor"):
            monkeypatch.setattr(module, "randn_tensor", drawn)


def their_samples(theirs, steps, start=0, first=None):
    """The sample after every call."""
    TURNS.append(iter(range(len(NOISE))))
    theirs.set_timesteps(steps)
    times = theirs.timesteps[start * theirs.order :]
    if start and hasattr(theirs, "set_begin_index"):
        theirs.set_begin_index(start * theirs.order)
    x = torch.from_numpy(SAMPLE) * theirs.init_noise_sigma
    if first is not None:
        x = theirs.add_noise(torch.from_numpy(first), torch.from_numpy(NOISE[-1]), times[:1])
    found = []
    for t in times:
        scaled = theirs.scale_model_input(x, t)
        x = theirs.step(network(scaled, t, torch.sin), t, x).prev_sample
        found.append(x.numpy().copy())
    return times.numpy(), found


def our_samples(plan, first=None):
    if first is None:
        x = ops.convert_to_tensor(SAMPLE * np.float32(plan.init_noise_sigma))
    else:
        x = plan.add_noise(ops.convert_to_tensor(first), ops.convert_to_tensor(NOISE[-1]))
    state, found = plan.init_state(x), []
    for i, t in enumerate(plan.timesteps):
        out = network(plan.scale_input(i, x), t, ops.sin)
        x, state = plan.step(i, state, x, out, ops.convert_to_tensor(NOISE[i]))
        found.append(ops.convert_to_numpy(x))
    return found


def assert_samples_close(ours, theirs, tolerance=1e-4):
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        atol = tolerance * largest(b, least=1.0)
        assert_close(a, b, rtol=0, atol=atol, message=f"call {i}")


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_samples_after_each_call(name, options):
    with keras.use_backend("numpy"):
        for steps in (1, 2, 6, 20):
            if steps == 1 and name in ("pndm", "lms"):
                continue  # diffusers fails
            times, expected = their_samples(theirs_of(name, options), steps)
            plan = Scheduler(name, options).plan(steps)
            np.testing.assert_allclose(plan.timesteps, times, rtol=1e-5, atol=2e-3)
            assert_samples_close(our_samples(plan), expected)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_backend(backend, name):
    scheduler = Scheduler.from_name(name, steps_offset=1, timestep_spacing="leading")
    _, expected = their_samples(theirs_of(name, scheduler.to_config()), 6)
    plan = scheduler.plan(6)
    assert_samples_close(our_samples(plan), expected)

    # One loop with the number of the call as a tensor gives the same.
    noise = ops.convert_to_tensor(NOISE[: len(plan)])
    times = ops.convert_to_tensor(plan.timesteps)

    def body(i, carry):
        x, state = carry
        t = ops.take(times, i, axis=0)
        out = ops.sin(1.3 * plan.scale_input(i, x) + 0.001 * t) * 0.7
        return plan.step(i, state, x, out, ops.take(noise, i, axis=0))

    def whole(x):
        return ops.fori_loop(0, len(plan), body, (x, plan.init_state(x)))[0]

    start = ops.convert_to_tensor(SAMPLE * np.float32(plan.init_noise_sigma))
    assert_samples_close([ops.convert_to_numpy(keras.jit(whole)(start))], expected[-1:])


@pytest.mark.parametrize("strength", [0.2, 0.55, 0.9])
@pytest.mark.parametrize("name", [n for n in SCHEDULERS if n not in ("lcm", "ddpm")])
def test_from_an_image(name, strength):
    scheduler = Scheduler.from_name(name, steps_offset=1, timestep_spacing="leading")
    steps = 10
    start = steps - min(int(steps * strength), steps)
    with keras.use_backend("numpy"):
        theirs = theirs_of(name, scheduler.to_config())
        times, expected = their_samples(theirs, steps, start, IMAGE)
        plan = scheduler.plan(steps, strength)
        np.testing.assert_allclose(plan.timesteps, times, rtol=1e-5, atol=2e-3)
        assert_samples_close(our_samples(plan, IMAGE), expected)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_configs_go_both_ways(name, tmp_path):
    scheduler = Scheduler.from_name(name, prediction_type="v_prediction", unknown_to_us=3)
    cls = getattr(diffusers, SCHEDULERS[name].class_name)
    cls.from_config(scheduler.to_config()).save_pretrained(tmp_path)
    again = Scheduler.from_config(cls.load_config(tmp_path))
    assert again.name == name
    assert again.config == scheduler.config
    required = {"skip_prk_steps": True} if name == "pndm" else {}
    plain = Scheduler.from_config({"_class_name": cls.__name__, **required})
    assert plain.config == {k: cls().config[k] for k in plain.config}


# What the pipelines of Stable Diffusion 1.5 and 2.1 publish.
PIPELINES = {
    "1.5": {
        "_class_name": "PNDMScheduler", "beta_end": 0.012, "beta_schedule": "scaled_linear",
        "beta_start": 0.00085, "num_train_timesteps": 1000, "set_alpha_to_one": False,
        "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None, "clip_sample": False,
    },
    "2.1": {
        "_class_name": "DDIMScheduler", "beta_end": 0.012, "beta_schedule": "scaled_linear",
        "beta_start": 0.00085, "clip_sample": False, "num_train_timesteps": 1000,
        "prediction_type": "v_prediction", "set_alpha_to_one": False, "skip_prk_steps": True,
        "steps_offset": 1, "timestep_spacing": "trailing", "trained_betas": None,
    },
    "unipc": {
        "_class_name": "UniPCMultistepScheduler", "beta_end": 0.012, "beta_schedule": "linear",
        "solver_type": "bh2", "timestep_spacing": "leading",
    },
}  # fmt: skip


@pytest.mark.parametrize("version", PIPELINES)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_another_method_keeps_the_stated_options(name, version):
    """As `from_config` of diffusers: what a file states goes on, defaults of its class do not."""
    config = PIPELINES[version]
    source = getattr(diffusers, config["_class_name"]).from_config(config)
    theirs = getattr(diffusers, SCHEDULERS[name].class_name).from_config(
        source.config, **({"skip_prk_steps": True} if name == "pndm" else {})
    )
    scheduler = Scheduler.from_config(config).with_method(name)
    assert {k: theirs.config[k] for k in scheduler.config} == scheduler.config
    if name == "lcm" and version == "2.1":
        return  # diffusers' own trailing spacing of LCM
    with keras.use_backend("numpy"):
        times, expected = their_samples(theirs, 6)
        plan = scheduler.plan(6)
        np.testing.assert_allclose(plan.timesteps, times, rtol=1e-5, atol=2e-3)
        assert_samples_close(our_samples(plan), expected)


def test_for_training(backend):
    scheduler = Scheduler.from_name("ddpm")
    theirs = theirs_of("ddpm", scheduler.to_config())
    times = np.array([3, 800], "int32")
    given = [torch.from_numpy(x) for x in (SAMPLE, IMAGE, times)]
    noised = scheduler.add_noise(ops.convert_to_tensor(SAMPLE), ops.convert_to_tensor(IMAGE), times)
    assert_samples_close([ops.convert_to_numpy(noised)], [theirs.add_noise(*given).numpy()], 1e-5)
    velocity = scheduler.velocity(
        ops.convert_to_tensor(SAMPLE), ops.convert_to_tensor(IMAGE), times
    )
    assert_samples_close(
        [ops.convert_to_numpy(velocity)], [theirs.get_velocity(*given).numpy()], 1e-5
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scheduler("dimm"), "must be one of .*got 'dimm'"),
        (
            lambda: Scheduler.from_config({"_class_name": "FlowMatch"}),
            "must be one of .*got 'FlowMatch'",
        ),
        (lambda: Scheduler("pndm", {"skip_prk_steps": False}), "skip_prk_steps=False"),
        (lambda: Scheduler("pndm"), "skip_prk_steps=None"),
        (lambda: Scheduler("unipc", {"solver_order": 3}), "solver_order=3"),
        (
            lambda: Scheduler("dpm_solver", {"algorithm_type": "dpmsolver"}).plan(3),
            "final_sigmas_type must be 'sigma_min'",
        ),
        (lambda: Scheduler("euler", {"prediction_type": "flow"}), "prediction_type='flow'"),
        (
            lambda: Scheduler("ddim", {"beta_schedule": "round"}),
            "beta_schedule must be one of .*got 'round'",
        ),
        (
            lambda: Scheduler("ddim", {"timestep_spacing": "odd"}).plan(3),
            "timestep_spacing must be .*'odd'",
        ),
        (lambda: Scheduler("ddim").plan(0), "between 1 and 1000"),
        (lambda: Scheduler("ddim").plan(1001), "between 1 and 1000"),
        (lambda: Scheduler("ddim").plan(10, 0.01), "leave at least one step"),
        (lambda: Scheduler("lcm").plan(60), "at most the 50 .*got 60"),
        (lambda: Scheduler.from_name("ddpm").plan(2).step(0, {}, SAMPLE, SAMPLE), "fresh noise"),
        (
            lambda: Scheduler("ddim").plan(2).step(0, {}, SAMPLE, SAMPLE[:1]),
            "must have the shape of the sample",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
