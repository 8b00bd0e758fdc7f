"""The encoder and the decoder of a task that writes what is said, as networks of their own."""

from collections.abc import Mapping
from typing import Any

import keraslite as keras
from hub.models.inputs import padding_mask
from hub.tasks.compiled import CompiledParts
from hub.tasks.exporting import network_parts
from hub.tasks.text.decoding_parts import (
    PAST,
    PRESENT,
    DecodingExport,
    mask_with,
    named_caches,
    past_of,
    symbolic_caches,
)

_TEXTS = ("decoder_token_ids", "decoder_padding_mask")


class SpeechParts(DecodingExport):
    """The encoder and the decoder of a task as networks of their own, for other programs.

    Attributes:
        answers_compiled: as for `Task`.
    """

    answers_compiled = True

    def export_parts(self) -> dict[str, Any]:
        """Return the encoder, and the decoder of whole texts."""
        backbone = self.backbone
        inputs = backbone.export_inputs()[0]
        features = {"encoder_features": inputs.pop("encoder_features")}
        source = keras.KerasTensor((None, None, backbone.hidden_dim), self.compute_dtype)
        layers = {"embedding": backbone.token_embedding, "decoder": backbone.decoder}
        networks = {
            "encoder": (_encode, {"encoder": backbone.encoder}, features),
            "decoder": (_decode, layers, {**inputs, "encoder_sequence_output": source}),
        }
        return network_parts(self, networks)

    def decoding_parts(self) -> dict[str, Any]:
        """Return the encoder, the decoder of prompts, and that of one more token."""
        backbone = self.backbone
        # Of a whole window: shorter recordings are padded.
        frames, num_layers = backbone.max_encoder_sequence_length, len(backbone.decoder.blocks)
        features, length = keras.KerasTensor((None, frames, backbone.num_mels)), frames // 2
        source = keras.KerasTensor((None, length, backbone.hidden_dim), self.compute_dtype)
        texts = {name: keras.KerasTensor((None, None), "int32") for name in _TEXTS}
        past = {
            **named_caches(symbolic_caches(num_layers, None, backbone), PAST, "decoder."),
            **named_caches(symbolic_caches(num_layers, length, backbone), PAST, "encoder."),
        }
        token = keras.KerasTensor((None, 1), "int32")
        layers = {"embedding": backbone.token_embedding, "decoder": backbone.decoder}
        prompts = {**texts, "encoder_sequence_output": source}
        step = {**texts, "decoder_token_ids": token, **past}
        networks = {
            "encoder": (_encode, {"encoder": backbone.encoder}, {"encoder_features": features}),
            "decoder": (_of_prompts, layers, prompts),
            "decoder_with_past": (_of_a_token, layers, step),
        }
        return network_parts(self, networks)

    def export_answers(self) -> dict[str, Any]:
        """Return the special tokens, and those that never come."""
        return {"generation_config": self.generation_config}

    def compiled_for(self, engine: str, precision: str = "float32", **kwargs: Any) -> Any:
        """Return a predictor with encoder and decoder on another engine, on the CPU.

        In its scope `transcribe` runs the encoder there, and the steps of the decoder, which have
        a cache, where the task lives.

        Args:
            engine: as for `Model.compiled_for`.
            precision: as for `Model.compiled_for`.
            kwargs: nothing: `input_signature` must be None.
        """
        return CompiledParts(self, engine, precision, _logits, **kwargs)


def _logits(compiled: CompiledParts, inputs: Mapping[str, Any]) -> Any:
    """Return the logits of recordings with their texts, of ready inputs."""
    inputs = dict(inputs)
    source = compiled.run("encoder", {"encoder_features": inputs.pop("encoder_features")})
    return compiled.run("decoder", {**inputs, **source})["logits"]


def _encode(parts: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {"encoder_sequence_output": parts["encoder"](inputs["encoder_features"])}


def _decode(parts: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the logits of the next token at each position."""
    ids, mask = inputs["decoder_token_ids"], padding_mask(inputs, "decoder_token_ids")
    hidden = parts["decoder"](parts["embedding"](ids), mask, inputs["encoder_sequence_output"])
    return {"logits": parts["embedding"](hidden, reverse=True)}


def _of_prompts(parts: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs for prompts, which are padded on the left, and the recordings' keys."""
    source = inputs["encoder_sequence_output"]
    keys = [block.cross_attention.project(source) for block in parts["decoder"].blocks]
    mask = padding_mask(inputs, "decoder_token_ids")
    outputs = _next_token(parts, inputs["decoder_token_ids"], mask, keys)
    return {**outputs, **named_caches(keys, PRESENT, "encoder.")}


def _of_a_token(parts: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs for one token a row; the mask is that of the tokens before."""
    ids, num_layers = inputs["decoder_token_ids"], len(parts["decoder"].blocks)
    keys, past = (past_of(inputs, num_layers, of) for of in ("encoder.", "decoder."))
    mask = mask_with(inputs["decoder_padding_mask"], ids)
    return _next_token(parts, ids, mask, keys, past)


def _next_token(
    parts: Mapping[str, Any], ids: Any, mask: Any, keys: list[Any], past: list[Any] | None = None
) -> dict[str, Any]:
    embedding = parts["embedding"]
    hidden, present = parts["decoder"].decode_with_past(embedding(ids), mask, keys, past)
    logits = embedding(hidden[:, -1:], reverse=True)[:, 0]
    return {"logits": logits, **named_caches(present, PRESENT, "decoder.")}
