"""Predict from a table of texts, categories and numbers with FeatureSpace.

    python examples/guides/structured_data.py [--backend torch]

Each row is an hour at a station of rental bicycles; the question is whether the last bicycle will
be gone. `FeatureSpace` says for each column how it becomes numbers, learns from the table what that
needs (means, vocabularies, bounds), and crosses columns that mean something only together: eight in
the morning is busy on weekdays, three in the afternoon at weekends. Training reads rows that
are encoded once; the model made at the end takes the columns as they are. (With Keras a model that
takes texts needs TensorFlow; here it runs on every backend.)
"""

import argparse

import numpy as np

import keraslite as keras
from keraslite import layers
from keraslite.utils import FeatureSpace

STATIONS = ("harbour", "market", "museum", "park", "school", "station", "tower", "zoo")


def make_table(rows: int, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Return columns, whether the last bicycle went, and the probability by which it did."""
    random = np.random.default_rng(seed)
    table = {
        "station": random.choice(STATIONS, rows).astype("object"),
        "weather": random.choice(["sun", "rain"], rows, p=[0.7, 0.3]).astype("object"),
        "weekend": random.choice(["yes", "no"], rows, p=[0.3, 0.7]).astype("object"),
        "hour": random.integers(0, 24, rows),
        "temperature": random.normal(14, 8, rows).astype("float32"),
        "wind": random.gamma(2.0, 2.0, rows).astype("float32"),
    }
    popular = dict(zip(STATIONS, np.linspace(-1.0, 1.0, len(STATIONS))))
    sky = {"sun": 0.6, "rain": -1.8}
    peak = np.where(table["weekend"] == "yes", 15, 8)
    logits = 3.5 * np.exp(-(((table["hour"] - peak) / 3) ** 2)) - 1.2
    logits += [popular[s] + sky[w] for s, w in zip(table["station"], table["weather"])]
    logits -= ((table["temperature"] - 20) / 12) ** 2 + 0.1 * table["wind"]
    probability = 1 / (1 + np.exp(-2 * logits))
    return table, (random.random(rows) < probability).astype("float32"), probability


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the area under the ROC curve."""
    metric = keras.metrics.AUC(num_thresholds=500)
    metric.update_state(labels, scores)
    return float(metric.result())


def main() -> None:
    """Learn the encoding, train, and predict from raw columns."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backend", choices=["jax", "torch", "tensorflow"])
    options = parser.parse_args()
    if options.backend:
        keras.use_backend(options.backend)
    keras.utils.set_random_seed(0)

    table, gone, _ = make_table(6000, seed=0)
    unseen, unseen_gone, probability = make_table(2000, seed=1)
    space = FeatureSpace(
        features={
            "station": FeatureSpace.string_hashed(num_bins=32),
            "weather": FeatureSpace.string_categorical(num_oov_indices=0),
            "weekend": FeatureSpace.string_categorical(num_oov_indices=0),
            "hour": FeatureSpace.integer_categorical(num_oov_indices=0),
            "temperature": FeatureSpace.float_discretized(num_bins=12),
            "wind": FeatureSpace.float_normalized(),
        },
        crosses=[FeatureSpace.cross(("weekend", "hour"), crossing_dim=128)],
        output_mode="concat",
    )
    space.adapt(table)
    encoded = keras.ops.convert_to_numpy(space(table))
    print(f"{len(table)} columns become {encoded.shape[1]} numbers.")

    inputs = space.get_encoded_features()
    x = layers.Dense(24, activation="relu")(inputs)
    x = layers.Dropout(0.3)(x)
    outputs = layers.Dense(1, activation="sigmoid")(x)
    model = keras.Model(inputs, outputs)
    model.compile(
        "adam", "binary_crossentropy", metrics=["accuracy", keras.metrics.AUC(name="auc")]
    )
    model.fit(encoded, gone, batch_size=64, epochs=8, validation_split=0.1, verbose=2)

    from_columns = keras.Model(space.get_inputs(), outputs)
    scores = from_columns.predict(unseen, verbose=0)[:, 0]
    fine = {"station": "park", "weather": "sun", "temperature": 20.0, "wind": 1.0}
    for weekend, hour in (("no", 8), ("no", 15), ("yes", 8), ("yes", 15)):
        row = {**fine, "weekend": weekend, "hour": hour}
        columns = {name: np.array([row[name]], table[name].dtype) for name in table}
        answer = from_columns.predict(columns, verbose=0)
        print(f"  at {hour:2} in the park, weekend: {weekend:3}  {answer[0, 0]:.0%}")
    reached, possible = auc(unseen_gone, scores), auc(unseen_gone, probability)
    print(f"AUC on unseen rows: {reached:.3f}; of the true probabilities: {possible:.3f}")
    assert reached > possible - 0.04


if __name__ == "__main__":
    main()
