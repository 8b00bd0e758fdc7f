"""The curves of a training."""

from collections.abc import Mapping, Sequence
from typing import Any

from keraslite.utils.figures import finish, new_figure

_VALIDATION = "val_"


def plot_history(
    history: Mapping[str, Sequence[float]],
    metrics: Sequence[str] | None = None,
    epochs: Sequence[int] | None = None,
    path: Any = None,
) -> Any:
    """Draw the loss and each metric of a training over its epochs, with those of the validation.

    Args:
        history: a list of values for each name, as `History.history` has it.
        metrics: the names to draw, without "val_"; all by default.
        epochs: the numbers of the epochs, from 0 on; counted by default.
        path: of a file to write instead.

    Returns:
        The figure, where it is not written.

    Raises:
        ValueError: there is no epoch, or a name is unknown.
        ImportError: matplotlib is not installed.

    >>> figure = plot_history({"loss": [2.0, 1.0], "val_loss": [2.5, 2.0], "accuracy": [0.1, 0.6]})
    >>> [(axes.get_title(), len(axes.lines)) for axes in figure.axes]
    [('loss', 2), ('accuracy', 1)]
    """
    names = list(dict.fromkeys(name.removeprefix(_VALIDATION) for name in history))
    if not names:
        raise ValueError("The history must have at least one epoch, got none: call fit first.")
    if unknown := sorted(set(metrics or ()) - set(names)):
        raise ValueError(f"metrics must be among {names}, got {unknown}.")
    names = names if metrics is None else list(metrics)
    total = max(map(len, history.values()))
    numbers = list(epochs) if epochs is not None and len(epochs) == total else list(range(total))
    figure = new_figure(4 * len(names), 3, layout="tight")
    for i, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), i + 1)
        for key, label in ((name, "training"), (_VALIDATION + name, "validation")):
            values = [float(value) for value in history.get(key, ())]
            if values:  # a validation may be made every few epochs
                step = total // len(values)
                places = [number + 1 for number in numbers[step - 1 :: step]]
                axes.plot(places[: len(values)], values, marker=".", label=label)
        axes.set_title(name)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()
    return finish(figure, path, shown=False)
