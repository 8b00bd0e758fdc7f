"""Families and tasks are found by name, and imported when they are asked for."""

import pickle
import subprocess
import sys

import bert_checkpoints as tiny
import numpy as np
import pytest

import hub
import keraslite as keras
from hub import families
from hub.families import Family, Head, family_of, model_types, places, register
from hub.tasks.discovery import all_tasks, task_modules
from hub.tasks.registry import pipelines


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_import_hub_loads_no_part_of_it():
    loaded = python("import sys, hub; print([m for m in sys.modules if m.startswith('hub.')])")
    assert loaded == "[]"
    one = python(
        "import sys; from hub import BertBackbone; "
        "print([m for m in sys.modules if m.startswith('hub.models.')])"
    )
    assert "hub.models.bert" in one
    assert "gpt2" not in one


@pytest.mark.parametrize("model_type", places())
def test_the_row_of_a_family_is_right(model_type):
    module, name = places()[model_type]
    family = family_of(model_type)
    assert family.model_type == model_type
    assert (family.backbone.__module__, family.backbone.__name__) == (module, name)
    assert getattr(hub, name) is getattr(hub.models, name) is family.backbone
    own = getattr(family.backbone, "default_family", family.backbone.family)
    assert own == model_type or places()[own] == (module, name)


def test_every_file_of_tasks_is_found():
    assert {task.task for task in all_tasks()} >= {"TextClassifier", "Seq2SeqLM", "Inpaint"}
    for task in all_tasks():
        assert task_modules()[task.task.lower()] == task.__module__
    assert all(pipelines())
    assert len(pipelines()) == sum(bool(task.pipeline) for task in all_tasks())


def test_public_names():
    assert set(hub.__all__) <= set(dir(hub))
    for name in hub.__all__:
        assert getattr(hub, name).__doc__, name
    for name in ("BertTextClassifier", "XLMRobertaMaskedLM", "T5TextEmbedder", "GPT2CausalLM"):
        cls = getattr(hub, name)
        assert cls.__name__ == name
        assert cls is getattr(hub.tasks, name)
        assert pickle.loads(pickle.dumps(cls)) is cls
        assert cls.__mro__[1].task in name
    assert hub.BertClassifier is hub.BertTextClassifier
    assert hub.CLIPZeroShotClassifier is hub.ZeroShotImageClassifier.for_family("clip")
    assert hub.StableDiffusionInpaint is hub.Inpaint
    for name in ("GPT2TextClassifier", "BertCausalLM", "Bert", "nothing", "_hidden", "Encoder"):
        assert not hasattr(hub, name)
        assert not hasattr(hub.tasks, name)


