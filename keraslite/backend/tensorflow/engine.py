"""ENGINE: variables, gradients, compilation and control flow on TensorFlow."""

import weakref
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from types import CellType
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.autograph.core import config as autograph
from tensorflow.python.eager import record

from keraslite.backend.tensorflow.module import TensorFlowLayer, TensorFlowOptimizer
from keraslite.backend.tensorflow.tensors import convert, native, under_xla
from keraslite.scopes import scopes

__all__ = [
    "ABSTRACT", "COMPILES", "COMPILES_OPS", "COMPILES_PYTHON", "FUNCTIONAL", "FUSED", "LAYER_BASE",
    "LOOPS_IN_PYTHON", "OPTIMIZER_BASE", "PURE_GRADS", "TRAINS", "abstract", "assign", "assign_add",
    "check_training", "checkpoint", "cond", "custom_gradient", "dense_gradient", "duplicate",
    "gradients_of", "jit", "jvp",
    "new_variable", "no_grad", "profile", "read", "scan", "set_seed", "set_trainable",
    "value_and_grad", "vjp", "vmap", "watch", "while_loop", "zeros",
]  # fmt: skip

ABSTRACT = True
COMPILES = True  # a function, once for each shape of its arguments
COMPILES_OPS = False
COMPILES_PYTHON = False
FUNCTIONAL = False  # variables are live: a step reads and writes them in place
PURE_GRADS = False
LOOPS_IN_PYTHON = False  # a loop of known length is a `for`, never traced as one
TRAINS = True
FUSED: dict[str, Callable] = {}  # formulas of optimizers that have a form in place
no_grad = nullcontext  # gradients are asked for by a call, never recorded
LAYER_BASE = TensorFlowLayer
OPTIMIZER_BASE = TensorFlowOptimizer

# A tf.function of a user need not rewrite this package's code, as it does not Keras's: that took
# ten seconds for a small step.
autograph.CONVERSION_RULES = (autograph.DoNotConvert("keraslite"), *autograph.CONVERSION_RULES)


def new_variable(value: tf.Tensor, trainable: bool, name: str) -> tf.Variable:
    """Storage for a variable, made outside any graph being traced; replicas under a strategy."""
    # Moving statistics are averaged over replicas; all else is the same on each.
    averaged = not trainable and value.dtype.is_floating
    rule = tf.VariableAggregation.MEAN if averaged else tf.VariableAggregation.ONLY_FIRST_REPLICA
    kind = rule if tf.distribute.has_strategy() else tf.VariableAggregation.NONE
    # TensorFlow keeps 34 KB for ever of each name: those of layers, which count up, are left out.
    name = name.rpartition("/")[2] or "variable"
    with tf.init_scope():
        return tf.Variable(value, trainable=trainable, name=name, aggregation=kind)


def read(raw: tf.Variable) -> tf.Tensor:
    """The value of a variable."""
    return raw.value()


def assign(raw: tf.Variable, value: tf.Tensor) -> tf.Variable:
    """Write a variable in place."""
    raw.assign(value)
    return raw


def assign_add(raw: tf.Variable, value: tf.Tensor) -> tf.Variable:
    """Add to a variable in place."""
    raw.assign_add(tf.cast(value, raw.dtype))
    return raw


def check_training(weights: list[tf.Variable]) -> None:
    """Refuse strategies of TensorFlow, under which a step would be that of one replica."""
    # The weights know the strategy in whose scope they were made, as is usual before `fit`.
    strategies = [v.distribute_strategy for v in weights if hasattr(v, "distribute_strategy")]
    if tf.distribute.has_strategy():
        strategies.append(tf.distribute.get_strategy())
    if strategies:
        raise NotImplementedError(
            f"fit does not run under a {type(strategies[0]).__name__}: make the model outside of "
            "its scope, or write a loop with strategy.run."
        )


def set_trainable(raw: Any, trainable: bool) -> None:
    """Say whether tapes watch a variable by themselves, and modules list it as trainable."""
    for variable in getattr(raw, "values", (raw,)):  # replicas
        variable._trainable = trainable


def zeros(shape: tuple, dtype: str) -> tf.Tensor:
    """Zeros; symbolic inside `abstract`."""
    return tf.zeros(shape, native(dtype))


def duplicate(raw: tf.Tensor) -> tf.Tensor:
    """The same values in memory of their own."""
    return tf.identity(raw)


