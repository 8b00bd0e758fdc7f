"""Benchmark the image layers against those of Keras, on a batch of images.

    python scripts/bench/augmentation.py --only torch

A row of flip, crop, colour jitter and RandAugment, then each layer alone; a figure is the time of
Keras over ours. Goals: the row at least 2x on torch, at least 1x elsewhere.
"""

import argparse
import os
from typing import Any

from common import in_process, ratio, report

BACKENDS = ("torch", "jax", "tensorflow", "numpy")
JITTER = {
    "brightness_factor": 0.2, "contrast_factor": 0.2, "saturation_factor": 0.2, "hue_factor": 0.1,
}  # fmt: skip
ROW = {
    "RandomFlip": {"mode": "horizontal"},
    "RandomCrop": {"height": 224, "width": 224},
    "RandomColorJitter": JITTER,
    "RandAugment": {},
}
# RandomContrast and RandomSaturation of Keras refuse integers on some backends.
ALONE = {
    **ROW,
    "Resizing": {"height": 224, "width": 224}, "RandomRotation": {"factor": 0.1},
    "RandomTranslation": {"height_factor": 0.2, "width_factor": 0.2},
    "RandomZoom": {"height_factor": 0.2}, "RandomShear": {"x_factor": 0.2, "y_factor": 0.2},
    "RandomPerspective": {"scale": 0.4}, "RandomErasing": {}, "RandomElasticTransform": {},
    "RandomGaussianBlur": {}, "RandomBrightness": {"factor": 0.3}, "RandomHue": {"factor": 0.3},
    "RandomColorDegeneration": {"factor": 0.5}, "RandomGrayscale": {},
    "RandomSharpness": {"factor": 0.8}, "RandomInvert": {}, "RandomPosterization": {"factor": 5},
    "Solarization": {"addition_factor": 0.2, "threshold_factor": 0.5}, "AutoContrast": {},
    "Equalization": {}, "MixUp": {}, "CutMix": {}, "AugMix": {},
}  # fmt: skip


def measure(backend: str, count: int, rounds: int) -> None:
    """Print the figures of one backend, which is that of Keras in this process."""
    import keras
    import numpy as np

    import keraslite

    keraslite.use_backend(backend)
    images = np.random.default_rng(0).integers(0, 256, (count, 256, 256, 3)).astype("uint8")

    def run(library: Any, row: dict[str, dict]) -> Any:
        layers = [getattr(library.layers, name)(**arguments) for name, arguments in row.items()]

        def call() -> None:
            out: Any = images
            for layer in layers:
                out = layer(out, training=True)
            library.ops.convert_to_numpy(out)  # waits for the result

        return call

    rows = {"flip, crop, jitter, RandAugment": ROW} | {name: {name: ALONE[name]} for name in ALONE}
    for name, row in rows.items():
        times, seconds = ratio({"ours": run(keraslite, row), "keras": run(keras, row)}, rounds)
        goal = "" if name in ALONE else ">= 2" if backend == "torch" else ">= 1"
        spent = {library: round(1000 * value, 2) for library, value in seconds.items()}
        report(f"{backend}: {name}", times, "x Keras's time", goal, milliseconds=spent)


def main() -> None:
    """Measure each backend in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=BACKENDS, help="one backend")
    parser.add_argument("--count", type=int, default=64, help="images in the batch")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is timed")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.here:
        measure(asked.only, asked.count, asked.rounds)
        return
    for backend in (asked.only,) if asked.only else BACKENDS:
        sizes = ["--count", str(asked.count), "--rounds", str(asked.rounds)]
        arguments = [__file__, "--here", "--only", backend, *sizes]
        in_process(arguments, KERAS_BACKEND=backend, PYTHONPATH=os.environ.get("PYTHONPATH", ""))


if __name__ == "__main__":
    main()
