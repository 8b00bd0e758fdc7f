"""Equations of EinsumDense: the shapes they ask for, and how they become products of matrices."""

import math
import string
from typing import Any

from keraslite import ops

_BAD_EQUATION = (
    "Invalid einsum equation '{}'. Equations must be in the form "
    "[X],[Y]->[Z], ...[X],[Y]->...[Z], or [X]...,[Y]->[Z]...."
)


class Equation:
    """An einsum of inputs and a kernel as a product of matrices: which axis goes where.

    Args:
        equation: such as "abc,cde->abde".
        ndim: the number of axes of the inputs.

    >>> Equation("abc,cd->adb", 3).output_axes
    (0, 2, 1)
    """

    def __init__(self, equation: str, ndim: int):
        left, out = equation.replace(" ", "").split("->")
        x, kernel = left.split(",")
        unused = [c for c in string.ascii_letters if c not in equation]
        elided = "".join(unused[: ndim - len(x.replace("...", ""))])
        x, out = x.replace("...", elided), out.replace("...", elided)
        alone = [c for c in x if c not in out + kernel]  # the kernel is the same along them
        shared = [c for c in out if c in x and c in kernel]
        free = [c for c in out if c not in kernel]
        summed, outer = [c for c in kernel if c not in out], [c for c in out if c not in x]
        order = shared + free + outer
        self.counts = len(shared), len(free), len(alone), len(summed)
        self.plain = not shared + alone and len(summed) == len(outer) == 1
        self.input_axes = tuple(x.index(c) for c in shared + free + alone + summed)
        self.kernel_axes = tuple(kernel.index(c) for c in shared + summed + outer)
        self.output_axes = tuple(order.index(c) for c in out)
        self.scale_axes = tuple(out.index(c) for c in order)  # of scales kept beside the output
        self.reduced = tuple(kernel.index(c) for c in summed)
        self.places = tuple(kernel.find(c) for c in out)  # of the kernel's axes in the output
        self.shared = len(shared)
        self.summed_inputs = self.input_axes[len(shared) + len(free) :]
        # Whether the second factor of a kernel acts on the last axis of the output.
        self.low_rank = out[-1:] == kernel[-1:] and kernel[-1] in outer

    def apply(self, x: Any, kernel: Any, scale: Any, multiply: Any) -> Any:
        """The output, by a product of matrices.

        Args:
            x: the inputs.
            kernel: the kernel.
            scale: the kernel's scales, beside the output.
            multiply: of (..., inputs), (..., inputs, outputs) and scales (..., outputs).
        """
        shared, free, alone, summed = self.counts
        x, kernel = _transposed(x, self.input_axes), _transposed(kernel, self.kernel_axes)
        heads, tails = kernel.shape[:shared], kernel.shape[shared + summed :]
        inputs, outputs = math.prod(kernel.shape[shared : shared + summed]), math.prod(tails)
        if self.plain:
            out = multiply(x, kernel, ops.reshape(scale, (-1,)))
            return _transposed(out, self.output_axes)
        rows = ops.shape(x)[: shared + free]
        repeats = math.prod(ops.shape(x)[shared + free : shared + free + alone])
        flat = (*heads, -1) if shared else rows  # where no axis is shared, all may stay rows
        scale = ops.reshape(_transposed(scale, self.scale_axes), (*heads, 1, outputs))
        kernel = ops.reshape(kernel, (*heads, inputs, outputs))
        if alone:
            kernel = ops.tile(kernel, (*(1,) * shared, repeats, 1))
        out = multiply(
            ops.reshape(x, (*flat, repeats * inputs)),
            kernel,
            scale if shared else scale[0],
        )
        return _transposed(ops.reshape(out, (*rows, *tails)), self.output_axes)

    def matrix_of(self, kernel: Any) -> Any:
        """Return a kernel as the matrix (inputs, outputs) that inputs are multiplied with."""
        outer = [kernel.shape[i] for i in self.kernel_axes[len(self.reduced) :]]
        return ops.reshape(_transposed(kernel, self.kernel_axes), (-1, math.prod(outer)))

    def kernel_of(self, matrix: Any, shape: tuple[int, ...]) -> Any:
        """Return a matrix (inputs, outputs) as a kernel of a shape."""
        turned = ops.reshape(matrix, [shape[i] for i in self.kernel_axes])
        back = tuple(self.kernel_axes.index(i) for i in range(len(shape)))
        return _transposed(turned, back)

    def rows_of(self, x: Any, size: int) -> Any:
        """Return inputs as the rows (rows, inputs) that the matrix of the kernel multiplies."""
        _, free, alone, _ = self.counts
        x = _transposed(x, self.input_axes)
        x = ops.sum(x, axis=tuple(range(free, free + alone))) if alone else x
        return ops.reshape(x, (-1, size))


