"""The optimizers of Keras 2 by their old names, which tell what to use in their place."""

from typing import Any


class LegacyOptimizer:
    """Raise an error: the optimizers of Keras 2 are not in Keras 3.

    Args:
        args: anything.
        kwargs: anything.

    Raises:
        ImportError: always.

    >>> Adam(learning_rate=0.1)
    Traceback (most recent call last):
    ImportError: keras.optimizers.legacy is not in Keras 3: use the optimizer of ...
    """

    def __init__(self, *args: Any, **kwargs: Any):
        raise ImportError(
            "keras.optimizers.legacy is not in Keras 3: use the optimizer of the same name in "
            "keras.optimizers, whose arguments differ where Keras 2 had `decay` (now a schedule of "
            "keras.optimizers.schedules as the learning rate) and `lr` (now `learning_rate`)."
        )


Adagrad = Adam = Ftrl = Optimizer = RMSprop = SGD = LegacyOptimizer

__all__ = ["SGD", "Adagrad", "Adam", "Ftrl", "Optimizer", "RMSprop"]
