"""Tiny random checkpoints of Segment Anything, made by transformers, and the authors' layout."""

import re

import torch
import transformers

# name -> what the image encoder has: windows that fit, that must be filled up, that are larger than
# the image, and positions of one sort only
SHAPES = {
    "fits": {"image_size": 64, "patch_size": 8, "window_size": 4},
    "fills": {"image_size": 80, "patch_size": 8, "window_size": 7},
    "large": {"image_size": 32, "patch_size": 8, "window_size": 14, "use_abs_pos": False},
    "plain": {"image_size": 48, "patch_size": 8, "window_size": 4, "use_rel_pos": False,
              "qkv_bias": False},
    "bands": {"image_size": 72, "patch_size": 2, "window_size": 5, "num_hidden_layers": 2},
}  # fmt: skip
_WIDTH = 16


def config_of_sam(shape="fills", **decoder):
    """Return a config of transformers."""
    vision = {
        "hidden_size": 24, "output_channels": _WIDTH, "num_hidden_layers": 3, "mlp_dim": 40,
        "num_attention_heads": 3, "global_attn_indexes": [1], "num_pos_feats": _WIDTH // 2,
        **SHAPES[shape],
    }  # fmt: skip
    sizes = {name: vision[name] for name in ("image_size", "patch_size")}
    return transformers.SamConfig(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": _WIDTH, "mask_input_channels": 8, **sizes},
        mask_decoder_config={
            "hidden_size": _WIDTH, "mlp_dim": 32, "num_attention_heads": 2,
            "iou_head_hidden_dim": 12, **decoder,
        },
    )  # fmt: skip


def tiny_sam(folder=None, shape="fills", **decoder):
    """Return a model of transformers whose weights all matter, written into a folder if there is
    one.
    """
    torch.manual_seed(0)
    model = transformers.SamModel(config_of_sam(shape, **decoder)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            spread = 1.0 if "positional" in name else 0.3
            if weight.ndim > 1 and not re.search("embed|token|rel_pos", name):
                spread = 1.5 / weight[0].numel() ** 0.5
            is_gain = "norm" in name and name.endswith("weight")
            weight.copy_(is_gain + torch.randn_like(weight) * (0.1 if weight.ndim == 1 else spread))
    if folder is not None:
        model.save_pretrained(folder)
    return model


# Parts of the names of transformers -> those of the authors, in this order.
_AUTHORS = {
    r"^vision_encoder\.layers": "image_encoder.blocks",
    r"^vision_encoder": "image_encoder",
    r"patch_embed\.projection": "patch_embed.proj",
    r"neck\.conv1": "neck.0", r"neck\.layer_norm1": "neck.1",
    r"neck\.conv2": "neck.2", r"neck\.layer_norm2": "neck.3",
    r"^shared_image_embedding\.positional_embedding":
        "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
    r"prompt_encoder\.point_embed\.": "prompt_encoder.point_embeddings.",
    r"mask_embed\.conv1": "mask_downscaling.0", r"mask_embed\.layer_norm1": "mask_downscaling.1",
    r"mask_embed\.conv2": "mask_downscaling.3", r"mask_embed\.layer_norm2": "mask_downscaling.4",
    r"mask_embed\.conv3": "mask_downscaling.6",
    r"layer_norm_final_attn": "norm_final_attn", r"\.layer_norm(\d)": r".norm\1",
    r"upscale_conv1": "output_upscaling.0", r"upscale_layer_norm": "output_upscaling.1",
    r"upscale_conv2": "output_upscaling.3",
    r"(mlps\.\d|head)\.layers\.0": r"\1.layers.1", r"(mlps\.\d|head)\.proj_in": r"\1.layers.0",
    r"(mlps\.\d|head)\.proj_out": r"\1.layers.2",
}  # fmt: skip


def authors_tensors(model):
    """Return the state of a model of transformers under the names of the authors."""
    tensors = {}
    for name, value in model.state_dict().items():
        for pattern, text in _AUTHORS.items():
            name = re.sub(pattern, text, name)
        tensors[name] = value
    del tensors["prompt_encoder.shared_embedding.positional_embedding"]  # which repeats another
    return tensors
