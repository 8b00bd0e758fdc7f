"""AudioTask: a task that reads recordings."""

import collections
from collections.abc import Iterator
from typing import Any

import numpy as np

from hub.families import Family
from hub.preprocessing.audio import read_blocks
from hub.preprocessing.audio_converter import FILE, AudioConverter, WhisperAudioConverter
from hub.presets.files import PresetFiles
from hub.speech.voice_activity import loudness
from hub.tasks.task import Task
from keraslite.saving import replacing_folder


class AudioTask(Task):
    """A task that reads recordings: paths, bytes and arrays of any rate and length.

    Its preprocessor has the converter of the checkpoint as `audio`.
    """

    @classmethod
    def make_converter(cls, files: PresetFiles, family: Family, backbone: Any) -> Any:
        """Return the converter of the recordings of a checkpoint.

        Args:
            files: of the checkpoint.
            family: of the backbone.
            backbone: the backbone.

        Raises:
            ValueError: the checkpoint's files do not go together.
        """
        if FILE in files or "processor_config.json" in files:
            converter = AudioConverter.from_files(files)
        else:
            converter = WhisperAudioConverter(num_mels=backbone.num_mels)
        if converter.num_mels != backbone.num_mels:
            raise ValueError(
                f"{FILE} of {files.location} has {converter.num_mels} mels, but the model reads "
                f"{backbone.num_mels}: the files are not of one checkpoint."
            )
        return converter

    def save_to_preset(self, preset_dir: Any) -> None:
        """Write weights, tokenizer, config and the preparation of recordings for transformers.

        Args:
            preset_dir: a folder, made if need be; `from_preset(preset_dir)` reads it again.
        """
        with replacing_folder(preset_dir) as folder:
            super().save_to_preset(folder)
            if self.preprocessor is not None:
                self.preprocessor.audio.save(folder)

    def read(
        self, audio: Any, name: str = "The audio", with_loudness: bool = False
    ) -> tuple[Any, np.ndarray | None]:
        """Read a recording of any length, without holding its samples.

        Args:
            audio: as for `hub.load_audio`.
            name: its name in error messages.
            with_loudness: whether to measure the loudness of the frames.

        Returns:
            A `LogMelReader`, whose frames are those of the recording without padding; and their
            loudness (frames,) in dB, or None.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: it cannot be read, or is empty.
        """
        converter = self._converter()
        reader, blocks = self.open_live(audio, name, converter.max_audio_length)

        def appended() -> Iterator[np.ndarray]:
            for block in blocks:
                reader.append(block)
                yield block

        if with_loudness:
            levels = loudness(appended(), converter.sampling_rate)
        else:
            levels = None
            collections.deque(appended(), maxlen=0)  # all of them, without keeping any
        reader.close()
        return reader, levels

    def open_live(
        self, audio: Any, name: str = "The audio", block_seconds: float = 0.1
    ) -> tuple[Any, Iterator[np.ndarray]]:
        """Return a `LogMelReader` without frames, and the blocks of samples to give to it.

        Args:
            audio: as for `hub.load_audio`, such as the chunks of live input; read as the blocks
                are asked for.
            name: its name in error messages.
            block_seconds: the length of a block.
        """
        converter = self._converter()
        # A frame needs as many samples.
        reader = converter.reader(min_samples=converter.num_fft_bins)
        return reader, read_blocks(audio, converter.sampling_rate, block_seconds, name=name)

    def features(self, audio: Any, truncation: bool | str = True) -> np.ndarray:
        """Return the spectrograms (batch, frames, mels) of recordings, cut to what is read at once.

        Args:
            audio: a recording, or a list of them.
            truncation: True, or "warn" for a warning where a recording is cut.
        """
        return self._converter()(audio, truncation=truncation)

    def _converter(self) -> Any:
        if self.preprocessor is None:
            raise ValueError(
                f"{type(self).__name__} has no preprocessor to read recordings with: make it by "
                "from_preset, or give it a preprocessor."
            )
        return self.preprocessor.audio
