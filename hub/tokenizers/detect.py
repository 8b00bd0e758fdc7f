"""Detection of the tokenizer class that the files of a checkpoint are for."""

from hub.families import family_of, model_types
from hub.presets import PresetFiles

# The files of tokenizers that have no tokenizer.json, and the classes that read them.
_FILES = (
    (("vocab.txt",), "WordPieceTokenizer"),
    (("vocab.json", "merges.txt"), "BytePairTokenizer"),
)


def tokenizer_class(files: PresetFiles) -> str:
    """Return the name of the tokenizer class of a checkpoint.

    Args:
        files: what `hub.presets.resolve` returned.

    Raises:
        FileNotFoundError: the checkpoint has no tokenizer.
        ValueError: its tokenizer.json has a model that no class reads.
    """
    config = files.json("config.json") if "config.json" in files else {}
    family = (files.row or {}).get("family") or config.get("model_type")
    if family in model_types() and family_of(family).tokenizer is not None:
        return family_of(family).tokenizer
    name = "tokenizer_config.json"
    theirs = str(files.json(name).get("tokenizer_class")) if name in files else ""
    if theirs.startswith("CLIPTokenizer"):
        return "CLIPTokenizer"
    if "tokenizer.json" in files:
        return _class_of(files)
    if any(name.endswith(".model") for name in files.names):
        return "UnigramTokenizer"
    for names, result in _FILES:
        if all(name in files for name in names):
            return result
    raise FileNotFoundError(f"{files.location} has no tokenizer; {files.listing()}")


def _class_of(files: PresetFiles) -> str:
    """Return the name of the class for a tokenizer.json."""
    model = files.json("tokenizer.json").get("model") or {}
    if model.get("type") == "BPE" and model.get("end_of_word_suffix") == "</w>":
        return "CLIPTokenizer"
    has_spaces = "\u2581" in model.get("vocab", ())  # SentencePiece's; others have bytes
    names = {
        "WordPiece": "WordPieceTokenizer",
        "Unigram": "UnigramTokenizer",
        "BPE": "UnigramTokenizer" if has_spaces else "BytePairTokenizer",
    }
    if model.get("type") not in names:
        raise ValueError(
            f"tokenizer.json of {files.location} must have one of the models {sorted(names)}, got "
            f"{model.get('type')!r}"
        )
    return names[model["type"]]
