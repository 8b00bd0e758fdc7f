"""Learn what pictures have in common with a variational autoencoder.

    python examples/guides/vae.py [--backend torch] [--out vae.png]

The pictures are faces, which differ in the mouth, which laughs or not, in the distance of the eyes
and in the width of the head. An encoder turns each into a normal distribution over a few numbers, a
decoder turns numbers drawn from it back into the picture. The loss has two parts: how well the
picture comes back, and how far the distribution is from the standard one (the Kullback-Leibler
divergence), so that afterwards the decoder makes new faces out of plain noise. Overriding
`compute_loss` is enough for that, on every backend. `--out` draws unseen faces, what came back of
them, and new ones, in three rows.
"""

import argparse
from typing import Any

import numpy as np

import keraslite as keras
from keraslite import layers, ops

SIZE = 20
LATENT = 3


def make_pictures(count: int, seed: int) -> np.ndarray:
    """Return pictures (count, SIZE, SIZE, 1) of values from 0 to 1."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    low, high = (-0.2, 2.0, 6.5), (0.2, 4.0, 9.0)
    mouth, eyes, width = random.uniform(low, high, (count, 3)).T[..., None, None]
    head = np.abs(np.hypot(x * 9 / width, y) - 8.5)
    eye = np.hypot(np.abs(x) - eyes, y + 3)
    smile = np.maximum(np.abs(y - 3.5 + mouth * (x**2 - 7)), np.abs(x) - 4)
    distance = np.minimum(np.minimum(head, eye), smile)
    return (1 / (1 + np.exp(4 * (distance - 0.9))))[..., None].astype("float32")


class Sampling(layers.Layer):
    """Draw from normal distributions of given means and logarithms of variances."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(0)

    def call(self, inputs: Any) -> Any:
        mean, log_var = inputs
        noise = keras.random.normal(ops.shape(mean), seed=self.seed_generator)
        return mean + ops.exp(0.5 * log_var) * noise


class VAE(keras.Model):
    """An encoder and a decoder with a normal distribution between them."""

    def __init__(self, encoder: keras.Model, decoder: keras.Model, **kwargs: Any):
        super().__init__(**kwargs)
        self.encoder, self.decoder, self.sampling = encoder, decoder, Sampling()
        self.reconstruction_tracker = keras.metrics.Mean(name="reconstruction")
        self.kl_tracker = keras.metrics.Mean(name="kl")

    def call(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        mean, log_var = self.encoder(inputs)
        latent = self.sampling([mean, log_var]) if training else mean
        return {"picture": self.decoder(latent), "mean": mean, "log_var": log_var}

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None,
        training: bool = True,
    ) -> Any:  # fmt: skip
        mean, log_var = y_pred["mean"], y_pred["log_var"]
        error = keras.losses.binary_crossentropy(x, y_pred["picture"])
        reconstruction = ops.mean(ops.sum(error, axis=(1, 2)))
        kl = -0.5 * (1 + log_var - ops.square(mean) - ops.exp(log_var))
        kl = ops.mean(ops.sum(kl, axis=1))
        self.reconstruction_tracker.update_state(reconstruction)
        self.kl_tracker.update_state(kl)
        return reconstruction + kl


def build_encoder() -> keras.Model:
    """Return the encoder, from pictures to means and logarithms of variances."""
    pictures = keras.Input((SIZE, SIZE, 1))
    x = layers.Conv2D(8, 5, strides=2, padding="same", activation="relu")(pictures)
    x = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Dense(32, activation="relu")(layers.Flatten()(x))
    return keras.Model(pictures, [layers.Dense(LATENT)(x), layers.Dense(LATENT)(x)], name="encoder")


def build_decoder() -> keras.Model:
    """Return the decoder, from numbers to pictures."""
    latent = keras.Input((LATENT,))
    x = layers.Dense(32, activation="relu")(latent)
    x = layers.Dense(SIZE // 4 * SIZE // 4 * 16, activation="relu")(x)
    x = layers.Reshape((SIZE // 4, SIZE // 4, 16))(x)
    x = layers.UpSampling2D()(x)
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    x = layers.UpSampling2D()(x)
    pictures = layers.Conv2D(1, 3, padding="same", activation="sigmoid")(x)
    return keras.Model(latent, pictures, name="decoder")


def nearest(pictures: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the mean squared distance of each picture to the nearest of others."""
    a, b = (x.reshape(len(x), -1) for x in (pictures, others))
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return squares.min(axis=1) / a.shape[1]


def main() -> None:
    """Train, measure and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backend", choices=["jax", "torch", "tensorflow"])
    parser.add_argument("--out", help="the file of a picture")
    options = parser.parse_args()
    if options.backend:
        keras.use_backend(options.backend)
    keras.utils.set_random_seed(0)

    pictures, unseen = make_pictures(2000, seed=0), make_pictures(500, seed=1)
    vae = VAE(build_encoder(), build_decoder())
    vae.compile(keras.optimizers.Adam(3e-3))
    vae.fit(pictures, batch_size=50, epochs=12, verbose=2)

    back = vae.predict(unseen, verbose=0)["picture"]
    error = np.mean((back - unseen) ** 2)
    noise = keras.random.normal((200, LATENT), seed=1)
    new = vae.decoder.predict(noise, verbose=0)
    print(f"Variance of the pixels {unseen.var(0).mean():.3f}; squared error {error:.4f}")
    print(f"From a new picture to the nearest real one: {nearest(new, pictures).mean():.4f}")
    if options.out:
        keras.visualization.plot_image_gallery(
            np.concatenate([unseen[:8], back[:8], new[:8]]), rows=3, cols=8, value_range=(0, 1),
            path=options.out,
        )  # fmt: skip
    assert error < 0.25 * unseen.var(0).mean()
    assert nearest(new, pictures).mean() < 0.25 * unseen.var(0).mean()


if __name__ == "__main__":
    main()
