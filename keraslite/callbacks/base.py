"""Callback and CallbackList: what `fit`, `evaluate` and `predict` tell others while they run."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import tree


class Callback:
    """A set of hooks that the trainer calls; subclasses write those that they need.

    `logs` are the names and values of the losses and metrics so far. A hook that nobody wrote
    costs nothing, and the logs of a batch are read from the device only when they are looked at.

    >>> class Shout(Callback):
    ...     def on_epoch_end(self, epoch, logs=None):
    ...         print("epoch", epoch, "done")
    >>> CallbackList([Shout()]).on_epoch_end(0)
    epoch 0 done
    """

    # Whether the callback deals with losses that are not numbers, so that `fit` does not raise.
    watches_nan = False

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
        """Take what the trainer was asked for: `verbose`, `epochs`, `steps`."""
        self.params = params

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


def _hook(callback: Any, name: str) -> Callable | None:
    """The method of a callback for an event, or None if nobody wrote one."""
    found = getattr(callback, name, None)
    if getattr(found, "__func__", None) is not getattr(Callback, name):
        return found
    if name.startswith("on_train_batch_"):
        return _hook(callback, name.replace("on_train_", "on_"))
    return None


def _expand(callbacks: Any) -> list[Any]:
    found = [] if callbacks is None else tree.flatten(callbacks)
    parts = ([*c.callbacks] if isinstance(c, CallbackList) else [c] for c in found)
    return [c for part in parts for c in part if c is not None]


class CallbackList(Callback):
    """Many callbacks as one; every event goes to those that have a hook for it.

    Args:
        callbacks: callbacks, nested.
        add_history: whether a History is added where there is none.
        add_progbar: whether a ProgbarLogger is added where there is none.
        model: the model.
        params: what the callbacks are told: `verbose`, `epochs`, `steps`.

    >>> CallbackList([], add_history=True).callbacks
    [<History of 0 epochs>]
    """

    def __init__(
        self,
        callbacks: Any = None,
        add_history: bool = False,
        add_progbar: bool = False,
        model: Any = None,
        **params: Any,
    ):
        from keraslite.callbacks.progress import ProgbarLogger

        super().__init__()
        self.callbacks = _expand(callbacks)
        for wanted, kind in ((add_history, History), (add_progbar, ProgbarLogger)):
            if wanted and not any(isinstance(c, kind) for c in self.callbacks):
                self.callbacks.append(kind())
        self._bind()
        self.set_model(model)
        self.set_params(params)

    def _bind(self) -> None:
        self._hooks: dict[str, list[Callable]] = {
            name: [f for c in self.callbacks if (f := _hook(c, name)) is not None] for name in HOOKS
        }
        # Of these every callback has one, since the default leads to another hook.
        self._hooks["on_train_interrupt"] = [
            f for c in self.callbacks
            if (f := getattr(c, "on_train_interrupt", getattr(c, "on_train_end", None))) is not None
        ]  # fmt: skip
        self.watches_nan = any(getattr(c, "watches_nan", False) for c in self.callbacks)

    def append(self, callback: Any) -> None:
        """Add a callback."""
        self.callbacks.append(callback)
        if self._model is not None:
            callback.set_model(self._model)
        if self.params:
            callback.set_params(self.params)
        self._bind()

    def set_model(self, model: Any) -> None:
        """Give the model to all."""
        if model is not None:
            super().set_model(model)
            for callback in self.callbacks:
                callback.set_model(model)

    def set_params(self, params: dict[str, Any]) -> None:
        """Give the parameters to all."""
        super().set_params(params)
        if params:
            for callback in self.callbacks:
                callback.set_params(params)


def _dispatcher(name: str) -> Callable:
    default = getattr(Callback, name)
    predictions = name == "on_predict_batch_end"
    if "epoch" in name or "batch" in name:

        def call(self: CallbackList, index: int, logs: Any = None) -> None:
            hooks = self._hooks[name]
            if hooks:
                if predictions and not (isinstance(logs, dict) and "outputs" in logs):
                    logs = {"outputs": logs}
                given = Logs(logs or {})
                for hook in hooks:
                    hook(index, given)

    else:

        def call(self: CallbackList, logs: Any = None) -> None:
            given = Logs(logs or {})
            for hook in self._hooks[name]:
                hook(given)

    call.__name__, call.__qualname__ = name, f"CallbackList.{name}"
    call.__doc__ = default.__doc__
    return call


for _name in HOOKS:
    setattr(CallbackList, _name, _dispatcher(_name))


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

    def __repr__(self) -> str:
        return f"<History of {len(self.epoch)} epochs>"
