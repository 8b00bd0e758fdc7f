"""Forecast the temperature with a recurrent network.

    python examples/guides/time_series.py [--backend torch] [--out time_series.png]

The weather is made from sums of sines and from fronts that come at random: the pressure falls
first, and the temperature follows half a day later. The network reads two days, hour by hour, and
tells the temperature twelve hours after their end. `timeseries_dataset_from_array` cuts the series
into such windows, a batch at a time. A forecast is worth something if it beats those that need no
network: "as now", and "as yesterday at that hour". `--out` draws a fortnight of forecasts.
"""

import argparse

import numpy as np

import keraslite as keras
from keraslite import layers

AHEAD = 12  # hours
WINDOW = 48


def make_weather(hours: int, seed: int) -> np.ndarray:
    """Return (hours, 4): temperature, pressure, and the sine and cosine of the time of day."""
    random = np.random.default_rng(seed)
    hour = np.arange(hours)
    day, year = 2 * np.pi * hour / 24, 2 * np.pi * hour / (24 * 365)
    fronts = np.zeros(hours)
    for start in np.cumsum(random.geometric(1 / 40, hours // 20)):
        passing = np.exp(-np.arange(max(hours - start, 0)) / 60)
        fronts[start:] += random.normal(0, 6) * passing
    smooth = np.convolve(fronts, np.ones(6) / 6, "full")[:hours]
    temperature = 10 - 8 * np.cos(year) - 4 * np.cos(day - 0.6) + np.roll(smooth, AHEAD)
    temperature += random.normal(0, 0.4, hours)
    pressure = 1013 + 2 * smooth + random.normal(0, 0.8, hours)
    columns = [temperature, pressure, np.sin(day), np.cos(day)]
    return np.stack(columns, axis=1)[AHEAD:].astype("float32")


def windows(series: np.ndarray, shuffle: bool):
    """Return batches of (two days, the temperature AHEAD hours after their last)."""
    return keras.utils.timeseries_dataset_from_array(
        series[:-AHEAD],
        targets=series[WINDOW + AHEAD - 1 :, :1],
        sequence_length=WINDOW,
        batch_size=64,
        shuffle=shuffle,
        seed=0,
    )


def main() -> None:
    """Train, and compare with simple forecasts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backend", choices=["jax", "torch", "tensorflow"])
    parser.add_argument("--out", help="the file of a picture")
    options = parser.parse_args()
    if options.backend:
        keras.use_backend(options.backend)
    keras.utils.set_random_seed(0)

    weather = make_weather(24 * 220, seed=0)
    train, validation, test = np.split(weather, [24 * 150, 24 * 180])
    normalize = layers.Normalization()
    normalize.adapt(train)
    model = keras.Sequential(
        [
            keras.Input((WINDOW, weather.shape[1])),
            normalize,
            layers.GRU(24),
            layers.Dense(1),
            layers.Rescaling(float(train[:, 0].std()), offset=float(train[:, 0].mean())),
        ]
    )
    model.compile(keras.optimizers.Adam(1e-2), loss="mse", metrics=["mae"])
    slower = keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.3, patience=1)
    history = model.fit(
        windows(train, True), validation_data=windows(validation, False), epochs=5,
        callbacks=[slower], verbose=2,
    )  # fmt: skip
    print(f"learning rates: {', '.join(f'{r:.0e}' for r in history.history['learning_rate'])}")

    forecast = model.predict(windows(test, False), verbose=0)[:, 0]
    truth = test[WINDOW + AHEAD - 1 :, 0]
    errors = {
        "as now": test[WINDOW - 1 : -AHEAD, 0] - truth,
        "as yesterday": test[WINDOW + AHEAD - 25 : -24, 0] - truth,
        "the network": forecast - truth,
    }
    error = {name: float(np.abs(values).mean()) for name, values in errors.items()}
    for name, value in error.items():
        print(f"  {name:14} is wrong by {value:.2f} degrees")
    if options.out:
        import matplotlib.pyplot as plt

        plt.figure(figsize=(10, 3))
        plt.plot(truth[: 24 * 14], label="temperature")
        plt.plot(forecast[: 24 * 14], label=f"forecast {AHEAD} hours before")
        plt.legend()
        plt.savefig(options.out)
    assert error["the network"] < 0.7 * min(error["as now"], error["as yesterday"])


if __name__ == "__main__":
    main()
