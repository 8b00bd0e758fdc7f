"""California housing: prices of houses in 1990."""

import numpy as np

from keraslite.datasets.files import fetch
from keraslite.datasets.splitting import Split, check_test_split, shuffled, split

_SMALL = 600


def load_data(
    version: str = "large",
    path: str = "california_housing.npz",
    test_split: float = 0.2,
    seed: int = 113,
) -> Split:
    """Return the California housing data: 20,640 groups of blocks, and their median house values.

    The 8 features are the median income and the median age of the houses, the averages of rooms, of
    bedrooms and of members of a household, the population (before the last of these), and the
    latitude and longitude.

    Args:
        version: "large", or "small" for the first 600 rows.
        path: the name of the file in the cache, in the folder `datasets`.
        test_split: the part of the rows for testing.
        seed: of the order of the rows.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: float arrays (rows, 8) and (rows,), values in
        dollars.

    Raises:
        ValueError: another version, or test_split is not at least 0 and below 1.
        OSError: the file is not in the cache and cannot be downloaded.

    The data are of the census of 1990, https://www.dcc.fc.up.pt/~ltorgo/Regression/cal_housing.html.

        (x_train, y_train), (x_test, y_test) = keras.datasets.california_housing.load_data()
    """
    check_test_split(test_split)
    if version not in ("small", "large"):
        raise ValueError(f"version must be 'small' or 'large', got {version!r}.")
    rows = slice(_SMALL if version == "small" else None)
    with np.load(fetch("california_housing.npz", path), allow_pickle=False) as file:
        x, y = shuffled(seed, file["x"][rows], file["y"][rows])
    return split(x, y, test_split)
