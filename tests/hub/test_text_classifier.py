"""Classification of texts: labels as users have them, losses by name, answers with names."""

import bert_checkpoints as tiny
import numpy as np
import pytest
import transformers
from checkpoints import cached

import hub
import keraslite as keras


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return cached(tiny.make, tmp_path_factory)


@pytest.fixture
def named(backend, checkpoints):
    return hub.BertTextClassifier.from_preset(
        checkpoints("BertForSequenceClassification", id2label={0: "bad", 1: "good", 2: "odd"})[0]
    )


def test_names_are_encoded_as_the_config_says(backend, named):
    assert named.labels == ["bad", "good", "odd"]
    named.compile()
    kwargs = {"verbose": 0, "return_dict": True}
    expected = named.evaluate(tiny.TEXTS, np.array([1, 0, 2]), **kwargs)
    assert named.evaluate(tiny.TEXTS, ["good", "bad", "odd"], **kwargs) == expected


def test_classes_are_taken_from_the_data(trains, checkpoints, tmp_path):
    model = hub.BertTextClassifier.from_preset(checkpoints("BertModel")[0])
    model.fit(tiny.TEXTS, ["good", "bad", "fair"], epochs=1, verbose=0)
    assert model.labels == ["bad", "fair", "good"]
    assert model.predict(tiny.TEXTS, verbose=0).shape == (3, 3)
    assert len(model.head.weights) == 2
    model.save_to_preset(tmp_path)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert theirs.config.id2label == {0: "bad", 1: "fair", 2: "good"}
    assert hub.load(tmp_path).labels == model.labels


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, float("nan"), 1], "row 1 is missing"),
        ([0, 1, 0.5], "row 2 must be a whole number"),
        ([None, 1, 0], "row 0 is missing"),
        ([0, 1, 3], "row 2 must be a whole number from 0 to 2, got 3"),
        ([-1, 1, 2], "row 0 must be"),
        (["good", "great", "bad"], "row 1 must be one of"),
        (np.array([0.0, np.nan, 1.0]), "row 1 is missing"),
    ],
)
def test_a_label_that_is_none_of_a_class_is_refused(named, labels, message):
    named.compile()
    with pytest.raises(ValueError, match=message):
        named.evaluate(tiny.TEXTS, labels, verbose=0)


def test_answers_are_labels_and_probabilities(named, checkpoints):
    logits = named.predict(tiny.TEXTS, verbose=0).astype("float64")
    scores = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    answers = named.classify(tiny.TEXTS)
    assert [a["label"] for a in answers] == [named.labels[i] for i in scores.argmax(-1)]
    np.testing.assert_allclose([a["score"] for a in answers], scores.max(-1), atol=1e-5)
    assert named.classify(tiny.TEXTS[0])["label"] == answers[0]["label"]


def test_a_loss_by_name_is_that_of_logits(named):
    results = []
    for loss in ("auto", "sparse_categorical_crossentropy"):
        named.compile("adam", loss=loss)
        results.append(named.evaluate(tiny.TEXTS, [0, 1, 2], verbose=0, return_dict=True))
    assert results[0] == results[1]
    assert set(results[1]) == {"loss", "accuracy"}


def test_a_loss_by_name_is_that_of_probabilities_after_softmax(backend, checkpoints):
    folder, _ = checkpoints("BertForSequenceClassification", num_labels=3)
    model = hub.BertTextClassifier.from_preset(folder, activation="softmax")
    model.compile("adam", loss="sparse_categorical_crossentropy")
    loss = model.evaluate(tiny.TEXTS, [0, 1, 2], verbose=0, return_dict=True)["loss"]
    out = model.predict(tiny.TEXTS, verbose=0)
    np.testing.assert_allclose(loss, -np.log(out[range(3), range(3)]).mean(), rtol=1e-4)


def test_inputs_in_other_forms(named):
    expected = named.predict(tiny.TEXTS, verbose=0)
    got = named.predict({"text": tiny.TEXTS}, verbose=0)
    np.testing.assert_allclose(got, expected, atol=1e-6)
    for x, message in ((None, "got None"), ([None], "row 0"), (["a", None], "row 1")):
        with pytest.raises(ValueError, match=message):
            named.predict(x, verbose=0)
    with pytest.raises(ValueError, match="batch_size must be"):
        named.predict(tiny.TEXTS, batch_size=2.5, verbose=0)


@pytest.mark.parametrize(
    "arguments", [{"num_classes": "a"}, {"num_classes": True}, {"sequence_length": 0}]
)
def test_sizes_must_be_positive_integers(checkpoints, arguments):
    name = next(iter(arguments))
    with keras.use_backend("numpy"), pytest.raises(ValueError, match=f"{name} must be"):
        hub.BertTextClassifier.from_preset(checkpoints("BertModel")[0], **arguments)


@pytest.mark.parametrize(
    "loss",
    [
        ["sparse_categorical_crossentropy"],
        "SparseCategoricalCrossentropy",
        keras.losses.sparse_categorical_crossentropy,
    ],
)
def test_a_loss_in_any_form_of_its_name_is_that_of_logits(named, loss):
    named.compile("adam")
    expected = named.evaluate(tiny.TEXTS, [0, 1, 2], verbose=0, return_dict=True)["loss"]
    named.compile("adam", loss=loss)
    found = named.evaluate(tiny.TEXTS, [0, 1, 2], verbose=0, return_dict=True)["loss"]
    assert found == pytest.approx(expected, rel=1e-6)


def test_missing_inputs_are_named(named):
    named.compile()
    for run in (named.predict, named.evaluate, named.fit, named.classify):
        with pytest.raises(ValueError, match="texts or ready inputs, got None"):
            run(None)
    with pytest.raises(ValueError, match="got None in row 1"):
        named.fit(["a", None, "b"], [0, 1, 2], verbose=0)
    with pytest.raises(ValueError, match="batch_size must be a positive integer, got 'a'"):
        named.predict(tiny.TEXTS, batch_size="a")


def test_ids_in_lists_are_taken_and_checked(named):
    ids = [[2, 5, 3]]
    expected = named.predict({"token_ids": np.array(ids)}, verbose=0)
    found = keras.ops.convert_to_numpy(named({"token_ids": ids}))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(ValueError, match="got 99 at"):
        named({"token_ids": [[2, 99, 3]]})


@pytest.mark.parametrize("count", [0, -1, 1.5])
def test_a_number_of_layers_is_positive(checkpoints, count):
    folder = checkpoints("BertModel")[0]
    with pytest.raises(
        ValueError, match=f"num_layers must be an integer of at least 1, got {count}"
    ):
        hub.BertBackbone.from_preset(folder, num_layers=count)
