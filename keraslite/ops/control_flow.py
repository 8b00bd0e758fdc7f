"""Control flow on tensors: branches, loops and scans, one interface over the backends' engines."""

from collections.abc import Callable, Sequence
from typing import Any

from keraslite import backend as backends
from keraslite import tree
from keraslite.ops.core import convert_to_tensor, dtype, shape, stack
from keraslite.ops.engine import as_tensors, control_flow, engine_of
from keraslite.ops.shapes import broadcast_to, concatenate, expand_dims, flip, moveaxis, reshape
from keraslite.ops.transforms import vmap

# -- forms without values, for symbolic calls -----------------------------------------------------


def _check_alike(what: str, first: Any, second: Any) -> None:
    """Raise ValueError unless two structures of tensors have the same shapes and dtypes."""

    def outlines(structure: Any) -> Any:
        return tree.map_structure(
            lambda x: (tuple(x.shape), dtype(x)) if hasattr(x, "shape") else type(x), structure
        )

    a, b = outlines(first), outlines(second)
    if a != b:
        raise ValueError(f"{what} must have the same structure, shapes and dtypes, got {a} and {b}")


def _cond_form(pred: Any, true_fn: Callable, false_fn: Callable) -> Any:
    if isinstance(pred, bool):
        return true_fn() if pred else false_fn()
    module = engine_of(pred)
    outs = [as_tensors(module, branch()) for branch in (true_fn, false_fn)]
    _check_alike("The results of true_fn and false_fn", *outs)
    return outs[0]


def _switch_form(index: Any, branches: Sequence[Callable], *operands: Any) -> Any:
    if isinstance(index, int):
        return branches[min(max(index, 0), len(branches) - 1)](*operands)
    module = engine_of(index, operands)
    outs = [as_tensors(module, branch(*operands)) for branch in branches]
    for out in outs[1:]:
        _check_alike("The results of the branches", outs[0], out)
    return outs[0]


def _while_form(
    cond: Callable, body: Callable, loop_vars: Any, maximum_iterations: int | None = None
) -> Any:
    single = not isinstance(loop_vars, list | tuple)
    module = engine_of(loop_vars)
    state = as_tensors(module, (loop_vars,) if single else tuple(loop_vars))
    cond(*state)
    new = body(*state)
    new = as_tensors(module, tuple(new) if isinstance(new, list | tuple) else (new,))
    _check_alike("loop_vars and what the body makes of them", state, new)
    return new[0] if single else type(loop_vars)(new)


def _fori_form(lower: Any, upper: Any, body_fun: Callable, init_val: Any) -> Any:
    module = engine_of(lower, upper, init_val)
    state = as_tensors(module, init_val)
    if module.LOOPS_IN_PYTHON and isinstance(lower, int) and isinstance(upper, int):
        if lower >= upper:
            return state
    else:
        lower = module.convert(lower, "int32")
    new = as_tensors(module, body_fun(lower, state))
    _check_alike("init_val and what body_fun makes of it", state, new)
    return new


def _scan_form(
    f: Callable,
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
) -> tuple[Any, Any]:
    module = engine_of(init, xs)
    init, xs = as_tensors(module, init), None if xs is None else as_tensors(module, xs)
    length = _scan_length(xs, length)

    def row(x: Any) -> Any:
        return x[0] if length else module.zeros(tuple(x.shape[1:]), module.dtype_of(x))

    carry, y = f(init, None if xs is None else tree.map_structure(row, xs))
    carry, y = as_tensors(module, carry), as_tensors(module, y)
    _check_alike("init and the carry that f makes of it", init, carry)

    def steps(x: Any) -> Any:
        return None if x is None else broadcast_to(expand_dims(x, 0), (length, *shape(x)))

    return carry, tree.map_structure(steps, y)


# -- the operations -------------------------------------------------------------------------------


@control_flow(_fori_form)
def fori_loop(lower: Any, upper: Any, body_fun: Callable, init_val: Any) -> Any:
    """Repeat `value = body_fun(i, value)` for i from `lower` up to `upper`.

    >>> int(fori_loop(0, 4, lambda i, total: total + i, convert_to_tensor(0)))
    6
    """
    names = [backends.of(x) for x in tree.flatten(init_val)]
    backend = next((b for b in names if b is not None), backends.backend())
    module = backends.load(backend)
    if module.LOOPS_IN_PYTHON and isinstance(lower, int) and isinstance(upper, int):
        for i in range(lower, upper):
            init_val = body_fun(i, init_val)
        return init_val
    # One dtype for both ends, whatever ints they are: frameworks refuse to compare two.
    upper = module.convert(upper, "int32")
    state = (module.convert(lower, "int32"), init_val)
    return while_loop(lambda i, _: i < upper, lambda i, v: (i + 1, body_fun(i, v)), state)[1]


@control_flow(_switch_form)
def switch(index: Any, branches: Sequence[Callable], *operands: Any) -> Any:
    """Run the branch of the given number, brought into range, on the operands.

    >>> int(switch(1, [lambda x: x, lambda x: -x], convert_to_tensor(3)))
    -3
    """
    if isinstance(index, int):
        return branches[min(max(index, 0), len(branches) - 1)](*operands)
    if len(branches) == 1:
        return branches[0](*operands)
    index = convert_to_tensor(index)
    # By halves, so that branches are not nested deeply.
    half = len(branches) // 2
    return cond(
        index < half,
        lambda: switch(index, branches[:half], *operands),
        lambda: switch(index - half, branches[half:], *operands),
    )


@control_flow()
def map(f: Callable, xs: Any) -> Any:
    """Apply a function to the slices along the leading axis, one after the other.

    >>> convert_to_numpy(map(lambda x: x * 2, convert_to_tensor([1, 2]))).tolist()
    [2, 4]
    """
    return scan(lambda carry, x: (carry, f(x)), (), xs)[1]


