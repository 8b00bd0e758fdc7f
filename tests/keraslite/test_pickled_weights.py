"""Weights that Keras pickled in a `.keras` file, damaged or hostile: one clear error, nothing runs."""

import contextlib
import io
import os
import pickle
import tracemalloc
import zipfile
from functools import partial

import numpy as np
import pytest

import keraslite
from keraslite import layers, models, saving

KERNEL = np.arange(12, dtype="float32").reshape(4, 3)


class Call:
    """Pickles as a call, as an attacker would have it."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """The members of a model of one Dense layer, without its weights."""
    path = tmp_path_factory.mktemp("whole") / "m.keras"
    with keraslite.use_backend("numpy"):
        models.Sequential([layers.Input((4,)), layers.Dense(3)]).save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in ("config.json", "metadata.json")}


def npz(**objects):
    """Return the bytes of an .npz file of dicts of arrays, pickled as Keras does."""
    file = io.BytesIO()
    np.savez(file, **{"layers/dense": {"0": KERNEL, "1": KERNEL[0]}} | objects)
    return file.getvalue()


def pickled(value):
    """An array whose pickle is another one."""
    data = value if isinstance(value, bytes) else pickle.dumps(value, 4)
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
    return changed(file.getvalue() + data)


def changed(content):
    """A .npz file with another array in the place of the layer's."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("layers/dense.npy", content)
    return file.getvalue()


def compressed():
    file = io.BytesIO()
    np.savez_compressed(file, **{"layers/dense": np.zeros(2**22, "float32")})
    return file.getvalue()


def kernel(array):
    return npz(**{"layers/dense": {"0": array, "1": KERNEL[0]}})


def header(shape, descr="<f4"):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": descr, "fortran_order": False, "shape": shape}
    )
    return changed(file.getvalue())


def state(shape, content, code=b"\x8c\x02f4"):
    """A kernel whose state is spelled out."""
    make = b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01"
    inner = make + shape + b"cnumpy\ndtype\n" + code + b"\x85R\x89" + content + b"tb"
    variables = b"]}\x8c\x010" + inner + b"sa"
    return pickled(b"\x80\x04" + make + b")cnumpy\ndtype\n\x8c\x02O8\x85R\x89" + variables + b"tb.")


def dtype(code):
    return state(b")", b"C\x04aaaa", code)


def written(folder, config, weights):
    path = folder / "m.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (config | {"model.weights.npz": weights}).items():
            archive.writestr(name, data)
    return path


def test_dicts_of_arrays(config, tmp_path):
    arrays = {"a row": KERNEL, "fortran": np.asfortranarray(KERNEL), "big-endian": KERNEL.astype(">f4")}  # fmt: skip
    for array in arrays.values():
        with keraslite.use_backend("numpy"):
            model = saving.load_model(written(tmp_path, config, kernel(array)))
        assert np.array_equal(model.get_weights()[0], KERNEL)


