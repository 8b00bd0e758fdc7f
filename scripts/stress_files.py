"""Load damaged and hostile files: each is a model, or one clear error, and nothing of it runs.

    python scripts/stress_files.py [--files 5000] [--seed 0]

`.keras`, `.weights.h5`, Keras 2's `.h5`, `.klm` and safetensors files are cut off, flipped, and
crafted: zip bombs, huge shapes, links, names that leave the archive, configs that name code, nested
JSON. Each is loaded in a process of its own. It must end within 5 s of computing and twice the
file's size plus 64 MB of memory, with a model, or with a ValueError or OSError that names the file.
Nothing may be written outside the folder of temporary files, which must be empty then, nothing be
read outside Python's own folders, no process be started, and no module that a config names be
imported. The exit status is 1 if anything was otherwise.
"""

import argparse
import collections
import json
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]
os.environ["KERASLITE_BACKEND"] = "numpy"  # which has no threads, so that processes can be forked

import h5py  # noqa: E402
import hostile_files  # noqa: E402

_SECONDS, _BYTES = 5.0, 64 * 2**20
_MOST = 2 * 2**30  # bytes that a process may take in any case: the machine goes on
_PATIENCE = 60.0  # seconds on the clock
_STARTS = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen", "pty.spawn",
           "socket.connect", "socket.getaddrinfo", "ctypes.dlopen",
           "pickle.find_class")  # fmt: skip
_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod")
_READABLE = tuple({sys.prefix, sys.base_prefix, str(ROOT), "/proc", "/sys", "/dev", "/usr/lib"})


def _memory(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) * 1024


