"""Hashing and HashedCrossing: numbers of bins for any values, without a vocabulary."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import config as settings
from keraslite import ops
from keraslite.layers.preprocessing import texts
from keraslite.layers.preprocessing.categories import (
    check_output_mode,
    encode,
    encode_on_host,
    encoded_shape,
)
from keraslite.layers.preprocessing.fingerprints import farm_fingerprints, joint_fingerprints
from keraslite.layers.preprocessing.host import HostLayer, static_shape
from keraslite.layers.preprocessing.lookup import buckets, read_salt
from keraslite.symbolic import KerasTensor
from keraslite.typing import Shape

_CROSS_KEY = 0xDECAFCAFFE  # TensorFlow's, from which crosses of features are hashed


def _read(x: Any) -> tuple[Any, tuple[int, ...]]:
    """Return values as (a flat list of str or bytes, or a flat array of numbers; their shape)."""
    is_list = isinstance(x, list | tuple)
    if backends.is_text(x) or getattr(getattr(x, "dtype", None), "kind", "") == "O":
        return texts.read_texts(x)
    if hasattr(x, "to_numpy"):  # of pandas
        return _read(x.to_numpy())
    array = np.asarray(x if is_list else backends.to_numpy(x))
    if array.dtype.kind in "SUO":
        return texts.read_texts(array)
    return array.ravel(), array.shape


def _strings(values: Any) -> list[bytes]:
    """Return flat values as bytes: of texts the UTF-8, of numbers the digits of the whole part."""
    if isinstance(values, list):
        is_bytes = bool(values) and isinstance(values[0], bytes)
        return values if is_bytes else texts.as_bytes(values)
    if values.dtype == bool:
        return [b"true" if v else b"false" for v in values.tolist()]
    return [b"%d" % v for v in values.astype(np.int64, copy=False).tolist()]


def _distinct(values: Any) -> tuple[Any, np.ndarray]:
    """Return the distinct values, and which each is: what occurs often is hashed once."""
    if isinstance(values, list):
        return texts.numbered(values)
    values, codes = np.unique(values, return_inverse=True)
    return values, codes.ravel()


class _Hashed(HostLayer):
    """The base of layers whose outputs are numbers of bins."""

    num_bins: int
    output_mode: str
    sparse: bool

    def _policy(self, dtype: Any, mode: str) -> Any:
        return ("int64" if mode == "int" else settings.floatx()) if dtype is None else dtype

    @property
    def output_dtype(self) -> str:
        """The dtype of the outputs on the layer's backend."""
        return backends.load(self.backend).canonical(self.dtype)

    def _encoded(self, function: Callable, inputs: Any, shape: tuple | None) -> Any:
        return encode_on_host(
            function, inputs, shape, self.output_mode, self.num_bins, self.dtype, self.sparse
        )

    def _encoded_in_saved_graph(self, numbers: Any) -> Any:
        if self.sparse:
            raise self.no_graph_form("its outputs are sparse")
        return encode(numbers, self.output_mode, self.num_bins, self.dtype)

    def _symbol(self, symbol: KerasTensor) -> KerasTensor:
        dims = encoded_shape(symbol.dims, self.output_mode, self.num_bins)
        return KerasTensor(dims, self.output_dtype, sparse=self.sparse)


class Hashing(_Hashed):
    """Turn texts or integers into numbers of bins by a hash: FarmHash64, or SipHash with a salt.

    The numbers are those of Keras and TensorFlow. Floats lose what stands behind the point.

    Args:
        num_bins: the number of bins, that of the mask included.
        mask_value: a value that has the bin 0 for itself.
        salt: an integer or two: the key of SipHash.
        output_mode: "int", "one_hot", "multi_hot" or "count".
        sparse: whether encoded outputs are sparse tensors of the backend.

    Raises:
        ValueError: an argument is wrong, or does not fit another.

    >>> ops.convert_to_numpy(Hashing(3)([["A"], ["B"], ["C"], ["D"], ["E"]])).ravel().tolist()
    [1, 0, 1, 1, 2]
    """

    def __init__(
        self,
        num_bins: int,
        mask_value: Any = None,
        salt: Any = None,
        output_mode: str = "int",
        sparse: bool = False,
        **kwargs: Any,
    ):
        if num_bins is None or num_bins <= 0:
            raise ValueError(f"`num_bins` must be positive, got {num_bins}.")
        output_mode = check_output_mode(
            output_mode, ("int", "one_hot", "multi_hot", "count"), sparse
        )
        dtype = kwargs.pop("dtype", None)
        self.set_arguments({"dtype": self._policy(dtype, output_mode), "kwargs": kwargs})
        if output_mode == "int" and self.dtype not in ("int32", "int64"):
            raise ValueError(
                f"`dtype` must be 'int32' or 'int64' if `output_mode` is 'int', got {dtype!r}."
            )
        self.set_attributes(
            num_bins=num_bins, salt=read_salt(salt, "Hashing"), mask_value=mask_value,
            output_mode=output_mode, sparse=sparse,
        )  # fmt: skip

    def _bins(self, inputs: Any) -> np.ndarray:
        values, shape = _read(inputs)
        values, codes = _distinct(values)
        masks = self.mask_value is not None and self.num_bins > 1
        bins = buckets(_strings(values), self.num_bins - masks, self.salt)
        if masks:
            masked = self.mask_value
            if isinstance(values, list) and values and isinstance(values[0], bytes):
                masked = texts.as_bytes([masked])[0] if isinstance(masked, str) else masked
            bins += 1
            bins[np.fromiter((v == masked for v in values), bool, len(values))] = 0
        return bins[codes].reshape(shape)

    def call_in_saved_graph(self, inputs: Any) -> Any:
        """Hash by operations of TensorFlow."""
        from keraslite.backend.tensorflow import texts as graph

        masks = self.mask_value is not None and self.num_bins > 1
        bins = graph.buckets(inputs, self.num_bins - masks, self.salt)
        if masks:
            bins = ops.where(graph.same(inputs, self.mask_value), 0, bins + 1)
        return self._encoded_in_saved_graph(bins)

    def call(self, inputs: Any) -> Any:
        """Hash the inputs, and encode the bins."""
        if hasattr(inputs, "flat_values"):  # TensorFlow's ragged tensor
            self.refuse_to_encode("ragged")
            return inputs.with_flat_values(self.call(inputs.flat_values))
        if hasattr(inputs, "dense_shape"):  # and its sparse one
            self.refuse_to_encode("sparse")
            return type(inputs)(inputs.indices, self.call(inputs.values), inputs.dense_shape)
        shape = static_shape(inputs)
        return self._encoded(self._bins, inputs, shape)

    def compute_output_shape(self, input_shape: Shape) -> tuple:
        """The shape of the outputs."""
        return encoded_shape(input_shape, self.output_mode, self.num_bins)

    def compute_output_spec(self, inputs: KerasTensor) -> KerasTensor:
        """The symbolic output for a symbolic input: texts have no abstract values."""
        return self._symbol(inputs)