@control_flow()
def vectorized_map(function: Callable, elements: Any) -> Any:
    """Apply a function to the slices along the leading axis, all at once.

    >>> convert_to_numpy(vectorized_map(lambda x: x * 2, convert_to_tensor([1, 2]))).tolist()
    [2, 4]
    """
    return vmap(function)(elements)


@control_flow(_cond_form)
def cond(pred: Any, true_fn: Callable, false_fn: Callable) -> Any:
    """Run `true_fn()` where a scalar condition holds, else `false_fn()`.

    >>> cond(ops.convert_to_tensor(True), lambda: 1, lambda: 2) is not None
    True
    """
    if isinstance(pred, bool):
        return true_fn() if pred else false_fn()
    return engine_of(pred).cond(getattr(pred, "_kl_value", pred), true_fn, false_fn)


@control_flow(_while_form)
def while_loop(
    cond: Callable, body: Callable, loop_vars: Any, maximum_iterations: int | None = None
) -> Any:
    """Repeat `loop_vars = body(*loop_vars)` while `cond(*loop_vars)` holds.

    Args:
        cond: a function of the loop variables that gives a scalar boolean.
        body: a function of the loop variables that gives new ones of the same shapes and dtypes.
        loop_vars: the first values, a tensor or a nested structure of them.
        maximum_iterations: the largest number of iterations.
    """
    single = not isinstance(loop_vars, list | tuple)
    state = (loop_vars,) if single else tuple(loop_vars)
    module = engine_of(state)
    state = as_tensors(module, state)
    out = module.while_loop(cond, body, state, maximum_iterations)
    return out[0] if single else type(loop_vars)(out)


@control_flow(_scan_form)
def scan(
    f: Callable,
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
) -> tuple[Any, Any]:
    """Thread a carry along the leading axis of `xs` and stack the outputs of the steps.

    Args:
        f: a function of (carry, x) that returns (new carry, y).
        init: the first carry, nested.
        xs: the inputs of the steps, nested; None with `length`.
        length: the number of steps; needed where `xs` is None.
        reverse: whether to run from the end.
        unroll: how many steps the compiler lays out in a row, where it can.

    Returns:
        The last carry, and the stacked ys in the order of `xs`.
    """
    module = engine_of(init, xs)
    init, xs = as_tensors(module, init), None if xs is None else as_tensors(module, xs)
    return module.scan(f, init, xs, _scan_length(xs, length), reverse, unroll)


def _scan_length(xs: Any, length: int | None) -> Any:
    leaves = [] if xs is None else tree.flatten(xs)
    sizes: list[Any] = []  # symbolic sizes have no hash, and torch.compile finds none in a list
    for size in (*(x.shape[0] for x in leaves), length):
        if size is not None and not any(size == known for known in sizes):
            sizes.append(size)
    if len(sizes) > 1 or not (sizes or leaves):
        raise ValueError(f"ops.scan: xs and length must give one length, got {sizes or 'neither'}.")
    if not sizes:  # known when a graph of TensorFlow runs
        return shape(leaves[0])[0]
    return sizes.pop()


@control_flow()
def associative_scan(f: Callable, elems: Any, reverse: bool = False, axis: int = 0) -> Any:
    """Combine the first 1, 2, 3 ... slices by an associative function, in logarithmic depth.

    Args:
        f: an associative function of two structures like `elems`, with any number of slices.
        elems: a tensor, or a nested structure of them with one size along the axis.
        reverse: whether to begin at the end.
        axis: the axis of the slices.

    Returns:
        A structure like `elems`.

    Raises:
        TypeError: `f` is no function.
        ValueError: the tensors differ in size along the axis, or it is not known.

    Source: Blelloch, "Prefix sums and their applications", 1990.

    >>> associative_scan(lambda a, b: a + b, ops.convert_to_tensor([1, 2, 3])).tolist()
    [1, 3, 6]
    """
    if not callable(f):
        raise TypeError(f"ops.associative_scan: f must be a function, got {f!r}.")
    parts = [moveaxis(x, axis, 0) for x in tree.flatten(as_tensors(engine_of(elems), elems))]
    sizes = {x.shape[0] for x in parts}
    if len(sizes) != 1 or None in sizes:
        raise ValueError(
            f"ops.associative_scan: elems must have one size along axis {axis}, got {sizes}."
        )

    def combine(a: list, b: list) -> list:
        return tree.flatten(f(tree.pack_sequence_as(elems, a), tree.pack_sequence_as(elems, b)))

    def run(parts: list, size: int) -> list:
        if size < 2:
            return parts
        half, odd_size = size // 2, size % 2
        pairs = combine([x[: size - 1 : 2] for x in parts], [x[1::2] for x in parts])
        odd = run(pairs, half)
        last = half - 1 + odd_size
        even = [x[:1] for x in parts]
        if last:
            more = combine([x[:last] for x in odd], [x[2::2] for x in parts])
            even = [concatenate([a, b]) for a, b in zip(even, more, strict=True)]
        out = []
        for a, b in zip(even, odd, strict=True):
            both = reshape(stack([a[:half], b], 1), (2 * half, *a.shape[1:]))
            out.append(concatenate([both, a[half:]]) if odd_size else both)
        return out

    parts = [flip(x, 0) for x in parts] if reverse else parts
    parts = run(parts, sizes.pop())
    parts = [flip(x, 0) for x in parts] if reverse else parts
    return tree.pack_sequence_as(elems, [moveaxis(x, 0, axis) for x in parts])


__all__ = [
    "associative_scan", "cond", "fori_loop", "map", "scan", "switch", "vectorized_map",
    "while_loop",
]  # fmt: skip
