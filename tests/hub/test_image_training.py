"""A classifier from scratch learns drawn shapes, alike on every backend."""

import functools
import runpy
from pathlib import Path

import numpy as np
import pytest

import hub
import keraslite as keras

EXAMPLE = Path(__file__).parents[2] / "examples" / "classify_images.py"
NAMES = ["circle", "cross", "triangle"]


@functools.cache
def trained(backend):
    """Return the mean loss up to each step, and the part of unseen pictures that is right."""
    example = runpy.run_path(str(EXAMPLE))

    def shapes(count, seed):
        pairs = zip(*example["pictures"](count, seed), strict=True)
        return zip(*((image, name) for image, name in pairs if name in NAMES), strict=True)

    losses = []
    log = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: losses.append(logs["loss"])
    )
    images, names = shapes(250, seed=0)
    unseen, labels = shapes(300, seed=1)
    with keras.use_backend(backend):
        keras.utils.set_random_seed(0)
        backbone = hub.ResNetBackbone(
            (16, 32, 64, 128), (1, 1, 1, 1), "basic_block", input_conv_filters=16
        )
        preprocessor = hub.ImagePreprocessor("ViT", size=32)
        model = hub.ImageClassifier(backbone, labels=NAMES, preprocessor=preprocessor)
        rate = keras.optimizers.schedules.CosineDecay(0.0, 160, warmup_target=2e-3, warmup_steps=30)
        model.compile(keras.optimizers.AdamW(rate))
        turned = [each for image in images for each in example["orientations"](image)]
        repeated = [name for name in names for _ in range(8)]
        model.fit(turned, repeated, epochs=5, verbose=0, callbacks=[log])
        answers = model.classify(list(unseen))
    right = [answer["label"] == label for answer, label in zip(answers, labels, strict=True)]
    return [float(loss) for loss in losses], np.mean(right)


@pytest.mark.slow
def test_unseen_shapes_are_recognised(trains):
    losses, accuracy = trained(trains)
    assert accuracy >= 0.95
    # Later steps differ, as rounding grows from one to the next.
    np.testing.assert_allclose(losses[:8], trained("torch")[0][:8], rtol=1e-4)
