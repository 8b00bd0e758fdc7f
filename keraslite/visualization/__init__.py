"""Pictures with boxes and masks drawn on them, galleries, curves and confusion matrices.

Galleries and plots need matplotlib: `pip install "keraslite-hub[plot]"`. It is imported when a
figure is made.
"""

from keraslite.visualization.confusion import confusion_matrix, plot_confusion_matrix
from keraslite.visualization.curves import plot_history
from keraslite.visualization.drawing import draw_bounding_boxes, draw_segmentation_masks
from keraslite.visualization.galleries import (
    plot_bounding_box_gallery,
    plot_image_gallery,
    plot_segmentation_mask_gallery,
)

__all__ = [
    "confusion_matrix", "draw_bounding_boxes", "draw_segmentation_masks",
    "plot_bounding_box_gallery", "plot_confusion_matrix", "plot_history", "plot_image_gallery",
    "plot_segmentation_mask_gallery",
]  # fmt: skip
