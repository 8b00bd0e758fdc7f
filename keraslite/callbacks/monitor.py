"""Callbacks that watch one quantity: EarlyStopping, ModelCheckpoint, ReduceLROnPlateau."""

import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from keraslite import ops
from keraslite.callbacks.base import Callback, number
from keraslite.saving.model_file import MODEL_ENDINGS
from keraslite.saving.weight_files import WEIGHT_ENDINGS, check_ending
from keraslite.utils.progress import message


class MonitorCallback(Callback):
    """The base of callbacks that ask whether a quantity has become better.

    `monitor_op` is the comparison, `ops.less` or `ops.greater`; None until it follows from a name.

    Args:
        monitor: the name of the quantity in the logs.
        mode: "min", "max", or "auto" to go by the name.
        baseline: what the first value is compared with.
        min_delta: the least change that counts.
    """

    state_names = ("best",)

    def __init__(
        self,
        monitor: str = "val_loss",
        mode: str = "auto",
        baseline: float | None = None,
        min_delta: float = 0,
    ):
        super().__init__()
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"mode must be 'auto', 'min' or 'max', got {mode!r}.")
        self.monitor, self.mode, self.best = monitor, mode, baseline
        self.min_delta = abs(min_delta)
        comparisons = {"auto": None, "min": ops.less, "max": ops.greater}
        self.monitor_op: Callable | None = comparisons[mode]

    def _is_improvement(self, value: float, reference: float | None) -> bool:
        if self.monitor_op is None:
            self.monitor_op = ops.greater if self._find_direction() else ops.less
        if reference is None:
            return True
        margin = self.min_delta if self.monitor_op is ops.less else -self.min_delta
        return bool(self.monitor_op(value + margin, reference))

    def _find_direction(self) -> bool:
        name = self.monitor.removeprefix("val_")
        if name == "loss" or name.endswith("_loss"):
            return False
        for metric_name, metric in _named_metrics(self.model):
            direction = getattr(metric, "_direction", None)
            if metric_name == name and direction is not None:
                return direction == "up"
        raise ValueError(
            f"{type(self).__name__} does not know whether {self.monitor!r} gets better by growing "
            "or by shrinking: give mode='max' or mode='min'."
        )

    def _value(self, logs: Any) -> float | None:
        """The watched quantity, or None with a warning."""
        value = (logs or {}).get(self.monitor)
        if value is None:
            warnings.warn(
                f"{type(self).__name__} watches {self.monitor!r}, which is not in the logs. "
                f"They have: {', '.join(logs or {}) or 'nothing'}.",
                stacklevel=4,
            )
        return value

    def _tell(self, epoch: int, text: str) -> None:
        if getattr(self, "verbose", 0):
            message(f"\nEpoch {epoch + 1}: {text}")


def _named_metrics(model: Any) -> list[tuple[str, Any]]:
    objectives = model.__dict__.get("_kl_objectives")
    named = [] if objectives is None else [
        (name, metric) for name, (_, metric, _) in zip(objectives.names, objectives.metrics)
    ]  # fmt: skip
    return named + [(m.name, m) for m in model.metrics]


class EarlyStopping(MonitorCallback):
    """Stops training when a quantity has not become better for some epochs.

    Args:
        monitor: the name of the quantity.
        min_delta: the least change that counts as better.
        patience: how many epochs without a better value are borne.
        verbose: 1 prints a message.
        mode: "min", "max" or "auto".
        baseline: a value that must be surpassed.
        restore_best_weights: whether the weights of the best epoch are put back at the end.
        start_from_epoch: how many epochs are not watched.

    >>> EarlyStopping(patience=3).monitor
    'val_loss'
    """

    state_names = ("best", "wait", "stopped_epoch", "best_epoch", "best_weights")

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ):
        super().__init__(monitor, mode, min_delta=min_delta)
        self.patience, self.verbose, self.baseline = patience, verbose, baseline
        self.restore_best_weights, self.start_from_epoch = restore_best_weights, start_from_epoch
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self.best_weights: list[Any] | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Forget an earlier training."""
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self.best, self.best_weights = None, None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Compare, and stop the training when patience is at its end."""
        value = self._value(logs)
        if value is None or epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            self.best_weights, self.best_epoch = self.model.get_weights(), epoch
        self.wait += 1
        if self._is_improvement(value, self.best):
            self.best, self.best_epoch = value, epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            if self.baseline is None or self._is_improvement(value, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Any = None) -> None:
        """Put the best weights back."""
        if self.stopped_epoch:
            self._tell(self.stopped_epoch, "early stopping")
        if self.best_weights is not None:
            self._tell(self.best_epoch, "these were the best weights; they are put back")
            self.model.set_weights(self.best_weights)


