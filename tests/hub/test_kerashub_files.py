"""Presets of KerasHub that are damaged, hostile or odd; the command line over sound ones."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file

import hub
import keraslite as keras
from hub.cli import main
from hub.convert.kerashub import convert_kerashub
from hub.presets import resolve
from keraslite.saving import H5Tensors

ROOT = Path(__file__).parents[2]
WEIGHTS, BIAS = "model.weights.h5", "layers/dense/vars/1"
HEAD = "layers/transformer_encoder/_self_attention_layer"


@pytest.fixture
def copy(presets, tmp_path):
    def get(name="bert"):
        return Path(shutil.copytree(presets / name, tmp_path / "preset"))

    return get


def convert(folder):
    return convert_kerashub(resolve(folder), folder.parent / "new")


def change(folder, how, name=WEIGHTS):
    with h5py.File(folder / name, "r+") as file:
        how(file)


def rewrite(folder, name="config.json", **changes):
    """Change a config; None leaves a key out."""
    record = json.loads((folder / name).read_text())
    outer = changes.pop("outer", {})
    record["config"] |= changes
    record["config"] = {k: v for k, v in record["config"].items() if v != "absent"}
    (folder / name).write_text(json.dumps(record | outer))


def refused(folder, match):
    with pytest.raises(ValueError, match=match) as error:
        convert(folder)
    assert not (folder.parent / "new").exists()
    return error


# -- hostile files --------------------------------------------------------------------------------


def instead(make, path=BIAS):
    """A file in which something else stands in the place of an array."""

    def how(file):
        del file[path]
        make(file, path)

    return how


def _virtual(file, path):
    layout = h5py.VirtualLayout((12,), "float32")
    layout[:] = h5py.VirtualSource("other.h5", "secret", (12,))
    file.create_virtual_dataset(path, layout)


def _bomb(file, path):
    file.create_dataset(path, (2**20, 2**16), "float32", chunks=(2**10, 2**8), compression="gzip")


def _nearly_empty(file, path):
    _bomb(file, path)
    file[path][0, 0] = 1.0


def _twins(file):
    file.copy(f"{HEAD}/key_dense", f"{HEAD}/_key_dense")


def _link(file, path, value):
    file[path] = value


HOSTILE = {
    "external link": (
        instead(lambda f, p: _link(f, p, h5py.ExternalLink("/etc/passwd", "x"))),
        "layers/dense/vars/1 is an external link, which is refused",
    ),
    "soft link": (
        instead(lambda f, p: _link(f, p, h5py.SoftLink("/layers/dense/vars/0"))), "is a soft link",
    ),
    "dangling soft link": (
        instead(lambda f, p: _link(f, p, h5py.SoftLink("/nowhere"))), "is a soft link",
    ),
    "hard link": (
        instead(lambda f, p: _link(f, p, f["layers/layer_normalization/vars/0"])), "is there twice",
    ),
    "loop": (lambda f: _link(f, "layers/loop", f["layers"]), "is there twice"),
    "maze": (lambda f: f.create_group("/".join("abcdefghijklmnopqrstuvwxyz")), "too deep"),
    "virtual array": (instead(_virtual), "a virtual array, whose numbers lie in other files"),
    "external storage": (
        instead(lambda f, p: f.create_dataset(
            p, (12,), "float32", external=[("/etc/passwd", 0, 48)])),
        "an array with external storage",
    ),
    "shape bomb": (instead(_bomb), r"is said to take 274,877,906,944 bytes, but 0 are stored"),
    "packed shape bomb": (instead(_nearly_empty), r"is said to take 274,877,906,944 bytes, but \d"),
    "never written": (
        instead(lambda f, p: f.create_dataset(p, (12,), "float32")), "48 bytes, but 0 are stored",
    ),
    "filter": (
        instead(lambda f, p: f.create_dataset(p, data=np.ones(12), chunks=(12,), scaleoffset=3)),
        "packed by the filters",
    ),
    "texts": (
        instead(lambda f, p: f.create_dataset(p, data=["a"] * 12)),
        "holds object, expected floating numbers or integers",
    ),
    "records": (
        instead(lambda f, p: f.create_dataset(p, data=np.zeros(12, "i4,f4"))), "expected floating",
    ),
    "complex": (
        instead(lambda f, p: f.create_dataset(p, data=np.zeros(12, "complex64"))),
        "expected floating",
    ),
    "nothing": (
        instead(lambda f, p: f.create_dataset(p, data=h5py.Empty("float32"))), "expected floating",
    ),
    "a type": (
        instead(lambda f, p: _link(f, p, np.dtype("float32"))), "neither a group nor an array",
    ),
    "odd name": (lambda f: f.create_group("layers/a b"), "the name 'layers/a b' is none"),
    "twins": (_twins, "it holds layers/.*/key_dense/vars/0 twice"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(copy, name):
    folder, (how, match) = copy(), HOSTILE[name]
    change(folder, how)
    error = refused(folder, match)
    assert "model.weights.h5 is refused" in str(error.value)


def _shaped(dtype="float32", shape=(12,)):
    return instead(lambda f, p: f.create_dataset(p, data=np.ones(shape, dtype)))


UNFIT = {
    "missing": (instead(lambda f, p: None), r"Missing in the preset \(1\): layers/dense/vars/1"),
    "unused": (
        lambda f: f.create_dataset("layers/new/vars/0", data=np.ones(3)),
        r"Missing in the preset \(0\): none\n  Unused in the preset \(1\): layers/new/vars/0",
    ),
    "shape": (_shaped(shape=(4, 3)), r"layers/dense/vars/1 \(4, 3\) for pooler/bias \(12,\)"),
    "float64": (_shaped("float64"), "layers/dense/vars/1 of float64, expected float32"),
    "int8": (_shaped("int8"), "layers/dense/vars/1 of int8, expected float32"),
    "other heads": (
        lambda f: instead(lambda f, p: f.create_dataset(p, data=np.ones((12, 2, 6), "float32")),
                          f"{HEAD}/key_dense/vars/0")(f),
        r"key_dense/vars/0 \(12, 2, 6\) for blocks/0/attention/key/kernel \(12, 12\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNFIT)
def test_tensors_that_do_not_fit_are_named(copy, name):
    folder, (how, match) = copy(), UNFIT[name]
    change(folder, how)
    refused(folder, match)


# -- damaged files --------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [0, 4, 100, 0.5, 0.99])
def test_truncated_files_are_refused(copy, part):
    folder = copy()
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: int(part * len(data)) if part < 1 else part])
    refused(folder, r"model.weights.h5 cannot be read: it is damaged, or no HDF5 file \(.*Download")


def test_flipped_bits_are_read_or_refused(copy):
    """Damage among the numbers cannot be seen; around them every file has one clear error."""
    path = copy("gpt2") / WEIGHTS
    data, rng = path.read_bytes(), np.random.default_rng(0)
    with h5py.File(path) as file:
        arrays = []
        file.visititems(lambda _, x: arrays.append(x.id) if isinstance(x, h5py.Dataset) else None)
        around = np.ones(len(data), bool)
        for array in arrays:
            around[array.get_offset() : array.get_offset() + array.get_storage_size()] = False
    read = wrong = 0
    for _ in range(300):
        bad = bytearray(data)
        for at in rng.choice(np.flatnonzero(around)[:20000], 3):
            bad[at] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(bad))
        try:
            with H5Tensors([path]) as tensors:
                assert sum(tensors[name].nbytes for name in tensors) <= 2 * len(data)
            read += 1
        except ValueError as error:
            wrong += str(error).startswith(WEIGHTS)
    assert read + wrong == 300
    assert wrong > 50


def test_a_packed_array_that_is_damaged(copy):
    folder = copy()

    def packed(file, path):
        file.create_dataset(path, data=np.ones(12, "float32"), chunks=(12,), compression="gzip",
                            fletcher32=True)  # fmt: skip

    change(folder, instead(packed))
    with h5py.File(folder / WEIGHTS) as file:
        at = file[BIAS].id.get_chunk_info(0).byte_offset
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[at + 5] ^= 8
    (folder / WEIGHTS).write_bytes(bytes(data))
    with pytest.raises(ValueError, match="cannot be read: it is damaged"):
        convert(folder)
    assert not (folder.parent / "new" / "config.json").exists()


# -- configs --------------------------------------------------------------------------------------

CONFIGS = {
    "class": ({"outer": {"class_name": "GemmaBackbone"}},
              "a 'GemmaBackbone' of KerasHub, which is not converted. Supported: BertBackbone, Rob"),
    "no class": ({"outer": {"class_name": ["BertBackbone"]}}, "which is not converted"),
    "no config": ({"outer": {"config": None}}, "has no 'config' of its BertBackbone"),
    "unknown key": ({"rope": 1}, r"has the unknown \['rope'\]"),
    "missing key": ({"num_heads": "absent"}, r"lacks \['num_heads'\]"),
    "text": ({"hidden_dim": "12"}, "hidden_dim='12', expected a positive int"),
    "bool": ({"num_layers": True}, "num_layers=True, expected a positive int"),
    "zero": ({"num_layers": 0}, "num_layers=0, expected a positive int"),
    "huge": ({"num_layers": 10**9}, r"The config has 1000000000 layers, the file \d+ tensors"),
    "wide": ({"hidden_dim": 2**30 // 12 * 12, "num_heads": 12}, "wrong shape"),
    "too few": ({"num_layers": 2}, r"Unused in the preset \(16\): layers/transformer_encoder_2"),
    "too many": ({"num_layers": 4}, r"Missing in the preset \(16\): layers/transformer_encoder_3"),
    "heads": ({"num_heads": 5}, "must be a multiple of num_heads=5"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_that_do_not_fit(copy, name):
    folder, (changes, match) = copy(), CONFIGS[name]
    rewrite(folder, **changes)
    refused(folder, match)


def test_no_class_of_a_config_is_imported(copy, monkeypatch):
    folder = copy()
    code = "raise SystemExit('imported')"
    (folder / "evil.py").write_text(code)
    monkeypatch.syspath_prepend(folder)
    rewrite(folder, outer={"module": "evil", "registered_name": "evil>BertBackbone"})
    assert len(convert(folder)) == 55
    assert "evil" not in sys.modules


@pytest.mark.parametrize(
    ("activation", "match"),
    [("softmax", "is none of"), ({"class_name": "__lambda__", "config": {"value": "4wA="}}, "none of"),
     ("gelu", "cannot say activation='gelu'")],
)  # fmt: skip
def test_activations_of_t5(copy, activation, match):
    folder = copy("t5[v1.1]")
    rewrite(folder, activation=activation)
    refused(folder, match)


TASKS = {
    "no config": ({"outer": {"config": 3}}, "names no class with its config"),
    "softmax": ({"activation": "softmax"}, "task.json has activation='softmax', but the head"),
    "classes": ({"num_classes": "4"}, "expected an int and a float"),
    "other classes": ({"num_classes": 5}, r"task/layers/dense_1/vars/0 \(12, 4\) for head/kernel"),
}


@pytest.mark.parametrize("name", TASKS)
def test_tasks_that_do_not_fit(copy, name):
    folder, (changes, match) = copy("Roberta[classes]"), TASKS[name]
    rewrite(folder, "task.json", **changes)
    refused(folder, match)


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"hidden_dim": 7}, "its hidden_dim=7 is not that of the backbone"),
     ({"outer": {"class_name": "RobertaTextToSpeech"}}, "no task like RobertaTextToSpeech for rob")],
)  # fmt: skip
def test_a_head_that_is_none_of_ours_is_left(copy, changes, why):
    folder = copy("Roberta[classes]")
    rewrite(folder, "task.json", **changes)
    left = [row for row in convert(folder) if not row.ours]
    assert [row.theirs for row in left if why in row.note] == [
        f"task/layers/dense{n}/vars/{i}" for n in ("", "_1") for i in (0, 1)
    ]
    assert json.loads((folder.parent / "new" / "config.json").read_text())["architectures"] == [
        "RobertaModel"
    ]


def test_presets_of_older_versions(copy, presets):
    """KerasNLP's names of classes and policies, and Keras's of parts."""
    folder = copy("Bert[classes]")
    rewrite(folder, dtype="float32", outer={"registered_name": "keras_nlp>BertBackbone"})
    rewrite(folder, "task.json", outer={"class_name": "BertClassifier"})

    def renamed(file):
        for part in ("query", "key", "value", "output"):
            file.move(f"{HEAD}/{part}_dense", f"{HEAD}/_{part}_dense")

    change(folder, renamed)
    rows = convert(folder)
    assert rows[5].theirs == "layers/transformer_encoder/self_attention_layer/query_dense/vars/0"
    with keras.use_backend("numpy"):
        held = np.load(presets / "Bert[classes].npz")
        batch = {k: held[k] for k in ("token_ids", "segment_ids", "padding_mask")}
        out = hub.load(folder.parent / "new", preprocessor=object())(batch)
    np.testing.assert_allclose(np.asarray(out), held["out/output"], rtol=0, atol=2e-5)


# -- shards ---------------------------------------------------------------------------------------


def _index(folder, how):
    index = json.loads((folder / "model.weights.json").read_text())
    how(index)
    (folder / "model.weights.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("how", "match"),
    [
        (lambda x: x.pop("weight_map"), "has no weight_map"),
        (lambda x: x["weight_map"].update(a="../secret.h5"), r"model.weights.json of .* into '../secret.h5'"),
        (lambda x: x["weight_map"].update(a=["/etc/passwd"]), "into '/etc/passwd'"),
        (lambda x: x["weight_map"].update(a=3), "into 3"),
        (lambda x: x["weight_map"].pop("/layers/dense/vars"), r"not in the index \['/layers/dense"),
        (lambda x: x["weight_map"].update({"/layers/no/vars": "model_00000.weights.h5"}),
         r"missing in the shard \['/layers/no/vars'\]"),
    ],
)  # fmt: skip
def test_an_index_that_is_wrong(copy, how, match):
    folder = copy("sharded")
    _index(folder, how)
    refused(folder, match)


def test_a_missing_shard(copy):
    folder = copy("sharded")
    (folder / "model_00001.weights.h5").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no 'model_00001.weights.h5'; it has"):
        convert(folder)


# -- tokenizers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"outer": {"class_name": "GPT2Tokenizer"}}, "is a 'GPT2Tokenizer', expected a BertTok"),
        ({"split": False}, "split=False, supported is True only"),
        ({"suffix_indicator": "@@"}, "suffix_indicator='@@', supported"),
        ({"oov_token": "[OTHER]"}, r"lacks \[OTHER\]"),
    ],
)
def test_tokenizers_that_do_not_fit(copy, changes, match):
    folder = copy()
    rewrite(folder, "tokenizer.json", **changes)
    refused(folder, match)


def test_a_vocabulary_that_is_missing(copy):
    folder = copy()
    shutil.rmtree(folder / "assets")
    with pytest.raises(FileNotFoundError, match="has no 'assets/tokenizer/vocabulary.txt'"):
        convert(folder)


def test_a_preset_without_tokenizer_and_one_with_a_length(copy):
    folder = copy()
    (folder / "preprocessor.json").write_text('{"config": {"sequence_length": 9}}')
    convert(folder)
    new = folder.parent / "new"
    assert json.loads((new / "tokenizer_config.json").read_text())["model_max_length"] == 9
    shutil.rmtree(new)
    (folder / "tokenizer.json").unlink()
    convert(folder)
    assert {path.name for path in new.iterdir()} == {"config.json", "model.safetensors"}


# -- the command line -----------------------------------------------------------------------------


def test_the_command_and_its_report(capsys, presets, tmp_path, hub_server, monkeypatch):
    hub_server.publish("org/electra", presets / "electra")
    assert main(["convert", "org/electra", str(tmp_path / "new")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("55 tensors, ")
    assert lines[-1].endswith(f"numbers, 2 tensors left: {tmp_path / 'new'}")
    left = "left: layers/dense_1/vars/0  float32  (12, 12): ELECTRA has no pooled output"
    assert left in lines
    words = next(line for line in lines if "layer.0.attention.self.query.weight" in line).split()
    assert words == [
        "encoder.layer.0.attention.self.query.weight", "float32", "(12,", "12)", "<-",
        "layers/transformer_encoder/self_attention_layer/query_dense/vars/0", "(heads", "joined,",
        "transposed)",
    ]  # fmt: skip
    assert len(load_file(tmp_path / "new" / "model.safetensors")) == 55
    assert main(["verify", str(tmp_path / "new")]) == 0
    capsys.readouterr()
    assert main(["convert", "org/electra", str(tmp_path / "new")]) == 1
    assert "holds a checkpoint; give another folder" in capsys.readouterr().err


def test_the_script(capsys, presets, tmp_path, monkeypatch):
    given = ["convert_weights.py", str(presets / "gpt2"), str(tmp_path / "new")]
    monkeypatch.setattr(sys, "argv", given)
    with pytest.raises(SystemExit) as error:
        runpy.run_path(str(ROOT / "scripts" / "convert_weights.py"), run_name="__main__")
    assert error.value.code == 0
    capsys.readouterr()
    assert main(["run", "text-generation", str(tmp_path / "new"), "the movie"]) == 0
    assert json.loads(capsys.readouterr().out)["text"].startswith("the movie")


def test_without_h5py(capsys, presets, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert main(["convert", str(presets / "bert"), str(tmp_path / "new")]) == 1
    assert "which h5py reads and writes: pip install 'keraslite-hub[h5]'" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_loading_an_unconverted_preset_says_what_to_do(presets):
    with pytest.raises(ValueError, match="is a preset of KerasHub, which must be converted first"):
        hub.Backbone.from_preset(presets / "bert")
