"""What users look at: summaries, `repr`, docstrings, `dir`, versions."""

import inspect
import re
import tomllib
from pathlib import Path

import bert_checkpoints as tiny
import diffusion_checkpoints
import numpy as np
import pytest
from checkpoints import cached

import hub
import keraslite as keras

ROOT = Path(__file__).parents[2]


def lines_of(model, **kwargs):
    texts = []
    model.summary(print_fn=texts.append, **kwargs)
    return "\n".join(texts)


def cells(text):
    """Return the rows of all tables as lists of cells."""
    rows = [line[1:-1] for line in text.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in row.split("│")] for row in rows]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return cached(tiny.make, tmp_path_factory)


def test_a_task_shows_its_tokenizer_and_the_shapes_of_its_layers(backend, checkpoints):
    folder, theirs = checkpoints("BertForSequenceClassification", num_labels=3)
    model = hub.TextClassifier.from_preset(folder)
    text = lines_of(model, line_length=120)
    rows = {re.split(r"_?\d* \(", row[0])[0]: row[1:] for row in cells(text)}
    width = theirs.config.hidden_size
    assert 'Preprocessor: "text_preprocessor"' in text
    assert rows["word_piece_tokenizer"] == [f"Vocab size: {theirs.config.vocab_size}"]
    backbone = sum(p.numel() for p in theirs.bert.parameters())
    assert rows["bert_backbone"] == [
        f"[(None, {width}), (None, None, {width})]", f"{backbone:,}"
    ]  # fmt: skip
    assert rows["dropout"][0] == f"(None, {width})"
    assert rows["logits"] == ["(None, 3)", f"{3 * width + 3}"]
    assert f"Total params: {sum(p.numel() for p in theirs.parameters()):,}" in text


def test_every_task_knows_the_shapes_of_its_layers(backend):
    sizes = {"hidden_dim": 8, "intermediate_dim": 8}
    bert = hub.BertBackbone(9, 1, 2, **sizes)
    tower = {"num_layers": 1, "num_heads": 2, **sizes}
    clip = hub.CLIPBackbone(
        {**tower, "image_size": 8, "patch_size": 4}, {**tower, "vocabulary_size": 9}, 6
    )
    models = [
        hub.TokenClassifier(bert, 3), hub.MaskedLM(bert), hub.TextEmbedder(bert),
        hub.PreTraining(bert), hub.CausalLM(hub.GPT2Backbone(9, 1, 2, hidden_dim=8)),
        hub.Seq2SeqLM(hub.T5Backbone(9, 1, 2, **sizes)), hub.ZeroShotImageClassifier(clip),
    ]  # fmt: skip
    for model in models:
        for title, shape, *_ in cells(lines_of(model, line_length=150, expand_nested=True)):
            assert "?" not in shape, (model, title)


def test_a_model_of_ones_own_shows_shapes_of_what_it_calls(backend):
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.drop = keras.layers.Dense(3, name="dense"), keras.layers.ReLU()

        def call(self, x):
            return self.drop(self.dense(x))

    model = Model()
    model(np.ones((2, 4), "float32"))
    assert [row[1] for row in cells(lines_of(model, line_length=100))] == ["(2, 3)", "(2, 3)"]


def test_a_pipeline_shows_its_networks(backend, tmp_path):
    pipe = diffusion_checkpoints.pipeline(tmp_path)
    model = hub.StableDiffusion.from_preset(tmp_path, img_height=32, img_width=40)
    counts = [
        sum(p.numel() for p in part.parameters())
        for part in (pipe.text_encoder, pipe.unet, pipe.vae)
    ]
    text = lines_of(model, line_length=100)
    rows = cells(text)
    assert rows[0] == ["clip_tokenizer (CLIPTokenizer)", f"Vocab size: {len(pipe.tokenizer):,}"]
    assert [row[2] for row in rows[1:]] == [f"{count:,}" for count in counts]
    assert rows[1][1] == f"(None, 77, {pipe.text_encoder.config.hidden_size})"
    assert rows[2][1] == "(None, 8, 10, 4)" or rows[2][1] == "(None, 16, 20, 4)"
    assert rows[3][1] == "(None, 32, 40, 3)"
    assert f"Total params: {sum(counts):,}" in text
    assert "Scheduler: pndm" in text
    assert repr(model) == (
        f"<StableDiffusion of 32x40 pixels, scheduler='pndm', {sum(counts):,} parameters, "
        f"backend={backend}>"
    )


# Base classes, and one whose fields have comments of their own.
WITHOUT_ARGUMENTS = {"AudioConverter", "Backbone", "Sampling", "Task", "Tokenizer"}


def test_classes_explain_their_arguments_with_examples():
    """The examples run in tests/test_docs.py."""
    for name in hub.__all__:
        value = getattr(hub, name)
        text = inspect.getdoc(value)
        if not inspect.isclass(value) or name in WITHOUT_ARGUMENTS:
            continue
        assert "Args:" in text, name
        assert ">>> " in text, name
    text = hub.RobertaClassifier.__doc__
    assert "hub.RobertaTextClassifier(backbone, num_classes=3)" in text
    assert "hub.RobertaBackbone(" in text
    assert "Bert" not in text.replace("RobertaT", "").replace("BERT", "")
    assert 'from_preset("minilm_l6_en")' in hub.BertClassifier.__doc__


def test_dir_shows_public_names_alone():
    assert dir(hub) == sorted([*hub.__all__, "__version__"])
    assert not [name for name in dir(hub.models) + dir(hub.tasks) if name.startswith("_")]


def test_versions():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert hub.__version__ == keras.__version__ == project["version"]
