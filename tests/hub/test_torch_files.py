"""`.bin` checkpoints: what torch writes is read without torch, and hostile files do nothing."""

import argparse
import io
import json
import os
import pickle
import pickletools
import re
import resource
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

import keraslite
from hub.presets.files import resolve
from hub.weights.reader import open_weights
from hub.weights.torch_files import open_torch

DTYPES = (
    torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int32,
    torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64,
)  # fmt: skip


def state_dict():
    base = torch.arange(24.0)
    found = {str(d): (torch.arange(6) % 2).to(d).reshape(2, 3) for d in DTYPES}
    return found | {
        "transposed": base.reshape(4, 6).t(), "part": base.reshape(4, 6)[1:3, 2:5],
        "shared": base[3:7], "scalar": torch.tensor(7.0), "empty": torch.zeros(0, 3),
        "expanded": torch.tensor([5.0]).expand(4), "parameter": torch.nn.Parameter(base[:2]),
        "every second": base[::2],
    }  # fmt: skip


def saved(content, **options):
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def opened(tmp_path, data):
    path = tmp_path / "model.bin"
    path.write_bytes(data)
    return open_torch(path)


@pytest.mark.parametrize("wrap", [dict, OrderedDict, lambda x: {"state_dict": x, "epoch": 3}])
@pytest.mark.parametrize("protocol", [2, 4])
def test_reads_what_torch_writes(tmp_path, wrap, protocol):
    expected = state_dict()
    file = opened(tmp_path, saved(wrap(expected), pickle_protocol=protocol))
    assert list(file) == list(expected)
    for name, tensor in expected.items():
        want = keraslite.backend.to_numpy(tensor.detach())
        got = file[name]
        assert (got.dtype, got.shape) == (want.dtype, want.shape), name
        assert file.shape(name) == want.shape
        np.testing.assert_array_equal(got, want, err_msg=name)
        file.release(name)


