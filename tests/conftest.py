"""What every test shares: quiet frameworks, and the `backend` fixture that runs a test on each."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import pytest

import keraslite

_ASKED = os.environ.get("KERASLITE_TEST_BACKENDS")
BACKENDS = _ASKED.replace(",", " ").split() if _ASKED else list(keraslite.backend.available())


@pytest.fixture(params=BACKENDS)
def backend(request):
    """The name of a backend, which is the current one during the test."""
    with keraslite.use_backend(request.param):
        yield request.param
