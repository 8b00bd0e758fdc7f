"""The loop over the batches of an epoch, and what is made ready before it."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import islice
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import config, tree
from keraslite.layers.base.layer import Layer
from keraslite.layers.base.tracking import held_structure
from keraslite.scopes import predictor_of, scopes
from keraslite.training.data import batches
from keraslite.training.steps import batch_symbol, grouped, on_backend
from keraslite.utils.data import pack_x_y_sample_weight


def check_counts(least: int = 1, **counts: Any) -> None:
    """Raise ValueError for numbers of epochs, batches or steps that are none.

    Args:
        least: the least number.
        counts: ints by the name of the argument; None stands for a default.
    """
    for name, value in counts.items():
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if value is not None and (not whole or value < least):
            raise ValueError(f"{name} must be an int of at least {least}, got {value!r}.")


def limited(count: int | None, limit: int | None, what: str) -> int | None:
    """Return a number of epochs or steps within the limit of `keraslite.config`, with a warning.

    Args:
        count: the number; None where it is unknown.
        limit: the limit; None for none.
        what: what is counted.
    """
    if limit is None or (count is not None and count <= limit):
        return count
    warnings.warn(f"Limiting {what} to {limit}", stacklevel=3)
    return limit


def steps_of(data: Any, steps: int | None) -> int | None:
    """Return the number of batches of an epoch; None where nobody knows.

    Args:
        data: the data source.
        steps: how many were asked for.
    """
    steps = data.num_batches if steps is None else steps
    return limited(steps, config.max_steps_per_epoch(), "steps_per_epoch")


def prepare(model: Any, batch: tuple, objectives: bool = True) -> None:
    """Make the variables, the metrics and the optimizer's slots for batches like this one.

    Args:
        model: the model.
        batch: (x, y, sample_weight).
        objectives: whether losses and metrics are needed.
    """
    x, y, _ = batch
    own = model.__dict__.get("_kl_objectives") if objectives and model.compiled else None
    judges = own is not None and own.has_loss and not own.built and y is not None
    with backends.backend_scope(model.backend), held_structure(model) as seen:
        # A model whose train_step calls its parts, and not itself, has no `call`.
        if type(model).call is not Layer.call and (judges or not _all_built(model)):
            symbols = tree.map_structure(batch_symbol, on_backend(x, model.backend))
            y_pred = model(symbols)
            if judges:
                names = getattr(model, "output_names", None)
                own.build(tree.map_structure(batch_symbol, y), y_pred, names)
                own.limit_labels(y, y_pred)
            seen.clear()
        if objectives and model.optimizer is not None and not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)


def step_function(model: Any, mode: str, batch: tuple) -> Callable:
    """Prepare a model for batches like this one, and return its compiled step.

    Args:
        model: the model.
        mode: "train", "test" or "predict".
        batch: (x, y, sample_weight).
    """
    if mode == "predict" and predictor_of(model) is not None:  # it is built already
        return model.make_predict_function()
    with held_structure(model):
        prepare(model, batch, mode != "predict")
        return getattr(model, f"make_{mode}_function")()


def _all_built(model: Any) -> bool:
    # A layer without a `build` of its own has nothing to make but what is inside it.
    layers = model.flatten_layers()
    return all(layer.built or type(layer).build is Layer.build for layer in layers)


def run_step(model: Any, mode: str, batch: tuple) -> Any:
    """Run a step on a batch alone, and return what it returns.

    Args:
        model: the model.
        mode: "train", "test" or "predict".
        batch: (x, y, sample_weight).
    """
    with backends.backend_scope(model.backend):
        function = step_function(model, mode, batch)
        model.check_batch(batch)
        # A first call may make layers and variables.
        ran = model.__dict__.get("_kl_ran") is function
        with held_structure(model) if ran else nullcontext():
            if mode != "predict":
                model.reset_metrics()
            out = function(on_backend(pack_x_y_sample_weight(*batch), model.backend))
        model.__dict__["_kl_ran"] = function
        return out


def run_epoch(
    model: Any, mode: str, data: Any, epoch: int, steps: int | None, container: Any, skip: int = 0
) -> Iterator[tuple[int, Any]]:
    """Run a step over the batches of an epoch, telling the callbacks.

    Args:
        model: the model.
        mode: "train", "test" or "predict".
        data: the data source.
        epoch: the number of the epoch.
        steps: the number of batches; as many as there are for None.
        container: the callbacks.
        skip: how many batches were already seen, in a training that is resumed.

    Yields:
        (the number of the batch, what the step returned).
    """
    begin = getattr(container, f"on_{mode}_batch_begin")
    end = getattr(container, f"on_{mode}_batch_end")
    group = getattr(model, "steps_per_execution", 1) if mode != "predict" else 1
    function, step = None, skip
    outer, scopes.backend = scopes.backend, model.backend
    remembers = "_kl_memory" in model.__dict__
    try:
        for parts in grouped(islice(batches(data, epoch, steps), skip, None), group):
            if function is None:
                function = step_function(model, mode, parts[0])
            for batch in parts:
                model.check_batch(batch)
            begin(step)
            tensors = [on_backend(pack_x_y_sample_weight(*b), model.backend) for b in parts]
            out = function(*tensors)
            if remembers is False:  # from here on the structure stands still
                model.__dict__["_kl_memory"], remembers = {}, None
            step += len(parts)
            end(step - 1, out)
            yield step - 1, out
    finally:
        scopes.backend = outer
        if remembers is None:
            model.__dict__.pop("_kl_memory", None)
    if function is not None and steps is not None and step < steps:
        warnings.warn(
            f"Your input ran out of data: the epoch ended after {step} of {steps} batches. Give "
            "fewer steps, or data that yields more batches.",
            stacklevel=2,
        )


def refuse_empty(logs: Any) -> None:
    """Raise ValueError where data gave no batch.

    Args:
        logs: what the last step returned; None where there was none.
    """
    if logs is None:
        raise ValueError("The data is empty: it must yield at least one batch.")
