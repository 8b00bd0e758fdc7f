"""ENGINE: variables, gradients, compilation and control flow on PyTorch."""

import logging
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import count
from typing import Any

import torch
import torch.utils.checkpoint
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch._subclasses.fake_tensor import FakeTensorMode

from keraslite.backend.torch.fast.optimizers import FUSED
from keraslite.backend.torch.fast.recording import recorded
from keraslite.backend.torch.module import TorchLayer
from keraslite.backend.torch.tensors import convert, default_device, native
from keraslite.backend.torch.tracing import in_transform, levels
from keraslite.scopes import scopes

__all__ = [
    "ABSTRACT", "COMPILES", "COMPILES_OPS", "COMPILES_PYTHON", "FUNCTIONAL", "FUSED", "LAYER_BASE",
    "LOOPS_IN_PYTHON", "OPTIMIZER_BASE", "PURE_GRADS", "TRAINS", "abstract", "assign", "assign_add",
    "check_training", "checkpoint", "cond", "custom_gradient", "dense_gradient", "duplicate",
    "gradients_of", "jit", "jvp",
    "new_variable", "no_grad", "profile", "read", "scan", "set_seed", "set_trainable",
    "value_and_grad", "vjp", "vmap", "watch", "while_loop", "zeros",
]  # fmt: skip

LAYER_BASE = TorchLayer
OPTIMIZER_BASE = None
ABSTRACT = True
COMPILES = False  # unless it is asked to
COMPILES_OPS = False
COMPILES_PYTHON = True  # by torch.compile
FUNCTIONAL = False  # variables are live: a step reads and writes them in place
PURE_GRADS = True  # torch.func refuses assignments from inside
LOOPS_IN_PYTHON = True  # a loop of known length is a `for`, never traced as one
TRAINS = True
no_grad = torch.no_grad


def new_variable(value: torch.Tensor, trainable: bool, name: str) -> torch.nn.Parameter:
    """Storage for a variable."""
    trained = trainable and (value.dtype.is_floating_point or value.dtype.is_complex)
    if not (in_transform() or value.is_inference() or torch.is_inference_mode_enabled()):
        return torch.nn.Parameter(value, requires_grad=trained)
    # Made inside torch.func.grad it would be of that transform, and die with it.
    outside = temporarily_clear_interpreter_stack if in_transform() else nullcontext
    # One made inside the caller's torch.inference_mode could not be trained later.
    with outside(), torch.inference_mode(False):
        value = value.clone() if value.is_inference() else value
        return torch.nn.Parameter(value.detach(), requires_grad=trained)


def read(raw: torch.nn.Parameter) -> torch.Tensor:
    """The value of a variable."""
    return raw


def assign(raw: torch.nn.Parameter, value: torch.Tensor) -> torch.nn.Parameter:
    """Write a variable in place."""
    with torch.no_grad():
        raw.copy_(value)
    return raw


def assign_add(raw: torch.nn.Parameter, value: torch.Tensor) -> torch.nn.Parameter:
    """Add to a variable in place."""
    with torch.no_grad():
        raw.add_(value)
    return raw


def set_trainable(raw: Any, trainable: bool) -> None:
    """Have gradients recorded for a variable or not."""
    raw.requires_grad_(trainable and (raw.is_floating_point() or raw.is_complex()))


def zeros(shape: tuple, dtype: str) -> torch.Tensor:
    """Zeros; on the abstract device inside `abstract`."""
    return torch.zeros(shape, dtype=native(dtype), device=default_device())


def duplicate(raw: torch.Tensor) -> torch.Tensor:
    """The same values in memory of their own."""
    return raw.detach().clone()


def watch(raw: torch.nn.Parameter) -> Callable[[Any], bool]:
    """Whether a storage is this one, into which nothing was written since."""
    this, version, at = weakref.ref(raw), raw._version, raw.data_ptr()
    return lambda now: this() is now and now._version == version and now.data_ptr() == at


def dense_gradient(gradient: Any) -> Any:
    """A gradient as a dense tensor: that of an embedding may be sparse."""
    return gradient.to_dense() if getattr(gradient, "is_sparse", False) else gradient


def set_seed(seed: int) -> None:
    """Seed torch's own generators, for code that uses them."""
    torch.manual_seed(seed)


@contextmanager
def profile(folder: str) -> Iterator[None]:
    """Record operations as a trace of Chrome, named as torch's plugin of TensorBoard expects it."""
    write = torch.profiler.tensorboard_trace_handler(folder)
    with torch.profiler.profile(on_trace_ready=write):
        yield


def check_training(weights: list) -> None:
    """Warn where several processes would each train a model of their own."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        count = distributed.get_world_size()
        if count > 1:
            warnings.warn(
                f"fit does not average over the {count} processes of torch.distributed: each "
                "trains a model of its own. Wrap the model in DistributedDataParallel, and train "
                "it by a loop of torch.",
                stacklevel=2,
            )


class _Expected(logging.Filter):
    """Keep what fails in `abstract` out of the log: it is raised as well, or expected."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (scopes.abstract and "failed while attempting to run" in record.msg)


