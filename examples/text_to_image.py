"""Generate images of a text, with previews of the denoising steps.

    python examples/text_to_image.py [--backend torch] [--preset PRESET] [--prompt TEXT]

Without `--preset` the pipeline is a tiny one with random weights, so the images are noise. Give
`--preset stable_diffusion_v1.5`, or a folder of diffusers, for images that follow the text. Writes
`images.png`, the images side by side, and `steps.png`, previews of the first one.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import hub
import keraslite as keras
from hub.diffusion.schedulers import Scheduler


def tiny_pipeline() -> hub.StableDiffusion:
    """Return a small Stable Diffusion pipeline with random weights."""
    keras.utils.set_random_seed(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    return hub.StableDiffusion(
        128, 128,
        text_encoder=hub.CLIPTextEncoder(
            len(words), num_layers=2, num_heads=2, hidden_dim=32, intermediate_dim=64
        ),
        unet=hub.UNet2DConditionModel(
            block_out_channels=(32, 64), attention_head_dim=2, cross_attention_dim=32,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), norm_num_groups=8,
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        ),
        vae=hub.AutoencoderKL(block_out_channels=(16, 16, 32, 32), norm_num_groups=8),
        tokenizer=hub.CLIPTokenizer({word: i for i, word in enumerate(words)}, []),
        scheduler=Scheduler.from_name("ddim", steps_offset=1),
    )  # fmt: skip


def main() -> None:
    """Generate the images and write both files."""
    parser = argparse.ArgumentParser(description="Generate images and previews.")
    parser.add_argument("--backend", default=keras.backend())
    parser.add_argument("--preset", help="a preset in place of the tiny pipeline")
    parser.add_argument("--prompt", default="photograph of an astronaut riding a horse")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("."))
    options = parser.parse_args()
    with keras.use_backend(options.backend):
        model = (
            hub.StableDiffusion.from_preset(options.preset) if options.preset else tiny_pipeline()
        )
    previews = []

    def keep_preview(step: int, steps: int, latents: object) -> None:
        if step % max(steps // 6, 1) == 0 or step == steps - 1:
            previews.append(model.preview(latents)[0])

    images = model.text_to_image(
        options.prompt, batch_size=options.images, num_steps=options.steps, seed=1,
        callback=keep_preview, verbose=1,
    )  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    for name, row in (("images", images), ("steps", previews)):
        Image.fromarray(np.concatenate(list(row), axis=1)).save(options.out / f"{name}.png")
        print(f"{options.out / name}.png: {len(row)} images of {row[0].shape[1]}x{row[0].shape[0]}")


if __name__ == "__main__":
    main()
