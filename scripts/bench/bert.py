"""Benchmark BERT-base inference against transformers on torch, and KerasHub on each backend."""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import in_process, ratio, report

BASE = {"vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12,
        "num_attention_heads": 12, "intermediate_size": 3072}  # fmt: skip
generator = np.random.default_rng(0)
IDS = generator.integers(1000, 30000, (8, 128)).astype("int32")
BATCH = {"token_ids": IDS, "segment_ids": np.zeros_like(IDS), "padding_mask": IDS > 0}
WORDS = [f"w{i}" for i in range(30000)]
LENGTHS = generator.integers(8, 199, 256)
TEXTS = [" ".join(f"w{i}" for i in generator.integers(0, 30000, n)) for n in LENGTHS]
TOKENS = int(LENGTHS.sum() + 2 * len(LENGTHS))


def checkpoint(folder: Path) -> Path:
    """BERT-base with random weights and a vocabulary of words, as transformers writes it."""
    import torch
    import transformers

    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**BASE))
    model.save_pretrained(folder)
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = specials + WORDS + [f"[unused{i}]" for i in range(30522 - 5 - len(WORDS))]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    return folder


def against_transformers(folder: Path, dtype: str) -> None:
    import torch
    import transformers

    import hub
    import keraslite as keras

    keras.use_backend("torch")
    native = getattr(torch, dtype)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=native)
    theirs.eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ours = hub.BertClassifier.from_preset(folder, dtype=dtype)
    ids, mask = torch.from_numpy(IDS).long(), torch.ones(IDS.shape, dtype=torch.long)

    def their_batch():
        with torch.inference_mode():
            return theirs(input_ids=ids, attention_mask=mask).logits

    def our_batch():
        return ours.predict_on_batch(BATCH)

    difference = np.abs(their_batch().float().numpy() - np.asarray(our_batch(), "float32")).max()
    found, medians = ratio({"ours": our_batch, "theirs": their_batch}, rounds=5)
    report(f"BERT-base 8x128 {dtype}: keraslite on torch / transformers", found, "x speed",
           ">= 1.8" if dtype == "float32" else "", difference=float(difference),
           tokens_per_s=round(IDS.size / medians["ours"]),
           their_tokens_per_s=round(IDS.size / medians["theirs"]))  # fmt: skip

    def their_texts():
        out = []
        with torch.inference_mode():
            for start in range(0, len(TEXTS), 32):
                batch = tokenizer(TEXTS[start : start + 32], padding=True, return_tensors="pt")
                out.append(theirs(**batch).logits)
        return torch.cat(out)

    def our_texts():
        return ours.predict(TEXTS, verbose=0)

    found, medians = ratio({"ours": our_texts, "theirs": their_texts}, rounds=1)
    difference = np.abs(their_texts().float().numpy() - np.asarray(our_texts(), "float32")).max()
    report(f"BERT-base 256 texts {dtype}: keraslite on torch / transformers", found, "x speed",
           ">= 4" if dtype == "float32" else "", difference=float(difference),
           tokens_per_s=round(TOKENS / medians["ours"]),
           their_tokens_per_s=round(TOKENS / medians["theirs"]))  # fmt: skip


def rate_of(which: str, backend: str, folder: Path) -> None:
    if which == "keras_hub":
        os.environ["KERAS_BACKEND"] = backend
        import keras_hub

        model = keras_hub.models.BertBackbone(
            vocabulary_size=30522, num_layers=12, num_heads=12, hidden_dim=768,
            intermediate_dim=3072,
        )  # fmt: skip
    else:
        import hub
        import keraslite as keras

        keras.use_backend(backend)
        model = hub.BertClassifier.from_preset(folder).backbone
    model.predict_on_batch(BATCH)
    spent = []
    for _ in range(5):
        start = time.perf_counter()
        model.predict_on_batch(BATCH)
        spent.append(time.perf_counter() - start)
    report(f"BERT-base 8x128 with {which} on {backend}", IDS.size / sorted(spent)[2], "tokens/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs=3, metavar=("WHAT", "HOW", "FOLDER"))
    only = parser.parse_args().only
    if only and only[0] == "transformers":
        against_transformers(Path(only[2]), only[1])
    elif only:
        rate_of(only[0], only[1], Path(only[2]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint(Path(folder))
            for dtype in ("float32", "bfloat16"):
                in_process([sys.argv[0], "--only", "transformers", dtype, folder])
            for backend in ("torch", "jax", "tensorflow"):
                rates = [
                    in_process([sys.argv[0], "--only", which, backend, folder])
                    for which in ("keraslite", "keras_hub")
                ]
                if all(rates):
                    found = rates[0][-1]["value"] / rates[1][-1]["value"]
                    report(f"BERT-base on {backend}: keraslite / KerasHub", found, "x speed", "> 1")


if __name__ == "__main__":
    main()
