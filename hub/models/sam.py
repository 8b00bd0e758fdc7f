"""Segment Anything (Kirillov et al., 2023, arXiv:2304.02643): masks of what points, boxes or masks
ask for.

An image is encoded once, and decoded for any number of prompts:

    sam = SAMBackbone.from_preset("sam_base_sa1b")  # or a .pth file of the authors
    embeddings = sam.encode_images(images)          # (batch, 64, 64, 256) of 1024 x 1024
    prompts = {"points": points,                    # (batch, sets, points, 2)
               "labels": labels}                    # (batch, sets, points)
    out = sam.decode(embeddings, prompts, multimask_output=True, pad_points=True)
    out["masks"]                                    # (batch, sets, 3, 256, 256)
    out["iou_pred"]                                 # (batch, sets, 3)

Coordinates are those of pixels of the images as they are encoded, resized and padded. Boxes are
(batch, sets, boxes, 2, 2): x and y of the top left corner, and of the bottom right one. Masks of an
earlier call, (batch, sets, 256, 256, 1), refine a prompt. Where sets of a batch have different
numbers of points, `padding_mask` (batch, sets, points) is False for those that fill up. Without the
axis of sets inputs and outputs are KerasHub's.

Traps of the published checkpoints: the matrix of the positional encodings stands twice in the files
of transformers, and is no trained weight for the authors; see also the files of the three parts.
"""

from collections.abc import Mapping
from typing import Any

from hub.families import Family, Head, register
from hub.models.backbone import Backbone
from hub.models.sam_decoder import SAM_DECODER, SAMMaskDecoder, weight_rows
from hub.models.sam_encoder import SAM_VISION, ViTDetBackbone
from hub.models.sam_prompts import SAM_PROMPTS, SAMPromptEncoder
from hub.weights.tables import WeightTable
from keraslite import KerasTensor


class SAMBackbone(Backbone):
    """An image encoder, a prompt encoder and a decoder of masks.

    Args:
        image_encoder: a `ViTDetBackbone`, or a dict of the arguments that make one.
        prompt_encoder: a `SAMPromptEncoder`, or a dict of the arguments that make one.
        mask_decoder: a `SAMMaskDecoder`, or a dict of the arguments that make one.

    Inputs: a dict of `images` (batch, height, width, channels), normalised as the checkpoint
    expects, and any of the prompts `points`, `labels`, `boxes`, `masks` and `padding_mask`, as
    `SAMPromptEncoder` takes them. Outputs: a dict of `masks`, logits (batch, [sets,] masks,
    height / 4, width / 4) for patches of 16, and of estimates of their quality, `iou_pred` (batch,
    [sets,] masks).

    >>> model = SAMBackbone(
    ...     {"hidden_size": 8, "num_layers": 1, "intermediate_dim": 16, "num_heads": 2,
    ...      "global_attention_layer_indices": (0,), "image_shape": (16, 16, 3), "patch_size": 4,
    ...      "num_output_channels": 16},
    ...     {"hidden_size": 16, "image_embedding_size": (4, 4), "input_image_size": (16, 16)},
    ...     {"hidden_size": 16, "num_layers": 1, "intermediate_dim": 16, "num_heads": 2},
    ... )
    >>> embeddings = model.encode_images(np.ones((1, 16, 16, 3), "float32"))
    >>> boxes = np.array([[[[[1, 1], [8, 8]]], [[[3, 5], [9, 7]]]]], "float32")
    >>> tuple(model.decode(embeddings, {"boxes": boxes}, multimask_output=True)["masks"].shape)
    (1, 2, 3, 16, 16)
    """

    family = "sam"
    input_names: Mapping[str, str] = {}

    def __init__(
        self,
        image_encoder: ViTDetBackbone | dict[str, Any],
        prompt_encoder: SAMPromptEncoder | dict[str, Any],
        mask_decoder: SAMMaskDecoder | dict[str, Any],
        dtype: Any = None,
        **kwargs: Any,
    ):
        super().__init__(dtype=dtype, **kwargs)
        self.autocast = False  # coordinates need the digits of float32
        policy = self.dtype_policy
        if isinstance(image_encoder, dict):
            image_encoder = ViTDetBackbone(**image_encoder, dtype=policy)
        if isinstance(prompt_encoder, dict):
            prompt_encoder = SAMPromptEncoder(**prompt_encoder, dtype=policy)
        if isinstance(mask_decoder, dict):
            mask_decoder = SAMMaskDecoder(**mask_decoder, dtype=policy)
        self.image_encoder, self.prompt_encoder = image_encoder, prompt_encoder
        self.mask_decoder = mask_decoder
        self.image_shape = image_encoder.image_shape
        widths = (
            image_encoder.num_output_channels, prompt_encoder.hidden_size, mask_decoder.hidden_size
        )  # fmt: skip
        grids = ((image_encoder.grid,) * 2, prompt_encoder.image_embedding_size)
        if len({*widths}) > 1 or len({*grids}) > 1:
            raise ValueError(
                "The three parts must have embeddings of one width, and images of one size: got "
                f"widths {widths}, and grids {grids[0]} of the image encoder and {grids[1]} of the "
                "prompt encoder."
            )
        self.built = True

    def symbolic_inputs(self) -> list[Any]:
        """Return symbolic inputs of `call`, of two sizes."""
        return [
            {
                "images": KerasTensor((count, *self.image_shape)),
                "points": KerasTensor((count, 1, count + 1, 2)),
                "labels": KerasTensor((count, 1, count + 1), "int32"),
            }
            for count in (1, 2)
        ]

    def encode_images(self, images: Any, training: bool = False) -> Any:
        """Return the embeddings (batch, rows, columns, width) of images, for `decode`.

        Args:
            images: (batch, height, width, channels), normalised as the checkpoint expects.
            training: whether the model is trained.
        """
        return self.image_encoder(images, training=training)

    def decode(
        self,
        image_embeddings: Any,
        prompts: Mapping[str, Any],
        multimask_output: bool | None = None,
        pad_points: bool = False,
    ) -> dict[str, Any]:
        """Return masks and estimates of their quality, for images that are encoded.

        What prompts of an image have in common is computed once.

        Args:
            image_embeddings: what `encode_images` returned.
            prompts: a dict of `points`, `labels`, `boxes`, `masks` and `padding_mask`, as
                `SAMPromptEncoder` takes them.
            multimask_output: True for the masks of an ambiguous prompt, False for that of a clear
                one, None for all: this one first.
            pad_points: whether a point with the label -1 follows the points where there is no box,
                as the authors' code and transformers have it, and KerasHub leaves to its callers.
        """
        rows, columns = image_embeddings.shape[1:3]
        embeddings = self.prompt_encoder(
            image_embeddings, **prompts, pad_points=pad_points, rows=rows, columns=columns
        )
        return self.mask_decoder(image_embeddings, **embeddings, multimask_output=multimask_output)

    def call(
        self,
        inputs: Any,
        training: bool = False,
        multimask_output: bool | None = None,
        pad_points: bool = False,
    ) -> dict[str, Any]:
        """Return masks and estimates of their quality.

        Args:
            inputs: a dict of images and prompts.
            training: whether the model is trained.
            multimask_output: as for `decode`.
            pad_points: as for `decode`.
        """
        prompts = {name: value for name, value in inputs.items() if name != "images"}
        embeddings = self.encode_images(inputs["images"], training)
        return self.decode(embeddings, prompts, multimask_output, pad_points)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        parts = ("image_encoder", "prompt_encoder", "mask_decoder")
        configs = {name: getattr(self, name).get_config() for name in parts}
        for config in configs.values():
            for name in ("name", "trainable", "dtype"):
                config.pop(name, None)
        return {**super().get_config(), **configs}


