"""Tiny random checkpoints of language models with tokenizers, made by transformers."""

import json
from pathlib import Path

import numpy as np
import sentencepiece
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

TEXTS = [
    "The movie was good, and so was the film before it.",
    "An amazing story: two friends, one café, no money \U0001f600!",
    "I want my money back; it was bad, bad, bad.",
    "What an amazing movie! Not bad at all.",
]
PROMPTS = ["The movie was", "An", "bad, bad, bad, bad"]
END = "<|endoftext|>"
IDS = np.random.default_rng(0).integers(3, 250, (3, 17)).astype("int32")
MASK = np.array([[1] * 17, [1] * 6 + [0] * 11, [1] * 2 + [0] * 15]) > 0
T5_IDS = np.random.default_rng(0).integers(3, 90, (3, 17)).astype("int32")
_TORCH = {
    "gpt2": lambda n, c: transformers.GPT2LMHeadModel(transformers.GPT2Config(**{
        "vocab_size": n, "n_embd": 12, "n_layer": 3, "n_head": 3, "n_positions": 48,
        "bos_token_id": 0, "eos_token_id": 0, **c,
    })),
    "opt": lambda n, c: transformers.OPTForCausalLM(transformers.OPTConfig(**{
        "vocab_size": n, "hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 3,
        "ffn_dim": 20, "max_position_embeddings": 48, "word_embed_proj_dim": 12,
        "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 2, **c,
    })),
    "t5": lambda n, c: transformers.T5ForConditionalGeneration(transformers.T5Config(**{
        "vocab_size": n, "d_model": 12, "d_kv": 5, "d_ff": 20, "num_layers": 3,
        "num_decoder_layers": 2, "num_heads": 3, "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 12, "decoder_start_token_id": 0, "eos_token_id": 1,
        "pad_token_id": 0, **c,
    })),
}  # fmt: skip
KINDS = {
    "gpt2": ("gpt2", {}),
    "gpt2[scaled]": ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
    "gpt2[unscaled]": ("gpt2", {"scale_attn_weights": False}),
    "opt": ("opt", {}),
    "opt[350m]": ("opt", {"do_layer_norm_before": False, "word_embed_proj_dim": 8}),
    "t5": ("t5", {}),
    "t5[v1.1]": ("t5", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
}


def make(folder: Path, kind: str, dtype: str = "float32", scale: float = 0.3, **changes):
    """Write a checkpoint with its tokenizer; gives the transformers model."""
    family, config = KINDS[kind]
    folder.mkdir(parents=True, exist_ok=True)
    size = unigram_files(folder) if family == "t5" else byte_pair_files(folder, family)
    torch.manual_seed(0)
    model = _TORCH[family](size + 3, {**config, **changes}).eval()
    with torch.no_grad():
        if config.get("tie_word_embeddings") is False:
            model.lm_head.weight = torch.nn.Parameter(torch.randn(size + 3, 12))
        for parameter in model.parameters():  # no zeros or ones that hide a mistake
            parameter.add_(torch.randn_like(parameter) * scale)
    model = model.to(getattr(torch, dtype))
    model.save_pretrained(folder)
    return model


def byte_pair_files(folder: Path, family: str) -> int:
    """Write a byte-level tokenizer, and return the size of its vocabulary."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    )
    model = json.loads(core.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    first = [END] if family == "gpt2" else ["<s>", "<pad>", "</s>", "<unk>"]
    vocabulary = {token: i for i, token in enumerate([*first, *tokens])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    end = END if family == "gpt2" else "</s>"
    special = {"bos_token": end, "eos_token": end, "unk_token": end}
    if family == "opt":
        special |= {"pad_token": "<pad>", "add_bos_token": True}
    config = {"tokenizer_class": "GPT2Tokenizer", "model_max_length": 48, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return len(vocabulary)


def unigram_files(folder: Path) -> int:
    """Write a sentencepiece tokenizer, and return the size of its vocabulary."""
    (folder / "texts").write_text("\n".join(TEXTS * 5), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "texts"), model_prefix=str(folder / "spiece"), vocab_size=80,
        hard_vocab_limit=False, character_coverage=1.0, minloglevel=2, pad_id=0, eos_id=1,
        unk_id=2, bos_id=-1,
    )  # fmt: skip
    (folder / "texts").unlink()
    pieces = len((folder / "spiece.vocab").read_text(encoding="utf-8").splitlines())
    (folder / "spiece.vocab").unlink()
    config = {"tokenizer_class": "T5Tokenizer", "model_max_length": 48, "extra_ids": 100}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return pieces + 100


def long(x):
    """Return an array as torch's 64-bit integers, which transformers takes."""
    return torch.from_numpy(np.asarray(x)).long()


def bare(cls, folder, **kwargs):
    """A task without a preprocessor."""
    return cls.from_preset(folder, preprocessor=None, **kwargs)
