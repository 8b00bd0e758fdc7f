"""TextVectorization: from texts to rows of numbers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np

from keraslite import backend as backends
from keraslite import ops
from keraslite.layers.preprocessing import texts
from keraslite.layers.preprocessing.adapting import adapt_batches
from keraslite.layers.preprocessing.categories import OUTPUT_MODES, check_output_mode
from keraslite.layers.preprocessing.host import HostLayer, on_host, static_shape
from keraslite.layers.preprocessing.lookup import check_no_file
from keraslite.layers.preprocessing.string_lookup import StringLookup
from keraslite.registry import deserialize_keras_object, resolve
from keraslite.symbolic import KerasTensor
from keraslite.typing import Shape

_ROWS = 1 << 15  # texts of an array that are counted at once
_NOWHERE = -2  # the number of a token that counts nowhere


def _function(config: Any) -> Any:
    """Return the function that a config names, as this package or Keras writes it."""
    if isinstance(config, dict) and config.get("class_name") == "function":
        name = config["config"]
        return resolve(name, config.get("module"), config.get("registered_name"))
    return resolve(config) if isinstance(config, str) else deserialize_keras_object(config)


class TextVectorization(HostLayer):
    """Standardize texts, split them into tokens, join these to n-grams and look them up.

    Texts are str or bytes, (batch,) or (batch, 1): lists, arrays, or TensorFlow's tensors of
    strings. The numbers 0 and 1 are those of padding and of unknown tokens.

    Args:
        max_tokens: the largest size of the vocabulary, special tokens included.
        standardize: "lower_and_strip_punctuation", "lower", "strip_punctuation" (all of ASCII
            alone), None, or a function from an array of str to one of the same shape.
        split: "whitespace", "character", None if each text is a token, or a function from an
            array of str to a list of tokens for each.
        ngrams: n-grams of up to so many tokens, or a tuple of their sizes.
        output_mode: "int" for a number for each token, or "one_hot", "multi_hot", "count" and
            "tf_idf".
        output_sequence_length: to which rows are cut and padded if `output_mode` is "int"; the
            longest of the batch by default.
        pad_to_max_tokens: whether encoded outputs have the size `max_tokens`.
        vocabulary: a list, an array, or a text file of a term in each line; else call `adapt`.
        idf_weights: the inverse document frequencies of the vocabulary, for "tf_idf".
        sparse: whether encoded outputs are sparse tensors of the backend.
        ragged: whether rows keep their lengths, in a `RaggedTensor`; on TensorFlow alone.
        encoding: of texts that are bytes.
        name: a name.

    Raises:
        ValueError: an argument is wrong, or does not fit another.

    >>> layer = TextVectorization(output_sequence_length=4)
    >>> layer.adapt(["The cat sat.", "the mat!"])
    >>> ops.convert_to_numpy(layer(["The cat ran"])).tolist()
    [[2, 5, 1, 0]]
    """

    def __init__(
        self,
        max_tokens: int | None = None,
        standardize: str | Callable | None = "lower_and_strip_punctuation",
        split: str | Callable | None = "whitespace",
        ngrams: int | tuple[int, ...] | None = None,
        output_mode: str = "int",
        output_sequence_length: int | None = None,
        pad_to_max_tokens: bool = False,
        vocabulary: Any = None,
        idf_weights: Any = None,
        sparse: bool = False,
        ragged: bool = False,
        encoding: str = "utf-8",
        name: str | None = None,
        **kwargs: Any,
    ):
        for what, value, names in (
            ("standardize", standardize, texts.STANDARDIZE), ("split", split, texts.SPLIT),
        ):  # fmt: skip
            if value is not None and not callable(value) and value not in names:
                raise ValueError(
                    f"`{what}` must be one of {', '.join(names)}, a function or None, got "
                    f"{value!r}."
                )
        output_mode = check_output_mode(output_mode, OUTPUT_MODES, sparse)
        of_ints = isinstance(ngrams, tuple) and all(isinstance(n, int) for n in ngrams)
        if not (ngrams is None or isinstance(ngrams, int) or of_ints):
            raise ValueError(f"`ngrams` must be an int, a tuple of ints or None, got {ngrams!r}.")
        length = output_sequence_length
        if length is not None and (output_mode != "int" or not isinstance(length, int)):
            raise ValueError(
                "`output_sequence_length` must be an int or None, and None if `output_mode` is "
                f"not 'int', got {length!r} and output_mode={output_mode!r}."
            )
        if ragged and output_mode != "int":
            raise ValueError(f"`ragged` needs output_mode='int', got {output_mode!r}.")
        if ragged and not backends.has_ragged_tensors():
            raise ValueError(
                f"`ragged` needs the TensorFlow backend; {backends.backend()} has no ragged "
                "tensors: leave it out, and rows are padded with 0."
            )
        inner = {k: kwargs.pop(k, None) for k in ("vocabulary_size", "has_input_vocabulary")}
        self.set_arguments({"name": name, "kwargs": kwargs})
        self.set_attributes(
            max_tokens=max_tokens, standardize=standardize, split=split, ngrams=ngrams,
            output_mode=output_mode, output_sequence_length=length,
            pad_to_max_tokens=pad_to_max_tokens, sparse=sparse, ragged=ragged, encoding=encoding,
        )  # fmt: skip
        self._lookup_layer = StringLookup(
            max_tokens=max_tokens, vocabulary=vocabulary, idf_weights=idf_weights,
            pad_to_max_tokens=pad_to_max_tokens, mask_token="", output_mode=output_mode,
            sparse=sparse, encoding=encoding, **inner,
        )  # fmt: skip

    def _tokens(self, x: Any) -> tuple[texts.Tokens, tuple[int, ...]]:
        """Return the tokens of texts, and the shape of the texts."""
        tokens, shape = texts.tokenize(x, self.standardize, self.split, self.encoding)
        if self.ngrams is not None:
            many = isinstance(self.ngrams, tuple)
            tokens = texts.ngrams(tokens, self.ngrams if many else range(1, self.ngrams + 1))
        return tokens, shape

    # -- the vocabulary -----------------------------------------------------------------------

    def adapt(self, data: Any, batch_size: int | None = None, steps: int | None = None) -> None:
        """Learn the vocabulary: the tokens of texts by their number, the most frequent first.

        The data are read once; what is kept grows with the number of distinct tokens alone.

        Args:
            data: an array, a list, a column of pandas, or batches: a `tf.data.Dataset`, a
                `DataLoader`, a generator. Of batches such as (x, y) x counts.
            batch_size: kept for Keras code.
            steps: the largest number of batches.

        Raises:
            ValueError: the layer was made with a vocabulary.
        """
        self.reset_state()
        for batch, is_array in adapt_batches(data, steps, _ROWS):
            self._count(batch, is_array)
        self.finalize_state()

    def update_state(self, data: Any) -> None:
        """Count the tokens of a batch of texts."""
        self._count(data, False)

    def _count(self, data: Any, of_samples: bool) -> None:
        tokens, shape = self._tokens(data)
        if self.split is None and len(shape) < 2 and not of_samples:  # one document, as in Keras
            tokens.lengths = np.array([tokens.lengths.sum()])
        self._lookup_layer.count(tokens)

    def finalize_state(self) -> None:
        """Make the vocabulary of the tokens that were counted."""
        self._lookup_layer.finalize_state()

    def reset_state(self) -> None:
        """Forget the tokens that were counted."""
        self._lookup_layer.reset_state()

    def get_vocabulary(self, include_special_tokens: bool = True) -> list[str]:
        """Return the terms of the vocabulary.

        Args:
            include_special_tokens: whether the tokens of padding and of unknown ones stand before
                them, so that the place of a term is its number.
        """
        return self._lookup_layer.get_vocabulary(include_special_tokens)

    def vocabulary_size(self) -> int:
        """Return the number of terms, with the special tokens."""
        return self._lookup_layer.vocabulary_size()

    def set_vocabulary(self, vocabulary: Any, idf_weights: Any = None) -> None:
        """Set the vocabulary, instead of `adapt`.

        Args:
            vocabulary: a list, an array or a tensor of terms, or a text file of one in each line.
            idf_weights: a weight for each, if `output_mode` is "tf_idf".
        """
        self._lookup_layer.set_vocabulary(vocabulary, idf_weights)

    # -- calling ------------------------------------------------------------------------------

    def call(self, inputs: Any) -> Any:
        """Turn texts into numbers, and encode these."""
        length = self.output_sequence_length
        example = np.zeros(0, np.int64)
        if self.ragged and self.split is not None:
            return backends.ragged_tensor(*on_host(
                self._numbers_and_lengths, inputs, [example, example], [(None,), (None,)]
            ))  # fmt: skip
        shape = static_shape(inputs)
        if shape is not None and (self.split is not None or self.ngrams is not None):
            shape = (shape[0] if shape else 1, length)
        elif shape and length is not None:
            shape = (*shape[:-1], length)
        return self._lookup_layer.encoded(self._numbers, inputs, shape)

    def call_in_saved_graph(self, inputs: Any) -> Any:
        """Turn texts into numbers by operations of TensorFlow."""
        from keraslite.backend.tensorflow import texts as graph

        for name in ("standardize", "split"):
            if callable(getattr(self, name)):
                raise self.no_graph_form(f"`{name}` is a function of arrays")
        rank, names = len(inputs.shape), self.standardize or ""
        if self.split is not None and rank > 1:
            inputs = ops.squeeze(inputs, -1)
        if not rank or len(inputs.shape) > 2:
            raise self.no_graph_form("its inputs must have the shape (batch,) or (batch, 1)")
        texts = graph.standardized(
            inputs, "lower" in names, names.endswith("strip_punctuation"), self.encoding
        )
        lookup, length = self._lookup_layer, self.output_sequence_length
        if self.split is None and self.ngrams is None and length is None:
            return lookup.encoded_in_saved_graph(lookup.numbers_of_utf8(texts))
        many = isinstance(self.ngrams, tuple) or self.ngrams is None
        tokens = graph.tokens_of(
            texts, self.split, self.ngrams if many else range(1, self.ngrams + 1)
        )
        numbers = tokens.with_flat_values(lookup.numbers_of_utf8(tokens.flat_values))
        if self.ragged:
            return numbers[:, :length]
        fill = 0 if self.output_mode == "int" else _NOWHERE
        return lookup.encoded_in_saved_graph(numbers.to_tensor(fill, shape=(None, length)))

    def _numbers_and_lengths(self, inputs: Any) -> tuple[np.ndarray, np.ndarray]:
        tokens, _ = self._tokens(inputs)
        numbers = self._lookup_layer.numbers_of(tokens.values)[tokens.codes]
        return texts.cut(numbers, tokens.lengths, self.output_sequence_length)

    def _numbers(self, inputs: Any) -> np.ndarray:
        """Return rows of numbers of one length, or for texts that are not split their shape."""
        tokens, shape = self._tokens(inputs)
        numbers = self._lookup_layer.numbers_of(tokens.values)[tokens.codes]
        lengths, length = tokens.lengths, self.output_sequence_length
        if self.split is None and self.ngrams is None:
            if length is None:
                return numbers.reshape(shape)
            rows = int(np.prod(shape[:-1]))
            rows = texts.padded(numbers, np.full(rows, shape[-1]), length, 0)
            return rows.reshape(*shape[:-1], length)
        array = texts.padded(numbers, lengths, length, 0 if self.output_mode == "int" else _NOWHERE)
        return array if shape else array[0]

    def compute_output_shape(self, input_shape: Shape) -> tuple:
        """The shape of the outputs."""
        shape = tuple(input_shape)
        if self.output_mode == "int":
            if self.split is None and self.ngrams is None and self.output_sequence_length is None:
                return shape
            return (*shape[:1], self.output_sequence_length)
        if self.split is None:
            shape = shape if len(shape) > 1 else (*shape, 1)
        else:
            shape = (*shape[:1], None)
        return self._lookup_layer.compute_output_shape(shape)

    def compute_output_spec(self, inputs: KerasTensor) -> KerasTensor:
        """The symbolic output for a symbolic input: texts have no abstract values."""
        shape = self.compute_output_shape(inputs.dims)
        return KerasTensor(shape, self._lookup_layer.output_dtype, sparse=self.sparse)

    # -- configs and files --------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the layer again; a vocabulary only if it was one of them."""
        inner = self._lookup_layer.get_config()
        return super().get_config() | {
            "vocabulary": inner["vocabulary"], "idf_weights": inner["idf_weights"],
            "vocabulary_size": self.vocabulary_size(),
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The layer of a config."""
        check_no_file(config)
        config = dict(config)
        for name in ("standardize", "split"):
            value = config.get(name)
            if value is not None and value not in texts.STANDARDIZE + texts.SPLIT:
                config[name] = _function(value)
        if isinstance(config.get("ngrams"), list):
            config["ngrams"] = tuple(config["ngrams"])
        return cls(**{k: deserialize_keras_object(v) if k == "dtype" else v
                      for k, v in config.items()})  # fmt: skip

    def saved_vocabulary(self) -> dict[str, Any] | None:
        """Return what a file has to hold beside the config; None if that says all."""
        return self._lookup_layer.saved_vocabulary()

    def restore_vocabulary(self, state: dict[str, Any]) -> None:
        """Bring back what `saved_vocabulary` gave.

        Args:
            state: the terms, and their weights.
        """
        self._lookup_layer.restore_vocabulary(state)

    def save_assets(self, dir_path: str | Path) -> None:
        """Write the vocabulary to `vocabulary.txt` in a folder, as Keras does.

        Args:
            dir_path: the folder.
        """
        self._lookup_layer.save_assets(dir_path)

    def load_assets(self, dir_path: str | Path) -> None:
        """Read the vocabulary that `save_assets`, or Keras, wrote.

        Args:
            dir_path: the folder.
        """
        self._lookup_layer.load_assets(dir_path)
