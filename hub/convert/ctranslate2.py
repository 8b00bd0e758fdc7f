"""Convert a Whisper model of CTranslate2, such as those of faster-whisper, to a checkpoint of
transformers.

Its `model.bin` has the projections of an attention in one matrix, biases of zeros for the keys,
and in the quantized types integers with a scale a row. The sizes are those of the tensors; the
`config.json` beside it has the suppressed tokens and the alignment heads.
"""

import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import keraslite as keras
from hub.convert.openai_whisper import read_tokenizer
from hub.convert.safetensors import check_target
from hub.families import family_of
from hub.files import write_json
from hub.preprocessing.audio_converter import FILE as PREPROCESSOR
from hub.preprocessing.audio_converter import WhisperAudioConverter
from hub.presets import save
from hub.presets.files import PresetFiles, resolve
from hub.speech.special_tokens import complete_config
from hub.tokenizers import WhisperTokenizer
from hub.weights.loading import load_into
from hub.weights.reader import open_weights
from keraslite.saving import replacing_folder

WEIGHTS = "model.bin"
_VERSIONS = (4, 5, 6)  # of the file, which state types and aliases
_TYPES = (np.float32, np.int8, np.int16, np.int32, np.float16, ml_dtypes.bfloat16)
_SPECIFICATION = "WhisperSpec"
_MAX_INITIAL_TIMESTAMP = 50  # steps of 20 ms, as its authors have it

# The parts of a file -> those of transformers, several where they are stored in one matrix. None
# is the bias of zeros; the output's weights are those of the embedding.
_ATTENTIONS = {"self_attention": "self_attn", "attention": "encoder_attn"}
_PARTS: dict[str, tuple[str, ...]] = {
    "embeddings": ("embed_tokens",),
    "position_encodings": ("embed_positions",),
    "layer_norm": ("layer_norm",),
    "projection": (),
    "conv1": ("conv1",),
    "conv2": ("conv2",),
    "ffn/layer_norm": ("final_layer_norm",),
    "ffn/linear_0": ("fc1",),
    "ffn/linear_1": ("fc2",),
    **{f"{old}/layer_norm": (f"{new}_layer_norm",) for old, new in _ATTENTIONS.items()},
    "self_attention/linear_0": tuple(f"self_attn.{letter}_proj" for letter in "qkv"),
    "self_attention/linear_1": ("self_attn.out_proj",),
    "attention/linear_0": ("encoder_attn.q_proj",),
    "attention/linear_1": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
    "attention/linear_2": ("encoder_attn.out_proj",),
}
_LEAVES = {"gamma": "weight", "beta": "bias", "encodings": "weight"}
_NAME = re.compile(r"(encoder|decoder)/(?:layer_(\d+)/)?(.+)/(\w+)")


class _Tensors(dict[str, np.ndarray]):
    """Arrays by name, as `load_into` takes them."""

    def shape(self, name: str) -> tuple[int, ...]:
        return self[name].shape

    def release(self, name: str) -> None:
        """Nothing was read on behalf of a tensor."""


def is_ctranslate2(source: PresetFiles) -> bool:
    """Return whether a folder has a model of CTranslate2.

    Args:
        source: what `hub.presets.resolve` returned.
    """
    return WEIGHTS in source


def convert_ctranslate2(
    source: PresetFiles, target: Path, tokenizer: Any = None
) -> list[tuple[str, tuple[int, ...], str]]:
    """Write a Whisper model of CTranslate2 as a checkpoint that `from_preset` and transformers
    open.

    Args:
        source: what `hub.presets.resolve` returned.
        target: a folder, made if need be; must hold no checkpoint.
        tokenizer: a preset of Whisper with as many tokens, whose tokenizer is taken; that of the
            folder by default.

    Returns:
        Name, shape and dtype of every tensor.

    Raises:
        FileExistsError: the folder holds a checkpoint.
        ValueError: the file is damaged or none of Whisper, its tensors do not fit, or there is no
            tokenizer.

    Example:
        >>> files = resolve("Systran/faster-whisper-tiny.en")  # doctest: +SKIP
        >>> convert_ctranslate2(files, Path("tiny.en"))[0]  # doctest: +SKIP
        ('model.decoder.embed_positions.weight', (448, 384), 'float16')
    """
    check_target(target)
    where = f"{WEIGHTS} of {source.location}"
    variables = read_variables(source.path(WEIGHTS), where)
    tensors = _tensors(variables)
    arguments = _arguments(variables, tensors, where)
    words = _tokenizer(source, arguments["vocabulary_size"], tokenizer)
    stated = source.json("config.json") if "config.json" in source else {}
    generation = complete_config(_generation(stated), words)
    family = family_of("whisper")
    is_half = all(x.dtype in (np.float16, np.int8, np.int16) for x in variables.values())
    is_scaled = any(name.endswith("_scale") for name in variables)
    with keras.use_backend("numpy"):
        dtype = "float16" if is_half and not is_scaled else "float32"
        model = family.backbone(**arguments, dtype=dtype)
        table = family.table(arguments).prefixed("", family.prefix)
        load_into(model, tensors, table)
        end = generation["eos_token_id"]
        model.source_config = {"bos_token_id": end, "eos_token_id": end}
        extra = {
            "decoder_start_token_id": generation["decoder_start_token_id"],
            "pad_token_id": end,
        }
        architecture = family.heads["SpeechToText"].architecture
        config = save.config_of(family, model, architecture, extra)
        with replacing_folder(target) as folder:
            save.write_preset(folder, model, table, config, words)
            write_json(folder / "generation_config.json", generation)
            if PREPROCESSOR in source:
                write_json(folder / PREPROCESSOR, source.json(PREPROCESSOR))
            else:
                WhisperAudioConverter(num_mels=arguments["num_mels"]).save(folder)
    written = open_weights(resolve(target))
    return [(name, written.shape(name), written.dtype(name)) for name in written]


