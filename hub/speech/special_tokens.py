"""Whisper's special tokens: what a prompt says of language and task, and the times in a text."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# The names of the languages by the codes in their tokens.
_LANGUAGES = (
    "en english, zh chinese, de german, es spanish, ru russian, ko korean, fr french, ja japanese, "
    "pt portuguese, tr turkish, pl polish, ca catalan, nl dutch, ar arabic, sv swedish, "
    "it italian, id indonesian, hi hindi, fi finnish, vi vietnamese, he hebrew, uk ukrainian, "
    "el greek, ms malay, cs czech, ro romanian, da danish, hu hungarian, ta tamil, no norwegian, "
    "th thai, ur urdu, hr croatian, bg bulgarian, lt lithuanian, la latin, mi maori, ml malayalam, "
    "cy welsh, sk slovak, te telugu, fa persian, lv latvian, bn bengali, sr serbian, "
    "az azerbaijani, sl slovenian, kn kannada, et estonian, mk macedonian, br breton, eu basque, "
    "is icelandic, hy armenian, ne nepali, mn mongolian, bs bosnian, kk kazakh, sq albanian, "
    "sw swahili, gl galician, mr marathi, pa punjabi, si sinhala, km khmer, sn shona, yo yoruba, "
    "so somali, af afrikaans, oc occitan, ka georgian, be belarusian, tg tajik, sd sindhi, "
    "gu gujarati, am amharic, yi yiddish, lo lao, uz uzbek, fo faroese, ht haitian creole, "
    "ps pashto, tk turkmen, nn nynorsk, mt maltese, sa sanskrit, lb luxembourgish, my myanmar, "
    "bo tibetan, tl tagalog, mg malagasy, as assamese, tt tatar, haw hawaiian, ln lingala, "
    "ha hausa, ba bashkir, jw javanese, su sundanese, yue cantonese"
)
LANGUAGES: dict[str, str] = dict(pair.split(" ", 1) for pair in _LANGUAGES.split(", "))
_OTHER_NAMES = {
    "burmese": "my", "valencian": "ca", "flemish": "nl", "haitian": "ht", "letzeburgesch": "lb",
    "pushto": "ps", "panjabi": "pa", "moldavian": "ro", "moldovan": "ro", "sinhalese": "si",
    "castilian": "es", "mandarin": "zh",
}  # fmt: skip
_CODES = {name: code for code, name in LANGUAGES.items()} | _OTHER_NAMES
TASKS = ("transcribe", "translate")
_SYMBOLS = (
    '" # ( ) * + / : ; < = > @ [ \\ ] ^ _ ` { | } ~ 「 」 『 』 << >> <<< >>> -- --- -( -[ (\' (" '
    "(( )) ((( ))) [[ ]] {{ }} ♪♪ ♪♪♪"
)
_NOTES = "♩♪♫♬♭♮♯"  # of which the first token is enough, where they have several


@dataclass(frozen=True)
class SpecialTokens:
    """The ids of Whisper's special tokens.

    Attributes:
        start: <|startoftranscript|>, with which a prompt begins.
        end: <|endoftext|>; all ordinary tokens are below.
        no_timestamps: <|notimestamps|>; the tokens of times follow it, 20 ms apart.
        no_speech: <|nospeech|>, whose probability after `start` is that of silence.
        previous: <|startofprev|>, before the text of the window before; None without it.
        languages: (code, id) of the languages; none in a model for English alone.
        tasks: (name, id) of "transcribe" and "translate".

    >>> tokens = SpecialTokens.from_config({
    ...     "decoder_start_token_id": 6, "eos_token_id": 5, "no_timestamps_token_id": 12,
    ...     "lang_to_id": {"<|de|>": 7}, "task_to_id": {"transcribe": 9, "translate": 8},
    ... })
    >>> tokens.prompt("german", "translate"), tokens.timestamp_begin
    ((6, 7, 8), 13)
    """

    start: int
    end: int
    no_timestamps: int
    no_speech: int
    previous: int | None = None
    languages: tuple[tuple[str, int], ...] = ()
    tasks: tuple[tuple[str, int], ...] = ()

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "SpecialTokens":
        """Return the tokens that a generation_config.json names.

        Args:
            config: its content, complete as `complete_config` returns it.

        Raises:
            ValueError: a token is missing.
        """
        names = ("decoder_start_token_id", "eos_token_id", "no_timestamps_token_id")
        missing = [name for name in names if config.get(name) is None]
        if missing:
            raise ValueError(
                f"The special tokens of Whisper must be in generation_config.json or in the "
                f"tokenizer: {', '.join(missing)} is in neither."
            )
        start, end, no_timestamps = (config[name] for name in names)
        languages = (config.get("lang_to_id") or {}).items()
        return cls(
            start=start,
            end=end[0] if isinstance(end, list) else end,
            no_timestamps=no_timestamps,
            no_speech=no_timestamps - 1,
            previous=config.get("prev_sot_token_id"),
            languages=tuple((name.strip("<|>"), i) for name, i in languages),
            tasks=tuple((config.get("task_to_id") or {}).items()),
        )

    @property
    def is_multilingual(self) -> bool:
        """Whether a prompt names a language and a task."""
        return bool(self.languages)

    @property
    def timestamp_begin(self) -> int:
        """The token of the time 0."""
        return self.no_timestamps + 1

    def language_code(self, language: str) -> str:
        """Return the code of a language of the model.

        Args:
            language: its code, its English name or its token, such as "de", "German", "<|de|>".

        Raises:
            ValueError: the model does not have it.
        """
        name = str(language).strip("<|> ").lower()
        code = _CODES.get(name, name)
        codes = [code for code, _ in self.languages] or ["en"]
        if code not in codes:
            raise ValueError(f"language must be one of {', '.join(codes)}, got {language!r}.")
        return code

    def check_task(self, task: str) -> None:
        """Raise ValueError if the model cannot do a task.

        Args:
            task: "transcribe" or "translate".
        """
        if task not in TASKS:
            raise ValueError(f"task must be one of {', '.join(TASKS)}, got {task!r}.")
        if task not in dict(self.tasks) and (self.is_multilingual or task != "transcribe"):
            raise ValueError(
                f"task must be 'transcribe' for a model for English alone, got {task!r}: "
                "translation needs a multilingual checkpoint."
            )

    def prompt(
        self, language: str | None = None, task: str = "transcribe", timestamps: bool = True
    ) -> tuple[int, ...]:
        """Return the tokens that a transcript begins with.

        Args:
            language: as for `language_code`; English by default.
            task: "transcribe" or "translate".
            timestamps: whether times are predicted.

        Raises:
            ValueError: the model does not have the language or the task.
        """
        self.check_task(task)
        code = self.language_code("en" if language is None else language)
        named = (dict(self.languages)[code], dict(self.tasks)[task]) if self.is_multilingual else ()
        return (self.start, *named, *(() if timestamps else (self.no_timestamps,)))


def complete_config(config: Mapping[str, Any], tokenizer: Any) -> dict[str, Any]:
    """Return a generation_config.json with what only the tokenizer says of its special tokens.

    Args:
        config: its content, empty for checkpoints without one.
        tokenizer: a tokenizer of `hub.tokenizers`; None for none.
    """
    if tokenizer is None:
        return dict(config)
    ids = {token: i for i, token in enumerate(tokenizer.get_vocabulary())}
    # English models have the tokens of languages too, and one ordinary token less.
    multilingual = config.get("is_multilingual", len(ids) >= 51865)
    languages = {f"<|{code}|>": ids[f"<|{code}|>"] for code in LANGUAGES if f"<|{code}|>" in ids}
    stated = {
        "decoder_start_token_id": ids.get("<|startoftranscript|>"),
        "eos_token_id": ids.get("<|endoftext|>"),
        "no_timestamps_token_id": ids.get("<|notimestamps|>"),
        "prev_sot_token_id": ids.get("<|startofprev|>"),
        "is_multilingual": multilingual,
    }
    if multilingual:
        stated["lang_to_id"] = languages
        stated["task_to_id"] = {task: ids[f"<|{task}|>"] for task in TASKS if f"<|{task}|>" in ids}
    if "suppress_tokens" not in config:
        stated["suppress_tokens"] = non_speech_tokens(tokenizer, ids)
        stated["begin_suppress_tokens"] = [*_encode(tokenizer, " ")[:1], ids.get("<|endoftext|>")]
        stated["max_initial_timestamp_index"] = 50
    given = {name: value for name, value in config.items() if value is not None}
    return {name: value for name, value in stated.items() if value is not None} | given


def non_speech_tokens(tokenizer: Any, ids: Mapping[str, int]) -> list[int]:
    """Return the tokens that no speech has: brackets, notes, and those of a prompt.

    Args:
        tokenizer: a tokenizer of `hub.tokenizers`.
        ids: its vocabulary.
    """
    tokens = {i for text in (" -", " '") for i in _whole(tokenizer, text)[:1]}
    for symbol in [*_SYMBOLS.split(), *_NOTES]:
        for text in (symbol, f" {symbol}"):
            row = _whole(tokenizer, text)
            if len(row) == 1 or symbol in _NOTES:
                tokens |= set(row[:1])
    names = ("startoftranscript", *TASKS, "startoflm", "startofprev", "nospeech", "nocaptions")
    tokens |= {ids[f"<|{name}|>"] for name in names if f"<|{name}|>" in ids}
    return sorted(tokens)


def _encode(tokenizer: Any, text: str) -> list[int]:
    return [tokenizer.token_to_id(token) for token in tokenizer.tokenize(text)]


def _whole(tokenizer: Any, text: str) -> list[int]:
    """Return the tokens of a text; none where the vocabulary lacks some of its bytes."""
    length = sum(map(len, tokenizer.tokenize(text)))  # a letter of a token is a byte
    return _encode(tokenizer, text) if length == len(text.encode()) else []


def text_tokens(tokenizer: Any, text: str) -> list[int]:
    """Return the tokens of a text that stands before a transcript, without special ones.

    Args:
        tokenizer: a tokenizer of `hub.tokenizers`.
        text: the text.
    """
    return _encode(tokenizer, " " + re.sub(r"<\|[^|]*\|>", "", text).strip())


def as_ids(ids: Iterable[int]) -> tuple[int, ...]:
    """Return ids as integers of Python, which can be compared and saved as JSON.

    >>> as_ids(np.array([1, 2]))
    (1, 2)
    """
    return tuple(int(i) for i in ids)
