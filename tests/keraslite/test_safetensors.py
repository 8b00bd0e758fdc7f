"""The safetensors reader and writer, against the format's own library."""

import errno
import json
import sys
import weakref

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from keraslite.saving import atomic
from keraslite.saving import safetensors as ours
from keraslite.saving.safetensors import open_safetensors, save_safetensors

DTYPES = [*ours._DTYPES.values()]
F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def _arrays():
    rng = np.random.default_rng(0)
    arrays = {str(d): rng.integers(0, 2, (3, 5)).astype(d) for d in DTYPES}
    arrays |= {
        "empty": np.zeros((0, 3), "float32"),
        "scalar": np.array(2.5, "float64"),
        "bf16 scalar": np.array(2.5, ml_dtypes.bfloat16),
        "bf16": rng.normal(size=(4, 3)).astype(ml_dtypes.bfloat16),
        "name of any kind, é日\u2028": np.arange(3, dtype="uint8"),
        "": np.ones(1, "float32"),
    }
    return arrays


def assert_same(got, want):
    assert got.keys() == want.keys()
    for name in want:
        assert got[name].dtype == want[name].dtype, name
        assert got[name].shape == want[name].shape, name
        assert got[name].tobytes() == want[name].tobytes(), name


def _file(path, table, data=b"\0" * 8, header=None):
    header = json.dumps(table).encode() if header is None else header
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


# -- round trips ----------------------------------------------------------------------------------


def test_round_trip(tmp_path):
    arrays = _arrays()
    save_safetensors(tmp_path / "a", arrays, {"format": "pt"})
    opened = open_safetensors(tmp_path / "a")
    assert_same(dict(opened), arrays)
    assert opened.metadata == {"format": "pt"}
    assert opened.path == tmp_path / "a"
    assert len(opened) == len(arrays)
    assert all(opened.shape(n) == a.shape for n, a in arrays.items())
    assert all(opened.dtype(n) == a.dtype.name for n, a in arrays.items())
    assert all(a.flags.aligned and a.flags.writeable for a in opened.values())
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_library_reads_ours(tmp_path):
    arrays = {n: a for n, a in _arrays().items() if not n.startswith("float8")}
    save_safetensors(tmp_path / "a", arrays, {"format": "pt"})
    assert_same(safetensors.numpy.load_file(tmp_path / "a"), arrays)
    with safetensors.safe_open(tmp_path / "a", "np") as file:
        assert file.metadata() == {"format": "pt"}
    assert int.from_bytes((tmp_path / "a").read_bytes()[:8], "little") % 8 == 0


def test_library_reads_our_float8(tmp_path):
    arrays = {n: a for n, a in _arrays().items() if n.startswith("float8")}
    save_safetensors(tmp_path / "a", arrays)
    with safetensors.safe_open(tmp_path / "a", "np") as file:
        codes = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    assert codes == {"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"}


def test_we_read_the_library(tmp_path):
    arrays = {n: a for n, a in _arrays().items() if not n.startswith("float8")}
    safetensors.numpy.save_file(arrays, tmp_path / "a", {"k": "v"})
    opened = open_safetensors(tmp_path / "a")
    assert_same(dict(opened), arrays)
    assert opened.metadata == {"k": "v"}


@pytest.mark.parametrize("metadata", [None, {}, {"a": "b"}])
def test_no_tensors(tmp_path, metadata):
    save_safetensors(tmp_path / "a", {}, metadata)
    assert dict(open_safetensors(tmp_path / "a")) == {}
    assert open_safetensors(tmp_path / "a").metadata == (metadata or {})
    assert safetensors.numpy.load_file(tmp_path / "a") == {}


def test_arrays_of_every_layout(tmp_path):
    arrays = {
        "transposed": np.arange(12.0).reshape(3, 4).T,
        "strided": np.arange(12.0)[::-2],
        "big endian": np.arange(3, dtype=">i4"),
        "broadcast": np.broadcast_to(np.float32(1), (2, 3)),
    }
    save_safetensors(tmp_path / "a", arrays | {"a list": [1, 2]})
    opened = open_safetensors(tmp_path / "a")
    for name, array in arrays.items():
        np.testing.assert_array_equal(opened[name], array)
    assert opened["a list"].tolist() == [1, 2]


