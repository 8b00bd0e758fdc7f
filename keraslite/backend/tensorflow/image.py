"""Images on TensorFlow."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keraslite.backend.primitives import primitive
from keraslite.backend.tensorflow.tensors import for_xla

TABLE: dict[str, Any] = {}

# The kernel's way to wrap leaves out what is between the last pixel and the first.
_FILL_MODES = ("constant", "nearest", "reflect")


@primitive(TABLE)
def _project_linear(
    x: tf.Tensor, matrix: tf.Tensor, fill_mode: str, fill_value: Any, by_points: Callable
) -> tf.Tensor:
    if fill_mode not in _FILL_MODES or for_xla():  # XLA lacks the kernel
        return by_points(x, matrix)

    @tf.custom_gradient
    def project(x: tf.Tensor, matrix: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        out = tf.raw_ops.ImageProjectiveTransformV3(
            images=x, transforms=matrix, output_shape=tf.shape(x)[1:3],
            fill_value=tf.cast(fill_value, tf.float32), interpolation="BILINEAR",
            fill_mode=fill_mode.upper(),
        )  # fmt: skip

        def gradient(upstream: tf.Tensor) -> list[tf.Tensor]:  # the kernel has none
            with tf.GradientTape() as tape:
                tape.watch((x, matrix))
                again = by_points(x, matrix)
            return tape.gradient(again, [x, matrix], upstream)

        return tf.ensure_shape(out, x.shape), gradient

    return project(x, matrix)