def watch(raw: tf.Variable) -> Callable[[Any], bool]:
    """Whether a storage is this one, into which nothing was written since.

    A variable has no version. But a tensor that was read shares its memory, so that a write, which
    must leave that tensor as it is, gives the variable other memory.
    """
    this, value = weakref.ref(raw), raw.read_value()
    at = _address(value)
    if at is None or at != _address(raw.read_value()):  # every read copies
        digest = _digest(value)
        return lambda now: this() is now and _digest(now.read_value()) == digest

    def unchanged(now: Any, held: tf.Tensor = value) -> bool:
        return this() is now and _address(now.read_value()) == at

    return unchanged


def _address(value: tf.Tensor) -> int | None:
    """Where a tensor lies in the memory of the host; None for another device."""
    if "CPU" not in value.device:
        return None
    if value.dtype.as_numpy_dtype.__module__ != "numpy":  # bfloat16, which no buffer may hold
        value = tf.bitcast(value, {1: "uint8", 2: "uint16"}[value.dtype.size])
    return int(np.asarray(memoryview(value)).ctypes.data)


def _digest(value: tf.Tensor) -> int:
    return zlib.crc32(np.ascontiguousarray(value.numpy()).view("uint8").reshape(-1))


def dense_gradient(gradient: Any) -> Any:
    """A gradient as a dense tensor: that of an embedding is rows, and where they go."""
    sliced = isinstance(gradient, tf.IndexedSlices)
    return tf.convert_to_tensor(gradient) if sliced else gradient


def set_seed(seed: int) -> None:
    """Seed TensorFlow's own generators, for code that uses them."""
    tf.random.set_seed(seed)


def profile(folder: str) -> Any:
    """TensorFlow's own profiler."""
    return tf.profiler.experimental.Profile(folder)


def abstract(fn: Callable, specs: list[tuple[tuple, str]]) -> Any:
    """Run `fn` on placeholders of a scratch graph, one that takes in real tensors too."""
    with tf.__internal__.FuncGraph("abstract").as_default():
        return fn(*(tf.compat.v1.placeholder(native(dtype), shape) for shape, dtype in specs))


def jit(fn: Callable, donate: tuple[int, ...] = (), compile: Any = "auto") -> Callable:
    """Compile to a graph, which XLA compiles if it is asked for."""
    if compile in (False, "record"):
        return fn
    xla = compile in (True, "xla")
    compiled = tf.function(under_xla(fn) if xla else fn, jit_compile=xla, autograph=False)
    compiled._omit_frequent_tracing_warning = True  # a graph for each shape is what is asked for
    return compiled


