"""Publishing with the real client to a local server, and what is known of a checkpoint."""

import hashlib
import re

import bert_checkpoints as tiny
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import hub
import keraslite as keras
from hub.cli.main import main
from hub.presets import resolve
from hub.presets.about import digest
from hub.tasks.discovery import all_tasks

# The client's own way of sending files.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def folder(tmp_path):
    tiny.make(tmp_path / "made", "BertForSequenceClassification", num_labels=3)
    with keras.use_backend("numpy"):
        hub.TextClassifier.from_preset(tmp_path / "made").save_to_preset(tmp_path / "saved")
    return tmp_path / "saved"


def test_what_is_uploaded_is_read_again(hub_server, folder):
    url = hub.upload_preset(
        "org/mine", folder, token=hub_server.writer, base_model="a/b", license="mit",
        metrics={"accuracy": 0.91},
    )  # fmt: skip
    files = resolve("org/mine")
    assert url.endswith(f"/org/mine/commit/{files.commit}")
    assert files.names == {p.name for p in folder.iterdir()}
    for path in folder.iterdir():
        assert files.path(path.name).read_bytes() == path.read_bytes()
    with keras.use_backend("numpy"):
        assert hub.load("org/mine").num_classes == 3
    # Again: the repository is there, and the card stays as it is.
    (folder / "README.md").write_text("mine")
    hub.upload_preset("org/mine", folder, token=hub_server.writer)
    assert resolve("org/mine").text("README.md") == "mine"
    cdn = [r for r in hub_server.requests if r.path.startswith("/cdn/")]
    assert cdn
    assert not any("authorization" in r.headers for r in cdn)


def test_the_card(folder):
    card = hub.model_card(
        folder, "org/mine", base_model="a/b", license="mit", metrics={"accuracy": 0.91}
    )
    front = card.split("---")[1]
    assert 'pipeline_tag: "text-classification"' in front
    assert 'base_model: "a/b"' in front
    assert 'license: "mit"' in front
    assert '"value": 0.91' in front
    assert 'hub.TextClassifier.from_preset("org/mine")' in card
    assert 'AutoModelForSequenceClassification.from_pretrained("org/mine")' in card
    from huggingface_hub import ModelCard  # the Hub's own reader of cards

    assert ModelCard(card).data.eval_results[0].metric_value == 0.91


@pytest.mark.parametrize("kind", ["BertForMaskedLM", "BertForTokenClassification", "BertModel"])
def test_what_a_card_says_runs(folder, tmp_path, kind, backend):
    tiny.make(tmp_path / "made", kind)
    card = hub.model_card(tmp_path / "made", str(tmp_path / "made"))
    names = {}
    for code in re.findall(r"```python\n(.*?)```", card, re.S):
        exec(code, names)
        model = names.pop("model")
        assert type(model).__name__ in (kind, f"Bert{_task(kind)}")
    assert names["tokenizer"].mask_token == "[MASK]"


def _task(kind):
    heads = {"BertForMaskedLM": "MaskedLM", "BertForTokenClassification": "TokenClassifier"}
    return heads.get(kind, "TextEmbedder")


def test_the_classes_that_cards_name_are_there():
    tasks = [task for task in all_tasks() if issubclass(task, hub.Task)]
    assert len(tasks) > 6
    for task in tasks:
        assert hasattr(transformers, task.transformers_class)
        assert getattr(hub, task.task) is task


def test_what_is_said_of_an_upload(hub_server, folder):
    hub.upload_preset("org/mine", folder, token=hub_server.writer, private=True, message="First")
    assert hub_server.messages == ["First"]
    with pytest.raises(FileNotFoundError, match="if it is private"):
        resolve("org/mine")
    (folder / "vocab.txt").write_text("another\n")
    url = hub.upload_preset("org/mine", folder, token=hub_server.writer, revision="v2")
    old, new = (resolve("org/mine", revision=r, token=hub_server.writer) for r in ("main", "v2"))
    assert url.endswith(new.commit)
    assert old.text("vocab.txt") != new.text("vocab.txt") == "another\n"
    # Nothing is new: nothing is committed, and the address is that of the commit there was.
    again = hub.upload_preset("org/mine", folder, token=hub_server.writer, revision="v2")
    assert again == url
    assert len(hub_server.messages) == 2


def test_a_name_without_an_organisation_is_the_users_own(hub_server, folder):
    hub.upload_preset("mine", folder, token=hub_server.writer)
    assert "config.json" in resolve("someone/mine")


