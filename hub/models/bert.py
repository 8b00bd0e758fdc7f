"""BERT: Pre-training of Deep Bidirectional Transformers (Devlin et al., 2018, arXiv:1810.04805).

Traps of the published checkpoints: names come with and without the prefix `bert.`; the oldest
files call a normalisation's weights gamma and beta; `position_ids` is an unused buffer; the
masked-LM decoder repeats the token embedding and may be absent, as may the pooler; activation,
epsilon and the number of token types differ between checkpoints and are read from the config.
"""

from typing import Any

from hub.families import Family, Head, register
from hub.models.encoder import Encoder
from hub.weights.tables import WeightTable


class BertBackbone(Encoder):
    """The BERT encoder.

    Args:
        vocabulary_size: the number of tokens.
        num_layers: the number of encoder blocks.
        num_heads: attention heads of a block.
        hidden_dim: the width.
        intermediate_dim: the width inside the feed-forward networks.
        dropout: of embeddings and block outputs.
        max_sequence_length: the number of positions.
        num_segments: the number of token types.
        activation: of the feed-forward networks; "gelu" is the exact one.
        layer_norm_epsilon: of the normalisations.
        attention_dropout: of the attention probabilities; as `dropout` where it is None.
        pooler: whether there is a pooled output.

    Inputs: a dict of `token_ids` and `segment_ids` (batch, length) of ints, and `padding_mask`
    (batch, length) of booleans. Outputs: a dict of `sequence_output` (batch, length, hidden_dim)
    and `pooled_output` (batch, hidden_dim).

    >>> model = BertBackbone(100, num_layers=1, num_heads=2, hidden_dim=8, intermediate_dim=16)
    >>> ids = np.ones((1, 4), "int32")
    >>> out = model({"token_ids": ids, "segment_ids": ids * 0, "padding_mask": ids > 0})
    >>> tuple(out["sequence_output"].shape)
    (1, 4, 8)
    """

    family = "bert"

    def __init__(
        self,
        vocabulary_size: int,
        num_layers: int,
        num_heads: int,
        hidden_dim: int,
        intermediate_dim: int,
        dropout: float = 0.1,
        max_sequence_length: int = 512,
        num_segments: int = 2,
        activation: str = "gelu",
        layer_norm_epsilon: float = 1e-12,
        attention_dropout: float | None = None,
        pooler: bool = True,
        dtype: Any = None,
        **kwargs: Any,
    ):
        super().__init__(
            self.keep_config(locals()),
            num_positions=max_sequence_length, num_segments=num_segments,
            pooler=pooler, dtype=dtype, **kwargs,
        )  # fmt: skip


EMBEDDING_ROWS = {
    "token_embedding": "embeddings.word_embeddings",
    "position_embedding": "embeddings.position_embeddings",
    "segment_embedding": "embeddings.token_type_embeddings",
    "embeddings_norm": "embeddings.LayerNorm",
}
BLOCK_ROWS = {
    "blocks/{i}/attention/query": "encoder.layer.{i}.attention.self.query",
    "blocks/{i}/attention/key": "encoder.layer.{i}.attention.self.key",
    "blocks/{i}/attention/value": "encoder.layer.{i}.attention.self.value",
    "blocks/{i}/attention/output_dense": "encoder.layer.{i}.attention.output.dense",
    "blocks/{i}/attention_norm": "encoder.layer.{i}.attention.output.LayerNorm",
    "blocks/{i}/intermediate": "encoder.layer.{i}.intermediate.dense",
    "blocks/{i}/output_dense": "encoder.layer.{i}.output.dense",
    "blocks/{i}/output_norm": "encoder.layer.{i}.output.LayerNorm",
}
CONFIG = {
    "vocabulary_size": "vocab_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "hidden_dim": "hidden_size",
    "intermediate_dim": "intermediate_size",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "max_sequence_length": "max_position_embeddings",
    "num_segments": "type_vocab_size",
    "activation": "hidden_act",
    "layer_norm_epsilon": "layer_norm_eps",
}
FIXED = {
    "position_embedding_type": ("absolute", None),
    "is_decoder": (False, None),
    "add_cross_attention": (False, None),
    "hidden_act": ("gelu", "relu", "silu", "gelu_new", "gelu_pytorch_tanh", "tanh", None),
}

MASKED_LM = WeightTable(
    {
        "head/transform": "cls.predictions.transform.dense",
        "head/norm": "cls.predictions.transform.LayerNorm",
        "head/bias": "cls.predictions.bias",
    },
    tied={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
)

BERT = register(
    Family(
        model_type="bert",
        backbone=BertBackbone,
        architecture="BertModel",
        tokenizer="WordPieceTokenizer",
        config=CONFIG,
        fixed=FIXED,
        weights=WeightTable(
            {**EMBEDDING_ROWS, **BLOCK_ROWS, "pooler": "pooler.dense"},
            ignore=(r"embeddings\.position_ids",),
            optional=("pooler",),
        ),
        prefix="bert.",
        heads={
            "TextClassifier": Head(
                "BertForSequenceClassification", WeightTable({"head": "classifier"})
            ),
            "TokenClassifier": Head(
                "BertForTokenClassification", WeightTable({"head": "classifier"})
            ),
            "MaskedLM": Head("BertForMaskedLM", MASKED_LM, included_in=("BertForPreTraining",)),
            "PreTraining": Head(
                "BertForPreTraining",
                MASKED_LM.joined(WeightTable({"next_sentence": "cls.seq_relationship"})),
            ),
        },
        other_heads=(r"cls\..*", r"classifier\..*", r"qa_outputs\..*"),
    )
)
