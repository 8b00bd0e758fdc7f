"""Decoding of windows of speech: prompts, temperatures, and what tells a failed transcript.

The rules are those of Whisper's authors (Radford et al., 2022, arXiv:2212.04356, section 4.5): a
window is decoded again at a higher temperature where its text repeats itself or is unlikely, and
passes for silence where the model says so.
"""

import math
import numbers
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import keraslite as keras
from hub.generation.loop import Generator
from hub.generation.sampling import Sampling
from hub.speech.alignment import AlignedWord, align
from hub.speech.rules import TimestampRules
from hub.speech.special_tokens import SpecialTokens, as_ids
from keraslite import ops
from keraslite.scopes import predictor_of
from keraslite.training import CompiledFunctions, inference

_WIDTHS = (4, 64, 128)  # of prompts, beside the longest: few, since each is compiled
_ENCODED_AT_ONCE = 2  # windows: their 1,500 positions are enough for a product, and less memory
_SEEDS = 1 << 16  # between the draws at two temperatures
_THRESHOLDS = ("compression_ratio_threshold", "logprob_threshold", "no_speech_threshold")


def is_number(value: Any) -> bool:
    """Return whether a setting is a real number.

    >>> is_number(0.6), is_number(np.float32(2)), is_number("0.6"), is_number(float("nan"))
    (True, True, False, False)
    """
    return isinstance(value, numbers.Real) and not math.isnan(value)


@dataclass(frozen=True)
class DecodingOptions:
    """How windows are decoded.

    Attributes:
        task: "transcribe" or "translate".
        timestamps: whether times are predicted.
        temperatures: the first, and those tried after failures; 0 for the likeliest text.
        beam_size: the number of beams at temperature 0.
        patience: of the beam search, as of `hub.Sampling`.
        best_of: the number of texts that are drawn at other temperatures, of which the likeliest is
            taken.
        length_penalty: texts are compared by log-probability over length to this power.
        max_new_tokens: of a window; half the positions of the model by default.
        compression_ratio_threshold: a text that zlib shortens more than this has failed.
        logprob_threshold: a text whose tokens have a lower mean log-probability has failed.
        no_speech_threshold: a failed text is silence where that has a higher probability.
        seed: of the draws.
    """

    task: str = "transcribe"
    timestamps: bool = True
    temperatures: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    beam_size: int = 1
    patience: float = 1.0
    best_of: int = 5
    length_penalty: float = 1.0
    max_new_tokens: int | None = None
    compression_ratio_threshold: float | None = 2.4
    logprob_threshold: float | None = -1.0
    no_speech_threshold: float | None = 0.6
    seed: int = 0

    def __post_init__(self) -> None:
        temperatures = np.asarray(self.temperatures, dtype=object).ravel().tolist()
        if not temperatures or not all(is_number(t) and 0 <= t < np.inf for t in temperatures):
            raise ValueError(
                f"temperature must be one or several of 0 or more, got {self.temperatures!r}."
            )
        object.__setattr__(self, "temperatures", tuple(map(float, temperatures)))
        for name in ("patience", "length_penalty", *_THRESHOLDS):
            value = getattr(self, name)
            if not is_number(value) and not (value is None and name in _THRESHOLDS):
                wanted = "a number or None" if name in _THRESHOLDS else "a number"
                raise ValueError(f"{name} must be {wanted}, got {value!r}.")
        if not isinstance(self.seed, int | np.integer):
            raise ValueError(f"seed must be an integer, got {self.seed!r}.")
        for name in ("beam_size", "best_of", "max_new_tokens"):
            value = getattr(self, name)
            if name == "max_new_tokens" and value is None:
                continue
            if not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"{name} must be an integer, at least 1, got {value!r}.")


@dataclass(frozen=True)
class Window:
    """A part of a recording that is decoded at once.

    Attributes:
        features: (frames, mels).
        previous: tokens of the text before it.
        language: its code; None to detect it.
        recording: the number of its recording, whose windows have one language.
    """

    features: np.ndarray
    previous: tuple[int, ...] = ()
    language: str | None = None
    recording: int = 0


