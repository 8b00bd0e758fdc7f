"""`.bin` checkpoints: what torch writes is read without torch, and hostile files do nothing."""

import io
import os
import pickle
import resource
import zipfile
from collections import OrderedDict

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
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"model\.bin cannot be read: .*Download it again"):
        opened(tmp_path, with_pickle(HOSTILE[name]))
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
