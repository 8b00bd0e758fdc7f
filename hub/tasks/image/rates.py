"""Learning rates and averages of the optimizer of an image task, as `fit` sets them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

import keraslite as keras
from keraslite.optimizers.schedules import rate_on_host


def plain_optimizers(optimizer: Any) -> list[Any]:
    """Return the optimizers that have a rate: those inside of one that scales or is several.

    Args:
        optimizer: the optimizer of a model.
    """
    inner = getattr(optimizer, "inner_optimizer", None)
    if inner is not None:
        return plain_optimizers(inner)
    return list(getattr(optimizer, "optimizers", None) or [optimizer])


@contextmanager
def kept_rates(optimizer: Any) -> Iterator[None]:
    """Give an optimizer its learning rate back at the end of a block.

    Args:
        optimizer: the optimizer of a model.

    Raises:
        ValueError: its rate is a schedule.
    """
    optimizers = plain_optimizers(optimizer)
    if any(callable(o.rate_source) for o in optimizers):
        raise ValueError(
            "warmup_epochs makes a schedule of the rate of the optimizer, which must be a number, "
            "got a schedule: leave one of them out."
        )
    rates = rates_of(optimizers)
    try:
        yield
    finally:
        for one, rate in zip(optimizers, rates, strict=True):
            one.learning_rate = rate


def rates_of(optimizers: Sequence[Any]) -> list[float]:
    """Return the rates of optimizers whose rate is a number.

    Args:
        optimizers: the optimizers.
    """
    return [float(keras.ops.convert_to_numpy(o.rate_source.value)) for o in optimizers]


def keep_average(optimizer: Any, momentum: float) -> None:
    """Let an optimizer keep a moving average of the weights.

    Args:
        optimizer: the optimizer of a model.
        momentum: of the average.

    Raises:
        ValueError: it has made its state without averages, or with others.
    """
    for one in plain_optimizers(optimizer):
        if one.built and (one.use_ema, one.ema_momentum) != (True, momentum):
            raise ValueError(
                f"ema={momentum} must be given to the first training after compile, since the "
                "optimizer makes its averages there: call compile anew."
            )
        one.use_ema, one.ema_momentum = True, momentum


def decay_rates(optimizer: Any, groups: Sequence[Sequence[Any]], decay: float) -> Any:
    """Return an optimizer that trains each group of layers at a rate of its own.

    That of the last group is the optimizer's; each group before has `decay` times the rate of the
    next (Clark et al., 2020, arXiv:2003.10555; Bao et al., 2021, arXiv:2106.08254).

    Args:
        optimizer: the optimizer of a model, without state; or what this returned before.
        groups: the variables of each group, from the images to the classes.
        decay: from 0 to 1.

    Raises:
        ValueError: the optimizer has state, several rates, or a schedule.
    """
    plain = plain_optimizers(optimizer)
    if len(plain) == 1 and not plain[0].built and not callable(plain[0].rate_source):
        return _with_rates(optimizer, plain[0], groups, decay)
    rates = None if any(callable(o.rate_source) for o in plain) else rates_of(plain)
    wanted = rates and [rates[-1] * decay**n for n in reversed(range(len(groups)))]
    if rates is None or len(rates) != len(groups) or not np.allclose(rates, wanted):
        raise ValueError(
            f"layer_decay={decay} must be given to the first training after compile, with an "
            f"optimizer of one constant rate, got {optimizer}: call compile anew."
        )
    return optimizer


def _with_rates(optimizer: Any, plain: Any, groups: Sequence[Sequence[Any]], decay: float) -> Any:
    """Return the same optimizer over one for each group, the last of which is `plain`."""
    if inner := getattr(optimizer, "inner_optimizer", None):
        optimizer.inner_optimizer = _with_rates(inner, plain, groups, decay)
        return optimizer
    if plain.global_clipnorm:
        raise ValueError("layer_decay is for an optimizer without global_clipnorm: use clipnorm.")
    rate, config = rates_of([plain])[0], plain.get_config()
    chosen = {}
    for above, variables in enumerate(reversed(groups)):
        own = plain
        if above:
            own = type(plain).from_config({**config, "name": f"{plain.name}_{above}"})
            own.learning_rate = rate * decay**above
            own.exclude_from_weight_decay(*plain.undecayed)
        chosen |= {variable.path: own for variable in variables}
    optimizers = keras.optimizers
    return optimizers.MultiOptimizer(optimizers.OptimizerMap(plain, dict(reversed(chosen.items()))))


def recipe_callbacks(
    warmup_epochs: float | None, early_stopping: int | None, ema: float | None,
    monitor: str = "val_loss", mode: str = "min",
) -> list[Any]:  # fmt: skip
    """Return the callbacks of a recipe, which go before those of the caller.

    Args:
        warmup_epochs: how long the rate rises, before it falls to 0; None leaves it alone.
        early_stopping: how many epochs without a better value are borne; None for no end.
        ema: the momentum of the moving average of the weights; None for none.
        monitor: the value.
        mode: whether a better one is "min" or "max".
    """
    stops, out = early_stopping is not None, []
    if warmup_epochs is not None:
        out.append(WarmUpCosine(warmup_epochs))
    if ema is not None:  # the weights that are validated are those that are kept
        out.append(keras.callbacks.SwapEMAWeights(swap_on_epoch=stops))
    if stops:
        out.append(
            keras.callbacks.EarlyStopping(
                monitor, patience=early_stopping, mode=mode, restore_best_weights=True
            )
        )
    return out


class WarmUpCosine(keras.callbacks.Callback):
    """Lets the learning rate rise from 0 to that of the optimizer, and fall by a cosine to 0.

    Args:
        warmup_epochs: how long it rises.
    """

    def __init__(self, warmup_epochs: float):
        super().__init__()
        self.warmup_epochs = warmup_epochs
        self._schedules: list[tuple[Any, Any]] = []
        self._epoch = self._steps = 0

    def set_model(self, model: Any) -> None:
        """Take the model, and the rate of its optimizer, which a resumed training changes later."""
        super().set_model(model)
        optimizers = plain_optimizers(model.optimizer)
        self._schedules = list(zip(optimizers, rates_of(optimizers), strict=True))

    def on_train_begin(self, logs: Any = None) -> None:
        """Make the schedule."""
        epochs, steps = self.params["epochs"], self.params["steps"]
        if steps is None:
            raise ValueError(
                "warmup_epochs needs data whose number of batches is known: give steps_per_epoch."
            )
        if not self.warmup_epochs < epochs:
            raise ValueError(
                f"warmup_epochs must be less than epochs, {epochs}, got {self.warmup_epochs}."
            )
        self._steps, warm = steps, round(self.warmup_epochs * steps)
        cosine = keras.optimizers.schedules.CosineDecay
        self._schedules = [
            (optimizer, cosine(0.0, epochs * steps - warm, warmup_target=rate, warmup_steps=warm))
            for optimizer, rate in self._schedules
        ]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note the epoch."""
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Set the rate of the step."""
        for optimizer, schedule in self._schedules:
            optimizer.learning_rate = rate_on_host(schedule, self._epoch * self._steps + batch)
