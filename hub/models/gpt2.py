"""GPT-2: Language Models are Unsupervised Multitask Learners (Radford et al., 2019).

Traps of the published checkpoints: there is no prefix `transformer.`; dense weights are stored as
(inputs, outputs), not transposed; query, key and value are one weight; causal masks are in the
file as unused buffers; the head repeats the token embedding; there is no padding token.
"""

from typing import Any

from hub.families import Family, Head, register
from hub.models.decoder import Decoder
from hub.weights.storage import AS_IS
from hub.weights.tables import WeightTable


class GPT2Backbone(Decoder):
    """The GPT-2 decoder.

    Args:
        vocabulary_size: the number of tokens.
        num_layers: the number of blocks.
        num_heads: attention heads of a block.
        hidden_dim: the width.
        intermediate_dim: the width inside the feed-forward networks; 4 times the width by default.
        dropout: of block outputs.
        max_sequence_length: the number of positions.
        activation: of the feed-forward networks; "gelu_new" is the form with tanh.
        layer_norm_epsilon: of the normalisations.
        attention_dropout: of the attention probabilities; as `dropout` where it is None.
        embedding_dropout: of the embeddings; as `dropout` where it is None.
        scale_attention: whether the products of attention are divided by the root of the heads'
            width.
        scale_attention_by_layer: whether they are also divided by the number of the block, from 1.

    Inputs: a dict of `token_ids` (batch, length) of ints, and `padding_mask` (batch, length) of
    booleans. Output: hidden states (batch, length, hidden_dim).

    >>> model = GPT2Backbone(100, num_layers=1, num_heads=2, hidden_dim=8)
    >>> ids = np.ones((1, 4), "int32")
    >>> tuple(model({"token_ids": ids, "padding_mask": ids > 0}).shape)
    (1, 4, 8)
    """

    family = "gpt2"

    def __init__(
        self,
        vocabulary_size: int,
        num_layers: int,
        num_heads: int,
        hidden_dim: int,
        intermediate_dim: int | None = None,
        dropout: float = 0.1,
        max_sequence_length: int = 1024,
        activation: str = "gelu_new",
        layer_norm_epsilon: float = 1e-5,
        attention_dropout: float | None = None,
        embedding_dropout: float | None = None,
        scale_attention: bool = True,
        scale_attention_by_layer: bool = False,
        dtype: Any = None,
        **kwargs: Any,
    ):
        config = self.keep_config(locals())
        config["intermediate_dim"] = intermediate_dim or 4 * hidden_dim
        for name in ("attention_dropout", "embedding_dropout"):
            config[name] = dropout if config[name] is None else config[name]
        scale = 1.0 if scale_attention is False else (hidden_dim // num_heads) ** -0.5
        scales = [scale / (i + 1 if scale_attention_by_layer else 1) for i in range(num_layers)]
        super().__init__(config, fused=True, scales=scales, dtype=dtype, **kwargs)


GPT2 = register(
    Family(
        model_type="gpt2",
        backbone=GPT2Backbone,
        architecture="GPT2Model",
        tokenizer="BytePairTokenizer",
        config={
            "vocabulary_size": "vocab_size",
            "num_layers": "n_layer",
            "num_heads": "n_head",
            "hidden_dim": "n_embd",
            "intermediate_dim": "n_inner",
            "dropout": "resid_pdrop",
            "max_sequence_length": "n_positions",
            "activation": "activation_function",
            "layer_norm_epsilon": "layer_norm_epsilon",
            "attention_dropout": "attn_pdrop",
            "embedding_dropout": "embd_pdrop",
            "scale_attention": "scale_attn_weights",
            "scale_attention_by_layer": "scale_attn_by_inverse_layer_idx",
        },
        fixed={
            "activation_function": ("gelu_new", "gelu", "relu", "silu", "tanh",
                                    "gelu_pytorch_tanh", None),
            "add_cross_attention": (False, None),
            "tie_word_embeddings": (True, None),
        },
        weights=WeightTable(
            {
                "token_embedding": "wte",
                "position_embedding": "wpe",
                "blocks/{i}/attention_norm": "h.{i}.ln_1",
                "blocks/{i}/attention/qkv": "h.{i}.attn.c_attn",
                "blocks/{i}/attention/output_dense": "h.{i}.attn.c_proj",
                "blocks/{i}/output_norm": "h.{i}.ln_2",
                "blocks/{i}/intermediate": "h.{i}.mlp.c_fc",
                "blocks/{i}/output_dense": "h.{i}.mlp.c_proj",
                "final_norm": "ln_f",
            },
            ignore=(r"h\.\d+\.attn\.(masked_)?bias",),
            # The Conv1D layers of transformers store (inputs, outputs), as we do.
            storage={
                f"blocks/{{i}}/{layer}/kernel": AS_IS
                for layer in (
                    "attention/qkv", "attention/output_dense", "intermediate", "output_dense",
                )
            },
        ),
        prefix="transformer.",
        heads={
            "CausalLM": Head(
                "GPT2LMHeadModel",
                WeightTable({}, tied={"lm_head.weight": "transformer.wte.weight"}),
            ),
        },
        other_heads=(r"lm_head\.weight", r"score\.weight", r"classifier\..*"),
    )
)  # fmt: skip
