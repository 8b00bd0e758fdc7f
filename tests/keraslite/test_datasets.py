"""keras.datasets: small files of the layout of the real ones, from a local server, against Keras."""

import gzip
import hashlib
import io
import os
import pickle
import re
import socket
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path

import keras
import numpy as np
import pytest
from keras.src.datasets.cifar import load_batch

import keraslite
from keraslite.datasets import arrays, files
from keraslite.datasets.words import of_known_words

RNG = np.random.default_rng(0)


def npz(**content):
    file = io.BytesIO()
    np.savez(file, **content)
    return file.getvalue()


def texts(count, longest):
    rows = np.empty(count, "object")
    for i in range(count):
        rows[i] = RNG.integers(1, 30, 1 + RNG.integers(longest)).tolist()
    return rows


class Python2(pickle._Pickler):
    """Writes what Python 2 did: strings as bytes, and NumPy under its name of then."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_bytes(self, x):
        self.write(
            b"U" + bytes([len(x)]) + x if len(x) < 256 else b"T" + len(x).to_bytes(4, "little") + x
        )

    def save_array(self, x):
        self.write(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n")
        self.save_tuple((0,))
        self.save_bytes(b"b")
        self.write(b"\x87R(K\x01")
        self.save_tuple(x.shape)
        self.write(b"cnumpy\ndtype\n")
        self.save_bytes(b"u1")
        self.write(b"K\x00K\x01\x87R(K\x03")
        self.save_bytes(b"|")
        self.write(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb")
        self.write(b"\x89")
        self.save_bytes(x.tobytes())
        self.write(b"tb")

    dispatch[bytes], dispatch[np.ndarray] = save_bytes, save_array


def cifar(folder, **batches):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, keys in batches.items():
            content = io.BytesIO()
            batch = {b"data": RNG.integers(0, 256, (2, 3072), "uint8")}
            for key, classes in keys.items():
                batch[key.encode()] = RNG.integers(0, classes, 2).tolist()
            Python2(content, 2).dump(batch)
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(content.getvalue())
            archive.addfile(info, io.BytesIO(content.getvalue()))
    return file.getvalue()


def idx(*shape):
    header = b"\0\0\x08" + bytes([len(shape)]) + np.array(shape, ">i4").tobytes()
    return gzip.compress(header + RNG.integers(0, 10, shape, "uint8").tobytes())


PICTURES = RNG.integers(0, 256, (5, 28, 28), "uint8")
CONTENTS = {
    "mnist.npz": npz(x_train=PICTURES, y_train=PICTURES[:, 0, 0], x_test=PICTURES[:2], y_test=np.uint8([1, 2])),
    "boston_housing.npz": npz(x=RNG.normal(size=(10, 13)), y=RNG.normal(size=10)),
    "california_housing.npz": npz(x=RNG.normal(size=(610, 8)).astype("float32"), y=np.arange(610.0)),
    "imdb.npz": npz(x_train=texts(9, 12), y_train=np.arange(9) % 2, x_test=texts(8, 12), y_test=np.arange(8) % 2),
    "imdb_word_index.json": '{"the": 1, "naïve": 2}'.encode(),
    "reuters.npz": npz(x=texts(20, 12), y=np.arange(20)),
    "reuters_word_index.json": b'{"the": 1}',
    "train-labels-idx1-ubyte.gz": idx(4), "train-images-idx3-ubyte.gz": idx(4, 28, 28),
    "t10k-labels-idx1-ubyte.gz": idx(2), "t10k-images-idx3-ubyte.gz": idx(2, 28, 28),
    "cifar-10-batches-py-target": cifar(
        "cifar-10-batches-py",
        **{name: {"labels": 10} for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")},
    ),
    "cifar-100-python-target": cifar(
        "cifar-100-python",
        **{name: {"fine_labels": 100, "coarse_labels": 20} for name in ("train", "test")},
    ),
}  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        """Keep the output of the tests clean."""

    def do_GET(self):
        body = CONTENTS[self.path[1:]]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def server():
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_address[1]}"
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def cache(server, tmp_path, monkeypatch):
    """An empty cache, and the table of files with the addresses and hashes of the small ones."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    for name, content in CONTENTS.items():
        file = files.FILES[name]
        digest = hashlib.sha256(content).hexdigest() if file.file_hash else None
        monkeypatch.setitem(
            files.FILES, name, file._replace(url=f"{server}/{name}", file_hash=digest)
        )
    return tmp_path / "home"


