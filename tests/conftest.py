"""What every test shares: quiet frameworks, and the `backend` fixture that runs a test on each."""

import gc
import os
import signal
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# The models are tiny: several threads would only wait for each other.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
# Most programs run once: XLA's optimisations would take longer than they save.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
)
sys.path.insert(0, str(Path(__file__).parent / "support"))  # what tests share

import pytest
from backends import BACKENDS, TRAINABLE

# Started in the background, a process may ignore Ctrl-C; tests of it need Python's own handler.
signal.signal(signal.SIGINT, signal.default_int_handler)

import keraslite
from keraslite.backend.freed_memory import release_freed_memory

pytest_plugins = ["hub_server", "kerashub_presets"]


@pytest.fixture(autouse=True)
def _no_compilations_left():
    """Forget what torch.compile made: of the functions that layers share it makes a few, no more."""
    yield
    if "torch._dynamo" in sys.modules:
        sys.modules["torch._dynamo"].reset()


@pytest.fixture(params=BACKENDS)
def backend(request):
    """The name of a backend, which is the current one during the test."""
    with keraslite.use_backend(request.param):
        yield request.param


@pytest.fixture(params=[name for name in TRAINABLE if name in BACKENDS])
def trains(request):
    """The name of a backend that has gradients, which is the current one during the test."""
    with keraslite.use_backend(request.param):
        yield request.param


_MOST_MEMORY = 3_000_000_000  # bytes of a process that runs tests, which are several


def pytest_runtest_teardown(item, nextitem):
    """Give memory back between the modules: what JAX compiled is kept as long as it lives."""
    if sys.platform != "linux" or (nextitem is not None and nextitem.module is item.module):
        return
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    if pages * os.sysconf("SC_PAGE_SIZE") > _MOST_MEMORY:
        if "jax" in sys.modules:
            sys.modules["jax"].clear_caches()
        gc.collect()
        release_freed_memory()
