"""MaskedLM: prediction of masked tokens."""

from typing import Any

import numpy as np

import keraslite as keras
from hub.blocks.transformer import activation_of, bert_initializer
from hub.families import family_of
from hub.preprocessing.text import MaskedLMPreprocessor, bucket, is_text
from hub.tasks.text.text_task import TextTask
from keraslite import layers, ops


class MaskedLMHead(layers.Layer):
    """Transform, normalise, and multiply by the transposed token embedding (tied weights).

    Args:
        hidden_dim: the width of the hidden states.
        embedding_dim: the width of the token embedding.
        vocabulary_size: the number of tokens.
        activation: of the transform.
        layer_norm_epsilon: of the normalisation.
    """

    def __init__(
        self, hidden_dim: int, embedding_dim: int, vocabulary_size: int, activation: Any,
        layer_norm_epsilon: float, **kwargs: Any,
    ):  # fmt: skip
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.transform = layers.Dense(
            embedding_dim,
            activation=activation_of(activation),
            kernel_initializer=bert_initializer(),
            dtype=policy,
        )
        self.norm = layers.LayerNormalization(epsilon=layer_norm_epsilon, dtype=policy)
        self.transform.build((None, None, hidden_dim))
        self.norm.build((None, None, embedding_dim))
        self.bias = self.add_weight((vocabulary_size,), "zeros", name="bias")
        self.built = True

    def call(self, hidden: Any, embedding: Any) -> Any:
        """Return logits (batch, positions, vocabulary) of hidden states."""
        hidden = self.norm(self.transform(hidden))
        return embedding(hidden, reverse=True) + self.bias.value


class MaskedLM(TextTask):
    """A backbone with a head that predicts the token at each masked position.

    `fit` takes plain texts and masks them itself; `fill_mask` answers for texts with [MASK].

    Args:
        backbone: a text backbone with a `sequence_output`.
        preprocessor: a `MaskedLMPreprocessor`.

    Example:
        >>> import hub
        >>> model = hub.MaskedLM.from_preset("bert_base_en_uncased")  # doctest: +SKIP
        >>> model.fill_mask("An [MASK] movie.", top_k=3)[0][0]  # doctest: +SKIP

        Without a checkpoint, on ready inputs:

        >>> import numpy as np
        >>> backbone = hub.BertBackbone(9, 1, 2, hidden_dim=8, intermediate_dim=8)
        >>> model = hub.MaskedLM(backbone)
        >>> model.predict({"token_ids": np.ones((2, 4), "int32")}, verbose=0).shape
        (2, 4, 9)
    """

    task = "MaskedLM"
    head_options = ("activation",)
    pipeline = "fill-mask"
    transformers_class = "AutoModelForMaskedLM"
    default_preprocessor = MaskedLMPreprocessor

    def __init__(self, backbone: Any, preprocessor: Any = None, **kwargs: Any):
        super().__init__(backbone, preprocessor, **kwargs)
        config, head = backbone.get_config(), family_of(backbone.family).head(self.task)
        options = {} if head is None else head.options
        self.head = MaskedLMHead(
            backbone.hidden_dim, backbone.embedding_dim, backbone.vocabulary_size,
            options.get("activation", config["activation"]),
            config["layer_norm_epsilon"], dtype=self.dtype_policy,
        )  # fmt: skip
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return logits at `mask_positions` (batch, positions), by default at all."""
        encoder_inputs = {k: v for k, v in inputs.items() if k != "mask_positions"}
        hidden = self.backbone(encoder_inputs, training=training)["sequence_output"]
        positions = inputs.get("mask_positions")
        if positions is not None:
            hidden = ops.take_along_axis(hidden, ops.expand_dims(positions, -1), axis=1)
        return self.head(hidden, self.backbone.token_embedding)

    def _defaults(self) -> dict[str, Any]:
        return {
            "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "weighted_metrics": [keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        }

    def fill_mask(self, texts: Any, top_k: int = 5) -> list[list[list[tuple[str, float]]]]:
        """Return the likeliest tokens for every mask of every text, with their probabilities.

        Args:
            texts: a string or a list of them, with the mask token inside.
            top_k: how many tokens a mask.

        Returns:
            For each text, for each of its masks, (token, probability) from the likeliest on.
        """
        tokenizer = self.preprocessor.tokenizer
        encodings = self.preprocessor.encode(texts)
        answers = []
        for ids, segments in encodings:
            where = np.flatnonzero(ids == tokenizer.mask_token_id)
            if not len(where):
                mask = tokenizer.id_to_token(tokenizer.mask_token_id)
                raise ValueError(f"A text has no mask token: write {mask} where a word is missing.")
            length = bucket(len(ids), self.preprocessor.sequence_length)
            inputs = self.preprocessor.pack([(ids, segments)], length)
            inputs["mask_positions"] = where[None].astype("int32")
            scores = ops.softmax(ops.cast(self.predict_on_batch(inputs), "float32"), axis=-1)
            tokens = []
            for row in keras.ops.convert_to_numpy(scores)[0]:
                best = np.argsort(-row, kind="stable")[:top_k]
                tokens.append([(tokenizer.id_to_token(int(i)), float(row[i])) for i in best])
            answers.append(tokens)
        return answers

    def answers(self, inputs: list[str], options: Any) -> list[dict[str, Any]]:
        """Return the likeliest tokens for the masks of each text."""
        return [
            {"masks": [{token: round(p, 6) for token, p in mask} for mask in masks]}
            for masks in self.fill_mask(inputs)
        ]

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> np.ndarray:
        """Return logits for ready inputs; for texts, at all positions of the padded batch.

        Args:
            x: texts or ready inputs.
            batch_size: the most rows of a batch.
            verbose: 0 silent, 1 a progress bar.
            steps: as for `Model.predict`.
            callbacks: as for `Model.predict`.
        """
        if self.preprocessor is not None and is_text(x):
            x = self.preprocessor.pack(self.preprocessor.encode(x))
        return super().predict(x, batch_size, verbose, steps, callbacks)
