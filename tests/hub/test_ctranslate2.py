"""Whisper models of CTranslate2 become checkpoints, without that library."""

import json
import struct

import numpy as np
import pytest
import speech_checkpoints as tiny
import transformers
from compare import to_numpy

import hub
from hub.cli.main import main
from hub.convert.ctranslate2 import convert_ctranslate2
from hub.presets import resolve

TYPES = ("float32", "int8", "int16", "int32", "float16")
SOUND = tiny.sound(1.7)


def variables(model):
    """The variables of a file, of the model of transformers."""
    state = {n.removeprefix("model."): p.numpy() for n, p in model.state_dict().items()}
    out = {"decoder/activation": np.int8(3), "encoder/num_heads": np.int16(3)}

    def put(name, *sources, leaves=("weight", "bias")):
        for leaf, theirs in zip(leaves, ("weight", "bias")):
            if f"{sources[-1]}.{theirs}" in state:
                width = len(state[f"{sources[-1]}.{theirs}"])
                parts = [state.get(f"{s}.{theirs}", np.zeros(width, "float32")) for s in sources]
                out[f"{name}/{leaf}"] = np.concatenate(parts)

    put("decoder/embeddings", "decoder.embed_tokens")
    for i in (1, 2):
        put(f"encoder/conv{i}", f"encoder.conv{i}")
    for side in ("encoder", "decoder"):
        put(f"{side}/position_encodings", f"{side}.embed_positions", leaves=("encodings",))
        norm = {"leaves": ("gamma", "beta")}
        put(f"{side}/layer_norm", f"{side}.layer_norm", **norm)
        for i in range(2):
            new, old = f"{side}/layer_{i}", f"{side}.layers.{i}"
            query, key, value, out_proj = (
                [f"{old}.{kind}.{x}_proj" for kind in ("self_attn", "encoder_attn")]
                for x in ("q", "k", "v", "out")
            )
            put(f"{new}/self_attention/linear_0", query[0], key[0], value[0])
            put(f"{new}/self_attention/linear_1", out_proj[0])
            put(f"{new}/self_attention/layer_norm", f"{old}.self_attn_layer_norm", **norm)
            if side == "decoder":
                put(f"{new}/attention/linear_0", query[1])
                put(f"{new}/attention/linear_1", key[1], value[1])
                put(f"{new}/attention/linear_2", out_proj[1])
                put(f"{new}/attention/layer_norm", f"{old}.encoder_attn_layer_norm", **norm)
            put(f"{new}/ffn/linear_0", f"{old}.fc1")
            put(f"{new}/ffn/linear_1", f"{old}.fc2")
            put(f"{new}/ffn/layer_norm", f"{old}.final_layer_norm", **norm)
    return out


def quantized(content):
    """The variables with the matrices in int8, a scale a row."""
    out = {}
    for name, value in content.items():
        out[name] = value
        if name.endswith("/weight"):
            scale = 127 / np.abs(value.reshape(len(value), -1)).max(1)
            rows = scale.reshape(-1, *[1] * (value.ndim - 1))
            out[name] = np.rint(value * rows).astype("int8")
            out[f"{name}_scale"] = scale.astype("float32")
    return out


