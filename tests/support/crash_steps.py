"""A process that is killed before each of its changes to a folder, one after the other."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

_CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def kill_at_each_step(
    folder: Path, work: Callable[[], object], check: Callable[[int], object]
) -> int:
    """Run `work` in forks that are killed at their first, second ... change below a folder.

    `check(n)` is called after each kill, and once after the fork that came to its end. It is given
    the number of the kill. Returns the number of kills.
    """
    step, status = 0, None
    while status != 0:
        child = os.fork()
        if child == 0:
            try:
                sys.addaudithook(_killer(str(folder), step))
                work()
                os._exit(0)
            finally:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, -signal.SIGKILL), status
        check(step)
        step += 1
    return step - 1


def _killer(folder: str, step: int) -> Callable[[str, tuple], None]:
    left = [step]

    def hook(event: str, arguments: tuple) -> None:
        changes = event in _CHANGES or (event == "open" and arguments[2] & _WRITING)
        if not changes or not _below(arguments[:2] if event == "os.rename" else arguments, folder):
            return
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1

    return hook


def _below(arguments: tuple, folder: str) -> bool:
    return any(
        os.fspath(path).startswith(folder)
        for path in arguments
        if isinstance(path, str | os.PathLike)
    )
