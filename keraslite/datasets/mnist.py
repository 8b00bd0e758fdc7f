"""MNIST: grey pictures of handwritten digits."""

import numpy as np

from keraslite.datasets.files import fetch
from keraslite.datasets.splitting import Split


def load_data(path: str = "mnist.npz") -> Split:
    """Return MNIST: pictures of the digits 0 to 9, 60,000 for training and 10,000 for testing.

    Args:
        path: the name of the file in the cache, in the folder `datasets`.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: uint8 arrays (pictures, 28, 28) and (pictures,).

    Raises:
        OSError: the file is not in the cache and cannot be downloaded.

    The data are of Yann LeCun and Corinna Cortes, http://yann.lecun.com/exdb/mnist (CC BY-SA 3.0).

        (x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
    """
    with np.load(fetch("mnist.npz", path), allow_pickle=False) as file:
        return (file["x_train"], file["y_train"]), (file["x_test"], file["y_test"])
