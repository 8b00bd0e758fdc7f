"""Tokenizers: thin classes over the `tokenizers` library, one for each model type."""

from hub.tokenizers.byte_pair import BytePairTokenizer
from hub.tokenizers.clip import CLIPTokenizer
from hub.tokenizers.tokenizer import Tokenizer
from hub.tokenizers.unigram import UnigramTokenizer
from hub.tokenizers.whisper import WhisperTokenizer
from hub.tokenizers.wordpiece import WordPieceTokenizer

__all__ = [
    "BytePairTokenizer", "CLIPTokenizer", "Tokenizer", "UnigramTokenizer", "WhisperTokenizer",
    "WordPieceTokenizer",
]  # fmt: skip
