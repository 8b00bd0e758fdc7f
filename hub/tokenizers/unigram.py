"""SentencePiece's models, the tokenizers of T5, ALBERT and XLM-RoBERTa (Kudo and Richardson, 2018,
arXiv:1808.06226).

The most probable segmentation of a text into pieces (unigram; Kudo, 2018, arXiv:1804.10959), or
byte-pair encoding. A space is an ordinary character, so decoding is exact up to repeated spaces.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hub.presets import PresetFiles
from hub.tokenizers.library import build_sentencepiece
from hub.tokenizers.sentencepiece import SentencePieceModel, parse_model
from hub.tokenizers.tokenizer import DEFAULT_MAX_LENGTH, Tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Core

_FAIRSEQ = ("<s>", "<pad>", "</s>", "<unk>")


@dataclass(frozen=True)
class Style:
    """The ids, special tokens and normalisation of a family.

    Attributes:
        special_tokens: the special tokens by their roles.
        template: the templates of a text and of a pair; None to add no special tokens.
        clean: whether quotes, case and accents are normalised, as in ALBERT.
        fairseq: whether ids are those of fairseq: four tokens come first, in place of
            SentencePiece's three, and the mask comes last.
        num_extra_ids: the number of tokens for masked spans at the end, `<extra_id_0>` last.
    """

    special_tokens: Mapping[str, str]
    template: tuple[str, str] | None
    clean: bool = False
    fairseq: bool = False
    num_extra_ids: int = 0


_T5 = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
STYLES = {
    "t5": Style(_T5, ("$A eos_token", "$A eos_token $B eos_token"), num_extra_ids=100),
    "albert": Style(
        {"bos_token": "[CLS]", "eos_token": "[SEP]", "unk_token": "<unk>", "sep_token": "[SEP]",
         "pad_token": "<pad>", "cls_token": "[CLS]", "mask_token": "[MASK]"},
        ("cls_token $A sep_token", "cls_token $A sep_token $B:1 sep_token:1"),
        clean=True,
    ),
    "xlm-roberta": Style(
        {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>",
         "pad_token": "<pad>", "cls_token": "<s>", "mask_token": "<mask>"},
        ("cls_token $A sep_token", "cls_token $A sep_token sep_token $B sep_token"),
        fairseq=True,
    ),
    "plain": Style({}, None),
}  # fmt: skip
# Classes of transformers, where there is no config.json.
_CLASSES = {"T5Tokenizer": "t5", "AlbertTokenizer": "albert", "XLMRobertaTokenizer": "xlm-roberta"}


class UnigramTokenizer(Tokenizer):
    """The SentencePiece tokenizer of T5, ALBERT and XLM-RoBERTa checkpoints, or of a `.model` file.

    Args:
        pieces: (piece, log-probability) in the order of SentencePiece's ids.
        style: the family whose ids and special tokens are used: "t5", "albert" or "xlm-roberta";
            "plain" for SentencePiece's own.
        unk_id: the id of the unknown piece.
        charsmap: SentencePiece's precompiled normalisation, or b"".
        lowercase: whether "albert" lower-cases texts.
        keep_accents: whether "albert" keeps accents.
        max_length: the default length to truncate to.

    Raises:
        ValueError: the style is unknown, or the pieces lack one of its special tokens.

    Example:
        >>> pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), ("a", -1.0)]
        >>> [(ids, _)] = UnigramTokenizer(pieces).encode_batch("a aa")
        >>> ids.tolist()
        [3, 4, 3, 4, 4, 1]
    """

    model_types = ("Unigram", "BPE")
    required = ("unk_token", "pad_token", "eos_token")

    def __init__(
        self,
        pieces: Sequence[tuple[str, float]],
        style: str = "t5",
        unk_id: int = 2,
        charsmap: bytes = b"",
        lowercase: bool = True,
        keep_accents: bool = False,
        max_length: int = DEFAULT_MAX_LENGTH,
    ) -> None:
        if style not in STYLES:
            raise ValueError(f"style must be one of {sorted(STYLES)}, got {style!r}")
        model = SentencePieceModel(list(pieces), unk_id, charsmap)
        family = STYLES[style]
        core = _core(model, style, lowercase, keep_accents)
        self.family = style
        self._set_up(core, _special_tokens(style, model), max_length, family.template)

    @classmethod
    def _default_special_tokens(cls, files: PresetFiles) -> Mapping[str, str]:
        style = _style_of(files)
        names = cls._vocabulary_files(files)
        has_model = style == "plain" and all(name in files for name in names)
        return _special_tokens(style, _read_model(files, *names) if has_model else None)

    @classmethod
    def _vocabulary_files(cls, files: PresetFiles) -> tuple[str, ...]:
        style = _style_of(files)
        if style == "plain":
            models = sorted(name for name in files.names if name.endswith(".model"))
            return (models[0] if len(models) == 1 else "tokenizer.model",)
        return ("sentencepiece.bpe.model",) if STYLES[style].fairseq else ("spiece.model",)

    @classmethod
    def _build(cls, files: PresetFiles, config: Mapping, tokens: Mapping) -> "Core":
        model = _read_model(files, *cls._vocabulary_files(files))
        lowercase = config.get("do_lower_case", True)
        return _core(model, _style_of(files), lowercase, config.get("keep_accents", False))

    @classmethod
    def _template(cls, tokens: Mapping[str, str], config: Mapping, files: Any = None) -> Any:
        return None if files is None else STYLES[_style_of(files)].template


def _style_of(files: PresetFiles) -> str:
    """Return the style of a checkpoint, by its model type or the class of its tokenizer."""
    family = files.json("config.json").get("model_type") if "config.json" in files else None
    family = family or (files.row or {}).get("family")
    name = "tokenizer_config.json"
    if family is None and name in files:
        theirs = str(files.json(name).get("tokenizer_class")).removesuffix("Fast")
        family = _CLASSES.get(theirs)
    return family if family in STYLES else "plain"


def _read_model(files: PresetFiles, name: str) -> SentencePieceModel:
    try:
        return parse_model(files.path(name).read_bytes())
    except ValueError as error:
        raise ValueError(f"{name} of {files.location} cannot be read: {error}") from error


def _special_tokens(style: str, model: SentencePieceModel | None) -> Mapping[str, str]:
    if style != "plain" or model is None:
        return STYLES[style].special_tokens
    return {"unk_token": model.pieces[model.unk_id][0], **model.special_tokens}


def _core(model: SentencePieceModel, style: str, lowercase: bool, keep_accents: bool) -> "Core":
    family = STYLES[style]
    pieces, unk_id = list(model.pieces), model.unk_id
    if family.fairseq:
        pieces = [*((token, 0.0) for token in _FAIRSEQ), *pieces[3:], ("<mask>", 0.0)]
        unk_id = _FAIRSEQ.index("<unk>")
    spans = [f"<extra_id_{i}>" for i in reversed(range(family.num_extra_ids))]
    pieces += [(span, 0.0) for span in spans]
    clean = (lowercase, keep_accents) if family.clean else None
    renumbered = model._replace(pieces=pieces, unk_id=unk_id)
    core = build_sentencepiece(renumbered, clean, by_word=style != "plain")
    core.add_special_tokens(spans)
    return core
