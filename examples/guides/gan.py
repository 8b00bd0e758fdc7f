"""Generate pictures with a generative adversarial network.

    python examples/guides/gan.py [--backend torch] [--out gan.png]

A generator makes pictures out of noise; a discriminator tells them from real ones, which show a
disc of any place and size. Each learns from the other: `train_step` is overridden, with an
optimizer for each of the two. It is written once for all backends, in terms of
`keras.value_and_grad` (Keras itself has no such function and needs a `train_step` for each
backend). At the end the generated pictures are measured: a good one is a disc, as round and as
sharp as the real ones, and all places must come up. `--out` draws some.
"""

import argparse
from typing import Any

import numpy as np

import keraslite as keras
from keraslite import layers, ops

SIZE = 12
LATENT = 4


def disc(x: np.ndarray, y: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Return pictures (n, SIZE, SIZE, 1) of discs with soft edges, of values from 0 to 1."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    x, y, radius = (v[:, None, None] for v in (x, y, radius))
    inside = radius - np.hypot(columns - x, rows - y)
    return (1 / (1 + np.exp(-2 * inside)))[..., None].astype("float32")


def make_pictures(count: int, seed: int) -> np.ndarray:
    """Return real pictures."""
    random = np.random.default_rng(seed)
    radius = random.uniform(2.5, 4.5, count)
    x, y = random.uniform(radius, SIZE - 1 - radius, (2, count))
    return disc(x, y, radius)


def roundness(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how well a disc of the same area and centre fits (IoU), and the centres."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    mass = pictures[..., 0] + 1e-6
    area = mass.sum((1, 2))
    x, y = ((mass * axis).sum((1, 2)) / area for axis in (columns, rows))
    fitted = disc(x, y, np.sqrt(area / np.pi))[..., 0]
    fit = np.minimum(mass, fitted).sum((1, 2)) / np.maximum(mass, fitted).sum((1, 2))
    return fit, np.stack([x, y], axis=1)


class GAN(keras.Model):
    """A generator and a discriminator that learn from each other."""

    def __init__(self, generator: keras.Model, discriminator: keras.Model):
        super().__init__()
        self.generator, self.discriminator = generator, discriminator
        self.seed_generator = keras.random.SeedGenerator(0)
        self.loss_fn = keras.losses.BinaryCrossentropy(from_logits=True)
        self.d_loss = keras.metrics.Mean(name="d_loss")
        self.g_loss = keras.metrics.Mean(name="g_loss")

    def compile(self, d_optimizer: Any, g_optimizer: Any) -> None:  # type: ignore[override]
        super().compile()
        self.d_optimizer, self.g_optimizer = d_optimizer, g_optimizer

    @property
    def metrics(self) -> list[Any]:
        return [self.d_loss, self.g_loss]

    def train_step(self, data: Any) -> dict[str, Any]:
        real, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        count = ops.shape(real)[0]
        ones, zeros = ops.ones((count, 1)), ops.zeros((count, 1))

        def discriminator_loss() -> Any:
            noise = keras.random.normal((count, LATENT), seed=self.seed_generator)
            fake = ops.stop_gradient(self.generator(noise, training=True))
            scores = self.discriminator(ops.concatenate([real, fake]), training=True)
            return self.loss_fn(ops.concatenate([0.9 * ones, zeros]), scores)

        def generator_loss() -> Any:
            noise = keras.random.normal((count, LATENT), seed=self.seed_generator)
            fake = self.generator(noise, training=True)
            return self.loss_fn(ones, self.discriminator(fake, training=True))

        for compute_loss, model, optimizer, metric in (
            (discriminator_loss, self.discriminator, self.d_optimizer, self.d_loss),
            (generator_loss, self.generator, self.g_optimizer, self.g_loss),
        ):
            variables = model.trainable_variables
            loss, gradients = keras.value_and_grad(compute_loss, variables=variables)()
            optimizer.apply(gradients, variables)
            metric.update_state(loss)
        return {metric.name: metric.result() for metric in self.metrics}


def build_generator() -> keras.Model:
    """Return the generator, from noise to pictures."""
    return keras.Sequential(
        [
            keras.Input((LATENT,)),
            layers.Dense(64, use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.Dense(SIZE // 2 * SIZE // 2 * 16, use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.Reshape((SIZE // 2, SIZE // 2, 16)),
            layers.Conv2DTranspose(1, 4, strides=2, padding="same", activation="sigmoid"),
        ]
    )


def build_discriminator() -> keras.Model:
    """Return the discriminator, from pictures to scores, which are high for real ones."""
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 1)),
            layers.Conv2D(16, 4, strides=2, padding="same"),
            layers.LeakyReLU(0.2),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(64),
            layers.LeakyReLU(0.2),
            layers.Dense(1),
        ]
    )


def main() -> None:
    """Train, measure and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backend", choices=["jax", "torch", "tensorflow"])
    parser.add_argument("--out", help="the file of a picture")
    options = parser.parse_args()
    if options.backend:
        keras.use_backend(options.backend)
    keras.utils.set_random_seed(0)

    gan = GAN(build_generator(), build_discriminator())
    adam = keras.optimizers.Adam
    gan.compile(d_optimizer=adam(1e-3, beta_1=0.5), g_optimizer=adam(2e-3, beta_1=0.5))
    gan.fit(make_pictures(2000, seed=0), batch_size=40, epochs=14, verbose=2)

    noise = keras.random.normal((400, LATENT), seed=1)
    generated = gan.generator.predict(noise, verbose=0)
    fit, centers = roundness(generated)
    real_fit, real_centers = roundness(make_pictures(400, seed=1))
    for name, f, c in (("real", real_fit, real_centers), ("generated", fit, centers)):
        print(f"  {name:9} discs: roundness {f.mean():.1%}, spread {c.std(0).mean():.2f}")
    if options.out:
        keras.visualization.plot_image_gallery(
            generated[:32], rows=4, cols=8, value_range=(0, 1), path=options.out
        )
    assert fit.mean() > 0.8
    assert centers.std(0).min() > 0.6 * real_centers.std(0).mean()


if __name__ == "__main__":
    main()