def test_unaligned_data_is_copied(tmp_path):
    path = _file(tmp_path / "a", {"x": F32}, np.arange(2, dtype="<f4").tobytes())
    start = path.stat().st_size - 8
    assert start % 4, "the header was meant to be of odd length"
    array = open_safetensors(path)["x"]
    assert array.flags.aligned
    assert array.tolist() == [0, 1]


# -- the memory map -------------------------------------------------------------------------------


def test_writes_do_not_reach_the_file(tmp_path):
    save_safetensors(tmp_path / "a", {"x": np.zeros(10_000), "y": np.ones(3)})
    before = (tmp_path / "a").read_bytes()
    opened = open_safetensors(tmp_path / "a")
    array = opened["x"]
    array += 5
    assert opened["x"][3] == 5, "items are views of one map"
    assert np.shares_memory(array, opened["x"])
    assert open_safetensors(tmp_path / "a")["x"].sum() == 0
    del opened
    assert array.sum() == 50_000
    assert (tmp_path / "a").read_bytes() == before


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/statm, the pages in memory")
def test_release(tmp_path):
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * ours.mmap.PAGESIZE

    size = 64 * 2**20
    save_safetensors(tmp_path / "a", {"x": np.ones(size, "uint8"), "y": np.ones(3)})
    opened = open_safetensors(tmp_path / "a")
    y = opened["y"]
    y[:] = 2
    start = resident()
    assert opened["x"].sum() == size
    assert resident() - start > 0.9 * size
    opened.release("x")
    opened.release("y")
    assert resident() - start < 0.1 * size
    assert y.tolist() == [2, 2, 2], "a page shared with a neighbour is kept"
    assert opened["x"].sum() == size


def test_saving_over_the_mapped_file(tmp_path):
    save_safetensors(tmp_path / "a", {"x": np.arange(5000.0)})
    opened = open_safetensors(tmp_path / "a")
    save_safetensors(tmp_path / "a", {"z": opened["x"], "x": opened["x"][::-1]})
    assert opened["x"][1] == 1
    assert open_safetensors(tmp_path / "a")["x"][0] == 4999


def test_unknown_name(tmp_path):
    save_safetensors(tmp_path / "a", {"x": np.zeros(1)})
    opened = open_safetensors(tmp_path / "a")
    for ask in (opened.__getitem__, opened.shape, opened.dtype, opened.release):
        with pytest.raises(KeyError, match="no tensor 'y'"):
            ask("y")
    assert opened.get("y") is None
    assert "y" not in opened


# -- damaged files --------------------------------------------------------------------------------

