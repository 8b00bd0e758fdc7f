"""Fashion-MNIST: grey pictures of clothes, in the format of MNIST."""

import numpy as np

from keraslite.datasets.files import fetch
from keraslite.datasets.splitting import Split


def load_data() -> Split:
    """Return Fashion-MNIST: 60,000 pictures of clothes for training and 10,000 for testing.

    The classes 0 to 9 are T-shirt or top, trouser, pullover, dress, coat, sandal, shirt, sneaker,
    bag and ankle boot.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: uint8 arrays (pictures, 28, 28) and (pictures,).

    Raises:
        OSError: a file is not in the cache and cannot be downloaded.
        ValueError: a file is damaged.

    The data are of Zalando SE, https://github.com/zalandoresearch/fashion-mnist (MIT license).

        (x_train, y_train), (x_test, y_test) = keras.datasets.fashion_mnist.load_data()
    """
    y_train, x_train, y_test, x_test = (
        _read_idx(f"{part}-{content}-ubyte.gz")
        for part in ("train", "t10k")
        for content in ("labels-idx1", "images-idx3")
    )
    return (x_train, y_train), (x_test, y_test)


def _read_idx(name: str) -> np.ndarray:
    """Return the bytes of an IDX file: a header of big-endian sizes, and the values."""
    import gzip

    path = fetch(name)
    problem = f"{path} is damaged: remove it, and it is downloaded again."
    try:
        with gzip.open(path, "rb") as file:
            content = file.read()
    except (OSError, EOFError) as error:
        raise ValueError(f"{problem} {error}") from error
    rank = content[3] if content[:3] == b"\0\0\x08" and len(content) > 3 else 0  # 8: of bytes
    shape = np.frombuffer(content[4 : 4 + 4 * rank], ">i4")
    if rank == 0 or len(content) != 4 + 4 * rank + shape.prod():
        raise ValueError(problem)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape).copy()
