"""Discretization: from numbers to the numbers of their bins."""

from typing import Any, Self

import numpy as np

from keraslite import backend as backends
from keraslite import config as settings
from keraslite import ops
from keraslite.layers.preprocessing.adapting import adapt_batches
from keraslite.layers.preprocessing.categories import check_output_mode, encode
from keraslite.layers.preprocessing.data_layer import DataLayer
from keraslite.registry import deserialize_keras_object
from keraslite.typing import Tensor


class Discretization(DataLayer):
    """Turn numbers into those of the bins that they lie in; a bin holds its lower boundary.

    Args:
        bin_boundaries: the boundaries, in order; the first and the last bin have no end.
        num_bins: the number of bins whose boundaries `adapt` finds, as quantiles.
        epsilon: how exact these are, as a part of the data: with 0.01 some hundred numbers are
            kept while data are read.
        output_mode: "int", "one_hot", "multi_hot" or "count".
        sparse: whether encoded outputs are sparse tensors of the backend.
        dtype: of encoded outputs; numbers of bins are int32.
        name: a name.

    Raises:
        ValueError: an argument is wrong, or does not fit another.

    >>> layer = Discretization(bin_boundaries=[0.0, 1.0, 2.0])
    >>> ops.convert_to_numpy(layer(np.array([[-1.5, 1.0, 3.4, 0.5]]))).tolist()
    [[0, 2, 3, 1]]
    """

    def __init__(
        self,
        bin_boundaries: Any = None,
        num_bins: int | None = None,
        epsilon: float = 0.01,
        output_mode: str = "int",
        sparse: bool = False,
        dtype: Any = None,
        name: str | None = None,
    ):
        modes = ("int", "one_hot", "multi_hot", "count")
        output_mode = check_output_mode(output_mode, modes, sparse)
        if num_bins is not None and num_bins < 0:
            raise ValueError(f"`num_bins` must be at least 0, got {num_bins}.")
        if (num_bins is None) == (bin_boundaries is None):
            raise ValueError(
                "One of `num_bins` and `bin_boundaries` must be set, got "
                f"num_bins={num_bins} and bin_boundaries={bin_boundaries}."
            )
        if bin_boundaries is not None:
            bin_boundaries = [float(b) for b in backends.to_numpy(bin_boundaries)]
        self.set_arguments({"name": name, "dtype": dtype})
        self.set_attributes(
            bin_boundaries=bin_boundaries, num_bins=num_bins, epsilon=epsilon,
            output_mode=output_mode, sparse=sparse,
        )  # fmt: skip
        self.reset_state()

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the layer again."""
        config = super().get_config()
        del config["trainable"]  # which the constructor does not take
        return config

    @property
    def input_dtype(self) -> str:
        """The dtype to which float inputs are cast."""
        return settings.floatx()

    @property
    def output_dtype(self) -> str:
        """The dtype of the outputs."""
        return "int32" if self.output_mode == "int" else self.compute_dtype

    # -- learning the boundaries --------------------------------------------------------------

    def adapt(self, data: Any, steps: int | None = None) -> None:
        """Find the boundaries that part data into bins of equal size, to about `epsilon`.

        The data are read once, and what is kept of them does not grow.

        Args:
            data: an array, or batches: a `tf.data.Dataset`, a `DataLoader`, a generator. Of batches
                such as (x, y) x counts.
            steps: the largest number of batches.

        Raises:
            ValueError: the layer was made with boundaries, or there are no data.
        """
        if self.num_bins is None:
            raise ValueError(
                f"Layer {self.name!r} was made with `bin_boundaries`: it cannot adapt. Give "
                "`num_bins` in their place."
            )
        self.reset_state()
        for batch, _ in adapt_batches(data, steps):
            self.update_state(batch)
        self.finalize_state()

    def update_state(self, data: Any) -> None:
        """Take numbers into the summary."""
        array = np.asarray(data if isinstance(data, list | tuple) else backends.to_numpy(data))
        new = _summarize(array.astype("float32"), self.epsilon)
        both = np.concatenate([new, self.summary], axis=1)
        self.summary = _compressed(both[:, np.argsort(both[0])], self.epsilon)

    def finalize_state(self) -> None:
        """Make the boundaries out of the summary."""
        if self.num_bins is None:
            return
        if not self.summary.shape[1]:
            raise ValueError("The data is empty: adapt needs at least one number.")
        self.bin_boundaries = _compressed(self.summary, 1.0 / self.num_bins)[0, :-1].tolist()

    def reset_state(self) -> None:
        """Forget the numbers that were read."""
        # Values in order, and how many numbers each stands for.
        self.summary = np.zeros((2, 0), "float32")

    # -- calling ------------------------------------------------------------------------------

    def call(self, inputs: Tensor) -> Any:
        """Find the bins, and encode their numbers."""
        if self.bin_boundaries is None:
            raise ValueError(
                f"Layer {self.name!r} has no boundaries yet: call adapt(), or give "
                "`bin_boundaries`."
            )
        dtype = backends.load(backends.backend()).canonical(settings.floatx())
        inputs = ops.cast(ops.convert_to_tensor(inputs), dtype)
        bins = ops.digitize(inputs, ops.convert_to_tensor(self.bin_boundaries, dtype))
        depth = len(self.bin_boundaries) + 1
        return encode(bins, self.output_mode, depth, self.output_dtype, self.sparse)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The layer of a config, which may have boundaries that were learned."""
        config = {k: deserialize_keras_object(v) for k, v in config.items() if k != "trainable"}
        boundaries = config.get("bin_boundaries")
        if config.get("num_bins") is not None:
            config["bin_boundaries"] = None
        layer = cls(**config)
        layer.bin_boundaries = boundaries
        return layer


def _summarize(values: np.ndarray, epsilon: float) -> np.ndarray:
    """Return about 1 / epsilon of the values in order, and how many each stands for."""
    values = np.sort(values.ravel())
    step = max(len(values) * epsilon, 1)
    values = values[int(step - 1) :: int(step)]
    return np.stack([values, np.full(len(values), step, values.dtype)])


def _compressed(summary: np.ndarray, epsilon: float) -> np.ndarray:
    """Return a summary of about 1 / epsilon values, at equal distances of the cumulated weights."""
    if summary.shape[1] * epsilon < 1:
        return summary
    parts = epsilon + np.arange(0.0, 1.0, epsilon)
    cumulated = summary[1].cumsum()
    known = cumulated / cumulated[-1]
    values = np.interp(parts, known, summary[0])
    weights = np.diff(np.interp(parts, known, cumulated), prepend=0)
    return np.stack([values, weights]).astype("float32")
