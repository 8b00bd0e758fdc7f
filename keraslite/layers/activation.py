"""Activation layers."""

from collections.abc import Sequence
from typing import Any

from keraslite import activations, ops
from keraslite.layers.base.config_layer import ConfigLayer
from keraslite.layers.base.input_spec import InputSpec
from keraslite.layers.base.symbolic_call import keeps_shape
from keraslite.typing import Shape, Tensor

ELEMENTWISE = [
    activations.get(name)
    for name in (
        "celu", "elu", "exponential", "gelu", "hard_shrink", "hard_sigmoid", "hard_silu",
        "hard_tanh", "leaky_relu", "linear", "log_sigmoid", "mish", "relu", "relu6", "selu",
        "sigmoid", "silu", "soft_shrink", "softplus", "softsign", "squareplus", "tanh",
        "tanh_shrink",
    )
]  # fmt: skip


class Activation(ConfigLayer):
    """An activation function as a layer.

    Args:
        activation: a name or function.

    >>> ops.convert_to_numpy(Activation("relu")([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def __init__(self, activation: Any, **kwargs: Any):
        self.set_arguments(locals())
        self.supports_masking = True

    @keeps_shape
    def call(self, inputs: Tensor) -> Tensor:
        """Apply the function."""
        return self.activation(inputs)

    def keeps_shape(self) -> bool:
        """Whether the output has the shape of the input: of Keras's functions of single numbers."""
        return super().keeps_shape() and self.activation in ELEMENTWISE


def _not_negative(layer: str, **values: Any) -> None:
    for name, value in values.items():
        if value is None or value < 0:
            raise ValueError(f"{name} of {layer} must be at least 0. Received: {name}={value}")


class ReLU(ConfigLayer):
    """`max(x, 0)`, with a bound, a slope below and a threshold.

    Args:
        max_value: the largest output; no bound if None.
        negative_slope: the slope below the threshold.
        threshold: what is below it is multiplied by the slope.

    >>> ops.convert_to_numpy(ReLU(max_value=6)([-1.0, 2.0, 9.0])).tolist()
    [0.0, 2.0, 6.0]
    """

    def __init__(
        self,
        max_value: float | None = None,
        negative_slope: float = 0.0,
        threshold: float = 0.0,
        **kwargs: Any,
    ):
        _not_negative("ReLU", negative_slope=negative_slope, threshold=threshold)
        _not_negative("ReLU", max_value=0 if max_value is None else max_value)
        self.set_arguments(locals())
        self.supports_masking = True

    @keeps_shape
    def call(self, inputs: Tensor) -> Tensor:
        """Apply the function."""
        return activations.relu(
            inputs,
            negative_slope=self.negative_slope,
            max_value=self.max_value,
            threshold=self.threshold,
        )


class LeakyReLU(ConfigLayer):
    """x where positive, `negative_slope * x` elsewhere.

    Args:
        negative_slope: the slope.

    >>> ops.convert_to_numpy(LeakyReLU(0.5)([-1.0, 2.0])).tolist()
    [-0.5, 2.0]
    """

    def __init__(self, negative_slope: float = 0.3, **kwargs: Any):
        negative_slope = kwargs.pop("alpha", negative_slope)  # its name in Keras 2
        _not_negative("LeakyReLU", negative_slope=negative_slope)
        self.set_arguments(locals())
        self.supports_masking = True

    @keeps_shape
    def call(self, inputs: Tensor) -> Tensor:
        """Apply the function."""
        return ops.leaky_relu(inputs, self.negative_slope)


