"""The command line: presets listed, fetched and checked; models run, converted and timed."""

import argparse
import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import hub
from hub.presets import PresetFiles, open_weights, resolve
from hub.presets.loading import read_config

_TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt",
    "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model",
)  # fmt: skip
_KEPT = (*_TOKENIZER_FILES, "config.json", "generation_config.json", "modules.json",
         "1_Pooling/config.json", "sentence_bert_config.json")  # fmt: skip
_PROBLEMS = (ValueError, TypeError, OSError, NotImplementedError, ImportError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status.

    Args:
        arguments: the words of the command line; those of the process by default.

    >>> main(["info", "opt_125m_en"])  # doctest: +ELLIPSIS
    name: opt_125m_en
    ...
    0
    """
    given = _parser().parse_args(arguments)
    try:
        return given.command(given) or 0
    except BrokenPipeError:  # whoever read our output has seen enough
        sys.stdout = None
        return 0
    except _PROBLEMS as error:
        print(f"hub {given.name}: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hub", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")
    remote = argparse.ArgumentParser(add_help=False)
    remote.add_argument("--revision", help="a branch, tag or commit of a repository")
    remote.add_argument("--token", help="an access token for private repositories")
    model = argparse.ArgumentParser(add_help=False, parents=[remote])
    model.add_argument("--backend", help="jax, torch, tensorflow or numpy")
    model.add_argument("--dtype", help="float32, bfloat16, float16, or a policy")

    def command(name: str, run: Callable, parent: Any, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, parents=[parent] if parent else [], help=text)
        made.set_defaults(command=run)
        return made

    listed = command("list", _list, None, "the built-in presets")
    listed.add_argument("family", nargs="?", help="only those of one family, such as bert")
    for name, run, parent, text in (
        ("info", _info, remote, "what is known of a preset"),
        ("pull", _pull, remote, "download what a preset needs"),
        ("verify", _verify, remote, "read every tensor and compare it with the model"),
    ):
        command(name, run, parent, text).add_argument("preset")
    run = command("run", _run, model, "run a model on inputs; prints one JSON line an input")
    run.add_argument("task", help="such as text-classification, fill-mask or text-generation")
    run.add_argument("preset")
    run.add_argument("inputs", nargs="+", metavar="INPUT")
    run.add_argument("--max-new-tokens", type=int, help="of the tasks that write text")
    run.add_argument("--seed", type=int, default=0, help="of draws")
    convert = command("convert", _convert, remote, "write a preset's weights as safetensors")
    convert.add_argument("source", metavar="SRC")
    convert.add_argument("target", metavar="DST")
    bench = command("bench", _bench, model, "texts a second")
    bench.add_argument("preset")
    bench.add_argument("--texts", type=int, default=64)
    return parser


def _list(given: argparse.Namespace) -> None:
    rows = hub.list_presets(given.family)
    width = max(map(len, rows))
    print(f"{'preset':{width}}  {'parameters':>14}  {'licence':10}  repository")
    for name, row in rows.items():
        print(f"{name:{width}}  {row['parameters']:14,}  {row['license']:10}  {row['repo']}")


def _info(given: argparse.Namespace) -> None:
    found = hub.info(given.preset, revision=given.revision, token=given.token)
    unverified = found.pop("unverified", [])
    for key, value in found.items():
        mark = "  (not verified)" if key in unverified else ""
        if isinstance(value, dict):
            print(f"{key}:{mark}")
            for inner, what in value.items():
                print(f"  {inner}: {what}")
        elif isinstance(value, list):
            print(f"{key}: {', '.join(map(str, value))}{mark}")
        else:
            print(f"{key}: {value:,}{mark}" if type(value) is int else f"{key}: {value}{mark}")
    if "safetensors" in unverified:
        print("weights: safetensors (not verified; another format is read where it is there)")


def _files(given: argparse.Namespace, preset: str | None = None) -> PresetFiles:
    return resolve(preset or given.preset, revision=given.revision, token=given.token)


def _pull(given: argparse.Namespace) -> None:
    files = _files(given)
    weights = open_weights(files)
    files.paths(name for name in _KEPT if name in files)
    print(f"{len(weights)} tensors and {files.location}: {weights.files[0].path.parent}")


def _verify(given: argparse.Namespace) -> int:
    files = _files(given)
    weights = open_weights(files)
    problems = []
    for name in weights:
        values = weights[name]
        bad = int(np.count_nonzero(~np.isfinite(values.astype("float32"))))
        if bad:
            problems.append(f"{name} has {bad} values that are no finite numbers")
        weights.release(name)
    task = _task(files)
    try:
        task.from_preset(files, backend="numpy")
    except _PROBLEMS as error:
        problems.append(str(error))
    count = sum(math.prod(weights.shape(name)) for name in weights)
    print(f"{files.location}: {len(weights)} tensors, {count:,} numbers, read as {task.__name__}")
    for problem in problems:
        print(f"  {problem}")
    print("sound" if not problems else f"{len(problems)} problems")
    return 1 if problems else 0


def _task(files: PresetFiles) -> Any:
    from hub.tasks.registry import task_of

    return task_of(files)


def _run(given: argparse.Namespace) -> None:
    from hub.tasks.registry import PIPELINES

    if given.task not in PIPELINES:
        raise ValueError(f"there is no task {given.task!r}; there are: {', '.join(PIPELINES)}")
    task = PIPELINES[given.task].from_preset(
        given.preset, backend=given.backend, dtype=given.dtype, revision=given.revision,
        token=given.token,
    )  # fmt: skip
    for text, answer in zip(given.inputs, _ANSWERS[given.task](task, given), strict=True):
        print(json.dumps({"input": text, **answer}, ensure_ascii=False))


def _classes(task: Any, given: argparse.Namespace) -> list[dict]:
    from hub.tasks.text_classifier import labels_of

    logits = np.asarray(task.predict(given.inputs, verbose=0), "float32")
    scores = np.exp(logits - logits.max(-1, keepdims=True))
    scores /= scores.sum(-1, keepdims=True)
    names = labels_of(task)["id2label"]
    return [
        {"label": names[str(row.argmax())], "scores": {
            names[str(i)]: round(float(p), 6) for i, p in enumerate(row)
        }}
        for row in scores
    ]  # fmt: skip


def _entities(task: Any, given: argparse.Namespace) -> list[dict]:
    return [{"entities": found} for found in task.find_entities(given.inputs)]


def _masks(task: Any, given: argparse.Namespace) -> list[dict]:
    return [
        {"masks": [{token: round(p, 6) for token, p in mask} for mask in masks]}
        for masks in task.fill_mask(given.inputs)
    ]


def _vectors(task: Any, given: argparse.Namespace) -> list[dict]:
    vectors = np.asarray(task.predict(given.inputs, verbose=0), "float64")
    return [{"vector": [round(v, 7) for v in row]} for row in vectors.tolist()]


def _texts(task: Any, given: argparse.Namespace) -> list[dict]:
    texts = task.generate(given.inputs, max_new_tokens=given.max_new_tokens, seed=given.seed)
    return [{"text": text} for text in texts]


_ANSWERS = {
    "text-classification": _classes, "token-classification": _entities, "fill-mask": _masks,
    "feature-extraction": _vectors, "text-generation": _texts, "text2text-generation": _texts,
}  # fmt: skip


def convert(source: PresetFiles, target: Path) -> list[tuple[str, tuple[int, ...], str]]:
    """Write the weights of a checkpoint as safetensors, with its other files beside them.

    Args:
        source: what `hub.presets.resolve` returned; weights in any format that is read.
        target: a folder, made if need be; must hold no checkpoint.

    Returns:
        Name, shape and dtype of every tensor.

    Raises:
        FileExistsError: the folder holds a checkpoint.
        ValueError: a file is damaged.
    """
    from keraslite.saving import save_safetensors

    read_config(source)
    weights = open_weights(source)
    target.mkdir(parents=True, exist_ok=True)
    if (target / "config.json").exists():
        raise FileExistsError(f"{target} holds a checkpoint; give another folder")
    save_safetensors(target / "model.safetensors", weights, {"format": "pt"})
    for name in _KEPT[::-1]:
        if name in source:
            (target / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(source.path(name), target / name)
    return [(name, weights.shape(name), weights.dtype(name)) for name in weights]


def _convert(given: argparse.Namespace) -> None:
    rows = convert(_files(given, given.source), Path(given.target))
    width = max(len(name) for name, _, _ in rows)
    for name, shape, dtype in rows:
        print(f"{name:{width}}  {dtype:9}  {shape}")
    print(f"{len(rows)} tensors, {sum(math.prod(s) for _, s, _ in rows):,} numbers: {given.target}")


def _bench(given: argparse.Namespace) -> None:
    model = hub.load(
        given.preset, backend=given.backend, dtype=given.dtype, revision=given.revision,
        token=given.token,
    )  # fmt: skip
    words = [
        "the",
        "quick",
        "brown",
        "fox",
        "jumps",
        "over",
        "a",
        "lazy",
        "dog",
        "and",
        "runs",
        "away",
    ]
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(words, n)) for n in generator.integers(8, 80, given.texts)]
    if hasattr(model, "generate"):
        kwargs = {"max_new_tokens": 32, "stop_token_ids": None}
        texts = texts[:8]
        run, unit, amount = lambda: model.generate(texts, **kwargs), "tokens", 32 * len(texts)
    elif getattr(model, "preprocessor", None) is not None:
        run, unit, amount = lambda: model.predict(texts, verbose=0), "texts", len(texts)
    else:
        raise ValueError("this checkpoint has a backbone alone: name a task in its config")
    run()
    spent = []
    for _ in range(3):
        start = time.perf_counter()
        run()
        spent.append(time.perf_counter() - start)
    rate = amount / sorted(spent)[1]
    print(f"{type(model).__name__} on {model.backend}: {rate:.1f} {unit}/s")
