"""Input: where a functional model begins."""

from typing import Any

from keraslite.layers.base.layer import Layer
from keraslite.symbolic import KerasTensor, Node
from keraslite.typing import DType, Tensor


class InputLayer(Layer):
    """The layer behind an `Input`.

    Args:
        shape: the shape without the batch axis.
        batch_size: the size of the batch axis, if it is fixed.
        dtype: the dtype.
        batch_shape: the whole shape, instead of the two.
        input_tensor: a KerasTensor to use as it is.
        name: a name.
    """

    def __init__(
        self,
        shape: Any = None,
        batch_size: int | None = None,
        dtype: DType | None = None,
        sparse: bool | None = None,
        ragged: bool | None = None,
        batch_shape: Any = None,
        input_tensor: KerasTensor | None = None,
        optional: bool = False,
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(name=name)
        if ragged:
            raise ValueError(
                "ragged=True is not supported: pad the rows, with a mask, or flatten them."
            )
        if batch_shape is not None and (shape is not None or batch_size is not None):
            raise ValueError(
                "An input takes `shape` and `batch_size`, or `batch_shape` alone, got "
                f"shape={shape}, batch_size={batch_size}, batch_shape={batch_shape}."
            )
        if input_tensor is not None:
            batch_shape, dtype = input_tensor.shape, input_tensor.dtype
        elif batch_shape is None:
            if shape is None:
                raise ValueError("Input needs a shape, or a batch_shape.")
            shape = (shape,) if isinstance(shape, int) else tuple(shape)
            batch_shape = (batch_size, *shape)
        self.batch_shape, self.sparse, self.optional = tuple(batch_shape), bool(sparse), optional
        tensor = input_tensor
        if tensor is None:
            tensor = KerasTensor(
                self.batch_shape, dtype or "float32", sparse=self.sparse, name=self.name
            )
        self._kl_tensor, self._kl_dtype = tensor, tensor.dtype
        if tensor.node is None:
            Node(self, (), {}, tensor)
        self.built = True

    @property
    def output(self) -> KerasTensor:
        """The symbolic tensor."""
        return self._kl_tensor

    @property
    def dtype(self) -> str:
        """The dtype of the input."""
        return self._kl_dtype

    def call(self, *args: Any) -> Tensor:
        """An input layer is never called."""
        raise TypeError("An InputLayer is not called; use its `output`.")

    def get_config(self) -> dict[str, Any]:
        """The layer's config."""
        return {"batch_shape": list(self.batch_shape), "dtype": self.dtype, "sparse": self.sparse,
                "ragged": False, "name": self.name, "optional": self.optional}  # fmt: skip

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "InputLayer":
        """The layer of a config."""
        return cls(**config)


def Input(  # noqa: N802 - Keras's name
    shape: Any = None,
    batch_size: int | None = None,
    dtype: Any = None,
    sparse: bool | None = None,
    ragged: bool | None = None,
    batch_shape: Any = None,
    name: str | None = None,
    tensor: KerasTensor | None = None,
    optional: bool = False,
) -> KerasTensor:
    """A symbolic tensor to begin a functional model with.

    Args:
        shape: the shape without the batch axis; None where a size is not known.
        batch_size: the size of the batch axis, if it is fixed.
        dtype: the dtype, float32 by default.
        batch_shape: the whole shape, instead of the two.
        name: a name, by which a dict of inputs can give it.
        tensor: a KerasTensor to use as it is.

    >>> Input((28, 28)).shape
    (None, 28, 28)
    """
    return InputLayer(
        shape=shape, batch_size=batch_size, dtype=dtype, sparse=sparse, ragged=ragged,
        batch_shape=batch_shape, input_tensor=tensor, optional=optional, name=name,
    ).output  # fmt: skip
