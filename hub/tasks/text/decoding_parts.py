"""The networks that generate text in another program: of prompts, and of one more token."""

from collections.abc import Mapping
from typing import Any

import keraslite as keras
from hub.models.inputs import padding_mask
from hub.tasks.exporting import NetworkPart
from keraslite import ops

_TEXTS = ("token_ids", "padding_mask")
_KINDS = ("key", "value")


def decoding_parts(task: Any) -> dict[str, NetworkPart]:
    """Return the decoder of prompts, and the one of a token after those whose keys are given.

    Args:
        task: a `CausalLM`, whose backbone has `call_with_past`.
    """
    backbone = task.backbone
    texts = {name: keras.KerasTensor((None, None), "int32") for name in _TEXTS}
    shape = (None, None, backbone.num_heads, backbone.hidden_dim // backbone.num_heads)
    past = {
        name: keras.KerasTensor(shape, task.compute_dtype)
        for name in _names("past_key_values", backbone.num_layers)
    }
    step = {**texts, "token_ids": keras.KerasTensor((None, 1), "int32"), **past}
    with keras.use_backend(task.backend):
        return {
            name: NetworkPart(
                function, {"backbone": backbone}, inputs, name=name, dtype=task.dtype_policy
            )
            for name, function, inputs in (
                ("decoder", _of_prompts, texts), ("decoder_with_past", _of_a_token, step),
            )
        }  # fmt: skip


def _names(prefix: str, num_layers: int) -> list[str]:
    """Return the names of keys and values, as Optimum calls them."""
    return [f"{prefix}.{i}.{kind}" for i in range(num_layers) for kind in _KINDS]


def _of_prompts(parts: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs for prompts, which are padded on the left."""
    backbone = parts["backbone"]
    return _outputs(backbone, *backbone.call_with_past(inputs["token_ids"], padding_mask(inputs)))


def _of_a_token(parts: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs for one token a row; the mask is that of the tokens before."""
    backbone, ids = parts["backbone"], inputs["token_ids"]
    mask = ops.concatenate([inputs["padding_mask"] != 0, ops.ones_like(ids, "bool")], axis=1)
    values = [inputs[name] for name in _names("past_key_values", backbone.num_layers)]
    past = [dict(zip(_KINDS, values[i : i + 2], strict=True)) for i in range(0, len(values), 2)]
    return _outputs(backbone, *backbone.call_with_past(ids, mask, past))


def _outputs(backbone: Any, hidden: Any, present: list[dict[str, Any]]) -> dict[str, Any]:
    values = [layer[kind] for layer in present for kind in _KINDS]
    names = _names("present", backbone.num_layers)
    return {
        "logits": backbone.logits(hidden[:, -1:])[:, 0],
        **dict(zip(names, values, strict=True)),
    }
