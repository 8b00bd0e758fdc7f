"""SpeechToText: the text of a recording, with the times of its parts and words."""

import contextlib
import functools
import itertools
import math
import numbers
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hub.families import Family
from hub.files import write_json
from hub.generation.sampling import Sampling
from hub.preprocessing.audio import audio_duration, is_live, is_single_audio
from hub.preprocessing.speech import COLUMNS, SpeechToTextPreprocessor
from hub.presets.files import PresetFiles
from hub.speech.alignment import default_alignment_heads
from hub.speech.decoding import DecodingOptions, WindowDecoder, is_number
from hub.speech.long_form import (
    Frames,
    LongFormOptions,
    Reading,
    Recording,
    SegmentStream,
    in_order,
    read_all,
    readings_of,
    with_progress,
)
from hub.speech.results import Segment, Transcription
from hub.speech.rules import TimestampRules
from hub.speech.special_tokens import TASKS, SpecialTokens, as_ids, complete_config, text_tokens
from hub.speech.voice_activity import FRAMES_PER_SECOND
from hub.speech.writers import STYLES, WRITERS, output_files, style_of
from hub.tasks.audio.audio_task import AudioTask
from hub.tasks.audio.speech_parts import SpeechParts
from hub.tasks.text.language_model import LanguageModel
from hub.tasks.text.text_task import text_preprocessor
from keraslite import ops
from keraslite.saving import replacing_folder

_GENERATION_CONFIG = "generation_config.json"
_RECORDINGS_AT_ONCE = 8  # one window of each
_PENALTIES = (
    "suppress_tokens", "begin_suppress_tokens", "repetition_penalty", "no_repeat_ngram_size",
)  # fmt: skip
_TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


