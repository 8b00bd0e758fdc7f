"""Fine-tuning of latent diffusion models: to predict the noise (Ho et al., 2020, arXiv:2006.11239),
the velocity (Salimans and Ho, 2022, arXiv:2202.00512) or the sample.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import ImageOps

import keraslite as keras
from hub.diffusion.prompts import repeat_to_same_length
from hub.preprocessing.image_inputs import list_images, open_image, to_rgb
from keraslite import ops

_BATCH_SIZE = 4  # of images that are encoded


class NoisePrediction(keras.Model):
    """A model that draws noise and predicts it, so that `fit` trains it as any other model.

    Args:
        unet: the network.
        scheduler: a `Scheduler`, for the noise at each time and the prediction type.
        codec: the `LatentCodec` that made the moments.
        seed: the seed of the draws.

    Inputs: a dict of `moments` (batch, height, width, 8), means and log variances of latents,
    and `context` (batch, length, width). Output: predictions and targets,
    (2, batch, height, width, 4).
    """

    def __init__(self, unet: Any, scheduler: Any, codec: Any, seed: int | None = None):
        super().__init__(dtype="float32")
        self.unet, self.scheduler, self.codec = unet, scheduler, codec
        self.draws = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return the predictions and the targets."""
        moments = inputs["moments"]
        *shape, channels = ops.shape(moments)
        shape = (*shape, channels // 2)
        normal, noise = (keras.random.normal(shape, seed=self.draws) for _ in range(2))
        latents = self.codec.sample(moments, normal)
        num_timesteps = self.scheduler.config["num_train_timesteps"]
        times = keras.random.randint(shape[:1], 0, num_timesteps, seed=self.draws)
        noisy = self.scheduler.add_noise(latents, noise, times)
        out = self.unet(
            {"latents": noisy, "timestep": times, "context": inputs["context"]}, training=training
        )
        prediction_type, target = self.scheduler.config["prediction_type"], noise
        if prediction_type == "v_prediction":
            target = self.scheduler.velocity(latents, noise, times)
        elif prediction_type == "sample":
            target = latents
        return ops.stack([ops.cast(out, "float32"), target])

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None,
        training: bool = True,
    ) -> Any:  # fmt: skip
        """Return the loss of the predictions.

        Args:
            x: the inputs.
            y: not used.
            y_pred: what `call` returned.
            sample_weight: weights of the rows.
            training: whether it is a training step.
        """
        return super().compute_loss(x, y_pred[1], y_pred[0], sample_weight, training)


def training_inputs(
    pipeline: Any, codec: Any, images: Any, prompts: Any, verbose: int = 0
) -> dict[str, np.ndarray]:
    """Encode images and their texts, once, as inputs of `NoisePrediction`.

    Args:
        pipeline: a `StableDiffusionPipeline`; images are cropped to its height and width.
        codec: a `LatentCodec`.
        images: images of any sizes, as `hub.ImagePreprocessor` takes them.
        prompts: a text for each.
        verbose: 1 for a progress bar.

    Raises:
        ValueError: there are more or fewer texts than images, or the network is for inpainting.
    """
    if pipeline.unet.config["in_channels"] != pipeline.vae.latent_channels:
        raise ValueError("fit trains text-to-image networks, got one for inpainting.")
    images, texts = list_images(images), [prompts] if isinstance(prompts, str) else list(prompts)
    if len(images) != len(texts):
        raise ValueError(f"There are {len(images)} images, but {len(texts)} texts.")
    size = pipeline.img_width, pipeline.img_height
    bar = keras.utils.Progbar(len(images), verbose=verbose, unit_name="image")
    moments = []
    for start in range(0, len(images), _BATCH_SIZE):
        pixels = [
            np.asarray(ImageOps.fit(to_rgb(open_image(image, f"Image {start + i}")), size))
            for i, image in enumerate(images[start : start + _BATCH_SIZE])
        ]
        batch = np.stack(pixels).astype("float32") / 127.5 - 1
        moments.append(ops.convert_to_numpy(codec.moments(batch)))
        bar.update(start + len(pixels))
    unique = list(dict.fromkeys(texts))
    row_of = {text: i for i, text in enumerate(unique)}
    contexts = repeat_to_same_length([pipeline.encode_text(text) for text in unique])
    rows = ops.convert_to_numpy(ops.cast(ops.concatenate(contexts, axis=0), "float32"))
    return {
        "moments": np.concatenate(moments),
        "context": rows[[row_of[text] for text in texts]],
    }


def images_and_prompts(x: Any, y: Any) -> tuple[Any, Any]:
    """Return images and texts from the arguments of `fit`.

    Args:
        x: images, or a dict of `images` and `prompts`.
        y: texts, unless x is a dict.

    Raises:
        ValueError: either is missing.
    """
    if isinstance(x, Mapping) and set(x) == {"images", "prompts"} and y is None:
        return x["images"], x["prompts"]
    if isinstance(x, Mapping) or y is None:
        raise ValueError("Expected images and their texts, or a dict of images and prompts.")
    return x, y
