"""Texts from where users have them: lists, arrays, tensors of strings and data sets of tf.data."""

import bert_checkpoints as tiny
import numpy as np
import pytest
import text_checkpoints
from checkpoints import cached

import hub
import keraslite as keras
from keraslite import ops

tf = pytest.importorskip("tensorflow")

TEXTS = [*tiny.TEXTS, "the film was not bad"]
LABELS = np.array([0, 1, 2, 1], "int32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    make = cached(tiny.make, tmp_path_factory)
    return make("BertForSequenceClassification", num_labels=3, hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0)[0]  # fmt: skip


@pytest.fixture
def classifier(backend, folder):
    return hub.BertTextClassifier.from_preset(folder, dropout=0.0)


@pytest.mark.parametrize(
    "form",
    [np.array, tf.constant, lambda x: np.array(x, object), lambda x: np.array(x).astype("S")],
    ids=["str", "tensor", "object", "bytes"],
)
def test_texts_in_any_form_are_predicted_alike(classifier, form):
    expected = classifier.predict(TEXTS, verbose=0)
    np.testing.assert_allclose(classifier.predict(form(TEXTS), verbose=0), expected, atol=1e-6)


def test_pairs_of_tensors_are_pairs_of_texts(classifier):
    expected = classifier.predict((TEXTS, TEXTS[::-1]), verbose=0)
    pairs = tf.constant(TEXTS), tf.constant(TEXTS[::-1])
    np.testing.assert_allclose(classifier.predict(pairs, verbose=0), expected, atol=1e-6)


def _prepared(preprocessor, unbatched):
    data = tf.data.Dataset.from_tensor_slices((TEXTS, LABELS))
    if unbatched:
        return data.map(lambda a, b: (preprocessor(a), b)).batch(2)
    return data.batch(2).map(preprocessor)


@pytest.mark.parametrize(
    "data",
    [
        lambda p: tf.data.Dataset.from_tensor_slices((TEXTS, LABELS)).batch(2),
        lambda p: _prepared(p, unbatched=False),
        lambda p: _prepared(p, unbatched=True),
    ],
    ids=["texts", "batches", "rows"],
)
def test_data_sets_of_texts_train_like_lists(trains, folder, data):
    losses = []
    for stream in (False, True):
        keras.utils.set_random_seed(0)
        model = hub.BertTextClassifier.from_preset(folder, dropout=0.0)
        model.compile(keras.optimizers.SGD(0.1))
        x, y = (data(model.preprocessor), None) if stream else (TEXTS, LABELS)
        kwargs = {} if stream else {"batch_size": 2, "shuffle": False}
        losses.append(model.fit(x, y, epochs=2, verbose=0, **kwargs).history["loss"])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


@pytest.mark.parametrize("task", ["text_classifier", "masked_lm", "causal_lm"])
def test_a_preprocessor_in_a_graph_gives_what_it_gives_outside(folder, tmp_path, task):
    if task == "causal_lm":
        text_checkpoints.make(tmp_path / "gpt2", "gpt2")
        make = lambda: hub.CausalLM.from_preset(tmp_path / "gpt2").preprocessor  # noqa: E731
    elif task == "masked_lm":
        tokenizer = hub.BertTextClassifier.from_preset(folder).preprocessor.tokenizer
        make = lambda: hub.MaskedLMPreprocessor(tokenizer, 24, seed=3)  # noqa: E731
    else:
        make = lambda: hub.BertTextClassifier.from_preset(folder).preprocessor  # noqa: E731
    data = tf.data.Dataset.from_tensor_slices(TEXTS).batch(4).map(make())
    keras.tree.map_structure(
        lambda got, want: np.testing.assert_array_equal(got, want), next(iter(data)), make()(TEXTS)
    )
    rows = tf.data.Dataset.from_tensor_slices(TEXTS).map(make())
    assert all(s.shape.is_fully_defined() for s in tf.nest.flatten(rows.element_spec))


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_a_framework_without_strings_refuses_them(name):
    if name not in keras.backend.available():
        pytest.skip(f"{name} is not installed")
    with pytest.raises(TypeError, match=f"{name} has no tensors of strings"):
        keras.to_backend(tf.constant(["a", "b"]), name)


def test_strings_of_tensorflow_are_read_as_text():
    assert ops.convert_to_numpy(tf.constant(["a", "é"])).tolist() == ["a", "é"]
    assert keras.to_backend(tf.constant(["a"]), "numpy").tolist() == ["a"]
