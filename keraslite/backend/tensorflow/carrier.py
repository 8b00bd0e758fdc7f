"""Call functions of other frameworks from TensorFlow, with their gradients."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keraslite.backend.foreign import NO_SECOND, ForeignFunction, Spec
from keraslite.backend.tensorflow.tensors import dtype_of, native

__all__ = ["COMPILES_FOREIGN", "call_foreign"]

COMPILES_FOREIGN = False  # XLA has no kernel for calls of Python


def call_foreign(function: ForeignFunction, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    """Call a function of another framework: at once, or as a node of the graph that is built."""
    tensors = [tf.convert_to_tensor(x) for x in tensors]
    specs = [(tuple(x.shape), dtype_of(x)) for x in tensors]
    sources = function.sources([name for _, name in specs])

    @tf.custom_gradient
    def call(*tensors: tf.Tensor) -> tuple:
        outputs = _run(function.forward, tensors, lambda: function.outline(specs))
        targets = function.targets([dtype_of(x) for x in outputs])

        def pullback(*upstream: Any) -> list:
            upstream = [tf.convert_to_tensor(upstream[i]) for i in targets]
            return _gradients(function, sources, list(tensors), upstream)

        return outputs, pullback

    return list(call(*tensors))


def _gradients(
    function: ForeignFunction, sources: list[int], tensors: list[tf.Tensor], upstream: list
) -> list[tf.Tensor | None]:
    """Return the gradients by the tensors; those of the function by itself would be lost in it."""
    count = len(tensors)

    @tf.custom_gradient
    def call(*values: tf.Tensor) -> tuple:
        specs = [(tuple(values[i].shape), dtype_of(values[i])) for i in sources]
        found = _run(
            lambda *arrays: function.vjp(list(arrays[:count]), list(arrays[count:])),
            values, lambda: specs,
        )  # fmt: skip

        def refuse(*_: Any) -> Any:
            raise NotImplementedError(NO_SECOND)

        return found, refuse

    gradients: list[tf.Tensor | None] = [None] * count
    for i, gradient in zip(sources, call(*tensors, *upstream), strict=True):
        gradients[i] = tf.cast(gradient, tensors[i].dtype)
    return gradients


def _run(function: Callable, tensors: Any, outline: Callable[[], list[Spec]]) -> list[tf.Tensor]:
    """Run a function of arrays now, or whenever the graph runs."""
    if tf.executing_eagerly():
        return [tf.convert_to_tensor(x) for x in function(*(x.numpy() for x in tensors))]
    specs = outline()
    kinds = [native(name) for _, name in specs]

    def run(*arrays: np.ndarray) -> list[np.ndarray]:
        pairs = zip(function(*arrays), kinds, strict=True)
        return [np.asarray(x, kind.as_numpy_dtype) for x, kind in pairs]

    outputs = tf.numpy_function(run, list(tensors), kinds, stateful=False)
    for output, (shape, _) in zip(outputs, specs, strict=True):
        output.set_shape(shape)
    return outputs
