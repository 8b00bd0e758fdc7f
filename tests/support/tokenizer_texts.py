"""Texts that tokenizers get wrong easily, and seconds of pairs."""

TEXTS = {
    "plain": "The quick brown fox jumped over the lazy dogs.",
    "empty": "",
    "blank": " \t\n  ",
    "one letter": "a",
    "accents": "Café naïve Ångström crème brûlée, ÇA VA? straße İstanbul ﬁancé",
    "combining": "Cafe\u0301 n\u0303o \u0301alone a\u0300\u0301\u0302b",
    "cjk": "我爱北京天安门 and 日本語テキスト 한국어 텍스트 𠀀𪚥 、。",
    "emoji": "👍🏽 👩‍👩‍👧‍👦 🇫🇷 ok🙂ok ☕️ 1️⃣",
    "controls": "a\x00b\x01c\x7f d\u200be\u200df\ufeffg\u00adh\ufffdi\x85j\u2028k",
    "spaces": "a\u00a0b\u2003c\u3000d\u1680e\r\nf\vg",
    "punctuation": "don't stop!!! (e.g. foo-bar_baz/qux) $3.50 50% a^b`c|d~e «f» … — “g”",
    "long word": "x" * 99 + " " + "y" * 100 + " " + "z" * 101 + " " + "é" * 101,
    "long accented word": "e\u0301" * 60,
    "digits": "3.14159 1,000,000 ٣٤٥ ½ ²",
    "scripts": "Привет мир, Γειά σου Κόσμε, שלום עולם, مرحبا بالعالم, नमस्ते दुनिया, ไทย",  # noqa: RUF001
    "special": "[CLS] the [MASK] fox [SEP] [PAD] [UNK] [mask] [ MASK ] x[MASK]y [MASK][MASK]",
    "cased special": "[Mask] [cls] MASK [MASK",
    "unknown": "\U000e0041 ⴰⵣⵓⵍ",
    "repeated": "the fox " * 40,
}
PAIRS = ["", "a", "The dog's fox", "the fox " * 30, "[SEP] 日本", "x" * 101]
