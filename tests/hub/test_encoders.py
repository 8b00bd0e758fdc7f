"""The encoders beside BERT against transformers, on every backend in one process."""

import bert_checkpoints as tiny
import numpy as np
import pytest
import torch
import transformers
from test_bert import close

import hub
import keraslite as keras
from hub.families import family_of

SIZES = {
    "vocab_size": tiny.CONFIG["vocab_size"], "hidden_size": 12, "num_hidden_layers": 3,
    "num_attention_heads": 3, "intermediate_size": 20, "max_position_embeddings": 24,
}  # fmt: skip
CONFIGS = {
    "roberta": ("Roberta", {**SIZES, "type_vocab_size": 1, "pad_token_id": 1}),
    "xlm-roberta": ("XLMRoberta", {**SIZES, "type_vocab_size": 1, "pad_token_id": 1}),
    "distilbert": (
        "DistilBert",
        {"vocab_size": SIZES["vocab_size"], "dim": 12, "n_layers": 3, "n_heads": 3,
         "hidden_dim": 20, "max_position_embeddings": 24, "pad_token_id": 0},
    ),
    "electra": ("Electra", {**SIZES, "embedding_size": 8, "type_vocab_size": 2}),
    "electra[wide]": ("Electra", {**SIZES, "embedding_size": 12, "type_vocab_size": 2}),
    "albert": (
        "Albert",
        {**SIZES, "embedding_size": 8, "num_hidden_layers": 5, "num_hidden_groups": 2,
         "inner_group_num": 2, "type_vocab_size": 2, "hidden_act": "gelu_new",
         "hidden_dropout_prob": 0.1},
    ),
}  # fmt: skip
WITHOUT_SEGMENTS = ("roberta", "xlm-roberta", "distilbert")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    made = {}

    def get(family, kind, **changes):
        key = family, kind, *changes
        if key not in made:
            name, config = CONFIGS[family]
            torch.manual_seed(0)
            theirs = getattr(transformers, name + kind)(
                getattr(transformers, f"{name}Config")(**config, **changes)
            ).eval()
            with torch.no_grad():
                for parameter in theirs.parameters():  # no zeros or ones that hide a mistake
                    parameter.add_(torch.randn_like(parameter) * 0.1)
            folder = tmp_path_factory.mktemp("encoders") / (name + kind)
            theirs.save_pretrained(folder)
            tiny.words(folder)
            made[key] = folder, theirs
        return made[key]

    return get


def inputs(family):
    """A padded batch for us and for transformers; RoBERTa tells padding by its id."""
    batch = tiny.inputs()
    if "roberta" in family:
        batch["token_ids"] = np.where(batch["padding_mask"], batch["token_ids"], 1)
    batch["segment_ids"] = np.minimum(batch["segment_ids"], 1)
    theirs = tiny.for_torch(batch)
    if family in WITHOUT_SEGMENTS:
        del theirs["token_type_ids"]
    return batch, theirs


@pytest.mark.parametrize("family", CONFIGS)
def test_backbones_equal(backend, checkpoints, family):
    folder, theirs = checkpoints(family, "Model")
    batch, given = inputs(family)
    expected = theirs(**given)
    model = hub.Backbone.from_preset(folder)
    assert isinstance(model, family_of(family.partition("[")[0]).backbone)
    out = model(batch)
    valid = batch["padding_mask"][..., None]
    ours = keras.ops.convert_to_numpy(out["sequence_output"]) * valid
    close(ours, expected.last_hidden_state * torch.from_numpy(valid))
    pooled = getattr(expected, "pooler_output", None)
    assert ("pooled_output" in out) == (pooled is not None)
    if pooled is not None:
        close(out["pooled_output"], pooled)


@pytest.mark.parametrize("family", CONFIGS)
def test_classifiers_equal(backend, checkpoints, family):
    folder, theirs = checkpoints(family, "ForSequenceClassification", num_labels=4)
    batch, given = inputs(family)
    model = hub.TextClassifier.from_preset(folder, preprocessor=no_texts)
    assert model.family == family.partition("[")[0]
    close(model(batch), theirs(**given).logits)


@pytest.mark.parametrize("family", CONFIGS)
def test_masked_lms_equal(backend, checkpoints, family):
    folder, theirs = checkpoints(family, "ForMaskedLM")
    batch, given = inputs(family)
    model = hub.MaskedLM.from_preset(folder, preprocessor=no_texts)
    close(model(batch), theirs(**given).logits)


def no_texts(*args):
    """A preprocessor for models that are given arrays."""
    raise AssertionError(args)


@pytest.mark.parametrize("kind", ["TextClassifier", "MaskedLM"])
@pytest.mark.parametrize("family", CONFIGS)
def test_transformers_opens_what_we_save(checkpoints, family, kind, tmp_path):
    name, _ = CONFIGS[family]
    suffix = "ForMaskedLM" if kind == "MaskedLM" else "ForSequenceClassification"
    folder, _ = checkpoints(family, suffix)
    batch, given = inputs(family)
    with keras.use_backend("numpy"):
        model = getattr(hub, kind).from_preset(folder, preprocessor=no_texts)
        model.save_to_preset(tmp_path)
        again, info = getattr(transformers, name + suffix).from_pretrained(
            tmp_path, output_loading_info=True
        )
        assert not any(info.values()), info
        close(model(batch), again.eval()(**given).logits)
        copy = hub.Backbone.from_preset(tmp_path)
        assert copy.get_config() | {"name": 0} == model.backbone.get_config() | {"name": 0}


@pytest.mark.parametrize("family", CONFIGS)
def test_a_new_head_over_a_bare_backbone(checkpoints, family):
    folder, _ = checkpoints(family, "Model")
    with keras.use_backend("numpy"):
        model = hub.TextClassifier.from_preset(folder, num_classes=3, preprocessor=no_texts)
        assert model(inputs(family)[0]).shape == (3, 3)


@pytest.mark.parametrize("family", CONFIGS)
def test_a_missing_tensor_is_named(checkpoints, family, tmp_path):
    folder, theirs = checkpoints(family, "Model")
    theirs.save_pretrained(tmp_path)
    spoil(tmp_path)
    with pytest.raises(ValueError, match=r"Missing in the checkpoint \(1\): .*LayerNorm.bias"):
        hub.Backbone.from_preset(tmp_path)


def spoil(folder):
    """Leave a tensor out."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors.pop(next(name for name in sorted(tensors) if "LayerNorm.bias" in name))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("cls", "theirs"), [(hub.RobertaBackbone, "RobertaModel"), (hub.BertBackbone, "BertModel"),
                        (hub.AlbertBackbone, "AlbertModel"), (hub.ElectraBackbone, "ElectraModel")],
)  # fmt: skip
def test_a_model_that_was_made_here_is_opened_by_transformers(cls, theirs, tmp_path):
    narrow = {"embedding_dim": 6} if theirs in ("AlbertModel", "ElectraModel") else {}
    model = cls(40, num_layers=2, num_heads=2, hidden_dim=8, intermediate_dim=12, **narrow)
    model.save_to_preset(tmp_path)
    opened = getattr(transformers, theirs).from_pretrained(tmp_path).eval()
    ids = np.random.default_rng(0).integers(5, 40, (2, 7)).astype("int32")
    ours = model({"token_ids": ids, "padding_mask": ids > 0})["sequence_output"]
    close(ours, opened(torch.from_numpy(ids).long()).last_hidden_state)
