"""CLIP's text tower and tokenizer against transformers, on every backend in one process."""

import json

import numpy as np
import pytest
import torch
import transformers
from test_bert import close
from tokenizers import pre_tokenizers

import hub
from hub.presets import resolve

HARD = [
    "A photo of a Cat", "", "  two   spaces  ", "it's they'll we've 'tis", "naïve café ÅNGSTRÖM",
    "漢字かな交じり文 한국어", "👩‍👩‍👧‍👦 and 🤦🏽‍♀️!", "1234567 3.14 x2y3", "!!!??? --- ... ((", "tab\tnew\nline",
    "<|endoftext|> inside <|startoftext|>", "e\u0301 combining", "İstanbul ﬁ ß", "zero\u200bwidth",
    "supercalifragilisticexpialidocious " * 12, "a\x00b\x07c", "trailing \u00a0",
]  # fmt: skip
IDS = np.array([[5, 9, 30, 7, 38, 39, 39], [5, 38, 39, 39, 39, 39, 39]], "int32")
KINDS = {
    "openai": {"hidden_act": "quick_gelu", "eos_token_id": 2},
    "laion": {"hidden_act": "gelu", "eos_token_id": 39},
}


def tower(folder, kind="openai", **changes):
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


@pytest.mark.parametrize("kind", KINDS)
def test_text_tower(backend, kind, tmp_path):
    theirs = tower(tmp_path / "a", kind)
    model = hub.CLIPTextEncoder.from_preset(tmp_path / "a")
    with torch.no_grad():
        expected = theirs(torch.from_numpy(IDS).long(), output_hidden_states=True)
    out = model({"token_ids": IDS})
    close(out["sequence_output"], expected.last_hidden_state)
    close(out["pooled_output"], expected.pooler_output)
    mask = np.array([[1] * 6 + [0], [1] * 3 + [0] * 4])
    with torch.no_grad():
        masked = theirs(torch.from_numpy(IDS).long(), torch.from_numpy(mask))
    ours = model({"token_ids": IDS, "padding_mask": mask})
    close(ours["pooled_output"], masked.pooler_output)
    skipped = model({"token_ids": IDS}, skip=1)["sequence_output"]
    close(skipped, theirs.final_layer_norm(expected.hidden_states[-2]))
    model.save_to_preset(tmp_path / "b")
    again = transformers.CLIPTextModel.from_pretrained(tmp_path / "b").eval()
    with torch.no_grad():
        close(out["pooled_output"], again(torch.from_numpy(IDS).long()).pooler_output)


@pytest.mark.parametrize("pad", ["<|endoftext|>", "!"])
def test_tokenizer(pad, tmp_path):
    folder = tokenizer_files(tmp_path / "a", pad)
    theirs = transformers.CLIPTokenizer.from_pretrained(folder)
    ours = hub.CLIPTokenizer.from_files(resolve(folder))
    for text in HARD:
        expected = theirs(text, truncation=True, max_length=77)["input_ids"]
        assert ours(text, sequence_length=77)["token_ids"].ravel().tolist() == expected, text
    assert ours.pad_token_id == theirs.pad_token_id
    found = ours(HARD, sequence_length=77)["token_ids"]
    expected = theirs(HARD, truncation=True, max_length=77, padding="longest")["input_ids"]
    np.testing.assert_array_equal(found, expected)
    (tmp_path / "b").mkdir()
    ours.save(tmp_path / "b")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "b")
    assert (
        again(HARD, truncation=True, max_length=77)["input_ids"]
        == (theirs(HARD, truncation=True, max_length=77)["input_ids"])
    )
    made = hub.CLIPTokenizer(folder / "vocab.json", folder / "merges.txt")
    assert made("a photo of a cat")["token_ids"].tolist() == (
        ours("a photo of a cat")["token_ids"].tolist()
    )
    assert ours.detokenize(ours("a photo of a cat")["token_ids"].ravel()) == "a photo of a cat"


COUNTS = {
    123_060_480: {"vocabulary_size": 49408, "num_layers": 12, "num_heads": 12, "hidden_dim": 768,
                  "intermediate_dim": 3072},
    340_387_840: {"vocabulary_size": 49408, "num_layers": 23, "num_heads": 16, "hidden_dim": 1024,
                  "intermediate_dim": 4096, "activation": "gelu"},
}  # fmt: skip


@pytest.mark.parametrize("count", COUNTS)
def test_parameters_of_the_published_towers(count):
    assert hub.CLIPTextEncoder(**COUNTS[count]).count_params() == count  # nothing is allocated


def test_bad_input(backend):
    model = hub.CLIPTextEncoder(9, 1, 1, 4, 4, max_sequence_length=5)
    with pytest.raises(ValueError, match="longer than the 5 positions"):
        model({"token_ids": np.ones((1, 6), "int32")})
    with pytest.raises(ValueError, match="skip=1"):
        model({"token_ids": np.ones((1, 3), "int32")}, skip=1)
