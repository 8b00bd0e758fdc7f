"""Normalization layers."""

from collections.abc import Sequence
from typing import Any

from keraslite import config, initializers, ops
from keraslite.layers.builtin import BuiltIn
from keraslite.layers.core import Wrapper
from keraslite.layers.input_spec import InputSpec

_HALF = ("float16", "bfloat16")


def _axis(axis: Any) -> Any:
    if isinstance(axis, list | tuple):
        return list(axis)
    if not isinstance(axis, int):
        raise TypeError(f"Expected an int or a list of ints for `axis`, received: axis={axis!r}")
    return axis


def _value(variable: Any, dtype: str | None = None) -> Any:
    if variable is None or dtype is None:
        return None if variable is None else variable.value
    return ops.cast(variable.value, dtype)


class _Affine(BuiltIn):
    """A normalization with a learned scale gamma and offset beta, kept in float32."""

    def _affine(self, shape: tuple) -> None:
        self.gamma = self._weight("gamma", shape, autocast=False) if self.scale else None
        self.beta = self._weight("beta", shape, autocast=False) if self.center else None


class LayerNormalization(_Affine):
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
        self._keep(locals())
        self.supports_masking, self.autocast = True, False

    def build(self, input_shape: Any) -> None:
        """Make gamma and beta."""
        axes = [self.axis] if isinstance(self.axis, int) else sorted(self.axis)
        shape = tuple(input_shape[a] for a in axes)
        self._axes = axes
        self._affine(shape)
        if self.rms_scaling:
            self.beta = None

    def call(self, inputs: Any) -> Any:
        """Normalize."""
        extra = {"rms_scaling": True} if self.rms_scaling else {}
        out = ops.layer_normalization(
            inputs, _value(self.gamma), _value(self.beta), self._axes, self.epsilon, **extra
        )
        return ops.cast(out, self.compute_dtype)


class RMSNormalization(BuiltIn):
    """Divide by the root mean square along axes, then scale.

    Source: https://arxiv.org/abs/1910.07467

    Args:
        axis: the axes; the scale has their sizes.
        epsilon: added to the mean square.

    >>> ops.convert_to_numpy(RMSNormalization()([[3.0, 3.0]])).round(4).tolist()
    [[1.0, 1.0]]
    """

    def __init__(self, axis: int | Sequence[int] = -1, epsilon: float = 1e-6, **kwargs: Any):
        self._keep(locals())

    def build(self, input_shape: Any) -> None:
        """Make the scale."""
        self._axes = [self.axis] if isinstance(self.axis, int) else sorted(self.axis)
        shape = tuple(input_shape[a] for a in self._axes)
        self.scale = self.add_weight(name="scale", shape=shape, initializer="ones")

    def call(self, inputs: Any) -> Any:
        """Normalize."""
        return ops.rms_normalization(inputs, self.scale.value, self._axes, self.epsilon)


class UnitNormalization(BuiltIn):
    """Scale each sample to Euclidean norm 1 along axes.

    Args:
        axis: the axes.

    >>> ops.convert_to_numpy(UnitNormalization()([[3.0, 4.0]])).round(4).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """

    def __init__(self, axis: int | Sequence[int] = -1, **kwargs: Any):
        axis = _axis(axis)
        self._keep(locals())
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        """Normalize."""
        return ops.normalize(inputs, axis=self.axis, order=2, epsilon=1e-12)


