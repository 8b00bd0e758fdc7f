"""The mask generation of transformers, without torchvision."""

import torch
from transformers import SamConfig, pipeline  # noqa: F401, SamConfig makes the module importable
from transformers.models.sam import image_processing_pil_sam as pil


class SamProcessor(pil.SamImageProcessorPil):
    """The processor of transformers, with a plain suppression in place of torchvision's."""

    def post_process_for_mask_generation(self, all_masks, all_scores, all_boxes, crops_nms_thresh):
        boxes, left = all_boxes.double(), torch.argsort(-all_scores, stable=True)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        kept = []
        while len(left):
            best, left = left[0], left[1:]
            kept.append(int(best))
            corner = torch.maximum(boxes[best, :2], boxes[left, :2])
            shared = (torch.minimum(boxes[best, 2:], boxes[left, 2:]) - corner).clamp(min=0).prod(1)
            iou = shared / (areas[best] + areas[left] - shared)
            left = left[~(iou > crops_nms_thresh)]
        masks = [pil._rle_to_mask(all_masks[i]) for i in kept]
        return masks, all_scores[kept], [all_masks[i] for i in kept], all_boxes[kept]


def processor(size=1024, mask_size=256):
    """Return a processor for images of a size."""
    return SamProcessor(
        size={"longest_edge": size}, pad_size={"height": size, "width": size},
        mask_size={"longest_edge": mask_size},
        mask_pad_size={"height": mask_size, "width": mask_size},
    )  # fmt: skip


def mask_generator(model, size=1024, mask_size=256):
    """Return the pipeline of transformers for a model, on the processor."""
    return pipeline("mask-generation", model=model, image_processor=processor(size, mask_size))
