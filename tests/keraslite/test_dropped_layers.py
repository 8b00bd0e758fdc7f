"""Layers that are made and dropped leave nothing in the memory of the process."""

import gc
import os
import sys

import numpy as np
import pytest

from keraslite import layers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's own count")
X = np.ones((2, 16), "float32")


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def work(count):
    for _ in range(count):
        layers.Dense(4)(X)
    gc.collect()


def test_layers_leave_no_memory(backend):
    """TensorFlow kept 34 KB of each name of a variable."""
    work(100)
    growth = []
    for _ in range(3):  # other threads may take memory meanwhile, once
        before = resident()
        work(100)
        growth.append(resident() - before)
    assert min(growth) < 2_000_000
