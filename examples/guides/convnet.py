"""Classify pictures with a convolutional network.

    python examples/guides/convnet.py [--backend torch] [--out convnet.png]

The pictures show circles, crosses, squares and triangles of any place, size, angle and brightness,
under noise. The network is built as most classifiers of pictures are: layers that change the
pictures at random, in training alone; blocks of convolution, normalization and pooling, of which
each sees a larger part of the picture than the one before it; and a softmax over what is left.
`EarlyStopping` watches pictures that are not trained on, and restores the best epoch's weights.
`--out` draws some unseen pictures with their labels and with what the network says.
"""

import argparse

import numpy as np
from PIL import Image, ImageDraw

import keraslite as keras
from keraslite import layers

SIZE = 28
NAMES = ("circle", "cross", "square", "triangle")


def draw(name: str, random: np.random.Generator) -> np.ndarray:
    """Return a picture (SIZE, SIZE, 1) of a shape."""
    image = Image.new("L", (SIZE, SIZE), int(random.integers(20, 80)))
    canvas, color = ImageDraw.Draw(image), int(random.integers(130, 230))
    radius, turn = random.uniform(8, 13), random.uniform(0, 2 * np.pi)
    center = random.uniform(radius, SIZE - radius, 2)

    def corners(count: int) -> list[tuple[float, ...]]:
        angles = turn + 2 * np.pi * np.arange(count) / count
        points = center + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        return [tuple(point) for point in points]

    if name == "circle":
        canvas.ellipse([*(center - radius), *(center + radius)], fill=color)
    elif name == "cross":
        for line in (corners(4)[::2], corners(4)[1::2]):
            canvas.line(line, fill=color, width=4)
    else:
        canvas.polygon(corners(4 if name == "square" else 3), fill=color)
    return np.asarray(image, "float32")[..., None] + random.normal(0, 10, (SIZE, SIZE, 1))


def make_data(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures (count, SIZE, SIZE, 1) of values up to 255, and their labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(len(NAMES), size=count)
    pictures = np.stack([draw(NAMES[label], random) for label in labels])
    return np.clip(pictures, 0, 255).astype("float32"), labels


def build_model() -> keras.Model:
    """Return the network, from pictures to the probabilities of the names."""
    inputs = keras.Input((SIZE, SIZE, 1))
    x = layers.RandomFlip()(inputs)
    x = layers.Rescaling(1 / 255)(x)
    for filters in (8, 16, 32):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.8)(x)
        x = layers.Activation("relu")(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Flatten()(x)
    x = layers.Dropout(0.3)(x)
    outputs = layers.Dense(len(NAMES), activation="softmax")(x)
    return keras.Model(inputs, outputs, name="convnet")


def main() -> None:
    """Train, evaluate and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backend", choices=["jax", "torch", "tensorflow"])
    parser.add_argument("--out", help="the file of a picture")
    options = parser.parse_args()
    if options.backend:
        keras.use_backend(options.backend)
    keras.utils.set_random_seed(0)

    x_train, y_train = make_data(1280, seed=0)
    x_test, y_test = make_data(320, seed=1)
    model = build_model()
    model.summary()
    model.compile(
        optimizer=keras.optimizers.Adam(2e-3),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    stop = keras.callbacks.EarlyStopping("val_accuracy", patience=3, restore_best_weights=True)
    model.fit(
        x_train, y_train, batch_size=32, epochs=7, validation_data=make_data(256, seed=2),
        callbacks=[stop], verbose=2,
    )  # fmt: skip

    _, accuracy = model.evaluate(x_test, y_test, verbose=0)
    print(f"{accuracy:.1%} of {len(x_test)} unseen pictures are classified rightly.")
    answers = model.predict(x_test, verbose=0).argmax(axis=1)
    for i, name in enumerate(NAMES):
        print(f"  {name:8} {np.mean(answers[y_test == i] == i):.0%}")
    if options.out:
        keras.visualization.plot_image_gallery(
            x_test[:24], y_true=y_test[:24], y_pred=answers[:24], rows=3, cols=8,
            value_range=(0, 255), label_map=dict(enumerate(NAMES)), path=options.out,
        )  # fmt: skip
    assert accuracy > 0.85


if __name__ == "__main__":
    main()
