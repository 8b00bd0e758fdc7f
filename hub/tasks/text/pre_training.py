"""PreTraining: BERT with both heads of its training, for masked tokens and the next sentence."""

from typing import Any

import numpy as np

import keraslite as keras
from hub.blocks.transformer import bert_initializer
from hub.families import Family
from hub.preprocessing.text import is_text
from hub.tasks.text.masked_lm import MaskedLMHead
from hub.tasks.text.text_task import TextTask
from keraslite import layers, ops


class PreTraining(TextTask):
    """A backbone with a head for masked tokens, and one that tells whether a text follows another.

    The outputs are a dict of `token_logits` (batch, length, vocabulary) and `next_sentence_logits`
    (batch, 2), of which the first is for "follows" as in the published checkpoints. `fit` takes
    ready inputs, and a dict of labels by these names.

    Args:
        backbone: a text backbone with a `pooled_output`.
        preprocessor: a `TextPreprocessor`.

    Example:
        >>> import hub
        >>> model = hub.PreTraining.from_preset("bert_base_en_uncased")  # doctest: +SKIP
        >>> model.follows(["It rains."], ["Take an umbrella."])  # doctest: +SKIP

        Without a checkpoint, on ready inputs:

        >>> import numpy as np
        >>> backbone = hub.BertBackbone(9, 1, 2, hidden_dim=8, intermediate_dim=8)
        >>> out = hub.PreTraining(backbone)({"token_ids": np.ones((1, 3), "int32")})
        >>> tuple(out["token_logits"].shape), tuple(out["next_sentence_logits"].shape)
        ((1, 3, 9), (1, 2))
    """

    task = "PreTraining"
    transformers_class = "AutoModelForPreTraining"
    may_be_new = ()

    def __init__(self, backbone: Any, preprocessor: Any = None, **kwargs: Any):
        super().__init__(backbone, preprocessor, **kwargs)
        config, policy = backbone.get_config(), self.dtype_policy
        self.head = MaskedLMHead(
            backbone.hidden_dim, backbone.embedding_dim, backbone.vocabulary_size,
            config["activation"], config["layer_norm_epsilon"], dtype=policy,
        )  # fmt: skip
        self.next_sentence = layers.Dense(
            2, kernel_initializer=bert_initializer(), dtype=policy, name="next_sentence"
        )
        self.next_sentence.build((None, backbone.hidden_dim))
        self.built = True

    @classmethod
    def needs_all_layers(cls, family: Family) -> bool:
        """Return whether it needs the pooler, as it does."""
        return True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return the logits of all tokens, and of whether the second text follows the first."""
        outputs = self.backbone(inputs, training=training)
        return {
            "token_logits": self.head(outputs["sequence_output"], self.backbone.token_embedding),
            "next_sentence_logits": self.next_sentence(outputs["pooled_output"]),
        }

    def _defaults(self) -> dict[str, Any]:
        names = ("token_logits", "next_sentence_logits")
        return {
            "loss": {
                name: keras.losses.SparseCategoricalCrossentropy(from_logits=True) for name in names
            }
        }

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> dict[str, np.ndarray]:
        """Return the logits for ready inputs, or for pairs of texts in one padded batch.

        Args:
            x: pairs of texts, or ready inputs.
            batch_size: the most rows of a batch.
            verbose: 0 silent, 1 a progress bar.
            steps: as for `Model.predict`.
            callbacks: as for `Model.predict`.
        """
        if self.preprocessor is not None and is_text(x):
            x = self.preprocessor.pack(self.preprocessor.encode(x))
        return super().predict(x, batch_size, verbose, steps, callbacks)

    def follows(self, first: Any, second: Any, batch_size: int = 32) -> np.ndarray:
        """Return the probability that each second text follows the first one.

        Args:
            first: a list of texts.
            second: a list of as many texts.
            batch_size: the most pairs at a time.

        Returns:
            (pairs,) float32.
        """
        out = self.predict((list(first), list(second)), batch_size=batch_size, verbose=0)
        logits = ops.cast(out["next_sentence_logits"], "float32")
        return keras.ops.convert_to_numpy(ops.softmax(logits, axis=-1))[:, 0]
