"""Benchmark text models with random weights: classification, generation, training, loading.

Ratios within one run, against transformers on torch and against KerasHub on each backend.

    python scripts/bench/text.py [--only generation]
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import in_process, interleaved, loading, machine, ratio, report

generator = np.random.default_rng(0)
WORDS = [f"w{i}" for i in range(30000)]
TEXTS = [" ".join(generator.choice(WORDS, n)) for n in generator.integers(8, 199, 512)]
PROMPT = generator.integers(3, 30000, (8, 32)).astype("int32")
NEW = 64
BACKENDS = ("torch", "jax", "tensorflow")


def make(folder: Path, name: str) -> None:
    """A checkpoint of random weights, as transformers writes it."""
    import torch
    import transformers

    torch.manual_seed(0)
    if name.startswith("bert"):
        small = {
            "hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8,
            "intermediate_size": 2048,
        }  # fmt: skip
        config = transformers.BertConfig(**small if name == "bert_small" else {})
        model = transformers.BertForSequenceClassification(config)
        specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        words = specials + WORDS + [f"[unused{i}]" for i in range(30522 - 5 - len(WORDS))]
        (folder / name).mkdir()
        (folder / name / "vocab.txt").write_text("\n".join(words) + "\n")
        (folder / name / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    elif name == "gpt2":
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config())
    elif name == "opt_125m":
        model = transformers.OPTForCausalLM(transformers.OPTConfig())
    elif name == "t5_small":
        model = transformers.T5ForConditionalGeneration(transformers.T5Config(
            d_model=512, d_kv=64, d_ff=2048, num_layers=6, num_heads=8, vocab_size=32128,
            decoder_start_token_id=0,
        ))  # fmt: skip
    else:
        config = transformers.OPTConfig(
            hidden_size=2048, num_hidden_layers=24, ffn_dim=8192, num_attention_heads=32,
            word_embed_proj_dim=2048,
        )  # fmt: skip
        with torch.device("meta"):
            model = transformers.OPTForCausalLM(config)
        model = model.half().to_empty(device="cpu")
    if not name.startswith("bert"):
        model.generation_config.eos_token_id = None
    model.save_pretrained(folder / name)


def bandwidth() -> float:
    """Bytes of weights read a second by the fastest product of one vector that torch has here."""
    import torch

    weights = [torch.randn(3072, 768) for _ in range(24)]
    x = torch.randn(1, 768)
    fused = torch.ops.mkldnn._linear_pointwise
    with torch.no_grad():
        spent = interleaved({
            "mkl": lambda: [torch.nn.functional.linear(x, w) for w in weights],
            "straight": lambda: [x @ w.view(768, 3072) for w in weights],
            "onednn": lambda: [fused(x, w, None, "none", [], "") for w in weights],
        })  # fmt: skip
    return sum(w.nbytes for w in weights) / min(spent.values())


def ours(task: str, folder: Path, **kwargs):
    import hub

    model = getattr(hub, task).from_preset(folder, preprocessor=lambda *_: None, **kwargs)
    model.preprocessor = None
    return model


def inputs(name: str, rows: int) -> dict:
    ids = PROMPT[:rows]
    start = "encoder_" if name == "t5_small" else ""
    return {f"{start}token_ids": ids, f"{start}padding_mask": np.ones_like(ids)}


def generation(name: str, folder: Path, rows: int) -> None:
    """Tokens against transformers on torch, and each backend against the memory floor."""
    import torch
    import transformers

    import keraslite as keras

    seq2seq = name == "t5_small"
    task, auto = (
        ("Seq2SeqLM", "AutoModelForSeq2SeqLM") if seq2seq else ("CausalLM", "AutoModelForCausalLM")
    )
    theirs = getattr(transformers, auto).from_pretrained(folder / name).eval()
    ids = torch.from_numpy(PROMPT[:rows]).long()

    def their_tokens():
        return theirs.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, min_new_tokens=NEW,
            do_sample=False,
        )  # fmt: skip

    def runner(backend: str):
        with keras.use_backend(backend):
            model = ours(task, folder / name)
        how = {"max_new_tokens": NEW, "stop_token_ids": None}
        return lambda: model.generate(inputs(name, rows), **how)["token_ids"]

    ours_on_torch = runner("torch")
    new = ours_on_torch()[0, -NEW + 8 :]
    same = bool((their_tokens()[0, -NEW + 8 :].numpy() == new).all()) or "not the same tokens"
    speed, medians = ratio({"ours": ours_on_torch, "theirs": their_tokens}, rounds=3)
    goal = {"t5_small": ">= 2"}.get(name, ">= 1.6" if rows == 8 else "")
    report(f"{name} x{rows}: keraslite on torch / transformers", speed, "x speed", goal,
           same=same, ms_a_token=round(1e3 * medians["ours"] / NEW, 2))  # fmt: skip
    if rows == 1 and not seq2seq:
        size = sum(p.numel() for p in theirs.parameters()) * 4
        del theirs
        for backend in BACKENDS:
            run = runner(backend) if backend != "torch" else ours_on_torch
            floor = size / bandwidth() * NEW
            spent = interleaved({"run": run}, rounds=3)["run"]
            report(f"{name} x1 on {backend}: memory floor / time", floor / spent, "share",
                   ">= 0.9", ms_a_token=round(1e3 * spent / NEW, 2))  # fmt: skip


def integers(name: str, folder: Path, rows: int) -> None:
    """Tokens of our model in int8 on torch against the same in float32, and those that agree."""
    import keraslite as keras

    keras.use_backend("torch")
    how = {"max_new_tokens": NEW, "stop_token_ids": None}
    runs, tokens = {}, {}
    for dtype in ("int8", "float32"):
        model = ours("CausalLM", folder / name)
        if dtype == "int8":
            model.quantize("int8")
        runs[dtype] = lambda model=model: model.generate(inputs(name, rows), **how)["token_ids"]
        tokens[dtype] = runs[dtype]()[:, -NEW:]
    speed, medians = ratio(runs, rounds=3)
    agreeing = float((tokens["int8"] == tokens["float32"]).mean())
    report(f"{name} x{rows}: int8 / float32, on torch", speed, "x speed",
           ">= 1.8" if rows == 1 else "> 1", same_tokens=round(agreeing, 2),
           ms_a_token=round(1e3 * medians["int8"] / NEW, 2))  # fmt: skip


def classification(folder: Path) -> None:
    import transformers

    import hub
    import keraslite as keras

    keras.use_backend("torch")
    model = hub.TextClassifier.from_preset(folder / "bert_base")
    pipeline = transformers.pipeline(
        "text-classification", model=str(folder / "bert_base"), device="cpu"
    )
    speed, medians = ratio(
        {
            "ours": lambda: model.predict(TEXTS, verbose=0),
            "theirs": lambda: pipeline(TEXTS, batch_size=32),
        },
        rounds=1,
    )
    report("BERT-base 512 texts: keraslite on torch / the pipeline", speed, "x speed", ">= 4",
           texts_per_s=round(len(TEXTS) / medians["ours"], 1))  # fmt: skip


def training(folder: Path) -> None:
    """A step of BERT-small over 8 x 128 against a plain loop with a fused AdamW."""
    import torch
    import transformers

    import hub
    import keraslite as keras

    keras.use_backend("torch")
    ids = generator.integers(1000, 30000, (8, 128)).astype("int32")
    labels = generator.integers(0, 2, 8)
    batch = {"token_ids": ids, "segment_ids": ids * 0, "padding_mask": ids > 0}
    model = hub.TextClassifier.from_preset(folder / "bert_small")
    model.compile()
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder / "bert_small")
    theirs.train()
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=5e-5, fused=True)
    given = {"input_ids": torch.from_numpy(ids).long(), "labels": torch.from_numpy(labels)}

    def their_step():
        optimizer.zero_grad()
        theirs(**given).loss.backward()
        optimizer.step()

    speed, _ = ratio(
        {"ours": lambda: model.train_on_batch(batch, labels), "theirs": their_step}, rounds=9
    )
    report("BERT-small step: keraslite on torch / transformers", speed, "x speed", ">= 1.6")


def rate(which: str, what: str, backend: str, folder: Path) -> None:
    """Seconds of one run in a process of its own, ours or KerasHub's."""
    os.environ["KERAS_BACKEND"] = backend
    name, _, rows = what.partition(":")
    rows = int(rows or 0)
    if which == "keras_hub":
        run = _their_run(name, rows)
    else:
        import keraslite as keras

        keras.use_backend(backend)
        run = _our_run(name, rows, folder)
    run()
    spent = []
    for _ in range(3):
        start = time.perf_counter()
        run()
        spent.append(time.perf_counter() - start)
    report(f"{what} with {which} on {backend}", sorted(spent)[1], "s")


