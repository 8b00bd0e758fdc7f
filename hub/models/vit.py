"""ViT and DeiT: An Image is Worth 16x16 Words (Dosovitskiy et al., 2020, arXiv:2010.11929);
Training data-efficient image transformers (Touvron et al., 2020, arXiv:2012.12877).

Traps of the published checkpoints: transformers' epsilon is 1e-12, timm's 1e-6; transformers' ViT
has a pooler in some files, which its classifier does not use; a distilled DeiT has two tokens
before the patches, and its logits are the mean of two heads; timm keeps query, key and value in one
tensor.
"""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from hub.blocks.transformer import TransformerBlock
from hub.families import Family, Head, register
from hub.models.backbone import Backbone
from hub.models.image_backbone import timm_arguments, timm_config
from hub.weights.storage import AS_IS, DENSE
from hub.weights.tables import WeightTable
from keraslite import KerasTensor, initializers, layers, ops


class ViTBackbone(Backbone):
    """A vision transformer: patches of an image behind a class token.

    Args:
        num_layers: the number of blocks.
        num_heads: attention heads of a block.
        hidden_dim: the width.
        intermediate_dim: the width inside the feed-forward networks.
        image_size: height and width of the images that the positions are for.
        patch_size: height and width of a patch.
        num_channels: the channels of the images.
        activation: of the feed-forward networks.
        dropout: of the embeddings and of the outputs inside the blocks.
        attention_dropout: of the attention probabilities.
        layer_norm_epsilon: of the normalisations.
        use_distillation_token: whether a second token stands before the patches (DeiT).

    Inputs: images (batch, height, width, channels), normalised as the checkpoint expects, or a
    dict with these as `images`; of another size than `image_size` the positions are interpolated.
    Output: (batch, tokens, hidden_dim) after the last normalisation, the class token first.

    >>> model = ViTBackbone(1, 2, 8, intermediate_dim=16, image_size=8, patch_size=4)
    >>> [tuple(model(np.ones((1, n, 8, 3), "float32")).shape) for n in (8, 12)]
    [(1, 5, 8), (1, 7, 8)]
    """

    default_family = "vit"
    input_names: Mapping[str, str] = {}

    def __init__(
        self,
        num_layers: int,
        num_heads: int,
        hidden_dim: int,
        intermediate_dim: int,
        image_size: int = 224,
        patch_size: int = 16,
        num_channels: int = 3,
        activation: str = "gelu",
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        layer_norm_epsilon: float = 1e-12,
        use_distillation_token: bool = False,
        dtype: Any = None,
        **kwargs: Any,
    ):
        self.keep_config(locals())
        if not 0 < patch_size <= image_size:
            raise ValueError(f"patch_size must be from 1 to {image_size}, got {patch_size}.")
        super().__init__(dtype=dtype, **kwargs)
        self.hidden_dim = self.pooled_dim = hidden_dim
        self.patch_size = patch_size
        self.image_shape = (image_size, image_size, num_channels)
        self.use_distillation_token = use_distillation_token
        self.num_tokens = 1 + use_distillation_token  # before the patches
        self.grid = image_size // patch_size
        policy = self.dtype_policy
        self.patch_embedding = layers.Conv2D(
            hidden_dim, patch_size, strides=patch_size, dtype=policy, name="patch_embedding"
        )
        self.dropout = layers.Dropout(dropout, dtype=policy)
        self.blocks = [
            TransformerBlock(
                hidden_dim, num_heads, intermediate_dim, activation, dropout, attention_dropout,
                layer_norm_epsilon, norm_first=True, dtype=policy,
            )
            for _ in range(num_layers)
        ]  # fmt: skip
        self.final_norm = layers.LayerNormalization(epsilon=layer_norm_epsilon, dtype=policy)
        self.build()

    @property
    def family(self) -> str:
        """The model type of its checkpoint, or that of new ones."""
        default = "deit" if self.use_distillation_token else "vit"
        return getattr(self, "source_config", {}).get("model_type", default)

    def build(self, input_shape: Any = None) -> None:
        """Make the variables, whose shapes follow from the config."""
        shape = (1, 1, self.hidden_dim)
        initializer = initializers.TruncatedNormal(stddev=0.02)
        self.class_token = self.add_weight(shape, initializer, name="class_token")
        self.distillation_token = None
        if self.use_distillation_token:
            self.distillation_token = self.add_weight(shape, initializer, name="distillation_token")
        self.position_embedding = self.add_weight(
            (1, self.num_tokens + self.grid**2, self.hidden_dim), initializer,
            name="position_embedding",
        )  # fmt: skip
        self.patch_embedding.build((None, *self.image_shape))
        for layer in (*self.blocks, self.final_norm):
            layer.build((None, None, self.hidden_dim))
        self.built = True

    def symbolic_inputs(self) -> list[Any]:
        """Return symbolic inputs of `call`, of two sizes."""
        return [KerasTensor((count, *self.image_shape)) for count in (1, 2)]

    def call(self, inputs: Any, training: bool = False, output_hidden_states: bool = False) -> Any:
        """Return the tokens after the last normalisation.

        Args:
            inputs: images, or a dict of them.
            training: whether to apply dropout.
            output_hidden_states: whether to return a dict of these as `sequence_output` and of the
                `hidden_states` of every layer.

        Raises:
            ValueError: the images are smaller than a patch, or have other channels.
        """
        images = ops.convert_to_tensor(inputs["images"] if isinstance(inputs, dict) else inputs)
        shape, channels = tuple(images.shape), self.image_shape[2]
        small = any(isinstance(edge, int) and edge < self.patch_size for edge in shape[1:3])
        if len(shape) != 4 or shape[3] != channels or small:
            raise ValueError(
                f"Images must have the shape (batch, height, width, {channels}), with "
                f"{self.patch_size} pixels in height and width at least, got {shape}."
            )
        patches = self.patch_embedding(ops.cast(images, self.compute_dtype))
        batch_size, height, width, _ = ops.shape(patches)
        patches = ops.reshape(patches, (batch_size, height * width, self.hidden_dim))
        tokens = [
            ops.broadcast_to(ops.cast(token.value, patches.dtype), (batch_size, 1, self.hidden_dim))
            for token in (self.class_token, self.distillation_token)
            if token is not None
        ]
        hidden = ops.concatenate([*tokens, patches], axis=1) + self._positions(height, width)
        hidden = self.dropout(hidden, training=training)
        states = [hidden]
        for block in self.blocks:
            hidden = block(hidden, training=training)
            states.append(hidden)
        hidden = self.final_norm(hidden)
        if output_hidden_states:
            return {"sequence_output": hidden, "hidden_states": states}
        return hidden

    def stage_weights(self) -> list[list[Any]]:
        """Return the weights of the embeddings, and of each block."""
        blocks = [list(block.weights) for block in self.blocks]
        later = {w.path for layer in (*self.blocks, self.final_norm) for w in layer.weights}
        return [[w for w in self.weights if w.path not in later], *blocks]

    def pool(self, features: Any) -> Any:
        """Return the class token (batch, hidden_dim); of a distilled DeiT the mean of both.

        Args:
            features: the output.
        """
        if self.use_distillation_token:
            return ops.mean(features[:, : self.num_tokens], axis=1)
        return features[:, 0]

    def _positions(self, height: int, width: int) -> Any:
        """Return the position embeddings of a grid of patches."""
        positions = ops.cast(self.position_embedding.value, self.compute_dtype)
        if (height, width) == (self.grid, self.grid):
            return positions
        of_tokens, of_patches = positions[:, : self.num_tokens], positions[:, self.num_tokens :]
        grid = ops.reshape(of_patches, (self.grid, self.grid, self.hidden_dim))
        rows, columns = (
            ops.convert_to_tensor(cubic_weights(self.grid, size), positions.dtype)
            for size in (height, width)
        )
        resized = ops.einsum("hi,wj,ijd->hwd", rows, columns, grid)
        resized = ops.reshape(resized, (1, height * width, self.hidden_dim))
        return ops.concatenate([of_tokens, resized], axis=1)


