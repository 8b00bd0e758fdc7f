"""Initializers: the first values of variables, the same numbers on every backend.

An initializer is a function of (shape, dtype) that runs on the current backend. Its seed is fixed
when it is made, so calling it twice gives the same values.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import dtypes, ops, random, registry
from keraslite.declare import declare
from keraslite.naming import to_snake_case
from keraslite.variable import set_initializers


class Initializer:
    """A function of (shape, dtype) with a config."""

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Values of the given shape and dtype (floatx if None)."""
        raise NotImplementedError(f"{type(self).__name__} must implement __call__(shape, dtype).")

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Initializer":
        """The initializer of a config."""
        return cls(**config)

    def clone(self) -> "Initializer":
        """A new initializer with the same config."""
        return type(self).from_config(self.get_config())


class Zeros(Initializer):
    """Zeros.

    >>> float(Zeros()((2,))[0])
    0.0
    """

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Values of the given shape and dtype."""
        return ops.zeros(shape, dtype=dtypes.standardize(dtype))


class Ones(Initializer):
    """Ones.

    >>> float(Ones()((2,))[0])
    1.0
    """

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Values of the given shape and dtype."""
        return ops.ones(shape, dtype=dtypes.standardize(dtype))


class Constant(Initializer):
    """One value everywhere.

    Args:
        value: a number, or an array that broadcasts to the shape.

    >>> float(Constant(3.0)((2,))[0])
    3.0
    """

    def __init__(self, value: Any = 0.0):
        self.value = value

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Values of the given shape and dtype."""
        value = backends.to_numpy(self.value)
        return ops.broadcast_to(ops.convert_to_tensor(value, dtypes.standardize(dtype)), shape)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it."""
        return {"value": registry.serialize_keras_object(self.value)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Constant":
        """The initializer of a config."""
        return cls(registry.deserialize_keras_object(config["value"]))


class Identity(Initializer):
    """The identity matrix, scaled.

    Args:
        gain: what it is multiplied by.

    >>> float(Identity(2.0)((2, 2))[1, 1])
    2.0
    """

    def __init__(self, gain: float = 1.0):
        self.gain = gain

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Values of the given shape and dtype."""
        if len(shape) != 2:
            raise ValueError(
                "Identity matrix initializer can only be used for 2D matrices. "
                f"Received: shape={shape} of rank {len(shape)}."
            )
        return self.gain * ops.eye(*shape, dtype=dtypes.standardize(dtype))

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it; Keras writes no gain, so neither does the default."""
        return {} if self.gain == 1.0 else {"gain": self.gain}


class RandomInitializer(Initializer):
    """The base of random initializers: keeps the seed.

    Args:
        seed: an int, a `keraslite.random.SeedGenerator`, or None to draw one now.
    """

    _arguments: tuple[str, ...] = ()  # the attributes that are written into the config

    def __init__(self, seed: Any = None):
        self._given_seed = seed
        if seed is None:
            seed = random.make_default_seed()
        elif isinstance(seed, dict):
            seed = registry.deserialize_keras_object(seed)
        elif not isinstance(seed, int | np.integer | random.SeedGenerator):
            raise ValueError(
                "`seed` argument should be an instance of `keras.random.SeedGenerator()` "
                f"or an integer. Received: seed={seed}"
            )
        self.seed = seed

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it."""
        seed = registry.serialize_keras_object(self._given_seed)
        return {"seed": seed} | {name: getattr(self, name) for name in self._arguments}


class RandomNormal(RandomInitializer):
    """Normal numbers.

    Args:
        mean: their mean.
        stddev: their standard deviation.
        seed: an int, a SeedGenerator, or None.

    >>> RandomNormal(seed=1)((2, 3)).shape[1]
    3
    """

    _arguments = ("mean", "stddev")
    _draw = "normal"

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: Any = None):
        self.mean, self.stddev = mean, stddev
        super().__init__(seed)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Values of the given shape and dtype."""
        draw = getattr(random, self._draw)
        return draw(shape, mean=self.mean, stddev=self.stddev, dtype=dtype, seed=self.seed)


class TruncatedNormal(RandomNormal):
    """Normal numbers within two standard deviations of the mean.

    Args:
        mean: the mean.
        stddev: the standard deviation before truncation.
        seed: an int, a SeedGenerator, or None.
    """

    _draw = "truncated_normal"


class RandomUniform(RandomInitializer):
    """Uniform numbers from [minval, maxval).

    Args:
        minval: the lower end.
        maxval: the upper end.
        seed: an int, a SeedGenerator, or None.
    """

    _arguments = ("minval", "maxval")

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: Any = None):
        self.minval, self.maxval = minval, maxval
        super().__init__(seed)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Values of the given shape and dtype."""
        return random.uniform(shape, self.minval, self.maxval, dtype=dtype, seed=self.seed)


_MODES = ("fan_in", "fan_out", "fan_avg")
_DISTRIBUTIONS = ("uniform", "truncated_normal", "untruncated_normal")
# The standard deviation of a standard normal cut off at two standard deviations.
_TRUNCATED_STDDEV = 0.87962566103423978


class VarianceScaling(RandomInitializer):
    """Random numbers of variance `scale` / the number of connections.

    Args:
        scale: the factor.
        mode: "fan_in", "fan_out" or "fan_avg": which connections count.
        distribution: "truncated_normal", "untruncated_normal" or "uniform".
        seed: an int, a SeedGenerator, or None.
        input_axes: the axes whose sizes multiply to the inputs; None for all but the last.
        output_axes: the axes whose sizes multiply to the outputs.

    >>> VarianceScaling(seed=1)((2, 3)).shape[0]
    2
    """

    _arguments = ("scale", "mode", "distribution", "input_axes", "output_axes")

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: Any = None,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
    ):
        distribution = distribution.lower()
        distribution = "truncated_normal" if distribution == "normal" else distribution
        if scale <= 0.0:
            raise ValueError(f"Argument `scale` must be positive float. Received: scale={scale}")
        if mode not in _MODES:
            raise ValueError(f"Invalid `mode` argument: {mode}. Please use one of {_MODES}")
        if distribution not in _DISTRIBUTIONS:
            raise ValueError(
                f"Invalid `distribution` argument: {distribution}. "
                f"Please use one of {_DISTRIBUTIONS}"
            )
        self.scale, self.mode, self.distribution = scale, mode, distribution
        self.input_axes, self.output_axes = input_axes, output_axes
        super().__init__(seed)

    def setup(self, seed: Any, input_axes: Any, output_axes: Any) -> None:
        # The special cases below: their three constants are class attributes.
        self.input_axes, self.output_axes = input_axes, output_axes
        RandomInitializer.__init__(self, seed)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Values of the given shape and dtype."""
        fan_in, fan_out = compute_fans(shape, self.input_axes, self.output_axes)
        fans = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
        variance = self.scale / max(1.0, fans[self.mode])
        if self.distribution == "uniform":
            limit = math.sqrt(3.0 * variance)
            return random.uniform(shape, -limit, limit, dtype=dtype, seed=self.seed)
        stddev = math.sqrt(variance)
        if self.distribution == "untruncated_normal":
            return random.normal(shape, 0.0, stddev, dtype=dtype, seed=self.seed)
        stddev /= _TRUNCATED_STDDEV
        return random.truncated_normal(shape, 0.0, stddev, dtype=dtype, seed=self.seed)


