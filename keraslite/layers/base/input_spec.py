"""InputSpec: the shapes that a layer takes, checked before it runs."""

from typing import Any

from keraslite import tree


class InputSpec:
    """The rank, shape and dtype of an input that a layer takes.

    Args:
        dtype: a dtype name.
        shape: a shape; None stands for any size.
        ndim: the rank.
        max_ndim: the largest rank.
        min_ndim: the smallest rank.
        axes: sizes of single axes.

    >>> InputSpec(ndim=2, axes={-1: 4}).ndim
    2
    """

    def __init__(
        self,
        dtype: str | None = None,
        shape: tuple | None = None,
        ndim: int | None = None,
        max_ndim: int | None = None,
        min_ndim: int | None = None,
        axes: dict[int, int] | None = None,
        allow_last_axis_squeeze: bool = False,
        name: str | None = None,
        optional: bool = False,
    ):
        self.dtype, self.shape, self.max_ndim, self.min_ndim = dtype, shape, max_ndim, min_ndim
        self.ndim = len(shape) if shape is not None else ndim
        self.axes = {int(k): v for k, v in (axes or {}).items()}
        self.name, self.optional = name, optional
        self.allow_last_axis_squeeze = allow_last_axis_squeeze


def check_input_spec(specs: Any, inputs: Any, layer: str) -> None:
    """Raise ValueError unless the inputs have the shapes that a layer takes."""
    specs = [specs] if isinstance(specs, InputSpec) else tree.flatten(specs)
    inputs = [inputs] if hasattr(inputs, "shape") else tree.flatten(inputs)
    if len(specs) != len(inputs):
        raise ValueError(f"Layer {layer!r} expects {len(specs)} inputs, got {len(inputs)}.")
    for spec, x in zip(specs, inputs, strict=True):
        if spec is None or x is None or not hasattr(x, "shape"):
            continue
        shape = tuple(x.shape)
        problem = _problem(spec, shape)
        if problem:
            raise ValueError(f"Layer {layer!r} expects {problem}, got an input of shape {shape}.")


def _problem(spec: InputSpec, shape: tuple) -> str | None:
    rank = len(shape)
    if spec.ndim is not None and rank != spec.ndim:
        return f"an input of rank {spec.ndim}"
    if spec.max_ndim is not None and rank > spec.max_ndim:
        return f"an input of rank at most {spec.max_ndim}"
    if spec.min_ndim is not None and rank < spec.min_ndim:
        return f"an input of rank at least {spec.min_ndim}"
    for axis, size in spec.axes.items():
        if size is not None and shape[axis] not in (size, None):
            return f"axis {axis} to have size {size}"
    for size, expected in zip(shape, spec.shape or (), strict=False):
        if expected is not None and size not in (expected, None):
            return f"the shape {spec.shape}"
    return None