@functools.cache
def cubic_weights(source: int, target: int) -> np.ndarray:
    """Return the matrix (target, source) of PyTorch's bicubic interpolation along an axis.

    Args:
        source: the number of values.
        target: the number of interpolated values.

    >>> cubic_weights(4, 8).shape, np.allclose(cubic_weights(4, 8).sum(1), 1)
    ((8, 4), True)
    """
    sharpness = -0.75  # PyTorch's; others have -0.5
    centers = (np.arange(target) + 0.5) * source / target - 0.5
    first = np.floor(centers).astype(int)
    matrix = np.zeros((target, source))
    for offset in range(-1, 3):
        x = np.abs(centers - first - offset)
        near = ((sharpness + 2) * x - (sharpness + 3)) * x**2 + 1
        far = ((x - 5) * x + 8) * x * sharpness - 4 * sharpness
        columns = np.clip(first + offset, 0, source - 1)
        np.add.at(matrix, (np.arange(target), columns), np.where(x <= 1, near, far))
    return matrix


# -- checkpoints ----------------------------------------------------------------------------------

_CONFIG = {
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "hidden_dim": "hidden_size",
    "intermediate_dim": "intermediate_size",
    "image_size": "image_size",
    "patch_size": "patch_size",
    "num_channels": "num_channels",
    "activation": "hidden_act",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "layer_norm_epsilon": "layer_norm_eps",
}
_DEFAULTS = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "intermediate_size": 3072, "hidden_act": "gelu", "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0, "layer_norm_eps": 1e-12, "image_size": 224,
    "patch_size": 16, "num_channels": 3, "qkv_bias": True,
}  # fmt: skip
_ROWS = {
    "patch_embedding": "embeddings.patch_embeddings.projection",
    "class_token": "embeddings.cls_token",
    "position_embedding": "embeddings.position_embeddings",
    "blocks/{i}/attention_norm": "encoder.layer.{i}.layernorm_before",
    "blocks/{i}/attention/query": "encoder.layer.{i}.attention.attention.query",
    "blocks/{i}/attention/key": "encoder.layer.{i}.attention.attention.key",
    "blocks/{i}/attention/value": "encoder.layer.{i}.attention.attention.value",
    "blocks/{i}/attention/output_dense": "encoder.layer.{i}.attention.output.dense",
    "blocks/{i}/output_norm": "encoder.layer.{i}.layernorm_after",
    "blocks/{i}/intermediate": "encoder.layer.{i}.intermediate.dense",
    "blocks/{i}/output_dense": "encoder.layer.{i}.output.dense",
    "final_norm": "layernorm",
}
_MEMORY_NAMES = {
    "encoder.layer.": "layers.", "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj", "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj", "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}  # fmt: skip
_IGNORED = (r"embeddings\.mask_token", r"pooler\..*")

register(
    Family(
        "vit", ViTBackbone, _CONFIG, WeightTable(_ROWS, _IGNORED), "ViTModel", prefix="vit.",
        defaults=_DEFAULTS, fixed={"qkv_bias": (True,)}, other_heads=(r"classifier\..*",),
        memory_names=_MEMORY_NAMES,
        heads={
            "ImageClassifier": Head(
                "ViTForImageClassification", WeightTable({"head": "classifier"}),
                options={"dropout": 0.0},
            )
        },
    )
)  # fmt: skip
register(
    Family(
        "deit", ViTBackbone, _CONFIG,
        WeightTable(
            {**_ROWS, "distillation_token": "embeddings.distillation_token"}, _IGNORED
        ),
        "DeiTModel", prefix="deit.", defaults=_DEFAULTS, fixed={"qkv_bias": (True,)},
        read=lambda config: {"use_distillation_token": True},
        other_heads=(r"(cls_|distillation_)?classifier\..*",), memory_names=_MEMORY_NAMES,
        heads={
            "ImageClassifier": Head(
                "DeiTForImageClassificationWithTeacher",
                WeightTable({"head": "cls_classifier", "head_dist": "distillation_classifier"}),
                options={"dropout": 0.0},
            )
        },
    )
)  # fmt: skip

_SIZES = {
    "tiny": (12, 3, 192), "small": (12, 6, 384), "base": (12, 12, 768), "large": (24, 16, 1024),
    "huge": (32, 16, 1280),
}  # fmt: skip


def _variant(size: str, patch_size: int, image_size: int, distilled: bool) -> dict[str, Any]:
    depth, heads, width = _SIZES[size]
    return {
        "num_layers": depth, "num_heads": heads, "hidden_dim": width,
        "intermediate_dim": 4 * width, "patch_size": patch_size, "image_size": image_size,
        "layer_norm_epsilon": 1e-6, "use_distillation_token": distilled,
    }  # fmt: skip


_VARIANTS = {
    f"{family}_{size}_{'distilled_' * distilled}patch{patch}_{image}": _variant(
        size, patch, image, distilled
    )
    for family, sizes, patches, kinds in (
        ("vit", ("tiny", "small", "base", "large", "huge"), (8, 14, 16, 32), (False,)),
        ("deit", ("tiny", "small", "base"), (16,), (False, True)),
    )
    for size in sizes
    for patch in patches
    for image in (224, 384)
    for distilled in kinds
}
_TIMM_ROWS = {
    "patch_embedding": "patch_embed.proj",
    "class_token": "cls_token",
    "distillation_token": "dist_token",
    "position_embedding": "pos_embed",
    "blocks/{i}/attention_norm": "blocks.{i}.norm1",
    **{f"blocks/{{i}}/attention/{n}": "blocks.{i}.attn.qkv" for n in ("query", "key", "value")},
    "blocks/{i}/attention/output_dense": "blocks.{i}.attn.proj",
    "blocks/{i}/output_norm": "blocks.{i}.norm2",
    "blocks/{i}/intermediate": "blocks.{i}.mlp.fc1",
    "blocks/{i}/output_dense": "blocks.{i}.mlp.fc2",
    "final_norm": "norm",
}
_PARTS = {
    f"blocks/{{i}}/attention/{name}/{leaf}": storage.as_part(part, 3)
    for part, name in enumerate(("query", "key", "value"))
    for leaf, storage in (("kernel", DENSE), ("bias", AS_IS))
}
for _model_type, _head in (
    ("timm_vit", {"head": "head"}),
    ("timm_deit_distilled", {"head": "head", "head_dist": "head_dist"}),
):
    register(
        Family(
            _model_type, ViTBackbone, {}, WeightTable(_TIMM_ROWS, storage=_PARTS), library="timm",
            read=functools.partial(timm_arguments, _VARIANTS),
            write=functools.partial(timm_config, _VARIANTS), other_heads=(r"head(_dist)?\..*",),
            heads={"ImageClassifier": Head(weights=WeightTable(_head), options={"dropout": 0.0})},
        )
    )  # fmt: skip
