"""Models for LiteRT (TensorFlow Lite), which runs on phones and small devices."""

from collections.abc import Callable
from typing import Any, BinaryIO

from keraslite.export.concrete import tensorflow_function
from keraslite.export.limits import refusing
from keraslite.export.signature import Signature


def prepare(
    model: Any, signature: Signature, metadata: dict[str, str], **options: Any
) -> Callable[[BinaryIO], None]:
    """Return what writes a model as a LiteRT file.

    Its signature "serving_default" takes the inputs by name and returns the outputs by name.

    Args:
        model: a built model, on any backend.
        signature: its inputs; free axes are resized before the file runs.
        metadata: what is written inside.
        options: attributes of a `tf.lite.TFLiteConverter`, such as `optimizations` and
            `representative_dataset`, and "enable_select_tf_ops".

    Raises:
        NotImplementedError: the format lacks an operation of the model.
    """
    from keraslite.backend.tensorflow import lite

    with refusing("litert", model):
        concrete = tensorflow_function(model, signature)
        data = lite.converted(concrete.program, concrete.model.weights, metadata, options)

    def write(file: BinaryIO) -> None:
        file.write(data)

    return write
