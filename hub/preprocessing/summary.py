"""The table of a preprocessor in `summary()`, as KerasHub prints it."""

from collections.abc import Iterable
from typing import Any

import keraslite as keras
from keraslite.naming import to_snake_case


def preprocessor_table(name: str, parts: Iterable[Any], line_length: int) -> str:
    """Return the table of a preprocessor, with its title.

    Args:
        name: of the preprocessor.
        parts: tokenizers, preprocessors of images, converters of audio.
        line_length: the width in characters.

    >>> from hub.preprocessing.image import ImagePreprocessor
    >>> print(preprocessor_table("images", [ImagePreprocessor("ViT", size=8)], 64))
    Preprocessor: "images"
    ┏━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━━━━━━━┓
    ┃ Layer (type)                       ┃                  Config ┃
    ┡━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━━━━━━━┩
    │ image_preprocessor                 │      Image size: (8, 8) │
    │ (ImagePreprocessor)                │                         │
    └────────────────────────────────────┴─────────────────────────┘
    """
    rows = []
    for part in parts:
        title = f"{to_snake_case(type(part).__name__)} ({type(part).__name__})"
        if hasattr(part, "vocabulary_size"):
            rows.append([title, f"Vocab size: {part.vocabulary_size():,}"])
        elif hasattr(part, "num_mels"):
            rows.append([title, f"Mels: {part.num_mels}, {part.max_audio_length} s"])
        else:
            rows.append([title, f"Image size: {part.image_size}"])
    heads = ["Layer (type)", "Config"]
    table = keras.utils.text_table(heads, rows, [0.6, 0.4], "lr", line_length)
    return f'Preprocessor: "{name}"\n{table}'


def parts_of(preprocessor: Any) -> list[Any]:
    """Return the tokenizer and the converters of images and audio of a preprocessor, if any.

    Args:
        preprocessor: of a task.
    """
    parts = (getattr(preprocessor, name, None) for name in ("tokenizer", "images", "audio"))
    return [part for part in parts if part is not None]
