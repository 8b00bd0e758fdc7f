"""Tiny random networks of latent diffusion, made by diffusers."""

import warnings
from pathlib import Path

import numpy as np
import torch
import transformers
from clip_checkpoints import text_tower, tokenizer_files

import keraslite as keras
from keraslite import ops

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import diffusers

UNETS = {
    "v1": {"attention_head_dim": 2, "cross_attention_dim": 10},
    "v2": {"attention_head_dim": (1, 3, 3), "cross_attention_dim": 14,
           "use_linear_projection": True, "upcast_attention": True},
    "inpainting": {"attention_head_dim": 2, "cross_attention_dim": 10, "in_channels": 9,
                   "layers_per_block": 1, "flip_sin_to_cos": False, "freq_shift": 1},
}  # fmt: skip


def called(model, inputs):
    """What a model gives; on jax as one program, which compiles sooner than its many operations."""
    if model.backend != "jax":
        return model(inputs)
    return keras.jit(lambda given: model(given), model.variables)(
        {name: ops.convert_to_tensor(value) for name, value in inputs.items()}
    )


def _random(model, scale=0.15):
    with torch.no_grad():
        for parameter in model.parameters():  # no zeros or ones that hide a mistake
            parameter.add_(torch.randn_like(parameter) * scale)
    return model.eval()


PROMPT, NEGATIVE = "a photo of a cat", "it is dark"
PUBLISHED = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
             "steps_offset": 1}  # fmt: skip
SMALL = {
    "block_out_channels": (8, 12), "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}  # fmt: skip


def unet(folder: Path, kind: str = "v1", **changes):
    """Write a U-Net; gives diffusers' own."""
    torch.manual_seed(0)
    model = diffusers.UNet2DConditionModel(**{
        "sample_size": 8, "block_out_channels": (8, 12, 24), "layers_per_block": 2,
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "norm_num_groups": 4, **UNETS[kind], **changes,
    })  # fmt: skip
    _random(model, 0.05).save_pretrained(folder)
    return model


def vae(folder: Path, **changes):
    """Write an autoencoder; gives diffusers' own."""
    torch.manual_seed(0)
    model = diffusers.AutoencoderKL(**{
        "block_out_channels": (8, 12, 12), "layers_per_block": 2, "norm_num_groups": 4,
        "down_block_types": ("DownEncoderBlock2D",) * 3, "sample_size": 32,
        "up_block_types": ("UpDecoderBlock2D",) * 3, **changes,
    })  # fmt: skip
    _random(model).save_pretrained(folder)
    return model


def pipeline(folder, kind="v1"):
    """Write a tiny pipeline; gives diffusers' own."""
    heads = {} if kind == "inpainting" else {"attention_head_dim": (2, 3)}
    network = unet(folder / "unet", kind, **SMALL, **heads)
    autoencoder = vae(folder / "vae", layers_per_block=1)
    width = network.config.cross_attention_dim
    heads = 2 if width % 3 else 3
    size = 77
    tokenizer_files(folder / "tokenizer")
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer")
    end = tokenizer.eos_token_id
    text = text_tower(
        folder / "text_encoder", vocab_size=len(tokenizer), hidden_size=width,
        num_attention_heads=heads, max_position_embeddings=size, bos_token_id=end - 1,
    )  # fmt: skip
    scheduler = diffusers.PNDMScheduler(**PUBLISHED, skip_prk_steps=True)
    if kind == "v2":
        scheduler = diffusers.DDIMScheduler(
            **PUBLISHED, prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False
        )
    made = diffusers.StableDiffusionPipeline(
        autoencoder, text, tokenizer, network, scheduler, None, None, requires_safety_checker=False
    )
    made.save_pretrained(folder)
    made.set_progress_bar_config(disable=True)
    return made


def channels_first(x):
    """Return images with the channels last as a tensor of torch with the channels first."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def channels_last(x):
    """Return images of torch, with the channels first, as an array with the channels last."""
    return np.moveaxis(x.detach().float().numpy(), 1, -1)