@dataclass(frozen=True)
class DecodingResult:
    """The text of a window.

    Attributes:
        tokens: its tokens and times, without the end.
        text: its text, without spaces at its ends.
        avg_logprob: the mean log-probability of the tokens, the end included.
        no_speech_prob: the probability that there is no speech.
        temperature: the temperature it was drawn at.
        compression_ratio: the number of its bytes over that after compression by zlib.
        language: its code.
        language_probability: None where it was not detected.
        encoder_output: of the window (1, frames / 2, width), for the alignment of words.
    """

    tokens: tuple[int, ...]
    text: str
    avg_logprob: float
    no_speech_prob: float
    temperature: float
    compression_ratio: float
    language: str
    language_probability: float | None = None
    encoder_output: Any = field(default=None, repr=False, compare=False)

    def has_failed(self, options: DecodingOptions) -> bool:
        """Return whether the window is to be decoded again at a higher temperature.

        Args:
            options: with the thresholds.
        """
        repeats = _exceeds(self.compression_ratio, options.compression_ratio_threshold)
        unlikely = _is_below(self.avg_logprob, options.logprob_threshold)
        silent = unlikely and _exceeds(self.no_speech_prob, options.no_speech_threshold)
        return (repeats or unlikely) and not silent

    def is_silence(self, options: DecodingOptions) -> bool:
        """Return whether the window has no speech and its text is to be dropped.

        Args:
            options: with the thresholds.
        """
        threshold = options.logprob_threshold
        likely = threshold is not None and self.avg_logprob > threshold
        return _exceeds(self.no_speech_prob, options.no_speech_threshold) and not likely


def _exceeds(value: float, threshold: float | None) -> bool:
    return threshold is not None and value > threshold


def _is_below(value: float, threshold: float | None) -> bool:
    return threshold is not None and value < threshold


def compression_ratio(text: str) -> float:
    """Return the number of bytes of a text over that after compression by zlib.

    Args:
        text: the text.

    >>> compression_ratio("a" * 100) > 8 > compression_ratio("A fox ran.")
    True
    """
    data = text.encode("utf-8")
    return len(data) / len(zlib.compress(data))


