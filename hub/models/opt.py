"""OPT: Open Pre-trained Transformer Language Models (Zhang et al., 2022, arXiv:2205.01068).

Traps of the published checkpoints: weights are stored under `model.decoder.` or `decoder.`; the
first two position embeddings are not used; the size 350m normalises after attention and
feed-forward network, has no final normalisation, and projects between embeddings of 512 and blocks
of 1024; texts begin with `</s>`.
"""

from typing import Any

from hub.families import Family, Head, register
from hub.models.decoder import Decoder
from hub.weights.tables import WeightTable

_POSITION_OFFSET = 2


class OPTBackbone(Decoder):
    """The OPT decoder.

    Args:
        vocabulary_size: the number of tokens.
        num_layers: the number of blocks.
        num_heads: attention heads of a block.
        hidden_dim: the width of the blocks.
        intermediate_dim: the width inside the feed-forward networks.
        dropout: of embeddings and block outputs.
        max_sequence_length: the number of positions.
        embedding_dim: the width of the embeddings; that of the blocks by default.
        norm_first: whether blocks normalise their inputs, not the sums as in OPT-350m.
        activation: of the feed-forward networks.
        layer_norm_epsilon: of the normalisations.
        attention_dropout: of the attention probabilities.

    Inputs: a dict of `token_ids` (batch, length) of ints, and `padding_mask` (batch, length) of
    booleans. Output: hidden states (batch, length, embedding_dim).

    >>> model = OPTBackbone(100, num_layers=1, num_heads=2, hidden_dim=8, intermediate_dim=16)
    >>> ids = np.ones((1, 4), "int32")
    >>> tuple(model({"token_ids": ids, "padding_mask": ids > 0}).shape)
    (1, 4, 8)
    """

    family = "opt"

    def __init__(
        self,
        vocabulary_size: int,
        num_layers: int,
        num_heads: int,
        hidden_dim: int,
        intermediate_dim: int,
        dropout: float = 0.1,
        max_sequence_length: int = 2048,
        embedding_dim: int | None = None,
        norm_first: bool = True,
        activation: str = "relu",
        layer_norm_epsilon: float = 1e-5,
        attention_dropout: float = 0.0,
        dtype: Any = None,
        **kwargs: Any,
    ):
        config = self.keep_config(locals())
        config["embedding_dim"] = embedding_dim or hidden_dim
        super().__init__(
            config, position_offset=_POSITION_OFFSET, embedding_dim=embedding_dim,
            norm_first=norm_first, dtype=dtype, **kwargs,
        )  # fmt: skip


_BLOCK = "decoder.layers.{i}"
OPT = register(
    Family(
        model_type="opt",
        backbone=OPTBackbone,
        architecture="OPTModel",
        tokenizer="BytePairTokenizer",
        config={
            "vocabulary_size": "vocab_size",
            "num_layers": "num_hidden_layers",
            "num_heads": "num_attention_heads",
            "hidden_dim": "hidden_size",
            "intermediate_dim": "ffn_dim",
            "dropout": "dropout",
            "max_sequence_length": "max_position_embeddings",
            "embedding_dim": "word_embed_proj_dim",
            "norm_first": "do_layer_norm_before",
            "activation": "activation_function",
            "attention_dropout": "attention_dropout",
        },
        fixed={
            "activation_function": ("relu", "gelu", "gelu_new", "silu", None),
            "enable_bias": (True, None),
            "layer_norm_elementwise_affine": (True, None),
            "_remove_final_layer_norm": (False, None),
            "tie_word_embeddings": (True, None),
        },
        weights=WeightTable(
            {
                "token_embedding": "decoder.embed_tokens",
                "position_embedding": "decoder.embed_positions",
                "project_in": "decoder.project_in",
                "project_out": "decoder.project_out",
                "blocks/{i}/attention/query": f"{_BLOCK}.self_attn.q_proj",
                "blocks/{i}/attention/key": f"{_BLOCK}.self_attn.k_proj",
                "blocks/{i}/attention/value": f"{_BLOCK}.self_attn.v_proj",
                "blocks/{i}/attention/output_dense": f"{_BLOCK}.self_attn.out_proj",
                "blocks/{i}/attention_norm": f"{_BLOCK}.self_attn_layer_norm",
                "blocks/{i}/intermediate": f"{_BLOCK}.fc1",
                "blocks/{i}/output_dense": f"{_BLOCK}.fc2",
                "blocks/{i}/output_norm": f"{_BLOCK}.final_layer_norm",
                "final_norm": "decoder.final_layer_norm",
            },
        ),
        prefix="model.",
        heads={
            "CausalLM": Head(
                "OPTForCausalLM",
                WeightTable({}, tied={"lm_head.weight": "model.decoder.embed_tokens.weight"}),
            ),
        },
        other_heads=(r"lm_head\.weight", r"score\.weight", r"qa_outputs\..*"),
    )
)
