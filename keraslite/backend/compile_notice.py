"""Say on a terminal what is being compiled, where that takes longer than people wait in silence."""

import sys
from collections.abc import Callable
from threading import Timer

from keraslite import config

PATIENCE = 3.0  # seconds


def announce_compilation(what: str) -> Callable[[], None]:
    """Print that something is being compiled, once it has taken three seconds.

    Nothing is printed where errors go to a file, or interactive logging is off.

    Args:
        what: what is compiled, and for which backend.

    Returns:
        A function to be called when it is compiled.

    >>> end = announce_compilation("train_step on jax")
    >>> end()
    """
    terminal = sys.stderr is not None and sys.stderr.isatty()
    if not (terminal and config.is_interactive_logging_enabled()):
        return lambda: None
    timer = Timer(PATIENCE, _say, (what,))
    timer.daemon = True
    timer.start()
    return timer.cancel


def _say(what: str) -> None:
    print(f"\nCompiling {what}, once for these shapes ...", file=sys.stderr, flush=True)


def announced(compiled: Callable, what: str) -> Callable:
    """Return a compiled function whose first call, which compiles it, is announced.

    Args:
        compiled: the function.
        what: as for `announce_compilation`.

    >>> announced(abs, "abs on torch")(-1)
    1
    """
    is_compiled = False

    def call(*args: object) -> object:
        nonlocal is_compiled
        if is_compiled:
            return compiled(*args)
        end = announce_compilation(what)
        try:
            return compiled(*args)
        finally:
            end()
            is_compiled = True

    return call
