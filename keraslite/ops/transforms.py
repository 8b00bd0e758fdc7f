"""Gradients, compilation and batching of functions: one interface over the backends' engines.

State is threaded here once for all: where an engine is functional (JAX), variables become inputs
and outputs of the transformed function; where it is not, they are read and written in place.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import tree
from keraslite.ops import core
from keraslite.ops.core import convert_to_tensor, shape, stack
from keraslite.ops.engine import as_tensors, backend_of_arguments, control_flow, engine_of
from keraslite.ops.shapes import broadcast_to, expand_dims, moveaxis, ravel, reshape
from keraslite.scopes import scopes, state_lock
from keraslite.variable import StatelessScope, Variable


def value_and_grad(
    fn: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    variables: Sequence[Variable] | None = None,
) -> Callable:
    """Make a function that returns both the value of `fn` and its gradient.

    Args:
        fn: a function with a scalar result; with `has_aux`, a pair of the scalar and anything else.
        argnums: which positional arguments to differentiate by, where `variables` is not given.
        has_aux: whether `fn` returns such a pair.
        variables: differentiate by these variables instead; None stands for the gradient of a
            variable that the result does not depend on.

    Returns:
        A function of the same arguments that returns (what `fn` returns, the gradients).

    >>> float(value_and_grad(lambda x: x * x)(3.0)[1])
    6.0
    """
    argnums = argnums if isinstance(argnums, int) else tuple(argnums)

    @wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        module = engine_of(args, kwargs, variables)
        if variables is None:
            positions = (argnums,) if isinstance(argnums, int) else argnums
            args = [as_tensors(module, a, i in positions) for i, a in enumerate(args)]
            if not module.PURE_GRADS:
                return module.value_and_grad(fn, argnums, has_aux)(*args, **kwargs)
            return _lifted(module, fn, args, kwargs, argnums, has_aux)
        if module.FUNCTIONAL:
            return _lifted_variables(module, fn, args, kwargs, has_aux, list(variables))

        def closed() -> tuple:
            out = fn(*args, **kwargs)
            return out if has_aux else (out, None)

        (value, aux), grads = module.gradients_of(closed, [v._kl_raw for v in variables])
        return ((value, aux) if has_aux else value), grads

    return call


def _threaded(fn: Callable, has_aux: bool, touched: list[Variable]) -> Callable:
    """`fn` with the assignments it makes returned as a further auxiliary output."""

    def pure(*args: Any, **kwargs: Any) -> tuple:
        with StatelessScope() as scope:
            out = fn(*args, **kwargs)
        value, aux = out if has_aux else (out, None)
        updates = scope.updates()
        touched[:] = [v for v, _ in updates]
        return value, (aux, [x for _, x in updates])

    return pure


def _finish(out: tuple, has_aux: bool, touched: list[Variable]) -> tuple:
    (value, (aux, updates)), grads = out
    for variable, new in zip(touched, updates, strict=True):
        variable.assign(new)
    return ((value, aux) if has_aux else value), grads


def _lifted(
    module: Any, fn: Callable, args: list, kwargs: dict, argnums: Any, has_aux: bool
) -> tuple:
    touched: list[Variable] = []
    pure = _threaded(fn, has_aux, touched)
    return _finish(module.value_and_grad(pure, argnums, True)(*args, **kwargs), has_aux, touched)


def _lifted_variables(
    module: Any, fn: Callable, args: Any, kwargs: dict, has_aux: bool, variables: list[Variable]
) -> tuple:
    touched: list[Variable] = []

    def closed(values: list) -> Any:
        with StatelessScope(zip(variables, values, strict=True)):
            return pure(*args, **kwargs)

    pure = _threaded(fn, has_aux, touched)
    values = [v.value for v in variables]
    return _finish(module.value_and_grad(closed, 0, True)(values), has_aux, touched)


def grad(
    fn: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    variables: Sequence[Variable] | None = None,
) -> Callable:
    """Make a function that returns the gradient of `fn`, with the arguments of `value_and_grad`.

    Returns:
        A function that returns the gradients; with `has_aux`, the gradients and the auxiliary part.

    >>> float(grad(lambda x: x * x * x)(2.0))
    12.0
    """
    both = value_and_grad(fn, argnums, has_aux, variables)

    @wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        out, grads = both(*args, **kwargs)
        return (grads, out[1]) if has_aux else grads

    return call


def jit(
    fn: Callable,
    variables: Sequence[Variable] | None = None,
    compile: bool | str = "auto",
    donate: bool = True,
) -> Callable:
    """Compile a function for the backend of its arguments.

    Args:
        fn: a function of nested tensors.
        variables: the variables that it assigns. On JAX they become inputs and outputs of the
            compiled program; one that it only reads is an input too, but if it is not listed the
            function is traced a second time.
        compile: "auto" compiles on jax and tensorflow and runs eagerly on torch and numpy, True
            compiles wherever there is a compiler (torch.compile, XLA), False never does. "xla" is
            "auto", but that XLA compiles on tensorflow too: for loops of many small steps. "record"
            leaves a function as it is, but on torch, without gradients, the operations of an early
            call are recorded and replayed: for the step of a loop, which is done often with tensors
            of the same shapes, by Python that does not depend on their values.
        donate: whether on JAX the memory of the variables is reused for their new values. Calls
            from several threads then wait for each other: functions that assign few of the
            variables, or none, do without.

    >>> float(jit(lambda x: x + 1.0)(ops.convert_to_tensor(1.0)))
    2.0
    """
    compiled: dict[str, Callable] = {}
    state = None if variables is None else list(variables)

    @wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        name = state[0].backend if state else backend_of_arguments(args, kwargs)
        if name not in compiled:
            module = backends.load(name)
            for variable in (
                state or ()
            ):  # not inside a trace, which TensorFlow would have to repeat
                variable.materialize()
            new = threaded_jit(
                module, fn, lambda: state or [], compile, discover=False,
                donate=donate and bool(state),
            )  # fmt: skip
            compiled.setdefault(name, new)  # the first of several threads'
        return compiled[name](*args, **kwargs)

    return call


class _Strangers(Exception):  # noqa: N818 - a signal to trace again, never seen outside
    def __init__(self, assigned: list[Variable], read: list[Variable]):
        self.assigned, self.read = assigned, read


class _WatchedScope(StatelessScope):
    """A scope that keeps the variables that were read and are not in it."""

    def __init__(self, state_mapping: Iterable[tuple[Variable, Any]]):
        super().__init__(state_mapping)
        self.read: dict[int, Variable] = {}

    def get(self, variable: Variable) -> Any:
        value = super().get(variable)
        if value is None:
            self.read[id(variable)] = variable
        return value


def threaded_jit(
    module: Any, fn: Callable, state: Callable[[], list[Variable]], compile: Any = "auto",
    repeat: int = 1, discover: bool = True, donate: bool = True,
) -> Callable:  # fmt: skip
    """Compile a function that reads and assigns variables.

    Args:
        module: the backend.
        fn: the function.
        state: gives the variables that it may assign; asked once, at the first call.
        compile: as for `jit`.
        repeat: how many argument sets a call may bring; they run in a row in one program.
        discover: whether variables that the function makes on its first run are taken in; else
            assigning one that was not given is an error.
        donate: whether the memory of the variables is reused.
    """
    if repeat > 1:
        fn = _in_a_row(module, fn, state)
    if not module.FUNCTIONAL or compile in (False, "record"):
        return module.jit(fn, compile=compile)
    return (_Donating if donate else _Threaded)(module, fn, state, discover)


def _in_a_row(module: Any, fn: Callable, state: Callable[[], list[Variable]]) -> Callable:
    def several(*batches: Any) -> Any:
        if len(batches) > 1 and module.FUNCTIONAL:
            return _scanned(module, fn, state(), batches)
        for batch in batches:
            out = fn(batch)
        return out

    several.__name__ = getattr(fn, "__name__", several.__name__)
    return several


def _scanned(module: Any, fn: Callable, variables: list[Variable], batches: tuple) -> Any:
    """Run over the batches in one loop of the compiled program, the variables as its carry."""

    def body(values: list, batch: Any) -> tuple:
        with StatelessScope(zip(variables, values, strict=True)) as scope:
            out = fn(batch)
        return [scope.get(v) for v in variables], out

    stacked = tree.map_structure(lambda *parts: stack(list(parts)), *batches)
    values, outs = module.scan(body, [v.value for v in variables], stacked, len(batches), False, 1)
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return tree.map_structure(lambda x: x[-1], outs)


class _Threaded:
    """A compiled function whose variables go in, and come out where it assigned them.

    A call holds the values that it began with, whatever other threads assign meanwhile.
    """

    donate: tuple[int, ...] = ()

    def __init__(self, module: Any, fn: Callable, state: Callable, discover: bool):
        self.module, self.fn, self.state, self.discover = module, fn, state, discover
        self.program: tuple[list[Variable], Callable] | None = None
        self.names: list[str] | None = None  # of a dict that it returns: JAX sorts them

    def compile(self, variables: list[Variable]) -> tuple[list[Variable], Callable]:
        """Make the program of these variables, which is traced at its first call."""
        listed = {id(v): i for i, v in enumerate(variables)}

        def pure(values: list, args: tuple, kwargs: dict) -> tuple:
            with _WatchedScope(zip(variables, values, strict=True)) as scope:
                out = self.fn(*args, **kwargs)
            self.names = list(out) if type(out) is dict else None
            assigned = scope.updates()
            strangers = {id(v): v for v, _ in assigned if id(v) not in listed}
            read = [v for i, v in scope.read.items() if i not in strangers]
            if strangers or read:  # as constants they would keep their values
                raise _Strangers(list(strangers.values()), read)
            if self.donate:
                return out, [scope.get(v) for v in variables]
            return out, {listed[id(v)]: value for v, value in assigned}

        pure.__name__ = getattr(self.fn, "__name__", pure.__name__)  # as profiles name it
        return variables, self.module.jit(pure, donate=self.donate)

    def run(self, variables: list[Variable], program: Callable, args: tuple, kwargs: dict) -> Any:
        """Run the program and assign what it returns."""
        out, assigned = program([v._kl_raw for v in variables], args, kwargs)
        for i, value in assigned.items():
            variables[i].assign(value)
        return out

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if scopes.state is not None:  # inside another one, which threads the variables
            return self.fn(*args, **kwargs)
        if self.program is None:
            with state_lock:
                self.program = self.program or self.compile(list(self.state()))
        variables, program = self.program
        try:
            out = self.run(variables, program, args, kwargs)
        except _Strangers as signal:
            if signal.assigned and not self.discover:
                raise RuntimeError(
                    "jit: variables must list every variable that the function assigns, got also "
                    f"{[v.path for v in signal.assigned]}."
                ) from None
            self.program = self.compile([*variables, *signal.assigned, *signal.read])
            return self(*args, **kwargs)
        names = self.names
        if names is not None and type(out) is dict and names != list(out):
            out = {name: out[name] for name in names if name in out}
        return out


class _Donating(_Threaded):
    """A compiled function that reuses the memory of its variables for their new values."""

    donate = (0,)

    def run(self, variables: list[Variable], program: Callable, args: tuple, kwargs: dict) -> Any:
        """Run the program on the variables' own memory, while no other thread reads them."""
        with state_lock:
            values: list[Any] = []
            try:
                for variable in variables:
                    values.append(variable.take())
                out, values = program(values, args, kwargs)
            finally:
                for variable, value in zip(variables, values, strict=False):
                    variable.put(value)
        return out