# -- checkpoints ----------------------------------------------------------------------------------

_PARTS = {
    "image_encoder": (SAM_VISION.model_type, "vision_config"),
    "prompt_encoder": (SAM_PROMPTS.model_type, "prompt_encoder_config"),
    "mask_decoder": (SAM_DECODER.model_type, "mask_decoder_config"),
}
_HEADS = {"ImageSegmenter": Head("SamModel")}
_SHARED = "shared_image_embedding.positional_embedding"
_COPY = "prompt_encoder.shared_embedding.positional_embedding"


def _read(config: Mapping[str, Any]) -> dict[str, Any]:
    """Check what a config.json says about two parts; no arguments follow from it."""
    vision = config.get("vision_config") or {}
    features = vision.get("num_pos_feats", 128)
    if 2 * features != vision.get("output_channels", 256):
        raise ValueError(
            f"The vision config has num_pos_feats={features!r}: expected half of its "
            f"output_channels={vision.get('output_channels', 256)!r}."
        )
    return {}


register(
    Family(
        "sam", SAMBackbone, {},
        SAM_VISION.weights.prefixed("image_encoder/", "vision_encoder.").joined(
            SAM_PROMPTS.weights.prefixed("prompt_encoder/", "prompt_encoder."),
            SAM_DECODER.weights.prefixed("mask_decoder/", "mask_decoder."),
            WeightTable({"prompt_encoder/positional_embedding": _SHARED}, tied={_COPY: _SHARED}),
        ),
        "SamModel", parts=_PARTS, read=_read, heads=_HEADS,
    )
)  # fmt: skip