class HashedCrossing(_Hashed):
    """Turn the combinations of two or more features into numbers of bins by a hash.

    The numbers are those of Keras and TensorFlow.

    Args:
        num_bins: the number of bins.
        output_mode: "int" or "one_hot".
        sparse: whether one-hot outputs are sparse tensors of the backend.

    Raises:
        ValueError: there is no such mode.

    >>> layer = HashedCrossing(5)
    >>> ops.convert_to_numpy(layer((["A", "B", "A"], [101, 101, 102]))).tolist()
    [1, 4, 3]
    """

    def __init__(
        self,
        num_bins: int,
        output_mode: str = "int",
        sparse: bool = False,
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ):
        output_mode = check_output_mode(output_mode, ("int", "one_hot"), sparse)
        dtype = self._policy(dtype, output_mode)
        self.set_arguments({"name": name, "dtype": dtype, "kwargs": kwargs})
        self.set_attributes(num_bins=num_bins, output_mode=output_mode, sparse=sparse)

    def _bins(self, inputs: Sequence[Any]) -> np.ndarray:
        hashes: Any = np.uint64(_CROSS_KEY)
        shapes = []
        for x in inputs:
            values, shape = _read(x)
            if not isinstance(values, list) and values.dtype.kind not in "iub":
                raise ValueError(
                    f"HashedCrossing takes integers and texts, got {values.dtype}: cast it."
                )
            if isinstance(values, list):
                distinct, codes = texts.numbered(values)
                feature = farm_fingerprints(_strings(distinct))[codes]
            else:
                feature = values.astype(np.int64).astype(np.uint64)
            shapes.append(shape)
            _check_shapes(shapes)
            hashes = joint_fingerprints(hashes, feature)
        return (hashes % np.uint64(self.num_bins)).astype(np.int64).reshape(shapes[0])

    def call_in_saved_graph(self, inputs: Any) -> Any:
        """Cross the features by operations of TensorFlow."""
        from keraslite.backend.tensorflow import texts as graph

        _check_shapes([tuple(x.shape) for x in inputs])
        return self._encoded_in_saved_graph(graph.crossed(inputs, self.num_bins, _CROSS_KEY))

    def call(self, inputs: Any) -> Any:
        """Cross the features, and encode the bins."""
        if not isinstance(inputs, list | tuple) or len(inputs) < 2:
            raise ValueError(f"HashedCrossing takes a list of at least two inputs, got {inputs!r}.")
        shape = static_shape(inputs[0])
        return self._encoded(self._bins, list(inputs), shape)

    def compute_output_shape(self, input_shape: Any) -> tuple:
        """The shape of the outputs for a list of the shapes of the inputs."""
        shapes = [tuple(shape) for shape in input_shape]
        _check_shapes(shapes)
        return encoded_shape(shapes[0], self.output_mode, self.num_bins)

    def compute_output_spec(self, inputs: Sequence[KerasTensor]) -> KerasTensor:
        """The symbolic output for symbolic inputs: texts have no abstract values."""
        _check_shapes([tuple(x.shape) for x in inputs])
        return self._symbol(inputs[0])


def _check_shapes(shapes: list[tuple]) -> None:
    first = shapes[0]
    if len(first) > 2 or (len(first) == 2 and first[1] != 1) or any(s != first for s in shapes):
        raise ValueError(
            "The inputs of HashedCrossing must have one shape: (), (batch,) or (batch, 1), got "
            f"{shapes}."
        )
