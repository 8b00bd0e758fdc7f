"""Fine-tuning of latent diffusion: a network learns to tell noise from images (Ho et al., 2020,
arXiv:2006.11239), or their velocity (Salimans and Ho, 2022, arXiv:2202.00512).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import ImageOps

import keraslite as keras
from hub.diffusion.prompts import evened
from hub.preprocessing.image_inputs import listed, opened, red_green_blue
from keraslite import ops

_AT_ONCE = 4  # images that are encoded together


class NoisePrediction(keras.Model):
    """A network with noise of its own drawing, so that `fit` trains it as any other model.

    Args:
        unet: the network.
        scheduler: a `Scheduler`: how much noise there is at a time, and what is predicted.
        codec: the `LatentCodec` that made the moments.
        seed: of the draws.

    Inputs: a dict of `moments` (batch, height, width, 8), means and logarithms of variances of
    latents, and `context` (batch, length, width). Output: what the network gave and what it should
    have given, (2, batch, height, width, 4).
    """

    def __init__(self, unet: Any, scheduler: Any, codec: Any, seed: int | None = None):
        super().__init__(dtype="float32")
        self.unet, self.scheduler, self.codec = unet, scheduler, codec
        self.draws = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """What the network gave, and what it should have given."""
        moments = inputs["moments"]
        *shape, channels = ops.shape(moments)
        shape = (*shape, channels // 2)
        drawn, noise = (keras.random.normal(shape, seed=self.draws) for _ in range(2))
        latents = self.codec.drawn(moments, drawn)
        most = self.scheduler.config["num_train_timesteps"]
        times = keras.random.randint(shape[:1], 0, most, seed=self.draws)
        noisy = self.scheduler.add_noise(latents, noise, times)
        out = self.unet(
            {"latents": noisy, "timestep": times, "context": inputs["context"]}, training=training
        )
        kind, wanted = self.scheduler.config["prediction_type"], noise
        if kind == "v_prediction":
            wanted = self.scheduler.velocity(latents, noise, times)
        elif kind == "sample":
            wanted = latents
        return ops.stack([ops.cast(out, "float32"), wanted])

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None,
        training: bool = True,
    ) -> Any:  # fmt: skip
        """The loss of what the network gave.

        Args:
            x: the inputs.
            y: not used.
            y_pred: what `call` returned.
            sample_weight: weights of the rows.
            training: whether the call trains.
        """
        return super().compute_loss(x, y_pred[1], y_pred[0], sample_weight, training)


def training_inputs(
    pipeline: Any, codec: Any, images: Any, prompts: Any, verbose: int = 0
) -> dict[str, np.ndarray]:
    """What `NoisePrediction` takes, of images and their texts: both are encoded but once.

    Args:
        pipeline: a `StableDiffusionPipeline`, whose height and width images are fitted to.
        codec: a `LatentCodec`.
        images: as `hub.preprocessing.image_inputs.opened` takes them, of any sizes.
        prompts: a text for each.
        verbose: 1 for a progress bar.

    Raises:
        ValueError: there are more or fewer texts than images, or the network takes masks.
    """
    if pipeline.unet.config["in_channels"] != pipeline.vae.latent_channels:
        raise ValueError("This network makes parts of images anew; fit trains those of whole ones.")
    every, texts = listed(images), [prompts] if isinstance(prompts, str) else list(prompts)
    if len(every) != len(texts):
        raise ValueError(f"There are {len(every)} images, but {len(texts)} texts.")
    size = pipeline.img_width, pipeline.img_height
    bar = keras.utils.Progbar(len(every), verbose=verbose, unit_name="image")
    moments = []
    for start in range(0, len(every), _AT_ONCE):
        pixels = [
            np.asarray(ImageOps.fit(red_green_blue(opened(image, f"Image {start + i}")), size))
            for i, image in enumerate(every[start : start + _AT_ONCE])
        ]
        found = codec.moments(np.stack(pixels).astype("float32") / 127.5 - 1)
        moments.append(ops.convert_to_numpy(found))
        bar.update(start + len(pixels))
    unique = list(dict.fromkeys(texts))
    places = {text: i for i, text in enumerate(unique)}
    contexts = evened([pipeline.encode_text(text) for text in unique])
    rows = ops.convert_to_numpy(ops.cast(ops.concatenate(contexts, axis=0), "float32"))
    return {
        "moments": np.concatenate(moments),
        "context": rows[[places[text] for text in texts]],
    }


def pairs(x: Any, y: Any) -> tuple[Any, Any]:
    """Images and texts out of the arguments of `fit`.

    Args:
        x: images, or a dict of `images` and `prompts`.
        y: texts, where x is no dict.

    Raises:
        ValueError: either is missing.
    """
    if isinstance(x, Mapping) and set(x) == {"images", "prompts"} and y is None:
        return x["images"], x["prompts"]
    if isinstance(x, Mapping) or y is None:
        raise ValueError("Expected images and their texts, or a dict of images and prompts.")
    return x, y