def _transposed(x: Any, axes: tuple[int, ...]) -> Any:
    return x if axes == tuple(range(len(axes))) else ops.transpose(x, axes)


def contracted_axes(equation: str) -> int | None:
    """Return the number of trailing input axes that a plain matrix product contracts.

    None where the equation is no plain matrix product.

    >>> contracted_axes("abc,cd->abd"), contracted_axes("abc,cd->adb")
    (1, None)
    """
    left, out = equation.replace(" ", "").split("->")
    x, kernel = left.split(",")
    if x.startswith("...") and out.startswith("..."):
        x, out = x[3:], out[3:]
    for i in range(len(x)):
        free, bound = x[:i], x[i:]
        if kernel.startswith(bound) and out == free + kernel[len(bound) :]:
            return len(bound)
    return None


def einsum_shapes(
    equation: str, bias_axes: str | None, shape: tuple, partial: tuple
) -> tuple[tuple, tuple | None, dict]:
    """Return the shapes of kernel and bias, and which axes of the kernel are inputs and outputs.

    Args:
        equation: such as "abc,cd->abd".
        bias_axes: the letters of the output along which there is a bias; None for no bias.
        shape: the shape of the inputs.
        partial: the output shape without the batch axis and the axes of an ellipsis.
    """
    try:
        left, out = equation.replace(" ", "").split("->")
        x, kernel = left.split(",")
    except ValueError:
        raise ValueError(_BAD_EQUATION.format(equation)) from None
    letters = [s.replace("...", "") for s in (x, kernel, out)]
    begins, ends = x.startswith("...") and out.startswith("..."), x.endswith("...")
    if not all(s.isalpha() for s in letters) or ("..." in x + out and not (begins or ends)):
        raise ValueError(_BAD_EQUATION.format(equation))
    x, kernel, out = letters
    elided = len(shape) - len(x)
    inputs = dict(zip(x, shape[elided:] if begins else shape, strict=False))
    # The partial shape leaves out the first axis, which is the batch or part of the ellipsis.
    output_shape = partial if begins and elided else (shape[0], *partial)
    outputs = dict(zip(out, output_shape, strict=False))
    for letter in x:
        if letter in outputs and outputs[letter] not in (None, inputs[letter]):
            raise ValueError(
                f"Input shape and output shape do not match at shared dimension '{letter}'. Input "
                f"shape is {inputs[letter]}, and output shape is {outputs[letter]}."
            )
    for letter in (*out, *kernel):
        if letter not in (kernel + x if letter in out else out + x):
            raise ValueError(
                f"Dimension '{letter}' has no match in the input spec '{x}', "
                f"the weight spec '{kernel}' or the output spec '{out}'."
            )
    sizes = inputs | {letter: size for letter, size in outputs.items() if size is not None}
    if any(sizes.get(letter) is None for letter in kernel):
        raise ValueError(f"The sizes of the weight '{kernel}' must be known, got {sizes}.")
    axes = {
        "input_axes": [i for i, c in enumerate(kernel) if c not in out],
        "output_axes": [i for i, c in enumerate(kernel) if c in out],
    }
    bias = None
    if bias_axes is not None:
        if not set(bias_axes) <= set(out):
            raise ValueError(f"Bias axes '{bias_axes}' are not part of the output spec '{out}'.")
        first = min(out.index(c) for c in bias_axes)
        bias = tuple(sizes[c] if c in bias_axes else 1 for c in out[first:])
        bias += (1,) * (elided if ends and not begins else 0)
    return tuple(sizes[c] for c in kernel), bias, axes
