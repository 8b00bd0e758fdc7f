"""Preprocessing of recordings for a checkpoint, in numpy, without a framework.

Sample rate, bands and length belong to the weights: they are read from the
preprocessor_config.json of the checkpoint, as transformers writes it.
"""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

import keraslite as keras
from hub.files import Files, write_json
from hub.preprocessing.audio import audio_name, is_live, is_single_audio, load_audio, read_blocks
from hub.preprocessing.log_mel import LogMelReader
from hub.presets import resolve

FILE = "preprocessor_config.json"
_COMBINED_FILE = "processor_config.json"  # of newer checkpoints, for all types of inputs
# The settings of WhisperFeatureExtractor by the names of the arguments.
_SETTINGS = {
    "num_mels": "feature_size", "num_fft_bins": "n_fft", "stride": "hop_length",
    "sampling_rate": "sampling_rate", "max_audio_length": "chunk_length",
}  # fmt: skip
_FIXED = {"padding_value": 0.0, "padding_side": "right", "dither": 0.0}


class AudioConverter:
    """The base class of converters from recordings to a model's inputs.

    A subclass has `from_settings` and `to_settings`, from and to a preprocessor_config.json.

    Attributes:
        feature_extractor: the name of the class in transformers.

    >>> AudioConverter.from_preset("whisper_tiny_en")("a.wav").shape  # doctest: +SKIP
    (1, 3000, 80)
    """

    feature_extractor: str

    @classmethod
    def from_preset(
        cls, preset: Any, *, revision: str | None = None, token: str | bool | None = None
    ) -> Self:
        """Return the converter of a preset; of `hub.AudioConverter` the class for its files.

        Args:
            preset: as for models.
            revision: a branch, tag or commit of the repository.
            token: a token for the Hub.

        Raises:
            FileNotFoundError: the preset has no settings for audio.
            ValueError: the preset is unknown, or a setting is not supported.
        """
        return cls.from_files(resolve(preset, revision=revision, token=token))

    @classmethod
    def from_files(cls, files: Files) -> Self:
        """Return the converter of a checkpoint.

        Args:
            files: what `hub.presets.resolve` returned.

        Raises:
            FileNotFoundError: the checkpoint has no settings for audio.
            ValueError: a setting is not supported.
        """
        if FILE not in files and _COMBINED_FILE in files:
            settings = files.json(_COMBINED_FILE).get("feature_extractor") or {}
        else:
            settings = files.json(FILE)
        classes = cls.__subclasses__() or [cls]
        names = [c.feature_extractor for c in classes]
        name = settings.get("feature_extractor_type")
        if name not in names:
            raise ValueError(
                f"The feature extractor of {files.location} must be one of {names}, got {name}."
            )
        return classes[names.index(name)].from_settings(settings)

    def save(self, folder: str | os.PathLike) -> None:
        """Write a preprocessor_config.json.

        Args:
            folder: an existing folder.
        """
        write_json(Path(folder) / FILE, self.to_settings())