def compute_fans(
    shape: Sequence[int],
    input_axes: Sequence[int] | None = None,
    output_axes: Sequence[int] | None = None,
) -> tuple[int, int]:
    """The numbers of inputs and outputs of a kernel: the leading axes are a receptive field.

    >>> compute_fans((3, 3, 4, 8))
    (36, 72)
    """
    shape = tuple(shape)
    if input_axes is not None and output_axes is not None:
        return tuple(int(math.prod(shape[a] for a in axes)) for axes in (input_axes, output_axes))
    if len(shape) < 2:
        return (int(math.prod(shape)),) * 2
    field = math.prod(shape[:-2])
    return int(shape[-2] * field), int(shape[-1] * field)


def _scaling(name: str, scale: float, mode: str, distribution: str) -> type:
    return declare(
        VarianceScaling,
        name,
        f"""`VarianceScaling` with scale {scale:g}, {mode} and a {distribution} distribution.

    Args:
        seed: an int, a SeedGenerator, or None.
        input_axes: as in `VarianceScaling`.
        output_axes: as in `VarianceScaling`.
    """,
        {"seed": None, "input_axes": None, "output_axes": None},
        scale=scale,
        mode=mode,
        distribution=distribution,
        _arguments=("input_axes", "output_axes"),
    )


