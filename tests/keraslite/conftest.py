"""Fixtures of the tests of keraslite."""

import pytest
from backends import BACKENDS, TRAINABLE

import keraslite


@pytest.fixture(params=[name for name in TRAINABLE if name in BACKENDS])
def trains(request):
    """The name of a backend that has gradients, which is the current one during the test."""
    with keraslite.use_backend(request.param):
        yield request.param
