"""Train a detector on drawn shapes, and draw what it detects.

    python examples/detect_shapes.py [--out detect_shapes]

Pictures of circles, squares and triangles are made by a seed, with label files as YOLO has them.
Nothing is downloaded. Writes into the folder of `--out`: the data set, `augmented.png`,
`history.png`, `curves.png`, `confusions.png`, and pictures with the detected shapes in `detected`.
The backend, the number of epochs and that of pictures are EXAMPLE_BACKEND, EXAMPLE_EPOCHS and
EXAMPLE_PICTURES in the environment.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import hub
import keraslite as keras
from hub.models.yolo_v8 import SIZES

SIZE = 128
NAMES = ("circle", "square", "triangle")


def draw(random: np.random.Generator) -> tuple[Image.Image, list[str]]:
    """Return a picture of one to six shapes on noise, and the lines of its label file."""
    noise = random.normal(random.uniform(60, 190), 25, (SIZE, SIZE, 3))
    picture = Image.fromarray(np.clip(noise, 0, 255).astype("uint8"))
    canvas, lines = ImageDraw.Draw(picture), []
    taken: list[tuple[float, float, float]] = []
    for _ in range(random.integers(1, 7)):
        radius = random.uniform(9, 24)
        x, y = random.uniform(radius, SIZE - radius, 2)
        if any(max(abs(x - a), abs(y - b)) < radius + r for a, b, r in taken):
            continue  # on another shape
        taken.append((x, y, radius))
        label = int(random.integers(len(NAMES)))
        color = tuple(int(c) for c in random.integers(0, 256, 3))
        box = (x - radius, y - radius, x + radius, y + radius)
        if NAMES[label] == "circle":
            canvas.ellipse(box, color)
        elif NAMES[label] == "square":
            canvas.rectangle(box, color)
        else:
            canvas.polygon([(x, box[1]), (box[2], box[3]), (box[0], box[3])], color)
        place = (x, y, 2 * radius, 2 * radius)
        lines.append(" ".join([str(label), *(f"{v / SIZE:.5f}" for v in place)]))
    return picture, lines


def make_data(folder: Path, count: int) -> Path:
    """Write pictures and their labels, a fifth of them for validation, and return data.yaml."""
    random = np.random.default_rng(0)
    for i in range(count):
        part = "val" if i % 5 == 0 else "train"
        picture, lines = draw(random)
        for name in ("images", "labels"):
            (folder / name / part).mkdir(parents=True, exist_ok=True)
        picture.save(folder / "images" / part / f"{i:04}.png")
        (folder / "labels" / part / f"{i:04}.txt").write_text("\n".join(lines))
    listed = "".join(f"  {i}: {name}\n" for i, name in enumerate(NAMES))
    parts = "train: images/train\nval: images/val\n"
    (folder / "data.yaml").write_text(f"path: .\n{parts}names:\n{listed}")
    return folder / "data.yaml"


def make_detector() -> hub.YOLOV8Detector:
    """Return a new detector of the nano size, compiled."""
    nano = SIZES["n"]
    detector = hub.YOLOV8Detector(
        hub.YOLOV8Backbone(nano["stackwise_channels"], nano["stackwise_depth"]),
        preprocessor=hub.DetectionPreprocessor(SIZE),
        labels=NAMES,
        fpn_depth=nano["fpn_depth"],
    )
    detector.compile(keras.optimizers.AdamW(2e-3, weight_decay=5e-4, global_clipnorm=10.0))
    return detector


def main() -> None:
    """Make the data, train, evaluate and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", default="detect_shapes", help="the folder of all files")
    out = Path(parser.parse_args().out)
    keras.use_backend(os.environ.get("EXAMPLE_BACKEND", "torch"))
    keras.utils.set_random_seed(0)
    epochs = int(os.environ.get("EXAMPLE_EPOCHS", "30"))
    data = make_data(out / "data", int(os.environ.get("EXAMPLE_PICTURES", "400")))

    detector = make_detector()
    keras.visualization.plot_image_gallery(
        augmented(data), cols=4, path=str(out / "augmented.png"), value_range=(0, 255)
    )
    begin = time.time()
    history = detector.fit(data, epochs=epochs, warmup_epochs=min(2, epochs / 2), verbose=2)
    print(f"trained in {time.time() - begin:.0f} s")

    logs = detector.evaluate(data, verbose=0, return_dict=True)
    print(f"unseen pictures: mAP50 {logs['mAP50']:.3f}, mAP {logs['mAP']:.3f}")
    history.plot(path=out / "history.png")
    detector.plot_curves(data, path=out / "curves.png")
    detector.plot_confusion_matrix(data, path=out / "confusions.png")
    unseen = sorted((out / "data" / "images" / "val").iterdir())[:8]
    for result in detector.predict([str(path) for path in unseen]):
        print(result)
        result.save(out / "detected" / result.name)
    print(f"sheets and pictures in {out}")


def augmented(data: Path) -> np.ndarray:
    """Return pictures as `fit` changes them."""
    batches = hub.DetectionDataset.from_yolo(data).batches(
        8, hub.DetectionPreprocessor(SIZE), hub.DetectionAugment(), seed=0
    )
    inputs, _ = next(iter(batches))
    return inputs * 255


if __name__ == "__main__":
    main()
