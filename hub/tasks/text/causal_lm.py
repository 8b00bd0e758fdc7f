"""CausalLM: text generation with a decoder."""

from typing import Any

import numpy as np

from hub.preprocessing.text import CausalLMPreprocessor
from hub.tasks.text.decoding_parts import DecodingExport, text_decoding_parts
from hub.tasks.text.language_model import LanguageModel


class CausalLM(DecodingExport, LanguageModel):
    """A decoder that predicts the next token.

    `fit` takes a list of texts; or a dict of two lists, `prompts` and `responses`, or a list of
    such dicts, of which only the responses are learned. `generate` continues prompts; `score` says
    how likely texts are.

    Args:
        backbone: a decoder, such as `GPT2Backbone`.
        preprocessor: what turns texts into inputs.
        sampling: how tokens are chosen: a `hub.Sampling`.

    Example:
        >>> import hub
        >>> model = hub.CausalLM.from_preset("gpt2_base_en")  # doctest: +SKIP
        >>> model.generate("Once upon a time", max_new_tokens=20)  # doctest: +SKIP

        Without a checkpoint, on ready inputs:

        >>> backbone = hub.GPT2Backbone(
        ...     9, num_layers=1, num_heads=2, hidden_dim=8, intermediate_dim=8
        ... )
        >>> model = hub.CausalLM(backbone)
        >>> model.generate({"token_ids": [[1, 2, 3]]}, max_length=5)["token_ids"].shape
        (1, 5)
    """

    task = "CausalLM"
    pipeline = "text-generation"
    transformers_class = "AutoModelForCausalLM"
    adapter_type = "CAUSAL_LM"
    default_preprocessor = CausalLMPreprocessor

    def __init__(
        self, backbone: Any, preprocessor: Any = None, sampling: Any = None, **kwargs: Any
    ):
        super().__init__(backbone, preprocessor, sampling, **kwargs)
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return logits (batch, length, vocabulary) of the next token at each position."""
        return self.backbone.logits(self.backbone(inputs, training=training))

    def get_quantization_layer_structure(self, mode: str | None = None) -> Any:
        """Return which layers of the backbone are fitted to texts by `quantize("gptq")` and "awq".

        Args:
            mode: the quantization mode.
        """
        return self.backbone.get_quantization_layer_structure(mode)

    # -- other programs -----------------------------------------------------------------------

    def decoding_parts(self) -> dict[str, Any]:
        """Return the decoder of prompts, and that of one more token."""
        return text_decoding_parts(self)

    # -- for the generator --------------------------------------------------------------------

    def init_cache(self, inputs: Any, rows: int, length: int) -> Any:
        """Return an empty cache.

        Args:
            inputs: not used.
            rows: the number of texts.
            length: the number of positions.
        """
        return self.backbone.new_cache(rows, length)

    def decode_step(self, token_ids: Any, attention_mask: Any, cache: Any, index: Any) -> tuple:
        """Return the logits of the next token, hidden states, and the new cache.

        Args:
            token_ids: (rows, new tokens).
            attention_mask: (rows, length): False where a prompt is padded.
            cache: as `init_cache` or this method returned it.
            index: the position of the first new token.
        """
        hidden, cache = self.backbone.call_with_cache(token_ids, attention_mask, cache, index)
        return self.backbone.logits(hidden[:, -1:])[:, 0], hidden, cache

    def _prompts(self, inputs: Any) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
        if isinstance(inputs, dict) and "token_ids" in inputs:
            ids = np.asarray(inputs["token_ids"], "int32")
            mask = np.asarray(inputs.get("padding_mask", np.ones_like(ids))).astype(bool)
            return [row[keep] for row, keep in zip(ids, mask, strict=True)], {}
        if self.preprocessor is None:
            raise ValueError("Without a preprocessor prompts are a dict of token_ids arrays.")
        return self.preprocessor.prompts(inputs), {}

    def _model_inputs(self, token_ids: Any, padding_mask: Any, extra: dict) -> dict[str, Any]:
        return {"token_ids": token_ids, "padding_mask": padding_mask}

    def _columns(self, x: Any, y: Any) -> tuple[Any, Any]:
        return (x if self.preprocessor is None else self.preprocessor.columns(x)), y

    def _takes(self, x: Any) -> bool:
        return super()._takes(x) or (isinstance(x, dict) and "responses" in x)
