"""Exported models against `predict`: each format opened by the program that it is made for."""

import numpy as np
import pytest
from backends import BACKENDS
from compare import assert_close
from export_cases import (
    EXAMPLE,
    MODELS,
    as_dict,
    can_open,
    inputs_of,
    model_on,
    opened,
    predicted,
)

from keraslite.export.formats import FORMATS

BATCHES = (1, 4)
# Each format from one live backend for each model; which one goes round.
CASES = [
    (model, format, BACKENDS[(i + j) % len(BACKENDS)])
    for i, model in enumerate(MODELS)
    for j, format in enumerate(FORMATS)
    if format != "executorch"
]


def check(model, format, backend, tmp_path):
    if not can_open(format):
        pytest.skip(f"the packages that open {format} are not installed")
    if (model, format) == ("lstm", "tfjs") and EXAMPLE.node_modules() is None:
        pytest.skip("TensorFlow itself does not run the loops that are written for TensorFlow.js")
    path = tmp_path / f"model{EXAMPLE.OPENERS[format][0]}"
    live = model_on(model, backend)
    live.export(path, format=format, verbose=False)
    assert live.backend == backend and {v.backend for v in live.variables} == {backend}
    run = opened(path, format)
    for batch in BATCHES:
        expected = predicted(model, backend, batch)
        outputs = as_dict(run(inputs_of(model, batch)), list(expected))
        assert set(outputs) == set(expected)
        for name, value in expected.items():
            assert np.shape(outputs[name]) == value.shape
            assert_close(np.asarray(outputs[name]), value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("model", "format", "backend"), CASES)
def test_the_file_predicts_what_the_model_does(model, format, backend, tmp_path):
    check(model, format, backend, tmp_path)


@pytest.mark.filterwarnings("ignore:This API is experimental")
@pytest.mark.slow
@pytest.mark.parametrize("model", ["convnet", "attention"])
def test_executorch(model, tmp_path):
    check(model, "executorch", BACKENDS[-1], tmp_path)


def test_each_format_is_opened():
    assert set(EXAMPLE.OPENERS) == set(FORMATS)
