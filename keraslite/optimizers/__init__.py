"""Optimizers: a formula with its arguments is a row here; the rest is common to all."""

from typing import Any

from keraslite import registry
from keraslite.declare import declare
from keraslite.optimizers import legacy, schedules
from keraslite.optimizers.formulas import FORMULAS
from keraslite.optimizers.from_optax import OptaxOptimizer, is_optax
from keraslite.optimizers.loss_scale import LossScaleOptimizer
from keraslite.optimizers.matrices import MatrixOptimizer
from keraslite.optimizers.multi import MultiOptimizer, OptimizerMap
from keraslite.optimizers.optimizer import ARGUMENTS, Optimizer

_ABOUT = """{summary}

    Args:
        {own}weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum,
        ema_overwrite_frequency, loss_scale_factor, gradient_accumulation_steps, name: see
            `Optimizer`.
    """
_MEANING = {
    "learning_rate": "a float, a schedule, or a function without arguments.",
    "momentum": "how much of the last change goes into the next.",
    "nesterov": "whether the gradient is taken ahead of the momentum.",
    "beta_1": "how slowly the average of gradients moves.",
    "beta_2": "how slowly the average of squared gradients moves.",
    "epsilon": "a small number that keeps divisions finite.",
    "amsgrad": "whether the largest average of squares so far is used.",
    "rho": "how slowly the average of squared gradients moves.",
    "centered": "whether the variance takes the place of the square.",
    "beta_2_decay": "the exponent of the step in how slowly squares are averaged.",
    "epsilon_1": "added to squared gradients.",
    "epsilon_2": "the least size of a parameter.",
    "clip_threshold": "the largest root mean square of an update.",
    "relative_step": "kept for Keras code: the rate is at most one over the root of the step.",
    "initial_accumulator_value": "where the sums of squares start.",
    "learning_rate_power": "how the rate falls with the sum of squares, at most 0.",
    "l1_regularization_strength": "the L1 penalty.",
    "l2_regularization_strength": "the L2 penalty.",
    "l2_shrinkage_regularization_strength": "an L2 penalty on the gradient.",
    "beta": "the beta of the paper.",
    "warmup_steps": "over how many steps the learning rate grows to its full size.",
    "adam_beta_1": "how slowly Adam's average of gradients moves.",
    "adam_beta_2": "how slowly Adam's average of squared gradients moves.",
    "adam_weight_decay": "the weight decay of the parameters that Adam updates.",
    "adam_lr_ratio": "Adam's learning rate, relative to that of the matrices.",
    "exclude_layers": "patterns of the paths of matrices that Adam updates.",
    "exclude_embeddings": "whether Adam updates embeddings.",
    "muon_a": "the first coefficient of the iteration.",
    "muon_b": "the second coefficient.",
    "muon_c": "the third coefficient.",
    "ns_steps": "how many iterations make the momentum orthogonal.",
    "rms_rate": "the root mean square of an update; None leaves it as it is.",
}


def _optimizer(
    class_name: str, summary: str, formula: str, validate: Any = None, base: type = Optimizer,
    **own: Any,
) -> type:  # fmt: skip
    """The class of a formula.

    Args:
        class_name: its name.
        summary: the first line of its docstring.
        formula: a key of `FORMULAS`.
        validate: a method that raises ValueError for invalid arguments.
        base: what the class derives from.
        own: the arguments that are not common to all optimizers, in Keras's order.
    """
    lines = "".join(f"{k}: {_MEANING[k]}\n        " for k in own if k in _MEANING)
    parameters = own | {k: v for k, v in ARGUMENTS.items() if k not in own}
    return declare(
        base,
        class_name,
        _ABOUT.format(summary=summary, own=lines),
        parameters | {"name": None, "**kwargs": None},
        formula=FORMULAS[formula],
        formula_arguments=tuple(
            k for k in own if k not in ("learning_rate", "name") and k not in ARGUMENTS
        ),
        **({"validate": validate} if validate else {}),
    )


def _validate_sgd(self: Any) -> None:
    if not isinstance(self.momentum, float) or not 0 <= self.momentum <= 1:
        raise ValueError("`momentum` must be a float between [0, 1].")


def _validate_adamw(self: Any) -> None:
    if self.weight_decay is None:
        raise ValueError("Argument `weight_decay` must be a float. Received: weight_decay=None")


def _validate_lion(self: Any) -> None:
    if not 0 < self.beta_1 <= 1:
        raise ValueError(
            "Argument `beta_1` must be in the [0, 1] range. Otherwise, the optimizer degenerates "
            f"to SignSGD. Received: beta_1={self.beta_1}."
        )


def _validate_ftrl(self: Any) -> None:
    for name in self.formula_arguments:
        value = getattr(self, name)
        invalid = value > 0.0 if name == "learning_rate_power" else value < 0.0
        if invalid and name != "beta":
            word = "negative" if name == "learning_rate_power" else "positive"
            raise ValueError(f"`{name}` needs to be {word} or zero. Received: {name}={value}.")


_RATE = {"learning_rate": 0.001}
_BETAS = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}