class _Watch:
    """An audit hook that keeps what a file must not do."""

    def __init__(self, work: str) -> None:
        self.work, self.seen, self.on = work, [], True

    def __call__(self, event: str, arguments: tuple) -> None:
        if not self.on:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str | bytes | os.PathLike):
                self._look(event, os.fsdecode(path), flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        elif event in _CHANGES:
            at = [x for x in arguments if isinstance(x, int) and x > 2][-1:]  # the folder is open
            place = f"/proc/self/fd/{at[0]}" if at and event in ("os.remove", "os.rmdir") else ""
            for path in arguments[:2]:
                if isinstance(path, str | bytes | os.PathLike):
                    self._look(event, os.path.join(place, os.fsdecode(path)), True)
        elif event in _STARTS or (event == "import" and hostile_files.SENTINEL in arguments[0]):
            self.seen.append(f"{event} {arguments!s:.80}")

    def _look(self, event: str, path: str, writes: int) -> None:
        real = os.path.realpath(path)
        allowed = (f"{self.work}/tmp",) if writes else (self.work, *_READABLE)
        if not real.startswith(allowed):
            self.seen.append(f"{event} {'for writing ' * bool(writes)}{path!r:.80}")


class _Secret:
    """A file that nobody may read; the time of the last reading tells, for HDF5 opens by itself."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with h5py.File(path, "w") as file:
            file["x"] = [1.0, 2.0]
        self.hide()
        path.read_bytes()
        self.tells = self.was_read()
        if not self.tells:
            print("The file system keeps no times of reading: links into files are not watched.")

    def hide(self) -> None:
        """Set the time of the last reading back."""
        os.utime(self.path, (0, time.time()))

    def was_read(self) -> bool:
        """Whether the file was read since."""
        return self.path.stat().st_atime > 0


def _child(path: Path, work: Path, pipe: int) -> None:
    """Load a file, and write down how that went."""
    os.chdir(work / "cwd")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit = _memory("VmSize") + _MOST
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from now on
    before, start = _memory("VmRSS"), time.process_time()
    watch = _Watch(str(work))
    sys.addaudithook(watch)
    outcome, message = "loaded", ""
    try:
        hostile_files.load(path)
    except BaseException as error:
        outcome, message = type(error).__name__, str(error)
    watch.on = False
    report = {
        "outcome": outcome, "message": message[:2000], "seen": watch.seen[:3],
        "seconds": time.process_time() - start, "bytes": _memory("VmHWM") - before,
    }  # fmt: skip
    os.write(pipe, json.dumps(report).encode())


def _run(path: Path, work: Path) -> dict[str, Any]:
    """Load a file in a fork, and return what it wrote down."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            with open(os.devnull, "w") as sys.stderr:
                _child(path, work, writing)
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        ready = select.select([file], [], [], _PATIENCE)[0]
        if not ready:
            os.kill(child, signal.SIGKILL)
        data = file.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if data:
        return json.loads(data)
    return {"outcome": f"ended with {status}" if ready else f"took more than {_PATIENCE} s"}


def faults(path: Path, work: Path, report: dict[str, Any]) -> Iterator[str]:
    """Say what a file did that it must not.

    Args:
        path: the file.
        work: the folder of all that may be written.
        report: how it was loaded.
    """
    outcome = report["outcome"]
    yield from report.get("seen", ())
    if "seconds" not in report:
        yield outcome
        return
    if outcome not in ("loaded", "ValueError", "OSError", "FileNotFoundError"):
        yield f"{outcome}: {report['message']:.300}"
    elif outcome != "loaded" and path.name not in report["message"]:
        yield f"an error that does not name the file: {report['message']:.300}"
    if len(report["message"]) >= 2000:
        yield f"a message of 2,000 letters or more: {report['message']:.100}"
    if report["seconds"] > _SECONDS:
        yield f"{report['seconds']:.1f} s; {outcome}: {report['message']:.200}"
    if report["bytes"] > 2 * path.stat().st_size + _BYTES:
        megabytes = report["bytes"] / 2**20
        yield f"{megabytes:.0f} MB of memory; {outcome}: {report['message']:.200}"
    for name in ("cwd", "tmp"):
        if left := os.listdir(work / name):
            yield f"left in {name}: {left}"
            shutil.rmtree(work / name)
            (work / name).mkdir()


def main() -> int:
    """Make the files, load them, and print what went wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0, help="of the first file, then 1 more each")
    parser.add_argument("--keep", type=Path, help="a folder for the files with faults")
    options = parser.parse_args()
    outcomes: collections.Counter[str] = collections.Counter()
    count, slowest, most_bytes = 0, (0.0, ""), 0
    with tempfile.TemporaryDirectory() as name:
        work = Path(name).resolve()
        for part in ("cwd", "tmp", "good", "files"):
            (work / part).mkdir()
        (work / f"{hostile_files.SENTINEL}.py").write_text("open('EXECUTED', 'w').close()\n")
        sys.path.insert(0, str(work))
        secret = _Secret(work / "secret.h5")
        hostile_files.SECRET = str(secret.path)
        good = hostile_files.good_files(work / "good")
        for path in good:  # imports what is imported late
            hostile_files.load(path)
        tempfile.tempdir = str(work / "tmp")
        for number in range(options.seed, options.seed + options.files):
            source = good[number % len(good)]
            path = work / "files" / f"{number}-{source.name}"
            path.write_bytes(hostile_files.damaged(random.Random(number), source))
            secret.hide()
            report = _run(path, work)
            outcome = "loaded" if report["outcome"] == "loaded" else "refused"
            outcomes[f"{source.name}: {outcome}"] += 1
            slowest = max(slowest, (report.get("seconds", 0.0), path.name))
            most_bytes = max(most_bytes, report.get("bytes", 0))
            said = list(faults(path, work, report))
            said += ["the secret file was read"] * (secret.tells and secret.was_read())
            for line in said:
                print(f"{path.name}: {line}", flush=True)
            count += bool(said)
            if said and options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, options.keep)
            path.unlink()
    for key, number in sorted(outcomes.items()):
        print(f"{number:6} {key}")
    print(
        f"{options.files} files, {count} with faults; at most {slowest[0]:.2f} s "
        f"({slowest[1]}) and {most_bytes / 2**20:.0f} MB"
    )
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main())
