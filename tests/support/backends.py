"""The backends that tests run on: all that are installed, or those of KERASLITE_TEST_BACKENDS."""

import os

import keraslite

_ASKED = os.environ.get("KERASLITE_TEST_BACKENDS")
INSTALLED = list(keraslite.backend.available())
BACKENDS = _ASKED.replace(",", " ").split() if _ASKED else INSTALLED
TRAINABLE = [name for name in INSTALLED if name != "numpy"]  # which has no gradients