RECONSTRUCT = np.core.multiarray._reconstruct if np.__version__ < "2" else np._core.multiarray._reconstruct  # fmt: skip
LAUGHS = b")q\x00" + b"h\x00\x86q\x00" * 60  # a tuple of itself and itself, sixty times
HOSTILE = {
    "system": (lambda: kernel(Call(os.system, "touch hacked")), r"calls 'posix\.system'"),
    "eval": (lambda: kernel(Call(eval, "open('hacked', 'w')")), r"calls 'builtins\.eval'"),
    "getattr": (lambda: kernel(Call(getattr, "", "join")), r"calls 'builtins\.getattr'"),
    "a call of a call": (
        lambda: pickled(pickle.dumps(Call(os.system, "touch hacked"), 4)[:-1] + b")R."), "posix",
    ),
    "another function of numpy": (lambda: kernel(Call(np.save, "hacked", KERNEL)), r"numpy\.save"),
    "a partial": (
        lambda: pickled(pickle.dumps(partial(os.system, "touch hacked"), 4)[:-1] + b")R."),
        "posix system.* nothing of it was run",
    ),
    "a class": (lambda: pickled(b"\x80\x04cos\nsystem\n)\x81."), "something else than a dict"),
    "a global": (lambda: pickled(b"\x80\x04}\x8c\x010cos\nsystem\ns."), "something else"),
    "objects in an array": (lambda: kernel(np.array([KERNEL, None], "O")), "the dtype 'O'"),
    "objects in objects": (
        lambda: kernel(np.array([np.array([Call(os.system, "touch hacked")], "O")], "O")), "posix",
    ),
    "a dtype of pointers": (lambda: kernel(np.zeros((4, 3), "V8")), "the dtype 'V8'"),
    "numbers as pointers": (lambda: state(b")", b"C\x08aaaaaaaa", b"\x8c\x02O8"), "the dtype 'O'"),
    "text": (lambda: kernel(np.array(["a"])), "the dtype 'U1'"),
    "a number": (lambda: kernel(3), "a 'int', expected an array"),
    "a list": (lambda: pickled([1, 2]), "something else than a dict"),
    "a huge shape": (lambda: state(b"J\xff\xff\xff\x7fK\x03\x86", b"C\x04aaaa"), "is damaged"),
    "a huge header": (lambda: header((2**40,)), "expected a dict of variables"),
    "a huge header of objects": (lambda: header((2**40,), "|O"), "expected a dict of variables"),
    "a header of code": (lambda: changed(b"\x93NUMPY\x01\x00\x10\x00{'descr': f()} \n"), "no header"),
    "plain numbers": (lambda: npz(**{"layers/dense": KERNEL}), "expected a dict of variables"),
    "no state": (lambda: kernel(Call(RECONSTRUCT, np.ndarray, (0,), b"b")), "no content"),
    "a string of 2**63 bytes": (lambda: pickled(b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f."), "damaged"),
    "a huge memo": (lambda: pickled(b"\x80\x04}r\xff\xff\xff\x7f."), "something else"),
    "laughs as a key": (lambda: pickled(b"\x80\x04}" + LAUGHS + b"Ns."), "something else"),
    "laughs as a dtype": (lambda: dtype(LAUGHS), "a dtype that is no text"),
    "laughs as a shape": (lambda: state(LAUGHS, b"C\x04aaaa"), "is damaged"),
    "a content of text": (lambda: state(b")", b"\x8c\x04aaaa"), "is damaged"),
    "too many opcodes": (lambda: pickled(b"\x80\x04" + b"N\x85" * 2**19 + b"N."), "too many opcodes"),
    "an extension": (lambda: pickled(b"\x80\x04\x82\x01."), "the opcode EXT1"),
    "an instance": (lambda: pickled(b"(ios\nsystem\n."), "the opcode INST"),
    "a persistent id": (lambda: pickled(b"\x80\x04NQ."), "refers to what is outside"),
    "no stop": (lambda: pickled(b"\x80\x04}"), "damaged|does not end"),
    "empty": (lambda: changed(b""), "no header"),
    "no archive": (lambda: b"PK no archive", "no .npz file, or cut off"),
    "compressed": (compressed, "is compressed"),
    "a layer more": (lambda: npz(other={"0": KERNEL}), "no place for: other"),
    "another size": (lambda: kernel(np.zeros((2, 3), "f4")), r"the model's shape is \(4, 3\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused(name, config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, match = HOSTILE[name]
    path = written(tmp_path, config, make())
    with pytest.raises(ValueError, match=match) as error, keraslite.use_backend("numpy"):
        saving.load_model(path)
    assert str(path) in str(error.value) and os.listdir(tmp_path) == ["m.keras"]


@pytest.mark.parametrize("name", [n for n in HOSTILE if "huge" in n or n == "compressed"])
def test_nothing_is_allocated_for_what_is_not_there(name, config, tmp_path):
    path = written(tmp_path, config, HOSTILE[name][0]())
    tracemalloc.start()
    try:
        with contextlib.suppress(ValueError), keraslite.use_backend("numpy"):
            saving.load_model(path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


@pytest.mark.filterwarnings("ignore:Reading `.npy` or `.npz` file required additional header")
def test_flipped_bytes(config, tmp_path):
    """Each is an error or leaves the weights as they were, or changes numbers alone."""
    weights, rng = npz(), np.random.default_rng(0)
    with zipfile.ZipFile(io.BytesIO(weights)) as archive:
        whole = archive.read("layers/dense.npy")
    for place in rng.integers(0, len(whole), 150):
        data = bytearray(whole)
        data[place] ^= 1 << int(rng.integers(8))
        path = written(tmp_path, config, changed(bytes(data)))
        with keraslite.use_backend("numpy"), contextlib.suppress(ValueError):
            model = saving.load_model(path)
            assert [w.shape for w in model.get_weights()] == [(4, 3), (3,)]
