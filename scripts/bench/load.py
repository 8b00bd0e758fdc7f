"""Benchmark loading a BERT-base of 440 MB, all weights, against reading the file."""

import argparse
import gc
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import in_process, peak_memory, report

CONFIG = {
    "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "intermediate_size": 3072, "max_position_embeddings": 512, "type_vocab_size": 2,
    "hidden_act": "gelu", "layer_norm_eps": 1e-12, "pad_token_id": 0, "model_type": "bert",
    "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "architectures": ["BertModel"],
}  # fmt: skip


def make(folder: Path) -> None:
    """A checkpoint of BERT-base's size with random numbers."""
    import json

    import hub
    import keraslite as keras
    from hub.presets.build import arguments
    from hub.weights.loading import export
    from keraslite.saving import save_safetensors

    with keras.use_backend("numpy"):
        from hub.models.bert import BERT

        model = hub.BertBackbone(**arguments(BERT, CONFIG))
    generator = np.random.default_rng(0)
    tensors = {}
    for name, array in export(model, BERT.weights).items():
        tensors[name] = generator.standard_normal(array.shape, np.float32) * np.float32(0.02)
    save_safetensors(folder / "model.safetensors", tensors, {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(CONFIG))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(30517))]
    (folder / "vocab.txt").write_text("\n".join(words))


def read(folder: Path) -> float:
    start = time.perf_counter()
    data = (folder / "model.safetensors").read_bytes()
    spent = time.perf_counter() - start
    assert data
    return spent


def load(folder: Path, backend: str) -> None:
    """In this process: one load for its peak of memory, then loads and reads in turns.

    The first load also pays for memory that the machine has not handed out before, as the first
    read would; the turns that follow compare like with like.
    """
    import hub
    import keraslite as keras

    keras.use_backend(backend)
    keras.ops.convert_to_numpy(keras.ops.ones((8, 8)))

    def made() -> float:
        start = time.perf_counter()
        values = [v.value for v in hub.BertBackbone.from_preset(folder).weights]
        for value in values:
            value.block_until_ready() if backend == "jax" else value
        if backend == "torch":  # the file is mapped: touch every page, to have all of it read
            pages = [v.detach().as_strided((-(-v.numel() // 1024),), (1024,)) for v in values]
            assert all(bool(p.isfinite().all()) for p in pages)
        return time.perf_counter() - start

    before = peak_memory()
    first = made()
    peak = (peak_memory() - before) / (folder / "model.safetensors").stat().st_size
    gc.collect()
    read(folder)
    turns = [(read(folder), made(), gc.collect()) for _ in range(5)]
    report(
        f"from_preset BERT-base on {backend} / reading the file",
        statistics.median(t[1] / t[0] for t in turns), "x time",
        "<= 1.3" if backend == "torch" else "<= 2",
        load_s=round(statistics.median(t[1] for t in turns), 4), first_load_s=round(first, 4),
        read_s=round(statistics.median(t[0] for t in turns), 4),
    )  # fmt: skip
    report(f"from_preset BERT-base on {backend}: peak memory", peak, "x file", "<= 1.2")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs=2, metavar=("BACKEND", "FOLDER"))
    only = parser.parse_args().only
    if only:
        load(Path(only[1]), only[0])
        return
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        read(Path(folder))
        for backend in ("torch", "jax", "tensorflow", "numpy"):
            in_process([sys.argv[0], "--only", backend, folder])


if __name__ == "__main__":
    main()
