"""BackupAndRestore: resume an interrupted training where it stopped."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from keraslite import backend as backends
from keraslite import random
from keraslite.callbacks.base import Callback, number
from keraslite.callbacks.monitor import StepCounter
from keraslite.saving.model_file import training_state
from keraslite.saving.safetensors import open_safetensors, save_safetensors
from keraslite.saving.weight_files import WEIGHTS_METADATA, assign_strictly


class BackupAndRestore(Callback):
    """Saves the state of training, and resumes from it when `fit` is called again.

    The weights, the optimizer's slots and iterations, the random states, the metrics, the order
    of the data, the epoch and the step come back as they were, and so does the state of the other
    callbacks (`Callback.get_state`: the best value so far, the patience that is left), so that a
    training that was interrupted gives the same losses as one that was not. Data from a generator
    is read past the steps that were already made. Ctrl-C saves the step at which it stopped.

    Args:
        backup_dir: a folder of its own for this training.
        save_freq: "epoch", or a number of batches; False saves on Ctrl-C alone.
        double_checkpoint: whether the state before the last is kept too, and used where the last
            cannot be read.
        delete_checkpoint: whether the folder is deleted when `fit` has come to its end.

    >>> BackupAndRestore("backup").save_freq
    'epoch'
    """

    runs_last = True  # what the others did in an epoch belongs to its backup

    def __init__(
        self,
        backup_dir: Any,
        save_freq: str | int | bool = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ):
        super().__init__()
        if not backup_dir:
            raise ValueError("BackupAndRestore needs a backup_dir.")
        if save_freq != "epoch" and not isinstance(save_freq, int):
            raise ValueError(f"save_freq is 'epoch', a number of batches or False: {save_freq!r}.")
        self.backup_dir, self.save_freq = os.fspath(backup_dir), save_freq
        self.double_checkpoint, self.delete_checkpoint = double_checkpoint, delete_checkpoint
        self._latest = Path(self.backup_dir) / "latest.safetensors"
        self._previous = Path(self.backup_dir) / "previous.safetensors"
        self._steps = StepCounter(save_freq)
        self._epoch = self._step = 0
        self._metrics: Any = None  # of the epoch under way, put back when it has begun
        self._others: dict[str, Any] = {}  # the states of other callbacks, put back likewise

    def on_train_begin(self, logs: Any = None) -> None:
        """Load the saved state, if there is one."""
        self._epoch, self._step = self._place["epoch"], 0
        # The latest is missing where the process ended between two renames, or was never there.
        paths = [path for path in (self._latest, self._previous) if path.exists()]
        for i, path in enumerate(paths):
            try:
                self._restore(path)
                return
            except ValueError:
                if i == len(paths) - 1:
                    raise

    @property
    def _place(self) -> dict[str, Any]:
        """Where `fit` begins: the epoch, the step, the data."""
        return self.model.__dict__["_kl_place"]

    def _named_callbacks(self) -> list[tuple[str, Any]]:
        """Return the other callbacks that have a state, by class name and number."""
        counts: dict[str, int] = {}
        named = []
        for callback in self._place["callbacks"].callbacks:
            if callback is not self and hasattr(callback, "get_state"):
                name = type(callback).__name__
                counts[name] = counts.get(name, 0) + 1
                named.append((f"{name}/{counts[name] - 1}", callback))
        return named

    def _restore(self, path: Path) -> None:
        file = open_safetensors(path)
        version = int(file.metadata.get("version", 1))
        place, state = self._place, training_state(self.model, version)
        saved = {name: int(file.metadata[name]) for name in ("epoch", "step", "seed", "shared")}
        if saved["shared"]:
            with backends.backend_scope(self.model.backend):
                state["shared"] = random.global_seed_generator().state
        metrics = {k: v for k, v in state.items() if k.startswith("metrics/")}
        assign_strictly(
            {k: v for k, v in state.items() if k not in metrics},
            file, [n for n in file if not n.startswith(("metrics/", "callbacks/"))], path,
        )  # fmt: skip
        place["epoch"], place["step"] = self._epoch, self._step = saved["epoch"], saved["step"]
        if getattr(place["data"], "seed", None) is not None:
            place["data"].seed = saved["seed"]
        self._others = _unpacked(json.loads(file.metadata.get("callbacks", "{}")), file)
        if self._step:
            self._metrics = {k: (v, file[k].copy()) for k, v in metrics.items() if k in file}

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Load the metrics of an interrupted epoch, after `fit` has reset them."""
        if self._metrics is not None:
            for variable, value in self._metrics.values():
                variable.assign(value)
            self._metrics = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note the epoch, and at the first give the other callbacks their states back."""
        states, self._others = self._others, {}
        for name, callback in self._named_callbacks():
            if name in states:
                callback.set_state(states[name])
        if epoch != self._epoch:
            self._epoch, self._step = epoch, 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Note the step, and save after so many."""
        self._step = batch + 1
        if self._step == (self.params or {}).get("steps"):
            self._epoch, self._step = self._epoch + 1, 0
        if self._steps.reached(batch):
            self._save()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Save after an epoch."""
        self._epoch, self._step = epoch + 1, 0
        if self.save_freq == "epoch":
            self._save()

    def on_train_interrupt(self, logs: Any = None) -> None:
        """Save the step at which training stopped."""
        self._save()

    def on_train_end(self, logs: Any = None) -> None:
        """Delete the folder."""
        if self.delete_checkpoint:
            # The older first: what is left when the process ends here is the end of training.
            for path in (self._previous, self._latest):
                path.unlink(missing_ok=True)
            shutil.rmtree(self.backup_dir, ignore_errors=True)

    def _save(self) -> None:
        os.makedirs(self.backup_dir, exist_ok=True)
        if self.double_checkpoint and self._latest.exists():
            os.replace(self._latest, self._previous)
        state = training_state(self.model)
        shared = random.GLOBAL_GENERATORS.get(self.model.backend)
        if shared is not None:
            state["shared"] = shared.state
        saved = {"epoch": self._epoch, "step": self._step, "shared": int(shared is not None),
                 "seed": getattr(self._place["data"], "seed", None) or 0}  # fmt: skip
        metadata = {k: str(v) for k, v in saved.items()} | WEIGHTS_METADATA
        states = {name: c.get_state() for name, c in self._named_callbacks()}
        arrays, values = _packed({name: x for name, x in states.items() if x})
        state |= arrays
        metadata["callbacks"] = json.dumps(values)
        save_safetensors(self._latest, state, metadata)


def _packed(states: dict[str, dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arrays in states by name, and the states with counts in the place of arrays."""
    arrays: dict[str, Any] = {}
    values: dict[str, dict[str, Any]] = {}
    for name, state in states.items():
        values[name] = {}
        for key, value in state.items():
            if isinstance(value, list):
                arrays |= {f"callbacks/{name}/{key}/{i}": x for i, x in enumerate(value)}
                value = {"arrays": len(value)}
            plain = value is None or isinstance(value, dict | int | str)
            values[name][key] = value if plain else number(value)
    return arrays, values


def _unpacked(values: dict[str, Any], file: Any) -> dict[str, Any]:
    """Return the states that `_packed` took apart."""
    for name, state in values.items():
        for key, value in state.items():
            if isinstance(value, dict) and "arrays" in value:
                paths = (f"callbacks/{name}/{key}/{i}" for i in range(value["arrays"]))
                state[key] = [file[path].copy() for path in paths]
    return values