def stop_gradient(variable: Any) -> Any:
    """Treat a value as a constant in gradients.

    Args:
        variable: a tensor, a variable or a nested structure of them.
    """
    if tree.is_nested(variable):
        return tree.map_structure(stop_gradient, variable)
    return core.stop_gradient(variable)


def jvp(fun: Callable, primals: Sequence, tangents: Sequence, has_aux: bool = False) -> tuple:
    """Return the value of a function and its derivative along tangents (forward mode).

    Args:
        fun: a function of (nested) tensors; with `has_aux`, it returns a pair of its value and
            anything else.
        primals: a tuple or list of its arguments.
        tangents: the directions, of the same structure and shapes.
        has_aux: whether `fun` returns such a pair.

    Returns:
        (value, tangent of the value), and the auxiliary part with `has_aux`.

    Raises:
        ValueError: primals and tangents differ in structure or shapes.
        NotImplementedError: on numpy.

    >>> [float(x) for x in jvp(lambda x: x * x, (3.0,), (1.0,))]
    [9.0, 6.0]
    """
    module = engine_of(primals, tangents)
    primals, tangents = (as_tensors(module, tuple(x)) for x in (primals, tangents))
    tree.assert_same_structure(primals, tangents)
    sizes = [[tuple(x.shape) for x in tree.flatten(xs)] for xs in (primals, tangents)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"ops.jvp: tangents must have the shapes of the primals, {sizes[0]}, got {sizes[1]}."
        )
    touched: list[Variable] = []
    out = module.jvp(_threaded(fun, has_aux, touched), primals, tangents)
    out, tangent = _finish(out, has_aux, touched)
    return (out[0], tangent, out[1]) if has_aux else (out, tangent)


