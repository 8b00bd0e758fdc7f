"""Threads: the answers of tasks, in several threads at once, cold and warm."""

import bert_checkpoints
import diffusion_checkpoints
import numpy as np
import pytest
import text_checkpoints
from backends import TRAINABLE
from checkpoints import cached
from threads import Beside, in_threads

import hub

TEXTS = ["the quick fox", "a dog", "the lazy dog jumps"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return cached(text_checkpoints.make, tmp_path_factory)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    return cached(bert_checkpoints.make, tmp_path_factory)


@pytest.mark.parametrize("kind", ["gpt2", "t5"])
def test_threads_generate(backend, checkpoints, kind):
    folder, _ = checkpoints(kind)
    task = hub.CausalLM if kind == "gpt2" else hub.Seq2SeqLM
    expected = task.from_preset(folder).generate(TEXTS, max_new_tokens=5)
    model = task.from_preset(folder)
    for _ in range(3):  # cold, then warm, then from a recording
        for out in in_threads(lambda _: model.generate(TEXTS, max_new_tokens=5), 4):
            assert out == expected


@pytest.mark.parametrize("trains", TRAINABLE)
def test_threads_predict_beside_one_that_trains(trains, encoders):
    folder, _ = encoders()
    model = hub.TextClassifier.from_preset(folder, num_classes=3, backend=trains)
    expected = model.predict(TEXTS, verbose=0)
    for out in in_threads(lambda _: model.predict(TEXTS, verbose=0), 4):
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)
    with Beside(lambda: model.fit(TEXTS, [0, 1, 2], verbose=0)) as training:
        for _ in range(5):
            for out in in_threads(lambda _: model.predict(TEXTS, verbose=0), 4):
                assert out.shape == (3, 3) and np.isfinite(out).all()
    assert training.calls


@pytest.mark.slow
def test_threads_draw(backend, tmp_path):
    diffusion_checkpoints.pipeline(tmp_path, "v1")
    make = lambda: hub.StableDiffusion.from_preset(tmp_path, img_height=32, img_width=32)  # noqa: E731
    draw = lambda model: model.draw("a cat", num_steps=2, seed=1)  # noqa: E731
    expected, model = draw(make()), make()
    for _ in range(2):
        for out in in_threads(lambda _: draw(model), 4):
            np.testing.assert_array_equal(out, expected)
