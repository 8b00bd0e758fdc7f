"""The table of image layers: how each is made, and what Keras calls our random transformation."""

from dataclasses import dataclass
from typing import Any

import numpy as np

PICTURES = np.random.default_rng(0).integers(0, 256, (4, 8, 10, 3)).astype("uint8")
_FILL = {"fill_mode": "constant", "seed": 3}
# Layers that move pixels, and the boxes with them.
MOVES = [
    ("RandomFlip", {"seed": 3}),
    ("RandomRotation", {"factor": 0.3, **_FILL}),
    ("RandomTranslation", {"height_factor": 0.5, "width_factor": 0.5, **_FILL}),
    ("RandomZoom", {"height_factor": 0.5, "width_factor": 0.3, **_FILL}),
    ("RandomShear", {"x_factor": 0.3, "y_factor": 0.2, **_FILL}),
    ("RandomAffine", {"degrees": 30.0, "translate": 0.2, "scale": 0.4, "shear": 10.0, "seed": 3}),
    ("RandomPerspective", {"factor": (1.0, 1.0), "scale": 0.4, "seed": 3}),
    ("RandAugment", {"factor": (0.05, 0.1), "num_ops": 1, "seed": 5}),
    ("RandomElasticTransform", {"factor": (1.0, 1.0), "scale": 0.5, **_FILL}),
    ("RandomCrop", {"height": 40, "width": 50, "seed": 3}),
    ("RandomCrop", {"height": 70, "width": 50, "seed": 3}),
    ("CenterCrop", {"height": 40, "width": 30}),
    ("CenterCrop", {"height": 100, "width": 70}),
    ("Resizing", {"height": 50, "width": 90}),
    ("Resizing", {"height": 50, "width": 90, "crop_to_aspect_ratio": True}),
    ("Resizing", {"height": 50, "width": 90, "pad_to_aspect_ratio": True}),
]


def _columns(*names):
    """Numbers a picture in the shape (batch, 1, 1, 1)."""
    return lambda t, theirs, shape: {n: np.reshape(t[n], (-1, 1, 1, 1)) for n in names}


def _same(*names):
    return lambda t, theirs, shape: {name: t[name] for name in names}


def _flip(t, theirs, shape):
    flips = t.get("horizontal", t.get("vertical"))
    return {"flips": flips.reshape(-1, 1, 1, 1), "input_shape": shape}


def _rotation(t, theirs, shape):
    none, one = np.zeros(len(t["angle"]), "float32"), np.ones(len(t["angle"]), "float32")
    matrix = theirs._compute_affine_matrix(
        center_x=0.5, center_y=0.5, angle=t["angle"], translate_x=none, translate_y=none,
        scale=one, shear_x=none, shear_y=none, height=shape[1], width=shape[2],
    )  # fmt: skip
    return {
        "angle": t["angle"], "rotation_matrix": matrix, "image_height": shape[1],
        "image_width": shape[2], "batch_size": shape[0],
    }  # fmt: skip


def _zoom(t, theirs, shape):
    zooms = {name: t[name].reshape(-1, 1) for name in ("height_zoom", "width_zoom")}
    return {**zooms, "input_shape": shape}


def _with_shape(*names):
    return lambda t, theirs, shape: {**{n: t[n] for n in names}, "input_shape": shape}


def _blur(t, theirs, shape):
    return {"should_apply_blur": t["should_apply_blur"], "blur_factor": t["blur_factor"][0]}


def _erasing(t, theirs, shape):
    x1, y1, x2, y2 = (t["rectangles"][:, i] for i in range(4))
    fill = t.get("noise")
    if fill is None:
        pictures = np.zeros(shape, "float32")
        fill = theirs._get_fill_value(pictures, shape, None)
    return {
        "apply_erasing": t["apply_erasing"], "fill_value": fill,
        "batch_masks": theirs._generate_batch_mask(shape, (x1, x2, y1, y2)),
    }  # fmt: skip


def _cut(t, theirs, shape):
    x1, y1, x2, y2 = (t["rectangles"][:, i] for i in range(4))
    masks, weight = theirs._generate_batch_mask(shape, (x1, x2, y1, y2))
    order = t["permutation_order"]
    return {"batch_masks": masks, "mix_weight": weight, "permutation_order": order}


@dataclass
class Row:
    """An image layer, the arguments that make it, and its transformation for Keras."""

    layer: str
    kwargs: dict[str, Any]
    translate: Any = None  # None where Keras cannot be handed ours
    draws: bool = True  # whether it draws random numbers
    batch: int = len(PICTURES)  # how many pictures Keras gives one transformation to
    share: float = 1.0  # what the pictures are multiplied by

    @property
    def id(self):
        """The name of the test."""
        parts = [f"{k}={v}" for k, v in self.kwargs.items()]
        return "-".join([self.layer, *parts]).replace(" ", "")