def vjp(fn: Callable, *primals: Any, has_aux: bool = False) -> tuple:
    """Return the value of a function and its vector-Jacobian product as a function (reverse mode).

    Args:
        fn: a function of (nested) tensors; with `has_aux`, it returns a pair of its value and
            anything else.
        primals: its arguments.
        has_aux: whether `fn` returns such a pair.

    Returns:
        (value, a function that takes a gradient of the value's structure and returns a tuple of
        gradients, one an argument), and the auxiliary part with `has_aux`.

    Raises:
        NotImplementedError: on numpy.

    >>> value, pull = vjp(lambda x, y: x * y, 3.0, 4.0)
    >>> float(value), [float(x) for x in pull(1.0)]
    (12.0, [4.0, 3.0])
    """
    module = engine_of(primals)
    primals = as_tensors(module, primals)
    touched: list[Variable] = []
    out = module.vjp(_threaded(fn, has_aux, touched), primals)
    out, pull = _finish(out, has_aux, touched)

    def pullback(upstream: Any) -> tuple:
        return tuple(pull(as_tensors(module, upstream)))

    return (out[0], pullback, out[1]) if has_aux else (out, pullback)


def checkpoint(fn: Callable) -> Callable:
    """Make a function that stores no activations: they are computed again for the gradient.

    The second run sees the variables and the scopes (dtypes, backend) of the first, and assigns
    nothing. On TensorFlow gradients reach tensors that `fn` closes over, but not those that it
    finds as attributes of objects. On torch, nothing is computed again inside `vmap`, nested
    `grad` by arguments and `torch.compile`, which chooses for itself.

    Args:
        fn: a function of (nested) tensors.

    >>> float(grad(checkpoint(lambda x: x**3))(2.0))
    12.0
    """

    @wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        structure = args, tuple(kwargs.values())  # Dynamo takes no dict of ours apart
        flat = tree.flatten(structure)
        owners = [backends.of(x) for x in flat]
        module = engine_of(*structure)
        if not module.TRAINS or "symbolic" in owners:
            return fn(*args, **kwargs)
        where = [i for i, owner in enumerate(owners) if owner is not None]
        tensors_in = [flat[i] for i in where]
        # `pure` must not hold on to them: TensorFlow would find them there as closed over.
        flat = [x if owner is None else None for x, owner in zip(flat, owners, strict=True)]
        form, names = tree.map_structure(lambda _: None, structure), tuple(kwargs)
        backend = scopes.backend or backends.backend()
        outer_scopes = backend, scopes.state, scopes.autocast, scopes.call
        touched: list[Variable] = []
        before: list[Any] = []
        runs: list[None] = []

        def pure(*tensors: Any) -> tuple:
            outer = scopes.backend, scopes.state, scopes.autocast, scopes.call
            scopes.backend, scopes.state, scopes.autocast, scopes.call = outer_scopes
            try:
                filled = list(flat)
                for i, x in zip(where, tensors, strict=True):
                    filled[i] = x
                args, values = tree.pack_sequence_as(form, filled)
                kwargs = dict(zip(names, values, strict=True))
                with StatelessScope(zip(touched, before, strict=True)) as scope:
                    out = fn(*args, **kwargs)
                updates = scope.updates()
                if not runs:
                    touched.extend(v for v, _ in updates)
                    before.extend(module.copy(v.uncast_value()) for v in touched)
                    runs.append(None)
            finally:
                scopes.backend, scopes.state, scopes.autocast, scopes.call = outer
            return out, [x for _, x in updates]

        out, values = module.checkpoint(pure)(*tensors_in)
        for variable, value in zip(touched, values, strict=True):
            variable.assign(value)
        return out

    return call