class PReLU(ConfigLayer):
    """x where positive, `alpha * x` elsewhere, with a learned alpha for each place.

    Source: https://arxiv.org/abs/1502.01852

    Args:
        alpha_initializer: of alpha, which has the shape of one input.
        alpha_regularizer: a penalty on it.
        alpha_constraint: a projection of it.
        shared_axes: axes along which one alpha serves all.

    >>> PReLU(shared_axes=[1, 2])(np.ones((1, 4, 4, 3), "float32")).shape == (1, 4, 4, 3)
    True
    """

    def __init__(
        self,
        alpha_initializer: Any = "Zeros",
        alpha_regularizer: Any = None,
        alpha_constraint: Any = None,
        shared_axes: Sequence[int] | int | None = None,
        **kwargs: Any,
    ):
        if shared_axes is not None:
            shared_axes = [shared_axes] if isinstance(shared_axes, int) else list(shared_axes)
        self.set_arguments(locals())
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        """Make alpha."""
        shared = self.shared_axes or ()
        shape = [1 if i in shared else d for i, d in enumerate(input_shape)][1:]
        self.alpha = self.add_named_weight("alpha", shape)
        axes = {i: d for i, d in enumerate(input_shape) if i and i not in shared} if shared else {}
        self.input_spec = InputSpec(ndim=len(input_shape), axes=axes)

    def call(self, inputs: Tensor) -> Tensor:
        """Apply the function."""
        return ops.relu(inputs) - self.alpha.value * ops.relu(-inputs)


class ELU(ConfigLayer):
    """x where positive, `alpha * (exp(x) - 1)` elsewhere.

    Source: https://arxiv.org/abs/1511.07289

    Args:
        alpha: what negative outputs go to.

    >>> ops.convert_to_numpy(ELU()([0.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def __init__(self, alpha: float = 1.0, **kwargs: Any):
        self.set_arguments(locals())
        self.supports_masking = True

    @keeps_shape
    def call(self, inputs: Tensor) -> Tensor:
        """Apply the function."""
        return ops.elu(inputs, self.alpha)


class GELU(ConfigLayer):
    """x times the normal distribution function of x.

    Source: https://arxiv.org/abs/1606.08415

    Args:
        approximate: whether the distribution function is replaced by a tanh.

    >>> ops.convert_to_numpy(GELU()([0.0, 1.0])).round(4).tolist()
    [0.0, 0.8413000106811523]
    """

    def __init__(self, approximate: bool = False, **kwargs: Any):
        self.set_arguments(locals())
        self.supports_masking = True

    @keeps_shape
    def call(self, inputs: Tensor) -> Tensor:
        """Apply the function."""
        return ops.gelu(inputs, self.approximate)


class Softmax(ConfigLayer):
    """`exp(x)` scaled to sum to one along axes; masked places get 0.

    Args:
        axis: one axis or several.

    >>> ops.convert_to_numpy(Softmax()([[1.0, 5.0]], mask=np.array([[True, False]]))).tolist()
    [[1.0, 0.0]]
    """

    def __init__(self, axis: int | Sequence[int] = -1, **kwargs: Any):
        self.set_arguments(locals())
        self.supports_masking = True

    def call(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the function.

        Args:
            inputs: logits.
            mask: what counts, of a shape that broadcasts to the inputs'.
        """
        if mask is None:
            return ops.softmax(inputs, self.axis)
        mask = _as_mask(inputs, mask)
        lowest = -3e4 if ops.dtype(inputs) == "float16" else -1e9
        # Zeros after it, for rows in which everything is masked.
        return ops.where(mask, ops.softmax(ops.where(mask, inputs, lowest), self.axis), 0.0)


def _as_mask(inputs: Any, mask: Any) -> Any:
    """A boolean mask, after a check that it broadcasts to the inputs without enlarging them."""
    have, want = tuple(mask.shape), tuple(inputs.shape)
    pairs = zip(reversed(have), reversed(want), strict=False)
    if len(have) > len(want) or any(m not in (1, i) for m, i in pairs if None not in (m, i)):
        raise ValueError(f"The mask {have} must be broadcastable to the inputs {want}.")
    return mask if ops.dtype(mask) == "bool" else ops.greater(mask, 0.5)
