"""Small callbacks: LambdaCallback, LearningRateScheduler, TerminateOnNaN, CSVLogger."""

import csv
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from keraslite.callbacks.base import Callback, Logs, number
from keraslite.callbacks.monitor import learning_rate, learning_rates, rated_optimizers
from keraslite.utils.progress import message


class LambdaCallback(Callback):
    """A callback made of functions.

    Args:
        on_epoch_begin: a function of (epoch, logs).
        on_epoch_end: a function of (epoch, logs).
        on_train_begin: a function of (logs).
        on_train_end: a function of (logs).
        on_train_batch_begin: a function of (batch, logs).
        on_train_batch_end: a function of (batch, logs).
        kwargs: functions for further hooks, by their names.

    >>> LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch)).on_epoch_end(3, {})
    3
    """

    def __init__(
        self,
        on_epoch_begin: Callable | None = None,
        on_epoch_end: Callable | None = None,
        on_train_begin: Callable | None = None,
        on_train_end: Callable | None = None,
        on_train_batch_begin: Callable | None = None,
        on_train_batch_end: Callable | None = None,
        **kwargs: Any,
    ):
        super().__init__()
        given = {
            "on_epoch_begin": on_epoch_begin, "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin, "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end, **kwargs,
        }  # fmt: skip
        self.__dict__.update({name: f for name, f in given.items() if f is not None})


class LearningRateScheduler(Callback):
    """Sets the learning rate at the beginning of each epoch.

    Args:
        schedule: a function of (epoch, learning rate so far), or of the epoch alone, that gives
            the new learning rate.
        verbose: 1 says what happens.

    >>> LearningRateScheduler(lambda epoch, rate: rate * 0.9).verbose
    0
    """

    def __init__(self, schedule: Callable, verbose: int = 0):
        super().__init__()
        self.schedule, self.verbose = schedule, verbose

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Set the learning rate, or that of each of several optimizers."""
        for name, optimizer in rated_optimizers(self.model.optimizer).items():
            before = learning_rate(optimizer)
            try:
                rate = self.schedule(epoch, before)
            except TypeError:  # as in Keras: a function of the epoch alone
                rate = self.schedule(epoch)
            if isinstance(rate, bool) or not isinstance(rate, float | int | np.floating):
                raise ValueError(f"The schedule must give a number, got {rate!r}.")
            optimizer.learning_rate = float(rate)
            if self.verbose:
                what = name.replace("_", " ", 1)
                message(f"\nEpoch {epoch + 1}: the {what} is {float(rate):g}.")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Note the learning rate in the logs."""
        if logs is not None:
            logs.update(learning_rates(self.model.optimizer))


class TerminateOnNaN(Callback):
    """Stops training when the loss is not a finite number, and says at which step.

    The losses are looked at a few steps later, all at once, so that the device is not waited for
    at every step.

    Args:
        raise_error: whether it raises RuntimeError instead of ending `fit` in order.
    """

    watches_nan = True
    _LAG = 16

    def __init__(self, raise_error: bool = False):
        super().__init__()
        self.raise_error = raise_error
        self._epoch, self._waiting = 0, []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note the epoch."""
        self._epoch, self._waiting = epoch, []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Keep the loss; look at the kept ones now and then."""
        loss = logs.raw("loss") if isinstance(logs, Logs) else (logs or {}).get("loss")
        if loss is not None:
            self._waiting.append((batch, loss))
        if len(self._waiting) >= self._LAG:
            self._check()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Look at the last losses."""
        self._check()

    def _check(self) -> None:
        waiting, self._waiting = self._waiting, []
        for batch, loss in waiting:
            value = number(loss)
            if not np.isfinite(value).all():
                text = (
                    f"The loss is {value} at epoch {self._epoch + 1}, step {batch}: "
                    "the training stops."
                )
                if self.raise_error:
                    raise RuntimeError(text)
                message(f"\n{text}")
                self.model.stop_training = True
                return


class CSVLogger(Callback):
    """Writes the logs of every epoch to a CSV file.

    Args:
        filename: the file.
        separator: what stands between the columns.
        append: whether an existing file is added to.

    >>> CSVLogger("log.csv").separator
    ','
    """

    def __init__(self, filename: Any, separator: str = ",", append: bool = False):
        super().__init__()
        self.filename, self.append = os.fspath(filename), append
        self.sep = self.separator = separator
        self._file: Any = None
        self._writer: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Open the file."""
        self._close()
        self._has_header = (
            self.append and os.path.exists(self.filename) and os.path.getsize(self.filename) > 0
        )
        # Line ends are the csv module's own.
        self._file = open(self.filename, "a" if self.append else "w", newline="")  # noqa: SIM115

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write a row, of the columns that the first row had; missing values are NA."""
        logs = logs or {}
        if self._writer is None:
            names = sorted(logs)
            if not any(n.startswith("val_") for n in names):
                names += [f"val_{n}" for n in names]
            self._writer = csv.DictWriter(
                self._file, ["epoch", *names], restval="NA", extrasaction="ignore",
                delimiter=self.separator,
            )  # fmt: skip
            if not self._has_header:
                self._writer.writeheader()
        self._writer.writerow({"epoch": epoch} | {k: _cell(v) for k, v in logs.items()})
        self._file.flush()

    def on_train_end(self, logs: Any = None) -> None:
        """Close the file."""
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = self._writer = None


def _cell(value: Any) -> Any:
    if np.ndim(value):
        return f"[{', '.join(map(str, np.asarray(value).tolist()))}]"
    return value