class WindowDecoder:
    """Decodes batches of windows with a model, and keeps what was compiled.

    Args:
        model: a task with a Whisper backbone, and `init_cache` and `decode_step` for
            `hub.generation.loop.Generator`, whose cache has the probability of silence as
            `shared/no_speech`.
        tokens: the special tokens.
        generator: that of the model.
    """

    def __init__(self, model: Any, tokens: SpecialTokens, generator: Generator):
        self.model, self.tokens, self.generator = model, tokens, generator
        self.functions = CompiledFunctions()

    def encode(self, features: Sequence[np.ndarray]) -> Any:
        """Return the encoder's output of windows (windows, frames / 2, width).

        Args:
            features: (frames, mels) of each, padded with zeros here.
        """
        length = self.model.backbone.max_encoder_sequence_length
        batch = np.zeros((self._rows(len(features)), length, features[0].shape[1]), "float32")
        for row, window in zip(batch, features, strict=False):
            row[: len(window)] = window
        predictor = predictor_of(self.model)
        with inference(self.model.backend):
            if predictor is not None:
                encoded = predictor.run("encoder", {"encoder_features": batch})
                return ops.convert_to_tensor(encoded["encoder_sequence_output"])
            parts = [
                self.functions.run(
                    self.model, self.model.backbone.encode, batch[i : i + _ENCODED_AT_ONCE]
                )
                for i in range(0, len(batch), _ENCODED_AT_ONCE)
            ]
            return ops.concatenate(parts, axis=0) if len(parts) > 1 else parts[0]

    def _rows(self, count: int) -> int:
        """Return the number of rows of a batch: where it is compiled, the next power of two."""
        compiled = keras.backend.compiles(self.model.backend)
        return 1 << (count - 1).bit_length() if compiled else count

    def language_probabilities(self, encoder_output: Any) -> list[dict[str, float]]:
        """Return the probability of each language for each window.

        Args:
            encoder_output: as `encode` returns it.

        Raises:
            ValueError: the model has no languages.
        """
        if not self.tokens.is_multilingual:
            raise ValueError(
                "The model is for English alone: languages are detected by multilingual ones."
            )
        codes, ids = zip(*self.tokens.languages, strict=True)
        with inference(self.model.backend):
            start = np.full((encoder_output.shape[0], 1), self.tokens.start, "int32")
            logits = self.functions.run(self.model, self._first_logits, encoder_output, start)
            logits = keras.ops.convert_to_numpy(ops.cast(logits, "float32"))[:, ids]
        logits = np.exp(logits - logits.max(axis=1, keepdims=True))
        rows = logits / logits.sum(axis=1, keepdims=True)
        return [dict(zip(codes, row.tolist(), strict=True)) for row in rows]

    def _first_logits(self, encoder_output: Any, token_ids: Any) -> Any:
        cache = self.model.init_cache({"encoder_output": encoder_output}, *token_ids.shape)
        mask = ops.ones_like(token_ids, "bool")
        return self.model.decode_step(token_ids, mask, cache, 0)[0]

    def __call__(
        self, windows: Sequence[Window], options: DecodingOptions, sampling: Sampling
    ) -> list[DecodingResult]:
        """Return the texts of windows; the same as of each alone, but for draws.

        Args:
            windows: of one or several recordings.
            options: how they are decoded.
            sampling: the tokens that end a text, that never come, and penalties.
        """
        encoded = self.encode([window.features for window in windows])
        languages = self._languages(windows, encoded)
        prompts = [
            self._prompt(window.previous, language, options)
            for window, (language, _) in zip(windows, languages, strict=True)
        ]
        results: list[Any] = [None] * len(windows)
        pending = list(range(len(windows)))
        for attempt, temperature in enumerate(options.temperatures):
            rows = self._take(encoded, pending)
            part = [prompts[i] for i in pending]
            seed = options.seed + attempt * _SEEDS
            decoded = self._decode(rows, part, options, sampling, temperature, seed)
            for i, (tokens, avg_logprob, no_speech) in zip(pending, decoded, strict=True):
                text = self.text(tokens).strip()
                results[i] = DecodingResult(
                    tokens, text, avg_logprob, no_speech, temperature, compression_ratio(text),
                    *languages[i], encoded[i : i + 1],
                )  # fmt: skip
            pending = [i for i in pending if results[i].has_failed(options)]
            if not pending:
                break
        return results

    def text(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens without times.

        Args:
            tokens: the tokens.
        """
        ordinary = [token for token in tokens if token < self.tokens.end]
        return self.model.preprocessor.tokenizer.detokenize(ordinary)

    def align(
        self, encoder_output: Any, text: Sequence[int], num_frames: int, language: str, task: str
    ) -> list[AlignedWord]:
        """Return the words of a window with their times.

        Args:
            encoder_output: of the window (1, frames / 2, width).
            text: its tokens, without times.
            num_frames: of the window that have sound.
            language: the code of the language.
            task: "transcribe" or "translate".
        """
        prompt = self.tokens.prompt(language, task, timestamps=False)
        row = [*prompt, *text, self.tokens.end]
        positions = self.model.backbone.max_decoder_sequence_length
        width = min(-(-len(row) // 32) * 32, positions)
        ids = np.full((1, width), self.tokens.end, "int32")
        ids[0, : len(row)] = row
        with inference(self.model.backend):
            out = self.functions.run(self.model, self._attention, encoder_output, ids)
            weights, probabilities = (keras.ops.convert_to_numpy(x)[0] for x in out)
        of_text = probabilities[len(prompt) - 1 :][: len(text)]
        tokenizer = self.model.preprocessor.tokenizer
        weights = weights[:, : len(row)]
        return align(weights, text, of_text, tokenizer, num_frames, len(prompt), language)

    def _attention(self, source: Any, ids: Any) -> tuple[Any, Any]:
        """Return the attention of the alignment heads, and the probabilities of next tokens."""
        backbone = self.model.backbone
        weights, hidden = backbone.cross_attention_weights(ids, source, self.model.alignment_heads)
        logits = ops.cast(backbone.logits(hidden)[:, :-1, : self.tokens.end], "float32")
        following = ops.minimum(ids[:, 1:], self.tokens.end - 1)
        chosen = ops.take_along_axis(logits, following[:, :, None], axis=2)[:, :, 0]
        return weights, ops.exp(chosen - ops.logsumexp(logits, axis=2))

    def _languages(self, windows: Sequence[Window], encoded: Any) -> list[tuple[str, float | None]]:
        """Return the language of each window, and its probability where it is detected."""
        if not self.tokens.is_multilingual:
            return [("en", None)] * len(windows)
        stated = [window.language for window in windows]
        if None not in stated:
            return [(language, None) for language in stated]
        probabilities = self.language_probabilities(encoded)
        languages = []
        for window in windows:
            if window.language is not None:
                languages.append((window.language, None))
                continue
            rows = [
                row
                for row, other in zip(probabilities, windows, strict=False)
                if other.recording == window.recording
            ]
            mean = {code: sum(row[code] for row in rows) / len(rows) for code in rows[0]}
            best = max(mean, key=mean.__getitem__)
            languages.append((best, mean[best]))
        return languages

    def _prompt(
        self, previous: Sequence[int], language: str, options: DecodingOptions
    ) -> tuple[int, ...]:
        """Return the tokens before those of a window."""
        prompt = self.tokens.prompt(language, options.task, options.timestamps)
        if not previous:
            return prompt
        return (self.tokens.previous, *previous[-self.previous_length() :], *prompt)

    def previous_length(self) -> int:
        """Return the number of tokens of the text before a window that a prompt holds."""
        return self.model.backbone.max_decoder_sequence_length // 2 - 1

    def _take(self, encoded: Any, rows: list[int]) -> Any:
        """Return rows of the encoder's output, the last one repeated up to a round number."""
        count = self._rows(len(rows))
        if rows == list(range(len(rows))) and count == encoded.shape[0]:
            return encoded
        index = np.array(rows + rows[-1:] * (count - len(rows)), "int32")
        with inference(self.model.backend):
            return ops.take(encoded, ops.convert_to_tensor(index), axis=0)

    def _decode(
        self, encoded: Any, prompts: list[tuple[int, ...]], options: DecodingOptions,
        sampling: Sampling, temperature: float, seed: int,
    ) -> list[tuple[tuple[int, ...], float, float]]:  # fmt: skip
        """Return tokens, mean log-probability and probability of silence of each prompt."""
        positions = self.model.backbone.max_decoder_sequence_length
        longest = max(map(len, prompts))
        width = next((w for w in _WIDTHS if w >= longest), -(-longest // 32) * 32)
        tokens = np.full((encoded.shape[0], width), self.tokens.end, "int32")
        mask = np.zeros(tokens.shape, bool)
        for i in range(len(tokens)):
            prompt = prompts[min(i, len(prompts) - 1)]
            tokens[i, width - len(prompt) :] = prompt
            mask[i, width - len(prompt) :] = True
        limit = options.max_new_tokens or positions // 2
        limits = [min(limit, positions - len(prompt)) for prompt in prompts]
        sampling = self._sampling(sampling, options, temperature)
        *_, last = self.generator(
            tokens, mask, {"encoder_output": encoded}, sampling, max(limits), self.tokens.end, seed,
            with_scores=True,
        )  # fmt: skip
        with inference(self.model.backend):
            silence = keras.ops.convert_to_numpy(last.cache["shared"]["no_speech"])
        decoded = []
        for row, limit in enumerate(limits):
            texts = [self._until_end(ids[:limit]) for ids in last.tokens[row]]
            sums = last.scores[row]
            if sampling.num_beams > 1:
                lengths = [min(len(text) + 1, limit) for text in texts]
                sums = sums * np.array(lengths) ** options.length_penalty
            ranks = [
                total / max(len(text), 1) ** options.length_penalty
                for total, text in zip(sums, texts, strict=True)
            ]
            best = 0 if sampling.num_beams > 1 else int(np.argmax(ranks))
            average = float(sums[best]) / (len(texts[best]) + 1)
            decoded.append((texts[best], average, float(silence[row])))
        return decoded

    def _until_end(self, ids: np.ndarray) -> tuple[int, ...]:
        ends = np.flatnonzero(ids == self.tokens.end)
        return as_ids(ids[: ends[0]] if len(ends) else ids)

    def _sampling(
        self, sampling: Sampling, options: DecodingOptions, temperature: float
    ) -> Sampling:
        """Return the settings of the loop at a temperature."""
        rules: tuple = ()
        if options.timestamps:
            latest = self.model.max_initial_timestamp_index
            rules = (TimestampRules(self.tokens.timestamp_begin, self.tokens.end, latest),)
        sampling = sampling.updated(rules=rules, eos_token_id=(self.tokens.end,))
        if temperature > 0:
            return sampling.updated(
                do_sample=True, temperature=temperature, top_k=0,
                num_return_sequences=options.best_of,
            )  # fmt: skip
        if options.beam_size == 1:
            return sampling
        return sampling.updated(
            num_beams=options.beam_size, patience=options.patience, early_stopping=True,
            length_penalty=options.length_penalty,
        )  # fmt: skip
