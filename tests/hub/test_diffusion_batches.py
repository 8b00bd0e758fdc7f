"""Batches of images: another number of them compiles nothing anew, and each is as it is alone."""

import diffusion_checkpoints
import numpy as np
import pytest

import hub
import keraslite as keras


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pipeline")
    diffusion_checkpoints.pipeline(path)
    return path


def test_another_number_of_images_compiles_nothing(backend, folder, capsys):
    model = hub.StableDiffusion.from_preset(folder, img_height=16, img_width=16)
    arguments = {"num_steps": 2, "output": "latent"}
    alone = [model.text_to_image("a cat", seed=seed, **arguments) for seed in (5, 6, 7)]
    said = capsys.readouterr().err
    compiles = keras.backend.compiles(backend)
    assert said.count("Compiling the denoising steps") == int(compiles)
    if compiles:
        assert f"on {backend} for 1 image with latents of 4 x 4" in said
    together = model.text_to_image("a cat", batch_size=3, seed=5, **arguments)
    assert capsys.readouterr().err == ""
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-5)
    steps = []
    model.text_to_image(
        "a cat",
        batch_size=3,
        seed=5,
        callback=lambda i, n, x: steps.append(x),
        verbose=0,
        **arguments,
    )
    assert capsys.readouterr().err == ""
    np.testing.assert_allclose(keras.ops.convert_to_numpy(steps[-1]), together, atol=1e-5)
    np.testing.assert_array_equal(
        model.preview(together), np.concatenate([model.preview(x[None]) for x in together])
    )


def test_sizes_are_powers_of_two_on_an_accelerator(monkeypatch):
    from hub.diffusion.batches import batch_sizes, split_rows

    monkeypatch.setattr(keras.backend, "accelerated", lambda name=None: True)
    assert batch_sizes(7, "jax") == [4, 2, 1]
    assert batch_sizes(7, "jax", compiled=False) == [7]
    assert batch_sizes(7, "torch") == [7]
    halves = split_rows(np.arange(14), [4, 2, 1])
    assert [part.tolist() for part in halves] == [
        [0, 1, 2, 3, 7, 8, 9, 10],
        [4, 5, 11, 12],
        [6, 13],
    ]
