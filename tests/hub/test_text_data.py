"""Texts as tf.data, tensors of strings, arrays and bytes; preprocessing inside of a data set."""

import numpy as np
import pytest

import hub
import keraslite as keras
from hub.preprocessing.text import is_text, texts_and_pairs
from keraslite.utils.data import call_on_host, decode_text

tf = pytest.importorskip("tensorflow")

TEXTS = ["good film", "a bad one, all told", "so-so", "né à Paris"]
LABELS = np.array([2, 0, 1, 1])


@pytest.fixture
def classifier(backend):
    return hub.TextClassifier.from_preset("minilm_l6_en", num_classes=3)


@pytest.fixture
def dataset():
    return tf.data.Dataset.from_tensor_slices((TEXTS, LABELS)).batch(2)


def test_texts_in_any_form(classifier, dataset):
    expected = classifier.predict(TEXTS, verbose=0)
    for x in (
        tf.constant(TEXTS), np.array(TEXTS), np.array(TEXTS, object),
        [text.encode() for text in TEXTS], dataset.map(lambda x, y: x),
    ):  # fmt: skip
        np.testing.assert_allclose(classifier.predict(x, verbose=0), expected, atol=1e-5)


def test_fit_and_evaluate_a_dataset_of_texts(classifier, dataset):
    classifier.compile()
    if keras.backend.load(classifier.backend).TRAINS:
        assert len(classifier.fit(dataset, verbose=0).history["loss"]) == 1
        classifier.fit(tf.constant(TEXTS), LABELS, verbose=0)
    loss, accuracy = classifier.evaluate(TEXTS, LABELS, batch_size=2, verbose=0)
    np.testing.assert_allclose(classifier.evaluate(dataset, verbose=0), [loss, accuracy], rtol=1e-5)


def test_a_preprocessor_inside_of_a_dataset(classifier, dataset):
    preprocessor = classifier.preprocessor
    expected = classifier.predict(TEXTS, verbose=0)
    for prepared in (
        dataset.map(lambda x, y: (preprocessor(x), y)), dataset.map(preprocessor),
    ):  # fmt: skip
        inputs, labels = prepared.element_spec
        assert inputs["token_ids"].shape.as_list() == [None, None]
        assert inputs["padding_mask"].dtype == tf.bool
        assert labels.dtype == tf.int64
        np.testing.assert_allclose(classifier.predict(prepared, verbose=0), expected, atol=1e-5)
    if keras.backend.load(classifier.backend).TRAINS:
        classifier.fit(prepared, verbose=0)


def test_pairs_inside_of_a_dataset(classifier):
    pairs = tf.data.Dataset.from_tensor_slices((TEXTS, TEXTS[::-1])).batch(2)
    prepared = next(iter(pairs.map(lambda a, b: classifier.preprocessor((a, b)))))
    expected = classifier.preprocessor((TEXTS[:2], TEXTS[:1:-1]))
    for name, value in expected.items():
        np.testing.assert_array_equal(prepared[name].numpy(), value)


def test_strings_do_not_become_tensors_of_another_backend(backend):
    texts = tf.constant(["a"])
    if backend == "tensorflow":
        assert keras.to_backend(texts, backend) is texts
    else:
        with pytest.raises(
            TypeError, match=f"strings cannot be moved from tensorflow to {backend}"
        ):
            keras.to_backend(texts, backend)


def test_decoding():
    for x in (tf.constant(TEXTS), np.array([t.encode() for t in TEXTS]), np.array(TEXTS)):
        assert decode_text(x).dtype == object
        assert decode_text(x).tolist() == TEXTS
        assert is_text(x)
        assert texts_and_pairs((x, x)) == (TEXTS, TEXTS)
    assert decode_text(np.array([["a", "b"]])).shape == (1, 2)
    for x in (np.ones(2), None, 3, [1], tf.constant([1.0])):
        assert decode_text(x) is x


def test_host_calls_in_a_graph():
    @tf.function
    def run(x):
        return call_on_host(lambda a, b: {"sum": a + b, "more": [a * 2.0]}, x, np.float32(1))

    result = run(tf.constant([1.0, 2.0]))
    assert result["sum"].numpy().tolist() == [2.0, 3.0]
    assert result["more"][0].numpy().tolist() == [2.0, 4.0]