def custom_gradient(f: Callable) -> Callable:
    """Give a function its own gradient.

    Args:
        f: a function of tensors that returns (value, gradient function); the gradient function
            takes the upstream gradient and returns one gradient an argument.

    >>> @custom_gradient
    ... def twice(x):
    ...     return 2.0 * x, lambda upstream: upstream * 100.0
    >>> float(grad(twice)(1.0))
    100.0
    """

    @wraps(f)
    def call(*args: Any) -> Any:
        module = engine_of(args)
        return module.custom_gradient(f)(*as_tensors(module, args))

    return call


def vmap(fn: Callable, in_axes: Any = 0, out_axes: Any = 0) -> Callable:
    """Make a function that maps `fn` over a batch axis.

    Args:
        fn: a function of tensors.
        in_axes: the axis of each argument that is mapped, None for those that are not.
        out_axes: where the mapped axis stands in the result.

    >>> print(vmap(lambda x: x * 2.0)(ops.convert_to_tensor([1.0, 2.0])).tolist())
    [2.0, 4.0]
    """

    def form(*args: Any) -> Any:
        return _mapped_form(fn, in_axes, out_axes, as_tensors(engine_of(args), args))

    @control_flow(form)
    @wraps(fn)
    def call(*args: Any) -> Any:
        module = engine_of(args)
        return module.vmap(fn, in_axes, out_axes)(*as_tensors(module, args))

    return call


