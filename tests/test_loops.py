"""The training loops of examples/loops: their losses are those of `fit`, with the same seeds."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from backends import BACKENDS
from compare import assert_close

import keraslite as keras

FOLDER = Path(__file__).parent.parent / "examples" / "loops"
EPOCHS, ROWS = 2, 64


@pytest.fixture(autouse=True)
def _examples_on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))


def loop(name):
    return importlib.import_module(name)


def data():
    return loop("spirals").make_data(ROWS)


def by_fit(seed=0):
    return fitted(keras.backend.backend(), seed)


@cache
def fitted(backend, seed):
    """The losses, the accuracies and the predictions of the model that `fit` trains."""
    spirals, (x, y) = loop("spirals"), data()
    model = spirals.make_model(seed)
    optimizer = keras.optimizers.SGD(spirals.RATE, momentum=spirals.MOMENTUM)
    model.compile(optimizer, spirals.make_loss(), metrics=["accuracy"])
    history = model.fit(
        x, y, batch_size=spirals.BATCH, epochs=EPOCHS, shuffle=False, verbose=0
    ).history
    return history["loss"], history["accuracy"], model.predict(x, verbose=0)


def needs(backend):
    if backend not in BACKENDS:
        pytest.skip(f"{backend} is not among the backends")
    return keras.use_backend(backend)


def assert_trains_as_fit(train, x, y):
    losses, accuracies, outputs = by_fit()
    model = loop("spirals").make_model()
    ours = train(model, x, y, EPOCHS)
    assert_close(ours[0], losses)
    assert_close(ours[1], accuracies)
    assert_close(model.predict(x, verbose=0), outputs, atol=1e-5)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("backend", ["jax", "tensorflow", "torch"])
def test_the_loop_of_a_framework_gives_the_losses_of_fit(backend):
    with needs(backend):
        assert_trains_as_fit(loop(f"{backend}_loop").train, *data())


def test_the_loop_for_all_backends_gives_the_losses_of_fit(trains):
    assert_trains_as_fit(loop("any_backend").train, *data())


def test_an_ensemble_in_torch_func_has_the_losses_of_each_fit():
    with needs("torch"):
        losses, logits = loop("torch_func").train([0, 1], *data(), EPOCHS)
        for member in range(2):
            wanted = by_fit(member)
            assert_close(losses[:, member], wanted[0])
            assert_close(logits[member], wanted[2], atol=1e-5)


ON_DEVICES = """
import json, sys
sys.path.insert(0, sys.argv[1])
import jax, jax_data_parallel, jax_ensemble, spirals
import keraslite as keras
keras.use_backend("jax")
x, y = spirals.make_data(int(sys.argv[2]))
model = spirals.make_model()
losses = jax_data_parallel.train(model, x, y, int(sys.argv[3]))
ensemble, logits = jax_ensemble.train([0, 1, 2, 3], x, y, int(sys.argv[3]), devices=2)
print(json.dumps([jax.device_count(), losses, model.predict(x, verbose=0).tolist(),
                  ensemble.tolist(), logits.tolist()]))
"""


def test_devices_share_a_batch_or_an_ensemble_with_the_losses_of_fit():
    with needs("jax"):
        flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
        command = [sys.executable, "-c", ON_DEVICES, str(FOLDER), str(ROWS), str(EPOCHS)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=FOLDER.parent.parent,
            env={**os.environ, "XLA_FLAGS": flags},
        )  # fmt: skip
        count, losses, outputs, ensemble, logits = json.loads(done.stdout)
        assert count == 2
        for member in (0, 3):
            wanted = by_fit(member)
            if member == 0:
                assert_close(np.array(losses), np.array(wanted[0]))
                assert_close(np.float32(outputs), wanted[2], atol=1e-5)
            assert_close(np.array(ensemble)[:, member], np.array(wanted[0]))
            assert_close(np.float32(logits[member]), wanted[2], atol=1e-5)


def test_a_compiled_loop_gives_the_losses_of_fit():
    """By the backend of torch.compile that only traces: the others take half a minute."""
    with needs("torch"):
        import torch

        def train(model, *arguments):
            run = torch.compile(model, backend="aot_eager", fullgraph=True)
            return loop("torch_loop").train(model, *arguments, run=run)

        assert_trains_as_fit(train, *data())


def test_without_a_compiler_the_loop_runs_as_it_is(monkeypatch, capsys):
    with needs("torch"):
        monkeypatch.setattr(shutil, "which", lambda name: None)
        model = loop("spirals").make_model()
        assert loop("torch_loop").compiled(model) is model
        assert "needs a C++ compiler" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", ["jax_loop", "tensorflow_loop", "torch_loop", "any_backend"])
def test_the_model_learns(name, monkeypatch, capsys):
    backend = name.partition("_")[0]
    with needs("torch" if backend == "any" else backend):
        monkeypatch.setattr(sys, "argv", [name])
        loop(name).main()
    assert float(capsys.readouterr().out.split()[-1]) > 0.9
