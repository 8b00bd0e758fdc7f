"""Vocabularies in graphs of TensorFlow that are saved: looked up by tables, not on the host."""

from typing import Any

from keraslite import config as settings
from keraslite import ops
from keraslite.layers.preprocessing.categories import encode
from keraslite.layers.preprocessing.host import HostLayer
from keraslite.layers.preprocessing.texts import as_bytes

UNKNOWN, MASKED = -1, -2  # places of terms that are not in the vocabulary


class GraphLookup(HostLayer):
    """The part of a lookup layer that runs in a graph that is saved; `IndexLookup` has the rest."""

    def call_in_saved_graph(self, inputs: Any) -> Any:
        """Look up by a table of TensorFlow."""
        from keraslite.backend.tensorflow import texts as graph

        if self.invert:
            terms = [*self._specials, *self._kl_terms]
            terms[self._oov_start : len(self._specials)] = [self.oov_token] * self.num_oov_indices
            *terms, unknown = _for_graph([*terms, self.oov_token])
            return graph.terms_at(inputs, terms, unknown)
        return self.encoded_in_saved_graph(self.numbers_in_saved_graph(inputs))

    def numbers_in_saved_graph(self, terms: Any) -> Any:
        """Return the numbers of terms; those that count nowhere have negative ones.

        Args:
            terms: a tensor of the graph, strings of UTF-8 or integers.
        """
        from keraslite.backend.tensorflow import texts as graph

        places = list(range(len(self._specials), self.vocabulary_size()))
        keys = list(self._kl_terms)
        if self.mask_token is not None:
            keys.append(self.mask_token)
            places.append(0 if self.output_mode == "int" else MASKED)
        if not keys:
            raise self.no_graph_form("it has no vocabulary yet")
        numbers = graph.lookup(terms, _for_graph(keys), places)
        if self.num_oov_indices == 0:
            return graph.check_known(numbers, self.name)
        unknown: Any = self._oov_start
        if self.num_oov_indices > 1:
            if self.term is int and self.oov_method == "floormod":
                unknown += ops.mod(ops.cast(terms, "int64"), self.num_oov_indices)
            else:
                unknown += graph.buckets(terms, self.num_oov_indices, self.salt)
        return ops.where(numbers == UNKNOWN, ops.cast(unknown, "int64"), numbers)

    def encoded_in_saved_graph(self, numbers: Any) -> Any:
        """Encode numbers as `output_mode` says.

        Args:
            numbers: a tensor of the graph.
        """
        if self.sparse:
            raise self.no_graph_form("its outputs are sparse")
        mode, dtype = self.output_mode, "int64"
        if mode == "tf_idf":
            mode, dtype = "count", settings.floatx()
        outputs = encode(numbers, mode, self._depth, dtype)
        if self.output_mode == "tf_idf":
            outputs = ops.multiply(outputs, ops.convert_to_tensor(self.idf_weights))
        return outputs


def _for_graph(terms: list[Any]) -> list[Any]:
    """Return texts as bytes, as a graph has them, and numbers as they are."""
    return as_bytes(terms) if terms and isinstance(terms[0], str) else terms