def test_handles_of_the_readme_name_a_repository_to_upload_to(hub_server, folder):
    url = hub.upload_preset("hf://org/mine", folder, token=hub_server.writer)
    assert url.endswith(resolve("org/mine").commit)
    assert 'from_preset("org/mine")' in (folder / "README.md").read_text()
    url = hub.upload_preset("hf://org/mine@v2", folder, token=hub_server.writer)
    assert url.endswith(resolve("hf://org/mine@v2").commit)
    for handle, revision in (("hf://org/mine/sub", None), ("hf://", None), ("hf://a/b@v1", "v2")):
        with pytest.raises(ValueError, match="hf://"):
            hub.upload_preset(handle, folder, revision=revision, token=hub_server.writer)


def test_a_refused_upload_leaves_the_folder_and_speaks_of_writing(hub_server, folder):
    before = sorted(folder.iterdir())
    with pytest.raises(PermissionError, match="a token that may write there"):
        hub.upload_preset("org/mine", folder, token="another")
    assert sorted(folder.iterdir()) == before


def test_push(hub_server, folder, capsys, monkeypatch):
    words = ["push", str(folder), "hf://org/mine", "--license", "mit", "--message", "First"]
    assert main([*words, "--token", hub_server.writer]) == 0
    assert resolve("org/mine").commit in capsys.readouterr().out
    assert hub_server.messages == ["First"]
    assert 'license: "mit"' in resolve("org/mine").text("README.md")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub_server.url)
    assert main([*words, "--token", "another"]) == 1
    assert "a token that may write there" in capsys.readouterr().err
    assert main(["push", str(folder / "none"), "org/mine"]) == 1
    assert "there is no folder" in capsys.readouterr().err


def test_refused_uploads(hub_server, folder, monkeypatch):
    with pytest.raises(PermissionError, match=r"cannot upload .* to 'org/mine'.*\(403\).*HF_TOKEN"):
        hub.upload_preset("org/mine", folder, token="another")
    with pytest.raises(PermissionError, match=r"\(401\).*HF_TOKEN"):
        hub.upload_preset("org/mine", folder)
    hub_server.publish("org/theirs", {"config.json": "{}"})
    # As if HF_ENDPOINT had been set before the client was imported: one of its ways asks for that.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub_server.url)
    with pytest.raises(PermissionError, match=r"to 'org/theirs'.*\(403\)") as error:
        hub.upload_preset("org/theirs", folder, token="another")
    assert "another" not in str(error.value)
    hub_server.status = 503
    with pytest.raises(ConnectionError, match="the server answered 503"):
        hub.upload_preset("org/mine", folder, token=hub_server.writer)


@pytest.mark.parametrize(
    ("route", "status", "error"),
    [
        ("create", 500, ConnectionError),
        ("branch", 403, PermissionError),
        ("preupload", 403, PermissionError),
        ("preupload", 503, ConnectionError),
        ("batch", 403, PermissionError),
        ("batch", 500, ConnectionError),
        ("store", 403, PermissionError),
        ("store", 502, ConnectionError),
        ("commit", 403, PermissionError),
        ("commit", 409, ConnectionError),
        ("commit", 412, ConnectionError),
        ("commit", 503, ConnectionError),
    ],
)
def test_an_upload_that_fails_half_way(hub_server, folder, monkeypatch, route, status, error):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client waits before it retries
    hub_server.failing[route] = status
    with pytest.raises(error, match=rf"cannot upload .* to 'org/mine'.*{status}"):
        hub.upload_preset("org/mine", folder, token=hub_server.writer, revision="v2")
    assert not hub_server.messages, "there is no half commit"
    hub_server.failing.clear()
    hub.upload_preset("org/mine", folder, token=hub_server.writer, revision="v2")
    assert resolve("org/mine", revision="v2").path("model.safetensors").exists()


def test_an_incomplete_folder_is_not_sent(hub_server, folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="holds no weights"):
        hub.upload_preset("org/mine", folder, token=hub_server.writer)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no 'config.json'"):
        hub.upload_preset("org/mine", folder, token=hub_server.writer)
    assert not hub_server.requests


def test_info(hub_server, folder):
    row = hub.info("gpt2_base_en")
    assert row["parameters"] == 124439808
    assert not hub_server.requests
    found = hub.info(folder)
    assert found["model_type"] == "bert"
    assert found["architectures"] == ["BertForSequenceClassification"]
    with keras.use_backend("numpy"):
        assert found["parameters"] == hub.load(folder).count_params()
    assert found["dtypes"] == ["float32"]