BATCH = {"token_ids": PROMPT[:, :1].repeat(128, 1), "padding_mask": np.ones((8, 128), bool)}


def _our_run(name: str, rows: int, folder: Path):
    import hub

    if name == "texts":
        model = hub.TextClassifier.from_preset(folder / "bert_base")
        return lambda: model.predict(TEXTS[:128], verbose=0)
    if name == "step":
        model = hub.TextClassifier.from_preset(folder / "bert_small")
        model.compile()
        batch = {**BATCH, "segment_ids": np.zeros((8, 128), "int32")}
        return lambda: [model.train_on_batch(batch, np.zeros(8, "int32")) for _ in range(5)]
    model = ours("CausalLM", folder / name)
    how = {"max_new_tokens": NEW, "stop_token_ids": None}
    return lambda: model.generate(inputs(name, rows), **how)


def _their_run(name: str, rows: int):
    import keras
    import keras_hub

    models = keras_hub.models
    if name in ("texts", "step"):
        sizes = (12, 12, 768, 3072) if name == "texts" else (4, 8, 512, 2048)
        backbone = models.BertBackbone(
            30522, *sizes[:2], hidden_dim=sizes[2], intermediate_dim=sizes[3]
        )
        if name == "step":
            model = models.BertTextClassifier(backbone, 2, preprocessor=None)
            model.compile(
                keras.optimizers.AdamW(5e-5),
                keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            )
            batch = {**BATCH, "segment_ids": np.zeros((8, 128), "int32")}
            return lambda: [model.train_on_batch(batch, np.zeros(8, "int32")) for _ in range(5)]
        vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
        tokenizer = models.BertTokenizer(vocabulary, lowercase=True)
        preprocessor = models.BertTextClassifierPreprocessor(tokenizer, sequence_length=256)
        model = models.BertTextClassifier(backbone, 2, preprocessor=preprocessor)
        return lambda: model.predict(TEXTS[:128], batch_size=32, verbose=0)
    if name == "gpt2":
        backbone = models.GPT2Backbone(50257, 12, 12, 768, 3072, max_sequence_length=1024)
        model = models.GPT2CausalLM(backbone, preprocessor=None)
    else:
        backbone = models.OPTBackbone(50272, 12, 12, 768, 3072, max_sequence_length=2048)
        model = models.OPTCausalLM(backbone, preprocessor=None)
    model.compile(sampler="greedy")
    room = np.zeros((rows, NEW), "int32")
    ids = np.concatenate([PROMPT[:rows], room], 1)
    mask = np.concatenate([np.ones_like(PROMPT[:rows]), room], 1)
    given = {"token_ids": ids, "padding_mask": mask}
    return lambda: model.generate(given, stop_token_ids=None)


