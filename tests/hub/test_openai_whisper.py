"""`.pt` files of Whisper by its authors become checkpoints, without their package or torch."""

import json
import re

import numpy as np
import pytest
import torch
import transformers
import whisper_checkpoints as tiny
from compare import assert_close, to_numpy

import hub
from hub.cli.main import main
from hub.convert.openai_whisper import convert_openai_whisper
from hub.presets.files import resolve_file

# transformers' names -> the authors'.
NAMES = {
    r"^model\.": "",
    r"\.layers\.": ".blocks.",
    r"self_attn_layer_norm": "attn_ln",
    r"encoder_attn_layer_norm": "cross_attn_ln",
    r"final_layer_norm": "mlp_ln",
    r"self_attn\.": "attn.",
    r"encoder_attn\.": "cross_attn.",
    r"\.q_proj": ".query",
    r"\.k_proj": ".key",
    r"\.v_proj": ".value",
    r"\.out_proj": ".out",
    r"\.fc1": ".mlp.0",
    r"\.fc2": ".mlp.2",
    r"^encoder\.layer_norm": "encoder.ln_post",
    r"^decoder\.layer_norm": "decoder.ln",
    r"embed_positions\.weight": "positional_embedding",
    r"embed_tokens": "token_embedding",
}
DIMS = {
    "n_mels": 80, "n_audio_ctx": 20, "n_audio_state": 12, "n_audio_head": 3, "n_audio_layer": 3,
    "n_vocab": 60, "n_text_ctx": 16, "n_text_state": 12, "n_text_head": 3, "n_text_layer": 2,
}  # fmt: skip


