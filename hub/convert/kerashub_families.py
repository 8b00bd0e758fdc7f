"""How KerasHub keeps the architectures that are ours too: configs and weights, as data.

The tables are read both ways: by `kerashub`, which converts its presets, and by `kerashub_export`,
which writes them. Paths are those in `model.weights.h5`, and in `task.weights.h5` with `task/`
before them; older versions of Keras had other underscores before their parts. Traps: a layer is
called by its class and a number, which the first one lacks; a kernel of attention is split into
heads; tables of positions lack the two rows that RoBERTa and OPT begin with; BERT, ALBERT and
ELECTRA have the tanh form of GELU, whatever their papers say.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hub.weights.tables import row_pattern

# Our leaf -> its number among the variables of a layer.
_LEAVES = {
    "kernel": 0, "bias": 1, "gamma": 0, "beta": 1, "embeddings": 0, "scale": 0, "moving_mean": 2,
    "moving_variance": 3,
}  # fmt: skip


@dataclass(frozen=True)
class KerasHubFamily:
    """An architecture as KerasHub keeps it.

    Attributes:
        model_type: our name of it.
        config: the keys of its config, which are our arguments unless there is a `read`, and their
            types; object for a value that `read` checks.
        rows: our path below the backbone -> theirs; of three paths the kernels are joined. The
            numbers stand for `{i}`, `{i}` and `{j}` counted through, `{i}` after the encoder, and
            1 where the embeddings are projected. A function of our arguments may return them.
        tokenizer: the class of its tokenizer; "" if it reads no text.
        fixed: arguments of ours that KerasHub fixes.
        same: arguments of ours that equal another argument in KerasHub.
        leading: unused rows of the table of positions that KerasHub leaves out.
        zeros: our paths that KerasHub lacks, whose weights are zeros.
        heads: our task -> the rows of its head below the task; none where it has no weights.
        inexact: our task -> why KerasHub's head computes something a little different: it is
            written with a warning, and not read.
        stated: what config.json says beside.
        task: our task where no head is stated, or none has weights.
        left: patterns of tensors that are not taken along, and why.
        start: the token that a decoder begins with, where the tokenizer has no role for it.
        identities: our dense layers that KerasHub always has, and ours may lack.
        read: return our arguments for its config, whose keys and types are right.
        write: return its config for our arguments; the inverse of `read`.
        others: further model types of ours that are written as it.
        head_config: arguments of KerasHub's task -> the only values that ours can have.
    """

    model_type: str
    config: Mapping[str, type]
    rows: Mapping[str, str | tuple[str, ...]] | Callable[[Mapping[str, Any]], Mapping[str, Any]]
    tokenizer: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    same: Mapping[str, str] = field(default_factory=dict)
    leading: int = 0
    zeros: tuple[str, ...] = ()
    heads: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    inexact: Mapping[str, str] = field(default_factory=dict)
    stated: Mapping[str, Any] = field(default_factory=dict)
    task: str = "Backbone"
    left: Mapping[str, str] = field(default_factory=dict)
    start: str = ""
    identities: tuple[str, ...] = ()
    read: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    write: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    others: tuple[str, ...] = ()
    head_config: Mapping[str, Any] = field(default_factory=dict)

    def tasks(self) -> list[str]:
        """Return the names of the tasks that KerasHub has for it.

        >>> BACKBONES["GPT2Backbone"].tasks()
        ['CausalLM']
        """
        own = {*self.heads, self.task} - {"Backbone", "SpeechToText"}
        return sorted(own)

    def sources(self, path: str, task: str, config: Mapping[str, Any]) -> list[str] | None:
        """Return the tensors of a variable of ours; [] if it is zero, None if unknown.

        Their paths are without underscores before parts.

        Args:
            path: of the variable, below the backbone, or below the task with `backbone/`.
            task: the task, "Backbone" for none.
            config: our arguments.

        Example:
            >>> BACKBONES["BertBackbone"].sources("pooler/kernel", "Backbone", {"num_layers": 2})
            ['layers/dense/vars/0']
        """
        paths = self.paths(path, task, config)
        return None if paths is None else [without_underscores(path) for path in paths]

    def paths(self, path: str, task: str, config: Mapping[str, Any]) -> list[str] | None:
        """Return what `sources` does, with the underscores that KerasHub writes.

        Args:
            path: as for `sources`.
            task: as for `sources`.
            config: as for `sources`.

        Example:
            >>> path = "blocks/0/attention_norm/gamma"
            >>> BACKBONES["BertBackbone"].paths(path, "Backbone", {"num_layers": 2})
            ['layers/transformer_encoder/_self_attention_layer_norm/vars/0']
        """
        rows = dict(self.rows(config) if callable(self.rows) else self.rows)
        if task != "Backbone":
            rows = {f"backbone/{ours}": theirs for ours, theirs in rows.items()}
            rows |= self.heads.get(task, {})
        if path.removeprefix("backbone/") in self.zeros:
            return []
        owner = path.rpartition("/")[0]
        for ours, theirs in ({owner: rows[owner]} if owner in rows else rows).items():
            match = row_pattern(ours).fullmatch(path)
            if match is None:
                continue
            named = match.groupdict()
            i, j = int(named.get("i") or 0), int(named.get("j") or 0)
            numbers = {
                "i": i, "ij": i * config.get("num_inner_repetitions", 1) + j,
                "after": config.get("num_layers", 0) + i,
                "projected": int(config.get("embedding_dim") != config.get("hidden_dim")),
            }  # fmt: skip
            counted = {name: f"_{n}" if n else "" for name, n in numbers.items()}
            leaf = f"/vars/{_LEAVES[named['leaf']]}" if named["leaf"] else ""
            every = (theirs,) if isinstance(theirs, str) else theirs
            return [one.format_map(counted) + leaf for one in every]
        return None


def without_underscores(path: str) -> str:
    """Return a path without the underscores before its parts.

    Args:
        path: of a tensor of KerasHub.

    >>> without_underscores("layers/masked_lm_head/_intermediate_dense/vars/0")
    'layers/masked_lm_head/intermediate_dense/vars/0'
    """
    return "/".join(part.lstrip("_") for part in path.split("/"))


_ATTENTION = "_self_attention_layer"
_BLOCK = {
    "attention/query": f"{_ATTENTION}/query_dense",
    "attention/key": f"{_ATTENTION}/key_dense",
    "attention/value": f"{_ATTENTION}/value_dense",
    "attention/output_dense": f"{_ATTENTION}/output_dense",
    "attention_norm": "_self_attention_layer_norm",
    "intermediate": "_feedforward_intermediate_dense",
    "output_dense": "_feedforward_output_dense",
    "output_norm": "_feedforward_layer_norm",
}
_QKV = ("attention/query", "attention/key", "attention/value")
_JOINED = {
    "attention/qkv": tuple(_BLOCK[name] for name in _QKV),
    **{ours: theirs for ours, theirs in _BLOCK.items() if ours not in _QKV},
}


def _below(ours: str, theirs: str, rows: Mapping[str, Any]) -> dict[str, Any]:
    """Rows with a prefix on both sides."""
    return {
        f"{ours}/{a}": f"{theirs}/{b}" if isinstance(b, str) else tuple(f"{theirs}/{x}" for x in b)
        for a, b in rows.items()
    }


_BLOCKS = _below("blocks/{i}", "layers/transformer_encoder{i}", _BLOCK)
_APART = {
    "token_embedding": "layers/reversible_embedding",
    "position_embedding": "layers/position_embedding",
}
_TOGETHER = {
    name: f"layers/token_and_position_embedding/{name}"
    for name in ("token_embedding", "position_embedding")
}
_SEGMENTS = {"segment_embedding": "layers/embedding"}
_NORM = {"embeddings_norm": "layers/layer_normalization"}
_LAST = {"final_norm": "layers/layer_normalization"}

_SIZES = {
    "vocabulary_size": int, "num_layers": int, "num_heads": int, "hidden_dim": int,
    "intermediate_dim": int, "dropout": float, "max_sequence_length": int,
}  # fmt: skip
_BERT_FIXED = {"activation": "gelu_new", "layer_norm_epsilon": 1e-12}
_ROBERTA_FIXED = {"activation": "gelu", "layer_norm_epsilon": 1e-5}

_DENSE = {"head": "task/layers/dense"}
_TWO_DENSE = {"hidden": "task/layers/dense", "head": "task/layers/dense_1"}
_MASKED = {
    "head/transform": "task/layers/masked_lm_head/_intermediate_dense",
    "head/norm": "task/layers/masked_lm_head/_intermediate_layer_norm",
    "head/bias": "task/layers/masked_lm_head/vars/0",
}
_CROSS = {
    ours.replace("attention", "cross_attention"): theirs.replace("self", "cross")
    for ours, theirs in _BLOCK.items()
    if ours.startswith("attention")
}
_EPSILON = "KerasHub's head normalises with an epsilon of 1e-5, this family's with 1e-12"
_EXACT = f"{_EPSILON}, and has the exact GELU, which a config.json says for all layers or none"

_ROBERTA: dict[str, Any] = {
    "config": _SIZES,
    "rows": {**_TOGETHER, **_NORM, **_BLOCKS},
    "fixed": _ROBERTA_FIXED,
    "leading": 2,
    "zeros": ("segment_embedding/embeddings",),
    "heads": {"TextClassifier": _TWO_DENSE, "MaskedLM": _MASKED},
    "stated": {"type_vocab_size": 1},
}
_T5_FORWARD = {
    "feed_forward/output_dense": "output_projector",
    "feed_forward_norm": "layer_norm",
    "attention_norm": "self_attention_layer_norm",
    "cross_attention_norm": "cross_attention_layer_norm",
    **{
        f"{ours}/{part}": f"{theirs}/{name}"
        for ours, theirs in (("attention", "self_attention"), ("cross_attention",) * 2)
        for part, name in (
            ("query", "query_projector"), ("key", "key_projector"), ("value", "value_projector"),
            ("output_dense", "output_projector"),
        )
    },
    # Where there is a gate, it is what the activation is applied to.
    "feed_forward/intermediate": "input_projector",
    "feed_forward/gate": "input_projector",
    "feed_forward/gated": "gate_projector",
}  # fmt: skip

# KerasHub's class -> what it is.
BACKBONES = {
    "BertBackbone": KerasHubFamily(
        "bert", {**_SIZES, "num_segments": int},
        {**_APART, **_SEGMENTS, **_NORM, **_BLOCKS, "pooler": "layers/dense"},
        "BertTokenizer", _BERT_FIXED,
        heads={"TextClassifier": _DENSE, "MaskedLM": _MASKED, "TextEmbedder": {}},
        inexact={"MaskedLM": _EXACT},
        identities=("pooler",),
    ),
    "RobertaBackbone": KerasHubFamily("roberta", tokenizer="RobertaTokenizer", **_ROBERTA),
    "XLMRobertaBackbone": KerasHubFamily(
        "xlm-roberta", tokenizer="XLMRobertaTokenizer",
        **{**_ROBERTA, "heads": {**_ROBERTA["heads"], "TextEmbedder": {}}},
    ),
    "DistilBertBackbone": KerasHubFamily(
        "distilbert", _SIZES, {**_TOGETHER, **_NORM, **_BLOCKS}, "DistilBertTokenizer",
        {"activation": "gelu", "layer_norm_epsilon": 1e-12},
        heads={"TextClassifier": _TWO_DENSE, "MaskedLM": _MASKED},
        inexact={"MaskedLM": _EPSILON},
    ),
    "AlbertBackbone": KerasHubFamily(
        "albert",
        {**_SIZES, "embedding_dim": int, "num_groups": int, "num_inner_repetitions": int,
         "num_segments": int},
        {
            **_APART, **_SEGMENTS, **_NORM, "embeddings_projection": "layers/dense",
            **_below("blocks/{i}/{j}", "layers/transformer_encoder{ij}", _BLOCK),
            "pooler": "layers/dense_1",
        },
        "AlbertTokenizer", _BERT_FIXED,
        heads={"TextClassifier": _DENSE, "MaskedLM": _MASKED}, inexact={"MaskedLM": _EPSILON},
        identities=("embeddings_projection", "pooler"),
    ),
    "ElectraBackbone": KerasHubFamily(
        "electra",
        {**{k: v for k, v in _SIZES.items() if k != "vocabulary_size"}, "vocab_size": int,
         "embedding_dim": int, "num_segments": int},
        {
            **_APART, **_SEGMENTS, **_NORM, "embeddings_projection": "layers/dense", **_BLOCKS,
            "pooler": "layers/dense{projected}",
        },
        "ElectraTokenizer", _BERT_FIXED, identities=("pooler",),
        # The projection comes first, if there is one.
        left={r"layers/dense(_1)?/vars/[01]": "ELECTRA has no pooled output"},
    ),
    "GPT2Backbone": KerasHubFamily(
        "gpt2", _SIZES,
        {**_APART, **_LAST, **_below("blocks/{i}", "layers/transformer_decoder{i}", _JOINED)},
        "GPT2Tokenizer", {"activation": "gelu_new", "layer_norm_epsilon": 1e-5}, task="CausalLM",
    ),
    "OPTBackbone": KerasHubFamily(
        "opt", _SIZES,
        {**_TOGETHER, **_LAST, **_below("blocks/{i}", "layers/transformer_decoder{i}", _BLOCK)},
        "OPTTokenizer", {"activation": "relu", "layer_norm_epsilon": 1e-5},
        {"attention_dropout": "dropout"}, 2, task="CausalLM",
    ),
    "T5Backbone": KerasHubFamily(
        "t5",
        {**{k: v for k, v in _SIZES.items() if k != "max_sequence_length"}, "key_value_dim": int,
         "activation": str, "use_gated_activation": bool, "layer_norm_epsilon": float,
         "tie_embedding_weights": bool},
        {
            "token_embedding": "layers/reversible_embedding",
            "encoder/relative_bias": "layers/t5_transformer_layer/self_attention",
            "decoder/relative_bias": "layers/t5_transformer_layer{after}/self_attention",
            "encoder/final_norm": "layers/t5_layer_norm",
            "decoder/final_norm": "layers/t5_layer_norm_1",
            **_below("encoder/blocks/{i}", "layers/t5_transformer_layer{i}", _T5_FORWARD),
            **_below("decoder/blocks/{i}", "layers/t5_transformer_layer{after}", _T5_FORWARD),
        },
        "T5Tokenizer",
        heads={"Seq2SeqLM": {"head/kernel": "layers/reversible_embedding/vars/1"}},
        task="Seq2SeqLM",
    ),
    "WhisperBackbone": KerasHubFamily(
        "whisper",
        {**{k: v for k, v in _SIZES.items() if k != "max_sequence_length"}, "num_mels": int,
         "max_encoder_sequence_length": int, "max_decoder_sequence_length": int},
        {
            "token_embedding": _TOGETHER["token_embedding"],
            "decoder/position_embedding": _TOGETHER["position_embedding"],
            "encoder/position_embedding": "layers/position_embedding/vars/0",
            "encoder/conv_1": "layers/conv1d",
            "encoder/conv_2": "layers/conv1d_1",
            "encoder/final_norm": "layers/layer_normalization",
            "decoder/final_norm": "layers/layer_normalization_1",
            **_below("encoder/blocks/{i}", "layers/whisper_encoder{i}", _BLOCK),
            **_below("decoder/blocks/{i}", "layers/whisper_decoder{i}", {**_BLOCK, **_CROSS}),
        },
        "WhisperTokenizer", same={"attention_dropout": "dropout"}, start="<|startoftranscript|>",
        task="SpeechToText",
    ),
}  # fmt: skip
LEFT = {
    r"(task/)?optimizer/.*": "the state of an optimizer",
    r"(.*/)?seed_generator/.*": "the state of a generator of random numbers",
}
# The end of the name of KerasHub's class -> our task; KerasNLP left out "Text".
TASKS = {
    "TextClassifier": "TextClassifier", "ImageClassifier": "ImageClassifier",
    "Classifier": "TextClassifier", "MaskedLM": "MaskedLM", "CausalLM": "CausalLM",
    "Seq2SeqLM": "Seq2SeqLM",
}  # fmt: skip
ACTIVATIONS = {"relu": "relu", "silu": "silu", "gelu": "gelu", "gelu_approximate": "gelu_new"}
