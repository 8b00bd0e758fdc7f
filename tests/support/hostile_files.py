"""Damaged and hostile files out of a handful of small good ones, of every format of models."""

import base64
import copy
import io
import json
import marshal
import random
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import keraslite as keras
from keraslite import layers, saving
from keraslite.registry import serialize_keras_object
from keraslite.saving.archive import aligned_member

SENTINEL = "stress_sentinel"  # a module that says when it was imported
SECRET = "/etc/hostname"  # a file that others point to
_CONFIG, _H5, _SAFE = "config.json", "model.weights.h5", "model.safetensors"
_BOMB = bytes(64 * 2**20)


# -- good files -----------------------------------------------------------------------------------


def small() -> Any:
    """Return the model whose weights are in files of weights."""
    rows = layers.Dense(4, "relu", name="hidden"), layers.Dropout(0.5), layers.Dense(2, name="out")
    return keras.Sequential([keras.Input((3,)), *rows], name="small")


def _graph() -> Any:
    a, b = keras.Input((6, 6, 2), name="a"), keras.Input((4,), name="b")
    shared = keras.layers.Dense(3)
    x = layers.BatchNormalization()(layers.Conv2D(3, 2)(a))
    x = keras.ops.relu(layers.GlobalAveragePooling2D()(x)) * 2.0 + 1.0
    x = keras.ops.concatenate([shared(x), shared(layers.Dense(3)(b))], axis=-1)
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(4)], name="inner")
    model = keras.Model([a, b], {"y": inner(x), "z": keras.ops.sum(x, axis=-1)})
    model.compile("adam", {"y": "mse", "z": "mae"})
    return model


def _texts() -> Any:
    words = layers.TextVectorization(output_sequence_length=4, vocabulary=["one", "two"])
    text = keras.Input((), dtype="string")
    x = layers.Bidirectional(layers.LSTM(2))(layers.Embedding(6, 3, mask_zero=True)(words(text)))
    return keras.Model(text, layers.Dense(1)(x))


def good_files(folder: Path) -> list[Path]:
    """Write good files, and return their paths.

    Args:
        folder: where they are written.
    """
    with keras.use_backend("numpy"):
        model = small()
        model.compile(keras.optimizers.AdamW(1e-3), "mse", metrics=["mae"])
        model.save(folder / "small.keras")
        model.save(folder / "mapped.keras", weights_format="safetensors")
        model.save_weights(folder / "small.weights.h5")
        model.save_weights(folder / "small.safetensors")
        _graph().save(folder / "graph.keras")
        _texts().save(folder / "texts.keras")
        _save_klm(folder / "old.klm", folder / "mapped.keras")
        save_legacy(folder / "legacy.h5", model)
    return sorted(folder.iterdir())


def _save_klm(path: Path, mapped: Path) -> None:
    """Write what `.keras` files were before."""
    parts = members_of(mapped.read_bytes())
    config = {"model": json.loads(parts[_CONFIG])}
    write_members(path, {
        "metadata.json": json.dumps({"format": "keraslite model", "version": 2}).encode(),
        _CONFIG: json.dumps(config).encode(), _SAFE: parts[_SAFE],
    })  # fmt: skip


def save_legacy(path: Path, model: Any) -> None:
    """Write a whole model as Keras 2 did.

    Args:
        path: the file, which ends with `.h5`.
        model: a Sequential or functional model without nested ones.
    """
    with h5py.File(path, "w") as file:
        config = json.dumps(serialize_keras_object(model))
        file.attrs["model_config"] = json.dumps(json.loads(config, object_hook=_without_build))
        file.attrs["training_config"] = json.dumps(
            {"loss": "mse", "optimizer_config": {"class_name": "Adam", "config": {"lr": 0.01}}}
        )
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = np.array([x.name for x in model.layers], "S")
        for layer in model.layers:
            part = group.create_group(layer.name)
            names = [f"{layer.name}/{w.name}:0" for w in layer.weights]
            part.attrs["weight_names"] = np.array(names, "S")
            for name, weight in zip(names, layer.weights, strict=True):
                part[name] = np.asarray(weight.numpy())


def _without_build(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != "build_config"}


