"""Benchmark Segment Anything: encoder, prompts, automatic masks and memory, against transformers
and KerasHub.

Random weights; a figure in a process of its own, and ratios of one run. The automatic masks are
compared with all thresholds at 0, so that both sides filter and encode the masks of every point,
on a grid of `--points` along a side.

    python scripts/bench/segmentation.py [--size base] [--rounds 3] [--points 16]
                                         [--backends torch jax tensorflow] [--only encoder torch]
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from common import in_process, interleaved, peak_memory, ratio, report

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "support"))
BACKENDS = ("torch", "jax", "tensorflow")
_CHECKPOINT = "SAM_CHECKPOINT"  # the variable that names its folder to the processes
# size -> the vision config and the mask decoder's, as transformers has them
SIZES = {
    "base": ({"image_size": 1024}, {}),
    "small": (
        {
            "image_size": 128, "hidden_size": 32, "num_hidden_layers": 2, "mlp_dim": 64,
            "num_attention_heads": 2, "global_attn_indexes": [1], "output_channels": 32,
            "num_pos_feats": 16,
        },
        {"hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 2},
    ),
}  # fmt: skip
generator = np.random.default_rng(0)


def config(size: str):
    """The config of transformers."""
    from transformers import SamConfig

    vision, decoder = SIZES[size]
    side, width = vision["image_size"], vision.get("output_channels", 256)
    prompts = {
        "hidden_size": width, "image_size": side, "patch_size": 16,
        "image_embedding_size": side // 16,
    }  # fmt: skip
    return SamConfig(vision_config=vision, prompt_encoder_config=prompts,
                     mask_decoder_config=decoder)  # fmt: skip


def theirs(size: str):
    """The model of transformers."""
    import torch
    from transformers import SamModel

    torch.manual_seed(0)
    return SamModel(config(size)).eval()


def write_checkpoint(size: str, folder: str) -> None:
    """Write random weights as a checkpoint, so that those of the figures lie as in one."""
    import hub
    import keraslite as keras
    from hub.families import family_of
    from hub.presets.build import arguments

    keras.use_backend("torch")
    keras.utils.set_random_seed(0)
    hub.SAMBackbone(**arguments(family_of("sam"), config(size).to_dict())).save_to_preset(folder)


def ours(size: str, backend: str):
    """Our segmenter, loaded from the checkpoint."""
    import hub
    import keraslite as keras

    keras.use_backend(backend)
    backbone = hub.SAMBackbone.from_preset(os.environ[_CHECKPOINT], backend=backend)
    side = SIZES[size][0]["image_size"]
    return hub.SAMImageSegmenter(backbone, hub.SegmentationPreprocessor(side, side // 4))


def picture(size: str) -> np.ndarray:
    """A picture of a camera, whose input is not square."""
    side = SIZES[size][0]["image_size"]
    return generator.integers(0, 256, (side * 3 // 4, side, 3), "uint8")


# -- figures --------------------------------------------------------------------------------------


def encoder(size: str, backend: str, rounds: int) -> None:
    """Our encoder on a backend, and on torch in turns with that of transformers."""
    import torch

    segmenter = ours(size, backend)
    side = SIZES[size][0]["image_size"]
    pixels = generator.normal(size=(1, side, side, 3)).astype("float32")

    def run():
        return np.asarray(segmenter.encode(pixels))

    if backend != "torch":
        seconds = interleaved({"ours": run}, rounds)["ours"]
        report(f"SAM {size} encoder: keraslite on {backend}", seconds, "s")
        return
    model, first = theirs(size), torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()

    def rival():
        with torch.inference_mode():
            return model.get_image_embeddings(first).numpy()

    speed, medians = ratio({"ours": run, "transformers": rival}, rounds)
    report(f"SAM {size} encoder: keraslite on torch / transformers", 1 / speed, "x time", "<= 0.7",
           seconds=round(medians["ours"], 3))  # fmt: skip


def kerashub(size: str, backend: str, rounds: int) -> None:
    """KerasHub's encoder in turns with ours, on the same backend."""
    import keras as real_keras
    import keras_hub

    segmenter = ours(size, backend)
    settings = segmenter.backbone.image_encoder.get_config()
    names = (
        "hidden_size", "num_layers", "intermediate_dim", "num_heads",
        "global_attention_layer_indices", "patch_size", "num_output_channels", "window_size",
    )  # fmt: skip
    rival = keras_hub.models.ViTDetBackbone(
        **{name: settings[name] for name in names}, image_shape=tuple(settings["image_shape"])
    )
    assert real_keras.backend.backend() == backend
    pixels = generator.normal(size=(1, *settings["image_shape"])).astype("float32")
    speed, medians = ratio(
        {"ours": lambda: np.asarray(segmenter.encode(pixels)),
         "KerasHub": lambda: rival.predict(pixels, verbose=0)}, rounds,
    )  # fmt: skip
    report(f"SAM {size} encoder: keraslite / KerasHub on {backend}", 1 / speed, "x time", "<= 1.0",
           seconds=round(medians["ours"], 3))  # fmt: skip