def write(folder, content, version=6, name="WhisperSpec"):
    def text(x):
        return struct.pack("<H", len(x) + 1) + x.encode() + b"\0"

    data = struct.pack("<I", version) + text(name) + struct.pack("<II", 3, len(content))
    for key, x in content.items():
        data += text(key) + struct.pack(f"<B{x.ndim}I", x.ndim, *x.shape)
        data += struct.pack("<BI", TYPES.index(x.dtype.name), x.nbytes) + x.tobytes()
    data += struct.pack("<I", 1) + text("decoder/projection/weight") + text("decoder/embeddings/w")
    folder.mkdir(exist_ok=True)
    (folder / "model.bin").write_bytes(data)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The model of transformers, the variables of its file, and its other files by name."""
    folder = tmp_path_factory.mktemp("whisper")
    model = tiny.make(folder, "english")
    generation = json.loads((folder / "generation_config.json").read_text())
    names = {"suppress_ids": "suppress_tokens", "suppress_ids_begin": "begin_suppress_tokens"}
    config = {new: generation[old] for new, old in names.items()}
    config |= {"alignment_heads": generation["alignment_heads"], "lang_ids": [1, 2, 3]}
    others = {
        name: (folder / name).read_text() for name in ("tokenizer.json", "preprocessor_config.json")
    }
    return folder, model, variables(model), {**others, "config.json": json.dumps(config)}


@pytest.fixture
def source(made, tmp_path):
    for name, text in made[3].items():
        (tmp_path / "theirs").mkdir(exist_ok=True)
        (tmp_path / "theirs" / name).write_text(text)
    return tmp_path / "theirs"


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_model_becomes_a_checkpoint(backend, made, source, tmp_path, dtype):
    folder, theirs, content, _ = made
    content = {n: x.astype(dtype) if x.dtype == np.float32 else x for n, x in content.items()}
    write(source, content)
    rows = convert_ctranslate2(resolve(source), tmp_path / "new")
    assert {row[2] for row in rows} == {dtype}
    model = transformers.WhisperForConditionalGeneration.from_pretrained(tmp_path / "new")
    for name, value in theirs.state_dict().items():
        np.testing.assert_array_equal(
            model.state_dict()[name].numpy(), value.numpy().astype(dtype), err_msg=name
        )
    ours, before = (hub.SpeechToText.from_preset(x) for x in (tmp_path / "new", folder))
    assert ours.alignment_heads == before.alignment_heads
    assert ours.special_tokens == before.special_tokens
    if dtype == "float32":
        settings = {"temperature": 0.0, "max_new_tokens": tiny.NEW}
        before.max_initial_timestamp_index = 50  # which these files do not state
        expected = before.transcribe(SOUND, **settings)
        assert expected.segments
        assert ours.transcribe(SOUND, **settings) == expected


def test_integers_are_scaled(made, source, tmp_path):
    _, theirs, content, _ = made
    write(source, quantized(content))
    rows = convert_ctranslate2(resolve(source), tmp_path / "new")
    assert {row[2] for row in rows} == {"float32"}
    ours = hub.WhisperBackbone.from_preset(tmp_path / "new")
    for ours_name, name in (
        ("token_embedding/embeddings", "decoder.embed_tokens.weight"),
        ("encoder/blocks/1/attention/output_dense/kernel", "encoder.layers.1.self_attn.out_proj.weight"),
        ("encoder/conv_2/kernel", "encoder.conv2.weight"),
    ):  # fmt: skip
        expected = theirs.state_dict()[f"model.{name}"].numpy()
        got = to_numpy(dict(ours.named_weights())[ours_name])
        got = got.T if got.ndim == 3 or "kernel" in ours_name else got
        step = np.abs(expected).max() / 127
        assert np.abs(got - expected).max() <= step / 2 + 1e-6
        assert not np.array_equal(got, expected)


def test_the_command_takes_a_tokenizer(made, source, tmp_path, capsys):
    folder, _, content, _ = made
    write(source, content)
    (source / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"has no tokenizer.json: give the preset .*--tokenizer"):
        convert_ctranslate2(resolve(source), tmp_path / "new")
    target = str(tmp_path / "new")
    assert main(["convert", str(source), target, "--tokenizer", str(folder)]) == 0
    assert "model.decoder.embed_tokens.weight" in capsys.readouterr().out
    again = hub.WhisperTokenizer.from_preset(target)
    assert again.get_vocabulary() == hub.WhisperTokenizer.from_preset(folder).get_vocabulary()


def without(name):
    return lambda content: {n: x for n, x in content.items() if not n.startswith(name)}


@pytest.mark.parametrize(("change", "settings", "match"), [
    (without("decoder/layer_1/attention/linear_1/w"), {}, r"layers.1.encoder_attn.k_proj.weight"),
    (without("encoder/num_heads"), {}, "has no encoder/num_heads"),
    (without("decoder/embeddings"), {}, "has no model.decoder.embed_tokens.weight"),
    (lambda c: {**c, "decoder/more/weight": np.float32([1])}, {}, "Unused .*decoder.more.weight"),
    (lambda c: {**c, "encoder/conv1/bias": np.float32([1])}, {}, "encoder.conv1.bias"),
    (lambda c: c, {"version": 2}, r"expected a file of version \(4, 5, 6\), got 2"),
    (lambda c: c, {"name": "TransformerSpec"}, "expected a WhisperSpec, got 'TransformerSpec'"),
])  # fmt: skip
def test_files_that_do_not_fit_are_refused(made, source, tmp_path, change, settings, match):
    write(source, change(made[2]), **settings)
    with pytest.raises(ValueError, match=match):
        convert_ctranslate2(resolve(source), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("size", [0, 3, 30, 1000, 9000])
def test_a_cut_file_is_refused(made, source, tmp_path, size):
    write(source, made[2])
    data = (source / "model.bin").read_bytes()
    (source / "model.bin").write_bytes(data[:size])
    with pytest.raises(ValueError, match=r"model.bin of .* is no Whisper model of CTranslate2"):
        convert_ctranslate2(resolve(source), tmp_path / "new")
