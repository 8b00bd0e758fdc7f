"""What takes long to compile is said on a terminal, and nowhere else."""

import io
import threading
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from backends import BACKENDS

import keraslite as keras
from keraslite.backend import compile_notice


class Terminal(io.StringIO):
    """Takes errors as a terminal does."""

    def isatty(self):
        return True


class Impatient:
    """A timer whose time is over at once."""

    def __init__(self, seconds, function, args):
        self.start = partial(function, *args)

    def cancel(self):
        """Too late."""


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(compile_notice, "Timer", Impatient)
    stream = Terminal()
    monkeypatch.setattr(compile_notice, "sys", SimpleNamespace(stderr=stream))
    return stream


def trained(backend, rows=4):
    with keras.use_backend(backend):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.compile("sgd", "mse")
        model.fit(np.ones((rows, 3)), np.ones((rows, 2)), verbose=0, batch_size=4)
    return model


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name in ("jax", "tensorflow")])
def test_a_training_step_is_named(backend, terminal):
    trained(backend)
    step = "jit(train_step)" if backend == "jax" else "train_step"
    assert f"Compiling {step} on {backend}, once" in terminal.getvalue()


def test_jax_compiles_again_for_other_shapes(terminal):
    trained("jax", rows=7)  # the last batch has three rows
    assert terminal.getvalue().count("train_step") == 2


def test_calls_after_the_first_are_silent(terminal):
    step = compile_notice.announced(abs, "a step on torch")
    assert (step(-1), step(-2)) == (1, 2)
    assert terminal.getvalue().count("Compiling a step on torch") == 1


def test_short_compilations_are_silent(terminal, monkeypatch):
    monkeypatch.setattr(compile_notice, "Timer", threading.Timer)
    trained("jax")
    assert terminal.getvalue() == ""


def test_silence_where_it_is_asked_for(terminal):
    keras.config.disable_interactive_logging()
    try:
        trained("jax")
    finally:
        keras.config.enable_interactive_logging()
    assert terminal.getvalue() == ""


def test_files_are_no_terminals(monkeypatch):
    monkeypatch.setattr(compile_notice, "Timer", Impatient)
    stream = io.StringIO()
    monkeypatch.setattr(compile_notice, "sys", SimpleNamespace(stderr=stream))
    trained("jax")
    assert stream.getvalue() == ""
