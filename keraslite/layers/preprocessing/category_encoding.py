"""CategoryEncoding: numbers of categories as vectors."""

from typing import Any

from keraslite import ops
from keraslite.layers.preprocessing.categories import check_output_mode, encode
from keraslite.layers.preprocessing.data_layer import DataLayer
from keraslite.typing import Tensor


class CategoryEncoding(DataLayer):
    """Encode numbers of categories as one-hot vectors, or samples of them as sets and counts.

    Args:
        num_tokens: the number of categories; numbers outside count nowhere.
        output_mode: "one_hot", "multi_hot" or "count".
        sparse: whether the outputs are sparse tensors of the backend.

    Raises:
        ValueError: `num_tokens` is missing, or there is no such mode.

    >>> layer = CategoryEncoding(4, output_mode="count")
    >>> ops.convert_to_numpy(layer([[0, 0, 2]])).tolist()
    [[2.0, 0.0, 1.0, 0.0]]
    """

    def __init__(
        self,
        num_tokens: int | None = None,
        output_mode: str = "multi_hot",
        sparse: bool = False,
        **kwargs: Any,
    ):
        output_mode = check_output_mode(output_mode, ("one_hot", "multi_hot", "count"), sparse)
        if num_tokens is None or num_tokens < 1:
            raise ValueError(
                f"`num_tokens` must be at least 1, got {num_tokens}. If it is not known, take an "
                "IntegerLookup."
            )
        self.set_arguments(locals())

    def call(self, inputs: Tensor, count_weights: Any = None) -> Any:
        """Encode the inputs.

        Args:
            inputs: ints; of two axes, each row is a sample.
            count_weights: of the same shape: what each adds to a count.
        """
        if count_weights is not None:
            if self.output_mode != "count":
                raise ValueError(
                    f"`count_weights` needs output_mode='count', got {self.output_mode!r}."
                )
            count_weights = ops.cast(ops.convert_to_tensor(count_weights), self.compute_dtype)
        return encode(
            ops.convert_to_tensor(inputs), self.output_mode, self.num_tokens, self.compute_dtype,
            self.sparse, count_weights,
        )  # fmt: skip