def load(path: Path) -> None:
    """Load a file as a user does, and read all its weights.

    Args:
        path: a file whose name ends as that of a good one.
    """
    if not path.name.endswith((".weights.h5", ".safetensors")):
        model = saving.load_model(path, backend="numpy")
        _ = [w.numpy() for w in model.weights]
        return
    with keras.use_backend("numpy"):
        model = small()
        before = [w.numpy() for w in model.weights]
        try:
            model.load_weights(path)
        except (ValueError, OSError):
            after = [w.numpy() for w in model.weights]
            if not all(map(np.array_equal, before, after)):
                raise AssertionError("a part of the weights was loaded") from None
            raise
        _ = [w.numpy() for w in model.weights]


# -- archives -------------------------------------------------------------------------------------


def members_of(data: bytes) -> dict[str, bytes]:
    """Return the members of an archive."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_members(target: Any, members: dict[str, bytes], packing: int = 0) -> None:
    """Write an archive, with right check sums."""
    with warnings.catch_warnings(), zipfile.ZipFile(target, "w", packing) as archive:
        warnings.simplefilter("ignore")
        for name, data in members.items():
            info = aligned_member(name, archive.start_dir)
            info.compress_type = packing
            archive.writestr(info, data)


def _archive(members: dict[str, bytes], packing: int = 0) -> bytes:
    buffer = io.BytesIO()
    write_members(buffer, members, packing)
    return buffer.getvalue()


# -- any file -------------------------------------------------------------------------------------


def _truncate(r: random.Random, data: bytes) -> bytes:
    return data[: r.randrange(len(data))]


def _flip(r: random.Random, data: bytes) -> bytes:
    """Flip some bits, more often near the ends, where headers and indexes are."""
    changed = bytearray(data)
    reach = r.choice([64, 512, 4096, len(data)])
    for _ in range(r.choice([1, 1, 2, 8, 64])):
        place = min(r.randrange(reach), len(data) - 1)
        changed[place if r.random() < 0.5 else -1 - place] ^= 1 << r.randrange(8)
    return bytes(changed)


def _splice(r: random.Random, data: bytes) -> bytes:
    """Write zeros, large numbers or noise over a piece, repeat it or leave it out."""
    start, length = r.randrange(len(data)), r.choice([1, 2, 4, 8, 100, 1000])
    piece = data[start : start + length]
    new = r.choice([b"", piece * 2, bytes(len(piece)), b"\xff" * len(piece), r.randbytes(length),
                    struct.pack("<Q", 2 ** r.randrange(64))])  # fmt: skip
    return data[:start] + new + data[start + length :]


ANY = (_truncate, _flip, _flip, _splice)


# -- configs --------------------------------------------------------------------------------------

_CODE = base64.encodebytes(marshal.dumps(compile("open('EXECUTED', 'w')", "x", "exec"))).decode()
_EVIL: tuple[Any, ...] = (
    {"module": SENTINEL, "class_name": "Evil", "config": {}, "registered_name": "Evil"},
    {"module": SENTINEL, "class_name": "function", "config": "evil", "registered_name": "evil"},
    {"module": "os", "class_name": "system", "config": {"command": "touch EXECUTED"}},
    {"module": "builtins", "class_name": "function", "config": "eval", "registered_name": "eval"},
    {"module": "builtins", "class_name": "exec", "config": "open('EXECUTED', 'w')"},
    {"module": "keras.layers", "class_name": "Lambda", "build_config": {"input_shape": [None, 3]},
     "config": {"name": "l", "function": {"class_name": "__lambda__", "config": {
         "code": _CODE, "defaults": None, "closure": None}}}},
    {"class_name": "__lambda__", "config": {"code": _CODE, "defaults": None, "closure": None}},
    {"module": "keras.layers", "class_name": "Lambda", "config": {"function": "os.system"}},
    {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/tmp"}},
    {"module": "keras.layers", "class_name": "TorchModuleWrapper", "config": {
        "module": base64.b64encode(b"cos\nsystem\n(S'touch EXECUTED'\ntR.").decode()}},
    {"module": "keras.layers", "class_name": "StringLookup",
     "config": {"vocabulary": "/etc/hostname"}, "build_config": {"input_shape": [None]}},
    {"module": "keras.utils", "class_name": "get_file",
     "config": {"fname": "EXECUTED", "origin": "file:///etc/hostname", "cache_dir": "."}},
    {"module": "keras.models", "class_name": "load_model", "config": {"filepath": "x.keras"}},
    {"module": "keras.callbacks", "class_name": "CSVLogger", "config": {"filename": "EXECUTED"}},
    {"module": "keras.callbacks", "class_name": "TensorBoard", "config": {"log_dir": "EXECUTED"}},
    {"module": "keras.callbacks", "class_name": "BackupAndRestore",
     "config": {"backup_dir": "EXECUTED"}},
    {"class_name": "__numpy__", "config": {"value": [1] * 1000, "dtype": "object"}},
    {"class_name": "__numpy__", "config": {"value": "x" * 1000, "dtype": "O8"}},
    {"class_name": "__tensor__", "config": {"value": 1e999, "dtype": "int32"}},
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2, 2**31, 2**33, 2**40, 2**63, 10**30, 10**400, 0.5, -1e308, float("nan"),
    float("inf"), "", "x", "../../x", "/etc/hostname", "x" * 100_000, "\0", "\ud800", [], {}, [None],
    [[[]]], [2**40, 2**40], [1] * 100_000, [None, 2**40], [-1, -1], {"class_name": "Dense"},
    {"class_name": "Dense", "config": None}, "relu", "bfloat16", "float8", "string", "{0.__class__}",
)  # fmt: skip


def _places(value: Any) -> list[tuple]:
    """Return the paths of all entries of nested dicts and lists, that of the whole first."""
    paths, left = [], [((), value)]
    while left:
        at, item = left.pop()
        paths.append(at)
        items = item.items() if isinstance(item, dict) else ()
        items = enumerate(item) if isinstance(item, list) else items
        left += [((*at, key), x) for key, x in items][:500]
    return paths


def _public_class(r: random.Random) -> dict[str, Any]:
    """Return the config of any public class, as it would be made by its name."""
    part = r.choice(["layers", "losses", "metrics", "optimizers", "initializers", "callbacks",
                     "models", "random", "quantizers", "optimizers.schedules"])  # fmt: skip
    module: Any = keras
    for name in part.split("."):
        module = getattr(module, name)
    name = r.choice([n for n in dir(module) if not n.startswith("_")])
    config = {} if r.random() < 0.5 else {"filepath": "EXECUTED", "units": r.choice(_VALUES)}
    return {"module": f"keras.{part}", "class_name": name, "config": config}


def _nested(r: random.Random, value: Any) -> Any:
    """Return a value deep inside layers inside layers, or lists inside lists."""
    for _ in range(r.choice([20, 90, 400])):
        value = r.choice([
            [value], {"x": value},
            {"module": "keras.layers", "class_name": "TimeDistributed", "config": {"layer": value}},
        ])  # fmt: skip
    return value


def _hostile(r: random.Random, old: Any) -> Any:
    choice = r.random()
    if choice < 0.3:
        return copy.deepcopy(r.choice(_EVIL))
    if choice < 0.4:
        return _public_class(r)
    if choice < 0.5:
        return _nested(r, old)
    if isinstance(old, int) and choice < 0.75:
        return r.choice([-old, old + 1, old * 2**20, old * 2**33, 2**62, old * 1000])
    return r.choice(_VALUES)


def _crafted(r: random.Random, text: bytes) -> bytes:
    """Change some entries of a config, or all of it."""
    if r.random() < 0.1:
        whole = (b"", b"[]", b"{", b"\xff\xfe", b"[" * 200_000, b'{"a":' * 200_000, b"1" * 10_000,
                 b'{"class_name": "Sequential", "config": ' + b"[" * 50_000)  # fmt: skip
        return r.choice(whole)
    config = json.loads(text)
    for _ in range(r.choice([1, 1, 1, 2, 5])):
        *path, last = r.choice(_places(config)[1:])
        item = config
        for key in path:
            item = item[key]
        choice = r.random()
        if choice < 0.15:
            del item[last]
        elif choice < 0.25:
            item[last] = copy.deepcopy(_at(config, r.choice(_places(config))))
        else:
            item[last] = _hostile(r, item[last])
    try:
        return json.dumps(config).encode()
    except RecursionError:
        return b"[" * 100_000


def _at(value: Any, path: tuple) -> Any:
    for key in path:
        value = value[key]
    return value


# -- HDF5 -----------------------------------------------------------------------------------------


def _changed_h5(r: random.Random, data: bytes) -> bytes:
    """Damage an HDF5 file, or change what is in it."""
    if r.random() < 0.5:
        return r.choice(ANY)(r, data)
    buffer = io.BytesIO(data)
    with h5py.File(buffer, "r+") as file:
        groups: list[str] = ["/"]
        arrays: list[str] = []
        file.visititems(lambda n, x: (arrays if isinstance(x, h5py.Dataset) else groups).append(n))
        r.choice(_H5_CHANGES)(r, file, r.choice(arrays), r.choice(groups))
    return buffer.getvalue()


def _replaced(make: Callable[[Any, str, Any], Any]) -> Callable:
    def change(r: random.Random, file: Any, array: str, group: str) -> None:
        old = file[array]
        del file[array]
        make(file, array, old)

    return change


def _external(file: Any, name: str, old: Any) -> None:
    file.create_dataset(name, old.shape, "f4", external=[(SECRET, 0, 4096)])


def _virtual(file: Any, name: str, old: Any) -> None:
    layout = h5py.VirtualLayout(old.shape, "f4")
    layout[...] = h5py.VirtualSource(SECRET, "x", old.shape)
    file.create_virtual_dataset(name, layout)


def _huge(file: Any, name: str, old: Any) -> None:
    file.create_dataset(name, (2**20, 2**20), "f4", chunks=(2**10, 2**10), compression="gzip")


def _packed(file: Any, name: str, old: Any) -> None:
    file.create_dataset(name, (2**13, 2**13), "f4", chunks=(2**13, 2**13), compression="gzip")
    packed = zlib.compress(zlib.compress(bytes(2**24)))
    file[name].id.write_direct_chunk((0, 0), packed)


def _deep(r: random.Random, file: Any, array: str, group: str) -> None:
    file.create_dataset("/".join(["x"] * r.choice([10, 100, 1000])), data=[1.0])


def _loop(r: random.Random, file: Any, array: str, group: str) -> None:
    file[group]["again"] = file[r.choice(["/", group])]


def _attribute(r: random.Random, file: Any, array: str, group: str) -> None:
    """Change an attribute: of a config, of a list of names, or a new one."""
    names = list(file[group].attrs)
    name = r.choice(names) if names else "layer_names"
    if name.endswith("config"):
        file.attrs[name] = _crafted(r, file.attrs[name].encode()).decode("latin-1")
        return
    values = ["x", [b"../../x"], [b"x"] * 1000, 1.5, np.zeros((3, 3)), h5py.Empty("f4"),
              [b"\xff"], "\u2028"]  # fmt: skip
    file[group].attrs[name] = r.choice(values)


_H5_CHANGES: tuple[Callable, ...] = (
    _replaced(lambda f, n, old: f.__setitem__(n, h5py.SoftLink("/layers"))),
    _replaced(lambda f, n, old: f.__setitem__(n, h5py.ExternalLink(SECRET, "/x"))),
    _replaced(lambda f, n, old: f.__setitem__(n, "text")),
    _replaced(lambda f, n, old: f.__setitem__(n, np.zeros((old.size + 1,), "f4"))),
    _replaced(lambda f, n, old: f.__setitem__(n, np.zeros(old.shape, "c16"))),
    _replaced(lambda f, n, old: f.__setitem__(n, np.zeros(old.shape, [("a", "f4")]))),
    _replaced(lambda f, n, old: f.__setitem__(n, h5py.Empty("f4"))),
    _replaced(lambda f, n, old: f.create_group(n)),
    _replaced(lambda f, n, old: None),
    _replaced(_external), _replaced(_virtual), _replaced(_huge), _replaced(_packed),
    _deep, _loop, _attribute, _attribute, _attribute,
)  # fmt: skip


# -- safetensors ----------------------------------------------------------------------------------


def _changed_safetensors(r: random.Random, data: bytes) -> bytes:
    """Damage a safetensors file, or its header."""
    if r.random() < 0.4:
        return r.choice(ANY)(r, data)
    length = int.from_bytes(data[:8], "little")
    header = _crafted(r, data[8 : 8 + length])
    size = r.choice([len(header)] * 4 + [2**40, 2**63, 0, len(header) + 1])
    return size.to_bytes(8, "little") + header + data[8 + length :]


# -- zip ------------------------------------------------------------------------------------------


def _named(r: random.Random, data: bytes) -> bytes:
    """Add a member of a hostile name or type."""
    buffer = io.BytesIO(data)
    info = zipfile.ZipInfo("x")
    info.filename = r.choice([
        "../EXECUTED", "/tmp/EXECUTED", "assets/../../EXECUTED", "assets\\..\\EXECUTED", "C:/x",
        "assets//x", "assets/./x", "assets/x/", "config.json", "assets", "assets/" + "d/" * 300 + "x",
        "assets/" + "x" * 60_000, "assets/layers", "assets/nul\n", "assets/\u202e.txt",
    ])  # fmt: skip
    info.external_attr = r.choice([0, 0, 0o120777 << 16, 0o060666 << 16, 0o040755 << 16])
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr(info, r.choice([SECRET.encode(), b"x", b""]))
    return buffer.getvalue()


def _bomb(r: random.Random, data: bytes) -> bytes:
    """Pack a member that is far larger than the file."""
    members = members_of(data)
    name = r.choice([*members, "assets/layers/x/vocabulary.txt", "unknown"])
    members[name] = r.choice([_BOMB, b" " * 2**23 + members.get(name, b""), b"[" * 2**23])
    packing = r.choice([zipfile.ZIP_DEFLATED] * 3 + [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    return _archive(members, packing if len(members[name]) < len(_BOMB) else zipfile.ZIP_DEFLATED)


def _index(r: random.Random, data: bytes) -> bytes:
    """Change sizes, offsets and flags in the index, which lies at the end."""
    changed = bytearray(data)
    entries = [i for i in range(len(data) - 4) if data[i : i + 4] == b"PK\x01\x02"]
    for _ in range(r.choice([1, 2])):
        at = r.choice(entries) + r.choice([6, 8, 10, 16, 20, 24, 28, 30, 38, 42])
        new = r.choice([b"\xff\xff\xff\xff", bytes(4), r.randbytes(4), r.randbytes(2), b"\x01"])
        changed[at : at + len(new)] = new
    return bytes(changed)


def _many(r: random.Random, data: bytes) -> bytes:
    return _archive(members_of(data) | {f"assets/{i}": b"" for i in range(2000)})


def _changed_archive(r: random.Random, data: bytes) -> bytes:
    """Change a member of an archive, with a right check sum, or the archive around the members."""
    choice = r.random()
    if choice < 0.02:
        return _bomb(r, data)
    if choice < 0.03:
        return _many(r, data)
    if choice < 0.2:
        return r.choice([_named, _index])(r, data)
    members = members_of(data)
    weights = [(_H5, _changed_h5), (_SAFE, _changed_safetensors),
               ("keraslite.safetensors", _changed_safetensors)]  # fmt: skip
    changes = [(_CONFIG, _crafted)] * 4 + [(n, f) for n, f in weights if n in members]
    others = [n for n in members if n.startswith("assets/") or n == "metadata.json"]
    changes += [(name, r.choice(ANY)) for name in others[:1]]
    name, change = r.choice(changes)
    members[name] = change(r, members[name])
    return _archive(members)


# -- all ------------------------------------------------------------------------------------------

_BY_ENDING = {
    ".keras": _changed_archive, ".klm": _changed_archive, ".h5": _changed_h5,
    ".safetensors": _changed_safetensors,
}  # fmt: skip


def damaged(r: random.Random, path: Path) -> bytes:
    """Return the bytes of a good file after one or two damages.

    Args:
        r: what chooses them.
        path: the good file.
    """
    data = path.read_bytes()
    if r.random() < 0.25:
        data = r.choice(ANY)(r, data)
        return r.choice(ANY)(r, data) if data and r.random() < 0.2 else data
    return _BY_ENDING[path.suffix](r, data)