BAD_TABLES = {
    "dtype": ({"x": F32 | {"dtype": "F31"}}, r"tensor 'x': dtype 'F31' is none of F64, F32"),
    "dtype list": ({"x": F32 | {"dtype": ["F32"]}}, "tensor 'x': dtype"),
    "sub-byte dtype": ({"x": F32 | {"dtype": "F4"}}, "tensor 'x': dtype 'F4'"),
    "entry": ({"x": [1]}, "tensor 'x': needs dtype, shape and data_offsets"),
    "no shape": ({"x": {"dtype": "F32", "data_offsets": [0, 8]}}, "needs dtype, shape and data"),
    "negative": ({"x": F32 | {"shape": [-2]}}, r"tensor 'x': shape \[-2\]"),
    "two negatives": ({"x": F32 | {"shape": [-1, -2]}}, "tensor 'x': shape"),
    "float": ({"x": F32 | {"shape": [2.0]}}, r"tensor 'x': shape \[2.0\]"),
    "bool": ({"x": F32 | {"shape": [2, True]}}, "tensor 'x': shape"),
    "shape": ({"x": F32 | {"shape": 2}}, "tensor 'x': shape 2"),
    "rank": ({"x": F32 | {"shape": [2, *[1] * 64]}}, "tensor 'x': shape"),
    "too large": ({"x": F32 | {"shape": [3]}}, r"'x': shape \[3\] of F32 needs 12 bytes, has 8"),
    "too small": ({"x": F32 | {"shape": [1]}}, "needs 4 bytes, has 8"),
    "overflow": ({"x": F32 | {"shape": [2**62, 4]}}, "tensor 'x': the size of shape .* overflows"),
    "wraps": ({"x": F32 | {"shape": [2**32, 2**32, 2]}}, "overflows"),
    "hidden overflow": (
        {"x": F32 | {"shape": [0, 2**62, 2**62], "data_offsets": [0, 0]}, "y": F32},
        "overflows",
    ),
    "huge": ({"x": F32 | {"shape": [2**70]}}, "tensor 'x': shape"),
    "offsets": ({"x": F32 | {"data_offsets": [0]}}, r"'x': data_offsets \[0\] are no"),
    "offsets type": ({"x": F32 | {"data_offsets": "0 8"}}, "'x': data_offsets"),
    "backwards": ({"x": F32 | {"data_offsets": [8, 0]}}, "'x': data_offsets"),
    "negative offset": ({"x": F32 | {"data_offsets": [-8, 0]}}, "'x': data_offsets"),
    "past the end": (
        {"x": F32, "y": F32 | {"data_offsets": [8, 16]}},
        r"tensor 'y': truncated, it ends at byte \d+ of \d+",
    ),
    "overlap": (
        {"x": F32, "y": F32 | {"shape": [1], "data_offsets": [4, 8]}},
        "tensor 'y': overlaps the tensor before it",
    ),
    "twice the same": ({"x": F32, "y": F32}, "tensor 'y': overlaps"),
    "hole": ({"x": F32 | {"shape": [1], "data_offsets": [4, 8]}}, "tensor 'x': leaves a hole"),
    "trailing": ({"x": F32 | {"shape": [1], "data_offsets": [0, 4]}}, "4 trailing bytes"),
    "no tensors": ({}, "8 trailing bytes"),
    "metadata": ({"__metadata__": {"a": 1}, "x": F32}, "__metadata__ must map strings"),
    "metadata list": ({"__metadata__": ["a"], "x": F32}, "__metadata__ must map strings"),
}
BAD_HEADERS = {
    "array": (b"[]", "does not start with '{'"),
    "space": (b" {}", "does not start with '{'"),
    "none": (b"", "does not start with '{'"),
    "json": (b'{"x":', "not UTF-8 JSON"),
    "utf-8": (b'{"\xff":{}}', "not UTF-8 JSON"),
    "more": (b"{}{}", "not UTF-8 JSON"),
    "duplicate": (b'{"x":1,"x":2}', r"duplicate key 'x'"),
    "duplicate field": (b'{"x":{"dtype":"F32","dtype":"F32"}}', r"duplicate key 'dtype'"),
    "deep": (b'{"x":' * 100_000, "not UTF-8 JSON"),
    "long number": (b'{"x":' + b"1" * 5000 + b"}", "not UTF-8 JSON"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_table(tmp_path, case):
    table, problem = BAD_TABLES[case]
    path = _file(tmp_path / "bad.safetensors", table)
    with pytest.raises(ValueError, match=rf"bad\.safetensors is no valid.*{problem}"):
        open_safetensors(path)


@pytest.mark.parametrize("case", BAD_HEADERS)
def test_bad_header(tmp_path, case):
    header, problem = BAD_HEADERS[case]
    path = _file(tmp_path / "bad.safetensors", None, header=header)
    with pytest.raises(ValueError, match=rf"bad\.safetensors is no valid.*{problem}"):
        open_safetensors(path)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "truncated"),
        (b"\2\0\0\0\0\0\0", "truncated"),
        (b"\3\0\0\0\0\0\0\0{}", "truncated, the header needs 11 bytes of 10"),
        (b"\xff" * 8 + b"{}", "more than 100000000"),
        (b"PK\3\4" + b"\0" * 20, "truncated"),
    ],
)
def test_bad_length(tmp_path, data, problem):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(ValueError, match=problem):
        open_safetensors(tmp_path / "a")