class ModelCheckpoint(MonitorCallback):
    """Saves the model, or its weights, during training; a file is never half written.

    Args:
        filepath: where to; may name the epoch, the batch and the logs:
            "{epoch:02d}-{val_loss:.2f}.keras".
        monitor: the quantity for `save_best_only`.
        verbose: 1 prints a message.
        save_best_only: whether only the best model so far is kept.
        save_weights_only: whether the weights alone are saved: as `.weights.h5` or `.safetensors`.
        mode: "min", "max" or "auto".
        save_freq: "epoch", or a number of batches.
        initial_value_threshold: a value that the first model must surpass.

    >>> ModelCheckpoint("best.keras", save_best_only=True).save_freq
    'epoch'
    """

    def __init__(
        self,
        filepath: Any,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ):
        super().__init__(monitor, mode, initial_value_threshold)
        self.filepath, self.verbose = os.fspath(filepath), verbose
        check_ending(self.filepath, WEIGHT_ENDINGS[:2] if save_weights_only else MODEL_ENDINGS)
        if save_freq != "epoch" and (not isinstance(save_freq, int) or save_freq < 1):
            raise ValueError(f"save_freq is 'epoch' or a number of batches, got {save_freq!r}.")
        self.save_best_only, self.save_weights_only = save_best_only, save_weights_only
        self.save_freq = save_freq
        self._steps = StepCounter(save_freq)
        self._epoch = 0

    def get_state(self) -> dict[str, Any]:
        """Return the best value, and how many batches have gone by since the last saving."""
        return super().get_state() | {"steps": self._steps.seen, "last": self._steps.last}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take back what `get_state` returned."""
        self.best, self._steps.seen, self._steps.last = state["best"], state["steps"], state["last"]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Save after so many batches."""
        if self._steps.reached(batch):
            self._save(self._epoch, batch, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Save after an epoch."""
        if self.save_freq == "epoch":
            self._save(epoch, None, logs)

    def _save(self, epoch: int, batch: int | None, logs: Any) -> None:
        logs = dict(logs or {})
        if batch is not None:
            logs.setdefault("batch", batch + 1)
        try:
            path = self.filepath.format(**{**logs, "epoch": epoch + 1})
        except KeyError as error:
            raise KeyError(
                f"The filepath {self.filepath!r} names {error}, which is not in the logs: "
                f"{sorted(logs)}."
            ) from None
        if self._is_wanted(epoch, logs, path):
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            save = self.model.save_weights if self.save_weights_only else self.model.save
            save(path, overwrite=True)

    def _is_wanted(self, epoch: int, logs: dict[str, Any], path: str) -> bool:
        if not self.save_best_only:
            self._tell(epoch, f"saving the model to {path}")
            return True
        value = self._value(logs)
        if value is None:  # as in Keras: better too many than none
            return True
        if np.ndim(value):
            warnings.warn(
                f"ModelCheckpoint watches {self.monitor!r}, which must be a number for "
                f"save_best_only=True, got an array of shape {np.shape(value)}: every model is "
                "saved.",
                stacklevel=4,
            )
            return True
        before = "nothing" if self.best is None else f"{self.best:.5f}"
        if not self._is_improvement(value, self.best):
            self._tell(epoch, f"{self.monitor} is not better than {before}")
            return False
        self._tell(epoch, f"{self.monitor} from {before} to {value:.5f}, saving to {path}")
        self.best = value
        return True


class StepCounter:
    """Counts batches, over epochs too, and tells when the next saving is due.

    Args:
        every: the number of batches; anything but an int stands for never.

    `seen` counts the batches since the last saving, `total` all of them, and `last` is the number
    of the last batch.
    """

    def __init__(self, every: Any):
        self.every = every if isinstance(every, int) and every else None
        self.seen, self.total, self.last = 0, 0, -1

    def reached(self, batch: int) -> bool:
        """Note a batch; several may have gone by since the last note."""
        if self.every is None:
            return False
        passed = batch + 1 if batch <= self.last else batch - self.last
        self.seen, self.total, self.last = self.seen + passed, self.total + passed, batch
        if self.seen < self.every:
            return False
        self.seen = 0
        return True


class ReduceLROnPlateau(MonitorCallback):
    """Makes the learning rate smaller when a quantity has not become better for some epochs.

    Args:
        monitor: the name of the quantity.
        factor: what the learning rate is multiplied by.
        patience: how many epochs without a better value are borne.
        verbose: 1 prints a message.
        mode: "min", "max" or "auto".
        min_delta: the least change that counts as better.
        cooldown: how many epochs are not counted after a change.
        min_lr: the least learning rate.

    >>> ReduceLROnPlateau(factor=0.5).factor
    0.5
    """

    state_names = ("best", "wait", "cooldown_counter")

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(monitor, mode, min_delta=min_delta)
        if kwargs:
            raise TypeError(f"ReduceLROnPlateau does not know the arguments {sorted(kwargs)}.")
        if factor >= 1.0:
            raise ValueError(f"ReduceLROnPlateau needs a factor below 1, got {factor}.")
        self.factor, self.patience, self.verbose = factor, patience, verbose
        self.cooldown, self.min_lr = cooldown, min_lr
        self.wait = self.cooldown_counter = 0

    def on_train_begin(self, logs: Any = None) -> None:
        """Forget an earlier training."""
        self.best, self.wait, self.cooldown_counter = None, 0, 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Compare, and lower the learning rate; it is noted in the logs."""
        logs = {} if logs is None else logs
        logs.update(learning_rates(self.model.optimizer))
        value = self._value(logs)
        if value is None:
            return
        if self.in_cooldown():
            self.cooldown_counter -= 1
            self.wait = 0
        if self._is_improvement(value, self.best):
            self.best, self.wait = value, 0
        elif not self.in_cooldown():
            self.wait += 1
            if self.wait >= self.patience and self._lower(epoch):
                self.cooldown_counter, self.wait = self.cooldown, 0

    def _lower(self, epoch: int) -> bool:
        """Lower what is above the least learning rate; return whether there was any."""
        lowered = False
        for name, optimizer in rated_optimizers(self.model.optimizer).items():
            rate = learning_rate(optimizer)
            if rate > np.float32(self.min_lr):
                optimizer.learning_rate = new = max(rate * self.factor, self.min_lr)
                self._tell(epoch, f"{name.replace('_', ' ', 1)} goes down to {new:g}")
                lowered = True
        return lowered

    def in_cooldown(self) -> bool:
        """Whether epochs are not counted now."""
        return self.cooldown_counter > 0


def learning_rate(optimizer: Any) -> float:
    """The learning rate of an optimizer now."""
    if not hasattr(optimizer, "learning_rate"):
        raise ValueError(f"The optimizer {optimizer!r} has no learning rate.")
    return number(getattr(optimizer.learning_rate, "value", optimizer.learning_rate))


def rated_optimizers(optimizer: Any) -> dict[str, Any]:
    """Return the optimizers that have a learning rate, by the name that it has in logs.

    Args:
        optimizer: one, or a MultiOptimizer of several.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of a LossScaleOptimizer
    inner = getattr(optimizer, "optimizers", None)
    if inner is None:
        return {"learning_rate": optimizer}
    return {f"learning_rate_{o.name}": o for o in inner}


def learning_rates(optimizer: Any) -> dict[str, float]:
    """Return the learning rate, or that of each of several optimizers, by its name in logs.

    Args:
        optimizer: one, or a MultiOptimizer of several.
    """
    return {name: learning_rate(o) for name, o in rated_optimizers(optimizer).items()}
