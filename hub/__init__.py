"""Pretrained models behind preset names, on JAX, PyTorch, TensorFlow and NumPy.

Names are imported when they are asked for: `import hub` loads nothing else, and takes as long when
there are sixty architectures.
"""

import importlib
import importlib.util
from typing import Any

# Where the names are that are no backbones and no tasks.
_MODULES = {
    "hub.detection.metrics": (
        "BoxCOCOMetrics", "DetectionConfusionMatrix", "MeanAveragePrecision",
    ),
    "hub.detection.results": ("Detection", "Results"),
    "hub.diffusion.schedulers": ("Scheduler",),
    "hub.generation.sampling": ("Sampling",),
    "hub.preprocessing.audio": ("load_audio",),
    "hub.preprocessing.audio_converter": ("AudioConverter", "WhisperAudioConverter"),
    "hub.preprocessing.speech": ("SpeechToTextPreprocessor",),
    "hub.preprocessing.detection_augment": ("DetectionAugment",),
    "hub.preprocessing.detection_data": ("DetectionDataset",),
    "hub.preprocessing.image": ("ImagePreprocessor", "ImageTextPreprocessor"),
    "hub.preprocessing.image_folder": ("ImageFolder",),
    "hub.preprocessing.letterbox": ("DetectionPreprocessor",),
    "hub.preprocessing.segmentation": ("SegmentationPreprocessor",),
    "hub.preprocessing.text": (
        "CausalLMPreprocessor", "MaskedLMPreprocessor", "Seq2SeqLMPreprocessor",
        "TextPreprocessor", "TokenClassifierPreprocessor",
    ),
    "hub.convert.kerashub_export": ("export_to_kerashub",),
    "hub.presets.about": ("info",),
    "hub.presets.table": ("list_presets",),
    "hub.segmentation.results": ("GeneratedMasks", "Masks"),
    "hub.speech.metrics": ("CharacterErrorRate", "WordErrorRate"),
    "hub.speech.results": ("Segment", "Transcription", "Word"),
    "hub.tasks.image.embedded_image": ("EmbeddedImage", "EmbeddedImages"),
    "hub.tasks.publishing": ("model_card", "upload_preset"),
    "hub.tasks.registry": ("load",),
    "hub.tokenizers": (
        "BytePairTokenizer", "CLIPTokenizer", "Tokenizer", "UnigramTokenizer",
        "WhisperTokenizer", "WordPieceTokenizer",
    ),
}  # fmt: skip
# Modules whose classes may be built of a config.
_CONFIGURABLE = (
    "hub.detection.metrics", "hub.preprocessing.", "hub.speech.metrics", "hub.tokenizers",
)  # fmt: skip
_PLACES = {name: module for module, names in _MODULES.items() for name in names}


def find_registered_object(name: str) -> Any:
    """Return the class of a name in a config: a backbone, tokenizer, metric, task ... or None."""
    from hub.families import backbones
    from hub.tasks.registry import class_named

    if name in backbones():
        return getattr(importlib.import_module(backbones()[name]), name)
    if _PLACES.get(name, "").startswith(_CONFIGURABLE):
        return getattr(importlib.import_module(_PLACES[name]), name)
    return class_named(name)


def _public_names() -> list[str]:
    from hub.families import backbones
    from hub.tasks.registry import class_names

    return sorted({*_PLACES, *backbones(), *class_names(), "datasets"})


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return _public_names()
    value = None
    if name == "__version__":
        value = importlib.import_module("keraslite").__version__
    elif name in _PLACES:
        value = getattr(importlib.import_module(_PLACES[name]), name)
    elif name[:1].isupper():
        value = find_registered_object(name)
    elif not name.startswith("_") and importlib.util.find_spec(f"hub.{name}"):
        value = importlib.import_module(f"hub.{name}")
    if value is None:
        raise AttributeError(f"module 'hub' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return ["__version__", *_public_names()]
