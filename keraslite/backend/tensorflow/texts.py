"""Texts and vocabularies in graphs that are saved: tables and hashes of TensorFlow's own."""

import re
import string
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keraslite.scopes import scopes

_PUNCTUATION = f"[{re.escape(string.punctuation)}]"
_UNKNOWN = -1


def lookup(terms: tf.Tensor, keys: Sequence[Any], places: Sequence[int]) -> tf.Tensor:
    """Return the place of each term in a vocabulary; -1 for those that are not in it.

    Args:
        terms: strings or integers.
        keys: the vocabulary.
        places: of each of them.
    """
    dtype = tf.string if terms.dtype == tf.string else tf.int64
    return _table(keys, dtype, places, tf.int64, _UNKNOWN).lookup(tf.cast(terms, dtype))


def terms_at(places: tf.Tensor, terms: Sequence[Any], unknown: Any) -> tf.Tensor:
    """Return the terms that stand at places, and `unknown` outside of them."""
    dtype = tf.string if isinstance(unknown, bytes) else tf.int64
    table = tf.constant([*terms, unknown], dtype)
    inside = (places >= 0) & (places < len(terms))
    return tf.gather(table, tf.where(inside, places, len(terms)))


def _table(keys: Any, key_dtype: Any, values: Any, value_dtype: Any, default: Any) -> Any:
    """Make a table outside of the graph that is traced, which saves it by name."""
    with tf.init_scope():
        initializer = tf.lookup.KeyValueTensorInitializer(keys, values, key_dtype, value_dtype)
        table = tf.lookup.StaticHashTable(initializer, default)
    scopes.tables.append(table)
    return table


def buckets(terms: tf.Tensor, count: int, salt: Sequence[int] | None) -> tf.Tensor:
    """Return a number below `count` for each term, by FarmHash64, or with a salt by SipHash."""
    if terms.dtype != tf.string:
        terms = tf.as_string(terms if terms.dtype == tf.bool else tf.cast(terms, tf.int64))
    if salt is None:
        return tf.strings.to_hash_bucket_fast(terms, count)
    return tf.strings.to_hash_bucket_strong(terms, count, list(salt))


def crossed(features: Sequence[tf.Tensor], count: int, key: int) -> tf.Tensor:
    """Return a number below `count` for each combination of features of one shape."""
    columns = [tf.reshape(x if x.dtype == tf.string else tf.cast(x, tf.int64), (-1, 1))
               for x in features]  # fmt: skip
    numbers = tf.sparse.cross_hashed(columns, num_buckets=count, hash_key=key)
    return tf.reshape(tf.sparse.to_dense(numbers), tf.shape(features[0]))


def same(terms: tf.Tensor, value: Any) -> tf.Tensor:
    """Return where terms are a value."""
    return tf.equal(terms, tf.constant(value, terms.dtype))


def check_known(numbers: tf.Tensor, name: str) -> tf.Tensor:
    """Return numbers in a graph that fails where one is of no term."""
    message = f"Layer {name!r} has num_oov_indices=0, so all inputs must be in the vocabulary."
    check = tf.debugging.assert_none_equal(
        numbers, tf.cast(_UNKNOWN, numbers.dtype), message=message
    )
    with tf.control_dependencies([check]):
        return tf.identity(numbers)


def standardized(texts: tf.Tensor, lower: bool, strip: bool, encoding: str) -> tf.Tensor:
    """Return texts in UTF-8, with the letters of ASCII lowered and its punctuation left out."""
    if encoding.lower().replace("-", "") != "utf8":
        texts = tf.strings.unicode_transcode(texts, encoding, "UTF-8")
    texts = tf.strings.lower(texts) if lower else texts
    return tf.strings.regex_replace(texts, _PUNCTUATION, "") if strip else texts


def tokens_of(texts: tf.Tensor, split: str | None, ngrams: Sequence[int] | None) -> Any:
    """Return the tokens of texts.

    Args:
        texts: (batch,), or where they are not split (batch, tokens).
        split: "whitespace", "character" or None.
        ngrams: how many tokens are joined, by spaces.

    Returns:
        A ragged tensor (batch, tokens).
    """
    if split == "whitespace":
        tokens = tf.strings.split(texts)
    elif split == "character":
        tokens = tf.strings.unicode_split(texts, "UTF-8")
    else:
        tokens = tf.RaggedTensor.from_tensor(texts if texts.shape.rank > 1 else texts[:, None])
    if ngrams is None:
        return tokens
    return tf.strings.ngrams(tokens, ngram_width=tuple(ngrams), separator=" ")