def test_a_file_of_a_model_needs_no_import_of_its_module(tmp_path):
    with keras.use_backend("numpy"):
        backbone = hub.BertBackbone(9, 1, 2, hidden_dim=8, intermediate_dim=8)
        backbone.save(tmp_path / "backbone.keras")
        task = hub.BertTextClassifier(backbone, 3)
        task.save(tmp_path / "task.keras")
    code = (
        "import hub, keraslite as keras; keras.use_backend('numpy'); "
        "print(*(type(keras.saving.load_model(f'{name}.keras')).__name__ "
        "for name in ('task', 'backbone')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.split() == ["BertTextClassifier", "BertBackbone"]


@pytest.mark.parametrize("name", ["upload_preset", "load", "cli", "Sampling", "datasets", "x.y"])
def test_a_config_names_no_function_and_no_module(name):
    config = {"class_name": name, "config": {}, "registered_name": f"hub>{name}"}
    with pytest.raises(ValueError, match="Unknown object"):
        keras.saving.deserialize_keras_object(config)


def test_from_preset_names_the_tasks_that_would_do(tmp_path):
    tiny.make(tmp_path / "bert", "BertModel")
    for cls in (hub.CausalLM, hub.GPT2CausalLM):
        message = f"no {cls.__name__} for bert.*expected one of"
        with pytest.raises(ValueError, match=message) as error:
            cls.from_preset(tmp_path / "bert")
        for task in ("MaskedLM", "TextClassifier", "TextEmbedder", "TokenClassifier"):
            assert f"'{task}'" in str(error.value)


def test_a_task_takes_a_variant_of_the_weights(tmp_path):
    folder = tmp_path / "bert"
    tiny.make(folder, "BertForSequenceClassification")
    (folder / "model.safetensors").rename(folder / "model.fp16.safetensors")
    with keras.use_backend("numpy"):
        assert hub.TextClassifier.from_preset(folder, variant="fp16").new_weights == []
        with pytest.raises(FileNotFoundError, match="of the variant 'fp8'"):
            hub.TextClassifier.from_preset(folder, variant="fp8")


@pytest.fixture
def own_families(monkeypatch):
    """Let families that a test registers be gone behind it, and their classes in `hub`."""
    monkeypatch.setattr(families, "_families", dict(families._families))
    before = set(vars(hub))
    yield
    for name in vars(hub).keys() - before:
        delattr(hub, name)


@pytest.mark.usefixtures("own_families")
def test_a_family_of_a_user(tmp_path):
    """One `register` brings an architecture: its presets, its tasks and their classes."""

    class ToyBackbone(hub.BertBackbone):
        family = "toy"

    bert = family_of("bert")
    register(
        Family(
            model_type="toy", backbone=ToyBackbone, config=bert.config, weights=bert.weights,
            architecture="ToyModel", tokenizer=bert.tokenizer, prefix="bert.",
            other_heads=bert.other_heads,
            heads={"TextClassifier": Head("ToyClassifier", bert.heads["TextClassifier"].weights)},
        )
    )  # fmt: skip
    assert "toy" in model_types()
    with keras.use_backend("numpy"):
        keras.utils.set_random_seed(0)
        backbone = ToyBackbone(99, 1, 2, hidden_dim=8, intermediate_dim=8)
        tokenizer = hub.WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good"])
        model = hub.TextClassifier.for_family("toy")(
            backbone, 3, preprocessor=hub.TextPreprocessor(tokenizer, 16)
        )
        model.save_to_preset(tmp_path)
        again = hub.load(tmp_path)
        assert type(again) is hub.ToyTextClassifier
        assert not hasattr(hub, "ToyMaskedLM")
        expected = model.predict(["good"], verbose=0)
        np.testing.assert_allclose(again.predict(["good"], verbose=0), expected, rtol=1e-5)


@pytest.mark.usefixtures("own_families")
def test_options_of_a_head_that_its_task_does_not_have_are_refused():
    class OddBackbone(hub.BertBackbone):
        family = "odd"

    bert = family_of("bert")
    weights = bert.heads["TextClassifier"].weights
    register(
        Family(
            model_type="odd", backbone=OddBackbone, config=bert.config, weights=bert.weights,
            architecture="OddModel", tokenizer=bert.tokenizer, prefix="bert.",
            heads={
                "TextClassifier": Head("OddClassifier", weights, options={"hiden_activation": "x"}),
                "MaskedLM": Head("OddForMaskedLM", options={"dropout_key": "dropout"}),
            },
        )
    )  # fmt: skip
    with keras.use_backend("numpy"):
        backbone = OddBackbone(99, 1, 2, hidden_dim=8, intermediate_dim=8)
        for task, arguments, option in (
            (hub.TextClassifier, (3,), "hiden_activation"), (hub.MaskedLM, (), "dropout_key"),
        ):  # fmt: skip
            with pytest.raises(ValueError, match=rf"odd for {task.__name__} .*\['{option}'\]: exp"):
                task(backbone, *arguments)


def test_a_subclass_of_a_user_is_for_every_family(tmp_path):
    class Mine(hub.TextClassifier):
        pass

    tiny.make(tmp_path, "BertForSequenceClassification")
    with keras.use_backend("numpy"):
        assert type(Mine.from_preset(tmp_path)) is Mine


def test_load_takes_the_class_that_is_expected(tmp_path):
    tiny.make(tmp_path, "BertForSequenceClassification")
    model = hub.load(tmp_path, hub.TextClassifier, backend="numpy")
    assert type(model) is hub.BertTextClassifier
    assert type(hub.load(tmp_path, hub.BertClassifier, backend="numpy")) is hub.BertTextClassifier
    assert type(hub.load(tmp_path, hub.Task, backend="numpy")) is hub.BertTextClassifier
    with pytest.raises(TypeError, match="is for TextClassifier, expected MaskedLM"):
        hub.load(tmp_path, hub.MaskedLM)
