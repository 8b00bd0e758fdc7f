"""Read and write the `.model` files of SentencePiece: pieces, and how text is normalised.

Such a file is a protocol buffer; the required fields are read by their numbers in SentencePiece's
`sentencepiece_model.proto`.
"""

import re
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_TEXT, _SCORE, _TYPE = 1, 2, 3  # of a piece
_MODEL_TYPE, _BYTE_FALLBACK = 3, 35  # of the trainer
# Of the trainer: role -> the field of its id, and the id where the field is absent.
_IDS = {"bos_token": (41, 1), "eos_token": (42, 2), "pad_token": (43, -1)}
_VOCABULARY_SIZE, _UNK_ID, _UNK_PIECE = 4, 40, 45
_PIECE_AFTER_ID = 5  # from the field of an id to that of its piece
# Of the normaliser.
_NAME, _CHARSMAP, _DUMMY_PREFIX, _REMOVE_SPACES, _ESCAPE_SPACES = 1, 2, 3, 4, 5
_ALGORITHMS = {1: "unigram", 2: "bpe"}
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 1, 2, 3, 4, 6  # types of pieces


class SentencePieceModel(NamedTuple):
    """The content of a `.model` file.

    Attributes:
        pieces: (piece, score) in the order of their ids; a score is a log-probability, or of BPE
            the negative rank of a merge.
        unk_id: the id of the unknown piece.
        charsmap: the precompiled normalisation of characters, or b"".
        algorithm: "unigram" or "bpe".
        byte_fallback: whether unknown characters become the pieces of their bytes.
        add_prefix: whether a space is put before a text.
        remove_spaces: whether repeated spaces become one, and those at the ends are removed.
        normal: the ordinary pieces; None for all.
        user_defined: the pieces that are never split.
        special_tokens: the start, end and padding pieces by their roles.
    """

    pieces: list[tuple[str, float]]
    unk_id: int
    charsmap: bytes
    algorithm: str = "unigram"
    byte_fallback: bool = False
    add_prefix: bool = True
    remove_spaces: bool = True
    normal: frozenset[str] | None = None
    user_defined: tuple[str, ...] = ()
    special_tokens: Mapping[str, str] = {}

    def merges(self) -> list[tuple[str, str]]:
        """Return the merges of a BPE model in order: every split of every ordinary piece.

        >>> pieces = [("<unk>", 0.0), ("ab", -1.0), ("abc", -2.0), ("a", -3.0), ("b", -4.0)]
        >>> SentencePieceModel([*pieces, ("c", -5.0)], 0, b"", "bpe").merges()
        [('a', 'b'), ('ab', 'c')]
        """
        normal = [p for p in self.pieces if self.normal is None or p[0] in self.normal]
        rank = {piece: i for i, (piece, _) in enumerate(normal)}
        merges = []
        for piece, _ in sorted(normal, key=lambda piece: -piece[1]):
            splits = [(piece[:at], piece[at:]) for at in range(1, len(piece))]
            splits = [(a, b) for a, b in splits if a in rank and b in rank]
            merges += sorted(splits, key=lambda split: (rank[split[0]], rank[split[1]]))
        return merges


def parse_model(data: bytes) -> SentencePieceModel:
    """Return the content of a `.model` file with a unigram or BPE model.

    Args:
        data: the file's bytes.

    Raises:
        ValueError: the file is damaged, or has another model.

    >>> data = bytes([10, 8, 10, 1, 97, 21, 0, 0, 128, 191, 10, 6, 10, 2, 63, 63, 24, 2])
    >>> model = parse_model(data)
    >>> model.pieces, model.unk_id, model.algorithm
    ([('a', -1.0), ('??', 0.0)], 1, 'unigram')
    """
    pieces, types = [], []
    trainer: dict[int, Any] = {}
    normalizer: dict[int, Any] = {}
    try:
        for number, value in _fields(data):
            if number == _PIECES:
                piece = dict(_fields(value))
                types.append(piece.get(_TYPE, _NORMAL))
                pieces.append((piece[_TEXT].decode("utf-8"), piece.get(_SCORE, 0.0)))
            elif number == _TRAINER:
                trainer = dict(_fields(value))
            elif number == _NORMALIZER:
                normalizer = dict(_fields(value))
    except (IndexError, KeyError, AttributeError, TypeError, struct.error) as error:
        raise ValueError(f"it is no SentencePiece model, or damaged ({error})") from error
    algorithm = trainer.get(_MODEL_TYPE, 1)
    if algorithm not in _ALGORITHMS:
        raise ValueError(f"its model type must be unigram (1) or BPE (2), got {algorithm}")
    if types.count(_UNKNOWN) != 1:
        raise ValueError(
            f"it must have one unknown piece, got {types.count(_UNKNOWN)} among {len(pieces)} "
            "pieces"
        )
    ids = {role: trainer.get(number, default) for role, (number, default) in _IDS.items()}
    return SentencePieceModel(
        pieces, types.index(_UNKNOWN), normalizer.get(_CHARSMAP, b""), _ALGORITHMS[algorithm],
        bool(trainer.get(_BYTE_FALLBACK)), bool(normalizer.get(_DUMMY_PREFIX, True)),
        bool(normalizer.get(_REMOVE_SPACES, True)),
        frozenset(pieces[i][0] for i, type_ in enumerate(types) if type_ == _NORMAL),
        tuple(pieces[i][0] for i, type_ in enumerate(types) if type_ == _USER_DEFINED),
        {r: pieces[i][0] for r, i in ids.items() if 0 <= i < len(types) and types[i] == _CONTROL},
    )  # fmt: skip


