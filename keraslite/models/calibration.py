"""Weights that are fitted to data, block after block of a model: GPTQ and AWQ."""

import math
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import ops
from keraslite.layers.base.modes import MODES, observed
from keraslite.layers.base.quantized import Quantized


def structure_of(model: Any, config: Any) -> dict[str, Any]:
    """Return which layers of a model run one after the other, checked.

    Args:
        model: the model, asked where the config does not say it.
        config: a `GPTQConfig` or `AWQConfig`.
    """
    structure = config.quantization_layer_structure
    if structure is None:
        structure = model.get_quantization_layer_structure(config.mode)
    if structure is None:
        raise ValueError(
            f"For mode={config.mode!r}, a valid quantization structure must be provided either via "
            "`config.quantization_layer_structure` or by overriding "
            "`model.get_quantization_layer_structure(mode)`: a dictionary with keys "
            "'pre_block_layers' and 'sequential_blocks'."
        )
    if not structure.get("sequential_blocks"):
        raise ValueError("No sequential blocks found in the provided structure to quantize.")
    return structure


def layers_of(block: Any) -> list[Quantized]:
    """Return the layers of a block that may be fitted to data, each once."""
    return [layer for layer in block.flatten_layers() if isinstance(layer, Quantized)]


def calibrate(structure: dict[str, Any], config: Any, layers: list[Any]) -> None:
    """Fit the weights of layers to the inputs that texts bring about.

    Each block is fitted to what the blocks before it give with their new weights.

    Args:
        structure: "pre_block_layers" and "sequential_blocks"; perhaps "block_arguments", which the
            blocks are called with besides.
        config: a `GPTQConfig` or `AWQConfig`.
        layers: those that are in its mode, and have no data yet.
    """
    waiting, mode = {id(layer) for layer in layers}, MODES[config.mode]
    more = structure.get("block_arguments", {})
    with backends.no_grad():
        inputs = [_through(structure, x) for x in token_windows(config)]
        for block in structure["sequential_blocks"]:
            here = [layer for layer in layers_of(block) if id(layer) in waiting]
            statistics = {layer: mode.new_statistic() for layer in here}
            if here:
                with observed(statistics):
                    for x in inputs:
                        block(x, **more)
            for layer, statistic in statistics.items():
                if not statistic.seen:
                    raise ValueError(
                        f"Layer {layer.name!r} was not called by the block {block.name!r}: leave "
                        "it out by `filters`."
                    )
                layer.calibrate(statistic)
                waiting.discard(id(layer))
            inputs = [_first(block(x, **more)) for x in inputs]


def _through(structure: dict[str, Any], x: Any) -> Any:
    """Return the outputs of the layers before the blocks for token ids."""
    x = ops.convert_to_tensor(x)
    for layer in structure.get("pre_block_layers", ()):
        x = layer(x)
    return x


def _first(outputs: Any) -> Any:
    return outputs[0] if isinstance(outputs, list | tuple) else outputs


def token_windows(config: Any) -> np.ndarray:
    """Return pieces of the tokens of texts, at equal distances; short texts are repeated.

    Args:
        config: its dataset of texts or token ids, tokenizer, number and length of the pieces.

    Returns:
        int32 (num_samples, 1, sequence_length).

    >>> config = quantizers.GPTQConfig([[1, 2, 3, 4]], None, num_samples=2, sequence_length=3)
    >>> token_windows(config).tolist()
    [[[1, 2, 3]], [[4, 1, 2]]]
    """
    dataset, tokenizer = config.dataset, config.tokenizer
    if dataset is None:
        raise ValueError(f"{type(config).__name__} needs a dataset: texts, or arrays of token ids.")
    if not hasattr(dataset, "__iter__") or isinstance(dataset, str | bytes):
        raise TypeError(
            "The `dataset` argument must be an iterable, such as a list of texts or an array. Got "
            f"type: {type(dataset).__name__}."
        )
    pieces = [_token_ids(item, tokenizer) for item in dataset]
    if not sum(piece.size for piece in pieces):
        raise ValueError("Provided dataset is empty.")
    tokens, length = np.concatenate(pieces), config.sequence_length
    tokens = np.tile(tokens, max(1, math.ceil(config.num_samples * length / tokens.size)))
    places = tokens.size - length + 1
    starts = np.arange(config.num_samples) * max(1, places // config.num_samples) % places
    windows = np.lib.stride_tricks.sliding_window_view(tokens, length)
    return windows[starts][:, None]


def _token_ids(item: Any, tokenizer: Any) -> np.ndarray:
    if isinstance(item, str):
        if tokenizer is None:
            raise ValueError("A dataset of texts needs a tokenizer.")
        item = tokenizer(item) if callable(tokenizer) else tokenizer.tokenize(item)
        item = item["token_ids"] if isinstance(item, dict) else item
    return backends.to_numpy(item).reshape(-1).astype("int32")
