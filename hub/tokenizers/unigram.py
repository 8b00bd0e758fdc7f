"""SentencePiece's unigram model, the tokenizer of T5, ALBERT and XLM-RoBERTa.

The most probable segmentation of a text into pieces (Kudo, 2018, arXiv:1804.10959). A space is an
ordinary character, so decoding is exact up to repeated spaces.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hub.presets import PresetFiles
from hub.tokenizers.library import build_unigram
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
        template: the templates of a text and of a pair.
        clean: whether quotes, case and accents are normalised, as in ALBERT.
        fairseq: whether ids are those of fairseq: four tokens come first, in place of
            SentencePiece's three, and the mask comes last.
        num_extra_ids: the number of tokens for masked spans at the end, `<extra_id_0>` last.
    """

    special_tokens: Mapping[str, str]
    template: tuple[str, str]
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
}  # fmt: skip


class UnigramTokenizer(Tokenizer):
    """The unigram tokenizer of T5, ALBERT and XLM-RoBERTa checkpoints.

    Args:
        pieces: (piece, log-probability) in the order of SentencePiece's ids.
        style: the family whose ids and special tokens are used: "t5", "albert" or "xlm-roberta".
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

    model_type = "Unigram"
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
        family = STYLES[style]
        model = SentencePieceModel(list(pieces), unk_id, charsmap)
        core = _core(model, family, lowercase, keep_accents)
        self._set_up(core, family.special_tokens, max_length, family.template)

    @classmethod
    def _default_special_tokens(cls, files: PresetFiles) -> Mapping[str, str]:
        return STYLES[_style_of(files)].special_tokens

    @classmethod
    def _vocabulary_files(cls, files: PresetFiles) -> tuple[str, ...]:
        fairseq = STYLES[_style_of(files)].fairseq
        return ("sentencepiece.bpe.model",) if fairseq else ("spiece.model",)

    @classmethod
    def _build(cls, files: PresetFiles, config: Mapping, tokens: Mapping) -> "Core":
        (name,) = cls._vocabulary_files(files)
        try:
            model = parse_model(files.path(name).read_bytes())
        except ValueError as error:
            raise ValueError(f"{name} of {files.location} cannot be read: {error}") from error
        style = STYLES[_style_of(files)]
        lowercase = config.get("do_lower_case", True)
        return _core(model, style, lowercase, config.get("keep_accents", False))

    @classmethod
    def _template(cls, tokens: Mapping[str, str], config: Mapping, files: Any = None) -> Any:
        return None if files is None else STYLES[_style_of(files)].template


def _style_of(files: PresetFiles) -> str:
    """Return the style of a checkpoint, by its model type."""
    family = files.json("config.json").get("model_type") if "config.json" in files else None
    family = family or (files.row or {}).get("family")
    return family if family in STYLES else "t5"


def _core(model: SentencePieceModel, style: Style, lowercase: bool, keep_accents: bool) -> "Core":
    pieces, unk_id = list(model.pieces), model.unk_id
    if style.fairseq:
        pieces = [*((token, 0.0) for token in _FAIRSEQ), *pieces[3:], ("<mask>", 0.0)]
        unk_id = _FAIRSEQ.index("<unk>")
    spans = [f"<extra_id_{i}>" for i in reversed(range(style.num_extra_ids))]
    pieces += [(span, 0.0) for span in spans]
    clean = (lowercase, keep_accents) if style.clean else None
    core = build_unigram(pieces, unk_id, model.charsmap, clean)
    core.add_special_tokens(spans)
    return core