@pytest.mark.parametrize("size", ["5GB", "5KB"], ids=["one file", "shards"])
def test_info_of_a_repository_reads_headers_alone(hub_server, tmp_path, monkeypatch, size):
    theirs = tiny.make(tmp_path, "BertForMaskedLM", "bfloat16", max_shard_size=size)
    if size == "5GB":  # old checkpoints have counters, which are no parameters
        tensors = load_file(tmp_path / "model.safetensors")
        tensors["bert.embeddings.position_ids"] = torch.arange(24)[None]
        save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    assert hub.info(tmp_path)["parameters"] == sum(p.numel() for p in theirs.parameters())
    hub_server.publish("org/mine", {f"sub/{p.name}": p.read_bytes() for p in tmp_path.iterdir()
                                    if p.is_file()}, token="secret")  # fmt: skip
    found = hub.info("hf://org/mine@main/sub", token="secret")
    assert found["parameters"] == sum(p.numel() for p in theirs.parameters())
    assert found["dtypes"] == ["bfloat16"]
    assert found["model_type"] == "bert"
    cdn = [r.headers for r in hub_server.requests if r.path.startswith("/cdn/")]
    assert len(cdn) == len(list(tmp_path.glob("*.safetensors")))
    assert all(h["range"] == "bytes=0-100000" and "authorization" not in h for h in cdn)
    cached = resolve("hf://org/mine/sub", token="secret")
    cached.paths(cached.names)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert hub.info("hf://org/mine/sub")["parameters"] == found["parameters"]


def test_info_of_weights_that_headers_do_not_tell(hub_server, folder):
    (folder / "model.safetensors").write_bytes(b"\xff" * 100)
    hub_server.publish("org/broken", folder)
    with pytest.raises(ValueError, match=r"model.safetensors of 'org/broken'.*is damaged"):
        hub.info("org/broken")
    (folder / "model.safetensors").unlink()
    torch.save({"a": torch.ones(3)}, folder / "pytorch_model.bin")
    hub_server.publish("org/bin", folder)
    assert "parameters" not in hub.info("org/bin")
    assert not any("/cdn/" in r.path for r in hub_server.requests[-3:]), "it is not downloaded"
    resolve("org/bin").path("pytorch_model.bin")
    assert hub.info("org/bin")["parameters"] == hub.info(folder)["parameters"] == 3


def test_info_of_files_that_were_resolved(hub_server, folder):
    assert hub.info(resolve(folder)) == {**hub.info(folder), "name": str(folder)}
    hub_server.publish("openai-community/gpt2", folder)
    assert hub.info(resolve("gpt2_base_en")) == hub.info("gpt2_base_en")
    with pytest.raises(TypeError, match="a preset must be a built-in name"):
        hub.info(3)


def test_digests_are_held_against_what_was_published(hub_server, folder):
    hub_server.publish("org/mine", folder)
    files = resolve("org/mine")
    for path in folder.iterdir():
        sha = hashlib.sha256(path.read_bytes()).hexdigest()
        assert digest(path) == digest(files.path(path.name)) == (sha, None)
    for name in ("model.safetensors", "config.json"):
        blob = files.path(name).resolve()
        blob.write_bytes(blob.read_bytes()[:-1] + b"?")
        found, problem = digest(files.path(name))
        assert found == hashlib.sha256(blob.read_bytes()).hexdigest()
        assert "is damaged" in problem
        assert blob.name in problem


@pytest.mark.parametrize(
    ("kind", "task"),
    [
        ("BertForSequenceClassification", "BertTextClassifier"),
        ("BertForTokenClassification", "BertTokenClassifier"),
        ("BertForMaskedLM", "BertMaskedLM"),
        ("BertModel", "BertBackbone"),
    ],
)
def test_load_takes_the_task_of_the_config(tmp_path, kind, task):
    tiny.make(tmp_path, kind)
    with keras.use_backend("numpy"):
        assert type(hub.load(tmp_path)).__name__.startswith(task)


def test_load_of_a_head_that_is_none_of_ours(tmp_path):
    tiny.make(tmp_path, "BertForNextSentencePrediction")
    with pytest.raises(ValueError, match=r"is a BertForNextSentencePrediction.*BertForMaskedLM"):
        hub.load(tmp_path)
