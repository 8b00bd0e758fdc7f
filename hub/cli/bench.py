"""`hub bench`: texts, images, or tokens or steps of a drawing, a second."""

import argparse
import time

import keraslite as keras
from hub.cli.common import add_model_options, preset_files
from hub.models.backbone import Backbone
from hub.tasks.registry import task_of
from hub.tasks.text.text_embedder import TextEmbedder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_model_options(parser)
    parser.add_argument("preset")
    parser.add_argument("--texts", type=int, default=64)


def run(options: argparse.Namespace) -> None:
    """Print the median rate of three runs."""
    if options.texts < 1:
        raise ValueError(f"--texts must be positive, got {options.texts}")
    files = preset_files(options)
    task = task_of(files)
    task = TextEmbedder if task is Backbone else task
    with keras.use_backend(options.backend or keras.backend()):
        model = task.from_preset(files, dtype=options.dtype)
        work, amount, unit = model.workload(options.texts)
        work()  # compiles
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
    rate = amount / sorted(seconds)[1]
    print(f"{type(model).__name__} on {model.backend}: {rate:.1f} {unit}/s")