@keras.saving.register_keras_serializable("hub")
class WhisperAudioConverter(AudioConverter):
    """A converter from recordings to log-mel spectrograms, as `WhisperFeatureExtractor` gives them.

    Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022.

    Args:
        num_mels: the number of bands: 80, or 128 since large-v3.
        num_fft_bins: the number of samples of a frame.
        stride: the number of samples between frames.
        sampling_rate: samples a second.
        max_audio_length: the seconds that the model reads at once.

    Raises:
        ValueError: an argument is not a positive integer.

    >>> WhisperAudioConverter()([np.zeros(16000, "float32"), np.ones(8000, "float32")]).shape
    (2, 3000, 80)
    """

    feature_extractor = "WhisperFeatureExtractor"

    def __init__(
        self,
        num_mels: int = 80,
        num_fft_bins: int = 400,
        stride: int = 160,
        sampling_rate: int = 16000,
        max_audio_length: int = 30,
    ):
        self.num_mels = num_mels
        self.num_fft_bins = num_fft_bins
        self.stride = stride
        self.sampling_rate = sampling_rate
        self.max_audio_length = max_audio_length
        for name, value in self.get_config().items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}.")
        self.reader()  # raises for arguments that do not go together

    @property
    def num_samples(self) -> int:
        """The number of samples that the model reads at once."""
        return self.sampling_rate * self.max_audio_length

    @property
    def num_frames(self) -> int:
        """The number of frames that the model reads at once."""
        return self.num_samples // self.stride

    # -- files ------------------------------------------------------------------------------------

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Return the converter of a preprocessor_config.json.

        Args:
            settings: its content.

        Raises:
            ValueError: a setting is not supported.

        >>> WhisperAudioConverter.from_settings({"feature_size": 128}).num_mels
        128
        """
        for key, value in _FIXED.items():
            if settings.get(key, value) != value:
                raise ValueError(f"{key} must be {value!r}, got {settings[key]!r}.")
        arguments = {name: settings.get(key) for name, key in _SETTINGS.items()}
        # A null in a file stands for the default.
        return cls(**{name: value for name, value in arguments.items() if value is not None})

    def to_settings(self) -> dict[str, Any]:
        """Return the content of a preprocessor_config.json, as transformers reads it."""
        return {
            **{key: getattr(self, name) for name, key in _SETTINGS.items()}, **_FIXED,
            "n_samples": self.num_samples, "nb_max_frames": self.num_frames,
            "return_attention_mask": False, "feature_extractor_type": self.feature_extractor,
        }  # fmt: skip

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {name: getattr(self, name) for name in _SETTINGS}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return the converter of a config.

        Args:
            config: what `get_config` returned.
        """
        return cls(**config)

    # -- audio ------------------------------------------------------------------------------------

    def __call__(
        self, audio: Any, *, padding: str = "max_length", truncation: bool | str = True
    ) -> np.ndarray:
        """Return log-mel spectrograms, float32 (batch, frames, mels).

        Args:
            audio: a recording as `load_audio` takes it (a path, the bytes of a file, an array
                (samples,) at `sampling_rate`, a pair (rate, array) ...), or several: a list of
                these, of any lengths, or an array (batch, samples).
            padding: "max_length" pads with silence to `max_audio_length`, "longest" to the longest
                recording of the batch.
            truncation: cut longer recordings to `max_audio_length`, where it is "warn" with a
                warning; if False, they are padded to the longest one.

        Raises:
            FileNotFoundError: a file does not exist.
            ImportError: soundfile or soxr is needed and not installed.
            TypeError: a recording is of another type.
            ValueError: a recording cannot be read, is empty, or has NaN samples.
        """
        if padding not in ("max_length", "longest"):
            raise ValueError(f"padding must be 'max_length' or 'longest', got {padding!r}.")
        if truncation not in (True, False, "warn"):
            raise ValueError(f"truncation must be True, False or 'warn', got {truncation!r}.")
        rows = {"The audio": audio}
        if not is_single_audio(audio):
            rows = {f"Audio {i}": row for i, row in enumerate(audio)}
        if not rows:
            raise ValueError("Expected at least one recording, got none.")
        samples = [self._load(row, name, truncation) for name, row in rows.items()]
        length = max(len(row) for row in samples)
        if padding == "max_length":
            length = max(length, self.num_samples)
        return np.stack([self._features(row, length) for row in samples])

    def reader(self, min_samples: int | None = None) -> LogMelReader:
        """Return a reader, to which the blocks of a recording are given as they come.

        Args:
            min_samples: the length to which a shorter recording is padded with silence;
                `num_samples` by default.
        """
        return LogMelReader(
            self.num_mels, self.num_fft_bins, self.stride, self.sampling_rate,
            min_samples=self.num_samples if min_samples is None else min_samples,
        )  # fmt: skip

    def read(self, source: Any, **kwargs: Any) -> LogMelReader:
        """Read a recording of any length, without holding its samples.

        Args:
            source: as for `load_audio`.
            kwargs: `pcm`, `channels` and `name` of `load_audio`.

        Returns:
            A reader whose `window(start, num_frames)` is what the model reads from a frame on.

        Raises:
            FileNotFoundError: the file does not exist.
            ImportError: soundfile or soxr is needed and not installed.
            TypeError: the source is of another type.
            ValueError: the source cannot be read, is empty, or has NaN samples.

        >>> reader = WhisperAudioConverter().read(np.ones(16000 * 40, "float32"))
        >>> reader.num_frames, reader.window(3000, 3000).shape
        (4000, (3000, 80))
        """
        reader = self.reader()
        for block in read_blocks(source, self.sampling_rate, self.max_audio_length, **kwargs):
            reader.append(block)
        reader.close()
        return reader

    def _load(self, source: Any, name: str, truncation: bool | str) -> np.ndarray:
        if not truncation:
            return load_audio(source, self.sampling_rate, name=name)
        blocks = read_blocks(source, self.sampling_rate, self.max_audio_length, name=name)
        samples = next(blocks)
        if truncation == "warn" and not is_live(source) and next(blocks, None) is not None:
            warnings.warn(
                f"{audio_name(source, name)} is longer than the {self.max_audio_length} s that the "
                "model reads at once: the rest is left out. `transcribe` reads all of it; to train "
                "on it, cut it and its text.", stacklevel=2,
            )  # fmt: skip
        return samples

    def _features(self, samples: np.ndarray, length: int) -> np.ndarray:
        reader = self.reader(length)
        reader.append(samples)
        reader.close()
        return reader.window(0, reader.num_frames)
