"""SentencePiece's rules for characters: the precompiled map that a `.model` file has inside.

At each place of a text the longest rule that matches replaces its characters. The rules lie in a
double array, a trie whose node at `base` has its child for a byte at `base ^ byte` (Aoe, 1989; in
the units of 32 bits of Yata's darts-clone), before the texts that they put in.
"""

import struct
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping

import numpy as np

_BLOCK = 256  # units; the array is a multiple of it
_OPEN = 16  # blocks at the end, in which places are looked for
_END = -1  # the label of the value of a key
_MOST = 1 << 20  # rules of a map, which may share its units
_LEAF, _HAS_LEAF, _LABEL = 1 << 31, 1 << 8, 0xFF


def read_charsmap(data: bytes) -> dict[str, str]:
    """Return the rules of a precompiled map.

    Args:
        data: the map, as `parse_model` returns it.

    Raises:
        ValueError: it is damaged.

    >>> read_charsmap(write_charsmap({"A": "a", "AB": "", "ß": "ss"}))
    {'A': 'a', 'AB': '', 'ß': 'ss'}
    """
    if not data:
        return {}
    (size,) = struct.unpack_from("<I", data) if len(data) >= 4 else (0,)
    if size % 4 or not 0 < size < len(data) - 4:
        raise ValueError(f"a precompiled map of {len(data)} bytes is damaged")
    units = np.frombuffer(data, "<u4", size // 4, 4).tolist()
    texts = data[4 + size :]
    children: dict[int, list[tuple[int, int]]] = {}
    for at, unit in enumerate(units):
        if unit & (_LEAF | _LABEL) and not unit & _LEAF:
            label = unit & _LABEL
            children.setdefault(at ^ label, []).append((label, at))
    rules: dict[bytes, bytes] = {}
    nodes = [(b"", 0)]
    while nodes:
        key, at = nodes.pop()
        base = at ^ _offset(units[at])
        if units[at] & _HAS_LEAF and base < len(units):
            start = units[base] & ~_LEAF
            rules[key] = texts[start : texts.find(b"\0", start)]
        if len(rules) + len(nodes) > _MOST or len(key) > 64:
            raise ValueError("a precompiled map is damaged: it has loops")
        nodes += [(key + bytes([label]), child) for label, child in children.get(base, ())]
    return {key.decode(): text.decode() for key, text in sorted(rules.items())}


def write_charsmap(rules: Mapping[str, str]) -> bytes:
    """Return a precompiled map: the inverse of `read_charsmap`.

    Args:
        rules: characters -> what replaces them.
    """
    texts, starts = bytearray(), {}
    trie: dict = {}
    for key, text in sorted(rules.items()):
        if text not in starts:
            starts[text] = len(texts)
            texts += text.encode() + b"\0"
        node = trie
        for byte in key.encode():
            node = node.setdefault(byte, {})
        node[_END] = starts[text]
    units = _double_array(*_shared(trie))
    return struct.pack("<I", 4 * len(units)) + struct.pack(f"<{len(units)}I", *units) + bytes(texts)


def compose_charsmap(clean: Callable[[str], str], data: bytes, more: Mapping[str, str]) -> bytes:
    """Return the map of cleaning each character, and then applying a map.

    Args:
        clean: what becomes of a character, whatever stands around it.
        data: the map that is applied afterwards.
        more: rules for several characters, which `clean` does not see.

    >>> lowered = compose_charsmap(str.lower, write_charsmap({"a": "A"}), {"``": '"'})
    >>> rules = read_charsmap(lowered)
    >>> rules["a"], rules["B"], rules["``"]
    ('A', 'b', '"')
    """
    old = read_charsmap(data)
    apply = replacer(old)
    rules = {}
    for character in _characters():
        cleaned = clean(character)
        if cleaned != character or character in old:
            rules[character] = apply(cleaned)
    for several, text in {**{key: clean(key) for key in old if len(key) > 1}, **more}.items():
        alone = "".join(rules.get(character, character) for character in several)
        if (text := apply(text)) != alone:
            rules[several] = text
    return write_charsmap({key: text for key, text in rules.items() if key != text})


def replacer(rules: Mapping[str, str]) -> Callable[[str], str]:
    """Return a function that replaces the characters of a text, the longest rule at each place.

    Args:
        rules: as `read_charsmap` returns them.

    >>> replacer({"A": "a", "AB": "-"})("ABA")
    '-a'
    """
    longest: dict[str, int] = {}
    for key in rules:
        longest[key[0]] = max(longest.get(key[0], 0), len(key))

    def replace(text: str) -> str:
        out, at = [], 0
        while at < len(text):
            sizes = range(longest.get(text[at], 0), 0, -1)
            size = next((n for n in sizes if text[at : at + n] in rules), 0)
            out.append(rules[text[at : at + size]] if size else text[at])
            at += size or 1
        return "".join(out)

    return replace


def _characters() -> Iterator[str]:
    """Yield the characters that Unicode assigns."""
    for i in range(1, sys.maxunicode + 1):
        if unicodedata.category(chr(i)) not in ("Cn", "Co", "Cs"):
            yield chr(i)


def _offset(unit: int) -> int:
    return (unit >> 10) << ((unit & (1 << 9)) >> 6)


def _shared(trie: dict) -> tuple[list[tuple], int]:
    """Return the different nodes of a trie, children before parents, and the root's number.

    A node is pairs of a label and the number of a child; at the end of a key, of its value.
    """
    numbers: dict[tuple, int] = {}

    def number(node: dict) -> int:
        pairs = sorted((b, child if b == _END else number(child)) for b, child in node.items())
        return numbers.setdefault(tuple(pairs), len(numbers))

    root = number(trie)
    return list(numbers), root


def _double_array(nodes: list[tuple], root: int) -> list[int]:
    """Return the units of a trie whose equal parts are shared."""
    units: list[int] = []
    used, bases, placed = bytearray(), set[int](), dict[int, int]()
    _grow(units, used, 0)
    used[0] = 1  # the root
    waiting = [(root, 0)]
    while waiting:
        index, at = waiting.pop()
        node = nodes[index]
        if index not in placed:
            labels = [max(label, 0) for label, _ in node]
            base = _free_base(units, used, bases, labels)
            bases.add(base)
            placed[index] = base
            for label, child in node:
                spot = base ^ max(label, 0)
                used[spot] = 1
                units[spot] = child | _LEAF if label == _END else label
                if label != _END:
                    waiting.append((child, spot))
        offset = placed[index] ^ at
        if offset >= 1 << 21:
            raise ValueError(f"a map of so many rules cannot be written: {len(units)} units")
        units[at] |= offset << 10 | (_HAS_LEAF if node and node[0][0] == _END else 0)
    return units


def _free_base(units: list[int], used: bytearray, bases: set[int], labels: list[int]) -> int:
    """Return a base whose places for some labels are free.

    A base is used once: a unit tells its label, but not its parent.
    """
    place = max(1, len(units) - _OPEN * _BLOCK)
    while True:
        place = used.find(0, place)
        if place < 0:
            place = len(units)
            _grow(units, used, place)
        base = place ^ labels[-1]
        if base and base not in bases:
            _grow(units, used, base | 255)
            if not any(used[base ^ label] for label in labels):
                return base
        place += 1


def _grow(units: list[int], used: bytearray, at: int) -> None:
    while at >= len(units):
        units += [0] * _BLOCK
        used += bytes(_BLOCK)
