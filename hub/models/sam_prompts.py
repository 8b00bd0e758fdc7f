"""The prompt encoder of Segment Anything (Kirillov et al., 2023, arXiv:2304.02643): points, boxes
and masks to tokens and to a map that is added to the image.

Traps: coordinates are those of pixels, so that half a pixel is added; they are encoded in float32
whatever the policy, since bfloat16 has steps of 4 at 1024; prompts of points without a box have one
more point with the label -1, which training added.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hub.blocks.transformer import activation_of
from hub.families import Family, register
from hub.weights.tables import WeightTable
from keraslite import initializers, layers, ops

_PADDING_POINT, _PADDING = -1, -10  # labels: a point that training added, and none at all
_EMBEDDINGS = (
    "background_point_embed", "foreground_point_embed", "top_left_corner_embed",
    "bottom_right_corner_embed", "not_a_point_embed", "no_mask_embed",
)  # fmt: skip


class SAMPromptEncoder(layers.Layer):
    """Embeddings of points, boxes and masks by which a mask is asked for.

    Args:
        hidden_size: the width of the embeddings.
        image_embedding_size: rows and columns of the embeddings of an image.
        input_image_size: height and width of the images.
        mask_in_channels: the channels behind the second of the convolutions over masks.
        activation: between these convolutions.
        layer_norm_epsilon: of the normalisations between them.

    Inputs, by name: see `call`. Outputs: a dict of `prompt_sparse_embeddings` (batch, tokens,
    hidden_size), `prompt_dense_embeddings` (batch, rows, columns, hidden_size) and
    `prompt_dense_positional_embeddings` (1, rows, columns, hidden_size); of several sets of prompts
    for each image the first has the shape (batch, sets, tokens, hidden_size), and the second that
    of (batch, sets or 1, rows, columns, hidden_size).

    >>> encoder = SAMPromptEncoder(8, (4, 4), (16, 16))
    >>> points, labels = np.ones((1, 2, 2), "float32"), np.array([[1, 0]])
    >>> {name: tuple(x.shape) for name, x in encoder(points=points, labels=labels).items()}
    ... # doctest: +NORMALIZE_WHITESPACE
    {'prompt_sparse_embeddings': (1, 2, 8), 'prompt_dense_embeddings': (1, 4, 4, 8),
     'prompt_dense_positional_embeddings': (1, 4, 4, 8)}
    """

    family = "sam_prompt_encoder"

    def __init__(
        self,
        hidden_size: int = 256,
        image_embedding_size: Sequence[int] = (64, 64),
        input_image_size: Sequence[int] = (1024, 1024),
        mask_in_channels: int = 16,
        activation: str = "gelu",
        layer_norm_epsilon: float = 1e-6,
        **kwargs: Any,
    ):
        config = self.keep_config(locals())
        for name in ("image_embedding_size", "input_image_size"):
            config[name] = list(config[name])
        super().__init__(**{"autocast": False, **kwargs})
        self.hidden_size, self.mask_in_channels = hidden_size, mask_in_channels
        self.image_embedding_size = tuple(image_embedding_size)
        self.input_image_size = tuple(input_image_size)
        if hidden_size % 2 or mask_in_channels % 4:
            raise ValueError(
                "hidden_size must be even and mask_in_channels a multiple of 4, got "
                f"{hidden_size} and {mask_in_channels}."
            )
        policy = self.dtype_policy

        def conv(filters: int, size: int, name: str) -> layers.Conv2D:
            return layers.Conv2D(filters, size, strides=size, dtype=policy, name=name)

        def norm(name: str) -> layers.LayerNormalization:
            return layers.LayerNormalization(epsilon=layer_norm_epsilon, dtype=policy, name=name)

        self.mask_conv_1, self.mask_norm_1 = conv(mask_in_channels // 4, 2, "1"), norm("norm_1")
        self.mask_conv_2, self.mask_norm_2 = conv(mask_in_channels, 2, "2"), norm("norm_2")
        self.mask_conv_3 = conv(hidden_size, 1, "3")
        self.activation = layers.Activation(activation_of(activation), dtype=policy)
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Make the variables; their shapes follow from the config alone."""
        self.positional_embedding = self.add_weight(
            (2, self.hidden_size // 2), initializers.RandomNormal(stddev=1.0), dtype="float32",
            trainable=False, autocast=False, name="positional_embedding",
        )  # fmt: skip
        for name in _EMBEDDINGS:
            weight = self.add_weight(
                (1, self.hidden_size), initializers.RandomNormal(stddev=0.02), name=name
            )
            setattr(self, name, weight)
        widths = (1, self.mask_in_channels // 4, self.mask_in_channels)
        for width, conv in zip(
            widths, (self.mask_conv_1, self.mask_conv_2, self.mask_conv_3), strict=True
        ):
            conv.build((None, None, None, width))
        for width, norm in zip(widths[1:], (self.mask_norm_1, self.mask_norm_2), strict=True):
            norm.build((None, None, None, width))
        self.built = True

    def call(
        self,
        images: Any = None,
        points: Any = None,
        labels: Any = None,
        boxes: Any = None,
        masks: Any = None,
        padding_mask: Any = None,
        pad_points: bool = False,
        rows: int | None = None,
        columns: int | None = None,
    ) -> dict[str, Any]:
        """Return the embeddings of prompts, of which none or several kinds are given.

        Args:
            images: only their number is used, where there are no prompts.
            points: x and y in pixels of the images (batch, points, 2), or (batch, sets, points, 2)
                where there are several sets of prompts for each image, and so for the others.
            labels: of the points (batch, [sets,] points): 1 for what the mask contains, 0 for what
                it does not, -1 for the point that training added, -10 for zeros as embedding.
            boxes: their top left and bottom right corners (batch, [sets,] boxes, 2, 2).
            masks: logits (batch, sets, 4 * rows, 4 * columns, 1); one or none where the other
                prompts have no axis of sets.
            padding_mask: (batch, [sets,] points), False for points that fill a set up and are
                attended to by nothing. The outputs have then a `prompt_padding_mask` of the tokens.
            pad_points: whether a point with the label -1 follows the points where there is no box,
                as the authors' code and transformers have it, and KerasHub leaves to its callers.
            rows: of the embeddings of an image, where it is of another size than the layer is made
                for.
            columns: likewise.

        Raises:
            ValueError: shapes do not fit, or there are no prompts and no images.
        """
        points, boxes, masks = (_absent_if_empty(x) for x in (points, boxes, masks))
        grid = (rows or self.image_embedding_size[0], columns or self.image_embedding_size[1])
        if points is not None and labels is None:
            raise ValueError("Points must have labels: 1 for what the mask contains, 0 for others.")
        has_sets = _has_sets(points, boxes, masks)
        sparse, present = [], []
        if points is not None:
            points, labels = _with_sets(points, 4), _with_sets(labels, 3)
            if tuple(labels.shape[1:]) != tuple(points.shape[1:-1]):
                raise ValueError(
                    f"There must be a label for each point, got labels {tuple(labels.shape)} for "
                    f"points {tuple(points.shape)}."
                )
            pads = pad_points and boxes is None
            sparse.append(self._embed_points(points, labels, grid, pads))
            if padding_mask is not None:
                mask = ops.cast(_with_sets(padding_mask, 3), "bool")
                present += [mask, ops.ones_like(mask[..., :1])] if pads else [mask]
        if boxes is not None:
            boxes = _with_sets(boxes, 5)
            sparse.append(self._embed_boxes(boxes, grid))
            if padding_mask is not None:
                present.append(ops.ones(ops.shape(sparse[-1])[:-1], "bool"))
        dense = self._no_mask(grid) if masks is None else self._embed_masks(masks, grid)
        first = next((x for x in (points, boxes, masks, images) if x is not None), None)
        if first is None:
            raise ValueError("Expected points, boxes or masks, got none of them.")
        batch = ops.shape(first)[0]
        if not sparse:
            sparse.append(ops.zeros((batch, dense.shape[1], 0, self.hidden_size), dense.dtype))
        if masks is None:
            dense = ops.broadcast_to(dense, (batch, 1, *grid, self.hidden_size))
        sets = {x.shape[1] for x in sparse}
        if len(sets) > 1 or dense.shape[1] not in (1, *sets):
            raise ValueError(
                f"Prompts of several kinds must have equal numbers of sets, got {sorted(sets)} of "
                f"points and boxes, and {dense.shape[1]} of masks."
            )
        outputs = {
            "prompt_sparse_embeddings": ops.concatenate(sparse, axis=2),
            "prompt_dense_embeddings": dense,
        }
        if present:
            outputs["prompt_padding_mask"] = ops.concatenate(present, axis=2)
        if not has_sets:
            outputs = {name: value[:, 0] for name, value in outputs.items()}
        positions = ops.expand_dims(self.encode_grid(grid), 0)
        return {**outputs, "prompt_dense_positional_embeddings": positions}

    def encode_grid(self, size: Sequence[int]) -> Any:
        """Return the encodings (rows, columns, hidden_size) of the positions of a grid.

        Args:
            size: rows and columns.
        """
        y, x = ((np.arange(n, dtype="float32") + 0.5) / n for n in size)
        return self._encode(ops.convert_to_tensor(np.stack(np.meshgrid(x, y), axis=-1)))

    def _encode(self, coordinates: Any) -> Any:
        """Return the encodings (..., hidden_size) of x and y (..., 2) from 0 to 1, by sines."""
        phases = ops.matmul(2 * coordinates - 1, self.positional_embedding.value) * (2 * math.pi)
        waves = ops.concatenate([ops.sin(phases), ops.cos(phases)], axis=-1)
        return ops.cast(waves, self.compute_dtype)

    def _encode_pixels(self, coordinates: Any, grid: tuple[int, ...]) -> Any:
        """Return the encodings of x and y (..., 2) in pixels."""
        height, width = (
            cells * pixels // all_cells
            for cells, pixels, all_cells in zip(
                grid, self.input_image_size, self.image_embedding_size, strict=True
            )
        )
        size = ops.convert_to_tensor(np.array([width, height], "float32"))
        return self._encode((ops.cast(coordinates, "float32") + 0.5) / size)

    def _embed_points(self, points: Any, labels: Any, grid: tuple[int, ...], pads: bool) -> Any:
        """Return the embeddings (batch, sets, points, hidden_size), and that of one more point."""
        labels = ops.expand_dims(ops.cast(labels, "int32"), -1)
        is_point = ops.logical_and(labels != _PADDING_POINT, labels != _PADDING)
        encoded = self._encode_pixels(points, grid)
        out = ops.where(is_point, encoded, ops.zeros_like(encoded))
        for label, name in (
            (0, "background_point_embed"), (1, "foreground_point_embed"),
            (_PADDING_POINT, "not_a_point_embed"),
        ):  # fmt: skip
            out = out + ops.cast(labels == label, out.dtype) * self._embedding(name)
        if pads:
            added = ops.broadcast_to(self._embedding("not_a_point_embed"), ops.shape(out[:, :, :1]))
            out = ops.concatenate([out, added], axis=2)
        return out

    def _embed_boxes(self, boxes: Any, grid: tuple[int, ...]) -> Any:
        """Return the embeddings (batch, sets, 2 * boxes, hidden_size) of the corners."""
        corners = ops.concatenate(
            [self._embedding(f"{name}_corner_embed") for name in ("top_left", "bottom_right")]
        )
        encoded = self._encode_pixels(boxes, grid) + corners
        batch, sets, count = ops.shape(encoded)[:3]
        return ops.reshape(encoded, (batch, sets, 2 * count, self.hidden_size))

    def _embed_masks(self, masks: Any, grid: tuple[int, ...]) -> Any:
        """Return the embeddings (batch, sets, rows, columns, hidden_size)."""
        masks = ops.cast(ops.convert_to_tensor(masks), self.compute_dtype)
        expected = (4 * grid[0], 4 * grid[1], 1)
        if tuple(masks.shape[2:]) != expected:
            raise ValueError(
                f"Masks must have the shape (batch, sets, {', '.join(map(str, expected))}), got "
                f"{tuple(masks.shape)}."
            )
        batch, sets = ops.shape(masks)[:2]
        x = ops.reshape(masks, (batch * sets, *expected))
        x = self.activation(self.mask_norm_1(self.mask_conv_1(x)))
        x = self.activation(self.mask_norm_2(self.mask_conv_2(x)))
        return ops.reshape(self.mask_conv_3(x), (batch, sets, *grid, self.hidden_size))

    def _no_mask(self, grid: tuple[int, ...]) -> Any:
        """Return the embedding (1, 1, 1, 1, hidden_size) of the lack of a mask."""
        return ops.reshape(self._embedding("no_mask_embed"), (1, 1, 1, 1, self.hidden_size))

    def _embedding(self, name: str) -> Any:
        """Return one of the embeddings (1, hidden_size) in the dtype of the outputs."""
        return ops.cast(getattr(self, name).value, self.compute_dtype)


def _absent_if_empty(prompts: Any) -> Any:
    """Return prompts as a tensor; None where there are none, which KerasHub writes as no rows."""
    prompts = None if prompts is None else ops.convert_to_tensor(prompts)
    return None if prompts is None or 0 in prompts.shape[1:] else prompts


def _has_sets(points: Any, boxes: Any, masks: Any) -> bool:
    """Return whether prompts have an axis of sets."""
    if points is not None:
        return len(points.shape) == 4
    if boxes is not None:
        return len(boxes.shape) == 5
    return masks is not None and masks.shape[1] != 1


def _with_sets(prompts: Any, rank: int) -> Any:
    """Return prompts with an axis of sets, which is 1 if they have none."""
    prompts = ops.convert_to_tensor(prompts)
    if len(prompts.shape) not in (rank - 1, rank):
        raise ValueError(
            f"Expected {rank - 1} axes, or {rank} with one of sets of prompts, got the shape "
            f"{tuple(prompts.shape)}."
        )
    return prompts if len(prompts.shape) == rank else ops.expand_dims(prompts, 1)


# -- checkpoints ----------------------------------------------------------------------------------


def _read(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that a config.json states in another form."""
    image, patch = config["image_size"], config["patch_size"]
    if any(type(n) is not int or n < 1 for n in (image, patch)):
        raise ValueError(
            f"The prompt encoder's config has image_size={image!r} and patch_size={patch!r}: "
            "expected integers."
        )
    return {"input_image_size": (image,) * 2, "image_embedding_size": (image // patch,) * 2}


def _write(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a config.json that follow from several arguments.

    Raises:
        ValueError: height and width differ, for which transformers has no config.
    """
    (height, width), (rows, columns) = (
        arguments["input_image_size"], arguments["image_embedding_size"]
    )  # fmt: skip
    if height != width or rows != columns:
        raise ValueError(
            f"transformers has no config of a prompt encoder for images of {height} x {width}: "
            "save the model with `Model.save` instead."
        )
    return {"image_size": height, "patch_size": height // rows, "image_embedding_size": rows}


_ROWS = {
    "positional_embedding": "shared_embedding.positional_embedding",
    "background_point_embed": "point_embed.0.weight",
    "foreground_point_embed": "point_embed.1.weight",
    "top_left_corner_embed": "point_embed.2.weight",
    "bottom_right_corner_embed": "point_embed.3.weight",
    "not_a_point_embed": "not_a_point_embed.weight",
    "no_mask_embed": "no_mask_embed.weight",
    **{f"mask_conv_{i}": f"mask_embed.conv{i}" for i in (1, 2, 3)},
    **{f"mask_norm_{i}": f"mask_embed.layer_norm{i}" for i in (1, 2)},
}

SAM_PROMPTS = register(
    Family(
        "sam_prompt_encoder", SAMPromptEncoder,
        {
            "hidden_size": "hidden_size", "mask_in_channels": "mask_input_channels",
            "activation": "hidden_act", "layer_norm_epsilon": "layer_norm_eps",
        },
        WeightTable(_ROWS),
        defaults={
            "hidden_size": 256, "image_size": 1024, "patch_size": 16, "mask_input_channels": 16,
            "num_point_embeddings": 4, "hidden_act": "gelu", "layer_norm_eps": 1e-6,
        },
        fixed={"num_point_embeddings": (4,)}, read=_read, write=_write,
    )
)  # fmt: skip