def test_reads_the_state_of_a_module(tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    file = opened(tmp_path, saved(module.state_dict()))  # it has _metadata
    for name, tensor in module.state_dict().items():
        np.testing.assert_array_equal(file[name], tensor.numpy(), err_msg=name)


def test_writing_to_an_array_leaves_the_file(tmp_path):
    file = opened(tmp_path, saved({"x": torch.zeros(3)}))
    file["x"][:] = 1
    assert not open_torch(file.path)["x"].any()


def test_shards_behind_an_index(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "pytorch_model-00001-of-00002.bin")
    torch.save({"b": torch.zeros(3)}, tmp_path / "pytorch_model-00002-of-00002.bin")
    (tmp_path / "pytorch_model.bin.index.json").write_text(
        '{"weight_map": {"a": "pytorch_model-00001-of-00002.bin", '
        '"b": "pytorch_model-00002-of-00002.bin"}}'
    )
    weights = open_weights(resolve(tmp_path))
    assert {n: weights.shape(n) for n in weights} == {"a": (2,), "b": (3,)}


class Payload:
    """Pickles as a call of os.system, as an attacker would have it."""

    def __init__(self, call, *args):
        self.call, self.args = call, args

    def __reduce__(self):
        return self.call, self.args


def with_pickle(pickled):
    """A checkpoint whose data.pkl is replaced."""
    source = zipfile.ZipFile(io.BytesIO(saved({"x": torch.zeros(4)})))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for info in source.infolist():
            data = pickled if info.filename.endswith("data.pkl") else source.read(info)
            archive.writestr(info.filename, data)
    return out.getvalue()


def _global(name):
    return b"\x80\x02c" + name.replace(" ", "\n").encode() + b"\n."


HOSTILE = {
    "system": pickle.dumps(Payload(os.system, "touch hacked"), 2),
    "eval": pickle.dumps(Payload(eval, "1"), 4),
    "getattr": pickle.dumps({"x": Payload(getattr, "", "join")}, 2),
    "torch.load": _global("torch load"),
    "not a tensor": pickle.dumps({"x": [1, 2]}, 2),
    "no dict": pickle.dumps([1, 2], 2),
    "a number as name": pickle.dumps({1: 2}, 2),
    "instance": b"(i__main__\nPayload\n.",
    "extension": b"\x80\x02\x82\x01.",
    "a huge memo": b"\x80\x02}r\xff\xff\xff\x7f.",
    "a long string": b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f" + b"x.",
    "no stop": b"\x80\x02}",
    "empty": b"",
    "deep": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "laughs": b"\x80\x02]" + b"(2lq\x00".join([b""] * 60) + b".",
    "a dict in itself": b"\x80\x02}q\x00X\x01\x00\x00\x00xh\x00s.",
    "a dict of dicts": b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s.",
    "unhashable": b"\x80\x02}}Ns.",
    "a key whose hash takes for ever": b"\x80\x02})" + b"2\x86" * 60 + b"Ns.",
    "a call of a call": pickle.dumps(Payload(os.system, "touch hacked"), 2)[:-1] + b")R.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"model\.bin cannot be read: .*Download it again"):
        opened(tmp_path, with_pickle(HOSTILE[name]))
    assert not (tmp_path / "hacked").exists()


# -- pickled modules --------------------------------------------------------------------------------


class Bag(dict):
    """A dict of a class that a reader does not know."""


class Layer(torch.nn.Module):
    """A module with all that attributes of a checkpoint have been seen to be."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 2, bias=False)
        self.norm = torch.nn.BatchNorm1d(2)
        self.act, self.nothing = torch.nn.SiLU(), None
        self.register_buffer("kept", torch.arange(4)[::2])
        self.register_buffer("dropped", torch.zeros(2), persistent=False)
        self.register_buffer("none", None)
        self.scale = torch.nn.Parameter(torch.ones(2))
        self.names = {0: "cat", 1: "dog"}
        self.settings = argparse.Namespace(path=Path("a"), sizes=Bag(x=1), raw=b"\x00", n=2**70)
        self.further = [{3, 4}, frozenset("a"), np.float64(1.5), np.arange(2), torch.device("cpu")]
        self.function, self.shape, self.step = torch.relu, torch.Size([1, 2]), torch.float16


@pytest.fixture
def authors(monkeypatch):
    """Let classes of this file be those of a package that a reader does not have."""
    package = types.ModuleType("authors_code")
    for cls in (Bag, Layer):
        setattr(package, cls.__name__, cls)
        monkeypatch.setattr(cls, "__module__", package.__name__)
    monkeypatch.setitem(sys.modules, package.__name__, package)
    return monkeypatch


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda module: module,
        lambda module: {"epoch": 3, "model": module, "ema": None, "optimizer": None},
        lambda module: {"model": None, "ema": module, "updates": 7, "date": "today"},
    ],
)
def test_modules_are_read_as_their_state_dicts(tmp_path, authors, wrap, protocol):
    module = torch.nn.Sequential(Layer(), torch.nn.ModuleList([Layer()])).half()
    module.names = {0: "cat", 1: "dog"}
    data, expected = saved(wrap(module), pickle_protocol=protocol), module.state_dict()
    authors.undo()
    file = opened(tmp_path, data)
    assert "authors_code" not in sys.modules
    assert set(file) == set(expected)
    assert "0.dropped" not in file
    for name, tensor in expected.items():
        assert file[name].dtype == keraslite.backend.to_numpy(tensor).dtype
        np.testing.assert_array_equal(file[name], tensor.numpy(), err_msg=name)
    assert json.loads(file.metadata["names"]) == {"0": "cat", "1": "dog"}


class Described:
    """Pickles as an instance of a class that does not exist, with a state."""

    def __init__(self, **state):
        self.state = {"_parameters": {}, "_buffers": {}, "_modules": {}, **state}

    def __reduce__(self):
        return Payload, (os.system, "touch hacked"), self.state


def _nested(depth, names):
    """Return a module inside another and so on, the same one under several names."""
    module = Described()
    for _ in range(depth):
        module = Described(_modules=dict.fromkeys(names, module))
    return module


def _in_itself():
    module = Described()
    module.state["_modules"]["x"] = module
    return module


MODULES = {
    "no module inside": lambda: Described(_modules={"x": 3}),
    "a call inside": lambda: Described(_parameters={"x": Payload(os.system, "touch hacked")}),
    "in itself": _in_itself,
    "of endless depth": lambda: _nested(10, ["x" * 99]),
    "of endless width": lambda: _nested(40, "ab"),
    "a long name": lambda: Described(_modules={"x" * 10**6: Described()}),
    "no names": lambda: Described(_parameters={3: 4}, names={0: 1}),
    "empty": Described,
}


@pytest.mark.parametrize("name", MODULES)
def test_hostile_modules_are_refused(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps({"model": MODULES[name]()}, 2)
    with pytest.raises(ValueError, match=r"model\.bin cannot be read: .*Download it again"):
        opened(tmp_path, with_pickle(pickled))
    assert not (tmp_path / "hacked").exists()


def test_what_is_beside_the_tensors_is_never_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    beside = pickle.dumps({"optimizer": Payload(os.system, "touch hacked")}, 2)
    saved_dict = {"state_dict": {"x": torch.zeros(4)}, "hook": "S"}
    source = zipfile.ZipFile(io.BytesIO(saved(saved_dict)))
    pickled = source.read(next(n for n in source.namelist() if n.endswith("data.pkl")))
    # the call takes the place of the string beside the tensors
    place = next(a for op, a, _ in pickletools.genops(pickled) if a == "S")
    call = beside[beside.index(b"c") : beside.index(b"R") + 1]
    start = pickled.index(b"X\x01\x00\x00\x00" + place.encode())
    pickled = pickled[:start] + re.sub(rb"q.", b"", call) + pickled[start + 6 :]
    file = opened(tmp_path, with_pickle(pickled))
    assert list(file) == ["x"]
    assert not (tmp_path / "hacked").exists()


def _tampered(change):
    """A checkpoint in which a tensor is described by other numbers."""

    class Tensor:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, change

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            return ("storage", torch.FloatStorage, "0", "cpu", 4) if obj == "S" else None

    out = io.BytesIO()
    Pickler(out, 2).dump({"x": Tensor()})
    return with_pickle(out.getvalue())


@pytest.mark.parametrize(
    "change",
    [
        ("S", 0, (5,), (1,), False, None), ("S", 1, (4,), (1,), False, None),
        ("S", -1, (2,), (1,), False, None), ("S", 0, (2,), (-1,), False, None),
        ("S", 0, (2**62, 2**62), (1, 1), False, None), ("S", 0, (2, 2), (1,), False, None),
        ("S", 0, (2,), (4,), False, None), ("S", 0.5, (2,), (1,), False, None),
        ("S", 0, ("a",), (1,), False, None), ("S", 0), ("T", 0, (2,), (1,), False, None),
    ],
)  # fmt: skip
def test_tensors_beyond_their_storage_are_refused(tmp_path, change):
    assert opened(tmp_path, _tampered(("S", 1, (3,), (1,), False, None)))["x"].shape == (3,)
    with pytest.raises(ValueError, match="cannot be read"):
        opened(tmp_path, _tampered(change))


def test_other_formats_are_named(tmp_path):
    legacy = saved({"x": torch.zeros(2)}, _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=r"before 1\.6"):
        opened(tmp_path, legacy)
    with pytest.raises(ValueError, match="no zip file"):
        opened(tmp_path, b"<html>404</html>")
    data = saved({"x": torch.zeros(2)})
    source, out = zipfile.ZipFile(io.BytesIO(data)), io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for info in source.infolist():
            archive.writestr(info.filename, source.read(info))
    with pytest.raises(ValueError, match="compressed"):
        opened(tmp_path, out.getvalue())
    with pytest.raises(FileNotFoundError):
        open_torch(tmp_path / "none.bin")


def test_five_thousand_damaged_files(tmp_path):
    """Each is read rightly or refused with one clear error, and takes no memory to speak of."""
    data = saved({f"layer.{i}.weight": torch.arange(8.0).reshape(2, 4) for i in range(3)})
    rng = np.random.default_rng(0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read = refused = 0
    path = tmp_path / "model.bin"
    for round_ in range(5000):
        bad = bytearray(data)
        if round_ % 3 == 0:
            bad = bad[: rng.integers(0, len(bad))]
        else:
            for at in rng.integers(0, len(bad), rng.integers(1, 6)):
                bad[at] = rng.integers(0, 256) if round_ % 3 == 1 else bad[at] ^ (1 << at % 8)
        path.write_bytes(bytes(bad))
        try:
            file = open_torch(path)
        except ValueError as error:
            refused += "cannot be read" in str(error)
            continue
        read += 1
        assert sum(file[name].nbytes for name in file) <= 2 * len(data)
    assert read + refused == 5000
    assert refused > 2500
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
