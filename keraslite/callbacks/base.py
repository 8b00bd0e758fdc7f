"""Callback: what `fit`, `evaluate` and `predict` tell others while they run; logs and history."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite.visualization import plot_history


class Callback:
    """A set of hooks that the trainer calls; subclasses write those that they need.

    `logs` are the names and values of the losses and metrics so far. A hook that nobody wrote
    costs nothing, and the logs of a batch are read from the device only when they are looked at.

    >>> class Shout(Callback):
    ...     def on_epoch_end(self, epoch, logs=None):
    ...         print("epoch", epoch, "done")
    >>> Shout().on_epoch_end(0)
    epoch 0 done
    """

    # Whether the callback deals with losses that are not numbers, so that `fit` does not raise.
    watches_nan = False
    # Whether its hooks run after those of the others, but for `on_train_begin`.
    runs_last = False
    # The attributes that belong to the state of training, and come back when it is resumed:
    # numbers, texts, None, and lists of arrays.
    state_names: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.params: Any = None
        self._model: Any = None

    @property
    def model(self) -> Any:
        """The model that is trained, evaluated or run."""
        return self._model

    def set_model(self, model: Any) -> None:
        """Take the model."""
        self._model = model

    def set_params(self, params: dict[str, Any]) -> None:
        """Take the parameters of the run: `verbose`, `epochs`, `steps`."""
        self.params = params

    def get_state(self) -> dict[str, Any]:
        """Return what BackupAndRestore saves of this callback: the attributes in `state_names`."""
        return {name: getattr(self, name) for name in self.state_names}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take back what `get_state` returned, after `on_train_begin`.

        Args:
            state: values by the name of the attribute.
        """
        for name, value in state.items():
            setattr(self, name, value)

    def on_train_begin(self, logs: Any = None) -> None:
        """`fit` begins."""

    def on_train_end(self, logs: Any = None) -> None:
        """`fit` ends."""

    def on_train_interrupt(self, logs: Any = None) -> None:
        """Ctrl-C stopped `fit` after a whole step; by default the same as its end."""
        self.on_train_end(logs)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """An epoch of `fit` begins."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """An epoch of `fit` ends; the logs hold the validation's results too, as `val_...`."""

    def on_batch_begin(self, batch: int, logs: Any = None) -> None:
        """The old name of `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Any = None) -> None:
        """The old name of `on_train_batch_end`."""

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """A step of training begins."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """A step of training was started; its logs may still be under way on the device."""
        self.on_batch_end(batch, logs)

    def on_test_begin(self, logs: Any = None) -> None:
        """`evaluate` or a validation begins."""

    def on_test_end(self, logs: Any = None) -> None:
        """`evaluate` or a validation ends."""

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        """A step of evaluation begins."""

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """A step of evaluation was started."""

    def on_predict_begin(self, logs: Any = None) -> None:
        """`predict` begins."""

    def on_predict_end(self, logs: Any = None) -> None:
        """`predict` ends."""

    def on_predict_batch_begin(self, batch: int, logs: Any = None) -> None:
        """A step of prediction begins."""

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        """A step of prediction was started; `logs["outputs"]` are its outputs."""


HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))


class Logs(dict):
    """Names and values, where values on a device become Python numbers when they are read.

    >>> Logs(loss=np.float32(0.5))["loss"]
    0.5
    """

    def raw(self, name: str) -> Any:
        """A value as it is, without waiting for it; None if there is none."""
        return dict.get(self, name)

    def __getitem__(self, name: str) -> Any:
        value = dict.__getitem__(self, name)
        if type(value) is not float:
            value = number(value)
            dict.__setitem__(self, name, value)
        return value

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a name, or the default."""
        return self[name] if name in self else default  # noqa: SIM401 - this is that `get`

    # dict() and ** read through these instead of copying what is stored, since __iter__ is ours.
    def __iter__(self) -> Iterator[str]:
        return iter(list(dict.keys(self)))

    def keys(self) -> Any:
        """The names."""
        return list(self)

    def values(self) -> Any:
        """The values, read."""
        return [self[name] for name in self]

    def items(self) -> Any:
        """The names and the values, read."""
        return [(name, self[name]) for name in self]

    def copy(self) -> dict[str, Any]:
        """A plain dict of the values, read."""
        return dict(self.items())

    def __or__(self, other: Any) -> dict[str, Any]:
        return {**self, **other}

    def __repr__(self) -> str:
        return repr(self.copy())


def number(value: Any) -> Any:
    """A scalar of any backend as a float, an array as numpy, anything else as it is."""
    if isinstance(value, str | bytes | dict | list | tuple | None):
        return value
    if backends.of(value) is None and not isinstance(value, np.ndarray | np.generic | int):
        return value
    array = backends.to_numpy(value)
    return float(array) if array.ndim == 0 else array


class History(Callback):
    """The logs of every epoch; `fit` returns one.

    `history` holds a list for each name, `epoch` the numbers of the epochs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[Any]] = {}
        self.epoch: list[int] = []

    def set_model(self, model: Any) -> None:
        """Take the model, which knows its history from now on."""
        super().set_model(model)
        model.history = self

    def on_train_begin(self, logs: Any = None) -> None:
        """Begin to count the epochs of this `fit`."""
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Note an epoch."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)
        self.model.history = self

    def plot(self, metrics: Sequence[str] | None = None, path: Any = None) -> Any:
        """Draw the loss and each metric over the epochs, with those of the validation.

        Args:
            metrics: the names to draw, without "val_"; all by default.
            path: of a file to write instead.

        Returns:
            A figure of matplotlib, where it is not written.

        Raises:
            ValueError: there is no epoch, or a name is unknown.
            ImportError: matplotlib is not installed.
        """
        return plot_history(self.history, metrics, self.epoch, path)

    def __repr__(self) -> str:
        return f"<History of {len(self.epoch)} epochs>"
