"""RoBERTa (Liu et al., 2019, arXiv:1907.11692) and XLM-RoBERTa (Conneau et al., 2019,
arXiv:1911.02116).

Traps of the published checkpoints: positions begin after the id of the padding token, so there are
two more position embeddings than tokens of the longest text; there is one token type, added to all
tokens; the classification head has a dense layer, and the pooler, if there is one, is not used.
"""

from typing import Any

from hub.families import Family, Head, register
from hub.models.bert import BLOCK_ROWS, CONFIG, EMBEDDING_ROWS, FIXED
from hub.models.encoder import Encoder
from hub.weights.tables import WeightTable

_PADDING_ID = 1


class RobertaBackbone(Encoder):
    """The RoBERTa encoder.

    Args:
        vocabulary_size: the number of tokens.
        num_layers: the number of encoder blocks.
        num_heads: attention heads of a block.
        hidden_dim: the width.
        intermediate_dim: the width inside the feed-forward networks.
        dropout: of embeddings and block outputs.
        max_sequence_length: the largest number of tokens of a text.
        activation: of the feed-forward networks; "gelu" is the exact one.
        layer_norm_epsilon: of the normalisations.
        attention_dropout: of the attention probabilities; as `dropout` where it is None.
        pooler: whether there is a pooled output.

    Inputs: a dict of `token_ids` (batch, length) of ints, and `padding_mask` (batch, length) of
    booleans. Outputs: a dict of `sequence_output` (batch, length, hidden_dim), and
    `pooled_output` (batch, hidden_dim) if there is a pooler.

    >>> model = RobertaBackbone(100, num_layers=1, num_heads=2, hidden_dim=8, intermediate_dim=16)
    >>> ids = np.ones((1, 4), "int32")
    >>> tuple(model({"token_ids": ids, "padding_mask": ids > 0})["sequence_output"].shape)
    (1, 4, 8)
    """

    family = "roberta"

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
        layer_norm_epsilon: float = 1e-5,
        attention_dropout: float | None = None,
        pooler: bool = False,
        dtype: Any = None,
        **kwargs: Any,
    ):
        super().__init__(
            self.keep_config(locals()),
            num_positions=max_sequence_length + _PADDING_ID + 1, num_segments=1,
            padding_id=_PADDING_ID, pooler=pooler, dtype=dtype, **kwargs,
        )  # fmt: skip


class XLMRobertaBackbone(RobertaBackbone):
    """The XLM-RoBERTa encoder: RoBERTa with a vocabulary of a hundred languages.

    Args:
        args: as for `RobertaBackbone`.
        kwargs: as for `RobertaBackbone`.

    >>> XLMRobertaBackbone(100, 1, 2, hidden_dim=8, intermediate_dim=16).family
    'xlm-roberta'
    """

    family = "xlm-roberta"


def _family(model_type: str, backbone: type, tokenizer: str, name: str) -> Family:
    return Family(
        model_type=model_type,
        backbone=backbone,
        architecture=f"{name}Model",
        tokenizer=tokenizer,
        config={
            **{k: v for k, v in CONFIG.items() if k != "num_segments"},
            "max_sequence_length": ("max_position_embeddings", _PADDING_ID + 1),
        },
        fixed={**FIXED, "pad_token_id": (_PADDING_ID, None), "type_vocab_size": (1, None)},
        weights=WeightTable(
            {**EMBEDDING_ROWS, **BLOCK_ROWS, "pooler": "pooler.dense"},
            ignore=(r"embeddings\.position_ids",),
            optional=("pooler",),
        ),
        prefix="roberta.",
        heads={
            "TextClassifier": Head(
                f"{name}ForSequenceClassification",
                WeightTable({"hidden": "classifier.dense", "head": "classifier.out_proj"}),
                options={"hidden_activation": "tanh", "dropout_before_hidden": True},
            ),
            "TokenClassifier": Head(
                f"{name}ForTokenClassification", WeightTable({"head": "classifier"})
            ),
            "MaskedLM": Head(
                f"{name}ForMaskedLM",
                WeightTable(
                    {
                        "head/transform": "lm_head.dense",
                        "head/norm": "lm_head.layer_norm",
                        "head/bias": "lm_head.bias",
                    },
                    tied={
                        "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
                        "lm_head.decoder.bias": "lm_head.bias",
                    },
                ),
                options={"activation": "gelu"},
            ),
        },
        other_heads=(r"lm_head\..*", r"classifier\..*", r"qa_outputs\..*"),
    )


ROBERTA = register(_family("roberta", RobertaBackbone, "BytePairTokenizer", "Roberta"))
XLM_ROBERTA = register(_family("xlm-roberta", XLMRobertaBackbone, "UnigramTokenizer", "XLMRoberta"))
