"""`hub verify`: read every tensor and compare it with the model."""

import argparse
import math
from collections.abc import Callable
from typing import Any

from hub.cli.common import add_checkpoint_options, error_line, networks, preset_files
from hub.convert.safetensors import KEPT
from hub.presets.about import digest, not_finite, weight_files
from hub.presets.files import PresetFiles
from hub.tasks.registry import task_of
from hub.weights.reader import open_weights

add_arguments = add_checkpoint_options


def run(options: argparse.Namespace) -> int:
    """Print what each checkpoint holds and what is wrong with it; 1 if anything is."""
    return max(map(_verify, networks(preset_files(options), options.safety_checker)))


def _verify(files: PresetFiles) -> int:
    """Print what one checkpoint holds and what is wrong with it; 1 if anything is."""
    problems: dict[str, None] = {}  # in their order, each once

    def attempt(step: Callable) -> Any:
        try:
            return step()
        except Exception as error:  # the rest is looked at nevertheless
            problems[error_line(error)] = None

    names = [*(attempt(lambda: weight_files(files)) or []), *(n for n in KEPT if n in files)]
    for name, path in (attempt(lambda: files.paths(names)) or {}).items():
        sha256, problem = digest(path)
        print(f"sha256 {sha256}  {name}")
        problems |= {problem: None} if problem else {}
    weights = attempt(lambda: open_weights(files))
    for name, count in (attempt(lambda: not_finite(weights)) if weights else {}).items():
        problems[f"{name} has {count} values that are no finite numbers"] = None
    task = attempt(lambda: task_of(files))
    model = attempt(lambda: task.from_preset(files, backend="numpy")) if task else None
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
