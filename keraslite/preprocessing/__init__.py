"""The older names of functions of `keraslite.utils` that prepare data."""

from keraslite.preprocessing import image, sequence
from keraslite.utils.file_datasets import (
    image_dataset_from_directory,
    text_dataset_from_directory,
)
from keraslite.utils.time_windows import timeseries_dataset_from_array

__all__ = [
    "image", "image_dataset_from_directory", "sequence", "text_dataset_from_directory",
    "timeseries_dataset_from_array",
]  # fmt: skip
