"""The state of the call that runs in this thread: its backend, scopes and dtypes.

Thread-local attributes, set and restored by whoever opens a scope: torch's Dynamo traces them,
context variables it does not. Scopes that may span an `await` (use_backend) use context variables.
"""

import threading
from typing import Any


class _Scopes(threading.local):
    backend: str | None = None  # the backend of the layer being called
    device: str | None = None  # where new tensors go, such as "gpu:0", if somebody says so
    state: Any = None  # the innermost StatelessScope
    dtype_policy: Any = None  # the policy of layers that are given none, if somebody says so
    autocast: str | None = None  # the dtype that float variables read as
    path: str = ""  # the names of the layers and name scopes around, each followed by a slash
    call: Any = None  # what the outermost call hands to the layers inside it
    abstract: bool = False  # whether tensors have no values: shapes alone are asked for
    value_of: Any = None  # gives the value of a symbolic tensor, in functions that use one
    predictor: Any = None  # what runs the `predict` of its model, if a block has one
    predicting: bool = False  # whether a step of `predict` runs, which nothing is to observe
    seeds: Any = None  # a random.Random that default seeds come from, if somebody says so
    losses: bool = False  # whether layers added losses in this thread's calls
    tables: Any = None  # the vocabularies of the graph that is traced to be saved, if one is
    plain_graph: bool = False  # whether the graph that is traced is for another program

    def __init__(self) -> None:
        self.thread = threading.get_ident()  # run once in each thread


scopes = _Scopes()


def predictor_of(model: Any) -> Any:
    """Return the compiled predictor in whose scope a model is; None outside of any.

    Args:
        model: the model.
    """
    predictor = scopes.predictor
    return predictor if predictor is not None and predictor.model is model else None


# Held while state that threads share comes to be: variables, the weights of layers, steps that take
# the memory of variables over. What exists is read without it.
state_lock = threading.RLock()