def prompt(size: str, backend: str, rounds: int) -> None:
    """A prompt from pixels to masks at the picture's size, in turns with the bare decoder."""
    import keraslite as keras
    from keraslite.training import inference

    segmenter = ours(size, backend)
    image = segmenter.embed(picture(size))
    place = [image.geometry.size[1] // 2, image.geometry.size[0] // 2]
    points = image.geometry.to_input([place])[None, None]
    labels = np.ones((1, 1, 1), "int32")

    def bare(embedding, points, labels):
        inputs = {"points": points, "labels": labels}
        return segmenter.backbone.decode(embedding, inputs, True, pad_points=True)

    decode = keras.jit(bare, segmenter.backbone.variables, donate=False)

    def decoder():
        with inference(backend):
            arrays = map(keras.ops.convert_to_tensor, (points, labels))
            return keras.ops.convert_to_numpy(decode(image.embedding, *arrays)["masks"])

    runs = {"ours": lambda: image.segment([place]), "bare": decoder}
    speed, medians = ratio(runs, 5 * rounds)
    report(f"SAM {size} prompt: segment / the bare decoder, on {backend}", 1 / speed, "x time",
           "<= 1.5", milliseconds=round(1000 * medians["ours"], 2))  # fmt: skip
    seconds = interleaved({"masks": lambda: image.segment([place]).masks}, 5 * rounds)["masks"]
    report(f"SAM {size} prompt with masks of the picture's size, on {backend}", 1000 * seconds,
           "ms")  # fmt: skip


def everything(size: str, points: int, rounds: int) -> None:
    """Automatic masks of a picture on torch, in turns with the pipeline of transformers."""
    from PIL import Image
    from sam_masks import mask_generator

    segmenter, side = ours(size, "torch"), SIZES[size][0]["image_size"]
    image = Image.fromarray(picture(size))
    rival = mask_generator(theirs(size), side, side // 4)
    none = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    runs = {
        "ours": lambda: segmenter.generate_masks(image, points, verbose=0, **none),
        "transformers": lambda: rival(image, points_per_crop=points, points_per_batch=64, **none),
    }  # fmt: skip
    speed, medians = ratio(runs, rounds)
    report(f"SAM {size} automatic masks of {points} x {points} points: keraslite / transformers",
           1 / speed, "x time", "<= 0.5", seconds=round(medians["ours"], 2))  # fmt: skip


def memory(size: str, backend: str) -> None:
    """The peak of memory of an encoding, beyond what is there before the model."""
    import keraslite as keras

    keras.use_backend(backend)
    keras.ops.convert_to_numpy(keras.ops.ones((2, 2)) @ keras.ops.ones((2, 2)))
    before = peak_memory()
    segmenter = ours(size, backend)
    weights = sum(np.prod(v.shape) * 4 for v in segmenter.variables)
    settings = segmenter.backbone.image_encoder.get_config()
    tokens = (settings["image_shape"][0] // settings["patch_size"]) ** 2
    largest = 4 * tokens * max(settings["intermediate_dim"], 3 * settings["hidden_size"])
    segmenter.embed(picture(size)).segment([5, 5])
    peak = peak_memory() - before
    report(f"SAM {size} peak memory / (weights + the largest activation), on {backend}",
           peak / (weights + largest), "x", "<= 1.2", megabytes=round(peak / 2**20))  # fmt: skip


def main() -> None:
    """Run everything, each figure in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=list(SIZES), default="base")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--points", type=int, default=16)
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS))
    parser.add_argument("--only", nargs="+", help="a figure, and perhaps its backend")
    args = parser.parse_args()
    if _CHECKPOINT not in os.environ:
        settings = ["--size", args.size, "--rounds", str(args.rounds), "--points", str(args.points)]
        figures = [args.only] if args.only else [
            *([figure, backend] for backend in args.backends
              for figure in ("encoder", "kerashub", "prompt", "memory")),
            ["everything"],
        ]  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            for figure in (["checkpoint"], *figures):
                backend = {"KERAS_BACKEND": figure[1]} if len(figure) > 1 else {}
                command = [__file__, *settings, "--only", *figure]
                in_process(command, **{_CHECKPOINT: folder}, **backend)
        return
    name, *rest = args.only
    if name == "checkpoint":
        write_checkpoint(args.size, os.environ[_CHECKPOINT])
    elif name == "everything":
        everything(args.size, args.points, args.rounds)
    elif name == "memory":
        memory(args.size, *rest)
    else:
        figures = {"encoder": encoder, "kerashub": kerashub, "prompt": prompt}
        figures[name](args.size, *rest, args.rounds)


if __name__ == "__main__":
    main()
