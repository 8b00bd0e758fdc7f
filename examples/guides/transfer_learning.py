"""Learn digits from five pictures of each, with what was learnt from letters.

    python examples/guides/transfer_learning.py [--backend torch] [--out transfer_learning.png]

A network learns to read letters, of which there are many pictures. Its layers but the last know by
then how strokes look; they are frozen, and a new last layer on them learns the digits from the few
pictures that there are. At last all layers are trained a little further, with a small learning
rate ("fine-tuning"). The same network without the letters shows what they were worth. `--out` draws
the pictures of digits that are learnt from.
"""

import argparse

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import keraslite as keras
from keraslite import layers

SIZE = 28
LETTERS, DIGITS = "ABCDEFGHKLMNPRSTUVWXYZ", "0123456789"


def draw(character: str, random: np.random.Generator) -> np.ndarray:
    """Return a picture (SIZE, SIZE, 1) of a character, askew and under noise."""
    image = Image.new("L", (SIZE, SIZE))
    middle = tuple(SIZE / 2 + random.uniform(-2.5, 2.5, 2))
    font = ImageFont.load_default(size=random.uniform(17, 25))
    ImageDraw.Draw(image).text(middle, character, fill=255, font=font, anchor="mm")
    shear, turn = random.normal(0, 0.15), random.normal(0, 8)
    image = image.transform(image.size, Image.Transform.AFFINE, (1, shear, -14 * shear, 0, 1, 0))
    turned = np.asarray(image.rotate(turn, Image.Resampling.BILINEAR), "float32")[..., None] / 255
    return turned + random.normal(0, 0.2, turned.shape).astype("float32")


def make_data(characters: str, each: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures, `each` of every character, and the numbers of the characters."""
    random = np.random.default_rng(seed)
    labels = np.tile(np.arange(len(characters)), each)
    return np.stack([draw(characters[label], random) for label in labels]), labels


def build_base() -> keras.Model:
    """Return the layers that are to be transferred, from pictures to features."""
    inputs = keras.Input((SIZE, SIZE, 1))
    x = inputs
    for filters in (12, 24, 48):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.MaxPooling2D()(layers.ReLU()(x))
    return keras.Model(inputs, layers.Flatten()(x), name="base")


def with_head(base: keras.Model, classes: int) -> keras.Model:
    """Return a classifier on a base, whose normalization keeps the statistics that it has."""
    inputs = keras.Input((SIZE, SIZE, 1))
    x = base(inputs, training=False) if not base.trainable else base(inputs)
    return keras.Model(inputs, layers.Dense(classes)(layers.Dropout(0.3)(x)))


def train(model: keras.Model, data: tuple, rate: float, epochs: int, batch_size: int) -> None:
    """Compile and fit; `rate` is the learning rate."""
    pictures, labels = data
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    model.fit(pictures, labels, batch_size=batch_size, epochs=epochs, verbose=0)


def main() -> None:
    """Train on letters, then on digits, and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backend", choices=["jax", "torch", "tensorflow"])
    parser.add_argument("--out", help="the file of a picture")
    options = parser.parse_args()
    if options.backend:
        keras.use_backend(options.backend)
    keras.utils.set_random_seed(0)

    few, unseen = make_data(DIGITS, 5, seed=2), make_data(DIGITS, 48, seed=3)
    base = build_base()
    reader = with_head(base, len(LETTERS))
    train(reader, make_data(LETTERS, 64, seed=0), 3e-3, epochs=5, batch_size=32)
    letters = reader.evaluate(*make_data(LETTERS, 16, seed=1), verbose=0)[1]
    print(f"{letters:.1%} of unseen letters are read rightly.")

    base.trainable = False
    model = with_head(base, len(DIGITS))
    print(f"{len(model.trainable_variables)} of {len(model.variables)} variables are trained.")
    train(model, few, 5e-3, epochs=15, batch_size=10)
    frozen = model.evaluate(*unseen, verbose=0)[1]
    base.trainable = True
    train(model, few, 3e-4, epochs=8, batch_size=10)
    tuned = model.evaluate(*unseen, verbose=0)[1]

    alone = with_head(build_base(), len(DIGITS))
    train(alone, few, 3e-3, epochs=25, batch_size=10)
    scratch = alone.evaluate(*unseen, verbose=0)[1]
    print("Unseen digits that are read rightly, after five pictures of each:")
    print(f"  {scratch:.1%} with new layers, {frozen:.1%} with those of the letters, "
          f"{tuned:.1%} after fine-tuning")  # fmt: skip
    if options.out:
        keras.visualization.plot_image_gallery(
            few[0], rows=5, cols=10, value_range=(0, 1), path=options.out
        )
    assert letters > 0.85
    assert tuned > 0.6
    assert tuned > scratch + 0.1


if __name__ == "__main__":
    main()
