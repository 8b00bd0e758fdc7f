"""Models as functions of TensorFlow, and the files that TensorFlow writes of them."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf


def concrete_function(
    call: Callable[[list[tf.Tensor]], dict[str, tf.Tensor]],
    specs: Sequence[tuple[str, tuple, str]],
) -> Any:
    """Trace a function of flat inputs.

    Args:
        call: the function; it returns a dict.
        specs: (name, shape, dtype) of each input.

    Returns:
        A ConcreteFunction that takes the inputs by name.
    """
    named = {
        name: tf.TensorSpec(shape, dtype, name=re.sub(r"[^\w.]", "_", name))
        for name, shape, dtype in specs
    }

    def function(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return call([inputs[name] for name in named])

    return tf.function(function, input_signature=[named], autograph=False).get_concrete_function()