def renamed(name):
    for pattern, new in NAMES.items():
        name = re.sub(pattern, new, name)
    return name


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The model of transformers, and the content of its file."""
    folder = tmp_path_factory.mktemp("whisper")
    model = tiny.make(folder, encoder_ffn_dim=48, decoder_ffn_dim=48)
    state = {n: p for n, p in model.state_dict().items() if n != "proj_out.weight"}
    return model, {"dims": DIMS, "model_state_dict": {renamed(n): p for n, p in state.items()}}


def convert(path, content, target, **options):
    torch.save(content, path)
    return convert_openai_whisper(*resolve_file(path), target, **options)


def test_the_names_of_the_authors(made):
    names = set(made[1]["model_state_dict"])
    assert {
        "encoder.conv1.weight", "encoder.positional_embedding", "encoder.blocks.0.attn.key.weight",
        "encoder.blocks.2.mlp_ln.bias", "encoder.ln_post.weight", "decoder.ln.bias",
        "decoder.blocks.1.cross_attn.out.bias", "decoder.blocks.1.cross_attn_ln.weight",
        "decoder.blocks.0.mlp.2.weight", "decoder.token_embedding.weight",
        "decoder.positional_embedding",
    } <= names  # fmt: skip


def test_a_file_becomes_a_checkpoint(backend, made, tmp_path):
    theirs, content = made
    rows = convert(tmp_path / "tiny.pt", content, tmp_path / "new")
    assert len(rows) == len(content["model_state_dict"])
    inputs, batch = tiny.inputs()
    with torch.no_grad():
        expected = theirs(**batch).logits * batch["decoder_attention_mask"][..., None]
    model = hub.WhisperBackbone.from_preset(tmp_path / "new")
    out = to_numpy(model.logits(model(inputs)["decoder_sequence_output"]))
    assert_close(out * tiny.MASK[..., None], expected, rtol=0, atol=5e-5)
    again, info = transformers.WhisperForConditionalGeneration.from_pretrained(
        tmp_path / "new", output_loading_info=True
    )
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys"))
    with torch.no_grad():
        logits = again(**batch).logits * batch["decoder_attention_mask"][..., None]
    assert_close(logits, expected, rtol=0, atol=1e-6)


def test_half_precision_and_a_mask_of_older_files(made, tmp_path):
    state = {name: p.half() for name, p in made[1]["model_state_dict"].items()}
    state["decoder.mask"] = torch.zeros(16, 16).half()
    rows = convert(
        tmp_path / "tiny.pt", {"dims": DIMS, "model_state_dict": state}, tmp_path / "new"
    )
    assert {dtype for _, _, dtype in rows} == {"float16"}
    model = transformers.WhisperForConditionalGeneration.from_pretrained(tmp_path / "new")
    for name, value in model.state_dict().items():
        if name != "proj_out.weight":
            np.testing.assert_array_equal(value, state[renamed(name)])


def test_sizes_of_published_vocabularies_state_their_tokens(tmp_path):
    model = tiny.make(tmp_path / "first", vocab_size=51865, encoder_ffn_dim=48, decoder_ffn_dim=48)
    state = {renamed(n): p for n, p in model.state_dict().items() if n != "proj_out.weight"}
    content = {"dims": {**DIMS, "n_vocab": 51865}, "model_state_dict": state}
    convert(tmp_path / "tiny.pt", content, tmp_path / "new")
    config = json.loads((tmp_path / "new" / "config.json").read_text())
    assert (config["eos_token_id"], config["decoder_start_token_id"]) == (50257, 50258)
    assert config["architectures"] == ["WhisperForConditionalGeneration"]


def test_the_command_takes_a_tokenizer_along(made, tmp_path, capsys):
    content = dict(made[1])
    words = {chr(97 + i): i for i in range(26)} | {"<|endoftext|>": 26}
    tokenizer = hub.WhisperTokenizer(
        words, [], {"<|startoftranscript|>": 27, "<|notimestamps|>": 28}
    )
    tokenizer.save(tmp_path / "other")
    for name, text in {
        "config": {"model_type": "whisper", "vocab_size": 60}, "generation_config": {"a": 1},
    }.items():  # fmt: skip
        (tmp_path / "other" / f"{name}.json").write_text(json.dumps(text))
    torch.save(content, tmp_path / "tiny.pt")
    target, other = str(tmp_path / "new"), str(tmp_path / "other")
    assert main(["convert", str(tmp_path / "tiny.pt"), target, "--tokenizer", other]) == 0
    assert "model.decoder.embed_tokens.weight" in capsys.readouterr().out
    again = hub.WhisperTokenizer.from_preset(target)
    assert again.get_vocabulary() == tokenizer.get_vocabulary()
    assert json.loads((tmp_path / "new" / "generation_config.json").read_text()) == {"a": 1}
    (tmp_path / "other" / "config.json").write_text('{"model_type": "whisper", "vocab_size": 61}')
    with pytest.raises(ValueError, match="must be of 60 tokens, got one of 61"):
        convert(tmp_path / "tiny.pt", content, tmp_path / "third", tokenizer=other)
    assert not (tmp_path / "third").exists()


class Dimensions:
    """An object in a file, which must not be made."""


@pytest.mark.parametrize(("change", "match"), [
    (lambda c: c.pop("dims"), "no file of Whisper by its authors"),
    (lambda c: c.update(dims=Dimensions()), "expected .* beside them, 'dims'"),
    (lambda c: c["dims"].pop("n_mels"), r"'dims' with \['n_mels'\]"),
    (lambda c: c["dims"].update(n_audio_state=0), "must be those of its"),
    (lambda c: c["dims"].update(n_text_head=4), "of both stacks of one width"),
    (lambda c: c["dims"].update(n_text_layer=10**9), "must be those of its"),
    (lambda c: c["dims"].update(n_text_layer=3), "Missing in the checkpoint"),
    (lambda c: c["dims"].update(n_vocab=61), r"decoder.token_embedding.weight \(60, 12\)"),
    (lambda c: c["model_state_dict"].pop("encoder.conv1.bias"), "encoder.conv1.bias"),
    (lambda c: c["model_state_dict"].update(more=torch.zeros(1)), "Unused .*: more"),
])  # fmt: skip
def test_files_that_do_not_fit_are_refused(made, tmp_path, change, match):
    content = {key: dict(value) for key, value in made[1].items()}
    change(content)
    with pytest.raises(ValueError, match=match):
        convert(tmp_path / "tiny.pt", content, tmp_path / "new")
    assert not (tmp_path / "new").exists()
