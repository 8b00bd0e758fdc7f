"""ProgbarLogger: the progress bar of fit, evaluate and predict."""

from typing import Any

from keraslite.callbacks.base import Callback
from keraslite.utils.progress import Progbar

_INTERVAL = 0.2  # seconds: what a bar shows is read from the device


class ProgbarLogger(Callback):
    """Shows how far training, evaluation or prediction is.

    The losses and metrics are read from the device only when the bar is drawn, so that no step
    waits for the bar.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bar: Progbar | None = None
        self.target: int | None = None
        self.verbose, self.epochs, self.current = 1, 1, 0
        self._in_fit = False

    def set_params(self, params: dict[str, Any]) -> None:
        """Take what was asked for."""
        super().set_params(params)
        verbose = params.get("verbose", 1)
        self.verbose = 1 if verbose == "auto" else int(verbose)
        self.epochs, self.target = params.get("epochs", 1), params.get("steps")

    def _begin(self, prefix: str = "") -> None:
        self.current = 0
        self.bar = Progbar(
            self.target, verbose=self.verbose, interval=_INTERVAL, stateless_metrics=(),
            prefix=prefix,
        )  # fmt: skip

    def _step(self, batch: int, logs: Any) -> None:
        self.current = batch + 1
        if self.bar is not None and self.bar.due():
            self.bar.update(self.current, list(logs.items()) if logs else None, finalize=False)

    def _end(self, logs: Any) -> None:
        if self.bar is not None:
            self.target = self.bar.target = self.current or self.target
            self.bar.update(self.current, list((logs or {}).items()), finalize=True)
            self.bar = None

    def on_train_begin(self, logs: Any = None) -> None:
        """From now on validations are silent."""
        self._in_fit = True

    def on_train_end(self, logs: Any = None) -> None:
        """Leave the line of a bar that was not finished."""
        self._in_fit = False
        if self.bar is not None:
            self.bar.close()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Begin a bar."""
        self._begin(f"Epoch {epoch + 1}/{self.epochs}" if self.epochs > 1 else "")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Finish the bar."""
        self._end(logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Move the bar."""
        self._step(batch, logs)

    def on_test_begin(self, logs: Any = None) -> None:
        """Begin a bar, unless this is a validation inside `fit`."""
        if not self._in_fit:
            self._begin()

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """Move the bar."""
        if not self._in_fit:
            self._step(batch, logs)

    def on_test_end(self, logs: Any = None) -> None:
        """Finish the bar."""
        if not self._in_fit:
            self._end(logs)

    def on_predict_begin(self, logs: Any = None) -> None:
        """Begin a bar."""
        self._begin()

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        """Move the bar."""
        self._step(batch, None)

    def on_predict_end(self, logs: Any = None) -> None:
        """Finish the bar."""
        self._end(None)


ProgressBar = ProgbarLogger
