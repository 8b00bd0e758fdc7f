"""Tokenizers of the `tokenizers` library, which is imported when one is made or read."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hub.presets import PresetFiles
from hub.tokenizers.sentencepiece import SentencePieceModel

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def build_wordpiece(
    vocabulary: dict[str, int],
    unk_token: str,
    lowercase: bool,
    strip_accents: bool | None,
    tokenize_chinese_chars: bool,
) -> "Tokenizer":
    """Return the library's WordPiece as BERT uses it, from tokens and their ids."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    core = Tokenizer(
        models.WordPiece(vocabulary, unk_token=unk_token, max_input_chars_per_word=100)
    )
    core.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=tokenize_chinese_chars,
        strip_accents=strip_accents,
        lowercase=lowercase,
    )
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece(prefix="##")
    return core


def read_tokenizer(files: PresetFiles, model_types: tuple[str, ...]) -> "Tokenizer":
    """Return the tokenizer in tokenizer.json, with its padding and truncation switched off.

    Args:
        files: a checkpoint that has a tokenizer.json.
        model_types: the classes that its model can have, such as "WordPiece".

    Raises:
        ValueError: the file is damaged, or holds another model.
    """
    from tokenizers import Tokenizer

    text = files.text("tokenizer.json")
    try:
        core = Tokenizer.from_str(text)
    except Exception as error:  # the library raises nothing more specific
        raise ValueError(f"tokenizer.json of {files.location} is damaged: {error}") from error
    actual = type(core.model).__name__
    if actual not in model_types:
        raise ValueError(
            f"tokenizer.json of {files.location} must be a {' or '.join(model_types)}, got a "
            f"{actual}"
        )
    core.no_padding()
    core.no_truncation()
    return core


def build_byte_pair(
    vocabulary: dict[str, int], merges: list[tuple[str, str]], add_prefix_space: bool
) -> "Tokenizer":
    """Return the library's byte-level BPE as GPT-2 uses it, from tokens and merges."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    core = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    core.decoder = decoders.ByteLevel()
    core.post_processor = processors.ByteLevel(trim_offsets=False)
    return core


def build_clip(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> "Tokenizer":
    """Return the library's BPE as CLIP uses it: lower case, words that end in `</w>`."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    core = Tokenizer(
        models.BPE(
            vocab=vocabulary, merges=merges, continuing_subword_prefix="", fuse_unk=False,
            end_of_word_suffix="</w>", unk_token="<|endoftext|>",
        )
    )  # fmt: skip
    core.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    core.decoder = clip_decoder()
    return core


def clip_decoder() -> Any:
    """Return the decoder of CLIP's words; the published tokenizer.json has that of bytes alone."""
    from tokenizers import decoders

    return decoders.Sequence(
        [decoders.ByteLevel(), decoders.Replace("</w>", " "), decoders.Strip(" ", 0, 1)]
    )


def build_sentencepiece(
    model: SentencePieceModel, clean: tuple[bool, bool] | None = None, by_word: bool = True
) -> "Tokenizer":
    """Return the library's unigram or BPE model with the normalisation of SentencePiece.

    Args:
        model: the content of a `.model` file.
        clean: (lowercase, keep_accents) for the normalisation of ALBERT, else None.
        by_word: whether texts are split at spaces, as in transformers' tokenizers of T5, ALBERT and
            XLM-RoBERTa; else spaces are treated as the model says.
    """
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
    )

    pieces, fallback = list(model.pieces), model.byte_fallback
    if model.algorithm == "bpe":
        vocabulary = {piece: i for i, (piece, _) in enumerate(pieces)}
        unk_token = pieces[model.unk_id][0]
        core = Tokenizer(
            models.BPE(
                vocab=vocabulary, merges=model.merges(), unk_token=unk_token, fuse_unk=True,
                byte_fallback=fallback,
            )
        )  # fmt: skip
    else:
        core = Tokenizer(models.Unigram(pieces, unk_id=model.unk_id, byte_fallback=fallback))
    steps: list[Any] = []
    if clean is not None:
        steps += [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
        steps += [] if clean[1] else [normalizers.NFKD(), normalizers.StripAccents()]
        steps += [normalizers.Lowercase()] if clean[0] else []
    steps += [normalizers.Precompiled(model.charsmap)] if model.charsmap else []
    space = {"replacement": "\u2581", "prepend_scheme": "always"}
    if by_word:
        core.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(**space)]
        )
    else:
        if model.remove_spaces:
            steps += [normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip(left=False)]
        scheme = "first" if model.add_prefix else "never"
        core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
        core.add_tokens([AddedToken(piece, normalized=False) for piece in model.user_defined])
    if steps:
        core.normalizer = normalizers.Sequence(steps)
    core.decoder = decoders.Metaspace(**space)
    if fallback or not by_word:
        first = [decoders.Strip(" ", 1, 0)] if by_word or model.add_prefix else []
        core.decoder = decoders.Sequence(
            [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), *first]
        )
    return core


