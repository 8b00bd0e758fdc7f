"""Train a classifier on drawn shapes, classify pictures that it has not seen, and draw the results.

    python examples/classify_images.py [--backend torch] [--network resnet]

The pictures are made by a seed: five shapes of any size, colour and rotation, on noise. Each is
learnt in its eight orientations. Nothing is downloaded. Writes `shapes.png`, a sheet of held-out
pictures with their labels and scores.
"""

import argparse
import time

import numpy as np
from PIL import Image, ImageDraw

import hub
import keraslite as keras

SIZE = 48
WARM_UP = 30  # steps
CORNERS = {"triangle": 3, "square": 4, "pentagon": 5}  # of regular polygons
NAMES = ["circle", "cross", *CORNERS]


def polygon(angle: float, corners: int) -> np.ndarray:
    """Return the corners of a regular polygon of radius 1."""
    angles = angle + 2 * np.pi * np.arange(corners) / corners
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def draw(name: str, random: np.random.Generator) -> Image.Image:
    """Return a picture of a shape."""
    noise = random.integers(0, 120, (SIZE, SIZE, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    canvas = ImageDraw.Draw(image)
    radius = random.uniform(0.25, 0.45) * SIZE
    center = SIZE / 2 + random.uniform(-1, 1, 2) * (SIZE / 2 - radius)
    color = tuple(int(c) for c in random.integers(130, 256, 3))
    angle = random.uniform(0, 2 * np.pi)
    if name == "circle":
        canvas.ellipse((*(center - radius), *(center + radius)), fill=color)
    elif name == "cross":
        for start, end in polygon(angle, 4).reshape(2, 2, 2).transpose(1, 0, 2):
            ends = [tuple(center + radius * point) for point in (start, end)]
            canvas.line(ends, fill=color, width=int(radius / 3) + 1)
    else:
        corners = center + radius * polygon(angle, CORNERS[name])
        canvas.polygon([tuple(corner) for corner in corners], fill=color)
    return image


def pictures(count: int, seed: int) -> tuple[list[Image.Image], list[str]]:
    """Return pictures and the names of what they show."""
    random = np.random.default_rng(seed)
    names = [NAMES[i % len(NAMES)] for i in range(count)]
    return [draw(name, random) for name in names], names


def orientations(image: Image.Image) -> list[Image.Image]:
    """Return an image as it is, turned by quarters, and mirrored."""
    return [image, *map(image.transpose, Image.Transpose)]


def network(kind: str) -> hub.Backbone:
    """Return a backbone with new weights: of the size of ResNet-18, or of ViT-tiny."""
    if kind == "resnet":
        return hub.ResNetBackbone((64, 128, 256, 512), (2, 2, 2, 2), "basic_block")
    return hub.ViTBackbone(
        12, 3, 192, intermediate_dim=768, image_size=SIZE, patch_size=12, layer_norm_epsilon=1e-6
    )


def sheet(images: list[Image.Image], answers: list[dict], columns: int = 8) -> Image.Image:
    """Return the images in rows, each above its label and score."""
    width, height = 2 * SIZE, 2 * SIZE + 16
    rows = -(-len(images) // columns)
    page = Image.new("RGB", (columns * width, rows * height), "white")
    canvas = ImageDraw.Draw(page)
    for i, (image, answer) in enumerate(zip(images, answers, strict=True)):
        x, y = i % columns * width, i // columns * height
        page.paste(image.resize((2 * SIZE, 2 * SIZE)), (x, y))
        canvas.text((x + 2, y + 2 * SIZE), f"{answer['label']} {answer['score']:.2f}", "black")
    return page


def main() -> None:
    """Train, evaluate and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backend", default="torch", choices=["jax", "torch", "tensorflow"])
    parser.add_argument("--network", default="resnet", choices=["resnet", "vit"])
    parser.add_argument("--epochs", type=int, help="4 of the ResNet, 10 of the ViT by default")
    parser.add_argument("--pictures", type=int, help="300 for the ResNet, 800 for the ViT")
    parser.add_argument("--sheet", default="shapes.png", help="the file of the results")
    options = parser.parse_args()
    default_epochs, default_pictures = {"resnet": (4, 300), "vit": (10, 800)}[options.network]
    epochs = options.epochs or default_epochs
    keras.use_backend(options.backend)
    keras.utils.set_random_seed(0)

    drawn, drawn_names = pictures(options.pictures or default_pictures, seed=0)
    images = [turned for image in drawn for turned in orientations(image)]
    names = [name for name in drawn_names for _ in range(len(images) // len(drawn))]
    held_out, held_out_names = pictures(200, seed=1)
    mean = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    classifier = hub.ImageClassifier(
        network(options.network), labels=NAMES,
        preprocessor=hub.ImagePreprocessor("ViT", size=SIZE, **mean),
    )  # fmt: skip
    steps = epochs * -(-len(images) // 32)
    warm_up = min(WARM_UP, steps // 2)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warm_up, warmup_target=1e-3, warmup_steps=warm_up
    )
    classifier.compile(optimizer=keras.optimizers.AdamW(rate, weight_decay=0.05))
    start = time.perf_counter()
    classifier.fit(images, names, batch_size=32, epochs=epochs)
    print(f"Trained in {time.perf_counter() - start:.0f} s on {options.backend}.")

    answers = classifier.classify(held_out)
    right = [a["label"] == name for a, name in zip(answers, held_out_names, strict=True)]
    print(f"Held-out accuracy: {np.mean(right):.1%}")
    sheet(held_out[:40], answers[:40]).save(options.sheet)
    print(f"Wrote {options.sheet}.")


if __name__ == "__main__":
    main()