def _mapped_form(fn: Callable, in_axes: Any, out_axes: Any, args: tuple) -> Any:
    """The shapes and dtypes of a mapped function, by those of one of its calls."""
    axes = in_axes if isinstance(in_axes, list | tuple) else [in_axes] * len(args)
    pairs = list(zip(args, axes, strict=True))
    sizes = {x.shape[a] for v, a in pairs if a is not None for x in tree.flatten(v)}
    if len(sizes) != 1:
        raise ValueError(f"vmap needs one size along the mapped axes, got {sorted(sizes)}.")
    row = fn(*(v if a is None else tree.map_structure(lambda x, a=a: moveaxis(x, a, 0)[0], v)
               for v, a in pairs))  # fmt: skip
    size = sizes.pop()
    return tree.map_structure(
        lambda x: moveaxis(broadcast_to(expand_dims(x, 0), (size, *shape(x))), 0, out_axes), row
    )


def vectorize(pyfunc: Callable, *, excluded: Any = None, signature: Any = None) -> Any:
    """Make a function of scalars a function of tensors.

    >>> convert_to_numpy(vectorize(lambda a, b: a + b)(array([1, 2]), array([3, 4]))).tolist()
    [4, 6]
    """
    if excluded or signature:
        raise NotImplementedError("ops.vectorize: excluded and signature are not supported.")

    def call(*args: Any) -> Any:
        args = [convert_to_tensor(x) for x in args]
        full_shape = np.broadcast_shapes(*(shape(x) for x in args))
        flat = [ravel(broadcast_to(x, full_shape)) for x in args]
        return reshape(vmap(pyfunc)(*flat), full_shape) if full_shape else pyfunc(*args)

    return call


__all__ = [
    "checkpoint", "custom_gradient", "grad", "jit", "jvp", "stop_gradient", "value_and_grad",
    "vectorize", "vjp", "vmap",
]  # fmt: skip
