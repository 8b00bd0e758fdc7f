"""Convert the generation config and the audio settings of KerasHub's Whisper presets.

KerasHub has Whisper's network, tokenizer and spectrograms, but nothing that decodes. The special
tokens are those of the tokenizer, the tokens that never come follow from its vocabulary.
"""

from pathlib import Path
from typing import Any

from hub.files import write_json
from hub.preprocessing.audio_converter import WhisperAudioConverter
from hub.presets.files import PresetFiles
from hub.speech.special_tokens import complete_config

_CONVERTER = "audio_converter.json"


def generation_config(source: PresetFiles, tokenizer: Any) -> dict[str, Any]:
    """Return the content of a generation_config.json.

    Args:
        source: the preset.
        tokenizer: that of the preset, as ours.
    """
    languages = source.json("tokenizer.json")["config"].get("language_tokens")
    return complete_config({"is_multilingual": bool(languages)}, tokenizer)


def read_converter(source: PresetFiles, num_mels: int) -> WhisperAudioConverter:
    """Return the converter of a preset; without one, that of its number of mels.

    Args:
        source: the preset.
        num_mels: what the model reads.

    Raises:
        ValueError: its settings are not supported, or are of another number of mels.
    """
    if _CONVERTER not in source:
        return WhisperAudioConverter(num_mels)
    config = source.json(_CONVERTER).get("config")
    if not isinstance(config, dict):
        raise ValueError(f"{_CONVERTER} of {source.location} has no 'config'.")
    names = WhisperAudioConverter().get_config()
    converter = WhisperAudioConverter(**{k: v for k, v in config.items() if k in names})
    if converter.num_mels != num_mels:
        raise ValueError(
            f"{_CONVERTER} of {source.location} has {converter.num_mels} mels, but the model reads "
            f"{num_mels}."
        )
    return converter


def write_speech_files(source: PresetFiles, model: Any, folder: Path) -> None:
    """Write the settings of generation and of recordings.

    Args:
        source: the preset.
        model: a `SpeechToText`.
        folder: of the new checkpoint.
    """
    read_converter(source, model.backbone.num_mels).save(folder)
    write_json(folder / "generation_config.json", model.generation_config)
