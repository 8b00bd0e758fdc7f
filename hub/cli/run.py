"""`hub run`: run a model on inputs; prints one JSON line an input."""

import argparse
import json
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keraslite as keras
from hub.cli.common import add_model_options, preset_files
from hub.tasks.registry import pipelines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command, and those that tasks have of their own."""
    add_model_options(parser)
    parser.add_argument("task", help=f"one of: {', '.join(pipelines())}")
    parser.add_argument("preset")
    parser.add_argument("inputs", nargs="+", metavar="INPUT")
    parser.add_argument("--seed", type=int, default=0, help="of draws")
    parser.add_argument("--engine", help="openvino or onnxruntime, to run the network on the CPU")
    parser.add_argument("--precision", help="of --engine: float32, bfloat16 or int8")
    options = {}
    for task in pipelines().values():
        options |= task.command_options
    for name, settings in options.items():
        parser.add_argument(name, **settings)


def run(options: argparse.Namespace) -> None:
    """Print the task's answer for each input."""
    if options.task not in pipelines():
        raise ValueError(f"there is no task {options.task!r}; there are: {', '.join(pipelines())}")
    if options.precision and not options.engine:
        raise ValueError("--precision is for --engine openvino or onnxruntime")
    if options.engine and not pipelines()[options.task].answers_compiled:
        raise ValueError(f"{options.task} does not run on another engine: leave --engine out")
    files = preset_files(options)
    with keras.use_backend(options.backend or keras.backend()):
        task = pipelines()[options.task].from_preset(files, dtype=options.dtype)
        if task.new_weights:
            raise ValueError(
                f"{files.location} has no weights of {', '.join(task.new_weights)}: {options.task} "
                "would give random answers; train it first, or give a checkpoint that was trained "
                "for it"
            )
        with _engine(task, options):
            answers = task.answers(options.inputs, options)
            for text, answer in zip(options.inputs, answers, strict=True):
                if isinstance(answer, str):  # the content of a file
                    print(answer, end="")
                else:
                    print(json.dumps({"input": text, **answer}, ensure_ascii=False))


def _engine(task: Any, options: argparse.Namespace) -> AbstractContextManager:
    """Return a context in which the task runs on the engine that is asked for."""
    if not options.engine:
        return nullcontext()
    return task.compiled_for(options.engine, options.precision or "float32").scope()