UNIT = 1 / 255
ROWS = [
    Row("RandomFlip", {"mode": "horizontal"}, _flip),
    Row("RandomFlip", {"mode": "vertical"}, _flip),
    Row("RandomFlip", {}),
    Row("RandomRotation", {"factor": 0.1}, _rotation),
    Row("RandomRotation", {"factor": (0.1, 0.3), "fill_mode": "constant", "fill_value": 9.0,
                           "interpolation": "nearest"}, _rotation),
    Row("RandomTranslation", {"height_factor": 0.2, "width_factor": (-0.1, 0.4)},
        _with_shape("translations")),
    Row("RandomTranslation", {"height_factor": 0.4, "width_factor": 0.3, "fill_mode": "wrap"}),
    Row("RandomZoom", {"height_factor": (-0.4, 0.5)}, _zoom),
    Row("RandomZoom", {"height_factor": 0.3, "width_factor": 0.4, "fill_mode": "nearest"}, _zoom),
    Row("RandomShear", {"x_factor": 0.3, "y_factor": (0.1, 0.2)}, _with_shape("shear_factor")),
    Row("RandomPerspective", {"factor": (0.7, 0.8), "scale": 0.5, "fill_value": 3.0},
        _with_shape("apply_perspective", "start_points", "end_points")),
    Row("RandomBrightness", {"factor": 0.4}, _columns("rgb_delta")),
    Row("RandomBrightness", {"factor": (0.1, 0.4), "value_range": (0, 1)}, _columns("rgb_delta"),
        share=UNIT),
    Row("RandomContrast", {"factor": 0.8}, _columns("contrast_factor")),
    Row("RandomColorDegeneration", {"factor": 0.8}, _columns("factor")),
    Row("RandomGrayscale", {"factor": 0.6}, lambda t, *_: t["applied"].reshape(-1, 1, 1, 1)),
    Row("RandomHue", {"factor": 0.7}, _same("factor")),
    Row("RandomHue", {"factor": (0.1, 0.7), "value_range": (0, 1)}, _same("factor"), share=UNIT),
    Row("RandomSaturation", {"factor": (0.2, 0.9), "value_range": (0, 1)}, _same("factor"), share=UNIT),
    Row("RandomColorJitter", {"brightness_factor": 0.2, "contrast_factor": 0.3,
                              "saturation_factor": 0.4, "hue_factor": 0.1}),
    Row("RandomSharpness", {"factor": 1.0}, _same("factor")),
    Row("RandomInvert", {"factor": (0.4, 0.9)}, _same("apply_inversion")),
    Row("RandomPosterization", {"factor": 6},
        lambda t, *_: {"shift_factor": t["shift_factor"].astype("uint8")}),
    Row("Solarization", {"addition_factor": 0.3, "threshold_factor": (0.2, 0.7)},
        _columns("additions", "thresholds")),
    Row("AutoContrast", {}, draws=False),
    Row("Resizing", {"height": 5, "width": 13}, draws=False),
    Row("Resizing", {"height": 12, "width": 7, "interpolation": "bicubic",
                     "crop_to_aspect_ratio": True}, draws=False),
    Row("Resizing", {"height": 6, "width": 7, "interpolation": "nearest",
                     "pad_to_aspect_ratio": True, "fill_value": 9.0}, draws=False),
    Row("CenterCrop", {"height": 5, "width": 4}, draws=False),
    Row("CenterCrop", {"height": 5, "width": 14}, draws=False),
    Row("RandomCrop", {"height": 5, "width": 4}, lambda t, *_: (t["top"][0], t["left"][0]),
        batch=1),
    Row("RandomGaussianBlur", {"factor": (0.8, 1.0), "kernel_size": 5}, _blur, batch=1),
    Row("RandomElasticTransform", {"factor": (0.5, 0.9)}),
    Row("RandomErasing", {"factor": (0.6, 1.0), "scale": (0.1, 0.4)}, _erasing),
    Row("RandomErasing", {"factor": (0.6, 1.0), "fill_value": (10, 20, 300)}, _erasing),
    Row("Equalization", {}, draws=False, batch=1),
    Row("Equalization", {"bins": 64, "value_range": (0, 1)}, draws=False, batch=1, share=UNIT),
    Row("ContrastLimitedAdaptiveHistogramEqualization", {"tile_grid_size": (2, 3)}, draws=False),
    Row("MixUp", {"alpha": 0.5}, _same("mix_weight", "permutation_order")),
    Row("CutMix", {"factor": (0.4, 0.9)}, _cut),
    Row("RandAugment", {"factor": (0.3, 0.6)}),
    Row("AugMix", {"chain_depth": 2, "num_chains": 2}),
    Row("AutoContrast", {"value_range": (0, 1)}, draws=False, share=UNIT),
]  # fmt: skip
