"""Read the `.model` files of SentencePiece: the pieces of a vocabulary and how text is normalised.

Such a file is a protocol buffer; the required fields are read by their numbers in SentencePiece's
`sentencepiece_model.proto`.
"""

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_TEXT, _SCORE, _TYPE = 1, 2, 3  # of a piece
_MODEL_TYPE, _UNIGRAM = 3, 1  # of the trainer
_CHARSMAP = 2  # of the normaliser
_UNKNOWN = 2  # the type of the unknown piece


class SentencePieceModel(NamedTuple):
    """The content of a `.model` file.

    Attributes:
        pieces: (piece, score) in the order of their ids; a score is a log-probability.
        unk_id: the id of the unknown piece.
        charsmap: the precompiled normalisation of characters, or b"".
    """

    pieces: list[tuple[str, float]]
    unk_id: int
    charsmap: bytes


def parse_model(data: bytes) -> SentencePieceModel:
    """Return the content of a `.model` file with a unigram model.

    Args:
        data: the file's bytes.

    Raises:
        ValueError: the file is damaged, or has another model.

    >>> parse_model(bytes([10, 8, 10, 1, 97, 21, 0, 0, 128, 191, 10, 6, 10, 2, 63, 63, 24, 2]))
    SentencePieceModel(pieces=[('a', -1.0), ('??', 0.0)], unk_id=1, charsmap=b'')
    """
    pieces, unknown, charsmap = [], [], b""
    try:
        for number, value in _fields(data):
            if number == _PIECES:
                piece = dict(_fields(value))
                if piece.get(_TYPE, 1) == _UNKNOWN:
                    unknown.append(len(pieces))
                pieces.append((piece[_TEXT].decode("utf-8"), piece.get(_SCORE, 0.0)))
            elif number == _TRAINER:
                model_type = dict(_fields(value)).get(_MODEL_TYPE, _UNIGRAM)
                if model_type != _UNIGRAM:
                    raise ValueError(f"its model type must be unigram (1), got {model_type}")
            elif number == _NORMALIZER:
                charsmap = dict(_fields(value)).get(_CHARSMAP, b"")
    except (IndexError, KeyError, AttributeError, TypeError, struct.error) as error:
        raise ValueError(f"it is no SentencePiece model, or damaged ({error})") from error
    if len(unknown) != 1:
        raise ValueError(
            f"it must have one unknown piece, got {len(unknown)} among {len(pieces)} pieces"
        )
    return SentencePieceModel(pieces, unknown[0], charsmap)


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield (number, value) of each field of a message."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
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
