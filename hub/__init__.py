"""Pretrained models behind preset names, on JAX, PyTorch, TensorFlow and NumPy."""

from hub import datasets
from hub.generation.sampling import Sampling
from hub.models import *
from hub.preprocessing.image import ImagePreprocessor, ImageTextPreprocessor
from hub.preprocessing.text import (
    CausalLMPreprocessor,
    MaskedLMPreprocessor,
    Seq2SeqLMPreprocessor,
    TextPreprocessor,
    TokenClassifierPreprocessor,
)
from hub.presets import list_presets
from hub.presets.about import info
from hub.presets.publish import model_card, upload_preset
from hub.tasks import *
from hub.tasks.registry import load
from hub.tokenizers import BytePairTokenizer, CLIPTokenizer, UnigramTokenizer, WordPieceTokenizer
