"""Single files of Stable Diffusion as its authors' code lays them out: names in the order in which
that code makes its layers, with their shapes. Nothing here looks at the tables of the hub.
"""

import json
from itertools import count
from math import prod
from pathlib import Path

import numpy as np

REAL = {
    "v1": {"channels": (320, 640, 1280, 1280), "context": 768, "vae": (128, 256, 512, 512),
           "words": 49408, "blocks": 12, "inside": 3072},
    "v2": {"channels": (320, 640, 1280, 1280), "context": 1024, "vae": (128, 256, 512, 512),
           "words": 49408, "blocks": 24, "inside": 4096},
}  # fmt: skip
# The width of the context and the heads are what tells the versions apart; all else is small.
TINY = {
    "v1": {"channels": (32, 64, 96, 96), "context": 768, "vae": (32, 32, 64), "blocks": 2,
           "inside": 24},
    "v2": {"channels": (64, 64, 128, 128), "context": 1024, "vae": (32, 32, 64), "blocks": 2,
           "inside": 24},
}  # fmt: skip


def _layer(shapes, name, *shape, bias=True):
    shapes[f"{name}.weight"] = shape
    if bias:
        shapes[f"{name}.bias"] = shape[:1]


def _res_block(shapes, name, width, size, time):
    _layer(shapes, f"{name}.in_layers.0", width)
    _layer(shapes, f"{name}.in_layers.2", size, width, 3, 3)
    _layer(shapes, f"{name}.emb_layers.1", size, time)
    _layer(shapes, f"{name}.out_layers.0", size)
    _layer(shapes, f"{name}.out_layers.3", size, size, 3, 3)
    if width != size:
        _layer(shapes, f"{name}.skip_connection", size, width, 1, 1)


def _transformer(shapes, name, size, context, linear):
    _layer(shapes, f"{name}.norm", size)
    pixel = () if linear else (1, 1)
    _layer(shapes, f"{name}.proj_in", size, size, *pixel)
    block = f"{name}.transformer_blocks.0"
    for attention, source in (("attn1", size), ("attn2", context)):
        for part, width in (("to_q", size), ("to_k", source), ("to_v", source)):
            _layer(shapes, f"{block}.{attention}.{part}", size, width, bias=False)
        _layer(shapes, f"{block}.{attention}.to_out.0", size, size)
    _layer(shapes, f"{block}.ff.net.0.proj", 8 * size, size)
    _layer(shapes, f"{block}.ff.net.2", size, 4 * size)
    for i in (1, 2, 3):
        _layer(shapes, f"{block}.norm{i}", size)
    _layer(shapes, f"{name}.proj_out", size, size, *pixel)


def unet(channels, context, linear, inputs=4, depth=2):
    shapes, time = {}, 4 * channels[0]
    _layer(shapes, "time_embed.0", time, channels[0])
    _layer(shapes, "time_embed.2", time, time)
    _layer(shapes, "input_blocks.0.0", channels[0], inputs, 3, 3)
    number, held, width, last = count(1), [channels[0]], channels[0], len(channels) - 1
    for level, size in enumerate(channels):
        for _ in range(depth):
            n = next(number)
            _res_block(shapes, f"input_blocks.{n}.0", width, size, time)
            if level < last:
                _transformer(shapes, f"input_blocks.{n}.1", size, context, linear)
            width = size
            held.append(size)
        if level < last:
            _layer(shapes, f"input_blocks.{next(number)}.0.op", size, size, 3, 3)
            held.append(size)
    _res_block(shapes, "middle_block.0", width, width, time)
    _transformer(shapes, "middle_block.1", width, context, linear)
    _res_block(shapes, "middle_block.2", width, width, time)
    number = count()
    for level, size in reversed(list(enumerate(channels))):
        for i in range(depth + 1):
            n, inner = next(number), count(1)
            _res_block(shapes, f"output_blocks.{n}.0", width + held.pop(), size, time)
            if level < last:
                name = f"output_blocks.{n}.{next(inner)}"
                _transformer(shapes, name, size, context, linear)
            width = size
            if level and i == depth:
                _layer(shapes, f"output_blocks.{n}.{next(inner)}.conv", size, size, 3, 3)
    _layer(shapes, "out.0", width)
    _layer(shapes, "out.2", 4, width, 3, 3)
    return {f"model.diffusion_model.{name}": shape for name, shape in shapes.items()}


def _vae_block(shapes, name, width, size):
    _layer(shapes, f"{name}.norm1", width)
    _layer(shapes, f"{name}.conv1", size, width, 3, 3)
    _layer(shapes, f"{name}.norm2", size)
    _layer(shapes, f"{name}.conv2", size, size, 3, 3)
    if width != size:
        _layer(shapes, f"{name}.nin_shortcut", size, width, 1, 1)


