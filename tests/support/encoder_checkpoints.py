"""Tiny random checkpoints of the encoders beside BERT, made by transformers."""

from pathlib import Path

import bert_checkpoints
import numpy as np
import torch
import transformers

SIZES = {
    "vocab_size": bert_checkpoints.CONFIG["vocab_size"], "hidden_size": 12, "num_hidden_layers": 3,
    "num_attention_heads": 3, "intermediate_size": 20, "max_position_embeddings": 24,
}  # fmt: skip
CONFIGS = {
    "roberta": ("Roberta", {**SIZES, "type_vocab_size": 1, "pad_token_id": 1}),
    "xlm-roberta": ("XLMRoberta", {**SIZES, "type_vocab_size": 1, "pad_token_id": 1}),
    "distilbert": (
        "DistilBert",
        {"vocab_size": SIZES["vocab_size"], "dim": 12, "n_layers": 3, "n_heads": 3,
         "hidden_dim": 20, "max_position_embeddings": 24, "pad_token_id": 0},
    ),
    "electra": ("Electra", {**SIZES, "embedding_size": 8, "type_vocab_size": 2}),
    "electra[wide]": ("Electra", {**SIZES, "embedding_size": 12, "type_vocab_size": 2}),
    "albert": (
        "Albert",
        {**SIZES, "embedding_size": 8, "num_hidden_layers": 5, "num_hidden_groups": 2,
         "inner_group_num": 2, "type_vocab_size": 2, "hidden_act": "gelu_new",
         "hidden_dropout_prob": 0.1},
    ),
}  # fmt: skip
WITHOUT_SEGMENTS = ("roberta", "xlm-roberta", "distilbert")


def make(folder: Path, family: str, kind: str, **changes):
    """Write a checkpoint with vocabulary; gives the transformers model."""
    name, config = CONFIGS[family]
    torch.manual_seed(0)
    model = getattr(transformers, name + kind)(
        getattr(transformers, f"{name}Config")(**config, **changes)
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # no zeros or ones that hide a mistake
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    bert_checkpoints.words(folder)
    return model


def inputs(family):
    """A padded batch for us and for transformers; RoBERTa tells padding by its id."""
    batch = bert_checkpoints.inputs()
    if "roberta" in family:
        batch["token_ids"] = np.where(batch["padding_mask"], batch["token_ids"], 1)
    batch["segment_ids"] = np.minimum(batch["segment_ids"], 1)
    theirs = bert_checkpoints.for_torch(batch)
    if family in WITHOUT_SEGMENTS:
        del theirs["token_type_ids"]
    return batch, theirs
