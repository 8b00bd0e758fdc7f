"""CIFAR-10: small color pictures of ten classes."""

from keraslite.datasets.cifar import read_batches
from keraslite.datasets.files import fetch
from keraslite.datasets.splitting import Split


def load_data() -> Split:
    """Return CIFAR-10: 50,000 color pictures for training and 10,000 for testing.

    The classes 0 to 9 are airplane, automobile, bird, cat, deer, dog, frog, horse, ship and truck.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: uint8 arrays (pictures, 32, 32, 3), channels first
        where the image data format says so, and (pictures, 1).

    Raises:
        OSError: the file is not in the cache and cannot be downloaded.

    The data are of Alex Krizhevsky, https://www.cs.toronto.edu/~kriz/cifar.html.

        (x_train, y_train), (x_test, y_test) = keras.datasets.cifar10.load_data()
    """
    folder = fetch("cifar-10-batches-py-target") / "cifar-10-batches-py"
    training = [folder / f"data_batch_{number}" for number in range(1, 6)]
    return read_batches(training, "labels"), read_batches([folder / "test_batch"], "labels")