def value_and_grad(fn: Callable, argnums: Any, has_aux: bool) -> Callable:
    """Differentiate with respect to arguments."""

    def call(*args: Any, **kwargs: Any) -> Any:
        args = [tf.nest.map_structure(convert, a) if i in _numbers(argnums) else a
                for i, a in enumerate(args)]  # fmt: skip
        sources = [args[i] for i in _numbers(argnums)]
        with tf.GradientTape() as tape:
            tape.watch(tf.nest.flatten(sources))
            out = fn(*args, **kwargs)
            value = out[0] if has_aux else out
        grads = tape.gradient(value, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        grads = [tf.convert_to_tensor(g) if isinstance(g, tf.IndexedSlices) else g for g in grads]
        return out, grads[0] if isinstance(argnums, int) else tuple(grads)

    return call


def _numbers(argnums: Any) -> tuple[int, ...]:
    return (argnums,) if isinstance(argnums, int) else tuple(argnums)


def gradients_of(fn: Callable, raws: list) -> tuple[Any, list]:
    """Run fn() -> (scalar, aux) and differentiate the scalar with respect to live variables."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(raws)
        value, aux = fn()
    return (value, aux), [
        tf.convert_to_tensor(g) if isinstance(g, tf.IndexedSlices) else g
        for g in tape.gradient(value, raws)
    ]


def jvp(fn: Callable, primals: tuple, tangents: tuple) -> tuple:
    """((value, auxiliary part), tangent) of a function that gives such a pair.

    The gradient is linear in its upstream gradient; the gradient by that is the product.
    tf.autodiff.ForwardAccumulator passes over custom gradients and some loops.
    """
    out, pullback = vjp(fn, primals)
    leaves = tf.nest.flatten(out[0])
    upstream = [tf.zeros_like(x) for x in leaves]
    with tf.GradientTape() as tape:
        tape.watch(upstream)
        grads = tf.nest.flatten(pullback(tf.nest.pack_sequence_as(out[0], upstream)))
    flat = _gradients(tape, grads, upstream, tf.nest.flatten(tangents))
    return out, tf.nest.pack_sequence_as(out[0], flat)


def vjp(fn: Callable, primals: tuple) -> tuple:
    """((value, auxiliary part), pullback) of a function that gives such a pair."""
    primals = tf.nest.map_structure(tf.identity, primals)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(tf.nest.flatten(primals))
        value, aux = fn(*primals)

    def pullback(upstream: Any) -> Any:
        flat = _gradients(tape, value, tf.nest.flatten(primals), tf.nest.flatten(upstream))
        return tf.nest.pack_sequence_as(primals, flat)

    return (value, aux), pullback


def _gradients(tape: tf.GradientTape, value: Any, sources: list, upstream: list) -> list:
    """The gradients by tensors and variables, zero where they do not matter."""
    grads = tape.gradient(tf.nest.flatten(value), sources, upstream, tf.UnconnectedGradients.ZERO)
    return [tf.convert_to_tensor(g) for g in grads]


def checkpoint(fn: Callable) -> Callable:
    """Compute `fn` again for its gradient, instead of keeping what it needs.

    tf.recompute_grad would take the tensors that `fn` closes over for constants.
    """
    captured = _closed_over(fn)

    def call(*args: Any) -> Any:
        results: list[Any] = []  # the structure of the results

        @tf.custom_gradient
        def run(*inputs: Any) -> tuple:
            with record.stop_recording():
                results.append(fn(*inputs[: len(args)]))

            def backward(*upstream: Any, variables: Any = None) -> Any:
                with tf.control_dependencies(upstream):  # not before, nor merged with the first run
                    arguments = [tf.identity(x) for x in inputs[: len(args)]]
                sources = [*arguments, *captured, *(variables or ())]
                with tf.GradientTape() as tape:
                    tape.watch(sources)
                    out = _differentiable(fn(*arguments))
                above = [
                    g for g, x in zip(upstream, _leaves(results[0]), strict=True) if _smooth(x)
                ]
                grads = _gradients(tape, out, sources, above)
                if variables is None:
                    return grads
                return grads[: len(inputs)], grads[len(inputs) :]

            return _leaves(results[0]), backward

        tensors = iter(run(*args, *captured))
        return tf.nest.map_structure(
            lambda x: next(tensors) if isinstance(x, tf.Tensor) else x, results[0]
        )

    return call


def _leaves(structure: Any) -> list:
    return [x for x in tf.nest.flatten(structure) if isinstance(x, tf.Tensor)]


def _smooth(x: tf.Tensor) -> bool:
    return x.dtype.is_floating or x.dtype.is_complex


def _differentiable(structure: Any) -> list:
    return [x for x in _leaves(structure) if _smooth(x)]


def _closed_over(fn: Any, visited: set | None = None) -> list:
    """The float tensors that a function reaches through closures, lists, tuples and dicts."""
    visited = set() if visited is None else visited
    if id(fn) in visited:
        return []
    visited.add(id(fn))
    if isinstance(fn, tf.Tensor):
        return [fn] if _smooth(fn) else []
    if isinstance(fn, dict):
        inside = list(fn.values())
    elif isinstance(fn, list | tuple):
        inside = list(fn)
    else:
        cells = getattr(fn, "__closure__", None) or ()
        inside = [c.cell_contents for c in cells if c != CellType()]
    return [x for part in inside for x in _closed_over(part, visited)]


def custom_gradient(fn: Callable) -> Callable:
    """Give a function its own gradient: `fn(*args)` returns the value and a gradient function."""
    return tf.custom_gradient(fn)


def cond(pred: Any, true_fn: Callable, false_fn: Callable) -> Any:
    """Run one of two branches."""
    return tf.cond(pred, true_fn, false_fn)


def while_loop(test: Callable, body: Callable, state: tuple, maximum_iterations: int | None) -> Any:
    """Repeat `body` while `test` holds."""

    def step(*values: Any) -> tuple:
        new = body(*values)
        return tuple(new) if isinstance(new, list | tuple) else (new,)

    return tf.while_loop(test, step, state, maximum_iterations=maximum_iterations)


def scan(f: Callable, init: Any, xs: Any, length: int, reverse: bool, unroll: Any) -> Any:
    """Thread a carry along the leading axis and stack what each step gives."""
    carry0 = tf.nest.map_structure(convert, init)
    start = length - 1 if reverse else 0
    take = lambda i: None if xs is None else tf.nest.map_structure(lambda x: x[i], xs)  # noqa: E731
    if isinstance(length, int) and length == 0:
        return carry0, None
    if unroll is True and isinstance(length, int):  # laid out in the graph, step by step
        return _unrolled(f, carry0, take, range(length - 1, -1, -1) if reverse else range(length))
    if scopes.plain_graph:
        return _scan_without_arrays(f, carry0, take, length, reverse)
    carry, first = f(carry0, take(start))
    flat = [] if first is None else [convert(v) for v in tf.nest.flatten(first)]
    arrays = tuple(
        tf.TensorArray(v.dtype, size=length, element_shape=v.shape).write(start, v) for v in flat
    )

    def body(k: Any, carry: Any, arrays: tuple) -> tuple:
        i = length - 1 - k if reverse else k
        carry, y = f(carry, take(i))
        ys = [] if y is None else tf.nest.flatten(y)
        arrays = tuple(a.write(i, v) for a, v in zip(arrays, ys, strict=True))
        return k + 1, tf.nest.map_structure(convert, carry), arrays

    _, carry, arrays = tf.while_loop(
        lambda k, *_: k < length,
        body,
        (1, tf.nest.map_structure(convert, carry), arrays),
        maximum_iterations=length - 1,  # without which XLA has no gradient of it
    )
    if first is None:
        return carry, None
    return carry, tf.nest.pack_sequence_as(first, [a.stack() for a in arrays])


def _scan_without_arrays(
    f: Callable, carry0: Any, take: Callable, length: Any, reverse: bool
) -> Any:  # fmt: skip
    """`scan` by operations that other programs have as well: without lists of tensors."""
    carry, first = f(carry0, take(length - 1 if reverse else 0))
    flat = [] if first is None else [convert(v) for v in tf.nest.flatten(first)]
    places = tf.range(length)

    def written(stacked: tf.Tensor, value: Any, i: Any) -> tf.Tensor:
        here = tf.reshape(tf.equal(places, i), [-1] + [1] * (stacked.shape.rank - 1))
        return tf.where(here, tf.expand_dims(convert(value), 0), stacked)

    start = length - 1 if reverse else 0
    zeros = [tf.zeros(tf.concat([[length], tf.shape(v)], 0), v.dtype) for v in flat]
    for z, v in zip(zeros, flat, strict=True):
        z.set_shape([None, *v.shape])
    stacked = [written(z, v, start) for z, v in zip(zeros, flat, strict=True)]

    def body(k: Any, carry: Any, stacked: list) -> tuple:
        i = length - 1 - k if reverse else k
        carry, y = f(carry, take(i))
        ys = [] if y is None else tf.nest.flatten(y)
        stacked = [written(s, v, i) for s, v in zip(stacked, ys, strict=True)]
        return k + 1, tf.nest.map_structure(convert, carry), stacked

    state = (tf.constant(1), tf.nest.map_structure(convert, carry), stacked)
    _, carry, stacked = tf.while_loop(lambda k, *_: k < length, body, state)
    return carry, None if first is None else tf.nest.pack_sequence_as(first, stacked)


def _unrolled(f: Callable, carry: Any, take: Callable, order: range) -> Any:
    """`scan` without a loop in the graph."""
    outputs = {}
    for i in order:
        carry, outputs[i] = f(carry, take(i))
    carry, ys = tf.nest.map_structure(convert, carry), [outputs[i] for i in sorted(outputs)]
    if ys[0] is None:
        return carry, None
    return carry, tf.nest.map_structure(lambda *column: tf.stack(column), *ys)


def vmap(fn: Callable, in_axes: Any, out_axes: Any) -> Callable:
    """Map over a batch axis."""

    def call(*args: Any) -> Any:
        axes = in_axes if isinstance(in_axes, list | tuple) else [in_axes] * len(args)
        move = lambda x, a, b: tf.experimental.numpy.moveaxis(x, a, b)  # noqa: E731
        mapped = [
            tf.nest.map_structure(lambda x, a=a: move(convert(x), a, 0), v)
            for v, a in zip(args, axes, strict=True)
            if a is not None
        ]

        def one(parts: Any) -> Any:
            parts = iter(parts)
            return fn(*(v if a is None else next(parts) for v, a in zip(args, axes, strict=True)))

        out = tf.vectorized_map(one, mapped)
        return tf.nest.map_structure(lambda x: move(x, 0, out_axes), out)

    return call
