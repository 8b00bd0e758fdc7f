"""Tell whether two drawings are of the same sign, also of signs never seen, with shared layers.

    python examples/guides/siamese.py [--backend torch] [--out siamese.png]

A sign is a stroke through five points; every drawing of it is a little moved, turned and bent. One
encoder is applied to both drawings of a pair, so that its layers are shared, and turns each into a
vector. Training pulls the vectors of the same sign together and pushes others apart (the
contrastive loss). Signs are then recognised from a single drawing ("one-shot"): of five signs that
were never trained on, a new drawing is the one with the nearest vector. `--out` draws pairs with
their distances.
"""

import argparse
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

import keraslite as keras
from keraslite import layers, ops

SIZE = 24
MARGIN = 1.0


def draw(points: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return a drawing (SIZE, SIZE, 1) of a sign, of values from 0 to 1."""
    turn, zoom = random.normal(0, 0.12), random.normal(1, 0.06)
    matrix = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    bent = points @ matrix + random.normal(0, 0.05, points.shape) + random.normal(0, 0.05, 2)
    image = Image.new("L", (2 * SIZE, 2 * SIZE))
    line = [tuple(point) for point in (bent * 0.4 + 0.5) * 2 * SIZE]
    ImageDraw.Draw(image).line(line, fill=255, width=4, joint="curve")
    return np.asarray(image.resize((SIZE, SIZE)), "float32")[..., None] / 255


def make_drawings(signs: int, each: int, seed: int) -> np.ndarray:
    """Return drawings (signs, each, SIZE, SIZE, 1) of new signs."""
    random = np.random.default_rng(seed)
    points = random.uniform(-1, 1, (signs, 5, 2))
    return np.stack([[draw(sign, random) for _ in range(each)] for sign in points])


def make_pairs(drawings: np.ndarray, count: int, seed: int) -> tuple[tuple, np.ndarray]:
    """Return ((drawings, drawings), whether they are of the same sign), half of them are."""
    random = np.random.default_rng(seed)
    signs, each = drawings.shape[:2]
    same = random.integers(2, size=count)
    first = random.integers(signs, size=count)
    second = (first + (1 - same) * random.integers(1, signs, count)) % signs
    one, other = (drawings[s, random.integers(each, size=count)] for s in (first, second))
    return (one, other), same.astype("float32")[:, None]


def build_encoder() -> keras.Model:
    """Return the encoder, from drawings to vectors."""
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 1)),
            layers.Conv2D(16, 5, strides=2, padding="same", activation="relu"),
            layers.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(32),
        ],
        name="encoder",
    )


def contrastive_loss(same: Any, distance: Any) -> Any:
    """Return a loss that is 0 where the same are at 0 and others at MARGIN or farther."""
    apart = ops.square(ops.maximum(MARGIN - distance, 0.0))
    return ops.mean(same * ops.square(distance) + (1 - same) * apart, axis=-1)


def main() -> None:
    """Train on pairs, and recognise new signs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backend", choices=["jax", "torch", "tensorflow"])
    parser.add_argument("--out", help="the file of a picture")
    options = parser.parse_args()
    if options.backend:
        keras.use_backend(options.backend)
    keras.utils.set_random_seed(0)

    encoder = build_encoder()
    one, other = (
        keras.Input((SIZE, SIZE, 1), name="one"),
        keras.Input((SIZE, SIZE, 1), name="other"),
    )
    difference = layers.Subtract()([encoder(one), encoder(other)])
    squares = ops.sum(ops.square(difference), axis=-1, keepdims=True)
    model = keras.Model([one, other], ops.sqrt(ops.maximum(squares, 1e-6)))

    def accuracy(same: Any, distance: Any) -> Any:
        return keras.metrics.binary_accuracy(same, -distance, threshold=-MARGIN / 2)

    model.compile(keras.optimizers.Adam(2e-3), contrastive_loss, metrics=[accuracy])
    pairs, same = make_pairs(make_drawings(200, 8, seed=0), 5000, seed=0)
    model.fit(pairs, same, batch_size=100, epochs=6, verbose=2)

    drawings = make_drawings(50, 10, seed=1)  # of signs that the model has not seen
    test_pairs, test_same = make_pairs(drawings, 960, seed=1)
    _, pairs_right = model.evaluate(test_pairs, test_same, verbose=0)
    vectors = encoder.predict(drawings.reshape(-1, SIZE, SIZE, 1), verbose=0).reshape(10, 5, 10, -1)
    known, new = vectors[:, :, :1], vectors[:, :, 1:]  # ten groups of five signs
    distances = np.linalg.norm(new[:, :, :, None] - known[:, None, None, :, 0], axis=-1)
    signs_right = np.mean(distances.argmin(axis=-1) == np.arange(5)[:, None])
    print(f"{pairs_right:.1%} of the pairs of new signs are judged rightly.")
    print(f"{signs_right:.1%} of the drawings are recognised by one drawing of each of five signs.")
    if options.out:
        found = model.predict(test_pairs, verbose=0)[:8, 0]
        keras.visualization.plot_image_gallery(
            np.concatenate([test_pairs[0][:8], test_pairs[1][:8]]), rows=2, cols=8,
            value_range=(0, 1), path=options.out,
        )  # fmt: skip
        print("Distances of the drawn pairs:", ", ".join(f"{d:.2f}" for d in found))
    assert pairs_right > 0.8
    assert signs_right > 0.8


if __name__ == "__main__":
    main()
