"""ALBERT (Lan et al., 2019, arXiv:1909.11942): a BERT whose layers share their weights.

Traps of the published checkpoints: the config counts layers, but the file holds only groups of
blocks, each of which is used for several layers; the embeddings are narrower than the blocks; the
pooler is stored as `pooler`, not as `pooler.dense`.
"""

from typing import Any

from hub.families import Family, Head, register
from hub.models.bert import CONFIG, EMBEDDING_ROWS, FIXED
from hub.models.encoder import Encoder
from hub.weights.tables import WeightTable


class AlbertBackbone(Encoder):
    """The ALBERT encoder.

    Args:
        vocabulary_size: the number of tokens.
        num_layers: the number of layers, over which the groups are spread evenly.
        num_heads: attention heads of a block.
        embedding_dim: the width of the embeddings.
        hidden_dim: the width of the blocks.
        intermediate_dim: the width inside the feed-forward networks.
        num_groups: the number of groups.
        num_inner_repetitions: the number of blocks in a group.
        dropout: of embeddings and block outputs.
        max_sequence_length: the number of positions.
        num_segments: the number of token types.
        activation: of the feed-forward networks; "gelu_new" is the form with tanh.
        layer_norm_epsilon: of the normalisations.
        attention_dropout: of the attention probabilities; as `dropout` where it is None.
        pooler: whether there is a pooled output.

    Inputs and outputs: as for `BertBackbone`.

    >>> model = AlbertBackbone(99, 2, 2, embedding_dim=4, hidden_dim=8, intermediate_dim=16)
    >>> ids = np.ones((1, 4), "int32")
    >>> out = model({"token_ids": ids, "segment_ids": ids * 0, "padding_mask": ids > 0})
    >>> tuple(out["pooled_output"].shape)
    (1, 8)
    """

    family = "albert"

    def __init__(
        self,
        vocabulary_size: int,
        num_layers: int,
        num_heads: int,
        embedding_dim: int,
        hidden_dim: int,
        intermediate_dim: int,
        num_groups: int = 1,
        num_inner_repetitions: int = 1,
        dropout: float = 0.0,
        max_sequence_length: int = 512,
        num_segments: int = 2,
        activation: str = "gelu_new",
        layer_norm_epsilon: float = 1e-12,
        attention_dropout: float | None = None,
        pooler: bool = True,
        dtype: Any = None,
        **kwargs: Any,
    ):
        super().__init__(
            self.keep_config(locals()),
            num_positions=max_sequence_length, num_segments=num_segments,
            embedding_dim=embedding_dim, groups=(num_groups, num_inner_repetitions),
            pooler=pooler, dtype=dtype, **kwargs,
        )  # fmt: skip


_BLOCK = "encoder.albert_layer_groups.{i}.albert_layers.{j}"
ALBERT = register(
    Family(
        model_type="albert",
        backbone=AlbertBackbone,
        architecture="AlbertModel",
        tokenizer="UnigramTokenizer",
        config={
            **CONFIG,
            "embedding_dim": "embedding_size",
            "num_groups": "num_hidden_groups",
            "num_inner_repetitions": "inner_group_num",
        },
        fixed=FIXED,
        weights=WeightTable(
            {
                **EMBEDDING_ROWS,
                "embeddings_projection": "encoder.embedding_hidden_mapping_in",
                "blocks/{i}/{j}/attention/query": f"{_BLOCK}.attention.query",
                "blocks/{i}/{j}/attention/key": f"{_BLOCK}.attention.key",
                "blocks/{i}/{j}/attention/value": f"{_BLOCK}.attention.value",
                "blocks/{i}/{j}/attention/output_dense": f"{_BLOCK}.attention.dense",
                "blocks/{i}/{j}/attention_norm": f"{_BLOCK}.attention.LayerNorm",
                "blocks/{i}/{j}/intermediate": f"{_BLOCK}.ffn",
                "blocks/{i}/{j}/output_dense": f"{_BLOCK}.ffn_output",
                "blocks/{i}/{j}/output_norm": f"{_BLOCK}.full_layer_layer_norm",
                "pooler": "pooler",
            },
            ignore=(r"embeddings\.position_ids",),
            optional=("pooler",),
        ),
        prefix="albert.",
        heads={
            "TextClassifier": Head(
                "AlbertForSequenceClassification",
                WeightTable({"head": "classifier"}),
                options={"dropout_key": "classifier_dropout_prob"},
            ),
            "TokenClassifier": Head(
                "AlbertForTokenClassification",
                WeightTable({"head": "classifier"}),
                options={"dropout_key": "classifier_dropout_prob"},
            ),
            "MaskedLM": Head(
                "AlbertForMaskedLM",
                WeightTable(
                    {
                        "head/transform": "predictions.dense",
                        "head/norm": "predictions.LayerNorm",
                        "head/bias": "predictions.bias",
                    },
                    tied={
                        "predictions.decoder.weight": "albert.embeddings.word_embeddings.weight",
                        "predictions.decoder.bias": "predictions.bias",
                    },
                ),
            ),
        },
        other_heads=(
            r"predictions\..*",
            r"sop_classifier\..*",
            r"classifier\..*",
            r"qa_outputs\..*",
        ),
    )
)
