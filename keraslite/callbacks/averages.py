"""SwapEMAWeights: evaluate and save with the moving averages of the weights."""

from typing import Any

from keraslite import ops
from keraslite.callbacks.base import Callback
from keraslite.optimizers import LossScaleOptimizer, MultiOptimizer


class SwapEMAWeights(Callback):
    """Puts the optimizer's moving averages in the place of the weights while they are evaluated.

    The optimizer, or one in a MultiOptimizer, must have `use_ema=True`.

    Args:
        swap_on_epoch: whether they are swapped from the end of an epoch to the beginning of the
            next too, for a ModelCheckpoint that stands after this.

    >>> from keraslite import layers, models
    >>> model = models.Sequential([layers.Input((2,)), layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> callback = SwapEMAWeights()
    >>> callback.set_model(model); callback.on_test_begin()
    Traceback (most recent call last):
    ValueError: SwapEMAWeights must be used with an optimizer that has use_ema=True.
    """

    def __init__(self, swap_on_epoch: bool = False):
        super().__init__()
        self.swap_on_epoch, self._swapped = swap_on_epoch, False

    def _pairs(self) -> list[tuple[Any, Any]]:
        optimizer = self.model.optimizer
        if isinstance(optimizer, LossScaleOptimizer):
            optimizer = optimizer.inner_optimizer
        inner = optimizer.optimizers if isinstance(optimizer, MultiOptimizer) else [optimizer]
        averaging = [o for o in inner if o is not None and o.use_ema]
        if not averaging:
            raise ValueError("SwapEMAWeights must be used with an optimizer that has use_ema=True.")
        return [pair for o in averaging for pair in o.averaged_variables()]

    def _swap(self, swapped: bool) -> None:
        if swapped == self._swapped:
            return
        for variable, average in self._pairs():
            kept = ops.copy(variable.value)
            variable.assign(average.value)
            average.assign(kept)
        self._swapped = swapped

    def get_state(self) -> dict[str, Any]:
        """Return whether the weights that BackupAndRestore saves are the averages."""
        return {"swapped": self._swapped}

    def set_state(self, state: dict[str, Any]) -> None:
        """Put the weights back where those that were saved are the averages.

        Args:
            state: what `get_state` returned.
        """
        self._swapped = state["swapped"]
        self._swap(False)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Put the weights back."""
        if self.swap_on_epoch:
            self._swap(False)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Put the averages in their place; after the last epoch they are on both sides."""
        if self.swap_on_epoch:
            self._swap(True)
            if epoch == self.params["epochs"] - 1:  # `fit` sets the weights to the averages next
                for variable, average in self._pairs():
                    average.assign(ops.copy(variable.value))
                self._swapped = False

    def on_test_begin(self, logs: Any = None) -> None:
        """Put the averages in the place of the weights."""
        self._swap(True)

    def on_test_end(self, logs: Any = None) -> None:
        """Put the weights back."""
        self._swap(False)

    def on_predict_begin(self, logs: Any = None) -> None:
        """Put the averages in the place of the weights."""
        self._swap(True)

    def on_predict_end(self, logs: Any = None) -> None:
        """Put the weights back."""
        self._swap(False)
