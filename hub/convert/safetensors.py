"""Converting a checkpoint to safetensors, with its other files beside them."""

import shutil
from pathlib import Path

from hub.files import write_json
from hub.presets.build import read_config
from hub.presets.files import PresetFiles
from hub.weights.reader import open_weights
from keraslite.saving import finish_replacing, replacing_folder, save_safetensors

# What is read of a checkpoint beside its weights.
KEPT = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt",
    "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model",
    "generation_config.json", "modules.json", "1_Pooling/config.json",
    "sentence_bert_config.json", "preprocessor_config.json", "processor_config.json",
    "config.json",
)  # fmt: skip


def convert(source: PresetFiles, target: Path) -> list[tuple[str, tuple[int, ...], str]]:
    """Write the weights of a checkpoint as safetensors, with its other files beside them.

    Args:
        source: what `hub.presets.resolve` returned; weights in any format that is read.
        target: a folder, made if need be; must hold no checkpoint.

    Returns:
        Name, shape and dtype of every tensor.

    Raises:
        FileExistsError: the folder holds a checkpoint.
        ValueError: a file is damaged.

    Example:
        >>> convert(resolve("minilm_l6_en"), Path("minilm"))[0]  # doctest: +SKIP
        ('embeddings.LayerNorm.bias', (384,), 'float32')
    """
    check_target(target)
    config = read_config(source)
    weights = open_weights(source)
    others = source.paths(name for name in KEPT if name in source)
    with replacing_folder(target) as folder:
        save_safetensors(folder / "model.safetensors", weights, {"format": "pt"})
        for name, path in others.items():
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(path, folder / name)
        if "config.json" not in others:  # a built-in row stood in for it
            write_json(folder / "config.json", config)
    return [(name, weights.shape(name), weights.dtype(name)) for name in weights]


def check_target(target: Path) -> None:
    """Raise FileExistsError if a folder to be written holds a checkpoint.

    Args:
        target: the folder.
    """
    finish_replacing(target)
    if any((target / name).exists() for name in ("config.json", "model.safetensors")):
        raise FileExistsError(f"{target} holds a checkpoint; give another folder")