def write_model(model: SentencePieceModel, control: Collection[str] = ()) -> bytes:
    """Return the bytes of a `.model` file: the inverse of `parse_model`.

    Args:
        model: its content.
        control: the pieces that come out of no text, such as padding.

    >>> model = SentencePieceModel([("<unk>", 0.0), ("a", -1.5)], 0, b"")
    >>> parse_model(write_model(model)).pieces
    [('<unk>', 0.0), ('a', -1.5)]
    """
    parts = []
    for i, (piece, score) in enumerate(model.pieces):
        is_byte = model.byte_fallback and re.fullmatch(r"<0x[0-9A-F]{2}>", piece)
        type_ = _UNKNOWN if i == model.unk_id else _CONTROL if piece in control else _NORMAL
        type_ = _USER_DEFINED if piece in model.user_defined else _BYTE if is_byte else type_
        fields = [(_TEXT, piece.encode()), (_SCORE, score), (_TYPE, type_)]
        parts.append((_PIECES, _message(fields)))
    ids = {piece: i for i, (piece, _) in enumerate(model.pieces)}
    trainer: list[tuple[int, Any]] = [
        (_MODEL_TYPE, next(n for n, name in _ALGORITHMS.items() if name == model.algorithm)),
        (_VOCABULARY_SIZE, len(ids)), (_BYTE_FALLBACK, int(model.byte_fallback)),
        (_UNK_ID, model.unk_id),
    ]  # fmt: skip
    names = [(_UNK_PIECE, model.pieces[model.unk_id][0].encode())]
    for role, (number, _) in _IDS.items():
        piece = model.special_tokens.get(role)
        trainer.append((number, -1 if piece is None else ids[piece]))
        names += [] if piece is None else [(number + _PIECE_AFTER_ID, piece.encode())]
    normalizer = [
        (_NAME, b"custom" if model.charsmap else b"identity"), (_CHARSMAP, model.charsmap),
        (_DUMMY_PREFIX, int(model.add_prefix)), (_REMOVE_SPACES, int(model.remove_spaces)),
        (_ESCAPE_SPACES, 1),
    ]  # fmt: skip
    parts += [(_TRAINER, _message([*trainer, *names])), (_NORMALIZER, _message(normalizer))]
    return _message(parts)


def _message(fields: Iterable[tuple[int, Any]]) -> bytes:
    """Return the bytes of fields: numbers, floats and bytes."""
    out = bytearray()
    for number, value in fields:
        if isinstance(value, float):
            out += _to_varint(number << 3 | 5) + struct.pack("<f", value)
        elif isinstance(value, int):
            out += _to_varint(number << 3) + _to_varint(value & (1 << 64) - 1)
        else:
            out += _to_varint(number << 3 | 2) + _to_varint(len(value)) + value
    return bytes(out)


def _to_varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield (number, value) of each field of a message."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            value -= (value >> 63) << 64  # negative numbers are written in two's complement
        elif wire == 5:
            (value,) = struct.unpack_from("<f", data, at)
            at += 4
        elif wire == 1:
            (value,) = struct.unpack_from("<d", data, at)
            at += 8
        elif wire == 2:
            size, at = _varint(data, at)
            value = data[at : at + size]
            if len(value) != size:
                raise IndexError("a field exceeds the file")
            at += size
        else:
            raise IndexError(f"the wire type {wire} of a field is unknown")
        yield number, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise IndexError("a number is longer than 64 bits")
