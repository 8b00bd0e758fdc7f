"""Normalization layers."""

from collections.abc import Sequence
from typing import Any

from keraslite import ops
from keraslite.layers.base.config_layer import ConfigLayer
from keraslite.layers.base.input_spec import InputSpec
from keraslite.layers.base.symbolic_call import keeps_shape
from keraslite.typing import Shape, Tensor

HALF = ("float16", "bfloat16")


def _axis(axis: Any) -> Any:
    if isinstance(axis, list | tuple):
        return list(axis)
    if not isinstance(axis, int):
        raise TypeError(f"Expected an int or a list of ints for `axis`, received: axis={axis!r}")
    return axis


def value_of(variable: Any, dtype: str | None = None) -> Any:
    """A variable's value in a dtype, None for none."""
    if variable is None or dtype is None:
        return None if variable is None else variable.value
    return ops.cast(variable.value, dtype)


class Affine(ConfigLayer):
    """A normalization with a learned scale gamma and offset beta, kept in float32."""

    def add_gamma_and_beta(self, shape: tuple, scale: bool, center: bool) -> None:
        """Make gamma where the result is scaled, and beta where it is shifted."""
        self.gamma = self.add_named_weight("gamma", shape, autocast=False) if scale else None
        self.beta = self.add_named_weight("beta", shape, autocast=False) if center else None


class LayerNormalization(Affine):
    """Bring each sample to mean 0 and variance 1 along axes, then scale and shift.

    Source: https://arxiv.org/abs/1607.06450

    Args:
        axis: the axes; gamma and beta have their sizes.
        epsilon: added to the variance.
        center: whether beta is added.
        scale: whether the result is multiplied by gamma.
        beta_initializer: of beta.
        gamma_initializer: of gamma.
        beta_regularizer: a penalty on beta.
        gamma_regularizer: a penalty on gamma.
        beta_constraint: a projection of beta.
        gamma_constraint: a projection of gamma.

    >>> ops.convert_to_numpy(LayerNormalization()([[1.0, 3.0]])).round(2).tolist()
    [[-1.0, 1.0]]
    """

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ):
        rms_scaling = kwargs.pop("rms_scaling", False)  # what came before RMSNormalization
        axis = _axis(axis)
        self.set_arguments(locals())
        self.supports_masking, self.autocast = True, False

    def build(self, input_shape: Shape) -> None:
        """Make gamma and beta."""
        axes = [self.axis] if isinstance(self.axis, int) else sorted(self.axis)
        shape = tuple(input_shape[a] for a in axes)
        self._axes = axes
        rms = self.rms_scaling  # always scaled and never shifted, as in Keras
        self.add_gamma_and_beta(shape, self.scale or rms, self.center and not rms)

    @keeps_shape
    def call(self, inputs: Tensor) -> Tensor:
        """Normalize."""
        extra = {"rms_scaling": True} if self.rms_scaling else {}
        out = ops.layer_normalization(
            inputs, value_of(self.gamma), value_of(self.beta), self._axes, self.epsilon, **extra
        )
        return ops.cast(out, self.compute_dtype)


class RMSNormalization(ConfigLayer):
    """Divide by the root mean square along axes, then scale.

    Source: https://arxiv.org/abs/1910.07467

    Args:
        axis: the axes; the scale has their sizes.
        epsilon: added to the mean square.

    >>> ops.convert_to_numpy(RMSNormalization()([[3.0, 3.0]])).round(4).tolist()
    [[1.0, 1.0]]
    """

    def __init__(self, axis: int | Sequence[int] = -1, epsilon: float = 1e-6, **kwargs: Any):
        self.set_arguments(locals())

    def build(self, input_shape: Shape) -> None:
        """Make the scale."""
        self._axes = [self.axis] if isinstance(self.axis, int) else sorted(self.axis)
        shape = tuple(input_shape[a] for a in self._axes)
        self.scale = self.add_weight(name="scale", shape=shape, initializer="ones")

    @keeps_shape
    def call(self, inputs: Tensor) -> Tensor:
        """Normalize."""
        return ops.rms_normalization(inputs, self.scale.value, self._axes, self.epsilon)


class UnitNormalization(ConfigLayer):
    """Scale each sample to Euclidean norm 1 along axes.

    Args:
        axis: the axes.

    >>> ops.convert_to_numpy(UnitNormalization()([[3.0, 4.0]])).round(4).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """

    def __init__(self, axis: int | Sequence[int] = -1, **kwargs: Any):
        axis = _axis(axis)
        self.set_arguments(locals())
        self.supports_masking = True

    @keeps_shape
    def call(self, inputs: Tensor) -> Tensor:
        """Normalize."""
        return ops.normalize(inputs, axis=self.axis, order=2, epsilon=1e-12)


class GroupNormalization(Affine):
    """Bring groups of channels of each sample to mean 0 and variance 1, then scale and shift.

    Source: https://arxiv.org/abs/1803.08494

    Args:
        groups: the number of groups; -1 for one a channel.
        axis: the channel axis.
        epsilon: added to the variance.
        center: whether beta is added.
        scale: whether the result is multiplied by gamma.
        beta_initializer: of beta.
        gamma_initializer: of gamma.
        beta_regularizer: a penalty on beta.
        gamma_regularizer: a penalty on gamma.
        beta_constraint: a projection of beta.
        gamma_constraint: a projection of gamma.

    >>> GroupNormalization(2)(np.ones((1, 4, 4, 6), "float32")).shape == (1, 4, 4, 6)
    True
    """

    def __init__(
        self,
        groups: int = 32,
        axis: int = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ):
        if not isinstance(groups, int) or (groups <= 0 and groups != -1):
            raise ValueError(f"`groups` must be a positive integer or -1. Received: {groups}")
        self.set_arguments(locals())
        self.supports_masking, self.autocast = True, False

    def build(self, input_shape: Shape) -> None:
        """Make gamma and beta."""
        channels = input_shape[self.axis]
        if channels is None:
            raise ValueError(f"Axis {self.axis} of the input must be known, got {input_shape}.")
        self.groups = channels if self.groups == -1 else self.groups
        if channels % self.groups:
            raise ValueError(
                f"The number of channels ({channels}) must be a multiple of the number of groups "
                f"({self.groups})."
            )
        self.input_spec = InputSpec(ndim=len(input_shape), axes={self.axis: channels})
        self.add_gamma_and_beta((channels,), self.scale, self.center)

    @keeps_shape
    def call(self, inputs: Tensor, activation: str | None = None) -> Tensor:
        """Normalize.

        Args:
            inputs: (batch, ..., channels).
            activation: None or "silu", done behind it at once.
        """
        gamma, beta = (v if v is None else v.value for v in (self.gamma, self.beta))
        out = ops.normalize_groups(
            inputs, gamma, beta, self.groups, self.axis, self.epsilon, activation
        )
        return ops.cast(out, self.compute_dtype)
