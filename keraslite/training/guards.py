"""Guards of a training loop: Ctrl-C between steps, and losses that become NaN."""

import signal
import threading
from typing import Any

import numpy as np

from keraslite import backend as backends


class Interrupts:
    """A block in which Ctrl-C waits for the step under way, so that no state is lost.

    `requested` tells whether Ctrl-C was pressed; pressed again, it stops at once.
    """

    def __enter__(self) -> "Interrupts":
        self.requested, self._before = False, None
        if threading.current_thread() is threading.main_thread():
            self._before = signal.getsignal(signal.SIGINT)
            if self._before is signal.default_int_handler:
                signal.signal(signal.SIGINT, self._note)
            else:
                self._before = None
        return self

    def _note(self, number: int, frame: Any) -> None:
        if self.requested:  # the second time, at once
            signal.signal(signal.SIGINT, self._before)
            raise KeyboardInterrupt
        self.requested = True

    def __exit__(self, *_: Any) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)


class NaNWatch:
    """Remembers the losses of an epoch's steps on the device, to name the first NaN."""

    def __init__(self, epoch: int):
        self.epoch, self._losses = epoch, []

    def record(self, step: int, logs: Any) -> None:
        """Remember the loss in the logs of a step.

        Args:
            step: the number of the step.
            logs: its logs.
        """
        if isinstance(logs, dict) and "loss" in logs:
            self._losses.append((step, logs["loss"]))
            if len(self._losses) > 1024:
                self.check({"loss": backends.to_numpy(logs["loss"])}, False)
                self._losses.clear()

    def check(self, logs: dict[str, Any], stopped: bool) -> None:
        """Raise FloatingPointError if the loss of an epoch is NaN.

        Args:
            logs: the logs of the epoch.
            stopped: whether training was stopped, by a callback that may have seen it.
        """
        loss = logs.get("loss")
        if stopped or loss is None or not np.isnan(loss).any():
            return
        step = next((s for s, x in self._losses if np.isnan(backends.to_numpy(x)).any()), None)
        raise FloatingPointError(
            f"The loss became NaN at epoch {self.epoch + 1}, step {step}. The weights are spoilt "
            "from that step on: use a smaller learning rate, clipnorm, or look at the batch; the "
            "callback TerminateOnNaN stops the training without an error."
        )
