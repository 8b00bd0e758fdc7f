"""The networks that generate text in another program: of prompts, and of one more token."""

from collections.abc import Mapping, Sequence
from typing import Any

import keraslite as keras
from hub.models.inputs import padding_mask
from hub.tasks.exporting import NetworkPart, export_task, network_parts
from keraslite import ops

PAST, PRESENT = "past_key_values", "present"  # as Optimum calls them
_TEXTS = ("token_ids", "padding_mask")
_KINDS = ("key", "value")


class DecodingExport:
    """The export of a task that generates text, on request as networks with keys and values."""

    def decoding_parts(self) -> dict[str, NetworkPart]:
        """Return the networks for generation, by name."""
        raise NotImplementedError

    def export(
        self, filepath: Any, format: str = "tf_saved_model", verbose: bool | None = None,
        with_past: bool = False, **kwargs: Any,
    ) -> None:  # fmt: skip
        """Write the network for another program, and beside it how its inputs are prepared.

        Args:
            filepath: as for `Task.export`.
            format: as for `Model.export`.
            verbose: whether a line says what was written; True by default.
            with_past: whether to write two networks for generation in the place of one for whole
                texts: `decoder` takes prompts and `decoder_with_past` one more token of each, with
                the keys and values of those before as `past_key_values.{layer}.key` and `.value`.
                Both return `logits` of the next token, and all keys and values as
                `present.{layer}.key` and `.value`. Those of a recording's text are
                `{layer}.decoder.key`, and those of the recording `{layer}.encoder.key`.
            kwargs: as for `Model.export`.

        Raises:
            ValueError: there is no such format, or the folder has the name of a file.
            NotImplementedError: the format cannot hold the network.
            OSError: it could not be written; what was there before is unchanged.
        """
        parts = self.decoding_parts() if with_past else None
        export_task(self, filepath, format, verbose, parts, **kwargs)


def symbolic_caches(num_layers: int, length: int | None, backbone: Any) -> list[dict[str, Any]]:
    """Return symbolic keys and values (batch, length, heads, width of a head), a dict a layer.

    Args:
        num_layers: the number of layers.
        length: the number of positions; None for any.
        backbone: has `num_heads`, `hidden_dim` and `compute_dtype`.
    """
    shape = (None, length, backbone.num_heads, backbone.hidden_dim // backbone.num_heads)
    return [
        {kind: keras.KerasTensor(shape, backbone.compute_dtype) for kind in _KINDS}
        for _ in range(num_layers)
    ]


def named_caches(caches: Sequence[Mapping[str, Any]], prefix: str, of: str = "") -> dict[str, Any]:
    """Return keys and values by name: `{prefix}.{layer}.{of}key`.

    Args:
        caches: a dict a layer.
        prefix: `PAST` or `PRESENT`.
        of: what stands before "key" and "value".

    >>> named_caches([{"key": 1, "value": 2}], PRESENT)
    {'present.0.key': 1, 'present.0.value': 2}
    """
    return {
        f"{prefix}.{i}.{of}{kind}": cache[kind]
        for i, cache in enumerate(caches) for kind in _KINDS
    }  # fmt: skip


def past_of(inputs: Mapping[str, Any], num_layers: int, of: str = "") -> list[dict[str, Any]]:
    """Return the past keys and values among inputs, a dict a layer.

    Args:
        inputs: by name.
        num_layers: the number of layers.
        of: as for `named_caches`.
    """
    return [{kind: inputs[f"{PAST}.{i}.{of}{kind}"] for kind in _KINDS} for i in range(num_layers)]


def mask_with(mask: Any, token_ids: Any) -> Any:
    """Return the mask of tokens, followed by that of new ones.

    Args:
        mask: of the tokens before (batch, length): 0 or False for padding.
        token_ids: the new ones (batch, 1).
    """
    return ops.concatenate([mask != 0, ops.ones_like(token_ids, "bool")], axis=1)


# -- of texts alone -------------------------------------------------------------------------------


def text_decoding_parts(task: Any) -> dict[str, NetworkPart]:
    """Return the decoder of prompts, and the one of a token after those whose keys are given.

    Args:
        task: a `CausalLM`, whose backbone has `call_with_past`.
    """
    backbone = task.backbone
    texts = {name: keras.KerasTensor((None, None), "int32") for name in _TEXTS}
    past = named_caches(symbolic_caches(backbone.num_layers, None, backbone), PAST)
    step = {**texts, "token_ids": keras.KerasTensor((None, 1), "int32"), **past}
    layers = {"backbone": backbone}
    networks = {
        "decoder": (_of_prompts, layers, texts), "decoder_with_past": (_of_a_token, layers, step),
    }  # fmt: skip
    return network_parts(task, networks)


def _of_prompts(parts: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs for prompts, which are padded on the left."""
    backbone = parts["backbone"]
    return _outputs(backbone, *backbone.call_with_past(inputs["token_ids"], padding_mask(inputs)))


def _of_a_token(parts: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs for one token a row; the mask is that of the tokens before."""
    backbone, ids = parts["backbone"], inputs["token_ids"]
    past = past_of(inputs, backbone.num_layers)
    mask = mask_with(inputs["padding_mask"], ids)
    return _outputs(backbone, *backbone.call_with_past(ids, mask, past))


def _outputs(backbone: Any, hidden: Any, present: list[dict[str, Any]]) -> dict[str, Any]:
    return {"logits": backbone.logits(hidden[:, -1:])[:, 0], **named_caches(present, PRESENT)}