# The names in the authors' files.
_AUTHORS_ENCODER = {
    "patch_embedding": "patch_embed.proj",
    "position_embedding": "pos_embed",
    "blocks/{i}/attention_norm": "blocks.{i}.norm1",
    "blocks/{i}/attention/qkv": "blocks.{i}.attn.qkv",
    "blocks/{i}/attention/output_dense": "blocks.{i}.attn.proj",
    "blocks/{i}/attention/row_positions": "blocks.{i}.attn.rel_pos_h",
    "blocks/{i}/attention/column_positions": "blocks.{i}.attn.rel_pos_w",
    "blocks/{i}/output_norm": "blocks.{i}.norm2",
    "blocks/{i}/intermediate": "blocks.{i}.mlp.lin1",
    "blocks/{i}/output_dense": "blocks.{i}.mlp.lin2",
    "neck_conv_1": "neck.0", "neck_norm_1": "neck.1", "neck_conv_2": "neck.2",
    "neck_norm_2": "neck.3",
}  # fmt: skip
_AUTHORS_PROMPTS = {
    "positional_embedding": "pe_layer.positional_encoding_gaussian_matrix",
    "background_point_embed": "point_embeddings.0.weight",
    "foreground_point_embed": "point_embeddings.1.weight",
    "top_left_corner_embed": "point_embeddings.2.weight",
    "bottom_right_corner_embed": "point_embeddings.3.weight",
    "not_a_point_embed": "not_a_point_embed.weight",
    "no_mask_embed": "no_mask_embed.weight",
    "mask_conv_1": "mask_downscaling.0", "mask_norm_1": "mask_downscaling.1",
    "mask_conv_2": "mask_downscaling.3", "mask_norm_2": "mask_downscaling.4",
    "mask_conv_3": "mask_downscaling.6",
}  # fmt: skip
_DEPTH = 3  # of their networks behind the transformer
_AUTHORS_DECODER = weight_rows(
    {
        "norm": "norm", "final_norm": "transformer.norm_final_attn",
        "upscale_conv_1": "output_upscaling.0", "upscale_norm": "output_upscaling.1",
        "upscale_conv_2": "output_upscaling.3",
    },
    _DEPTH,
)  # fmt: skip
_AUTHORS_EPSILON = 1e-5  # of the normalisations in the blocks of the decoder


def _config_of_weights(weights: Any) -> dict[str, Any] | None:
    """Return the content of a config.json of transformers for a file of the authors.

    Args:
        weights: what `hub.weights.reader` opened.

    Returns:
        The sizes that follow from the shapes; None for the tensors of another architecture.
    """
    if not all(
        name in weights
        for name in (
            "image_encoder.neck.0.weight", "image_encoder.blocks.0.attn.rel_pos_h",
            "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
            "mask_decoder.iou_prediction_head.layers.2.weight",
        )
    ):  # fmt: skip
        return None

    def size(name: str, axis: int = 0) -> int:
        return weights.shape(name)[axis]

    def count(start: str) -> int:
        depth = start.count(".")
        return len({name.split(".")[depth] for name in weights if name.startswith(start)})

    width, _, patch, _ = weights.shape("image_encoder.patch_embed.proj.weight")
    depth = count("image_encoder.blocks.")
    grid = size("image_encoder.pos_embed", 1) if "image_encoder.pos_embed" in weights else 0
    spans = [size(f"image_encoder.blocks.{i}.attn.rel_pos_h") for i in range(depth)]
    windows = [(n + 1) // 2 for n in spans]
    head = size("image_encoder.blocks.0.attn.rel_pos_h", 1)
    decoder = "mask_decoder.transformer.layers.0"
    hidden = size("image_encoder.neck.0.weight")
    return {
        "model_type": "segment_anything",
        "vision_config": {
            "hidden_size": width, "num_hidden_layers": depth, "patch_size": patch,
            "num_attention_heads": width // head, "image_size": grid * patch,
            "num_channels": size("image_encoder.patch_embed.proj.weight", 1),
            "mlp_dim": size("image_encoder.blocks.0.mlp.lin1.weight"),
            "output_channels": hidden, "num_pos_feats": hidden // 2,
            "qkv_bias": "image_encoder.blocks.0.attn.qkv.bias" in weights,
            "global_attn_indexes": [i for i, n in enumerate(windows) if n == grid],
            "window_size": min(windows),
        },
        "prompt_encoder_config": {
            "hidden_size": hidden, "image_size": grid * patch, "patch_size": patch,
            "mask_input_channels": size("prompt_encoder.mask_downscaling.3.weight"),
        },
        "mask_decoder_config": {
            "hidden_size": hidden, "num_hidden_layers": count("mask_decoder.transformer.layers."),
            "mlp_dim": size(f"{decoder}.mlp.lin1.weight"),
            "attention_downsample_rate": hidden
            // size(f"{decoder}.cross_attn_token_to_image.q_proj.weight"),
            "num_multimask_outputs": size("mask_decoder.mask_tokens.weight") - 1,
            "iou_head_hidden_dim": size("mask_decoder.iou_prediction_head.layers.0.weight"),
            "layer_norm_eps": _AUTHORS_EPSILON,
        },
    }  # fmt: skip


register(
    Family(
        "segment_anything", SAMBackbone, {},
        WeightTable(_AUTHORS_ENCODER).prefixed("image_encoder/", "image_encoder.").joined(
            WeightTable(_AUTHORS_PROMPTS).prefixed("prompt_encoder/", "prompt_encoder."),
            WeightTable(_AUTHORS_DECODER).prefixed("mask_decoder/", "mask_decoder."),
        ),
        "SamModel", parts=_PARTS, infer=_config_of_weights, heads=_HEADS,
    )
)  # fmt: skip
