"""Classify reviews from their text.

    python examples/guides/text_classifier.py [--backend torch]

The reviews are made up from a few phrases. A word alone does not tell much, since "not dull" is
praise and "hardly good" is not: the model has to look at words beside each other, which a
convolution over their embeddings does. `TextVectorization` learns the vocabulary and turns texts
into rows of numbers. It is used here in both of its ways: in the data pipeline, where each text is
turned once for all epochs, and at the end as the first layer of a model that takes raw texts.
(With Keras such a model needs TensorFlow; here it runs on every backend.)
"""

import argparse

import numpy as np

import keraslite as keras
from keraslite import layers

GOOD = ("good", "charming", "clever", "moving", "funny", "gripping")
BAD = ("dull", "clumsy", "boring", "tedious", "hollow", "messy")
THINGS = ("plot", "cast", "music", "ending", "dialogue", "camera work", "second half")
OPENINGS = ("Well,", "Honestly,", "To be fair,", "As my brother says,", "I went twice!", "")
CLOSINGS = ("I had popcorn.", "It rained all evening.", "Two hours long.", "See for yourself.", "")


def judgement(positive: bool, random: np.random.Generator) -> str:
    """Return a sentence of praise or blame, half of them by a negation."""
    negated = random.random() < 0.5
    word = random.choice(GOOD if positive != negated else BAD)
    adverb = random.choice(["not", "never", "hardly"] if negated else ["very", "really", "quite"])
    return f"the {random.choice(THINGS)} was {adverb} {word}"


def make_reviews(count: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Return reviews, and whether each is positive: two of its three judgements are, or all."""
    random = np.random.default_rng(seed)
    texts, labels = [], random.integers(2, size=count)
    for label in labels:
        doubt = random.random() < 0.3  # one judgement that says the contrary
        signs = random.permutation([label, label, 1 - label if doubt else label])
        parts = [judgement(bool(sign), random) for sign in signs]
        body = f"{parts[0].capitalize()}, {parts[1]}, and {parts[2]}."
        texts.append(f"{random.choice(OPENINGS)} {body} {random.choice(CLOSINGS)}".strip())
    return texts, labels.astype("float32")


def build_model(vocabulary_size: int) -> keras.Model:
    """Return the model, from numbers of tokens to the probability of praise."""
    tokens = keras.Input((None,), dtype="int64")
    x = layers.Embedding(vocabulary_size, 16)(tokens)
    x = layers.Dropout(0.2)(x)
    x = layers.Conv1D(32, 3, padding="same", activation="relu")(x)
    x = layers.GlobalAveragePooling1D()(x)
    x = layers.Dense(16, activation="relu")(x)
    return keras.Model(tokens, layers.Dense(1, activation="sigmoid")(x))


def main() -> None:
    """Train, and judge new texts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backend", choices=["jax", "torch", "tensorflow"])
    options = parser.parse_args()
    if options.backend:
        keras.use_backend(options.backend)
    keras.utils.set_random_seed(0)

    texts, labels = make_reviews(2000, seed=0)
    test_texts, test_labels = make_reviews(500, seed=1)
    vectorize = layers.TextVectorization(max_tokens=1000, output_sequence_length=32)
    vectorize.adapt(texts)
    vocabulary = vectorize.get_vocabulary()
    print(f"{texts[0]!r} is {labels[0]:.0f}")
    print(f"{len(vocabulary)} tokens, the most frequent: {', '.join(vocabulary[2:10])}")

    model = build_model(len(vocabulary))
    model.compile(keras.optimizers.Adam(5e-3), "binary_crossentropy", metrics=["accuracy"])
    model.fit(
        vectorize(texts), labels, epochs=8, batch_size=50, verbose=2,
        validation_data=(vectorize(test_texts), test_labels),
    )  # fmt: skip

    text_model = keras.Sequential([keras.Input((), dtype="string"), vectorize, model])
    for text in (
        "The plot was never dull, the ending was really moving, and the cast was quite good.",
        "The plot was never good, the ending was really dull, and the cast was hardly moving.",
    ):
        praise = text_model.predict(np.array([text], "object"), verbose=0)[0, 0]
        print(f"{praise:.3f}  {text}")
    answers = text_model.predict(np.array(test_texts, "object"), verbose=0)[:, 0] > 0.5
    accuracy = np.mean(answers == test_labels)
    print(f"{accuracy:.1%} of {len(test_texts)} unseen reviews are judged rightly.")
    assert accuracy > 0.9


if __name__ == "__main__":
    main()
