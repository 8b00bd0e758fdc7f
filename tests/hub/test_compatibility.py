"""Presets and adapters that earlier versions wrote are still read, with the same answers."""

from pathlib import Path

import numpy as np
import pytest

import hub

DATA = Path(__file__).parents[1] / "data" / "v1"
TEXTS = ["a good film", "bad films", "b"]


@pytest.fixture(scope="module")
def expected():
    return dict(np.load(DATA / "hub_expected.npz"))


def test_a_preset(backend, expected):
    model = hub.BertClassifier.from_preset(DATA / "preset")
    assert model.new_weights == []
    np.testing.assert_allclose(model.predict(TEXTS, verbose=0), expected["preset"], rtol=2e-5)


def test_an_adapter(backend, expected):
    model = hub.BertClassifier.from_preset(DATA / "preset")
    model.load_adapter(DATA / "adapter")
    answers = model.predict(TEXTS, verbose=0)
    np.testing.assert_allclose(answers, expected["adapter"], rtol=2e-5)
    assert not np.allclose(answers, expected["preset"])
