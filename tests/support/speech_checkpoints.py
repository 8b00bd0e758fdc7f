"""Tiny random checkpoints of Whisper with tokenizer and special tokens, for speech to text.

Their windows have two seconds, and each byte is a token.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers.pre_tokenizers import ByteLevel

import hub

SECONDS, FRAMES, RATE = 2, 200, 16000
LANGUAGES = ("en", "de", "fr")
_NAMES = ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")
NEW = 12  # tokens of a window


def tokens() -> dict[str, int]:
    """Return the vocabulary: bytes, special tokens, times."""
    words = [*sorted(ByteLevel.alphabet()), "<|endoftext|>", "<|startoftranscript|>"]
    words += [f"<|{name}|>" for name in (*LANGUAGES, *_NAMES)]
    words += [f"<|{0.02 * i:.2f}|>" for i in range(SECONDS * 50 + 1)]
    return {word: i for i, word in enumerate(words)}


def make(folder: Path, kind: str = "multilingual", num_mels: int = 80) -> Any:
    """Write a checkpoint and return the model of transformers."""
    ids = tokens()
    end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    config = transformers.WhisperConfig(
        vocab_size=len(ids), d_model=24, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=3, decoder_attention_heads=3, encoder_ffn_dim=32,
        decoder_ffn_dim=32, num_mel_bins=num_mels, max_source_positions=FRAMES // 2,
        max_target_positions=64, pad_token_id=end, bos_token_id=end, eos_token_id=end,
        decoder_start_token_id=start, attn_implementation="eager",
    )  # fmt: skip
    torch.manual_seed(8)
    model = transformers.WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embed_positions" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.25)
            if "encoder_attn.out_proj.weight" in name:  # texts depend on the sound
                parameter.mul_(6.0)
        # Texts end, and times are not all of what comes.
        embedding = model.model.decoder.embed_tokens.weight
        embedding[end] *= 1.5
        embedding[end + 2 + len(LANGUAGES) + len(_NAMES) :] *= 0.7
    # Of bytes, letters and the space alone are written.
    unreadable = [i for word, i in ids.items() if i < end and not word.isascii() and word != "Ġ"]
    stated = {
        "eos_token_id": end, "pad_token_id": end, "decoder_start_token_id": start,
        "no_timestamps_token_id": ids["<|notimestamps|>"],
        "prev_sot_token_id": ids["<|startofprev|>"],
        "suppress_tokens": [*unreadable, start, *(ids[f"<|{name}|>"] for name in _NAMES[:5])],
        "begin_suppress_tokens": [220, end], "max_initial_timestamp_index": 10,
        "is_multilingual": kind == "multilingual", "return_timestamps": False,
        "alignment_heads": [[0, 1], [1, 0], [1, 2]],
    }  # fmt: skip
    if kind == "multilingual":
        stated["lang_to_id"] = {f"<|{code}|>": ids[f"<|{code}|>"] for code in LANGUAGES}
        stated["task_to_id"] = {task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")}
    model.generation_config = transformers.GenerationConfig(**stated)
    model.save_pretrained(folder)
    plain = {word: i for word, i in ids.items() if i <= end}
    added = {word: i for word, i in ids.items() if i > end}
    hub.WhisperTokenizer(plain, [], added).save(folder)
    converter = hub.WhisperAudioConverter(num_mels=num_mels, max_audio_length=SECONDS)
    converter.save(folder)
    return model


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    """Return noise of a changing loudness, float32 (samples,)."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    loudness = 0.05 + 0.1 * np.sin(2 * np.pi * generator.uniform(0.3, 2) * time) ** 2
    tone = np.sin(2 * np.pi * generator.uniform(200, 900) * time)
    return (loudness * (tone + generator.normal(size=len(time)))).astype("float32")


def spectrogram(samples: np.ndarray, num_mels: int = 80) -> torch.Tensor:
    """Return what transformers makes of a recording (1, mels, frames), neither cut nor padded."""
    extractor = transformers.WhisperFeatureExtractor(num_mels, chunk_length=SECONDS)
    out = extractor(
        samples, sampling_rate=RATE, return_tensors="pt", truncation=False, padding="longest"
    )
    return out.input_features
