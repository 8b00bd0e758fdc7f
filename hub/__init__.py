"""Pretrained models behind preset names, on JAX, PyTorch, TensorFlow and NumPy."""

from hub import datasets
from hub.models import *
from hub.preprocessing import (
    CausalLMPreprocessor,
    MaskedLMPreprocessor,
    Seq2SeqLMPreprocessor,
    TextPreprocessor,
    TokenClassifierPreprocessor,
)
from hub.presets import list_presets
from hub.tasks import *
from hub.tokenizers import BytePairTokenizer, UnigramTokenizer, WordPieceTokenizer