class GroupNormalization(_Affine):
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
        self._keep(locals())
        self.supports_masking, self.autocast = True, False

    def build(self, input_shape: Any) -> None:
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
        self._affine((channels,))

    def call(self, inputs: Any) -> Any:
        """Normalize."""
        full = ops.shape(inputs)
        axis = self.axis % len(full)
        parts = (self.groups, inputs.shape[axis] // self.groups)
        x = ops.reshape(inputs, (*full[:axis], *parts, *full[axis + 1 :]))
        x = ops.cast(x, "float32") if ops.dtype(x) in _HALF else x
        axes = [i for i in range(1, len(full) + 1) if i != axis]
        mean, variance = ops.moments(x, axes=axes, keepdims=True)
        factor = ops.rsqrt(variance + self.epsilon)
        shape = tuple(-1 if i == axis else 1 for i in range(len(full)))
        shape = (*shape[:axis], *parts, *shape[axis + 1 :])
        if self.gamma is not None:
            factor = factor * ops.reshape(_value(self.gamma, ops.dtype(x)), shape)
        shift = -mean * factor
        if self.beta is not None:
            shift = shift + ops.reshape(_value(self.beta, ops.dtype(x)), shape)
        return ops.cast(ops.reshape(x * factor + shift, full), self.compute_dtype)


class BatchNormalization(_Affine):
    """Bring each channel to mean 0 and variance 1 over the batch, then scale and shift.

    In training the batch's own statistics are used, and moving averages of them are kept; in
    inference, or when `trainable` is False, those averages are used and stay as they are.

    Source: https://arxiv.org/abs/1502.03167; renorm: https://arxiv.org/abs/1702.03275

    Args:
        axis: the channel axis.
        momentum: how much of the moving averages stays at each step.
        epsilon: added to the variance.
        center: whether beta is added.
        scale: whether the result is multiplied by gamma.
        beta_initializer: of beta.
        gamma_initializer: of gamma.
        moving_mean_initializer: of the moving mean.
        moving_variance_initializer: of the moving variance.
        beta_regularizer: a penalty on beta.
        gamma_regularizer: a penalty on gamma.
        beta_constraint: a projection of beta.
        gamma_constraint: a projection of gamma.
        renorm: correct the batch's statistics towards moving ones in training too.
        renorm_clipping: bounds "rmin", "rmax", "dmax" of the correction.
        renorm_momentum: the momentum of the statistics for the correction.
        synchronized: whether replicas share statistics; not supported.

    >>> layer = BatchNormalization()
    >>> _ = layer(np.array([[1.0], [3.0]], "float32"), training=True)
    >>> print(layer.moving_mean.numpy().round(4))
    [0.02]
    """

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        renorm: bool = False,
        renorm_clipping: dict[str, float] | None = None,
        renorm_momentum: float = 0.99,
        synchronized: bool = False,
        **kwargs: Any,
    ):
        if synchronized:
            raise ValueError("synchronized=True is not supported: every replica is on its own.")
        if renorm:
            renorm_clipping = renorm_clipping or {}
            if set(renorm_clipping) - {"rmax", "rmin", "dmax"}:
                raise ValueError(f"Unknown keys in `renorm_clipping`: {renorm_clipping}.")
        axis, momentum, epsilon = int(axis), float(momentum), float(epsilon)
        self._keep(locals())
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Make gamma, beta and the moving statistics."""
        shape = (input_shape[self.axis],)
        self._affine(shape)

        def state(name: str, initializer: Any) -> Any:
            return self.add_weight(
                name=name, shape=shape, initializer=initializer, trainable=False, autocast=False
            )

        def deviation(shape: Any, dtype: Any = None) -> Any:
            return ops.sqrt(self.moving_variance_initializer(shape, dtype=dtype))

        self.moving_mean = state("moving_mean", self.moving_mean_initializer)
        self.moving_variance = state("moving_variance", self.moving_variance_initializer)
        if self.renorm:
            self.moving_stddev = state("moving_stddev", deviation)
            self.renorm_mean = state("renorm_mean", self.moving_mean_initializer)
            self.renorm_stddev = state("renorm_stddev", deviation)
        self.input_spec = InputSpec(ndim=len(input_shape), axes={self.axis: shape[0]})

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalize.

        Args:
            inputs: a tensor.
            training: whether the statistics are the batch's.
            mask: what counts in them; its shape is the inputs' without the last axis.
        """
        if mask is not None and len(mask.shape) != len(inputs.shape) - 1:
            raise ValueError(
                "The mask provided should be one dimension less than the inputs. Received: "
                f"mask.shape={tuple(mask.shape)}, inputs.shape={tuple(inputs.shape)}"
            )
        x = ops.cast(inputs, "float32") if ops.dtype(inputs) in _HALF else inputs
        dtype = ops.dtype(x)
        gamma, beta = _value(self.gamma, dtype), _value(self.beta, dtype)
        if training and self.trainable:
            mean, variance = self._moments(x, mask)
            if self.renorm:
                gamma, beta = self._renormalize(mean, variance, gamma, beta)
            else:
                _follow(self.moving_mean, mean, self.momentum)
                _follow(self.moving_variance, variance, self.momentum)
        else:
            mean, variance = _value(self.moving_mean, dtype), _value(self.moving_variance, dtype)
        out = ops.batch_normalization(x, mean, variance, self.axis, beta, gamma, self.epsilon)
        return ops.cast(out, self.compute_dtype)

    def _moments(self, x: Any, mask: Any) -> tuple[Any, Any]:
        axis = self.axis % len(x.shape)
        axes = [i for i in range(len(x.shape)) if i != axis]
        if mask is None:
            return ops.moments(x, axes=axes)
        seen = ops.broadcast_to(ops.expand_dims(ops.cast(mask, "bool"), -1), ops.shape(x))
        count = ops.sum(ops.cast(seen, ops.dtype(x)), axis=axes, keepdims=True)
        count = count + config.epsilon()
        mean = ops.sum(ops.where(seen, x, 0), axis=axes, keepdims=True) / count
        squares = ops.square(ops.where(seen, x - mean, 0))
        variance = ops.sum(squares, axis=axes, keepdims=True) / count
        return ops.reshape(mean, (-1,)), ops.reshape(variance, (-1,))

    def _renormalize(self, mean: Any, variance: Any, gamma: Any, beta: Any) -> tuple[Any, Any]:
        """Scale and offset with the correction r and d in them; and follow the statistics."""
        stddev, dtype = ops.sqrt(variance + self.epsilon), ops.dtype(variance)
        # At least sqrt(epsilon): at the start there is nothing to divide by yet.
        reference = ops.maximum(_value(self.renorm_stddev, dtype), self.epsilon**0.5)
        r, d = stddev / reference, (mean - _value(self.renorm_mean, dtype)) / reference
        bounds = self.renorm_clipping
        r = r if bounds.get("rmin") is None else ops.maximum(r, bounds["rmin"])
        r = r if bounds.get("rmax") is None else ops.minimum(r, bounds["rmax"])
        d = d if bounds.get("dmax") is None else ops.clip(d, -bounds["dmax"], bounds["dmax"])
        r, d = ops.stop_gradient(r), ops.stop_gradient(d)
        _follow(self.renorm_mean, mean, self.renorm_momentum)
        _follow(self.renorm_stddev, stddev, self.renorm_momentum)
        _follow(self.moving_mean, mean, self.momentum)
        _follow(self.moving_stddev, stddev, self.momentum)
        moving = _value(self.moving_stddev, dtype)
        self.moving_variance.assign(ops.relu(moving * moving - self.epsilon))
        scale, offset = (r, d) if gamma is None else (r * gamma, d * gamma)
        return scale, offset if beta is None else offset + beta


