"""Data sets of recordings: `audio_dataset_from_directory`."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from keraslite.utils.file_datasets import dataset_of_files
from keraslite.utils.wav import read_wav


def audio_dataset_from_directory(
    directory: Any,
    labels: Any = "inferred",
    label_mode: str | None = "int",
    class_names: Sequence[str] | None = None,
    batch_size: int | None = 32,
    sampling_rate: int | None = None,
    output_sequence_length: int | None = None,
    ragged: bool = False,
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    follow_links: bool = False,
    verbose: bool = True,
) -> Any:
    """Return a data set of the .wav files of a folder, in batches.

    Files are read by threads when a batch is asked for; no framework is needed.

    Args:
        directory: the folder; with inferred labels, it has a folder for each class.
        labels: as for `image_dataset_from_directory`.
        label_mode: likewise.
        class_names: likewise.
        batch_size: recordings in a batch; None for single ones.
        sampling_rate: samples in a second that all are resampled to, which needs the package soxr;
            by default each keeps its own.
        output_sequence_length: the number of samples that all are cut or filled with zeros to; by
            default those of a batch are filled up to the longest.
        ragged: whether recordings keep their lengths: a batch is an array of arrays then.
        shuffle: whether files are shuffled, and each epoch has an order of its own.
        seed: of the orders.
        validation_split: the part of the files that is held out for validation.
        subset: "training", "validation", or "both" for a pair of data sets.
        follow_links: whether links to folders are followed.
        verbose: whether the number of files is printed.

    Returns:
        As `image_dataset_from_directory`, with float32 arrays (recordings, samples, channels) for
        the pictures.

    Raises:
        ValueError: the folder has no recording, an argument is not valid, labels do not fit, or a
            file cannot be read.
        ImportError: a recording is to be resampled, and soxr is not installed.

    >>> import tempfile, wave
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, length in (("bark", 3), ("meow", 2)):
    ...         Path(folder, name).mkdir()
    ...         with wave.open(f"{folder}/{name}/0.wav", "wb") as sound:
    ...             sound.setparams((1, 2, 8000, 0, "NONE", ""))
    ...             sound.writeframes(bytes(2 * length))
    ...     data = audio_dataset_from_directory(folder, batch_size=2, shuffle=False, verbose=False)
    ...     x, y = next(iter(data))
    >>> x.shape, y
    ((2, 3, 1), array([0, 1], dtype=int32))
    """
    if ragged and output_sequence_length is not None:
        raise ValueError(
            "At most one of ragged and output_sequence_length must be set, got ragged=True and "
            f"output_sequence_length={output_sequence_length}."
        )
    for name, value in (
        ("sampling_rate", sampling_rate), ("output_sequence_length", output_sequence_length)
    ):  # fmt: skip
        if value is not None and (not isinstance(value, int | np.integer) or value <= 0):
            raise ValueError(f"{name} must be a positive int, got {value!r}.")
    return dataset_of_files(
        directory, labels, label_mode, class_names, (".wav",),
        partial(_read_sound, rate=sampling_rate, length=output_sequence_length),
        batch_size, shuffle, seed, validation_split, subset, follow_links, verbose,
        stack=_ragged if ragged else _padded,
    )  # fmt: skip


def _read_sound(path: str, rate: int | None, length: int | None) -> np.ndarray:
    sound, own_rate = read_wav(path)
    if rate is not None and rate != own_rate:
        sound = _resampled(sound, own_rate, rate)
    if length is not None:
        sound = np.pad(sound[:length], ((0, max(length - len(sound), 0)), (0, 0)))
    return sound


def _resampled(sound: np.ndarray, rate: int, target: int) -> np.ndarray:
    try:
        import soxr
    except ImportError as error:
        raise ImportError(
            f"A recording of {rate} samples in a second is resampled to sampling_rate={target} by "
            "the package soxr, which is not installed: pip install soxr, or leave sampling_rate "
            "out."
        ) from error
    return soxr.resample(sound, rate, target)


def _padded(sounds: Sequence[np.ndarray]) -> np.ndarray:
    channels = {sound.shape[1] for sound in sounds}
    if len(channels) > 1:
        raise ValueError(
            f"The recordings of a batch must have as many channels each, got {sorted(channels)}: "
            "convert them first, or set batch_size=None."
        )
    batch = np.zeros((len(sounds), max(map(len, sounds)), *channels), "float32")
    for row, sound in zip(batch, sounds, strict=True):
        row[: len(sound)] = sound
    return batch


def _ragged(sounds: Sequence[np.ndarray]) -> np.ndarray:
    batch = np.empty(len(sounds), "object")
    for i, sound in enumerate(sounds):
        batch[i] = sound
    return batch
