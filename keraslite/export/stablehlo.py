"""Models as StableHLO programs of jax.export."""

from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

from keraslite import backend as backends
from keraslite.export.concrete import copied_to, predict_call
from keraslite.export.limits import refusing
from keraslite.export.signature import Signature


def prepare(
    model: Any, signature: Signature, metadata: dict[str, str],
    platforms: Sequence[str] = ("cpu", "cuda", "tpu"), vjp_order: int = 0,
    max_sizes: dict[int, int] | None = None,
) -> Callable[[BinaryIO], None]:  # fmt: skip
    """Return what writes a model as a program of jax.export.

    `jax.export.deserialize(data).call(x)` takes and returns what the model does.

    Args:
        model: a built model, on any backend.
        signature: its inputs; free axes are symbolic.
        metadata: not written: the format has no place for it.
        platforms: what the program runs on.
        vjp_order: how often it can be differentiated.
        max_sizes: the largest size of free axes by their place, where a model must know it: of a
            table of positions, say.

    Raises:
        NotImplementedError: the format lacks an operation of the model.
    """
    from keraslite.backend.jax import export

    copied = copied_to(model, "jax")
    call = predict_call(copied, signature)

    def function(*args: Any) -> Any:
        return call(signature.flatten(args))

    specs = [(spec.shape, spec.dtype) for spec in signature.specs]
    with refusing("stablehlo", model), backends.backend_scope("jax"):
        data = export.serialized(
            function, specs, signature.pack, tuple(platforms), vjp_order, max_sizes or {}
        )

    def write(file: BinaryIO) -> None:
        file.write(data)

    return write
