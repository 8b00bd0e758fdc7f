"""Files of `tests/support` run in a process of their own: Keras has one backend for a process."""

import os
import subprocess
import sys


def run_with_keras(script: str, *arguments: object, backend: str) -> str:
    """Run a script with Keras on a backend, and return what it wrote to standard error.

    Args:
        script: its path.
        arguments: on its command line.
        backend: what Keras runs on.

    Raises:
        AssertionError: it failed.
    """
    done = subprocess.run(
        [sys.executable, script, *map(str, arguments)], capture_output=True, text=True,
        env={**os.environ, "KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": "",
             "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr
