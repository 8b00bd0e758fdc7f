"""Learning-rate schedules: functions of the step, with a config. A row each."""

import math
from typing import Any

from keraslite import config, ops, registry
from keraslite.declare import REQUIRED, declare


class LearningRateSchedule:
    """The base of schedules. Subclasses write `__call__(step)` and `get_config`.

    >>> class Halving(LearningRateSchedule):
    ...     def __call__(self, step):
    ...         return 0.5 ** ops.cast(step, "float32")
    >>> float(Halving()(2))
    0.25
    """

    def __call__(self, step: Any) -> Any:
        """The learning rate at a step, an int or a scalar tensor."""
        raise NotImplementedError(
            f"Learning rate schedule '{type(self).__name__}' must override `__call__(self, step)`."
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it."""
        raise NotImplementedError(
            f"Learning rate schedule '{type(self).__name__}' must override `get_config()` in "
            "order to be serializable."
        )

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LearningRateSchedule":
        """The schedule of a config."""
        return cls(**config)


class _Declared(LearningRateSchedule):
    """A schedule made by `declare`: its parameters are attributes, its formula a plain function."""

    _parameters: tuple[str, ...] = ()

    def setup(self, **arguments: Any) -> None:
        """Make the arguments attributes."""
        self.__dict__.update(arguments)
        for name in ("decay_steps", "first_decay_steps"):
            if arguments.get(name, 1) <= 0:
                raise ValueError(
                    f"Argument `{name}` must be > 0. Received: {name}={arguments[name]}"
                )
        if "boundaries" in arguments and len(self.boundaries) != len(self.values) - 1:
            raise ValueError(
                "The length of boundaries should be 1 less than the length of values. "
                f"Received: boundaries={self.boundaries} of length {len(self.boundaries)}, "
                f"and values={self.values} of length {len(self.values)}."
            )

    def __call__(self, step: Any) -> Any:
        """The learning rate at a step, an int or a scalar tensor."""
        return type(self).rate(self, ops.cast(step, config.floatx()), ops)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it."""
        return {name: getattr(self, name) for name in self._parameters}


class _Host:
    """The functions that schedules need, for a step that is a Python number."""

    power, floor, ceil, cos, log = pow, math.floor, math.ceil, math.cos, math.log
    minimum, maximum = min, max

    @staticmethod
    def where(condition: bool, x1: float, x2: float) -> float:
        """One of two numbers."""
        return x1 if condition else x2


def rate_on_host(schedule: Any, step: int) -> float:
    """The rate of a built-in schedule, computed in Python, without a device."""
    return float(type(schedule).rate(schedule, float(step), _Host))


def _progress(s: Any, step: Any, ops: Any) -> Any:
    progress = step / s.decay_steps
    return ops.floor(progress) if s.staircase else progress


def _exponential(s: Any, step: Any, ops: Any) -> Any:
    return s.initial_learning_rate * ops.power(s.decay_rate, _progress(s, step, ops))


def _inverse_time(s: Any, step: Any, ops: Any) -> Any:
    return s.initial_learning_rate / (1.0 + s.decay_rate * _progress(s, step, ops))


def _piecewise(s: Any, step: Any, ops: Any) -> Any:
    rate = step * 0.0 + s.values[0]
    for boundary, value in zip(s.boundaries, s.values[1:], strict=True):
        rate = ops.where(step > boundary, value, rate)
    return rate


def _polynomial(s: Any, step: Any, ops: Any) -> Any:
    length = s.decay_steps
    if s.cycle:
        length = length * ops.maximum(ops.ceil(step / s.decay_steps), 1.0)
    else:
        step = ops.minimum(step, s.decay_steps)
    span = s.initial_learning_rate - s.end_learning_rate
    return span * ops.power(1.0 - step / length, s.power) + s.end_learning_rate


def _cosine_curve(ops: Any, fraction: Any, alpha: float, height: Any = 1.0) -> Any:
    return (1.0 - alpha) * 0.5 * height * (1.0 + ops.cos(fraction * math.pi)) + alpha


def _cosine(s: Any, step: Any, ops: Any) -> Any:
    if s.warmup_target is None:
        done = ops.minimum(step, s.decay_steps) / s.decay_steps
        return s.initial_learning_rate * _cosine_curve(ops, done, s.alpha)
    step = ops.minimum(step, s.decay_steps + s.warmup_steps)
    climbed = step / max(s.warmup_steps, 1)
    rising = (s.warmup_target - s.initial_learning_rate) * climbed + s.initial_learning_rate
    done = (step - s.warmup_steps) / s.decay_steps
    falling = s.warmup_target * _cosine_curve(ops, done, s.alpha)
    return ops.where(step < s.warmup_steps, rising, falling)


def _cosine_restarts(s: Any, step: Any, ops: Any) -> Any:
    done = step / s.first_decay_steps
    if s.t_mul == 1.0:
        restarts = ops.floor(done)
        done = done - restarts
    else:
        restarts = ops.floor(ops.log(1.0 - done * (1.0 - s.t_mul)) / math.log(s.t_mul))
        longer = ops.power(s.t_mul, restarts)
        done = (done - (1.0 - longer) / (1.0 - s.t_mul)) / longer
    height = ops.power(s.m_mul, restarts)
    return s.initial_learning_rate * _cosine_curve(ops, done, s.alpha, height)


def _schedule(class_name: str, summary: str, rate: Any, **parameters: Any) -> type:
    parameters.setdefault("name", class_name)
    doc = f"""{summary}

    The parameters are {", ".join(parameters)}.
    """
    return declare(
        _Declared, class_name, doc, parameters,
        rate=staticmethod(rate), _parameters=tuple(parameters),
    )  # fmt: skip


_STAIRS = {"decay_steps": REQUIRED, "decay_rate": REQUIRED, "staircase": False}

ExponentialDecay = _schedule(
    "ExponentialDecay",
    "`initial_learning_rate * decay_rate ** (step / decay_steps)`, in steps with `staircase`.",
    _exponential,
    initial_learning_rate=REQUIRED,
    **_STAIRS,
)
InverseTimeDecay = _schedule(
    "InverseTimeDecay",
    "`initial_learning_rate / (1 + decay_rate * step / decay_steps)`, in steps with `staircase`.",
    _inverse_time,
    initial_learning_rate=REQUIRED,
    **_STAIRS,
)
PiecewiseConstantDecay = _schedule(
    "PiecewiseConstantDecay",
    "`values[0]` up to the step `boundaries[0]`, then `values[1]`, and so on.",
    _piecewise,
    boundaries=REQUIRED,
    values=REQUIRED,
    name="PiecewiseConstant",
)
PolynomialDecay = _schedule(
    "PolynomialDecay",
    "From the initial to the end rate over `decay_steps`, as a power of what is left.",
    _polynomial,
    initial_learning_rate=REQUIRED,
    decay_steps=REQUIRED,
    end_learning_rate=0.0001,
    power=1.0,
    cycle=False,
)
CosineDecay = _schedule(
    "CosineDecay",
    "Half a cosine down to `alpha` of the rate, after a linear climb to `warmup_target`.",
    _cosine,
    initial_learning_rate=REQUIRED,
    decay_steps=REQUIRED,
    alpha=0.0,
    name="CosineDecay",
    warmup_target=None,
    warmup_steps=0,
)
CosineDecayRestarts = _schedule(
    "CosineDecayRestarts",
    "Cosine decays one after the other, each `t_mul` as long and `m_mul` as high as the last.",
    _cosine_restarts,
    initial_learning_rate=REQUIRED,
    first_decay_steps=REQUIRED,
    t_mul=2.0,
    m_mul=1.0,
    alpha=0.0,
    name="SGDRDecay",
)
# Those that `rate_on_host` knows.
BUILT_IN = frozenset(
    (ExponentialDecay, InverseTimeDecay, PiecewiseConstantDecay, PolynomialDecay, CosineDecay,
     CosineDecayRestarts)
)  # fmt: skip


def serialize(learning_rate_schedule: Any) -> Any:
    """The config of a schedule."""
    return registry.serialize_keras_object(learning_rate_schedule)


def deserialize(config: Any, custom_objects: Any = None) -> Any:
    """The schedule of a config."""
    return registry.deserialize_keras_object(config, custom_objects)
