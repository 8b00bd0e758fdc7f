"""Convert a `.pt` file of Whisper by its authors, such as `tiny.en.pt`, to a checkpoint of
transformers.

Such a file has the sizes and the weights, mostly in float16; the tokenizer is a part of their
package, so that it is taken from a checkpoint in the other layout.
"""

import json
from pathlib import Path
from typing import Any

import keraslite as keras
from hub.convert.safetensors import check_target
from hub.families import family_of
from hub.files import write_json
from hub.models.whisper import weight_rows
from hub.presets import save
from hub.presets.build import read_config
from hub.presets.files import PresetFiles, resolve
from hub.tokenizers import WhisperTokenizer
from hub.weights.loading import load_into
from hub.weights.reader import Weights, open_file, open_weights
from hub.weights.tables import WeightTable
from keraslite.saving import replacing_folder

_ENGLISH = 51864  # the number of tokens without those of other languages
_ENDS = ("bos_token_id", "eos_token_id", "pad_token_id")
_KEPT = ("generation_config.json", "preprocessor_config.json")
# Our arguments -> the authors' names of them.
_DIMS = {
    "vocabulary_size": "n_vocab", "num_layers": "n_audio_layer", "num_heads": "n_audio_head",
    "hidden_dim": "n_audio_state", "num_mels": "n_mels", "num_decoder_layers": "n_text_layer",
    "max_decoder_sequence_length": "n_text_ctx",
}  # fmt: skip


_NAMES = {
    "token_embedding": "token_embedding", "decoder_positions": "positional_embedding",
    "encoder_positions": "positional_embedding", "encoder_norm": "ln_post", "decoder_norm": "ln",
    "blocks": "blocks", "attention": "attn", "cross_attention": "cross_attn",
    "attention_norm": "_ln", "query": "query", "key": "key", "value": "value",
    "output_dense": "out", "intermediate": "mlp.0", "output": "mlp.2", "output_norm": "mlp_ln",
}  # fmt: skip


TABLE = WeightTable(weight_rows(_NAMES), ignore=(r"decoder\.mask",))


def convert_openai_whisper(
    source: PresetFiles, name: str, target: Path, tokenizer: Any = None
) -> list[tuple[str, tuple[int, ...], str]]:
    """Write a `.pt` file of Whisper as a checkpoint that `from_preset` and transformers open.

    Args:
        source: the files of its folder, as `hub.presets.files.resolve_file` returns them.
        name: of the file.
        target: a folder, made if need be; must hold no checkpoint.
        tokenizer: a preset of Whisper with as many tokens, such as "whisper_tiny_en", whose
            tokenizer and settings of generation and audio are written too; by default none are.

    Returns:
        Name, shape and dtype of every tensor.

    Raises:
        FileExistsError: the folder holds a checkpoint.
        ValueError: the file is damaged or none of Whisper, its tensors do not fit, or the tokenizer
            is another one.

    Example:
        >>> from hub.presets.files import resolve_file
        >>> source, name = resolve_file("tiny.en.pt")  # doctest: +SKIP
        >>> convert_openai_whisper(source, name, Path("tiny.en"))[0]  # doctest: +SKIP
        ('model.decoder.embed_positions.weight', (448, 384), 'float16')
    """
    check_target(target)
    weights = open_file(source, name)
    where = f"{name} of {source.location}"
    arguments = _arguments(weights, where)
    family = family_of("whisper")
    kept = None if tokenizer is None else read_tokenizer(tokenizer, arguments["vocabulary_size"])
    dtypes = {weights.dtype(tensor) for tensor in weights}
    with keras.use_backend("numpy"):
        dtype = "float16" if dtypes == {"float16"} else "float32"
        model = family.backbone(**arguments, dtype=dtype)
        load_into(model, weights, TABLE)
        model.source_config = _token_ids(arguments["vocabulary_size"])
        architecture = family.heads["SpeechToText"].architecture
        config = save.config_of(family, model, architecture, {})
        table = family.table(arguments).prefixed("", family.prefix)
        with replacing_folder(target) as folder:
            save.write_preset(folder, model, table, config, kept and kept[0])
            for file, content in (kept[1] if kept else {}).items():
                write_json(folder / file, content)
    written = open_weights(resolve(target))
    return [(tensor, written.shape(tensor), written.dtype(tensor)) for tensor in written]


def _arguments(weights: Weights, where: str) -> dict[str, Any]:
    """Return our arguments out of the sizes that the file states."""
    dims = json.loads(weights.files[0].metadata.get("dims", "{}"))
    missing = sorted({*_DIMS.values(), "n_audio_ctx"} - dims.keys())
    if missing or "decoder.token_embedding.weight" not in weights:
        raise ValueError(
            f"{where} is no file of Whisper by its authors: expected their names of weights and, "
            f"beside them, 'dims' with {missing or sorted(dims)}."
        )
    equal = all(dims[f"n_audio_{k}"] == dims.get(f"n_text_{k}") for k in ("state", "head"))
    depth = max(dims["n_audio_layer"], dims["n_text_layer"])
    if not equal or min(dims.values()) < 1 or depth > len(weights):
        raise ValueError(
            f"The sizes in {where} must be those of its {len(weights)} weights, of both stacks of "
            f"one width, got {dims}."
        )
    arguments = {ours: dims[theirs] for ours, theirs in _DIMS.items()}
    arguments["intermediate_dim"] = 4 * arguments["hidden_dim"]
    arguments["max_encoder_sequence_length"] = 2 * dims["n_audio_ctx"]
    return arguments


def _token_ids(vocabulary_size: int) -> dict[str, int | None]:
    """Return the ids of tokens that a config.json states; None in vocabularies of other sizes."""
    if vocabulary_size < _ENGLISH:
        return dict.fromkeys(_ENDS)
    end = 50256 if vocabulary_size == _ENGLISH else 50257
    return {**dict.fromkeys(_ENDS, end), "decoder_start_token_id": end + 1}


def read_tokenizer(preset: Any, vocabulary_size: int) -> tuple[WhisperTokenizer, dict[str, Any]]:
    """Return the tokenizer of a preset, and the settings beside it by the names of their files.

    Args:
        preset: as for `from_preset`.
        vocabulary_size: the number of tokens that it must have.

    Raises:
        ValueError: it has another number of tokens.
    """
    files = resolve(preset)
    stated = read_config(files).get("vocab_size")
    tokenizer = WhisperTokenizer.from_files(files)
    if stated != vocabulary_size:
        raise ValueError(
            f"The tokenizer must be of {vocabulary_size} tokens, got one of {stated}: that of "
            f"{files.location}."
        )
    return tokenizer, {name: files.json(name) for name in _KEPT if name in files}
