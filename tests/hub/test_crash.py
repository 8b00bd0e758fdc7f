"""Presets after a crash: a folder is the old one or the new one at whatever moment it happens."""

import os
import subprocess
import sys
from pathlib import Path

import bert_checkpoints as tiny
import diffusion_checkpoints
import numpy as np
import pytest
import transformers

import hub
import keraslite as keras
from hub.presets import resolve

SUPPORT = Path(__file__).parents[1] / "support"
SAVE = """
import sys, shutil, hub, keraslite as keras
import numpy as np
from pathlib import Path
from crash_steps import kill_at_each_step
old, new, folder = map(Path, sys.argv[1:])
values = lambda model: [v.numpy() for v in model.weights]
models = {name: hub.load(path) for name, path in (("old", old), ("new", new))}
weights = {name: values(model) for name, model in models.items()}
outcomes = []

def check(step):
    loaded = hub.load(folder)
    name = "new" if loaded.num_classes == 4 else "old"
    for value, expected in zip(values(loaded), weights[name], strict=True):
        np.testing.assert_array_equal(value, expected)
    outcomes.append(name)
    assert name == "new" or "new" not in outcomes
    loaded.preprocessor(["a"])
    assert loaded.preprocessor.tokenizer.vocabulary_size() == models[
        name].preprocessor.tokenizer.vocabulary_size()
    # What was left over is gone after the next save.
    if name == "old":
        models["old"].save_to_preset(folder)
        assert not list(folder.rglob(".*")), list(folder.rglob(".*"))
    else:
        assert not (folder / ".committed").exists()
        shutil.rmtree(folder)
        models["old"].save_to_preset(folder)

models["old"].save_to_preset(folder)
kills = kill_at_each_step(folder, lambda: models["new"].save_to_preset(folder), check)
print(kills, outcomes.count("old"), outcomes.count("new"))
"""


def _run(code, *words, **environment):
    path = os.pathsep.join([str(SUPPORT), str(Path(hub.__file__).parents[1])])
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": path, "KERASLITE_BACKEND": "numpy"} | environment,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def _classifier(folder, width, classes):
    tiny.make(
        folder, "BertForSequenceClassification", hidden_size=width, num_labels=classes,
        intermediate_size=width, vocab_size=20 + (classes == 4),
    )  # fmt: skip
    if classes == 4:  # another vocabulary, so that a tokenizer of the other model shows
        with open(folder / "vocab.txt", "a") as file:
            file.write("another\n")
    return folder


def test_crash_of_save_to_preset_over_another_model(tmp_path):
    old, new = _classifier(tmp_path / "old", 24, 2), _classifier(tmp_path / "new", 48, 4)
    out = _run(SAVE, old, new, tmp_path / "saved")
    kills, before, after = map(int, out.split())
    assert kills > 10
    assert before > 3
    assert after > 3
    # The folder as it stands is what transformers opens.
    with keras.use_backend("numpy"):
        hub.load(new).save_to_preset(tmp_path / "saved")
    theirs = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "saved")
    assert theirs.config.num_labels == 4


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the client's own
def test_crash_leftovers_are_neither_read_nor_published(hub_server, tmp_path):
    folder = _classifier(tmp_path / "saved", 24, 2)
    names = set(resolve(folder).names)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (folder / f".model.safetensors.{gone.pid}.0a1b2c3d.tmp").write_bytes(b"half")
    staging = folder / f".save.{gone.pid}.0a1b2c3d.tmp"
    staging.mkdir()
    (staging / "config.json").write_text("{}")
    (folder / ".DS_Store").write_text("x")
    assert resolve(folder).names == names | {".DS_Store"}
    hub.upload_preset("org/mine", folder, token=hub_server.writer)
    assert resolve("org/mine").names == names | {"README.md"}
    with keras.use_backend("numpy"):
        hub.load(folder).save_to_preset(folder)
    assert not list(folder.glob(".*.tmp"))
    assert (folder / ".DS_Store").exists()


