"""Train a small segmenter on drawn shapes, and segment new pictures by a click.

    python examples/segment.py [--out segment]

Pictures of circles, squares and triangles are made by a seed. Nothing is downloaded: the network is
tiny, and its encoder is trained too, with the mask decoder. Writes into the folder of `--out`:
`history.png`, unseen pictures with the mask of each click, `clicks_*.png`, and everything in one of
them, `everything.png`. The backend, the number of epochs and that of pictures are EXAMPLE_BACKEND,
EXAMPLE_EPOCHS and EXAMPLE_PICTURES in the environment.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageDraw

import hub
import keraslite as keras

SIZE, PATCH, WIDTH = 128, 8, 64


def draw(random: np.random.Generator) -> tuple[Image.Image, np.ndarray]:
    """Return a picture of two to five shapes on noise, and the mask of each."""
    noise = random.normal(random.uniform(60, 190), 20, (96, SIZE, 3))
    picture = Image.fromarray(np.clip(noise, 0, 255).astype("uint8"))
    masks: list[np.ndarray] = []
    taken: list[tuple[float, float, float]] = []
    count = int(random.integers(2, 6))
    for _ in range(40):
        radius = random.uniform(10, 22)
        x, y = random.uniform(radius, (SIZE - radius, 96 - radius))
        if len(masks) == count:
            break
        if any(max(abs(x - a), abs(y - b)) < radius + r for a, b, r in taken):
            continue  # on another shape
        taken.append((x, y, radius))
        form, (hue, saturation) = random.integers(3), random.uniform((0, 70), (360, 100))
        color = ImageColor.getrgb(f"hsv({hue:.0f},{saturation:.0f}%,{random.integers(80, 101)}%)")
        mask = Image.new("1", picture.size)
        for image, fill in ((picture, color), (mask, 1)):
            canvas = ImageDraw.Draw(image)
            box = (x - radius, y - radius, x + radius, y + radius)
            if form == 0:
                canvas.ellipse(box, fill)
            elif form == 1:
                canvas.rectangle(box, fill)
            else:
                canvas.polygon([(x, box[1]), (box[2], box[3]), (box[0], box[3])], fill)
        masks.append(np.asarray(mask))
    return picture, np.stack(masks)


def make(count: int, seed: int) -> list[tuple[Image.Image, dict[str, np.ndarray]]]:
    """Return pictures with their masks, as `fit` takes them."""
    random = np.random.default_rng(seed)
    return [(picture, {"masks": masks}) for picture, masks in (draw(random) for _ in range(count))]


def new_segmenter() -> hub.ImageSegmenter:
    """Return an untrained segmenter of a few hundred thousand parameters."""
    grid = SIZE // PATCH
    backbone = hub.SAMBackbone(
        {
            "hidden_size": WIDTH, "num_layers": 3, "intermediate_dim": 2 * WIDTH, "num_heads": 4,
            "global_attention_layer_indices": (2,), "window_size": 8, "patch_size": PATCH,
            "image_shape": (SIZE, SIZE, 3), "num_output_channels": WIDTH,
        },
        {
            "hidden_size": WIDTH, "image_embedding_size": (grid, grid),
            "input_image_size": (SIZE, SIZE),
        },
        {
            "hidden_size": WIDTH, "num_layers": 2, "intermediate_dim": 2 * WIDTH, "num_heads": 4,
            "iou_head_hidden_dim": WIDTH,
        },
    )  # fmt: skip
    return hub.SAMImageSegmenter(backbone, hub.SegmentationPreprocessor(SIZE, 4 * grid))


def center_of(mask: np.ndarray) -> list[int]:
    """Return x and y of the pixel of a mask that is nearest to its mean."""
    y, x = np.nonzero(mask)
    place = np.argmin((x - x.mean()) ** 2 + (y - y.mean()) ** 2)
    return [int(x[place]), int(y[place])]


def main() -> None:
    """Make the data, train, segment unseen pictures by clicks, and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", default="segment", help="the folder of all files")
    out = Path(parser.parse_args().out)
    out.mkdir(parents=True, exist_ok=True)
    keras.use_backend(os.environ.get("EXAMPLE_BACKEND", "torch"))
    keras.utils.set_random_seed(0)
    epochs = int(os.environ.get("EXAMPLE_EPOCHS", "12"))
    count = int(os.environ.get("EXAMPLE_PICTURES", "400"))
    segmenter, data = new_segmenter(), make(count, seed=0)
    steps = epochs * -(-count // 4)
    rate = keras.optimizers.schedules.CosineDecay(1e-4, steps, 0.02, None, 2e-3, steps // 10)
    segmenter.compile(keras.optimizers.AdamW(rate, weight_decay=0.01, global_clipnorm=1.0))
    begin = time.time()
    history = segmenter.fit(
        data,
        prompts="points",
        most_objects=4,
        train_encoder=True,
        batch_size=4,
        epochs=epochs,
        verbose=2,
    )
    print(f"trained in {time.time() - begin:.0f} s")
    history.plot(path=out / "history.png")

    overlaps = []
    for number, (picture, facts) in enumerate(make(20, seed=1)):
        image = segmenter.embed(picture)
        result = image.segment(points=[[center_of(mask)] for mask in facts["masks"]])
        best = result.best().masks[:, 0]
        both, either = best & facts["masks"], best | facts["masks"]
        overlaps += (both.sum((1, 2)) / either.sum((1, 2))).tolist()
        if number < 4:
            result.save(out / f"clicks_{number}.png")
    print(f"unseen pictures: mean IoU {np.mean(overlaps):.3f} of {len(overlaps)} clicks")
    everything = segmenter.generate_masks(
        make(1, seed=1)[0][0], points_per_side=12, pred_iou_thresh=0.7, stability_score_thresh=0.7
    )
    print(everything)
    everything.save(out / "everything.png")
    print(f"pictures in {out}")


if __name__ == "__main__":
    main()
