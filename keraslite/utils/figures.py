"""Figures of matplotlib, which is imported when one is made."""

from typing import Any


def new_figure(width: float, height: float, shown: bool = False, **options: Any) -> Any:
    """Return an empty figure.

    Args:
        width: in inches.
        height: in inches.
        shown: whether `matplotlib.pyplot.show` is to show it.
        options: as for `matplotlib.figure.Figure`.

    Raises:
        ImportError: matplotlib is not installed.

    >>> new_figure(3, 2).get_size_inches().tolist()
    [3.0, 2.0]
    """
    try:
        from matplotlib import pyplot
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('Figures need matplotlib: pip install "keraslite-hub[plot]".') from error
    make = pyplot.figure if shown else Figure
    return make(figsize=(width, height), **options)


def finish(figure: Any, path: Any, shown: bool, **options: Any) -> Any:
    """Write or show a figure; return it where neither is asked for.

    Args:
        figure: of `new_figure`.
        path: of the file to write; None for none.
        shown: whether it is shown.
        options: as for `matplotlib.figure.Figure.savefig`.
    """
    if path is not None:
        figure.savefig(path, **options)
        return None
    if not shown:
        return figure
    from matplotlib import pyplot

    pyplot.show()
    pyplot.close(figure)
    return None