def _vae_middle(shapes, name, size):
    _vae_block(shapes, f"{name}.block_1", size, size)
    _layer(shapes, f"{name}.attn_1.norm", size)
    for part in ("q", "k", "v", "proj_out"):
        _layer(shapes, f"{name}.attn_1.{part}", size, size, 1, 1)
    _vae_block(shapes, f"{name}.block_2", size, size)


def vae(channels, depth=2):
    shapes, width, last = {}, channels[0], len(channels) - 1
    _layer(shapes, "encoder.conv_in", width, 3, 3, 3)
    for level, size in enumerate(channels):
        for i in range(depth):
            _vae_block(shapes, f"encoder.down.{level}.block.{i}", width, size)
            width = size
        if level < last:
            _layer(shapes, f"encoder.down.{level}.downsample.conv", size, size, 3, 3)
    _vae_middle(shapes, "encoder.mid", width)
    _layer(shapes, "encoder.norm_out", width)
    _layer(shapes, "encoder.conv_out", 8, width, 3, 3)
    _layer(shapes, "decoder.conv_in", width, 4, 3, 3)
    _vae_middle(shapes, "decoder.mid", width)
    for level, size in reversed(list(enumerate(channels))):
        for i in range(depth + 1):
            _vae_block(shapes, f"decoder.up.{level}.block.{i}", width, size)
            width = size
        if level:
            _layer(shapes, f"decoder.up.{level}.upsample.conv", size, size, 3, 3)
    _layer(shapes, "decoder.norm_out", width)
    _layer(shapes, "decoder.conv_out", 3, width, 3, 3)
    _layer(shapes, "quant_conv", 8, 8, 1, 1)
    _layer(shapes, "post_quant_conv", 4, 4, 1, 1)
    return {f"first_stage_model.{name}": shape for name, shape in shapes.items()}


def clip(words, blocks, width, inside):
    shapes = {
        "embeddings.token_embedding.weight": (words, width),
        "embeddings.position_embedding.weight": (77, width),
    }
    for i in range(blocks):
        block = f"encoder.layers.{i}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            _layer(shapes, f"{block}.self_attn.{part}", width, width)
        _layer(shapes, f"{block}.layer_norm1", width)
        _layer(shapes, f"{block}.layer_norm2", width)
        _layer(shapes, f"{block}.mlp.fc1", inside, width)
        _layer(shapes, f"{block}.mlp.fc2", width, inside)
    _layer(shapes, "final_layer_norm", width)
    prefix = "cond_stage_model.transformer.text_model."
    return {prefix + name: shape for name, shape in shapes.items()}


def open_clip(words, blocks, width, inside):
    shapes = {
        "positional_embedding": (77, width), "text_projection": (width, width),
        "logit_scale": (), "token_embedding.weight": (words, width),
    }  # fmt: skip
    for i in range(blocks):
        block = f"transformer.resblocks.{i}"
        _layer(shapes, f"{block}.ln_1", width)
        shapes[f"{block}.attn.in_proj_weight"] = (3 * width, width)
        shapes[f"{block}.attn.in_proj_bias"] = (3 * width,)
        _layer(shapes, f"{block}.attn.out_proj", width, width)
        _layer(shapes, f"{block}.ln_2", width)
        _layer(shapes, f"{block}.mlp.c_fc", inside, width)
        _layer(shapes, f"{block}.mlp.c_proj", width, inside)
    _layer(shapes, "ln_final", width)
    return {f"cond_stage_model.model.{name}": shape for name, shape in shapes.items()}


def whole(kind, sizes, inputs=4):
    """The names and shapes of a file."""
    text = clip if kind == "v1" else open_clip
    context = sizes["context"]
    buffers = {"betas": (1000,), "alphas_cumprod": (1000,), "posterior_mean_coef1": (1000,),
               "model_ema.decay": (), "model_ema.diffusion_modelout2bias": (4,)}  # fmt: skip
    if kind == "v1":
        buffers["cond_stage_model.transformer.text_model.embeddings.position_ids"] = (1, 77)
    return {
        **unet(sizes["channels"], context, kind == "v2", inputs), **vae(sizes["vae"]),
        **text(sizes["words"], sizes["blocks"], context, sizes["inside"]), **buffers,
    }  # fmt: skip


def drawn(shapes, seed=0):
    """Numbers for them that keep the size of what goes through."""
    rng = np.random.default_rng(seed)
    made = {}
    for name, shape in shapes.items():
        spread = 0.8 / max(prod(shape[1:]), 1) ** 0.5 if len(shape) > 1 else 0.1
        value = rng.standard_normal(shape, "float32") * np.float32(spread)
        scale = len(shape) == 1 and name.endswith("weight")
        made[name] = np.asarray(value + scale, "float32")
    return made


def sparse(path: Path, shapes):
    """Write a file of the full size that takes no room: its numbers are holes."""
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * prod(shape)
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return path
