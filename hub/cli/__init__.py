"""The command line: presets listed, fetched and checked; models run, converted and timed."""

import argparse
import json
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

import hub
import keraslite as keras
from hub.convert.kerashub import convert_kerashub, is_kerashub
from hub.models.backbone import Backbone
from hub.presets import PresetFiles, open_weights, resolve
from hub.presets.about import digest, not_finite, weight_files
from hub.presets.files import PIPELINE
from hub.presets.publish import KEPT, convert

_PROBLEMS = (ValueError, TypeError, OSError, NotImplementedError, ImportError)
_WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and")
_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status.

    Whatever goes wrong is one line on stderr; where it happened is logged at the level DEBUG.

    Args:
        arguments: the words of the command line; those of the process by default.

    >>> main(["info", "opt_125m_en"])  # doctest: +ELLIPSIS
    name: opt_125m_en
    ...
    0
    """
    given = _parser().parse_args(arguments)
    try:
        status = given.command(given) or 0
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever read our output has seen enough
        sys.stdout = None
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # a damaged file, a framework: nobody wants a traceback of it
        _log.debug("hub %s", given.name, exc_info=True)
        print(f"hub {given.name}: {_said(error)}", file=sys.stderr)
        return 1


def _said(error: BaseException) -> str:
    """What an error says, in one line; with its kind, where that is none of ours."""
    text = " ".join(str(error).split())
    kind = type(error).__name__
    return text if text and isinstance(error, _PROBLEMS) else f"{kind}: {text}".rstrip(": ")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(1, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="hub", description=__doc__)
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
        ("pull", _pull, remote, "download what a preset needs; prints the folder"),
        ("verify", _verify, remote, "read every tensor and compare it with the model"),
    ):
        asked = command(name, run, parent, text)
        asked.add_argument("preset")
        if run is not _info:
            asked.add_argument(
                "--safety-checker", action="store_true", help="that of a pipeline too"
            )
    run = command("run", _run, model, "run a model on inputs; prints one JSON line an input")
    run.add_argument("task", help="such as text-classification, fill-mask or text-generation")
    run.add_argument("preset")
    run.add_argument("inputs", nargs="+", metavar="INPUT")
    run.add_argument("--max-new-tokens", type=int, help="of the tasks that write text")
    run.add_argument("--label", action="append", help="a class to look for in images; repeatable")
    run.add_argument("--seed", type=int, default=0, help="of draws")
    run.add_argument("--steps", type=int, default=50, help="of the tasks that draw images")
    run.add_argument("--out", type=Path, default=Path(), help="the folder for images")
    convert = command("convert", _convert, remote, "write weights, KerasHub's too, as safetensors")
    convert.add_argument("source", metavar="SRC")
    convert.add_argument("target", metavar="DST")
    bench = command(
        "bench", _bench, model, "texts, images, or tokens or steps of a drawing, a second"
    )
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
        elif value is not None:
            print(f"{key}: {value:,}{mark}" if type(value) is int else f"{key}: {value}{mark}")
    if "safetensors" in unverified:
        print("weights: safetensors (not verified; another format is read where it is there)")


# -- files ----------------------------------------------------------------------------------------


def _files(given: argparse.Namespace, preset: str | None = None) -> PresetFiles:
    return resolve(preset or given.preset, revision=given.revision, token=given.token)


def _networks(files: PresetFiles, checks: bool) -> list[PresetFiles]:
    """The folders with weights: of a pipeline several, else the checkpoint itself."""
    if PIPELINE not in files:
        return [files]
    names = ("text_encoder", "unet", "vae", *(["safety_checker"] if checks else []))
    return [files.folder(name) for name in names]


def _pull(given: argparse.Namespace) -> None:
    files = _files(given)
    folders = []
    for network in _networks(files, given.safety_checker):
        folders.append(open_weights(network).files[0].path.parent)
        network.paths(name for name in KEPT if name in network)
    if PIPELINE in files:
        beside = ("tokenizer/", "scheduler/", "feature_extractor/")
        files.paths(n for n in files.names if n == PIPELINE or n.startswith(beside))
        folders = [files.path(PIPELINE).parent]
    print(folders[0])


def _verify(given: argparse.Namespace) -> int:
    return max(map(_verified, _networks(_files(given), given.safety_checker)))


def _verified(files: PresetFiles) -> int:
    problems: dict[str, None] = {}  # in their order, each once

    def step(run: Callable) -> Any:
        try:
            return run()
        except Exception as error:  # the rest is looked at nevertheless
            problems[_said(error)] = None

    names = [*(step(lambda: weight_files(files)) or []), *(n for n in KEPT if n in files)]
    for name, path in (step(lambda: files.paths(names)) or {}).items():
        found, problem = digest(path)
        print(f"sha256 {found}  {name}")
        problems |= {problem: None} if problem else {}
    weights = step(lambda: open_weights(files))
    for name, count in (step(lambda: not_finite(weights)) if weights else {}).items():
        problems[f"{name} has {count} values that are no finite numbers"] = None
    task = step(lambda: _task(files))
    model = step(lambda: task.from_preset(files, backend="numpy")) if task else None
    untrained = getattr(model, "new_weights", [])
    if untrained:
        problems[f"Missing in the checkpoint: weights of {', '.join(untrained)}"] = None
    count = sum(math.prod(weights.shape(name)) for name in weights) if weights else 0
    read = f", read as {task.__name__}" if model else ""
    print(f"{files.location}: {len(weights or ())} tensors, {count:,} numbers{read}")
    for problem in problems:
        print(f"  {problem}")
    print("sound" if not problems else f"{len(problems)} problems")
    return 1 if problems else 0


def _task(files: PresetFiles) -> Any:
    from hub.tasks.registry import task_of

    return task_of(files)


def _convert(given: argparse.Namespace) -> None:
    files = _files(given, given.source)
    if is_kerashub(files):
        _convert_kerashub(files, Path(given.target))
        return
    rows = convert(files, Path(given.target))
    width = max(len(name) for name, _, _ in rows)
    for name, shape, dtype in rows:
        print(f"{name:{width}}  {dtype:9}  {shape}")
    print(f"{len(rows)} tensors, {sum(math.prod(s) for _, s, _ in rows):,} numbers: {given.target}")


def _convert_kerashub(files: PresetFiles, target: Path) -> None:
    rows = convert_kerashub(files, target)
    width = max(len(row.ours) for row in rows)
    for row in rows:
        if row.ours:
            source = f"  <- {row.theirs}" if row.theirs else ""
            print(f"{row.ours:{width}}  {row.dtype:9}  {row.shape}{source}  ({row.how})")
    for row in rows:
        if not row.ours:
            print(f"left: {row.theirs}  {row.dtype}  {row.shape}: {row.how}")
    made, left = [row for row in rows if row.ours], [row for row in rows if not row.ours]
    count = sum(math.prod(row.shape) for row in made)
    print(f"{len(made)} tensors, {count:,} numbers, {len(left)} tensors left: {target}")


# -- models ---------------------------------------------------------------------------------------


def _run(given: argparse.Namespace) -> None:
    from hub.tasks.registry import PIPELINES

    if given.task not in PIPELINES:
        raise ValueError(f"there is no task {given.task!r}; there are: {', '.join(PIPELINES)}")
    files = _files(given)
    with keras.use_backend(given.backend or keras.backend()):
        task = PIPELINES[given.task].from_preset(files, dtype=given.dtype)
        untrained = task.new_weights
        if untrained:
            raise ValueError(
                f"{files.location} has no weights of {', '.join(untrained)}: {given.task} would "
                "give random answers; train it first, or give a checkpoint that was trained for it"
            )
        for text, answer in zip(given.inputs, _ANSWERS[given.task](task, given), strict=True):
            print(json.dumps({"input": text, **answer}, ensure_ascii=False))


def _classes(task: Any, given: argparse.Namespace) -> list[dict]:
    from hub.tasks.text_classifier import labels_of

    names = labels_of(task)["id2label"]
    labels = [names.get(str(i)) for i in range(task.num_classes)]
    if None in labels:
        raise ValueError(f"id2label of the config must name 0 to {len(labels) - 1}, has {names}")
    logits = np.asarray(task.predict(given.inputs, verbose=0), "float32")
    kind = getattr(task.backbone, "source_config", {}).get("problem_type")
    return [
        {"label": labels[int(row.argmax())], "scores": {
            label: round(float(p), 6) for label, p in zip(labels, row, strict=True)
        }}
        for row in _probabilities(logits, kind)
    ]  # fmt: skip


def _probabilities(logits: np.ndarray, kind: str | None) -> np.ndarray:
    """What transformers makes of logits, by the `problem_type` of a config."""
    if kind == "regression":
        return logits
    if kind == "multi_label_classification" or logits.shape[-1] == 1:
        return 0.5 + 0.5 * np.tanh(logits / 2)
    scores = np.exp(logits - logits.max(-1, keepdims=True))
    return scores / scores.sum(-1, keepdims=True)


def _entities(task: Any, given: argparse.Namespace) -> list[dict]:
    return [
        {"entities": [{**part, "score": round(part["score"], 6)} for part in found]}
        for found in task.find_entities(given.inputs)
    ]


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


def _likenesses(task: Any, given: argparse.Namespace) -> list[dict]:
    if not given.label:
        raise ValueError("say what the images may show: --label cat --label dog ...")
    return [
        {"label": best[0]["label"], "scores": {d["label"]: round(d["score"], 6) for d in best}}
        for best in task.classify(given.inputs, given.label)
    ]


def _drawings(task: Any, given: argparse.Namespace) -> Iterator[dict]:
    def shown(call: int, calls: int, latents: Any) -> None:
        end = "\n" if call + 1 == calls else ""
        print(f"\rstep {call + 1} of {calls}", end=end, file=sys.stderr, flush=True)

    given.out.mkdir(parents=True, exist_ok=True)
    for i, prompt in enumerate(given.inputs):
        image = task.generate(
            prompt, given.steps, seed=given.seed + i, callback=shown, output="pil"
        )
        path = given.out / f"image-{i}.png"
        image.save(path)
        yield {"image": str(path)}


_ANSWERS = {
    "text-classification": _classes, "token-classification": _entities, "fill-mask": _masks,
    "feature-extraction": _vectors, "text-generation": _texts, "text2text-generation": _texts,
    "zero-shot-image-classification": _likenesses, "text-to-image": _drawings,
}  # fmt: skip


def _bench(given: argparse.Namespace) -> None:
    if given.texts < 1:
        raise ValueError(f"--texts must be positive, got {given.texts}")
    files = _files(given)
    task = _task(files)
    task = hub.TextEmbedder if task is Backbone else task
    with keras.use_backend(given.backend or keras.backend()):
        model = task.from_preset(files, dtype=given.dtype)
        run, amount, unit = _load_for(model, given.texts)
        run()  # compiles
        spent = []
        for _ in range(3):
            start = time.perf_counter()
            run()
            spent.append(time.perf_counter() - start)
    rate = amount / sorted(spent)[1]
    print(f"{type(model).__name__} on {model.backend}: {rate:.1f} {unit}/s")


def _load_for(model: Any, count: int) -> tuple[Callable, int, str]:
    """Something for a model to do, how much of it there is, and its unit."""
    generator = np.random.default_rng(0)
    if hasattr(model, "text_to_image"):
        return lambda: model.text_to_image("a photo", num_steps=10, seed=0), 10, "steps"
    if hasattr(model, "generate"):
        texts = [" ".join(generator.choice(_WORDS, 3)) for _ in range(min(count, 8))]
        new = min(32, (model.backbone.max_sequence_length or 64) // 4)
        settings = {"max_new_tokens": new, "stop_token_ids": None, "num_return_sequences": 1}
        return lambda: model.generate(texts, **settings, seed=0), new * len(texts), "tokens"
    if hasattr(model, "encode_images"):
        images = list(generator.integers(0, 256, (count, 256, 256, 3), "uint8"))
        return lambda: model.encode_images(images), count, "images"
    texts = [" ".join(generator.choice(_WORDS, n)) for n in generator.integers(8, 80, count)]
    return lambda: model.predict(texts, verbose=0), count, "texts"