logging.getLogger("torch._subclasses.fake_tensor").addFilter(_Expected())


def abstract(fn: Callable, specs: list[tuple[tuple, str]]) -> Any:
    """Run `fn` on tensors without data."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        device = default_device()
        return fn(*(torch.empty(s, dtype=native(dtype), device=device) for s, dtype in specs))


def jit(fn: Callable, donate: tuple[int, ...] = (), compile: Any = "auto") -> Callable:
    """Compile where asked for: eager torch is the default, since compiling takes long here."""
    if compile == "record":
        return recorded(fn)
    return torch.compile(fn) if compile is True else fn


def value_and_grad(fn: Callable, argnums: Any, has_aux: bool) -> Callable:
    """Differentiate with respect to arguments."""
    if not has_aux:
        return _value_first(torch.func.grad_and_value(fn, argnums=argnums))

    def call(*args: Any, **kwargs: Any) -> Any:
        pure, whole = _apart(fn)
        transformed = torch.func.grad_and_value(pure, argnums=argnums, has_aux=True)
        grads, (value, tensors) = transformed(*args, **kwargs)
        return (value, whole(tensors)), grads

    return call


def _apart(fn: Callable) -> tuple[Callable, Callable]:
    """`fn` with the tensors alone of its auxiliary part, all that torch.func takes; and a function
    that makes the whole part of them again.
    """
    tree = torch.utils._pytree
    aside: list[Any] = []  # what is no tensor, and the structure

    def pure(*args: Any, **kwargs: Any) -> tuple:
        value, aux = fn(*args, **kwargs)
        leaves, spec = tree.tree_flatten(aux)
        tensors = [x for x in leaves if isinstance(x, torch.Tensor)]
        aside[:] = [[None if isinstance(x, torch.Tensor) else (x,) for x in leaves], spec]
        return value, tensors

    def whole(tensors: list) -> Any:
        (others, spec), remaining = aside, iter(tensors)
        leaves = [next(remaining) if x is None else x[0] for x in others]
        return tree.tree_unflatten(leaves, spec)

    return pure, whole


def jvp(fn: Callable, primals: tuple, tangents: tuple) -> tuple:
    """((value, auxiliary part), tangent) of a function that gives such a pair."""
    if "torch._decomp.decompositions_for_jvp" not in sys.modules:
        with warnings.catch_warnings():  # about what torch itself does at the first call
            warnings.simplefilter("ignore", DeprecationWarning)
            from torch._decomp import decompositions_for_jvp  # noqa: F401
    pure, whole = _apart(fn)
    value, tangent, tensors = torch.func.jvp(pure, primals, tangents, has_aux=True)
    return (value, whole(tensors)), tangent


def vjp(fn: Callable, primals: tuple) -> tuple:
    """((value, auxiliary part), pullback) of a function that gives such a pair."""
    pure, whole = _apart(fn)
    value, pullback, tensors = torch.func.vjp(pure, *primals, has_aux=True)
    return (value, whole(tensors)), pullback


def _value_first(transformed: Callable) -> Callable:
    def call(*args: Any, **kwargs: Any) -> Any:
        grads, value = transformed(*args, **kwargs)
        return value, grads

    return call


def gradients_of(fn: Callable, raws: list) -> tuple[Any, list]:
    """Run fn() -> (scalar, aux) and differentiate the scalar with respect to live variables."""
    with torch.enable_grad():
        value, aux = fn()
    tracked = [r for r in raws if r.requires_grad]
    if not value.requires_grad:
        return (value, aux), [None] * len(raws)
    grads = dict(
        zip(map(id, tracked), torch.autograd.grad(value, tracked, allow_unused=True), strict=True)
    )
    # What comes out is data: a graph kept alive through it would hold the step's memory.
    return (value.detach(), _detached(aux)), [grads.get(id(r)) for r in raws]


def checkpoint(fn: Callable) -> Callable:
    """Compute `fn` again for its gradient, instead of keeping what it needs."""

    def call(*args: Any) -> Any:
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return fn(*args)
        transforms = levels()
        if not transforms:
            return torch.utils.checkpoint.checkpoint(fn, *args, use_reentrant=False)
        if transforms == ["Grad"]:
            return _recomputed(fn, args)
        return fn(*args)  # tensors do not outlive their transform

    return call


def _recomputed(fn: Callable, args: tuple) -> Any:
    """`checkpoint` inside torch.func.grad, where torch's own is refused."""
    numbers, kept = count(), {}

    def again(number: int) -> torch.Tensor:
        if number not in kept:
            order = count()
            keep = lambda x: kept.__setitem__(next(order), x.detach())  # noqa: E731
            with _hooks(keep, lambda x: x), torch.enable_grad():
                fn(*args)
        return kept.pop(number)

    with _hooks(lambda x: next(numbers), again):
        return fn(*args)


