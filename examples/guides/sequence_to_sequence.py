"""Translate sentences with LSTMs and attention.

    python examples/guides/sequence_to_sequence.py [--backend torch]

The language translated into is made up. It puts the verb last and adjectives behind their noun,
whose gender they take in their ending, and has no word for "a": "the old dog sees a red house" is
"la hundo oldo domora ruba vidas". So a word cannot be translated where it stands.

An LSTM reads the sentence. A second one starts from its last state and learns to give the next
word of the translation from the words before it; at each step attention looks up those words of
the sentence that matter. In training the words before are those of the right translation ("teacher
forcing"), afterwards the model's own.
"""

import argparse

import numpy as np

import keraslite as keras
from keraslite import layers

NOUNS = {
    "dog": "hundo", "king": "rejo", "bird": "birdo", "tree": "arbo",
    "house": "domora", "queen": "rejina", "ship": "naviga", "town": "urbana",
}  # fmt: skip
ADJECTIVES = {"old": "old", "red": "rub", "small": "pik", "happy": "feliz", "far": "lont"}
VERBS = {"sees": "vidas", "loves": "amas", "finds": "trovas", "paints": "pentas"}
LENGTH = 9  # of tokens: no sentence and no translation has more


def noun_phrase(random: np.random.Generator) -> tuple[str, str]:
    """Return a noun with an article and maybe an adjective, in both languages."""
    article = random.choice(["the", "a"])
    adjectives = list(random.choice(list(ADJECTIVES), random.integers(2)))
    noun = random.choice(list(NOUNS))
    ending = NOUNS[noun][-1]
    translated = [NOUNS[noun], *(ADJECTIVES[a] + ending for a in adjectives)]
    return (
        " ".join([article, *adjectives, noun]),
        " ".join((["la"] if article == "the" else []) + translated),
    )


def make_pairs(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Return sentences and their translations."""
    random = np.random.default_rng(seed)
    sentences, translations = [], []
    for _ in range(count):
        (subject, subject_there), (item, item_there) = noun_phrase(random), noun_phrase(random)
        verb = random.choice(list(VERBS))
        sentences.append(f"{subject} {verb} {item}")
        translations.append(f"[start] {subject_there} {item_there} {VERBS[verb]} [end]")
    return sentences, translations


def build_model(source_size: int, target_size: int, units: int = 48) -> keras.Model:
    """Return the model, from a sentence and the words before to scores of the next word."""
    source = keras.Input((None,), dtype="int64", name="source")
    before = keras.Input((None,), dtype="int64", name="before")
    x = layers.Embedding(source_size, units, mask_zero=True)(source)
    encoded, *state = layers.LSTM(units, return_sequences=True, return_state=True)(x)
    known = layers.Concatenate()([encoded, x])  # each word in its context, and by itself
    x = layers.Embedding(target_size, units, mask_zero=True)(before)
    decoded = layers.LSTM(units, return_sequences=True)(x, initial_state=state)
    context = layers.Attention()([decoded, known, encoded])
    x = layers.Concatenate()([decoded, context])
    x = layers.Dense(units, activation="tanh")(x)
    return keras.Model([source, before], layers.Dense(target_size)(x))


def translate(model: keras.Model, source: np.ndarray, words: list[str]) -> list[str]:
    """Return translations, a word at a time for all sentences, each the one with the best score."""
    tokens = np.zeros((len(source), LENGTH + 1), "int64")
    tokens[:, 0] = words.index("[start]")
    for i in range(LENGTH):
        scores = model.predict([source, tokens[:, :-1]], batch_size=200, verbose=0)
        tokens[:, i + 1] = scores[:, i].argmax(axis=-1)
    sentences = [" ".join(words[token] for token in row) for row in tokens]
    return [sentence.partition(" [end]")[0] + " [end]" for sentence in sentences]


def main() -> None:
    """Train, and translate unseen sentences."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backend", choices=["jax", "torch", "tensorflow"])
    options = parser.parse_args()
    if options.backend:
        keras.use_backend(options.backend)
    keras.utils.set_random_seed(0)

    sentences, translations = make_pairs(3000, seed=0)
    pairs = set(zip(*make_pairs(200, seed=1))) - set(zip(sentences, translations))
    unseen, expected = zip(*sorted(pairs))
    source_words = layers.TextVectorization(standardize=None, output_sequence_length=LENGTH)
    target_words = layers.TextVectorization(standardize=None, output_sequence_length=LENGTH + 1)
    source_words.adapt(sentences)
    target_words.adapt(translations)
    source = keras.ops.convert_to_numpy(source_words(sentences))
    target = keras.ops.convert_to_numpy(target_words(translations))

    model = build_model(source_words.vocabulary_size(), target_words.vocabulary_size())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss, weighted_metrics=["accuracy"])
    model.fit([source, target[:, :-1]], target[:, 1:], batch_size=50, epochs=5, verbose=2)

    words = target_words.get_vocabulary()
    answers = translate(model, keras.ops.convert_to_numpy(source_words(unseen)), words)
    for sentence, answer in list(zip(unseen, answers))[:4]:
        print(f"  {sentence}\n    {answer}")
    right = np.mean([a == e for a, e in zip(answers, expected)])
    print(f"{right:.1%} of {len(unseen)} unseen sentences are translated without a mistake.")
    assert right > 0.85


if __name__ == "__main__":
    main()
