"""Boston housing: prices of houses in the late 1970s."""

import numpy as np

from keraslite.datasets.files import fetch
from keraslite.datasets.splitting import Split, check_test_split, shuffled, split


def load_data(path: str = "boston_housing.npz", test_split: float = 0.2, seed: int = 113) -> Split:
    """Return the Boston housing data: 506 areas with 13 features each, and their median prices.

    One of the features supposes that racial segregation changes prices. Use
    `california_housing` unless you write about that.

    Args:
        path: the name of the file in the cache, in the folder `datasets`.
        test_split: the part of the rows for testing.
        seed: of the order of the rows.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: float64 arrays (rows, 13) and (rows,), prices in
        thousands of dollars.

    Raises:
        ValueError: test_split is not at least 0 and below 1.
        OSError: the file is not in the cache and cannot be downloaded.

    The data are of StatLib, http://lib.stat.cmu.edu/datasets/boston.

        (x_train, y_train), (x_test, y_test) = keras.datasets.boston_housing.load_data()
    """
    check_test_split(test_split)
    with np.load(fetch("boston_housing.npz", path), allow_pickle=False) as file:
        x, y = shuffled(seed, file["x"], file["y"])
    return split(x, y, test_split)
