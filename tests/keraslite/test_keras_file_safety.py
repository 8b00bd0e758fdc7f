"""Damaged and hostile files in Keras's format: one clear error, and nothing of them runs."""

import base64
import contextlib
import io
import json
import marshal
import os
import shutil
import tracemalloc
import warnings
import zipfile

import h5py
import numpy as np
import pytest

import keraslite
from keraslite import layers, models, saving

WEIGHTS = "model.weights.h5"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A model with weights, a random state and a vocabulary."""
    path = tmp_path_factory.mktemp("whole") / "m.keras"
    with keraslite.use_backend("numpy"):
        model = models.Sequential(
            [layers.Input((4,)), layers.Dense(8, "relu"), layers.Dropout(0.5), layers.Dense(3)]
        )
        model.save(path)
    return path


def members_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def written(folder, members, compression=zipfile.ZIP_STORED):
    path = folder / "changed.keras"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def assert_refused(path, match=None, **options):
    """Loading is a ValueError that names the file."""
    with pytest.raises(ValueError, match=match) as info, keraslite.use_backend("numpy"):
        saving.load_model(path, **options)
    assert str(path) in str(info.value)


def with_config(folder, whole, change):
    members = members_of(whole)
    config = json.loads(members["config.json"])
    change(config)
    return written(folder, members | {"config.json": json.dumps(config)})


def with_h5(folder, whole, change):
    members = members_of(whole)
    buffer = io.BytesIO(members[WEIGHTS])
    with h5py.File(buffer, "r+") as file:
        change(file)
    return written(folder, members | {WEIGHTS: buffer.getvalue()})


def test_files_of_tf_keras_say_what_to_do(whole, tmp_path):
    members = members_of(whole) | {"metadata.json": json.dumps({"keras_version": "2.15.0"})}
    assert_refused(written(tmp_path, members), r"saved by tf.keras 2.15.0.*save the model as \.h5")


def test_files_that_are_cut_off(whole, tmp_path):
    data = whole.read_bytes()
    path = tmp_path / "cut.keras"
    for length in (0, 1, 30, *range(100, len(data), len(data) // 12), len(data) - 1):
        path.write_bytes(data[:length])
        assert_refused(path)


def test_each_flipped_byte_is_seen(whole, tmp_path):
    data = whole.read_bytes()
    rng = np.random.default_rng(0)
    with keraslite.use_backend("numpy"):
        want = [w.tolist() for w in saving.load_model(whole).get_weights()]
    path = tmp_path / "flipped.keras"
    for place in rng.integers(0, len(data), 150):
        changed = bytearray(data)
        changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        with keraslite.use_backend("numpy"), contextlib.suppress(ValueError):
            model = saving.load_model(path)
            # A byte of no meaning: a date of the archive, its padding.
            assert [w.tolist() for w in model.get_weights()] == want


@pytest.mark.parametrize(
    "name", ["../evil", "/tmp/evil", "assets/../../evil", "assets\\..\\evil", "assets//x", "a\0b"]
)
def test_names_that_leave_the_archive(name, whole, tmp_path):
    path = tmp_path / "named.keras"
    shutil.copy(whole, path)
    info = zipfile.ZipInfo("x")
    info.filename = name
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(info, b"evil")
    if "\0" not in name:  # zipfile ends the name there
        assert_refused(path, "a member of the name")
    assert os.listdir(tmp_path) == ["named.keras"]


def test_links_and_doubles_in_archives(whole, tmp_path):
    link = zipfile.ZipInfo("assets/layers/dense/vocabulary.txt")
    link.external_attr = 0o120777 << 16
    path = tmp_path / "link.keras"
    shutil.copy(whole, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    assert_refused(path, "no plain file, but a link")
    shutil.copy(whole, path)
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("config.json", "{}")
    assert_refused(path, "two members of one name")


def test_links_out_of_folders(whole, tmp_path):
    folder = tmp_path / "model"
    with zipfile.ZipFile(whole) as archive:
        archive.extractall(folder)
    with keraslite.use_backend("numpy"):
        saving.load_model(folder)
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "assets").mkdir()
    os.symlink(tmp_path / "secret.txt", folder / "assets" / "vocabulary.txt")
    assert_refused(folder, "a link to another folder")


def test_bombs(whole, tmp_path):
    members = members_of(whole)
    packed = written(tmp_path, members, zipfile.ZIP_DEFLATED)
    with keraslite.use_backend("numpy"):  # packed by another tool
        saving.load_model(packed)
    bomb = written(tmp_path, members | {WEIGHTS: bytes(200 * 2**20)}, zipfile.ZIP_DEFLATED)
    tracemalloc.start()
    assert_refused(bomb, "is said to have")
    assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    tracemalloc.stop()


def _huge(file):
    del file["layers/dense/vars/0"]
    file.create_dataset("layers/dense/vars/0", (2**20, 2**20), "f4", chunks=(2**10, 2**10),
                        compression="gzip")  # fmt: skip


def _link(link):
    def change(file):
        del file["layers/dense/vars/0"]
        file["layers/dense/vars/0"] = link

    return change


def _virtual(file):
    layout = h5py.VirtualLayout((4, 8), "f4")
    layout[:] = h5py.VirtualSource("/etc/hostname", "x", (4, 8))
    del file["layers/dense/vars/0"]
    file["layers/dense/vars"].create_virtual_dataset("0", layout)


def _external(file):
    del file["layers/dense/vars/0"]
    external = [("/etc/hostname", 0, 128)]
    file["layers/dense/vars"].create_dataset("0", (4, 8), "f4", external=external)


def _text(file):
    del file["layers/dense/vars/1"]
    file["layers/dense/vars/1"] = "text"


def _shape(file):
    del file["layers/dense/vars/0"]
    file["layers/dense/vars/0"] = np.zeros((4, 9), "f4")


def _lacks(file):
    del file["layers/dense_1"]


def _more(file):
    file["layers/another/vars/0"] = np.zeros(3, "f4")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (_huge, "are stored"),
        (_link(h5py.SoftLink("/layers/dense_1/vars/0")), "a soft link"),
        (_link(h5py.ExternalLink("/etc/hostname", "/x")), "an external link"),
        (_virtual, "a virtual array"),
        (_external, "external storage"),
        (_text, "expected floating numbers"),
        (_shape, r"kernel: the model's shape is \(4, 8\), the file's \(4, 9\)"),
        (_lacks, r"layers/dense_1: 'dense_\d+' has the 2 variables .* the file 0"),
        (_more, "no place for: layers/another"),
    ],
)
def test_arrays(change, match, whole, tmp_path):
    assert_refused(with_h5(tmp_path, whole, change), match)


def _class(**entry):
    def change(config):
        config["config"]["layers"][1] |= {"registered_name": None, "build_config": None} | entry

    return change


@pytest.mark.parametrize(
    "change",
    [
        _class(module="os", class_name="system", config={"command": "touch {folder}/evil"}),
        _class(module="builtins", class_name="eval", config={"source": "1"}),
        _class(module="keras.models", class_name="load_model", config={"filepath": "evil.keras"}),
        _class(module="keras.saving", class_name="enable_unsafe_deserialization", config={}),
        _class(module="keras.utils", class_name="get_file", config={"origin": "http://evil"}),
        _class(module="keras.config", class_name="set_floatx", config={"value": "float64"}),
        _class(module="keras.src.saving.saving_lib", class_name="load_model", config={}),
        _class(module="keras.layers", class_name="_Hidden", config={}),
        _class(module="keras.layers", class_name=["Dense"], config={}),
        _class(module="builtins", class_name="function", config="os.system"),
        _class(module=None, class_name="__lambda__", config={"value": "x"}),
        _class(class_name="Dense", config={"units": "many"}),
        _class(class_name="Dense", config={"units": 8, "activation": {
            "module": "builtins", "class_name": "function", "config": "eval"}}),
        lambda config: config.pop("config"),
        lambda config: config["config"].pop("layers"),
        lambda config: config["config"].update(layers=3),
        lambda config: config["config"].update(layers=[None]),
    ],
)  # fmt: skip
def test_configs(change, whole, tmp_path):
    assert_refused(with_config(tmp_path, whole, change))
    assert os.listdir(tmp_path) == ["changed.keras"]


def test_errors_say_what_to_do_about_a_users_objects(whole, tmp_path):
    own = _class(module=None, class_name="Double", registered_name="Double", config={})
    assert_refused(with_config(tmp_path, whole, own), r"Unknown object 'Double'.* Register it with")

    def compiled(config):
        loss = {"module": "builtins", "class_name": "function", "config": "my_loss"}
        config["compile_config"] = {"optimizer": "adam", "loss": loss}

    path = with_config(tmp_path, whole, compiled)
    assert_refused(path, "'my_loss'.* compile=False")
    with keraslite.use_backend("numpy"):
        assert not saving.load_model(path, compile=False).compiled


def test_malformed_json(whole, tmp_path):
    members = members_of(whole)
    for text in (b"", b"[]", b"{", b"\xff", b'{"a":' * 100_000, b"[" * 100_000):
        assert_refused(written(tmp_path, members | {"config.json": text}))


def _bytecode(code):
    """A config of a Lambda layer as Keras writes it."""
    text = base64.encodebytes(marshal.dumps(code)).decode()
    return {"class_name": "__lambda__", "config": {"code": text, "defaults": None, "closure": None}}


def test_bytecode_runs_only_where_it_is_allowed(whole, tmp_path):
    code = (lambda x: __import__("keraslite").ops.relu(x)).__code__
    entry = {"name": "lambda", "function": _bytecode(code), "arguments": {}}
    change = _class(module="keras.layers", class_name="Lambda", config=entry)

    def changed(config):
        change(config)
        config["config"]["layers"] = config["config"]["layers"][:2]

    members = members_of(with_config(tmp_path, whole, changed))
    h5 = io.BytesIO()
    h5py.File(h5, "w").close()
    path = written(tmp_path, {"config.json": members["config.json"], "metadata.json": b"{}",
                              WEIGHTS: h5.getvalue()})  # fmt: skip
    assert_refused(path, "bytecode")
    with keraslite.use_backend("numpy"), pytest.warns(UserWarning, match="runs bytecode"):
        model = saving.load_model(path, safe_mode=False)
    assert model(np.float32([[-1, 0, 1, 2]])).tolist() == [[0, 0, 1, 2]]
    # It allows nothing else.
    evil = with_config(tmp_path, whole, _class(module="os", class_name="system", config={}))
    assert_refused(evil, safe_mode=False)


def test_a_vocabulary_is_read_from_the_archive_alone(whole, tmp_path):
    entry = {"name": "words", "vocabulary": "/etc/hostname"}
    change = _class(module="keras.layers", class_name="StringLookup", config=entry)
    assert_refused(with_config(tmp_path, whole, change), "vocabulary")


def test_what_is_no_model(tmp_path):
    path = tmp_path / "x.keras"
    with pytest.raises(FileNotFoundError):
        saving.load_model(path)
    path.write_bytes(b"no archive")
    assert_refused(path, "cut off or damaged")
    assert_refused(written(tmp_path, {"a.txt": b""}), r"it has no config\.json")
    assert_refused(written(tmp_path, {"config.json": b"{}"}))
