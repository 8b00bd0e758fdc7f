"""Benchmark image data: files against torch's DataLoader, layers against those of Keras.

    python scripts/bench/image_data.py [--files 1000] [--only files|torch|jax|tensorflow|numpy]

Files: JPEGs of 500x375 are decoded, cut to 224x224, flipped and changed by RandAugment, by our
workers and X Layers: a row of flip, crop, colour jitter and RandAugment on a batch, then each
layer alone; a figure is the time of Keras over ours.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import in_process, peak_memory, ratio, report

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


def make_files(folder: Path, count: int) -> None:
    """Write JPEGs of smooth noise, as large as photographs of this size are."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(count):
        part = folder / f"class_{i % 2}"
        part.mkdir(exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (47, 63, 3), "uint8"))
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(part / f"{i}.jpg", quality=90)


class TimmPictures:
    """A data set for a DataLoader: pictures cut by Pillow, and timm's RandAugment."""

    def __init__(self, paths: list[str]):
        sys.path.append(str(Path(__file__).parents[2] / "tests" / "support"))
        from timm_oracle import import_timm

        import_timm()
        from timm.data.auto_augment import rand_augment_transform

        self.paths = paths
        # Without a deviation of the magnitude: at 10 timm's posterization is an error of Pillow.
        self.change = rand_augment_transform("rand-m9-inc1", {"img_mean": (124, 116, 104)})

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Any:
        import random

        import numpy as np
        from PIL import Image, ImageOps

        from hub.preprocessing.image_augment import random_resized_crop

        picture = Image.open(self.paths[row]).convert("RGB")
        picture = random_resized_crop(picture, (224, 224), np.random.default_rng())
        picture = ImageOps.mirror(picture) if random.random() < 0.5 else picture
        return np.asarray(self.change(picture))


def measure_files(count: int, rounds: int) -> None:
    """Print the figures of files."""
    import numpy as np
    from torch.utils.data import DataLoader

    import hub
    from hub.preprocessing.image_augment import AutoAugment

    workers = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder), count)
        pictures = hub.ImageFolder(folder, AutoAugment((224, 224)), workers=workers)
        batches = pictures.batches(64, np.asarray, shuffle=True)
        loader = DataLoader(TimmPictures(pictures.paths), 64, shuffle=True, num_workers=workers)

        def run(source: Any) -> Any:
            return lambda: sum(len(batch) for batch in source)

        times, seconds = ratio({"ours": run(batches), "torch": run(loader)}, rounds)
        rates = {library: round(count / value) for library, value in seconds.items()}
        report(f"{count} JPEG files, {workers} workers: torch's DataLoader / ours", times,
               "x time", ">= 1", images_per_second=rates)  # fmt: skip
        before = peak_memory()
        for _ in range(10):
            run(batches)()
        report(f"memory that {10 * count} more pictures take", (peak_memory() - before) / 2**20,
               "MiB", "<= 50")  # fmt: skip
        waits = first_waits(batches, 1.5 * seconds["ours"] / len(batches))
        report("longest wait for the first batch of an epoch but the first", 1000 * max(waits[1:]),
               "ms", "<= 5", of_the_first_epoch=round(1000 * waits[0], 1))  # fmt: skip


def first_waits(batches: Any, step: float) -> list[float]:
    """Return the seconds that a device waits for the first batch of each of four epochs.

    Args:
        batches: of a folder.
        step: seconds that the device works on a batch.
    """
    from keraslite.training import data

    waits = []
    with data.read_ahead(data.StreamData(batches), 4) as source:
        for epoch in range(4):
            begin = time.perf_counter()
            for i, _ in enumerate(data.batches(source, epoch)):
                if i == 0:
                    waits.append(time.perf_counter() - begin)
                time.sleep(step)
    return waits


def measure_layers(backend: str, count: int, rounds: int) -> None:
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
    """Measure files and each backend, in processes of their own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("files", *BACKENDS), help="one part")
    parser.add_argument("--files", type=int, default=1000, help="the number of files")
    parser.add_argument("--count", type=int, default=64, help="images in the batch")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is timed")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.here and asked.only == "files":
        measure_files(asked.files, asked.rounds)
    elif asked.here:
        measure_layers(asked.only, asked.count, asked.rounds)
    else:
        for part in (asked.only,) if asked.only else ("files", *BACKENDS):
            sizes = {"files": asked.files, "count": asked.count, "rounds": asked.rounds}
            options = [x for name, value in sizes.items() for x in (f"--{name}", str(value))]
            backend = {} if part == "files" else {"KERAS_BACKEND": part}
            in_process([__file__, "--here", "--only", part, *options], **backend)


if __name__ == "__main__":
    main()
