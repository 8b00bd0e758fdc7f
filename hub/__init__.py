"""Pretrained models behind preset names, on JAX, PyTorch, TensorFlow and NumPy."""

from hub import datasets
from hub.image_preprocessing import ImagePreprocessor, ImageTextPreprocessor
from hub.models import *
from hub.preprocessing import (
    CausalLMPreprocessor,
    MaskedLMPreprocessor,
    Seq2SeqLMPreprocessor,
    TextPreprocessor,
    TokenClassifierPreprocessor,
)
from hub.presets import list_presets
from hub.presets.about import info
from hub.presets.publishing import model_card, upload_preset
from hub.sampling import Sampling
from hub.tasks import *
from hub.tasks.registry import load
from hub.tokenizers import BytePairTokenizer, CLIPTokenizer, UnigramTokenizer, WordPieceTokenizer
