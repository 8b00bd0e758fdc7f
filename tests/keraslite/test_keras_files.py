"""Keras's files, both ways: what the installed Keras saved is opened here, and the reverse.

Keras runs in one process for each of its backends, since it has one alone. Every model goes one
way between one pair of backends; between the others they take turns.
"""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import keras_file_cases as cases
import numpy as np
import pytest
from backends import BACKENDS, TRAINABLE

import keraslite
from keraslite import saving

NAMES = list(cases.CASES)
PLAIN = [name for name in NAMES if name not in cases.TEXT_CASES]
# What Keras does on each of its backends: all on one, a part on the others.
THEIRS = {
    "torch": PLAIN,
    "jax": PLAIN[::6],
    "tensorflow": [*cases.TEXT_CASES, *PLAIN[3::6]],
}
SOURCES = [(source, name) for source, names in THEIRS.items() for name in names]


def run_keras(backend, command, folder):
    environment = {**os.environ, "KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": "",
                   "TF_CPP_MIN_LOG_LEVEL": "3"}  # fmt: skip
    command = [sys.executable, cases.__file__, command, str(folder), *THEIRS[backend]]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]


def assert_same(got, want):
    """Outputs agree to 1e-6 of the largest, and the losses of further steps to 1e-5."""
    for key, value in want.items():
        rtol = 1e-5 if key == "losses" else 1e-6
        assert got[key].shape == value.shape
        np.testing.assert_allclose(got[key], value, rtol=0, atol=rtol * np.abs(value).max())


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """The folder of what Keras saved, by its backend; each is made when it is asked for."""
    made = {}

    def folder(backend):
        if backend not in made:
            made[backend] = tmp_path_factory.mktemp(backend)
            run_keras(backend, "save", made[backend])
        return made[backend]

    return folder


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """The folder of what keraslite saved, with what Keras made of it on each backend."""
    folder, opened = tmp_path_factory.mktemp("ours"), set()
    with keraslite.use_backend("torch" if "torch" in TRAINABLE else TRAINABLE[0]):
        cases.save(keraslite, folder, NAMES)

    def results(backend, name):
        if backend not in opened:
            opened.add(backend)
            run_keras(backend, "open", folder)
        error = folder / f"{name}.{backend}.error"
        assert not error.exists(), error.read_text()
        return np.load(folder / f"{name}.npz"), np.load(folder / f"{name}.{backend}.npz")

    return results


@pytest.mark.parametrize(("source", "name"), SOURCES)
def test_what_keras_saved_is_opened(source, name, theirs):
    number = SOURCES.index((source, name))
    chosen = [BACKENDS[number % len(BACKENDS)]]
    if source == "torch" and "torch" in BACKENDS:
        chosen = list(dict.fromkeys(["torch", *(chosen if number % 2 else [])]))
    folder = theirs(source)
    x, y = pickle.loads((folder / "data.pkl").read_bytes())[name]
    want = dict(np.load(folder / f"{name}.npz"))
    for backend in chosen:
        with keraslite.use_backend(backend):
            own = cases.custom_objects(cases.objects(keraslite))
            model = saving.load_model(folder / f"{name}.keras", own)
            assert model.backend == backend
            if backend not in TRAINABLE:
                y, _ = None, want.pop("losses", None)
            assert_same(cases.results(keraslite, model, x, y, name), want)


@pytest.mark.parametrize(("target", "name"), SOURCES)
def test_what_we_save_keras_opens(target, name, ours):
    want, got = ours(target, name)
    assert_same(got, want)
