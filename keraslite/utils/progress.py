"""Progbar: how far a loop is, as a bar on a terminal and as a line in a log."""

import logging
import math
import os
import shutil
import sys
import time
from collections.abc import Iterable
from typing import Any

import numpy as np

from keraslite import config


def readable_size(count: float) -> str:
    """A number of bytes in the unit that suits it.

    >>> readable_size(1536)
    '1.50 KB'
    """
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if count < 1024:
            return f"{count:.2f} {unit}"
        count /= 1024
    return f"{count:.2f} PB"


class Progbar:
    """A progress bar.

    On a terminal the bar is drawn again at most every `interval` seconds. Where the output goes
    to a file there is one line, at the end, and no carriage return.

    Args:
        target: how many steps there are; None if that is not known.
        width: the width of the bar in characters.
        verbose: 0 silent, 1 a bar, 2 a line at the end.
        interval: the least number of seconds between two drawings.
        stateful_metrics: the names of values that are shown as they are; the others are averaged.
        stateless_metrics: the names of values that are averaged; the others are shown as they are.
        unit_name: what is counted; "byte" is shown in KB, MB ...
        prefix: a line above the bar, or the beginning of the line.

    >>> Progbar(2, verbose=2).update(2, [("loss", 0.5)])  # doctest: +ELLIPSIS
    2/2 - ... - loss: 0.5000
    """

    def __init__(
        self,
        target: int | None,
        width: int = 20,
        verbose: int = 1,
        interval: float = 0.05,
        stateful_metrics: Iterable[str] | None = None,
        stateless_metrics: Iterable[str] | None = None,
        unit_name: str = "step",
        prefix: str = "",
    ):
        if stateful_metrics is not None and stateless_metrics is not None:
            raise ValueError("Give stateful_metrics or stateless_metrics, not both.")
        self.target, self.width, self.verbose = target, width, verbose
        self.interval, self.unit_name, self.prefix = interval, unit_name, prefix
        self._averaged = None if stateless_metrics is None else set(stateless_metrics)
        self._as_is = set(stateful_metrics or ())
        self._values: dict[str, list[Any]] = {}  # name -> [sum, weight]
        self._seen = 0
        self._start = self._now = time.monotonic()
        self._first: float | None = None  # when the first step, which often compiles, was over
        self._drawn = -math.inf
        self._live = verbose == 1 and _is_terminal()
        self._unfinished = False

    def due(self) -> bool:
        """Whether an update would draw now."""
        if self._first is None:
            self._first = time.monotonic()
        return self._live and time.monotonic() - self._drawn >= self.interval

    def update(
        self,
        current: int,
        values: Iterable[tuple[str, Any]] | None = None,
        finalize: bool | None = None,
    ) -> None:
        """Say how far it is.

        Args:
            current: how many steps are done.
            values: pairs of a name and its value.
            finalize: whether this is the end; by default whether `current` is the target.
        """
        if finalize is None:
            finalize = self.target is not None and current >= self.target
        for name, value in values or ():
            self._note(name, value, max(current - self._seen, 1), finalize)
        self._seen, self._now = current, time.monotonic()
        if self._first is None:
            self._first = self._now
        if self._live and (finalize or self._now - self._drawn >= self.interval):
            self._draw(finalize)
        elif finalize and self.verbose:
            head = f"{self.prefix} - " if self.prefix else ""
            _write(f"{head}{self._count()} - {self._times(True)}{self._shown()}\n")

    def add(self, n: int, values: Iterable[tuple[str, Any]] | None = None) -> None:
        """Say that `n` more steps are done."""
        self.update(self._seen + n, values)

    def close(self) -> None:
        """Leave the line of a bar that did not come to its end."""
        if self._unfinished:
            _write("\n")
            self._unfinished = False

    def _note(self, name: str, value: Any, weight: int, last: bool) -> None:
        averaged = name in self._averaged if self._averaged is not None else name not in self._as_is
        if not averaged or last or name not in self._values:
            self._values[name] = [value * weight, weight] if averaged and not last else [value, 1]
        else:
            self._values[name][0] += value * weight
            self._values[name][1] += weight

    def _draw(self, last: bool) -> None:
        if self.prefix:
            _write(f"{self.prefix}\n")
            self.prefix = ""
        line = f"{self._count()} {self._bar()}{self._times(last)}{self._shown()}"
        # A line that wraps could not be drawn over.
        line = line[: max(shutil.get_terminal_size().columns - 1, 20)] if not last else line
        _write(f"\r{line}\x1b[K" + ("\n" if last else ""))
        self._drawn, self._unfinished = self._now, not last

    def _bar(self) -> str:
        if not self.target:
            return ""
        done = min(int(self.width * self._seen / self.target), self.width)
        try:
            "━".encode(getattr(sys.stdout, "encoding", None) or "ascii")
            full, rest = "━", "─"
        except UnicodeEncodeError:
            full, rest = "=", "."
        return full * done + rest * (self.width - done) + " "

    def _count(self) -> str:
        if self.unit_name == "byte":
            of = f"/{readable_size(self.target)}" if self.target else ""
            return readable_size(self._seen) + of
        if self.target is None:
            return f"{self._seen}/?"
        return f"{self._seen:>{len(str(self.target))}}/{self.target}"

    def _times(self, last: bool) -> str:
        spent = self._now - self._start
        each = self._each()
        if self.unit_name == "byte":
            speed = f" {readable_size(1 / each)}/s" if each else ""
        elif each >= 1 or not each:
            speed = f" {each:.0f}s/{self.unit_name}"
        elif each >= 1e-3:
            speed = f" {each * 1e3:.0f}ms/{self.unit_name}"
        else:
            speed = f" {each * 1e6:.0f}us/{self.unit_name}"
        left = each * (self.target - self._seen) if self.target and not last else spent
        return _clock(left) + speed

    def _each(self) -> float:
        """Seconds a step; the first step is left out where there are more."""
        if not self._seen:
            return 0.0
        if self._first is not None and self._seen > 1:
            return (self._now - self._first) / (self._seen - 1)
        return (self._now - self._start) / self._seen

    def _shown(self) -> str:
        text = ""
        for name, (total, weight) in self._values.items():
            if isinstance(total, str):
                text += f" - {name}: {total}"
                continue
            value = float(np.mean(total)) / weight
            text += f" - {name}: {value:.4f}" if abs(value) > 1e-3 else f" - {name}: {value:.4e}"
        return text


def _clock(seconds: float) -> str:
    seconds = int(seconds)
    if seconds >= 3600:
        return f"{seconds // 3600}:{seconds % 3600 // 60:02d}:{seconds % 60:02d}"
    return f"{seconds // 60}:{seconds % 60:02d}" if seconds >= 60 else f"{seconds}s"


def _is_terminal() -> bool:
    if not config.is_interactive_logging_enabled():
        return False
    # A notebook draws over its line as a terminal does.
    if "ipykernel" in sys.modules:
        return True
    isatty = getattr(sys.stdout, "isatty", None)
    return bool(isatty and isatty()) and os.environ.get("TERM") != "dumb"


def message(text: str) -> None:
    """Print a message, or log it where interactive logging is off.

    Args:
        text: the message.
    """
    _write(f"{text}\n")


def _write(text: str) -> None:
    if config.is_interactive_logging_enabled():
        sys.stdout.write(text)
        sys.stdout.flush()
    elif text.strip():
        logging.getLogger("keraslite").info(text.strip())
