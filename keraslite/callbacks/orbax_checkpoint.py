"""OrbaxCheckpoint: a training's state as checkpoints of orbax."""

import os
from typing import Any

from keraslite.callbacks.monitor import MonitorCallback, StepCounter
from keraslite.saving.orbax import checkpoint_of, import_orbax


class OrbaxCheckpoint(MonitorCallback):
    """Saves weights, optimizer, metrics and config during training, as checkpoints of orbax.

    A checkpoint is a folder named by its step, which orbax reads too: the number of the epoch, or
    that of the batches so far where `save_freq` is a number. `model.load_weights(directory)` takes
    training up from the last one, on any backend, and `keras.models.load_model(directory)` makes
    the model anew. One that was saved before at the same step is replaced.

    Args:
        directory: the folder.
        monitor: the quantity for `save_best_only`.
        verbose: 1 prints a message.
        save_best_only: whether only what is better than the best so far is saved.
        mode: "min", "max" or "auto".
        save_freq: "epoch", or a number of batches.
        initial_value_threshold: a value that the first one must surpass.
        max_to_keep: how many checkpoints are kept, the last ones; None for all.
        save_on_background: whether files are written while training goes on.
        save_weights_only: whether optimizer, metrics and config are left out.

    Raises:
        ImportError: orbax-checkpoint is not installed.
        ValueError: `save_freq` is not valid.

    >>> OrbaxCheckpoint("checkpoints", save_freq=100).max_to_keep
    1
    """

    def __init__(
        self,
        directory: Any,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
        max_to_keep: int | None = 1,
        save_on_background: bool = True,
        save_weights_only: bool = False,
    ):
        super().__init__(monitor, mode, initial_value_threshold)
        if save_freq != "epoch" and (not isinstance(save_freq, int) or save_freq < 1):
            raise ValueError(f"save_freq is 'epoch' or a number of batches, got {save_freq!r}.")
        self._api = import_orbax()
        self.directory = os.path.abspath(os.fspath(directory))
        self.verbose, self.save_best_only, self.save_freq = verbose, save_best_only, save_freq
        self.max_to_keep, self.save_on_background = max_to_keep, save_on_background
        self.save_weights_only = save_weights_only
        self._steps = StepCounter(save_freq)
        self._epoch = 0
        self._resumed = False  # by a BackupAndRestore: later checkpoints are of the same training
        self._checkpointer: Any = None

    @property
    def checkpointer(self) -> Any:
        """The Checkpointer of orbax, which is closed when training ends, and opened when used."""
        if self._checkpointer is None:
            training = self._api.training
            keep = training.preservation_policies
            self._checkpointer = training.Checkpointer(
                self.directory,
                preservation_policy=None if self.max_to_keep is None
                else keep.LatestN(self.max_to_keep),
                save_decision_policy=training.save_decision_policies.FixedIntervalPolicy(1),
            )  # fmt: skip
        return self._checkpointer

    def set_model(self, model: Any) -> None:
        """Take the model, and how many batches its optimizer has seen."""
        super().set_model(model)
        if getattr(model, "optimizer", None) is not None:
            self._steps.total = int(model.optimizer.iterations.numpy())

    def get_state(self) -> dict[str, Any]:
        """Return the best value, and how many batches have gone by."""
        steps = self._steps
        counts = {"steps": steps.seen, "total": steps.total, "last": steps.last}
        return super().get_state() | counts

    def set_state(self, state: dict[str, Any]) -> None:
        """Take back what `get_state` returned."""
        self.best, self._resumed, steps = state["best"], True, self._steps
        steps.seen, steps.total, steps.last = (int(state[k]) for k in ("steps", "total", "last"))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Save after so many batches."""
        if self._steps.reached(batch):
            self._save(self._steps.total, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Save after an epoch."""
        if self.save_freq == "epoch":
            self._save(epoch, logs)

    def on_train_end(self, logs: Any = None) -> None:
        """Wait until all is written."""
        if self._checkpointer is not None:
            self._checkpointer.close()
            self._checkpointer = None

    def is_multihost_enabled(self) -> bool:
        """Return whether JAX runs in several processes, which orbax brings together."""
        return self._api.multihost.process_count() > 1

    def is_primary_host(self) -> bool:
        """Return whether this is the first process, or the only one."""
        return self._api.multihost.is_primary_host(0)

    def wait_until_finished(self) -> None:
        """Wait until all that was saved so far is written."""
        if self._checkpointer is not None:
            self._checkpointer.wait()

    def _save(self, step: int, logs: Any) -> None:
        if self.save_best_only:
            value = self._value(logs)
            if value is None or not self._is_improvement(value, self.best):
                return
            self.best = value
        self._make_room(step)
        self._tell(self._epoch, f"saving the checkpoint {step} in {self.directory}")
        # The arrays are copies: training may go on.
        self.checkpointer.save_checkpointables_async(
            step, checkpoint_of(self.model, self.save_weights_only)
        )
        if not self.save_on_background:
            self.wait_until_finished()

    def _make_room(self, step: int) -> None:
        """Delete the checkpoint of a step, and later ones of this training."""
        later = [c.step for c in self.checkpointer.checkpoints if c.step >= step]
        if max(later, default=step) > step and not self._resumed:
            raise ValueError(
                f"{self.directory} has checkpoints of later steps than {step}, up to {max(later)}: "
                "give another directory, or go on after them by load_weights() and initial_epoch."
            )
        if later:
            self.wait_until_finished()
        for other in later:
            self.checkpointer.delete(other)
