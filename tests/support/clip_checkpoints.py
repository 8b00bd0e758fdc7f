"""Tiny random checkpoints of CLIP with tokenizers, made by transformers."""

import json

import torch
import transformers
from tokenizers import pre_tokenizers

KINDS = {
    "openai": {"hidden_act": "quick_gelu", "eos_token_id": 2},
    "laion": {"hidden_act": "gelu", "eos_token_id": 39},
}


def text_tower(folder, kind="openai", **changes):
    """Write a text tower; gives transformers' own."""
    torch.manual_seed(0)
    config = transformers.CLIPTextConfig(**{
        "vocab_size": 40, "hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 3,
        "num_attention_heads": 3, "max_position_embeddings": 9, "projection_dim": 6,
        "bos_token_id": 38, **KINDS[kind], **changes,
    })  # fmt: skip
    model = transformers.CLIPTextModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    return model


def tokenizer_files(folder, pad="<|endoftext|>"):
    """Write a vocabulary of letters and a few merges, as CLIP's files have them."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = ["p h", "o t", "ph ot", "phot o</w>", "c a", "ca t</w>", "o f</w>", "i t</w>"]
    tokens = [*letters, *(f"{c}</w>" for c in letters), *(m.replace(" ", "") for m in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    config = {
        "tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "pad_token": pad,
        "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>",
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


TEXT = {
    "hidden_size": 12,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "max_position_embeddings": 30,
    "projection_dim": 5,
}
VISION = {
    "hidden_size": 10, "intermediate_size": 14, "num_hidden_layers": 3, "num_attention_heads": 2,
    "image_size": 15, "patch_size": 4, "layer_norm_eps": 1e-4, "projection_dim": 3,
}  # fmt: skip


def both_towers(folder, kind="openai", dtype="float32", scale=0.2, **changes):
    """Write both towers; gives transformers' own network."""
    torch.manual_seed(0)
    text = {"vocab_size": 40, "bos_token_id": 38, **KINDS[kind], **TEXT, **changes}
    config = transformers.CLIPConfig(
        text_config=text, vision_config={**VISION, "hidden_act": KINDS[kind]["hidden_act"]},
        projection_dim=6, logit_scale_init_value=1.5,
    )  # fmt: skip
    model = transformers.CLIPModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # no zeros or ones that hide a mistake
            parameter.add_(torch.randn_like(parameter) * scale)
    model = model.to(getattr(torch, dtype))
    model.save_pretrained(folder)
    return model.float()
