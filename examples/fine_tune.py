"""Fine-tune a pretrained BERT on short reviews, save it, and load it on another backend."""

import argparse
import time

import numpy as np

import hub
import keraslite as keras

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--backend", default="jax", choices=["jax", "torch", "tensorflow"])
parser.add_argument("--other", default="torch", choices=["jax", "torch", "tensorflow", "numpy"])
parser.add_argument("--preset", default="minilm_l6_en")
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--save", default="./demo_model", help="the folder for the trained model")
options = parser.parse_args()

keras.use_backend(options.backend)
keras.utils.set_random_seed(0)
print(f"Backend: {keras.backend()}. Preset: {options.preset}.")

(texts, labels), (test_texts, test_labels) = hub.datasets.load_reviews()
print(f"{len(texts)} reviews to learn from, {len(test_texts)} held out.")

clf = hub.BertClassifier.from_preset(options.preset, num_classes=2)
batch_size = 16
steps = options.epochs * -(-len(texts) // batch_size)
rate = keras.optimizers.schedules.PolynomialDecay(1e-4, steps, 0.0)
clf.compile(optimizer=keras.optimizers.AdamW(rate, weight_decay=0.01))
start = time.perf_counter()
clf.fit(
    texts,
    labels,
    validation_data=(test_texts, test_labels),
    batch_size=batch_size,
    epochs=options.epochs,
)
print(f"Trained in {time.perf_counter() - start:.0f} s.")
accuracy = clf.evaluate(test_texts, test_labels, verbose=0, return_dict=True)["accuracy"]
print(f"Held-out accuracy: {accuracy:.1%}")


def probabilities(model: hub.BertClassifier, sentences: list[str]) -> np.ndarray:
    """The probability of a good review, for each sentence."""
    logits = model.predict(sentences, verbose=0)
    return keras.ops.convert_to_numpy(keras.ops.softmax(logits, axis=-1))[:, 1]


samples = ["What an amazing movie!", "I want my money back.", "Not bad at all, I was surprised."]
before = probabilities(clf, samples)
for sentence, p in zip(samples, before, strict=True):
    print(f"{p:7.1%} positive  {sentence}")

clf.backbone.source_config["id2label"] = {"0": "negative", "1": "positive"}
clf.save_to_preset(options.save)
moved = hub.BertClassifier.from_preset(options.save, backend=options.other)
after = probabilities(moved, samples)
difference = float(np.abs(before - after).max())
print(f"Saved, and loaded on {options.other}: probabilities differ by at most {difference:.1e}.")
assert difference < 1e-3, "the two backends disagree"
print(f'Again: python -m hub run text-classification {options.save} "{samples[0]}"')
