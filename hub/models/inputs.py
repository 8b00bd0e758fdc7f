"""Inputs of text models: the names that transformers gives them, and ids within the vocabulary."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from hub.preprocessing.text import is_text
from keraslite import ops

# transformers' names -> ours, of models with one sequence and of those with two.
ONE_SEQUENCE = {
    "input_ids": "token_ids", "attention_mask": "padding_mask", "token_type_ids": "segment_ids",
}  # fmt: skip
TWO_SEQUENCES = {
    "input_ids": "encoder_token_ids", "attention_mask": "encoder_padding_mask",
    "decoder_input_ids": "decoder_token_ids", "decoder_attention_mask": "decoder_padding_mask",
}  # fmt: skip


def named_inputs(inputs: Any, names: Mapping[str, str]) -> Any:
    """Return inputs under our names; those that transformers' tokenizers return have others.

    Args:
        inputs: a dict of arrays, lists or tensors; other inputs are returned as they are.
        names: transformers' names -> ours.

    Returns:
        The dict, with arrays in place of lists.

    >>> named_inputs({"input_ids": 1, "segment_ids": 2}, ONE_SEQUENCE)
    {'token_ids': 1, 'segment_ids': 2}
    """
    if not isinstance(inputs, Mapping):
        return inputs
    return {
        names.get(name, name): np.asarray(value) if isinstance(value, list) else value
        for name, value in inputs.items()
    }


def check_no_text(model: Any, inputs: Any) -> None:
    """Raise TypeError if a model is called on texts instead of arrays.

    Args:
        model: the model.
        inputs: its inputs.
    """
    if is_text(inputs):
        raise TypeError(
            f"{type(model).__name__} must be called on arrays, got texts or paths: give them to "
            "`predict`, or turn them into arrays with the preprocessor of the task."
        )


def check_not_none(inputs: Any) -> None:
    """Raise ValueError if there are no inputs, or a text among them is missing.

    Args:
        inputs: texts, or other inputs.
    """
    rows = list(inputs) if isinstance(inputs, list | tuple) else []
    if inputs is None or any(value is None for value in rows):
        row = "" if inputs is None else f" in row {[v is None for v in rows].index(True)}"
        raise ValueError(f"The input must be texts or ready inputs, got None{row}.")


def check_ids(inputs: Any, vocabulary_size: int | None, num_segments: int = 0) -> None:
    """Raise ValueError if a token or segment id has no row in its embedding.

    Only arrays of the host are looked at, before they are moved: a check of tensors would wait for
    the device, and frameworks differ in what they do with such an id.

    Args:
        inputs: a dict of arrays; other inputs are not looked at.
        vocabulary_size: the number of token embeddings; None if there are none.
        num_segments: the number of segment embeddings; 0 if there are none.

    Raises:
        ValueError: an id is out of range; names it, its place and the size.
    """
    if not isinstance(inputs, Mapping):
        return
    for name, ids in inputs.items():
        if not isinstance(ids, np.ndarray) or ids.dtype.kind not in "iu" or not ids.size:
            continue
        size = vocabulary_size if name.endswith("token_ids") else None
        if name == "segment_ids" and num_segments > 1:  # a single one is added to every token
            size = num_segments
        if size and (ids.min() < 0 or ids.max() >= size):
            place = tuple(int(i) for i in np.argwhere((ids < 0) | (ids >= size))[0])
            raise ValueError(
                f"{name} must be from 0 to {size - 1}, since the model has {size} embeddings for "
                f"them; got {int(ids[place])} at {list(place)}. Were the ids made by the tokenizer "
                "of this checkpoint?"
            )


def padding_mask(inputs: Mapping[str, Any], ids: str = "token_ids") -> Any:
    """Return the padding mask of inputs as booleans (batch, length); all True if they have none.

    Args:
        inputs: a dict of tensors.
        ids: the name of the token ids that the mask is for.
    """
    mask = inputs.get(ids.replace("token_ids", "padding_mask"))
    return ops.ones_like(inputs[ids], "bool") if mask is None else ops.cast(mask, "bool")
