"""Publishing with the real client to a local server, and what is known of a checkpoint."""

import bert_checkpoints as tiny
import pytest

import hub
import keraslite as keras
from hub.presets import resolve

pytest_plugins = ["tests.hub_server"]
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


def test_refused_uploads(hub_server, folder):
    with pytest.raises(PermissionError, match=r"cannot upload .* to 'org/mine'.*\(403\).*HF_TOKEN"):
        hub.upload_preset("org/mine", folder, token="another")
    hub_server.status = 503
    with pytest.raises(ConnectionError, match="the server answered 503"):
        hub.upload_preset("org/mine", folder, token=hub_server.writer)


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
    hub_server.publish("org/mine", folder)
    remote = hub.info("org/mine")
    assert remote["commit"]
    assert "parameters" not in remote
    assert not any("/resolve/" in p and "safetensors" in p for p in hub_server.paths())


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
