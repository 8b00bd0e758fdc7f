"""The encoder and the decoder of a task that writes what is said, as networks of their own."""

from collections.abc import Mapping
from typing import Any

import keraslite as keras
from hub.models.inputs import padding_mask
from hub.tasks.compiled import CompiledParts
from hub.tasks.exporting import NetworkPart


class SpeechParts:
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
        policy = self.dtype_policy
        with keras.use_backend(self.backend):
            return {
                "encoder": NetworkPart(
                    _encode, {"encoder": backbone.encoder}, features, name="encoder", dtype=policy
                ),
                "decoder": NetworkPart(
                    _decode, layers, {**inputs, "encoder_sequence_output": source}, name="decoder",
                    dtype=policy,
                ),
            }  # fmt: skip

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
            kwargs: nothing: `calibration` and `input_signature` must be None.
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
