"""List the names of Keras's namespaces that keraslite lacks, and the signatures that differ.

    python scripts/api_coverage.py                       # all namespaces, and their total
    python scripts/api_coverage.py keras.ops keras.random

Parameters must agree in name, order and default; ours may have more after Keras's. Exits with 1
where anything is missing or differs without a reason, and with 2 where Keras has no such namespace.
"""

import importlib
import inspect
import os
import sys
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

NAMESPACES = (
    "activations", "backend", "callbacks", "config", "constraints", "datasets", "dtype_policies",
    "initializers", "layers", "losses", "metrics", "mixed_precision", "models", "ops",
    "optimizers", "preprocessing", "quantizers", "random", "regularizers", "saving", "tree",
    "utils", "visualization", "wrappers",
)  # fmt: skip

# Name -> why its signature is not Keras's.
_SAVED = "names the arguments that Keras takes as **kwargs, and refuses others"
_MODULES = (
    "keras.utils.legacy.deserialize_keras_object has module_objects, Keras's only further one"
)
REASONS = {
    "keras.models.save_model": _SAVED,
    "keras.saving.deserialize_keras_object": _MODULES,
    "keras.saving.load_weights": _SAVED,
    "keras.saving.save_model": _SAVED,
    "keras.saving.save_weights": _SAVED,
    "keras.utils.deserialize_keras_object": _MODULES,
}


def public(module: Any) -> dict[str, Any]:
    """The public functions and classes of a module, and those of its public submodules."""
    names = {}
    for name in sorted(dir(module)):
        value = getattr(module, name)
        if name.startswith("_") or name == "src":  # Keras's own files
            continue
        if inspect.ismodule(value):
            inner = f"{module.__name__}.{name}"
            if value.__name__ == inner:
                names |= {f"{name}.{k}": v for k, v in public(value).items()}
        elif callable(value):
            names[name] = value
    return names


def imported(name: str) -> Any:
    """The module of a name; None if there is none, though an error inside it is raised."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        return None


def parameters(f: Any) -> list[tuple]:
    """(name, kind, default) of each parameter."""
    return [(p.name, p.kind, p.default) for p in inspect.signature(f).parameters.values()]


def takes_anything(listed: list[tuple]) -> bool:
    """Whether parameters are (*args, **kwargs)."""
    kinds = [kind for _, kind, _ in listed]
    return kinds == [inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD]


def same_default(ours: Any, theirs: Any) -> bool:
    """Whether two defaults mean the same; a function is known by its name."""
    if callable(ours) and callable(theirs):
        return ours is theirs or ours.__name__ == theirs.__name__
    return type(ours) is type(theirs) and ours == theirs


def differences(ours: Any, theirs: Any) -> list[str]:
    """The differences of the parameters of two functions, in words."""
    left, right = parameters(ours), parameters(theirs)
    if isinstance(theirs, type) and takes_anything(right) and not takes_anything(left):
        # What is seen is the `__new__` of Sequential, the `__init__` of TensorFlow's optimizer.
        inits = [parameters(c.__init__)[1:] for c in theirs.__mro__ if "__init__" in vars(c)]
        right = next((listed for listed in inits if not takes_anything(listed)), right)
    lines = []
    for i, (name, kind, default) in enumerate(right):
        if i >= len(left) or left[i][0] != name:
            has = left[i][0] if i < len(left) else "nothing"
            lines.append(f"parameter {i} is {has!r}, Keras has {name!r}")
            break
        if left[i][1] != kind:
            lines.append(f"{name!r} is {left[i][1].description}, Keras's is {kind.description}")
        if not same_default(left[i][2], default):
            lines.append(f"{name!r} defaults to {left[i][2]!r}, Keras has {default!r}")
    for name, kind, default in left[len(right) :]:
        variadic = kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        if default is inspect.Parameter.empty and not variadic:
            lines.append(f"{name!r} is required, Keras does not have it")
    return lines


def compare(namespace: str) -> tuple[int, list[str], dict[str, str]]:
    """The number of names of Keras in a namespace, those missing, the signatures that differ.

    The last by name, and how they differ.
    """
    theirs = public(imported(namespace))
    module = imported(f"keraslite{namespace.removeprefix('keras')}")
    ours = {} if module is None else public(module)
    missing = [f"{namespace}.{name}" for name in theirs if name not in ours]
    differing = {
        f"{namespace}.{name}": "; ".join(lines)
        for name in theirs
        if name in ours and (lines := differences(ours[name], theirs[name]))
    }
    return len(theirs), missing, differing


def main(namespaces: list[str]) -> int:
    """Print a report of each namespace, of all without names; 1 if anything is missing or differs.

    A signature that differs for one of the reasons is printed and not counted.
    """
    namespaces = namespaces or [f"keras.{name}" for name in NAMESPACES]
    names = lacking = bad = 0
    for namespace in namespaces:
        if namespace.partition(".")[0] != "keras" or imported(namespace) is None:
            print(f"Keras has no namespace {namespace!r}: give one such as keras.layers.")
            return 2
    for namespace in namespaces:
        count, missing, differing = compare(namespace)
        unexplained = differing.keys() - REASONS.keys()
        print(f"{namespace}: {count} names, {len(missing)} missing, {len(unexplained)} differ")
        for line in missing:
            print(f"  missing  {line}")
        for name, how in differing.items():
            word, why = ("reason ", REASONS[name]) if name in REASONS else ("differs", how)
            print(f"  {word}  {name}: {why}")
        names, lacking = names + count, lacking + len(missing)
        bad += len(missing) + len(unexplained)
    if len(namespaces) > 1:
        print(f"In all: {names} names, {lacking} missing, {1 - lacking / names:.1%} are there")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
