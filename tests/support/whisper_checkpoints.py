"""Tiny random checkpoints of Whisper, made by transformers, and inputs of them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

FRAMES, VOCABULARY = 40, 60
_RNG = np.random.default_rng(0)
IDS = _RNG.integers(5, VOCABULARY, (3, 11)).astype("int32")
MASK = np.array([[1] * 11, [1] * 6 + [0] * 5, [1] * 2 + [0] * 9]) > 0
HEADS = [(1, 2), (0, 0), (1, 0)]


def make(folder: Path, num_mels: int = 80, **changes: Any) -> Any:
    """Write a checkpoint and return the model of transformers."""
    config = transformers.WhisperConfig(**{
        "vocab_size": VOCABULARY, "d_model": 12, "encoder_layers": 3, "decoder_layers": 2,
        "encoder_attention_heads": 3, "decoder_attention_heads": 3, "encoder_ffn_dim": 20,
        "decoder_ffn_dim": 20, "num_mel_bins": num_mels, "max_source_positions": FRAMES // 2,
        "max_target_positions": 16, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
        "decoder_start_token_id": 3, "suppress_tokens": [4], "begin_suppress_tokens": [],
        "attn_implementation": "eager", **changes,
    })  # fmt: skip
    torch.manual_seed(0)
    model = transformers.WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # no zeros or ones that hide a mistake
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    return model


def features(num_mels: int = 80, rows: int = 3, frames: int = FRAMES) -> np.ndarray:
    """Return random spectrograms (rows, frames, num_mels)."""
    return np.random.default_rng(1).normal(size=(rows, frames, num_mels)).astype("float32")


def inputs(num_mels: int = 80) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return inputs under our names, and the same for transformers."""
    spectrograms = features(num_mels)
    ours = {
        "encoder_features": spectrograms, "decoder_token_ids": IDS, "decoder_padding_mask": MASK,
    }  # fmt: skip
    theirs = {
        "input_features": torch.from_numpy(spectrograms).transpose(1, 2),
        "decoder_input_ids": torch.from_numpy(IDS).long(),
        "decoder_attention_mask": torch.from_numpy(MASK).long(),
    }
    return ours, theirs
