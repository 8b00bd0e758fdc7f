"""Memory that a step frees stays with the process: the next step has no page faults."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
pytestmark = [
    pytest.mark.skipif(
        sys.platform != "linux", reason="what the system's allocator keeps is set for glibc alone"
    ),
    pytest.mark.skipif(
        _HUGE_PAGES.exists() and "[always]" in _HUGE_PAGES.read_text(),
        reason="pages of 2 MB have few faults",
    ),
]
# Ten times two arrays of 64 MB are made and freed, of 16,384 pages each.
STEPS = """
import resource
import numpy as np
import keraslite as keras

keras.use_backend("torch")
step = keras.jit(lambda x: keras.ops.cumsum(x + 1.0, axis=0))
x = keras.ops.convert_to_tensor(np.ones((256, 65536), "float32"))

def faults(count):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        keras.ops.convert_to_numpy(step(x))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults(3)
print(faults(10))
"""


def _faults(**settings: str) -> int:
    code = [sys.executable, "-c", STEPS]
    run = subprocess.run(
        code, env=os.environ | settings, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    return int(run.stdout)


def test_a_step_reuses_the_memory_of_the_step_before():
    assert _faults() < 100_000


def test_settings_of_the_user_stand():
    assert _faults(MALLOC_MMAP_THRESHOLD_="1000000") > 250_000


def test_clear_session_gives_memory_back():
    code = (
        "import torch, keraslite as keras\n"
        "keras.use_backend('torch'), keras.ops.ones(1)\n"
        "def resident():\n"
        "    return int(open('/proc/self/statm').read().split()[1]) * 4096\n"
        "arrays = [torch.ones(2**22) for _ in range(20)]\n"
        "last = torch.ones(2**20)\n"  # the heap cannot shrink below it
        "del arrays\n"
        "kept = resident()\n"
        "keras.utils.clear_session()\n"
        "print(kept - resident())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True
    )
    assert int(run.stdout) > 250e6
