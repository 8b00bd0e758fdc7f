"""Take a model from Keras and give it back: open its file, train it on other backends, save it.

Keras and keraslite run side by side in one process here; only the file goes from one to the other.

    python examples/from_keras.py                    # jax, torch, tensorflow
    python examples/from_keras.py --backends torch
"""

import argparse
import os
import tempfile

os.environ.setdefault("KERAS_BACKEND", "torch")  # Keras's own, which it has for the whole process
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import keraslite

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--backends", nargs="+", default=["jax", "torch", "tensorflow"])
parser.add_argument("--epochs", type=int, default=2)
arguments = parser.parse_args()

rng = np.random.default_rng(0)
x = rng.normal(size=(256, 8)).astype("float32")
y = np.argmax(x[:, :3], axis=1)

with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "model.keras")

    # In Keras: make a model, train it, save it.
    inputs = keras.Input((8,))
    hidden = keras.layers.Dense(16, "relu")(inputs)
    outputs = keras.layers.Dense(3)(keras.layers.LayerNormalization()(hidden) + hidden)
    model = keras.Model(inputs, outputs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    model.fit(x, y, epochs=arguments.epochs, verbose=0)
    model.save(path)
    before = model.predict(x, verbose=0)
    print(f"keras on {keras.backend.backend()}: {model.evaluate(x, y, verbose=0)}")

    # In keraslite, on one backend after the other: open it, go on with training, save it.
    for backend in arguments.backends:
        with keraslite.use_backend(backend):
            own = keraslite.saving.load_model(path)
            np.testing.assert_allclose(own.predict(x, verbose=0), before, rtol=1e-4, atol=1e-5)
            own.fit(x, y, epochs=arguments.epochs, verbose=0)
            own.save(path)
            before = own.predict(x, verbose=0)
            print(f"keraslite on {backend}: {own.evaluate(x, y, verbose=0)}")

    # Back in Keras: the same outputs, and the optimizer where it stopped.
    model = keras.saving.load_model(path)
    np.testing.assert_allclose(model.predict(x, verbose=0), before, rtol=1e-4, atol=1e-5)
    steps = int(model.optimizer.iterations)
    print(f"keras again: {model.evaluate(x, y, verbose=0)}, after {steps} steps of training")