def assert_same(ours, theirs):
    for our_part, their_part in zip(ours, theirs, strict=True):
        for a, b in zip(our_part, their_part, strict=True):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("mnist", {}), ("fashion_mnist", {}), ("boston_housing", {"test_split": 0.3, "seed": 1}),
        ("california_housing", {}), ("california_housing", {"version": "small"}),
        ("cifar100", {}), ("cifar100", {"label_mode": "coarse"}), ("imdb", {}), ("reuters", {}),
        ("imdb", {"num_words": 12, "skip_top": 5, "maxlen": 9}),
        ("imdb", {"oov_char": None, "num_words": 20, "start_char": None}),
        ("imdb", {"start_char": None, "index_from": 0, "seed": 5}),
        ("reuters", {"num_words": 12, "skip_top": 5, "maxlen": 9, "test_split": 0.4}),
        ("reuters", {"oov_char": None, "num_words": 20, "index_from": 0, "seed": 5}),
    ],
)  # fmt: skip
def test_data_are_those_of_keras_from_its_cache(name, arguments, cache, monkeypatch, capsys):
    ours = getattr(keraslite.datasets, name).load_data(**arguments)
    assert "Downloading data from" in capsys.readouterr().out
    theirs = import_module(f"keras.src.datasets.{name}")

    def get_file(fname=None, origin=None, file_hash=None, **options):  # another hash is expected
        return keras.utils.get_file(fname, origin, cache_dir=cache, **options)

    def download(*_):
        raise AssertionError("in Keras's cache a file has another name than in ours")

    monkeypatch.setattr(theirs, "get_file", get_file)
    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", download)
    expected = theirs.load_data(**arguments)
    if name == "cifar100":  # the dtype that is documented
        expected = [(x, y.astype("uint8")) for x, y in expected]
    assert_same(ours, expected)
    assert_same(ours, getattr(keraslite.datasets, name).load_data(**arguments))
    assert capsys.readouterr().out == ""  # nothing is downloaded again


def test_cifar10_is_made_of_its_batches(cache):
    """Keras's function is for batches of 10,000 pictures."""
    (x, y), test = keraslite.datasets.cifar10.load_data()
    folder = cache / "datasets/cifar-10-batches-py-target/cifar-10-batches-py"
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    batches = [load_batch(str(folder / name)) for name in names]
    pictures, labels = (np.concatenate([batch[i] for batch in batches]) for i in range(2))
    parts = ((x, y), test)
    assert [part[0].shape for part in parts] == [(10, 32, 32, 3), (2, 32, 32, 3)]
    np.testing.assert_array_equal(
        np.concatenate([part[0] for part in parts]), pictures.transpose(0, 2, 3, 1)
    )
    np.testing.assert_array_equal(np.concatenate([part[1] for part in parts])[:, 0], labels)
    assert x.flags.c_contiguous and x.dtype == y.dtype == np.uint8
    keraslite.config.set_image_data_format("channels_first")
    try:
        (first, _), _ = keraslite.datasets.cifar10.load_data()
    finally:
        keraslite.config.set_image_data_format("channels_last")
    np.testing.assert_array_equal(first, pictures[:10])


def test_words_and_topics(cache):
    data = keraslite.datasets
    assert data.imdb.get_word_index() == {"the": 1, "naïve": 2}
    assert data.reuters.get_word_index("words.json") == {"the": 1}
    assert (cache / "datasets/words.json").exists()
    assert data.reuters.get_label_names() == keras.datasets.reuters.get_label_names()
    equal_lengths = np.empty(2, "object")
    equal_lengths[:] = [[1, 2], [3, 4]]
    known = of_known_words(equal_lengths, 4, 0, 9)
    assert known.shape == (2,) and known.tolist() == [[1, 2], [3, 9]]


