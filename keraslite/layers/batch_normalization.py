"""Normalization layers that keep a state from step to step."""

from typing import Any

from keraslite import config, initializers, ops
from keraslite.layers.base.input_spec import InputSpec
from keraslite.layers.base.symbolic_call import keeps_shape
from keraslite.layers.core import Wrapper
from keraslite.layers.normalization import HALF, Affine, value_of
from keraslite.typing import Shape, Tensor


class BatchNormalization(Affine):
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
        self.set_arguments(locals())
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        """Make gamma, beta and the moving statistics."""
        shape = (input_shape[self.axis],)
        self.add_gamma_and_beta(shape, self.scale, self.center)

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

    @keeps_shape
    def call(
        self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None
    ) -> Tensor:
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
        if training and self.trainable and mask is None and not self.renorm:
            return self.normalize_batch(inputs)
        x = ops.cast(inputs, "float32") if ops.dtype(inputs) in HALF else inputs
        dtype = ops.dtype(x)
        gamma, beta = value_of(self.gamma, dtype), value_of(self.beta, dtype)
        if training and self.trainable:
            mean, variance = self._moments(x, mask)
            if self.renorm:
                gamma, beta = self._renormalize(mean, variance, gamma, beta)
            else:
                self._follow_batch(mean, variance)
        else:
            mean, variance = (
                value_of(self.moving_mean, dtype),
                value_of(self.moving_variance, dtype),
            )
        out = ops.batch_normalization(x, mean, variance, self.axis, beta, gamma, self.epsilon)
        return ops.cast(out, self.compute_dtype)

    def normalize_batch(
        self, x: Tensor, residual: Tensor | None = None, activation: str | None = None
    ) -> Tensor:
        """Normalize by the batch's statistics, in one kernel where the backend has it.

        Args:
            x: the inputs of a layer without `renorm`.
            residual: added to the result, of its shape.
            activation: of the sum: None or "relu".
        """
        gamma, beta = value_of(self.gamma), value_of(self.beta)
        out, mean, variance = ops.normalize_batch(
            x, gamma, beta, residual, self.axis, self.epsilon, activation
        )
        self._follow_batch(mean, variance)
        return ops.cast(out, self.compute_dtype)

    def _follow_batch(self, mean: Any, variance: Any) -> None:
        _follow(self.moving_mean, mean, self.momentum)
        _follow(self.moving_variance, variance, self.momentum)

    def _moments(self, x: Any, mask: Any) -> tuple[Any, Any]:
        axis = self.axis % len(x.shape)
        axes = [i for i in range(len(x.shape)) if i != axis]
        if mask is None:
            return ops.moments(x, axes=axes)
        valid = ops.broadcast_to(ops.expand_dims(ops.cast(mask, "bool"), -1), ops.shape(x))
        count = ops.sum(ops.cast(valid, ops.dtype(x)), axis=axes, keepdims=True)
        count = count + config.epsilon()
        mean = ops.sum(ops.where(valid, x, 0), axis=axes, keepdims=True) / count
        squares = ops.square(ops.where(valid, x - mean, 0))
        variance = ops.sum(squares, axis=axes, keepdims=True) / count
        return ops.reshape(mean, (-1,)), ops.reshape(variance, (-1,))

    def _renormalize(self, mean: Any, variance: Any, gamma: Any, beta: Any) -> tuple[Any, Any]:
        """Scale and offset with the correction r and d in them; and follow the statistics."""
        stddev, dtype = ops.sqrt(variance + self.epsilon), ops.dtype(variance)
        # At least sqrt(epsilon): at the start there is nothing to divide by yet.
        reference = ops.maximum(value_of(self.renorm_stddev, dtype), self.epsilon**0.5)
        r, d = stddev / reference, (mean - value_of(self.renorm_mean, dtype)) / reference
        bounds = self.renorm_clipping
        r = r if bounds.get("rmin") is None else ops.maximum(r, bounds["rmin"])
        r = r if bounds.get("rmax") is None else ops.minimum(r, bounds["rmax"])
        d = d if bounds.get("dmax") is None else ops.clip(d, -bounds["dmax"], bounds["dmax"])
        r, d = ops.stop_gradient(r), ops.stop_gradient(d)
        _follow(self.renorm_mean, mean, self.renorm_momentum)
        _follow(self.renorm_stddev, stddev, self.renorm_momentum)
        _follow(self.moving_mean, mean, self.momentum)
        _follow(self.moving_stddev, stddev, self.momentum)
        moving = value_of(self.moving_stddev, dtype)
        self.moving_variance.assign(ops.relu(moving * moving - self.epsilon))
        scale, offset = (r, d) if gamma is None else (r * gamma, d * gamma)
        return scale, offset if beta is None else offset + beta


def _follow(variable: Any, value: Any, momentum: float) -> None:
    """Move a variable towards a value."""
    value = ops.stop_gradient(value)
    variable.assign(value_of(variable, ops.dtype(value)) * momentum + value * (1.0 - momentum))


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
        self.set_attributes(power_iterations=power_iterations)

    def build(self, input_shape: Shape) -> None:
        """Build the layer, and make the vector that the power method keeps."""
        super().build(input_shape)
        self.input_spec = InputSpec(min_ndim=1, axes={-1: input_shape[-1]})
        names = ("base_weight", "kernel", "embeddings")
        self.kernel = next(
            (v for n in names if (v := getattr(self.layer, n, None)) is not None), None
        )
        if self.kernel is None:
            raise ValueError(f"{self.layer!r} has no attribute 'kernel' nor 'embeddings'.")
        self.vector_u = self.add_weight(
            name="vector_u", shape=(1, self.kernel.shape[-1]), trainable=False,
            initializer=initializers.TruncatedNormal(stddev=0.02),
        )  # fmt: skip

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
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
            change = ops.stop_gradient(kernel / ops.reshape(sigma, ()) - kernel)
            # The gradient of the new value is that of the kernel, also where a variable is not
            # changed in place.
            self.kernel.assign(kernel + change)
        return ops.cast(self.layer(inputs), ops.dtype(inputs))
