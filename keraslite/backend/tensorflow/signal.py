"""Fourier transforms on TensorFlow."""

from typing import Any

import tensorflow as tf

TABLE: dict[str, Any] = {
    "_complex": tf.complex,
    "_fft": tf.signal.fft,
    "_fft2": tf.signal.fft2d,
    "_ifft2": tf.signal.ifft2d,
    "_rfft": lambda x: tf.signal.rfft(x, [tf.shape(x)[-1]]),
    "_irfft": lambda x, size: tf.signal.irfft(x, [size]),
}
