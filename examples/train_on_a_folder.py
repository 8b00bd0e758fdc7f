"""Train a classifier on a folder of pictures, and draw what happened.

    python examples/train_on_a_folder.py [--out train_on_a_folder]

The pictures are made by a seed: checks, dots and stripes of any colour, width and angle, under
noise, in a folder for each. Nothing is downloaded. Writes sheets into the folder of `--out`:
`augmented.png`, `history.png`, `confusions.png` and `mistakes.png`. The backend, the number of
epochs and that of pictures are EXAMPLE_BACKEND, EXAMPLE_EPOCHS and EXAMPLE_PICTURES in the
environment.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
from PIL import Image

import hub
import keraslite as keras
from hub.preprocessing.image_augment import AutoAugment

SIZE = 48
NAMES = ("checks", "dots", "stripes")


def draw(name: str, random: np.random.Generator) -> Image.Image:
    """Return a picture of a pattern of random colours, period and angle, under noise."""
    width, height = random.integers(SIZE, 2 * SIZE, 2)
    y, x = np.mgrid[:height, :width] * 2 * np.pi / random.uniform(8, 20)
    angle = random.uniform(0, 2 * np.pi)
    across = np.sin(x * np.cos(angle) + y * np.sin(angle))
    along = np.sin(y * np.cos(angle) - x * np.sin(angle))
    shown = {"stripes": across > 0, "checks": across * along > 0, "dots": across + along > 1}[name]
    colors = random.uniform((20, 20, 20), (120, 120, 120), (2, 3)) + np.array([[0], [110]])
    noise = random.normal(0, 30, (height, width, 3))
    return Image.fromarray(np.clip(colors[shown.astype(int)] + noise, 0, 255).astype("uint8"))


def make_folder(folder: Path, count: int) -> None:
    """Write pictures into a folder for each class."""
    random = np.random.default_rng(0)
    for i in range(count):
        name = NAMES[i % len(NAMES)]
        (folder / name).mkdir(parents=True, exist_ok=True)
        draw(name, random).save(folder / name / f"{i:04}.png")


def main() -> None:
    """Make the folder, train, evaluate and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", default="train_on_a_folder", help="the folder of all files")
    out = Path(parser.parse_args().out)
    keras.use_backend(os.environ.get("EXAMPLE_BACKEND", "torch"))
    keras.utils.set_random_seed(0)
    epochs = int(os.environ.get("EXAMPLE_EPOCHS", "16"))
    make_folder(out / "pictures", int(os.environ.get("EXAMPLE_PICTURES", "360")))

    folder = hub.ImageFolder(out / "pictures")
    training, held_out = folder.split(0.2)  # as validation_split does
    augment = AutoAugment((SIZE, SIZE))
    every = len(folder) // 6
    samples = [np.asarray(augment(folder[i % 6 * every][0], seed=i)) for i in range(24)]
    keras.visualization.plot_image_gallery(samples, cols=6, path=out / "augmented.png")

    backbone = hub.ResNetBackbone((32, 64, 128, 256), (1, 1, 1, 1), "basic_block")
    classifier = hub.ImageClassifier(
        backbone, preprocessor=hub.ImagePreprocessor("ViT", size=SIZE), labels=NAMES
    )
    classifier.compile(keras.optimizers.AdamW(2e-3, weight_decay=0.05))
    start = time.perf_counter()
    history = classifier.fit(
        out / "pictures", validation_split=0.2, augment="auto", warmup_epochs=min(2, epochs / 2),
        epochs=epochs, batch_size=32, verbose=2,
    )  # fmt: skip
    print(f"Trained in {time.perf_counter() - start:.0f} s on {keras.backend()}.")

    accuracy = classifier.evaluate(held_out, verbose=0, return_dict=True)["accuracy"]
    print(f"Held-out accuracy: {accuracy:.1%} of {len(held_out)} pictures")
    history.plot(path=out / "history.png")
    classifier.plot_confusion_matrix(held_out, path=out / "confusions.png")
    shown = held_out if classifier.mistakes(held_out, count=1) else training
    if classifier.mistakes(shown, count=1):
        classifier.plot_mistakes(shown, path=out / "mistakes.png")
    print(f"Wrote {', '.join(sorted(p.name for p in out.glob('*.png')))} into {out}.")


if __name__ == "__main__":
    main()