def read_variables(path: Path, where: str) -> dict[str, np.ndarray]:
    """Return the variables of a Whisper model of CTranslate2; they are mapped, not read.

    Args:
        path: of the file.
        where: its name in error messages.

    Raises:
        ValueError: it is damaged, of another version, or holds another model.
    """
    data = np.memmap(path, mode="r") if path.stat().st_size else np.zeros(0, "uint8")
    at = 0

    def number(form: str) -> int:
        nonlocal at
        (value,) = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize(form)
        return value

    def text() -> str:
        nonlocal at
        size = number("H")
        at += size
        return bytes(data[at - size : at - 1]).decode()  # without the zero at its end

    try:
        version = number("I")
        if version not in _VERSIONS:
            raise ValueError(f"expected a file of version {_VERSIONS}, got {version}.")
        name = text()
        if name != _SPECIFICATION:
            raise ValueError(f"expected a {_SPECIFICATION}, got {name!r}.")
        number("I")  # the revision of the specification
        variables = {}
        for _ in range(number("I")):
            name = text()
            shape = tuple(number("I") for _ in range(number("B")))
            dtype, size = np.dtype(_TYPES[number("B")]), number("I")
            variables[name] = data[at : at + size].view(dtype).reshape(shape)
            at += size
    except (struct.error, IndexError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{where} is no Whisper model of CTranslate2: {error}") from error
    return variables


def _tensors(variables: Mapping[str, np.ndarray]) -> _Tensors:
    """Return the weights of a file under the names of transformers, in floats."""
    tensors = _Tensors()
    for name, value in variables.items():
        match = _NAME.fullmatch(name)
        if match is None or value.ndim == 0 or name.endswith("_scale"):
            continue
        side, layer, part, leaf = match.groups()
        scale = variables.get(f"{name}_scale")
        if scale is not None:  # of each row, or of the whole
            rows = scale.astype("float32").reshape(-1, *[1] * (value.ndim - 1))
            value = value.astype("float32") / rows
        names = _PARTS.get(part, (part,))
        place = f"model.{side}." + (f"layers.{layer}." if layer else "")
        for new, array in zip(names, np.split(value, len(names)) if names else (), strict=True):
            if (new[-6:], leaf) != ("k_proj", "bias"):
                tensors[f"{place}{new}.{_LEAVES.get(leaf, leaf)}"] = array
    return tensors


def _arguments(
    variables: Mapping[str, np.ndarray], tensors: _Tensors, where: str
) -> dict[str, Any]:
    """Return the arguments of the backbone, by the shapes of the tensors."""
    depths = [
        len({m[2] for m in map(_NAME.fullmatch, variables) if m and m[1] == side and m[2]})
        for side in ("encoder", "decoder")
    ]
    try:
        vocabulary_size, width = tensors.shape("model.decoder.embed_tokens.weight")
        return {
            "vocabulary_size": vocabulary_size,
            "num_layers": depths[0],
            "num_decoder_layers": depths[1],
            "num_heads": int(variables["encoder/num_heads"]),
            "hidden_dim": width,
            "intermediate_dim": tensors.shape("model.encoder.layers.0.fc1.weight")[0],
            "num_mels": tensors.shape("model.encoder.conv1.weight")[1],
            "max_encoder_sequence_length": 2
            * tensors.shape("model.encoder.embed_positions.weight")[0],
            "max_decoder_sequence_length": tensors.shape("model.decoder.embed_positions.weight")[0],
        }
    except KeyError as error:
        raise ValueError(f"{where} has no {error.args[0]}, as models of Whisper have.") from error


def _generation(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a config.json of CTranslate2 says for a generation_config.json."""
    names = {
        "alignment_heads": "alignment_heads", "suppress_ids": "suppress_tokens",
        "suppress_ids_begin": "begin_suppress_tokens",
    }  # fmt: skip
    config = {new: stated[old] for old, new in names.items() if stated.get(old)}
    return {**config, "max_initial_timestamp_index": _MAX_INITIAL_TIMESTAMP}


def _tokenizer(source: PresetFiles, vocabulary_size: int, preset: Any) -> WhisperTokenizer:
    if preset is not None:
        return read_tokenizer(preset, vocabulary_size)[0]
    if "tokenizer.json" not in source:
        raise ValueError(
            f"{source.location} has no tokenizer.json: give the preset of a checkpoint of as many "
            "tokens as tokenizer (--tokenizer), such as whisper_tiny_en."
        )
    return WhisperTokenizer.from_files(source)
