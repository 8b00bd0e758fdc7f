"""Seq2SeqLM: text generation with an encoder and a decoder."""

from typing import Any

import numpy as np

from hub.preprocessing.text import Seq2SeqLMPreprocessor
from hub.tasks.text.language_model import LanguageModel
from keraslite import layers, ops


class Seq2SeqLM(LanguageModel):
    """An encoder that reads a text and a decoder that writes the answer.

    `fit` takes texts, with the answers as `y`; or a dict of two lists, `encoder_text` and
    `decoder_text` (or `prompts` and `responses`). `generate` answers texts; `score` says how likely
    answers are.

    Args:
        backbone: an encoder with a decoder, such as `T5Backbone`.
        preprocessor: what turns texts into inputs.
        sampling: how tokens are chosen: a `hub.Sampling`.
        tied: whether the head is the token embedding, transposed, over scaled hidden states.
        start_token_id: what the decoder begins with.

    Example:
        >>> import hub
        >>> model = hub.Seq2SeqLM.from_preset("t5_small_multi")  # doctest: +SKIP
        >>> model.generate("translate English to German: Good morning.")  # doctest: +SKIP

        Without a checkpoint, on ready inputs:

        >>> model = hub.Seq2SeqLM(hub.T5Backbone(9, 1, 2, hidden_dim=8, intermediate_dim=8))
        >>> out = model.generate({"encoder_token_ids": [[1, 2, 3]]}, max_new_tokens=4)
        >>> out["token_ids"].shape
        (1, 5)
    """

    task = "Seq2SeqLM"
    pipeline = "text2text-generation"
    transformers_class = "AutoModelForSeq2SeqLM"
    adapter_type = "SEQ_2_SEQ_LM"
    default_preprocessor = Seq2SeqLMPreprocessor

    def __init__(
        self,
        backbone: Any,
        preprocessor: Any = None,
        sampling: Any = None,
        tied: bool = True,
        start_token_id: int = 0,
        **kwargs: Any,
    ):
        super().__init__(backbone, preprocessor, sampling, **kwargs)
        self.tied, self.start_token_id = tied, start_token_id
        self.head = None
        if not tied:
            self.head = layers.Dense(
                backbone.vocabulary_size, use_bias=False, dtype=self.dtype_policy, name="lm_head"
            )
            self.head.build((None, None, backbone.hidden_dim))
        self.built = True

    @classmethod
    def checkpoint_arguments(cls, files: Any, config: dict) -> dict[str, Any]:
        start = config.get("decoder_start_token_id")
        apart = False in (config.get("tie_word_embeddings"), config.get("scale_decoder_outputs"))
        return {
            **super().checkpoint_arguments(files, config),
            "tied": not apart,
            "start_token_id": config.get("pad_token_id", 0) if start is None else start,
        }

    @classmethod
    def make_preprocessor(cls, files: Any, family: Any, backbone: Any, **options: Any) -> Any:
        """Return the preprocessor, which begins answers as the decoder does.

        Args:
            files: of the checkpoint.
            family: of the backbone.
            backbone: the backbone.
            options: as for `TextTask`.
        """
        preprocessor = super().make_preprocessor(files, family, backbone, **options)
        config = getattr(backbone, "source_config", {})
        start = config.get("decoder_start_token_id")
        preprocessor.start_token_id = config.get("pad_token_id", 0) if start is None else start
        return preprocessor

    def _logits(self, hidden: Any) -> Any:
        if self.head is not None:
            return self.head(hidden)
        scaled = hidden * self.backbone.hidden_dim**-0.5
        return self.backbone.token_embedding(scaled, reverse=True)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return logits (batch, length, vocabulary) of the decoder's next tokens."""
        outputs = self.backbone(inputs, training=training)
        return self._logits(outputs["decoder_sequence_output"])

    # -- for the generator --------------------------------------------------------------------

    def init_cache(self, inputs: Any, rows: int, length: int) -> Any:
        """Return a cache with the encoder's output.

        Args:
            inputs: `token_ids` and `padding_mask` of the encoder.
            rows: the number of texts.
            length: the number of positions.
        """
        mask = ops.cast(inputs["padding_mask"], "bool")
        source = self.backbone.encode(inputs["token_ids"], mask)
        return self.backbone.new_cache(source, mask, length)

    def decode_step(self, token_ids: Any, attention_mask: Any, cache: Any, index: Any) -> tuple:
        """Return the logits of the next token, hidden states, and the new cache.

        Args:
            token_ids: (rows, new tokens).
            attention_mask: (rows, length): False where a prompt is padded.
            cache: as `init_cache` or this method returned it.
            index: the position of the first new token.
        """
        hidden, cache = self.backbone.call_with_cache(token_ids, attention_mask, cache, index)
        return self._logits(hidden[:, -1:])[:, 0], hidden, cache

    def _prompts(self, inputs: Any) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
        if isinstance(inputs, dict) and "encoder_token_ids" in inputs:
            ids = np.asarray(inputs["encoder_token_ids"], "int32")
            mask = np.asarray(inputs.get("encoder_padding_mask", np.ones_like(ids))).astype(bool)
            encoder = {"token_ids": ids, "padding_mask": mask}
        elif self.preprocessor is None:
            raise ValueError(
                "Without a preprocessor inputs are a dict of encoder_token_ids arrays."
            )
        else:
            encoder = self.preprocessor.encoder_inputs(inputs)
        start = np.array([self.start_token_id], "int32")
        return [start] * len(encoder["token_ids"]), encoder

    def _model_inputs(self, token_ids: Any, padding_mask: Any, extra: dict) -> dict[str, Any]:
        return {
            "encoder_token_ids": extra["token_ids"], "encoder_padding_mask": extra["padding_mask"],
            "decoder_token_ids": token_ids, "decoder_padding_mask": padding_mask,
        }  # fmt: skip

    def _positions(self) -> int | None:
        return None

    def _text(
        self, prompt: np.ndarray, new: np.ndarray, stops: list[str], strip_prompt: bool
    ) -> str:
        return super()._text(prompt, new, stops, True)

    # -- training -----------------------------------------------------------------------------

    def _columns(self, x: Any, y: Any) -> tuple[Any, Any]:
        return (x, y) if self.preprocessor is None else self.preprocessor.columns(x, y)

    def _takes(self, x: Any) -> bool:
        return isinstance(x, dict) and "encoder_text" in x

    def config_json(self) -> dict[str, Any]:
        return {
            **super().config_json(),
            "tie_word_embeddings": self.tied,
            "scale_decoder_outputs": self.tied,
            "decoder_start_token_id": self.start_token_id,
        }

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the task."""
        return {
            **super().get_config(), "tied": self.tied, "start_token_id": self.start_token_id,
        }  # fmt: skip
