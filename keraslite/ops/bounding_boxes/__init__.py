"""Bounding boxes: formats, how they follow their image, overlap, suppression, deltas.

Boxes are (..., 4) tensors, or dicts whose "boxes" are these and whose "labels" go along. They run
on the backend of the boxes, under `jit` too. `keras.utils.bounding_boxes` are these functions.
"""

from keraslite.ops.bounding_boxes.deltas import decode_deltas_to_boxes, encode_box_to_deltas
from keraslite.ops.bounding_boxes.formats import FORMATS, convert_format
from keraslite.ops.bounding_boxes.geometry import affine_transform, clip_to_image_size, crop, pad
from keraslite.ops.bounding_boxes.overlap import compute_ciou, compute_iou
from keraslite.ops.bounding_boxes.suppression import non_max_suppression

__all__ = [
    "FORMATS", "affine_transform", "clip_to_image_size", "compute_ciou", "compute_iou",
    "convert_format", "crop", "decode_deltas_to_boxes", "encode_box_to_deltas",
    "non_max_suppression", "pad",
]  # fmt: skip
