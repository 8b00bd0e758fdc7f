"""ELECTRA (Clark et al., 2020, arXiv:2003.10555): BERT trained to tell replaced tokens.

Traps of the published checkpoints: the embeddings may be narrower than the blocks, and only
then there is a projection between them; generator and discriminator are separate checkpoints, each
with its own head; there is no pooler.
"""

from typing import Any

from hub.families import Family, Head, register
from hub.models.bert import BLOCK_ROWS, CONFIG, EMBEDDING_ROWS, FIXED
from hub.models.encoder import Encoder
from hub.weights.tables import WeightTable


class ElectraBackbone(Encoder):
    """The ELECTRA encoder.

    Args:
        vocab_size: the number of tokens.
        num_layers: the number of encoder blocks.
        num_heads: attention heads of a block.
        hidden_dim: the width of the blocks.
        embedding_dim: the width of the embeddings.
        intermediate_dim: the width inside the feed-forward networks.
        dropout: of embeddings and block outputs.
        max_sequence_length: the number of positions.
        num_segments: the number of token types.
        activation: of the feed-forward networks; "gelu" is the exact one.
        layer_norm_epsilon: of the normalisations.
        attention_dropout: of the attention probabilities; as `dropout` where it is None.

    Inputs and outputs: as for `BertBackbone`, without a pooled output.

    >>> model = ElectraBackbone(99, 1, 2, hidden_dim=8, embedding_dim=4, intermediate_dim=16)
    >>> ids = np.ones((1, 4), "int32")
    >>> out = model({"token_ids": ids, "segment_ids": ids * 0, "padding_mask": ids > 0})
    >>> tuple(out["sequence_output"].shape)
    (1, 4, 8)
    """

    family = "electra"

    def __init__(
        self,
        vocab_size: int,
        num_layers: int,
        num_heads: int,
        hidden_dim: int,
        embedding_dim: int,
        intermediate_dim: int,
        dropout: float = 0.1,
        max_sequence_length: int = 512,
        num_segments: int = 2,
        activation: str = "gelu",
        layer_norm_epsilon: float = 1e-12,
        attention_dropout: float | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ):
        super().__init__(
            self.keep_config(locals()),
            num_positions=max_sequence_length, num_segments=num_segments,
            embedding_dim=embedding_dim, dtype=dtype, **kwargs,
        )  # fmt: skip


ELECTRA = register(
    Family(
        model_type="electra",
        backbone=ElectraBackbone,
        architecture="ElectraModel",
        tokenizer="WordPieceTokenizer",
        config={
            **{k: v for k, v in CONFIG.items() if k != "vocabulary_size"},
            "vocab_size": "vocab_size",
            "embedding_dim": "embedding_size",
        },
        fixed=FIXED,
        weights=WeightTable(
            {**EMBEDDING_ROWS, "embeddings_projection": "embeddings_project", **BLOCK_ROWS},
            ignore=(r"embeddings\.position_ids",),
        ),
        prefix="electra.",
        heads={
            "TextClassifier": Head(
                "ElectraForSequenceClassification",
                WeightTable({"hidden": "classifier.dense", "head": "classifier.out_proj"}),
                options={"hidden_activation": "gelu", "dropout_before_hidden": True},
            ),
            "TokenClassifier": Head(
                "ElectraForTokenClassification", WeightTable({"head": "classifier"})
            ),
            "MaskedLM": Head(
                "ElectraForMaskedLM",
                WeightTable(
                    {
                        "head/transform": "generator_predictions.dense",
                        "head/norm": "generator_predictions.LayerNorm",
                        "head/bias": "generator_lm_head.bias",
                    },
                    tied={"generator_lm_head.weight": "electra.embeddings.word_embeddings.weight"},
                ),
                options={"activation": "gelu"},
            ),
        },
        other_heads=(
            r"discriminator_predictions\..*",
            r"generator_.*",
            r"classifier\..*",
            r"qa_outputs\..*",
        ),
    )
)
