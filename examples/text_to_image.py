"""Text to image with a tiny pipeline made on the spot: it draws noise, but all the ways are there.

python examples/text_to_image.py [--backend torch] [--preset PRESET] [--prompt TEXT] [--out FOLDER]

With `--preset stable_diffusion_v1.5`, or a folder of diffusers, it draws what the text says. Writes
`images.png`, a grid of the images, and `steps.png`, the first one as it comes out of the noise.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import hub
import keraslite as keras
from hub.diffusion.schedulers import Scheduler


def tiny() -> hub.StableDiffusion:
    """A pipeline of the right kind with random weights."""
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
    """Makes the images and writes both files."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backend", default=keras.backend())
    parser.add_argument("--preset", help="draw with this one instead")
    parser.add_argument("--prompt", default="photograph of an astronaut riding a horse")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("."))
    given = parser.parse_args()
    with keras.use_backend(given.backend):
        model = hub.StableDiffusion.from_preset(given.preset) if given.preset else tiny()
    previews = []

    def keep(call: int, calls: int, latents: object) -> None:
        if call % max(calls // 6, 1) == 0 or call == calls - 1:
            previews.append(model.preview(latents)[0])

    images = model.text_to_image(
        given.prompt, batch_size=given.images, num_steps=given.steps, seed=1, callback=keep,
        verbose=1,
    )  # fmt: skip
    given.out.mkdir(parents=True, exist_ok=True)
    for name, row in (("images", images), ("steps", previews)):
        Image.fromarray(np.concatenate(list(row), axis=1)).save(given.out / f"{name}.png")
        print(f"{given.out / name}.png: {len(row)} images of {row[0].shape[1]}x{row[0].shape[0]}")


if __name__ == "__main__":
    main()
