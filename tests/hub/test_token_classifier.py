"""TokenClassifier against transformers: scores, saved files, words, and the pipeline's entities."""

import json
from functools import partial

import bert_checkpoints as tiny
import compare
import encoder_checkpoints
import numpy as np
import pytest
import text_checkpoints
import torch
import transformers
from backends import TRAINABLE
from checkpoints import cached
from encoder_checkpoints import CONFIGS, inputs

import hub
import keraslite as keras

LABELS = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-ORG"}
TEXTS = ["the movie  was not bad!", "an amazing films.\n", "good"]
WORDS = [["the", "movie", "was", "good"], ["bad", "films", "!"], ["an", "amazing", "film"]]
assert_close = partial(compare.assert_close, rtol=0, atol=2e-5)
TAGS = [[0, 1, 2, 0], [3, 1, 0], [0, 2, 1]]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return cached(encoder_checkpoints.make, tmp_path_factory)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    theirs = tiny.make(
        folder, "BertForTokenClassification", id2label=LABELS,
        label2id={v: k for k, v in LABELS.items()},
    )  # fmt: skip
    return folder, theirs


@pytest.fixture(scope="module")
def roberta(tmp_path_factory):
    """With byte-level tokens, which hold the space before a word."""
    folder = tmp_path_factory.mktemp("bytes")
    size = text_checkpoints.byte_pair_files(folder, "opt")
    special = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>",
               "unk_token": "<unk>", "pad_token": "<pad>"}  # fmt: skip
    config = {"tokenizer_class": "RobertaTokenizer", "model_max_length": 48, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    config = transformers.RobertaConfig(
        vocab_size=size, hidden_size=12, num_hidden_layers=2, num_attention_heads=3,
        intermediate_size=20, max_position_embeddings=50, pad_token_id=1, type_vocab_size=1,
        id2label=LABELS, initializer_range=0.5,
    )  # fmt: skip
    theirs = transformers.RobertaForTokenClassification(config).eval()
    theirs.save_pretrained(folder)
    return folder, theirs


@pytest.mark.parametrize("family", CONFIGS)
def test_scores(backend, checkpoints, family):
    folder, theirs = checkpoints(family, "ForTokenClassification", num_labels=4)
    batch, given = inputs(family)
    model = hub.TokenClassifier.from_preset(folder, preprocessor=None)
    assert model.family == family.partition("[")[0]
    valid = batch["padding_mask"][..., None]
    ours = keras.ops.convert_to_numpy(model(batch)) * valid
    assert_close(ours, theirs(**given).logits * torch.from_numpy(valid))


@pytest.mark.parametrize("family", CONFIGS)
def test_transformers_opens_what_we_save(checkpoints, family, tmp_path):
    folder, theirs = checkpoints(family, "ForTokenClassification", num_labels=4)
    with keras.use_backend("numpy"):
        hub.TokenClassifier.from_preset(folder, preprocessor=None).save_to_preset(tmp_path)
    again, info = type(theirs).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    assert torch.equal(again.classifier.weight, theirs.classifier.weight)


def pipeline(folder, theirs):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return transformers.pipeline(
        "token-classification", model=theirs, tokenizer=tokenizer, aggregation_strategy="simple"
    )


@pytest.mark.parametrize("which", ["bert", "roberta"])
def test_entities_are_those_of_the_pipeline(backend, request, which):
    folder, theirs = request.getfixturevalue(which)
    model = hub.TokenClassifier.from_preset(folder)
    assert model.labels == list(LABELS.values())
    texts = TEXTS if which == "bert" else [*TEXTS, *text_checkpoints.TEXTS]
    found = model.find_entities(texts)
    assert sum(map(len, found)) > 4
    for ours, text, expected in zip(found, texts, pipeline(folder, theirs)(texts), strict=True):
        assert [e["entity_group"] for e in ours] == [e["entity_group"] for e in expected]
        np.testing.assert_allclose(
            [e["score"] for e in ours], [e["score"] for e in expected], rtol=1e-5
        )
        for one, other in zip(ours, expected, strict=True):
            assert one["end"] == other["end"]
            assert text[other["start"] : other["end"]].lstrip() == one["word"]


def test_scores_of_words(backend, bert):
    folder, theirs = bert
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = hub.TokenClassifier.from_preset(folder)
    scores = model.predict(WORDS, verbose=0)
    for words, ours in zip(WORDS, scores, strict=True):
        encoded = tokenizer(words, is_split_into_words=True, return_tensors="pt")
        logits = theirs(**encoded).logits[0].detach().numpy()
        first = [encoded.word_ids().index(i) for i in range(len(words))]
        np.testing.assert_allclose(ours, logits[first], atol=2e-5)
    joined = model.predict([" ".join(words) for words in WORDS], verbose=0)
    for a, b in zip(scores, joined, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_words_that_were_cut_off_have_no_scores(bert):
    with keras.use_backend("numpy"):
        model = hub.TokenClassifier.from_preset(bert[0], sequence_length=5)
        (scores,) = model.predict(["the movie was good bad"], verbose=0)
    assert np.isnan(scores).any(-1).tolist() == [False, False, False, True, True]


def test_training_on_words(trains, bert):
    model = hub.TokenClassifier.from_preset(bert[0])
    model.compile(keras.optimizers.Adam(0.01))
    losses = model.fit(WORDS, TAGS, epochs=15, verbose=0, batch_size=3).history["loss"]
    assert losses[-1] < losses[0] / 2
    named = [[LABELS[i] for i in row] for row in TAGS]
    assert model.evaluate(WORDS, TAGS, verbose=0)[0] < losses[0] / 2
    model.fit(WORDS, named, epochs=1, verbose=0)
    with pytest.raises(ValueError, match=r"text 0, word 0 must be one of \['O'.*'X'"):
        model.fit(WORDS[:1], [["X"] * 4])
    with pytest.raises(ValueError, match="Text 0 has 4 words but 2 labels"):
        model.fit(WORDS[:1], [[0, 1]])


def test_a_head_for_texts_is_not_taken_for_one_for_tokens(tmp_path):
    tiny.make(tmp_path, "BertForSequenceClassification", num_labels=4)
    with keras.use_backend("numpy"):
        model = hub.TokenClassifier.from_preset(tmp_path, num_classes=4)
        texts = hub.TextClassifier.from_preset(tmp_path)
    new, old = (m.head.kernel.numpy() for m in (model, texts))
    assert np.abs(new - old).max() > 0.01


@pytest.mark.parametrize("label", [None, float("nan"), 0.5, 9, "other"])
def test_a_label_that_is_none_of_a_word_is_refused(label):
    with keras.use_backend("numpy"):
        model = hub.TokenClassifier(hub.BertBackbone(9, 1, 2, hidden_dim=8, intermediate_dim=8), 3)
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]
        model.preprocessor = hub.TokenClassifierPreprocessor(hub.WordPieceTokenizer(words))
        model.compile()
        with pytest.raises(ValueError, match="label of text 1, word 0"):
            model.evaluate([["a"], ["b", "a"]], [[0], [label, 1]], verbose=0)


@pytest.mark.parametrize("backend", TRAINABLE, indirect=True)
def test_classes_are_taken_from_the_labels_of_words(backend, tmp_path):
    tags = [["O", "B-PER", "I-PER", "O"], ["B-ORG", "B-PER", "O"], ["O", "I-PER", "B-PER"]]
    tiny.make(tmp_path / "bert", "BertModel")
    model = hub.TokenClassifier.from_preset(tmp_path / "bert")
    model.compile(optimizer=keras.optimizers.Adam(0.01))
    model.fit(WORDS, tags, epochs=1, verbose=0)
    assert model.labels == ["B-ORG", "B-PER", "I-PER", "O"]
    assert model.predict(WORDS, verbose=0)[1].shape == (3, 4)
    model.save_to_preset(tmp_path / "saved")
    again = hub.load(tmp_path / "saved")
    assert again.labels == model.labels
    config = transformers.AutoConfig.from_pretrained(tmp_path / "saved")
    assert config.id2label == dict(enumerate(model.labels))
    with pytest.raises(ValueError, match="text 0, word 1 must be one of"):
        again.fit([WORDS[0]], [["O", "B-LOC", "O", "O"]], verbose=0)


def test_names_of_classes_are_given(tmp_path):
    tiny.make(tmp_path / "bert", "BertModel")
    with keras.use_backend("numpy"):
        model = hub.TokenClassifier.from_preset(tmp_path / "bert", labels=["O", "B-PER"])
        assert (model.num_classes, model.labels) == (2, ["O", "B-PER"])
        model.compile()
        assert model.evaluate(WORDS[:1], [["O", "B-PER", "O", "O"]], verbose=0, return_dict=True)
        with pytest.raises(ValueError, match="labels must be 3 names"):
            hub.TokenClassifier.from_preset(tmp_path / "bert", num_classes=3, labels=["O", "B-PER"])