def test_crash_leftovers_of_a_running_save_stay(tmp_path):
    from keraslite.saving import replacing_folder

    folder = _classifier(tmp_path / "saved", 24, 2)
    with replacing_folder(folder) as outer:
        (outer / "a.txt").write_text("a")
        with keras.use_backend("numpy"):
            hub.load(folder).save_to_preset(folder)
        assert (outer / "a.txt").exists()
    assert (folder / "a.txt").exists()


def test_crash_between_the_commit_and_the_last_rename_of_a_pipeline(tmp_path, monkeypatch):
    diffusion_checkpoints.pipeline(tmp_path / "made")
    with keras.use_backend("numpy"):
        model = hub.StableDiffusion.from_preset(tmp_path / "made")
        model.save_to_preset(tmp_path / "saved")
        for variable in model.unet.weights:
            variable.assign(variable.numpy() + 1)
        renamed, replace = [], os.replace

        def stop(source, target):
            if Path(source).is_relative_to(tmp_path / "saved" / ".committed"):
                renamed.append(target)
                if len(renamed) == 3:
                    raise KeyboardInterrupt
            replace(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", stop)
            with pytest.raises(KeyboardInterrupt):
                model.save_to_preset(tmp_path / "saved")
        assert (tmp_path / "saved" / ".committed").exists()
        # Whichever part is opened first, by itself or with the others.
        unet = type(model.unet).from_preset(tmp_path / "saved" / "unet")
    for ours, theirs in zip(unet.weights, model.unet.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    assert not list((tmp_path / "saved").rglob(".*"))


def test_crash_of_an_adapter_and_of_a_conversion(tmp_path, monkeypatch):
    from hub.convert.safetensors import convert

    folder = _classifier(tmp_path / "made", 24, 2)
    with keras.use_backend("numpy"):
        model = hub.load(folder)
        model.enable_lora(2)
        model.save_adapter(tmp_path / "adapter")
        before = {p.name: p.read_bytes() for p in (tmp_path / "adapter").iterdir()}
        for variable in model.trainable_weights:
            variable.assign(variable.numpy() + 1)

        def stop(*args, **kwargs):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("hub.weights.adapters.write_json", stop)
            with pytest.raises(KeyboardInterrupt):
                model.save_adapter(tmp_path / "adapter")
            patch.setattr("hub.convert.safetensors.shutil.copyfile", stop)
            with pytest.raises(KeyboardInterrupt):
                convert(resolve(folder), tmp_path / "converted")
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "adapter").iterdir()}
    # It can be tried again.
    assert convert(resolve(folder), tmp_path / "converted")


def test_crash_of_a_pull_leaves_the_older_commit_for_offline_use(hub_server, tmp_path, monkeypatch):
    old, new = _classifier(tmp_path / "old", 24, 2), _classifier(tmp_path / "new", 48, 4)
    hub_server.publish("org/tiny", old)
    with keras.use_backend("numpy"):
        assert hub.load("org/tiny").num_classes == 2
        hub_server.publish("org/tiny", new)
        files = resolve("org/tiny")
        fetched = sorted(files.names)
        for name in fetched:
            # As if the process ended here: what is cached is whole.
            with monkeypatch.context() as patch:
                patch.setenv("HF_HUB_OFFLINE", "1")
                assert hub.load("org/tiny").num_classes == 2
            files.path(name)
        with monkeypatch.context() as patch:
            patch.setenv("HF_HUB_OFFLINE", "1")
            assert hub.load("org/tiny").num_classes == 4


def test_crash_while_a_commit_is_noted(hub_server, tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    hub_server.publish("org/tiny", {"config.json": "{}"})
    resolve("org/tiny").path("config.json")
    refs = tmp_path / "hf-cache" / "models--org--tiny" / "refs"
    (refs / f".main.{gone.pid}.0a1b2c3d.tmp").write_text("half")
    hub_server.publish("org/tiny", {"config.json": '{"a": 1}'})
    resolve("org/tiny").path("config.json")
    assert [path.name for path in refs.iterdir()] == ["main"]
