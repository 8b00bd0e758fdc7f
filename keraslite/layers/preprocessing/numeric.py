"""Preprocessing of numbers: scaling and normalization."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import config, ops, registry
from keraslite.layers.preprocessing.adapting import batches_of
from keraslite.layers.preprocessing.data_layer import DataLayer
from keraslite.typing import Shape, Tensor


class Rescaling(DataLayer):
    """`inputs * scale + offset`, in the layer's dtype.

    Args:
        scale: a number, or one a channel.
        offset: likewise.

    >>> ops.convert_to_numpy(Rescaling(1 / 255)(np.array([0, 255]))).tolist()
    [0.0, 1.0]
    """

    def __init__(self, scale: Any, offset: Any = 0.0, **kwargs: Any):
        scale = registry.deserialize_keras_object(scale)
        offset = registry.deserialize_keras_object(offset)
        self.set_arguments(locals())
        self.supports_masking = True

    def call(self, inputs: Tensor) -> Tensor:
        """Scale and shift."""
        dtype = self.compute_dtype
        scale, offset = (
            v if isinstance(v, int | float) else ops.convert_to_tensor(v, dtype)
            for v in (self.scale, self.offset)
        )
        shape = getattr(scale, "shape", ())
        if len(shape) and config.image_data_format() == "channels_first":
            scale = ops.reshape(scale, (*shape, *(1,) * (3 - len(shape))))
        return ops.add(ops.multiply(ops.cast(inputs, dtype), scale), offset)


class Normalization(DataLayer):
    """Bring features to mean 0 and variance 1, by a mean and variance that do not change.

    Args:
        axis: the axes along which each index has a mean and variance of its own; None for one of
            all numbers.
        mean: a number, or an array that broadcasts over those axes; learned by `adapt` where it is
            None.
        variance: likewise.
        invert: whether normalized inputs are brought back to what they were.

    Raises:
        ValueError: `mean` and `variance` do not fit each other or the axes.

    >>> layer = Normalization(axis=None)
    >>> layer.adapt(np.array([1.0, 3.0], "float32"))
    >>> ops.convert_to_numpy(layer(np.array([1.0, 2.0, 3.0], "float32"))).tolist()
    [-1.0, 0.0, 1.0]
    """

    unsaved_arguments = ("input_mean", "input_variance")

    def __init__(
        self,
        axis: int | Sequence[int] | None = -1,
        mean: Any = None,
        variance: Any = None,
        invert: bool = False,
        **kwargs: Any,
    ):
        axis = () if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
        if (mean is None) != (variance is None):
            raise ValueError(
                "`mean` and `variance` must be set together, or both be None, got "
                f"mean={mean}, variance={variance}."
            )
        if mean is not None:
            mean, variance = ops.convert_to_numpy(mean), ops.convert_to_numpy(variance)
            if mean.shape != variance.shape or mean.ndim > len(axis):
                raise ValueError(
                    f"`mean` and `variance` must have one shape, of at most {len(axis)} axes as "
                    f"axis={axis}, got {mean.shape} and {variance.shape}."
                )
        super().__init__(**kwargs)
        self.set_attributes(axis=axis, invert=invert, input_mean=mean, input_variance=variance)
        self.supports_masking = True
        self.reset_state()

    def build(self, input_shape: Shape) -> None:
        """Make the weights that `adapt` sets, or bring the statistics to the shape of the axes."""
        rank = len(input_shape)
        if any(not -rank <= a < rank for a in self.axis):
            raise ValueError(f"`axis` must be axes of inputs {input_shape}, got {self.axis}.")
        self._kept = sorted(a % rank for a in self.axis)
        if any(input_shape[a] is None for a in self._kept):
            raise ValueError(
                f"Sizes must be known along axis={self.axis}, got inputs {input_shape}."
            )
        self._sizes = tuple(input_shape[a] for a in self._kept)
        self._broadcast_shape = [input_shape[a] if a in self._kept else 1 for a in range(rank)]
        if self.input_mean is None:
            self.adapt_mean = self._add_state("mean", self._sizes, "zeros")
            self.adapt_variance = self._add_state("variance", self._sizes, "ones")
            self.count = self._add_state("count", (), "zeros", dtype="int32")  # as Keras's files
            return
        try:
            for value in (self.input_mean, self.input_variance):
                np.broadcast_to(value, self._sizes)
        except ValueError as error:
            raise ValueError(
                f"`mean` and `variance` must broadcast to {self._sizes}, the sizes of inputs "
                f"{input_shape} along axis={self.axis}, got the shape {self.input_mean.shape}."
            ) from error

    def _add_state(self, name: str, shape: tuple, initializer: str, dtype: Any = None) -> Any:
        return self.add_weight(
            name=name, shape=shape, initializer=initializer, dtype=dtype, trainable=False
        )

    @property
    def mean(self) -> Any:
        """The mean, of as many axes as the inputs; None before the layer is built."""
        return self._statistic(self.input_mean, "adapt_mean")

    @property
    def variance(self) -> Any:
        """The variance, of as many axes as the inputs; None before the layer is built."""
        return self._statistic(self.input_variance, "adapt_variance")

    def _statistic(self, constant: Any, weight: str) -> Any:
        if not self.built:
            return None
        if constant is None:
            value = getattr(self, weight).value
            if backends.backend() != self.backend:  # in the graph of another framework
                value = ops.convert_to_tensor(backends.to_numpy(value))
            value = ops.cast(value, self.compute_dtype)
        else:
            value = ops.convert_to_tensor(
                np.broadcast_to(constant, self._sizes), self.compute_dtype
            )
        return ops.reshape(value, self._broadcast_shape)

    def adapt(self, data: Any) -> None:
        """Set the mean and the variance to those of data.

        Args:
            data: an array, a tensor, or batches of them: an iterable, a `PyDataset` or a data set
                of TensorFlow. Of batches such as (x, y) x counts.

        Raises:
            TypeError: the data is neither.
            ValueError: there is no batch, a batch does not fit, or `mean` was set.
        """
        self.reset_state()
        for batch in _batches(data):
            self.update_state(batch)
        self.finalize_state()

    def reset_state(self) -> None:
        """Forget the numbers that were read."""
        self._kl_moments: tuple[int, Any, Any] = (0, 0.0, 0.0)  # count, mean, variance

    def update_state(self, data: Any) -> None:
        """Take a batch of numbers into the statistics.

        Args:
            data: an array or tensor, with an axis of samples where the features have one.
        """
        if self.input_mean is not None:
            raise ValueError(f"Layer {self.name!r} has a `mean` of its own: it cannot adapt.")
        batch = ops.convert_to_numpy(data)
        if not self.built:
            self.build(batch.shape)
        sizes = tuple(batch.shape[a] for a in self._kept if a < batch.ndim)
        if batch.ndim != len(self._broadcast_shape) or sizes != self._sizes:
            raise ValueError(
                f"Data must have the sizes {self._sizes} along axis={self.axis}, got {batch.shape}."
            )
        axes = tuple(a for a in range(batch.ndim) if a not in self._kept)
        # Float64 on the host: the same on every backend, and exact where a mean is large.
        batch = batch.astype("float64")
        new = int(np.prod([batch.shape[a] for a in axes], dtype=int))
        if new == 0:
            return
        count, mean, variance = self._kl_moments
        total, delta = count + new, batch.mean(axes) - mean
        # The variances, and how far the means lie apart (Chan et al., 1979).
        variance = (count * variance + new * batch.var(axes)) / total
        variance = variance + delta**2 * count * new / total**2
        self._kl_moments = total, mean + delta * new / total, variance

    def finalize_state(self) -> None:
        """Set the mean and the variance to those of the numbers that were read."""
        count, mean, variance = self._kl_moments
        if not count:
            raise ValueError("The data is empty: adapt needs at least one batch.")
        for weight, value in ((self.adapt_mean, mean), (self.adapt_variance, variance)):
            weight.assign(np.broadcast_to(value, self._sizes).astype(weight.dtype))
        self.reset_state()

    def call(self, inputs: Tensor) -> Tensor:
        """Normalize."""
        inputs = ops.cast(inputs, self.compute_dtype)
        deviation = ops.maximum(ops.sqrt(self.variance), config.epsilon())
        if self.invert:
            return ops.add(self.mean, ops.multiply(inputs, deviation))
        return ops.divide(ops.subtract(inputs, self.mean), deviation)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the layer again."""
        statistics = {"mean": self.input_mean, "variance": self.input_variance}
        return super().get_config() | {
            name: None if value is None else value.tolist() for name, value in statistics.items()
        }


def _batches(data: Any) -> Iterator[np.ndarray]:
    """Yield the batches of what `adapt` takes, as numpy arrays."""
    if hasattr(data, "shape"):
        yield ops.convert_to_numpy(data)
        return
    spec = getattr(data, "element_spec", None)  # of a data set of TensorFlow
    spec = spec[0] if isinstance(spec, tuple) else spec
    if spec is not None and len(spec.shape) == 1:  # of samples, not of batches
        data = data.batch(128)
    for item in batches_of(data, "an array or batches of arrays"):
        batch = item[0] if isinstance(item, tuple | list) else item
        if not hasattr(batch, "shape"):
            raise TypeError(f"Batches must be arrays or tensors, got {type(batch).__name__}.")
        yield ops.convert_to_numpy(batch)