@contextmanager
def _hooks(pack: Callable, unpack: Callable) -> Iterator[None]:
    """Hooks on what is saved for gradients, which torch.func forbids as it cannot know these."""
    forbidden = torch._C._autograd._saved_tensors_hooks_get_disabled_error_message()
    torch._C._autograd._saved_tensors_hooks_enable()
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            yield
    finally:
        if forbidden is not None:
            torch._C._autograd._saved_tensors_hooks_disable(forbidden)


class _Held:
    """Something to carry a gradient function in; no structure that torch would take apart."""

    gradient: Any = None


class _CustomGradient(torch.autograd.Function):
    """A function that brings its own gradient; `held` carries that from forward to backward."""

    @staticmethod
    def forward(fn: Callable, held: _Held, *args: Any) -> Any:
        with torch.enable_grad():  # the gradient may itself be differentiated
            out, held.gradient = fn(*args)
        return _detached(out)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        ctx.gradient, ctx.count = inputs[1].gradient, len(inputs) - 2

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> Any:
        grads = ctx.gradient(*upstream)
        grads = tuple(grads) if isinstance(grads, list | tuple) else (grads,)
        return (None, None, *grads, *([None] * (ctx.count - len(grads))))


def _detached(structure: Any) -> Any:
    return torch.utils._pytree.tree_map(
        lambda x: x.detach() if isinstance(x, torch.Tensor) else x, structure
    )


def custom_gradient(fn: Callable) -> Callable:
    """Give a function its own gradient: `fn(*args)` returns the value and a gradient function."""
    return lambda *args: _CustomGradient.apply(fn, _Held(), *args)


def cond(pred: Any, true_fn: Callable, false_fn: Callable) -> Any:
    """Run one of two branches."""
    if torch.compiler.is_compiling() and isinstance(pred, torch.Tensor):
        return torch.cond(pred, true_fn, false_fn)
    return true_fn() if bool(pred) else false_fn()


def while_loop(test: Callable, body: Callable, state: tuple, maximum_iterations: int | None) -> Any:
    """Repeat `body` while `test` holds."""
    count = 0
    while bool(test(*state)) and (maximum_iterations is None or count < maximum_iterations):
        state = body(*state)
        state = tuple(state) if isinstance(state, list | tuple) else (state,)
        count += 1
    return state


def scan(f: Callable, init: Any, xs: Any, length: int, reverse: bool, unroll: Any) -> Any:
    """Thread a carry along the leading axis and stack what each step gives."""
    tree = torch.utils._pytree
    if torch.compiler.is_exporting() and type(length) is not int and xs is not None:
        return _scan_in_graph(f, init, xs, reverse)
    carry, ys = init, []
    for i in range(length - 1, -1, -1) if reverse else range(length):
        step = None if xs is None else tree.tree_map(lambda x, i=i: x[i], xs)
        carry, y = f(carry, step)
        ys.append(y)
    if reverse:
        ys.reverse()
    if not ys or ys[0] is None:
        return carry, None
    leaves, spec = zip(*(tree.tree_flatten(y) for y in ys), strict=True)
    stacked = [torch.stack([convert(v) for v in column]) for column in zip(*leaves, strict=True)]
    return carry, tree.tree_unflatten(stacked, spec[0])


def _scan_in_graph(f: Callable, init: Any, xs: Any, reverse: bool) -> Any:
    """Scan over any number of steps in a program that is exported."""
    tree = torch.utils._pytree
    leaves, spec = tree.tree_flatten(init)
    _, y = f(init, tree.tree_map(lambda x: x[0], xs))  # for its form; nothing else is kept
    form = None if y is None else tree.tree_flatten(y)[1]
    dtypes = [x.dtype for x in leaves]

    def step(carry: list, x: Any) -> tuple[list, list]:
        carry, y = f(tree.tree_unflatten(carry, spec), x)
        after = [v.to(d).clone() for v, d in zip(tree.tree_leaves(carry), dtypes, strict=True)]
        # The graph's own function must not return one tensor twice.
        return after, [v.clone() for v in (after[:1] if y is None else tree.tree_leaves(y))]

    carry, stacked = torch._higher_order_ops.scan(
        step, [x.clone() for x in leaves], xs, dim=0, reverse=reverse
    )
    ys = None if form is None else tree.tree_unflatten(list(stacked), form)
    return tree.tree_unflatten(list(carry), spec), ys


def vmap(fn: Callable, in_axes: Any, out_axes: Any) -> Callable:
    """Map over a batch axis."""
    return torch.func.vmap(fn, in_dims=in_axes, out_dims=out_axes)
