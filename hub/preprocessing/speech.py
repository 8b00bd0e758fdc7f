"""Preprocessing of recordings with their texts, for models that write what they hear."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

import keraslite as keras
from hub.preprocessing.audio import is_single_audio
from hub.preprocessing.text import bucket, is_text

COLUMNS = {"audio", "text"}


@keras.saving.register_keras_serializable("hub")
class SpeechToTextPreprocessor:
    """A preprocessor from recordings and their texts to inputs and next tokens.

    Args:
        audio: a converter such as `hub.WhisperAudioConverter`.
        tokenizer: a tokenizer of `hub.tokenizers`.
        sequence_length: the maximum number of tokens, those of the prompt included.
        prompt: the tokens that a text begins with.
        end_token_id: the token that ends a text; the tokenizer's "eos_token" by default.
        augment: a function of spectrograms (batch, frames, mels) for training, such as
            `hub.preprocessing.spec_augment.spec_augment`; it is not saved.

    Raises:
        ValueError: the prompt leaves no room for a text.

    Example:
        >>> import hub
        >>> asr = hub.SpeechToText.from_preset("whisper_tiny_en")  # doctest: +SKIP
        >>> inputs, labels, weights = asr.preprocessor(["a.wav"], ["A fox."])  # doctest: +SKIP
        >>> inputs["encoder_features"].shape  # doctest: +SKIP
        (1, 3000, 80)
    """

    def __init__(
        self, audio: Any, tokenizer: Any, sequence_length: int = 448, prompt: Sequence[int] = (),
        end_token_id: int | None = None, augment: Any = None,
    ):  # fmt: skip
        self.audio, self.tokenizer, self.augment = audio, tokenizer, augment
        if sequence_length <= len(prompt):
            raise ValueError(
                f"sequence_length must be more than the {len(prompt)} tokens of the prompt, got "
                f"{sequence_length}."
            )
        self.sequence_length, self.prompt = sequence_length, tuple(int(i) for i in prompt)
        if end_token_id is None:
            end_token_id = tokenizer.token_to_id(tokenizer.special_tokens["eos_token"])
        self.end_token_id = end_token_id

    def columns(self, x: Any, y: Any = None) -> tuple[Any, Any]:
        """Return recordings and texts as a dict of two columns, and y; other inputs unchanged.

        Args:
            x: recordings, a list of pairs (recording, text), or a dict of `audio` and `text`.
            y: the texts, where x has none.

        Raises:
            ValueError: there are no texts, their number is not that of the recordings, one is
                missing, or a dict has other names.
        """
        if isinstance(x, Mapping):
            if "encoder_features" in x:
                return x, y
            if set(x) != COLUMNS:
                raise ValueError(f"Expected the columns audio and text, got {sorted(x)}.")
            x, y = x["audio"], x["text"]
        elif y is None and isinstance(x, list) and x and all(map(_is_pair, x)):
            x, y = [audio for audio, _ in x], [text for _, text in x]
        elif not is_text(y):
            if isinstance(x, str | list):
                raise ValueError(
                    "Recordings must have texts: a list of pairs (recording, text), or texts as y. "
                    "`transcribe` and `generate` write the texts of recordings."
                )
            return x, y
        is_column = isinstance(x, np.ndarray) and x.dtype.kind == "O"  # of a batch
        rows = list(x) if is_column or not is_single_audio(x) else [x]
        texts = [y] if isinstance(y, str) else list(y)
        if len(rows) != len(texts):
            raise ValueError(f"{len(rows)} recordings but {len(texts)} texts.")
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise ValueError(f"Text {i} must be a string, got {text!r}.")
        audio = np.empty(len(rows), dtype=object)  # not one array of them all
        for i, row in enumerate(rows):
            audio[i] = row
        return {"audio": audio, "text": texts}, None

    def __call__(self, x: Any, y: Any = None, sample_weight: Any = None) -> tuple:
        """Return (inputs of encoder and decoder, the next tokens, weights: 0 on padding).

        Args:
            x: as for `columns`.
            y: as for `columns`.
            sample_weight: weights of the texts.
        """
        x, _ = self.columns(x, y)
        features = self.audio(list(x["audio"]), truncation="warn")
        if self.augment is not None:
            features = self.augment(features)
        rows = [self.token_ids(text) for text in x["text"]]
        length = bucket(max(map(len, rows)) - 1, self.sequence_length)
        ids = np.full((len(rows), length + 1), self.end_token_id, "int32")
        weights = np.zeros((len(rows), length), "float32")
        padding_mask = np.zeros((len(rows), length), bool)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
            padding_mask[i, : len(row) - 1] = True
            weights[i, len(self.prompt) - 1 : len(row) - 1] = 1.0
        if sample_weight is not None:
            weights = weights * np.asarray(sample_weight, "float32").reshape(-1, 1)
        inputs = {
            "encoder_features": features, "decoder_token_ids": ids[:, :-1],
            "decoder_padding_mask": padding_mask,
        }  # fmt: skip
        return inputs, ids[:, 1:], weights

    def token_ids(self, text: str) -> list[int]:
        """Return the tokens of prompt, text and end.

        Args:
            text: the text.
        """
        tokens = self.tokenizer.tokenize(" " + text.strip())
        ids = [*self.prompt, *map(self.tokenizer.token_to_id, tokens)]
        return [*ids[: self.sequence_length], self.end_token_id]

    def get_config(self) -> dict[str, Any]:
        """Return the arguments, the whole tokenizer among them."""
        serialize = keras.saving.serialize_keras_object
        return {
            "audio": serialize(self.audio), "tokenizer": self.tokenizer.serialized(),
            "sequence_length": self.sequence_length, "prompt": list(self.prompt),
            "end_token_id": self.end_token_id,
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return the preprocessor of a config.

        Args:
            config: what `get_config` returned.
        """
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("audio", "tokenizer")
        }
        return cls(**{**config, **parts})


def _is_pair(x: Any) -> bool:
    return isinstance(x, tuple) and len(x) == 2 and isinstance(x[1], str)
