"""Tiny random BERT checkpoints, made by transformers, and what transformers says of them."""

import json
from pathlib import Path

import numpy as np
import torch
import transformers

WORDS = ["the", "movie", "was", "good", "bad", "an", "amazing", "film", "##s", "!", ".", "not"]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
TEXTS = ["the movie was good!", "bad films.", "an amazing film was not bad, the movies was good"]

CONFIG = {
    "vocab_size": len(VOCABULARY) + 3, "hidden_size": 12, "num_hidden_layers": 3,
    "num_attention_heads": 3, "intermediate_size": 20, "max_position_embeddings": 24,
    "type_vocab_size": 3, "layer_norm_eps": 1e-5, "hidden_act": "gelu",
}  # fmt: skip


def inputs(seed: int = 0) -> dict[str, np.ndarray]:
    """A batch with padding on the right and two segments."""
    generator = np.random.default_rng(seed)
    ids = generator.integers(5, CONFIG["vocab_size"], (3, 7)).astype("int32")
    mask = np.array([[1] * 7, [1] * 4 + [0] * 3, [1] + [0] * 6])
    segments = np.array([[0, 0, 0, 1, 1, 2, 2]] * 3)
    return {"token_ids": ids, "segment_ids": segments.astype("int32"), "padding_mask": mask > 0}


def for_torch(batch: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """The same batch under the names of transformers."""
    return {
        "input_ids": torch.from_numpy(batch["token_ids"]).long(),
        "token_type_ids": torch.from_numpy(batch["segment_ids"]).long(),
        "attention_mask": torch.from_numpy(batch["padding_mask"]).long(),
    }


def make(folder: Path, kind: str = "BertModel", dtype: str = "float32", **changes):
    """Write a checkpoint with vocabulary; gives the transformers model."""
    torch.manual_seed(0)
    config = transformers.BertConfig(**{**CONFIG, **changes})
    model = getattr(transformers, kind)(config).to(getattr(torch, dtype)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # no zeros or ones that hide a mistake
            parameter.add_(torch.randn_like(parameter) * 0.1)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, max_shard_size=changes.get("max_shard_size", "5GB"))
    words(folder)
    return model


def words(folder: Path) -> None:
    """The tokenizer's files."""
    (folder / "vocab.txt").write_text("\n".join([*VOCABULARY, "[a]", "[b]", "[c]"]) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
