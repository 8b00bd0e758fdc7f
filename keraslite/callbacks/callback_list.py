"""CallbackList: several callbacks as one."""

from collections.abc import Callable
from typing import Any

from keraslite import tree
from keraslite.callbacks.base import HOOKS, Callback, History, Logs
from keraslite.callbacks.progress import ProgbarLogger


def _hook(callback: Any, name: str) -> Callable | None:
    """The method of a callback for an event, or None if it has only the default."""
    method = getattr(callback, name, None)
    if getattr(method, "__func__", None) is not getattr(Callback, name):
        return method
    if name.startswith("on_train_batch_"):
        return _hook(callback, name.replace("on_train_", "on_"))
    return None


def _expand(callbacks: Any) -> list[Any]:
    flat = [] if callbacks is None else tree.flatten(callbacks)
    parts = ([*c.callbacks] if isinstance(c, CallbackList) else [c] for c in flat)
    return [c for part in parts for c in part if c is not None]


class CallbackList(Callback):
    """Several callbacks as one: an event goes to those that have a hook for it.

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
        super().__init__()
        self.callbacks = _expand(callbacks)
        for add, cls in ((add_history, History), (add_progbar, ProgbarLogger)):
            if add and not any(isinstance(c, cls) for c in self.callbacks):
                self.callbacks.append(cls())
        self._bind()
        self.set_model(model)
        self.set_params(params)

    def _bind(self) -> None:
        ordered = sorted(self.callbacks, key=lambda c: getattr(c, "runs_last", False))
        self._hooks: dict[str, list[Callable]] = {
            name: [
                f for c in (self.callbacks if name == "on_train_begin" else ordered)
                if (f := _hook(c, name)) is not None
            ]
            for name in HOOKS
        }  # fmt: skip
        # Every callback has one: the default calls another hook.
        self._hooks["on_train_interrupt"] = [
            f for c in ordered
            if (f := getattr(c, "on_train_interrupt", getattr(c, "on_train_end", None))) is not None
        ]  # fmt: skip
        self.watches_nan = any(getattr(c, "watches_nan", False) for c in self.callbacks)

    def append(self, callback: Any) -> None:
        """Add a callback."""
        self.callbacks.append(callback)
        if self.model is not None:
            callback.set_model(self.model)
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
                wrapped = Logs(logs or {})
                for hook in hooks:
                    hook(index, wrapped)

    else:

        def call(self: CallbackList, logs: Any = None) -> None:
            wrapped = Logs(logs or {})
            for hook in self._hooks[name]:
                hook(wrapped)

    call.__name__, call.__qualname__ = name, f"CallbackList.{name}"
    call.__doc__ = default.__doc__
    return call


for _name in HOOKS:
    setattr(CallbackList, _name, _dispatcher(_name))