GlorotUniform = _scaling("GlorotUniform", 1.0, "fan_avg", "uniform")
GlorotNormal = _scaling("GlorotNormal", 1.0, "fan_avg", "truncated_normal")
LecunUniform = _scaling("LecunUniform", 1.0, "fan_in", "uniform")
LecunNormal = _scaling("LecunNormal", 1.0, "fan_in", "truncated_normal")
HeUniform = _scaling("HeUniform", 2.0, "fan_in", "uniform")
HeNormal = _scaling("HeNormal", 2.0, "fan_in", "truncated_normal")


class Orthogonal(RandomInitializer):
    """A random matrix with orthonormal rows or columns, whichever are fewer.

    Args:
        gain: what it is multiplied by.
        seed: an int, a SeedGenerator, or None.
    """

    _arguments = ("gain",)

    def __init__(self, gain: float = 1.0, seed: Any = None):
        self.gain = gain
        super().__init__(seed)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Values of the given shape (at least two-dimensional: all but the last axis are rows)."""
        if len(shape) < 2:
            raise ValueError(
                "The tensor to initialize must be at least two-dimensional. "
                f"Received: shape={shape} of rank {len(shape)}."
            )
        rows, columns = math.prod(shape[:-1]), shape[-1]
        flat = random.normal((max(rows, columns), min(rows, columns)), seed=self.seed)
        q, r = ops.qr(flat)
        # Without this, the factorisation's choice of signs would make some matrices likelier.
        q = q * ops.sign(ops.diag(r))
        q = ops.transpose(q) if rows < columns else q
        return ops.cast(self.gain * ops.reshape(q, tuple(shape)), dtypes.standardize(dtype))


_WINDOWS = {"hann": np.hanning, "hamming": np.hamming, "blackman": np.blackman,
            "bartlett": np.bartlett}  # fmt: skip


def _window(name: str, size: int, periodic: bool) -> np.ndarray:
    """The numbers of a window; scipy, where it is installed, knows more names than numpy."""
    if name in _WINDOWS:
        return _WINDOWS[name](size + 1)[:-1] if periodic else _WINDOWS[name](size)
    try:
        from scipy.signal import get_window
    except ImportError:
        raise ValueError(
            f"window must be one of {', '.join(_WINDOWS)} or an array, got {name!r}; with scipy "
            "(pip install scipy) it may be any of scipy.signal.windows."
        ) from None
    return get_window(name, size, periodic)


class STFT(Initializer):
    """The kernel of a convolution that does a short-time Fourier transform.

    The shape is (frame length, 1, frequencies), where the frequencies are those of half the
    transform: fft_length // 2 + 1.

    Args:
        side: "real" or "imag", the part of the transform.
        window: "hann", "hamming", "blackman", "bartlett", with scipy the name of any of its
            windows, an array of the frame length, or None.
        scaling: "density" or "spectrum": the window is divided by its L2 or its L1 norm; or None.
        periodic: whether the window is periodic, not symmetric.

    >>> STFT("imag", window=None)((4, 1, 3), "float32").shape[0]
    4
    """

    def __init__(
        self, side: str = "real", window: Any = "hann", scaling: str | None = "density",
        periodic: bool = False,
    ):  # fmt: skip
        if side not in ("real", "imag"):
            raise ValueError(f"side should be 'real' or 'imag', not {side}")
        if scaling not in (None, "density", "spectrum"):
            raise ValueError(
                "Scaling is invalid, it must be `None`, 'density' or 'spectrum'. "
                f"Received scaling={scaling}"
            )
        if isinstance(window, str):
            _window(window, 1, periodic)  # an unknown name is an error now
        self.side, self.window, self.scaling, self.periodic = side, window, scaling, periodic

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Values of the given shape (frame length, 1, frequencies) and dtype."""
        size, _, frequencies = shape
        # In double precision: the angles grow to hundreds of turns.
        turns = np.arange(size)[:, None, None] * np.arange(frequencies) / (2 * (frequencies - 1))
        values = {"real": np.cos, "imag": np.sin}[self.side](-2 * np.pi * turns)
        if self.window is not None:
            values *= self._scaled_window(size)[:, None, None]
        return ops.convert_to_tensor(values, dtypes.standardize(dtype))

    def _scaled_window(self, size: int) -> np.ndarray:
        if isinstance(self.window, str):
            window = _window(self.window, size, self.periodic)
        else:
            window = backends.to_numpy(self.window)
        if window.shape != (size,):
            raise ValueError(
                "The shape of `window` must be equal to [frame_length]. Received: window "
                f"shape={window.shape}"
            )
        norms = {None: 1.0, "density": np.sqrt((window**2).sum()), "spectrum": abs(window).sum()}
        return window / norms[self.scaling]

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it."""
        window = registry.serialize_keras_object(self.window)
        return {"side": self.side, "window": window, "periodic": self.periodic,
                "scaling": self.scaling}  # fmt: skip

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "STFT":
        """The initializer of a config."""
        return cls(**config | {"window": registry.deserialize_keras_object(config["window"])})


_CLASSES = (
    Initializer, Zeros, Ones, Constant, Identity, RandomNormal, TruncatedNormal, RandomUniform,
    VarianceScaling, GlorotUniform, GlorotNormal, LecunUniform, LecunNormal, HeUniform, HeNormal,
    Orthogonal, STFT,
)  # fmt: skip
_TABLE = {cls.__name__: cls for cls in _CLASSES}
_TABLE |= {to_snake_case(cls.__name__): cls for cls in _CLASSES}
_TABLE |= {"zero": Zeros, "one": Ones, "normal": RandomNormal, "uniform": RandomUniform}
_TABLE |= {f"{cls.__name__}Initializer": cls for cls in (Identity, Orthogonal, STFT)}
# Keras also offers the classes under these names, as attributes.
globals().update(_TABLE)


def serialize(initializer: Any) -> Any:
    """The config of an initializer."""
    return registry.serialize_keras_object(initializer)


def deserialize(config: Any, custom_objects: Any = None) -> Any:
    """The initializer of a config."""
    return registry.deserialize_keras_object(config, custom_objects)


def get(identifier: Any) -> Any:
    """An initializer from a name, a config, an array, a class, a function, or None.

    >>> type(get("glorot_uniform")).__name__
    'GlorotUniform'
    """
    if not backends.is_tensor(identifier) and not isinstance(identifier, np.ndarray | np.generic):
        return registry.get(identifier, _TABLE, "initializer")

    def constant(shape: Sequence[int], dtype: Any = None) -> Any:
        if tuple(shape) != tuple(identifier.shape):
            raise ValueError(
                f"Expected `shape` to be {tuple(identifier.shape)} for direct tensor as "
                f"initializer. Received shape={tuple(shape)}"
            )
        value = backends.to_numpy(identifier)
        return ops.convert_to_tensor(value, dtypes.standardize(dtype))

    return constant


set_initializers(get)