def test_every_truncation_is_noticed(tmp_path):
    save_safetensors(tmp_path / "a", {"x": np.ones(3, "float32"), "y": np.ones(2, "int8")})
    whole = (tmp_path / "a").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "b").write_bytes(whole[:length])
        with pytest.raises(ValueError, match="truncated"):
            open_safetensors(tmp_path / "b")
    (tmp_path / "b").write_bytes(whole + b"\0")
    with pytest.raises(ValueError, match="1 trailing bytes"):
        open_safetensors(tmp_path / "b")


def test_flipped_bits_in_the_header(tmp_path):
    """Every flip is refused, or is refused by nobody: names, metadata and equal-sized dtypes."""
    save_safetensors(tmp_path / "a", {"x": np.ones(3, "float32"), "y": np.ones(2, "int8")})
    whole = (tmp_path / "a").read_bytes()
    refused = []
    for bit in range(8 * (len(whole) - 14)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        (tmp_path / "b").write_bytes(flipped)
        try:
            opened = dict(open_safetensors(tmp_path / "b"))
        except ValueError as error:
            refused.append(str(error))
        else:
            assert_same(safetensors.numpy.load(bytes(flipped)), opened)
    assert all("b is no valid safetensors file" in text for text in refused)
    assert len(refused) > 0.9 * bit


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_safetensors(tmp_path / "a")


# -- failing to write -----------------------------------------------------------------------------


class _FullDisk:
    """A file that takes some bytes and then says what the system says."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.file.close()

    def writelines(self, parts):
        for part in parts:
            self.write(part)

    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(data)


def test_full_disk(tmp_path, monkeypatch):
    save_safetensors(tmp_path / "a", {"x": np.zeros(3)})
    before = (tmp_path / "a").read_bytes()

    def full(path, mode):
        return _FullDisk(open(path, mode), room=1000)

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "open", full, raising=False)
        with pytest.raises(OSError, match=r"No space left.*nothing was saved") as error:
            save_safetensors(tmp_path / "a", {"x": np.zeros(50), "y": np.zeros(500)})
    assert error.value.errno == errno.ENOSPC
    assert error.value.filename == str(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_failing_rename(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError, match="nothing was saved"):
        save_safetensors(tmp_path / "a", {"x": np.zeros(50)})
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing was saved"):
        save_safetensors(tmp_path / "none" / "a", {"x": np.zeros(50)})
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="nothing was saved"):
        save_safetensors(tmp_path / "file" / "a", {"x": np.zeros(50)})


@pytest.mark.parametrize(
    ("tensors", "metadata", "problem"),
    [
        (
            {"x": np.zeros(2, complex)},
            None,
            "tensor 'x' is complex128, safetensors takes float64, f",
        ),
        ({"x": np.array(["a"])}, None, "tensor 'x' is str"),
        ({"x": np.array([None])}, None, "tensor 'x' is object"),
        ({"__metadata__": np.zeros(2)}, None, "cannot be named '__metadata__'"),
        ({3: np.zeros(2)}, None, "cannot be named 3"),
        ({"x": np.zeros(2)}, {"a": 1}, "metadata must map strings to strings"),
    ],
)
def test_bad_arguments(tmp_path, tensors, metadata, problem):
    with pytest.raises(ValueError, match=problem):
        save_safetensors(tmp_path / "a", tensors, metadata)
    assert list(tmp_path.iterdir()) == []


def test_tensor_that_changes_while_it_is_saved(tmp_path):
    class Changing(dict):
        reads = 0

        def __getitem__(self, name):
            self.reads += 1
            return np.zeros(self.reads)

    with pytest.raises(ValueError, match="tensor 'x' changed while it was saved"):
        save_safetensors(tmp_path / "a", Changing(x=0))
    assert list(tmp_path.iterdir()) == []


def test_one_tensor_in_memory_at_a_time(tmp_path):
    """A mapping that makes its arrays when asked is written without holding all of them."""
    alive, most = set(), []

    class Lazy(dict):
        def __getitem__(self, name):
            array, key = np.zeros(1000), object()
            alive.add(key)
            weakref.finalize(array, alive.remove, key)
            most.append(len(alive))
            return array

    save_safetensors(tmp_path / "a", Lazy.fromkeys("abcdef"))
    assert max(most) <= 2
    assert len(open_safetensors(tmp_path / "a")) == 6