def _follow(variable: Any, value: Any, momentum: float) -> None:
    """Move a variable towards a value."""
    value = ops.stop_gradient(value)
    variable.assign(_value(variable, ops.dtype(value)) * momentum + value * (1.0 - momentum))


class SpectralNormalization(Wrapper):
    """Divide the kernel of a layer by its spectral norm at each training step.

    Source: https://arxiv.org/abs/1802.05957

    Args:
        layer: a layer with a `kernel` or `embeddings`.
        power_iterations: the number of steps of the power method.

    >>> from keraslite.layers import Dense
    >>> SpectralNormalization(Dense(3))(np.ones((2, 4), "float32")).shape == (2, 3)
    True
    """

    def __init__(self, layer: Any, power_iterations: int = 1, **kwargs: Any):
        if power_iterations <= 0:
            raise ValueError(f"`power_iterations` should be positive, got {power_iterations}.")
        super().__init__(layer, **kwargs)
        self.power_iterations = power_iterations
        self._kl_kept += ("power_iterations",)

    def build(self, input_shape: Any) -> None:
        """Build the layer, and make the vector that the power method keeps."""
        super().build(input_shape)
        self.input_spec = InputSpec(min_ndim=1, axes={-1: input_shape[-1]})
        self.kernel = getattr(self.layer, "kernel", getattr(self.layer, "embeddings", None))
        if self.kernel is None:
            raise ValueError(f"{self.layer!r} has no attribute 'kernel' nor 'embeddings'.")
        self.vector_u = self.add_weight(
            name="vector_u", shape=(1, self.kernel.shape[-1]), trainable=False,
            initializer=initializers.TruncatedNormal(stddev=0.02),
        )  # fmt: skip

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Normalize the kernel in training, and call the layer."""
        if training:
            kernel, u = self.kernel.value, self.vector_u.value
            matrix = ops.reshape(kernel, (-1, self.kernel.shape[-1]))
            for _ in range(self.power_iterations):
                v = ops.normalize(ops.matmul(u, ops.transpose(matrix)), axis=-1)
                u = ops.normalize(ops.matmul(v, matrix), axis=-1)
            u, v = ops.stop_gradient(u), ops.stop_gradient(v)
            sigma = ops.matmul(ops.matmul(v, matrix), ops.transpose(u))
            sigma = ops.where(sigma == 0, 1.0, sigma)  # a kernel of zeros stays one
            self.vector_u.assign(u)
            self.kernel.assign(ops.stop_gradient(kernel / ops.reshape(sigma, ())))
        return ops.cast(self.layer(inputs), ops.dtype(inputs))