def add_special_tokens(
    core: "Tokenizer",
    tokens: dict[str, str],
    template: tuple[str, str] | None,
    spaces: Mapping[str, dict[str, bool]],
) -> None:
    """Add special tokens to a tokenizer, and a template that puts them around a text.

    Args:
        core: the library's tokenizer; a template that it has is kept.
        tokens: the special tokens by their roles.
        template: (template of a text, template of a pair), with roles in place of tokens.
        spaces: token -> whether it absorbs spaces on each side, as "lstrip" and "rstrip".
    """
    from tokenizers import AddedToken, processors

    present = {added.content for added in core.get_added_tokens_decoder().values()}
    new = dict.fromkeys(token for token in tokens.values() if token not in present)
    core.add_special_tokens(
        [AddedToken(t, special=True, normalized=False, **spaces.get(t, {})) for t in new]
    )
    post_processor = core.post_processor
    has_template = post_processor is not None and type(post_processor).__name__ != "ByteLevel"
    if template is None or has_template:
        return

    def fill(part: str) -> list[str]:
        pieces = (piece.partition(":") for piece in part.split())
        return [tokens.get(name, name) + colon + segment for name, colon, segment in pieces]

    used = {piece.partition(":")[0] for part in template for piece in part.split()} & tokens.keys()
    core.post_processor = processors.TemplateProcessing(
        single=fill(template[0]),
        pair=fill(template[1]),
        special_tokens=[(t, core.token_to_id(t)) for t in {tokens[role] for role in used}],
    )


def add_added_tokens(
    core: "Tokenizer", tokens: Mapping[str, int], is_special: Callable[[str], bool]
) -> None:
    """Add tokens whose ids are stated, which must follow those of the vocabulary.

    Args:
        core: the library's tokenizer.
        tokens: token -> id.
        is_special: tells of a token whether it is special.

    Raises:
        ValueError: a token would have another id.
    """
    from tokenizers import AddedToken

    in_order = sorted(tokens, key=lambda token: tokens[token])
    core.add_tokens([AddedToken(t, special=is_special(t), normalized=False) for t in in_order])
    wrong = {t: core.token_to_id(t) for t in in_order if core.token_to_id(t) != tokens[t]}
    if wrong:
        token, i = next(iter(wrong.items()))
        raise ValueError(
            f"the ids of added tokens must follow those of the vocabulary: {token!r} should be "
            f"{tokens[token]}, got {i}"
        )


def set_template(core: "Tokenizer", before: Sequence[str], after: Sequence[str]) -> None:
    """Let texts be enclosed by special tokens, in place of what they were enclosed by.

    Args:
        core: the library's tokenizer, which has the tokens.
        before: the tokens before a text or a pair of texts.
        after: the tokens after it.
    """
    from tokenizers import processors

    core.post_processor = processors.TemplateProcessing(
        single=[*before, "$A", *after],
        pair=[*before, "$A", "$B:1", *(f"{token}:1" for token in after)],
        special_tokens=[(token, core.token_to_id(token)) for token in {*before, *after}],
    )


def vocabulary_ids(vocabulary: Any) -> dict[str, int]:
    """Return token -> id from such a dict, a list in the order of ids, or the path of a file."""
    if isinstance(vocabulary, str | os.PathLike):
        return parse_vocabulary(Path(vocabulary).read_text(encoding="utf-8"))
    if isinstance(vocabulary, Mapping):
        return dict(vocabulary)
    return {token: i for i, token in enumerate(vocabulary)}


def parse_vocabulary(text: str) -> dict[str, int]:
    """Return the tokens of a vocab.txt and their ids, which are the numbers of their lines."""
    # Only \n separates tokens: a vocabulary may hold characters that str.splitlines would split at.
    return {token: i for i, token in enumerate(text.removesuffix("\n").split("\n"))}
