"""IndexLookup: the vocabulary of a layer and the numbers of its terms."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from keraslite import backend as backends
from keraslite import config as settings
from keraslite import ops, registry
from keraslite.layers.base.building import register_build_state
from keraslite.layers.preprocessing.adapting import adapt_batches
from keraslite.layers.preprocessing.categories import (
    OUTPUT_MODES,
    check_output_mode,
    encode_on_host,
    encoded_shape,
)
from keraslite.layers.preprocessing.fingerprints import farm_fingerprints, sip_fingerprints
from keraslite.layers.preprocessing.graph_lookup import MASKED, UNKNOWN, GraphLookup
from keraslite.layers.preprocessing.host import on_host, static_shape
from keraslite.layers.preprocessing.texts import TokenCounts, Tokens
from keraslite.symbolic import KerasTensor
from keraslite.typing import Shape

_ROWS = 1 << 16  # of an array that are counted at once


def plain_list(x: Any) -> Any:
    """Return an array or a tensor as a list, and anything else as it is."""
    if isinstance(x, np.ndarray) or backends.of(x) is not None:
        x = backends.to_numpy(x).tolist()
    return list(x) if isinstance(x, tuple) else x


def read_salt(salt: Any, caller: str) -> list[int] | None:
    """Return the two integers of a salt; None without one.

    Args:
        salt: an integer, or a pair of them.
        caller: the name of the layer's class, for the error.
    """
    if salt is None:
        return None
    if isinstance(salt, int):
        return [salt, salt]
    if isinstance(salt, list | tuple) and len(salt) == 2:
        return list(salt)
    raise ValueError(f"The `salt` of {caller} must be an integer or a pair of them, got {salt!r}.")


def buckets(strings: Sequence[bytes], count: int, salt: Sequence[int] | None) -> np.ndarray:
    """Return a number below `count` for each string, by FarmHash64, or with a salt by SipHash.

    Args:
        strings: the strings.
        count: the number of buckets.
        salt: two integers, or None.
    """
    hashes = farm_fingerprints(strings) if salt is None else sip_fingerprints(strings, salt)
    return (hashes % np.uint64(count)).astype(np.int64)


class IndexLookup(GraphLookup):
    """The base of layers that look terms up in a vocabulary.

    Subclasses say how terms are read, found and hashed.
    """

    term: type = object  # of the vocabulary
    term_dtype = ""

    def __init__(
        self,
        max_tokens: int | None,
        num_oov_indices: int,
        mask_token: Any,
        oov_token: Any,
        vocabulary: Any = None,
        idf_weights: Any = None,
        invert: bool = False,
        output_mode: str = "int",
        sparse: bool = False,
        pad_to_max_tokens: bool = False,
        oov_method: str = "floormod",
        salt: Any = None,
        name: str | None = None,
        trainable: bool = True,
        dtype: Any = None,
        vocabulary_size: int | None = None,
        has_input_vocabulary: bool | None = None,
        **kwargs: Any,
    ):
        caller = type(self).__name__
        if max_tokens is not None and max_tokens <= 1:
            raise ValueError(f"`max_tokens` of {caller} must be greater than 1, got {max_tokens}.")
        if pad_to_max_tokens and max_tokens is None:
            raise ValueError("If `pad_to_max_tokens` is true, `max_tokens` must be set.")
        if num_oov_indices < 0:
            raise ValueError(
                f"`num_oov_indices` of {caller} must be at least 0, got {num_oov_indices}."
            )
        if oov_method not in ("floormod", "farmhash"):
            raise ValueError(f"`oov_method` must be 'floormod' or 'farmhash', got {oov_method!r}.")
        if salt is not None and self.term is int and oov_method != "farmhash":
            raise ValueError(f"`salt` needs oov_method='farmhash', got {oov_method!r}.")
        output_mode = check_output_mode(output_mode, OUTPUT_MODES, sparse)
        if invert and output_mode != "int":
            raise ValueError(f"`output_mode` must be 'int' if `invert` is true, got {output_mode}.")
        if idf_weights is not None and output_mode != "tf_idf":
            raise ValueError(f"`idf_weights` needs output_mode='tf_idf', got {output_mode!r}.")
        if vocabulary is not None and output_mode == "tf_idf" and idf_weights is None:
            raise ValueError("A `vocabulary` needs its `idf_weights` if output_mode is 'tf_idf'.")
        self.set_arguments({"name": name, "dtype": dtype, "trainable": trainable, "kwargs": kwargs})
        self.set_attributes(
            invert=invert, max_tokens=max_tokens, num_oov_indices=num_oov_indices,
            oov_token=oov_token, mask_token=mask_token, output_mode=output_mode, sparse=sparse,
            pad_to_max_tokens=pad_to_max_tokens, oov_method=oov_method,
            salt=read_salt(salt, caller),
        )  # fmt: skip
        # Names with this prefix are passed over where the variables of a layer are looked for.
        self._kl_input = None if isinstance(vocabulary, str | Path) else vocabulary
        self._kl_input_idf = idf_weights
        self._frozen_size = vocabulary_size
        self._has_input_vocabulary = (
            vocabulary is not None if has_input_vocabulary is None else has_input_vocabulary
        )
        self.idf_weights: np.ndarray | None = None
        self._set_terms([])
        self._counts = TokenCounts(output_mode == "tf_idf")
        if vocabulary is not None:
            self.set_vocabulary(vocabulary, idf_weights)

    # -- what subclasses say ------------------------------------------------------------------

    def read(self, x: Any) -> tuple[Any, tuple[int, ...]]:
        """Return the terms of inputs as (flat, their shape)."""
        raise NotImplementedError

    def make_index(self, terms: Sequence[Any], places: np.ndarray) -> Any:
        """Return what `find` looks terms up in.

        Args:
            terms: distinct terms.
            places: the number of each.
        """
        raise NotImplementedError

    def find(self, index: Any, terms: Any) -> np.ndarray:
        """Return the places of flat terms; UNKNOWN for those that are not in the index."""
        raise NotImplementedError

    def numbered(self, terms: Any) -> tuple[list[Any], np.ndarray]:
        """Return the distinct ones of flat terms, and which each is."""
        raise NotImplementedError

    def oov_buckets(self, terms: Sequence[Any]) -> np.ndarray:
        """Return for each term the number of its bucket, of `num_oov_indices`."""
        raise NotImplementedError

    # -- the vocabulary -----------------------------------------------------------------------

    @property
    def input_vocabulary(self) -> Any:
        """The vocabulary that the layer was made with; None if it was a file."""
        return self._kl_input

    @property
    def _specials(self) -> list[Any]:
        """The terms before the vocabulary."""
        has_mask = self.mask_token is not None and self.output_mode == "int"
        return [self.mask_token] * has_mask + [self.oov_token] * self.num_oov_indices

    @property
    def _oov_start(self) -> int:
        return len(self._specials) - self.num_oov_indices

    def _set_terms(self, terms: list[Any]) -> None:
        self._kl_terms = terms
        places = np.arange(len(terms), dtype=np.int64) + len(self._specials)
        if self.mask_token is not None:
            masked = 0 if self.output_mode == "int" else MASKED
            terms, places = [*terms, self.mask_token], np.append(places, masked)
        self._kl_index = self.make_index(terms, places)

    def get_vocabulary(self, include_special_tokens: bool = True) -> list[Any]:
        """Return the terms of the vocabulary.

        Args:
            include_special_tokens: whether the mask and OOV tokens stand before them, so that the
                place of a term is its number.
        """
        return (
            [*self._specials, *self._kl_terms] if include_special_tokens else list(self._kl_terms)
        )

    def vocabulary_size(self) -> int:
        """Return the number of terms, with the mask and OOV tokens."""
        return len(self._specials) + len(self._kl_terms)

    def set_vocabulary(self, vocabulary: Any, idf_weights: Any = None) -> None:
        """Set the vocabulary, instead of `adapt`.

        Args:
            vocabulary: a list, an array or a tensor of terms, with or without the special tokens
                before them; or a text file with a term in each line.
            idf_weights: a weight for each, if `output_mode` is "tf_idf".

        Raises:
            ValueError: a term occurs twice or is a special one, there are too many of them or
                none, or the weights do not fit.
        """
        if (self.output_mode == "tf_idf") != (idf_weights is not None):
            raise ValueError(
                "`idf_weights` must be set if `output_mode` is 'tf_idf', and only then, got "
                f"output_mode={self.output_mode!r} and idf_weights={idf_weights}."
            )
        if isinstance(vocabulary, str | Path):
            self._set_terms([self.term(line) for line in _lines(vocabulary)])
            self._freeze_size()
            return
        terms, _ = self.read(vocabulary)
        terms = [self.term(term) for term in terms]
        if not terms:
            raise ValueError("The vocabulary is empty: it must have at least one term.")
        specials = self._specials
        has_specials = bool(specials) and terms[: len(specials)] == specials
        tokens = terms[len(specials) :] if has_specials else terms
        self._check(tokens, specials)
        weights = None if idf_weights is None else np.asarray(plain_list(idf_weights), "float64")
        if weights is not None and weights.shape != (len(terms),):
            raise ValueError(
                f"`idf_weights` must have the shape ({len(terms)},), one for each term of the "
                f"vocabulary, got {weights.shape}."
            )
        self._set_terms(tokens)
        self._freeze_size()
        if weights is not None:
            self._set_idf_weights(weights, 0 if has_specials else len(specials))

    def _check(self, tokens: list[Any], specials: list[Any]) -> None:
        if len(set(tokens)) < len(tokens):
            seen: set[Any] = set()
            repeated = [t for t in tokens if t in seen or seen.add(t)]
            raise ValueError(
                f"The vocabulary has at least one repeated term: {repeated[:10]}. Each must occur "
                "once."
            )
        reserved = {"mask": self.mask_token, "OOV": self.oov_token if self.invert else None}
        for what, token in reserved.items():
            if token is not None and token in tokens:
                raise ValueError(
                    f"The reserved {what} token {token!r} stands at place {tokens.index(token)} of "
                    "the vocabulary. Leave the special tokens out, or begin the vocabulary with "
                    f"all of them: {specials}."
                )
        size = len(specials) + len(tokens)
        if self.max_tokens is not None and size > self.max_tokens:
            raise ValueError(
                f"The vocabulary has {size} terms with the special tokens, which is more than "
                f"max_tokens={self.max_tokens}."
            )

    def _set_idf_weights(self, weights: np.ndarray, before: int) -> None:
        """Set weights, with `before` times their mean before them."""
        after = self.max_tokens - before - len(weights) if self.pad_to_max_tokens else 0
        mean = weights.mean() if len(weights) else 0.0
        weights = np.concatenate([np.full(before, mean), weights, np.zeros(after)])
        self.idf_weights = weights.astype(settings.floatx())

    def _freeze_size(self) -> None:
        """Note the size of the vocabulary, on which the shape of the outputs depends."""
        size, frozen = self.vocabulary_size(), self._frozen_size
        depends = self.output_mode != "int" and not self.pad_to_max_tokens
        if depends and frozen is not None and size != frozen:
            raise RuntimeError(
                f"The vocabulary of layer {self.name!r} had {frozen} terms and cannot have {size} "
                f"now: its outputs have that size if output_mode={self.output_mode!r}. Make a new "
                "layer, or set pad_to_max_tokens."
            )
        self._frozen_size = size

    # -- learning it --------------------------------------------------------------------------

    def adapt(self, data: Any, steps: int | None = None) -> None:
        """Learn the vocabulary: the terms of data by their number, the most frequent first.

        The data are read once; what is kept grows with the number of distinct terms alone.

        Args:
            data: an array, a list, a column of pandas, or batches: a `tf.data.Dataset`, a
                `DataLoader`, a generator. Of batches such as (x, y) x counts.
            steps: the largest number of batches.

        Raises:
            ValueError: the layer was made with a vocabulary.
        """
        self.reset_state()
        for batch, is_array in adapt_batches(data, steps, _ROWS):
            self.update_state(batch) if not is_array else self.count(self.tokens(batch, True))
        self.finalize_state()

    def update_state(self, data: Any) -> None:
        """Count the terms of a batch; of one axis, it is one document."""
        self.count(self.tokens(data, False))

    def tokens(self, data: Any, of_samples: bool) -> Tokens:
        """Return the terms of a batch by document.

        Args:
            data: terms, with an axis of documents and one of the terms of each.
            of_samples: whether the axis of data with a single one is that of documents.
        """
        if hasattr(data, "flat_values"):  # TensorFlow's ragged tensor
            lengths = backends.to_numpy(data.row_lengths()).astype("int64")
            terms, _ = self.read(data.flat_values)
        else:
            terms, shape = self.read(data)
            rows = shape[0] if len(shape) > 1 or (of_samples and shape) else 1
            lengths = np.full(rows, len(terms) // max(rows, 1))
        return Tokens(*self.numbered(terms), lengths)

    def count(self, tokens: Tokens) -> None:
        """Count tokens.

        Args:
            tokens: what `tokens` gave.
        """
        if self._has_input_vocabulary:
            raise ValueError(
                f"Layer {self.name!r} was made with a vocabulary: it cannot adapt. Make one "
                "without."
            )
        self._counts.update(tokens)

    def finalize_state(self) -> None:
        """Make the vocabulary of the terms that were counted."""
        if self._has_input_vocabulary or not self._counts.counts:
            self._freeze_size()
            return
        specials = self._specials
        limit = None if not self.max_tokens else self.max_tokens - len(specials)
        reserved = [t for t in (self.mask_token, self.oov_token) if t is not None]
        tokens = self._counts.most_common(limit, reserved)
        self._set_terms(tokens)
        if self.output_mode == "tf_idf":
            weights = self._counts.inverse_document_frequencies(tokens)
            self._set_idf_weights(weights, len(specials))
        self.reset_state()
        self._freeze_size()

    def reset_state(self) -> None:
        """Forget the terms that were counted."""
        self._counts = TokenCounts(self.output_mode == "tf_idf")

    # -- calling ------------------------------------------------------------------------------

    @property
    def _depth(self) -> int | None:
        return self.max_tokens if self.pad_to_max_tokens else self._frozen_size

    def numbers_of(self, terms: Any) -> np.ndarray:
        """Return the numbers of flat terms; those that count nowhere have negative ones.

        Args:
            terms: as `read` gives them.

        Raises:
            ValueError: one is not in the vocabulary, and `num_oov_indices` is 0.
        """
        numbers = self.find(self._kl_index, terms)
        if self.num_oov_indices == 1:
            numbers[numbers == UNKNOWN] = self._oov_start
            return numbers
        unknown = np.flatnonzero(numbers == UNKNOWN)
        if len(unknown):
            terms = [terms[i] for i in unknown]
            if self.num_oov_indices == 0:
                raise ValueError(
                    f"Layer {self.name!r} has num_oov_indices=0, so all inputs must be in the "
                    f"vocabulary, got {terms[:10]}. Set num_oov_indices=1."
                )
            numbers[unknown] = self.oov_buckets(terms) + self._oov_start
        return numbers

    def _lookup(self, inputs: Any) -> np.ndarray:
        terms, shape = self.read(inputs)
        return self.numbers_of(terms).reshape(shape)

    def _terms_of(self, inputs: Any) -> np.ndarray:
        table = np.array([*self._specials, *self._kl_terms, self.oov_token], object)
        table[self._oov_start : len(self._specials)] = self.oov_token
        numbers = np.asarray(inputs if isinstance(inputs, list | tuple) else
                             backends.to_numpy(inputs)).astype(np.int64)  # fmt: skip
        inside = (numbers >= 0) & (numbers < len(table))
        terms = table[np.where(inside, numbers, len(table) - 1)]
        return np.asarray(terms, self._term_example.dtype)

    @property
    def _term_example(self) -> np.ndarray:
        return np.zeros(0, object if self.term is str else np.int64)

    def call(self, inputs: Any) -> Any:
        """Look the inputs up, and encode what comes out."""
        if self.output_mode != "int" and self._depth is None:
            raise RuntimeError(
                f"Layer {self.name!r} has no vocabulary yet, on which its outputs depend if "
                f"output_mode={self.output_mode!r}: give one, or call adapt()."
            )
        if hasattr(inputs, "flat_values"):  # TensorFlow's ragged tensor
            return self._call_ragged(inputs)
        if hasattr(inputs, "dense_shape"):  # and its sparse one
            return self._call_sparse(inputs)
        if self.invert:
            return on_host(self._terms_of, inputs, [self._term_example], [static_shape(inputs)])
        return self.encoded(self._lookup, inputs, static_shape(inputs))

    def _call_sparse(self, inputs: Any) -> Any:
        if self.output_mode == "int":
            return type(inputs)(inputs.indices, self.call(inputs.values), inputs.dense_shape)
        values = inputs.values
        places = on_host(self._lookup, values, [np.zeros(0, np.int64)], [static_shape(values)])
        # Where there is no element, there is none to encode.
        shifted = type(inputs)(
            inputs.indices, ops.convert_to_tensor(places) - MASKED, inputs.dense_shape
        )
        numbers = ops.convert_to_tensor(shifted, sparse=False) + MASKED
        return self.encoded(backends.to_numpy, numbers, static_shape(numbers))

    def _call_ragged(self, inputs: Any) -> Any:
        function = self._terms_of if self.invert else self._lookup
        example = self._term_example if self.invert else np.zeros(0, np.int64)
        flat = inputs.flat_values
        flat = on_host(function, flat, [example], [static_shape(flat)])
        outputs = inputs.with_flat_values(ops.convert_to_tensor(flat))
        if self.output_mode == "int":
            return outputs
        numbers = outputs.to_tensor(MASKED)
        return self.encoded(backends.to_numpy, numbers, static_shape(numbers))

    def encoded(self, function: Callable, inputs: Any, shape: tuple | None) -> Any:
        """Encode the numbers of terms that a function computes, as `output_mode` says.

        Args:
            function: a function of NumPy.
            inputs: its inputs.
            shape: the static shape of the numbers, which counts in a graph.
        """
        mode, dtype = self.output_mode, "int64"
        if mode == "tf_idf":
            mode, dtype = "count", settings.floatx()
        outputs = encode_on_host(function, inputs, shape, mode, self._depth, dtype, self.sparse)
        if self.output_mode == "tf_idf":
            outputs = ops.multiply(outputs, ops.convert_to_tensor(self.idf_weights))
        return outputs

    def compute_output_shape(self, input_shape: Shape) -> tuple:
        """The shape of the outputs."""
        return encoded_shape(input_shape, self.output_mode, self._depth)

    def compute_output_spec(self, inputs: KerasTensor) -> KerasTensor:
        """The symbolic output for a symbolic input: texts have no abstract values."""
        if self.invert:
            return KerasTensor(inputs.dims, self.term_dtype)
        dims = encoded_shape(inputs.dims, self.output_mode, self._depth)
        return KerasTensor(dims, self.output_dtype, sparse=self.sparse)

    @property
    def output_dtype(self) -> str:
        """The dtype of the outputs on the layer's backend."""
        dtype = settings.floatx() if self.output_mode == "tf_idf" else "int64"
        return backends.load(self.backend).canonical(dtype)

    # -- configs and files --------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the layer again; a vocabulary only if it was one of them."""
        vocabulary = plain_list(self.input_vocabulary)
        if vocabulary is not None:
            vocabulary = [self.term(t) for t in self.read(vocabulary)[0]]
        return super().get_config() | {
            "vocabulary": vocabulary, "idf_weights": plain_list(self._kl_input_idf),
            "vocabulary_size": self._frozen_size,
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The layer of a config."""
        check_no_file(config)
        return super().from_config(config)

    def saved_vocabulary(self) -> dict[str, Any] | None:
        """Return what a file has to hold beside the config; None if that says all."""
        if self.input_vocabulary is not None or not self._kl_terms:
            return None
        state: dict[str, Any] = {"terms": list(self._kl_terms)}
        if self.idf_weights is not None:
            state["idf_weights"] = self.idf_weights.tolist()
        return state

    def restore_vocabulary(self, state: dict[str, Any]) -> None:
        """Bring back what `saved_vocabulary` gave.

        Args:
            state: the terms, and their weights.
        """
        self._set_terms([self.term(t) for t in state["terms"]])
        self._freeze_size()
        if "idf_weights" in state:
            self.idf_weights = np.asarray(state["idf_weights"], settings.floatx())

    def save_own_variables(self, store: Any) -> None:
        """Put the inverse document frequencies into a mapping, as Keras does."""
        if self.output_mode == "tf_idf" and self.idf_weights is not None:
            store["idf_weights"] = self.idf_weights

    def load_own_variables(self, store: Any) -> None:
        """Take the inverse document frequencies from a mapping."""
        if self.output_mode == "tf_idf" and "idf_weights" in store:
            self.idf_weights = np.asarray(store["idf_weights"], settings.floatx())

    def save_assets(self, dir_path: Any) -> None:
        """Write the vocabulary to `vocabulary.txt` in a folder, as Keras does.

        Args:
            dir_path: the folder.
        """
        if self.input_vocabulary is None:
            text = "\n".join(map(str, self.get_vocabulary()))
            Path(dir_path, "vocabulary.txt").write_text(text, encoding="utf-8", newline="\n")

    def load_assets(self, dir_path: Any) -> None:
        """Read the vocabulary that `save_assets`, or Keras, wrote.

        Args:
            dir_path: the folder.
        """
        if self.input_vocabulary is None:
            lines = _lines(Path(dir_path, "vocabulary.txt"))
            while lines and not lines[-1]:
                lines.pop()
            self._set_terms([self.term(line) for line in lines[len(self._specials) :]])
            self._freeze_size()


def _lines(path: Any) -> list[str]:
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"The vocabulary file {path} does not exist.")
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


def check_no_file(config: dict[str, Any]) -> None:
    """Raise ValueError if a config names a file to read a vocabulary from.

    Args:
        config: of a layer.
    """
    if isinstance(config.get("vocabulary"), str) and registry.safe_mode.get():
        raise ValueError(
            f"The config names the vocabulary file {config['vocabulary']!r}, which lies outside "
            "the saved model and is not read. If you trust it, call "
            "keraslite.config.enable_unsafe_deserialization()."
        )


# In a saved model an adapted vocabulary stands beside the shapes of the layer.
register_build_state(
    "vocabulary",
    lambda layer: layer.saved_vocabulary() if hasattr(layer, "saved_vocabulary") else None,
    lambda layer, state: layer.restore_vocabulary(state),
)