class SpeechToText(SpeechParts, AudioTask, LanguageModel):
    """An encoder that reads a recording and a decoder that writes its text, in the language that is
    spoken or in English.

    `transcribe` reads recordings of any length. `fit` takes recordings and their texts. `generate`
    writes the text of at most 30 seconds, or of ready spectrograms.

    Args:
        backbone: a `WhisperBackbone`.
        preprocessor: a `SpeechToTextPreprocessor`; None if inputs are ready arrays.
        generation_config: the content of a generation_config.json: the special tokens and the
            tokens that never come; what it leaves out is taken from the tokenizer.
        sampling: how `generate` chooses tokens: a `hub.Sampling`.

    Example:
        >>> import hub
        >>> asr = hub.SpeechToText.from_preset("whisper_tiny_en")  # doctest: +SKIP
        >>> result = asr.transcribe("interview.mp3")  # doctest: +SKIP
        >>> result.text, result.segments[0].end  # doctest: +SKIP

        Without a checkpoint, on ready inputs:

        >>> backbone = hub.WhisperBackbone(9, 1, 2, hidden_dim=8, intermediate_dim=8)
        >>> tokens = {"decoder_start_token_id": 6, "eos_token_id": 5, "no_timestamps_token_id": 8}
        >>> model = hub.SpeechToText(backbone, generation_config=tokens)
        >>> features = np.zeros((1, 3000, 80), "float32")
        >>> out = model.generate(
        ...     {"encoder_features": features}, max_new_tokens=2, stop_token_ids=None
        ... )
        >>> out["token_ids"].shape
        (1, 4)
    """

    task = "SpeechToText"
    pipeline = "automatic-speech-recognition"
    family_aliases = ("",)
    transformers_class = "AutoModelForSpeechSeq2Seq"
    adapter_type = "SEQ_2_SEQ_LM"
    preprocessor_options = ()
    command_options = {
        "--language": {"help": "that is spoken, such as de; detected by default"},
        "--task": {
            "dest": "speech_task", "choices": TASKS, "default": "transcribe",
            "help": "of a recording: write what is said, or its translation into English",
        },
        "--format": {"choices": list(WRITERS), "help": "of a recording's text, in place of JSON"},
        "--output-dir": {
            "metavar": "DIR",
            "help": "for a file of each recording, called as it, in --format or in all formats",
        },
        "--word-timestamps": {"action": "store_true", "help": "find the times of words"},
        "--batch-size": {"type": int, "help": "windows of a recording that are read at once"},
        "--beam-size": {"type": int, "default": 1, "help": "beams of a recording's text"},
        "--initial-prompt": {"help": "a text that stands before a recording's"},
        "--progress": {"action": "store_true", "help": "show the seconds that are done"},
        "--max-line-width": {"type": int, "help": "characters of a line of srt and vtt"},
        "--max-line-count": {"type": int, "help": "lines of a subtitle of srt and vtt"},
        "--max-words-per-line": {"type": int, "help": "words of a subtitle of srt and vtt"},
        "--highlight-words": {"action": "store_true", "help": "underline words while spoken"},
    }  # fmt: skip

    def __init__(
        self, backbone: Any, preprocessor: Any = None,
        generation_config: Mapping[str, Any] | None = None, sampling: Any = None, **kwargs: Any,
    ):  # fmt: skip
        super().__init__(backbone, preprocessor, sampling, **kwargs)
        tokenizer = getattr(preprocessor, "tokenizer", None)
        self.generation_config = complete_config(generation_config or {}, tokenizer)
        if sampling is None:
            self.sampling = Sampling.from_config(self.generation_config)
        self.special_tokens = SpecialTokens.from_config(self.generation_config)
        heads = self.generation_config.get("alignment_heads") or default_alignment_heads(
            backbone.config["num_decoder_layers"], backbone.num_heads
        )
        self.alignment_heads = tuple((int(layer), int(head)) for layer, head in heads)
        self.max_initial_timestamp_index = self.generation_config.get("max_initial_timestamp_index")
        self._kl_decoder = WindowDecoder(self, self.special_tokens, self._kl_generator)
        if preprocessor is not None and not preprocessor.prompt:
            preprocessor.prompt = self.special_tokens.prompt(timestamps=False)
        self.built = True

    @classmethod
    def checkpoint_arguments(cls, files: Any, config: dict) -> dict[str, Any]:
        stated = files.json(_GENERATION_CONFIG) if _GENERATION_CONFIG in files else {}
        return {**super().checkpoint_arguments(files, config), "generation_config": stated}

    @classmethod
    def make_preprocessor(
        cls, files: PresetFiles, family: Family, backbone: Any, **options: Any
    ) -> Any:
        """Return the preprocessor of a checkpoint.

        Args:
            files: of the checkpoint.
            family: of the backbone.
            backbone: the backbone.
            options: none.
        """
        converter = cls.make_converter(files, family, backbone)
        make = functools.partial(SpeechToTextPreprocessor, converter)
        return text_preprocessor(make, files, family, backbone, None)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return logits (batch, length, vocabulary) of the decoder's next tokens."""
        outputs = self.backbone(inputs, training=training)
        return self.backbone.logits(outputs["decoder_sequence_output"])

    # -- for the generator --------------------------------------------------------------------

    def init_cache(self, inputs: Any, rows: int, length: int) -> Any:
        """Return a cache with the encoder's output.

        Args:
            inputs: `encoder_output`, or `encoder_features` to encode.
            rows: the number of texts.
            length: the number of positions.
        """
        source = inputs.get("encoder_output")
        if source is None:
            source = self.backbone.encode(inputs["encoder_features"])
        return self.backbone.new_cache(source, length)

    def decode_step(self, token_ids: Any, attention_mask: Any, cache: Any, index: Any) -> tuple:
        """Return the logits of the next token, hidden states, and the new cache.

        After a prompt the cache has the probability that there is no speech, `shared/no_speech`.

        Args:
            token_ids: (rows, new tokens).
            attention_mask: (rows, length): False where a prompt is padded.
            cache: as `init_cache` or this method returned it.
            index: the position of the first new token.
        """
        hidden, cache = self.backbone.call_with_cache(token_ids, attention_mask, cache, index)
        if "no_speech" in cache["shared"]:
            return self.backbone.logits(hidden[:, -1:])[:, 0], hidden, cache
        is_start = ops.cast(ops.equal(token_ids, self.special_tokens.start), "int32")
        at = ops.cast(ops.argmax(is_start, axis=1), "int32")
        first = ops.take_along_axis(hidden, at[:, None, None], axis=1)
        # Of both positions at once: the head is most of the work.
        logits = self.backbone.logits(ops.concatenate([first, hidden[:, -1:]], axis=1))
        of_start, logits = ops.cast(logits[:, 0], "float32"), logits[:, 1]
        silence = ops.softmax(of_start, axis=-1)[:, self.special_tokens.no_speech]
        cache = {**cache, "shared": {**cache["shared"], "no_speech": silence}}
        return logits, hidden, cache

    # -- recordings of any length -------------------------------------------------------------

    def transcribe(
        self,
        audio: Any,
        language: str | None = None,
        task: str = "transcribe",
        *,
        word_timestamps: bool = False,
        stream: bool = False,
        batch_size: int | None = None,
        temperature: float | Sequence[float] = _TEMPERATURES,
        beam_size: int = 1,
        patience: float = 1.0,
        best_of: int = 5,
        length_penalty: float = 1.0,
        max_new_tokens: int | None = None,
        initial_prompt: str | Sequence[int] | None = None,
        hotwords: str | None = None,
        condition_on_previous_text: bool = False,
        compression_ratio_threshold: float | None = 2.4,
        logprob_threshold: float | None = -1.0,
        no_speech_threshold: float | None = 0.6,
        clip_timestamps: Sequence[float] = (),
        hallucination_silence_threshold: float | None = None,
        seed: int = 0,
        verbose: int = 0,
        **settings: Any,
    ) -> Any:
        """Write the text of recordings of any length.

        Args:
            audio: a recording (a path, the bytes of a file, samples at 16 kHz, a pair of a rate and
                samples, blocks of samples), or a list of recordings.
            language: that is spoken: its code or its English name; detected by default.
            task: "transcribe", or "translate" into English.
            word_timestamps: whether to find the times of words.
            stream: return an iterator over the segments of a recording as they come. Blocks of
                samples (live input) are then read as they are needed: a segment comes as soon as
                its window is full.
            batch_size: None to read window by window, each from where the text before it ends; a
                number to read as many windows at once, which are cut at silences and do not know
                the text before them: faster.
            temperature: the temperatures to try until a text has not failed; 0 takes the likeliest
                tokens.
            beam_size: the number of beams at temperature 0.
            patience: with which the beam search waits for better texts (Kasai et al., 2022).
            best_of: the number of texts that are drawn at other temperatures.
            length_penalty: texts are compared by log-probability over length to this power.
            max_new_tokens: of a window; half the positions of the model by default.
            initial_prompt: a text, or tokens, before the first window; with `batch_size` before
                every one.
            hotwords: words that are likely to come, before every window.
            condition_on_previous_text: whether the text before a window is its prompt, as by
                default of its authors: wording is more even, but the text may get stuck in
                repetitions or lose sentences.
            compression_ratio_threshold: a text that zlib shortens more than this has failed.
            logprob_threshold: a text whose tokens have a lower mean log-probability has failed.
            no_speech_threshold: a text that has failed so, with a higher probability of silence
                than this, is left out.
            clip_timestamps: the start and the end of each part to read, in seconds, one after the
                other; the last end may be left out.
            hallucination_silence_threshold: with word timestamps: leave out unlikely words between
                silences of more seconds.
            seed: of the draws.
            verbose: 1 shows a progress bar in seconds of sound.
            settings: `suppress_tokens`, `begin_suppress_tokens`, `repetition_penalty` and
                `no_repeat_ngram_size`, as of `hub.Sampling`.

        Returns:
            A `hub.Transcription`, or a list of them; with `stream` an iterator of `hub.Segment`,
            whose `language`, `language_probability` and `duration` are what is known so far.

        Raises:
            TypeError: a setting has another name.
            ValueError: a recording cannot be read, the model does not have the language or the
                task, or a setting is out of range.
        """
        decoding = DecodingOptions(
            task=task, temperatures=temperature, beam_size=beam_size, patience=patience,
            best_of=best_of, length_penalty=length_penalty, max_new_tokens=max_new_tokens,
            compression_ratio_threshold=compression_ratio_threshold,
            logprob_threshold=logprob_threshold, no_speech_threshold=no_speech_threshold, seed=seed,
        )  # fmt: skip
        self.special_tokens.check_task(task)
        if language is not None or not self.special_tokens.is_multilingual:
            language = self.special_tokens.language_code("en" if language is None else language)
        is_count = isinstance(batch_size, int | np.integer) and batch_size >= 1
        if batch_size is not None and not is_count:
            raise ValueError(f"batch_size must be None or at least 1, got {batch_size!r}.")
        if hallucination_silence_threshold is not None:
            if not word_timestamps:
                raise ValueError("hallucination_silence_threshold needs word_timestamps=True.")
            if not is_number(hallucination_silence_threshold):
                raise ValueError(
                    "hallucination_silence_threshold must be a number of seconds or None, got "
                    f"{hallucination_silence_threshold!r}."
                )
        single = is_single_audio(audio)
        if stream and not single:
            raise ValueError("stream yields the segments of one recording, got several.")
        if stream and batch_size is not None and is_live(audio):
            raise ValueError(
                "Live input is read window by window: leave batch_size out, or read it to its end "
                "by hub.load_audio."
            )
        options = LongFormOptions(
            condition_on_previous_text=condition_on_previous_text,
            initial_prompt=self._prompt_text(initial_prompt),
            hotwords=self._prompt_text(hotwords), word_timestamps=word_timestamps,
            hallucination_silence_threshold=hallucination_silence_threshold,
            clips=_clips(clip_timestamps),
        )  # fmt: skip
        sampling = self._decoding_sampling(**settings)
        sources = {"The audio": audio}
        if not single:
            sources = {f"Audio {i}": source for i, source in enumerate(audio)}
        durations = [_stated_duration(source, name) for name, source in sources.items()]
        recordings = [Recording(i, language) for i in range(len(sources))]

        def opened() -> Iterator[Reading]:
            """Yield the readings of each recording, which is read when its turn comes."""
            for recording, (name, source) in zip(recordings, sources.items(), strict=True):
                if stream and is_live(source):
                    frames, levels = Frames(*self.open_live(source, name)), None
                else:
                    reader, levels = self.read(source, name, with_loudness=batch_size is not None)
                    recording.duration = reader.num_samples / self.preprocessor.audio.sampling_rate
                    frames = Frames(reader)
                yield from readings_of(
                    recording, frames, self._kl_decoder, options, decoding, levels
                )

        readings = list(opened()) if stream else opened()
        steps = read_all(readings, sampling, batch_size or _RECORDINGS_AT_ONCE)
        if verbose:
            total = 0 if None in durations else math.ceil(sum(durations))
            steps = with_progress(steps, total or None)
        if stream:
            return SegmentStream(in_order(steps, readings), recordings[0])
        parts: list[dict[int, list[Segment]]] = [{} for _ in recordings]
        for reading, new in steps:
            parts[reading.recording.number].setdefault(reading.number, []).extend(new)
        results = [
            Transcription.from_segments(
                [segment for _, segments in sorted(own.items()) for segment in segments],
                recording.language, recording.duration, recording.language_probability,
            )
            for recording, own in zip(recordings, parts, strict=True)
        ]  # fmt: skip
        return results[0] if single else results

    def detect_language(self, audio: Any) -> Any:
        """Return the probability of each language in the first 30 seconds, the likeliest first.

        Args:
            audio: a recording, or a list of them.

        Returns:
            A dict of codes and probabilities, or a list of them.

        Raises:
            ValueError: the model is for English alone, or a recording cannot be read.
        """
        features = self.features(audio)
        rows = self._kl_decoder.language_probabilities(self._kl_decoder.encode(features))
        rows = [dict(sorted(row.items(), key=lambda item: -item[1])) for row in rows]
        return rows[0] if is_single_audio(audio) else rows[: len(features)]

    def _decoding_sampling(self, **settings: Any) -> Sampling:
        """Return the settings of windows: the tokens that never come, and penalties."""
        unknown = sorted(set(settings) - set(_PENALTIES))
        if unknown:
            raise TypeError(
                f"transcribe has no settings {', '.join(unknown)}; besides its arguments it takes "
                f"{', '.join(_PENALTIES)}."
            )
        own = {name: getattr(self.sampling, name) for name in _PENALTIES[:2]}
        for name in own:
            if settings.get(name) is not None:
                settings[name] = self._token_ids(settings[name], name)
        return Sampling(**{**own, **settings})

    def _token_ids(self, ids: Any, name: str) -> tuple[int, ...]:
        """Return token ids as integers, if they are in the vocabulary."""
        size, row = self.backbone.vocabulary_size, np.asarray(ids)
        is_row = row.ndim == 1 and (row.dtype.kind in "iu" or not row.size)
        if not is_row or not ((row >= 0) & (row < size)).all():
            raise ValueError(f"{name} must be token ids from 0 to {size - 1}, got {ids!r}.")
        return as_ids(row)

    def _prompt_text(self, text: str | Sequence[int] | None) -> tuple[int, ...]:
        if text is None:
            return ()
        if not isinstance(text, str):
            return self._token_ids(text, "A prompt that is no text")
        if self.preprocessor is None:
            raise ValueError("A prompt must be tokens without a preprocessor, got a text.")
        return tuple(text_tokens(self.preprocessor.tokenizer, text))

    # -- at most 30 seconds -------------------------------------------------------------------

    def generate(
        self,
        inputs: Any,
        *args: Any,
        language: str | None = None,
        task: str = "transcribe",
        timestamps: bool = False,
        **settings: Any,
    ) -> Any:
        """Write the text of recordings of at most 30 seconds, or of spectrograms.

        Args:
            inputs: a recording, a list of recordings, spectrograms (batch, frames, mels), or a dict
                of `encoder_features` and perhaps `decoder_token_ids` to continue.
            args: as for `LanguageModel.generate`.
            language: that is spoken; detected by default.
            task: "transcribe", or "translate" into English.
            timestamps: whether times are predicted, which stand in the token ids.
            settings: as for `LanguageModel.generate`, such as `max_new_tokens`, `num_beams`,
                `return_ids` and `stream`.

        Returns:
            As of `LanguageModel.generate`: texts, or without a preprocessor a dict of arrays.

        Raises:
            ValueError: a recording cannot be read, or a setting is out of range.
        """
        single = False
        if not isinstance(inputs, Mapping):
            is_ready = len(getattr(inputs, "shape", ())) == 3
            single = not is_ready and is_single_audio(inputs)
            features = inputs if is_ready else self.features(inputs, truncation="warn")
            inputs = {"encoder_features": features}
        inputs = self._named_inputs({k: np.asarray(v) for k, v in inputs.items()})
        if "decoder_token_ids" not in inputs:
            prompts = self._language_prompts(inputs["encoder_features"], language, task, timestamps)
            inputs = {**inputs, "decoder_token_ids": prompts}
        if timestamps:
            rules = TimestampRules(
                self.special_tokens.timestamp_begin, self.special_tokens.end,
                self.max_initial_timestamp_index,
            )  # fmt: skip
            settings["rules"] = (*settings.get("rules", ()), rules)
        out = super().generate(inputs, *args, **settings)
        return self._first(out) if single else out

    def _first(self, out: Any) -> Any:
        """Return what `generate` gives for one recording, of what it gives for a list of one."""
        if isinstance(out, Iterator):
            return (pieces[0] for pieces in out)
        if isinstance(out, tuple):
            return tuple(map(self._first, out))
        return out if isinstance(out, dict) else out[0]

    def _language_prompts(
        self, features: Any, language: str | None, task: str, timestamps: bool
    ) -> np.ndarray:
        """Return the prompt of each spectrogram (batch, length)."""
        languages = [language] * len(features)
        if language is None and self.special_tokens.is_multilingual:
            rows = self._kl_decoder.language_probabilities(self._kl_decoder.encode(features))
            languages = [max(row, key=row.__getitem__) for row in rows[: len(features)]]
        prompts = [self.special_tokens.prompt(name, task, timestamps) for name in languages]
        return np.array(prompts, "int32")

    def _prompts(self, inputs: Any) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
        ids = np.asarray(inputs["decoder_token_ids"], "int32")
        mask = np.asarray(inputs.get("decoder_padding_mask", np.ones_like(ids))).astype(bool)
        features = np.asarray(inputs["encoder_features"], "float32")
        prompts = [row[kept] for row, kept in zip(ids, mask, strict=True)]
        return prompts, {"encoder_features": features}

    def _model_inputs(self, token_ids: Any, padding_mask: Any, extra: dict) -> dict[str, Any]:
        return {**extra, "decoder_token_ids": token_ids, "decoder_padding_mask": padding_mask}

    def _pad_id(self, sampling: Any) -> int:
        return self.special_tokens.end

    def _text(
        self, prompt: np.ndarray, new: np.ndarray, stops: list[str], strip_prompt: bool
    ) -> str:
        ordinary = new[new < self.special_tokens.end]
        return super()._text(prompt, ordinary, stops, True).strip()

    # -- training -----------------------------------------------------------------------------

    def fit(
        self, x: Any = None, y: Any = None, language: str | None = None, task: str = "transcribe",
        **kwargs: Any,
    ) -> Any:  # fmt: skip
        """Train on recordings of at most 30 seconds and their texts, or on ready inputs.

        Args:
            x: recordings, a list of pairs (recording, text), a dict of `audio` and `text`; or ready
                inputs.
            y: the texts, where x has none.
            language: of the recordings; English by default.
            task: "transcribe", or "translate" for texts in English.
            kwargs: as for `Model.fit`.
        """
        if self.preprocessor is not None:
            self.preprocessor.prompt = self.special_tokens.prompt(language, task, timestamps=False)
        return super().fit(x, y, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the logits of recordings with their texts, or of ready inputs.

        Args:
            x: a list of pairs (recording, text), a dict of `audio` and `text`; or ready inputs.
            args: as for `Model.predict`.
            kwargs: as for `Model.predict`.

        Raises:
            ValueError: recordings have no texts.
        """
        return super().predict(self._columns(x, None)[0], *args, **kwargs)

    def _columns(self, x: Any, y: Any) -> tuple[Any, Any]:
        return (x, y) if self.preprocessor is None else self.preprocessor.columns(x, y)

    def _takes(self, x: Any) -> bool:
        return isinstance(x, Mapping) and set(x) == COLUMNS

    # -- files and the command line -----------------------------------------------------------

    def save_to_preset(self, preset_dir: Any) -> None:
        """Write all that `from_preset` and transformers read, generation_config.json too.

        Args:
            preset_dir: a folder, made if need be.
        """
        with replacing_folder(preset_dir) as folder:
            super().save_to_preset(folder)
            write_json(folder / _GENERATION_CONFIG, self.generation_config)

    def config_json(self) -> dict[str, Any]:
        return {
            **super().config_json(), "decoder_start_token_id": self.special_tokens.start,
            "pad_token_id": self.generation_config.get("pad_token_id", self.special_tokens.end),
        }  # fmt: skip

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the task."""
        return {**super().get_config(), "generation_config": self.generation_config}

    def answers(self, inputs: list[str], options: Any) -> Iterator[Any]:
        """Yield the text of each recording: a dict, or the content of a file of `--format`."""
        files = output_files(inputs, options.output_dir, options.format)
        style = {name: getattr(options, name) for name in STYLES if getattr(options, name)}
        for name, paths in zip(inputs, files, strict=True):
            with contextlib.redirect_stdout(sys.stderr):  # of the progress: answers are printed
                result = self.transcribe(
                    name, options.language, options.speech_task,
                    word_timestamps=options.word_timestamps or bool(style),
                    batch_size=options.batch_size, beam_size=options.beam_size,
                    initial_prompt=options.initial_prompt, seed=options.seed,
                    verbose=options.progress,
                )  # fmt: skip
            for path in paths:
                result.save(path, **style_of(path.suffix[1:], style))
            if paths:
                yield {"text": result.text, "files": [str(path) for path in paths]}
            elif options.format:
                yield result.to_string(options.format, **style_of(options.format, style))
            else:
                yield result.to_dict()

    def workload(self, count: int) -> tuple[Any, int, str]:
        """Return the transcription of noise, its seconds, and the unit.

        Args:
            count: the number of windows of 30 seconds.
        """
        noise = np.random.default_rng(0).normal(0, 0.1, 480000 * count).astype("float32")
        settings = {"temperature": 0.0, "max_new_tokens": 32, "batch_size": count}
        return lambda: self.transcribe(noise, "en", **settings), 30 * count, "seconds"


def _clips(times: Sequence[float]) -> list[tuple[int, int | None]]:
    """Return the parts to read in frames."""
    seconds = np.asarray(times, dtype=object).ravel().tolist() or [0.0]
    is_time = [isinstance(t, numbers.Real) and 0 <= t < math.inf for t in seconds]
    if not all(is_time) or seconds != sorted(seconds):
        raise ValueError(
            f"clip_timestamps must be starts and ends in seconds, in order, got {times!r}."
        )
    frames = [round(float(t) * FRAMES_PER_SECOND) for t in seconds]
    return list(itertools.zip_longest(frames[::2], frames[1::2]))


def _stated_duration(source: Any, name: str) -> float | None:
    """Return the seconds of a recording by its header, after a look at it; None of streams."""
    return None if hasattr(source, "read") else audio_duration(source, name=name)