SGD = _optimizer(
    "SGD", "Gradient descent, with momentum if asked for.", "sgd", _validate_sgd,
    learning_rate=0.01, momentum=0.0, nesterov=False,
)  # fmt: skip
Adam = _optimizer(
    "Adam", "Moving averages of the gradient and of its square (Kingma & Ba).", "adam",
    **_RATE, **_BETAS, amsgrad=False,
)  # fmt: skip
AdamW = _optimizer(
    "AdamW", "Adam with decoupled weight decay (Loshchilov & Hutter).", "adam", _validate_adamw,
    **_RATE, weight_decay=0.004, **_BETAS, amsgrad=False,
)  # fmt: skip
RMSprop = _optimizer(
    "RMSprop", "The gradient over the root of the moving average of its square.", "rmsprop",
    **_RATE, rho=0.9, momentum=0.0, epsilon=1e-7, centered=False,
)  # fmt: skip
Adafactor = _optimizer(
    "Adafactor", "Squared gradients kept as row and column means (Shazeer & Stern).", "adafactor",
    **_RATE, beta_2_decay=-0.8, epsilon_1=1e-30, epsilon_2=1e-3, clip_threshold=1.0,
    relative_step=True,
)  # fmt: skip
Adagrad = _optimizer(
    "Adagrad", "The gradient over the root of the sum of its squares.", "adagrad",
    **_RATE, initial_accumulator_value=0.1, epsilon=1e-7,
)  # fmt: skip
Adadelta = _optimizer(
    "Adadelta", "The gradient scaled by the sizes of past changes and gradients (Zeiler).",
    "adadelta", **_RATE, rho=0.95, epsilon=1e-7,
)  # fmt: skip
Adamax = _optimizer("Adamax", "Adam with the infinity norm.", "adamax", **_RATE, **_BETAS)
Nadam = _optimizer("Nadam", "Adam with Nesterov's momentum (Dozat).", "nadam", **_RATE, **_BETAS)
Lamb = _optimizer(
    "Lamb", "Adam with steps in proportion to each parameter's norm (You et al.).", "lamb",
    **_RATE, **_BETAS,
)  # fmt: skip
Lion = _optimizer(
    "Lion", "The sign of a moving average of the gradient (Chen et al.).", "lion", _validate_lion,
    **_RATE, beta_1=0.9, beta_2=0.99,
)  # fmt: skip
Ftrl = _optimizer(
    "Ftrl", "Follow the regularized leader (McMahan et al.).", "ftrl", _validate_ftrl,
    **_RATE, learning_rate_power=-0.5, initial_accumulator_value=0.1,
    l1_regularization_strength=0.0, l2_regularization_strength=0.0,
    l2_shrinkage_regularization_strength=0.0, beta=0.0,
)  # fmt: skip
ScheduleFreeAdamW = _optimizer(
    "ScheduleFreeAdamW", "Adam with the mean of its path, not a schedule (Defazio et al.).",
    "schedule_free_adamw", learning_rate=0.0025, beta_1=0.9, beta_2=0.999, epsilon=1e-8,
    warmup_steps=0,
)  # fmt: skip


Muon = _optimizer(
    "Muon", "Momentum made orthogonal for matrices, and Adam for the rest (Jordan et al.).",
    "muon", base=MatrixOptimizer, **_RATE, adam_beta_1=0.9, adam_beta_2=0.999,
    adam_weight_decay=0.004, epsilon=1e-7, **ARGUMENTS | {"weight_decay": 0.004}, name=None,
    exclude_layers=None, exclude_embeddings=True, muon_a=3.4445, muon_b=-4.7750, muon_c=2.0315,
    adam_lr_ratio=1, momentum=0.95, ns_steps=5, nesterov=True, rms_rate=0.2,
)  # fmt: skip

_CLASSES = {
    k: v
    for k, v in globals().items()
    if isinstance(v, type) and issubclass(v, Optimizer) and v is not MatrixOptimizer
}
_TABLE = _CLASSES | {k.lower(): v for k, v in _CLASSES.items()}


def serialize(optimizer: Any) -> Any:
    """The config of an optimizer."""
    return registry.serialize_keras_object(optimizer)


def deserialize(config: Any, custom_objects: Any = None) -> Any:
    """The optimizer of a config; the class name may be in lower case."""
    cls = _TABLE.get(str(config.get("class_name")).lower())
    config = config | {"class_name": cls.__name__} if cls else config
    return registry.deserialize_keras_object(config, custom_objects)


def get(identifier: Any) -> Any:
    """An optimizer from a name, a config, a class, an optimizer, one of optax, or None.

    >>> get("adam").get_config()["beta_1"]
    0.9
    """
    if is_optax(identifier):
        return OptaxOptimizer(identifier)
    if isinstance(identifier, dict):
        optimizer = deserialize(identifier)
    elif isinstance(identifier, str):
        optimizer = registry.get(_TABLE.get(identifier.lower(), identifier), _TABLE, "optimizer")
    else:
        optimizer = registry.get(identifier, _TABLE, "optimizer")
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        raise ValueError(f"Could not interpret optimizer identifier: {identifier}")
    return optimizer


__all__ = [
    "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "Ftrl", "Lamb", "Lion",
    "LossScaleOptimizer", "MatrixOptimizer", "MultiOptimizer", "Muon", "Nadam", "OptaxOptimizer",
    "Optimizer", "OptimizerMap", "RMSprop", "SGD", "ScheduleFreeAdamW", "deserialize", "get",
    "legacy", "schedules", "serialize",
]  # fmt: skip
