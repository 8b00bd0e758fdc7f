"""DistilBERT (Sanh et al., 2019, arXiv:1910.01108): BERT with half the blocks and no token types.

Traps of the published checkpoints: weights and config keys have other names than BERT's; there is
no pooler; the classification head has a dense layer with ReLU.
"""

from typing import Any

from hub.families import Family, Head, register
from hub.models.encoder import Encoder
from hub.weights.tables import WeightTable


class DistilBertBackbone(Encoder):
    """The DistilBERT encoder.

    Args:
        vocabulary_size: the number of tokens.
        num_layers: the number of encoder blocks.
        num_heads: attention heads of a block.
        hidden_dim: the width.
        intermediate_dim: the width inside the feed-forward networks.
        dropout: of embeddings and block outputs.
        max_sequence_length: the number of positions.
        activation: of the feed-forward networks; "gelu" is the exact one.
        layer_norm_epsilon: of the normalisations.
        attention_dropout: of the attention probabilities; as `dropout` where it is None.

    Inputs: a dict of `token_ids` (batch, length) of ints, and `padding_mask` (batch, length) of
    booleans. Outputs: a dict of `sequence_output` (batch, length, hidden_dim).

    >>> model = DistilBertBackbone(99, num_layers=1, num_heads=2, hidden_dim=8, intermediate_dim=16)
    >>> ids = np.ones((1, 4), "int32")
    >>> tuple(model({"token_ids": ids, "padding_mask": ids > 0})["sequence_output"].shape)
    (1, 4, 8)
    """

    family = "distilbert"

    def __init__(
        self,
        vocabulary_size: int,
        num_layers: int,
        num_heads: int,
        hidden_dim: int,
        intermediate_dim: int,
        dropout: float = 0.1,
        max_sequence_length: int = 512,
        activation: str = "gelu",
        layer_norm_epsilon: float = 1e-12,
        attention_dropout: float | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ):
        config = self.keep_config(locals())
        super().__init__(config, num_positions=max_sequence_length, dtype=dtype, **kwargs)


DISTIL_BERT = register(
    Family(
        model_type="distilbert",
        backbone=DistilBertBackbone,
        architecture="DistilBertModel",
        tokenizer="WordPieceTokenizer",
        config={
            "vocabulary_size": "vocab_size",
            "num_layers": "n_layers",
            "num_heads": "n_heads",
            "hidden_dim": "dim",
            "intermediate_dim": "hidden_dim",
            "dropout": "dropout",
            "attention_dropout": "attention_dropout",
            "max_sequence_length": "max_position_embeddings",
            "activation": "activation",
        },
        weights=WeightTable(
            {
                "token_embedding": "embeddings.word_embeddings",
                "position_embedding": "embeddings.position_embeddings",
                "embeddings_norm": "embeddings.LayerNorm",
                "blocks/{i}/attention/query": "transformer.layer.{i}.attention.q_lin",
                "blocks/{i}/attention/key": "transformer.layer.{i}.attention.k_lin",
                "blocks/{i}/attention/value": "transformer.layer.{i}.attention.v_lin",
                "blocks/{i}/attention/output_dense": "transformer.layer.{i}.attention.out_lin",
                "blocks/{i}/attention_norm": "transformer.layer.{i}.sa_layer_norm",
                "blocks/{i}/intermediate": "transformer.layer.{i}.ffn.lin1",
                "blocks/{i}/output_dense": "transformer.layer.{i}.ffn.lin2",
                "blocks/{i}/output_norm": "transformer.layer.{i}.output_layer_norm",
            },
            ignore=(r"embeddings\.position_ids",),
        ),
        prefix="distilbert.",
        heads={
            "TextClassifier": Head(
                "DistilBertForSequenceClassification",
                WeightTable({"hidden": "pre_classifier", "head": "classifier"}),
                options={"hidden_activation": "relu", "dropout_key": "seq_classif_dropout"},
            ),
            "TokenClassifier": Head(
                "DistilBertForTokenClassification",
                WeightTable({"head": "classifier"}),
                options={"dropout_key": "seq_classif_dropout"},
            ),
            "MaskedLM": Head(
                "DistilBertForMaskedLM",
                WeightTable(
                    {
                        "head/transform": "vocab_transform",
                        "head/norm": "vocab_layer_norm",
                        "head/bias": "vocab_projector.bias",
                    },
                    tied={"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"},
                ),
            ),
        },
        other_heads=(r"vocab_.*", r"pre_classifier\..*", r"classifier\..*", r"qa_outputs\..*"),
    )
)
