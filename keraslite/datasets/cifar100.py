"""CIFAR-100: small color pictures of a hundred classes."""

from keraslite.datasets.cifar import read_batches
from keraslite.datasets.files import fetch
from keraslite.datasets.splitting import Split


def load_data(label_mode: str = "fine") -> Split:
    """Return CIFAR-100: 50,000 color pictures for training and 10,000 for testing.

    Args:
        label_mode: "fine" for the 100 classes, or "coarse" for the 20 groups of them.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: uint8 arrays (pictures, 32, 32, 3), channels first
        where the image data format says so, and (pictures, 1).

    Raises:
        ValueError: another label mode.
        OSError: the file is not in the cache and cannot be downloaded.

    The data are of Alex Krizhevsky, https://www.cs.toronto.edu/~kriz/cifar.html.

        (x_train, y_train), (x_test, y_test) = keras.datasets.cifar100.load_data()
    """
    if label_mode not in ("fine", "coarse"):
        raise ValueError(f"label_mode must be 'fine' or 'coarse', got {label_mode!r}.")
    folder = fetch("cifar-100-python-target") / "cifar-100-python"
    training, test = (
        read_batches([folder / name], f"{label_mode}_labels") for name in ("train", "test")
    )
    return training, test