def load(folder: Path, backend: str) -> None:
    """OPT-1.3B in float16."""
    import keraslite as keras

    keras.use_backend(backend)
    ours("CausalLM", folder / "opt_125m").weights[0].numpy()  # what a first model imports
    place = folder / "opt_1.3b"
    loading(
        f"OPT-1.3B on {backend}", [place / "model.safetensors"],
        lambda: [ours("CausalLM", place, dtype="float16")], "<= 1.15",
    )  # fmt: skip


def against_kerashub(folder: Path) -> None:
    """Ours and KerasHub's on each backend, each in a process of its own."""
    for what, goal in (
        ("texts", ">= 3"), ("gpt2:1", "> 1 on jax"), ("gpt2:8", ">= 3 on torch"), ("step", "> 1"),
    ):  # fmt: skip
        for backend in BACKENDS:
            spent = [
                in_process([sys.argv[0], "--run", "rate", which, what, backend, str(folder)])
                for which in ("keraslite", "keras_hub")
            ]
            if all(spent):
                speed = spent[1][-1]["value"] / spent[0][-1]["value"]
                report(f"{what} on {backend}: keraslite / KerasHub", speed, "x speed", goal)


def run(what: str, *rest: str) -> None:
    """Do one thing, in this process."""
    *rest, last = rest
    folder = Path(last)
    if what == "make":
        make(folder, rest[0])
    elif what in ("generation", "integers"):
        {"generation": generation, "integers": integers}[what](rest[0], folder, int(rest[1]))
    elif what == "rate":
        rate(*rest, folder)
    elif what == "loading":
        load(folder, rest[0])
    else:
        {"classification": classification, "training": training,
         "kerashub": against_kerashub}[what](folder)  # fmt: skip


ROWS = ("1", "8")
# part -> the checkpoints that it needs, and what it runs
PARTS = {
    "classification": (["bert_base"], [["classification"]]),
    "generation": (
        ["gpt2", "opt_125m", "t5_small"],
        [["generation", name, rows] for name in ("gpt2", "opt_125m", "t5_small") for rows in ROWS]
        + [["integers", name, rows] for name in ("gpt2", "opt_125m") for rows in ROWS],
    ),
    "training": (["bert_small"], [["training"]]),
    "loading": (["opt_125m", "opt_1.3b"], [["loading", backend] for backend in BACKENDS]),
    "kerashub": (["bert_base", "bert_small", "gpt2"], [["kerashub"]]),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--run", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run(*options.run)
        return
    print(machine())
    parts = [PARTS[name] for name in options.only]
    with tempfile.TemporaryDirectory() as folder:
        for name in sorted({name for names, _ in parts for name in names}):
            in_process([sys.argv[0], "--run", "make", name, folder])
        for _, commands in parts:
            for command in commands:
                in_process([sys.argv[0], "--run", *command, folder])


if __name__ == "__main__":
    main()