def test_the_addresses_and_hashes_are_those_of_keras():
    source = "".join(
        Path(import_module(f"keras.src.datasets.{name}").__file__).read_text()
        for name in keraslite.datasets.__all__
    )
    for name, file in files.FILES.items():
        assert f'"{name}"' in source or f"{{origin_folder}}{name}" in source
        assert file.url.rpartition("/")[2] in source and file.url.rpartition("/")[0] in source
        assert file.file_hash is None or file.file_hash in source
    hashes = re.findall('"([0-9a-f]{32,64})"', source)
    assert sorted(hashes) == sorted(
        file.file_hash for file in files.FILES.values() if file.file_hash
    )


def test_what_goes_wrong(cache, monkeypatch):
    data = keraslite.datasets
    with pytest.raises(ValueError, match="test_split must be at least 0"):
        data.boston_housing.load_data(test_split=1.0)
    with pytest.raises(ValueError, match="version must be"):
        data.california_housing.load_data("huge")
    with pytest.raises(ValueError, match="label_mode must be"):
        data.cifar100.load_data("rough")
    with pytest.raises(ValueError, match="increase maxlen"):
        data.imdb.load_data(maxlen=1)
    data.fashion_mnist.load_data()
    path = cache / "datasets/fashion-mnist/t10k-images-idx3-ubyte.gz"
    for content in (b"<html>", path.read_bytes()[:-20], gzip.compress(b"text"), idx(2, 27)[:-9]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="t10k-images-idx3-ubyte.gz is damaged: remove it"):
            data.fashion_mnist.load_data()
    monkeypatch.setitem(
        files.FILES, "mnist.npz", files.FILES["mnist.npz"]._replace(file_hash="0" * 64)
    )
    with pytest.raises(ValueError, match="its hash is"):
        data.mnist.load_data()


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("mnist.npz", "datasets/mnist.npz"),
        ("cifar-10-batches-py-target", "datasets/cifar-10-batches-py-target_archive"),
        ("train-labels-idx1-ubyte.gz", "datasets/fashion-mnist/train-labels-idx1-ubyte.gz"),
    ],
)
def test_without_network_the_error_says_where_to_put_the_file(name, place, cache, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/{name}"
        file = files.FILES[name]._replace(url=url)
        monkeypatch.setitem(files.FILES, name, file)
        with pytest.raises(OSError, match="Connection refused") as caught:
            files.fetch(name)
        message = str(caught.value)
        assert f"put a copy of {url} there as {cache / place}" in message and name in message
        (cache / place).write_bytes(CONTENTS[name])
        assert files.fetch(name).exists()


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


HOSTILE = {
    "a call": (lambda: pickle.dumps([Evil()]), r"posix\.mkdir"),
    "an attribute of numpy": (lambda: b"cnumpy\nsave\n.", r"numpy\.save"),
    "a dotted name": (lambda: b"\x80\x04\x8c\x05numpy\x8c\x0bdtype.mkdir\x93.", "dtype.mkdir"),
    "a dtype of pointers": (lambda: pickle.dumps(np.zeros(1, "V8")), "dtype 'V8'"),
    "cut": (lambda: pickle.dumps(np.arange(9))[:-20], "damaged|truncated"),
    "another shape": (
        lambda: pickle.dumps(np.arange(9)).replace(b"K\t\x85", b"K\x07\x85"),
        "damaged",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_code_of_a_pickle_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, match = HOSTILE[name]
    with pytest.raises(pickle.UnpicklingError, match=match):
        arrays.unpickle(io.BytesIO(make()))
    (tmp_path / "a.npz").write_bytes(npz(x=np.array([Evil(), None])))
    with pytest.raises(pickle.UnpicklingError, match="nothing of it was run"):
        arrays.read_npz(tmp_path / "a.npz")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=">i4").reshape(2, 3), np.asfortranarray(np.ones((2, 3), "float64")),
        np.array([[[1], [2]], [[3], [4, 5]]], dtype="object"), np.array([], "object"),
    ],
    ids=["big-endian", "fortran", "lists", "empty"],
)  # fmt: skip
def test_arrays_of_pickles_are_those_of_numpy(array):
    for protocol in (2, 3, 4):
        read = arrays.unpickle(io.BytesIO(pickle.dumps(array, protocol)))
        assert read.dtype == array.dtype and read.shape == array.shape
        np.testing.assert_array_equal(read, array)
