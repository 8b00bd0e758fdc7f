"""Compiled predictors of tasks that run their network in parts, such as two towers."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from keraslite.export.compiled import CompiledPredictor, check_engine
from keraslite.scopes import scopes


class CompiledParts:
    """The parts of a task on another engine, each compiled when it is first run.

    Args:
        model: the task, whose `export_parts` they are.
        engine: as for `Model.compiled_for`.
        precision: as for `Model.compiled_for`.
        together: a function of this and of ready inputs that gives the outputs of the task; None
            where its `predict` runs the parts by itself.
        others: further arguments of `Model.compiled_for`, each None: parts take no others.

    Raises:
        ValueError: another argument is not None, or as for `Model.compiled_for`.

    Attributes:
        model: as given.
        engine: as given.
        precision: as given.
    """

    def __init__(
        self, model: Any, engine: str, precision: str = "float32",
        together: Callable[["CompiledParts", Any], Any] | None = None, **others: Any,
    ):  # fmt: skip
        check_engine(engine, precision)
        self._parts = model.export_parts()
        given = sorted(name for name, value in others.items() if value is not None)
        if given:
            raise ValueError(
                f"compiled_for of {' and '.join(self._parts)}, two networks, takes no {given}."
            )
        self.model, self.engine, self.precision = model, engine, precision
        self._together = together
        self._compiled: dict[str, CompiledPredictor] = {}
        self._lock = threading.Lock()

    @property
    def builds(self) -> int:
        """How often a network was made."""
        return sum(part.builds for part in self._compiled.values())

    def run(self, name: str, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
        """Return the outputs of a part, by name.

        Args:
            name: of the part.
            inputs: by name.
        """
        with self._lock:
            if name not in self._compiled:
                self._compiled[name] = CompiledPredictor(
                    self._parts[name], self.engine, self.precision
                )
        part = self._compiled[name]
        part.refresh()
        return part(inputs)

    def step(self, data: Any) -> Any:
        """Return the outputs for a batch of ready inputs.

        Args:
            data: (inputs,) or inputs.
        """
        if self._together is None:
            raise NotImplementedError(
                f"{type(self.model).__name__} runs its parts {sorted(self._parts)} one by one on "
                f"{self.engine}: give it what its own predict takes."
            )
        return self._together(self, data[0] if isinstance(data, tuple) else data)

    @contextmanager
    def scope(self) -> Iterator["CompiledParts"]:
        """Have the methods of the task run these parts in a block, in this thread."""
        outer, scopes.predictor = scopes.predictor, self
        try:
            yield self
        finally:
            scopes.predictor = outer

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the task's `predict` does, whose arguments it takes."""
        with self.scope():
            return self.model.predict(*args, **kwargs)
